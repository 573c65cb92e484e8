//! One difference between two trees, for people (`Display`, one line) and for programs (`Serialize`).

use super::acl::AclKind;
use crate::core::text::{Bytes, Timestamp};
use crate::tree::KindName;
use std::fmt;

/// Where two trees differ, and how.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TreeDifference {
    /// The path in both trees, without a leading slash; `/` for their roots.
    pub path: Bytes,
    /// How they differ there.
    #[serde(flatten)]
    pub what: What,
}

/// How two trees differ at one path.
///
/// Where the types differ, nothing else is compared: what a link's mode or a directory's mtime is says nothing about a
/// file in its place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum What {
    /// The second tree has no such name. What lies below it is counted, not listed.
    OnlyInA {
        /// What it is.
        #[serde(rename = "type")]
        kind: KindName,
        /// How many names lie below it.
        below: u64,
        /// Bytes of the files there and below. An inode is counted once, and not at all if it also has a name that both
        /// trees have.
        bytes: u64,
    },
    /// The first tree has no such name. What lies below it is counted, not listed.
    OnlyInB {
        /// What it is.
        #[serde(rename = "type")]
        kind: KindName,
        /// How many names lie below it.
        below: u64,
        /// Bytes of the files there and below. An inode is counted once, and not at all if it also has a name that both
        /// trees have.
        bytes: u64,
    },
    /// Directory here, file there, and so on. The names below a directory are listed as only in that tree.
    Type {
        /// In the first tree.
        a: KindName,
        /// In the second tree.
        b: KindName,
    },
    /// Permission bits, setuid, setgid, sticky. Symbolic links have none of their own.
    Mode {
        /// In the first tree.
        #[serde(serialize_with = "octal")]
        a: u32,
        /// In the second tree.
        #[serde(serialize_with = "octal")]
        b: u32,
    },
    /// User and group.
    Owner {
        /// In the first tree.
        a: (u32, u32),
        /// In the second tree.
        b: (u32, u32),
    },
    /// Modification time, to the nanosecond.
    Mtime {
        /// In the first tree.
        #[serde(serialize_with = "text")]
        a: Timestamp,
        /// In the second tree.
        #[serde(serialize_with = "text")]
        b: Timestamp,
    },
    /// Bytes of a file.
    Size {
        /// In the first tree.
        a: u64,
        /// In the second tree.
        b: u64,
    },
    /// Files of one size that hold different bytes.
    Content {
        /// Position of the first byte that differs; known where both files were read, and not only their hashes
        /// compared.
        #[serde(skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
    },
    /// What a symbolic link points to.
    LinkTarget {
        /// In the first tree.
        a: Bytes,
        /// In the second tree.
        b: Bytes,
    },
    /// Major and minor number of a device.
    Device {
        /// In the first tree.
        a: (u32, u32),
        /// In the second tree.
        b: (u32, u32),
    },
    /// One extended attribute.
    Xattr {
        /// Its name.
        name: Bytes,
        /// In the first tree; none where it is missing.
        a: Option<Bytes>,
        /// In the second tree; none where it is missing.
        b: Option<Bytes>,
    },
    /// An access control list, in the text form of acl(5).
    Acl {
        /// Which one.
        acl: AclKind,
        /// In the first tree; none where it is missing.
        a: Option<Bytes>,
        /// In the second tree; none where it is missing.
        b: Option<Bytes>,
    },
    /// Names that both trees have share their inodes otherwise.
    ///
    /// Each inner list holds the names of one inode. The path is the first name of all.
    HardLinks {
        /// In the first tree.
        a: Vec<Vec<Bytes>>,
        /// In the second tree.
        b: Vec<Vec<Bytes>>,
    },
}

impl fmt::Display for TreeDifference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path, self.what)
    }
}

