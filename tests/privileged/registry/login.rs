//! Who may ask: passwords from everywhere they may be, tokens, certificates, and secrets that go nowhere else.

use std::fs;
use std::process::Output;

use base64::Engine;

use super::place::{Place, failed, fixture, succeeded};
use super::proxy::{Act, Proxy, answer};
use super::servers::{Registry, tool};
use crate::common::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("login::passwords_come_from_everywhere", false, passwords),
    ("login::a_token_is_fetched_and_fetched_again", false, tokens),
    ("login::a_token_server_that_is_away_is_named", false, lost_token_server),
    ("login::an_identity_token_is_exchanged", false, identity_token),
    ("login::secrets_do_not_follow_redirects", false, redirects),
    ("login::one_password_is_for_one_registry", false, one_registry),
    ("login::secrets_are_never_sent_in_the_clear_unasked", false, in_the_clear),
    ("login::certificates_are_checked", false, certificates),
    ("login::who_is_logged_in_says_so_from_the_start", false, hidden_registries),
    ("login::every_way_to_ask_is_understood", false, ways_to_ask),
    ("login::a_token_server_that_fails_is_named", false, failing_token_servers),
    ("login::credentials_that_cannot_be_had_do_not_hide_what_is_public", false, public_images),
];

fn encoded() -> String {
    base64::engine::general_purpose::STANDARD.encode("me:secret")
}

