//! Resolves the `Location` of a response (RFC 9110, 10.2.2) against the address of the request (RFC 3986). It accepts
//! what servers send in practice: blanks, illegal characters, no scheme.

use fluent_uri::{Uri, UriRef};

/// What a `Location` means that came from `base`; nothing if it makes no sense.
pub(super) fn resolve(base: &str, location: &[u8]) -> Option<String> {
    let base = Uri::parse(escape(base.as_bytes())).ok()?;
    let authority = base.authority()?.as_str().to_owned();
    let mut text = escape(location.trim_ascii());
    // Who writes the registry's own place without a scheme means what RFC 3986 takes for a scheme or a directory.
    if text.strip_prefix(&authority).is_some_and(|rest| rest.starts_with('/')) {
        text.insert_str(0, "//");
    }
    // Nor does anyone mean a server without a name.
    for nobody in ["http:///", "https:///"] {
        if text.to_ascii_lowercase().starts_with(nobody) {
            text.replace_range(..nobody.len() - 1, "");
        }
    }
    let whole = UriRef::parse(text).ok()?.resolve_against(&base).ok()?;
    // `https:x` is an address, but of no server.
    whole.authority().filter(|authority| !authority.host().is_empty())?;
    // In small letters, as all that reads it further has it.
    let scheme = whole.scheme().as_str().to_ascii_lowercase();
    let rest = &whole.as_str()[scheme.len()..];
    matches!(scheme.as_str(), "http" | "https").then(|| format!("{scheme}{rest}"))
}

/// All that no address has as `%XX`, and what is not an escape as one of a percent sign. Without what follows `#`,
/// which is never sent.
fn escape(text: &[u8]) -> String {
    let text = text.split(|byte| *byte == b'#').next().unwrap_or_default();
    // Brackets are for the host alone (`[::1]`), which ends where a path begins.
    let start = text.windows(2).position(|window| window == b"//").map_or(0, |at| at + 2);
    let is_end = |byte: &u8| matches!(byte, b'/' | b'?');
    let host_end = text[start..].iter().position(is_end).map_or(text.len(), |at| start + at);
    let is_whole = start > 0 && !text[..start - 2].contains(&b'/') && !text[..start - 2].contains(&b'?');
    let mut escaped = String::with_capacity(text.len());
    for (at, byte) in text.iter().enumerate() {
        let is_escape = || text.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let is_fine = match byte {
            b'[' | b']' => is_whole && at < host_end,
            b'%' => is_escape(),
            byte => byte.is_ascii_alphanumeric() || b"-._~:/?@!$&'()*+,;=".contains(byte),
        };
        if is_fine {
            escaped.push(char::from(*byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_resolved_by_rfc_3986() {
        let base = "https://a.io:5000/v2/x/blobs/uploads/?q#f";
        for (location, expected) in [
            ("https://b.io/1", "https://b.io/1"),
            ("/v2/1?s=2", "https://a.io:5000/v2/1?s=2"),
            ("//b.io/1", "https://b.io/1"),
            ("1", "https://a.io:5000/v2/x/blobs/uploads/1"),
            ("./1?a=b/c", "https://a.io:5000/v2/x/blobs/uploads/1?a=b/c"),
            ("../uploads/1", "https://a.io:5000/v2/x/blobs/uploads/1"),
            ("?id=1", "https://a.io:5000/v2/x/blobs/uploads/?id=1"),
            ("HTTP://b.io/1", "http://b.io/1"),
            ("https://b.io/1#x", "https://b.io/1"),
            (" /s3/x y/1 ", "https://a.io:5000/s3/x%20y/1"),
            ("/1?state=a|b\"{}^`\\<>", "https://a.io:5000/1?state=a%7Cb%22%7B%7D%5E%60%5C%3C%3E"),
            ("/1?s=a%2Bb%3d&p=100%", "https://a.io:5000/1?s=a%2Bb%3d&p=100%25"),
            ("/ä[1]", "https://a.io:5000/%C3%A4%5B1%5D"),
            ("http://[::1]:5000/[1]", "http://[::1]:5000/%5B1%5D"),
            ("a.io:5000/v2/1", "https://a.io:5000/v2/1"),
            ("http:///v2/1", "https://a.io:5000/v2/1"),
            ("https://b.io?x", "https://b.io?x"),
        ] {
            assert_eq!(resolve(base, location.as_bytes()).as_deref(), Some(expected), "{location}");
        }
        assert_eq!(
            resolve("http://localhost:5000/v2/", b"localhost:5000/1").as_deref(),
            Some("http://localhost:5000/1")
        );
        assert_eq!(resolve(base, b"/\xff").as_deref(), Some("https://a.io:5000/%FF"));
        for nonsense in
            ["ftp://b.io/", "mailto:x", "http://[::1/", "https:x", "https:/x", "https://:5000/x", "//:5000/x"]
        {
            assert_eq!(resolve(base, nonsense.as_bytes()), None, "{nonsense}");
        }
    }
}
