//! What the kernel shows of a stack through EROFS images: one for the whole stack, or one for each layer under an overlay.
//!
//! The contents of files lie in the images themselves, or in a device for each layer that this module makes from contents in memory.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::OnceLock;

use layflat::XattrNamespace;
use layflat::core::chain::Chain;
use layflat::core::layer::{Failure, Place, ReadOptions, Sink, Unkept, read_layer};
use layflat::core::record::{Attributes, ContentId, NameId, Names, Record};
use layflat::core::stack::{Difference, Reading, Stack};
use layflat::erofs::{BlockSize, Contents, Device, Lost, Options, Piece, Plan, Shape};
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

use super::run::Scratch;
use super::tree::Tree;

/// Where the images are made.
const PLACE: &str = "/tmp";

/// Where contents lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// In the image, in blocks of 4096 bytes.
    Carried,
    /// In a device for each layer, in blocks of 512 bytes, as far as they can be addressed there.
    Devices,
}

/// The contents of the layers' files, in memory.
#[derive(Debug, Default)]
pub struct Memory {
    layers: Vec<LayerMemory>,
    pub place: Option<Where>,
}

#[derive(Debug, Default)]
struct LayerMemory {
    /// As they would lie in a device: every piece at a multiple of 512.
    bytes: Vec<u8>,
    files: Vec<Vec<Piece>>,
}

impl Sink for LayerMemory {
    type Error = std::convert::Infallible;

    fn begin(
        &mut self,
        _: &Names,
        _: NameId,
        _: &Attributes,
        _: u64,
        _: Place,
    ) -> Result<ContentId, Failure<Self::Error>> {
        self.files.push(Vec::new());
        Ok(ContentId(self.files.len() as u32 - 1))
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure<Self::Error>> {
        let pieces = self.files.last_mut().unwrap();
        let length = bytes.len() as u64;
        match pieces.last_mut() {
            Some(last) if last.logical + last.length == offset => last.length += length,
            _ => {
                self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
                pieces.push(Piece { logical: offset, length, device: 0, offset: self.bytes.len() as u64 });
            }
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self, _: &Attributes) -> Result<(), Failure<Self::Error>> {
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        Ok(())
    }

    fn unkept(&mut self, _: NameId, _: Unkept) {}
}

impl Contents for Memory {
    fn pieces(&self, layer: usize, content: ContentId, pieces: &mut Vec<Piece>) -> io::Result<()> {
        let own = &self.layers[layer].files[content.0 as usize];
        // What ends within a block, and is not the end of the file, cannot be addressed in a device.
        let aligned = own.iter().all(|piece| piece.logical.is_multiple_of(512))
            && own.iter().rev().skip(1).all(|piece| piece.length.is_multiple_of(512))
            && own.len() <= 1;
        let device = if self.place == Some(Where::Devices) && aligned { layer as u16 + 1 } else { Piece::CARRIED };
        pieces.extend(own.iter().map(|&piece| Piece { device, ..piece }));
        Ok(())
    }

    fn read(&self, layer: usize, _: ContentId, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        buffer.copy_from_slice(&self.layers[layer].bytes[offset as usize..][..buffer.len()]);
        Ok(())
    }
}

/// Whether EROFS images can be mounted here, tried once.
pub fn can_mount() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        if !super::run::is_root() {
            return false;
        }
        let record = [Record::default()];
        let stack = Stack::replay(&record, Reading::default()).unwrap();
        let whole = stack.whole();
        let options = Options { block_size: BlockSize::Sector, ..Options::new(Shape::Merged) };
        let memory = Memory::default();
        let plan = Plan::new(&stack, &whole, &memory, &options, &mut |_, _| {}).unwrap();
        let tried = image(&plan).and_then(|file| mount(&file, &[]));
        if let Err(error) = &tried {
            eprintln!("EROFS images cannot be mounted: {error}");
        }
        tried.is_ok()
    })
}

/// Layers, read.
#[derive(Debug)]
pub struct Read {
    pub records: Vec<Record>,
    pub memory: Memory,
}

/// Reads layers' archives.
pub fn read(archives: &[Vec<u8>]) -> Result<Read, String> {
    let (mut records, mut memory) = (Vec::new(), Memory::default());
    for archive in archives {
        let mut layer = LayerMemory::default();
        let record = read_layer(&mut &archive[..], &mut layer, &ReadOptions::default(), &mut |_| {});
        records.push(record.map_err(|error| Chain(&error).to_string())?);
        memory.layers.push(layer);
    }
    Ok(Read { records, memory })
}

