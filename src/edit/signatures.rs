//! What a source has that speaks of an image's digest, and so says nothing of an edited one.

use std::path::Path;

use crate::core::reference::Reference;
use crate::transport::source::{Named, OpenOptions, Tree, referrers};

/// What refers to these images where they are: signatures, attestations, bills of materials; each in words. A source
/// that cannot tell has none.
pub fn signatures(reference: &Reference, images: &[Named], options: &OpenOptions) -> Vec<String> {
    let mut found: Vec<String> = match reference {
        Reference::Directory(directory) => beside(directory),
        Reference::Path(path) if path.is_dir() => beside(path),
        _ => Vec::new(),
    };
    let referring = referrers(reference, images, options).unwrap_or_default();
    found.extend(referring.iter().map(|referrer| match &referrer.content {
        Tree::Attachment(attachment) => attachment.kind.clone(),
        Tree::Image(_) | Tree::Index(_) => "an image".to_owned(),
    }));
    found.sort();
    found.dedup();
    found
}

/// Signatures as skopeo puts them into a directory beside the manifest.
fn beside(directory: &Path) -> Vec<String> {
    let is_signed = directory.join("signature-1").exists();
    if is_signed { vec!["a signature (signature-1)".to_owned()] } else { Vec::new() }
}
