//! The cache: shared, listed, tidied, and never from under anyone.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::place::{Images as _, Place, fixture, noise, succeeded};
use super::proxy::{Act, PATIENTLY, Proxy, counting, stalling};
use super::servers::Registry;
use crate::common::harness::Test;
use crate::common::unmount::by_umount;
use crate::common::{tools, wait};

pub(crate) const TESTS: &[Test] = &[
    ("cache::two_processes_fetch_the_same_image_at_once", false, two_at_once),
    ("cache::eight_processes_ask_for_each_blob_once", false, eight_at_once),
    ("cache::eight_processes_index_each_layer_once", false, eight_index),
    ("cache::who_waits_for_a_killed_process_fetches_the_rest", false, killed_while_fetching),
    ("cache::contents_are_written_while_their_blob_comes", false, contents_while_fetching),
    ("cache::verify_finds_and_removes_what_is_damaged", false, verified),
    ("cache::what_was_not_used_goes_first", false, pruned),
    ("cache::it_is_its_owners_alone", false, private),
    ("cache::a_download_survives_a_prune", false, prune_while_fetching),
    ("cache::what_is_mounted_stays", true, mounted),
    ("cache::without_a_home_there_is_none", false, homeless),
    ("cache::without_locks_it_is_used_and_nothing_is_removed", true, without_locks),
    ("cache::what_went_bad_is_fetched_again", false, gone_bad),
];

fn two_at_once() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&place.image("layout", &[("a", noise(200_000, 1)), ("b", noise(300_000, 2))]), "a:1", &[]);
    let image = registry.image("a:1");
    let start = |dest: &str| place.layflat(&["flatten", &image, dest]).stderr(Stdio::piped()).spawn().unwrap();
    let children: Vec<_> = (0..4).map(|number| start(&format!("dest-{number}"))).collect();
    for child in children {
        succeeded(&child.wait_with_output().unwrap());
    }
    assert_eq!(place.printed(&["diff", "dest-0", "dest-3"]), "");
    assert_eq!(place.cached().len(), 4);
}

fn start(place: &Place, arguments: &[&str]) -> std::process::Child {
    place.layflat(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn eight_at_once() {
    let place = Place::new();
    let registry = Registry::open(&place);
    let files: Vec<(String, Vec<u8>)> =
        (0..4).map(|number| (format!("file-{number}"), noise(1_000_000, number))).collect();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, content)| (name.as_str(), content.clone())).collect();
    registry.put(&place.image("layout", &files), "a:1", &[]);
    let (proxy, asked) = counting(registry.address);
    let image = proxy.image("a:1");
    let children: Vec<_> =
        (0..8).map(|number| start(&place, &["flatten", &image, &format!("dest-{number}")])).collect();
    for child in children {
        succeeded(&child.wait_with_output().unwrap());
    }
    assert_eq!(place.printed(&["diff", "dest-0", "dest-7"]), "");
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 5, "{asked:?}");
    assert!(asked.values().all(|&times| times == 1), "{asked:?}");
}

fn eight_index() {
    let place = Place::new();
    let image = place.image("layout", &[("a", noise(3_000_000, 1)), ("b", noise(2_000_000, 2))]);
    let children: Vec<_> = (0..8).map(|_| start(&place, &["ls", &image])).collect();
    for child in children {
        assert!(succeeded(&child.wait_with_output().unwrap()).contains('b'));
    }
    let cached = place.cached();
    assert!(cached.len() == 2 && cached.iter().all(|name| name.starts_with("index/sha256-")), "{cached:?}");
}

fn killed_while_fetching() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&place.image("layout", &[("a", noise(4_000_000, 1))]), "a:1", &[]);
    let (proxy, stalls) = stalling(registry.address, 3_000_000);
    let image = proxy.image("a:1");
    let flatten = |dest| start(&place, &[&["flatten", &image, dest][..], &PATIENTLY].concat());
    let mut first = flatten("dest-0");
    wait::told(&stalls);
    wait::told(&stalls);
    let mut second = flatten("dest-1");
    // After a second it tells what it waits for; it may have more to say later.
    let mut lines = BufReader::new(second.stderr.take().unwrap()).lines();
    let said = lines.next().unwrap().unwrap();
    assert!(said.contains("waiting for another process, which fetches blob sha256:"), "{said}");
    // All that was sent has arrived.
    let partial = || place.cached().into_iter().find(|name| name.contains("/new-"));
    let arrived = || partial().and_then(|name| std::fs::metadata(place.path("home/.cache/layflat").join(name)).ok());
    wait::while_it_runs(&mut first, "nothing comes", || arrived().is_some_and(|it| it.len() == 3_000_000));
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(second.wait().unwrap().success());
    assert_eq!(std::fs::read(place.path("dest-1/a")).unwrap(), noise(4_000_000, 1));
    assert!(stalls.try_recv().is_err(), "it went on where the other one was");
}

