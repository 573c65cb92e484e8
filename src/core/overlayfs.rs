//! The vocabulary of the kernel's overlayfs: names and values of its extended attributes
//! (Documentation/filesystems/overlayfs.rst).

use std::borrow::Cow;

/// The namespace of the extended attributes that the kernel's overlayfs obeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XattrNamespace {
    /// `trusted.overlay.*`: needs CAP_SYS_ADMIN in the initial user namespace.
    Trusted,
    /// `user.overlay.*`: for mounts with `userxattr`, as in a user namespace.
    User,
}

impl XattrNamespace {
    /// What the names of overlayfs' own attributes begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.",
            Self::User => "user.overlay.",
        }
    }

    /// An attribute of overlayfs in this namespace.
    pub fn attribute(self, attribute: Attribute) -> (String, &'static [u8]) {
        let (name, value): (_, &[u8]) = match attribute {
            Attribute::Opaque => ("opaque", b"y"),
            Attribute::HoldsWhiteouts => ("origin", b""),
            Attribute::NestedWhiteout => ("overlay.whiteout", b"y"),
            Attribute::HoldsNestedWhiteouts => ("overlay.opaque", b"x"),
        };
        (format!("{}{name}", self.prefix()), value)
    }

    /// The name under which an attribute of the image must be kept, for the mount to show it under its own and not obey
    /// it (rule A7).
    pub fn escaped(self, name: &[u8]) -> Cow<'_, [u8]> {
        match name.strip_prefix(self.prefix().as_bytes()) {
            Some(rest) => Cow::Owned([self.prefix().as_bytes(), b"overlay.", rest].concat()),
            None => Cow::Borrowed(name),
        }
    }
}

/// What overlay layers say with extended attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    /// A directory that hides all that lies below it (rule O2).
    Opaque,
    /// A directory with whiteouts in it, which overlayfs then looks for when it lists the directory (rule O1).
    HoldsWhiteouts,
    /// An empty file that the mount shows as a whiteout for an overlay on top: what a genuine device 0:0 becomes (rule A6).
    NestedWhiteout,
    /// A directory with such files in it.
    HoldsNestedWhiteouts,
}
