//! Destinations that cannot hold everything: what they cannot hold is reported, or refused with a message that says why
//! and what to do; trouble with the destination never passes for something that it cannot hold (rules A4, L2, O1, O2).
//!
//! The file systems are mounted in a mount namespace of each test's own, which needs root.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, and this is another harness")]

use std::fs;
use std::process::{Command, Output};

use crate::common::harness::{self, Test, Trial};
use crate::common::images::Tar;
use crate::common::tools;
use tar::EntryType;
use tempfile::TempDir;

pub(crate) fn trials() -> Vec<Trial> {
    harness::trials(TESTS)
}

const TESTS: &[Test] = &[
    (
        "o1_a_destination_that_cannot_hold_whiteouts_is_refused_with_a_way_out",
        true,
        o1_a_destination_that_cannot_hold_whiteouts_is_refused_with_a_way_out,
    ),
    (
        "a4_more_links_than_the_file_system_takes_become_copies",
        true,
        a4_more_links_than_the_file_system_takes_become_copies,
    ),
    ("l1_as_many_links_as_the_file_system_takes_are_links", true, l1_as_many_links_as_the_file_system_takes_are_links),
    ("a4_only_what_cannot_be_held_is_a_loss", true, a4_only_what_cannot_be_held_is_a_loss),
    ("a4_a_full_disk_is_no_loss", true, a4_a_full_disk_is_no_loss),
    (
        "s2_a_file_system_without_rename_flags_is_good_enough",
        false,
        s2_a_file_system_without_rename_flags_is_good_enough,
    ),
    (
        "s7_a_bundle_is_tried_without_a_mount_that_could_stay",
        true,
        s7_a_bundle_is_tried_without_a_mount_that_could_stay,
    ),
];

/// A directory with layers, and room for a mount.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("m")).unwrap();
        Self(place)
    }

    fn layer(&self, name: &str, layer: &[u8]) {
        fs::write(self.0.path().join(name), layer).unwrap();
    }

    /// Mounts something on `m` and runs a script, both by a shell; `layflat` is the program.
    fn run(&self, mount: &str, script: &str) -> Output {
        let in_namespace = |script: &str| {
            let mut command = Command::new("unshare");
            let script = format!("alias layflat='{}'\n{script}", env!("CARGO_BIN_EXE_layflat"));
            command.args(["--mount", "sh", "-c", &script]).current_dir(&self.0).env("XDG_CACHE_HOME", self.0.path());
            command.output().unwrap()
        };
        in_namespace(&format!("{{ {mount}\n}} >&2 || exit 99\n{script}"))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a failure says; nothing is left of it.
#[track_caller]
fn failed(output: &Output) -> String {
    let message = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()), "{message}");
    message
}

#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stderr)
}

const RAMFS: &str = "mount -t ramfs ramfs m";
const OVERLAY: &str = "mkdir -p o && mount -t tmpfs tmpfs o && mkdir o/l o/u o/w && mount -t overlay overlay -o lowerdir=o/l,upperdir=o/u,workdir=o/w m";

/// Tries a command that fails, and lists what it leaves.
fn leaves(command: &str) -> String {
    format!("{command}; code=$?; ls -A m; exit $code")
}

fn ext4(options: &str) -> String {
    tools::need(&["mkfs.ext4"]);
    // A file of its own each time: who looks at the loop device of the one before keeps what that showed.
    let make = format!("truncate -s 64M disk && mkfs.ext4 -q -F {options} disk");
    format!("rm -f disk && {make} && mount -o loop disk m && rmdir m/lost+found")
}

fn o1_a_destination_that_cannot_hold_whiteouts_is_refused_with_a_way_out() {
    let place = Place::new();
    place.layer("a", &Tar::new().directory("d").file("d/a", "a").directory("e").file("e/x", "x").done());
    place.layer("whiteout", &Tar::new().file("d/.wh.a", "").done());
    place.layer("opaque", &Tar::new().directory("e").file("e/.wh..wh..opq", "").file("e/y", "y").done());
    let advice = "Use another directory, on ext4, xfs, btrfs or tmpfs; or unpack into one root file system";
    for command in [
        "layers layers:a,whiteout m/out",
        "mount --backend overlay --cache-dir m layers:a,whiteout n",
        "bundle --overlay --backend overlay --cache-dir m layers:a,whiteout n",
    ] {
        let command =
            format!("mkdir -p n; layflat {command} 2>&1 >/dev/null | cat >&2; find m -type f -o -type c; exit 1");
        for (mount, what) in [
            (RAMFS, "ramfs does not hold trusted.overlay.* attributes,"),
            (OVERLAY, "overlayfs does not hold whiteouts (character devices 0:0),"),
        ] {
            let output = place.run(mount, &command);
            let message = failed(&output);
            let what = if mount == RAMFS && command.contains("layers:a,whiteout m") {
                what.to_owned()
            } else {
                what.replace("trusted", "user")
            };
            assert!(message.contains(advice) && message.contains("layflat flatten"), "{command}: {message}");
            assert!(message.contains(what.split_once(" does not").unwrap().0), "{command}: {message}");
        }
    }
    // On a ramfs it is the attributes that are missing.
    let message = failed(&place.run(RAMFS, &leaves("layflat layers layers:a,opaque m/out")));
    assert!(
        message.contains("ramfs does not hold ") && message.contains("needs none: Operation not supported"),
        "{message}"
    );
    // What deletes nothing needs neither, and neither does a flat tree.
    for mount in [RAMFS, OVERLAY] {
        done(&place.run(mount, "layflat layers layers:a m/out && test -f m/out/layers/0000-*/d/a"));
        done(
            &place.run(mount, "layflat flatten layers:a,whiteout,opaque m/out && test -f m/out/e/y -a ! -e m/out/e/x"),
        );
    }
}

