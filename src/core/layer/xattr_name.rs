//! Names of extended attributes in `SCHILY.xattr.` records.
//!
//! A record's key ends at its first `=`, so GNU tar writes `%3D` for it in an attribute's name, and `%25` for `%`; when
//! it reads, it takes these two back and leaves any other `%` alone. Programs in Go write and read names as they are,
//! and cannot write one with a `=`. So a name is written raw wherever it is read raw as the same by both, and encoded
//! as little as it takes where it is not.

const ENCODED: [(&[u8], u8); 2] = [(b"%25", b'%'), (b"%3D", b'=')];

/// The name that is meant.
pub(super) fn read(written: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(written.len());
    let mut rest = written;
    while let [first, after @ ..] = rest {
        match ENCODED.iter().find(|(code, _)| rest.starts_with(code)) {
            Some((code, byte)) => {
                name.push(*byte);
                rest = &rest[code.len()..];
            }
            None => {
                name.push(*first);
                rest = after;
            }
        }
    }
    name
}

/// How a name is written; the same bytes, for most.
pub(super) fn written(name: &[u8]) -> Vec<u8> {
    let mut written = Vec::with_capacity(name.len());
    for (at, &byte) in name.iter().enumerate() {
        let looks_encoded = ENCODED.iter().any(|(code, _)| name[at..].starts_with(code));
        match byte {
            b'=' => written.extend_from_slice(b"%3D"),
            b'%' if looks_encoded => written.extend_from_slice(b"%25"),
            byte => written.push(byte),
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a3_names_are_written_raw_where_they_can_be() {
        for (name, expected) in [
            ("user.a", "user.a"),
            ("user.p%q %", "user.p%q %"),
            ("user.a=b", "user.a%3Db"),
            ("user.p%25q", "user.p%2525q"),
            ("user.%3D%%25=", "user.%253D%%2525%3D"),
            ("user.%2=", "user.%2%3D"),
        ] {
            assert_eq!(written(name.as_bytes()), expected.as_bytes());
        }
    }

    #[test]
    fn a3_what_is_written_is_read() {
        // Every name of up to six of the bytes that matter.
        let bytes = *b"%=23D5";
        for length in 0..=6 {
            for number in 0..6_usize.pow(length) {
                let name: Vec<u8> = (0..length).map(|at| bytes[number / 6_usize.pow(at) % 6]).collect();
                let written = written(&name);
                assert!(!written.contains(&b'='));
                assert_eq!(read(&written), name);
            }
        }
    }
}
