//! The screen.

use layflat::core::text::Printable;
use layflat::inspect::{FileState, PathId, PathKind};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use super::super::table::{alteration, bytes, count, counted};
use super::browser::{Browser, MOST_FOUND, Overlay, Pane, Preview, Sort};

/// Where the panes are, for the mouse, and the lines that they begin with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) layers: Rect,
    pub(super) first_layer: usize,
    pub(super) files: Rect,
    pub(super) first_row: usize,
    pub(super) details: Rect,
    /// How far the details can be scrolled.
    pub(super) most_scrolled: usize,
}

/// How things are emphasised; without colours, by weight alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theme {
    pub(super) has_colours: bool,
}

impl Theme {
    fn colour(self, colour: Color) -> Style {
        if self.has_colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn sign(self, sign: char) -> Style {
        match sign {
            '+' => self.colour(Color::Green),
            '~' => self.colour(Color::Yellow),
            '-' | '×' => self.colour(Color::Red),
            _ => Style::new(),
        }
    }

    pub(super) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn pane(self, title: String, has_focus: bool) -> Block<'static> {
        let style = if has_focus { self.colour(Color::Cyan).add_modifier(Modifier::BOLD) } else { self.dim() };
        Block::bordered().title(title).border_style(style)
    }
}

/// The keys that are named below the panes, the most useful first: as many as there is room for.
const KEYS: &[&str] = &[
    "? help",
    "q quit",
    "Tab pane",
    "[ ] layer",
    "/ search",
    "v view",
    "c changed",
    "d deleted",
    "w waste",
    "m compare",
    "s sort",
    "x extract",
    "e command",
];

const HELP: &[(&str, &str)] = &[
    ("arrows, h j k l", "move; open and close directories"),
    ("Enter, Space", "open or close a directory; show a file's content"),
    ("Tab, Shift-Tab", "next, previous pane: layers, files, details"),
    ("[ and ]", "the layer below, the layer above"),
    ("g G PgUp PgDn", "first, last, a page up, a page down"),
    ("s", "sort by size or by name"),
    ("c", "only what this layer changes"),
    ("d", "also what lower layers deleted"),
    ("/", "search for a part of a name, with a slash of a path; deleted files, too"),
    ("n N", "the next, the previous one that was found; Esc ends the search"),
    ("m", "mark this layer, and compare others with it"),
    ("b", "fold the layers of the base image (--base IMAGE)"),
    ("w", "what is wasted, by directory"),
    ("v, X", "show the content; in hexadecimal digits"),
    ("x", "write a file or a directory to disk, deleted or not"),
    ("e", "the command that does the same"),
    ("q", "quit"),
    ("", ""),
    ("+ ~ -", "added, changed, deleted by the layer"),
    ("×", "deleted by a layer below"),
];

/// Draws everything, and tells where it is.
pub(super) fn draw(frame: &mut Frame<'_>, browser: &Browser, theme: Theme) -> Places {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(3), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(
        Paragraph::new(title(browser, head.width)).style(Style::new().add_modifier(Modifier::BOLD)),
        head,
    );
    let left = (body.width * 2 / 5).min(80);
    let [left, right] = Layout::horizontal([Constraint::Length(left), Constraint::Min(20)]).areas(body);
    // The list is as long as it has to be, and what is left shows the chosen layer in full.
    let list = (browser.layer_lines().len() as u16)
        .saturating_add(2)
        .clamp(3, left.height.saturating_sub(left.height / 3).max(3));
    let [layers, layer] = Layout::vertical([Constraint::Length(list), Constraint::Min(0)]).areas(left);
    let [files, details] = Layout::vertical([Constraint::Fill(3), Constraint::Fill(2)]).areas(right);
    let first_layer = draw_layers(frame, layers, browser, theme);
    draw_layer(frame, layer, browser, theme);
    let first_row = draw_files(frame, files, browser, theme);
    let most_scrolled = draw_details(frame, details, browser, theme);
    draw_foot(frame, foot, browser, theme);
    match &browser.overlay {
        Overlay::Help => draw_help(frame, body, theme),
        Overlay::Waste { cursor } => draw_waste(frame, body, browser, *cursor, theme),
        Overlay::None | Overlay::Filter | Overlay::Extract { .. } => {}
    }
    Places { layers, first_layer, files, first_row, details, most_scrolled }
}

