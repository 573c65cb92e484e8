//! Commits whose answer containerd does not hear, since layflat or containerd is killed before: what was committed is there, and
//! containerd goes on to ask for it by the key that it had.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;

use crate::common::harness::Trial;
use crate::common::images::{self, Layout};
use crate::common::run;
use crate::daemons::{Daemons, Role, soon};
use crate::imports::SUITES;

/// A test that is run with each of both killed.
type Test = fn(&mut Lost);

pub(crate) fn trials() -> Vec<Trial> {
    const TESTS: [(&str, Test); 5] = [
        ("it_is_committed_again", committed_again),
        ("it_is_collected_and_then_committed_again", collected),
        ("it_is_written_to_and_then_committed_again", written),
        ("it_is_removed", removed),
        ("the_image_is_imported_again", imported),
    ];
    let mut trials = Vec::new();
    for suite in SUITES {
        for (name, test) in TESTS {
            let run = move || {
                let mut lost = Lost::start(suite);
                for victim in [Victim::Layflat, Victim::Containerd] {
                    lost.victim = victim;
                    test(&mut lost);
                }
                Ok(())
            };
            trials.push(Trial::test(format!("{suite}::{name}"), run).with_ignored_flag(!run::is_root()));
        }
    }
    trials
}

/// What stands between containerd and layflat. Once so many snapshots are committed no answer goes through any more: the first that
/// does not is that of the last commit.
pub(crate) struct Link {
    address: PathBuf,
    shared: Arc<Shared>,
}

struct Shared {
    snapshots: PathBuf,
    /// How many are to be committed.
    last: AtomicUsize,
    has_lost: AtomicBool,
    has_ended: AtomicBool,
}

impl Link {
    pub(crate) fn between(from: &Path, to: &Path, snapshots: &Path) -> Self {
        let listener = UnixListener::bind(from).unwrap();
        let shared = Shared {
            snapshots: snapshots.to_owned(),
            last: AtomicUsize::new(usize::MAX),
            has_lost: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
        };
        let shared = Arc::new(shared);
        let (own, to) = (Arc::clone(&shared), to.to_owned());
        std::thread::spawn(move || {
            while let Ok((caller, _)) = listener.accept() {
                if own.has_ended.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(callee) = UnixStream::connect(&to) else { continue };
                let (asks, answers) = (caller.try_clone().unwrap(), callee.try_clone().unwrap());
                let own = Arc::clone(&own);
                std::thread::spawn(move || carry(asks, callee, || true));
                std::thread::spawn(move || carry(answers, caller, || own.is_heard()));
            }
        });
        Self { address: from.to_owned(), shared }
    }

    /// Loses the answer by which one snapshot more is committed than now, of a program that is run until it gets so far.
    pub(crate) fn lose_next_commit(&self, run: &mut dyn FnMut() -> Child) -> Child {
        self.shared.last.store(committed(&self.shared.snapshots) + 1, Ordering::SeqCst);
        for _ in 0..1000 {
            let mut child = run();
            loop {
                if self.shared.has_lost.load(Ordering::SeqCst) {
                    return child;
                }
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                std::thread::yield_now();
            }
        }
        panic!("nothing is committed");
    }

    /// Loses nothing any more.
    pub(crate) fn mend(&self) {
        self.shared.last.store(usize::MAX, Ordering::SeqCst);
        self.shared.has_lost.store(false, Ordering::SeqCst);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(&self.address);
    }
}

impl Shared {
    /// Asked when an answer is there. What it tells of is on disk by then.
    fn is_heard(&self) -> bool {
        if committed(&self.snapshots) >= self.last.load(Ordering::SeqCst) {
            self.has_lost.store(true, Ordering::SeqCst);
        }
        !self.has_lost.load(Ordering::SeqCst)
    }
}

