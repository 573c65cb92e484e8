//! What is taken out of an image without unpacking it: files (`cp`), lines (`grep`), what it says to run (`flatten --config`).

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, not their helpers")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use layflat::core::stack::Last;
use layflat::extract::Extractor;
use layflat::inspect::index::indexes;
use layflat::transport::source::OpenOptions;
use layflat::{NoProgress, Options, Progress};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::images::Tar;

/// Two layers in `a.tar` and `b.tar`: directories, links, a setuid file, and what the second one changes and deletes.
fn place() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let lower = Tar::new()
        .directory("etc")
        .file("etc/motd", "welcome\nto the\tmachine\n")
        .file("etc/gone", "password = hunter2\n")
        .file("etc/changed", "old\n")
        .directory("usr")
        .directory("usr/lib")
        .file("usr/lib/x.so", b"\x7fELF\0\0 password in a binary")
        .mode("usr/su", 0o4755, (0, 0), "su")
        .symlink("lib", "usr/lib")
        .symlink("outside", "/etc/passwd")
        .link(tar::EntryType::Link, "twin", "etc/motd")
        .done();
    let upper = Tar::new().file("etc/.wh.gone", "").file("etc/changed", "new \x1b[31m line\nlast without end").done();
    fs::write(place.path().join("a.tar"), lower).unwrap();
    fs::write(place.path().join("b.tar"), upper).unwrap();
    place
}

const IMAGE: &str = "layers:a.tar,b.tar";

