//! `registries.conf`, line by line. skopeo reads the same file, and both must come to the same end.

use std::fs;
use std::process::Output;

use super::place::{Place, failed, fixture, skopeo, succeeded};
use super::proxy::{Act, Head, Proxy, answer};
use super::servers::Registry;
use crate::common::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("configuration::a_location_stands_in_for_a_prefix", false, location),
    ("configuration::mirrors_are_asked_in_order_and_the_place_itself_last", false, mirrors),
    ("configuration::mirrors_are_for_digests_or_tags_as_they_say", false, pull_from_mirror),
    ("configuration::what_is_blocked_is_neither_pulled_nor_pushed", false, blocked),
    ("configuration::mirrors_of_what_is_blocked_serve", false, blocked_with_mirror),
    ("configuration::pushes_go_where_the_name_says", false, pushes),
    ("configuration::insecure_allows_any_certificate_and_none", false, insecure),
    ("configuration::what_a_mirror_lacks_comes_from_elsewhere", false, partial_mirror),
    ("configuration::a_mirror_is_not_told_the_password", false, secrets),
    ("configuration::version_1_is_read", false, version_1),
    ("configuration::a_broken_file_is_named_and_only_registries_need_it", false, broken),
    ("configuration::short_names_are_suggested", false, short_names),
    ("configuration::the_files_of_ones_home_count", false, home),
];

/// Writes the file, in which ADDRESS is the registry's.
fn configure(place: &Place, registry: &Registry, text: &str) {
    let text = text.replace("ADDRESS", &registry.address.to_string());
    fs::write(place.path("home/registries.conf"), text).unwrap();
}

/// Pulls with both, which must agree; layflat's is handed on.
fn pull(place: &Place, image: &str) -> Output {
    let _ = fs::remove_dir_all(place.path("by-skopeo"));
    let theirs = skopeo(place, &["--insecure-policy", "copy", "-q", image, "dir:by-skopeo"]);
    let ours = place.run(&["inspect", "--counts", "--no-cache", image]);
    assert_eq!(ours.status.success(), theirs.is_ok(), "{image}: {theirs:?} {}", String::from_utf8_lossy(&ours.stderr));
    ours
}

fn notes(output: &Output) -> Vec<String> {
    succeeded(output);
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("note: ")).map(str::to_owned).collect()
}

fn registry(place: &Place, name: &str) -> Registry {
    let registry = Registry::open(place);
    registry.put(&fixture(), name, &[]);
    registry
}

fn location() {
    let place = Place::new();
    let registry = registry(&place, "moved/four:1");
    let (host, file) = (registry.address, place.path("home/registries.conf"));
    configure(
        &place,
        &registry,
        "[[registry]]\nprefix = 'reg.test/team'\nlocation = 'ADDRESS/moved'\ninsecure = true\n\
         [[registry]]\nprefix = '*.wild.test'\nlocation = 'ADDRESS/moved'\ninsecure = true\n",
    );
    let note = |name: &str| format!("{name} is read from {host}/moved/four, its location by {file:?}");
    assert_eq!(notes(&pull(&place, "docker://reg.test/team/four:1")), [note("reg.test/team/four")]);
    assert_eq!(notes(&pull(&place, "docker://a.b.wild.test/four:1")), [note("a.b.wild.test/four")]);
    // The image keeps the name that it was asked for by.
    assert_eq!(place.json(&["inspect", "docker://reg.test/team/four:1"])["image"], "reg.test/team/four:1");
    assert!(place.run(&["--quiet", "inspect", "docker://reg.test/team/four:1"]).stderr.is_empty());
    configure(&place, &registry, "[[registry]]\nprefix = 'reg.test'\nlocation = 'mirror'\n");
    let message = failed(&pull(&place, "docker://reg.test/four:1"));
    assert!(message.contains("the location \"mirror\""), "{message}");
}

