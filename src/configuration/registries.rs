//! `registries.conf`: rules for names that begin with a prefix. The longest prefix that fits counts, and a later file's
//! rule replaces an earlier one's for the same prefix.

mod document;
mod keys;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ConfigurationError;
use crate::core::reference::ImageName;

/// All rules of all files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Registries {
    rules: Vec<Rule>,
    /// Short names, what they are for, and which file says so.
    aliases: BTreeMap<String, (String, PathBuf)>,
    /// Where other tools look for short names, and which file says so.
    search: Option<(Vec<String>, PathBuf)>,
    /// What a user should know of the files.
    notes: Vec<String>,
}

/// What holds for the names that begin with a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    prefix: String,
    /// What stands in the prefix's place when an image is pulled; the prefix itself if it is empty.
    location: String,
    insecure: bool,
    blocked: bool,
    mirrors: Vec<Mirror>,
    file: PathBuf,
}

/// A place that has copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mirror {
    location: String,
    insecure: bool,
    pulls: Pulls,
}

/// Which names a place is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pulls {
    All,
    ByDigest,
    ByTag,
}

/// Where the images of a repository are in fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The repository.
    pub(crate) name: ImageName,
    /// TLS may be without a trusted certificate, or missing.
    pub(crate) insecure: bool,
    /// Whether it has copies of what is elsewhere.
    pub(crate) is_mirror: bool,
    pub(crate) pulls: Pulls,
    /// The prefix that must not be used, and the file that says so.
    pub(crate) blocked: Option<(String, PathBuf)>,
    /// The file that says that it is here.
    pub(crate) file: Option<PathBuf>,
}

impl Pulls {
    pub(crate) fn suits(self, by_digest: bool) -> bool {
        match self {
            Self::All => true,
            Self::ByDigest => by_digest,
            Self::ByTag => !by_digest,
        }
    }
}

impl Registries {
    /// Adds what a file says; only the main one may be of the old format.
    pub(super) fn add(&mut self, path: &Path, text: &str, is_main: bool) -> Result<(), ConfigurationError> {
        let said = document::parse(path, text, is_main)?;
        self.notes.extend(said.idle.iter().map(|key| format!("{path:?}: {key} is not supported and is ignored")));
        let mut own: Vec<Rule> = Vec::new();
        for rule in said.rules {
            if own.iter().any(|other| other.prefix == rule.prefix) {
                // Of several in one file the first counts, as in containers/image.
                continue;
            }
            self.rules.retain(|other| other.prefix != rule.prefix);
            own.push(rule);
        }
        self.rules.append(&mut own);
        for (short, name) in said.aliases {
            match name.is_empty() {
                true => self.aliases.remove(&short),
                false => self.aliases.insert(short, (name, path.to_owned())),
            };
        }
        if let Some(search) = said.search {
            self.search = Some((search, path.to_owned()));
        }
        Ok(())
    }

    /// What a user should know of the files.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Where a repository's images are pulled from, in this order: the mirrors, then the place itself.
    pub(crate) fn pull(&self, name: &ImageName) -> Result<Vec<Endpoint>, ConfigurationError> {
        let whole = whole(name);
        let Some((rule, length)) = self.rule(&whole) else { return Ok(vec![self.endpoint(name)]) };
        let rest = &whole[length..];
        let mut endpoints = Vec::new();
        for mirror in &rule.mirrors {
            let at = rule.at(&mirror.location, rest)?;
            endpoints.push(Endpoint {
                insecure: mirror.insecure,
                is_mirror: true,
                pulls: mirror.pulls,
                file: Some(rule.file.clone()),
                ..self.endpoint(&at)
            });
        }
        let at = if rule.location.is_empty() { name.clone() } else { rule.at(&rule.location, rest)? };
        let there = self.endpoint(&at);
        endpoints.push(Endpoint {
            insecure: rule.insecure,
            // Both the name that was asked for and the place that it leads to may be.
            blocked: rule.is_blocked().or(there.blocked.clone()),
            file: Some(rule.file.clone()),
            ..there
        });
        Ok(endpoints)
    }

    /// Where a repository's images are pushed to, which no rule changes.
    pub(crate) fn push(&self, name: &ImageName) -> Endpoint {
        self.endpoint(name)
    }

    /// What `docker://` could be written for a word that may be meant as a short name.
    pub(crate) fn meant_by(&self, word: &str) -> Option<String> {
        let (short, tag) = word.split_once([':', '@']).map_or((word, ""), |(short, _)| (short, &word[short.len()..]));
        if let Some((name, file)) = self.aliases.get(short) {
            return Some(format!("docker://{name}{tag}, the alias of {short:?} in {file:?}"));
        }
        // With a dot or a slash it is rather a file's name.
        let is_word = !short.contains(['.', '/']);
        let (hosts, file) = self.search.as_ref().filter(|(hosts, _)| is_word && !hosts.is_empty())?;
        let names: Vec<String> = hosts
            .iter()
            .map(|host| match host.as_str() {
                "docker.io" => format!("docker://{word}"),
                _ => format!("docker://{host}/{word}"),
            })
            .collect();
        Some(format!("{} (the unqualified-search-registries of {file:?})", names.join(" or ")))
    }

    /// A place as it is, with what holds for its own name.
    fn endpoint(&self, name: &ImageName) -> Endpoint {
        let rule = self.rule(&whole(name)).map(|(rule, _)| rule);
        Endpoint {
            name: name.clone(),
            insecure: rule.is_some_and(|rule| rule.insecure),
            is_mirror: false,
            pulls: Pulls::All,
            blocked: rule.and_then(Rule::is_blocked),
            file: None,
        }
    }

    /// The rule for a name, and how much of the name its prefix covers.
    fn rule(&self, name: &str) -> Option<(&Rule, usize)> {
        let fitting = self.rules.iter().filter_map(|rule| Some((rule, covered(&rule.prefix, name)?)));
        fitting.max_by_key(|(rule, _)| rule.prefix.len())
    }
}

impl Rule {
    fn is_blocked(&self) -> Option<(String, PathBuf)> {
        self.blocked.then(|| (self.prefix.clone(), self.file.clone()))
    }

    /// The name with a location in the place of the prefix.
    fn at(&self, location: &str, rest: &str) -> Result<ImageName, ConfigurationError> {
        let text = format!("{location}{rest}");
        let name: Option<ImageName> = text.parse().ok();
        // What has no host would be one of Docker Hub's.
        name.filter(|name| whole(name) == text).ok_or_else(|| {
            let problem = format!("the location {location:?}, in the place of {:?}, makes {text:?}", self.prefix);
            ConfigurationError::new(&self.file, format!("{problem}, which is not HOST[:PORT]/NAME"))
        })
    }
}

fn whole(name: &ImageName) -> String {
    format!("{}/{}", name.registry(), name.repository())
}

/// How many bytes of a name a prefix covers, if it fits: whole components, or with `*.` a host below a domain.
fn covered(prefix: &str, name: &str) -> Option<usize> {
    let end = match prefix.strip_prefix('*') {
        Some(domain) if domain.starts_with('.') => {
            let start = name.find(domain)?;
            if name[..start].contains('/') {
                return None;
            }
            start + domain.len()
        }
        _ => name.starts_with(prefix).then_some(prefix.len())?,
    };
    match name.as_bytes().get(end) {
        None | Some(b'/' | b':' | b'@') => Some(end),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests;
