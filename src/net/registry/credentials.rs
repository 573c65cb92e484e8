//! Finds credentials: those that the caller gives, or those that `docker login`, `podman login` or `skopeo login`
//! stored (containers-auth.json(5); Docker's config.json has the same format).
//!
//! Read here and not by the crate docker_credential, which takes a registry's whole host alone for a key, where
//! containers' files may have one for a part of it, and which says neither which file nor what in it is wrong.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use super::{RegistryError, helper};
use crate::core::cancel::Cancel;

/// Docker Hub's name in Docker's files.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Credentials for a registry.
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
    /// What a registry is shown as it is, as a bearer token.
    RegistryToken(String),
}

/// Redacts secrets.
impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { username, .. } => {
                formatter.debug_struct("Password").field("username", username).finish_non_exhaustive()
            }
            Self::IdentityToken(_) => formatter.debug_struct("IdentityToken").finish_non_exhaustive(),
            Self::RegistryToken(_) => formatter.debug_struct("RegistryToken").finish_non_exhaustive(),
        }
    }
}

/// What was found for a registry.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The credentials, and the file that they are from.
    pub(super) credentials: Option<(Credentials, PathBuf)>,
    /// What was skipped, and why: the user may rely on it.
    pub(super) skipped: Vec<String>,
}

/// Finds the credentials for a repository. That there are none is not an error: much is public, and for that a helper
/// that fails, or a file that is not there yet, does no harm.
///
/// # Errors
/// A file that was named and that is not one of credentials.
pub(super) fn find(
    registry: &str,
    repository: &str,
    authfile: Option<&Path>,
    cancel: &Cancel,
) -> Result<Found, RegistryError> {
    let environment = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let named = authfile.map(Path::to_owned).or_else(|| environment("REGISTRY_AUTH_FILE"));
    let mut found = Found::default();
    if let Some(path) = named {
        if let Err(problem) = look_in(&path, (registry, repository), cancel, &mut found) {
            return Err(RegistryError::File { path, error: problem.into() });
        }
        return Ok(found);
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
        // Not there, or in a directory of somebody else's.
        if path.metadata().is_err() {
            continue;
        }
        if let Err(problem) = look_in(&path, (registry, repository), cancel, &mut found) {
            found.skipped.push(format!("{path:?}: {problem}"));
        }
        if found.credentials.is_some() {
            break;
        }
    }
    Ok(found)
}

/// Looks into one file; what makes it none of credentials is an error.
fn look_in(
    path: &Path,
    (registry, repository): (&str, &str),
    cancel: &Cancel,
    found: &mut Found,
) -> Result<(), String> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            found.skipped.push(format!("the credentials file {path:?} does not exist"));
            return Ok(());
        }
        Err(error) => return Err(format!("cannot read the credentials: {error}")),
    };
    if bytes.trim_ascii().is_empty() {
        found.skipped.push(format!("the credentials file {path:?} is empty"));
        return Ok(());
    }
    let file: Value =
        serde_json::from_slice(&bytes).map_err(|error| format!("is not a credentials file: {}", misfit(&error)))?;
    let part = |name: &str| match member(&file, name) {
        None => Ok(None),
        Some(Value::Object(part)) => Ok(Some(part)),
        Some(_) => Err(format!("is not a credentials file: its {name:?} is not an object")),
    };
    let (auths, helpers) = (part("auths")?, part("credHelpers")?);
    // Go's programs take null for one with nothing in it.
    if !(file.is_object() || file.is_null()) {
        return Err("is not a credentials file: it is not an object".to_owned());
    }
    // An entry may be there with nothing in it, to say that the store has it.
    let own = helpers.and_then(|helpers| helpers.iter().find(|(key, _)| scope_of(key) == registry));
    let helper = own.map(|(_, helper)| helper).or(member(&file, "credsStore"));
    if let Some(helper) = helper.and_then(Value::as_str).filter(|helper| !helper.is_empty()) {
        let host = if registry == "docker.io" { DOCKER_HUB } else { registry };
        match helper::ask(helper, host, cancel) {
            Ok(None) => {}
            Ok(Some(credentials)) => {
                found.credentials = Some((credentials, path.to_owned()));
                return Ok(());
            }
            Err(problem) => {
                found.skipped.push(format!("docker-credential-{helper}, which {path:?} names, {problem}"));
            }
        }
    }
    for (_, entry) in entries_for(auths.into_iter().flatten(), registry, repository) {
        let decoded = decode(entry).map_err(|problem| format!("its entry for {registry} {problem}"))?;
        if let Some(credentials) = decoded {
            found.credentials = Some((credentials, path.to_owned()));
            break;
        }
    }
    Ok(())
}