fn mirrors() {
    let place = Place::new();
    let registry = registry(&place, "copies/four:1");
    registry.put(&fixture(), "four:2", &[]);
    let host = registry.address;
    let text = "[[registry]]\nprefix = 'reg.test'\nlocation = 'ADDRESS'\ninsecure = true\n\
                [[registry.mirror]]\nlocation = '127.0.0.1:1'\ninsecure = true\n\
                [[registry.mirror]]\nlocation = 'ADDRESS/copies'\ninsecure = true\n";
    configure(&place, &registry, text);
    let file = place.path("home/registries.conf");
    let of_first = notes(&pull(&place, "docker://reg.test/four:1"));
    let [down, served] = of_first.as_slice() else { panic!("{of_first:?}") };
    assert!(down.starts_with("127.0.0.1:1/four, a mirror of reg.test/four, is skipped: cannot reach"), "{down}");
    assert_eq!(*served, format!("reg.test/four is read from {host}/copies/four, a mirror by {file:?}"));
    // Only the place itself has the other.
    let of_second = notes(&pull(&place, "docker://reg.test/four:2"));
    assert!(of_second.last().unwrap().contains("its location by"), "{of_second:?}");
    // What neither has is reported as by the place itself.
    let output = pull(&place, "docker://reg.test/four:3");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.lines().last().unwrap().ends_with("there is no image \"3\"; available: 2"), "{text}");
    // All that is pulled is right.
    place.printed(&["flatten", "docker://reg.test/four:1", "dest"]);
    assert_eq!(place.printed(&["diff", "dest", &fixture()]), "");
}

fn pull_from_mirror() {
    let place = Place::new();
    // A mirror of everything, and a place itself that is away.
    let registry = registry(&place, "four:1");
    let by_digest = format!("docker://reg.test/four@{}", registry.digest("four:1"));
    let by_tag = "docker://reg.test/four:1";
    for (of_registry, of_mirror, tag, digest) in [
        ("", "", true, true),
        ("", "pull-from-mirror = 'all'", true, true),
        ("", "pull-from-mirror = 'digest-only'", false, true),
        ("", "pull-from-mirror = 'tag-only'", true, false),
        ("mirror-by-digest-only = true", "", false, true),
    ] {
        let text = format!(
            "[[registry]]\nprefix = 'reg.test'\nlocation = '127.0.0.1:1'\n{of_registry}\n\
             [[registry.mirror]]\nlocation = 'ADDRESS'\ninsecure = true\n{of_mirror}\n"
        );
        configure(&place, &registry, &text);
        assert_eq!(pull(&place, by_tag).status.success(), tag, "{text}");
        assert_eq!(pull(&place, &by_digest).status.success(), digest, "{text}");
    }
}

fn blocked() {
    let place = Place::new();
    let registry = registry(&place, "bad/four:1");
    registry.put(&fixture(), "good/four:1", &[]);
    let host = registry.address;
    configure(
        &place,
        &registry,
        "[[registry]]\nlocation = 'ADDRESS/bad'\nblocked = true\n\
         [[registry]]\nlocation = 'ADDRESS/good'\ninsecure = true\n",
    );
    succeeded(&pull(&place, &registry.image("good/four:1")));
    let image = registry.image("bad/four:1");
    let file = place.path("home/registries.conf");
    let refusal = format!("{host}/bad/four is blocked: {file:?} has blocked = true for \"{host}/bad\"");
    assert_eq!(failed(&pull(&place, &image)), format!("cannot open {image}: {refusal}"));
    let to = registry.image("bad/new:1");
    let theirs = skopeo(&place, &["--insecure-policy", "copy", "-q", "--dest-tls-verify=false", &fixture(), &to]);
    assert!(theirs.unwrap_err().contains("is blocked"));
    let message = place.message(&["copy", &fixture(), &to]);
    assert_eq!(message, format!("cannot write to {to}: {}", refusal.replace("bad/four is", "bad/new is")));
    let message = place.message(&["copy", "--all-tags", &registry.image("bad/four"), "oci:out"]);
    assert!(message.contains("is blocked"), "{message}");
}

