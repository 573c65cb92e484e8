//! `layflat run`, as root and as an ordinary user, with subordinate ids and without.

use super::place::{Bundles as _, Place, busybox, layflat};
use crate::common::images::Tar;
use crate::common::place::said;
use crate::common::{run, wait};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

/// The name of a test, whether an ordinary user needs subordinate ids for it, and the test.
pub(crate) type Case = (&'static str, bool, fn(&Place));

pub(crate) const TESTS: &[Case] = &[
    ("run_ends_as_its_program_does", true, run_ends_as_its_program_does),
    ("run_does_what_the_image_says", true, run_does_what_the_image_says),
    ("run_as_one_id_alone", false, run_as_one_id_alone),
    ("run_passes_signals_on", false, run_passes_signals_on),
    ("run_ends_with_whoever_started_it", true, run_ends_with_whoever_started_it),
    ("run_shows_what_is_bound", false, run_shows_what_is_bound),
    ("run_keeps_nothing_of_what_is_written", false, run_keeps_nothing_of_what_is_written),
    ("run_read_only", false, run_read_only),
    ("run_gives_a_program_what_it_expects", false, run_gives_a_program_what_it_expects),
    ("run_takes_privileges_away", true, run_takes_privileges_away),
    ("run_keeps_the_machine_out_of_reach", true, run_keeps_the_machine_out_of_reach),
    ("run_makes_the_working_directory", true, run_makes_the_working_directory),
    ("run_refuses_to_hide_the_image", true, run_refuses_to_hide_the_image),
    ("run_without_a_network", true, run_without_a_network),
    ("run_on_a_terminal", false, run_on_a_terminal),
];

/// What these tests need of a place.
trait Containers {
    /// A container of the image with busybox.
    fn container(&self, options: &[&str], arguments: &[&str]) -> Command;
    /// What a script prints in a container.
    fn prints(&self, options: &[&str], script: &str) -> String;
}

impl Containers for Place {
    fn container(&self, options: &[&str], arguments: &[&str]) -> Command {
        let mut command = self.layflat(&[&["run", "--quiet"], options].concat());
        command.arg(busybox()).args(arguments);
        command
    }

    #[track_caller]
    fn prints(&self, options: &[&str], script: &str) -> String {
        let output = self.container(options, &["sh", "-c", script]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{script}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// What of the machine a container's root could change or read: the program that started it, its environment, what it left open, and device nodes.
fn run_keeps_the_machine_out_of_reach(place: &Place) {
    let modes = || {
        ["/dev/null", "/dev/zero"]
            .map(|path| std::fs::metadata(path).unwrap().mode())
            .to_vec()
            .into_iter()
            .chain([std::fs::metadata(layflat()).unwrap().mode()])
            .collect::<Vec<_>>()
    };
    let before = modes();
    std::fs::create_dir(place.path("open")).unwrap();
    place.write("open/precious", "precious");
    let script = "readlink /proc/1/exe; for it in /proc/1/exe /dev/null /dev/zero /proc/kcore; do chmod 4600 $it; done 2>/dev/null; \
        tr '\\0' '\\n' </proc/1/environ | grep -c precious; ls /proc/self/fd | wc -l; cat /proc/self/fd/9/precious /proc/1/fd/9/precious 2>/dev/null; true";
    let line = "exec 9<open; exec \"$@\"";
    let mut command = place.command("sh");
    command.args(["-c", line, "sh"]).arg(layflat()).args(["run", "--quiet", "--user", "0"]).arg(busybox());
    let output = command.args(["sh", "-c", script]).env("SECRET", "precious").output().unwrap();
    let printed = String::from_utf8(output.stdout.clone()).unwrap();
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines[0].starts_with("/memfd:layflat"), "{}", said(&output));
    // The standard handles, and the one by which `ls` lists them.
    assert_eq!(lines[1..].iter().map(|line| line.trim()).collect::<Vec<_>>(), ["0", "4"], "{}", said(&output));
    assert_eq!(modes(), before);
}

fn run_makes_the_working_directory(place: &Place) {
    assert_eq!(place.prints(&["--user", "0", "--workdir", "/new/one"], "pwd; ls -d /new/one"), "/new/one\n/new/one\n");
}

fn run_refuses_to_hide_the_image(place: &Place) {
    let layer = Tar::new().symlink("src", "/").done();
    place.write("link.tar", layer);
    let bind = format!("{}:/src:ro", place.directory().display());
    let output = place.layflat(&["run", "--quiet", "--bind", &bind, "layers:link.tar", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{}", said(&output));
    assert!(said(&output).contains("cannot set up /src"), "{}", said(&output));
}

fn run_ends_as_its_program_does(place: &Place) {
    for (arguments, expected) in [
        (&["sh", "-c", "exit 0"][..], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["sh", "-c", "kill -KILL $$"], 137),
        (&["no-such-program"], 127),
        (&["/none/such"], 127),
        (&["/etc/passwd"], 126),
    ] {
        let output = place.container(&[], arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{arguments:?}: {}", said(&output));
        let is_ours = matches!(expected, 126 | 127);
        assert_eq!(output.stderr.starts_with(b"layflat: cannot run"), is_ours, "{}", said(&output));
    }
    for arguments in [
        &["run", "none.tar", "true"][..],
        &["run", "--net", "vpn", "none.tar"],
        &["run", "--in-place", "none.tar"],
        &["run", "--backend", "fuse", "none.tar"],
        &["run"],
    ] {
        let output = place.layflat(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{arguments:?}: {}", said(&output));
    }
    let output = place.container(&["--user", "nobody-here"], &["true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{}", said(&output));
    assert!(said(&output).contains("nobody-here"), "{}", said(&output));
}

fn run_does_what_the_image_says(place: &Place) {
    let printed = place.prints(
        &["--user", "0", "--hostname", "box", "--env", "A=1"],
        "id -u; hostname; echo $A; readlink /proc/self | wc -c; echo $PATH",
    );
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[..3], ["0", "box", "1"], "{printed}");
    assert!(lines[3].trim().parse::<u32>().unwrap() <= 4, "{printed}");
    assert!(lines[4].contains("/bin"), "{printed}");
    assert_eq!(place.prints(&["--user", "app", "--workdir", "/tmp"], "id -u; id -g; pwd"), "1234\n1235\n/tmp\n");
}

fn run_as_one_id_alone(place: &Place) {
    if rustix::process::geteuid().is_root() {
        return;
    }
    assert_eq!(place.prints(&["--single-owner", "--user", "0:0"], "id -u; echo a > /new; cat /new"), "0\na\n");
    let output = place.container(&["--single-owner", "--user", "1234:1235"], &["true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{}", said(&output));
    assert!(said(&output).contains("group 1235") && said(&output).contains("--user 0"), "{}", said(&output));
}

fn run_passes_signals_on(place: &Place) {
    let script = "trap 'echo term; exit 3' TERM; trap 'echo usr' USR1; trap 'echo int; exit 4' INT; echo ready; while :; do sleep 0.1; done";
    for (signals, printed, status) in [(&["USR1", "TERM"][..], "usr\nterm\n", 3), (&["INT"], "int\n", 4)] {
        // Also where whoever started the tests ignores them: what is ignored from the start cannot be trapped.
        let mut command = place.command("env");
        command.arg("--default-signal=INT,TERM,USR1").arg(layflat()).args(["run", "--quiet", "--user", "0"]);
        command.arg(busybox()).args(["sh", "-c", script]);
        let mut running = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(running.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let mut rest = String::new();
        for (index, signal) in signals.iter().enumerate() {
            assert!(
                Command::new("kill")
                    .args([&format!("-{signal}"), &running.id().to_string()])
                    .status()
                    .unwrap()
                    .success()
            );
            if index + 1 < signals.len() {
                lines.read_line(&mut rest).unwrap();
            }
        }
        lines.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, printed);
        assert_eq!(running.wait().unwrap().code(), Some(status));
    }
}

fn run_ends_with_whoever_started_it(place: &Place) {
    // So long nothing else sleeps.
    let mark = fastrand::u32(1_000_000_000..2_000_000_000).to_string();
    let is_there = || {
        std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            line.starts_with(b"sleep\0") && line.windows(mark.len()).any(|part| part == mark.as_bytes())
        })
    };
    let mut running = place.container(&[], &["sleep", &mark]).spawn().unwrap();
    wait::while_it_runs(&mut running, "it does not start", is_there);
    running.kill().unwrap();
    running.wait().unwrap();
    wait::until("it does not end", || !is_there());
}

fn run_shows_what_is_bound(place: &Place) {
    std::fs::create_dir(place.path("shared")).unwrap();
    std::fs::write(place.path("shared/a"), "host").unwrap();
    let here = place.path("shared").canonicalize().unwrap().display().to_string();
    let user = ["--user", "0"];
    let bound = |bind: &str, script: &str| place.prints(&[&user[..], &["--bind", bind]].concat(), script);
    assert_eq!(bound("shared:/x/y", "cat /x/y/a; echo new > /x/y/b"), "host");
    assert_eq!(std::fs::read_to_string(place.path("shared/b")).unwrap(), "new\n");
    assert_eq!(bound("shared", &format!("cat '{here}/a'")), "host");
    assert_eq!(bound("shared:/x:ro", "echo no > /x/c || echo refused"), "refused\n");
    assert_eq!(bound("shared:ro", &format!("echo no > '{here}/c' || echo refused")), "refused\n");
    assert_eq!(bound("shared/a:/etc/passwd:ro", "cat /etc/passwd"), "host");
    assert!(!place.path("shared/c").exists());
    for (bind, word) in [("none:/x", "none"), ("none", "none"), ("shared:/", "root")] {
        let output = place.container(&["--bind", bind], &["true"]).output().unwrap();
        assert_eq!(output.status.code(), Some(125));
        assert!(said(&output).contains(word), "{}", said(&output));
    }
}

fn run_keeps_nothing_of_what_is_written(place: &Place) {
    let mounts = || -> Vec<String> {
        let lines = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        // An ordinary user's tests have one namespace together, and others mount there.
        let is_ours = |line: &&str| run::is_root() || line.contains(place.directory().to_str().unwrap());
        lines.lines().filter(is_ours).map(str::to_owned).collect()
    };
    place.prints(&["--user", "0"], "true");
    let (before, names) = (mounts(), place.names("."));
    let cache = || walkdir::WalkDir::new(place.path("home/.cache")).into_iter().flatten().count();
    let cached = cache();
    let script = "echo x > /written; rm -r /data; mkdir /data; echo y > /data/new; cat /written /data/new; ls /data";
    assert_eq!(place.prints(&["--user", "0"], script), "x\ny\nnew\n");
    assert_eq!(place.prints(&["--user", "0"], "test ! -e /written && test -e /data/seed && echo fresh"), "fresh\n");
    assert_eq!((mounts(), place.names("."), cache()), (before, names, cached));
}

fn run_read_only(place: &Place) {
    let script =
        "echo x > /written || echo refused; echo x > /tmp/a && cat /tmp/a; echo x > /dev/shm/a && cat /dev/shm/a";
    assert_eq!(place.prints(&["--user", "0", "--read-only"], script), "refused\nx\nx\n");
    // A volume begins with what the image has there, and can be written to.
    let volume = "echo x > /data/new && cat /data/new /data/seed";
    assert_eq!(place.prints(&["--user", "0", "--read-only"], volume), "x\nfrom the image\n");
    assert_eq!(place.prints(&["--user", "0"], "test ! -e /data/new && echo fresh"), "fresh\n");
}

fn run_gives_a_program_what_it_expects(place: &Place) {
    let script = "echo x > /dev/null; test -c /dev/zero && test -c /dev/full && test -c /dev/urandom && test -c /dev/tty && echo devices
        test -c /dev/pts/ptmx && test -L /dev/stdin && echo links
        ls -d /proc/1 /sys/kernel; wc -l < /proc/mounts > /dev/null && echo mounts
        test -s /etc/hosts && echo hosts; echo x 2> /dev/null > /proc/sys/kernel/hostname || echo read-only";
    let expected = "devices\nlinks\n/proc/1\n/sys/kernel\nmounts\nhosts\nread-only\n";
    assert_eq!(place.prints(&["--user", "0"], script), expected);
    // Nothing of the place where it was made is left.
    let mounts = place.prints(&["--user", "0"], "cat /proc/mounts");
    assert!(!mounts.contains("/upper ") && !mounts.contains(" /mnt"), "{mounts}");
    assert_eq!(mounts.lines().filter(|line| line.split(' ').nth(1) == Some("/")).count(), 1, "{mounts}");
}

fn run_takes_privileges_away(place: &Place) {
    let status = |user: &str| {
        let status = place.prints(&["--user", user], "cat /proc/self/status");
        let of = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        (of("CapEff:"), of("CapBnd:"), of("CapAmb:"), of("NoNewPrivs:"))
    };
    let (podmans, none) = ("00000000800405fb", "0000000000000000");
    let own = |effective: &str| (effective.to_owned(), podmans.to_owned(), none.to_owned(), "1".to_owned());
    assert_eq!(status("0"), own(podmans));
    assert_eq!(status("1234"), own(none));
}

fn run_without_a_network(place: &Place) {
    let script = "cat /proc/net/dev";
    let alone = place.prints(&["--net", "none"], script);
    assert_eq!(alone.lines().count(), 3, "{alone}");
    assert!(alone.contains("lo:"), "{alone}");
}

fn run_on_a_terminal(place: &Place) {
    let line = format!(
        "stty cols 77 rows 22; {} run -q --user 0 {} sh -c 'test -t 0 && test -c /dev/console && /bin/busybox stty size && echo $TERM'",
        layflat().display(),
        busybox().display()
    );
    let mut command = place.command("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("SHELL", "/bin/sh");
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("22 77"), "{}", said(&output));
}
