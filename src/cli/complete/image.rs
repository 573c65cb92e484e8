//! Images by their names, and what is in them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use layflat::Options;
use layflat::cache;
use layflat::core::reference::{Platform, Reference};
use layflat::core::text::Printable;
use layflat::image::Image;
use layflat::inspect::index::{Indexes, known};
use layflat::inspect::{Inside, ListOptions, PathKind};
use layflat::transport::source::{self, OpenOptions};

use super::super::cp;
use super::files;
use super::line::Line;

/// What the names of images that are not just paths begin with.
const TRANSPORTS: [&str; 7] =
    ["docker://", "docker-archive:", "docker-daemon:", "dir:", "layers:", "oci:", "oci-archive:"];

/// Names of images: files and directories, forms of names, and what archives and layouts call their images.
pub(super) fn names(word: &str) -> Vec<String> {
    let Some((transport, rest)) = TRANSPORTS.iter().find_map(|name| Some((*name, word.strip_prefix(name)?))) else {
        let mut found = files::matching(word);
        if !word.is_empty() {
            found.extend(TRANSPORTS.iter().filter(|name| name.starts_with(word)).map(|&name| name.to_owned()));
        }
        return found;
    };
    match transport {
        // Only the registry knows, and only the engine.
        "docker://" | "docker-daemon:" => Vec::new(),
        "layers:" => {
            let (before, last) = rest.rsplit_once(',').map_or(("", rest), |(before, last)| (before, last));
            let comma = if before.is_empty() { "" } else { "," };
            files::matching(last).iter().map(|path| format!("{transport}{before}{comma}{path}")).collect()
        }
        _ => {
            let mut found: Vec<String> =
                files::matching(rest).iter().map(|path| format!("{transport}{path}")).collect();
            if transport != "dir:" {
                found.extend(tags(transport, rest));
            }
            found
        }
    }
}

/// `PLACE:NAME`: the names of the images in a place, once that is named whole.
fn tags(transport: &str, rest: &str) -> Vec<String> {
    let place = match rest.match_indices(':').map(|(at, _)| &rest[..at]).find(|place| files::place(place).exists()) {
        Some(place) => place,
        None if !rest.is_empty() && !rest.ends_with('/') && files::place(rest).exists() => rest,
        None => return Vec::new(),
    };
    let Some(options) = options(None) else { return Vec::new() };
    let names =
        local(OsStr::new(&format!("{transport}{place}"))).and_then(|found| source::names(&found, &options).ok());
    let names = names.unwrap_or_default().into_iter().map(|name| format!("{transport}{place}:{name}"));
    let word = format!("{transport}{rest}");
    names.filter(|name| name.starts_with(&word) && is_plain(name.as_bytes())).collect()
}

/// `IMAGE:PATH`.
pub(super) fn names_and_paths(line: &Line<'_>, word: &str) -> Vec<String> {
    let parts = match cp::split(OsStr::new(word)) {
        Ok((image, path)) => Some((image, path.to_string_lossy().into_owned())),
        Err(_) => word.strip_suffix(':').map(|image| (OsString::from(image), String::new())),
    };
    if let Some((image, path)) = parts
        && let Some(paths) = Looked::at(line, &image).map(|looked| looked.paths(&path, line))
    {
        let before = &word[..word.len() - path.len()];
        return paths.iter().map(|path| format!("{before}{path}")).collect();
    }
    let mut found = names(word);
    // A file that is named whole is an image, and something in it comes next.
    if files::place(word).is_file() {
        found.push(format!("{word}:/"));
    }
    found
}

/// Paths in the image that stands before.
pub(super) fn paths(line: &Line<'_>, word: &str) -> Vec<String> {
    let Some(looked) = line.given("image").and_then(|image| Looked::at(line, image)) else { return Vec::new() };
    looked.paths(word, line)
}

