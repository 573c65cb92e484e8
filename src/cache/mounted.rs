//! What is mounted, as far as this user can see it: a lower directory of an overlay is not to be removed.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

use crate::core::limits::Limits;
use crate::lowerdirs::{ErofsLayout, FILE_NAME};

/// The overlays and EROFS images that are mounted, in every mount namespace that has a process which may be looked at.
#[derive(Debug)]
pub(super) struct Mounted(Vec<Vec<u8>>);

impl Mounted {
    pub(super) fn look() -> Self {
        let mut seen = HashSet::new();
        let mut lines = Vec::new();
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = processes.filter(|entry| entry.file_name().as_bytes().iter().all(u8::is_ascii_digit));
        for process in ids.map(|entry| entry.path()) {
            let namespace = std::fs::read_link(process.join("ns/mnt"));
            if namespace.is_ok_and(|namespace| !seen.insert(namespace)) {
                continue;
            }
            // A process may have ended, or be another user's.
            let Ok(mounts) = std::fs::read(process.join("mountinfo")) else { continue };
            let is_ours = |line: &&[u8]| find(line, b" - overlay ").or(find(line, b" - erofs ")).is_some();
            for line in mounts.split(|&byte| byte == b'\n').filter(is_ours) {
                lines.push(unescape(line));
                lines.extend(contents_of(line));
            }
        }
        Self(lines)
    }

    /// Whether a directory in this one is a layer of an overlay.
    pub(super) fn uses(&self, directory: &Path) -> bool {
        let Ok(directory) = directory.canonicalize() else { return false };
        let within = [directory.as_os_str().as_bytes(), b"/"].concat();
        self.0.iter().any(|line| find(line, &within).is_some())
    }
}

/// What the contents of a mounted EROFS image lie in: the mount names only the image, and what lies beside that names the rest.
fn contents_of(line: &[u8]) -> Vec<Vec<u8>> {
    let source = find(line, b" - ").and_then(|at| line[at + 3..].split(|&byte| byte == b' ').nth(1));
    let source = unescape(source.unwrap_or_default());
    let description = Path::new(OsStr::from_bytes(&source)).with_file_name(FILE_NAME);
    // A name that anybody may have chosen.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = source.starts_with(b"/").then(|| open(&description, flags, Mode::empty()).ok()).flatten();
    let text = file.and_then(|file| {
        let mut text = Vec::new();
        File::from(file).take(Limits::default().metadata_size).read_to_end(&mut text).ok().map(|_| text)
    });
    let layout: Option<ErofsLayout> = text.and_then(|text| serde_json::from_slice(&text).ok());
    let Some(layout) = layout else { return Vec::new() };
    // Images of layers, which lie beside the whole image's directory.
    let beside = |file: &str| {
        let group = description.parent()?.parent()?;
        Some(group.join(ErofsLayout::shared_layer(file)?).join("").into_os_string().into_encoded_bytes())
    };
    let images = layout.images.iter().filter_map(|image| beside(&image.file));
    images.chain(layout.devices.iter().map(|device| device.path.clone().into_bytes())).collect()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Undoes what proc(5) does to awkward bytes (`\040`), and what overlayfs wants before colons and commas.
fn unescape(line: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, 8).ok()
        });
        match (byte, octal) {
            (b'\\', Some(value)) => {
                plain.push(value);
                rest = &after[3..];
            }
            (b'\\', None) => rest = after,
            _ => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn awkward_names_are_read_as_they_are() {
        assert_eq!(unescape(br"lowerdir+=/a\040b\134c/x:\:y"), br"lowerdir+=/a b\c/x::y");
    }

    #[test]
    fn only_what_is_within_is_used() {
        let place = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "one-2"].map(|name| place.path().join(name));
        std::fs::create_dir_all(&one).unwrap();
        std::fs::create_dir_all(&two).unwrap();
        let line =
            format!("29 1 0:2 / /m ro - overlay layflat lowerdir+={}/layers/0", two.canonicalize().unwrap().display());
        let mounted = Mounted(vec![line.into_bytes()]);
        assert!(mounted.uses(&two) && !mounted.uses(&one));
    }
}
