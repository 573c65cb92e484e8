//! EROFS images whose contents lie in other files, mounted from those files: no loop device, and nothing unpacked
//! (Documentation/filesystems/erofs.rst; images in plain files since Linux 6.12).
//!
//! One image shows a whole stack, and needs no overlay. Several are the layers of an overlay, and one below an upper directory is its only layer. Layers
//! are handed over as descriptors of mounts that are nowhere, so that nothing else is mounted meanwhile.
//!
//! The image itself must lie on a file system with a block device below it; what contents lie in may be anywhere. Where it does not, and on older
//! kernels, loop devices help.

use super::context::{Context, Failure, attach};
use super::directory::LowerDirectory;
use super::erofsfuse;
use super::error::MountError;
use super::layout;
use super::options::LONGEST_STRING;
use super::request::{Method, MountOptions, MountRequest, Mounted, mount, mount_nowhere, open_target};
use crate::core::overlayfs::XattrNamespace;
use crate::fs::check_guarded;
use crate::lowerdirs::{Checked, FILE_NAME, FileSeal, Layout, LayoutError, Metadata};
use crate::userns::in_user_namespace;
use rustix::io::Errno;
use rustix::mount::fsconfig_create;
use std::fs::File;
use std::io::{self, Seek as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

const FILE_SYSTEM: &str = "erofs";

/// An image, and what its contents lie in.
#[derive(Debug)]
pub struct ErofsImage {
    /// Where the image lies: by this name it is shown in `/proc/self/mounts`, where it fits.
    pub path: PathBuf,
    /// The image, open.
    pub metadata: File,
    /// Its devices, in its order.
    pub devices: Vec<Arc<File>>,
}

/// Images to mount.
#[derive(Debug)]
pub struct ErofsRequest {
    /// Topmost first.
    pub images: Vec<ErofsImage>,
    /// Whether erofsfuse reads them right.
    pub for_erofsfuse: bool,
    /// How to mount them.
    pub options: MountOptions,
}

impl ErofsRequest {
    /// To mount a directory with such a `layflat.json`. Nobody less privileged may be able to write there, nor to what contents lie in (rule C3),
    /// and all of it must be as it was made: a file that is not recognised is read (rule C4).
    ///
    /// # Errors
    /// [`MountError::Layout`], [`MountError::Unguarded`] and [`MountError::NotMeasured`], and files that cannot be read.
    pub fn of_layout(directory: &Path, mut options: MountOptions) -> Result<Self, MountError> {
        let form =
            || LayoutError::Unknown { path: directory.join(FILE_NAME), form: Layout::FORM.to_owned(), format: 1 };
        let layout = layout::read_erofs(directory)?.ok_or_else(form)?;
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| MountError::Directory { action: "open", what: "the file", path, source }
        };
        let directory = directory.canonicalize().map_err(unusable(directory))?;
        check_guarded(&directory.join(FILE_NAME))?;
        let changed = |changed: PathBuf| LayoutError::Changed { path: directory.join(FILE_NAME), changed };
        let check = options.check.clone();
        let open = |path: PathBuf, seal: &FileSeal| -> Result<(PathBuf, File), MountError> {
            let path = path.canonicalize().map_err(unusable(&path))?;
            check_guarded(&path)?;
            let file = File::open(&path).map_err(unusable(&path))?;
            if check.every_byte && seal.verity.is_none() {
                return Err(MountError::NotMeasured(path));
            }
            match seal.check(&file, &check).map_err(unusable(&path))? {
                Checked::Same | Checked::Renewed(_) => Ok((path, file)),
                Checked::Changed => Err(changed(path).into()),
            }
        };
        let mut devices = Vec::new();
        for device in &layout.devices {
            devices.push(Arc::new(open(directory.join(&device.path), &device.seal)?.1));
        }
        let image = |image: &Metadata| {
            let (path, metadata) = open(directory.join(&image.file), &image.seal)?;
            let devices: Option<_> = image.devices.iter().map(|&index| devices.get(index).cloned()).collect();
            let devices = devices.ok_or_else(|| changed(path.clone()))?;
            Ok(ErofsImage { path, metadata, devices })
        };
        let images = layout.images.iter().map(image).collect::<Result<Vec<_>, MountError>>()?;
        // By this the cache knows what an overlay uses.
        let name = directory.join(FILE_NAME).to_str().filter(|name| name.len() <= LONGEST_STRING).map(str::to_owned);
        options.source = options.source.or(name);
        Ok(Self { images, for_erofsfuse: layout.for_erofsfuse, options })
    }

    /// Mounts the images on an existing directory.
    ///
    /// # Errors
    /// [`MountError::NoErofs`] where this kernel cannot, or not with these files; [`MountError::NoErofsfuse`] where that is to mount them, and cannot;
    /// and all of [`mount`](crate::mount::mount()).
    pub fn mount(self, target: &Path) -> Result<Mounted, MountError> {
        match self.options.method {
            None | Some(Method::Erofs) if in_user_namespace() => {
                Err(MountError::NoErofs("the kernel does not mount it in a user namespace".to_owned()))
            }
            None => match Context::open(FILE_SYSTEM) {
                Err(Failure::Final(MountError::NotPermitted)) => self.mount_by_erofsfuse(target).map_err(|other| {
                    let kernel = MountError::NoErofs("the kernel does not let you mount it".to_owned());
                    MountError::neither(kernel, erofsfuse::PROGRAM, other)
                }),
                _ => self.mount_by_kernel(target),
            },
            Some(Method::Erofs) => self.mount_by_kernel(target),
            Some(Method::Erofsfuse) => self.mount_by_erofsfuse(target),
            Some(_) => {
                let why = "these are EROFS images; unpack the layers for another backend";
                Err(MountError::NoErofs(why.to_owned()))
            }
        }
    }

    fn mount_by_kernel(self, target: &Path) -> Result<Mounted, MountError> {
        let mut loops = Vec::new();
        if let Some(image) = self.only_image() {
            let target = open_target(target)?;
            create(image, &self.options, &mut loops).and_then(|mounted| attach(&mounted, &target)).map_err(plainly)?;
            return Ok(Mounted { method: Method::Erofs, writable: false });
        }
        let mounted = mount(&self.into_overlay(&mut loops)?, target)?;
        Ok(Mounted { method: Method::Erofs, ..mounted })
    }

    fn mount_by_erofsfuse(&self, target: &Path) -> Result<Mounted, MountError> {
        let no = |why: &str| MountError::NoErofsfuse(why.to_owned());
        let image = self.only_image().ok_or_else(|| no("mounts one image, read-only, and nothing over that"))?;
        if !self.for_erofsfuse {
            return Err(MountError::NotForErofsfuse);
        }
        erofsfuse::mount(image, &self.options, &open_target(target)?)?;
        Ok(Mounted { method: Method::Erofsfuse, writable: false })
    }

    /// The same as a mount that is nowhere: it goes with its descriptor.
    ///
    /// # Errors
    /// As for [`ErofsRequest::mount`].
    pub(crate) fn mount_nowhere(self) -> Result<OwnedFd, MountError> {
        let mut loops = Vec::new();
        match self.only_image() {
            Some(image) => create(image, &self.options, &mut loops).map_err(plainly),
            None => mount_nowhere(&self.into_overlay(&mut loops)?),
        }
    }

    /// The same of one image and nothing over it, from the files alone: no copy elsewhere and no loop devices.
    ///
    /// # Errors
    /// As for [`ErofsRequest::mount`].
    #[cfg(feature = "containerd")]
    pub(crate) fn mount_nowhere_from_files(self) -> Result<OwnedFd, MountError> {
        let image = self.only_image().ok_or_else(|| MountError::NoErofs("there is not one image alone".to_owned()))?;
        create_from_files(image, &self.options).map_err(plainly)
    }

    /// The same on an existing directory that nothing is mounted on.
    ///
    /// # Errors
    /// As for [`ErofsRequest::mount`].
    #[cfg(feature = "containerd")]
    pub(crate) fn mount_from_files(self, target: &Path) -> Result<(), MountError> {
        let target = open_target(target)?;
        attach(&self.mount_nowhere_from_files()?, &target).map_err(plainly)
    }

    /// The image, where there is nothing to merge it with.
    fn only_image(&self) -> Option<&ErofsImage> {
        match (self.images.as_slice(), &self.options.upper) {
            ([image], None) => Some(image),
            _ => None,
        }
    }

    /// An overlay of the images' own mounts.
    fn into_overlay(self, loops: &mut Vec<Loop>) -> Result<MountRequest, MountError> {
        let lower = self.images.iter().map(|image| {
            // What is not to work there does not in the overlay.
            let mounted = create(image, &MountOptions::default(), loops).map_err(plainly)?;
            Ok(LowerDirectory::of_mount(mounted, &image.path))
        });
        let lower = lower.collect::<Result<Vec<_>, MountError>>()?;
        let options = MountOptions { method: Some(Method::FdLayers), ..self.options };
        Ok(MountRequest { lower, namespace: XattrNamespace::Trusted, options })
    }
}

