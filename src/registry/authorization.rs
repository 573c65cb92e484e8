//! What a registry wants to see before it answers: a name and password with every request, or a token that another server gives out
//! (distribution's token authentication, docs/spec/auth; RFC 7617, RFC 6750).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_auth::ParamValue;
use serde::Deserialize;
use ureq::SendBody;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use ureq::http::{HeaderMap, Method, Request as HttpRequest};

use super::address::{parameters, stays_here, with_parameters};
use super::credentials::{self, Credentials};
use super::http::{Failure, Http};
use super::{RegistryError, RegistryOptions};

/// A token is a few kilobytes.
const MOST_ANSWER: u64 = 1 << 20;
const CLIENT: &str = "layflat";

/// How a registry wants to know who asks.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

/// Answers challenges, and remembers the answers.
#[derive(Debug)]
pub(super) struct Authorizer {
    registry: String,
    repository: String,
    options: RegistryOptions,
    credentials: OnceLock<Option<(Credentials, PathBuf)>>,
    /// Header values by scope.
    known: Mutex<HashMap<String, String>>,
}

impl Authorizer {
    pub(super) fn new(registry: &str, repository: &str, options: &RegistryOptions) -> Self {
        Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            options: options.clone(),
            credentials: OnceLock::new(),
            known: Mutex::default(),
        }
    }

    /// What to show for these scopes, as far as is known.
    pub(super) fn known(&self, scopes: &[String]) -> Option<String> {
        self.known.lock().ok()?.get(&scopes.join(" ")).cloned()
    }

    /// What the user can do about a refusal.
    pub(super) fn advice(&self) -> String {
        match self.credentials.get() {
            Some(Some((_, path))) if self.options.credentials.is_none() => {
                format!("the credentials of {} are not good for this", path.display())
            }
            Some(Some(_)) => "the credentials that were given are not good for this".to_owned(),
            _ => format!(
                "if it is there, log in (`podman login {0}` or `docker login {0}`), or give {1} and {2}",
                self.registry,
                self.options.end.option("username"),
                self.options.end.option("password-stdin")
            ),
        }
    }

    /// Answers the challenge of a response, for these scopes; nothing if there is no way to answer it.
    pub(super) fn answer(
        &self,
        headers: &HeaderMap,
        from: &str,
        scopes: &[String],
        http: &Http,
    ) -> Result<Option<String>, Answering> {
        let challenges = challenges(headers);
        let bearer = challenges.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        let value = match bearer.or(challenges.first()) {
            None => return Ok(None),
            Some(Challenge::Basic) => match self.credentials()? {
                Some(Credentials::Password { username, password }) => basic(username, password),
                _ => return Ok(None),
            },
            Some(Challenge::Bearer { realm, service }) => {
                // Secrets go nowhere in the clear, but where that was asked for, or where they stay on this machine.
                let may_be_plain = !from.starts_with("https://")
                    && (self.options.plain_http || self.options.insecure || stays_here(realm));
                if !realm.starts_with("https://") && !may_be_plain {
                    let problem = format!("it sends for a token to {realm}, which is not encrypted");
                    return Err(Answering::Nonsense(problem));
                }
                let token = self.token(realm, service.as_deref(), scopes, http)?;
                format!("Bearer {token}")
            }
        };
        if let Ok(mut known) = self.known.lock() {
            known.insert(scopes.join(" "), value.clone());
        }
        Ok(Some(value))
    }

    fn credentials(&self) -> Result<Option<&Credentials>, RegistryError> {
        if self.credentials.get().is_none() {
            let found = match &self.options.credentials {
                Some(given) => Some((given.clone(), PathBuf::new())),
                None => credentials::find(&self.registry, &self.repository, self.options.authfile.as_deref())?,
            };
            self.credentials.get_or_init(|| found);
        }
        Ok(self.credentials.get().and_then(Option::as_ref).map(|(credentials, _)| credentials))
    }

    fn token(&self, realm: &str, service: Option<&str>, scopes: &[String], http: &Http) -> Result<String, Answering> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let credentials = self.credentials()?;
        let scope = scopes.iter().map(|scope| ("scope", scope.as_str()));
        let asked = service.map(|service| ("service", service)).into_iter().chain(scope);
        let request = match credentials {
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
                    .uri(realm)
                    .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .header(CONTENT_LENGTH, form.len())
                    .body(SendBody::from_owned_reader(std::io::Cursor::new(form)))
            }
            Some(Credentials::Password { username, password }) => HttpRequest::builder()
                .uri(with_parameters(realm, &parameters(asked.chain([("account", username.as_str())]))))
                .header(AUTHORIZATION, basic(username, password))
                .body(SendBody::none()),
            None => HttpRequest::builder().uri(with_parameters(realm, &parameters(asked))).body(SendBody::none()),
        };
        let nonsense = |problem: String| Answering::Nonsense(format!("{realm}, which gives out its tokens, {problem}"));
        let request = request.map_err(|error| nonsense(format!("is no address: {error}")))?;
        let elsewhere =
            |failure: Failure| Answering::Failure(failure.of(&format!("{realm}, which gives out its tokens")));
        let mut response = http.run(request).map_err(elsewhere)?;
        let status = response.status();
        let body = response.body_mut().with_config().limit(MOST_ANSWER).read_to_vec();
        match status.as_u16() {
            200..=299 => {}
            400 | 401 | 403 => return Err(Answering::Denied(format!("{realm} gives no token ({status})"))),
            _ => return Err(Answering::Status(status, response.headers().clone(), body.unwrap_or_default())),
        }
        let body = body.map_err(|error| elsewhere(http.failure(error)))?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|error| nonsense(format!("answers what is no token: {}", credentials::misfit(&error))))?;
        let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
        token.ok_or_else(|| nonsense("answers without a token".to_owned()))
    }
}

/// Why there is no answer to a challenge.
#[derive(Debug)]
pub(super) enum Answering {
    Failure(Failure),
    Denied(String),
    Status(ureq::http::StatusCode, HeaderMap, Vec<u8>),
    Nonsense(String),
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

/// The challenges that can be answered.
fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let mut found = Vec::new();
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(parsed) = http_auth::parse_challenges(value.to_str().unwrap_or_default()) else { continue };
        for challenge in parsed {
            let parameter = |wanted: &str| {
                let is_it = |(name, _): &&(&str, ParamValue<'_>)| name.eq_ignore_ascii_case(wanted);
                challenge.params.iter().find(is_it).map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                found.push(Challenge::Basic);
            } else if challenge.scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = parameter("realm")
            {
                found.push(Challenge::Bearer { realm, service: parameter("service") });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let mut headers = HeaderMap::new();
        let bearer =
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull""#;
        headers.append(WWW_AUTHENTICATE, bearer.parse().unwrap());
        headers.append(WWW_AUTHENTICATE, "basic realm=x".parse().unwrap());
        headers.append(WWW_AUTHENTICATE, "Negotiate".parse().unwrap());
        let service = Some("registry.docker.io".to_owned());
        let expected =
            [Challenge::Bearer { realm: "https://auth.docker.io/token".to_owned(), service }, Challenge::Basic];
        assert_eq!(challenges(&headers), expected);
    }
}
