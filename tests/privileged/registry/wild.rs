//! Registries as they are: what they answer although the specification has it otherwise, and how slowly.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::time::Duration;

use layflat::Cancel;
use layflat::blob::Blob;
use layflat::core::chain::Chain;
use layflat::core::digest::Digest;
use layflat::core::reference::ImageName;
use layflat::net::registry::{RegistryOptions, Repository};

use super::place::{Images as _, Place, noise};
use super::proxy::{Act, Head, Proxy, answer};
use super::servers::Registry;
use crate::common::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("wild::an_answer_may_take_longer_than_a_transfer_may_stand_still", false, late),
    ("wild::what_has_arrived_is_not_sent_again", false, lost),
    ("wild::a_location_is_resolved_by_what_was_asked", false, locations),
    ("wild::uploads_follow_redirects", false, redirects),
    ("wild::what_is_stored_is_stored_whatever_the_status", false, statuses),
    ("wild::a_mount_that_fails_in_any_way_is_no_error", false, mounts),
    ("wild::chunks_become_smaller_or_whole", false, chunks),
    ("wild::a_tag_is_pulled_whatever_digest_is_stated", false, digests),
    ("wild::bodies_that_come_encoded_are_decoded", false, encoded),
    ("wild::no_tag_is_left_out", false, tags),
    ("wild::a_kept_connection_may_be_closed_at_any_time", false, closed),
];

fn repository(proxy: &Proxy, answer: Duration) -> Repository {
    let name: ImageName = format!("{}/a", proxy.address).parse().unwrap();
    let options = RegistryOptions { retries: 1, answer, ..RegistryOptions::default() };
    Repository::new(&name, &options, &Cancel::default())
}

/// Pushes a blob through a proxy, by which it is in the end.
fn push(proxy: &Proxy) {
    let bytes = noise(300_000, 3);
    let digest = Digest::sha256_of(&bytes);
    let repository = repository(proxy, Duration::from_secs(60));
    repository.push_blob(&Blob::from_bytes(bytes), &digest, 300_000, &|_| {}).unwrap();
    assert!(repository.blob_exists(&digest).unwrap());
}

/// How often a whole blob was sent.
fn sent(proxy: &Proxy) -> usize {
    proxy.heads().iter().filter(|head| head.header("content-length") == Some("300000")).count()
}

fn is_put(head: &Head) -> bool {
    head.method == "PUT" && head.path.contains("/blobs/")
}

fn late() {
    let place = Place::new();
    let registry = Registry::open(&place);
    let image = place.image("layout", &[("a", noise(1000, 1))]);
    let proxy = Proxy::start(Some(registry.address), |head, _| {
        if is_put(head) || head.is_blob() { Act::Late(Duration::from_millis(2500)) } else { Act::Pass }
    });
    let impatient = ["--timeout", "2", "--retries", "0", "--no-cache"];
    place.printed(&[&["copy", &image, &proxy.image("a:1")], &impatient[..]].concat());
    place.printed(&[&["ls", &proxy.image("a:1")], &impatient[..]].concat());
    // There is an end to it.
    let never = Proxy::start(Some(registry.address), |head, _| {
        if head.path.contains("/manifests/") { Act::Late(Duration::from_secs(600)) } else { Act::Pass }
    });
    let error = repository(&never, Duration::from_secs(1))
        .manifest("1", 1000)
        .map_err(|error| Chain(&error).to_string())
        .unwrap_err();
    let expected = format!("a:1: the registry {} did not answer within 1 s", never.address);
    assert_eq!(error, expected);
}

fn lost() {
    let place = Place::new();
    let registry = Registry::open(&place);
    let proxy = Proxy::start(Some(registry.address), |head, _| if is_put(head) { Act::Lose } else { Act::Pass });
    push(&proxy);
    assert_eq!(sent(&proxy), 1);
}

