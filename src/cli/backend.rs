//! How an image is made ready for mounting: arguments of several commands.

use anyhow::bail;
use clap::Args;
use layflat::metadata::{Backend, How, Stacking, Verify};

/// Which way, and what is checked.
#[derive(Debug, Args)]
pub(crate) struct BackendArgs {
    /// What to mount: EROFS images, by the kernel or erofsfuse, or unpacked layers, by overlayfs or fuse-overlayfs [default: EROFS by the
    /// kernel, overlay, erofsfuse: the first that you may mount]
    #[arg(long, value_name = "BACKEND")]
    backend: Option<BackendArg>,
    /// With EROFS: use the contents in the image's own archive instead of copying them to the cache. The layers must not be compressed, and nobody
    /// else may be able to write the archive
    #[arg(long)]
    in_place: bool,
    /// With EROFS: check every byte before the mount appears (full), or only of what changed since it was last checked (cached); of an archive in place
    /// read only the headers (none) [default: full with --in-place, else cached]
    #[arg(hide_short_help = true, long, value_name = "WHAT")]
    verify: Option<VerifyArg>,
}

/// What to mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BackendArg {
    /// EROFS images, by the kernel
    Erofs,
    /// An EROFS image, read-only, by erofsfuse
    Erofsfuse,
    /// Unpacked layers
    Overlay,
    /// Unpacked layers, by fuse-overlayfs
    Fuse,
}

/// What is checked.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum VerifyArg {
    /// Every byte
    Full,
    /// Every byte of what was changed
    Cached,
    /// Nothing
    None,
}

impl BackendArg {
    fn is_erofs(self) -> bool {
        matches!(self, Self::Erofs | Self::Erofsfuse)
    }
}

impl BackendArgs {
    /// The library's way.
    pub(crate) fn how(&self, stacking: Stacking) -> anyhow::Result<How> {
        if self.in_place && self.backend.is_some_and(|backend| !backend.is_erofs()) {
            bail!("--in-place requires --backend erofs: unpacked layers are copies");
        }
        if self.verify.is_some() && self.backend.is_some_and(|backend| !backend.is_erofs()) {
            bail!("--verify requires --backend erofs: unpacked layers are checked by `layflat cache verify`");
        }
        if self.is_erofsfuse() && !matches!(stacking, Stacking::Merged | Stacking::MergedForErofsfuse) {
            bail!(
                "--backend erofsfuse is for mount and layers, without --upper and --layered: it shows one image, read-only"
            );
        }
        let backend = match self.backend {
            None => Backend::Fastest,
            Some(BackendArg::Erofs) => Backend::Erofs,
            Some(BackendArg::Erofsfuse) => Backend::Erofsfuse,
            Some(BackendArg::Overlay | BackendArg::Fuse) => Backend::Overlay,
        };
        let verify = match self.verify {
            None => None,
            Some(VerifyArg::Full) => Some(Verify::Full),
            Some(VerifyArg::Cached) => Some(Verify::Cached),
            Some(VerifyArg::None) => Some(Verify::Nothing),
        };
        Ok(How { backend, stacking, in_place: self.in_place, verify })
    }

    /// Whether every byte is to be read.
    pub(crate) fn checks_every_byte(&self) -> bool {
        matches!(self.verify, Some(VerifyArg::Full))
    }

    /// Whether fuse-overlayfs was asked for.
    pub(crate) fn is_fuse(&self) -> bool {
        self.backend == Some(BackendArg::Fuse)
    }

    /// Whether erofsfuse was asked for.
    pub(crate) fn is_erofsfuse(&self) -> bool {
        self.backend == Some(BackendArg::Erofsfuse)
    }

    /// Whether EROFS images were asked for.
    pub(crate) fn is_erofs(&self) -> bool {
        self.backend.is_some_and(BackendArg::is_erofs) || self.in_place
    }
}
