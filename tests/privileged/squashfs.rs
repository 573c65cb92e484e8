//! SquashFS images: what the kernel shows of them, of every stack in fixtures/stacks and of more.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use layflat::export::flat_squashfs;
use layflat::fs::{Destination, Output};
use layflat::image::Image;
use layflat::{LossKind, NoProgress, Options, Report};
use libtest_mimic::Failed;

use crate::common::cases::{self, Case, Expected, compare};
use crate::common::harness::Trial;
use crate::common::loops::Mounted;
use crate::common::oracle;
use crate::common::run::{self, Scratch};
use crate::common::tar;
use crate::common::text::{Attributes, Entry, Kind, Layer, Stack};
use crate::common::tools;
use crate::common::tree::Tree;

type Test = (&'static str, fn() -> Result<(), Failed>);

pub(crate) fn trials() -> Vec<Trial> {
    let root = run::is_root();
    let tests: [Test; 4] = [
        ("names_devices_links_and_attributes_come_out", awkward),
        ("what_it_cannot_hold_is_reported", lost),
        ("an_ordinary_user_has_every_owner_mode_and_device", as_user),
        ("the_same_bytes_come_out_again", again),
    ];
    let mut trials: Vec<Trial> =
        tests.into_iter().map(|(name, test)| Trial::test(name, test).with_ignored_flag(!root)).collect();
    for case in cases::all() {
        let name = format!("stacks::{}", case.name);
        trials.push(Trial::test(name, move || check(&case)).with_ignored_flag(!root));
    }
    trials
}

/// An image in a file of its own.
struct Made {
    place: Scratch,
    report: Report,
}

impl Made {
    fn new(image: &Image, options: &Options) -> Result<Self, String> {
        tools::need(&["sqfstar", "unsquashfs"]);
        let place = Scratch::new(&std::env::temp_dir());
        let destination = Destination::File(place.0.join("image"));
        let output = Output::create_seekable(destination, false, true).map_err(|error| error.to_string())?;
        let report = flat_squashfs(image, &output, options, &NoProgress);
        let report = report.map_err(|error| layflat::core::chain::Chain(&error).to_string())?;
        output.publish().unwrap();
        Ok(Self { place, report })
    }

    fn path(&self) -> PathBuf {
        self.place.0.join("image")
    }

    fn tree(&self) -> Tree {
        Tree::of_directory(Mounted::new(&self.path(), "squashfs", "loop,ro").path())
    }
}

/// The times and the attributes that SquashFS does not hold.
fn as_held(mut tree: Tree) -> Tree {
    for node in tree.0.values_mut() {
        let attributes = &mut node.attributes;
        attributes.mtime = (attributes.mtime.0.clamp(0, u32::MAX.into()), 0);
        attributes
            .xattrs
            .retain(|name, _| !name.starts_with(b"system.") && !name.iter().any(|byte| b"%=".contains(byte)));
    }
    tree
}

fn check(case: &Case) -> Result<(), Failed> {
    match (&case.expected, Made::new(&run::image_of(&case.stack), &Options::default())) {
        (Expected::Reject(words), Err(error)) if error.contains(words) => Ok(()),
        (Expected::Tree(tree), Ok(made)) => compare(&as_held(Tree::parse(tree)), &as_held(made.tree())),
        (expected, found) => Err(format!("expected {expected:?}, found {:?}", found.map(drop)).into()),
    }
}

fn entry(name: impl Into<Vec<u8>>, kind: Kind) -> Entry {
    Entry { name: name.into(), attributes: Attributes::default_of(&kind), kind }
}

pub(crate) fn layer() -> Layer {
    let mut root = entry("./", Kind::Directory);
    root.attributes = Attributes { mode: 0o1750, uid: 70_000, gid: 4_000_000_000, mtime: (7, 0), ..root.attributes };
    root.attributes.xattrs.insert(b"trusted.of-the-root".to_vec(), b"value".to_vec());
    let mut layer = vec![root];
    for name in [" ", "a b", "\"", "'", "a\nb", "<12>", "\\", "\x01", "-f", "...", "root", "*", "[a]"] {
        let mut file = entry(format!("names/{name}"), Kind::File(name.into()));
        (file.attributes.uid, file.attributes.gid, file.attributes.mode) = (65_536, 4_294_967_294, 0o6755);
        layer.push(file);
    }
    layer.push(entry([&[b'd'; 255][..], b"/", &[b'x'; 255]].concat(), Kind::Fifo));
    for (major, minor) in [(0, 0), (1, 3), (255, 255), (255, 256), (256, 0), (7, 70_000), (4095, 1_048_575)] {
        layer.push(entry(format!("c-{major}-{minor}"), Kind::Character(major, minor)));
        layer.push(entry(format!("b-{major}-{minor}"), Kind::Block(major, minor)));
    }
    let with = |name: &str, kind: Kind, xattr: &str, value: Vec<u8>| {
        let mut entry = entry(name, kind);
        entry.attributes.xattrs.insert(xattr.into(), value);
        entry
    };
    let capability = vec![1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    layer.push(with("ping", Kind::File(b"1".to_vec()), "security.capability", capability));
    layer.push(with("link", Kind::Symlink(b"to".to_vec()), "trusted.x", b"a\n\0b".to_vec()));
    layer.push(with("pipe", Kind::Fifo, "trusted.overlay.opaque", b"y".to_vec()));
    layer.push(with("large", Kind::File(vec![b'l'; 500_000]), "user.large", vec![b'x'; 60_000]));
    layer.push(entry("hard", Kind::HardLink(b"large".to_vec())));
    layer.push(entry("hard-link", Kind::HardLink(b"link".to_vec())));
    layer.push(entry("hard-pipe", Kind::HardLink(b"pipe".to_vec())));
    // More names than a block of metadata has.
    layer.extend((0..2000).map(|n| entry(format!("many/{n}"), Kind::File(format!("{n}").into()))));
    layer
}

fn awkward() -> Result<(), Failed> {
    let stack = Stack(vec![layer()]);
    let expected = oracle::show(&stack).map_err(|refused| format!("{refused:?}"))?;
    let made = Made::new(&run::image_of(&stack), &Options { strict: true, ..Options::default() })?;
    compare(&expected, &made.tree())
}

fn lost() -> Result<(), Failed> {
    let acl = "system.posix_acl_access";
    let value: Vec<u8> = [2, 0, 0, 0]
        .into_iter()
        .chain(
            [(1u16, 6u16, u32::MAX), (2, 7, 1000), (4, 4, u32::MAX), (0x10, 7, u32::MAX), (0x20, 0, u32::MAX)]
                .iter()
                .flat_map(|(tag, bits, id)| [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat()),
        )
        .collect();
    let mut file = entry("a", Kind::File(b"1".to_vec()));
    file.attributes.xattrs.insert(acl.into(), value);
    file.attributes.xattrs.insert(b"user.a%3Db".to_vec(), b"1".to_vec());
    let mut old = entry("old", Kind::File(b"1".to_vec()));
    old.attributes.mtime = (-5, 0);
    let mut late = entry("late", Kind::File(b"1".to_vec()));
    late.attributes.mtime = (5, 6);
    let image = run::image_of(&Stack(vec![vec![file, old, late]]));
    let made = Made::new(&image, &Options::default())?;
    let kinds: Vec<LossKind> = made.report.not_kept.iter().map(|loss| loss.kind).collect();
    assert_eq!(kinds, [LossKind::Xattr, LossKind::Acl, LossKind::Time, LossKind::Time]);
    assert_eq!(made.tree().0[&b"old"[..]].attributes.mtime, (0, 0));
    assert!(Made::new(&image, &Options { strict: true, ..Options::default() }).is_err());
    Ok(())
}

fn as_user() -> Result<(), Failed> {
    tools::need(&["sqfstar", "unsquashfs"]);
    let place = Scratch::new(&std::env::temp_dir());
    fs::set_permissions(&place.0, PermissionsExt::from_mode(0o777))?;
    let layer = layer();
    fs::write(place.0.join("0.tar"), tar::archive(&layer))?;
    let mut command = tools::command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_layflat")]);
    command.args(["flatten", "--quiet", "--no-cache", "--strict", "layers:0.tar", "-o", "image.squashfs"]);
    let output = command.current_dir(&place.0).env("HOME", &place.0).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = oracle::show(&Stack(vec![layer])).map_err(|refused| format!("{refused:?}"))?;
    let mounted = Mounted::new(&place.0.join("image.squashfs"), "squashfs", "loop,ro");
    compare(&expected, &Tree::of_directory(mounted.path()))
}

fn again() -> Result<(), Failed> {
    let image = run::image_of(&Stack(vec![layer()]));
    let make = |jobs| {
        let options = Options { jobs: std::num::NonZero::new(jobs), ..Options::default() };
        Made::new(&image, &options).map(|made| fs::read(made.path()).unwrap())
    };
    let first = make(1)?;
    // A second later, since times have seconds.
    assert!(Command::new("sleep").arg("1.1").status()?.success());
    assert!(first == make(4)?, "other bytes the second time");
    Ok(())
}
