//! Suggests what to type instead: for commands of other tools, and for image names that are not files.

use std::path::Path;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use layflat::core::reference::ImageName;

/// Replaces clap's guess, the command that is spelt most alike, by the one that does what another tool's command does.
pub(crate) fn for_command(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return error;
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return error };
    let Some(tip) = of_command(word) else { return error };
    error.remove(ContextKind::SuggestedSubcommand);
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
    error
}

/// Commands of docker, podman, skopeo, crane, umoci and tar, and what does the same here.
fn of_command(word: &str) -> Option<&'static str> {
    Some(match word {
        "pull" | "fetch" | "download" | "get" => {
            "nothing needs to be pulled first: layflat flatten docker://NAME DEST; to keep the image: layflat copy docker://NAME oci:DIR"
        }
        "push" | "upload" | "publish" => "layflat copy IMAGE docker://HOST/NAME:TAG",
        "save" => "layflat copy docker-daemon:NAME docker-archive:FILE",
        "load" | "import" => "layflat copy FILE docker-daemon:NAME",
        "sync" | "convert" | "tag" | "retag" => "layflat copy IMAGE DESTINATION",
        "exec" | "create" | "start" | "runtime" => {
            "layflat run IMAGE CMD; or layflat bundle IMAGE DIR, then: runc run --bundle DIR NAME"
        }
        "shell" | "enter" | "chroot" => "layflat run IMAGE sh; or layflat unshare --mount IMAGE:DIR",
        "extract" | "unpack" | "export" | "untar" | "rootfs" | "x" | "expand" => {
            "layflat flatten IMAGE DEST for one root file system, layflat layers IMAGE DEST for a directory per layer"
        }
        "images" | "image" | "list" => {
            "layflat tags FILE and layflat tags docker://NAME list images; layflat cache ls lists the cache"
        }
        "search" | "catalog" => "layflat tags docker://NAME lists the tags of a repository",
        "manifest" => "layflat inspect --raw IMAGE",
        "info" | "show" | "layer" | "history" => "layflat inspect IMAGE",
        "tree" | "dir" => "layflat ls --recursive IMAGE",
        "locate" => "layflat find IMAGE GLOB",
        "blame" => "layflat log IMAGE PATH",
        "validate" | "verify" | "lint" | "scan" => "layflat check IMAGE",
        "compare" => "layflat diff IMAGE IMAGE",
        "merge" | "rebase" => "layflat squash SRC DST",
        "commit" | "repack" => {
            "layflat append IMAGE UPPERDIR DST, or layflat pack UPPERDIR --output LAYER.tar for the layer alone"
        }
        "insert" | "add" => "layflat append IMAGE LAYER DST",
        "mutate" | "edit" | "annotate" | "set" => "layflat config set IMAGE DST --label KEY=VALUE",
        "unmount" => "layflat umount MOUNTPOINT",
        "rm" | "rmi" | "remove" | "delete" | "clean" | "prune" | "gc" => "layflat cache prune --max-size SIZE",
        "login" | "logout" | "auth" => "use podman login or docker login; layflat reads their credentials",
        _ => return None,
    })
}

/// For a path that is not there: the name of an image at a registry or in an engine, or an address.
pub(crate) fn for_missing(path: &Path) -> Option<String> {
    let word = path.to_str()?;
    if let Some((scheme, _)) = word.split_once("://") {
        return matches!(scheme, "http" | "https" | "ftp")
            .then(|| format!("URLs are not read: curl -L {word} | layflat COMMAND -"));
    }
    let is_path = word.starts_with(['/', '.', '~', '-']) || is_archive(path);
    if is_path || word.parse::<ImageName>().is_err() {
        return None;
    }
    Some(format!("from a registry: docker://{word}; from the local Docker or Podman: docker-daemon:{word}"))
}

/// Whether a name is that of an archive or a file system image.
pub(crate) fn is_archive(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let endings =
        [".tar", ".tgz", ".txz", ".tbz2", ".tzst", ".tar.gz", ".tar.xz", ".tar.bz2", ".tar.zst", ".zip", ".cpio"];
    let images = [".erofs", ".squashfs", ".sqfs", ".ext4", ".img", ".iso", ".qcow2"];
    endings.iter().chain(&images).any(|ending| name.len() > ending.len() && name.ends_with(ending))
}

/// The program that compresses as a file's name says.
pub(crate) fn compressor(file: &Path) -> Option<&'static str> {
    let name = file.file_name()?.to_str()?.to_ascii_lowercase();
    let endings = [
        (".tar.gz", "gzip"),
        (".tgz", "gzip"),
        (".tar.zst", "zstd"),
        (".tzst", "zstd"),
        (".tar.xz", "xz"),
        (".txz", "xz"),
        (".tar.bz2", "bzip2"),
        (".tbz2", "bzip2"),
    ];
    endings.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, program)| *program)
}

/// Refuses a directory with the name of an archive, unless it is there or a slash says that a directory is meant.
pub(crate) fn refuse_archive_name(directory: &Path, advice: &str) -> anyhow::Result<()> {
    let is_meant = directory.as_os_str().as_encoded_bytes().ends_with(b"/") || directory.is_dir();
    let name = directory.display();
    anyhow::ensure!(
        is_meant || !is_archive(directory),
        "{name} would be a directory; {advice}; for a directory of this name: {name}/"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_from_paths() {
        let tip = |word: &str| for_missing(Path::new(word));
        assert!(tip("debian").unwrap().contains("docker://debian;"));
        assert!(tip("ghcr.io/foo/bar:1").unwrap().contains("docker-daemon:ghcr.io/foo/bar:1"));
        assert!(tip("https://host/x.tar").unwrap().contains("curl -L https://host/x.tar | "));
        for path in ["./debian", "/a", "app.tar", "dir/app.tar.gz", "Upper", "rootfs.squashfs"] {
            assert_eq!(tip(path), None, "{path}");
        }
    }
}