/// Layers with more names of one file, and of one symlink, than ext4 gives one.
fn many_names(place: &Place, names: usize) {
    let mut tar = Tar::new().mode("f0", 0o4711, (7, 8), "content").symlink("s0", "to");
    for name in 1..names {
        tar = tar.link(EntryType::Link, &format!("d{}/f{name}", name % 50), "f0");
    }
    place.layer("many", &tar.done());
}

fn a4_more_links_than_the_file_system_takes_become_copies() {
    let place = Place::new();
    many_names(&place, 65_003);
    let mount = ext4("-N 5000");
    let show = "stat -c '%h %a %u:%g %s' m/out/f0; find m/out -type f -links -65000 | wc -l; find m/out -type f -links -65000 -printf '%n %m %U:%G %s\\n' | sort | uniq -c; cat $(find m/out -type f -links -65000 | head -1)";
    let output = place.run(&mount, &format!("layflat flatten layers:many m/out && {show}"));
    let said = done(&output);
    let expected = "65000 4711 7:8 7\n3\n      3 3 4711 7:8 7\ncontent";
    assert_eq!(text(&output.stdout), expected);
    let loss = "hard link not kept, the name is a copy of the file (the file system takes no more than 65000 names of one file): 3 files";
    assert!(said.contains(loss), "{said}");

    let message = failed(&place.run(&mount, &leaves("layflat flatten --strict layers:many m/out")));
    assert!(message.contains("refused by --strict") && message.contains("65000 names of one file"), "{message}");

    // In both forms, and where an upper layer brings all names up again.
    place.layer("upper", &Tar::new().link(EntryType::Link, "again", "f0").done());
    let script = "layflat layers layers:many,upper m/out && for l in m/out/layers/0*; do find $l -type f -printf '%n\\n' | sort -n | uniq -c; done";
    let output = place.run(&mount, script);
    let said = done(&output);
    assert_eq!(text(&output.stdout), "      3 3\n  65000 65000\n      4 4\n  65000 65000\n", "{said}");
    assert!(said.contains("7 files"), "{said}");
}

fn l1_as_many_links_as_the_file_system_takes_are_links() {
    let place = Place::new();
    many_names(&place, 65_000);
    let script = "layflat flatten --strict layers:many m/out && stat -c %h m/out/f0 && find m/out -type f | wc -l";
    let output = place.run(&ext4("-N 5000"), script);
    done(&output);
    assert_eq!(text(&output.stdout), "65000\n65000\n");
}

fn with_xattr(name: &str, value: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let record = format!("SCHILY.xattr.{name}");
    tar.append_pax_extensions([(record.as_str(), value)]).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    header.set_uid(7);
    header.set_gid(8);
    tar.append_data(&mut header, "f", &[][..]).unwrap();
    tar.into_inner().unwrap()
}

fn a4_only_what_cannot_be_held_is_a_loss() {
    tools::need(&["strace"]);
    let place = Place::new();
    place.layer("small", &with_xattr("user.x", b"value"));
    place.layer("large", &with_xattr("user.x", &[b'v'; 5000]));
    place.layer("huge", &with_xattr("user.x", &[b'v'; 70_000]));
    // A value for which ext4 has no room, on a disk with plenty; and one for which nothing has.
    for layer in ["large", "huge"] {
        let output = place.run(&ext4(""), &format!("layflat flatten layers:{layer} m/out && ls m/out"));
        let said = done(&output);
        assert!(said.contains("extended attribute not kept (user.x: "), "{said}");
        let message = failed(&place.run(&ext4(""), &leaves(&format!("layflat flatten --strict layers:{layer} m/out"))));
        assert!(message.contains("refused by --strict"), "{message}");
    }
    for (call, error, is_loss) in [
        ("fsetxattr", "EOPNOTSUPP", true),
        ("fsetxattr", "EPERM", true),
        ("fsetxattr", "E2BIG", true),
        ("fsetxattr", "EIO", false),
        ("fsetxattr", "EDQUOT", false),
        ("fsetxattr", "EROFS", false),
        ("fsetxattr", "ENOMEM", false),
        ("fchown", "EPERM", true),
        ("fchown", "EIO", false),
        ("fchown", "EDQUOT", false),
        ("fchown", "EROFS", false),
    ] {
        // The first owner that is set is that of the directory to work in.
        let when = if call == "fchown" { ":when=2" } else { "" };
        let traced = format!("strace -f -qq -o /dev/null -e trace={call} -e inject={call}:error={error}{when}");
        let script = leaves(&format!("{traced} {} flatten layers:small m/out", env!("CARGO_BIN_EXE_layflat")));
        let output = place.run("mount -t tmpfs tmpfs m", &script);
        if is_loss {
            assert!(done(&output).contains(" not kept"), "{call} {error}: {}", text(&output.stderr));
        } else {
            let message = failed(&output);
            assert!(message.contains("f: cannot set its attributes: "), "{message}");
        }
    }
}

