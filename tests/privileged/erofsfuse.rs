//! EROFS images mounted by erofsfuse, by the program as an ordinary user runs it, and as root does: that they show what the specification says, and what
//! becomes of them when things go wrong.
//!
//! Root runs this program twice more, with an erofsfuse on the PATH: as root, and as an ordinary user in no user namespace. An ordinary user's run
//! needs erofsfuse on the PATH, and a /dev/fuse that may be opened.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Failed;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::cases::{self, Case, Expected, compare};
use crate::common::harness::{self, Test, Trial};
use crate::common::images::Tar;
use crate::common::place::{Place, layflat, said};
use crate::common::text::Stack;
use crate::common::tree::Tree;
use crate::common::unmount::Unmounts as _;
use crate::common::{fuse, oracle, place, run, tar, tools, wait};
use crate::erofs_mounts::{Target as _, place, two_layers};
use crate::squashfs;

/// Set for the runs that this program starts.
const INSIDE: &str = "LAYFLAT_TEST_EROFSFUSE";
/// Who the ordinary user is: fusermount3 wants a name.
const NOBODY: u32 = 65_534;

/// As an ordinary user.
const TESTS: &[Test] = &[
    ("an_ordinary_user_mounts_an_image_without_unpacking_it", false, without_unpacking),
    ("an_archive_is_mounted_in_place", false, in_place),
    ("awkward_names_numbers_and_attributes_are_shown", false, awkward),
    ("two_hundred_and_fifty_six_layers_are_one_mount_and_more_are_refused", false, many_layers),
    ("a4_fractions_of_a_second_are_reported", false, fractions),
    ("c7_a_directory_of_images_is_mounted_if_it_was_made_for_erofsfuse", false, directories),
    ("c7_in_a_user_namespace_layers_are_mounted_as_before", false, user_namespace),
    ("what_it_cannot_do_is_refused_at_once", false, refused),
    ("where_it_cannot_be_used_the_message_says_why", false, unusable),
    ("what_the_program_says_is_reported_and_nothing_is_left", false, failing),
    ("a_mount_in_use_stays_and_is_detached_when_asked", false, busy),
    ("a_mount_whose_program_died_is_known_and_unmounted", false, died),
    ("s2_a_mount_that_is_killed_is_whole_or_not_there", false, killed),
];

pub(crate) fn trials() -> Vec<Trial> {
    let is_root = run::is_root();
    if std::env::var_os(INSIDE).is_some() {
        return if is_root { as_root() } else { as_user(false) };
    }
    let can = can_run(is_root);
    if let Err(reason) = &can {
        eprintln!("erofsfuse: tests count as ignored: {reason}");
    }
    if !is_root {
        return as_user(can.is_err());
    }
    let again = |name: &str, user: Option<u32>| {
        let program = can.clone().unwrap_or_default();
        Trial::test(name, move || again(&program, user)).with_ignored_flag(can.is_err())
    };
    vec![again("all_again_as_an_ordinary_user", Some(NOBODY)), again("all_again_as_root", None)]
}

fn as_user(ignored: bool) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (number, case) in cases::all().into_iter().enumerate() {
        for in_place in cases::in_turn(number, &[false, true]) {
            let own = case.clone();
            let name = format!("{}::{}", case.name, if in_place { "InPlace" } else { "ContentFiles" });
            trials.push(Trial::test(name, move || check(&own, in_place)));
        }
    }
    trials.extend(harness::trials(TESTS));
    trials.into_iter().map(|trial| if ignored { trial.with_ignored_flag(true) } else { trial }).collect()
}

/// Only root sees attributes in `trusted.`.
fn as_root() -> Vec<Trial> {
    let is_for_root = |case: &Case| matches!(&case.expected, Expected::Tree(tree) if tree.contains("trusted."));
    let cases = cases::all().into_iter().filter(is_for_root);
    let mut trials: Vec<Trial> =
        cases.map(|case| Trial::test(case.name.clone(), move || check(&case, false))).collect();
    trials.push(Trial::test("awkward_names_numbers_and_attributes_are_shown", || {
        awkward();
        Ok(())
    }));
    trials.push(Trial::test("what_root_mounts_is_there_for_others_as_far_as_modes_allow", for_others));
    trials
}

