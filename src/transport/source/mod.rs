//! Opens images. Each source finds the manifest and the configuration, verifies them, and knows where the layers' bytes
//! are.

pub(in crate::transport) mod artifact;
pub(in crate::transport) mod choose;
pub(in crate::transport) mod incomplete;
pub(in crate::transport) mod manifests;
pub(in crate::transport) mod names;
pub(in crate::transport) mod raw;
pub(in crate::transport) mod referrers;
pub(in crate::transport) mod required;
pub(in crate::transport) mod set;
#[cfg(feature = "registry")]
pub(in crate::transport) mod signed;

use crate::transport::{dir, docker, engine, oci, registry};
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::blob::{Blob, BlobError, Compression};
use crate::cache::Blobs;
use crate::configuration::{ConfigurationError, ConfigurationFile};
use crate::core::cancel::Cancel;
use crate::core::chain::Cause;
use crate::core::limits::Limits;
use crate::core::reference::{Platform, Reference, ReferenceError};
use crate::core::tar::ArchiveError;
use crate::image::{ConfigError, Image, Layer};
#[cfg(feature = "registry")]
use crate::net::registry::RegistryOptions;

pub(crate) use crate::transport::io::files::Files;
use crate::transport::io::spool;
pub use raw::{engine_names, manifest, names, platforms};
pub use referrers::{Referrer, referrers};
use required::admit_path;
pub use set::{Attachment, Index, Named, Selection, Tree, open_set};

/// How an image is opened.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Which image of several; this machine's when `None`. When it is given, an image for another one is refused.
    pub platform: Option<Platform>,
    /// The most that manifests and configurations may ask for.
    pub limits: Limits,
    /// Open an image although files of layers are missing, or not as many layers are there as its configuration says:
    /// reading such a layer fails. For those who look for all that is wrong with an image.
    pub incomplete: bool,
    /// Stops the reading of standard input or of a compressed archive, and the waiting for a registry.
    pub cancel: Cancel,
    /// How registries are talked to.
    #[cfg(feature = "registry")]
    pub registry: RegistryOptions,
    /// The cache for blobs from registries; `None` disables it.
    pub cache: Option<Blobs>,
    /// The address of the engine: the path of a socket, or as in DOCKER_HOST; `None` searches for it.
    pub daemon: Option<String>,
    /// The `policy.json` that counts: which images may be used at all.
    pub policy: ConfigurationFile,
}

/// Why an image could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file cannot be read.
    #[error("{path:?}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system error.
        #[source]
        error: std::io::Error,
    },
    /// Something else than a regular file.
    #[error("{0:?} is not a regular file")]
    NotAFile(PathBuf),
    /// A compressed archive that cannot be decompressed.
    #[error("{path:?}: damaged {} data", .compression.name())]
    Damaged {
        /// The archive.
        path: PathBuf,
        /// How it is compressed.
        compression: Compression,
        /// The error of the decoder.
        #[source]
        error: std::io::Error,
    },
    /// A compressed archive that grows out of all proportion (rule S4).
    #[error("{path:?}: the ratio of uncompressed to compressed bytes exceeds the limit of {limit}")]
    Ratio {
        /// The archive.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// A tar archive that cannot be read.
    #[error("{path:?} at byte {position}")]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Where in it, uncompressed.
        position: u64,
        /// The problem.
        #[source]
        error: ArchiveError,
    },
    /// A manifest, index or configuration that is not what its digest says, or too large.
    #[error("{name}")]
    Blob {
        /// Which file.
        name: String,
        /// The problem.
        #[source]
        error: BlobError,
    },
    /// A file that the image should hold.
    #[error("{0} is missing: the image is incomplete")]
    Missing(String),
    /// A JSON document that cannot be read.
    #[error("{name}")]
    Json {
        /// Which file.
        name: String,
        /// The problem.
        #[source]
        error: Cause,
    },
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Neither an archive nor a layout of an image.
    #[error("{path:?} {problem}")]
    NotAnImage {
        /// As the caller named it.
        path: PathBuf,
        /// What it is instead, and what to do.
        problem: String,
    },
    /// There are several images, and none was named.
    #[error("there are {} images, specify one of: {}", .names.len(), .names.join(", "))]
    Ambiguous {
        /// Their names.
        names: Vec<String>,
    },
    /// An image of that name is not there.
    #[error("there is no image {wanted:?}; available: {}", list(.names))]
    NoSuchImage {
        /// The requested name.
        wanted: String,
        /// What is available.
        names: Vec<String>,
    },
    /// No image for the platform is there.
    #[error("there is no image for {wanted}; available: {}", list(.offered))]
    NoSuchPlatform {
        /// The requested name.
        wanted: Platform,
        /// What is available.
        offered: Vec<String>,
    },
    /// A manifest of something else, or of a kind that is not supported.
    #[error("{name}: {problem}")]
    Unsupported {
        /// Which file or layer.
        name: String,
        /// What it is.
        problem: String,
    },
    /// Something that is not an image, and has no file system.
    #[error("{name} is {what}, not an image")]
    Artifact {
        /// What was asked for, or its digest.
        name: String,
        /// What it is.
        what: String,
    },
    /// A tag that a registry lists and does not have.
    #[error(
        "the tag {0:?} is listed, but does not exist: it was deleted meanwhile, or the registry's list is out of date"
    )]
    Vanished(String),
    /// A repository without tags.
    #[error("{0} has no tags, so there is nothing to copy")]
    NoTags(String),
    /// Indexes within indexes.
    #[error("indexes are nested more than {0} deep")]
    NestedTooDeep(usize),
    /// The signature policy refuses the image.
    #[error("refused by {scope} in {policy:?}: {problem}")]
    Policy {
        /// The file.
        policy: PathBuf,
        /// Which part of it holds for the image.
        scope: String,
        /// What is required.
        problem: String,
    },
    /// `registries.conf` or `policy.json` cannot be read.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The registry reported an error.
    #[cfg(feature = "registry")]
    #[error(transparent)]
    Registry(crate::net::registry::RegistryError),
    /// The engine reported an error.
    #[cfg(feature = "registry")]
    #[error(transparent)]
    Daemon(crate::net::engine::DaemonError),
    /// This build lacks the feature.
    #[error("{place} needs the feature `{feature}`, which this build lacks")]
    NotBuilt {
        /// As the caller named it.
        place: String,
        /// The feature of the crate.
        feature: &'static str,
    },
    /// The cache cannot be written.
    #[error(transparent)]
    Cache(std::io::Error),
    /// [`Cancel`] was used.
    #[error("interrupted")]
    Cancelled,
}

