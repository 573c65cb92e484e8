//! Unpacks an image's layers into directories of their own and mounts them with overlayfs, read-only. Needs root.
//!
//! ```sh
//! cargo build --example mount && sudo target/debug/examples/mount fixtures/four-layers.tar stack /mnt
//! ```

use std::path::Path;

use layflat::mount::{MountOptions, mount_layout};
use layflat::transport::source;
use layflat::{NoProgress, Options, layers};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, directory, target] = arguments.as_slice() else {
        return Err("usage: mount IMAGE DIRECTORY MOUNTPOINT".into());
    };
    let image = source::open(&image.parse()?, &source::OpenOptions::default())?;
    layers(&image, Path::new(directory), &Options::default(), &NoProgress)?;
    // `layflat.json` in the directory lists the lowerdirs; any other program can mount them as well (docs/formats.md).
    let mounted = mount_layout(Path::new(directory), Path::new(target), MountOptions::default())?;
    println!("mounted on {target} by {:?}; undo it with: umount {target}", mounted.method);
    Ok(())
}
