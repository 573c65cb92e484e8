//! Sends one request to a registry, and does what it takes to get a response: the right scheme, a token, redirects.

use std::io::Read;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderName, LOCATION, RETRY_AFTER};
use ureq::http::request::Builder;
use ureq::http::{HeaderMap, Method, Request as HttpRequest, Response, StatusCode};
use ureq::{Body, SendBody};

use super::address::{authority, is_loopback, parameters, same_server, with_parameters};
use super::authorization::{Answering, Authorizer, Demand};
use super::challenge::challenges;
use super::http::{Failure, Http, Untrusted};
use super::location::resolve;
use super::retry::{Attempts, retry_after};
use super::{End, RegistryError, RegistryOptions};
use crate::configuration::Mirror;
use crate::core::cancel::Cancel;
use crate::core::chain::Cause;
use crate::core::reference::ImageName;

const MOST_REDIRECTS: usize = 10;
/// As much of a refusal as is read.
const MOST_REFUSAL: u64 = 64 << 10;
/// As much of a refusal as is shown.
const MOST_SHOWN: usize = 300;

/// What is asked.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// From the server's root on, or a whole address that the registry gave.
    pub(super) address: String,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Content<'a>,
    /// What it is about, for messages.
    pub(super) what: String,
}

/// What goes with it.
pub(super) enum Content<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// So many bytes.
    Stream(&'a mut dyn Replay, u64),
}

/// A body that can be sent again: a redirect or an expired token is noticed only when the whole body was sent.
pub(super) trait Replay: Read {
    fn rewind(&mut self);
}

impl Request<'_> {
    pub(super) fn new(method: Method, address: String, what: String) -> Self {
        Self { method, address, headers: Vec::new(), body: Content::Nothing, what }
    }
}

/// What a registry says to those who have not said who they are.
#[derive(Debug)]
struct Greeting {
    headers: HeaderMap,
    from: String,
}

impl Greeting {
    fn demand(&self) -> Demand<'_> {
        Demand { headers: &self.headers, from: &self.from }
    }
}

/// How a mirror is asked in the name of a registry.
#[derive(Debug, Clone)]
pub(super) struct Via {
    pub(super) mirror: Mirror,
    /// The registry, as mirrors of several are told it (containerd's `ns`).
    pub(super) registry: String,
}

impl Via {
    /// Where a question goes that begins with `/v2` at a registry.
    fn address(&self, base: &str, address: &str) -> String {
        let rest = address.strip_prefix("/v2").unwrap_or(address);
        with_parameters(&format!("{base}{}{rest}", self.mirror.path), &parameters([("ns", self.registry.as_str())]))
    }
}

/// A connection to a registry on behalf of one repository.
#[derive(Debug)]
pub(super) struct Session {
    registry: String,
    authority: String,
    options: RegistryOptions,
    cancel: Cancel,
    http: Http,
    authorizer: Authorizer,
    /// It is a mirror.
    via: Option<Via>,
    /// `https://HOST` or `http://HOST`, once that is known.
    base: OnceLock<String>,
    /// How `/v2/` answered those who did not say who they are, if it asked.
    greeting: OnceLock<Option<Greeting>>,
    /// Whether the registry ever responded. Then it exists, and a refused connection is worth a retry.
    answered: AtomicBool,
}

impl Session {
    pub(super) fn new(name: &ImageName, options: &RegistryOptions, via: Option<Via>, cancel: &Cancel) -> Self {
        // What is stored for a host is not meant for everybody who listens.
        let tells_all = via.as_ref().is_some_and(|via| !via.mirror.is_secure && !is_loopback(&via.mirror.authority));
        let base = OnceLock::new();
        if let Some(via) = &via {
            let _ = base.set(via.mirror.address());
        }
        Self {
            registry: name.registry().to_owned(),
            authority: authority(name.registry()).to_owned(),
            options: options.clone(),
            cancel: cancel.clone(),
            http: Http::new([name.registry(), authority(name.registry())], options, cancel),
            authorizer: Authorizer::new(name.registry(), name.repository(), options, tells_all, cancel),
            via,
            base,
            greeting: OnceLock::new(),
            answered: AtomicBool::new(false),
        }
    }

    pub(super) fn registry(&self) -> &str {
        &self.registry
    }

    pub(super) fn attempts(&self) -> Attempts {
        Attempts::new(self.options.retries, &self.cancel)
    }

