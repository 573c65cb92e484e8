//! Images in every shape that is found in the wild, made by hand and by the tools that write them, and what is said of
//! those that cannot be read.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, not their helpers")]

use std::fs;

use crate::images::*;
use crate::place::Place;
use layflat::blob::{Compression, LayerFacts, Pace};
use layflat::core::chain::Chain;
use layflat::core::reference::Reference;
use layflat::image::Image;
use layflat::transport::source::{self, OpenOptions, SourceError};
use layflat::{Limits, NoProgress, Options};
use serde_json::json;

/// `transport:PATH` and what follows.
fn at(place: &Place, transport: &str, name: &str, rest: &str) -> String {
    format!("{transport}{}{rest}", place.path(name).display())
}

fn try_open(reference: &str) -> Result<Image, SourceError> {
    try_open_for(reference, None)
}

fn try_open_for(reference: &str, platform: Option<&str>) -> Result<Image, SourceError> {
    let platform = platform.map(|platform| platform.parse().unwrap());
    source::open(&reference.parse().unwrap(), &OpenOptions { platform, ..OpenOptions::default() })
}

/// What is said when an image cannot be opened, without the directory that it is in.
fn refused(place: &Place, reference: &str) -> String {
    refused_for(place, reference, None)
}

fn refused_for(place: &Place, reference: &str, platform: Option<&str>) -> String {
    let error = try_open_for(reference, platform).map_err(|error| Chain(&error).to_string()).unwrap_err();
    assert!(!error.contains('\n'), "{error}");
    error.replace(&format!("{}/", place.directory().display()), "")
}

/// All layers, read to their last byte, and what they turned out to be.
fn facts(image: &Image) -> Vec<LayerFacts> {
    let read = |layer: &layflat::image::Layer| {
        layer.blob.open_layer(&Limits::default(), Pace::OnDemand).unwrap().finish().unwrap()
    };
    image.layers.iter().map(read).collect()
}

/// An image opens, and its layers are these, uncompressed.
#[track_caller]
fn expect(reference: &str, layers: &[&[u8]]) -> Image {
    expect_for(reference, None, layers)
}

#[track_caller]
fn expect_for(reference: &str, platform: Option<&str>, layers: &[&[u8]]) -> Image {
    let image = try_open_for(reference, platform).unwrap();
    let found: Vec<String> = facts(&image).into_iter().map(|facts| facts.diff_id.to_string()).collect();
    let expected: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    assert_eq!(found, expected, "{reference}");
    let stated: Vec<String> = image.layers.iter().map(|layer| layer.diff_id.as_ref().unwrap().to_string()).collect();
    assert_eq!(stated, expected, "{reference}");
    image
}

fn manifest_json(config: &str, tags: &[&str], layers: &[&str]) -> Vec<u8> {
    serde_json::to_vec(&json!([{"Config": config, "RepoTags": tags, "Layers": layers}])).unwrap()
}

// Docker archives.

