//! Layers appended to images, and configurations changed: `append` and `config set`, judged by skopeo, umoci and Podman,
//! and by what the new images unpack to.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::{Value, json};

use super::place::{self, Images as _, LAYER_GZIP, Place};
use super::registry::{outcomes, registry};
use crate::common::harness::Test;
use crate::common::images::{self, Layout, Tar, digest, tagged};
use crate::registry::servers::Engine;

pub(crate) const TESTS: &[Test] = &[
    ("appended_layers_are_on_top_in_every_store", false, appended_layers_are_on_top_in_every_store),
    ("compressed_archives_are_appended_as_they_are", false, compressed_archives_are_appended_as_they_are),
    ("a_compression_is_for_the_appended_layers_alone", false, a_compression_is_for_the_appended_layers_alone),
    ("a_directory_is_appended_without_its_root", false, a_directory_is_appended_without_its_root),
    ("an_upper_directory_deletes_what_it_says", true, an_upper_directory_deletes_what_it_says),
    ("layers_below_are_mounted_across_repositories", false, layers_below_are_mounted_across_repositories),
    ("what_is_set_other_tools_see", false, what_is_set_other_tools_see),
    ("podman_reads_what_was_edited", true, podman_reads_what_was_edited),
    ("what_is_not_named_is_not_changed", false, what_is_not_named_is_not_changed),
    ("images_without_a_configuration_get_one", false, images_without_a_configuration_get_one),
    ("of_several_platforms_one_or_all_are_edited", false, of_several_platforms_one_or_all_are_edited),
    ("the_same_edit_gives_the_same_image", false, the_same_edit_gives_the_same_image),
    ("signatures_that_no_longer_hold_are_named", false, signatures_that_no_longer_hold_are_named),
    ("the_base_image_is_recorded_when_asked_for", false, the_base_image_is_recorded_when_asked_for),
    ("what_cannot_be_appended_leaves_nothing", false, what_cannot_be_appended_leaves_nothing),
    ("what_cannot_be_set_is_named", false, what_cannot_be_set_is_named),
];

/// The layer that most tests append: it deletes, replaces and adds.
fn top() -> Vec<u8> {
    Tar::new().file(".wh.a", "").file("d/x", "new").file("added", "added").done()
}

/// The base image as `src:two`, its layers as `0.tar` and so on, and `top.tar`; all of them as one image.
fn prepared(place: &Place) -> String {
    place::source(place);
    for (index, layer) in place::layers().iter().enumerate() {
        fs::write(place.path(&format!("{index}.tar")), layer).unwrap();
    }
    fs::write(place.path("top.tar"), top()).unwrap();
    "layers:0.tar,1.tar,2.tar,top.tar".to_owned()
}

/// What these tests need of a place.
trait Edits {
    fn edits(&self, arguments: &[&str]) -> Value;
    fn says(&self, arguments: &[&str]) -> String;
    fn fails(&self, arguments: &[&str]) -> String;
    fn manifest(&self, image: &str) -> Value;
    fn config(&self, image: &str) -> Value;
    fn manifest_at(&self, image: &str) -> Value;
}

impl Edits for Place {
    #[track_caller]
    fn edits(&self, arguments: &[&str]) -> Value {
        let ran = self.ran(&[&["--json"], arguments].concat());
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap()
    }

    #[track_caller]
    fn says(&self, arguments: &[&str]) -> String {
        let ran = self.ran(arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.stderr);
        ran.stderr
    }

    #[track_caller]
    fn fails(&self, arguments: &[&str]) -> String {
        let ran = self.ran(arguments);
        assert_eq!(ran.code, Some(1), "{arguments:?}: {ran:?}");
        assert_eq!((ran.stdout.as_str(), ran.stderr.lines().count()), ("", 1), "{ran:?}");
        ran.stderr.trim_end().to_owned()
    }

    fn manifest(&self, image: &str) -> Value {
        serde_json::from_slice(&self.skopeo_sees(image).0).unwrap()
    }

