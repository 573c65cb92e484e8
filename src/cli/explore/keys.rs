//! What keys and the mouse do.

use layflat::core::text::Printable;
use layflat::inspect::{PathId, PathKind};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::{Position, Rect};

use super::browser::{Browser, Overlay, Pane, Preview};
use super::content::{How, Request, What};
use super::draw::Places;

/// What the screen's loop has to do after a key.
#[derive(Debug)]
pub(super) enum Next {
    Draw,
    Quit,
    Ask(Request),
}

pub(super) fn key(browser: &mut Browser, key: KeyEvent) -> Next {
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    if is_control && key.code == KeyCode::Char('c') {
        return Next::Quit;
    }
    browser.message.clear();
    match std::mem::replace(&mut browser.overlay, Overlay::None) {
        Overlay::Help => return Next::Draw,
        Overlay::Filter => return typed_filter(browser, key.code),
        Overlay::Extract { name } => return typed_name(browser, name, key.code),
        Overlay::Waste { cursor } => return in_waste(browser, cursor, key.code),
        Overlay::None => {}
    }
    match key.code {
        KeyCode::Char('q') => return Next::Quit,
        KeyCode::Char('?') | KeyCode::F(1) => browser.overlay = Overlay::Help,
        KeyCode::Char('/') => browser.overlay = Overlay::Filter,
        KeyCode::Char('w') => browser.overlay = Overlay::Waste { cursor: 0 },
        KeyCode::Esc if !browser.filter.is_empty() => browser.set_filter(String::new()),
        KeyCode::Esc => browser.preview = Preview::None,
        KeyCode::Tab => browser.pane = next(browser.pane),
        KeyCode::BackTab => browser.pane = next(next(browser.pane)),
        KeyCode::Char('s') => browser.toggle_sort(),
        KeyCode::Char('c') => browser.toggle_changed_only(),
        KeyCode::Char('d') if is_control => scroll(browser, browser.page / 2),
        KeyCode::Char('u') if is_control => scroll(browser, -browser.page / 2),
        KeyCode::Char('d') => browser.toggle_deleted(),
        KeyCode::Char('m') => browser.mark(),
        KeyCode::Char('n') => browser.next_match(true),
        KeyCode::Char('N') => browser.next_match(false),
        KeyCode::Char('b') if !is_control => browser.fold_base(),
        KeyCode::Char('[') => browser.step_layer(false),
        KeyCode::Char(']') => browser.step_layer(true),
        KeyCode::Char('e') => browser.message = command(browser),
        KeyCode::Char('x') => extract(browser),
        KeyCode::Char('v') => return ask(browser, false),
        KeyCode::Char('X') => return ask(browser, true),
        KeyCode::Up | KeyCode::Char('k') => scroll(browser, -1),
        KeyCode::Down | KeyCode::Char('j') => scroll(browser, 1),
        KeyCode::Char('b') if is_control => scroll(browser, -browser.page),
        KeyCode::PageUp => scroll(browser, -browser.page),
        KeyCode::Char('f') if is_control => scroll(browser, browser.page),
        KeyCode::PageDown => scroll(browser, browser.page),
        KeyCode::Home | KeyCode::Char('g') => scroll(browser, isize::MIN / 2),
        KeyCode::End | KeyCode::Char('G') => scroll(browser, isize::MAX / 2),
        KeyCode::Left | KeyCode::Char('h') if browser.pane == Pane::Files => browser.collapse(),
        KeyCode::Right | KeyCode::Char('l') if browser.pane == Pane::Files => browser.expand(),
        KeyCode::Enter | KeyCode::Char(' ') if browser.pane == Pane::Files => {
            let is_directory = browser.selected().is_some_and(|path| browser.timeline.has_children(path));
            if !is_directory {
                return ask(browser, false);
            }
            browser.toggle();
        }
        KeyCode::Enter if browser.pane == Pane::Layers => browser.pane = Pane::Files,
        _ => {}
    }
    Next::Draw
}

fn next(pane: Pane) -> Pane {
    match pane {
        Pane::Layers => Pane::Files,
        Pane::Files => Pane::Details,
        Pane::Details => Pane::Layers,
    }
}