pub(in crate::transport) fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// Reads how a user names an image. `docker-archive:a:b` means the file `a:b` if that is there, and the image `b` in
/// `a` if not.
///
/// # Errors
/// As [`Reference::parse`].
pub fn reference(text: &std::ffi::OsStr) -> Result<Reference, ReferenceError> {
    Reference::parse_among(text, &|path| path.exists())
}

/// Opens an image: finds and checks its manifest and configuration. No layer is read yet.
///
/// ```
/// use layflat::transport::source::OpenOptions;
///
/// // `docker://alpine`, `docker-daemon:app:dev` and all other names work alike.
/// let image = layflat::open(&"fixtures/four-layers.tar".parse()?, &OpenOptions::default())?;
/// assert_eq!(image.layers.len(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A source that cannot be read, that holds no image or several, or whose image is not what its digests say.
pub fn open(reference: &Reference, options: &OpenOptions) -> Result<Image, SourceError> {
    admit(reference, options)?;
    match reference {
        Reference::DockerArchive { file, name } => {
            docker::read::open(&Files::of_archive(file, options)?, name.as_deref(), options)
        }
        Reference::OciArchive { file, tag } => {
            oci::read::open(&Files::of_archive(file, options)?, tag.as_deref(), options)
        }
        Reference::OciLayout { directory, tag } => {
            oci::read::open(&Files::of_directory(directory), tag.as_deref(), options)
        }
        Reference::Registry(name) => registry::read::open(name, options),
        Reference::DockerDaemon(image) => engine::read::open(image, options),
        Reference::Directory(directory) => dir::read::open(directory, options),
        Reference::Layers(paths) => bare_layers(paths),
        Reference::Path(path) => open_path(path, options),
    }
}

/// Applies the signature policy, if the name alone tells which transport it is.
pub(in crate::transport) fn admit(reference: &Reference, options: &OpenOptions) -> Result<(), SourceError> {
    match reference {
        Reference::DockerArchive { file, .. } => admit_path("docker-archive", file, options),
        Reference::OciArchive { file, .. } => admit_path("oci-archive", file, options),
        Reference::OciLayout { directory, .. } => admit_path("oci", directory, options),
        Reference::Directory(directory) => admit_path("dir", directory, options),
        Reference::DockerDaemon(image) => required::admit_engine(image, options),
        // As containers/image calls bare archives.
        Reference::Layers(_) => admit_path("tarball", Path::new(""), options),
        Reference::Registry(_) | Reference::Path(_) => Ok(()),
    }
}