    fn config(&self, image: &str) -> Value {
        serde_json::from_slice(&self.skopeo_sees(image).1).unwrap()
    }

    fn manifest_at(&self, image: &str) -> Value {
        serde_json::from_slice(&self.at_registry(&image[9..])).unwrap()
    }
}

fn appended_layers_are_on_top_in_every_store() {
    let place = Place::new();
    let expected = prepared(&place);
    let (_server, address) = registry(&place);
    let there = format!("docker://{address}/team/new:1");
    for new in ["oci:new:1", "oci-archive:new.tar:1", "docker-archive:saved.tar:new:1", "dir:unpacked", &there] {
        place.edits(&["append", "oci:src:two", "top.tar", new]);
        place.same(&expected, new);
    }
    let base = place.config("oci:src:two");
    for seen in ["oci:new:1", "docker-archive:saved.tar"] {
        let config = place.config(seen);
        let diff_ids = [base["rootfs"]["diff_ids"].as_array().unwrap().clone(), vec![json!(digest(&top()))]].concat();
        assert_eq!(config["rootfs"], json!({"type": "layers", "diff_ids": diff_ids}));
        assert_eq!(config["history"].as_array().unwrap().last().unwrap()["created_by"], "layflat append top.tar");
        assert_eq!(config["config"], base["config"]);
        let of_layers = config["history"].as_array().unwrap().iter().filter(|line| line["empty_layer"] != json!(true));
        assert_eq!(of_layers.count(), 4);
    }
    // The layers below are the same blobs, and the words are OCI's.
    let (was, now) = (place.manifest("oci:src:two"), place.manifest("oci:new:1"));
    let layers = now["layers"].as_array().unwrap();
    assert_eq!(layers[..3], was["layers"].as_array().unwrap()[..]);
    assert_eq!(layers[3]["mediaType"], LAYER_GZIP);
    place.tool("umoci", &["umoci", "unpack", "--rootless", "--image", "new:1", "bundle"]);
    assert_eq!(fs::read_to_string(place.path("bundle/rootfs/d/x")).unwrap(), "new");
    assert!(!place.path("bundle/rootfs/a").exists());
    // Several at once, from a pipe, too; and in the place of the image itself.
    let pipe = format!("cat top.tar | {} append -q oci:src:two 0.tar - oci:src:two", env!("CARGO_BIN_EXE_layflat"));
    place.tool("sh", &["sh", "-c", &pipe]);
    place.same("layers:0.tar,1.tar,2.tar,0.tar,top.tar", "oci:src:two");
    // Docker's words throughout, where they are asked for.
    let docker = format!("docker://{address}/team/docker:1");
    place.edits(&["append", "--format", "docker", "oci:new:1", "top.tar", &docker]);
    let manifest: Value = serde_json::from_slice(&place.at_registry(&docker[9..])).unwrap();
    assert!(manifest.to_string().matches("vnd.oci").next().is_none(), "{manifest}");
}

fn compressed_archives_are_appended_as_they_are() {
    let place = Place::new();
    let expected = prepared(&place);
    for (name, bytes, kept) in [
        ("gzip", images::gzip(&top()), Some("gzip")),
        ("zstd", images::zstd(&top()), Some("zstd")),
        ("xz", images::xz(&top()), None),
        ("bzip2", images::bzip2(&top()), None),
    ] {
        // What it is its content tells.
        fs::write(place.path("top"), &bytes).unwrap();
        let new = format!("oci:{name}:1");
        place.edits(&["append", "oci:src:two", "top", &new]);
        let layer = place.manifest(&new)["layers"][3].clone();
        match kept {
            Some(kept) => {
                assert_eq!(layer["digest"], digest(&bytes), "{name}");
                assert_eq!(layer["mediaType"], format!("application/vnd.oci.image.layer.v1.tar+{kept}"));
            }
            None => assert_eq!(layer["mediaType"], LAYER_GZIP, "{name}"),
        }
        place.same(&expected, &new);
        let saved = format!("docker-archive:{name}.tar:new:1");
        place.edits(&["append", "oci:src:two", "top", &saved]);
        place.same(&expected, &saved);
    }
}

