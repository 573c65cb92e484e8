//! What was called done survives a power loss (rule S6): file systems of our own are shut down right after success, by
//! the ioctl that xfstests use for it, or their disk is copied as it is just then; they are mounted again, and looked at.
//!
//! Needs root, loop devices, `xfs_io` of the package xfsprogs, and `mkfs.btrfs` of btrfs-progs.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, and this is another harness")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::common::harness::Trial;
use crate::common::unmount::{unmounted, when_free};
use crate::common::{run, tools};
use layflat::compare::{CompareOptions, compare};
use layflat::core::chain::Chain;
use tempfile::TempDir;

const IMAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/four-layers.tar");

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    let losses = [
        ("with_the_log_lost", Loss::Shutdown),
        ("with_the_log_written", Loss::ShutdownAfterLog),
        ("as_the_disk_is", Loss::CopyOfDisk),
    ];
    for (filesystem, name) in [(EXT4, "ext4"), (XFS, "xfs"), (BTRFS, "btrfs")] {
        for (how, loss) in losses {
            // Most kernels know no shutdown of Btrfs.
            if name == "btrfs" && loss != Loss::CopyOfDisk {
                continue;
            }
            for (product, test) in PRODUCTS {
                let run = move || {
                    tools::need(&["mkfs.ext4", "xfs_io", "mkfs.btrfs"]);
                    if let Err(reason) = can_mount_disks() {
                        tools::impossible(reason);
                    }
                    survives(filesystem, loss, *test);
                    Ok(())
                };
                let name = format!("s6_{product}_survives_a_power_loss::{name}::{how}");
                trials.push(Trial::test(name, run).with_ignored_flag(!run::is_root()));
            }
        }
    }
    trials
}

/// Whether there are loop devices, which containers often lack.
fn can_mount_disks() -> &'static Result<(), String> {
    static FOUND: OnceLock<Result<(), String>> = OnceLock::new();
    FOUND.get_or_init(|| Disk::make(EXT4).map(drop))
}

/// The commands that make a file system, and the option that makes it mount after a shutdown.
type Filesystem = &'static [&'static str];
const EXT4: Filesystem = &["mkfs.ext4", "-q", "-F"];
const XFS: Filesystem = &["mkfs.xfs", "-q", "-f"];

const BTRFS: Filesystem = &["mkfs.btrfs", "-q", "-f"];

/// How the power goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// The file system is shut down, and what is in its log is lost.
    Shutdown,
    /// The same, but its log is written before.
    ShutdownAfterLog,
    /// What is on the disk just then is all that there is.
    CopyOfDisk,
}

/// Makes a product in a directory, and gives what looks at it after the power loss.
type Product = fn(&Path) -> Box<dyn Fn(&Path)>;

const PRODUCTS: &[(&str, Product)] = &[
    ("a_rootfs", rootfs),
    ("a_replaced_rootfs", replaced),
    ("layers", layers),
    ("a_bundle", bundle),
    ("an_archive", archive),
    ("a_layout", layout),
    ("a_layout_that_is_added_to", added),
    ("a_directory", directory),
    ("a_flat_archive", flat_archive),
    ("a_packed_layer", packed),
    ("the_cache", cache),
];

/// A file system in a file, mounted.
struct Disk {
    place: TempDir,
    mounted: bool,
}