fn title(browser: &Browser, width: u16) -> String {
    let size: u64 = browser.layers.iter().map(|layer| layer.size).sum();
    let wasted: u64 = browser.layers.iter().map(|layer| layer.wasted).sum();
    let platform = browser.platform.as_ref().map(|platform| format!("  {platform}")).unwrap_or_default();
    let fitting = |text: &str, rest: usize| end_of(text, usize::from(width).saturating_sub(rest));
    if let [one, other] = browser.names.as_slice() {
        let each = 9 + (platform.chars().count() + 8 + usize::from(width)) / 2;
        return format!(" layflat  A: {}  B: {}{platform}", fitting(one, each), fitting(other, each));
    }
    let share = wasted.saturating_mul(100).checked_div(size);
    let share = share.map_or_else(String::new, |share| format!(" ({share} %)"));
    let layers = counted(browser.layers.len() as u64, "layer", "layers");
    let facts = format!("{platform}  {layers}  {}  wasted {}{share}", bytes(size), bytes(wasted));
    let name = browser.names.first().map_or("", String::as_str);
    format!(" layflat  {}{facts}", fitting(name, 10 + facts.chars().count()))
}

/// A name's end where there is no room for all of it: that tells most.
fn end_of(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return text.to_owned();
    }
    let end: String = text.chars().skip(count + 1 - width.max(1)).collect();
    format!("…{end}")
}

/// The first line to show of a list, so that the chosen one is seen.
fn window(cursor: usize, count: usize, height: usize) -> usize {
    let half = height / 2;
    cursor.saturating_sub(half).min(count.saturating_sub(height))
}

fn draw_layers(frame: &mut Frame<'_>, area: Rect, browser: &Browser, theme: Theme) -> usize {
    let title = if browser.compares_images { " Images " } else { " Layers " };
    let block = theme.pane(title.to_owned(), browser.pane == Pane::Layers);
    let inside = block.inner(area);
    let lines = browser.layer_lines();
    let here = lines.iter().position(|&(first, last)| (first..=last).contains(&browser.layer)).unwrap_or(0);
    let first = window(here, lines.len(), inside.height as usize);
    let largest = browser.layers.iter().map(|layer| layer.size).max().unwrap_or(0).max(1);
    let shown = lines.iter().skip(first).take(inside.height as usize);
    let lines: Vec<Line<'_>> = shown
        .map(|&(low, high)| {
            let range = &browser.layers[low..=high];
            let size: u64 = range.iter().map(|layer| layer.size).sum();
            let wasted: u64 = range.iter().map(|layer| layer.wasted).sum();
            let is_chosen = (low..=high).contains(&browser.layer);
            let pointer = match () {
                () if browser.marked.is_some_and(|marked| (low..=high).contains(&marked)) => 'm',
                () if is_chosen => '▸',
                () => ' ',
            };
            let words = if low == high {
                range[0].words.clone()
            } else {
                format!("base image ({})", counted((high - low + 1) as u64, "layer", "layers"))
            };
            let number = match (browser.compares_images, low == high) {
                (true, _) => if low == 0 { "A" } else { "B" }.to_owned(),
                (false, true) => low.to_string(),
                (false, false) => format!("0-{high}"),
            };
            let mut spans = vec![Span::raw(format!("{pointer}{number:>3} {:>5} ", short(size)))];
            if !browser.compares_images {
                if inside.width >= 40 {
                    let (full, hatched) = bar(size, wasted, largest);
                    spans.push(Span::styled(full, theme.colour(Color::Blue)));
                    spans.push(Span::styled(hatched, theme.colour(Color::Red)));
                }
                let wasted = if wasted > 0 { format!("-{}", short(wasted)) } else { String::new() };
                spans.push(Span::styled(format!("{wasted:>6} "), theme.colour(Color::Red)));
            }
            spans.push(Span::raw(words));
            let style = if is_chosen { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
            Line::from(spans).style(style)
        })
        .collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
    first
}

/// What the chosen layer is: its whole instruction, which the list has no room for, and its sizes.
fn draw_layer(frame: &mut Frame<'_>, area: Rect, browser: &Browser, theme: Theme) {
    let title = if browser.compares_images { " Differences ".to_owned() } else { format!(" Layer {} ", browser.layer) };
    let block = theme.pane(title, false);
    let mut lines: Vec<Line<'_>> = browser.summary.iter().map(|line| Line::raw(line.as_str())).collect();
    if let Some(layer) = browser.layers.get(browser.layer).filter(|_| !browser.compares_images) {
        lines.push(Line::raw(layer.words.as_str()));
        lines.push(Line::raw(""));
        let share = layer.wasted.saturating_mul(100).checked_div(layer.size).unwrap_or(0);
        lines.push(Line::raw(format!("{} of content, {} wasted ({share} %)", bytes(layer.size), bytes(layer.wasted))));
    }
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), area);
}

