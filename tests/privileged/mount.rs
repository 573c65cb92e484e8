//! Mounting hand-made layers with the real kernel: each test makes its layers, mounts them, and states what the mount
//! must show.
//!
//! Everything happens in a mount namespace of the test's own process, so that nothing is left mounted, whatever fails.
//! As an ordinary user each test is a process of its own in a user namespace, and the tests that need privilege there
//! are ignored. Root runs the whole file a second time, as an ordinary user.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, and this is another harness")]

use crate::common::clock;
use crate::common::harness::{self, Trial};
use crate::common::run::{self, Power};
use crate::common::unmount::{by_layflat, unmounted, when_free};
use layflat::XattrNamespace::{self, Trusted, User};
use layflat::compare::{CompareOptions, compare};
use layflat::core::chain::Chain;
use layflat::mount::{
    LowerDirectory, Method, MountOptions, MountRequest, UpperDirectories, mount, mount_layout, umount,
};
use layflat::tree::{Snapshot, SnapshotOptions, TreeKind};
use layflat::userns::in_user_namespace;
use libtest_mimic::Failed;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const METHODS: [Method; 3] = [Method::FdLayers, Method::PathLayers, Method::MountSyscall];

/// Set for a run without any namespace of its own: what an ordinary user meets who just tries.
const BARE: &str = "LAYFLAT_TEST_BARE";
/// Set for the process that runs one test inside a user namespace.
const INSIDE: &str = "LAYFLAT_TEST_INSIDE";

pub(crate) fn trials() -> Vec<Trial> {
    if std::env::var_os(BARE).is_some() {
        return vec![Trial::test("bare", bare)];
    }
    let root = run::is_root();
    let inside = std::env::var_os(INSIDE).is_some();
    let can_mount = inside || !matches!(run::power(), Power::Nothing(_));
    let mut trials = Vec::new();
    for (name, namespaces, test) in TESTS {
        for namespace in namespaces.iter().copied() {
            let name = format!("{name}::{}", namespace.prefix().trim_end_matches(".overlay."));
            let trial = if root || inside {
                let run = move || {
                    test(namespace);
                    Ok(())
                };
                Trial::test(name, run)
            } else {
                let again = name.clone();
                Trial::test(name, move || inside_user_namespace(&again))
            };
            trials.push(trial.with_ignored_flag(!can_mount || (namespace == Trusted && !root)));
        }
    }
    for (name, variable) in [("all_again_as_an_ordinary_user", None), ("an_ordinary_user_is_told_how", Some(BARE))] {
        trials.push(Trial::test(name, move || as_ordinary_user(variable)).with_ignored_flag(!root));
    }
    trials
}

type Test = (&'static str, &'static [XattrNamespace], fn(XattrNamespace));

const TESTS: &[Test] = &[
    ("marks_hide_what_lies_below_by_every_method", &[Trusted, User], marks_hide),
    ("names_of_layers_may_hold_any_byte", &[Trusted, User], names_of_layers),
    ("paths_of_layers_may_be_long", &[Trusted, User], long_paths),
    ("three_hundred_layers", &[Trusted, User], three_hundred_layers),
    ("ghosts_are_seen", &[Trusted, User], ghosts),
    ("redirects_are_not_followed", &[Trusted, User], redirects),
    ("an_upper_directory_makes_it_writable", &[Trusted, User], writable),
    ("a_failed_mount_leaves_nothing", &[Trusted, User], failed_mount),
    ("what_overlayfs_does_not_take_is_refused_with_the_reason", &[Trusted, User], refusals),
    ("a_layout_is_mounted", &[Trusted, User], layout),
    ("a_layout_that_leads_elsewhere_is_refused", &[Trusted, User], layout_elsewhere),
    ("a_busy_target_is_refused", &[Trusted, User], busy_target),
    ("a_layer_that_was_changed_is_refused", &[Trusted, User], changed_layer),
    ("only_overlay_mounts_are_unmounted", &[Trusted, User], unmounting),
    ("the_program_mounts_an_image_through_its_cache", &[Trusted, User], program),
    ("s8_damaged_layers_in_the_cache_are_unpacked_anew", &[Trusted, User], damaged_cache),
    ("a_layer_is_kept_once_for_all_images_that_have_it", &[Trusted, User], shared_layers),
    ("one_process_unpacks_and_the_others_wait", &[Trusted, User], one_unpacks),
    ("a_killed_process_leaves_nothing_behind", &[Trusted, User], killed),
    ("a_cache_that_is_used_is_not_written", &[Trusted, User], unwritten),
    ("a4_losses_are_remembered_with_the_layers", &[Trusted, User], remembered_losses),
    ("s7_what_is_mounted_in_a_tree_keeps_it_from_being_replaced", &[Trusted, User], replaced_with_mount),
    ("nodev_and_nosuid_only_when_asked", &[Trusted, User], mount_flags),
    ("hard_links_stay_together", &[Trusted, User], hard_links),
    ("trusted_marks_in_a_user_namespace_are_refused", &[User], trusted_in_user_namespace),
];

