//! Mirrors that the command line or containerd's hosts.toml names: asked first, told nothing, and never believed.

use super::place::{Images as _, Place, failed, noise, succeeded};
use super::proxy::{Act, Head, Proxy, answer};
use super::servers::Registry;
use crate::common::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("mirrors::what_has_a_digest_comes_from_a_mirror_and_tags_from_the_registry", false, by_digest),
    ("mirrors::what_a_mirror_lacks_comes_from_the_registry", false, lacking),
    ("mirrors::a_mirror_is_told_no_password", false, secrets),
    ("mirrors::s3_a_mirror_that_lies_is_found_out", false, lying),
    ("mirrors::the_rest_of_what_a_mirror_breaks_off_comes_from_the_registry", false, broken_off),
    ("mirrors::hosts_toml_names_mirrors_in_its_order", false, hosts),
    ("mirrors::hosts_toml_can_name_another_server", false, server),
];

/// A registry with an image of two layers, and a proxy before it that only counts.
fn registry(place: &Place) -> (Registry, Proxy) {
    let registry = Registry::open(place);
    registry.put(&place.image("layout", &[("a", noise(300_000, 1)), ("b", noise(1000, 2))]), "a:1", &[]);
    let proxy = Proxy::start(Some(registry.address), |_, _| Act::Pass);
    (registry, proxy)
}

fn address(proxy: &Proxy) -> String {
    format!("http://{}", proxy.address)
}

fn blobs(proxy: &Proxy) -> usize {
    proxy.heads().iter().filter(|head| head.is_blob()).count()
}

fn hosts_toml(place: &Place, registry: &str, text: &str) -> String {
    let directory = place.path("hosts").join(registry);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("hosts.toml"), text).unwrap();
    place.path("hosts").display().to_string()
}

