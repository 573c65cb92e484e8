//! A client of Docker and Podman. It asks the daemon over its socket to export an image as a docker archive, or to load
//! one (Docker Engine API, "ImageGet" and "ImageLoad", which Podman implements too).

mod address;
mod context;
mod socket;
mod ssh;
mod tls;

use std::io::Read;
use std::path::PathBuf;

use crossbeam_channel::Sender;
use serde::Deserialize;
use ureq::http::{Request, Response};
use ureq::tls::TlsConfig;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::{Agent, Body, BodyReader, SendBody};

use crate::core::cancel::Cancel;
use crate::core::chain::{Cause, Context};
use crate::core::reference::{DaemonImage, ImageName};
use crate::net::registry::{USER_AGENT, break_on_cancel};
use address::Address;
use socket::SocketConnector;

/// As much of an answer as is read, where it is not an image.
const MOST_ANSWER: u64 = 1 << 20;
/// As much of a list of images as is read.
const MOST_LIST: u64 = 256 << 20;
const TAR: &str = "application/x-tar";

/// An engine that listens.
#[derive(Debug)]
pub struct Daemon {
    address: Address,
    agent: Agent,
    cancel: Cancel,
    _watch: Sender<()>,
}

/// Why an engine does not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// No socket is where engines have theirs.
    #[error(
        "no Docker or Podman daemon found: there is no socket at {}; start Docker, or `systemctl --user start podman.socket`, or set DOCKER_HOST",
        list(.0)
    )]
    None(Vec<PathBuf>),
    /// An address that makes no sense, or of a kind that is not supported.
    #[error("{address:?} is not an engine's address: {problem}")]
    Address {
        /// As the caller gave it.
        address: String,
        /// The problem.
        problem: &'static str,
    },
    /// A context of Docker's that cannot be used.
    #[error("Docker's context {name:?} cannot be used")]
    Context {
        /// Its name.
        name: String,
        /// The problem.
        #[source]
        error: Cause,
    },
    /// A file of certificates that cannot be used.
    #[error("{path:?}")]
    Certificates {
        /// The file.
        path: PathBuf,
        /// The problem.
        #[source]
        error: Cause,
    },
    /// No engine listens at the address.
    #[error("cannot reach the engine at {address}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        #[source]
        error: Cause,
    },
    /// The connection broke.
    #[error("the connection to the engine at {address} broke")]
    Broken {
        /// Where.
        address: String,
        /// What is known of it.
        #[source]
        error: Cause,
    },
    /// It has no such image.
    #[error(
        "the engine at {address} has no image {image}: {message}; list its images with `docker images` or `podman images`"
    )]
    NotFound {
        /// Where.
        address: String,
        /// Which image.
        image: String,
        /// The message of the engine.
        message: String,
    },
    /// It refuses.
    #[error("the engine at {address} refused: {message}")]
    Refused {
        /// Where.
        address: String,
        /// The message of the engine.
        message: String,
    },
    /// An answer that makes no sense.
    #[error("the engine at {address} gave an unexpected answer")]
    Protocol {
        /// Where.
        address: String,
        /// The problem.
        #[source]
        error: Cause,
    },
    /// What was to be sent cannot be read.
    #[error("cannot read the image that the engine should load")]
    Input(#[source] std::io::Error),
    /// [`Cancel`] was used.
    #[error("interrupted")]
    Cancelled,
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl Daemon {
    /// The engine at `address`: a socket's path, or as in DOCKER_HOST. When it is `None`, the one that DOCKER_HOST,
    /// DOCKER_CONTEXT or CONTAINER_HOST names, else the one of Docker's current context, else the first whose socket is
    /// where it usually is. Nothing is asked yet.
    ///
    /// # Errors
    /// No engine, or an address that cannot be used.
    pub fn find(address: Option<&str>, cancel: &Cancel) -> Result<Self, DaemonError> {
        let address = Address::find(address)?;
        let tls = match &address {
            Address::Host { tls: Some(certificates), .. } => certificates.config()?,
            _ => TlsConfig::default(),
        };
        // No time-outs: an engine may think for a while before it hands out a large image.
        let config = Agent::config_builder()
            .proxy(None)
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(USER_AGENT)
            .build();
        let connector = match &address {
            Address::Socket(path) => Some(SocketConnector::Path(path.clone())),
            Address::Ssh(ssh) => Some(SocketConnector::Ssh(ssh.clone())),
            Address::Host { .. } => None,
        };
        let agent = match connector {
            Some(connector) => Agent::with_parts(config, connector, DefaultResolver::default()),
            None => Agent::new_with_config(config),
        };
        let watch = break_on_cancel(&agent, cancel);
        Ok(Self { address, agent, cancel: cancel.clone(), _watch: watch })
    }

    /// An image of its store, as a docker archive.
    ///
    /// # Errors
    /// It has no such image, or cannot be asked.
    pub fn save(&self, image: &DaemonImage) -> Result<Saved, DaemonError> {
        let (name, id) = match image {
            DaemonImage::Name(name) => (name.complete().familiar(), short_id(name)),
            DaemonImage::Id(id) => (id.to_string(), None),
        };
        let by_name = |archive| Saved { archive, is_named: matches!(image, DaemonImage::Name(_)) };
        match (self.save_as(&name, image).map(by_name), id) {
            // What is not a name may be the beginning of an ID, as Docker has it.
            (Err(not_found @ DaemonError::NotFound { .. }), Some(id)) => match self.save_as(&id, image) {
                Ok(archive) => Ok(Saved { archive, is_named: false }),
                Err(DaemonError::NotFound { .. }) => Err(not_found),
                Err(error) => Err(error),
            },
            (saved, _) => saved,
        }
    }

    fn save_as(&self, name: &str, image: &DaemonImage) -> Result<BodyReader<'static>, DaemonError> {
        let address = format!("{}/images/{name}/get", self.address.base());
        let request = Request::builder().uri(address).body(SendBody::none());
        let (response, message) = self.ask(request)?;
        match response.status().as_u16() {
            200 => Ok(response.into_body().into_reader()),
            404 => Err(DaemonError::NotFound { address: self.address.to_string(), image: image.to_string(), message }),
            _ => Err(self.refused(message)),
        }
    }

    /// What its images are called, in the order of their bytes; an image without a name is `@` and its ID.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn names(&self) -> Result<Vec<String>, DaemonError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Listed {
            id: String,
            repo_tags: Option<Vec<String>>,
        }
        let address = format!("{}/images/json", self.address.base());
        let (mut response, message) = self.ask(Request::builder().uri(address).body(SendBody::none()))?;
        if response.status() != 200 {
            return Err(self.refused(message));
        }
        let said = response.body_mut().with_config().limit(MOST_LIST).read_to_vec();
        let said = said.map_err(|error| self.failed(error))?;
        let listed: Vec<Listed> = serde_json::from_slice(&said)
            .map_err(|error| self.refused(format!("its list of images cannot be read: {error}")))?;
        // Docker has a name of its own for what has none.
        let has_name = |name: &String| !name.contains("<none>");
        let mut names = Vec::new();
        for image in listed {
            let own: Vec<String> = image.repo_tags.unwrap_or_default().into_iter().filter(has_name).collect();
            names.extend(if own.is_empty() { vec![format!("@{}", image.id)] } else { own });
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Has it take in the images of a docker archive.
    ///
    /// # Errors
    /// The archive cannot be read, or the engine does not take it.
    pub fn load(&self, archive: &mut dyn Read) -> Result<(), DaemonError> {
        let mut input = Input { archive, error: None };
        let address = format!("{}/images/load?quiet=1", self.address.base());
        let request = Request::builder()
            .method("POST")
            .uri(address)
            .header("Content-Type", TAR)
            .body(SendBody::from_reader(&mut input));
        let answer = self.ask(request);
        if let Some(error) = input.error {
            return Err(DaemonError::Input(error));
        }
        let (mut response, message) = answer?;
        if response.status() != 200 {
            return Err(self.refused(message));
        }
        // It may say that it failed after it has said that all is well.
        let said = response.body_mut().with_config().limit(MOST_ANSWER).read_to_vec();
        let said = said.map_err(|error| self.failed(error))?;
        match said
            .split(|&byte| byte == b'\n')
            .filter_map(|line| serde_json::from_slice::<Said>(line).ok())
            .find_map(Said::error)
        {
            Some(message) => Err(self.refused(message)),
            None => Ok(()),
        }
    }

    /// Sends a request; with a response that is a refusal comes what it says.
    fn ask(
        &self,
        request: Result<Request<SendBody<'_>>, ureq::http::Error>,
    ) -> Result<(Response<Body>, String), DaemonError> {
        let problem = "it cannot be written as one of HTTP";
        let request = request.map_err(|_| DaemonError::Address { address: self.address.to_string(), problem })?;
        if self.cancel.is_cancelled() {
            return Err(DaemonError::Cancelled);
        }
        let mut response = self.agent.run(request).map_err(|error| self.failed(error))?;
        if response.status() == 200 {
            return Ok((response, String::new()));
        }
        let said = response.body_mut().with_config().limit(MOST_ANSWER).read_to_vec().unwrap_or_default();
        let message = serde_json::from_slice::<Said>(&said).ok().and_then(Said::error);
        let message = message.unwrap_or_else(|| String::from_utf8_lossy(&said).trim().to_owned());
        let message = if message.is_empty() { response.status().to_string() } else { message };
        Ok((response, message))
    }

    fn refused(&self, message: String) -> DaemonError {
        DaemonError::Refused { address: self.address.to_string(), message }
    }

    fn failed(&self, error: ureq::Error) -> DaemonError {
        use std::io::ErrorKind;
        let address = self.address.to_string();
        match error {
            _ if self.cancel.is_cancelled() => DaemonError::Cancelled,
            ureq::Error::Io(error) => match error.kind() {
                ErrorKind::PermissionDenied => {
                    let problem = "its socket is not for this user; ask root, or join the group that owns it";
                    DaemonError::Unreachable { address, error: problem.into() }
                }
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                    let error = Context::new("connection refused or no such socket", error).into();
                    DaemonError::Unreachable { address, error }
                }
                _ => DaemonError::Broken { address, error: error.into() },
            },
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => {
                DaemonError::Unreachable { address, error: "no such host, or connection refused".into() }
            }
            error => DaemonError::Broken { address, error: error.into() },
        }
    }
}

