//! Authenticates to a registry: with a user name and password in every request, or with a token from a token server
//! (distribution, docs/spec/auth; RFC 7617, RFC 6750).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use ureq::SendBody;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use ureq::http::{HeaderMap, Method, Request as HttpRequest};

use super::address::{parameters, same_server, stays_here, with_parameters};
use super::challenge::{Challenge, challenges};
use super::credentials::{self, Credentials, Found, member};
use super::http::{Failure, Http};
use super::location::resolve;
use super::retry::retry_after;
use super::session::{header, is_passing, message};
use super::{RegistryError, RegistryOptions, encoding};
use crate::core::cancel::Cancel;

const MOST_REDIRECTS: usize = 5;
/// A token is a few kilobytes.
const MOST_ANSWER: u64 = 1 << 20;
const CLIENT: &str = "layflat";

/// Answers challenges, and remembers the answers.
#[derive(Debug)]
pub(super) struct Authorizer {
    registry: String,
    repository: String,
    options: RegistryOptions,
    cancel: Cancel,
    found: OnceLock<Found>,
    /// Header values by scope.
    known: Mutex<HashMap<String, String>>,
}

/// A response that demands authentication.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand<'a> {
    pub(super) headers: &'a HeaderMap,
    /// The address that it came from.
    pub(super) from: &'a str,
}

