//! Images of file systems, mounted by loop devices. Needs root.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::run::Scratch;

/// A mount that goes when this is dropped.
pub struct Mounted(Scratch);

impl Mounted {
    /// `options` besides `loop`: `ro` for one that is only looked at.
    pub fn new(image: &Path, kind: &str, options: &str) -> Self {
        let place = Scratch::new(&std::env::temp_dir());
        let mut mount = Command::new("mount");
        let output = mount.args(["-t", kind, "-o", options]).arg(image).arg(&place.0).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(place)
    }

    pub fn path(&self) -> &Path {
        &self.0.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A test beside this one may be starting a program, which has our handles for a moment.
        for _ in 0..200 {
            let output = Command::new("umount").arg(&self.0.0).output().unwrap();
            if output.status.success() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{:?} stays busy", self.0.0);
    }
}
