//! The last step of a copy: stores the manifests in a format that the destination accepts, and makes the images visible
//! under their names.

use super::CopyError;
use super::finish::Done;
use super::format::{Format, to_docker};
use crate::core::chain::Chain;
use crate::core::digest::Algorithm;
use crate::transport::store::{Finished, Form, Store, StoreError};

/// Stores manifests and shows images.
pub(super) struct Publisher<'a> {
    store: &'a dyn Store,
    format: Format,
    notes: Vec<String>,
}

impl<'a> Publisher<'a> {
    pub(super) fn new(store: &'a dyn Store, format: Format) -> Self {
        Self { store, format, notes: Vec::new() }
    }

    /// Stores the manifests of an image under its names.
    pub(super) fn show(&mut self, names: Vec<String>, done: Done) -> Result<Finished, CopyError> {
        if self.store.form() == Form::Saved {
            return Ok(Finished { names, manifest: None, saved: done.saved, subject: None });
        }
        let finished = |done: &Done| Finished {
            names: names.clone(),
            manifest: done.manifest.clone(),
            saved: None,
            subject: None,
        };
        if self.format == Format::Docker {
            let (converted, notes) = to_docker(&done)?;
            self.put(&converted, &finished(&converted))?;
            self.notes.extend(notes);
            return Ok(finished(&converted));
        }
        match self.put(&done, &finished(&done)) {
            Err(refusal) if self.format == Format::Auto && refusal.refuses_format() && is_by_sha256(&done) => {
                let (converted, notes) = match to_docker(&done) {
                    Ok((converted, notes)) if converted.manifest != done.manifest => (converted, notes),
                    Err(error @ (CopyError::Document { .. } | CopyError::LayerNotInDocker { .. })) => {
                        return Err(CopyError::Refused { conversion: error.into(), refusal: refusal.into() });
                    }
                    // It is in Docker's format already.
                    _ => return Err(refusal.into()),
                };
                // Refused once more, it was not for its words.
                if self.put(&converted, &finished(&converted)).is_err() {
                    return Err(refusal.into());
                }
                let digest = converted.manifest.as_ref().map(|manifest| manifest.digest.to_string());
                self.notes.push(format!(
                    "the registry takes no OCI manifest ({}): {} is stored as Docker's, {}",
                    Chain(&refusal),
                    names.join(" "),
                    digest.unwrap_or_default()
                ));
                self.notes.extend(notes);
                Ok(finished(&converted))
            }
            result => {
                result?;
                Ok(finished(&done))
            }
        }
    }

    /// What one may not expect.
    pub(super) fn notes(self) -> Vec<String> {
        self.notes
    }

    fn put(&self, done: &Done, finished: &Finished) -> Result<(), StoreError> {
        done.listed.iter().try_for_each(|listed| self.store.put_manifest(listed))?;
        self.store.show(finished)
    }
}

/// Whether everything goes by its SHA-256. Other digests may be what a registry refuses, and are not to be changed
/// unasked.
fn is_by_sha256(done: &Done) -> bool {
    done.manifest.iter().chain(&done.listed).all(|manifest| manifest.digest.algorithm() == Algorithm::Sha256)
}