/// Bytes in at most five letters, as `ls -h` has them.
fn short(number: u64) -> String {
    let text = bytes(number);
    let (value, unit) = text.split_once(' ').unwrap_or((&text, ""));
    let value = if value.len() > 4 { value.split('.').next().unwrap_or(value) } else { value };
    format!("{value}{}", unit.chars().next().unwrap_or('B'))
}

/// A bar of six cells: what is needed, and what is wasted.
fn bar(size: u64, wasted: u64, largest: u64) -> (String, String) {
    const CELLS: u64 = 6;
    let cells = |bytes: u64| (u128::from(bytes) * u128::from(CELLS)).div_ceil(u128::from(largest)) as usize;
    let all = cells(size).min(CELLS as usize);
    let hatched = cells(wasted).min(all);
    let full = "█".repeat(all - hatched);
    (full, "▒".repeat(hatched) + &" ".repeat(CELLS as usize - all))
}

fn draw_files(frame: &mut Frame<'_>, area: Rect, browser: &Browser, theme: Theme) -> usize {
    let what = match (browser.compares_images, browser.marked) {
        (true, _) => " Files: - only in A, + only in B".to_owned(),
        (false, Some(marked)) => format!(" Files: layer {} compared with {marked}", browser.layer),
        (false, None) => format!(" Files after layer {}", browser.layer),
    };
    let sort = if browser.sort == Sort::Size { "by size" } else { "by name" };
    let mut title = format!("{what}, {sort}");
    if browser.changed_only {
        title.push_str(", changed only");
    }
    if browser.shows_deleted {
        title.push_str(", with deleted");
    }
    if !browser.filter.is_empty() {
        let first = if browser.has_all { String::new() } else { format!("the first {} ", count(MOST_FOUND as u64)) };
        title.push_str(&format!(", {first}with {:?} in the name", browser.filter));
    }
    title.push(' ');
    let block = theme.pane(title, browser.pane == Pane::Files);
    let inside = block.inner(area);
    let first = window(browser.cursor, browser.rows.len(), inside.height as usize);
    let rows = browser.rows.iter().enumerate().skip(first).take(inside.height as usize);
    let mut lines: Vec<Line<'_>> = rows
        .map(|(index, row)| {
            let line = file_line(browser, row.path, row.depth, inside.width, theme);
            let is_chosen = index == browser.cursor;
            line.style(if is_chosen { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() })
        })
        .collect();
    if lines.is_empty() {
        let why = match (browser.changed_only, browser.compares_images) {
            _ if !browser.filter.is_empty() => "nothing to show: no name has this in it",
            (true, true) => "nothing to show: the images do not differ; c shows all files",
            (true, false) => "nothing to show: nothing is changed; c shows all files",
            (false, _) => "nothing to show",
        };
        lines.push(Line::styled(why, theme.dim()));
    }
    frame.render_widget(Paragraph::new(lines).block(block), area);
    first
}

