//! The runtime configuration, as a text.

use super::place::{Bundles as _, Place, busybox, succeeds};
use layflat::bundle::{BundleError, BundleOptions, Overrides, Report, flat};
use layflat::core::chain::Chain;
use layflat::image::{Config, Image};
use layflat::{NoProgress, Options};
use serde_json::{Value, json};
use std::collections::BTreeMap;

type Test = (&'static str, fn(&Place));

/// Needs umoci and root.
pub(crate) const COMPARISON: (&str, fn(&Place)) = ("umocis_configuration_and_ours_differ_as_explained", umoci);

pub(crate) const TESTS: &[Test] = &[
    ("every_field_of_the_conversion_document", every_field),
    ("what_a_runtime_could_not_do_safely_is_left_out_and_said", unsafe_parts),
    ("a_bare_configuration", bare),
    ("what_is_not_a_variable_is_left_out_and_the_last_of_two_counts", variables),
    ("an_empty_entrypoint_takes_away_the_images", entrypoints),
    ("a_process_that_could_not_start_is_refused", processes),
];

/// Where umoci 0.4.7 says something else, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    ("annotations/org.opencontainers.image.author", "a label comes before the field: the specification says MUST"),
    ("hostname", "each has a name of its own"),
    ("linux/maskedPaths", "runc's template has learnt of more since: acpi, asound, keys, tpm"),
    ("linux/readonlyPaths", "/proc/asound is masked now"),
    (
        "mounts/data/options",
        "seeded from the image and owned as there; umoci's volume is empty and root's, and runs no programs",
    ),
    ("mounts/data/source", "tmpfs, as in runc's template"),
    ("ociVersion", "the specification's last version that brought anything used here"),
    ("process/capabilities/ambient", "runc's template no longer has them: they would pass to every program"),
    ("process/capabilities/inheritable", "the same"),
    ("process/env", "TERM is for terminals"),
    ("process/terminal", "only when asked: a runtime without a terminal refuses to start"),
    ("root/readonly", "said, though it is the default"),
];

