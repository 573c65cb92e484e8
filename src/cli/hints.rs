//! Adds to an error of the library the option or command that helps. The library knows no options; this is the only
//! place that names them for its errors.
//!
//! A hint belongs to a type of error. It is looked for along the chain of causes, and the first one found is printed
//! behind the message.

use std::error::Error;

use layflat::DestinationError;

use super::tips;
use layflat::blob::BlobError;
use layflat::bundle::BundleError;
use layflat::cache::NotKept;
use layflat::container::ContainerError;
use layflat::copy::{CopyError, CopyNote};
use layflat::core::layer::{EntryProblem, LayerError};
use layflat::core::reference::{ImageNameError, ReferenceError};
use layflat::core::stack::Problem;
use layflat::core::tar::ArchiveError;
use layflat::edit::EditError;
use layflat::erofs::ErofsError;
use layflat::ext4::Ext4Error;
use layflat::fs::OutputError;
use layflat::image::Notice;
use layflat::inspect::InsideError;
use layflat::inspect::index::ContentError;
use layflat::metadata::MetadataError;
use layflat::mount::{MountError, UnmountError};
use layflat::net::engine::DaemonError;
use layflat::net::registry::{End, RegistryError};
use layflat::pack::PackError;
use layflat::transport::source::SourceError;
use layflat::transport::store::StoreError;
use layflat::unpack::{TooManyCopies, Unfit};

type Dyn<'e> = &'e (dyn Error + 'static);

/// What helps against an error, if an option or a command does.
pub(crate) fn of_error(error: Dyn<'_>) -> Option<String> {
    chain(error).find_map(of_one)
}

/// What helps where an image is not quite as it should be.
pub(crate) fn of_notice(notice: &Notice) -> Option<&'static str> {
    match notice {
        Notice::NotChosen { .. } => Some("choose by --platform, or copy all with --all-platforms"),
        _ => None,
    }
}

/// What helps where a copy is not quite what was copied.
pub(crate) fn of_note(note: &CopyNote) -> Option<&'static str> {
    match note {
        CopyNote::Image(notice) => of_notice(notice),
        CopyNote::NotPushed { .. } => Some("--allow-nondistributable pushes it"),
        _ => None,
    }
}

/// An option for one end of a copy: `--src-plain-http` for `plain-http`.
pub(crate) fn option(end: End, name: &str) -> String {
    let prefix = match end {
        End::Only => "",
        End::Source => "src-",
        End::Destination => "dest-",
    };
    format!("--{prefix}{name}")
}

/// An error and all its causes, also those that print as if they were the error around them.
pub(crate) fn chain<'e>(error: Dyn<'e>) -> impl Iterator<Item = Dyn<'e>> {
    std::iter::successors(Some(error), |&error| within(error).or_else(|| error.source()))
}