fn passwords() {
    let place = Place::new();
    let registry = Registry::with_password(&place);
    registry.put(&fixture(), "four:1", &["--dest-creds", "me:secret"]);
    let image = registry.image("four:1");
    let host = registry.address;
    let given = |password: &str| {
        let arguments = ["inspect", "--counts", "--no-cache", "--username", "me", "--password-stdin", &image];
        place.run_with_input(&arguments, password)
    };
    succeeded(&given("secret\n"));
    let denied = format!("cannot open {image}: four:1: the registry {host} denied access: authentication required;");
    assert_eq!(failed(&given("wrong")), format!("{denied} the credentials of me that were given were refused"));
    assert_eq!(failed(&given("")), "--password-stdin: no password on standard input");
    assert_eq!(
        place.message(&["inspect", "--counts", &image]),
        format!(
            "{denied} if it is there, log in (`podman login {host}` or `docker login {host}`); to log in for this command only, \
             give --username and --password-stdin"
        )
    );

    let inspect = |variable: &str, value: &str| -> Output {
        place.layflat(&["inspect", "--counts", "--no-cache", &image]).env(variable, value).output().unwrap()
    };
    // As the tools themselves leave it.
    let file = place.path("auth.json").display().to_string();
    let login = ["login", "--tls-verify=false", "-u", "me", "-p", "secret", "--authfile", &file, &host.to_string()];
    tool("skopeo", &login);
    succeeded(&inspect("REGISTRY_AUTH_FILE", &file));
    place.printed(&["inspect", "--counts", "--authfile", &file, &image]);
    for directory in ["home/run/containers", "home/.config/containers"] {
        fs::create_dir_all(place.path(directory)).unwrap();
        let own = place.path(directory).join("auth.json");
        fs::copy(&file, &own).unwrap();
        place.printed(&["inspect", "--counts", "--no-cache", &image]);
        fs::remove_file(own).unwrap();
    }
    // As Docker does.
    fs::create_dir_all(place.path("home/.docker")).unwrap();
    let docker = place.path("home/.docker/config.json");
    let auths = serde_json::json!({"auths": {host.to_string(): {"auth": encoded()}}});
    fs::write(&docker, auths.to_string()).unwrap();
    place.printed(&["inspect", "--counts", "--no-cache", &image]);
    fs::write(&docker, "{").unwrap();
    // What cannot be read where nobody named it is no reason to stop, but said.
    let broken = format!("{docker:?}: is not a credentials file: it is not a JSON document, see line 1 column 1");
    let said = place.run(&["inspect", "--counts", "--no-cache", &image]);
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.starts_with(&format!("note: {broken}; skipped\nlayflat: {denied} if it is there, log in")), "{said}");
    assert!(
        said.ends_with(&format!("; {broken}; to log in for this command only, give --username and --password-stdin\n")),
        "{said}"
    );

    // A helper is asked with the host, and is named when it fails.
    let helpers = place.path("bin");
    fs::create_dir(&helpers).unwrap();
    let helper = helpers.join("docker-credential-test");
    let script = |body: &str| {
        crate::common::tools::put_script(&format!("#!/bin/sh\nread host\n{body}\n"), &helper);
    };
    let path = format!("{}:{}", helpers.display(), std::env::var("PATH").unwrap());
    for config in [
        serde_json::json!({"credsStore": "test"}),
        serde_json::json!({"credHelpers": {host.to_string(): "test"}, "auths": {host.to_string(): {}}}),
    ] {
        fs::write(&docker, config.to_string()).unwrap();
        script(&format!(r#"[ "$1 $host" = "get {host}" ] && echo '{{"Username":"me","Secret":"secret"}}'"#));
        succeeded(&inspect("PATH", &path));
        script("echo the vault is locked; exit 1");
        let expected = format!("docker-credential-test, which {docker:?} names, fails: the vault is locked");
        let said = String::from_utf8(inspect("PATH", &path).stderr).unwrap();
        assert!(said.starts_with(&format!("note: {expected}; skipped\nlayflat: {denied}")), "{said}");
        assert!(said.contains(&format!("; {expected}; to log in for this command only")), "{said}");
    }
    script("echo credentials not found in native keychain; exit 1");
    assert!(failed(&inspect("PATH", &path)).starts_with(&denied));
}

/// A registry that wants tokens, which a server of its own gives out: each is good for `uses` requests.
fn token_registry(registry: &Registry, uses: usize, check: fn(&super::proxy::Head) -> bool) -> (Proxy, Proxy) {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let given = std::sync::Arc::new(AtomicUsize::new(0));
    let used = AtomicUsize::new(0);
    let counter = std::sync::Arc::clone(&given);
    let tokens = Proxy::start(None, move |head, _| {
        if !check(head) {
            return answer("401 Unauthorized", &[], "");
        }
        let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
        answer("200 OK", &[], &format!(r#"{{"token":"token-{number}","expires_in":3600}}"#))
    });
    let realm = format!("http://{}/token", tokens.address);
    let front = Proxy::start(Some(registry.address), move |head, _| {
        let number = given.load(Ordering::SeqCst);
        let good = number > 0 && head.header("authorization") == Some(&format!("Bearer token-{number}"));
        let one_more = |count| (count < uses * number).then_some(count + 1);
        if good && used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_ok() {
            return Act::Without("authorization");
        }
        let challenge =
            format!(r#"WWW-Authenticate: Bearer realm="{realm}",service="test service",scope="repository:four:pull""#);
        answer("401 Unauthorized", &[&challenge], r#"{"errors":[{"code":"UNAUTHORIZED","message":"who asks?"}]}"#)
    });
    (front, tokens)
}

fn tokens() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&fixture(), "four:1", &[]);
    let anyone = |head: &super::proxy::Head| {
        head.path.contains("service=test%20service") && head.path.contains("scope=repository:four:pull")
    };
    // A token for all; and one that ends after two requests, again and again, one layer after the other.
    for (uses, jobs, expected) in [(100, "4", 1), (2, "1", 3)] {
        let (front, tokens) = token_registry(&registry, uses, anyone);
        let image = front.image("four:1");
        let mut command = place.layflat(&["inspect", "--counts", "--no-cache", "--plain-http", "--jobs", jobs, &image]);
        // Then credentials would be where an ordinary user may not even look.
        succeeded(&command.env_remove("XDG_RUNTIME_DIR").output().unwrap());
        assert_eq!(tokens.heads().len(), expected);
        assert!(tokens.heads().iter().all(|head| head.header("authorization").is_none()));
    }
    // The password goes where the tokens are, and not to the registry.
    let (front, tokens) =
        token_registry(&registry, 100, |head| head.header("authorization") == Some("Basic bWU6c2VjcmV0"));
    let image = front.image("four:1");
    let arguments =
        ["inspect", "--counts", "--no-cache", "--plain-http", "--username", "me", "--password-stdin", &image];
    succeeded(&place.run_with_input(&arguments, "secret"));
    assert!(front.heads().iter().all(|head| !head.header("authorization").unwrap_or_default().starts_with("Basic")));
    let message = failed(&place.run_with_input(&arguments, "wrong"));
    assert_eq!(
        message,
        format!(
            "cannot open {image}: four:1: the registry {} denied access: http://{}/token refused a token (401 Unauthorized); the \
             credentials of me that were given were refused",
            front.address, tokens.address
        )
    );
}

fn lost_token_server() {
    let place = Place::new();
    let server = Proxy::start(None, |_, _| {
        let challenge = r#"WWW-Authenticate: Bearer realm="http://127.0.0.1:1/token",service="x""#;
        answer("401 Unauthorized", &[challenge], "")
    });
    let image = server.image("a:1");
    assert_eq!(
        place.message(&["inspect", "--counts", "--plain-http", "--retries", "1", &image]),
        format!(
            "cannot open {image}: a:1: the connection to {} broke: http://127.0.0.1:1/token, its token server: connection \
             refused: nothing listens there",
            server.address
        )
    );
}

fn identity_token() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&fixture(), "four:1", &[]);
    let (front, tokens) = token_registry(&registry, 100, |head| head.method == "POST");
    let auths = serde_json::json!({"auths": {front.address.to_string(): {"identitytoken": "long lived"}}});
    fs::write(place.path("auth.json"), auths.to_string()).unwrap();
    place.printed(&["inspect", "--counts", "--plain-http", "--authfile", "auth.json", &front.image("four:1")]);
    let [asked] = &tokens.heads()[..] else { panic!() };
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/token"));
}

fn redirects() {
    let place = Place::new();
    let registry = Registry::with_password(&place);
    registry.put(&fixture(), "four:1", &["--dest-creds", "me:secret"]);
    // Where the registry keeps its blobs: a host of its own, which nobody has a password for.
    let open = Place::new();
    let elsewhere = Registry::open(&open);
    elsewhere.put(&fixture(), "four:1", &[]);
    let store = Proxy::start(Some(elsewhere.address), |_, _| Act::Pass);
    let target = store.address;
    let front = Proxy::start(Some(registry.address), move |head, _| {
        if head.is_blob() && head.header("authorization").is_some() {
            answer("307 Temporary Redirect", &[&format!("Location: http://{target}{}", head.path)], "")
        } else {
            Act::Pass
        }
    });
    let image = front.image("four:1");
    let arguments = ["inspect", "--counts", "--no-cache", "--username", "me", "--password-stdin", &image];
    succeeded(&place.run_with_input(&arguments, "secret"));
    // The configuration and four layers.
    assert_eq!(store.heads().len(), 5);
    assert!(store.heads().iter().all(|head| head.header("authorization").is_none()), "{:?}", store.heads());

    let circle = Proxy::start(None, |head, _| answer("302 Found", &[&format!("Location: {}", head.path)], ""));
    let image = circle.image("four:1");
    let host = circle.address;
    let problem =
        format!("gave an unexpected answer: more than 10 redirects, from http://{host}/v2/four/manifests/1 on");
    assert_eq!(
        place.message(&["inspect", "--counts", "--plain-http", &image]),
        format!("cannot open {image}: four:1: the registry {host} {problem}")
    );
}

fn one_registry() {
    let place = Place::new();
    let both = [0, 1].map(|_| Proxy::start(None, |_, _| answer("401 Unauthorized", &["WWW-Authenticate: Basic"], "")));
    let [from, to] = both.each_ref().map(|proxy| proxy.image("a:1"));
    for command in ["copy", "squash"] {
        let arguments = [command, "--username", "me", "--password-stdin", &from, &to];
        let message = failed(&place.run_with_input(&arguments, "secret"));
        let begin = format!("--username: {} and {} are at two registries,", &from[9..], &to[9..]);
        assert!(message.starts_with(&begin), "{message}");
    }
    assert!(both.iter().all(|proxy| proxy.heads().is_empty()));
}

fn in_the_clear() {
    let place = Place::new();
    let challenge = r#"WWW-Authenticate: Bearer realm="http://tokens.example:1/token",service="x""#;
    let server = Proxy::start(None, |_, _| answer("401 Unauthorized", &[challenge], ""));
    let image = server.image("a:1");
    let arguments = ["inspect", "--counts", "--retries", "0", "--username", "me", "--password-stdin", &image];
    let message = failed(&place.run_with_input(&arguments, "secret"));
    assert_eq!(
        message,
        format!(
            "cannot open {image}: a:1: the registry {} gave an unexpected answer: its token server \
             http://tokens.example:1/token is not encrypted",
            server.address
        )
    );
}

fn certificates() {
    let place = Place::new();
    let registry = Registry::with_tls(&place);
    registry.put(&fixture(), "four:1", &[]);
    let image = registry.image("four:1");
    let host = registry.address;
    let message = place.message(&["inspect", "--counts", &image]);
    let begin = format!(
        "cannot open {image}: the registry {host} has an untrusted certificate: it is signed by an unknown authority, "
    );
    let end = "with --ca-cert FILE; --tls-verify=false accepts any certificate";
    assert!(message.starts_with(&begin) && message.ends_with(end), "{message}");
    place.printed(&["inspect", "--counts", "--no-cache", "--ca-cert", "ca.pem", &image]);
    place.printed(&["inspect", "--counts", "--no-cache", "--tls-verify=false", &image]);
    // The system's authorities are those that OpenSSL's variables name, as everywhere.
    let mut command = place.layflat(&["inspect", "--counts", "--no-cache", &image]);
    succeeded(&command.env("SSL_CERT_FILE", place.path("ca.pem")).output().unwrap());
    // The name counts, too.
    let other = format!("docker://[::ffff:127.0.0.1]:{}/four:1", host.port());
    assert!(!place.run(&["inspect", "--counts", "--no-cache", "--ca-cert", "ca.pem", &other]).status.success());
    for (file, problem) in [
        ("server.key", "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"),
        ("missing.pem", "No such file or directory (os error 2)"),
    ] {
        let message = place.message(&["inspect", "--counts", "--ca-cert", file, &image]);
        assert_eq!(message, format!("cannot open {image}: {file:?}: {problem}"));
    }
    let plain = place.message(&["inspect", "--counts", "--plain-http", &image]);
    let refused = "four:1: the registry";
    assert!(plain.contains(refused) && plain.contains("400 Bad Request"), "{plain}");
}

/// A file that holds the password of a registry's user.
fn authfile(place: &Place, host: std::net::SocketAddr, entry: &serde_json::Value) -> String {
    let path = place.path("auth.json");
    fs::write(&path, serde_json::json!({"auths": {host.to_string(): entry}}).to_string()).unwrap();
    path.display().to_string()
}

/// A registry in front of an open one, for whoever shows the header's value; others get an answer of this status and
/// these headers.
fn guarded(registry: &Registry, value: &'static str, status: &'static str, headers: &'static [&'static str]) -> Proxy {
    Proxy::start(Some(registry.address), move |head, _| match head.header("authorization") {
        Some(shown) if shown == value => Act::Without("authorization"),
        // The whole registry says what it wants, where its images do not.
        _ if head.path == "/v2/" && !headers.is_empty() => answer("401 Unauthorized", headers, ""),
        _ => answer(status, if status.starts_with("401") { headers } else { &[] }, ""),
    })
}

