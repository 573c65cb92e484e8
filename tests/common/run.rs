//! What becomes of a stack in each form: unpacked by layflat, and, for overlay layers, mounted by the kernel.
//!
//! Root mounts in a mount namespace of its own. An ordinary user's trees are mounted by this same program, started once
//! more in a user namespace, which prints what it sees.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use layflat::blob::Blob;
use layflat::core::chain::Chain;
use layflat::image::{Image, Layer};
use layflat::lowerdirs::Layout;
use layflat::unpack::{SettledLayer, Underneath, record_name};
use layflat::{NoProgress, Options, Report, XattrNamespace};
use rustix::fs::{FileType, Mode};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::tar;
use super::text::{Layer as TextLayer, Stack};
use super::tree::{Shape, Tree};

/// The word that makes this program print what a form shows, seen from inside a user namespace: there the caller may
/// look into directories whose modes forbid it outside.
const SHOW: &str = "--show-form";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Flat,
    Overlay(XattrNamespace),
}

/// What this process may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Power {
    /// Root: everything, in a mount namespace of its own.
    Root,
    /// An ordinary user who may make user namespaces.
    User,
    /// An ordinary user who may not, and why.
    Nothing(String),
}

/// What came out.
#[derive(Debug)]
pub struct Laid {
    pub tree: Tree,
    pub report: Report,
    /// For overlay layers: each layer's own directory, as a listing.
    pub layers: Vec<String>,
    pub layout: Option<Layout>,
}

static POWER: OnceLock<Power> = OnceLock::new();
static TMPFS: OnceLock<PathBuf> = OnceLock::new();
static SHARED: OnceLock<PathBuf> = OnceLock::new();

/// To be called first in `main`, while there is one thread.
pub fn begin() -> Power {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let [_, show, place] = arguments.as_slice()
        && show == SHOW
    {
        let place = Path::new(place);
        let form = if place.join(layflat::lowerdirs::FILE_NAME).exists() {
            Form::Overlay(XattrNamespace::User)
        } else {
            Form::Flat
        };
        let (tree, layers) = look(place, form);
        println!("{tree}\n{}", layers.join("\n"));
        std::process::exit(0);
    }
    let power = if rustix::process::geteuid().is_root() && !layflat::userns::in_user_namespace() {
        own_namespace()
    } else {
        user_namespace()
    };
    POWER.get_or_init(|| power).clone()
}

/// To be called last in `main`: takes away what the process has made for all its tests.
pub fn end() {
    if let Some(tmpfs) = TMPFS.get() {
        let _ = rustix::mount::unmount(tmpfs, UnmountFlags::DETACH);
        let _ = std::fs::remove_dir(tmpfs);
    }
    if let Some(shared) = SHARED.get() {
        layflat::remove_tree(shared);
    }
}

pub fn power() -> &'static Power {
    POWER.get().expect("main calls begin")
}

/// Whether this is root, with mounts that nobody else sees.
pub fn is_root() -> bool {
    *power() == Power::Root
}

/// Runs a test in a mount namespace of its own, if this is root. A namespace begins as a copy of another one: without this, what a test mounts would also
/// be in those that the tests beside it make at the time, and be in use there after it was unmounted here.
///
/// It is a thread's: `/proc/thread-self` tells of it, and `/proc/self` of that of the first thread.
pub fn with_own_mounts<T: Send>(name: &str, test: impl FnOnce() -> T + Send) -> T {
    if !is_root() {
        return test();
    }
    std::thread::scope(|scope| {
        let alone = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            test()
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, alone).unwrap();
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A directory for what several tests use, which goes with the process.
pub fn shared() -> &'static Path {
    SHARED.get_or_init(|| tempfile::tempdir().unwrap().keep())
}

fn own_namespace() -> Power {
    let made = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .map_err(std::io::Error::from)
        .and_then(|()| {
            Ok(rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
        })
        .and_then(|()| {
            let place = tempfile::tempdir()?.keep();
            rustix::mount::mount("tmpfs", &place, "tmpfs", MountFlags::empty(), c"mode=1777")?;
            TMPFS.get_or_init(|| place);
            Ok(())
        });
    match made {
        Ok(()) => Power::Root,
        Err(error) => Power::Nothing(format!("no mount namespace: {error}")),
    }
}

fn user_namespace() -> Power {
    match Command::new("unshare").args(["--map-root-user", "--mount", "true"]).output() {
        Ok(output) if output.status.success() => Power::User,
        Ok(output) => Power::Nothing(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Power::Nothing(format!("unshare: {error}")),
    }
}

/// A directory on a tmpfs that goes with the process; only for root.
pub fn tmpfs() -> &'static Path {
    TMPFS.get().expect("root has a tmpfs")
}

/// A directory of its own, removed when it is dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(base: &Path) -> Self {
        let mode = std::fs::Permissions::from_mode(0o777);
        let made = tempfile::Builder::new().prefix("layflat-test-").permissions(mode).tempdir_in(base);
        Self(made.unwrap().keep())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        layflat::remove_tree(&self.0);
    }
}

