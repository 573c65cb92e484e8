//! Tokens and keys that are told by how they are written.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use regex::bytes::Regex;
use sha2::{Digest as _, Sha256};

use super::kinds::{self, Facts, SecretKind};
use super::{Found, shown};
use crate::inspect::check::Severity;

/// Bytes behind its beginning in which a token must end: none is longer but keys and signed tokens, of which the first
/// part is enough.
const LONGEST: usize = 8 << 10;
/// Findings of one kind and severity in one text: many harmless ones do not hide another.
const MOST: usize = 16;
/// What every key begins with that is armoured as in RFC 7468.
const BEGIN: &[u8] = b"-----BEGIN ";
/// What Google's accounts end with.
const ACCOUNT: &[u8] = b"gserviceaccount.com";

/// How a token is written.
struct Token {
    kind: &'static Facts,
    /// One of these stands at its beginning. They are looked for all at once.
    starts: &'static [&'static str],
    /// The whole token.
    form: &'static str,
    proof: fn(&[u8]) -> Proof,
}

/// Whether something that is written like a token is one.
enum Proof {
    Holds,
    /// Most likely an example, for this reason.
    Doubtful(&'static str),
    No,
}

const TOKENS: &[Token] = &[
    Token {
        kind: kinds::PRIVATE_KEY,
        starts: &["-----BEGIN "],
        // With a line of its own, or in a string in which "\n" stands for its end; and something of a key behind it. Programs
        // that read keys hold the first line, too, but not the key.
        form: r"^-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:[ \t]*\r?\n(?:[ \t]*[A-Za-z-]+: [^\n]*\n|[ \t]*\r?\n)*|(?:\\r)?\\n)[ \t]*[A-Za-z0-9+/=]{16}",
        proof: |_| Proof::Holds,
    },
    Token {
        kind: kinds::AGE,
        starts: &["AGE-SECRET-KEY-1"],
        form: r"^AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}",
        proof: varied,
    },
    Token { kind: kinds::AWS_ACCESS, starts: &["AKIA", "ASIA"], form: r"^A[KS]IA[A-Z0-9]{16}", proof: aws },
    Token {
        kind: kinds::AZURE_STORAGE,
        starts: &["AccountKey="],
        form: r"^AccountKey=[A-Za-z0-9+/]{86}==",
        proof: azure,
    },
    Token {
        kind: kinds::DIGITALOCEAN,
        starts: &["doo_v1_", "dop_v1_", "dor_v1_"],
        form: r"^do[opr]_v1_[a-f0-9]{64}",
        proof: varied,
    },
    Token {
        kind: kinds::DOCKER_HUB,
        starts: &["dckr_pat_", "dckr_oat_"],
        form: r"^dckr_[po]at_[A-Za-z0-9_-]{27,}",
        proof: varied,
    },
    Token {
        kind: kinds::GITHUB_FINE,
        starts: &["github_pat_"],
        form: r"^github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
        proof: varied,
    },
    Token {
        kind: kinds::GITHUB,
        starts: &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"],
        form: r"^gh[pousr]_[A-Za-z0-9]{36}",
        proof: github,
    },
    Token {
        kind: kinds::GITLAB,
        starts: &[
            "glpat-", "gloas-", "gldt-", "glrt-", "glrtr-", "glcbt-", "glptt-", "glft-", "glimt-", "glagent-",
            "glsoat-",
        ],
        form: r"^gl[a-z]+-[A-Za-z0-9_.-]{20,}",
        proof: varied,
    },
    Token { kind: kinds::GOOGLE_API, starts: &["AIza"], form: r"^AIza[A-Za-z0-9_-]{35}", proof: varied },
    Token { kind: kinds::GOOGLE_OAUTH, starts: &["GOCSPX-"], form: r"^GOCSPX-[A-Za-z0-9_-]{28}", proof: varied },
    Token { kind: kinds::HUGGING_FACE, starts: &["hf_"], form: r"^hf_[A-Za-z0-9]{34}", proof: varied },
    Token {
        kind: kinds::JWT,
        starts: &["eyJ"],
        form: r"^eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{16,}",
        proof: jwt,
    },
    Token { kind: kinds::NPM, starts: &["npm_"], form: r"^npm_[A-Za-z0-9]{36}", proof: varied },
    // What stands behind the hyphen is base64 for the version of the macaroon and its location, pypi.org or test.pypi.org.
    Token {
        kind: kinds::PYPI,
        starts: &["pypi-AgEIcHlwaS5vcmc", "pypi-AgENdGVzdC5weXBpLm9yZw"],
        form: r"^pypi-AgE[A-Za-z0-9_-]{48,}",
        proof: varied,
    },
    Token { kind: kinds::RUBYGEMS, starts: &["rubygems_"], form: r"^rubygems_[a-f0-9]{48}", proof: varied },
    Token {
        kind: kinds::SENDGRID,
        starts: &["SG."],
        form: r"^SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",
        proof: varied,
    },
    Token {
        kind: kinds::SLACK,
        starts: &["xoxa-", "xoxb-", "xoxe-", "xoxe.", "xoxo-", "xoxp-", "xoxr-", "xoxs-", "xapp-"],
        form: r"^(?:xoxe\.)?x(?:ox[abeoprs]|app)-[0-9][A-Za-z0-9-]{14,}",
        proof: varied,
    },
    Token {
        kind: kinds::SLACK_HOOK,
        starts: &["https://hooks.slack.com/services/"],
        form: r"^https://hooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{16,}",
        proof: |value| varied(value.rsplit(|&byte| byte == b'/').next().unwrap_or_default()),
    },
    Token {
        kind: kinds::STRIPE,
        starts: &["sk_live_", "rk_live_"],
        form: r"^[sr]k_live_[A-Za-z0-9]{16,}",
        proof: varied,
    },
    Token {
        kind: kinds::VAULT,
        starts: &["hvs.", "hvb.", "hvr."],
        form: r"^hv[sbr]\.[A-Za-z0-9_-]{24,}",
        proof: varied,
    },
];

/// All beginnings at once, which is what every text of an image is searched for.
static STARTS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let starts: Vec<String> = TOKENS.iter().flat_map(|token| token.starts).map(|start| regex::escape(start)).collect();
    Regex::new(&format!("(?-u){}", starts.join("|"))).ok()
});

