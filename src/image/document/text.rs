//! Turns the bytes of a document into text, with U+FFFD for bytes that are not Unicode: Go reads them this way, and
//! Rust's JSON readers would refuse them.

use std::borrow::Cow;

/// The text: bytes that are not UTF-8, and escapes of half a surrogate pair, are U+FFFD.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes);
    let halves = lone_surrogates(&text);
    if halves.is_empty() {
        return text;
    }
    let mut text = text.into_owned();
    for at in halves {
        text.replace_range(at..at + ESCAPE, "\\ufffd");
    }
    Cow::Owned(text)
}

/// The length of `\uXXXX`.
const ESCAPE: usize = 6;

/// Where escapes stand that are half of a pair.
fn lone_surrogates(text: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        match (code(bytes, at), code(bytes, at + ESCAPE)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => at += 2 * ESCAPE,
            (Some(0xd800..=0xdfff), _) => {
                found.push(at);
                at += ESCAPE;
            }
            // Another escape is two bytes long, and the second may be a backslash.
            _ => at += 2,
        }
    }
    found
}

/// The number in an escape `\uXXXX` that stands there.
fn code(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + ESCAPE)?.strip_prefix(b"\\u")?;
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    is_hex.then(|| u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_unicode_is_replaced() {
        for (bytes, expected) in [
            (&br#""a\n\u00e4""#[..], r#""a\n\u00e4""#),
            (b"\"a\xff\"", "\"a\u{fffd}\""),
            (br#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (br#""\ud83dx\ude00""#, r#""\ufffdx\ufffd""#),
            (br#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (br#""\\ud83d""#, r#""\\ud83d""#),
            (br#""\ud83"#, r#""\ud83"#),
        ] {
            assert_eq!(text(bytes), expected);
        }
    }
}
