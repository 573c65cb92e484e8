//! Indexes and attestations, and what Docker's words become.

use std::fs;

use serde_json::{Value, json};

use super::place::{self, Images as _, Place};
use crate::common::harness::Test;
use crate::common::images::{self, Layout, tagged};

pub(crate) const TESTS: &[Test] = &[
    ("an_index_is_copied_whole_with_its_attestations", false, an_index_is_copied_whole_with_its_attestations),
    ("an_index_of_rewritten_images_lists_the_new_ones", false, an_index_of_rewritten_images_lists_the_new_ones),
    ("one_platform_is_one_image", false, one_platform_is_one_image),
    ("docker_manifests_become_oci_manifests_in_layouts", false, docker_manifests_become_oci_manifests_in_layouts),
    ("what_a_manifest_says_beyond_its_layers_stays", false, what_a_manifest_says_beyond_its_layers_stays),
    ("skopeo_reads_what_layflat_reads", false, skopeo_reads_what_layflat_reads),
    ("an_archive_keeps_images_that_are_listed_without_a_media_type", false, listed_without_a_media_type),
];

fn indexed(place: &Place) -> Value {
    let mut layout = Layout::default();
    let index = place::index(&mut layout);
    layout.list(tagged(index.clone(), "all")).write(&place.path("src"));
    index
}

fn an_index_is_copied_whole_with_its_attestations() {
    let place = Place::new();
    let index = indexed(&place);
    for to in ["oci:copy:all", "oci-archive:copy.tar:all"] {
        let report = place.copy(&["--all-platforms", "oci:src:all", to]);
        assert_eq!(report["images"][0]["manifest_digest"], index["digest"]);
        assert_eq!(images::digest(&place.skopeo(&["inspect", "--raw", to])), index["digest"].as_str().unwrap());
    }
    // Every blob, and none else.
    let blobs = |name: &str| place.names(&format!("{name}/blobs"));
    assert_eq!(blobs("src"), blobs("copy"));
    place.skopeo(&["copy", "-q", "--all", "--preserve-digests", "oci-archive:copy.tar:all", "oci:theirs:all"]);
    assert_eq!(blobs("src"), blobs("theirs"));
    for to in ["docker-archive:d.tar:a:1", "dir:d"] {
        assert!(place.refused(&["--all-platforms", "oci:src:all", to]).contains("omit --all-platforms"));
    }
    assert!(!place.path("d.tar").exists() && !place.path("d").exists());
}

