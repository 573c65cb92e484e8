//! layflat as snapshotter and differ, spoken to as the unpackers of containerd do: layer by layer, or, as since 2.2, all
//! layers at the same time and in any order, each without a parent until it is committed. No containerd is needed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use layflat::core::digest::Digest;
use libtest_mimic::Failed;
use proptest::prelude::*;
use rustix::mount::{MountFlags, UnmountFlags};
use tonic::{Code, Status};

use crate::client::proto::types::{Descriptor, Mount};
use crate::client::{Answer, Client, Mounted};
use crate::common::cases::{self, Expected};
use crate::common::harness::Trial;
use crate::common::images::{self, Tar};
use crate::common::oracle;
use crate::common::random::{asked, compared, run_each, stack};
use crate::common::run::{self, Scratch};
use crate::common::tar;
use crate::common::text::Stack;
use crate::common::tools;
use crate::common::tree::{Shape, Tree};
use crate::daemons::{Running, forget_images, images_in, layflat, on_disk};

/// How layflat is told to keep layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Directories,
    Images,
}

/// A test of one of them.
type Test = fn(Kept);

pub(crate) fn trials(kept: Kept) -> Vec<Trial> {
    const TESTS: [(&str, Test); 16] = [
        ("all_lines_of_fixtures_are_shown_or_refused", all_lines),
        ("what_is_said_of_snapshots", what_is_said),
        ("what_cannot_be_done_is_refused", what_is_refused),
        ("a_container_sees_the_root_of_its_image", container_root),
        ("a_root_has_nothing_left_of_the_one_below", root_renewed),
        ("layers_of_others_lie_between", layers_of_others),
        ("mounts_are_what_buildkit_understands", mounts_for_buildkit),
        ("a_view_that_is_removed_shows_all_while_it_is_mounted", removed_view),
        ("an_applied_layer_is_mounted_without_commit", mounted_without_commit),
        ("what_was_written_to_an_applied_layer_is_there_for_the_next", written_after_apply),
        ("who_heard_of_a_commit_goes_on_with_its_name", heard_commit),
        ("layers_on_the_same_layer_know_nothing_of_one_another", forks),
        ("a_commit_reads_its_layer_and_none_below", many_layers),
        ("on_a_full_disk_a_pull_fails_and_leaves_nothing", full_disk),
        ("after_a_kill_between_calls_a_pull_works", killed_between),
        ("after_a_kill_inside_a_call_a_pull_works", killed_inside),
    ];
    const OF_DIRECTORIES: [(&str, Test); 4] = [
        ("who_did_not_hear_of_a_commit_goes_on_with_its_key", unheard_commit),
        ("more_layers_than_can_be_mounted_are_refused", too_many_layers),
        ("a_snapshot_with_id_maps_is_mounted_with_them", id_maps),
        ("what_is_written_with_id_maps_is_committed_without", id_maps_committed),
    ];
    const OF_IMAGES: [(&str, Test); 8] = [
        ("images_are_mounted_as_long_as_somebody_needs_them", mounted_on_demand),
        ("images_are_mounted_again_after_a_restart", mounted_again),
        ("both_ways_to_keep_layers_may_be_in_one_chain", mixed),
        ("directories_and_images_know_of_one_another", mixed_at_once),
        ("many_layers_are_mounted_as_one_image", long_chain),
        ("id_maps_are_refused", id_maps_refused),
        ("who_does_not_see_the_mounts_gets_none", unseen),
        ("where_images_cannot_be_mounted_from_it_does_not_start", refused_at_start),
    ];
    let own = if kept == Kept::Images { &OF_IMAGES[..] } else { &OF_DIRECTORIES };
    let trial = |&(name, test): &(&str, Test)| {
        let run = move || {
            test(kept);
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(!run::is_root())
    };
    let mut trials: Vec<Trial> = TESTS.iter().chain(own).map(trial).collect();
    let random = Trial::test("random_stacks_in_any_order_and_oracle_agree", move || random_stacks(kept));
    trials.push(random.with_ignored_flag(!run::is_root()));
    trials
}

/// How layers are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// One after the other, each on its parent.
    OneByOne,
    /// All at once, begun in an order that is made of this number; the parent is named at the end.
    AtOnce(u64),
}

/// Puts a layer into the content store of a place.
pub(crate) fn blob(place: &Path, archive: &[u8]) -> Descriptor {
    let digest = Digest::sha256_of(archive);
    let directory = place.join("root/io.containerd.content.v1.content/blobs/sha256");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(digest.hex()), archive).unwrap();
    Descriptor {
        media_type: images::LAYER.to_owned(),
        digest: digest.to_string(),
        size: archive.len().try_into().unwrap(),
        ..Default::default()
    }
}

/// A layflat-containerd with a content store that only this test writes to.
struct Service {
    place: Scratch,
    kept: Kept,
    process: Option<Running>,
    client: Client,
    count: AtomicU64,
}

impl Service {
    fn start(kept: Kept) -> Self {
        let place = if kept == Kept::Images { on_disk() } else { Scratch::new(run::tmpfs()) };
        let client = Client::connect(&place.0.join("l.sock"));
        let mut service = Self { place, kept, process: None, client, count: AtomicU64::new(0) };
        service.restart();
        service
    }

    /// Kills it, if it is there, and starts it anew.
    fn restart(&mut self) {
        assert!(self.run(self.command()));
    }

    fn command(&self) -> Command {
        let mut command = layflat(&self.place.0);
        command.arg("--root").arg(self.root());
        if self.kept == Kept::Images {
            command.args(["--backend", "erofs"]);
        }
        command
    }

    fn root(&self) -> PathBuf {
        self.place.0.join("snapshots")
    }

    /// Whether it gets ready.
    fn run(&mut self, command: Command) -> bool {
        drop(self.process.take());
        self.process = Running::started(command, &self.place.0, "layflat");
        self.client = Client::connect(&self.place.0.join("l.sock"));
        self.process.is_some()
    }

    /// Puts a layer into the content store.
    fn blob(&self, archive: &[u8]) -> Descriptor {
        blob(&self.place.0, archive)
    }

    fn number(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }

    /// Unpacks layers as an unpacker does; the name of the topmost. Whatever fails is removed.
    fn pull(&self, archives: &[Vec<u8>], manner: Manner) -> Answer<String> {
        let pull = self.number();
        let keys: Vec<String> = (0..archives.len()).map(|layer| format!("test/{pull}/extract-{layer}")).collect();
        let names: Vec<String> = (0..archives.len()).map(|layer| format!("test/{pull}/chain-{layer}")).collect();
        let parent = |layer: usize| layer.checked_sub(1).map_or("", |below| names[below].as_str());
        let blobs: Vec<Descriptor> = archives.iter().map(|archive| self.blob(archive)).collect();
        let apply = |layer: usize, mounts: &[Mount]| {
            let applied = self.client.apply(&blobs[layer], mounts)?;
            assert_eq!(applied.digest, Digest::sha256_of(&archives[layer]).to_string());
            Ok(())
        };
        let pull = || -> Answer<()> {
            match manner {
                Manner::OneByOne => {
                    for layer in 0..archives.len() {
                        let mounts = self.client.prepare(&keys[layer], parent(layer))?;
                        apply(layer, &mounts)?;
                        self.client.commit(&names[layer], &keys[layer], "")?;
                    }
                }
                Manner::AtOnce(seed) => {
                    let mounts: Vec<Vec<Mount>> =
                        keys.iter().map(|key| self.client.prepare(key, "")).collect::<Answer<_>>()?;
                    let mut order: Vec<usize> = (0..archives.len()).collect();
                    fastrand::Rng::with_seed(seed).shuffle(&mut order);
                    let applied: Vec<Answer<()>> = std::thread::scope(|scope| {
                        let (apply, mounts) = (&apply, &mounts);
                        let begin = |layer: usize| scope.spawn(move || apply(layer, &mounts[layer]));
                        let begun: Vec<_> = order.into_iter().map(begin).collect();
                        begun.into_iter().map(|thread| thread.join().unwrap()).collect()
                    });
                    applied.into_iter().collect::<Answer<()>>()?;
                    for layer in 0..archives.len() {
                        self.client.commit(&names[layer], &keys[layer], parent(layer))?;
                    }
                }
            }
            Ok(())
        };
        let pulled = pull();
        if pulled.is_err() {
            keys.iter().for_each(|key| drop(self.client.remove(key)));
        }
        pulled.map(|()| names.last().unwrap().clone())
    }

    fn mountpoint(&self) -> PathBuf {
        self.place.0.join("mount")
    }

    fn shown(&self, name: &str) -> Tree {
        self.client.shown(name, &self.mountpoint())
    }

    /// What is left of snapshots when all are removed: nothing.
    fn is_empty_when_all_is_removed(&self) {
        self.client.remove_all().unwrap();
        self.client.clean().unwrap();
        let left: Vec<_> = fs::read_dir(self.place.0.join("snapshots/snapshots")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(images_in(&self.root()), 0);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.process.take());
        forget_images(&self.root());
    }
}

fn archives(stack: &Stack) -> Vec<Vec<u8>> {
    stack.0.iter().map(tar::archive).collect()
}

fn random_stacks(kept: Kept) -> Result<(), Failed> {
    let service = Service::start(kept);
    let manner = prop_oneof![1 => Just(Manner::OneByOne), 4 => any::<u64>().prop_map(Manner::AtOnce)];
    run_each(&(stack(), manner), &|(stack, manner)| format!("{stack}\n{manner:?}"), &|(stack, manner), _| {
        let name = service.pull(&archives(stack), *manner).map_err(|status| status.message().to_owned());
        let shown = name.map(|name| service.shown(&name));
        service.is_empty_when_all_is_removed();
        compared(stack, shown, |expected| expected)
    })
}

