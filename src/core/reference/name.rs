//! Names of images at registries, with the abbreviations of Docker: `debian` is `docker.io/library/debian`, with the
//! tag `latest` by default.
//!
//! The grammar is that of the distribution project's `reference` package, which every engine uses.

use std::fmt;
use std::str::FromStr;

use super::userinfo::{end_of_userinfo, without_password};
use crate::core::digest::Digest;

/// The registry of names that state none.
const DOCKER_HUB: &str = "docker.io";
/// Where Docker Hub keeps what has a name of one word.
const LIBRARY: &str = "library/";
/// The tag of names that state none.
const LATEST: &str = "latest";
const MOST_NAME: usize = 255;
const MOST_TAG: usize = 128;

/// `HOST[:PORT]/NAME[:TAG][@DIGEST]`, whole or as Docker shortens it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageName {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that names no image at a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not an image's name: {problem}; expected [HOST[:PORT]/]NAME[:TAG][@DIGEST]")]
pub struct ImageNameError {
    /// What was written.
    pub name: String,
    /// The problem.
    pub problem: String,
}

/// A problem that has a remedy of its own.
const WITH_USERINFO: &str = "a user name or password does not belong in it, where others can see it";

impl ImageNameError {
    /// Whether the name holds a user name or a password, which belong elsewhere.
    pub fn has_userinfo(&self) -> bool {
        self.problem == WITH_USERINFO
    }
}

impl ImageName {
    /// The registry's host, and its port if one was said. Docker Hub is `docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The name at the registry, with no tag.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was said.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest or index, if one was said. It counts for more than the tag.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What the registry is asked for: the digest, else the tag, else `latest`.
    pub fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => LATEST.to_owned(),
        }
    }

    /// The same name with this tag and no digest.
    ///
    /// # Errors
    /// A text that is not a tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ImageNameError> {
        check_tag(tag).map_err(|problem| ImageNameError { name: tag.to_owned(), problem })?;
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same name with this digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The name as short as Docker shows it. Engines look for such a name in more places than for a whole one: Podman
    /// at `localhost/`, too.
    pub fn familiar(&self) -> String {
        let whole = self.to_string();
        let short = whole.strip_prefix(DOCKER_HUB).and_then(|rest| rest.strip_prefix('/')).unwrap_or(&whole);
        short.strip_prefix(LIBRARY).filter(|_| self.registry == DOCKER_HUB).unwrap_or(short).to_owned()
    }

    /// The name with everything that was left out, by which names are compared.
    #[must_use]
    pub fn complete(&self) -> Self {
        let tag = match (&self.tag, &self.digest) {
            (None, None) => Some(LATEST.to_owned()),
            _ => self.tag.clone(),
        };
        Self { tag, ..self.clone() }
    }
}

impl FromStr for ImageName {
    type Err = ImageNameError;