/// Up to Docker 24 a layer that an archive holds already is a symlink to where it is.
#[test]
fn docker_24_archives_have_symlinked_and_doubled_layers() {
    let place = Place::new();
    let (a, b) = (layer("a"), layer("b"));
    let config = config(&[&a, &b, &a, &b]);
    let name = format!("{}.json", hex(&config));
    let layers = ["1/layer.tar", "2/layer.tar", "3/layer.tar", "2/layer.tar"];
    let tar = Tar::new()
        .directory("1/")
        .file("1/VERSION", "1.0")
        .file("1/json", "{}")
        // The link stands before what it leads to, too.
        .symlink("3/layer.tar", "../1/layer.tar")
        .file("1/layer.tar", &a)
        .file("2/layer.tar", &b)
        .file(&name, &config)
        .file("manifest.json", manifest_json(&name, &["demo:1"], &layers))
        .file("repositories", r#"{"demo":{"1":"3"}}"#)
        .done();
    place.write("image.tar", &tar);
    for reference in ["", "docker-archive:"] {
        let image = expect(&at(&place, reference, "image.tar", ""), &[&a, &b, &a, &b]);
        assert_eq!(image.name.as_deref(), Some("demo:1"));
        assert_eq!(image.manifest_digest(), None);
        assert_eq!(image.config.unwrap().digest.to_string(), digest(&config));
    }
}

/// From Docker 25 on an archive is an OCI layout as well.
#[test]
fn docker_25_archives_are_read_either_way() {
    let place = Place::new();
    let (a, b) = (layer("a"), layer("b"));
    let mut layout = Layout::default();
    let mut manifest = layout.image(&[&a, &b]);
    manifest["annotations"] = json!({"io.containerd.image.name": "docker.io/library/demo:1", REF_NAME: "1"});
    let manifest_digest = manifest["digest"].as_str().unwrap().to_owned();
    let mut files = layout.list(manifest).all_files();
    let config = config(&[&a, &b]);
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", hex(bytes));
    files.push(("manifest.json".to_owned(), manifest_json(&blob(&config), &["demo:1"], &[&blob(&a), &blob(&b)])));
    files.push(("repositories".to_owned(), b"{}".to_vec()));
    place.write("image.tar", archive(&files));

    expect(&at(&place, "", "image.tar", ""), &[&a, &b]);
    for name in ["demo:1", "library/demo:1", "docker.io/library/demo:1", "@0"] {
        let image = expect(&at(&place, "docker-archive:", "image.tar", &format!(":{name}")), &[&a, &b]);
        assert_eq!(image.name.as_deref(), Some("demo:1"));
    }
    for tag in [
        ":1",
        ":demo:1",
        ":docker.io/library/demo:1",
        "",
        &format!("@{manifest_digest}"),
        &format!(":@{manifest_digest}"),
    ] {
        let image = expect(&at(&place, "oci-archive:", "image.tar", tag), &[&a, &b]);
        assert_eq!(image.manifest_digest().unwrap().to_string(), manifest_digest, "{tag}");
    }
}

#[test]
fn podman_archives_name_layers_at_the_top() {
    let place = Place::new();
    let (a, b) = (layer("a"), layer("b"));
    place.write("image.tar", podman_archive(&[(&["localhost/demo:latest"], &[&a, &b, &a])]));
    let image = expect(&at(&place, "", "image.tar", ""), &[&a, &b, &a]);
    assert_eq!(image.name.as_deref(), Some("localhost/demo:latest"));
}

/// kaniko's (go-containerregistry's) layers are compressed, and named after what is stored.
#[test]
fn kaniko_archives_have_compressed_layers() {
    let place = Place::new();
    let (a, config) = (layer("a"), config(&[&layer("a")]));
    let stored = gzip(&a);
    let (name, layer) = (digest(&config), format!("{}.tar.gz", hex(&stored)));
    let manifest = manifest_json(&name, &["demo:1"], &[&layer]);
    place.write("image.tar", archive(&[(&*name, &config), (&layer, &stored), ("manifest.json", &manifest)]));
    let image = expect(&at(&place, "", "image.tar", ""), &[&a]);
    let facts = facts(&image);
    assert_eq!((facts[0].compression, facts[0].digest.to_string()), (Compression::Gzip, digest(&stored)));
}

#[test]
fn one_of_several_images_is_picked_by_name() {
    let place = Place::new();
    let (a, b, c) = (layer("a"), layer("b"), layer("c"));
    let tags: (&[&str], &[&str], &[&str]) = (&["demo:1", "demo:latest"], &["quay.io/other:2"], &[]);
    place.write("image.tar", podman_archive(&[(tags.0, &[&a]), (tags.1, &[&a, &b]), (tags.2, &[&c])]));
    let names = "demo:1 = demo:latest, quay.io/other:2, @2";
    for reference in ["", "docker-archive:"] {
        let error = refused(&place, &at(&place, reference, "image.tar", ""));
        assert_eq!(error, format!("there are 3 images, specify one of: {names}"));
    }
    let named = |name: &str| at(&place, "docker-archive:", "image.tar", &format!(":{name}"));
    expect(&named("demo:1"), &[&a]);
    expect(&named("demo"), &[&a]);
    expect(&named("quay.io/other:2"), &[&a, &b]);
    expect(&named("@2"), &[&c]);
    assert_eq!(refused(&place, &named("nope")), format!("there is no image \"nope\"; available: {names}"));
    assert_eq!(refused(&place, &named("@3")), format!("there is no image \"@3\"; available: {names}"));
}

/// Repacked with `tar -cf image.tar .`: every name begins with `./`.
#[test]
fn names_in_an_archive_may_begin_with_a_dot() {
    let place = Place::new();
    let (a, config) = (layer("a"), config(&[&layer("a")]));
    let manifest = manifest_json("config.json", &["demo:1"], &["./a.tar"]);
    let tar = Tar::new()
        .directory("./")
        .file("./config.json", config)
        .file("./a.tar", &a)
        .file("./manifest.json", manifest)
        .done();
    place.write("image.tar", &tar);
    expect(&at(&place, "", "image.tar", ""), &[&a]);
}

#[test]
fn a_whole_file_may_be_compressed() {
    let place = Place::new();
    let a = layer("a");
    let docker = podman_archive(&[(&["demo:1"], &[&a])]);
    let mut layout = Layout::default();
    let image = layout.image(&[&a]);
    let oci = layout.list(image).tar();
    for (name, compress) in [("gz", gzip as fn(&[u8]) -> Vec<u8>), ("zst", zstd), ("xz", xz), ("bz2", bzip2)] {
        place.write(name, halves(&docker, compress));
        expect(&at(&place, "", name, ""), &[&a]);
        expect(&at(&place, "docker-archive:", name, ":demo:1"), &[&a]);
        place.write(name, compress(&oci));
        expect(&at(&place, "", name, ""), &[&a]);
        expect(&at(&place, "oci-archive:", name, ""), &[&a]);
        // bsdtar pads what it writes to a pipe (rule D3).
        place.write(name, [compress(&docker), vec![0; 10_240]].concat());
        expect(&at(&place, "", name, ""), &[&a]);
        place.write(name, [&compress(&docker)[..], &[0; 10], b"garbage"].concat());
        let error = refused(&place, &at(&place, "", name, ""));
        assert!(error.contains("trailing data at byte"), "{error}");
        // What is cut off is noticed.
        let whole = compress(&oci);
        place.write(name, &whole[..whole.len() - 5]);
        try_open(&at(&place, "", name, "")).unwrap_err();
    }
}

// Compression by content.

#[test]
fn layers_are_decompressed_by_what_they_are() {
    let place = Place::new();
    let plain = Tar::new().file("a", vec![b'x'; 70_000]).done();
    let with_skippable = |bytes: &[u8]| {
        let (one, two) = bytes.split_at(700);
        [skippable(b"first"), zstd(one), skippable(b""), zstd(two), skippable(&[7; 4000])].concat()
    };
    let pixz = |bytes: &[u8]| [halves(bytes, xz), vec![0; 8]].concat();
    let cases = [
        (plain.clone(), Compression::None),
        (gzip(&plain), Compression::Gzip),
        (halves(&plain, gzip), Compression::Gzip),
        ([gzip(b""), gzip(&plain), gzip(b"")].concat(), Compression::Gzip),
        (zstd(&plain), Compression::Zstd),
        (halves(&plain, zstd), Compression::Zstd),
        (with_skippable(&plain), Compression::Zstd),
        (xz(&plain), Compression::Xz),
        (halves(&plain, xz), Compression::Xz),
        (pixz(&plain), Compression::Xz),
        (bzip2(&plain), Compression::Bzip2),
        (halves(&plain, bzip2), Compression::Bzip2),
        ([bzip2(b""), bzip2(&plain)].concat(), Compression::Bzip2),
    ];
    for (stored, compression) in cases {
        for media_type in [LAYER, &format!("{LAYER}+gzip"), &format!("{LAYER}+zstd")] {
            let mut layout = Layout::default();
            let image = layout.image_of(&config(&[&plain]), &[(media_type, stored.clone())]);
            place.write("image.tar", layout.list(image).tar());
            let image = expect(&at(&place, "", "image.tar", ""), &[&plain]);
            let facts = facts(&image).remove(0);
            assert_eq!(facts.compression, compression);
            assert_eq!((facts.size, facts.expanded), (stored.len() as u64, plain.len() as u64));
            assert_eq!(facts.digest.to_string(), digest(&stored));
        }
    }
}

#[test]
fn damaged_compression_is_noticed() {
    let place = Place::new();
    let plain = Tar::new().file("a", vec![b'x'; 70_000]).done();
    for (compress, name) in [(gzip as fn(&[u8]) -> Vec<u8>, "gzip"), (zstd, "zstd"), (xz, "xz"), (bzip2, "bzip2")] {
        let whole = halves(&plain, compress);
        let cut = whole[..whole.len() - 3].to_vec();
        let followed = [&whole[..], b"something else"].concat();
        let turned = {
            let mut turned = whole.clone();
            let middle = turned.len() * 3 / 4;
            turned[middle] ^= 0x55;
            turned
        };
        for (what, stored) in [("cut", cut), ("followed", followed), ("turned", turned)] {
            let path = place.write("layer", &stored);
            let image = try_open(&format!("layers:{}", path.display())).unwrap();
            let error = image.layers[0]
                .blob
                .open_layer(&Limits::default(), Pace::OnDemand)
                .unwrap()
                .finish()
                .map_err(|error| Chain(&error).to_string())
                .unwrap_err();
            let expected = format!("blob without a stated digest: damaged {name} data: ");
            assert!(error.starts_with(&expected), "{name} {what}: {error}");
            match what {
                "cut" => assert!(error.ends_with("it ends too early"), "{error}"),
                "followed" => assert!(error.contains("trailing data at byte"), "{error}"),
                _ => {}
            }
        }
    }
}

/// A zstd frame that is passed over is no reason to look for something else behind it.
#[test]
fn a_skippable_frame_makes_it_zstd() {
    let place = Place::new();
    let path = place.write("layer", [skippable(b"x"), gzip(&layer("a"))].concat());
    let image = try_open(&format!("layers:{}", path.display())).unwrap();
    let error = image.layers[0]
        .blob
        .open_layer(&Limits::default(), Pace::OnDemand)
        .unwrap()
        .finish()
        .map_err(|error| Chain(&error).to_string())
        .unwrap_err();
    assert!(error.contains("damaged zstd data"), "{error}");
}

// OCI layouts.

/// Writes a layout as a directory and as an archive, and gives both references.
fn both(place: &Place, layout: &Layout, rest: &str) -> [String; 2] {
    // Anew: a layout of before would show through.
    let _ = fs::remove_dir_all(place.path("layout"));
    layout.write(&place.path("layout"));
    place.write("layout.tar", layout.tar());
    [at(place, "oci:", "layout", rest), at(place, "oci-archive:", "layout.tar", rest)]
}

#[test]
fn oci_layouts_are_read_from_directories_and_archives() {
    let place = Place::new();
    let (a, b) = (layer("a"), layer("b"));
    let mut layout = Layout::default();
    let manifest = layout.image_of(
        &config(&[&a, &b, &a]),
        &[(LAYER, a.clone()), ("application/vnd.docker.image.rootfs.diff.tar.gzip", gzip(&b)), (LAYER, a.clone())],
    );
    let manifest_digest = manifest["digest"].clone();
    let layout = layout.list(tagged(manifest, "v1"));
    let mut references = both(&place, &layout, "").to_vec();
    references.extend(both(&place, &layout, ":v1"));
    references.extend([at(&place, "", "layout", ""), at(&place, "", "layout.tar", "")]);
    for reference in references {
        let image = expect(&reference, &[&a, &b, &a]);
        assert_eq!(image.name.as_deref(), Some("v1"));
        assert_eq!(image.manifest_digest().unwrap().to_string(), manifest_digest);
    }
}

#[test]
fn one_of_several_oci_images_is_picked_by_name_or_digest() {
    let place = Place::new();
    let (a, b, c) = (layer("a"), layer("b"), layer("c"));
    let mut layout = Layout::default();
    let [one, two, three] = [&a, &b, &c].map(|layer| layout.image(&[layer]));
    let digest = three["digest"].as_str().unwrap().to_owned();
    let layout = layout.list(tagged(one, "v1")).list(tagged(two, "quay.io/other:v2")).list(three);
    for reference in both(&place, &layout, "") {
        let expected = format!("there are 3 images, specify one of: v1, quay.io/other:v2, @{digest}");
        assert_eq!(refused(&place, &reference), expected);
    }
    for (rest, layer) in
        [(":v1", &a), (":quay.io/other:v2", &b), (":v2", &b), (&format!("@{digest}"), &c), (&format!(":@{digest}"), &c)]
    {
        for reference in both(&place, &layout, rest) {
            expect(&reference, &[layer]);
        }
    }
    for reference in both(&place, &layout, ":v3") {
        let expected = format!("there is no image \"v3\"; available: v1, quay.io/other:v2, @{digest}");
        assert_eq!(refused(&place, &reference), expected);
    }
}

/// One image under two names is one image; two images under one tag are two.
#[test]
fn names_and_images_are_told_apart() {
    let place = Place::new();
    let (a, b) = (layer("a"), layer("b"));
    let mut layout = Layout::default();
    let [one, two] = [&a, &b].map(|layer| layout.image(&[layer]));
    let twice = layout.clone().list(tagged(one.clone(), "v1")).list(tagged(one.clone(), "latest"));
    for reference in both(&place, &twice, "") {
        expect(&reference, &[&a]);
    }
    let full = |mut manifest: serde_json::Value, name: &str| {
        manifest["annotations"] = json!({"io.containerd.image.name": name, REF_NAME: "latest"});
        manifest
    };
    let (one, two) = (full(one, "docker.io/library/one:latest"), full(two, "docker.io/library/two:latest"));
    let clash = layout.list(one).list(two);
    for reference in both(&place, &clash, ":latest") {
        let names = "docker.io/library/one:latest, docker.io/library/two:latest";
        assert_eq!(refused(&place, &reference), format!("there are 2 images, specify one of: {names}"));
    }
    for reference in both(&place, &clash, ":two") {
        expect(&reference, &[&b]);
    }
}

#[test]
fn platforms_are_found_in_nested_indexes() {
    let place = Place::new();
    let mut layout = Layout::default();
    let platforms = ["linux/arm64/v8", "linux/arm/v6", "linux/arm/v7", "linux/s390x"];
    let arms: Vec<_> = platforms.iter().map(|platform| layout.image_for(platform)).collect();
    let amd = layout.image_for("linux/amd64");
    // What buildx adds: a statement about the image, in the form of a manifest for an unknown platform.
    let mut attestation = layout.image_of(&config(&[]), &[("application/vnd.in-toto+json", b"{}".to_vec())]);
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let index =
        |manifests: &[serde_json::Value]| json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    let inner = layout.document(INDEX, &index(&arms));
    let docker = "application/vnd.docker.distribution.manifest.list.v2+json";
    let other = layout.document(docker, &json!({"schemaVersion": 2, "mediaType": docker, "manifests": [amd]}));
    let outer = layout.document(INDEX, &index(&[attestation.clone(), inner, other]));
    let layout = layout.list(tagged(outer, "v1")).list(attestation);
    for reference in both(&place, &layout, "") {
        for (asked, found) in [
            ("linux/amd64", "linux-amd64"),
            ("linux/amd64/v3", "linux-amd64"),
            ("linux/arm64", "linux-arm64-v8"),
            ("linux/aarch64/v8", "linux-arm64-v8"),
            ("linux/arm/v7", "linux-arm-v7"),
            ("linux/arm/v6", "linux-arm-v6"),
            ("linux/arm", "linux-arm-v6"),
            ("linux/s390x", "linux-s390x"),
        ] {
            expect_for(&reference, Some(asked), &[&layer(found)]);
        }
        let expected = "there is no image for linux/riscv64; available: linux/arm64/v8, linux/arm/v6, linux/arm/v7, linux/s390x, linux/amd64";
        assert_eq!(refused_for(&place, &reference, Some("linux/riscv64")), expected);
    }
    if cfg!(target_arch = "x86_64") {
        expect(&at(&place, "", "layout", ""), &[&layer("linux-amd64")]);
    }
}

/// The image says what it is for, wherever it is: asked for another platform, none is handed out.
#[test]
fn a_platform_that_is_asked_for_must_be_the_images() {
    let place = Place::new();
    let a = layer("a");
    let config = config_for("linux/ppc64le", json!([digest(&a)]));
    place
        .write("image.tar", archive(&[("c", &config), ("a", &a), ("manifest.json", &manifest_json("c", &[], &["a"]))]));
    let mut layout = Layout::default();
    let image = layout.image_of(&config, &[(LAYER, a.clone())]);
    let layout = layout.list(image);
    let [directory, archive] = both(&place, &layout, "");
    for reference in [at(&place, "", "image.tar", ""), directory, archive] {
        expect(&reference, &[&a]);
        expect_for(&reference, Some("linux/ppc64le"), &[&a]);
        let error = refused_for(&place, &reference, Some("linux/amd64"));
        assert_eq!(error, "there is no image for linux/amd64; available: linux/ppc64le");
    }
    // The only one, though for another machine.
    let mut layout = Layout::default();
    let image = layout.image_for("linux/mips64le");
    for reference in both(&place, &layout.list(image), "") {
        expect(&reference, &[&layer("linux-mips64le")]);
    }
}

/// Docker keeps only one platform's image in manifest.json; the layout beside it has them all.
#[test]
fn another_platform_is_found_in_the_layout_of_a_docker_archive() {
    let place = Place::new();
    let mut layout = Layout::default();
    let (amd, arm) = (layout.image_for("linux/amd64"), layout.image_for("linux/arm64"));
    let index = layout.document(INDEX, &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [amd, arm]}));
    let layer_of = |platform: &str| layer(&platform.replace('/', "-"));
    let config = config_for("linux/amd64", json!([digest(&layer_of("linux/amd64"))]));
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", hex(bytes));
    let mut files = layout.list(tagged(index, "v1")).all_files();
    let manifest = manifest_json(&blob(&config), &["demo:v1"], &[&blob(&layer_of("linux/amd64"))]);
    files.push(("manifest.json".to_owned(), manifest));
    place.write("image.tar", archive(&files));
    for platform in ["linux/amd64", "linux/arm64"] {
        expect_for(&at(&place, "", "image.tar", ""), Some(platform), &[&layer_of(platform)]);
    }
    let error = refused_for(&place, &at(&place, "", "image.tar", ""), Some("linux/s390x"));
    assert_eq!(error, "there is no image for linux/s390x; available: linux/amd64, linux/arm64");
}

