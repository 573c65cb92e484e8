//! EROFS mounts over content files and archives in place, by the program and the library: that they show what the specification says, and what
//! becomes of them when things go wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use layflat::blob::Blob;
use layflat::core::chain::Chain;
use layflat::image::{Image, Layer};
use layflat::metadata::{Backend, How, Stacking, Verify, cached, layers};
use layflat::mount::{MountOptions, UpperDirectories, mount_layout, umount};
use layflat::{NoProgress, Options};
use libtest_mimic::Failed;
use rustix::mount::{MountFlags, mount};

use crate::common::cases::{self, Case, Expected, compare};
use crate::common::clock;
use crate::common::harness::{self, Test, Trial};
use crate::common::images::{self, Tar};
use crate::common::place::{Place, said};
use crate::common::run::{self, Scratch};
use crate::common::tree::Tree;
use crate::common::unmount::Unmounts as _;
use crate::common::{erofs, tar, tools};

const TESTS: &[Test] = &[
    ("an_image_is_mounted_through_the_cache_and_kept_there_while_it_is_mounted", true, through_the_cache),
    ("images_that_share_layers_share_contents", true, shared_layers),
    ("s8_what_is_damaged_in_the_cache_is_made_anew", true, damaged),
    ("c4_what_was_changed_in_the_cache_is_made_anew_whatever_its_times_say", true, changed_cache),
    ("c4_bytes_that_changed_without_the_file_system_are_found_by_who_reads_all", true, rotten_cache),
    ("c4_what_was_only_touched_is_read_once_and_stays_mounted", true, touched),
    ("c4_what_is_mounted_and_was_changed_is_not_mounted_again", true, changed_and_in_use),
    ("c4_copies_of_a_directory_of_images_are_read_and_archives_in_place_only_recognised", true, copied_directory),
    ("c5_digests_are_those_of_fs_verity", true, measured),
    ("c6_images_of_layers_are_shared_by_all_images_above_the_same_layers", true, shared_images_of_layers),
    ("huge_sparse_files_long_names_and_large_attributes_are_mounted", true, extremes),
    ("a_truncated_archive_is_not_mounted", true, truncated),
    ("s2_a_mount_that_is_killed_leaves_nothing_that_harms", true, killed),
    ("c3_an_archive_that_others_could_write_is_not_used_in_place", true, unguarded),
    ("c4_what_is_checked_of_an_archive_in_place", true, verified),
    ("in_place_takes_only_plain_layers_in_files", true, only_plain),
    ("an_archive_that_is_cut_off_or_changed_under_its_mount", true, under_the_mount),
    ("an_upper_directory_takes_changes_and_packs_into_a_layer", true, writable),
    ("a_directory_of_images_is_mounted_wherever_it_lies", true, directory),
    ("a_directory_of_images_that_was_changed_is_refused", true, changed_directory),
    ("where_the_cache_has_no_block_device_the_image_is_put_elsewhere", true, no_block_device),
    ("where_no_file_can_be_mounted_from_loop_devices_help", true, loop_devices),
    ("where_nothing_helps_the_layers_are_unpacked_and_the_message_says_why", true, falls_back),
    ("what_erofs_cannot_hold_is_unpacked", true, beyond_limits),
    ("six_hundred_layers_are_one_mount", true, many_layers),
    ("only_what_is_ours_is_unmounted_and_busy_targets_are_refused", true, targets),
];

pub(crate) fn trials() -> Vec<Trial> {
    let can = run::is_root() && erofs::can_mount();
    let mut trials = Vec::new();
    for (number, case) in cases::all().into_iter().enumerate() {
        for way in cases::in_turn(number, &Way::ALL) {
            let own = case.clone();
            let trial = Trial::test(format!("{}::{way:?}", case.name), move || check(&own, way));
            trials.push(trial.with_ignored_flag(!can));
        }
    }
    trials.extend(
        harness::trials(TESTS).into_iter().map(|trial| if can { trial } else { trial.with_ignored_flag(true) }),
    );
    trials
}

/// A way in which a stack can be mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Content files, one image.
    Merged,
    /// The same below an upper directory.
    Writable,
    /// All archives in one file, used in place; only their headers are read.
    InPlace,
    /// In place, every byte read.
    Verified,
    /// An image for each layer, in a directory.
    Layered,
    /// An image for each layer, in the cache.
    Shared,
}

impl Way {
    const ALL: [Self; 6] = [Self::Merged, Self::Writable, Self::InPlace, Self::Verified, Self::Layered, Self::Shared];

    fn how(self) -> How {
        let stacking = match self {
            Self::Writable => Stacking::MergedBelow,
            Self::Layered | Self::Shared => Stacking::Layered,
            _ => Stacking::Merged,
        };
        let verify = Some(if self == Self::InPlace { Verify::Nothing } else { Verify::Full });
        How { backend: Backend::Erofs, stacking, in_place: matches!(self, Self::InPlace | Self::Verified), verify }
    }
}

fn check(case: &Case, way: Way) -> Result<(), Failed> {
    let scratch = Scratch::new(Path::new("/tmp"));
    let archives: Vec<Vec<u8>> = case.stack.0.iter().map(tar::archive).collect();
    let found = show(&scratch.0, &archives, way);
    let (tree, found) = match (&case.expected, found) {
        (Expected::Reject(words), Err(error)) if error.contains(words) => return Ok(()),
        (Expected::Tree(tree), Ok(found)) => (tree, found),
        (expected, found) => return Err(format!("expected {expected:?}, found {found:?}").into()),
    };
    let expected = match &case.overlay {
        Some(overlay) if matches!(way, Way::Layered | Way::Shared | Way::Writable) => {
            overlay.replace("OVERLAY.", "trusted.overlay.")
        }
        _ => tree.clone(),
    };
    compare(&Tree::parse(&expected), &found)
}

