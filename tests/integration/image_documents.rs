//! Documents as people and programs really write them (rules D1 to D4): what every engine reads is read, and means what
//! it means to them.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, not their helpers")]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use crate::images::*;
use crate::place::Place;
use layflat::core::chain::Chain;
use layflat::core::digest::{Algorithm, Digest};
use layflat::image::Image;
use layflat::transport::source::{self, OpenOptions, SourceError};
use serde_json::{Value, json};

const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";

/// What these tests need of a place.
trait Documents {
    /// Writes a file, and gives its path as text.
    fn file(&self, name: &str, bytes: &[u8]) -> String;
    /// Writes a layout, and gives the reference.
    fn layout(&self, layout: &Layout) -> String;
    /// What layflat prints, on both outputs; whether it ends well.
    fn ran(&self, arguments: &[&str]) -> (bool, String);
    /// The names in the flat tree, and what was said.
    fn flat(&self, arguments: &[&str]) -> (Vec<String>, String);
}

impl Documents for Place {
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        self.write(name, bytes).display().to_string()
    }

    fn layout(&self, layout: &Layout) -> String {
        let directory = self.path("layout");
        let _ = fs::remove_dir_all(&directory);
        layout.write(&directory);
        format!("oci:{}", directory.display())
    }

    fn ran(&self, arguments: &[&str]) -> (bool, String) {
        run(&mut self.layflat(arguments))
    }

    #[track_caller]
    fn flat(&self, arguments: &[&str]) -> (Vec<String>, String) {
        let root = self.path("root");
        let _ = fs::remove_dir_all(&root);
        let (well, said) = self.ran(&[&["flatten"], arguments, &[root.to_str().unwrap()]].concat());
        assert!(well, "{said}");
        let mut names: Vec<_> =
            fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        (names, said)
    }
}

fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn open(reference: &str) -> Image {
    source::open(&reference.parse().unwrap(), &OpenOptions::default()).unwrap()
}

fn try_open_for(reference: &str, platform: &str) -> Result<Image, SourceError> {
    let platform = Some(platform.parse().unwrap());
    source::open(&reference.parse().unwrap(), &OpenOptions { platform, ..OpenOptions::default() })
}

fn notices(image: &Image) -> String {
    image.notices.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The same document with all its keys in capitals.
fn capitals(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.to_uppercase(), capitals(value))).collect(),
        Value::Array(list) => list.iter().map(capitals).collect(),
        other => other.clone(),
    }
}

