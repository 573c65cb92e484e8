//! Arguments that several commands share, and the library options that they become.

use std::ffi::OsString;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use layflat::cache::{Blobs, Waiting};
use layflat::configuration::{ConfigurationFile, Mirror};
use layflat::core::chain::Chain;
use layflat::core::reference::Platform;
use layflat::core::text::parse_size;
use layflat::image::Image;
use layflat::inspect::index::{Indexes, indexes};
use layflat::inspect::{Inside, InsideError};
use layflat::net::registry::{ClientCertificate, Credentials, RegistryOptions};
use layflat::transport::source;
use layflat::{Cancel, Limits, Options, Owners, Progress, XattrNamespace, cache};

use super::owners::OwnerArgs;
use super::{output, progress};

/// The heading of options that many commands have.
const COMMON: &str = "Common options";

/// Arguments of every command.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Print JSON: one report, or one object per line for lists
    #[arg(help_heading = COMMON, long, global = true)]
    pub(crate) json: bool,
    /// Only print errors
    #[arg(help_heading = COMMON, short, long, global = true)]
    pub(crate) quiet: bool,
}

/// Which image.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// The image; `layflat --help` lists all forms of its name
    #[arg(value_name = "IMAGE")]
    pub(crate) image: OsString,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
}

/// How an image is opened.
#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    /// Platform to select from a multi-platform image, like linux/arm64 [default: this machine's]
    #[arg(help_heading = COMMON, long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
    /// Change a safety limit: entries, layer-size, file-size, name-length, depth, names, path-bytes, extended-header, ratio, metadata-size, copy-up, memory
    #[arg(help_heading = COMMON, hide_short_help = true, long = "limit", value_name = "NAME=N", value_parser = parse_limit)]
    limits: Vec<(String, u64)>,
    /// Layers to process in parallel [default: one per CPU, and 6 more for registries]
    #[arg(help_heading = COMMON, short, long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}

/// An answer may take as many times longer than a transfer may stand still.
const ANSWER: Duration = Duration::from_secs(20);
const REMOTE: &str = "Registries, engines and cache";

/// Options for registries, engines and the cache.
#[derive(Debug, Args)]
pub(crate) struct RemoteArgs {
    /// User name for the registry; requires --password-stdin or --password-file
    #[arg(help_heading = REMOTE, hide_short_help = true, long, value_name = "NAME", requires = "password")]
    username: Option<String>,
    /// Read the password from standard input
    #[arg(help_heading = REMOTE, hide_short_help = true, long, requires = "username", group = "password")]
    password_stdin: bool,
    /// Read the password from this file
    #[arg(help_heading = REMOTE, hide_short_help = true, long, value_name = "FILE", requires = "username", group = "password")]
    password_file: Option<PathBuf>,
    /// The password that was read.
    #[arg(skip)]
    password: OnceLock<String>,
    /// Credentials file [default: those of `podman login` and `docker login`]
    #[arg(help_heading = REMOTE, hide_short_help = true, long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Additional certificate to trust (PEM), of a CA or of the server itself
    #[arg(help_heading = REMOTE, hide_short_help = true, long, value_name = "FILE")]
    ca_cert: Vec<PathBuf>,
    /// Client certificate (PEM) [default: the *.cert of the registry's directory in certs.d]
    #[arg(help_heading = REMOTE, hide_short_help = true, long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Private key of --cert (PEM)
    #[arg(help_heading = REMOTE, hide_short_help = true, long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Verify TLS certificates; --tls-verify=false accepts any certificate
    #[arg(help_heading = REMOTE, hide_short_help = true, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set, hide_default_value = true, hide_possible_values = true)]
    tls_verify: bool,
    /// Use HTTP instead of HTTPS
    #[arg(help_heading = REMOTE, hide_short_help = true, long)]
    plain_http: bool,
    /// Server that is asked for manifests and blobs by their digests before any registry, like a site's mirror, Spegel or Dragonfly: http://HOST:PORT.
    /// What it lacks comes from the registry; it is told no password
    #[arg(help_heading = REMOTE, hide_short_help = true, long = "mirror", value_name = "URL")]
    mirrors: Vec<Mirror>,
    /// Directory with HOST/hosts.toml files, in containerd's format
    #[arg(help_heading = REMOTE, hide_short_help = true, long, value_name = "DIR", default_value = "/etc/containerd/certs.d")]
    hosts_dir: PathBuf,
    /// Retries after a transient failure
    #[arg(help_heading = REMOTE, hide_short_help = true, long, value_name = "N", default_value_t = 5)]
    retries: u32,
    /// Fail after this time without data. The first byte of an answer may take 20 times as long, since the registry
    /// may be storing or fetching a blob. Connecting may take 15 seconds
    #[arg(help_heading = REMOTE, hide_short_help = true, long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    timeout: u32,
    /// Ignore policy.json and accept any image
    #[arg(help_heading = REMOTE, hide_short_help = true, long, conflicts_with = "policy")]
    no_policy: bool,
    /// Signature policy to obey [default: ~/.config/containers/policy.json, else /etc/containers/policy.json]
    #[arg(help_heading = REMOTE, hide_short_help = true, long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Socket of Docker or Podman: a path, or an address as in DOCKER_HOST (unix, tcp, ssh) [default: Docker's current
    /// context]
    #[arg(help_heading = REMOTE, hide_short_help = true, long, value_name = "ADDRESS")]
    socket: Option<String>,
    /// Cache for blobs, layer indexes and unpacked layers [default: $XDG_CACHE_HOME/layflat]
    #[arg(help_heading = REMOTE, hide_short_help = true, long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Another cache, which is looked into as well and never written: of a site, or of an image of the machine
    #[arg(help_heading = REMOTE, hide_short_help = true, long, value_name = "DIR", conflicts_with = "no_cache")]
    lower_cache: Option<PathBuf>,
    /// Neither read nor fill the cache of blobs and layer indexes
    #[arg(help_heading = REMOTE, hide_short_help = true, long)]
    no_cache: bool,
}

