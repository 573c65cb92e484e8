//! See [`crate::fuzzing`].

use crate::below::Overlay;
use crate::core::overlayfs::XattrNamespace;
use crate::core::record::Xattrs;
use crate::core::text::Timestamp;
use crate::tree::{TreeEntry, TreeKind};

/// Extended attributes of a file in an upper directory: names and values in turn, separated by NUL. What stays of them for the layer is
/// nothing that overlayfs would obey.
pub fn marks(input: &[u8]) {
    let mut parts = input.split(|&byte| byte == 0);
    let kind = match parts.next() {
        Some(b"d") => TreeKind::Directory,
        Some(b"c") => TreeKind::CharacterDevice(0, 0),
        _ => TreeKind::File { size: 0 },
    };
    let pairs = std::iter::from_fn(|| Some((parts.next()?.to_vec(), parts.next()?.to_vec())));
    let xattrs: Xattrs = pairs.collect();
    let mtime = Timestamp { seconds: 0, nanoseconds: 0 };
    let entry = TreeEntry { kind, mode: 0o644, uid: 0, gid: 0, mtime, xattrs, inode: (0, 0) };
    for namespace in [XattrNamespace::Trusted, XattrNamespace::User] {
        let overlay = Overlay::new(namespace);
        let _ = (
            overlay.is_whiteout(&entry),
            overlay.is_opaque(&entry),
            overlay.redirect(&entry),
            overlay.is_metacopy(&entry),
        );
        let cleaned = overlay.cleaned(&entry.xattrs);
        assert!(cleaned.iter().count() <= entry.xattrs.iter().count());
    }
}
