//! The sink that writes a content file.

use std::fs::File;
use std::io::Error;

use super::blocks::Blocks;
use super::pieces::{Lies, Pieces};
use crate::blob::Pace;
use crate::core::layer::{Failure, Place, Sink, Unkept};
use crate::core::record::{Attributes, ContentId, NameId, Names};
use crate::lowerdirs::{FileSeal, MeasuredFile};
use crate::unpack::{LossKind, Losses};

/// Writes the contents of a layer's files into one file.
#[derive(Debug)]
pub(super) struct ContentWriter {
    blocks: Blocks<MeasuredFile>,
    pieces: Pieces,
    name: NameId,
    size: u64,
    losses: Losses<NameId>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Written {
    /// What the file is.
    pub(super) seal: FileSeal,
    pub(super) pieces: Pieces,
    pub(super) losses: Losses<NameId>,
}

impl ContentWriter {
    /// Into a file that is empty. Where reading has threads of its own, measuring has one, too.
    pub(super) fn new(file: File, pace: Pace) -> Self {
        let file = match pace {
            Pace::OnDemand => MeasuredFile::new(file),
            Pace::Ahead => MeasuredFile::measured_behind(file),
        };
        let blocks = Blocks::new(file, Lies::InLayer);
        Self { blocks, pieces: Pieces::default(), name: NameId::ROOT, size: 0, losses: Losses::default() }
    }

    pub(super) fn finish(self) -> Result<Written, Error> {
        let (out, length) = self.blocks.finish()?;
        let (_, seal) = out.finish()?;
        debug_assert_eq!(seal.stamp.size, length);
        Ok(Written { seal, pieces: self.pieces, losses: self.losses })
    }

    fn failure(&self) -> impl FnOnce(Error) -> Failure<Error> + use<> {
        let name = self.name;
        move |error| Failure { name, error }
    }
}

impl Sink for ContentWriter {
    type Error = Error;

    fn begin(
        &mut self,
        _: &Names,
        name: NameId,
        _: &Attributes,
        size: u64,
        _: Place,
    ) -> Result<ContentId, Failure<Error>> {
        (self.name, self.size) = (name, size);
        Ok(ContentId(self.pieces.files() as u32))
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure<Error>> {
        self.blocks.data(offset, bytes).map_err(self.failure())
    }

    fn end(&mut self, _: &Attributes) -> Result<(), Failure<Error>> {
        let pieces = self.blocks.end(self.size).map_err(self.failure())?;
        self.pieces.push(pieces);
        Ok(())
    }

    fn unkept(&mut self, name: NameId, unkept: Unkept) {
        self.losses.add(LossKind::Xattr, unkept.to_string(), || name);
    }
}