/// Which image is looked into.
#[derive(Debug, Args)]
pub(crate) struct LookArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
}

/// Up to which layer an image is looked at.
#[derive(Debug, Args)]
pub(crate) struct LayerArg {
    /// Take the image as of layer N, counted from 0 at the bottom: with what later layers change or delete
    #[arg(long, value_name = "N")]
    pub(crate) layer: Option<usize>,
}

/// An image whose layers are indexed.
pub(crate) struct Looked {
    pub(crate) image: Image,
    pub(crate) indexes: Indexes,
    pub(crate) options: Options,
}

/// How an image is unpacked.
#[derive(Debug, Args)]
pub(crate) struct UnpackArgs {
    /// Atomically replace an existing destination
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    tree: TreeArgs,
    #[command(flatten)]
    pub(crate) owners: OwnerArgs,
}

/// What a tree is to be like.
#[derive(Debug, Args)]
pub(crate) struct TreeArgs {
    /// Fail if any owner, xattr, device or time cannot be preserved, instead of reporting it
    #[arg(hide_short_help = true, long)]
    strict: bool,
    /// Do not wait until the result is on disk. This is faster, but after a power loss or a system crash within the
    /// next seconds files may be empty
    #[arg(hide_short_help = true, long)]
    no_sync: bool,
    /// Ignore the image's entries for the root directory, as Docker does: mode 0755, owner 0:0
    #[arg(hide_short_help = true, long)]
    ignore_root_entry: bool,
    /// Restore SELinux labels (security.selinux) from the image
    #[arg(hide_short_help = true, long)]
    selinux: bool,
}

/// The xattr namespace for overlayfs whiteouts and opaque directories.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum NamespaceArg {
    /// trusted.overlay.*, for mounts by root
    Trusted,
    /// user.overlay.*, for mounts with userxattr, as in a user namespace
    User,
}

impl From<NamespaceArg> for XattrNamespace {
    fn from(argument: NamespaceArg) -> Self {
        match argument {
            NamespaceArg::Trusted => Self::Trusted,
            NamespaceArg::User => Self::User,
        }
    }
}

impl Looked {
    /// What the image shows, all of it or as of a layer.
    pub(crate) fn inside(&self, layer: Option<usize>) -> Result<Inside<'_>, InsideError> {
        match layer {
            Some(layer) => Inside::up_to(layer, &self.image, &self.indexes, &self.options),
            None => Inside::new(&self.image, &self.indexes, &self.options),
        }
    }
}

impl ImageArgs {
    /// Opens the image.
    pub(crate) fn open(&self, cancel: &Cancel) -> anyhow::Result<Image> {
        open(&self.image, &self.open, cancel)
    }
}

impl LookArgs {
    /// Opens the image and indexes its layers.
    pub(crate) fn look(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<Looked> {
        self.image.open.look(&self.image.image, common, cancel)
    }

    /// The same for another image.
    pub(crate) fn look_at_another(&self, image: &OsString, common: &Common, cancel: &Cancel) -> anyhow::Result<Looked> {
        self.image.open.look(image, common, cancel)
    }

    /// Indexes the layers of an image.
    #[cfg(feature = "explore")]
    pub(crate) fn index(&self, image: Image, progress: &dyn Progress, cancel: &Cancel) -> anyhow::Result<Looked> {
        self.image.open.index(image, progress, cancel)
    }
}

/// Opens the image that an argument names.
pub(crate) fn open(image: &OsString, arguments: &OpenArgs, cancel: &Cancel) -> anyhow::Result<Image> {
    let reference = source::reference(image)?;
    let options = arguments.open_options(cancel)?;
    source::open(&reference, &options).with_context(|| format!("cannot open {reference}"))
}

impl RemoteArgs {
    /// Whether a user name, and with it a password, was given.
    pub(crate) fn has_username(&self) -> bool {
        self.username.is_some()
    }

