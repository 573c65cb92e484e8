//! A sink for layers that keeps only the digest of each file.

use std::convert::Infallible;

use super::Content;
use super::identity::{Allowance, ContentHasher};
use crate::core::layer::{Failure, Place, Sink, Unkept};
use crate::core::record::{Attributes, ContentId, NameId, Names};

/// Hashes the contents of files.
#[derive(Debug, Default)]
pub(crate) struct Hashing {
    contents: Vec<Content>,
    size: u64,
    hasher: ContentHasher,
    allowance: Allowance,
    /// The allowance when the file began.
    before: Allowance,
    stored: u64,
}

impl Hashing {
    /// When the layer is read.
    pub(crate) fn into_contents(self) -> Vec<Content> {
        self.contents
    }
}

impl Sink for Hashing {
    type Error = Infallible;

    fn begin(
        &mut self,
        _: &Names,
        _: NameId,
        _: &Attributes,
        size: u64,
        _: Place,
    ) -> Result<ContentId, Failure<Infallible>> {
        (self.size, self.stored, self.before) = (size, 0, self.allowance);
        self.hasher = ContentHasher::default();
        Ok(ContentId(self.contents.len() as u32))
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure<Infallible>> {
        self.hasher.data(offset, bytes, &mut self.allowance);
        self.stored += bytes.len() as u64;
        Ok(())
    }

    fn end(&mut self, _: &Attributes) -> Result<(), Failure<Infallible>> {
        let identity = std::mem::take(&mut self.hasher).finish(self.size, &mut self.allowance);
        let allowance = (!identity.is_whole).then_some(self.before.0);
        self.contents.push(Content { hash: identity.hash, allowance, stored: self.stored });
        Ok(())
    }

    fn unkept(&mut self, _: NameId, _: Unkept) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(size: u64, pieces: &[(u64, &[u8])]) -> Content {
        let mut sink = Hashing::default();
        let attributes = Attributes::of_unnamed_directory();
        sink.begin(&Names::new(), NameId::ROOT, &attributes, size, Place::Named).unwrap();
        for (offset, bytes) in pieces {
            sink.data(*offset, bytes).unwrap();
        }
        sink.end(&attributes).unwrap();
        sink.into_contents().remove(0)
    }

    #[test]
    fn a_hole_too_large_to_be_hashed_leaves_no_digest() {
        let sparse = content(1 << 42, &[(100_000, b"abc")]);
        assert_eq!((sparse.digest(), sparse.stored), (None, 3));
        assert!(content(1 << 20, &[(100_000, b"abc")]).digest().is_some());
    }
}