fn scroll(browser: &mut Browser, lines: isize) {
    match browser.pane {
        Pane::Files => browser.move_by(lines),
        Pane::Details => browser.scrolled = browser.scrolled.saturating_add_signed(lines).min(1 << 20),
        Pane::Layers => {
            for _ in 0..lines.unsigned_abs().min(browser.layers.len()) {
                browser.step_layer(lines < 0);
            }
        }
    }
}

fn typed_filter(browser: &mut Browser, code: KeyCode) -> Next {
    let mut filter = browser.filter.clone();
    match code {
        KeyCode::Enter => return Next::Draw,
        KeyCode::Esc => filter.clear(),
        KeyCode::Backspace => drop(filter.pop()),
        KeyCode::Char(letter) => filter.push(letter),
        _ => {}
    }
    if code != KeyCode::Esc {
        browser.overlay = Overlay::Filter;
    }
    if filter != browser.filter {
        browser.set_filter(filter);
    }
    Next::Draw
}

fn typed_name(browser: &mut Browser, mut name: String, code: KeyCode) -> Next {
    match code {
        KeyCode::Esc => return Next::Draw,
        KeyCode::Enter if !name.is_empty() => {
            return write(browser, name);
        }
        KeyCode::Backspace => drop(name.pop()),
        KeyCode::Char(letter) => name.push(letter),
        _ => {}
    }
    browser.overlay = Overlay::Extract { name };
    Next::Draw
}

fn in_waste(browser: &mut Browser, cursor: usize, code: KeyCode) -> Next {
    let last = browser.waste.len().saturating_sub(1);
    let cursor = match code {
        KeyCode::Up | KeyCode::Char('k') => cursor.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => (cursor + 1).min(last),
        KeyCode::PageUp => cursor.saturating_sub(browser.page.unsigned_abs()),
        KeyCode::PageDown => (cursor + browser.page.unsigned_abs()).min(last),
        KeyCode::Enter => {
            if let Some(line) = browser.waste.get(cursor) {
                let (layer, directory) = (line.layer, line.directory.clone());
                if let Some(path) = browser.timeline.find(&directory) {
                    browser.go_to(layer, path);
                }
            }
            return Next::Draw;
        }
        KeyCode::Esc | KeyCode::Char('w' | 'q') => return Next::Draw,
        _ => cursor,
    };
    browser.overlay = Overlay::Waste { cursor };
    Next::Draw
}

/// The selected file's content, for the details.
fn ask(browser: &mut Browser, as_hex: bool) -> Next {
    browser.as_hex = as_hex;
    let next = content(browser, if as_hex { How::Hex } else { How::Text });
    if let (Next::Ask(request), Some(path)) = (&next, browser.selected()) {
        debug_assert_eq!(request.path, path);
        browser.preview = Preview::Reading(path);
    }
    next
}

/// Which of two images has what is shown.
fn image(browser: &Browser, path: PathId) -> usize {
    let states = browser.timeline.states(path);
    let second = states.iter().any(|state| state.layer == 1 && state.file.is_some());
    usize::from(browser.compares_images && second)
}

fn content(browser: &mut Browser, how: How) -> Next {
    let Some(path) = browser.selected() else { return Next::Draw };
    let Some((file, _)) = browser.shown(path) else { return Next::Draw };
    let Some((layer, content)) = file.content else {
        let what = if file.kind == PathKind::File { "an empty file" } else { file.kind.name() };
        browser.message = format!("/{} has no content to show: {what}", browser.timeline.path(path));
        return Next::Draw;
    };
    Next::Ask(Request { path, image: image(browser, path), what: What::Content { layer, content, how } })
}

/// Writes what is selected, deleted or not, to a name that nothing has.
fn write(browser: &mut Browser, name: String) -> Next {
    let Some(path) = browser.selected() else { return Next::Draw };
    let Some((file, deleted_by)) = browser.shown(path) else { return Next::Draw };
    let (mode, has_content) = (file.mode, file.content.is_some());
    let layer = as_of(browser, deleted_by);
    browser.message = format!("writing {name} …");
    if has_content {
        return content(browser, How::File { name, mode });
    }
    let source = browser.timeline.path(path);
    Next::Ask(Request { path, image: image(browser, path), what: What::Copy { source, layer, name } })
}

