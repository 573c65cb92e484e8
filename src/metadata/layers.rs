//! EROFS images in a directory of the user's, which depends on nothing but, where that is asked for, the user's own archive.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode};

use super::cached::{BESIDE, text};
use super::images;
use super::sources::Sources;
use super::{How, MetadataError, Verify};
use crate::contents::contents;
use crate::contents::in_place::{self, plain_layers};
use crate::fs::{Work, make_directory};
use crate::image::Image;
use crate::lowerdirs::Stamp;
use crate::unpack::{Error, Loss, Made, Options, Owners, Progress, io};

/// The name of the result in the work directory.
const RESULT: &str = "result";
/// Where content files lie.
const CONTENTS: &str = "contents";
/// The image's configuration, byte by byte.
const CONFIG: &str = "image-config.json";

/// What was made.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LayersReport {
    /// Where.
    pub destination: PathBuf,
    /// The layers of the image.
    pub layers: usize,
    /// What the images show.
    #[serde(flatten)]
    pub made: Made,
    /// Bytes in the files that contents lie in.
    pub contents: u64,
    /// Whether those are the user's own archive.
    pub in_place: bool,
    /// Whether every byte was checked.
    pub verified: bool,
    /// What the images do not hold (rule A4).
    pub not_kept: Vec<Loss>,
}

/// Makes a directory with EROFS images of an image, a `layflat.json`, and content files, which come by way of the cache directory `cache`, or
/// references to archives in place. It appears whole or not at all (rule S2).
///
/// # Errors
/// As [`cached`](super::cached()), and a destination that cannot be used.
pub fn layers(
    image: &Image,
    destination: &Path,
    cache: &Path,
    how: &How,
    options: &Options,
    progress: &dyn Progress,
) -> Result<LayersReport, MetadataError> {
    if options.owners != Owners::AsTheyAre {
        return Err(MetadataError::Owners);
    }
    let plain = if how.in_place { Some(plain_layers(image)?) } else { None };
    let work = Work::beside(destination, options.replace, options.durability())?;
    let failed = || io("cannot make the result");
    let result =
        make_directory(work.directory(), RESULT, Mode::from_raw_mode(0o755)).map_err(io("cannot make the result"))?;
    let made = PathBuf::from(format!("/proc/self/fd/{}", result.as_raw_fd()));
    let verified = !how.in_place || how.verify() != Verify::Nothing;
    let sources = match &plain {
        None => {
            let every_byte = how.verify() == Verify::Full;
            // Its files get other names here, which a cache that is only read would notice.
            let options = &Options { lower_cache: None, ..options.clone() };
            let mut sources = Sources::of_content_files(contents(image, cache, every_byte, options, progress)?);
            std::fs::create_dir(made.join(CONTENTS)).map_err(failed())?;
            for device in &mut sources.devices {
                let name = Path::new(CONTENTS).join(device.tag.replace(':', "-"));
                bring(&device.path, &made.join(&name)).map_err(io("cannot put a content file into the result"))?;
                let file = File::open(made.join(&name)).map_err(failed())?;
                device.seal.stamp = Stamp::of(&file).map_err(failed())?;
                // One more name changes it.
                for kept in sources.kept.iter().filter(|kept| kept.path() == device.path && is_same(kept.path(), &file))
                {
                    kept.renew(device.seal.stamp);
                }
                device.path = name;
            }
            sources
        }
        Some(plain) => {
            let path = made.join(BESIDE);
            let beside = File::options().read(true).write(true).create_new(true).open(&path).map_err(failed())?;
            let writing = beside.try_clone().map_err(failed())?;
            let (located, length) = in_place::locate(image, plain, verified, writing, options, progress)?;
            if length == 0 {
                std::fs::remove_file(&path).map_err(failed())?;
            }
            Sources::in_place(plain, located, (Path::new(BESIDE), &beside), &options.cancel)?
        }
    };
    let (not_kept, held) = images::write(&made, image, &sources, how.stacking, verified, &text, options)?;
    if let Some(config) = &image.config {
        images::write_file(&made.join(CONFIG), &config.bytes)?;
    }
    let contents = sources.devices.iter().map(|device| device.seal.stamp.size).sum();
    let destination = work.publish(RESULT, |_| Ok(())).map_err(Error::from)?;
    Ok(LayersReport {
        destination,
        layers: image.layers.len(),
        made: held,
        contents,
        in_place: how.in_place,
        verified,
        not_kept,
    })
}

/// Whether a path leads to an open file.
fn is_same(path: &Path, file: &File) -> bool {
    let file = file.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
    path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino())) == file
}

/// Another name for a file that never changes, or a copy where it cannot have one.
fn bring(from: &Path, to: &Path) -> std::io::Result<()> {
    match rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()) {
        Ok(()) => Ok(()),
        Err(_) => std::fs::copy(from, to).map(drop),
    }
}
