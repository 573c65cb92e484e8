//! HTTP connections, each with a time-out.
//!
//! ```text
//! proxy      which proxy the environment names for a server      trust     whose certificates are believed, and which are shown
//! connector  TCP, TLS and patience                                verifier  how a certificate is judged
//! forward    plain http through a proxy                           failure   why nothing came back
//! resolver   the addresses of a host                              document  small bodies, within bounds
//! ```

mod certificate;
mod connector;
mod document;
mod failure;
mod forward;
mod proxy;
mod resolver;
mod trust;
mod verifier;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use ureq::http::header::CONTENT_LENGTH;
use ureq::http::{Method, Request, Response, StatusCode};
use ureq::{Agent, Body, Proxy, SendBody};

use self::connector::Closed;
pub(super) use self::failure::{Failure, Untrusted};
use self::proxy::Proxies;
use self::resolver::Patient;
use self::trust::Trust;
pub(super) use self::trust::certificate_directories;
use super::RegistryOptions;
use crate::core::cancel::Cancel;
use crate::parallel;

/// Who we say we are.
pub(crate) const USER_AGENT: &str = concat!("layflat/", env!("CARGO_PKG_VERSION"));
/// How long it may take until there is a connection.
const CONNECT: Duration = Duration::from_secs(15);
/// How soon a signal is noticed.
const LOOK_UP: Duration = Duration::from_millis(100);

/// Makes connections, and keeps those that can be used again.
#[derive(Debug)]
pub(super) struct Http {
    options: RegistryOptions,
    trust: Arc<Trust>,
    proxies: OnceLock<Proxies>,
    /// One for each proxy, and one without.
    agents: Mutex<Vec<Watched>>,
    cancel: Cancel,
}

/// An agent whose connections break on a signal.
#[derive(Debug)]
struct Watched {
    proxy: Option<Proxy>,
    agent: Agent,
    _watch: Sender<()>,
}

impl Http {
    /// For a registry, which has a name, and an address that may be another one.
    pub(super) fn new(registry: [&str; 2], options: &RegistryOptions, cancel: &Cancel) -> Self {
        Self {
            options: options.clone(),
            trust: Arc::new(Trust::new(options, registry)),
            proxies: OnceLock::new(),
            agents: Mutex::default(),
            cancel: cancel.clone(),
        }
    }

    /// Sends a request and gets what comes back, of whatever status; redirects are the caller's to follow.
    pub(super) fn run(&self, request: Request<SendBody<'_>>) -> Result<Response<Body>, Failure> {
        if self.cancel.is_cancelled() {
            return Err(Failure::Cancelled);
        }
        let way = self.proxies.get_or_init(Proxies::of_environment).way(request.uri()).map_err(Failure::Setup)?;
        let agent = self.agent(way.as_ref().map(|way| &way.proxy));
        let answer = self.run_by(&agent, request).map_err(|error| self.failure(error));
        let Some(way) = way else { return answer };
        match answer {
            Ok(response) if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                Err(Failure::Unreachable("it requires a login (407): use http://USER:PASSWORD@HOST:PORT".into()))
            }
            answer => answer,
        }
        .map_err(|failure| failure.of(&format!("by the proxy {}", way.shown)))
    }

    /// Repeats a request if the reused connection was closed meanwhile (RFC 9112, 9.3.1), and repeating is harmless.
    /// Each attempt leaves one reusable connection less.
    fn run_by(&self, agent: &Agent, request: Request<SendBody<'_>>) -> Result<Response<Body>, ureq::Error> {
        let (head, body) = request.into_parts();
        let length = head.headers.get(CONTENT_LENGTH).map(|length| length.as_bytes());
        let is_harmless = match head.method {
            Method::GET | Method::HEAD => true,
            // An upload that was started twice is harmless: the registry forgets the unused one.
            Method::POST => length == Some(b"0"),
            _ => false,
        };
        if !is_harmless {
            return agent.run(Request::from_parts(head, body));
        }
        let mut answer = agent.run(Request::from_parts(head.clone(), body));
        while matches!(&answer, Err(ureq::Error::Other(error)) if error.is::<Closed>()) && !self.cancel.is_cancelled() {
            let body = match head.method {
                Method::POST => SendBody::from_owned_reader(std::io::empty()),
                _ => SendBody::none(),
            };
            answer = agent.run(Request::from_parts(head.clone(), body));
        }
        answer
    }

    /// What an error of a connection means.
    pub(super) fn failure(&self, error: ureq::Error) -> Failure {
        if self.cancel.is_cancelled() { Failure::Cancelled } else { Failure::from(error, &self.options) }
    }

    fn agent(&self, proxy: Option<&Proxy>) -> Agent {
        let mut agents = self.agents.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(watched) = agents.iter().find(|watched| watched.proxy.as_ref() == proxy) {
            return watched.agent.clone();
        }
        let config = |proxy: Option<Proxy>| {
            Agent::config_builder()
                .proxy(proxy)
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .user_agent(USER_AGENT)
                // An answer is checked by its digest, and goes on where it ended: encoded it would be another one.
                .accept_encoding("identity")
                .timeout_connect(Some(CONNECT))
                .timeout_recv_response(Some(self.options.answer))
                .timeout_per_read(Some(self.options.patience))
                .timeout_per_write(Some(self.options.patience))
                .build()
        };
        let chain = connector::chain(&self.trust, config(None));
        let agent = Agent::with_parts(config(proxy.cloned()), chain, Patient(self.cancel.clone()));
        let watch = break_on_cancel(&agent, &self.cancel);
        agents.push(Watched { proxy: proxy.cloned(), agent: agent.clone(), _watch: watch });
        agent
    }
}

/// Breaks an agent's connections when the work is cancelled: whoever waits for a byte would not notice. Until what is
/// returned is dropped.
pub(crate) fn break_on_cancel(agent: &Agent, cancel: &Cancel) -> Sender<()> {
    let (over, is_over) = bounded::<()>(0);
    let (agent, cancel) = (agent.clone(), cancel.clone());
    // Where there cannot be a thread, the second signal still ends the program.
    let _ = parallel::spawn(move || {
        while let Err(RecvTimeoutError::Timeout) = is_over.recv_timeout(LOOK_UP) {
            if cancel.is_cancelled() {
                agent.shutdown();
                return;
            }
        }
    });
    over
}
