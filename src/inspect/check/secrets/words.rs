//! Secrets in the texts of a configuration: variables, labels, commands.

use std::sync::LazyLock;

use regex::Regex;
use sha2::{Digest as _, Sha256};

use super::kinds::{self, Facts, SecretKind};
use super::{Found, tokens};

/// A name, and a password behind it, in an address (RFC 3986, section 3.2.1: the format is deprecated for this reason).
static ADDRESS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/?#:@"'<>]*:([^\s/?#@"'<>]+)@[^\s"'@]"#).ok());

/// `NAME=VALUE`, and `--name=VALUE` or `--name VALUE`.
static ASSIGNMENT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let value = r#"("[^"]*"|'[^']*'|[^\s"';&|]+)"#;
    Regex::new(&format!(r"(?:\b([A-Za-z_][A-Za-z0-9_.-]*)=|--([a-z][a-z0-9-]*)[ =]){value}")).ok()
});

/// Words that say that the value of what is called so is a secret.
const SECRET: [&str; 8] =
    ["password", "passwd", "passphrase", "secret", "token", "apikey", "credential", "credentials"];
/// Words at the end of a name that say that its value is not the secret itself.
const ABOUT: [&str; 38] = [
    "file",
    "path",
    "dir",
    "url",
    "uri",
    "host",
    "port",
    "name",
    "id",
    "user",
    "type",
    "ttl",
    "length",
    "size",
    "policy",
    "enabled",
    "disabled",
    "required",
    "expiry",
    "expires",
    "expiration",
    "timeout",
    "version",
    "header",
    "endpoint",
    "count",
    "format",
    "public",
    "stdin",
    "limit",
    "max",
    "min",
    "mode",
    "command",
    "helper",
    "prefix",
    "env",
    "issuer",
];
/// Values that are no secrets.
const TRIVIAL: [&str; 11] = ["", "true", "false", "yes", "no", "on", "off", "0", "1", "none", "null"];

/// The secrets in a text.
pub(crate) fn search(text: &str) -> Vec<Found> {
    let mut found = tokens::find(text.as_bytes());
    for captures in ADDRESS.iter().flat_map(|pattern| pattern.captures_iter(text)) {
        found.extend(captures.get(1).and_then(|value| hidden(kinds::URL, value.as_str())));
    }
    for captures in ASSIGNMENT.iter().flat_map(|pattern| pattern.captures_iter(text)) {
        let name = captures.get(1).or(captures.get(2)).map_or("", |name| name.as_str());
        let value = captures.get(3).map_or("", |value| value.as_str());
        let named = named_value(name, value.trim_matches(['"', '\'']));
        found.extend(named.filter(|named| !is_example(&found, named)));
    }
    // Of what one value is taken for, the worst.
    found.sort_by_key(|found| found.severity);
    let mut seen = std::collections::HashSet::new();
    found.retain(|found| seen.insert(found.value));
    found
}

/// The secrets in a value with a name of its own. What is found in it stands for what its name says, unless all of it
/// is milder.
pub(crate) fn search_named(name: &str, value: &str) -> Vec<Found> {
    let mut found = search(value);
    if let Some(named) = named_value(name, value).filter(|named| !is_example(&found, named))
        && found.iter().all(|found| found.severity > named.severity)
    {
        // Milder ones of the same value say nothing more.
        found.retain(|found| found.value != named.value);
        found.insert(0, named);
    }
    found
}

/// Whether a value was found to be an example of a token: that it is, whatever it is called.
fn is_example(found: &[Found], named: &Found) -> bool {
    found.iter().any(|found| found.value == named.value && found.severity > found.kind.severity())
}

/// A value that is a secret by its name.
fn named_value(name: &str, value: &str) -> Option<Found> {
    if !is_secret(name) || value.starts_with(['/', '-']) {
        return None;
    }
    let mut found = hidden(kinds::PASSWORD, value)?;
    found.shown = format!("{name}, {}", found.shown);
    Some(found)
}

/// A password, of which nothing may be shown.
fn hidden(kind: &'static Facts, value: &str) -> Option<Found> {
    let is_placeholder = value.starts_with(['$', '<', '{', '*', '%'])
        || TRIVIAL.iter().any(|trivial| value.eq_ignore_ascii_case(trivial))
        || value.chars().all(|character| matches!(character, 'x' | 'X' | '.'));
    let shown = match value.chars().count() {
        1 => "1 character".to_owned(),
        count => format!("{count} characters"),
    };
    let found =
        Found { kind: SecretKind(kind), severity: kind.severity, line: 1, shown, value: Sha256::digest(value).into() };
    (!is_placeholder).then_some(found)
}