/// Each whole; only used where a beginning was found.
static FORMS: LazyLock<Vec<Option<Regex>>> =
    LazyLock::new(|| TOKENS.iter().map(|token| Regex::new(&format!("(?-u){}", token.form)).ok()).collect());

/// The tokens in a text, each value once.
pub(super) fn find(text: &[u8]) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let Some(starts) = STARTS.as_ref() else { return found };
    let mut barren = [0; TOKENS.len()];
    let mut account = None;
    let (mut line, mut counted) = (1, 0);
    let mut at = 0;
    while let Some(start) = starts.find_at(text, at) {
        at = start.end();
        let Some((token, value)) = token_at(text, start.start(), start.as_bytes(), &mut barren) else { continue };
        at = start.start() + value.len().max(start.len());
        let (severity, doubt) = match (token.proof)(value) {
            Proof::Holds => (token.kind.severity, None),
            Proof::Doubtful(reason) => (Severity::Note, Some(reason)),
            Proof::No => continue,
        };
        let (kind, mut shown, value) = if value.starts_with(BEGIN) {
            key(text, start.start(), &mut account)
        } else {
            (token.kind, shown(value), value)
        };
        let kind = SecretKind(kind);
        // What is not kept need not be hashed.
        if found.iter().filter(|other| other.kind == kind && other.severity == severity).count() >= MOST {
            continue;
        }
        let value: [u8; 32] = Sha256::digest(value).into();
        if let Some(reason) = doubt {
            shown = format!("{shown}; {reason}");
        }
        if !found.iter().any(|other| other.value == value) {
            line += text[counted..start.start()].iter().filter(|&&byte| byte == b'\n').count() as u64;
            counted = start.start();
            found.push(Found { kind, severity, line, shown, value });
        }
    }
    found
}