fn all_lines(kept: Kept) {
    let service = Service::start(kept);
    let mut wrong = Vec::new();
    for (number, case) in cases::all().iter().enumerate().filter(|(_, case)| !case.stack.0.is_empty()) {
        let pulled = service.pull(&archives(&case.stack), Manner::AtOnce(number as u64));
        match (&case.expected, pulled) {
            (Expected::Reject(words), Err(status)) if status.message().contains(words) => {}
            (Expected::Tree(tree), Ok(name)) => {
                let mut tree =
                    Tree::parse(&case.overlay.as_ref().unwrap_or(tree).replace("OVERLAY.", "trusted.overlay."));
                if kept == Kept::Images {
                    without_mark(&mut tree);
                }
                let differences = tree.differences(&service.shown(&name));
                if !differences.is_empty() {
                    wrong.push(format!("{}: {}", case.name, differences.join("\n")));
                }
            }
            (expected, pulled) => wrong.push(format!("{}: {expected:?}, {pulled:?}", case.name)),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    service.is_empty_when_all_is_removed();
}

/// What tells overlayfs of a layer's whiteouts that are files is at the root of its EROFS image, and not at that of the view.
pub(crate) fn without_mark(tree: &mut Tree) {
    if let Some(root) = tree.0.get_mut(&b""[..]) {
        root.attributes.xattrs.retain(|name, value| name != b"trusted.overlay.opaque" || value != b"x");
    }
}

/// Three layers that only come out right together.
fn three() -> Stack {
    Stack::parse(
        "D tmp(1777), D d, F d/old, D usr, D usr/lib, F usr/lib/a, L lib->usr/lib | F d/new, O d, F tmp/x | F lib/b, H c=usr/lib/a",
    )
}

fn shows_three(tree: &Tree) {
    let expected = Tree::parse("tmp/(1777) tmp/x d/ d/new usr/ usr/lib/ usr/lib/a usr/lib/b lib->usr/lib c=usr/lib/a");
    let differences = expected.differences(tree);
    assert!(differences.is_empty(), "{differences:?}");
}

fn code<T: std::fmt::Debug>(answer: Answer<T>) -> Code {
    answer.unwrap_err().code()
}

fn what_is_said(kept: Kept) {
    let service = Service::start(kept);
    let client = &service.client;
    let top = service.pull(&archives(&three()), Manner::AtOnce(1)).unwrap();
    let info = client.stat(&top).unwrap();
    assert_eq!((info.kind, info.name.as_str(), info.parent.as_str()), (3, top.as_str(), "test/0/chain-1"));
    assert!(info.created_at.unwrap().seconds > 1_700_000_000);
    assert!(info.labels.is_empty());

    let labelled = client.label(&top, &[("one", "1"), ("two", "2")]).unwrap();
    assert_eq!(labelled.labels.len(), 2);
    let labelled = client.label(&top, &[("one", "")]).unwrap();
    assert_eq!(labelled.labels.into_iter().collect::<Vec<_>>(), [("two".to_owned(), "2".to_owned())]);

    client.prepare("test/container", &top).unwrap();
    let names = |filters: &[&str]| client.list(filters).unwrap().into_keys().collect::<Vec<_>>();
    assert_eq!(names(&[]), ["test/0/chain-0", "test/0/chain-1", "test/0/chain-2", "test/container"]);
    assert_eq!(names(&["kind==active", "labels.two"]), ["test/0/chain-2", "test/container"]);
    assert_eq!(names(&["parent==test/0/chain-1,name~=chain"]), ["test/0/chain-2"]);
    assert_eq!(code(client.list(&["name="])), Code::InvalidArgument);

    let (size, inodes) = client.usage(&top).unwrap();
    match kept {
        // A directory, one in it, a file in each, and the copy of the file with two names.
        Kept::Directories => assert!(inodes == 5 && size > 0, "{inodes} {size}"),
        // Three directories, of which one is empty, three files about contents, and two about the image.
        Kept::Images => assert!(inodes == 8 && size >= 2 * 4096, "{inodes} {size}"),
    }
    let mounted = Mounted::at(&client.mounts("test/container").unwrap(), &service.mountpoint());
    fs::write(mounted.0.join("file"), [1; 1 << 20]).unwrap();
    let (size, inodes) = client.usage("test/container").unwrap();
    assert!(inodes == 2 && size >= 1 << 20, "{inodes} {size}");
    drop(mounted);
    client.commit("test/committed", "test/container", "").unwrap();
    assert!(client.usage("test/committed").unwrap().0 >= 1 << 20);
    service.is_empty_when_all_is_removed();
}

fn what_is_refused(kept: Kept) {
    let service = Service::start(kept);
    let client = &service.client;
    let top = service.pull(&archives(&three()), Manner::OneByOne).unwrap();
    assert_eq!(code(client.stat("test/absent")), Code::NotFound);
    assert_eq!(code(client.mounts("test/absent")), Code::NotFound);
    assert_eq!(code(client.remove("test/absent")), Code::NotFound);
    assert_eq!(code(client.prepare("test/key", "test/absent")), Code::NotFound);
    assert_eq!(code(client.prepare(&top, "")), Code::AlreadyExists);
    assert_eq!(code(client.remove("test/0/chain-0")), Code::FailedPrecondition);
    assert_eq!(code(client.mounts(&top)), Code::FailedPrecondition);
    client.prepare("test/key", &top).unwrap();
    client.view("test/view", &top).unwrap();
    assert_eq!(code(client.prepare("test/other", "test/key")), Code::InvalidArgument);
    assert_eq!(code(client.commit(&top, "test/key", "")), Code::AlreadyExists);
    assert_eq!(code(client.commit("test/name", "test/key", "test/0/chain-1")), Code::InvalidArgument);
    assert_eq!(code(client.commit("test/name", "test/view", "")), Code::FailedPrecondition);
    assert_eq!(code(client.commit("test/name", "test/absent", "")), Code::NotFound);
    assert_eq!(code(client.label("test/absent", &[("one", "1")])), Code::NotFound);
    // Nothing of that has changed anything.
    client.commit("test/name", "test/key", &top).unwrap();

    // A layer is unpacked into a snapshot once, and into none that was written to.
    let layer = service.blob(&images::layer("one"));
    let mounts = client.prepare("test/once", "").unwrap();
    client.apply(&layer, &mounts).unwrap();
    client.mounts("test/once").unwrap();
    assert_eq!(code(client.apply(&layer, &mounts)), Code::Unimplemented);
    // What is damaged, and what a layer may not ask for.
    let mounts = client.prepare("test/damaged", "").unwrap();
    let damaged = Descriptor { digest: Digest::sha256_of(b"other").to_string(), ..layer.clone() };
    assert_eq!(code(client.apply(&damaged, &mounts)), Code::Unimplemented);
    let longer = Descriptor { size: layer.size + 1, ..layer };
    assert_eq!(code(client.apply(&longer, &mounts)), Code::DataLoss);
    let hostile = service.blob(&tar::archive(&Stack::parse("F ../../escape").0[0]));
    assert_eq!(code(client.apply(&hostile, &mounts)), Code::InvalidArgument);
    // Only with what is below it is known that there is no such file.
    let link = service.blob(&tar::archive(&Stack::parse("H b=a").0[0]));
    client.apply(&link, &mounts).unwrap();
    let refused = client.commit("test/link", "test/damaged", &top).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains("neither earlier in this layer nor in a lower layer"), "{refused:?}");
    assert_eq!(code(client.stat("test/link")), Code::NotFound);
    service.is_empty_when_all_is_removed();
}

/// An overlay shows the root of its upper directory.
fn container_root(kept: Kept) {
    let service = Service::start(kept);
    let stack = Stack::parse("D .(1711,7:8,m=5,user.k=v,trusted.overlay.opaque=y), F a | F b");
    let top = service.pull(&archives(&stack), Manner::AtOnce(3)).unwrap();
    let expected = service.shown(&top).0.remove(&b""[..]).unwrap();
    assert_eq!((expected.attributes.mode, expected.attributes.uid, expected.attributes.mtime), (0o1711, 7, (5, 0)));
    let mounted = Mounted::at(&service.client.prepare("test/container", &top).unwrap(), &service.mountpoint());
    let found = Tree::of_directory(&mounted.0).0.remove(&b""[..]).unwrap();
    assert_eq!(found.attributes, expected.attributes);
}

const UIDS: &str = "containerd.io/snapshot/uidmapping";
const GIDS: &str = "containerd.io/snapshot/gidmapping";
const MAPS: [(&str, &str); 2] = [(UIDS, "0:100000:65536"), (GIDS, "0:200000:65536")];

/// The upper directory that mounts name.
/// The snapshot that a layer is unpacked into was made with the attributes that the root had before.
fn root_renewed(kept: Kept) {
    let service = Service::start(kept);
    let stack = Stack::parse("D .(751,user.k=v,user.l=w), F a | D .(711,user.l=x) | F b | D .");
    let (layers, expected) = (archives(&stack), oracle::show(&stack).unwrap());
    for manner in [Manner::OneByOne, Manner::AtOnce(1)] {
        let top = service.pull(&layers, manner).unwrap();
        let differences = expected.differences(&service.shown(&top));
        assert!(differences.is_empty(), "{manner:?}: {differences:#?}");
    }
    service.is_empty_when_all_is_removed();
}

fn upper(mounts: &[Mount]) -> PathBuf {
    mounts[0].options.iter().find_map(|option| option.strip_prefix("upperdir=")).unwrap().into()
}

fn owner(path: &Path) -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

fn maps_of(mounts: &[Mount]) -> Vec<&str> {
    let options = mounts[0].options.iter().map(String::as_str);
    options.filter(|option| option.starts_with("uidmap=") || option.starts_with("gidmap=")).collect()
}

fn id_maps(kept: Kept) {
    let mut service = Service::start(kept);
    let top = service.pull(&archives(&Stack::parse("D .(1711,7:8), F a | F b")), Manner::AtOnce(3)).unwrap();
    let client = &service.client;
    let mounts = client.prepare_labelled("test/1/container", &top, &MAPS).unwrap();
    let mapped = ["uidmap=0:100000:65536", "gidmap=0:200000:65536"];
    assert_eq!(maps_of(&mounts), mapped);
    assert_eq!(owner(&upper(&mounts)), (100_007, 200_008));
    service.restart();
    let client = &service.client;
    assert_eq!(client.mounts("test/1/container").unwrap(), mounts);
    assert_eq!(maps_of(&client.prepare("test/2/container", &top).unwrap()), [""; 0]);
    // On no image it is a directory that is mounted so; what is in it has the ids inside.
    let alone = client.prepare_labelled("test/3/container", "", &MAPS).unwrap();
    assert_eq!((maps_of(&alone), owner(Path::new(&alone[0].source))), (mapped.to_vec(), (0, 0)));
    // An owner that the maps do not have would be nobody.
    let few = [(UIDS, "0:100000:5,100:300000:10"), (GIDS, "0:200000:65536")];
    let mounts = client.prepare_labelled("test/4/container", &top, &few).unwrap();
    assert_eq!(maps_of(&mounts), ["uidmap=0:100000:5,100:300000:10", "gidmap=0:200000:65536"]);
    assert_eq!(owner(&upper(&mounts)), (100_000, 200_008));
    for wrong in [&MAPS[..1], &[(UIDS, "0:1"), MAPS[1]], &[(UIDS, "1:100000:65536"), MAPS[1]]] {
        assert_eq!(code(client.prepare_labelled("test/5/container", &top, wrong)), Code::InvalidArgument, "{wrong:?}");
    }

    // Where containerd has no such mounts, or is told of no such capability, it gives a copy to the ids outside.
    let copy = client.prepare("test/6/sha256:abc-remap", &top).unwrap();
    std::os::unix::fs::chown(upper(&copy), Some(100_007), Some(200_008)).unwrap();
    client.commit("test/7/sha256:abc", "test/6/sha256:abc-remap", "").unwrap();
    let mounts = client.prepare_labelled("test/8/container", "test/7/sha256:abc", &MAPS).unwrap();
    assert_eq!((maps_of(&mounts), owner(&upper(&mounts))), (Vec::new(), (100_007, 200_008)));
    service.is_empty_when_all_is_removed();
}

fn id_maps_committed(kept: Kept) {
    use std::os::unix::fs::{PermissionsExt, chown, lchown};
    let service = Service::start(kept);
    let client = &service.client;
    let top = service.pull(&archives(&Stack::parse("D d(700,3:4), F d/a, F d/b | F e")), Manner::AtOnce(3)).unwrap();
    let mounts = client.prepare_labelled("test/1/container", &top, &MAPS).unwrap();
    // As a container writes.
    let at = |name: &str| upper(&mounts).join(name);
    fs::create_dir(at("d")).unwrap();
    fs::write(at("d/new"), "new").unwrap();
    chown(at("d/new"), Some(100_007), Some(200_008)).unwrap();
    let mut capability = vec![1, 0, 0, 3];
    capability.extend([0x20, 0, 0, 0].repeat(4));
    capability.extend(100_000_u32.to_le_bytes());
    xattr::set(at("d/new"), "security.capability", &capability).unwrap();
    fs::set_permissions(at("d/new"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(at("d/new"), at("d/same")).unwrap();
    std::os::unix::fs::symlink("new", at("d/link")).unwrap();
    lchown(at("d/link"), Some(100_001), Some(200_002)).unwrap();
    // As it is when a commit was begun before.
    fs::write(at("d/done"), "").unwrap();
    chown(at("d/done"), Some(9), Some(10)).unwrap();
    chown(at("d"), Some(100_003), Some(200_004)).unwrap();
    fs::set_permissions(at("d"), fs::Permissions::from_mode(0o700)).unwrap();
    for name in ["d/new", "d/done", "d"] {
        fs::File::open(at(name))
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000))
            .unwrap();
    }
    // An overlay shows its root.
    fs::File::open(upper(&mounts)).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    client.commit("test/committed", "test/1/container", "").unwrap();
    let found = service.shown("test/committed");
    let expected =
        "d/(700,3:4) d/a d/b d/done(,9:10) d/link->new(1:2) d/new(new,4755,7:8,security.capability=V) d/same=d/new e";
    let mut expected = Tree::parse(expected);
    let of_image = [&[1, 0, 0, 2][..], &capability[4..20]].concat();
    let new = expected.0.get_mut(&b"d/new"[..]).unwrap();
    new.attributes.xattrs.insert(b"security.capability".to_vec(), of_image);
    let attributes = new.attributes.clone();
    expected.0.get_mut(&b"d/same"[..]).unwrap().attributes = attributes;
    let link = &b"d/link"[..];
    expected.0.get_mut(link).unwrap().attributes.mtime = found.0[link].attributes.mtime;
    let differences = expected.differences(&found);
    assert!(differences.is_empty(), "{differences:#?}");

    // Where an id may be one inside and one outside, nobody can tell.
    let both = [(UIDS, "0:1000:65536"), (GIDS, "0:1000:65536")];
    client.prepare_labelled("test/2/container", &top, &both).unwrap();
    let refused = client.commit("test/other", "test/2/container", "").unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("0:1000:65536") && refused.message().contains("Diff"), "{refused:?}");
    service.is_empty_when_all_is_removed();
}

