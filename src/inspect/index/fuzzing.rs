//! See [`crate::fuzzing`].

use super::file::checked_body;

/// The file of an index, with a right checksum: what is read points at nothing that is not there.
pub fn index_of_layer(input: &[u8]) {
    checked_body(input);
}
