//! EROFS images of single layers, which all images in the cache share that have the layer above the same layers: what an image of a layer holds depends
//! on the layer and on all below it, and on nothing above. So they are kept by ChainID, each in a directory of its own as any EROFS image, and the
//! directory of a whole image only lists them.

use std::path::Path;

use super::MetadataError;
use super::cached::{KeptImages, VERSION, draft, find, publish, text};
use super::images::{Stacking, TREE, Writer, description, write_file};
use super::sources::Sources;
use crate::core::digest::Digest;
use crate::core::stack::Stack;
use crate::image::{Image, chain_ids};
use crate::lowerdirs::{Check, ContentDevice, ErofsLayout, FILE_NAME, Metadata};
use crate::unpack::{Error, Options, io, merged, reading};

/// Makes those of the layers' images that are not there, and under `key` the description of the whole image.
pub(super) fn make(
    image: &Image,
    cache: &Path,
    key: &str,
    sources: &Sources,
    check: &Check,
    options: &Options,
) -> Result<KeptImages, MetadataError> {
    let stack = Stack::replay(&sources.records, reading(options)).map_err(Error::from)?;
    let mut drafts = Vec::new();
    let mut found = Vec::new();
    for ((difference, chain_id), diff_id) in
        stack.layers().iter().zip(chain_ids(&sources.diff_ids)).zip(&sources.diff_ids)
    {
        let key = of_layer(&chain_id, options);
        let kept = find(cache, &key, check, options)?;
        if kept.is_none() {
            let draft = draft(cache)?;
            let made = draft.made();
            let mut writer = Writer::new(&made, sources, Stacking::Layered, options);
            let mut layout = description(None, vec![diff_id.clone()]);
            if !difference.entries().is_empty() {
                let image = writer.add(TREE, &stack, difference)?;
                list_one(&mut layout, image, sources);
            }
            write_file(&made.join(FILE_NAME), &layout.to_json())?;
            drafts.push((key, draft, writer.losses()));
        }
        found.push(kept);
    }
    let mut made = if drafts.is_empty() { Vec::new() } else { publish(cache, drafts, check, options)? }.into_iter();
    let layers: Option<Vec<KeptImages>> = found.into_iter().map(|kept| kept.or_else(|| made.next())).collect();
    let gone = || io("cannot find EROFS images in the cache")(std::io::Error::other("another process removed them"));
    let layers = layers.ok_or_else(gone)?;

    let draft = draft(cache)?;
    let mut layout = ErofsLayout { format: ErofsLayout::SHARED, ..description(Some(image), sources.diff_ids.clone()) };
    for layer in layers.iter().rev() {
        list(&mut layout, layer);
    }
    let directory = draft.made();
    Writer::new(&directory, sources, Stacking::Layered, options).add_missing(&mut layout.images)?;
    write_file(&directory.join(FILE_NAME), &layout.to_json())?;
    let losses = layers.iter().map(|layer| layer.not_kept().to_vec()).chain([sources.losses.clone()]);
    let drafts = vec![(key.to_owned(), draft, merged(losses))];
    publish(cache, drafts, check, options)?.into_iter().next().ok_or_else(|| gone().into())
}

/// Adds the only image to a description.
pub(super) fn list_one(layout: &mut ErofsLayout, image: Metadata, sources: &Sources) {
    let device = |&index: &usize| {
        let device = &sources.devices[index];
        ContentDevice { path: text(&device.path), seal: device.seal.clone() }
    };
    layout.devices = image.devices.iter().map(device).collect();
    layout.images.push(Metadata { devices: (0..layout.devices.len()).collect(), ..image });
}

/// Adds the image of a layer to the description of a whole image.
fn list(layout: &mut ErofsLayout, layer: &KeptImages) {
    let name = layer.path().file_name().unwrap_or_default().to_string_lossy();
    for image in &layer.layout.images {
        let device = |&index: &usize| {
            let device = &layer.layout.devices[index];
            let there = layout.devices.iter().position(|other| other.path == device.path);
            there.unwrap_or_else(|| {
                layout.devices.push(device.clone());
                layout.devices.len() - 1
            })
        };
        let devices = image.devices.iter().map(device).collect();
        layout.images.push(Metadata { file: format!("../{name}/{}", image.file), devices, ..image.clone() });
    }
}

/// The name of a layer's directory.
fn of_layer(chain_id: &Digest, options: &Options) -> String {
    let Options { ignore_root_entry, selinux, .. } = options;
    let text = format!("{VERSION} layer {ignore_root_entry} {selinux}\n{chain_id}\n");
    format!("sha256-{}", Digest::sha256_of(text.as_bytes()).hex())
}
