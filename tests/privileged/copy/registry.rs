//! Real registries and engines: Debian's `docker-registry` and Podman's service, each a child of the test, with skopeo
//! as the judge.

use std::fs;

use layflat::core::digest::Digest;
use serde_json::{Value, json};

use super::place::{self, Images as _, Place};
use crate::common::harness::Test;
use crate::common::images::{self, Layout, tagged};
use crate::registry::servers::{Engine, Registry};

pub(crate) const TESTS: &[Test] = &[
    ("a_registry_takes_an_image_and_gives_it_back", false, a_registry_takes_an_image_and_gives_it_back),
    ("a_registry_is_sent_only_what_it_lacks", false, a_registry_is_sent_only_what_it_lacks),
    ("a_registry_takes_indexes_and_all_tags", false, a_registry_takes_indexes_and_all_tags),
    (
        "d4_nondistributable_layers_are_pushed_when_asked_for",
        false,
        d4_nondistributable_layers_are_pushed_when_asked_for,
    ),
    ("d3_what_an_index_lists_by_sha512_is_pushed_so", false, d3_what_an_index_lists_by_sha512_is_pushed_so),
    ("s3_a_damaged_blob_never_gets_a_name_at_a_registry", false, s3_a_damaged_blob_never_gets_a_name_at_a_registry),
    ("from_registry_to_engine_and_back", true, from_registry_to_engine_and_back),
];

/// A registry on loopback that is open to all, foreign layers too: its address.
pub(super) fn registry(place: &Place) -> (Registry, String) {
    let registry = Registry::configured(place, "validation: {manifests: {urls: {allow: ['^https://']}}}");
    let address = registry.address.to_string();
    (registry, address)
}

impl Place {
    /// The manifest at a registry, as skopeo reads it.
    #[track_caller]
    pub(super) fn at_registry(&self, image: &str) -> Vec<u8> {
        self.skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{image}")])
    }
}

pub(super) fn outcomes(report: &Value) -> Vec<&str> {
    report["blobs"].as_array().unwrap().iter().filter_map(|blob| blob["outcome"].as_str()).collect()
}

fn a_registry_takes_an_image_and_gives_it_back() {
    let place = Place::new();
    place::source(&place);
    let (_server, registry) = registry(&place);
    let manifest = place.skopeo_sees("oci:src:two").0;
    let there = format!("docker://{registry}/team/demo:2");
    let report = place.copy(&["oci:src:two", &there]);
    assert_eq!(report["images"][0]["names"], json!([format!("{registry}/team/demo:2")]));
    assert_eq!(place.at_registry(&there[9..]), manifest);
    let report = place.copy(&["--no-cache", &there, "oci:back:two"]);
    assert_eq!(report["images"][0]["manifest_digest"], Digest::sha256_of(&manifest).to_string());
    assert_eq!(place.skopeo_sees("oci:back:two").0, manifest);
    place.same("oci:src:two", &there);
    // Compressed anew on the way, in both directions.
    let zstd = format!("docker://{registry}/team/demo:zstd");
    place.copy(&["--compression", "zstd", &there, &zstd]);
    place.copy(&["--compression", "none", &zstd, "oci:back:plain"]);
    place.same("oci:src:two", &zstd);
    place.same("oci:src:two", "oci:back:plain");
    // Docker's manifests are taken as they are.
    place.skopeo(&[
        "copy",
        "-q",
        "--format",
        "v2s2",
        "--dest-tls-verify=false",
        "oci:src:one",
        &format!("docker://{registry}/docker:1"),
    ]);
    let docker = place.at_registry(&format!("{registry}/docker:1"));
    place.copy(&[&format!("docker://{registry}/docker:1"), &format!("docker://{registry}/other/docker:1")]);
    assert_eq!(place.at_registry(&format!("{registry}/other/docker:1")), docker);
    let refused = place.refused(&["oci:src:two", &format!("{there}@{}", images::digest(b""))]);
    assert!(refused.contains("an image is given a tag"), "{refused}");
}

