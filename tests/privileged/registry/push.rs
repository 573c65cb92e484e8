//! What is put into a registry, with skopeo as the judge.

use std::fs;
use std::io::Read;
use std::sync::Arc;

use layflat::Cancel;
use layflat::blob::Blob;
use layflat::core::chain::Chain;
use layflat::core::digest::Digest;
use layflat::core::reference::{ImageName, Reference};
use layflat::image::Image;
use layflat::net::registry::{RegistryOptions, Repository};
use layflat::transport::source::{self, OpenOptions};

use super::place::{Images as _, Place, noise};
use super::proxy::{Act, Proxy, answer};
use super::servers::Registry;
use crate::common::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("push::skopeo_finds_what_was_pushed", false, whole),
    ("push::blobs_are_mounted_from_the_same_registry", false, mounted),
    ("push::a_registry_that_mounts_nothing_gets_the_bytes", false, not_mounted),
    ("push::who_takes_no_large_pieces_gets_chunks", false, chunks),
    ("push::manifests_are_no_blobs", false, manifests),
    ("push::an_upload_stays_encrypted", false, encrypted),
    ("push::who_hangs_up_gets_it_again", false, again),
    ("push::who_may_not_is_told", false, denied),
    ("push::tags_come_in_pages", false, tags),
];

fn repository(host: std::net::SocketAddr, name: &str) -> Repository {
    let name: ImageName = format!("{host}/{name}").parse().unwrap();
    Repository::new(&name, &RegistryOptions { retries: 2, ..RegistryOptions::default() }, &Cancel::default())
}

fn open(reference: &str) -> Image {
    let reference: Reference = reference.parse().unwrap();
    source::open(&reference, &OpenOptions::default()).unwrap()
}

/// All blobs of an image.
fn blobs(image: &Image) -> Vec<(Digest, Blob)> {
    let config = image.config.as_ref().unwrap();
    let layer = |layer: &layflat::image::Layer| (layer.blob.digest().unwrap().clone(), layer.blob.clone());
    let mut blobs: Vec<_> = image.layers.iter().map(layer).collect();
    blobs.push((config.digest.clone(), Blob::from_bytes(config.bytes.clone())));
    blobs
}

fn push(repository: &Repository, image: &Image, tag: &str) {
    for (digest, blob) in blobs(image) {
        if !repository.blob_exists(&digest).unwrap() {
            repository.push_blob(&blob, &digest, blob.len(), &|_| {}).unwrap();
        }
    }
    let manifest = image.manifest.as_ref().unwrap();
    repository.push_manifest(&manifest.bytes, &manifest.media_type, tag).unwrap();
}

/// An image of a small layer and a large one.
fn image(place: &Place) -> Image {
    open(&place.image("layout", &[("small", b"small".to_vec()), ("large", noise(300_000, 5))]))
}

fn whole() {
    let place = Place::new();
    let registry = Registry::open(&place);
    let image = image(&place);
    let repository = repository(registry.address, "a/b");
    let (digest, blob) = &blobs(&image)[1];
    assert!(!repository.blob_exists(digest).unwrap());
    let sent = std::cell::Cell::new(0);
    repository.push_blob(blob, digest, blob.len(), &|count| sent.set(count)).unwrap();
    assert_eq!(sent.get(), blob.len());
    assert!(repository.blob_exists(digest).unwrap());
    push(&repository, &image, "1");
    assert_eq!(registry.digest("a/b:1"), image.manifest_digest().unwrap().to_string());
    assert_eq!(place.printed(&["diff", &registry.image("a/b:1"), "layout"]), "");
    // By its digest alone.
    let manifest = image.manifest.as_ref().unwrap();
    repository.push_manifest(&manifest.bytes, &manifest.media_type, &manifest.digest.to_string()).unwrap();
    // Other bytes than the digest is of are not taken.
    let wrong = Blob::from_bytes(&b"other"[..]);
    let missing = Digest::sha256_of(b"missing");
    let error = repository
        .push_blob(&wrong, &missing, wrong.len(), &|_| {})
        .map_err(|error| Chain(&error).to_string())
        .unwrap_err();
    assert!(error.contains("answered 400 Bad Request"), "{error}");
}