fn plainly(failure: Failure) -> MountError {
    let (Failure::Unknown(error) | Failure::Final(error)) = failure;
    error
}

/// Makes a mount that is nowhere yet: of the files, else of a copy of the image where it can be mounted from, else of loop devices, which go with the
/// mount.
fn create(image: &ErofsImage, options: &MountOptions, loops: &mut Vec<Loop>) -> Result<OwnedFd, Failure> {
    let first = match create_from_files(image, options) {
        Err(Failure::Unknown(error)) => error,
        done => return done,
    };
    let devices = descriptors(&image.devices);
    if is_without_device(&image.metadata)
        && let Some(copy) = copy_elsewhere(&image.metadata)
        && let Ok(mounted) = create_from(&descriptor(&copy), &devices, options)
    {
        return Ok(mounted);
    }
    let from = loops.len();
    for file in std::iter::once(&image.metadata).chain(image.devices.iter().map(AsRef::as_ref)) {
        match Loop::make(file) {
            Some(made) => loops.push(made),
            None => return Err(Failure::Unknown(first)),
        }
    }
    let names: Vec<String> = loops[from..].iter().map(|made| made.0.clone()).collect();
    let (source, devices) = names.split_first().ok_or(Failure::Unknown(first))?;
    create_from(source, devices, options)
}

