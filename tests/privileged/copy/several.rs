//! Several images in one place: shared blobs, names, and processes that add at the same time.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::Value;

use super::place::{self, Images as _, Place, Ran};
use crate::common::harness::Test;
use crate::common::place::names;

pub(crate) const TESTS: &[Test] = &[
    ("a_second_image_asks_only_for_what_is_new", false, a_second_image_asks_only_for_what_is_new),
    ("a_name_goes_over_to_the_image_that_is_added", false, a_name_goes_over_to_the_image_that_is_added),
    ("all_tags_keep_their_names", false, all_tags_keep_their_names),
    ("archives_of_other_tools_are_added_to", false, archives_of_other_tools_are_added_to),
    ("processes_that_add_at_once_lose_nothing", false, processes_that_add_at_once_lose_nothing),
    ("a_damaged_layer_that_is_there_is_not_taken_over", false, a_damaged_layer_that_is_there_is_not_taken_over),
    ("what_is_added_to_stays_as_private_as_it_was", false, what_is_added_to_stays_as_private_as_it_was),
    ("what_is_there_and_no_image_is_left_alone", false, what_is_there_and_no_image_is_left_alone),
];

/// The stores that hold several images: where an image of that tag goes, and where it is found then.
const STORES: [(&str, &str); 4] = [
    ("oci:o:TAG", "oci:o:TAG"),
    ("oci-archive:oa.tar:TAG", "oci-archive:oa.tar:TAG"),
    ("docker-archive:d.tar:demo:TAG", "docker-archive:d.tar:demo:TAG"),
    ("dir:unpacked", ""),
];

fn outcomes(report: &Value) -> Vec<&str> {
    report["blobs"].as_array().unwrap().iter().filter_map(|blob| blob["outcome"].as_str()).collect()
}

fn a_second_image_asks_only_for_what_is_new() {
    for (to, found) in STORES {
        let place = Place::new();
        place::source(&place);
        place.copy(&["oci:src:one", &to.replace("TAG", "one")]);
        // Whoever reads one of these now learns that it is damaged.
        let manifest = place.open("oci:", "src:one");
        for layer in &manifest.layers {
            let path = place.path(&format!("src/blobs/sha256/{}", layer.blob.digest().unwrap().hex()));
            fs::write(&path, vec![b'?'; usize::try_from(layer.blob.len()).unwrap()]).unwrap();
        }
        let report = place.copy(&["oci:src:two", &to.replace("TAG", "two")]);
        let new = if to.starts_with("oci") { "copied" } else { "rewritten" };
        assert_eq!(outcomes(&report), ["present", "present", new, "copied"], "{to}");
        let again = place.copy(&["oci:src:two", &to.replace("TAG", "two")]);
        assert_eq!(outcomes(&again), ["present"; 4], "{to}");
        if !found.is_empty() {
            let (one, two) = (found.replace("TAG", "one"), found.replace("TAG", "two"));
            place.skopeo(&["copy", "-q", &one, "oci:check:one"]);
            place.skopeo(&["copy", "-q", &two, "oci:check:two"]);
            place.same("oci:check:two", &two);
            place.same("oci:check:one", &one);
        } else {
            let items = place.document("unpacked/manifest.json");
            assert_eq!(items.as_array().unwrap().len(), 2);
        }
    }
}

fn a_name_goes_over_to_the_image_that_is_added() {
    for (to, found) in &STORES[..3] {
        let place = Place::new();
        place::source(&place);
        let (to, found) = (to.replace("TAG", "x"), found.replace("TAG", "x"));
        for from in ["oci:src:one", "oci:src:two", "oci:src:one"] {
            place.copy(&[from, &to]);
            assert_eq!(place.skopeo_sees(&found).1, place.skopeo_sees(from).1);
            place.same(from, found.trim_end_matches(":demo:x").trim_end_matches(":x"));
        }
        // The archives were written anew, and hold nothing of what has lost its name.
        if let Some(archive) = to.split(':').nth(1).filter(|name| name.ends_with(".tar")) {
            place.copy(&["oci:src:one", &to.replace(archive, "fresh.tar")]);
            assert!(fs::read(place.path(archive)).unwrap() == fs::read(place.path("fresh.tar")).unwrap(), "{to}");
        }
    }
}

