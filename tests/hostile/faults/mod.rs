//! Every system call that a command depends on fails once, by `strace -e inject`: out of space, an input/output error, no handle
//! left, an interruption, or the process is killed at that very call. Afterwards the result is whole, or there is none and a message
//! (rules S2 and S6): nothing half-made, nothing left behind, nothing else touched. What a killed process leaves is removed by the
//! next run, which must succeed.
//!
//! A sample that is always the same runs with the other tests. `LAYFLAT_FAULTS=100` tries so many of each command, `LAYFLAT_FAULTS=all`
//! everything, which takes hours of one CPU for many ten thousand runs; `LAYFLAT_FAULTS='flatten openat EIO 7'`, as a failure prints it, tries one.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, and this is another harness")]

mod calls;
mod judge;
mod place;
mod run;
mod scenes;

use libtest_mimic::Failed;

use crate::common::harness::Trial;
use crate::common::{run as power, tools};
use calls::Fault;
use judge::{Count, judge};
use run::Course;
use scenes::{SCENES, Scene};

/// So many faults of each command are in the sample.
const SAMPLE: usize = 20;
/// So many failures of one command are printed.
const PRINTED: usize = 25;

/// The tests, one for each command.
pub(crate) fn trials() -> Vec<Trial> {
    let asked = Asked::of_environment();
    let scenes = SCENES.iter().filter(|scene| asked.concerns(scene));
    scenes
        .map(|scene| {
            let asked = asked.clone();
            let name = format!("{}_is_whole_or_nothing_and_a_message", scene.name);
            Trial::test(name, move || withstands(scene, &asked)).with_ignored_flag(!power::is_root())
        })
        .collect()
}

/// Which faults are tried.
#[derive(Clone)]
enum Asked {
    Sample(usize),
    All,
    One(String, Fault),
}

impl Asked {
    fn of_environment() -> Self {
        match std::env::var("LAYFLAT_FAULTS") {
            Err(_) => Self::Sample(SAMPLE),
            Ok(all) if all == "all" => Self::All,
            Ok(number) if number.parse::<usize>().is_ok() => Self::Sample(number.parse().unwrap()),
            Ok(one) => {
                let fault =
                    one.split_once(' ').and_then(|(scene, fault)| Some((scene.to_owned(), Fault::parse(fault)?)));
                let (scene, fault) =
                    fault.expect("LAYFLAT_FAULTS is a number, all, or a fault like 'flatten openat EIO 7'");
                Self::One(scene, fault)
            }
        }
    }

    fn concerns(&self, scene: &Scene) -> bool {
        !matches!(self, Self::One(name, _) if name != scene.name)
    }

    fn choose(&self, course: &Course, seed: u64) -> Vec<Fault> {
        match self {
            Self::Sample(most) => calls::sample(&course.calls, *most, seed),
            Self::All => calls::all(&course.calls),
            Self::One(_, fault) => vec![fault.clone()],
        }
    }
}

fn withstands(scene: &'static Scene, asked: &Asked) -> Result<(), Failed> {
    tools::need(&["strace"]);
    tools::need(scene.needs);
    if let Some(reason) = run::cannot_trace() {
        return Err(reason.into());
    }
    let mut course = Course::of(scene)?;
    if !scene.needs.is_empty() {
        // mksquashfs waits for ever for a thread that could not be made.
        course.calls.remove("clone3");
    }
    let seed = scene.name.bytes().map(u64::from).sum();
    let (mut count, mut failures) = (Count::default(), Vec::new());
    for fault in asked.choose(&course, seed) {
        if let Err(why) = judge(scene, &course, &fault, &mut count) {
            failures.push(format!("LAYFLAT_FAULTS='{} {fault}': {why}", scene.name));
        }
    }
    eprintln!("{}: {count}, {} failures", scene.name, failures.len());
    if failures.is_empty() {
        return Ok(());
    }
    let more = failures.len().saturating_sub(PRINTED);
    failures.truncate(PRINTED);
    if more > 0 {
        failures.push(format!("and {more} more"));
    }
    Err(failures.join("\n").into())
}
