//! As an ordinary user, with subordinate ids and without.

use crate::common::unmount::Unmounts as _;

use super::place::{BUSYBOX, Bundles as _, Place, busybox, fails, fixture, runtimes, script, succeeds};
use std::os::unix::fs::MetadataExt as _;

/// Whether it needs subordinate ids.
type Test = (&'static str, bool, fn(&Place));

pub(crate) const TESTS: &[Test] = &[
    ("rootless_only_b_remains_of_four_layers", false, four_layers),
    ("rootless_a_named_user", true, named_user),
    ("rootless_groups_in_an_overlay", true, overlay),
    ("rootless_ids_that_are_not_granted", true, not_granted),
    ("rootless_without_newuidmap", true, without_newuidmap),
    ("rootless_where_no_namespace_can_be_made", false, no_namespace),
    ("rootless_fuse_overlayfs_shows_recorded_owners", false, recorded),
    ("rootless_strict_is_strict", false, strict),
    ("rootless_a_shell_in_a_terminal", true, terminal),
    ("rootless_where_neither_kernel_nor_fuse_mounts", false, neither),
    ("rootless_a_read_only_root", true, read_only),
    ("rootless_one_id_is_enough_for_root", false, one_id),
    ("rootless_a_bundle_that_is_mounted_goes_with_the_namespace", false, mounted),
];

fn four_layers(place: &Place) {
    let list = [&BUSYBOX[..], &["--arg", "ls", "--arg", "/"]].concat();
    place.bundle(&fixture(), "flat", &list);
    place.bundle(&fixture(), "overlay", &[&list[..], &["--overlay"]].concat());
    for runtime in runtimes() {
        assert_eq!(place.contained(runtime, "flat"), "b\ndev\nproc\nsys\n", "{runtime}");
        assert_eq!(place.contained_mounted(runtime, "overlay"), "b\ndev\nproc\nsys\n", "{runtime}");
    }
}

fn named_user(place: &Place) {
    let tell = script("id; stat -c '%u:%g %a' /srv/app/hello /bin; touch /tmp/x /data/y; cat /data/seed");
    let said = place.bundle(&busybox(), "b", &tell);
    assert!(said.contains("supplementary groups 29, 44"), "{said}");
    for runtime in runtimes() {
        let told = place.contained(runtime, "b");
        assert_eq!(told, "uid=1234(app) gid=1235(app)\n1234:1235 4755\n0:0 755\nfrom the image\n", "{runtime}");
    }
    let ids = layflat::userns::subordinate_ids().unwrap().unwrap();
    assert_eq!(std::fs::metadata(place.path("b/rootfs/tmp/x")).unwrap().uid(), ids.uids.outside(1234).unwrap());
    // Nobody else of this machine is to come at the image's setuid files.
    assert_eq!(std::fs::metadata(place.path("b")).unwrap().mode() & 0o777, 0o700);
}

fn overlay(place: &Place) {
    let tell = script("id; stat -c '%u:%g %a' /srv/app/hello; ls /etc; touch /tmp/x");
    place.bundle(&busybox(), "b", &[&tell[..], &["--overlay"]].concat());
    for runtime in runtimes() {
        let told = place.contained_mounted(runtime, "b");
        let id = "uid=1234(app) gid=1235(app) groups=29(audio),44(video)";
        assert_eq!(told, format!("{id}\n1234:1235 4755\ngroup\npasswd\n"), "{runtime}");
    }
    // Inside, everything is as it is for root.
    let commands = r#""$0" bundle --quiet "$1" inside --arg id && runc --root state run --bundle inside a"#;
    let mut command = place.layflat(&["unshare", "--", "sh", "-c", commands]);
    let told = succeeds(command.arg(super::place::layflat()).arg(busybox())).0;
    assert_eq!(told, "uid=1234(app) gid=1235(app) groups=29(audio),44(video)\n");
}

fn terminal(place: &Place) {
    place.bundle(&busybox(), "flat", &["--tty"]);
    place.bundle(&busybox(), "overlay", &["--tty", "--overlay"]);
    for (bundle, mounted) in [("flat", false), ("overlay", true)] {
        let shown = place.typed(bundle, mounted, "id; echo $TERM-$((1+1))\nexit\n");
        assert!(shown.contains("/srv $ "), "{shown}");
        assert!(shown.contains("uid=1234(app)") && shown.contains("\nxterm-2\r\n"), "{shown}");
    }
}

/// Root in a user namespace, but in a mount namespace that is not its own.
fn neither(place: &Place) {
    let form = ["layers", "--single-owner", "--xattr-namespace", "user"];
    succeeds(place.layflat(&form).arg(fixture()).arg("form"));
    std::fs::create_dir(place.path("target")).unwrap();
    let mut command = place.command("unshare");
    command.arg("--map-root-user").arg(super::place::layflat()).args(["mount", "form", "target"]);
    let message = fails(&mut command);
    assert!(message.contains("layflat unshare --mount"), "{message}");
    assert!(message.contains("fuse-overlayfs"), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
}

fn read_only(place: &Place) {
    place.bundle(&busybox(), "b", &[&script("touch /tmp/x")[..], &["--read-only"]].concat());
    for runtime in runtimes() {
        let message = fails(&mut place.runtime(runtime, "b"));
        assert!(message.contains("Read-only file system"), "{message}");
    }
}

fn one_id(place: &Place) {
    let said = place.bundle(&busybox(), "b", &["--single-owner", "--user", "0:0", "--arg", "id"]);
    assert!(said.contains("owner not kept"), "{said}");
    for runtime in runtimes() {
        assert!(place.contained(runtime, "b").starts_with("uid=0(root) gid=0(root)"), "{runtime}");
    }
    let mut command = place.layflat(&["bundle", "--single-owner"]);
    let message = fails(command.arg(busybox()).arg("other"));
    assert!(message.contains("--user 0"), "{message}");
    assert!(!place.path("other").exists());
}

fn mounted(place: &Place) {
    let said = place.bundle(&fixture(), "b", &["--overlay"]);
    assert!(said.contains("layflat unshare --mount b -- runc run"), "{said}");
    assert!(place.names("b/rootfs").is_empty());
    let layflat = super::place::layflat();
    let commands = r#"ls b/rootfs; echo new > b/rootfs/new; "$0" umount --quiet b; ls b/rootfs"#;
    let mut command = place.layflat(&["unshare", "--mount", "b", "--", "sh", "-c", commands]);
    assert_eq!(succeeds(command.arg(layflat)).0, "b\n");
    // Unmounted, it can be removed like any directory.
    assert_eq!(place.names("b/upper"), ["new"]);
    std::fs::remove_dir_all(place.path("b")).unwrap();
    let message = fails(place.layflat(&["mount"]).arg(fixture()).arg("/"));
    assert!(message.contains("layflat unshare --mount"), "{message}");
}

fn not_granted(place: &Place) {
    for command_line in [&["flatten"][..], &["bundle"], &["bundle", "--overlay"]] {
        let mut command = place.layflat(command_line);
        let own = format!("0:{}:1", rustix::process::geteuid().as_raw());
        let message = fails(command.args(["--uid-map", &own, "--uid-map", "1:5:10"]).arg(busybox()).arg("out"));
        assert!(message.contains("1:5:10") && message.contains("/etc/subuid"), "{message}");
        let mut command = place.layflat(command_line);
        let message = fails(command.arg(busybox()).arg("missing/out"));
        assert_eq!(message.lines().count(), 1, "an error is all that is said: {message}");
        assert_eq!(place.names(""), [""; 0]);
    }
    let message = fails(place.layflat(&["unshare", "--uid-map", "0:100000:10"]).arg("true"));
    assert!(message.contains("does not make you root inside"), "{message}");
    // A part of what is granted is enough.
    let ids = layflat::userns::subordinate_ids().unwrap().unwrap();
    let outside = ids.uids.outside(1).unwrap();
    let map = |own: u32, outside: u32| [format!("0:{own}:1"), format!("1:{outside}:2000")];
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut command = place.layflat(&["flatten"]);
    for (option, map) in [("--uid-map", map(uid, outside)), ("--gid-map", map(gid, ids.gids.outside(1).unwrap()))] {
        command.args(map.iter().flat_map(|range| [option, range]));
    }
    let said = succeeds(command.arg(busybox()).arg("out")).1;
    assert!(!said.contains("not kept"), "{said}");
    assert_eq!(std::fs::metadata(place.path("out/srv/app")).unwrap().uid(), outside + 1233);
}

fn without_newuidmap(place: &Place) {
    let mut command = place.layflat(&["flatten"]);
    let said = succeeds(command.arg(busybox()).arg("tree").env("PATH", "/nowhere")).1;
    assert!(said.contains("newuidmap is not installed") && said.contains("package uidmap"), "{said}");
    assert!(said.contains("owner not kept"), "{said}");
    assert_eq!(std::fs::metadata(place.path("tree/srv/app")).unwrap().uid(), rustix::process::geteuid().as_raw());
}

fn strict(place: &Place) {
    for form in [&[][..], &["--overlay"]] {
        let mut command = place.layflat(&["bundle", "--strict", "--single-owner", "--user", "0"]);
        let message = fails(command.args(form).arg(busybox()).arg("out"));
        assert!(message.contains("refused by --strict"), "{message}");
        assert!(place.names("").is_empty(), "{:?}", place.names(""));
    }
    assert_eq!(place.names("home/.cache/layflat/images"), [""; 0]);
}

/// Without any namespace.
fn recorded(place: &Place) {
    succeeds(place.layflat(&["layers", "--record-ownership"]).arg(busybox()).arg("form"));
    std::fs::create_dir(place.path("target")).unwrap();
    let mount = ["mount", "--fuse", "form", "target"];
    let said = succeeds(&mut place.layflat(&mount)).1;
    assert_eq!(said, "form mounted on target, read-only, by fuse-overlayfs\n");
    let metadata = std::fs::metadata(place.path("target/data")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1234, 1235, 0o770));
    assert_eq!(std::fs::metadata(place.path("target/etc/passwd")).unwrap().uid(), 0);
    place.unmounts("target");
    assert!(place.names("target").is_empty());
    succeeds(place.layflat(&mount).args(["--upper", "upper", "--work", "work"]));
    std::fs::write(place.path("target/tmp/new"), "new").unwrap();
    assert!(!place.path("target/etc/gone").exists());
    place.unmounts("target");
    assert_eq!(place.names("upper/tmp"), ["new"]);
    // An image, through the cache.
    succeeds(place.layflat(&["mount", "--fuse", "--record-ownership"]).arg(busybox()).arg("target"));
    assert_eq!(std::fs::metadata(place.path("target/data")).unwrap().uid(), 1234);
    place.unmounts("target");
}

/// In a namespace that lets nobody make another: only root in it may say so.
fn no_namespace(place: &Place) {
    let forbid = r#"echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" unshare --uid-map 0:0:1 true"#;
    let mut command = place.command("unshare");
    command.args(["--map-root-user", "sh", "-c", forbid]).arg(super::place::layflat());
    let message = fails(&mut command);
    assert!(message.contains("max_user_namespaces"), "{message}");
    assert_eq!(message.matches("No space left").count(), 1, "said once: {message}");
}