fn all_tags_keep_their_names() {
    let place = Place::new();
    place::source(&place);
    place.copy(&["--all-tags", "oci:src", "docker-archive:d.tar:quay.io/a/demo"]);
    place.copy(&["--all-tags", "docker-archive:d.tar", "oci-archive:oa.tar"]);
    place.copy(&["--all-tags", "oci-archive:oa.tar", "docker-archive:again.tar"]);
    place.copy(&["--all-tags", "oci:src", "oci:copy"]);
    for (tag, found) in [
        ("one", "docker-archive:d.tar:quay.io/a/demo:one"),
        ("two", "docker-archive:d.tar:quay.io/a/demo:two"),
        ("two", "oci-archive:oa.tar:quay.io/a/demo:two"),
        ("one", "docker-archive:again.tar:quay.io/a/demo:one"),
        ("one", "oci:copy:one"),
        ("two", "oci:copy:two"),
    ] {
        assert_eq!(place.skopeo_sees(found).1, place.skopeo_sees(&format!("oci:src:{tag}")).1, "{found}");
    }
    for (arguments, expected) in [
        (["--all-tags", "oci:src", "docker-archive:x.tar"], "write docker-archive:FILE:NAME"),
        (["--all-tags", "oci:src", "docker-archive:x.tar:a:1"], "omit it with --all-tags"),
        (["--all-tags", "oci:src", "oci:x:a"], "omit it with --all-tags"),
        (["--all-tags", "layers:d.tar", "oci:x"], "does not list its images"),
    ] {
        let refused = place.refused(&arguments);
        assert!(refused.contains(expected), "{refused}");
        assert!(!place.path("x.tar").exists() && !place.path("x").exists());
    }
}

fn archives_of_other_tools_are_added_to() {
    let place = Place::new();
    place::source(&place);
    place.skopeo(&["copy", "-q", "oci:src:one", "docker-archive:d.tar:theirs:1"]);
    place.skopeo(&["copy", "-q", "oci:src:one", "oci-archive:oa.tar:theirs"]);
    place.skopeo(&["copy", "-q", "oci:src:one", "oci:o:theirs"]);
    for (to, theirs, ours) in [
        ("docker-archive:d.tar:ours:1", "docker-archive:d.tar:theirs:1", "docker-archive:d.tar:ours:1"),
        ("oci-archive:oa.tar:ours", "oci-archive:oa.tar:theirs", "oci-archive:oa.tar:ours"),
        ("oci:o:ours", "oci:o:theirs", "oci:o:ours"),
    ] {
        let report = place.copy(&["oci:src:two", to]);
        assert_eq!(outcomes(&report)[..2], ["present"; 2], "{to}");
        place.skopeo(&["copy", "-q", theirs, "oci:check:theirs"]);
        place.skopeo(&["copy", "-q", ours, "oci:check:ours"]);
        place.same("oci:src:one", theirs);
        place.same("oci:src:two", ours);
    }
    // Compressed as a whole it would be another file than before.
    place.tool("gzip", &["gzip", "-k", "d.tar"]);
    let refused = place.refused(&["oci:src:two", "docker-archive:d.tar.gz:ours:2"]);
    assert!(refused.contains("is compressed (gzip): decompress it first"), "{refused}");
}

fn processes_that_add_at_once_lose_nothing() {
    let place = Place::new();
    place::source(&place);
    // Whoever makes an archive must be the first; a layout may be made by any of them.
    place.copy(&["oci:src:one", "docker-archive:d.tar:demo:first"]);
    place.copy(&["oci:src:one", "oci-archive:oa.tar:first"]);
    place.copy(&["oci:src:one", "dir:unpacked"]);
    let tags: Vec<String> = (0..6).map(|number| format!("t{number}")).collect();
    let children: Vec<_> = tags
        .iter()
        .enumerate()
        .flat_map(|(number, tag)| {
            let from = if number % 2 == 0 { "oci:src:one" } else { "oci:src:two" };
            STORES.map(|(to, _)| place.start(&["copy", from, &to.replace("TAG", tag)]))
        })
        .collect();
    for child in children {
        let ran = Ran::from(child.wait_with_output().unwrap());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }
    for (_, found) in &STORES[..3] {
        for (number, tag) in tags.iter().enumerate() {
            let from = if number % 2 == 0 { "oci:src:one" } else { "oci:src:two" };
            assert_eq!(place.skopeo_sees(&found.replace("TAG", tag)).1, place.skopeo_sees(from).1, "{found} {tag}");
        }
    }
    let left: Vec<String> = place.names("").into_iter().filter(|name| name.contains(".layflat-")).collect();
    assert_eq!(left, [""; 0]);
}

