//! Comparing trees: one small pair of trees for each kind of difference.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, and this is another harness")]

use crate::common::harness::{self, Test, Trial};
use layflat::compare::{CompareOptions, compare};
use layflat::tree::{Snapshot, SnapshotOptions, TreeError, TreeKind};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, makedev, mknodat, utimensat};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use tempfile::TempDir;

pub(crate) fn trials() -> Vec<Trial> {
    harness::trials(TESTS)
}

const TESTS: &[Test] = &[
    ("equal_trees_have_no_differences", false, equal_trees_have_no_differences),
    (
        "names_that_one_tree_lacks_are_listed_and_what_lies_below_is_counted",
        false,
        names_that_one_tree_lacks_are_listed_and_what_lies_below_is_counted,
    ),
    ("the_order_is_that_of_paths_by_components", false, the_order_is_that_of_paths_by_components),
    (
        "another_type_is_one_difference_and_the_names_below_are_their_own",
        false,
        another_type_is_one_difference_and_the_names_below_are_their_own,
    ),
    ("mode_mtime_content_size_and_link_target", false, mode_mtime_content_size_and_link_target),
    ("attributes_and_acls_are_named", false, attributes_and_acls_are_named),
    (
        "hard_links_are_compared_by_the_names_that_both_trees_have",
        false,
        hard_links_are_compared_by_the_names_that_both_trees_have,
    ),
    ("what_is_ignored_is_no_difference", false, what_is_ignored_is_no_difference),
    ("devices_owners_and_privileged_attributes", true, devices_owners_and_privileged_attributes),
    ("sockets_and_pipes_are_recorded_and_never_opened", false, sockets_and_pipes_are_recorded_and_never_opened),
    ("a_snapshot_lists_every_path_once_and_finds_it", false, a_snapshot_lists_every_path_once_and_finds_it),
    ("a_path_longer_than_path_max_is_no_excuse", false, a_path_longer_than_path_max_is_no_excuse),
    (
        "contents_are_compared_once_for_many_names_and_by_several_threads",
        false,
        contents_are_compared_once_for_many_names_and_by_several_threads,
    ),
    ("trouble_names_the_path", false, trouble_names_the_path),
    ("a_cancelled_comparison_stops", false, a_cancelled_comparison_stops),
];

/// Makes two equal trees, lets each side be changed, and states the differences.
fn differences(ignore: &str, make: impl Fn(&Path), change_a: impl Fn(&Path), change_b: impl Fn(&Path)) -> Vec<String> {
    let (a, b) = (tree(&make), tree(&make));
    change_a(a.path());
    change_b(b.path());
    let options = CompareOptions { ignore: ignore.parse().unwrap(), ..CompareOptions::default() };
    compare(a.path(), b.path(), &options).unwrap().iter().map(ToString::to_string).collect()
}

fn tree(make: &impl Fn(&Path)) -> TempDir {
    let directory = TempDir::new().unwrap();
    make(directory.path());
    directory
}

fn nothing(_: &Path) {}

fn write(root: &Path, name: &str, text: &str) {
    fs::write(root.join(name), text).unwrap();
}

fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn equal_trees_have_no_differences() {
    let make = |root: &Path| {
        write(root, "file", "text");
        fs::create_dir(root.join("directory")).unwrap();
        symlink("file", root.join("link")).unwrap();
        fs::hard_link(root.join("file"), root.join("directory/same")).unwrap();
        xattr::set(root.join("file"), "user.k", b"v").unwrap();
        for name in ["file", "directory", "link", ""] {
            set_mtime(&root.join(name), 1_000_000_000, 7);
        }
    };
    assert!(differences("", make, nothing, nothing).is_empty());
}

fn names_that_one_tree_lacks_are_listed_and_what_lies_below_is_counted() {
    let found = differences(
        "mtime",
        |root| write(root, "m", ""),
        |root| fs::create_dir_all(root.join("a/b/c")).unwrap(),
        |root| write(root, "z", ""),
    );
    assert_eq!(found, ["a: only in A (directory, 2 names below)", "z: only in B (file)"]);
}