impl fmt::Display for What {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyInA { kind, below, .. } => write!(formatter, "only in A ({kind}{})", Below(*below)),
            Self::OnlyInB { kind, below, .. } => write!(formatter, "only in B ({kind}{})", Below(*below)),
            Self::Type { a, b } => sides(formatter, "type", a, b),
            Self::Mode { a, b } => sides(formatter, "mode", format_args!("{a:04o}"), format_args!("{b:04o}")),
            Self::Owner { a, b } => {
                sides(formatter, "owner", format_args!("{}:{}", a.0, a.1), format_args!("{}:{}", b.0, b.1))
            }
            Self::Mtime { a, b } => sides(formatter, "mtime", a, b),
            Self::Size { a, b } => sides(formatter, "size", a, b),
            Self::Content { offset: Some(offset) } => write!(formatter, "content: differs from byte {offset} on"),
            Self::Content { offset: None } => formatter.write_str("content: differs"),
            Self::LinkTarget { a, b } => sides(formatter, "link target", a, b),
            Self::Device { a, b } => {
                sides(formatter, "device number", format_args!("{}:{}", a.0, a.1), format_args!("{}:{}", b.0, b.1))
            }
            Self::Xattr { name, a, b } => {
                sides(formatter, format_args!("attribute {name}"), Value(a.as_ref()), Value(b.as_ref()))
            }
            Self::Acl { acl, a, b } => {
                let name = match acl {
                    AclKind::Access => "ACL",
                    AclKind::Default => "default ACL",
                };
                sides(formatter, name, Value(a.as_ref()), Value(b.as_ref()))
            }
            Self::HardLinks { a, b } => sides(formatter, "hard links", Groups(a), Groups(b)),
        }
    }
}

fn sides(
    formatter: &mut fmt::Formatter<'_>,
    name: impl fmt::Display,
    a: impl fmt::Display,
    b: impl fmt::Display,
) -> fmt::Result {
    write!(formatter, "{name}: {a} in A, {b} in B")
}

/// How many names lie below, where there are any.
struct Below(u64);

impl fmt::Display for Below {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            1 => formatter.write_str(", 1 name below"),
            names => write!(formatter, ", {names} names below"),
        }
    }
}

/// A value that may be missing, and may be too long for a line.
struct Value<'a>(Option<&'a Bytes>);

impl fmt::Display for Value<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 200;
        match self.0 {
            None => formatter.write_str("none"),
            Some(value) => match value.as_bytes().get(..LONGEST) {
                Some(start) if value.as_bytes().len() > LONGEST => {
                    let length = value.as_bytes().len();
                    write!(formatter, "\"{}\"… ({length} bytes)", crate::core::text::Printable(start))
                }
                _ => write!(formatter, "\"{value}\""),
            },
        }
    }
}

/// `{a, b} {c}`.
struct Groups<'a>(&'a [Vec<Bytes>]);

impl fmt::Display for Groups<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, group) in self.0.iter().enumerate() {
            formatter.write_str(if index == 0 { "{" } else { " {" })?;
            for (index, name) in group.iter().enumerate() {
                write!(formatter, "{}{name}", if index == 0 { "" } else { ", " })?;
            }
            formatter.write_str("}")?;
        }
        Ok(())
    }
}

fn text<T: fmt::Display, S: serde::Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn octal<S: serde::Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:04o}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_people_and_an_object_for_programs() {
        let name = |text: &str| Bytes::from(text.as_bytes());
        let mode = TreeDifference { path: Bytes::from(&b"d/a\n"[..]), what: What::Mode { a: 0o4755, b: 0o644 } };
        assert_eq!(mode.to_string(), "d/a\\n: mode: 4755 in A, 0644 in B");
        assert_eq!(serde_json::to_string(&mode).unwrap(), r#"{"path":"d/a\\n","what":"mode","a":"4755","b":"0644"}"#);
        let links = What::HardLinks { a: vec![vec![name("a"), name("b")]], b: vec![vec![name("a")], vec![name("b")]] };
        assert_eq!(links.to_string(), "hard links: {a, b} in A, {a} {b} in B");
        let xattr = What::Xattr { name: name("user.k"), a: Some(Bytes::from([0xff])), b: None };
        assert_eq!(xattr.to_string(), "attribute user.k: \"\\xff\" in A, none in B");
        let only = What::OnlyInB { kind: KindName::Directory, below: 1, bytes: 0 };
        assert_eq!(only.to_string(), "only in B (directory, 1 name below)");
    }
}