fn mounted() {
    let place = Place::new();
    let registry = Registry::open(&place);
    let proxy = Proxy::start(Some(registry.address), |_, _| Act::Pass);
    let image = image(&place);
    push(&repository(registry.address, "from/here"), &image, "1");
    let to = repository(proxy.address, "to/there");
    let from: ImageName = format!("{}/from/here", proxy.address).parse().unwrap();
    for (digest, _) in blobs(&image) {
        assert!(to.mount_blob(&digest, &from).unwrap());
        assert!(to.blob_exists(&digest).unwrap());
    }
    assert!(!to.mount_blob(&Digest::sha256_of(b"missing"), &from).unwrap());
    // Not from another registry, nor from itself.
    let other: ImageName = "quay.io/from/here".parse().unwrap();
    assert!(!to.mount_blob(&blobs(&image)[0].0, &other).unwrap());
    push(&to, &image, "1");
    assert_eq!(registry.digest("to/there:1"), image.manifest_digest().unwrap().to_string());
    assert!(!proxy.heads().iter().any(|head| head.method == "PUT" && head.path.contains("/blobs/")));
}

fn not_mounted() {
    let place = Place::new();
    let registry = Registry::open(&place);
    for status in ["400 Bad Request", "405 Method Not Allowed"] {
        let proxy = Proxy::start(Some(registry.address), move |head, _| {
            if head.path.contains("mount=") { answer(status, &[], "{}") } else { Act::Pass }
        });
        let to = repository(proxy.address, "to/there");
        let from: ImageName = format!("{}/from/here", proxy.address).parse().unwrap();
        let image = image(&place);
        assert!(!to.mount_blob(&blobs(&image)[0].0, &from).unwrap());
        push(&to, &image, "1");
        assert_eq!(registry.digest("to/there:1"), image.manifest_digest().unwrap().to_string());
    }
}

fn chunks() {
    let place = Place::new();
    let registry = Registry::open(&place);
    let image = image(&place);
    let large = Proxy::start(Some(registry.address), |head, _| match head.header("content-length") {
        Some(length) if head.method == "PUT" && head.path.contains("/blobs/") && length != "0" => {
            answer("413 Payload Too Large", &[], "")
        }
        _ => Act::Pass,
    });
    push(&repository(large.address, "chunks"), &image, "1");
    assert_eq!(registry.digest("chunks:1"), image.manifest_digest().unwrap().to_string());
    let patches = large.heads().iter().filter(|head| head.method == "PATCH").count();
    assert_eq!(patches, blobs(&image).len());
    // One that says so beforehand is never sent a whole one.
    let asks = Proxy::start(Some(registry.address), |head, _| match head.method.as_str() {
        "POST" => Act::With("OCI-Chunk-Min-Length: 1000"),
        _ => Act::Pass,
    });
    push(&repository(asks.address, "asked"), &image, "1");
    assert_eq!(registry.digest("asked:1"), image.manifest_digest().unwrap().to_string());
    let whole = |head: &super::proxy::Head| head.path.contains("/blobs/") && head.header("content-length") != Some("0");
    assert!(asks.heads().iter().all(|head| head.method != "PUT" || !whole(head)));
}

/// A registry may keep the bytes of manifests with its blobs, and have a manifest of another repository so.
fn manifests() {
    let place = Place::new();
    let registry = Registry::open(&place);
    let index = place.index("layout");
    let listed = place.json(&["inspect", "--platform", "linux/arm64", &index]);
    let manifest = listed["image_digest"].as_str().unwrap().to_owned();
    let one_store = Proxy::start(Some(registry.address), move |head, _| {
        let is_asked = head.method == "HEAD" && head.path.ends_with(&format!("/blobs/{manifest}"));
        if is_asked { answer("200 OK", &[], "") } else { Act::Pass }
    });
    place.printed(&["copy", "--all-platforms", &index, &one_store.image("all:1")]);
    assert_eq!(place.printed(&["diff", "--platform", "linux/arm64", &index, &registry.image("all:1")]), "");
}

