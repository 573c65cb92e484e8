//! Where an engine listens.

use std::fmt;
use std::path::PathBuf;

use super::DaemonError;

/// A socket in the file system, or a port of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Socket(PathBuf),
    Host(String),
}

impl Address {
    pub(super) fn find(given: Option<&str>) -> Result<Self, DaemonError> {
        let named = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        if let Some(address) =
            given.map(str::to_owned).or_else(|| named("DOCKER_HOST")).or_else(|| named("CONTAINER_HOST"))
        {
            return Self::parse(&address);
        }
        let runtime = named("XDG_RUNTIME_DIR").map(PathBuf::from);
        let own = |name: &str| runtime.as_ref().map(|runtime| runtime.join(name));
        let places: Vec<PathBuf> = [
            Some("/var/run/docker.sock".into()),
            own("docker.sock"),
            own("podman/podman.sock"),
            Some("/run/podman/podman.sock".into()),
        ]
        .into_iter()
        .flatten()
        .collect();
        match places.iter().find(|path| path.exists()) {
            Some(path) => Ok(Self::Socket(path.clone())),
            None => Err(DaemonError::None(places)),
        }
    }

    fn parse(text: &str) -> Result<Self, DaemonError> {
        let wrong = |problem| DaemonError::Address { address: text.to_owned(), problem };
        let (scheme, rest) = text.split_once("://").unwrap_or(("unix", text));
        if rest.is_empty() {
            return Err(wrong("nothing stands behind the scheme"));
        }
        match scheme {
            "unix" => Ok(Self::Socket(rest.into())),
            "tcp" | "http" if std::env::var_os("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty()) => {
                Err(wrong(
                    "DOCKER_TLS_VERIFY asks for certificates, which are not supported here: forward its socket, for instance with ssh",
                ))
            }
            "tcp" | "http" => Ok(Self::Host(rest.trim_end_matches('/').to_owned())),
            "ssh" | "https" => {
                Err(wrong("ssh and https are not supported: forward its socket, for instance with ssh -L"))
            }
            _ => Err(wrong("expected a socket's path, unix://PATH or tcp://HOST:PORT")),
        }
    }

    /// What an address at it begins with. The host of a socket is of no interest to anyone.
    pub(super) fn base(&self) -> String {
        match self {
            Self::Socket(_) => "http://127.0.0.1".to_owned(),
            Self::Host(host) => format!("http://{host}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(formatter, "{}", path.display()),
            Self::Host(host) => write!(formatter, "tcp://{host}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_docker_host() {
        let socket = |path: &str| Address::Socket(path.into());
        assert_eq!(Address::parse("/run/x.sock").unwrap(), socket("/run/x.sock"));
        assert_eq!(Address::parse("unix:///run/x.sock").unwrap(), socket("/run/x.sock"));
        assert_eq!(Address::parse("tcp://127.0.0.1:2375").unwrap(), Address::Host("127.0.0.1:2375".into()));
        for (bad, reason) in [("unix://", "nothing stands"), ("ssh://a", "forward"), ("x://y", "unix://PATH")] {
            assert!(Address::parse(bad).unwrap_err().to_string().contains(reason), "{bad}");
        }
    }
}