/// The numbers of the image's layers.
pub(super) fn layers(line: &Line<'_>, word: &str) -> Vec<String> {
    let image = line.given("image").or(line.given("a")).and_then(|image| open(line, image));
    let count = image.map_or(0, |image| image.layers.len());
    (0..count).map(|layer| layer.to_string()).filter(|number| number.starts_with(word)).collect()
}

/// An image whose layers are all indexed in the cache.
struct Looked {
    image: Image,
    indexes: Indexes,
}

impl Looked {
    fn at(line: &Line<'_>, name: &OsStr) -> Option<Self> {
        let image = open(line, name)?;
        let cache = line.given("cache_dir").map(PathBuf::from).or_else(cache::directory)?;
        cache::check_owner(&cache).ok()?;
        let indexes = known(&image, &cache)?;
        Some(Self { image, indexes })
    }

    /// What begins so, directories with a slash at the end.
    fn paths(&self, word: &str, line: &Line<'_>) -> Vec<String> {
        let options = Options::default();
        let layer = line.given("layer").and_then(OsStr::to_str).and_then(|layer| layer.parse().ok());
        let inside = match layer {
            Some(layer) => Inside::up_to(layer, &self.image, &self.indexes, &options),
            None => Inside::new(&self.image, &self.indexes, &options),
        };
        let (directory, name) = match word.rfind('/') {
            Some(slash) => word.split_at(slash + 1),
            None => ("", word),
        };
        let at = if directory.is_empty() { "/" } else { directory };
        let Ok(listing) = inside.and_then(|inside| inside.list(at.as_bytes(), ListOptions::default())) else {
            return Vec::new();
        };
        let found = listing.entries.iter().filter_map(|entry| {
            let own = entry.path.components().next_back()?;
            let own = std::str::from_utf8(own).ok().filter(|own| own.starts_with(name) && is_plain(own.as_bytes()))?;
            Some(format!("{directory}{own}{}", if entry.kind == PathKind::Directory { "/" } else { "" }))
        });
        found.collect()
    }
}

/// Opens an image that can be opened without more than a look.
fn open(line: &Line<'_>, name: &OsStr) -> Option<Image> {
    let reference = local(name)?;
    source::open(&reference, &options(line.given("platform"))?).ok()
}

fn options(platform: Option<&OsStr>) -> Option<OpenOptions> {
    let platform = match platform {
        Some(platform) => Some(platform.to_str()?.parse::<Platform>().ok()?),
        None => None,
    };
    Some(OpenOptions { platform, ..OpenOptions::default() })
}

/// An image here, in a directory or an archive that is not compressed: of others too much would have to be read.
fn local(name: &OsStr) -> Option<Reference> {
    let name = name.to_str()?;
    let tilde = TRANSPORTS.iter().find_map(|transport| Some((*transport, name.strip_prefix(transport)?)));
    let (transport, rest) = tilde.unwrap_or(("", name));
    let name = match rest.starts_with("~/") {
        true => format!("{transport}{}", files::place(rest).to_str()?),
        false => name.to_owned(),
    };
    let reference = source::reference(OsStr::new(&name)).ok()?;
    let is_quick = match &reference {
        Reference::OciLayout { .. } | Reference::Directory(_) => true,
        Reference::DockerArchive { file, .. } | Reference::OciArchive { file, .. } => is_plain_archive(file),
        Reference::Path(path) => path.is_dir() || is_plain_archive(path),
        Reference::Registry(_) | Reference::DockerDaemon(_) | Reference::Layers(_) => false,
    };
    is_quick.then_some(reference)
}

fn is_plain_archive(file: &Path) -> bool {
    let mut magic = [0; 5];
    // A named pipe would be waited for.
    let opened = if file.is_file() { File::open(file).ok() } else { None };
    opened.is_some_and(|file| file.read_exact_at(&mut magic, 257).is_ok()) && &magic == b"ustar"
}

/// Whether a name can be typed as it is.
fn is_plain(name: &[u8]) -> bool {
    Printable(name).to_string().as_bytes() == name
}
