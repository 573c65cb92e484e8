//! A signal ends every command, whatever it is doing, by that signal and soon, and nothing half-made stays (rules S2, S10 and S11).
//!
//! Each command is started where it would go on for minutes or for ever: at an input that never comes, a server that never answers, a lock that is
//! held, an output that nobody reads, a disk that hangs, or much work. The bound is far below that, and far above what a busy machine makes of it.
//! What was measured is printed.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, not their helpers")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::json;
use tempfile::TempDir;

use crate::common::harness::{self, Test, Trial};
use crate::common::{images, run as power, tools};

pub(crate) fn trials() -> Vec<Trial> {
    harness::trials(TESTS)
}

const TESTS: &[Test] = &[
    ("s11_at_an_input_that_never_comes", false, at_an_input_that_never_comes),
    ("s11_at_a_registry_that_never_answers", false, at_a_registry_that_never_answers),
    ("s11_at_a_credential_helper_that_sleeps", false, at_a_credential_helper_that_sleeps),
    ("s11_at_a_lock_that_is_held", false, at_a_lock_that_is_held),
    ("s11_at_a_lock_in_the_cache_that_is_held", true, at_a_lock_in_the_cache_that_is_held),
    ("s11_at_an_output_that_nobody_reads", false, at_an_output_that_nobody_reads),
    ("s11_in_much_work", false, in_much_work),
    ("s11_in_removing_much", false, in_removing_much),
    ("s11_at_a_disk_that_hangs", true, at_a_disk_that_hangs),
    ("s11_the_second_signal_ends_it_at_once", false, the_second_signal_ends_it_at_once),
];

/// Far below what the commands would take.
const BOUND: Duration = Duration::from_secs(60);

/// When a signal comes.
#[derive(Clone, Copy)]
enum When {
    /// Whatever the program has come to.
    AfterStart(Duration),
    /// So long after it has begun to listen to signals.
    Listening(Duration),
}

/// When the signals come, and which.
const POINTS: [(When, Signal); 3] = [
    (When::AfterStart(Duration::from_millis(20)), Signal::TERM),
    (When::Listening(Duration::from_millis(400)), Signal::INT),
    (When::Listening(Duration::from_millis(1500)), Signal::TERM),
];

/// What `env` is told before the program.
const ENV: [&str; 1] = ["--default-signal=INT,TERM,HUP"];

/// A directory with all that layflat may use.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = match power::is_root() {
            // The tests' many files do not need a disk.
            true => Self(tempfile::tempdir_in(power::tmpfs()).unwrap()),
            false => Self(tempfile::tempdir().unwrap()),
        };
        for name in ["home", "tmp", "cache", "work", "in"] {
            fs::create_dir(place.path(name)).unwrap();
        }
        fs::set_permissions(place.path("cache"), fs::Permissions::from_mode(0o700)).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The program, in the directory `work`.
    fn command(&self, arguments: &[&str]) -> Command {
        // Whoever started the tests may ignore signals, as a shell does for what it runs in the background, and layflat would go on ignoring
        // them. `env` becomes the program: it has its process id.
        let mut command = Command::new("env");
        command.args(ENV).arg(assert_cmd::cargo::cargo_bin!("layflat"));
        command.args(arguments).current_dir(self.path("work"));
        command
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("XDG_CACHE_HOME", self.path("cache"));
        command.env_remove("DOCKER_CONFIG").env_remove("REGISTRY_AUTH_FILE").env("XDG_RUNTIME_DIR", self.path("home"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// A run that must succeed.
    fn run(&self, arguments: &[&str]) {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Nothing is in the directories for results and temporary files but what was there before, at the latest once removing it has ended.
    fn becomes(&self, before: &[String]) {
        wait_until(|| self.names() == before, || format!("{:?} is there, not {before:?}", self.names()));
    }

    /// Nothing unfinished is there, at the latest once removing it has ended. What was finished in spite of the signal goes.
    fn forget_results(&self, before: &[String]) {
        let is_unfinished = |name: &String| name.starts_with("tmp/") || name.contains("/.layflat-");
        wait_until(|| !self.names().iter().any(is_unfinished), || format!("{:?} is there", self.names()));
        for name in self.names().iter().filter(|name| !before.contains(name)) {
            let path = self.path(name);
            if path.is_dir() { layflat::remove_tree(&path) } else { fs::remove_file(&path).unwrap() }
        }
    }

    fn names(&self) -> Vec<String> {
        let of = |directory| names(&self.path(directory)).into_iter().map(move |name| format!("{directory}/{name}"));
        ["tmp", "work"].into_iter().flat_map(of).collect()
    }

    /// An archive with a layer of these files.
    fn image(&self, name: &str, files: impl Iterator<Item = (String, Vec<u8>)>) -> String {
        let path = self.path("in").join(name);
        let mut archive = tar::Builder::new(File::create(&path).unwrap());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, content.as_slice()).unwrap();
        }
        archive.finish().unwrap();
        format!("layers:{}", path.display())
    }

    /// An image with much to hash and to compress.
    fn large(&self) -> String {
        self.image("large.tar", (0..10).map(|number| (format!("d/{number}"), noise(8 << 20, number))))
    }

    /// An image with many files.
    fn broad(&self, files: u64) -> String {
        self.image(
            "broad.tar",
            (0..files).map(|number| (format!("{}/{}/{number}", number % 97, number % 89), Vec::new())),
        )
    }
}

fn names(directory: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().to_str().unwrap().to_owned();
    let mut names: Vec<String> = fs::read_dir(directory).unwrap().map(name).collect();
    names.sort();
    names
}

fn wait_until(is_so: impl Fn() -> bool, what_else: impl Fn() -> String) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < BOUND, "{}", what_else());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A signal may go unnoticed for so long (rule S11), and what is done by then is done. It is the time of a processor: on a busy machine a program gets
/// little of that in a second.
const UNNOTICED: Duration = Duration::from_millis(500);