    /// Sends a request, authenticating once on a 401 challenge; returns any other response.
    pub(super) fn ask(&self, scopes: &[String], mut request: Request<'_>) -> Result<Response<Body>, RegistryError> {
        if request.address.starts_with('/') {
            let base = self.base(&request.what)?;
            request.address = match &self.via {
                Some(via) => via.address(base, &request.address),
                None => format!("{base}{}", request.address),
            };
        }
        let shown = self.credentials(scopes, &request.what)?;
        let (response, from) = self.follow(&mut request, shown.as_deref())?;
        let wants_credentials = match response.status().as_u16() {
            401 => true,
            // Some would not even say that they know something, to whoever has not said who it is.
            403 | 404 => shown.is_none() && self.authorizer.is_logged_in()?,
            _ => false,
        };
        if !wants_credentials || !same_server(&from, self.base(&request.what)?) {
            return Ok(response);
        }
        let demand = Demand { headers: response.headers(), from: &from };
        // Where the answer to a question names no way to answer, the registry as a whole may.
        let other = match challenges(demand.headers).is_empty() {
            true => self.greeting(&request.what)?,
            false => None,
        };
        let demand = other.map_or(demand, Greeting::demand);
        let answer = self.authorizer.answer(demand, scopes, &self.http);
        let answer = answer.map_err(|problem| self.answering(problem, &request.what))?;
        match answer {
            // Asked again with the same, it would say the same.
            Some(value) if Some(&value) != shown.as_ref() => Ok(self.follow(&mut request, Some(&value))?.0),
            _ => Ok(response),
        }
    }

    /// What to show for these scopes from the start: who is logged in is not taken for anyone, since many registries
    /// tell those only that there is nothing. Nothing for others, who are asked if need be.
    fn credentials(&self, scopes: &[String], what: &str) -> Result<Option<String>, RegistryError> {
        let known = self.authorizer.known(scopes);
        if known.is_some() || !self.authorizer.is_logged_in()? {
            return Ok(known);
        }
        let Some(greeting) = self.greeting(what)? else { return Ok(None) };
        let answer = self.authorizer.answer(greeting.demand(), scopes, &self.http);
        answer.map_err(|problem| self.answering(problem, what))
    }

    /// What the registry as a whole wants to see, if it says so.
    fn greeting(&self, what: &str) -> Result<Option<&Greeting>, RegistryError> {
        if self.greeting.get().is_none() {
            let path = self.via.as_ref().map_or("/v2", |via| &via.mirror.path);
            let address = format!("{}{path}/", self.base(what)?);
            let mut request = Request::new(Method::GET, address, what.to_owned());
            let (response, from) = self.follow(&mut request, None)?;
            let asks = matches!(response.status().as_u16(), 401 | 403 | 404);
            let asks = asks && same_server(&from, self.base(what)?);
            let greeting = asks.then(|| Greeting { headers: response.headers().clone(), from });
            self.greeting.get_or_init(|| greeting);
        }
        Ok(self.greeting.get().and_then(Option::as_ref))
    }

    /// Asks once, and gets an answer of one of these statuses.
    pub(super) fn expect(
        &self,
        scopes: &[String],
        request: Request<'_>,
        statuses: &[u16],
    ) -> Result<Response<Body>, RegistryError> {
        let what = request.what.clone();
        let response = self.ask(scopes, request)?;
        if statuses.contains(&response.status().as_u16()) {
            return Ok(response);
        }
        let (parts, mut body) = response.into_parts();
        let body = match self.http.beginning(&mut body, MOST_REFUSAL) {
            Err(Failure::Cancelled) => return Err(RegistryError::Cancelled),
            // What it says is of less interest than that it refuses.
            body => body.unwrap_or_default(),
        };
        Err(self.refusal(what, parts.status, &parts.headers, &body))
    }

    /// All of a small answer; none, if it has more than `limit` bytes.
    pub(super) fn document(&self, body: &mut Body, limit: u64, what: &str) -> Result<Option<Vec<u8>>, RegistryError> {
        self.http.document(body, limit).map_err(|failure| self.failed(failure, what))
    }

    /// An error of a connection that was made for this registry.
    pub(super) fn failure(&self, error: ureq::Error, what: &str) -> RegistryError {
        self.failed(self.http.failure(error), what)
    }

    pub(super) fn broken(&self, what: &str, error: Cause) -> RegistryError {
        RegistryError::Broken { what: what.to_owned(), registry: self.registry.clone(), error }
    }

