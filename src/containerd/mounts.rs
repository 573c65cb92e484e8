//! Mounts as containerd hands them over: where a layer is to be unpacked, or of what one is to be made, and what lies
//! below it.
//!
//! Only what containerd's own overlayfs snapshotter says is understood (plugins/snapshots/overlay in its sources): a
//! directory `snapshots/N/fs` beside `snapshots/N/work`, bound if nothing is below, else the upper directory of an
//! overlay. Everything else is for another differ.

use std::path::{Path, PathBuf};

use super::proto::types::Mount;
use crate::core::idmap::{IdMapError, IdMaps};
use crate::core::overlayfs::XattrNamespace;

/// What options of an overlay may be there that do not change where its files are, or whose.
const HARMLESS: [&str; 8] =
    ["index", "metacopy", "nfs_export", "redirect_dir", "uuid", "volatile", "xino", "default_permissions"];

/// Where a layer is to be unpacked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) upper: PathBuf,
    /// The topmost first.
    pub(super) lower: Vec<PathBuf>,
    pub(super) namespace: XattrNamespace,
}

/// Why mounts are left to another differ.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unknown {
    #[error("there are {0} mounts, and not one")]
    Count(usize),
    #[error("a mount of type {0:?}, and neither overlay nor bind")]
    Type(String),
    #[error("the mount option {0:?}")]
    Option(String),
    #[error("a snapshot whose lower directories are id-mapped")]
    Mapped,
    #[error("id maps that are none: {0}")]
    Maps(IdMapError),
    #[error(
        "an overlay without lowerdir: layers that are unpacked at the same time cannot be told what lies below them"
    )]
    NoLower,
    #[error("an overlay without upperdir")]
    NoUpper,
    #[error("{0:?} is not the directory of a snapshot of containerd's overlayfs snapshotter")]
    Snapshotter(PathBuf),
    #[error("{0:?} is not empty")]
    NotEmpty(PathBuf),
    #[error("two snapshots of which neither is right on top of the other, or not of an overlayfs snapshotter")]
    NotOnTop,
}

impl Target {
    /// Reads mounts.
    pub(super) fn of(mounts: &[Mount]) -> Result<Self, Unknown> {
        let [mount] = mounts else { return Err(Unknown::Count(mounts.len())) };
        let target = match mount.r#type.as_str() {
            "bind" => Self::of_bind(mount)?,
            "overlay" => Self::of_overlay(mount)?,
            other => return Err(Unknown::Type(other.to_owned())),
        };
        if !is_of_overlayfs(&target.upper) {
            return Err(Unknown::Snapshotter(target.upper));
        }
        match is_empty(&target.upper) {
            true => Ok(target),
            false => Err(Unknown::NotEmpty(target.upper)),
        }
    }

    fn of_bind(mount: &Mount) -> Result<Self, Unknown> {
        for option in &mount.options {
            if !matches!(option.as_str(), "rw" | "bind" | "rbind") {
                return Err(Unknown::Option(option.clone()));
            }
        }
        Ok(Self { upper: mount.source.clone().into(), lower: Vec::new(), namespace: own_namespace() })
    }

    fn of_overlay(mount: &Mount) -> Result<Self, Unknown> {
        let Overlay { upper, lower, namespace, id_maps } = Overlay::of(mount)?;
        match upper {
            // What is unpacked has the ids of the image.
            _ if id_maps.is_some() => Err(Unknown::Mapped),
            None => Err(Unknown::NoUpper),
            Some(_) if lower.is_empty() => Err(Unknown::NoLower),
            Some(upper) => Ok(Self { upper, lower, namespace }),
        }
    }
}

/// What the options of an overlay say.
struct Overlay {
    upper: Option<PathBuf>,
    /// The topmost first.
    lower: Vec<PathBuf>,
    namespace: XattrNamespace,
    /// With which the lower directories are mounted; the upper one has the ids outside.
    id_maps: Option<IdMaps>,
}

impl Overlay {
    fn of(mount: &Mount) -> Result<Self, Unknown> {
        let (mut upper, mut lower) = (None, Vec::new());
        let (mut uids, mut gids) = (None, None);
        let mut namespace = XattrNamespace::Trusted;
        for option in &mount.options {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                // What is escaped is another name than it seems (Documentation/filesystems/overlayfs.rst).
                "upperdir" | "lowerdir" if value.contains('\\') => return Err(Unknown::Option(option.clone())),
                "upperdir" => upper = Some(PathBuf::from(value)),
                "lowerdir" => lower = value.split(':').map(PathBuf::from).collect(),
                "userxattr" => namespace = XattrNamespace::User,
                "uidmap" => uids = Some(value),
                "gidmap" => gids = Some(value),
                "workdir" | "rw" => {}
                _ if HARMLESS.contains(&name) => {}
                _ => return Err(Unknown::Option(option.clone())),
            }
        }
        // `a::b` names a directory of data alone.
        match lower.iter().any(|path| !path.is_absolute()) {
            true => Err(Unknown::NoLower),
            false => Ok(Self { upper, lower, namespace, id_maps: id_maps(uids, gids)? }),
        }
    }
}

