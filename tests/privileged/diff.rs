//! Comparing images without unpacking them: what comes out is what the unpacked trees would say.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, and this is another harness")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Output;

use crate::common::cases::{self, Expected};
use crate::common::harness::{self, Test, Trial};
use crate::common::place::{Place, layflat};
use crate::common::run::{self, Scratch};
use crate::common::shown::{Indexed, agrees_with_unpacked_trees, between, between_trees, same, snapshot};
use crate::common::tar;
use crate::common::text::Stack;
use crate::common::tools;
use layflat::inspect::Holding;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = harness::trials(TESTS);
    trials.push(
        Trial::test("every_stack_differs_from_the_next_as_their_trees_do", every_stack)
            .with_ignored_flag(!run::is_root()),
    );
    trials
}

const TESTS: &[Test] = &[
    ("a_changed_tree_differs_from_its_image_in_exactly_that", true, a_changed_tree_differs_in_exactly_that),
    ("an_image_is_equal_to_the_tree_that_a_user_makes_of_it", true, an_image_is_equal_to_a_users_tree),
    ("two_images_differ_alike_for_everybody", true, two_images_differ_alike_for_everybody),
    ("holes_of_any_size_are_compared", false, holes_of_any_size_are_compared),
    ("capabilities_count_for_what_they_grant", true, capabilities_count_for_what_they_grant),
];

/// The stacks of all rules, each against the one behind it.
fn every_stack() -> Result<(), libtest_mimic::Failed> {
    let cases: Vec<_> = cases::all().into_iter().filter(|case| matches!(case.expected, Expected::Tree(_))).collect();
    let bases = [std::env::temp_dir(), run::tmpfs().to_owned()];
    for (pair, base) in cases.windows(2).zip(bases.iter().cycle()) {
        let [a, b] = pair else { continue };
        agrees_with_unpacked_trees(&run::image_of(&a.stack), &run::image_of(&b.stack), base)
            .map_err(|why| format!("{} and {} on {base:?}: {why}", a.name, b.name))?;
    }
    Ok(())
}

fn stack() -> Stack {
    Stack::parse(
        "D d(2750,5:6,user.k=v), F d/a(text,4711,1:2,m=111), F d/b(other), L l->d/a, H d/c=d/b, P p, C null:1.3(666,0:7), \
         D e, F e/x | W e/x, F e/y(new), F top(x,trusted.k=v)",
    )
}

/// Changes a tree.
type Change = fn(&Path);

fn a_changed_tree_differs_in_exactly_that() {
    let image = Indexed::new(run::image_of(&stack())).unwrap();
    let changes: [(&str, Change); 12] = [
        ("nothing", |_| {}),
        ("mode", |tree| fs::set_permissions(tree.join("d/a"), fs::Permissions::from_mode(0o644)).unwrap()),
        ("owner", |tree| chown(tree.join("d"), Some(9), Some(6)).unwrap()),
        ("content", |tree| fs::write(tree.join("d/b"), "OTHER").unwrap()),
        ("size", |tree| fs::write(tree.join("d/b"), "longer than it was").unwrap()),
        ("link", |tree| {
            fs::remove_file(tree.join("l")).unwrap();
            symlink("elsewhere", tree.join("l")).unwrap();
        }),
        ("type", |tree| {
            fs::remove_dir_all(tree.join("e")).unwrap();
            fs::write(tree.join("e"), "").unwrap();
        }),
        ("names", |tree| {
            fs::remove_file(tree.join("p")).unwrap();
            fs::create_dir_all(tree.join("d/new/below")).unwrap();
        }),
        ("hard links", |tree| {
            fs::remove_file(tree.join("d/c")).unwrap();
            fs::copy(tree.join("d/b"), tree.join("d/c")).unwrap();
        }),
        ("attributes", |tree| {
            xattr::set(tree.join("d"), "user.k", b"w").unwrap();
            xattr::set(tree.join("d/b"), "user.new", b"").unwrap();
            xattr::remove(tree.join("top"), "trusted.k").unwrap();
        }),
        ("an ACL", |tree| {
            let text = "user::rw-,user:7:r--,group::r--,mask::r--,other::---";
            assert!(tools::command("setfacl").args(["--set", text]).arg(tree.join("d/b")).status().unwrap().success());
        }),
        ("a device", |tree| {
            fs::remove_file(tree.join("null")).unwrap();
            fs::write(tree.join("null"), "no device").unwrap();
        }),
    ];
    for (what, change) in changes {
        let scratch = Scratch::new(run::tmpfs());
        let (before, after) = (scratch.0.join("before"), scratch.0.join("after"));
        image.flatten(&before).unwrap();
        image.flatten(&after).unwrap();
        change(&after);
        let expected = between_trees(&before, &after).unwrap();
        assert_eq!(expected.is_empty(), what == "nothing", "{what}");
        let found = between(&image.unpacked(run::tmpfs()).unwrap(), &snapshot(&after).unwrap()).unwrap();
        same(what, &expected, &found).unwrap();
    }
}