/// What a transparent error stands for: its own source is already that error's.
fn within<'e>(error: Dyn<'e>) -> Option<Dyn<'e>> {
    if let Some(error) = error.downcast_ref::<std::io::Error>() {
        return error.get_ref().map(|inner| inner as Dyn<'e>);
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            layflat::Error::Destination(inner) => Some(inner),
            layflat::Error::Output(inner) => Some(inner),
            layflat::Error::Unfit(inner) => Some(inner),
            layflat::Error::Product(inner) => Some(&**inner),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            SourceError::Config(inner) => Some(inner),
            SourceError::Configuration(inner) => Some(inner),
            SourceError::Registry(inner) => Some(inner),
            SourceError::Daemon(inner) => Some(inner),
            SourceError::Cache(inner) => Some(inner),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            StoreError::Content(inner) => Some(inner),
            StoreError::Registry(inner) => Some(inner),
            StoreError::Daemon(inner) => Some(inner),
            StoreError::Name(inner) => Some(inner),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            CopyError::Store(inner) => Some(&**inner),
            CopyError::Blob(inner) => Some(inner),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            EditError::Source(inner) => Some(inner),
            EditError::Image(inner) => Some(inner),
            EditError::Config(inner) => Some(inner),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            InsideError::Image(inner) => Some(inner),
            InsideError::Content(inner) => Some(inner),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            BundleError::Image(inner) => Some(inner),
            BundleError::Metadata(inner) => Some(inner),
            BundleError::Mount(inner) => Some(inner),
            BundleError::Unmount(inner) => Some(inner),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref() {
        return match error {
            MetadataError::Image(inner) => Some(inner),
            MetadataError::Erofs(inner) => Some(inner),
            MetadataError::NotInPlace(inner) => Some(inner),
            MetadataError::Mount(inner) => Some(inner),
            _ => None,
        };
    }
    if let Some(ContentError::Layer(inner)) = error.downcast_ref() {
        return Some(inner);
    }
    if let Some(LayerError::Read(inner)) = error.downcast_ref() {
        return Some(inner);
    }
    if let Some(ReferenceError::Name(inner)) = error.downcast_ref() {
        return Some(inner);
    }
    None
}

/// What helps against one error of a chain.
fn of_one(error: Dyn<'_>) -> Option<String> {
    of_limit(error)
        .or_else(|| of_missing(error))
        .or_else(|| of_place(error))
        .or_else(|| error.downcast_ref().and_then(of_ext4))
        .or_else(|| error.downcast_ref().and_then(of_registry))
        .or_else(|| error.downcast_ref().and_then(of_engine).map(str::to_owned))
        .or_else(|| error.downcast_ref().and_then(of_copy).map(str::to_owned))
        .or_else(|| error.downcast_ref().and_then(of_bundle).map(str::to_owned))
        .or_else(|| error.downcast_ref().and_then(of_container).map(str::to_owned))
        .or_else(|| error.downcast_ref().and_then(of_edit).map(str::to_owned))
        .or_else(|| error.downcast_ref().and_then(of_pack).map(str::to_owned))
        .or_else(|| of_the_rest(error).map(str::to_owned))
}

/// Limits, which those who trust an image can raise.
fn of_limit(error: Dyn<'_>) -> Option<String> {
    let name = match (error.downcast_ref(), error.downcast_ref(), error.downcast_ref()) {
        (Some(BlobError::Limit { name, .. }), ..) => name,
        (_, Some(LayerError::Limit { name, .. }), _) => name,
        (.., Some(SourceError::Ratio { .. })) => "ratio",
        _ => match (error.downcast_ref(), error.downcast_ref()) {
            (Some(ArchiveError::ExtendedHeaderTooLong { .. }), _) => "extended-header",
            (_, Some(RegistryError::TooLarge { .. })) => "metadata-size",
            _ => match (error.downcast_ref(), error.downcast_ref(), error.downcast_ref()) {
                (Some(Problem::Limit { name, .. }), ..) => name,
                (_, Some(TooManyCopies { .. }), _) => "copy-up",
                (.., Some(StoreError::TooLarge { .. })) => "metadata-size",
                _ => match error.downcast_ref() {
                    Some(layflat::unpack::Error::Limit { name, .. }) => name,
                    _ => return None,
                },
            },
        },
    };
    Some(format!("raise it with --limit {name}=N if you trust the image"))
}

/// A name that is no file.
fn of_missing(error: Dyn<'_>) -> Option<String> {
    match error.downcast_ref()? {
        SourceError::Io { path, error } if error.kind() == std::io::ErrorKind::NotFound => tips::for_missing(path),
        _ => None,
    }
}

/// Places that are written.
fn of_place(error: Dyn<'_>) -> Option<String> {
    if matches!(error.downcast_ref(), Some(DestinationError::NotEmpty(_)))
        || matches!(error.downcast_ref(), Some(OutputError::Exists(_)))
    {
        return Some("--replace replaces it".to_owned());
    }
    if let Some(unfit) = error.downcast_ref::<Unfit>() {
        let other = if unfit.fits_other_namespace { ", or --xattr-namespace user" } else { "" };
        return Some(format!(
            "for mount and bundle --cache-dir names the directory{other}; `layflat flatten` needs none"
        ));
    }
    let kept = error.downcast_ref::<NotKept>()?;
    let room = if kept.lacks_room() { "make room with `layflat cache prune`, or " } else { "" };
    Some(format!("{room}use --cache-dir or --no-cache"))
}

fn of_registry(error: &RegistryError) -> Option<String> {
    Some(match error {
        RegistryError::Certificate { is_unknown, end, .. } => {
            let accept = format!("{}=false accepts any certificate", option(*end, "tls-verify"));
            match is_unknown {
                true => {
                    let known = option(*end, "ca-cert");
                    format!("give the authority's certificate, or this one, with {known} FILE; {accept}")
                }
                false => accept,
            }
        }
        RegistryError::ClientCertificate { registry, end, .. } => format!(
            "give one with {} FILE and {} FILE, or as *.cert and *.key in /etc/containers/certs.d/{registry}",
            option(*end, "cert"),
            option(*end, "key")
        ),
        RegistryError::NotTls { end, .. } => format!("if you expect that, use {}", option(*end, "plain-http")),
        RegistryError::NoAnswer { .. } | RegistryError::TooSlow { .. } => "--timeout allows longer".to_owned(),
        RegistryError::Unreachable { .. } => "check its name, the network, and HTTPS_PROXY if there is one".to_owned(),
        RegistryError::Denied { anonymous: Some(end), .. } => {
            format!(
                "to log in for this command only, give {} and {}",
                option(*end, "username"),
                option(*end, "password-stdin")
            )
        }
        _ => return None,
    })
}

fn of_engine(error: &DaemonError) -> Option<&'static str> {
    match error {
        DaemonError::None(_) => Some("or specify its address with --socket"),
        DaemonError::Context { .. } => Some("`docker context ls` lists the contexts"),
        DaemonError::Unreachable { .. } => Some("is it running?"),
        _ => None,
    }
}

