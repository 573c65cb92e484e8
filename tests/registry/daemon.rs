//! Podman's service as the engine, over its socket.

use std::process::{Child, Command, Stdio};

use layflat::Cancel;
use layflat::daemon::Daemon;

use crate::Test;
use crate::place::{Place, failed, fixture, succeeded};
use crate::servers::mortal;

pub(crate) const TESTS: &[Test] = &[
    ("daemon::images_come_from_podman_and_go_there", true, there_and_back),
    ("daemon::without_an_engine_it_says_where_it_looked", false, none),
];

struct Service {
    child: Child,
    place: Place,
}

impl Service {
    fn start() -> Self {
        let place = Place::new();
        let socket = format!("unix://{}", place.path("socket").display());
        let child = mortal("podman")
            .args(store(&place))
            .args(["system", "service", "--time", "0", &socket])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let service = Self { child, place };
        // It answers as soon as it listens.
        let listens = || std::os::unix::net::UnixStream::connect(service.place.path("socket")).is_ok();
        while !listens() {
            std::thread::yield_now();
        }
        service
    }

    fn podman(&self, arguments: &[&str]) -> String {
        succeeded(&Command::new("podman").args(store(&self.place)).args(arguments).output().unwrap())
    }
}

fn store(place: &Place) -> Vec<String> {
    let path = |name: &str| place.path(name).display().to_string();
    let storage =
        ["--storage-driver".to_owned(), "vfs".to_owned(), "--cgroup-manager".to_owned(), "cgroupfs".to_owned()];
    [&["--root".to_owned(), path("root"), "--runroot".to_owned(), path("runroot")][..], &storage].concat()
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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
    for image in ["four-layers", "localhost/four-layers:latest", id.trim()] {
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
    let end = "; `docker images` or `podman images` shows what it has";
    assert!(message.starts_with(&begin) && message.ends_with(end), "{message}");

    let refused = daemon.load(&mut &b"no archive"[..]).unwrap_err().to_string();
    assert!(refused.starts_with(&format!("the engine at {socket} refuses: ")), "{refused}");
    struct Torn;
    impl std::io::Read for Torn {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the tape is torn"))
        }
    }
    let torn = daemon.load(&mut Torn).unwrap_err().to_string();
    assert_eq!(torn, "cannot read what the engine is to load: the tape is torn");
}

fn none() {
    let place = Place::new();
    let opening = "cannot open docker-daemon:a:1";
    for (socket, problem) in [
        (
            "nowhere",
            "cannot reach the engine at nowhere: nobody listens there (No such file or directory (os error 2)); is it running?",
        ),
        (
            "ssh://a",
            "\"ssh://a\" is no engine's address: ssh and https are not supported: forward its socket, for instance with ssh -L",
        ),
        (
            "tcp://127.0.0.1:1",
            "cannot reach the engine at tcp://127.0.0.1:1: nobody listens there (Connection refused (os error 111)); is it running?",
        ),
    ] {
        let message = place.message(&["inspect", "--socket", socket, "docker-daemon:a:1"]);
        assert_eq!(message, format!("{opening}: {problem}"));
    }
}
