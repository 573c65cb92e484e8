//! `layflat explore`: an image in a terminal, layer by layer.
//!
//! [`browser`] holds what is chosen, [`keys`] change it, [`draw`] shows it, [`content`] reads files in a thread of its own.

mod browser;
mod content;
mod draw;
mod events;
mod keys;
mod layers;
mod loading;
mod platform;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use layflat::Cancel;
use layflat::core::record::LayerPath;
use layflat::core::text::Printable;
use layflat::inspect::{Timeline, Traced};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{DisableMouseCapture, EnableMouseCapture, Event, KeyEventKind};
use ratatui::crossterm::execute;

use super::arguments::{Common, LookArgs, Looked};
use super::diff::{Compared, sum};
use super::{SUCCESS, output};
use browser::{Browser, Preview};
use content::{Answer, Request};
use draw::{Places, Theme};
use events::Events;
use keys::Next;
use layers::LayerLine;
use platform::{Chooser, Chosen};

/// How long a key is waited for before the screen is drawn again.
const WAIT: Duration = Duration::from_millis(100);

/// Browse an image in the terminal, layer by layer
///
/// Shows the layers, the files after each of them with what was added, changed and deleted, and the history and content
/// of every file, deleted ones too. With IMAGE2, shows what differs between the two images. Nothing is unpacked; ? shows
/// the keys.
#[derive(Debug, Args)]
pub(crate) struct Explore {
    #[command(flatten)]
    look: LookArgs,
    /// A second image to compare with the first
    image2: Option<OsString>,
    /// Fold the layers that this image has, too
    #[arg(long, value_name = "IMAGE", conflicts_with = "image2")]
    base: Option<OsString>,
}

impl Explore {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        ensure!(
            std::io::stdout().is_terminal() && std::io::stdin().is_terminal(),
            "explore needs a terminal; inspect, ls, find, log and waste print the same"
        );
        let theme = Theme { has_colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) };
        let mut chooser = Chooser::new(&self.look, theme, cancel);
        let Some(first) = chooser.open(&self.look.image.image)? else { return Ok(SUCCESS) };
        let second = match &self.image2 {
            Some(image) => match chooser.open(image)? {
                None => return Ok(SUCCESS),
                opened => opened,
            },
            None => None,
        };
        let base = match &self.base {
            Some(image) => match chooser.open(image)? {
                None => return Ok(SUCCESS),
                opened => opened,
            },
            None => None,
        };
        let base = base.map_or(0, |base| common_layers(&first, &base));
        let names = std::iter::once(&self.look.image.image).chain(&self.image2);
        let names: Vec<String> = names.map(|name| Printable(name.as_bytes()).to_string()).collect();
        // Notes would be written over the screen.
        output::be_quiet(true);
        // A program that ends leaves the terminal as it was.
        let _held = layflat::fs::hold();
        let mut terminal = ratatui::try_init().context("cannot use the terminal")?;
        let result = (|| {
            let Chosen { platform, events } = chooser.done()?;
            let mut images = Vec::new();
            for (image, name) in std::iter::once(first).chain(second).zip(&names) {
                match loading::index(&mut terminal, &events, &self.look, name, image, cancel)? {
                    Some(looked) => images.push(looked),
                    None => return Ok(()),
                }
            }
            let mut browser = browser(&images, &names)?;
            browser.base = base;
            browser.platform = platform;
            execute!(std::io::stdout(), EnableMouseCapture)?;
            browse(&mut terminal, &events, &mut browser, &images, theme, cancel)
        })();
        let _ = execute!(std::io::stdout(), DisableMouseCapture);
        ratatui::restore();
        output::be_quiet(common.quiet);
        result.map(|()| SUCCESS)
    }
}

/// How many layers two images have in common, from the bottom.
fn common_layers(image: &layflat::image::Image, base: &layflat::image::Image) -> usize {
    let same = |(one, other): &(&layflat::image::Layer, &layflat::image::Layer)| {
        one.diff_id.is_some() && one.diff_id == other.diff_id
    };
    image.layers.iter().zip(&base.layers).take_while(same).count()
}

fn browser(images: &[Looked], names: &[String]) -> anyhow::Result<Browser> {
    match (images, names) {
        ([looked], [name]) => {
            let traced = Traced::new(&looked.image, &looked.indexes, &looked.options)?;
            let waste = traced.waste(None);
            let layers = layers::layers(&looked.image, &waste);
            ensure!(!layers.is_empty(), "{name} has no layers");
            Ok(Browser::new(vec![name.clone()], layers, traced.by_directory(&waste), Timeline::of(&traced)))
        }
        ([first, second], [one, other]) => {
            let compared = Compared::new(first, second)?;
            let changed = compared.changed();
            let differs = |path: &LayerPath| changed.contains_key(path.as_bytes());
            let timeline = Timeline::between(&compared.first, &compared.second, &differs);
            let line = |name: &String, layer| LayerLine {
                words: name.clone(),
                size: timeline.totals(None, layer).size(Timeline::ROOT),
                wasted: 0,
            };
            let layers = vec![line(one, 0), line(other, 1)];
            let mut browser = Browser::new(names.to_vec(), layers, Vec::new(), timeline);
            browser.compares_images = true;
            browser.changed = changed;
            browser.summary = vec![sum(compared.statistics.total())];
            browser.toggle_changed_only();
            Ok(browser)
        }
        _ => bail!("explore shows one image, or two"),
    }
}

/// Shows the screen and obeys keys, until it is left.
fn browse(
    terminal: &mut DefaultTerminal,
    events: &Events,
    browser: &mut Browser,
    images: &[Looked],
    theme: Theme,
    cancel: &Cancel,
) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let (ask, requests) = channel();
        let (answer, answers) = channel();
        std::thread::Builder::new()
            .name("content".to_owned())
            .spawn_scoped(scope, move || content::answer(images, requests, &answer))
            .context("cannot start a thread that reads files")?;
        let result = obey(terminal, events, browser, theme, &ask, &answers, cancel);
        // A file that is being read is not waited for.
        for looked in images {
            looked.options.cancel.cancel();
        }
        drop(ask);
        result
    })
}

fn obey(
    terminal: &mut DefaultTerminal,
    events: &Events,
    browser: &mut Browser,
    theme: Theme,
    ask: &Sender<Request>,
    answers: &Receiver<Answer>,
    cancel: &Cancel,
) -> anyhow::Result<()> {
    while !cancel.is_cancelled() {
        let mut places = Places::default();
        terminal.draw(|frame| places = draw::draw(frame, browser, theme))?;
        browser.page = isize::from(places.files.height.saturating_sub(3).max(1) as i16);
        browser.scrolled = browser.scrolled.min(places.most_scrolled);
        let next = match events.next(WAIT)? {
            Some(Event::Key(key)) if key.kind != KeyEventKind::Release => keys::key(browser, key),
            Some(Event::Mouse(event)) => keys::mouse(browser, event, places),
            _ => Next::Draw,
        };
        match next {
            Next::Draw => {}
            Next::Quit => break,
            Next::Ask(request) => drop(ask.send(request)),
        }
        while let Ok(answer) = answers.try_recv() {
            match answer {
                Answer::Lines { path, lines, is_cut } => browser.preview = Preview::Text { path, lines, is_cut },
                Answer::Failed { path, problem } => {
                    browser.message = problem.clone();
                    browser.preview = Preview::Failed { path, problem };
                }
                Answer::Written { what } => browser.message = format!("written: {what}"),
            }
        }
    }
    Ok(())
}
