//! Unpacked overlay layers on disk, opened for mounting.

use super::directory::LowerDirectory;
use super::error::{LayoutError, MountError};
use crate::core::limits::Limits;
use crate::core::overlayfs::XattrNamespace;
use crate::lowerdirs::{ErofsLayout, FILE_NAME, Layout, changed};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path};

/// Opens the layers of unpacked overlay layers, topmost first. Everything is opened relative to the directory, and no
/// symbolic link in it is followed: what is mounted is what lies there.
pub(super) fn open(directory: &Path) -> Result<(Vec<LowerDirectory>, XattrNamespace), MountError> {
    let (base, text) = read(directory)?;
    let path = directory.join(FILE_NAME);
    let layout = parse(&text, &path)?;
    let open = |name: &String| {
        let layer = LowerDirectory::open_beneath(base.as_fd(), directory, name)?;
        match layout.modified.get(name).and_then(|remembered| changed(layer.directory(), remembered)) {
            Some(what) => {
                let changed = directory.join(name).join(what);
                Err(LayoutError::Changed { path: path.clone(), changed }.into())
            }
            None => Ok(layer),
        }
    };
    let lower: Result<Vec<LowerDirectory>, MountError> = layout.lowerdir.iter().map(open).collect();
    Ok((lower?, layout.xattr_namespace))
}

/// Whether a directory holds EROFS images over contents.
pub(super) fn is_erofs(directory: &Path) -> Result<bool, MountError> {
    let (_, text) = read(directory)?;
    Ok(version(&text, &directory.join(FILE_NAME))?.form == ErofsLayout::FORM)
}

/// Reads the description of EROFS images over contents.
pub(super) fn read_erofs(directory: &Path) -> Result<ErofsLayout, MountError> {
    let (_, text) = read(directory)?;
    let path = directory.join(FILE_NAME);
    let Version { form, format } = version(&text, &path)?;
    if form != ErofsLayout::FORM || format != ErofsLayout::FORMAT {
        return Err(LayoutError::Unknown { path, form, format }.into());
    }
    let layout: ErofsLayout =
        serde_json::from_slice(&text).map_err(|source| LayoutError::Malformed { path: path.clone(), source })?;
    match layout.images.iter().find(|image| !is_plain(&image.file)) {
        Some(image) => Err(LayoutError::Outside { path, name: image.file.clone() }.into()),
        None => Ok(layout),
    }
}

/// Reads the description in a directory, and opens the directory. Nothing is done but that: what lies there may be a
/// FIFO, or a link.
pub(crate) fn read(directory: &Path) -> Result<(OwnedFd, Vec<u8>), MountError> {
    let path = directory.join(FILE_NAME);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = rustix::fs::openat(CWD, directory, flags, Mode::empty()).map_err(|errno| MountError::Directory {
        action: "open",
        what: "the unpacked layers",
        path: directory.to_owned(),
        source: errno.into(),
    })?;
    let unreadable = |source| LayoutError::Unreadable { path: path.clone(), source };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(&base, FILE_NAME, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Err(LayoutError::Missing { path }.into()),
        Err(errno) => return Err(unreadable(errno.into()).into()),
    };
    let limit = Limits::default().metadata_size;
    let mut text = Vec::new();
    file.take(limit + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > limit {
        return Err(unreadable(io::ErrorKind::FileTooLarge.into()).into());
    }
    Ok((base, text))
}

/// What stays the same in every format.
#[derive(serde::Deserialize)]
struct Version {
    format: u32,
    form: String,
}

fn version(text: &[u8], path: &Path) -> Result<Version, LayoutError> {
    serde_json::from_slice(text).map_err(|source| LayoutError::Malformed { path: path.to_owned(), source })
}

/// Reads and checks the description.
fn parse(text: &[u8], path: &Path) -> Result<Layout, LayoutError> {
    let malformed = |source| LayoutError::Malformed { path: path.to_owned(), source };
    let version = version(text, path)?;
    if version.format != Layout::FORMAT || version.form != Layout::FORM {
        return Err(LayoutError::Unknown { path: path.to_owned(), form: version.form, format: version.format });
    }
    let layout: Layout = serde_json::from_slice(text).map_err(malformed)?;
    match layout.lowerdir.iter().find(|name| !is_plain(name)) {
        Some(name) => Err(LayoutError::Outside { path: path.to_owned(), name: name.clone() }),
        None => Ok(layout),
    }
}

/// Whether a name can only mean something below the directory it is relative to.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.contains('\0')
        && Path::new(name).components().all(|component| matches!(component, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text.as_bytes(), Path::new("/form/layflat.json")).unwrap_err().to_string()
    }

    #[test]
    fn only_plain_names_below_the_form_are_taken() {
        for name in ["layers/0001-abc", "a", "a:b,c\\d\n"] {
            assert!(is_plain(name), "{name:?}");
        }
        for name in ["", "/etc", "..", "a/../../b", "a/..", "./a", "\0"] {
            assert!(!is_plain(name), "{name:?}");
        }
        let outside =
            r#"{"format":1,"form":"overlay","xattr_namespace":"user","layers":[],"lowerdir":["a","../../etc"]}"#;
        assert!(error(outside).contains("\"../../etc\": not a plain relative path"));
    }

    #[test]
    fn another_format_is_refused_by_its_number() {
        let message = error(r#"{"format":2,"form":"overlay","more":{}}"#);
        assert!(message.contains("in format 2") && message.contains("format 1"), "{message}");
        assert!(error(r#"{"format":1,"form":"flat"}"#).contains("\"flat\""));
        assert!(error("{}").contains("does not describe"));
    }
}
