//! The report as Markdown, for a pull request or the summary of a job.

use super::super::table::{bytes, count, counted};
use super::data::Data;

/// Rows of the longest tables: a summary is read, not searched.
const ROWS: usize = 10;

pub(super) fn write(data: &Data) -> String {
    let mut out = String::new();
    let Some(image) = data.images.last() else { return out };
    out.push_str(&format!("## Image report: {}\n\n", code(&image.name)));
    out.push_str(&format!(
        "{}, {} in {}, {} compressed.\n\n",
        counted(image.layers as u64, "layer", "layers"),
        bytes(image.size),
        counted(image.files, "file", "files"),
        bytes(image.stored),
    ));
    for verdict in &data.verdicts {
        out.push_str(&format!("- {} {}\n", verdict.is.mark(), verdict.text));
    }
    out.push('\n');
    if let [before, now] = data.images.as_slice() {
        let row = |what: &str, before: u64, now: u64| {
            format!("| {what} | {} | {} | {} |\n", bytes(before), bytes(now), delta(before, now))
        };
        out.push_str(&format!(
            "| | {} | {} | difference |\n| --- | ---: | ---: | ---: |\n",
            code(&before.name),
            code(&now.name)
        ));
        out.push_str(&row("compressed", before.stored, now.stored));
        out.push_str(&row("size", before.size, now.size));
        out.push_str(&row("wasted", before.wasted, now.wasted));
        out.push('\n');
    }
    if let Some(comparison) = &data.comparison {
        out.push_str(&format!(
            "Paths: {} added, {} changed, {} deleted.\n\n",
            count(comparison.added),
            count(comparison.changed),
            count(comparison.removed)
        ));
        if !comparison.packages.is_empty() {
            out.push_str("| package | before | now |\n| --- | --- | --- |\n");
            for package in comparison.packages.iter().take(50) {
                let version = |version: &Option<String>| version.as_deref().map_or("–".to_owned(), code);
                out.push_str(&format!(
                    "| {} | {} | {} |\n",
                    code(&package.name),
                    version(&package.before),
                    version(&package.now)
                ));
            }
            more(&mut out, comparison.packages.len(), 50);
        }
        let paths = comparison.paths.iter().filter(|(_, _, before, now)| before != now);
        let rows: Vec<String> = paths
            .map(|(sign, path, before, now)| format!("| {sign} | {} | {} |\n", code(path), delta(*before, *now)))
            .collect();
        table(&mut out, "| | path | difference |\n| --- | --- | ---: |\n", &rows);
    }
    let rows: Vec<String> = data
        .layers
        .iter()
        .enumerate()
        .map(|(number, layer)| {
            format!(
                "| {number} | {} | {} | +{} ~{} -{} | {} |\n",
                bytes(layer.size),
                bytes(layer.wasted()),
                count(layer.added),
                count(layer.changed),
                count(layer.removed),
                code(&shortened(&layer.words))
            )
        })
        .collect();
    out.push_str("| layer | size | wasted | paths | made by |\n| ---: | ---: | ---: | --- | --- |\n");
    out.extend(rows);
    out.push('\n');
    if !data.advice.is_empty() {
        out.push_str("### What to change\n\n");
        for advice in data.advice.iter().take(5) {
            out.push_str(&format!("- {} Saves {}.\n", advice.text, bytes(advice.saves)));
        }
        out.push('\n');
    }
    let rows: Vec<String> = data
        .waste
        .iter()
        .map(|line| {
            format!("| {} | {} | {} | {} |\n", bytes(line.bytes), line.layer, code(&line.directory), line.reason)
        })
        .collect();
    table(&mut out, "| wasted | layer | directory | why |\n| ---: | ---: | --- | --- |\n", &rows);
    if !data.findings.is_empty() {
        let rows: Vec<String> = data
            .findings
            .iter()
            .map(|finding| {
                let layer = finding.layer.map_or("image".to_owned(), |layer| format!("layer {layer}"));
                format!("| {} | {} | {layer} | {} |\n", finding.severity, finding.rule, code(&finding.text))
            })
            .collect();
        table(&mut out, "| finding | rule | where | what |\n| --- | --- | --- | --- |\n", &rows);
    }
    out
}

fn table(out: &mut String, head: &str, rows: &[String]) {
    if rows.is_empty() {
        return;
    }
    out.push_str(head);
    out.extend(rows.iter().take(ROWS).cloned());
    more(out, rows.len(), ROWS);
}

fn more(out: &mut String, all: usize, shown: usize) {
    if all > shown {
        out.push_str(&format!("\n… and {} more\n", count((all - shown) as u64)));
    }
    out.push('\n');
}

fn delta(before: u64, now: u64) -> String {
    let sign = if now < before { '-' } else { '+' };
    if before == now { "0".to_owned() } else { format!("{sign}{}", bytes(before.abs_diff(now))) }
}

/// At most as much of an instruction as fits in a table.
fn shortened(words: &str) -> String {
    match words.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words.to_owned(),
    }
}

/// Text of an image as code, in which nothing is markup: neither a table's bars nor HTML, links or mentions.
fn code(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let longest = text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let space = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{space}{}{space}{fence}", text.replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_markup() {
        assert_eq!(code("a|b"), "`a\\|b`");
        assert_eq!(code("a`b"), "``a`b``");
        assert_eq!(code("`"), "`` ` ``");
        assert_eq!(code("<script>"), "`<script>`");
    }

    #[test]
    fn differences_have_a_sign() {
        assert_eq!(delta(1024, 2048), "+1.0 KiB");
        assert_eq!(delta(2048, 1024), "-1.0 KiB");
        assert_eq!(delta(1, 1), "0");
    }
}