/// What the kernel shows of layers' archives.
pub fn show(archives: &[Vec<u8>], shape: Shape, place: Where) -> Result<Tree, String> {
    let mut read = read(archives)?;
    read.memory.place = Some(place);
    let stack = Stack::replay(&read.records, Reading::default()).map_err(|error| Chain(&error).to_string())?;
    let device_files: Vec<File> = match place {
        Where::Carried => Vec::new(),
        Where::Devices => read.memory.layers.iter().map(|layer| file_of(&layer.bytes).unwrap()).collect(),
    };
    let devices: Vec<Device> =
        device_files.iter().map(|file| Device { tag: [0; 64], bytes: file.metadata().unwrap().len() }).collect();
    let block_size = if place == Where::Carried { BlockSize::Page } else { BlockSize::Sector };
    let jobs = NonZero::new(2).unwrap();
    let options = Options { block_size, devices, jobs, ..Options::new(shape) };
    let mounted = |difference: &Difference| -> Result<OwnedFd, String> {
        let plan = plan(&stack, difference, &read.memory, &options)?;
        let file = image(&plan).map_err(|error| error.to_string())?;
        // It would be started for each of hundreds of layers.
        if archives.len() < 100 {
            fsck(&file, &device_files, block_size)?;
        }
        mount(&file, &device_files).map_err(|error| format!("mount: {error}"))
    };
    let root = match shape {
        Shape::Merged => mounted(&stack.whole())?,
        Shape::Layered(namespace) => {
            let layers = stack.layers().iter().rev().filter(|difference| !difference.entries().is_empty());
            let mut lower = layers.map(&mounted).collect::<Result<Vec<_>, _>>()?;
            while lower.len() < 2 {
                lower.push(mounted(&Difference::default())?);
            }
            overlay(&lower, namespace).map_err(|error| format!("overlay: {error}"))?
        }
    };
    Ok(look(&root))
}

fn plan<'a, 'r>(
    stack: &'a Stack<'r>,
    difference: &'a Difference,
    memory: &'a Memory,
    options: &'a Options,
) -> Result<Plan<'a, 'r>, String> {
    let mut lost = |_: &Lost<'_>, _: &dyn Fn() -> layflat::core::record::LayerPath| {};
    Plan::new(stack, difference, memory, options, &mut lost).map_err(|error| Chain(&error).to_string())
}

/// An image in a file without a name.
pub fn image(plan: &Plan<'_, '_>) -> io::Result<File> {
    let mut bytes = Vec::new();
    plan.write(&mut bytes).map_err(io::Error::other)?;
    assert_eq!(bytes.len() as u64, plan.bytes(), "an image is as long as was planned");
    let mut again = Vec::new();
    plan.write(&mut again).map_err(io::Error::other)?;
    assert!(bytes == again, "written again, it has other bytes");
    file_of(&bytes)
}

fn file_of(bytes: &[u8]) -> io::Result<File> {
    let file = tempfile::tempfile_in(PLACE)?;
    file.write_all_at(bytes, 0)?;
    Ok(file)
}

fn path_of(file: &File) -> CString {
    CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()
}

/// A mount that is nowhere.
pub fn mount(image: &File, devices: &[File]) -> io::Result<OwnedFd> {
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", path_of(image))?;
    for device in devices {
        fsconfig_set_string(context.as_fd(), "device", path_of(device))?;
    }
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?)
}

fn overlay(lower: &[OwnedFd], namespace: XattrNamespace) -> io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in lower {
        fsconfig_set_fd(context.as_fd(), "lowerdir+", layer.as_fd())?;
    }
    fsconfig_set_string(context.as_fd(), "redirect_dir", "nofollow")?;
    fsconfig_set_string(context.as_fd(), "metacopy", "off")?;
    if namespace == XattrNamespace::User {
        rustix::mount::fsconfig_set_flag(context.as_fd(), "userxattr")?;
    }
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?)
}

fn look(root: &OwnedFd) -> Tree {
    Tree::of_directory(Mounted::new(root).path())
}

/// What an image shows that carries all contents.
pub fn tree_of(bytes: &[u8]) -> Tree {
    Tree::of_directory(mounted(bytes).path())
}

/// An image that carries all contents, mounted.
pub fn mounted(bytes: &[u8]) -> Mounted {
    let file = file_of(bytes).unwrap();
    fsck(&file, &[], BlockSize::Page).unwrap();
    Mounted::new(&mount(&file, &[]).unwrap())
}

/// A mount that goes when this is dropped.
pub struct Mounted(Scratch);

impl Mounted {
    pub fn new(root: &OwnedFd) -> Self {
        let place = Scratch::new(Path::new(PLACE));
        move_mount(root.as_fd(), "", CWD, &place.0, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).unwrap();
        Self(place)
    }

    pub fn path(&self) -> &Path {
        &self.0.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.0.0, UnmountFlags::DETACH).unwrap();
    }
}

/// What `fsck.erofs` says, where there is one that knows such blocks.
fn fsck(image: &File, devices: &[File], block_size: BlockSize) -> Result<(), String> {
    if !super::tools::is_installed("fsck.erofs") || (block_size == BlockSize::Sector && !knows_sectors()) {
        return Ok(());
    }
    let path = |file: &File| format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let mut command = std::process::Command::new("fsck.erofs");
    command.args(devices.iter().map(|device| format!("--device={}", path(device))));
    // To read all contents takes too long where there are gigabytes of holes.
    if image.metadata().unwrap().len() < 1 << 20 {
        command.arg("--extract");
    }
    let output = command.arg(path(image)).output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(format!("fsck.erofs: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// Whether `fsck.erofs` knows blocks of 512 bytes: since erofs-utils 1.6.
fn knows_sectors() -> bool {
    static KNOWS: OnceLock<bool> = OnceLock::new();
    *KNOWS.get_or_init(|| {
        let output = std::process::Command::new("fsck.erofs").arg("-V").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // "fsck.erofs 1.5", or "fsck.erofs (erofs-utils) 1.8.6".
        let version = said.split_whitespace().find_map(|word| {
            let (major, minor) = word.split_once('.')?;
            let minor = minor.split('.').next()?;
            Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
        });
        version.is_some_and(|version| version >= (1, 6))
    })
}
