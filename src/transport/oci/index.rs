//! `index.json` of an OCI image layout: what images it has, and under which names (image specification, image-layout.md
//! and annotations.md).

use std::collections::BTreeMap;

use crate::image::document::{self, Descriptor, Document, Object};
use crate::transport::store::{Finished, StoreError};

pub(in crate::transport) const INDEX: &str = "index.json";
pub(in crate::transport) const MARKER: &str = "oci-layout";
pub(in crate::transport) const MARKER_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The list of a layout's images. What it says beyond what is needed here stays as it is.
#[derive(Debug)]
pub(in crate::transport) struct OciIndex(Object);

impl OciIndex {
    pub(in crate::transport) fn new() -> Self {
        Self(Object::index())
    }

    pub(in crate::transport) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document: Document = document::read(bytes).map_err(|error| error.to_string())?;
        match document.manifests {
            Some(_) => Object::parse(bytes).map(Self).map_err(|error| error.to_string()),
            None => Err("it lists no manifests".to_owned()),
        }
    }

    pub(in crate::transport) fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// Lists an image under each of its names, which until now may have been another's.
    pub(in crate::transport) fn add(&mut self, image: &Finished) {
        let Some(manifest) = &image.manifest else { return };
        let mut list = self.0.objects("manifests");
        let descriptor = match image.subject {
            // A layout lists what refers to an image beside it; what it is, is told by its type.
            Some(_) if image.names.is_empty() => manifest.described_as_referrer(),
            _ => manifest.described(),
        };
        let digest = manifest.digest.to_string();
        let is_it = |entry: &Object| entry.string("digest").as_ref() == Some(&digest);
        if image.names.is_empty() {
            if !list.iter().any(is_it) {
                list.push(descriptor.clone());
            }
        } else {
            // Now that it has a name, it need not be listed without one.
            list.retain(|entry| !is_it(entry) || name_of(entry).is_some());
        }
        for name in &image.names {
            list.retain(|entry| name_of(entry).as_ref() != Some(name));
            let mut named = descriptor.clone();
            named.set("annotations", &BTreeMap::from([(REF_NAME, name)]));
            list.push(named);
        }
        self.0.set("manifests", &list);
    }

    /// Everything that it lists.
    pub(in crate::transport) fn descriptors(&self) -> Vec<Descriptor> {
        // It was parsed before, so this cannot fail.
        document::read::<Document>(&self.to_bytes()).ok().and_then(|index| index.manifests).unwrap_or_default()
    }
}

fn name_of(entry: &Object) -> Option<String> {
    entry.object("annotations").value(REF_NAME)
}

/// The names of an image in a layout. Any short text is allowed; skopeo and umoci expect a tag.
pub(in crate::transport) fn names(
    own: Option<&str>,
    of_source: &[String],
    several: bool,
) -> Result<Vec<String>, StoreError> {
    let check = |name: &str| match name.starts_with('@') || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        true => {
            Err(StoreError::NameNeeded(format!("{name:?} cannot be the name of an image in a layout: write a tag")))
        }
        false => Ok(name.to_owned()),
    };
    match own {
        Some(own) if several => Err(StoreError::OneTag(own.to_owned())),
        Some(own) => Ok(vec![check(own)?]),
        None => of_source.iter().map(|name| check(name)).collect(),
    }
}
