//! Random stacks: the flat rootfs, the overlay mount and the oracle show the same, or all refuse.
//!
//! 60 stacks, always the same ones; `LAYFLAT_CASES=20000 cargo test --test privileged property::` tries that many new
//! ones. A failure is shrunk and printed in the notation of `tests/common/mod.rs`, ready to become a line in
//! fixtures/stacks.
//!
//! Then stacks whose layers come from real overlay mounts, written as three kinds of writers do; what the last mount
//! showed is what must come out, so that the kernel is the judge. 40 of each, or `LAYFLAT_CASES=300 cargo test --test
//! privileged property::real_mounts`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::cases::compare;
use crate::common::erofs::{self, Where};
use crate::common::harness::Trial;
use crate::common::inside;
use crate::common::oracle;
use crate::common::overlay::{Manner, changed_mounts};
use crate::common::run::{self, Form, Power};
use crate::common::shown::agrees_with_unpacked_trees;
use crate::common::tar;
use crate::common::text::{Attributes, Entry, Kind, Stack};
use crate::common::tree::Tree;
use layflat::core::chain::Chain;
use layflat::erofs::Shape as ErofsShape;
use layflat::image::Image;
use layflat::{NoProgress, Options, XattrNamespace};
use libtest_mimic::Failed;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

pub(crate) fn trials() -> Vec<Trial> {
    let power = run::power();
    let mounts = !matches!(power, Power::Nothing(_));
    let mut trials = vec![
        Trial::test("what_is_told_of_a_stack_and_oracle_agree", || {
            run_with(&|stack, _| compared(stack, inside::tree(stack), |tree| tree))
        }),
        Trial::test("flat_form_and_oracle_agree", || check(&[Form::Flat])),
        Trial::test("overlay_mount_with_trusted_marks_and_oracle_agree", || {
            check(&[Form::Overlay(XattrNamespace::Trusted)])
        })
        .with_ignored_flag(!run::is_root()),
        Trial::test("overlay_mount_with_user_marks_and_oracle_agree", || check(&[Form::Overlay(XattrNamespace::User)]))
            .with_ignored_flag(!mounts),
        Trial::test("layers_over_directories_and_oracle_agree", || {
            run_with(&|stack, base| {
                compared(stack, run::lay_over(stack, XattrNamespace::Trusted, base), |expected| expected)
            })
        })
        .with_ignored_flag(!run::is_root()),
        Trial::test("erofs_image_and_oracle_agree", || {
            run_with(&|stack, _| {
                erofs_agrees(stack, ErofsShape::Merged, Where::Carried)?;
                erofs_agrees(stack, ErofsShape::Merged, Where::Devices)
            })
        })
        .with_ignored_flag(!erofs::can_mount()),
        Trial::test("erofs_layers_and_oracle_agree", || {
            run_with(&|stack, _| {
                let trusted = ErofsShape::Layered(XattrNamespace::Trusted);
                erofs_agrees(stack, trusted, Where::Carried)?;
                erofs_agrees(stack, trusted, Where::Devices)
            })
        })
        .with_ignored_flag(!erofs::can_mount()),
        Trial::test("images_differ_as_their_unpacked_trees_do", images_differ_as_their_trees)
            .with_ignored_flag(!run::is_root()),
        Trial::test("flat_archive_squashed_image_and_oracle_agree", || run_with(&rewritten_agrees)),
    ];
    for (name, manner) in [
        ("real_mounts_with_opaque_markers_everywhere", Manner::OpaqueEverywhere),
        ("real_mounts_with_opaque_markers_over_directories", Manner::OpaqueOverDirectories),
        ("real_mounts_with_whiteouts_one_by_one", Manner::Whiteouts),
    ] {
        trials.push(Trial::test(name, move || real_mounts_agree(manner)).with_ignored_flag(!run::is_root()));
    }
    trials
}

/// The number of stacks that was asked for.
fn asked() -> Option<u32> {
    std::env::var("LAYFLAT_CASES").ok().and_then(|cases| cases.parse().ok())
}

fn real_mounts_agree(manner: Manner) -> Result<(), Failed> {
    for seed in 0..asked().unwrap_or(40).into() {
        let (stack, shown) = changed_mounts(seed, manner);
        let failed = |what: &str, why: String| format!("{what} of seed {seed}: {why}\n{stack}");
        let oracle = oracle::show(&stack).map_err(|refused| failed("the oracle", format!("{refused:?}")))?;
        compare(&shown, &oracle).map_err(|why| failed("the oracle", why.message().unwrap_or_default().to_owned()))?;
        for form in [Form::Flat, Form::Overlay(XattrNamespace::Trusted)] {
            let laid = run::lay(&stack, form, run::tmpfs(), &Options::default())
                .map_err(|error| failed(&format!("{form:?}"), error))?;
            compare(&shown, &laid.tree)
                .map_err(|why| failed(&format!("{form:?}"), why.message().unwrap_or_default().to_owned()))?;
        }
    }
    Ok(())
}

