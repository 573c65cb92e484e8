//! The sink that keeps nothing of contents but where they lie in the archive, and what is copied because it cannot be pointed at.

use std::convert::Infallible;
use std::fs::File;
use std::io::{BufRead, Error, ErrorKind, Read, Result, Write};
use std::os::unix::fs::FileExt;

use super::blocks::Blocks;
use super::pieces::{BLOCK, Lies, Piece, Pieces};
use crate::core::layer::{Failure, Place, Sink, Unkept};
use crate::core::record::{Attributes, ContentId, NameId, Names};
use crate::core::tar::Fragment;
use crate::unpack::{LossKind, Losses};

/// Bytes that are copied at once.
const CHUNK: usize = 256 << 10;

/// Notes where contents lie.
#[derive(Debug, Default)]
pub(super) struct Locating {
    files: Vec<Located>,
    pieces: Vec<Piece>,
    losses: Losses<NameId>,
}

/// A file: its size, the end of its pieces, and whether what follows it in the archive would show behind its end.
#[derive(Debug)]
struct Located {
    size: u64,
    end: usize,
    padding_shows: bool,
}

impl Sink for Locating {
    type Error = Infallible;

    fn begin(
        &mut self,
        _: &Names,
        _: NameId,
        _: &Attributes,
        size: u64,
        _: Place,
    ) -> std::result::Result<ContentId, Failure<Infallible>> {
        self.files.push(Located { size, end: self.pieces.len(), padding_shows: false });
        Ok(ContentId(self.files.len() as u32 - 1))
    }

    fn located(&mut self, position: u64, fragments: &[Fragment]) {
        let mut offset = position;
        for fragment in fragments.iter().filter(|fragment| fragment.length > 0) {
            self.pieces.push(Piece { logical: fragment.offset, length: fragment.length, offset, lies: Lies::InLayer });
            offset += fragment.length;
        }
        if let Some(file) = self.files.last_mut() {
            file.end = self.pieces.len();
        }
    }

    fn padding_shows(&mut self) {
        if let Some(file) = self.files.last_mut() {
            file.padding_shows = true;
        }
    }

    fn data(&mut self, _: u64, _: &[u8]) -> std::result::Result<(), Failure<Infallible>> {
        Ok(())
    }

    fn end(&mut self, _: &Attributes) -> std::result::Result<(), Failure<Infallible>> {
        Ok(())
    }

    fn unkept(&mut self, name: NameId, unkept: Unkept) {
        self.losses.add(LossKind::Xattr, unkept.to_string(), || name);
    }
}

impl Locating {
    /// What was lost of attributes.
    pub(super) fn take_losses(&mut self) -> Losses<NameId> {
        std::mem::take(&mut self.losses)
    }

    /// The table, with what cannot be pointed at copied to `beside`: files whose pieces begin in the middle of a block, and last blocks whose
    /// padding would show behind the end of the file (rule C2). The layer begins at `start` of `archive`.
    pub(super) fn settle<W: Write>(self, archive: &File, start: u64, beside: &mut Blocks<W>) -> Result<Pieces> {
        let mut table = Pieces::default();
        let mut from = 0;
        let mut buffer = vec![0; CHUNK];
        for file in self.files {
            let pieces = &self.pieces[from..file.end];
            from = file.end;
            if !pieces.iter().enumerate().all(|(index, piece)| is_aligned(piece, start, index + 1 == pieces.len())) {
                for piece in pieces {
                    copy(archive, start, piece, &mut buffer, beside)?;
                }
                table.push(beside.end(file.size)?);
                continue;
            }
            let Some((last, others)) = pieces.split_last() else {
                table.push([]);
                continue;
            };
            let tail = last.length % BLOCK;
            if tail == 0 || !file.padding_shows {
                // Zeros follow: of a hole, if the file goes on.
                let length = last.length.next_multiple_of(BLOCK).min(file.size - last.logical);
                table.push(others.iter().copied().chain([Piece { length, ..*last }]));
                continue;
            }
            let whole = last.length - tail;
            let end = Piece { logical: last.logical + whole, length: tail, offset: last.offset + whole, ..*last };
            copy(archive, start, &end, &mut buffer, beside)?;
            let end = beside.end(file.size)?;
            let whole = (whole > 0).then_some(Piece { length: whole, ..*last });
            table.push(others.iter().copied().chain(whole).chain(end));
        }
        Ok(table)
    }
}

