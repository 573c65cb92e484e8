//! `policy.json`, requirement by requirement. skopeo obeys the same file, and both must come to the same end.

use std::fs;

use base64::Engine;
use serde_json::{Value, json};

use super::place::{Images as _, Place, fixture, skopeo};
use super::servers::{Registry, tool};
use crate::common::harness::Test;
use crate::common::images::digest;

pub(crate) const TESTS: &[Test] = &[
    ("policy::every_transport_has_its_scopes", false, transports),
    ("policy::the_policy_of_ones_home_is_obeyed_unless_it_is_set_aside", false, places),
    ("policy::a_signature_must_be_good_and_of_this_image", false, signatures),
    ("policy::every_image_of_an_index_must_be_signed", false, indexes),
    ("policy::what_cannot_be_verified_is_refused", false, unsupported),
];

/// Pulls with both under a policy, which must agree; says what layflat has against it.
fn pull(place: &Place, policy: &Value, image: &str) -> Option<String> {
    fs::write(place.path("policy.json"), policy.to_string()).unwrap();
    let _ = fs::remove_dir_all(place.path("by-skopeo"));
    // Without this skopeo looks for no signature of cosign's.
    fs::create_dir_all(place.path("registries.d")).unwrap();
    fs::write(place.path("registries.d/all.yaml"), "default-docker:\n  use-sigstore-attachments: true\n").unwrap();
    let arguments =
        ["--policy", "policy.json", "--registries.d", "registries.d", "copy", "-q", "--src-tls-verify=false"];
    let theirs = skopeo(place, &[&arguments[..], &[image, "dir:by-skopeo"]].concat());
    let ours = place.run(&["--quiet", "flatten", "--no-cache", "--replace", "--policy", "policy.json", image, "dest"]);
    let message = String::from_utf8(ours.stderr).unwrap();
    // Debian builds skopeo without what verifies cosign's signatures.
    if !theirs.as_ref().is_err_and(|said| said.contains("sigstore disabled")) {
        assert_eq!(ours.status.success(), theirs.is_ok(), "{policy} {image}: {theirs:?} {message}");
    }
    (!ours.status.success()).then_some(message)
}

const REJECT: &str = "reject";
const ACCEPT: &str = "insecureAcceptAnything";

fn policy(default: &str, transport: &str, scopes: &[(&str, &str)]) -> Value {
    let scopes: serde_json::Map<String, Value> =
        scopes.iter().map(|&(scope, kind)| (scope.to_owned(), json!([{"type": kind}]))).collect();
    json!({"default": [{"type": default}], "transports": {transport: scopes}})
}

fn transports() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&fixture(), "team/four:1", &[]);
    let host = registry.address.to_string();
    let path = |name: &str| place.path(name).display().to_string();
    fs::create_dir(place.path("images")).unwrap();
    let (oci, archive, dir) = (path("images/oci"), path("images/oci.tar"), path("images/dir"));
    for to in [format!("oci:{oci}:1"), format!("oci-archive:{archive}:1"), format!("dir:{dir}")] {
        tool("skopeo", &["--insecure-policy", "copy", "-q", &fixture(), &to]);
    }
    let images = path("images");
    let docker = registry.image("team/four:1");
    let repository = format!("{host}/team/four");
    let whole = format!("{repository}:1");
    let cases: Vec<(&str, String, Vec<String>)> = vec![
        ("docker", docker, vec![whole, repository, format!("{host}/team"), host, String::new()]),
        ("docker-archive", fixture(), vec![String::new()]),
        ("oci", format!("oci:{oci}:1"), vec![oci, images.clone(), String::new()]),
        ("oci-archive", format!("oci-archive:{archive}:1"), vec![archive, images.clone(), String::new()]),
        ("dir", format!("dir:{dir}"), vec![dir, images, String::new()]),
    ];
    for (transport, image, scopes) in cases {
        assert_eq!(pull(&place, &policy(ACCEPT, transport, &[]), &image), None);
        let refused = pull(&place, &policy(REJECT, transport, &[]), &image).unwrap();
        let expected = format!(
            "layflat: cannot open {image}: refused by the default in \"policy.json\": it is rejected; --no-policy \
             overrides this\n"
        );
        assert_eq!(refused, expected);
        // Each scope counts for more than those around it.
        for (index, scope) in scopes.iter().enumerate() {
            assert_eq!(pull(&place, &policy(REJECT, transport, &[(scope, ACCEPT)]), &image), None, "{scope}");
            let around: Vec<(&str, &str)> = scopes[index + 1..].iter().map(|scope| (scope.as_str(), ACCEPT)).collect();
            let narrow = [&around[..], &[(scope.as_str(), REJECT)]].concat();
            assert!(pull(&place, &policy(ACCEPT, transport, &narrow), &image).unwrap().contains("it is rejected"));
        }
    }
    // What is recognised by its content is what it would be by its name.
    for (transport, name) in [("oci", "images/oci"), ("oci-archive", "images/oci.tar"), ("dir", "images/dir")] {
        fs::write(place.path("policy.json"), policy(ACCEPT, transport, &[("", REJECT)]).to_string()).unwrap();
        assert!(place.message(&["inspect", "--policy", "policy.json", name]).contains("it is rejected"), "{name}");
    }
    let all = ["copy", "--all-tags", "--policy", "policy.json", "images/dir", "oci:out"];
    assert!(place.message(&all).contains("it is rejected"));
}

