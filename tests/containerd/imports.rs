//! Images that containerd imports: with layflat as the differ of its own overlayfs snapshotter, and with layflat as both.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use layflat::Options;
use layflat::core::digest::Digest;
use rustix::mount::UnmountFlags;
use serde_json::Value;

use crate::client::Client;
use crate::common::cases::{self, Case, Expected};
use crate::common::harness::Trial;
use crate::common::images::{self, Layout, Tar};
use crate::common::oracle;
use crate::common::place::Place;
use crate::common::run::{self, Form};
use crate::common::tar;
use crate::common::text::Stack;
use crate::common::tools;
use crate::common::tree::Tree;
use crate::daemons::{Daemons, Role, soon};
use crate::servers::Registry;
use crate::unpacker::without_mark;

/// The suites, whose containerds are different ones.
pub(crate) const SUITES: [&str; 2] = ["trixie", "sid"];

/// A test of one of them.
type Test = fn(&str, Role);

const TESTS: [(&str, Test); 11] = [
    ("what_is_mounted_is_what_the_oracle_says", what_is_mounted),
    ("what_must_be_refused_is_refused", what_is_refused),
    ("the_transfer_service_unpacks_as_the_client_does", both_ways),
    ("what_is_pulled_is_unpacked_right", pulled),
    ("a_container_runs", container),
    ("a_container_in_a_user_namespace_has_the_ids_of_its_image", user_namespace),
    ("a_layer_of_a_container_shows_what_it_shows", container_layer),
    ("a_layer_that_is_there_already_is_labelled", labelled),
    ("a_wrong_diff_id_leaves_nothing", wrong_diff_id),
    ("images_that_are_removed_leave_nothing", removed),
    ("after_a_kill_an_import_works", killed),
];

pub(crate) fn trials(role: Role) -> Vec<Trial> {
    let mut tests: Vec<(&str, Test)> = TESTS.to_vec();
    match role {
        Role::Differ => tests.push(("what_is_not_understood_goes_to_the_next_differ", next_differ)),
        _ => tests.push(("a_layer_names_the_root_where_it_was_changed", changed_root)),
    }
    if role == Role::Erofs {
        tests.push(("a_container_of_many_layers_runs", many_layers));
    }
    let mut trials = Vec::new();
    for suite in SUITES {
        for &(name, test) in &tests {
            let run = move || {
                test(suite, role);
                Ok(())
            };
            trials.push(Trial::test(format!("{suite}::{name}"), run).with_ignored_flag(!run::is_root()));
        }
    }
    trials
}

fn name(case: &str) -> String {
    format!("test.local/{}:latest", case.to_lowercase())
}

/// Adds an image to a layout, under the name that containerd is to know it by.
fn add(layout: &mut Layout, name: &str, layers: &[Vec<u8>]) {
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let mut descriptor = layout.image(&layers);
    descriptor["annotations"] = serde_json::json!({ "io.containerd.image.name": name });
    layout.manifests.push(descriptor);
}

fn layers(case: &Case) -> Vec<Vec<u8>> {
    case.stack.0.iter().map(tar::archive).collect()
}

/// What containerd mounts of an image.
fn mounted(daemons: &Daemons, image: &str, options: &str) -> Tree {
    let mountpoint = daemons.path("mount");
    fs::create_dir_all(&mountpoint).unwrap();
    daemons.done(&format!("images mount {options} {image} {}", mountpoint.display()));
    let tree = Tree::of_directory(&mountpoint);
    rustix::mount::unmount(&mountpoint, UnmountFlags::DETACH).unwrap();
    daemons.done(&format!("snapshots rm {}", mountpoint.display()));
    tree
}