/// The token that begins there, if it stands alone. `barren` has for each of [`TOKENS`] before which position none begins:
/// without it, a text full of beginnings would be read again from each of them.
fn token_at<'t>(
    text: &'t [u8],
    position: usize,
    start: &[u8],
    barren: &mut [usize],
) -> Option<(&'static Token, &'t [u8])> {
    // The dashes of a key are no word, so they end the one before them.
    let is_key = start == BEGIN;
    if !is_key && is_inside_word(&text[..position]) {
        return None;
    }
    let index = TOKENS.iter().position(|token| token.starts.iter().any(|known| known.as_bytes() == start))?;
    if position < barren[index] {
        return None;
    }
    let token = &TOKENS[index];
    let rest = window(text, position);
    let rest = if is_key { &rest[..next_key(rest)] } else { rest };
    let Some(value) = FORMS[index].as_ref()?.find(rest).map(|value| value.as_bytes()) else {
        if token.kind == kinds::JWT {
            // What follows its first part is the same for all that begin in it, as far as they see its end.
            let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(*byte, b'-' | b'_');
            let part = text[position..].iter().take_while(|&byte| is_part(byte)).count();
            barren[index] = position + if part > LONGEST { part - LONGEST } else { part };
        }
        return None;
    };
    if !is_key && rest.get(value.len()).is_some_and(is_word) {
        // If it ends with all there is of some characters, those that begin in it end in the same place.
        if token.form.ends_with(",}") {
            barren[index] = position + value.len();
        }
        return None;
    }
    Some((token, value))
}

fn is_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == b'_'
}

/// Whether what comes next belongs to a word that has begun.
fn is_inside_word(before: &[u8]) -> bool {
    match before {
        // The end of a line, or a tab, as strings of programs and JSON have it.
        [.., b'\\', b'n' | b'r' | b't'] => false,
        [.., last] => is_word(last),
        [] => false,
    }
}

/// As much of the text from there on as is looked at.
fn window(text: &[u8], from: usize) -> &[u8] {
    &text[from..text.len().min(from + LONGEST)]
}

/// Where something stands in a text.
fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// Where the next key begins in a text that begins with one. Nothing behind it belongs to the first, so that the text is
/// read once however many begin in it.
fn next_key(text: &[u8]) -> usize {
    let inside = text.get(BEGIN.len()..).unwrap_or_default();
    position(inside, BEGIN).map_or(text.len(), |at| BEGIN.len() + at)
}

/// Whether one of Google's accounts is named in the window behind a position. `next` is where the next one is, once it was
/// searched for: positions only grow.
fn has_account(text: &[u8], from: usize, next: &mut Option<usize>) -> bool {
    let at = match *next {
        Some(at) if at >= from => at,
        _ => position(&text[from..], ACCOUNT).map_or(usize::MAX, |at| from + at),
    };
    *next = Some(at);
    at - from <= LONGEST - ACCOUNT.len()
}

