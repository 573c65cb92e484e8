//! Mount options as values, without I/O.

use crate::core::overlayfs::XattrNamespace;

/// The most layers that overlayfs mounts: `OVL_MAX_STACK`, fs/overlayfs/params.h.
pub const MOST_LAYERS: usize = 500;

/// The longest string that fsconfig(2) takes.
pub(super) const LONGEST_STRING: usize = 255;

/// The most bytes of options that mount(2) takes: a page, with the NUL at its end.
pub(super) const MOST_OPTIONS: usize = 4095;

/// What every mount is told; a setting without a value is a flag.
pub(super) fn settings(namespace: XattrNamespace) -> &'static [(&'static str, Option<&'static str>)] {
    // One list, so that no namespace can miss a safeguard.
    const ALL: [(&str, Option<&str>); 3] =
        [("redirect_dir", Some("nofollow")), ("metacopy", Some("off")), ("userxattr", None)];
    match namespace {
        XattrNamespace::User => &ALL,
        XattrNamespace::Trusted => ALL.split_at(2).0,
    }
}

/// A path in an option of mount(2): a colon ends a layer there, a comma an option, and a backslash makes either plain.
/// `upperdir` and `workdir` are read in the same way, also through fsconfig(2); only `lowerdir+` is taken as it is.
pub(super) fn escape(path: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(path.len());
    for &byte in path {
        if matches!(byte, b'\\' | b':' | b',') {
            escaped.push(b'\\');
        }
        escaped.push(byte);
    }
    escaped
}

/// All options in one string, for mount(2).
pub(super) fn option_string(lower: &[Vec<u8>], upper: Option<(&[u8], &[u8])>, namespace: XattrNamespace) -> Vec<u8> {
    let layers: Vec<Vec<u8>> = lower.iter().map(|path| escape(path)).collect();
    let mut options = vec![[b"lowerdir=", &layers.join(&b':')[..]].concat()];
    if let Some((upper, work)) = upper {
        options.push([b"upperdir=", &escape(upper)[..]].concat());
        options.push([b"workdir=", &escape(work)[..]].concat());
    }
    for (name, value) in settings(namespace) {
        options.push(value.map_or((*name).to_owned(), |value| format!("{name}={value}")).into_bytes());
    }
    options.join(&b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(lower: &[&str], upper: Option<(&str, &str)>, namespace: XattrNamespace) -> String {
        let lower: Vec<Vec<u8>> = lower.iter().map(|path| path.as_bytes().to_vec()).collect();
        let upper = upper.map(|(upper, work)| (upper.as_bytes(), work.as_bytes()));
        String::from_utf8(option_string(&lower, upper, namespace)).unwrap()
    }

    #[test]
    fn the_options_of_a_mount() {
        assert_eq!(
            string(&["/b", "/a"], None, XattrNamespace::Trusted),
            "lowerdir=/b:/a,redirect_dir=nofollow,metacopy=off"
        );
        assert_eq!(
            string(&["/a"], Some(("/u", "/w")), XattrNamespace::User),
            "lowerdir=/a,upperdir=/u,workdir=/w,redirect_dir=nofollow,metacopy=off,userxattr"
        );
    }

    #[test]
    fn what_ends_a_path_is_escaped() {
        assert_eq!(
            string(&["/a:b,c\\d e\n", "/a"], Some(("/u:,", "/w\\")), XattrNamespace::Trusted),
            "lowerdir=/a\\:b\\,c\\\\d e\n:/a,upperdir=/u\\:\\,,workdir=/w\\\\,redirect_dir=nofollow,metacopy=off"
        );
    }
}
