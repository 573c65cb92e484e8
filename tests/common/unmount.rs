//! Unmounting beside other tests.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use layflat::mount::{UnmountError, umount};

/// Does it again while it is in use: a test beside this one may be starting a program, which has our handles for a moment.
pub fn when_free<E>(mut unmount: impl FnMut() -> Result<(), E>, is_busy: impl Fn(&E) -> bool) -> Result<(), E> {
    for _ in 0..200 {
        match unmount() {
            Err(error) if is_busy(&error) => std::thread::sleep(Duration::from_millis(20)),
            done => return done,
        }
    }
    unmount()
}

/// Unmounts what no test has any business with any more.
#[track_caller]
pub fn unmounted(target: &Path) {
    when_free(|| umount(target, false), |error| matches!(error, UnmountError::Busy(_))).unwrap();
}

/// Unmounts it by umount(8).
#[track_caller]
pub fn by_umount(target: &Path) {
    let unmount = || {
        let output = Command::new("umount").arg(target).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(output.stderr) }
    };
    if let Err(said) = when_free(unmount, |_| true) {
        panic!("{}", String::from_utf8_lossy(&said));
    }
}