/// An image on its way from an engine.
pub struct Saved {
    /// The docker archive.
    pub archive: BodyReader<'static>,
    /// Whether it was found by the name that it was asked for by, and not by its ID.
    pub is_named: bool,
}

impl std::fmt::Debug for Saved {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Saved").field("is_named", &self.is_named).finish_non_exhaustive()
    }
}

/// The ID that a name may be the beginning of: hex digits alone, perhaps behind the algorithm.
fn short_id(name: &ImageName) -> Option<String> {
    let whole = name.familiar();
    let digits = whole.strip_prefix("sha256:").unwrap_or(&whole);
    let is_id =
        (2..=64).contains(&digits.len()) && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_id.then_some(whole)
}

/// A line of an answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    message: String,
    cause: String,
    error: String,
}

impl Said {
    fn error(self) -> Option<String> {
        [self.error, self.message, self.cause].into_iter().find(|text| !text.is_empty())
    }
}

/// What is sent. The error that reading it gave would come back as one of the connection's.
struct Input<'a> {
    archive: &'a mut dyn Read,
    error: Option<std::io::Error>,
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.archive.read(buffer).map_err(|error| {
            let kind = error.kind();
            if kind != std::io::ErrorKind::Interrupted {
                self.error = Some(error);
            }
            kind.into()
        })
    }
}