/// Of a snapshot that was written by a container, or unpacked by another differ, no record is there.
fn layers_of_others(kept: Kept) {
    let service = Service::start(kept);
    let client = &service.client;
    let layers = archives(&Stack::parse("D d(700), F d/a, F d/b, F e | W d/a, F d/c, O x | F d/new, H f=e, W d/b"));
    let mut parent = String::new();
    for (number, layer) in layers.iter().enumerate() {
        let (key, name) = (format!("test/{number}/extract-{number}"), format!("test/name-{number}"));
        let mounts = client.prepare(&key, &parent).unwrap();
        if number == 1 {
            let mounted = Mounted::at(&mounts, &service.mountpoint());
            fs::remove_file(mounted.0.join("d/a")).unwrap();
            fs::write(mounted.0.join("d/c"), "c").unwrap();
        } else {
            client.apply(&service.blob(layer), &mounts).unwrap();
        }
        client.commit(&name, &key, "").unwrap();
        parent = name;
    }
    let mounted = Mounted::at(&client.view("test/view", &parent).unwrap(), &service.mountpoint());
    let mut names: Vec<String> = fs::read_dir(mounted.0.join("d"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["c", "new"]);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(mounted.0.join("d")).unwrap().mode() & 0o7777, 0o700);
    let inode = |name: &str| fs::metadata(mounted.0.join(name)).unwrap().ino();
    assert_eq!(inode("e"), inode("f"));
}