fn places() {
    let place = Place::new();
    let own = place.path("home/.config/containers/policy.json");
    fs::write(&own, policy(REJECT, "docker", &[]).to_string()).unwrap();
    let message = place.message(&["inspect", &fixture()]);
    assert!(message.contains(&format!("refused by the default in {own:?}")), "{message}");
    place.printed(&["inspect", "--no-policy", &fixture()]);
    fs::write(&own, "{\n\"default\": 1}").unwrap();
    let message = place.message(&["inspect", &fixture()]);
    assert!(message.contains(&format!("{own:?} line 2: is not a policy: ")), "{message}");
    let message = place.message(&["inspect", "--policy", "none.json", &fixture()]);
    assert!(message.contains("\"none.json\": cannot be read"), "{message}");
}

/// A key of cosign's kind: `NAME.key`, and `NAME.pub`, whose path is given back.
fn key(place: &Place, name: &str) -> String {
    let path = |end: &str| place.path(&format!("{name}.{end}")).display().to_string();
    let (private, public) = (path("key"), path("pub"));
    tool("openssl", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &private]);
    tool("openssl", &["pkey", "-in", &private, "-pubout", "-out", &public]);
    public
}

/// What cosign signs.
fn statement(name: &str, image: &str) -> Vec<u8> {
    let critical = json!({
        "identity": {"docker-reference": name}, "image": {"docker-manifest-digest": image},
        "type": "cosign container image signature",
    });
    json!({"critical": critical, "optional": null}).to_string().into_bytes()
}

fn sign(place: &Place, key: &str, statement: &[u8]) -> String {
    let path = |name: &str| place.path(name).display().to_string();
    fs::write(place.path("statement"), statement).unwrap();
    let private = path(&format!("{key}.key"));
    tool("openssl", &["dgst", "-sha256", "-sign", &private, "-out", &path("signature"), &path("statement")]);
    base64::engine::general_purpose::STANDARD.encode(fs::read(place.path("signature")).unwrap())
}

/// Puts signatures beside an image, as cosign does.
fn attach(place: &Place, registry: &Registry, repository: &str, image: &str, signed: &[(Vec<u8>, Option<String>)]) {
    let directory = place.path("signatures");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("version"), "Directory Transport Version: 1.1\n").unwrap();
    let put = |bytes: &[u8]| {
        let digest = digest(bytes);
        fs::write(directory.join(digest.trim_start_matches("sha256:")), bytes).unwrap();
        digest
    };
    let layers: Vec<Value> = signed
        .iter()
        .map(|(statement, signature)| {
            let mut layer = json!({
                "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "size": statement.len(),
                "digest": put(statement), "annotations": {},
            });
            if let Some(signature) = signature {
                layer["annotations"]["dev.cosignproject.cosign/signature"] = signature.clone().into();
            }
            layer
        })
        .collect();
    let ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    let config = json!({"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": ids}});
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": layers,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(), "digest": put(&config),
        },
    });
    fs::write(directory.join("manifest.json"), manifest.to_string()).unwrap();
    let tag = format!("{repository}:{}.sig", image.replace(':', "-"));
    registry.put(&format!("dir:{}", directory.display()), &tag, &[]);
}

fn signed_by(key: &str, identity: &Value) -> Value {
    json!({"default": [{"type": "sigstoreSigned", "keyPath": key, "signedIdentity": identity}]})
}

