//! Writes entries as bytes: the counterpart of the reader.
//!
//! What [`Reader`](super::Reader) says of an entry, [`Writer`] writes so that every reader says the same: ustar
//! headers, and PAX records (POSIX pax, "ustar Interchange Format" and "pax Extended Header") only for what ustar
//! cannot say. The same entries always give the same bytes. Files with holes of some size are written in PAX sparse
//! format 1.0.

use std::io::{self, Write};

use tar::{EntryType, Header};

use super::header::BLOCK;
use super::{Entry, EntryKind, Fragment};
use crate::core::text::Timestamp;

/// Holes of fewer bytes than this, taken together, are written as zeros: they are not worth a map.
const HOLES_FROM: u64 = 8 << 10;
/// Zeros to write from.
const ZEROS: [u8; 8 << 10] = [0; 8 << 10];
/// An archive ends with two zero blocks; GNU tar and Go's writer end there too.
const END: usize = 2 * BLOCK;

/// The largest numbers that ustar fields of 8 and of 12 bytes hold, in octal digits and a NUL.
const LARGEST_8: u64 = 0o7_777_777;
const LARGEST_12: u64 = 0o77_777_777_777;

/// Writes an archive, entry by entry.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
    content: Content,
}

/// What is still to come of the current entry's content.
#[derive(Debug, Default)]
struct Content {
    /// Where in the file the next byte belongs.
    at: u64,
    /// Bytes of the file, holes counted.
    size: u64,
    /// Whether only fragments are written; else holes are written as zeros.
    sparse: bool,
    /// Bytes written so far, for the padding.
    written: u64,
    /// Bytes that the header promises.
    stored: u64,
}

impl<W: Write> Writer<W> {
    /// A writer at the start of an archive.
    pub fn new(output: W) -> Self {
        Self { output, content: Content::default() }
    }

    /// Begins an entry. `fragments` are the parts of a file that are no holes, in order and apart; its content follows
    /// with [`Writer::data`], and [`Writer::end_of_entry`] for every kind.
    ///
    /// Of the entry's records those count that are extended attributes and ACLs; what its fields say is said by its
    /// fields.
    ///
    /// # Errors
    /// The output cannot be written, or fragments that are none of the file.
    pub fn entry(&mut self, entry: &Entry, fragments: &[Fragment]) -> io::Result<()> {
        let size = if entry.kind == EntryKind::File { entry.size } else { 0 };
        let data: u64 = fragments.iter().map(|fragment| fragment.length).sum();
        let map = sparse_map(fragments, size);
        let sparse = size.saturating_sub(data) >= HOLES_FROM.max(2 * map.len() as u64);
        let stored = if sparse { data + map.len() as u64 } else { size };
        let mut records = records(entry);
        let mut header = Header::new_ustar();
        let mut name = entry.name.clone();
        if sparse {
            records.push((b"GNU.sparse.major".to_vec(), b"1".to_vec()));
            records.push((b"GNU.sparse.minor".to_vec(), b"0".to_vec()));
            records.push((b"GNU.sparse.name".to_vec(), entry.name.clone()));
            records.push((b"GNU.sparse.realsize".to_vec(), size.to_string().into_bytes()));
            name = placeholder(b"GNUSparseFile.0", &entry.name);
        } else if !set_name(&mut header, &name) {
            records.push((b"path".to_vec(), std::mem::replace(&mut name, placeholder(b"", &entry.name))));
        }
        set_name(&mut header, &name);
        fill(&mut header, entry, stored, &mut records);
        write_records(&mut self.output, &entry.name, records)?;
        self.output.write_all(header.as_bytes())?;
        self.content = Content { at: 0, size, sparse, written: 0, stored };
        if sparse {
            self.output.write_all(&map)?;
            self.content.written = map.len() as u64;
        }
        Ok(())
    }

    /// Some of the current file's content, at `offset` of the whole file.
    ///
    /// # Errors
    /// The output cannot be written, or bytes that do not belong to what was announced.
    pub fn data(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(bytes.len() as u64).filter(|&end| end <= self.content.size);
        if offset < self.content.at || end.is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "content outside of its file"));
        }
        self.hole(offset)?;
        self.output.write_all(bytes)?;
        self.content.at = offset + bytes.len() as u64;
        self.content.written += bytes.len() as u64;
        Ok(())
    }

    /// The current entry is complete.
    ///
    /// # Errors
    /// The output cannot be written, or content is missing.
    pub fn end_of_entry(&mut self) -> io::Result<()> {
        self.hole(self.content.size)?;
        let Content { written, stored, .. } = std::mem::take(&mut self.content);
        if written != stored {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "content is not what was announced of its file"));
        }
        zeros(&mut self.output, padding(written))
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        zeros(&mut self.output, END as u64)?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn hole(&mut self, to: u64) -> io::Result<()> {
        if !self.content.sparse {
            let length = to - self.content.at;
            zeros(&mut self.output, length)?;
            self.content.written += length;
        }
        self.content.at = to;
        Ok(())
    }
}

