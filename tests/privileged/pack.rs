//! The way back: what overlay mounts and whole trees become as layers.
//!
//! Every line of fixtures/stacks is unpacked for an overlay mount, each layer's directory is packed again, and the
//! packed layers must show what the line states. Then real mounts are changed at random, and their upper directories
//! packed: the layer on top of the image must show what the mount showed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::common::cases::{self, Case, Expected, compare};
use crate::common::harness::Trial;
use crate::common::overlay::{Mount, change};
use crate::common::run::{self, Form, Scratch};
use crate::common::text::Stack;
use crate::common::tree::Tree;
use layflat::core::chain::Chain;
use layflat::image::Image;
use layflat::lowerdirs::Layout;
use layflat::pack::{Meaning, PackError, PackOptions, pack};
use layflat::{Cancel, NoProgress, Options, XattrNamespace};
use libtest_mimic::Failed;

pub(crate) fn trials() -> Vec<Trial> {
    let root = run::is_root();
    let mut trials = Vec::new();
    for (number, case) in cases::all().into_iter().enumerate() {
        let Expected::Tree(tree) = &case.expected else {
            continue;
        };
        let mut tree = Tree::parse(tree);
        if !root {
            tree = run::as_user(tree);
        }
        let ways =
            [("layers", Some(XattrNamespace::Trusted)), ("layers_user", Some(XattrNamespace::User)), ("whole", None)];
        for (name, namespace) in cases::in_turn(number, &ways) {
            let Some(namespace) = namespace else {
                let (Case { name: case, stack, .. }, tree) = (case.clone(), tree.clone());
                let check = move || differences_of_trees_show_it(&stack, &tree);
                trials.push(Trial::test(format!("{case}::whole"), check).with_ignored_flag(!root));
                continue;
            };
            // A device 0:0 is something else already in overlay layers, and is reported.
            let tree = match &case.overlay {
                Some(overlay) => Tree::parse(&overlay.replace("OVERLAY.", namespace.prefix())),
                None => tree.clone(),
            };
            let Case { name: case, stack, .. } = case.clone();
            let check = move || packed_layers_show_it(&stack, &tree, namespace);
            trials.push(Trial::test(format!("{case}::{name}"), check).with_ignored_flag(!root));
        }
    }
    for (name, options) in [
        ("plain", "redirect_dir=off,metacopy=off,index=off"),
        ("redirect", "redirect_dir=on,metacopy=off,index=off"),
        ("metacopy", "redirect_dir=on,metacopy=on,index=off"),
        ("userxattr", "userxattr"),
    ] {
        let check = move || mounts_changed_at_random(options);
        trials.push(Trial::test(format!("mount_{name}"), check).with_ignored_flag(!root));
    }
    trials.push(Trial::test("what_is_below_must_be_named", what_is_below_must_be_named).with_ignored_flag(!root));
    trials.push(
        Trial::test("m1_no_opaque_marker_where_no_directory_is_below", no_opaque_marker_where_no_directory_is_below)
            .with_ignored_flag(!root),
    );
    trials.push(Trial::test("m3_the_longest_names_can_be_hidden", the_longest_names_can_be_hidden));
    trials.push(Trial::test("what_no_layer_can_hold", what_no_layer_can_hold));
    trials.push(Trial::test("whiteouts_by_attribute", whiteouts_by_attribute));
    trials.push(Trial::test("packing_ends_in_the_middle_of_a_file", packing_ends_in_the_middle_of_a_file));
    trials
}

fn packed(tree: &Path, options: &PackOptions) -> Result<Vec<u8>, PackError> {
    let mut bytes = Vec::new();
    pack(tree, options, &mut bytes)?;
    Ok(bytes)
}

fn flat(image: &Image) -> Tree {
    run::lay_image(image, Form::Flat, &std::env::temp_dir(), &Options::default()).unwrap().tree
}

fn lay_layers(image: &Image, place: &Path, namespace: XattrNamespace) -> Layout {
    let options = Options { xattr_namespace: Some(namespace), ..Options::default() };
    layflat::layers(image, place, &options, &NoProgress).unwrap();
    serde_json::from_slice(&fs::read(place.join("layflat.json")).unwrap()).unwrap()
}