const BASIC: &str = "Basic bWU6c2VjcmV0";

fn hidden_registries() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&fixture(), "four:1", &[]);
    let basic: &[&str] = &["WWW-Authenticate: Basic realm=/"];
    for (status, headers) in [
        ("403 Forbidden", basic),
        ("404 Not Found", basic),
        ("401 Unauthorized", &[]),
        ("403 Forbidden", &[]),
        ("404 Not Found", &[]),
    ] {
        let front = guarded(&registry, BASIC, status, headers);
        let file = authfile(&place, front.address, &serde_json::json!({"auth": encoded()}));
        place.printed(&["inspect", "--no-cache", "--plain-http", "--authfile", &file, &front.image("four:1")]);
        // Nobody has a password for another registry.
        let other = guarded(&registry, BASIC, status, headers);
        let image = other.image("four:1");
        place.message(&["inspect", "--no-cache", "--plain-http", "--authfile", &file, &image]);
        assert!(other.heads().iter().all(|head| head.header("authorization").is_none()));
    }
    // A token that is to be shown as it is.
    let front = guarded(&registry, "Bearer as it is", "401 Unauthorized", &["WWW-Authenticate: Bearer realm=\"/t\""]);
    let file = authfile(&place, front.address, &serde_json::json!({"registrytoken": "as it is"}));
    place.printed(&["inspect", "--no-cache", "--plain-http", "--authfile", &file, &front.image("four:1")]);
}

