//! `layflat explore` in a real terminal: tmux draws it, and gives back what is on the screen.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::Timespec;

use crate::common::harness::{Test, Trial, trials as of};
use crate::common::images::{INDEX, Layout, Tar, tagged};
use crate::common::tools;
use crate::common::wait::{self, PATIENCE};

pub(crate) fn trials() -> Vec<Trial> {
    const TESTS: &[Test] = &[
        ("shows_layers_files_and_history", false, shows_layers_files_and_history),
        ("goes_from_layer_to_layer", false, goes_from_layer_to_layer),
        ("shows_content_of_deleted_files", false, shows_content_of_deleted_files),
        ("writes_a_deleted_file", false, writes_a_deleted_file),
        ("writes_directories_and_links", false, writes_directories_and_links),
        ("searches_deleted_files_too", false, searches_deleted_files_too),
        ("shows_the_command_that_does_the_same", false, shows_the_command_that_does_the_same),
        ("asks_which_platform", false, asks_which_platform),
        ("long_lines_are_wrapped", false, long_lines_are_wrapped),
        ("filters", false, filters),
        ("fits_narrow_and_wide_screens_and_resizes", false, fits_narrow_and_wide_screens_and_resizes),
        ("uses_no_colours_where_none_are_wanted", false, uses_no_colours_where_none_are_wanted),
        ("compares_two_images", false, compares_two_images),
        ("leaves_the_terminal_as_it_was", false, leaves_the_terminal_as_it_was),
        ("ends_with_its_terminal", false, ends_with_its_terminal),
        ("needs_a_terminal", false, needs_a_terminal),
    ];
    of(TESTS)
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/four-layers.tar")
}

fn program() -> &'static str {
    env!("CARGO_BIN_EXE_layflat")
}

/// A terminal in which a shell runs a command, and then waits.
struct Terminal {
    place: tempfile::TempDir,
}

