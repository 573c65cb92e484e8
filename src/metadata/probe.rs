//! Whether the kernel mounts EROFS images from files, found out by trying: versions tell little of what vendors changed.

use std::fs::DirBuilder;
use std::io::BufWriter;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::MetadataError;
use crate::core::stack::{Reading, Stack};
use crate::erofs::{self, BlockSize, Contents, Piece, Plan, Shape};
use crate::mount::{ErofsImage, ErofsRequest, MountOptions};
use crate::unpack::io;
use crate::userns::in_user_namespace;

/// Tries to mount an empty image that lies in the cache, with a device, where nobody sees it.
///
/// # Errors
/// [`MountError::NoErofs`](crate::mount::MountError::NoErofs) where this kernel cannot, or not from there;
/// [`MountError::NotPermitted`](crate::mount::MountError::NotPermitted).
pub fn probe(cache: &Path) -> Result<(), MetadataError> {
    let directory = super::cached::group(cache);
    let failed = || io(format!("cannot make the cache directory {directory:?}"));
    DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed())?;
    empty(&directory)?.mount_nowhere()?;
    Ok(())
}

/// The same with an image that lies in any directory, and without the help of another file system or of loop devices.
#[cfg(feature = "containerd")]
pub(crate) fn probe_files(directory: &Path) -> Result<(), MetadataError> {
    empty(directory)?.mount_nowhere_from_files()?;
    Ok(())
}

/// An empty image in a directory, without a name, with a device.
fn empty(directory: &Path) -> Result<ErofsRequest, MetadataError> {
    if in_user_namespace() {
        return Err(
            crate::mount::MountError::NoErofs("the kernel does not mount it in a user namespace".to_owned()).into()
        );
    }
    let failed = || io(format!("cannot write to the directory {directory:?}"));
    let file = || tempfile::tempfile_in(directory).map_err(failed());
    let stack = Stack::replay_shown(&[], Reading::default()).map_err(crate::unpack::Error::from)?;
    let whole = stack.whole();
    let device = file()?;
    device.set_len(BlockSize::Sector.bytes()).map_err(failed())?;
    let options = erofs::Options {
        block_size: BlockSize::Sector,
        devices: vec![erofs::Device { tag: [0; 64], bytes: BlockSize::Sector.bytes() }],
        ..erofs::Options::new(Shape::Merged)
    };
    let plan = Plan::new(&stack, &whole, &Nothing, &options, &mut |_, _| {})?;
    let mut out = BufWriter::new(file()?);
    plan.write(&mut out)?;
    let metadata = out.into_inner().map_err(std::io::IntoInnerError::into_error).map_err(failed())?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", metadata.as_raw_fd()));
    let image = ErofsImage { path, metadata, devices: vec![Arc::new(device)] };
    Ok(ErofsRequest { images: vec![image], for_erofsfuse: false, options: MountOptions::default() })
}

/// No file has any content.
struct Nothing;

impl Contents for Nothing {
    fn pieces(&self, _: usize, _: crate::core::record::ContentId, _: &mut Vec<Piece>) -> std::io::Result<()> {
        Ok(())
    }

    fn read(&self, _: usize, _: crate::core::record::ContentId, _: u64, _: &mut [u8]) -> std::io::Result<()> {
        Ok(())
    }
}
