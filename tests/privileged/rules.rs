//! A test for every rule of the design: each from a line in fixtures/stacks that states the layers and the whole tree.
//!
//! Each line is run against the oracle, against what `ls` and its like say of it, in the flat rootfs, and through real
//! overlay mounts with whiteouts in either namespace, and by way of a cache that has the lower layers from another image;
//! on a tmpfs and, for root, on a disk, and layer by layer over directories, too, and all layers read before any is finished. Of ways that differ little each line takes its turn;
//! `LAYFLAT_STACKS=all` tries all. What this user may not do is counted as ignored.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

use crate::common::cases::{self, Case, Expected, compare};
use crate::common::erofs::{self, Where};
use crate::common::harness::Trial;
use crate::common::inside;
use crate::common::oracle;
use crate::common::run::{self, Form, Power};
use crate::common::tar;
use crate::common::tree::Tree;
use layflat::erofs::Shape;
use layflat::{Options, XattrNamespace};
use libtest_mimic::Failed;

pub(crate) fn trials() -> Vec<Trial> {
    let power = run::power();
    let erofs = erofs::can_mount();
    let mut trials = Vec::new();
    for (number, case) in cases::all().into_iter().enumerate() {
        let root = run::is_root();
        let mounts = !matches!(power, Power::Nothing(_));
        let (trusted, user) = (Form::Overlay(XattrNamespace::Trusted), Form::Overlay(XattrNamespace::User));
        trials.push(trial(&case, "oracle", true, check_oracle));
        trials.push(trial(&case, "inside", true, check_inside));
        trials.push(trial(&case, "flat", true, |case| check(case, Form::Flat, &quick_place())));
        trials.push(trial(&case, "overlay", root, move |case| check(case, trusted, &quick_place())));
        trials.push(trial(&case, "overlay_user", mounts, move |case| check(case, user, &quick_place())));
        trials.push(trial(&case, "over", root, |case| check_over(case, XattrNamespace::Trusted)));
        trials.push(trial(&case, "erofs", erofs, |case| check_erofs(case, Shape::Merged, Where::Carried)));
        let others: [(&str, Check); 6] = [
            ("over_user", |case| check_over(case, XattrNamespace::User)),
            ("staged", |case| check_staged(case, XattrNamespace::Trusted)),
            ("cached", |case| check_cached(case, XattrNamespace::Trusted)),
            ("mstack", check_mstack),
            ("flat_disk", |case| check(case, Form::Flat, &std::env::temp_dir())),
            ("overlay_disk", |case| check(case, Form::Overlay(XattrNamespace::Trusted), &std::env::temp_dir())),
        ];
        for (form, check) in cases::in_turn(number, &others) {
            trials.push(trial(&case, form, root, check));
        }
        let layered = Shape::Layered(XattrNamespace::Trusted);
        for (form, shape, place) in cases::in_turn(
            number,
            &[
                ("erofs_devices", Shape::Merged, Where::Devices),
                ("erofs_layers", layered, Where::Carried),
                ("erofs_layers_devices", layered, Where::Devices),
            ],
        ) {
            trials.push(trial(&case, form, erofs, move |case| check_erofs(case, shape, place)));
        }
    }
    trials
}

/// Where nothing waits for a disk, if this user can have such a place.
fn quick_place() -> PathBuf {
    if run::is_root() { run::tmpfs().to_owned() } else { std::env::temp_dir() }
}

type Check = fn(&Case) -> Result<(), Failed>;

fn trial(
    case: &Case,
    form: &str,
    possible: bool,
    check: impl Fn(&Case) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let own = case.clone();
    Trial::test(format!("{}::{form}", case.name), move || check(&own)).with_ignored_flag(!possible)
}

fn check_oracle(case: &Case) -> Result<(), Failed> {
    match (&case.expected, oracle::show(&case.stack)) {
        (Expected::Reject(_), Err(_)) => Ok(()),
        (Expected::Tree(tree), Ok(found)) => compare(&Tree::parse(tree), &without_selinux(found)),
        (expected, found) => Err(format!("expected {expected:?}, found {found:?}").into()),
    }
}

fn check_inside(case: &Case) -> Result<(), Failed> {
    match (&case.expected, inside::tree(&case.stack)) {
        (Expected::Reject(words), Err(error)) if error.contains(words) => Ok(()),
        (Expected::Tree(tree), Ok(found)) => compare(&Tree::parse(tree), &without_selinux(found)),
        (expected, found) => Err(format!("expected {expected:?}, found {found:?}").into()),
    }
}

fn without_selinux(mut tree: Tree) -> Tree {
    for node in tree.0.values_mut() {
        node.attributes.xattrs.remove(&b"security.selinux"[..]);
    }
    tree
}

