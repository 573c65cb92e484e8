//! The reader on archives made block by block, each fed whole, byte by byte, and in pieces of odd sizes.

mod entries;
mod sparse;

use super::*;

/// A header block of which a test changes what it is about.
#[derive(Clone)]
struct Made {
    block: [u8; 512],
    payload: Vec<u8>,
}

const USTAR: &[u8] = b"ustar\x0000";
const GNU: &[u8] = b"ustar  \0";

/// An entry in ustar format whose size is that of its payload.
fn made(typeflag: u8, name: &str, payload: &[u8]) -> Made {
    let mut block = [0; 512];
    block[156] = typeflag;
    let size = format!("{:011o}\0", payload.len());
    Made { block, payload: payload.to_vec() }
        .with(0, name.as_bytes())
        .with(100, b"0000644\0")
        .with(108, b"0001750\0")
        .with(116, b"0001751\0")
        .with(124, size.as_bytes())
        .with(136, b"00000000144\0")
        .with(257, USTAR)
}

impl Made {
    /// Puts bytes at an offset of the header and mends the checksum.
    fn with(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.block[offset..][..bytes.len()].copy_from_slice(bytes);
        self.block[148..156].fill(b' ');
        let sum: u32 = self.block.iter().map(|&byte| u32::from(byte)).sum();
        self.block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self
    }

    fn with_size(self, size: u64) -> Self {
        self.with(124, format!("{size:011o}\0").as_bytes())
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = [&self.block[..], &self.payload].concat();
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let pair = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let length = (1..).find(|digits| (pair.len() + digits).to_string().len() == *digits).unwrap() + pair.len();
    [length.to_string().as_bytes(), &pair].concat()
}

fn pax(records: &[(&str, &[u8])]) -> Made {
    made(b'x', "pax", &records.iter().flat_map(|(key, value)| record(key, value)).collect::<Vec<u8>>())
}

fn archive(entries: &[Made]) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries.iter().flat_map(Made::bytes).collect();
    bytes.extend([0; 1024]);
    bytes
}

/// An event with its data owned; data in a row is one.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Entry(Entry),
    Data(u64, Vec<u8>),
    EndOfEntry,
    GlobalHeader,
    End,
}

fn fed(bytes: &[u8], chunk: usize, limits: Limits) -> (Vec<Seen>, Result<(), ArchiveError>) {
    let mut reader = Reader::new(limits);
    let mut seen: Vec<Seen> = Vec::new();
    for mut input in bytes.chunks(chunk) {
        loop {
            match reader.next(&mut input) {
                Ok(Event::NeedInput) => break,
                Ok(Event::Entry(entry)) => seen.push(Seen::Entry(*entry)),
                Ok(Event::Data { offset, bytes }) => {
                    assert!(!bytes.is_empty());
                    match seen.last_mut() {
                        Some(Seen::Data(start, data)) if *start + data.len() as u64 == offset => data.extend(bytes),
                        _ => seen.push(Seen::Data(offset, bytes.to_vec())),
                    }
                }
                Ok(Event::EndOfEntry) => seen.push(Seen::EndOfEntry),
                Ok(Event::GlobalHeader) => seen.push(Seen::GlobalHeader),
                Ok(Event::End) => seen.push(Seen::End),
                Err(error) => {
                    assert_eq!(reader.next(&mut input), Err(error.clone()), "an error is repeated");
                    assert_eq!(reader.finish(), Err(error.clone()));
                    return (seen, Err(error));
                }
            }
        }
        assert!(input.is_empty(), "input is asked for only when there is none");
    }
    let end = reader.finish();
    (seen, end)
}

fn read_with(bytes: &[u8], limits: Limits) -> (Vec<Seen>, Result<(), ArchiveError>) {
    let whole = fed(bytes, bytes.len().max(1), limits);
    for chunk in [1, 3, 511, 512, 513, 1000, 1024] {
        assert_eq!(fed(bytes, chunk, limits), whole, "in pieces of {chunk}");
    }
    whole
}

fn read(bytes: &[u8]) -> Vec<Seen> {
    let (seen, end) = read_with(bytes, Limits::default());
    assert_eq!(end, Ok(()));
    seen
}

fn refused(bytes: &[u8]) -> ArchiveError {
    read_with(bytes, Limits::default()).1.unwrap_err()
}

fn entries(bytes: &[u8]) -> Vec<Entry> {
    read(bytes).into_iter().filter_map(|seen| if let Seen::Entry(entry) = seen { Some(entry) } else { None }).collect()
}

/// The only entry of an archive.
fn one(made: &[Made]) -> Entry {
    let [entry] = entries(&archive(made)).try_into().unwrap();
    entry
}

fn names(bytes: &[u8]) -> Vec<String> {
    entries(bytes).into_iter().map(|entry| String::from_utf8(entry.name).unwrap()).collect()
}
