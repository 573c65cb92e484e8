//! Random stacks, and what is tried with each.

use std::collections::BTreeMap;
use std::path::Path;

use libtest_mimic::Failed;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use super::oracle;
use super::run::{self, Power};
use super::text::{Attributes, Entry, Kind, Stack};
use super::tree::Tree;

/// The number of stacks that was asked for.
pub fn asked() -> Option<u32> {
    std::env::var("LAYFLAT_CASES").ok().and_then(|cases| cases.parse().ok())
}

/// A test of one value; the path is where it may unpack.
pub type Check<'t, T> = &'t dyn Fn(&T, &Path) -> Result<(), String>;

/// Tries 60 values, always the same ones; or as many new ones as `LAYFLAT_CASES` asks for.
pub fn run_each<S: Strategy>(
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

/// Whether a tree, or the refusal of the stack, is what the oracle says. `seen` is what of the oracle's tree can be
/// seen.
pub fn compared(stack: &Stack, found: Result<Tree, String>, seen: impl Fn(Tree) -> Tree) -> Result<(), String> {
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
pub fn stack() -> impl Strategy<Value = Stack> {
    (vec(vec(entry(), 0..=10), 1..=8), prop::bool::weighted(0.05)).prop_map(|(layers, as_it_is)| {
        let stack = Stack(layers);
        if as_it_is { stack } else { oracle::accepted(stack) }
    })
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
