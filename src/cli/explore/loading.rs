//! The screen while the layers are read.

use std::sync::Mutex;

use layflat::image::Image;
use layflat::{Cancel, Progress};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{Event, KeyCode, KeyModifiers};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::super::arguments::{LookArgs, Looked};
use super::super::table::{bytes, counted};
use super::WAIT;
use super::events::Events;

#[derive(Debug, Clone, Default)]
struct LayerState {
    size: u64,
    read: u64,
    entries: u64,
    is_done: bool,
}

#[derive(Debug, Default)]
struct States(Mutex<Vec<LayerState>>);

impl States {
    fn with(&self, index: usize, act: impl FnOnce(&mut LayerState)) {
        if let Ok(mut states) = self.0.lock()
            && let Some(state) = states.get_mut(index)
        {
            act(state);
        }
    }

    fn lines(&self, name: &str) -> Vec<Line<'static>> {
        let states = self.0.lock().map(|states| states.clone()).unwrap_or_default();
        let mut lines = vec![Line::raw(format!(" reading {name} (q cancels)")), Line::raw("")];
        for (layer, state) in states.iter().enumerate() {
            let done = if state.is_done { "read" } else { "" };
            let entries = counted(state.entries, "entry", "entries");
            lines.push(Line::raw(format!(
                " layer {layer:>3}  {:>10} of {:>10}  {entries:>16}  {done}",
                bytes(state.read),
                bytes(state.size)
            )));
        }
        lines
    }
}

impl Progress for States {
    fn begin(&self, sizes: &[u64]) {
        if let Ok(mut states) = self.0.lock() {
            *states = sizes.iter().map(|&size| LayerState { size, ..LayerState::default() }).collect();
        }
    }

    fn bytes(&self, index: usize, bytes: u64) {
        self.with(index, |state| state.read = bytes);
    }

    fn entries(&self, index: usize, entries: u64) {
        self.with(index, |state| state.entries = entries);
    }

    fn layer_done(&self, index: usize) {
        self.with(index, |state| state.is_done = true);
    }
}

/// Indexes the layers of an image while the screen shows how far it is; nothing if the user has had enough.
pub(super) fn index(
    terminal: &mut DefaultTerminal,
    events: &Events,
    look: &LookArgs,
    name: &str,
    image: Image,
    cancel: &Cancel,
) -> anyhow::Result<Option<Looked>> {
    let states = States::default();
    let mine = Cancel::default();
    let (states, mine) = (&states, &mine);
    let looked = std::thread::scope(|scope| {
        let work = scope.spawn(move || look.index(image, states, mine));
        while !work.is_finished() {
            let lines = Paragraph::new(states.lines(name));
            let is_drawn = terminal.draw(|frame| frame.render_widget(lines, frame.area())).is_ok();
            let is_left = match events.next(WAIT / 2) {
                Ok(Some(Event::Key(key))) => {
                    matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
                        || (key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL))
                }
                Ok(_) => false,
                Err(_) => true,
            };
            if is_left || !is_drawn || cancel.is_cancelled() {
                mine.cancel();
            }
        }
        work.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the layers cannot be read")))
    });
    match looked {
        Err(_) if mine.is_cancelled() => Ok(None),
        other => other.map(Some),
    }
}
