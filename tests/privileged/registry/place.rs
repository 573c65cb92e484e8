//! A directory for a test, and layflat run in it, with nothing of the user's around it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::images::{CONFIG, INDEX, LAYER, Layout, Tar, config, gzip, tagged};

pub(crate) struct Place(pub(crate) TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        // What this machine's administrator has decided is not tested here.
        fs::create_dir_all(place.path("home/.config/containers")).unwrap();
        let anything = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        fs::write(place.path("home/.config/containers/policy.json"), anything).unwrap();
        fs::write(place.path("registries.conf"), "").unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// layflat, whose home, cache and socket directories are in this place.
    pub(crate) fn layflat(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("layflat"));
        command.current_dir(self.0.path()).args(arguments).env_clear();
        for name in ["PATH", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("HOME", self.path("home")).env("XDG_RUNTIME_DIR", self.path("run"));
        command.env("CONTAINERS_REGISTRIES_CONF", self.path("registries.conf"));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.layflat(arguments).output().unwrap()
    }

    /// What a command that succeeds prints.
    pub(crate) fn printed(&self, arguments: &[&str]) -> String {
        succeeded(&self.run(arguments))
    }

    /// The one line that a command which fails prints, without what all begin with.
    pub(crate) fn message(&self, arguments: &[&str]) -> String {
        failed(&self.run(arguments))
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.printed(&[&["--json"], arguments].concat())).unwrap()
    }

    /// All that is in the cache, by its path within.
    pub(crate) fn cached(&self) -> Vec<String> {
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

    /// An OCI layout with an image of these files, one a layer, as `oci:PATH:TAG`.
    pub(crate) fn image(&self, name: &str, files: &[(&str, Vec<u8>)]) -> String {
        let layers: Vec<Vec<u8>> = files.iter().map(|(name, content)| Tar::new().file(name, content).done()).collect();
        let plain: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        let stored: Vec<(&str, Vec<u8>)> =
            layers.iter().map(|layer| ("application/vnd.oci.image.layer.v1.tar+gzip", gzip(layer))).collect();
        let mut layout = Layout::default();
        let manifest = layout.image_of(&config(&plain), &stored);
        layout.list(tagged(manifest, "1")).write(&self.path(name));
        format!("oci:{}:1", self.path(name).display())
    }

    /// An OCI layout with an index: two platforms and an attestation.
    pub(crate) fn index(&self, name: &str) -> String {
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

pub(crate) fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn failed(output: &Output) -> String {
    let message = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(output.stdout.is_empty());
    assert_eq!(message.lines().count(), 1, "{message}");
    message.trim_end().strip_prefix("layflat: ").unwrap().to_owned()
}

/// A command of skopeo's with the same home and the same registries.conf as layflat has there; if it fails, what it
/// says.
pub(crate) fn skopeo(place: &Place, arguments: &[&str]) -> Result<(), String> {
    let output = std::process::Command::new("skopeo")
        .args(["--registries-conf", &place.path("registries.conf").display().to_string()])
        .args(arguments)
        .current_dir(place.0.path())
        .envs([("HOME", place.path("home")), ("XDG_RUNTIME_DIR", place.0.path().to_owned())])
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

/// What a directory holds, by name.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