fn the_order_is_that_of_paths_by_components() {
    let make = |root: &Path| {
        for name in ["d", "d-e", "d/x"] {
            fs::create_dir(root.join(name)).unwrap();
        }
    };
    let change = |root: &Path| {
        for name in ["d/x/1", "d-e/2", "d/0", "a"] {
            write(root, name, "");
        }
    };
    let found = differences("mtime", make, nothing, change);
    let paths: Vec<&str> = found.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(paths, ["a", "d/0", "d/x/1", "d-e/2"]);
}

fn another_type_is_one_difference_and_the_names_below_are_their_own() {
    let found = differences(
        "",
        |root| set_mtime(root, 0, 0),
        |root| {
            fs::create_dir(root.join("d")).unwrap();
            write(root, "d/f", "");
            symlink("x", root.join("l")).unwrap();
            set_mtime(root, 0, 0);
        },
        |root| {
            write(root, "d", "");
            write(root, "l", "");
            set_mtime(root, 0, 0);
        },
    );
    assert_eq!(
        found,
        ["d: type: directory in A, file in B", "d/f: only in A (file)", "l: type: symbolic link in A, file in B",]
    );
}

fn mode_mtime_content_size_and_link_target() {
    let found = differences(
        "",
        |root| {
            for name in ["content", "mode", "mtime", "size"] {
                write(root, name, "text");
                set_mtime(&root.join(name), 1, 0);
            }
            symlink("here", root.join("target")).unwrap();
            set_mtime(&root.join("target"), 1, 0);
            fs::set_permissions(root.join("mode"), fs::Permissions::from_mode(0o644)).unwrap();
            fs::set_permissions(root, fs::Permissions::from_mode(0o700)).unwrap();
            set_mtime(root, 1, 0);
        },
        nothing,
        |root| {
            write(root, "content", "teXt");
            set_mtime(&root.join("content"), 1, 0);
            fs::set_permissions(root.join("mode"), fs::Permissions::from_mode(0o4711)).unwrap();
            set_mtime(&root.join("mtime"), -1, 5);
            write(root, "size", "texts");
            set_mtime(&root.join("size"), 1, 0);
            fs::remove_file(root.join("target")).unwrap();
            symlink("there\n", root.join("target")).unwrap();
            set_mtime(&root.join("target"), 1, 0);
            fs::set_permissions(root, fs::Permissions::from_mode(0o701)).unwrap();
            set_mtime(root, 2, 0);
        },
    );
    assert_eq!(
        found,
        [
            "/: mode: 0700 in A, 0701 in B",
            "/: mtime: 1.000000000 in A, 2.000000000 in B",
            "content: content: differs from byte 2 on",
            "mode: mode: 0644 in A, 4711 in B",
            "mtime: mtime: 1.000000000 in A, -1.000000005 in B",
            "size: size: 4 in A, 5 in B",
            "target: link target: here in A, there\\n in B",
        ]
    );
}