fn encrypted() {
    let place = Place::new();
    let registry = Registry::with_tls_and(&place, ", host: 'http://127.0.0.1:1'");
    let to = registry.image("a:1");
    let image = place.image("layout", &[("a", b"a".to_vec())]);
    let message = place.message(&["copy", "--retries", "0", "--ca-cert", "ca.pem", &image, &to]);
    let problem =
        "gave an unexpected answer: a redirect from HTTPS to the unencrypted http://127.0.0.1:1/v2/a/blobs/uploads/";
    assert!(message.contains(problem), "{message}");
}

fn again() {
    let place = Place::new();
    let registry = Registry::open(&place);
    let image = image(&place);
    let busy = Proxy::start(Some(registry.address), |head, count| match head.method.as_str() {
        "POST" if count < 2 => answer("503 Service Unavailable", &["Retry-After: 0"], ""),
        "PATCH" if head.header("content-range").is_none() => Act::Cut(0),
        _ => Act::Pass,
    });
    push(&repository(busy.address, "again"), &image, "1");
    assert_eq!(registry.digest("again:1"), image.manifest_digest().unwrap().to_string());
    // What cannot be read is not a fault of the registry's.
    #[derive(Debug)]
    struct Bad;
    impl layflat::blob::Remote for Bad {
        fn len(&self) -> u64 {
            10
        }
        fn open(&self) -> std::io::Result<Box<dyn layflat::blob::Arriving>> {
            Err(std::io::Error::other("the tape is torn"))
        }
    }
    let bad = Blob::from_remote(Arc::new(Bad));
    let digest = Digest::sha256_of(b"bad");
    let error = repository(busy.address, "again").push_blob(&bad, &digest, 10, &|_| {}).unwrap_err();
    let error = Chain(&error).to_string();
    assert_eq!(error, format!("again@{digest}: cannot read what is to be sent: the tape is torn"));
    assert_eq!(bad.reader().read(&mut [0]).map_err(|error| Chain(&error).to_string()).unwrap_err(), "the tape is torn");
}

fn denied() {
    let place = Place::new();
    let registry = Registry::with_password(&place);
    let image = image(&place);
    let host = registry.address;
    let options = RegistryOptions { authfile: Some(place.path("none.json")), ..RegistryOptions::default() };
    fs::write(place.path("none.json"), "{}").unwrap();
    let name: ImageName = format!("{host}/a").parse().unwrap();
    let repository = Repository::new(&name, &options, &Cancel::default());
    let (digest, blob) = &blobs(&image)[0];
    let error =
        repository.push_blob(blob, digest, blob.len(), &|_| {}).map_err(|error| Chain(&error).to_string()).unwrap_err();
    let begin =
        format!("a@{digest}: the registry {host} denied access: authentication required; if it is there, log in");
    assert!(error.starts_with(&begin), "{error}");
    let secret = layflat::net::registry::Credentials::Password { username: "me".into(), password: "secret".into() };
    let options = RegistryOptions { credentials: Some(secret), ..RegistryOptions::default() };
    push(&Repository::new(&name, &options, &Cancel::default()), &image, "1");
    assert!(place.path("registry/docker/registry/v2/repositories/a/_manifests/tags/1").exists());
}

fn tags() {
    let place = Place::new();
    let registry = Registry::open(&place);
    let image = image(&place);
    push(&repository(registry.address, "a"), &image, "1");
    push(&repository(registry.address, "a"), &image, "2");
    assert_eq!(repository(registry.address, "a").tags().unwrap(), ["1", "2"]);
    let pages = Proxy::start(None, |head, _| {
        let more = head.path.contains("last=b");
        let link = r#"Link: </v2/a/tags/list?n=2&last=b>; rel="next""#;
        let tags = if more { r#"{"name":"a","tags":["c"]}"# } else { r#"{"name":"a","tags":["a","b"]}"# };
        answer("200 OK", if more { &[] } else { std::slice::from_ref(&link) }, tags)
    });
    assert_eq!(repository(pages.address, "a").tags().unwrap(), ["a", "b", "c"]);
}
