//! What an image may ask for, and what a system may refuse: time, memory, disk, threads, file handles (rule S10).

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, and this is another harness")]

use std::os::unix::fs::PermissionsExt;

use super::*;

pub(super) const TESTS: &[Test] = &[
    ("s10_a_hole_is_not_read", false, s10_a_hole_is_not_read),
    ("s10_a_hole_is_unpacked_compared_and_exported_as_one", false, s10_a_hole_is_unpacked_compared_and_exported_as_one),
    ("s10_directories_on_the_way_to_a_name_are_counted", false, s10_directories_on_the_way_to_a_name_are_counted),
    ("s10_names_are_counted_while_layers_are_read", true, s10_names_are_counted_while_layers_are_read),
    ("s10_directories_behind_symlinks_are_counted", false, s10_directories_behind_symlinks_are_counted),
    ("s10_copies_of_what_lower_layers_have_are_limited", false, s10_copies_of_what_lower_layers_have_are_limited),
    ("s10_room_of_what_later_layers_replace_is_given_back", false, s10_room_of_what_later_layers_replace_is_given_back),
    ("s10_room_is_given_back_whatever_is_read_first", false, s10_room_is_given_back_whatever_is_read_first),
    ("s10_what_is_still_shown_is_not_given_back", false, s10_what_is_still_shown_is_not_given_back),
    ("s10_hundreds_of_layers_need_few_file_handles", false, s10_hundreds_of_layers_need_few_file_handles),
    (
        "s10_a_file_beyond_the_limit_of_the_process_is_an_error",
        false,
        s10_a_file_beyond_the_limit_of_the_process_is_an_error,
    ),
    ("s10_a_limit_on_processes_costs_time_alone", true, s10_a_limit_on_processes_costs_time_alone),
    ("s10_what_is_at_a_destination_is_read_within_limits", false, s10_what_is_at_a_destination_is_read_within_limits),
];

/// Runs a script of a shell in the cage, in which `$0` is the program; what it wrote, to both outputs.
fn script(cage: &Cage, text: &str, arguments: &[&str]) -> (bool, String) {
    shell(cage, &["sh"], text, arguments)
}

fn shell(cage: &Cage, shell: &[&str], text: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).arg("-c").arg(text).arg(assert_cmd::cargo::cargo_bin!("layflat")).args(arguments);
    command.current_dir(cage.0.path()).env("XDG_CACHE_HOME", cage.path("in/cache")).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(!text.contains("panicked"), "{text}");
    (output.status.success(), text)
}

/// A file of which the archive has three bytes, behind a hole.
fn sparse(name: &str, size: u64) -> Vec<u8> {
    let (offset, size_text) = ((size - 512).to_string(), size.to_string());
    let map = format!("1\n{offset}\n3\n");
    let mut data = map.into_bytes();
    data.resize(512, 0);
    data.extend(b"end");
    let header = pax(&[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", name.as_bytes()),
        ("GNU.sparse.realsize", size_text.as_bytes()),
    ]);
    [header, entry(b'0', b"GNUSparseFile.0/x", b"", &data)].concat()
}