fn umoci(place: &Place) {
    let archive = format!("docker-archive:{}", busybox().display());
    succeeds(place.command("skopeo").args(["copy", "--quiet", &archive, "oci:img:latest"]));
    succeeds(place.command("umoci").args(["unpack", "--image", "img:latest", "umoci"]));
    succeeds(&mut place.layflat(&["bundle", "oci:img:latest", "ours"]));
    let (theirs, ours) = (parts(&place.config("umoci")), parts(&place.config("ours")));
    let mut keys: Vec<&String> = theirs.keys().chain(ours.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.retain(|key| theirs.get(*key) != ours.get(*key));
    assert_eq!(keys, DIFFERENCES.iter().map(|(key, _)| *key).collect::<Vec<_>>());
}

/// All values by their paths; mounts go by their destinations, other arrays are one value.
fn parts(config: &Value) -> BTreeMap<String, Value> {
    let mut parts = BTreeMap::new();
    let mut pending = vec![(String::new(), config.clone())];
    while let Some((path, value)) = pending.pop() {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        match value {
            Value::Object(map) => pending.extend(map.into_iter().map(|(name, value)| (below(&name), value))),
            Value::Array(mounts) if path == "mounts" => {
                let destination = |mount: &Value| mount["destination"].as_str().unwrap().replace('/', "");
                pending.extend(mounts.into_iter().map(|mount| (below(&destination(&mount)), mount)));
            }
            value => drop(parts.insert(path, value)),
        }
    }
    parts
}

/// The configuration of a bundle whose image has this one, and what was left out of it.
fn converted(place: &Place, config: Value) -> (Value, Vec<String>) {
    let report = bundled(place, config, Overrides::default()).unwrap();
    (place.config("b"), report.left_out)
}

fn bundled(place: &Place, config: Value, overrides: Overrides) -> Result<Report, BundleError> {
    let image = Image {
        name: None,
        manifest: None,
        config: Some(Config::parse(serde_json::to_vec(&config).unwrap()).unwrap()),
        layers: Vec::new(),
        notices: Vec::new(),
    };
    let lay = Options { replace: true, ..Options::default() };
    let options = BundleOptions { overrides, ..BundleOptions::default() };
    flat(&image, &place.path("b"), &lay, &options, &NoProgress)
}

fn image(config: Value) -> Value {
    let rootfs = json!({ "type": "layers", "diff_ids": [] });
    json!({ "architecture": "arm64", "os": "linux", "config": config, "rootfs": rootfs })
}

fn every_field(place: &Place) {
    let mut image = image(json!({
        "User": "5:6",
        "Entrypoint": ["/entry", "-x"],
        "Cmd": ["cmd", ""],
        "Env": ["A=1", "HOME=/elsewhere", "odd", "B="],
        "WorkingDir": "/work/../dir",
        "Labels": { "a": "1", "org.opencontainers.image.os": "mine", "": "nameless" },
        "StopSignal": "SIGRTMIN+3",
        "ExposedPorts": { "80": {}, "443/tcp": {} },
        "Volumes": { "/v": {}, "/u/v": {} },
    }));
    for (name, value) in [
        ("variant", json!("v8")),
        ("os.version", json!("1.2")),
        ("os.features", json!(["a", "b"])),
        ("author", json!("someone")),
        ("created", json!("2024-01-01T00:00:00Z")),
    ] {
        image[name] = value;
    }
    let (config, left_out) = converted(place, image);
    let process = &config["process"];
    assert_eq!(process["args"], json!(["/entry", "-x", "cmd", ""]));
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(process["env"], json!(["A=1", "HOME=/elsewhere", "B=", path]));
    assert_eq!(process["cwd"], "/work/../dir");
    assert_eq!(process["user"], json!({ "uid": 5, "gid": 6 }));
    let image = |name: &str| format!("org.opencontainers.image.{name}");
    let expected: BTreeMap<String, &str> = [
        (image("os"), "mine"),
        (image("architecture"), "arm64"),
        (image("variant"), "v8"),
        (image("os.version"), "1.2"),
        (image("os.features"), "a,b"),
        (image("author"), "someone"),
        (image("created"), "2024-01-01T00:00:00Z"),
        (image("stopSignal"), "SIGRTMIN+3"),
        (image("exposedPorts"), "443/tcp,80"),
        ("a".to_owned(), "1"),
    ]
    .into();
    assert_eq!(config["annotations"], json!(expected));
    let mounts = config["mounts"].as_array().unwrap();
    let last: Vec<&Value> = mounts[mounts.len() - 2..].iter().map(|mount| &mount["destination"]).collect();
    assert_eq!(last, ["/u/v", "/v"]);
    assert_eq!(mounts[mounts.len() - 1]["options"], json!(["rw", "nosuid", "nodev", "tmpcopyup", "mode=755"]));
    assert_eq!(left_out[0], "the entry \"odd\" of Env, which is not NAME=VALUE");
    assert_eq!(left_out.len(), 2);
}

fn unsafe_parts(place: &Place) {
    let (config, left_out) = converted(
        place,
        image(json!({
            "Cmd": ["/x"],
            "Labels": { "org.systemd.property.ExecStartPre": "x", "run.oci.hooks.stdout": "/etc/x", "fine": "1" },
            "Volumes": {
                "/": {}, "//": {}, "/proc": {}, "/proc/sys": {}, "/dev/x": {}, "/sys/../etc": {}, "relative": {},
                "/a/../../proc": {}, "/process": {},
            },
        })),
    );
    let annotations: Vec<&String> = config["annotations"].as_object().unwrap().keys().collect();
    assert_eq!(annotations, ["fine", "org.opencontainers.image.architecture", "org.opencontainers.image.os"]);
    let destinations: Vec<&str> =
        config["mounts"].as_array().unwrap().iter().map(|mount| mount["destination"].as_str().unwrap()).collect();
    let default = ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"];
    assert_eq!(destinations, [&default[..], &["/process"]].concat());
    assert_eq!(left_out.len(), 10, "{left_out:#?}");
    assert!(left_out.iter().any(|what| what.contains("\"/proc/sys\"")), "{left_out:#?}");
    assert!(left_out.iter().any(|what| what.contains("ExecStartPre")), "{left_out:#?}");
}

fn bare(place: &Place) {
    let (config, left_out) = converted(place, image(json!({ "Cmd": ["/x"], "WorkingDir": "work", "User": "" })));
    assert_eq!(config["process"]["cwd"], "/work");
    assert_eq!(config["process"]["user"], json!({ "uid": 0, "gid": 0 }));
    assert_eq!(config["process"]["env"][1], "HOME=/");
    assert_eq!(config["process"]["noNewPrivileges"], true);
    assert_eq!(config["root"], json!({ "path": "rootfs", "readonly": false }));
    assert!(left_out.is_empty());
    // The same image, the same bytes.
    let text = || std::fs::read(place.path("b/config.json")).unwrap();
    let first = text();
    converted(place, image(json!({ "Cmd": ["/x"], "WorkingDir": "work", "User": "" })));
    assert_eq!(first, text());
}

fn variables(place: &Place) {
    let env = json!(["A=1", "NOEQUALS", "", "=x", "NUL=\0", "B=2", "A=3=4", "PATH="]);
    let (config, left_out) = converted(place, image(json!({ "Cmd": ["/x"], "Env": env })));
    assert_eq!(config["process"]["env"], json!(["A=3=4", "B=2", "PATH=", "HOME=/"]));
    let entry = |text: &str| format!("the entry {text} of Env, which is not NAME=VALUE");
    assert_eq!(left_out, ["\"NOEQUALS\"", "\"\"", "\"=x\"", "\"NUL=\\0\""].map(entry));
}

fn entrypoints(place: &Place) {
    let config = || image(json!({ "Entrypoint": ["/entry", "-x"], "Cmd": ["cmd"] }));
    let none = || Overrides { entrypoint: Some(String::new()), ..Overrides::default() };
    let message = bundled(place, config(), none()).map_err(|error| Chain(&error).to_string()).unwrap_err();
    assert!(message.starts_with("an empty entrypoint leaves nothing to run"), "{message}");
    let arguments = Some(vec!["/bin/sh".to_owned(), "-c".to_owned()]);
    bundled(place, config(), Overrides { arguments, ..none() }).unwrap();
    assert_eq!(place.config("b")["process"]["args"], json!(["/bin/sh", "-c"]));
    // An image's own, too.
    let (config, _) = converted(place, image(json!({ "Entrypoint": [""], "Cmd": ["/x", ""] })));
    assert_eq!(config["process"]["args"], json!(["/x", ""]));
}

fn processes(place: &Place) {
    for (config, problem) in [
        (json!({}), "the image has neither an Entrypoint nor a Cmd"),
        (json!({ "Cmd": [], "Entrypoint": [] }), "the image has neither an Entrypoint nor a Cmd"),
        (json!({ "Cmd": ["", "x"] }), "the program to run has an empty name"),
        (json!({ "Cmd": ["/x", "a\0b"] }), "the argument \"a\\0b\" contains a NUL byte"),
        (json!({ "Cmd": ["/x"], "WorkingDir": "/a\0b" }), "the working directory \"/a\\0b\" contains a NUL byte"),
        (json!({ "Cmd": ["/x"], "User": "nobody:" }), "the image runs as user \"nobody:\", but"),
        (json!({ "Cmd": ["/x"], "User": "4294967295" }), "the image runs as user \"4294967295\", but"),
    ] {
        let message =
            bundled(place, image(config), Overrides::default()).map_err(|error| Chain(&error).to_string()).unwrap_err();
        assert!(message.starts_with(problem), "{message}");
        assert!(!place.path("b").exists());
    }
    for user in [":", "0:", ":0", "0"] {
        let (config, _) = converted(place, image(json!({ "Cmd": ["/x"], "User": user })));
        assert_eq!(config["process"]["user"], json!({ "uid": 0, "gid": 0 }), "{user:?}");
    }
}
