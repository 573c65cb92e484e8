//! Looking into images: what the commands print, held against other tools and against what is unpacked.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, not their helpers")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Program;

use crate::images::{CONFIG, LAYER, Layout, MANIFEST, Tar, config, digest, gzip, hex, podman_archive};
use crate::place::Place;
use serde_json::{Value, json};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn printed(place: &Place, arguments: &[&str]) -> String {
    let output = place.run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn message(place: &Place, arguments: &[&str], code: i32) -> String {
    let output = place.run(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "");
    text(&output.stderr)
}

fn lines(place: &Place, arguments: &[&str]) -> Vec<Value> {
    text(&place.run(arguments).stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Three layers: one that has things, one that changes them, one that hides some.
fn layers() -> [Vec<u8>; 3] {
    let base = Tar::new()
        .directory("usr")
        .directory("usr/lib")
        .file("usr/lib/old", "an old library")
        .symlink("lib", "usr/lib")
        .directory("etc")
        .file("etc/motd", "welcome\n")
        .mode("etc/shadow", 0o600, (0, 42), "root:x\n")
        .mode("usr/su", 0o4755, (0, 0), "#!su")
        .file("twin", "the same content")
        .directory("d")
        .file("d/x", "this is x")
        .done();
    let change = Tar::new()
        .file("lib/new", "a new library")
        .mode("etc/shadow", 0o640, (0, 42), "root:x\n")
        .file("etc/motd", "welcome back\n")
        .file("twin-too", "the same content")
        .link(tar::EntryType::Link, "hard", "d/x")
        .done();
    let hide = Tar::new().file("lib/.wh.old", "").file(".wh.d", "").done();
    [base, change, hide]
}

/// A place with those layers as `image.tar`.
fn place() -> Place {
    let place = Place::new();
    let [base, change, hide] = layers();
    let image = podman_archive(&[(&["image:latest"], &[&base, &change, &hide])]);
    fs::write(place.path("image.tar"), image).unwrap();
    place
}

#[test]
fn ls_shows_what_all_layers_show() {
    let place = place();
    assert_eq!(printed(&place, &["ls", "image.tar"]), "etc\nhard\nlib\ntwin\ntwin-too\nusr\n");
    assert_eq!(
        printed(&place, &["ls", "-l", "image.tar"]),
        "drwxr-xr-x  2  0  0   0  2023-11-14 22:13  etc\n\
         -rw-r--r--  1  0  0   9  2023-11-14 22:13  hard\n\
         lrwxrwxrwx  1  0  0   7  2023-11-14 22:13  lib -> usr/lib\n\
         -rw-r--r--  1  0  0  16  2023-11-14 22:13  twin\n\
         -rw-r--r--  1  0  0  16  2023-11-14 22:13  twin-too\n\
         drwxr-xr-x  3  0  0   0  2023-11-14 22:13  usr\n"
    );
    assert_eq!(printed(&place, &["ls", "image.tar", "lib"]), "new\n", "a link to a directory is followed");
    assert_eq!(printed(&place, &["ls", "-l", "image.tar", "lib"]).lines().count(), 1);
    assert!(printed(&place, &["ls", "-l", "image.tar", "lib"]).ends_with(" lib -> usr/lib\n"));
    assert_eq!(printed(&place, &["ls", "image.tar", "/usr/../lib/"]), "new\n");
    assert_eq!(printed(&place, &["ls", "-R", "image.tar", "usr"]), "lib\nlib/new\nsu\n");
    assert_eq!(printed(&place, &["ls", "-d", "image.tar", "usr/lib"]), "usr/lib\n");
    assert_eq!(printed(&place, &["ls", "image.tar", "etc/motd"]), "etc/motd\n");
    assert_eq!(
        message(&place, &["ls", "image.tar", "d"], 1),
        "layflat: d is not in the image; deleted by layer 2: `layflat log` shows its history\n"
    );
    let entry = &lines(&place, &["ls", "--json", "image.tar", "etc/shadow"])[0];
    assert_eq!((&entry["mode"], &entry["gid"], &entry["layer"]), (&json!("0640"), &json!(42), &json!(1)));
    assert_eq!(entry["digest"], digest(b"root:x\n"));
}

#[test]
fn ls_of_a_layer_shows_what_it_changes() {
    let place = place();
    assert_eq!(
        printed(&place, &["ls", "-R", "--changed-by", "1", "image.tar"]),
        "etc\netc/motd\netc/shadow\nhard\ntwin-too\nusr\nusr/lib\nusr/lib/new\n"
    );
    let hidden = printed(&place, &["ls", "-lR", "--changed-by", "2", "image.tar"]);
    let hidden: Vec<&str> = hidden.lines().filter(|line| line.starts_with('w')).collect();
    assert!(hidden[0].ends_with("  d (deleted)") && hidden[1].ends_with("  usr/lib/old (deleted)"), "{hidden:?}");
    assert!(message(&place, &["ls", "--changed-by", "3", "image.tar"], 1).contains("no layer 3: the image has 3"));
    assert!(
        message(&place, &["ls", "--changed-by", "2", "image.tar", "etc"], 1).contains("layer 2 has nothing at etc")
    );
    let plain = printed(&place, &["ls", "-R", "--changed-by", "2", "image.tar"]);
    assert!(plain.contains("d (deleted)\n"), "a deleted name is not listed as if it were there: {plain}");
}

#[test]
fn layer_means_as_of_that_layer() {
    let place = place();
    let all = printed(&place, &["ls", "-R", "image.tar"]);
    let last = place.run(&["ls", "-R", "--layer", "2", "image.tar"]);
    assert_eq!(text(&last.stdout), all);
    assert_eq!(
        text(&last.stderr),
        "note: --layer 2 lists the image as of layer 2; what that layer changes: --changed-by 2\n"
    );
    let before = text(&place.run(&["ls", "-R", "--layer", "1", "image.tar"]).stdout).to_owned();
    assert!(before.contains("usr/lib/old\n") && !all.contains("usr/lib/old"), "{before}");
    assert_eq!(printed(&place, &["find", "--layer", "1", "image.tar", "old"]), "0  usr/lib/old\n");
    assert_eq!(message(&place, &["find", "--layer", "2", "--quiet", "image.tar", "old"], 1), "");
    let changed = printed(&place, &["find", "--changed-by", "2", "image.tar", "old", "motd"]);
    assert!(changed.contains("0  deleted by layer 2  usr/lib/old\n") && !changed.contains("motd"), "{changed}");
    for command in [&["find", "image.tar", "x"][..], &["ls", "image.tar"], &["cat", "image.tar", "x"]] {
        let said = message(&place, &[command, &["--layer", "3"]].concat(), 1);
        assert!(said.contains("no layer 3: the image has 3"), "{command:?}: {said}");
    }
}

#[test]
fn diff_compares_images_as_of_layers() {
    let place = place();
    let diff = |arguments: &[&str]| {
        let output = place.run(&[&["diff", "--ignore", "mtime"], arguments].concat());
        assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
        (output.status.code(), text(&output.stdout).to_owned())
    };
    let (code, changed) = diff(&["--layer", "0,1", "image.tar", "image.tar"]);
    let signs: Vec<&str> = changed.lines().map(|line| line.split_once(':').unwrap().0).collect();
    assert_eq!(signs, ["~ etc/motd", "~ etc/shadow", "+ hard", "+ twin-too", "+ usr/lib/new"]);
    assert_eq!(code, Some(1));
    // An empty number is all of the image, and one number is for both.
    assert_eq!(diff(&["--layer", ",2", "image.tar", "image.tar"]), (Some(0), String::new()));
    assert_eq!(diff(&["--layer", "1", "image.tar", "image.tar"]), (Some(0), String::new()));
    let (_, deleted) = diff(&["--layer", "1,", "image.tar", "image.tar"]);
    assert!(deleted.contains("- usr/lib/old: only in A"), "{deleted}");
    // A directory has no layers, and is compared with the image as of that layer.
    printed(&place, &["flatten", "--quiet", "image.tar", "tree"]);
    assert!(diff(&["--layer", "1", "image.tar", "tree"]).1.contains("- usr/lib/old: only in A"));
    assert_eq!(diff(&["--layer", "2", "tree", "image.tar"]).0, Some(0));
    for arguments in [&["--layer", "1,1", "image.tar", "tree"][..], &["--layer", "0", "tree", "tree"]] {
        let said = message(&place, &[&["diff"], arguments].concat(), 2);
        assert!(said.contains("a directory has no layers"), "{said}");
    }
    assert!(message(&place, &["diff", "--layer", "3", "image.tar", "image.tar"], 2).contains("no layer 3"));
}

/// Everything but owners, which an ordinary user cannot keep, and the sizes of directories, which file systems choose.
#[test]
fn ls_reads_as_coreutils_of_the_flat_tree() {
    let place = place();
    printed(&place, &["flatten", "-q", "image.tar", "flat"]);
    let script = "find flat -mindepth 1 -printf '%M %n %s %TY-%Tm-%Td %TH:%TM %P -> %l\\n' | LC_ALL=C sort -k6";
    let output =
        Program::new("sh").args(["-c", script]).env("TZ", "UTC").current_dir(place.directory()).output().unwrap();
    let found = text(&output.stdout);
    let root = rustix::process::geteuid().is_root();
    let normal = |line: &str, size: usize| {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        if words[0].starts_with('d') {
            words[size] = "0".to_owned();
        }
        if !root {
            words[0] = words[0].replace('s', "x");
        }
        words
    };
    let expected: Vec<Vec<String>> =
        found.lines().map(|line| normal(line.strip_suffix(" -> ").unwrap_or(line), 2)).collect();
    let listed = printed(&place, &["ls", "-lR", "image.tar"]);
    let mut listed: Vec<Vec<String>> = listed
        .lines()
        .map(|line| {
            let mut words = normal(line, 4);
            words.drain(2..4);
            words
        })
        .collect();
    listed.sort_by(|one, other| one[5..].join(" ").cmp(&other[5..].join(" ")));
    assert_eq!(listed, expected);
}

#[test]
fn find_says_which_layer_holds_and_which_hides() {
    let place = place();
    assert_eq!(printed(&place, &["find", "image.tar", "*lib*"]), "0  lib\n0  usr/lib\n");
    assert_eq!(printed(&place, &["find", "image.tar", "/usr/**"]), "0  usr/lib\n1  usr/lib/new\n0  usr/su\n");
    assert_eq!(printed(&place, &["find", "--regex", "image.tar", "^etc/.*d", "x$"]), "1  etc/motd\n1  etc/shadow\n");
    assert_eq!(
        printed(&place, &["find", "--all-layers", "image.tar", "old", "motd", "x", "hard"]),
        "0  deleted by layer 2   d/x\n\
         0  replaced by layer 1  etc/motd\n\
         1  visible              etc/motd\n\
         1  visible              hard\n\
         0  deleted by layer 2   usr/lib/old\n"
    );
    let hits = lines(&place, &["find", "--json", "--all-layers", "image.tar", "old"]);
    assert_eq!(
        (&hits[0]["path"], &hits[0]["fate"], &hits[0]["by"]),
        (&json!("usr/lib/old"), &json!("hidden"), &json!(2))
    );
    assert_eq!(message(&place, &["find", "image.tar", "nothing"], 1), "");
    assert_eq!(message(&place, &["find", "--quiet", "image.tar", "lib"], 0), "", "the exit code tells");
    assert_eq!(message(&place, &["check", "--quiet", "image.tar"], 0), "");
    assert!(message(&place, &["find", "image.tar", "[a"], 1).contains("not a glob"));
    assert!(message(&place, &["find", "--regex", "image.tar", "("], 1).contains("not a regular expression"));
}

#[test]
fn log_tells_what_each_layer_did() {
    let place = place();
    assert_eq!(
        printed(&place, &["log", "image.tar", "etc/shadow"]),
        "0  added     file 7 B, 0600 0:42  COPY a /\n1  metadata  mode 0600 → 0640     RUN b\n"
    );
    assert_eq!(
        printed(&place, &["log", "image.tar", "/lib/old"]),
        "0  added    file 14 B, 0644 0:0  COPY a /\n2  deleted                       (no history)\n"
    );
    let motd = lines(&place, &["log", "--json", "image.tar", "etc/motd"]);
    assert_eq!((&motd[1]["deed"], &motd[1]["created_by"]), (&json!("replaced"), &json!("RUN b")));
    assert_eq!(printed(&place, &["log", "image.tar", "/"]), "", "no layer names the root");
    assert_eq!(message(&place, &["log", "image.tar", "no"], 1), "layflat: no layer contains no\n");
}

#[test]
fn cat_gives_the_bytes_of_files_that_are_there_and_that_were() {
    let place = place();
    assert_eq!(printed(&place, &["cat", "image.tar", "etc/motd"]), "welcome back\n");
    assert_eq!(printed(&place, &["cat", "--layer", "0", "image.tar", "etc/motd"]), "welcome\n");
    assert_eq!(printed(&place, &["cat", "image.tar", "lib/new"]), "a new library");
    assert_eq!(printed(&place, &["cat", "image.tar", "hard"]), "this is x", "its target is gone");
    assert_eq!(printed(&place, &["cat", "--layer", "1", "image.tar", "d/x"]), "this is x");
    assert_eq!(
        message(&place, &["cat", "image.tar", "d/x"], 1),
        "layflat: d/x is not in the image: d does not exist; deleted by layer 2: --layer 1 prints it\n"
    );
    assert!(message(&place, &["cat", "image.tar", "lib"], 1).contains("usr/lib is a directory"));
    assert!(message(&place, &["cat", "image.tar", "nothing"], 1).contains("nothing is not in the image"));
}

#[test]
fn a5_cat_gives_holes_as_zeros_as_tar_does() {
    let place = Place::new();
    let archives = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/archives");
    let mut tried = 0;
    for name in ["gnutar-sparse-gnu.tar", "gnutar-sparse-0.0.tar", "gnutar-sparse-0.1.tar", "gnutar-sparse-1.0.tar"] {
        let archive = archives.join(name);
        let image = format!("layers:{}", archive.display());
        for hit in lines(&place, &["find", "--json", &image, "*"]) {
            let path = hit["path"].as_str().unwrap();
            if hit["type"] != "file" {
                continue;
            }
            let expected = Program::new("tar").arg("-xOf").arg(&archive).arg(path).output().unwrap();
            assert!(expected.status.success(), "{name}: {}", text(&expected.stderr));
            let found = place.run(&["cat", &image, path]);
            assert!(found.stdout == expected.stdout, "{name}: {path}");
            tried += 1;
        }
    }
    assert!(tried >= 4, "{tried} files");
}

#[test]
fn waste_counts_what_is_shipped_and_not_seen() {
    let place = place();
    let found = lines(&place, &["waste", "--json", "image.tar"]);
    let files: Vec<(u64, &str, &str)> = found
        .iter()
        .filter(|line| line["kind"] == "file")
        .map(|line| (line["bytes"].as_u64().unwrap(), line["path"].as_str().unwrap(), line["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(
        files,
        [
            (16, "twin-too", "duplicated"),
            (14, "usr/lib/old", "deleted"),
            (8, "etc/motd", "replaced"),
            (7, "etc/shadow", "replaced"),
        ],
        "d/x lives on as another name of the same file"
    );
    let first = &found[0];
    assert_eq!((&first["kind"], &first["layer"], &first["wasted"]), (&json!("layer"), &json!(0), &json!(29)));
    let total = |kind: &str, field: &str| -> u64 {
        found.iter().filter(|line| line["kind"] == kind).map(|line| line[field].as_u64().unwrap()).sum()
    };
    assert_eq!(total("layer", "wasted"), total("file", "bytes"));
    assert_eq!(
        total("layer", "wasted"),
        total("layer", "replaced") + total("layer", "deleted") + total("layer", "duplicated")
    );
    let output = place.run(&["waste", "--top", "1", "image.tar"]);
    assert_eq!(text(&output.stdout).lines().last().unwrap(), "16 B  1  twin-too  same as twin");
    assert_eq!(text(&output.stderr), "3 more: --top 0 lists all\nwasted: 45 B of 107 B (42.1 %)\n");
}

/// The bytes of layers change behind the cache's back: who does not read them does not notice.
#[test]
fn with_all_indexes_in_the_cache_no_layer_is_read() {
    let place = place();
    let questions: [&[&str]; 4] =
        [&["ls", "-lR", "image.tar"], &["find", "image.tar", "*"], &["log", "image.tar", "d"], &["waste", "image.tar"]];
    let before = questions.map(|question| printed(&place, question));
    let image = place.path("image.tar");
    let bytes = fs::read(&image).unwrap();
    let spoilt = text_replaced(&bytes, b"this is x", b"that is y");
    fs::write(&image, &spoilt).unwrap();
    assert_eq!(questions.map(|question| printed(&place, question)), before);
    for question in questions {
        // What decides has another code for what cannot be told.
        let code = if question[0] == "waste" { 2 } else { 1 };
        let uncached = [question, &["--no-cache"]].concat();
        assert!(message(&place, &uncached, code).contains("the configuration states diff_id"), "{question:?}");
        let elsewhere = [question, &["--cache-dir", "other"]].concat();
        assert!(message(&place, &elsewhere, code).contains("the configuration states diff_id"), "{question:?}");
    }
    assert!(!place.path("other/index").join(format!("sha256-{}", hex(&layers()[0]))).exists());
    // What comes out of the layer after all is noticed.
    let output = place.run(&["cat", "image.tar", "hard"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the image was altered since"), "{}", text(&output.stderr));
    assert_eq!(printed(&place, &["cat", "image.tar", "twin"]), "the same content");
}

fn text_replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn an_index_that_is_damaged_is_made_anew() {
    let place = place();
    let before = printed(&place, &["ls", "-lR", "image.tar"]);
    let index = place.path("home/.cache/layflat/index").join(format!("sha256-{}", hex(&layers()[0])));
    let whole = fs::read(&index).unwrap();
    let spoilt = text_replaced(&whole, b"motd", b"MOTD");
    for damage in [spoilt, whole[..100].to_vec(), Vec::new(), b"something else".to_vec()] {
        fs::write(&index, damage).unwrap();
        assert_eq!(printed(&place, &["ls", "-lR", "image.tar"]), before);
        assert_eq!(fs::read(&index).unwrap(), whole);
    }
    assert_eq!(printed(&place, &["ls", "-lR", "--no-cache", "--jobs", "1", "image.tar"]), before);
}

#[test]
fn a_cache_that_cannot_be_written_is_said_and_no_obstacle() {
    let place = place();
    fs::write(place.path("file"), "").unwrap();
    let output = place.run(&["ls", "--cache-dir", "file", "image.tar"]);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout).lines().count(), 6);
    assert!(
        text(&output.stderr).starts_with("note: cannot keep the layers' indexes in \"file\": "),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn colours_only_on_a_terminal_that_wants_them() {
    let place = place();
    let program = assert_cmd::cargo::cargo_bin!("layflat");
    let on_terminal = |environment: &[(&str, &str)]| {
        let command = format!("{} log --no-cache image.tar d", program.display());
        let output = Program::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .current_dir(place.directory())
            .env_remove("NO_COLOR")
            .env("SHELL", "/bin/sh")
            .envs(environment.iter().copied())
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        text(&output.stdout)
    };
    assert!(on_terminal(&[]).contains("\x1b[31mdeleted\x1b[0m"), "{:?}", on_terminal(&[]));
    let line = |text: String| text.lines().filter(|line| line.starts_with('2')).map(str::to_owned).collect::<Vec<_>>();
    assert!(!line(on_terminal(&[("NO_COLOR", "1")])).concat().contains('\x1b'));
    assert!(!printed(&place, &["log", "image.tar", "d"]).contains('\x1b'));
}

/// An image in a layout, `spoil`ed, and what `check` finds: kind and layer of each finding.
fn findings(
    spoil: impl FnOnce(&mut Layout),
    image: impl FnOnce(&mut Layout) -> Value,
    fast: bool,
) -> (Vec<String>, i32) {
    let place = Place::new();
    let mut layout = Layout::default();
    let descriptor = image(&mut layout);
    spoil(&mut layout);
    layout.list(descriptor).write(&place.path("image"));
    let mut arguments = vec!["check", "--json", "oci:image"];
    arguments.extend(fast.then_some("--fast"));
    let output = place.run(&arguments);
    let found = text(&output.stdout)
        .lines()
        .map(|line| {
            let finding: Value = serde_json::from_str(line).unwrap();
            let word = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
            let layer = finding["layer"].as_u64().map_or("image".to_owned(), |layer| layer.to_string());
            format!("{layer} {} {} {}", word("severity"), word("kind"), word("path")).trim_end().to_owned()
        })
        .collect();
    (found, output.status.code().unwrap())
}

/// A configuration that says nothing wrong.
fn sound_config(layers: &[&[u8]]) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(&config(layers)).unwrap();
    value["config"] = json!({"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]});
    value["history"] = json!(layers.iter().map(|_| json!({"created_by": "x"})).collect::<Vec<_>>());
    serde_json::to_vec(&value).unwrap()
}

fn shell() -> Tar {
    Tar::new().directory("bin").mode("bin/sh", 0o755, (0, 0), "#!")
}

/// An image of these layers, as gzip.
fn image(layers: &[Vec<u8>]) -> impl FnOnce(&mut Layout) -> Value {
    let layers = layers.to_vec();
    move |layout| {
        let refs: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        let stored: Vec<(&str, Vec<u8>)> =
            layers.iter().map(|layer| ("application/vnd.oci.image.layer.v1.tar+gzip", gzip(layer))).collect();
        layout.image_of(&sound_config(&refs), &stored)
    }
}

#[test]
fn check_finds_nothing_in_a_sound_image() {
    let layers = [shell().done(), Tar::new().file("bin/.wh.sh", "").file("bin/sh", "#!").done()];
    for fast in [false, true] {
        assert_eq!(findings(|_| {}, image(&layers), fast), (Vec::new(), 0));
    }
}

#[test]
fn check_finds_what_is_wrong_inside_layers() {
    let layers = [
        shell()
            .symlink("nowhere", "bin/none")
            .symlink("later", "/proc/self/mounts")
            .symlink("round", "round")
            .directory("root")
            .file("root/.netrc", "machine a login b password c")
            .file("key", "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n")
            .file("twice", "1")
            .file("twice", "2")
            .done(),
        Tar::new().file(".wh.ghost", "").file(".wh.root", "").file(".wh.key", "").file("none/.wh..wh..opq", "").done(),
    ];
    let expected = [
        "0 warning duplicate-entry twice",
        "0 warning hidden-secret key",
        "0 warning hidden-secret root/.netrc",
        "0 note dangling-link nowhere",
        "0 note dangling-link round",
        "1 note idle-whiteout ghost",
        "1 note idle-whiteout none",
    ];
    assert_eq!(findings(|_| {}, image(&layers), false), (expected.map(str::to_owned).to_vec(), 0));
    assert_eq!(findings(|_| {}, image(&layers), true), (Vec::new(), 0), "--fast reads no layer");
}

#[test]
fn check_goes_on_past_what_is_damaged() {
    // The sums of both names are equal, so that the header stays right.
    let climbing = text_replaced(&shell().file("+1/climb", "").file("after", "").done(), b"+1/climb", b"../climb");
    let layers = [
        shell().file("twice", "1").file("twice", "2").done(),
        climbing,
        Tar::new().file("a", vec![7; 3000]).done(),
        Tar::new().file("b", "b").done(),
        Tar::new().file("c", "c").file("c", "d").file(".wh.nothing", "").done(),
    ];
    let stored: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
    let name = |layer: usize| format!("blobs/sha256/{}", hex(&stored[layer]));
    let spoil = |layout: &mut Layout| {
        let at =
            |layout: &Layout, layer: usize| layout.files.iter().position(|(file, _)| *file == name(layer)).unwrap();
        let broken = at(layout, 2);
        let length = layout.files[broken].1.len();
        layout.files[broken].1[length - 5] ^= 1;
        let missing = at(layout, 3);
        layout.files.remove(missing);
    };
    let expected = [
        "image note not-checked",
        "0 warning duplicate-entry twice",
        "1 error name-climbs",
        "2 error blob-digest",
        "2 error blob-damaged",
        "3 error blob-missing",
        "4 warning duplicate-entry c",
    ];
    assert_eq!(findings(spoil, image(&layers), false), (expected.map(str::to_owned).to_vec(), 1));
    let missing = |layout: &mut Layout| layout.files.retain(|(file, _)| *file != name(3));
    assert_eq!(findings(missing, image(&layers), true), (vec!["3 error blob-missing".to_owned()], 1), "--fast");
}

#[test]
fn check_holds_statements_against_each_other() {
    let layer = shell().done();
    let wrong = |change: fn(&mut Value), media_type: &'static str, stored: Vec<u8>| {
        let mut config: Value = serde_json::from_slice(&sound_config(&[&layer])).unwrap();
        change(&mut config);
        let config = serde_json::to_vec(&config).unwrap();
        [false, true]
            .map(|fast| findings(|_| {}, |layout| layout.image_of(&config, &[(media_type, stored.clone())]), fast))
    };
    let only = |found: [(Vec<String>, i32); 2], expected: &[&str], code: i32| {
        for (index, found) in found.into_iter().enumerate() {
            let expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
            assert_eq!(found, (expected, code), "fast: {}", index == 1);
        }
    };
    only(wrong(|_| {}, LAYER, layer.clone()), &[], 0);
    only(wrong(|_| {}, LAYER, gzip(&layer)), &["0 warning media-type"], 0);
    let more = |config: &mut Value| config["history"] = json!([{"created_by": "a"}, {"created_by": "b"}]);
    only(wrong(more, LAYER, layer.clone()), &["image warning history"], 0);
    let env = |config: &mut Value| config["config"]["Env"] = json!(["PATH=/bin", "A", "B=1", "B=2"]);
    only(wrong(env, LAYER, layer.clone()), &["image warning config"; 2], 0);
    let directory = |config: &mut Value| config["config"]["WorkingDir"] = json!("here");
    only(wrong(directory, LAYER, layer.clone()), &["image warning config"], 0);
    let created = |config: &mut Value| config["created"] = json!("yesterday");
    only(wrong(created, LAYER, layer.clone()), &["image warning config"], 0);
    let count = |config: &mut Value| {
        let list = config["rootfs"]["diff_ids"].as_array_mut().unwrap();
        let again = list[0].clone();
        list.push(again);
    };
    only(wrong(count, LAYER, layer.clone()), &["image error layer-count"], 1);

    // What only reading tells.
    let command = |config: &mut Value| config["config"]["Cmd"] = json!(["bash"]);
    assert_eq!(wrong(command, LAYER, layer.clone())[0].0, ["image warning config"]);
    let other = |config: &mut Value| config["rootfs"]["diff_ids"] = json!([digest(b"other")]);
    let [full, fast] = wrong(other, LAYER, layer.clone());
    assert_eq!((full, fast), ((vec!["0 error diff-id".to_owned()], 1), (Vec::new(), 0)));
}

#[test]
fn check_knows_an_image_that_cannot_be_opened_from_a_file_that_is_none() {
    let broken = |layout: &mut Layout| {
        let descriptor = layout.blob(CONFIG, b"[]");
        layout
            .document(MANIFEST, &json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor, "layers": []}))
    };
    assert_eq!(findings(|_| {}, broken, false), (vec!["image error config".to_owned()], 1));
    let place = Place::new();
    fs::write(place.path("text"), "hello").unwrap();
    for image in ["missing.tar", "text"] {
        assert!(message(&place, &["check", image], 2).starts_with("layflat: cannot open "), "{image}");
    }
}

#[test]
fn check_finds_entries_that_do_not_fit_on_the_layers_below() {
    let layers = [
        shell().file("a", "a").done(),
        Tar::new().link(tar::EntryType::Link, "b", "missing").done(),
        Tar::new().file(".wh.a", "").done(),
    ];
    let expected = ["1 error bad-entry b"];
    assert_eq!(findings(|_| {}, image(&layers), false), (expected.map(str::to_owned).to_vec(), 1));
}

#[test]
fn check_names_every_entry_that_cannot_be_in_every_layer() {
    let link = tar::EntryType::Link;
    // The sums of both names are equal, so that the header stays right.
    let climbing =
        text_replaced(&Tar::new().file("+1/climb", "").link(link, "c", "gone").done(), b"+1/climb", b"../climb");
    let layers = [
        shell().file("f", "f").done(),
        Tar::new()
            .link(link, "a", "missing")
            .file("f2", "f")
            .file("f2/x", "under a file")
            .link(link, "b", "bin")
            .done(),
        climbing,
        Tar::new().file(".wh..", "").link(link, "a", "f").link(link, "d", "d2").file("d2", "later").done(),
        Tar::new().link(link, "e", "a").link(link, "e", "b").file("f/.wh..wh..opq", "").done(),
        Tar::new().symlink("l", "nowhere").file("x", "1").file("x", "2").done(),
    ];
    let expected = [
        "1 error bad-entry a",
        "1 error bad-entry b",
        "1 error bad-entry f2/x",
        "2 error name-climbs",
        "2 error bad-entry c",
        "3 error bad-entry",
        "3 error bad-entry d",
        "4 error bad-entry e",
        "4 warning duplicate-entry e",
        "4 note idle-whiteout f",
        "5 warning duplicate-entry x",
        "5 note dangling-link l",
    ];
    let (mut found, code) = findings(|_| {}, image(&layers), false);
    let mut expected = expected.map(str::to_owned).to_vec();
    found.sort();
    expected.sort();
    assert_eq!((found, code), (expected, 1));
}

#[test]
fn check_goes_on_above_a_layer_that_cannot_be_read() {
    let link = tar::EntryType::Link;
    let mut damaged = Tar::new().file("in-it", "x").file("after", "y").done();
    damaged[1024 + 148] ^= 1;
    let layers = [
        shell().file("etc/id_rsa", "secret").done(),
        damaged,
        // Its target may be in the layer that cannot be read; a file of the layer itself is a file.
        Tar::new().link(link, "a", "after").file("f", "f").file("f/x", "x").file(".wh.after", "").done(),
        Tar::new().file("etc/.wh.id_rsa", "").file("etc/.wh..", "").file("twice", "1").file("twice", "2").done(),
    ];
    let expected = [
        "image note not-checked",
        "0 warning hidden-secret etc/id_rsa",
        "1 error archive-damaged",
        "2 error bad-entry f/x",
        "3 error bad-entry",
        "3 warning duplicate-entry twice",
    ];
    let (found, code) = findings(|_| {}, image(&layers), false);
    assert_eq!((found, code), (expected.map(str::to_owned).to_vec(), 1));
}

/// Each takes another replay.
#[test]
fn check_names_so_many_and_no_more() {
    let links =
        (0..300).fold(Tar::new(), |tar, index| tar.link(tar::EntryType::Link, &format!("l{index:03}"), "missing"));
    let (found, code) = findings(|_| {}, image(&[shell().done(), links.done()]), false);
    assert_eq!((found.len(), code), (101, 1));
    assert_eq!(found.last().unwrap(), "1 note not-checked");
}

#[test]
fn names_of_images_cannot_write_to_a_terminal() {
    let place = Place::new();
    let evil = "a\x1b[2Jb";
    let layer = Tar::new().file(evil, "x").file(evil, "y").symlink("l\x1b[2J", "\x1b[2J/x").done();
    fs::write(place.path("evil.tar"), layer).unwrap();
    let questions: [&[&str]; 6] = [
        &["ls", "-lR", "layers:evil.tar"],
        &["find", "--all-layers", "layers:evil.tar", "*"],
        &["log", "layers:evil.tar", evil],
        &["waste", "layers:evil.tar"],
        &["check", "layers:evil.tar"],
        &["cat", "layers:evil.tar", "l\x1b[2J"],
    ];
    for question in questions {
        let output = place.run(question);
        let both = [output.stdout, output.stderr].concat();
        assert!(!both.is_empty() && !both.contains(&0x1b), "{question:?}: {}", text(&both));
    }
}

#[test]
fn answers_are_the_same_at_any_number_of_jobs() {
    let place = place();
    let image: PathBuf = place.path("image.tar");
    let image = image.to_str().unwrap();
    for question in
        [&["ls", "-lR", image][..], &["find", "--all-layers", image, "*"], &["waste", image], &["check", image]]
    {
        let answers = ["1", "2", "7"].map(|jobs| text(&place.run(&[question, &["--jobs", jobs]].concat()).stdout));
        assert!(answers[0] == answers[1] && answers[1] == answers[2], "{question:?}");
    }
}

/// What would steer a terminal: escape sequences, C1, DEL, characters that turn the text around, separators of lines.
const STEERING: &str = "x\u{1b}[2J\u{1b}]0;t\u{7}\u{202e}evil\u{2066}\u{2028}\u{2029}\u{9b}31m\u{7f}\r\nnew\tq";

#[test]
fn s9_nothing_that_an_image_says_steers_the_terminal() {
    let place = Place::new();
    let (file, link) = (format!("d/{STEERING}"), format!("l{STEERING}"));
    let base = Tar::new().directory("d").file(&file, "-----BEGIN PRIVATE KEY-----\n").symlink(&link, STEERING).done();
    let change = Tar::new().file(&format!("d/.wh.{STEERING}"), "").file(&format!("n{STEERING}"), "new").done();
    let config = json!({
        "architecture": format!("amd64{STEERING}"), "os": "linux", "author": STEERING, "created": "2023-11-14T22:13:20Z",
        "config": {
            "Cmd": [STEERING], "Entrypoint": [format!("/{STEERING}")], "Env": [format!("A={STEERING}"), STEERING], "User": "0",
            "Labels": {STEERING: STEERING}, "WorkingDir": format!("/{STEERING}"), "StopSignal": STEERING,
            "ExposedPorts": {STEERING: {}}, "Volumes": {format!("/{STEERING}"): {}},
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(&base), digest(&change)]},
        "history": [{"created_by": STEERING, "comment": STEERING}, {"created_by": STEERING}],
    });
    let mut layout = Layout::default();
    let image = layout.image_of(&serde_json::to_vec(&config).unwrap(), &[(LAYER, base), (LAYER, change)]);
    layout.list(crate::images::tagged(image, &format!("t{STEERING}"))).write(&place.path("layout"));

    let nowhere = format!("no{STEERING}");
    let tag = format!("oci:layout:{nowhere}");
    let out = format!("{STEERING}.tar");
    let deleted = format!("/{file}");
    let commands: &[&[&str]] = &[
        &["inspect", "oci:layout"],
        &["inspect", "--paths", "oci:layout"],
        &["ls", "-l", "oci:layout"],
        &["ls", "-l", "--changed-by", "0", "oci:layout", "d"],
        &["ls", "-l", "--changed-by", "1", "oci:layout", "d"],
        &["find", "--all-layers", "oci:layout"],
        &["find", "oci:layout", "[\u{1b}"],
        &["log", "oci:layout", &deleted],
        &["log", "oci:layout", &nowhere],
        &["cat", "oci:layout", &nowhere],
        &["waste", "oci:layout"],
        &["check", "oci:layout"],
        &["tags", "oci:layout"],
        &["digest", "oci:layout"],
        &["flatten", "oci:layout", "rootfs"],
        &["flatten", "oci:layout", "rootfs"],
        &["layers", "oci:layout", "layers"],
        &["bundle", "oci:layout", "bundle"],
        &["diff", "oci:layout", "rootfs"],
        &["diff", "oci:layout", &nowhere],
        &["copy", "oci:layout", "oci:copied:x"],
        &["copy", "oci:layout", "docker-archive:d.tar"],
        &["squash", "oci:layout", "oci:squashed:x"],
        &["flatten", "oci:layout", "--to", "tar", "-o", &out],
        &["flatten", &tag, "new"],
        &["flatten", &nowhere, "new"],
        &["flatten", &nowhere, &nowhere],
        &["mount", &nowhere, &nowhere],
        &["umount", &nowhere],
        &["cache", "ls"],
        &[&nowhere],
    ];
    let steers = |character: &char| *character != '\n' && layflat::core::text::steers_terminal(*character);
    for command in commands {
        for more in [&[][..], &["--json"]] {
            let output = place.run(&[command, more].concat());
            for stream in [&output.stdout, &output.stderr] {
                let found: Vec<char> = text(stream).chars().filter(steers).collect();
                assert!(found.is_empty(), "{command:?} {more:?}: {found:?}");
            }
            let documents = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
            assert!(more.is_empty() || documents.into_iter().all(|document| document.is_ok()), "{command:?}");
        }
    }
    // JSON says what the image says.
    let inspected: Value = serde_json::from_str(&printed(&place, &["inspect", "--json", "oci:layout"])).unwrap();
    assert_eq!(inspected["config"]["author"], STEERING);
}