#[test]
fn blobs_may_be_embedded_in_their_descriptors() {
    use base64::Engine;
    let place = Place::new();
    let a = layer("a");
    let embedded = |media_type: &str, bytes: &[u8]| {
        let mut descriptor = descriptor(media_type, bytes);
        descriptor["data"] = json!(base64::engine::general_purpose::STANDARD.encode(bytes));
        descriptor
    };
    let manifest =
        json!({"schemaVersion": 2, "config": embedded(CONFIG, &config(&[&a])), "layers": [embedded(LAYER, &a)]});
    let manifest = embedded(MANIFEST, &serde_json::to_vec(&manifest).unwrap());
    for reference in both(&place, &Layout::default().list(manifest.clone()), "") {
        expect(&reference, &[&a]);
    }
    let mut wrong = manifest.clone();
    wrong["data"] = json!("not base64!");
    let digest = manifest["digest"].as_str().unwrap();
    for reference in both(&place, &Layout::default().list(wrong), "") {
        let error = refused(&place, &reference);
        assert!(error.starts_with(&format!("{digest}: the data in its descriptor is not base64: ")), "{error}");
    }
    let mut wrong = manifest.clone();
    wrong["data"] = json!("e30=");
    for reference in both(&place, &Layout::default().list(wrong), "") {
        let error = refused(&place, &reference);
        let size = manifest["size"].clone();
        assert_eq!(error, format!("{digest}: blob {digest}: the image states {size} bytes, there are 2"));
    }
}

