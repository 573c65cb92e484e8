//! Images that are there and come as they should, and names that lead nowhere.

use std::fs;

use super::place::{Images as _, Place, fixture, noise};
use super::proxy::{Act, Proxy, answer};
use super::servers::Registry;
use crate::common::harness::Test;
use crate::common::images::digest;

pub(crate) const TESTS: &[Test] = &[
    ("pull::what_skopeo_pushed_is_what_comes", false, what_skopeo_pushed),
    ("pull::a_digest_needs_no_registry_once_it_is_kept", false, by_digest),
    ("pull::the_platform_is_chosen_and_attestations_are_not", false, platforms),
    ("pull::names_that_lead_nowhere_say_what_to_do", false, bad_names),
    ("pull::schema_1_is_refused_by_name", false, schema_1),
    ("pull::a_proxy_is_asked_unless_the_host_is_exempt", false, through_a_proxy),
    ("pull::many_layers_come_at_once_and_in_order", false, many_layers),
    ("pull::what_is_no_manifest_is_refused", false, no_manifest),
];

fn what_skopeo_pushed() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&fixture(), "a/four:1", &[]);
    let image = registry.image("a/four:1");
    // Docker's schema 2, which skopeo makes of a docker archive, and OCI.
    registry.put(&fixture(), "a/four:oci", &["--format", "oci"]);
    for tag in ["1", "oci"] {
        let image = registry.image(&format!("a/four:{tag}"));
        assert_eq!(place.printed(&["diff", &image, &fixture()]), "");
        let document = place.json(&["inspect", &image]);
        assert_eq!(document["image"], registry.name(&format!("a/four:{tag}")).as_str());
        assert_eq!(document["image_digest"], registry.digest(&format!("a/four:{tag}")).as_str());
    }
    place.printed(&["layers", &image, "laid"]);
    let layout: serde_json::Value =
        serde_json::from_slice(&fs::read(place.path("laid/layflat.json")).unwrap()).unwrap();
    assert_eq!(layout["layers"].as_array().unwrap().len(), 4);
}

fn by_digest() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&fixture(), "four:1", &[]);
    let image = registry.image(&format!("four@{}", registry.digest("four:1")));
    let address = registry.address.to_string();
    place.printed(&["flatten", "--no-cache", &image, "first"]);
    assert!(place.cached().is_empty());
    place.printed(&["flatten", &image, "second"]);
    // The manifest, the configuration, four layers.
    assert_eq!(place.cached().len(), 6);
    drop(registry);
    place.printed(&["flatten", &image, "third"]);
    assert_eq!(place.printed(&["diff", "first", "third"]), "");
    // Where it was, another test's may listen by now; here nobody does.
    let image = image.replacen(&address, "127.0.0.1:1", 1);
    let refused = format!(
        "cannot open {image}: cannot reach the registry 127.0.0.1:1: connection refused: nothing listens there; \
         check its name, the network, and HTTPS_PROXY if there is one"
    );
    assert_eq!(place.message(&["flatten", "--no-cache", &image, "fourth"]), refused);
}

fn platforms() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&place.index("layout"), "multi:1", &[]);
    let image = registry.image("multi:1");
    for (platform, file) in [("linux/amd64", "linux-amd64"), ("linux/arm64", "linux-arm64-v8")] {
        place.printed(&["flatten", "--platform", platform, &image, file]);
        assert!(place.path(file).join(file).exists());
    }
    assert_eq!(
        place.message(&["inspect", "--platform", "linux/s390x", &image]),
        format!("cannot open {image}: there is no image for linux/s390x; available: linux/amd64, linux/arm64/v8")
    );
}

fn bad_names() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&fixture(), "four:1", &[]);
    registry.put(&fixture(), "four:old", &[]);
    let host = registry.address;
    let opening = |name: &str| format!("cannot open docker://{host}/{name}");
    for (name, expected) in [
        ("four:2", format!("{}: there is no image \"2\"; available: 1, old", opening("four:2"))),
        ("four", format!("{}: there is no image \"latest\"; available: 1, old", opening("four"))),
        (
            "none:1",
            format!(
                "{}: none:1: the registry {host} does not have it: manifest unknown; check the name",
                opening("none:1")
            ),
        ),
    ] {
        assert_eq!(place.message(&["inspect", &registry.image(name)]), expected);
    }
    let missing = format!("four@sha256:{}", "0".repeat(64));
    assert_eq!(
        place.message(&["inspect", &registry.image(&missing)]),
        format!(
            "{}: {missing}: the registry {host} does not have it: manifest unknown; check the name",
            opening(&missing)
        )
    );
    let expected = "expected [HOST[:PORT]/]NAME[:TAG][@DIGEST]";
    for (name, problem) in [
        ("quay.io/Debian", "\"Debian\" has upper-case letters, which names must not have"),
        (
            "quay.io/a:x y",
            "the tag \"x y\" must have 1 to 128 letters, digits, _, . and -, and begin with none of the last two",
        ),
        ("quay.io//a", "a part of it is empty"),
    ] {
        let message = place.message(&["inspect", &format!("docker://{name}")]);
        assert_eq!(message, format!("{name:?} is not an image's name: {problem}; {expected}"));
    }
    let invalid = "docker://registry.invalid/a:1";
    let message = place.message(&["inspect", invalid]);
    let begin =
        format!("cannot open {invalid}: cannot reach the registry registry.invalid: there is no host of this name");
    assert!(message.starts_with(&begin), "{message}");
}