fn ways_to_ask() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&fixture(), "four:1", &[]);
    for headers in [
        &["WWW-Authenticate: Basic realm=Registry Realm"][..],
        &["WWW-Authenticate: basic"],
        &["WWW-Authenticate: Negotiate", "WWW-Authenticate: BASIC realm=\"x\""],
        &["WWW-Authenticate: Bearer realm=\"\", Basic realm=x"],
        &["WWW-Authenticate: Bearer realm=\"http://127.0.0.1:1/\"", "WWW-Authenticate: Basic realm=x"],
    ] {
        let front = guarded(&registry, BASIC, "401 Unauthorized", headers);
        let file = authfile(&place, front.address, &serde_json::json!({"auth": encoded()}));
        place.printed(&["inspect", "--no-cache", "--plain-http", "--authfile", &file, &front.image("four:1")]);
    }
    // Whoever is logged in is not told to log in.
    for (challenge, advice) in [
        (
            "WWW-Authenticate: Digest realm=\"x\"",
            "it asks for credentials in a way that is not supported (digest); Basic, and Bearer with a realm, are",
        ),
        ("WWW-Authenticate: Basic", "the credentials of me from auth.json were refused"),
    ] {
        let front = Proxy::start(None, move |_, _| answer("401 Unauthorized", &[challenge], ""));
        authfile(&place, front.address, &serde_json::json!({"auth": encoded()}));
        let image = front.image("four:1");
        let message = place.message(&["inspect", "--plain-http", "--authfile", "auth.json", &image]);
        let host = front.address;
        assert_eq!(message, format!("cannot open {image}: four:1: the registry {host} denied access: {advice}"));
    }
}

