//! What one of the two names means.

use std::ffi::OsString;
use std::path::Path;

use anyhow::bail;
use layflat::inspect::{Holding, Inside, ShownTree};
use layflat::lowerdirs::form_of;

use super::super::arguments::Looked;

/// One of the two.
pub(super) enum Named<'a> {
    Directory(&'a Path),
    Image(&'a OsString),
}

impl<'a> Named<'a> {
    /// What a name means. A directory that layflat made is refused if it is not a tree itself: what it holds would be
    /// compared with a tree name by name.
    pub(super) fn of(name: &'a OsString) -> anyhow::Result<Self> {
        let path = Path::new(name);
        if !path.is_dir() || path.join("oci-layout").is_file() {
            return Ok(Self::Image(name));
        }
        match form_of(path).as_deref() {
            None => Ok(Self::Directory(path)),
            Some("bundle") => {
                bail!("{path:?} is a bundle: compare {:?}, where its image is mounted", path.join("rootfs"))
            }
            Some(_) => bail!(
                "{path:?} holds the layers of an image one by one, not the tree that they show together: compare the image \
                 itself, or the target of `layflat mount {} TARGET`",
                layflat::core::text::Printable(name.as_encoded_bytes())
            ),
        }
    }
}

/// What an image shows.
pub(super) fn shown<'l>(name: &OsString, looked: &'l Looked, holding: Holding<'_>) -> anyhow::Result<ShownTree<'l>> {
    let inside = Inside::new(&looked.image, &looked.indexes, &looked.options)?;
    Ok(inside.shown_tree(Path::new(name), holding, &looked.options)?)
}
