//! Makes several smaller layers of a large one, so that engines that unpack layers in parallel have something to do at the
//! same time.
//!
//! A layer's archive is cut between entries, which stay as they are to the byte. What must stay together does: whiteouts
//! and all directories are in the first part, a hard link is where its target is, and a part that puts something into a
//! directory repeats the directory's entry. Then both stacks are replayed: where the parts would not show what the layer
//! shows, it is left whole.

mod config;
mod cut;
mod parts;
mod shown;
mod spool;

use std::path::Path;

use cut::Cut;
use shown::{Origin, shown};
use spool::{Spool, Spooling};

use crate::blob::Compression;
use crate::core::filter::Filter;
use crate::core::layer::{Discard, read_layer};
use crate::core::record::Record;
use crate::core::stack::Stack;
use crate::image::{Image, Layer};
use crate::transport::source::{Named, Tree};
use crate::unpack::extract::read_records;
use crate::unpack::read::read_layers;
use crate::unpack::{Error, Options, Progress, reading};

/// The most layers that Docker stacks.
const DOCKERS_MOST: usize = 125;

/// Splits layers of more than `size` uncompressed bytes into parts of at most that, as far as single files and the
/// directories of the layer allow. Layers that cannot be split stay as they are, and [`Options::notes`] is told why.
///
/// The new layers' bytes lie in files without a name in `scratch`, a directory, and are gone when the image is.
///
/// # Errors
/// A damaged or hostile image, a scratch directory that cannot be written.
pub fn split(
    image: &Image,
    size: u64,
    scratch: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Image, Error> {
    // What is left out or changed was so before.
    let options = &Options { filter: Filter::default(), ..options.clone() };
    let which: Vec<usize> = (0..image.layers.len()).collect();
    let read = read_layers(image, &which, options, progress, &|index, stream, reading, tell| {
        let layer = &image.layers[index];
        let is_small = layer.blob.len() <= size && is_plain(layer);
        // What only its vendor hands out stays what it hands out.
        if is_small || layer.is_nondistributable() {
            return Ok((read_layer(stream, &mut Discard::default(), reading, tell)?, None));
        }
        let mut spooling = Spooling::new(stream, scratch)?;
        let record = read_layer(&mut spooling, &mut Discard::default(), reading, tell)?;
        let spool = spooling.finish()?;
        Ok((record, (spool.length > size).then_some(spool)))
    })?;

    let mut layers = Vec::new();
    let mut counts = Vec::new();
    let (mut records, mut origins) = (Vec::new(), Vec::new());
    for (index, (layer, read)) in image.layers.iter().zip(read).enumerate() {
        records.push(read.record);
        origins.push(Origin::whole(index));
        let parts = match read.kept {
            None => None,
            Some(spool) => {
                let parts = in_parts(&spool, size, (&mut records, &mut origins), options, progress)?;
                if let Err(why) = &parts {
                    options.notes.tell(format!("layer {index} is left whole, since {why}"));
                }
                parts.ok().flatten()
            }
        };
        let whole = || vec![Layer { diff_id: Some(read.facts.diff_id), ..layer.clone() }];
        let parts = parts.unwrap_or_else(whole);
        counts.push(parts.len());
        layers.extend(parts);
    }
    if counts.iter().all(|&count| count == 1) {
        return Ok(image.clone());
    }
    if layers.len() > DOCKERS_MOST {
        options.notes.tell(format!("there are {} layers now; Docker takes at most {DOCKERS_MOST}", layers.len()));
    }
    let config = match &image.config {
        Some(config) => Some(config::in_parts(config, &counts, &layers)?),
        None => None,
    };
    let manifest = image.manifest.as_ref().map(|manifest| config::manifest_in_parts(manifest, &counts));
    Ok(Image { name: image.name.clone(), manifest, config, layers, notices: image.notices.clone() })
}

/// Whether a layer is known to be uncompressed.
fn is_plain(layer: &Layer) -> bool {
    matches!(layer.blob.compression_at_hand(), Ok(Some(Compression::None)))
}

/// Splits the layers of every image, also of those that indexes list. What is attached to images stays as it is.
///
/// # Errors
/// As [`split`].
pub fn split_all(
    mut images: Vec<Named>,
    size: u64,
    scratch: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<Named>, Error> {
    for image in &mut images {
        let mut pending = vec![&mut image.content];
        while let Some(tree) = pending.pop() {
            match tree {
                Tree::Image(image) => **image = split(image, size, scratch, options, progress)?,
                Tree::Index(index) => pending.extend(&mut index.entries),
                Tree::Attachment(_) => {}
            }
        }
    }
    Ok(images)
}

/// The layer that was read last in parts, and its record replaced by theirs; nothing if there is only one part of it. The
/// inner error says why it has to stay whole.
fn in_parts(
    spool: &Spool,
    size: u64,
    (records, origins): (&mut Vec<Record>, &mut Vec<Origin>),
    options: &Options,
    progress: &dyn Progress,
) -> Result<Result<Option<Vec<Layer>>, &'static str>, Error> {
    let cuts = cut::cuts(&spool.file, options).map_err(crate::unpack::io("cannot read the spooled layer"))?;
    let parts = match cuts.as_deref().map(|cuts| (cuts, parts::plan(cuts, size))) {
        Some((cuts, Ok(parts))) if parts.len() > 1 => (cuts, parts),
        Some((_, Ok(_))) => return Ok(Ok(None)),
        Some((_, Err(why))) => return Ok(Err(why)),
        None => return Ok(Err("its archive cannot be cut between entries")),
    };
    let (cuts, parts) = parts;
    let before = Stack::replay_shown(records, reading(options))?;
    let before = shown(&before, origins);

    let layers: Vec<Layer> = parts.iter().map(|part| Layer::bare(spool.part(cuts, part))).collect();
    let alone = Image { name: None, manifest: None, config: None, layers, notices: Vec::new() };
    let read = read_records(&alone, options, progress)?;
    let (Some(whole), Some(origin)) = (records.pop(), origins.pop()) else { return Ok(Ok(None)) };
    let below = records.len();
    let mut layers = Vec::new();
    for ((layer, read), part) in alone.layers.into_iter().zip(read).zip(&parts) {
        let contents = part.iter().filter_map(|&entry| cuts[entry].content);
        origins.push(Origin { layer: origin.layer, contents: Some(contents.collect()) });
        records.push(read.record);
        let blob = layer.blob.stated(Some(read.facts.digest), Some(read.facts.size));
        layers.push(Layer { diff_id: Some(read.facts.diff_id), ..Layer::bare(blob) });
    }
    let same = match Stack::replay_shown(records, reading(options)) {
        Ok(after) => shown(&after, origins) == before,
        Err(_) if options.cancel.is_cancelled() => return Err(Error::Cancelled),
        Err(_) => false,
    };
    if same {
        return Ok(Ok(Some(layers)));
    }
    records.truncate(below);
    origins.truncate(below);
    records.push(whole);
    origins.push(origin);
    Ok(Err("its parts would not show the same files"))
}

/// All entries of a layer's archive.
type Cuts = [Cut];
/// The entries of a part, by their places in the layer's archive.
type Part = Vec<usize>;
