//! An image goes through every kind of store and comes back the same.

use std::fs;

use layflat::blob::Pace;
use layflat::core::digest::Digest;
use serde_json::Value;

use super::place::{self, Images as _, Place};
use crate::common::harness::Test;
use crate::common::images::{self, Layout, tagged};
use crate::registry::servers::Engine;

pub(crate) const TESTS: &[Test] = &[
    ("an_image_comes_back_the_same_from_every_store", false, an_image_comes_back_the_same_from_every_store),
    ("podman_loads_what_was_written", true, podman_loads_what_was_written),
    ("a_compression_is_one_that_other_tools_read", false, a_compression_is_one_that_other_tools_read),
    ("the_same_bytes_come_out_with_any_number_of_jobs", false, the_same_bytes_come_out_with_any_number_of_jobs),
    ("what_is_compressed_so_already_stays", false, what_is_compressed_so_already_stays),
    ("bare_layers_become_an_image", false, bare_layers_become_an_image),
];

fn an_image_comes_back_the_same_from_every_store() {
    let place = Place::new();
    place::source(&place);
    let (manifest, config) = place.skopeo_sees("oci:src:two");
    let diff_ids = place.diff_ids("oci:", "src:two");
    let digest = Digest::sha256_of(&manifest).to_string();
    let config_digest = Digest::sha256_of(&config).to_string();

    let report = place.copy(&["oci:src:two", "oci-archive:a.tar:two"]);
    assert_eq!(report["images"][0]["manifest_digest"], digest);
    assert_eq!(place.skopeo_sees("oci-archive:a.tar:two"), (manifest.clone(), config.clone()));

    let report = place.copy(&["oci-archive:a.tar:two", "docker-archive:d.tar:demo:2"]);
    assert_eq!(report["images"][0]["config_digest"], config_digest);
    assert_eq!(report["images"][0]["names"], serde_json::json!(["docker.io/library/demo:2"]));
    assert_eq!(place.skopeo_sees("docker-archive:d.tar:demo:2").1, config);
    assert_eq!(place.diff_ids("docker-archive:", "d.tar"), diff_ids);

    place.copy(&["docker-archive:d.tar", "dir:unpacked"]);
    // Packed with tar it is a docker archive.
    place.tool("tar", &["tar", "-C", "unpacked", "-cf", "packed.tar", "."]);
    assert_eq!(place.skopeo_sees("docker-archive:packed.tar:demo:2").1, config);

    let report = place.copy(&["docker-archive:packed.tar", "oci:back:two"]);
    assert_eq!(report["images"][0]["config_digest"], config_digest);
    let (made, same_config) = place.skopeo_sees("oci:back:two");
    assert_eq!(same_config, config);
    assert_eq!(report["images"][0]["manifest_digest"], Digest::sha256_of(&made).to_string());
    assert_eq!(place.diff_ids("oci:", "back:two"), diff_ids);

    // Others write what we read, and the other way round: skopeo copies it and umoci unpacks it.
    place.skopeo(&["copy", "-q", "oci:back:two", "docker-archive:theirs.tar:demo:3"]);
    place.copy(&["docker-archive:theirs.tar:demo:3", "oci:back:three"]);
    for (image, bundle) in [("back:two", "bundle-2"), ("back:three", "bundle-3")] {
        place.tool("umoci", &["umoci", "unpack", "--rootless", "--image", image, bundle]);
        assert_eq!(fs::read_to_string(place.path(&format!("{bundle}/rootfs/etc/passwd"))).unwrap(), "nobody\n");
        assert!(!place.path(&format!("{bundle}/rootfs/text")).exists());
    }
    for image in ["oci-archive:a.tar", "docker-archive:d.tar", "oci:back:two", "docker-archive:theirs.tar"] {
        place.same("oci:src:two", image);
    }
}