/// BuildKit merges layers (`COPY --link`) only of mounts with these options. Where one view's directories are another's and
/// one on top, it makes the layer itself, without what its own writer does not keep; else it asks (its util/overlay).
fn mounts_for_buildkit(kept: Kept) {
    let service = Service::start(kept);
    service.pull(&archives(&three()), Manner::OneByOne).unwrap();
    let layers = |mounts: &[Mount]| -> Vec<String> {
        let [mount] = mounts else { panic!("{mounts:?}") };
        assert_eq!(mount.r#type, "overlay");
        let mut layers = Vec::new();
        for option in &mount.options {
            match option.split_once('=') {
                Some(("lowerdir", below)) => layers.extend(below.split(':').rev().map(str::to_owned)),
                Some(("upperdir" | "workdir" | "redirect_dir", _)) | Some(("index", "off")) => {}
                _ => assert_eq!(option, "userxattr"),
            }
        }
        layers
    };
    let views: Vec<Vec<String>> = (0..3)
        .map(|layer| layers(&service.client.view(&format!("test/{layer}"), &format!("test/0/chain-{layer}")).unwrap()))
        .collect();
    for pair in views.windows(2) {
        assert_ne!(pair[0], pair[1][..pair[1].len() - 1], "{views:?}");
    }
    assert_eq!(layers(&service.client.prepare("test/container", "test/0/chain-2").unwrap()), views[2][..3]);
}

/// As containerd's garbage collection removes a view whose lease has ended, and others with it.
fn removed_view(kept: Kept) {
    let service = Service::start(kept);
    let client = &service.client;
    let top = service.pull(&archives(&three()), Manner::OneByOne).unwrap();
    let mounted = Mounted::at(&client.view("test/first", &top).unwrap(), &service.mountpoint());
    client.view("test/second", &top).unwrap();
    client.remove("test/first").unwrap();
    client.remove("test/second").unwrap();
    client.clean().unwrap();
    shows_three(&Tree::of_directory(&mounted.0));
    drop(mounted);
    shows_three(&service.shown(&top));
    service.is_empty_when_all_is_removed();
}

/// What was mounted goes when nobody is on it any more; what is shown through it stays.
fn mounted_on_demand(kept: Kept) {
    let service = Service::start(kept);
    let client = &service.client;
    let top = service.pull(&archives(&three()), Manner::AtOnce(2)).unwrap();
    assert_eq!(images_in(&service.root()), 0);
    client.prepare("test/container", "test/0/chain-1").unwrap();
    assert_eq!(images_in(&service.root()), 2);
    let mounted = Mounted::at(&client.view("test/view", &top).unwrap(), &service.mountpoint());
    assert_eq!(images_in(&service.root()), 3);
    client.remove("test/view").unwrap();
    assert_eq!(images_in(&service.root()), 2);
    client.remove("test/container").unwrap();
    assert_eq!(images_in(&service.root()), 0);
    shows_three(&Tree::of_directory(&mounted.0));
    drop(mounted);
    service.is_empty_when_all_is_removed();
}

fn mounted_again(kept: Kept) {
    let mut service = Service::start(kept);
    let top = service.pull(&archives(&three()), Manner::OneByOne).unwrap();
    let mounts = service.client.prepare("test/container", &top).unwrap();
    for is_of_machine in [false, true] {
        drop(service.process.take());
        if is_of_machine {
            // As when it has started anew.
            forget_images(&service.root());
        }
        service.restart();
        assert_eq!(service.client.mounts("test/container").unwrap(), mounts);
        let mounted = Mounted::at(&mounts, &service.mountpoint());
        shows_three(&Tree::of_directory(&mounted.0));
    }
    service.is_empty_when_all_is_removed();
}

/// Layers of images, of a container, and such as were unpacked before, in any order.
fn mixed(kept: Kept) {
    let stack =
        "D d(700), F d/a, F d/b, F e(e) | W d/a, F d/c, H g=e | F d/new, O d, H f=e | H d/h=g, F i | W i, H j=d/new";
    in_every_mix(Service::start(kept), stack, |service, wanted| {
        if service.kept != wanted {
            service.kept = wanted;
            service.restart();
        }
        "extract"
    });
}

/// As [`mixed`], by one process, which knows what it has committed last: what is unpacked by a key that no unpacker has becomes a directory.
fn mixed_at_once(kept: Kept) {
    let stack = "D d(700), F d/a, F d/b, F e(e) | W d/a, F d/c, H g=e | D d(711), F d/new, O d, H f=e | H d/h=g, F i | W i, H j=d/new";
    in_every_mix(Service::start(kept), stack, |_, wanted| match wanted {
        Kept::Directories => "unpack",
        Kept::Images => "extract",
    });
}

/// Commits the layers of a stack one after the other, in every mix of directories and images. `begin` sees to it that the next layer becomes what it is told,
/// and says how its key begins.
fn in_every_mix(mut service: Service, stack: &str, begin: impl Fn(&mut Service, Kept) -> &'static str) {
    let stack = Stack::parse(stack);
    let (layers, expected) = (archives(&stack), oracle::show(&stack).unwrap());
    for images in 0..1 << layers.len() {
        let mut parent = String::new();
        for (number, layer) in layers.iter().enumerate() {
            let wanted = if images & (1 << number) == 0 { Kept::Directories } else { Kept::Images };
            let key = format!("test/{images}/{}-{number}", begin(&mut service, wanted));
            let name = format!("test/{images}/name-{number}");
            let mounts = service.client.prepare(&key, &parent).unwrap();
            service.client.apply(&service.blob(layer), &mounts).unwrap();
            service.client.commit(&name, &key, "").unwrap();
            parent = name;
        }
        let differences = expected.differences(&service.shown(&parent));
        assert!(differences.is_empty(), "{images:05b}: {differences:#?}");
    }
    service.is_empty_when_all_is_removed();
}

/// containerd 2.1 maps the directory above all lower directories, and could not unmount it with what is mounted there.
fn id_maps_refused(kept: Kept) {
    let service = Service::start(kept);
    let top = service.pull(&archives(&three()), Manner::OneByOne).unwrap();
    let refused = service.client.prepare_labelled("test/container", &top, &MAPS).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("remap-ids"), "{refused:?}");
    service.client.prepare("test/container", &top).unwrap();
    service.is_empty_when_all_is_removed();
}

/// As with a unit that has a mount namespace of its own: what is mounted there is seen nowhere else.
fn unseen(kept: Kept) {
    let mut service = Service::start(kept);
    let top = service.pull(&archives(&three()), Manner::OneByOne).unwrap();
    let own = service.command();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "slave"]).arg(own.get_program()).args(own.get_args());
    assert!(service.run(command));
    for key in ["test/container", "test/again"] {
        let refused = service.client.prepare(key, &top).unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        assert!(refused.message().contains("PrivateMounts="), "{refused:?}");
        assert_eq!(code(service.client.stat(key)), Code::NotFound);
    }
    service.restart();
    service.client.prepare("test/container", &top).unwrap();
    service.is_empty_when_all_is_removed();
}

