//! The clock by which the kernel dates files: what happens within one of its ticks may have the same time.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Waits until what is done to a file has another time than what was done to it last.
pub fn passes(path: &Path) {
    let metadata = path.symlink_metadata().unwrap();
    let last = (metadata.ctime(), metadata.ctime_nsec());
    let now = || clock_gettime(ClockId::RealtimeCoarse);
    while (now().tv_sec, now().tv_nsec) <= last {
        std::thread::sleep(Duration::from_millis(1));
    }
}
