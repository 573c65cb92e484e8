//! Which calls fail, how, and how often a command makes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// System calls, and the errors that each may end with.
const CALLS: &[(&[&str], &[&str])] = &[
    (&["openat"], &["EMFILE", "EIO", "ENOSPC", "EINTR"]),
    (&["openat2", "open_tree", "fsopen"], &["EMFILE", "EIO"]),
    (&["mkdirat", "mkdir", "linkat", "link", "symlinkat", "symlink", "mknodat", "mknod"], &["ENOSPC", "EIO"]),
    (&["write", "writev", "pwrite64", "pwritev", "copy_file_range", "sendfile", "splice"], &["ENOSPC", "EIO", "EINTR"]),
    (&["read", "readv", "pread64", "preadv"], &["EIO", "EINTR"]),
    (&["ftruncate"], &["ENOSPC", "EIO", "EINTR"]),
    (&["fallocate"], &["ENOSPC", "EIO", "EINTR"]),
    (&["rename", "renameat", "renameat2"], &["ENOSPC", "EIO"]),
    (&["unlinkat", "unlink", "rmdir"], &["EIO"]),
    (&["fsync", "fdatasync"], &["ENOSPC", "EIO", "EINTR"]),
    (&["syncfs"], &["ENOSPC", "EIO"]),
    // Not ENOSPC: on a disk with room it means that a file has none for the value, which is a loss that is reported (rule A4).
    (&["setxattr", "lsetxattr", "fsetxattr"], &["EDQUOT", "EIO"]),
    (&["fremovexattr", "lremovexattr", "removexattr"], &["EIO"]),
    (&["listxattr", "llistxattr", "flistxattr", "getxattr", "lgetxattr", "fgetxattr"], &["EIO"]),
    (&["chown", "lchown", "fchown", "fchownat", "chmod", "fchmod", "fchmodat", "fchmodat2", "utimensat"], &["EIO"]),
    (&["getdents64", "newfstatat", "fstat", "statx", "readlink", "readlinkat", "lseek"], &["EIO"]),
    (&["close"], &["EIO", "EINTR"]),
    (&["flock"], &["EIO", "EINTR"]),
    (&["fsconfig", "fsmount", "move_mount", "mount", "umount2", "mount_setattr"], &["ENOMEM", "EIO"]),
    (&["memfd_create", "pipe2", "dup", "fcntl"], &["EMFILE"]),
    // A thread or a process that cannot be made.
    (&["clone", "clone3"], &["EAGAIN"]),
];

/// The kernel interrupts these, and they are to be made again (signal(7)), wherever they stand.
const MADE_AGAIN: &[&str] =
    &["openat", "read", "readv", "pread64", "write", "writev", "pwrite64", "ftruncate", "fsync", "fdatasync", "flock"];

/// One call that fails.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) call: String,
    /// The error, or `KILL`.
    pub(crate) error: String,
    /// Which of the calls of each thread, from 1.
    pub(crate) nth: usize,
}

impl Fault {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ').map(str::to_owned);
        Some(Self { call: words.next()?, error: words.next()?, nth: words.next()?.parse().ok()? })
    }

    pub(crate) fn kills(&self) -> bool {
        self.error == "KILL"
    }

    /// Whether nobody may notice.
    pub(crate) fn is_made_again(&self) -> bool {
        self.error == "EINTR" && MADE_AGAIN.contains(&self.call.as_str())
    }

    /// As strace takes it.
    pub(crate) fn injection(&self) -> String {
        let Self { call, error, nth } = self;
        let what = if self.kills() { "signal=KILL".to_owned() } else { format!("error={error}") };
        format!("inject={call}:{what}:when={nth}")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {}", self.call, self.error, self.nth)
    }
}

/// For each call, which of a thread's calls can fail.
pub(crate) type Numbers = BTreeMap<String, BTreeSet<usize>>;

/// What strace is to record. Names that it does not know, with `?`, are those of newer kernels or other machines.
pub(crate) fn traced() -> String {
    let names = CALLS.iter().flat_map(|(names, _)| *names).chain([&"rt_sigaction"]);
    names.map(|name| format!("?{name}")).collect::<Vec<_>>().join(",")
}

/// Counts the calls in a record of `strace -f`. Those of the dynamic loader, which come before the program itself, are none of ours.
pub(crate) fn count(record: &str) -> Numbers {
    let mut threads: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    let mut loading: BTreeMap<String, usize> = BTreeMap::new();
    let mut is_loaded = false;
    for line in record.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, arguments)) = rest.trim_start().split_once('(') else { continue };
        if call == "rt_sigaction" {
            is_loaded |= arguments.starts_with("SIGPIPE");
            continue;
        }
        *threads.entry(thread).or_default().entry(call).or_default() += 1;
        if !is_loaded {
            *loading.entry(call.to_owned()).or_default() += 1;
        }
    }
    let mut numbers = Numbers::new();
    for (call, count) in threads.values().flatten() {
        // Which call fails is said by its number in each thread: those that would also fail in the loader cannot be tried.
        let first = loading.get(*call).copied().unwrap_or_default() + 1;
        numbers.entry((*call).to_owned()).or_default().extend(first..=*count);
    }
    numbers
}

/// Each call with each of its errors.
fn kinds(numbers: &Numbers) -> Vec<Vec<Fault>> {
    let known = CALLS.iter().flat_map(|(names, errors)| names.iter().map(move |name| (*name, *errors)));
    known
        .filter_map(|(call, errors)| Some((call, errors, numbers.get(call)?)))
        .flat_map(|(call, errors, numbers)| {
            errors.iter().copied().chain(["KILL"]).map(move |error| {
                let fault = |&nth: &usize| Fault { call: call.to_owned(), error: error.to_owned(), nth };
                numbers.iter().map(fault).collect()
            })
        })
        .filter(|faults: &Vec<Fault>| !faults.is_empty())
        .collect()
}

pub(crate) fn all(numbers: &Numbers) -> Vec<Fault> {
    kinds(numbers).concat()
}

/// Some of all kinds, always the same.
pub(crate) fn sample(numbers: &Numbers, most: usize, seed: u64) -> Vec<Fault> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut kinds = kinds(numbers);
    random.shuffle(&mut kinds);
    kinds.iter_mut().for_each(|faults| random.shuffle(faults));
    let longest = kinds.iter().map(Vec::len).max().unwrap_or_default();
    let rounds = (0..longest).flat_map(|round| kinds.iter().filter_map(move |faults| faults.get(round)));
    rounds.take(most).cloned().collect()
}