/// An image whose layers lie one behind the other in one file, with other things between.
fn in_one_file(place: &Path, archives: &[Vec<u8>]) -> Image {
    let mut all = vec![0xaa; 1024];
    let mut starts = Vec::new();
    for archive in archives {
        all.extend_from_slice(&[0xcc; 512]);
        starts.push(all.len() as u64);
        all.extend_from_slice(archive);
        all.resize(all.len().next_multiple_of(512), 0xbb);
    }
    let path = place.join("all.tar");
    fs::write(&path, all).unwrap();
    let file = Arc::new(File::open(&path).unwrap());
    let layer = |(archive, start): (&Vec<u8>, u64)| {
        Layer::bare(Blob::from_file(Arc::clone(&file), start, archive.len() as u64))
    };
    Image { layers: archives.iter().zip(starts).map(layer).collect(), ..run::image([]) }
}

fn show(place: &Path, archives: &[Vec<u8>], way: Way) -> Result<Tree, String> {
    let how = way.how();
    let image = if how.in_place { in_one_file(place, archives) } else { run::image(archives.iter().cloned()) };
    let options = Options { no_sync: true, ..Options::default() };
    let (cache, target) = (place.join("cache"), place.join("target"));
    fs::create_dir(&target).unwrap();
    let kept;
    let directory = if way == Way::Layered {
        let made = place.join("images");
        layers(&image, &made, &cache, &how, &options, &NoProgress).map_err(|error| Chain(&error).to_string())?;
        made
    } else {
        kept = cached(&image, &cache, &how, &options, &NoProgress).map_err(|error| Chain(&error).to_string())?;
        kept.path().to_owned()
    };
    let upper = UpperDirectories { upper: place.join("upper"), work: place.join("work") };
    let options = MountOptions { upper: (way == Way::Writable).then_some(upper), ..MountOptions::default() };
    mount_layout(&directory, &target, options).map_err(|error| Chain(&error).to_string())?;
    let tree = Tree::of_directory(&target);
    umount(&target, true).unwrap();
    Ok(tree)
}

/// A place to mount at.
pub(crate) fn place() -> Place {
    let place = Place::new();
    fs::create_dir(place.target()).unwrap();
    place
}

/// What these tests need of a place.
pub(crate) trait Target {
    fn target(&self) -> PathBuf;
    /// What the program says when it succeeds.
    fn done(&self, arguments: &[&str]) -> String;
    /// What the program says when it fails.
    fn refused(&self, arguments: &[&str]) -> String;
    fn read(&self, name: &str) -> String;
    fn umount(&self);
    /// The entries of a group in the cache.
    fn kept(&self, group: &str) -> Vec<PathBuf>;
    /// What `docker save` makes of layers.
    fn docker(&self, name: &str, layers: &[Vec<u8>]);
}

impl Target for Place {
    fn target(&self) -> PathBuf {
        self.path("target")
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        said(&output)
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", said(&output));
        said(&output)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.target().join(name)).unwrap()
    }

    fn umount(&self) {
        umount(&self.target(), true).unwrap();
    }

    fn kept(&self, group: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("home/.cache/layflat").join(group));
        entries.map(|entries| entries.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default()
    }

    fn docker(&self, name: &str, layers: &[Vec<u8>]) {
        let config = images::config(&layers.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let names: Vec<String> = (0..layers.len()).map(|index| format!("{index}.tar")).collect();
        let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": ["app:1"], "Layers": names }]);
        let mut archive = Tar::new().file("config.json", config).file("manifest.json", manifest.to_string());
        for (name, layer) in names.iter().zip(layers) {
            archive = archive.file(name, layer);
        }
        fs::write(self.path(name), archive.done()).unwrap();
    }
}

pub(crate) fn two_layers() -> Vec<Vec<u8>> {
    vec![
        Tar::new().directory("d").file("d/large", vec![7; 3000]).file("gone", "x").done(),
        Tar::new().file(".wh.gone", "").file("small", "content").done(),
    ]
}

fn through_the_cache() {
    let place = place();
    place.docker("app.tar", &two_layers());
    for _ in 0..2 {
        assert!(place.done(&["mount", "app.tar", "target"]).ends_with("read-only, by EROFS\n"));
        assert_eq!(place.read("small"), "content");
        assert_eq!(fs::read(place.target().join("d/large")).unwrap(), vec![7; 3000]);
        assert!(!place.target().join("gone").exists());
        fs::write(place.target().join("new"), "").unwrap_err();
        assert_eq!((place.kept("contents").len(), place.kept("erofs").len()), (2, 1));
        let listed = place.done(&["cache", "ls"]);
        assert_eq!(listed.matches("in use").count(), 3, "{listed}");
        assert!(place.done(&["cache", "prune", "--all"]).starts_with("0 removed"));
        assert!(place.unmounts("target").contains("unmounted"));
    }
    assert!(place.done(&["cache", "prune", "--all"]).starts_with("3 removed"));
    // The message, and the layers, are those of before.
    assert!(place.done(&["mount", "--backend", "overlay", "app.tar", "target"]).ends_with("read-only, by overlayfs\n"));
    place.umount();
    let json = place.done(&["mount", "--json", "app.tar", "target"]);
    assert!(json.contains("\"backend\": \"erofs\"") || json.contains("\"backend\":\"erofs\""), "{json}");
    place.umount();
}

