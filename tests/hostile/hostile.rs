//! Images that mean harm, unpacked by the program in both forms: each ends in one clear message or in a result that
//! stays inside DEST. Never a panic, never a change outside, never half a DEST (rules N1, L1, S1 to S5).

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, not their helpers")]

#[path = "bounds.rs"]
mod bounds;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::harness::{self, Test, Trial};
use crate::common::images::{self, archive, descriptor, gzip, hex};
use crate::common::tools;
use crate::common::wait::{until, while_it_runs};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

pub(crate) fn trials() -> Vec<Trial> {
    harness::trials(TESTS.iter().chain(bounds::TESTS))
}

const TESTS: &[Test] = &[
    ("names_that_climb_are_refused", false, names_that_climb_are_refused),
    ("absolute_names_begin_at_the_root_of_the_tree", false, absolute_names_begin_at_the_root_of_the_tree),
    ("symlinks_lead_no_further_than_the_root_of_the_tree", false, symlinks_lead_no_further_than_the_root_of_the_tree),
    (
        "a_symlink_in_the_place_of_a_directory_leads_nowhere_else",
        false,
        a_symlink_in_the_place_of_a_directory_leads_nowhere_else,
    ),
    ("hard_links_stay_inside", false, hard_links_stay_inside),
    ("marks_that_climb_are_refused", false, marks_that_climb_are_refused),
    ("nothing_waits_at_a_fifo_or_a_device", false, nothing_waits_at_a_fifo_or_a_device),
    ("a_directory_entry_changes_nothing_behind_a_symlink", false, a_directory_entry_changes_nothing_behind_a_symlink),
    ("the_size_of_the_pax_record_counts", false, the_size_of_the_pax_record_counts),
    ("pax_records_are_taken_by_their_length", false, pax_records_are_taken_by_their_length),
    ("what_is_too_large_for_a_header_meets_a_limit", false, what_is_too_large_for_a_header_meets_a_limit),
    ("archives_may_end_only_where_they_end", false, archives_may_end_only_where_they_end),
    ("compressed_layers_are_read_to_their_last_byte", false, compressed_layers_are_read_to_their_last_byte),
    ("damaged_headers_never_panic", false, damaged_headers_never_panic),
    ("what_is_stated_of_a_layer_is_checked", false, what_is_stated_of_a_layer_is_checked),
    ("ten_gigabytes_of_zeros_meet_a_limit", false, ten_gigabytes_of_zeros_meet_a_limit),
    ("long_names_and_deep_trees_are_refused_or_held", false, long_names_and_deep_trees_are_refused_or_held),
    ("a_failure_keeps_what_was_to_be_replaced", false, a_failure_keeps_what_was_to_be_replaced),
    (
        "a_destination_that_is_a_symlink_is_not_followed_into_what_is_there",
        false,
        a_destination_that_is_a_symlink_is_not_followed_into_what_is_there,
    ),
    ("a_signal_leaves_nothing", false, a_signal_leaves_nothing),
    ("a_full_disk_leaves_nothing", false, a_full_disk_leaves_nothing),
    ("a_place_where_nothing_can_be_made_is_named", false, a_place_where_nothing_can_be_made_is_named),
];

const FORMS: [&str; 2] = ["flatten", "layers"];

/// One entry, its header written byte by byte: no library refuses what it says.
fn entry(kind: u8, name: &[u8], link: &[u8], data: &[u8]) -> Vec<u8> {
    sized(kind, name, link, data, data.len() as u64)
}

/// An entry whose header states a size of its own.
fn sized(kind: u8, name: &[u8], link: &[u8], data: &[u8], size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(size);
    let fields = header.as_old_mut();
    fields.name[..name.len()].copy_from_slice(name);
    fields.linkname[..link.len()].copy_from_slice(link);
    header.set_cksum();
    let mut bytes = [&header.as_bytes()[..], data].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, data: &str) -> Vec<u8> {
    entry(b'0', name.as_bytes(), b"", data.as_bytes())
}

fn directory(name: &str) -> Vec<u8> {
    entry(b'5', name.as_bytes(), b"", b"")
}

fn to(kind: u8, name: &str, target: &str) -> Vec<u8> {
    entry(kind, name.as_bytes(), target.as_bytes(), b"")
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest + 1..).find(|length| length.to_string().len() + rest == *length).unwrap();
        data.extend(format!("{length} {key}=").as_bytes());
        data.extend(*value);
        data.push(b'\n');
    }
    entry(b'x', b"pax", b"", &data)
}