/// An image of bare layers.
pub fn image(archives: impl IntoIterator<Item = Vec<u8>>) -> Image {
    let layer = |bytes| Layer::bare(Blob::from_bytes(bytes));
    Image {
        name: None,
        manifest: None,
        config: None,
        layers: archives.into_iter().map(layer).collect(),
        notices: Vec::new(),
    }
}

/// Unpacks a stack and looks at it.
pub fn lay(stack: &Stack, form: Form, base: &Path, options: &Options) -> Result<Laid, String> {
    lay_image(&image_of(stack), form, base, options)
}

/// A stack as an image of bare layers.
pub fn image_of(stack: &Stack) -> Image {
    image(stack.0.iter().map(|layer: &TextLayer| tar::archive(layer)))
}

/// Unpacks an image and looks at it.
pub fn lay_image(image: &Image, form: Form, base: &Path, options: &Options) -> Result<Laid, String> {
    let scratch = Scratch::new(base);
    let place = scratch.0.join("tree");
    let report = match form {
        Form::Flat => layflat::flatten(image, &place, options, &NoProgress),
        Form::Overlay(namespace) => {
            let options = Options { xattr_namespace: Some(namespace), ..options.clone() };
            layflat::layers(image, &place, &options, &NoProgress)
        }
    }
    .map_err(|error| Chain(&error).to_string())?;
    let layout = matches!(form, Form::Overlay(_)).then(|| layout(&place));
    let (tree, layers) = match power() {
        Power::User => look_from_inside(&place),
        _ => look(&place, form),
    };
    Ok(Laid { tree, report, layers, layout })
}

/// Unpacks a stack by way of a cache, for which its layers but the topmost one were unpacked before, and looks at the mount.
pub fn lay_cached(stack: &Stack, namespace: XattrNamespace, base: &Path) -> Result<Tree, String> {
    let scratch = Scratch::new(base);
    let mut image = image_of(stack);
    for (layer, text) in image.layers.iter_mut().zip(&stack.0) {
        layer.diff_id = Some(layflat::core::digest::Digest::sha256_of(&tar::archive(text)));
    }
    let options = Options { xattr_namespace: Some(namespace), ..Options::default() };
    let unpack = |image: &Image| {
        let kept = layflat::unpack::cached::overlay(image, &scratch.0.join("cache"), &options, &NoProgress);
        kept.map_err(|error| error.to_string())
    };
    let top = image.layers.pop();
    unpack(&image)?;
    image.layers.extend(top);
    let kept = unpack(&image)?;
    let mountpoint = scratch.0.join("mount");
    std::fs::create_dir(&mountpoint).unwrap();
    let mounted = layflat::mount::mount_layout(kept.path(), &mountpoint, layflat::mount::MountOptions::default());
    mounted.map_err(|error| error.to_string())?;
    let tree = Tree::of_directory(&mountpoint);
    rustix::mount::unmount(&mountpoint, UnmountFlags::DETACH).unwrap();
    Ok(own(tree))
}

/// Unpacks a stack layer by layer, each over the directories of those below it, and looks at the mount.
pub fn lay_over(stack: &Stack, namespace: XattrNamespace, base: &Path) -> Result<Tree, String> {
    let scratch = Scratch::new(base);
    let options = Options { xattr_namespace: Some(namespace), ..Options::default() };
    let mut lower = Vec::new();
    for (number, layer) in image_of(stack).layers.iter().enumerate() {
        let upper = scratch.0.join(number.to_string());
        // As who keeps unpacked layers hands it over.
        std::fs::create_dir(&upper).unwrap();
        layflat::unpack::layer_over(layer, &lower, &upper, &options).map_err(|error| Chain(&error).to_string())?;
        lower.insert(0, upper);
    }
    let (empty, mountpoint) = (scratch.0.join("empty"), scratch.0.join("mount"));
    std::fs::create_dir(&empty).unwrap();
    std::fs::create_dir(&mountpoint).unwrap();
    // Overlayfs mounts no single lowerdir.
    lower.push(empty);
    Ok(show_lower(&lower, &mountpoint, namespace))
}

