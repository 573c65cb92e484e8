//! Who asks: what the user says, or what `docker login`, `podman login`, `skopeo login` and their kin have left (containers-auth.json(5); Docker's
//! config.json has the same form).
//!
//! Read here and not by the crate docker_credential, which takes a registry's whole host alone for a key, where containers' files may
//! have one for a part of it, and which says neither which file nor what in it is wrong.

use std::collections::HashMap;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::RegistryError;

/// Docker Hub's name in Docker's files.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// The name under which helpers keep what is no password.
const TOKEN: &str = "<token>";
/// What helpers say who have nothing.
const NOT_FOUND: &str = "credentials not found";

/// Who asks a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and its password.
    Password {
        /// The name.
        username: String,
        /// The password, or an access token in its place.
        password: String,
    },
    /// What a registry gave for a password once, to ask for tokens with.
    IdentityToken(String),
}

/// Secrets are not for logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { username, .. } => {
                formatter.debug_struct("Password").field("username", username).finish_non_exhaustive()
            }
            Self::IdentityToken(_) => formatter.debug_struct("IdentityToken").finish_non_exhaustive(),
        }
    }
}

/// A file of credentials.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthFile {
    #[serde(default)]
    auths: HashMap<String, Entry>,
    #[serde(default)]
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// Finds the credentials for a repository, and the file that they are from. That there are none is no error: much is public.
pub(super) fn find(
    registry: &str,
    repository: &str,
    authfile: Option<&Path>,
) -> Result<Option<(Credentials, PathBuf)>, RegistryError> {
    let environment = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let named = authfile.map(Path::to_owned).or_else(|| environment("REGISTRY_AUTH_FILE"));
    if let Some(path) = named {
        let found = look_in(&path, registry, repository, true)?;
        return Ok(found.map(|credentials| (credentials, path)));
    }
    let home = environment("HOME");
    let runtime = environment("XDG_RUNTIME_DIR")
        .unwrap_or_else(|| format!("/run/containers/{}", rustix::process::geteuid().as_raw()).into());
    let config = environment("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
    let docker = environment("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
    // containers' own first, as they have it.
    let places = [
        Some(runtime.join(if runtime.starts_with("/run/containers") { "auth.json" } else { "containers/auth.json" })),
        config.map(|config| config.join("containers/auth.json")),
        docker.map(|docker| docker.join("config.json")),
    ];
    for path in places.into_iter().flatten() {
        if let Some(credentials) = look_in(&path, registry, repository, false)? {
            return Ok(Some((credentials, path)));
        }
    }
    Ok(None)
}

fn look_in(
    path: &Path,
    registry: &str,
    repository: &str,
    must_be_there: bool,
) -> Result<Option<Credentials>, RegistryError> {
    let wrong = |problem: String| RegistryError::File { path: path.to_owned(), problem };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        // Not there, or in a directory of somebody else's.
        Err(_) if !must_be_there && path.metadata().is_err() => return Ok(None),
        Err(error) => return Err(wrong(format!("cannot read the credentials: {error}"))),
    };
    let file: AuthFile = serde_json::from_slice(&bytes)
        .map_err(|error| wrong(format!("is no file of credentials: {}", misfit(&error))))?;
    let host = if registry == "docker.io" { DOCKER_HUB } else { registry };
    // An entry may be there with nothing in it, to say that the store has it.
    if let Some(helper) = helper_for(&file, registry)
        && let Some(credentials) = ask(helper, host, path)?
    {
        return Ok(Some(credentials));
    }
    match entry_for(&file, registry, repository) {
        Some(entry) => decode(entry).map_err(|problem| wrong(format!("its entry for {registry} {problem}"))),
        None => Ok(None),
    }
}

fn helper_for<'f>(file: &'f AuthFile, registry: &str) -> Option<&'f str> {
    let own = file.cred_helpers.iter().find(|(key, _)| host_of(key) == registry).map(|(_, helper)| helper);
    own.or(file.creds_store.as_ref()).map(String::as_str).filter(|helper| !helper.is_empty())
}

/// The entry for the longest beginning of `registry/repository`; Docker's keys are addresses, of which the host counts.
fn entry_for<'f>(file: &'f AuthFile, registry: &str, repository: &str) -> Option<&'f Entry> {
    let whole = format!("{registry}/{repository}");
    let mut key = whole.as_str();
    while let Some((shorter, _)) = key.rsplit_once('/') {
        if let Some(entry) = file.auths.get(key) {
            return Some(entry);
        }
        key = shorter;
    }
    let exact = file.auths.get(registry);
    exact.or_else(|| {
        let is_it = |key: &str| (key.contains("://") || !key.contains('/')) && host_of(key) == registry;
        file.auths.iter().find(|(key, _)| is_it(key)).map(|(_, entry)| entry)
    })
}