/// Digests by SHA-512, of blobs and of what is inside.
#[test]
fn digests_by_sha512_are_checked() {
    use sha2::Digest as _;
    let sha512 =
        |bytes: &[u8]| sha2::Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let place = Place::new();
    let a = layer("a");
    let stored = gzip(&a);
    let mut layout = Layout::default();
    let config = layout.blob(CONFIG, &config_for("linux/amd64", json!([format!("sha512:{}", sha512(&a))])));
    layout.files.push((format!("blobs/sha512/{}", sha512(&stored)), stored.clone()));
    let layer = json!({"mediaType": LAYER, "digest": format!("sha512:{}", sha512(&stored)), "size": stored.len()});
    let manifest = layout.document(MANIFEST, &json!({"schemaVersion": 2, "config": config, "layers": [layer]}));
    for reference in both(&place, &layout.list(manifest), "") {
        let image = try_open(&reference).unwrap();
        let facts = facts(&image).remove(0);
        assert_eq!(facts.digest.to_string(), format!("sha512:{}", sha512(&stored)));
        assert_eq!(Some(facts.diff_id), image.layers[0].diff_id);
        layflat::flatten(&image, &place.path("rootfs"), &Options { replace: true, ..Options::default() }, &NoProgress)
            .unwrap();
    }
}