fn by_digest() {
    let place = Place::new();
    let (registry, origin) = registry(&place);
    let mirror = Proxy::start(Some(registry.address), |_, _| Act::Pass);
    let output = place.run(&["flatten", "--mirror", &address(&mirror), &origin.image("a:1"), "dest"]);
    succeeded(&output);
    assert_eq!(std::fs::read(place.path("dest/a")).unwrap(), noise(300_000, 1));
    let said = String::from_utf8(output.stderr).unwrap();
    // An ordinary user is told of owners, and nobody of mirrors.
    assert!(!said.lines().any(|line| line.contains("note:") && !line.contains("owner not kept")), "{said}");
    assert_eq!((blobs(&origin), blobs(&mirror)), (0, 3));
    // As containerd tells peers that serve several registries.
    let ns = format!("?ns={}", origin.address);
    assert!(mirror.heads().iter().all(|head| head.path.ends_with(&ns)), "{:?}", mirror.heads());
    assert!(origin.heads().iter().any(|head| head.path.ends_with("/manifests/1")));
    let wrong = place.run(&["flatten", "--mirror", "mirror.io", &origin.image("a:1"), "other"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("expected http://HOST[:PORT]"));
}

fn lacking() {
    let place = Place::new();
    let (_registry, origin) = registry(&place);
    let empty = Proxy::start(None, |_, _| answer("404 Not Found", &[], "{}"));
    let image = origin.image("a:1");
    let mirrors = ["--mirror", "http://127.0.0.1:1", "--mirror", &address(&empty)];
    let output = place.run(&[&["flatten", &image, "dest"][..], &mirrors].concat());
    succeeded(&output);
    let said = String::from_utf8(output.stderr).unwrap();
    // That one is away is worth a word, and that another has not got it is not.
    assert_eq!(said.matches("is skipped").count(), 1, "{said}");
    assert!(said.contains("note: 127.0.0.1:1/a, a mirror of "), "{said}");
    assert_eq!((blobs(&origin), blobs(&empty)), (3, 3));
}

fn secrets() {
    let place = Place::new();
    let registry = Registry::with_password(&place);
    let layout = place.image("layout", &[("a", noise(1000, 1))]);
    registry.put(&layout, "a:1", &["--dest-creds", "me:secret"]);
    let demand = |_: &Head, _| answer("401 Unauthorized", &["WWW-Authenticate: Basic realm=\"x\""], "");
    let [named, listed] = [(); 2].map(|()| Proxy::start(None, demand));
    let text = format!("[host.\"{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n", address(&listed));
    let hosts = hosts_toml(&place, &registry.address.to_string(), &text);
    let image = registry.image("a:1");
    let mirrors = ["--mirror", &address(&named), "--hosts-dir", &hosts];
    let given = ["flatten", "--username", "me", "--password-stdin", &image, "dest"];
    succeeded(&place.run_with_input(&[&given[..], &mirrors].concat(), "secret"));
    // Nor what is stored for the registry.
    let auth = format!(r#"{{"auths": {{"{}": {{"auth": "bWU6c2VjcmV0"}}}}}}"#, registry.address);
    let authfile = place.write("auth.json", auth).display().to_string();
    let stored = ["flatten", "--no-cache", "--authfile", &authfile, &image, "other"];
    succeeded(&place.run(&[&stored[..], &mirrors].concat()));
    for mirror in [named, listed] {
        let heads = mirror.heads();
        assert!(!heads.is_empty() && heads.iter().all(|head| head.header("authorization").is_none()), "{heads:?}");
    }
}

fn lying() {
    let place = Place::new();
    let (registry, origin) = registry(&place);
    let mirror =
        Proxy::start(Some(registry.address), |head, _| if head.is_blob() { Act::Flip(100) } else { Act::Pass });
    let arguments = ["flatten", "--mirror", &address(&mirror), &origin.image("a:1"), "dest"];
    let message = failed(&place.run(&arguments));
    assert!(message.contains("sha256:"), "{message}");
    assert!(!place.path("dest").exists());
    // Nothing of that is kept.
    assert_eq!(place.printed(&["cache", "verify"]), "");
    // Without the mirror, all is well.
    place.printed(&["flatten", &origin.image("a:1"), "dest"]);
}

fn broken_off() {
    let place = Place::new();
    let (registry, origin) = registry(&place);
    let mirror = Proxy::start(Some(registry.address), |head, _| if head.is_blob() { Act::Cut(100) } else { Act::Pass });
    let mirrors = ["--mirror", &address(&mirror), "--retries", "0"];
    let output = place.run(&[&["flatten", &origin.image("a:1"), "dest"][..], &mirrors].concat());
    succeeded(&output);
    assert_eq!(std::fs::read(place.path("dest/a")).unwrap(), noise(300_000, 1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("broke off after 100 of "), "{said}");
    assert!(origin.heads().iter().any(|head| head.header("range") == Some("bytes=100-")), "{:?}", origin.heads());
}

fn hosts() {
    let place = Place::new();
    let (registry, _) = registry(&place);
    let [first, second] = [(); 2].map(|()| Proxy::start(Some(registry.address), |_, _| Act::Pass));
    // Of a registry that is away: tags come from who can resolve them.
    let text = format!(
        "[host.\"{}/\"]\ncapabilities = [\"resolve\"]\n[host.\"{}\"]\ncapabilities = [\"pull\"]\n\
         [host.\"{}\".header]\nX-Registry = \"https://127.0.0.1:1\"\n",
        address(&second),
        address(&first),
        address(&first)
    );
    let hosts = hosts_toml(&place, "127.0.0.1:1", &text);
    let output = place.run(&["flatten", "--hosts-dir", &hosts, "docker://127.0.0.1:1/a:1", "dest"]);
    succeeded(&output);
    assert_eq!((blobs(&first), blobs(&second)), (3, 0));
    assert!(second.heads().iter().any(|head| head.path == "/v2/a/manifests/1?ns=127.0.0.1:1"), "{:?}", second.heads());
    assert!(first.heads().iter().all(|head| head.header("x-registry") == Some("https://127.0.0.1:1")));
    assert!(second.heads().iter().all(|head| head.header("x-registry").is_none()));
    let said = String::from_utf8(output.stderr).unwrap();
    let file = place.path("hosts/127.0.0.1:1/hosts.toml");
    assert!(said.contains(&format!("is read from {}/a, a mirror by {file:?}", first.address)), "{said}");
    hosts_toml(&place, "127.0.0.1:1", "[host]\n\"http://a b\" = {}\n");
    let message = place.message(&["inspect", "--hosts-dir", &hosts, "docker://127.0.0.1:1/a:1"]);
    assert!(message.contains(&format!("{file:?} line 2: ")), "{message}");
}

fn server() {
    let place = Place::new();
    let (registry, _) = registry(&place);
    let other = Proxy::start(Some(registry.address), |_, _| Act::Pass);
    let hosts = hosts_toml(&place, "_default", &format!("server = \"{}\"\n", address(&other)));
    // Nobody asks the registry itself.
    place.printed(&["flatten", "--hosts-dir", &hosts, "docker://reg.test/a:1", "dest"]);
    assert_eq!(blobs(&other), 3);
    assert_eq!(std::fs::read(place.path("dest/b")).unwrap(), noise(1000, 2));
}
