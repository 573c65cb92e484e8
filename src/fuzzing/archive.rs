//! The archive reader.

use crate::core::record::Attributes;
use crate::core::tar::{ArchiveError, Entry, EntryKind, Event, Limits, Reader};

const LIMITS: Limits = Limits { extended_header: 8192, sparse_fragments: 64 };

/// A piece of what was read, to compare two ways of feeding.
#[derive(Debug, PartialEq)]
enum Seen {
    Entry(Box<Entry>),
    Data(u64, Vec<u8>),
    EndOfEntry,
    GlobalHeader,
    End,
}

/// Feeds the archive reader in pieces that the input decides on, and checks what its events promise.
///
/// The first byte is the size of the pieces, the second says what is skipped, the rest is the archive.
pub fn archive(input: &[u8]) {
    let [piece, skip, archive @ ..] = input else { return };
    let archive = mended(archive);
    let (whole, result) = read(&archive, archive.len().max(1));
    assert_eq!(read(&archive, usize::from(*piece) * 7 + 1), (whole, result.clone()), "pieces make no difference");
    if *skip > 0 && result.is_ok() {
        skip_through(&archive, u64::from(*skip));
    }
}

/// An archive with right checksums, as no mutation would ever hit one.
pub fn mended(archive: &[u8]) -> Vec<u8> {
    let mut archive = archive.to_vec();
    for block in archive.chunks_exact_mut(512) {
        // A block that says so with its checksum's first byte, so that zeros and payload stay what they are.
        if matches!(block[148], b'0'..=b'7') {
            let sum: u32 = block[..148].iter().chain(&block[156..]).map(|&byte| u32::from(byte)).sum::<u32>() + 8 * 32;
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    archive
}

fn read(archive: &[u8], piece: usize) -> (Vec<Seen>, Result<(), ArchiveError>) {
    let mut reader = Reader::new(LIMITS);
    let mut seen: Vec<Seen> = Vec::new();
    // The file that is open, and where the next of its data may begin.
    let mut open: Option<(Entry, u64, u64)> = None;
    for mut input in archive.chunks(piece) {
        loop {
            match reader.next(&mut input) {
                Ok(Event::NeedInput) => break assert!(input.is_empty()),
                Ok(Event::Entry(entry)) => {
                    assert!(open.is_none(), "the last entry ended");
                    assert!(entry.kind == EntryKind::File || entry.size == 0 && !entry.sparse);
                    assert!(entry.records.is_sorted() && entry.records.windows(2).all(|pair| pair[0].0 != pair[1].0));
                    assert!(entry.mtime.nanoseconds < 1_000_000_000);
                    let _ = Attributes::of_entry(&entry);
                    open = Some(((*entry).clone(), 0, 0));
                    seen.push(Seen::Entry(entry));
                }
                Ok(Event::Data { offset, bytes }) => {
                    let (entry, next, sum) = open.as_mut().unwrap_or_else(|| panic!("data belongs to an entry"));
                    assert!(!bytes.is_empty() && offset >= *next && offset + bytes.len() as u64 <= entry.size);
                    assert!(entry.sparse || offset == *next, "no holes where there is no map");
                    *next = offset + bytes.len() as u64;
                    *sum += bytes.len() as u64;
                    match seen.last_mut() {
                        Some(Seen::Data(start, data)) if *start + data.len() as u64 == offset => data.extend(bytes),
                        _ => seen.push(Seen::Data(offset, bytes.to_vec())),
                    }
                }
                Ok(Event::EndOfEntry) => {
                    let (entry, _, sum) = open.take().unwrap_or_else(|| panic!("an entry ends once"));
                    assert!(if entry.sparse { sum <= entry.size } else { sum == entry.size });
                    seen.push(Seen::EndOfEntry);
                }
                Ok(Event::GlobalHeader) => {
                    assert!(open.is_none());
                    seen.push(Seen::GlobalHeader);
                }
                Ok(Event::End) => {
                    assert!(open.is_none());
                    seen.push(Seen::End);
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    assert_eq!(reader.finish(), Err(error.clone()));
                    return (seen, Err(error));
                }
            }
        }
    }
    let end = reader.finish();
    assert!(end.is_err() || open.is_none());
    (seen, end)
}

/// What was read well is read well too if content is passed over.
fn skip_through(archive: &[u8], most: u64) {
    let mut reader = Reader::new(LIMITS);
    let mut input = archive;
    loop {
        let skipped = reader.skippable().min(most).min(input.len() as u64);
        reader.skip(skipped);
        input = &input[usize::try_from(skipped).unwrap_or(usize::MAX)..];
        match reader.next(&mut input) {
            Ok(Event::NeedInput) => break,
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(reader.finish(), Ok(()));
}
