//! Parses overlayfs whiteouts and xattrs: what a directory of changes says with device numbers and extended attributes.

use crate::core::overlayfs::XattrNamespace;
use crate::core::record::Xattrs;
use crate::tree::{Snapshot, TreeEntry, TreeKind};

/// The escaped form of the attribute of a whiteout that is a file.
const NESTED_WHITEOUT: &str = "overlay.whiteout";

/// Reads whiteouts in one namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Overlay {
    prefix: &'static str,
}

/// Where a renamed thing was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// A path from the root.
    Absolute(Vec<u8>),
    /// Another name in the same directory.
    Sibling(Vec<u8>),
}

impl Overlay {
    pub(crate) fn new(namespace: XattrNamespace) -> Self {
        Self { prefix: namespace.prefix() }
    }

    /// The namespace that a tree has whiteouts in: that of privileged mounts, if there are any, since to those the
    /// other one is data.
    pub(crate) fn namespace_of(tree: &Snapshot) -> XattrNamespace {
        let has = |namespace: XattrNamespace| {
            let overlay = Self::new(namespace);
            tree.entries().any(|(_, entry)| overlay.has_any(entry))
        };
        match has(XattrNamespace::Trusted) || !has(XattrNamespace::User) {
            true => XattrNamespace::Trusted,
            false => XattrNamespace::User,
        }
    }

    /// Whether a tree says anything in overlayfs' words.
    pub(crate) fn are_in(self, tree: &Snapshot) -> bool {
        tree.entries().any(|(_, entry)| self.has_any(entry) || entry.kind == TreeKind::CharacterDevice(0, 0))
    }

    fn has_any(self, entry: &TreeEntry) -> bool {
        entry.xattrs.iter().any(|(name, _)| name.starts_with(self.prefix.as_bytes()))
    }

    fn get<'e>(self, entry: &'e TreeEntry, name: &str) -> Option<&'e [u8]> {
        entry.xattrs.get(format!("{}{name}", self.prefix).as_bytes())
    }

    /// Whether it hides what is below.
    pub(crate) fn is_whiteout(self, entry: &TreeEntry) -> bool {
        match entry.kind {
            TreeKind::CharacterDevice(0, 0) => true,
            TreeKind::File { size: 0 } => self.get(entry, "whiteout").is_some(),
            _ => false,
        }
    }

    /// Whether a directory hides all that is below.
    pub(crate) fn is_opaque(self, directory: &TreeEntry) -> bool {
        self.get(directory, "opaque") == Some(b"y")
    }

    /// Where the rest of a directory, or the data of a file, is below.
    pub(crate) fn redirect(self, entry: &TreeEntry) -> Option<Redirect> {
        let target = self.get(entry, "redirect")?;
        Some(match target.strip_prefix(b"/") {
            Some(path) => Redirect::Absolute(path.to_vec()),
            None => Redirect::Sibling(target.to_vec()),
        })
    }

    /// Whether a file holds attributes only, and its data is below.
    pub(crate) fn is_metacopy(self, entry: &TreeEntry) -> bool {
        matches!(entry.kind, TreeKind::File { .. }) && self.get(entry, "metacopy").is_some()
    }

    /// Whether it stands for a genuine device 0:0, which an overlay cannot hold (rule A6).
    pub(crate) fn is_nested_whiteout(self, entry: &TreeEntry) -> bool {
        matches!(entry.kind, TreeKind::File { size: 0 }) && self.get(entry, NESTED_WHITEOUT).is_some()
    }

    /// Whether this is, once it is unescaped, the attribute of a whiteout that is a file.
    pub(crate) fn is_whiteout_mark(self, name: &[u8]) -> bool {
        name.strip_prefix(self.prefix.as_bytes()) == Some(b"whiteout")
    }

    /// What is left of the attributes when overlayfs' own are gone and the escaped ones are themselves again (rule A7).
    pub(crate) fn cleaned(self, xattrs: &Xattrs) -> Xattrs {
        let clean = |(name, value): (&[u8], &[u8])| {
            let name = match name.strip_prefix(self.prefix.as_bytes()) {
                None => name.to_vec(),
                Some(own) => [self.prefix.as_bytes(), own.strip_prefix(b"overlay.")?].concat(),
            };
            Some((name, value.to_vec()))
        };
        xattrs.iter().filter_map(clean).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a7_escaped_attributes_lose_one_level() {
        let xattrs: Xattrs = [
            (&b"trusted.overlay.origin"[..], &b""[..]),
            (b"trusted.overlay.overlay.opaque", b"y"),
            (b"trusted.overlay.overlay.overlay.x", b"1"),
            (b"user.overlay.opaque", b"y"),
            (b"user.k", b"v"),
        ]
        .into_iter()
        .collect();
        let cleaned = Overlay::new(XattrNamespace::Trusted).cleaned(&xattrs);
        let names: Vec<&[u8]> = cleaned.iter().map(|(name, _)| name).collect();
        let expected: [&[u8]; 4] =
            [b"trusted.overlay.opaque", b"trusted.overlay.overlay.x", b"user.k", b"user.overlay.opaque"];
        assert_eq!(names, expected);
    }
}