fn shared_layers() {
    let place = place();
    let [base, top] = two_layers().try_into().unwrap();
    place.docker("one.tar", &[base.clone(), top.clone()]);
    place.docker("other.tar", &[top, base]);
    for image in ["one.tar", "other.tar"] {
        place.done(&["mount", image, "target"]);
        place.umount();
    }
    assert_eq!((place.kept("contents").len(), place.kept("erofs").len()), (2, 2));
    // In the other order the whiteout stands below, and deletes nothing.
    place.done(&["mount", "other.tar", "target"]);
    assert_eq!(place.read("gone"), "x");
    place.umount();
}

fn damaged() {
    let place = place();
    place.docker("app.tar", &two_layers());
    place.done(&["mount", "app.tar", "target"]);
    place.umount();
    let first = |group: &str| place.kept(group).remove(0);
    let damages: [&dyn Fn(); 6] = [
        &|| fs::write(first("erofs").join("tree.erofs"), "x").unwrap(),
        &|| fs::remove_file(first("erofs").join("layflat.json")).unwrap(),
        &|| fs::remove_file(first("contents").join("data")).unwrap(),
        &|| fs::write(first("contents").join("data"), "").unwrap(),
        &|| {
            fs::remove_dir_all(first("erofs")).unwrap();
            fs::write(first("contents").join("index"), "layflat contents\n").unwrap();
        },
        &|| {
            fs::remove_dir_all(first("contents")).unwrap();
            fs::create_dir(first("erofs").join("more")).unwrap();
        },
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        damage();
        place.done(&["mount", "app.tar", "target"]);
        assert_eq!(place.read("small"), "content", "{number}");
        assert_eq!(fs::read(place.target().join("d/large")).unwrap(), vec![7; 3000], "{number}");
        place.umount();
        assert_eq!((place.kept("contents").len(), place.kept("erofs").len()), (2, 1), "{number}");
    }
}

fn killed() {
    let place = place();
    let layer = |letter: &str| {
        (0..300).fold(Tar::new(), |tar, index| tar.file(&format!("{letter}/{index}"), vec![index as u8; 5000])).done()
    };
    place.docker("app.tar", &["a", "b", "c"].map(layer));
    let mut mounted = 0;
    for step in 0..40 {
        let mut child = place.layflat(&["-q", "mount", "app.tar", "target"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(step * 4));
        let _ = child.kill();
        child.wait().unwrap();
        if umount(&place.target(), true).is_ok() {
            mounted += 1;
        }
        // What is under its own name is whole.
        for entry in place.kept("contents").into_iter().chain(place.kept("erofs")) {
            let name = entry.file_name().unwrap().to_str().unwrap().to_owned();
            let whole = ["index", "layflat.json"].iter().any(|name| entry.join(name).exists());
            assert!(name.starts_with("new-") || whole, "{entry:?}");
        }
        if mounted > 0 {
            let _ = fs::remove_dir_all(place.path("home/.cache"));
            mounted = 0;
        }
    }
    place.done(&["mount", "app.tar", "target"]);
    assert_eq!(fs::read(place.target().join("c/299")).unwrap(), vec![43; 5000]);
    place.umount();
}

fn unguarded() {
    let place = place();
    fs::create_dir(place.path("d")).unwrap();
    place.docker("d/app.tar", &two_layers());
    let mount = ["mount", "--in-place", "d/app.tar", "target"];
    let mode = |name: &str, mode| fs::set_permissions(place.path(name), Permissions::from_mode(mode)).unwrap();
    let unchanged = |name: &str| fs::metadata(place.path(name)).unwrap().mode();
    for (name, wrong) in [("d/app.tar", 0o666), ("d/app.tar", 0o664), ("d", 0o777), ("d", 0o775)] {
        let before = unchanged(name);
        mode(name, wrong);
        let message = place.refused(&mount);
        assert!(message.contains("can be written to by others") && message.contains("chmod go-w"), "{message}");
        mode(name, before & 0o7777);
    }
    std::os::unix::fs::chown(place.path("d"), Some(1234), None).unwrap();
    assert!(place.refused(&mount).contains("belongs to another user (uid 1234)"));
    std::os::unix::fs::chown(place.path("d"), Some(0), None).unwrap();
    assert!(place.done(&mount).ends_with("read-only, by EROFS\n"));
    // Nothing was copied.
    assert!(place.kept("contents").is_empty());
    assert_eq!(fs::read(place.target().join("d/large")).unwrap(), vec![7; 3000]);
    place.umount();
}

fn verified() {
    let place = place();
    place.docker("app.tar", &two_layers());
    let mount = |verify: &str| place.run(&["mount", "--in-place", "--verify", verify, "app.tar", "target"]);
    let is_mounted = |verify| {
        let output = mount(verify);
        let mounted = output.status.success();
        if mounted {
            place.umount();
        } else {
            assert!(said(&output).contains("diff_id"), "{}", said(&output));
        }
        mounted
    };
    assert!(is_mounted("full") && is_mounted("cached") && is_mounted("none"));
    // One byte of content is another one: nobody sees it but who reads all.
    let archive = File::options().read(true).write(true).open(place.path("app.tar")).unwrap();
    let mut bytes = vec![0; archive.metadata().unwrap().len() as usize];
    archive.read_exact_at(&mut bytes, 0).unwrap();
    let at = bytes.windows(100).position(|window| window == [7; 100]).unwrap() as u64;
    let write = |byte| {
        clock::passes(&place.path("app.tar"));
        archive.write_all_at(&[byte], at).unwrap();
    };
    write(8);
    assert!(!is_mounted("full") && !is_mounted("cached") && is_mounted("none"));
    // What was not read does not count as checked.
    assert!(!is_mounted("cached") && !is_mounted("full"));
    write(7);
    assert!(is_mounted("none") && is_mounted("cached") && is_mounted("full"));
    // A file of the same times, which were put back, is still another one.
    let times = archive.metadata().unwrap().modified().unwrap();
    write(9);
    archive.set_modified(times).unwrap();
    assert!(!is_mounted("cached"));
}

fn only_plain() {
    let place = place();
    let layers = two_layers();
    place.docker("app.tar", &layers);
    fs::write(place.path("layer.tar.gz"), images::gzip(&layers[0])).unwrap();
    fs::write(place.path("app.tar.gz"), images::gzip(&fs::read(place.path("app.tar")).unwrap())).unwrap();
    let message = place.refused(&["mount", "--in-place", "layers:layer.tar.gz", "target"]);
    assert!(message.contains("layer 0 is compressed (gzip)"), "{message}");
    let message = place.refused(&["mount", "--in-place", "app.tar.gz", "target"]);
    assert!(message.contains("layer 0 does not lie in a file of its own"), "{message}");
    let message = place.refused(&["mount", "--in-place", "--backend", "overlay", "app.tar", "target"]);
    assert!(message.contains("--in-place requires --backend erofs"), "{message}");
    // Compressed ones go through the cache.
    place.done(&["mount", "layers:layer.tar.gz", "target"]);
    assert_eq!(place.read("gone"), "x");
    place.umount();
}

fn under_the_mount() {
    let place = place();
    let content = vec![7; 1 << 20];
    place.docker("app.tar", &[Tar::new().file("a", &content).file("b", &content).done()]);
    place.done(&["mount", "--in-place", "app.tar", "target"]);
    let archive = File::options().write(true).open(place.path("app.tar")).unwrap();
    assert_eq!(fs::read(place.target().join("a")).unwrap(), content);
    // The name may go: the mount holds the file.
    fs::rename(place.path("app.tar"), place.path("moved.tar")).unwrap();
    // What was not read yet shows what the file holds now; where it holds nothing, the kernel reports an error.
    archive.set_len(1 << 20).unwrap();
    let read = fs::read(place.target().join("b"));
    assert!(
        read.as_ref().is_err_and(|error| error.raw_os_error() == Some(5)) || read.is_ok_and(|read| read != content)
    );
    place.umount();
}

fn writable() {
    let place = place();
    place.docker("app.tar", &two_layers());
    let options = ["mount", "--upper", "upper", "--work", "work", "app.tar", "target"];
    assert!(place.done(&options).ends_with("writable, by overlayfs over EROFS\n"));
    fs::write(place.target().join("d/new"), "new").unwrap();
    fs::remove_file(place.target().join("small")).unwrap();
    fs::OpenOptions::new().append(true).open(place.target().join("d/large")).unwrap().set_len(10).unwrap();
    assert!(place.done(&["cache", "prune", "--all"]).starts_with("0 removed"));
    place.unmounts("target");
    place.done(&["pack", "upper", "-o", "layer.tar"]);
    place.done(&["flatten", "layers:layer.tar", "packed"]);
    let mut names = Vec::new();
    let mut archive = ::tar::Archive::new(File::open(place.path("layer.tar")).unwrap());
    for entry in archive.entries().unwrap() {
        names.push(entry.unwrap().path().unwrap().to_str().unwrap().trim_matches('/').to_owned());
    }
    names.sort();
    let wanted = [".wh.small", "d", "d/large", "d/new"];
    let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| !matches!(*name, "" | "." | "./")).collect();
    assert_eq!(names, wanted);
    // The same changes over what was mounted anew.
    place.done(&options);
    assert_eq!((place.read("d/new").as_str(), fs::read(place.target().join("d/large")).unwrap().len()), ("new", 10));
    place.umount();
}

