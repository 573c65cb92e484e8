//! See [`crate::fuzzing`].

use super::oci::index::OciIndex;

/// A layout's index that can be read can be written and read again.
pub(crate) fn index(input: &[u8]) {
    if let Ok(index) = OciIndex::parse(input) {
        let again = OciIndex::parse(&index.to_bytes());
        assert!(again.is_ok(), "{again:?}");
    }
}
