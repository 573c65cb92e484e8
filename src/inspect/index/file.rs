//! Indexes as they are kept: `index/<algorithm>-<hex>` in the cache directory, one file a layer.
//!
//! ```text
//! layflat index\n        14 bytes
//! version                u32, little-endian
//! body                   postcard: the DiffID, the record, the contents
//! SHA-256                of all that stands before
//! ```
//! A file is only believed if all of it is as it should be; else the layer is read anew and the file replaced. Files
//! appear by one rename, so that several processes may share the directory.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Content;
use crate::cache::{Turn, Waiting};
use crate::core::digest::Digest;
use crate::core::record::{ChangeKind, ContentId, NameId, RECORD_VERSION, Record};

const MAGIC: &[u8] = b"layflat index\n";
/// Counts the forms of what the body holds beside the record.
const CONTENTS: u32 = 1;
/// It changes with whatever the body holds: each of the two only grows.
const VERSION: u32 = RECORD_VERSION + CONTENTS;
const HASH: usize = 32;
/// The directory of the cache that holds them.
const DIRECTORY: &str = "index";

/// The body, borrowed to be written and owned when it was read.
#[derive(Serialize, Deserialize)]
struct Body<D, R, C> {
    diff_id: D,
    record: R,
    contents: C,
}

fn place(cache: &Path, diff_id: &Digest) -> PathBuf {
    cache.join(DIRECTORY).join(name(diff_id))
}

fn name(diff_id: &Digest) -> String {
    format!("{}-{}", diff_id.algorithm().name(), diff_id.hex())
}

/// The index that is kept under a DiffID; none if there is none that can be believed.
pub(super) fn read(cache: &Path, diff_id: &Digest) -> Option<(Record, Vec<Content>)> {
    decode(&std::fs::read(place(cache, diff_id)).ok()?, diff_id)
}

/// Removes what killed processes left behind.
pub(super) fn sweep(cache: &Path) {
    crate::cache::sweep(&cache.join(DIRECTORY));
}

/// The turn to make an index, if nobody else has it.
pub(super) fn turn(cache: &Path, diff_id: &Digest) -> Option<Turn> {
    Turn::try_take(&cache.join(DIRECTORY), &name(diff_id))
}

/// Waits for another process that makes an index; nothing if the work was cancelled.
pub(super) fn wait(cache: &Path, diff_id: &Digest, waiting: &Waiting) -> Option<Turn> {
    Turn::take(&cache.join(DIRECTORY), &name(diff_id), waiting, &format_args!("indexes layer {diff_id}"))
}

/// Keeps an index under its DiffID.
pub(super) fn store(
    cache: &Path,
    diff_id: &Digest,
    record: &Record,
    contents: &[Content],
    turn: Turn,
) -> std::io::Result<()> {
    let place = place(cache, diff_id);
    // What is in an image may be nobody else's business (XDG Base Directory Specification: 0700).
    DirBuilder::new().recursive(true).mode(0o700).create(cache.join(DIRECTORY))?;
    turn.publish(&encode(diff_id, record, contents)?, &place)
}

/// Reads a body that has the right frame, and asks of what was read what is asked of every index.
#[cfg(any(fuzzing, test))]
pub(super) fn checked_body(body: &[u8]) {
    let mut bytes = [MAGIC, &VERSION.to_le_bytes(), body].concat();
    bytes.extend_from_slice(&Sha256::digest(&bytes));
    // A DiffID stands first.
    let Ok((diff_id, _)) = postcard::take_from_bytes::<Digest>(body) else { return };
    if let Some((record, contents)) = decode(&bytes, &diff_id) {
        let again = encode(&diff_id, &record, &contents).ok();
        assert!(again.and_then(|again| decode(&again, &diff_id)).is_some(), "what was read cannot be read again");
        let _ = crate::core::stack::Stack::replay(&[record], crate::core::stack::Reading::default());
    }
}

fn encode(diff_id: &Digest, record: &Record, contents: &[Content]) -> std::io::Result<Vec<u8>> {
    let body = postcard::to_allocvec(&Body { diff_id, record, contents }).map_err(std::io::Error::other)?;
    let mut bytes = [MAGIC, &VERSION.to_le_bytes(), &body].concat();
    bytes.extend_from_slice(&Sha256::digest(&bytes));
    Ok(bytes)
}

fn decode(bytes: &[u8], diff_id: &Digest) -> Option<(Record, Vec<Content>)> {
    let (checked, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH)?)?;
    if Sha256::digest(checked).as_slice() != hash {
        return None;
    }
    let body = checked.strip_prefix(MAGIC)?.strip_prefix(&VERSION.to_le_bytes())?;
    let (body, rest): (Body<Digest, Record, Vec<Content>>, _) = postcard::take_from_bytes(body).ok()?;
    let Body { diff_id: found, record, contents } = body;
    let sound = found == *diff_id && rest.is_empty() && is_sound(&record, contents.len());
    sound.then_some((record, contents))
}

