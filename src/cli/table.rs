//! Numbers and columns for people.

use jiff::Timestamp;
use layflat::core::text::Timestamp as Time;

pub(crate) use layflat::core::text::{count, counted};

/// Bytes in binary units, as `ls -h` has them: `1.5 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `2023-11-14 22:13:20` in UTC; what no calendar has as seconds, `@1e18`.
pub(crate) fn time(time: Time, exact: bool) -> String {
    let second = match Timestamp::from_second(time.seconds) {
        Ok(stamp) => stamp.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("@{}", time.seconds),
    };
    if exact { format!("{second}.{:09}", time.nanoseconds) } else { second }
}

/// How an attribute changed, as the library says it: times become such that people read.
pub(crate) fn alteration(what: &str, before: &str, now: &str) -> String {
    let parse = |text: &str| {
        let (seconds, nanoseconds) = text.split_once('.')?;
        Some(Time { seconds: seconds.parse().ok()?, nanoseconds: nanoseconds.parse().ok()? })
    };
    match (what, parse(before), parse(now)) {
        ("mtime", Some(before), Some(now)) => {
            let exact = before.nanoseconds != 0 || now.nanoseconds != 0;
            format!("mtime {} → {}", time(before, exact), time(now, exact))
        }
        _ => format!("{what} {before} → {now}"),
    }
}

/// A line of the history as it was in the Dockerfile.
pub(crate) fn instruction(words: &str) -> String {
    let words = words.trim();
    let words = words.strip_suffix("# buildkit").unwrap_or(words).trim_end();
    let shell = words.strip_prefix("/bin/sh -c ");
    let text = match shell.map(str::trim_start) {
        Some(instruction) if instruction.starts_with("#(nop)") => instruction["#(nop)".len()..].trim_start().to_owned(),
        Some(command) => format!("RUN {command}"),
        None => words.replacen("RUN /bin/sh -c ", "RUN ", 1),
    };
    layflat::core::text::Printable(text.as_bytes()).to_string()
}

/// Aligns columns: the last to the left, the others to the right.
pub(crate) fn align(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    self::columns(rows, &(0..columns.saturating_sub(1)).collect::<Vec<_>>())
}

/// Aligns columns: those that are named to the right, the others to the left.
pub(crate) fn columns(rows: &[Vec<String>], right: &[usize]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| shown(cell)).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let space = " ".repeat(widths[column] - shown(cell));
            let (before, after) = if right.contains(&column) { (space.as_str(), "") } else { ("", space.as_str()) };
            line.extend([before, cell, after, "  "]);
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// How many characters of a cell are seen: the sequences that colour it are not.
fn shown(cell: &str) -> usize {
    let mut coloured = cell.split('\x1b');
    let plain = coloured.next().map_or(0, |text| text.chars().count());
    plain + coloured.map(|part| part.split_once('m').map_or(0, |(_, text)| text.chars().count())).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(1 << 30), "1.0 GiB");
    }

    #[test]
    fn columns_stand_under_each_other_coloured_or_not() {
        let rows =
            [["1", "\x1b[31mgone\x1b[0m", "x"], ["10", "here now", "y"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(columns(&rows, &[0]), [" 1  \x1b[31mgone\x1b[0m      x", "10  here now  y"]);
        assert_eq!(align(&rows), [" 1      \x1b[31mgone\x1b[0m  x", "10  here now  y"]);
    }

    #[test]
    fn times_are_those_of_a_calendar() {
        let now = "1700000000.000000000";
        assert_eq!(alteration("mode", "0644", "0755"), "mode 0644 → 0755");
        assert_eq!(alteration("mtime", "0.000000000", now), "mtime 1970-01-01 00:00:00 → 2023-11-14 22:13:20");
        assert!(
            alteration("mtime", "-1.000000005", now).contains("23:59:59.000000005 → 2023-11-14 22:13:20.000000000")
        );
    }

    #[test]
    fn history_reads_as_a_dockerfile() {
        assert_eq!(instruction("/bin/sh -c #(nop) ADD file:ab in / "), "ADD file:ab in /");
        assert_eq!(instruction("/bin/sh -c apt-get update"), "RUN apt-get update");
        assert_eq!(instruction("RUN /bin/sh -c pip install x # buildkit"), "RUN pip install x");
        assert_eq!(instruction("COPY . /app # buildkit"), "COPY . /app");
        assert_eq!(instruction("\x1b[31m"), "\\u{1b}[31m");
    }
}
