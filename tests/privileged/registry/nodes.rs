//! One cache for many processes and nodes: each thing is fetched and made once, and nothing goes that another node uses.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::place::{Images as _, Place, fixture, noise, succeeded};
use super::proxy::{Act, PATIENTLY, Proxy, answer, counting, stalling};
use super::servers::Registry;
use crate::common::harness::Test;
use crate::common::images::{Tar, gzip, hex};
use crate::common::{tools, wait};

pub(crate) const TESTS: &[Test] = &[
    ("nodes::eight_processes_make_one_export_and_ask_for_each_blob_once", false, eight_export),
    ("nodes::eight_processes_read_each_layer_once_for_erofs", false, eight_contents),
    ("nodes::an_export_is_the_image_and_made_anew_if_it_was_changed", false, changed),
    ("nodes::an_export_has_a_name_for_each_image_and_format", false, named),
    ("nodes::who_waits_for_a_killed_maker_makes_it", false, killed),
    ("nodes::an_export_for_enroot_is_what_enroot_imports", false, enroot),
    ("nodes::a_layer_that_an_image_has_twice_is_fetched_once", false, twice),
    ("nodes::a_registry_that_fails_and_a_killed_process_cost_no_byte_twice", false, failing),
    ("nodes::processes_that_stand_still_for_moments_fetch_each_blob_once", false, halted),
    ("nodes::an_export_stays_for_seven_days", false, leased),
    ("nodes::without_locks_eight_processes_ask_for_each_blob_once", true, eight_without_locks),
    ("nodes::without_locks_a_killed_maker_is_replaced", true, killed_without_locks),
    ("nodes::what_another_node_has_mounted_stays", true, mounted_elsewhere),
    ("nodes::what_was_mounted_before_this_node_was_started_again_does_not_stay", true, started_again),
    ("nodes::an_unmounted_image_is_forgotten", true, unmounted),
    ("nodes::a_hit_writes_nothing", false, quiet),
    ("nodes::a_lower_cache_is_read_and_never_written", false, lower),
    ("nodes::what_is_damaged_in_a_lower_cache_is_fetched", false, lower_damaged),
    ("nodes::what_is_mounted_from_a_lower_cache_writes_nothing_there", true, lower_mounted),
    ("nodes::the_digest_of_an_image_needs_no_layer", false, digest),
];

/// What processes that run at once print.
fn at_once(commands: impl IntoIterator<Item = Command>) -> Vec<String> {
    let start = |mut command: Command| command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let children: Vec<Child> = commands.into_iter().map(start).collect();
    children.into_iter().map(|child| succeeded(&child.wait_with_output().unwrap())).collect()
}

/// An image of two layers at a registry.
fn two_layers(place: &Place) -> Registry {
    let registry = Registry::open(place);
    registry.put(&place.image("layout", &[("a", noise(2_000_000, 1)), ("b", noise(1_000_000, 2))]), "a:1", &[]);
    registry
}

fn export(place: &Place, image: &str) -> PathBuf {
    PathBuf::from(place.printed(&["export", "--to", "erofs", image]).trim_end())
}