fn layflat(place: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("layflat"));
    command.current_dir(place.path()).env("XDG_CACHE_HOME", place.path().join("cache")).args(arguments);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn copied(place: &TempDir, arguments: &[&str]) {
    let output = layflat(place, &[&["cp", "--quiet"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
}

fn refused(place: &TempDir, arguments: &[&str], words: &str) {
    let before = names(place.path());
    let output = layflat(place, &[&["cp"], arguments].concat());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert!(said.contains(words), "{arguments:?}: {said}");
    assert_eq!(names(place.path()), before, "something was left by {arguments:?}");
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "cache");
    names.sort();
    names
}

fn of(path: &str) -> String {
    format!("{IMAGE}:{path}")
}

#[test]
fn cp_makes_a_new_name_or_copies_into_a_directory() {
    let place = place();
    let at = |name: &str| place.path().join(name);
    copied(&place, &[&of("/etc/motd"), "new"]);
    assert_eq!(fs::read_to_string(at("new")).unwrap(), "welcome\nto the\tmachine\n");
    // From the root, with or without a slash.
    fs::create_dir(at("into")).unwrap();
    copied(&place, &[&of("etc/motd"), &of("/usr"), "into"]);
    assert_eq!(names(&at("into")), ["motd", "usr"]);
    assert_eq!(names(&at("into/usr")), ["lib", "su"]);
    // Where the owner cannot be kept, set-id bits are not, either.
    let kept = if rustix::process::geteuid().is_root() { 0o7777 } else { 0o777 };
    assert_eq!(fs::metadata(at("into/usr/su")).unwrap().permissions().mode() & kept, 0o4755 & kept);
    copied(&place, &[&of("/etc"), "as-another"]);
    assert_eq!(names(&at("as-another")), ["changed", "motd"]);
    copied(&place, &[&of("/"), "all"]);
    assert_eq!(names(&at("all")), ["etc", "lib", "outside", "twin", "usr"]);
    assert_eq!(fs::metadata(at("all/twin")).unwrap().ino(), fs::metadata(at("all/etc/motd")).unwrap().ino());
    copied(&place, &[&of("/twin"), "only-twin"]);
    assert_eq!(fs::metadata(at("only-twin")).unwrap().nlink(), 1);
}

#[test]
fn cp_follows_links_inside_the_image_only_on_the_way() {
    let place = place();
    let at = |name: &str| place.path().join(name);
    copied(&place, &[&of("/lib/x.so"), "x.so"]);
    assert_eq!(fs::read(at("x.so")).unwrap(), b"\x7fELF\0\0 password in a binary");
    copied(&place, &[&of("/lib"), "link"]);
    assert_eq!(fs::read_link(at("link")).unwrap(), Path::new("usr/lib"));
    copied(&place, &[&of("/lib/"), "directory"]);
    assert_eq!(names(&at("directory")), ["x.so"]);
    // As it is: nothing of this machine is read.
    copied(&place, &[&of("/outside"), "outside"]);
    assert_eq!(fs::read_link(at("outside")).unwrap(), Path::new("/etc/passwd"));
    refused(&place, &[&of("/outside/"), "passwd"], "is not in the image");
}

#[test]
fn cp_reaches_what_later_layers_delete() {
    let place = place();
    refused(&place, &[&of("/etc/gone"), "gone"], "deleted by layer 1: --layer 0 copies it");
    refused(&place, &[&of("/never"), "never"], "no layer has it");
    copied(&place, &["--layer", "0", &of("/etc/gone"), &of("/etc/changed"), "."]);
    assert_eq!(fs::read_to_string(place.path().join("gone")).unwrap(), "password = hunter2\n");
    assert_eq!(fs::read_to_string(place.path().join("changed")).unwrap(), "old\n");
    refused(&place, &["--layer", "7", &of("/etc"), "x"], "there is no layer 7");
}

#[test]
fn cp_replaces_only_what_it_is_told_to() {
    let place = place();
    let at = |name: &str| place.path().join(name);
    fs::write(at("motd"), "mine").unwrap();
    fs::create_dir_all(at("etc/mine")).unwrap();
    refused(&place, &[&of("/etc/motd"), "."], "exists already; --replace replaces it");
    refused(&place, &[&of("/etc"), "."], "exists already; --replace replaces it");
    refused(&place, &[&of("/etc/motd"), "motd"], "exists already");
    assert_eq!(fs::read_to_string(at("motd")).unwrap(), "mine");
    copied(&place, &["--replace", &of("/etc/motd"), &of("/etc"), "."]);
    assert_eq!(fs::read_to_string(at("motd")).unwrap(), "welcome\nto the\tmachine\n");
    assert_eq!(names(&at("etc")), ["changed", "motd"]);
    // A file never takes the place of a directory, nor a directory that of a file.
    fs::create_dir(at("motd.d")).unwrap();
    fs::create_dir(at("motd.d/motd")).unwrap();
    let output = layflat(&place, &["cp", "--replace", &of("/etc/motd"), "motd.d"]);
    assert!(!output.status.success() && at("motd.d/motd").is_dir());
    let output = layflat(&place, &["cp", "--replace", &of("/etc"), "motd"]);
    assert!(!output.status.success() && at("motd").is_file());
    // Nor the image.
    refused(&place, &["--replace", &of("/etc/motd"), "a.tar"], "would remove its own source");
    assert_eq!(names(place.path()), ["a.tar", "b.tar", "etc", "motd", "motd.d"]);
}

/// One that only has the name of what is copied may come out of an image: where it leads is no business of the copy.
#[test]
fn cp_never_follows_a_link_that_the_user_did_not_name() {
    let place = place();
    let at = |name: &str| place.path().join(name);
    fs::create_dir(at("out")).unwrap();
    fs::create_dir(at("victims")).unwrap();
    fs::write(at("victim"), "precious").unwrap();
    fs::write(at("victims/victim"), "precious").unwrap();
    fs::write(at("app.tar"), Tar::new().directory("etc").file("etc/app.conf", "new").done()).unwrap();
    symlink("../victim", at("out/app.conf")).unwrap();
    symlink("../victims", at("out/etc")).unwrap();
    let is_unharmed = || {
        assert_eq!(fs::read_to_string(at("victim")).unwrap(), "precious");
        assert_eq!(fs::read_to_string(at("victims/victim")).unwrap(), "precious");
        assert_eq!(names(&at("victims")), ["victim"]);
    };
    refused(&place, &["layers:app.tar:/etc/app.conf", "out"], "exists already");
    refused(&place, &["--replace", "layers:app.tar:/etc", "out"], "it is a symbolic link; remove it first");
    assert_eq!(fs::read_link(at("out/etc")).unwrap(), Path::new("../victims"));
    is_unharmed();
    copied(&place, &["--replace", "layers:app.tar:/etc/app.conf", "out"]);
    assert!(fs::symlink_metadata(at("out/app.conf")).unwrap().is_file());
    assert_eq!(fs::read_to_string(at("out/app.conf")).unwrap(), "new");
    is_unharmed();
    // Again and again, whatever a copy of a link leads to.
    for _ in 0..2 {
        copied(&place, &["--replace", &of("/lib"), "out"]);
        assert_eq!(fs::read_link(at("out/lib")).unwrap(), Path::new("usr/lib"));
    }
    // The link that is named is the user's choice.
    symlink("victim", at("named")).unwrap();
    copied(&place, &["--replace", "layers:app.tar:/etc/app.conf", "named"]);
    assert_eq!(fs::read_to_string(at("victim")).unwrap(), "new");
    assert_eq!(fs::read_link(at("named")).unwrap(), Path::new("victim"));
}

/// Puts a link where a copy is to go, once the place was looked at: when the layers are about to be read.
struct Racing<'r> {
    link: &'r Path,
    target: &'r Path,
}

impl Progress for Racing<'_> {
    fn begin(&self, _: &[u64]) {
        let _ = symlink(self.target, self.link);
    }
}