/// The clock ticks of proc_pid_stat(5) in a second.
const TICKS: u32 = 100;

/// Bytes that do not compress.
fn noise(count: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; count];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// How long commands would take.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Endless,
    /// Some are quicker than the signal, on a quick machine.
    Limited,
}

/// A command that is running.
struct Running {
    what: String,
    child: Child,
}

impl Running {
    fn start(mut command: Command) -> Self {
        // Behind the program.
        let what = format!("{:?}", command.get_args().skip(ENV.len() + 1).collect::<Vec<_>>());
        Self { what, child: command.spawn().unwrap() }
    }

    /// Whether it has ended already, as it would without a signal.
    fn is_done(&mut self, length: Length) -> bool {
        let Some(status) = self.child.try_wait().unwrap() else { return false };
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(
            length == Length::Limited && status.code().is_some_and(|code| code < 2),
            "{}: {status}: {said}",
            self.what
        );
        true
    }

    fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// A set of signals, as proc_pid_status(5) tells it, of all threads that are there.
    fn masks(&self, name: &str) -> u64 {
        let tasks = format!("/proc/{}/task", self.child.id());
        let tasks = fs::read_dir(tasks).into_iter().flatten().flatten();
        let masks = tasks.filter_map(|task| {
            let status = fs::read_to_string(task.path().join("status")).ok()?;
            let mask = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            u64::from_str_radix(mask.trim(), 16).ok()
        });
        masks.fold(0, |all, mask| all | mask)
    }