fn locations() {
    let relative: fn(&str) -> String = |location| location.rsplit_once('/').unwrap().1.to_owned();
    let root: fn(&str) -> String = |location| format!("/{}", location.splitn(4, '/').nth(3).unwrap());
    let forms: [fn(&str) -> String; 6] = [
        relative,
        root,
        |location| location.replacen("http://", "//", 1),
        |location| location.replacen("http://", "HTTP://", 1),
        |location| location.replacen("http://", "", 1),
        |location| format!(" {location}&odd=a|b\"{{}}^ c%#fragment"),
    ];
    let place = Place::new();
    let registry = Registry::open(&place);
    for form in forms {
        for in_chunks in [false, true] {
            let proxy = Proxy::start(Some(registry.address), move |head, _| match head.header("content-length") {
                Some("300000") if in_chunks => answer("413 Payload Too Large", &[], ""),
                _ => Act::Change("location", form),
            });
            let bytes = noise(300_000, 3);
            let digest = Digest::sha256_of(&bytes);
            let blob = Blob::from_bytes(bytes);
            repository(&proxy, Duration::from_secs(60)).push_blob(&blob, &digest, 300_000, &|_| {}).unwrap();
        }
    }
}

fn redirects() {
    let place = Place::new();
    let registry = Registry::open(&place);
    for status in ["301 Moved Permanently", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let proxy = Proxy::start(Some(registry.address), move |head, _| {
            let is_first = !head.path.contains("again=1") && matches!(head.method.as_str(), "POST" | "PUT");
            let separator = if head.path.contains('?') { '&' } else { '?' };
            let location = format!("Location: {}{separator}again=1", head.path);
            if is_first { answer(status, &[&location], "") } else { Act::Pass }
        });
        push(&proxy);
    }
}

fn statuses() {
    let place = Place::new();
    let registry = Registry::open(&place);
    for status in ["200 OK", "201 Created", "202 Accepted"] {
        let proxy = Proxy::start(Some(registry.address), move |head, _| match head.header("content-length") {
            Some("300000") if head.method == "PUT" => answer("413 Payload Too Large", &[], ""),
            _ if matches!(head.method.as_str(), "PUT" | "PATCH") => Act::Status(status),
            _ => Act::Pass,
        });
        push(&proxy);
        repository(&proxy, Duration::from_secs(60))
            .push_manifest(
                br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#,
                "application/vnd.oci.image.index.v1+json",
                "1",
            )
            .unwrap();
    }
    // A registry that stores a blob and calls it a failure.
    let proxy = Proxy::start(Some(registry.address), |head, _| {
        if is_put(head) { Act::Status("500 Internal Server Error") } else { Act::Pass }
    });
    push(&proxy);
    assert_eq!(sent(&proxy), 1);
}

fn mounts() {
    let place = Place::new();
    let registry = Registry::open(&place);
    for status in [
        "200 OK",
        "201 Created",
        "202 Accepted",
        "403 Forbidden",
        "404 Not Found",
        "500 Internal Server Error",
        "503 Busy",
    ] {
        let proxy = Proxy::start(Some(registry.address), move |head, _| {
            if head.path.contains("mount=") { answer(status, &[], "") } else { Act::Pass }
        });
        let from: ImageName = format!("{}/from", proxy.address).parse().unwrap();
        let digest = Digest::sha256_of(b"missing");
        assert!(!repository(&proxy, Duration::from_secs(60)).mount_blob(&digest, &from).unwrap(), "{status}");
    }
}

fn chunks() {
    let place = Place::new();
    let registry = Registry::open(&place);
    // Nothing larger than this.
    let small = Proxy::start(Some(registry.address), |head, _| match head.header("content-length") {
        Some(length) if length.parse::<u64>().unwrap() > 270_000 => answer("413 Payload Too Large", &[], ""),
        _ => Act::Pass,
    });
    push(&small);
    // A guard before the registry lets nothing large through, and says that this is forbidden.
    let place = Place::new();
    let other = Registry::open(&place);
    let guard = Proxy::start(Some(other.address), |head, _| match head.header("content-length") {
        Some(length) if is_put(head) && length != "0" => answer("403 Forbidden", &[], ""),
        _ => Act::Pass,
    });
    push(&guard);
    // Wanted, and not taken.
    let place = Place::new();
    let other = Registry::open(&place);
    let whole = Proxy::start(Some(other.address), |head, _| match head.method.as_str() {
        "POST" => Act::With("OCI-Chunk-Min-Length: 1000"),
        "PATCH" => answer("405 Method Not Allowed", &[], ""),
        _ => Act::Pass,
    });
    push(&whole);
}

