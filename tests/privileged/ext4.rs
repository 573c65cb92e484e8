//! ext4 images: what the kernel shows of them, of every stack in fixtures/stacks and of what cannot be written in a line there. `e2fsck` looks
//! at every image, too, as it does whenever one is made.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use fastrand::Rng;
use layflat::compare::CompareOptions;
use layflat::export::{Ext4, flat_ext4};
use layflat::ext4::Size;
use layflat::fs::{Destination, Output};
use layflat::image::Image;
use layflat::{LossKind, NoProgress, Options, Report, flatten};
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
    let mounted: [Test; 10] = [
        ("every_size_of_file_and_link_comes_out", sizes),
        ("attributes_come_out_as_far_as_there_is_room", attributes),
        ("what_the_kernel_refuses_to_set_is_lost_and_reported", lost),
        ("a_directory_of_100_000_names_is_found_through", large_directory),
        ("sparse_files_keep_their_holes", sparse),
        ("more_names_than_a_file_can_have_are_those_of_a_copy", many_names),
        ("the_size_is_what_was_asked_for", size_options),
        ("label_and_uuid_are_what_was_asked_for", label_and_uuid),
        ("it_can_be_written_to", writable),
        ("one_with_nothing_in_it_can_be_written_to", empty),
    ];
    let trial = |(name, test): Test| Trial::test(name, test).with_ignored_flag(!root);
    let mut trials: Vec<Trial> = mounted.into_iter().map(trial).collect();
    trials.push(trial(("an_ordinary_user_makes_the_same_bytes", same_as_user)));
    trials.push(Trial::test("the_same_bytes_come_out_again", again));
    trials.push(Trial::test("options_of_other_formats_are_refused", other_formats));
    // What a stack shows is the same for all images of it: here it is the writer that is tried.
    let is_tried = |number| cases::in_turn(number, &[true, false, false]).contains(&true);
    for (_, case) in cases::all().into_iter().enumerate().filter(|(number, _)| is_tried(*number)) {
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
    fn new(image: &Image, ext4: &Ext4, options: &Options) -> Result<Self, String> {
        tools::need(&["e2fsck"]);
        let place = Scratch::new(&std::env::temp_dir());
        let destination = Destination::File(place.0.join("image"));
        let output = Output::create_seekable(destination, false, true).map_err(|error| error.to_string())?;
        let report = flat_ext4(image, ext4, &output, options, &NoProgress);
        let report = report.map_err(|error| layflat::core::chain::Chain(&error).to_string())?;
        output.publish().unwrap();
        Ok(Self { place, report })
    }

    fn path(&self) -> PathBuf {
        self.place.0.join("image")
    }

    fn fsck(&self) -> Result<(), String> {
        let output = Command::new("e2fsck").arg("-fn").arg(self.path()).output().unwrap();
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("e2fsck: {}", String::from_utf8_lossy(&output.stdout))),
        }
    }

    fn mount(&self, options: &str) -> Mounted {
        Mounted::new(&self.path(), "ext4", options)
    }
}

fn made(image: &Image) -> Result<Made, String> {
    Made::new(image, &Ext4::default(), &Options::default())
}

/// What the kernel shows.
fn shown(image: &Image) -> Result<Tree, String> {
    Ok(Tree::of_directory(made(image)?.mount("loop,ro").path()))
}

fn check(case: &Case) -> Result<(), Failed> {
    match (&case.expected, shown(&run::image_of(&case.stack))) {
        (Expected::Reject(words), Err(error)) if error.contains(words) => Ok(()),
        (Expected::Tree(tree), Ok(found)) => compare(&Tree::parse(tree), &found),
        (expected, found) => Err(format!("expected {expected:?}, found {found:?}").into()),
    }
}

fn entry(name: impl Into<Vec<u8>>, kind: Kind) -> Entry {
    Entry { name: name.into(), attributes: Attributes::default_of(&kind), kind }
}