/// The map at the start of a sparse file's content: decimal numbers, a line each, filled up to a block. Where the file
/// ends in a hole, GNU tar wants to find a fragment of nothing there.
fn sparse_map(fragments: &[Fragment], size: u64) -> Vec<u8> {
    let end = fragments.last().map_or(0, |last| last.offset + last.length);
    let last = (end < size).then_some(Fragment { offset: size, length: 0 });
    let fragments: Vec<&Fragment> = fragments.iter().filter(|fragment| fragment.length > 0).chain(&last).collect();
    let mut map = format!("{}\n", fragments.len());
    for fragment in fragments {
        map.push_str(&format!("{}\n{}\n", fragment.offset, fragment.length));
    }
    let mut map = map.into_bytes();
    map.resize(map.len() + padding(map.len() as u64) as usize, 0);
    map
}

/// The records of an entry that are no fields of it.
fn records(entry: &Entry) -> Vec<(Vec<u8>, Vec<u8>)> {
    const PREFIXES: [&[u8]; 4] = [b"SCHILY.xattr.", b"SCHILY.acl.", b"LIBARCHIVE.xattr.", b"RHT.security."];
    let is_kept = |key: &[u8]| PREFIXES.iter().any(|prefix| key.starts_with(prefix));
    entry.records.iter().filter(|(key, _)| is_kept(key)).cloned().collect()
}

/// Everything but the name. What does not fit goes to the records.
fn fill(header: &mut Header, entry: &Entry, stored: u64, records: &mut Vec<(Vec<u8>, Vec<u8>)>) {
    let mut record = |key: &str, value: String| records.push((key.into(), value.into_bytes()));
    header.set_entry_type(match entry.kind {
        EntryKind::File => EntryType::Regular,
        EntryKind::Directory => EntryType::Directory,
        EntryKind::Symlink => EntryType::Symlink,
        EntryKind::HardLink => EntryType::Link,
        EntryKind::CharacterDevice => EntryType::Char,
        EntryKind::BlockDevice => EntryType::Block,
        EntryKind::Fifo => EntryType::Fifo,
    });
    header.set_mode((entry.mode & 0o7777) as u32);
    // As Go's and GNU's writers do, a field that cannot hold its number is 0.
    let mut number = |key: &str, value: i64, largest: u64| match u64::try_from(value) {
        Ok(value) if value <= largest => value,
        _ => {
            record(key, value.to_string());
            0
        }
    };
    header.set_uid(number("uid", entry.uid, LARGEST_8));
    header.set_gid(number("gid", entry.gid, LARGEST_8));
    header.set_size(number("size", i64::try_from(stored).unwrap_or(i64::MAX), LARGEST_12));
    let Timestamp { seconds, nanoseconds } = entry.mtime;
    match u64::try_from(seconds) {
        Ok(seconds @ ..=LARGEST_12) if nanoseconds == 0 => header.set_mtime(seconds),
        other => {
            // Whole seconds for readers that know no PAX.
            header.set_mtime(other.map_or(0, |seconds| seconds.min(LARGEST_12)));
            record("mtime", decimal(entry.mtime));
        }
    }
    if let Some(atime) = entry.atime {
        record("atime", decimal(atime));
    }
    if let Some(ustar) = header.as_ustar_mut() {
        let (major, minor) = entry.device;
        // Rule A6 has both far below the fields' ends; a number outside is the reader's to refuse.
        ustar.set_device_major(u32::try_from(major).unwrap_or(u32::MAX >> 11));
        ustar.set_device_minor(u32::try_from(minor).unwrap_or(u32::MAX >> 11));
    }
    if entry.link_name.len() <= header.as_old().linkname.len() {
        header.as_old_mut().linkname[..entry.link_name.len()].copy_from_slice(&entry.link_name);
    } else {
        records.push((b"linkpath".to_vec(), entry.link_name.clone()));
    }
    header.set_cksum();
}

