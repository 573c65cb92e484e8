//! Lists and stores referrers: signatures, attestations, SBOMs of a manifest (distribution specification 1.1, "Listing
//! Referrers"). Where a registry does not support the API, an index under a tag made from the digest takes its place;
//! whoever adds a referrer updates it.

use ureq::http::Method;
use ureq::http::header::{CONTENT_TYPE, HeaderName};

use super::RegistryError;
use super::repository::Repository;
use super::session::{Content, Request};
use crate::core::digest::Digest;
use crate::image::document::{self, Object};
use crate::image::{Descriptor, Document, Manifest, MediaType};

/// By this a registry says that it lists a referrer itself.
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// No manifest is referred to by so many.
const MOST_PAGES: usize = 1000;

impl Repository {
    /// What refers to a manifest, from the registry's list or from the index under the tag.
    ///
    /// # Errors
    /// The registry does not tell.
    pub(crate) fn referrers(&self, digest: &Digest, limit: u64) -> Result<Vec<Descriptor>, RegistryError> {
        let what = format!("what refers to {}", self.describe(&digest.to_string()));
        let mut next = Some(format!("/v2/{}/referrers/{digest}", self.name));
        let mut found = Vec::new();
        let mut left = limit;
        for page in 0..MOST_PAGES {
            let Some(address) = next else { return Ok(found) };
            let answer = self.page(&address, Some(MediaType::OCI_INDEX), &what, left);
            let (bytes, following) = match answer {
                // It knows nothing of such lists: not all say so by 404.
                Err(RegistryError::NotFound { .. } | RegistryError::Refused { passing: false, .. }) if page == 0 => {
                    return self.referrers_by_tag(digest, limit);
                }
                answer => answer?,
            };
            // All pages together are as large as one document may be.
            left = left.saturating_sub(bytes.len() as u64);
            match listed(&bytes) {
                Some(listed) => found.extend(listed),
                // A page for people, with status 200.
                None if page == 0 => return self.referrers_by_tag(digest, limit),
                None => return Err(self.session.protocol(&what, "it is not an index")),
            }
            next = following.filter(|following| *following != address);
        }
        Err(self.session.protocol(&what, "pages without end"))
    }

    fn referrers_by_tag(&self, digest: &Digest, limit: u64) -> Result<Vec<Descriptor>, RegistryError> {
        match self.manifest(&digest.as_tag(), limit) {
            Ok(index) => Ok(listed(&index.bytes).unwrap_or_default()),
            Err(RegistryError::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Puts a manifest that refers to `subject`. Where the registry does not say that it lists it, it is added to the
    /// index under the tag.
    ///
    /// # Errors
    /// The registry does not take it.
    pub(crate) fn push_referrer(&self, manifest: &Manifest, subject: &Digest, limit: u64) -> Result<(), RegistryError> {
        let Manifest { digest, media_type, bytes } = manifest;
        let what = self.describe(&digest.to_string());
        let is_listed = self.session.attempts().run(|| {
            let address = format!("/v2/{}/manifests/{digest}", self.name);
            let mut request = Request::new(Method::PUT, address, what.clone());
            request.headers.push((CONTENT_TYPE, media_type.clone()));
            request.body = Content::Bytes(bytes);
            let response = self.session.expect(&self.push(), request, &[200, 201, 202])?;
            Ok(response.headers().contains_key(SUBJECT))
        })?;
        if is_listed {
            return Ok(());
        }
        let tag = subject.as_tag();
        let there = match self.manifest(&tag, limit) {
            Ok(there) => Object::parse(&there.bytes).ok(),
            Err(RegistryError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let mut index = there.unwrap_or_else(Object::index);
        if listed(&index.to_bytes()).is_none() {
            let problem = format!("the tag {tag} is not an index of referrers");
            return Err(self.session.protocol(&what, problem));
        }
        let mut list = index.objects("manifests");
        let text = digest.to_string();
        if list.iter().any(|entry| entry.string("digest").as_ref() == Some(&text)) {
            return Ok(());
        }
        list.push(manifest.described_as_referrer());
        index.set("manifests", &list);
        self.push_manifest(&index.to_bytes(), MediaType::OCI_INDEX, &tag)
    }
}

/// What an index lists; nothing, if it is not one.
fn listed(bytes: &[u8]) -> Option<Vec<Descriptor>> {
    document::read::<Document>(bytes).ok()?.manifests
}
