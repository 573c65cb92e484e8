//! What is made of an image besides trees: flat archives, file system images, squashed and filtered images.
//!
//! Every line of fixtures/stacks is put through each of them and must still show the tree that it states. Flat archives
//! are also extracted by GNU tar and bsdtar, and file system images mounted by the kernel.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::Read;
use std::num::NonZero;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::cases::{self, Case, Expected, compare};
use crate::common::erofs;
use crate::common::harness::Trial;
use crate::common::run::{self, Form, Power, Scratch};
use crate::common::text::Stack;
use crate::common::tools;
use crate::common::tree::{Shape, Tree};
use crate::common::unmount::by_umount;
use layflat::core::filter::{Filter, Globs, Times};
use layflat::export::{ErofsCompression, flat_archive, flat_compressed_erofs, flat_erofs};
use layflat::fs::{Destination, Output};
use layflat::image::Image;
use layflat::split::split;
use layflat::squash::{filter, squash};
use layflat::transport::source::{OpenOptions, open};
use layflat::{NoProgress, Options, XattrNamespace};
use libtest_mimic::Failed;

/// Its name, whether it is possible here, and what it does.
type Check = (&'static str, bool, fn(&Stack, &Tree) -> Result<(), Failed>);

pub(crate) fn trials() -> Vec<Trial> {
    let power = run::power();
    let root = run::is_root();
    let mounts = !matches!(power, Power::Nothing(_));
    let mut trials = Vec::new();
    for (number, case) in cases::all().into_iter().enumerate() {
        let Expected::Tree(tree) = &case.expected else {
            continue;
        };
        let mut tree = Tree::parse(tree);
        if !root {
            tree = run::as_user(tree);
        }
        let mut trial = |(name, possible, check): Check| {
            let (Case { name: case, stack, .. }, tree) = (case.clone(), tree.clone());
            trials.push(
                Trial::test(format!("{case}::{name}"), move || check(&stack, &tree)).with_ignored_flag(!possible),
            );
        };
        trial(("archive", true, flat_archive_shows_it));
        trial(("split", true, split_it_shows_the_same));
        // A device 0:0 is nothing that a mount can show.
        let shown = mounts && case.overlay.is_none();
        let ways: [Check; 6] = [
            ("erofs", erofs::can_mount(), erofs_image_shows_it),
            ("gnu_tar", root, gnu_tar_extracts_it),
            ("squash", true, squashed_anywhere_it_shows_it),
            ("bsdtar", root, bsdtar_extracts_it),
            ("squash_overlay", shown, squashed_anywhere_a_mount_shows_it),
            ("split_overlay", shown, split_a_mount_shows_the_same),
        ];
        cases::in_turn(number, &ways).into_iter().for_each(&mut trial);
    }
    trials.push(Trial::test("a3_labels_are_left_out_unless_asked_for", labels));
    trials.push(Trial::test("a3_tools_extract_attributes_by_their_names", attribute_names).with_ignored_flag(!root));
    trials.push(Trial::test("filters", filters));
    trials.push(Trial::test("excluded_names_leave_their_content", excluded_names_leave_their_content));
    trials.push(Trial::test("marks_go_only_by_force", marks_go_only_by_force));
    trials.push(Trial::test("untouched_layers_stay", untouched_layers_stay));
    trials.push(Trial::test("what_is_in_parts", what_is_in_parts));
    trials.push(Trial::test("parts_have_the_entries_as_they_were", parts_have_the_entries_as_they_were));
    trials.push(Trial::test("a_squashed_image_keeps_what_is_still_true", squashed_image));
    trials.push(Trial::test("a_copy_is_filtered", copy_is_filtered));
    trials.push(Trial::test("a_file_appears_whole_or_not_at_all", whole_or_not_at_all));
    trials.push(Trial::test("compressed_erofs", compressed_erofs).with_ignored_flag(!root));
    trials
}

fn jobs(count: usize) -> Options {
    Options { jobs: NonZero::new(count), selinux: false, ..Options::default() }
}

fn filtered(filter: Filter) -> Options {
    Options { filter, ..Options::default() }
}

fn erofs_image(image: &Image, options: &Options) -> Vec<u8> {
    let mut bytes = Vec::new();
    flat_erofs(image, &mut bytes, &std::env::temp_dir(), options, &NoProgress).unwrap();
    bytes
}

fn archive(image: &Image, options: &Options) -> Vec<u8> {
    let mut bytes = Vec::new();
    flat_archive(image, &mut bytes, &std::env::temp_dir(), options, &NoProgress).unwrap();
    bytes
}

fn flat(image: &Image, options: &Options) -> Tree {
    run::lay_image(image, Form::Flat, &std::env::temp_dir(), options).unwrap().tree
}

fn flat_archive_shows_it(stack: &Stack, expected: &Tree) -> Result<(), Failed> {
    let image = run::image_of(stack);
    let bytes = archive(&image, &jobs(1));
    assert!(bytes == archive(&image, &jobs(4)), "other bytes with more jobs");
    compare(expected, &flat(&run::image([bytes]), &Options::default()))
}

fn erofs_image_shows_it(stack: &Stack, expected: &Tree) -> Result<(), Failed> {
    let image = run::image_of(stack);
    let bytes = erofs_image(&image, &jobs(1));
    assert!(bytes == erofs_image(&image, &jobs(4)), "other bytes with more jobs");
    compare(expected, &erofs::tree_of(&bytes))
}

/// Of an image whose files carry labels: those that an output has.
fn labels() -> Result<(), Failed> {
    let stack = Stack::parse(
        "D ., D d(security.selinux=label), F d/a(a,security.selinux=label) | F b(b,security.selinux=label)",
    );
    let image = run::image_of(&stack);
    let count = |bytes: &[u8]| bytes.windows(28).filter(|window| *window == b"SCHILY.xattr.security.selinu").count();
    let squashed = |options: &Options| {
        let image = squash(&image, 0, &std::env::temp_dir(), options, &NoProgress).unwrap();
        let mut bytes = Vec::new();
        image.layers[0].blob.reader().read_to_end(&mut bytes).unwrap();
        bytes
    };
    for (selinux, expected) in [(false, 0), (true, 3)] {
        let options = Options { selinux, ..Options::default() };
        assert_eq!((count(&archive(&image, &options)), count(&squashed(&options))), (expected, expected));
    }
    Ok(())
}

/// Names that records cannot hold as they are come out right, whoever extracts the archive.
fn attribute_names() -> Result<(), Failed> {
    let packed = std::fs::read("fixtures/archives/gnutar-xattr-names.tar")?;
    let bytes = archive(&run::image([packed]), &Options::default());
    for command in [&["tar", "--xattrs", "--xattrs-include=user.*", "-xf"][..], &["bsdtar", "-xpf"]] {
        let scratch = Scratch::new(&std::env::temp_dir());
        std::fs::write(scratch.0.join("archive.tar"), &bytes)?;
        let mut extract = tools::command(command[0]);
        let output = extract.args(&command[1..]).arg("archive.tar").current_dir(&scratch.0).output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let found = Tree::of_directory(&scratch.0.join("tree"));
        let xattrs = &found.0[&b"file"[..]].attributes.xattrs;
        for name in ["a=b", "p%q", "p%25q", "%3D", "s p", "b/c+d", "caf\u{e9}"] {
            let value = xattrs.get(format!("user.{name}").as_bytes());
            assert_eq!(value.map(|value| value.as_slice()), Some(name.as_bytes()), "{command:?}: {name}");
        }
    }
    Ok(())
}

/// What a tool makes of a flat archive.
fn extracted(stack: &Stack, expected: &Tree, command: &[&str]) -> Result<(), Failed> {
    let scratch = Scratch::new(&std::env::temp_dir());
    let place = scratch.0.join("tree");
    std::fs::create_dir(&place).unwrap();
    std::fs::write(scratch.0.join("archive.tar"), archive(&run::image_of(stack), &Options::default())).unwrap();
    let output = tools::command(command[0])
        .args(&command[1..])
        .args(["-xpf", "../archive.tar"])
        .current_dir(&place)
        .output()
        .unwrap();
    let talk = String::from_utf8_lossy(&output.stderr);
    // No file system takes `user.` attributes of a symlink; GNU tar passes over them, and flatten reports them.
    let only_symlinks = talk.lines().all(|line| line.contains("attributes: user.") || line.contains("exit delayed"));
    if !output.status.success() && !only_symlinks {
        return Err(format!("{command:?}: {talk}").into());
    }
    let mut found = Tree::of_directory(&place);
    // A label is the extracting system's, and flatten leaves it out unless it is asked.
    for node in found.0.values_mut() {
        node.attributes.xattrs.remove(&b"security.selinux"[..]);
    }
    if command[0] == "bsdtar"
        && let (Some(expected), Some(found)) = (expected.0.get(&b""[..]), found.0.get_mut(&b""[..]))
    {
        found.attributes.mtime = expected.attributes.mtime;
    }
    compare(expected, &found)
}

fn gnu_tar_extracts_it(stack: &Stack, expected: &Tree) -> Result<(), Failed> {
    let options = ["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "--delay-directory-restore"];
    extracted(stack, expected, &[&["tar"][..], &options].concat())
}

fn bsdtar_extracts_it(stack: &Stack, expected: &Tree) -> Result<(), Failed> {
    // Two things that bsdtar 3.6 does to everybody's archives: it leaves the time of `./` alone, and reads -2.75 as
    // -1.25.
    let mut expected = expected.clone();
    for node in expected.0.values_mut() {
        let (seconds, nanoseconds) = &mut node.attributes.mtime;
        if *seconds < 0 && *nanoseconds > 0 {
            (*seconds, *nanoseconds) = (*seconds + 1, 1_000_000_000 - *nanoseconds);
        }
    }
    extracted(stack, &expected, &["bsdtar", "--xattrs", "--acls", "--numeric-owner"])
}

fn squashed(stack: &Stack, from: usize) -> Image {
    squash(&run::image_of(stack), from, &std::env::temp_dir(), &Options::default(), &NoProgress).unwrap()
}

fn squashed_anywhere_it_shows_it(stack: &Stack, expected: &Tree) -> Result<(), Failed> {
    for from in 0..stack.0.len() {
        let image = squashed(stack, from);
        assert_eq!(image.layers.len(), from + 1);
        compare(expected, &flat(&image, &Options::default()))?;
    }
    Ok(())
}

fn squashed_anywhere_a_mount_shows_it(stack: &Stack, expected: &Tree) -> Result<(), Failed> {
    let namespace = if *run::power() == Power::Root { XattrNamespace::Trusted } else { XattrNamespace::User };
    for from in 0..stack.0.len() {
        let form = Form::Overlay(namespace);
        let laid = run::lay_image(&squashed(stack, from), form, &std::env::temp_dir(), &Options::default());
        compare(expected, &laid.unwrap().tree)?;
    }
    Ok(())
}

/// Sizes at which every entry is on its own, and at which some are together.
const TINY: [u64; 2] = [0, 3 << 10];

fn in_parts(stack: &Stack, size: u64) -> Image {
    split(&run::image_of(stack), size, &std::env::temp_dir(), &Options::default(), &NoProgress).unwrap()
}

fn split_it_shows_the_same(stack: &Stack, expected: &Tree) -> Result<(), Failed> {
    TINY.iter().try_for_each(|&size| compare(expected, &flat(&in_parts(stack, size), &Options::default())))
}

fn split_a_mount_shows_the_same(stack: &Stack, expected: &Tree) -> Result<(), Failed> {
    let namespace = if *run::power() == Power::Root { XattrNamespace::Trusted } else { XattrNamespace::User };
    TINY.iter().try_for_each(|&size| {
        let form = Form::Overlay(namespace);
        let laid = run::lay_image(&in_parts(stack, size), form, &std::env::temp_dir(), &Options::default());
        compare(expected, &laid.unwrap().tree)
    })
}

/// How many parts each layer of a stack becomes.
fn what_is_in_parts() -> Result<(), Failed> {
    let parts = |layer: &str| in_parts(&Stack::parse(layer), 0).layers.len();
    // Names that a layer has once, with directories; whiteouts and directories do not make a part of their own.
    assert_eq!(parts("F a, F b, F c"), 3);
    assert_eq!(parts("D d, F d/a, F d/b"), 3);
    assert_eq!(parts("F a(x), H b=a, H c=b, F d"), 2);
    assert_eq!(parts("F old | F old2 | W old, F a, F b"), 5);
    // What has to stay in one layer.
    assert_eq!(parts("F a, F a(new)"), 1);
    assert_eq!(parts("D usr, L lib->usr, F lib/a, F b"), 1);
    assert_eq!(parts("F a(x) | F b, H c=a, F d, H e=a"), 4);
    Ok(())
}

/// Entries are copied to the byte, with the headers that belong to them.
fn parts_have_the_entries_as_they_were() -> Result<(), Failed> {
    let bytes = std::fs::read("fixtures/archives/gnutar-xattr-names.tar")?;
    let image = run::image([bytes.clone()]);
    let split = split(&image, 0, &std::env::temp_dir(), &Options::default(), &NoProgress)?;
    compare(&flat(&image, &Options::default()), &flat(&split, &Options::default()))?;
    for layer in &split.layers {
        let mut part = Vec::new();
        layer.blob.reader().read_to_end(&mut part)?;
        let (blocks, end) = part.split_at(part.len() - 1024);
        assert!(end.iter().all(|&byte| byte == 0));
        assert!(blocks.chunks(512).all(|block| bytes.chunks(512).any(|own| own == block)));
    }
    Ok(())
}

/// The tree that a stack must show when it is filtered, in every way that a filter can be applied.
fn expect(stack: &str, options: &Options, expected: &str) {
    let image = run::image_of(&Stack::parse(stack));
    let mut expected = Tree::parse(expected);
    if *run::power() != Power::Root {
        expected = run::as_user(expected);
    }
    let show = |what: &str, image: &Image, options: &Options| {
        let differences = expected.differences(&flat(image, options));
        assert!(differences.is_empty(), "{what}: {}", differences.join("\n"));
    };
    let plain = Options::default();
    show("flatten", &image, options);
    show("archive", &run::image([archive(&image, options)]), &plain);
    show("filter", &filter(&image, &std::env::temp_dir(), options, &NoProgress).unwrap(), &plain);
    for from in 0..image.layers.len() {
        let squashed = squash(&image, from, &std::env::temp_dir(), options, &NoProgress).unwrap();
        show("squash", &squashed, &plain);
    }
}

fn filters() -> Result<(), Failed> {
    let stack = "D d(1777,5:6,m=5), F d/a(x,4755,m=1.5,user.k=v,user.l=w), F e/b(y,m=3000) | F e/c, W d/a";
    let owner = Filter { owner: Some((0, 0)), ..Filter::default() };
    expect(stack, &filtered(owner), "/(m=0) d/(1777,m=5) e/(m=0) e/b(y,m=3000) e/c");
    let set = Filter { times: Some(Times::Set(7)), ..Filter::default() };
    expect("D ., F e/b(y,m=3000)", &filtered(set), "/(m=7) e/(m=7) e/b(y,m=7)");
    let clamp = Filter { times: Some(Times::Clamp(1000)), ..Filter::default() };
    expect("F b(y,m=3000), F c(z,m=1.5), F d", &filtered(clamp), "b(y,m=1000) c(z,m=1.5) d(d)");
    let strip = Filter { strip_xattrs: Globs::names(["*.k"])?, ..Filter::default() };
    expect("F a(x,user.k=v,user.l=w)", &filtered(strip), "a(x,user.l=w)");
    Ok(())
}

fn exclude(globs: &[&str]) -> Options {
    filtered(Filter { exclude: Globs::paths(globs.iter().copied()).unwrap(), ..Filter::default() })
}

fn excluded_names_leave_their_content() -> Result<(), Failed> {
    expect("F a(x), H b=a, H c=a", &exclude(&["a"]), "b(x) c=b");
    expect("F a(x) | H b=a | H c=b", &exclude(&["a"]), "b(x) c=b");
    expect("F a(x) | H b=a | H c=b", &exclude(&["a", "b"]), "c(x)");
    expect("D d, F d/x, F d/e/y, F z | F d/new", &exclude(&["d"]), "z");
    expect("D d, F d/x, F d/e/y | W d/e", &exclude(&["d/*"]), "d/");
    // By way of a symlink, and of a directory that a later layer moves into its place.
    expect(
        "D usr/lib, F usr/lib/x, L lib->usr/lib | F lib/x(new), F lib/y",
        &exclude(&["usr/lib/x"]),
        "usr/(m=0) usr/lib/ usr/lib/y lib->usr/lib",
    );
    // The whiteout of a deleted file names another path than the file has: it stays deleted.
    expect("D usr/lib, F usr/lib/x, L lib->usr/lib | W lib/x", &exclude(&["lib/x"]), "usr/(m=0) usr/lib/ lib->usr/lib");
    Ok(())
}

fn marks_go_only_by_force() -> Result<(), Failed> {
    let image = run::image_of(&Stack::parse("F a, F b | W a, F c"));
    let mut options = exclude(&["**/.wh.*"]);
    let error = run::lay_image(&image, Form::Flat, &std::env::temp_dir(), &options).unwrap_err();
    assert!(error.contains(".wh.a") && error.contains("would bring back the file"), "{error}");
    options.filter.exclude_whiteouts = true;
    expect("F a, F b | W a, F c", &options, "a b c");
    expect("D d, F d/a | D d, O d, F d/c", &options, "d/ d/a d/c");
    Ok(())
}

fn untouched_layers_stay() -> Result<(), Failed> {
    let image = run::image_of(&Stack::parse("F a | F b | F c, F d/secret, H d/other=d/secret | F d/last"));
    let digests = |image: &Image| image.layers.iter().map(|layer| layer.diff_id.clone()).collect::<Vec<_>>();
    let same = filter(&image, &std::env::temp_dir(), &jobs(1), &NoProgress).unwrap();
    assert_eq!(digests(&same), digests(&image));
    let rewrite = |jobs| {
        filter(
            &image,
            &std::env::temp_dir(),
            &Options { jobs: NonZero::new(jobs), ..exclude(&["d/secret"]) },
            &NoProgress,
        )
    };
    let (one, four) = (rewrite(1).unwrap(), rewrite(4).unwrap());
    assert_eq!(digests(&one), digests(&four));
    let old = run::lay_image(&image, Form::Flat, &std::env::temp_dir(), &Options::default()).unwrap().report.layers;
    let stays: Vec<bool> =
        one.layers.iter().zip(old).map(|(new, old)| new.diff_id.as_ref() == Some(&old.diff_id)).collect();
    assert_eq!(stays, [true, true, false, true]);
    Ok(())
}

/// Mounted, an image is the flat tree, as far as its format can hold it.
fn compressed_erofs() -> Result<(), Failed> {
    tools::need(&["mkfs.erofs"]);
    let stack = "D .(750,5:6,m=7), D d(1777,5:4000000000,m=2), F d/a(text,4755,security.capability=\\x01\\x00\\x00\\x02\\x00\\x04\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00,trusted.t=v,user.k=v), \
                 L s->../x, C null:1.3(666), C zero:0.0, B b:7.0, P p, F old | H link=d/a, W b, D d/e";
    let image = run::image_of(&Stack::parse(stack));
    let scratch = Scratch::new(&std::env::temp_dir());
    let file = scratch.0.join("image");
    let make = |file: &Path| {
        let output = Output::create_seekable(Destination::File(file.to_owned()), false, true).unwrap();
        let lz4 = ErofsCompression::Lz4;
        flat_compressed_erofs(&image, lz4, &output, &Options::default(), &NoProgress).unwrap();
        output.publish().unwrap();
    };
    make(&file);
    let again = scratch.0.join("again");
    make(&again);
    assert!(std::fs::read(&file).unwrap() == std::fs::read(again).unwrap(), "made again, it has other bytes");
    let names: Vec<_> = std::fs::read_dir(&scratch.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "something else is left: {names:?}");

    let mountpoint = scratch.0.join("mount");
    std::fs::create_dir(&mountpoint).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "erofs", "-o", "loop,ro"]).args([&file, &mountpoint]).stderr(Stdio::piped());
    let mounted = mount.output().unwrap();
    assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
    let found = Tree::of_directory(&mountpoint);
    by_umount(&mountpoint);
    let expected = flat(&image, &Options::default());
    assert!(expected.0.values().any(|node| matches!(node.shape, Shape::Character(0, 0))));
    compare(&expected, &found)
}