/// Unpacks a stack as systemd's mount stack, and mounts it as systemd 262 does: what follows `layer@`, sorted by number, bottom first, with
/// `userxattr`; names that begin with a dot do not count, and others are refused.
pub fn lay_mstack(stack: &Stack, base: &Path) -> Result<Tree, String> {
    let scratch = Scratch::new(base);
    let (place, mountpoint) = (scratch.0.join("image.mstack"), scratch.0.join("mount"));
    layflat::mstack(&image_of(stack), &place, &Options::default(), &NoProgress)
        .map_err(|error| Chain(&error).to_string())?;
    let names = std::fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let number = |name: &str| -> u32 {
        let (number, _) = name.strip_prefix("layer@").unwrap_or_else(|| panic!("{name}")).split_once('-').unwrap();
        number.parse().unwrap()
    };
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort_by_key(|name| std::cmp::Reverse(number(name)));
    let lower: Vec<PathBuf> = names.iter().map(|name| place.join(name)).collect();
    // Of a single one systemd makes a bind mount, where escaped attributes are not what they mean.
    if lower.len() < 2 {
        return Err(format!("fewer than two layers: {names:?}"));
    }
    std::fs::create_dir(&mountpoint).unwrap();
    Ok(show_lower(&lower, &mountpoint, XattrNamespace::User))
}

/// Unpacks a stack in two steps, as who has all layers at the same time: the topmost is staged first, and the lowest settled
/// first. Of the layers whose bit is set in `unknown` nothing is kept but the directory, as of those that others have made.
pub fn lay_staged(stack: &Stack, namespace: XattrNamespace, base: &Path, unknown: u64) -> Result<Tree, String> {
    let scratch = Scratch::new(base);
    let options = Options { xattr_namespace: Some(namespace), ..Options::default() };
    let (error, staged) =
        (|error| Chain(&error).to_string(), |number: usize| scratch.0.join(format!("{number}.staged")));
    let layers = image_of(stack).layers;
    for (number, layer) in layers.iter().enumerate().rev() {
        layflat::unpack::stage_layer(layer, &staged(number), &options).map_err(error)?;
    }
    let mut below = Underneath::default();
    let mut lower = Vec::new();
    for number in 0..layers.len() {
        let directory = scratch.0.join(number.to_string());
        std::fs::create_dir(&directory).unwrap();
        layflat::unpack::settle_layer(&staged(number), &below, &directory, &options).map_err(error)?;
        lower.insert(0, directory.clone());
        if unknown & (1 << number) == 0 {
            below.settled.push(SettledLayer { directory, record: staged(number).join(record_name()) });
        } else {
            below = Underneath { lower: lower.clone(), settled: Vec::new() };
        }
    }
    let (empty, mountpoint) = (scratch.0.join("empty"), scratch.0.join("mount"));
    std::fs::create_dir(&empty).unwrap();
    std::fs::create_dir(&mountpoint).unwrap();
    // Overlayfs mounts no single lowerdir.
    lower.push(empty);
    Ok(show_lower(&lower, &mountpoint, namespace))
}

/// What a form shows, and, of the overlay layers, each layer's own directory as a listing.
fn look(place: &Path, form: Form) -> (Tree, Vec<String>) {
    let Form::Overlay(namespace) = form else {
        return (own(Tree::of_directory(place)), Vec::new());
    };
    let mountpoint = place.with_file_name("mount");
    std::fs::create_dir(&mountpoint).unwrap();
    let tree = show_overlay(place, &mountpoint, namespace);
    let listing = |layer: &layflat::lowerdirs::LayerDirectory| match &layer.directory {
        Some(directory) => listing(&place.join(directory), namespace),
        None => String::new(),
    };
    (tree, layout(place).layers.iter().map(listing).collect())
}