/// On a tmpfs there is no block device to mount from; where others can write they could change what is mounted.
fn refused_at_start(kept: Kept) {
    use std::os::unix::fs::PermissionsExt;
    drop(Service::start(kept));
    let open = on_disk();
    fs::set_permissions(&open.0, fs::Permissions::from_mode(0o777)).unwrap();
    for (place, problem) in [(Scratch::new(run::tmpfs()), "block device"), (open, "written to by others")] {
        let mut command = layflat(&place.0);
        command.arg("--root").arg(place.0.join("snapshots")).args(["--backend", "erofs"]);
        assert!(Running::started(command, &place.0, "layflat").is_none());
        let log = fs::read_to_string(place.0.join("layflat.log")).unwrap();
        assert!(log.contains("as EROFS images") && log.contains(problem) && log.contains("overlay"), "{log}");
        assert!(!place.0.join("snapshots/mnt").exists());
    }
}

/// As a container's checkpoint is restored.
fn mounted_without_commit(kept: Kept) {
    let service = Service::start(kept);
    let stack = three();
    let mut layers = archives(&stack);
    let top_layer = layers.pop().unwrap();
    let parent = service.pull(&layers, Manner::AtOnce(2)).unwrap();
    let mounts = service.client.prepare("test/container", &parent).unwrap();
    service.client.apply(&service.blob(&top_layer), &mounts).unwrap();
    let mounted = Mounted::at(&service.client.mounts("test/container").unwrap(), &service.mountpoint());
    shows_three(&Tree::of_directory(&mounted.0));
    drop(mounted);
    service.client.commit("test/committed", "test/container", "").unwrap();
    shows_three(&service.shown("test/committed"));
}

/// The record of a layer says nothing of that.
fn written_after_apply(kept: Kept) {
    let service = Service::start(kept);
    let client = &service.client;
    let mounts = client.prepare("test/1/key", "").unwrap();
    client.apply(&service.blob(&archives(&three())[0]), &mounts).unwrap();
    let mounted = Mounted::at(&client.mounts("test/1/key").unwrap(), &service.mountpoint());
    fs::write(mounted.0.join("usr/new"), "new").unwrap();
    drop(mounted);
    client.commit("test/2/name", "test/1/key", "").unwrap();
    let mounts = client.prepare("test/3/key", "test/2/name").unwrap();
    client.apply(&service.blob(&tar::archive(&Stack::parse("H same=usr/new").0[0])), &mounts).unwrap();
    client.commit("test/4/name", "test/3/key", "").unwrap();
    let shown = service.shown("test/4/name");
    assert!(shown.0.contains_key(&b"same"[..]) && shown.0.contains_key(&b"usr/new"[..]), "{shown:?}");
    service.is_empty_when_all_is_removed();
}

/// As SnapshotInfo.Kind has them.
const ACTIVE: i32 = 2;
const COMMITTED: i32 = 3;

impl Service {
    /// Three layers of which the last is committed from `key` by `name`, with its parent named by one of both.
    fn committed(&self, layers: &[Vec<u8>], (key, name): (&str, &str), is_rebased: bool) -> String {
        let parent = self.pull(&layers[..2], Manner::AtOnce(1)).unwrap();
        let (first, last) = if is_rebased { ("", parent.as_str()) } else { (parent.as_str(), "") };
        let mounts = self.client.prepare_labelled(key, first, &[("own", "1")]).unwrap();
        self.client.apply(&self.blob(&layers[2]), &mounts).unwrap();
        self.client.commit(name, key, last).unwrap();
        parent
    }

    fn is_committed(&self, key: &str, name: &str) {
        assert_eq!(self.client.stat(name).unwrap().kind, COMMITTED);
        shows_three(&self.shown(name));
        for answer in [self.client.stat(key).map(drop), self.client.mounts(key).map(drop), self.client.remove(key)] {
            assert_eq!(code(answer), Code::NotFound);
        }
    }
}

fn unheard_commit(kept: Kept) {
    let mut service = Service::start(kept);
    let layers = archives(&three());
    let (key, name, other) = ("test/10/key", "test/11/name", "test/12/name");
    for (is_rebased, by_another) in [(false, false), (false, true), (true, false), (true, true)] {
        let anew = |service: &mut Service| {
            service.is_empty_when_all_is_removed();
            let parent = service.committed(&layers, (key, name), is_rebased);
            if by_another {
                service.restart();
            }
            parent
        };

        // It is told of as containerd knows it, and as it may know it.
        let parent = anew(&mut service);
        let client = &service.client;
        for _ in 0..2 {
            let info = client.stat(key).unwrap();
            assert_eq!((info.kind, info.name.as_str(), info.parent.as_str()), (ACTIVE, key, parent.as_str()));
            assert_eq!(info.labels.into_iter().collect::<Vec<_>>(), [("own".to_owned(), "1".to_owned())]);
            assert_eq!(client.stat(name).unwrap().kind, COMMITTED);
            assert_eq!(client.usage(key).unwrap(), client.usage(name).unwrap());
        }
        let names = |filter: &str| client.list(&[filter]).unwrap().into_keys().collect::<Vec<_>>();
        assert_eq!((names("kind==active"), names("name==test/11/name")), (vec![key.to_owned()], vec![name.to_owned()]));

        // It is committed again, by the same name and by another.
        assert_eq!(code(client.commit(&parent, key, "")), Code::AlreadyExists);
        assert_eq!(code(client.commit(name, key, "test/absent")), Code::InvalidArgument);
        client.commit(name, key, "").unwrap();
        client.commit(other, key, &parent).unwrap();
        assert_eq!(code(client.stat(name)), Code::NotFound);
        if by_another {
            service.restart();
        }
        shows_three(&service.shown(other));

        // It is mounted and written to.
        anew(&mut service);
        let client = &service.client;
        let mounted = Mounted::at(&client.mounts(key).unwrap(), &service.mountpoint());
        shows_three(&Tree::of_directory(&mounted.0));
        fs::write(mounted.0.join("new"), "new").unwrap();
        drop(mounted);
        assert_eq!(code(client.stat(name)), Code::NotFound);
        if by_another {
            service.restart();
        }
        let client = &service.client;
        client.commit(other, key, "").unwrap();
        assert!(service.shown(other).0.contains_key(&b"new"[..]));

        // Its labels are changed.
        anew(&mut service);
        let client = &service.client;
        assert_eq!(client.label(key, &[("two", "2")]).unwrap().labels.len(), 2);
        assert_eq!(code(client.stat(name)), Code::NotFound);
        client.commit(other, key, "").unwrap();
        shows_three(&service.shown(other));

        // containerd collects, and knows the key.
        anew(&mut service);
        let client = &service.client;
        client.remove(name).unwrap();
        client.clean().unwrap();
        assert_eq!((code(client.stat(name)), client.stat(key).unwrap().kind), (Code::NotFound, ACTIVE));
        client.commit(other, key, "").unwrap();
        client.remove(key).unwrap();
        service.is_committed(key, other);

        // It knows neither.
        for order in [[name, key], [key, name]] {
            anew(&mut service);
            let client = &service.client;
            order.iter().for_each(|name| client.remove(name).unwrap());
            assert!(order.iter().all(|name| code(client.stat(name)) == Code::NotFound));
        }
    }
    service.is_empty_when_all_is_removed();

    // What a container has written has other ids by then than its mounts would need.
    let top = service.pull(&layers, Manner::OneByOne).unwrap();
    let client = &service.client;
    let mounts = client.prepare_labelled(key, &top, &MAPS).unwrap();
    fs::write(upper(&mounts).join("new"), "new").unwrap();
    std::os::unix::fs::chown(upper(&mounts).join("new"), Some(100_007), Some(200_008)).unwrap();
    client.commit(name, key, "").unwrap();
    let refused = client.mounts(key).unwrap_err();
    assert!(refused.code() == Code::FailedPrecondition && refused.message().contains("commit it again"), "{refused:?}");
    client.commit(other, key, "").unwrap();
    assert_eq!(owner(&upper(&mounts).join("new")), (7, 8));
    service.is_empty_when_all_is_removed();
}

