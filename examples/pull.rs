//! Copies an image from a registry into an OCI layout. The layers keep their bytes and so their digests.
//!
//! ```sh
//! cargo run --example pull -- docker://alpine:3.20 oci:alpine:3.20
//! ```

use layflat::NoProgress;
use layflat::copy::{CopyOptions, copy};
use layflat::transport::source::{self, Selection};
use layflat::transport::store;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = arguments.as_slice() else {
        return Err("usage: pull SOURCE DESTINATION".into());
    };
    // No blob is fetched yet, only the manifest and the configuration.
    let images = source::open_set(&from.parse()?, Selection::default(), &source::OpenOptions::default())?;
    let store = store::open(&to.parse()?, &store::OpenOptions::default())?;
    let report = copy(&images, store, &CopyOptions::default(), &NoProgress)?;
    for blob in &report.blobs {
        println!("{:10} {} {}", blob.outcome.name(), blob.kind, blob.digest);
    }
    Ok(())
}
