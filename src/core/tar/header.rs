//! The fields of a 512-byte header block, as Go's `archive/tar` reads them (reader.go `readHeader`, strconv.go).

use tar::Header;

use super::ArchiveError;

pub(super) const BLOCK: usize = 512;

/// Which dialect a header is written in; they differ in what lies behind the owner's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    V7,
    Ustar,
    Star,
    Gnu,
}

/// A header's fields, before extended headers are applied.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    pub(super) dialect: Dialect,
    pub(super) kind: u8,
    pub(super) name: Vec<u8>,
    pub(super) link_name: Vec<u8>,
    pub(super) mode: i64,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) size: i64,
    pub(super) mtime: i64,
    pub(super) device: (i64, i64),
}

/// Reads one header block whose checksum is not checked yet.
pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Fields, ArchiveError> {
    check_sum(block)?;
    let header = Header::from_byte_slice(block);
    let old = header.as_old();
    let dialect = dialect(block);
    let mut fields = Fields {
        dialect,
        kind: old.linkflag[0],
        name: text(&old.name).to_vec(),
        link_name: text(&old.linkname).to_vec(),
        mode: number("mode", &old.mode)?,
        uid: number("uid", &old.uid)?,
        gid: number("gid", &old.gid)?,
        size: number("size", &old.size)?,
        mtime: number("mtime", &old.mtime)?,
        device: (0, 0),
    };
    if dialect != Dialect::V7 {
        // Both lie where ustar has them, in every dialect.
        fields.device = (number("devmajor", &block[329..337])?, number("devminor", &block[337..345])?);
    }
    let prefix = match dialect {
        Dialect::V7 => &[][..],
        Dialect::Ustar => text(&block[345..500]),
        Dialect::Star => {
            // Nobody wants these times, but a field that is not a number is a damaged header.
            number("atime", &block[476..488])?;
            number("ctime", &block[488..500])?;
            text(&block[345..476])
        }
        // Go before 1.8 wrote a prefix into GNU headers, over the times; its reader still takes those.
        Dialect::Gnu if !has_gnu_times(block) => {
            Some(text(&block[345..500])).filter(|prefix| prefix.is_ascii()).unwrap_or_default()
        }
        Dialect::Gnu => &[],
    };
    if !prefix.is_empty() {
        fields.name = [prefix, b"/", &fields.name].concat();
    }
    Ok(fields)
}

/// The checksum is over all bytes, its own field taken as spaces; some old programs summed signed bytes.
fn check_sum(block: &[u8; BLOCK]) -> Result<(), ArchiveError> {
    let field = &block[148..156];
    let spaces = i64::from(b' ') * field.len() as i64;
    let stated = octal(field).ok_or(ArchiveError::Checksum)?;
    if stated == sum(block) - sum(field) + spaces {
        return Ok(());
    }
    // A byte from 128 on counts for 256 less.
    let negative = |bytes: &[u8]| 256 * bytes.iter().filter(|byte| !byte.is_ascii()).count() as i64;
    let signed = |bytes: &[u8]| sum(bytes) - negative(bytes);
    if stated == signed(block) - signed(field) + spaces { Ok(()) } else { Err(ArchiveError::Checksum) }
}

/// Of unsigned bytes. In parts whose sums fit into 16 bits, which processors add many of at once.
fn sum(bytes: &[u8]) -> i64 {
    let of_part = |part: &[u8]| i64::from(part.iter().map(|&byte| u16::from(byte)).sum::<u16>());
    bytes.chunks(128).map(of_part).sum()
}

fn dialect(block: &[u8; BLOCK]) -> Dialect {
    match (&block[257..263], &block[263..265]) {
        (b"ustar\0", _) if block[508..] == *b"tar\0" => Dialect::Star,
        (b"ustar\0", _) => Dialect::Ustar,
        (b"ustar ", b" \0") => Dialect::Gnu,
        _ => Dialect::V7,
    }
}

fn has_gnu_times(block: &[u8; BLOCK]) -> bool {
    [&block[345..357], &block[357..369]].iter().all(|time| time[0] == 0 || parse_number(time).is_some())
}

/// A text field: up to its first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A numeric field, octal or base-256.
pub(super) fn number(name: &'static str, field: &[u8]) -> Result<i64, ArchiveError> {
    parse_number(field).ok_or_else(|| ArchiveError::Number { field: name, value: field.to_vec() })
}

fn parse_number(field: &[u8]) -> Option<i64> {
    match field {
        [first, ..] if first & 0x80 != 0 => base_256(field),
        _ => octal(field),
    }
}

/// Two's complement, most significant byte first, with the topmost bit set as a mark.
fn base_256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let mut value = 0u64;
    for (index, &byte) in field.iter().enumerate() {
        let mut byte = if negative { !byte } else { byte };
        if index == 0 {
            byte &= 0x7f;
        }
        if value >> 56 != 0 {
            return None;
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).ok()?;
    Some(if negative { !value } else { value })
}

/// Octal digits, padded with spaces and NULs on either side; nothing at all is 0.
fn octal(field: &[u8]) -> Option<i64> {
    let pad = |byte: &u8| matches!(byte, b' ' | 0);
    let Some(start) = field.iter().position(|byte| !pad(byte)) else {
        return Some(0);
    };
    let end = field.iter().rposition(|byte| !pad(byte))?;
    let digits = text(&field[start..=end]);
    if !digits.iter().all(|digit| matches!(digit, b'0'..=b'7')) {
        return None;
    }
    // At most twelve digits fit a field: no overflow.
    Some(digits.iter().fold(0, |value, digit| value << 3 | i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t1_numbers_are_octal_or_base_256() {
        assert_eq!(parse_number(b"0000644\0"), Some(0o644));
        assert_eq!(parse_number(b"  644 \0\0"), Some(0o644));
        assert_eq!(parse_number(b"\0\0\0\0"), Some(0));
        assert_eq!(parse_number(b"12x\0"), None);
        assert_eq!(parse_number(b"19\0"), None);
        assert_eq!(parse_number(b"\x80\0\0\0\0\0\x01\0"), Some(256));
        assert_eq!(parse_number(&[0xff; 12]), Some(-1));
        assert_eq!(parse_number(b"\xff\xff\xff\xff\xff\xff\xff\xfb"), Some(-5));
        assert_eq!(parse_number(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
