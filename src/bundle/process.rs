//! What a container's program finds, for whoever runs it without a runtime.

use std::os::fd::OwnedFd;

use super::error::BundleError;
use super::options::{BundleOptions, Confinement, Overrides};
use super::rootfs::Rootfs;
use super::runtime::Mount;
use super::spec::{Converted, convert};
use crate::image::Config;
use crate::metadata::How;
use crate::unpack::Owners;

/// A program, and what is around it. The binds of the caller are not in it.
#[derive(Debug)]
pub(crate) struct Process {
    /// The program, and its arguments.
    pub(crate) args: Vec<String>,
    /// `NAME=VALUE`.
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) hostname: String,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) masked_paths: Vec<String>,
    pub(crate) read_only_paths: Vec<String>,
    /// What of the image's configuration is not in it, and why.
    pub(crate) left_out: Vec<String>,
}

/// Converts an image's configuration, as for a bundle; an image of bare layers has none.
pub(crate) fn process_of(
    image: Option<&Config>,
    root: OwnedFd,
    overrides: &Overrides,
    confinement: Confinement,
) -> Result<Process, BundleError> {
    let overrides = Overrides { binds: Vec::new(), ..overrides.clone() };
    let options = BundleOptions { overrides, confinement, how: How::default() };
    let Converted { spec, left_out } = convert(image, &Rootfs::new(root, Owners::AsTheyAre), &options, false)?;
    let process = spec.process;
    Ok(Process {
        args: process.args,
        env: process.env,
        cwd: process.cwd,
        uid: process.user.uid,
        gid: process.user.gid,
        groups: process.user.additional_gids,
        hostname: spec.hostname,
        mounts: spec.mounts,
        masked_paths: spec.linux.masked_paths,
        read_only_paths: spec.linux.readonly_paths,
        left_out,
    })
}
