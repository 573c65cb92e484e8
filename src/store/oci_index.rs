//! `index.json` of an OCI image layout: what images it has, and under which names (image specification, image-layout.md and
//! annotations.md).

use serde_json::{Value, json};

use super::{Finished, StoreError};
use crate::image::MediaType;
use crate::registry::referrer;

pub(super) const INDEX: &str = "index.json";
pub(super) const MARKER: &str = "oci-layout";
pub(super) const MARKER_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The list of a layout's images. What it says beyond what is needed here stays as it is.
#[derive(Debug)]
pub(super) struct OciIndex(Value);

impl OciIndex {
    pub(super) fn new() -> Self {
        Self(json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": []}))
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match value.get("manifests") {
            Some(Value::Array(_)) => Ok(Self(value)),
            _ => Err("it lists no manifests".to_owned()),
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.to_string().into_bytes()
    }

    /// Lists an image under each of its names, which until now may have been another's.
    pub(super) fn add(&mut self, image: &Finished) {
        let Some(manifest) = &image.manifest else { return };
        let Some(list) = self.0.get_mut("manifests").and_then(Value::as_array_mut) else { return };
        let descriptor = match image.subject {
            // A layout lists what refers to an image beside it; what it is, is told by its type.
            Some(_) if image.names.is_empty() => referrer(&manifest.bytes, &manifest.media_type, &manifest.digest),
            _ => json!({
                "mediaType": manifest.media_type, "digest": manifest.digest, "size": manifest.bytes.len(),
            }),
        };
        if image.names.is_empty() {
            let is_it = |entry: &Value| entry["digest"] == descriptor["digest"];
            if !list.iter().any(is_it) {
                list.push(descriptor);
            }
            return;
        }
        // Now that it has a name, it need not be listed without one.
        list.retain(|entry| entry["digest"] != descriptor["digest"] || name_of(entry).is_some());
        for name in &image.names {
            list.retain(|entry| name_of(entry) != Some(name));
            let mut named = descriptor.clone();
            named["annotations"] = json!({REF_NAME: name});
            list.push(named);
        }
    }

    /// Everything that it lists.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = &Value> {
        self.0.get("manifests").and_then(Value::as_array).into_iter().flatten()
    }
}

fn name_of(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(REF_NAME)?.as_str()
}

/// What an image is called in a layout: any short text. skopeo and umoci want a tag.
pub(super) fn names(own: Option<&str>, of_source: &[String], several: bool) -> Result<Vec<String>, StoreError> {
    let check = |name: &str| match name.starts_with('@') || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        true => {
            Err(StoreError::NameNeeded(format!("{name:?} cannot be the name of an image in a layout: write a tag")))
        }
        false => Ok(name.to_owned()),
    };
    match own {
        Some(own) if several => Err(StoreError::NameNeeded(format!(
            "{own:?}: with --all-tags every image has a tag of its own: leave it out"
        ))),
        Some(own) => Ok(vec![check(own)?]),
        None => of_source.iter().map(|name| check(name)).collect(),
    }
}