fn a4_a_full_disk_is_no_loss() {
    let place = Place::new();
    // Attributes that need a block each, and no other data.
    let mut layer = Vec::new();
    for index in 0..400 {
        let mut one = with_xattr("user.x", format!("{index:02000}").as_bytes());
        let renamed = format!("f{index}");
        let header = one.windows(2).rposition(|window| window == b"f\0").unwrap();
        one[header..header + renamed.len()].copy_from_slice(renamed.as_bytes());
        let mut fixed = tar::Header::from_byte_slice(&one[header..header + 512]).clone();
        fixed.set_cksum();
        one[header..header + 512].copy_from_slice(fixed.as_bytes());
        one.truncate(header + 512);
        layer.extend(one);
    }
    place.layer("many", &layer);
    let full = format!("{} && head -c 62M /dev/zero > m/zeros; true", ext4("-O ^has_journal -N 1000 -m 0"));
    let script = "layflat flatten layers:many m/out; code=$?; ls -A m | grep -v zeros; exit $code";
    let output = place.run(&full, script);
    let message = failed(&output);
    assert!(message.contains("No space left on device"), "{message}");
}

/// Some network file systems know neither RENAME_NOREPLACE nor RENAME_EXCHANGE, and some sandboxes not the call.
fn s2_a_file_system_without_rename_flags_is_good_enough() {
    tools::need(&["strace"]);
    for error in ["EINVAL", "ENOSYS"] {
        let place = Place::new();
        let path = |name: &str| place.0.path().join(name);
        place.layer("old", &Tar::new().directory("d").file("d/f", "old").file("f", "old").done());
        place.layer("new", &Tar::new().directory("d").file("d/f", "new").file("f", "new").done());
        let run = |arguments: &str| {
            let mut command = Command::new("strace");
            let inject = format!("inject=renameat2:error={error}");
            command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat2", "-e", &inject]);
            command.arg(env!("CARGO_BIN_EXE_layflat")).args(arguments.split(' '));
            command.current_dir(&place.0).env("XDG_CACHE_HOME", path("cache")).output().unwrap()
        };
        let read = |name: &str| fs::read_to_string(path(name)).unwrap();
        let makes = [
            "flatten layers:old tree",
            "cp layers:old:/f file",
            "cp layers:old:/d .",
            "flatten layers:old -o file.tar",
            "copy layers:old oci:layout",
        ];
        for arguments in makes {
            done(&run(arguments));
        }
        assert_eq!([read("tree/f"), read("file"), read("d/f")], ["old"; 3], "{error}");
        // Nothing is replaced without being asked to.
        for arguments in &makes[..4] {
            let message = failed(&run(&arguments.replace("old", "new")));
            assert!(message.contains("--replace") || message.contains("not empty"), "{arguments}: {message}");
        }
        assert_eq!([read("tree/f"), read("file"), read("d/f")], ["old"; 3], "{error}");
        for arguments in
            ["flatten --replace layers:new tree", "cp --replace layers:new:/f file", "cp --replace layers:new:/d ."]
        {
            done(&run(arguments));
        }
        assert_eq!([read("tree/f"), read("file"), read("d/f")], ["new"; 3], "{error}");
        let mut left: Vec<_> = fs::read_dir(&place.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["cache", "d", "file", "file.tar", "layout", "m", "new", "old", "tree"], "{error}");
    }
}

/// A mount is tried before a bundle appears, attached nowhere: no umount2(2) is needed, which could fail.
fn s7_a_bundle_is_tried_without_a_mount_that_could_stay() {
    tools::need(&["strace"]);
    let place = Place::new();
    place.layer("small", &with_xattr("user.x", b"value"));
    let program = env!("CARGO_BIN_EXE_layflat");
    let bundle = "bundle --overlay --arg /bin/sh layers:small m/out";
    let script = format!(
        "strace -f -qq -o /dev/null -e inject=umount2:error=ENOMEM {program} -q {bundle} || exit 2
        grep -c /m/out /proc/self/mounts; umount m/out/rootfs || exit 3; ls -A m"
    );
    let output = place.run("mount -t tmpfs tmpfs m", &script);
    done(&output);
    assert_eq!(text(&output.stdout), "1\nout\n");
}