fn blocked_with_mirror() {
    let place = Place::new();
    let registry = registry(&place, "four:1");
    configure(
        &place,
        &registry,
        "[[registry]]\nlocation = 'reg.test'\nblocked = true\n\
         [[registry.mirror]]\nlocation = 'ADDRESS'\ninsecure = true\n",
    );
    succeeded(&pull(&place, "docker://reg.test/four:1"));
    place.printed(&["copy", "--all-tags", "docker://reg.test/four", "oci:out"]);
    let output = pull(&place, "docker://reg.test/four:2");
    assert!(String::from_utf8(output.stderr).unwrap().contains("is blocked"));
}

fn pushes() {
    let place = Place::new();
    let registry = Registry::open(&place);
    configure(
        &place,
        &registry,
        "[[registry]]\nprefix = 'ADDRESS/four'\nlocation = '127.0.0.1:1/four'\ninsecure = true\n\
         [[registry.mirror]]\nlocation = '127.0.0.1:1/mirror'\ninsecure = true\n",
    );
    let to = |tag: &str| registry.image(&format!("four:{tag}"));
    skopeo(&place, &["--insecure-policy", "copy", "-q", &fixture(), &to("theirs")]).unwrap();
    place.printed(&["copy", &fixture(), &to("ours")]);
    assert!(!registry.digest("four:theirs").is_empty() && !registry.digest("four:ours").is_empty());
}

fn insecure() {
    let place = Place::new();
    let registry = Registry::with_tls(&place);
    let ca = place.path("ca.pem").display().to_string();
    place.printed(&["copy", "--ca-cert", &ca, &fixture(), &registry.image("four:1")]);
    let message = failed(&pull(&place, &registry.image("four:1")));
    assert!(message.contains("has an untrusted certificate"), "{message}");
    configure(&place, &registry, "[[registry]]\nlocation = 'ADDRESS'\ninsecure = true\n");
    succeeded(&pull(&place, &registry.image("four:1")));

    // Not the loopback's own address, where TLS may be missing in any case.
    let place = Place::new();
    let registry = self::registry(&place, "four:1");
    let image = format!("docker://0.0.0.0:{}/four:1", registry.address.port());
    assert!(failed(&pull(&place, &image)).contains("does not speak TLS"));
    let text = format!("[[registry]]\nlocation = '0.0.0.0:{}'\ninsecure = true\n", registry.address.port());
    configure(&place, &registry, &text);
    succeeded(&pull(&place, &image));
}

fn partial_mirror() {
    let place = Place::new();
    let registry = registry(&place, "four:1");
    let by_digest = registry.digest("four:1");
    let lacking = |head: &Head, _: usize| if head.is_blob() { answer("404 Not Found", &[], "") } else { Act::Pass };
    let proxy = Proxy::start(Some(registry.address), lacking);
    let text = format!(
        "[[registry]]\nprefix = 'reg.test'\nlocation = 'ADDRESS'\ninsecure = true\n\
         [[registry.mirror]]\nlocation = '{}'\ninsecure = true\n",
        proxy.address
    );
    configure(&place, &registry, &text);
    place.printed(&["flatten", "docker://reg.test/four:1", "dest"]);
    assert_eq!(place.printed(&["diff", "dest", &fixture()]), "");
    assert!(proxy.heads().iter().any(|head| head.path.contains("/manifests/1")));

    // A mirror that gives another image for a digest has not got it.
    let altering =
        Proxy::start(
            Some(registry.address),
            |head: &Head, _: usize| {
                if head.path.contains("/manifests/") { Act::Flip(20) } else { Act::Pass }
            },
        );
    let text = text.replace(&proxy.address.to_string(), &altering.address.to_string());
    configure(&place, &registry, &text);
    let image = format!("docker://reg.test/four@{by_digest}");
    place.printed(&["flatten", "--no-cache", &image, "again"]);
    assert_eq!(place.printed(&["diff", "again", &fixture()]), "");
}