fn heard_commit(kept: Kept) {
    let mut service = Service::start(kept);
    let layers = archives(&three());
    let (key, name) = ("test/10/key", "test/11/name");
    // containerd collects, and knows the name.
    service.committed(&layers, (key, name), true);
    service.client.remove(key).unwrap();
    service.is_committed(key, name);
    service.restart();
    service.is_committed(key, name);
    service.is_empty_when_all_is_removed();
    // Others are put on it.
    service.committed(&layers, (key, name), true);
    service.client.prepare("test/12/container", name).unwrap();
    service.is_committed(key, name);
    service.restart();
    service.is_committed(key, name);
    // The key is taken for something else.
    service.client.remove("test/12/container").unwrap();
    service.client.prepare(key, "").unwrap();
    assert_eq!(service.client.stat(key).unwrap().parent, "");
    service.client.remove(name).unwrap();
    assert_eq!(code(service.client.stat(name)), Code::NotFound);
    assert_eq!(service.client.stat(key).unwrap().kind, ACTIVE);
    service.is_empty_when_all_is_removed();
}

/// So that the last of many layers costs what the first does.
fn many_layers(kept: Kept) {
    let service = Service::start(kept);
    let client = &service.client;
    let layer = |number: usize| {
        let files: Vec<String> = (0..50).map(|file| format!("F d{number}/{file}")).collect();
        tar::archive(&Stack::parse(&files.join(", ")).0[0])
    };
    let name = |layer: usize| format!("test/{layer}/name");
    let mut read = Vec::new();
    for number in 0..60_usize {
        let mounts = client.prepare(&format!("test/{number}/extract-key"), "").unwrap();
        client.apply(&service.blob(&layer(number)), &mounts).unwrap();
        let before = service.process.as_ref().unwrap().bytes_read();
        let parent = number.checked_sub(1).map_or(String::new(), name);
        client.commit(&name(number), &format!("test/{number}/extract-key"), &parent).unwrap();
        read.push(service.process.as_ref().unwrap().bytes_read() - before);
    }
    assert!(read[59] < 2 * read[5], "{read:?}");
    let shown = service.shown(&name(59));
    assert_eq!(shown.0.len(), 1 + 60 * 51);
}

impl Service {
    /// Unpacks a layer, and commits it on the one with the number before.
    fn put_on_top(&self, number: usize, layer: &[u8]) -> String {
        let name = |number: usize| format!("test/{number}/name");
        let key = format!("test/{number}/extract-key");
        let mounts = self.client.prepare(&key, "").unwrap();
        self.client.apply(&self.blob(layer), &mounts).unwrap();
        self.client.commit(&name(number), &key, &number.checked_sub(1).map_or(String::new(), name)).unwrap();
        name(number)
    }
}

fn too_many_layers(kept: Kept) {
    let service = Service::start(kept);
    let client = &service.client;
    let layer = tar::archive(&Stack::parse("F a").0[0]);
    let names: Vec<String> = (0..500).map(|number| service.put_on_top(number, &layer)).collect();
    client.prepare("test/container", &names[498]).unwrap();
    client.view("test/view", &names[498]).unwrap();
    let refused = [client.prepare("test/501", &names[499]), client.view("test/501", &names[499])];
    for refused in refused.map(Result::unwrap_err) {
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        assert!(refused.message().contains("501 directories"), "{refused:?}");
        assert_eq!(code(client.stat("test/501")), Code::NotFound);
    }
    service.is_empty_when_all_is_removed();
}

/// Of every 128 layers there is an image of all; also after a restart, when it is made of what is read again.
fn long_chain(kept: Kept) {
    let mut service = Service::start(kept);
    let layer = |number: usize| {
        let mut entries = format!("D d{}({:o}), F d{0}/f{number}", number % 5, 0o700 + number % 8);
        if let Some(before) = number.checked_sub(3) {
            let below = format!("d{}/f{before}", before % 5);
            entries += &match number % 4 {
                0 => format!(", W {below}"),
                1 => format!(", H l{number}={below}"),
                _ if number % 20 == 19 => format!(", O d{}", number % 5),
                _ => String::new(),
            };
        }
        entries
    };
    let layers: Vec<String> = (0..270).map(layer).collect();
    let stack = Stack::parse(&layers.join(" | "));
    let mut names = Vec::new();
    for (number, layer) in archives(&stack).iter().enumerate() {
        if number == 200 {
            service.restart();
        }
        names.push(service.put_on_top(number, layer));
    }
    for (count, images) in [(128, 1), (129, 2), (256, 1), (270, 15)] {
        let expected = oracle::show(&Stack(stack.0[..count].to_vec())).unwrap();
        let differences = expected.differences(&service.shown(&names[count - 1]));
        assert!(differences.is_empty(), "{count}: {differences:#?}");
        service.client.view("test/view", &names[count - 1]).unwrap();
        assert_eq!(images_in(&service.root()), images, "{count}");
        service.client.remove("test/view").unwrap();
    }
    // What a container writes lies on them as on any other.
    let mounted = Mounted::at(&service.client.prepare("test/container", &names[255]).unwrap(), &service.mountpoint());
    fs::remove_file(mounted.0.join("d0/f250")).unwrap();
    fs::write(mounted.0.join("d0/new"), "").unwrap();
    drop(mounted);
    service.client.commit("test/committed", "test/container", "").unwrap();
    let shown = service.shown("test/committed").0;
    assert!(!shown.contains_key(&b"d0/f250"[..]) && shown.contains_key(&b"d0/new"[..]));
    assert!(shown.contains_key(&b"d0/f255"[..]));
    service.is_empty_when_all_is_removed();
}