fn what_is_there_and_no_image_is_left_alone() {
    let place = Place::new();
    place::source(&place);
    fs::create_dir_all(place.path("full")).unwrap();
    fs::write(place.path("full/precious"), "precious").unwrap();
    fs::write(place.path("file"), "precious").unwrap();
    place.tool("coreutils", &["mkfifo", "pipe"]);
    place.copy(&["oci:src:one", "oci-archive:oa.tar:one"]);
    place.copy(&["oci:src:one", "docker-archive:d.tar:demo:1"]);
    for (to, expected) in [
        ("oci:full:x", "is not empty and no OCI image layout"),
        ("dir:full", "is not empty and no unpacked docker archive"),
        ("oci:file:x", "is not a directory"),
        ("dir:src", "is an OCI image layout"),
        ("docker-archive:file:a:1", "cannot add to the existing destination"),
        ("oci-archive:file:a", "cannot add to the existing destination"),
        ("docker-archive:oa.tar:a:1", "it is an OCI archive, write oci-archive:FILE"),
        ("oci-archive:d.tar:a", "is not an OCI archive"),
        ("docker-archive:src:a:1", "is not a regular file"),
        ("docker-archive:pipe:a:1", "is not a regular file"),
        ("oci-archive:pipe:a", "is not a regular file"),
        ("oci:no/such/place:x", "No such file or directory"),
        ("docker-archive:no/such/a.tar:a:1", "No such file or directory"),
        ("docker-archive:new.tar:A:1", "upper-case"),
        ("oci:new:a b", "write a tag"),
        ("layers:new.tar", "which can only be read"),
        ("new", "write oci:new[:TAG]"),
    ] {
        let refused = place.refused(&["oci:src:one", to]);
        assert!(refused.contains(expected), "{to}: {refused}");
    }
    assert_eq!(place.names("full"), ["precious"]);
    assert_eq!(fs::read(place.path("file")).unwrap(), b"precious");
    let names = names(place.directory());
    assert_eq!(names, ["d.tar", "file", "full", "home", "oa.tar", "pipe", "src"]);
}

fn a_damaged_layer_that_is_there_is_not_taken_over() {
    let find = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).position(|window| window == text).unwrap();
    let place = Place::new();
    place::source(&place);
    place.copy(&["oci:src:one", "docker-archive:d.tar:demo:1"]);
    let mut bytes = fs::read(place.path("d.tar")).unwrap();
    let at = find(&bytes, b"line 7919");
    bytes[at] = b'L';
    fs::write(place.path("d.tar"), &bytes).unwrap();
    let refused = place.refused(&["oci:src:two", "docker-archive:d.tar:demo:2"]);
    assert!(refused.contains("cannot add to the existing destination"), "{refused}");
    assert!(refused.contains("damaged or was altered"), "{refused}");
    assert!(fs::read(place.path("d.tar")).unwrap() == bytes);
    // A layer that is stored compressed is none that can be told by its DiffID: it is stored anew.
    let place = Place::new();
    place::source(&place);
    place.copy(&["oci:src:one", "dir:unpacked"]);
    let layer = place.diff_ids("oci:", "src:one")[0].hex().to_owned();
    place.tool("gzip", &["gzip", "-k", &format!("unpacked/{layer}/layer.tar")]);
    fs::rename(
        place.path(&format!("unpacked/{layer}/layer.tar.gz")),
        place.path(&format!("unpacked/{layer}/layer.tar")),
    )
    .unwrap();
    place.tool("tar", &["tar", "-C", "unpacked", "-cf", "d.tar", "."]);
    place.copy(&["oci:src:two", "docker-archive:d.tar:demo:2"]);
    place.same("oci:src:two", "docker-archive:d.tar:demo:2");
    assert_eq!(place.diff_ids("docker-archive:", "d.tar:demo:2"), place.diff_ids("oci:", "src:two"));
}

fn what_is_added_to_stays_as_private_as_it_was() {
    for (archive, one, two) in [
        ("d.tar", "docker-archive:d.tar:demo:1", "docker-archive:d.tar:demo:2"),
        ("oa.tar", "oci-archive:oa.tar:one", "oci-archive:oa.tar:two"),
    ] {
        let place = Place::new();
        place::source(&place);
        place.copy(&["oci:src:one", one]);
        let path = place.path(archive);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let root = rustix::process::geteuid().is_root();
        if root {
            std::os::unix::fs::chown(&path, Some(1234), Some(5678)).unwrap();
        }
        place.copy(&["oci:src:two", two]);
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o640, "{archive}");
        assert!(!root || (metadata.uid(), metadata.gid()) == (1234, 5678), "{archive}: {metadata:?}");
    }
}
