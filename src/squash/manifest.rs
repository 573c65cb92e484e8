//! Selects what is still correct of the image's manifest after squashing: annotations of the image, and descriptors of
//! unchanged layers.

use crate::image::Manifest;
use crate::image::document::Object;

/// The manifest without its words on layers that were written anew; whoever stores the image completes it. It keeps its
/// digest, by which an index knows the image that is replaced.
pub(super) fn without_new_layers(manifest: &Manifest, is_new: &[bool]) -> Manifest {
    let Ok(mut document) = Object::parse(&manifest.bytes) else { return manifest.clone() };
    let mut layers = document.objects("layers");
    layers.truncate(is_new.len());
    for (layer, _) in layers.iter_mut().zip(is_new).filter(|(_, is_new)| **is_new) {
        *layer = Object::default();
    }
    document.set("layers", &layers);
    Manifest { bytes: document.to_bytes(), ..manifest.clone() }
}