/// Writes a name into the header's fields, if they can hold it.
fn set_name(header: &mut Header, name: &[u8]) -> bool {
    let Some(ustar) = header.as_ustar_mut() else {
        return false;
    };
    let (prefix, rest) = if name.len() <= ustar.name.len() {
        (&[][..], name)
    } else {
        // The slash between the two is in neither; the rest must not be empty.
        let first = name.len() - ustar.name.len() - 1;
        let last = ustar.prefix.len().min(name.len().saturating_sub(2));
        let slash = (first.max(1)..=last).find(|&at| name[at] == b'/');
        match slash {
            Some(slash) => (&name[..slash], &name[slash + 1..]),
            None => return false,
        }
    };
    ustar.name[..rest.len()].copy_from_slice(rest);
    ustar.prefix[..prefix.len()].copy_from_slice(prefix);
    true
}

/// A name that fits, for readers that know no PAX: a directory, and what fits of the last component.
fn placeholder(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let last = name.split(|&byte| byte == b'/').rfind(|component| !component.is_empty()).unwrap_or_default();
    let mut short: Vec<u8> = last.iter().copied().filter(u8::is_ascii_graphic).take(60).collect();
    if !directory.is_empty() {
        short.splice(..0, [directory, b"/"].concat());
    }
    if name.ends_with(b"/") {
        short.push(b'/');
    }
    short
}

fn write_records(output: &mut impl Write, name: &[u8], mut records: Vec<(Vec<u8>, Vec<u8>)>) -> io::Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let is_text = |key: &[u8]| matches!(key, b"path" | b"linkpath" | b"GNU.sparse.name");
    if records.iter().any(|(key, value)| is_text(key) && std::str::from_utf8(value).is_err()) {
        // PAX text is UTF-8, if it does not say that it is none.
        records.push((b"hdrcharset".to_vec(), b"BINARY".to_vec()));
    }
    records.sort();
    // It says how the others are to be read.
    records.sort_by_key(|(key, _)| key != b"hdrcharset");
    let content: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    let mut header = Header::new_ustar();
    set_name(&mut header, &placeholder(b"PaxHeaders.0", name.strip_suffix(b"/").unwrap_or(name)));
    header.set_entry_type(EntryType::XHeader);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    header.set_cksum();
    output.write_all(header.as_bytes())?;
    output.write_all(&content)?;
    zeros(output, padding(content.len() as u64))
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// Seconds with as many decimals as they need; before 1970 they count down from zero, sign and all.
fn decimal(Timestamp { seconds, nanoseconds }: Timestamp) -> String {
    let (sign, whole, fraction) = match (seconds < 0, nanoseconds) {
        (true, 1..) => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds),
        (true, 0) => ("-", seconds.unsigned_abs(), 0),
        (false, _) => ("", seconds.unsigned_abs(), nanoseconds),
    };
    match fraction {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{}", format!("{fraction:09}").trim_end_matches('0')),
    }
}

fn padding(length: u64) -> u64 {
    length.wrapping_neg() % BLOCK as u64
}

fn zeros(output: &mut impl Write, mut count: u64) -> io::Result<()> {
    while count > 0 {
        let length = count.min(ZEROS.len() as u64);
        output.write_all(&ZEROS[..length as usize])?;
        count -= length;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_the_digits_of_its_length() {
        assert_eq!(record(b"path", b"a"), b"9 path=a\n");
        assert_eq!(record(b"p", b"a"), b"6 p=a\n");
        for length in 80..120 {
            let record = record(b"key", &vec![b'v'; length]);
            let stated = record.split(|&byte| byte == b' ').next().unwrap();
            assert_eq!(String::from_utf8_lossy(stated).parse::<usize>().unwrap(), record.len());
        }
    }

    #[test]
    fn a2_times_before_1970_count_down() {
        let text = |seconds, nanoseconds| decimal(Timestamp { seconds, nanoseconds });
        assert_eq!(text(1, 500_000_000), "1.5");
        assert_eq!(text(-2, 750_000_000), "-1.25");
        assert_eq!(text(-1, 500_000_000), "-0.5");
        assert_eq!(text(-1, 0), "-1");
        assert_eq!(text(i64::MIN, 0), i64::MIN.to_string());
    }

    #[test]
    fn names_are_split_where_ustar_can() {
        let split = |name: &[u8]| {
            let mut header = Header::new_ustar();
            set_name(&mut header, name).then(|| (header.path_bytes().to_vec(), name.to_vec()))
        };
        for name in [[b'x'; 100].to_vec(), [&[b'd'; 155][..], b"/", &[b'x'; 100]].concat(), b"./".to_vec()] {
            let (read, written) = split(&name).unwrap();
            assert_eq!(read, written);
        }
        assert_eq!(split(&[b'x'; 101]), None);
        assert_eq!(split(&[&[b'd'; 156][..], b"/x"].concat()), None);
        assert_eq!(split(&[&[b'd'; 120][..], b"/"].concat()), None);
    }
}