    /// Waits until it is so, or it has ended.
    fn wait_until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        wait_until(|| is_so(self) || self.has_ended(), || format!("{}: not yet: {what}", self.what));
    }

    fn listens(&self) {
        let all = [Signal::INT, Signal::TERM, Signal::HUP].map(bit).into_iter().sum::<u64>();
        self.wait_until("it listens to signals", |running| running.masks("SigCgt") & all == all);
    }

    /// Whether it has ended, and is still there for who waits for it.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        waitid(WaitId::Pid(self.id()), options).unwrap().is_some()
    }

    /// What it has worked so far, with what it has started and waited for.
    fn worked(&self) -> Duration {
        let status = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Behind the name, which may have spaces in it, and ten other fields: in the program and in the kernel, its own and its children's.
        let (_, fields) = status.rsplit_once(')').unwrap();
        let ticks = fields.split_whitespace().skip(11).take(4).map(|field| field.parse::<u32>().unwrap());
        Duration::from_secs(1) * ticks.sum::<u32>() / TICKS
    }

    /// Sends it a signal, and says what it had worked by then.
    fn signal(&self, signal: Signal) -> Duration {
        // As `env` it may ignore it still.
        self.wait_until("a signal is not ignored", |running| running.masks("SigIgn") & bit(signal) == 0);
        kill_process(self.id(), signal).unwrap();
        self.worked()
    }

    /// It dies of the signal, within the bound; how long that took since then.
    fn dies(self, signal: Signal, since: Instant) -> Duration {
        self.ends(Length::Endless, signal, since, Duration::ZERO)
    }

    /// The same of a command that may have been about to end by itself when the signal came, and had worked so long by then.
    fn ends(mut self, length: Length, signal: Signal, since: Instant, had_worked: Duration) -> Duration {
        while !self.has_ended() {
            if since.elapsed() > BOUND {
                let id = self.child.id();
                let where_it_is = fs::read_to_string(format!("/proc/{id}/wchan")).unwrap_or_default();
                self.child.kill().unwrap();
                panic!("{}: it goes on after {signal:?}, at {where_it_is}", self.what);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let (took, worked) = (since.elapsed(), self.worked().saturating_sub(had_worked));
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let processors = u32::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap();
        let is_soon = worked < UNNOTICED * processors;
        if length == Length::Limited && is_soon && status.code().is_some_and(|code| code < 2) {
            return took;
        }
        assert_eq!(status.signal(), Some(signal.as_raw()), "{}: {status} after {worked:?}: {said}", self.what);
        assert!(!said.contains("panicked"), "{}: {said}", self.what);
        took
    }
}

fn bit(signal: Signal) -> u64 {
    1 << (signal.as_raw() - 1)
}

impl When {
    fn wait(self, commands: &[Running]) {
        match self {
            Self::AfterStart(delay) => std::thread::sleep(delay),
            Self::Listening(delay) => {
                commands.iter().for_each(Running::listens);
                std::thread::sleep(delay);
            }
        }
    }
}

/// Starts all these commands at once, and ends them at several points; nothing is left in any case.
fn all_die(place: &Place, what: &str, length: Length, commands: &[&[&str]], prepare: impl Fn(&mut Command)) {
    let before = place.names();
    let mut longest = vec![Duration::ZERO; commands.len()];
    for (when, signal) in POINTS {
        let start = |arguments: &&[&str]| {
            let mut command = place.command(arguments);
            prepare(&mut command);
            Running::start(command)
        };
        let running: Vec<Running> = commands.iter().map(start).collect();
        when.wait(&running);
        // All get theirs before the first is waited for.
        let mut signalled = Vec::new();
        for (longest, mut running) in longest.iter_mut().zip(running) {
            if !running.is_done(length) {
                let had_worked = running.signal(signal);
                signalled.push((longest, running, Instant::now(), had_worked));
            }
        }
        for (longest, running, since, had_worked) in signalled {
            *longest = (*longest).max(running.ends(length, signal, since, had_worked));
        }
        match length {
            Length::Endless => place.becomes(&before),
            Length::Limited => place.forget_results(&before),
        }
    }
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    for (command, longest) in commands.iter().zip(longest) {
        eprintln!(
            "{what}: {}: {:.2} s (load {})",
            command.join(" "),
            longest.as_secs_f64(),
            load.split(' ').next().unwrap_or_default()
        );
    }
}

/// A named pipe whose writer says nothing, and one that has none.
fn at_an_input_that_never_comes() {
    for has_writer in [true, false] {
        let place = Place::new();
        let pipe = place.path("in/pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        let _writer = has_writer.then(|| File::options().read(true).write(true).open(&pipe).unwrap());
        let what = if has_writer { "a silent pipe" } else { "a pipe without a writer" };
        fs::create_dir(place.path("work/target")).unwrap();
        let mount: &[&str] = &["mount", "../in/pipe", "target"];
        let mut commands: Vec<&[&str]> = vec![
            &["flatten", "../in/pipe", "flat"],
            &["flatten", "../in/pipe", "--to", "tar", "-o", "flat.tar"],
            &["layers", "../in/pipe", "layers"],
            &["bundle", "../in/pipe", "bundle"],
            &["inspect", "../in/pipe"],
            &["digest", "../in/pipe"],
            &["tags", "oci-archive:../in/pipe"],
            &["ls", "../in/pipe"],
            &["find", "../in/pipe", "x"],
            &["log", "../in/pipe", "x"],
            &["cat", "../in/pipe", "x"],
            &["waste", "../in/pipe"],
            &["check", "../in/pipe"],
            &["report", "../in/pipe"],
            &["diff", "../in/pipe", "../in"],
            &["copy", "../in/pipe", "oci:copy:x"],
            &["squash", "../in/pipe", "oci:squashed:x"],
            &["append", "../in/pipe", "../tmp", "oci:appended:x"],
            &["flatten", "../in/pipe", "--to", "ext4", "-o", "flat.ext4"],
        ];
        commands.extend(power::is_root().then_some(mount));
        all_die(&place, what, Length::Endless, &commands, |_| {});
    }
}

/// A server that takes every connection, and says what it is told to once the request has come, and no more. It goes with the process.
fn server(answer: &'static str) -> String {
    serving(move |_| answer.as_bytes().to_vec())
}

/// The same, where the answer is made from the head of a request.
fn serving(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        // Some are gone before they are taken.
        for mut stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || {
                let (mut piece, mut asked) = ([0; 4096], String::new());
                while let Ok(length @ 1..) = stream.read(&mut piece) {
                    asked += &String::from_utf8_lossy(&piece[..length]);
                    while let Some((head, rest)) = asked.split_once("\r\n\r\n") {
                        let _ = stream.write_all(&answer(head));
                        asked = rest.to_owned();
                    }
                }
            });
        }
    });
    address
}

