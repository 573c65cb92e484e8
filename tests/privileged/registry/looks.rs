//! A registry looked at without its layers, and downloads that one run begins and another ends.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::place::{Images as _, Place, failed, fixture, noise, succeeded};
use super::proxy::{Act, PATIENTLY, Proxy, stalling};
use super::servers::{Registry, tool};
use crate::common::harness::Test;
use crate::common::wait;

pub(crate) const TESTS: &[Test] = &[
    ("looks::no_layer_is_fetched_to_inspect_an_image", false, inspected),
    ("looks::manifests_tags_and_digests_are_skopeos", false, as_skopeo),
    ("looks::a_killed_download_goes_on_in_the_next_run", false, killed),
    ("looks::each_end_of_a_copy_has_its_own_user", false, two_ends),
    ("looks::an_archive_goes_to_standard_output", false, stdout),
];

fn inspected() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&fixture(), "four:1", &[]);
    let proxy = Proxy::start(Some(registry.address), |_, _| Act::Pass);
    let image = proxy.image("four:1");
    let blobs = || proxy.heads().iter().filter(|head| head.is_blob()).count();
    let output = place.run(&["inspect", &image]);
    let (printed, said) = (succeeded(&output), String::from_utf8(output.stderr.clone()).unwrap());
    assert_eq!(blobs(), 1, "the configuration, and nothing else");
    assert!(printed.contains("RUN rm a && touch b") && printed.contains("ae2fbf958a4d") && !printed.contains("adds"));
    assert!(said.contains("--counts"), "{said}");
    let json = place.json(&["inspect", &image]);
    assert_eq!(json["layers"][0]["adds"], Value::Null);
    assert!(json["layers"][0]["size"].as_u64().unwrap() > 0);
    assert_eq!(blobs(), 1);
    // An index of the layers is enough, although no blob was kept.
    place.printed(&["ls", "--no-cache", &image]);
    place.printed(&["ls", &image]);
    let before = blobs();
    std::fs::remove_dir_all(place.path("home/.cache/layflat/blobs")).unwrap();
    let json = place.json(&["inspect", &image]);
    assert_eq!((&json["layers"][0]["adds"], &json["layers"][0]["expanded"]), (&5.into(), &Value::Null));
    assert_eq!(blobs(), before + 1);
    let json = place.json(&["inspect", "--counts", &image]);
    assert_eq!(json["layers"][0]["expanded"], 10240);
    assert_eq!(blobs(), before + 5);
}

fn as_skopeo() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&place.index("index"), "app:all", &[]);
    registry.put(&place.image("one", &[("a", noise(100, 1))]), "app:1", &[]);
    let skopeo = |arguments: &[&str]| tool("skopeo", &[&["inspect", "--tls-verify=false"], arguments].concat());
    for tag in ["app:all", "app:1"] {
        let image = registry.image(tag);
        assert_eq!(place.printed(&["inspect", "--raw", &image]), skopeo(&["--raw", &image]));
        assert_eq!(place.printed(&["digest", &image]).trim(), registry.digest(tag));
        assert_eq!(place.printed(&["inspect", "--config", &image]), skopeo(&["--config", "--raw", &image]));
    }
    // With a platform it is the one image's.
    let all: Value = serde_json::from_str(&skopeo(&["--raw", &registry.image("app:all")])).unwrap();
    let arm = place.printed(&["digest", "--platform", "linux/arm64", &registry.image("app:all")]);
    assert_eq!(arm.trim(), all["manifests"][1]["digest"].as_str().unwrap());
    let listed = tool("skopeo", &["list-tags", "--tls-verify=false", &registry.image("app")]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let mut expected: Vec<&str> = listed["Tags"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    expected.sort_unstable();
    let printed = place.printed(&["tags", &registry.image("app")]);
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
    assert!(place.message(&["tags", &registry.image("app:1")]).contains("omit the tag or digest"));
    // What holds several images says their names; what has no manifest says what its digest is.
    assert_eq!(place.printed(&["tags", "oci:one"]), "1\n");
    assert_eq!(place.printed(&["tags", "--json", &fixture()]), "{\"name\":\"four-layers:latest\"}\n");
    let output = place.run(&["digest", &fixture()]);
    assert!(succeeded(&output).starts_with("sha256:cebee428f132"));
    assert!(
        String::from_utf8(output.stderr).unwrap().contains("has no manifest; this is the digest of its configuration")
    );
    assert!(place.message(&["inspect", "--raw", &fixture()]).contains("has no manifest; --config prints"));
}

fn killed() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&place.image("layout", &[("a", noise(3_000_000, 1))]), "a:1", &[]);
    let (proxy, stalls) = stalling(registry.address, 2_000_000);
    let image = proxy.image("a:1");
    let arguments = [&["flatten", &image, "dest"][..], &PATIENTLY].concat();
    let mut child = place.layflat(&arguments).stderr(Stdio::null()).spawn().unwrap();
    // The configuration, then the layer.
    wait::told(&stalls);
    wait::told(&stalls);
    let partial = || {
        let listed = place.json(&["cache", "ls"]);
        let sizes = listed.as_array().unwrap().iter().filter(|entry| entry["kind"] == "remains");
        sizes.map(|entry| entry["size"].as_u64().unwrap()).sum::<u64>()
    };
    wait::while_it_runs(&mut child, "nothing comes", || partial() >= 1_900_000);
    child.kill().unwrap();
    child.wait().unwrap();
    let before = proxy.heads().len();
    place.printed(&["flatten", &proxy.image("a:1"), "dest"]);
    assert_eq!(std::fs::read(place.path("dest/a")).unwrap(), noise(3_000_000, 1));
    let heads = proxy.heads();
    let range = heads[before..].iter().filter(|head| head.is_blob()).find_map(|head| head.header("range"));
    let from = range.unwrap().trim_start_matches("bytes=").trim_end_matches('-').parse::<u64>().unwrap();
    assert!(from > 1_800_000, "{from}");
    assert!(place.cached().iter().all(|name| !name.contains("new-")), "{:?}", place.cached());
}