/// The directory of the program, or why these tests cannot be run.
fn can_run(is_root: bool) -> Result<PathBuf, String> {
    let name = "erofsfuse";
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(name);
    let program = match (tools::is_installed(name), is_root && fetched.join(name).is_file()) {
        (true, _) => PathBuf::new(),
        (false, true) => fetched,
        (false, false) => {
            return Err(
                "erofsfuse is not installed (Debian package erofsfuse; scripts/get-erofsfuse fetches it)".into()
            );
        }
    };
    if !tools::is_installed("fusermount3") {
        return Err("fusermount3 is not installed (Debian package fuse3)".into());
    }
    if is_root {
        fuse::open_to_all().map_err(|error| format!("/dev/fuse: {error}"))?;
    }
    fuse::is_usable().map(|()| program)
}

/// Runs this program once more.
fn again(program: &Path, user: Option<u32>) -> Result<(), Failed> {
    let shared = tempfile::tempdir()?;
    let open = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o755));
    open(shared.path())?;
    // All of it may lie where only root can go.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copies =
        [(std::env::current_exe()?, "program"), (layflat(), "layflat"), (here.join("fixtures/stacks"), "stacks")];
    for (from, name) in &copies {
        copy(from, &shared.path().join(name))?;
    }
    fs::create_dir(shared.path().join("fixtures"))?;
    symlink("../stacks", shared.path().join("fixtures/stacks"))?;
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    if !program.as_os_str().is_empty() {
        let own = shared.path().join("erofsfuse");
        copy(program, &own)?;
        path = std::env::join_paths(std::iter::once(own).chain(std::env::split_paths(&path)))?;
    }
    let home = shared.path().join("home");
    fs::create_dir(&home)?;
    chown(&home, user, user)?;
    let mut command = Command::new(shared.path().join("program"));
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let output = command
        .current_dir("/")
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .env("PATH", path)
        .env("CARGO_MANIFEST_DIR", shared.path())
        .env(INSIDE, "1")
        .env(place::PROGRAM, shared.path().join("layflat"))
        .envs([harness::only("erofsfuse")])
        .output()?;
    if !output.status.success() {
        return Err(said(&output).into());
    }
    let left: Vec<_> = fs::read_dir(&home)?.map(|entry| entry.unwrap().file_name()).collect();
    if left.is_empty() { Ok(()) } else { Err(format!("left behind: {left:?}").into()) }
}

fn copy(from: &Path, to: &Path) -> Result<(), Failed> {
    let done = Command::new("cp").args(["-r", "--no-preserve=ownership"]).arg(from).arg(to).status()?;
    let opened = Command::new("chmod").args(["-R", "a+rX"]).arg(to).status()?;
    if done.success() && opened.success() { Ok(()) } else { Err(format!("cannot copy {from:?}").into()) }
}

const MOUNT: [&str; 3] = ["mount", "app.tar", "target"];

/// What a stack must show: erofsfuse has whole seconds, and who is not root sees nothing in `trusted.`.
fn as_shown(mut tree: Tree) -> Tree {
    let is_root = run::is_root();
    for node in tree.0.values_mut() {
        node.attributes.mtime.1 = 0;
        node.attributes.xattrs.retain(|name, _| is_root || !name.starts_with(b"trusted."));
    }
    tree
}

fn show(archives: &[Vec<u8>], more: &[&str]) -> Result<Tree, String> {
    let place = place();
    place.docker("app.tar", archives);
    let output = place.run(&[&MOUNT[..], &["--backend", "erofsfuse"], more].concat());
    if !output.status.success() {
        return Err(said(&output));
    }
    let tree = Tree::of_directory(&place.target());
    place.unmounts("target");
    Ok(tree)
}

