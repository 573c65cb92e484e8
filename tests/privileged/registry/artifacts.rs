//! What is not an image but lies among them: artifacts, and what refers to images; and manifests in Docker's words for
//! registries that know no others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::place::{Images as _, Place, noise};
use super::proxy::{Act, Proxy, answer};
use super::servers::{Registry, tool};
use crate::common::harness::Test;
use crate::common::images::{self, CONFIG, INDEX, Layout, MANIFEST, gzip, tagged, zstd};

pub(crate) const TESTS: &[Test] = &[
    ("artifacts::are_copied_as_they_are_and_said_to_be_none", false, as_they_are),
    ("artifacts::an_unknown_configuration_of_an_image_is_read", false, odd_configuration),
    ("artifacts::referrers_go_along", false, referrers),
    ("artifacts::a_registry_that_lists_referrers_does_so_itself", false, listed_by_the_registry),
    ("artifacts::referrers_of_what_was_changed_stay", false, changed_subject),
    ("artifacts::manifests_in_dockers_words_are_skopeos", false, docker_words),
    ("artifacts::a_registry_that_refuses_oci_gets_dockers", false, refused),
    ("artifacts::a_tag_that_is_gone_says_so", false, vanished),
];

const HELM: &str = "application/vnd.cncf.helm.config.v1+json";
const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The manifest at a registry, as skopeo reads it.
fn raw(image: &str) -> String {
    tool("skopeo", &["inspect", "--raw", "--tls-verify=false", image])
}

/// An artifact, perhaps of something.
fn artifact(layout: &mut Layout, kind: &str, subject: Option<&Value>) -> Value {
    let config = layout.blob("application/vnd.oci.empty.v1+json", b"{}");
    let blob = layout.blob(kind, kind.as_bytes());
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind, "config": config, "layers": [blob],
        "annotations": {"what": kind},
    });
    if let Some(subject) = subject {
        manifest["subject"] = subject.clone();
    }
    layout.document(MANIFEST, &manifest)
}

/// cosign's signature of something: an image by its configuration, but not by its layers.
fn cosign(layout: &mut Layout) -> Value {
    let config = layout.blob(CONFIG, &images::config(&[]));
    let payload = layout.blob("application/vnd.dev.cosign.simplesigning.v1+json", b"{\"critical\":{}}");
    layout
        .document(MANIFEST, &json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [payload]}))
}

fn image(layout: &mut Layout) -> Value {
    let layer = images::layer("file");
    layout.image_of(&images::config(&[&layer]), &[(LAYER_GZIP, gzip(&layer))])
}

fn tag_of(descriptor: &Value) -> String {
    descriptor["digest"].as_str().unwrap().replace(':', "-")
}

fn as_they_are() {
    let place = Place::new();
    let registry = Registry::open(&place);
    let mut layout = Layout::default();
    let image = image(&mut layout);
    let signature = cosign(&mut layout);
    let config = layout.blob(HELM, b"{\"name\":\"demo\"}");
    let content = layout.blob("application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"chart");
    let helm = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [content]});
    let chart = layout.document(MANIFEST, &helm);
    let signature_tag = format!("{}.sig", tag_of(&image));
    layout
        .list(tagged(image.clone(), "1"))
        .list(tagged(chart.clone(), "chart"))
        .list(tagged(signature.clone(), &signature_tag))
        .write(&place.path("src"));
    let there = registry.image("app");
    let said = place.printed(&["copy", "--all-tags", "oci:src", &there]);
    assert!(said.contains("attachment"), "{said}");
    for (tag, descriptor) in [("1", &image), ("chart", &chart), (&signature_tag, &signature)] {
        assert_eq!(images::digest(raw(&format!("{there}:{tag}")).as_bytes()), descriptor["digest"].as_str().unwrap());
    }
    // And back, every byte.
    place.printed(&["copy", "--no-cache", "--all-tags", &there, "oci:back"]);
    let blobs = |name: &str| super::place::names(&place.path(name).join("blobs/sha256"));
    assert_eq!(blobs("src"), blobs("back"));
    assert_eq!(place.printed(&["inspect", "--config", &format!("{there}:chart")]), "{\"name\":\"demo\"}");
    assert_eq!(
        place.message(&["flatten", &format!("{there}:chart"), "root"]),
        format!(
            "cannot open {there}:chart: {} is a Helm chart ({HELM}), not an image",
            chart["digest"].as_str().unwrap()
        )
    );
    // Where only images can be, one is refused, and of all tags left out.
    let message = place.message(&["copy", &format!("{there}:chart"), "docker-archive:chart.tar"]);
    assert!(message.contains("is a Helm chart (") && message.contains("hold images only"), "{message}");
    let output = place.run(&["copy", "--all-tags", &there, "docker-archive:all.tar"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("left out ") && said.contains("a cosign signature ("), "{said}");
    assert_eq!(place.printed(&["tags", "docker-archive:all.tar"]), format!("{}:1\n", registry.name("app")));
}

