//! What happens in a server, for its log.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::core::text::counted;

/// Something that happened.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// Metrics can be asked for from now on.
    Metrics {
        /// Where: the path of a socket or an IP address and a port, the one that was chosen where any would do (0).
        address: String,
    },
    /// A layer was unpacked into a directory.
    Unpacked(LayerDone),
    /// A layer was made of what a directory has on top of others.
    Packed(LayerDone),
    /// A layer was left to another differ.
    Left {
        /// The digest, as containerd has it; of one to be made, of which mounts.
        digest: String,
        /// Why.
        reason: String,
    },
    /// A layer could not be unpacked or made, and containerd was told.
    Failed {
        /// The digest, as containerd has it; of one to be made, of which mounts.
        digest: String,
        /// Why not.
        error: String,
    },
    /// A snapshot was committed: a layer now has what it must have above those below.
    Committed {
        /// Its name.
        name: String,
        /// The name of the one below; empty, if there is none.
        parent: String,
        /// Whether a layer was unpacked into it, and not written by somebody else.
        is_layer: bool,
        /// Bytes on disk, without those below.
        size: u64,
        /// What the file system could not hold (rule A4), a line for each kind.
        not_kept: Vec<String>,
        /// Seconds by the clock on the wall.
        seconds: f64,
    },
    /// Something could not be done to a snapshot, and containerd was told.
    SnapshotFailed {
        /// What.
        call: &'static str,
        /// Its name or key.
        key: String,
        /// Why not.
        error: String,
    },
    /// A directory of a snapshot cannot be used, and stays as it is.
    Unusable {
        /// The directory.
        directory: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// So many layers are worked on already: this one has to wait.
    Waiting {
        /// What waits.
        what: String,
        /// How many have waited for longer.
        before: usize,
    },
    /// The program was told to end.
    Ending {
        /// Layers that are still being unpacked.
        layers: usize,
        /// Layers that waited for their turn, and are sent away.
        waiting: usize,
    },
}

/// A layer that was unpacked or made.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LayerDone {
    /// Digest of the stored bytes, as containerd has it.
    pub digest: String,
    /// Digest of the uncompressed archive.
    pub diff_id: String,
    /// Where it was unpacked, or what it was made of.
    pub directory: PathBuf,
    /// Entries, whiteouts counted.
    pub entries: u64,
    /// Uncompressed bytes.
    pub bytes: u64,
    /// What the file system, or an archive, could not hold (rule A4), a line for each kind.
    pub not_kept: Vec<String>,
    /// Seconds by the clock on the wall.
    pub seconds: f64,
}

impl LayerDone {
    fn write(&self, formatter: &mut fmt::Formatter<'_>, done: &str, at: &str) -> fmt::Result {
        let Self { digest, directory, seconds, .. } = self;
        let entries = counted(self.entries, "entry", "entries");
        write!(formatter, "layer {digest}: {done} {entries} {at} {directory:?} in {seconds:.2} s")?;
        write_lost(&self.not_kept, formatter)
    }
}

fn write_lost(not_kept: &[String], formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    not_kept.iter().try_for_each(|lost| write!(formatter, "; not kept: {lost}"))
}

impl Event {
    /// Whether an administrator should look at it.
    pub fn is_problem(&self) -> bool {
        match self {
            Self::Unpacked(layer) | Self::Packed(layer) => !layer.not_kept.is_empty(),
            Self::Committed { not_kept, .. } => !not_kept.is_empty(),
            Self::Failed { .. } | Self::SnapshotFailed { .. } | Self::Unusable { .. } => true,
            Self::Metrics { .. } | Self::Left { .. } | Self::Waiting { .. } | Self::Ending { .. } => false,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metrics { address } => write!(formatter, "metrics are at {address}"),
            Self::Unpacked(layer) => layer.write(formatter, "unpacked", "into"),
            Self::Packed(layer) => layer.write(formatter, "packed", "of"),
            Self::Left { digest, reason } => write!(formatter, "layer {digest}: left to the next differ: {reason}"),
            Self::Failed { digest, error } => write!(formatter, "layer {digest}: {error}"),
            Self::Committed { name, is_layer, size, not_kept, seconds, .. } => {
                let what = if *is_layer { "layer" } else { "snapshot" };
                write!(formatter, "snapshot {name:?}: {what} of {size} bytes committed in {seconds:.2} s")?;
                write_lost(not_kept, formatter)
            }
            Self::SnapshotFailed { call, key, error } => write!(formatter, "snapshot {key:?}: {call}: {error}"),
            Self::Unusable { directory, problem } => write!(formatter, "{directory:?}: {problem}"),
            Self::Waiting { what, before: 0 } => write!(formatter, "{what}: waits for its turn, as the next"),
            Self::Waiting { what, before } => {
                write!(formatter, "{what}: waits for its turn, behind {}", counted(*before as u64, "other", "others"))
            }
            Self::Ending { layers, waiting } => {
                formatter.write_str("ending")?;
                if *layers > 0 {
                    write!(formatter, " when {} done", counted(*layers as u64, "layer is", "layers are"))?;
                }
                match waiting {
                    0 => Ok(()),
                    waiting => write!(formatter, "; {waiting} that waited will not be begun"),
                }
            }
        }
    }
}

type Hear = dyn Fn(&Event) + Send + Sync;

/// Whoever hears what happens. It is called from several threads.
#[derive(Clone)]
pub struct Tell(Arc<Hear>);

impl Tell {
    /// Events go to this function.
    pub fn to(hear: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    pub(super) fn tell(&self, event: &Event) {
        (self.0)(event);
    }
}

impl fmt::Debug for Tell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tell")
    }
}