fn of_copy(error: &CopyError) -> Option<&'static str> {
    match error {
        CopyError::Index => Some("omit --all-platforms, or copy to oci:DIR or oci-archive:FILE"),
        CopyError::Uncompressed(_) => Some("omit --compression, or copy to oci:DIR or oci-archive:FILE"),
        CopyError::Referrers => Some("omit --referrers, or copy to a registry, oci:DIR or oci-archive:FILE"),
        CopyError::NoOciManifests => Some("omit --format oci, or copy to oci:DIR or oci-archive:FILE"),
        CopyError::NoDockerManifests => Some("omit --format docker, or copy to a registry or docker-archive:FILE"),
        CopyError::NotInDocker(_) => Some("omit --format docker, or give --compression gzip"),
        CopyError::LayerNotInDocker { .. } => Some("--format docker compresses it with gzip"),
        CopyError::Refused { conversion, .. } => of_copy(conversion),
        _ => None,
    }
}

fn of_bundle(error: &BundleError) -> Option<&'static str> {
    match error {
        BundleError::NoCommand | BundleError::EntrypointOnly => Some("for instance --arg /bin/sh"),
        BundleError::EmptyProgram => Some("for instance --entrypoint /bin/sh"),
        BundleError::NotADirectory { .. } => Some("--cwd DIR chooses it"),
        BundleError::NoSuchUser { .. } | BundleError::NoSuchGroup { .. } => Some("--user USER[:GROUP] chooses it"),
        BundleError::NotMapped { .. } => Some("for instance --user 0, or --uid-map and --gid-map"),
        _ => None,
    }
}

fn of_container(error: &ContainerError) -> Option<&'static str> {
    match error {
        ContainerError::Privileges { error, .. } if error.kind() == std::io::ErrorKind::InvalidInput => {
            Some("/etc/subuid and /etc/subgid grant you no such id; --user 0 runs it as you")
        }
        ContainerError::Bundle(BundleError::NoCommand | BundleError::EntrypointOnly) => {
            Some("for instance `layflat run IMAGE /bin/sh`")
        }
        ContainerError::Bundle(BundleError::NotADirectory { .. }) => Some("--workdir DIR chooses it"),
        ContainerError::Bundle(BundleError::NoSuchUser { .. } | BundleError::NoSuchGroup { .. }) => {
            Some("--user USER[:GROUP] chooses it")
        }
        _ => None,
    }
}

