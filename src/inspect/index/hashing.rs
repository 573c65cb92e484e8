//! A sink for layers that keeps only the digest of each file.

use std::convert::Infallible;
use std::sync::LazyLock;

use super::Content;
use super::identity::{Allowance, ContentHasher};
use crate::core::layer::{Failure, Place, Sink, Unkept};
use crate::core::record::{Attributes, ContentId, NameId, Names};
use regex::bytes::Regex;

/// Bytes at the beginning of a file in which a key is looked for: after certificates, if need be.
const HEAD: usize = 64 << 10;

/// The first line of a private key (RFC 7468, RFC 4880) with a line of its own, and something of a key behind it.
/// Programs that read keys hold the line, too, but not the key.
static PRIVATE_KEY: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let text = r"(?m)^-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----\s*?\r?\n(?:[A-Za-z-]+: .*\r?\n|\r?\n)*[A-Za-z0-9+/=]{16}";
    Regex::new(text).ok()
});

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
    head: Vec<u8>,
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
        self.head.clear();
        Ok(ContentId(self.contents.len() as u32))
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure<Infallible>> {
        self.hasher.data(offset, bytes, &mut self.allowance);
        self.stored += bytes.len() as u64;
        let room = HEAD - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(())
    }

    fn end(&mut self, _: &Attributes) -> Result<(), Failure<Infallible>> {
        let private_key = PRIVATE_KEY.as_ref().is_some_and(|pattern| pattern.is_match(&self.head));
        let identity = std::mem::take(&mut self.hasher).finish(self.size, &mut self.allowance);
        let allowance = (!identity.is_whole).then_some(self.before.0);
        self.contents.push(Content { hash: identity.hash, allowance, stored: self.stored, private_key });
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

    #[test]
    fn a_key_is_told_from_a_program_that_reads_keys() {
        let is_key = |text: &[u8]| content(text.len() as u64, &[(0, text)]).private_key;
        assert!(is_key(b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n"));
        assert!(is_key(b"a certificate\n-----BEGIN PRIVATE KEY-----\r\nMIIEvQIBADANBgkqhkiG9w0B\r\n"));
        assert!(is_key(
            b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: A,1\n\nMIIEvQIBADANBgkqhkiG\n"
        ));
        assert!(is_key(b"-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\nlQOYBF8AAAABCADFAAAA\n"));
        assert!(!is_key(b"-----BEGIN PRIVATE KEY-----\0-----END PRIVATE KEY-----\0"));
        assert!(!is_key(b"if line == '-----BEGIN PRIVATE KEY-----':\n    abcdefghijklmnopqrstuvwxyz\n"));
        assert!(!is_key(b"-----BEGIN PUBLIC KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n"));
        assert!(!is_key(b"-----BEGIN CERTIFICATE-----\nMIIEvQIBADANBgkqhkiG9w0B\n"));
    }
}