fn check(case: &Case, in_place: bool) -> Result<(), Failed> {
    let archives: Vec<Vec<u8>> = case.stack.0.iter().map(tar::archive).collect();
    let more: &[&str] = if in_place { &["--in-place"] } else { &[] };
    match (&case.expected, show(&archives, more)) {
        (Expected::Reject(words), Err(error)) if error.contains(words) => Ok(()),
        (Expected::Tree(tree), Ok(found)) => compare(&as_shown(Tree::parse(tree)), &found),
        (expected, found) => Err(format!("expected {expected:?}, found {found:?}").into()),
    }
}

fn awkward() {
    let stack = Stack(vec![squashfs::layer()]);
    let archives: Vec<Vec<u8>> = stack.0.iter().map(tar::archive).collect();
    let found = show(&archives, &[]).unwrap();
    let mut expected = as_shown(oracle::show(&stack).unwrap());
    if !run::is_root() {
        // The kernel lists the attributes of links and pipes, but not to everybody.
        expected.0.values_mut().for_each(|node| node.attributes.mtime.1 = 0);
    }
    compare(&expected, &found).unwrap();
}

/// The line of the list of mounts for the target.
fn mounted(place: &Place) -> Option<String> {
    let target = format!(" {} ", place.target().canonicalize().unwrap_or_else(|_| place.target()).display());
    fs::read_to_string("/proc/thread-self/mountinfo")
        .unwrap()
        .lines()
        .find(|line| line.contains(&target))
        .map(str::to_owned)
}

/// So many things are in the cache, and nothing keeps them: but a copy of the mount may be in a namespace that a test beside this one has made.
fn all_goes(place: &Place, count: usize) {
    let mut removed = 0;
    wait::until("something is in use", || {
        removed += place.json(&["cache", "prune", "--all"])["removed"].as_array().unwrap().len();
        removed == count
    });
}

fn without_unpacking() {
    let place = place();
    let more = Tar::new().mode("owned", 0o4750, (1234, 5), "text").mode("secret", 0o600, (0, 0), "own").done();
    place.docker("app.tar", &[two_layers(), vec![more]].concat());
    for _ in 0..2 {
        assert_eq!(place.done(&MOUNT), "app.tar mounted on target, read-only, by erofsfuse\n");
        assert_eq!(place.read("small"), "content");
        assert_eq!(fs::read(place.target().join("d/large")).unwrap(), vec![7; 3000]);
        assert!(!place.target().join("gone").exists());
        fs::write(place.target().join("new"), "").unwrap_err();
        // Owners are the image's, and nothing is secret from whom it belongs to.
        let owned = fs::metadata(place.target().join("owned")).unwrap();
        assert_eq!((owned.uid(), owned.gid(), owned.mode() & 0o7777), (1234, 5, 0o4750));
        assert_eq!(place.read("secret"), "own");
        let line = mounted(&place).unwrap();
        assert!(line.contains(" ro,nosuid,nodev") && line.contains(" - fuse.erofsfuse "), "{line}");
        assert_eq!((place.kept("contents").len(), place.kept("erofs").len()), (3, 1));
        assert!(place.kept("layers").is_empty() && place.kept("images").is_empty());
        let listed = place.done(&["cache", "ls"]);
        assert_eq!(listed.matches("in use").count(), 4, "{listed}");
        assert!(place.done(&["cache", "prune", "--all"]).starts_with("0 removed"));
        assert_eq!(place.read("small"), "content");
        assert_eq!(place.kept("mounts").len(), 1);
        assert!(place.unmounts("target").contains("unmounted"));
        assert!(place.kept("mounts").is_empty());
        assert!(mounted(&place).is_none());
    }
    all_goes(&place, 4);
    let json = place.done(&["mount", "--json", "app.tar", "target"]);
    assert!(json.contains("\"backend\": \"erofsfuse\"") || json.contains("\"backend\":\"erofsfuse\""), "{json}");
    place.unmounts("target");
}