fn random_bytes(random: &mut Rng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// What the oracle shows.
fn comes_out(stack: &Stack) -> Result<(), Failed> {
    let expected = oracle::show(stack).map_err(|refused| format!("{refused:?}"))?;
    compare(&expected, &shown(&run::image_of(stack))?)
}

fn sizes() -> Result<(), Failed> {
    let mut random = Rng::with_seed(1);
    let mut layer: Layer = Vec::new();
    for size in [0, 1, 511, 4095, 4096, 4097, 8191, 8192, 12_289, 300_000, 1_048_576] {
        layer.push(entry(format!("file-{size}"), Kind::File(random_bytes(&mut random, size))));
    }
    for length in [1, 58, 59, 60, 61, 1500, 4000, 4095] {
        layer.push(entry(format!("link-{length}"), Kind::Symlink(vec![b'l'; length])));
    }
    layer.push(entry(vec![b'n'; 255], Kind::Directory));
    for first in [b'a', b'b', b'.', b'-', b'\n', b'"', 0xff] {
        let mut name = [&[b'n'; 255][..], b"/", &[b'x'; 255]].concat();
        name[256] = first;
        layer.push(entry(name, Kind::File(b"long".to_vec())));
    }
    for name in [" ", "a b", "\"", "'", "a\nb", "<12>", "\\", "\x01", "\x7f", "-f", "...", "lost+found"] {
        layer.push(entry(format!("names/{name}"), Kind::Fifo));
        layer.push(entry(format!("{name}-directory"), Kind::Directory));
    }
    for links in 0..300 {
        layer.push(entry(format!("linked/{links}"), Kind::HardLink(b"file-4097".to_vec())));
    }
    for (major, minor) in [(0, 0), (1, 3), (255, 255), (255, 256), (256, 0), (4095, 1_048_575)] {
        layer.push(entry(format!("c-{major}-{minor}"), Kind::Character(major, minor)));
        layer.push(entry(format!("b-{major}-{minor}"), Kind::Block(major, minor)));
    }
    comes_out(&Stack(vec![layer]))
}

fn attributes() -> Result<(), Failed> {
    let mut random = Rng::with_seed(2);
    let mut with = |name: &str, kind: Kind, xattrs: &[(&str, usize)]| {
        let mut entry = entry(name, kind);
        for &(xattr, length) in xattrs {
            entry.attributes.xattrs.insert(xattr.into(), random_bytes(&mut random, length));
        }
        entry
    };
    let file = || Kind::File(b"content".to_vec());
    let many: Vec<(String, usize)> = (0..60).map(|n| (format!("user.n{n}"), n % 40)).collect();
    let many: Vec<(&str, usize)> = many.iter().map(|(name, length)| (name.as_str(), *length)).collect();
    let mut layer = vec![
        with("many", Kind::Directory, &many),
        with("fills-a-block", file(), &[("user.x", 4000), ("user.small", 10)]),
        with("fills-the-inode", file(), &[("user.x", 68)]),
        with("overfills-the-inode", file(), &[("user.x", 69)]),
        with("empty", file(), &[("user.x", 0)]),
        with("link", Kind::Symlink(b"to".to_vec()), &[("trusted.x", 100), ("security.y", 5)]),
        with("long-link", Kind::Symlink(vec![b'x'; 100]), &[("trusted.x", 200)]),
        with("pipe", Kind::Fifo, &[("trusted.x", 600)]),
        with("caf\u{e9}", file(), &[("user.caf\u{e9}", 10), ("user.caf\u{e9}-2", 700)]),
    ];
    for (n, mtime) in [(0, -2_147_483_648), (1, -1), (2, 0), (3, 2_147_483_648), (4, 15_032_385_535)] {
        let mut file = entry(format!("time-{n}"), file());
        file.attributes.mtime = (mtime, 123_456_789);
        (file.attributes.uid, file.attributes.gid) = (65_534 + n, 4_294_967_294 - n);
        file.attributes.mode = 0o7000 + n;
        layer.push(file);
    }
    comes_out(&Stack(vec![layer]))?;
    // What there is no room for: the small ones stay, and those that say who may do what.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut large = entry("large", Kind::File(b"1".to_vec()));
    large.attributes.xattrs.insert(b"user.a".to_vec(), vec![b'a'; 5000]);
    large.attributes.xattrs.insert(b"user.b".to_vec(), vec![b'b'; 3000]);
    large.attributes.xattrs.insert(b"user.c".to_vec(), vec![b'c'; 2000]);
    large.attributes.xattrs.insert(b"security.capability".to_vec(), capability.to_vec());
    large.attributes.mtime = (15_032_385_536, 0);
    let made = made(&run::image_of(&Stack(vec![vec![large]])))?;
    let found = Tree::of_directory(made.mount("loop,ro").path());
    let attributes = &found.0[&b"large"[..]].attributes;
    let names: Vec<_> = attributes.xattrs.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    assert_eq!(names, ["security.capability", "user.c"]);
    assert_eq!(attributes.mtime.0, 15_032_385_535);
    let lost: Vec<(LossKind, u64)> = made.report.not_kept.iter().map(|loss| (loss.kind, loss.count)).collect();
    assert_eq!(lost, [(LossKind::Xattr, 1), (LossKind::Xattr, 1), (LossKind::Time, 1)]);
    Ok(())
}

/// A flat image is the flat tree where the kernel would not take an attribute, too.
fn lost() -> Result<(), Failed> {
    let acl = |entries: &[(u16, u16, u32)]| {
        let entries = entries
            .iter()
            .flat_map(|(tag, bits, id)| [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat());
        [2, 0, 0, 0].into_iter().chain(entries).collect::<Vec<u8>>()
    };
    const NONE: u32 = u32::MAX;
    let plain = acl(&[(1, 6, NONE), (4, 4, NONE), (0x20, 4, NONE)]);
    let masked = acl(&[(1, 6, NONE), (2, 7, 1000), (4, 4, NONE), (8, 1, 7), (0x10, 7, NONE), (0x20, 0, NONE)]);
    let unmasked = acl(&[(1, 6, NONE), (2, 7, 1000), (4, 4, NONE), (0x20, 0, NONE)]);
    let (access, default) = ("system.posix_acl_access", "system.posix_acl_default");
    let file = || Kind::File(b"1".to_vec());
    let cases: Vec<(&str, Kind, &str, &[u8])> = vec![
        ("a-plain", file(), access, &plain),
        ("a-masked", file(), access, &masked),
        ("a-bad", file(), access, &unmasked),
        ("a-default", file(), default, &masked),
        ("d", Kind::Directory, default, &masked),
        ("d-plain", Kind::Directory, default, &plain),
        ("l-user", Kind::Symlink(b"x".to_vec()), "user.x", b"1"),
        ("p-acl", Kind::Fifo, access, &masked),
        ("f-caps", file(), "security.capability", b"nonsense"),
        ("f-unknown", file(), "lustre.lov", b"1"),
    ];
    let with = |(name, kind, xattr, value): (&str, Kind, &str, &[u8])| {
        let mut entry = entry(name, kind);
        entry.attributes.xattrs.insert(xattr.into(), value.to_vec());
        entry
    };
    let image = run::image_of(&Stack(vec![cases.into_iter().map(with).collect()]));
    let scratch = Scratch::new(run::tmpfs());
    let flat = scratch.0.join("flat");
    let expected = flatten(&image, &flat, &Options::default(), &NoProgress)?;
    let made = made(&image)?;
    let mounted = made.mount("loop,ro");
    let differences = layflat::compare::compare(&flat, mounted.path(), &CompareOptions::default())?;
    assert_eq!(differences.iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
    let counted = |report: &Report, kind| -> u64 {
        report.not_kept.iter().filter(|loss| loss.kind == kind).map(|loss| loss.count).sum()
    };
    for kind in [LossKind::Acl, LossKind::Xattr] {
        assert_eq!(counted(&made.report, kind), counted(&expected, kind));
    }
    let strict = Options { strict: true, ..Options::default() };
    assert!(Made::new(&image, &Ext4::default(), &strict).is_err());
    Ok(())
}

fn large_directory() -> Result<(), Failed> {
    let names: Vec<String> = (0..100_000).map(|n| format!("name-{}-{n}", "x".repeat(n % 50))).collect();
    let layer: Layer = names.iter().map(|name| entry(format!("d/{name}"), Kind::File(name[..5].into()))).collect();
    let made = made(&run::image([tar::archive(&layer)]))?;
    let mounted = made.mount("loop,ro");
    let directory = mounted.path().join("d");
    let mut found: Vec<String> =
        fs::read_dir(&directory)?.map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    let mut expected = names.clone();
    expected.sort();
    assert!(found == expected, "{} names instead of {}", found.len(), expected.len());
    for name in names.iter().step_by(997) {
        assert_eq!(fs::read(directory.join(name))?, b"name-");
    }
    Ok(())
}

/// Few and many fragments, over the ends of groups, with extents in trees of every depth.
fn sparse() -> Result<(), Failed> {
    let size: u64 = 60 << 30;
    let few = vec![(0, b"first".to_vec()), ((31 << 30) + 4093, b"third".to_vec()), (size - 6, b"fourth".to_vec())];
    let scattered = |count: u64, step: u64| -> Vec<(u64, Vec<u8>)> {
        (0..count).map(|n| (n * step + n % 4000, n.to_le_bytes().to_vec())).collect()
    };
    let files = [few, vec![], scattered(5, 20_000), scattered(1000, 20_000), scattered(40_000, 1 << 20)];
    for data in files {
        let made = made(&run::image([tar::sparse_archive(size, &data)]))?;
        assert!(fs::metadata(made.path())?.blocks() < 400 << 11, "the image is not sparse");
        let mounted = made.mount("loop,ro");
        let file = fs::File::open(mounted.path().join("sparse"))?;
        assert_eq!(file.metadata()?.size(), size);
        for (offset, content) in data.iter().step_by(data.len() / 500 + 1) {
            let from = offset.saturating_sub(4096);
            let mut found = vec![1; (offset - from) as usize + content.len()];
            file.read_exact_at(&mut found, from)?;
            let (before, here) = found.split_at((offset - from) as usize);
            assert_eq!(here, *content);
            assert!(before.iter().all(|&byte| byte == 0), "at {offset}");
        }
    }
    Ok(())
}

fn many_names() -> Result<(), Failed> {
    let mut layer = vec![entry("d/0", Kind::File(b"content".to_vec()))];
    layer.extend((1..65_010).map(|n| entry(format!("d/{n}"), Kind::HardLink(b"d/0".to_vec()))));
    layer.extend((0..65_010).map(|n| entry(format!("e/{n}"), Kind::Directory)));
    let made = made(&run::image([tar::archive(&layer)]))?;
    let mounted = made.mount("loop,ro");
    let links: Vec<u64> =
        (0..65_010).map(|n| fs::metadata(mounted.path().join(format!("d/{n}"))).unwrap().nlink()).collect();
    let counted = |count| links.iter().filter(|&&links| links == count).count();
    assert_eq!((counted(65_000), counted(10)), (65_000, 10));
    assert_eq!(fs::metadata(mounted.path().join("e"))?.nlink(), 1);
    assert_eq!(fs::read_dir(mounted.path().join("e"))?.count(), 65_010);
    assert_eq!(made.report.not_kept.iter().map(|loss| loss.kind).collect::<Vec<_>>(), [LossKind::HardLink]);
    Ok(())
}

fn small() -> Image {
    run::image_of(&Stack::parse("F a(text), D d, F d/b | F c"))
}

fn size_options() -> Result<(), Failed> {
    let with = |size| Made::new(&small(), &Ext4 { size, ..Ext4::default() }, &Options::default());
    for size in [1 << 20, 5 << 20, 64 << 20, (128 << 20) + 5 * 4096, 3 << 30, (200 << 30) + 12_345] {
        let made = with(Size::Total(size))?;
        assert_eq!(fs::metadata(made.path())?.size(), size);
        assert_eq!(fs::read(made.mount("loop,ro").path().join("d/b"))?, b"b");
    }
    for free in [0, 1, 500 << 20, 10 << 30] {
        let made = with(Size::Free(free))?;
        let mounted = made.mount("loop,ro");
        let there = rustix::fs::statvfs(mounted.path())?;
        let (room, most) = (there.f_bavail * there.f_frsize, free + (10 << 20));
        assert!((free..most).contains(&room), "{room} bytes free instead of {free}");
        assert!(there.f_favail * (16 << 10) >= free, "{} inodes", there.f_favail);
    }
    let error = with(Size::Total(40_000)).map(drop).unwrap_err();
    assert!(error.contains("the file system needs at least"), "{error}");
    Ok(())
}

fn label_and_uuid() -> Result<(), Failed> {
    let uuid = *b"0123456789abcdef";
    let ext4 = Ext4 { label: b"root of all".to_vec(), uuid: Some(uuid), ..Ext4::default() };
    let made = Made::new(&small(), &ext4, &Options::default())?;
    let said = tools::command("dumpe2fs").arg("-h").arg(made.path()).output()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let field = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).map(str::to_owned);
    assert_eq!(field("Filesystem volume name:").as_deref(), Some("root of all"));
    assert_eq!(field("Filesystem UUID:").as_deref(), Some("30313233-3435-3637-3839-616263646566"));
    assert_eq!(field("Filesystem state:").as_deref(), Some("clean"));
    Ok(())
}

/// Through the journal, and with new files in old and new directories; and it can be made larger.
fn writable() -> Result<(), Failed> {
    let layer: Layer = (0..3000).map(|n| entry(format!("d/{n}"), Kind::File(b"old".to_vec()))).collect();
    let made = made(&run::image([tar::archive(&layer)]))?;
    {
        let mounted = made.mount("loop");
        let directory = mounted.path().join("d");
        for n in 0..3000 {
            fs::write(directory.join(format!("new-{n}")), vec![b'n'; n])?;
            if n % 3 == 0 {
                fs::remove_file(directory.join(n.to_string()))?;
            }
        }
        fs::create_dir_all(mounted.path().join("e/f/g"))?;
    }
    made.fsck()?;
    let forced = Command::new("e2fsck").arg("-fp").arg(made.path()).output()?;
    // 1: that it made lost+found.
    assert!(forced.status.code() <= Some(1), "{}", String::from_utf8_lossy(&forced.stdout));
    let grown = tools::command("resize2fs").arg(made.path()).arg("1G").output()?;
    assert!(grown.status.success(), "{}", String::from_utf8_lossy(&grown.stderr));
    made.fsck()?;
    let mounted = made.mount("loop,ro");
    assert_eq!(fs::read_dir(mounted.path().join("d"))?.count(), 5000);
    assert_eq!(fs::read(mounted.path().join("d/new-2999"))?.len(), 2999);
    Ok(())
}

/// The kernel refuses inodes that are reserved, and must not be offered them.
fn empty() -> Result<(), Failed> {
    let made = made(&run::image_of(&Stack(vec![Layer::new()])))?;
    made.fsck()?;
    {
        let mounted = made.mount("loop");
        let file = mounted.path().join("file");
        fs::write(&file, b"new")?;
        assert!(fs::metadata(&file)?.ino() >= 11, "inode {}", fs::metadata(&file)?.ino());
    }
    made.fsck()?;
    assert_eq!(fs::read(made.mount("loop,ro").path().join("file"))?, b"new");
    Ok(())
}

const LAYFLAT: &str = env!("CARGO_BIN_EXE_layflat");

/// The layers of an image that an ordinary user could not unpack as they are.
fn awkward(place: &Path) {
    let stack = "D .(750,5:6,m=7), D d(1777,5:4000000000,m=2), F d/a(text,4755,7:8,trusted.t=v,user.k=v), F shut(secret,0), \
                 D closed(0,1:1), F closed/in, L s->../x, C null:1.3(666), C zero:0.0, B b:7.0, P p, F old | H link=d/a, W b";
    for (index, layer) in Stack::parse(stack).0.iter().enumerate() {
        fs::write(place.join(format!("{index}.tar")), tar::archive(layer)).unwrap();
    }
}

fn command(place: &Path, user: Option<&str>, arguments: &[&str]) -> (bool, String) {
    let mut command = match user {
        None => Command::new(LAYFLAT),
        Some(user) => {
            let mut command = tools::command("setpriv");
            command.args(["--reuid", user, "--regid", user, "--clear-groups", LAYFLAT]);
            command
        }
    };
    command.args(arguments).current_dir(place).env("HOME", place).env("XDG_CACHE_HOME", place.join("cache"));
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn same_as_user() -> Result<(), Failed> {
    let place = Scratch::new(&std::env::temp_dir());
    fs::set_permissions(&place.0, PermissionsExt::from_mode(0o777))?;
    awkward(&place.0);
    let make = |user, file: &str| {
        let arguments = ["flatten", "--quiet", "--no-cache", "--strict", "layers:0.tar,1.tar", "-o", file];
        let (success, said) = command(&place.0, user, &arguments);
        assert!(success, "{said}");
        fs::read(place.0.join(file)).unwrap()
    };
    assert!(make(None, "root.ext4") == make(Some("65534"), "user.ext4"), "other bytes for an ordinary user");
    Ok(())
}

fn again() -> Result<(), Failed> {
    let make = |jobs: usize| -> Result<Vec<u8>, Failed> {
        let options = Options { jobs: std::num::NonZero::new(jobs), ..Options::default() };
        Ok(fs::read(Made::new(&small(), &Ext4::default(), &options)?.path())?)
    };
    assert!(make(1)? == make(4)?, "other bytes with more jobs");
    Ok(())
}

fn other_formats() -> Result<(), Failed> {
    let place = Scratch::new(&std::env::temp_dir());
    awkward(&place.0);
    let refused = |arguments: &[&str], words: &str| {
        let (success, said) = command(&place.0, None, &[&["flatten", "layers:0.tar"], arguments].concat());
        assert!(!success && said.contains(words), "{arguments:?}: {said}");
    };
    refused(&["-o", "x.tar", "--size", "1G"], "--size is only for ext4 images");
    refused(&["-o", "x.erofs", "--label", "a"], "--label is only for ext4 images");
    refused(&["-o", "x.img"], "--to tar|erofs|squashfs|ext4 is needed");
    refused(&["-o", "x.ext4", "--label", "seventeen letters"], "at most 16");
    refused(&["-o", "x.ext4", "--uuid", "0123"], "32 hexadecimal digits");
    refused(&["-o", "x.ext4", "--size", "+x"], "expected a number");
    refused(&["-o", "x.ext4", "--size", "64K"], "--size +FREE");
    assert_eq!(fs::read_dir(&place.0)?.count(), 2, "something is left");
    Ok(())
}
