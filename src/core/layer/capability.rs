//! File capabilities, as the extended attribute `security.capability` has them.
//!
//! Those of revision 3 say for which root they count (`struct vfs_ns_cap_data`, include/uapi/linux/capability.h); those of
//! revision 2 count for the first namespace's.

use std::borrow::Cow;

/// The name of the attribute.
pub(crate) const CAPABILITY: &[u8] = b"security.capability";
/// Where the revision stands.
const REVISION: usize = 3;

/// The same capabilities for another root; `None` if there is no other.
pub(crate) fn shift_root(value: &[u8], uid: impl Fn(u32) -> Option<u32>) -> Option<Cow<'_, [u8]>> {
    let (body, root) = match (value.get(REVISION), value.len()) {
        (Some(2), 20) => (value, 0),
        (Some(3), 24) => {
            let (body, root) = value.split_at(20);
            (body, u32::from_le_bytes([root[0], root[1], root[2], root[3]]))
        }
        // What is no such attribute is for the kernel to judge.
        _ => return Some(Cow::Borrowed(value)),
    };
    let root = uid(root)?;
    let mut shifted = body.to_vec();
    // The first root of all is the one that images mean.
    shifted[REVISION] = if root == 0 { 2 } else { 3 };
    if root != 0 {
        shifted.extend_from_slice(&root.to_le_bytes());
    }
    Some(Cow::Owned(shifted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_count_for_another_root() {
        let mut image = vec![1, 0, 0, 2];
        image.extend([0x20; 16]);
        let outside = shift_root(&image, |uid| Some(uid + 100_000)).unwrap().into_owned();
        assert_eq!((outside.len(), outside[3], &outside[4..20]), (24, 3, &image[4..]));
        assert_eq!(outside[20..], 100_000_u32.to_le_bytes());
        assert_eq!(shift_root(&outside, |uid| uid.checked_sub(100_000)).unwrap(), image);
        assert_eq!(shift_root(&image, |uid| uid.checked_sub(100_000)), None);
        assert_eq!(shift_root(b"x", |_| None).unwrap(), &b"x"[..]);
    }
}
