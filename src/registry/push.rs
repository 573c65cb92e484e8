//! What is put into a repository: blobs, asked for before they are sent, and the manifests that name them.
//!
//! A blob goes in one piece. A registry, or what stands before it, that does not take it so gets it in chunks.

use std::io::Read;

use ureq::Body;
use ureq::http::Method;
use ureq::http::Response;
use ureq::http::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION};

use super::RegistryError;
use super::address::{authority, parameters, resolve, with_parameters};
use super::repository::Repository;
use super::session::{Content, Request, header};
use crate::blob::{Blob, BlobReader, Digest};
use crate::image::ImageName;

const BYTES: &str = "application/octet-stream";
/// The smallest chunk that a registry wants (distribution specification, "Pushing a blob in chunks").
const CHUNK_MIN: HeaderName = HeaderName::from_static("oci-chunk-min-length");
const CHUNK: u64 = 16 << 20;
/// A chunk is held in memory.
const MOST_CHUNK: u64 = 1 << 30;

/// An upload that the registry has agreed to.
struct Upload {
    address: String,
    /// The smallest chunk it wants, if it wants any.
    chunk: Option<u64>,
}

impl Repository {
    /// Whether a blob is there.
    ///
    /// # Errors
    /// The registry does not tell.
    pub fn blob_exists(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let what = self.describe(&digest.to_string());
        self.session.attempts().run(|| {
            let request = Request::new(Method::HEAD, self.blob_address(digest), what.clone());
            match self.session.expect(&self.push(), request, &[200]) {
                Ok(_) => Ok(true),
                Err(RegistryError::NotFound { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
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
        self.session.attempts().run(|| {
            let request = Request::new(Method::POST, address.clone(), what.clone());
            match self.session.expect(&scopes, request, &[201, 202]) {
                Ok(response) if response.status() == 201 => Ok(true),
                // It would rather have the bytes, and has begun to wait for them.
                Ok(response) => {
                    if let Ok(upload) = self.upload(&response, &what) {
                        let request = Request::new(Method::DELETE, upload.address, what.clone());
                        // It forgets by itself, too.
                        let _ = self.session.ask(&self.push(), request);
                    }
                    Ok(false)
                }
                // Not theirs to read, or nothing that this registry does: it can still be sent.
                Err(
                    RegistryError::Denied { .. }
                    | RegistryError::NotFound { .. }
                    | RegistryError::Refused { passing: false, .. },
                ) => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    /// Sends a blob of `size` bytes, and tells `sent` how many have gone so far. The registry checks its digest.
    ///
    /// # Errors
    /// The blob cannot be read, or the registry does not take it.
    pub fn push_blob(&self, blob: &Blob, digest: &Digest, size: u64, sent: &dyn Fn(u64)) -> Result<(), RegistryError> {
        let what = self.describe(&digest.to_string());
        let mut in_chunks = false;
        self.session.attempts().run(|| {
            let begin = Request::new(Method::POST, self.uploads(), what.clone());
            let response = self.session.expect(&self.push(), begin, &[202])?;
            let upload = self.upload(&response, &what)?;
            in_chunks |= upload.chunk.is_some();
            let mut input = Input { reader: blob.reader(), count: 0, sent, error: None };
            let result = if in_chunks {
                self.send_chunks(&upload, &mut input, digest, &what)
            } else {
                match self.send_whole(&upload, &mut input, digest, size, &what) {
                    Err(RegistryError::Refused { status, .. }) if status.starts_with("413") => {
                        Err(self.session.broken(&what, "it takes no blob so large in one piece".to_owned()))
                    }
                    result => result,
                }
            };
            // Who hangs up in the middle of a large piece may take small ones.
            in_chunks |= result.is_err();
            match input.error {
                Some(error) => Err(RegistryError::Input { what: what.clone(), error }),
                None => {
                    result?;
                    input.reader.verified().map_err(|error| RegistryError::Input { what: what.clone(), error })
                }
            }
        })
    }

    /// Puts a manifest or index under a tag or under its digest, by whatever algorithm; all that it names must be there.
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
            self.session.expect(&self.push(), request, &[201, 202]).map(|_| ())
        })
    }

    fn uploads(&self) -> String {
        format!("/v2/{}/blobs/uploads/", self.name)
    }

    /// Where an upload goes on, by the answer to the last part of it.
    fn upload(&self, response: &Response<Body>, what: &str) -> Result<Upload, RegistryError> {
        let location = header(response.headers(), &LOCATION)
            .ok_or_else(|| self.session.nonsense(what, "an upload without a Location"))?;
        // Relative to what was asked, which begins with the registry's own address.
        let address = match location.strip_prefix('/') {
            Some(_) if !location.starts_with("//") => location.to_owned(),
            _ => resolve(&format!("https://{}{}", authority(self.session.registry()), self.uploads()), location)
                .ok_or_else(|| self.session.nonsense(what, format!("an upload to {location:?}")))?,
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
        self.session.expect(&self.push(), request, &[201]).map(|_| ())
    }

    fn send_chunks(
        &self,
        upload: &Upload,
        input: &mut Input<'_>,
        digest: &Digest,
        what: &str,
    ) -> Result<(), RegistryError> {
        let most = CHUNK.max(upload.chunk.unwrap_or(0)).min(MOST_CHUNK);
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
            let response = self.session.expect(&self.push(), request, &[202])?;
            address = self.upload(&response, what)?.address;
            start += chunk.len() as u64;
        }
        if input.error.is_some() {
            return Ok(());
        }
        let address = of_digest(&address, digest);
        let request = Request::new(Method::PUT, address, what.to_owned());
        self.session.expect(&self.push(), request, &[201]).map(|_| ())
    }
}

/// The address that ends an upload.
fn of_digest(address: &str, digest: &Digest) -> String {
    with_parameters(address, &parameters([("digest", digest.to_string().as_str())]))
}

/// What is sent: counts, and keeps the error that reading it gave, which would come back as one of the connection's.
struct Input<'a> {
    reader: BlobReader,
    count: u64,
    sent: &'a dyn Fn(u64),
    error: Option<std::io::Error>,
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.reader.read(buffer) {
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