/// A registry with an image `a:1` of one layer, whose end never comes.
fn endless_registry(layer: Vec<u8>) -> String {
    let config = images::config(&[&layer]);
    let manifest = json!({"schemaVersion": 2, "mediaType": images::MANIFEST,
        "config": images::descriptor(images::CONFIG, &config), "layers": [images::descriptor(images::LAYER, &layer)]});
    let manifest = manifest.to_string().into_bytes();
    let name = images::digest(&layer);
    serving(move |head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let (kind, body) = match path.rsplit('/').next().unwrap_or_default() {
            "" => ("text/plain", &b""[..]),
            "1" => (images::MANIFEST, &manifest[..]),
            blob if blob == name => (images::LAYER, &layer[..]),
            _ => (images::CONFIG, &config[..]),
        };
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
        // All but what comes after the last entry.
        let end = if kind == images::LAYER { length - 1024 } else { length };
        [head.as_bytes(), &body[..end]].concat()
    })
}

fn at_a_registry_that_never_answers() {
    let place = Place::new();
    let local = place.image("small.tar", [("a".to_owned(), b"x".to_vec())].into_iter());
    let endless =
        "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nContent-Length: 5000\r\n\r\n{";
    for answer in ["", endless] {
        let image = format!("docker://{}/a:1", server(answer));
        let push: &[&str] = &["copy", "--dest-plain-http", &local, &image];
        let pull: [&[&str]; 5] = [
            &["flatten", "--plain-http", &image, "flat"],
            &["inspect", "--plain-http", &image],
            &["digest", "--plain-http", &image],
            &["tags", "--plain-http", image.trim_end_matches(":1")],
            &["copy", "--src-plain-http", &image, "oci:copy:x"],
        ];
        // For who pushes, what begins well is enough.
        let commands: Vec<&[&str]> = pull.into_iter().chain(answer.is_empty().then_some(push)).collect();
        let what = if answer.is_empty() { "a silent registry" } else { "a registry that begins to answer" };
        all_die(&place, what, Length::Endless, &commands, |_| {});
    }
}