fn in_place() {
    let place = place();
    place.docker("app.tar", &two_layers());
    let mount = [&MOUNT[..], &["--in-place"]].concat();
    for verify in [&[][..], &["--verify", "none"], &["--verify", "cached"], &["--verify", "full"]] {
        assert!(place.done(&[&mount[..], verify].concat()).ends_with("read-only, by erofsfuse\n"));
        assert_eq!(place.read("small"), "content");
        assert_eq!(fs::read(place.target().join("d/large")).unwrap(), vec![7; 3000]);
        place.unmounts("target");
    }
    assert!(place.kept("contents").is_empty());
    // Nobody else may be able to write it (rule C3).
    fs::set_permissions(place.path("app.tar"), Permissions::from_mode(0o666)).unwrap();
    let message = place.refused(&mount);
    assert!(message.contains("app.tar"), "{message}");
}

fn many_layers() {
    let place = place();
    let layer = |index: usize| Tar::new().file(&format!("f{index}"), format!("{index}")).done();
    let layers: Vec<Vec<u8>> = (0..257).map(layer).collect();
    place.docker("app.tar", &layers);
    let message = place.refused(&MOUNT);
    assert!(message.contains("257 files") && message.contains("at most 256"), "{message}");
    assert!(mounted(&place).is_none());
    for (layers, in_place) in [(&layers[..256], &[][..]), (&layers, &["--in-place"])] {
        place.docker("app.tar", layers);
        place.done(&[&MOUNT[..], in_place].concat());
        for index in 0..layers.len() {
            assert_eq!(place.read(&format!("f{index}")), format!("{index}"));
        }
        place.unmounts("target");
    }
}

fn fractions() {
    let place = place();
    let stack = Stack::parse("F whole(text,m=5), F part(text,m=5.5), D d(m=7.000000001)");
    let archives: Vec<Vec<u8>> = stack.0.iter().map(tar::archive).collect();
    place.docker("app.tar", &archives);
    for _ in 0..2 {
        let said = place.done(&MOUNT);
        assert!(said.contains("erofsfuse shows whole seconds") && said.contains("2 files"), "{said}");
        let part = fs::metadata(place.target().join("part")).unwrap();
        assert_eq!((part.mtime(), part.mtime_nsec()), (5, 0));
        place.unmounts("target");
    }
    let message = place.refused(&[&MOUNT[..], &["--strict"]].concat());
    assert!(message.contains("refused by --strict"), "{message}");
}

