//! Reads `policy.json`: which requirements an image must meet before it is used. It is read as strictly as
//! containers/image reads it, since an ignored word could be a check that is not made.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use base64::Engine;
use serde::Deserialize;
use serde::de::{Error, MapAccess, Visitor};

use super::identity::Identity;
use super::{ConfigurationError, Subject};

/// The whole policy.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    default: Vec<Requirement>,
    /// Requirements by transport and scope.
    transports: HashMap<String, HashMap<String, Vec<Requirement>>>,
}

/// One condition; of several, all must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Requirement {
    Anything,
    Reject,
    /// A signature of this kind.
    Sigstore(SigstoreSigned),
    /// A condition that cannot be checked here, and what it is.
    Unsupported(String),
}

/// A signature as cosign makes it, by one of these keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SigstoreSigned {
    pub(crate) keys: Vec<Keys>,
    pub(crate) identity: Identity,
}

/// Where a public key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Keys {
    File(PathBuf),
    /// The PEM text itself.
    Text(Vec<u8>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    default: Vec<Written>,
    #[serde(default)]
    transports: Once<Once<Vec<Written>>>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
enum Written {
    InsecureAcceptAnything {},
    Reject {},
    SignedBy {
        #[serde(rename = "keyType")]
        _key_type: String,
        #[serde(rename = "keyPath", default)]
        _path: Option<String>,
        #[serde(rename = "keyPaths", default)]
        _paths: Option<Vec<String>>,
        #[serde(rename = "keyData", default)]
        _data: Option<String>,
        #[serde(rename = "signedIdentity", default)]
        _identity: Option<Identity>,
    },
    SignedBaseLayer {
        #[serde(rename = "baseLayerIdentity")]
        _identity: Identity,
    },
    SigstoreSigned {
        key_path: Option<PathBuf>,
        key_paths: Option<Vec<PathBuf>>,
        key_data: Option<String>,
        key_datas: Option<Vec<String>>,
        fulcio: Option<serde_json::Value>,
        pki: Option<serde_json::Value>,
        rekor_public_key_path: Option<PathBuf>,
        rekor_public_key_paths: Option<Vec<PathBuf>>,
        rekor_public_key_data: Option<String>,
        rekor_public_key_datas: Option<Vec<String>>,
        signed_identity: Option<Identity>,
    },
}

impl Policy {
    /// Reads a policy.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, ConfigurationError> {
        let document: Document = serde_json::from_str(text).map_err(|error| {
            let problem = error.to_string();
            let problem = problem.split(" at line ").next().unwrap_or_default().to_owned();
            ConfigurationError {
                path: path.to_owned(),
                line: Some(error.line()),
                problem: format!("is not a policy: {problem}"),
                source: None,
            }
        })?;
        let wrong = |problem: String| ConfigurationError::new(path, problem);
        let default = requirements(document.default).map_err(|problem| wrong(format!("\"default\" {problem}")))?;
        let mut transports = HashMap::new();
        for (transport, scopes) in document.transports.0 {
            let mut known = HashMap::new();
            for (scope, written) in scopes.0 {
                let at = |problem: String| wrong(format!("the scope {scope:?} of {transport:?} {problem}"));
                check_scope(&transport, &scope).map_err(at)?;
                known.insert(scope.clone(), requirements(written).map_err(at)?);
            }
            transports.insert(transport, known);
        }
        Ok(Self { default, transports })
    }

    /// What is required of an image, and the scope that says so: the narrowest that it is in.
    pub(crate) fn requirements(&self, subject: &Subject<'_>) -> (&[Requirement], String) {
        let transport = subject.transport();
        let scopes = self.transports.get(transport);
        for scope in subject.scopes() {
            if let Some(found) = scopes.and_then(|scopes| scopes.get(&scope)) {
                return (found, format!("the scope {scope:?} of {transport:?}"));
            }
        }
        match scopes.and_then(|scopes| scopes.get("")) {
            Some(found) => (found, format!("the default of {transport:?}")),
            None => (&self.default, "the default".to_owned()),
        }
    }
}

fn requirements(written: Vec<Written>) -> Result<Vec<Requirement>, String> {
    if written.is_empty() {
        return Err("has an empty list of requirements".to_owned());
    }
    written.into_iter().map(requirement).collect()
}

