//! The container's files: the image with a throw-away layer in memory on top, what every program expects around it, and
//! what the caller binds.

use std::io::{Error, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, StatVfsMountFlags, chmodat, fstat, fstatvfs, makedev, mknodat, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change,
    mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, pivot_root};

use super::root::Root;
use super::{Container, ContainerError, Network, place};
use crate::bundle::{Mount, Process};
use crate::fs::mounts_in;
use crate::mount::{MountOptions, UpperDirectories, mount_for_process};
use crate::userns::in_user_namespace;

/// Devices that every program may use, with their numbers (Documentation/admin-guide/devices.txt).
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];
/// What the host's network is known by.
const NAMES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// What one is to see of a file that is masked: the container's own.
const NULL: &str = "/dev/null";

/// A container's root file system, mounted where nobody else sees it.
#[derive(Debug)]
pub(super) struct Prepared {
    root: PathBuf,
    /// What is shown of the host: taken before anything could hide it.
    trees: Vec<Tree>,
}

/// A part of the host's files.
#[derive(Debug)]
struct Tree {
    handle: OwnedFd,
    is_directory: bool,
    destination: String,
    read_only: bool,
}

impl Tree {
    fn take(source: &Path, destination: &str, read_only: bool) -> Result<Self, Errno> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let handle = open_tree(CWD, source, flags)?;
        let is_directory = FileType::from_raw_mode(fstat(&handle)?.st_mode) == FileType::Directory;
        Ok(Self { handle, is_directory, destination: destination.to_owned(), read_only })
    }

    fn show(&self, root: &Root) -> Result<(), Errno> {
        let place = root.place(&self.destination, self.is_directory)?;
        attach(&self.handle, &place)?;
        if self.read_only { make_read_only(root, &self.destination) } else { Ok(()) }
    }
}

fn cannot(what: impl Into<String>) -> impl FnOnce(Errno) -> ContainerError {
    let what = what.into();
    |errno| ContainerError::Part { what, error: errno.into() }
}

impl Prepared {
    /// Mounts the image.
    pub(super) fn mount(container: &Container) -> Result<Self, ContainerError> {
        unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| ContainerError::Namespaces(errno.into()))?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .map_err(|errno| ContainerError::Namespaces(errno.into()))?;
        let mut trees = Vec::new();
        // Nodes can only be made outside of user namespaces, and only inside is the container's root no owner of the machine's.
        if in_user_namespace() {
            for (device, ..) in DEVICES {
                let path = format!("/dev/{device}");
                trees.push(Tree::take(Path::new(&path), &path, false).map_err(cannot(path.clone()))?);
            }
        }
        if std::io::stdin().is_terminal() {
            // Without it a program finds no name for its terminal. By its path: the handle is of another mount namespace.
            let terminal = std::fs::read_link("/proc/self/fd/0").ok();
            trees.extend(terminal.and_then(|path| Tree::take(&path, "/dev/console", false).ok()));
        }
        if container.network == Network::Host {
            let name = |path: &&str| Tree::take(Path::new(path), path, true).ok();
            trees.extend(NAMES.iter().filter_map(name));
        }
        for bind in &container.overrides.binds {
            let tree = Tree::take(&bind.source, &bind.destination, bind.read_only);
            trees.push(tree.map_err(cannot(format!("{:?} on {}", bind.source, bind.destination)))?);
        }
        let place = place::choose(&[&container.layout, &container.cache])?;
        let memory = filesystem("tmpfs", &[("mode", Some("755"))], MountAttrFlags::MOUNT_ATTR_NODEV);
        let target = crate::fs::open_path(&place).map_err(cannot(format!("{place:?}")))?;
        memory.and_then(|memory| attach(&memory, &target)).map_err(cannot(format!("memory on {place:?}")))?;
        let [root, upper, work] = ["root", "upper", "work"].map(|name| place.join(name));
        for directory in [&root, &upper, &work] {
            std::fs::create_dir(directory)
                .map_err(|error| ContainerError::Part { what: format!("{directory:?}"), error })?;
        }
        let upper = Some(UpperDirectories { upper, work });
        // The image's device nodes would be the host's devices.
        mount_for_process(&container.layout, &root, MountOptions { upper, nodev: true, ..MountOptions::default() })?;
        Ok(Self { root, trees })
    }

    /// The root directory.
    pub(super) fn root(&self) -> Result<OwnedFd, ContainerError> {
        crate::fs::open_path(&self.root).map_err(cannot("the image"))
    }
}

