//! Who is believed to be a registry, and as whom we show ourselves.

use std::fs;

use super::place::{Images as _, Place, failed, succeeded};
use super::servers::{Registry, certificate, tool};
use crate::common::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("tls::a_self_signed_certificate_is_trusted_where_it_is_given", false, self_signed),
    ("tls::what_is_wrong_with_a_certificate_is_said", false, wrong),
    ("tls::a_client_certificate_is_shown_to_whom_it_is_for", false, client),
];

const NAMES: [&str; 4] = ["-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"];

/// What is said of an image that is not there, which is all that can be asked of an empty registry.
const EMPTY: &str = "does not have it";

fn message(place: &Place, registry: &Registry, more: &[&str]) -> String {
    place.message(&[&["ls", "--retries", "0", &registry.image("a:1")], more].concat())
}

fn self_signed() {
    for more in [&[][..], &["-addext", "basicConstraints=critical,CA:FALSE"]] {
        let place = Place::new();
        let registry = Registry::self_signed(&place, &[&NAMES[..], more].concat(), None);
        let unknown = message(&place, &registry, &[]);
        assert!(
            unknown.contains("untrusted certificate: it is signed by an unknown authority, or by itself; give"),
            "{unknown}"
        );
        assert!(message(&place, &registry, &["--ca-cert", "server.pem"]).contains(EMPTY));
        let image = registry.image("a:1");
        let mut command = place.layflat(&["ls", "--retries", "0", &image]);
        let said = failed(&command.env("SSL_CERT_FILE", place.path("server.pem")).output().unwrap());
        assert!(said.contains(EMPTY), "{said}");
        // For the registry of that name and port alone.
        let directory = place.path("home/.config/containers/certs.d").join(registry.address.to_string());
        fs::create_dir_all(&directory).unwrap();
        fs::copy(place.path("server.pem"), directory.join("ca.crt")).unwrap();
        assert!(message(&place, &registry, &[]).contains(EMPTY));
        fs::rename(&directory, directory.with_file_name("127.0.0.1:1")).unwrap();
        assert!(message(&place, &registry, &[]).contains("unknown authority"));
    }
    // Of old recipes: for a common name only.
    let place = Place::new();
    let registry = Registry::self_signed(&place, &["-subj", "/CN=127.0.0.1"], None);
    assert!(message(&place, &registry, &["--ca-cert", "server.pem"]).contains(EMPTY));
}

fn wrong() {
    let place = Place::new();
    let other = ["-subj", "/CN=registry", "-addext", "subjectAltName=DNS:other.example,DNS:another.example"];
    let registry = Registry::self_signed(&place, &other, None);
    let name = message(&place, &registry, &["--ca-cert", "server.pem"]);
    assert!(name.contains("it is for other.example, another.example, not for 127.0.0.1;"), "{name}");
    let place = Place::new();
    certificate(&place, "young", &NAMES);
    let path = |name: &str| place.path(name).display().to_string();
    let (young, key, old) = (path("young.pem"), path("young.key"), path("server.pem"));
    tool("openssl", &["x509", "-in", &young, "-signkey", &key, "-days", "-1", "-out", &old]);
    fs::rename(&key, path("server.key")).unwrap();
    let registry = Registry::with_certificate(&place, None);
    let expired = message(&place, &registry, &["--ca-cert", "server.pem"]);
    assert!(expired.contains("untrusted certificate: it expired on "), "{expired}");
    assert!(message(&place, &registry, &["--tls-verify=false"]).contains(EMPTY));
    // What is named and cannot be read is told, for it may be what is missed.
    let image = registry.image("a:1");
    let mut command = place.layflat(&["ls", "--no-cache", "--tls-verify", "--retries", "0", &image]);
    let output = command.env("SSL_CERT_FILE", place.path("none")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("note: SSL_CERT_FILE: ") && said.contains("No such file"), "{said}");
    for (file, problem) in [("server.key", "holds no certificate in PEM form"), ("none", "No such file")] {
        let said = message(&place, &registry, &["--ca-cert", file]);
        assert!(said.contains(problem), "{said}");
    }
}

fn client() {
    let place = Place::new();
    certificate(&place, "client", &["-subj", "/CN=me", "-addext", "extendedKeyUsage=clientAuth"]);
    let registry = Registry::self_signed(&place, &NAMES, Some("client"));
    let ca = ["--ca-cert", "server.pem"];
    let missing = message(&place, &registry, &ca);
    assert!(missing.contains("requires a client certificate that it accepts"), "{missing}");
    let given = [&ca[..], &["--cert", "client.pem", "--key", "client.key"]].concat();
    assert!(message(&place, &registry, &given).contains(EMPTY));
    let directory = place.path("home/.config/containers/certs.d").join(registry.address.to_string());
    fs::create_dir_all(&directory).unwrap();
    fs::copy(place.path("server.pem"), directory.join("ca.crt")).unwrap();
    fs::copy(place.path("client.pem"), directory.join("me.cert")).unwrap();
    let half = message(&place, &registry, &[]);
    assert!(half.contains("me.cert\": needs \"") && half.contains("me.key\" beside it"), "{half}");
    fs::copy(place.path("client.key"), directory.join("me.key")).unwrap();
    assert!(message(&place, &registry, &[]).contains(EMPTY));
    // podman reads the same directory in the same way.
    let image = place.image("layout", &[("a", b"a".to_vec())]);
    succeeded(&place.run(&["copy", &image, &registry.image("a:1")]));
    let format = "{{.Digest}}";
    let directory = directory.display().to_string();
    let inspect = ["inspect", "--cert-dir", &directory, "--format", format, &registry.image("a:1")];
    assert!(tool("skopeo", &inspect).starts_with("sha256:"));
}
