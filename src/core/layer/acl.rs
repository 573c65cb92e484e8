//! Converts POSIX ACLs from the text in archives to the bytes that the kernel expects.
//!
//! The text is that of acl(5): `user::rw-,user:1000:r--,group::r--,mask::r--,other::---`, separated by commas or
//! newlines; star adds the numeric id as a fourth field. The bytes are those of the extended attributes
//! `system.posix_acl_access` and `system.posix_acl_default` (include/uapi/linux/posix_acl_xattr.h): a version, then
//! for each entry its tag, its permissions and its id, all little-endian.

use crate::core::text::Printable;

const VERSION: u32 = 2;
/// The id of entries that have none.
const NO_ID: u32 = u32::MAX;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// An ACL that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AclError {
    #[error("its entry {:?} is malformed", Printable(.0))]
    Malformed(Vec<u8>),
    #[error("its entry {:?} has a name but no number, and names of the image's users are unknown here", Printable(.0))]
    NameOnly(Vec<u8>),
}

/// Turns the text of an ACL into the bytes of its extended attribute.
pub(super) fn to_xattr(text: &[u8]) -> Result<Vec<u8>, AclError> {
    let mut entries = Vec::new();
    for line in text.split(|byte| matches!(byte, b',' | b'\n')) {
        // getfacl appends what the mask leaves over as a comment.
        let entry = line.split(|&byte| byte == b'#').next().unwrap_or_default().trim_ascii();
        if !entry.is_empty() {
            entries.push(parse(entry)?);
        }
    }
    // The kernel wants them in the order of their tags.
    entries.sort_unstable();
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (tag, id, permissions) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    Ok(bytes)
}

/// Turns the bytes of an ACL's extended attribute into text that names nobody, only numbers; `None` for bytes that are
/// no ACL.
pub(super) fn to_text(xattr: &[u8]) -> Option<Vec<u8>> {
    let (version, entries) = xattr.split_at_checked(4)?;
    let (entries, []) = entries.as_chunks::<8>() else {
        return None;
    };
    if version != VERSION.to_le_bytes() {
        return None;
    }
    let mut lines = Vec::new();
    for &[tag_low, tag_high, bits_low, bits_high, id @ ..] in entries {
        let id = u32::from_le_bytes(id);
        let (tag, id) = match u16::from_le_bytes([tag_low, tag_high]) {
            USER_OBJ => ("user", String::new()),
            USER => ("user", id.to_string()),
            GROUP_OBJ => ("group", String::new()),
            GROUP => ("group", id.to_string()),
            MASK => ("mask", String::new()),
            OTHER => ("other", String::new()),
            _ => return None,
        };
        let bits = u16::from_le_bytes([bits_low, bits_high]);
        let permission = |bit: u16, letter: char| if bits & bit != 0 { letter } else { '-' };
        lines.push(format!("{tag}:{id}:{}{}{}", permission(4, 'r'), permission(2, 'w'), permission(1, 'x')));
    }
    Some(lines.join(",").into_bytes())
}

/// The access ACL of a file whose mode was changed to `mode`: what chmod(2) makes of it.
pub(crate) fn with_mode(xattr: &[u8], mode: u32) -> Vec<u8> {
    let mut changed = xattr.to_vec();
    let Some(entries) = changed.get_mut(4..) else {
        return changed;
    };
    let (entries, _) = entries.as_chunks_mut::<8>();
    let has_mask = entries.iter().any(|entry| entry[..2] == MASK.to_le_bytes());
    for entry in entries {
        let bits = match u16::from_le_bytes([entry[0], entry[1]]) {
            USER_OBJ => mode >> 6,
            GROUP_OBJ if !has_mask => mode >> 3,
            MASK => mode >> 3,
            OTHER => mode,
            _ => continue,
        };
        entry[2..4].copy_from_slice(&((bits & 7) as u16).to_le_bytes());
    }
    changed
}

/// The permissions that the kernel shows as the mode of a file with this access ACL (acl(5), "Correspondence between
/// ACL entries and file permission bits"); `None` where an entry for the owner, the group or others is missing.
pub(super) fn permission_bits(xattr: &[u8]) -> Option<u32> {
    let (entries, _) = xattr.get(4..)?.as_chunks::<8>();
    let of = |tag: u16| {
        let entry = entries.iter().find(|entry| entry[..2] == tag.to_le_bytes())?;
        Some(u32::from(u16::from_le_bytes([entry[2], entry[3]]) & 7))
    };
    Some(of(USER_OBJ)? << 6 | of(MASK).or(of(GROUP_OBJ))? << 3 | of(OTHER)?)
}