fn four_layers() -> Image {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/four-layers.tar");
    let root = std::env::var("CARGO_MANIFEST_DIR").map(|root| Path::new(&root).join("fixtures/four-layers.tar"));
    let reference = format!("docker-archive:{}", root.unwrap_or(fixture).display()).parse().unwrap();
    open(&reference, &OpenOptions::default()).unwrap()
}

fn diff_ids(image: &Image) -> Vec<String> {
    image.layers.iter().map(|layer| layer.diff_id.as_ref().unwrap().to_string()).collect()
}

fn squashed_image() -> Result<(), Failed> {
    let image = four_layers();
    let squash = |jobs_wanted| squash(&image, 2, &std::env::temp_dir(), &jobs(jobs_wanted), &NoProgress).unwrap();
    let (one, four) = (squash(1), squash(4));
    assert_eq!(diff_ids(&one), diff_ids(&four));
    assert_eq!(diff_ids(&one)[..2], diff_ids(&image)[..2]);
    let (old, new) = (image.config.as_ref().unwrap(), one.config.as_ref().unwrap());
    assert_eq!(new.bytes, four.config.as_ref().unwrap().bytes);
    assert_eq!(new.parsed.rootfs.diff_ids, diff_ids(&one));
    assert_eq!((&old.parsed.created, &old.parsed.config), (&new.parsed.created, &new.parsed.config));
    let history = &new.parsed.history;
    let with_layer: Vec<bool> = history.iter().map(|line| !line.empty_layer).collect();
    assert_eq!(with_layer, [true, true, false, false, true]);
    let before: Vec<_> = old.parsed.history.iter().map(|line| line.created_by.clone()).collect();
    assert_eq!(history[..4].iter().map(|line| line.created_by.clone()).collect::<Vec<_>>(), before);
    let error = layflat::squash::squash(&image, 4, &std::env::temp_dir(), &jobs(1), &NoProgress).unwrap_err();
    assert!(error.to_string().starts_with("the image has 4 layers"), "{error}");
    Ok(())
}