fn file_line<'b>(browser: &Browser, path: PathId, depth: u16, width: u16, theme: Theme) -> Line<'b> {
    let sign = browser.sign(path);
    let style = theme.sign(sign);
    let Some((file, deleted_by)) = browser.shown(path) else { return Line::raw("") };
    // A directory with changes in it, which is itself as it was.
    let sign = if sign == ' ' && browser.totals.is_touched(path) { '·' } else { sign };
    let mut text = format!("{:>5} {sign} ", short(browser.size(path)));
    if width >= 64 {
        text.push_str(&format!(
            "{}{:04o} {:>9}  ",
            file.kind.letter(),
            file.mode,
            format!("{}:{}", file.uid, file.gid)
        ));
    }
    text.push_str(&"  ".repeat(usize::from(depth.min(40))));
    text.push_str(match (browser.timeline.has_children(path), browser.is_expanded(path)) {
        (true, true) => "▾ ",
        (true, false) => "▸ ",
        (false, _) => "  ",
    });
    text.push_str(&Printable(browser.timeline.name(path)).to_string());
    if file.kind == PathKind::Directory {
        text.push('/');
    }
    if let (PathKind::Symlink, Some(target)) = (file.kind, &file.detail) {
        text.push_str(&format!(" -> {target}"));
    }
    if let Some(layer) = deleted_by.filter(|_| !browser.compares_images) {
        text.push_str(&format!("  (deleted by layer {layer})"));
    }
    Line::styled(text, style)
}

/// Tells how far it can be scrolled.
fn draw_details(frame: &mut Frame<'_>, area: Rect, browser: &Browser, theme: Theme) -> usize {
    let Some(path) = browser.selected() else {
        frame.render_widget(theme.pane(" Details ".to_owned(), browser.pane == Pane::Details), area);
        return 0;
    };
    let title = format!(" /{} ", browser.timeline.path(path));
    let block = theme.pane(title, browser.pane == Pane::Details);
    let inside = block.inner(area);
    let mut lines = history(browser, path, inside.width, theme);
    match &browser.preview {
        Preview::Reading(reading) if *reading == path => lines.push(Line::raw("reading …")),
        Preview::Text { path: shown, lines: text, is_cut } if *shown == path => {
            lines.push(Line::raw(""));
            lines.extend(text.iter().map(|line| Line::raw(line.as_str())));
            if *is_cut {
                lines.push(Line::styled("… (only the beginning is shown)", theme.dim()));
            }
        }
        Preview::Failed { path: failed, problem } if *failed == path => {
            lines.push(Line::styled(problem.as_str(), theme.colour(Color::Red)));
        }
        _ => {}
    }
    let width = usize::from(inside.width);
    let lines: Vec<Line<'_>> = lines.into_iter().flat_map(|line| wrapped(line, width)).collect();
    let most = lines.len().saturating_sub(inside.height as usize);
    let lines: Vec<Line<'_>> =
        lines.into_iter().skip(browser.scrolled.min(most)).take(inside.height as usize).collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
    most
}