/// Mounts all else, and enters the root file system. What was mounted around it is gone.
pub(super) fn enter(prepared: Prepared, process: &Process, container: &Container) -> Result<(), ContainerError> {
    let root = Root::new(prepared.root()?);
    for mount in &process.mounts {
        show(&root, mount, container).map_err(cannot(format!("{} on {}", mount.kind, mount.destination)))?;
        if mount.destination == "/dev" {
            let directory = root.place("/dev", true).map_err(cannot("/dev"))?;
            for (name, target) in LINKS {
                symlinkat(target, &directory, name).map_err(cannot(format!("/dev/{name}")))?;
            }
            if !in_user_namespace() {
                for (name, major, minor) in DEVICES {
                    make_device(&directory, name, makedev(major, minor)).map_err(cannot(format!("/dev/{name}")))?;
                }
            }
        }
    }
    let temporary = [("mode", Some("1777"))];
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    filesystem("tmpfs", &temporary, flags)
        .and_then(|memory| attach(&memory, &root.place("/tmp", true)?))
        .map_err(cannot("memory on /tmp"))?;
    for tree in &prepared.trees {
        tree.show(&root).map_err(cannot(&*tree.destination))?;
    }
    for path in &process.read_only_paths {
        read_only_path(&root, path).map_err(cannot(format!("{path} read-only")))?;
    }
    for path in &process.masked_paths {
        mask(&root, path).map_err(cannot(format!("nothing on {path}")))?;
    }
    // As runtimes do, one that is missing is made.
    if process.cwd != "/" {
        root.place(&process.cwd, true)
            .map(drop)
            .or_else(|errno| if errno == Errno::BUSY { Ok(()) } else { Err(errno) })
            .map_err(cannot(format!("the working directory {:?}", process.cwd)))?;
    }
    rustix::system::sethostname(process.hostname.as_bytes()).map_err(cannot("the host name"))?;

    let entered = || {
        chdir(&prepared.root)?;
        pivot_root(".", ".")?;
        unmount(".", UnmountFlags::DETACH)?;
        chdir("/")
    };
    entered().map_err(cannot("the image on /"))?;
    if container.overrides.read_only {
        remount(&crate::fs::open_path(Path::new("/")).map_err(cannot("/"))?, StatVfsMountFlags::RDONLY)
            .map_err(cannot("/ read-only"))?;
    }
    Ok(())
}

