//! Docker's contexts: which engine `docker context use` selected, and its address (docker/cli, cli/context/store).

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::DaemonError;
use super::tls::Certificates;
use crate::core::chain::{Cause, Context};
use crate::core::digest::Digest;

/// The name of the default context, which has no file: the engine listens at its usual address.
const DEFAULT: &str = "default";

/// Where a context's engine is.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// As in DOCKER_HOST.
    pub(super) host: String,
    pub(super) certificates: Certificates,
}

/// Docker's own directory.
pub(super) fn directory() -> Option<PathBuf> {
    let named = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("DOCKER_CONFIG").or_else(|| named("HOME").map(|home| home.join(".docker")))
}

/// The name of the context that Docker's configuration in a directory has chosen. A configuration that cannot be read
/// chooses none.
pub(super) fn current(directory: &Path) -> Option<String> {
    let text = std::fs::read(directory.join("config.json")).ok()?;
    let file: Value = serde_json::from_slice(&text).ok()?;
    let name = member(&file, "currentContext")?.as_str()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// The engine of a context; nothing for the default context.
pub(super) fn find(directory: &Path, name: &str) -> Result<Option<Endpoint>, DaemonError> {
    if name == DEFAULT {
        return Ok(None);
    }
    let wrong = |error: Cause| DaemonError::Context { name: name.to_owned(), error };
    let digest = Digest::sha256_of(name.as_bytes()).to_string();
    let id = digest.split_once(':').map_or("", |(_, id)| id);
    let path = directory.join("contexts/meta").join(id).join("meta.json");
    let text = std::fs::read(&path)
        .map_err(|error| wrong(Context::new(format!("cannot read {}", path.display()), error).into()))?;
    let meta: Value = serde_json::from_slice(&text)
        .map_err(|error| wrong(Context::new(format!("{} is not a JSON document", path.display()), error).into()))?;
    let endpoint = member(&meta, "Endpoints").and_then(|endpoints| member(endpoints, "docker"));
    let Some(endpoint) = endpoint else {
        return Err(wrong(format!("{} has no endpoint of Docker", path.display()).into()));
    };
    let Some(host) = member(endpoint, "Host").and_then(Value::as_str).filter(|host| !host.is_empty()) else {
        return Ok(None);
    };
    let skip_verification = member(endpoint, "SkipTLSVerify").and_then(Value::as_bool).unwrap_or(false);
    let files = Certificates::in_directory(&directory.join("contexts/tls").join(id).join("docker"));
    Ok(Some(Endpoint { host: host.to_owned(), certificates: Certificates { skip_verification, ..files } }))
}

/// A member of an object, whose name Go's programs match without regard to case.
fn member<'v>(object: &'v Value, name: &str) -> Option<&'v Value> {
    let found = object.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::chain::Chain;

    #[test]
    fn contexts_are_where_docker_keeps_them() {
        let place = tempfile::tempdir().unwrap();
        // `printf remote | sha256sum`
        let id = "b71199ebd070b36beab7317920c2c2f1d777df8d05e5527d8458fda57cb17a7a";
        let meta = place.path().join("contexts/meta").join(id);
        let tls = place.path().join("contexts/tls").join(id).join("docker");
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::create_dir_all(&tls).unwrap();
        std::fs::write(place.path().join("config.json"), r#"{"currentContext": "remote"}"#).unwrap();
        std::fs::write(tls.join("ca.pem"), "").unwrap();
        let write = |endpoints: &str| {
            std::fs::write(meta.join("meta.json"), format!(r#"{{"Name": "remote", "Endpoints": {endpoints}}}"#))
                .unwrap();
        };
        write(r#"{"docker": {"Host": "tcp://10.0.0.1:2376", "SkipTLSVerify": false}}"#);
        let name = current(place.path()).unwrap();
        let endpoint = find(place.path(), &name).unwrap().unwrap();
        assert_eq!(endpoint.host, "tcp://10.0.0.1:2376");
        assert_eq!(endpoint.certificates.ca, Some(tls.join("ca.pem")));
        assert_eq!(endpoint.certificates.certificate, None);

        assert!(find(place.path(), "default").unwrap().is_none());
        let message = find(place.path(), "other").map_err(|error| Chain(&error).to_string()).unwrap_err();
        assert!(message.starts_with("Docker's context \"other\" cannot be used: cannot read "), "{message}");
        write("{}");
        assert!(
            find(place.path(), "remote")
                .map_err(|error| Chain(&error).to_string())
                .unwrap_err()
                .contains("no endpoint of Docker")
        );
    }
}