    fn from_str(text: &str) -> Result<Self, ImageNameError> {
        let wrong = |problem: String| ImageNameError { name: without_password(text).into_owned(), problem };
        if end_of_userinfo(text).is_some() {
            return Err(wrong(WITH_USERINFO.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let problem = |_| wrong(format!("{digest:?} is not a digest, which is sha256: and 64 hex digits"));
                (rest, Some(digest.parse().map_err(problem)?))
            }
        };
        let (rest, tag) = match rest.rsplit_once(':') {
            Some((rest, tag)) if !tag.contains('/') => (rest, Some(tag.to_owned())),
            _ => (rest, None),
        };
        tag.as_deref().map_or(Ok(()), check_tag).map_err(wrong)?;
        let (registry, repository) = match rest.split_once('/') {
            // What has a dot or a port is a host; what has neither is the first word of a name at Docker Hub.
            Some((host, repository)) if is_host(host) => (host, repository.to_owned()),
            Some(_) => (DOCKER_HUB, rest.to_owned()),
            None => (DOCKER_HUB, format!("{LIBRARY}{rest}")),
        };
        let registry = if registry == "index.docker.io" { DOCKER_HUB } else { registry };
        let repository = match repository.contains('/') || registry != DOCKER_HUB {
            true => repository,
            false => format!("{LIBRARY}{repository}"),
        };
        check_host(registry).and_then(|()| check_repository(&repository)).map_err(wrong)?;
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

/// Whether the word before the first slash is a host.
fn is_host(word: &str) -> bool {
    word.contains(['.', ':', '[']) || word == "localhost" || word.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn check_host(text: &str) -> Result<(), String> {
    let wrong = || Err(format!("{text:?} is not a host with an optional port"));
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            if address.parse::<::core::net::Ipv6Addr>().is_err() {
                return wrong();
            }
            (None, port)
        }
        None => {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (Some(host), port)
        }
    };
    let label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    let host_is_good = host.is_none_or(|host| host.split('.').all(label));
    let port_is_good = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    if host_is_good && port_is_good { Ok(()) } else { wrong() }
}

fn check_repository(name: &str) -> Result<(), String> {
    if name.len() > MOST_NAME {
        return Err(format!("it has more than {MOST_NAME} characters"));
    }
    match name.split('/').find(|component| !is_component(component)) {
        None => Ok(()),
        Some("") => Err("a part of it is empty".to_owned()),
        Some(part) if part.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            Err(format!("{part:?} has upper-case letters, which names must not have"))
        }
        Some(part) => Err(format!(
            "{part:?} may have only a-z and 0-9, and between them one dot, one or two underscores, or dashes"
        )),
    }
}

/// `[a-z0-9]+` with `.`, `_`, `__` or dashes between.
fn is_component(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        let word = bytes[at..].iter().take_while(|&&byte| plain(byte)).count();
        if word == 0 {
            return false;
        }
        at += word;
        let separator: Vec<u8> = bytes[at..].iter().copied().take_while(|&byte| !plain(byte)).collect();
        match separator.as_slice() {
            [] => return true,
            b"." | b"_" | b"__" => {}
            dashes if dashes.iter().all(|&byte| byte == b'-') => {}
            _ => return false,
        }
        at += separator.len();
    }
}

fn check_tag(tag: &str) -> Result<(), String> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let good = tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
        && tag.bytes().next().is_some_and(word)
        && tag.len() <= MOST_TAG;
    if good {
        return Ok(());
    }
    Err(format!(
        "the tag {tag:?} must have 1 to {MOST_TAG} letters, digits, _, . and -, and begin with none of the last two"
    ))
}

impl fmt::Display for ImageName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(formatter, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(text: &str) -> String {
        text.parse::<ImageName>().unwrap().complete().to_string()
    }

    #[test]
    fn short_names_are_docker_hubs() {
        let debian = "docker.io/library/debian:latest";
        for text in ["debian", "debian:latest", "library/debian", "docker.io/debian", "index.docker.io/library/debian"]
        {
            assert_eq!(complete(text), debian, "{text}");
        }
        assert_eq!("docker.io/library/debian:12".parse::<ImageName>().unwrap().familiar(), "debian:12");
        assert_eq!("quay.io/library/debian".parse::<ImageName>().unwrap().familiar(), "quay.io/library/debian");
        assert_eq!(complete("prom/node-exporter:v1"), "docker.io/prom/node-exporter:v1");
    }

    #[test]
    fn hosts_are_told_from_names() {
        let digest = Digest::sha256_of(b"");
        for (text, registry, repository) in [
            ("localhost/a", "localhost", "a"),
            ("localhost:5000/a/b:1", "localhost:5000", "a/b"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000", "a"),
            ("[::1]:5000/a:1", "[::1]:5000", "a"),
            ("quay.io/a__b/c-d.e", "quay.io", "a__b/c-d.e"),
            ("registry/a", "docker.io", "registry/a"),
        ] {
            let name: ImageName = text.parse().unwrap();
            assert_eq!((name.registry(), name.repository()), (registry, repository), "{text}");
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        let both: ImageName = format!("quay.io/a:1@{digest}").parse().unwrap();
        assert_eq!((both.tag(), both.digest()), (Some("1"), Some(&digest)));
        assert_eq!(both.wanted(), digest.to_string());
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "empty"),
            ("quay.io/", "empty"),
            ("quay.io/A", "upper-case"),
            ("quay.io/a//b", "empty"),
            ("quay.io/a..b", "one dot"),
            ("quay.io/-a", "dashes"),
            ("quay.io/a:", "tag"),
            ("quay.io/a:.x", "tag"),
            ("quay.io:99999/a", "not a host"),
            ("-x.io/a", "not a host"),
            ("[1.2.3.4]/a", "not a host"),
            ("quay.io/a@sha256:12", "not a digest"),
            ("quay.io/../../v2", "dashes"),
        ] {
            let error = text.parse::<ImageName>().unwrap_err();
            assert!(error.problem.contains(reason), "{text}: {error}");
        }
    }
}