/// The name of what is copied is not the user's, and somebody else may be quicker than the copy.
#[test]
fn a_link_that_comes_while_a_copy_is_made_is_not_followed() {
    let place = place();
    let at = |name: &str| place.path().join(name);
    fs::create_dir(at("victims")).unwrap();
    fs::write(at("victim"), "precious").unwrap();
    fs::create_dir(at("out")).unwrap();
    let reference = format!("layers:{},{}", at("a.tar").display(), at("b.tar").display());
    let image = layflat::open(&reference.parse().unwrap(), &OpenOptions::default()).unwrap();
    let options = Options::default();
    let indexes = indexes(&image, None, &options, &NoProgress).unwrap();
    let extractor = Extractor::new(&image, &indexes, None, &options).unwrap();
    for replace in [false, true] {
        let options = Options { replace, ..Options::default() };
        for (path, target, is_refused) in [("etc/motd", "../victim", !replace), ("etc", "../victims", true)] {
            let found = extractor.find(path.as_bytes()).unwrap();
            let link = at("out").join(path.rsplit('/').next().unwrap());
            let racing = Racing { link: &link, target: Path::new(target) };
            let copied = extractor.extract(&found, (&link, Last::Keep), &options, &racing);
            assert_eq!(copied.is_err(), is_refused, "{path}, replace {replace}: {copied:?}");
            assert_eq!(fs::symlink_metadata(&link).unwrap().is_symlink(), is_refused, "{path}, replace {replace}");
            fs::remove_file(&link).unwrap();
            assert_eq!(names(&at("out")), [""; 0]);
        }
    }
    assert_eq!(fs::read_to_string(at("victim")).unwrap(), "precious");
    assert_eq!(names(&at("victims")), [""; 0]);
}

#[test]
fn cp_refuses_what_it_cannot_mean() {
    let place = place();
    refused(&place, &["a.tar", "x"], "expected IMAGE:PATH");
    refused(&place, &[&of("/etc"), &of("/usr"), "new"], "is not a directory");
    refused(&place, &[&of("/etc/motd"), "new/"], "is not a directory");
    refused(&place, &[&of("/etc/motd"), "missing/new"], "No such file");
    refused(&place, &[&of("/"), "."], "the root of an image has no name");
    // A link in the way leads where its owner says, and not elsewhere.
    symlink("/nowhere/at/all", place.path().join("dangling")).unwrap();
    refused(&place, &[&of("/etc/motd"), "dangling"], "dangling");
}

#[test]
fn cp_reports_each_copy() {
    let place = place();
    let output = layflat(&place, &["cp", "--json", &of("/etc/motd"), &of("/usr"), "."]);
    let lines: Vec<Value> = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let facts: Vec<Value> = lines.iter().map(|line| json!([line["path"], line["destination"]])).collect();
    assert_eq!(facts, [json!(["/etc/motd", "./motd"]), json!(["/usr", "./usr"])]);
}

