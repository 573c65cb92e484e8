//! Docker Engine with layflat as the snapshotter and differ of its containerd: what it builds, commits and saves is what
//! the steps and containers have seen.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use layflat::core::digest::Digest;
use serde_json::Value;

use crate::client::Mounted;
use crate::common::harness::Trial;
use crate::common::images::{self, Tar};
use crate::common::run;
use crate::common::tar;
use crate::common::text::Stack;
use crate::common::tools;
use crate::common::tree::Tree;
use crate::daemons::{Daemons, Role, Running, said, soon};
use crate::imports::SUITES;
use crate::lost::Link;

/// A test of one suite's Docker.
type Test = fn(&mut Docker);

pub(crate) fn trials() -> Vec<Trial> {
    const TESTS: [(&str, Test); 4] = [
        ("what_is_built_is_what_the_steps_have_seen", built),
        ("what_is_committed_is_what_the_container_shows", committed),
        ("after_a_kill_a_build_works_and_what_is_removed_is_gone", killed),
        ("a_build_goes_on_with_a_step_whose_commit_was_not_heard_of", lost),
    ];
    let mut trials = Vec::new();
    for suite in SUITES {
        // One of an older Docker's will do: each takes seconds.
        for &(name, test) in if suite == "sid" { &TESTS[..] } else { &TESTS[..1] } {
            trials.push(trial(format!("{suite}::{name}"), suite, Role::Pair, test));
        }
    }
    for (name, test) in TESTS {
        trials.push(trial(format!("erofs::{name}"), "sid", Role::Erofs, test));
    }
    trials
}

fn trial(name: String, suite: &'static str, role: Role, test: Test) -> Trial {
    let run = move || {
        test(&mut Docker::start(suite, role));
        Ok(())
    };
    Trial::test(name, run).with_ignored_flag(!run::is_root())
}

/// Applets of busybox, by the names that steps and containers call them by.
const APPLETS: [&str; 12] =
    ["sh", "cat", "chmod", "echo", "ln", "mkdir", "mkfifo", "mknod", "mv", "rm", "sleep", "touch"];

const DOCKERFILE: &str = "\
FROM base AS one
RUN rm /d/a && rm -rf /o && mkdir /o && echo new >/o/new
RUN rm -rf /e && echo e >/e && rm /f && mkdir -p /f/g && echo h >/f/g/h
RUN chmod 4711 /x && ln /y /w && echo more >>/y && mv /m /n
RUN rm -rf /e /o && mkdir /e && ln -s d /o && mkfifo /p && mknod /c c 1 3 && chmod 1711 /
RUN rm -rf /d && mkdir /d && touch -d '2001-01-01 00:00:00' /d
FROM base
COPY --from=one /e /x /y /n/ /n/
COPY --link context /linked
RUN rm /linked/b && rm -rf /o && mkdir /o && echo end >/end
";

struct Docker {
    daemons: Daemons,
    link: Link,
    programs: PathBuf,
    dockerd: Option<Running>,
}

