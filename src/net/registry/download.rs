//! Downloads a blob. After a broken connection the download resumes where it stopped (Range, RFC 9110, 14.2), also if
//! the registry starts again from the beginning.

use std::io::{Cursor, Read, Result};

use ureq::Body;
use ureq::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use ureq::http::{Method, Response};

use super::repository::Repository;
use super::retry::Attempts;
use super::session::{Request, header};
use super::{RegistryError, encoding};
use crate::blob::Arriving;
use crate::core::digest::Digest;

/// So many bytes count as progress: a connection that breaks after them is tried as often as if it were the first.
const PROGRESS: u64 = 64 << 10;

/// The most bytes of a blob that is held in memory to see whether it is encoded.
const MOST_HELD: u64 = 8 << 20;

/// An answer with bytes of a blob.
struct Begun {
    body: Box<dyn Read + Send + Sync>,
    /// Bytes that come once more and were handed out before.
    again: u64,
    /// The body was compressed for the transfer, so the download cannot resume in the middle.
    encoded: bool,
}

/// A blob on its way.
pub(super) struct Download {
    repository: Repository,
    digest: Digest,
    size: u64,
    begun: Begun,
    /// Bytes handed out.
    at: u64,
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
        let begun = loop {
            match request(repository, digest, size, from, offset) {
                Ok(begun) => break begun,
                // Some refuse to begin in the middle.
                Err(RegistryError::Refused { passing: false, .. } | RegistryError::Protocol { .. }) if from > 0 => {
                    from = 0;
                }
                Err(error) => attempts.again(error)?,
            }
        };
        let (repository, digest) = (repository.clone(), digest.clone());
        Ok(Self { repository, digest, size, begun, at: offset, broke_at: offset, attempts })
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
            let from = if self.begun.encoded { 0 } else { self.at };
            match request(&self.repository, &self.digest, self.size, from, self.at) {
                Ok(begun) => {
                    self.begun = begun;
                    return Ok(());
                }
                Err(another) => error = another,
            }
        }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> std::result::Result<usize, RegistryError> {
        let session = &self.repository.session;
        match self.begun.body.read(buffer) {
            Ok(0) => {
                Err(session.broken(self.what(), format!("it ended after {} of {} bytes", self.at, self.size).into()))
            }
            Ok(count) => Ok(count),
            Err(error) => Err(session.failure(error.into(), self.what())),
        }
    }
}

/// Asks for the bytes from `from` on, of which those from `offset` on are wanted.
fn request(
    repository: &Repository,
    digest: &Digest,
    size: u64,
    from: u64,
    offset: u64,
) -> std::result::Result<Begun, RegistryError> {
    let session = &repository.session;
    let what = repository.name.clone();
    let mut request = Request::new(Method::GET, repository.blob_address(digest), what.clone());
    if from > 0 {
        request.headers.push((RANGE, format!("bytes={from}-")));
    }
    let response = session.expect(&repository.pull(), request, &[200, 206])?;
    let again = match (response.status().as_u16(), header(response.headers(), &CONTENT_RANGE)) {
        (206, Some(range)) => match start_of(range) {
            Some(start) if start <= offset => offset - start,
            _ => return Err(session.protocol(&what, format!("{range:?} in answer to a request for byte {offset}"))),
        },
        (206, None) => 0,
        // The range was ignored.
        _ => offset,
    };
    let encoded = response.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity");
    // Said now, it is plainer than what a decoder would make of it.
    let length = header(response.headers(), &CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    let expected = size - offset + again;
    if encoded && length != Some(expected) {
        return decoded(response, size, offset).map_err(|error| session.failure(error.into(), &what));
    }
    if let Some(length) = length.filter(|length| *length != expected) {
        let whole = length.saturating_add(offset).saturating_sub(again);
        return Err(session.protocol(&what, format!("a blob of {whole} bytes, but the image states {size}")));
    }
    Ok(Begun { body: Box::new(response.into_body().into_reader()), again, encoded: false })
}

/// A whole body that is said to be encoded, and does not have the length that it should have as it is.
fn decoded(response: Response<Body>, size: u64, offset: u64) -> Result<Begun> {
    let has_length = response.headers().contains_key(CONTENT_LENGTH);
    let mut body = response.into_body().into_reader();
    if has_length {
        return Ok(Begun { body: encoding::decoded(body)?, again: offset, encoded: true });
    }
    if size > MOST_HELD {
        // Most often it is the blob as it is, which happens to be compressed.
        return Ok(Begun { body: Box::new(body), again: offset, encoded: true });
    }
    let mut held = Vec::new();
    body.by_ref().take(MOST_HELD * 2).read_to_end(&mut held)?;
    let as_it_is = held.len() as u64 == size;
    let held = Cursor::new(held);
    let body = if as_it_is { Box::new(held) } else { encoding::decoded(held)? };
    Ok(Begun { body, again: offset, encoded: true })
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.at == self.size || buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
            let most = if self.begun.again > 0 {
                buffer.len().min(usize::try_from(self.begun.again).unwrap_or(usize::MAX))
            } else {
                buffer.len().min(left)
            };
            match self.read_some(&mut buffer[..most]) {
                Ok(count) if self.begun.again > 0 => self.begun.again -= count as u64,
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

/// Where the bytes begin that a `Content-Range` is about: `bytes 10-99/100`.
pub(super) fn start_of(range: &str) -> Option<u64> {
    range.trim_start_matches("bytes").trim_start().split('-').next()?.parse().ok()
}
