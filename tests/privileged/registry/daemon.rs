//! Podman's service as the engine, over its socket.

use std::process::Command;

use layflat::Cancel;
use layflat::core::chain::Chain;
use layflat::net::engine::Daemon;

use super::place::{Place, failed, fixture, succeeded};
use super::servers::Engine;
use crate::common::harness::Test;
use crate::common::tools;

pub(crate) const TESTS: &[Test] = &[
    ("daemon::images_come_from_podman_and_go_there", true, there_and_back),
    ("daemon::through_ssh_and_dockers_contexts", false, elsewhere),
    ("daemon::without_an_engine_it_says_where_it_looked", false, none),
];

struct Service {
    _engine: Engine,
    place: Place,
}

impl Service {
    fn start() -> Self {
        let place = Place::new();
        Self { _engine: Engine::start(&place), place }
    }

    fn podman(&self, arguments: &[&str]) -> String {
        succeeded(&Command::new("podman").args(Engine::store(&self.place)).args(arguments).output().unwrap())
    }
}

fn there_and_back() {
    let service = Service::start();
    let place = &service.place;
    let socket = place.path("socket").display().to_string();
    let daemon = Daemon::find(Some(&socket), &Cancel::default()).unwrap();
    let archive = fixture().trim_start_matches("docker-archive:").to_owned();
    daemon.load(&mut std::fs::File::open(&archive).unwrap()).unwrap();
    let id = service.podman(&["images", "--no-trunc", "--format", "{{.ID}}"]);

    // By a short name, a whole one, and the ID; --socket and DOCKER_HOST.
    let short = &id.trim()["sha256:".len()..][..12];
    for image in ["four-layers", "localhost/four-layers:latest", id.trim(), short] {
        let image = format!("docker-daemon:{image}");
        assert_eq!(place.printed(&["diff", "--socket", &socket, &image, &fixture()]), "");
    }
    let inspect = |image: &str| {
        let host = format!("unix://{socket}");
        place.layflat(&["--json", "inspect", image]).env("DOCKER_HOST", host).output().unwrap()
    };
    let document: serde_json::Value = serde_json::from_str(&succeeded(&inspect("docker-daemon:four-layers"))).unwrap();
    assert_eq!(document["config_digest"], id.trim());
    let message = failed(&inspect("docker-daemon:none:1"));
    let begin = format!("cannot open docker-daemon:none:1: the engine at {socket} has no image none:1: ");
    let end = "; list its images with `docker images` or `podman images`";
    assert!(message.starts_with(&begin) && message.ends_with(end), "{message}");

    let refused = daemon.load(&mut &b"no archive"[..]).map_err(|error| Chain(&error).to_string()).unwrap_err();
    assert!(refused.starts_with(&format!("the engine at {socket} refused: ")), "{refused}");
    struct Torn;
    impl std::io::Read for Torn {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the tape is torn"))
        }
    }
    let torn = daemon.load(&mut Torn).map_err(|error| Chain(&error).to_string()).unwrap_err();
    assert_eq!(torn, "cannot read the image that the engine should load: the tape is torn");
}

fn none() {
    let place = Place::new();
    let opening = "cannot open docker-daemon:a:1";
    for (socket, problem) in [
        (
            "nowhere",
            "cannot reach the engine at nowhere: connection refused or no such socket: No such file or directory (os error 2); is it running?",
        ),
        (
            "ssh://me:secret@a",
            "\"ssh://me:***@a\" is not an engine's address: ssh takes no password in an address: use a key, or an agent",
        ),
        (
            "tcp://127.0.0.1:1",
            "cannot reach the engine at tcp://127.0.0.1:1: connection refused or no such socket: Connection refused (os error 111); is it running?",
        ),
    ] {
        let message = place.message(&["inspect", "--socket", socket, "docker-daemon:a:1"]);
        assert_eq!(message, format!("{opening}: {problem}"));
    }
}