fn directories() {
    let place = place();
    place.docker("app.tar", &two_layers());
    place.done(&["layers", "--backend", "erofsfuse", "app.tar", "good"]);
    fs::remove_dir_all(place.path("home/.cache")).unwrap();
    for more in [&[][..], &["--backend", "erofsfuse"], &["--verify", "full"]] {
        let said = place.done(&[&["mount", "good", "target"][..], more].concat());
        assert_eq!(said, "good mounted on target, read-only, by erofsfuse\n");
        assert_eq!(place.read("small"), "content");
        place.unmounts("target");
    }
    place.done(&["layers", "--backend", "erofs", "--merged", "app.tar", "merged"]);
    place.done(&["layers", "--backend", "erofs", "app.tar", "layered"]);
    place.done(&["layers", "app.tar", "unpacked"]);
    for (directory, why) in [
        ("merged", "would misread these EROFS images"),
        ("layered", "mounts one image"),
        ("unpacked", "mounts images, and these layers are unpacked"),
    ] {
        let message = place.refused(&["mount", "--backend", "erofsfuse", directory, "target"]);
        assert!(message.contains(why), "{message}");
        assert!(mounted(&place).is_none());
    }
    let message = place.refused(&["mount", "merged", "target"]);
    assert!(message.contains("layflat layers --backend erofsfuse"), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
}

fn user_namespace() {
    tools::need_user_namespace();
    let place = place();
    place.docker("app.tar", &two_layers());
    let said = place.done(&["unshare", "--mount", "app.tar:target", "--", "cat", "target/small"]);
    assert!(said.contains("read-only, by overlayfs") && said.contains("content"), "{said}");
    let layflat = layflat();
    let inside = ["unshare", "--", layflat.to_str().unwrap(), "mount", "--backend", "erofsfuse", "app.tar", "target"];
    let message = place.refused(&inside);
    assert!(message.contains("not used in a user namespace"), "{message}");
}

fn refused() {
    let place = place();
    place.docker("app.tar", &two_layers());
    let backend = ["--backend", "erofsfuse"];
    for arguments in [
        &["mount", "app.tar", "target", "--upper", "up", "--work", "work"][..],
        &["mount", "app.tar", "target", "--layered"],
        &["bundle", "--overlay", "app.tar", "bundle"],
        &["unshare", "--mount", "app.tar:target", "true"],
    ] {
        let (command, rest) = arguments.split_first().unwrap();
        let message = place.refused(&[&[*command], &backend[..], rest].concat());
        assert!(message.contains("--backend erofsfuse is for mount"), "{message}");
    }
    for arguments in [&["--record-ownership"][..], &["--uid-map", "0:5:1"]] {
        // As without erofsfuse.
        let message = place.refused(&[&MOUNT[..], arguments].concat());
        assert!(message.contains("not permitted to mount"), "{message}");
    }
    assert!(place.kept("erofs").is_empty() && place.kept("contents").is_empty());
}

/// A program of this name, in a directory of its own.
fn pretend(place: &Place, script: &str) -> String {
    let directory = place.path("programs");
    fs::create_dir_all(&directory).unwrap();
    let program = directory.join("erofsfuse");
    // Written by another process, or it might still be open for writing in a third one when it is started.
    let write = "printf '%s\n' '#!/bin/sh' \"$1\" > \"$2\" && chmod 755 \"$2\"";
    assert!(Command::new("sh").args(["-c", write, "sh", script]).arg(&program).status().unwrap().success());
    format!("{}:/usr/bin:/bin", directory.display())
}

fn unusable() {
    let place = place();
    place.docker("app.tar", &two_layers());
    let refused = |path: &str, arguments: &[&str]| {
        let output = place.layflat(arguments).env("PATH", path).output().unwrap();
        assert!(!output.status.success());
        let message = said(&output);
        assert_eq!(message.lines().count(), 1, "{message}");
        message
    };
    let message = refused("/nowhere", &MOUNT);
    for part in ["not permitted to mount", "erofsfuse is not installed (package erofsfuse)", "layflat unshare --mount"]
    {
        assert!(message.contains(part), "{message}");
    }
    let backend = [&MOUNT[..], &["--backend", "erofsfuse"]].concat();
    let message = refused("/nowhere", &backend);
    assert_eq!(message, "layflat: erofsfuse is not installed (package erofsfuse)\n");
    let old = pretend(&place, "echo erofsfuse 1.5; exit 1");
    let message = refused(&old, &backend);
    assert_eq!(message, "layflat: erofsfuse 1.5 is too old: 1.8 or later is needed\n");
    let other = pretend(&place, "echo something else");
    assert!(refused(&other, &backend).contains("1.8 or later"));
    // Nothing was read for it.
    assert!(place.kept("contents").is_empty());
}

fn failing() {
    let place = place();
    place.docker("app.tar", &two_layers());
    // As the real one does, it says that it has succeeded.
    let path = pretend(&place, "echo erofsfuse 1.8.6; [ $# -gt 1 ] || exit 1; echo fusermount3: no room >&2; exit 0");
    let output = place.layflat(&MOUNT).env("PATH", path).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(said(&output), "layflat: erofsfuse failed: fusermount3: no room\n");
    assert!(mounted(&place).is_none());
    // The real one.
    let message = place.refused(&["mount", "app.tar", "/usr"]);
    assert!(message.contains("erofsfuse failed: fusermount3: ") && message.contains("/usr"), "{message}");
    place.done(&MOUNT);
    let message = place.refused(&MOUNT);
    assert!(message.contains("something is already mounted on target"), "{message}");
    place.unmounts("target");
    // What was recorded of mounts that came to nothing keeps nothing.
    all_goes(&place, 3);
}

fn busy() {
    let place = place();
    place.docker("app.tar", &two_layers());
    place.done(&MOUNT);
    let open = File::open(place.target().join("small")).unwrap();
    let message = place.refused(&["umount", "target"]);
    assert!(message.contains("target is in use") && message.contains("--lazy"), "{message}");
    assert_eq!(place.read("small"), "content");
    place.done(&["umount", "--lazy", "target"]);
    assert_eq!(std::io::read_to_string(open).unwrap(), "content");
    assert!(mounted(&place).is_none());
}

/// The processes that are in a place, or whose arguments name something in it: what is being started has the arguments of who starts it.
fn processes(place: &Place) -> Vec<Pid> {
    let mark = place.directory().to_str().unwrap().as_bytes().to_owned();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let of = |entry: fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let is_there = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == place.directory());
        let is_one = is_there || line.windows(mark.len()).any(|window| window == mark);
        is_one.then(|| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)).flatten()
    };
    entries.filter_map(of).collect()
}

