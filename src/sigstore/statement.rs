//! The signed statement: an image of this name has this digest.

use serde::Deserialize;

const KIND: &str = "cosign container image signature";

/// A statement. It must not be trusted before its signature is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    /// The digest of the image's manifest.
    pub(crate) digest: String,
    /// What the image is called.
    pub(crate) name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    critical: Critical,
    #[serde(rename = "optional", default)]
    _optional: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    identity: Named,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    #[serde(rename = "docker-reference")]
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

impl Statement {
    /// Reads a statement. What is critical and not known must not be passed over.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| format!("its statement cannot be read: {error}"))?;
        let Critical { identity, image, kind } = document.critical;
        if kind != KIND {
            return Err(format!("its statement is of the type {kind:?}"));
        }
        Ok(Self { digest: image.digest, name: identity.name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_says_what_cosign_says_and_nothing_more() {
        let critical = r#"{"identity":{"docker-reference":"a.io/x"},"image":{"docker-manifest-digest":"sha256:00"},"type":"cosign container image signature"}"#;
        let expected = Statement { digest: "sha256:00".to_owned(), name: "a.io/x".to_owned() };
        for optional in ["", r#","optional":null"#, r#","optional":{"creator":"x"}"#] {
            let text = format!(r#"{{"critical":{critical}{optional}}}"#);
            assert_eq!(Statement::parse(text.as_bytes()).unwrap(), expected);
        }
        for wrong in [
            r#"{"optional":null}"#.to_owned(),
            format!(r#"{{"critical":{critical},"Critical":{critical}}}"#),
            format!(r#"{{"critical":{critical},"critical":{critical}}}"#),
            format!(r#"{{"critical":{}}}"#, critical.replace("cosign container", "atomic container")),
            format!(r#"{{"critical":{}}}"#, critical.replace("\"type\"", "\"expiry\":1,\"type\"")),
        ] {
            assert!(Statement::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
