//! Copies referrers (signatures, attestations, SBOMs) along with their images. They are copied unchanged, and only if
//! the image that they refer to did not change.

use std::collections::HashSet;

use super::CopyError;
use super::finish::Done;
use crate::core::digest::Digest;
use crate::transport::source::{Named, Referrer};
use crate::transport::store::{Finished, Form, Store};

/// The referrers as images among the others, for the plan.
pub(super) fn as_named(referrers: &[Referrer]) -> Vec<Named> {
    let named = |referrer: &Referrer| Named {
        names: referrer.tag.iter().cloned().collect(),
        content: referrer.content.clone(),
    };
    referrers.iter().map(named).collect()
}

/// Refuses referrers where none can be kept.
pub(super) fn check(referrers: &[Referrer], form: Form) -> Result<(), CopyError> {
    match form {
        Form::Saved if !referrers.is_empty() => Err(CopyError::Referrers),
        _ => Ok(()),
    }
}

/// Stores the manifests of referrers whose subjects are at the destination as they were. How many there are, and what
/// is to be said.
pub(super) fn show(
    store: &dyn Store,
    referrers: &[Referrer],
    done: Vec<Done>,
    shown: &HashSet<Digest>,
) -> Result<(Vec<Finished>, Vec<String>), CopyError> {
    let mut known = shown.clone();
    let (mut finished, mut lost) = (Vec::new(), 0);
    for (referrer, done) in referrers.iter().zip(done) {
        if !known.contains(&referrer.subject) {
            lost += 1;
            continue;
        }
        known.extend(done.manifest.iter().chain(&done.listed).map(|manifest| manifest.digest.clone()));
        for listed in &done.listed {
            store.put_manifest(listed)?;
        }
        let new = Finished {
            names: referrer.tag.iter().cloned().collect(),
            manifest: done.manifest,
            saved: None,
            subject: Some(referrer.subject.clone()),
        };
        store.show(&new)?;
        finished.push(new);
    }
    let note =
        format!("left out {lost} that refer to images which were changed on the way: they speak of the old digests");
    Ok((finished, if lost > 0 { vec![note] } else { Vec::new() }))
}