/// Whether the kernel takes these bytes for an ACL (`posix_acl_valid`, fs/posix_acl.c): the entries in the order of their tags, the
/// owner, the group and others once each, and a mask where single users or groups are named.
pub(crate) fn is_valid(xattr: &[u8]) -> bool {
    let Some((version, entries)) = xattr.split_at_checked(4) else {
        return false;
    };
    let (entries, []) = entries.as_chunks::<8>() else {
        return false;
    };
    let tags: Vec<u16> = entries.iter().map(|entry| u16::from_le_bytes([entry[0], entry[1]])).collect();
    let count = |tag| tags.iter().filter(|&&other| other == tag).count();
    let has_names = count(USER) + count(GROUP) > 0;
    version == VERSION.to_le_bytes()
        && tags.is_sorted()
        && tags.iter().all(|tag| [USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER].contains(tag))
        && [USER_OBJ, GROUP_OBJ, OTHER].iter().all(|&tag| count(tag) == 1)
        && count(MASK) <= 1
        && (count(MASK) == 1 || !has_names)
        && entries.iter().all(|entry| u16::from_le_bytes([entry[2], entry[3]]) <= 7)
        && entries.iter().filter(|entry| matches!(entry[0].into(), USER | GROUP)).all(|entry| entry[4..] != [0xff; 4])
}

/// Whether an access ACL says no more than a mode does. The kernel keeps none then.
pub(crate) fn is_plain(xattr: &[u8]) -> bool {
    let (entries, _) = xattr.get(4..).unwrap_or_default().as_chunks::<8>();
    entries.iter().all(|entry| matches!(u16::from_le_bytes([entry[0], entry[1]]), USER_OBJ | GROUP_OBJ | OTHER))
}

/// An ACL with other ids in the entries for single users and groups; `None` if one of them has no other.
pub(crate) fn shift_ids(
    xattr: &[u8],
    uid: impl Fn(u32) -> Option<u32>,
    gid: impl Fn(u32) -> Option<u32>,
) -> Option<Vec<u8>> {
    let mut shifted = xattr.to_vec();
    let (entries, _) = shifted.get_mut(4..).unwrap_or_default().as_chunks_mut::<8>();
    for entry in entries {
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let other = match u16::from_le_bytes([entry[0], entry[1]]) {
            USER => uid(id)?,
            GROUP => gid(id)?,
            _ => continue,
        };
        entry[4..].copy_from_slice(&other.to_le_bytes());
    }
    Some(shifted)
}

