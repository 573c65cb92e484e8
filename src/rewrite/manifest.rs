//! What of an image's manifest is still true of a rewritten one: what it says of the image, and of the layers that stay.

use serde_json::{Value, json};

use crate::image::Manifest;

/// The manifest without its words on layers that were written anew; whoever stores the image completes it. It keeps its digest, by
/// which an index knows the image that is replaced.
pub(super) fn without_new_layers(manifest: &Manifest, is_new: &[bool]) -> Manifest {
    let Ok(mut document) = serde_json::from_slice::<Value>(&manifest.bytes) else {
        return manifest.clone();
    };
    if let Some(layers) = document.get_mut("layers").and_then(Value::as_array_mut) {
        layers.truncate(is_new.len());
        for (layer, _) in layers.iter_mut().zip(is_new).filter(|(_, is_new)| **is_new) {
            *layer = json!({});
        }
    }
    Manifest { bytes: document.to_string().into_bytes(), ..manifest.clone() }
}
