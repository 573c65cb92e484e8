//! What others than containerd ask of layflat-containerd: whether it is well, and what it has counted. No containerd is needed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use regex::Regex;
use serde_json::Value;
use tonic::Code;

use crate::client::Client;
use crate::client::proto::types::{Descriptor, Mount};
use crate::common::harness::{self, Test, Trial};
use crate::common::images::{self, Tar};
use crate::common::run::{self, Scratch};
use crate::daemons::{Running, layflat, soon};
use crate::unpacker::blob;

const DIFF: &str = "containerd.services.diff.v1.Diff";
const SNAPSHOTS: &str = "containerd.services.snapshots.v1.Snapshots";
/// As grpc.health.v1 has them.
const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

pub(crate) fn trials() -> Vec<Trial> {
    const TESTS: [Test; 10] = [
        ("it_says_which_services_it_has", true, health),
        ("whoever_watches_hears_that_it_ends", true, watched),
        ("metrics_count_calls_layers_and_snapshots", true, metrics),
        ("metrics_are_nowhere_else", true, nowhere_else),
        ("a_file_says_what_options_say", true, file),
        ("more_than_jobs_wait_in_the_order_in_which_they_came", true, queue),
        ("whoever_waits_when_it_is_to_end_is_sent_away", true, ending),
        ("a_layer_has_the_threads_that_it_may_have", true, threads),
        ("what_needs_more_memory_than_is_allowed_is_refused", true, memory),
        ("what_lies_below_counts_for_a_differ_alone_too", true, memory_of_differ),
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
    let (_running, _) = start(&place, &["--metrics", "127.0.0.1:0"]);
    let address: SocketAddr = events(&place, "metrics")[0]["address"].as_str().unwrap().parse().unwrap();
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
        format!("# What this node has.\nroot = {:?}\nmetrics = {socket:?}\njobs = 1\nlayer-jobs = 1\nmemory = \"100M\"\nno-sync = true\nbackend = \"overlay\"\n", root(&place)),
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
        ("jobs = 1\nlayer-jobs = 0\n", "line 2", "zero"),
        ("jobs = 1\nmemory = \"much\"\n", "line 2", "much"),
        ("memory = \"64M\"\n", "line 1", "65M"),
        ("backend = \"zfs\"\n", "line 1", "zfs"),
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
    // It has no layers of its own to keep.
    let output = layflat(&other.0).args(["--backend", "erofs"]).output().unwrap();
    assert!(!output.status.success() && crate::daemons::said(&output).contains("say root"), "{output:?}");
}

/// A layer that takes as long as the test likes: zeros follow its archive, and whoever checks its digest has to read them.
fn endless(place: &Scratch) -> Descriptor {
    let layer = blob(&place.0, &images::layer("endless"));
    let directory = place.0.join("root/io.containerd.content.v1.content/blobs/sha256");
    let name = "0123456789abcdef".repeat(4);
    let path = directory.join(&name);
    fs::rename(directory.join(&layer.digest["sha256:".len()..]), &path).unwrap();
    const LENGTH: u64 = 1 << 38;
    fs::File::options().write(true).open(path).unwrap().set_len(LENGTH).unwrap();
    Descriptor { digest: format!("sha256:{name}"), size: LENGTH.try_into().unwrap(), ..layer }
}

/// Waits until there is such a line on the page.
fn until(socket: &Path, line: &str) {
    let page = || asked(UnixStream::connect(socket).unwrap(), "GET /metrics").1;
    soon(|| page().lines().any(|found| found == line), || format!("{line}\n{}", page()));
}

/// The events of the log that have this name.
fn events(place: &Scratch, name: &str) -> Vec<Value> {
    let log = fs::read_to_string(place.0.join("layflat.log")).unwrap();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["event"] == name).collect()
}

fn queue() {
    let place = Scratch::new(run::tmpfs());
    let socket = place.0.join("metrics.sock");
    let arguments = ["--root", &root(&place), "--jobs", "1", "--metrics", socket.to_str().unwrap()];
    let (_running, client) = start(&place, &arguments);
    let waiting = |count: usize| until(&socket, &format!("layflat_waiting {count}"));
    // Whoever comes after that is told comes later.
    let has_come = |count: usize| {
        let told = || events(&place, "waiting");
        soon(|| told().len() == count, || format!("{:?}", told()));
        waiting(count);
    };
    let mounts: Vec<_> = (0..5).map(|number| client.prepare(&format!("test/{number}/key"), "").unwrap()).collect();
    let small: Vec<_> = ["a", "b", "c"].map(|name| blob(&place.0, &images::layer(name))).into();
    client.apply(&small[0], &mounts[0]).unwrap();

    let first = client.begin_apply(&endless(&place), &mounts[1]);
    until(&socket, "layflat_working 1");
    let second = client.begin_apply(&small[1], &mounts[2]);
    has_come(1);
    let given_up = client.begin_apply(&small[0], &mounts[3]);
    has_come(2);
    let commit = client.begin_commit("test/0/name", "test/0/key");
    has_come(3);
    let last = client.begin_apply(&small[2], &mounts[4]);
    has_come(4);
    until(&socket, "layflat_working 5");
    let waits = events(&place, "waiting");
    let before: Vec<_> = waits.iter().map(|event| event["before"].as_u64().unwrap()).collect();
    assert_eq!(before, [0, 1, 2, 3], "{waits:?}");
    assert_eq!(waits[0]["what"], format!("layer {}", small[1].digest));
    assert_eq!(waits[2]["what"], "snapshot \"test/0/name\"");
    // Who asks for what takes no time is answered meanwhile.
    client.stat("test/0/key").unwrap();

    // Whoever gives up waits no more, whoever works makes room.
    given_up.give_up();
    waiting(3);
    first.give_up();
    for pending in [second, commit, last] {
        pending.answer().unwrap();
    }
    waiting(0);
    let log = fs::read_to_string(place.0.join("layflat.log")).unwrap();
    let order: Vec<String> = log.lines().filter_map(done).collect();
    let digest = |layer: usize| small[layer].digest.clone();
    assert_eq!(order, [digest(0), digest(1), "test/0/name".to_owned(), digest(2)]);
}

