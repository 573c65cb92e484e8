//! FUSE's device, for tests that start programs which need it.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{CWD, FileType, Mode, makedev};
use rustix::mount::MountFlags;

/// Where it is.
const DEVICE: &str = "/dev/fuse";

/// Lets every user open the device, in the mount namespace of this process; only for root. That of the machine may be root's alone.
///
/// # Errors
/// It cannot be mounted over.
pub fn open_to_all() -> io::Result<()> {
    static DONE: OnceLock<Result<(), io::ErrorKind>> = OnceLock::new();
    DONE.get_or_init(|| make().map_err(|error| error.kind())).map_err(io::Error::from)
}

fn make() -> io::Result<()> {
    if !Path::new(DEVICE).exists() {
        return Ok(());
    }
    let place = tempfile::tempdir()?;
    let node = place.path().join("fuse");
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(CWD, &node, FileType::CharacterDevice, mode, makedev(10, 229))?;
    rustix::fs::chmod(&node, mode)?;
    Ok(rustix::mount::mount(&node, DEVICE, "", MountFlags::BIND, None)?)
}

/// Whether this process may use it.
///
/// # Errors
/// Why not.
pub fn is_usable() -> Result<(), String> {
    match File::options().read(true).write(true).open(DEVICE) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{DEVICE} cannot be opened: {error}")),
    }
}