fn is_aligned(piece: &Piece, start: u64, is_last: bool) -> bool {
    piece.logical.is_multiple_of(BLOCK)
        && start.wrapping_add(piece.offset).is_multiple_of(BLOCK)
        && (is_last || piece.length.is_multiple_of(BLOCK))
}

fn copy<W: Write>(archive: &File, start: u64, piece: &Piece, buffer: &mut [u8], to: &mut Blocks<W>) -> Result<()> {
    let mut done = 0;
    while done < piece.length {
        let count = usize::try_from(piece.length - done).unwrap_or(CHUNK).min(CHUNK);
        archive.read_exact_at(&mut buffer[..count], start + piece.offset + done)?;
        to.data(piece.logical + done, &buffer[..count])?;
        done += count as u64;
    }
    Ok(())
}

/// The most that is read at once of headers.
const MOST: usize = 64 << 10;
/// What is read behind a large file that was passed over.
const LEAST: usize = 2 << 10;
/// Whoever passes over so many bytes will pass over more.
const FAR: u64 = 32 << 10;

/// A part of a file, of which much is passed over.
#[derive(Debug)]
pub(super) struct Skipping<'f> {
    file: &'f File,
    start: u64,
    length: u64,
    /// The place in the part of what is read next.
    at: u64,
    buffer: Vec<u8>,
    /// What of the buffer is there, and was not taken.
    here: std::ops::Range<usize>,
    /// How much is read at once: little behind a file that was passed over, more and more where files are small.
    window: usize,
}

impl<'f> Skipping<'f> {
    pub(super) fn new(file: &'f File, start: u64, length: u64) -> Self {
        Self { file, start, length, at: 0, buffer: vec![0; MOST], here: 0..0, window: LEAST }
    }

    /// Passes over bytes; beyond the end the next reading fails.
    pub(super) fn skip(&mut self, bytes: u64) {
        let here = self.here.len() as u64;
        if bytes <= here {
            self.here.start += bytes as usize;
            return;
        }
        self.at = self.at.saturating_add(bytes - here);
        self.here = 0..0;
        if bytes - here > FAR {
            self.window = LEAST;
        }
    }
}

impl BufRead for Skipping<'_> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        if self.here.is_empty() {
            let left = self.length.checked_sub(self.at);
            let left = left.ok_or_else(|| Error::new(ErrorKind::UnexpectedEof, "the archive is truncated"))?;
            let wanted = usize::try_from(left).unwrap_or(MOST).min(self.window);
            self.window = (self.window * 2).min(MOST);
            let count = self.file.read_at(&mut self.buffer[..wanted], self.start + self.at)?;
            if count == 0 && wanted > 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.at += count as u64;
            self.here = 0..count;
        }
        Ok(&self.buffer[self.here.clone()])
    }

    fn consume(&mut self, amount: usize) {
        self.here.start += amount;
    }
}