/// A line as several, where it is too long for one.
fn wrapped(line: Line<'_>, width: usize) -> Vec<Line<'_>> {
    if width == 0 || line.width() <= width {
        return vec![line];
    }
    let style = line.style;
    let mut lines = Vec::new();
    let (mut spans, mut used) = (Vec::new(), 0);
    for span in line.spans {
        let mut piece = String::new();
        for letter in span.content.chars() {
            let letter_width = Span::raw(&*letter.encode_utf8(&mut [0; 4])).width();
            if used + letter_width > width {
                spans.push(Span::styled(std::mem::take(&mut piece), span.style));
                lines.push(Line::from(std::mem::take(&mut spans)).style(style));
                used = 0;
            }
            piece.push(letter);
            used += letter_width;
        }
        spans.push(Span::styled(piece, span.style));
    }
    lines.push(Line::from(spans).style(style));
    lines
}

/// What each layer did to a path.
fn history<'b>(browser: &'b Browser, path: PathId, width: u16, theme: Theme) -> Vec<Line<'b>> {
    let mut before: Option<&FileState> = None;
    let mut lines = Vec::new();
    let key = browser.timeline.path(path);
    for words in browser.changed.get(key.as_bytes()).into_iter().flatten() {
        lines.push(Line::styled(format!("~ {words}"), theme.sign('~')));
    }
    let is_told = !lines.is_empty();
    for state in browser.timeline.states(path) {
        let (sign, text) = match (before, &state.file) {
            (None, Some(file)) if browser.compares_images && state.layer == 0 => (' ', describe(file)),
            (None, Some(file)) => ('+', format!("added    {}", describe(file))),
            (Some(_), None) | (None, None) => ('-', "deleted".to_owned()),
            (Some(_), Some(file)) if is_told => ('~', describe(file)),
            (Some(before), Some(file)) => {
                let changed: Vec<String> = before
                    .differences(file)
                    .into_iter()
                    .map(
                        |(what, before, now)| {
                            if before == now { what.to_owned() } else { alteration(what, &before, &now) }
                        },
                    )
                    .collect();
                let changed = if changed.is_empty() { "the same again".to_owned() } else { changed.join(", ") };
                ('~', format!("changed  {changed}"))
            }
        };
        let layer = &browser.layers[state.layer.min(browser.layers.len() - 1)];
        let who = match (browser.compares_images, state.layer) {
            (true, 0) => "A".to_owned(),
            (true, _) => "B".to_owned(),
            (false, layer) => format!("layer {layer:>3}"),
        };
        let words = if browser.compares_images { "" } else { layer.words.as_str() };
        let what = Span::styled(format!("{who}  {sign} {text}"), theme.sign(sign));
        // Where they do not both fit, the words are in the pane of the layer.
        let fits = what.width() + 2 + words.chars().count().min(24) <= usize::from(width);
        let words = if fits { format!("  {words}") } else { String::new() };
        lines.push(Line::from(vec![what, Span::styled(words, theme.dim())]));
        before = state.file.as_ref();
    }
    if let Some(digest) = browser.shown(path).and_then(|(file, _)| file.digest()) {
        lines.push(Line::styled(digest.to_string(), theme.dim()));
    }
    lines
}

fn describe(file: &FileState) -> String {
    let owner = format!("{:04o} {}:{}", file.mode, file.uid, file.gid);
    match (file.kind, &file.detail) {
        (PathKind::File, _) => format!("{} bytes, {owner}", count(file.size)),
        (PathKind::Symlink, Some(target)) => format!("symbolic link to {target}"),
        (kind, Some(detail)) => format!("{} {detail}, {owner}", kind.name()),
        (kind, None) => format!("{}, {owner}", kind.name()),
    }
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, browser: &Browser, theme: Theme) {
    let text = match &browser.overlay {
        Overlay::Filter => format!(" search: {}█   (Enter keeps what is found, Esc ends it)", browser.filter),
        Overlay::Extract { name } => format!(" write to: {name}█   (Enter writes it, Esc cancels)"),
        _ if !browser.message.is_empty() => format!(" {}", browser.message),
        _ => keys(area.width),
    };
    let style = match browser.overlay {
        Overlay::Filter | Overlay::Extract { .. } => Style::new().add_modifier(Modifier::BOLD),
        _ => theme.dim(),
    };
    frame.render_widget(Paragraph::new(text).style(style), area);
}

