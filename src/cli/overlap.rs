//! Keeps `--replace` from removing what the command reads: the image itself, or the cache.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use layflat::core::text::Printable;
use layflat::transport::source;

/// Refuses a destination that holds the image or the cache, or lies in the image: replacing it would destroy them.
pub(crate) fn refuse_replacing_source(image: &OsStr, cache: Option<PathBuf>, destination: &Path) -> anyhow::Result<()> {
    // If it does not exist, nothing is replaced. Opening it reports the error.
    let Ok(place) = destination.canonicalize() else { return Ok(()) };
    let name = |path: &Path| Printable(path.as_os_str().as_encoded_bytes()).to_string();
    for source in source::reference(image)?.paths() {
        if let Ok(whole) = source.canonicalize()
            && (whole.starts_with(&place) || place.starts_with(&whole))
        {
            anyhow::bail!(
                "--replace {} would remove its own source {}: choose another destination",
                name(destination),
                name(source)
            );
        }
    }
    let cache = cache.and_then(|cache| cache.canonicalize().ok()).filter(|cache| cache.starts_with(&place));
    if let Some(cache) = cache {
        anyhow::bail!(
            "--replace {} would remove the cache in {}: choose another destination",
            name(destination),
            name(&cache)
        );
    }
    Ok(())
}