fn packed_layers_show_it(stack: &Stack, expected: &Tree, namespace: XattrNamespace) -> Result<(), Failed> {
    let scratch = Scratch::new(&std::env::temp_dir());
    let place = scratch.0.join("layers");
    let layout = lay_layers(&run::image_of(stack), &place, namespace);
    let options =
        PackOptions { xattr_namespace: Some(namespace), meaning: Some(Meaning::Changes), ..PackOptions::default() };
    let directories = layout.layers.iter().filter_map(|layer| layer.directory.as_ref());
    let layers: Vec<Vec<u8>> = directories.map(|directory| packed(&place.join(directory), &options).unwrap()).collect();
    compare(expected, &flat(&run::image(layers)))
}

/// Of every two neighbours in a stack: the lower one's tree, and on it what makes the upper one's of it.
fn differences_of_trees_show_it(stack: &Stack, expected: &Tree) -> Result<(), Failed> {
    let scratch = Scratch::new(&std::env::temp_dir());
    let whole = |layers: usize| {
        let place = scratch.0.join(format!("tree-{layers}"));
        let image = run::image_of(&Stack(stack.0[..layers].to_vec()));
        layflat::flatten(&image, &place, &Options::default(), &NoProgress).unwrap();
        place
    };
    let mut layers = Vec::new();
    let mut below = scratch.0.join("empty");
    fs::create_dir(&below).unwrap();
    for count in 1..=stack.0.len() {
        let tree = whole(count);
        let lower = vec![below];
        layers.push(
            packed(&tree, &PackOptions { lower, meaning: Some(Meaning::Whole), ..PackOptions::default() }).unwrap(),
        );
        below = tree;
    }
    compare(expected, &flat(&run::image(layers)))
}

fn mounts_changed_at_random(options: &str) -> Result<(), Failed> {
    let namespace = if options == "userxattr" { XattrNamespace::User } else { XattrNamespace::Trusted };
    let stack = Stack::parse(
        "D a, D a/b, D a/b/c, F a/f(one), F a/b/f(two,755,5:6), H a/b/h=a/b/f, L a/s->b, F a/b/c/g(x,m=1.5,user.k=v), P a/p \
         , D g, D g/h, D g/h/i, F g/h/i/k(k), F g/l, D m, F m/n, F m/o(o), D m/q, F m/q/r \
         | D d, F d/f(long), D d/e, F d/e/f(deep), W a/b/c/g, F a/b/c/n, D z | D a/b, O a/b, F a/b/new(y), F d/e/more, W z",
    );
    let image = run::image_of(&stack);
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for seed in 0..40 {
        let scratch = Scratch::new(run::tmpfs());
        let place = scratch.0.join("layers");
        let layout = lay_layers(&image, &place, namespace);
        let lower: Vec<PathBuf> = layout.lowerdir.iter().map(|directory| place.join(directory)).collect();
        let [mountpoint, upper, work] = ["mount", "upper", "work"].map(|name| scratch.0.join(name));
        for directory in [&mountpoint, &upper, &work] {
            fs::create_dir(directory).unwrap();
        }
        let mount = Mount::overlay(mountpoint.clone(), &lower, &upper, &work, options);
        let mut random = fastrand::Rng::with_seed(seed);
        // After many changes little is left of what was below.
        for number in 0..5 * (seed as u32 + 1) {
            change(&mountpoint, &mut random, number);
        }
        let expected = Tree::of_directory(&mountpoint);
        drop(mount);
        for entry in walkdir::WalkDir::new(&upper) {
            seen.extend(xattr::list(entry.unwrap().path()).unwrap().filter_map(|name| name.into_string().ok()));
        }
        let options = PackOptions { lower, xattr_namespace: Some(namespace), ..PackOptions::default() };
        let layer = packed(&upper, &options).map_err(|error| format!("seed {seed}: {error}"))?;
        let mut layers: Vec<Vec<u8>> = stack.0.iter().map(crate::common::tar::archive).collect();
        layers.push(layer);
        compare(&expected, &flat(&run::image(layers)))
            .map_err(|failed| format!("seed {seed}: {}", failed.message().unwrap_or_default()))?;
    }
    // What is to be tested did happen.
    let prefix = namespace.prefix();
    for (word, expected) in [
        ("opaque", true),
        ("redirect", options.contains("redirect_dir=on")),
        ("metacopy", options.contains("metacopy=on")),
    ] {
        assert_eq!(seen.contains(&format!("{prefix}{word}")), expected, "{word} among {seen:?}");
    }
    Ok(())
}

