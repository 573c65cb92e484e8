//! Owners: shifted by root, kept by an ordinary user, recorded. GNU tar and fuse-overlayfs say whether they are right.

use super::place::{Bundles as _, Place, busybox, fails, runtimes, script, succeeds};
use crate::common::unmount::{Unmounts as _, by_umount, unmounted};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

type Test = (&'static str, fn(&Place));

/// All need root.
pub(crate) const TESTS: &[Test] = &[
    ("root_makes_a_shifted_tree", shifted),
    ("owners_kept_by_an_ordinary_user_are_those_that_root_keeps", equal_to_roots),
    ("a_recorded_owner_is_what_fuse_overlayfs_shows", recorded),
    ("fuse_overlayfs_shows_what_the_kernel_shows", fuse),
];

fn shifted(place: &Place) {
    let map = ["--uid-map", "0:100000:65536", "--gid-map", "0:200000:65536"];
    let tell = script("id; stat -c '%u:%g %a' /srv/app/hello /bin /data; touch /tmp/x");
    std::fs::set_permissions(place.path(""), std::fs::Permissions::from_mode(0o711)).unwrap();
    for (bundle, form) in [("flat", &[][..]), ("overlay", &["--overlay"])] {
        place.bundle(&busybox(), bundle, &[&tell[..], &map, form].concat());
        for (name, owner) in [("srv/app/hello", (101_234, 201_235)), ("bin", (100_000, 200_000))] {
            let metadata = std::fs::symlink_metadata(place.path(bundle).join("rootfs").join(name)).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), owner, "{bundle} {name}");
        }
        for runtime in runtimes() {
            let told = place.contained(runtime, bundle);
            let lines: Vec<&str> = told.lines().collect();
            assert_eq!(lines[0], "uid=1234(app) gid=1235(app) groups=29(audio),44(video)", "{runtime} {bundle}");
            assert_eq!(lines[1..4], ["1234:1235 4755", "0:0 755", "1234:1235 770"], "{runtime} {bundle}");
        }
    }
    place.unmounts("overlay");
    // An id that is not in the map is a loss, not somebody else's.
    let small = ["--uid-map", "0:100000:1000", "--user", "0", "--arg", "id"];
    let said = place.bundle(&busybox(), "small", &small);
    assert!(said.contains("owner not kept") && said.contains("the id map does not have it"), "{said}");
    let message = fails(place.layflat(&["bundle"]).arg(busybox()).args(["none", "--uid-map", "0:100000:1000"]));
    assert!(message.contains("user 1234") || message.contains("group 1235"), "{message}");
    assert!(message.contains("0:100000:1000") && !place.path("none").exists(), "{message}");
}

/// A tree with everything that owners have to do with, made from files by GNU tar.
fn archive(place: &Place) -> String {
    std::fs::create_dir_all(place.path("source/team")).unwrap();
    let commands = "
        cd source
        cp /bin/busybox ping; chown 1234:5678 ping; chmod 6755 ping; setcap cap_net_raw+ep ping
        echo shared > shared; setfacl -m u:51000:rw,g:52000:r shared; setfattr -n user.note -v kept shared
        setfattr -n user.containers.override_stat -v 9:9:0600:file shared
        chown 7:8 team; chmod 2770 team; setfacl -d -m u:51000:rwx,g:52000:rx team
        ln -s team link; chown -h 65535:1 link; ln shared again; mkfifo pipe; chown 3:4 pipe
        touch -d '1969-07-20 20:17:40.5 UTC' shared; mkdir sticky; chmod 1777 sticky
        tar --format=posix --xattrs --xattrs-include='*' --acls -cf ../layer.tar .";
    succeeds(place.command("sh").args(["-e", "-c", commands]));
    "layers:layer.tar".to_owned()
}

