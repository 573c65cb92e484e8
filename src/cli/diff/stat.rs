//! `layflat diff --stat`: a line for each file or directory, and the sums.

use layflat::compare::{Statistics, StatisticsRow, Tally};
use serde_json::json;

use super::super::arguments::Common;
use super::super::output::{self, Colour, painted};
use super::super::table::{bytes, columns, count, counted};

/// More lines than this are summed up by directory.
const MOST_LINES: usize = 40;
/// Characters of the longest bar.
const BAR: u64 = 24;

pub(super) fn print(statistics: &Statistics, levels: Option<u16>, common: &Common) -> anyhow::Result<()> {
    let total = statistics.total();
    let rows = match levels {
        Some(levels) => statistics.rows(Some(levels.into())),
        None if common.json => statistics.rows(None),
        None => statistics.in_at_most(MOST_LINES),
    };
    if common.json {
        return output::json(&json!({ "total": total, "paths": rows }));
    }
    if rows.is_empty() {
        return Ok(());
    }
    let most = rows.iter().map(|row| grown(row.tally).saturating_add(shrunk(row.tally))).max().unwrap_or(0);
    let cells: Vec<Vec<String>> = rows.iter().map(|row| cells(row, most)).collect();
    let mut lines = columns(&cells, &[2, 3, 4, 5]);
    lines.push(sum(total));
    output::lines(lines)
}

/// Bytes that came.
fn grown(tally: Tally) -> u64 {
    tally.added_bytes.saturating_add(tally.bytes_after.saturating_sub(tally.bytes_before))
}

/// Bytes that went.
fn shrunk(tally: Tally) -> u64 {
    tally.removed_bytes.saturating_add(tally.bytes_before.saturating_sub(tally.bytes_after))
}

fn cells(StatisticsRow { path, tally }: &StatisticsRow, most: u64) -> Vec<String> {
    let signed = |sign: char, number: u64, colour| match number {
        0 => String::new(),
        number => painted(format_args!("{sign}{}", count(number)), colour),
    };
    vec![
        path.to_string(),
        "|".to_owned(),
        signed('+', tally.added, Colour::Green),
        signed('-', tally.removed, Colour::Red),
        signed('~', tally.changed, Colour::Yellow),
        difference(grown(*tally), shrunk(*tally)),
        bar(*tally, most),
    ]
}

/// `+1.5 MiB`; nothing where as much came as went.
fn difference(grown: u64, shrunk: u64) -> String {
    match grown.cmp(&shrunk) {
        std::cmp::Ordering::Equal => String::new(),
        std::cmp::Ordering::Greater => format!("+{}", bytes(grown - shrunk)),
        std::cmp::Ordering::Less => format!("-{}", bytes(shrunk - grown)),
    }
}

/// What came and what went, as long as their share of the most that a line has.
fn bar(tally: Tally, most: u64) -> String {
    let length = |part: u64| (u128::from(part) * u128::from(BAR)).div_ceil(u128::from(most.max(1))) as usize;
    let part = |sign: &str, part: u64, colour| match length(part) {
        0 => String::new(),
        length => painted(sign.repeat(length), colour),
    };
    part("+", grown(tally), Colour::Green) + &part("-", shrunk(tally), Colour::Red)
}

pub(crate) fn sum(total: Tally) -> String {
    let with = |bytes_of: u64| if bytes_of > 0 { format!(" ({})", bytes(bytes_of)) } else { String::new() };
    let change = difference(total.bytes_after, total.bytes_before);
    let change = if change.is_empty() { change } else { format!(" ({change})") };
    format!(
        "{} added{}, {} removed{}, {} changed{change}",
        counted(total.added, "path", "paths"),
        with(total.added_bytes),
        count(total.removed),
        with(total.removed_bytes),
        count(total.changed),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_shares_of_the_longest_and_never_empty_for_something() {
        let tally = |added_bytes, removed_bytes| Tally { added_bytes, removed_bytes, ..Tally::default() };
        assert_eq!(bar(tally(100, 0), 100).len(), 24);
        assert_eq!(bar(tally(1, 50), 100), format!("+{}", "-".repeat(12)));
        assert_eq!(bar(tally(0, 0), 100), "");
        assert_eq!(bar(tally(u64::MAX, 0), u64::MAX).len(), 24);
    }

    #[test]
    fn the_sum_says_how_much_came_and_went() {
        let tally = Tally {
            added: 1,
            added_bytes: 10,
            removed: 2,
            changed: 3,
            bytes_before: 9,
            bytes_after: 3,
            ..Tally::default()
        };
        assert_eq!(sum(tally), "1 path added (10 B), 2 removed, 3 changed (-6 B)");
        assert_eq!(difference(grown(tally), shrunk(tally)), "+4 B");
    }
}
