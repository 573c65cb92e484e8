//! A directory for a test, and layflat run in it, with nothing of the user's around it.

use std::path::Path;

use crate::common::images::{CONFIG, INDEX, LAYER, Layout, Tar, config, gzip, tagged};

pub(crate) use crate::common::place::{Place, failed, names, succeeded};

/// What tests of registries need of a place.
pub(crate) trait Images {
    /// All that is in the cache, by its path within.
    fn cached(&self) -> Vec<String>;
    /// An OCI layout with an image of these files, one a layer, as `oci:PATH:TAG`.
    fn image(&self, name: &str, files: &[(&str, Vec<u8>)]) -> String;
    /// An OCI layout with an index: two platforms and an attestation.
    fn index(&self, name: &str) -> String;
}

impl Images for Place {
    fn cached(&self) -> Vec<String> {
        let cache = self.path("home/.cache/layflat");
        let mut names: Vec<String> = walkdir::WalkDir::new(&cache)
            .into_iter()
            .flatten()
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| entry.path().strip_prefix(&cache).unwrap().display().to_string())
            .collect();
        names.sort();
        names
    }

    fn image(&self, name: &str, files: &[(&str, Vec<u8>)]) -> String {
        let layers: Vec<Vec<u8>> = files.iter().map(|(name, content)| Tar::new().file(name, content).done()).collect();
        let plain: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        let stored: Vec<(&str, Vec<u8>)> =
            layers.iter().map(|layer| ("application/vnd.oci.image.layer.v1.tar+gzip", gzip(layer))).collect();
        let mut layout = Layout::default();
        let manifest = layout.image_of(&config(&plain), &stored);
        layout.list(tagged(manifest, "1")).write(&self.path(name));
        format!("oci:{}:1", self.path(name).display())
    }

    fn index(&self, name: &str) -> String {
        let mut layout = Layout::default();
        let mut manifests = vec![layout.image_for("linux/amd64"), layout.image_for("linux/arm64/v8")];
        let mut attestation = layout.image_of(&config(&[]), &[]);
        attestation["platform"] = serde_json::json!({"os": "unknown", "architecture": "unknown"});
        attestation["annotations"] = serde_json::json!({"vnd.docker.reference.type": "attestation-manifest"});
        manifests.push(attestation);
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        let index = layout.document(INDEX, &index);
        layout.list(tagged(index, "1")).write(&self.path(name));
        let _ = (CONFIG, LAYER);
        format!("oci:{}:1", self.path(name).display())
    }
}

/// A command of skopeo's with the same home and the same registries.conf as layflat has there; if it fails, what it
/// says.
pub(crate) fn skopeo(place: &Place, arguments: &[&str]) -> Result<(), String> {
    let output = std::process::Command::new("skopeo")
        .args(["--registries-conf", &place.path("home/registries.conf").display().to_string()])
        .args(arguments)
        .current_dir(place.directory())
        .envs([("HOME", place.path("home")), ("XDG_RUNTIME_DIR", place.directory().to_owned())])
        .output()
        .unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8(output.stderr).unwrap()) }
}

/// Bytes that no compression makes smaller.
pub(crate) fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.extend_from_slice(&seed.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The image of the README.
pub(crate) fn fixture() -> String {
    format!("docker-archive:{}", Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/four-layers.tar").display())
}
