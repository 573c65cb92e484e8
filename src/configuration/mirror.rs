//! A server that has copies of what is at registries, as it is named by an address.

use std::path::PathBuf;
use std::str::FromStr;

/// A server that is asked before a registry, in the registry's name: a mirror of a site, or a peer such as Spegel or Dragonfly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    pub(crate) is_secure: bool,
    /// `HOST[:PORT]`.
    pub(crate) authority: String,
    /// What stands in the place of `/v2`.
    pub(crate) path: String,
    pub(crate) by_digest: bool,
    pub(crate) by_tag: bool,
    /// Trusted for it, besides the system's.
    pub(crate) ca_certificates: Vec<PathBuf>,
    /// Its certificate and its key.
    pub(crate) client_certificate: Option<(PathBuf, PathBuf)>,
    pub(crate) skip_tls_verification: bool,
    /// Sent to it with every request.
    pub(crate) headers: Vec<(String, String)>,
    /// The file that names it.
    pub(crate) file: Option<PathBuf>,
}

/// An address that names no mirror.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?}: expected http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH], without a user, a query or a fragment"
)]
pub struct MirrorError(String);

impl Mirror {
    /// `http://HOST[:PORT][/PATH]`, the API being at `/v2` below that; with `whole` the path is that of the API itself.
    pub(super) fn parse(text: &str, whole: bool) -> Result<Self, MirrorError> {
        let wrong = || MirrorError(text.to_owned());
        let (is_secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(wrong()),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:[]%".contains(&byte);
        if authority.is_empty() || authority.contains('%') || !rest.bytes().all(is_plain) {
            return Err(wrong());
        }
        let mut path = path.trim_matches('/').to_owned();
        if !path.is_empty() {
            path.insert(0, '/');
        }
        if !whole && !path.ends_with("/v2") {
            path.push_str("/v2");
        }
        Ok(Self {
            is_secure,
            authority: authority.to_ascii_lowercase(),
            path,
            by_digest: true,
            by_tag: false,
            ca_certificates: Vec::new(),
            client_certificate: None,
            skip_tls_verification: false,
            headers: Vec::new(),
            file: None,
        })
    }

    /// Its address.
    pub(crate) fn address(&self) -> String {
        format!("{}://{}", if self.is_secure { "https" } else { "http" }, self.authority)
    }
}

/// Asked for what has a digest, and not for tags: those are the registry's.
impl FromStr for Mirror {
    type Err = MirrorError;

    fn from_str(text: &str) -> Result<Self, MirrorError> {
        Self::parse(text, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_below_the_address() {
        let parsed = |text: &str| {
            let mirror: Mirror = text.parse().unwrap();
            (mirror.address(), mirror.path)
        };
        assert_eq!(parsed("http://127.0.0.1:30020"), ("http://127.0.0.1:30020".to_owned(), "/v2".to_owned()));
        assert_eq!(parsed("https://Mirror.io/a/"), ("https://mirror.io".to_owned(), "/a/v2".to_owned()));
        assert_eq!(parsed("https://mirror.io/a/v2").1, "/a/v2");
        assert_eq!(Mirror::parse("https://mirror.io/a/b", true).unwrap().path, "/a/b");
        for wrong in [
            "mirror.io",
            "ftp://mirror.io",
            "https://",
            "https://u:p@mirror.io",
            "http://a?b",
            "http://a#b",
            "http://a b",
        ] {
            assert!(wrong.parse::<Mirror>().is_err(), "{wrong}");
        }
    }
}
