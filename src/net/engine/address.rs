//! The address of an engine, as in DOCKER_HOST.

use std::fmt;
use std::path::PathBuf;

use super::DaemonError;
use super::context;
use super::ssh::Ssh;
use super::tls::Certificates;

/// A socket in the file system, a port of a host, or what ssh leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Socket(PathBuf),
    Host { authority: String, tls: Option<Certificates> },
    Ssh(Ssh),
}

impl Address {
    /// The one that was given, else, in the order of Docker's own command line, that of DOCKER_HOST, of DOCKER_CONTEXT,
    /// and of the context that was chosen with `docker context use`; Podman's CONTAINER_HOST comes before the last, as
    /// the environment does before files.
    pub(super) fn find(given: Option<&str>) -> Result<Self, DaemonError> {
        let named = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        if let Some(address) = given.map(str::to_owned).or_else(|| named("DOCKER_HOST")) {
            return Self::parse(&address, environments_certificates());
        }
        let docker = context::directory();
        if let Some((docker, name)) = docker.as_deref().zip(named("DOCKER_CONTEXT")) {
            return Self::of_context(context::find(docker, &name)?);
        }
        if let Some(address) = named("CONTAINER_HOST") {
            return Self::parse(&address, None);
        }
        let current = docker.as_deref().and_then(|docker| Some((docker, context::current(docker)?)));
        match current {
            Some((docker, name)) => Self::of_context(context::find(docker, &name)?),
            None => Self::usual(),
        }
    }

    fn of_context(endpoint: Option<context::Endpoint>) -> Result<Self, DaemonError> {
        let Some(endpoint) = endpoint else { return Self::usual() };
        let certificates = Some(endpoint.certificates).filter(Certificates::is_some);
        Self::parse(&endpoint.host, certificates)
    }

    /// The first socket that is where it usually is.
    fn usual() -> Result<Self, DaemonError> {
        let named = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
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

    /// Reads an address as it stands in DOCKER_HOST. With certificates, the connection uses TLS.
    fn parse(text: &str, certificates: Option<Certificates>) -> Result<Self, DaemonError> {
        let wrong = |problem| DaemonError::Address { address: text.to_owned(), problem };
        let (scheme, rest) = text.split_once("://").unwrap_or(("unix", text));
        if rest.is_empty() {
            return Err(wrong("nothing follows the scheme"));
        }
        let authority = rest.trim_end_matches('/').to_owned();
        match scheme {
            "unix" => Ok(Self::Socket(rest.into())),
            "tcp" | "http" => Ok(Self::Host { authority, tls: certificates }),
            "https" => Ok(Self::Host { authority, tls: Some(certificates.unwrap_or_default()) }),
            "ssh" => Ssh::parse(rest).map(Self::Ssh).map_err(wrong),
            _ => Err(wrong("expected a socket's path, unix://PATH, tcp://HOST:PORT or ssh://[USER@]HOST[:PORT]")),
        }
    }

    /// What an address at it begins with. The host of a socket is of no interest to anyone.
    pub(super) fn base(&self) -> String {
        match self {
            Self::Socket(_) | Self::Ssh(_) => "http://127.0.0.1".to_owned(),
            Self::Host { authority, tls: None } => format!("http://{authority}"),
            Self::Host { authority, tls: Some(_) } => format!("https://{authority}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(formatter, "{}", path.display()),
            Self::Host { authority, .. } => write!(formatter, "tcp://{authority}"),
            Self::Ssh(ssh) => ssh.fmt(formatter),
        }
    }
}

/// The certificates that DOCKER_TLS_VERIFY asks for: those in DOCKER_CERT_PATH, or in Docker's own directory.
fn environments_certificates() -> Option<Certificates> {
    let named = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    named("DOCKER_TLS_VERIFY")?;
    let directory = named("DOCKER_CERT_PATH").map(PathBuf::from).or_else(context::directory);
    Some(directory.map(|directory| Certificates::in_directory(&directory)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_docker_host() {
        let parse = |text: &str| Address::parse(text, None);
        let socket = |path: &str| Address::Socket(path.into());
        assert_eq!(parse("/run/x.sock").unwrap(), socket("/run/x.sock"));
        assert_eq!(parse("unix:///run/x.sock").unwrap(), socket("/run/x.sock"));
        let host = |tls| Address::Host { authority: "127.0.0.1:2375".into(), tls };
        assert_eq!(parse("tcp://127.0.0.1:2375").unwrap(), host(None));
        assert_eq!(parse("https://127.0.0.1:2375/").unwrap(), host(Some(Certificates::default())));
        assert_eq!(parse("ssh://me@a:22").unwrap().to_string(), "ssh://me@a:22");
        for (bad, reason) in [
            ("unix://", "nothing follows"),
            ("ssh://me:pw@a", "no password"),
            ("npipe:////./pipe/x", "unix://PATH"),
            ("fd://", "nothing follows"),
        ] {
            assert!(parse(bad).unwrap_err().to_string().contains(reason), "{bad}");
        }
    }
}