fn odd_configuration() {
    let place = Place::new();
    let registry = Registry::open(&place);
    for (name, media_type) in [("octets", "application/octet-stream"), ("own", "application/x-mine")] {
        let mut layout = Layout::default();
        let layer = images::layer("file");
        let config = layout.blob(media_type, &images::config(&[&layer]));
        let stored = layout.blob(LAYER_GZIP, &gzip(&layer));
        let value = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [stored]});
        let manifest = layout.document(MANIFEST, &value);
        layout.list(tagged(manifest, "1")).write(&place.path(name));
        let (from, there) = (format!("oci:{name}:1"), registry.image(&format!("{name}:1")));
        place.printed(&["copy", &from, &there]);
        assert_eq!(place.printed(&["cat", &there, "file"]), "file");
    }
    // ORAS has tar archives, too; what it has for a configuration is none.
    let mut layout = Layout::default();
    let config = layout.blob("application/vnd.unknown.config.v1+json", b"{}");
    let stored = layout.blob("application/vnd.oci.image.layer.v1.tar", b"hello\n");
    let value = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [stored]});
    let manifest = layout.document(MANIFEST, &value);
    layout.list(tagged(manifest, "1")).write(&place.path("oras"));
    place.printed(&["copy", "oci:oras:1", &registry.image("oras:1")]);
    let message = place.message(&["ls", &registry.image("oras:1")]);
    assert!(message.ends_with("is an artifact (application/vnd.unknown.config.v1+json), not an image"), "{message}");
}

/// An image in the layout `src`, with an SBOM that is signed, and cosign's signature under its tag: the descriptors.
fn with_referrers(place: &Place) -> [Value; 4] {
    let mut layout = Layout::default();
    let image = image(&mut layout);
    let sbom = artifact(&mut layout, "application/spdx+json", Some(&image));
    let of_sbom = artifact(&mut layout, "application/vnd.cncf.notary.signature", Some(&sbom));
    let signature = cosign(&mut layout);
    let other = artifact(&mut layout, "text/x-of-nothing", None);
    layout
        .list(tagged(image.clone(), "1"))
        .list(sbom.clone())
        .list(of_sbom.clone())
        .list(tagged(signature.clone(), &format!("{}.sig", tag_of(&image))))
        .list(tagged(other, "other"))
        .write(&place.path("src"));
    [image, sbom, of_sbom, signature]
}

fn digests(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().filter_map(|entry| entry["digest"].as_str()).collect()
}

fn referrers() {
    let place = Place::new();
    let registry = Registry::open(&place);
    let all = with_referrers(&place);
    let [image, sbom, of_sbom, signature] = &all;
    let text = |value: &Value| value["digest"].as_str().unwrap().to_owned();
    // A layout, a registry that does not list referrers, another repository of it, a layout, an archive.
    let (a, b) = (registry.image("a:1"), registry.image("b:1"));
    let way = ["oci:src:1", a.as_str(), b.as_str(), "oci:back:1", "oci-archive:back.tar:1", "oci:again:1"];
    for step in way.windows(2) {
        let report = place.json(&["copy", "--no-cache", "--referrers", step[0], step[1]]);
        let mut found = digests_of(&report["referrers"]);
        let mut expected = vec![text(sbom), text(of_sbom), text(signature)];
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{step:?}");
    }
    for there in [&a, &b] {
        let repository = there.strip_suffix(":1").unwrap();
        let index: Value = serde_json::from_str(&raw(&format!("{repository}:{}", tag_of(image)))).unwrap();
        assert_eq!(index["mediaType"], INDEX);
        assert_eq!(digests(&index["manifests"]), [text(sbom)]);
        assert_eq!(index["manifests"][0]["artifactType"], "application/spdx+json");
        assert_eq!(index["manifests"][0]["annotations"]["what"], "application/spdx+json");
        let index: Value = serde_json::from_str(&raw(&format!("{repository}:{}", tag_of(sbom)))).unwrap();
        assert_eq!(digests(&index["manifests"]), [text(of_sbom)]);
        let signed = raw(&format!("{repository}:{}.sig", tag_of(image)));
        assert_eq!(images::digest(signed.as_bytes()), text(signature));
    }
    // Once more, and nothing is listed twice; a new one is added to those that are there.
    place.printed(&["copy", "--no-cache", "--referrers", "oci:src:1", &a]);
    let repository = a.strip_suffix(":1").unwrap();
    let index: Value = serde_json::from_str(&raw(&format!("{repository}:{}", tag_of(image)))).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    // The image is still to be had without a tag being said: what refers to it is not one.
    place.printed(&["copy", "--referrers", "oci-archive:back.tar:1", "oci:again:1"]);
    assert_eq!(place.printed(&["digest", "oci:again:1"]).trim(), text(image));
    // All tags of the repository: the index of referrers goes whole.
    place.printed(&["copy", "--no-cache", "--all-tags", repository, "oci:mirror"]);
    assert!(place.printed(&["tags", "oci:mirror"]).contains(&tag_of(image)));
    let message = place.message(&["copy", "--referrers", "oci:src:1", "docker-archive:d.tar:x"]);
    assert!(message.contains("omit --referrers"), "{message}");
}

