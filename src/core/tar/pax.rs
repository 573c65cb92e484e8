//! PAX records: `LENGTH KEY=VALUE\n`, taken by their length, so that values may hold newlines and any byte
//! (POSIX pax, "pax Extended Header"; Go strconv.go `parsePAXRecord`).

use super::ArchiveError;
use crate::core::text::Timestamp;

/// The records of one extended header, by key; of a doubled key the last counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Records(pub(super) Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    pub(super) fn parse(mut rest: &[u8]) -> Result<Self, ArchiveError> {
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        // GNU sparse format 0.0 repeats two keys; they are joined into the list that format 0.1 has.
        let mut map: Vec<&[u8]> = Vec::new();
        while !rest.is_empty() {
            let (key, value, after) = record(rest)?;
            rest = after;
            match key {
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                    let expected: &[u8] =
                        if map.len().is_multiple_of(2) { b"GNU.sparse.offset" } else { b"GNU.sparse.numbytes" };
                    if key != expected || value.contains(&b',') {
                        return Err(ArchiveError::SparseMap);
                    }
                    map.push(value);
                }
                _ => records.push((key.to_vec(), value.to_vec())),
            }
        }
        if !map.is_empty() {
            records.push((b"GNU.sparse.map".to_vec(), map.join(&b',')));
        }
        // Stable, so that of equal keys the last one stays last.
        records.sort_by(|one, other| one.0.cmp(&other.0));
        records.reverse();
        records.dedup_by(|later, kept| later.0 == kept.0);
        records.reverse();
        Ok(Self(records))
    }

    /// A record's value; an empty one counts as none.
    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let found = self.0.binary_search_by(|(name, _)| name.as_slice().cmp(key)).ok()?;
        Some(self.0[found].1.as_slice()).filter(|value| !value.is_empty())
    }

    pub(super) fn number(&self, key: &'static str) -> Result<Option<i64>, ArchiveError> {
        self.get(key.as_bytes()).map(|value| decimal(key, value)).transpose()
    }

    pub(super) fn time(&self, key: &'static str) -> Result<Option<Timestamp>, ArchiveError> {
        self.get(key.as_bytes()).map(|value| time(key, value)).transpose()
    }
}

/// Key, value, and what follows.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// One record off the front.
fn record(text: &[u8]) -> Result<Record<'_>, ArchiveError> {
    let malformed = || ArchiveError::PaxRecord(text[..text.len().min(40)].to_vec());
    let space = text.iter().position(|&byte| byte == b' ').ok_or_else(malformed)?;
    let length = std::str::from_utf8(&text[..space]).ok().and_then(|digits| digits.parse::<i64>().ok());
    let length = length.and_then(|length| usize::try_from(length).ok()).ok_or_else(malformed)?;
    if length < 5 || length > text.len() || length < space + 2 {
        return Err(malformed());
    }
    let (record, rest) = text.split_at(length);
    let Some((b'\n', body)) = record[space + 1..].split_last() else {
        return Err(malformed());
    };
    let equals = body.iter().position(|&byte| byte == b'=').ok_or_else(malformed)?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    let is_text = matches!(key, b"path" | b"linkpath" | b"uname" | b"gname");
    if key.is_empty() || (if is_text { value } else { key }).contains(&0) {
        return Err(malformed());
    }
    Ok((key, value, rest))
}

/// A decimal number with an optional sign.
pub(super) fn decimal(field: &'static str, value: &[u8]) -> Result<i64, ArchiveError> {
    let number = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| ArchiveError::Number { field, value: value.to_vec() })
}

/// Seconds with an optional fraction, of which nine digits count (Go `parsePAXTime`).
fn time(field: &'static str, value: &[u8]) -> Result<Timestamp, ArchiveError> {
    let wrong = || ArchiveError::Number { field, value: value.to_vec() };
    let (whole, fraction) = match value.iter().position(|&byte| byte == b'.') {
        Some(point) => (&value[..point], &value[point + 1..]),
        None => (value, &[][..]),
    };
    let seconds = decimal(field, whole)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let digit = |index: usize| fraction.get(index).map_or(0, |digit| u32::from(digit - b'0'));
    let nanoseconds = (0..9).fold(0, |value, index| value * 10 + digit(index));
    if whole.starts_with(b"-") && nanoseconds > 0 {
        let seconds = seconds.checked_sub(1).ok_or_else(wrong)?;
        return Ok(Timestamp { seconds, nanoseconds: 1_000_000_000 - nanoseconds });
    }
    Ok(Timestamp { seconds, nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t1_records_are_taken_by_their_length() {
        let records = Records::parse(b"14 user.x=1\n2\n13 size=1024\n").unwrap();
        assert_eq!(records.get(b"user.x"), Some(&b"1\n2"[..]));
        assert_eq!(records.number("size").unwrap(), Some(1024));
        let doubled = Records::parse(b"9 path=a\n9 path=b\n8 path=\n").unwrap();
        assert_eq!(doubled.get(b"path"), None);
        let doubled = Records::parse(b"9 path=a\n9 path=b\n").unwrap();
        assert_eq!(doubled.get(b"path"), Some(&b"b"[..]));
    }

    #[test]
    fn t1_a_malformed_record_is_an_error() {
        for bad in [&b"x"[..], b"9 path=a", b"99 path=a\n", b"11 path=a\n", b"6 =ab\n", b"7 path\n\n", b"10 path=a\0\n"]
        {
            Records::parse(bad).unwrap_err();
        }
        Records::parse(b"-9 path=a\n").unwrap_err();
    }

    #[test]
    fn a2_times_have_nanoseconds_and_signs() {
        let time = |text: &[u8]| super::time("mtime", text).unwrap();
        assert_eq!(time(b"12.5"), Timestamp { seconds: 12, nanoseconds: 500_000_000 });
        assert_eq!(time(b"-1.25"), Timestamp { seconds: -2, nanoseconds: 750_000_000 });
        assert_eq!(time(b"-1"), Timestamp { seconds: -1, nanoseconds: 0 });
        assert_eq!(time(b"1.1234567891"), Timestamp { seconds: 1, nanoseconds: 123_456_789 });
        super::time("mtime", b"1.x").unwrap_err();
        super::time("mtime", b".5").unwrap_err();
    }
}