fn d4_nondistributable_layers_are_pushed_when_asked_for() {
    const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    let place = Place::new();
    let (_server, registry) = registry(&place);
    let (vendor, own) = (images::layer("vendor"), images::layer("own"));
    let mut layout = Layout::default();
    let config = layout.blob(images::CONFIG, &images::config(&[&vendor, &own]));
    let (mut foreign, plain) = (layout.blob(FOREIGN, &vendor), layout.blob(images::LAYER, &own));
    foreign["urls"] = json!(["https://vendor.example/layer"]);
    let manifest =
        json!({"schemaVersion": 2, "mediaType": images::MANIFEST, "config": config, "layers": [foreign, plain]});
    let manifest = layout.document(images::MANIFEST, &manifest);
    layout.list(tagged(manifest.clone(), "t")).write(&place.path("foreign"));
    let at = |name: &str| format!("docker://{registry}/{name}");
    let report = place.copy(&["oci:foreign:t", &at("without:1")]);
    assert_eq!(outcomes(&report), ["left-out", "copied", "copied"]);
    let note = report["notes"][0].as_str().unwrap();
    assert!(note.contains(&images::digest(&vendor)), "{note}");
    // The manifest is what it was, and the layer is to be had elsewhere.
    assert_eq!(report["images"][0]["manifest_digest"], manifest["digest"]);
    let refused = place.refused(&["--no-cache", &at("without:1"), "oci:none:t"]);
    assert!(refused.contains("non-distributable") && refused.contains("https://vendor.example/layer"), "{refused}");
    // From one registry to another it is not needed, either.
    let report = place.copy(&["--no-cache", &at("without:1"), &at("again:1")]);
    assert_eq!(outcomes(&report), ["left-out", "mounted", "mounted"]);
    let report = place.copy(&["--allow-nondistributable", "oci:foreign:t", &at("with:1")]);
    assert_eq!(outcomes(&report), ["copied"; 3]);
    place.same("oci:foreign:t", &at("with:1"));
}

fn d3_what_an_index_lists_by_sha512_is_pushed_so() {
    let place = Place::new();
    let (_server, registry) = registry(&place);
    let mut layout = Layout::default();
    let image = layout.image(&[&images::layer("a")]);
    let (name, bytes) = layout.files.pop().unwrap();
    assert!(name.ends_with(image["digest"].as_str().unwrap().trim_start_matches("sha256:")));
    let digest = Digest::of(layflat::core::digest::Algorithm::Sha512, &bytes);
    layout.files.push((format!("blobs/sha512/{}", digest.hex()), bytes));
    let mut image = image;
    image["digest"] = json!(digest.to_string());
    let index =
        layout.document(images::INDEX, &json!({"schemaVersion": 2, "mediaType": images::INDEX, "manifests": [image]}));
    layout.list(tagged(index, "t")).write(&place.path("long"));
    let there = format!("docker://{registry}/long:1");
    // Debian's registry cannot take it (distribution#4420), and says of what.
    let refused = place.refused(&["--all-platforms", "oci:long:t", &there]);
    assert!(refused.contains(&format!("long@{digest}: the registry")), "{refused}");
    assert!(refused.contains("provided digest did not match uploaded content"), "{refused}");
}

fn a_registry_is_sent_only_what_it_lacks() {
    let place = Place::new();
    place::source(&place);
    let (_server, registry) = registry(&place);
    let at = |name: &str| format!("docker://{registry}/{name}");
    let first = place.copy(&["oci:src:one", &at("a:1")]);
    assert_eq!(outcomes(&first), ["copied"; 3]);
    let second = place.copy(&["oci:src:two", &at("a:2")]);
    assert_eq!(outcomes(&second), ["present", "present", "copied", "copied"]);
    let mounted = place.copy(&["--no-cache", &at("a:2"), &at("b:2")]);
    assert_eq!(outcomes(&mounted), ["mounted"; 4]);
    assert_eq!(place.at_registry(&format!("{registry}/b:2")), place.skopeo_sees("oci:src:two").0);
    // And it is asked only for what a layout lacks.
    place.copy(&["--no-cache", &at("a:1"), "oci:o:one"]);
    let report = place.copy(&["--no-cache", &at("a:2"), "oci:o:two"]);
    assert_eq!(outcomes(&report), ["present", "present", "copied", "copied"]);
}

