//! Differences as lines for people.

use layflat::compare::{TreeDifference, What};
use layflat::tree::KindName;

use super::super::output::{Colour, painted};
use super::super::table::{bytes, counted, time};

/// One difference: a sign and the path, and how they differ.
pub(super) fn line(TreeDifference { path, what }: &TreeDifference) -> String {
    let (sign, colour) = match what {
        What::OnlyInA { .. } => ('-', Colour::Red),
        What::OnlyInB { .. } => ('+', Colour::Green),
        _ => ('~', Colour::Yellow),
    };
    format!("{}: {}", painted(format_args!("{sign} {path}"), colour), words(what))
}

/// Sizes and times as people read them; all else as the library says it.
pub(super) fn words(what: &What) -> String {
    match *what {
        What::OnlyInA { kind, below, bytes } => format!("only in A ({})", only(kind, below, bytes)),
        What::OnlyInB { kind, below, bytes } => format!("only in B ({})", only(kind, below, bytes)),
        What::Size { a, b } => {
            let sign = if b > a { '+' } else { '-' };
            format!("size: {} in A, {} in B ({sign}{})", bytes(a), bytes(b), bytes(a.abs_diff(b)))
        }
        What::Mtime { a, b } => {
            let exact = a.nanoseconds != 0 || b.nanoseconds != 0;
            format!("mtime: {} in A, {} in B", time(a, exact), time(b, exact))
        }
        ref what => what.to_string(),
    }
}

fn only(kind: KindName, below: u64, size: u64) -> String {
    let mut words = vec![kind.to_string()];
    words.extend((below > 0).then(|| counted(below, "name below", "names below")));
    words.extend((size > 0).then(|| bytes(size)));
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use layflat::core::text::{Bytes, Timestamp as Time};

    #[test]
    fn a_line_has_a_sign_and_readable_numbers() {
        let of = |what| line(&TreeDifference { path: Bytes::from(&b"d/f"[..]), what });
        let at = |seconds, nanoseconds| Time { seconds, nanoseconds };
        let second = 1_700_000_000;
        for (what, expected) in [
            (What::OnlyInA { kind: KindName::File, below: 0, bytes: 0 }, "- d/f: only in A (file)"),
            (
                What::OnlyInB { kind: KindName::Directory, below: 1200, bytes: 1536 },
                "+ d/f: only in B (directory, 1,200 names below, 1.5 KiB)",
            ),
            (What::Size { a: 2048, b: 2050 }, "~ d/f: size: 2.0 KiB in A, 2.0 KiB in B (+2 B)"),
            (What::Size { a: 9, b: 3 }, "~ d/f: size: 9 B in A, 3 B in B (-6 B)"),
            (
                What::Mtime { a: at(second, 0), b: at(second + 1, 0) },
                "~ d/f: mtime: 2023-11-14 22:13:20 in A, 2023-11-14 22:13:21 in B",
            ),
            (
                What::Mtime { a: at(second, 5), b: at(i64::MAX, 0) },
                "~ d/f: mtime: 2023-11-14 22:13:20.000000005 in A, @9223372036854775807.000000000 in B",
            ),
            (What::Mode { a: 0o755, b: 0o4755 }, "~ d/f: mode: 0755 in A, 4755 in B"),
            (What::Content { offset: None }, "~ d/f: content: differs"),
        ] {
            assert_eq!(of(what), expected);
        }
    }
}
