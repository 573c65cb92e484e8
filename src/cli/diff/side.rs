//! What one of the two names means.

use std::ffi::OsString;
use std::path::Path;
use std::str::FromStr;

use anyhow::bail;
use layflat::inspect::{Holding, ShownTree};
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

/// Up to which layers two images are looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum AsOf {
    /// Both are images as they are.
    #[default]
    Whole,
    /// The same layer for whatever is an image.
    Both(usize),
    /// One for each side, or all of the image.
    Each(Option<usize>, Option<usize>),
}

impl FromStr for AsOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.parse::<usize>().map_err(|_| format!("expected N or N,M, two numbers of layers; {text:?} is none"))
        };
        let one = |text: &str| if text.is_empty() { Ok(None) } else { number(text).map(Some) };
        match text.split_once(',') {
            Some((a, b)) => Ok(Self::Each(one(a)?, one(b)?)),
            None => number(text).map(Self::Both),
        }
    }
}

impl AsOf {
    /// The layer of each side. Directories have none.
    pub(super) fn sides(self, a: &Named<'_>, b: &Named<'_>) -> anyhow::Result<(Option<usize>, Option<usize>)> {
        let are_images = (matches!(a, Named::Image(_)), matches!(b, Named::Image(_)));
        match self {
            Self::Whole => Ok((None, None)),
            Self::Both(layer) if are_images != (false, false) => {
                Ok((are_images.0.then_some(layer), are_images.1.then_some(layer)))
            }
            Self::Each(a, b) if (are_images.0 || a.is_none()) && (are_images.1 || b.is_none()) => Ok((a, b)),
            _ => bail!("--layer is for images, and a directory has no layers"),
        }
    }
}

/// What an image shows, all of it or as of a layer.
pub(super) fn shown<'l>(
    name: &OsString,
    layer: Option<usize>,
    looked: &'l Looked,
    holding: Holding<'_>,
) -> anyhow::Result<ShownTree<'l>> {
    let inside = looked.inside(layer)?;
    Ok(inside.shown_tree(Path::new(name), holding, &looked.options)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_is_for_both_and_two_for_each() {
        assert_eq!("3".parse(), Ok(AsOf::Both(3)));
        assert_eq!("1,2".parse(), Ok(AsOf::Each(Some(1), Some(2))));
        assert_eq!(",2".parse(), Ok(AsOf::Each(None, Some(2))));
        for wrong in ["", "a", "1,b", "-1"] {
            wrong.parse::<AsOf>().unwrap_err();
        }
        let image = std::ffi::OsString::from("app.tar");
        let (image, directory) = (Named::Image(&image), Named::Directory(Path::new("d")));
        assert_eq!(AsOf::Both(3).sides(&image, &directory).unwrap(), (Some(3), None));
        assert_eq!(AsOf::Each(None, Some(1)).sides(&directory, &image).unwrap(), (None, Some(1)));
        AsOf::Each(Some(1), None).sides(&directory, &image).unwrap_err();
        AsOf::Both(3).sides(&directory, &directory).unwrap_err();
    }
}