/// Mounts what the runtime configuration lists, but for binds, which come last.
fn show(root: &Root, mount: &Mount, container: &Container) -> Result<(), Errno> {
    let options: Vec<&str> = mount.options.iter().flatten().map(String::as_str).collect();
    match mount.kind.as_str() {
        "bind" | "cgroup" => return Ok(()),
        // The throw-away layer holds what is written to a volume, unless it may not be written to.
        "tmpfs" if options.contains(&"tmpcopyup") => {
            if !container.overrides.read_only {
                return Ok(());
            }
            let place = root.place(&mount.destination, true)?;
            let flags =
                OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
            return attach(&open_tree(&place, "", flags)?, &place);
        }
        _ => {}
    }
    let place = root.place(&mount.destination, true)?;
    if options.contains(&"rbind") {
        let tree = Tree::take(Path::new(&mount.source), &mount.destination, true)?;
        return tree.show(root);
    }
    let mut flags = MountAttrFlags::empty();
    let mut data = Vec::new();
    for option in options {
        match option {
            "nosuid" => flags |= MountAttrFlags::MOUNT_ATTR_NOSUID,
            "nodev" => flags |= MountAttrFlags::MOUNT_ATTR_NODEV,
            "noexec" => flags |= MountAttrFlags::MOUNT_ATTR_NOEXEC,
            "ro" => flags |= MountAttrFlags::MOUNT_ATTR_RDONLY,
            "rw" | "relatime" | "strictatime" => {}
            other => data.push(other.split_once('=').map_or((other, None), |(name, value)| (name, Some(value)))),
        }
    }
    let made = match filesystem(&mount.kind, &data, flags) {
        // An id that is not mapped here.
        Err(Errno::INVAL) => {
            data.retain(|(name, _)| !matches!(*name, "gid" | "uid"));
            filesystem(&mount.kind, &data, flags)
        }
        made => made,
    };
    match made {
        // Where parts of /proc are hidden from us already, the kernel shows us no other one.
        Err(Errno::PERM) if mount.kind == "sysfs" => {
            Tree::take(Path::new("/sys"), &mount.destination, true)?.show(root)
        }
        // Nobody needs it who does not know that it may be missing.
        Err(Errno::NODEV) if mount.kind == "mqueue" => Ok(()),
        made => attach(&made?, &place),
    }
}

fn make_device(directory: &OwnedFd, name: &str, device: u64) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(0o666);
    mknodat(directory, name, FileType::CharacterDevice, mode, device)?;
    // Whatever the umask is.
    chmodat(directory, name, mode, AtFlags::empty())
}

/// A file system that is mounted nowhere yet.
fn filesystem(kind: &str, data: &[(&str, Option<&str>)], flags: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let made = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in data {
        match value {
            Some(value) => fsconfig_set_string(&made, *name, *value)?,
            None => fsconfig_set_flag(&made, *name)?,
        }
    }
    fsconfig_create(&made)?;
    fsmount(&made, FsMountFlags::FSMOUNT_CLOEXEC, flags)
}

fn attach(tree: &OwnedFd, place: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", place, "", flags)
}

/// Makes what is mounted at a path read-only, and what is mounted in it.
fn make_read_only(root: &Root, path: &str) -> Result<(), Errno> {
    let Some(top) = root.find(path)? else { return Err(Errno::NOENT) };
    let io = |error: Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let here = std::fs::read_link(format!("/proc/self/fd/{}", top.as_raw_fd())).map_err(io)?;
    for below in mounts_in(&here).map_err(io)? {
        match crate::fs::open(&below, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(mount) => remount(&mount, StatVfsMountFlags::RDONLY)?,
            // Where we may not go nobody in the container may: its root is ours, and what it owns is mapped.
            Err(Errno::ACCESS) => {}
            Err(errno) => return Err(errno),
        }
    }
    remount(&top, StatVfsMountFlags::RDONLY)
}

/// Sets flags of a mount, beside those that it has: a user namespace may not take any away.
fn remount(mount: &impl AsFd, more: StatVfsMountFlags) -> Result<(), Errno> {
    let has = fstatvfs(mount)?.f_flag | more;
    let mut flags = MountFlags::BIND;
    for (flag, set) in [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        flags.set(set, has.contains(flag));
    }
    mount_remount(format!("/proc/self/fd/{}", mount.as_fd().as_raw_fd()), flags, "")
}

fn read_only_path(root: &Root, path: &str) -> Result<(), Errno> {
    let Some(place) = root.find(path)? else { return Ok(()) };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    attach(&open_tree(&place, "", flags)?, &place)?;
    make_read_only(root, path)
}

fn mask(root: &Root, path: &str) -> Result<(), Errno> {
    let Some(place) = root.find(path)? else { return Ok(()) };
    if FileType::from_raw_mode(fstat(&place)?.st_mode) == FileType::Directory {
        let flags = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        return attach(&filesystem("tmpfs", &[("mode", Some("555"))], flags)?, &place);
    }
    let Some(null) = root.find(NULL)? else { return Err(Errno::NOENT) };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    attach(&open_tree(&null, "", flags)?, &place)
}
