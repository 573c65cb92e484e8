//! Reads OCI image layouts, from directories and from archives (image specification, image-layout.md).

use crate::transport::source::{Named, OpenOptions, Selection, SourceError, Tree, json, manifests};
use std::collections::HashSet;

use crate::blob::Blob;
use crate::core::digest::Digest;
use crate::image::document::LayoutMarker;
use crate::image::{Descriptor, Document, Image, Manifest, MediaType, Notice};
use crate::transport::io::files::Files;
use crate::transport::source::manifests::Content;
use crate::transport::source::names::canonical;
use crate::transport::source::referrers::Referring;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";

pub(in crate::transport) fn open(
    files: &Files,
    tag: Option<&str>,
    options: &OpenOptions,
) -> Result<Image, SourceError> {
    let (entries, notices) = entries(files, options)?;
    let chosen = match tag {
        Some(tag) => by_tag(&entries, tag)?,
        None => one_image(manifests::without_attachments(entries))?,
    };
    let name = own_name(&chosen);
    let mut image = manifests::open(files, chosen, name, options)?;
    image.notices.splice(0..0, notices);
    Ok(image)
}

/// All images of the layout, or the one that was asked for; of each, all platforms or the one that suits.
pub(in crate::transport) fn open_set(
    files: &Files,
    tag: Option<&str>,
    selection: Selection,
    options: &OpenOptions,
) -> Result<Vec<Named>, SourceError> {
    let (entries, notices) = entries(files, options)?;
    let groups = match tag {
        _ if selection.all_tags => by_names(&entries),
        Some(tag) => vec![by_tag(&entries, tag)?],
        // Artifacts that are listed beside the images are copied with all platforms.
        None if selection.all_platforms => vec![one_image(entries)?],
        None => vec![one_image(manifests::without_attachments(entries))?],
    };
    let open = |group: Vec<Descriptor>| {
        let name = own_name(&group);
        let names = name.iter().cloned().collect();
        let is_of_referrers = name.as_deref().is_some_and(manifests::is_of_referrers);
        let content = if selection.all_platforms || is_of_referrers {
            manifests::tree(files, group, name, options)?
        } else {
            let mut tree = manifests::open_any(files, group.clone(), name, options)?;
            if let Tree::Image(image) = &mut tree {
                let others = selection.all_tags.then(|| not_chosen(&group, image)).flatten();
                image.notices.extend(others);
            }
            tree
        };
        Ok(Named { names, content })
    };
    let mut images = Vec::new();
    for group in groups {
        match open(group.clone()) {
            // They differ only in their digests. All are wanted, so each is taken separately.
            Err(SourceError::Ambiguous { .. }) if selection.all_tags => {
                let mut seen = HashSet::new();
                for entry in group.into_iter().filter(|entry| seen.insert(entry.digest.clone())) {
                    images.push(open(vec![entry])?);
                }
            }
            opened => images.push(opened?),
        }
    }
    // Irregularities of the layout are reported once.
    if let Some(Tree::Image(first)) = images.first_mut().map(|named| &mut named.content) {
        first.notices.splice(0..0, notices);
    }
    Ok(images)
}

/// Of several images that share a name, those that were left out for the one.
fn not_chosen(group: &[Descriptor], chosen: &Image) -> Option<Notice> {
    let own = chosen.manifest_digest().map(ToString::to_string);
    let is_other = |entry: &&Descriptor| {
        Some(&entry.digest) != own.as_ref()
            && !entry.is_attestation()
            && MediaType::of(&entry.media_type) != MediaType::Index
    };
    let describe = |entry: &Descriptor| match &entry.platform {
        Some(platform) => format!("{platform} (@{})", entry.digest),
        None => format!("@{}", entry.digest),
    };
    let images: Vec<String> = group.iter().filter(is_other).map(describe).collect();
    (!images.is_empty()).then_some(Notice::NotChosen { images })
}

