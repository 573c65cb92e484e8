//! EROFS images of what cannot be written in a line of fixtures/stacks: every size of file, large directories, sparse files, many layers, the
//! archives of other tools, and random trees. What counts is what the kernel shows; `fsck.erofs` looks at every image, too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::num::NonZero;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use fastrand::Rng;
use layflat::compare::CompareOptions;
use layflat::core::record::LayerPath;
use layflat::core::reference::Reference;
use layflat::core::stack::{Reading, Stack as LayerStack};
use layflat::erofs::{BlockSize, Device, Lost, Options as ErofsOptions, Plan, Shape};
use layflat::export::flat_erofs;
use layflat::image::Image;
use layflat::transport::source;
use layflat::{LossKind, NoProgress, Options, XattrNamespace, flatten};
use libtest_mimic::Failed;

use crate::common::cases::compare;
use crate::common::erofs::{self, Where};
use crate::common::harness::Trial;
use crate::common::oracle;
use crate::common::run::{self, Scratch};
use crate::common::tar;
use crate::common::text::{Attributes, Entry, Kind, Layer, Stack};

type Test = (&'static str, fn() -> Result<(), Failed>);

pub(crate) fn trials() -> Vec<Trial> {
    let tests: [Test; 8] = [
        ("every_size_of_file_and_link_comes_out", sizes),
        ("large_and_shared_attributes_come_out", attributes),
        ("what_the_kernel_refuses_to_set_is_lost_and_reported", lost),
        ("a_directory_of_100_000_names_is_found_through", large_directory),
        ("a_sparse_file_of_60_gigabytes_takes_little", sparse),
        ("500_layers_are_mounted_and_more_as_one", many_layers),
        ("archives_of_other_tools_are_as_they_unpack", archives),
        ("random_trees_come_out", random_trees),
    ];
    let mut trials: Vec<Trial> =
        tests.into_iter().map(|(name, test)| Trial::test(name, test).with_ignored_flag(!erofs::can_mount())).collect();
    trials.push(Trial::test("what_cannot_be_addressed_is_an_error", limits));
    trials.push(Trial::test("however_many_threads_encode_it_an_image_is_the_same", threads));
    trials.push(Trial::test("a_time_that_many_share_is_found_among_many_times", times));
    trials
}

fn entry(name: impl Into<Vec<u8>>, kind: Kind) -> Entry {
    Entry { name: name.into(), attributes: Attributes::default_of(&kind), kind }
}

fn random_bytes(random: &mut Rng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// In all shapes, what the oracle shows.
fn comes_out(stack: &Stack) -> Result<(), Failed> {
    let archives: Vec<Vec<u8>> = stack.0.iter().map(tar::archive).collect();
    let expected = oracle::show(stack).map_err(|refused| format!("{refused:?}"))?;
    for shape in [Shape::Merged, Shape::Layered(XattrNamespace::Trusted)] {
        for place in [Where::Carried, Where::Devices] {
            let found =
                erofs::show(&archives, shape, place).map_err(|error| format!("{shape:?} {place:?}: {error}"))?;
            compare(&expected, &found)?;
        }
    }
    Ok(())
}

fn sizes() -> Result<(), Failed> {
    let mut random = Rng::with_seed(1);
    let mut layer: Layer = Vec::new();
    for size in [0, 1, 511, 512, 513, 1024, 4031, 4032, 4033, 4095, 4096, 4097, 8191, 8192, 12_289, 300_000, 1_048_576]
    {
        layer.push(entry(format!("file-{size}"), Kind::File(random_bytes(&mut random, size))));
    }
    for length in [1, 447, 448, 449, 511, 512, 513, 1500, 4000, 4032, 4095] {
        layer.push(entry(format!("link-{length}"), Kind::Symlink(vec![b'l'; length])));
    }
    layer.push(entry(vec![b'n'; 255], Kind::Directory));
    for first in [b'a', b'b', b'.', b'-', 0xff] {
        let mut name = [&[b'n'; 255][..], b"/", &[b'x'; 255]].concat();
        name[256] = first;
        layer.push(entry(name, Kind::File(b"long".to_vec())));
    }
    // Names that sort before, between and behind `.` and `..`.
    for name in ["!", "-", ".!", ".-", "...", "..!", "./.a", "0", "\x01"] {
        layer.push(entry(format!("dots/d{name}"), Kind::Fifo));
        layer.push(entry(format!("dots/{name}"), Kind::Directory));
    }
    for links in 0..300 {
        layer.push(entry(format!("linked/{links}"), Kind::HardLink(b"file-4097".to_vec())));
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
    let many: Vec<(String, usize)> = (0..400).map(|n| (format!("user.n{n}"), n % 40)).collect();
    let many: Vec<(&str, usize)> = many.iter().map(|(name, length)| (name.as_str(), *length)).collect();
    let file = || Kind::File(b"content".to_vec());
    let mut layer = vec![
        with("large", file(), &[("user.a", 65_535), ("trusted.b", 65_535), ("security.c", 60_000), ("user.d", 1)]),
        with("larger", file(), &[("user.a", 60_000), ("user.b", 60_000), ("user.c", 60_000), ("user.e", 60_000)]),
        with("many", Kind::Directory, &many),
        with("fills-a-block", file(), &[("user.x", 4000)]),
        with("overfills-a-block", file(), &[("user.x", 4050)]),
        with("empty", file(), &[("user.x", 0)]),
        with("link", Kind::Symlink(b"to".to_vec()), &[("trusted.x", 100), ("security.y", 5)]),
        with("pipe", Kind::Fifo, &[("trusted.x", 600)]),
    ];
    for n in 0..50 {
        let mut shared = entry(format!("shared-{n}"), file());
        shared.attributes.xattrs.insert(b"user.same".to_vec(), vec![b's'; 700]);
        shared.attributes.xattrs.insert(b"user.own".to_vec(), format!("{n}").into());
        shared.attributes.mtime = (-5 + n, 123_456_789);
        (shared.attributes.uid, shared.attributes.gid) = (65_530 + n as u32 * 2, 4_294_967_294 - n as u32);
        layer.push(shared);
    }
    comes_out(&Stack(vec![layer]))
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
    let masked = acl(&[(1, 6, NONE), (2, 7, 1000), (4, 4, NONE), (0x10, 7, NONE), (0x20, 0, NONE)]);
    let unmasked = acl(&[(1, 6, NONE), (2, 7, 1000), (4, 4, NONE), (0x20, 0, NONE)]);
    let (access, default) = ("system.posix_acl_access", "system.posix_acl_default");
    let cases: Vec<(&str, Kind, &str, &[u8])> = vec![
        ("a-plain", Kind::File(b"1".to_vec()), access, &plain),
        ("a-masked", Kind::File(b"1".to_vec()), access, &masked),
        ("a-bad", Kind::File(b"1".to_vec()), access, &unmasked),
        ("a-nonsense", Kind::File(b"1".to_vec()), access, b"nonsense"),
        ("a-default", Kind::File(b"1".to_vec()), default, &masked),
        ("d", Kind::Directory, default, &masked),
        ("d-plain", Kind::Directory, default, &plain),
        ("d-bad", Kind::Directory, default, &unmasked),
        ("l-user", Kind::Symlink(b"x".to_vec()), "user.x", b"1"),
        ("l-acl", Kind::Symlink(b"x".to_vec()), access, &masked),
        ("p-user", Kind::Fifo, "user.x", b"1"),
        ("p-acl", Kind::Fifo, access, &masked),
        ("f-caps", Kind::File(b"1".to_vec()), "security.capability", b"nonsense"),
        ("f-nameless", Kind::File(b"1".to_vec()), "user.", b"1"),
        ("f-unknown", Kind::File(b"1".to_vec()), "lustre.lov", b"1"),
    ];
    let mut layer = Vec::new();
    for (name, kind, xattr, value) in cases {
        let mut entry = entry(name, kind);
        entry.attributes.xattrs.insert(xattr.into(), value.to_vec());
        layer.push(entry);
    }
    let image = run::image_of(&Stack(vec![layer]));
    let scratch = Scratch::new(run::tmpfs());
    let flat = scratch.0.join("flat");
    let expected = flatten(&image, &flat, &Options::default(), &NoProgress)?;
    let mut bytes = Vec::new();
    let report = flat_erofs(&image, &mut bytes, &scratch.0, &Options::default(), &NoProgress)?;
    let mounted = erofs::mounted(&bytes);
    let differences = layflat::compare::compare(&flat, mounted.path(), &CompareOptions::default())?;
    assert_eq!(differences.iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
    let counted = |report: &layflat::Report, kind| -> u64 {
        report.not_kept.iter().filter(|loss| loss.kind == kind).map(|loss| loss.count).sum()
    };
    for kind in [LossKind::Acl, LossKind::Xattr] {
        assert_eq!(counted(&report, kind), counted(&expected, kind), "{:?} {:?}", report.not_kept, expected.not_kept);
    }
    let strict = Options { strict: true, ..Options::default() };
    let mut none = Vec::new();
    flat_erofs(&image, &mut none, &scratch.0, &strict, &NoProgress).unwrap_err();
    assert!(none.is_empty(), "something was written of an image that is refused");
    Ok(())
}

fn large_directory() -> Result<(), Failed> {
    let names: Vec<String> = (0..100_000).map(|n| format!("name-{}-{n}", "x".repeat(n % 50))).collect();
    let layer: Layer = names.iter().map(|name| entry(format!("d/{name}"), Kind::File(name[..5].into()))).collect();
    let archives = [tar::archive(&layer)];
    let image = run::image(archives);
    let mut bytes = Vec::new();
    flat_erofs(&image, &mut bytes, Path::new("/tmp"), &Options::default(), &NoProgress)?;
    let mounted = erofs::mounted(&bytes);
    let directory = mounted.path().join("d");
    let mut found: Vec<String> =
        fs::read_dir(&directory)?.map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    let mut expected = names.clone();
    expected.sort();
    assert!(found == expected, "{} names instead of {}", found.len(), expected.len());
    for name in names.iter().step_by(97) {
        assert_eq!(fs::read(directory.join(name))?, b"name-");
        assert!(!directory.join(format!("{name}~")).exists());
    }
    Ok(())
}

fn sparse() -> Result<(), Failed> {
    let size = 60 << 30;
    let data: [(u64, &[u8]); 4] =
        [(0, b"first"), (5 << 30, b"second"), ((31 << 30) + 4093, b"third"), (size - 6, b"fourth")];
    for (size, data) in [(size, &data[..]), (size, &[]), (20_000, &[(4095, b"abc"), (9000, b"d")])] {
        let image = run::image([tar::sparse_archive(size, data)]);
        let mut bytes = Vec::new();
        flat_erofs(&image, &mut bytes, Path::new("/tmp"), &Options::default(), &NoProgress)?;
        assert!(bytes.len() < 16 << 20, "the image has {} bytes", bytes.len());
        let mounted = erofs::mounted(&bytes);
        let file = fs::File::open(mounted.path().join("sparse"))?;
        assert_eq!(file.metadata()?.size(), size);
        for (offset, content) in data {
            let from = offset.saturating_sub(5000);
            let mut found = vec![1; (offset - from) as usize + content.len()];
            file.read_exact_at(&mut found, from)?;
            let (before, here) = found.split_at((offset - from) as usize);
            assert_eq!(here, *content);
            assert!(data.len() == 2 || before.iter().all(|&byte| byte == 0));
        }
        let mut middle = [1; 100];
        file.read_exact_at(&mut middle, size / 2 + 5)?;
        assert_eq!(middle, [0; 100]);
    }
    Ok(())
}

fn many_layers() -> Result<(), Failed> {
    let layer = |n: usize| -> Layer {
        let mut layer = vec![
            entry(format!("layer-{n}"), Kind::File(format!("content of {n}").into())),
            entry("all", Kind::File(format!("{n}").into())),
        ];
        if n % 3 == 2 {
            layer.push(entry(format!("layer-{}", n - 1), Kind::Whiteout));
        }
        layer
    };
    let stack = Stack((0..500).map(layer).collect());
    comes_out(&stack)?;
    // Overlayfs takes no more; as one image there is no such limit.
    let archives: Vec<Vec<u8>> = (0..700).map(|n| tar::archive(&layer(n))).collect();
    let found = erofs::show(&archives, Shape::Merged, Where::Devices)?;
    let expected = oracle::show(&Stack((0..700).map(layer).collect())).map_err(|refused| format!("{refused:?}"))?;
    compare(&expected, &found)
}

fn archives() -> Result<(), Failed> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/archives");
    for archive in fs::read_dir(directory)? {
        let archive = archive?.path();
        let image = source::open(&Reference::Layers(vec![archive.clone()]), &source::OpenOptions::default())?;
        same_as_flat(&image).map_err(|error| format!("{archive:?}: {}", error.message().unwrap_or_default()))?;
    }
    let four = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/four-layers.tar");
    same_as_flat(&source::open(&Reference::Layers(vec![four]), &source::OpenOptions::default())?)
}

/// An EROFS image shows what `flatten` unpacks.
fn same_as_flat(image: &Image) -> Result<(), Failed> {
    let scratch = Scratch::new(Path::new("/tmp"));
    let flat = scratch.0.join("flat");
    flatten(image, &flat, &Options::default(), &NoProgress)?;
    let mut bytes = Vec::new();
    flat_erofs(image, &mut bytes, &scratch.0, &Options::default(), &NoProgress)?;
    let mounted = erofs::mounted(&bytes);
    let differences = layflat::compare::compare(&flat, mounted.path(), &CompareOptions::default())?;
    let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
    if lines.is_empty() { Ok(()) } else { Err(lines.join("\n").into()) }
}

/// `LAYFLAT_CASES=2000` tries so many.
fn random_trees() -> Result<(), Failed> {
    let cases = std::env::var("LAYFLAT_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(40);
    for seed in 0..cases {
        let mut random = Rng::with_seed(seed);
        let stack = Stack(vec![random_layer(&mut random)]);
        comes_out(&stack).map_err(|error| format!("seed {seed}: {}", error.message().unwrap_or_default()))?;
    }
    Ok(())
}

fn random_layer(random: &mut Rng) -> Layer {
    let mut directories: Vec<Vec<u8>> = vec![Vec::new()];
    let mut files: Vec<Vec<u8>> = Vec::new();
    let mut layer: Layer = Vec::new();
    for number in 0..random.usize(0..80) {
        let parent = random.choice(&directories).cloned().unwrap_or_default();
        let length = *random.choice(&[1, 3, 8, 20, 100, 251]).unwrap_or(&1);
        let own: Vec<u8> = (0..length).map(|_| *random.choice(b"ab-.\xff ~").unwrap_or(&b'a')).collect();
        let name = [&own[..], format!("{number:04}").as_bytes()].concat();
        let name = if parent.is_empty() { name } else { [&parent[..], b"/", &name].concat() };
        let kind = match random.u8(0..12) {
            0..3 => {
                directories.push(name.clone());
                Kind::Directory
            }
            3..8 => {
                files.push(name.clone());
                let most = *random.choice(&[2, 100, 600, 5000, 20_000]).unwrap_or(&1);
                let length = random.usize(0..most);
                Kind::File(random_bytes(random, length))
            }
            8 => {
                let length = random.usize(1..4096);
                Kind::Symlink(vec![b'l'; length])
            }
            9 if !files.is_empty() => Kind::HardLink(random.choice(&files).cloned().unwrap_or_default()),
            10 => Kind::Character(random.u32(1..4096), random.u32(0..1_048_576)),
            _ => Kind::Fifo,
        };
        let mut entry = entry(name, kind);
        if !matches!(entry.kind, Kind::HardLink(_)) {
            random_attributes(random, &mut entry);
        }
        layer.push(entry);
    }
    layer
}

fn random_attributes(random: &mut Rng, entry: &mut Entry) {
    let attributes = &mut entry.attributes;
    if !matches!(entry.kind, Kind::Symlink(_)) {
        attributes.mode = random.u32(0..0o10000);
    }
    if random.bool() {
        (attributes.uid, attributes.gid) = (random.u32(0..u32::MAX), random.u32(0..70_000));
        attributes.mtime = (random.i64(-1 << 40..1 << 40), random.u32(0..1_000_000_000));
    }
    let takes_user = matches!(entry.kind, Kind::File(_) | Kind::Directory);
    for _ in 0..random.usize(0..6).saturating_sub(2) {
        let prefix = if takes_user && random.bool() { "user." } else { "trusted." };
        let length = *random.choice(&[0, 1, 30, 500, 5000]).unwrap_or(&0);
        // Some are the same in many files.
        let value = if random.bool() { vec![b'v'; length] } else { random_bytes(random, length) };
        attributes.xattrs.insert(format!("{prefix}{}", random.u8(0..8)).into(), value);
    }
}

/// Inodes that have the time of most take 32 bytes instead of 64.
fn times() -> Result<(), Failed> {
    let bytes = |time_of: fn(u32) -> i64| -> Result<u64, Failed> {
        let dated = |number| {
            let mut one = entry(format!("{number}"), Kind::Fifo);
            one.attributes.mtime = (time_of(number), 7);
            one
        };
        let read = erofs::read(&[tar::archive(&(0..12_000).map(dated).collect::<Layer>())])?;
        let stack = LayerStack::replay(&read.records, Reading::default())?;
        let whole = stack.whole();
        let options = ErofsOptions::new(Shape::Merged);
        let mut lost = |_: &Lost<'_>, _: &dyn Fn() -> LayerPath| {};
        Ok(Plan::new(&stack, &whole, &read.memory, &options, &mut lost)?.bytes())
    };
    let one = bytes(|_| 1_000_000)?;
    let own = bytes(|number| 1_000_000 + i64::from(number))?;
    assert_eq!((own - one).next_multiple_of(4096), (11_999u64 * 32).next_multiple_of(4096));
    // First, last, or between the others.
    let shared: [fn(u32) -> i64; 3] = [
        |number| 1_000_000 + i64::from(number.max(4_000)),
        |number| 1_000_000 + i64::from(number.min(8_000)),
        |number| 1_000_000 + if number % 3 == 0 { 0 } else { i64::from(number) },
    ];
    for time_of in shared {
        let found = bytes(time_of)?;
        assert!(found.abs_diff(one + 8_000 * 32) <= 4096, "{found} instead of some {}", one + 8_000 * 32);
    }
    Ok(())
}

fn threads() -> Result<(), Failed> {
    let mut random = Rng::with_seed(7);
    // Some 60 bytes each, and links that lie behind their inodes: several times what one thread encodes at once.
    let layer: Layer = (0..20_000)
        .map(|number| {
            let kind = match number % 3 {
                0 => Kind::Symlink(vec![b'l'; random.usize(1..400)]),
                1 => Kind::File(random_bytes(&mut random, number % 700)),
                _ => Kind::Fifo,
            };
            let mut one = entry(format!("d{}/{number}", number % 7), kind);
            if number % 5 == 1 {
                one.attributes.xattrs.insert(b"user.own".to_vec(), format!("{number}").into());
            }
            one
        })
        .collect();
    let read = erofs::read(&[tar::archive(&layer)])?;
    let stack = LayerStack::replay(&read.records, Reading::default())?;
    let whole = stack.whole();
    let written = |jobs| -> Result<Vec<u8>, Failed> {
        let options = ErofsOptions { jobs: NonZero::new(jobs).unwrap(), ..ErofsOptions::new(Shape::Merged) };
        let plan = Plan::new(&stack, &whole, &read.memory, &options, &mut |_, _| {})?;
        let mut bytes = Vec::new();
        plan.write(&mut bytes)?;
        Ok(bytes)
    };
    let one = written(1)?;
    assert!(one.len() > 4 << 20, "{}", one.len());
    assert!(written(2)? == one && written(7)? == one);
    Ok(())
}

fn limits() -> Result<(), Failed> {
    let read = erofs::read(&[tar::archive(&Stack::parse("F d/f(text)").0[0])])?;
    let stack = LayerStack::replay(&read.records, Reading::default())?;
    let whole = stack.whole();
    let planned = |devices: Vec<Device>| {
        let options = ErofsOptions { block_size: BlockSize::Sector, devices, ..ErofsOptions::new(Shape::Merged) };
        let mut lost = |_: &Lost<'_>, _: &dyn Fn() -> LayerPath| {};
        Plan::new(&stack, &whole, &read.memory, &options, &mut lost).map(drop).map_err(|error| error.to_string())
    };
    let device = |bytes| Device { tag: [0; 64], bytes };
    planned(vec![device((1 << 41) - (1 << 20))])?;
    let error = planned(vec![device(1 << 41)]).unwrap_err();
    assert!(error.contains("addresses at most 2199023254528"), "{error}");
    planned(vec![device(512); 65_535])?;
    let error = planned(vec![device(512); 65_536]).unwrap_err();
    assert!(error.contains("at most 65535"), "{error}");
    Ok(())
}
