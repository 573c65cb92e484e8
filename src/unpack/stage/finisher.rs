//! The second half of making a file: its content, its attributes, and closing it.
//!
//! For a small file that is more work than what comes before, and nothing has to wait for it. Where there is a
//! processor to spare, another thread does it, a batch of files at a time.

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::Mode;
use rustix::io::Errno;

use super::{Capabilities, StageError, trying};
use crate::core::layer::Failure;
use crate::core::record::{Attributes, NameId};
use crate::parallel::{self, Thread};
use crate::unpack::Losses;

/// Files in a batch, at most: open handles, of which a process has few.
const FILES: usize = 16;
/// Bytes of content in a batch.
const CONTENT: usize = 256 << 10;
/// Batches on their way.
const WAITING: usize = 2;

/// A file that was created and has neither content nor attributes.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) name: NameId,
    pub(super) file: OwnedFd,
    /// The mode that it was created with.
    pub(super) mode: Mode,
    pub(super) size: u64,
}

/// Files to be finished, with their contents one after the other.
#[derive(Debug, Default)]
struct Batch {
    files: Vec<(Unfinished, Attributes, Range<usize>)>,
    content: Vec<u8>,
}

impl Batch {
    /// How much of the content belongs to its files; what follows is the next one's.
    fn taken(&self) -> usize {
        self.files.last().map_or(0, |(_, _, content)| content.end)
    }
}

/// What the thread ends with.
type Outcome = Result<Losses<NameId>, Failure<StageError>>;

/// The thread that finishes files.
#[derive(Debug)]
pub(super) struct Finisher {
    filling: Batch,
    /// Files in a batch.
    most: usize,
    emptied: Receiver<Batch>,
    /// Until it is stopped.
    running: Option<(Sender<Batch>, Thread<Outcome>)>,
}

impl Finisher {
    /// None, where there cannot be a thread.
    pub(super) fn start(capabilities: Capabilities, handles: usize) -> Option<Self> {
        let (batches, received) = bounded::<Batch>(WAITING);
        let (give_back, emptied) = bounded::<Batch>(WAITING + 2);
        let thread = parallel::spawn(move || {
            let mut losses = Losses::default();
            for mut batch in received {
                for (unfinished, attributes, content) in batch.files.drain(..) {
                    let name = unfinished.name;
                    finish(unfinished, &attributes, &batch.content[content], &capabilities, &mut losses)
                        .map_err(|error| Failure { name, error })?;
                }
                batch.content.clear();
                // If there is no room it is dropped.
                drop(give_back.try_send(batch));
            }
            Ok(losses)
        });
        let most = (handles / (WAITING + 2)).clamp(1, FILES);
        Some(Self { filling: Batch::default(), most, emptied, running: Some((batches, thread.ok()?)) })
    }

    /// Whether a file of that size is for the thread.
    pub(super) fn takes(size: u64) -> bool {
        size <= CONTENT as u64 / 4
    }

    /// Takes the next piece of the content of the file that comes next.
    pub(super) fn content(&mut self, bytes: &[u8]) {
        self.filling.content.extend_from_slice(bytes);
    }

    /// Takes back the content of a file that will be finished another way.
    pub(super) fn take_content(&mut self) -> Vec<u8> {
        self.filling.content.split_off(self.filling.taken())
    }

    /// Takes a file all of whose content was given; `false` if the thread has stopped, and [`Finisher::stop`] says why.
    pub(super) fn take(&mut self, unfinished: Unfinished, attributes: &Attributes) -> bool {
        let start = self.filling.taken();
        self.filling.files.push((unfinished, attributes.clone(), start..self.filling.content.len()));
        if self.filling.files.len() < self.most && self.filling.content.len() < CONTENT {
            return true;
        }
        let next = self.emptied.try_recv().unwrap_or_default();
        let full = std::mem::replace(&mut self.filling, next);
        self.running.as_ref().is_some_and(|(batches, _)| batches.send(full).is_ok())
    }

    /// Finishes what is left.
    pub(super) fn stop(mut self) -> Outcome {
        let Some((batches, thread)) = self.running.take() else {
            return Ok(Losses::default());
        };
        // If the thread has stopped before, its own error says why.
        drop(batches.send(std::mem::take(&mut self.filling)));
        drop(batches);
        thread.join().unwrap_or_else(|| Ok(Losses::default()))
    }
}

/// However a layer ends, nothing of it is written after that.
impl Drop for Finisher {
    fn drop(&mut self) {
        if let Some((batches, thread)) = self.running.take() {
            drop(batches);
            // Whoever drops it without stopping it has an error of their own.
            drop(thread.join());
        }
    }
}

fn finish(
    unfinished: Unfinished,
    attributes: &Attributes,
    content: &[u8],
    capabilities: &Capabilities,
    losses: &mut Losses<NameId>,
) -> Result<(), StageError> {
    write_at(unfinished.file.as_fd(), 0, content)?;
    set(&unfinished, content.len() as u64, attributes, capabilities, losses)
}

/// Gives a file whose content is written its size, of which `written` bytes are there, and its attributes.
pub(super) fn set(
    unfinished: &Unfinished,
    written: u64,
    attributes: &Attributes,
    capabilities: &Capabilities,
    losses: &mut Losses<NameId>,
) -> Result<(), StageError> {
    if written < unfinished.size {
        rustix::io::retry_on_intr(|| rustix::fs::ftruncate(&unfinished.file, unfinished.size))
            .map_err(trying("write its content"))?;
    }
    capabilities
        .set_new(unfinished.file.as_fd(), unfinished.mode, attributes, &|| unfinished.name, losses)
        .map_err(trying("set its attributes"))
}

/// Writes all of some bytes.
pub(super) fn write_at(file: BorrowedFd<'_>, mut at: u64, mut bytes: &[u8]) -> Result<(), StageError> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, at) {
            Ok(0) => return Err(trying("write its content")(Errno::NOSPC)),
            Ok(written) => {
                bytes = &bytes[written..];
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(trying("write its content")(error)),
        }
    }
    Ok(())
}