fn of_edit(error: &EditError) -> Option<&'static str> {
    match error {
        EditError::SeveralPlatforms { .. } => Some("choose one with --platform, or edit all with --all-platforms"),
        EditError::TooLarge { .. } => Some("--limit metadata-size=N raises the limit here, but not for other readers"),
        _ => None,
    }
}

fn of_pack(error: &PackError) -> Option<&'static str> {
    match error {
        PackError::Redirect { .. } | PackError::Metacopy(_) => Some("give them with --lower, topmost first"),
        PackError::RedirectMissing { .. } | PackError::MetacopyMissing(_) => Some("give all of them with --lower"),
        PackError::LowerCount(_) => Some("that mount is the one --lower"),
        _ => None,
    }
}

fn of_ext4(error: &Ext4Error) -> Option<String> {
    match error {
        Ext4Error::TooSmall { needed, .. } => {
            let least = needed.div_ceil(1 << 20);
            Some(format!("give --size {least}M or more, or --size +FREE for so much free space"))
        }
        _ => None,
    }
}

fn of_the_rest(error: Dyn<'_>) -> Option<&'static str> {
    if matches!(error.downcast_ref(), Some(EntryProblem::Uncovers)) {
        return Some("or use --force");
    }
    if matches!(error.downcast_ref(), Some(StoreError::OneTag(_))) {
        return Some("omit it with --all-tags");
    }
    if matches!(error.downcast_ref(), Some(SourceError::Policy { .. })) {
        return Some("--no-policy overrides this");
    }
    if matches!(error.downcast_ref(), Some(layflat::Error::NotKept(_))) {
        return Some("refused by --strict");
    }
    if error.downcast_ref().is_some_and(ImageNameError::has_userinfo) {
        return Some("give --username and --password-stdin");
    }
    if matches!(error.downcast_ref(), Some(UnmountError::Busy(_))) {
        return Some("or detach it with --lazy");
    }
    if matches!(error.downcast_ref(), Some(ErofsError::TooManyDevices { .. })) {
        return Some("`layflat unshare --mount IMAGE:TARGET` unpacks the layers");
    }
    match error.downcast_ref()? {
        MountError::WhiteoutsIgnored => Some("use --xattr-namespace user"),
        MountError::NotForErofsfuse => Some("`layflat layers --backend erofsfuse` makes such that it reads"),
        MountError::NeitherWay { fuse, .. } if matches!(**fuse, MountError::NotForErofsfuse) => {
            Some("`layflat layers --backend erofsfuse` makes such that it reads")
        }
        MountError::NeitherWay { kernel, .. } if matches!(**kernel, MountError::NotPermitted) => {
            Some("for instance `layflat unshare --mount DEST:TARGET`")
        }
        MountError::NotPermitted => Some("for instance `layflat unshare --mount DEST:TARGET`"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_found_behind_contexts_and_transparent_errors() {
        let limit = BlobError::Limit { blob: "b".to_owned(), what: "its size", limit: 1, name: "layer-size" };
        let read = std::io::Error::other(limit);
        let error = anyhow::Error::from(CopyError::from(StoreError::Content(read))).context("cannot copy");
        assert_eq!(format!("{error:#}"), "cannot copy: blob b: its size exceeds the limit of 1");
        let hint = of_error(error.as_ref());
        assert_eq!(hint.as_deref(), Some("raise it with --limit layer-size=N if you trust the image"));
    }

    #[test]
    fn each_end_of_a_copy_has_options_of_its_own() {
        let error = |end| RegistryError::NotTls { registry: "r".to_owned(), end };
        assert_eq!(of_error(&error(End::Only)).as_deref(), Some("if you expect that, use --plain-http"));
        assert_eq!(of_error(&error(End::Source)).as_deref(), Some("if you expect that, use --src-plain-http"));
    }
}