fn s10_a_hole_is_not_read() {
    const SIZE: u64 = 4 << 40;
    let cage = Cage::new();
    let one = layer(&[sparse("etc/hole", SIZE), file("etc/other", "x")]);
    let image = cage.image(&[one.clone(), layer(&[sparse("etc/hole", SIZE), sparse("etc/longer", SIZE + 512)])]);
    for (command, expected) in [
        (r#""$0" -q ls -l "$1" etc"#, "4398046511104"),
        (r#""$0" -q check "$1""#, ""),
        (r#""$0" -q inspect "$1""#, "layer"),
        (r#""$0" find "$1" hole"#, "etc/hole"),
        (r#""$0" -q log "$1" etc/hole"#, "added"),
        (r#""$0" -q waste "$1""#, "etc/hole"),
        // Half of it is a hole in both, and the rest is not looked at.
        (r#""$0" -q cat "$1" etc/hole | head -c 1000 | tr -d '\0' | wc -c"#, "0\ncode 0\n"),
    ] {
        // Of a processor's time, which other work does not take: far above what any of it takes, and far below what it took.
        let text = format!("ulimit -t 60; {command}; echo \"code $?\"");
        let (_, text) = script(&cage, &text, &[&image]);
        let was_killed = !text.contains("code 0\n") && !text.contains("code 1\n");
        assert!(text.contains(expected) && !was_killed, "{command}: {text}");
    }
    // The same content once more is the same content.
    assert!(script(&cage, r#""$0" -q log "$1" etc/hole"#, &[&image]).1.contains("1  metadata"));
}

fn s10_a_hole_is_unpacked_compared_and_exported_as_one() {
    const SIZE: u64 = 1 << 30;
    let cage = Cage::new();
    let image = cage.image(&[layer(&[sparse("hole", SIZE)])]);
    cage.run("flatten", &image, &[]).unwrap();
    let made = fs::metadata(cage.path("dest/hole")).unwrap();
    assert!(made.len() == SIZE && made.blocks() < 1000, "{} blocks", made.blocks());
    let (same, text) =
        script(&cage, r#""$0" -q diff "$1" dest && "$0" -q flatten "$1" --to tar -o in/flat.tar"#, &[&image]);
    assert!(same, "{text}");
    assert!(fs::metadata(cage.path("in/flat.tar")).unwrap().len() < 20_000);
}

/// Paths of so many components, all of them others.
fn deep_paths(count: usize, depth: usize) -> Vec<u8> {
    let path = |number: usize| format!("{number}/{}f", "d/".repeat(depth));
    layer(
        &(0..count)
            .map(|number| [pax(&[("path", path(number).as_bytes())]), file("f", "")].concat())
            .collect::<Vec<_>>(),
    )
}

fn s10_directories_on_the_way_to_a_name_are_counted() {
    let cage = Cage::new();
    let image = cage.image(&[gzip(&deep_paths(150, 1000))]);
    // In 200 MB of address space, where the paths alone would be more if each were written out.
    for command in ["find \"$1\" nothing", "waste \"$1\"", "check \"$1\""] {
        let text = format!("ulimit -v 200000; \"$0\" -q {command}");
        let (_, text) = script(&cage, &text, &[&image]);
        assert!(!text.contains("memory allocation"), "{command}: {text}");
    }
    for limit in ["names=10000", "path-bytes=1000000"] {
        for form in FORMS {
            let message = cage.run(form, &image, &["--limit", limit]).unwrap_err();
            assert!(message.contains(&format!("--limit {}=", limit.split_once('=').unwrap().0)), "{message}");
        }
    }
}

/// Where the file system has room for a tenth of what the layers ask for, it is the limit that ends the work.
fn s10_names_are_counted_while_layers_are_read() {
    let cage = Cage::new();
    let files = |layer: usize| (0..10_000).map(move |number| file(&format!("{layer}/{}/{number}", number / 100), ""));
    let one = |number: usize| gzip(&layer(&files(number).collect::<Vec<_>>()));
    let image = cage.image(&[one(0), one(1)]);
    let small = r#"mkdir -p in/small && mount -t tmpfs -o nr_inodes=2500 tmpfs in/small && exec "$0" -q "$@""#;
    for limit in ["names=1000", "path-bytes=10000"] {
        for form in FORMS {
            let arguments = [form, "--jobs", "1", "--limit", limit, &image, "in/small/made"];
            let (_, text) = shell(&cage, &["unshare", "--mount", "sh"], small, &arguments);
            assert!(text.contains(&format!("--limit {}=", limit.split_once('=').unwrap().0)), "{text}");
        }
    }
    // Those of all layers count together.
    for form in FORMS {
        let arguments = [form, "--limit", "names=15000", &image, "in/made"];
        let (_, text) = script(&cage, r#"exec "$0" -q "$@""#, &arguments);
        assert!(text.contains("--limit names="), "{text}");
    }
}

/// A symlink makes many directories of a short name.
fn s10_directories_behind_symlinks_are_counted() {
    let cage = Cage::new();
    let targets: Vec<Vec<u8>> = (0..100)
        .map(|number| {
            let target = format!("{number}{}", "/d".repeat(2000));
            [pax(&[("linkpath", target.as_bytes())]), to(b'2', &format!("l{number}"), "x")].concat()
        })
        .collect();
    let entries: Vec<Vec<u8>> = (0..100).map(|number| file(&format!("l{number}/f"), "")).collect();
    let image = cage.image(&[layer(&[targets, entries].concat())]);
    let message = cage.run("flatten", &image, &["--limit", "names=100000"]).unwrap_err();
    assert!(message.contains("--limit names="), "{message}");
    let (_, text) = script(&cage, r#""$0" -q ls --limit path-bytes=1000000 "$1""#, &[&image]);
    assert!(text.contains("--limit path-bytes="), "{text}");
}

fn s10_copies_of_what_lower_layers_have_are_limited() {
    let cage = Cage::new();
    let base = layer(&[entry(b'0', b"large", b"", &vec![b'x'; 20 << 20])]);
    let mut layers = vec![base];
    layers.extend((0..40).map(|number| layer(&[to(b'1', &format!("link-{number}"), "large")])));
    let image = cage.image(&layers);
    cage.run("flatten", &image, &[]).unwrap();
    cage.clear();
    match cage.run("layers", &image, &[]) {
        Err(message) => assert!(
            message.contains("layer ") && message.contains("large") && message.contains("--limit copy-up="),
            "{message}"
        ),
        // Where copies take no room there is nothing to limit.
        Ok(()) => assert!(
            script(&cage, "stat -f -c %T .", &[]).1.contains("btrfs")
                || script(&cage, "stat -f -c %T .", &[]).1.contains("xfs")
        ),
    }
    cage.clear();
    cage.run("layers", &image, &["--limit", "copy-up=50"]).unwrap();
}

/// In a user namespace, where an ordinary user may mount a small file system.
fn s10_room_of_what_later_layers_replace_is_given_back() {
    tools::need_user_namespace();
    let cage = Cage::new();
    let version = |number: u8| layer(&[entry(b'0', b"d/file", b"", &vec![number; 8 << 20]), file("d/same", "x")]);
    let mut layers: Vec<Vec<u8>> = (0..8).map(version).collect();
    layers.push(layer(&[file("d/.wh.file", "")]));
    layers.push(version(9));
    let image = cage.image(&layers);
    fs::create_dir(cage.path("in/small")).unwrap();
    // Three versions at a time would be 24 MiB.
    let text = r#"mount -t tmpfs -o size=20m none in/small && "$0" -q flatten --jobs 1 "$1" in/small/dest &&
        cat in/small/dest/d/same && stat -c %s in/small/dest/d/file && ls in/small/dest/d && head -c 1 in/small/dest/d/file | od -An -tx1"#;
    let unshare = ["unshare", "--map-root-user", "--mount", "sh"];
    let (whole, found) = shell(&cage, &unshare, text, &[&image]);
    assert!(whole, "{found}");
    assert_eq!(found, "x8388608\nfile\nsame\n 09\n");
    let several = text.replace("--jobs 1", "--jobs 2").replace("size=20m", "size=40m");
    assert!(shell(&cage, &unshare, &several, &[&image]).0);
}

/// With several jobs some layer is read before those below it.
fn s10_room_is_given_back_whatever_is_read_first() {
    tools::need_user_namespace();
    let cage = Cage::new();
    let large = |number: u8| layer(&[entry(b'0', b"d/file", b"", &vec![number; 8 << 20])]);
    let small = |number: u8| layer(&[file(&format!("small-{number}"), "x")]);
    // As many bytes, and far longer work.
    let slow = layer(&(0..16_000).map(|number| file(&format!("slow/{number}"), "")).collect::<Vec<_>>());
    let images = [
        // The largest are read first.
        (0..10).flat_map(|number| [large(number), small(number)]).collect(),
        [large(0), slow].into_iter().chain((1..10).map(large)).collect::<Vec<_>>(),
    ];
    fs::create_dir(cage.path("in/small")).unwrap();
    let text = r#"mount -t tmpfs -o size=40m none in/small && "$0" -q flatten --jobs 2 "$1" in/small/dest &&
        head -c 1 in/small/dest/d/file | od -An -tx1"#;
    for layers in images {
        let image = cage.image(&layers);
        let unshare = ["unshare", "--map-root-user", "--mount", "sh"];
        assert_eq!(shell(&cage, &unshare, text, &[&image]), (true, " 09\n".to_owned()));
    }
}

/// What has another name is still needed, and so is what only seems to be replaced.
fn s10_what_is_still_shown_is_not_given_back() {
    let large = |name: &str, byte| entry(b'0', name.as_bytes(), b"", &vec![byte; 5 << 20]);
    let layers = [
        layer(&[directory("usr/lib"), to(b'2', "lib", "usr/lib"), large("lib/one", b'1'), large("two", b'2')]),
        layer(&[to(b'1', "two-again", "two")]),
        layer(&[large("two", b'3'), file("x/.wh.two-again", "")]),
        layer(&[directory("lib"), large("lib/one", b'4'), large("lib/one", b'5')]),
    ];
    let cage = Cage::new();
    let image = cage.image(&layers);
    for jobs in ["1", "3"] {
        cage.run("flatten", &image, &["--jobs", jobs]).unwrap();
        let first = |name: &str| fs::read(cage.path("dest").join(name)).unwrap()[0];
        let found = ["usr/lib/one", "two-again", "two", "lib/one"].map(first);
        assert_eq!(found, *b"1235");
        cage.clear();
    }
}

fn s10_hundreds_of_layers_need_few_file_handles() {
    const LAYERS: usize = 200;
    let cage = Cage::new();
    let layers: Vec<Vec<u8>> = (0..LAYERS)
        .map(|number| {
            layer(&[file(&format!("d{number}/e/f"), "x"), file(&format!("all/{number}"), "y"), file("same", "z")])
        })
        .collect();
    let image = cage.image(&layers);
    for command in [
        r#"flatten "$1" in/flat"#,
        r#"layers "$1" in/layers"#,
        r#"inspect "$1""#,
        r#"check "$1""#,
        r#"copy "$1" oci:in/oci:a"#,
        r#"flatten oci:in/oci:a in/dest"#,
        r#"copy oci:in/oci:a docker-archive:in/a.tar"#,
        r#"squash oci:in/oci:a oci:in/squashed:a"#,
        r#"squash --from 100 in/a.tar oci:in/squashed:b"#,
        r#"copy --exclude same oci:in/oci:a oci:in/filtered:a"#,
        r#"flatten oci:in/oci:a --to tar -o in/flat.tar"#,
        r#"flatten in/a.tar -o in/flat-too.tar"#,
        r#"flatten oci:in/oci:a --to erofs -o in/flat.erofs"#,
        r#"diff oci:in/squashed:a in/dest"#,
    ] {
        let (done, text) = script(&cage, &format!("ulimit -n 32; exec \"$0\" -q {command}"), &[&image]);
        assert!(done, "{command}: {text}");
    }
    assert_eq!(fs::read_dir(cage.path("in/dest/all")).unwrap().count(), LAYERS);
}

fn s10_a_file_beyond_the_limit_of_the_process_is_an_error() {
    let cage = Cage::new();
    let image = cage.image(&[layer(&[entry(b'0', b"large", b"", &vec![b'x'; 2 << 20])])]);
    for form in ["flatten", "layers"] {
        let text = format!("ulimit -f 1000; \"$0\" -q {form} \"$1\" dest; echo $?");
        let (_, text) = script(&cage, &text, &[&image]);
        assert!(text.starts_with("1\n") && text.contains("large") && text.contains("File too large"), "{text}");
        cage.nothing_else(false);
    }
}

/// Where no thread can be made the work is done without.
fn s10_a_limit_on_processes_costs_time_alone() {
    let cage = Cage::new();
    let content: Vec<u8> = (0..2 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let layers = [0, 1, 2].map(|number: u8| gzip(&layer(&[entry(b'0', &[b'f', b'0' + number], b"", &content)])));
    let image = cage.image(&layers);
    for place in [".", "in"] {
        fs::set_permissions(cage.path(place), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let program = cage.path("in/layflat");
    crate::common::tools::put_program(assert_cmd::cargo::cargo_bin!("layflat"), &program);
    for command in [
        r#"flatten "$1" dest"#,
        r#"layers "$1" in/layers"#,
        r#"check "$1""#,
        r#"find "$1" f0"#,
        r#"copy "$1" oci:in/oci:a --compression zstd"#,
        r#"squash oci:in/oci:a oci:in/squashed"#,
        r#"diff dest oci:in/oci:a"#,
        r#"flatten oci:in/oci:a --to tar -o in/flat.tar"#,
    ] {
        // Not a user of this machine, so that there is nothing else of theirs.
        let user = ["setpriv", "--reuid=61234", "--regid=61234", "--clear-groups", "prlimit", "--nproc=1:1", "sh"];
        let (done, text) = shell(&cage, &user, &format!("exec in/layflat -q {command}"), &[&image]);
        assert!(done, "{command}: {text}");
    }
    let user = ["setpriv", "--reuid=61234", "--regid=61234", "--clear-groups", "prlimit", "--nproc=1:1", "sh"];
    let text = "export HOME=$PWD/in; exec in/layflat -q tags docker://localhost:1/a";
    let (_, text) = shell(&cage, &user, text, &[]);
    assert!(text.contains("cannot reach the registry"), "{text}");
}

/// In the place of an index or of a list of images: what would be waited for, and what has no end.
fn s10_what_is_at_a_destination_is_read_within_limits() {
    let cage = Cage::new();
    let image = cage.image(&[layer(&[file("a", "x")])]);
    for (kind, name) in [("oci", "index.json"), ("dir", "manifest.json")] {
        for (text, expected) in [
            (format!("mkfifo in/there/{name}"), "not a regular file"),
            (format!("ln -s /dev/zero in/there/{name}"), name),
            (format!("truncate -s 1G in/there/{name}"), "--limit metadata-size="),
        ] {
            let text = format!(
                "rm -rf in/there; mkdir in/there; {text}; timeout 60 \"$0\" -q copy \"$1\" {kind}:in/there; echo $?"
            );
            let (_, text) = script(&cage, &text, &[&image]);
            assert!(text.starts_with("1\n") && text.contains(expected), "{kind}: {text}");
        }
    }
}
