//! Converts the fields and records of an archive entry to a file's attributes: rules A1 to A3.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::{acl, xattr_name};
use crate::core::record::Attributes;
use crate::core::tar::Entry;
use crate::core::text::Printable;

/// What an archive states and nobody can carry out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{record}: {reason}")]
pub struct Unkept {
    /// The PAX record.
    pub record: String,
    /// Why it is of no use.
    pub reason: String,
}

/// Attributes that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttributeError {
    /// An owner or group outside of 0 to 4294967294 (rule A1).
    #[error("{what} {value} is out of range: 0 to 4294967294")]
    Id {
        /// `uid` or `gid`.
        what: &'static str,
        /// What the archive says.
        value: i64,
    },
}

const SCHILY_XATTR: &[u8] = b"SCHILY.xattr.";
const LIBARCHIVE_XATTR: &[u8] = b"LIBARCHIVE.xattr.";

impl Attributes {
    /// The attributes that an entry states, and what of them cannot be understood.
    ///
    /// # Errors
    /// An owner or group that Linux does not have.
    pub fn of_entry(entry: &Entry) -> Result<(Self, Vec<Unkept>), AttributeError> {
        let id = |what, value: i64| match u32::try_from(value) {
            Ok(id) if id != u32::MAX => Ok(id),
            _ => Err(AttributeError::Id { what, value }),
        };
        let (xattrs, unkept) = xattrs(entry);
        let attributes = Self {
            mode: mode(entry, &xattrs),
            uid: id("uid", entry.uid)?,
            gid: id("gid", entry.gid)?,
            mtime: entry.mtime,
            atime: entry.atime.unwrap_or(entry.mtime),
            xattrs: xattrs.into_iter().collect(),
        };
        Ok((attributes, unkept))
    }
}