/// Recognises what a path leads to.
pub(crate) fn open_path(path: &Path, options: &OpenOptions) -> Result<Image, SourceError> {
    let not_an_image = |problem: &str| SourceError::NotAnImage { path: path.to_owned(), problem: problem.to_owned() };
    if path.is_dir() {
        let files = Files::of_directory(path);
        if path.join("index.json").exists() {
            admit_path("oci", path, options)?;
            return oci::read::open(&files, None, options);
        }
        if path.join(crate::lowerdirs::FILE_NAME).exists() {
            return Err(not_an_image("holds layers that are unpacked already: mount it with `layflat mount`"));
        }
        if path.join("manifest.json").exists() {
            admit_path("dir", path, options)?;
            return dir::read::open(path, options);
        }
        return Err(not_an_image(
            "is a directory without index.json or manifest.json: neither an OCI image layout nor an unpacked archive",
        ));
    }
    if !path.exists()
        && path != Path::new("-")
        && let Some(meant) = path.to_str().and_then(|word| registry::read::short_name(word, options))
    {
        return Err(not_an_image(&format!("does not exist; for an image at a registry write {meant}")));
    }
    let files = Files::of_archive(path, options)?;
    if files.has("manifest.json") {
        admit_path("docker-archive", path, options)?;
        return match docker::read::open(&files, None, options) {
            // From Docker 25 on the archive is a layout as well, and has other platforms' images there.
            Err(SourceError::NoSuchPlatform { .. }) if files.has("index.json") => {
                admit_path("oci-archive", path, options)?;
                oci::read::open(&files, None, options)
            }
            opened => opened,
        };
    }
    if files.has("index.json") {
        admit_path("oci-archive", path, options)?;
        return oci::read::open(&files, None, options);
    }
    if files.has("repositories") {
        return Err(not_an_image(docker::read::BEFORE_1_10));
    }
    Err(not_an_image("holds neither manifest.json nor index.json: if it is a bare layer, write layers:FILE"))
}

/// Layers and nothing else: no names, no digests, no configuration.
pub(in crate::transport) fn bare_layers(paths: &[PathBuf]) -> Result<Image, SourceError> {
    let layer = |path: &PathBuf| {
        let (_, length) = open_regular(path)?;
        let blob = Blob::from_path(path, length).known_as(path);
        Ok(Layer::bare(blob))
    };
    let layers = paths.iter().map(layer).collect::<Result<_, SourceError>>()?;
    Ok(Image { name: None, manifest: None, config: None, layers, notices: Vec::new() })
}

/// A layer by itself, of which nothing is stated: a regular file, as it is, or what comes from a pipe or from standard
/// input (`-`), which is read to its end first.
///
/// # Errors
/// A file that cannot be read, or something that is neither.
pub fn bare_layer(path: &Path, options: &OpenOptions) -> Result<Layer, SourceError> {
    let blob = match spool::stream(path, options)? {
        Some((file, length)) => Blob::from_file(std::sync::Arc::new(file), 0, length),
        None => Blob::from_path(path, open_regular(path)?.1),
    };
    Ok(Layer::bare(blob.known_as(path)))
}

/// Opens a regular file for reading, and nothing else: a FIFO would block, a device would act.
pub(in crate::transport) fn open_regular(path: &Path) -> Result<(File, u64), SourceError> {
    let io = |error| SourceError::Io { path: path.to_owned(), error };
    crate::fs::open_regular(path).map_err(io)?.ok_or_else(|| SourceError::NotAFile(path.to_owned()))
}

/// Refuses an image for another platform than the one that was asked for.
pub(in crate::transport) fn check_platform(image: &Image, options: &OpenOptions) -> Result<(), SourceError> {
    let (Some(wanted), Some(config)) = (&options.platform, &image.config) else {
        return Ok(());
    };
    let offered = config.platform();
    match wanted.suits(&offered) {
        Some(_) => Ok(()),
        None => Err(SourceError::NoSuchPlatform { wanted: wanted.clone(), offered: vec![offered.to_string()] }),
    }
}

/// Reads a JSON document.
pub(in crate::transport) fn json<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, SourceError> {
    crate::image::document::read(bytes)
        .map_err(|error| SourceError::Json { name: name.to_owned(), error: error.into() })
}

/// Whether a file begins like a compressed one.
pub(in crate::transport) fn is_compressed(start: &[u8]) -> bool {
    Compression::detect(start) != Compression::None
}
