//! What goes wrong leaves nothing behind, and what was there as it was.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use super::place::{self, Images as _, Place};
use crate::common::harness::Test;
use crate::common::images::{self, Layout, tagged};
use crate::common::wait;

pub(crate) const TESTS: &[Test] = &[
    ("s3_a_damaged_blob_is_refused_and_nothing_is_kept", false, s3_a_damaged_blob_is_refused_and_nothing_is_kept),
    (
        "s3_a_layer_that_is_not_the_configurations_is_refused",
        false,
        s3_a_layer_that_is_not_the_configurations_is_refused,
    ),
    ("s2_a_signal_leaves_nothing", false, s2_a_signal_leaves_nothing),
    ("s2_what_a_killed_process_left_is_taken_away", false, s2_what_a_killed_process_left_is_taken_away),
    ("s1_nothing_is_written_through_a_symlink", false, s1_nothing_is_written_through_a_symlink),
    ("s2_a_full_disk_leaves_nothing", true, s2_a_full_disk_leaves_nothing),
    ("s7_what_another_user_put_into_a_shared_directory_is_not_used", true, s7_another_users_names),
];

const STORES: [&str; 4] = ["oci:o:x", "oci-archive:oa.tar:x", "docker-archive:d.tar:demo:x", "dir:unpacked"];

/// Every file in a place, with its content.
fn content(place: &Place) -> Vec<(String, Vec<u8>)> {
    let files = place.names("").into_iter().filter(|name| !name.starts_with("src"));
    files
        .map(|name| (fs::read(place.path(&name)).unwrap_or_default(), name))
        .map(|(bytes, name)| (name, bytes))
        .collect()
}

fn s3_a_damaged_blob_is_refused_and_nothing_is_kept() {
    for existing in [false, true] {
        for to in STORES {
            let place = Place::new();
            place::source(&place);
            if existing {
                place.copy(&["oci:src:one", &to.replace(":x", ":first")]);
            }
            let top = place.open("oci:", "src:two").layers.pop().unwrap();
            let path = place.path(&format!("src/blobs/sha256/{}", top.blob.digest().unwrap().hex()));
            let whole = fs::read(&path).unwrap();
            for (bytes, expected) in [
                (
                    {
                        let mut bytes = whole.clone();
                        *bytes.last_mut().unwrap() ^= 1;
                        bytes
                    },
                    "damaged",
                ),
                (whole[..whole.len() - 1].to_vec(), "the image states"),
                ([&whole[..], b"?"].concat(), "the image states"),
            ] {
                fs::write(&path, bytes).unwrap();
                let before = content(&place);
                let refused = place.refused(&["oci:src:two", to]);
                assert!(refused.contains(expected), "{to}: {refused}");
                assert!(refused.contains(top.blob.digest().unwrap().hex()), "{to}: {refused}");
                assert!(content(&place) == before, "{to}: {:?}", place.names(""));
            }
        }
    }
}

fn s3_a_layer_that_is_not_the_configurations_is_refused() {
    let place = Place::new();
    let [base, middle, _] = place::layers();
    let mut layout = Layout::default();
    let image = layout.image_of(&images::config(&[&middle]), &[(place::LAYER_GZIP, images::gzip(&base))]);
    layout.list(tagged(image, "wrong")).write(&place.path("src"));
    for arguments in
        [&["oci:src:wrong", "docker-archive:d.tar:a:1"][..], &["--compression", "zstd", "oci:src:wrong", "oci:o:x"]]
    {
        let refused = place.refused(arguments);
        assert!(refused.contains(&format!("states diff_id {}", images::digest(&middle))), "{refused}");
        assert_eq!(content(&place), []);
    }
}

/// A layer that takes some time to be compressed.
fn slow_image(place: &Place) {
    let mut state = 1u32;
    let mut letter = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'a' + (state >> 28) as u8
    };
    let text: Vec<u8> = (0..96 << 20).map(|_| letter()).collect();
    let layer = images::archive(&[("text", text)]);
    let mut layout = Layout::default();
    let image = layout.image(&[&layer]);
    layout.list(tagged(image, "slow")).write(&place.path("src"));
}

/// Waits for a file that is being written.
fn wait_for_draft(place: &Place, child: &mut Child) {
    let is_filled = |name: &String| {
        let path = place.path(name);
        name.contains(".layflat-") && fs::metadata(&path).is_ok_and(|it| it.is_file() && it.len() > 0)
    };
    wait::while_it_runs(child, "nothing is written", || place_names(place).iter().any(is_filled));
}

/// Names in a directory that changes while it is read.
fn place_names(place: &Place) -> Vec<String> {
    let root = place.path("");
    let name = |entry: walkdir::DirEntry| entry.path().strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    walkdir::WalkDir::new(&root).min_depth(1).into_iter().flatten().map(name).collect()
}

fn s2_a_signal_leaves_nothing() {
    let place = Place::new();
    slow_image(&place);
    let mut before = content(&place);
    for to in ["oci:o:x", "oci:there:x", "oci-archive:oa.tar:x"] {
        if to == "oci:there:x" {
            place.copy(&["--compression", "none", "oci:src:slow", "oci:there:first"]);
            before = content(&place);
        }
        let mut child = place.start(&["copy", "--compression", "gzip:9", "oci:src:slow", to]);
        wait_for_draft(&place, &mut child);
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::TERM.as_raw()), "{said}");
        assert_eq!(said, "layflat: interrupted; no partial output was left\n");
        assert!(content(&place) == before, "{to}: {:?}", place.names(""));
    }
}

