//! Networks that break and servers that are busy: what passes is waited for, what does not is said, and nothing wrong
//! is kept.

use std::fs;
use std::time::{Duration, Instant};

use super::place::{Images as _, Place, failed, names, noise, succeeded};
use super::proxy::{Act, Head, PATIENTLY, Proxy, answer};
use super::servers::Registry;
use crate::common::harness::Test;
use crate::common::images::{Tar, gzip, hex};
use crate::common::wait;

pub(crate) const TESTS: &[Test] = &[
    ("faults::a_broken_download_goes_on_where_it_ended", false, cut),
    ("faults::a_registry_may_ignore_ranges", false, ranges_ignored),
    ("faults::a_wrong_byte_is_found_and_nothing_is_kept", false, wrong_byte),
    ("faults::a_blob_that_is_too_short_is_said_to_be", false, too_short),
    ("faults::who_is_busy_is_asked_again_when_they_say", false, busy),
    ("faults::a_connection_that_brings_nothing_is_given_up", false, stalled),
    ("faults::s10_a_list_without_end_is_refused", false, endless),
    ("faults::s10_a_document_that_drips_is_given_up", false, dripping),
    ("faults::a_signal_ends_the_waiting", false, interrupted),
    ("faults::a_full_disk_says_what_to_do", true, full_disk),
];

/// A registry with an image of one small layer and one large one, whose file is called `large`.
struct Stand {
    place: Place,
    registry: Registry,
    /// The large layer's digits and stored bytes.
    blob: String,
    stored: usize,
    content: Vec<u8>,
}

impl Stand {
    fn new() -> Self {
        let place = Place::new();
        let registry = Registry::open(&place);
        let content = noise(400_000, 42);
        let layer = gzip(&Tar::new().file("large", &content).done());
        let image = place.image("layout", &[("small", b"small".to_vec()), ("large", content.clone())]);
        registry.put(&image, "a:1", &[]);
        Self { blob: hex(&layer), stored: layer.len(), place, registry, content }
    }

    /// A proxy that does something to the large blob, by the number of times it was asked for.
    fn proxy(&self, act: impl Fn(&Head, usize) -> Act + Send + Sync + 'static) -> Proxy {
        let blob = self.blob.clone();
        let asked = std::sync::atomic::AtomicUsize::new(0);
        Proxy::start(Some(self.registry.address), move |head, _| {
            if head.is_blob() && head.path.ends_with(&blob) {
                act(head, asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst))
            } else {
                Act::Pass
            }
        })
    }

    /// What was asked for the large blob.
    fn ranges(&self, proxy: &Proxy) -> Vec<Option<String>> {
        let of_blob = |head: &&Head| head.is_blob() && head.path.ends_with(&self.blob);
        proxy.heads().iter().filter(of_blob).map(|head| head.header("range").map(str::to_owned)).collect()
    }

    fn flattens(&self, proxy: &Proxy, more: &[&str]) {
        self.place.printed(&[&["flatten", &proxy.image("a:1"), "dest"], more].concat());
        assert_eq!(fs::read(self.place.path("dest/large")).unwrap(), self.content);
        assert_eq!(self.place.cached().len(), 4);
    }

    /// What is said when it fails; nothing is left, and the large blob is not kept.
    fn refused(&self, proxy: &Proxy, more: &[&str]) -> String {
        let before = names(self.place.directory());
        let message = self.place.message(&[&["flatten", &proxy.image("a:1"), "dest"], more].concat());
        let mut after = names(self.place.directory());
        after.retain(|name| name != "home");
        assert_eq!(before.into_iter().filter(|name| name != "home").collect::<Vec<_>>(), after);
        let cached = self.place.cached();
        // What came of it waits for the next run, and is not taken for the blob.
        let partial = format!("new-{}", self.blob);
        let is_it = |name: &String| name.contains(&self.blob) || name.contains("new-");
        assert!(!cached.iter().any(|name| is_it(name) && !name.ends_with(&partial)), "{cached:?}");
        message
    }
}

