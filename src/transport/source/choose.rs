//! Selects an image for a platform: it follows indexes down to a manifest.
//!
//! A descriptor that states a platform is believed. Of one that states none its image's configuration tells (rule D2),
//! which has to be read first; so these come second.

use crate::core::reference::Platform;
use crate::image::{Config, Descriptor, Document, Manifest};
use crate::transport::registry::error::is_not_found;
use crate::transport::source::artifact::ArtifactKind;
use crate::transport::source::manifests::{Content, read, read_config, without_attachments};
use crate::transport::source::{OpenOptions, SourceError, artifact};

/// Indexes within indexes.
pub(in crate::transport) const MOST_NESTED: usize = 8;

/// The manifest of an image that was chosen.
#[derive(Debug)]
pub(in crate::transport) struct Chosen {
    pub(in crate::transport) manifest: Manifest,
    pub(in crate::transport) document: Document,
    /// The platform that its descriptor states.
    pub(in crate::transport) described: Option<Platform>,
    /// The configuration, where it had to be read to choose.
    pub(in crate::transport) config: Option<Config>,
}

/// Chooses among descriptors, and among what the indexes list that they are of.
pub(in crate::transport) fn choose(
    content: &dyn Content,
    candidates: Vec<Descriptor>,
    options: &OpenOptions,
) -> Result<Chosen, SourceError> {
    Choice { content, options, wanted: options.platform.clone().unwrap_or_else(Platform::host) }.among(candidates, 0)
}

struct Choice<'a> {
    content: &'a dyn Content,
    options: &'a OpenOptions,
    wanted: Platform,
}

/// An image that suits, by how well it does.
type Suitable = (u32, Chosen);
/// How well something suits that is not an image and so is for no platform: only where there is nothing else.
const NO_IMAGE: u32 = u32::MAX;