/// Whether everything that a record points at is there.
fn is_sound(record: &Record, contents: usize) -> bool {
    let named = |name: NameId| name.index() < record.names.len();
    record.changes.iter().all(|change| {
        named(change.name)
            && match change.kind {
                ChangeKind::HardLink { target } => named(target),
                // A file for a root has none; the stack refuses it.
                ChangeKind::File { content: ContentId(u32::MAX), .. } => change.name == NameId::ROOT,
                ChangeKind::File { content, .. } | ChangeKind::LinkSource { content, .. } => {
                    (content.0 as usize) < contents
                }
                _ => true,
            }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::layer::{ReadOptions, read_layer};
    use crate::core::record::{Change, LayerPath};
    use crate::inspect::index::Hashing;

    /// The index of one of the fixtures' archives, with xattrs, ACLs, links and holes in it.
    fn index(name: &str) -> (Digest, Record, Vec<Content>) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/archives").join(name);
        let bytes = std::fs::read(path).unwrap();
        let mut sink = Hashing::default();
        let record = read_layer(&mut bytes.as_slice(), &mut sink, &ReadOptions::default(), &mut |_| {}).unwrap();
        (Digest::sha256_of(&bytes), record, sink.into_contents())
    }

    fn same(one: &Record, other: &Record) {
        let paths = |record: &Record| record.names.ids().map(|id| record.names.path(id)).collect::<Vec<LayerPath>>();
        assert_eq!(one.changes, other.changes);
        assert_eq!(paths(one), paths(other));
        assert_eq!(one.global_headers, other.global_headers);
    }

    #[test]
    fn what_is_kept_comes_back() {
        let cache = tempfile::tempdir().unwrap();
        for name in ["gnutar-acls.tar", "bsdtar-xattrs.tar", "gnutar-sparse-1.0.tar", "python-pax.tar"] {
            let (diff_id, record, contents) = index(name);
            assert!(read(cache.path(), &diff_id).is_none());
            let turn = turn(cache.path(), &diff_id).unwrap();
            store(cache.path(), &diff_id, &record, &contents, turn).unwrap();
            let (found, found_contents) = read(cache.path(), &diff_id).unwrap();
            same(&record, &found);
            assert_eq!(contents, found_contents);
        }
        let names = std::fs::read_dir(cache.path().join("index")).unwrap();
        assert_eq!(names.count(), 4, "nothing temporary stays");
    }

    #[test]
    fn a_damaged_file_is_not_believed() {
        let (diff_id, record, contents) = index("gnutar-pax.tar");
        let bytes = encode(&diff_id, &record, &contents).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(decode(&damaged, &diff_id).is_none(), "byte {at}");
        }
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length], &diff_id).is_none(), "{length} bytes");
        }
        assert!(decode(&bytes, &Digest::sha256_of(b"another")).is_none());
    }

    #[test]
    fn what_points_nowhere_is_not_believed() {
        let refused = |spoil: &dyn Fn(&mut Record)| {
            let (diff_id, mut record, contents) = index("gnutar-ustar.tar");
            spoil(&mut record);
            decode(&encode(&diff_id, &record, &contents).unwrap(), &diff_id).is_none()
        };
        let (_, other, _) = index("gnutar-pax.tar");
        let beyond = other.names.ids().next_back().unwrap();
        assert!(!refused(&|_| {}));
        assert!(refused(&|record| {
            for change in &mut record.changes {
                if let ChangeKind::File { content, .. } = &mut change.kind {
                    content.0 += 1000;
                }
            }
        }));
        assert!(refused(&|record| {
            record.changes.push(Change { name: NameId::ROOT, kind: ChangeKind::HardLink { target: beyond } });
            record.names = crate::core::record::Names::new();
        }));
    }

    /// The checksum detects corruption, not tampering.
    #[test]
    fn what_is_spoilt_under_a_right_checksum_does_no_harm() {
        let (diff_id, record, contents) = index("bsdtar-xattrs.tar");
        let bytes = encode(&diff_id, &record, &contents).unwrap();
        let end = bytes.len() - HASH;
        let mut believed = 0;
        for at in MAGIC.len() + 4..end {
            for change in [1, 0x80, 0xff] {
                let mut spoilt = bytes[..end].to_vec();
                spoilt[at] ^= change;
                spoilt.extend_from_slice(&Sha256::digest(&spoilt));
                if let Some((record, _)) = decode(&spoilt, &diff_id) {
                    believed += 1;
                    let stack = crate::core::stack::Stack::replay(&[record], crate::core::stack::Reading::default())
                        .map(|_| ());
                    drop(stack);
                }
            }
        }
        assert!(believed > 0, "some bytes are contents of attributes");
    }

    /// Whoever changes what a record holds has to count [`VERSION`] up, or old files would be read as something else.
    #[test]
    fn the_form_of_the_body_belongs_to_the_version() {
        let (diff_id, record, contents) = index("gnutar-acls.tar");
        let bytes = encode(&diff_id, &record, &contents).unwrap();
        assert_eq!(
            (VERSION, Digest::sha256_of(&bytes).hex()),
            (3, "86d52fb64737c32802ac4097df8097a973a0dec4ce61c0af78d7e8d529366672")
        );
    }
}