impl Authorizer {
    /// With `anonymous` no credentials are looked for.
    pub(super) fn new(
        registry: &str,
        repository: &str,
        options: &RegistryOptions,
        anonymous: bool,
        cancel: &Cancel,
    ) -> Self {
        Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            options: options.clone(),
            cancel: cancel.clone(),
            found: if anonymous { Found::default().into() } else { OnceLock::new() },
            known: Mutex::default(),
        }
    }

    /// The `Authorization` header for these scopes, if it is known already.
    pub(super) fn known(&self, scopes: &[String]) -> Option<String> {
        self.known.lock().ok()?.get(&scopes.join(" ")).cloned()
    }

    /// Whether the user has credentials for the registry.
    pub(super) fn is_logged_in(&self) -> Result<bool, RegistryError> {
        Ok(self.credentials()?.is_some())
    }

    /// Whether no credentials for the registry were found, as far as they were looked for.
    pub(super) fn is_anonymous(&self) -> bool {
        self.found.get().is_none_or(|found| found.credentials.is_none())
    }

    /// What the user can do after access was denied.
    pub(super) fn advice(&self, headers: &HeaderMap) -> String {
        let found = self.found.get();
        let Some((credentials, path)) = found.and_then(|found| found.credentials.as_ref()) else {
            let mut advice =
                format!("if it is there, log in (`podman login {0}` or `docker login {0}`)", self.registry);
            for skipped in found.iter().flat_map(|found| &found.skipped) {
                advice.push_str(&format!("; {skipped}"));
            }
            return advice;
        };
        let challenges = challenges(headers);
        if !challenges.is_empty() && !challenges.iter().any(Challenge::is_known) {
            let schemes: Vec<&str> = challenges.iter().map(|challenge| challenge.scheme.as_str()).collect();
            return format!(
                "it asks for credentials in a way that is not supported ({}); Basic, and Bearer with a realm, are",
                schemes.join(", ")
            );
        }
        let what = match credentials {
            Credentials::Password { username, .. } => format!("the credentials of {username}"),
            Credentials::IdentityToken(_) => "the identity token".to_owned(),
            Credentials::RegistryToken(_) => "the registry token".to_owned(),
        };
        match self.options.credentials {
            Some(_) => format!("{what} that were given were refused"),
            None => format!("{what} from {} were refused", path.display()),
        }
    }

    /// The `Authorization` header that answers a demand, for these scopes; `None` if there is no way to answer it.
    pub(super) fn answer(
        &self,
        demand: Demand<'_>,
        scopes: &[String],
        http: &Http,
    ) -> Result<Option<String>, Answering> {
        let challenges = challenges(demand.headers);
        let bearers = challenges.iter().filter(|challenge| challenge.scheme == "bearer");
        let others = challenges.iter().filter(|challenge| challenge.scheme == "basic");
        let mut failed = None;
        for challenge in bearers.chain(others).filter(|challenge| challenge.is_known()) {
            match self.meet(challenge, demand.from, scopes, http) {
                Ok(Some(value)) => return Ok(Some(self.remember(scopes, value))),
                Ok(None) => {}
                // Another may do.
                Err(problem) => failed = failed.or(Some(problem)),
            }
        }
        match failed {
            Some(problem) => Err(problem),
            // A 401 without a challenge gets what most registries accept.
            None if challenges.is_empty() => Ok(self.password()?.map(|value| self.remember(scopes, value))),
            None => Ok(None),
        }
    }

    fn remember(&self, scopes: &[String], value: String) -> String {
        if let Ok(mut known) = self.known.lock() {
            known.insert(scopes.join(" "), value.clone());
        }
        value
    }

    fn meet(
        &self,
        challenge: &Challenge,
        from: &str,
        scopes: &[String],
        http: &Http,
    ) -> Result<Option<String>, Answering> {
        let Some(realm) = challenge.parameter("realm").filter(|_| challenge.scheme == "bearer") else {
            return Ok(self.password()?);
        };
        if let Some(Credentials::RegistryToken(token)) = self.credentials()? {
            return Ok(Some(format!("Bearer {token}")));
        }
        let realm = self.realm(realm, from)?;
        let mut scopes = scopes.to_vec();
        scopes.extend(missing(&scopes, challenge.parameter("scope").unwrap_or_default()));
        Ok(Some(format!("Bearer {}", self.token(&realm, challenge.parameter("service"), &scopes, http)?)))
    }

    /// What to show a registry that takes passwords itself.
    fn password(&self) -> Result<Option<String>, RegistryError> {
        Ok(match self.credentials()? {
            Some(Credentials::Password { username, password }) => Some(basic(username, password)),
            Some(Credentials::RegistryToken(token)) => Some(format!("Bearer {token}")),
            Some(Credentials::IdentityToken(_)) | None => None,
        })
    }

    /// Where tokens are, which may be relative to the registry. Secrets go nowhere in the clear, but where that was
    /// asked for, or where they stay on this machine.
    fn realm(&self, realm: &str, from: &str) -> Result<String, Answering> {
        let wrong = |problem: &str| Answering::Protocol(format!("its token server {realm} {problem}"));
        let address = resolve(from, realm.as_bytes()).ok_or_else(|| wrong("is not an address"))?;
        if address.starts_with("https://") {
            return Ok(address);
        }
        let registry_is_plain = !from.starts_with("https://");
        if registry_is_plain && (self.options.plain_http || self.options.insecure || stays_here(&address)) {
            return Ok(address);
        }
        // A registry behind a proxy that does the TLS may not know that it has any.
        match address.strip_prefix("http://") {
            Some(rest) if !registry_is_plain && !rest.split('/').next().unwrap_or(rest).contains(':') => {
                Ok(format!("https://{rest}"))
            }
            _ => Err(wrong("is not encrypted")),
        }
    }

    fn credentials(&self) -> Result<Option<&Credentials>, RegistryError> {
        if self.found.get().is_none() {
            let found = match &self.options.credentials {
                Some(given) => Found { credentials: Some((given.clone(), PathBuf::new())), skipped: Vec::new() },
                None => {
                    let authfile = self.options.authfile.as_deref();
                    credentials::find(&self.registry, &self.repository, authfile, &self.cancel)?
                }
            };
            if self.cancel.is_cancelled() {
                return Err(RegistryError::Cancelled);
            }
            for skipped in &found.skipped {
                self.options.notes.tell(format!("{skipped}; skipped"));
            }
            self.found.get_or_init(|| found);
        }
        let found = self.found.get().and_then(|found| found.credentials.as_ref());
        Ok(found.map(|(credentials, _)| credentials))
    }

    fn token(&self, realm: &str, service: Option<&str>, scopes: &[String], http: &Http) -> Result<String, Answering> {
        let mut address = realm.to_owned();
        let failed =
            |problem: String| Answering::Token { server: realm.to_owned(), problem, passing: false, retry_after: None };
        for _ in 0..=MOST_REDIRECTS {
            let request = self.request(&address, address == realm, same_server(&address, realm), service, scopes)?;
            let request = request.map_err(|error| failed(format!("is not an address: {error}")))?;
            let elsewhere = |failure: Failure| Answering::Failure(failure.of(&format!("{realm}, its token server")));
            let mut response = http.run(request).map_err(elsewhere)?;
            let status = response.status();
            let body = http.beginning(response.body_mut(), MOST_ANSWER);
            let said = || message(body.as_deref().unwrap_or_default());
            let and = |text: String| if said().is_empty() { text } else { format!("{text}: {}", said()) };
            match status.as_u16() {
                200..=299 => {
                    let body = body.map_err(elsewhere)?;
                    return token_of(&encoding::document(body, MOST_ANSWER)).map_err(failed);
                }
                400 | 401 | 403 => return Err(Answering::Denied(and(format!("{realm} refused a token ({status})")))),
                301 | 302 | 303 | 307 | 308 => {
                    let next =
                        header(response.headers(), &LOCATION).and_then(|next| resolve(&address, next.as_bytes()));
                    let next = next.ok_or_else(|| failed("redirects to nowhere".to_owned()))?;
                    if address.starts_with("https://") && !next.starts_with("https://") {
                        return Err(failed(format!("redirects to {next}, which is not encrypted")));
                    }
                    // The secret is in what is sent, and is for this server alone.
                    if matches!(self.credentials()?, Some(Credentials::IdentityToken(_))) && !same_server(&next, realm)
                    {
                        return Err(failed(format!(
                            "redirects to {next}, another server, which is not told the token"
                        )));
                    }
                    address = next;
                }
                code => {
                    return Err(Answering::Token {
                        server: realm.to_owned(),
                        problem: and(format!("answered {status}")),
                        passing: is_passing(code),
                        retry_after: header(response.headers(), &RETRY_AFTER).and_then(retry_after),
                    });
                }
            }
        }
        Err(failed(format!("redirects more than {MOST_REDIRECTS} times")))
    }

    /// How a token is asked for: `first` at the realm itself, else where it redirects to, which has the parameters
    /// already.
    fn request(
        &self,
        address: &str,
        first: bool,
        is_realm: bool,
        service: Option<&str>,
        scopes: &[String],
    ) -> Result<Result<HttpRequest<SendBody<'static>>, ureq::http::Error>, RegistryError> {
        let with = |account: Option<&str>| {
            let scope = scopes.iter().map(|scope| ("scope", scope.as_str()));
            let asked = service.map(|service| ("service", service)).into_iter().chain(scope);
            let asked = parameters(asked.chain(account.map(|account| ("account", account))));
            if first { with_parameters(address, &asked) } else { address.to_owned() }
        };
        Ok(match self.credentials()? {
            Some(Credentials::IdentityToken(token)) => {
                // OAuth (RFC 6749, 6) has all scopes in one parameter.
                let all = scopes.join(" ");
                let form = parameters([
                    ("grant_type", "refresh_token"),
                    ("client_id", CLIENT),
                    ("service", service.unwrap_or_default()),
                    ("scope", &all),
                    ("refresh_token", token),
                ]);
                HttpRequest::builder()
                    .method(Method::POST)
                    .uri(address)
                    .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .header(CONTENT_LENGTH, form.len())
                    .body(SendBody::from_owned_reader(std::io::Cursor::new(form)))
            }
            Some(Credentials::Password { username, password }) => {
                let mut request = HttpRequest::builder().uri(with(Some(username)));
                if is_realm {
                    request = request.header(AUTHORIZATION, basic(username, password));
                }
                request.body(SendBody::none())
            }
            Some(Credentials::RegistryToken(_)) | None => HttpRequest::builder().uri(with(None)).body(SendBody::none()),
        })
    }
}

