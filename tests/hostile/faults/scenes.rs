//! The commands, each with what is there before.

/// A command, run in a [`Place`](super::place::Place).
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    /// Commands that go before it.
    pub(crate) before: &'static [&'static [&'static str]],
    pub(crate) arguments: &'static [&'static str],
    /// Programs of others that it runs.
    pub(crate) needs: &'static [&'static str],
}

const fn scene(name: &'static str, arguments: &'static [&'static str]) -> Scene {
    Scene { name, before: &[], arguments, needs: &[] }
}

const fn after(
    name: &'static str,
    before: &'static [&'static [&'static str]],
    arguments: &'static [&'static str],
) -> Scene {
    Scene { name, before, arguments, needs: &[] }
}

const fn tool(name: &'static str, arguments: &'static [&'static str], needs: &'static [&'static str]) -> Scene {
    Scene { name, before: &[], arguments, needs }
}

pub(crate) const SCENES: &[Scene] = &[
    scene("flatten", &["flatten", "image.tar", "out"]),
    after("flatten_replace", &[&["flatten", "old.tar", "out"]], &["flatten", "--replace", "image.tar", "out"]),
    scene("layers", &["layers", "image.tar", "out"]),
    scene("bundle", &["bundle", "image.tar", "out"]),
    scene("bundle_overlay", &["bundle", "--overlay", "image.tar", "out"]),
    scene("mount", &["mount", "image.tar", "target"]),
    after("mount_from_the_cache", &[&["mount", "image.tar", "target"]], &["mount", "image.tar", "target"]),
    after("mount_layers", &[&["layers", "image.tar", "out"]], &["mount", "out", "target"]),
    after("pack", &[&["flatten", "image.tar", "tree"]], &["pack", "--as", "changes", "tree", "-o", "layer.tar.gz"]),
    after(
        "pack_the_difference",
        &[&["flatten", "image.tar", "tree"], &["flatten", "old.tar", "lower"]],
        &["pack", "--as", "whole", "--lower", "lower", "tree", "-o", "layer.tar.zst"],
    ),
    scene("squash", &["squash", "image.tar", "oci:out:squashed"]),
    scene("copy_to_oci", &["copy", "--compression", "zstd", "image.tar", "oci:out:demo"]),
    after("copy_to_oci_beside_another", &[&["copy", "old.tar", "oci:out:old"]], &["copy", "image.tar", "oci:out:demo"]),
    scene("copy_to_oci_archive", &["copy", "image.tar", "oci-archive:out.tar:demo"]),
    scene("copy_to_docker_archive", &["copy", "image.tar", "docker-archive:out.tar:demo:2"]),
    scene("copy_to_dir", &["copy", "image.tar", "dir:out"]),
    scene("export_tar", &["flatten", "image.tar", "--to", "tar", "-o", "out.tar"]),
    tool("export_erofs", &["flatten", "image.tar", "--to", "erofs", "-o", "out.erofs"], &["mkfs.erofs"]),
    tool("export_ext4", &["flatten", "image.tar", "--to", "ext4", "-o", "out.ext4"], &["e2fsck"]),
    tool("export_squashfs", &["flatten", "image.tar", "--to", "squashfs", "-o", "out.squashfs"], &["sqfstar"]),
    scene("inspect", &["inspect", "image.tar"]),
    scene("ls", &["ls", "-l", "image.tar"]),
    after("ls_from_the_cache", &[&["ls", "image.tar"]], &["ls", "-l", "image.tar"]),
    after("cache_prune", &[&["mount", "image.tar", "target"], &["ls", "image.tar"]], &["cache", "prune", "--all"]),
];
