//! Unpacks into overlay layers: the second step adds the whiteouts that overlayfs needs to each directory.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::io::Errno;

use super::copies::Copies;
use super::fitness::Fitness;
use super::settle::{Finish, Settler};
use super::{Ground, RESULT, io, replay, settle_error, stage_name};
use crate::core::digest::Digest;
use crate::core::overlayfs::XattrNamespace;
use crate::fs::{Work, make_directory, open_directory};
use crate::image::Image;
use crate::lowerdirs::{FILE_NAME, LayerDirectory, Layout, Modified, modified};
use crate::unpack::stage::Home;
use crate::unpack::{Error, Made, Options, Progress, Report};

/// The directory of unpacked overlay layers that holds the layers' directories.
const LAYERS: &str = "layers";
/// The image's configuration, byte by byte.
const CONFIG: &str = "image-config.json";

/// Unpacks an image as directories for an overlay mount: `destination` gets `layers/`, [`FILE_NAME`] and, if the image
/// has a configuration, `image-config.json`.
///
/// The destination appears whole or not at all (rule S2), as with [`flatten`](super::flatten()). The whiteouts are
/// written in [`Options::xattr_namespace`], or as privilege allows (rule O5).
///
/// ```
/// use layflat::transport::source::OpenOptions;
/// use layflat::{NoProgress, Options};
///
/// let image = layflat::open(&"fixtures/four-layers.tar".parse()?, &OpenOptions::default())?;
/// let place = tempfile::tempdir()?;
/// let overlay = place.path().join("overlay");
/// layflat::layers(&image, &overlay, &Options::default(), &NoProgress)?;
/// assert!(overlay.join("layflat.json").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A damaged or hostile image, a digest that is not what the image states, a destination that cannot be used or
/// written.
pub fn layers(image: &Image, destination: &Path, options: &Options, progress: &dyn Progress) -> Result<Report, Error> {
    arranged(Arrangement::Layout, image, destination, options, progress)
}

/// Unpacks an image as a mount stack of systemd (260 and later: systemd.mstack(7)), for `RootMStack=` and `systemd-nspawn
/// --mstack=`: `destination` gets one directory `layer@NNNN-…` a layer and, if the image has a configuration, `.image-config.json`.
///
/// The whiteouts are written as `user.overlay.*`, which is what systemd's mount obeys, whatever
/// [`Options::xattr_namespace`] says. Else it is as [`layers`].
///
/// # Errors
/// As [`layers`].
pub fn mstack(image: &Image, destination: &Path, options: &Options, progress: &dyn Progress) -> Result<Report, Error> {
    let options = Options { xattr_namespace: Some(XattrNamespace::User), ..options.clone() };
    arranged(Arrangement::Mstack, image, destination, &options, progress)
}

/// What the directories are called, and what lies beside them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arrangement {
    /// Our own, with a [`FILE_NAME`] that lists them.
    Layout,
    /// A mount stack, where names say all: systemd sorts what follows `layer@` by number, bottom first, takes no notice of names that
    /// begin with a dot, and refuses all others.
    Mstack,
}

impl Arrangement {
    /// A layer's directory: in order, and to be told apart by a person.
    fn layer(self, index: usize, diff_id: &Digest) -> String {
        let short = &diff_id.hex()[..12];
        match self {
            Self::Layout => format!("{index:04}-{short}"),
            // What is below the lowest layer has number 0.
            Self::Mstack => format!("layer@{:04}-{short}", index + 1),
        }
    }

    /// What is below the lowest layer, so that there are two directories to mount.
    fn empty(self) -> [&'static str; 2] {
        match self {
            Self::Layout => ["empty", "empty-2"],
            Self::Mstack => ["layer@0000-empty", "layer@0000-empty-2"],
        }
    }

    /// The path of a layer's directory from the destination.
    fn path(self, name: &str) -> String {
        match self {
            Self::Layout => format!("{LAYERS}/{name}"),
            Self::Mstack => name.to_owned(),
        }
    }
}