/// A member of an object as Go's programs find it: without regard to case, and null is none.
pub(super) fn member<'v>(object: &'v Value, name: &str) -> Option<&'v Value> {
    let members = object.as_object()?;
    let exact = members.get(name);
    let found =
        exact.or_else(|| members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value));
    found.filter(|value| !value.is_null())
}

/// The entries that are for the repository, the one for the longest beginning of `registry/repository` first.
pub(super) fn entries_for<'f>(
    auths: impl Iterator<Item = (&'f String, &'f Value)>,
    registry: &str,
    repository: &str,
) -> Vec<(String, &'f Value)> {
    let whole = format!("{registry}/{repository}");
    let is_for = |scope: &str| whole.strip_prefix(scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let mut entries: Vec<(&String, String, &Value)> =
        auths.map(|(key, entry)| (key, scope_of(key), entry)).filter(|(_, scope, _)| is_for(scope)).collect();
    // Of two for the same, the one that is spelled so.
    entries.sort_by_key(|(key, scope, _)| (std::cmp::Reverse(scope.len()), *key != scope));
    entries.into_iter().map(|(_, scope, entry)| (scope, entry)).collect()
}

/// What a key stands for: a registry, or a part of one. Docker's keys are addresses, of which the host counts.
pub(super) fn scope_of(key: &str) -> String {
    let is_address = |scheme: &str| key.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let scheme = ["https://", "http://"].into_iter().find(|scheme| is_address(scheme));
    let bare = scheme.map_or(key, |scheme| &key[scheme.len()..]).trim_end_matches('/');
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let host = match host.to_ascii_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    };
    if scheme.is_some() || matches!(path, "" | "v1" | "v2") { host } else { format!("{host}/{path}") }
}

/// Where a document is not what it should be. What stands there may be a secret, and is not told.
pub(super) fn misfit(error: &serde_json::Error) -> String {
    let problem = if error.is_data() { "it does not have the expected structure" } else { "it is not a JSON document" };
    format!("{problem}, see line {} column {}", error.line(), error.column())
}