/// The owner of the temporary directory that a file is unpacked in is nobody's loss.
#[test]
fn what_cp_could_not_keep_is_that_of_the_copies() {
    let place = place();
    let output = layflat(&place, &["cp", "--json", &of("/etc/motd"), "copy"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lost = report["not_kept"].as_array().unwrap();
    assert!(lost.iter().all(|loss| loss["count"] == 1 && loss["examples"][0] != "/"), "{report}");
}

/// Exit status and lines.
fn grep(place: &TempDir, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let output = layflat(place, &[&["grep"], arguments].concat());
    (output.status.code(), text(&output.stdout).lines().map(str::to_owned).collect())
}

#[test]
fn grep_finds_lines_and_escapes_them() {
    let place = place();
    let found = |arguments: &[&str]| grep(&place, arguments).1;
    assert_eq!(grep(&place, &["welcome", IMAGE]), (Some(0), vec!["etc/motd:welcome".into(), "twin:welcome".into()]));
    assert_eq!(found(&["-n", "^to.*e$", IMAGE]), ["etc/motd:2:to the\tmachine", "twin:2:to the\tmachine"]);
    assert_eq!(found(&["-i", "WELCOME", "--include", "mo*", IMAGE]), ["etc/motd:welcome"]);
    assert_eq!(found(&["--include", "etc/*", "line", IMAGE]), [r"etc/changed:new \u{1b}[31m line"]);
    assert_eq!(found(&["-n", "end$", IMAGE]), ["etc/changed:2:last without end"]);
    assert_eq!(found(&["-F", "e.d", IMAGE]), [""; 0]);
    assert_eq!(found(&["password", IMAGE]), ["usr/lib/x.so: binary file matches"]);
    assert_eq!(found(&["-l", "password|welcome", IMAGE]), ["etc/motd", "twin", "usr/lib/x.so"]);
}

#[test]
fn grep_reaches_what_later_layers_changed_or_deleted() {
    let place = place();
    let found = |arguments: &[&str]| grep(&place, arguments).1;
    assert_eq!(found(&["hunter2", IMAGE]), [""; 0]);
    assert_eq!(found(&["hunter2", "--all-layers", IMAGE]), ["0:etc/gone:password = hunter2"]);
    assert_eq!(found(&["hunter2", "--layer", "0", IMAGE]), ["etc/gone:password = hunter2"]);
    assert_eq!(found(&["-l", "--all-layers", "old|new", IMAGE]), ["0:etc/changed", "1:etc/changed"]);
    assert_eq!(found(&["-l", "--changed-by", "1", "e", IMAGE]), ["etc/changed"]);
    assert_eq!(found(&["hunter2", "--changed-by", "0", IMAGE]), ["etc/gone:password = hunter2"]);
    assert_eq!(grep(&place, &["--changed-by", "9", "e", IMAGE]), (Some(2), vec![]));
    let output = layflat(&place, &["grep", "--json", "hunter2", "--all-layers", IMAGE]);
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line, json!({"in_layer": 0, "path": "etc/gone", "line": 1, "text": "password = hunter2"}));
}

#[test]
fn grep_exits_as_grep_does() {
    let place = place();
    assert_eq!(grep(&place, &["nothing", IMAGE]), (Some(1), vec![]));
    assert_eq!(grep(&place, &["-q", "welcome", IMAGE]), (Some(0), vec![]));
    assert_eq!(grep(&place, &["(", IMAGE]), (Some(2), vec![]));
    assert_eq!(grep(&place, &["welcome", "layers:missing.tar"]), (Some(2), vec![]));
    assert_eq!(grep(&place, &["--layer", "9", "welcome", IMAGE]), (Some(2), vec![]));
}

/// A line of many megabytes is searched in pieces, which what is searched for may lie across.
#[test]
fn grep_searches_long_lines_in_bounded_memory() {
    let place = place();
    let mut long = "x".repeat((1 << 20) - 3) + "needle" + &"y".repeat(5 << 20) + "pin" + &"z".repeat(9 << 20);
    long += "\nsecond needle\n";
    fs::write(place.path().join("long.tar"), Tar::new().file("long", &long).done()).unwrap();
    let (code, lines) = grep(&place, &["-n", "needle", "layers:long.tar"]);
    assert_eq!(code, Some(0));
    assert_eq!(lines.len(), 2, "one for each line");
    assert!(lines[0].starts_with("long:1:") && lines[0].len() < 2 << 20, "{}", lines[0].len());
    assert_eq!(lines[1], "long:2:second needle");
    assert_eq!(grep(&place, &["-l", "pin", "layers:long.tar"]).1, ["long"]);
}

#[test]
fn flatten_writes_what_the_image_says_to_run() {
    let place = place();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/four-layers.tar");
    fs::copy(fixture, place.path().join("image.tar")).unwrap();
    let run = |arguments: &[&str]| layflat(&place, &[&["flatten", "--quiet"], arguments].concat());
    assert!(run(&["image.tar", "rootfs", "--config", "run.json"]).status.success());
    let written: Value = serde_json::from_slice(&fs::read(place.path().join("run.json")).unwrap()).unwrap();
    assert_eq!((&written["Cmd"], &written["Env"]), (&json!(["/b"]), &json!(["PATH=/"])));
    assert!(run(&["image.tar", "-o", "image.ext4", "--config", "run.env"]).status.success());
    let script = r#". ./run.env; eval "set -- $IMAGE_ENV -- $IMAGE_ARGS"; printf '<%s>' "$@" "$IMAGE_USER""#;
    let output = Command::new("sh").args(["-euc", script]).current_dir(place.path()).output().unwrap();
    assert_eq!(text(&output.stdout), "<PATH=/><--></b><>");
    // All or nothing: neither the configuration without the tree, nor the tree without the configuration.
    for (arguments, words) in [
        (&["image.tar", "other", "--config", "run.json"][..], "--replace replaces it"),
        (&["image.tar", "rootfs", "--config", "new.json"], "not empty"),
        (&[IMAGE, "other", "--config", "new.json"], "the image has no configuration"),
        (&["image.tar", "other", "--config", "other"], "that is the name of the root file system"),
    ] {
        let output = run(arguments);
        assert!(!output.status.success() && text(&output.stderr).contains(words), "{}", text(&output.stderr));
    }
    assert_eq!(names(place.path()), ["a.tar", "b.tar", "image.ext4", "image.tar", "rootfs", "run.env", "run.json"]);
}