fn eight_export() {
    let place = Place::new();
    let registry = two_layers(&place);
    let (proxy, asked) = counting(registry.address);
    let image = proxy.image("a:1");
    let printed = at_once((0..8).map(|_| place.layflat(&["export", "--json", "--to", "erofs", &image])));
    let reports: Vec<serde_json::Value> = printed.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    assert!(reports.iter().all(|report| report["path"] == reports[0]["path"]), "{reports:?}");
    assert_eq!(reports.iter().filter(|report| report["made"] == true).count(), 1, "{reports:?}");
    let asked = asked.lock().unwrap();
    assert!(asked.len() == 3 && asked.values().all(|&times| times == 1), "{asked:?}");
    let left: Vec<String> = place.cached().into_iter().filter(|name| name.contains("new-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn eight_contents() {
    let place = Place::new();
    let registry = two_layers(&place);
    let (proxy, asked) = counting(registry.address);
    let image = proxy.image("a:1");
    let names: Vec<String> = (0..8).map(|number| format!("dest-{number}")).collect();
    let arguments = |name| ["layers", "--backend", "erofs", "--merged", &image, name].map(str::to_owned);
    at_once(names.iter().map(|name| {
        let mut command = place.layflat(&[]);
        command.args(arguments(name.as_str()));
        command
    }));
    assert!(asked.lock().unwrap().values().all(|&times| times == 1), "{asked:?}");
    // All have the same files, by links to the one that was made.
    let inode = |name: &String| {
        let entries = std::fs::read_dir(place.path(name).join("contents")).unwrap();
        let mut inodes: Vec<u64> = entries.map(|entry| entry.unwrap().metadata().unwrap().ino()).collect();
        inodes.sort_unstable();
        inodes
    };
    assert!(names.iter().all(|name| inode(name) == inode(&names[0])));
}

fn changed() {
    let place = Place::new();
    let image = fixture();
    let file = export(&place, &image);
    place.printed(&["flatten", &image, "-o", "flat.erofs"]);
    let flat = std::fs::read(place.path("flat.erofs")).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), flat);
    let mut bytes = flat.clone();
    bytes[1500] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let verified = place.run(&["cache", "verify"]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(String::from_utf8(verified.stdout).unwrap().contains("rootfs.erofs was changed"));
    let output = place.run(&["export", "--to", "erofs", &image]);
    assert_eq!(PathBuf::from(succeeded(&output).trim_end()), file);
    assert!(String::from_utf8(output.stderr).unwrap().contains("is not as it was made: it is made anew"));
    assert_eq!(std::fs::read(&file).unwrap(), flat);
    // What has the same bytes is recognised from then on.
    std::fs::write(&file, &flat).unwrap();
    for _ in 0..2 {
        assert_eq!(place.json(&["export", "--to", "erofs", &image])["made"], false);
    }
    assert_eq!(place.json(&["export", "--to", "erofs", "--verify", "full", &image])["made"], false);
}

fn named() {
    tools::need(&["sqfstar", "unsquashfs"]);
    let place = Place::new();
    let one = place.image("one", &[("a", noise(1000, 1))]);
    let two = place.image("two", &[("a", noise(1000, 2))]);
    let export = |arguments: &[&str]| place.printed(&[&["export", "--to"], arguments].concat());
    let files = [
        export(&["erofs", &one]),
        export(&["squashfs", &one]),
        export(&["erofs", &two]),
        export(&["erofs", "--ignore-root-entry", &one]),
    ];
    let different: std::collections::BTreeSet<&String> = files.iter().collect();
    assert_eq!(different.len(), files.len(), "{files:?}");
    assert!(files[1].ends_with("/rootfs.squashfs\n"));
    let listed = tools::command("unsquashfs").arg("-ls").arg(files[1].trim_end()).output().unwrap();
    assert!(succeeded(&listed).contains("squashfs-root/a"));
    // A cache for all of a group is opened by opening the directories above.
    assert_eq!(std::fs::metadata(files[0].trim_end()).unwrap().mode() & 0o444, 0o444);
    place.write("bare.tar", Tar::new().file("a", b"content").done());
    let message = place.message(&["export", "--to", "erofs", "layers:bare.tar"]);
    assert!(message.starts_with("the image does not state what its layers are"), "{message}");
}

fn killed() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&place.image("layout", &[("a", noise(2_000_000, 1))]), "a:1", &[]);
    let (proxy, stalls) = stalling(registry.address, 1_000_000);
    let image = proxy.image("a:1");
    let arguments = [&["export", "--to", "erofs", &image][..], &PATIENTLY].concat();
    let start = || place.layflat(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = start();
    // The configuration, and the layer.
    wait::told(&stalls);
    wait::told(&stalls);
    let second = start();
    first.kill().unwrap();
    first.wait().unwrap();
    let file = succeeded(&second.wait_with_output().unwrap());
    place.printed(&["flatten", "oci:layout", "-o", "flat.erofs"]);
    assert_eq!(std::fs::read(file.trim_end()).unwrap(), std::fs::read(place.path("flat.erofs")).unwrap());
    // What the killed one had begun is gone, too.
    let exports = std::fs::read_dir(place.path("home/.cache/layflat/exports")).unwrap();
    assert_eq!(exports.count(), 1);
}

