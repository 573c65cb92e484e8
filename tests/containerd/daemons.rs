//! A containerd and a layflat-containerd of a test's own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal};

use crate::client::Client;
use crate::common::erofs;
use crate::common::run::{self, Scratch};
use crate::common::tools;
use crate::lost::Link;

/// Where a version of containerd is, by the Debian suite that it is from.
fn programs(suite: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/containerd").join(suite).join("usr/bin")
}

/// The capabilities of the unit, as setpriv(1) takes them.
fn capabilities() -> String {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/containerd.md");
    let document = fs::read_to_string(document).unwrap();
    let named = document.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    for copy in ["contrib/containerd/layflat-containerd.service", "contrib/kubernetes/daemonset.yaml"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(copy)).unwrap();
        assert!(
            text.contains(&format!("CapabilityBoundingSet={named}\n")),
            "{copy} has other capabilities than docs/containerd.md"
        );
    }
    let names = named.split(' ').map(|name| format!("+{}", name.trim_start_matches("CAP_").to_lowercase()));
    names.collect::<Vec<_>>().join(",")
}

/// What layflat does for containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is the only differ, for containerd's own overlayfs snapshotter.
    Differ,
    /// The same, but what it leaves is for containerd's own differ.
    FirstDiffer,
    /// It is the snapshotter, too.
    Pair,
    /// It is both, and keeps layers as EROFS images.
    Erofs,
}

impl Role {
    /// The snapshotter's name.
    fn snapshotter(self) -> &'static str {
        match self {
            Self::Differ | Self::FirstDiffer => "overlayfs",
            Self::Pair | Self::Erofs => "layflat",
        }
    }

    /// Whether layflat is the snapshotter.
    pub(crate) fn is_both(self) -> bool {
        matches!(self, Self::Pair | Self::Erofs)
    }
}

/// A layflat-containerd for the containerd in a directory, with the privileges that the unit in docs/containerd.md gives it,
/// and no others.
pub(crate) fn layflat(place: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--no-new-privs", "--bounding-set"]).arg(format!("-all,{}", capabilities()));
    command.arg(assert_cmd::cargo::cargo_bin!("layflat-containerd"));
    command.arg("--address").arg(place.join("l.sock"));
    command.arg("--containerd-address").arg(place.join("c.sock"));
    command.arg("--containerd-root").arg(place.join("root")).args(["--log", "json"]);
    command
}

pub(crate) struct Daemons {
    place: Scratch,
    role: Role,
    programs: PathBuf,
    containerd: Option<Running>,
    layflat: Option<Running>,
}

impl Daemons {
    /// Starts both on an empty root. Ends the test as impossible if this suite's containerd is not there.
    pub(crate) fn start(suite: &str, role: Role) -> Self {
        let mut daemons = Self::prepare(suite, role);
        std::os::unix::fs::symlink(daemons.path("l.sock"), daemons.path("to-l.sock")).unwrap();
        daemons.start_layflat();
        daemons.start_containerd();
        daemons
    }

    /// The same, where something is between both that can lose answers.
    pub(crate) fn start_linked(suite: &str, role: Role) -> (Self, Link) {
        let mut daemons = Self::prepare(suite, role);
        let link = Link::between(&daemons.path("to-l.sock"), &daemons.path("l.sock"), &daemons.snapshots());
        daemons.start_layflat();
        daemons.start_containerd();
        (daemons, link)
    }

    fn prepare(suite: &str, role: Role) -> Self {
        let programs = programs(suite);
        if !programs.join("containerd").exists() {
            tools::impossible(&format!("{programs:?} has no containerd: scripts/get-containerd"));
        }
        let place = if role == Role::Erofs { on_disk() } else { Scratch::new(run::tmpfs()) };
        let list = match role {
            Role::Differ | Role::Pair | Role::Erofs => r#"["layflat-diff"]"#,
            Role::FirstDiffer => r#"["layflat-diff", "walking"]"#,
        };
        let snapshotter = role.snapshotter();
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
[timeouts]
  "io.containerd.timeout.shim.cleanup" = "60s"
  "io.containerd.timeout.shim.load" = "60s"
  "io.containerd.timeout.shim.shutdown" = "60s"
  "io.containerd.timeout.task.state" = "60s"
[proxy_plugins.layflat-diff]
  type = "diff"
  address = "{layflat}"
{proxy}
[plugins."io.containerd.service.v1.diff-service"]
  default = {list}
[plugins."io.containerd.transfer.v1.local"]
  [[plugins."io.containerd.transfer.v1.local".unpack_config]]
    platform = "{platform}"
    snapshotter = "{snapshotter}"
    differ = "layflat-diff"
"#,
            root = at("root"),
            state = at("state"),
            socket = at("c.sock"),
            layflat = at("to-l.sock"),
            proxy = match role {
                Role::Pair | Role::Erofs => format!(
                    "[proxy_plugins.layflat]\n  type = \"snapshot\"\n  address = \"{}\"\n  capabilities = {}",
                    at("to-l.sock"),
                    // Neither 1.7 nor EROFS images can be mounted as the second one promises.
                    if suite == "sid" && role == Role::Pair { r#"["rebase", "remap-ids"]"# } else { r#"["rebase"]"# },
                ),
                Role::Differ | Role::FirstDiffer => String::new(),
            },
        );
        fs::write(place.0.join("config.toml"), config).unwrap();
        Self { place, role, programs, containerd: None, layflat: None }
    }

