//! Extracts one layer to disk, into a directory of its own, before the layers below it are known.
//!
//! While a layer streams by, only regular files and the directories that they need are made: no symlink, device or
//! whiteout is ever in the tree that files are written into, and every call names one component in a directory that is
//! open (rule S1). A file goes where its name says, if nothing is in the way; else it is *spilled* under a number into
//! a directory beside the stages, and finds its place later.

mod capabilities;
mod contents;
mod copy;
mod finisher;
mod owners;
mod probe;
mod writer;

pub(crate) use capabilities::{Capabilities, Subject};
pub(crate) use contents::{Contents, ContentsFiles};
pub(crate) use copy::{copy_content, share_content};
pub use probe::AttributeProbe;
pub(crate) use writer::{Home, Inventory, Made, Spill, Stage, StageError, Staged, Whereabouts, trying};
