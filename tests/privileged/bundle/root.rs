//! As root.

use crate::common::erofs;
use crate::common::unmount::Unmounts as _;

use super::place::{BUSYBOX, Bundles as _, Place, busybox, fails, fixture, runtimes, script, succeeds};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

type Test = (&'static str, fn(&Place));

pub(crate) const TESTS: &[Test] = &[
    ("only_b_remains_of_four_layers", four_layers),
    ("a_named_user_and_supplementary_groups", named_user),
    ("a_shell_in_a_terminal", terminal),
    ("a_read_only_root", read_only),
    ("a_volume_begins_with_the_images_files_and_keeps_the_root_clean", volume),
    ("what_the_caller_wants_comes_before_the_image", overrides),
    ("a_second_overlay_bundle_shares_the_layers", second_bundle),
    ("a_bundle_is_unmounted_without_a_trace", unmounted),
    ("what_is_replaced_stays_where_the_new_one_cannot_be_mounted", replaced_in_vain),
    ("a_hostile_bundle_leads_nowhere", hostile),
    ("a_bundle_that_cannot_be_leaves_nothing", failures),
    ("unshared_mounts_are_not_seen_outside", unshared),
];

fn four_layers(place: &Place) {
    let list = [&BUSYBOX[..], &["--arg", "ls", "--arg", "/"]].concat();
    place.bundle(&fixture(), "flat", &list);
    place.bundle(&fixture(), "overlay", &[&list[..], &["--overlay"]].concat());
    assert_eq!(place.names("overlay/rootfs"), ["b"]);
    for runtime in runtimes() {
        for bundle in ["flat", "overlay"] {
            // The rest is what runtimes make for their own mounts.
            assert_eq!(place.contained(runtime, bundle), "b\ndev\nproc\nsys\n", "{runtime} {bundle}");
        }
    }
    place.unmounts("overlay");
}

fn named_user(place: &Place) {
    let tell = script("id; pwd; echo $HOME $PATH $GREETING; hostname; stat -c '%u:%g %a' app/hello");
    for (bundle, form) in [("flat", &[][..]), ("overlay", &["--overlay"])] {
        place.bundle(&busybox(), bundle, &[&tell[..], form].concat());
        for runtime in runtimes() {
            let told = place.contained(runtime, bundle);
            let lines: Vec<&str> = told.lines().collect();
            assert_eq!(lines[0], "uid=1234(app) gid=1235(app) groups=29(audio),44(video)", "{runtime} {bundle}");
            assert_eq!(lines[1..5], ["/srv", "/srv/app /bin hello world", "layflat", "1234:1235 4755"]);
        }
    }
    place.unmounts("overlay");
    for (user, id) in [
        ("0", "uid=0(root) gid=0(root) groups=0(root),44(video)"),
        ("root:app", "uid=0(root) gid=1235(app)"),
        ("7:8", "uid=7 gid=8"),
    ] {
        place.bundle(&busybox(), "as-user", &["--replace", "--user", user, "--arg", "id"]);
        let told = place.contained("runc", "as-user");
        // Whether the first group is one of the others is for a runtime to say.
        assert_eq!(told.trim().replace("groups=44", "groups=0(root),44"), id, "{user}");
    }
}

fn terminal(place: &Place) {
    place.bundle(&busybox(), "b", &["--tty"]);
    let shown = place.typed("b", false, "id; echo $TERM-$((1+1))\nexit\n");
    assert!(shown.contains("/srv $ "), "{shown}");
    assert!(shown.contains("uid=1234(app)") && shown.contains("\nxterm-2\r\n"), "{shown}");
}

fn read_only(place: &Place) {
    let touch = script("touch /tmp/x && echo done");
    for (bundle, form) in [("flat", &[][..]), ("overlay", &["--overlay"])] {
        let closed = format!("{bundle}-closed");
        place.bundle(&busybox(), bundle, &[&touch[..], form].concat());
        place.bundle(&busybox(), &closed, &[&touch[..], form, &["--read-only"]].concat());
        for runtime in runtimes() {
            assert_eq!(place.contained(runtime, bundle), "done\n", "{runtime} {bundle}");
            let message = fails(&mut place.runtime(runtime, &closed));
            assert!(message.contains("Read-only file system"), "{message}");
        }
    }
    for bundle in ["overlay", "overlay-closed"] {
        place.unmounts(bundle);
    }
    assert!(place.path("overlay/upper/tmp/x").exists());
    assert!(!place.path("overlay-closed/upper/tmp").exists());
}

fn volume(place: &Place) {
    let write = script("cat /data/seed; touch /data/new; ls /data; stat -c '%u:%g %a' /data");
    place.bundle(&busybox(), "flat", &write);
    for runtime in runtimes() {
        let told = place.contained(runtime, "flat");
        assert_eq!(told, "from the image\nnew\nseed\n1234:1235 770\n", "{runtime}");
    }
    assert_eq!(place.names("flat/rootfs/data"), ["seed"]);
    // A bind in its place.
    std::fs::create_dir(place.path("shown")).unwrap();
    std::fs::set_permissions(place.path("shown"), std::fs::Permissions::from_mode(0o777)).unwrap();
    place.bundle(
        &busybox(),
        "bound",
        &[&script("touch /data/kept; ls /data")[..], &["--bind", "shown:/data"]].concat(),
    );
    assert_eq!(place.contained("runc", "bound"), "kept\n");
    assert_eq!(place.names("shown"), ["kept"]);
}

fn overrides(place: &Place) {
    let tell = script("pwd; hostname; echo $GREETING $NEW $FROM; echo \"$@\"");
    let more = ["--cwd", "/tmp", "--hostname", "box", "--env", "GREETING=bye", "--env", "NEW=a=b", "--env", "FROM"];
    let mut command = place.layflat(&["bundle"]);
    succeeds(command.arg(busybox()).arg("b").args(tell).args(more).env("FROM", "here"));
    assert_eq!(place.contained("runc", "b"), "/tmp\nbox\nbye a=b here\n\n");
    place.bundle(&busybox(), "b", &["--replace", "--entrypoint", "/bin/echo", "--arg", "-x", "--arg", "y"]);
    assert_eq!(place.contained("runc", "b"), "-x y\n");
    place.bundle(&busybox(), "b", &["--replace", "--tty"]);
    let config = place.config("b");
    assert_eq!(config["process"]["terminal"], true);
    assert_eq!(config["process"]["env"][3], "TERM=xterm");
}

fn second_bundle(place: &Place) {
    let touch = script("touch /tmp/mine; ls /tmp");
    for bundle in ["one", "two"] {
        place.bundle(&busybox(), bundle, &[&touch[..], &["--overlay"]].concat());
    }
    let group = if erofs::can_mount() { "home/.cache/layflat/erofs" } else { "home/.cache/layflat/images" };
    let forms = place.names(group);
    assert_eq!(forms.len(), 1, "{forms:?}");
    let layers = |bundle: &str| {
        let text = std::fs::read(place.path(bundle).join("layflat.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&text).unwrap()["layers"].clone()
    };
    assert_eq!(layers("one"), layers("two"));
    // Other owners are another form.
    place.bundle(&busybox(), "shifted", &["--overlay", "--uid-map", "0:100000:65536"]);
    let unpacked = place.names("home/.cache/layflat/images").len();
    assert_eq!(unpacked, if erofs::can_mount() { 1 } else { 2 });
    place.unmounts("shifted");
    assert_eq!(place.contained("runc", "one"), "mine\n");
    // Each has its own changes.
    assert!(place.names("two/rootfs/tmp").is_empty());
    for bundle in ["one", "two"] {
        place.unmounts(bundle);
    }
}

fn unmounted(place: &Place) {
    place.bundle(&busybox(), "b", &[&script("touch /tmp/kept")[..], &["--overlay"]].concat());
    place.contained("runc", "b");
    place.unmounts("b");
    assert!(place.names("b/rootfs").is_empty());
    assert!(place.names("b/work").is_empty());
    let message = fails(&mut place.layflat(&["umount", "b"]));
    assert!(message.contains("not a mount point"), "{message}");
    // What was changed is there again.
    succeeds(&mut place.layflat(&["mount", "b"]));
    assert_eq!(place.names("b/rootfs/tmp"), ["kept"]);
    for form in [&[][..], &["--overlay"]] {
        let message = fails(place.layflat(&["bundle", "--replace"]).arg(busybox()).arg("b").args(form));
        assert!(message.contains("`layflat umount` it first"), "{message}");
        assert_eq!(place.names("b/rootfs/tmp"), ["kept"]);
    }
    let message = fails(&mut place.layflat(&["mount", "b", "elsewhere"]));
    assert!(message.contains("give only the bundle"), "{message}");
    place.unmounts("b");
    std::fs::remove_dir_all(place.path("home/.cache")).unwrap();
    let message = fails(&mut place.layflat(&["mount", "b"]));
    assert!(message.contains("make it again"), "{message}");
    std::fs::remove_dir_all(place.path("b")).unwrap();
    assert!(place.names("").iter().all(|name| name == "state"), "{:?}", place.names(""));
}

fn replaced_in_vain(place: &Place) {
    place.bundle(&fixture(), "around", &[&BUSYBOX[..], &["--overlay"]].concat());
    place.bundle(&busybox(), "around/rootfs/in", &[]);
    // No overlay takes its changes into another one.
    let mut command = place.layflat(&["bundle", "--overlay", "--replace"]);
    let message = fails(command.arg(busybox()).arg("around/rootfs/in"));
    assert!(message.contains("upper"), "{message}");
    assert_eq!(place.names("around/rootfs/in"), ["config.json", "rootfs"]);
    assert_eq!(place.names("around/rootfs"), ["b", "in"]);
    place.unmounts("around");
}

fn hostile(place: &Place) {
    place.bundle(&busybox(), "b", &["--overlay"]);
    place.unmounts("b");
    let victim = place.path("victim");
    std::fs::create_dir_all(victim.join("work/kept")).unwrap();
    for name in ["rootfs", "upper", "work"] {
        let (part, aside) = (place.path("b").join(name), place.path("aside"));
        std::fs::rename(&part, &aside).unwrap();
        std::os::unix::fs::symlink(&victim, &part).unwrap();
        for command in ["mount", "umount"] {
            let message = fails(&mut place.layflat(&[command, "b"]));
            assert!(message.contains(name) && message.contains("symbolic link"), "{message}");
        }
        std::fs::remove_file(&part).unwrap();
        std::fs::rename(&aside, &part).unwrap();
    }
    assert_eq!(place.names("victim"), ["work"]);
    assert_eq!(place.names("victim/work"), ["kept"]);
    // Not what is read, and nothing to wait for.
    let description = place.path("b/layflat.json");
    std::fs::remove_file(&description).unwrap();
    let made = place.command("mkfifo").arg(&description).status().unwrap();
    assert!(made.success());
    fails(&mut place.layflat(&["mount", "b"]));
    std::fs::remove_file(&description).unwrap();
    std::fs::write(&description, r#"{"format":2,"form":"bundle","layers":"/"}"#).unwrap();
    let message = fails(&mut place.layflat(&["mount", "b"]));
    assert!(message.contains("in format 2"), "{message}");
}

fn failures(place: &Place) {
    std::fs::write(place.path("empty.tar"), [0; 1024]).unwrap();
    for (image, arguments, word) in [
        (busybox(), &["--user", "nobody"][..], "no user \"nobody\""),
        (busybox(), &["--user", "app:none"], "no group \"none\""),
        (busybox(), &["--cwd", "srv"], "not an absolute path"),
        (busybox(), &["--bind", "missing:/x"], "missing"),
        (busybox(), &["--rootless"], "--uid-map"),
        (Path::new("layers:empty.tar").to_owned(), &[], "--arg /bin/sh"),
    ] {
        for form in [&[][..], &["--overlay"]] {
            let mut command = place.layflat(&["bundle"]);
            let message = fails(command.arg(&image).arg("b").args(arguments).args(form));
            assert!(message.contains(word), "{message}");
            let names: Vec<String> = place.names("");
            assert_eq!(names, ["empty.tar"], "{arguments:?}");
        }
    }
    std::fs::create_dir_all(place.path("full/x")).unwrap();
    let message = fails(place.layflat(&["bundle"]).arg(busybox()).arg("full"));
    assert!(message.contains("--replace"), "{message}");
    place.bundle(&busybox(), "full", &["--replace"]);
    assert_eq!(place.names("full"), ["config.json", "rootfs"]);
}

fn unshared(place: &Place) {
    std::fs::create_dir(place.path("target")).unwrap();
    let mount = format!("{}:target", fixture().display());
    let mut command = place.layflat(&["unshare", "--mount", &mount, "--", "sh", "-c", "ls target; id -u; exit 7"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "b\n0\n");
    assert!(place.names("target").is_empty());
    let message = fails(&mut place.layflat(&["unshare", "--", "/no/such/program"]));
    assert!(message.contains("cannot run \"/no/such/program\""), "{message}");
}