fn requirement(written: Written) -> Result<Requirement, String> {
    Ok(match written {
        Written::InsecureAcceptAnything {} => Requirement::Anything,
        Written::Reject {} => Requirement::Reject,
        Written::SignedBy { .. } => Requirement::Unsupported("signedBy, a GPG signature".to_owned()),
        Written::SignedBaseLayer { .. } => Requirement::Unsupported("signedBaseLayer".to_owned()),
        Written::SigstoreSigned {
            key_path,
            key_paths,
            key_data,
            key_datas,
            fulcio,
            pki,
            rekor_public_key_path,
            rekor_public_key_paths,
            rekor_public_key_data,
            rekor_public_key_datas,
            signed_identity,
        } => {
            let sources = [
                key_path.is_some(),
                key_paths.is_some(),
                key_data.is_some(),
                key_datas.is_some(),
                fulcio.is_some(),
                pki.is_some(),
            ];
            if sources.into_iter().filter(|&given| given).count() != 1 {
                return Err(
                    "has a sigstoreSigned that needs exactly one of keyPath, keyPaths, keyData, keyDatas, fulcio and \
                    pki"
                    .to_owned(),
                );
            }
            let is_logged = rekor_public_key_path.is_some()
                || rekor_public_key_paths.is_some()
                || rekor_public_key_data.is_some()
                || rekor_public_key_datas.is_some();
            for (given, name) in [
                (fulcio.is_some(), "fulcio, a short-lived certificate"),
                (pki.is_some(), "pki, a certificate"),
                (is_logged, "rekorPublicKey…, an entry in a transparency log"),
            ] {
                if given {
                    return Ok(Requirement::Unsupported(format!("sigstoreSigned with {name}")));
                }
            }
            let texts = key_data.into_iter().chain(key_datas.into_iter().flatten()).map(|data| {
                let text = base64::engine::general_purpose::STANDARD.decode(data);
                text.map(Keys::Text).map_err(|_| "has a keyData that is not base64".to_owned())
            });
            let files = key_path.into_iter().chain(key_paths.into_iter().flatten()).map(|path| Ok(Keys::File(path)));
            let keys = texts.chain(files).collect::<Result<Vec<_>, _>>()?;
            if keys.is_empty() {
                return Err("has a sigstoreSigned with an empty list of keys".to_owned());
            }
            let identity = signed_identity.unwrap_or_default();
            identity.check()?;
            Requirement::Sigstore(SigstoreSigned { keys, identity })
        }
    })
}

/// A scope that can never fit is a mistake.
fn check_scope(transport: &str, scope: &str) -> Result<(), String> {
    if scope.is_empty() {
        return Ok(());
    }
    match transport {
        "docker-archive" | "tarball" => Err(format!("cannot be: {transport} has no scopes but \"\"")),
        "dir" | "oci" | "oci-archive" if scope == "/" => Err("cannot be: write \"\" for all paths".to_owned()),
        "dir" | "oci" | "oci-archive" => {
            let is_plain = scope.starts_with('/') && scope[1..].split('/').all(|part| !matches!(part, "" | "." | ".."));
            if is_plain { Ok(()) } else { Err("must be an absolute path without . and ..".to_owned()) }
        }
        _ => Ok(()),
    }
}

/// A JSON object each of whose names is there once.
struct Once<V>(HashMap<String, V>);

