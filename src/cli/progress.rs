//! Progress bars on a terminal, one line per layer. Nothing is shown elsewhere.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use layflat::{NoProgress, Progress};

use super::arguments::Common;

/// How often a bar is drawn, at least.
const TICK: Duration = Duration::from_millis(500);

/// Bars, where someone watches.
pub(crate) fn progress(common: &Common) -> Box<dyn Progress> {
    if common.quiet || !std::io::stderr().is_terminal() {
        return Box::new(NoProgress);
    }
    let layers = Arc::default();
    Box::new(Bars { all: MultiProgress::new(), _ticking: tick(Arc::clone(&layers)), layers })
}

struct Bars {
    all: MultiProgress,
    layers: Arc<Mutex<Vec<Layer>>>,
    /// Ends the thread that draws when it is dropped.
    _ticking: Option<Sender<()>>,
}

struct Layer {
    bar: ProgressBar,
    entries: AtomicU64,
}

/// Draws the bars now and then: what waits for the network shows that it does, since its rate goes down. Indicatif would
/// do it with a thread for each bar, and end the program where there cannot be one.
fn tick(layers: Arc<Mutex<Vec<Layer>>>) -> Option<Sender<()>> {
    let (over, is_over) = channel::<()>();
    let draw = move || {
        while let Err(RecvTimeoutError::Timeout) = is_over.recv_timeout(TICK) {
            if let Ok(layers) = layers.lock() {
                layers.iter().filter(|layer| !layer.bar.is_finished()).for_each(|layer| layer.bar.tick());
            }
        }
    };
    std::thread::Builder::new().spawn(draw).ok().map(|_| over)
}

impl Bars {
    fn with(&self, index: usize, act: impl FnOnce(&Layer)) {
        if let Ok(layers) = self.layers.lock()
            && let Some(layer) = layers.get(index)
        {
            act(layer);
        }
    }
}

impl Progress for Bars {
    fn begin(&self, sizes: &[u64]) {
        let template = "{prefix:>9} [{bar:20}] {bytes:>10}/{total_bytes:<10} {bytes_per_sec:>12} {eta:>4} {msg}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let make = |(index, &size): (usize, &u64)| {
            let bar = ProgressBar::new(size).with_style(style.clone()).with_prefix(format!("layer {index}"));
            let bar = self.all.add(bar);
            Layer { bar, entries: AtomicU64::new(0) }
        };
        if let Ok(mut layers) = self.layers.lock() {
            *layers = sizes.iter().enumerate().map(make).collect();
        }
    }

    fn bytes(&self, index: usize, bytes: u64) {
        self.with(index, |layer| layer.bar.set_position(bytes));
    }

    fn entries(&self, index: usize, entries: u64) {
        self.with(index, |layer| {
            if layer.entries.swap(entries, Ordering::Relaxed) != entries {
                layer.bar.set_message(super::table::counted(entries, "entry", "entries"));
            }
        });
    }

    fn layer_done(&self, index: usize) {
        self.with(index, |layer| layer.bar.finish());
    }

    fn settling(&self) {
        if let Ok(mut layers) = self.layers.lock() {
            layers.clear();
        }
        if self.all.clear().is_err() {
            // The terminal went away; the work goes on.
        }
    }
}
