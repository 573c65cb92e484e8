//! Reads layers again for contents of which the index says too little: those with holes too large to be hashed.

use std::convert::Infallible;

use hashbrown::HashMap;

use crate::compare::SparseHasher;
use crate::core::filter::Filter;
use crate::core::layer::{Failure, Place, Sink, Unkept, read_layer};
use crate::core::record::{Attributes, ContentId, NameId, Names};
use crate::image::Image;
use crate::unpack::read::read_layers;
use crate::unpack::{Error, NoProgress, Options};

/// The hashes of contents for which it does not matter which of their zeros are stored. Each layer is read once.
pub(in crate::inspect) fn sparse_hashes(
    image: &Image,
    contents: &[(usize, ContentId)],
    options: &Options,
) -> Result<HashMap<(usize, ContentId), [u8; 32]>, Error> {
    let options = &Options { filter: Filter::default(), ..options.clone() };
    let mut layers: Vec<usize> = contents.iter().map(|&(layer, _)| layer).collect();
    layers.sort_unstable();
    layers.dedup();
    let read = read_layers(image, &layers, options, &NoProgress, &|layer, stream, read, tell| {
        let wanted = contents.iter().filter(|&&(of, _)| of == layer).map(|&(_, content)| (content, None));
        let mut sink = SparseHashing { hashes: wanted.collect(), count: 0, current: None };
        Ok((read_layer(stream, &mut sink, read, tell)?, sink.hashes))
    })?;
    let mut all = HashMap::new();
    for (layer, read) in layers.into_iter().zip(read) {
        all.extend(read.kept.into_iter().filter_map(|(content, hash)| Some(((layer, content), hash?))));
    }
    Ok(all)
}

/// Hashes the wanted contents.
struct SparseHashing {
    hashes: HashMap<ContentId, Option<[u8; 32]>>,
    /// Files begun so far.
    count: u32,
    current: Option<(ContentId, u64, SparseHasher)>,
}

impl Sink for SparseHashing {
    type Error = Infallible;

    fn begin(
        &mut self,
        _: &Names,
        _: NameId,
        _: &Attributes,
        size: u64,
        _: Place,
    ) -> Result<ContentId, Failure<Infallible>> {
        let content = ContentId(self.count);
        self.count += 1;
        let is_wanted = self.hashes.contains_key(&content);
        self.current = is_wanted.then(|| (content, size, SparseHasher::default()));
        Ok(content)
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure<Infallible>> {
        if let Some((_, _, hasher)) = &mut self.current {
            hasher.data(offset, bytes);
        }
        Ok(())
    }

    fn end(&mut self, _: &Attributes) -> Result<(), Failure<Infallible>> {
        if let Some((content, size, hasher)) = self.current.take() {
            self.hashes.insert(content, Some(hasher.finish(size)));
        }
        Ok(())
    }

    fn unkept(&mut self, _: NameId, _: Unkept) {}
}