fn directory() {
    let place = place();
    place.docker("app.tar", &two_layers());
    for more in [&["--merged"][..], &[]] {
        place.done(&[&["layers", "--backend", "erofs", "app.tar", "images"], more].concat());
        // It needs neither the cache nor its place.
        fs::remove_dir_all(place.path("home/.cache")).unwrap();
        fs::rename(place.path("images"), place.path("moved")).unwrap();
        assert!(place.done(&["mount", "moved", "target"]).ends_with("read-only, by EROFS\n"));
        assert_eq!(place.read("small"), "content");
        assert!(!place.target().join("gone").exists());
        place.umount();
        let options = ["mount", "--upper", "upper", "--work", "work", "moved", "target"];
        assert!(place.done(&options).ends_with("writable, by overlayfs over EROFS\n"));
        fs::write(place.target().join("new"), "").unwrap();
        place.umount();
        for name in ["moved", "upper", "work"] {
            fs::remove_dir_all(place.path(name)).unwrap();
        }
    }
    let said = place.done(&["layers", "--backend", "erofs", "--in-place", "app.tar", "images"]);
    assert!(said.contains("over the image's own archive"), "{said}");
    place.done(&["mount", "images", "target"]);
    assert_eq!(place.read("small"), "content");
    place.umount();
}

fn changed_directory() {
    let place = place();
    place.docker("app.tar", &two_layers());
    place.done(&["layers", "--backend", "erofs", "--merged", "app.tar", "images"]);
    for path in [place.path("images/tree.erofs"), large_data(&place.path("images/contents"))] {
        for change in CHANGES {
            let before = fs::read(&path).unwrap();
            clock::passes(&path);
            change(&path);
            let message = place.refused(&["mount", "images", "target"]);
            let is_said = ["was changed since", "can be written to by others", "belongs to another user"];
            assert!(is_said.iter().any(|said| message.contains(said)), "{path:?}: {message}");
            // The same bytes in another file are what was made, and are read to find that out.
            fs::remove_file(&path).unwrap();
            fs::write(&path, before).unwrap();
            place.done(&["mount", "images", "target"]);
            place.umount();
        }
    }
    fs::set_permissions(place.path("images"), Permissions::from_mode(0o777)).unwrap();
    assert!(place.refused(&["mount", "images", "target"]).contains("can be written to by others"));
}