/// The mode's bits. bsdtar writes the permissions of the owning group there and not the ACL's mask, as the kernel does:
/// what an ACL says of owner, mask and others counts.
fn mode(entry: &Entry, xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> u32 {
    let mode = (entry.mode & 0o7777) as u32;
    let is_text = entry.record(b"SCHILY.acl.access").is_some_and(|text| !text.is_empty());
    let acl = xattrs.get(&b"system.posix_acl_access"[..]).filter(|_| is_text);
    acl.and_then(|acl| acl::permission_bits(acl)).map_or(mode, |bits| mode & 0o7000 | bits)
}

/// Extended attributes and ACLs. What says the same thing twice is overridden by the more exact one: star's raw
/// values win over libarchive's encoded ones, and those over the text of an ACL.
///
/// Names are read as their writers mean them. bsdtar writes each attribute twice, both times with a URL-encoded name,
/// and takes the star one for the name itself when it reads: that makes two attributes of one. Whoever writes a
/// `SCHILY` name alone means it as [`xattr_name`] has it.
fn xattrs(entry: &Entry) -> (BTreeMap<Vec<u8>, Vec<u8>>, Vec<Unkept>) {
    let mut found = BTreeMap::new();
    let mut unkept = Vec::new();
    let mut refuse = |record: &[u8], reason: String| {
        unkept.push(Unkept { record: Printable(record).to_string(), reason });
    };
    for (record, name) in [
        (&b"SCHILY.acl.access"[..], &b"system.posix_acl_access"[..]),
        (b"SCHILY.acl.default", b"system.posix_acl_default"),
    ] {
        match entry.record(record).filter(|text| !text.is_empty()).map(acl::to_xattr) {
            Some(Ok(value)) => drop(found.insert(name.to_vec(), value)),
            Some(Err(error)) => refuse(record, error.to_string()),
            None => {}
        }
    }
    if let Some(label) = entry.record(b"RHT.security.selinux") {
        found.insert(b"security.selinux".to_vec(), label.to_vec());
    }
    for (record, value) in &entry.records {
        if let Some(name) = record.strip_prefix(LIBARCHIVE_XATTR) {
            match decoded(name, value) {
                Some((name, value)) => drop(found.insert(name, value)),
                None => refuse(record, "its name or value is not encoded as libarchive does".to_owned()),
            }
        }
    }
    for (record, value) in &entry.records {
        if let Some(written) = record.strip_prefix(SCHILY_XATTR) {
            let is_twin = entry.record(&[LIBARCHIVE_XATTR, written].concat()).is_some();
            let name = if is_twin { url_decoded(written) } else { None };
            found.insert(name.unwrap_or_else(|| xattr_name::read(written)), value.clone());
        }
    }
    found.retain(|name, _| {
        let possible = !name.is_empty() && name.len() <= 255 && !name.contains(&0);
        if !possible {
            refuse(&name[..name.len().min(60)], "no name of an extended attribute: 1 to 255 bytes".to_owned());
        }
        possible
    });
    (found, unkept)
}

/// libarchive: the name is URL-encoded, the value base64 without padding.
fn decoded(name: &[u8], value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let value = GeneralPurpose::new(&base64::alphabet::STANDARD, config).decode(value).ok()?;
    Some((url_decoded(name)?, value))
}

fn url_decoded(name: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let mut rest = name;
    while let [first, after @ ..] = rest {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            plain.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            plain.push(*first);
            rest = after;
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tar::EntryKind;
    use crate::core::text::Timestamp;

    fn entry(records: &[(&[u8], &[u8])]) -> Entry {
        let mut records: Vec<_> = records.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        records.sort();
        Entry {
            kind: EntryKind::File,
            name: b"f".to_vec(),
            link_name: Vec::new(),
            mode: 0o100_644,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Timestamp { seconds: 5, nanoseconds: 6 },
            atime: None,
            device: (0, 0),
            sparse: false,
            records,
        }
    }

    #[test]
    fn a1_ids_are_numeric_and_in_range() {
        let with = |uid, gid| Attributes::of_entry(&Entry { uid, gid, ..entry(&[]) });
        assert_eq!(with(4_294_967_294, 0).unwrap().0.uid, 4_294_967_294);
        assert_eq!(with(4_294_967_295, 0).unwrap_err(), AttributeError::Id { what: "uid", value: 4_294_967_295 });
        assert_eq!(with(0, -1).unwrap_err(), AttributeError::Id { what: "gid", value: -1 });
        assert_eq!(with(0, 0).unwrap().0.mode, 0o644);
    }

    #[test]
    fn a2_atime_is_mtime_unless_stated() {
        assert_eq!(Attributes::of_entry(&entry(&[])).unwrap().0.atime, Timestamp { seconds: 5, nanoseconds: 6 });
    }

    #[test]
    fn a3_values_are_bytes_and_schily_wins() {
        let entry = entry(&[
            (b"SCHILY.xattr.user.a", b"1\n2\0\xff"),
            (b"SCHILY.xattr.user.empty", b""),
            (b"LIBARCHIVE.xattr.user.a", b"b2xk"),
            (b"LIBARCHIVE.xattr.user.b%3d%25", b"bmV3Cg"),
        ]);
        let (attributes, unkept) = Attributes::of_entry(&entry).unwrap();
        assert_eq!(unkept, []);
        let xattrs: Vec<_> = attributes.xattrs.iter().collect();
        let expected: [(&[u8], &[u8]); 3] = [(b"user.a", b"1\n2\0\xff"), (b"user.b=%", b"new\n"), (b"user.empty", b"")];
        assert_eq!(xattrs, expected);
    }

    #[test]
    fn a3_names_of_attributes_are_what_their_writers_mean() {
        let names = |records: &[(&[u8], &[u8])]| -> Vec<(String, Vec<u8>)> {
            let (attributes, unkept) = Attributes::of_entry(&entry(records)).unwrap();
            assert_eq!(unkept, []);
            attributes.xattrs.iter().map(|(name, value)| (Printable(name).to_string(), value.to_vec())).collect()
        };
        let one = |name: &str| vec![(name.to_owned(), b"1".to_vec())];
        // GNU tar encodes these two, and nothing else.
        for (written, name) in [
            ("a%3Db", "a=b"),
            ("p%25q", "p%q"),
            ("p%2525q", "p%25q"),
            ("%253D", "%3D"),
            ("a%20b", "a%20b"),
            ("p%q", "p%q"),
        ] {
            let record = format!("SCHILY.xattr.user.{written}");
            assert_eq!(names(&[(record.as_bytes(), b"1")]), one(&format!("user.{name}")));
        }
        // bsdtar writes each attribute twice.
        for (written, name) in
            [("a%3Db", "a=b"), ("p%2525q", "p%25q"), ("a%20b", "a b"), ("%C3%BC", "\u{fc}"), ("plain", "plain")]
        {
            let records = [format!("LIBARCHIVE.xattr.user.{written}"), format!("SCHILY.xattr.user.{written}")];
            assert_eq!(
                names(&[(records[0].as_bytes(), b"MQ"), (records[1].as_bytes(), b"1")]),
                one(&format!("user.{name}"))
            );
        }
        // Where only the one or the other is there, it counts for itself.
        let both: [(&[u8], &[u8]); 2] = [(b"LIBARCHIVE.xattr.user.a%20b", b"MQ"), (b"SCHILY.xattr.user.c%20d", b"1")];
        assert_eq!(names(&both), [one("user.a b"), one("user.c%20d")].concat());
    }

    #[test]
    fn a4_what_cannot_be_understood_is_reported() {
        let entry = entry(&[
            (b"SCHILY.acl.access", b"user:lisa:rwx"),
            (b"LIBARCHIVE.xattr.user.b", b"***"),
            (b"SCHILY.xattr.", b"x"),
        ]);
        let (attributes, unkept) = Attributes::of_entry(&entry).unwrap();
        assert!(attributes.xattrs.is_empty());
        assert_eq!(unkept.len(), 3);
    }
}