fn a_registry_takes_indexes_and_all_tags() {
    let place = Place::new();
    let mut layout = Layout::default();
    let index = place::index(&mut layout);
    let [base, middle, _] = place::layers();
    let (one, two) = (layout.image(&[&base]), layout.image(&[&base, &middle]));
    layout
        .list(tagged(index.clone(), "all"))
        .list(tagged(one, "one"))
        .list(tagged(two, "two"))
        .write(&place.path("src"));
    let (_server, registry) = registry(&place);
    let there = format!("docker://{registry}/demo");
    place.copy(&["--all-tags", "--all-platforms", "oci:src", &there]);
    let report = place.copy(&["--all-tags", "--all-platforms", &there, "oci:back"]);
    let mut names: Vec<String> = report["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["names"][0].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["all", "one", "two"].map(|tag| format!("{registry}/demo:{tag}")));
    assert_eq!(images::digest(&place.at_registry(&format!("{registry}/demo:all"))), index["digest"].as_str().unwrap());
    assert_eq!(place.names("src/blobs"), place.names("back/blobs"));
    let refused = place.refused(&["--all-tags", "oci:src", &format!("{there}:x")]);
    assert!(refused.contains("omit it with --all-tags"), "{refused}");
}

fn s3_a_damaged_blob_never_gets_a_name_at_a_registry() {
    let place = Place::new();
    place::source(&place);
    let (_server, registry) = registry(&place);
    let top = place.open("oci:", "src:two").layers.pop().unwrap();
    let hex = top.blob.digest().unwrap().hex().to_owned();
    let path = place.path(&format!("src/blobs/sha256/{hex}"));
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, bytes).unwrap();
    let refused = place.refused(&["oci:src:two", &format!("docker://{registry}/demo:2")]);
    assert!(refused.contains("damaged or was altered") && refused.contains(&hex), "{refused}");
    let ran = place.ran(&["inspect", &format!("docker://{registry}/demo:2")]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
}

fn from_registry_to_engine_and_back() {
    let place = Place::new();
    place::source(&place);
    let (_registry_server, registry) = registry(&place);
    let _engine = Engine::start(&place);
    let socket = place.path("socket").display().to_string();

    let config = place.skopeo_sees("oci:src:two").1;
    let id = Digest::sha256_of(&config).to_string();
    let steps = [
        format!("docker://{registry}/start:1"),
        "oci:layout:1".to_owned(),
        "docker-archive:d.tar:localhost/demo:1".to_owned(),
        "docker-daemon:localhost/demo:1".to_owned(),
        format!("docker://{registry}/end:1"),
    ];
    let mut from = "oci:src:two".to_owned();
    for to in &steps {
        let report = place.copy(&["--socket", &socket, &from, to]);
        assert_eq!(report["images"][0]["config_digest"], id, "{to}");
        let seen = match to.as_str() {
            "docker-daemon:localhost/demo:1" => {
                place.skopeo(&["inspect", "--config", "--raw", "--daemon-host", &format!("unix://{socket}"), to])
            }
            registry if registry.starts_with("docker://") => {
                place.skopeo(&["inspect", "--config", "--raw", "--tls-verify=false", registry])
            }
            other => place.skopeo(&["inspect", "--config", "--raw", other]),
        };
        assert!(seen == config, "{to}");
        from.clone_from(to);
    }
    place.same("oci:src:two", &steps[4]);
    let refused = place.refused(&["--socket", &socket, "--all-platforms", "oci:src:two", "docker-daemon:Demo:1"]);
    assert!(refused.contains("upper-case"), "{refused}");
}
