//! Whose turn it is where locks do not tell: on a file system without them, or with locks that only one machine sees.
//!
//! A lease is a file that says who makes something, beside the place of that. It appears whole, by one rename that replaces nothing, so that one of
//! many has it. Whoever has it changes its time every few seconds. Who sees for half a minute, by its own clock, that nothing changed takes it for
//! dead, and of several such one takes its place; on the machine of the dead one it is known at once. Clocks of machines are never compared, and
//! time in which the one who watches stood still itself does not count.
//!
//! A lease spares work, and no more: what is made appears by one rename, whole and checked, so that two who make the same thing do no harm. That
//! happens if somebody stands still for so long and then goes on.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{ErrorKind, Read, Result, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
use serde::{Deserialize, Serialize};

use super::UNFINISHED;
use super::node::Process;
use super::patience::Patience;
use crate::core::limits::Limits;

/// What the name of a lease ends with.
const ENDING: &str = ".lease";
/// The version of the file; another one is only watched.
const FORMAT: u32 = 1;
const MODE: u32 = 0o644;

/// How long things take.
#[derive(Debug, Clone, Copy)]
struct Terms {
    /// A lease changes so often.
    beat: Duration,
    /// One that did not for so long is dead.
    patience: Duration,
    /// It is looked at no more often than this, at first and at last.
    look: (Duration, Duration),
}

const TERMS: Terms = Terms {
    beat: Duration::from_secs(5),
    patience: Duration::from_secs(30),
    look: (Duration::from_millis(10), Duration::from_secs(1)),
};

/// What came of asking for a lease.
#[derive(Debug)]
pub(super) enum Grant {
    Mine(Lease),
    /// Another one has it.
    Busy,
    /// Nothing can be written here.
    Impossible,
}

/// What a lease says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Document {
    format: u32,
    /// No other one has this.
    id: String,
    #[serde(flatten)]
    holder: Process,
}

/// A lease that one has. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    file: Arc<File>,
    path: PathBuf,
    id: String,
    beaten: Instant,
    terms: Terms,
    /// Beats as long as this is there.
    _beating: Option<Beating>,
}

impl Lease {
    /// Asks for the lease to make `name` in a directory, and keeps it alive as long as it is held.
    pub(super) fn try_take(directory: &Path, name: &str) -> Grant {
        match Self::take_on(directory, name, TERMS) {
            Grant::Mine(lease) => Grant::Mine(lease.beating()),
            other => other,
        }
    }

    /// The same, for whoever says by [`Lease::beat`] that there is progress: without any it is waited for no longer than this.
    pub(super) fn try_take_quiet(directory: &Path, name: &str, patience: Duration) -> Grant {
        Self::take_on(directory, name, Terms { patience, ..TERMS })
    }

    fn take_on(directory: &Path, name: &str, terms: Terms) -> Grant {
        let path = directory.join(format!("{UNFINISHED}{name}{ENDING}"));
        let dead = match watch(&path, terms) {
            Watched::Alive => return Grant::Busy,
            Watched::Gone => None,
            Watched::Dead(beat) => Some(beat),
        };
        let granted = match &dead {
            None => Self::make(&path, terms),
            Some(beat) => Self::replace(&path, beat, terms),
        };
        match granted {
            Ok(lease) => {
                forget(&path);
                Grant::Mine(lease)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => match is_stuck(&path, terms) {
                // Whoever was about to replace it has died, too.
                true => Grant::Impossible,
                false => Grant::Busy,
            },
            Err(_) => Grant::Impossible,
        }
    }

    fn make(path: &Path, terms: Terms) -> Result<Self> {
        let (id, draft) = draft(path)?;
        let file = draft.persist_noclobber(path).map_err(|error| error.error)?;
        Ok(Self::held(file, path, id, terms))
    }

    /// Takes the place of a dead one. Of several that want to, one makes the file of that name; and it looks once more.
    fn replace(path: &Path, dead: &Beat, terms: Terms) -> Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", dead.name()));
        let taking = tempfile::TempPath::try_from_path(PathBuf::from(&name))?;
        match File::create_new(&taking) {
            Ok(_) => {}
            Err(error) => {
                // It is another one's.
                let _ = taking.keep();
                return Err(error);
            }
        }
        if Beat::of(path)?.as_ref() != Some(dead) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let (id, draft) = draft(path)?;
        let file = draft.persist(path).map_err(|error| error.error)?;
        Ok(Self::held(file, path, id, terms))
    }

    fn held(file: File, path: &Path, id: String, terms: Terms) -> Self {
        Self { file: Arc::new(file), path: path.to_owned(), id, beaten: Instant::now(), terms, _beating: None }
    }

    /// Says that there is progress, where that was not said just now.
    pub(super) fn beat(&mut self) {
        if self.beaten.elapsed() >= self.terms.beat {
            self.beaten = Instant::now();
            beat(&self.file);
        }
    }

