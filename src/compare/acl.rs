//! POSIX ACLs as the kernel hands them out: `system.posix_acl_access` and `system.posix_acl_default` hold a version
//! (2), then tag, permissions and id of each entry, little-endian (include/uapi/linux/posix_acl_xattr.h).

use std::fmt::Write as _;

/// Which of a file's ACLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AclKind {
    /// Decides who may do what.
    Access,
    /// What new files in a directory start with.
    Default,
}

impl AclKind {
    /// The kind that an extended attribute holds, if it holds an ACL.
    pub(super) fn of_xattr(name: &[u8]) -> Option<Self> {
        match name {
            b"system.posix_acl_access" => Some(Self::Access),
            b"system.posix_acl_default" => Some(Self::Default),
            _ => None,
        }
    }
}

/// The text form of acl(5), entries with commas between: `user::rw-,user:1000:r--,group::r--,mask::r--,other::---`.
/// `None` for what is not an ACL.
pub(super) fn to_text(value: &[u8]) -> Option<String> {
    let (version, entries) = value.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != 2 || entries.len() % 8 != 0 {
        return None;
    }
    let mut text = String::new();
    for entry in entries.chunks_exact(8) {
        let (name, named) = match u16::from_le_bytes([entry[0], entry[1]]) {
            0x01 => ("user", false),
            0x02 => ("user", true),
            0x04 => ("group", false),
            0x08 => ("group", true),
            0x10 => ("mask", false),
            0x20 => ("other", false),
            _ => return None,
        };
        let bits = u16::from_le_bytes([entry[2], entry[3]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let id = if named { id.to_string() } else { String::new() };
        let may = |bit, letter| if bits & bit != 0 { letter } else { '-' };
        let comma = if text.is_empty() { "" } else { "," };
        // writing to a String cannot fail
        let _ = write!(text, "{comma}{name}:{id}:{}{}{}", may(4, 'r'), may(2, 'w'), may(1, 'x'));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acl_reads_as_text() {
        let mut value = 2u32.to_le_bytes().to_vec();
        for (tag, bits, id) in [(1u16, 6u16, u32::MAX), (2, 4, 1000), (4, 5, u32::MAX), (16, 7, 0), (32, 0, 0)] {
            value.extend(tag.to_le_bytes());
            value.extend(bits.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        assert_eq!(to_text(&value).unwrap(), "user::rw-,user:1000:r--,group::r-x,mask::rwx,other::---");
        assert_eq!(to_text(&value[..value.len() - 1]), None);
        assert_eq!(to_text(b"\x03\0\0\0"), None);
        assert_eq!(to_text(b""), None);
    }
}