fn signatures() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&fixture(), "four:1", &["--format", "oci"]);
    let (image, digest) = (registry.image("four:1"), registry.digest("four:1"));
    let name = registry.name("four");
    let (ours, theirs) = (key(&place, "ours"), key(&place, "theirs"));
    let repository = json!({"type": "matchRepository"});
    let refused = |key: &str, identity: &Value, image: &str, reason: &str| {
        let message = pull(&place, &signed_by(key, identity), image).unwrap();
        assert!(message.contains(reason), "{message}");
    };
    refused(&ours, &repository, &image, &format!("it must be signed, and {digest} has no signature"));

    let good = statement(&name, &digest);
    let signature = sign(&place, "ours", &good);
    attach(&place, &registry, "four", &digest, &[(good.clone(), Some(signature.clone()))]);
    assert_eq!(pull(&place, &signed_by(&ours, &repository), &image), None);
    let by_digest = registry.image(&format!("four@{digest}"));
    assert_eq!(pull(&place, &signed_by(&ours, &repository), &by_digest), None);
    let data = base64::engine::general_purpose::STANDARD.encode(fs::read(&ours).unwrap());
    let by_data = json!({"default": [{"type": "sigstoreSigned", "keyData": data, "signedIdentity": repository}]});
    assert_eq!(pull(&place, &by_data, &image), None);
    // All requirements must hold, and any signature may meet one.
    let mut both = signed_by(&ours, &repository);
    both["default"].as_array_mut().unwrap().push(signed_by(&theirs, &repository)["default"][0].clone());
    assert!(pull(&place, &both, &image).unwrap().contains("by another key"));
    let second = sign(&place, "theirs", &good);
    attach(
        &place,
        &registry,
        "four",
        &digest,
        &[(good.clone(), Some(second)), (good.clone(), Some(signature.clone()))],
    );
    assert_eq!(pull(&place, &both, &image), None);

    // Whose it is.
    let exact = json!({"type": "matchExact"});
    let tagged = statement(&format!("{name}:1"), &digest);
    let of_tagged = sign(&place, "ours", &tagged);
    refused(&ours, &exact, &image, "which does not match");
    attach(&place, &registry, "four", &digest, &[(tagged, Some(of_tagged))]);
    assert_eq!(pull(&place, &signed_by(&ours, &exact), &image), None);
    let unsaid = json!({"default": [{"type": "sigstoreSigned", "keyPath": ours}]});
    assert_eq!(pull(&place, &unsaid, &image), None);
    assert_eq!(pull(&place, &unsaid, &by_digest), None);
    refused(&ours, &exact, &by_digest, "which does not match");
    let this = json!({"type": "exactRepository", "dockerRepository": name});
    assert_eq!(pull(&place, &signed_by(&ours, &this), &image), None);
    let this = json!({"type": "exactReference", "dockerReference": format!("{name}:2")});
    refused(&ours, &this, &image, "which does not match");
    let remap = |prefix: &str| json!({"type": "remapIdentity", "prefix": "reg.test/a", "signedPrefix": prefix});
    assert_eq!(pull(&place, &signed_by(&ours, &remap("reg.test/b")), &image), None);

    // What is wrong with it.
    let other = format!("sha256:{}", "0".repeat(64));
    let of_other = statement(&name, &other);
    let of_other_signature = sign(&place, "ours", &of_other);
    let foreign = statement("reg.test/other", &digest);
    let foreign_signature = sign(&place, "ours", &foreign);
    let mut altered = good.clone();
    altered.push(b' ');
    let critical = String::from_utf8(good.clone()).unwrap().replace("\"type\"", "\"until\":1,\"type\"").into_bytes();
    let critical_signature = sign(&place, "ours", &critical);
    for (statement, signature, reason) in [
        (good.clone(), Some(sign(&place, "theirs", &good)), "one is by another key, or was altered"),
        (altered, Some(signature), "one is by another key, or was altered"),
        (of_other, Some(of_other_signature), "one is of another image, sha256:000"),
        (foreign, Some(foreign_signature), "one is for the name \"reg.test/other\""),
        (critical, Some(critical_signature), "unknown field `until`"),
        (good.clone(), Some("?".to_owned()), "not base64"),
        (good, None, "lacks the signature itself"),
    ] {
        attach(&place, &registry, "four", &digest, &[(statement, signature)]);
        refused(&ours, &repository, &image, reason);
    }
    refused("/no/such.pub", &repository, &image, "cannot be read");
}

fn indexes() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&place.index("layout"), "multi:1", &[]);
    let image = registry.image("multi:1");
    let ours = key(&place, "ours");
    fs::write(place.path("policy.json"), signed_by(&ours, &json!({"type": "matchRepository"})).to_string()).unwrap();
    let index: Value =
        serde_json::from_str(&tool("skopeo", &["inspect", "--raw", "--tls-verify=false", &image])).unwrap();
    let one = ["--quiet", "copy", "--policy", "policy.json", "--platform", "linux/amd64", &image, "oci:one"];
    let all = ["--quiet", "copy", "--policy", "policy.json", "--all-platforms", &image, "oci:all"];
    assert!(place.message(&one).contains("has no signature"));
    for entry in index["manifests"].as_array().unwrap() {
        assert!(place.message(&all).contains("has no signature"));
        let digest = entry["digest"].as_str().unwrap();
        let statement = statement(&registry.name("multi"), digest);
        let signature = sign(&place, "ours", &statement);
        attach(&place, &registry, "multi", digest, &[(statement, Some(signature))]);
        // The first is this platform's.
        place.printed(&one);
    }
    place.printed(&all);
}

fn unsupported() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&fixture(), "four:1", &[]);
    let image = registry.image("four:1");
    for (requirement, reason) in [
        (json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}), "signedBy, a GPG signature, is required"),
        (json!({"type": "sigstoreSigned", "fulcio": {}}), "fulcio, a short-lived certificate, is required"),
        (
            json!({"type": "sigstoreSigned", "keyPath": "/k", "rekorPublicKeyPath": "/r"}),
            "an entry in a transparency log, is required",
        ),
    ] {
        let message = pull(&place, &json!({"default": [requirement]}), &image).unwrap();
        assert!(message.contains(reason) && message.contains("check it with skopeo"), "{message}");
    }
    // Where nobody keeps signatures, none can be good.
    let signed = signed_by("/k", &json!({"type": "matchRepository"}));
    let message = pull(&place, &signed, &fixture()).unwrap();
    assert!(message.contains("signatures are only read from registries"), "{message}");
}
