//! Parses one `registries.conf`, with the checks that containers/image makes.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::DeTable;

use super::{Mirror, Pulls, Rule, keys};
use crate::configuration::ConfigurationError;

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) rules: Vec<Rule>,
    pub(super) aliases: BTreeMap<String, String>,
    pub(super) search: Option<Vec<String>>,
    /// Keys that do nothing.
    pub(super) idle: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    unqualified_search_registries: Option<Vec<String>>,
    #[serde(default)]
    registry: Vec<Spanned<Table>>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    registries: Option<Spanned<Old>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[derive(Default)]
struct Table {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<MirrorTable>,
    pull_from_mirror: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[derive(Default)]
struct MirrorTable {
    location: String,
    insecure: bool,
    pull_from_mirror: String,
}

/// The first version of the format: three lists of registries.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Old {
    search: OldList,
    insecure: OldList,
    block: OldList,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OldList {
    registries: Vec<String>,
}

/// Reads a file.
pub(super) fn parse(path: &Path, text: &str, may_be_old: bool) -> Result<Said, ConfigurationError> {
    let at = |offset: usize| Some(text.as_bytes()[..offset.min(text.len())].split(|&byte| byte == b'\n').count());
    let wrong = |offset: Option<usize>, problem: String| ConfigurationError {
        path: path.to_owned(),
        line: offset.and_then(at),
        problem,
        source: None,
    };
    let unreadable =
        |error: toml::de::Error| wrong(error.span().map(|span| span.start), error.message().trim().to_owned());
    let mut table = DeTable::parse(text).map_err(unreadable)?;
    let idle = keys::normalise(table.get_mut());
    let document = Document::deserialize(toml::Deserializer::from(table)).map_err(unreadable)?;
    // Empty lists make no old file.
    if let Some(old) = document.registries.filter(|old| !old.as_ref().is_empty()) {
        let start = old.span().start;
        if !may_be_old {
            let problem = "is of version 1 ([registries.search]), which files of this folder must not be";
            return Err(wrong(Some(start), problem.to_owned()));
        }
        if !document.registry.is_empty() || document.unqualified_search_registries.is_some() {
            return Err(wrong(
                Some(start),
                "versions 1 ([registries.search]) and 2 ([[registry]]) are mixed".to_owned(),
            ));
        }
        let said = old.into_inner().modern(path).map_err(|problem| wrong(Some(start), problem))?;
        return Ok(Said { idle, ..said });
    }
    let mut said = Said { aliases: document.aliases, idle, ..Said::default() };
    for table in document.registry {
        let start = table.span().start;
        said.rules.push(table.into_inner().rule(path).map_err(|problem| wrong(Some(start), problem))?);
    }
    check_conflicts(&said.rules).map_err(|problem| wrong(None, problem))?;
    if let Some(hosts) = document.unqualified_search_registries {
        let checked = hosts.iter().map(|host| match location(host)? {
            host if host.is_empty() || host.contains('/') => {
                Err(format!("unqualified-search-registries has {host:?}, which is not HOST[:PORT]"))
            }
            host => Ok(host),
        });
        said.search = Some(checked.collect::<Result<_, _>>().map_err(|problem| wrong(None, problem))?);
    }
    Ok(said)
}

impl Table {
    fn rule(self, path: &Path) -> Result<Rule, String> {
        let (own, mut prefix) = (location(&self.location)?, location(&self.prefix)?);
        if prefix.is_empty() {
            prefix.clone_from(&own);
        }
        if prefix.is_empty() {
            return Err("a [[registry]] needs a prefix or a location".to_owned());
        }
        if own.is_empty() && !prefix.starts_with("*.") {
            return Err(format!("the [[registry]] of the prefix {prefix:?} needs a location"));
        }
        if !self.pull_from_mirror.is_empty() {
            return Err(format!("pull-from-mirror of {prefix:?} belongs into a [[registry.mirror]]"));
        }
        let by_digest = self.mirror_by_digest_only;
        let mirrors =
            self.mirror.into_iter().map(|mirror| mirror.mirror(&prefix, by_digest)).collect::<Result<_, _>>()?;
        let (insecure, blocked) = (self.insecure, self.blocked);
        Ok(Rule { prefix, location: own, insecure, blocked, mirrors, file: path.to_owned() })
    }
}

impl MirrorTable {
    fn mirror(self, prefix: &str, by_digest_only: bool) -> Result<Mirror, String> {
        let location = location(&self.location)?;
        if location.is_empty() {
            return Err(format!("a mirror of {prefix:?} needs a location"));
        }
        if by_digest_only && !self.pull_from_mirror.is_empty() {
            return Err(format!("{prefix:?} has mirror-by-digest-only, and its mirror {location:?} pull-from-mirror"));
        }
        let pulls = match self.pull_from_mirror.as_str() {
            "" if by_digest_only => Pulls::ByDigest,
            "" | "all" => Pulls::All,
            "digest-only" => Pulls::ByDigest,
            "tag-only" => Pulls::ByTag,
            other => {
                let expected = "expected all, digest-only or tag-only";
                return Err(format!("the mirror {location:?} has pull-from-mirror = {other:?}: {expected}"));
            }
        };
        Ok(Mirror { location, insecure: self.insecure, pulls })
    }
}

impl Old {
    fn is_empty(&self) -> bool {
        [&self.search, &self.insecure, &self.block].iter().all(|list| list.registries.is_empty())
    }

    fn modern(self, path: &Path) -> Result<Said, String> {
        let mut rules: Vec<Rule> = Vec::new();
        let mut rule = |text: &str, insecure: bool| -> Result<(), String> {
            let host = location(text)?;
            if host.is_empty() {
                return Err("an entry is empty".to_owned());
            }
            let index = rules.iter().position(|rule| rule.prefix == host).unwrap_or_else(|| {
                let (prefix, location) = (host.clone(), host);
                let (mirrors, file) = (Vec::new(), path.to_owned());
                rules.push(Rule { prefix, location, insecure: false, blocked: false, mirrors, file });
                rules.len() - 1
            });
            rules[index].insecure |= insecure;
            rules[index].blocked |= !insecure;
            Ok(())
        };
        self.insecure.registries.iter().try_for_each(|host| rule(host, true))?;
        self.block.registries.iter().try_for_each(|host| rule(host, false))?;
        let search = self.search.registries.iter().map(|host| location(host)).collect::<Result<_, _>>()?;
        Ok(Said { rules, search: Some(search), ..Said::default() })
    }
}

/// A place cannot be blocked under one prefix and open under another.
fn check_conflicts(rules: &[Rule]) -> Result<(), String> {
    for (index, rule) in rules.iter().enumerate() {
        let same = |other: &&Rule| !other.location.is_empty() && other.location == rule.location;
        for other in rules[..index].iter().filter(same) {
            for (setting, differs) in
                [("insecure", rule.insecure != other.insecure), ("blocked", rule.blocked != other.blocked)]
            {
                if differs {
                    return Err(format!(
                        "{:?} has several entries, of which not all have {setting} = true",
                        rule.location
                    ));
                }
            }
        }
    }
    Ok(())
}

fn location(text: &str) -> Result<String, String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Err(format!("{text:?} must not begin with a scheme: write HOST[:PORT][/NAME]"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}
