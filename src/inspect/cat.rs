//! Prints the content of one file.

use std::io::Write;

use super::{Inside, InsideError};
use crate::core::stack::{Last, Node};
use crate::inspect::index::copy_content;
use crate::unpack::Options;

impl Inside<'_> {
    /// Writes a regular file's content, holes as zeros. Symlinks are followed, the last one too, as under chroot.
    ///
    /// # Errors
    /// Nothing is there, something else than a regular file is, the layer cannot be read, or `out` fails.
    pub fn cat(&self, path: &[u8], out: &mut dyn Write, options: &Options) -> Result<(), InsideError> {
        let lookup = |error| InsideError::lookup(path, error);
        let found = self.stack.resolve(path, Last::Follow).map_err(lookup)?;
        let content = match found.node {
            Node::Leaf(inode) => self.content(inode),
            Node::Directory { .. } => None,
        };
        let Some((layer, id, known)) = content else {
            let kind = self.entry(found.path.clone(), found.node, None).kind;
            return Err(InsideError::NoContent { path: found.path, kind });
        };
        Ok(copy_content(&self.image.layers[layer], layer, id, known, out, options)?)
    }
}