fn layflat(arguments: &[&str], directory: &Path) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_layflat")).args(arguments).current_dir(directory).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn copy_is_filtered() -> Result<(), Failed> {
    let scratch = Scratch::new(&std::env::temp_dir());
    let stack = Stack::parse("D d(5:6), F d/keep(k,m=3000), F d/secret | W d/secret, F z(z,9:9)");
    let names: Vec<String> = (0..2).map(|index| format!("{index}.tar")).collect();
    for (name, layer) in names.iter().zip(&stack.0) {
        std::fs::write(scratch.0.join(name), crate::common::tar::archive(layer)).unwrap();
    }
    let filters = ["--exclude", "d/secret", "--owner", "0:0", "--normalize-timestamps=7"];
    let copy = |jobs, to| {
        let arguments = ["copy", "--quiet", "--jobs", jobs, "layers:0.tar,1.tar", to];
        layflat(&[&arguments[..], &filters].concat(), &scratch.0)
    };
    for (jobs, to) in [("1", "oci:one:a"), ("4", "oci:four:a")] {
        let (success, talk) = copy(jobs, to);
        assert!(success, "{talk}");
    }
    let read = |place: &str| std::fs::read(scratch.0.join(place)).unwrap();
    assert_eq!(read("one/index.json"), read("four/index.json"));
    let reference = format!("oci:{}:a", scratch.0.join("one").display()).parse().unwrap();
    let image = open(&reference, &OpenOptions::default()).unwrap();
    let mut expected = Tree::parse("/(m=0) d/(m=7) d/keep(k,m=7) z(z,m=7)");
    if *run::power() != Power::Root {
        expected = run::as_user(expected);
    }
    compare(&expected, &flat(&image, &Options::default()))
}