/// The manifest or index of an image as it is stored.
pub(in crate::transport) fn manifest(
    files: &Files,
    tag: Option<&str>,
    options: &OpenOptions,
) -> Result<Manifest, SourceError> {
    let (entries, _) = entries(files, options)?;
    let chosen = match tag {
        Some(tag) => by_tag(&entries, tag)?,
        None => one_image(manifests::without_attachments(entries))?,
    };
    manifests::raw(files, chosen, options)
}

/// A layout that is asked what refers to its images.
pub(in crate::transport) struct Listed<'a> {
    files: &'a Files,
    entries: Vec<Descriptor>,
    /// What each refers to.
    subjects: Vec<Option<String>>,
    options: &'a OpenOptions,
}

impl<'a> Listed<'a> {
    pub(in crate::transport) fn open(files: &'a Files, options: &'a OpenOptions) -> Result<Self, SourceError> {
        let (entries, _) = entries(files, options)?;
        let subjects =
            entries.iter().map(|entry| manifests::subject(files, entry, options)).collect::<Result<_, _>>()?;
        Ok(Self { files, entries, subjects, options })
    }
}

impl Referring for Listed<'_> {
    fn by_subject(&self, subject: &Digest) -> Result<Vec<Descriptor>, SourceError> {
        let text = subject.to_string();
        let pairs = self.entries.iter().zip(&self.subjects);
        let refers = |(entry, of): (&Descriptor, &Option<String>)| (of.as_ref() == Some(&text)).then(|| entry.clone());
        let mut found: Vec<Descriptor> = pairs.filter_map(refers).collect();
        // Copied with everything else, the index of a registry may be here, too.
        if let Some(index) = self.by_tag(&subject.as_tag())? {
            let bytes = self.files.document(&index, self.options)?;
            let document: Document = json(&index.digest, &bytes)?;
            found.extend(document.manifests.unwrap_or_default());
        }
        Ok(found)
    }

    fn by_tag(&self, tag: &str) -> Result<Option<Descriptor>, SourceError> {
        Ok(self.entries.iter().find(|entry| names(entry).contains(&tag)).cloned())
    }

    fn content(&self) -> &dyn Content {
        self.files
    }
}

/// The names of all images.
pub(in crate::transport) fn all(files: &Files, options: &OpenOptions) -> Result<Vec<String>, SourceError> {
    let mut names = all_names(&entries(files, options)?.0);
    // For several platforms an image may be listed several times.
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    Ok(names)
}

/// What index.json lists, and what is not as it should be about the layout.
fn entries(files: &Files, options: &OpenOptions) -> Result<(Vec<Descriptor>, Option<Notice>), SourceError> {
    if !files.has("index.json") {
        let path = files.path();
        let problem = match matches!(files, Files::Directory(_)) && path.is_file() {
            true => format!("is a file, not the directory of an OCI image layout: write {} alone", path.display()),
            false => "has no index.json: it is not an OCI image layout".to_owned(),
        };
        return Err(SourceError::NotAnImage { path: path.to_owned(), problem });
    }
    let notice = check_marker(files, options)?;
    let index: Document = json("index.json", &files.read("index.json", None, None, options)?)?;
    let entries = index.manifests.unwrap_or_default();
    if entries.is_empty() {
        let problem = "holds no image: its index.json lists none".to_owned();
        return Err(SourceError::NotAnImage { path: files.path().to_owned(), problem });
    }
    Ok((entries, notice))
}

/// The name of the first descriptor.
fn own_name(group: &[Descriptor]) -> Option<String> {
    group.first().and_then(|descriptor| names(descriptor).first().map(|&name| name.to_owned()))
}

/// The descriptors of each name; those that have none one by one.
fn by_names(entries: &[Descriptor]) -> Vec<Vec<Descriptor>> {
    let mut groups: Vec<Vec<Descriptor>> = Vec::new();
    for entry in entries {
        let own = names(entry);
        let same = |group: &&mut Vec<Descriptor>| !own.is_empty() && group.iter().any(|other| names(other) == own);
        match groups.iter_mut().find(same) {
            Some(group) => group.push(entry.clone()),
            None if own.is_empty() && entry.is_attestation() => {}
            None => groups.push(vec![entry.clone()]),
        }
    }
    groups
}