impl Disk {
    fn make(filesystem: Filesystem) -> Result<Self, String> {
        let place = tempfile::tempdir().map_err(|error| Chain(&error).to_string())?;
        fs::create_dir(place.path().join("mnt")).map_err(|error| Chain(&error).to_string())?;
        let file = fs::File::create(place.path().join("disk")).map_err(|error| Chain(&error).to_string())?;
        file.set_len(400 << 20).map_err(|error| Chain(&error).to_string())?;
        let mut disk = Self { place, mounted: false };
        run(command(filesystem[0]).args(&filesystem[1..]).arg(disk.path("disk")))?;
        disk.mount()?;
        Ok(disk)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn mount(&mut self) -> Result<(), String> {
        run(command("mount").args(["-o", "loop"]).arg(self.path("disk")).arg(self.path("mnt")))?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<(), String> {
        self.mounted = false;
        when_free(|| run(command("umount").arg(self.path("mnt"))), |said| said.contains("busy"))?;
        self.wait_until_forgotten()
    }

    /// Whoever has a mount namespace from before, such as a test beside this one, keeps the file system alive; until
    /// that is gone, mounting the file again would show the one that was shut down.
    fn wait_until_forgotten(&self) -> Result<(), String> {
        let begun = Instant::now();
        // As long as that test takes, where the machine is busy.
        while begun.elapsed() < Duration::from_secs(600) {
            let output = command("losetup").arg("--associated").arg(self.path("disk")).output();
            let output = output.map_err(|error| format!("losetup: {error}"))?;
            if !output.status.success() {
                return Err(format!("losetup: {}", text(&output)));
            }
            if output.stdout.is_empty() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("somebody keeps the file system for ten minutes after its unmount".to_owned())
    }

    /// The power goes: what is not on disk is lost.
    fn lose_power(&mut self, loss: Loss) {
        let shutdown = |how: &str| run(command("xfs_io").args(["-x", "-c", how]).arg(self.path("mnt"))).unwrap();
        match loss {
            Loss::Shutdown => shutdown("shutdown"),
            Loss::ShutdownAfterLog => shutdown("shutdown -f"),
            Loss::CopyOfDisk => {
                let copy = [self.path("disk"), self.path("copy")];
                run(command("cp").arg("--sparse=always").args(copy)).unwrap();
            }
        }
        self.unmount().unwrap();
        if loss == Loss::CopyOfDisk {
            fs::rename(self.path("copy"), self.path("disk")).unwrap();
        }
        self.mount().unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = self.unmount();
        }
    }
}

/// A program, also of an administrator.
fn command(program: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).env("LC_ALL", "C.UTF-8");
    command
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", text(&output))) }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

fn survives(filesystem: Filesystem, loss: Loss, product: Product) {
    let mut disk = Disk::make(filesystem).unwrap();
    let look = product(&disk.path("mnt"));
    disk.lose_power(loss);
    look(&disk.path("mnt"));
}

fn layflat(place: &Path, arguments: &[&str]) {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("layflat"));
    command.args(arguments).current_dir(place).env("XDG_CACHE_HOME", place.join("cache"));
    run(&mut command).unwrap();
}

/// The tree that every product must hold.
fn expected() -> (TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    layflat(place.path(), &["flatten", "--quiet", IMAGE, "rootfs"]);
    let tree = place.path().join("rootfs");
    (place, tree)
}

fn same(tree: &Path) {
    let (_place, expected) = expected();
    let differences = compare(tree, &expected, &CompareOptions::default()).unwrap();
    assert!(differences.is_empty(), "{differences:?}");
}

/// Reads an image back: every digest in it is checked.
fn reads(place: &Path, image: &str) {
    let out = tempfile::tempdir().unwrap();
    let tree = out.path().join("tree");
    layflat(place, &["flatten", "--quiet", "--no-cache", image, tree.to_str().unwrap()]);
    same(&tree);
}

fn rootfs(place: &Path) -> Box<dyn Fn(&Path)> {
    layflat(place, &["flatten", IMAGE, "out"]);
    Box::new(|place| same(&place.join("out")))
}

fn replaced(place: &Path) -> Box<dyn Fn(&Path)> {
    fs::create_dir_all(place.join("out/old")).unwrap();
    fs::write(place.join("out/old/file"), "old").unwrap();
    run(&mut command("sync")).unwrap();
    layflat(place, &["flatten", "--replace", IMAGE, "out"]);
    Box::new(|place| same(&place.join("out")))
}

fn layers(place: &Path) -> Box<dyn Fn(&Path)> {
    layflat(place, &["layers", IMAGE, "out"]);
    Box::new(|place| {
        let target = tempfile::tempdir().unwrap();
        layflat(place, &["mount", "out", target.path().to_str().unwrap()]);
        same(target.path());
        unmounted(target.path());
    })
}

fn bundle(place: &Path) -> Box<dyn Fn(&Path)> {
    layflat(place, &["bundle", IMAGE, "out"]);
    Box::new(|place| {
        same(&place.join("out/rootfs"));
        let config = fs::read(place.join("out/config.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&config).unwrap();
    })
}

fn copied(place: &Path, to: &'static str) -> Box<dyn Fn(&Path)> {
    layflat(place, &["copy", "--quiet", IMAGE, to]);
    Box::new(move |place| reads(place, to))
}

fn archive(place: &Path) -> Box<dyn Fn(&Path)> {
    copied(place, "docker-archive:out.tar:demo:1")
}

fn layout(place: &Path) -> Box<dyn Fn(&Path)> {
    copied(place, "oci:out:demo")
}

fn added(place: &Path) -> Box<dyn Fn(&Path)> {
    layflat(place, &["copy", "--quiet", IMAGE, "oci:out:first"]);
    layflat(place, &["copy", "--quiet", "--compression", "zstd", IMAGE, "oci:out:second"]);
    Box::new(|place| {
        reads(place, "oci:out:first");
        reads(place, "oci:out:second");
    })
}

fn directory(place: &Path) -> Box<dyn Fn(&Path)> {
    copied(place, "dir:out")
}

fn flat_archive(place: &Path) -> Box<dyn Fn(&Path)> {
    layflat(place, &["flatten", "--quiet", IMAGE, "--to", "tar", "-o", "out.tar"]);
    Box::new(|place| reads(place, "layers:out.tar"))
}

fn packed(place: &Path) -> Box<dyn Fn(&Path)> {
    let (_place, tree) = expected();
    layflat(place, &["pack", "--as", "changes", tree.to_str().unwrap(), "-o", "out.tar.gz"]);
    Box::new(|place| reads(place, "layers:out.tar.gz"))
}

fn cache(place: &Path) -> Box<dyn Fn(&Path)> {
    let target = tempfile::tempdir().unwrap();
    let path = target.path().to_str().unwrap();
    layflat(place, &["mount", IMAGE, path]);
    unmounted(target.path());
    Box::new(|place| {
        let target = tempfile::tempdir().unwrap();
        let path = target.path().to_str().unwrap();
        layflat(place, &["mount", IMAGE, path]);
        same(target.path());
        unmounted(target.path());
    })
}
