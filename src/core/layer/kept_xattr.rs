//! Which extended attributes of an image a file on Linux can have, and with which value: what the kernel does when one is set.
//!
//! An image of a file system is mounted as it is, and nobody sets anything, so it must be done where such an image is made.

use std::borrow::Cow;

use super::acl;

/// Bytes of a value: the kernel's XATTR_SIZE_MAX is one more, and formats count them in 16 bits.
const LONGEST_VALUE: usize = 65_535;
/// Bytes of a name: the kernel's XATTR_NAME_MAX.
const LONGEST_NAME: usize = 255;

/// What decides about the attributes that a file can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    Directory,
    File,
    Symlink,
    Special,
}

/// The value that a file has once this one was set, if any; or why it cannot be set. `mode` are the file's permission bits.
pub(crate) fn kept_xattr<'v>(
    holder: Holder,
    name: &[u8],
    value: &'v [u8],
    mode: u32,
) -> Result<Option<Cow<'v, [u8]>>, &'static str> {
    if value.len() > LONGEST_VALUE {
        return Err("its value is longer than 65535 bytes");
    }
    match name {
        b"system.posix_acl_access" | b"system.posix_acl_default" => {
            let is_default = name.ends_with(b"default");
            if holder == Holder::Symlink || is_default && holder != Holder::Directory {
                return Err("only for other kinds of file");
            }
            if !acl::is_valid(value) {
                return Err("not a valid ACL");
            }
            // The mode counts (rule A1).
            let value = if is_default { Cow::Borrowed(value) } else { Cow::Owned(acl::with_mode(value, mode)) };
            Ok((is_default || !acl::is_plain(&value)).then_some(value))
        }
        b"security.capability" if !is_capability(value) => Err("not a valid capability"),
        // xattr(7), "Extended user attributes".
        _ if name.starts_with(b"user.") && !matches!(holder, Holder::File | Holder::Directory) => {
            Err("only for files and directories")
        }
        _ if name.len() > LONGEST_NAME || name.contains(&0) => Err("not a valid name"),
        _ => Ok(Some(Cow::Borrowed(value))),
    }
}

/// Whether the kernel takes it for capabilities of revision 2 or 3 (`validheader`, security/commoncap.c).
fn is_capability(value: &[u8]) -> bool {
    matches!((value, value.len()), ([0 | 1, 0, 0, 2, ..], 20) | ([0 | 1, 0, 0, 3, ..], 24))
}
