//! The second step of a copy: when all blobs are stored, configurations and manifests are made. The image's own are
//! used wherever they are still correct.

use std::collections::{HashMap, VecDeque};

use super::format::Format;
use super::layers::{Key, Task, key};
use super::report::{BlobReport, Outcome};
use super::transfer::Placed;
use super::{CopyError, manifest};
use crate::core::digest::Digest;
use crate::image::{Config, Image, Manifest};
use crate::transport::source::{Index, Tree};
use crate::transport::store::{BlobKind, Form, Presence, Store, Stored};

/// What stands for an image, or an index, in the store.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) manifest: Option<Manifest>,
    /// The manifests that an index lists, those of nested indexes before these. They have to be stored before it.
    pub(super) listed: Vec<Manifest>,
    /// The configuration and the DiffIDs of a single image.
    pub(super) saved: Option<(Digest, Vec<Digest>)>,
}

/// Stores the documents of images whose blobs are stored.
pub(super) struct Finisher<'a> {
    store: &'a dyn Store,
    /// Whether manifests in Docker's words may stay.
    docker: bool,
    placed: HashMap<Key, &'a Placed>,
    /// Bare layers, of which nothing is stated, in their order.
    bare: VecDeque<&'a Placed>,
    configs: Vec<BlobReport>,
    notes: Vec<String>,
}

impl<'a> Finisher<'a> {
    pub(super) fn new(store: &'a dyn Store, format: Format, tasks: &'a [Task], placed: &'a [Placed]) -> Self {
        let mut finisher = Self {
            store,
            docker: store.form() == Form::Manifests { docker: true } && format != Format::Oci,
            placed: HashMap::new(),
            bare: VecDeque::new(),
            configs: Vec::new(),
            notes: Vec::new(),
        };
        for (task, placed) in tasks.iter().zip(placed) {
            match key(&task.blob, task.diff_id.as_ref(), task.is_layer) {
                Some(key) => drop(finisher.placed.insert(key, placed)),
                None => finisher.bare.push_back(placed),
            }
        }
        finisher
    }

    /// What came of it beside the images: the configurations, and what should be said.
    pub(super) fn notes(self, blobs: &mut Vec<BlobReport>) -> Vec<String> {
        blobs.extend(self.configs);
        self.notes
    }

    pub(super) fn finish(&mut self, tree: &Tree) -> Result<Done, CopyError> {
        match tree {
            Tree::Image(image) => self.image(image),
            Tree::Index(index) => self.index(index),
            Tree::Attachment(attachment) => {
                Ok(Done { manifest: Some(attachment.manifest.clone()), listed: Vec::new(), saved: None })
            }
        }
    }

    fn image(&mut self, image: &Image) -> Result<Done, CopyError> {
        let layers = self.layers(image)?;
        let diff_ids: Vec<Digest> = layers
            .iter()
            .zip(&image.layers)
            // What was stated was checked where the layer was decompressed; what was found there may be by another
            // algorithm.
            .filter_map(|(placed, layer)| layer.diff_id.clone().or_else(|| placed.diff_id.clone()))
            .collect();
        let config = manifest::config(image, &diff_ids)?;
        if image.config.as_ref().is_some_and(|own| own.digest != config.digest) {
            self.note(format!("the configuration is changed, since its layers are: it is now {}", config.digest));
        }
        if self.store.form() == Form::Saved {
            self.config(config.digest.clone(), &config)?;
            return Ok(Done { manifest: None, listed: Vec::new(), saved: Some((config.digest, diff_ids)) });
        }
        let still_true = match &image.manifest {
            Some(own) => manifest::names(own, &config, &layers)?,
            None => false,
        };
        self.config(config.digest.clone(), &config)?;
        let kept =
            image.manifest.as_ref().filter(|own| still_true && (self.docker || !manifest::is_in_docker_words(own)));
        let manifest = match kept {
            Some(own) => own.clone(),
            None => {
                let made = manifest::manifest(image, &config, &layers)?;
                if let Some(own) = image.manifest.as_ref().filter(|_| still_true) {
                    self.note(format!(
                        "manifest {} is Docker's{}: it is now OCI's, {}",
                        own.digest,
                        if self.store.form() == (Form::Manifests { docker: false }) {
                            ", which no reader of OCI layouts knows"
                        } else {
                            ""
                        },
                        made.digest
                    ));
                }
                made
            }
        };
        Ok(Done { manifest: Some(manifest), listed: Vec::new(), saved: Some((config.digest, diff_ids)) })
    }

    fn index(&mut self, index: &Index) -> Result<Done, CopyError> {
        let (mut entries, mut listed) = (Vec::new(), Vec::new());
        for entry in &index.entries {
            let was = match entry {
                Tree::Image(image) => image.manifest.as_ref().map(|manifest| manifest.digest.clone()),
                Tree::Index(index) => Some(index.document.digest.clone()),
                Tree::Attachment(attachment) => Some(attachment.manifest.digest.clone()),
            };
            let done = self.finish(entry)?;
            if let (Some(was), Some(now)) = (was, done.manifest) {
                listed.extend(done.listed);
                listed.push(now.clone());
                entries.push((was, now));
            }
        }
        let is_as_it_was = entries.iter().all(|(was, now)| *was == now.digest);
        if is_as_it_was && (self.docker || !manifest::is_in_docker_words(&index.document)) {
            return Ok(Done { manifest: Some(index.document.clone()), listed, saved: None });
        }
        let made = manifest::index(&index.document, &entries)?;
        self.note(format!(
            "index {} is changed, since what it lists is: it is now {}",
            index.document.digest, made.digest
        ));
        if !is_as_it_was && index.entries.iter().any(|entry| matches!(entry, Tree::Attachment(_))) {
            self.note("what is attached to the images, like attestations, is kept, but speaks of them under their old digests");
        }
        Ok(Done { manifest: Some(made), listed, saved: None })
    }

    fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The descriptors of the layers at the destination.
    fn layers(&mut self, image: &Image) -> Result<Vec<&'a Placed>, CopyError> {
        let mut placed = Vec::new();
        for layer in &image.layers {
            let found = match key(&layer.blob, layer.diff_id.as_ref(), true) {
                Some(key) => self.placed.get(&key).copied(),
                None => self.bare.pop_front(),
            };
            placed.push(found.ok_or_else(|| CopyError::Document {
                name: "a layer".to_owned(),
                error: "it was not copied".into(),
            })?);
        }
        Ok(placed)
    }

    fn config(&mut self, digest: Digest, config: &Config) -> Result<(), CopyError> {
        let size = config.bytes.len() as u64;
        let stored = Stored { kind: BlobKind::Config, digest, size: Some(size) };
        if self.configs.iter().any(|known| known.digest == stored.digest) {
            return Ok(());
        }
        let outcome = match self.store.find(&stored)? {
            Presence::There(_) => Outcome::Present,
            Presence::Mounted(_) => Outcome::Mounted,
            Presence::Missing => {
                self.store.put(&stored, &mut config.bytes.as_slice())?;
                Outcome::Copied
            }
        };
        self.configs.push(BlobReport { digest: stored.digest, source_digest: None, size, kind: "config", outcome });
        Ok(())
    }
}