fn layer(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

/// A place with something to lose, and a DEST beside it.
struct Cage(TempDir);

impl Cage {
    fn new() -> Self {
        let cage = Self(tempfile::tempdir().unwrap());
        fs::create_dir(cage.path("victim")).unwrap();
        fs::write(cage.path("victim/secret"), "precious").unwrap();
        fs::create_dir(cage.path("in")).unwrap();
        cage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `layers:` of archives that were written into the cage.
    fn image(&self, archives: &[Vec<u8>]) -> String {
        let paths: Vec<String> = (archives.iter().enumerate())
            .map(|(number, bytes)| {
                let path = self.path(&format!("in/{number}.tar"));
                fs::write(&path, bytes).unwrap();
                path.display().to_string()
            })
            .collect();
        format!("layers:{}", paths.join(","))
    }

    fn program(&self, form: &str, image: &str, more: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("layflat"));
        command.current_dir(self.0.path()).args([form, "--quiet", image, "dest"]).args(more).stdin(Stdio::null());
        command
    }

    /// Runs one form. `Err` is the message. In any case: no panic, nothing outside DEST, and no DEST if it failed.
    fn run(&self, form: &str, image: &str, more: &[&str]) -> Result<(), String> {
        let output = self.program(form, image, more).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(!message.contains("panicked"), "{message}");
        self.nothing_else(output.status.success());
        assert_eq!(fs::read_to_string(self.path("victim/secret")).unwrap(), "precious");
        assert_eq!(names(&self.path("victim")), ["secret"]);
        if output.status.success() {
            return Ok(());
        }
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        Err(message)
    }

    fn nothing_else(&self, with_dest: bool) {
        let expected: &[&str] = if with_dest { &["dest", "in", "victim"] } else { &["in", "victim"] };
        assert_eq!(names(self.0.path()), expected);
    }

    fn clear(&self) {
        layflat::remove_tree(&self.path("dest"));
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Both forms refuse these layers and say why.
#[track_caller]
fn refused(archives: &[Vec<u8>], why: &str) {
    let cage = Cage::new();
    for form in FORMS {
        let message = cage.run(form, &cage.image(archives), &[]).unwrap_err();
        assert!(message.contains(why), "{form}: {message}");
        assert!(why.len() < 20 || message.matches(why).count() == 1, "said twice: {message}");
    }
}

/// Both forms take these layers; the flat one is looked at.
#[track_caller]
fn contained(archives: &[Vec<u8>], look: impl Fn(&Path)) {
    let cage = Cage::new();
    for form in FORMS {
        cage.run(form, &cage.image(archives), &[]).unwrap_or_else(|message| panic!("{form}: {message}"));
        if form == "flatten" {
            look(&cage.path("dest"));
        }
        cage.clear();
    }
}

fn names_that_climb_are_refused() {
    for name in ["../victim/secret", "a/../../victim/secret", "..", "/../victim/secret"] {
        refused(&[layer(&[file(name, "taken")])], "climbs above the root");
    }
    refused(&[layer(&[file("a/..", "taken")])], "the root of a file system must be a directory");
}

fn absolute_names_begin_at_the_root_of_the_tree() {
    contained(&[layer(&[file("/etc/passwd", "contained")])], |dest| {
        assert_eq!(fs::read_to_string(dest.join("etc/passwd")).unwrap(), "contained");
    });
}

/// Rule N4: a parent that is a symlink is followed as under chroot, so that nothing above DEST can be meant.
fn symlinks_lead_no_further_than_the_root_of_the_tree() {
    for (target, place) in [("../victim", "victim"), ("/tmp", "tmp"), ("dest/../../victim", "victim")] {
        let look = |dest: &Path| {
            assert_eq!(fs::read_to_string(dest.join(place).join("secret")).unwrap(), "contained");
            assert_eq!(fs::read_link(dest.join("door")).unwrap(), Path::new(target));
        };
        let (door, below) = (to(b'2', "door", target), file("door/secret", "contained"));
        let dest = directory("dest");
        contained(&[layer(&[dest.clone(), door.clone(), below.clone()])], look);
        contained(&[layer(&[dest, door]), layer(&[below])], look);
    }
    let cyclic = [to(b'2', "a", "b"), to(b'2', "b", "a"), file("a/secret", "taken")];
    refused(&[layer(&cyclic)], "symbolic links");
    contained(&[layer(&[to(b'2', "secret", "../victim/secret"), file("secret", "taken")])], |dest| {
        assert!(dest.join("secret").symlink_metadata().unwrap().is_file());
    });
}

fn a_symlink_in_the_place_of_a_directory_leads_nowhere_else() {
    let swapped = [directory("a"), file("a/one", "1"), to(b'2', "a", "../victim"), file("a/secret", "contained")];
    let look = |dest: &Path| {
        assert!(dest.join("a").is_symlink());
        assert_eq!(names(&dest.join("victim")), ["secret"]);
    };
    contained(&[layer(&swapped)], look);
    let below = layer(&[directory("a"), file("a/one", "1")]);
    contained(&[below, layer(&[to(b'2', "a", "../victim")]), layer(&[file("a/secret", "contained")])], look);
}

fn hard_links_stay_inside() {
    // A target that climbs is meant as under chroot (rule N1): what is there is linked, and nothing outside.
    for target in ["../victim/secret", "a/../../victim/secret", "/../../victim/secret", "../../../victim/./secret"] {
        refused(&[layer(&[to(b'1', "link", target)])], "hard link to victim/secret");
        let own = file("victim/secret", "contained");
        let look = |dest: &Path| {
            assert_eq!(fs::read_to_string(dest.join("link")).unwrap(), "contained");
            let inode = |name: &str| dest.join(name).symlink_metadata().unwrap().ino();
            assert_eq!(inode("link"), inode("victim/secret"));
        };
        contained(&[layer(&[own.clone(), to(b'1', "link", target)])], look);
        contained(&[layer(&[own]), layer(&[to(b'1', "link", target)])], look);
    }
    refused(&[layer(&[to(b'1', "link", "../..")])], "hard link to /, which is a directory");
    refused(&[layer(&[to(b'1', "link", "../.wh.secret")])], ".wh.secret");
    refused(&[layer(&[to(b'1', "link", "/etc/hostname")])], "etc/hostname");
    let through = [to(b'2', "door", "../victim"), to(b'1', "link", "door/secret")];
    refused(&[layer(&through)], "door/secret");
    refused(&[layer(&[file(".wh.gone", ""), to(b'1', "link", ".wh.gone")])], ".wh.gone");
}

fn marks_that_climb_are_refused() {
    for name in [".wh...", ".wh..", "a/.wh..", "a/.wh...", ".wh."] {
        refused(&[layer(&[directory("a"), file(name, "")])], name);
    }
    refused(&[layer(&[file("../.wh.victim", "")])], "../.wh.victim");
    contained(&[layer(&[to(b'2', "door", "../victim")]), layer(&[file("door/.wh.secret", "")])], |_| {});
    contained(&[layer(&[to(b'2', "door", "../victim")]), layer(&[file("door/.wh..wh..opq", "")])], |_| {});
}

fn nothing_waits_at_a_fifo_or_a_device() {
    let fifo = layer(&[to(b'6', "pipe", ""), file("pipe", "content")]);
    contained(&[fifo], |dest| assert_eq!(fs::read_to_string(dest.join("pipe")).unwrap(), "content"));
    let across = [layer(&[to(b'6', "pipe", "")]), layer(&[to(b'1', "link", "pipe"), file("pipe", "content")])];
    contained(&across, |dest| {
        assert!(dest.join("link").symlink_metadata().unwrap().file_type().is_fifo());
        assert!(dest.join("pipe").is_file());
    });
    contained(&[layer(&[to(b'6', "a", "")]), layer(&[file("a/below", "content")])], |dest| {
        assert_eq!(names(&dest.join("a")), ["below"]);
    });
}

/// RUSTSEC-2026-0067: a symlink that a later directory entry of its name would change the mode of what it leads to.
fn a_directory_entry_changes_nothing_behind_a_symlink() {
    let cage = Cage::new();
    let before = fs::metadata(cage.path("victim")).unwrap();
    for form in FORMS {
        let image = cage.image(&[layer(&[to(b'2', "door", "../victim"), directory("door")])]);
        cage.run(form, &image, &[]).unwrap();
        cage.clear();
    }
    let after = fs::metadata(cage.path("victim")).unwrap();
    assert_eq!((before.mode(), before.mtime(), before.ctime()), (after.mode(), after.mtime(), after.ctime()));
}

/// RUSTSEC-2026-0068 and GHSA-3pv8-6f4r-ffg2: the size that counts is the PAX record's, in whichever order headers
/// come; a reader that believes the other one finds entries that nobody checked.
fn the_size_of_the_pax_record_counts() {
    let inner = layer(&[file("smuggled", "taken")]);
    let size = inner.len().to_string();
    let hidden = [pax(&[("size", size.as_bytes())]), sized(b'0', b"outer", b"", &inner, 0), file("after", "x")];
    contained(&[layer(&hidden)], |dest| {
        assert_eq!(names(dest), ["after", "outer"]);
        assert_eq!(fs::read(dest.join("outer")).unwrap(), inner);
    });
    let long_name = entry(b'L', b"././@LongLink", b"", b"outer\0");
    let between = [pax(&[("size", size.as_bytes())]), long_name, sized(b'0', b"short", b"", &inner, 0)];
    contained(&[layer(&between)], |dest| assert_eq!(fs::read(dest.join("outer")).unwrap(), inner));
}

fn pax_records_are_taken_by_their_length() {
    let value = b"v\n27 path=../victim/secret\n";
    contained(&[layer(&[pax(&[("SCHILY.xattr.user.a", value)]), file("plain", "x")])], |dest| {
        assert_eq!(names(dest), ["plain"]);
    });
    refused(&[layer(&[pax(&[("path", b"../victim/secret")]), file("plain", "x")])], "../victim/secret");
    refused(&[layer(&[pax(&[("path", b"a\0b")]), file("plain", "x")])], "PAX");
    refused(&[layer(&[pax(&[("size", b"-1")]), file("plain", "x")])], "size");
    refused(&[layer(&[entry(b'x', b"pax", b"", b"999 path=a\n"), file("plain", "x")])], "PAX");
    refused(&[layer(&[entry(b'x', b"pax", b"", b"99999999999999999999999 path=a\n"), file("plain", "x")])], "PAX");
}

fn what_is_too_large_for_a_header_meets_a_limit() {
    refused(&[layer(&[sized(b'x', b"pax", b"", b"", 8 << 30)])], "extended-header");
    refused(&[layer(&[sized(b'L', b"long", b"", b"", 8 << 30)])], "extended-header");
    refused(&[layer(&[sized(b'0', b"file", b"", b"", (8 << 30) - 1)])], "truncated");
}

fn archives_may_end_only_where_they_end() {
    let whole = layer(&[directory("a"), file("a/one", &"1".repeat(3000)), pax(&[("path", b"two")]), file("b", "2")]);
    let cage = Cage::new();
    let mut taken = 0;
    for length in (1..whole.len()).step_by(97) {
        match cage.run("flatten", &cage.image(&[whole[..length].to_vec()]), &[]) {
            Ok(()) => taken += 1,
            Err(message) => assert!(message.contains("layer 0 (") && message.contains("truncated"), "{message}"),
        }
        cage.clear();
    }
    // Archives that end between two entries, or within what pads the last one, are whole to Go's reader.
    assert!(taken < whole.len() / 97 / 2, "{taken} truncated archives were taken");
}

fn compressed_layers_are_read_to_their_last_byte() {
    let packed = gzip(&layer(&[file("a", &"content".repeat(500))]));
    let cage = Cage::new();
    for length in (12..packed.len()).step_by(7) {
        for form in FORMS {
            cage.run(form, &cage.image(&[packed[..length].to_vec()]), &[]).unwrap_err();
        }
    }
    for at in (10..packed.len()).step_by(5) {
        let mut damaged = packed.clone();
        damaged[at] ^= 0x55;
        // A flipped bit in the header's fields may be harmless; in the data it is not.
        let _ = cage.run("flatten", &cage.image(&[damaged]), &[]);
        cage.clear();
    }
}

fn damaged_headers_never_panic() {
    let whole =
        layer(&[directory("a"), pax(&[("path", b"a/x"), ("mtime", b"1.5")]), file("b", "x"), to(b'1', "c", "b")]);
    let cage = Cage::new();
    for at in (0..whole.len() - 1024).step_by(13) {
        let mut damaged = whole.clone();
        damaged[at] = damaged[at].wrapping_add(0x41);
        let _ = cage.run("flatten", &cage.image(&[damaged]), &[]);
        cage.clear();
    }
}

/// A docker archive of one layer whose configuration states this DiffID.
fn docker_archive(layer: &[u8], diff_id: &str) -> Vec<u8> {
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
    let manifest = json!([{"Config": "c.json", "RepoTags": ["a:b"], "Layers": ["l.tar"]}]);
    archive(&[
        ("manifest.json", manifest.to_string().into_bytes()),
        ("c.json", config.to_string().into_bytes()),
        ("l.tar", layer.to_vec()),
    ])
}

fn what_is_stated_of_a_layer_is_checked() {
    let archive = layer(&[file("a", "x")]);
    let cage = Cage::new();
    fs::write(cage.path("in/image.tar"), docker_archive(&archive, &format!("sha256:{}", hex(b"other")))).unwrap();
    for form in FORMS {
        let message = cage.run(form, "in/image.tar", &[]).unwrap_err();
        assert!(message.contains("diff_id") && message.contains(&hex(&archive)), "{message}");
    }
    let layout = |change: &dyn Fn(&mut serde_json::Value), stored: &[u8]| {
        let mut layer_descriptor = descriptor(images::LAYER, &archive);
        change(&mut layer_descriptor);
        let config = images::config(&[&archive]);
        let manifest = json!({"schemaVersion": 2, "mediaType": images::MANIFEST,
            "config": descriptor(images::CONFIG, &config), "layers": [layer_descriptor]})
        .to_string()
        .into_bytes();
        let index = json!({"schemaVersion": 2, "manifests": [descriptor(images::MANIFEST, &manifest)]});
        let blobs = cage.path("in/oci/blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(cage.path("in/oci/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(cage.path("in/oci/index.json"), index.to_string()).unwrap();
        fs::write(blobs.join(hex(&manifest)), &manifest).unwrap();
        fs::write(blobs.join(hex(&config)), &config).unwrap();
        fs::write(blobs.join(hex(&archive)), stored).unwrap();
    };
    let other = layer(&[file("b", "x")]);
    layout(&|_| {}, &other);
    for form in FORMS {
        let message = cage.run(form, "oci:in/oci", &[]).unwrap_err();
        assert!(message.contains(&hex(&archive)) && message.contains(&hex(&other)), "{message}");
    }
    layout(&|descriptor| descriptor["size"] = json!(17), &archive);
    for form in FORMS {
        let message = cage.run(form, "oci:in/oci", &[]).unwrap_err();
        assert!(message.contains("17"), "{message}");
    }
    layout(&|_| {}, &archive);
    cage.run("flatten", "oci:in/oci", &[]).unwrap();
}

fn ten_gigabytes_of_zeros_meet_a_limit() {
    const SIZE: u64 = 10 << 30;
    const MEMBER: usize = 16 << 20;
    let cage = Cage::new();
    // Member by member: the same one holds the same zeros again and again.
    let header = sized(b'0', b"zeros", b"", b"", SIZE);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; MEMBER]).unwrap();
    let member = encoder.finish().unwrap();
    let bomb = [gzip(&header), member.repeat(usize::try_from(SIZE).unwrap() / MEMBER)].concat();
    assert!(bomb.len() < 11 << 20, "{}", bomb.len());
    fs::write(cage.path("in/zeros.tar.gz"), bomb).unwrap();
    // The limits as they are, and lower ones.
    for limits in [&[][..], &["--limit", "layer-size=100M"], &["--limit", "file-size=100M"]] {
        for form in FORMS {
            let message = cage.run(form, "layers:in/zeros.tar.gz", limits).unwrap_err();
            let name = limits.last().map_or("ratio", |limit| limit.split_once('=').unwrap().0);
            assert!(message.contains(&format!("--limit {name}=")), "{message}");
        }
    }
}

fn long_names_and_deep_trees_are_refused_or_held() {
    let long = "n".repeat(10_000);
    refused(&[layer(&[pax(&[("path", long.as_bytes())]), file("short", "x")])], "nnn");
    let deep = "d/".repeat(1_000_000);
    let limit = ["--limit", "extended-header=4000000"];
    let cage = Cage::new();
    for form in FORMS {
        let image = cage.image(&[layer(&[pax(&[("path", deep.as_bytes())]), directory("short")])]);
        let message = cage.run(form, &image, &limit).unwrap_err();
        assert!(message.contains("name-length") || message.contains("depth"), "{}", &message[..200]);
        assert!(message.len() < 2000, "a message of {} bytes", message.len());
    }
    // 1000 levels of 20 bytes: five times PATH_MAX.
    let path = vec!["a-directory-of-20-by"; 1000].join("/");
    contained(&[layer(&[pax(&[("path", format!("{path}/leaf").as_bytes())]), file("short", "x")])], |dest| {
        let mut command = Command::new("find");
        let found = command.arg(dest).args(["-name", "leaf", "-printf", "%d"]).output().unwrap();
        assert_eq!(String::from_utf8(found.stdout).unwrap(), "1001");
    });
}

fn a_failure_keeps_what_was_to_be_replaced() {
    let cage = Cage::new();
    let good = layer(&[file("kept", "x")]);
    for form in FORMS {
        cage.run(form, &cage.image(std::slice::from_ref(&good)), &[]).unwrap();
        let before = names(&cage.path("dest"));
        let image = cage.image(&[good.clone(), layer(&[file("../out", "x")])]);
        let output = cage.program(form, &image, &["--replace"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(names(&cage.path("dest")), before);
        cage.nothing_else(true);
        cage.clear();
    }
}

fn a_destination_that_is_a_symlink_is_not_followed_into_what_is_there() {
    let cage = Cage::new();
    symlink("victim", cage.path("dest")).unwrap();
    let image = cage.image(&[layer(&[file("a", "x")])]);
    for form in FORMS {
        let output = cage.program(form, &image, &[]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(names(&cage.path("victim")), ["secret"]);
    }
}

/// Interrupted while it waits for more of an archive on standard input.
fn a_signal_leaves_nothing() {
    for (form, signal) in [("flatten", Signal::INT), ("layers", Signal::TERM)] {
        let cage = Cage::new();
        // Also where whoever started the tests ignores them, as a shell does for what it runs in the background.
        let mut child = Command::new("env")
            .arg("--default-signal=INT,TERM,HUP")
            .arg(assert_cmd::cargo::cargo_bin!("layflat"))
            .args([form, "--quiet", "-", "dest"])
            .current_dir(cage.0.path())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let archive = docker_archive(&layer(&[file("a", &"x".repeat(100_000))]), "sha256:00");
        let mut input = child.stdin.take().unwrap();
        input.write_all(&archive[..archive.len() / 2]).unwrap();
        while_it_runs(&mut child, "it does not read", || rustix::io::ioctl_fionread(&input).unwrap() == 0);
        kill_process(Pid::from_child(&child), signal).unwrap();
        drop(input);
        let status = child.wait().unwrap();
        assert!(!status.success());
        // Another process may remove it, which this one did not wait for (rule S11).
        until("something is left", || names(cage.0.path()) == ["in", "victim"]);
    }
}

/// In a user namespace, where an ordinary user may mount a small file system.
fn a_full_disk_leaves_nothing() {
    tools::need_user_namespace();
    let cage = Cage::new();
    let image =
        cage.image(&[layer(&[directory("a"), file("a/one", &"1".repeat(100_000)), file("two", &"2".repeat(2 << 20))])]);
    fs::create_dir(cage.path("in/small")).unwrap();
    let script =
        r#"mount -t tmpfs -o size=1m none in/small && "$0" "$1" -q "$2" in/small/dest; echo "$?"; ls -A in/small"#;
    for form in FORMS {
        let mut command = Command::new("unshare");
        command.current_dir(cage.0.path()).args(["--map-root-user", "--mount", "sh", "-c", script]);
        command.arg(assert_cmd::cargo::cargo_bin!("layflat")).args([form, &image]);
        let output = command.output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "1\n", "{message}");
        assert!(message.contains("two") && message.contains("No space left on device"), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

fn a_place_where_nothing_can_be_made_is_named() {
    let cage = Cage::new();
    let image = cage.image(&[layer(&[file("a", "x")])]);
    for form in FORMS {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("layflat"));
        let output = command.args([form, "-q", &image, "/proc/layflat-dest"]).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("/proc"), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}