/// What EROFS images point at is made of the stream, and not of the blob once it is here.
fn contents_while_fetching() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&place.image("layout", &[("a", noise(4_000_000, 1))]), "a:1", &[]);
    let (proxy, stalls) = stalling(registry.address, 3_000_000);
    let image = proxy.image("a:1");
    let arguments = [&["layers", "--backend", "erofs", "--merged", &image, "dest"][..], &PATIENTLY].concat();
    let mut first = start(&place, &arguments);
    let written = || {
        let files = walkdir::WalkDir::new(place.path("home/.cache/layflat/contents")).into_iter().flatten();
        let data = files.filter(|entry| entry.file_name() == "data").filter_map(|entry| entry.metadata().ok());
        data.map(|metadata| metadata.len()).sum::<u64>()
    };
    // The configuration, which is short, and the layer.
    wait::told(&stalls);
    wait::told(&stalls);
    wait::while_it_runs(&mut first, "nothing is written", || written() >= 2_000_000);
    first.kill().unwrap();
    first.wait().unwrap();
    // The rest is all that is asked for.
    succeeded(&place.run(&arguments));
    assert!(stalls.try_recv().is_err());
    assert!(place.cached().iter().any(|name| name.starts_with("blobs/")), "the blob is kept, too");
}

fn verified() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&place.image("layout", &[("a", noise(100_000, 1)), ("b", noise(1000, 2))]), "a:1", &[]);
    let image = registry.image("a:1");
    place.printed(&["ls", &image]);
    let whole = place.json(&["cache", "verify"]);
    assert_eq!((whole["checked"].as_u64(), whole["damaged"].as_array().map(Vec::len)), (Some(6), Some(0)));
    let cache = place.path("home/.cache/layflat");
    for name in place.cached() {
        let path = cache.join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let found = place.run(&["cache", "verify"]);
    assert_eq!(found.status.code(), Some(1));
    let lines = String::from_utf8(found.stdout).unwrap();
    assert_eq!(
        lines.lines().filter(|line| line.starts_with("blob sha256:") && line.ends_with("digest says")).count(),
        4
    );
    assert_eq!(lines.lines().filter(|line| line.starts_with("index sha256-")).count(), 2);
    assert!(String::from_utf8(found.stderr).unwrap().contains("6 checked, 6 damaged"));
    let lines = place.printed(&["cache", "verify", "--repair"]);
    assert!(lines.lines().count() == 6 && lines.lines().all(|line| line.ends_with("; removed")), "{lines}");
    assert!(place.cached().is_empty());
    place.printed(&["ls", &image]);
    assert_eq!(place.printed(&["cache", "verify"]), "");
}

fn private() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&place.image("one", &[("a", noise(1000, 1))]), "one:1", &[]);
    place.printed(&["ls", &registry.image("one:1"), "--cache-dir", &place.path("kept").display().to_string()]);
    for made in ["kept", "kept/blobs", "kept/index"] {
        assert_eq!(mode(place.path(made)), 0o700, "{made}");
    }
}

fn pruned() {
    let place = Place::new();
    assert_eq!(place.printed(&["cache", "ls"]), "");
    let registry = Registry::open(&place);
    registry.put(&place.image("one", &[("a", noise(100_000, 1))]), "one:1", &[]);
    registry.put(&place.image("two", &[("a", noise(100_000, 2))]), "two:1", &[]);
    place.printed(&["inspect", "--counts", &registry.image("one:1")]);
    let first = place.cached();
    place.printed(&["inspect", "--counts", &registry.image("two:1")]);
    let listed = place.json(&["cache", "ls"]);
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 6);
    assert!(listed.iter().all(|entry| entry["kind"] == "blob" && entry["in_use"] == false));
    let total: u64 = listed.iter().map(|entry| entry["size"].as_u64().unwrap()).sum();
    assert!(total > 200_000);
    // Seconds are what times are kept in for users; which went first is what counts.
    let report = place.json(&["cache", "prune", "--max-size", "150K"]);
    assert!(report["left"].as_u64().unwrap() <= 150 << 10);
    let removed = report["removed"].as_array().unwrap();
    let names: Vec<String> =
        removed.iter().map(|entry| format!("blobs/{}", entry["name"].as_str().unwrap().replace(':', "/"))).collect();
    assert!(!names.is_empty() && names.iter().all(|name| first.contains(name)), "{names:?} {first:?}");
    place.printed(&["cache", "prune", "--all"]);
    assert!(place.cached().is_empty());
    place.printed(&["inspect", "--counts", &registry.image("one:1")]);
}

fn prune_while_fetching() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&place.image("layout", &[("a", noise(300_000, 1))]), "a:1", &[]);
    let (told, stalls) = std::sync::mpsc::channel();
    let proxy = Proxy::start(Some(registry.address), move |head, _| {
        if head.is_blob() && head.header("range").is_none() && head.path.len() > 20 {
            let _ = told.send(head.path.clone());
            return if head.path.contains("blobs") { Act::Cut(50_000) } else { Act::Pass };
        }
        Act::Pass
    });
    let child = place.layflat(&["flatten", &proxy.image("a:1"), "dest"]).stderr(Stdio::piped()).spawn().unwrap();
    // The configuration, then the layer: now something grows in the cache.
    wait::told(&stalls);
    wait::told(&stalls);
    for _ in 0..20 {
        place.printed(&["cache", "prune", "--all"]);
    }
    succeeded(&child.wait_with_output().unwrap());
    assert_eq!(std::fs::read(place.path("dest/a")).unwrap(), noise(300_000, 1));
}