/// Runs one of these tests in a user namespace and a mount namespace, which a process can only enter while it has one
/// thread.
fn inside_user_namespace(name: &str) -> Result<(), Failed> {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount"]).arg(std::env::current_exe()?);
    let output =
        command.args(["--exact", &format!("mount::{name}")]).envs([harness::only("mount"), (INSIDE, "1")]).output()?;
    let said = said(&output);
    if output.status.success() && said.contains(" 1 passed;") { Ok(()) } else { Err(said.into()) }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Runs this program once more, as user 65534.
fn as_ordinary_user(variable: Option<&str>) -> Result<(), Failed> {
    let temporary = TempDir::new()?;
    chown(temporary.path(), Some(65534), Some(65534))?;
    // The program may lie where only root can go.
    let program = temporary.path().join("program");
    crate::common::tools::put_program(&std::env::current_exe()?, &program);
    let layflat = temporary.path().join("layflat");
    crate::common::tools::put_program(assert_cmd::cargo::cargo_bin!("layflat"), &layflat);
    for program in [&program, &layflat] {
        fs::set_permissions(program, fs::Permissions::from_mode(0o755))?;
    }
    let mut command = Command::new(&program);
    command.uid(65534).gid(65534).current_dir("/").env("TMPDIR", temporary.path()).envs([harness::only("mount")]);
    if let Some(variable) = variable {
        command.env(variable, "1");
    }
    let output = command.output()?;
    if output.status.success() { Ok(()) } else { Err(format!("as an ordinary user:\n{}", said(&output)).into()) }
}

/// What happens to an ordinary user outside of any namespace.
fn bare() -> Result<(), Failed> {
    let stack = Stack::new(User);
    for layer in ["a", "b"] {
        fs::create_dir(stack.path(layer)).unwrap();
    }
    let error = mount(&stack.request(&["a", "b"], None), &stack.target())
        .map_err(|error| Chain(&error).to_string())
        .unwrap_err();
    assert!(error.contains("only programs in it see the mount"), "{error}");
    Ok(())
}

/// A directory for layers, and a target.
struct Stack {
    root: TempDir,
    namespace: XattrNamespace,
}

impl Stack {
    fn new(namespace: XattrNamespace) -> Self {
        let root = TempDir::new().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(root.path().join("target")).unwrap();
        Self { root, namespace }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn target(&self) -> PathBuf {
        self.path("target")
    }

    fn dir(&self, name: &str) {
        fs::create_dir_all(self.path(name)).unwrap();
    }

    fn file(&self, name: &str, text: &str) {
        self.dir(Path::new(name).parent().unwrap().to_str().unwrap());
        fs::write(self.path(name), text).unwrap();
    }

    fn whiteout(&self, name: &str) {
        self.dir(Path::new(name).parent().unwrap().to_str().unwrap());
        mknodat(CWD, self.path(name), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    }

    /// An attribute in overlayfs' own namespace.
    fn mark(&self, name: &str, mark: &str, value: &str) {
        let mark = format!("{}{mark}", self.namespace.prefix());
        xattr::set(self.path(name), mark, value.as_bytes()).unwrap();
    }

    fn request(&self, layers: &[&str], method: Option<Method>) -> MountRequest {
        let open = |name: &&str| LowerDirectory::open(&self.path(name)).unwrap();
        MountRequest {
            lower: layers.iter().map(open).collect(),
            namespace: self.namespace,
            options: MountOptions { method, ..MountOptions::default() },
        }
    }

    /// Mounts layers, topmost first, lets the mount be looked at, and unmounts it.
    fn mounted<T>(&self, layers: &[&str], method: Option<Method>, look: impl FnOnce(&Path) -> T) -> T {
        let target = self.target();
        let mounted = mount(&self.request(layers, method), &target).unwrap();
        assert!(method.is_none_or(|method| method == mounted.method));
        assert!(!mounted.writable);
        let seen = look(&target);
        unmounted(&target);
        seen
    }

    /// The differences between two directories of this stack.
    fn differences(&self, a: &Path, b: &Path) -> Vec<String> {
        let options = CompareOptions { ignore: "mtime".parse().unwrap(), ..CompareOptions::default() };
        compare(a, b, &options).unwrap().iter().map(ToString::to_string).collect()
    }
}

/// The names of a tree, directories with a slash.
fn names(root: &Path) -> Vec<String> {
    let snapshot = Snapshot::take(root, &SnapshotOptions::default()).unwrap();
    let name = |path: Vec<u8>, kind: &TreeKind| {
        let slash = if *kind == TreeKind::Directory { "/" } else { "" };
        format!("{}{slash}", String::from_utf8(path).unwrap())
    };
    snapshot.entries().map(|(path, entry)| name(path, &entry.kind)).collect()
}

fn marks_hide(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    for name in ["d/a", "d/b", "o/low", "gone", "sub/deep/x"] {
        stack.file(&format!("1/{name}"), name);
    }
    symlink("d/a", stack.path("1/link")).unwrap();
    stack.whiteout("2/gone");
    stack.whiteout("2/d/a");
    stack.file("2/o/new", "new");
    stack.mark("2/o", "opaque", "y");
    stack.file("3/d/b", "changed");
    fs::set_permissions(stack.path("3/d/b"), fs::Permissions::from_mode(0o4711)).unwrap();
    // the image's own attributes in overlayfs' namespace, escaped (rule A7)
    stack.dir("3/sub");
    stack.mark("3/sub", "overlay.opaque", "y");

    for (name, text) in [("d/b", "changed"), ("o/new", "new"), ("sub/deep/x", "sub/deep/x")] {
        stack.file(&format!("expected/{name}"), text);
    }
    fs::set_permissions(stack.path("expected/d/b"), fs::Permissions::from_mode(0o4711)).unwrap();
    symlink("d/a", stack.path("expected/link")).unwrap();
    stack.mark("expected/sub", "opaque", "y");

    for method in METHODS {
        let found =
            stack.mounted(&["3", "2", "1"], Some(method), |target| stack.differences(target, &stack.path("expected")));
        assert!(found.is_empty(), "{method:?}: {found:#?}");
    }
    // the newest that the kernel knows
    stack.mounted(&["3", "2", "1"], None, |_| ());
}

fn names_of_layers(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    let layers = ["a:b", "c,d", "e\\f", "g\nh", "i j", "k\\:l\\,m", ",", "\\\\", "lowerdir=x", "::"];
    for layer in layers {
        stack.file(&format!("{layer}/{layer}"), "");
    }
    let mut expected: Vec<&str> = layers.to_vec();
    expected.sort_unstable();
    expected.insert(0, "/");
    for method in METHODS {
        assert_eq!(stack.mounted(&layers, Some(method), names), expected, "{method:?}");
    }
    // and so may those of the upper, the work directory, and the target
    for method in METHODS {
        let (upper, work, target) = (stack.path("u:,\\"), stack.path("w:,\\ \n"), stack.path("t:,\\ \n"));
        fs::create_dir(&target).unwrap();
        let mut request = stack.request(&layers, Some(method));
        request.options.upper = Some(UpperDirectories { upper: upper.clone(), work: work.clone() });
        mount(&request, &target).unwrap();
        fs::write(target.join("new"), "").unwrap();
        unmounted(&target);
        assert!(upper.join("new").exists());
        for made in [upper, work, target] {
            fs::remove_dir_all(made).unwrap();
        }
    }
}

fn long_paths(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    let component = "n".repeat(200);
    // beyond fsconfig's 255 bytes, and together beyond mount's page
    let layers: Vec<String> = (0..10).map(|index| format!("{component}/{component}/{component}/{index}")).collect();
    for (index, layer) in layers.iter().enumerate() {
        stack.file(&format!("{layer}/f{index}"), "");
    }
    let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
    for method in METHODS {
        assert_eq!(stack.mounted(&layers, Some(method), names).len(), 11, "{method:?}");
    }
    for method in METHODS {
        let directory = stack.path(&format!("{component}/{component}"));
        let upper = UpperDirectories { upper: directory.join("u:"), work: directory.join("w") };
        let mut request = stack.request(&layers, Some(method));
        request.options.upper = Some(upper);
        mount(&request, &stack.target()).unwrap();
        unmounted(&stack.target());
    }
}

fn three_hundred_layers(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    let layers: Vec<String> = (0..300).map(|index| format!("layer-{index:03}")).collect();
    for layer in &layers {
        stack.file(&format!("{layer}/d/{layer}"), layer);
        stack.file(&format!("{layer}/top"), layer);
    }
    let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
    for method in METHODS {
        stack.mounted(&layers, Some(method), |target| {
            assert_eq!(names(target).len(), 303, "{method:?}");
            assert_eq!(fs::read_to_string(target.join("top")).unwrap(), "layer-000");
        });
    }
}

fn ghosts(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    stack.file("1/x", "");
    // a directory that merges with nothing
    stack.whiteout("2/d/ghost");
    stack.file("2/d/c", "");
    stack.dir("expected/d");
    stack.file("expected/d/c", "");
    stack.file("expected/x", "");
    let differences = || stack.mounted(&["2", "1"], None, |target| stack.differences(target, &stack.path("expected")));
    assert_eq!(differences(), ["d/ghost: only in A (ghost: listed, but missing)"]);
    // rule O1
    stack.mark("2/d", "origin", "");
    assert_eq!(differences(), [""; 0]);
}

fn redirects(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    stack.file("1/secret/s", "");
    stack.dir("1/d");
    stack.file("1/d/own", "");
    stack.dir("2/d");
    stack.mark("2/d", "redirect", "/secret");
    for method in METHODS {
        stack.mounted(&["2", "1"], Some(method), |target| {
            assert!(!target.join("d/s").exists(), "{method:?} follows a redirect");
        });
    }
}

fn writable(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    stack.file("1/d/f", "lower");
    stack.file("1/gone", "");
    fs::set_permissions(stack.path("1"), fs::Permissions::from_mode(0o1751)).unwrap();
    xattr::set(stack.path("1"), "user.k", b"v").unwrap();
    let time = Timespec { tv_sec: 1_000_000_000, tv_nsec: 5 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, stack.path("1"), &times, AtFlags::empty()).unwrap();
    // one layer is enough with an upper one
    let mut request = stack.request(&["1"], None);
    let upper = UpperDirectories { upper: stack.path("upper"), work: stack.path("work") };
    request.options.upper = Some(upper);
    let target = stack.target();
    assert!(mount(&request, &target).unwrap().writable);
    let found = compare(&target, &stack.path("1"), &CompareOptions::default()).unwrap();
    assert_eq!(found, [], "a new upper directory shows through");
    fs::write(target.join("d/f"), "upper").unwrap();
    fs::remove_file(target.join("gone")).unwrap();
    unmounted(&target);

    assert_eq!(fs::read_to_string(stack.path("1/d/f")).unwrap(), "lower");
    assert_eq!(fs::read_to_string(stack.path("upper/d/f")).unwrap(), "upper");
    // mounted again, it is as it was left
    mount(&request, &target).unwrap();
    assert_eq!(names(&target), ["/", "d/", "d/f"]);
    unmounted(&target);
}

fn failed_mount(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    stack.file("1/f", "");
    for method in METHODS {
        let mut request = stack.request(&["1"], Some(method));
        request.options.upper = Some(UpperDirectories { upper: stack.path("upper"), work: stack.path("missing/work") });
        let error = mount(&request, &stack.target()).map_err(|error| Chain(&error).to_string()).unwrap_err();
        assert!(error.starts_with("cannot make the work directory "), "{error}");
        assert!(!stack.path("upper").exists());

        // the kernel takes this, and a layer would hold its own changes
        request.options.upper = Some(UpperDirectories { upper: stack.path("1/upper"), work: stack.path("1/work") });
        let error = mount(&request, &stack.target()).map_err(|error| Chain(&error).to_string()).unwrap_err();
        assert!(error.contains("/1/upper is inside the layer "), "{error}");
        assert_eq!(names(&stack.path("1")), ["/", "f"], "{method:?}");

        // and this is the kernel's to judge
        request.options.upper = Some(UpperDirectories { upper: stack.path("upper"), work: stack.path("upper/work") });
        let error = mount(&request, &stack.target()).map_err(|error| Chain(&error).to_string()).unwrap_err();
        assert!(error.starts_with("the kernel refuses the mount: "), "{error}");
        assert!(!stack.path("upper").exists());
    }
}

fn refusals(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    for layer in ["1", "2"] {
        stack.dir(layer);
    }
    let refused = |layers: &[&str], method, target: &Path| {
        mount(&stack.request(layers, method), target).map_err(|error| Chain(&error).to_string()).unwrap_err()
    };
    let target = stack.target();
    assert!(refused(&["1"], None, &target).contains("needs at least two layers"));
    assert!(refused(&vec!["1"; 501], None, &target).contains("at most 500"));
    stack.file("file", "");
    assert!(refused(&["1", "2"], None, &stack.path("file")).starts_with("cannot open the target "));
    assert!(refused(&["1", "2"], None, &stack.path("missing")).starts_with("cannot open the target "));
    assert!(
        LowerDirectory::open(&stack.path("missing"))
            .map_err(|error| Chain(&error).to_string())
            .unwrap_err()
            .contains("the layer")
    );
    for method in METHODS {
        let twice = refused(&["1", "1"], Some(method), &target);
        assert!(twice.starts_with("the kernel refuses the mount: "), "{twice}");
        // mount(2) cannot speak; its error can be guessed
        assert!(twice.contains("overlapping") || twice.contains("two of the directories are one"), "{twice}");
    }
}

/// A `layflat.json` over some layers.
fn write_layout(stack: &Stack, lowerdir: &[&str]) {
    stack.file(
        "form/layflat.json",
        &serde_json::json!({
            "format": 1,
            "form": "overlay",
            "xattr_namespace": stack.namespace,
            "layers": [],
            "lowerdir": lowerdir,
        })
        .to_string(),
    );
}

fn layout(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    stack.file("form/layers/0000-a/a", "");
    stack.file("form/layers/0001-b/b", "");
    stack.whiteout("form/layers/0001-b/a");
    write_layout(&stack, &["layers/0001-b", "layers/0000-a"]);
    mount_layout(&stack.path("form"), &stack.target(), MountOptions::default()).unwrap();
    assert_eq!(names(&stack.target()), ["/", "b"]);
    unmounted(&stack.target());

    let error = mount_layout(&stack.path("target"), &stack.target(), MountOptions::default())
        .map_err(|error| Chain(&error).to_string())
        .unwrap_err();
    assert!(error.contains("layflat.json does not exist"), "{error}");
}

fn layout_elsewhere(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    stack.dir("form/a");
    stack.dir("outside/b");
    symlink("../outside", stack.path("form/link")).unwrap();
    for name in ["../outside", "/etc", "link", "link/b", ""] {
        write_layout(&stack, &["a", name]);
        mount_layout(&stack.path("form"), &stack.target(), MountOptions::default()).unwrap_err();
    }
}

fn busy_target(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    stack.file("1/f", "");
    stack.dir("2");
    let request = stack.request(&["2", "1"], None);
    mount(&request, &stack.target()).unwrap();
    let error = mount(&request, &stack.target()).map_err(|error| Chain(&error).to_string()).unwrap_err();
    assert!(error.contains("something is already mounted") && error.contains("target"), "{error}");
    assert!(
        mount(&request, Path::new("/"))
            .map_err(|error| Chain(&error).to_string())
            .unwrap_err()
            .contains("something is already mounted on /")
    );
    unmounted(&stack.target());
    assert_eq!(names(&stack.target()), ["/"]);
}

/// As `layflat layers` writes it, edited here and there.
fn changed_layer(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    let image = stack.path("image.tar");
    fs::write(&image, include_bytes!("../../fixtures/four-layers.tar")).unwrap();
    let image =
        layflat::transport::source::open(&image.to_str().unwrap().parse().unwrap(), &Default::default()).unwrap();
    let form = stack.path("form");
    let options = layflat::Options { xattr_namespace: Some(namespace), ..Default::default() };
    layflat::layers(&image, &form, &options, &layflat::NoProgress).unwrap();
    let mounts =
        || mount_layout(&form, &stack.target(), MountOptions::default()).map_err(|error| Chain(&error).to_string());
    let unchanged = || {
        mounts().unwrap();
        assert_eq!(names(&stack.target()), ["/", "b"]);
        unmounted(&stack.target());
    };
    unchanged();
    let bottom = fs::read_dir(form.join("layers")).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    for directory in [bottom.join("d"), bottom] {
        let before = fs::metadata(&directory).unwrap();
        fs::write(directory.join("added"), "").unwrap();
        let error = mounts().unwrap_err();
        let name = directory.file_name().unwrap().to_str().unwrap();
        assert!(error.contains(name) && error.contains("was changed") && error.contains("again"), "{error}");
        fs::remove_file(directory.join("added")).unwrap();
        mounts().unwrap_err();
        let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps {
            last_access: time(before.atime(), before.atime_nsec()),
            // Copies keep whole seconds, at least.
            last_modification: time(before.mtime(), 5),
        };
        utimensat(CWD, &directory, &times, AtFlags::empty()).unwrap();
        unchanged();
    }
}

fn unmounting(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    stack.file("1/f", "");
    stack.dir("2");
    let target = stack.target();
    let refused = |path: &Path| umount(path, false).map_err(|error| Chain(&error).to_string()).unwrap_err();
    assert!(refused(&target).ends_with("is not a mount point"));
    assert!(refused(&stack.path("missing")).starts_with("cannot look at "));
    rustix::mount::mount_bind(stack.path("1"), &target).unwrap();
    assert!(refused(&target).contains("of neither an overlay nor EROFS"));
    let none = rustix::mount::UnmountFlags::empty();
    when_free(|| rustix::mount::unmount(&target, none), |error| *error == rustix::io::Errno::BUSY).unwrap();

    mount(&stack.request(&["2", "1"], None), &target).unwrap();
    symlink("target", stack.path("link")).unwrap();
    assert!(refused(&stack.path("link")).ends_with("is not a mount point"));
    assert!(refused(&target.join("f")).ends_with("is not a mount point"));
    let open = fs::File::open(target.join("f")).unwrap();
    assert!(refused(&target).contains("in use"));
    umount(&target, true).unwrap();
    assert_eq!(names(&target), ["/"]);
    drop(open);
}

/// `layflat mount IMAGE TARGET`, twice, then writable, and `layflat umount`.
fn program(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    // An ordinary user may not be able to go where the fixture and the program lie.
    let image = stack.path("image.tar");
    fs::write(&image, include_bytes!("../../fixtures/four-layers.tar")).unwrap();
    let (cache, target) = (stack.path("cache"), stack.target());
    for name in ["upper", "work"] {
        stack.dir(name);
    }
    let run = |arguments: &[&OsStr]| layflat(&stack).args(arguments).output().unwrap();
    let mounts = |arguments: &[&OsStr]| {
        let output = run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stderr).unwrap()
    };
    let unmounts = || by_layflat(|| run(&["umount".as_ref(), target.as_ref()]));
    let marks = OsStr::new(if namespace == User { "--xattr-namespace=user" } else { "--xattr-namespace=trusted" });
    let mount: &[&OsStr] = &["mount".as_ref(), image.as_ref(), target.as_ref(), marks];
    let forms = || names(&cache).into_iter().filter(|name| name.ends_with("layflat.json")).count();
    for _ in 0..2 {
        assert!(mounts(mount).ends_with(&format!("mounted on {}, read-only, by overlayfs\n", target.display())));
        assert_eq!(names(&target), ["/", "b"]);
        fs::write(target.join("new"), "").unwrap_err();
        unmounts();
        assert_eq!(names(&target), ["/"]);
        assert_eq!(forms(), 1, "unpacked once");
    }
    let (upper, work) = (stack.path("upper"), stack.path("work"));
    let upper_options: &[&OsStr] = &["--upper".as_ref(), upper.as_ref(), "--work".as_ref(), work.as_ref()];
    assert!(mounts(&[mount, upper_options].concat()).ends_with("writable, by overlayfs\n"));
    fs::write(target.join("new"), "").unwrap();
    unmounts();
    assert_eq!(names(&upper), ["/", "new"]);
}

/// The program, with its cache under `cache`.
fn layflat(stack: &Stack) -> Command {
    let mut command = Command::new(program_path());
    command.env("XDG_CACHE_HOME", stack.path("cache"));
    command
}

/// What a mount of an image through the cache says.
fn mounted_through_cache(stack: &Stack, namespace: XattrNamespace, image: &Path, more: &[&str]) -> (bool, String) {
    let marks = if namespace == User { "--xattr-namespace=user" } else { "--xattr-namespace=trusted" };
    let output = layflat(stack).args(["mount", marks]).args(more).arg(image).arg(stack.target()).output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

fn damaged_cache(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    let image = stack.path("image.tar");
    fs::write(&image, include_bytes!("../../fixtures/four-layers.tar")).unwrap();
    let mount = || {
        let (done, said) = mounted_through_cache(&stack, namespace, &image, &[]);
        assert!(done, "{said}");
        assert_eq!(names(&stack.target()), ["/", "b"]);
        umount(&stack.target(), true).unwrap();
        said
    };
    assert!(!mount().contains("damaged"));
    assert!(!mount().contains("damaged"));
    let form = || {
        let images = stack.path("cache/layflat/images");
        fs::read_dir(images).unwrap().next().unwrap().unwrap().path()
    };
    let top = || {
        let description = fs::read(form().join("layflat.json")).unwrap();
        let description: serde_json::Value = serde_json::from_slice(&description).unwrap();
        form().join(description["lowerdir"][0].as_str().unwrap())
    };
    let layer = || top().parent().unwrap().to_owned();
    let file = || {
        let files = walkdir::WalkDir::new(stack.path("cache/layflat/layers")).into_iter().flatten();
        let mut trees = files.filter(|file| file.path().components().any(|part| part.as_os_str() == "tree"));
        trees.find(|file| file.file_type().is_file() && file.metadata().unwrap().len() > 0).unwrap().into_path()
    };
    let damages: [(&str, &dyn Fn()); 11] = [
        ("layflat.json", &|| fs::remove_file(form().join("layflat.json")).unwrap()),
        ("layflat.json", &|| fs::write(form().join("layflat.json"), "").unwrap()),
        ("another version", &|| {
            let path = form().join("layflat.json");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replace("\"format\": 2", "\"format\": 99")).unwrap();
        }),
        ("No such file", &|| fs::remove_dir_all(top()).unwrap()),
        // Its bytes are written after its name has changed the directory.
        ("\"more\" was changed last", &|| fs::write(top().join("more"), "more").unwrap()),
        // As a power loss leaves it, and as old as it was.
        ("bytes instead of", &|| {
            let path = file();
            let before = fs::metadata(&path).unwrap().modified().unwrap();
            fs::write(&path, "").unwrap();
            fs::File::open(&path).unwrap().set_modified(before).unwrap();
        }),
        ("contents were changed", &|| {
            let path = file();
            let length = fs::metadata(&path).unwrap().len() as usize;
            let before = fs::metadata(&path).unwrap().modified().unwrap();
            fs::write(&path, vec![0; length]).unwrap();
            fs::File::open(&path).unwrap().set_modified(before).unwrap();
        }),
        ("layer.json", &|| fs::remove_file(layer().join("layer.json")).unwrap()),
        ("record-2 was changed", &|| {
            fs::write(layer().join("record-2"), "").unwrap();
            fs::remove_dir_all(form()).unwrap();
        }),
        ("is missing", &|| fs::remove_dir_all(layer()).unwrap()),
        ("Not a directory", &|| {
            fs::remove_dir_all(top()).unwrap();
            fs::write(top(), "").unwrap();
        }),
    ];
    for (expected, damage) in damages {
        clock::passes(&file());
        damage();
        let said = mount();
        assert!(said.contains("were damaged (") && said.contains(expected), "{expected}: {said}");
        assert!(!mount().contains("damaged"), "once");
    }
}

/// Two images with the layers `lower` and `middle` in common, and one each. The topmost ones give a file of the lowest another
/// name, and delete something of the middle one.
fn two_images(stack: &Stack) -> [PathBuf; 2] {
    let archive = |name: &str, fill: &dyn Fn(&mut tar::Builder<Vec<u8>>)| {
        let mut layer = tar::Builder::new(Vec::new());
        fill(&mut layer);
        fs::write(stack.path(name), layer.into_inner().unwrap()).unwrap();
    };
    let file = |layer: &mut tar::Builder<Vec<u8>>, name: &str, content: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o640);
        header.set_mtime(1_000_000_000);
        layer.append_data(&mut header, name, content.as_bytes()).unwrap();
    };
    let link = |layer: &mut tar::Builder<Vec<u8>>, name: &str, to: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Link);
        header.set_size(0);
        layer.append_link(&mut header, name, to).unwrap();
    };
    archive("lower.tar", &|layer| {
        file(layer, "d/e/file", "of the lowest layer");
        file(layer, "d/other", "other");
    });
    archive("middle.tar", &|layer| {
        file(layer, "m/1", "one");
        file(layer, "m/2", "two");
        link(layer, "m/linked", "d/other");
    });
    for name in ["one", "two"] {
        archive(&format!("{name}.tar"), &|layer| {
            file(layer, name, name);
            link(layer, &format!("link-{name}"), "d/e/file");
            link(layer, "again", "d/other");
            file(layer, "m/.wh.1", "");
        });
    }
    ["one", "two"].map(|name| {
        let layers = ["lower", "middle", name].map(|layer| stack.path(&format!("{layer}.tar")).display().to_string());
        let to = format!("oci:{}", stack.path(&format!("image-{name}")).display());
        let from = format!("layers:{}", layers.join(","));
        let done = layflat(stack).args(["copy", "--quiet", &from, &to]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        stack.path(&format!("image-{name}"))
    })
}

