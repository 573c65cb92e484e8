//! What needs a kernel that mounts, root, or programs of others; and the tests that are made from `fixtures/stacks` and
//! at random.
//!
//! All of it happens in mount namespaces of this process, so that nothing is left mounted, whatever fails. As root each test has one of its own: what
//! the tests beside it mount is not there, and what it mounts is in no other that they make.

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
    common::harness::main_with_own_mounts(&[
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
