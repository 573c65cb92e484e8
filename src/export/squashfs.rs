//! The flat image as SquashFS: `sqfstar` reads it as an archive, so that it has every owner, mode, device and attribute, whoever makes it.
//!
//! What `sqfstar` takes no notice of is the entry for the root: its root has the caller's owner and no attributes. So the tree is archived one
//! directory lower, and then that directory is made the root.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::entries::{Change, Spooled, Whiteouts, write_changed};
use super::squashfs_root::promote;
use super::tool::Tool;
use crate::core::layer::{Holder, has_namespace, kept_in_image};
use crate::core::record::{Attributes, ChangeKind, LayerPath, Xattrs};
use crate::core::stack::{Difference, Stack, What};
use crate::core::text::{Printable, Timestamp};
use crate::fs::Output;
use crate::image::Image;
use crate::unpack::{Error, LossKind, Losses, Made, Options, Progress, Report, Seconds, reading, report};

const MAKER: Tool = Tool { program: "sqfstar", package: "squashfs-tools, from 4.5 on" };
/// It comes with the same package, so it is required: an image that nothing has read is not called done.
const CHECKER: Tool = Tool { program: "unsquashfs", package: "squashfs-tools" };
/// The directory that becomes the root.
const ROOT: &[u8] = b"root";
/// The last second that a file's time can be.
const LATEST: i64 = u32::MAX as i64;

/// Makes a SquashFS image that holds what an image's layers show together, by `sqfstar`, at [`Output::path`].
///
/// Until the image is written, the contents of all files lie beside it, in files that have no name there.
///
/// # Errors
/// A damaged or hostile image, and a tool that is missing or fails, or that finds the image damaged.
pub fn flat_squashfs(
    image: &Image,
    output: &Output,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, Error> {
    // Before anything is read: are they there?
    MAKER.require()?;
    CHECKER.require()?;
    let path = output.path().ok_or_else(|| Error::Product("the image can only be made in a file".into()))?;
    let started = Instant::now();
    let spooled = Spooled::read(image, &output.scratch(), &|_| true, options, progress)?;
    let read = started.elapsed().as_secs_f64();
    let stack = Stack::replay_shown(&spooled.records, reading(options))?;
    let whole = stack.whole();
    let (mut losses, newest) = survey(&stack, &whole, options);
    losses.merge(spooled.losses);
    if options.strict
        && let Some(first) = losses.clone().into_list().first()
    {
        return Err(first.refused());
    }
    let below = |path: LayerPath| Some(LayerPath::of_components([ROOT].into_iter().chain(path.components())));
    let change = Change {
        path: &below,
        attributes: &|what, attributes| fitted(attributes, holder(&stack, *what), options, &mut |_, _| {}),
    };
    let empty = output.file();
    empty.set_len(0).map_err(crate::unpack::io("cannot write the image"))?;
    MAKER.feed(&command(&path, newest), &options.cancel, |input| {
        let input = BufWriter::with_capacity(256 << 10, input);
        let writer =
            write_changed(input, &stack, &whole, &spooled.contents, (Whiteouts::None, Some(&change)), options)?;
        let (mut input, _) = writer.finish().map_err(crate::unpack::io("cannot write the archive"))?;
        input.flush().map_err(crate::unpack::io("cannot write the archive"))
    })?;
    let file = File::options().read(true).write(true).open(&path);
    let promoted = file.and_then(|file| promote(&file));
    promoted.map_err(crate::unpack::io("cannot set the root of the image"))?;
    // Goes through all directories, whose tables are the last to be written.
    CHECKER.run(Command::new(CHECKER.program).args(["-strict-errors", "-lls"]).arg(&path), &options.cancel)?;
    let total = started.elapsed().as_secs_f64();
    let seconds = Seconds { read, settle: total - read, total };
    report(image, "squashfs", spooled.layers, Made::of(&stack, [&whole]), losses, seconds, options)
}

/// Nothing in it depends on when or where it is run. The time of the image is the newest of its files' times: with an earlier one it
/// would change theirs.
fn command(image: &Path, newest: i64) -> Command {
    let mut command = Command::new(MAKER.program);
    command.args(["-exit-on-error", "-force", "-no-progress", "-quiet", "-comp", "gzip"]).arg(image);
    command.env("SOURCE_DATE_EPOCH", newest.to_string());
    command
}

/// What the image does not hold, and its newest time.
fn survey(stack: &Stack<'_>, whole: &Difference, options: &Options) -> (Losses, i64) {
    let mut losses = Losses::default();
    let mut newest = 0;
    for (index, entry) in whole.entries().iter().enumerate() {
        let attributes = match entry.what {
            What::Directory { attributes, .. } => stack.directory_attributes(attributes),
            What::Leaf(inode) => match stack.origin(inode).1.kind.attributes() {
                Some(attributes) => std::borrow::Cow::Borrowed(attributes),
                None => continue,
            },
            What::Whiteout => continue,
        };
        let mut lost = |kind, detail: String| losses.add(kind, detail, || stack.path(whole, index));
        newest = fitted(&attributes, holder(stack, entry.what), options, &mut lost).mtime.seconds.max(newest);
    }
    (losses, newest)
}

/// The attributes as far as SquashFS, and the archive that `sqfstar` reads, hold them (rule A4).
fn fitted(
    attributes: &Attributes,
    holder: Holder,
    options: &Options,
    lost: &mut dyn FnMut(LossKind, String),
) -> Attributes {
    let seconds = attributes.mtime.seconds.clamp(0, LATEST);
    if seconds != attributes.mtime.seconds {
        lost(LossKind::Time, format!("squashfs holds 0 to {LATEST}"));
    } else if attributes.mtime.nanoseconds > 0 {
        lost(LossKind::Time, "squashfs holds whole seconds".to_owned());
    }
    let mut kept: Vec<(&[u8], Vec<u8>)> = Vec::new();
    for (name, value) in attributes.xattrs.iter() {
        if name == b"security.selinux" && !options.selinux {
            continue;
        }
        let kind = if name.starts_with(b"system.posix_acl_") { LossKind::Acl } else { LossKind::Xattr };
        match kept_in_image(holder, name, value, attributes.mode) {
            Ok(None) => {}
            Err(why) => lost(kind, format!("{}: {why}", Printable(name))),
            // SquashFS has no ACLs.
            Ok(Some(_)) if kind == LossKind::Acl || !has_namespace(name) => {
                lost(kind, format!("{}: squashfs has none", Printable(name)));
            }
            Ok(Some(_)) if name.iter().any(|byte| b"=%\n".contains(byte)) => {
                lost(kind, format!("{}: sqfstar cannot read such a name", Printable(name)));
            }
            Ok(Some(value)) => kept.push((name, value.into_owned())),
        }
    }
    let mtime = Timestamp { seconds, nanoseconds: 0 };
    let xattrs: Xattrs = kept.into_iter().collect();
    Attributes { mtime, atime: mtime, xattrs, ..*attributes }
}

fn holder(stack: &Stack<'_>, what: What) -> Holder {
    match what {
        What::Directory { .. } => Holder::Directory,
        What::Whiteout => Holder::Special,
        What::Leaf(inode) => match stack.origin(inode).1.kind {
            ChangeKind::File { .. } | ChangeKind::LinkSource { .. } => Holder::File,
            ChangeKind::Symlink { .. } => Holder::Symlink,
            _ => Holder::Special,
        },
    }
}