fn enroot() {
    tools::need(&["sqfstar", "unsquashfs"]);
    let place = Place::new();
    let files = [("etc/rc", b"of the image".to_vec()), ("dev/x", b"".to_vec()), ("srv/name", b"mine".to_vec())];
    let one = place.image("one", &files);
    let set = ["--env", "A=b c", "--entrypoint", "cat", "--cmd", "srv/name", "--volume", "/data"];
    place.printed(&[&["config", "set"], &set[..], &[&one, "oci:two:1"]].concat());
    let export = |image: &str| place.json(&["export", "--to", "enroot", image]);
    let reports = [export(&one), export("oci:two:1"), export("oci:two:1")];
    let made: Vec<bool> = reports.iter().map(|report| report["made"].as_bool().unwrap()).collect();
    assert_eq!(made, [true, true, false], "its name says what is to be run, too");
    let file = reports[1]["path"].as_str().unwrap();
    assert!(file.contains("-enroot-") && file.ends_with("/rootfs.sqsh"), "{file}");
    let unsquashfs = |arguments: &[&str]| succeeded(&tools::command("unsquashfs").args(arguments).output().unwrap());
    let content = |name: &str| unsquashfs(&["-cat", file, name]);
    assert_eq!(content("srv/name"), "mine");
    assert_eq!(content("etc/environment"), "A=b c\n");
    assert_eq!(content("etc/fstab"), "${ENROOT_ROOTFS}/data /data none x-create=dir,bind,rw,nosuid,nodev\n");
    assert!(content("etc/rc").ends_with("else\n    exec 'cat' 'srv/name'\nfi\n"), "{}", content("etc/rc"));
    let listed = unsquashfs(&["-quiet", "-lln", file]);
    assert!(!listed.contains("dev/x") && listed.contains("/etc/rc.local"), "{listed}");
    assert!(
        listed.lines().filter(|line| line.contains("squashfs-root")).all(|line| line.contains(" 0/0 ")),
        "{listed}"
    );
}

fn twice() {
    let place = Place::new();
    let registry = Registry::open(&place);
    let files = [("a", noise(2_000_000, 1)), ("b", noise(1000, 2)), ("a", noise(2_000_000, 1))];
    registry.put(&place.image("layout", &files), "a:1", &[]);
    let (proxy, asked) = counting(registry.address);
    place.printed(&["flatten", "--jobs", "4", &proxy.image("a:1"), "dest"]);
    let asked = asked.lock().unwrap();
    assert!(asked.len() == 3 && asked.values().all(|&times| times == 1), "{asked:?}");
}