fn mounted() {
    let place = Place::new();
    std::fs::create_dir(place.path("target")).unwrap();
    // In a mount namespace of its own, so that nothing stays mounted.
    let script = r#"layflat=$1; image=$2
        "$layflat" -q mount --backend overlay "$image" target || exit
        "$layflat" --quiet cache ls >listed
        "$layflat" cache prune --all && cat target/b && umount target && "$layflat" cache prune --all"#;
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(assert_cmd::cargo::cargo_bin!("layflat"))
        .arg(fixture())
        .current_dir(place.directory())
        .env("HOME", place.path("home"))
        .env_remove("XDG_CACHE_HOME")
        .output()
        .unwrap();
    assert_eq!(succeeded(&output), "this is b\n");
    let listed = std::fs::read_to_string(place.path("listed")).unwrap();
    assert!(listed.contains("in use  image  sha256-") && listed.contains("in use  layer  sha256-"), "{listed}");
    let said = String::from_utf8(output.stderr).unwrap();
    let said: Vec<&str> = said.lines().collect();
    assert!(said[0].starts_with("0 removed, 0 B freed; ") && said[0].ends_with(" in use"), "{said:?}");
    assert!(said[1].starts_with("5 removed, ") && said[1].ends_with("; 0 B left"), "{said:?}");
    assert!(place.cached().is_empty());
}

/// As on NFS without lockd, or Lustre mounted without locks: every flock(2) fails.
fn without_locks() {
    tools::need(&["strace"]);
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&place.image("layout", &[("a", noise(100_000, 1)), ("b", noise(1000, 2))]), "a:1", &[]);
    let (proxy, asked) = counting(registry.address);
    let image = proxy.image("a:1");
    let layflat = |arguments: &[&str]| {
        let mut command = place.command("strace");
        command.args(["-f", "-qq", "-o", "trace", "-e", "trace=flock", "-e", "inject=flock:error=ENOLCK"]);
        let output = command.arg(assert_cmd::cargo::cargo_bin!("layflat")).args(arguments).output().unwrap();
        assert!(std::fs::read_to_string(place.path("trace")).unwrap().contains("(INJECTED)"), "{arguments:?}");
        output
    };
    succeeded(&layflat(&["flatten", &image, "one"]));
    succeeded(&layflat(&["flatten", &image, "two"]));
    assert_eq!(place.printed(&["diff", "one", "two"]), "");
    assert!(asked.lock().unwrap().values().all(|&times| times == 1), "{asked:?}");
    // What was unpacked for a mount is found again, too.
    std::fs::create_dir(place.path("target")).unwrap();
    for backend in ["overlay", "erofs"] {
        let mut made = Vec::new();
        for _ in 0..2 {
            succeeded(&layflat(&["mount", "--backend", backend, &image, "target"]));
            assert_eq!(place.printed(&["diff", "one", "target"]), "");
            by_umount(&place.path("target"));
            made.push(place.cached());
        }
        assert_eq!(made[0], made[1]);
    }
    let before = place.cached();
    let output = layflat(&["cache", "prune", "--all"]);
    succeeded(&output);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("0 removed, ") && said.contains("has no locks (flock)"), "{said}");
    assert_eq!(place.cached(), before);
    assert!(place.printed(&["cache", "prune", "--all"]).is_empty());
    assert!(place.cached().is_empty());
}

fn homeless() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&fixture(), "four:1", &[]);
    let image = registry.image("four:1");
    // Where not even root can make a directory.
    std::fs::write(place.path("file"), "").unwrap();
    let mut command = place.layflat(&["inspect", "--counts", &image]);
    succeeded(&command.env("HOME", place.path("file")).output().unwrap());
    let message = place.message(&["inspect", "--counts", "--cache-dir", "file", &image]);
    let begin = format!("cannot open {image}: cannot keep it in the cache \"file/blobs\": ");
    assert!(message.starts_with(&begin) && message.ends_with("; use --cache-dir or --no-cache"), "{message}");
}

fn gone_bad() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&place.image("layout", &[("a", noise(100_000, 1))]), "a:1", &[]);
    let image = registry.image("a:1");
    place.printed(&["inspect", "--counts", &image]);
    let cache = place.path("home/.cache/layflat");
    let largest = place.cached().into_iter().max_by_key(|name| std::fs::metadata(cache.join(name)).unwrap().len());
    let path = cache.join(largest.unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[50_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let message = place.message(&["flatten", &image, "dest"]);
    assert!(message.starts_with(&format!("layer 0 ({path:?}): blob sha256:")), "{message}");
    place.printed(&["flatten", &image, "dest"]);
    // One that lost its end, too.
    std::fs::write(&path, b"short").unwrap();
    place.printed(&["flatten", "--replace", &image, "dest"]);
}
