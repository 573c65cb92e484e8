//! Unpacks into one root file system: the second step folds the directories of all layers into one.

use std::path::Path;

use super::copies::Copies;
use super::settle::{Finish, Settler, fullest};
use super::{Ground, RESULT, io, replay_shown, settle_error, stage_name};
use crate::fs::Work;
use crate::image::Image;
use crate::unpack::{Error, Made, Options, Progress, Report};

/// Unpacks an image as one root file system in the directory `destination`.
///
/// The destination appears whole or not at all (rule S2). It must not be there yet, or be empty, unless
/// [`Options::replace`] is set; the directory that it is to be in must be there.
///
/// ```
/// use layflat::transport::source::OpenOptions;
/// use layflat::{NoProgress, Options};
///
/// let image = layflat::open(&"fixtures/four-layers.tar".parse()?, &OpenOptions::default())?;
/// let place = tempfile::tempdir()?;
/// let rootfs = place.path().join("rootfs");
/// let report = layflat::flatten(&image, &rootfs, &Options::default(), &NoProgress)?;
/// assert_eq!(std::fs::read(rootfs.join("b"))?, b"this is b\n");
/// // What could not be preserved is reported: owners, for an ordinary user.
/// for loss in &report.not_kept {
///     println!("{}: {} {}", loss.describe(), loss.count, loss.noun());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A damaged or hostile image, a digest that is not what the image states, a destination that cannot be used or
/// written.
pub fn flatten(image: &Image, destination: &Path, options: &Options, progress: &dyn Progress) -> Result<Report, Error> {
    let work = Work::beside(destination, options.replace, options.durability())?;
    flatten_into(image, work, options, progress)
}

/// The same by a work directory that was made for the destination.
pub(crate) fn flatten_into(
    image: &Image,
    work: Work,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, Error> {
    let mut ground = Ground::prepare(image, work, None, options, progress)?;
    let records = std::mem::take(&mut ground.records);
    let stack = replay_shown(&records, options)?;
    let whole = stack.whole();

    match fullest(&ground.staging.stages) {
        Some(host) => {
            let mut settler = Settler::new(
                &stack,
                &records,
                &mut ground.staging,
                Finish::Flat,
                Copies::of(&ground.layers, &options.limits),
                options,
            );
            settler.settle(host, &whole).map_err(settle_error)?;
            let losses = settler.losses;
            ground.losses.push(losses);
            rustix::fs::renameat(ground.work.directory(), stage_name(host), ground.work.directory(), RESULT)
                .map_err(io("cannot move the result"))?;
        }
        // Without layers there is still a root.
        None => drop(ground.work.make(RESULT).map_err(io("cannot make the result"))?),
    }
    let capabilities = ground.staging.capabilities.clone();
    let root = stack.root_attributes(&whole);
    let (mut report, work) = ground.report(image, "flat", Made::of(&stack, [&whole]), None, options)?;
    // Once more where it lies now: a mode that forbids to move it had to wait, and in a mount point it is another
    // directory.
    report.destination = work.publish(RESULT, |directory| capabilities.set_root(directory, &root))?;
    Ok(report)
}
