//! What a run with a fault must come to.

use std::fmt;

use super::calls::Fault;
use super::place::{Place, Shown};
use super::run::{self, Course, Ran};
use super::scenes::Scene;

/// `std::fs::ReadDir` holds that a directory can always be closed, as it can with every file system of Linux.
const PANIC_OF_STD: &str = "unexpected error during closedir";

/// How the runs ended.
#[derive(Debug, Default)]
pub(crate) struct Count {
    runs: u32,
    /// With success and everything there.
    whole: u32,
    /// With an error.
    refused: u32,
    killed: u32,
    /// Before the call: threads share their work otherwise each time.
    not_reached: u32,
}

impl fmt::Display for Count {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, whole, refused, killed, not_reached } = self;
        write!(formatter, "{runs} runs: {whole} whole, {refused} refused, {killed} killed, {not_reached} not reached")
    }
}

/// Runs a command with a fault, and says what is wrong with what it came to.
pub(crate) fn judge(scene: &Scene, course: &Course, fault: &Fault, count: &mut Count) -> Result<(), String> {
    let place = Place::of(scene);
    let ran = run::with(fault, &place, scene);
    let after = Shown::of(&place);
    let was_mounted = place.is_mounted();
    place.unmount();
    count.runs += 1;
    let judged = match ran.code {
        _ if !fault.kills() && !ran.record.contains("(INJECTED)") => {
            count.not_reached += 1;
            return Ok(());
        }
        Some(0) => {
            count.whole += 1;
            whole(course, fault, &ran, &after)
        }
        None if fault.kills() => {
            count.killed += 1;
            // The mount is the result; the kernel keeps it.
            half(course, &after.finished().results())
        }
        None => Err("it died by a signal, or hung".to_owned()),
        Some(code) => {
            count.refused += 1;
            if fault.is_made_again() && !is_of_tool(&ran) && !is_of_std(&ran) {
                Err("an interrupted call was not made again".to_owned())
            } else {
                refused(course, fault, code, &ran, &after, was_mounted)
            }
        }
    };
    judged.and_then(|()| next(scene, course, &place, fault)).map_err(|why| match ran.stderr.trim() {
        "" => format!("{why}; it said nothing"),
        said => format!("{why}; it said: {said}"),
    })
}

/// Whether the fault was in a program that layflat ran, whose way with interruptions is its own.
fn is_of_tool(ran: &Ran) -> bool {
    ["mkfs.erofs", "sqfstar", "fsck.erofs", "unsquashfs", "e2fsck"].iter().any(|tool| ran.stderr.contains(tool))
}

/// Whether it was opendir(3), which `std` and walkdir call and do not call again. It opens directories, which no file system waits for.
fn is_of_std(ran: &Ran) -> bool {
    let injected = ran.record.lines().filter(|line| line.contains("(INJECTED)"));
    injected.clone().any(|line| line.contains("O_RDONLY|O_NONBLOCK|O_CLOEXEC|O_DIRECTORY"))
}

fn whole(course: &Course, fault: &Fault, ran: &Ran, after: &Shown) -> Result<(), String> {
    let told = cleans(fault) && ran.stderr.contains("note: cannot remove the temporary directory");
    let after = if told { &after.finished() } else { after };
    if let Some(differences) = after.results().differences(&course.good.results()) {
        return Err(format!("success, but {differences}"));
    }
    if course.stdout.as_ref().is_some_and(|stdout| *stdout != ran.stdout) {
        return Err("success, but it printed something else".to_owned());
    }
    cached(course, &after.cache())
}

/// The destination is as it was, or whole. Blobs that no index of a layout names are no half result: another process may count on one
/// from the moment that it is there.
fn half(course: &Course, after: &Shown) -> Result<(), String> {
    let after = &after.without_unnamed_blobs(&course.before, &course.good);
    match (after.differences(&course.before.results()), after.differences(&course.good.results())) {
        (Some(before), Some(good)) => Err(format!("half a result: not as before ({before}), not whole ({good})")),
        _ => Ok(()),
    }
}

fn refused(
    course: &Course,
    fault: &Fault,
    code: i32,
    ran: &Ran,
    after: &Shown,
    was_mounted: bool,
) -> Result<(), String> {
    if (ran.stderr.contains("panicked") || code == 101) && !ran.stderr.contains(PANIC_OF_STD) {
        return Err("a panic".to_owned());
    }
    let errors = ran.stderr.lines().filter(|line| line.starts_with("layflat: ")).count();
    // Its end may have been what could not be written.
    let could_say_it = fault.call != "write" && !ran.stderr.contains(PANIC_OF_STD);
    if could_say_it && errors != 1 {
        return Err(format!("exit code {code} and {errors} messages"));
    }
    if was_mounted {
        return Err("an error, and a mount".to_owned());
    }
    let told = cleans(fault) && ran.stderr.contains("note: cannot remove the temporary directory");
    let after = if told { after.finished() } else { after.clone() };
    half(course, &after.results())?;
    cached(course, &after.cache())
}

/// Whether removing what is unfinished needs this call, too.
fn cleans(fault: &Fault) -> bool {
    ["unlinkat", "getdents64", "openat", "openat2", "fstat", "newfstatat", "statx", "fcntl"]
        .contains(&fault.call.as_str())
}

/// Whatever is in the cache is as it would be, or not there.
fn cached(course: &Course, after: &Shown) -> Result<(), String> {
    let expected = course.good.0.iter().chain(&course.before.0);
    let wrong = after.0.iter().find(|(name, is)| {
        !expected
            .clone()
            .any(|(other, expected)| other == *name && (expected == *is || expected == "*" || is.starts_with('4')))
    });
    wrong.map_or(Ok(()), |(name, is)| Err(format!("in the cache {name} is {is}")))
}

/// The same command once more, undisturbed: nothing keeps it from its work, and nothing is left of the run before.
fn next(scene: &Scene, course: &Course, place: &Place, fault: &Fault) -> Result<(), String> {
    place.begin_again(&course.before);
    let ran = run::plain(place, scene);
    if ran.code != Some(0) {
        return Err(format!("the next run fails: {}", ran.stderr.trim()));
    }
    let after = Shown::of(place);
    place.unmount();
    let expected = &course.good;
    match after.results().differences(&expected.results()).or_else(|| after.cache().differences(&expected.cache())) {
        Some(differences) => Err(format!("after {} and the next run {differences}", fault.error)),
        None => Ok(()),
    }
}
