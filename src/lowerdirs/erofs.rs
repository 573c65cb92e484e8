//! `layflat.json` of an image whose contents lie in content files or archives, with EROFS images of its tree over them.

use crate::core::digest::Digest;
use std::fs::File;
use std::io::Result;
use std::os::unix::fs::MetadataExt;

/// The contents of such a `layflat.json`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ErofsLayout {
    /// Version of this file's format; this is 1.
    pub format: u32,
    /// Always `erofs`.
    pub form: String,
    /// Digest of the image manifest, where the source has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<Digest>,
    /// Digest of the image's configuration: the image ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_digest: Option<Digest>,
    /// The DiffIDs of the layers, bottom first; none where the layers were not read (`--verify none`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diff_ids: Vec<Digest>,
    /// Whether every byte was checked against the digests that the image states.
    pub verified: bool,
    /// Whether `images` is one for the whole stack, rather than one for each layer.
    pub merged: bool,
    /// The EROFS images, topmost first.
    pub images: Vec<Metadata>,
    /// The files that contents lie in.
    pub devices: Vec<ContentDevice>,
}

/// An EROFS image: the tree, and where contents lie.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Metadata {
    /// Its file, relative to the description.
    pub file: String,
    /// Digest of its bytes.
    pub digest: Digest,
    /// By what its file is recognised.
    pub stamp: Stamp,
    /// Its devices, in its order, as indexes of the description's `devices`.
    pub devices: Vec<usize>,
}

/// A file that contents lie in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ContentDevice {
    /// A plain path relative to the description, or an absolute one.
    pub path: String,
    /// By what it is recognised.
    pub stamp: Stamp,
}

/// By what a file is recognised without being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    /// Its bytes.
    pub size: u64,
    /// When it was last written to: seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Of an archive that is used in place: which file it is.
    pub identity: Option<Identity>,
}

/// Which file one is, and when it was last changed in any way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// The device that it lies on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Its change time: seconds and nanoseconds.
    pub ctime: (i64, i64),
}

impl Stamp {
    /// Of a file that is ours: it may be copied, and keep its times.
    ///
    /// # Errors
    /// As of stat(2).
    pub fn of(file: &File) -> Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { size: metadata.len(), mtime: (metadata.mtime(), metadata.mtime_nsec()), identity: None })
    }

    /// Of a file that is the user's: it is another one if anything is different.
    ///
    /// # Errors
    /// As of stat(2).
    pub fn of_archive(file: &File) -> Result<Self> {
        let metadata = file.metadata()?;
        let ctime = (metadata.ctime(), metadata.ctime_nsec());
        let identity = Identity { device: metadata.dev(), inode: metadata.ino(), ctime };
        Ok(Self { identity: Some(identity), ..Self::of(file)? })
    }

    /// Whether this is still the file.
    pub fn is_of(&self, file: &File) -> bool {
        let now = if self.identity.is_some() { Self::of_archive(file) } else { Self::of(file) };
        now.is_ok_and(|now| now == *self)
    }
}

impl ErofsLayout {
    /// The version of the file's format.
    pub(crate) const FORMAT: u32 = 1;
    /// What the file is about.
    pub(crate) const FORM: &str = "erofs";

    /// As it is written to disk.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }
}