/// Ways to change a file, with its size and times as they were wherever that can be done.
const CHANGES: [fn(&Path); 6] = [
    |path| as_before(path, || write_at(path, |byte| byte ^ 1)),
    |path| as_before(path, || File::options().write(true).open(path).unwrap().set_len(100).unwrap()),
    |path| as_before(path, || fs::write(path, "").unwrap()),
    // Another file under the same name.
    |path| {
        let other = path.with_extension("other");
        fs::copy(path, &other).unwrap();
        write_at(&other, |byte| byte ^ 1);
        as_before(path, || fs::rename(&other, path).unwrap());
    },
    |path| std::os::unix::fs::chown(path, Some(1234), None).unwrap(),
    |path| fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap(),
];

/// Does something to a file, and puts the times back that a program can set.
fn as_before(path: &Path, change: impl FnOnce()) {
    let before = fs::metadata(path).unwrap();
    clock::passes(path);
    change();
    let times = fs::FileTimes::new().set_modified(before.modified().unwrap()).set_accessed(before.accessed().unwrap());
    File::options().write(true).open(path).unwrap().set_times(times).unwrap();
}

/// Changes a byte of what is shown: of contents the first, of an image one of its root's inode.
fn write_at(path: &Path, change: impl Fn(u8) -> u8) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let at =
        if path.extension().is_some_and(|extension| extension == "erofs" || extension == "other") { 1100 } else { 5 };
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[change(byte[0])], at).unwrap();
}