fn parse(entry: &[u8]) -> Result<(u16, u32, u16), AclError> {
    let malformed = || AclError::Malformed(entry.to_vec());
    let fields: Vec<&[u8]> = entry.split(|&byte| byte == b':').map(<[u8]>::trim_ascii).collect();
    // `other:r--` has one field less than `other::r--`.
    let (tag, name, permissions, id) = match fields.as_slice() {
        [tag @ (b"other" | b"o" | b"mask" | b"m"), permissions] => (*tag, &b""[..], *permissions, None),
        [tag, name, permissions] => (*tag, *name, *permissions, None),
        [tag, name, permissions, id] => (*tag, *name, *permissions, Some(*id)),
        _ => return Err(malformed()),
    };
    let tag = match (tag, name.is_empty()) {
        (b"user" | b"u", true) => USER_OBJ,
        (b"user" | b"u", false) => USER,
        (b"group" | b"g", true) => GROUP_OBJ,
        (b"group" | b"g", false) => GROUP,
        (b"mask" | b"m", true) => MASK,
        (b"other" | b"o", true) => OTHER,
        _ => return Err(malformed()),
    };
    let id = if matches!(tag, USER | GROUP) {
        let digits = id.filter(|id| !id.is_empty()).unwrap_or(name);
        let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        number.filter(|&id| id != NO_ID).ok_or_else(|| AclError::NameOnly(entry.to_vec()))?
    } else {
        NO_ID
    };
    let mut bits = 0;
    for permission in permissions {
        bits |= match permission {
            b'r' => 4,
            b'w' => 2,
            b'x' => 1,
            b'-' => 0,
            _ => return Err(malformed()),
        };
    }
    Ok((tag, id, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a3_acl_text_becomes_the_kernels_bytes() {
        let text = b"user::rw-,group::r--,user:1000:rwx,mask::rwx\t#effective:r--\nother::---,group:audio:r-x:29";
        let mut expected = vec![2, 0, 0, 0];
        for (tag, permissions, id) in
            [(1u16, 6u16, NO_ID), (2, 7, 1000), (4, 4, NO_ID), (8, 5, 29), (0x10, 7, NO_ID), (0x20, 0, NO_ID)]
        {
            expected.extend(tag.to_le_bytes());
            expected.extend(permissions.to_le_bytes());
            expected.extend(id.to_le_bytes());
        }
        assert_eq!(to_xattr(text), Ok(expected));
    }

    #[test]
    fn a3_the_kernels_bytes_become_text_again() {
        let text = b"user::rw-,user:1000:rwx,group::r--,group:29:r-x,mask::rw-,other::---";
        assert_eq!(to_text(&to_xattr(text).unwrap()).unwrap(), text);
        assert_eq!(to_text(b"\x02\0\0\0\x01"), None);
        assert_eq!(to_text(b"\x03\0\0\0"), None);
    }

    #[test]
    fn a1_chmod_changes_the_mask() {
        let after = |text: &[u8], mode| to_text(&with_mode(&to_xattr(text).unwrap(), mode)).unwrap();
        let masked = b"user::rw-,user:7:rwx,group::r--,mask::rw-,other::---";
        assert_eq!(after(masked, 0o755), b"user::rwx,user:7:rwx,group::r--,mask::r-x,other::r-x");
        assert_eq!(after(b"user::rw-,group::r--,other::---", 0o751), b"user::rwx,group::r-x,other::--x");
    }

    #[test]
    fn a3_an_acl_for_a_name_without_a_number_cannot_be_kept() {
        assert_eq!(to_xattr(b"user:lisa:rwx"), Err(AclError::NameOnly(b"user:lisa:rwx".to_vec())));
        assert_eq!(to_xattr(b"user::rwz"), Err(AclError::Malformed(b"user::rwz".to_vec())));
        assert_eq!(to_xattr(b"nonsense"), Err(AclError::Malformed(b"nonsense".to_vec())));
    }

    #[test]
    fn only_the_ids_of_single_users_and_groups_are_shifted() {
        let acl = |text: &[u8]| to_xattr(text).unwrap();
        let before = acl(b"user::rw-,user:7:r--,group::r--,group:7:r-x,mask::rwx,other::---");
        let after = acl(b"user::rw-,user:107:r--,group::r--,group:207:r-x,mask::rwx,other::---");
        assert_eq!(shift_ids(&before, |uid| Some(uid + 100), |gid| Some(gid + 200)), Some(after));
        assert_eq!(shift_ids(&before, |_| None, Some), None);
        assert_eq!(
            shift_ids(&acl(b"user::rw-,group::r--,other::---"), |_| None, |_| None),
            Some(acl(b"u::rw-,g::r--,o:---"))
        );
    }

    #[test]
    fn a3_what_is_no_acl_is_known() {
        let acl = |text: &[u8]| to_xattr(text).unwrap();
        assert!(is_valid(&acl(b"user::rw-,user:7:r--,group::r--,group:7:r-x,mask::rwx,other::---")));
        assert!(is_valid(&acl(b"user::rw-,group::r--,other::---")));
        for text in
            [&b"user::rw-,group::r--"[..], b"user::rw-,user:7:r--,group::r--,other::---", b"u::r,u::w,g::r,o::r"]
        {
            assert!(!is_valid(&acl(text)), "{}", String::from_utf8_lossy(text));
        }
        let mut unsorted = acl(b"user::rw-,group::r--,other::---");
        unsorted[4..20].rotate_left(8);
        for bytes in [&b""[..], b"\x02\0\0\0", b"\x02\0\0\0\x01", b"nonsense", &unsorted] {
            assert!(!is_valid(bytes));
        }
        assert!(is_plain(&acl(b"user::rw-,group::r--,other::---")));
        assert!(!is_plain(&acl(b"user::rw-,group::r--,mask::r--,other::---")));
    }

    #[test]
    fn a3_the_mask_is_the_modes_group() {
        let bits = |text: &[u8]| permission_bits(&to_xattr(text).unwrap());
        assert_eq!(bits(b"user::rw-,group::r--,other::r--,user:67:r--,mask::rw-"), Some(0o664));
        assert_eq!(bits(b"user::rwx,group::r-x,other::--x"), Some(0o751));
        assert_eq!(bits(b"user::rwx,group::r-x"), None);
    }
}