fn an_index_of_rewritten_images_lists_the_new_ones() {
    let place = Place::new();
    indexed(&place);
    let report = place.copy(&["--all-platforms", "--compression", "zstd", "oci:src:all", "oci:copy:all"]);
    let notes = report["notes"].to_string();
    assert!(notes.contains("attestations, is kept, but speaks of them under their old digests"), "{notes}");
    let index: Value = serde_json::from_slice(&place.skopeo(&["inspect", "--raw", "oci:copy:all"])).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(entries[1]["platform"], json!({"os": "linux", "architecture": "arm64", "variant": "v8"}));
    for (image, attestation) in [(0, 2), (1, 3)] {
        assert_eq!(entries[attestation]["annotations"]["vnd.docker.reference.digest"], entries[image]["digest"]);
    }
    for platform in ["linux/amd64", "linux/arm64"] {
        let ran = place.ran(&["diff", "--platform", platform, "oci:src:all", "oci:copy:all"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
}

fn one_platform_is_one_image() {
    let place = Place::new();
    let index = indexed(&place);
    let entries = place.document(&format!("src/blobs/sha256/{}", &index["digest"].as_str().unwrap()[7..]));
    let report = place.copy(&["--platform", "linux/arm64", "oci:src:all", "oci:copy:arm"]);
    assert_eq!(report["images"][0]["manifest_digest"], entries["manifests"][1]["digest"]);
    let refused = place.refused(&["--platform", "linux/s390x", "oci:src:all", "oci:none:x"]);
    assert!(refused.contains("there is no image for linux/s390x"), "{refused}");
    assert!(!place.path("none").exists());
}

fn docker_manifests_become_oci_manifests_in_layouts() {
    let place = Place::new();
    let [base, middle, _] = place::layers();
    let mut layout = Layout::default();
    let config = layout.blob("application/vnd.docker.container.image.v1+json", &images::config(&[&base, &middle]));
    let gzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    let layers = [layout.blob(gzip, &images::gzip(&base)), layout.blob(gzip, &images::gzip(&middle))];
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": docker, "config": config, "layers": layers});
    let image = layout.document(docker, &manifest);
    layout.list(tagged(image.clone(), "docker")).write(&place.path("src"));
    let report = place.copy(&["oci:src:docker", "oci:copy:oci"]);
    assert!(report["notes"][0].as_str().unwrap().contains(image["digest"].as_str().unwrap()));
    let (found, same_config) = place.skopeo_sees("oci:copy:oci");
    assert_eq!(same_config, images::config(&[&base, &middle]));
    let found: Value = serde_json::from_slice(&found).unwrap();
    assert_eq!(found["mediaType"], images::MANIFEST);
    assert_eq!(found["config"]["mediaType"], images::CONFIG);
    for (layer, was) in found["layers"].as_array().unwrap().iter().zip(&layers) {
        assert_eq!(layer["mediaType"], place::LAYER_GZIP);
        assert_eq!(layer["digest"], was["digest"]);
    }
    place.tool("umoci", &["umoci", "unpack", "--rootless", "--image", "copy:oci", "bundle"]);
    place.same("oci:src:docker", "oci:copy:oci");
}

fn what_a_manifest_says_beyond_its_layers_stays() {
    let place = Place::new();
    let [base, ..] = place::layers();
    let mut layout = Layout::default();
    let config = layout.blob(images::CONFIG, &images::config(&[&base]));
    let mut layer = layout.blob(images::LAYER, &base);
    layer["annotations"] = json!({"title": "base", "io.github.containers.zstd-chunked.manifest-position": "1:2"});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": images::MANIFEST, "config": config, "layers": [layer],
        "annotations": {"org.opencontainers.image.version": "1"}, "x-own": [1, 2],
    });
    let image = layout.document(images::MANIFEST, &manifest);
    layout.list(tagged(image, "x")).write(&place.path("src"));
    place.copy(&["--compression", "zstd", "oci:src:x", "oci:copy:x"]);
    let found: Value = serde_json::from_slice(&place.skopeo_sees("oci:copy:x").0).unwrap();
    assert_eq!(found["annotations"], manifest["annotations"]);
    assert_eq!(found["x-own"], manifest["x-own"]);
    // What is only true of the bytes as they were is gone.
    assert_eq!(found["layers"][0]["annotations"], json!({"title": "base"}));
    assert_eq!(found["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    let stored = fs::metadata(
        place.path(&format!("copy/blobs/sha256/{}", &found["layers"][0]["digest"].as_str().unwrap()[7..])),
    );
    assert_eq!(found["layers"][0]["size"], stored.unwrap().len());
}

/// Keys in another case, and an `oci-layout` that is empty.
fn skopeo_reads_what_layflat_reads() {
    let place = Place::new();
    let a = images::layer("a");
    let config = json!({"OS": "linux", "Architecture": "amd64", "config": {"user": "7"},
        "rootfS": {"type": "layers", "diff_ids": [images::digest(&a)]}});
    let mut layout = Layout::default();
    let image = layout.image_of(&serde_json::to_vec(&config).unwrap(), &[(images::LAYER, a)]);
    layout.list(tagged(image, "t")).write(&place.path("odd"));
    fs::write(place.path("odd/oci-layout"), "").unwrap();
    let seen: Value = serde_json::from_slice(&place.skopeo(&["inspect", "--config", "oci:odd:t"])).unwrap();
    let reference = format!("oci:{}:t", place.path("odd").display()).parse().unwrap();
    let own =
        layflat::transport::source::open(&reference, &layflat::transport::source::OpenOptions::default()).unwrap();
    let own = own.config.unwrap().parsed;
    assert_eq!(seen["config"]["User"], own.config.user);
    assert_eq!((&seen["os"], &seen["architecture"]), (&json!(own.os), &json!(own.architecture)));
}

fn listed_without_a_media_type() {
    let place = Place::new();
    let mut layout = Layout::default();
    let mut image = layout.image(&[&images::layer("a")]);
    image.as_object_mut().unwrap().remove("mediaType");
    layout.list(tagged(image, "a")).write(&place.path("bare"));
    place.tool("tar", &["tar", "-C", "bare", "-cf", "bare.tar", "."]);
    indexed(&place);
    place.copy(&["--all-platforms", "oci:src:all", "oci-archive:bare.tar:b"]);
    place.same("oci:bare:a", "oci-archive:bare.tar:a");
}