fn what_is_below_must_be_named() -> Result<(), Failed> {
    let scratch = Scratch::new(run::tmpfs());
    let [lower, upper, work, mountpoint] = ["lower", "upper", "work", "mount"].map(|name| scratch.0.join(name));
    for directory in [&lower, &upper, &work, &mountpoint] {
        fs::create_dir(directory).unwrap();
    }
    fs::create_dir_all(lower.join("old/deep")).unwrap();
    fs::write(lower.join("old/file"), "data").unwrap();
    let mount =
        Mount::overlay(mountpoint.clone(), std::slice::from_ref(&lower), &upper, &work, "redirect_dir=on,metacopy=on");
    fs::rename(mountpoint.join("old"), mountpoint.join("new")).unwrap();
    fs::set_permissions(mountpoint.join("new/file"), fs::Permissions::from_mode(0o600)).unwrap();
    let expected = Tree::of_directory(&mountpoint);
    drop(mount);
    let error = packed(&upper, &PackOptions::default()).map_err(|error| Chain(&error).to_string()).unwrap_err();
    assert!(error.contains("new is a renamed directory, old in the layers below, which must be specified"), "{error}");
    let elsewhere = PackOptions { lower: vec![work], ..PackOptions::default() };
    let error = packed(&upper, &elsewhere).map_err(|error| Chain(&error).to_string()).unwrap_err();
    assert!(error.contains("none of the lower directories has it"), "{error}");
    let layer = packed(&upper, &PackOptions { lower: vec![lower.clone()], ..PackOptions::default() }).unwrap();
    // The lower directory as a layer: all of it is new on nothing.
    let empty = scratch.0.join("empty");
    fs::create_dir(&empty).unwrap();
    let base = PackOptions { lower: vec![empty], ..PackOptions::default() };
    compare(&expected, &flat(&run::image([packed(&lower, &base).unwrap(), layer])))
}