fn attributes_and_acls_are_named() {
    let acl = |entries: &[(u16, u16, u32)]| {
        let mut value = 2u32.to_le_bytes().to_vec();
        for (tag, bits, id) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(bits.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    };
    let entries = [(1, 6, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 4, u32::MAX)];
    let found = differences(
        "mtime,xattr:user.ignored",
        |root| {
            write(root, "f", "");
            xattr::set(root.join("f"), "user.same", b"v").unwrap();
            xattr::set(root.join("f"), "user.other", b"v").unwrap();
            xattr::set(root.join("f"), "user.ignored", b"v").unwrap();
        },
        |root| {
            xattr::set(root.join("f"), "system.posix_acl_access", &acl(&entries)).unwrap();
            xattr::set(root.join("f"), "user.gone", b"\x01").unwrap();
        },
        |root| {
            xattr::set(root.join("f"), "user.other", b"w").unwrap();
            xattr::set(root.join("f"), "user.ignored", b"w").unwrap();
        },
    );
    assert_eq!(
        found,
        [
            "f: ACL: \"user::rw-,user:1000:r--,group::r--,mask::r--,other::r--\" in A, none in B",
            "f: attribute user.gone: \"\\u{1}\" in A, none in B",
            "f: attribute user.other: \"v\" in A, \"w\" in B",
        ]
    );
}

fn hard_links_are_compared_by_the_names_that_both_trees_have() {
    let link = |root: &Path, from: &str, to: &str| fs::hard_link(root.join(from), root.join(to)).unwrap();
    let found = differences(
        "mtime",
        nothing,
        |root| {
            write(root, "a", "");
            link(root, "a", "b");
            write(root, "c", "");
            link(root, "a", "only");
            write(root, "x", "");
            link(root, "x", "gone");
        },
        |root| {
            write(root, "a", "");
            write(root, "b", "");
            link(root, "b", "c");
            write(root, "x", "");
        },
    );
    assert_eq!(
        found,
        ["a: hard links: {a, b} {c} in A, {a} {b, c} in B", "gone: only in A (file)", "only: only in A (file)"]
    );
}

fn what_is_ignored_is_no_difference() {
    let found = differences(
        "mtime,mode,content,links,xattr",
        |root| write(root, "f", "one"),
        |root| fs::hard_link(root.join("f"), root.join("g")).unwrap(),
        |root| {
            write(root, "f", "other");
            write(root, "g", "third");
            xattr::set(root.join("f"), "user.k", b"v").unwrap();
            fs::set_permissions(root.join("f"), fs::Permissions::from_mode(0o600)).unwrap();
        },
    );
    assert!(found.is_empty(), "{found:?}");
}

fn devices_owners_and_privileged_attributes() {
    let device = |root: &Path, name: &str, kind, major, minor| {
        mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o600), makedev(major, minor)).unwrap();
    };
    let found = differences(
        "mtime",
        |root| {
            device(root, "pipe", FileType::Fifo, 0, 0);
            write(root, "owned", "");
            symlink("x", root.join("link")).unwrap();
        },
        |root| {
            device(root, "block", FileType::BlockDevice, 7, 1);
            device(root, "char", FileType::CharacterDevice, 1, 3);
            xattr::set(root.join("link"), "trusted.k", b"v").unwrap();
        },
        |root| {
            device(root, "block", FileType::CharacterDevice, 7, 1);
            device(root, "char", FileType::CharacterDevice, 1, 5);
            std::os::unix::fs::lchown(root.join("owned"), Some(7), Some(4_294_967_294)).unwrap();
            std::os::unix::fs::lchown(root.join("link"), Some(1), None).unwrap();
        },
    );
    assert_eq!(
        found,
        [
            "block: type: block device in A, character device in B",
            "char: device number: 1:3 in A, 1:5 in B",
            "link: owner: 0:0 in A, 1:0 in B",
            "link: attribute trusted.k: \"v\" in A, none in B",
            "owned: owner: 0:0 in A, 7:4294967294 in B",
        ]
    );
}

fn sockets_and_pipes_are_recorded_and_never_opened() {
    let make = |root: &Path| {
        mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        mknodat(CWD, root.join("socket"), FileType::Socket, Mode::from_raw_mode(0o600), 0).unwrap();
    };
    assert!(differences("mtime", make, nothing, nothing).is_empty());
    let snapshot = Snapshot::take(tree(&make).path(), &SnapshotOptions::default()).unwrap();
    assert_eq!(snapshot.get(b"socket").unwrap().kind, TreeKind::Socket);
    assert_eq!(snapshot.get(b"pipe").unwrap().kind, TreeKind::Fifo);
}

fn a_snapshot_lists_every_path_once_and_finds_it() {
    let root = tree(&|root: &Path| {
        fs::create_dir_all(root.join("d/e")).unwrap();
        write(root, "d/f", "12345");
        write(root, "a", "");
    });
    let snapshot = Snapshot::take(root.path(), &SnapshotOptions::default()).unwrap();
    let paths: Vec<Vec<u8>> = snapshot.entries().map(|(path, _)| path).collect();
    assert_eq!(paths, [&b""[..], b"a", b"d", b"d/e", b"d/f"]);
    assert_eq!(snapshot.len(), 5);
    assert_eq!(snapshot.get(b"d/f").unwrap().kind, TreeKind::File { size: 5 });
    assert_eq!(snapshot.get(b"").unwrap().kind, TreeKind::Directory);
    assert!(snapshot.get(b"d/f/g").is_none());
}