/// What an image shows. An image of one layer is no overlay until something may be written on top of it; then the root
/// is containerd's, with mode 0755 and the time of now. What the image says of it is seen on the directory itself, where
/// overlayfs' own attributes are escaped (rule A7).
fn shown(daemons: &Daemons, image: &str, layers: usize) -> Tree {
    let mut tree = mounted(daemons, image, if layers == 1 { "--rw" } else { "" });
    if layers == 1 {
        let mut root = mounted(daemons, image, "").0.remove(&b""[..]).unwrap();
        let xattrs = std::mem::take(&mut root.attributes.xattrs).into_iter();
        root.attributes.xattrs = xattrs
            .map(|(name, value)| match name.strip_prefix(b"trusted.overlay.overlay.") {
                Some(own) => ([b"trusted.overlay.", own].concat(), value),
                None => (name, value),
            })
            .collect();
        tree.0.insert(Vec::new(), root);
    }
    tree
}

fn what_is_mounted(suite: &str, role: Role) {
    let cases: Vec<(Case, String)> = cases::all()
        .into_iter()
        .filter(|case| !case.stack.0.is_empty())
        .filter_map(|case| match &case.expected {
            // Where an overlay cannot hold it, what it shows is what rule A6 says.
            Expected::Tree(tree) => {
                let tree = case.overlay.as_ref().unwrap_or(tree).replace("OVERLAY.", "trusted.overlay.");
                Some((case, tree))
            }
            Expected::Reject(_) => None,
        })
        .collect();
    assert!(cases.len() > 160, "{}", cases.len());
    let daemons = Daemons::start(suite, role);
    let mut layout = Layout::default();
    for (case, _) in &cases {
        add(&mut layout, &name(&case.name), &layers(case));
    }
    daemons.import(&layout.tar(), "").unwrap_or_else(|error| panic!("{error}\n{}", daemons.log("layflat")));
    let mut wrong: BTreeMap<&str, String> = BTreeMap::new();
    let snapshots = Snapshots::of(&daemons, role);
    for (case, tree) in &cases {
        let found = match &snapshots {
            Some(snapshots) => snapshots.shown(&layers(case)),
            None => shown(&daemons, &name(&case.name), case.stack.0.len()),
        };
        let mut tree = Tree::parse(tree);
        if role == Role::Erofs {
            without_mark(&mut tree);
        }
        let differences = tree.differences(&found);
        if !differences.is_empty() {
            wrong.insert(&case.name, differences.join("\n"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong: {wrong:#?}", wrong.len(), cases.len());
}

/// What containerd calls the snapshot of an image's topmost layer.
fn chain_id(layers: &[Vec<u8>]) -> Digest {
    let chained = |below, layer| Digest::sha256_of(format!("{below} {layer}").as_bytes());
    layers.iter().map(|layer| Digest::sha256_of(layer)).reduce(chained).unwrap()
}

/// layflat's snapshots, which are mounted as it says, but without asking containerd each time.
struct Snapshots {
    client: Client,
    names: Vec<String>,
    mountpoint: PathBuf,
}

impl Snapshots {
    fn of(daemons: &Daemons, role: Role) -> Option<Self> {
        let client = role.is_both().then(|| daemons.client())?;
        let names = client.list(&["kind==committed"]).unwrap().into_keys().collect();
        Some(Self { client, names, mountpoint: daemons.path("view") })
    }

    /// What an image of these layers shows. containerd's names of snapshots end with the ChainID.
    fn shown(&self, layers: &[Vec<u8>]) -> Tree {
        let end = format!("/{}", chain_id(layers));
        self.client.shown(self.names.iter().find(|name| name.ends_with(&end)).unwrap(), &self.mountpoint)
    }
}

fn what_is_refused(suite: &str, role: Role) {
    let daemons = Daemons::start(suite, role);
    let mut wrong: BTreeMap<String, String> = BTreeMap::new();
    let mut count = 0;
    for case in cases::all() {
        let Expected::Reject(words) = &case.expected else { continue };
        count += 1;
        let mut layout = Layout::default();
        // containerd collects what the import before has left, also a layer that it has just found to be there: none is in two of them.
        let mut layers = layers(&case);
        layers.iter_mut().for_each(|layer| layer.resize(layer.len() + 512 * count, 0));
        add(&mut layout, &name(&case.name), &layers);
        match daemons.import(&layout.tar(), "") {
            Err(error) if error.contains(words) => {}
            imported => drop(wrong.insert(case.name, format!("{imported:?} instead of {words:?}"))),
        }
    }
    assert!(count > 20, "{count}");
    assert!(wrong.is_empty(), "{} of {count} are wrong: {wrong:#?}", wrong.len());
}

/// Two layers that only come out right together: a file that is new in an opaque directory, and one in a directory that
/// the layer does not list.
fn pair() -> Vec<Vec<u8>> {
    let stack = Stack::parse("D tmp(1777), D d, F d/old | F d/new, O d, F tmp/x");
    stack.0.iter().map(tar::archive).collect()
}

fn is_right(root: &Path) {
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::read_to_string(root.join("d/new")).unwrap(), "new");
    assert!(!root.join("d/old").exists());
    assert_eq!(fs::metadata(root.join("tmp")).unwrap().permissions().mode() & 0o7777, 0o1777);
}

/// Mounts an image, and looks whether it is that pair.
fn check_pair(daemons: &Daemons, image: &str, options: &str) {
    let mountpoint = daemons.path("pair");
    fs::create_dir_all(&mountpoint).unwrap();
    daemons.done(&format!("images mount {options} {image} {}", mountpoint.display()));
    is_right(&mountpoint);
    rustix::mount::unmount(&mountpoint, UnmountFlags::DETACH).unwrap();
    daemons.done(&format!("snapshots {options} rm {}", mountpoint.display()));
}

fn both_ways(suite: &str, role: Role) {
    for options in ["--local", ""] {
        let daemons = Daemons::start(suite, role);
        let mut layout = Layout::default();
        add(&mut layout, &name("pair"), &pair());
        daemons.import(&layout.tar(), options).unwrap();
        check_pair(&daemons, &name("pair"), "");
        let log = daemons.log("layflat");
        assert_eq!(log.matches(r#""event":"unpacked""#).count(), 2, "{log}");
        assert_eq!(log.matches(r#""event":"committed""#).count(), if role.is_both() { 2 } else { 0 }, "{log}");
    }
}

fn pulled(suite: &str, role: Role) {
    let daemons = Daemons::start(suite, role);
    let place = Place::new();
    let registry = Registry::open(&place);
    let mut layout = Layout::default();
    add(&mut layout, &name("pair"), &pair());
    let archive = daemons.path("pair.tar");
    fs::write(&archive, layout.tar()).unwrap();
    registry.put(&format!("oci-archive:{}", archive.display()), "pair:latest", &[]);
    let image = registry.name("pair:latest");
    for (options, unpacked) in [("--local", 2), ("", 4)] {
        daemons.done(&format!("images pull --plain-http {options} {image}"));
        check_pair(&daemons, &image, "");
        let log = daemons.log("layflat");
        assert_eq!(log.matches(r#""event":"unpacked""#).count(), unpacked, "{options}: {log}");
        daemons.done(&format!("images rm --sync {image}"));
    }
}

/// The snapshotter `native` binds directories that hold all that is below.
fn next_differ(suite: &str, _: Role) {
    let daemons = Daemons::start(suite, Role::FirstDiffer);
    let mut layout = Layout::default();
    add(&mut layout, &name("plain"), &[images::layer("one"), images::layer("two")]);
    daemons.import(&layout.tar(), "--local --snapshotter native").unwrap();
    let log = daemons.log("layflat");
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 2, "{log}");
    assert!(events.iter().all(|event| event["event"] == "left"), "{log}");
}

fn container(suite: &str, role: Role) {
    tools::need(&["/bin/busybox", "runc"]);
    let daemons = Daemons::start(suite, role);
    let mut layout = Layout::default();
    let busybox = Tar::new().mode("bin/busybox", 0o755, (0, 0), fs::read("/bin/busybox").unwrap()).done();
    let layers: Vec<Vec<u8>> = std::iter::once(busybox).chain(pair()).collect();
    add(&mut layout, &name("busybox"), &layers);
    daemons.import(&layout.tar(), "").unwrap();
    let command = "/bin/busybox sh -c";
    // runc knows containers by their names, whatever containerd they are of.
    let own = format!("layflat-{suite}-{role:?}-{}", std::process::id());
    let arguments = format!("{} {own} {command}", name("busybox"));
    let said = run_container(&daemons, &arguments, "cd /d && echo * && /bin/busybox stat -c %a /tmp");
    assert_eq!(said, "new\n1777\n", "{}", daemons.log("containerd"));
}

/// So many that one EROFS image shows most of them.
fn many_layers(suite: &str, role: Role) {
    tools::need(&["/bin/busybox", "runc"]);
    let daemons = Daemons::start(suite, role);
    let busybox = Tar::new().mode("bin/busybox", 0o755, (0, 0), fs::read("/bin/busybox").unwrap()).done();
    let others =
        (1..131).map(|layer| Tar::new().file(&format!("f{layer}"), "").file(".wh.f", "").file("f", [layer]).done());
    let layers: Vec<Vec<u8>> = std::iter::once(busybox).chain(others).collect();
    let mut layout = Layout::default();
    add(&mut layout, &name("many"), &layers);
    daemons.import(&layout.tar(), "").unwrap();
    let own = format!("layflat-many-{suite}-{role:?}-{}", std::process::id());
    let script = "B=/bin/busybox; echo /f* | $B wc -w; $B od -An -tu1 /f; echo new > /f && $B cat /f";
    let said = run_container(&daemons, &format!("{} {own} /bin/busybox sh -c", name("many")), script);
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["131", "130", "new"], "{}", daemons.log("containerd"));
    // The image of 128, three more layers.
    daemons.done(&format!("snapshots prepare mounted {}", chain_id(&layers)));
    let mounts = daemons.done("snapshots mounts target mounted");
    assert_eq!(mounts.matches("/fs:").count() + 1, 4, "{mounts}");
}

/// Runs a shell's script in a container, which stays; what it has printed, or `ctr` of why it did not. It prints into a file of its own, which is there in its
/// snapshot: what comes through a pipe the shim may give up before it has handed it on, where the machine is busy.
fn run_container(daemons: &Daemons, arguments: &str, script: &str) -> String {
    let script = format!("/bin/busybox mkdir -p /etc && exec >/etc/printed 2>&1 && {script}");
    let uri = format!("file://{}", daemons.path("printed").display());
    let output = daemons.ctr(&format!("run --log-uri {uri} {arguments}")).arg(script).output().unwrap();
    let said = crate::daemons::said(&output);
    // What a machine's cgroups do not allow says nothing of the differ.
    if !output.status.success() && said.contains("cgroup") {
        tools::impossible(&format!("runc cannot run here: {said}"));
    }
    let snapshots = fs::read_dir(daemons.snapshots()).unwrap().map(|snapshot| snapshot.unwrap().path());
    let printed = snapshots.filter_map(|snapshot| fs::read_to_string(snapshot.join("fs/etc/printed")).ok());
    printed.collect::<String>() + &said
}

/// What a container in a user namespace sees, and what becomes of what it writes.
fn user_namespace(suite: &str, role: Role) {
    tools::need(&["/bin/busybox", "runc"]);
    let daemons = Daemons::start(suite, if role == Role::Differ { Role::FirstDiffer } else { role });
    let busybox = Tar::new().mode("bin/busybox", 0o755, (0, 0), fs::read("/bin/busybox").unwrap()).done();
    let base = "D .(711,1:2), D d(750,3:4), F d/a(a,640,5:6) | F d/b, D kept, F kept/x";
    let layers: Vec<Vec<u8>> = std::iter::once(busybox).chain(Stack::parse(base).0.iter().map(tar::archive)).collect();
    let mut layout = Layout::default();
    add(&mut layout, &name("mapped"), &layers);
    daemons.import(&layout.tar(), "").unwrap();
    let own = format!("layflat-mapped-{suite}-{role:?}-{}", std::process::id());
    let maps = "--uidmap 0:100000:65536 --gidmap 0:200000:65536 --remap-labels";
    let said = run_container(
        &daemons,
        &format!("{maps} {} {own} /bin/busybox sh -c", name("mapped")),
        "B=/bin/busybox; $B stat -c '%u:%g %a %n' / /d /d/a /d/b /bin/busybox && cd /d && echo -n new > new && \
         $B chown 7:8 new && $B chmod 4755 new && $B ln new again && $B chown 13:14 a && $B rm b && \
         $B mkdir -m 700 /own && $B chown 9:10 /own && $B ln -s d /link && $B chown -h 11:12 /link",
    );
    // containerd's own snapshotter makes up the root of a container; a copy of the image keeps its owner.
    let root = match (role, suite) {
        (Role::Pair | Role::Erofs, _) => "1:2 711",
        (_, "trixie") => "1:2 755",
        _ => "0:0 755",
    };
    let expected = format!("{root} /\n3:4 750 /d\n5:6 640 /d/a\n0:0 644 /d/b\n0:0 755 /bin/busybox\n");
    assert_eq!(said, expected, "{}", daemons.log("containerd"));
    let uppers: Vec<PathBuf> = fs::read_dir(daemons.snapshots())
        .unwrap()
        .map(|snapshot| snapshot.unwrap().path().join("fs"))
        .filter(|upper| upper.join("d/new").exists())
        .collect();
    let [upper] = &uppers[..] else { panic!("{uppers:?}") };
    use std::os::unix::fs::MetadataExt;
    let owner = |path: &Path| {
        let metadata = fs::symlink_metadata(path).unwrap();
        (metadata.uid(), metadata.gid())
    };
    assert_eq!((owner(&upper.join("d/new")), owner(&upper.join("d/a"))), ((100_007, 200_008), (100_013, 200_014)));
    // 1.7, which has no id-mapped mounts, makes a copy, and whoever is not told of them.
    let is_copied = suite == "trixie" || role == Role::Erofs;
    assert_eq!(fs::read_dir(daemons.snapshots()).unwrap().count(), layers.len() + 1 + usize::from(is_copied));
    if is_copied && role == Role::Differ {
        // What is said to a differ alone does not tell that there is a copy.
        return;
    }

    let changes = "D d(750,3:4), F d/a(a,640,13:14), F d/new(new,4755,7:8), H d/again=d/new, W d/b, D own(700,9:10), L link->d(11:12)";
    let expected = known(oracle::show(&Stack::parse(&format!("{base} | {changes}"))).unwrap());
    let made = daemons.ctr(&format!("snapshots diff {own}")).output().unwrap();
    assert!(made.status.success(), "{}", crate::daemons::said(&made));
    assert!(daemons.log("layflat").contains(r#""event":"packed""#));
    let image = run::image(layers.iter().cloned().chain([made.stdout]));
    let found = run::lay_image(&image, Form::Flat, run::tmpfs(), &Options::default()).unwrap().tree;
    let differences = expected.differences(&known(found));
    assert!(differences.is_empty(), "{differences:#?}");

    if role.is_both() && !is_copied {
        // What is committed has the ids that layers have.
        daemons.done(&format!("snapshots commit {own}-committed {own}"));
        let client = daemons.client();
        let names: Vec<String> = client.list(&["kind==committed"]).unwrap().into_keys().collect();
        let committed = names.iter().find(|name| name.ends_with("-committed")).unwrap();
        let differences = expected.differences(&known(client.shown(committed, &daemons.path("view"))));
        assert!(differences.is_empty(), "{differences:#?}");
    }
}

/// Without times, the program, and the directories that runc makes to mount on; and without the root, which is not always the
/// image's.
fn known(mut tree: Tree) -> Tree {
    let others: [&[u8]; 6] = [b"bin", b"dev", b"proc", b"run", b"sys", b"etc"];
    tree.0.retain(|path, _| {
        let first = path.split(|&byte| byte == b'/').next().unwrap();
        !path.is_empty() && !others.contains(&first)
    });
    tree.0.values_mut().for_each(|node| node.attributes.mtime = (0, 0));
    tree
}

/// As for `nerdctl commit`, and what BuildKit's workers do after each step.
fn container_layer(suite: &str, role: Role) {
    let daemons = Daemons::start(suite, if role == Role::Differ { Role::FirstDiffer } else { role });
    let stack =
        Stack::parse("D d(700,m=5), F d/a, F d/b, D e, F e/x, D kept, F kept/x, F f, L l->d | F more, D n, F n/y");
    let layers: Vec<Vec<u8>> = stack.0.iter().map(tar::archive).collect();
    for layers in [&layers[..1], &layers] {
        let number = layers.len();
        let mut layout = Layout::default();
        add(&mut layout, &name(&format!("base-{number}")), layers);
        daemons.import(&layout.tar(), "").unwrap();
        daemons.done(&format!("snapshots prepare container-{number} {}", chain_id(layers)));
        let mountpoint = daemons.path("container");
        fs::create_dir_all(&mountpoint).unwrap();
        let mount = daemons.done(&format!("snapshots mounts {} container-{number}", mountpoint.display()));
        assert!(std::process::Command::new("sh").args(["-c", &mount]).status().unwrap().success(), "{mount}");
        let at = |name: &str| mountpoint.join(name);
        fs::remove_file(at("d/a")).unwrap();
        fs::write(at("d/new"), "new").unwrap();
        // Made again: nothing of what is below may be seen in it.
        fs::remove_dir_all(at("e")).unwrap();
        fs::create_dir(at("e")).unwrap();
        fs::hard_link(at("f"), at("g")).unwrap();
        xattr::set(at("f"), "user.k", b"v").unwrap();
        // Where a directory cannot be renamed, the caller has to copy it.
        let _ = fs::rename(at("kept"), at("renamed"));
        let mut shown = Tree::of_directory(&mountpoint);
        rustix::mount::unmount(&mountpoint, UnmountFlags::DETACH).unwrap();

        let made = daemons.ctr(&format!("snapshots diff container-{number}")).output().unwrap();
        assert!(made.status.success(), "{}", crate::daemons::said(&made));
        let log = daemons.log("layflat");
        if role == Role::Differ && suite == "trixie" {
            // 1.7 does not say to which namespace the layer is to belong.
            assert!(log.contains("the namespace is not said"), "{log}");
            return;
        }
        assert_eq!(log.matches(r#""event":"packed""#).count(), number, "{log}");
        let image = run::image(layers.iter().cloned().chain([made.stdout]));
        let mut found = run::lay_image(&image, Form::Flat, run::tmpfs(), &Options::default()).unwrap().tree;
        if !role.is_both() {
            // containerd's snapshotter has made up the root of the container.
            [&mut shown, &mut found].into_iter().for_each(|tree| drop(tree.0.remove(&b""[..])));
        }
        let differences = shown.differences(&found);
        assert!(differences.is_empty(), "{differences:#?}");
    }
    // What is no change of one snapshot over another is for somebody else.
    drop(daemons.ctr("snapshots diff container-1 container-2").output().unwrap());
    let log = daemons.log("layflat");
    assert!(log.contains("neither is right on top"), "{log}");
}

/// A snapshot made by `ctr` that something was done to; the layer of that, as an archive.
fn changed(daemons: &Daemons, key: &str, parent: &str, change: impl FnOnce(&Path)) -> Vec<u8> {
    daemons.done(&format!("snapshots prepare {key} {parent}"));
    let mountpoint = daemons.path("container");
    fs::create_dir_all(&mountpoint).unwrap();
    let mount = daemons.done(&format!("snapshots mounts {} {key}", mountpoint.display()));
    assert!(std::process::Command::new("sh").args(["-c", &mount]).status().unwrap().success(), "{mount}");
    change(&mountpoint);
    rustix::mount::unmount(&mountpoint, UnmountFlags::DETACH).unwrap();
    let made = daemons.ctr(&format!("snapshots diff {key}")).output().unwrap();
    assert!(made.status.success(), "{}", crate::daemons::said(&made));
    let mut archive = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&made.stdout[..]), &mut archive).unwrap();
    archive
}

/// What nobody has said of the root is not said by a layer, as that of `COPY --link`, which lies on anything.
fn changed_root(suite: &str, role: Role) {
    let daemons = Daemons::start(suite, role);
    let mut layout = Layout::default();
    add(&mut layout, &name("base"), &pair());
    daemons.import(&layout.tar(), "").unwrap();
    let top = chain_id(&pair()).to_string();
    let names = |key: &str, parent: &str, change: fn(&Path)| -> Vec<String> {
        let archive = changed(&daemons, key, parent, change);
        let mut archive = ::tar::Archive::new(&archive[..]);
        let entries = archive.entries().unwrap();
        entries.map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
    };
    let write = |root: &Path| fs::write(root.join("file"), "new").unwrap();
    let protect = |root: &Path| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(root, fs::Permissions::from_mode(0o700)).unwrap();
    };
    assert_eq!(names("same", &top, |_| {}), [""; 0]);
    assert_eq!(names("nothing", "", |_| {}), [""; 0]);
    assert_eq!(names("alone", "", write), ["file"]);
    assert_eq!(names("alone-protected", "", protect), ["./"]);
    assert_eq!(names("protected", &top, protect), ["./"]);
    // Its time is another one.
    assert_eq!(names("written", &top, write), ["./", "file"]);
}

/// Whoever asks for a layer reads its DiffID from the label, also if the blob was there without.
fn labelled(suite: &str, role: Role) {
    const LABEL: &str = "containerd.io/uncompressed";
    let daemons = Daemons::start(suite, if role == Role::Differ { Role::FirstDiffer } else { role });
    let mut layout = Layout::default();
    add(&mut layout, &name("base"), &pair());
    daemons.import(&layout.tar(), "").unwrap();
    changed(&daemons, "container", &chain_id(&pair()).to_string(), |root| fs::write(root.join("file"), "new").unwrap());
    let log = daemons.log("layflat");
    let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let Some(packed) = events.into_iter().find(|event| event["event"] == "packed") else {
        // 1.7 does not say to which namespace the layer is to belong.
        assert_eq!((suite, role), ("trixie", Role::Differ), "{log}");
        return;
    };
    let (digest, diff_id) = (packed["digest"].as_str().unwrap(), packed["diff_id"].as_str().unwrap());
    let is_labelled = || {
        let list = daemons.done("content ls");
        let line = list.lines().find(|line| line.starts_with(digest)).unwrap();
        line.contains(&format!("{LABEL}={diff_id}"))
    };
    assert!(is_labelled());
    daemons.done(&format!("content label {digest} {LABEL}="));
    assert!(!is_labelled());
    assert!(daemons.ctr("snapshots diff container").output().unwrap().status.success());
    assert!(is_labelled());
}

fn wrong_diff_id(suite: &str, role: Role) {
    let daemons = Daemons::start(suite, role);
    let mut layout = Layout::default();
    let layer = images::layer("one");
    let config = images::config(&[b"something else"]);
    let mut descriptor = layout.image_of(&config, &[(images::LAYER, layer)]);
    descriptor["annotations"] = serde_json::json!({ "io.containerd.image.name": name("wrong") });
    layout.manifests.push(descriptor);
    let error = daemons.import(&layout.tar(), "").unwrap_err();
    assert!(error.contains("wrong diff id"), "{error}");
    assert_eq!(daemons.done("snapshots ls").lines().count(), 1);
    // containerd removes directories when it collects its garbage, and that is soon.
    let directories = || fs::read_dir(daemons.snapshots()).unwrap().count();
    soon(|| directories() == 0, || format!("{} directories", directories()));
}

fn removed(suite: &str, role: Role) {
    let daemons = Daemons::start(suite, role);
    let mut layout = Layout::default();
    add(&mut layout, &name("pair"), &pair());
    daemons.import(&layout.tar(), "").unwrap();
    assert_eq!(fs::read_dir(daemons.snapshots()).unwrap().count(), 2);
    daemons.done(&format!("images rm --sync {}", name("pair")));
    assert_eq!(daemons.done("snapshots ls").lines().count(), 1);
    assert_eq!(fs::read_dir(daemons.snapshots()).unwrap().count(), 0);
}

/// Kills each of the two in the middle of a layer; then both are there again.
fn killed(suite: &str, role: Role) {
    let mut daemons = Daemons::start(suite, role);
    // Large enough that somebody who looks at once finds it being unpacked.
    let mut random = fastrand::Rng::with_seed(1);
    let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(64 << 20).collect();
    let large = images::gzip(&Tar::new().file("large", &bytes).done());
    let mut stack: Vec<Vec<u8>> = pair();
    stack.push(Tar::new().file("large", &bytes).done());
    let mut layout = Layout::default();
    let refs: Vec<&[u8]> = stack.iter().map(Vec::as_slice).collect();
    let stored: Vec<(&str, Vec<u8>)> = vec![
        (images::LAYER, stack[0].clone()),
        (images::LAYER, stack[1].clone()),
        ("application/vnd.oci.image.layer.v1.tar+gzip", large),
    ];
    let mut descriptor = layout.image_of(&images::config(&refs), &stored);
    descriptor["annotations"] = serde_json::json!({ "io.containerd.image.name": name("large") });
    layout.manifests.push(descriptor);
    let archive = daemons.path("large.tar");
    fs::write(&archive, layout.tar()).unwrap();
    for victim in ["layflat", "containerd"] {
        let mut import = daemons.ctr("images import");
        let mut import = import.arg(&archive).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Until it is at work on the large layer, or was quicker than we are.
        while import.try_wait().unwrap().is_none() && !is_unpacking(&daemons.snapshots(), "large") {
            std::thread::yield_now();
        }
        match victim {
            "layflat" => daemons.kill_layflat(),
            _ => daemons.kill_containerd(),
        }
        import.wait().unwrap();
        match victim {
            "layflat" => daemons.start_layflat(),
            _ => daemons.start_containerd(),
        }
        // containerd waits a little until it connects anew.
        let mut said = String::new();
        let is_answered = || {
            let output = daemons.ctr("images import").arg(&archive).output().unwrap();
            said = if output.status.success() { String::new() } else { crate::daemons::said(&output) };
            !said.contains("connect: connection refused")
        };
        soon(is_answered, || format!("{victim}: {}", daemons.log("containerd")));
        assert_eq!(said, "", "{victim}");
        check_pair(&daemons, &name("large"), "");
        let found = mounted(&daemons, &name("large"), "");
        assert!(found.0.contains_key(&b"large"[..]));
        daemons.done(&format!("images rm --sync {}", name("large")));
    }
}

/// Whether something of this name is in a work directory of a snapshot.
fn is_unpacking(snapshots: &Path, name: &str) -> bool {
    let directories = fs::read_dir(snapshots).into_iter().flatten().flatten();
    let works = directories.flat_map(|snapshot| fs::read_dir(snapshot.path()).into_iter().flatten().flatten());
    let mut aside = works.filter(|entry| entry.file_name().to_string_lossy().starts_with(".layflat-"));
    // The layer below counts as one, where there is one.
    aside.any(|work| ["stage-0", "stage-1"].iter().any(|stage| work.path().join(stage).join(name).exists()))
}