    /// Reports an irregularity of a response.
    pub(super) fn note(&self, what: &str, problem: &str) {
        self.options.notes.tell(format!("{what}: the registry {} {problem}", self.registry));
    }

    pub(super) fn protocol(&self, what: &str, problem: impl Into<String>) -> RegistryError {
        RegistryError::Protocol { what: what.to_owned(), registry: self.registry.clone(), problem: problem.into() }
    }

    /// Sends a request, and what redirects make of it. Credentials are for the registry alone, wherever it sends us.
    fn follow(
        &self,
        request: &mut Request<'_>,
        authorization: Option<&str>,
    ) -> Result<(Response<Body>, String), RegistryError> {
        let start = request.address.clone();
        let mut address = start.clone();
        // Never downgrade from HTTPS to HTTP, not even for redirected uploads, also where an upload is sent elsewhere.
        let mut from = self.base(&request.what)?.to_owned();
        for _ in 0..=MOST_REDIRECTS {
            if from.starts_with("https://") && !address.starts_with("https://") {
                let problem = format!("a redirect from HTTPS to the unencrypted {address}");
                return Err(self.protocol(&request.what, problem));
            }
            let mut built = HttpRequest::builder().method(request.method.clone()).uri(address.as_str());
            for (name, value) in &request.headers {
                built = built.header(name, value);
            }
            if let Some(authorization) = authorization
                && same_server(&address, self.base(&request.what)?)
            {
                built = built.header(AUTHORIZATION, authorization);
            }
            if let Some(via) = &self.via
                && same_server(&address, self.base(&request.what)?)
            {
                for (name, value) in &via.mirror.headers {
                    built = built.header(name, value);
                }
            }
            let response = self.send(built, &request.method, &mut request.body).map_err(|failure| match failure {
                Sending::Address(error) => {
                    self.protocol(&request.what, format!("a redirect to {address:?}, which is not an address: {error}"))
                }
                Sending::Failure(failure) => self.failed(failure, &request.what),
            })?;
            self.answered.store(true, Ordering::Relaxed);
            let leads_on = match response.status().as_u16() {
                301 | 302 | 307 | 308 => true,
                // To a page that says what came of it (RFC 9110, 15.4.4).
                303 => matches!(request.method, Method::GET | Method::HEAD),
                _ => false,
            };
            if !leads_on {
                return Ok((response, address));
            }
            let Some(location) = response.headers().get(LOCATION) else {
                return Err(self.protocol(&request.what, "a redirect without a Location"));
            };
            let Some(next) = resolve(&address, location.as_bytes()) else {
                let location = String::from_utf8_lossy(location.as_bytes());
                return Err(
                    self.protocol(&request.what, format!("a redirect to {location:?}, which is not an address"))
                );
            };
            from = std::mem::replace(&mut address, next);
        }
        Err(self.protocol(&request.what, format!("more than {MOST_REDIRECTS} redirects, from {start} on")))
    }

    fn send(&self, request: Builder, method: &Method, body: &mut Content<'_>) -> Result<Response<Body>, Sending> {
        let mut bytes: &[u8] = &[];
        let (reader, length): (&mut dyn Read, u64) = match body {
            Content::Nothing if matches!(*method, Method::GET | Method::HEAD) => {
                return Ok(self.http.run(request.body(SendBody::none())?)?);
            }
            // Some registries want to be told that nothing comes.
            Content::Nothing => (&mut bytes, 0),
            Content::Bytes(content) => {
                bytes = content;
                (&mut bytes, content.len() as u64)
            }
            Content::Stream(reader, length) => {
                reader.rewind();
                (reader, *length)
            }
        };
        Ok(self.http.run(request.header(CONTENT_LENGTH, length).body(SendBody::from_reader(reader))?)?)
    }

    /// Where the registry is. One on this machine's loopback may do without TLS, so it is tried.
    fn base(&self, what: &str) -> Result<&str, RegistryError> {
        if let Some(base) = self.base.get() {
            return Ok(base);
        }
        let secure = if self.options.plain_http {
            false
        } else if self.options.insecure || is_loopback(&self.authority) {
            self.speaks_tls(what)?
        } else {
            true
        };
        let scheme = if secure { "https" } else { "http" };
        Ok(self.base.get_or_init(|| format!("{scheme}://{}", self.authority)))
    }

