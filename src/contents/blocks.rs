//! Writes contents in whole blocks.

use std::io::{Result, Write};

use super::pieces::{BLOCK, Lies, Piece};

const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];

/// Appends the contents of files to an output, one file after the other, each piece at the start of a block and filled up with zeros.
#[derive(Debug)]
pub(super) struct Blocks<W> {
    out: W,
    lies: Lies,
    /// Bytes written.
    at: u64,
    /// The pieces of the current file.
    pieces: Vec<Piece>,
}

impl<W: Write> Blocks<W> {
    pub(super) fn new(out: W, lies: Lies) -> Self {
        Self { out, lies, at: 0, pieces: Vec::new() }
    }

    /// Takes some of the current file's content; calls come in the order of their offsets.
    pub(super) fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let start = offset / BLOCK * BLOCK;
        match self.pieces.last() {
            // In the block that was begun, or right behind it.
            Some(last) if start <= (last.logical + last.length).next_multiple_of(BLOCK) => {
                let gap = offset.saturating_sub(last.logical + last.length);
                self.append(&ZEROS[..gap as usize])?;
            }
            last => {
                let unfilled = last.map_or(0, |last| last.length.wrapping_neg() % BLOCK);
                self.append(&ZEROS[..unfilled as usize])?;
                self.pieces.push(Piece { logical: start, length: 0, offset: self.at, lies: self.lies });
                self.append(&ZEROS[..(offset - start) as usize])?;
            }
        }
        self.append(bytes)
    }

    /// The current file, of `size` bytes, is complete: its pieces.
    pub(super) fn end(&mut self, size: u64) -> Result<Vec<Piece>> {
        let mut pieces = std::mem::take(&mut self.pieces);
        if let Some(last) = pieces.last_mut() {
            let unfilled = last.length.wrapping_neg() % BLOCK;
            self.out.write_all(&ZEROS[..unfilled as usize])?;
            self.at += unfilled;
            last.length = (last.length + unfilled).min(size.saturating_sub(last.logical));
        }
        Ok(pieces)
    }

    /// What was written to, and how many bytes.
    pub(super) fn finish(mut self) -> Result<(W, u64)> {
        self.out.flush()?;
        Ok((self.out, self.at))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64;
        if let Some(last) = self.pieces.last_mut() {
            last.length += bytes.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(size: u64, data: &[(u64, &[u8])]) -> (Vec<(u64, u64, u64)>, Vec<u8>) {
        let mut blocks = Blocks::new(Vec::new(), Lies::InLayer);
        blocks.data(0, b"before").unwrap();
        blocks.end(6).unwrap();
        for (offset, bytes) in data {
            blocks.data(*offset, bytes).unwrap();
        }
        let pieces = blocks.end(size).unwrap();
        (pieces.iter().map(|piece| (piece.logical, piece.length, piece.offset)).collect(), blocks.finish().unwrap().0)
    }

    #[test]
    fn c1_every_file_begins_in_a_block_of_its_own_that_is_filled_up_with_zeros() {
        let (pieces, out) = pieces(700, &[(0, &[7; 300]), (300, &[8; 400])]);
        assert_eq!(pieces, [(0, 700, 512)]);
        assert_eq!(out.len(), 512 + 1024);
        assert!(out[512 + 700..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn c1_holes_stay_holes_and_awkward_borders_are_filled_up() {
        // The second fragment begins in the middle of a block, the third in the block where the second ends.
        let (found, out) = pieces(9000, &[(0, &[1; 10]), (5000, &[2; 100]), (5110, &[3; 10])]);
        assert_eq!(found, [(0, 512, 512), (4608, 512, 1024)]);
        assert_eq!(out.len(), 1536);
        assert_eq!(out[1024 + 5000 - 4608], 2);
        assert_eq!(out[1024 + 5105 - 4608], 0);
        assert_eq!(out[1024 + 5110 - 4608], 3);
        assert_eq!(pieces(3, &[(0, b"abc")]).0, [(0, 3, 512)]);
        assert_eq!(pieces(1 << 40, &[]).0, []);
    }

    #[test]
    fn c1_what_lies_in_the_next_block_is_the_same_piece() {
        assert_eq!(pieces(1024, &[(0, &[1; 500]), (600, &[2; 424])]).0, [(0, 1024, 512)]);
        assert_eq!(pieces(2048, &[(0, &[1; 512]), (512, &[2; 512]), (1100, &[3; 1])]).0, [(0, 1536, 512)]);
        assert_eq!(pieces(4096, &[(0, &[1; 10]), (1030, &[2; 10])]).0, [(0, 512, 512), (1024, 512, 1024)]);
    }
}