fn died() {
    let place = place();
    place.docker("app.tar", &two_layers());
    place.done(&MOUNT);
    for process in processes(&place) {
        kill_process(process, Signal::KILL).unwrap();
    }
    wait::until("the mount is served", || fs::read_dir(place.target()).is_err());
    let message = place.refused(&MOUNT);
    assert!(message.contains("something is already mounted on target"), "{message}");
    assert!(place.unmounts("target").contains("unmounted"));
    assert!(mounted(&place).is_none() && place.kept("mounts").is_empty());
    place.done(&MOUNT);
    assert_eq!(place.read("small"), "content");
    place.unmounts("target");
}

fn killed() {
    let place = place();
    let layer = |letter: &str| {
        (0..100).fold(Tar::new(), |tar, index| tar.file(&format!("{letter}/{index}"), vec![index as u8; 5000])).done()
    };
    place.docker("app.tar", &["a", "b"].map(layer));
    for step in 0..16 {
        let mut child = place.layflat(&[&["-q"], &MOUNT[..]].concat()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(step * 5));
        let _ = child.kill();
        child.wait().unwrap();
        // What was started goes on by itself, and ends if it cannot.
        wait::until("it goes on without a mount", || mounted(&place).is_some() || processes(&place).is_empty());
        if mounted(&place).is_some() {
            assert_eq!(fs::read(place.target().join("b/99")).unwrap(), vec![99; 5000]);
            place.unmounts("target");
        }
    }
    place.done(&MOUNT);
    assert_eq!(fs::read(place.target().join("b/99")).unwrap(), vec![99; 5000]);
    place.unmounts("target");
}

/// As root.
fn for_others() -> Result<(), Failed> {
    let place = place();
    fs::set_permissions(place.directory(), Permissions::from_mode(0o755))?;
    let layer = Tar::new().mode("open", 0o644, (0, 0), "open").mode("secret", 0o600, (0, 0), "secret").done();
    place.docker("app.tar", &[layer]);
    let cat = |name: &str| {
        let mut command = Command::new("cat");
        command.arg(place.target().join(name)).uid(NOBODY).gid(NOBODY);
        command.output().unwrap()
    };
    for (more, flags) in [(&[][..], " ro,relatime"), (&["--nosuid", "--nodev"], " ro,nosuid,nodev,relatime")] {
        place.done(&[&MOUNT[..], &["--backend", "erofsfuse"], more].concat());
        let line = mounted(&place).unwrap();
        assert!(line.contains(flags), "{line}");
        assert_eq!(place.read("secret"), "secret");
        assert_eq!(said(&cat("open")), "open");
        assert!(!cat("secret").status.success());
        place.unmounts("target");
    }
    Ok(())
}