    /// The credentials, if they were given. The password is read once, for any number of images.
    pub(crate) fn credentials(&self) -> anyhow::Result<Option<Credentials>> {
        let Some(username) = &self.username else { return Ok(None) };
        let password = match (self.password.get(), &self.password_file) {
            (Some(password), _) => password.clone(),
            (None, Some(path)) => password_file(path)?,
            (None, None) => {
                anyhow::ensure!(self.password_stdin, "--username requires --password-stdin or --password-file FILE");
                password_stdin("--password-stdin")?
            }
        };
        let password = self.password.get_or_init(|| password).clone();
        Ok(Some(Credentials::Password { username: username.clone(), password }))
    }

    /// The library's options for registries.
    pub(crate) fn registry(&self) -> anyhow::Result<RegistryOptions> {
        Ok(self.registry_with(self.credentials()?))
    }

    /// The same with these credentials.
    pub(crate) fn registry_with(&self, credentials: Option<Credentials>) -> RegistryOptions {
        let client_certificate = self.cert.clone().zip(self.key.clone());
        let client_certificate = client_certificate.map(|(certificate, key)| ClientCertificate { certificate, key });
        RegistryOptions {
            credentials,
            authfile: self.authfile.clone(),
            ca_certificates: self.ca_cert.clone(),
            skip_tls_verification: !self.tls_verify,
            plain_http: self.plain_http,
            insecure: false,
            configuration: ConfigurationFile::Usual,
            notes: output::notes(),
            client_certificate,
            mirrors: self.mirrors.clone(),
            hosts_directory: Some(self.hosts_dir.clone()),
            patience: Duration::from_secs(self.timeout.into()),
            answer: ANSWER * self.timeout,
            retries: self.retries,
            ..RegistryOptions::default()
        }
    }

    /// The cache's directory.
    pub(crate) fn cache_directory(&self) -> anyhow::Result<PathBuf> {
        let directory = self.cache_dir.clone().or_else(cache::directory);
        let directory = directory.context("cannot find the cache directory; specify it with --cache-dir")?;
        cache::check_owner(&directory)?;
        Ok(directory)
    }

    /// The signature policy to obey.
    fn policy(&self) -> ConfigurationFile {
        match &self.policy {
            _ if self.no_policy => ConfigurationFile::Nothing,
            Some(path) => ConfigurationFile::At(path.clone()),
            None => ConfigurationFile::Usual,
        }
    }

    /// The address of the engine, if it was given.
    pub(crate) fn socket(&self) -> Option<&str> {
        self.socket.as_deref()
    }

    /// The same, after a check that no other user can change it.
    pub(crate) fn trusted_cache(&self) -> anyhow::Result<Option<PathBuf>> {
        let cache = self.cache();
        cache.as_deref().map_or(Ok(()), cache::check_owner)?;
        Ok(cache)
    }

    /// The cache's directory, if anything is kept.
    pub(crate) fn cache(&self) -> Option<PathBuf> {
        if self.no_cache {
            return None;
        }
        // A user without a home directory has no cache, and needs none. A cache that was named must work.
        let usual = || cache::directory().filter(|directory| cache::is_writable(directory));
        self.cache_dir.clone().or_else(usual)
    }

    /// The blob cache, unless it is disabled.
    fn blobs(&self, cancel: &Cancel) -> anyhow::Result<Option<Blobs>> {
        let waiting = Waiting::new(cancel.clone(), output::notes());
        let lower = self.lower_cache()?;
        Ok(self.trusted_cache()?.map(|directory| Blobs::of(&directory).over(lower).waiting(waiting)))
    }