fn cut() {
    let stand = Stand::new();
    let proxy = stand.proxy(|_, count| if count < 2 { Act::Cut(150_000) } else { Act::Pass });
    stand.flattens(&proxy, &[]);
    let expected = [None, Some("bytes=150000-".to_owned()), Some("bytes=300000-".to_owned())];
    assert_eq!(stand.ranges(&proxy), expected);
    // In the end it is enough.
    let stand = Stand::new();
    let proxy = stand.proxy(|_, _| Act::Cut(10));
    let host = proxy.address;
    let expected =
        format!("layer 1: blob sha256:{0}: a: the connection to {host} broke: it ended too early", stand.blob);
    assert_eq!(stand.refused(&proxy, &["--retries", "2"]), expected);
    assert_eq!(stand.ranges(&proxy).len(), 3);
}

fn ranges_ignored() {
    let stand = Stand::new();
    let proxy = stand.proxy(|_, count| if count == 0 { Act::Cut(200_000) } else { Act::Without("range") });
    stand.flattens(&proxy, &[]);
    assert_eq!(stand.ranges(&proxy), [None, Some("bytes=200000-".to_owned())]);
}

fn wrong_byte() {
    let stand = Stand::new();
    // In the end of the noise, which is stored as it is: the decoder sees nothing, but for its own sum.
    let at = stand.stored - 2000;
    let proxy = stand.proxy(move |_, _| Act::Flip(at));
    let message = stand.refused(&proxy, &[]);
    let begin = format!("layer 1: blob sha256:{}: ", stand.blob);
    assert!(message.starts_with(&begin) && message.contains("damaged"), "{message}");
    assert!(!stand.place.cached().iter().any(|name| name.contains("new-")));
    // An index, a manifest or a configuration is checked as well.
    let proxy = Proxy::start(Some(stand.registry.address), |head, _| {
        if head.path.contains("/manifests/") { Act::Flip(10) } else { Act::Pass }
    });
    let image = proxy.image(&format!("a@{}", stand.registry.digest("a:1")));
    let message = stand.place.message(&["flatten", "--no-cache", &image, "dest"]);
    assert!(message.contains("a manifest with the digest sha256:") && message.contains("it was altered"), "{message}");
    // What was wrong once does no harm later.
    stand.flattens(&stand.proxy(|_, _| Act::Pass), &[]);
}

fn too_short() {
    let stand = Stand::new();
    let proxy = stand.proxy(|_, _| Act::Shorten);
    let (blob, size) = (&stand.blob, stand.stored);
    let expected = format!(
        "layer 1: blob sha256:{blob}: a: the registry {} gave an unexpected answer: a blob of {} bytes, but the \
         image states {size}",
        proxy.address,
        size - 1
    );
    assert_eq!(stand.refused(&proxy, &[]), expected);
}