pub(super) fn decode(entry: &Value) -> Result<Option<Credentials>, String> {
    if !(entry.is_object() || entry.is_null()) {
        return Err("is not an object".to_owned());
    }
    let text = |name: &str| match member(entry, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(format!("has a {name:?} that is not text")),
    };
    if let Some(token) = text("registrytoken")? {
        return Ok(Some(Credentials::RegistryToken(token.to_owned())));
    }
    if let Some(token) = text("identitytoken")? {
        return Ok(Some(Credentials::IdentityToken(token.to_owned())));
    }
    if let Some(auth) = text("auth")? {
        let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let bytes =
            GeneralPurpose::new(&STANDARD, config).decode(auth.trim()).map_err(|_| "is not base64".to_owned())?;
        let text = String::from_utf8(bytes).map_err(|_| "is not text".to_owned())?;
        let (username, password) = text.split_once(':').ok_or("has no colon between name and password")?;
        // Some writers end it with NULs.
        let password = password.trim_end_matches('\0').to_owned();
        return Ok(Some(Credentials::Password { username: username.to_owned(), password }));
    }
    match (text("username")?, text("password")?) {
        (Some(username), Some(password)) => {
            Ok(Some(Credentials::Password { username: username.to_owned(), password: password.to_owned() }))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::chain::Chain;

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
            "https://index.docker.io/v1/": auth("hub"), "localhost:5000": auth("local"), "gcr.io/v1/": auth("path"),
            "HTTPS://GHCR.io/v2/": auth("upper"), "docker.io/own": auth("own"), "quay.io/tea": auth("other"),
        }});
        std::fs::write(&path, auths.to_string()).unwrap();
        for (registry, repository, expected) in [
            ("quay.io", "other/app", Some("all")),
            ("quay.io", "team/other", Some("team")),
            ("quay.io", "team/app", Some("app")),
            ("docker.io", "library/debian", Some("hub")),
            ("localhost:5000", "a", Some("local")),
            ("localhost", "a", None),
            ("gcr.io", "a", Some("path")),
            ("ghcr.io", "a", Some("upper")),
            ("docker.io", "own/app", Some("own")),
        ] {
            let found = find(registry, repository, Some(&path), &Cancel::default()).unwrap();
            assert_eq!(
                found.credentials.map(|(credentials, _)| credentials),
                expected.map(password),
                "{registry}/{repository}"
            );
        }
    }

    #[test]
    fn a_bad_file_is_named_with_what_is_wrong() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("auth.json");
        let error = |text: &str| {
            std::fs::write(&path, text).unwrap();
            find("quay.io", "a", Some(&path), &Cancel::default())
                .map_err(|error| Chain(&error).to_string())
                .unwrap_err()
        };
        assert!(
            error("[")
                .contains("auth.json\": is not a credentials file: it is not a JSON document, see line 1 column 1")
        );
        assert!(error(r#"{"auths": {"quay.io": "c2VjcmV0"}}"#).ends_with("its entry for quay.io is not an object"));
        assert!(error(r#"{"auths": []}"#).ends_with("its \"auths\" is not an object"));
        assert!(error(r#"{"auths": {"quay.io": {"auth": "?"}}}"#).ends_with("its entry for quay.io is not base64"));
        assert!(
            find("quay.io", "a", Some(place.path()), &Cancel::default())
                .map_err(|error| Chain(&error).to_string())
                .unwrap_err()
                .contains("cannot read")
        );
    }

    #[test]
    fn what_holds_nothing_is_passed_over_and_named() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("auth.json");
        let skipped = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let found = find("quay.io", "a", Some(&path), &Cancel::default()).unwrap();
            assert!(found.credentials.is_none());
            found.skipped
        };
        for nothing in [
            "{}",
            r#"{"auths": null, "credHelpers": null, "credsStore": null}"#,
            r#"{"auths": {"quay.io": null, "quay.io/a": {}, "https://quay.io": {"auth": "", "identitytoken": null}}}"#,
            r#"{"credsStore": "", "HttpHeaders": {"a": "b"}, "psFormat": 1}"#,
        ] {
            assert_eq!(skipped(nothing), [""; 0], "{nothing}");
        }
        assert!(skipped("\n")[0].ends_with("auth.json\" is empty"));
        let skipped = skipped(r#"{"auths": {}, "CREDSSTORE": "desktop.exe"}"#);
        assert!(skipped[0].starts_with("docker-credential-desktop.exe, which \""), "{skipped:?}");
        assert!(skipped[0].ends_with("auth.json\" names, is not installed"), "{skipped:?}");
        let missing = find("quay.io", "a", Some(&place.path().join("missing.json")), &Cancel::default()).unwrap();
        assert!(missing.skipped[0].ends_with("missing.json\" does not exist"));
    }

    #[test]
    fn files_are_read_as_go_reads_them() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("auth.json");
        for (entry, expected) in [
            (r#"{"AUTH": "bWU6cDp3"}"#, password("me")),
            (r#"{"auth": "", "username": "me", "Password": "p:w"}"#, password("me")),
            (r#"{"auth": "bWU6cDp3", "identityToken": "t"}"#, Credentials::IdentityToken("t".to_owned())),
            (r#"{"registrytoken": "t"}"#, Credentials::RegistryToken("t".to_owned())),
        ] {
            std::fs::write(&path, format!(r#"{{"Auths": {{"quay.io": {entry}}}}}"#)).unwrap();
            let found = find("quay.io", "a", Some(&path), &Cancel::default()).unwrap();
            assert_eq!(found.credentials.unwrap().0, expected, "{entry}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?} {:?}", password("me"), Credentials::IdentityToken("secret".to_owned()));
        assert!(shown.contains("me") && !shown.contains("p:w") && !shown.contains("secret"), "{shown}");
    }
}
