//! What needs a kernel that mounts, root, or programs of others; and the tests that are made from `fixtures/stacks` and
//! at random.
//!
//! All of it happens in a mount namespace of this process, so that nothing is left mounted, whatever fails.

mod archives;
mod bundle;
#[path = "../common/mod.rs"]
mod common;
mod compare;
mod copy;
mod diff;
mod erofs;
mod erofs_mounts;
mod erofsfuse;
mod explore;
mod ext4;
mod jobs;
mod mount;
mod pack;
mod property;
mod registry;
mod rewrite;
mod rules;
mod squashfs;

fn main() -> std::process::ExitCode {
    common::harness::main(&[
        ("archives", archives::trials),
        ("bundle", bundle::trials),
        ("compare", compare::trials),
        ("copy", copy::trials),
        ("diff", diff::trials),
        ("explore", explore::trials),
        ("ext4", ext4::trials),
        ("erofs", erofs::trials),
        ("erofsfuse", erofsfuse::trials),
        ("jobs", jobs::trials),
        ("erofs_mounts", erofs_mounts::trials),
        ("mount", mount::trials),
        ("pack", pack::trials),
        ("property", property::trials),
        ("registry", registry::trials),
        ("rewrite", rewrite::trials),
        ("rules", rules::trials),
        ("squashfs", squashfs::trials),
    ])
}