fn look_from_inside(place: &Path) -> (Tree, Vec<String>) {
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args([OsStr::new(SHOW), place.as_os_str()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines();
    (Tree::parse(lines.next().unwrap()), lines.map(str::to_owned).collect())
}

fn layout(place: &Path) -> Layout {
    serde_json::from_slice(&std::fs::read(place.join("layflat.json")).unwrap()).unwrap()
}

/// Mounts unpacked overlay layers with mount(2) and looks at them.
fn show_overlay(place: &Path, mountpoint: &Path, namespace: XattrNamespace) -> Tree {
    let lower: Vec<PathBuf> = layout(place).lowerdir.iter().map(|directory| place.join(directory)).collect();
    show_lower(&lower, mountpoint, namespace)
}

/// Mounts lower directories, the topmost first, and looks at them.
fn show_lower(lower: &[PathBuf], mountpoint: &Path, namespace: XattrNamespace) -> Tree {
    let lower: Vec<&str> = lower.iter().map(|path| path.to_str().unwrap()).collect();
    let mut options = format!("lowerdir={},redirect_dir=nofollow,metacopy=off", lower.join(":"));
    if namespace == XattrNamespace::User {
        options.push_str(",userxattr");
    }
    let options = std::ffi::CString::new(options).unwrap();
    rustix::mount::mount("overlay", mountpoint, "overlay", MountFlags::RDONLY, options.as_c_str())
        .unwrap_or_else(|error| panic!("mount: {error}: {options:?}"));
    let tree = Tree::of_directory(mountpoint);
    rustix::mount::unmount(mountpoint, UnmountFlags::DETACH).unwrap();
    tree
}

/// Names, and overlayfs whiteouts: `d/` a directory, `d/!` an opaque one, `d/?` one with the origin attribute, `-a` a whiteout.
fn listing(root: &Path, namespace: XattrNamespace) -> String {
    let mut words = vec![(Vec::new(), word(root, b"", namespace))];
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        let word = word(entry.path(), &path, namespace);
        words.push((path, word));
    }
    words.sort();
    words.into_iter().map(|(_, word)| word).collect::<Vec<_>>().join(" ")
}

fn word(place: &Path, path: &[u8], namespace: XattrNamespace) -> String {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let metadata = std::fs::symlink_metadata(place).unwrap();
    let name = super::text::escape(path);
    if metadata.file_type().is_char_device() && metadata.rdev() == 0 {
        return format!("-{name}");
    }
    if !metadata.is_dir() {
        return name;
    }
    let has = |mark: &str| xattr::get(place, format!("{}{mark}", namespace.prefix())).unwrap().is_some();
    let opaque = if has("opaque") { "!" } else { "" };
    let origin = if has("origin") { "?" } else { "" };
    format!("{name}/{opaque}{origin}")
}

/// What an ordinary user's tree can be expected to hold: no devices, no privileged attributes, and no set-id bits
/// where the owner is not theirs. Owners are theirs, which `own` has turned into 0:0.
pub fn as_user(mut tree: Tree) -> Tree {
    let caller = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    tree.0.retain(|_, node| {
        !matches!(node.shape, Shape::Block(..) | Shape::Character(1.., _) | Shape::Character(_, 1..))
    });
    for node in tree.0.values_mut() {
        let attributes = &mut node.attributes;
        if (attributes.uid, attributes.gid) != caller {
            attributes.mode &= !0o6000;
        }
        (attributes.uid, attributes.gid) = (0, 0);
        attributes.xattrs.retain(|name, _| !name.starts_with(b"trusted.") && !name.starts_with(b"security."));
    }
    tree.regroup();
    tree
}

/// Makes the caller's ids 0:0, as they are in its user namespace.
fn own(mut tree: Tree) -> Tree {
    let caller = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    for node in tree.0.values_mut() {
        if (node.attributes.uid, node.attributes.gid) == caller {
            (node.attributes.uid, node.attributes.gid) = (0, 0);
        }
    }
    tree
}

/// Whether the kernel lets this user make the whiteouts that overlay layers need.
pub fn can_make_whiteouts() -> bool {
    let scratch = Scratch::new(&std::env::temp_dir());
    let path = scratch.0.join("whiteout");
    rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::CharacterDevice, Mode::empty(), 0).is_ok()
}
