//! The program as its users meet it: what it prints, where, and how it ends.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, not their helpers")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use crate::images::{Layout, Tar, tagged};
use crate::place::{Place, names};
use assert_cmd::Command;
use serde_json::Value;

const COMMANDS: [&str; 28] = [
    "flatten",
    "layers",
    "mount",
    "umount",
    "run",
    "bundle",
    "export",
    "unshare",
    "diff",
    "inspect",
    "tags",
    "digest",
    "ls",
    "find",
    "log",
    "cat",
    "grep",
    "cp",
    "waste",
    "check",
    "copy",
    "append",
    "config",
    "squash",
    "pack",
    "cache",
    "completions",
    "man",
];

/// The image of the README.
fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/four-layers.tar")
}

pub(super) fn layflat(place: &Place, arguments: &[&str]) -> Command {
    Command::from_std(place.layflat(arguments))
}

/// A place that holds the fixture as `image.tar`.
pub(super) fn place() -> Place {
    let place = Place::new();
    fs::copy(fixture(), place.path("image.tar")).unwrap();
    place
}

pub(super) fn run(place: &Place, arguments: &[&str]) -> Output {
    layflat(place, arguments).output().unwrap()
}

pub(super) fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

/// What a command that succeeds prints on standard output.
fn printed(place: &Place, arguments: &[&str]) -> String {
    let output = run(place, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

/// The one line that a command which fails prints on standard error.
fn message(place: &Place, arguments: &[&str], code: i32) -> String {
    let output = run(place, arguments);
    let message = text(&output.stderr).to_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(message.starts_with("layflat: "), "{message}");
    message
}

/// What a command shows on a terminal of 100 columns.
fn on_terminal(place: &Place, environment: &[(&str, &str)], command: &str) -> String {
    let program = assert_cmd::cargo::cargo_bin!("layflat");
    let command = format!("stty cols 100; {} {command}", program.display());
    let output = std::process::Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .current_dir(place.directory())
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn help() {
    let place = place();
    let mut all = printed(&place, &["--help"]);
    for command in COMMANDS {
        all.push_str(&format!("\n$ layflat {command} --help\n{}", printed(&place, &[command, "--help"])));
    }
    all.push_str(&format!("\n$ layflat config set --help\n{}", printed(&place, &["config", "set", "--help"])));
    insta::assert_snapshot!(all);
}

#[test]
fn the_top_level_help_lists_every_command() {
    let place = place();
    let groups = printed(&place, &["-h"]);
    let man = place.path("man");
    printed(&place, &["man", "man"]);
    let mut commands = 0;
    for page in std::fs::read_dir(man).unwrap() {
        let page = page.unwrap().file_name().into_string().unwrap();
        let name = page.trim_start_matches("layflat").trim_start_matches('-').trim_end_matches(".1");
        if !name.is_empty() && name != "help" && !name.contains('-') {
            commands += 1;
            assert!(groups.contains(&format!("\n  {name} ")), "{name}: {groups}");
        }
    }
    assert!(commands >= 24, "{commands}");
}

/// What many commands have in common is folded away, and named.
#[test]
fn the_short_help_fits_one_screen() {
    let place = place();
    for command in COMMANDS {
        let short = printed(&place, &[command, "-h"]);
        let lines = short.lines().count();
        assert!((8..=40).contains(&lines), "{command}: {lines} lines\n{short}");
        assert!(!short.contains("--plain-http"), "{short}");
        let long = printed(&place, &[command, "--help"]);
        assert!(!long.contains("More options"), "{long}");
    }
    assert!(printed(&place, &["ls", "-h"]).contains("More options with --help: common options; registries, engines"));
    let lines = printed(&place, &["-h"]).lines().count();
    assert!(lines <= 46, "{lines}");
}

#[test]
fn man_pages_have_the_sections_that_people_look_for() {
    let place = place();
    printed(&place, &["man", "man"]);
    let page = |name: &str| fs::read_to_string(place.path("man").join(name)).unwrap();
    let has = |text: &str, section: &str| text.lines().any(|line| line.trim_end().trim_matches('"').ends_with(section));
    for name in ["layflat.1", "layflat-flatten.1", "layflat-check.1", "layflat-copy.1", "layflat-mount.1"] {
        let text = page(name);
        for section in
            ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"]
        {
            assert!(has(&text, section), "{name}: {section}");
        }
        assert!(!has(&text, "EXTRA"), "{name}");
    }
    assert!(page("layflat-check.1").contains(".layflat.toml") && !page("layflat-ls.1").contains(".layflat.toml"));
    assert!(page("layflat-cache-verify.1").contains("Something is damaged."));
    assert!(has(&page("layflat.1"), "IMAGES"));
}

#[test]
fn the_cache_is_not_emptied_by_accident() {
    let place = place();
    printed(&place, &["ls", "--cache-dir", "cache", "image.tar"]);
    let refused = message(&place, &["cache", "prune", "--cache-dir", "cache"], 1);
    assert!(refused.contains("--max-size SIZE") && refused.contains("--all"), "{refused}");
    let listed = run(&place, &["cache", "ls", "--cache-dir", "cache"]);
    let total = text(&listed.stderr);
    assert!(total.starts_with("4 entries, ") && total.contains(": index 4 "), "{total}");
    let removed = run(&place, &["cache", "prune", "--all", "--cache-dir", "cache"]);
    assert!(text(&removed.stderr).starts_with("4 removed, "), "{}", text(&removed.stderr));
    let empty = run(&place, &["cache", "ls", "--cache-dir", "cache"]);
    assert_eq!(text(&empty.stderr), "0 entries, 0 B\n");
}

#[test]
fn arguments_that_make_no_sense() {
    let place = place();
    for arguments in [
        &["flaten"][..],
        &["flatten", "image.tar"],
        &["flatten", "--jobs", "0", "image.tar", "out"],
        &["flatten", "--limit", "entries", "image.tar", "out"],
        &["flatten", "--platform", "linux", "image.tar", "out"],
        &["mount", "--upper", "up", "image.tar", "out"],
    ] {
        let output = run(&place, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).starts_with("error: "), "{}", text(&output.stderr));
    }
    assert!(message(&place, &["flatten", "--limit", "speed=1", "image.tar", "out"], 1).contains("unknown limit"));
    assert!(!place.path("out").exists());
}

#[test]
fn every_image_error_says_what_and_where() {
    let place = place();
    fs::write(place.path("text"), "hello").unwrap();
    fs::create_dir(place.path("empty")).unwrap();
    let messages: Vec<String> = [
        "missing.tar",
        "text",
        "empty",
        "oci:empty",
        "docker-archive:text",
        "docker-archive:image.tar:other:latest",
        "layers:text",
        "layers:",
        "docker:alpine",
    ]
    .iter()
    .map(|image| message(&place, &["inspect", image], 1))
    .collect();
    insta::assert_snapshot!(messages.concat());
}

#[test]
fn messages_go_to_standard_error_and_only_data_to_standard_output() {
    let place = place();
    let output = run(&place, &["flatten", "image.tar", "flat"]);
    assert_eq!(text(&output.stdout), "");
    // An ordinary user is told what could not be kept before that.
    let said: Vec<&str> = text(&output.stderr).lines().filter(|line| !line.starts_with("note: ")).collect();
    assert!(matches!(said[..], [done] if done.starts_with("flat: 1 file, 10 B in ")), "{said:?}");
    for quiet in ["-q", "--quiet"] {
        let output = run(&place, &["layers", quiet, "image.tar", quiet.trim_start_matches('-')]);
        assert_eq!((text(&output.stdout), text(&output.stderr)), ("", ""));
    }
}

#[test]
fn one_report_as_json() {
    let place = place();
    for (command, form) in [("flatten", "flat"), ("layers", "overlay")] {
        let output = run(&place, &[command, "--json", "image.tar", form]);
        assert!(text(&output.stderr).lines().all(|line| line.starts_with("note: ")), "{}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["form"], form);
        assert_eq!(report["image"], "four-layers:latest");
        assert!(report["destination"].as_str().unwrap().ends_with(form));
        let layers = report["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 4);
        for (sum, part) in [("entries", "entries"), ("size", "size"), ("expanded", "expanded")] {
            let parts: u64 = layers.iter().map(|layer| layer[part].as_u64().unwrap()).sum();
            assert_eq!(report[sum].as_u64().unwrap(), parts, "{sum}");
        }
        assert_eq!(layers[0]["chain_id"], layers[0]["diff_id"]);
        assert_ne!(layers[1]["chain_id"], layers[1]["diff_id"]);
        assert!(report["seconds"]["total"].as_f64().unwrap() > 0.0);
        assert!(report["not_kept"].as_array().is_some());
    }
}

/// What systemd reads is the names: of directories that do not begin with a dot, nothing else may be there.
#[test]
fn a_mount_stack_has_the_names_that_systemd_reads() {
    let place = place();
    printed(&place, &["layers", "--mstack", "image.tar", "image.mstack"]);
    let layers = ["ae2fbf958a4d", "c5bf4a3bad9d", "f7908c0a12d2", "4aa65cbe6965"];
    let mut expected = vec![".image-config.json".to_owned()];
    expected.extend(layers.iter().zip(1..).map(|(layer, number)| format!("layer@000{number}-{layer}")));
    assert_eq!(names(&place.path("image.mstack")), expected);
    // A single layer gets an empty one below it: of one alone systemd makes a bind mount.
    fs::write(place.path("one.tar"), Tar::new().file("f", "").done()).unwrap();
    let report: Value =
        serde_json::from_str(&printed(&place, &["layers", "--mstack", "--json", "layers:one.tar", "one.mstack"]))
            .unwrap();
    assert_eq!((&report["form"], &report["xattr_namespace"]), (&"mstack".into(), &"user".into()));
    let found = names(&place.path("one.mstack"));
    assert!(
        matches!(&found[..], [empty, layer] if empty == "layer@0000-empty" && layer.starts_with("layer@0001-")),
        "{found:?}"
    );
    for other in [["--backend", "erofs"], ["--xattr-namespace", "trusted"]] {
        let output = run(&place, &["layers", "--mstack", other[0], other[1], "image.tar", "other.mstack"]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains("--mstack") && message.contains(other[0]), "{message}");
    }
}

#[test]
fn what_is_not_kept_is_reported_and_with_strict_refused() {
    // The overlay layers cannot show a genuine device 0:0; an ordinary user loses the owners, too.
    let place = place();
    fs::write(place.path("null.tar"), Tar::new().file("a", "").device("null", 0, 0).done()).unwrap();
    let output = run(&place, &["layers", "layers:null.tar", "lax"]);
    assert!(output.status.success());
    let noted = |line: &str| line.starts_with("note: character device 0:0") && line.ends_with(": 1 file: null");
    assert!(text(&output.stderr).lines().any(noted), "{}", text(&output.stderr));
    let report: Value =
        serde_json::from_str(&printed(&place, &["layers", "--json", "--replace", "layers:null.tar", "lax"])).unwrap();
    let counts = |loss: &Value| loss["count"] == 1 && loss["examples"][0] == "null";
    assert!(report["not_kept"].as_array().unwrap().iter().any(counts), "{report}");

    let message = message(&place, &["layers", "--strict", "--quiet", "layers:null.tar", "strict"], 1);
    assert!(message.ends_with(" first; refused by --strict\n"), "{message}");
    assert!(!place.path("strict").exists());
}

#[test]
fn a_dash_is_standard_input() {
    let place = place();
    let bytes = fs::read(fixture()).unwrap();
    let fed = |arguments: &[&str], code: i32| {
        layflat(&place, arguments).write_stdin(bytes.clone()).assert().code(code);
    };
    fed(&["flatten", "-", "flat"], 0);
    fed(&["flatten", "docker-archive:-", "named"], 0);
    fed(&["layers", "-", "stack"], 0);
    fed(&["inspect", "-"], 0);
    fed(&["diff", "--ignore=owner", "-", "flat"], 0);
    fed(&["diff", "-", "image.tar"], 0);
    assert!(place.path("flat/b").is_file() && place.path("stack/layflat.json").is_file());
    // Nothing of what was read remains beside the results.
    let mut names: Vec<_> = fs::read_dir(place.directory()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["flat", "home", "image.tar", "named", "stack"]);
}

#[test]
fn diff_tells_by_its_exit_code() {
    let place = place();
    printed(&place, &["flatten", "image.tar", "a"]);
    printed(&place, &["flatten", "image.tar", "b"]);
    assert_eq!(printed(&place, &["diff", "a", "b"]), "");
    assert_eq!(printed(&place, &["diff", "a", "image.tar"]), "");

    fs::write(place.path("b/new"), "").unwrap();
    let output = run(&place, &["diff", "--ignore=mtime", "a", "b"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "+ new: only in B (file)\n");
    let output = run(&place, &["diff", "--ignore=mtime", "--json", "a", "b"]);
    assert_eq!(output.status.code(), Some(1));
    let differences: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(differences[0]["path"], "new");
    let output = run(&place, &["diff", "--ignore=mtime", "--quiet", "a", "b"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));

    message(&place, &["diff", "a", "missing"], 2);
    let output = run(&place, &["diff", "--ignore=mtime", "--stat", "a", "b"]);
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(1), "new  |  +1\n1 path added, 0 removed, 0 changed\n")
    );
    assert_eq!(run(&place, &["diff", "--ignore=colour", "a", "b"]).status.code(), Some(2));
}

/// One thing of each kind differs, and what that is, is read from the images' layers alone.
#[test]
fn diff_of_images_is_told_in_lines_numbers_and_json() {
    let place = Place::new();
    let base = || Tar::new().directory("usr").directory("usr/lib").file("usr/lib/same", "same");
    place.write("one.tar", base().file("usr/lib/changed", "one").file("gone", "12345").done());
    let more = base().file("usr/lib/changed", "two").directory("new").file("new/a", "x".repeat(2000));
    place.write("two.tar", more.symlink("new/link", "a").done());
    let (one, two) = ("layers:one.tar", "layers:two.tar");

    let output = run(&place, &["diff", one, two]);
    let expected = "- gone: only in A (file, 5 B)\n+ new: only in B (directory, 2 names below, 2.0 KiB)\n\
                    ~ usr/lib/changed: content: differs\n";
    assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(1), expected, ""));

    let output = run(&place, &["diff", "--stat", one, two]);
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    let longest = "+".repeat(24);
    let expected = [
        "gone             |      -1          -5 B  -".to_owned(),
        "new/             |  +1".to_owned(),
        format!("new/a            |  +1          +2.0 KiB  {longest}"),
        "new/link         |  +1".to_owned(),
        "usr/lib/changed  |          ~1".to_owned(),
        "3 paths added (2.0 KiB), 1 removed (5 B), 1 changed".to_owned(),
    ];
    assert_eq!(lines, expected);
    let output = run(&place, &["diff", "--stat=1", one, two]);
    let lines: Vec<&str> = text(&output.stdout).lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(lines, ["gone", "new/", "usr/", "3"]);

    let json = |arguments: &[&str]| -> Value {
        let output = run(&place, &[&["diff", "--json"], arguments, &[one, two]].concat());
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let expected = serde_json::json!([
        {"path": "gone", "what": "only-in-a", "type": "file", "below": 0, "bytes": 5},
        {"path": "new", "what": "only-in-b", "type": "directory", "below": 2, "bytes": 2000},
        {"path": "usr/lib/changed", "what": "content"},
    ]);
    assert_eq!(json(&[]), expected);
    let summary = json(&["--stat"]);
    assert_eq!((&summary["total"]["added"], &summary["total"]["added_bytes"]), (&3.into(), &2000.into()));
    let changed = serde_json::json!({
        "path": "usr/lib/changed", "added": 0, "added_bytes": 0, "removed": 0, "removed_bytes": 0,
        "changed": 1, "bytes_before": 3, "bytes_after": 3,
    });
    assert_eq!(summary["paths"][4], changed);
    assert_eq!(printed(&place, &["diff", "--stat", one, one]), "");
}

/// The layers of an image in a directory are not a tree: name by name they would differ from everything.
#[test]
fn diff_refuses_a_directory_of_layers() {
    let place = place();
    for arguments in
        [&["layers", "-q", "image.tar", "stack"][..], &["layers", "-q", "--backend=erofs", "image.tar", "erofs"]]
    {
        printed(&place, arguments);
    }
    printed(&place, &["flatten", "-q", "image.tar", "flat"]);
    for (a, b) in [("stack", "flat"), ("flat", "stack"), ("image.tar", "stack"), ("stack", "stack"), ("erofs", "flat")]
    {
        let message = message(&place, &["diff", a, b], 2);
        assert!(message.contains("one by one") && message.contains("`layflat mount "), "{message}");
    }
    // A file of that name in a tree is a file.
    place.write("flat/layflat.json", "{}");
    let output = run(&place, &["diff", "--ignore=mtime", "image.tar", "flat"]);
    assert_eq!(text(&output.stdout), "+ layflat.json: only in B (file, 2 B)\n");
}

#[test]
fn inspect_prints_what_the_image_is_made_of() {
    let place = place();
    insta::assert_snapshot!(printed(&place, &["inspect", "--paths", "image.tar"]));
    let json: Value = serde_json::from_str(&printed(&place, &["inspect", "--json", "image.tar"])).unwrap();
    let counts: Vec<[u64; 3]> = (json["layers"].as_array().unwrap().iter())
        .map(|layer| ["adds", "replaces", "hides"].map(|key| layer[key].as_u64().unwrap()))
        .collect();
    assert_eq!(counts, [[5, 0, 0], [1, 0, 1], [1, 0, 2], [0, 0, 2]]);
    assert_eq!(json["config"]["config"]["Cmd"][0], "/b");
}

#[test]
fn images_for_other_machines() {
    let place = place();
    let mut layout = Layout::default();
    let (amd, arm) = (layout.image_for("linux/amd64"), layout.image_for("linux/arm64/v8"));
    let layout = layout.list(tagged(amd, "latest")).list(tagged(arm, "latest"));
    layout.write(&place.path("multi"));
    for (platform, name) in [("linux/amd64", "linux-amd64"), ("linux/arm64", "linux-arm64-v8")] {
        printed(&place, &["flatten", "--platform", platform, "oci:multi:latest", name]);
        assert!(place.path(name).join(name).is_file());
    }
    let message = message(&place, &["inspect", "--platform", "linux/s390x", "oci:multi:latest"], 1);
    assert!(message.contains("linux/amd64") && message.contains("linux/arm64/v8"), "{message}");
}

#[test]
fn progress_is_for_terminals() {
    let place = place();
    // Long enough for a bar to be drawn.
    let many = (0..20_000).fold(Tar::new(), |tar, number| tar.file(&format!("{number}"), "content"));
    fs::write(place.path("many.tar"), many.done()).unwrap();
    let shown = on_terminal(&place, &[], "flatten layers:many.tar shown");
    assert!(shown.contains("layer 0 [") && shown.contains("entries"), "{shown:?}");
    assert!(shown.trim_end().lines().last().unwrap().contains("shown: 20,000 files, 136.7 KiB in "), "{shown:?}");
    assert_eq!(on_terminal(&place, &[], "flatten --quiet layers:many.tar quiet"), "");
    let output = run(&place, &["flatten", "layers:many.tar", "piped"]);
    assert!(!text(&output.stderr).contains('['), "{}", text(&output.stderr));
}

/// One line for all layers, and none stays.
#[test]
fn progress_sums_the_layers_up_and_leaves_nothing() {
    let place = place();
    let many = (0..2_000).fold(Tar::new(), |tar, number| tar.file(&format!("{number}"), "content")).done();
    let names: Vec<String> = (0..4).map(|number| format!("{number}.tar")).collect();
    names.iter().for_each(|name| drop(place.write(name, &many)));
    let shown = on_terminal(&place, &[], &format!("flatten layers:{} shown", names.join(",")));
    assert!(shown.contains("total [") && shown.contains(" of 4 layers, "), "{shown:?}");
    let last = shown.rsplit('\r').find(|part| part.contains("shown: 2,000 files")).unwrap();
    assert!(!last.contains(" ["), "{last:?}");
}

#[test]
fn a_pattern_that_leaves_nothing_out_is_said() {
    let place = place();
    for command in [
        &["flatten", "image.tar", "rootfs"][..],
        &["copy", "image.tar", "oci:copy"],
        &["squash", "image.tar", "oci:squashed"],
    ] {
        let filters = ["--exclude", "/b", "--exclude", "usr/share/dcc", "--strip-xattrs", "security.*"];
        let output = run(&place, &[command, &filters].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let said: Vec<&str> = text(&output.stderr).lines().filter(|line| line.contains("left nothing out")).collect();
        let expected = [
            "note: --exclude \"usr/share/dcc\" left nothing out",
            "note: --strip-xattrs \"security.*\" left nothing out",
        ];
        assert_eq!(said, expected, "{command:?}");
    }
}

#[test]
fn colours_are_for_terminals_without_no_color() {
    let place = place();
    const RED: &str = "\x1b[1;31m";
    assert!(on_terminal(&place, &[], "inspect missing").contains(RED));
    assert!(on_terminal(&place, &[("NO_COLOR", "")], "inspect missing").contains(RED), "an empty one does not count");
    assert!(!on_terminal(&place, &[("NO_COLOR", "1")], "inspect missing").contains('\x1b'));
    assert!(!on_terminal(&place, &[("NO_COLOR", "1")], "flaten").contains('\x1b'));
    assert!(!message(&place, &["inspect", "missing"], 1).contains('\x1b'));
}

#[test]
fn names_cannot_speak_to_the_terminal() {
    let place = place();
    let message = message(&place, &["inspect", "evil\x1b[2J\nname"], 1);
    assert!(!message.contains('\x1b'), "{message:?}");
}

#[test]
fn nobody_reads_to_the_end() {
    let place = place();
    let program = assert_cmd::cargo::cargo_bin!("layflat");
    let many = (0..20_000).fold(Tar::new(), |tar, number| tar.file(&format!("{number}"), ""));
    fs::write(place.path("many.tar"), many.done()).unwrap();
    // As other programs do it, of SIGPIPE and without a word: 128 and 13.
    for command in ["inspect --paths", "inspect --json --paths", "ls --json -R"] {
        let script = format!("{{ {} {command} layers:many.tar; echo $? >&2; }} | head -n 1", program.display());
        let output =
            std::process::Command::new("sh").args(["-c", &script]).current_dir(place.directory()).output().unwrap();
        assert_eq!(text(&output.stderr), "141\n", "{command}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let place = place();
    let program = assert_cmd::cargo::cargo_bin!("layflat");
    for command in [
        "--help",
        "ls --help",
        "--version",
        "completions bash",
        "inspect image.tar",
        "inspect --json image.tar",
        "ls image.tar",
        "ls --json image.tar",
        "find image.tar '*'",
        "find --json image.tar '*'",
        "log image.tar b",
        "cat image.tar b",
        "waste image.tar",
        "diff --json image.tar image.tar",
        "flatten --json image.tar flat",
        "copy image.tar oci:layout:1",
        "copy --json image.tar oci:layout:2",
        "flatten --to tar -o - image.tar",
        "flatten --to erofs -o - image.tar",
    ] {
        let script = format!("exec {} {command} > /dev/full", program.display());
        let output =
            std::process::Command::new("sh").args(["-c", &script]).current_dir(place.directory()).output().unwrap();
        let message = text(&output.stderr);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{command}: {:?}: {message}", output.status);
        // An ordinary user is told before that owners are not kept.
        let said =
            message.lines().any(|line| line.starts_with("layflat: ") && line.contains("No space left on device"));
        assert!(said, "{command}: {message}");
    }
}

#[test]
fn it_dies_of_the_signal_that_stopped_it() {
    use std::os::unix::process::ExitStatusExt;
    let place = place();
    let program = assert_cmd::cargo::cargo_bin!("layflat");
    let start = |script: &str| {
        // A pipe that nothing comes from, nor ends.
        let script = script.replace("layflat", program.to_str().unwrap());
        std::process::Command::new("sh")
            .args(["-c", &script])
            .current_dir(place.directory())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let waits = |child: &mut std::process::Child| {
        // Until it listens to SIGTERM: the shell before it does not.
        let listens = |status: &str| {
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
            u64::from_str_radix(mask, 16).unwrap() >> (15 - 1) & 1 == 1
        };
        while !listens(&fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap()) {
            assert_eq!(child.try_wait().unwrap(), None, "it has ended");
            std::thread::yield_now();
        }
    };
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM, rustix::process::Signal::HUP] {
        // Also where whoever started the tests ignores it, as a shell does for what it runs in the background.
        let mut child = start("exec env --default-signal=INT,TERM,HUP layflat flatten - out");
        // Kept open until it is dead: the end of its input would be another reason to stop.
        let _input = child.stdin.take();
        waits(&mut child);
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.signal(), Some(signal.as_raw()), "{}", text(&output.stderr));
        assert!(!place.path("out").exists());
    }
    // Under nohup a hang-up is nothing.
    let mut child = start("trap '' HUP; exec layflat flatten - out");
    waits(&mut child);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::HUP).unwrap();
    let image = fs::read(fixture()).unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &image).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
}

#[test]
fn a_password_in_a_reference_is_refused_and_never_shown() {
    let place = place();
    for arguments in [
        &["ls", "docker://me:se/cr@et@a.example/b:1"][..],
        &["ls", "--json", "docker://me:secr@et@a.example:5000/b:1"],
        &["copy", "image.tar", "docker://me:secret@a.example/b:1"],
        &["copy", "docker://me:secret@a.example/b", "oci:x"],
        &["ls", "docker:me:secret@a.example/b"],
        &["ls", "docker-daemon:me:secret@a.example/b"],
        &["ls", "https://me:secret@a.example/b"],
        &["ls", "containers-storage:docker://me:secret@a.example/b"],
        &["ls", "docker://secret@a.example/b"],
        &["ls", "image.tar", "docker://me:secret@a.example/b", "docker://me:secret@a.example/c"],
        &["docker://me:secret@a.example/b"],
    ] {
        let output = run(&place, arguments);
        assert!(!output.status.success() && output.stdout.is_empty());
        let said = text(&output.stderr);
        assert!(!["secret", "se/cr", "secr@et"].iter().any(|secret| said.contains(secret)), "{arguments:?}: {said}");
    }
    let refused = message(&place, &["ls", "docker://me:secret@a.example/b:1"], 1);
    assert!(refused.contains("\"me:***@a.example/b:1\"") && refused.contains("--password-stdin"), "{refused}");
}

/// Whatever is made, one line says what, how much, what was left out, and how long it took.
#[test]
fn whoever_makes_something_says_how_much() {
    let place = place();
    fs::create_dir_all(place.path("upper/d")).unwrap();
    fs::write(place.path("upper/d/f"), "text").unwrap();
    fs::create_dir(place.path("copies")).unwrap();
    let time = regex::Regex::new(r" in \d+\.\d\d s").unwrap();
    let diff_id = regex::Regex::new("sha256:[0-9a-f]{64}").unwrap();
    let mut all = String::new();
    for command in [
        "flatten image.tar rootfs",
        "flatten --exclude b image.tar filtered",
        "flatten image.tar -o image.erofs",
        "flatten image.tar -o image.ext4",
        "flatten image.tar -o flat.tar",
        "flatten image.tar --to tar -o -",
        "layers image.tar layers",
        "layers --backend erofs image.tar images",
        "bundle image.tar box",
        "copy image.tar oci:layout:1",
        "copy image.tar oci:layout:2",
        "copy --exclude b image.tar oci:filtered:1",
        "squash --exclude b image.tar oci:squashed:1",
        "squash image.tar oci:layout:3",
        "append image.tar flat.tar oci:layout:4",
        "config set image.tar oci:layout:5 --user 1",
        "pack upper -o layer.tar",
        "cp image.tar:/b .",
        "cp --layer 0 image.tar:/a image.tar:/d copies",
        "report image.tar -o report.html",
        "man pages",
    ] {
        let output = run(&place, &command.split(' ').collect::<Vec<_>>());
        let said = text(&output.stderr);
        assert!(output.status.success(), "{command}: {said}");
        // What an ordinary user cannot keep.
        let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("note: ")).collect();
        assert_eq!(lines.len(), 1, "{command}: {said}");
        let line = time.replace(lines[0], " in N s");
        all.push_str(&format!("$ layflat {command}\n{}\n", diff_id.replace(&line, "sha256:…")));
    }
    // How large a page is depends on the version, and how many there are on the commands.
    let all = regex::Regex::new(r"(report.html: )[0-9.]+ KiB|(pages: )\d+").unwrap().replace_all(&all, "${1}${2}N");
    insta::assert_snapshot!(all);
    let output = run(&place, &["--quiet", "flatten", "image.tar", "again"]);
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn completions_for_every_shell() {
    let place = place();
    for shell in ["bash", "fish", "zsh"] {
        assert!(printed(&place, &["completions", shell]).contains("layflat complete -- "), "{shell}");
    }
    for shell in ["elvish", "powershell"] {
        let script = printed(&place, &["completions", shell]);
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    // What is asked by the others knows every command, too.
    let first = printed(&place, &["complete", "--", ""]);
    let commands: Vec<&str> = first.lines().map(|line| line.split('\t').next().unwrap()).collect();
    for command in COMMANDS {
        assert!(commands.contains(&command), "{command}: {commands:?}");
    }
    fs::write(place.path("layflat.bash"), printed(&place, &["completions", "bash"])).unwrap();
    let check = std::process::Command::new("bash").arg("-n").arg(place.path("layflat.bash")).status().unwrap();
    assert!(check.success());
}

#[test]
fn man_pages() {
    let place = place();
    printed(&place, &["man", "man"]);
    for name in ["layflat".to_owned()].into_iter().chain(COMMANDS.map(|command| format!("layflat-{command}"))) {
        let page = fs::read_to_string(place.path("man").join(format!("{name}.1"))).unwrap();
        assert!(page.contains(".TH ") && page.contains(".SH SYNOPSIS"), "{name}: {page}");
    }
}

#[test]
fn bare_layers_are_laid_bottom_first() {
    let place = place();
    fs::write(place.path("one.tar"), Tar::new().file("a", "1").file("b", "1").done()).unwrap();
    fs::write(place.path("two.tar.gz"), crate::images::gzip(&Tar::new().file("a", "2").file(".wh.b", "").done()))
        .unwrap();
    printed(&place, &["flatten", "layers:one.tar,two.tar.gz", "out"]);
    assert_eq!(fs::read_to_string(place.path("out/a")).unwrap(), "2");
    assert!(!place.path("out/b").exists());
}

#[test]
fn few_file_handles_are_enough_for_many_layers() {
    const LAYERS: usize = 30;
    let place = place();
    for layer in 0..LAYERS {
        let mut tar = Tar::new();
        for directory in 0..80 {
            // Large enough to be read by several threads.
            tar = tar.directory(&format!("{directory}")).file(&format!("{directory}/{layer}"), [b'x'; 4000]);
        }
        fs::write(place.path(&format!("{layer}.tar")), tar.done()).unwrap();
    }
    let image: Vec<String> = (0..LAYERS).map(|layer| format!("{layer}.tar")).collect();
    let program = assert_cmd::cargo::cargo_bin!("layflat");
    for form in ["flatten", "layers"] {
        let script =
            format!("ulimit -n 200; exec {} {form} --quiet layers:{} {form}", program.display(), image.join(","));
        let output =
            std::process::Command::new("sh").args(["-c", &script]).current_dir(place.directory()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    assert_eq!(fs::read_dir(place.path("flatten/79")).unwrap().count(), LAYERS);
}

#[test]
fn s8_a_cache_that_others_may_write_is_not_believed() {
    let place = place();
    let cache = place.path("cache");
    fs::create_dir(&cache).unwrap();
    for (mode, refused) in [(0o777, true), (0o1777, true), (0o770, true), (0o755, false), (0o700, false)] {
        fs::set_permissions(&cache, fs::Permissions::from_mode(mode)).unwrap();
        let output = run(&place, &["ls", "--cache-dir", "cache", "image.tar"]);
        assert_eq!(output.status.success(), !refused, "{mode:o}: {}", text(&output.stderr));
        assert!(!refused || text(&output.stderr).contains("others may write it"), "{}", text(&output.stderr));
        // Nothing is refused that does not use it.
        printed(&place, &["ls", "--no-cache", "--cache-dir", "cache", "image.tar"]);
    }
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&cache, Some(1234), Some(1234)).unwrap();
        let message = message(&place, &["ls", "--cache-dir", "cache", "image.tar"], 1);
        assert!(message.contains("it belongs to another user (uid 1234)"), "{message}");
    }
}

/// The image would be gone, and with it all that its directory holds besides.
#[test]
fn what_is_read_is_not_replaced() {
    let place = place();
    fs::create_dir(place.path("dir")).unwrap();
    fs::copy(fixture(), place.path("dir/image.tar")).unwrap();
    printed(&place, &["copy", "--quiet", "image.tar", "oci:layout:a"]);
    for (image, destination) in [
        ("dir/image.tar", "dir"),
        ("dir/image.tar", "."),
        ("docker-archive:dir/image.tar", "dir/../dir"),
        ("oci:layout:a", "layout"),
        ("oci:layout:a", "layout/blobs"),
    ] {
        for command in ["flatten", "layers", "bundle"] {
            let message = message(&place, &[command, "--replace", image, destination], 1);
            assert!(message.contains("would remove its own source"), "{message}");
        }
    }
    let message = message(&place, &["flatten", "--replace", "--to", "tar", "-o", "image.tar", "image.tar"], 1);
    assert!(message.contains("would remove its own source"), "{message}");
    fs::create_dir_all(place.path("out/cache")).unwrap();
    for command in ["flatten", "bundle"] {
        let arguments = [command, "--replace", "--cache-dir", "out/cache", "image.tar", "out"];
        let output = run(&place, &arguments);
        assert!(text(&output.stderr).contains("would remove the cache"), "{}", text(&output.stderr));
    }
    assert!(place.path("dir/image.tar").exists() && place.path("layout/index.json").exists());
    printed(&place, &["flatten", "oci:layout:a", "fine"]);
}

#[test]
fn an_existing_destination_is_kept_unless_it_is_to_be_replaced() {
    let place = place();
    printed(&place, &["flatten", "image.tar", "out"]);
    let inode = fs::metadata(place.path("out")).unwrap().ino();
    let message = message(&place, &["flatten", "image.tar", "out"], 1);
    assert!(message.contains("--replace"), "{message}");
    assert_eq!(fs::metadata(place.path("out")).unwrap().ino(), inode);
    printed(&place, &["flatten", "--replace", "image.tar", "out"]);
    assert_ne!(fs::metadata(place.path("out")).unwrap().ino(), inode);
}