// What cannot be read, and what is said then.

/// A layout of one image, made by hand from its manifest.
fn refused_manifest(place: &Place, make: impl FnOnce(&mut Layout) -> serde_json::Value) -> (String, String) {
    let mut layout = Layout::default();
    let descriptor = make(&mut layout);
    let digest = descriptor["digest"].as_str().unwrap().to_owned();
    let errors = both(place, &layout.list(descriptor), "").map(|reference| refused(place, &reference));
    let plain = |error: &str| error.replace("layout.tar", "layout");
    assert_eq!(plain(&errors[0]), plain(&errors[1]));
    (digest, errors[0].clone())
}

#[test]
fn manifests_of_something_else_are_named() {
    let place = Place::new();
    let empty = "application/vnd.oci.empty.v1+json";
    let (digest, error) = refused_manifest(&place, |layout| {
        let config = layout.blob(empty, b"{}");
        let kind = "application/vnd.example.sbom";
        let manifest = json!({"schemaVersion": 2, "artifactType": kind, "config": config, "layers": []});
        layout.document(MANIFEST, &manifest)
    });
    assert_eq!(error, format!("{digest} is an artifact (application/vnd.example.sbom), not an image"));

    let helm = "application/vnd.cncf.helm.config.v1+json";
    let (digest, error) = refused_manifest(&place, |layout| {
        let config = layout.blob(helm, b"{}");
        layout.document(MANIFEST, &json!({"schemaVersion": 2, "config": config, "layers": []}))
    });
    assert_eq!(error, format!("{digest} is a Helm chart ({helm}), not an image"));

    let artifact = "application/vnd.oci.artifact.manifest.v1+json";
    let (digest, error) = refused_manifest(&place, |layout| layout.document(artifact, &json!({"blobs": []})));
    assert_eq!(error, format!("{digest} is an artifact, not an image"));

    let (digest, error) = refused_manifest(&place, |layout| layout.document(MANIFEST, &json!({"schemaVersion": 2})));
    assert_eq!(error, format!("{digest}: is a manifest without a configuration, which is not an image"));

    let schema_1 =
        "is a Docker manifest of schema 1, which was given up in 2017: pull the image with an engine and save it again";
    for media_type in [MANIFEST, "application/vnd.docker.distribution.manifest.v1+prettyjws"] {
        let old = json!({"schemaVersion": 1, "name": "demo", "fsLayers": [], "history": []});
        let (digest, error) = refused_manifest(&place, |layout| layout.document(media_type, &old));
        assert_eq!(error, format!("{digest}: {schema_1}"));
    }
}

