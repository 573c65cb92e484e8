//! Everything in a cache against its digests.

use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::blobs::is_right;
use super::contents::{CONTENTS, CacheEntry, CacheError, CacheKind, EROFS, EXPORTS, INDEXES, entries};
use super::image;
use super::layer::check;
use super::lock::Of;
use super::prune::remove_with_images;
use super::sealed::SEAL;
use crate::core::cancel::Cancel;
use crate::lowerdirs::{Check, Depth, FileSeal, erofs_damage, file_damage};

/// The bytes at the end of an index that are the digest of all before them.
const CHECKSUM: usize = 32;

/// Something that is not what it was.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Damaged {
    /// What it is.
    pub kind: CacheKind,
    /// A blob's digest, else its file's name.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
    /// Whether it was removed, so that it is fetched or unpacked anew when it is needed.
    pub removed: bool,
    /// Where it is.
    pub path: PathBuf,
}

/// What was found out about a cache.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Verified {
    /// How many things were read.
    pub checked: u64,
    /// Those that are damaged.
    pub damaged: Vec<Damaged>,
}

/// Reads everything in a cache and compares it with its digests: blobs with their names, indexes with their checksums,
/// unpacked layers, content files and EROFS images with the digest of what they were when they were made. `repair`: removes what is damaged, unless it
/// is in use; it is fetched or unpacked anew when it is needed. None if the work was cancelled.
///
/// # Errors
/// A directory that cannot be read; what cannot be removed.
pub fn verify(cache: &Path, repair: bool, cancel: &Cancel) -> Result<Option<Verified>, CacheError> {
    let mut verified = Verified { checked: 0, damaged: Vec::new() };
    for entry in entries(cache, true)? {
        if cancel.is_cancelled() {
            return Ok(None);
        }
        if entry.kind == CacheKind::Remains {
            continue;
        }
        verified.checked += 1;
        let every_byte = Check { every_byte: true, cancel: cancel.clone() };
        let Some(problem) = damage(&entry, &every_byte) else { continue };
        if cancel.is_cancelled() {
            return Ok(None);
        }
        // It may have gone since it was listed.
        if !entry.path.exists() {
            continue;
        }
        let removed = repair && remove_with_images(cache, &entry.path)?;
        let CacheEntry { kind, name, path, .. } = entry;
        verified.damaged.push(Damaged { kind, name, problem, removed, path });
    }
    Ok(Some(verified))
}

fn damage(entry: &CacheEntry, every_byte: &Check) -> Option<String> {
    match &entry.kind {
        CacheKind::Blob => match is_right(&entry.path, &entry.name) {
            true => None,
            false => Some("its bytes are not what its digest says".to_owned()),
        },
        CacheKind::Layer => check(Of::Own, &entry.path, Depth::Content).err(),
        CacheKind::Image => image::damage(&entry.path),
        CacheKind::Directory(group) if group == INDEXES => index_damage(&entry.path),
        CacheKind::Directory(group) if group == CONTENTS => {
            let seal = FileSeal::read(&entry.path.join(SEAL));
            let index = || index_damage(&entry.path.join("index")).map(|problem| format!("index: {problem}"));
            file_damage(&entry.path.join("data"), seal, every_byte).or_else(index)
        }
        CacheKind::Directory(group) if group == EXPORTS => {
            let seal = FileSeal::read(&entry.path.join(SEAL));
            file_damage(&sealed_file(&entry.path), seal, every_byte)
        }
        CacheKind::Directory(group) if group == EROFS => erofs_damage(&entry.path, every_byte),
        kind if kind.is_old() => crate::lowerdirs::damage(&entry.path),
        _ => None,
    }
}

/// The file system image in a directory.
fn sealed_file(place: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path());
    files.find(|file| file.file_stem().is_some_and(|stem| stem == "rootfs")).unwrap_or_else(|| place.join("rootfs"))
}

fn index_damage(path: &Path) -> Option<String> {
    match has_checksum(path) {
        Ok(true) => None,
        Ok(false) => Some("its checksum is not that of its bytes".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// Whether a file ends with the SHA-256 of all that is before it, as indexes do.
fn has_checksum(path: &Path) -> std::io::Result<bool> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.read_to_end(&mut bytes)?;
    let parts = bytes.len().checked_sub(CHECKSUM).map(|end| bytes.split_at(end));
    Ok(parts.is_some_and(|(content, checksum)| Sha256::digest(content).as_slice() == checksum))
}
