//! The flat image: everything that the stack shows, as one EROFS image, without a tree being unpacked for it.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use super::entries::{Spooled, of_layer};
use crate::core::record::ContentId;
use crate::core::stack::Stack;
use crate::erofs::{self, ErofsError, Lost, Piece, Plan, Shape};
use crate::image::Image;
use crate::parallel;
use crate::unpack::stage::Contents;
use crate::unpack::{Error, LossKind, Losses, Made, Options, Progress, Report, Seconds, reading, report};

/// Writes everything that an image's layers show together as one EROFS image, which the kernel mounts as it is. It has no compression.
/// The same image and options give the same bytes, however many jobs there are. Owners, modes, devices and extended attributes
/// are the image's, whoever writes it.
///
/// Until the image is written, the contents of all files lie in `scratch`, a directory, in files that have no name there.
///
/// # Errors
/// A damaged or hostile image, a digest that is not what the image states, more than EROFS can hold, an output that cannot be written.
pub fn flat_erofs(
    image: &Image,
    mut output: impl Write,
    scratch: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, Error> {
    let started = Instant::now();
    let spooled = Spooled::read(image, scratch, &|_| true, options, progress)?;
    let read = started.elapsed().as_secs_f64();
    let stack = Stack::replay_shown(&spooled.records, reading(options))?;
    let whole = stack.whole();
    let mut losses = Losses::default();
    let contents = Carried(&spooled.contents);
    let how = erofs::Options {
        selinux: options.selinux,
        jobs: parallel::jobs(options.jobs, 0),
        cancel: options.cancel.clone(),
        ..erofs::Options::new(Shape::Merged)
    };
    let plan = Plan::new(&stack, &whole, &contents, &how, &mut |lost, path| {
        losses.add(kind_of(lost), lost.detail(), path);
    })?;
    losses.merge(spooled.losses);
    if options.strict {
        // Before a byte is written where it cannot be taken back.
        if let Some(first) = losses.clone().into_list().first() {
            return Err(first.refused());
        }
    }
    plan.write(&mut output)?;
    let total = started.elapsed().as_secs_f64();
    let seconds = Seconds { read, settle: total - read, total };
    report(image, "erofs", spooled.layers, Made::of(&stack, [&whole]), losses, seconds, options)
}

/// What an EROFS image could not hold, as reports call it.
pub(crate) fn kind_of(lost: &Lost<'_>) -> LossKind {
    match lost {
        Lost::Xattr { name, .. } if name.starts_with(b"system.posix_acl_") => LossKind::Acl,
        Lost::Xattr { .. } => LossKind::Xattr,
        Lost::WhiteoutDevice => LossKind::WhiteoutDevice,
        Lost::Time => LossKind::Time,
    }
}

impl From<ErofsError> for Error {
    fn from(error: ErofsError) -> Self {
        match error {
            ErofsError::Cancelled => Self::Cancelled,
            ErofsError::Write(error) => Self::Io { action: "cannot write the image".to_owned(), error },
            error => Self::Product(error.into()),
        }
    }
}

/// Spooled contents, by layer, that the image is to carry.
struct Carried<'a>(&'a [Option<Contents>]);

impl erofs::Contents for Carried<'_> {
    fn pieces(&self, layer: usize, content: ContentId, pieces: &mut Vec<Piece>) -> std::io::Result<()> {
        let contents = of_layer(self.0, layer)?;
        let (mut offset, fragments) = contents.stored(content);
        for fragment in fragments {
            let (logical, length) = (fragment.offset, fragment.length);
            pieces.push(Piece { logical, length, device: Piece::CARRIED, offset });
            offset += length;
        }
        Ok(())
    }

    fn read(&self, layer: usize, _: ContentId, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        of_layer(self.0, layer)?.read_at(offset, buffer)
    }
}