/// The content file with `d/large` in it: the largest one.
fn large_data(directory: &Path) -> PathBuf {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let data = entries.map(|path| if path.is_dir() { path.join("data") } else { path });
    data.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

/// Whether the target shows the two layers.
fn is_right(place: &Place) {
    assert_eq!(place.read("small"), "content");
    assert_eq!(fs::read(place.target().join("d/large")).unwrap(), vec![7; 3000]);
    assert!(!place.target().join("gone").exists());
}

fn changed_cache() {
    let place = place();
    place.docker("app.tar", &two_layers());
    place.done(&["mount", "app.tar", "target"]);
    place.umount();
    for verify in ["full", "cached", "none"] {
        for change in CHANGES {
            for group in ["contents", "erofs"] {
                let path = match group {
                    "erofs" => place.kept("erofs").remove(0).join("tree.erofs"),
                    _ => large_data(&place.path("home/.cache/layflat/contents")),
                };
                clock::passes(&path);
                change(&path);
                let said = place.done(&["mount", "--verify", verify, "app.tar", "target"]);
                assert!(said.ends_with("by EROFS\n"), "{said}");
                assert_eq!(said.contains("is not as it was made"), group == "contents", "{said}");
                is_right(&place);
                place.umount();
                assert_eq!((place.kept("contents").len(), place.kept("erofs").len()), (2, 1));
            }
        }
    }
}

/// Changes a byte, and notes the file's new stat data wherever the cache has the old ones: what a disk that loses bits looks like.
fn rot(place: &Place, path: &Path) {
    write_at(path, |byte| byte ^ 1);
    let metadata = fs::metadata(path).unwrap();
    let renewed = serde_json::json!({
        "size": metadata.len(), "device": metadata.dev(), "inode": metadata.ino(),
        "mtime": [metadata.mtime(), metadata.mtime_nsec()], "ctime": [metadata.ctime(), metadata.ctime_nsec()],
    });
    let renew = |stamp: &mut serde_json::Value| {
        if stamp["inode"] == metadata.ino() {
            *stamp = renewed.clone();
        }
    };
    let mut notes = vec![place.path("images/layflat.json")];
    notes.extend(place.kept("contents").into_iter().map(|directory| directory.join("seal.json")));
    notes.extend(place.kept("erofs").into_iter().map(|directory| directory.join("layflat.json")));
    for note in notes.into_iter().filter(|note| note.exists()) {
        let mut text: serde_json::Value = serde_json::from_slice(&fs::read(&note).unwrap()).unwrap();
        for name in ["images", "devices"] {
            for file in text.get_mut(name).and_then(|list| list.as_array_mut()).into_iter().flatten() {
                renew(&mut file["stamp"]);
            }
        }
        if text.get("stamp").is_some() {
            renew(&mut text["stamp"]);
        }
        fs::write(&note, serde_json::to_vec(&text).unwrap()).unwrap();
    }
}

fn rotten_cache() {
    let place = place();
    place.docker("app.tar", &two_layers());
    place.done(&["mount", "app.tar", "target"]);
    place.umount();
    let data = || large_data(&place.path("home/.cache/layflat/contents"));
    let image = || place.kept("erofs").remove(0).join("tree.erofs");
    for path in [&data as &dyn Fn() -> PathBuf, &image] {
        rot(&place, &path());
        let text = place.refused(&["cache", "verify"]);
        assert!(text.contains("was changed"), "{text}");
        place.done(&["mount", "--verify", "full", "app.tar", "target"]);
        is_right(&place);
        place.umount();
        place.done(&["cache", "verify"]);
        rot(&place, &path());
        let _ = place.run(&["cache", "verify", "--repair"]);
        place.done(&["mount", "app.tar", "target"]);
        is_right(&place);
        place.umount();
    }
    place.done(&["layers", "--backend", "erofs", "--merged", "app.tar", "images"]);
    place.done(&["mount", "--verify", "full", "images", "target"]);
    place.umount();
    for path in [place.path("images/tree.erofs"), large_data(&place.path("images/contents"))] {
        let before = fs::read(&path).unwrap();
        rot(&place, &path);
        assert!(place.refused(&["mount", "--verify", "full", "images", "target"]).contains("was changed since"));
        fs::write(&path, before).unwrap();
    }
}

fn touched() {
    let place = place();
    place.docker("app.tar", &two_layers());
    place.done(&["mount", "app.tar", "target"]);
    fs::create_dir(place.path("other")).unwrap();
    let data = large_data(&place.path("home/.cache/layflat/contents"));
    let image = place.kept("erofs").remove(0).join("tree.erofs");
    let inodes = || [&data, &image].map(|path| fs::metadata(path).unwrap().ino());
    let before = inodes();
    let ctime = |path: &Path| {
        let metadata = fs::metadata(path).unwrap();
        serde_json::json!([metadata.ctime(), metadata.ctime_nsec()])
    };
    let noted = |path: &Path| serde_json::from_slice::<serde_json::Value>(&fs::read(path).unwrap()).unwrap();
    let sealed = || noted(&data.with_file_name("seal.json"))["stamp"]["ctime"].clone();
    for path in [&data, &image] {
        clock::passes(path);
        File::open(path).unwrap().set_times(fs::FileTimes::new().set_accessed(std::time::SystemTime::now())).unwrap();
        fs::set_permissions(path, fs::metadata(path).unwrap().permissions()).unwrap();
    }
    assert_ne!(sealed(), ctime(&data));
    // It stays in use all the while.
    place.done(&["mount", "app.tar", "other"]);
    assert_eq!(inodes(), before);
    assert_eq!(sealed(), ctime(&data), "it is recognised from now on");
    let notes = noted(&image.with_file_name("layflat.json"));
    for (group, path) in [("devices", &data), ("images", &image)] {
        let stamps: Vec<_> = notes[group].as_array().unwrap().iter().map(|file| &file["stamp"]["ctime"]).collect();
        assert!(stamps.contains(&&ctime(path)), "{notes}");
    }
    umount(&place.path("other"), true).unwrap();
    // One more name of a content file is noted at once.
    place.done(&["layers", "--backend", "erofs", "app.tar", "images"]);
    assert_eq!(sealed(), ctime(&data));
    is_right(&place);
    place.umount();
}

fn changed_and_in_use() {
    let place = place();
    place.docker("app.tar", &two_layers());
    place.done(&["mount", "app.tar", "target"]);
    fs::create_dir(place.path("other")).unwrap();
    for path in
        [large_data(&place.path("home/.cache/layflat/contents")), place.kept("erofs").remove(0).join("tree.erofs")]
    {
        as_before(&path, || write_at(&path, |byte| byte ^ 1));
        let message = place.refused(&["mount", "app.tar", "other"]);
        assert!(message.contains("was changed and is in use: unmount it first"), "{message}");
        as_before(&path, || write_at(&path, |byte| byte ^ 1));
        place.done(&["mount", "app.tar", "other"]);
        umount(&place.path("other"), true).unwrap();
    }
    place.umount();
}

fn copied_directory() {
    let place = place();
    place.docker("app.tar", &two_layers());
    place.done(&["layers", "--backend", "erofs", "app.tar", "images"]);
    let copied = Command::new("cp").args(["-r"]).args([place.path("images"), place.path("copy")]).status().unwrap();
    assert!(copied.success());
    for more in [&[][..], &["--verify", "full"]] {
        place.done(&[&["mount"], more, &["copy", "target"]].concat());
        is_right(&place);
        place.umount();
    }
    let copied = large_data(&place.path("copy/contents"));
    clock::passes(&copied);
    write_at(&copied, |byte| byte ^ 1);
    assert!(place.refused(&["mount", "copy", "target"]).contains("was changed since"));

    place.done(&["layers", "--in-place", "app.tar", "in-place"]);
    place.done(&["mount", "in-place", "target"]);
    place.umount();
    let message = place.refused(&["mount", "--verify", "full", "in-place", "target"]);
    assert!(message.contains("can be checked against the image alone"), "{message}");
    let archive = place.path("app.tar");
    clock::passes(&archive);
    fs::set_permissions(&archive, fs::metadata(&archive).unwrap().permissions()).unwrap();
    assert!(place.refused(&["mount", "in-place", "target"]).contains("was changed since"));

    place.done(&["layers", "app.tar", "unpacked"]);
    let message = place.refused(&["mount", "--verify", "full", "unpacked", "target"]);
    assert!(message.contains("--verify is for EROFS images"), "{message}");
    let message = place.refused(&["mount", "--verify", "full", "--backend", "overlay", "app.tar", "target"]);
    assert!(message.contains("--verify requires --backend erofs"), "{message}");
}

fn measured() {
    let place = place();
    let large = Tar::new().file("large", vec![5; 3_000_001]).file("small", "content").done();
    place.docker("app.tar", &[large]);
    place.done(&["layers", "--backend", "erofs", "--merged", "app.tar", "images"]);
    let text = fs::read(place.path("images/layflat.json")).unwrap();
    let layout: serde_json::Value = serde_json::from_slice(&text).unwrap();
    for (list, name) in [("images", "file"), ("devices", "path")] {
        for file in layout[list].as_array().unwrap() {
            let path = place.path("images").join(file[name].as_str().unwrap());
            let output = tools::command("fsverity").args(["digest", "--compact"]).arg(path).output().unwrap();
            assert_eq!(file["verity"], format!("sha256:{}", said(&output).trim()));
        }
    }
}

fn shared_images_of_layers() {
    let place = place();
    let [base, top] = two_layers().try_into().unwrap();
    // A second name of what a lower layer has brings its contents into the upper one.
    let other = Tar::new().link(::tar::EntryType::Link, "again", "d/large").file("other", "x").done();
    place.docker("one.tar", &[base.clone(), top]);
    place.docker("two.tar", &[base.clone(), other.clone()]);
    place.docker("three.tar", &[other, base]);
    let mounted = |image: &str| {
        let said = place.done(&["mount", "--layered", image, "target"]);
        assert!(said.ends_with("read-only, by EROFS\n"), "{said}");
    };
    let numbers = || {
        let mut numbers: Vec<u64> = place.kept("erofs").iter().map(|path| fs::metadata(path).unwrap().ino()).collect();
        numbers.sort_unstable();
        numbers
    };
    let kept = || (place.kept("contents").len(), place.kept("erofs").len());
    mounted("one.tar");
    is_right(&place);
    // Two layers, and what lists them.
    assert_eq!(kept(), (2, 3));
    assert!(place.done(&["cache", "prune", "--all"]).starts_with("0 removed"));
    place.umount();
    let before = numbers();
    mounted("two.tar");
    assert_eq!(fs::read(place.target().join("again")).unwrap(), vec![7; 3000]);
    let number = |name: &str| fs::metadata(place.target().join(name)).unwrap().ino();
    assert_eq!(number("again"), number("d/large"));
    assert_eq!(place.read("gone"), "x");
    assert_eq!(kept(), (3, 5), "one more layer, and what lists it");
    assert!(before.iter().all(|number| numbers().contains(number)));
    place.umount();
    mounted("two.tar");
    assert_eq!(kept(), (3, 5));
    place.umount();
    // Above other layers it is another one: here the link has no target.
    let message = place.refused(&["mount", "--layered", "three.tar", "target"]);
    assert!(message.contains("d/large"), "{message}");
    // What is damaged is made anew, and nothing else.
    let two: Vec<PathBuf> = place.kept("erofs").into_iter().filter(|path| path.join("tree.erofs").exists()).collect();
    as_before(&two[0].join("tree.erofs"), || write_at(&two[0].join("tree.erofs"), |byte| byte ^ 1));
    mounted("one.tar");
    is_right(&place);
    place.umount();
    mounted("two.tar");
    assert_eq!(fs::read(place.target().join("again")).unwrap(), vec![7; 3000]);
    place.umount();
    assert!(place.done(&["cache", "prune", "--all"]).ends_with("0 bytes left\n") || kept() == (0, 0));
    // An image that changes one directory only has the layers that an overlay needs.
    place.docker("single.tar", &[Tar::new().file("small", "content").done(), Tar::new().done()]);
    mounted("single.tar");
    assert_eq!(place.read("small"), "content");
    place.umount();
    place.done(&["mount", "--layered", "--upper", "upper", "--work", "work", "single.tar", "target"]);
    fs::write(place.target().join("new"), "").unwrap();
    place.umount();
}

fn extremes() {
    let place = place();
    let size: u64 = 60 << 30;
    let mut layer =
        tar::sparse_archive(size, &[(0, &b"first"[..]), ((31 << 30) + 4093, b"third"), (size - 6, b"fourth")]);
    layer.truncate(layer.len() - 1024);
    let long = "n".repeat(255);
    let mut records = Vec::new();
    tar::record(&mut records, b"path", format!("{long}/{long}").as_bytes());
    tar::record(&mut records, b"SCHILY.xattr.user.large", &[b'v'; 65_535]);
    let mut header = ::tar::Header::new_ustar();
    header.set_path("x").unwrap();
    header.set_mode(0o644);
    let mut add = |kind, size: usize, content: &[u8]| {
        header.set_entry_type(kind);
        header.set_size(size as u64);
        header.set_cksum();
        layer.extend_from_slice(header.as_bytes());
        tar::content(&mut layer, content);
    };
    add(::tar::EntryType::XHeader, records.len(), &records);
    add(::tar::EntryType::Regular, 4, b"long");
    layer.extend_from_slice(&[0; 1024]);
    place.docker("app.tar", &[layer]);
    for way in [&["mount"][..], &["mount", "--in-place"], &["mount", "--layered"]] {
        let said = place.done(&[way, &["app.tar", "target"]].concat());
        assert!(said.contains("by EROFS"), "{said}");
        let sparse = File::open(place.target().join("sparse")).unwrap();
        assert_eq!(sparse.metadata().unwrap().len(), size);
        for (at, content) in [(0, &b"first\0\0"[..]), ((31 << 30) + 4090, b"\0\0\0third\0"), (size - 8, b"\0\0fourth")]
        {
            let mut found = vec![1; content.len()];
            sparse.read_exact_at(&mut found, at).unwrap();
            assert_eq!(found, content, "{way:?} at {at}");
        }
        let file = place.target().join(&long).join(&long);
        assert_eq!(fs::read(&file).unwrap(), b"long");
        assert_eq!(xattr::get(&file, "user.large").unwrap().unwrap(), vec![b'v'; 65_535]);
        place.umount();
    }
    let kept: u64 = place.kept("contents").iter().map(|path| fs::metadata(path.join("data")).unwrap().len()).sum();
    assert!(kept < 100_000, "{kept} bytes of contents");
}

fn truncated() {
    let place = place();
    let content = vec![7; 100_000];
    let layer = Tar::new().file("a", &content).file("b", &content).done();
    fs::write(place.path("layer.tar"), &layer[..150_000]).unwrap();
    place.docker("app.tar", &[layer[..150_000].to_vec()]);
    for arguments in [
        &["mount", "layers:layer.tar", "target"][..],
        &["mount", "--layered", "app.tar", "target"],
        &["mount", "--in-place", "app.tar", "target"],
        &["mount", "--in-place", "--verify", "none", "layers:layer.tar", "target"],
    ] {
        let message = place.refused(arguments);
        assert!(message.contains("truncated"), "{arguments:?}: {message}");
    }
    assert!(place.kept("contents").is_empty());
    assert!(place.kept("erofs").is_empty());
}

/// Runs the program where the cache is on a tmpfs, in a mount namespace of its own, and lets the target be looked at there.
fn on_tmpfs(place: &Place, more: &'static [&'static str], has_programs: bool, arguments: &str) -> Output {
    let cache = place.path("home/.cache");
    fs::create_dir_all(&cache).unwrap();
    let mut command = Command::new("/bin/sh");
    let layflat = assert_cmd::cargo::cargo_bin!("layflat");
    command.args(["-c", &format!("{} {arguments} && cat target/small && {0} umount target", layflat.display())]);
    command.env("XDG_CACHE_HOME", &cache).current_dir(place.directory());
    command.env("TMPDIR", more.first().unwrap_or(&"/tmp"));
    if !has_programs {
        command.env("PATH", place.path("no-programs"));
    }
    // Children are in the namespace of the thread that starts them.
    run::with_own_mounts("on tmpfs", || {
        for directory in [cache.as_path()].into_iter().chain(more.iter().map(Path::new)) {
            mount("tmpfs", directory, "tmpfs", MountFlags::empty(), c"mode=755").unwrap();
        }
        command.output().unwrap()
    })
}