/// What was done to which layer, or snapshot.
fn done(line: &str) -> Option<String> {
    let event: Value = serde_json::from_str(line).ok()?;
    let name = match event["event"].as_str() {
        Some("unpacked") => "digest",
        Some("committed") => "name",
        _ => return None,
    };
    event[name].as_str().map(str::to_owned)
}

fn ending() {
    let place = Scratch::new(run::tmpfs());
    let socket = place.0.join("metrics.sock");
    let root = root(&place);
    let arguments = ["--root", &root, "--jobs", "1", "--grace", "600", "--metrics", socket.to_str().unwrap()];
    let (running, client) = start(&place, &arguments);
    let mounts: Vec<_> = (0..2).map(|number| client.prepare(&format!("test/{number}/key"), "").unwrap()).collect();
    let first = client.begin_apply(&endless(&place), &mounts[0]);
    until(&socket, "layflat_working 1");
    let second = client.begin_apply(&blob(&place.0, &images::layer("a")), &mounts[1]);
    until(&socket, "layflat_waiting 1");
    running.terminate();
    // While the first one is still worked on.
    let status = second.answer().unwrap_err();
    assert!(status.code() == Code::Unavailable && status.message().contains("is ending"), "{status:?}");
    let told = events(&place, "ending");
    assert_eq!((&told[0]["layers"], &told[0]["waiting"]), (&Value::from(1), &Value::from(1)));
    first.give_up();
    assert!(running.ended_well());
}

fn threads() {
    let counted = |layer_jobs: &str, wanted: &dyn Fn(u64) -> bool| {
        let place = Scratch::new(run::tmpfs());
        let socket = place.0.join("metrics.sock");
        let root = root(&place);
        let arguments = ["--root", &root, "--layer-jobs", layer_jobs, "--metrics", socket.to_str().unwrap()];
        let (running, client) = start(&place, &arguments);
        let mounts = client.prepare("test/0/key", "").unwrap();
        let before = running.status("Threads");
        let pending = client.begin_apply(&endless(&place), &mounts);
        until(&socket, "layflat_working 1");
        let threads = || running.status("Threads").saturating_sub(before);
        let mut found = 0;
        let is_wanted = || {
            found = threads();
            wanted(found)
        };
        soon(is_wanted, || format!("{} threads", threads()));
        let threads = found;
        pending.give_up();
        threads
    };
    // One for all that is done, which may have been there before, and those for decompressing, hashing and writing.
    let more = counted("4", &|threads| threads >= 2);
    assert!((2..=4).contains(&more), "{more}");
    let one = counted("1", &|_| true);
    assert!(one <= 1, "{one}");
}

/// A layer of so many empty files.
fn files(prefix: &str, count: usize) -> Vec<u8> {
    (0..count).fold(Tar::new(), |tar, number| tar.file(&format!("{prefix}/{number}"), "")).done()
}

/// It leaves 1 MiB for entries: about 3,400 of a layer, or 2,000 files on disk.
const MEMORY: &str = "65M";

fn memory() {
    let place = Scratch::new(run::tmpfs());
    let (running, client) = start(&place, &["--root", &root(&place), "--jobs", "1", "--memory", MEMORY]);
    let applied = |number: usize, archive: &[u8]| {
        let mounts = client.prepare(&format!("test/{number}/key"), "").unwrap();
        client.apply(&blob(&place.0, archive), &mounts).map(drop)
    };
    let is_refused = |answer: Result<(), tonic::Status>| {
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        let message = status.message();
        assert!(message.contains("limit of 68157440") && message.contains("--memory"), "{message}");
    };
    is_refused(applied(0, &files("many", 4_000)));
    // Together they are too many.
    applied(2, &files("one", 2_000)).unwrap();
    applied(3, &files("two", 2_000)).unwrap();
    client.commit("test/2/name", "test/2/key", "").unwrap();
    is_refused(client.commit("test/3/name", "test/3/key", "test/2/name"));
    // The rest goes on, and has taken no more than it may.
    applied(4, &images::layer("small")).unwrap();
    client.commit("test/4/name", "test/4/key", "test/2/name").unwrap();
    let most = running.status("VmHWM");
    assert!(most < 65 << 10, "{most} kB");
    assert_eq!(events(&place, "failed").len() + events(&place, "snapshot-failed").len(), 2);
}

fn memory_of_differ() {
    let place = Scratch::new(run::tmpfs());
    let (_running, client) = start(&place, &["--memory", MEMORY]);
    let directory = |name: &str| {
        let path = place.0.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let (lower, upper, work) = (directory("1/fs"), directory("2/fs"), directory("2/work"));
    let mount = Mount {
        r#type: "overlay".to_owned(),
        source: "overlay".to_owned(),
        target: String::new(),
        options: vec![
            format!("upperdir={}", upper.display()),
            format!("workdir={}", work.display()),
            format!("lowerdir={}", lower.display()),
        ],
    };
    for number in 0..3_000 {
        fs::write(lower.join(number.to_string()), "").unwrap();
    }
    let refused = client.apply(&blob(&place.0, &images::layer("a")), std::slice::from_ref(&mount)).unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    for number in 1_000..3_000 {
        fs::remove_file(lower.join(number.to_string())).unwrap();
    }
    client.apply(&blob(&place.0, &images::layer("a")), &[mount]).unwrap();
}
