//! Whose a file becomes: the one place that knows of owners that are shifted or recorded. No I/O here.
//!
//! Where owners are shifted, so are the other ids that a file has: those in its ACLs, and that of the root for whom its
//! capabilities count. In a user namespace of its own a process need do neither: there the kernel does.

use std::borrow::Cow;

use rustix::fs::FileType;

use crate::core::layer::{CAPABILITY, shift_acl, shift_capability};
use crate::core::record::Attributes;
use crate::unpack::Owners;

/// An id that the map does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotMapped;

impl Owners {
    /// The owner and group to give to a file.
    pub(super) fn owner(&self, attributes: &Attributes) -> Result<(u32, u32), NotMapped> {
        match self {
            Self::Shifted(maps) => {
                let (uid, gid) = (maps.uids.outside(attributes.uid), maps.gids.outside(attributes.gid));
                uid.zip(gid).ok_or(NotMapped)
            }
            Self::AsTheyAre | Self::Recorded => Ok((attributes.uid, attributes.gid)),
        }
    }

    /// The value to give to an extended attribute.
    pub(super) fn xattr<'v>(&self, name: &[u8], value: &'v [u8]) -> Result<Cow<'v, [u8]>, NotMapped> {
        match self {
            Self::Shifted(maps) if name.starts_with(b"system.posix_acl_") => {
                shift_acl(value, |uid| maps.uids.outside(uid), |gid| maps.gids.outside(gid))
                    .map(Cow::Owned)
                    .ok_or(NotMapped)
            }
            Self::Shifted(maps) if name == CAPABILITY => {
                shift_capability(value, |uid| maps.uids.outside(uid)).ok_or(NotMapped)
            }
            _ => Ok(Cow::Borrowed(value)),
        }
    }
}

/// What [`OVERRIDE_STAT`](crate::OVERRIDE_STAT) says of a file: `uid:gid:mode:type`, the mode in octal with a zero
/// before it.
pub(super) fn record(attributes: &Attributes, file_type: FileType) -> String {
    let kind = if file_type == FileType::Directory { "dir" } else { "file" };
    format!("{}:{}:0{:o}:{kind}", attributes.uid, attributes.gid, attributes.mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::idmap::{IdMap, IdMaps, IdRange};
    use std::sync::Arc;

    fn shifted() -> Owners {
        let map = |outside| IdMap::new(vec![IdRange { inside: 0, outside, count: 1000 }]).unwrap();
        Owners::Shifted(Arc::new(IdMaps { uids: map(100_000), gids: map(200_000) }))
    }

    #[test]
    fn capabilities_count_for_the_shifted_root() {
        let mut value = vec![1, 0, 0, 2];
        value.extend([0x20; 16]);
        let new = shifted().xattr(b"security.capability", &value).unwrap().into_owned();
        assert_eq!(new.len(), 24);
        assert_eq!(
            (&new[..4], &new[4..20], &new[20..]),
            (&[1, 0, 0, 3][..], &value[4..], &100_000u32.to_le_bytes()[..])
        );
        // A root that the map does not have.
        let mut other = new;
        other[20..].copy_from_slice(&1000u32.to_le_bytes());
        assert_eq!(shifted().xattr(b"security.capability", &other), Err(NotMapped));
        assert_eq!(shifted().xattr(b"user.note", b"x").unwrap(), &b"x"[..]);
        assert_eq!(Owners::AsTheyAre.xattr(b"security.capability", &value).unwrap(), value);
    }

    #[test]
    fn records_are_those_of_containers_storage() {
        let attributes = Attributes { uid: 1000, gid: 1011, mode: 0o4755, ..Attributes::of_unnamed_directory() };
        assert_eq!(record(&attributes, FileType::RegularFile), "1000:1011:04755:file");
        assert_eq!(record(&attributes, FileType::Directory), "1000:1011:04755:dir");
    }
}
