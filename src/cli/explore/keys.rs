//! What keys and the mouse do.

use layflat::core::text::Printable;
use layflat::inspect::PathKind;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::{Position, Rect};

use super::browser::{Browser, Overlay, Pane, Preview};
use super::content::{How, Request};
use super::draw::Places;

/// What the screen's loop has to do after a key.
#[derive(Debug)]
pub(super) enum Next {
    Draw,
    Quit,
    Ask(Request),
}

/// Lines of a page; what is seen differs little.
const PAGE: isize = 15;

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
        KeyCode::Char('d') if is_control => scroll(browser, PAGE / 2),
        KeyCode::Char('u') if is_control => scroll(browser, -PAGE / 2),
        KeyCode::Char('d') => browser.toggle_deleted(),
        KeyCode::Char('m') => browser.mark(),
        KeyCode::Char('b') => browser.fold_base(),
        KeyCode::Char('[') => browser.step_layer(false),
        KeyCode::Char(']') => browser.step_layer(true),
        KeyCode::Char('e') => browser.message = command(browser),
        KeyCode::Char('x') => extract(browser),
        KeyCode::Char('v') => return ask(browser, false),
        KeyCode::Char('X') => return ask(browser, true),
        KeyCode::Up | KeyCode::Char('k') => scroll(browser, -1),
        KeyCode::Down | KeyCode::Char('j') => scroll(browser, 1),
        KeyCode::PageUp => scroll(browser, -PAGE),
        KeyCode::PageDown => scroll(browser, PAGE),
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
            let mode = browser.selected().and_then(|path| browser.shown(path)).map_or(0o644, |(file, _)| file.mode);
            browser.message = format!("writing {name} …");
            return request(browser, How::File { name, mode });
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
        KeyCode::PageUp => cursor.saturating_sub(PAGE.unsigned_abs()),
        KeyCode::PageDown => (cursor + PAGE.unsigned_abs()).min(last),
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
    let next = request(browser, if as_hex { How::Hex } else { How::Text });
    if let (Next::Ask(request), Some(path)) = (&next, browser.selected()) {
        debug_assert_eq!(request.path, path);
        browser.preview = Preview::Reading(path);
    }
    next
}

fn request(browser: &mut Browser, how: How) -> Next {
    let Some(path) = browser.selected() else { return Next::Draw };
    let Some((file, _)) = browser.shown(path) else { return Next::Draw };
    let Some((layer, content)) = file.content else {
        browser.message = format!("{} has no content: it is a {}", browser.timeline.path(path), file.kind.name());
        return Next::Draw;
    };
    let states = browser.timeline.states(path);
    let second = states.iter().any(|state| state.layer == 1 && state.file.is_some());
    let image = usize::from(browser.compares_images && second);
    Next::Ask(Request { path, image, layer, content, how })
}

fn extract(browser: &mut Browser) {
    let Some(path) = browser.selected() else { return };
    match browser.shown(path) {
        Some((file, _)) if file.kind == PathKind::File => {
            let name = Printable(browser.timeline.name(path)).to_string();
            browser.overlay = Overlay::Extract { name };
        }
        Some((file, _)) => {
            browser.message = format!("a {} cannot be written to a file; e shows a command", file.kind.name());
        }
        None => {}
    }
}

/// What to type for the same.
fn command(browser: &Browser) -> String {
    let image = shell(&browser.title);
    let Some(path) = browser.selected() else { return format!("layflat ls -R {image}") };
    let name = shell(&format!("/{}", browser.timeline.path(path)));
    match browser.shown(path) {
        _ if browser.compares_images => "layflat diff IMAGE IMAGE2".to_owned(),
        Some((file, _)) if file.kind == PathKind::File => {
            let layer = browser
                .timeline
                .states(path)
                .iter()
                .rev()
                .find(|state| state.layer <= browser.layer && state.file.is_some());
            let layer = layer.map_or(browser.layer, |state| state.layer);
            format!("layflat cat --layer {layer} {image} {name}")
        }
        Some(_) => format!("layflat ls -l {image} {name}"),
        None => format!("layflat log {image} {name}"),
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
    if browser.overlay != Overlay::None {
        return Next::Draw;
    }
    match event.kind {
        MouseEventKind::ScrollUp | MouseEventKind::ScrollDown => {
            let step: isize = if event.kind == MouseEventKind::ScrollUp { -3 } else { 3 };
            browser.pane = match () {
                () if places.layers.contains(at) => Pane::Layers,
                () if places.details.contains(at) => Pane::Details,
                () => Pane::Files,
            };
            scroll(browser, if browser.pane == Pane::Layers { step.signum() } else { step });
        }
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