fn two_ends() {
    let (place, other) = (Place::new(), Place::new());
    let (closed, open) = (Registry::with_password(&place), Registry::open(&other));
    open.put(&fixture(), "four:1", &[]);
    std::fs::write(place.path("password"), "secret\n").unwrap();
    let (there, here) = (closed.image("four:1"), open.image("four:1"));
    let user = ["--dest-username", "me", "--dest-password-file", "password"];
    place.printed(&[&["copy", "--no-cache", &here, &there], &user[..]].concat());
    let command = ["copy", "--no-cache", "--src-username", "me", "--src-password-stdin", &there, &open.image("back:1")];
    succeeded(&place.run_with_input(&command, "secret"));
    // Whoever is asked for a name is told the option that is for this end.
    let message = place.message(&["copy", "--no-cache", &here, &there]);
    assert!(message.contains("give --dest-username and --dest-password-stdin"), "{message}");
    let message = place.message(&["copy", "--no-cache", &there, &here]);
    assert!(message.contains("give --src-username and --src-password-stdin"), "{message}");
    // One name for both is refused, unless each has its own.
    let both = ["copy", "--username", "me", "--password-file", "password", &here, &there];
    assert!(failed(&place.run(&both)).contains("use --src-username or --dest-username"));
    let auth = |host: &str| format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"bWU6c2VjcmV0\"}}}}}}");
    std::fs::write(place.path("auth.json"), auth(&closed.address.to_string())).unwrap();
    place.printed(&["copy", "--no-cache", "--dest-authfile", "auth.json", &here, &closed.image("other:1")]);
}

fn stdout() {
    let place = Place::new();
    place.image("src", &[("a", noise(1000, 1))]);
    for (to, more) in [
        ("docker-archive:-:demo:1", &[][..]),
        ("oci-archive:-:1", &["--json"]),
        ("docker-archive:-:demo:1", &["--json"]),
    ] {
        let output = place.run(&[&["copy", "oci:src:1", to], more].concat());
        assert!(output.status.success());
        std::fs::write(place.path("out.tar"), &output.stdout).unwrap();
        let name = format!("{}:{}", to.split(':').next().unwrap(), place.path("out.tar").display());
        tool("skopeo", &["inspect", &name]);
        place.printed(&["diff", "oci:src:1", "out.tar"]);
        assert_eq!(output.stderr.starts_with(b"{"), !more.is_empty());
    }
    // A failure sends nothing that could be taken for an archive.
    let layer = super::place::names(&place.path("src/blobs/sha256"));
    for blob in layer {
        let path = place.path("src/blobs/sha256").join(blob);
        if std::fs::metadata(&path).unwrap().len() > 800 {
            std::fs::write(path, noise(1200, 7)).unwrap();
        }
    }
    failed(&place.run(&["copy", "oci:src:1", "docker-archive:-"]));
    // Whoever reads it goes away.
    place.image("large", &[("a", noise(3_000_000, 1))]);
    let program = assert_cmd::cargo::cargo_bin!("layflat");
    let script = format!(
        "{{ {} copy -q oci:large:1 docker-archive:-; echo $? >&2; }} | head -c 10 >/dev/null",
        program.display()
    );
    let output = Command::new("sh").args(["-c", &script]).current_dir(place.directory()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said == "141\n", "{said}");
}
