//! Reports what was unpacked, and what could not be preserved (rule A4).

use std::collections::BTreeMap;
use std::path::PathBuf;

use hashbrown::HashSet;

use crate::blob::LayerFacts;
use crate::core::digest::Digest;
use crate::core::overlayfs::XattrNamespace;
use crate::core::record::{ChangeKind, LayerPath, Record};
use crate::core::stack::{Difference, InodeId, Stack, What};
use crate::image::Notice;
use crate::unpack::Error;

/// One unpacking of an image.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    /// What the source calls the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Digest of the image manifest, where the source has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<Digest>,
    /// Digest of the configuration: the image ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_digest: Option<Digest>,
    /// `flat` or `overlay`; of a flat tree in a file its format: `tar`, `erofs` or `squashfs`.
    pub form: &'static str,
    /// Where it lies.
    pub destination: PathBuf,
    /// The namespace of the overlayfs whiteouts and opaque directories, in overlay layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xattr_namespace: Option<XattrNamespace>,
    /// The layers, bottom first.
    pub layers: Vec<LayerReport>,
    /// Entries of all layers.
    pub entries: u64,
    /// Stored bytes of all layers.
    pub size: u64,
    /// Uncompressed bytes of all layers.
    pub expanded: u64,
    /// What was made of them.
    #[serde(flatten)]
    pub made: Made,
    /// What the destination could not hold (rule A4).
    pub not_kept: Vec<Loss>,
    /// What is not as it should be about the image, and was no reason to refuse it (rule D4).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
    /// Seconds spent, by the clock on the wall.
    pub seconds: Seconds,
}

impl Report {
    /// An error, if anything was lost.
    pub(crate) fn refuse_losses(&self) -> Result<(), Error> {
        self.not_kept.first().map_or(Ok(()), |first| Err(first.refused()))
    }
}

/// How much was made: one tree, or the directories of several layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Made {
    /// Names of everything but directories.
    pub files: u64,
    /// Bytes of the files' contents, holes counted; in each tree those of an inode once.
    pub bytes: u64,
    /// Names that a filter left out.
    #[serde(skip_serializing_if = "is_zero")]
    pub excluded: u64,
}

impl Made {
    /// What these hold together.
    pub(crate) fn of<'d>(stack: &Stack<'_>, trees: impl IntoIterator<Item = &'d Difference>) -> Self {
        let mut made = Self::default();
        let mut linked: HashSet<InodeId> = HashSet::new();
        for tree in trees {
            linked.clear();
            made.excluded += tree.left_out();
            for entry in tree.entries() {
                let What::Leaf(inode) = entry.what else { continue };
                made.files += 1;
                if let ChangeKind::File { size, .. } | ChangeKind::LinkSource { size, .. } = stack.origin(inode).1.kind
                    && (!stack.is_linked(inode) || linked.insert(inode))
                {
                    made.bytes = made.bytes.saturating_add(size);
                }
            }
        }
        made
    }
}

/// Seconds spent, by the clock on the wall.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Seconds {
    /// Reading, checking and writing the layers.
    pub read: f64,
    /// Working out what lies where, and putting it there.
    pub settle: f64,
    /// All of it.
    pub total: f64,
}

/// One layer of a laid-down image.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LayerReport {
    /// Digest of the stored bytes.
    pub digest: Digest,
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Digest of this layer and all below it.
    pub chain_id: Digest,
    /// How it was compressed.
    pub compression: &'static str,
    /// Stored bytes.
    pub size: u64,
    /// Uncompressed bytes.
    pub expanded: u64,
    /// Entries, whiteouts counted.
    pub entries: u64,
    /// Global PAX headers, which change nothing (rule T1).
    #[serde(skip_serializing_if = "is_zero")]
    pub global_headers: u64,
    /// Where it lies in overlay layers; none for a layer that changes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Seconds until it was read and written.
    pub seconds: f64,
}