    /// The same, which beats by itself from now on.
    pub(super) fn beating(mut self) -> Self {
        self._beating = Some(Beating::start(&self.file, self.terms.beat));
        self
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Another one may have taken its place.
        let is_ours =
            Beat::of(&self.path).is_ok_and(|beat| beat.is_some_and(|beat| beat.id().as_ref() == Some(&self.id)));
        if is_ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A thread that changes the time of a file.
#[derive(Debug)]
pub(super) struct Beating {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Beating {
    /// Says of a file that somebody is at it, as long as this lives, although it does not grow.
    pub(super) fn of(file: &File) -> Option<Self> {
        Some(Self::start(&Arc::new(file.try_clone().ok()?), TERMS.beat))
    }

    fn start(file: &Arc<File>, every: Duration) -> Self {
        let (stop, stopped) = channel::<()>();
        let file = Arc::clone(file);
        let thread = std::thread::Builder::new().spawn(move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                beat(&file);
            }
        });
        // Without one, others may begin to make the same thing, no more.
        Self { stop: Some(stop), thread: thread.ok() }
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.stop = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// So often whoever is alive says so.
pub(super) const BEAT: Duration = TERMS.beat;

/// Says of a file that somebody is at it.
pub(super) fn beat(file: &File) {
    // By the clock of the file's server: each one differs from the last, and that is all that counts.
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let _ = futimens(file, &Timestamps { last_access: now, last_modification: now });
}

/// A lease that is written, but not in its place.
fn draft(path: &Path) -> Result<(String, tempfile::NamedTempFile)> {
    let directory = path.parent().unwrap_or(path);
    let mode = Permissions::from_mode(MODE);
    let mut draft = tempfile::Builder::new().prefix(UNFINISHED).permissions(mode).tempfile_in(directory)?;
    let holder = Process::this();
    // The random part of its name, with what is the machine's and the process's own.
    let random = draft.path().file_name().map(OsStr::as_bytes).map(String::from_utf8_lossy).unwrap_or_default();
    let id = format!("{}-{random}", holder.name());
    let document = Document { format: FORMAT, id: id.clone(), holder };
    draft.write_all(&serde_json::to_vec(&document)?)?;
    Ok((id, draft))
}

/// What can be seen of a lease at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Beat {
    bytes: Vec<u8>,
    time: Option<SystemTime>,
}

impl Beat {
    /// Of the lease in a place; none if there is none. It is opened, so that NFS asks its server.
    fn of(path: &Path) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut bytes = Vec::new();
        (&file).take(Limits::default().metadata_size).read_to_end(&mut bytes)?;
        Ok(Some(Self { bytes, time: file.metadata()?.modified().ok() }))
    }

    fn document(&self) -> Option<Document> {
        serde_json::from_slice(&self.bytes).ok().filter(|document: &Document| document.format == FORMAT)
    }

    fn id(&self) -> Option<String> {
        self.document().map(|document| document.id)
    }

    /// What stands for it in a file's name.
    fn name(&self) -> String {
        crate::core::digest::Digest::sha256_of(&self.bytes).hex()[..16].to_owned()
    }
}

enum Watched {
    Gone,
    Alive,
    Dead(Beat),
}

/// A lease that is waited for.
struct Seen {
    beats: Patience<Beat>,
    pause: Duration,
}

/// What this process has seen of leases of others.
static SEEN: LazyLock<Mutex<HashMap<PathBuf, Seen>>> = LazyLock::new(Mutex::default);

fn watch(path: &Path, terms: Terms) -> Watched {
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.get(path).is_some_and(|seen| seen.beats.looked().elapsed() < seen.pause) {
        return Watched::Alive;
    }
    let beat = match Beat::of(path) {
        Ok(Some(beat)) => beat,
        Ok(None) => {
            seen.remove(path);
            return Watched::Gone;
        }
        // What comes of trying to make one tells more.
        Err(_) => return Watched::Gone,
    };
    let now = Instant::now();
    let new = || Seen { beats: Patience::begin(beat.clone(), now), pause: terms.look.0 };
    let seen = seen.entry(path.to_owned()).or_insert_with(new);
    seen.pause = (seen.pause * 2).min(terms.look.1);
    let waited = seen.beats.look(beat.clone(), now);
    let has_ended = || beat.document().is_some_and(|document| document.holder.has_ended());
    if waited >= terms.patience || has_ended() { Watched::Dead(beat) } else { Watched::Alive }
}

fn forget(path: &Path) {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
}

/// Whether a lease has been dead for so long that somebody must have died over replacing it.
fn is_stuck(path: &Path, terms: Terms) -> bool {
    let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    seen.get(path).is_some_and(|seen| seen.beats.waited() >= 2 * terms.patience)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const QUICK: Terms = Terms {
        beat: Duration::from_millis(20),
        patience: Duration::from_secs(1),
        look: (Duration::ZERO, Duration::ZERO),
    };

    fn mine(directory: &Path) -> Option<Lease> {
        match Lease::take_on(directory, "a", QUICK) {
            Grant::Mine(lease) => Some(lease),
            Grant::Busy => None,
            Grant::Impossible => panic!("it cannot be made"),
        }
    }

    /// A lease as another machine leaves it.
    fn leave(directory: &Path, change: impl Fn(&mut Document)) {
        let path = directory.join("new-a.lease");
        let lease = mine(directory).unwrap();
        let mut document = Beat::of(&path).unwrap().unwrap().document().unwrap();
        drop(lease);
        change(&mut document);
        std::fs::write(path, serde_json::to_vec(&document).unwrap()).unwrap();
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn until(mut is_so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < Duration::from_secs(60));
        }
    }