/// GNU tar takes the user's tree, as it is seen from inside of the user's namespace, and root unpacks what it read.
fn equal_to_roots(place: &Place) {
    let image = archive(place);
    succeeds(&mut place.layflat(&["flatten", &image, "real"]));
    std::fs::set_permissions(place.path(""), std::fs::Permissions::from_mode(0o777)).unwrap();
    let program = place.path("layflat");
    crate::common::tools::put_program(super::place::layflat().as_ref(), &program);
    let as_user = |commands: &str| {
        let mut command = place.command("setpriv");
        command.args(["--reuid", "1000", "--regid", "1000", "--clear-groups", "sh", "-e", "-c", commands]);
        succeeds(command.env("HOME", place.path("")).env("TMPDIR", place.path("")))
    };
    let said = as_user("./layflat flatten layers:layer.tar tree").1;
    assert!(said.contains("note: owners are shifted by 0:1000:1,1:100000:65536;"), "{said}");
    assert!(!said.contains("not kept"), "{said}");
    let metadata = std::fs::metadata(place.path("tree/ping")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (101_233, 105_677));
    // What a user sees who compares it with the image.
    assert_eq!(as_user("./layflat diff --quiet tree layers:layer.tar").0, "");
    as_user(
        "./layflat unshare --quiet -- tar --format=posix --xattrs --xattrs-include='*' --acls -cf seen.tar -C tree .",
    );
    succeeds(&mut place.layflat(&["flatten", "layers:seen.tar", "seen"]));
    assert_eq!(succeeds(&mut place.layflat(&["diff", "seen", "real"])).0, "");
    // Root makes the very same tree from outside.
    let map = ["--uid-map", "0:1000:1", "--uid-map", "1:100000:65536"];
    succeeds(place.layflat(&["flatten", &image, "shifted"]).args(map));
    assert_eq!(succeeds(&mut place.layflat(&["diff", "shifted", "tree"])).0, "");
}

fn recorded(place: &Place) {
    let image = archive(place);
    succeeds(&mut place.layflat(&["flatten", &image, "real"]));
    let said = succeeds(&mut place.layflat(&["flatten", "--record-ownership", &image, "recorded"])).1;
    // What the image itself has under that name would be taken for the record.
    assert!(said.contains("user.containers.override_stat: the record is there): 1 file: "), "{said}");
    // Only files and directories can have a record.
    assert!(said.contains("owner not kept") && said.contains("2 files: link, pipe"), "{said}");
    let metadata = std::fs::metadata(place.path("recorded/ping")).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (0, 0o755));
    for directory in ["empty", "mount"] {
        std::fs::create_dir(place.path(directory)).unwrap();
    }
    let options = "lowerdir=recorded:empty,xattr_permissions=2";
    succeeds(place.command("fuse-overlayfs").args(["-o", options, "mount"]));
    // It shows neither ACLs nor links of more than one name as they are.
    let mut diff = place.layflat(&["diff", "mount", "real", "--ignore", "xattr,links"]);
    let shown = String::from_utf8(diff.output().unwrap().stdout).unwrap();
    let lines: Vec<&str> =
        shown.lines().filter(|line| !line.starts_with("~ link:") && !line.starts_with("~ pipe:")).collect();
    by_umount(&place.path("mount"));
    assert_eq!(lines, [""; 0]);
}

fn fuse(place: &Place) {
    use layflat::mount::{Method, MountOptions, UpperDirectories, mount_layout};
    std::fs::create_dir(place.path("target")).unwrap();
    succeeds(place.layflat(&["flatten"]).arg(busybox()).arg("flat"));
    for (index, namespace) in ["trusted", "user"].into_iter().enumerate() {
        // A name that ends a path in an option.
        let form = format!("{namespace}:,");
        succeeds(place.layflat(&["layers", "--xattr-namespace", namespace]).arg(busybox()).arg(&form));
        let mount = |upper| {
            let options = MountOptions { method: Some(Method::Fuse), upper, ..MountOptions::default() };
            mount_layout(&place.path(&form), &place.path("target"), options).unwrap()
        };
        assert!(!mount(None).writable);
        std::fs::write(place.path("target/new"), "").unwrap_err();
        assert_eq!(succeeds(&mut place.layflat(&["diff", "target", "flat"])).0, "");
        unmounted(&place.path("target"));
        assert!(place.names("target").is_empty());

        let upper = place.path(&format!("upper-{index}"));
        assert!(mount(Some(UpperDirectories { upper: upper.clone(), work: place.path("work:") })).writable);
        std::fs::remove_file(place.path("target/etc/group")).unwrap();
        std::fs::write(place.path("target/data/new"), "new").unwrap();
        place.unmounts("target");
        assert_eq!(std::fs::read_to_string(upper.join("data/new")).unwrap(), "new");
        std::fs::remove_dir_all(place.path("work:")).unwrap();
    }
}