/// One of eight processes is killed, and the registry is late, answers with an error, and breaks off.
fn failing() {
    let place = Place::new();
    let registry = Registry::open(&place);
    let files = [("late", 300_000), ("refused", 300_000), ("cut", 300_000), ("killed", 2_000_000)];
    let files: Vec<(&str, Vec<u8>)> =
        files.iter().zip(1..).map(|(&(name, length), seed)| (name, noise(length, seed))).collect();
    let blobs: Vec<String> =
        files.iter().map(|(name, content)| hex(&gzip(&Tar::new().file(name, content).done()))).collect();
    registry.put(&place.image("layout", &files), "a:1", &[]);
    let asked = Mutex::new([0; 4]);
    let known = blobs.clone();
    let proxy = Proxy::start(Some(registry.address), move |head, _| {
        let Some(number) = known.iter().position(|blob| head.is_blob() && head.path.ends_with(blob)) else {
            return Act::Pass;
        };
        let times = &mut asked.lock().unwrap()[number];
        *times += 1;
        match (number, *times) {
            (0, 1) => Act::Late(Duration::from_secs(2)),
            (1, 1) => answer("500 Internal Server Error", &[], ""),
            (2, 1) => Act::Cut(150_000),
            (3, 1) => Act::Stall(1_000_000),
            _ => Act::Pass,
        }
    });
    let image = proxy.image("a:1");
    let start = |number: usize| {
        let mut command = place.layflat(&["flatten", &image, &format!("dest-{number}")]);
        command.args(PATIENTLY).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut first = start(0);
    let kept = |name: &str| std::fs::metadata(place.path("home/.cache/layflat/blobs/sha256").join(name));
    let is_stalled = || kept(&format!("new-{}", blobs[3])).is_ok_and(|metadata| metadata.len() == 1_000_000);
    let is_all_else_kept = || blobs[..3].iter().all(|blob| kept(blob).is_ok());
    wait::while_it_runs(&mut first, "nothing more comes", || is_stalled() && is_all_else_kept());
    let mut others: Vec<Child> = (1..8).map(start).collect();
    for other in &mut others {
        let mut line = String::new();
        BufReader::new(other.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("waiting for another process, which fetches blob sha256:"), "{line}");
    }
    first.kill().unwrap();
    first.wait().unwrap();
    for other in others {
        succeeded(&other.wait_with_output().unwrap());
    }
    assert_eq!(place.printed(&["diff", "dest-1", "dest-7"]), "");
    let ranges = |blob: &String| -> Vec<Option<String>> {
        let heads = proxy.heads();
        let of_blob = heads.iter().filter(|head| head.is_blob() && head.path.ends_with(blob));
        of_blob.map(|head| head.header("range").map(str::to_owned)).collect()
    };
    let from = |at: u64| Some(format!("bytes={at}-"));
    let expected = [vec![None], vec![None, None], vec![None, from(150_000)], vec![None, from(1_000_000)]];
    assert_eq!(blobs.iter().map(ranges).collect::<Vec<_>>(), expected);
    assert_eq!(proxy.heads().iter().filter(|head| head.is_blob()).count(), 8, "and the configuration");
}

fn halted() {
    let place = Place::new();
    let registry = two_layers(&place);
    let (proxy, asked) = counting(registry.address);
    let image = proxy.image("a:1");
    let start = |number: usize| {
        let mut command = place.layflat(&["flatten", &image, &format!("dest-{number}")]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut children: Vec<Child> = (0..8).map(start).collect();
    for turn in 0.. {
        if children.iter_mut().all(|child| child.try_wait().unwrap().is_some()) {
            break;
        }
        let child = &mut children[turn * 5 % 8];
        if child.try_wait().unwrap().is_none() {
            let process = Pid::from_child(child);
            kill_process(process, Signal::STOP).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            kill_process(process, Signal::CONT).unwrap();
        }
    }
    for child in children {
        succeeded(&child.wait_with_output().unwrap());
    }
    assert_eq!(place.printed(&["diff", "dest-0", "dest-7"]), "");
    let asked = asked.lock().unwrap();
    assert!(asked.len() == 3 && asked.values().all(|&times| times == 1), "{asked:?}");
}

fn leased() {
    let place = Place::new();
    let file = export(&place, &fixture());
    place.printed(&["cache", "prune", "--all"]);
    assert!(file.exists());
    let entry = std::fs::File::open(file.parent().unwrap()).unwrap();
    let age = |days: u64| std::time::SystemTime::now() - std::time::Duration::from_secs(days * 24 * 3600);
    entry.set_modified(age(6)).unwrap();
    place.printed(&["cache", "prune", "--all"]);
    assert!(file.exists());
    entry.set_modified(age(8)).unwrap();
    // Asked for again.
    export(&place, &fixture());
    place.printed(&["cache", "prune", "--all"]);
    assert!(file.exists());
    entry.set_modified(age(8)).unwrap();
    place.printed(&["cache", "prune", "--all"]);
    assert!(!file.exists());
    let file = export(&place, &fixture());
    place.printed(&["cache", "prune", "--all", "--exports"]);
    assert!(!file.exists());
}

/// Layflat on a file system without locks: every flock(2) fails. It is the child itself, which can be killed.
fn without_locks(place: &Place, arguments: &[&str]) -> Command {
    tools::need(&["strace"]);
    let mut command = place.command("strace");
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:error=ENOLCK"]);
    command.arg(assert_cmd::cargo::cargo_bin!("layflat")).args(arguments);
    command
}

fn eight_without_locks() {
    let place = Place::new();
    let registry = two_layers(&place);
    for arguments in [["export", "--to", "erofs"], ["ls", "--layer", "1"]] {
        let (proxy, asked) = counting(registry.address);
        let image = proxy.image("a:1");
        let printed = at_once((0..8).map(|_| without_locks(&place, &[&arguments[..], &[&image]].concat())));
        assert!(printed.iter().all(|text| *text == printed[0]), "{printed:?}");
        let asked = asked.lock().unwrap();
        assert!(asked.values().all(|&times| times == 1), "{arguments:?}: {asked:?}");
        let left: Vec<String> = place.cached().into_iter().filter(|name| name.contains("new-")).collect();
        assert!(left.is_empty(), "{left:?}");
        std::fs::remove_dir_all(place.path("home/.cache/layflat")).unwrap();
    }
}

fn killed_without_locks() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&place.image("layout", &[("a", noise(2_000_000, 1))]), "a:1", &[]);
    let (proxy, stalls) = stalling(registry.address, 1_000_000);
    let image = proxy.image("a:1");
    let arguments = [&["export", "--to", "erofs", &image][..], &PATIENTLY].concat();
    let mut first = without_locks(&place, &arguments).spawn().unwrap();
    wait::told(&stalls);
    wait::told(&stalls);
    let leases = || place.cached().into_iter().filter(|name| name.ends_with(".lease")).count();
    assert_eq!(leases(), 2, "of the export and of the blob: {:?}", place.cached());
    let second = without_locks(&place, &arguments).stdout(Stdio::piped()).spawn().unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    let file = succeeded(&second.wait_with_output().unwrap());
    place.printed(&["flatten", "oci:layout", "-o", "flat.erofs"]);
    assert_eq!(std::fs::read(file.trim_end()).unwrap(), std::fs::read(place.path("flat.erofs")).unwrap());
    assert_eq!(leases(), 0);
}

/// A script that runs in namespaces of its own, with these options of unshare(1), where `$layflat` is the program and `$image` an image.
fn in_namespaces(place: &Place, options: &[&str], script: &str) -> String {
    std::fs::create_dir_all(place.path("target")).unwrap();
    let output = place
        .command("unshare")
        .args(options)
        .args(["sh", "-euc", script])
        .env("layflat", assert_cmd::cargo::cargo_bin!("layflat"))
        .env("image", fixture())
        .output()
        .unwrap();
    succeeded(&output)
}

/// What makes a node of a namespace: another boot.
const ANOTHER_BOOT: &str =
    "echo 11111111-2222-3333-4444-555555555555 >boot; mount --bind boot /proc/sys/kernel/random/boot_id;";

fn mounted_elsewhere() {
    for backend in ["overlay", "erofs"] {
        let place = Place::new();
        let script = format!(
            "hostname n2; {ANOTHER_BOOT} $layflat mount --backend {backend} $image target || exit 0; touch mounted"
        );
        in_namespaces(&place, &["--mount", "--uts"], &script);
        if !place.path("mounted").exists() {
            // A kernel without EROFS from files.
            assert_eq!(backend, "erofs");
            continue;
        }
        let before = place.cached();
        let report = place.json(&["cache", "prune", "--all"]);
        assert_eq!(report["mounted_by"], serde_json::json!(["n2"]));
        assert!(report["in_use"].as_u64().unwrap() > 0);
        let removed = report["removed"].as_array().unwrap();
        assert!(removed.iter().all(|entry| entry["kind"] == "blob" || entry["kind"] == "index"), "{removed:?}");
        assert_eq!(place.cached(), before);
        let said = String::from_utf8(place.run(&["cache", "prune", "--all"]).stderr).unwrap();
        assert!(said.contains("note: some of it is mounted on n2"), "{said}");
        assert_eq!(place.json(&["cache", "prune", "--all", "--gone", "n2"])["mounted_by"], serde_json::json!([]));
        assert!(place.cached().is_empty(), "{:?}", place.cached());
    }
}

fn started_again() {
    let place = Place::new();
    let script = format!("{ANOTHER_BOOT} $layflat mount --backend overlay $image target");
    in_namespaces(&place, &["--mount"], &script);
    place.printed(&["cache", "prune", "--all"]);
    let has_id = std::fs::read_to_string("/etc/machine-id").is_ok_and(|id| !id.trim().is_empty());
    let is_host = std::fs::read_link("/proc/self/ns/uts").is_ok_and(|link| link.ends_with("uts:[4026531838]"));
    assert_eq!(place.cached().is_empty(), has_id && is_host, "{:?}", place.cached());
}

fn unmounted() {
    let place = Place::new();
    let script = "$layflat mount --backend overlay $image target; ls home/.cache/layflat/mounts | wc -l
        $layflat umount target; ls home/.cache/layflat/mounts | wc -l
        $layflat mount --backend overlay $image target; umount target";
    assert_eq!(in_namespaces(&place, &["--mount", "--uts"], script), "1\n0\n");
    // By another program: this node finds out.
    place.printed(&["cache", "prune", "--all"]);
    assert!(place.cached().is_empty(), "{:?}", place.cached());
}

type Times = (i64, i64, i64, i64);

/// All that is in a directory, with the times of its last change.
fn state(directory: &Path) -> BTreeMap<PathBuf, Times> {
    let times = |path: &PathBuf| {
        let metadata = path.symlink_metadata().unwrap();
        (metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec())
    };
    let paths = walkdir::WalkDir::new(directory).into_iter().map(|entry| entry.unwrap().path().to_owned());
    paths.map(|path| (path.clone(), times(&path))).collect()
}

fn lower() {
    let place = Place::new();
    let registry = two_layers(&place);
    let image = registry.image("a:1");
    for arguments in [&["ls", &image][..], &["export", "--to", "erofs", &image], &["flatten", &image, "one"]] {
        place.printed(&[arguments, &["--cache-dir", "lower"]].concat());
    }
    // As if nothing of it had been used for long, so that a use would be noted.
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    for path in state(&place.path("lower")).keys() {
        std::fs::File::open(path).unwrap().set_modified(old).unwrap();
    }
    let before = state(&place.path("lower"));
    let (proxy, asked) = counting(registry.address);
    let image = proxy.image("a:1");
    let over =
        |arguments: &[&str]| place.printed(&[arguments, &["--cache-dir", "own", "--lower-cache", "lower"]].concat());
    over(&["flatten", &image, "two"]);
    over(&["ls", &image]);
    let file = over(&["export", "--to", "erofs", &image]);
    assert!(file.contains("/lower/exports/"), "{file}");
    assert_eq!(place.printed(&["diff", "one", "two"]), "");
    assert!(asked.lock().unwrap().is_empty(), "{asked:?}");
    assert_eq!(state(&place.path("lower")), before);
    let own = walkdir::WalkDir::new(place.path("own")).into_iter().flatten();
    assert_eq!(own.filter(|entry| entry.file_type().is_file()).count(), 0);
    // What it does not have goes into one's own.
    registry.put(&place.image("other", &[("a", noise(2_000_000, 1)), ("c", noise(1000, 3))]), "b:1", &[]);
    over(&["flatten", &proxy.image("b:1"), "three"]);
    assert_eq!(asked.lock().unwrap().len(), 2, "{asked:?}");
    assert_eq!(state(&place.path("lower")), before);
}

fn lower_damaged() {
    let place = Place::new();
    let registry = Registry::open(&place);
    registry.put(&place.image("layout", &[("large", noise(5_000_000, 1)), ("small", noise(1000, 2))]), "a:1", &[]);
    place.printed(&["flatten", "oci:layout", "expected"]);
    place.printed(&["inspect", "--counts", &registry.image("a:1"), "--cache-dir", "lower"]);
    std::fs::remove_dir_all(place.path("lower/index")).unwrap_or_default();
    let blobs = || std::fs::read_dir(place.path("lower/blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    let large = blobs().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    // A byte in the middle of the large one, and the end of the smallest.
    let mut bytes = std::fs::read(&large).unwrap();
    bytes[2_000_000] ^= 1;
    std::fs::write(&large, bytes).unwrap();
    let smallest = blobs().min_by_key(|path| path.metadata().unwrap().len()).unwrap();
    std::fs::write(&smallest, "short").unwrap();
    let before = state(&place.path("lower"));
    let (proxy, asked) = counting(registry.address);
    let over = |dest| {
        let arguments = ["flatten", &proxy.image("a:1"), dest, "--cache-dir", "own", "--lower-cache", "lower"];
        let output = place.run(&arguments);
        succeeded(&output);
        String::from_utf8(output.stderr).unwrap()
    };
    let said = over("one");
    let name = large.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(&format!("{name}\" is damaged and is not used")), "{said}");
    // From then on it is in one's own cache, and the other one is not even looked into for it.
    assert!(!over("two").contains("damaged"));
    for dest in ["one", "two"] {
        assert_eq!(place.printed(&["diff", "expected", dest]), "");
    }
    assert_eq!(asked.lock().unwrap().values().sum::<usize>(), 2, "{asked:?}");
    assert_eq!(state(&place.path("lower")), before);
}

fn lower_mounted() {
    let place = Place::new();
    std::fs::create_dir(place.path("target")).unwrap();
    let made = place.printed(&["flatten", &fixture(), "flat"]);
    assert!(made.is_empty());
    for backend in ["overlay", "erofs"] {
        let mount = |caches: &[&str]| {
            let script = "$layflat mount --backend $backend $caches $image target || exit 0
                $layflat diff flat target; $layflat umount target; echo done";
            let mut command = place.command("unshare");
            command.args(["--mount", "sh", "-euc", script]).env("backend", backend).env("caches", caches.join(" "));
            command.env("layflat", assert_cmd::cargo::cargo_bin!("layflat")).env("image", fixture());
            succeeded(&command.output().unwrap())
        };
        if mount(&["--cache-dir", "lower"]).is_empty() {
            // A kernel without EROFS from files.
            assert_eq!(backend, "erofs");
            continue;
        }
        let before = state(&place.path("lower"));
        assert_eq!(mount(&["--cache-dir", "own", "--lower-cache", "lower"]), "done\n");
        assert_eq!(state(&place.path("lower")), before);
        let own = walkdir::WalkDir::new(place.path("own")).into_iter().flatten();
        assert_eq!(own.filter(|entry| entry.file_type().is_file()).count(), 0);
    }
}

fn quiet() {
    let place = Place::new();
    let registry = two_layers(&place);
    let image = registry.image("a:1");
    let uses: [&[&str]; 4] = [
        &["export", "--to", "erofs", &image],
        &["ls", &image],
        &["layers", "--backend", "erofs", "--merged", "--replace", &image, "dest"],
        &["flatten", "--replace", &image, "flat"],
    ];
    uses.iter().for_each(|arguments| drop(place.printed(arguments)));
    // The layers' files got other names: that is noted once.
    place.printed(uses[2]);
    let state = || state(&place.path("home/.cache/layflat"));
    for arguments in [uses[0], uses[1], uses[3]] {
        let before = state();
        place.printed(arguments);
        let after = state();
        let touched: Vec<_> = after.iter().filter(|(path, times)| before.get(*path) != Some(times)).collect();
        assert!(touched.is_empty(), "{arguments:?}: {touched:?}");
    }
}

fn digest() {
    let place = Place::new();
    let registry = two_layers(&place);
    let (proxy, asked) = counting(registry.address);
    let digest = place.printed(&["digest", &proxy.image("a:1")]);
    assert!(digest.starts_with("sha256:"), "{digest}");
    assert!(asked.lock().unwrap().is_empty(), "{asked:?}");
}
