//! What is known of a snapshot: a JSON document in its directory, written anew by one rename whenever that changes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::StoreError;
use crate::cache::renew;
use crate::fs::Durability;

/// Its name in the snapshot's directory.
pub(super) const DOCUMENT: &str = "snapshot.json";
/// The version of the document; another one is not believed.
const FORMAT: u32 = 1;
/// The version of a document that those who know only the first must not believe: its layer is no directory.
const FORMAT_OF_IMAGE: u32 = 2;
/// More than any of these ever has.
const MOST_BYTES: u64 = 16 << 20;

/// What a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// For reading.
    View,
    /// For writing.
    Active,
    /// A layer, on which others may be put.
    Committed,
}

impl Kind {
    /// As containerd's filters call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Active => "active",
            Self::Committed => "committed",
        }
    }
}

/// What a snapshot takes of the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Usage {
    /// Bytes of the blocks of its files.
    pub(crate) size: u64,
    /// Files and directories.
    pub(crate) inodes: u64,
}

/// A snapshot, as containerd knows it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Document {
    pub(super) format: u32,
    /// A committed snapshot's name, or the key of another one.
    pub(crate) name: String,
    /// The name of the snapshot below; empty, if there is none.
    pub(crate) parent: String,
    pub(crate) kind: Kind,
    pub(crate) created: SystemTime,
    pub(crate) updated: SystemTime,
    pub(crate) labels: BTreeMap<String, String>,
    /// Of a committed snapshot.
    #[serde(default)]
    pub(crate) usage: Usage,
    /// Whether a committed snapshot has the ids that a user namespace has outside: containerd's copy of an image.
    #[serde(default)]
    pub(crate) is_shifted: bool,
    /// The maps, of users and of groups, with which what is below is mounted. What is written has the ids outside.
    #[serde(default)]
    pub(crate) id_maps: Option<(String, String)>,
    /// Whether that was begun to be changed to the ids inside, as layers have them, for a commit.
    #[serde(default)]
    pub(crate) is_turning: bool,
    /// Whether a committed snapshot shows nothing that those below do not show.
    #[serde(default)]
    pub(crate) is_empty: bool,
    /// What a committed snapshot was before, as long as containerd may not have heard of the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<Box<Document>>,
    /// Whether a committed snapshot is an EROFS image, and no directory.
    #[serde(default)]
    pub(crate) is_erofs: bool,
    /// Whether it has an EROFS image of all that is shown with it, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) has_whole: bool,
}

impl Document {
    pub(crate) fn new(name: &str, parent: &str, kind: Kind, labels: BTreeMap<String, String>) -> Self {
        let now = SystemTime::now();
        Self {
            format: FORMAT,
            name: name.to_owned(),
            parent: parent.to_owned(),
            kind,
            created: now,
            updated: now,
            labels,
            usage: Usage::default(),
            is_shifted: false,
            id_maps: None,
            is_turning: false,
            is_empty: false,
            before: None,
            is_erofs: false,
            has_whole: false,
        }
    }

    /// Whether it may be committed on this parent: its own one, or any if it has none.
    pub(super) fn check_parent(&self, key: &str, parent: &str) -> Result<(), StoreError> {
        let own = &self.parent;
        match own.is_empty() || parent.is_empty() || own == parent {
            true => Ok(()),
            false => Err(StoreError::Invalid(format!("snapshot {key:?} has the parent {own:?}, and not {parent:?}"))),
        }
    }

    /// The document of a layer that is an EROFS image.
    pub(super) fn of_image(self, has_whole: bool) -> Self {
        Self { format: FORMAT_OF_IMAGE, is_erofs: true, has_whole, ..self }
    }

    /// Reads the document of a snapshot's directory; none, if there is none.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, String> {
        use std::io::Read;
        let file = match File::open(directory.join(DOCUMENT)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|error| error.to_string())?,
        };
        let mut bytes = Vec::new();
        file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        let document: Self = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        match document.format {
            FORMAT | FORMAT_OF_IMAGE => Ok(Some(document)),
            other => {
                Err(format!("it has format {other}, and this version of layflat reads {FORMAT} and {FORMAT_OF_IMAGE}"))
            }
        }
    }

    /// Writes the document into a snapshot's directory.
    pub(super) fn write(&self, directory: &Path, durability: Durability) -> io::Result<()> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        renew(directory, DOCUMENT, &bytes)?;
        sync(directory, durability)
    }
}

/// Writes the names of a directory to disk.
pub(super) fn sync(directory: &Path, durability: Durability) -> io::Result<()> {
    Ok(durability.sync(crate::fs::open_path(directory)?)?)
}