fn digests_of(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|entry| entry["manifest_digest"].as_str().unwrap().to_owned()).collect()
}

fn listed_by_the_registry() {
    let place = Place::new();
    let registry = Registry::open(&place);
    let [image, sbom, of_sbom, _] = with_referrers(&place);
    // It says that it lists what is put there, and lists it.
    let (of_image, of_artifact) =
        (image["digest"].as_str().unwrap().to_owned(), sbom["digest"].as_str().unwrap().to_owned());
    let proxy = Proxy::start(Some(registry.address), move |head, _| {
        let list = |listed: &Value| {
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [listed]});
            answer("200 OK", &[&format!("Content-Type: {INDEX}")], &index.to_string())
        };
        match head.path.split_once("/referrers/") {
            Some((_, digest)) if digest == of_image => list(&sbom),
            Some((_, digest)) if digest == of_artifact => list(&of_sbom),
            Some(_) => answer("200 OK", &[], "{\"schemaVersion\":2,\"manifests\":[]}"),
            None if head.method == "PUT" && head.path.contains("/manifests/sha256:") => Act::With("OCI-Subject: it"),
            None => Act::Pass,
        }
    });
    place.printed(&["copy", "--referrers", "oci:src:1", &proxy.image("a:1")]);
    let tags = place.printed(&["tags", &proxy.image("a")]);
    assert_eq!(tags, format!("1\n{}.sig\n", tag_of(&image)));
    let report = place.json(&["copy", "--no-cache", "--referrers", &proxy.image("a:1"), "oci:back:1"]);
    assert_eq!(report["referrers"].as_array().unwrap().len(), 3);
}

fn changed_subject() {
    let place = Place::new();
    with_referrers(&place);
    let output = place.run(&["copy", "--referrers", "--compression", "zstd", "oci:src:1", "oci:o:1"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("note: left out 3 that refer to images"), "{said}");
    assert_eq!(place.printed(&["tags", "oci:o"]), "1\n");
}

fn docker_words() {
    let place = Place::new();
    let registry = Registry::open(&place);
    let mut layout = Layout::default();
    let layers = [images::layer("a"), images::layer("b")];
    let plain: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let config = layout.blob(CONFIG, &images::config(&plain));
    let stored = [layout.blob(LAYER_GZIP, &gzip(&layers[0])), layout.blob(LAYER_GZIP, &gzip(&layers[1]))];
    let value = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": stored, "annotations": {"a.b": "c"},
    });
    let image = layout.document(MANIFEST, &value);
    let compressed =
        [("application/vnd.oci.image.layer.v1.tar+zstd", zstd(&layers[0])), (LAYER_GZIP, gzip(&layers[1]))];
    let with_zstd = layout.image_of(&images::config(&plain), &compressed);
    let entries = [layout.image_for("linux/amd64"), layout.image_for("linux/arm64/v8")];
    let index = layout.document(INDEX, &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}));
    layout
        .list(tagged(image.clone(), "1"))
        .list(tagged(with_zstd, "zstd"))
        .list(tagged(index.clone(), "index"))
        .write(&place.path("src"));
    let source = format!("oci:{}", place.path("src").display());
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let output = place.run(&["copy", "--format", "docker", "oci:src:1", &registry.image("ours:1")]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the manifest's annotations (a.b)"), "{said}");
    registry.put(&format!("{source}:1"), "theirs:1", &["--format", "v2s2"]);
    assert_eq!(json(&raw(&registry.image("ours:1"))), json(&raw(&registry.image("theirs:1"))));
    // zstd has no type in Docker's words.
    place.printed(&["copy", "--format", "docker", "oci:src:zstd", &registry.image("ours:zstd")]);
    let manifest = json(&raw(&registry.image("ours:zstd")));
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    place.printed(&["diff", "oci:src:zstd", &registry.image("ours:zstd")]);
    let zstd = ["copy", "--format", "docker", "--compression", "zstd", "oci:src:1", &registry.image("ours:2")];
    assert!(place.message(&zstd).contains("Docker's manifests have no media type for layers compressed with zstd"));
    // An index, and the way back.
    place.printed(&["copy", "--all-platforms", "--format", "docker", "oci:src:index", &registry.image("ours:index")]);
    let list = json(&raw(&registry.image("ours:index")));
    assert_eq!(list["mediaType"], "application/vnd.docker.distribution.manifest.list.v2+json");
    assert_eq!(list["manifests"][1]["platform"], json!({"os": "linux", "architecture": "arm64", "variant": "v8"}));
    tool("skopeo", &["inspect", "--tls-verify=false", "--override-arch", "arm64", &registry.image("ours:index")]);
    place.printed(&["copy", "--format", "oci", &registry.image("ours:1"), &registry.image("back:1")]);
    assert_eq!(json(&raw(&registry.image("back:1")))["mediaType"], MANIFEST);
    for refused in [["docker", "oci:o"], ["oci", "docker-archive:d.tar"]] {
        let message = place.message(&["copy", "--format", refused[0], "oci:src:1", refused[1]]);
        assert!(message.contains(&format!("omit --format {}", refused[0])), "{message}");
    }
}