fn secrets() {
    let place = Place::new();
    let registry = Registry::with_password(&place);
    registry.put(&fixture(), "four:1", &["--dest-creds", "me:secret"]);
    let mirror = Proxy::start(None, |_, _| answer("401 Unauthorized", &["WWW-Authenticate: Basic realm=\"x\""], ""));
    let text = format!(
        "[[registry]]\nlocation = 'ADDRESS'\ninsecure = true\n\
         [[registry.mirror]]\nlocation = 'localhost:{}'\ninsecure = true\n",
        mirror.address.port()
    );
    configure(&place, &registry, &text);
    let image = registry.image("four:1");
    let output = place.run_with_input(&["inspect", "--username", "me", "--password-stdin", &image], "secret");
    succeeded(&output);
    assert!(!mirror.heads().is_empty());
    assert!(mirror.heads().iter().all(|head| head.header("authorization").is_none()));
}

fn version_1() {
    let place = Place::new();
    let registry = registry(&place, "four:1");
    let image = registry.image("four:1");
    configure(&place, &registry, "[registries.insecure]\nregistries = ['ADDRESS']\n");
    succeeded(&pull(&place, &image));
    configure(&place, &registry, "[registries.block]\nregistries = ['ADDRESS']\n");
    assert!(failed(&pull(&place, &image)).contains("is blocked"));
    configure(&place, &registry, "[registries.search]\nregistries = ['a.io']\n[[registry]]\nlocation = 'ADDRESS'\n");
    assert!(failed(&pull(&place, &image)).contains("are mixed"));
}

fn broken() {
    let place = Place::new();
    let registry = registry(&place, "four:1");
    let image = registry.image("four:1");
    let file = place.path("home/registries.conf");
    configure(&place, &registry, "[[registry]]\nlocation = 'ADDRESS'\nblocked = 'yes'\n");
    assert_eq!(
        failed(&pull(&place, &image)),
        format!("cannot open {image}: {file:?} line 3: invalid type: string \"yes\", expected a boolean")
    );
    place.printed(&["inspect", &fixture()]);
    fs::remove_file(&file).unwrap();
    let message = failed(&pull(&place, &image));
    assert!(message.starts_with(&format!("cannot open {image}: {file:?}: cannot be read: ")), "{message}");
}

fn short_names() {
    let place = Place::new();
    let registry = Registry::open(&place);
    configure(
        &place,
        &registry,
        "unqualified-search-registries = ['reg.test', 'docker.io']\n[aliases]\nfour = 'quay.test/four'\n",
    );
    let file = place.path("home/registries.conf");
    assert_eq!(
        place.message(&["inspect", "four:1"]),
        format!(
            "cannot open four:1: \"four:1\" does not exist; for an image at a registry write docker://quay.test/four:1, the \
             alias of \"four\" in {file:?}"
        )
    );
    assert_eq!(
        place.message(&["inspect", "five"]),
        format!(
            "cannot open five: \"five\" does not exist; for an image at a registry write docker://reg.test/five or docker://five \
             (the unqualified-search-registries of {file:?})"
        )
    );
}

fn home() {
    let place = Place::new();
    let registry = registry(&place, "four:1");
    let image = registry.image("four:1");
    let text = format!("[[registry]]\nlocation = '{}'\nblocked = true\n", registry.address);
    let inspect = || place.layflat(&["inspect", &image]).env_remove("CONTAINERS_REGISTRIES_CONF").output().unwrap();
    for name in ["registries.conf", "registries.conf.d/50-mine.conf"] {
        let file = place.path("home/.config/containers").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, &text).unwrap();
        let message = failed(&inspect());
        assert!(message.contains(&format!("{file:?} has blocked = true")), "{message}");
        fs::remove_file(&file).unwrap();
    }
    fs::write(place.path("home/.config/containers/registries.conf.d/50-mine.off"), &text).unwrap();
    fs::write(place.path("home/.config/containers/registries.conf"), "").unwrap();
    succeeded(&inspect());
}
