//! Writes the flat tree as one tar archive.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use super::entries::{Spooled, Whiteouts, write_entries};
use crate::core::stack::Stack;
use crate::image::Image;
use crate::unpack::{Error, Made, Options, Progress, Report, Seconds, io, reading, report};

/// Writes everything that an image's layers show together as one tar archive: entries sorted by path, the root's first,
/// each hard link after the name that has the content. The same image and options give the same bytes, however many
/// jobs there are.
///
/// Until the archive is written, the contents of all files lie in `scratch`, a directory, in files that have no name
/// there.
///
/// # Errors
/// A damaged or hostile image, a digest that is not what the image states, an output that cannot be written.
pub fn flat_archive(
    image: &Image,
    output: impl Write,
    scratch: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, Error> {
    let started = Instant::now();
    let spooled = Spooled::read(image, scratch, &|_| true, options, progress)?;
    let read = started.elapsed().as_secs_f64();
    let stack = Stack::replay_shown(&spooled.records, reading(options))?;
    let whole = stack.whole();
    let writer = write_entries(output, &stack, &whole, &spooled.contents, Whiteouts::None, options)?;
    writer.finish().map_err(io("cannot write the end of the archive"))?;
    let total = started.elapsed().as_secs_f64();
    let seconds = Seconds { read, settle: total - read, total };
    report(image, "tar", spooled.layers, Made::of(&stack, [&whole]), spooled.losses, seconds, options)
}
