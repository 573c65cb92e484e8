//! Maps of sparse files: GNU's old format and PAX formats 0.0, 0.1 and 1.0 (GNU tar manual, "Storing Sparse Files").

use super::header::{BLOCK, number};
use super::pax::{Records, decimal};
use super::{ArchiveError, Limits};

/// A piece of a file that is stored; what lies between two of them is a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Where in the file it begins.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
}

/// How the map of a PAX sparse file is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PaxFormat {
    /// In a record.
    Record,
    /// At the start of the content.
    Content,
}

/// Whether the records are those of a sparse file; an unknown version is a plain file.
pub(super) fn pax_format(records: &Records) -> Option<PaxFormat> {
    match (records.get(b"GNU.sparse.major"), records.get(b"GNU.sparse.minor")) {
        (Some(b"0"), Some(b"0" | b"1")) => Some(PaxFormat::Record),
        (Some(b"1"), Some(b"0")) => Some(PaxFormat::Content),
        (None, None) if records.get(b"GNU.sparse.map").is_some() => Some(PaxFormat::Record),
        _ => None,
    }
}

/// The map in a record: numbers with commas between.
pub(super) fn record_map(records: &Records, limits: Limits) -> Result<Vec<Fragment>, ArchiveError> {
    let stated = records.number("GNU.sparse.numblocks")?.ok_or(ArchiveError::SparseMap)?;
    let Some(map) = records.get(b"GNU.sparse.map") else {
        return if stated == 0 { Ok(Vec::new()) } else { Err(ArchiveError::SparseMap) };
    };
    let mut numbers = Vec::new();
    for number in map.split(|&byte| byte == b',') {
        numbers.push(decimal("GNU.sparse.map", number)?);
        if numbers.len() / 2 > limits.sparse_fragments {
            return Err(ArchiveError::SparseTooLong(limits.sparse_fragments));
        }
    }
    if numbers.len() as u64 != u64::try_from(stated).unwrap_or(u64::MAX).saturating_mul(2) {
        return Err(ArchiveError::SparseMap);
    }
    fragments(&numbers)
}

/// The map of the old format: four entries in the header, and 21 in each block that follows while there are more.
///
/// Returns whether another block follows.
pub(super) fn old_map(entries: &[u8], more: u8, map: &mut Vec<Fragment>, limits: Limits) -> Result<bool, ArchiveError> {
    for entry in entries.chunks_exact(24) {
        if entry[0] == 0 {
            break;
        }
        let numbers = [number("sparse offset", &entry[..12])?, number("sparse length", &entry[12..])?];
        map.extend(fragments(&numbers)?);
        if map.len() > limits.sparse_fragments {
            return Err(ArchiveError::SparseTooLong(limits.sparse_fragments));
        }
    }
    Ok(more > 0)
}

/// The map at the start of the content: decimal numbers, a line each, the first their count; filled up to a block.
#[derive(Debug, Clone, Default)]
pub(super) struct ContentMap {
    numbers: Vec<i64>,
    digits: Vec<u8>,
}

impl ContentMap {
    /// Takes one block; the map, once it is complete.
    pub(super) fn block(&mut self, block: &[u8; BLOCK], limits: Limits) -> Result<Option<Vec<Fragment>>, ArchiveError> {
        for &byte in block {
            if byte != b'\n' {
                self.digits.push(byte);
                if self.digits.len() > 20 {
                    return Err(ArchiveError::SparseMap);
                }
                continue;
            }
            self.numbers.push(decimal("sparse map", &self.digits)?);
            self.digits.clear();
            let count = usize::try_from(self.numbers[0]).map_err(|_| ArchiveError::SparseMap)?;
            if count > limits.sparse_fragments {
                return Err(ArchiveError::SparseTooLong(limits.sparse_fragments));
            }
            if self.numbers.len() == 1 + 2 * count {
                return fragments(&self.numbers[1..]).map(Some);
            }
        }
        Ok(None)
    }
}

fn fragments(numbers: &[i64]) -> Result<Vec<Fragment>, ArchiveError> {
    let pair =
        |pair: &[i64]| Some(Fragment { offset: u64::try_from(pair[0]).ok()?, length: u64::try_from(pair[1]).ok()? });
    numbers.chunks_exact(2).map(pair).collect::<Option<_>>().ok_or(ArchiveError::SparseMap)
}

/// Fragments must be in order, apart, and inside the file; and the stored bytes must be exactly theirs.
pub(super) fn check(map: &[Fragment], size: u64, stored: u64) -> Result<(), ArchiveError> {
    let mut end = 0u64;
    let mut sum = 0u64;
    for fragment in map {
        let after = fragment.offset.checked_add(fragment.length).filter(|&after| after <= size);
        if fragment.offset < end {
            return Err(ArchiveError::SparseMap);
        }
        end = after.ok_or(ArchiveError::SparseMap)?;
        sum += fragment.length;
    }
    if sum == stored { Ok(()) } else { Err(ArchiveError::SparseMap) }
}
