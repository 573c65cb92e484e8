//! The harness of the programs `privileged`, `hostile` and `containerd`: tests that are not possible everywhere count as ignored
//! where they are not.
//!
//! A module hands over its tests as [`Trial`]s; [`main`] runs those of all modules, each under the module's name. A
//! function with the attribute `#[test]` would never be run in such a program, and the compiler says nothing:
//! `tests/integration/documents.rs` finds it.

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed};

use super::run::{self, Power};
use super::tools;

/// The name of a module, and what makes its tests. Called while this process has one thread.
pub type Group = (&'static str, fn() -> Vec<Trial>);

/// The name of a test, whether it needs root, and the test.
pub type Test = (&'static str, bool, fn());

/// Names the only module to run: this program starts itself where a test needs a process of its own.
const ONLY: &str = "LAYFLAT_TEST_ONLY";

/// Has the slowest tests told at the end: `LAYFLAT_TEST_TIMES=20` for so many.
const TIMES: &str = "LAYFLAT_TEST_TIMES";

/// How long each test took, where that is asked for.
static TOOK: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());

/// A test that counts as ignored where it is not possible, or where a program that it needs is not installed.
pub struct Trial {
    name: String,
    ignored: bool,
    run: Run,
}

impl Trial {
    pub fn test(name: impl Into<String>, run: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Self {
        Self { name: name.into(), ignored: false, run: Box::new(run) }
    }

    pub fn with_ignored_flag(mut self, ignored: bool) -> Self {
        self.ignored = ignored;
        self
    }
}

/// The tests of a list.
pub fn trials<'a>(tests: impl IntoIterator<Item = &'a Test>) -> Vec<Trial> {
    let trial = |&(name, needs_root, test): &Test| {
        let run = move || {
            test();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(needs_root && !run::is_root())
    };
    tests.into_iter().map(trial).collect()
}

/// Runs the tests that the command line asks for.
pub fn main(groups: &[Group]) -> ExitCode {
    run(groups, false)
}

/// The same, each test in a mount namespace of its own, if this is root.
pub fn main_with_own_mounts(groups: &[Group]) -> ExitCode {
    run(groups, true)
}

fn run(groups: &[Group], own_mounts: bool) -> ExitCode {
    match run::begin() {
        Power::Root => {}
        Power::User => eprintln!("not root: tests that need root count as ignored"),
        Power::Nothing(why) => eprintln!("tests that need root or mounts count as ignored: {why}"),
    }
    let mut arguments = Arguments::from_args();
    // Many tests wait more than they compute.
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    arguments.test_threads.get_or_insert(2 * processors);
    let only = std::env::var(ONLY).ok();
    let slowest: Option<usize> = std::env::var(TIMES).ok().and_then(|number| number.parse().ok());
    let mut trials = Vec::new();
    for (group, make) in groups.iter().filter(|(group, _)| only.as_deref().is_none_or(|only| only == *group)) {
        for Trial { name, ignored, run } in make() {
            let name = format!("{group}::{name}");
            let run = if own_mounts { with_own_mounts(name.clone(), run) } else { run };
            let run = if slowest.is_some() { timed(name.clone(), run) } else { run };
            trials.push(tools::trial(name, run).with_ignored_flag(ignored));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    run::end();
    if let Some(slowest) = slowest {
        tell(slowest);
    }
    conclusion.exit_code()
}

type Run = Box<dyn FnOnce() -> Result<(), Failed> + Send>;

fn with_own_mounts(name: String, run: Run) -> Run {
    Box::new(move || run::with_own_mounts(&name, run))
}

fn timed(name: String, run: Run) -> Run {
    Box::new(move || {
        let start = Instant::now();
        let ended = run();
        if let Ok(mut took) = TOOK.lock() {
            took.push((start.elapsed(), name));
        }
        ended
    })
}

fn tell(slowest: usize) {
    let Ok(mut took) = TOOK.lock() else { return };
    took.sort_unstable_by(|one, other| other.cmp(one));
    let whole: Duration = took.iter().map(|(duration, _)| *duration).sum();
    println!("{} tests, {:.1} s one after the other; the slowest:", took.len(), whole.as_secs_f64());
    for (duration, name) in took.iter().take(slowest) {
        println!("{:8.2} s  {name}", duration.as_secs_f64());
    }
}

/// What makes a process of this program run the tests of one module only.
pub fn only(group: &'static str) -> (&'static str, &'static str) {
    (ONLY, group)
}