/// The layer as of which something is there that is shown; of two images, always the last.
fn as_of(browser: &Browser, deleted_by: Option<usize>) -> Option<usize> {
    let layer = deleted_by.map_or(browser.layer, |layer| layer.saturating_sub(1));
    (!browser.compares_images).then_some(layer)
}

fn extract(browser: &mut Browser) {
    let Some(path) = browser.selected() else { return };
    if browser.shown(path).is_some() {
        let name = Printable(browser.timeline.name(path)).to_string();
        browser.overlay = Overlay::Extract { name };
    }
}

/// What to type for the same.
fn command(browser: &Browser) -> String {
    let platform = browser.platform.as_ref().map(|platform| format!("--platform {platform} ")).unwrap_or_default();
    let names: Vec<String> = browser.names.iter().map(|name| shell(name)).collect();
    let [image, ..] = names.as_slice() else { return String::new() };
    if browser.compares_images {
        return format!("layflat diff {platform}{}", names.join(" "));
    }
    if let Some(marked) = browser.marked.filter(|&marked| marked != browser.layer) {
        return format!("layflat diff {platform}--layer {marked},{} {image} {image}", browser.layer);
    }
    let Some(path) = browser.selected() else { return format!("layflat ls -R {platform}{image}") };
    let name = format!("/{}", browser.timeline.path(path));
    match browser.shown(path) {
        Some((file, deleted_by)) => {
            let layer = as_of(browser, deleted_by).unwrap_or(browser.layer);
            let layer = if layer + 1 == browser.layers.len() { String::new() } else { format!("--layer {layer} ") };
            match file.kind {
                PathKind::File => format!("layflat cat {platform}{layer}{image} {}", shell(&name)),
                _ => format!("layflat cp {platform}{layer}{} .", shell(&format!("{}:{name}", browser.names[0]))),
            }
        }
        None => format!("layflat log {platform}{image} {}", shell(&name)),
    }
}

/// As a word that a shell takes as it is.
fn shell(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-:@,+=".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

pub(super) fn mouse(browser: &mut Browser, event: MouseEvent, places: Places) -> Next {
    let at = Position { x: event.column, y: event.row };
    let line = |area: Rect| usize::from(event.row.saturating_sub(area.y + 1));
    let is_in = |area: Rect| area.contains(at) && event.row > area.y && event.row + 1 < area.y + area.height;
    if let (Overlay::Waste { cursor }, Some(step)) = (&browser.overlay, wheel(event)) {
        let last = browser.waste.len().saturating_sub(1);
        browser.overlay = Overlay::Waste { cursor: cursor.saturating_add_signed(step).min(last) };
    }
    if browser.overlay != Overlay::None {
        return Next::Draw;
    }
    if let Some(step) = wheel(event) {
        browser.pane = match () {
            () if places.layers.contains(at) => Pane::Layers,
            () if places.details.contains(at) => Pane::Details,
            () => Pane::Files,
        };
        scroll(browser, if browser.pane == Pane::Layers { step.signum() } else { step });
        return Next::Draw;
    }
    match event.kind {
        MouseEventKind::Down(MouseButton::Left) if is_in(places.layers) => {
            browser.pane = Pane::Layers;
            let chosen = browser.layer_lines().get(places.first_layer + line(places.layers)).copied();
            if let Some((_, layer)) = chosen {
                browser.choose_layer(layer);
            }
        }
        MouseEventKind::Down(MouseButton::Left) if is_in(places.files) => {
            browser.pane = Pane::Files;
            let row = places.first_row + line(places.files);
            if row == browser.cursor {
                browser.toggle();
            } else if row < browser.rows.len() {
                browser.move_to(row);
            }
        }
        MouseEventKind::Down(MouseButton::Left) if is_in(places.details) => browser.pane = Pane::Details,
        _ => {}
    }
    Next::Draw
}

/// How many lines the wheel goes on.
fn wheel(event: MouseEvent) -> Option<isize> {
    match event.kind {
        MouseEventKind::ScrollUp => Some(-3),
        MouseEventKind::ScrollDown => Some(3),
        _ => None,
    }
}
