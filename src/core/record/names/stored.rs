//! Serialises names as three flat lists, from which the tree is rebuilt.
//!
//! What is read back is made by interning, so that nothing can come out of it that [`Names`] itself would not make: no
//! cycles, no name twice, no component that could climb.

use std::borrow::Cow;

use serde::{Deserialize, Serialize, Serializer};

use super::{NameId, Names, slice};

/// The root is left out of the lists: it is always there.
#[derive(Serialize, Deserialize)]
pub(super) struct Flat<'a> {
    parents: Vec<u32>,
    lengths: Cow<'a, [u8]>,
    bytes: Cow<'a, [u8]>,
}

impl Serialize for Names {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nodes = &self.nodes[1..];
        let flat = Flat {
            parents: nodes.iter().map(|node| node.parent).collect(),
            lengths: nodes.iter().map(|node| node.length).collect(),
            bytes: nodes.iter().flat_map(|&node| slice(&self.bytes, node)).copied().collect(),
        };
        flat.serialize(serializer)
    }
}

impl TryFrom<Flat<'_>> for Names {
    type Error = &'static str;

    fn try_from(flat: Flat<'_>) -> Result<Self, Self::Error> {
        if flat.parents.len() != flat.lengths.len() {
            return Err("not as many names as lengths");
        }
        let mut names = Self::new();
        let mut rest = flat.bytes.as_ref();
        for (&parent, &length) in flat.parents.iter().zip(flat.lengths.iter()) {
            let (name, after) = rest.split_at_checked(usize::from(length)).ok_or("names end too early")?;
            rest = after;
            let fresh = names.len();
            let safe = !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0);
            if !safe || parent as usize >= fresh {
                return Err("no safe name");
            }
            match names.intern(NameId(parent), name) {
                Some(id) if id.index() == fresh => {}
                _ => return Err("a name twice"),
            }
        }
        if rest.is_empty() { Ok(names) } else { Err("bytes that belong to no name") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::LayerPath;

    #[test]
    fn names_come_back_as_they_were() {
        let mut names = Names::new();
        for path in [&b"usr/lib/x"[..], b"usr/bin", b"\xff\n"] {
            names.intern_path(&LayerPath::normalise(path).unwrap()).unwrap();
        }
        let stored = postcard::to_allocvec(&names).unwrap();
        let back: Names = postcard::from_bytes(&stored).unwrap();
        let paths = |names: &Names| names.ids().map(|id| names.path(id)).collect::<Vec<_>>();
        assert_eq!(paths(&back), paths(&names));
        assert_eq!(back.child(NameId::ROOT, b"\xff\n"), names.child(NameId::ROOT, b"\xff\n"));
    }

    #[test]
    fn what_could_climb_or_go_round_is_refused() {
        let refused = |parents: &[u32], lengths: &[u8], bytes: &[u8]| {
            Names::try_from(Flat { parents: parents.to_vec(), lengths: lengths.into(), bytes: bytes.into() }).is_err()
        };
        assert!(!refused(&[0, 1], &[1, 1], b"ab"));
        assert!(refused(&[0], &[2], b".."));
        assert!(refused(&[0], &[3], b"a/b"));
        assert!(refused(&[1], &[1], b"a"));
        assert!(refused(&[0, 0], &[1, 1], b"aa"));
        assert!(refused(&[0], &[2], b"a"));
        assert!(refused(&[0], &[1], b"ab"));
        assert!(refused(&[0, 0], &[1], b"a"));
    }
}