impl Terminal {
    fn start(width: u32, height: u32, command: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), (width, height), command)
    }

    fn start_in(place: tempfile::TempDir, (width, height): (u32, u32), command: &str) -> Self {
        tools::need(&["tmux"]);
        let terminal = Self { place };
        let shell = format!("{command}; echo ended with $?; sleep 600");
        terminal.tmux(&["new-session", "-d", "-x", &width.to_string(), "-y", &height.to_string(), &shell]);
        terminal
    }

    /// The program with this image, once a screen has these words.
    fn explore_layout(layout: &Layout, image: &str, words: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        layout.write(&place.path().join("oci"));
        let command = format!("'{}' explore '{image}'", program());
        let terminal = Self::start_in(place, (80, 24), &command);
        terminal.wait_for(words);
        terminal
    }

    fn explore(width: u32, height: u32) -> Self {
        let terminal = Self::start(width, height, &format!("'{}' explore '{}'", program(), fixture().display()));
        terminal.wait_for("Files after layer 3");
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .arg("-S")
            .arg(self.place.path().join("socket"))
            .args(["-f", "/dev/null", "-u"])
            .args(arguments)
            .env("XDG_CACHE_HOME", self.place.path().join("cache"))
            // Without it tmux takes the user's shell from the list of users: for `nobody` that is `nologin`.
            .env("SHELL", "/bin/sh")
            .current_dir(self.place.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn keys(&self, keys: &[&str]) {
        for key in keys {
            self.tmux(&["send-keys", key]);
        }
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The screen once it is as wanted. It may be looked at while it is drawn, so that one part of it says nothing of another.
    #[track_caller]
    fn wait_until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                return screen;
            }
            assert!(start.elapsed() < PATIENCE, "{what}:\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The screen once it has these words on it.
    #[track_caller]
    fn wait_for(&self, words: &str) -> String {
        self.wait_for_all(&[words])
    }

    /// The screen once it has all of these on it.
    #[track_caller]
    fn wait_for_all(&self, words: &[&str]) -> String {
        self.wait_until(&format!("not all of {words:?}"), |screen| words.iter().all(|words| screen.contains(words)))
    }

    /// Types Escape, and waits until these words have gone by it: a terminal takes it and a key that follows at once for one key.
    #[track_caller]
    fn escape(&self, words: &str) {
        self.keys(&["Escape"]);
        self.wait_until(&format!("still {words:?}"), |screen| !screen.contains(words));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let socket = self.place.path().join("socket");
        drop(Command::new("tmux").arg("-S").arg(socket).arg("kill-server").output());
    }
}

fn shows_layers_files_and_history() {
    let terminal = Terminal::explore(120, 30);
    terminal.wait_for_all(&[
        "4 layers",
        "c  (deleted by layer 3)",
        "d/  (deleted by layer 3)",
        "added    directory, 0755 0:0",
        "deleted  RUN rm -r c d",
        "? help",
    ]);
    terminal.keys(&["w"]);
    terminal.wait_for_all(&["Wasted, by directory", "deleted by layer 2"]);
    terminal.escape("Wasted, by directory");
    terminal.keys(&["?"]);
    terminal.wait_for("sort by size or by name");
}

fn goes_from_layer_to_layer() {
    let terminal = Terminal::explore(120, 30);
    terminal.keys(&["[", "[", "["]);
    terminal.wait_until("not layer 0 alone", |screen| {
        screen.contains("Files after layer 0") && screen.contains("+ ") && !screen.contains("(deleted by")
    });
    // Marked, every other layer is compared with it.
    terminal.keys(&["m", "]", "]", "]"]);
    terminal.wait_for_all(&["layer 3 compared with 0", "- "]);
    // What lower layers deleted is shown on request.
    terminal.keys(&["m", "d"]);
    terminal.wait_for("with deleted");
}

fn shows_content_of_deleted_files() {
    let terminal = Terminal::explore(120, 30);
    terminal.keys(&["/", "c", "Enter", "v"]);
    terminal.wait_for("this is c");
    terminal.keys(&["X"]);
    terminal.wait_for("74 68 69 73 20 69 73");
}

fn writes_a_deleted_file() {
    let terminal = Terminal::explore(120, 30);
    terminal.keys(&["/", "c", "Enter", "x"]);
    terminal.wait_for("write to: c");
    terminal.keys(&["Enter"]);
    terminal.wait_for("written: c");
    assert_eq!(std::fs::read(terminal.place.path().join("c")).unwrap(), b"this is c\n");
    // What is there is never written over.
    std::fs::write(terminal.place.path().join("c"), "mine").unwrap();
    terminal.keys(&["x"]);
    terminal.wait_for("write to: c");
    terminal.keys(&["Enter"]);
    terminal.wait_for("File exists");
    assert_eq!(std::fs::read(terminal.place.path().join("c")).unwrap(), b"mine");
}

fn writes_directories_and_links() {
    let layer =
        Tar::new().directory("etc/").directory("etc/app/").file("etc/app/key", "secret").symlink("etc/app/link", "key");
    let (below, above) = (layer.done(), Tar::new().file("etc/.wh.app", "").done());
    let mut layout = Layout::default();
    let image = layout.image(&[&below, &above]);
    let terminal = Terminal::explore_layout(&layout.list(tagged(image, "x")), "oci:oci:x", "Files after layer 1");
    terminal.keys(&["/", "a", "p", "p", "Enter", "x"]);
    terminal.wait_for("write to: app");
    terminal.keys(&["Enter"]);
    terminal.wait_for("written: app: 3 entries");
    assert_eq!(std::fs::read_to_string(terminal.place.path().join("app/key")).unwrap(), "secret");
    assert_eq!(std::fs::read_link(terminal.place.path().join("app/link")).unwrap(), Path::new("key"));
    // What is there is never replaced.
    terminal.keys(&["x", "Enter"]);
    terminal.wait_for("exists already");
    terminal.keys(&["/"]);
    terminal.wait_for("search: ");
    terminal.escape("search: ");
    terminal.keys(&["/", "l", "i", "n", "k", "Enter", "x", "2", "Enter"]);
    terminal.wait_for("written: link2: 1 entry");
    assert_eq!(std::fs::read_link(terminal.place.path().join("link2")).unwrap(), Path::new("key"));
}

fn searches_deleted_files_too() {
    let terminal = Terminal::explore(120, 30);
    // Layer 1 deleted it, and layer 3 shows nothing of that: it is found, and chosen.
    terminal.keys(&["/", "a"]);
    terminal.wait_for_all(&["a  (deleted by layer 1)", "┌ /a ", "layer   1  - deleted"]);
    terminal.keys(&["BSpace", "d", "/", "Enter"]);
    terminal.wait_for("┌ /d/x ");
    terminal.keys(&["n"]);
    terminal.wait_for_all(&["┌ /d/y ", "(deleted by layer 3)"]);
    terminal.keys(&["N"]);
    terminal.wait_for("┌ /d/x ");
}

fn shows_the_command_that_does_the_same() {
    let terminal = Terminal::explore(120, 30);
    terminal.keys(&["/", "c", "Enter", "e"]);
    terminal.wait_for("layflat cat --layer 2 ");
    terminal.keys(&["/", "BSpace", "z", "Enter", "e"]);
    terminal.wait_for("layflat cat --layer 2 ");
    terminal.keys(&["h", "e"]);
    terminal.wait_for("layflat cp --layer 2 ");
    terminal.keys(&["m", "[", "e"]);
    terminal.wait_for("layflat diff --layer 3,2 ");
}

fn asks_which_platform() {
    let mut layout = Layout::default();
    let manifests = ["linux/amd64", "linux/arm64/v8", "linux/s390x"].map(|platform| layout.image_for(platform));
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    let index = layout.document(INDEX, &index);
    let terminal = Terminal::explore_layout(&layout.list(tagged(index, "all")), "oci:oci:all", "Which one?");
    terminal.keys(&["k", "k", "j", "j", "Enter"]);
    terminal.wait_for_all(&["Files after layer 0", "linux/s390x", "linux-s390x"]);
    terminal.keys(&["e"]);
    terminal.wait_for("layflat cat --platform linux/s390x oci:oci:all");
    terminal.keys(&["q"]);
    terminal.wait_for("ended with 0");
}

fn long_lines_are_wrapped() {
    let layer = Tar::new().file("long", format!("{}end\n", "0123456789".repeat(12))).done();
    let mut layout = Layout::default();
    let image = layout.image(&[&layer]);
    let terminal = Terminal::explore_layout(&layout.list(tagged(image, "x")), "oci:oci:x", "Files after layer 0");
    terminal.keys(&["v"]);
    terminal.wait_for("end");
}

fn filters() {
    let terminal = Terminal::explore(120, 30);
    terminal.keys(&["/", "n", "o", "t", "h", "e", "r", "e"]);
    terminal.wait_for("nothing to show");
    terminal.keys(&["Escape"]);
    terminal.wait_for("(deleted by layer 3)");
}

fn fits_narrow_and_wide_screens_and_resizes() {
    for (width, height) in [(80, 24), (200, 50)] {
        let terminal = Terminal::explore(width, height);
        let screen = terminal.wait_for("? help");
        assert!(screen.lines().all(|line| line.chars().count() <= width as usize), "{screen}");
        terminal.tmux(&["resize-window", "-x", "100", "-y", "20"]);
        terminal.wait_until("it is not drawn anew", |screen| {
            screen.lines().filter(|line| line.ends_with(['┐', '┘', '│'])).count() >= 18
        });
        // Smaller than anything fits in, it stays alive.
        terminal.tmux(&["resize-window", "-x", "10", "-y", "4"]);
        terminal.tmux(&["resize-window", "-x", "100", "-y", "30"]);
        terminal.wait_for("Files after layer 3");
    }
}

fn uses_no_colours_where_none_are_wanted() {
    let command = format!("NO_COLOR=1 '{}' explore '{}'", program(), fixture().display());
    let terminal = Terminal::start(120, 30, &command);
    terminal.wait_for("Files after layer 3");
    terminal.wait_for("? help");
    let coloured = terminal.tmux(&["capture-pane", "-p", "-e"]);
    // 39 and 49 are the terminal's own colours.
    let has_colours =
        |screen: &str| screen.contains("38;5;") || (31..=37).any(|colour| screen.contains(&format!("[{colour}m")));
    assert!(!has_colours(&coloured), "{coloured:?}");
    let terminal = Terminal::explore(120, 30);
    wait::until("there are no colours", || has_colours(&terminal.tmux(&["capture-pane", "-p", "-e"])));
}

fn compares_two_images() {
    let second = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/archives/gnutar-pax.tar");
    let command = format!("'{}' explore '{}' 'layers:{}'", program(), fixture().display(), second.display());
    let terminal = Terminal::start(120, 30, &command);
    terminal.wait_for_all(&["- only in A, + only in B", "10B - -0644", " + "]);
}

fn leaves_the_terminal_as_it_was() {
    let terminal = Terminal::explore(80, 24);
    terminal.keys(&["q"]);
    let screen = terminal.wait_for("ended with 0");
    assert!(!screen.contains("Layers"), "{screen}");
}

fn ends_with_its_terminal() {
    for hangup_is_ignored in [false, true] {
        let start = if hangup_is_ignored { "trap '' HUP; " } else { "" };
        let command = format!("{start}echo $$ > shell; exec '{}' explore '{}'", program(), fixture().display());
        let terminal = Terminal::start(80, 24, &command);
        terminal.wait_for("Files after layer 3");
        let process = std::fs::read_to_string(terminal.place.path().join("shell")).unwrap();
        let process = Pid::from_raw(process.trim().parse().unwrap()).unwrap();
        // Not by its number, which another one may have next; nor does it matter who waits for it when it has ended.
        let process = pidfd_open(process, PidfdFlags::empty()).unwrap();
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let has_ended = || poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&at_once)).unwrap() == 1;
        assert!(!has_ended());
        terminal.tmux(&["kill-server"]);
        wait::until("it outlives its terminal", has_ended);
    }
}

fn needs_a_terminal() {
    let output = Command::new(program()).arg("explore").arg(fixture()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("needs a terminal"), "{message}");
}