/// It goes with layflat.
fn at_a_credential_helper_that_sleeps() {
    const UNAUTHORIZED: &str =
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n";
    let place = Place::new();
    let helper = place.path("in/docker-credential-slow");
    // By this it is found again.
    let marker = place.path("in").display().to_string();
    tools::put_script("#!/bin/sh\nexec sleep 59\n", &helper);
    fs::create_dir(place.path("home/.docker")).unwrap();
    fs::write(place.path("home/.docker/config.json"), r#"{"credsStore": "slow"}"#).unwrap();
    let image = format!("docker://{}/a:1", server(UNAUTHORIZED));
    let path = format!("{}:{}", place.path("in").display(), std::env::var("PATH").unwrap());
    all_die(
        &place,
        "a helper that sleeps",
        Length::Endless,
        &[&["flatten", "--plain-http", &image, "flat"], &["tags", "--plain-http", image.trim_end_matches(":1")]],
        |command| {
            command.env("PATH", &path);
        },
    );
    let ours = |process: &String| {
        fs::read(format!("/proc/{process}/environ"))
            .is_ok_and(|it| it.windows(marker.len()).any(|window| window == marker.as_bytes()))
    };
    let left: Vec<String> = names(Path::new("/proc")).into_iter().filter(ours).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn locked(path: &Path) -> File {
    let file = File::open(path).unwrap();
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    file
}

fn at_a_lock_that_is_held() {
    let place = Place::new();
    let image = place.image("small.tar", [("a".to_owned(), b"x".to_vec())].into_iter());
    place.run(&["copy", &image, "oci:layout:first"]);
    place.run(&["copy", &image, "oci-archive:archive.tar:first"]);
    let _locks = ["work/layout", "work/archive.tar"].map(|name| locked(&place.path(name)));
    let commands: [&[&str]; 3] = [
        &["copy", &image, "oci:layout:second"],
        &["copy", &image, "oci-archive:archive.tar:second"],
        &["squash", &image, "oci:layout:second"],
    ];
    all_die(&place, "a lock that is held", Length::Endless, &commands, |_| {});
}

/// What is in the cache is locked by whoever removes it.
fn at_a_lock_in_the_cache_that_is_held() {
    let place = Place::new();
    let image = place.image("small.tar", [("a".to_owned(), b"x".to_vec())].into_iter());
    place.run(&["copy", &image, "oci:layout:a"]);
    fs::create_dir(place.path("work/target")).unwrap();
    place.run(&["mount", "--backend", "overlay", "oci:layout:a", "target"]);
    place.run(&["umount", "target"]);
    let cache = place.path("cache/layflat");
    let kept = ["images", "layers"].map(|group| {
        names(&cache.join(group)).into_iter().map(move |name| format!("{group}/{name}")).collect::<Vec<_>>()
    });
    for name in kept.concat() {
        let _lock = locked(&cache.join(&name));
        let mount: &[&str] = &["mount", "--backend", "overlay", "oci:layout:a", "target"];
        all_die(&place, "a lock in the cache", Length::Endless, &[mount], |_| {});
    }
}

/// More than a pipe holds.
fn at_an_output_that_nobody_reads() {
    let place = Place::new();
    let large = place.image("one.tar", [("large".to_owned(), noise(1 << 20, 7))].into_iter());
    let broad = place.broad(20_000);
    place.run(&["copy", &large, "oci:large:a"]);
    let (reader, writer) = std::io::pipe().unwrap();
    let commands: [&[&str]; 6] = [
        &["ls", "-l", &broad],
        &["find", &broad, "*"],
        &["cat", &large, "large"],
        &["flatten", &large, "--to", "tar", "-o", "-"],
        &["copy", "oci:large:a", "oci-archive:-"],
        &["pack", "--as", "changes", "large", "-o", "-"],
    ];
    all_die(&place, "an output that nobody reads", Length::Endless, &commands, |command| {
        command.stdout(writer.try_clone().unwrap());
    });
    drop(reader);
}

fn in_much_work() {
    let place = Place::new();
    let (large, broad) = (place.large(), place.broad(20_000));
    place.run(&["copy", &large, "oci:large:a"]);
    place.run(&["flatten", "--no-sync", &broad, "tree"]);
    let commands: [&[&str]; 12] = [
        &["flatten", &broad, "flat"],
        &["layers", &broad, "layers"],
        &["flatten", &large, "large-flat"],
        &["flatten", &large, "--to", "tar", "-o", "flat.tar"],
        &["flatten", &large, "--to", "erofs", "-o", "flat.erofs"],
        &["copy", "--compression", "gzip:9", &large, "oci:copied:a"],
        &["copy", "--compression", "zstd:19", &large, "oci:copied-too:a"],
        &["squash", &large, "oci:squashed:a"],
        &["check", "oci:large:a"],
        &["ls", &large],
        &["pack", "--as", "changes", "tree", "-o", "packed.tar.zst"],
        &["diff", "tree", &broad],
    ];
    for commands in commands.chunks(3) {
        all_die(&place, "much work", Length::Limited, commands, |_| {});
    }
}

/// The tree that is replaced is removed after the new one is there; what is left of it then goes with the next run.
fn in_removing_much() {
    let place = Place::new();
    let (broad, small) = (place.broad(20_000), place.image("small.tar", [("a".to_owned(), b"x".to_vec())].into_iter()));
    let mut longest = Duration::ZERO;
    for (when, signal) in POINTS {
        layflat::remove_tree(&place.path("work/tree"));
        place.run(&["flatten", "--no-sync", &broad, "tree"]);
        let mut running = Running::start(place.command(&["flatten", "--no-sync", "--replace", &small, "tree"]));
        when.wait(std::slice::from_ref(&running));
        if running.is_done(Length::Limited) {
            continue;
        }
        let since = Instant::now();
        let had_worked = running.signal(signal);
        longest = longest.max(running.ends(Length::Limited, signal, since, had_worked));
        let tree = names(&place.path("work/tree"));
        assert!(tree == ["a"] || tree.len() == 97, "{tree:?}");
        place.becomes(&["work/tree".to_owned()]);
    }
    eprintln!("removing much: flatten --replace: {:.2} s", longest.as_secs_f64());
}

fn the_second_signal_ends_it_at_once() {
    let place = Place::new();
    let broad = place.broad(20_000);
    // Unpacked while it comes, so that there is much to remove, and nothing that could come to its end.
    let image = format!("docker://{}/a:1", endless_registry(fs::read(place.path("in/broad.tar")).unwrap()));
    let mut running = Running::start(place.command(&["flatten", "--no-sync", "--plain-http", &image, "tree"]));
    let is_unfinished = || names(&place.path("work")).iter().any(|name| name.starts_with(".layflat-"));
    running.wait_until("it unpacks", |_| is_unfinished());
    assert!(!running.is_done(Length::Endless));
    running.signal(Signal::INT);
    // Signals that come before the first is delivered, or while that is handled, are one signal.
    running.wait_until("the first signal is heard", |running| {
        (running.masks("ShdPnd") | running.masks("SigBlk")) & bit(Signal::INT) == 0
    });
    let since = Instant::now();
    running.signal(Signal::INT);
    let took = running.dies(Signal::INT, since);
    let left = if is_unfinished() { "nothing was" } else { "all was" };
    eprintln!("a second signal: {:.3} s, {left} removed", took.as_secs_f64());
    // What it leaves the next run removes.
    place.run(&["flatten", "--no-sync", &broad, "tree"]);
    place.becomes(&["work/tree".to_owned()]);
}

/// A disk that takes a few bytes a second: what is on it, and the throttle, go with this.
struct Hanging {
    place: PathBuf,
    device: String,
}

const THROTTLE: &str = "/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device";

impl Hanging {
    fn mount(place: &Place) -> Self {
        let (disk, mnt) = (place.path("in/disk"), place.path("work/mnt"));
        fs::create_dir(&mnt).unwrap();
        // Whoever has a mount namespace from before, such as a test beside this one, keeps what was in the last one.
        let _ = fs::remove_file(&disk);
        File::create(&disk).unwrap().set_len(300 << 20).unwrap();
        run(tools::command("mkfs.ext4").args(["-q", "-F"]).arg(&disk));
        run(Command::new("mount").args(["-o", "loop"]).arg(&disk).arg(&mnt));
        let device = rustix::fs::stat(&mnt).unwrap().st_dev;
        let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        Self { place: mnt, device }
    }

    fn hang(&self, bytes: u64) {
        fs::write(THROTTLE, format!("{} {bytes}", self.device)).unwrap();
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.hang(0);
        let unmounted =
            || Command::new("umount").arg(&self.place).stderr(Stdio::null()).status().is_ok_and(|it| it.success());
        // Whoever waits for it has it open.
        wait_until(unmounted, || format!("{:?} is still mounted", self.place));
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    if !output.status.success() {
        tools::impossible(&format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
}

/// A thread that waits for a disk cannot die.
fn at_a_disk_that_hangs() {
    if !Path::new(THROTTLE).exists() {
        tools::impossible("there is no cgroup (v1) of block devices that could make a disk slow");
    }
    let place = Place::new();
    let image = place.image("noise.tar", (0..4).map(|number| (format!("{number}"), noise(8 << 20, number))));
    let commands: [&[&str]; 5] = [
        &["flatten", &image, "mnt/flat"],
        &["layers", &image, "mnt/layers"],
        &["copy", &image, "oci:mnt/layout:a"],
        &["copy", &image, "docker-archive:mnt/archive.tar:a"],
        &["flatten", &image, "--to", "tar", "-o", "mnt/flat.tar"],
    ];
    for command in commands {
        let disk = Hanging::mount(&place);
        // Two hundred seconds for all of it.
        disk.hang(160 << 10);
        let running = Running::start(place.command(command));
        running.listens();
        std::thread::sleep(Duration::from_secs(2));
        let since = Instant::now();
        running.signal(Signal::INT);
        let took = running.dies(Signal::INT, since);
        eprintln!("a disk that hangs: {}: {:.2} s", command.join(" "), took.as_secs_f64());
        disk.hang(0);
        let mnt = place.path("work/mnt");
        wait_until(|| names(&mnt) == ["lost+found"], || format!("{:?}", names(&mnt)));
        drop(disk);
        fs::remove_dir(place.path("work/mnt")).unwrap();
    }
}
