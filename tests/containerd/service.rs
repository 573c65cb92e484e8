//! What others than containerd ask of layflat-containerd: whether it is well, and what it has counted. No containerd is needed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use regex::Regex;
use tonic::Code;

use crate::client::Client;
use crate::common::harness::{self, Test, Trial};
use crate::common::run::{self, Scratch};
use crate::daemons::{Running, layflat};

const DIFF: &str = "containerd.services.diff.v1.Diff";
const SNAPSHOTS: &str = "containerd.services.snapshots.v1.Snapshots";
/// As grpc.health.v1 has them.
const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

pub(crate) fn trials() -> Vec<Trial> {
    const TESTS: [Test; 5] = [
        ("it_says_which_services_it_has", true, health),
        ("whoever_watches_hears_that_it_ends", true, watched),
        ("metrics_count_calls_layers_and_snapshots", true, metrics),
        ("metrics_are_nowhere_else", true, nowhere_else),
        ("a_file_says_what_options_say", true, file),
    ];
    harness::trials(&TESTS)
}

fn start(place: &Scratch, arguments: &[&str]) -> (Running, Client) {
    let mut command = layflat(&place.0);
    command.args(arguments);
    let running = Running::start(command, &place.0, "layflat");
    (running, Client::connect(&place.0.join("l.sock")))
}

fn root(place: &Scratch) -> String {
    place.0.join("snapshots").display().to_string()
}