fn no_block_device() {
    let place = place();
    place.docker("app.tar", &two_layers());
    let output = on_tmpfs(&place, &[], true, "mount app.tar target");
    assert!(output.status.success(), "{}", said(&output));
    let said = said(&output);
    assert!(said.contains("read-only, by EROFS\n") && said.contains("content"), "{said}");
}

fn loop_devices() {
    let place = place();
    place.docker("app.tar", &two_layers());
    let disk = place.write("disk", vec![0; 1 << 20]);
    let tried = Command::new("losetup").args(["--find", "--show", "--read-only"]).arg(disk).output();
    match tried {
        Ok(output) if output.status.success() => {
            let device = String::from_utf8(output.stdout).unwrap();
            Command::new("losetup").args(["--detach", device.trim()]).status().unwrap();
        }
        _ => tools::impossible("there are no loop devices"),
    }
    let output = on_tmpfs(&place, &["/var/tmp", "/var/lib"], true, "mount --backend erofs app.tar target");
    let said = said(&output);
    assert!(said.contains("read-only, by EROFS\n") && said.contains("content"), "{said}");
}

fn falls_back() {
    let place = place();
    place.docker("app.tar", &two_layers());
    // No file system with a block device that is ours, and no losetup.
    let output = on_tmpfs(&place, &["/var/tmp", "/var/lib"], false, "mount app.tar target");
    let text = said(&output);
    assert!(text.contains("note: the layers were unpacked, since EROFS cannot be used: "), "{text}");
    assert!(text.contains("read-only, by overlayfs\n"), "{text}");
    for must in ["--backend erofs", "--in-place"] {
        let text = said(&on_tmpfs(&place, &["/var/tmp", "/var/lib"], false, &format!("mount {must} app.tar target")));
        assert!(text.contains("EROFS cannot be used: ") && !text.contains("mounted on"), "{text}");
    }
}