fn refused() {
    let place = Place::new();
    let registry = Registry::open(&place);
    let source = place.image("src", &[("a", noise(1000, 1))]);
    let mut layout = Layout::default();
    let mut entries = vec![layout.image_for("linux/amd64"), layout.image_for("linux/arm64/v8")];
    let config = layout.blob(CONFIG, &images::config(&[]));
    let statement = layout.blob("application/vnd.in-toto+json", b"{}");
    let value = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [statement]});
    let mut attestation = layout.document(MANIFEST, &value);
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    entries.push(attestation);
    let value = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    let index = layout.document(INDEX, &value);
    layout.list(tagged(index, "1")).write(&place.path("index"));
    let index = "oci:index:1";
    let is_open = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&is_open);
    let proxy = Proxy::start(Some(registry.address), move |head, _| {
        let is_oci = head.header("content-type").is_some_and(|said| said.contains("vnd.oci"));
        if head.method == "PUT" && head.path.contains("/manifests/") && is_oci && !opened.load(Ordering::Relaxed) {
            let said = r#"{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid"}]}"#;
            return answer("415 Unsupported Media Type", &[], said);
        }
        Act::Pass
    });
    let output = place.run(&["copy", &source, &proxy.image("a:1")]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("note: the registry takes no OCI manifest (") && said.contains("is stored as Docker's"),
        "{said}"
    );
    let printed = String::from_utf8(output.stdout).unwrap();
    let manifest = raw(&registry.image("a:1"));
    assert!(manifest.contains("application/vnd.docker.distribution.manifest.v2+json"), "{manifest}");
    assert!(
        printed.contains(&images::digest(manifest.as_bytes())),
        "the digest that is reported is the one that is there"
    );
    // All platforms; of what is attached to them Docker has no words.
    let output = place.run(&["copy", "--all-platforms", index, &proxy.image("a:index")]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && said.contains("it is not an image, so Docker's format cannot hold it"),
        "{said}"
    );
    assert_eq!(
        serde_json::from_str::<Value>(&raw(&registry.image("a:index"))).unwrap()["manifests"].as_array().unwrap().len(),
        2
    );
    // Who wants OCI's words, or has what Docker's cannot say, hears what the registry says.
    let message = place.message(&["copy", "--format", "oci", &source, &proxy.image("a:2")]);
    assert!(message.contains("415") && !message.contains("--format docker"), "{message}");
    let message = place.message(&["copy", "--compression", "zstd", &source, &proxy.image("a:3")]);
    assert!(message.contains("415") && message.contains("--format docker compresses it with gzip"), "{message}");
    is_open.store(true, Ordering::Relaxed);
    place.printed(&["copy", &source, &proxy.image("a:4")]);
    assert!(raw(&registry.image("a:4")).contains(MANIFEST));
}

fn vanished() {
    let place = Place::new();
    let registry = Registry::open(&place);
    let proxy = Proxy::start(Some(registry.address), |head, _| match head.path.split_once("/tags/list") {
        Some((name, _)) if name.ends_with("none") => answer("200 OK", &[], "{\"tags\":null}"),
        Some(_) => answer("200 OK", &[], "{\"tags\":[\"gone\"]}"),
        None => Act::Pass,
    });
    let message = place.message(&["copy", "--all-tags", &proxy.image("a"), "oci:o"]);
    assert!(message.contains("the tag \"gone\" is listed, but does not exist"), "{message}");
    let message = place.message(&["copy", "--all-tags", &proxy.image("none"), "oci:o"]);
    assert!(message.ends_with("has no tags, so there is nothing to copy"), "{message}");
}