/// Stands for ssh: tells its arguments, and leads to the socket that BRIDGE names.
const SSH: &str = r#"#!/usr/bin/env python3
import os, socket, sys, threading
with open(os.environ["TOLD"], "w") as told: told.write(" ".join(sys.argv[1:]))
if "BRIDGE" not in os.environ:
    print("ssh: Could not resolve hostname", file=sys.stderr)
    sys.exit(255)
engine = socket.socket(socket.AF_UNIX)
engine.connect(os.environ["BRIDGE"])
def up():
    while data := os.read(0, 65536): engine.sendall(data)
    engine.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := engine.recv(65536):
    while data: data = data[os.write(1, data):]
"#;

/// An engine that hands out the fixture, whatever it is asked for, over a socket.
fn engine(socket: &std::path::Path) {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    let archive = std::fs::read(fixture().trim_start_matches("docker-archive:")).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            lines.map_while(Result::ok).find(String::is_empty);
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", archive.len());
            // A client may have seen enough.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&archive));
        }
    });
}

fn elsewhere() {
    tools::need(&["python3"]);
    let place = Place::new();
    let socket = place.path("engine.sock");
    engine(&socket);
    std::fs::create_dir(place.path("bin")).unwrap();
    let program = place.path("bin/ssh");
    tools::put_script(SSH, &program);
    let told = place.path("told");
    let inspect = |environment: &[(&str, &str)]| {
        let path = format!("{}:{}", place.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = place.layflat(&["inspect", "docker-daemon:four-layers"]);
        command.env("PATH", path).env("TOLD", &told).envs(environment.iter().copied()).output().unwrap()
    };
    let bridge = socket.display().to_string();
    for (address, arguments) in [
        ("ssh://a.example", "-o ConnectTimeout=30 -T -- a.example docker system dial-stdio"),
        (
            "ssh://me@a.example:2222/run/my engine.sock",
            "-o ConnectTimeout=30 -T -l me -p 2222 -- a.example docker --host 'unix:///run/my engine.sock' system dial-stdio",
        ),
    ] {
        succeeded(&inspect(&[("DOCKER_HOST", address), ("BRIDGE", &bridge)]));
        assert_eq!(std::fs::read_to_string(&told).unwrap(), arguments);
    }
    let message = failed(&inspect(&[("DOCKER_HOST", "ssh://a.example")]));
    let expected = "cannot open docker-daemon:four-layers: the connection to the engine at ssh://a.example broke: ssh ended with \
                    exit status: 255: ssh: Could not resolve hostname; does `ssh HOST docker version` work?";
    assert_eq!(message, expected);

    // `docker context use remote`, and what comes before it.
    let id = layflat::core::digest::Digest::sha256_of(b"remote").to_string()["sha256:".len()..].to_owned();
    let meta = place.path("home/.docker/contexts/meta").join(id);
    std::fs::create_dir_all(&meta).unwrap();
    let context = serde_json::json!({"Name": "remote", "Endpoints": {"docker": {"Host": format!("unix://{bridge}")}}});
    std::fs::write(meta.join("meta.json"), context.to_string()).unwrap();
    succeeded(&inspect(&[("DOCKER_CONTEXT", "remote")]));
    std::fs::write(place.path("home/.docker/config.json"), r#"{"currentContext": "remote"}"#).unwrap();
    succeeded(&inspect(&[]));
    for (variable, value, problem) in [
        ("DOCKER_HOST", "/nowhere", "cannot reach the engine at /nowhere"),
        ("DOCKER_CONTEXT", "other", "Docker's context \"other\" cannot be used: cannot read "),
        ("CONTAINER_HOST", "/nowhere", "cannot reach the engine at /nowhere"),
    ] {
        let message = failed(&inspect(&[(variable, value)]));
        assert!(message.starts_with(&format!("cannot open docker-daemon:four-layers: {problem}")), "{message}");
    }
}
