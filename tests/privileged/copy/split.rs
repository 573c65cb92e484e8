//! Large layers in parts: what other tools make of them, and what the image says of itself.

use serde_json::{Value, json};

use super::place::{Images as _, LAYER_GZIP, Place};
use crate::common::harness::Test;
use crate::common::images::{self, Layout, Tar, tagged};
use crate::common::tree::Tree;

pub(crate) const TESTS: &[Test] = &[
    ("other_tools_unpack_parts_to_the_same_files", false, other_tools_unpack_parts_to_the_same_files),
    ("every_part_has_its_diff_id_and_a_line_of_history", false, every_part_has_its_diff_id_and_a_line_of_history),
    ("images_of_all_platforms_are_split", false, images_of_all_platforms_are_split),
    ("parts_go_to_every_store", false, parts_go_to_every_store),
    ("split_images_have_no_referrers", false, split_images_have_no_referrers),
];

const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Two layers: the upper one deletes, replaces, links and adds below directories that it lists.
fn layers() -> [Vec<u8>; 2] {
    let text = |seed: usize| (0..4000).map(|line| format!("{}\n", line * seed % 10_007)).collect::<String>();
    let base = Tar::new().directory("d/").file("d/old", "old").file("gone", "gone").file("kept", text(3)).done();
    let top = Tar::new()
        .directory("d/")
        .file("d/.wh..wh..opq", "")
        .file("d/one", text(5))
        .file("d/two", text(7))
        .directory("e/")
        .file("e/three", text(11))
        .link(tar::EntryType::Link, "e/link", "d/one")
        .symlink("e/symlink", "three")
        .file(".wh.gone", "")
        .done();
    [base, top]
}

fn source(place: &Place) {
    let layers = layers();
    let [base, top] = [&layers[0][..], &layers[1][..]];
    let mut layout = Layout::default();
    let mut config: Value = serde_json::from_slice(&images::config(&[base, top])).unwrap();
    config["history"] = json!([
        {"created_by": "ADD base", "created": "2024-01-01T00:00:00Z"},
        {"created_by": "ENV A=b", "empty_layer": true},
        {"created_by": "COPY top", "comment": "buildkit.dockerfile.v0"},
    ]);
    config["config"] = json!({"Env": ["A=b"], "Labels": {"l": "m"}});
    let stored = [(LAYER_GZIP, images::gzip(base)), (LAYER_GZIP, images::gzip(top))];
    let image = layout.image_of(&serde_json::to_vec(&config).unwrap(), &stored);
    layout.list(tagged(image, "1")).write(&place.path("src"));
}

fn other_tools_unpack_parts_to_the_same_files() {
    let place = Place::new();
    source(&place);
    place.copy(&["--split", "32K", "oci:src:1", "oci:parts:1"]);
    place.same("oci:src:1", "oci:parts:1");
    // umoci reads no zstd everywhere; what it unpacks does not depend on it.
    place.copy(&["--split", "32K", "--compression", "gzip", "oci:src:1", "oci:gzip:1"]);
    let unpacked = |image: &str, bundle: &str| {
        place.tool("umoci", &["umoci", "unpack", "--rootless", "--image", image, bundle]);
        let mut tree = Tree::of_directory(&place.path(&format!("{bundle}/rootfs")));
        // No layer names the root.
        tree.0.remove(&b""[..]);
        tree
    };
    let differences = unpacked("src:1", "whole").differences(&unpacked("gzip:1", "bundle"));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    place.skopeo(&["copy", "-q", "oci:parts:1", "oci:check:1"]);
    place.same("oci:check:1", "oci:src:1");
}

