//! What a program of your own does with an image: looks into it without unpacking it, unpacks it, and makes sure that
//! what it has is what the image shows.
//!
//! ```sh
//! cargo run --no-default-features --example look_and_unpack -- fixtures/four-layers.tar target/rootfs
//! ```

use std::path::Path;

use layflat::compare::{CompareOptions, differences};
use layflat::inspect::index::indexes;
use layflat::inspect::{Fate, Holding, Inside, Pattern, Traced};
use layflat::transport::source::OpenOptions;
use layflat::tree::Snapshot;
use layflat::unpack::AttributeProbe;
use layflat::{NoProgress, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, destination] = arguments.as_slice() else {
        return Err("usage: look_and_unpack IMAGE DESTINATION".into());
    };
    let (destination, options) = (Path::new(destination), Options::default());
    let image = layflat::open(&name.parse()?, &OpenOptions::default())?;
    if let Some(config) = &image.config {
        println!("it runs {:?}", [&config.parsed.config.entrypoint[..], &config.parsed.config.cmd[..]].concat());
    }

    // Each layer is read once, without its contents; a directory in the place of `None` keeps what was found.
    let indexes = indexes(&image, None, &options, &NoProgress)?;
    let traced = Traced::new(&image, &indexes, &options)?;
    for hit in traced.find(&Pattern::globs(["id_rsa", "*.key"])?, true) {
        let fate = match hit.fate {
            Fate::Visible => "is in the image".to_owned(),
            Fate::Hidden { by } | Fate::Replaced { by } => format!("is not there since layer {by}, but shipped"),
            Fate::Overwritten => "is shipped".to_owned(),
        };
        println!("{} of layer {} {fate}", hit.entry.path, hit.in_layer);
    }

    let report = layflat::flatten(&image, destination, &options, &NoProgress)?;
    for loss in &report.not_kept {
        println!("{}: {} {}", loss.describe(), loss.count, loss.noun());
    }
    // The image as this user can have it here, and what lies here.
    let place = tempfile::tempdir_in(destination.parent().unwrap_or(Path::new(".")))?;
    let mut probe = AttributeProbe::new(place.path(), &options)?;
    let inside = Inside::new(&image, &indexes, &options)?;
    let shown = inside.shown_tree(Path::new(name), Holding::AsUnpacked(&mut probe), &options)?;
    let (there, how) = (Snapshot::take(destination, &Default::default())?, CompareOptions::default());
    let found = differences(&shown, &there, &how)?;
    println!("{} layers, {} entries, {} differences", report.layers.len(), report.entries, found.len());
    if found.is_empty() { Ok(()) } else { Err("it is not what the image shows".into()) }
}
