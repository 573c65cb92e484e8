//! The vocabulary of the kernel's overlayfs: names and values of its extended attributes
//! (Documentation/filesystems/overlayfs.rst).

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
}
