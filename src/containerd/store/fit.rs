//! Whether containerd can make a mount: it calls mount(2), which takes one page of options, and the kernel takes so many lower directories.

use nix::unistd::{SysconfVar, sysconf};

/// `OVL_MAX_STACK`, fs/overlayfs/params.h.
const MOST_LOWER: usize = 500;

/// Checks an overlay of these lower directories, with what else is in its options; why it cannot be mounted.
pub(super) fn check(lower: &[String], others: &[String]) -> Result<(), String> {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|page| page.try_into().ok());
    check_in(page.unwrap_or(4096), lower, others)
}

fn check_in(page: usize, lower: &[String], others: &[String]) -> Result<(), String> {
    // Before a container starts, containerd mounts what it is on for reading: its upper directory is a lower one then (WithReadonlyTempMount in
    // its core/mount).
    let upper = usize::from(others.iter().any(|option| option.starts_with("upperdir=")));
    let count = lower.len() + upper;
    let why = match bytes(page, lower, others) {
        _ if count > MOST_LOWER => format!("overlayfs takes at most {MOST_LOWER}"),
        bytes if bytes >= page => {
            format!("their paths make {bytes} bytes of mount options, where mount(2) takes {}", page - 1)
        }
        _ => return Ok(()),
    };
    Err(format!(
        "{count} directories cannot be mounted over one another: {why}; merge layers of the image (`layflat squash`), or have them kept as EROFS images, \
         of which there is one for each 128 layers (--backend erofs)"
    ))
}

/// Bytes of the options as containerd hands them over. Where they would hardly fit it goes into the directory that all lower ones are below, and names them
/// from there (compactLowerdirOption in its core/mount).
fn bytes(page: usize, lower: &[String], others: &[String]) -> usize {
    let others: usize = others.iter().map(|option| option.len() + 1).sum();
    let bytes = |cut: usize| {
        let names: usize = lower.iter().map(|path| path.len().saturating_sub(cut) + 1).sum();
        others + "lowerdir=".len() + names.saturating_sub(1)
    };
    match bytes(0) {
        whole if whole < page.saturating_sub(512) || lower.len() < 2 => whole,
        _ => bytes(common(lower)),
    }
}

/// How long the path is, with the slash behind it, of the directory that all are below.
fn common(paths: &[String]) -> usize {
    let (Some(first), Some(last)) = (paths.iter().min(), paths.iter().max()) else { return 0 };
    let same = first.bytes().zip(last.bytes()).take_while(|(one, other)| one == other).count();
    first.as_bytes()[..same].iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(count: usize, from: usize) -> Vec<String> {
        (from..from + count).map(|number| format!("/var/lib/layflat-containerd/snapshots/{number}/fs")).collect()
    }

    #[test]
    fn what_containerd_shortens_counts_as_it_is_then() {
        let others = ["index=off".to_owned()];
        assert_eq!(bytes(4096, &paths(2, 10), &others), "index=off,lowerdir=".len() + 2 * paths(1, 10)[0].len() + 1);
        assert_eq!(bytes(4096, &paths(400, 100), &others), "index=off,lowerdir=".len() + 400 * "100/fs:".len() - 1);
        let mut of_view = paths(400, 100);
        of_view.push("/var/lib/layflat-containerd/mnt/1/fs".to_owned());
        let longer = 400 * "snapshots/100/fs:".len() + "mnt/1/fs".len();
        assert_eq!(bytes(4096, &of_view, &others), "index=off,lowerdir=".len() + longer);
    }

    #[test]
    fn what_cannot_be_mounted_is_told_with_its_reason() {
        let upper = ["upperdir=/u".to_owned()];
        assert_eq!(check_in(4096, &paths(500, 100), &[]), Ok(()));
        assert_eq!(check_in(4096, &paths(499, 100), &upper), Ok(()));
        for refused in [check_in(4096, &paths(501, 100), &[]), check_in(4096, &paths(500, 100), &upper)] {
            let refused = refused.unwrap_err();
            assert!(refused.contains("501 directories") && refused.contains("at most 500"), "{refused}");
        }
        // As on a node where there have been many snapshots.
        let long = check_in(4096, &paths(500, 100_000), &[]).unwrap_err();
        assert!(long.contains("5008 bytes of mount options, where mount(2) takes 4095"), "{long}");
        assert_eq!(check_in(65536, &paths(500, 100_000), &[]), Ok(()));
    }
}