/// The token in an answer, under either of its names.
fn token_of(body: &[u8]) -> Result<String, String> {
    let answer: Value = serde_json::from_slice(body)
        .map_err(|error| format!("answered without a token: {}", credentials::misfit(&error)))?;
    let text = |name: &str| member(&answer, name).and_then(Value::as_str).filter(|token| !token.is_empty());
    let token = text("token").or_else(|| text("access_token"));
    token.map(str::to_owned).ok_or_else(|| "answered without a token".to_owned())
}

/// What of the scopes that a challenge names is not in ours: some registries know a repository by another name.
fn missing(ours: &[String], theirs: &str) -> Vec<String> {
    let covers = |our: &String, their: &str| {
        let (Some((name, actions)), Some((known, offered))) = (their.rsplit_once(':'), our.rsplit_once(':')) else {
            return our == their;
        };
        name == known && actions.split(',').all(|action| offered.split(',').any(|offered| offered == action))
    };
    let theirs = theirs.split_whitespace();
    theirs.filter(|their| !ours.iter().any(|our| covers(our, their))).map(str::to_owned).collect()
}

/// Why a challenge cannot be answered.
#[derive(Debug)]
pub(super) enum Answering {
    Failure(Failure),
    Denied(String),
    /// The server that gives out tokens does not.
    Token {
        server: String,
        problem: String,
        passing: bool,
        retry_after: Option<Duration>,
    },
    Protocol(String),
    Credentials(RegistryError),
}

impl From<RegistryError> for Answering {
    fn from(error: RegistryError) -> Self {
        Self::Credentials(error)
    }
}

fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_of_another_name_are_asked_for_too() {
        let ours = ["repository:a:pull,push".to_owned()];
        for (theirs, expected) in [
            ("", &[][..]),
            ("repository:a:pull", &[]),
            ("repository:a:push,pull", &[]),
            ("repository:library/a:pull", &["repository:library/a:pull"]),
            ("repository:a:pull registry:catalog:*", &["registry:catalog:*"]),
            ("aws", &["aws"]),
        ] {
            assert_eq!(missing(&ours, theirs), expected, "{theirs}");
        }
    }

    #[test]
    fn a_token_has_two_names() {
        for good in
            [r#"{"token": "t"}"#, r#"{"token": "", "access_token": "t", "expires_in": null}"#, r#"{"Token": "t"}"#]
        {
            assert_eq!(token_of(good.as_bytes()).unwrap(), "t", "{good}");
        }
        for bad in ["<html>", "", "{}", "[]", r#"{"token": 1}"#] {
            assert!(token_of(bad.as_bytes()).unwrap_err().starts_with("answered without a token"), "{bad}");
        }
    }
}