/// The changes that one side of a comparison has over the other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) upper: PathBuf,
    /// The topmost first.
    pub(super) lower: Vec<PathBuf>,
    pub(super) namespace: XattrNamespace,
    /// Of the user namespace in which the upper directory was written; it has the ids outside.
    pub(super) id_maps: Option<IdMaps>,
}

impl Changes {
    /// Reads the mounts of two snapshots, of which one is right on top of the other.
    pub(super) fn of(left: &[Mount], right: &[Mount]) -> Result<Self, Unknown> {
        let (left, ..) = directories(left)?;
        let (mut right, namespace, id_maps) = directories(right)?;
        // What is empty shows nothing, as what an image's lowest layer is on.
        let (left, bottom) = (shown(&left), shown(&right).len());
        right.truncate(bottom.max(1));
        match right.split_first() {
            Some((upper, lower)) if lower == left && is_of_overlayfs(upper) => {
                Ok(Self { upper: upper.clone(), lower: lower.to_vec(), namespace, id_maps })
            }
            _ => Err(Unknown::NotOnTop),
        }
    }
}

/// The maps of two options, as containerd writes them.
fn id_maps(uids: Option<&str>, gids: Option<&str>) -> Result<Option<IdMaps>, Unknown> {
    match (uids, gids) {
        // containerd itself maps nothing if there is only one of them.
        (Some(uids), Some(gids)) => {
            Ok(Some(IdMaps { uids: uids.parse().map_err(Unknown::Maps)?, gids: gids.parse().map_err(Unknown::Maps)? }))
        }
        _ => Ok(None),
    }
}

/// The directories that a mount shows together, the topmost first.
fn directories(mounts: &[Mount]) -> Result<(Vec<PathBuf>, XattrNamespace, Option<IdMaps>), Unknown> {
    match mounts {
        [] => Ok((Vec::new(), own_namespace(), None)),
        [mount] if mount.r#type == "overlay" => {
            let Overlay { upper, mut lower, namespace, id_maps } = Overlay::of(mount)?;
            if upper.is_none() && lower.first().is_some_and(|top| is_of_view(top)) {
                lower.remove(0);
            }
            Ok((upper.into_iter().chain(lower).collect(), namespace, id_maps))
        }
        [mount] if mount.r#type == "bind" => Ok((vec![mount.source.clone().into()], own_namespace(), None)),
        [mount] => Err(Unknown::Type(mount.r#type.clone())),
        mounts => Err(Unknown::Count(mounts.len())),
    }
}

/// Without empty ones at the bottom.
fn shown(directories: &[PathBuf]) -> &[PathBuf] {
    let end = directories.iter().rposition(|directory| !is_empty(directory)).map_or(0, |last| last + 1);
    &directories[..end]
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut names| names.next().is_none())
}

/// A bind mount does not say which attributes the overlays on top of it will obey.
fn own_namespace() -> XattrNamespace {
    match crate::userns::in_user_namespace() {
        true => XattrNamespace::User,
        false => XattrNamespace::Trusted,
    }
}

/// Whether a directory is the upper one of a snapshot of containerd's overlayfs snapshotter. What the others bind is
/// mounted as it is, and whiteouts in it are files.
fn is_of_overlayfs(upper: &Path) -> bool {
    let is_directory = |path: &Path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    upper.is_absolute()
        && upper.file_name().is_some_and(|name| name == "fs")
        && is_directory(upper)
        && is_directory(&upper.with_file_name("work"))
}