    fn speaks_tls(&self, what: &str) -> Result<bool, RegistryError> {
        let address = format!("https://{}/v2/", self.authority);
        let request = HttpRequest::builder().uri(address.as_str()).body(SendBody::none());
        let request = request.map_err(|error| self.protocol(what, error.to_string()))?;
        match self.http.run(request) {
            Ok(_) => Ok(true),
            // Some servers respond in plain HTTP, some close the connection.
            Err(Failure::NotTls | Failure::Broken(_)) => Ok(false),
            // Where both are allowed, the other port may have it.
            Err(Failure::Unreachable(_)) if self.options.insecure => Ok(false),
            Err(failure) => Err(self.failed(failure, what)),
        }
    }

    fn failed(&self, failure: Failure, what: &str) -> RegistryError {
        let registry = self.registry.clone();
        match failure {
            Failure::Setup(error) => error,
            Failure::Cancelled => RegistryError::Cancelled,
            Failure::Certificate(Untrusted { problem, is_unknown }) => {
                RegistryError::Certificate { registry, problem, is_unknown, end: self.options.end }
            }
            Failure::ClientCertificate(problem) => {
                RegistryError::ClientCertificate { registry, problem, end: self.options.end }
            }
            Failure::NoAnswer(waited) => RegistryError::NoAnswer { what: what.to_owned(), registry, waited },
            Failure::TooSlow(within) => RegistryError::TooSlow { what: what.to_owned(), registry, within },
            Failure::NotTls => RegistryError::NotTls { registry, end: self.options.end },
            Failure::Unreachable(error) if !self.answered.load(Ordering::Relaxed) => {
                RegistryError::Unreachable { registry, error }
            }
            Failure::Unreachable(error) | Failure::Broken(error) => self.broken(what, error),
        }
    }

    fn answering(&self, problem: Answering, what: &str) -> RegistryError {
        match problem {
            Answering::Failure(failure) => self.failed(failure, what),
            Answering::Credentials(error) => error,
            Answering::Protocol(problem) => self.protocol(what, problem),
            Answering::Token { server, problem, passing, retry_after } => RegistryError::Token {
                what: what.to_owned(),
                registry: self.registry.clone(),
                server,
                problem,
                passing,
                retry_after,
            },
            Answering::Denied(problem) => RegistryError::Denied {
                what: what.to_owned(),
                registry: self.registry.clone(),
                problem: format!("{problem}; {}", self.authorizer.advice(&HeaderMap::new())),
                anonymous: self.anonymous(),
            },
        }
    }

    /// Which end of a copy the registry is, if there are no credentials for it.
    fn anonymous(&self) -> Option<End> {
        self.authorizer.is_anonymous().then_some(self.options.end)
    }

    /// The error for a response with an unexpected status.
    fn refusal(&self, what: String, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> RegistryError {
        let message = message(body);
        let registry = self.registry.clone();
        let and = |advice: &str| if message.is_empty() { advice.to_owned() } else { format!("{message}; {advice}") };
        match status.as_u16() {
            401 | 403 => {
                let problem = and(&self.authorizer.advice(headers));
                RegistryError::Denied { what, registry, problem, anonymous: self.anonymous() }
            }
            404 => RegistryError::NotFound { what, registry, problem: and("check the name") },
            code => RegistryError::Refused {
                what,
                registry,
                status: status.to_string(),
                message,
                passing: is_passing(code),
                retry_after: header(headers, &RETRY_AFTER).and_then(retry_after),
            },
        }
    }
}

/// Why a request was not answered.
enum Sending {
    Address(ureq::http::Error),
    Failure(Failure),
}

impl From<ureq::http::Error> for Sending {
    fn from(error: ureq::http::Error) -> Self {
        Self::Address(error)
    }
}

impl From<Failure> for Sending {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Whether it may help to ask again after such a status.
pub(super) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// A header's value, if it is text.
pub(super) fn header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// What a refusal says: the errors of the specification, or any short text.
pub(super) fn message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<Said>,
    }
    #[derive(serde::Deserialize)]
    struct Said {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Errors>(body) {
        Ok(said) => {
            let say = |said: &Said| if said.message.is_empty() { said.code.clone() } else { said.message.clone() };
            said.errors.iter().map(say).collect::<Vec<_>>().join("; ")
        }
        // Ignore HTML error pages.
        Err(_) if body.trim_ascii_start().starts_with(b"<") => String::new(),
        Err(_) => String::from_utf8_lossy(body).lines().next().unwrap_or_default().trim().to_owned(),
    };
    text.chars().take(MOST_SHOWN).collect()
}