fn create_from_files(image: &ErofsImage, options: &MountOptions) -> Result<OwnedFd, Failure> {
    let named = image.path.to_str().filter(|name| name.len() <= LONGEST_STRING);
    let source = named.map_or_else(|| descriptor(&image.metadata), str::to_owned);
    create_from(&source, &descriptors(&image.devices), options)
}

fn descriptors(devices: &[Arc<File>]) -> Vec<String> {
    devices.iter().map(|device| descriptor(device)).collect()
}

fn descriptor(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn create_from(source: &str, devices: &[String], options: &MountOptions) -> Result<OwnedFd, Failure> {
    let context = Context::open(FILE_SYSTEM)?;
    // Else loop devices would have to be writable.
    context.set("ro", None)?;
    context.set("source", Some(source))?;
    for device in devices {
        context.set("device", Some(device))?;
    }
    fsconfig_create(&context.0).map_err(|errno| match errno {
        Errno::NOTBLK => {
            let why = "this kernel, or the file system that the image lies on, wants a block device".to_owned();
            Failure::Unknown(MountError::NoErofs(why))
        }
        _ => context.failure("the EROFS image", errno, |errno, _| matches!(errno, Errno::INVAL | Errno::OPNOTSUPP)),
    })?;
    context.mount(options, true)
}

/// `TMPFS_MAGIC`, `RAMFS_MAGIC` and `OVERLAYFS_SUPER_MAGIC`, include/uapi/linux/magic.h.
const WITHOUT_DEVICE: [u32; 3] = [0x0102_1994, 0x8584_58f6, 0x794c_7630];

/// Whether a file lies on a file system that no image can be mounted from.
fn is_without_device(file: &File) -> bool {
    // the type of the field differs by architecture, its value does not
    rustix::fs::fstatfs(file).is_ok_and(|status| WITHOUT_DEVICE.contains(&(status.f_type as u32)))
}

/// A copy without a name, which goes with the mount, on the first file system that can be mounted from.
fn copy_elsewhere(image: &File) -> Option<File> {
    let places = [std::env::temp_dir(), "/var/tmp".into(), "/var/lib".into()];
    places.iter().find_map(|place| {
        let mut copy = tempfile::tempfile_in(place).ok().filter(|copy| !is_without_device(copy))?;
        let mut image = image.try_clone().ok()?;
        image.rewind().ok()?;
        io::copy(&mut image, &mut copy).ok()?;
        Some(copy)
    })
}

/// A loop device. The mount keeps it when this is dropped.
#[derive(Debug)]
struct Loop(String);

impl Loop {
    /// By losetup(8): the kernel's interface cannot be had without unsafe code.
    fn make(file: &File) -> Option<Self> {
        let inherited = rustix::io::dup(file).ok()?;
        let mut command = Command::new("losetup");
        command.args(["--find", "--show", "--read-only"]).arg(format!("/proc/self/fd/{}", inherited.as_raw_fd()));
        let output = command.stdin(Stdio::null()).output().ok().filter(|output| output.status.success())?;
        Some(Self(String::from_utf8(output.stdout).ok()?.trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // One that is in use goes with its last user.
        let _ = Command::new("losetup").args(["--detach", &self.0]).stdin(Stdio::null()).status();
    }
}
