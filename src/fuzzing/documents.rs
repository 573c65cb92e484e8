//! Documents: manifests and what is beside them.

pub use crate::inspect::index::fuzzing::index_of_layer;

use crate::image::Config;
use crate::image::document::{self, Descriptor, Document, LayoutMarker, Object, SavedImage};

/// Manifests and indexes of all kinds: a layout's `index.json`, Docker's `manifest.json`, and what a registry has.
pub fn manifest(input: &[u8]) {
    let _ = document::read::<Vec<SavedImage>>(input);
    let _ = document::read::<LayoutMarker>(input);
    let _ = document::read::<Descriptor>(input);
    crate::transport::fuzzing::index(input);
    if document::read::<Document>(input).is_ok() {
        let object = Object::parse(input).unwrap_or_else(|error| panic!("it is a document, and no object: {error}"));
        kept(&object);
    }
}

/// Configurations.
pub fn config(input: &[u8]) {
    let Ok(config) = Config::parse(input.to_vec()) else { return };
    for layers in 0..4 {
        if let Ok(diff_ids) = config.diff_ids(layers) {
            assert_eq!(diff_ids.len(), layers);
            let edited = config.with_diff_ids(&diff_ids);
            let edited = edited.unwrap_or_else(|error| panic!("it can be read, and not edited: {error}"));
            assert_eq!(edited.diff_ids(layers).ok(), Some(diff_ids));
            assert_eq!(edited.parsed.config, config.parsed.config, "what was not edited is as it was");
        }
    }
}

/// `layflat.json`, and the digests and times in it.
pub fn descriptions(input: &[u8]) {
    crate::lowerdirs::fuzzing::description(input);
}

/// What is not edited means what it meant.
fn kept(object: &Object) {
    let mut edited = object.clone();
    edited.set("layflat", "edited");
    let again = Object::parse(&edited.to_bytes()).unwrap_or_else(|error| panic!("edited it is none: {error}"));
    assert_eq!(again.string("layflat").as_deref(), Some("edited"));
    for key in object.keys().filter(|key| !key.eq_ignore_ascii_case("layflat")) {
        let raw = |object: &Object| object.get(key).map(|raw| raw.get().to_owned());
        assert_eq!(raw(&again), raw(object), "{key:?}");
    }
}