impl Choice<'_> {
    fn among(&self, candidates: Vec<Descriptor>, depth: usize) -> Result<Chosen, SourceError> {
        if depth > MOST_NESTED {
            return Err(SourceError::NestedTooDeep(MOST_NESTED));
        }
        let candidates = without_attachments(candidates);
        if let [only] = candidates.as_slice()
            && self.options.platform.is_none()
        {
            // The only image, and no platform was asked for.
            return self.enter(only, depth);
        }
        let (stated, unstated): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|entry| entry.platform.is_some());
        let mut offered = Vec::new();
        let found = match self.stated(&stated, depth, &mut offered)? {
            None => self.unstated(&unstated, depth, &mut offered)?,
            found => found,
        };
        found.ok_or_else(|| SourceError::NoSuchPlatform { wanted: self.wanted.clone(), offered })
    }

    /// The best of those whose descriptors say what they are for.
    fn stated(
        &self,
        candidates: &[Descriptor],
        depth: usize,
        offered: &mut Vec<String>,
    ) -> Result<Option<Chosen>, SourceError> {
        let mut suitable: Vec<(u32, &Descriptor)> = Vec::new();
        for entry in candidates {
            let Some(platform) = &entry.platform else { continue };
            suitable.extend(self.wanted.suits(platform).map(|rank| (rank, entry)));
            offered.push(platform.to_string());
        }
        suitable.sort_by_key(|(rank, _)| *rank);
        if let [(best, first), (next, other), ..] = suitable.as_slice()
            && depth == 0
            && best == next
            && first.digest != other.digest
        {
            let same = suitable.iter().filter(|(rank, _)| rank == best);
            return Err(ambiguous(same.map(|(_, entry)| entry.digest.as_str())));
        }
        for (_, entry) in suitable {
            match self.enter(entry, depth) {
                Err(SourceError::NoSuchPlatform { offered: inside, .. }) => offered.extend(inside),
                found => return found.map(Some),
            }
        }
        Ok(None)
    }

    /// The best of those whose configurations must be asked.
    fn unstated(
        &self,
        candidates: &[Descriptor],
        depth: usize,
        offered: &mut Vec<String>,
    ) -> Result<Option<Chosen>, SourceError> {
        let mut suitable: Vec<Suitable> = Vec::new();
        let mut failed = None;
        for entry in candidates {
            match self.suitable(entry, depth, offered) {
                Ok(found) => suitable.extend(found),
                // An artifact or a missing manifest does not matter if another image suits.
                Err(error) if is_no_image(&error) => drop(failed.get_or_insert(error)),
                Err(error) => return Err(error),
            }
            // Of an index's entries the first that suits is the one (image specification, image-index.md).
            if depth > 0 && suitable.iter().any(|(rank, _)| *rank == 0) {
                break;
            }
        }
        // The first of those that suit best.
        suitable.sort_by_key(|(rank, _)| *rank);
        let best = suitable.first().map_or(0, |(rank, _)| *rank);
        if best == NO_IMAGE && !offered.is_empty() {
            return Ok(None);
        }
        let is_as_good = |rank: u32| rank == best || rank == Platform::UNSTATED;
        let mut equals =
            suitable.iter().filter(|(rank, _)| is_as_good(*rank)).map(|(_, chosen)| &chosen.manifest.digest);
        let one = equals.next();
        if depth == 0 && equals.any(|other| Some(other) != one) {
            let same = suitable.iter().filter(|(rank, _)| is_as_good(*rank));
            return Err(ambiguous(same.map(|(_, chosen)| &chosen.manifest.digest)));
        }
        match (suitable.into_iter().next(), failed) {
            (Some((_, chosen)), _) => Ok(Some(chosen)),
            (None, Some(error)) if offered.is_empty() => Err(error),
            (None, _) => Ok(None),
        }
    }

    /// The image of a descriptor without a platform, if it suits.
    fn suitable(
        &self,
        entry: &Descriptor,
        depth: usize,
        offered: &mut Vec<String>,
    ) -> Result<Option<Suitable>, SourceError> {
        let mut chosen = match self.enter(entry, depth) {
            Err(SourceError::NoSuchPlatform { offered: inside, .. }) => {
                offered.extend(inside);
                return Ok(None);
            }
            chosen => chosen?,
        };
        let platform = match &chosen.described {
            Some(described) => described.clone(),
            None if artifact::kind(self.content, &chosen.document, self.options)? == ArtifactKind::Artifact => {
                return Ok(Some((NO_IMAGE, chosen)));
            }
            None => self.config(&mut chosen)?.platform(),
        };
        let rank = self.wanted.suits(&platform);
        if rank.is_none() {
            offered.push(platform.to_string());
        }
        Ok(rank.map(|rank| (rank, chosen)))
    }

    fn config<'c>(&self, chosen: &'c mut Chosen) -> Result<&'c Config, SourceError> {
        let config = match chosen.config.take() {
            Some(config) => config,
            None => read_config(self.content, &chosen.manifest, &chosen.document, self.options)?,
        };
        Ok(chosen.config.insert(config))
    }

    /// Follows a descriptor to a manifest, through indexes by the wanted platform.
    fn enter(&self, descriptor: &Descriptor, depth: usize) -> Result<Chosen, SourceError> {
        let (manifest, mut document) = read(self.content, descriptor, self.options)?;
        match document.manifests.take() {
            Some(manifests) => self.among(manifests, depth + 1),
            None => Ok(Chosen { manifest, document, described: descriptor.platform.clone(), config: None }),
        }
    }
}

/// Whether a descriptor leads to something else than an image, or to nothing.
fn is_no_image(error: &SourceError) -> bool {
    let is_other = matches!(error, SourceError::Unsupported { .. } | SourceError::Missing(_) | SourceError::Config(_));
    is_other || is_not_found(error)
}

fn ambiguous<T: std::fmt::Display>(digests: impl Iterator<Item = T>) -> SourceError {
    let mut names: Vec<String> = digests.map(|digest| format!("@{digest}")).collect();
    names.dedup();
    SourceError::Ambiguous { names }
}