/// Whether a directory is the topmost of the mounts of our views, which has nothing in it.
fn is_of_view(top: &Path) -> bool {
    top.file_name().is_some_and(|name| name == "top") && is_of_overlayfs(&top.with_file_name("fs")) && is_empty(top)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, source: &Path, options: &[&str]) -> Mount {
        Mount {
            r#type: kind.to_owned(),
            source: source.to_str().unwrap().to_owned(),
            target: String::new(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
        }
    }

    fn snapshot() -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let upper = place.path().join("fs");
        std::fs::create_dir(&upper).unwrap();
        std::fs::create_dir(place.path().join("work")).unwrap();
        (place, upper)
    }

    #[test]
    fn what_the_overlayfs_snapshotter_says_is_understood() {
        let (_place, upper) = snapshot();
        let bound = Target::of(&[mount("bind", &upper, &["rw", "rbind"])]).unwrap();
        assert_eq!((bound.upper, bound.lower), (upper.clone(), Vec::new()));

        let (work, own) = (format!("workdir={}/work", upper.display()), format!("upperdir={}", upper.display()));
        let options = [&work, &own, "lowerdir=/s/2/fs:/s/1/fs", "index=off"];
        let over = Target::of(&[mount("overlay", Path::new("overlay"), &options)]).unwrap();
        assert_eq!(over.lower, [PathBuf::from("/s/2/fs"), PathBuf::from("/s/1/fs")]);
        assert_eq!((over.upper, over.namespace), (upper, XattrNamespace::Trusted));
        let options = [&work, &own, "lowerdir=/s/1/fs", "userxattr"];
        let over = Target::of(&[mount("overlay", Path::new("overlay"), &options)]).unwrap();
        assert_eq!(over.namespace, XattrNamespace::User);
    }

    #[test]
    fn changes_are_what_one_directory_has_on_top_of_the_others() {
        let (_place, upper) = snapshot();
        let lower = tempfile::tempdir().unwrap();
        let path = |name: &str| lower.path().join(name);
        for name in ["a", "b", "empty", "view/top", "view/fs", "view/work", "new/fs", "new/work"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        std::fs::write(path("a/file"), "").unwrap();
        std::fs::write(path("b/file"), "").unwrap();
        let text = |names: &[&str]| names.iter().map(|name| path(name).display().to_string()).collect::<Vec<_>>();
        let over = |names: &[&str]| {
            let lower = format!("lowerdir={}", text(names).join(":"));
            mount("overlay", Path::new("overlay"), &[&lower, "index=off"])
        };
        let on = |names: &[&str]| {
            let lower = format!("lowerdir={}", text(names).join(":"));
            let (work, own) = (format!("workdir={}/work", upper.display()), format!("upperdir={}", upper.display()));
            mount("overlay", Path::new("overlay"), &[&work, &own, &lower])
        };
        let lower_of = |left: &[Mount], right: Mount| Changes::of(left, &[right]).map(|changes| changes.lower);
        assert_eq!(lower_of(&[over(&["b", "a"])], on(&["b", "a"])), Ok(vec![path("b"), path("a")]));
        // As one layer is mounted: below what is on top of views, or bound.
        assert_eq!(lower_of(&[over(&["view/top", "a"])], on(&["a"])), Ok(vec![path("a")]));
        assert_eq!(lower_of(&[mount("bind", &path("a"), &["ro", "rbind"])], on(&["a"])), Ok(vec![path("a")]));
        // With nothing below it.
        let alone = || mount("bind", &upper, &["rw", "rbind"]);
        assert_eq!(lower_of(&[], alone()), Ok(Vec::new()));
        assert_eq!(lower_of(&[mount("bind", &path("empty"), &["ro", "rbind"])], alone()), Ok(Vec::new()));

        // Two views, and the layer on top is another's that has changed nothing.
        let shown = Changes::of(&[over(&["view/top", "a"])], &[over(&["view/top", "new/fs", "a"])]).unwrap();
        assert_eq!((shown.upper, shown.lower), (path("new/fs"), vec![path("a")]));
        let shown = Changes::of(&[], &[over(&["view/top", "new/fs"])]).unwrap();
        assert_eq!((shown.upper, shown.lower), (path("new/fs"), Vec::new()));

        assert_eq!(lower_of(&[over(&["view/top", "a"])], on(&["b", "a"])), Err(Unknown::NotOnTop));
        assert_eq!(lower_of(&[over(&["view/top", "a"])], over(&["view/top", "a"])), Err(Unknown::NotOnTop));
        assert_eq!(lower_of(&[over(&["b", "a"])], over(&["b", "a"])), Err(Unknown::NotOnTop));
        assert_eq!(lower_of(&[], mount("bind", &path("a"), &["rw", "rbind"])), Err(Unknown::NotOnTop));
    }

    #[test]
    fn what_is_not_understood_is_left_to_others() {
        let (place, upper) = snapshot();
        let own = format!("upperdir={}", upper.display());
        let over = |options: &[&str]| Target::of(&[mount("overlay", Path::new("overlay"), options)]).unwrap_err();
        assert_eq!(over(&[&own]), Unknown::NoLower);
        assert_eq!(over(&["lowerdir=/a:/b"]), Unknown::NoUpper);
        assert_eq!(over(&[&own, "lowerdir=/a::/b"]), Unknown::NoLower);
        assert_eq!(over(&[&own, "lowerdir=/a", "uidmap=0:1000:65536", "gidmap=0:1000:65536"]), Unknown::Mapped);
        for option in ["lowerdir+=/c", "lowerdir=/a\\:b", "ro"] {
            assert_eq!(over(&[&own, "lowerdir=/a", option]), Unknown::Option(option.to_owned()));
        }
        let bound = |source: &Path, options: &[&str]| Target::of(&[mount("bind", source, options)]).unwrap_err();
        assert_eq!(bound(&upper, &["ro", "rbind"]), Unknown::Option("ro".to_owned()));
        std::fs::write(upper.join("file"), "").unwrap();
        assert_eq!(bound(&upper, &["rw", "rbind"]), Unknown::NotEmpty(upper.clone()));
        // As the snapshotter `native` has them.
        assert_eq!(bound(place.path(), &["rw", "rbind"]), Unknown::Snapshotter(place.path().to_owned()));
        assert_eq!(Target::of(&[]), Err(Unknown::Count(0)));
        assert_eq!(Target::of(&[mount("erofs", &upper, &[])]), Err(Unknown::Type("erofs".to_owned())));
    }
}
