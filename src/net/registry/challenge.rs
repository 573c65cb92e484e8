//! Parses `WWW-Authenticate`, the challenge of a registry that requires authentication (RFC 9110, 11.6.1), as
//! registries write it and not only as the standard defines it.
//!
//! Read here and not by the crate http-auth, which refuses a whole header for one value without quotes (`Basic
//! realm=/`), where every other client logs in.

use ureq::http::HeaderMap;
use ureq::http::header::WWW_AUTHENTICATE;

/// The schemes that may stand alone, by which they are told from the rest of a value without quotes.
const SCHEMES: [&str; 6] = ["basic", "bearer", "digest", "negotiate", "ntlm", "kerberos"];

/// One authentication scheme that a server accepts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// In lower case.
    pub(super) scheme: String,
    /// Names in lower case.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// A parameter that says something.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// Whether it can be answered by anyone.
    pub(super) fn is_known(&self) -> bool {
        match self.scheme.as_str() {
            "basic" => true,
            "bearer" => self.parameter("realm").is_some(),
            _ => false,
        }
    }
}

/// The challenges of all headers, in their order.
pub(super) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let mut found = Vec::new();
    for value in headers.get_all(WWW_AUTHENTICATE) {
        read(&String::from_utf8_lossy(value.as_bytes()), &mut found);
    }
    found
}

fn read(header: &str, found: &mut Vec<Challenge>) {
    let begin = found.len();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',', ';']);
        let (word, after) = word(rest);
        let behind = after.trim_start();
        if rest.is_empty() {
            return;
        } else if let Some(value) = behind.strip_prefix('=').filter(|_| !word.is_empty()) {
            let (value, after) = self::value(value.trim_start());
            // What stands before any scheme belongs to none.
            if found.len() > begin
                && let Some(challenge) = found.last_mut()
            {
                challenge.parameters.push((word.to_ascii_lowercase(), value));
            }
            rest = after;
        } else if word.is_empty() {
            // A quoted text or a sign that belongs to nothing.
            rest = if rest.starts_with('"') { value(rest).1 } else { &rest[1..] };
        } else {
            let scheme = word.to_ascii_lowercase();
            let alone = behind.is_empty() || behind.starts_with(',');
            if !alone || SCHEMES.contains(&scheme.as_str()) {
                found.push(Challenge { scheme, parameters: Vec::new() });
            }
            rest = after;
        }
    }
}

/// What comes up to a sign that ends a word, and the rest.
fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find([' ', '\t', ',', ';', '=', '"']).unwrap_or(text.len()))
}

/// A parameter's value, and the rest. Without quotes it ends at a comma, or where the next parameter or challenge
/// begins: it may hold blanks.
fn value(text: &str) -> (String, &str) {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut value = String::new();
        let mut escaped = false;
        for (at, character) in quoted.char_indices() {
            match character {
                '\\' if !escaped => escaped = true,
                '"' if !escaped => return (value, &quoted[at + 1..]),
                character => {
                    value.push(character);
                    escaped = false;
                }
            }
        }
        // Without its end it holds all that comes.
        return (value, "");
    }
    // No quotes by the rule, but whoever writes them means some.
    if let Some((value, rest)) = text.strip_prefix('\'').and_then(|quoted| quoted.split_once('\'')) {
        return (value.to_owned(), rest);
    }
    let mut end = 0;
    for (at, character) in text.char_indices() {
        let begins = || {
            let (first, after) = word(text[at..].trim_start());
            let parameter = |text: &str| text.trim_start().starts_with('=');
            let scheme = SCHEMES.iter().any(|scheme| first.eq_ignore_ascii_case(scheme));
            !first.is_empty() && (parameter(after) || scheme && parameter(word(after.trim_start()).1))
        };
        if character == ',' || (character.is_whitespace() && begins()) {
            break;
        }
        end = at + character.len_utf8();
    }
    (text[..end].trim_end().to_owned(), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(headers: &[&str]) -> String {
        let mut found = Vec::new();
        headers.iter().for_each(|header| read(header, &mut found));
        let show = |challenge: &Challenge| {
            let parameters = challenge.parameters.iter().map(|(name, value)| format!(" {name}=<{value}>"));
            parameters.fold(challenge.scheme.clone(), |text, parameter| text + &parameter)
        };
        found.iter().map(show).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        for (headers, expected) in [
            (
                &[
                    r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull,push""#,
                ][..],
                "bearer realm=<https://auth.docker.io/token> service=<registry.docker.io> scope=<repository:a:pull,push>",
            ),
            (&["basic realm=x", "Negotiate"], "basic realm=<x> | negotiate"),
            (&["Negotiate, Basic realm=\"x\""], "negotiate | basic realm=<x>"),
            (&["Basic"], "basic"),
            (&["Basic realm=/"], "basic realm=</>"),
            (&["Basic realm=Registry Realm"], "basic realm=<Registry Realm>"),
            (
                &["Basic realm=Sonatype Nexus, Bearer realm=https://a/t"],
                "basic realm=<Sonatype Nexus> | bearer realm=<https://a/t>",
            ),
            (&["Basic realm=a Bearer realm=\"b\""], "basic realm=<a> | bearer realm=<b>"),
            (&["BEARER Realm=\"a\" Service=\"b\" scope=c:d"], "bearer realm=<a> service=<b> scope=<c:d>"),
            (&["Bearer realm = \"a\" , service = b"], "bearer realm=<a> service=<b>"),
            (&["Bearer realm=https://a/t?x=y,service=b"], "bearer realm=<https://a/t?x=y> service=<b>"),
            (&["Bearer service=b,scope=r:a:pull,push,realm=t"], "bearer service=<b> scope=<r:a:pull> realm=<t>"),
            (&[r#"Bearer realm="a\"b\\c""#], r#"bearer realm=<a"b\c>"#),
            (&["Bearer realm=\"https://a"], "bearer realm=<https://a>"),
            (&["Bearer realm='https://a',service='b c'"], "bearer realm=<https://a> service=<b c>"),
            (&["Basic; realm=\"x\"; charset=\"UTF-8\""], "basic realm=<x> charset=<UTF-8>"),
            (&["Basic realm='x"], "basic realm=<'x>"),
            (&["Negotiate abc==, Basic realm=\"x\""], "negotiate abc=<=> | basic realm=<x>"),
            (&["realm=\"x\"", "", ",,", "=\"\u{e4}\"", "Basic realm=\"y\""], "basic realm=<y>"),
        ] {
            assert_eq!(shown(headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_bearer_without_a_realm_cannot_be_answered() {
        let known = |header: &str| {
            let mut found = Vec::new();
            read(header, &mut found);
            found.iter().map(Challenge::is_known).collect::<Vec<_>>()
        };
        assert_eq!(known("Bearer realm=\"\", Digest realm=x, Basic"), [false, false, true]);
        assert_eq!(known("Bearer realm=x"), [true]);
    }
}