impl Docker {
    /// Starts all three daemons on empty roots. Ends the test as impossible if this suite's are not there.
    fn start(suite: &str, role: Role) -> Self {
        let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/containerd/{suite}-docker/usr"));
        if !programs.join("sbin/dockerd").exists() {
            tools::impossible(&format!("{programs:?} has no dockerd: scripts/get-containerd"));
        }
        tools::need(&["/bin/busybox", "runc"]);
        let (daemons, link) = Daemons::start_linked(suite, role);
        let mut docker = Self { daemons, link, programs, dockerd: None };
        let plugins = docker.path("cli/cli-plugins");
        fs::create_dir_all(&plugins).unwrap();
        let plugin = docker.programs.join("libexec/docker/cli-plugins/docker-buildx");
        std::os::unix::fs::symlink(plugin, plugins.join("docker-buildx")).unwrap();
        let at = |name: &str| docker.path(name).display().to_string();
        let config = serde_json::json!({
            "containerd": at("c.sock"), "features": { "containerd-snapshotter": true }, "storage-driver": "layflat",
            "hosts": [format!("unix://{}", at("d.sock"))], "data-root": at("docker"), "exec-root": at("docker-exec"),
            "pidfile": at("d.pid"), "bridge": "none", "iptables": false, "ip6tables": false, "ip-forward": false,
        });
        fs::write(docker.path("daemon.json"), config.to_string()).unwrap();
        docker.start_dockerd();

        let mut base = Tar::new();
        for directory in ["bin", "dev", "etc", "proc", "sys"] {
            base = base.directory(directory);
        }
        base = base.mode("bin/busybox", 0o755, (0, 0), fs::read("/bin/busybox").unwrap());
        for applet in APPLETS {
            base = base.symlink(&format!("bin/{applet}"), "busybox");
        }
        let files = "D ., D d, F d/a, F d/b, D o, F o/old, D e(2775,7:8), F e/x, F f, F x(755,user.k=v), F y, H z=y, \
            D m, F m/n, L l->d";
        let layers = [base.done(), tar::archive(&Stack::parse(files).0[0])];
        let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        let mut layout = images::Layout::default();
        let mut descriptor = layout.image(&layers);
        descriptor["annotations"] = serde_json::json!({ "io.containerd.image.name": "docker.io/library/base:latest" });
        layout.manifests.push(descriptor);
        fs::write(docker.path("base.tar"), layout.tar()).unwrap();
        docker.done(&format!("load --input {}", docker.path("base.tar").display()));

        let context = docker.path("build/context");
        fs::create_dir_all(&context).unwrap();
        fs::write(context.join("a"), "a").unwrap();
        fs::write(context.join("b"), "b").unwrap();
        fs::write(docker.path("build/Dockerfile"), DOCKERFILE).unwrap();
        docker
    }

    fn start_dockerd(&mut self) {
        let mut command = Command::new(self.programs.join("sbin/dockerd"));
        command.arg("--config-file").arg(self.path("daemon.json")).env("PATH", self.search_path());
        let started = Running::started(command, &self.path(""), "dockerd");
        if started.is_none() {
            let log = self.daemons.log("dockerd");
            // What a machine does not allow says nothing of the snapshotter.
            if log.contains("cgroup") {
                tools::impossible(&format!("dockerd cannot run here: {log}"));
            }
            panic!("dockerd does not get ready\n{log}");
        }
        self.dockerd = started;
    }

    /// As systemd does; containers and steps are ended.
    fn stop_dockerd(&mut self) {
        if let Some(dockerd) = self.dockerd.take() {
            dockerd.terminate();
            dockerd.ended_well();
        }
    }