impl<V> Default for Once<V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Once<V> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Names<V> {
            type Value = Once<V>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Once<V>, A::Error> {
                let mut map = HashMap::new();
                while let Some((name, value)) = access.next_entry::<String, V>()? {
                    if map.contains_key(&name) {
                        return Err(A::Error::custom(format!("{name:?} occurs twice")));
                    }
                    map.insert(name, value);
                }
                Ok(Once(map))
            }
        }
        deserializer.deserialize_map(Names(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::reference::ImageName;

    fn parse(text: &str) -> Result<Policy, ConfigurationError> {
        Policy::parse(Path::new("/p.json"), text)
    }

    #[test]
    fn the_narrowest_scope_counts() {
        let reject = r#"[{"type":"reject"}]"#;
        let policy = parse(&format!(
            r#"{{"default":[{{"type":"insecureAcceptAnything"}}],"transports":{{"docker":{{
            "a.io/team/x:1":{reject},"a.io/team/x":{reject},"a.io":{reject},"*.b.io":{reject},"c.io:5000/x":{reject}}},
            "oci":{{"/srv/images":{reject}}},"docker-archive":{{"":{reject}}}}}}}"#
        ))
        .unwrap();
        let scope = |name: &str| {
            let name: ImageName = name.parse().unwrap();
            policy.requirements(&Subject::Docker(&name)).1
        };
        let of_docker = |scope: &str| format!("the scope {scope:?} of \"docker\"");
        assert_eq!(scope("a.io/team/x:1"), of_docker("a.io/team/x:1"));
        assert_eq!(scope("a.io/team/x:2"), of_docker("a.io/team/x"));
        assert_eq!(scope("a.io/team/xy:1"), of_docker("a.io"));
        assert_eq!(scope("q.w.b.io:5000/x"), of_docker("*.b.io"));
        assert_eq!(scope("c.io:5000/x/y"), of_docker("c.io:5000/x"));
        assert_eq!(scope("b.io/x"), "the default");
        let paths = |transport, path: &str| policy.requirements(&Subject::Path(transport, path.into())).1;
        assert_eq!(paths("oci", "/srv/images/a/b"), "the scope \"/srv/images\" of \"oci\"");
        assert_eq!(paths("oci", "/srv/images2"), "the default");
        assert_eq!(paths("dir", "/srv/images"), "the default");
        assert_eq!(policy.requirements(&Subject::Alone("docker-archive")).1, "the default of \"docker-archive\"");
    }

    #[test]
    fn what_is_no_policy_is_refused_with_the_reason() {
        let signed = |rest: &str| format!(r#"{{"default":[{{"type":"sigstoreSigned"{rest}}}]}}"#);
        for (text, expected) in [
            ("{".to_owned(), "line 1: is not a policy: EOF"),
            ("{}".to_owned(), "missing field `default`"),
            (r#"{"default":[]}"#.to_owned(), "empty list"),
            (r#"{"default":[{"type":"other"}]}"#.to_owned(), "unknown variant `other`"),
            (r#"{"default":[{"type":"reject","x":1}]}"#.to_owned(), "unknown field `x`"),
            (r#"{"default":[{"type":"reject"}],"other":1}"#.to_owned(), "unknown field `other`"),
            (r#"{"default":[{"type":"reject"}],"default":[{"type":"reject"}]}"#.to_owned(), "duplicate field"),
            (
                r#"{"default":[{"type":"reject"}],"transports":{"docker":{},"docker":{}}}"#.to_owned(),
                "\"docker\" occurs twice",
            ),
            (
                r#"{"default":[{"type":"reject"}],"transports":{"oci":{"a/b":[{"type":"reject"}]}}}"#.to_owned(),
                "the scope \"a/b\" of \"oci\" must be an absolute path",
            ),
            (signed(""), "exactly one of keyPath"),
            (signed(r#","keyPath":"/k","keyData":"eA==""#), "exactly one of keyPath"),
            (signed(r#","keyData":"?""#), "not base64"),
            (
                signed(r#","keyPath":"/k","signedIdentity":{"type":"exactReference","dockerReference":"a.io/x"}"#),
                "a tag or a digest",
            ),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.starts_with("\"/p.json\"") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_checked_is_kept_as_a_requirement() {
        for (requirement, expected) in [
            (r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}"#, "signedBy"),
            (r#"{"type":"sigstoreSigned","fulcio":{"oidcIssuer":"x"}}"#, "fulcio"),
            (r#"{"type":"sigstoreSigned","pki":{}}"#, "pki"),
            (r#"{"type":"sigstoreSigned","keyPath":"/k","rekorPublicKeyPath":"/r"}"#, "transparency log"),
        ] {
            let policy = parse(&format!(r#"{{"default":[{requirement}]}}"#)).unwrap();
            assert!(matches!(&policy.default[0], Requirement::Unsupported(what) if what.contains(expected)));
        }
    }
}
