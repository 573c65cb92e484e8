//! Pushes to a repository: blobs, each only if the registry does not have it, and then the manifests that reference
//! them.
//!
//! A blob goes in one piece. A registry, or what stands before it, that does not take it so gets it in chunks, and in
//! smaller ones.

use std::io::Read;

use ureq::http::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION};
use ureq::http::{Method, Response};
use ureq::{Body, ResponseExt};

use super::RegistryError;
use super::address::{authority, parameters, with_parameters};
use super::location::resolve;
use super::repository::Repository;
use super::session::{Content, Replay, Request, header};
use crate::blob::{Blob, BlobReader};
use crate::core::digest::Digest;
use crate::core::reference::ImageName;

const BYTES: &str = "application/octet-stream";
/// The smallest chunk that a registry wants (distribution specification, "Pushing a blob in chunks").
const CHUNK_MIN: HeaderName = HeaderName::from_static("oci-chunk-min-length");
const CHUNK: u64 = 16 << 20;
/// The smallest chunk: a server that refuses it accepts nothing.
const LEAST_CHUNK: u64 = 256 << 10;
/// Chunks that are too large become so many times smaller.
const SMALLER: u64 = 4;
/// Registries that store something say so with one of these, whichever the specification has for it.
const STORED: &[u16] = &[200, 201, 202, 204];
/// A chunk is held in memory.
const MOST_CHUNK: u64 = 1 << 30;

/// An upload that the registry has agreed to.
struct Upload {
    address: String,
    /// The smallest chunk it wants, if it wants any.
    chunk: Option<u64>,
}

/// How a blob is sent.
struct Manner {
    in_chunks: bool,
    /// The most bytes of a chunk.
    chunk: u64,
    /// What was said to the other way of sending it.
    refused: Option<RegistryError>,
}

impl Manner {
    /// Another one, after an error that might be due to this one; the error if there is none.
    fn change(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        let status: u16 = match &error {
            RegistryError::Refused { status, passing: false, .. } => {
                status.split(' ').next().and_then(|code| code.parse().ok()).unwrap_or(0)
            }
            // The upload is not known, as it seems.
            RegistryError::NotFound { .. } => 404,
            // It was allowed to begin: what stands before the registry may not let so much through.
            RegistryError::Denied { .. } => 403,
            _ => return Err(error),
        };
        match status {
            413 if self.in_chunks && self.chunk > LEAST_CHUNK => self.chunk = (self.chunk / SMALLER).max(LEAST_CHUNK),
            400..=499 | 501 if self.refused.is_none() => {
                self.in_chunks = !self.in_chunks;
                self.refused = Some(error);
            }
            _ => return Err(self.refused.take().unwrap_or(error)),
        }
        Ok(())
    }
}