fn a_compression_is_for_the_appended_layers_alone() {
    let place = Place::new();
    let expected = prepared(&place);
    fs::write(place.path("top.tar.gz"), images::gzip(&top())).unwrap();
    let base = place.manifest("oci:src:two")["layers"].as_array().unwrap().clone();
    for (compression, ending) in [("zstd", "+zstd"), ("zstd:19", "+zstd"), ("none", ""), ("gzip:1", "+gzip")] {
        for top in ["top.tar", "top.tar.gz"] {
            let new = format!("oci:{}-{}:1", compression.replace(':', "-"), top.len());
            place.edits(&["append", "--compression", compression, "oci:src:two", top, &new]);
            let layers = place.manifest(&new)["layers"].as_array().unwrap().clone();
            assert_eq!(layers[..3], base[..]);
            assert_eq!(layers[3]["mediaType"], format!("application/vnd.oci.image.layer.v1.tar{ending}"), "{top}");
            place.same(&expected, &new);
        }
    }
    let refused =
        place.fails(&["append", "--compression", "zstd", "oci:src:two", "top.tar", "docker-archive:new.tar:a:1"]);
    assert!(refused.contains("uncompressed"), "{refused}");
    assert!(!place.path("new.tar").exists());
}

fn a_directory_is_appended_without_its_root() {
    let place = Place::new();
    prepared(&place);
    for name in ["one", "other"] {
        let directory = place.path(name).join("etc");
        fs::create_dir_all(&directory).unwrap();
        // In another order, and at another time.
        let files = if name == "one" { ["b", "a"] } else { ["a", "b"] };
        for file in files {
            fs::write(directory.join(file), file).unwrap();
        }
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let made = |directory: &str, new: &str| {
        let owned = ["--owner", "3:4", "--normalize-timestamps=1000", "--created-by", "test"];
        place.edits(&[&["append"], &owned[..], &["oci:src:two", directory, new]].concat());
        place.manifest(new)["layers"].clone()
    };
    assert_eq!(made("one", "oci:new:1"), made("other", "oci:new:2"));
    let listed = place.ran(&["ls", "--recursive", "--json", "oci:new:1"]).stdout;
    let entries: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |path: &str| entries.iter().find(|entry| entry["path"] == path).unwrap_or_else(|| panic!("{listed}"));
    assert_eq!((&of("etc/a")["uid"], &of("etc/a")["gid"]), (&json!(3), &json!(4)));
    assert_eq!(place.ran(&["flatten", "oci:new:1", "rootfs"]).code, Some(0));
    assert_eq!(fs::metadata(place.path("rootfs")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::read_to_string(place.path("rootfs/etc/passwd")).unwrap(), "nobody\n");
    let refused = place.fails(&["append", "--owner", "0:0", "oci:src:two", "top.tar", "oci:new:3"]);
    assert!(refused.contains("only directories are filtered"), "{refused}");
    for inside in ["oci:one/new:1", "dir:one", "docker-archive:one/new.tar:a:1"] {
        let refused = place.fails(&["append", "oci:src:two", "one", inside]);
        assert!(refused.contains("inside the tree"), "{refused}");
    }
}

fn an_upper_directory_deletes_what_it_says() {
    let place = Place::new();
    let expected = prepared(&place);
    let upper = place.path("upper");
    fs::create_dir_all(upper.join("d")).unwrap();
    place.tool("mknod", &["mknod", "upper/a", "c", "0", "0"]);
    fs::write(upper.join("d/x"), "new").unwrap();
    fs::write(upper.join("added"), "added").unwrap();
    place.edits(&["append", "--normalize-timestamps=1700000000", "oci:src:two", "upper", "oci:new:1"]);
    place.same(&expected, "oci:new:1");
}

fn layers_below_are_mounted_across_repositories() {
    let place = Place::new();
    prepared(&place);
    let (_server, address) = registry(&place);
    let (one, two) = (format!("docker://{address}/one:1"), format!("docker://{address}/two:1"));
    place.copy(&["oci:src:two", &one]);
    let report = place.edits(&["append", &one, "top.tar", &two]);
    let outcomes = outcomes(&report);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == "mounted").count(), 3, "{report}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == "rewritten").count(), 1, "{report}");
    let report = place.edits(&["config", "set", "--label", "a=b", &two, &two]);
    assert!(
        report["blobs"].as_array().unwrap().iter().all(|blob| blob["kind"] == "config" || blob["outcome"] == "present")
    );
    assert_eq!(place.manifest_at(&two)["layers"].as_array().unwrap().len(), 4);
}

/// Every option, and what the configuration states then.
const OPTIONS: &[&str] = &[
    "--entrypoint",
    r#"["/bin/sh","-c"]"#,
    "--cmd",
    "echo $A",
    "--env",
    "A=1=2",
    "--env",
    "B=",
    "--unset-env",
    "C",
    "--label",
    "k=v w",
    "--user",
    "7:8",
    "--workdir",
    "/srv",
    "--expose",
    "80",
    "--expose",
    "53/udp",
    "--volume",
    "/data",
    "--stop-signal",
    "SIGINT",
    "--author",
    "me",
    "--created",
    "1700000000",
];

fn stated() -> Value {
    json!({
        "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["echo $A"], "Env": ["A=1=2", "B="], "Labels": {"k": "v w"}, "User": "7:8",
        "WorkingDir": "/srv", "ExposedPorts": {"53/udp": {}, "80/tcp": {}}, "Volumes": {"/data": {}}, "StopSignal": "SIGINT",
    })
}

fn what_is_set_other_tools_see() {
    let place = Place::new();
    prepared(&place);
    let base = place.config("oci:src:two");
    let set = |more: &[&str], new: &str| place.edits(&[&["config", "set", "oci:src:two", new], OPTIONS, more].concat());
    for new in ["oci:new:1", "oci-archive:new.tar:1", "docker-archive:saved.tar:new:1", "dir:unpacked"] {
        set(&[], new);
        place.same("oci:src:two", new);
    }
    for new in ["oci:new:1", "oci-archive:new.tar:1", "docker-archive:saved.tar"] {
        let config = place.config(new);
        assert_eq!(config["config"], stated(), "{new}");
        assert_eq!((&config["author"], &config["created"]), (&json!("me"), &json!("2023-11-14T22:13:20Z")));
        assert_eq!((&config["rootfs"], &config["history"]), (&base["rootfs"], &base["history"]));
    }
    assert_eq!(place.manifest("oci:new:1")["layers"], place.manifest("oci:src:two")["layers"]);
    place.tool("umoci", &["umoci", "unpack", "--rootless", "--image", "new:1", "bundle"]);
    let process = place.document("bundle/config.json")["process"].clone();
    assert_eq!((&process["args"], &process["cwd"]), (&json!(["/bin/sh", "-c", "echo $A"]), &json!("/srv")));
    assert!(process["env"].as_array().unwrap().contains(&json!("A=1=2")), "{process}");
    // Together with a layer, and with a line in the history.
    place.edits(
        &[&["append", "oci:src:two", "top.tar", "oci:new:2", "--created-by", "us", "--comment", "why"], OPTIONS]
            .concat(),
    );
    let config = place.config("oci:new:2");
    assert_eq!(config["config"], stated());
    let line = json!({"created": "2023-11-14T22:13:20Z", "created_by": "us", "comment": "why"});
    assert_eq!(config["history"].as_array().unwrap().last(), Some(&line));
    set(&["--comment", "why"], "oci:new:3");
    let line = json!({"created": "2023-11-14T22:13:20Z", "comment": "why", "empty_layer": true});
    assert_eq!(place.config("oci:new:3")["history"].as_array().unwrap().last(), Some(&line));
}

fn podman_reads_what_was_edited() {
    let place = Place::new();
    prepared(&place);
    place.edits(&[&["append", "oci:src:two", "top.tar", "docker-archive:saved.tar:new:1"], OPTIONS].concat());
    let store = Engine::store(&place);
    let podman = |arguments: &[&str]| {
        let words = ["podman"].into_iter().chain(store.iter().map(String::as_str)).chain(arguments.iter().copied());
        place.tool("podman", &words.collect::<Vec<_>>())
    };
    podman(&["load", "-q", "-i", "saved.tar"]);
    let inspected: Value = serde_json::from_slice(&podman(&["inspect", "docker.io/library/new:1"])).unwrap();
    let config = &inspected[0]["Config"];
    for field in ["Entrypoint", "Cmd", "Env", "Labels", "User", "WorkingDir", "ExposedPorts", "Volumes", "StopSignal"] {
        assert_eq!(config[field], stated()[field], "{field}");
    }
}

fn what_is_not_named_is_not_changed() {
    let place = Place::new();
    let layer = images::layer("a");
    let text = format!(
        r#"{{ "x":1.50e3,"architecture":"amd64","os":"linux","config":{{"Healthcheck":{{"Interval":3e10}},"user":"7","Env":["A=\u0031","A=2"],"Labels":null}},"rootfs":{{"type":"layers","diff_ids":["{}"],"z":[]}} }}"#,
        digest(&layer)
    );
    let mut layout = Layout::default();
    let mut image = layout.image_of(text.as_bytes(), &[(images::LAYER, layer)]);
    let mut manifest: Value = serde_json::from_slice(&layout.files.last().unwrap().1).unwrap();
    manifest["annotations"] = json!({"kept": "yes"});
    manifest["layers"][0]["annotations"] = json!({"kept": "too"});
    image["digest"] = layout.document(images::MANIFEST, &manifest)["digest"].clone();
    image["size"] = json!(serde_json::to_vec(&manifest).unwrap().len());
    layout.list(tagged(image, "a")).write(&place.path("src"));
    place.edits(&["config", "set", "--env", "A=3", "--user", "8", "oci:src:a", "oci:new:a"]);
    let (seen, config) = place.skopeo_sees("oci:new:a");
    let expected = format!(
        r#"{{"x":1.50e3,"architecture":"amd64","os":"linux","config":{{"Healthcheck":{{"Interval":3e10}},"User":"8","Env":["A=3"],"Labels":null}},"rootfs":{{"type":"layers","diff_ids":["{}"],"z":[]}}}}"#,
        digest(&images::layer("a"))
    );
    assert_eq!(String::from_utf8(config).unwrap(), expected);
    let seen: Value = serde_json::from_slice(&seen).unwrap();
    assert_eq!((&seen["annotations"], &seen["layers"]), (&manifest["annotations"], &manifest["layers"]));
    // What was so already is the same image.
    let report = place.edits(&["config", "set", "--user", "7", "oci:src:a", "oci:same:a"]);
    assert_eq!(report["images"][0]["manifest_digest"], digest(&serde_json::to_vec(&manifest).unwrap()));
}

fn images_without_a_configuration_get_one() {
    let place = Place::new();
    let expected = prepared(&place);
    place.edits(&["append", "--cmd", "sh", "layers:0.tar,1.tar,2.tar", "top.tar", "oci:new:1"]);
    place.same(&expected, "oci:new:1");
    let config = place.config("oci:new:1");
    assert_eq!(config["config"], json!({"Cmd": ["sh"]}));
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 4);
    assert_eq!(config["history"].as_array().unwrap().len(), 4);
    place.edits(&["config", "set", "--cmd", "sh", "layers:0.tar", "oci:new:2"]);
    assert_eq!(place.config("oci:new:2")["config"], json!({"Cmd": ["sh"]}));
}