    pub(crate) fn start_layflat(&mut self) {
        let mut command = layflat(&self.place.0);
        if self.role.is_both() {
            command.arg("--root").arg(self.path("layflat"));
        }
        if self.role == Role::Erofs {
            command.args(["--backend", "erofs"]);
        }
        self.layflat = Some(Running::start(command, &self.place.0, "layflat"));
    }

    pub(crate) fn start_containerd(&mut self) {
        let mut command = Command::new(self.programs.join("containerd"));
        // Its shim is of the same version.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.programs.display()));
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
        // As the default of its options of that name.
        command.env("CONTAINERD_SNAPSHOTTER", self.role.snapshotter()).stdin(Stdio::null());
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

    /// The directories of the snapshots.
    pub(crate) fn snapshots(&self) -> PathBuf {
        match self.role {
            Role::Differ | Role::FirstDiffer => self.path("root/io.containerd.snapshotter.v1.overlayfs/snapshots"),
            Role::Pair | Role::Erofs => self.path("layflat/snapshots"),
        }
    }

    /// layflat-containerd, spoken to past containerd.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.path("l.sock"))
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        self.kill_containerd();
        self.kill_layflat();
        forget_images(&self.path("layflat"));
    }
}

/// A place from which the kernel mounts EROFS images. Ends the test as impossible where it does not.
pub(crate) fn on_disk() -> Scratch {
    if !erofs::can_mount() {
        tools::impossible("the kernel mounts no EROFS images from files in the directory for temporary files");
    }
    Scratch::new(&std::env::temp_dir())
}

/// Unmounts what a layflat-containerd that was killed has mounted in its root.
pub(crate) fn forget_images(root: &Path) {
    let _ = rustix::mount::unmount(root.join("mnt"), UnmountFlags::DETACH);
}

/// The EROFS images that are mounted below a directory.
pub(crate) fn images_in(root: &Path) -> usize {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let at = |line: &&str| line.split(' ').nth(4).is_some_and(|point| Path::new(point).starts_with(root));
    mounts.lines().filter(at).filter(|line| line.contains(" - erofs ")).count()
}

pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Waits until it is so, for as long as it may take on a busy machine.
#[track_caller]
pub(crate) fn soon(mut is_so: impl FnMut() -> bool, what_else: impl Fn() -> String) {
    let until = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < until, "{}", what_else());
        std::thread::yield_now();
    }
}

/// A daemon, which is killed when this is dropped.
pub(crate) struct Running(Child);

impl Running {
    /// Waits until it is ready, as systemd does (sd_notify(3)).
    pub(crate) fn start(command: Command, place: &Path, name: &str) -> Self {
        Self::started(command, place, name).unwrap_or_else(|| {
            let log = fs::read_to_string(place.join(format!("{name}.log"))).unwrap_or_default();
            panic!("{name} does not get ready\n{log}")
        })
    }

    /// The same; nothing, if it ends before.
    pub(crate) fn started(mut command: Command, place: &Path, name: &str) -> Option<Self> {
        let notify = place.join(format!("{name}.notify"));
        let _ = fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let log = File::options().create(true).append(true).open(place.join(format!("{name}.log"))).unwrap();
        command.env("NOTIFY_SOCKET", &notify).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut running = Self(command.spawn().unwrap());
        let mut message = [0; 256];
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            match socket.recv(&mut message) {
                Ok(length) if message[..length].windows(7).any(|part| part == b"READY=1") => return Some(running),
                Err(_) if running.0.try_wait().unwrap().is_some() => return None,
                _ => {}
            }
        }
        None
    }

    /// Tells it to end, as systemd does.
    pub(crate) fn terminate(&self) {
        rustix::process::kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
    }

    /// What /proc says of the process, by the name of the line.
    pub(crate) fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        value.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Bytes that it has read so far, from files and sockets.
    pub(crate) fn bytes_read(&self) -> u64 {
        let counts = fs::read_to_string(format!("/proc/{}/io", self.0.id())).unwrap();
        counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
    }

    /// Waits until it has ended, for a minute; whether it says that all is well.
    pub(crate) fn ended_well(mut self) -> bool {
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