/// The names of a layer's entries, as GNU tar lists them.
fn listed(layer: &[u8]) -> Vec<String> {
    let scratch = Scratch::new(&std::env::temp_dir());
    let archive = scratch.0.join("layer.tar");
    fs::write(&archive, layer).unwrap();
    let output = std::process::Command::new("tar").arg("-tf").arg(&archive).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// `rm link; mkdir link` leaves an opaque directory, which hides nothing.
fn no_opaque_marker_where_no_directory_is_below() -> Result<(), Failed> {
    let scratch = Scratch::new(run::tmpfs());
    let [lower, upper, work, mountpoint] = ["lower", "upper", "work", "mount"].map(|name| scratch.0.join(name));
    for directory in [&lower, &upper, &work, &mountpoint, &lower.join("target"), &lower.join("old")] {
        fs::create_dir(directory).unwrap();
    }
    for name in ["target/keep", "old/gone", "file"] {
        fs::write(lower.join(name), name).unwrap();
    }
    std::os::unix::fs::symlink("/target", lower.join("link")).unwrap();
    std::os::unix::fs::symlink("target", lower.join("other")).unwrap();
    let mount = Mount::overlay(mountpoint.clone(), std::slice::from_ref(&lower), &upper, &work, "redirect_dir=off");
    for name in ["link", "file", "other"] {
        fs::remove_file(mountpoint.join(name)).unwrap();
    }
    fs::remove_dir_all(mountpoint.join("old")).unwrap();
    for name in ["link", "file", "old", "new"] {
        fs::create_dir(mountpoint.join(name)).unwrap();
        fs::write(mountpoint.join(name).join("new"), "new").unwrap();
    }
    let expected = Tree::of_directory(&mountpoint);
    drop(mount);
    let layer = packed(&upper, &PackOptions { lower: vec![lower.clone()], ..PackOptions::default() }).unwrap();
    let marks: Vec<String> = listed(&layer).into_iter().filter(|name| name.contains(".wh.")).collect();
    assert_eq!(marks, ["old/.wh..wh..opq", ".wh.other"]);
    let empty = scratch.0.join("empty");
    fs::create_dir(&empty).unwrap();
    let base = packed(&lower, &PackOptions { lower: vec![empty], ..PackOptions::default() }).unwrap();
    compare(&expected, &flat(&run::image([base.clone(), layer])))?;
    // Without the lower directory there may be one below; what is written then hides nothing else, either.
    let layer = packed(&upper, &PackOptions::default()).unwrap();
    assert!(listed(&layer).contains(&"link/.wh..wh..opq".to_owned()));
    compare(&expected, &flat(&run::image([base, layer])))
}

/// A whiteout is not a file, and so may have a longer name than one.
fn the_longest_names_can_be_hidden() -> Result<(), Failed> {
    let scratch = Scratch::new(&std::env::temp_dir());
    let [lower, whole] = ["lower", "whole"].map(|name| scratch.0.join(name));
    let names: Vec<String> = (251..=255).map(|length| "n".repeat(length)).collect();
    for directory in [&lower, &whole] {
        fs::create_dir_all(directory.join("d")).unwrap();
        fs::write(directory.join("d/kept"), "").unwrap();
    }
    for name in &names {
        fs::write(lower.join("d").join(name), "").unwrap();
    }
    let layer = packed(&whole, &PackOptions { lower: vec![lower], ..PackOptions::default() }).unwrap();
    let listed = listed(&layer);
    let entries: Vec<String> = names.iter().map(|name| format!("F d/{name}")).collect();
    for name in &names {
        assert!(listed.contains(&format!("d/.wh.{name}")), "{listed:?}");
    }
    let base = crate::common::tar::archive(&Stack::parse(&format!("D d, F d/kept, {}", entries.join(", "))).0[0]);
    let found: Vec<Vec<u8>> = flat(&run::image([base, layer])).0.into_keys().collect();
    assert_eq!(found, [&b""[..], b"d", b"d/kept"]);
    Ok(())
}

fn what_no_layer_can_hold() -> Result<(), Failed> {
    let scratch = Scratch::new(&std::env::temp_dir());
    let tree = scratch.0.join("tree");
    fs::create_dir(&tree).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    fs::write(tree.join("file"), "x").unwrap();
    let report = pack(&tree, &PackOptions::default(), &mut Vec::new()).unwrap();
    assert_eq!((report.entries, report.not_kept.len()), (2, 1));
    assert_eq!(report.not_kept[0].examples, ["socket"]);
    drop(socket);
    fs::write(tree.join(".wh.file"), "").unwrap();
    let error = packed(&tree, &PackOptions::default()).map_err(|error| Chain(&error).to_string()).unwrap_err();
    assert!(error.starts_with(".wh.file: names that begin with .wh. are whiteouts"), "{error}");
    let whole = PackOptions { meaning: Some(Meaning::Whole), ..PackOptions::default() };
    assert!(
        packed(&tree, &whole)
            .map_err(|error| Chain(&error).to_string())
            .unwrap_err()
            .contains("one lower directory, but 0 were given")
    );
    Ok(())
}

/// What a kernel or a tool writes that must not make devices: an empty file with an attribute, in a directory that says
/// so.
fn whiteouts_by_attribute() -> Result<(), Failed> {
    let scratch = Scratch::new(&std::env::temp_dir());
    let tree = scratch.0.join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("gone"), "").unwrap();
    fs::write(tree.join("there"), "").unwrap();
    for (name, attribute, value) in [("", "opaque", "x"), ("gone", "whiteout", ""), ("there", "origin", "\0")] {
        xattr::set(tree.join(name), format!("user.overlay.{attribute}"), value.as_bytes()).unwrap();
    }
    let layer = packed(&tree, &PackOptions::default()).unwrap();
    let base = crate::common::tar::archive(&Stack::parse("F gone, F there(old), F kept").0[0]);
    let found: Vec<Vec<u8>> = flat(&run::image([base, layer])).0.into_keys().collect();
    assert_eq!(found, [&b""[..], b"kept", b"there"]);
    Ok(())
}

/// An output that stops the packing when the first of a file's content comes.
struct Stopping(Cancel);

impl std::io::Write for Stopping {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.contains(&b'x') {
            self.0.cancel();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn packing_ends_in_the_middle_of_a_file() -> Result<(), Failed> {
    let scratch = Scratch::new(&std::env::temp_dir());
    let tree = scratch.0.join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("large"), vec![b'x'; 1 << 20]).unwrap();
    let options = PackOptions::default();
    let result = pack(&tree, &options, Stopping(options.cancel.clone()));
    assert!(matches!(result, Err(PackError::Cancelled)), "{result:?}");
    Ok(())
}