impl LayerReport {
    pub(crate) fn of_layer(facts: &LayerFacts, record: &Record, chain_id: Digest, seconds: f64) -> Self {
        Self {
            digest: facts.digest.clone(),
            diff_id: facts.diff_id.clone(),
            chain_id,
            compression: facts.compression.name(),
            size: facts.size,
            expanded: facts.expanded,
            entries: record.changes.len() as u64,
            global_headers: record.global_headers,
            directory: None,
            seconds,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What kind of thing could not be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossKind {
    /// Owner and group; the file belongs to the calling user.
    Owner,
    /// Owner or group of a file that a user namespace does not have; the file belongs to nobody, as it is seen in there.
    Unmapped,
    /// The setuid and setgid bits, which would have given another owner's rights.
    SetId,
    /// An extended attribute.
    Xattr,
    /// A POSIX ACL.
    Acl,
    /// A device node, which is left out.
    Device,
    /// A time out of the file system's range; it is clamped.
    Time,
    /// A socket, which is left out.
    Socket,
    /// A hard link: more names than the file system can give a file. The name has a copy.
    HardLink,
    /// A genuine character device 0:0, which overlayfs takes for a whiteout (rule A6).
    WhiteoutDevice,
}

impl LossKind {
    /// Whether what lost it is not there at all.
    pub fn is_left_out(self) -> bool {
        matches!(self, Self::Device | Self::Socket)
    }

    /// Description for a report: what was lost, and what replaces it.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Owner => "owner not kept, the file belongs to the calling user",
            Self::Unmapped => "owner not kept, the file belongs to nobody (65534)",
            Self::SetId => "setuid and setgid bits dropped, since the owner could not be kept",
            Self::Xattr => "extended attribute not kept",
            Self::Acl => "ACL not kept",
            Self::Device => "device left out",
            Self::Time => "time out of the file system's range, clamped",
            Self::Socket => "socket left out, since archives cannot hold one",
            Self::HardLink => "hard link not kept, the name is a copy of the file",
            Self::WhiteoutDevice => "character device 0:0, which an overlay mount cannot show, is a nested whiteout",
        }
    }
}

/// Files that lost the same thing for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Loss {
    /// What they lost.
    pub kind: LossKind,
    /// Which one of its kind, and why.
    pub detail: String,
    /// How many files.
    pub count: u64,
    /// The first few of them.
    pub examples: Vec<String>,
}

impl Loss {
    /// How many of these files are not there at all.
    pub fn left_out(&self) -> u64 {
        if self.kind.is_left_out() { self.count } else { 0 }
    }

    /// For a line of a report: what was lost, and why.
    pub fn describe(&self) -> String {
        let what = self.kind.describe();
        if self.detail.is_empty() { what.to_owned() } else { format!("{what} ({})", self.detail) }
    }

    /// The error of whoever wants nothing lost.
    pub(crate) fn refused(&self) -> Error {
        let example = self.examples.first().map(String::as_str).unwrap_or_default();
        Error::NotKept(format!("{}: {} {}, {example} first", self.describe(), self.count, self.noun()))
    }

    /// How the files are counted.
    pub fn noun(&self) -> &'static str {
        if self.count == 1 { "file" } else { "files" }
    }
}

/// Counts what could not be kept.
///
/// Files go by their paths; while a layer is being read, by what the layer has for a name.
#[derive(Debug, Clone)]
pub(crate) struct Losses<P = LayerPath>(BTreeMap<(LossKind, String), (u64, Vec<P>)>);

impl<P> Default for Losses<P> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<P> Losses<P> {
    const EXAMPLES: usize = 5;

    /// Counts one file. Its path is only asked for if it is among the first.
    pub(crate) fn add(&mut self, kind: LossKind, detail: impl Into<String>, path: impl FnOnce() -> P) {
        let (count, examples) = self.0.entry((kind, detail.into())).or_default();
        *count += 1;
        if examples.len() < Self::EXAMPLES {
            examples.push(path());
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (key, (count, examples)) in other.0 {
            let mine = self.0.entry(key).or_default();
            mine.0 += count;
            mine.1.extend(examples.into_iter().take(Self::EXAMPLES.saturating_sub(mine.1.len())));
        }
    }

    /// The same files by other paths.
    pub(crate) fn map<Q>(self, path: impl Fn(P) -> Q) -> Losses<Q> {
        let mapped =
            |(key, (count, examples)): (_, (u64, Vec<P>))| (key, (count, examples.into_iter().map(&path).collect()));
        Losses(self.0.into_iter().map(mapped).collect())
    }

    pub(crate) fn into_list(self) -> Vec<Loss>
    where
        P: ToString,
    {
        let loss = |((kind, detail), (count, examples)): (_, (u64, Vec<P>))| {
            let examples = examples.iter().map(P::to_string).collect();
            Loss { kind, detail, count, examples }
        };
        self.0.into_iter().map(loss).collect()
    }
}

/// What was lost in several parts of an image, as one list.
pub(crate) fn merged(parts: impl IntoIterator<Item = Vec<Loss>>) -> Vec<Loss> {
    let mut all: Losses<String> = Losses::default();
    for loss in parts.into_iter().flatten() {
        let mut one = Losses::default();
        one.0.insert((loss.kind, loss.detail), (loss.count, loss.examples));
        all.merge(one);
    }
    all.into_list()
}

/// Receives progress events. Called from several threads at once.
pub trait Progress: Sync {
    /// The layers are about to be read; `sizes` are their stored bytes.
    fn begin(&self, sizes: &[u64]) {
        let _ = sizes;
    }

    /// Of layer `index` (from 0 at the bottom) this many stored bytes have been read.
    fn bytes(&self, index: usize, bytes: u64) {
        let _ = (index, bytes);
    }

    /// In layer `index` this many entries have been found.
    fn entries(&self, index: usize, entries: u64) {
        let _ = (index, entries);
    }

    /// Layer `index` is read and written.
    fn layer_done(&self, index: usize) {
        let _ = index;
    }

    /// All layers are read; what remains is to put everything in its place.
    fn settling(&self) {}
}

/// A `Progress` that ignores all events.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}
