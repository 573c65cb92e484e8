//! Attributes of a file that was written in a user namespace, as they are seen in there. The way back from
//! [`Owners::Shifted`](crate::unpack::Owners).

use std::borrow::Cow;

use crate::core::idmap::IdMaps;
use crate::core::layer::{CAPABILITY, shift_acl, shift_capability};
use crate::core::record::{Attributes, Xattrs};

/// What the kernel shows of an owner that a namespace does not have (`DEFAULT_OVERFLOWUID`, include/linux/highuid.h).
const NOBODY: u32 = 65534;

/// What the maps do not have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Unmapped {
    /// Owner or group, which is nobody now.
    pub(crate) owner: bool,
    /// Names of extended attributes, which are left out.
    pub(crate) xattrs: Vec<Vec<u8>>,
}

/// Turns ids outside into those inside.
pub(crate) fn turn(attributes: &mut Attributes, maps: &IdMaps) -> Unmapped {
    let mut unmapped = Unmapped::default();
    let mut inside = |id: Option<u32>| {
        unmapped.owner |= id.is_none();
        id.unwrap_or(NOBODY)
    };
    attributes.uid = inside(maps.uids.inside(attributes.uid));
    attributes.gid = inside(maps.gids.inside(attributes.gid));
    let mut xattrs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (name, value) in attributes.xattrs.iter() {
        let turned = match name {
            CAPABILITY => shift_capability(value, |uid| maps.uids.inside(uid)),
            _ if name.starts_with(b"system.posix_acl_") => {
                shift_acl(value, |uid| maps.uids.inside(uid), |gid| maps.gids.inside(gid)).map(Cow::Owned)
            }
            _ => Some(Cow::Borrowed(value)),
        };
        match turned {
            Some(value) => xattrs.push((name.to_owned(), value.into_owned())),
            None => unmapped.xattrs.push(name.to_owned()),
        }
    }
    attributes.xattrs = Xattrs::from_iter(xattrs);
    unmapped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::idmap::{IdMap, IdRange};

    #[test]
    fn what_the_maps_do_not_have_is_told() {
        let map = |outside| IdMap::new(vec![IdRange { inside: 0, outside, count: 1000 }]).unwrap();
        let maps = IdMaps { uids: map(100_000), gids: map(200_000) };
        let mut capability = vec![1, 0, 0, 3];
        capability.extend([0; 16]);
        let of_host = capability.clone();
        capability.extend(100_000_u32.to_le_bytes());
        let xattrs = [(&b"security.capability"[..], &capability[..]), (b"user.k", b"v")];
        let file = Attributes { uid: 100_007, gid: 200_008, ..Attributes::of_unnamed_directory() };
        let mut mapped = Attributes { xattrs: Xattrs::from_iter(xattrs), ..file.clone() };
        assert_eq!(turn(&mut mapped, &maps), Unmapped::default());
        assert_eq!((mapped.uid, mapped.gid), (7, 8));
        let own = mapped.xattrs.get(b"security.capability").unwrap();
        assert_eq!((own.len(), own[3], mapped.xattrs.get(b"user.k")), (20, 2, Some(&b"v"[..])));

        let mut of_host = [of_host, 0_u32.to_le_bytes().to_vec()].concat();
        of_host[3] = 3;
        let mut other =
            Attributes { uid: 0, xattrs: Xattrs::from_iter([(&b"security.capability"[..], of_host)]), ..file };
        let unmapped = Unmapped { owner: true, xattrs: vec![b"security.capability".to_vec()] };
        assert_eq!(turn(&mut other, &maps), unmapped);
        assert_eq!((other.uid, other.gid, other.xattrs.is_empty()), (NOBODY, 8, true));
    }
}