impl Repository {
    /// Whether a blob is known to be there.
    ///
    /// # Errors
    /// The registry cannot be asked.
    pub fn blob_exists(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let what = self.describe(&digest.to_string());
        match self.session.attempts().run(|| self.ask_for_blob(digest, &what)) {
            Ok(()) => Ok(true),
            // Credentials that may not read may still push.
            Err(RegistryError::NotFound { .. } | RegistryError::Refused { .. } | RegistryError::Denied { .. }) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn ask_for_blob(&self, digest: &Digest, what: &str) -> Result<(), RegistryError> {
        let request = Request::new(Method::HEAD, self.blob_address(digest), what.to_owned());
        self.session.expect(&self.push(), request, &[200, 204]).map(|_| ())
    }

    /// Takes a blob over from another repository of the same registry, if it is one and the registry does that.
    ///
    /// # Errors
    /// The registry cannot be asked.
    pub fn mount_blob(&self, digest: &Digest, from: &ImageName) -> Result<bool, RegistryError> {
        if authority(from.registry()) != authority(self.session.registry()) || from.repository() == self.name {
            return Ok(false);
        }
        let what = self.describe(&digest.to_string());
        let (digest_text, from_text) = (digest.to_string(), from.repository());
        let address =
            with_parameters(&self.uploads(), &parameters([("mount", digest_text.as_str()), ("from", from_text)]));
        let mut scopes = self.push();
        scopes.push(format!("repository:{}:pull", from.repository()));
        let mounted = self.session.attempts().run(|| {
            let request = Request::new(Method::POST, address.clone(), what.clone());
            match self.session.expect(&scopes, request, STORED) {
                // It would rather have the bytes, and has begun to wait for them.
                Ok(response) if response.status() == 202 => {
                    if let Ok(upload) = self.upload(&response, &what, None) {
                        let request = Request::new(Method::DELETE, upload.address, what.clone());
                        // It forgets by itself, too.
                        let _ = self.session.ask(&self.push(), request);
                    }
                    Ok(false)
                }
                // Some say so of what they do not have.
                Ok(response) => match self.ask_for_blob(digest, &what) {
                    Ok(()) => Ok(true),
                    Err(RegistryError::NotFound { .. }) => Ok(false),
                    Err(_) => Ok(response.status() == 201),
                },
                Err(error) => Err(error),
            }
        });
        match mounted {
            // Not theirs to read, nothing that this registry does, or an error in it: it can still be sent.
            Err(
                RegistryError::Denied { .. }
                | RegistryError::NotFound { .. }
                | RegistryError::Refused { .. }
                | RegistryError::Protocol { .. },
            ) => Ok(false),
            mounted => mounted,
        }
    }

    /// Sends a blob of `size` bytes, and tells `sent` how many have gone so far. The registry checks its digest.
    ///
    /// # Errors
    /// The blob cannot be read, or the registry does not take it.
    pub fn push_blob(&self, blob: &Blob, digest: &Digest, size: u64, sent: &dyn Fn(u64)) -> Result<(), RegistryError> {
        let what = self.describe(&digest.to_string());
        let mut manner = Manner { in_chunks: false, chunk: CHUNK, refused: None };
        let mut attempts = self.session.attempts();
        let mut again = false;
        loop {
            // The response may have been lost after the registry stored the blob.
            if again && self.ask_for_blob(digest, &what).is_ok() {
                sent(size);
                return Ok(());
            }
            let begin = Request::new(Method::POST, self.uploads(), what.clone());
            let upload = self.session.expect(&self.push(), begin, STORED);
            let upload = match upload.and_then(|response| self.upload(&response, &what, None)) {
                Ok(upload) => upload,
                Err(error) => {
                    attempts.again(error)?;
                    continue;
                }
            };
            again = true;
            manner.in_chunks |= upload.chunk.is_some() && manner.refused.is_none();
            let mut input = Input { blob, reader: None, count: 0, sent, error: None };
            let result = if manner.in_chunks {
                self.send_chunks(&upload, &mut input, digest, manner.chunk, &what)
            } else {
                self.send_whole(&upload, &mut input, digest, size, &what)
            };
            let Input { reader, count, error, .. } = input;
            // What cannot be read, or is not what it should be, is not a fault of the registry's.
            let verified = match (error, reader) {
                (Some(error), _) => Err(error),
                (None, Some(reader)) if count == size => reader.verified(),
                (None, _) => Ok(()),
            };
            verified.map_err(|error| RegistryError::Input { what: what.clone(), error })?;
            let Err(error) = result else { return Ok(()) };
            if error.is_passing().is_some() {
                // Who hangs up in the middle of a large piece may take small ones.
                manner.in_chunks |= manner.refused.is_none() && matches!(error, RegistryError::Broken { .. });
                attempts.again(error)?;
            } else {
                manner.change(error)?;
            }
        }
    }

    /// Puts a manifest or index under a tag or under its digest, by whatever algorithm; all that it names must be
    /// there.
    ///
    /// # Errors
    /// The registry does not take it.
    pub fn push_manifest(&self, bytes: &[u8], media_type: &str, wanted: &str) -> Result<(), RegistryError> {
        let what = self.describe(wanted);
        self.session.attempts().run(|| {
            let address = format!("/v2/{}/manifests/{wanted}", self.name);
            let mut request = Request::new(Method::PUT, address, what.clone());
            request.headers.push((CONTENT_TYPE, media_type.to_owned()));
            request.body = Content::Bytes(bytes);
            self.session.expect(&self.push(), request, STORED).map(|_| ())
        })
    }

    fn uploads(&self) -> String {
        format!("/v2/{}/blobs/uploads/", self.name)
    }

    /// Where an upload goes on, by the answer to the last part of it; where that was sent to, if it does not say.
    fn upload(&self, response: &Response<Body>, what: &str, last: Option<&str>) -> Result<Upload, RegistryError> {
        let address = match (response.headers().get(LOCATION), last) {
            (Some(location), _) => {
                let location = location.as_bytes();
                resolve(&response.get_uri().to_string(), location).ok_or_else(|| {
                    let location = String::from_utf8_lossy(location);
                    self.session.protocol(what, format!("an upload to {location:?}, which is not an address"))
                })?
            }
            (None, Some(last)) => last.to_owned(),
            (None, None) => return Err(self.session.protocol(what, "an upload without a Location")),
        };
        let chunk = header(response.headers(), &CHUNK_MIN).and_then(|length| length.parse().ok());
        Ok(Upload { address, chunk })
    }

    fn send_whole(
        &self,
        upload: &Upload,
        input: &mut Input<'_>,
        digest: &Digest,
        size: u64,
        what: &str,
    ) -> Result<(), RegistryError> {
        let address = of_digest(&upload.address, digest);
        let mut request = Request::new(Method::PUT, address, what.to_owned());
        request.headers.push((CONTENT_TYPE, BYTES.to_owned()));
        request.body = Content::Stream(input, size);
        self.session.expect(&self.push(), request, STORED).map(|_| ())
    }

    fn send_chunks(
        &self,
        upload: &Upload,
        input: &mut Input<'_>,
        digest: &Digest,
        most: u64,
        what: &str,
    ) -> Result<(), RegistryError> {
        let most = most.max(upload.chunk.unwrap_or(0)).min(MOST_CHUNK);
        let mut address = upload.address.clone();
        let mut start = 0;
        let mut chunk = Vec::new();
        loop {
            chunk.clear();
            let read = input.by_ref().take(most).read_to_end(&mut chunk);
            if read.is_err() || chunk.is_empty() {
                break;
            }
            let mut request = Request::new(Method::PATCH, address.clone(), what.to_owned());
            request.headers.push((CONTENT_TYPE, BYTES.to_owned()));
            request.headers.push((CONTENT_RANGE, format!("{start}-{}", start + chunk.len() as u64 - 1)));
            request.body = Content::Bytes(&chunk);
            let response = self.session.expect(&self.push(), request, STORED)?;
            address = self.upload(&response, what, Some(&address))?.address;
            start += chunk.len() as u64;
        }
        if input.error.is_some() {
            return Ok(());
        }
        let address = of_digest(&address, digest);
        let request = Request::new(Method::PUT, address, what.to_owned());
        self.session.expect(&self.push(), request, STORED).map(|_| ())
    }
}

/// The address that ends an upload.
fn of_digest(address: &str, digest: &Digest) -> String {
    with_parameters(address, &parameters([("digest", digest.to_string().as_str())]))
}

/// What is sent: counts, and keeps the error that reading it gave, which would come back as one of the connection's.
struct Input<'a> {
    blob: &'a Blob,
    /// Once something was read.
    reader: Option<BlobReader>,
    count: u64,
    sent: &'a dyn Fn(u64),
    error: Option<std::io::Error>,
}

impl Replay for Input<'_> {
    fn rewind(&mut self) {
        (self.reader, self.count) = (None, 0);
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.reader.get_or_insert_with(|| self.blob.reader()).read(buffer) {
            Ok(count) => {
                self.count += count as u64;
                (self.sent)(self.count);
                Ok(count)
            }
            Err(error) => {
                let kind = error.kind();
                if kind != std::io::ErrorKind::Interrupted {
                    self.error = Some(error);
                }
                Err(kind.into())
            }
        }
    }
}
