//! Finds referrers of images: manifests with a `subject` (OCI 1.1), and what cosign stores under tags made from
//! digests.

use crate::transport::source::{Named, OpenOptions, SourceError, Tree, manifests};
use crate::transport::{oci, registry};
use std::collections::HashSet;

use crate::core::digest::Digest;
use crate::core::reference::Reference;
use crate::image::Descriptor;
use crate::transport::io::files::Files;
use crate::transport::source::manifests::Content;

/// What cosign's tags end in.
const COSIGN: [&str; 3] = [".sig", ".att", ".sbom"];
/// Signatures of signatures of signatures.
const MOST_ROUNDS: usize = 8;

/// Something that refers to an image.
#[derive(Debug, Clone)]
pub struct Referrer {
    /// What it refers to.
    pub subject: Digest,
    /// The tag that it is found by, where that is how it is found.
    pub tag: Option<String>,
    /// What it is; its bytes are its subject's affair, and are handed on as they are.
    pub content: Tree,
}

/// A place that knows what refers to a manifest.
pub(in crate::transport) trait Referring {
    /// What refers to it by its `subject`.
    fn by_subject(&self, subject: &Digest) -> Result<Vec<Descriptor>, SourceError>;
    /// The manifest under a tag, if it exists.
    fn by_tag(&self, tag: &str) -> Result<Option<Descriptor>, SourceError>;
    /// Where the blobs are read from.
    fn content(&self) -> &dyn Content;
}

/// All referrers of these images, and the referrers of those. Docker archives and bare layers have none.
///
/// # Errors
/// A source that cannot be read.
pub fn referrers(reference: &Reference, images: &[Named], options: &OpenOptions) -> Result<Vec<Referrer>, SourceError> {
    let mut subjects = Vec::new();
    images.iter().for_each(|image| digests(&image.content, &mut subjects));
    let in_layout = |files: &Files| match files.has("index.json") {
        true => collect(&oci::read::Listed::open(files, options)?, subjects.clone(), options),
        false => Ok(Vec::new()),
    };
    match reference {
        Reference::Registry(name) => collect(&*registry::read::referring(name, options)?, subjects, options),
        Reference::OciLayout { directory, .. } => in_layout(&Files::of_directory(directory)),
        Reference::OciArchive { file, .. } => in_layout(&Files::of_archive(file, options)?),
        Reference::Path(path) if path.is_dir() => in_layout(&Files::of_directory(path)),
        Reference::Path(path) => in_layout(&Files::of_archive(path, options)?),
        _ => Ok(Vec::new()),
    }
}

fn collect(
    place: &dyn Referring,
    mut subjects: Vec<Digest>,
    options: &OpenOptions,
) -> Result<Vec<Referrer>, SourceError> {
    let mut seen: HashSet<String> = HashSet::new();
    let mut asked: HashSet<Digest> = HashSet::new();
    let mut found = Vec::new();
    for _ in 0..MOST_ROUNDS {
        let mut next = Vec::new();
        for subject in std::mem::take(&mut subjects) {
            if !asked.insert(subject.clone()) {
                continue;
            }
            let mut all: Vec<(Option<String>, Descriptor)> =
                place.by_subject(&subject)?.into_iter().map(|descriptor| (None, descriptor)).collect();
            for ending in COSIGN {
                let tag = format!("{}{ending}", subject.as_tag());
                all.extend(place.by_tag(&tag)?.map(|descriptor| (Some(tag), descriptor)));
            }
            for (tag, descriptor) in all {
                if !seen.insert(format!("{} {}", descriptor.digest, tag.as_deref().unwrap_or_default())) {
                    continue;
                }
                let content = manifests::as_is(place.content(), &descriptor, options)?;
                digests(&content, &mut next);
                found.push(Referrer { subject: subject.clone(), tag, content });
            }
        }
        subjects = next;
        if subjects.is_empty() {
            break;
        }
    }
    Ok(found)
}

/// The digests that a referrer could speak of.
fn digests(tree: &Tree, into: &mut Vec<Digest>) {
    match tree {
        Tree::Image(image) => into.extend(image.manifest_digest().cloned()),
        Tree::Attachment(attachment) => into.push(attachment.manifest.digest.clone()),
        Tree::Index(index) => {
            into.push(index.document.digest.clone());
            index.entries.iter().for_each(|entry| digests(entry, into));
        }
    }
}