fn in_cache(stack: &Stack, group: &str) -> Vec<(String, u64)> {
    let entries = fs::read_dir(stack.path("cache/layflat").join(group)).unwrap().flatten();
    let mut names: Vec<(String, u64)> =
        entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().ino())).collect();
    names.sort();
    names
}

/// Mounts an image by way of the cache, compares it with the flat tree, and gives what was said.
fn mounts_right(stack: &Stack, namespace: XattrNamespace, image: &Path) -> String {
    let (done, said) = mounted_through_cache(stack, namespace, image, &[]);
    assert!(done, "{said}");
    let flat = stack.path("flat");
    let output = layflat(stack).args(["flatten", "--quiet", "--replace", "--no-cache"]).args([image, &flat]).output();
    assert!(output.unwrap().status.success());
    let differences = compare(&stack.target(), &flat, &CompareOptions::default()).unwrap();
    assert!(differences.is_empty(), "{differences:?}");
    umount(&stack.target(), true).unwrap();
    said
}

fn shared_layers(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    let [one, two] = two_images(&stack);
    mounts_right(&stack, namespace, &one);
    let before = in_cache(&stack, "layers");
    assert_eq!(before.len(), 3);
    // Those below are not unpacked again, and not even read.
    for file in walkdir::WalkDir::new(two.join("blobs")).into_iter().flatten() {
        let length = file.metadata().unwrap().len();
        let shared = ["lower.tar", "middle.tar"].iter().any(|name| {
            let layer = fs::read(stack.path(name)).unwrap();
            fs::read(file.path()).is_ok_and(|bytes| bytes == layer)
        });
        if shared {
            fs::write(file.path(), vec![0; length as usize]).unwrap();
        }
    }
    let (done, said) = mounted_through_cache(&stack, namespace, &two, &[]);
    assert!(done, "{said}");
    umount(&stack.target(), true).unwrap();
    let [_, two] = two_images(&stack);
    mounts_right(&stack, namespace, &two);
    let after = in_cache(&stack, "layers");
    assert_eq!(after.len(), 4);
    assert!(before.iter().all(|layer| after.contains(layer)), "{before:?} {after:?}");
    assert_eq!(in_cache(&stack, "images").len(), 2);
    // A damaged one is mended for both.
    let lowest = walkdir::WalkDir::new(stack.path("cache/layflat/layers")).into_iter().flatten();
    let lowest =
        lowest.map(walkdir::DirEntry::into_path).find(|path| path.ends_with("tree/d/e/file") && !path.is_symlink());
    fs::write(lowest.unwrap(), "").unwrap();
    assert!(mounts_right(&stack, namespace, &two).contains("damaged"));
    assert!(!mounts_right(&stack, namespace, &one).contains("damaged"));
}