/// A place with the program, and archives of the lowest layers of stacks, for any user.
fn place(stacks: &[(&str, &Stack)]) -> Place {
    let place = Place::new();
    fs::set_permissions(place.directory(), fs::Permissions::from_mode(0o777)).unwrap();
    crate::common::tools::put_program(layflat().as_ref(), &place.path("layflat"));
    fs::create_dir(place.path("tmp")).unwrap();
    fs::set_permissions(place.path("tmp"), fs::Permissions::from_mode(0o777)).unwrap();
    for (name, stack) in stacks {
        place.write(name, tar::archive(&stack.0[0]));
    }
    place
}

/// Runs layflat as root, or as a user without subordinate ids.
fn run_as(place: &Place, is_user: bool, arguments: &[&str]) -> Output {
    let user = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", "./layflat"];
    let program = if is_user { &user[..] } else { &["./layflat"] };
    let mut command = place.command(program[0]);
    command
        .args(&program[1..])
        .args(arguments)
        .env("XDG_CACHE_HOME", place.path(if is_user { "his" } else { "roots" }));
    command.output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// Owners, devices, set-id bits and privileged attributes are lost to a user, and so no difference.
fn an_image_is_equal_to_a_users_tree() {
    let stack = Stack::parse(
        "D d(2755,5:6,user.k=v), F d/a(text,4711,1:2,m=111), L l->d/a, H d/b=d/a, P p, C null:1.3(666,0:7), C hole:0.0, F top(x,trusted.k=v)",
    );
    let place = place(&[("layer.tar", &stack)]);
    let made = run_as(&place, true, &["flatten", "--quiet", "layers:layer.tar", "tree"]);
    assert_eq!(made.status.code(), Some(0), "{}", said(&made).1);
    assert_eq!(said(&run_as(&place, true, &["diff", "tree", "layers:layer.tar"])), (Some(0), String::new()));
    fs::set_permissions(place.path("tree/d/a"), fs::Permissions::from_mode(0o4711)).unwrap();
    let (code, lines) = said(&run_as(&place, true, &["diff", "layers:layer.tar", "tree"]));
    assert_eq!(
        (code, lines.as_str()),
        (Some(1), "~ d/a: mode: 0711 in A, 4711 in B\n~ d/b: mode: 0711 in A, 4711 in B\n")
    );
    assert_eq!(fs::read_dir(place.path("tmp")).unwrap().count(), 0, "nothing temporary stays");
}

fn two_images_differ_alike_for_everybody() {
    let one = Stack::parse("F owned(x,1:2), C null:1.3, F setuid(x,4755,5:5), F t(x,trusted.k=v)");
    let other = Stack::parse("F owned(x,3:4), C null:1.5, F setuid(x,755,5:5), F t(x,trusted.k=w)");
    let place = place(&[("one.tar", &one), ("other.tar", &other)]);
    let expected = "~ null: device number: 1:3 in A, 1:5 in B\n~ owned: owner: 1:2 in A, 3:4 in B\n\
                    ~ setuid: mode: 4755 in A, 0755 in B\n~ t: attribute trusted.k: \"v\" in A, \"w\" in B\n";
    for as_user in [false, true] {
        let found = said(&run_as(&place, as_user, &["diff", "layers:one.tar", "layers:other.tar"]));
        assert_eq!(found, (Some(1), expected.to_owned()), "as a user: {as_user}");
    }
}

/// An archive of a file with a few bytes behind a hole, as GNU tar 1.0 writes it. `stored` are the pieces of the file
/// that the archive has.
fn sparse(name: &str, size: u64, stored: &[(u64, &[u8])]) -> Vec<u8> {
    let mut map = format!("{}\n", stored.len());
    for (offset, bytes) in stored {
        map += &format!("{offset}\n{}\n", bytes.len());
    }
    let mut data = map.into_bytes();
    data.resize(data.len().next_multiple_of(512), 0);
    for (_, bytes) in stored {
        data.extend_from_slice(bytes);
    }
    let mut records = Vec::new();
    for (key, value) in [("major", "1"), ("minor", "0"), ("name", name), ("realsize", &size.to_string())] {
        let line = format!(" GNU.sparse.{key}={value}\n");
        let mut length = line.len();
        while format!("{length}{line}").len() != length {
            length = format!("{length}{line}").len();
        }
        records.extend(format!("{length}{line}").into_bytes());
    }
    let entry = |kind: u8, data: &[u8]| {
        let mut header = [0u8; 512];
        header[..4].copy_from_slice(b"file");
        header[100..108].copy_from_slice(b"0000644\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
        header[136..148].copy_from_slice(b"00000000000\0");
        header[148..156].copy_from_slice(b"        ");
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut bytes = header.to_vec();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    };
    [entry(b'x', &records), entry(b'0', &data), vec![0; 1024]].concat()
}

fn holes_of_any_size_are_compared() {
    for size in [1 << 20, 1 << 42] {
        let image = |stored: &[(u64, &[u8])]| Indexed::new(run::image([sparse("hole", size, stored)])).unwrap();
        let one = image(&[(size - 3, b"end")]);
        let equal = image(&[(4096, &[0; 512]), (size - 3, b"end")]);
        let other = image(&[(4096, &[0; 512]), (size - 3, b"eNd")]);
        let shown = |image: &Indexed| between_images(&one, image);
        assert_eq!((shown(&one), shown(&equal), shown(&other)), (0, 0, 1), "{size}");

        let scratch = Scratch::new(&std::env::temp_dir());
        let tree = scratch.0.join("tree");
        one.flatten(&tree).unwrap();
        let to_tree = |image: &Indexed| {
            between(&image.unpacked(&std::env::temp_dir()).unwrap(), &snapshot(&tree).unwrap()).unwrap().len()
        };
        assert_eq!((to_tree(&one), to_tree(&equal), to_tree(&other)), (0, 0, 1), "{size}");
    }
}

fn between_images(a: &Indexed, b: &Indexed) -> usize {
    let (a, b) = (a.shown(Holding::AsStated).unwrap(), b.shown(Holding::AsStated).unwrap());
    between(&a, &b).unwrap().len()
}

/// For the first root, revision 3 says what revision 2 says.
fn capabilities_count_for_what_they_grant() {
    let with = |value: &[u8]| {
        let escaped: String = value.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        run::image_of(&Stack::parse(&format!("F f(x,security.capability={escaped})")))
    };
    let two = [&[1, 0, 0, 2, 0, 0x20, 0, 0][..], &[0; 12]].concat();
    let three = [&[1, 0, 0, 3][..], &two[4..], &[0; 4]].concat();
    let other = [&[1, 0, 0, 3][..], &two[4..], &1000u32.to_le_bytes()].concat();
    for (a, b) in [(&two, &three), (&two, &other), (&three, &other), (&two, &vec![1, 2, 3])] {
        agrees_with_unpacked_trees(&with(a), &with(b), run::tmpfs()).unwrap();
    }
}
