//! Progress bars on a terminal: one line for each layer that is being read, as many as the terminal has room for, and
//! one for all of them. Nothing is shown elsewhere, and nothing stays when the work is over.

use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use layflat::{NoProgress, Progress};

use super::arguments::Common;
use super::table::{count, counted};

/// How often a bar is drawn, at least.
const TICK: Duration = Duration::from_millis(500);
/// Lines of a terminal that does not say how many it has.
const LINES: usize = 24;

/// Bars, where someone watches.
pub(crate) fn progress(common: &Common) -> Box<dyn Progress> {
    if common.quiet || !std::io::stderr().is_terminal() {
        return Box::new(NoProgress);
    }
    let shown: Arc<Mutex<Shown>> = Arc::default();
    Box::new(Bars { _ticking: tick(Arc::clone(&shown)), shown })
}

struct Bars {
    shown: Arc<Mutex<Shown>>,
    /// Ends the thread that draws when it is dropped.
    _ticking: Option<Sender<()>>,
}

/// What is on the screen.
#[derive(Default)]
struct Shown {
    all: MultiProgress,
    /// Of all layers together, if they are several.
    total: Option<ProgressBar>,
    layers: Vec<Layer>,
    /// The most layers that have a line.
    most: usize,
}

#[derive(Default)]
struct Layer {
    size: u64,
    bytes: u64,
    entries: u64,
    is_done: bool,
    bar: Option<ProgressBar>,
}

impl Shown {
    fn begin(&mut self, sizes: &[u64]) {
        self.clear();
        let lines = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(0, |size| usize::from(size.ws_row));
        // The line of the prompt, and that of the total.
        self.most = if lines == 0 { LINES } else { lines }.saturating_sub(2).max(1);
        self.layers = sizes.iter().map(|&size| Layer { size, ..Layer::default() }).collect();
        if sizes.len() > 1 {
            self.total = Some(self.all.add(bar(sizes.iter().sum(), "total".to_owned())));
        }
    }

    fn bytes(&mut self, index: usize, bytes: u64) {
        let has_room = self.layers.iter().filter(|layer| layer.bar.is_some()).count() < self.most;
        let Some(layer) = self.layers.get_mut(index).filter(|layer| !layer.is_done) else { return };
        if layer.bar.is_none() && has_room {
            let bar = bar(layer.size, format!("layer {index}"));
            layer.bar = Some(match &self.total {
                Some(total) => self.all.insert_before(total, bar),
                None => self.all.add(bar),
            });
        }
        if let Some(bar) = &layer.bar {
            bar.set_position(bytes);
        }
        if let Some(total) = &self.total {
            total.inc(bytes.saturating_sub(layer.bytes));
        }
        layer.bytes = bytes;
    }

    fn entries(&mut self, index: usize, entries: u64) {
        let Some(layer) = self.layers.get_mut(index).filter(|layer| layer.entries != entries) else { return };
        layer.entries = entries;
        if let Some(bar) = &layer.bar {
            bar.set_message(counted(entries, "entry", "entries"));
        }
        self.sum();
    }

    fn done(&mut self, index: usize) {
        let Some(layer) = self.layers.get_mut(index) else { return };
        layer.is_done = true;
        // Its line is for another one; a single layer's stays until all is over.
        if self.total.is_some()
            && let Some(bar) = layer.bar.take()
        {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
        self.sum();
    }

    fn sum(&self) {
        let Some(total) = &self.total else { return };
        let done = self.layers.iter().filter(|layer| layer.is_done).count() as u64;
        let entries = self.layers.iter().map(|layer| layer.entries).sum();
        let layers = counted(self.layers.len() as u64, "layer", "layers");
        total.set_message(format!("{} of {layers}, {}", count(done), counted(entries, "entry", "entries")));
    }

    fn clear(&mut self) {
        self.layers.clear();
        self.total = None;
        if self.all.clear().is_err() {
            // The terminal went away; the work goes on.
        }
    }
}

fn bar(size: u64, name: String) -> ProgressBar {
    let template = "{prefix:>9} [{bar:10}] {bytes:>10}/{total_bytes:<10} {bytes_per_sec:>12} {eta:>4} {wide_msg}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(size).with_style(style).with_prefix(name)
}

/// Draws the bars now and then: what waits for the network shows that it does, since its rate goes down. Indicatif would
/// do it with a thread for each bar, and end the program where there cannot be one.
fn tick(shown: Arc<Mutex<Shown>>) -> Option<Sender<()>> {
    let (over, is_over) = channel::<()>();
    let draw = move || {
        while let Err(RecvTimeoutError::Timeout) = is_over.recv_timeout(TICK) {
            if let Ok(shown) = shown.lock() {
                let layers = shown.layers.iter().filter_map(|layer| layer.bar.as_ref());
                layers.chain(&shown.total).filter(|bar| !bar.is_finished()).for_each(ProgressBar::tick);
            }
        }
    };
    std::thread::Builder::new().spawn(draw).ok().map(|_| over)
}

impl Bars {
    fn with(&self, act: impl FnOnce(&mut Shown)) {
        if let Ok(mut shown) = self.shown.lock() {
            act(&mut shown);
        }
    }
}

impl Progress for Bars {
    fn begin(&self, sizes: &[u64]) {
        self.with(|shown| shown.begin(sizes));
    }

    fn bytes(&self, index: usize, bytes: u64) {
        self.with(|shown| shown.bytes(index, bytes));
    }

    fn entries(&self, index: usize, entries: u64) {
        self.with(|shown| shown.entries(index, entries));
    }

    fn layer_done(&self, index: usize) {
        self.with(|shown| shown.done(index));
    }

    fn settling(&self) {
        self.with(Shown::clear);
    }
}

/// Also after an error nothing stays on the screen.
impl Drop for Bars {
    fn drop(&mut self) {
        self.with(Shown::clear);
    }
}
