//! Converts a file's attributes to the fields and records of an archive entry: the inverse of rules A1 to A3.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::{acl, xattr_name};
use crate::core::record::Attributes;
use crate::core::tar::{Entry, EntryKind};

impl Attributes {
    /// An entry of this kind that states these attributes; links, devices and sizes are for the caller to fill in.
    ///
    /// ACLs are stated twice: as text, which GNU tar and bsdtar take, and as the extended attributes that they are, for
    /// the engines written in Go, which take nothing else.
    pub fn to_entry(&self, kind: EntryKind, name: Vec<u8>) -> Entry {
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for (name, value) in self.xattrs.iter() {
            // The mode counts, as when both are set on a file (rule A1).
            let value = match name {
                b"system.posix_acl_access" => acl::with_mode(value, self.mode),
                _ => value.to_vec(),
            };
            let record = match name {
                b"system.posix_acl_access" => Some(&b"SCHILY.acl.access"[..]),
                b"system.posix_acl_default" => Some(&b"SCHILY.acl.default"[..]),
                _ => None,
            };
            if let (Some(record), Some(text)) = (record, acl::to_text(&value)) {
                records.push((record.to_vec(), text));
            }
            let written = xattr_name::written(name);
            if written != name {
                // bsdtar takes a star name as it is, and this one for what it means.
                let encoded = [b"LIBARCHIVE.xattr.", &url_encoded(name)[..]].concat();
                records.push((encoded, STANDARD_NO_PAD.encode(&value).into_bytes()));
            }
            records.push(([b"SCHILY.xattr.", &written[..]].concat(), value));
        }
        records.sort();
        Entry {
            kind,
            name,
            link_name: Vec::new(),
            mode: self.mode.into(),
            uid: self.uid.into(),
            gid: self.gid.into(),
            size: 0,
            mtime: self.mtime,
            atime: (self.atime != self.mtime).then_some(self.atime),
            device: (0, 0),
            sparse: false,
            records,
        }
    }
}

/// libarchive's encoding of an attribute's name.
fn url_encoded(name: &[u8]) -> Vec<u8> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.iter().flat_map(|&byte| if plain(byte) { vec![byte] } else { format!("%{byte:02X}").into_bytes() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::text::Timestamp;

    #[test]
    fn a3_what_goes_out_comes_in_again() {
        let acl = acl::to_xattr(b"user::rw-,user:1000:rwx,group::r--,mask::rwx,other::---").unwrap();
        let xattrs: [(&[u8], &[u8]); 6] = [
            (b"user.a=b%c", b"\0\xff\n"),
            (b"user.p%25q r", b"1"),
            (b"user.p%q", b"2"),
            (b"user.empty", b""),
            (b"security.capability", b"\x01\0\0\x02"),
            (b"system.posix_acl_access", &acl),
        ];
        let attributes = Attributes {
            mode: 0o4670,
            uid: 4_294_967_294,
            gid: 7,
            mtime: Timestamp { seconds: -5, nanoseconds: 6 },
            atime: Timestamp { seconds: 5, nanoseconds: 6 },
            xattrs: xattrs.into_iter().collect(),
        };
        let (read, unkept) = Attributes::of_entry(&attributes.to_entry(EntryKind::File, b"f".to_vec())).unwrap();
        assert_eq!(unkept, []);
        assert_eq!(read, attributes);
    }
}
