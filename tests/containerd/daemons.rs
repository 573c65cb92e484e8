//! A containerd and a layflat-containerd of a test's own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::common::run::{self, Scratch};
use crate::common::tools;

/// Where a version of containerd is, by the Debian suite that it is from.
fn programs(suite: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/containerd").join(suite).join("usr/bin")
}

/// The capabilities of the unit, as setpriv(1) takes them.
fn capabilities() -> String {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/containerd.md");
    let document = fs::read_to_string(document).unwrap();
    let named = document.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let names = named.split(' ').map(|name| format!("+{}", name.trim_start_matches("CAP_").to_lowercase()));
    names.collect::<Vec<_>>().join(",")
}

/// Which differs containerd asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Differs {
    /// layflat alone.
    Layflat,
    /// layflat, and what it leaves is for containerd's own.
    LayflatFirst,
}

pub(crate) struct Daemons {
    place: Scratch,
    programs: PathBuf,
    containerd: Option<Running>,
    layflat: Option<Running>,
}

impl Daemons {
    /// Starts both on an empty root. Ends the test as impossible if this suite's containerd is not there.
    pub(crate) fn start(suite: &str, differs: Differs) -> Self {
        let programs = programs(suite);
        if !programs.join("containerd").exists() {
            tools::impossible(&format!("{programs:?} has no containerd: scripts/get-containerd"));
        }
        let place = Scratch::new(run::tmpfs());
        let list = match differs {
            Differs::Layflat => r#"["layflat"]"#,
            Differs::LayflatFirst => r#"["layflat", "walking"]"#,
        };
        let at = |name: &str| place.0.join(name).display().to_string();
        let platform = format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
        let config = format!(
            r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.internal.v1.cri", "io.containerd.podsandbox.controller.v1.podsandbox"]
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[proxy_plugins.layflat]
  type = "diff"
  address = "{layflat}"
[plugins."io.containerd.service.v1.diff-service"]
  default = {list}
[plugins."io.containerd.transfer.v1.local"]
  [[plugins."io.containerd.transfer.v1.local".unpack_config]]
    platform = "{platform}"
    snapshotter = "overlayfs"
    differ = "layflat"
"#,
            root = at("root"),
            state = at("state"),
            socket = at("c.sock"),
            layflat = at("l.sock"),
        );
        fs::write(place.0.join("config.toml"), config).unwrap();
        let mut daemons = Self { place, programs, containerd: None, layflat: None };
        daemons.start_layflat();
        daemons.start_containerd();
        daemons
    }

    /// With the privileges that the unit in docs/containerd.md gives it, and no others.
    pub(crate) fn start_layflat(&mut self) {
        let mut command = Command::new("setpriv");
        command.args(["--no-new-privs", "--bounding-set"]).arg(format!("-all,{}", capabilities()));
        command.arg(assert_cmd::cargo::cargo_bin!("layflat-containerd"));
        command.arg("--address").arg(self.path("l.sock"));
        command.arg("--containerd-root").arg(self.path("root")).args(["--log", "json"]);
        self.layflat = Some(Running::start(command, &self.place.0, "layflat"));
    }

    pub(crate) fn start_containerd(&mut self) {
        let mut command = Command::new(self.programs.join("containerd"));
        command.arg("--config").arg(self.path("config.toml"));
        self.containerd = Some(Running::start(command, &self.place.0, "containerd"));
    }

    /// Kills layflat-containerd, so that it can do nothing about it.
    pub(crate) fn kill_layflat(&mut self) {
        drop(self.layflat.take());
    }

    /// Kills containerd likewise.
    pub(crate) fn kill_containerd(&mut self) {
        drop(self.containerd.take());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.0.join(name)
    }

    /// `ctr`, with arguments separated by spaces.
    pub(crate) fn ctr(&self, arguments: &str) -> Command {
        let mut command = Command::new(self.programs.join("ctr"));
        command.arg("--address").arg(self.path("c.sock")).args(arguments.split_whitespace());
        command.stdin(Stdio::null());
        command
    }

    /// Runs `ctr`, which must succeed; what it prints.
    pub(crate) fn done(&self, arguments: &str) -> String {
        let output = self.ctr(arguments).output().unwrap();
        assert!(output.status.success(), "ctr {arguments}: {}\n{}", said(&output), self.log("containerd"));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Imports an archive of images; what went wrong, if it did.
    pub(crate) fn import(&self, archive: &[u8], options: &str) -> Result<(), String> {
        let file = tempfile::NamedTempFile::new_in(&self.place.0).unwrap();
        fs::write(file.path(), archive).unwrap();
        let output = self.ctr(&format!("images import {options}")).arg(file.path()).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(said(&output)) }
    }

    /// What a daemon has written.
    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.log"))).unwrap()
    }

    /// The directories of the overlayfs snapshotter.
    pub(crate) fn snapshots(&self) -> PathBuf {
        self.path("root/io.containerd.snapshotter.v1.overlayfs/snapshots")
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        self.kill_containerd();
        self.kill_layflat();
    }
}

pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A daemon, which is killed when this is dropped.
struct Running(Child);

impl Running {
    /// Waits until it is ready, as systemd does (sd_notify(3)).
    fn start(mut command: Command, place: &Path, name: &str) -> Self {
        let notify = place.join(format!("{name}.notify"));
        let _ = fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let log = File::options().create(true).append(true).open(place.join(format!("{name}.log"))).unwrap();
        command.env("NOTIFY_SOCKET", &notify).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let running = Self(command.spawn().unwrap());
        let mut message = [0; 256];
        loop {
            let length = socket.recv(&mut message).unwrap_or_else(|error| {
                let log = fs::read_to_string(place.join(format!("{name}.log"))).unwrap_or_default();
                panic!("{name} does not get ready: {error}\n{log}")
            });
            if message[..length].windows(7).any(|part| part == b"READY=1") {
                return running;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