impl Read for Skipping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::write::ContentWriter;
    use super::*;
    use crate::blob::Pace;
    use crate::core::layer::{ReadOptions, read_headers, read_layer};
    use crate::core::record::{ChangeKind, Record};

    fn fixtures() -> Vec<Vec<u8>> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/archives");
        let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let archives = names.filter(|path| path.extension().is_some_and(|extension| extension == "tar"));
        archives.map(|path| std::fs::read(path).unwrap()).collect()
    }

    /// The contents that a table stands for.
    fn shown(record: &Record, pieces: &Pieces, layer: &File, start: u64, beside: &File) -> Vec<Vec<u8>> {
        let mut shown = Vec::new();
        for change in &record.changes {
            let ChangeKind::File { size, content, .. } = change.kind else { continue };
            if size > 1 << 24 {
                continue;
            }
            let mut bytes = vec![0; size as usize];
            for piece in pieces.of(content) {
                let (file, at) = match piece.lies {
                    Lies::InLayer => (layer, start + piece.offset),
                    Lies::Beside => (beside, piece.offset),
                };
                assert!(at.is_multiple_of(BLOCK) && piece.logical.is_multiple_of(BLOCK), "{piece:?}");
                let end = piece.logical + piece.length;
                assert!(piece.length.is_multiple_of(BLOCK) || end == size, "{piece:?} of {size}");
                file.read_exact_at(&mut bytes[piece.logical as usize..end as usize], at).unwrap();
                // What mmap would show behind the end.
                let mut rest = vec![0; (piece.length.wrapping_neg() % BLOCK) as usize];
                file.read_exact_at(&mut rest, at + piece.length).unwrap();
                assert!(rest.iter().all(|&byte| byte == 0), "{piece:?}");
            }
            shown.push(bytes);
        }
        shown
    }

    #[test]
    fn c2_the_same_contents_are_shown_from_content_files_and_from_archives() {
        let mut compared = 0;
        for (number, archive) in fixtures().into_iter().enumerate() {
            // In the middle of another file, and of one of its blocks.
            for start in [0, 1024, 100] {
                let mut outer = tempfile::tempfile().unwrap();
                outer.write_all(&vec![0xaa; start]).unwrap();
                outer.write_all(&archive).unwrap();
                outer.write_all(&[0xbb; 512]).unwrap();
                let start = start as u64;
                let mut skipping = Skipping::new(&outer, start, archive.len() as u64);
                let mut located = Locating::default();
                let options = ReadOptions::default();
                let skip = &mut |input: &mut Skipping<'_>, bytes| input.skip(bytes);
                let headers = read_headers(&mut skipping, &mut located, &options, &mut |_| {}, skip);
                let mut all = Locating::default();
                let whole = read_layer(&mut archive.as_slice(), &mut all, &options, &mut |_| {});
                let (Ok(headers), Ok(whole)) = (headers, whole) else {
                    assert!(
                        read_layer(&mut archive.as_slice(), &mut Locating::default(), &options, &mut |_| {}).is_err()
                    );
                    continue;
                };
                assert_eq!(headers.changes, whole.changes, "archive {number}");

                let tables = [located, all].map(|located| {
                    let mut beside = Blocks::new(tempfile::tempfile().unwrap(), Lies::Beside);
                    let table = located.settle(&outer, start, &mut beside).unwrap();
                    (table, beside.finish().unwrap().0)
                });
                assert_eq!(tables[0].0, tables[1].0);
                let in_place = shown(&whole, &tables[0].0, &outer, start, &tables[0].1);

                let data = tempfile::tempfile().unwrap();
                let mut writer = ContentWriter::new(data.try_clone().unwrap(), Pace::Ahead);
                read_layer(&mut archive.as_slice(), &mut writer, &options, &mut |_| {}).unwrap();
                let written = writer.finish().unwrap();
                let kept = shown(&whole, &written.pieces, &data, 0, &outer);
                assert_eq!(in_place, kept, "archive {number}");
                compared += kept.len();
            }
        }
        assert!(compared > 50, "{compared}");
    }

    #[test]
    fn c2_padding_that_is_not_zero_is_not_shown() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1000);
        builder.append_data(&mut header, "a", &[7; 1000][..]).unwrap();
        let mut archive = builder.into_inner().unwrap();
        archive[512 + 1010] = 0xff;
        let mut outer = tempfile::tempfile().unwrap();
        outer.write_all(&archive).unwrap();
        // Neither is what follows an archive that ends without padding.
        for length in [archive.len(), 512 + 1000] {
            let mut located = Locating::default();
            let mut skipping = Skipping::new(&outer, 0, length as u64);
            let skip = &mut |input: &mut Skipping<'_>, bytes| input.skip(bytes);
            let record = read_headers(&mut skipping, &mut located, &ReadOptions::default(), &mut |_| {}, skip).unwrap();
            let mut beside = Blocks::new(tempfile::tempfile().unwrap(), Lies::Beside);
            let table = located.settle(&outer, 0, &mut beside).unwrap();
            let pieces: Vec<_> = table.of(ContentId(0)).iter().map(|piece| (piece.logical, piece.lies)).collect();
            assert_eq!(pieces, [(0, Lies::InLayer), (512, Lies::Beside)]);
            let beside = beside.finish().unwrap().0;
            assert_eq!(shown(&record, &table, &outer, 0, &beside), [vec![7; 1000]]);
        }
    }

    #[test]
    fn t2_an_archive_that_ends_in_a_file_that_is_passed_over_is_truncated() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(100_000);
        builder.append_data(&mut header, "a", &vec![7; 100_000][..]).unwrap();
        let archive = builder.into_inner().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&archive).unwrap();
        for length in [513, 1000, 99_000] {
            let mut skipping = Skipping::new(&file, 0, length);
            let skip = &mut |input: &mut Skipping<'_>, bytes| input.skip(bytes);
            let mut located = Locating::default();
            let read = read_headers(&mut skipping, &mut located, &ReadOptions::default(), &mut |_| {}, skip);
            assert!(read.unwrap_err().to_string().contains("truncated"), "{length}");
        }
    }
}