/// Hands over what comes, as long as it is heard, until one side is gone.
fn carry(mut from: UnixStream, mut to: UnixStream, is_heard: impl Fn() -> bool) {
    let mut bytes = [0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        if is_heard() && to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    for end in [from, to] {
        let _ = end.shutdown(Shutdown::Both);
    }
}

/// How many snapshots are committed, as their documents say.
fn committed(snapshots: &Path) -> usize {
    let directories = fs::read_dir(snapshots).into_iter().flatten().flatten();
    let documents = directories.filter_map(|directory| fs::read(directory.path().join("snapshot.json")).ok());
    let documents = documents.filter_map(|document| serde_json::from_slice::<Value>(&document).ok());
    documents.filter(|document| document["kind"] == "committed").count()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Layflat,
    Containerd,
}

struct Lost {
    daemons: Daemons,
    link: Link,
    victim: Victim,
    count: usize,
}

impl Lost {
    fn start(suite: &str) -> Self {
        let (daemons, link) = Daemons::start_linked(suite, Role::Pair);
        Self { daemons, link, victim: Victim::Layflat, count: 0 }
    }

    /// Runs `ctr`, of which the answer of a commit is lost: one of both is killed then, and started anew.
    fn lose(&mut self, arguments: &str) {
        let mut run = || self.daemons.ctr(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let ended = self.link.lose_next_commit(&mut run);
        match self.victim {
            Victim::Layflat => self.daemons.kill_layflat(),
            Victim::Containerd => self.daemons.kill_containerd(),
        }
        assert!(!ended.wait_with_output().unwrap().status.success(), "{arguments}");
        self.link.mend();
        match self.victim {
            Victim::Layflat => self.daemons.start_layflat(),
            Victim::Containerd => self.daemons.start_containerd(),
        }
    }

    /// Runs `ctr` until containerd has connected anew, for which it waits a little.
    fn done_at_last(&self, arguments: &str) -> String {
        let mut printed = None;
        let is_done = || {
            let output = self.daemons.ctr(arguments).output().unwrap();
            printed = output.status.success().then_some(output.stdout);
            printed.is_some()
        };
        soon(is_done, || format!("{arguments}: {}", self.daemons.log("containerd")));
        String::from_utf8(printed.unwrap()).unwrap()
    }

    /// A snapshot that was written to, and committed without an answer: its key, and its name.
    fn lost_commit(&mut self) -> (String, String) {
        self.count += 1;
        let (key, name) = (format!("key-{}", self.count), format!("name-{}", self.count));
        self.daemons.done(&format!("snapshots prepare {key}"));
        fs::write(self.directory(&key).join("before"), "").unwrap();
        self.lose(&format!("snapshots commit {name} {key}"));
        // As BuildKit does before it commits.
        let info: Value = serde_json::from_str(&self.done_at_last(&format!("snapshots info {key}"))).unwrap();
        assert_eq!(info["Kind"], "Active");
        assert!(!self.daemons.ctr(&format!("snapshots info {name}")).output().unwrap().status.success());
        (key, name)
    }

    fn info(&self, key: &str) -> Value {
        serde_json::from_str(&self.daemons.done(&format!("snapshots info {key}"))).unwrap()
    }

    /// The directory of a snapshot that lies on no other.
    fn directory(&self, key: &str) -> PathBuf {
        let mount = self.daemons.done(&format!("snapshots mounts /unused {key}"));
        mount.split_whitespace().find(|word| word.ends_with("/fs")).unwrap().into()
    }

    /// Whether it is committed by this name and no other, and has these files.
    fn is_committed(&self, (key, name): &(String, String), files: &[&str]) {
        assert_eq!(self.info(name)["Kind"], "Committed");
        assert!(!self.daemons.ctr(&format!("snapshots info {key}")).output().unwrap().status.success());
        let view = format!("view-{name}");
        self.daemons.done(&format!("snapshots view {view} {name}"));
        let mut found: Vec<String> = fs::read_dir(self.shown(&view))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        assert_eq!(found, files);
        self.daemons.done(&format!("snapshots rm {view}"));
    }

    /// What is at the bottom of a view.
    fn shown(&self, view: &str) -> PathBuf {
        let mount = self.daemons.done(&format!("snapshots mounts /unused {view}"));
        let (_, lower) = mount.split_once("lowerdir=").unwrap();
        lower.split_whitespace().next().unwrap().rsplit(':').next().unwrap().into()
    }

    /// containerd collects its garbage: it does so for a snapshotter of which something was removed.
    fn collect(&self) {
        self.daemons.done("snapshots prepare removed");
        self.daemons.done("snapshots rm removed");
        self.daemons.done("leases create --id collected");
        // A `ctr` that was ended with containerd has left its own.
        for lease in self.daemons.done("leases ls --quiet").split_whitespace() {
            self.daemons.done(&format!("leases delete --sync {lease}"));
        }
    }

    /// Whether no snapshot is left when containerd knows none.
    fn is_empty(&self) {
        self.collect();
        let left: Vec<_> = fs::read_dir(self.daemons.snapshots()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}\n{}", self.daemons.log("containerd"));
    }

    fn remove(&self, name: &str) {
        self.daemons.done(&format!("snapshots rm {name}"));
    }
}

fn committed_again(lost: &mut Lost) {
    let names = lost.lost_commit();
    let (key, name) = &names;
    lost.daemons.done(&format!("snapshots commit {name} {key}"));
    lost.is_committed(&names, &["before"]);
    lost.collect();
    lost.is_committed(&names, &["before"]);
    lost.remove(name);
    lost.is_empty();
}

fn collected(lost: &mut Lost) {
    let names = lost.lost_commit();
    let (key, name) = &names;
    lost.collect();
    assert_eq!(lost.info(key)["Kind"], "Active");
    // The name that it had in vain is counted anew.
    lost.daemons.done("snapshots prepare between");
    lost.daemons.done(&format!("snapshots commit {name} {key}"));
    lost.is_committed(&names, &["before"]);
    lost.remove("between");
    lost.remove(name);
    lost.is_empty();
}

fn written(lost: &mut Lost) {
    let names = lost.lost_commit();
    let (key, name) = &names;
    fs::write(lost.directory(key).join("later"), "").unwrap();
    lost.daemons.done(&format!("snapshots commit {name} {key}"));
    lost.is_committed(&names, &["before", "later"]);
    lost.remove(name);
    lost.is_empty();
}

fn removed(lost: &mut Lost) {
    let (key, _) = lost.lost_commit();
    lost.remove(&key);
    lost.is_empty();
}

/// Of an image of two layers, the commit of each.
fn imported(lost: &mut Lost) {
    const NAME: &str = "test.local/lost:latest";
    let layers = [images::layer("one"), images::layer("two")];
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let mut layout = Layout::default();
    let mut descriptor = layout.image(&layers);
    descriptor["annotations"] = serde_json::json!({ "io.containerd.image.name": NAME });
    layout.manifests.push(descriptor);
    let archive = lost.daemons.path("lost.tar");
    fs::write(&archive, layout.tar()).unwrap();
    let import = format!("images import {}", archive.display());
    lost.lose(&import);
    lost.lose(&import);
    lost.done_at_last(&import);
    let mount = lost.daemons.path("mount");
    fs::create_dir_all(&mount).unwrap();
    lost.daemons.done(&format!("images mount {NAME} {}", mount.display()));
    assert!(["one", "two"].iter().all(|name| mount.join(name).exists()));
    lost.daemons.done(&format!("images unmount --rm {}", mount.display()));
    lost.daemons.done(&format!("images rm --sync {NAME}"));
    lost.is_empty();
}
