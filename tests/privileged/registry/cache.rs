//! The cache: shared, listed, tidied, and never from under anyone.

use std::process::{Command, Stdio};

use super::place::{Place, fixture, noise, succeeded};
use super::proxy::{Act, Proxy};
use super::servers::Registry;
use crate::common::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("cache::two_processes_fetch_the_same_image_at_once", false, two_at_once),
    ("cache::what_was_not_used_goes_first", false, pruned),
    ("cache::it_is_its_owners_alone", false, private),
    ("cache::a_download_survives_a_prune", false, prune_while_fetching),
    ("cache::what_is_mounted_stays", true, mounted),
    ("cache::without_a_home_there_is_none", false, homeless),
    ("cache::what_went_bad_is_fetched_again", false, gone_bad),
];

fn two_at_once() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&place.image("layout", &[("a", noise(200_000, 1)), ("b", noise(300_000, 2))]), "a:1", &[]);
    let image = registry.image("a:1");
    let start = |dest: &str| {
        Command::new(assert_cmd::cargo::cargo_bin!("layflat"))
            .args(["flatten", &image, dest])
            .current_dir(place.0.path())
            .env("HOME", place.path("home"))
            .env_remove("XDG_CACHE_HOME")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children: Vec<_> = (0..4).map(|number| start(&format!("dest-{number}"))).collect();
    for child in children {
        succeeded(&child.wait_with_output().unwrap());
    }
    assert_eq!(place.printed(&["diff", "dest-0", "dest-3"]), "");
    assert_eq!(place.cached().len(), 4);
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
    place.printed(&["cache", "prune"]);
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
            told.send(head.path.clone()).unwrap();
            return if head.path.contains("blobs") { Act::Cut(50_000) } else { Act::Pass };
        }
        Act::Pass
    });
    let child = Command::new(assert_cmd::cargo::cargo_bin!("layflat"))
        .args(["flatten", &proxy.image("a:1"), "dest"])
        .current_dir(place.0.path())
        .env("HOME", place.path("home"))
        .env_remove("XDG_CACHE_HOME")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The configuration, then the layer: now something grows in the cache.
    stalls.recv().unwrap();
    stalls.recv().unwrap();
    for _ in 0..20 {
        place.printed(&["cache", "prune"]);
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
        "$layflat" cache ls >listed
        "$layflat" cache prune && cat target/b && umount target && "$layflat" cache prune"#;
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(assert_cmd::cargo::cargo_bin!("layflat"))
        .arg(fixture())
        .current_dir(place.0.path())
        .env("HOME", place.path("home"))
        .env_remove("XDG_CACHE_HOME")
        .output()
        .unwrap();
    assert_eq!(succeeded(&output), "this is b\n");
    let listed = std::fs::read_to_string(place.path("listed")).unwrap();
    assert!(listed.contains("in use  overlay  sha256-"), "{listed}");
    let said = String::from_utf8(output.stderr).unwrap();
    let said: Vec<&str> = said.lines().collect();
    assert!(said[0].starts_with("0 removed, 0 B freed; ") && said[0].ends_with(" in use"), "{said:?}");
    assert!(said[1].starts_with("1 removed, ") && said[1].ends_with("; 0 B left"), "{said:?}");
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
