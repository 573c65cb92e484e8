//! A directory for images, layflat run in it, and other tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use layflat::blob::Pace;
use layflat::core::digest::Digest;
use layflat::image::Image;
use layflat::transport::source::{self, OpenOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::images::{self, Layout, Tar, tagged};
use crate::common::tools;

/// The media type of a layer compressed with gzip.
pub(crate) const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A directory, and beside it a home for the tools: with a cache, and with no credentials.
pub(crate) struct Place(TempDir, TempDir);

/// What a program said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("auth.json"), "{}").unwrap();
        Self(tempfile::tempdir().unwrap(), home)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        // umoci and Podman want a home; what the machine's users have in theirs is none of ours.
        let home = self.1.path();
        command.args(arguments).current_dir(self.0.path()).env("HOME", home).env("LC_ALL", "C.UTF-8");
        command.env("XDG_CACHE_HOME", home.join("cache")).env("REGISTRY_AUTH_FILE", home.join("auth.json"));
        command
    }

    /// Runs layflat in the directory.
    pub(crate) fn layflat(&self, arguments: &[&str]) -> Ran {
        self.command(Path::new(env!("CARGO_BIN_EXE_layflat")), arguments).output().unwrap().into()
    }

    /// Starts layflat in the directory.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_layflat")), arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Copies, and gives the report.
    #[track_caller]
    pub(crate) fn copy(&self, arguments: &[&str]) -> Value {
        let ran = self.layflat(&[&["copy", "--json"], arguments].concat());
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// Fails to copy, and gives the one line that it says.
    #[track_caller]
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let ran = self.layflat(&[&["copy"], arguments].concat());
        assert_eq!(ran.code, Some(1), "{arguments:?}: {ran:?}");
        assert_eq!(ran.stdout, "");
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        ran.stderr.trim_end().to_owned()
    }

    /// Two images are one: layflat finds no difference.
    #[track_caller]
    pub(crate) fn same(&self, one: &str, other: &str) {
        let ran = self.layflat(&["diff", one, other]);
        assert_eq!(ran.code, Some(0), "{one} and {other}: {ran:?}");
    }

    /// Runs another tool in the directory, and gives its output.
    #[track_caller]
    pub(crate) fn tool(&self, package: &str, arguments: &[&str]) -> Vec<u8> {
        tools::need_from(package, arguments[0]);
        let output = self.command(Path::new(arguments[0]), &arguments[1..]).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[track_caller]
    pub(crate) fn skopeo(&self, arguments: &[&str]) -> Vec<u8> {
        self.tool("skopeo", &[&["skopeo", "--insecure-policy"], arguments].concat())
    }

    /// The manifest, and the configuration, as skopeo reads them.
    #[track_caller]
    pub(crate) fn skopeo_sees(&self, image: &str) -> (Vec<u8>, Vec<u8>) {
        let inspect = |what| self.skopeo(&["inspect", what, "--raw", image]);
        (inspect("--no-tags"), self.skopeo(&["inspect", "--config", "--raw", image]))
    }

    pub(crate) fn open(&self, transport: &str, name: &str) -> Image {
        let reference = format!("{transport}{}", self.path(name).display());
        source::open(&reference.parse().unwrap(), &OpenOptions::default()).unwrap()
    }

    /// The DiffIDs of an image's layers, each worked out from its bytes.
    pub(crate) fn diff_ids(&self, transport: &str, name: &str) -> Vec<Digest> {
        let image = self.open(transport, name);
        let limits = layflat::Limits::default();
        let facts = |layer: &layflat::image::Layer| layer.blob.open_layer(&limits, Pace::OnDemand).unwrap().finish();
        image.layers.iter().map(|layer| facts(layer).unwrap().diff_id).collect()
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }

    /// Every name in the directory, without those below a name that begins with `except`.
    pub(crate) fn names(&self, below: &str) -> Vec<String> {
        let root = self.path(below);
        let walk = walkdir::WalkDir::new(&root).min_depth(1).sort_by_file_name();
        let name = |entry: walkdir::Result<walkdir::DirEntry>| {
            entry.unwrap().path().strip_prefix(&root).unwrap().to_str().unwrap().to_owned()
        };
        walk.into_iter().map(name).collect()
    }
}

/// Three layers, the base first: directories, links, a mark, and some text.
pub(crate) fn layers() -> [Vec<u8>; 3] {
    let text: String = (0..40_000).map(|number| format!("line {}\n", number * 7919 % 10_007)).collect();
    [
        Tar::new().directory("etc/").file("etc/passwd", "root:x:0:0::/:/bin/sh\n").file("text", &text).done(),
        Tar::new().file("a", "a").symlink("to-a", "a").file(".wh.text", "").done(),
        Tar::new().directory("d/").file("d/x", "x").file("etc/passwd", "nobody\n").done(),
    ]
}

/// An OCI layout in the directory `src`, whose images share their base: `one` of two layers, `two` of three.
pub(crate) fn source(place: &Place) -> Layout {
    let [base, middle, top] = layers();
    let mut layout = Layout::default();
    let mut image = |layers: &[&[u8]]| {
        let stored: Vec<(&str, Vec<u8>)> = layers.iter().map(|layer| (LAYER_GZIP, images::gzip(layer))).collect();
        layout.image_of(&images::config(layers), &stored)
    };
    let (one, two) = (image(&[&base, &middle]), image(&[&base, &middle, &top]));
    let layout = layout.list(tagged(one, "one")).list(tagged(two, "two"));
    layout.write(&place.path("src"));
    layout
}

/// An index of images for two platforms, each with an attestation, in a layout; its descriptor.
pub(crate) fn index(layout: &mut Layout) -> Value {
    let images = [layout.image_for("linux/amd64"), layout.image_for("linux/arm64/v8")];
    let mut entries = images.to_vec();
    for image in &images {
        let statement =
            layout.blob("application/vnd.in-toto+json", br#"{"_type":"https://in-toto.io/Statement/v0.1"}"#);
        let config = layout.blob(images::CONFIG, &images::config(&[]));
        let mut attestation = layout.document(
            images::MANIFEST,
            &json!({"schemaVersion": 2, "mediaType": images::MANIFEST, "config": config, "layers": [statement],
                "annotations": {"of": image["digest"]}}),
        );
        attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        attestation["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image["digest"],
        });
        entries.push(attestation);
    }
    layout.document(images::INDEX, &json!({"schemaVersion": 2, "mediaType": images::INDEX, "manifests": entries}))
}