/// Which kind of key begins there, what may be said of it, and what it is told from others by.
fn key<'t>(text: &'t [u8], start: usize, account: &mut Option<usize>) -> (&'static Facts, String, &'t [u8]) {
    let block = window(text, start);
    let block = &block[..next_key(block)];
    let block = &block[..position(block, b"-----END ").unwrap_or(block.len())];
    let label = &block[BEGIN.len()..];
    let label = &label[..position(label, b"-----").unwrap_or(0)];
    let is_of_account = position(block, b"\\n").is_some() && has_account(text, start, account);
    let kind = match label {
        b"OPENSSH PRIVATE KEY" => kinds::OPENSSH,
        label if label.starts_with(b"PGP ") => kinds::PGP,
        // As Google writes them: the key is a string in a JSON document, which says what it is nearby.
        _ if is_of_account => kinds::GCP_ACCOUNT,
        _ => kinds::PRIVATE_KEY,
    };
    // "openssh-key-v1", a zero, and the name of the cipher "none", as base64.
    let is_open = position(block, b"b3BlbnNzaC1rZXktdjEAAAAABG5vbmU").is_some();
    let is_encrypted = position(block, b"ENCRYPTED").is_some() || kind == kinds::OPENSSH && !is_open;
    let encrypted = if is_encrypted { ", encrypted" } else { "" };
    (kind, format!("BEGIN {}{encrypted}", String::from_utf8_lossy(label)), block)
}

/// Not "xxxxxxxx".
fn varied(value: &[u8]) -> Proof {
    let mut seen = [false; 256];
    value.iter().for_each(|&byte| seen[usize::from(byte)] = true);
    // The beginnings have up to ten characters of their own.
    if seen.iter().filter(|seen| **seen).count() >= 12 { Proof::Holds } else { Proof::No }
}

/// The last six characters are the CRC-32 of those between the prefix and them, in base 62.
fn github(value: &[u8]) -> Proof {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let (random, checksum) = value["ghp_".len()..].split_at(30);
    let mut crc = flate2::Crc::new();
    crc.update(random);
    let mut left = crc.sum() as usize;
    let mut expected = [b'0'; 6];
    for digit in expected.iter_mut().rev() {
        (*digit, left) = (DIGITS[left % 62], left / 62);
    }
    match varied(value) {
        Proof::Holds if checksum != expected => Proof::Doubtful("its checksum is wrong: most likely an example"),
        proof => proof,
    }
}

fn aws(value: &[u8]) -> Proof {
    let distinct = value.iter().collect::<std::collections::HashSet<_>>().len();
    match () {
        () if distinct < 8 => Proof::No,
        () if value.ends_with(b"EXAMPLE") => Proof::Doubtful("an example of AWS's documentation"),
        () => Proof::Holds,
    }
}

/// 512 bits. That of the emulator is known to everyone.
fn azure(value: &[u8]) -> Proof {
    let key = &value["AccountKey=".len()..];
    match BASE64_STANDARD.decode(key) {
        Ok(_) if key.starts_with(b"Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq") => {
            Proof::Doubtful("the emulator's, which is public")
        }
        Ok(bytes) if bytes.len() == 64 => varied(key),
        _ => Proof::No,
    }
}