/// No layer changes what is below it: layers that were unpacked for another image are as good as its own.
fn check_cached(case: &Case, namespace: XattrNamespace) -> Result<(), Failed> {
    let Expected::Tree(tree) = &case.expected else { return Ok(()) };
    let overlay = case.overlay.as_ref().map(|overlay| overlay.replace("OVERLAY.", namespace.prefix()));
    let mut expected = Tree::parse(overlay.as_ref().unwrap_or(tree));
    if *run::power() != Power::Root {
        expected = run::as_user(expected);
    }
    compare(&expected, &run::lay_cached(&case.stack, namespace, &std::env::temp_dir())?)
}

/// What is below is read from disk: the tree, and what is refused, are the same.
fn check_over(case: &Case, namespace: XattrNamespace) -> Result<(), Failed> {
    check_one_by_one(case, namespace, run::lay_over(&case.stack, namespace, run::tmpfs()))
}

/// What is below is known only when all layers are read.
fn check_staged(case: &Case, namespace: XattrNamespace) -> Result<(), Failed> {
    check_one_by_one(case, namespace, run::lay_staged(&case.stack, namespace, run::tmpfs(), 0))
}

fn check_one_by_one(case: &Case, namespace: XattrNamespace, laid: Result<Tree, String>) -> Result<(), Failed> {
    match (&case.expected, laid) {
        (Expected::Reject(words), Err(error)) if error.contains(words) => Ok(()),
        (Expected::Tree(tree), Ok(found)) => {
            let overlay = case.overlay.as_ref().map(|overlay| overlay.replace("OVERLAY.", namespace.prefix()));
            compare(&Tree::parse(overlay.as_ref().unwrap_or(tree)), &found)
        }
        (expected, found) => Err(format!("expected {expected:?}, found {found:?}").into()),
    }
}

/// Mounted as systemd does it, by the names alone.
fn check_mstack(case: &Case) -> Result<(), Failed> {
    match (&case.expected, run::lay_mstack(&case.stack, run::tmpfs())) {
        (Expected::Reject(words), Err(error)) if error.contains(words) => Ok(()),
        (Expected::Tree(tree), Ok(found)) => {
            let overlay =
                case.overlay.as_ref().map(|overlay| overlay.replace("OVERLAY.", XattrNamespace::User.prefix()));
            compare(&Tree::parse(overlay.as_ref().unwrap_or(tree)), &found)
        }
        (expected, found) => Err(format!("expected {expected:?}, found {found:?}").into()),
    }
}

fn check_erofs(case: &Case, shape: Shape, place: Where) -> Result<(), Failed> {
    let archives: Vec<Vec<u8>> = case.stack.0.iter().map(tar::archive).collect();
    match (&case.expected, erofs::show(&archives, shape, place)) {
        (Expected::Reject(words), Err(error)) if error.contains(words) => Ok(()),
        (Expected::Tree(tree), Ok(found)) => {
            let expected = match (shape, &case.overlay) {
                (Shape::Layered(namespace), Some(overlay)) => overlay.replace("OVERLAY.", namespace.prefix()),
                _ => tree.clone(),
            };
            compare(&Tree::parse(&expected), &found)
        }
        (expected, found) => Err(format!("expected {expected:?}, found {found:?}").into()),
    }
}

fn check(case: &Case, form: Form, base: &Path) -> Result<(), Failed> {
    let laid = run::lay(&case.stack, form, base, &Options::default());
    let (tree, laid) = match (&case.expected, laid) {
        (Expected::Reject(words), Err(error)) if error.contains(words) => return Ok(()),
        (Expected::Tree(tree), Ok(laid)) => (tree, laid),
        (expected, laid) => return Err(format!("expected {expected:?}, found {laid:?}").into()),
    };
    let mut expected = tree.clone();
    if let (Form::Overlay(namespace), Some(overlay)) = (form, &case.overlay) {
        expected = overlay.replace("OVERLAY.", namespace.prefix());
    }
    let mut expected = Tree::parse(&expected);
    if *run::power() != Power::Root {
        expected = run::as_user(expected);
    }
    compare(&expected, &laid.tree)?;
    if let (Form::Overlay(_), Some(layout)) = (form, &laid.layout) {
        if layout.lowerdir.len() < 2 {
            return Err("fewer than two lowerdirs".into());
        }
        for (layer, listing) in &case.layers {
            if laid.layers[*layer] != *listing {
                return Err(format!("layer {layer}: {:?} instead of {listing:?}", laid.layers[*layer]).into());
            }
        }
    }
    Ok(())
}