fn beyond_limits() {
    let place = place();
    // An inode's attributes have 64 KiB, besides the 255 that it may share.
    let mut records = Vec::new();
    for number in 0..1500 {
        tar::record(&mut records, format!("SCHILY.xattr.user.{number}").as_bytes(), &[b'v'; 100]);
    }
    let mut layer = Vec::new();
    let mut header = ::tar::Header::new_ustar();
    header.set_path("many").unwrap();
    header.set_mode(0o644);
    for (kind, content) in [(::tar::EntryType::XHeader, &records[..]), (::tar::EntryType::Regular, b"content")] {
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_cksum();
        layer.extend_from_slice(header.as_bytes());
        tar::content(&mut layer, content);
    }
    layer.extend_from_slice(&[0; 1024]);
    fs::write(place.path("layer.tar"), &layer).unwrap();
    let text = place.done(&["mount", "layers:layer.tar", "target"]);
    assert!(text.contains("note: the layers were unpacked, since ") && text.contains("by overlayfs"), "{text}");
    assert_eq!(place.read("many"), "content");
    place.umount();
    let message = place.refused(&["mount", "--backend", "erofs", "layers:layer.tar", "target"]);
    assert!(message.contains("many"), "{message}");
}

fn many_layers() {
    let place = place();
    let layers: Vec<Vec<u8>> = (0..600).map(|n| Tar::new().file(&format!("f{n}"), format!("{n}")).done()).collect();
    place.docker("app.tar", &layers);
    for more in [&["--in-place"][..], &["--no-sync"]] {
        place.done(&[&["mount"], more, &["app.tar", "target"]].concat());
        assert_eq!(fs::read_dir(place.target()).unwrap().count(), 600);
        assert_eq!((place.read("f0").as_str(), place.read("f599").as_str()), ("0", "599"));
        place.umount();
    }
}

fn targets() {
    let place = place();
    place.docker("app.tar", &two_layers());
    place.done(&["mount", "app.tar", "target"]);
    assert!(place.refused(&["mount", "app.tar", "target"]).contains("already mounted"));
    let open = File::open(place.target().join("small")).unwrap();
    assert!(place.refused(&["umount", "target"]).contains("in use"));
    place.done(&["umount", "--lazy", "target"]);
    drop(open);
    assert!(place.refused(&["umount", "target"]).contains("not a mount point"));
}
