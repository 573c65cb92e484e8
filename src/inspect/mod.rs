//! Answers questions about an image without unpacking it: which files it has, which layer brought or deleted them, and
//! what is wrong with it.
//!
//! Nothing is unpacked. Every answer comes from the one replay of [`Stack`], so that what is listed here is what
//! the forms unpack; and is plain data, in an order that is always the same.

mod cat;
pub mod check;
mod entry;
mod find;
mod grep;
mod history;
pub mod index;
mod ls;
mod shown;
mod survey;
mod timeline;
mod waste;

use hashbrown::HashMap;

use crate::core::filter::Filter;
use crate::core::record::{ChangeKind, ContentId, LayerPath};
use crate::core::stack::{Event, InodeId, LookupError, Reading, Stack, StackError, Step, What};
use crate::image::Image;
use crate::inspect::index::{Content, ContentError, Indexes};
use crate::unpack::{Error, Options};

pub use entry::{PathEntry, PathFacts, PathKind};
pub use find::{Fate, Hit, Pattern, PatternError};
pub use grep::{Grep, Line, Match};
pub use history::{Action, Alteration, PathEvent, history};
pub use ls::{ListOptions, Listing};
pub use shown::{Holding, ShownTree};
pub use survey::{LayerChanges, LayerSurvey, survey, survey_known};
pub use timeline::{Change, FileState, PathId, State, Timeline, Totals};
pub use waste::{Cause, LayerWaste, Reason, Waste, WastedDirectory, WastedFile};

/// An image that can be looked into: what its layers show together.
#[derive(Debug)]
pub struct Inside<'a> {
    image: &'a Image,
    indexes: &'a Indexes,
    stack: Stack<'a>,
}

/// An image of which is known, besides, what each layer did to every path.
#[derive(Debug)]
pub struct Traced<'a> {
    inside: Inside<'a>,
    /// By layer.
    events: Vec<Event>,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InsideError {
    /// The layers do not fit on one another.
    #[error(transparent)]
    Image(#[from] Error),
    /// There is no such layer.
    #[error("there is no layer {layer}: the image has {count}, counted from 0 at the bottom")]
    NoSuchLayer {
        /// The requested name.
        layer: usize,
        /// How many there are.
        count: usize,
    },
    /// A path that leads to nothing.
    #[error("{} is not in the image", crate::core::text::Printable(.path))]
    Lookup {
        /// The requested name.
        path: Vec<u8>,
        /// What is wrong on the way to it; nothing where it is the path itself that is not there.
        #[source]
        error: Option<LookupError>,
    },
    /// A path that a layer does not touch.
    #[error("layer {layer} has nothing at {path:?}")]
    NotInLayer {
        /// Which layer.
        layer: usize,
        /// The requested name.
        path: LayerPath,
    },
    /// A path that no layer ever had.
    #[error("no layer contains {}", crate::core::text::Printable(.0))]
    NeverThere(Vec<u8>),
    /// Content of something that has none.
    #[error("{path:?} is a {}; only regular files have content", .kind.name())]
    NoContent {
        /// The requested name.
        path: LayerPath,
        /// What it is.
        kind: PathKind,
    },
    /// A file's content cannot be given.
    #[error(transparent)]
    Content(#[from] ContentError),
}

impl InsideError {
    /// That a path leads to nothing.
    pub(crate) fn lookup(path: &[u8], error: LookupError) -> Self {
        let is_all = |error: &LookupError| matches!(error, LookupError::Missing(at) if LayerPath::normalise(path).as_ref() == Ok(at));
        Self::Lookup { path: path.to_vec(), error: Some(error).filter(|error| !is_all(error)) }
    }
}

impl<'a> Inside<'a> {
    /// Looks into a whole image.
    ///
    /// # Errors
    /// Layers that do not fit on one another.
    pub fn new(image: &'a Image, indexes: &'a Indexes, options: &Options) -> Result<Self, InsideError> {
        Ok(Self { image, indexes, stack: Stack::replay(&indexes.records, reading(options)).map_err(Error::from)? })
    }

    /// Looks into what the layers up to this one show.
    ///
    /// # Errors
    /// No such layer, or layers that do not fit on one another.
    pub fn up_to(layer: usize, image: &'a Image, indexes: &'a Indexes, options: &Options) -> Result<Self, InsideError> {
        let count = indexes.records.len();
        if layer >= count {
            return Err(InsideError::NoSuchLayer { layer, count });
        }
        let records = &indexes.records[..=layer];
        Ok(Self { image, indexes, stack: Stack::replay(records, reading(options)).map_err(Error::from)? })
    }

    /// The names of all files that are shown, sorted by path.
    fn visible(&self) -> HashMap<InodeId, Vec<LayerPath>> {
        let whole = self.stack.whole();
        let mut names: HashMap<InodeId, Vec<LayerPath>> = HashMap::new();
        for (index, entry) in whole.entries().iter().enumerate() {
            if let What::Leaf(inode) = entry.what {
                names.entry(inode).or_default().push(self.stack.path(&whole, index));
            }
        }
        names
    }

    /// A regular file's content: the layer that has it, and what is known of it. Nothing else has any.
    fn content(&self, inode: InodeId) -> Option<(usize, ContentId, &'a Content)> {
        let (layer, change) = self.stack.origin(inode);
        match change.kind {
            ChangeKind::File { content, .. } | ChangeKind::LinkSource { content, .. } => {
                let known = self.indexes.contents.get(layer)?.get(content.0 as usize)?;
                Some((layer, content, known))
            }
            _ => None,
        }
    }
}

impl<'a> Traced<'a> {
    /// Looks into a whole image, and at how it came to be.
    ///
    /// # Errors
    /// Layers that do not fit on one another.
    pub fn new(image: &'a Image, indexes: &'a Indexes, options: &Options) -> Result<Self, InsideError> {
        Ok(Self::watched(image, indexes, options, &mut |_| {}).map_err(Error::from)?)
    }

    /// The same, with each step shown to `watch`.
    fn watched(
        image: &'a Image,
        indexes: &'a Indexes,
        options: &Options,
        watch: &mut dyn FnMut(&Step<'_, 'a>),
    ) -> Result<Self, StackError> {
        let mut events = Vec::new();
        let stack = Stack::replay_watched(&indexes.records, reading(options), &mut |step| {
            events.extend(step.events());
            watch(step);
        })?;
        Ok(Self { inside: Inside { image, indexes, stack }, events })
    }
}

/// How the stack is read, by the options that concern it.
fn reading(options: &Options) -> Reading {
    Reading { filter: Filter::default(), ..crate::unpack::reading(options) }
}