/// One reader would take it for the one, another for the other (CVE-2021-41190).
#[test]
fn a_document_must_be_what_its_descriptor_says() {
    let place = Place::new();
    let (digest, error) = refused_manifest(&place, |layout| {
        let both = json!({"schemaVersion": 2, "config": descriptor(CONFIG, b"{}"), "layers": [], "manifests": []});
        layout.document(MANIFEST, &both)
    });
    assert_eq!(error, format!("{digest}: is a manifest and an index at once, which is not allowed"));
    let (digest, error) =
        refused_manifest(&place, |layout| layout.document(MANIFEST, &json!({"schemaVersion": 2, "manifests": []})));
    assert_eq!(error, format!("{digest}: is an index, but its descriptor states that it is a manifest"));
    let (digest, error) = refused_manifest(&place, |layout| {
        let mut manifest = layout.image(&[]);
        manifest["mediaType"] = json!(INDEX);
        manifest
    });
    assert_eq!(error, format!("{digest}: is a manifest, but its descriptor states that it is an index"));
    let (digest, error) = refused_manifest(&place, |layout| {
        let config = layout.blob(CONFIG, &config(&[]));
        layout.document(MANIFEST, &json!({"schemaVersion": 2, "mediaType": INDEX, "config": config, "layers": []}))
    });
    assert_eq!(error, format!("{digest}: states that it is {INDEX:?}, which is not an image manifest"));
}

#[test]
fn layers_that_cannot_be_read_are_named() {
    let place = Place::new();
    for (media_type, problem) in [
        (
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "is an encrypted layer; decrypt the image first, for instance with skopeo",
        ),
        (
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "is a non-distributable layer, which only its vendor may distribute, and it is not in the image",
        ),
        (
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "is a non-distributable layer, which only its vendor may distribute, and it is not in the image",
        ),
        (
            "application/vnd.oci.image.layer.v1.tar+lz4",
            "is a layer of the unknown media type \"application/vnd.oci.image.layer.v1.tar+lz4\"",
        ),
    ] {
        // Its blob need not be there: what it is says more.
        let (_, error) = refused_manifest(&place, |layout| {
            let config = layout.blob(CONFIG, &config(&[b"x"]));
            let layers = [descriptor(media_type, b"x")];
            layout.document(MANIFEST, &json!({"schemaVersion": 2, "config": config, "layers": layers}))
        });
        assert_eq!(error, format!("{}: {problem}", digest(b"x")));
    }
}

#[test]
fn indexes_nest_only_so_deep() {
    let place = Place::new();
    let (_, error) = refused_manifest(&place, |layout| {
        let mut descriptor = layout.image(&[]);
        for _ in 0..9 {
            descriptor = layout.document(INDEX, &json!({"schemaVersion": 2, "manifests": [descriptor]}));
        }
        descriptor
    });
    assert_eq!(error, "indexes are nested more than 8 deep");
}

