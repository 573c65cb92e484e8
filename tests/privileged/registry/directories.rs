//! Images in plain directories: an unpacked archive, and what skopeo calls `dir:`.

use std::fs;

use super::place::{Images as _, Place, fixture};
use super::servers::tool;
use crate::common::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("directories::an_unpacked_archive_is_an_image", false, unpacked),
    ("directories::what_skopeo_writes_is_an_image", false, of_skopeo),
];

fn unpacked() {
    let place = Place::new();
    let directory = place.path("unpacked").display().to_string();
    fs::create_dir(&directory).unwrap();
    tool("tar", &["xf", fixture().trim_start_matches("docker-archive:"), "-C", &directory]);
    for image in ["dir:unpacked", "unpacked"] {
        place.printed(&["flatten", "--replace", image, "dest"]);
        assert_eq!(place.printed(&["diff", "dest", &fixture()]), "");
    }
    assert_eq!(place.json(&["inspect", "dir:unpacked"])["image"], "four-layers:latest");
}

fn of_skopeo() {
    let place = Place::new();
    let to = |name: &str| format!("dir:{}", place.path(name).display());
    tool("skopeo", &["--insecure-policy", "copy", "-q", &fixture(), &to("one")]);
    assert_eq!(place.printed(&["diff", "dir:one", &fixture()]), "");
    tool("skopeo", &["--insecure-policy", "copy", "-q", "--all", &place.index("layout"), &to("all")]);
    for (platform, file) in [("linux/amd64", "linux-amd64"), ("linux/arm64", "linux-arm64-v8")] {
        place.printed(&["flatten", "--platform", platform, "dir:all", file]);
        assert!(place.path(file).join(file).exists());
    }
    fs::remove_file(place.path("one/version")).unwrap();
    place.printed(&["inspect", "dir:one"]);
}