fn failing_token_servers() {
    let place = Place::new();
    for (status, headers, body, problem) in [
        ("404 Not Found", &[][..], "", "answered 404 Not Found"),
        (
            "500 Internal Server Error",
            &[],
            "{\"errors\":[{\"message\":\"oops\"}]}",
            "answered 500 Internal Server Error: oops",
        ),
        ("200 OK", &[], "<html>", "answered without a token: it is not a JSON document, see line 1 column 1"),
        ("200 OK", &[], "{\"expires_in\": 60}", "answered without a token"),
        (
            "302 Found",
            &["Location: http://127.0.0.1:1/token"],
            "",
            "redirects to http://127.0.0.1:1/token, another server, which is not told the token",
        ),
    ] {
        let tokens = Proxy::start(None, move |_, _| answer(status, headers, body));
        let realm = format!("http://{}/token", tokens.address);
        let challenge = format!("WWW-Authenticate: Bearer realm={realm},service=x");
        let front = Proxy::start(None, move |_, _| answer("401 Unauthorized", &[&challenge], ""));
        authfile(&place, front.address, &serde_json::json!({"identitytoken": "long lived"}));
        let image = front.image("a:1");
        let message = place.message(&["inspect", "--plain-http", "--retries", "0", "--authfile", "auth.json", &image]);
        let who = format!("{realm}, the token server of the registry {},", front.address);
        assert_eq!(message, format!("cannot open {image}: a:1: {who} {problem}"));
    }
    // A password does not follow a redirect to another server; the token that it gives is taken.
    let other = Proxy::start(None, |_, _| answer("200 OK", &[], r#"{"access_token": "t"}"#));
    let target = format!("Location: http://{}/other?scope=x", other.address);
    let tokens = Proxy::start(None, move |_, _| answer("307 Temporary Redirect", &[&target], ""));
    let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{}/token\"", tokens.address);
    let registry = Registry::open(&place);
    registry.put(&fixture(), "four:1", &[]);
    let front = Proxy::start(Some(registry.address), move |head, _| match head.header("authorization") {
        Some("Bearer t") => Act::Without("authorization"),
        _ => answer("401 Unauthorized", &[&challenge], ""),
    });
    authfile(&place, front.address, &serde_json::json!({"auth": encoded()}));
    let image = front.image("four:1");
    place.printed(&["inspect", "--no-cache", "--plain-http", "--authfile", "auth.json", &image]);
    assert_eq!(tokens.heads()[0].header("authorization"), Some(BASIC));
    assert!(other.heads().iter().all(|head| head.header("authorization").is_none()));
}

fn public_images() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&fixture(), "four:1", &[]);
    let image = registry.image("four:1");
    let path = place.path("auth.json");
    let inspect = |more: &[&str]| {
        let arguments = [&["inspect", "--counts", "--no-cache"][..], more, &[&image]].concat();
        let output = place.layflat(&arguments).env("REGISTRY_AUTH_FILE", &path).output().unwrap();
        succeeded(&output);
        String::from_utf8(output.stderr).unwrap()
    };
    let missing = format!("note: the credentials file {path:?} does not exist; skipped\n");
    assert_eq!(inspect(&[]), missing);
    assert_eq!(inspect(&["--quiet"]), "");
    for (text, note) in [
        ("", format!("note: the credentials file {path:?} is empty; skipped\n")),
        (r#"{"auths": null, "credHelpers": null}"#, String::new()),
        ("null", String::new()),
        (
            r#"{"credsStore": "desktop.exe"}"#,
            format!("note: docker-credential-desktop.exe, which {path:?} names, is not installed; skipped\n"),
        ),
    ] {
        fs::write(&path, text).unwrap();
        assert_eq!(inspect(&[]), note, "{text}");
    }
}
