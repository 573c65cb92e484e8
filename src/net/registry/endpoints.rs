//! Selects where images are pulled from and pushed to: the mirrors that a caller names and those of containerd's `hosts.toml`; by `registries.conf` the
//! mirrors there, then the registry itself. Blocked registries are never contacted.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::address::authority;
use super::session::Via;
use super::{ClientCertificate, FetchedManifest, RegistryError, RegistryOptions, Repository};
use crate::blob::{Arriving, Remote};
use crate::configuration::{Endpoint, Hosts, Mirror, Pulls, load_hosts, load_registries};
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
    /// Before whatever gave the manifest it is asked for what has a digest, which needs no trust in it.
    is_before_all: bool,
    /// It could not be reached, and is not asked again.
    is_gone: AtomicBool,
}

impl Place {
    fn new(endpoint: Endpoint, repository: Repository, is_before_all: bool) -> Self {
        Self { repository, endpoint, is_before_all, is_gone: AtomicBool::new(false) }
    }
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
        let mut endpoints = registries.pull(name)?;
        let hosts = match &options.hosts_directory {
            Some(directory) => load_hosts(directory, name.registry())?,
            None => Hosts::default(),
        };
        for key in &hosts.idle {
            options.notes.tell(format!(
                "{name}: {key} of its hosts.toml is not supported and is ignored",
                name = name.registry()
            ));
        }
        let mirror = |mirror: &Mirror, is_server: bool| {
            let pulls = match (mirror.by_digest, mirror.by_tag) {
                _ if is_server => Pulls::All,
                (true, true) => Pulls::All,
                (true, false) => Pulls::ByDigest,
                (false, true) => Pulls::ByTag,
                (false, false) => return None,
            };
            let there = name_at(mirror, name)?;
            let blocked = registries.push(&there).blocked;
            let endpoint =
                Endpoint { name: there, insecure: false, is_mirror: true, pulls, blocked, file: mirror.file.clone() };
            let via = Via { mirror: mirror.clone(), registry: name.registry().to_owned() };
            let repository = Repository::via(&endpoint.name, &as_mirror(mirror, options), Some(via), cancel);
            Some(Place::new(endpoint, repository, !is_server))
        };
        let mut places: Vec<Place> =
            options.mirrors.iter().chain(&hosts.mirrors).filter_map(|named| mirror(named, false)).collect();
        // Who has said more in registries.conf means that.
        let is_other =
            |server: &&Mirror| ![name.registry(), authority(name.registry())].contains(&server.authority.as_str());
        let server =
            hosts.server.as_ref().filter(is_other).filter(|_| endpoints.len() == 1 && endpoints[0].file.is_none());
        let server = server.and_then(|server| mirror(server, true));
        if server.is_some() {
            endpoints.clear();
        }
        places.extend(endpoints.into_iter().map(|endpoint| {
            let repository = Repository::new(&endpoint.name, &at(name, &endpoint, options), cancel);
            Place::new(endpoint, repository, false)
        }));
        places.extend(server);
        Ok(Self { places: places.into(), name: whole(name), notes: options.notes.clone() })
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
        let suits = |&index: &usize| self.places[index].endpoint.pulls.suits(by_digest);
        let is_before_all = |index: &usize| by_digest && self.places[*index].is_before_all;
        let rest = (0..=last).filter(|index| suits(index) && !is_before_all(index) && Some(*index) != first);
        let first = first.filter(|index| !(suits(index) && is_before_all(index)));
        let mut failure = None;
        for index in (0..=last).filter(|index| suits(index) && is_before_all(index)).chain(first).chain(rest) {
            let place = &self.places[index];
            if place.is_gone.load(Ordering::Relaxed) && index != last {
                continue;
            }
            match check(&place.endpoint.name, &place.endpoint).and_then(|()| ask(place)) {
                Ok(found) => {
                    self.say_where(place);
                    return Ok((index, found));
                }
                Err(RegistryError::Cancelled) => return Err(RegistryError::Cancelled),
                Err(error) if index == last => failure = Some(error),
                // Peers have what somebody has fetched by them.
                Err(RegistryError::NotFound { .. }) if place.is_before_all => {}
                Err(error) => {
                    if place.is_before_all && matches!(error, RegistryError::Unreachable { .. }) {
                        place.is_gone.store(true, Ordering::Relaxed);
                    }
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
#[derive(Debug, Clone)]
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
        let (from, stream) = self.endpoints.try_each(true, self.first, open)?;
        match self.endpoints.places[from].is_before_all {
            true => Ok(Box::new(FromMirror { blob: self.clone(), from: Some(from), at: offset, stream })),
            false => Ok(stream),
        }
    }
}

/// What comes from a mirror. If that breaks, the rest is from where it is sure to be.
struct FromMirror {
    blob: AnyBlob,
    from: Option<usize>,
    at: u64,
    stream: Box<dyn Arriving>,
}

impl Read for FromMirror {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.stream.read(buffer);
        let Some(from) = self.from.filter(|_| read.is_err()) else {
            let count = read?;
            self.at += count as u64;
            return Ok(count);
        };
        // One that breaks off is not asked again.
        self.from = None;
        let AnyBlob { endpoints, digest, size, .. } = &self.blob;
        endpoints.places[from].is_gone.store(true, Ordering::Relaxed);
        self.stream = self.blob.open_from(self.at)?;
        let mirror = whole(&endpoints.places[from].endpoint.name);
        endpoints.notes.tell(format!(
            "{mirror} broke off after {} of {size} bytes of {digest}; the rest is from elsewhere",
            self.at
        ));
        self.read(buffer)
    }
}

impl Arriving for FromMirror {
    fn verified(self: Box<Self>) -> std::io::Result<()> {
        self.stream.verified()
    }
}

/// The repository of a name at a mirror.
fn name_at(mirror: &Mirror, name: &ImageName) -> Option<ImageName> {
    let authority = &mirror.authority;
    // What looks like no host would be a name at Docker Hub.
    let port = match authority.contains(['.', ':']) || authority == "localhost" {
        true => "",
        false if mirror.is_secure => ":443",
        false => ":80",
    };
    let there: ImageName = format!("{authority}{port}/{}", name.repository()).parse().ok()?;
    (there.registry() == format!("{authority}{port}")).then_some(there)
}

/// What was said for the registry is not meant for a mirror: no password goes there, and no check is left out.
fn as_mirror(mirror: &Mirror, options: &RegistryOptions) -> RegistryOptions {
    let client_certificate = mirror.client_certificate.clone();
    RegistryOptions {
        credentials: None,
        client_certificate: client_certificate.map(|(certificate, key)| ClientCertificate { certificate, key }),
        ca_certificates: options.ca_certificates.iter().chain(&mirror.ca_certificates).cloned().collect(),
        skip_tls_verification: mirror.skip_tls_verification,
        plain_http: !mirror.is_secure,
        insecure: false,
        ..options.clone()
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
