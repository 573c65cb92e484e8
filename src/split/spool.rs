//! Keeps a layer's archive, uncompressed, while it is read.

use std::fs::File;
use std::io::{BufRead, Read, Result, Write};
use std::path::Path;
use std::sync::Arc;

use super::{Cuts, Part};
use crate::blob::{Blob, Piece};

/// The two blocks that end an archive.
const END: u64 = 1024;

/// A layer's archive in a file without a name.
#[derive(Debug)]
pub(super) struct Spool {
    pub(super) file: Arc<File>,
    pub(super) length: u64,
}

impl Spool {
    /// The archive that has only these entries.
    pub(super) fn part(&self, cuts: &Cuts, part: &Part) -> Blob {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut at = 0;
        for cut in part.iter().map(|&entry| &cuts[entry]) {
            let length = cut.end - cut.start;
            match pieces.last_mut() {
                Some(last) if last.offset + last.length == cut.start => last.length += length,
                _ => pieces.push(Piece { at, offset: cut.start, length }),
            }
            at += length;
        }
        // Behind the last piece are zeros.
        Blob::from_pieces(Arc::clone(&self.file), pieces.into(), at + END)
    }
}

/// A reader of an archive that keeps all that is read.
pub(super) struct Spooling<'a, R> {
    input: &'a mut R,
    file: File,
    /// What was kept of the bytes that are at hand.
    kept: usize,
    length: u64,
}

impl<'a, R: BufRead> Spooling<'a, R> {
    pub(super) fn new(input: &'a mut R, scratch: &Path) -> Result<Self> {
        Ok(Self { input, file: tempfile::tempfile_in(scratch)?, kept: 0, length: 0 })
    }

    /// What was kept, filled up with zeros to whole blocks: the last block may lack its padding.
    pub(super) fn finish(self) -> Result<Spool> {
        self.file.set_len(self.length.next_multiple_of(512))?;
        Ok(Spool { file: Arc::new(self.file), length: self.length })
    }
}

impl<R: BufRead> BufRead for Spooling<'_, R> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        let bytes = self.input.fill_buf()?;
        if let Some(new) = bytes.get(self.kept..) {
            self.file.write_all(new)?;
            self.length += new.len() as u64;
            self.kept = bytes.len();
        }
        Ok(bytes)
    }

    fn consume(&mut self, amount: usize) {
        self.kept = self.kept.saturating_sub(amount);
        self.input.consume(amount);
    }
}

impl<R: BufRead> Read for Spooling<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