    #[test]
    fn one_has_it_and_it_ends_with_it() {
        let place = tempfile::tempdir().unwrap();
        let lease = mine(place.path()).unwrap();
        assert!(mine(place.path()).is_none());
        assert_eq!(names(place.path()), ["new-a.lease"]);
        drop(lease);
        assert!(names(place.path()).is_empty());
        assert!(mine(place.path()).is_some());
        assert!(matches!(Lease::take_on(Path::new("/proc"), "a", QUICK), Grant::Impossible));
    }

    #[test]
    fn who_beats_is_waited_for_and_who_does_not_is_replaced_by_one() {
        let place = tempfile::tempdir().unwrap();
        let alive = mine(place.path()).unwrap().beating();
        let time = || Beat::of(&alive.path).unwrap().unwrap().time;
        let first = time();
        until(|| time() != first);
        let began = Instant::now();
        while began.elapsed() < 2 * QUICK.patience {
            // The thread that does this may stand still on a busy machine; what the time was before, it is not now.
            beat(&alive.file);
            assert!(mine(place.path()).is_none());
            std::thread::sleep(QUICK.beat);
        }
        drop(alive);
        leave(place.path(), |document| document.holder.boot = "another".to_owned());
        assert!(mine(place.path()).is_none(), "it may be alive");
        let path = place.path().join("new-a.lease");
        let dead = Beat::of(&path).unwrap().unwrap();
        let is_taken = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (path, is_taken) = (path.clone(), Arc::clone(&is_taken));
                std::thread::spawn(move || {
                    let mut later = 0;
                    while later < 20 {
                        later += usize::from(is_taken.load(Ordering::SeqCst));
                        if let Watched::Dead(beat) = watch(&path, QUICK)
                            && let Ok(lease) = Lease::replace(&path, &beat, QUICK)
                        {
                            let still = beat.time.unwrap().elapsed().unwrap();
                            forget(&path);
                            is_taken.store(true, Ordering::SeqCst);
                            return Some((beat, still, lease.beating()));
                        }
                    }
                    None
                })
            })
            .collect();
        let taken: Vec<_> = threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
        // Whoever took it may have stood still for so long itself.
        assert!(taken.iter().all(|(_, still, _)| *still >= QUICK.patience), "{taken:?}");
        assert_eq!(taken.iter().filter(|(beat, ..)| *beat == dead).count(), 1, "{taken:?}");
        assert_eq!(names(place.path()), ["new-a.lease"]);
    }

    #[test]
    fn a_process_that_was_killed_here_is_replaced_at_once() {
        let place = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        leave(place.path(), |document| document.holder.pid = child.id());
        assert!(mine(place.path()).is_some());
        // Another one with its number does not keep it alive.
        leave(place.path(), |document| document.holder.started = Some(1));
        assert!(mine(place.path()).is_some());
    }

    #[test]
    fn who_was_replaced_leaves_the_other_alone() {
        let place = tempfile::tempdir().unwrap();
        let slow = mine(place.path()).unwrap();
        let mut quick = None;
        until(|| {
            quick = mine(place.path());
            quick.is_some()
        });
        drop(slow);
        assert_eq!(names(place.path()), ["new-a.lease"]);
        drop(quick);
        assert!(names(place.path()).is_empty());
    }

    #[test]
    fn who_died_while_replacing_it_keeps_nobody() {
        let place = tempfile::tempdir().unwrap();
        leave(place.path(), |document| document.holder.boot = "another".to_owned());
        let dead = Beat::of(&place.path().join("new-a.lease")).unwrap().unwrap();
        std::fs::write(place.path().join(format!("new-a.lease.{}", dead.name())), "").unwrap();
        until(|| matches!(Lease::take_on(place.path(), "a", QUICK), Grant::Impossible));
    }
}
