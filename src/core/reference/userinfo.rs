//! Finds a user name and password before a host, as in `docker://USER:PASSWORD@HOST/NAME`. They are refused, and masked
//! in every message.

use std::borrow::Cow;

const MASK: &str = "***";

/// Where the host begins that a name and a password stand before; nothing if there is neither. `text` is what follows
/// `://`.
pub(super) fn end_of_userinfo(text: &str) -> Option<usize> {
    let is_digest = |text: &str| text.starts_with("sha") && text.contains(':');
    let at = text.rfind('@')?;
    if is_digest(&text[at + 1..]) {
        return end_of_userinfo(&text[..at]);
    }
    // A name has no slash; what follows a host has one. Without both it is a digest that was mistyped.
    let (name, password) = text[..at].split_once(':').unwrap_or((&text[..at], ""));
    let follows_host = text[at + 1..].contains('/');
    (follows_host || !(name.contains('/') || password.is_empty())).then_some(at + 1)
}

/// The text with a password before a host replaced.
pub(super) fn without_password(text: &str) -> Cow<'_, str> {
    let Some(end) = end_of_userinfo(text) else { return Cow::Borrowed(text) };
    // Placeholders of our own messages are not passwords.
    if text.starts_with("[USER@]") {
        return Cow::Borrowed(text);
    }
    let shown = match text[..end - 1].split_once(':') {
        Some((name, _)) => format!("{name}:{MASK}"),
        // It may be a token.
        None => MASK.to_owned(),
    };
    Cow::Owned(format!("{shown}@{}", &text[end..]))
}

/// A message with the password of each address in it replaced: `scheme://NAME:PASSWORD@HOST` becomes
/// `scheme://NAME:***@HOST`.
pub fn mask_passwords(message: &str) -> Cow<'_, str> {
    let mut masked = String::new();
    let mut rest = message;
    while let Some(start) = rest.find("://") {
        let (before, address) = rest.split_at(start + 3);
        let end = address.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`')).unwrap_or(address.len());
        masked.push_str(before);
        masked.push_str(&without_password(&address[..end]));
        rest = &address[end..];
    }
    if masked.is_empty() {
        return Cow::Borrowed(message);
    }
    masked.push_str(rest);
    Cow::Owned(masked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked_wherever_they_stand() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, expected) in [
            ("expected ssh://[USER@]HOST[:PORT][/SOCKET]", "expected ssh://[USER@]HOST[:PORT][/SOCKET]"),
            ("docker://[me:pw@]a.io/b", "docker://[me:***@]a.io/b"),
            ("cannot open docker://me:pw@a.io/b:1: no", "cannot open docker://me:***@a.io/b:1: no"),
            ("\"docker://me:p/w@x@a.io:5000/b\" is", "\"docker://me:***@a.io:5000/b\" is"),
            ("http://token@a.io/ and https://me:pw@b.io", "http://***@a.io/ and https://me:***@b.io"),
            ("docker://me:pw@localhost:5000", "docker://me:***@localhost:5000"),
            ("docker://localhost:5000/a:1", "docker://localhost:5000/a:1"),
            ("nothing: a@b:c", "nothing: a@b:c"),
        ] {
            assert_eq!(mask_passwords(text), expected);
        }
        for same in [format!("docker://a:5000/b@{digest}"), format!("docker://a.io/b:1@{digest}: gone")] {
            assert_eq!(mask_passwords(&same), same);
        }
        let both = format!("docker://me:pw@a.io/b@{digest}");
        assert_eq!(mask_passwords(&both), both.replace("pw", "***"));
    }
}
