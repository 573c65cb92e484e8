//! Small bodies: documents, lists, refusals. They are held in memory, so they have a size; and they are waited for, so they have a
//! time, or a server that sends a byte now and then would be waited for without end.

use std::io::Read;
use std::time::Instant;

use ureq::Body;

use super::{Failure, Http};

/// Bytes read at once.
const CHUNK: usize = 16 << 10;
/// A document may take so many times as long as a transfer may stand still.
const TIMES_PATIENCE: u32 = 10;

impl Http {
    /// All bytes of a body; none, if there are more than `limit`.
    pub(in crate::net::registry) fn document(&self, body: &mut Body, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
        let bytes = self.beginning(body, limit.saturating_add(1))?;
        Ok((bytes.len() as u64 <= limit).then_some(bytes))
    }

    /// The first bytes of a body, as many as that or all there are.
    pub(in crate::net::registry) fn beginning(&self, body: &mut Body, count: u64) -> Result<Vec<u8>, Failure> {
        let within = self.options.patience * TIMES_PATIENCE;
        let begun = Instant::now();
        let mut reader = body.as_reader().take(count);
        let (mut bytes, mut chunk) = (Vec::new(), vec![0; CHUNK]);
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => return Ok(bytes),
                Ok(read) => bytes.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failure(error.into())),
            }
            if self.cancel.is_cancelled() {
                return Err(Failure::Cancelled);
            }
            if begun.elapsed() > within {
                return Err(Failure::TooSlow(within));
            }
        }
    }
}
