//! Opens the images, and asks which one of a multi-platform image is meant.

use std::ffi::OsString;

use anyhow::Context as _;
use layflat::Cancel;
use layflat::core::reference::Platform;
use layflat::core::text::Printable;
use layflat::image::Image;
use layflat::transport::source::{self, SourceError};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::super::arguments::LookArgs;
use super::WAIT;
use super::draw::Theme;
use super::events::Events;

/// Opens images, all for the same platform if they have it.
pub(super) struct Chooser<'a> {
    look: &'a LookArgs,
    theme: Theme,
    cancel: &'a Cancel,
    platform: Option<Platform>,
    events: Option<Events>,
}

/// What was chosen.
pub(super) struct Chosen {
    /// Nothing, where there was no choice.
    pub(super) platform: Option<Platform>,
    pub(super) events: Events,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(look: &'a LookArgs, theme: Theme, cancel: &'a Cancel) -> Self {
        Self { look, theme, cancel, platform: look.image.open.platform.clone(), events: None }
    }

    pub(super) fn done(self) -> anyhow::Result<Chosen> {
        let events = self.events.map_or_else(Events::listen, Ok)?;
        Ok(Chosen { platform: self.platform, events })
    }

    /// Opens an image; nothing, if the user has had enough.
    pub(super) fn open(&mut self, name: &OsString) -> anyhow::Result<Option<Image>> {
        let reference = source::reference(name)?;
        let mut options = self.look.image.open.open_options(self.cancel)?;
        let cannot_open = || format!("cannot open {reference}");
        if options.platform.is_none() {
            // What cannot be read here is reported when the image is opened.
            let offered = source::platforms(&reference, &options).unwrap_or_default();
            let known = self.platform.clone().filter(|known| offered.contains(known));
            options.platform = match offered.as_slice() {
                [] | [_] => None,
                _ if known.is_some() => known,
                _ => match self.ask(name, &offered)? {
                    None => return Ok(None),
                    chosen => chosen,
                },
            };
        }
        match source::open(&reference, &options) {
            // An archive that is compressed, and not looked at before for that.
            Err(SourceError::NoSuchPlatform { offered, .. }) if options.platform.is_none() => {
                let offered: Vec<Platform> = offered.iter().filter_map(|platform| platform.parse().ok()).collect();
                let Some(chosen) = self.ask(name, &offered)? else { return Ok(None) };
                options.platform = Some(chosen);
                source::open(&reference, &options).map(Some).with_context(cannot_open)
            }
            opened => opened.map(Some).with_context(cannot_open),
        }
    }

    /// Shows the platforms until one is chosen.
    fn ask(&mut self, name: &OsString, offered: &[Platform]) -> anyhow::Result<Option<Platform>> {
        let name = Printable(name.as_encoded_bytes()).to_string();
        let _held = layflat::fs::hold();
        let mut terminal = ratatui::try_init().context("cannot use the terminal")?;
        let events = match self.events.take() {
            Some(events) => events,
            None => Events::listen()?,
        };
        let chosen = choose(&mut terminal, &events, &name, offered, self.theme, self.cancel);
        self.events = Some(events);
        ratatui::restore();
        let chosen = chosen?.and_then(|chosen| offered.get(chosen).cloned());
        self.platform.clone_from(&chosen);
        Ok(chosen)
    }
}

fn choose(
    terminal: &mut DefaultTerminal,
    events: &Events,
    name: &str,
    offered: &[Platform],
    theme: Theme,
    cancel: &Cancel,
) -> anyhow::Result<Option<usize>> {
    let host = Platform::host();
    let mut cursor = offered.iter().position(|platform| host.suits(platform).is_some()).unwrap_or(0);
    while !cancel.is_cancelled() {
        terminal.draw(|frame| frame.render_widget(question(name, offered, cursor, theme), frame.area()))?;
        let Some(Event::Key(key)) = events.next(WAIT)? else { continue };
        match key.code {
            _ if key.kind == KeyEventKind::Release => {}
            KeyCode::Char('q') | KeyCode::Esc => return Ok(None),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(None),
            KeyCode::Enter | KeyCode::Char(' ' | 'l') | KeyCode::Right => return Ok(Some(cursor)),
            KeyCode::Up | KeyCode::Char('k') => cursor = cursor.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => cursor = (cursor + 1).min(offered.len().saturating_sub(1)),
            _ => {}
        }
    }
    Ok(None)
}

fn question(name: &str, offered: &[Platform], cursor: usize, theme: Theme) -> Paragraph<'static> {
    let mut lines = vec![Line::raw(format!(" {name} has images for several platforms. Which one?")), Line::raw("")];
    lines.extend(offered.iter().enumerate().map(|(number, platform)| {
        let is_chosen = number == cursor;
        let line =
            Line::raw(format!(" {} {}", if is_chosen { '▸' } else { ' ' }, Printable(platform.to_string().as_bytes())));
        line.style(if is_chosen { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() })
    }));
    lines.push(Line::raw(""));
    lines.push(Line::styled(" j k choose   Enter opens it   q quits   next time: --platform PLATFORM", theme.dim()));
    Paragraph::new(lines)
}
