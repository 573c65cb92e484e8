//! References to images as users write them: `docker://NAME`, `oci:DIR:TAG`, a path, and so on.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::userinfo::{mask_passwords, without_password};
use super::{ImageName, ImageNameError};
use crate::core::digest::Digest;

/// Where an image is, in the spelling that users of skopeo know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `docker://HOST[:PORT]/NAME[:TAG][@DIGEST]`, Docker Hub's short names among them: at a registry.
    Registry(ImageName),
    /// `docker-daemon:NAME[:TAG]`: in the store of a Docker or Podman that runs.
    DockerDaemon(DaemonImage),
    /// `docker-archive:FILE[:NAME:TAG]`
    DockerArchive {
        /// The archive; `-` is standard input.
        file: PathBuf,
        /// Which image of the archive: a name, or `@` and a number counted from 0.
        name: Option<String>,
    },
    /// `oci:DIR[:TAG]`
    OciLayout {
        /// The layout's directory.
        directory: PathBuf,
        /// Which image of the layout: a tag, or `@` and a digest.
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`
    OciArchive {
        /// The archive; `-` is standard input.
        file: PathBuf,
        /// Which image of the layout: a tag, or `@` and a digest.
        tag: Option<String>,
    },
    /// `dir:DIR`: an unpacked docker archive, or what skopeo writes under this name.
    Directory(PathBuf),
    /// `layers:A.tar,B.tar.gz`: bare layers, bottom first.
    Layers(Vec<PathBuf>),
    /// A path with nothing before it, recognised by what is there; `-` is standard input.
    Path(PathBuf),
}

/// Which image of an engine's store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonImage {
    /// By its name.
    Name(ImageName),
    /// By its ID, the digest of its configuration.
    Id(Digest),
}

impl fmt::Display for DaemonImage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(&name.familiar()),
            Self::Id(id) => id.fmt(formatter),
        }
    }
}

/// A text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// A transport, and nothing behind it.
    #[error("{0:?} has no file: write {0}PATH")]
    Empty(String),
    /// A transport of other tools that this one does not have.
    #[error(
        "images of {0:?} cannot be read; save the image as an archive first, for instance with `skopeo copy {1} oci:DIR:TAG`"
    )]
    Unsupported(String, String),
    /// A registry's image without the slashes that tell it from a file.
    #[error("{0:?} lacks the slashes: write docker://{1}")]
    NoSlashes(String, String),
    /// A name that no registry and no engine can have.
    #[error(transparent)]
    Name(#[from] ImageNameError),
    /// A tag that is not text.
    #[error("the name after {0:?} is not valid UTF-8")]
    NotText(PathBuf),
}

impl Reference {
    /// Reads what a user wrote.
    ///
    /// # Errors
    /// A transport without a path, or one that is not supported.
    pub fn parse(text: &OsStr) -> Result<Self, ReferenceError> {
        Self::parse_among(text, &|_| false)
    }

    /// The same where `exists` tells which paths are there: one that is there whole has no name behind its colon.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_among(text: &OsStr, exists: &dyn Fn(&Path) -> bool) -> Result<Self, ReferenceError> {
        let bytes = text.as_bytes();
        let Some((transport, rest)) = split(bytes) else {
            return Ok(Self::Path(text.into()));
        };
        let rest_given = || {
            if rest.is_empty() {
                return Err(ReferenceError::Empty(format!("{}:", String::from_utf8_lossy(transport))));
            }
            Ok(())
        };
        match transport {
            b"docker-archive" => {
                rest_given()?;
                let (file, name) = path_and_name(rest, exists)?;
                Ok(Self::DockerArchive { file, name })
            }
            b"oci" => {
                rest_given()?;
                let (directory, tag) = path_and_name(rest, exists)?;
                Ok(Self::OciLayout { directory, tag })
            }
            b"oci-archive" => {
                rest_given()?;
                let (file, tag) = path_and_name(rest, exists)?;
                Ok(Self::OciArchive { file, tag })
            }
            b"layers" => {
                rest_given()?;
                let paths = rest.split(|&byte| byte == b',').map(|path| OsStr::from_bytes(path).into()).collect();
                Ok(Self::Layers(paths))
            }
            b"docker" => {
                let text = text_of(bytes)?;
                match text.strip_prefix("docker://") {
                    Some(name) => Ok(Self::Registry(name.parse()?)),
                    None => {
                        let name = text.trim_start_matches("docker:").trim_start_matches('/');
                        let name = without_password(name).into_owned();
                        Err(ReferenceError::NoSlashes(format!("docker:{name}"), name))
                    }
                }
            }
            b"docker-daemon" => {
                let name = text_of(rest)?;
                Ok(Self::DockerDaemon(match name.parse() {
                    Ok(id) => DaemonImage::Id(id),
                    Err(_) => DaemonImage::Name(name.parse()?),
                }))
            }
            b"dir" => {
                rest_given()?;
                Ok(Self::Directory(OsStr::from_bytes(rest).into()))
            }
            b"containers-storage" | b"ostree" => {
                let name = String::from_utf8_lossy(transport).into_owned();
                let image = String::from_utf8_lossy(bytes);
                Err(ReferenceError::Unsupported(format!("{name}:"), mask_passwords(&image).into_owned()))
            }
            // A path may hold a colon.
            _ => Ok(Self::Path(text.into())),
        }
    }
}

impl Reference {
    /// The files and directories that it names on this machine; standard input is none.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let paths: &[PathBuf] = match self {
            Self::Registry(_) | Self::DockerDaemon(_) => &[],
            Self::DockerArchive { file, .. } | Self::OciArchive { file, .. } => std::slice::from_ref(file),
            Self::OciLayout { directory, .. } => std::slice::from_ref(directory),
            Self::Directory(path) | Self::Path(path) => std::slice::from_ref(path),
            Self::Layers(paths) => paths,
        };
        paths.iter().map(PathBuf::as_path).filter(|&path| path != Path::new("-"))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(OsStr::new(text))
    }
}

/// As it would be written.
impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut write = |transport: &str, path: &PathBuf, name: &Option<String>| {
            write!(formatter, "{transport}:{}", path.display())?;
            // A digest needs no colon; a number (`@0`) does.
            let colon = |name: &str| if is_at_digest(name.as_bytes()) { "" } else { ":" };
            name.as_ref().map_or(Ok(()), |name| write!(formatter, "{}{name}", colon(name)))
        };
        match self {
            Self::DockerArchive { file, name } => write("docker-archive", file, name),
            Self::OciLayout { directory, tag } => write("oci", directory, tag),
            Self::OciArchive { file, tag } => write("oci-archive", file, tag),
            Self::Registry(name) => write!(formatter, "docker://{name}"),
            Self::DockerDaemon(image) => write!(formatter, "docker-daemon:{image}"),
            Self::Directory(path) => write!(formatter, "dir:{}", path.display()),
            Self::Path(path) => write!(formatter, "{}", path.display()),
            Self::Layers(paths) => {
                let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
                write!(formatter, "layers:{}", paths.join(","))
            }
        }
    }
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = bytes.iter().position(|&byte| byte == b':')?;
    Some((&bytes[..colon], &bytes[colon + 1..]))
}

fn text_of(bytes: &[u8]) -> Result<&str, ReferenceError> {
    std::str::from_utf8(bytes).map_err(|_| ReferenceError::NotText(OsStr::from_bytes(bytes).into()))
}

fn is_at_digest(text: &[u8]) -> bool {
    text.starts_with(b"@sha2") || text.starts_with(b"@sha5")
}

/// `PATH[:NAME]` or `PATH@NAME`. The first colon ends the path, as skopeo has it, unless all of it is the name of a
/// file that is there.
fn path_and_name(rest: &[u8], exists: &dyn Fn(&Path) -> bool) -> Result<(PathBuf, Option<String>), ReferenceError> {
    let whole = PathBuf::from(OsString::from(OsStr::from_bytes(rest)));
    if exists(&whole) {
        return Ok((whole, None));
    }
    let at_digest = rest.windows(5).position(is_at_digest);
    let (path, name) = match (at_digest, split(rest)) {
        // `PATH:@sha256:…` is understood, too.
        (Some(at), _) => (without_last_colons(&rest[..at]), Some(&rest[at..])),
        (None, Some((path, name))) => (path, Some(name)),
        (None, None) => (rest, None),
    };
    let path = PathBuf::from(OsStr::from_bytes(path));
    // No name begins with a colon.
    let name = name.map(without_first_colons).filter(|name| !name.is_empty());
    let name = name.map(|name| String::from_utf8(name.to_vec()).map_err(|_| ReferenceError::NotText(path.clone())));
    Ok((path.clone(), name.transpose()?))
}

fn without_first_colons(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|&&byte| byte == b':').count()..]
}

fn without_last_colons(text: &[u8]) -> &[u8] {
    &text[..text.len() - text.iter().rev().take_while(|&&byte| byte == b':').count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_spelled_as_skopeo_spells_them() {
        let parse = |text: &str| text.parse::<Reference>().unwrap();
        let file = PathBuf::from("no/such/a.tar");
        for (text, expected) in [
            ("docker-archive:no/such/a.tar", Reference::DockerArchive { file: file.clone(), name: None }),
            (
                "docker-archive:no/such/a.tar:debian:12",
                Reference::DockerArchive { file: file.clone(), name: Some("debian:12".into()) },
            ),
            ("oci-archive:no/such/a.tar:12", Reference::OciArchive { file: file.clone(), tag: Some("12".into()) }),
            ("oci:no/such/a.tar", Reference::OciLayout { directory: file.clone(), tag: None }),
            ("docker://quay.io/a/b:1", Reference::Registry("quay.io/a/b:1".parse().unwrap())),
            ("docker-daemon:debian:12", Reference::DockerDaemon(DaemonImage::Name("debian:12".parse().unwrap()))),
            ("dir:a/b", Reference::Directory("a/b".into())),
            ("layers:a.tar,b.tar.gz", Reference::Layers(vec!["a.tar".into(), "b.tar.gz".into()])),
            ("no/such/a.tar", Reference::Path(file)),
            ("-", Reference::Path("-".into())),
            ("odd:name", Reference::Path("odd:name".into())),
        ] {
            assert_eq!(parse(text), expected);
            assert_eq!(parse(text).to_string(), text);
        }
        let digest = format!("@sha256:{}", "0".repeat(64));
        for text in [format!("oci:dir{digest}"), format!("oci:dir:{digest}")] {
            let expected = Reference::OciLayout { directory: "dir".into(), tag: Some(digest.clone()) };
            assert_eq!(parse(&text), expected);
        }
    }

    #[test]
    fn more_colons_than_one_mean_the_same() {
        let digest = format!("@sha256:{}", "0".repeat(64));
        for (text, written) in [
            ("oci:dir:".to_owned(), "oci:dir".to_owned()),
            ("oci:dir::".to_owned(), "oci:dir".to_owned()),
            ("oci:dir:::a".to_owned(), "oci:dir:a".to_owned()),
            (format!("oci:dir::{digest}"), format!("oci:dir{digest}")),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), written);
            assert_eq!(written.parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn what_is_no_reference_says_what_to_write() {
        assert!("oci:".parse::<Reference>().unwrap_err().to_string().contains("oci:PATH"));
        for (text, expected) in [
            ("containers-storage:debian", "skopeo copy"),
            ("docker:debian", "write docker://debian"),
            ("docker://", "a part of it is empty"),
            ("docker-daemon:", "a part of it is empty"),
            ("docker-daemon:Debian", "upper-case"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
