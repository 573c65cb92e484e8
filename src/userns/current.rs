//! Identifies the current user namespace.

use std::os::unix::fs::MetadataExt as _;

/// Whether this process is in a user namespace other than the first one, where overlayfs neither reads nor writes
/// `trusted.overlay.*` (Documentation/filesystems/overlayfs.rst, "User xattr").
pub fn in_user_namespace() -> bool {
    /// Inode number of the first user namespace on every kernel: `PROC_USER_INIT_INO`, include/linux/proc_ns.h.
    const FIRST: u64 = 0xEFFF_FFFD;
    match std::fs::metadata("/proc/self/ns/user") {
        Ok(namespace) => namespace.ino() != FIRST,
        // A kernel without user namespaces, or no /proc: then the map tells, if anything does.
        Err(_) => std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !is_identity(&map)),
    }
}

/// Whether a uid_map maps every user to itself, as that of the first namespace does.
fn is_identity(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_namespace_maps_everyone_to_themselves() {
        assert!(is_identity("         0          0 4294967295\n"));
        assert!(!is_identity("0 65534 1\n"));
        assert!(!is_identity("0 0 65536\n65536 65536 4294901759\n"));
        assert!(!is_identity(""));
    }
}
