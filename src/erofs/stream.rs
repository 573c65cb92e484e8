//! The image as one stream: what is written stays here until there is enough of it, and its beginning until the checksum of the superblock
//! can be known.

use std::io::{self, Write};

use super::superblock;

/// Bytes that are handed on at once.
const ENOUGH: usize = 256 << 10;

/// Writes from the first byte to the last.
pub(super) struct Stream<'w> {
    out: &'w mut dyn Write,
    buffer: Vec<u8>,
    /// Bytes that were handed on.
    passed: u64,
    block: u64,
}

impl<'w> Stream<'w> {
    pub(super) fn new(out: &'w mut dyn Write, block: u64) -> Self {
        Self { out, buffer: Vec::with_capacity(ENOUGH + (64 << 10)), passed: 0, block }
    }

    /// A part of the image that begins here, for a writer of its own.
    pub(super) fn of_part(out: &'w mut dyn Write, block: u64, position: u64) -> Self {
        Self { passed: position, ..Self::new(out, block) }
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> u64 {
        self.passed + self.buffer.len() as u64
    }

    /// For bytes to be appended.
    pub(super) fn buffer(&mut self) -> io::Result<&mut Vec<u8>> {
        if self.buffer.len() >= ENOUGH {
            self.hand_on()?;
        }
        Ok(&mut self.buffer)
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer()?.extend_from_slice(bytes);
        Ok(())
    }

    /// Zeros up to here.
    pub(super) fn zeros_up_to(&mut self, position: u64) -> io::Result<()> {
        while self.position() < position {
            let more = (position - self.position()).min(ENOUGH as u64) as usize;
            let buffer = self.buffer()?;
            buffer.resize(buffer.len() + more, 0);
        }
        Ok(())
    }

    /// Zeros up to the end of the block.
    pub(super) fn end_block(&mut self) -> io::Result<()> {
        self.zeros_up_to(self.position().next_multiple_of(self.block))
    }

    fn hand_on(&mut self) -> io::Result<()> {
        if self.passed == 0 && !self.buffer.is_empty() {
            superblock::set_checksum(&mut self.buffer, self.block);
        }
        self.out.write_all(&self.buffer)?;
        self.passed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.end_block()?;
        self.finish_part()
    }

    pub(super) fn finish_part(mut self) -> io::Result<()> {
        self.hand_on()?;
        self.out.flush()
    }
}
