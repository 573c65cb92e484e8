//! What is not to be reported: `RULE` or `RULE:GLOB`.

use layflat::inspect::Pattern;
use layflat::inspect::check::{Finding, Rule, SecretKind};

/// Findings that are left out.
#[derive(Debug, Default)]
pub(crate) struct Ignore(Vec<Ignored>);

#[derive(Debug)]
struct Ignored {
    /// A rule, or a kind of secret; `*` is any.
    name: String,
    paths: Option<Pattern>,
}

impl Ignore {
    /// Reads what was given, each `RULE[:GLOB]`.
    ///
    /// # Errors
    /// An unknown rule, or no such pattern.
    pub(crate) fn parse<'t>(texts: impl IntoIterator<Item = &'t String>) -> anyhow::Result<Self> {
        let parse = |text: &String| {
            let (name, glob) = match text.split_once(':') {
                Some((name, glob)) => (name, Some(glob)),
                None => (text.as_str(), None),
            };
            let is_known = name == "*"
                || Rule::ALL.iter().any(|rule| rule.name() == name)
                || SecretKind::all().any(|kind| kind.name() == name);
            anyhow::ensure!(
                is_known,
                "ignore {text:?}: there is no rule {name:?}; `layflat check --list-rules` lists all"
            );
            anyhow::ensure!(
                name != "*" || glob.is_some(),
                "ignore {text:?}: say which paths, like \"*:usr/share/doc/**\""
            );
            let paths = glob.map(|glob| Pattern::globs([glob])).transpose()?;
            Ok(Ignored { name: name.to_owned(), paths })
        };
        texts.into_iter().map(parse).collect::<anyhow::Result<_>>().map(Self)
    }

    /// Whether a finding is left out.
    pub(crate) fn covers(&self, finding: &Finding) -> bool {
        self.0.iter().any(|ignored| {
            let names = [Some(finding.rule.name()), finding.secret.map(SecretKind::name), Some("*")];
            let path = finding.path.as_ref().map(layflat::core::record::LayerPath::as_bytes);
            let place = finding.place.as_ref().map(String::as_bytes);
            let is_at = |pattern: &Pattern| path.or(place).is_some_and(|path| pattern.is_match(path));
            names.contains(&Some(ignored.name.as_str())) && ignored.paths.as_ref().is_none_or(is_at)
        })
    }
}