/// The head and the body of an answer over HTTP/1.1.
fn asked(mut stream: impl Read + Write, request: &str) -> (String, String) {
    write!(stream, "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn health() {
    let place = Scratch::new(run::tmpfs());
    let (_both, client) = start(&place, &["--root", &root(&place)]);
    for service in ["", DIFF, SNAPSHOTS] {
        assert_eq!(client.health(service).unwrap(), SERVING, "{service}");
    }
    assert_eq!(client.health("another").unwrap_err().code(), Code::NotFound);
    let place = Scratch::new(run::tmpfs());
    let (_differ, client) = start(&place, &[]);
    assert_eq!(client.health(DIFF).unwrap(), SERVING);
    assert_eq!(client.health(SNAPSHOTS).unwrap_err().code(), Code::NotFound);
}

fn watched() {
    let place = Scratch::new(run::tmpfs());
    let (running, client) = start(&place, &[]);
    let heard = client.watch_health("", || running.terminate()).unwrap();
    assert_eq!(heard, [SERVING, NOT_SERVING]);
    assert!(running.ended_well());
}

fn metrics() {
    let place = Scratch::new(run::tmpfs());
    let socket = place.0.join("metrics.sock");
    let (_running, client) = start(&place, &["--root", &root(&place), "--metrics", socket.to_str().unwrap()]);
    let page = || asked(UnixStream::connect(&socket).unwrap(), "GET /metrics");

    let (head, body) = page();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("layflat_snapshots{kind=\"active\"} 0\n"), "{body}");
    assert!(body.contains("layflat_layers_total{outcome=\"unpacked\"} 0\n"), "{body}");

    let archive = crate::common::images::layer("one");
    let layer = crate::unpacker::blob(&place.0, &archive);
    let mounts = client.prepare("test/1/extract", "").unwrap();
    client.apply(&layer, &mounts).unwrap();
    client.commit("test/1/chain", "test/1/extract", "").unwrap();
    client.prepare("test/2/container", "test/1/chain").unwrap();
    client.view("test/3/view", "test/1/chain").unwrap();
    assert_eq!(client.view("test/4/view", "test/none").unwrap_err().code(), Code::NotFound);
    // A layer whose blob is not there is for the next differ, and a damaged one for nobody.
    let missing =
        crate::client::proto::types::Descriptor { digest: format!("sha256:{}", "0".repeat(64)), ..layer.clone() };
    let mounts = client.prepare("test/5/extract", "").unwrap();
    assert_eq!(client.apply(&missing, &mounts).unwrap_err().code(), Code::Unimplemented);
    let path =
        place.0.join("root/io.containerd.content.v1.content/blobs/sha256").join(&layer.digest["sha256:".len()..]);
    fs::write(path, "damaged").unwrap();
    client.apply(&layer, &mounts).unwrap_err();

    let (_, body) = page();
    for line in [
        "layflat_calls_total{method=\"Diff/Apply\",code=\"Ok\"} 1".to_owned(),
        "layflat_calls_total{method=\"Diff/Apply\",code=\"Unimplemented\"} 1".to_owned(),
        "layflat_calls_total{method=\"Snapshots/View\",code=\"NotFound\"} 1".to_owned(),
        "layflat_call_seconds_count{method=\"Diff/Apply\"} 3".to_owned(),
        "layflat_call_seconds_bucket{method=\"Diff/Apply\",le=\"+Inf\"} 3".to_owned(),
        "layflat_layers_total{outcome=\"unpacked\"} 1".to_owned(),
        "layflat_layers_total{outcome=\"left\"} 1".to_owned(),
        "layflat_layers_total{outcome=\"failed\"} 1".to_owned(),
        format!("layflat_layer_bytes_total{{outcome=\"unpacked\"}} {}", archive.len()),
        "layflat_snapshots{kind=\"active\"} 2".to_owned(),
        "layflat_snapshots{kind=\"committed\"} 1".to_owned(),
        "layflat_snapshots{kind=\"view\"} 1".to_owned(),
        "layflat_working 0".to_owned(),
    ] {
        assert!(body.lines().any(|found| found == line), "{line}\n{body}");
    }
    // Prometheus' text format: a name, labels, a number.
    let sample = Regex::new(r#"^layflat_[a-z_]+(\{[a-z]+="[^"\\]*"(,[a-z]+="[^"\\]*")*\})? [0-9.e+-]+$"#).unwrap();
    for line in body.lines().filter(|line| !line.starts_with("# HELP ") && !line.starts_with("# TYPE ")) {
        assert!(sample.is_match(line), "{line}");
    }
}

fn nowhere_else() {
    let place = Scratch::new(run::tmpfs());
    // Somebody may take the port before layflat does; nobody here does.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_running, _) = start(&place, &["--metrics", &address.to_string()]);
    for (request, status) in [("GET /metrics", "200"), ("GET /", "404"), ("POST /metrics", "405")] {
        let (head, body) = asked(TcpStream::connect(address).unwrap(), request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {head}");
        // As a differ alone it has no snapshots.
        assert!(!body.contains("layflat_snapshots"), "{body}");
    }
    let other = Scratch::new(run::tmpfs());
    let output = layflat(&other.0).args(["--metrics", "localhost"]).output().unwrap();
    assert!(!output.status.success());
    let said = crate::daemons::said(&output);
    assert!(said.contains("\"localhost\"") && said.contains("127.0.0.1:9000"), "{said}");
}

fn file() {
    let place = Scratch::new(run::tmpfs());
    let config = place.0.join("config.toml");
    let socket = place.0.join("metrics.sock");
    fs::write(
        &config,
        format!("# What this node has.\nroot = {:?}\nmetrics = {socket:?}\njobs = 1\nno-sync = true\n", root(&place)),
    )
    .unwrap();
    let (_running, client) = start(&place, &["--config", config.to_str().unwrap()]);
    assert_eq!(client.health(SNAPSHOTS).unwrap(), SERVING);
    let (head, _) = asked(UnixStream::connect(&socket).unwrap(), "GET /metrics");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");

    // The command line comes first.
    let other = Scratch::new(run::tmpfs());
    let mine = other.0.join("mine.sock");
    let arguments =
        ["--config", config.to_str().unwrap(), "--root", &root(&other), "--metrics", mine.to_str().unwrap()];
    let (_other, _) = start(&other, &arguments);
    assert!(mine.exists());

    for (text, line, problem) in [
        ("jobs = 2\n\nsnapshotter = true\n", "line 3", "snapshotter"),
        ("jobs = 0\n", "line 1", "zero"),
        ("grace = 1\nlog = \"loud\"\n", "line 2", "loud"),
        ("grace = 1\nroot =\n", "line 2", ""),
        // A file names no other one.
        ("config = \"other\"\n", "line 1", "config"),
    ] {
        fs::write(&config, text).unwrap();
        let output = layflat(&other.0).arg("--config").arg(&config).output().unwrap();
        assert!(!output.status.success());
        let said = crate::daemons::said(&output);
        assert!(said.contains(line) && said.contains("config.toml") && said.contains(problem), "{text}: {said}");
    }
    let output = layflat(&other.0).args(["--config", "/nowhere"]).output().unwrap();
    assert!(crate::daemons::said(&output).contains("cannot read \"/nowhere\""));
}