fn check(forms: &[Form]) -> Result<(), Failed> {
    run_with(&|stack, base| forms.iter().try_for_each(|&form| agree(stack, form, base)))
}

fn run_with(test: Check<'_, Stack>) -> Result<(), Failed> {
    run_each(&stack(), &|stack| stack.to_string(), test)
}

/// Two stacks, of which the second one often begins with layers of the first one.
fn images_differ_as_their_trees() -> Result<(), Failed> {
    let pair = (stack(), stack(), 0..=8usize).prop_map(|(one, other, shared)| {
        let layers = one.0.iter().take(shared).chain(&other.0).cloned().collect();
        (one, accepted(Stack(layers)))
    });
    run_each(&pair, &|(one, other)| format!("{one}\n{other}"), &|(one, other), base| {
        if oracle::show(one).is_err() || oracle::show(other).is_err() {
            return Ok(());
        }
        agrees_with_unpacked_trees(&run::image_of(one), &run::image_of(other), base)
    })
}

/// A test of one value; the path is where it may unpack.
type Check<'t, T> = &'t dyn Fn(&T, &Path) -> Result<(), String>;

fn run_each<S: Strategy>(
    strategy: &S,
    describe: &dyn Fn(&S::Value) -> String,
    test: Check<'_, S::Value>,
) -> Result<(), Failed> {
    let asked = asked();
    let config =
        Config { cases: asked.unwrap_or(60), failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    let mut runner = match asked {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    let base = if *run::power() == Power::Root { run::tmpfs().to_owned() } else { std::env::temp_dir() };
    let result = runner.run(strategy, |value| test(&value, &base).map_err(TestCaseError::fail));
    match result {
        Ok(()) => Ok(()),
        Err(TestError::Fail(reason, value)) => Err(format!("{}\n{}", describe(&value), reason.message()).into()),
        Err(TestError::Abort(reason)) => Err(reason.message().into()),
    }
}

fn agree(stack: &Stack, form: Form, base: &Path) -> Result<(), String> {
    shows(stack, &run::image_of(stack), form, base)
}

/// EROFS images, for the whole stack or for each layer, show what the stack shows.
fn erofs_agrees(stack: &Stack, shape: ErofsShape, place: Where) -> Result<(), String> {
    let archives: Vec<Vec<u8>> = stack.0.iter().map(tar::archive).collect();
    compared(stack, erofs::show(&archives, shape, place), |tree| tree)
        .map_err(|why| format!("{shape:?} {place:?}: {why}"))
}

/// What a stack becomes as a flat archive, and squashed above every one of its layers, shows what the stack shows.
fn rewritten_agrees(stack: &Stack, base: &Path) -> Result<(), String> {
    let image = run::image_of(stack);
    let mut archive = Vec::new();
    let written = layflat::export::flat_archive(&image, &mut archive, base, &Options::default(), &NoProgress);
    if oracle::show(stack).is_err() {
        return written.map_or(Ok(()), |_| Err("the oracle refuses, and there is an archive".to_owned()));
    }
    written.map_err(|error| Chain(&error).to_string())?;
    shows(stack, &run::image([archive]), Form::Flat, base).map_err(|error| format!("archive: {error}"))?;
    for from in 0..stack.0.len() {
        let squashed = layflat::squash::squash(&image, from, base, &Options::default(), &NoProgress);
        let squashed = squashed.map_err(|error| Chain(&error).to_string())?;
        shows(stack, &squashed, Form::Flat, base).map_err(|error| format!("squashed from {from}: {error}"))?;
    }
    Ok(())
}

/// Whether an image shows what a stack must show.
fn shows(stack: &Stack, image: &Image, form: Form, base: &Path) -> Result<(), String> {
    let laid = run::lay_image(image, form, base, &Options::default()).map(|laid| laid.tree);
    compared(stack, laid, |expected| if *run::power() == Power::Root { expected } else { run::as_user(expected) })
}

/// Whether a tree, or the refusal of the stack, is what the oracle says. `seen` is what of the oracle's tree can be
/// seen.
fn compared(stack: &Stack, found: Result<Tree, String>, seen: impl Fn(Tree) -> Tree) -> Result<(), String> {
    match (oracle::show(stack), found) {
        (Err(_), Err(_)) => Ok(()),
        (Err(reason), Ok(found)) => Err(format!("the oracle refuses ({reason:?}), layflat shows {found}")),
        (Ok(_), Err(error)) => Err(format!("layflat refuses: {error}")),
        (Ok(expected), Ok(found)) => {
            let differences = seen(expected).differences(&found);
            if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
        }
    }
}

/// Up to 8 layers of up to 10 entries. What would make the stack be refused is left out of most of them.
fn stack() -> impl Strategy<Value = Stack> {
    (vec(vec(entry(), 0..=10), 1..=8), prop::bool::weighted(0.05)).prop_map(|(layers, as_it_is)| {
        let stack = Stack(layers);
        if as_it_is { stack } else { accepted(stack) }
    })
}

/// The stack without the entries that the oracle refuses.
fn accepted(stack: Stack) -> Stack {
    let mut kept = Stack(Vec::new());
    for layer in stack.0 {
        kept.0.push(Vec::new());
        for entry in layer {
            let top = kept.0.len() - 1;
            kept.0[top].push(entry);
            if oracle::show(&kept).is_err() {
                kept.0[top].pop();
            }
        }
    }
    kept
}

/// Few names, so that they meet.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let component = prop::sample::select(vec!["a", "b", "c", "d"]);
    (vec(component, 1..=3), 0..20u8).prop_map(|(components, dress)| {
        let plain = components.join("/");
        match dress {
            0 => format!("./{plain}"),
            1 => format!("x/../{plain}"),
            2 => format!("/{}", components.join("//")),
            _ => plain,
        }
        .into_bytes()
    })
}

fn target() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => name(),
        2 => name().prop_map(|name| [b"/", &name[..]].concat()),
        2 => name().prop_map(|name| [b"../", &name[..]].concat()),
        1 => prop::sample::select(vec!["..", ".", "/", "a/..", "../../..", "nowhere/x"]).prop_map(|text| text.into()),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let content = prop::sample::select(vec!["", "one", "two", "three"]).prop_map(|text| text.as_bytes().to_vec());
    let named = (
        name(),
        prop_oneof![
            6 => Just(Kind::Directory),
            6 => content.prop_map(Kind::File),
            3 => target().prop_map(Kind::Symlink),
            4 => name().prop_map(Kind::HardLink),
            1 => Just(Kind::Character(1, 3)),
            1 => Just(Kind::Block(7, 5)),
            1 => Just(Kind::Fifo),
            5 => Just(Kind::Whiteout),
            3 => Just(Kind::Opaque),
        ],
    );
    let root = (Just(b".".to_vec()), prop_oneof![Just(Kind::Directory), Just(Kind::Opaque)]);
    (prop_oneof![20 => named.boxed(), 1 => root.boxed()], attributes()).prop_map(|((name, kind), attributes)| {
        let mut entry = Entry { name, attributes, kind };
        match entry.kind {
            Kind::Whiteout | Kind::Opaque | Kind::HardLink(_) => {
                entry.attributes = Attributes::default_of(&entry.kind);
            }
            Kind::Symlink(_) => entry.attributes.mode = 0o777,
            _ => {}
        }
        entry
    })
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let mode = prop::sample::select(vec![0o644, 0o755, 0o700, 0o1777, 0o2775, 0o4755, 0o6711, 0]);
    let id = || prop::sample::select(vec![0, 0, 0, 7, 1000, 3_000_000_000, 4_294_967_294]);
    let mtime = prop::sample::select(vec![(1000, 0), (0, 1), (-2, 750_000_000), (5_000_000_000, 999_999_999)]);
    let xattr = prop::sample::select(vec![
        ("user.k", "v"),
        ("user.k", ""),
        ("user.l", "other\nline"),
        ("trusted.k", "v"),
        ("trusted.overlay.opaque", "y"),
        ("trusted.overlay.redirect", "/a"),
        ("user.overlay.opaque", "y"),
        ("user.overlay.metacopy", ""),
    ]);
    (mode, id(), id(), mtime, prop_oneof![3 => vec(xattr.clone(), 0..=0), 1 => vec(xattr, 0..=3)]).prop_map(
        |(mode, uid, gid, mtime, xattrs)| {
            let xattrs: BTreeMap<Vec<u8>, Vec<u8>> =
                xattrs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
            Attributes { mode, uid, gid, mtime, xattrs }
        },
    )
}