#[test]
fn what_is_no_image_says_what_it_is() {
    let place = Place::new();
    let old = Tar::new().file("repositories", "{}").file("1/layer.tar", layer("a")).done();
    place.write("old.tar", &old);
    place.write("bare.tar", layer("etc/passwd"));
    place.write("text", [b'x'; 600]);
    // One good header, of an empty file, and then no other.
    place.write("damaged.tar", [&archive(&[("manifest.json", "")])[..512], &[b'x'; 512]].concat());
    fs::create_dir(place.path("empty")).unwrap();
    fs::create_dir(place.path("laid")).unwrap();
    place.write("laid/layflat.json", b"{}");
    fs::create_dir(place.path("unpacked")).unwrap();
    place.write("unpacked/manifest.json", b"[]");
    place.write("oci.tar", Layout::default().tar());
    place.write("none.tar", archive(&[("manifest.json", "[]")]));
    place.write("v2.tar", archive(&[("index.json", &b"{}"[..]), ("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#)]));

    let before =
        "was saved by Docker before 1.10 and has no manifest.json: load it into a newer engine and save it again";
    let bare = "if it is a bare layer, write layers:FILE";
    for (transport, name, expected) in [
        ("", "old.tar", format!("\"old.tar\" {before}")),
        ("docker-archive:", "old.tar", format!("\"old.tar\" {before}")),
        ("", "bare.tar", format!("\"bare.tar\" holds neither manifest.json nor index.json: {bare}")),
        ("docker-archive:", "bare.tar", format!("\"bare.tar\" has no manifest.json: it is not a docker archive; {bare}")),
        (
            "docker-archive:",
            "oci.tar",
            "\"oci.tar\" has no manifest.json: it is an OCI archive, write oci-archive:FILE".into(),
        ),
        ("oci-archive:", "bare.tar", "\"bare.tar\" has no index.json: it is not an OCI image layout".into()),
        ("", "oci.tar", "\"oci.tar\" holds no image: its index.json lists none".into()),
        ("", "none.tar", "\"none.tar\" holds no image: its manifest.json lists none".into()),
        ("", "v2.tar", "\"v2.tar\" has the layout version \"2.0.0\"; 1.x is known".into()),
        (
            "",
            "text",
            "\"text\" is not an image: neither a tar archive, compressed or not, nor the directory of an OCI layout".into(),
        ),
        (
            "",
            "damaged.tar",
            "\"damaged.tar\" at byte 512: a header with a wrong checksum: this is not a tar archive, or it is damaged"
                .into(),
        ),
        (
            "",
            "empty",
            "\"empty\" is a directory without index.json or manifest.json: neither an OCI image layout nor an unpacked archive"
                .into(),
        ),
        ("dir:", "empty", "\"empty\" has no manifest.json: it is not an unpacked docker archive".into()),
        ("dir:", "nowhere", "\"nowhere\" is not a directory".into()),
        ("oci:", "empty", "\"empty\" has no index.json: it is not an OCI image layout".into()),
        ("", "laid", "\"laid\" holds layers that are unpacked already: mount it with `layflat mount`".into()),
        ("", "unpacked", "\"unpacked\" holds no image: its manifest.json lists none".into()),
        ("", "nowhere", "\"nowhere\": No such file or directory (os error 2)".into()),
        ("docker-archive:", "empty", "\"empty\" is not a regular file".into()),
        ("layers:", "empty", "\"empty\" is not a regular file".into()),
    ] {
        assert_eq!(refused(&place, &at(&place, transport, name, "")), expected, "{transport}{name}");
    }
}

#[test]
fn what_is_missing_or_altered_is_named() {
    let place = Place::new();
    let (a, b) = (layer("a"), layer("b"));
    let missing = |name: &str, archive: &str| format!("{name:?} in {archive:?} is missing: the image is incomplete");

    // Docker archives.
    let config_bytes = config(&[&a]);
    let manifest = manifest_json("c.json", &[], &["a.tar"]);
    place.write("image.tar", archive(&[("manifest.json", &manifest), ("a.tar", &a)]));
    assert_eq!(refused(&place, &at(&place, "", "image.tar", "")), missing("c.json", "image.tar"));
    place.write("image.tar", archive(&[("manifest.json", &manifest), ("c.json", &config_bytes)]));
    assert_eq!(refused(&place, &at(&place, "", "image.tar", "")), missing("a.tar", "image.tar"));
    let climbing = manifest_json("c.json", &[], &["../../etc/passwd"]);
    place.write("image.tar", archive(&[("manifest.json", &climbing), ("c.json", &config_bytes)]));
    assert_eq!(refused(&place, &at(&place, "", "image.tar", "")), missing("../../etc/passwd", "image.tar"));
    let looped = Tar::new()
        .file("manifest.json", &manifest)
        .file("c.json", &config_bytes)
        .symlink("a.tar", "b.tar")
        .symlink("b.tar", "a.tar");
    place.write("image.tar", looped.done());
    assert_eq!(refused(&place, &at(&place, "", "image.tar", "")), "a.tar: its links lead in a circle");
    let two = manifest_json("c.json", &[], &["a.tar", "a.tar"]);
    place.write("image.tar", archive(&[("manifest.json", &two), ("c.json", &config_bytes), ("a.tar", &a)]));
    assert_eq!(
        refused(&place, &at(&place, "", "image.tar", "")),
        "the image's configuration has 1 diff_ids, but its manifest has 2 layers: they do not belong together"
    );

    // OCI layouts.
    let mut layout = Layout::default();
    let image = layout.image(&[&a]);
    for index in 0..3 {
        let mut without = layout.clone().list(image.clone());
        let (name, _) = without.files.remove(index);
        for (reference, file) in both(&place, &without, "").iter().zip(["layout", "layout.tar"]) {
            assert_eq!(refused(&place, reference), missing(&name, file));
        }
    }
    let (_, error) = refused_manifest(&place, |layout| {
        let (config, layer) = (layout.blob(CONFIG, &config(&[&a, &b])), layout.blob(LAYER, &a));
        layout.document(MANIFEST, &json!({"schemaVersion": 2, "config": config, "layers": [layer]}))
    });
    assert_eq!(
        error,
        "the image's configuration has 2 diff_ids, but its manifest has 1 layers: they do not belong together"
    );

    // A layer is read when it is unpacked.
    let lay = |layout: &Layout, expected: &str| {
        for reference in both(&place, layout, "") {
            let image = try_open(&reference).unwrap();
            let destination = place.path("rootfs");
            let error = layflat::flatten(&image, &destination, &Options::default(), &NoProgress).unwrap_err();
            assert_eq!(Chain(&error).to_string(), expected);
            assert!(!destination.exists());
        }
    };
    let mut altered = layout.clone().list(image.clone());
    altered.files[1].1 = b.clone();
    assert_eq!(a.len(), b.len());
    let found = digest(&b);
    lay(
        &altered,
        &format!("layer 0: blob {}: its bytes have the digest {found}: it is damaged or was altered", digest(&a)),
    );
    altered.files[1].1 = a[..a.len() - 512].to_vec();
    let (stated, found) = (a.len(), a.len() - 512);
    lay(&altered, &format!("layer 0: blob {}: the image states {stated} bytes, there are {found}", digest(&a)));
    let mut other = Layout::default();
    let image = other.image_of(&config(&[&b]), &[(LAYER, a.clone())]);
    lay(
        &other.list(image),
        &format!(
            "layer 0: the configuration states diff_id {}, but the layer's is {}: image and layers do not belong together, or were altered",
            digest(&b),
            digest(&a)
        ),
    );
}

/// Documents that are none, and digests that are none.
#[test]
fn damaged_documents_are_named() {
    let place = Place::new();
    place.write("image.tar", archive(&[("manifest.json", "[{\"Config\": 1}]")]));
    let error = refused(&place, &at(&place, "", "image.tar", ""));
    assert_eq!(error, "manifest.json: [0].Config: expected a string, found the number 1");
    let marker = br#"{"imageLayoutVersion":"1.0.0"}"#;
    place.write("image.tar", archive(&[("index.json", &b"{"[..]), ("oci-layout", marker)]));
    let error = refused(&place, &at(&place, "", "image.tar", ""));
    assert!(error.starts_with("index.json: EOF while parsing"), "{error}");
    let mut wrong = descriptor(MANIFEST, b"");
    wrong["digest"] = json!("sha256:../../../etc/passwd");
    place.write("image.tar", Layout::default().list(wrong).tar());
    let error = refused(&place, &at(&place, "", "image.tar", ""));
    assert!(error.contains("\"sha256:../../../etc/passwd\" is not a digest"), "{error}");
    let manifest = manifest_json("c", &[], &[]);
    place.write("image.tar", archive(&[("manifest.json", &manifest[..]), ("c", b"[]")]));
    let error = refused(&place, &at(&place, "", "image.tar", ""));
    assert!(error.starts_with("the image's configuration cannot be read: "), "{error}");
    let large = OpenOptions { limits: Limits { metadata_size: 1, ..Limits::default() }, ..OpenOptions::default() };
    let reference: Reference = at(&place, "", "image.tar", "").parse().unwrap();
    let error = source::open(&reference, &large).map_err(|error| Chain(&error).to_string()).unwrap_err();
    assert!(error.contains("exceeds the limit of"), "{error}");
}

/// Configurations as old and careless builders write them.
#[test]
fn careless_configurations_are_read() {
    let place = Place::new();
    let a = layer("a");
    for (with, text) in [
        (
            true,
            format!(
                r#"{{"architecture":"amd64","os":"linux","created":null,"rootfs":{{"diff_ids":["{}"]}}}}"#,
                digest(&a)
            ),
        ),
        (false, r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers"},"history":null}"#.to_owned()),
        (false, r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":null}}"#.to_owned()),
    ] {
        let (names, layers): (&[&str], &[&[u8]]) = if with { (&["a"], &[&a]) } else { (&[], &[]) };
        let manifest = manifest_json("c", &[], names);
        place.write("image.tar", archive(&[("manifest.json", &manifest[..]), ("c", text.as_bytes()), ("a", &a)]));
        expect(&at(&place, "", "image.tar", ""), layers);
    }
    // Without the list of layers, and without a list of tags.
    let manifest = br#"[{"Config":"c","RepoTags":null,"Layers":null}]"#;
    place.write("image.tar", archive(&[("manifest.json", &manifest[..]), ("c", &config(&[]))]));
    expect(&at(&place, "", "image.tar", ""), &[]);
}

#[test]
fn bare_layers_need_nothing_else() {
    let place = Place::new();
    let (a, b) = (layer("a"), layer("b"));
    let (one, two) = (place.write("a.tar", &a), place.write("b.tar.zst", zstd(&b)));
    let image = try_open(&format!("layers:{},{}", one.display(), two.display())).unwrap();
    let found: Vec<String> = facts(&image).iter().map(|facts| facts.diff_id.to_string()).collect();
    assert_eq!(found, [digest(&a), digest(&b)]);
    assert!(image.config.is_none());
}

/// A pipe can be read once, from its start: a shell's `<(…)`, and `-`.
#[test]
fn archives_come_through_pipes() {
    let place = Place::new();
    let a = layer("a");
    let bytes = podman_archive(&[(&["demo:1"], &[&a])]);
    let fifo = place.path("fifo");
    // Several times: whether the writer or the reader comes first must not matter.
    for stored in [bytes.clone(), gzip(&bytes)].iter().cycle().take(20) {
        let _ = fs::remove_file(&fifo);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        // If nobody reads it waits for ever, and is not waited for.
        let (to, bytes) = (fifo.clone(), stored.clone());
        let writing = std::thread::spawn(move || fs::write(to, bytes).unwrap());
        expect(&at(&place, "", "fifo", ""), &[&a]);
        writing.join().unwrap();
        let run = |reference: &str| {
            let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_layflat"));
            let output = command.args(["inspect", "--json", reference]).write_stdin(stored.clone()).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(report["layers"][0]["diff_id"], json!(digest(&a)));
        };
        run("-");
        run("docker-archive:-");
        run("docker-archive:-:demo:1");
    }
}