#[test]
fn d1_every_document_is_read_however_its_keys_are_written() {
    let place = Place::new();
    let a = layer("a");
    let config = capitals(&json!({"os": "linux", "architecture": "amd64", "config": {"User": "7"},
        "rootfs": {"type": "layers", "diff_ids": [digest(&a)]}}));
    let config = serde_json::to_vec(&config).unwrap();
    let mut layout = Layout::default();
    let (described, layer) = (layout.blob(CONFIG, &config), layout.blob(LAYER, &a));
    let manifest = json!({"schemaVersion": 2, "config": described, "layers": [layer]});
    let manifest = layout.document(MANIFEST, &capitals(&manifest));
    let reference = place.layout(&layout);
    let index = capitals(&json!({"schemaVersion": 2, "manifests": [manifest]}));
    fs::write(place.path("layout/index.json"), index.to_string()).unwrap();
    fs::write(place.path("layout/oci-layout"), r#"{"IMAGELAYOUTVERSION":"1.0.0"}"#).unwrap();
    let saved = json!([{"config": "c", "REPOTAGS": ["a:1"], "layers": ["l"]}]).to_string();
    let saved = place.file("saved.tar", &archive(&[("manifest.json", saved.as_bytes()), ("c", &config), ("l", &a)]));
    for reference in [reference, saved] {
        let image = open(&reference);
        assert_eq!(image.config.as_ref().unwrap().parsed.config.user, "7");
        assert_eq!((image.layers.len(), notices(&image)), (1, String::new()));
        assert_eq!(place.flat(&[&reference]).0, ["a"]);
    }
}

#[test]
fn d1_a_byte_order_mark_is_called_by_its_name() {
    let place = Place::new();
    let (a, items) = (layer("a"), r#"[{"Config":"c","Layers":["l"]}]"#);
    let utf_16: Vec<u8> = [0xfeff].into_iter().chain(items.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    for text in [format!("\u{feff}{items}").into_bytes(), utf_16] {
        let saved = place.file("saved.tar", &archive(&[("manifest.json", &text), ("c", &config(&[&a])), ("l", &a)]));
        let (well, said) = place.ran(&["ls", &saved]);
        assert!(!well && said.contains("manifest.json: it begins with a byte order mark"), "{said}");
    }
}

/// An archive that begins with a file whose map of holes cannot be.
#[test]
fn what_is_wrong_with_the_first_file_of_an_archive_is_said() {
    let place = Place::new();
    let mut bytes = archive(&[("a", b"")]);
    bytes[156] = b'S';
    bytes[386..398].copy_from_slice(b"0000000abcd\0");
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes[..512].iter().map(|&byte| u32::from(byte)).sum();
    bytes[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let (well, said) = place.ran(&["ls", &format!("docker-archive:{}", place.file("bad.tar", &bytes))]);
    assert!(!well && said.contains("abcd"), "{said}");
}

#[test]
fn d1_what_is_copied_keeps_what_layflat_does_not_know() {
    let place = Place::new();
    let a = layer("a");
    let config = format!(
        r#"{{"x-first":1.50,"ROOTFS":{{"type":"layers","diff_ids":["{}"]}},"x-big":12345678901234567890123,"os":"linux"}}"#,
        digest(&a)
    );
    let mut layout = Layout::default();
    let image = layout.image_of(config.as_bytes(), &[(LAYER, a)]);
    let reference = place.layout(&layout.list(image));
    let copy = format!("oci:{}", place.path("copy").display());
    let (well, said) = place.ran(&["copy", "--exclude", "/none", "--normalize-timestamps=0", &reference, &copy]);
    assert!(well, "{said}");
    let bytes = String::from_utf8(open(&copy).config.unwrap().bytes).unwrap();
    assert!(bytes.starts_with(r#"{"x-first":1.50,"rootfs":{"#), "{bytes}");
    assert!(bytes.ends_with(r#","x-big":12345678901234567890123,"os":"linux"}"#), "{bytes}");
}

#[test]
fn d1_a_configuration_that_states_nothing_is_taken() {
    let place = Place::new();
    for config in ["{}", "null", r#"{"architecture":null,"os":null,"config":null,"rootfs":{"diff_ids":null}}"#] {
        let mut layout = Layout::default();
        let image = layout.image_of(config.as_bytes(), &[(LAYER, layer("a"))]);
        let reference = place.layout(&layout.list(image));
        let (names, said) = place.flat(&["--platform", "linux/arm64", &reference]);
        assert_eq!(names, ["a"]);
        assert!(said.contains("states no diff_ids"), "{said}");
        let (well, said) = place.ran(&["check", &reference]);
        assert!(well && said.contains("states no diff_ids"), "{said}");
        // A copy to where DiffIDs are all there is states them.
        let saved = place.path("saved.tar");
        let _ = fs::remove_file(&saved);
        let (well, said) = place.ran(&["copy", &reference, &format!("docker-archive:{}:a:1", saved.display())]);
        assert!(well, "{said}");
        assert_eq!(place.flat(&[saved.to_str().unwrap()]).0, ["a"]);
    }
}

#[test]
fn d2_names_in_an_archive_are_no_statements_and_diffids_are() {
    let place = Place::new();
    let (a, b) = (layer("a"), layer("b"));
    for name in [format!("{}.json", "0".repeat(64)), format!("blobs/sha256/{}", "0".repeat(64))] {
        let manifest = json!([{"Config": name, "RepoTags": null, "Layers": ["l"]}]).to_string();
        let files = [("manifest.json", manifest.as_bytes()), (&name, &config(&[&a])), ("l", &a)];
        let saved = place.file("saved.tar", &archive(&files));
        let (names, said) = place.flat(&[&saved]);
        assert_eq!(names, ["a"]);
        assert!(said.contains(&name) && said.contains("a digest that is not its own"), "{said}");
        let (well, said) = place.ran(&["check", &saved]);
        assert!(well && said.contains("file-name") && said.contains(&name), "{said}");
    }
    // The same of a layer, whose DiffID is right; and then wrong.
    let name = format!("blobs/sha256/{}", hex(b"other"));
    let manifest = json!([{"Config": "c", "RepoTags": null, "Layers": [name]}]).to_string();
    let files = |config: Vec<u8>| {
        archive(&[("manifest.json", manifest.clone().into_bytes()), ("c", config), (&*name, a.clone())])
    };
    let saved = place.file("saved.tar", &files(config(&[&a])));
    let (names, said) = place.flat(&[&saved]);
    assert_eq!(names, ["a"]);
    assert!(said.contains(&hex(b"other")), "{said}");
    assert!(place.ran(&["check", &saved]).1.contains("file-name"));
    let saved = place.file("saved.tar", &files(config(&[&b])));
    let (well, said) = place.ran(&["flatten", &saved, place.path("none").to_str().unwrap()]);
    assert!(!well && said.contains("the configuration states diff_id"), "{said}");
}

/// Two images without platforms in their descriptors; where they are listed, and the wanted one's place.
#[test]
fn d2_a_descriptor_without_a_platform_has_that_of_its_configuration() {
    let place = Place::new();
    let bare = |layout: &mut Layout, platform: &str| {
        let mut image = layout.image_for(platform);
        image["platform"] = json!({"os": null, "architecture": ""});
        tagged(image, "t")
    };
    for order in [["linux/amd64", "linux/arm64"], ["linux/arm64", "linux/amd64"]] {
        let mut layout = Layout::default();
        let images = order.map(|platform| bare(&mut layout, platform));
        let mut nested = layout.clone();
        let index = nested.document(INDEX, &json!({"schemaVersion": 2, "manifests": images}));
        let flat = images.into_iter().fold(layout, Layout::list);
        for layout in [flat, nested.list(tagged(index, "t"))] {
            let reference = format!("{}:t", place.layout(&layout));
            for platform in order {
                let image = try_open_for(&reference, platform).unwrap();
                assert_eq!(image.config.unwrap().platform().to_string(), platform);
            }
            let error = try_open_for(&reference, "linux/s390x").map_err(|error| Chain(&error).to_string()).unwrap_err();
            assert!(error.contains("linux/amd64") && error.contains("linux/arm64"), "{error}");
        }
    }
    // One of them says it: it need not be asked for, nor be whole, to have the other.
    let mut layout = Layout::default();
    let (one, stated) = (bare(&mut layout, "linux/amd64"), layout.image_for("linux/arm64"));
    let reference = place.layout(&layout.list(one).list(tagged(stated, "t")));
    for platform in ["linux/amd64", "linux/arm64"] {
        let image = try_open_for(&reference, platform).unwrap();
        assert_eq!(image.config.unwrap().platform().to_string(), platform);
    }
}

#[test]
fn d2_images_of_one_name_and_platform_are_told_apart_by_their_digests() {
    let place = Place::new();
    let (a, b) = (layer("a"), layer("b"));
    let mut layout = Layout::default();
    let [one, two] = [&a, &b].map(|layer| layout.image(&[layer]));
    let reference = place.layout(&layout.list(tagged(one.clone(), "t")).list(tagged(two.clone(), "t")));
    let error =
        try_open_for(&format!("{reference}:t"), "linux/amd64").map_err(|error| Chain(&error).to_string()).unwrap_err();
    let digests = [one, two].map(|image| format!("@{}", image["digest"].as_str().unwrap()));
    assert_eq!(error, format!("there are 2 images, specify one of: {}", digests.join(", ")));
    for (digest, name) in digests.iter().zip(["a", "b"]) {
        assert_eq!(place.flat(&[&format!("{reference}:{digest}")]).0, [name]);
    }
}

#[test]
fn d2_all_tags_says_which_images_it_leaves() {
    let place = Place::new();
    let mut layout = Layout::default();
    let [one, two] = ["linux/amd64", "linux/arm64"].map(|platform| {
        let mut image = layout.image_for(platform);
        image.as_object_mut().unwrap().remove("platform");
        tagged(image, "t")
    });
    let reference = place.layout(&layout.list(one).list(two.clone()));
    let copy = format!("oci:{}", place.path("copy").display());
    let (well, said) = place.ran(&["copy", "--all-tags", "--platform", "linux/amd64", &reference, &copy]);
    assert!(well && said.contains(&format!("@{}", two["digest"].as_str().unwrap())), "{said}");
    let (well, said) = place.ran(&["copy", "--all-tags", "--all-platforms", &reference, &copy]);
    assert!(well && !said.contains("left out"), "{said}");
    for platform in ["linux/amd64", "linux/arm64"] {
        try_open_for(&format!("{copy}:t"), platform).unwrap();
    }
}

#[test]
fn d2_all_tags_takes_all_images_of_a_name() {
    let place = Place::new();
    let (a, b) = (layer("a"), layer("b"));
    let mut layout = Layout::default();
    let [one, two] = [&a, &b].map(|layer| tagged(layout.image(&[layer]), "t"));
    let layout = place.layout(&layout.list(one).list(two.clone()));
    let [cs, ct] = [&a, &b].map(|layer| config(&[layer]));
    let items = json!([{"Config": "c", "RepoTags": ["x:t"], "Layers": ["l"]}, {"Config": "d", "RepoTags": ["x:t"], "Layers": ["m"]}]);
    let items = items.to_string();
    let saved = archive(&[("manifest.json", items.as_bytes()), ("c", &cs), ("l", &a), ("d", &ct), ("m", &b)]);
    let saved = place.file("saved.tar", &saved);
    let (well, said) = place.ran(&["ls", &saved]);
    assert!(!well && said.contains("@0, @1"), "{said}");
    for (from, name, to) in [(&layout, "t", "one"), (&saved, "x:t", "two")] {
        let copy = format!("oci:{}", place.path(to).display());
        let (well, said) = place.ran(&["copy", "--all-tags", from, &copy]);
        assert!(well && said.contains("is taken without it"), "{said}");
        assert_eq!(place.flat(&[&format!("{copy}:{name}")]).0, ["a"]);
        let (_, error) = place.ran(&["ls", &copy]);
        let last = error.rsplit("@sha256:").next().unwrap().trim();
        assert_eq!(place.flat(&[&format!("{copy}@sha256:{last}")]).0, ["b"], "{error}");
    }
}

/// A layout by SHA-512 from its manifest down to its DiffIDs.
fn by_sha512(layer: &[u8]) -> (Layout, Value) {
    let long = |bytes: &[u8]| Digest::of(Algorithm::Sha512, bytes);
    let mut layout = Layout::default();
    let mut keep = |media_type: &str, bytes: Vec<u8>| {
        let (digest, size) = (long(&bytes), bytes.len());
        layout.files.push((format!("blobs/sha512/{}", digest.hex()), bytes));
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": size})
    };
    let config = keep(CONFIG, config_for("linux/amd64", json!([long(layer).to_string()])));
    let layer = keep(&format!("{LAYER}+gzip"), gzip(layer));
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let manifest = keep(MANIFEST, manifest.to_string().into_bytes());
    (layout, manifest)
}

#[test]
fn d3_sha512_is_as_good_as_sha256() {
    let place = Place::new();
    let a = layer("a");
    let (layout, manifest) = by_sha512(&a);
    let reference = place.layout(&layout.list(tagged(manifest.clone(), "t")));
    let (well, said) = place.ran(&["check", &reference]);
    assert!(well && said.contains(": 0 errors"), "{said}");
    let image = open(&reference);
    assert_eq!(image.config.as_ref().unwrap().digest.algorithm(), Algorithm::Sha512);
    let to = |transport: &str, name: &str, rest: &str| format!("{transport}{}{rest}", place.path(name).display());
    let copies = [
        (to("oci:", "copy", ":t"), to("oci:", "copy", "")),
        (to("oci-archive:", "copy.tar", ":t"), to("oci-archive:", "copy.tar", "")),
        (to("docker-archive:", "saved.tar", ":a:1"), to("", "saved.tar", "")),
        (to("dir:", "dir", ""), to("dir:", "dir", "")),
    ];
    for (target, copy) in copies {
        let (well, said) = place.ran(&["copy", &reference, &target]);
        assert!(well, "{target}: {said}");
        let copied = open(&copy);
        assert_eq!(copied.config.unwrap().bytes, image.config.as_ref().unwrap().bytes, "{copy}");
        assert_eq!(copied.layers[0].diff_id, image.layers[0].diff_id);
        assert_eq!(place.flat(&[&copy]).0, ["a"]);
        // Again: what is there is found.
        let (well, said) = place.ran(&["copy", &reference, &target]);
        assert!(well, "{target}: {said}");
    }
    assert_eq!(open(&to("oci:", "copy", "")).manifest_digest().unwrap().to_string(), manifest["digest"]);
    // Names of more than 100 bytes, as everyone reads them.
    let (well, listed) = run(Command::new("tar").arg("tf").arg(place.path("saved.tar")));
    assert!(well && listed.contains(&format!("{}/layer.tar", Digest::of(Algorithm::Sha512, &a).hex())), "{listed}");
}

#[test]
fn d4_a_layout_that_is_not_marked_as_one_is_read_and_added_to() {
    let place = Place::new();
    let mut layout = Layout::default();
    let image = layout.image(&[&layer("a")]);
    let layout = layout.list(tagged(image, "t"));
    for marker in [None, Some(""), Some("\n"), Some("{}"), Some("junk")] {
        let reference = place.layout(&layout);
        match marker {
            None => fs::remove_file(place.path("layout/oci-layout")).unwrap(),
            Some(text) => fs::write(place.path("layout/oci-layout"), text).unwrap(),
        }
        let (names, said) = place.flat(&[&reference]);
        assert_eq!(names, ["a"]);
        assert!(said.contains("note: the file oci-layout"), "{said}");
        let (well, said) = place.ran(&["check", &reference]);
        assert!(well && said.contains("the file oci-layout"), "{said}");
        let files: Vec<_> = fs::read_dir(place.path("layout")).unwrap().map(|entry| entry.unwrap().path()).collect();
        let packed = place.path("packed.tar");
        let _ = fs::remove_file(&packed);
        let names = files.iter().map(|path| path.file_name().unwrap());
        assert!(run(Command::new("tar").arg("cf").arg(&packed).arg("-C").arg(place.path("layout")).args(names)).0);
        for added in [format!("{reference}:new"), format!("oci-archive:{}:new", packed.display())] {
            let (well, said) = place.ran(&["copy", &format!("{reference}:t"), &added]);
            assert!(well, "{added}: {said}");
            open(&added);
        }
    }
    let reference = place.layout(&layout);
    fs::write(place.path("layout/oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert!(place.ran(&["ls", &reference]).1.contains("has the layout version \"2.0.0\""));
}

#[test]
fn d4_media_types_that_say_nothing_are_no_reason_to_refuse() {
    let place = Place::new();
    let a = layer("a");
    for said in ["application/octet-stream", "", "text/plain"] {
        let mut layout = Layout::default();
        let (config, layer) = (layout.blob(said, &config(&[&a])), layout.blob(said, &gzip(&a)));
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        let manifest = layout.document(said, &manifest);
        let reference = place.layout(&layout.list(manifest));
        let (names, notes) = place.flat(&[&reference]);
        assert_eq!(names, ["a"]);
        assert_eq!(notes.matches("its content shows what it is").count(), 2, "{notes}");
    }
    // What is not a configuration is not taken for one.
    let mut layout = Layout::default();
    let config = layout.blob("application/octet-stream", b"{\"x\":1}");
    let manifest = layout.document(MANIFEST, &json!({"schemaVersion": 2, "config": config, "layers": []}));
    let reference = place.layout(&layout.list(manifest));
    assert!(place.ran(&["ls", &reference]).1.contains("is an artifact (application/octet-stream), not an image"));
}

/// Words that say nothing of a layer are no layer's where the manifest says that it is of something else.
#[test]
fn d4_an_artifact_is_no_image_whatever_its_configuration_is_called() {
    let place = Place::new();
    let artifact = || {
        let mut layout = Layout::default();
        let (config, blob) = (layout.blob(CONFIG, b"{}"), layout.blob("text/plain", b"words"));
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "ArtifactType": "text/x-words",
            "config": config, "layers": [blob]});
        let artifact = layout.document(MANIFEST, &manifest);
        (layout, artifact)
    };
    let (layout, alone) = artifact();
    let alone = place.layout(&layout.list(alone));
    assert!(place.ran(&["ls", &alone]).1.contains("is an artifact (text/x-words), not an image"));
    // Beside an image it is in nobody's way.
    let (mut layout, beside) = artifact();
    let listed = [beside, layout.image(&[&layer("a")])];
    let index = layout.document(INDEX, &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}));
    let both = place.layout(&layout.list(index));
    for platform in [&[][..], &["--platform", "linux/amd64"]] {
        assert_eq!(place.flat(&[platform, &[both.as_str()]].concat()).0, ["a"]);
    }
    let message = place.ran(&["ls", "--platform", "linux/s390x", &both]).1;
    assert!(message.contains("there is no image for linux/s390x; available: linux/amd64"), "{message}");
}

#[test]
fn d4_a_nondistributable_layer_that_is_there_is_a_layer() {
    let place = Place::new();
    let (a, b) = (layer("a"), layer("b"));
    let mut layout = Layout::default();
    let image = layout.image_of(&config(&[&a, &b]), &[(FOREIGN, a.clone()), (LAYER, b.clone())]);
    let reference = place.layout(&layout.list(image));
    let (names, said) = place.flat(&[&reference]);
    assert_eq!(names, ["a", "b"]);
    assert!(said.contains(&format!("layer {} is marked as non-distributable", digest(&a))), "{said}");
    // One that is not there is called what it is, with where it can be had.
    let mut layout = Layout::default();
    let config = layout.blob(CONFIG, &config(&[&a]));
    let mut gone = descriptor(FOREIGN, &a);
    gone["urls"] = json!(["https://vendor.example/layer"]);
    let manifest = layout.document(MANIFEST, &json!({"schemaVersion": 2, "config": config, "layers": [gone]}));
    let reference = place.layout(&layout.list(manifest));
    let (well, said) = place.ran(&["flatten", &reference, place.path("none").to_str().unwrap()]);
    assert!(!well && said.contains("non-distributable") && said.contains("https://vendor.example/layer"), "{said}");
}

/// People unpack an image archive and pack it again with `tar -S`.
#[test]
fn sparse_files_of_an_archive_are_read() {
    let place = Place::new();
    let zeros = Tar::new().file("zeros", vec![0; 300_000]).file("a", "a").file("more", vec![0; 100_000]).done();
    let saved = json!([{"Config": "c", "RepoTags": null, "Layers": ["l"]}]).to_string();
    let unpacked = place.path("unpacked");
    fs::create_dir(&unpacked).unwrap();
    for (name, bytes) in [("manifest.json", saved.into_bytes()), ("c", config(&[&zeros])), ("l", zeros.clone())] {
        write_sparse(&unpacked.join(name), &bytes);
    }
    let mut layout = Layout::default();
    let image = layout.image(&[&zeros]);
    place.layout(&layout.list(image));
    write_sparse(&place.path("layout").join(format!("blobs/sha256/{}", hex(&zeros))), &zeros);
    let formats: [&[&str]; 4] = [
        &["--format=gnu"],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ];
    for format in formats {
        for directory in [&unpacked, &place.path("layout")] {
            let packed = place.path("packed.tar");
            let mut tar = Command::new("tar");
            tar.arg("cSf").arg(&packed).args(["--hole-detection=raw"]).args(format).arg("-C").arg(directory).arg(".");
            assert!(run(&mut tar).0);
            assert!(fs::metadata(&packed).unwrap().len() < 100_000, "{format:?}: it is not sparse");
            assert_eq!(place.flat(&[packed.to_str().unwrap()]).0, ["a", "more", "zeros"], "{format:?}");
        }
    }
}

/// Writes what is not zero.
fn write_sparse(path: &Path, bytes: &[u8]) {
    const BLOCK: usize = 4096;
    let file = fs::File::create(path).unwrap();
    for (index, block) in bytes.chunks(BLOCK).enumerate().filter(|(_, block)| block.iter().any(|&byte| byte != 0)) {
        file.write_all_at(block, (index * BLOCK) as u64).unwrap();
    }
    file.set_len(bytes.len() as u64).unwrap();
}
