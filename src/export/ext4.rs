//! The flat image: everything that the stack shows, as one ext4 image, without a tree being unpacked for it.

use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Instant;

use sha2::Digest as _;

use super::entries::{Spooled, of_layer};
use super::tool::Tool;
use crate::core::digest::Digest;
use crate::core::record::ContentId;
use crate::core::stack::Stack;
use crate::core::tar::Fragment;
use crate::ext4::{self, Ext4Error, Lost, Plan, Size};
use crate::fs::Output;
use crate::image::Image;
use crate::unpack::stage::Contents;
use crate::unpack::{Error, LossKind, Losses, Made, Options, Progress, Report, Seconds, io, reading, report};

/// What looks at an image that was made, where it is installed.
const CHECKER: Tool = Tool { program: "e2fsck", package: "e2fsprogs" };

/// What a user decides about an ext4 file system.
#[derive(Debug, Clone, Default)]
pub struct Ext4 {
    /// How large it is.
    pub size: Size,
    /// Its label, of at most 16 bytes.
    pub label: Vec<u8>,
    /// Its UUID. If there is none, it follows from the ChainID, so that it is always the same for the same layers.
    pub uuid: Option<[u8; 16]>,
}

/// Writes everything that an image's layers show together as one ext4 image, which can be mounted and written to, and booted from. The
/// same image and options give the same bytes, however many jobs there are. Owners, modes, devices and extended attributes are the
/// image's, whoever writes it. `output` must be able to seek.
///
/// Until the image is written, the contents of all files lie beside it, in files that have no name there. Then `e2fsck` reads it, if that
/// is installed.
///
/// # Errors
/// A damaged or hostile image, a digest that is not what the image states, a size that is too small, an output that cannot be written,
/// and whatever `e2fsck` finds.
pub fn flat_ext4(
    image: &Image,
    ext4: &Ext4,
    output: &Output,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, Error> {
    let started = Instant::now();
    let path = output.path().ok_or_else(|| Error::Product("the image can only be made in a file".into()))?;
    let spooled = Spooled::read(image, &output.scratch(), &|_| true, options, progress)?;
    let read = started.elapsed().as_secs_f64();
    let stack = Stack::replay_shown(&spooled.records, reading(options))?;
    let whole = stack.whole();
    let mut losses = Losses::default();
    let contents = Kept(&spooled.contents);
    let chain_id = spooled.layers.last().map(|layer| &layer.chain_id);
    let how = ext4::Options {
        size: ext4.size,
        uuid: ext4.uuid.unwrap_or_else(|| identity(chain_id, "UUID")),
        hash_seed: identity(chain_id, "hash seed"),
        label: ext4.label.clone(),
        selinux: options.selinux,
        cancel: options.cancel.clone(),
    };
    let plan = Plan::new(&stack, &whole, &contents, &how, &mut |lost, path| {
        losses.add(kind_of(lost), lost.detail(), path);
    })?;
    losses.merge(spooled.losses);
    let file = output.file();
    file.set_len(plan.bytes()).map_err(io("cannot write the image"))?;
    plan.write(&mut |at, bytes| file.write_all_at(bytes, at))?;
    if CHECKER.is_installed() {
        CHECKER.run(Command::new(CHECKER.program).arg("-fn").arg(&path), &options.cancel)?;
    }
    let total = started.elapsed().as_secs_f64();
    let seconds = Seconds { read, settle: total - read, total };
    report(image, "ext4", spooled.layers, Made::of(&stack, [&whole]), losses, seconds, options)
}

/// What looks like chance and always is the same for the same layers: a UUID of version 8, whose meaning is the maker's.
fn identity(chain_id: Option<&Digest>, what: &str) -> [u8; 16] {
    let text = format!("layflat ext4 {what} {}", chain_id.map(Digest::to_string).unwrap_or_default());
    let mut id = [0; 16];
    id.copy_from_slice(&sha2::Sha256::digest(text.as_bytes())[..16]);
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    id
}

fn kind_of(lost: &Lost<'_>) -> LossKind {
    match lost {
        Lost::Xattr { name, .. } if name.starts_with(b"system.posix_acl_") => LossKind::Acl,
        Lost::Xattr { .. } => LossKind::Xattr,
        Lost::Time => LossKind::Time,
        Lost::HardLink => LossKind::HardLink,
    }
}

impl From<Ext4Error> for Error {
    fn from(error: Ext4Error) -> Self {
        match error {
            Ext4Error::Cancelled => Self::Cancelled,
            Ext4Error::Write(error) => Self::Io { action: "cannot write the image".to_owned(), error },
            error => Self::Product(error.into()),
        }
    }
}

/// Spooled contents, by layer.
struct Kept<'a>(&'a [Option<Contents>]);

impl ext4::Contents for Kept<'_> {
    fn fragments(&self, layer: usize, content: ContentId) -> std::io::Result<(u64, &[Fragment])> {
        Ok(of_layer(self.0, layer)?.stored(content))
    }

    fn read(&self, layer: usize, at: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        of_layer(self.0, layer)?.read_at(at, buffer)
    }
}
