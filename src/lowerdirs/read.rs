//! Reads `layflat.json`. Nothing is done but that: what lies there may be a FIFO, or a link.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::{ErofsLayout, FILE_NAME, Layout, LayoutError};
use crate::core::limits::Limits;
use crate::fs::openat;

/// Opens a directory that has a description, to find things from.
pub(crate) fn open(directory: &Path) -> Result<OwnedFd, LayoutError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let failed = |error: Errno| LayoutError::Directory { path: directory.to_owned(), source: error.into() };
    openat(CWD, directory, flags, Mode::empty()).map_err(failed)
}

/// The description in an open directory, whatever it describes. `path` is the directory's, for messages.
pub(crate) fn read(directory: impl AsFd, path: &Path) -> Result<Vec<u8>, LayoutError> {
    let path = path.join(FILE_NAME);
    let unreadable = |source| LayoutError::Unreadable { path: path.clone(), source };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(directory, FILE_NAME, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Err(LayoutError::Missing { path }),
        Err(errno) => return Err(unreadable(errno.into())),
    };
    let limit = Limits::default().metadata_size;
    let mut text = Vec::new();
    file.take(limit + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > limit {
        return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(text)
}

/// What the `layflat.json` of a directory says it is: `overlay` (unpacked layers), `erofs` (EROFS images) or `bundle`.
/// Nothing of a directory without one, or with a file of that name that layflat has not written.
pub fn form_of(directory: &Path) -> Option<String> {
    let path = directory.join(FILE_NAME);
    let Version { form, .. } = version(&read(open(directory).ok()?, directory).ok()?, &path).ok()?;
    [Layout::FORM, ErofsLayout::FORM, "bundle"].contains(&form.as_str()).then_some(form)
}

/// The description of the unpacked layers in an open directory.
pub(crate) fn read_layout(directory: impl AsFd, path: &Path) -> Result<Layout, LayoutError> {
    parse(&read(directory, path)?, &path.join(FILE_NAME))
}

/// The description of EROFS images in an open directory; nothing if it describes something else.
pub(crate) fn read_erofs(directory: impl AsFd, path: &Path) -> Result<Option<ErofsLayout>, LayoutError> {
    parse_erofs(&read(directory, path)?, &path.join(FILE_NAME))
}

fn parse_erofs(text: &[u8], path: &Path) -> Result<Option<ErofsLayout>, LayoutError> {
    let Version { form, format } = version(text, path)?;
    if form != ErofsLayout::FORM {
        return Ok(None);
    }
    if ![ErofsLayout::FORMAT, ErofsLayout::SHARED].contains(&format) {
        return Err(LayoutError::Unknown { path: path.to_owned(), form, format });
    }
    let malformed = |source| LayoutError::Malformed { path: path.to_owned(), source };
    let layout: ErofsLayout = serde_json::from_slice(text).map_err(malformed)?;
    let is_shared = |name: &str| format == ErofsLayout::SHARED && ErofsLayout::shared_layer(name).is_some();
    match layout.images.iter().find(|image| !is_plain(&image.file) && !is_shared(&image.file)) {
        Some(image) => Err(LayoutError::Outside { path: path.to_owned(), name: image.file.clone() }),
        None => Ok(Some(layout)),
    }
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
pub(super) fn parse(text: &[u8], path: &Path) -> Result<Layout, LayoutError> {
    let malformed = |source| LayoutError::Malformed { path: path.to_owned(), source };
    let version = version(text, path)?;
    if ![Layout::FORMAT, Layout::SHARED].contains(&version.format) || version.form != Layout::FORM {
        return Err(LayoutError::Unknown { path: path.to_owned(), form: version.form, format: version.format });
    }
    let layout: Layout = serde_json::from_slice(text).map_err(malformed)?;
    let is_shared = |name: &str| layout.format == Layout::SHARED && Layout::shared_layer(name).is_some();
    match layout.lowerdir.iter().find(|name| !is_plain(name) && !is_shared(name)) {
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
        let shared = |format: u32, name: &str| {
            let text = format!(
                r#"{{"format":{format},"form":"overlay","xattr_namespace":"user","layers":[],"lowerdir":["{name}"]}}"#
            );
            parse(text.as_bytes(), Path::new("/form/layflat.json")).is_ok()
        };
        assert!(shared(2, "../../layers/sha256-00-user/tree") && !shared(1, "../../layers/sha256-00-user/tree"));
        for name in ["../../layers/../tree", "../../layers/a/b/tree", "../../layers//tree", "../../layers/a/tree/.."] {
            assert!(!shared(2, name), "{name}");
        }
    }

    #[test]
    fn another_format_is_refused_by_its_number() {
        let message = error(r#"{"format":3,"form":"overlay","more":{}}"#);
        assert!(message.contains("in format 3") && message.contains("formats 1 and 2"), "{message}");
        assert!(error(r#"{"format":1,"form":"flat"}"#).contains("\"flat\""));
        assert!(error("{}").contains("does not describe"));
    }
}
