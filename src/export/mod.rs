//! Exports the flat tree as one file: a tar archive, or a file system image.
//!
//! The archive, the EROFS and the ext4 image are written from the replayed stack, and no tree is unpacked for them: the layers are read
//! once, contents are kept in files without a name, and come out in the order of their paths. So is the archive that `sqfstar` makes a
//! SquashFS image of. A compressed EROFS image is made by `mkfs.erofs` from the flat form. EROFS and SquashFS images are also kept in the cache, one
//! for each image.

mod archive;
mod compressed_erofs;
mod enroot;
mod entries;
mod erofs;
mod ext4;
mod kept;
mod squashfs;
mod squashfs_root;
mod tool;

pub use archive::flat_archive;
pub use compressed_erofs::{ErofsCompression, flat_compressed_erofs};
pub(crate) use entries::{Change, Spooled, Whiteouts, needed_contents, write_changed, write_entries};
pub use erofs::flat_erofs;
pub use ext4::{Ext4, flat_ext4};
pub use kept::{FileSystem, KeptFile, kept_file};
pub use squashfs::flat_squashfs;