fn whole_or_not_at_all() -> Result<(), Failed> {
    let scratch = Scratch::new(&std::env::temp_dir());
    let names = || {
        let mut names: Vec<_> =
            std::fs::read_dir(&scratch.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    std::fs::write(scratch.0.join("good.tar"), crate::common::tar::archive(&Stack::parse("F a, F b").0[0])).unwrap();
    let mut damaged = std::fs::read(scratch.0.join("good.tar")).unwrap();
    damaged.truncate(1300);
    std::fs::write(scratch.0.join("bad.tar"), damaged).unwrap();
    let made_by = [("tar", None), ("squashfs", Some("sqfstar")), ("erofs", None)];
    for (format, _) in made_by.iter().filter(|(_, tool)| tool.is_none_or(|tool| tools::missing(&[tool]).is_none())) {
        let (success, talk) = layflat(&["flatten", "layers:bad.tar", "--to", format, "-o", "out"], &scratch.0);
        assert!(!success && talk.contains("truncated"), "{format}: {talk}");
        assert_eq!(names(), ["bad.tar", "good.tar"], "{format}");
    }
    assert!(layflat(&["flatten", "layers:good.tar", "--to", "tar", "-o", "out"], &scratch.0).0);
    let first = std::fs::read(scratch.0.join("out")).unwrap();
    let (success, talk) = layflat(&["flatten", "layers:good.tar", "--to", "tar", "-o", "out"], &scratch.0);
    assert!(!success && talk.contains("--replace"), "{talk}");
    assert!(layflat(&["flatten", "layers:good.tar", "--to", "tar", "-o", "out", "--replace"], &scratch.0).0);
    assert_eq!(first, std::fs::read(scratch.0.join("out")).unwrap());
    let (success, talk) = layflat(&["pack", "good.tar", "-o", "layer.tar"], &scratch.0);
    assert!(!success && talk.contains("good.tar"), "{talk}");
    // Or the layer in the making would be packed, too.
    for arguments in [&["pack", ".", "-o", "layer.tar"][..], &["pack", "elsewhere", "--lower", ".", "-o", "layer.tar"]]
    {
        let (success, talk) = layflat(arguments, &scratch.0);
        assert!(!success && talk.contains("layer.tar is inside the tree"), "{talk}");
    }
    assert_eq!(names(), ["bad.tar", "good.tar", "out"]);
    Ok(())
}
