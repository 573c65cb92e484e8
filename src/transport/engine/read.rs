//! Reads an image from the daemon's store: the daemon exports it as a docker archive.

use crate::transport::docker;
use std::path::Path;

use crate::core::reference::{DaemonImage, ImageName};
use crate::image::Image;
use crate::net::engine::Daemon;
use crate::transport::io::files::Files;
use crate::transport::source::{OpenOptions, SourceError};

/// The names of all images, or of those with one name.
pub(in crate::transport) fn names(of: Option<&DaemonImage>, options: &OpenOptions) -> Result<Vec<String>, SourceError> {
    let whole = |name: &str| name.parse::<ImageName>().ok();
    let wanted = match of {
        Some(DaemonImage::Name(name)) => Some(name),
        Some(DaemonImage::Id(_)) | None => None,
    };
    let is_wanted = |name: &String| match (wanted, whole(name)) {
        (None, _) => true,
        (Some(wanted), Some(name)) => wanted.registry() == name.registry() && wanted.repository() == name.repository(),
        (Some(_), None) => false,
    };
    let names = Daemon::find(options.daemon.as_deref(), &options.cancel)?.names()?;
    Ok(names.into_iter().filter(is_wanted).collect())
}

pub(in crate::transport) fn open(image: &DaemonImage, options: &OpenOptions) -> Result<Image, SourceError> {
    let daemon = Daemon::find(options.daemon.as_deref(), &options.cancel)?;
    let saved = daemon.save(image)?;
    let label = format!("docker-daemon:{image}");
    let files = Files::of_stream(Path::new(&label), saved.archive, options)?;
    let opened = docker::read::open(&files, None, options)?;
    let name = match image {
        DaemonImage::Name(name) if saved.is_named => Some(name.complete().to_string()),
        _ => opened.name.clone(),
    };
    Ok(Image { name, ..opened })
}