fn schema_1() {
    let place = Place::new();
    let manifest = r#"{"schemaVersion":1,"name":"a","tag":"1","fsLayers":[],"history":[],"signatures":[]}"#;
    let server = Proxy::start(None, move |_, _| {
        answer("200 OK", &["Content-Type: application/vnd.docker.distribution.manifest.v1+prettyjws"], manifest)
    });
    let image = server.image("a:1");
    let problem =
        "is a Docker manifest of schema 1, which was given up in 2017: pull the image with an engine and save it again";
    assert_eq!(
        place.message(&["inspect", "--plain-http", &image]),
        format!("cannot open {image}: {}: {problem}", digest(manifest.as_bytes()))
    );
}

fn through_a_proxy() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&fixture(), "four:1", &[]);
    let proxy = Proxy::start(Some(registry.address), |_, _| Act::Pass);
    let address = format!("http://{}", proxy.address);
    let image = "docker://registry.invalid/four:1";
    let run = |image: &str, exempt: &str| {
        let mut command = place.layflat(&["inspect", "--plain-http", "--no-cache", image]);
        command.env("HTTP_PROXY", &address).env("NO_PROXY", exempt).output().unwrap()
    };
    super::place::succeeded(&run(image, "other.invalid"));
    let asked =
        |proxy: &Proxy| proxy.heads().iter().filter(|head| head.path.starts_with("http://registry.invalid/")).count();
    let count = asked(&proxy);
    assert!(count > 0 && count == proxy.heads().len());
    super::place::failed(&run(image, "other.invalid,invalid"));
    // This machine's own loopback is never behind a proxy.
    super::place::succeeded(&run(&registry.image("four:1"), ""));
    assert_eq!(proxy.heads().len(), count);
    let mut command = place.layflat(&["inspect", "--plain-http", image]);
    let message = super::place::failed(&command.env("HTTP_PROXY", "http://").output().unwrap());
    let problem = "HTTP_PROXY has no valid host: expected http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT";
    assert_eq!(message, format!("cannot open {image}: {problem}"));
}

fn many_layers() {
    let place = Place::new();
    let registry = Registry::open(&place);
    let files: Vec<(String, Vec<u8>)> =
        (0..24).map(|index| ("same".to_owned(), noise(3000 + 100 * index, 7 + index as u64))).collect();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    registry.put(&place.image("layout", &files), "many:1", &[]);
    for (jobs, dest) in [(&["--jobs", "1"][..], "one"), (&[], "all")] {
        place.printed(&[&["flatten", "--no-cache"], jobs, &[&registry.image("many:1"), dest]].concat());
        assert_eq!(fs::read(place.path(dest).join("same")).unwrap(), files.last().unwrap().1);
    }
}

fn no_manifest() {
    let place = Place::new();
    let page = Proxy::start(None, |_, _| answer("200 OK", &["Content-Type: text/html"], "<html>"));
    let image = page.image("a:1");
    let message = place.message(&["inspect", "--plain-http", &image]);
    assert_eq!(message, format!("cannot open {image}: {}: expected value at line 1 column 1", digest(b"<html>")));
    let liar = Proxy::start(None, |_, _| {
        let other = format!("Docker-Content-Digest: {}", digest(b"other"));
        answer("200 OK", &[&other], "{}")
    });
    let image = liar.image("a:1");
    // For a tag that is a note: what came is what there is.
    let (found, stated) = (digest(b"{}"), digest(b"other"));
    let said = String::from_utf8(place.run(&["inspect", "--plain-http", &image]).stderr).unwrap();
    let note =
        format!("note: a:1: the registry {} states the digest {stated}, but the content has {found}", liar.address);
    assert!(said.starts_with(&note), "{said}");
    let image = liar.image(&format!("a@{stated}"));
    assert_eq!(
        place.message(&["inspect", "--plain-http", &image]),
        format!(
            "cannot open {image}: a@{stated}: the registry {} gave an unexpected answer: a manifest with the digest {found} \
             instead of {stated}: it was altered",
            liar.address
        )
    );
}
