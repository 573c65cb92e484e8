//! Decides which files of one size have the same content, reading as little as possible.
//!
//! Two files in directories are read side by side, up to the first byte that differs. Where a content is known by its
//! SHA-256, as those of an image are, a file in a directory is hashed, and two of images are compared without reading.
//! A content with holes too large to be hashed is known by [another hash](super::sparse), for which it is read once.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::content::{Reader, Which, sha256, sparse_hash};
use super::side::{KnownContent, Side};
use crate::core::cancel::Cancel;
use crate::parallel;
use crate::tree::{NodeId, TreeError};

/// What two contents differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contents {
    Equal,
    /// The first byte that differs, where both were read.
    Different(Option<u64>),
}

/// Compares the contents of files.
pub(super) struct Equality<'s> {
    pub(super) a: Side<'s>,
    pub(super) b: Side<'s>,
    pub(super) jobs: Option<NonZero<usize>>,
    pub(super) cancel: &'s Cancel,
}

/// What has to be done for a pair.
enum Way {
    Known(Contents),
    /// One is known by its SHA-256, the other one can be read.
    Hash {
        file: (Which, NodeId),
        is: [u8; 32],
    },
    /// Too little is known of one of them.
    Sparse,
}

impl Equality<'_> {
    /// For each pair of files of one size, what their contents differ in.
    pub(super) fn compare(&self, pairs: &[(NodeId, NodeId)]) -> Result<Vec<Contents>, TreeError> {
        if self.a.contents.is_none() && self.b.contents.is_none() {
            return self.read_side_by_side(pairs);
        }
        let ways: Vec<Way> = pairs.iter().map(|&pair| self.way(pair)).collect();
        let sparse: Vec<usize> = (0..ways.len()).filter(|&index| matches!(ways[index], Way::Sparse)).collect();
        let (of_a, of_b): (Vec<NodeId>, Vec<NodeId>) = sparse.iter().map(|&index| pairs[index]).unzip();
        let (in_a, in_b) = (self.sparse_hashes(Which::A, &of_a)?, self.sparse_hashes(Which::B, &of_b)?);
        let mut answers = self.in_parallel(ways.len(), &|index| {
            Ok(match ways[index] {
                Way::Known(answer) => answer,
                Way::Hash { file: (which, file), is } => equal_if(self.hash(which, file, sha256)? == is),
                Way::Sparse => Contents::Equal,
            })
        })?;
        for (index, (a, b)) in sparse.into_iter().zip(in_a.into_iter().zip(in_b)) {
            answers[index] = equal_if(a == b);
        }
        Ok(answers)
    }

    fn side(&self, which: Which) -> Side<'_> {
        match which {
            Which::A => self.a,
            Which::B => self.b,
        }
    }

    fn inode(&self, which: Which, file: NodeId) -> u64 {
        self.side(which).tree.entry(file).inode.1
    }

    fn way(&self, (a, b): (NodeId, NodeId)) -> Way {
        let known = |which, file| self.side(which).contents.map(|contents| contents.known(self.inode(which, file)));
        let hash = |known: KnownContent, which, file| match known {
            KnownContent { hash, is_sha256: true } => Way::Hash { file: (which, file), is: hash },
            _ => Way::Sparse,
        };
        match (known(Which::A, a), known(Which::B, b)) {
            (Some(Some(a)), Some(Some(b))) if a == b => Way::Known(Contents::Equal),
            (Some(Some(a)), Some(Some(b))) if a.is_sha256 && b.is_sha256 => Way::Known(Contents::Different(None)),
            (Some(Some(known)), None) => hash(known, Which::B, b),
            (None, Some(Some(known))) => hash(known, Which::A, a),
            _ => Way::Sparse,
        }
    }

    fn sparse_hashes(&self, which: Which, files: &[NodeId]) -> Result<Vec<[u8; 32]>, TreeError> {
        let side = self.side(which);
        match side.contents {
            _ if files.is_empty() => Ok(Vec::new()),
            Some(contents) => {
                let inodes: Vec<u64> = files.iter().map(|&file| self.inode(which, file)).collect();
                contents.sparse_hashes(&inodes).map_err(|source| side.tree.no_contents(source))
            }
            None => self.in_parallel(files.len(), &|index| self.hash(which, files[index], sparse_hash)),
        }
    }

    /// Reads a file of a directory.
    fn hash(
        &self,
        which: Which,
        file: NodeId,
        how: fn(&std::fs::File, &dyn Fn() -> bool) -> std::io::Result<[u8; 32]>,
    ) -> Result<[u8; 32], TreeError> {
        let tree = self.side(which).tree;
        let hash = how(&tree.open_file(file)?, &|| !self.cancel.is_cancelled());
        let hash = hash.map_err(|error| tree.error(file, "read", error))?;
        if self.cancel.is_cancelled() { Err(TreeError::Cancelled) } else { Ok(hash) }
    }

    fn read_side_by_side(&self, pairs: &[(NodeId, NodeId)]) -> Result<Vec<Contents>, TreeError> {
        // Each has buffers of its own, good for any number of pairs.
        let readers: Mutex<Vec<Reader>> = Mutex::new(Vec::new());
        let readers = || readers.lock().unwrap_or_else(PoisonError::into_inner);
        self.in_parallel(pairs.len(), &|index| {
            let idle = readers().pop();
            let mut reader = idle.unwrap_or_else(Reader::new);
            let answer = self.read_pair(&mut reader, pairs[index]);
            readers().push(reader);
            answer
        })
    }

    fn read_pair(&self, reader: &mut Reader, pair: (NodeId, NodeId)) -> Result<Contents, TreeError> {
        let (tree_a, tree_b) = (self.a.tree, self.b.tree);
        let (a, b) = (tree_a.open_file(pair.0)?, tree_b.open_file(pair.1)?);
        let answer = reader.first_difference(&a, &b, || !self.cancel.is_cancelled());
        let answer = answer.map_err(|(which, error)| match which {
            Which::A => tree_a.error(pair.0, "read", error),
            Which::B => tree_b.error(pair.1, "read", error),
        })?;
        if self.cancel.is_cancelled() {
            return Err(TreeError::Cancelled);
        }
        Ok(answer.map_or(Contents::Equal, |offset| Contents::Different(Some(offset))))
    }

    /// Does the same for each number below `count`, several at a time.
    fn in_parallel<T: Send>(
        &self,
        count: usize,
        work: &(dyn Fn(usize) -> Result<T, TreeError> + Sync),
    ) -> Result<Vec<T>, TreeError> {
        let order: Vec<usize> = (0..count).collect();
        let jobs = parallel::jobs(self.jobs, 0).get();
        let stop = AtomicBool::new(false);
        let answers = parallel::each(&order, jobs, &stop, &|index| {
            let answer = work(index);
            stop.fetch_or(answer.is_err(), Ordering::Relaxed);
            answer
        });
        parallel::all(answers, || TreeError::Cancelled, |error| matches!(error, TreeError::Cancelled))
    }
}

fn equal_if(is_equal: bool) -> Contents {
    if is_equal { Contents::Equal } else { Contents::Different(None) }
}
