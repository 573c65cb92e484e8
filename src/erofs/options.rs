//! What a caller decides about an image.

use std::num::NonZero;

use crate::core::cancel::Cancel;
use crate::core::overlayfs::XattrNamespace;

/// What an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// It is mounted alone, and shows everything as the image has it: genuine devices 0:0, and the image's own
    /// `trusted.overlay.*` attributes. There are no whiteouts.
    Merged,
    /// It is one of the lower directories of an overlay mount: whiteouts are devices 0:0, overlayfs' attributes are in
    /// this namespace, and what overlayfs would take for its own is escaped (rules A6 and A7).
    Layered(XattrNamespace),
}

/// The unit in which contents are addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BlockSize {
    /// 512 bytes, as contents are aligned in tar archives. Kernels before 6.4 do not mount it.
    Sector,
    /// 4096 bytes. Kernels before 6.4 mount only blocks of the size of a page, which this is on most machines.
    #[default]
    Page,
}

impl BlockSize {
    /// The logarithm to the base 2.
    pub(super) fn bits(self) -> u32 {
        match self {
            Self::Sector => 9,
            Self::Page => 12,
        }
    }

    /// Bytes of a block.
    pub fn bytes(self) -> u64 {
        1 << self.bits()
    }
}

/// Another file or block device that contents of files lie in. Devices are named at the mount, with `device=`, in the order
/// of [`Options::devices`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What the image says of it, for people: a digest, say. The kernel does not look at it.
    pub tag: [u8; 64],
    /// Its size.
    pub bytes: u64,
}

/// How an image is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// What it is for.
    pub shape: Shape,
    /// The unit of addresses.
    pub block_size: BlockSize,
    /// The files, besides the image, that contents lie in: at most 65,535.
    pub devices: Vec<Device>,
    /// Whether erofsfuse is to read it, too. Up to version 1.9 it looks into the image itself for what is addressed in the address space that all
    /// devices share, so that each piece of contents names its device; it has room for 256 devices; and it shows whole seconds, which is reported.
    pub for_erofsfuse: bool,
    /// Whether `security.selinux` is written (rule A3).
    pub selinux: bool,
    /// The volume's UUID; all zeros for none.
    pub uuid: [u8; 16],
    /// How many threads encode inodes. The image is the same whatever their number.
    pub jobs: NonZero<usize>,
    /// Set from elsewhere to stop early.
    pub cancel: Cancel,
}

impl Options {
    /// An image of this shape that carries all contents, in pages.
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            block_size: BlockSize::default(),
            devices: Vec::new(),
            for_erofsfuse: false,
            selinux: false,
            uuid: [0; 16],
            jobs: NonZero::<usize>::MIN,
            cancel: Cancel::default(),
        }
    }
}
