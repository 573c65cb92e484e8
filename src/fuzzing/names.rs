//! What names an image.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::core::reference::{ImageName, Platform, Reference};

/// A reference means the same when it is written out, and so does an image's name.
pub fn reference(input: &[u8]) {
    if let Ok(reference) = Reference::parse_among(OsStr::from_bytes(input), &|_| false) {
        let written = reference.to_string();
        // Paths that are no text are written as what can be shown of them.
        if let (Ok(text), Ok(again)) = (std::str::from_utf8(input), written.parse::<Reference>()) {
            assert_eq!(again, reference, "{text:?} is written as {written:?}");
        }
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(name) = text.parse::<ImageName>() {
        let written = name.to_string();
        assert_eq!(written.parse::<ImageName>().ok(), Some(name), "{text:?} is written as {written:?}");
    }
    let _ = crate::core::reference::mask_passwords(text);
}

/// A platform means the same when it is written out.
pub fn platform(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(platform) = text.parse::<Platform>() {
        let written = platform.to_string();
        assert_eq!(written.parse::<Platform>().ok(), Some(platform), "{text:?} is written as {written:?}");
    }
}
