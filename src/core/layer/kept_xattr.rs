//! Which extended attributes Linux keeps on which kind of file: what setting them comes to, told without a file system.
//!
//! An image of a file system is mounted as it is, and nobody sets anything, so what the kernel would have done must be done where such an
//! image is made.

use std::borrow::Cow;

use super::acl;

/// Bytes of a name: the kernel's XATTR_NAME_MAX.
const LONGEST_NAME: usize = 255;
/// Bytes of a value: the kernel's XATTR_SIZE_MAX.
const LONGEST_VALUE: usize = 65_536;

/// What decides about the attributes that a file can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    Directory,
    File,
    Symlink,
    /// A device, a FIFO or a socket.
    Special,
}

/// The value that is there after root has set an attribute, if there is one; an error says why the kernel refuses it.
/// `mode` is that of the file.
pub(crate) fn kept_xattr<'v>(
    holder: Holder,
    name: &[u8],
    value: &'v [u8],
    mode: u32,
) -> Result<Option<Cow<'v, [u8]>>, &'static str> {
    if value.len() > LONGEST_VALUE {
        return Err("its value is longer than 65536 bytes");
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

/// The same for images of file systems, whose formats count the bytes of a value in 16 bits.
pub(crate) fn kept_in_image<'v>(
    holder: Holder,
    name: &[u8],
    value: &'v [u8],
    mode: u32,
) -> Result<Option<Cow<'v, [u8]>>, &'static str> {
    if value.len() > usize::from(u16::MAX) {
        return Err("its value is longer than 65535 bytes");
    }
    kept_xattr(holder, name, value, mode)
}

/// Whether there are attributes of such a name at all; ACLs aside.
pub(crate) fn has_namespace(name: &[u8]) -> bool {
    let rest = [&b"user."[..], b"trusted.", b"security."].into_iter().find_map(|prefix| name.strip_prefix(prefix));
    rest.is_some_and(|rest| !rest.is_empty()) || name.starts_with(b"system.posix_acl_")
}

/// Whether the kernel takes it for capabilities of revision 2 or 3 (`validheader`, security/commoncap.c).
fn is_capability(value: &[u8]) -> bool {
    matches!((value, value.len()), ([0 | 1, 0, 0, 2, ..], 20) | ([0 | 1, 0, 0, 3, ..], 24))
}
