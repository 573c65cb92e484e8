//! A repository at a registry, and what can be pulled from it.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use ureq::ResponseExt;
use ureq::http::Method;
use ureq::http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, LINK};

use super::download::Download;
use super::location::resolve;
use super::session::{Request, Session, Via, header};
use super::{RegistryError, RegistryOptions, encoding, link};
use crate::blob::{Arriving, Remote};
use crate::core::cancel::Cancel;
use crate::core::digest::Digest;
use crate::core::reference::ImageName;

/// What manifests and indexes are called that are understood, or at least known well enough to be refused by name.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.oci.artifact.manifest.v1+json;q=0.5, application/vnd.cncf.oras.artifact.manifest.v1+json;q=0.5, \
    application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1, application/vnd.docker.distribution.manifest.v1+json;q=0.1";
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Tags that are asked for at once.
const PAGE: usize = 1000;
/// The most bytes of a page of tags.
const MOST_PAGE: u64 = 8 << 20;
/// The names of all are held in memory.
const MOST_TAGS: usize = 1_000_000;
/// The most bytes of all pages of tags.
const MOST_LISTED: u64 = 64 << 20;
/// The most pages of tags: some may be empty.
const MOST_PAGES: usize = 10_000;

/// A repository at a registry. Clones share what they have learnt: tokens, connections.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(super) session: Arc<Session>,
    pub(super) name: String,
}

/// A manifest or an index, as it came.
#[derive(Debug, Clone)]
pub struct FetchedManifest {
    /// Digest of `bytes`, worked out here.
    pub digest: Digest,
    /// The media type that the registry states; empty if it states none.
    pub media_type: String,
    /// The document, to the byte.
    pub bytes: Vec<u8>,
}

/// A blob at a registry; nothing of it is downloaded yet.
#[derive(Debug)]
struct RemoteBlob {
    repository: Repository,
    digest: Digest,
    size: u64,
}

impl Repository {
    /// The repository that a name is in. Nothing is asked yet.
    pub fn new(name: &ImageName, options: &RegistryOptions, cancel: &Cancel) -> Self {
        Self::via(name, options, None, cancel)
    }

    /// The same, at a mirror.
    pub(super) fn via(name: &ImageName, options: &RegistryOptions, via: Option<Via>, cancel: &Cancel) -> Self {
        let session = Arc::new(Session::new(name, options, via, cancel));
        Self { session, name: name.repository().to_owned() }
    }

    /// The manifest or index of a tag or digest, of at most `limit` bytes.
    ///
    /// # Errors
    /// The registry does not give it, or gives another one than the digest is of.
    pub fn manifest(&self, wanted: &str, limit: u64) -> Result<FetchedManifest, RegistryError> {
        let what = self.describe(wanted);
        let address = format!("/v2/{}/manifests/{wanted}", self.name);
        let (bytes, media_type, stated) = self.session.attempts().run(|| {
            let mut request = Request::new(Method::GET, address.clone(), what.clone());
            request.headers.push((ACCEPT, MANIFESTS.to_owned()));
            let mut response = self.session.expect(&self.pull(), request, &[200])?;
            let text = |name| header(response.headers(), name).map(str::to_owned);
            let (media_type, stated) = (text(&CONTENT_TYPE).unwrap_or_default(), text(&CONTENT_DIGEST));
            match self.session.document(response.body_mut(), limit, &what)? {
                Some(bytes) => Ok((encoding::document(bytes, limit), media_type, stated)),
                None => {
                    let registry = self.session.registry().to_owned();
                    Err(RegistryError::TooLarge { what: what.clone(), registry, limit })
                }
            }
        })?;
        let digest = Digest::sha256_of(&bytes);
        let differs = |expected: &Digest| *expected != Digest::of(expected.algorithm(), &bytes);
        if let Ok(expected) = wanted.parse::<Digest>() {
            if differs(&expected) {
                let digest = Digest::of(expected.algorithm(), &bytes);
                let problem = format!("a manifest with the digest {digest} instead of {expected}: it was altered");
                return Err(self.session.protocol(&what, problem));
            }
        } else if let Some(stated) =
            stated.filter(|stated| stated.parse().map_or(!stated.is_empty(), |stated| differs(&stated)))
        {
            let problem = format!("states the digest {stated}, but the content has {digest}; the content counts");
            self.session.note(&what, &problem);
        }
        Ok(FetchedManifest { digest, media_type, bytes })
    }