    fn search_path(&self) -> String {
        let own = ["bin", "sbin"].map(|name| self.programs.join(name).display().to_string());
        format!("{}:{}", own.join(":"), std::env::var("PATH").unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.daemons.path(name)
    }

    /// `docker`, with arguments separated by spaces.
    fn docker(&self, arguments: &str) -> Command {
        let mut command = Command::new(self.programs.join("bin/docker"));
        command.args(arguments.split_whitespace()).env("PATH", self.search_path()).stdin(Stdio::null());
        command.env("DOCKER_HOST", format!("unix://{}", self.path("d.sock").display()));
        command.env("DOCKER_CONFIG", self.path("cli"));
        command
    }

    fn checked(&self, mut command: Command) -> String {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let error = String::from_utf8_lossy(&stderr);
        if !status.success() && error.contains("cgroup") {
            tools::impossible(&format!("runc cannot run here: {error}"));
        }
        assert!(status.success(), "{command:?}: {error}\n{}", self.daemons.log("layflat"));
        String::from_utf8(stdout).unwrap()
    }

    /// Runs `docker`, which must succeed; what it prints.
    fn done(&self, arguments: &str) -> String {
        self.checked(self.docker(arguments))
    }

    fn build(&self, options: &str) -> Command {
        self.docker(&format!("build --quiet --network none {options} {}", self.path("build").display()))
    }

    /// containerd waits a little until it connects anew. The steps that were ended do not keep anything from being built, and nothing
    /// is built without BuildKit's cache.
    fn builds_when_connected(&self) {
        let is_built = || {
            let output = self.build("--target one --tag one").output().unwrap();
            assert!(!said(&output).contains("failed to stat active key"), "{}", said(&output));
            output.status.success()
        };
        soon(is_built, || self.daemons.log("layflat"));
    }

    /// containerd removes directories when it collects its garbage, and that is soon.
    fn is_empty_soon(&self) {
        let left = || fs::read_dir(self.daemons.snapshots()).unwrap().count();
        soon(|| left() == 0, || format!("{} directories", left()));
    }

    /// What a command prints in a container of an image. It goes through a file: of a pipe Docker may give up before it has handed on what came through it,
    /// where the machine is busy.
    fn printed(&self, image: &str, command: &str) -> String {
        let mut run = self.docker(&format!("run --name printing --network none {image} sh -c"));
        run.arg(format!("{command} >/printed"));
        self.checked(run);
        let printed = self.path("printed");
        self.done(&format!("cp printing:/printed {}", printed.display()));
        self.done("rm printing");
        fs::read_to_string(printed).unwrap()
    }

    /// What an image means that is saved.
    fn saved(&self, image: &str) -> Tree {
        let (archive, root) = (self.path(&format!("{image}.tar")), self.path(&format!("{image}-root")));
        self.done(&format!("save --output {} {image}", archive.display()));
        let mut flatten = Command::new(assert_cmd::cargo::cargo_bin!("layflat"));
        flatten.args(["flatten", "--no-cache"]).arg(&archive).arg(&root);
        let output = flatten.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        Tree::of_directory(&root)
    }

    fn diff_ids(&self, image: &str) -> Vec<Digest> {
        let mut inspect = self.docker(&format!("image inspect {image} --format"));
        inspect.arg("{{json .RootFS.Layers}}");
        let layers = self.checked(inspect);
        serde_json::from_str::<Vec<String>>(&layers).unwrap().iter().map(|layer| layer.parse().unwrap()).collect()
    }

    /// What containers of an image begin with.
    fn shown(&self, image: &str) -> Tree {
        let chained = |below, layer| Digest::sha256_of(format!("{below} {layer}").as_bytes());
        let chain = self.diff_ids(image).into_iter().reduce(chained).unwrap();
        let names = self.daemons.client().list(&["kind==committed"]).unwrap();
        let name = names.keys().find(|name| name.ends_with(&chain.to_string())).unwrap();
        self.daemons.client().shown(name, &self.path("mount"))
    }

    /// What the last steps of builds have left that have made a file of this name: BuildKit keeps that beside the image.
    fn seen(&self, mark: &str) -> Vec<Tree> {
        let names = self.daemons.client().list(&["kind==committed"]).unwrap();
        let is_last = |name: &String| !name.contains("sha256:") && !names.values().any(|parent| parent == name);
        let lasts = names.iter().filter(|(name, parent)| is_last(name) && !parent.is_empty());
        let trees = lasts.filter_map(|(name, _)| self.daemons.client().try_shown(name, &self.path("mount")).ok());
        trees.filter(|tree| tree.0.contains_key(mark.as_bytes())).collect()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        self.stop_dockerd();
        // What it has left mounted would be removed with the directories.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4).map(PathBuf::from));
        for point in points.filter(|point| point.starts_with(self.path(""))) {
            let _ = rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

fn same(expected: &Tree, found: &Tree) {
    let differences = expected.differences(found);
    assert!(differences.is_empty(), "{differences:#?}");
}

/// Without what is at these paths and below.
fn without(mut tree: Tree, paths: &[&str]) -> Tree {
    tree.0.retain(|path, _| !paths.iter().any(|gone| Path::new(&*String::from_utf8_lossy(path)).starts_with(gone)));
    tree.regroup();
    tree
}

fn built(docker: &mut Docker) {
    docker.checked(docker.build("--target one --tag one"));
    let saved = docker.saved("one");
    same(&docker.seen("w")[0], &saved);
    same(&docker.shown("one"), &saved);
    for gone in ["d/a", "d/b", "o/old", "e/x", "f/x", "m"] {
        assert!(!saved.0.contains_key(gone.as_bytes()), "{gone}");
    }
    let file = &saved.0[&b"x"[..]];
    assert_eq!((file.attributes.mode, &file.attributes.xattrs[&b"user.k"[..]][..]), (0o4711, &b"v"[..]));
    assert_eq!(saved.0[&b""[..]].attributes.mode, 0o1711);
    assert_eq!(docker.printed("one", "cat /f/g/h /y"), "h\nymore\n");

    // It merges layers, by its own means; only what is in the root directory, and not the root's own attributes.
    docker.checked(docker.build("--tag two"));
    let saved = docker.saved("two");
    let root = |mut tree: Tree| {
        tree.0.remove(&b""[..]);
        tree
    };
    same(&root(docker.seen("end").remove(0)), &root(saved.clone()));
    same(&docker.shown("two"), &saved);
    assert_eq!(docker.printed("two", "cat /linked/a /end"), "aend\n");

    // All layers were made by us, and all images unpacked.
    let log = docker.daemons.log("layflat");
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!((count("left"), count("failed"), count("packed")), (0, 0, 5 + 3), "{log}");
}

fn committed(docker: &mut Docker) {
    let change = "rm -rf /o && mkdir /o && echo new >/o/new && rm /d/a && mv /m /n && chmod 600 /x && ln /y /w";
    let mut run = docker.docker("run --name changed --network none base sh -c");
    run.arg(change);
    docker.checked(run);
    let said = docker.done("diff changed");
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    let expected = ["A /n", "A /n/n", "A /o/new", "A /w", "C /d", "C /o", "C /x", "D /d/a", "D /m", "D /o/old"];
    assert_eq!(lines.into_iter().filter(|line| *line != "C /y").collect::<Vec<_>>(), expected, "{said}");

    docker.done("commit changed made");
    let names = docker.daemons.client().list(&["kind==active"]).unwrap();
    let container = docker.done("inspect --format {{.Id}} changed");
    let key = names.keys().find(|name| name.ends_with(container.trim())).unwrap();
    let mounts = docker.daemons.client().mounts(key).unwrap();
    let mounted = Mounted::at(&mounts, &docker.path("mount"));
    // What Docker puts into each container is no part of the image.
    let own = |mut tree: Tree| {
        tree.0.remove(&b""[..]);
        without(tree, &[".dockerenv", "dev", "etc"])
    };
    same(&own(Tree::of_directory(&mounted.0)), &own(docker.saved("made")));
    drop(mounted);
    assert_eq!(docker.printed("made", "cat /o/new /n/n"), "new\nn");

    // Where nothing was changed there is no layer.
    docker.done("create --name idle --network none base true");
    docker.done("commit idle same");
    assert_eq!(docker.diff_ids("same"), docker.diff_ids("base"));
}

/// BuildKit keeps the step, and asks for it by the key that it had.
fn lost(docker: &mut Docker) {
    for victim in ["layflat", "containerd"] {
        let mut run =
            || docker.build("--target one --tag one").stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let build = docker.link.lose_next_commit(&mut run);
        match victim {
            "layflat" => docker.daemons.kill_layflat(),
            _ => docker.daemons.kill_containerd(),
        }
        build.wait_with_output().unwrap();
        docker.link.mend();
        match victim {
            "layflat" => docker.daemons.start_layflat(),
            _ => docker.daemons.start_containerd(),
        }
    }
    docker.builds_when_connected();
    let saved = docker.saved("one");
    assert!(docker.seen("w").iter().any(|seen| seen.differences(&saved).is_empty()), "{saved:?}");
    same(&docker.shown("one"), &saved);
    docker.done("image rm one base");
    docker.done("builder prune --all --force");
    // BuildKit keeps what builds had in use that were ended so.
    docker.stop_dockerd();
    for lease in docker.daemons.done("-n moby leases ls --quiet").split_whitespace() {
        docker.daemons.done(&format!("-n moby leases delete --sync {lease}"));
    }
    docker.is_empty_soon();
}

fn killed(docker: &mut Docker) {
    let mut build = docker.build("--target one --tag one").stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    // In the middle of its steps.
    let steps = || docker.daemons.log("layflat").matches(r#""is_layer":false"#).count();
    while build.try_wait().unwrap().is_none() && steps() < 3 {
        std::thread::yield_now();
    }
    docker.daemons.kill_layflat();
    build.wait().unwrap();
    docker.daemons.start_layflat();
    docker.builds_when_connected();
    // The build that was ended has left the step that was its last.
    let saved = docker.saved("one");
    assert!(docker.seen("w").iter().any(|seen| seen.differences(&saved).is_empty()), "{saved:?}");
    same(&docker.shown("one"), &saved);

    docker.stop_dockerd();
    docker.daemons.kill_containerd();
    docker.daemons.kill_layflat();
    docker.daemons.start_layflat();
    docker.daemons.start_containerd();
    docker.start_dockerd();
    assert_eq!(docker.printed("one", "cat /f/g/h"), "h\n");

    docker.done("image rm one base");
    docker.done("builder prune --all --force");
    docker.is_empty_soon();
}