    /// The cache that is only read, after a check that no other user can change it.
    pub(crate) fn lower_cache(&self) -> anyhow::Result<Option<&Path>> {
        self.lower_cache.as_deref().map_or(Ok(()), cache::check_owner)?;
        Ok(self.lower_cache.as_deref())
    }
}

/// The password on standard input, which `option` said is there.
pub(crate) fn password_stdin(option: &str) -> anyhow::Result<String> {
    let text = std::io::read_to_string(std::io::stdin()).context("cannot read the password from standard input")?;
    let password = text.trim_end_matches(['\n', '\r']).to_owned();
    anyhow::ensure!(!password.is_empty(), "{option}: no password on standard input");
    Ok(password)
}

/// The password in a file.
pub(crate) fn password_file(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the password from {path:?}"))?;
    let password = text.trim_end_matches(['\n', '\r']).to_owned();
    anyhow::ensure!(!password.is_empty(), "{path:?}: the file has no password");
    Ok(password)
}

impl OpenArgs {
    /// Opens an image and indexes its layers.
    pub(crate) fn look(&self, image: &OsString, common: &Common, cancel: &Cancel) -> anyhow::Result<Looked> {
        let image = open(image, self, cancel)?;
        let looked = self.index(image, progress::progress(common).as_ref(), cancel)?;
        let cache = self.remote.trusted_cache()?;
        if let Some((error, cache)) = looked.indexes.not_kept.as_ref().zip(cache) {
            output::say(common, format_args!("note: cannot keep the layers' indexes in {cache:?}: {}", Chain(error)));
        }
        Ok(looked)
    }

    /// Indexes the layers of an image.
    fn index(&self, image: Image, progress: &dyn Progress, cancel: &Cancel) -> anyhow::Result<Looked> {
        let options = self.options(cancel)?;
        let cache = self.remote.trusted_cache()?;
        let indexes = indexes(&image, cache.as_deref(), &options, progress)?;
        Ok(Looked { image, indexes, options })
    }

    /// The library's options for opening an image.
    pub(crate) fn open_options(&self, cancel: &Cancel) -> anyhow::Result<source::OpenOptions> {
        self.open_options_with(self.remote.registry()?, cancel)
    }

    /// The same with these options for registries.
    pub(crate) fn open_options_with(
        &self,
        registry: RegistryOptions,
        cancel: &Cancel,
    ) -> anyhow::Result<source::OpenOptions> {
        Ok(source::OpenOptions {
            platform: self.platform.clone(),
            limits: self.limits()?,
            incomplete: false,
            cancel: cancel.clone(),
            registry,
            cache: self.remote.blobs(cancel)?,
            daemon: self.remote.socket().map(str::to_owned),
            policy: self.remote.policy(),
        })
    }

    fn limits(&self) -> anyhow::Result<Limits> {
        let mut limits = Limits::default();
        for (name, value) in &self.limits {
            let length = || usize::try_from(*value).with_context(|| format!("--limit {name}: too large"));
            match name.as_str() {
                "entries" => limits.entries = *value,
                "layer-size" => limits.layer_size = *value,
                "file-size" => limits.file_size = *value,
                "name-length" => limits.name_length = length()?,
                "depth" => limits.depth = length()?,
                "extended-header" => limits.extended_header = *value,
                "ratio" => limits.ratio = *value,
                "metadata-size" => limits.metadata_size = *value,
                "names" => limits.names = *value,
                "path-bytes" => limits.path_bytes = *value,
                "copy-up" => limits.copy_up = *value,
                "memory" => limits.memory = *value,
                _ => anyhow::bail!("--limit {name}: unknown limit; --help lists all"),
            }
        }
        Ok(limits)
    }

    /// The library's options, where nothing is unpacked.
    pub(crate) fn options(&self, cancel: &Cancel) -> anyhow::Result<Options> {
        Ok(Options {
            jobs: self.jobs,
            limits: self.limits()?,
            lower_cache: self.remote.lower_cache()?.map(Path::to_owned),
            cancel: cancel.clone(),
            notes: output::notes(),
            ..Options::default()
        })
    }
}

impl UnpackArgs {
    /// The library's options.
    pub(crate) fn options(&self, open: &OpenArgs, owners: Owners, cancel: &Cancel) -> anyhow::Result<Options> {
        Ok(Options { replace: self.replace, ..self.tree.options(open, owners, cancel)? })
    }
}

impl TreeArgs {
    /// The library's options.
    pub(crate) fn options(&self, open: &OpenArgs, owners: Owners, cancel: &Cancel) -> anyhow::Result<Options> {
        Ok(Options {
            owners,
            strict: self.strict,
            ignore_root_entry: self.ignore_root_entry,
            no_sync: self.no_sync,
            selinux: self.selinux,
            ..open.options(cancel)?
        })
    }
}

/// `NAME=N`, N with an optional K, M, G or T (powers of 1024).
fn parse_limit(text: &str) -> Result<(String, u64), String> {
    let wrong = || format!("{text:?}: expected NAME=N, like entries=1000000 or file-size=10G");
    let (name, number) = text.split_once('=').ok_or_else(wrong)?;
    Ok((name.to_owned(), parse_size(number).map_err(|_| wrong())?))
}