fn of_several_platforms_one_or_all_are_edited() {
    let place = Place::new();
    prepared(&place);
    let mut layout = Layout::default();
    let index = place::index(&mut layout);
    layout.list(tagged(index, "all")).write(&place.path("many"));
    let refused = place.fails(&["append", "oci:many:all", "top.tar", "oci:new:none"]);
    assert!(refused.contains("linux/amd64, linux/arm64/v8"), "{refused}");
    assert!(refused.contains("--platform") && refused.contains("--all-platforms"), "{refused}");
    assert!(!place.path("new").exists());
    place.edits(&["append", "--platform", "linux/arm64", "oci:many:all", "top.tar", "oci:new:arm"]);
    assert_eq!(place.config("oci:new:arm")["architecture"], "arm64");
    place.edits(&["append", "--all-platforms", "--label", "a=b", "oci:many:all", "top.tar", "oci:new:all"]);
    let listed = place.ran(&["inspect", "--raw", "oci:new:all"]).stdout;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["manifests"].as_array().unwrap().len(), 4, "{listed}");
    for platform in ["linux/amd64", "linux/arm64"] {
        let config = place.ran(&["inspect", "--config", "--platform", platform, "oci:new:all"]).stdout;
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["config"]["Labels"], json!({"a": "b"}));
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
    }
    // An index of one image, beside what is attached to it, is that image.
    let mut layout = Layout::default();
    let mut index = place::index(&mut layout);
    let document = layout.files.last().unwrap().1.clone();
    let mut document: Value = serde_json::from_slice(&document).unwrap();
    let entries = document["manifests"].as_array().unwrap();
    document["manifests"] = json!([entries[0], entries[2]]);
    index["digest"] = layout.document(images::INDEX, &document)["digest"].clone();
    index["size"] = json!(serde_json::to_vec(&document).unwrap().len());
    layout.list(tagged(index, "one")).write(&place.path("single"));
    place.edits(&["append", "oci:single:one", "top.tar", "oci:new:one"]);
    assert_eq!(place.config("oci:new:one")["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
}

fn the_same_edit_gives_the_same_image() {
    let place = Place::new();
    prepared(&place);
    fs::create_dir(place.path("elsewhere")).unwrap();
    fs::copy(place.path("top.tar"), place.path("elsewhere/top.tar")).unwrap();
    let digest = |arguments: &[&str]| {
        place.edits(&[&["append", "--label", "a=b"], arguments].concat())["images"][0]["manifest_digest"].clone()
    };
    let one = digest(&["oci:src:two", "top.tar", "oci:new:1"]);
    assert_eq!(digest(&["--jobs", "1", "oci:src:two", "elsewhere/top.tar", "oci-archive:new.tar:2"]), one);
    let dated =
        format!("SOURCE_DATE_EPOCH=1000 {} append -q oci:src:two top.tar oci:new:3", env!("CARGO_BIN_EXE_layflat"));
    place.tool("sh", &["sh", "-c", &dated]);
    let config = place.config("oci:new:3");
    assert_eq!(config["created"], "1970-01-01T00:16:40Z");
    assert_eq!(config["history"].as_array().unwrap().last().unwrap()["created"], "1970-01-01T00:16:40Z");
}

fn signatures_that_no_longer_hold_are_named() {
    let place = Place::new();
    let mut layout = place::source(&place);
    prepared(&place);
    assert!(!place.says(&["config", "set", "--user", "1", "oci:src:two", "oci:new:0"]).contains("sign"));
    let image = layout.manifests[1]["digest"].as_str().unwrap().replace(':', "-");
    let config = layout.blob(images::CONFIG, &images::config(&[]));
    let statement = layout.blob("application/vnd.dev.cosign.simplesigning.v1+json", b"{}");
    let signature = layout.document(
        images::MANIFEST,
        &json!({"schemaVersion": 2, "mediaType": images::MANIFEST, "config": config, "layers": [statement]}),
    );
    layout.list(tagged(signature, &format!("{image}.sig"))).write(&place.path("signed"));
    let said = place.says(&["config", "set", "--user", "1", "oci:signed:two", "oci:new:1"]);
    assert!(said.contains("a cosign signature") && said.contains("sign the new image"), "{said}");
    place.skopeo(&["copy", "-q", "oci:src:two", "dir:theirs"]);
    fs::write(place.path("theirs/signature-1"), "x").unwrap();
    let said = place.says(&["append", "dir:theirs", "top.tar", "oci:new:2"]);
    assert!(said.contains("signature-1"), "{said}");
}

fn the_base_image_is_recorded_when_asked_for() {
    let place = Place::new();
    prepared(&place);
    let (_server, address) = registry(&place);
    let base = format!("docker://{address}/base:1");
    let report = place.copy(&["oci:src:two", &base]);
    place.edits(&["append", "--set-base-image-annotations", &base, "top.tar", "oci:new:1"]);
    assert_eq!(
        place.manifest("oci:new:1")["annotations"],
        json!({
            "org.opencontainers.image.base.name": format!("{address}/base:1"),
            "org.opencontainers.image.base.digest": report["images"][0]["manifest_digest"],
        })
    );
    place.edits(&["append", &base, "top.tar", "oci:new:2"]);
    assert_eq!(place.manifest("oci:new:2").get("annotations"), None);
}

fn what_cannot_be_appended_leaves_nothing() {
    let place = Place::new();
    prepared(&place);
    fs::write(place.path("text"), "some text that is longer than a name\n".repeat(100)).unwrap();
    fs::write(place.path("empty"), "").unwrap();
    let cut = top();
    fs::write(place.path("cut.tar"), &cut[..700]).unwrap();
    let gzip = images::gzip(&top());
    fs::write(place.path("cut.gz"), &gzip[..gzip.len() - 9]).unwrap();
    fs::write(place.path("climbs.tar"), Tar::new().symlink("l", "..").file("l/.wh.", "").done()).unwrap();
    fs::create_dir(place.path("whiteouts")).unwrap();
    fs::write(place.path("whiteouts/.wh.a"), "").unwrap();
    let before = place.names("");
    for (layer, word) in [
        ("text", "cannot be a layer"),
        ("empty", "is empty"),
        ("cut.tar", "cannot be a layer"),
        ("cut.gz", "cannot be a layer"),
        ("climbs.tar", "cannot be a layer"),
        ("whiteouts", ".wh."),
        ("missing", "No such file"),
        ("/dev/null", "not a regular file"),
    ] {
        for new in ["oci:new:1", "docker-archive:new.tar:a:1", "dir:new"] {
            let said = place.fails(&["append", "oci:src:two", "top.tar", layer, new]);
            assert!(said.contains(word), "{layer}: {said}");
            assert_eq!(place.names(""), before, "{layer}: {said}");
        }
    }
    let said = place.fails(&["append", "-", "-", "oci:new:1"]);
    assert!(said.contains("standard input"), "{said}");
}

fn what_cannot_be_set_is_named() {
    let place = Place::new();
    prepared(&place);
    let before = place.names("");
    let huge = format!("k={}", "v".repeat(120_000));
    for (arguments, word) in [
        (&[][..], "nothing to change"),
        (&["--env", "A"], "NAME=VALUE"),
        (&["--env", "=1"], "NAME=VALUE"),
        (&["--unset-env", "A=1"], "a name alone"),
        (&["--label", "a"], "KEY=VALUE"),
        (&["--workdir", "srv"], "absolute path"),
        (&["--volume", "data"], "absolute path"),
        (&["--expose", "http"], "--expose"),
        (&["--stop-signal", "term now"], "--stop-signal"),
        (&["--created", "yesterday"], "--created"),
        (&["--cmd", "[1]"], "JSON list"),
        (&["--label", &huge, "--limit", "metadata-size=100K"], "readers take at most"),
    ] {
        let said = place.fails(&[&["config", "set", "oci:src:two", "oci:new:1"], arguments].concat());
        assert!(said.contains(word), "{arguments:?}: {said}");
        assert_eq!(place.names(""), before);
    }
    let said = place.says(&["config", "set", "--entrypoint", "/bin/sh", "oci:src:two", "oci:new:1"]);
    assert!(said.contains("Cmd stays [\"sh\"]") && said.contains("--clear cmd"), "{said}");
    place.edits(&["config", "set", "--entrypoint", "/bin/sh", "--clear", "cmd", "oci:src:two", "oci:new:2"]);
    assert_eq!(place.config("oci:new:2")["config"]["Cmd"], Value::Null);
}