fn arranged(
    arrangement: Arrangement,
    image: &Image,
    destination: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, Error> {
    let work = Work::beside(destination, options.replace, options.durability())?;
    let result =
        make_directory(work.directory(), RESULT, Mode::from_raw_mode(0o777)).map_err(io("cannot make the result"))?;
    let directory = match arrangement {
        Arrangement::Layout => make_directory(&result, LAYERS, Mode::from_raw_mode(0o777)),
        Arrangement::Mstack => open_directory(work.directory(), RESULT.as_bytes()),
    };
    let directory = Arc::new(directory.map_err(io("cannot make the result"))?);
    let namespace = match options.xattr_namespace {
        Some(namespace) => namespace,
        None => allowed_namespace(work.directory())?,
    };
    let fitness = Fitness::probe(work.directory(), namespace)?;
    let mut ground = Ground::prepare(image, work, Some(namespace), options, progress)?;
    let records = std::mem::take(&mut ground.records);
    let stack = replay(&records, options)?;
    fitness.check(&stack, stack.layers())?;

    let mut settler = Settler::new(
        &stack,
        &records,
        &mut ground.staging,
        Finish::Overlay(namespace),
        Copies::of(&ground.layers, &options.limits),
        options,
    );
    for (index, difference) in stack.layers().iter().enumerate() {
        if difference.entries().is_empty() {
            continue;
        }
        let name = arrangement.layer(index, &ground.layers[index].diff_id);
        rustix::fs::renameat(ground.work.directory(), stage_name(index), directory.as_fd(), &name)
            .map_err(io("cannot move a layer"))?;
        settler.stages[index].moved(Home::new(&directory, name.clone()));
        if let Some(mode) = settler.settle(index, difference).map_err(settle_error)? {
            let root = settler.stages[index].root().map_err(io("cannot open a layer"))?;
            rustix::fs::fchmod(root, mode).map_err(io("cannot set a layer's mode"))?;
        }
        settler.stages[index].close();
        ground.layers[index].directory = Some(arrangement.path(&name));
    }
    let losses = settler.losses;
    ground.losses.push(losses);

    let mut lowerdir: Vec<String> = ground.layers.iter().rev().filter_map(|layer| layer.directory.clone()).collect();
    // Overlayfs mounts no single lowerdir (rule O4).
    for name in arrangement.empty() {
        if lowerdir.len() < 2 {
            let empty = make_directory(directory.as_fd(), name, Mode::RWXU).map_err(io("cannot make a layer"))?;
            ground
                .staging
                .capabilities
                .set_root(empty.as_fd(), &stack.shown_root())
                .map_err(io("cannot set a layer's attributes"))?;
            lowerdir.push(arrangement.path(name));
        }
    }
    if arrangement == Arrangement::Layout {
        let layout = describe(image, &ground, namespace, lowerdir, directory.as_fd())?;
        write_file(result.as_fd(), FILE_NAME, &layout.to_json())?;
    }
    if let Some(config) = &image.config {
        let hidden = if arrangement == Arrangement::Mstack { "." } else { "" };
        write_file(result.as_fd(), &format!("{hidden}{CONFIG}"), &config.bytes)?;
    }
    let form = if arrangement == Arrangement::Mstack { "mstack" } else { Layout::FORM };
    let (mut report, work) = ground.report(image, form, Made::of(&stack, stack.layers()), Some(namespace), options)?;
    report.destination = work.publish(RESULT, |_| Ok(()))?;
    Ok(report)
}

/// The [`FILE_NAME`] of layers that lie in `directory`.
fn describe(
    image: &Image,
    ground: &Ground,
    namespace: XattrNamespace,
    lowerdir: Vec<String>,
    directory: BorrowedFd<'_>,
) -> Result<Layout, Error> {
    let remember = |name: &String| {
        let own = name.trim_start_matches(LAYERS).trim_start_matches('/');
        match open_directory(directory, own.as_bytes()).and_then(modified) {
            Ok(modified) => Ok((name.clone(), modified)),
            // A root that its owner may not read, unless that is root, cannot be looked at later, either.
            Err(Errno::ACCESS) => Ok((name.clone(), Modified::default())),
            Err(errno) => Err(io("cannot look at a layer")(errno)),
        }
    };
    Ok(Layout {
        modified: lowerdir.iter().map(remember).collect::<Result<_, Error>>()?,
        format: Layout::FORMAT,
        form: Layout::FORM.to_owned(),
        image_digest: image.manifest_digest().cloned(),
        config_digest: image.config.as_ref().map(|config| config.digest.clone()),
        xattr_namespace: namespace,
        layers: ground
            .layers
            .iter()
            .map(|layer| LayerDirectory {
                diff_id: layer.diff_id.clone(),
                chain_id: layer.chain_id.clone(),
                directory: layer.directory.clone(),
            })
            .collect(),
        lowerdir,
    })
}

/// `trusted.overlay.*` where we may write it, else `user.overlay.*` (rule O5).
pub(super) fn allowed_namespace(directory: BorrowedFd<'_>) -> Result<XattrNamespace, Error> {
    let probe = format!("{}origin", XattrNamespace::Trusted.prefix());
    match rustix::fs::fsetxattr(directory, probe.as_str(), b"", rustix::fs::XattrFlags::empty()) {
        Ok(()) => Ok(XattrNamespace::Trusted),
        Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => Ok(XattrNamespace::User),
        // Trouble that says nothing of what is allowed.
        Err(error) => Err(io("cannot find out which extended attributes are allowed")(error)),
    }
}

pub(super) fn write_file(directory: BorrowedFd<'_>, name: &str, bytes: &[u8]) -> Result<(), Error> {
    use rustix::fs::OFlags;
    let description = |error| Error::Io { action: format!("cannot write {name}"), error };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = crate::fs::openat(directory, name, flags, Mode::from_raw_mode(0o666))
        .map_err(|error| description(error.into()))?;
    std::fs::File::from(file).write_all(bytes).map_err(description)
}
