//! A directory for images, layflat run in it, and other tools.

use std::fs;
use std::process::{Child, Output, Stdio};

use layflat::blob::Pace;
use layflat::core::digest::Digest;
use layflat::image::Image;
use layflat::transport::source::{self, OpenOptions};
use serde_json::{Value, json};

use crate::common::images::{self, Layout, Tar, tagged};
use crate::common::tools;

pub(crate) use crate::common::place::Place;

/// The media type of a layer compressed with gzip.
pub(crate) const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

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

/// What these tests need of a place.
pub(crate) trait Images {
    /// Runs layflat in the directory.
    fn ran(&self, arguments: &[&str]) -> Ran;
    /// Starts layflat in the directory.
    fn start(&self, arguments: &[&str]) -> Child;
    /// Copies, and gives the report.
    fn copy(&self, arguments: &[&str]) -> Value;
    /// Fails to copy, and gives the one line that it says.
    fn refused(&self, arguments: &[&str]) -> String;
    /// Two images are one: layflat finds no difference.
    fn same(&self, one: &str, other: &str);
    /// Runs another tool in the directory, and gives its output.
    fn tool(&self, package: &str, arguments: &[&str]) -> Vec<u8>;
    fn skopeo(&self, arguments: &[&str]) -> Vec<u8>;
    /// The manifest, and the configuration, as skopeo reads them.
    fn skopeo_sees(&self, image: &str) -> (Vec<u8>, Vec<u8>);
    fn open(&self, transport: &str, name: &str) -> Image;
    /// The DiffIDs of an image's layers, each worked out from its bytes.
    fn diff_ids(&self, transport: &str, name: &str) -> Vec<Digest>;
    fn document(&self, name: &str) -> Value;
    /// Every name in the directory but those of the home.
    fn names(&self, below: &str) -> Vec<String>;
}

impl Images for Place {
    fn ran(&self, arguments: &[&str]) -> Ran {
        self.run(arguments).into()
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.layflat(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    #[track_caller]
    fn copy(&self, arguments: &[&str]) -> Value {
        let ran = self.ran(&[&["copy", "--json"], arguments].concat());
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap()
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str]) -> String {
        let ran = self.ran(&[&["copy"], arguments].concat());
        assert_eq!(ran.code, Some(1), "{arguments:?}: {ran:?}");
        assert_eq!(ran.stdout, "");
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        ran.stderr.trim_end().to_owned()
    }

    #[track_caller]
    fn same(&self, one: &str, other: &str) {
        let ran = self.ran(&["diff", one, other]);
        assert_eq!(ran.code, Some(0), "{one} and {other}: {ran:?}");
    }

    #[track_caller]
    fn tool(&self, package: &str, arguments: &[&str]) -> Vec<u8> {
        tools::need_from(package, arguments[0]);
        let output = self.command(arguments[0]).args(&arguments[1..]).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[track_caller]
    fn skopeo(&self, arguments: &[&str]) -> Vec<u8> {
        self.tool("skopeo", &[&["skopeo", "--insecure-policy"], arguments].concat())
    }

    #[track_caller]
    fn skopeo_sees(&self, image: &str) -> (Vec<u8>, Vec<u8>) {
        let inspect = |what| self.skopeo(&["inspect", what, "--raw", image]);
        (inspect("--no-tags"), self.skopeo(&["inspect", "--config", "--raw", image]))
    }

    fn open(&self, transport: &str, name: &str) -> Image {
        let reference = format!("{transport}{}", self.path(name).display());
        source::open(&reference.parse().unwrap(), &OpenOptions::default()).unwrap()
    }

    fn diff_ids(&self, transport: &str, name: &str) -> Vec<Digest> {
        let image = self.open(transport, name);
        let limits = layflat::Limits::default();
        let facts = |layer: &layflat::image::Layer| layer.blob.open_layer(&limits, Pace::OnDemand).unwrap().finish();
        image.layers.iter().map(|layer| facts(layer).unwrap().diff_id).collect()
    }

    fn document(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }

    fn names(&self, below: &str) -> Vec<String> {
        let root = self.path(below);
        let home = self.path("home");
        let walk = walkdir::WalkDir::new(&root).min_depth(1).sort_by_file_name();
        let walk = walk.into_iter().filter_entry(move |entry| entry.path() != home);
        let name = |entry: walkdir::Result<walkdir::DirEntry>| {
            entry.unwrap().path().strip_prefix(&root).unwrap().to_str().unwrap().to_owned()
        };
        walk.map(name).collect()
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
