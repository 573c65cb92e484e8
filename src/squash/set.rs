//! Squashes several images at once, for `copy` with filters.

use std::path::Path;

use super::filter;
use crate::transport::source::{Named, Tree};
use crate::unpack::{Error, Options, Progress};

/// Applies [`Options::filter`] to every image, also to those that indexes list. What is attached to images stays as it
/// is.
///
/// # Errors
/// As [`filter`].
pub fn filter_all(
    images: Vec<Named>,
    scratch: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<Named>, Error> {
    if options.filter.is_empty() {
        return Ok(images);
    }
    let filtered = |mut image: Named| {
        let mut pending = vec![&mut image.content];
        while let Some(tree) = pending.pop() {
            match tree {
                Tree::Image(image) => **image = filter(image, scratch, options, progress)?,
                Tree::Index(index) => pending.extend(&mut index.entries),
                Tree::Attachment(_) => {}
            }
        }
        Ok(image)
    };
    images.into_iter().map(filtered).collect()
}
