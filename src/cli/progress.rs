//! Progress bars on a terminal, one line per layer. Nothing is shown elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
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
    Box::new(Bars { all: MultiProgress::new(), layers: Mutex::new(Vec::new()) })
}

struct Bars {
    all: MultiProgress,
    layers: Mutex<Vec<Layer>>,
}

struct Layer {
    bar: ProgressBar,
    entries: AtomicU64,
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
            // What waits for the network shows that it does: its rate goes down.
            bar.enable_steady_tick(TICK);
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
        if self.all.clear().is_err() {
            // The terminal went away; the work goes on.
        }
    }
}
