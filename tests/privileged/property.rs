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

use std::path::Path;

use crate::common::cases::compare;
use crate::common::erofs::{self, Where};
use crate::common::harness::Trial;
use crate::common::inside;
use crate::common::oracle;
use crate::common::overlay::{Manner, changed_mounts};
use crate::common::random::{Check, asked, compared, run_each, stack};
use crate::common::run::{self, Form, Power};
use crate::common::shown::agrees_with_unpacked_trees;
use crate::common::tar;
use crate::common::text::Stack;
use layflat::core::chain::Chain;
use layflat::erofs::Shape as ErofsShape;
use layflat::image::Image;
use layflat::{NoProgress, Options, XattrNamespace};
use libtest_mimic::Failed;
use proptest::prelude::*;

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
        Trial::test("layers_staged_before_any_is_finished_and_oracle_agree", || {
            run_each(&(stack(), any::<u64>()), &|(stack, unknown)| format!("{stack}\n{unknown:#b}"), &|case, base| {
                let (stack, unknown) = case;
                // Mostly all layers are known.
                let unknown = if unknown % 3 == 0 { unknown >> 8 } else { 0 };
                compared(stack, run::lay_staged(stack, XattrNamespace::Trusted, base, unknown), |expected| expected)
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
        Trial::test("layers_in_parts_and_oracle_agree", || {
            run_with(&|stack, base| in_parts_agree(stack, base, &[Form::Flat]))
        }),
        Trial::test("mounted_layers_in_parts_and_oracle_agree", || {
            run_with(&|stack, base| in_parts_agree(stack, base, &[Form::Overlay(XattrNamespace::Trusted)]))
        })
        .with_ignored_flag(!run::is_root()),
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
        (one, oracle::accepted(Stack(layers)))
    });
    run_each(&pair, &|(one, other)| format!("{one}\n{other}"), &|(one, other), base| {
        if oracle::show(one).is_err() || oracle::show(other).is_err() {
            return Ok(());
        }
        agrees_with_unpacked_trees(&run::image_of(one), &run::image_of(other), base)
    })
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

/// With every layer in parts that are as small as can be, and in some that are not, a stack shows what it shows.
fn in_parts_agree(stack: &Stack, base: &Path, forms: &[Form]) -> Result<(), String> {
    let image = run::image_of(stack);
    for size in [0, 3 << 10] {
        match layflat::split::split(&image, size, base, &Options::default(), &NoProgress) {
            Err(_) if oracle::show(stack).is_err() => {}
            Err(error) => return Err(Chain(&error).to_string()),
            Ok(image) => forms.iter().try_for_each(|&form| shows(stack, &image, form, base))?,
        }
    }
    Ok(())
}

/// Whether an image shows what a stack must show.
fn shows(stack: &Stack, image: &Image, form: Form, base: &Path) -> Result<(), String> {
    let laid = run::lay_image(image, form, base, &Options::default()).map(|laid| laid.tree);
    compared(stack, laid, |expected| if *run::power() == Power::Root { expected } else { run::as_user(expected) })
}
