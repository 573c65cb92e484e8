//! Images of file systems, mounted by loop devices. Needs root.

use std::path::Path;
use std::process::Command;

use super::run::Scratch;
use super::unmount::dropped;

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
        dropped(&self.0.0);
    }
}