fn one_unpacks(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    let [one, two] = two_images(&stack);
    let start = |number: usize| {
        let image = if number.is_multiple_of(2) { &one } else { &two };
        let target = stack.path(&format!("target-{number}"));
        fs::create_dir(&target).unwrap();
        let marks = if namespace == User { "--xattr-namespace=user" } else { "--xattr-namespace=trusted" };
        let mut command = layflat(&stack);
        command.args(["mount", marks]).args([image, &target]).stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<_> = (0..8).map(start).collect();
    for process in running {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for number in 0..8 {
        let target = stack.path(&format!("target-{number}"));
        assert_eq!(fs::read_to_string(target.join("again")).unwrap(), "other");
        umount(&target, true).unwrap();
    }
    assert_eq!(in_cache(&stack, "layers").len(), 4);
    assert_eq!(in_cache(&stack, "images").len(), 2);
}

fn killed(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    let [one, _] = two_images(&stack);
    // A layer of many files, so that there is something to be killed in.
    let mut layer = tar::Builder::new(Vec::new());
    for number in 0..3000 {
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        layer.append_data(&mut header, format!("many/{number}"), &b"x"[..]).unwrap();
    }
    fs::write(stack.path("many.tar"), layer.into_inner().unwrap()).unwrap();
    let from = format!("layers:{},{}", stack.path("lower.tar").display(), stack.path("many.tar").display());
    let to = stack.path("image-many");
    let copied = layflat(&stack).args(["copy", "-q", &from, &format!("oci:{}", to.display())]).status();
    assert!(copied.unwrap().success());
    for delay in [5, 20, 40, 60, 80, 120, 200] {
        let marks = if namespace == User { "--xattr-namespace=user" } else { "--xattr-namespace=trusted" };
        let mut process = layflat(&stack).args(["mount", marks]).arg(&to).arg(stack.target()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        process.kill().unwrap();
        process.wait().unwrap();
        let _ = umount(&stack.target(), true);
    }
    // The next one that unpacks something there sweeps.
    mounts_right(&stack, namespace, &to);
    mounts_right(&stack, namespace, &one);
    let names: Vec<String> = in_cache(&stack, "layers").into_iter().map(|(name, _)| name).collect();
    assert!(names.iter().all(|name| name.starts_with("sha256-")), "{names:?}");
}

/// But for the record of each mount, which is for other machines.
fn unwritten(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    let [one, _] = two_images(&stack);
    mounts_right(&stack, namespace, &one);
    let times = || {
        let files = walkdir::WalkDir::new(stack.path("cache")).into_iter().flatten();
        files
            .filter(|file| !file.path().components().any(|part| part.as_os_str() == "mounts"))
            .map(|file| (file.metadata().unwrap(), file.into_path()))
            .map(|(status, path)| (path, status.mtime(), status.mtime_nsec(), status.ctime(), status.ctime_nsec()))
            .collect::<Vec<_>>()
    };
    let before = times();
    mounts_right(&stack, namespace, &one);
    assert_eq!(times(), before);
}

fn remembered_losses(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    // A genuine 0:0 device is a whiteout to overlayfs.
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Char);
    header.set_device_major(0).unwrap();
    header.set_device_minor(0).unwrap();
    header.set_size(0);
    header.set_mode(0o644);
    layer.append_data(&mut header, "device", &[][..]).unwrap();
    let image = stack.path("layer.tar");
    fs::write(&image, layer.into_inner().unwrap()).unwrap();
    let reference = PathBuf::from(format!("layers:{}", image.display()));
    for _ in 0..2 {
        let (done, said) = mounted_through_cache(&stack, namespace, &reference, &[]);
        assert!(done && said.contains("0:0"), "{said}");
        umount(&stack.target(), true).unwrap();
        let (done, said) = mounted_through_cache(&stack, namespace, &reference, &["--strict"]);
        assert!(!done && said.contains("0:0"), "{said}");
    }
}

/// Removing the old tree would remove what is mounted in it, which may be anybody's.
fn replaced_with_mount(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    let image = stack.path("image.tar");
    fs::write(&image, include_bytes!("../../fixtures/four-layers.tar")).unwrap();
    stack.file("precious/sub/file", "content");
    stack.file("single", "content");
    let tree = stack.path("tree");
    for point in ["inside", "deep/down/inside"] {
        for command in ["flatten", "layers", "bundle"] {
            fs::create_dir_all(tree.join(point)).unwrap();
            fs::write(tree.join("other"), "").unwrap();
            mount_bind(stack.path("precious"), tree.join(point)).unwrap();
            let output = layflat(&stack).args([command, "--replace"]).arg(&image).arg(&tree).output().unwrap();
            let message = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{command}");
            assert!(message.contains(point) && message.contains("mounted in it"), "{command}: {message}");
            assert_eq!(fs::read_to_string(stack.path("precious/sub/file")).unwrap(), "content");
            assert!(tree.join("other").exists(), "nothing was done");
            unmount(tree.join(point), UnmountFlags::DETACH).unwrap();
        }
    }
    // A single file can be a mount point, too.
    fs::write(tree.join("file"), "").unwrap();
    mount_bind(stack.path("single"), tree.join("file")).unwrap();
    let output = layflat(&stack).args(["flatten", "--replace"]).arg(&image).arg(&tree).output().unwrap();
    assert!(!output.status.success());
    unmount(tree.join("file"), UnmountFlags::DETACH).unwrap();
    // Not what removes trees in any other way, either.
    mount_bind(stack.path("precious"), tree.join("inside")).unwrap();
    let reference = image.to_str().unwrap().parse().unwrap();
    let image = layflat::transport::source::open(&reference, &Default::default()).unwrap();
    let options = layflat::Options { replace: true, ..Default::default() };
    let refused = layflat::flatten(&image, &tree, &options, &layflat::NoProgress).unwrap_err();
    assert!(Chain(&refused).to_string().contains("mounted in it"), "{refused}");
    layflat::remove_tree(&tree);
    assert_eq!(fs::read_to_string(stack.path("precious/sub/file")).unwrap(), "content");
    unmount(tree.join("inside"), UnmountFlags::DETACH).unwrap();
}

/// The program under test; beside this one if that was copied to where an ordinary user can go.
fn program_path() -> PathBuf {
    let beside = std::env::current_exe().unwrap().with_file_name("layflat");
    if beside.exists() { beside } else { assert_cmd::cargo::cargo_bin!("layflat").to_path_buf() }
}

fn mount_flags(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    for layer in ["1", "2"] {
        stack.dir(layer);
    }
    let target = stack.target();
    for method in METHODS {
        for asked in [false, true] {
            let mut request = stack.request(&["2", "1"], Some(method));
            (request.options.nodev, request.options.nosuid) = (asked, asked);
            mount(&request, &target).unwrap();
            let name = target.as_os_str().as_bytes();
            let mounts = fs::read("/proc/thread-self/mountinfo").unwrap();
            let line = mounts
                .split(|&byte| byte == b'\n')
                .find(|line| line.split(|&byte| byte == b' ').any(|field| field == name))
                .unwrap();
            let line = OsStr::from_bytes(line).to_str().unwrap();
            assert!(line.split(' ').nth(5).unwrap().split(',').any(|flag| flag == "ro"), "{line}");
            for flag in ["nodev", "nosuid"] {
                assert_eq!(line.contains(flag), asked, "{method:?}: {line}");
            }
            assert!(line.contains(" overlay layflat ") && line.contains("redirect_dir=nofollow"), "{line}");
            assert!(!line.contains("metacopy=on"), "{line}");
            assert_eq!(line.contains("userxattr"), namespace == User, "{line}");
            unmounted(&target);
        }
    }
}

fn hard_links(namespace: XattrNamespace) {
    let stack = Stack::new(namespace);
    stack.file("1/a", "A");
    fs::hard_link(stack.path("1/a"), stack.path("1/b")).unwrap();
    fs::hard_link(stack.path("1/a"), stack.path("1/c")).unwrap();
    stack.file("2/b", "B");
    stack.file("expected/a", "A");
    fs::hard_link(stack.path("expected/a"), stack.path("expected/c")).unwrap();
    stack.file("expected/b", "B");
    stack.mounted(&["2", "1"], None, |target| {
        assert_eq!(fs::metadata(target.join("a")).unwrap().nlink(), 3, "a name that is hidden counts");
        assert_eq!(stack.differences(target, &stack.path("expected")), [""; 0]);
    });
}

/// In the first user namespace there is nothing to refuse.
fn trusted_in_user_namespace(_: XattrNamespace) {
    if in_user_namespace() {
        let stack = Stack::new(Trusted);
        for layer in ["1", "2"] {
            stack.dir(layer);
        }
        let error = mount(&stack.request(&["2", "1"], None), &stack.target())
            .map_err(|error| Chain(&error).to_string())
            .unwrap_err();
        assert!(error.contains("deleted files would reappear"), "{error}");
        assert!(error.contains("for the namespace `user`"), "{error}");
    }
}