/// Makes a chain of directories, longer than any path that the kernel takes, with a file and a link at its end and a
/// file half way.
fn deep_tree(root: &Path, name: &str, levels: usize, text: &str) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let mut directory = rustix::fs::open(root, flags, Mode::empty()).unwrap();
    let put = |directory: &std::os::fd::OwnedFd, name: &str| {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        let file = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o644)).unwrap();
        rustix::io::write(&file, text.as_bytes()).unwrap();
    };
    for level in 0..levels {
        if level == levels / 2 {
            put(&directory, "half");
        }
        rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o755)).unwrap();
        directory = rustix::fs::openat(&directory, name, flags, Mode::empty()).unwrap();
    }
    put(&directory, "end");
    rustix::fs::symlinkat("target", &directory, "link").unwrap();
}

/// Removes such a tree: what `TempDir` does may not be able to.
fn remove_deep_tree(root: &Path) {
    let status = std::process::Command::new("rm").arg("-rf").arg(root).status().unwrap();
    assert!(status.success());
}

fn a_path_longer_than_path_max_is_no_excuse() {
    for (name, levels) in [("d".to_owned(), 3000), ("n".repeat(255), 100)] {
        let (a, b) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        deep_tree(a.path(), &name, levels, "text");
        deep_tree(b.path(), &name, levels, "teXt");
        let options = CompareOptions { ignore: "mtime".parse().unwrap(), ..CompareOptions::default() };
        let snapshot = Snapshot::take(a.path(), &options.snapshot).unwrap();
        let found = compare(a.path(), b.path(), &options).unwrap();
        remove_deep_tree(a.path());
        remove_deep_tree(b.path());

        assert_eq!(snapshot.len(), 1 + levels + 3);
        let mut link = format!("{name}/").repeat(levels);
        link.push_str("link");
        let target = TreeKind::Symlink { target: b"target"[..].into() };
        assert_eq!(snapshot.get(link.as_bytes()).unwrap().kind, target);
        let lengths: Vec<usize> = found.iter().map(|difference| difference.path.as_bytes().len()).collect();
        let mut expected = [levels / 2 * (name.len() + 1) + "half".len(), link.len() - 1];
        if name.as_str() < "half" {
            expected.reverse();
        }
        assert_eq!(lengths, expected);
        assert!(found.iter().all(|difference| difference.to_string().ends_with("content: differs from byte 2 on")));
    }
}

fn contents_are_compared_once_for_many_names_and_by_several_threads() {
    let make = |root: &Path| {
        for number in 0..200 {
            write(root, &format!("f{number:03}"), &"x".repeat(5000 + number % 3));
        }
        fs::hard_link(root.join("f000"), root.join("same")).unwrap();
    };
    let change = |root: &Path| write(root, "f000", &format!("{}y", "x".repeat(4999)));
    let lines = differences("mtime", make, nothing, change);
    assert_eq!(lines, ["f000: content: differs from byte 4999 on", "same: content: differs from byte 4999 on"]);
}

fn trouble_names_the_path() {
    let root = TempDir::new().unwrap();
    let missing = root.path().join("missing\n");
    let error = compare(&missing, root.path(), &CompareOptions::default()).unwrap_err();
    assert!(error.to_string().ends_with("missing\\n"), "{error}");
    write(root.path(), "file", "");
    let error = Snapshot::take(&root.path().join("file"), &SnapshotOptions::default()).unwrap_err();
    assert!(matches!(error, TreeError::Io { .. }));
}

fn a_cancelled_comparison_stops() {
    let root = TempDir::new().unwrap();
    let options = CompareOptions::default();
    options.snapshot.cancel.cancel();
    let error = compare(root.path(), root.path(), &options).unwrap_err();
    assert!(matches!(error, TreeError::Cancelled));
}
