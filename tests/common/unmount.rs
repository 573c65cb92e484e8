//! Unmounting beside other tests: one of them may be starting a program, which has our handles until it runs.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use layflat::mount::{UnmountError, umount};
use rustix::mount::UnmountFlags;

use super::place::Place;
use super::wait::PATIENCE;

/// Does it again while it is in use.
pub fn when_free<E>(mut unmount: impl FnMut() -> Result<(), E>, is_busy: impl Fn(&E) -> bool) -> Result<(), E> {
    let begun = Instant::now();
    loop {
        match unmount() {
            Err(error) if is_busy(&error) && begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(20))
            }
            done => return done,
        }
    }
}

/// Unmounts what no test has any business with any more.
#[track_caller]
pub fn unmounted(target: &Path) {
    when_free(|| umount(target, false), |error| matches!(error, UnmountError::Busy(_))).unwrap();
}

/// The same by umount(8).
#[track_caller]
pub fn by_umount(target: &Path) {
    by(|| Command::new("umount").env("LC_ALL", "C").arg(target).output().unwrap(), "busy");
}

/// The same by a command of layflat, which tries for half a second by itself; what it says.
#[track_caller]
pub fn by_layflat(run: impl Fn() -> Output) -> String {
    by(run, "is in use")
}

/// The same where a test runs.
pub trait Unmounts {
    fn unmounts(&self, target: &str) -> String;
}

impl Unmounts for Place {
    #[track_caller]
    fn unmounts(&self, target: &str) -> String {
        by_layflat(|| self.run(&["umount", target]))
    }
}

#[track_caller]
fn by(run: impl Fn() -> Output, busy: &str) -> String {
    let said = |output: &Output| String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    let mut done = String::new();
    let unmount = || {
        let output = run();
        done = said(&output);
        if output.status.success() { Ok(()) } else { Err(done.clone()) }
    };
    when_free(unmount, |said| said.contains(busy)).unwrap_or_else(|said| panic!("{said}"));
    done
}

/// For what goes with a value: by umount(8); of a test that has failed already out of sight, whoever uses it.
pub fn dropped(target: &Path) {
    if std::thread::panicking() {
        let _ = rustix::mount::unmount(target, UnmountFlags::DETACH);
    } else {
        by_umount(target);
    }
}
