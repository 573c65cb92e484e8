//! Reads files of directories: two side by side, or one to hash it.

use super::sparse::SparseHasher;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

const BLOCK: usize = 128 * 1024;

/// Compares files; keeps its buffers for the next pair.
#[derive(Debug)]
pub(super) struct Reader {
    a: Box<[u8]>,
    b: Box<[u8]>,
}

/// Which of the two could not be read.
pub(super) type SideError = (Which, io::Error);

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    A,
    B,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { a: vec![0; BLOCK].into(), b: vec![0; BLOCK].into() }
    }

    /// The position of the first byte in which two files differ; `None` if there is none. `go_on` is asked before
    /// each block, and ends the comparison with an answer of no meaning.
    pub(super) fn first_difference(
        &mut self,
        a: &File,
        b: &File,
        go_on: impl Fn() -> bool,
    ) -> Result<Option<u64>, SideError> {
        let mut position = 0;
        while go_on() {
            let in_a = read_block(a, &mut self.a, position).map_err(|error| (Which::A, error))?;
            let in_b = read_block(b, &mut self.b, position).map_err(|error| (Which::B, error))?;
            if in_a != in_b {
                let differs = in_a.iter().zip(in_b).position(|(a, b)| a != b);
                return Ok(Some(position + differs.unwrap_or(in_a.len().min(in_b.len())) as u64));
            }
            if in_a.is_empty() {
                return Ok(None);
            }
            position += in_a.len() as u64;
            // A block of zeros may be the beginning of a hole; what is a hole in both files need not be read.
            if in_a.iter().all(|&byte| byte == 0) {
                position = position.max(next_data(a, position).min(next_data(b, position)));
            }
        }
        Ok(None)
    }
}

/// The SHA-256 of all bytes, holes read as zeros. `go_on` is asked before each block, and ends it with a hash of no
/// meaning.
pub(super) fn sha256(file: &File, go_on: &dyn Fn() -> bool) -> io::Result<[u8; 32]> {
    let (mut hash, mut block, mut position) = (Sha256::new(), vec![0; BLOCK], 0);
    while go_on() {
        let bytes = read_block(file, &mut block, position)?;
        if bytes.is_empty() {
            break;
        }
        hash.update(bytes);
        position += bytes.len() as u64;
    }
    Ok(hash.finalize().into())
}

/// The [hash](SparseHasher) for which holes are not read, likewise.
pub(super) fn sparse_hash(file: &File, go_on: &dyn Fn() -> bool) -> io::Result<[u8; 32]> {
    let (mut hash, mut block, mut position) = (SparseHasher::default(), vec![0; BLOCK], 0);
    while go_on() {
        position = position.max(next_data(file, position));
        let bytes = read_block(file, &mut block, position)?;
        if bytes.is_empty() {
            break;
        }
        hash.data(position, bytes);
        position += bytes.len() as u64;
    }
    Ok(hash.finish(file.metadata()?.len()))
}

/// As many bytes as there are, at most a block. Files have one position each, but several names and several threads,
/// so it is never relied on.
fn read_block<'b>(file: &File, block: &'b mut [u8], position: u64) -> io::Result<&'b [u8]> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read_at(&mut block[filled..], position + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(&block[..filled])
}

/// Where the next byte that is not a hole lies; the position itself, if the file system does not tell; the end of the
/// file, if there is none.
fn next_data(file: &File, position: u64) -> u64 {
    match rustix::fs::seek(file, SeekFrom::Data(position)) {
        Ok(data) => data,
        Err(Errno::NXIO) => file.metadata().map_or(position, |metadata| metadata.len()),
        Err(_) => position,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn file(parts: &[(u64, &[u8])], length: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(length).unwrap();
        for (position, bytes) in parts {
            file.write_all_at(bytes, *position).unwrap();
        }
        file
    }

    fn compare(a: &File, b: &File) -> Option<u64> {
        Reader::new().first_difference(a, b, || true).unwrap()
    }

    #[test]
    fn the_first_byte_that_differs_is_found() {
        let mut plain = tempfile::tempfile().unwrap();
        plain.write_all(&[7; 3 * BLOCK]).unwrap();
        let mut other = vec![7; 3 * BLOCK];
        other[2 * BLOCK + 5] = 8;
        assert_eq!(compare(&plain, &plain), None);
        assert_eq!(compare(&plain, &file(&[(0, &other)], 0)), Some(2 * BLOCK as u64 + 5));
        assert_eq!(compare(&plain, &file(&[(0, &other[..BLOCK])], 0)), Some(BLOCK as u64));
        assert_eq!(compare(&file(&[], 0), &file(&[], 0)), None);
    }

    #[test]
    fn holes_are_skipped_and_what_lies_behind_them_is_not() {
        const FAR: u64 = 1 << 38;
        let end: (u64, &[u8]) = (FAR, b"end");
        assert_eq!(compare(&file(&[end], 0), &file(&[end], 0)), None);
        assert_eq!(compare(&file(&[end], 0), &file(&[(FAR, b"eNd")], 0)), Some(FAR + 1));
        assert_eq!(compare(&file(&[end], 0), &file(&[end, (1 << 37, b"x")], 0)), Some(1 << 37));
        assert_eq!(compare(&file(&[], FAR), &file(&[], FAR)), None);
        // zeros that are written are equal to a hole
        assert_eq!(compare(&file(&[(0, &[0; BLOCK])], 0), &file(&[], BLOCK as u64)), None);
    }
}