fn keys(width: u16) -> String {
    let mut line = String::new();
    for key in KEYS {
        if line.len() + key.len() + 2 < usize::from(width) {
            line.push_str("  ");
            line.push_str(key);
        }
    }
    line
}

/// A box in the middle of the screen.
fn popup(frame: &mut Frame<'_>, area: Rect, title: &str, wanted: usize, theme: Theme) -> Rect {
    let height = (wanted as u16).saturating_add(2).min(area.height);
    // No frame in a frame where there is no room for both.
    let width = if area.width <= 100 { area.width } else { (area.width - 4).min(110) };
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let block = theme.pane(format!(" {title} "), true);
    let inside = block.inner(place);
    frame.render_widget(Clear, place);
    frame.render_widget(block, place);
    inside
}

fn draw_help(frame: &mut Frame<'_>, area: Rect, theme: Theme) {
    let inside = popup(frame, area, "Keys (any key closes this)", HELP.len(), theme);
    let lines: Vec<Line<'_>> = HELP.iter().map(|(keys, what)| Line::raw(format!("{keys:<18} {what}"))).collect();
    frame.render_widget(Paragraph::new(lines), inside);
}

fn draw_waste(frame: &mut Frame<'_>, area: Rect, browser: &Browser, cursor: usize, theme: Theme) {
    let count = browser.waste.len();
    let inside = popup(frame, area, "Wasted, by directory (Enter goes there, Esc closes this)", count.max(1), theme);
    let height = inside.height as usize;
    let first = window(cursor, count, height);
    let rows = browser.waste.iter().enumerate().skip(first).take(height);
    let mut lines: Vec<Line<'_>> = rows
        .map(|(index, line)| {
            let files = counted(line.files, "file", "files");
            let text = format!(
                "{:>5}  {files:>12}  layer {:>3}  /{}  {}",
                short(line.bytes),
                line.layer,
                line.directory.to_string().trim_start_matches('/'),
                line.cause
            );
            let is_chosen = index == cursor;
            Line::styled(text, if is_chosen { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() })
        })
        .collect();
    if lines.is_empty() {
        lines.push(Line::raw("nothing is wasted"));
    }
    frame.render_widget(Paragraph::new(lines), inside);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let shown = [0, 999, 1023, 1536, 10 << 20, 1000 << 20, u64::MAX].map(short);
        assert_eq!(shown, ["0B", "999B", "1023B", "1.5K", "10.0M", "1000M", "16.0E"].map(str::to_owned));
        assert!(shown.iter().all(|text| text.len() <= 5));
    }

    #[test]
    fn the_chosen_line_is_always_seen() {
        for count in 0..30 {
            for cursor in 0..count {
                let first = window(cursor, count, 10);
                assert!((first..first + 10).contains(&cursor), "{cursor} of {count}");
            }
        }
    }

    #[test]
    fn long_lines_are_wrapped_and_long_names_cut() {
        let shown = |line: &Line<'_>| line.spans.iter().map(|span| span.content.as_ref()).collect::<String>();
        let lines = wrapped(Line::from(vec![Span::raw("abcd"), Span::raw("日本x")]), 5);
        assert_eq!(lines.iter().map(shown).collect::<Vec<_>>(), ["abcd", "日本x"]);
        assert_eq!(wrapped(Line::raw("abc"), 3).len(), 1);
        assert_eq!(
            (end_of("abc", 3).as_str(), end_of("abcd", 3).as_str(), end_of("abc", 0).as_str()),
            ("abc", "…cd", "…")
        );
    }

    #[test]
    fn what_is_wasted_is_hatched() {
        assert_eq!(bar(60, 0, 60), ("██████".to_owned(), String::new()));
        assert_eq!(bar(60, 20, 60), ("████".to_owned(), "▒▒".to_owned()));
        assert_eq!(bar(0, 0, 60), (String::new(), "      ".to_owned()));
        assert_eq!(bar(1, 1, u64::MAX), (String::new(), "▒     ".to_owned()));
    }
}