fn busy() {
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let stand = Stand::new();
        let wait = Duration::from_secs(1);
        let proxy = stand.proxy(move |_, count| match count {
            0 => answer(status, &["Retry-After: 1"], r#"{"errors":[{"code":"BUSY","message":"later, please"}]}"#),
            _ => Act::Pass,
        });
        let begun = Instant::now();
        stand.flattens(&proxy, &[]);
        assert!(begun.elapsed() >= wait);
        assert_eq!(stand.ranges(&proxy).len(), 2);
    }
    let stand = Stand::new();
    let proxy = stand.proxy(|_, _| {
        answer("429 Too Many Requests", &["Retry-After: 3600"], r#"{"errors":[{"message":"come tomorrow"}]}"#)
    });
    let expected = format!(
        "layer 1: blob sha256:{0}: a: the registry {1} answered 429 Too Many Requests: come tomorrow (it asks to retry \
         after 3600 s)",
        stand.blob, proxy.address
    );
    assert_eq!(stand.refused(&proxy, &[]), expected);
    assert_eq!(stand.ranges(&proxy).len(), 1);
}

fn stalled() {
    let stand = Stand::new();
    let proxy = stand.proxy(|_, count| if count == 0 { Act::Stall(100_000) } else { Act::Pass });
    stand.flattens(&proxy, &["--timeout", "2"]);
    assert_eq!(stand.ranges(&proxy), [None, Some("bytes=100000-".to_owned())]);
    let stand = Stand::new();
    let proxy = stand.proxy(|_, _| Act::Stall(0));
    let expected =
        format!("layer 1: blob sha256:{0}: a: the connection to {1} broke: no data for 2 s", stand.blob, proxy.address);
    assert_eq!(stand.refused(&proxy, &["--timeout", "2", "--retries", "0"]), expected);
}

/// Pages of tags without end: large ones, and empty ones.
fn endless() {
    let place = Place::new();
    for (tags, limit) in [(vec!["t".repeat(7 << 20)], "64 MiB"), (vec!["t".repeat(9 << 20)], "a page of more")] {
        let proxy = Proxy::start(None, move |head, count| {
            if !head.path.contains("/tags/list") {
                return answer("200 OK", &[], "{}");
            }
            let tags: Vec<String> = tags.iter().map(|tag| format!("{count}{tag}")).collect();
            let next = format!("Link: </v2/a/tags/list?last={count}>; rel=\"next\"");
            answer("200 OK", &[&next], &serde_json::json!({"name": "a", "tags": tags}).to_string())
        });
        let message = failed(&place.run(&["tags", &proxy.image("a")]));
        assert!(message.contains(limit), "{message}");
        assert!(proxy.heads().len() < 20);
    }
}

/// Each byte comes in time, and all of them never.
fn dripping() {
    let place = Place::new();
    let given_up = |status: &'static str, expected: &str| {
        let proxy = Proxy::start(None, move |head, _| {
            let drip = format!("HTTP/1.1 {status}\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n{{");
            if head.path.contains("/manifests/") { Act::Drip(drip) } else { answer("200 OK", &[], "{}") }
        });
        let message = failed(&place.run(&["flatten", "--timeout", "2", &proxy.image("a:1"), "dest"]));
        assert!(message.contains(expected), "{message}");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| given_up("200 OK", "sent only a part of it within 20 s"));
        scope.spawn(|| given_up("403 Forbidden", "denied access"));
    });
}

fn interrupted() {
    let stand = Stand::new();
    let (told, stalls) = std::sync::mpsc::channel();
    let proxy = stand.proxy(move |_, _| {
        let _ = told.send(());
        Act::Stall(1000)
    });
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("layflat"));
    let child = command
        .args(["flatten", &proxy.image("a:1"), "dest"])
        .args(PATIENTLY)
        .current_dir(stand.place.directory())
        .env("HOME", stand.place.path("home"))
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait::told(&stalls);
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&output.status),
        Some(rustix::process::Signal::TERM.as_raw())
    );
    assert_eq!(output.stderr, b"layflat: interrupted; no partial output was left\n");
    assert!(!stand.place.path("dest").exists());
    // What came of the blob may wait for the next run.
    let partial = format!("new-{}", stand.blob);
    assert!(!stand.place.cached().iter().any(|name| name.contains("new-") && !name.ends_with(&partial)));
}

fn full_disk() {
    let stand = Stand::new();
    let small = stand.place.path("small");
    fs::create_dir(&small).unwrap();
    // In a mount namespace of its own, so that nothing stays mounted.
    let script = r#"mount -t tmpfs -o size=200k,mode=0755 tmpfs "$1" && shift && exec "$@""#;
    let layflat = assert_cmd::cargo::cargo_bin!("layflat");
    let image = stand.registry.image("a:1");
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(&small)
        .arg(layflat)
        .args(["flatten", "--cache-dir", small.to_str().unwrap(), &image, "dest"])
        .current_dir(stand.place.directory())
        .output()
        .unwrap();
    let message = failed(&output);
    let problem = format!(
        "cannot keep it in the cache {:?}: No space left on device (os error 28); make room with `layflat cache prune`, or use \
         --cache-dir or --no-cache",
        small.join("blobs")
    );
    // Whichever layer met it first.
    assert!(message.starts_with("layer ") && message.ends_with(&problem), "{message}");
    assert!(!stand.place.path("dest").exists());
    succeeded(&stand.place.run(&["flatten", "--no-cache", &image, "dest"]));
}