fn every_part_has_its_diff_id_and_a_line_of_history() {
    let place = Place::new();
    source(&place);
    place.copy(&["--split", "32K", "oci:src:1", "oci:parts:1"]);
    let (manifest, config) = place.skopeo_sees("oci:parts:1");
    let (_, before) = place.skopeo_sees("oci:src:1");
    let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let (manifest, config, before) = (parse(&manifest), parse(&config), parse(&before));
    let layers = manifest["layers"].as_array().unwrap();
    let kinds: Vec<&str> = layers.iter().map(|layer| layer["mediaType"].as_str().unwrap()).collect();
    // The lower one is one file, and stays.
    assert_eq!(kinds, [LAYER_GZIP, LAYER_ZSTD, LAYER_ZSTD, LAYER_ZSTD]);
    let diff_ids: Vec<String> = place.diff_ids("oci:", "parts:1").iter().map(ToString::to_string).collect();
    assert_eq!(config["rootfs"]["diff_ids"], json!(diff_ids));
    assert_eq!(
        config["history"],
        json!([
            {"created_by": "ADD base", "created": "2024-01-01T00:00:00Z"},
            {"created_by": "ENV A=b", "empty_layer": true},
            {"created_by": "COPY top", "comment": "buildkit.dockerfile.v0, part 1 of 3"},
            {"created_by": "COPY top", "comment": "buildkit.dockerfile.v0, part 2 of 3"},
            {"created_by": "COPY top", "comment": "buildkit.dockerfile.v0, part 3 of 3"},
        ])
    );
    assert_eq!(config["config"], before["config"]);
    // Again, it is the same image; split enough already, it stays as it is.
    place.copy(&["--split", "32K", "--jobs", "1", "oci:src:1", "oci:again:1"]);
    assert_eq!(place.skopeo_sees("oci:again:1"), place.skopeo_sees("oci:parts:1"));
    place.copy(&["--split", "1M", "oci:src:1", "oci:whole:1"]);
    assert_eq!(place.skopeo_sees("oci:whole:1"), place.skopeo_sees("oci:src:1"));
}

fn images_of_all_platforms_are_split() {
    let place = Place::new();
    let mut layout = Layout::default();
    let platforms = ["amd64", "arm64"];
    let images = platforms.map(|architecture| {
        let layer = Tar::new().file("one", architecture).file("two", architecture).done();
        let config = images::config_for(&format!("linux/{architecture}"), json!([images::digest(&layer)]));
        let mut image = layout.image_of(&config, &[(images::LAYER, layer)]);
        image["platform"] = json!({"os": "linux", "architecture": architecture});
        image
    });
    let index = json!({"schemaVersion": 2, "mediaType": images::INDEX, "manifests": images});
    let index = layout.document(images::INDEX, &index);
    layout.list(tagged(index, "1")).write(&place.path("src"));
    place.copy(&["--all-platforms", "--split", "1K", "oci:src:1", "oci:parts:1"]);
    for architecture in platforms {
        let platform = format!("linux/{architecture}");
        for (from, to) in [("oci:src:1", "oci:one:1"), ("oci:parts:1", "oci:other:1")] {
            place.copy(&["--platform", &platform, from, to]);
        }
        place.same("oci:one:1", "oci:other:1");
        assert_eq!(place.diff_ids("oci:", "other:1").len(), 2);
    }
}

fn parts_go_to_every_store() {
    let place = Place::new();
    source(&place);
    for (transport, name, tag) in
        [("docker-archive:", "d.tar", ":demo:1"), ("oci-archive:", "a.tar", ":1"), ("dir:", "unpacked", "")]
    {
        place.copy(&["--split", "32K", "oci:src:1", &format!("{transport}{name}{tag}")]);
        place.same(&format!("{transport}{name}"), "oci:src:1");
        assert_eq!(place.diff_ids(transport, name).len(), 4, "{transport}");
    }
}

/// What refers to the image says nothing of the one in parts.
fn split_images_have_no_referrers() {
    let place = Place::new();
    source(&place);
    let ran = place.ran(&["copy", "--split", "1K", "--referrers", "oci:src:1", "oci:parts:1"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("--split") && ran.stderr.contains("--referrers"), "{}", ran.stderr);
    assert!(!place.path("parts").exists());
}