/// Also when what is known of the one below has gone on to the first of them.
fn forks(kept: Kept) {
    let service = Service::start(kept);
    let client = &service.client;
    let parent = service.pull(&archives(&three())[..2], Manner::AtOnce(1)).unwrap();
    let committed = |name: &str, parent: &str, layer: &str| {
        let mounts = client.prepare(&format!("{name}/extract-key"), parent).unwrap();
        client.apply(&service.blob(&tar::archive(&Stack::parse(layer).0[0])), &mounts).unwrap();
        client.commit(name, &format!("{name}/extract-key"), "")
    };
    committed("test/one", &parent, "F d/one, W tmp/x").unwrap();
    assert_eq!(code(committed("test/two", &parent, "H two=d/one")), Code::InvalidArgument);
    committed("test/three", &parent, "H three=tmp/x").unwrap();
    committed("test/four", "test/one", "H four=d/one").unwrap();
    committed("test/five", "test/three", "H five=three, O d").unwrap();
    // A name that is taken once more, for something else.
    client.remove("test/four").unwrap();
    client.remove("test/four/extract-key").unwrap();
    committed("test/four", "test/three", "F d/four").unwrap();
    committed("test/six", "test/four", "H six=d/four").unwrap();
    let names = |name: &str| -> Vec<String> {
        let files = service.shown(name).0.into_iter().filter(|(_, node)| node.shape != Shape::Directory);
        files.map(|(path, _)| String::from_utf8(path).unwrap()).collect()
    };
    assert_eq!(names("test/one"), ["d/new", "d/one", "lib", "usr/lib/a"]);
    assert_eq!(names("test/five"), ["five", "lib", "three", "tmp/x", "usr/lib/a"]);
    assert_eq!(names("test/six"), ["d/four", "d/new", "lib", "six", "three", "tmp/x", "usr/lib/a"]);
    client.remove("test/two/extract-key").unwrap();
    service.is_empty_when_all_is_removed();
}

/// After whatever has happened: the same layers come out right, and all that is left can be removed.
fn is_sound(service: &Service, layers: &[Vec<u8>], what: &str) {
    for manner in [Manner::AtOnce(5), Manner::OneByOne] {
        let pulled = service.pull(layers, manner);
        let name = pulled.unwrap_or_else(|status: Status| panic!("{what}: {status:?}"));
        shows_three(&service.shown(&name));
    }
    service.is_empty_when_all_is_removed();
}

fn full_disk(kept: Kept) {
    let mut service = Service::start(kept);
    let snapshots = service.place.0.join("snapshots");
    drop(service.process.take());
    match kept {
        Kept::Directories => {
            rustix::mount::mount("tmpfs", &snapshots, "tmpfs", MountFlags::empty(), c"size=4m").unwrap();
        }
        // On a tmpfs there is no block device to mount from.
        Kept::Images => {
            tools::need(&["mkfs.ext4"]);
            let image = service.place.0.join("image");
            fs::File::create(&image).unwrap().set_len(4 << 20).unwrap();
            let run = |program: &str, arguments: &[&OsStr]| {
                let output = Command::new(program).args(arguments).output().unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            };
            run("mkfs.ext4", &["-q".as_ref(), image.as_ref()]);
            run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), snapshots.as_ref()]);
        }
    }
    service.restart();
    let layers = archives(&three());
    let mut random = fastrand::Rng::with_seed(1);
    let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(8 << 20).collect();
    let mut large = layers.clone();
    large.push(Tar::new().file("large", &bytes).done());
    for manner in [Manner::AtOnce(1), Manner::OneByOne] {
        let refused = service.pull(&large, manner).unwrap_err();
        assert!(refused.message().contains("No space left"), "{refused:?}");
    }
    is_sound(&service, &layers, "on a full disk");
    drop(service.process.take());
    forget_images(&snapshots);
    rustix::mount::unmount(&snapshots, UnmountFlags::DETACH).unwrap();
}

fn killed_between(kept: Kept) {
    let mut service = Service::start(kept);
    let layers = archives(&three());
    // Prepare, Apply and Commit of each layer, and Prepare, View and Remove of what is on top.
    for last in 0..=12 {
        let mut call = 0;
        let client = &service.client;
        let mut go_on = || {
            call += 1;
            call <= last
        };
        let mut mounts = Vec::new();
        for layer in 0..3 {
            if go_on() {
                mounts.push(client.prepare(&format!("test/cut/extract-{layer}"), "").unwrap());
            }
        }
        for layer in [2, 0, 1] {
            if go_on() {
                client.apply(&service.blob(&layers[layer]), &mounts[layer]).unwrap();
            }
        }
        // What was answered before a kill is there after it: so the second half is done by another process.
        if last > 6 {
            service.restart();
        }
        let client = &service.client;
        let name = |layer: usize| format!("test/cut/name-{layer}");
        for layer in 0..3_usize {
            if go_on() {
                let parent = layer.checked_sub(1).map_or(String::new(), name);
                client.commit(&name(layer), &format!("test/cut/extract-{layer}"), &parent).unwrap();
            }
        }
        if go_on() {
            shows_three(&service.shown(&name(2)));
            client.prepare("test/cut/container", &name(2)).unwrap();
        }
        if go_on() {
            client.view("test/cut/view", &name(2)).unwrap();
        }
        if go_on() {
            client.remove("test/cut/container").unwrap();
        }
        service.restart();
        is_sound(&service, &layers, &format!("after {last} calls"));
    }
}

/// The process is killed at one of its system calls, each time at a later one.
fn killed_inside(kept: Kept) {
    tools::need(&["strace"]);
    const CALLS: &str = "rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,mknodat,linkat,fsync,syncfs,fchmod,mount,move_mount,umount2,rmdir";
    let mut service = Service::start(kept);
    let layers = archives(&three());
    let step = if asked().is_some() { 1 } else { 4 };
    let mut at = 1;
    loop {
        // As a grandchild of ours: the process that it looks at is what is killed and waited for.
        let mut command = Command::new("strace");
        command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={CALLS}"));
        command.arg("-e").arg(format!("inject={CALLS}:signal=KILL:when={at}"));
        let own = service.command();
        command.arg(own.get_program()).args(own.get_args());
        let mut was_killed = !service.run(command);
        if !was_killed {
            let pulled = service.pull(&layers, Manner::AtOnce(at));
            if pulled.is_ok() {
                let _ = service.client.remove_all();
            }
            was_killed = service.client.clean().is_err();
        }
        service.restart();
        is_sound(&service, &layers, &format!("killed at call {at}"));
        if !was_killed {
            break;
        }
        at += step;
    }
    assert!(at > 20, "{at}");
}
