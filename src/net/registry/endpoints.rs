//! Selects where images are pulled from and pushed to, by `registries.conf`: mirrors come first, then the registry
//! itself. Blocked registries are never contacted.

use std::sync::Arc;

use super::{FetchedManifest, RegistryError, RegistryOptions, Repository};
use crate::blob::{Arriving, Remote};
use crate::configuration::{Endpoint, load_registries};
use crate::core::cancel::Cancel;
use crate::core::chain::Chain;
use crate::core::digest::Digest;
use crate::core::reference::ImageName;
use crate::image::Descriptor;
use crate::notes::Notes;

/// The places that have the images of a repository. Clones share what they have learnt.
#[derive(Debug, Clone)]
pub(crate) struct Endpoints {
    places: Arc<[Place]>,
    /// The repository as it was named.
    name: String,
    notes: Notes,
}

#[derive(Debug)]
struct Place {
    repository: Repository,
    endpoint: Endpoint,
}

impl Repository {
    /// The repository that images are pushed to: no mirror, and no other location than the name says.
    ///
    /// # Errors
    /// The configuration of registries cannot be read, or blocks it.
    pub(crate) fn to_push(name: &ImageName, options: &RegistryOptions, cancel: &Cancel) -> Result<Self, RegistryError> {
        let endpoint = load_registries(&options.configuration)?.push(name);
        check(name, &endpoint)?;
        Ok(Self::new(name, &at(name, &endpoint, options), cancel))
    }
}

impl Endpoints {
    /// Where a repository's images are pulled from. Nothing is asked yet.
    ///
    /// # Errors
    /// The configuration of registries cannot be read.
    pub(crate) fn new(name: &ImageName, options: &RegistryOptions, cancel: &Cancel) -> Result<Self, RegistryError> {
        let registries = load_registries(&options.configuration)?;
        registries.notes().iter().for_each(|note| options.notes.tell(note));
        let endpoints = registries.pull(name)?;
        let place = |endpoint: Endpoint| {
            let repository = Repository::new(&endpoint.name, &at(name, &endpoint, options), cancel);
            Place { repository, endpoint }
        };
        let places = endpoints.into_iter().map(place).collect();
        Ok(Self { places, name: whole(name), notes: options.notes.clone() })
    }

    /// The manifest of a tag or digest, and the number of the place that it is from, to be asked first for what belongs
    /// to it.
    ///
    /// # Errors
    /// No place gives it. What the place itself says counts, and not what its mirrors say.
    pub(crate) fn manifest(
        &self,
        wanted: &str,
        limit: u64,
        first: Option<usize>,
    ) -> Result<(usize, FetchedManifest), RegistryError> {
        self.try_each(wanted.contains(':'), first, |place| place.repository.manifest(wanted, limit))
    }

    /// All tags. Mirrors may lack some, and are asked only where the place itself cannot be.
    ///
    /// # Errors
    /// The registry does not tell.
    pub(crate) fn tags(&self) -> Result<Vec<String>, RegistryError> {
        self.complete(|place| place.repository.tags())
    }

    /// Asks the place itself, which knows everything; its mirrors only if it is blocked.
    fn complete<T>(&self, ask: impl Fn(&Place) -> Result<T, RegistryError>) -> Result<T, RegistryError> {
        let last = &self.places[self.places.len() - 1];
        if last.endpoint.blocked.is_none() {
            return ask(last);
        }
        self.try_each(false, None, ask).map(|(_, all)| all)
    }

    /// What refers to an image. Mirrors may lack some, and are asked only where the place itself cannot be.
    ///
    /// # Errors
    /// The registry does not tell.
    pub(crate) fn referrers(&self, subject: &Digest, limit: u64) -> Result<Vec<Descriptor>, RegistryError> {
        self.complete(|place| place.repository.referrers(subject, limit))
    }

    /// A blob, from the first place that has it.
    ///
    /// # Errors
    /// No place tells its size.
    pub(crate) fn blob(
        &self,
        digest: &Digest,
        size: Option<u64>,
        first: Option<usize>,
    ) -> Result<impl Remote + use<>, RegistryError> {
        let size = match size {
            Some(size) => size,
            None => self.try_each(true, first, |place| Ok(place.repository.blob(digest, None)?.len()))?.1,
        };
        Ok(AnyBlob { endpoints: self.clone(), digest: digest.clone(), size, first })
    }

    /// Asks the places in their order, `first` before all others.
    fn try_each<T>(
        &self,
        by_digest: bool,
        first: Option<usize>,
        ask: impl Fn(&Place) -> Result<T, RegistryError>,
    ) -> Result<(usize, T), RegistryError> {
        let last = self.places.len() - 1;
        let suits = |&index: &usize| Some(index) != first && self.places[index].endpoint.pulls.suits(by_digest);
        let mut failure = None;
        for index in first.into_iter().chain((0..=last).filter(suits)) {
            let place = &self.places[index];
            match check(&place.endpoint.name, &place.endpoint).and_then(|()| ask(place)) {
                Ok(found) => {
                    self.say_where(place);
                    return Ok((index, found));
                }
                Err(RegistryError::Cancelled) => return Err(RegistryError::Cancelled),
                Err(error) if index == last => failure = Some(error),
                Err(error) => {
                    let mirror = whole(&place.endpoint.name);
                    self.notes.tell(format!("{mirror}, a mirror of {}, is skipped: {}", self.name, Chain(&error)));
                }
            }
        }
        // The place itself suits whatever is wanted, and so was asked.
        Err(failure.unwrap_or(RegistryError::Cancelled))
    }

    fn say_where(&self, place: &Place) {
        let at = whole(&place.endpoint.name);
        if let Some(file) = place.endpoint.file.as_ref().filter(|_| at != self.name) {
            let what = if place.endpoint.is_mirror { "a mirror" } else { "its location" };
            self.notes.tell(format!("{} is read from {at}, {what} by {file:?}", self.name));
        }
    }
}

/// A blob that several places may have.
#[derive(Debug)]
struct AnyBlob {
    endpoints: Endpoints,
    digest: Digest,
    size: u64,
    first: Option<usize>,
}

impl Remote for AnyBlob {
    fn len(&self) -> u64 {
        self.size
    }

    fn open(&self) -> std::io::Result<Box<dyn Arriving>> {
        self.open_from(0)
    }

    fn open_from(&self, offset: u64) -> std::io::Result<Box<dyn Arriving>> {
        let open = |place: &Place| place.repository.open_blob(&self.digest, self.size, offset);
        Ok(self.endpoints.try_each(true, self.first, open)?.1)
    }
}

/// What was said for the name as it was written is not meant for another host: no password goes there, and no check is
/// left out.
fn at(name: &ImageName, endpoint: &Endpoint, options: &RegistryOptions) -> RegistryOptions {
    let is_same = endpoint.name.registry() == name.registry();
    let insecure = endpoint.insecure || options.insecure && is_same;
    RegistryOptions {
        credentials: options.credentials.clone().filter(|_| is_same),
        skip_tls_verification: options.skip_tls_verification && is_same || insecure,
        plain_http: options.plain_http && is_same,
        insecure,
        ..options.clone()
    }
}

fn check(name: &ImageName, endpoint: &Endpoint) -> Result<(), RegistryError> {
    match &endpoint.blocked {
        None => Ok(()),
        Some((prefix, file)) => {
            let (name, prefix, file) = (whole(name), prefix.clone(), file.clone());
            Err(RegistryError::Blocked { name, prefix, file })
        }
    }
}

fn whole(name: &ImageName) -> String {
    format!("{}/{}", name.registry(), name.repository())
}