fn s2_what_a_killed_process_left_is_taken_away() {
    let place = Place::new();
    slow_image(&place);
    place.copy(&["oci:src:slow", "oci:o:first"]);
    let before = content(&place);
    let mut child = place.start(&["copy", "--compression", "gzip:9", "oci:src:slow", "oci:o:x"]);
    wait_for_draft(&place, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(content(&place) != before);
    // The next one that adds to it takes away what nobody works on.
    place.copy(&["oci:src:slow", "oci:o:first"]);
    assert!(content(&place) == before, "{:?}", place.names(""));
}

fn s1_nothing_is_written_through_a_symlink() {
    let place = Place::new();
    place::source(&place);
    let layer = place.diff_ids("oci:", "src:one")[0].hex().to_owned();
    for (to, directory, link) in [("oci:o:x", "o", "blobs"), ("oci:o:x", "o", "blobs/sha256"), ("dir:d", "d", &layer)] {
        let _ = (fs::remove_dir_all(place.path("o")), fs::remove_dir_all(place.path("d")));
        fs::create_dir_all(place.path("elsewhere")).unwrap();
        place.copy(&["oci:src:one", to]);
        fs::remove_dir_all(place.path(directory).join(link)).unwrap();
        symlink(place.path("elsewhere"), place.path(directory).join(link)).unwrap();
        let before = content(&place);
        let refused = place.refused(&["oci:src:two", to]);
        assert!(refused.contains("is a symlink, and nothing is written through one"), "{to}: {refused}");
        assert_eq!(place.names("elsewhere"), [""; 0]);
        assert!(content(&place) == before, "{to}: {:?}", place.names(""));
    }
}

fn s2_a_full_disk_leaves_nothing() {
    let place = Place::new();
    let noise: Vec<u8> = (0..4u32 << 20).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let layer = images::archive(&[("noise", noise)]);
    let mut layout = Layout::default();
    let image = layout.image(&[&layer]);
    layout.list(tagged(image, "large")).write(&place.path("src"));
    let layflat = Path::new(env!("CARGO_BIN_EXE_layflat"));
    fs::create_dir(place.path("small")).unwrap();
    for to in
        ["oci:small/o:x", "oci:small:x", "oci-archive:small/oa.tar:x", "docker-archive:small/d.tar:a:1", "dir:small/d"]
    {
        // In a mount namespace of its own, which ends with it.
        let script = format!(
            "mount -t tmpfs -o size=2m small small && ! {} copy oci:src:large {to} && ls -A small >&2",
            layflat.display()
        );
        let output = std::process::Command::new("unshare")
            .args(["--mount", "sh", "-ec", &script])
            .current_dir(place.path(""))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!(said.lines().count(), 1, "{to}: {said}");
        assert!(said.contains("No space left on device"), "{to}: {said}");
    }
}

/// In a directory that everybody can write, whoever comes first chooses what a name is.
fn s7_another_users_names() {
    const OTHER: u32 = 1234;
    let place = Place::new();
    place::source(&place);
    fs::create_dir(place.path("shared")).unwrap();
    fs::set_permissions(place.path("shared"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::create_dir(place.path("private")).unwrap();
    for name in ["layout/blobs", "replaced/inside", ".layflat-copy-abc/new/inside", ".layflat-0123456789ab/new/inside"]
    {
        fs::create_dir_all(place.path("shared").join(name)).unwrap();
    }
    for name in ["a.tar", ".layflat-0123456789ab/layflat-unfinished"] {
        fs::write(place.path("shared").join(name), "").unwrap();
    }
    symlink("../private/out.tar", place.path("shared/link.tar")).unwrap();
    symlink("../private", place.path("shared/link")).unwrap();
    for entry in walkdir::WalkDir::new(place.path("shared")).min_depth(1) {
        lchown(entry.unwrap().path(), Some(OTHER), Some(OTHER)).unwrap();
    }
    let before = place.names("shared");
    for (to, expected) in [
        ("oci:shared/layout:x", "belongs to another user (uid 1234)"),
        ("docker-archive:shared/a.tar:x:1", "belongs to another user (uid 1234)"),
        ("oci-archive:shared/a.tar:x", "belongs to another user (uid 1234)"),
        ("oci-archive:shared/link.tar:x", "is a symlink of another user (uid 1234)"),
        ("oci:shared/link:x", "is a symlink of another user (uid 1234)"),
        ("dir:shared/link", "is a symlink of another user (uid 1234)"),
    ] {
        let refused = place.refused(&["oci:src:one", to]);
        assert!(refused.contains(expected), "{to}: {refused}");
    }
    for command in ["flatten", "layers", "bundle"] {
        let ran = place.ran(&[command, "oci:src:one", "shared/link"]);
        assert!(ran.stderr.contains("is a symlink of another user (uid 1234)"), "{command}: {}", ran.stderr);
        let ran = place.ran(&[command, "oci:src:one", "shared/replaced", "--replace"]);
        assert!(ran.stderr.contains("belongs to another user (uid 1234)"), "{command}: {}", ran.stderr);
    }
    assert_eq!(place.names("private"), [""; 0]);
    // What it takes for its own leftovers is not theirs.
    place.copy(&["oci:src:one", "oci:shared/new:x"]);
    let after: Vec<String> = place.names("shared").into_iter().filter(|name| !name.starts_with("new")).collect();
    assert_eq!(after, before);
    // A link of one's own is followed.
    symlink("../private/own.tar", place.path("shared/own.tar")).unwrap();
    fs::write(place.path("private/own.tar"), "").unwrap();
    place.copy(&["oci:src:one", "oci-archive:shared/own.tar:x"]);
    assert!(
        place.path("shared/own.tar").is_symlink() && fs::metadata(place.path("private/own.tar")).unwrap().len() > 0
    );
}