fn podman_loads_what_was_written() {
    let place = Place::new();
    place::source(&place);
    let config = place.skopeo_sees("oci:src:two").1;
    let id = Digest::sha256_of(&config).hex().to_owned();
    place.copy(&["oci:src:one", "docker-archive:d.tar:demo:1"]);
    place.copy(&["oci:src:two", "docker-archive:d.tar:demo:2"]);
    place.copy(&["--compression", "zstd", "oci:src:two", "oci-archive:a.tar:localhost/demo:3"]);
    let store = Engine::store(&place);
    let podman = |arguments: &[&str]| {
        let words = ["podman"].into_iter().chain(store.iter().map(String::as_str)).chain(arguments.iter().copied());
        String::from_utf8(place.tool("podman", &words.collect::<Vec<_>>())).unwrap()
    };
    podman(&["load", "-q", "-i", "d.tar"]);
    podman(&["load", "-q", "-i", "a.tar"]);
    let found = podman(&["images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]);
    for name in ["docker.io/library/demo:2", "localhost/demo:3"] {
        assert!(found.contains(&format!("{name} sha256:{id}")), "{found}");
    }
    assert!(found.contains("docker.io/library/demo:1"), "{found}");
}

/// Where the layers of an image in a layout are, and their uncompressed bytes by our own reader.
fn stored_layers(place: &Place, image: &str) -> Vec<(String, Vec<u8>)> {
    let opened = place.open("oci:", image);
    let layout = image.split(':').next().unwrap();
    let layer = |layer: &layflat::image::Layer| {
        let digest = layer.blob.digest().unwrap();
        let mut content = Vec::new();
        let mut stream = layer.blob.open_layer(&layflat::Limits::default(), Pace::OnDemand).unwrap();
        std::io::Read::read_to_end(&mut stream, &mut content).unwrap();
        assert_eq!(Some(stream.finish().unwrap().diff_id), layer.diff_id);
        (format!("{layout}/blobs/sha256/{}", digest.hex()), content)
    };
    opened.layers.iter().map(layer).collect()
}

fn a_compression_is_one_that_other_tools_read() {
    let place = Place::new();
    // Two layers of several blocks each, one of text and one that hardly compresses.
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let noise: Vec<u8> = (0..5 << 20).map(|_| random()).collect();
    let text: String = (0..600_000).map(|number| format!("line {}\n", number % 100_003 * 7919 % 100_003)).collect();
    let layers = [images::archive(&[("noise", noise)]), images::archive(&[("text", text)])];
    let mut layout = Layout::default();
    let image = layout.image(&[&layers[0], &layers[1]]);
    layout.list(tagged(image, "plain")).write(&place.path("src"));
    let python = "import gzip, sys; sys.stdout.buffer.write(gzip.open(sys.argv[1]).read())";
    for (compression, tools) in [
        ("gzip", [("gzip", vec!["gzip", "-dc"]), ("python3", vec!["python3", "-c", python])]),
        ("gzip:1", [("gzip", vec!["gzip", "-dc"]), ("pigz", vec!["pigz", "-dc"])]),
        ("zstd", [("zstd", vec!["zstd", "-dcq"]), ("zstd", vec!["zstd", "-dcq", "--single-thread"])]),
        ("zstd:19", [("zstd", vec!["zstd", "-dcq"]), ("libarchive-tools", vec!["bsdcat"])]),
    ] {
        let name = format!("{}:made", compression.replace(':', "-"));
        place.copy(&["--compression", compression, "oci:src:plain", &format!("oci:{name}")]);
        for ((path, content), layer) in stored_layers(&place, &name).into_iter().zip(&layers) {
            assert!(content == *layer);
            // Some tools go by the name.
            let named = format!("{path}.{}", if compression.starts_with("gzip") { "gz" } else { "zst" });
            fs::copy(place.path(&path), place.path(&named)).unwrap();
            for (package, tool) in &tools {
                let mut command = tool.clone();
                command.push(&named);
                assert!(place.tool(package, &command) == *layer, "{compression}, {tool:?}");
            }
        }
        place.same("oci:src:plain", &format!("oci:{name}"));
        // And skopeo takes it as an image.
        place.skopeo(&["copy", "-q", &format!("oci:{name}"), &format!("dir:theirs-{}", name.replace(':', "-"))]);
    }
}

fn the_same_bytes_come_out_with_any_number_of_jobs() {
    let place = Place::new();
    place::source(&place);
    place.copy(&["oci:src:two", "docker-archive:d.tar:demo:2"]);
    for compression in ["gzip", "zstd:5"] {
        let digests: Vec<Value> = ["1", "2", "7"]
            .iter()
            .map(|jobs| {
                let to = format!("oci:{}-{jobs}:x", compression.replace(':', "-"));
                let report = place.copy(&["--jobs", jobs, "--compression", compression, "docker-archive:d.tar", &to]);
                report["images"][0]["manifest_digest"].clone()
            })
            .collect();
        assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
    }
    let archives = ["1", "7"].map(|jobs| {
        let name = format!("{jobs}.tar");
        place.copy(&["--jobs", jobs, "oci:src:two", &format!("docker-archive:{name}:demo:2")]);
        place.copy(&["--jobs", jobs, "oci:src:two", &format!("oci-archive:oci-{name}:two")]);
        (fs::read(place.path(&name)).unwrap(), fs::read(place.path(&format!("oci-{name}"))).unwrap())
    });
    assert!(archives[0] == archives[1]);
}

fn what_is_compressed_so_already_stays() {
    let place = Place::new();
    place::source(&place);
    let outcomes = |report: &Value| -> Vec<String> {
        let blobs = report["blobs"].as_array().unwrap().iter();
        blobs.map(|blob| format!("{} {}", blob["kind"], blob["outcome"]).replace('"', "")).collect()
    };
    let kept = place.copy(&["--compression", "gzip", "oci:src:one", "oci:kept:one"]);
    assert_eq!(outcomes(&kept), ["layer copied", "layer copied", "config copied"]);
    assert_eq!(place.skopeo_sees("oci:kept:one"), place.skopeo_sees("oci:src:one"));
    let made = place.copy(&["--compression", "gzip:9", "oci:src:one", "oci:made:one"]);
    assert_eq!(outcomes(&made), ["layer rewritten", "layer rewritten", "config copied"]);
    let none = place.copy(&["--compression", "none", "oci:made:one", "oci:none:one"]);
    let digests: Vec<&str> = none["blobs"].as_array().unwrap().iter().filter_map(|it| it["digest"].as_str()).collect();
    let [base, middle, _] = place::layers();
    assert_eq!(digests[..2], [images::digest(&base), images::digest(&middle)]);
    place.same("oci:src:one", "oci:none:one");
}

fn bare_layers_become_an_image() {
    let place = Place::new();
    let [base, middle, _] = place::layers();
    fs::write(place.path("base.tar"), &base).unwrap();
    fs::write(place.path("middle.tar.gz"), images::gzip(&middle)).unwrap();
    let bare = "layers:base.tar,middle.tar.gz";
    place.copy(&[bare, "oci:layout:bare"]);
    place.copy(&[bare, "docker-archive:d.tar:bare:1"]);
    place.same(bare, "oci:layout:bare");
    place.same(bare, "docker-archive:d.tar");
    let configs = ["oci:layout:bare", "docker-archive:d.tar:bare:1"].map(|image| place.skopeo_sees(image).1);
    assert_eq!(configs[0], configs[1]);
    place.tool("umoci", &["umoci", "unpack", "--rootless", "--image", "layout:bare", "bundle"]);
}
