//! Unpacks an image into one root file system and reports what could not be kept.
//!
//! ```sh
//! cargo run --example flatten -- fixtures/four-layers.tar target/rootfs
//! ```

use std::path::Path;

use layflat::transport::source;
use layflat::{NoProgress, Options, flatten};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, destination] = arguments.as_slice() else {
        return Err("usage: flatten IMAGE DESTINATION".into());
    };
    // An image is named as on the command line: a path, `docker://alpine`, `oci:DIR:TAG`.
    let image = source::open(&image.parse()?, &source::OpenOptions::default())?;
    let report = flatten(&image, Path::new(destination), &Options::default(), &NoProgress)?;
    println!("{} layers, {} entries", report.layers.len(), report.entries);
    for loss in &report.not_kept {
        println!("{}: {} {}", loss.describe(), loss.count, loss.noun());
    }
    Ok(())
}