/// Every engine reads a layout by its index.json; a file oci-layout that is missing or empty is only worth a word (rule
/// D4). One of another version is another matter.
fn check_marker(files: &Files, options: &OpenOptions) -> Result<Option<Notice>, SourceError> {
    let notice = |problem: &str| Ok(Some(Notice::LayoutMarker { problem: problem.to_owned() }));
    if !files.has("oci-layout") {
        return notice("is missing");
    }
    let bytes = files.read("oci-layout", None, None, options)?;
    if bytes.trim_ascii().is_empty() {
        return notice("is empty");
    }
    let Ok(marker) = json::<LayoutMarker>("oci-layout", &bytes) else { return notice("is not a JSON object") };
    match marker.image_layout_version.as_str() {
        "" => notice("states no version"),
        version if version.starts_with("1.") => Ok(None),
        version => {
            let problem = format!("has the layout version {version:?}; 1.x is known");
            Err(SourceError::NotAnImage { path: files.path().to_owned(), problem })
        }
    }
}

/// The name of a descriptor in an index.
fn names(descriptor: &Descriptor) -> Vec<&str> {
    let annotation = |key| descriptor.annotations.get(key).map(String::as_str).filter(|name| !name.is_empty());
    [FULL_NAME, REF_NAME].into_iter().filter_map(annotation).collect()
}

fn by_tag(entries: &[Descriptor], tag: &str) -> Result<Vec<Descriptor>, SourceError> {
    let matching = |is_it: &dyn Fn(&Descriptor) -> bool| -> Vec<Descriptor> {
        entries.iter().filter(|entry| is_it(entry)).cloned().collect()
    };
    let found = match tag.strip_prefix('@') {
        Some(digest) => matching(&|entry| entry.digest == digest),
        None => {
            let whole = matching(&|entry| names(entry).iter().any(|name| canonical(name) == canonical(tag)));
            let behind = format!(":{tag}");
            let ends = || matching(&|entry| names(entry).iter().any(|name| *name == tag || name.ends_with(&behind)));
            if whole.is_empty() { ends() } else { whole }
        }
    };
    if found.is_empty() {
        return Err(SourceError::NoSuchImage { wanted: tag.to_owned(), names: all_names(entries) });
    }
    one_image(found)
}

/// Several descriptors may be one image under several names, or for several platforms, as far as they say; but not
/// several images.
fn one_image(mut found: Vec<Descriptor>) -> Result<Vec<Descriptor>, SourceError> {
    let ambiguous = |found: &[Descriptor]| Err(SourceError::Ambiguous { names: all_names(found) });
    let all = found.clone();
    let mut seen = HashSet::new();
    found.retain(|entry| seen.insert(entry.digest.clone()));
    let [first, others @ ..] = found.as_slice() else { return Ok(found) };
    if others.iter().any(|other| names(other) != names(first)) {
        return ambiguous(&all);
    }
    Ok(found)
}

fn all_names(entries: &[Descriptor]) -> Vec<String> {
    // A name that several have tells none of them apart.
    let is_shared = |entry: &Descriptor| {
        entries.iter().any(|other| other.digest != entry.digest && names(other).first() == names(entry).first())
    };
    let name = |entry: &Descriptor| match names(entry).first() {
        Some(name) if !is_shared(entry) => (*name).to_owned(),
        _ => format!("@{}", entry.digest),
    };
    entries.iter().filter(|entry| !names(entry).is_empty() || !entry.is_attestation()).map(name).collect()
}

impl Content for Files {
    fn find(&self, _: &Descriptor, digest: &Digest) -> Result<Blob, SourceError> {
        Files::blob(self, &format!("blobs/{}/{}", digest.algorithm().name(), digest.hex()))
    }
}