/// The header is a JSON object that names an algorithm (RFC 7515, section 4.1.1).
fn jwt(value: &[u8]) -> Proof {
    let header = value.split(|&byte| byte == b'.').next().unwrap_or_default();
    let header = BASE64_URL_SAFE_NO_PAD.decode(header).ok();
    let header = header.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    if header.is_some_and(|header| header["alg"].is_string()) { Proof::Holds } else { Proof::No }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written in two parts, so that nobody who searches this repository finds a token.
    fn token(start: &str, rest: &str) -> String {
        format!("{start}{rest}")
    }

    fn names(text: &str) -> Vec<(&'static str, Severity)> {
        find(text.as_bytes()).iter().map(|found| (found.kind.name(), found.severity)).collect()
    }

    const RANDOM: &str = "zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ";

    #[test]
    fn tokens_are_told_by_their_form() {
        let hex = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
        let base64 = BASE64_STANDARD.encode((0..64).map(|byte| byte * 3).collect::<Vec<u8>>());
        let known = [
            ("aws-access-key", token("AKIA", "Z7Q2M4XK3PLVB6WD")),
            ("azure-storage-key", token("AccountKey=", &base64)),
            ("digitalocean-token", token("dop_v1_", hex)),
            ("docker-hub-token", token("dckr_pat_", &RANDOM[..27])),
            ("github-fine-grained-token", token("github_pat_", &format!("{}_{RANDOM}{}", &RANDOM[..22], &RANDOM[1..]))),
            ("gitlab-token", token("glpat-", &RANDOM[..20])),
            ("google-oauth-secret", token("GOCSPX-", &RANDOM[..28])),
            ("hugging-face-token", token("hf_", &format!("{RANDOM}abcd"))),
            ("npm-token", token("npm_", &format!("{RANDOM}0abcd1"))),
            ("pypi-token", token("pypi-AgEIcHlwaS5vcmc", &format!("{RANDOM}{RANDOM}"))),
            ("rubygems-token", token("rubygems_", &hex[..48])),
            ("sendgrid-key", token("SG.", &format!("{}.{RANDOM}{}", &RANDOM[..22], &RANDOM[..13]))),
            ("slack-token", token("xoxb-", &format!("123456789012-123456789012-{}", &RANDOM[..24]))),
            (
                "slack-webhook",
                token("https://hooks.slack.com/services/", &format!("T0123ABCD/B0123ABCD/{}", &RANDOM[..24])),
            ),
            ("stripe-key", token("sk_live_", &RANDOM[..24])),
            ("vault-token", token("hvs.", &RANDOM[..24])),
        ];
        for (name, value) in known {
            for text in [value.clone(), format!("x = \"{value}\"\n"), format!("a\n{value};")] {
                assert_eq!(names(&text), [(name, Severity::Warning)], "{text}");
            }
            assert_eq!(names(&format!("a{value}")), [], "inside of a word: {value}");
        }
        assert_eq!(names(&token("AIza", &format!("{RANDOM}01234"))), [("google-api-key", Severity::Note)]);
    }

    #[test]
    fn githubs_checksum_tells_tokens_from_examples() {
        let good = token("ghp_", &format!("{RANDOM}0mLq17"));
        assert_eq!(names(&good), [("github-token", Severity::Warning)]);
        let found = find(token("ghp_", &format!("{RANDOM}0mLq18")).as_bytes());
        assert_eq!(found[0].severity, Severity::Note);
        assert_eq!(found[0].shown, "ghp_…, 40 characters; its checksum is wrong: most likely an example");
        assert_eq!(names(&token("ghp_", &"x".repeat(36))), []);
    }

    #[test]
    fn a_web_token_has_a_header_that_names_an_algorithm() {
        let part = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
        let signed = |header: &str| format!("{}.{}.{RANDOM}", part(header), part(r#"{"sub":"1234567890"}"#));
        assert_eq!(names(&signed(r#"{"alg":"HS256","typ":"JWT"}"#)), [("jwt", Severity::Note)]);
        assert_eq!(names(&signed(r#"{"typ":"JWT","kid":"abc"}"#)), []);
    }

    #[test]
    fn a_key_is_told_from_a_program_that_reads_keys() {
        let is_key = |text: &str| names(text).iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!(is_key("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n"), ["openssh-key"]);
        assert_eq!(
            is_key("a certificate\n-----BEGIN PRIVATE KEY-----\r\nMIIEvQIBADANBgkqhkiG9w0B\r\n"),
            ["private-key"]
        );
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: A,1\n\nMIIEvQIBADANBgkqhkiG\n";
        assert_eq!(is_key(old), ["private-key"]);
        assert_eq!(find(old.as_bytes())[0].shown, "BEGIN RSA PRIVATE KEY, encrypted");
        assert_eq!(is_key("-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\nlQOYBF8AAAABCADFAAAA\n"), ["pgp-key"]);
        let account = r#"{"type": "service_account", "private_key": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n-----END PRIVATE KEY-----\n", "client_email": "a@b.iam.gserviceaccount.com"}"#;
        assert_eq!(is_key(account), ["gcp-service-account"]);
        for harmless in [
            "-----BEGIN PRIVATE KEY-----\0-----END PRIVATE KEY-----\0",
            "if line == '-----BEGIN PRIVATE KEY-----':\n    abcdefghijklmnopqrstuvwxyz\n",
            "-----BEGIN PUBLIC KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n",
            "-----BEGIN CERTIFICATE-----\nMIIEvQIBADANBgkqhkiG9w0B\n",
        ] {
            assert_eq!(names(harmless), [], "{harmless}");
        }
    }

    #[test]
    fn each_value_is_reported_once_with_its_line_and_never_whole() {
        let value = token("glpat-", &RANDOM[..20]);
        let found = find(format!("\n\na {value}\nb {value}\n").as_bytes());
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].line, found[0].shown.as_str()), (3, "glpa…, 26 characters"));
        let other = token("dop_v1_", &"0f1e2d3c4b5a6978".repeat(4));
        let lines: Vec<u64> = find(format!("{value}\n\n{other}\n").as_bytes()).iter().map(|found| found.line).collect();
        assert_eq!(lines, [1, 3]);
    }

    #[test]
    fn many_harmless_ones_hide_no_other() {
        let good = token("ghp_", &format!("{RANDOM}0mLq17"));
        let key = token("glpat-", &RANDOM[..20]);
        let harmless: String = (0..20)
            .flat_map(|n| [token("AIza", &format!("{RANDOM}{n:05}\n")), token("ghp_", &format!("{RANDOM}{n:06}\n"))])
            .collect();
        let found = names(&format!("{harmless}{good}\n{key}\n"));
        let count = |name: &str, severity: Severity| found.iter().filter(|&&found| found == (name, severity)).count();
        assert_eq!(count("google-api-key", Severity::Note), MOST);
        assert_eq!(count("github-token", Severity::Note), MOST);
        assert_eq!(count("github-token", Severity::Warning), 1);
        assert_eq!(count("gitlab-token", Severity::Warning), 1);
    }

    #[test]
    fn escaped_ends_of_lines_are_no_part_of_a_word() {
        let key = r"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n-----END PRIVATE KEY-----\n";
        for before in ["", r"\n", r"a certificate\r\n", "key_"] {
            assert_eq!(names(&format!("{before}{key}")), [("private-key", Severity::Warning)], "{before}");
        }
        let value = token("glpat-", &RANDOM[..20]);
        for before in [r"\n", r"a\r", r"a\t"] {
            assert_eq!(names(&format!("{before}{value}")), [("gitlab-token", Severity::Warning)], "{before}");
        }
        for before in ["n", "an", r"\x", r"\\a"] {
            assert_eq!(names(&format!("{before}{value}")), [], "{before}");
        }
    }

    #[test]
    fn a_key_ends_where_the_next_one_begins() {
        let cut = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n";
        let whole =
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
        let warning = Severity::Warning;
        assert_eq!(names(&format!("{cut}{cut}{whole}")), [("private-key", warning), ("openssh-key", warning)]);
    }

    /// Each of these would take long if every beginning were followed for as far as a token may go.
    #[test]
    fn a_text_full_of_beginnings_is_read_once() {
        let size = 1 << 18;
        let web = [
            BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#),
            BASE64_URL_SAFE_NO_PAD.encode(r#"{"sub":"1234567890"}"#),
            RANDOM.to_owned(),
        ];
        let web = web.join(".");
        let key = token("glpat-", &RANDOM[..20]);
        for (part, end) in [
            ("-eyJ", ""),
            ("-xoxb-1", "_"),
            ("-----BEGIN PRIVATE KEY-----\nA: ", ""),
            ("-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkq ", ""),
        ] {
            let text = format!("{}{end} {web} {key}", part.repeat(size / part.len()));
            let found = names(&text);
            assert!(found.contains(&("jwt", Severity::Note)), "{part}: {found:?}");
            assert!(found.contains(&("gitlab-token", Severity::Warning)), "{part}: {found:?}");
        }
    }
}