/// Whether a variable, label or option is called like a secret.
fn is_secret(name: &str) -> bool {
    let mut words: Vec<String> = vec![String::new()];
    let mut before = ' ';
    for character in name.chars() {
        // Words end at `_`, `-`, `.` and `/`, and in camelCase.
        if !character.is_alphanumeric() || character.is_uppercase() && before.is_lowercase() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| character.is_alphanumeric()) {
            word.extend(character.to_lowercase());
        }
        before = character;
    }
    words.retain(|word| !word.is_empty());
    let is_about = words.last().is_none_or(|last| ABOUT.contains(&last.as_str()));
    let one = words.iter().any(|word| {
        SECRET.contains(&word.as_str())
            || ["password", "token", "secret", "passwd"].iter().any(|end| word.ends_with(end))
    });
    let two = words.windows(2).any(|pair| {
        let first = ["api", "private", "access", "secret", "auth", "encryption", "signing"];
        pair[1] == "key" && first.contains(&pair[0].as_str())
    });
    // `PWD` alone is the working directory.
    let short = words.len() > 1 && words.last().is_some_and(|last| matches!(last.as_str(), "pass" | "pwd"));
    !is_about && (one || two || short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_secrets() {
        for name in [
            "PASSWORD",
            "DB_PASSWORD",
            "PGPASSWORD",
            "API_KEY",
            "apiKey",
            "aws_secret_access_key",
            "NPM_TOKEN",
            "MYSQL_PASS",
            "com.example.token",
            "SECRET",
            "auth-token",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "PATH",
            "PWD",
            "OLDPWD",
            "GPG_KEY",
            "POSTGRES_PASSWORD_FILE",
            "TOKEN_URL",
            "TOKENIZERS_PARALLELISM",
            "AWS_ACCESS_KEY_ID",
            "password-stdin",
            "KEY",
            "MONKEY",
            "PASSWORD_MIN_LENGTH",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn values_that_are_none_are_passed_over() {
        assert_eq!(named_value("DB_PASSWORD", "hunter2").unwrap().shown, "DB_PASSWORD, 7 characters");
        for value in ["", "yes", "${X}", "$X", "/run/secrets/db", "<password>", "********", "xxxx"] {
            assert!(named_value("DB_PASSWORD", value).is_none(), "{value}");
        }
    }

    #[test]
    fn what_is_mild_in_a_value_does_not_stand_for_its_name() {
        use base64::Engine as _;
        let part = |json: &str| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(json);
        let token =
            format!("{}.{}.{}", part(r#"{"alg":"HS256"}"#), part(r#"{"sub":"1234567890"}"#), "c2lnbmF0dXJlIQ1234567");
        let kinds = |name: &str, value: &str| {
            search_named(name, value).iter().map(|found| (found.kind.name(), found.severity)).collect::<Vec<_>>()
        };
        use crate::inspect::check::Severity::{Note, Warning};
        assert_eq!(kinds("GREETING", &token), [("jwt", Note)]);
        assert_eq!(kinds("DB_PASSWORD", &token), [("password", Warning)]);
        assert_eq!(kinds("DB_PASSWORD", &format!("{token} hunter2")), [("password", Warning), ("jwt", Note)]);
        assert_eq!(kinds("X", &format!("API_TOKEN={token}")), [("password", Warning)]);
        let worse = ["glpat-", "zQWBuTSOoRi4A9spHcVY"].concat();
        assert_eq!(kinds("DB_PASSWORD", &worse), [("gitlab-token", Warning)]);
        // What its issuer's checksum says is none.
        let example = ["ghp_", "zQWBuTSOoRi4A9spHcVY5ncnsDkxyj0mLq18"].concat();
        assert_eq!(kinds("GITHUB_TOKEN", &example), [("github-token", Note)]);
    }

    #[test]
    fn commands_are_searched() {
        let shown = |text: &str| search(text).iter().map(|found| found.shown.clone()).collect::<Vec<_>>();
        assert_eq!(shown("RUN |1 NPM_TOKEN=abcdef /bin/sh -c npm ci"), ["NPM_TOKEN, 6 characters"]);
        assert_eq!(shown("ENV A=b DB_PASSWORD=\"a b\""), ["DB_PASSWORD, 3 characters"]);
        assert_eq!(shown("RUN login --user a --password hunter2"), ["password, 7 characters"]);
        assert_eq!(shown("RUN git clone https://me:hunter22@example.com/x"), ["8 characters"]);
        assert_eq!(shown("RUN login --password-stdin < file && curl https://$U:$P@example.com"), [""; 0]);
        assert_eq!(shown("RUN echo $TOKEN && export TOKEN=$(cat /run/secrets/t)"), [""; 0]);
    }
}