/// The registry that a key of Docker's means.
fn host_of(key: &str) -> &str {
    let bare = key.strip_prefix("https://").or(key.strip_prefix("http://")).unwrap_or(key);
    match bare.split('/').next().unwrap_or(bare) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

/// Where a document is not what it should be. What stands there may be a secret, and is not told.
pub(super) fn misfit(error: &serde_json::Error) -> String {
    let problem = if error.is_data() { "it holds something else than it should" } else { "it is no JSON document" };
    format!("{problem}, see line {} column {}", error.line(), error.column())
}

fn decode(entry: &Entry) -> Result<Option<Credentials>, String> {
    if let Some(token) = entry.identitytoken.as_ref().filter(|token| !token.is_empty()) {
        return Ok(Some(Credentials::IdentityToken(token.clone())));
    }
    if let Some(auth) = entry.auth.as_ref().filter(|auth| !auth.is_empty()) {
        let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let bytes =
            GeneralPurpose::new(&STANDARD, config).decode(auth.trim()).map_err(|_| "is no base64".to_owned())?;
        let text = String::from_utf8(bytes).map_err(|_| "is no text".to_owned())?;
        let (username, password) = text.split_once(':').ok_or("has no colon between name and password")?;
        // Some writers end it with NULs.
        let password = password.trim_end_matches('\0').to_owned();
        return Ok(Some(Credentials::Password { username: username.to_owned(), password }));
    }
    match (&entry.username, &entry.password) {
        (Some(username), Some(password)) => {
            Ok(Some(Credentials::Password { username: username.clone(), password: password.clone() }))
        }
        _ => Ok(None),
    }
}

/// Asks a program for what it keeps (docker/docker-credential-helpers).
fn ask(helper: &str, host: &str, path: &Path) -> Result<Option<Credentials>, RegistryError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let wrong = |problem: String| RegistryError::Helper { helper: helper.to_owned(), path: path.to_owned(), problem };
    if helper.contains('/') {
        return Err(wrong("is no program's name".to_owned()));
    }
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| wrong(format!("cannot be started: {error}")))?;
    if let Some(mut input) = child.stdin.take() {
        // Who does not read it will say so.
        let _ = input.write_all(host.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| wrong(format!("cannot be waited for: {error}")))?;
    if !output.status.success() {
        let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        return if said.contains(NOT_FOUND) { Ok(None) } else { Err(wrong(format!("fails: {said}"))) };
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .map_err(|error| wrong(format!("answers what is no credentials: {}", misfit(&error))))?;
    Ok(Some(match answer.username.as_str() {
        TOKEN => Credentials::IdentityToken(answer.secret),
        _ => Credentials::Password { username: answer.username, password: answer.secret },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(username: &str) -> Credentials {
        Credentials::Password { username: username.to_owned(), password: "p:w".to_owned() }
    }

    fn auth(username: &str) -> serde_json::Value {
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{username}:p:w"));
        serde_json::json!({"auth": encoded})
    }

    #[test]
    fn the_longest_key_that_fits_counts() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("auth.json");
        let auths = serde_json::json!({"auths": {
            "quay.io": auth("all"), "quay.io/team": auth("team"), "quay.io/team/app": auth("app"),
            "https://index.docker.io/v1/": auth("hub"), "localhost:5000": auth("local"),
        }});
        std::fs::write(&path, auths.to_string()).unwrap();
        for (registry, repository, expected) in [
            ("quay.io", "other/app", Some("all")),
            ("quay.io", "team/other", Some("team")),
            ("quay.io", "team/app", Some("app")),
            ("docker.io", "library/debian", Some("hub")),
            ("localhost:5000", "a", Some("local")),
            ("localhost", "a", None),
        ] {
            let found = find(registry, repository, Some(&path)).unwrap();
            assert_eq!(found.map(|(credentials, _)| credentials), expected.map(password), "{registry}/{repository}");
        }
    }

    #[test]
    fn a_bad_file_is_named_with_what_is_wrong() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("auth.json");
        let error = |text: &str| {
            std::fs::write(&path, text).unwrap();
            find("quay.io", "a", Some(&path)).unwrap_err().to_string()
        };
        assert!(
            error("[").contains("auth.json\": is no file of credentials: it is no JSON document, see line 1 column 1")
        );
        let misplaced = error(r#"{"auths": {"quay.io": "c2VjcmV0"}}"#);
        assert!(misplaced.ends_with("it holds something else than it should, see line 1 column 32"), "{misplaced}");
        assert!(error(r#"{"auths": {"quay.io": {"auth": "?"}}}"#).contains("its entry for quay.io is no base64"));
        assert!(error(r#"{"credsStore": "of-nobody"}"#).contains("docker-credential-of-nobody, which"));
        let missing = place.path().join("missing.json");
        assert!(find("quay.io", "a", Some(&missing)).unwrap_err().to_string().contains("cannot read the credentials"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?} {:?}", password("me"), Credentials::IdentityToken("secret".to_owned()));
        assert!(shown.contains("me") && !shown.contains("p:w") && !shown.contains("secret"), "{shown}");
    }
}