fn digests() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&place.image("layout", &[("file", b"x".to_vec())]), "a:1", &[]);
    let digest = registry.digest("a:1");
    let proxy = Proxy::start(Some(registry.address), |_, _| {
        Act::Change("docker-content-digest", |digest| format!("{}0000", &digest[..digest.len() - 4]))
    });
    let output = place.run(&["ls", &proxy.image("a:1")]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let begin = format!("note: a:1: the registry {} states the digest sha256:", proxy.address);
    assert!(said.starts_with(&begin) && said.contains("; the content counts"), "{said}");
    // Who asks for a digest has what to check by.
    let output = place.run(&["ls", "--no-cache", &proxy.image(&format!("a@{digest}"))]);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert!(output.status.success());
}

fn encoded() {
    for length in [true, false] {
        let place = Place::new();
        let registry = Registry::open(&place);
        registry.put(&place.image("layout", &[("file", noise(100_000, 1))]), "a:1", &[]);
        let proxy = Proxy::start(Some(registry.address), move |_, _| Act::Encode { length });
        assert_eq!(place.printed(&["diff", &registry.image("a:1"), &proxy.image("a:1")]), "");
        assert!(proxy.heads().iter().all(|head| head.header("accept-encoding") == Some("identity")));
        // What is said to be encoded and is not.
        let liar = Proxy::start(Some(registry.address), |_, _| Act::With("Content-Encoding: gzip"));
        assert_eq!(place.printed(&["diff", "--no-cache", &registry.image("a:1"), &liar.image("a:1")]), "");
    }
}

fn tags() {
    type Link = fn(&str) -> String;
    let forms: [Link; 6] = [
        |next| format!("<{next}>; rel=\"next\""),
        |next| format!("{next}; rel=\"next\""),
        |next| format!("<{next}>"),
        |next| format!("</v2/a/tags/list>; rel=\"first\", <{next}>; title=\"a, b\"; rel=\"x Next\""),
        |next| format!("<http://internal.invalid:8080{next}>; rel=next"),
        |next| format!("<{}>; rel=next", next.trim_start_matches("/v2/a/tags/")),
    ];
    for form in forms {
        let pages = Proxy::start(None, move |head, _| {
            let link = format!("Link: {}", form("/v2/a/tags/list?n=2&last=b"));
            let back = "Link: </v2/a/tags/list?n=2>; rel=\"prev\"".to_owned();
            let is_last = head.path.contains("last=b");
            let body = if is_last { r#"{"tags":["c"]}"# } else { r#"{"tags":["b","a"]}"# };
            answer("200 OK", &[if is_last { &back } else { &link }], body)
        });
        assert_eq!(repository(&pages, Duration::from_secs(60)).tags().unwrap(), ["a", "b", "c"]);
    }
    let round = Proxy::start(None, |head, _| {
        // Always the same page, of which each has another address.
        let link = format!("Link: <{}x>; rel=next", head.path);
        answer("200 OK", &[&link], r#"{"tags":["a"]}"#)
    });
    let error =
        repository(&round, Duration::from_secs(60)).tags().map_err(|error| Chain(&error).to_string()).unwrap_err();
    assert!(error.contains("pages in a loop"), "{error}");
    assert!(round.heads().len() < 5);
    let none = Proxy::start(None, |_, _| answer("200 OK", &[], r#"{"name":"a","tags":null}"#));
    assert_eq!(repository(&none, Duration::from_secs(60)).tags().unwrap(), [""; 0]);
}

/// A server that says that it keeps connections, and closes each at the second request.
fn closed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, requests) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(&client).lines().map_while(Result::ok);
            let mut request = || lines.by_ref().take_while(|line| !line.is_empty()).next();
            let Some(first) = request() else { continue };
            let _ = tell.send(first);
            let body = r#"{"tags":["a"]}"#;
            let _ = write!(&client, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = request();
        }
    });
    let name: ImageName = format!("{address}/a").parse().unwrap();
    let options = RegistryOptions { retries: 0, plain_http: true, ..RegistryOptions::default() };
    let repository = Repository::new(&name, &options, &Cancel::default());
    for _ in 0..3 {
        assert_eq!(repository.tags().unwrap(), ["a"]);
    }
    assert_eq!(requests.try_iter().count(), 3);
}