    /// A page of a list, and the path of the next one.
    pub(super) fn page(
        &self,
        address: &str,
        accept: Option<&str>,
        what: &str,
        limit: u64,
    ) -> Result<(Vec<u8>, Option<String>), RegistryError> {
        self.session.attempts().run(|| {
            let mut request = Request::new(Method::GET, address.to_owned(), what.to_owned());
            request.headers.extend(accept.map(|accept| (ACCEPT, accept.to_owned())));
            let mut response = self.session.expect(&self.pull(), request, &[200])?;
            let links = response.headers().get_all(LINK).iter().map(|link| link.as_bytes());
            let next = link::next(links).and_then(|target| resolve(&response.get_uri().to_string(), &target));
            // A page is on the same server, whatever it calls itself.
            let next = next.and_then(|next| next.splitn(4, '/').nth(3).map(|path| format!("/{path}")));
            match self.session.document(response.body_mut(), limit, what)? {
                Some(bytes) => Ok((encoding::document(bytes, limit), next)),
                None => Err(self.session.protocol(what, format!("a page of more than {limit} bytes"))),
            }
        })
    }

    /// All tags, in the order of their bytes: one at least.
    ///
    /// # Errors
    /// The registry does not tell, or there are none.
    pub fn tags(&self) -> Result<Vec<String>, RegistryError> {
        #[derive(serde::Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let what = format!("the tags of {}", self.name);
        let mut address = format!("/v2/{}/tags/list?n={PAGE}", self.name);
        let (mut pages, mut tags) = (HashSet::new(), BTreeSet::new());
        let mut listed = 0;
        while tags.len() <= MOST_TAGS {
            let (bytes, next) = self.page(&address, None, &what, MOST_PAGE)?;
            listed += bytes.len() as u64;
            if listed > MOST_LISTED || pages.len() >= MOST_PAGES {
                let problem = format!("a list of more than {} MiB or {MOST_PAGES} pages", MOST_LISTED >> 20);
                return Err(self.session.protocol(&what, problem));
            }
            let page: Page = serde_json::from_slice(&bytes)
                .map_err(|error| self.session.protocol(&what, format!("no list of tags: {error}")))?;
            let page = page.tags.unwrap_or_default();
            let (length, before) = (page.len(), tags.len());
            tags.extend(page);
            let Some(next) = next else {
                return Ok(tags.into_iter().collect());
            };
            // Another page with the same tags is the same page, too.
            if (length > 0 && tags.len() == before)
                || !pages.insert(std::mem::replace(&mut address, next))
                || pages.contains(&address)
            {
                return Err(self.session.protocol(&what, format!("pages in a loop, through {address}")));
            }
        }
        Err(self.session.protocol(&what, format!("more than {MOST_TAGS} tags")))
    }

    /// A blob. Only its size is requested, if it is not known. Its digest is not verified here.
    ///
    /// # Errors
    /// The registry does not tell the size.
    pub fn blob(&self, digest: &Digest, size: Option<u64>) -> Result<impl Remote + use<>, RegistryError> {
        let size = match size {
            Some(size) => size,
            None => self.blob_size(digest)?.ok_or_else(|| {
                let what = self.describe(&digest.to_string());
                self.session.protocol(&what, "a blob without its size")
            })?,
        };
        Ok(RemoteBlob { repository: self.clone(), digest: digest.clone(), size })
    }

    /// A blob's bytes, from its start.
    pub(super) fn open_blob(
        &self,
        digest: &Digest,
        size: u64,
        offset: u64,
    ) -> Result<Box<dyn Arriving>, RegistryError> {
        Ok(Box::new(Download::begin(self, digest, size, offset)?))
    }

    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        let what = self.describe(&digest.to_string());
        self.session.attempts().run(|| {
            let request = Request::new(Method::HEAD, self.blob_address(digest), what.clone());
            let response = self.session.expect(&self.pull(), request, &[200])?;
            Ok(header(response.headers(), &CONTENT_LENGTH).and_then(|length| length.parse().ok()))
        })
    }

    pub(super) fn blob_address(&self, digest: &Digest) -> String {
        format!("/v2/{}/blobs/{digest}", self.name)
    }

    /// As a user would name it.
    pub(super) fn describe(&self, wanted: &str) -> String {
        let separator = if wanted.contains(':') { '@' } else { ':' };
        format!("{}{separator}{wanted}", self.name)
    }

    pub(super) fn pull(&self) -> Vec<String> {
        vec![format!("repository:{}:pull", self.name)]
    }

    pub(super) fn push(&self) -> Vec<String> {
        vec![format!("repository:{}:pull,push", self.name)]
    }
}

impl Remote for RemoteBlob {
    fn len(&self) -> u64 {
        self.size
    }

    fn open(&self) -> std::io::Result<Box<dyn Arriving>> {
        self.open_from(0)
    }

    fn open_from(&self, offset: u64) -> std::io::Result<Box<dyn Arriving>> {
        Ok(self.repository.open_blob(&self.digest, self.size, offset)?)
    }
}
