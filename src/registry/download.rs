//! A blob on its way. A connection that breaks is made again, and goes on where the last one ended (Range, RFC 9110, 14.2), also where a
//! registry begins anew all the same.

use std::io::{Read, Result};

use ureq::BodyReader;
use ureq::http::Method;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};

use super::RegistryError;
use super::repository::Repository;
use super::retry::Attempts;
use super::session::{Request, header};
use crate::blob::{Arriving, Digest};

/// So many bytes count as progress: a connection that breaks after them is tried as often as if it were the first.
const PROGRESS: u64 = 64 << 10;

/// A blob on its way.
pub(super) struct Download {
    repository: Repository,
    digest: Digest,
    size: u64,
    body: BodyReader<'static>,
    /// Bytes handed out.
    at: u64,
    /// Bytes that come once more and were handed out before.
    again: u64,
    /// Where the last connection broke.
    broke_at: u64,
    attempts: Attempts,
}

impl Download {
    pub(super) fn begin(
        repository: &Repository,
        digest: &Digest,
        size: u64,
        offset: u64,
    ) -> std::result::Result<Self, RegistryError> {
        let mut attempts = repository.session.attempts();
        let mut from = offset;
        let (body, again) = loop {
            match request(repository, digest, size, from) {
                Ok((body, again)) => break (body, again + (offset - from)),
                // Some refuse to begin in the middle.
                Err(RegistryError::Refused { passing: false, .. } | RegistryError::Nonsense { .. }) if from > 0 => {
                    from = 0
                }
                Err(error) => attempts.again(error)?,
            }
        };
        let (repository, digest) = (repository.clone(), digest.clone());
        Ok(Self { repository, digest, size, body, at: offset, again, broke_at: offset, attempts })
    }

    /// Which blob it is, whoever reads it says.
    fn what(&self) -> &str {
        &self.repository.name
    }

    /// Goes on where the connection broke.
    fn resume(&mut self, mut error: RegistryError) -> std::result::Result<(), RegistryError> {
        if self.at >= self.broke_at + PROGRESS {
            self.attempts.start_over();
            self.broke_at = self.at;
        }
        loop {
            self.attempts.again(error)?;
            match request(&self.repository, &self.digest, self.size, self.at) {
                Ok(begun) => {
                    (self.body, self.again) = begun;
                    return Ok(());
                }
                Err(another) => error = another,
            }
        }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> std::result::Result<usize, RegistryError> {
        let session = &self.repository.session;
        match self.body.read(buffer) {
            Ok(0) => Err(session.broken(self.what(), format!("it ended after {} of {} bytes", self.at, self.size))),
            Ok(count) => Ok(count),
            Err(error) => Err(session.failure(error.into(), self.what())),
        }
    }
}

/// Asks for the bytes from `offset` on; with them, how many come that were not asked for.
fn request(
    repository: &Repository,
    digest: &Digest,
    size: u64,
    offset: u64,
) -> std::result::Result<(BodyReader<'static>, u64), RegistryError> {
    let session = &repository.session;
    let what = repository.name.clone();
    let mut request = Request::new(Method::GET, repository.blob_address(digest), what.clone());
    if offset > 0 {
        request.headers.push((RANGE, format!("bytes={offset}-")));
    }
    let response = session.expect(&repository.pull(), request, &[200, 206])?;
    let again = match (response.status().as_u16(), header(response.headers(), &CONTENT_RANGE)) {
        (206, Some(range)) => {
            // `bytes 10-99/100`
            let start = range.trim_start_matches("bytes").trim_start().split('-').next();
            match start.and_then(|start| start.parse::<u64>().ok()) {
                Some(start) if start <= offset => offset - start,
                _ => return Err(session.nonsense(&what, format!("{range:?} where byte {offset} was asked for"))),
            }
        }
        (206, None) => 0,
        // The range was ignored.
        _ => offset,
    };
    // Said now, it is plainer than what a decoder would make of it.
    let length = header(response.headers(), &CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    let expected = size - offset + again;
    if let Some(length) = length.filter(|length| *length != expected) {
        let whole = length.saturating_add(offset).saturating_sub(again);
        return Err(session.nonsense(&what, format!("a blob of {whole} bytes, where the image states {size}")));
    }
    Ok((response.into_body().into_reader(), again))
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.at == self.size || buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
            let most = if self.again > 0 {
                buffer.len().min(usize::try_from(self.again).unwrap_or(usize::MAX))
            } else {
                buffer.len().min(left)
            };
            match self.read_some(&mut buffer[..most]) {
                Ok(count) if self.again > 0 => self.again -= count as u64,
                Ok(count) => {
                    self.at += count as u64;
                    return Ok(count);
                }
                Err(error) => self.resume(error)?,
            }
        }
    }
}

impl Arriving for Download {
    fn verified(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
