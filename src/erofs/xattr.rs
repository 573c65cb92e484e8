//! Extended attributes: right behind their inode, or, where several files have the same one or it is large, in an area that all share.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hasher};

use hashbrown::HashMap;

use super::error::Lost;
use super::inode;
use super::options::Shape;
use crate::core::layer::{Holder, kept_in_image};
use crate::core::overlayfs::Attribute;
use crate::core::record::Attributes;

const USER: u8 = 1;
const ACL_ACCESS: u8 = 2;
const ACL_DEFAULT: u8 = 3;
const TRUSTED: u8 = 4;
const SECURITY: u8 = 6;

/// Bytes before an inode's attributes.
const HEADER: usize = 12;
/// Numbers of shared attributes and attributes in full begin at multiples of this.
const ALIGNMENT: usize = 4;
/// How many shared attributes an inode can have.
const MOST_SHARED: usize = 255;
/// Bytes of an inode's attributes. The format has room for four times as much; kernels have counted them in 16 bits.
pub(super) const MOST_BYTES: usize = 65_532;

/// An attribute as it is written: lengths, number of the name's prefix, rest of the name, value.
type Encoded = Box<[u8]>;

/// What overlayfs must know of an inode, besides the attributes that the image gives to it.
pub(super) type Own<'a> = &'a [Attribute];

/// The attributes of an inode, as they are written.
pub(super) fn encoded(
    attributes: &Attributes,
    mode: u32,
    own: Own<'_>,
    shape: Shape,
    selinux: bool,
    lost: &mut dyn FnMut(&Lost<'_>),
) -> Vec<Encoded> {
    let mut all = Vec::with_capacity(attributes.xattrs.iter().len() + own.len());
    let holder = holder(mode);
    for (name, value) in attributes.xattrs.iter() {
        if name == b"security.selinux" && !selinux {
            continue;
        }
        match kept_in_image(holder, name, value, attributes.mode) {
            Ok(None) => {}
            Ok(Some(value)) => {
                let name = match shape {
                    Shape::Merged => Cow::Borrowed(name),
                    Shape::Layered(namespace) => namespace.escaped(name),
                };
                match encode(&name, &value) {
                    Some(encoded) => all.push(encoded),
                    None => lost(&Lost::Xattr { name: &name, why: "EROFS has no such names" }),
                }
            }
            Err(why) => lost(&Lost::Xattr { name, why }),
        }
    }
    if let Shape::Layered(namespace) = shape {
        for &attribute in own {
            let (name, value) = namespace.attribute(attribute);
            all.extend(encode(name.as_bytes(), value));
        }
    }
    all
}

fn holder(mode: u32) -> Holder {
    match mode & 0o170_000 {
        inode::DIRECTORY => Holder::Directory,
        inode::FILE => Holder::File,
        inode::SYMLINK => Holder::Symlink,
        _ => Holder::Special,
    }
}

fn encode(name: &[u8], value: &[u8]) -> Option<Encoded> {
    let (prefix, rest) = match name {
        b"system.posix_acl_access" => (ACL_ACCESS, &b""[..]),
        b"system.posix_acl_default" => (ACL_DEFAULT, &b""[..]),
        _ => [(&b"user."[..], USER), (b"trusted.", TRUSTED), (b"security.", SECURITY)]
            .into_iter()
            .find_map(|(prefix, number)| Some((number, name.strip_prefix(prefix)?)))
            .filter(|(_, rest)| !rest.is_empty())?,
    };
    let mut bytes = Vec::with_capacity((4 + rest.len() + value.len()).next_multiple_of(ALIGNMENT));
    bytes.extend_from_slice(&[u8::try_from(rest.len()).ok()?, prefix]);
    bytes.extend_from_slice(&u16::try_from(value.len()).ok()?.to_le_bytes());
    bytes.extend_from_slice(rest);
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    Some(bytes.into())
}

/// The area of attributes that several inodes share.
#[derive(Debug, Default)]
pub(super) struct SharedXattrs {
    /// How often an attribute was counted, by its hash: most are met once, and need not be kept for that.
    counts: HashMap<u64, u32>,
    /// The numbers of those that lie there: their places, in units of four bytes.
    numbers: HashMap<Encoded, u32>,
    /// Where the next one goes.
    end: u32,
}

impl SharedXattrs {
    /// Counts attributes of an inode, before any are placed.
    pub(super) fn count(&mut self, attributes: &[Encoded]) {
        for attribute in attributes {
            *self.counts.entry(hash(attribute)).or_default() += 1;
        }
    }

    /// Decides which attributes of an inode are shared: those that others have as well, and so many of the largest that the rest fits into `room`.
    /// Returns the bytes that stand behind the inode; an error is how many there would be, and are too many.
    pub(super) fn place(&mut self, attributes: &[Encoded], room: usize) -> Result<usize, usize> {
        let mut inline: Vec<&Encoded> = Vec::new();
        let mut shared = 0;
        for attribute in attributes {
            let is_common = self.counts.get(&hash(attribute)).is_some_and(|&count| count > 1);
            if is_common && shared < MOST_SHARED && self.share(attribute) {
                shared += 1;
            } else {
                inline.push(attribute);
            }
        }
        inline.sort_by_key(|attribute| attribute.len());
        let size = |inline: &[&Encoded], shared: usize| {
            HEADER + ALIGNMENT * shared + inline.iter().map(|attribute| attribute.len()).sum::<usize>()
        };
        while size(&inline, shared) > room && shared < MOST_SHARED {
            match inline.pop() {
                Some(largest) if self.share(largest) => shared += 1,
                _ => break,
            }
        }
        match size(&inline, shared) {
            HEADER => Ok(0),
            size if size > MOST_BYTES => Err(size),
            size => Ok(size),
        }
    }

    /// Whether there is room for it in the area.
    fn share(&mut self, attribute: &Encoded) -> bool {
        if self.numbers.contains_key(attribute) {
            return true;
        }
        let units = (attribute.len() / ALIGNMENT) as u32;
        let Some(end) = self.end.checked_add(units) else {
            return false;
        };
        self.numbers.insert(attribute.clone(), self.end);
        self.end = end;
        true
    }

    /// What stands behind an inode that was placed.
    pub(super) fn write(&self, attributes: &[Encoded], bytes: &mut Vec<u8>) {
        if attributes.is_empty() {
            return;
        }
        let mut numbers: Vec<u32> = attributes.iter().filter_map(|one| self.numbers.get(one).copied()).collect();
        numbers.truncate(MOST_SHARED);
        bytes.extend_from_slice(&[0; 4]); // no filter of names
        bytes.extend_from_slice(&[numbers.len() as u8, 0, 0, 0, 0, 0, 0, 0]);
        numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        let mut shared = 0;
        for attribute in attributes {
            if shared < MOST_SHARED && self.numbers.contains_key(attribute) {
                shared += 1;
            } else {
                bytes.extend_from_slice(attribute);
            }
        }
    }

    /// Bytes of the area.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.end) * ALIGNMENT as u64
    }

    /// The area.
    pub(super) fn area(&self) -> Vec<&Encoded> {
        let mut all: Vec<_> = self.numbers.iter().collect();
        all.sort_unstable_by_key(|&(_, number)| number);
        all.into_iter().map(|(attribute, _)| attribute).collect()
    }

    /// When all are placed.
    pub(super) fn forget_counts(&mut self) {
        self.counts = HashMap::new();
    }
}

/// Always the same for the same bytes, as the image must be.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
