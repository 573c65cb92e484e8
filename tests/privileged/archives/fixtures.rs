//! The archives of `scripts/make-archives`, each unpacked and held against what the tool that packed it extracts.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use layflat::compare::{CompareOptions, compare};
use layflat::core::reference::Reference;
use layflat::transport::source;
use layflat::tree::{Snapshot, SnapshotOptions};
use layflat::{LossKind, NoProgress, Options, flatten};

use crate::common::tools;

/// The tests, by name.
pub(crate) const TESTS: &[(&str, fn())] = &[
    ("what_gnu_tar_packed_comes_out_as_gnu_tar_extracts_it", what_gnu_tar_packed_comes_out_as_gnu_tar_extracts_it),
    ("what_bsdtar_packed_comes_out_as_bsdtar_extracts_it", what_bsdtar_packed_comes_out_as_bsdtar_extracts_it),
    ("what_python_packed_comes_out_as_python_extracts_it", what_python_packed_comes_out_as_python_extracts_it),
    (
        "a3_attributes_have_the_names_that_were_packed_whoever_packed_them",
        a3_attributes_have_the_names_that_were_packed_whoever_packed_them,
    ),
];

/// The archives that a tool packed, by what their names begin with.
fn archives(tool: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/archives");
    let mut paths: Vec<PathBuf> = (fs::read_dir(directory).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(tool))
        // bsdtar makes two attributes of one of these.
        .filter(|path| !path.ends_with("bsdtar-xattr-names.tar"))
        .collect();
    paths.sort();
    paths
}

/// Unpacks each archive and has the tool extract it; whatever differs is a failure.
fn same(tool: &str, count: usize, extract: impl Fn(&Path, &Path) -> Command) {
    let archives = archives(tool);
    assert_eq!(archives.len(), count);
    for archive in archives {
        let place = tempfile::tempdir().unwrap();
        let (ours, theirs) = (place.path().join("ours"), place.path().join("theirs"));
        let image = source::open(&Reference::Layers(vec![archive.clone()]), &source::OpenOptions::default()).unwrap();
        let report = flatten(&image, &ours, &Options::default(), &NoProgress).unwrap();
        fs::create_dir(&theirs).unwrap();
        let output = extract(&archive, &theirs).current_dir(&theirs).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{archive:?}: {}", String::from_utf8_lossy(&output.stderr));

        // The tools leave the directory that they extract into as it is.
        let differences = compare(&ours.join("tree"), &theirs.join("tree"), &CompareOptions::default()).unwrap();
        // Python sets no times of symlinks.
        let symlink = |path: &str| ours.join("tree").join(path).is_symlink();
        let listed: Vec<String> = (differences.iter().map(ToString::to_string))
            .filter(|line| tool != "python-" || !line.split_once(": mtime: ").is_some_and(|(path, _)| symlink(path)))
            .collect();
        assert_eq!(listed, [""; 0], "{archive:?}");
        assert!(report.entries >= 2);
        if archive.to_str().unwrap().contains("sparse") {
            for name in ["hole", "start", "middle", "end", "many"] {
                // Until a file is on the disk its count lacks the blocks of its map.
                let blocks = |root: &Path| {
                    let file = fs::File::open(root.join("tree").join(name)).unwrap();
                    file.sync_all().unwrap();
                    file.metadata().unwrap().blocks()
                };
                assert!(blocks(&ours) <= blocks(&theirs), "{archive:?}: {name} has lost holes");
            }
        }
    }
}

fn what_gnu_tar_packed_comes_out_as_gnu_tar_extracts_it() {
    same("gnutar-", 12, |archive, _| {
        let mut command = tools::command("tar");
        command.args(["-xp", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls", "-f"]).arg(archive);
        command
    });
}

fn what_bsdtar_packed_comes_out_as_bsdtar_extracts_it() {
    same("bsdtar-", 6, |archive, _| {
        let mut command = tools::command("bsdtar");
        command.args(["-xp", "--numeric-owner", "--xattrs", "--acls", "-f"]).arg(archive);
        command
    });
}

fn a3_attributes_have_the_names_that_were_packed_whoever_packed_them() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/archives");
    for tool in ["gnutar", "bsdtar"] {
        let place = tempfile::tempdir().unwrap();
        let archive = directory.join(format!("{tool}-xattr-names.tar"));
        let image = source::open(&Reference::Layers(vec![archive]), &source::OpenOptions::default()).unwrap();
        let rootfs = place.path().join("rootfs");
        let report = flatten(&image, &rootfs, &Options::default(), &NoProgress).unwrap();
        // An ordinary user keeps no owners.
        let lost: Vec<_> = report.not_kept.iter().filter(|loss| loss.kind != LossKind::Owner).collect();
        assert!(lost.is_empty(), "{tool}: {lost:?}");
        let snapshot = Snapshot::take(&rootfs, &SnapshotOptions::default()).unwrap();
        let (_, file) = snapshot.entries().find(|(path, _)| path.as_slice() == b"tree/file").unwrap();
        let found: Vec<(&[u8], &[u8])> = file.xattrs.iter().filter(|(name, _)| name.starts_with(b"user.")).collect();
        let mut names =
            ["a=b", "p%q", "p%25q", "%3D", "s p", "b/c+d", "caf\u{e9}"].map(|name| (format!("user.{name}"), name));
        names.sort();
        let expected: Vec<(&[u8], &[u8])> =
            names.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        assert_eq!(found, expected, "{tool}");
    }
}

fn what_python_packed_comes_out_as_python_extracts_it() {
    // Without a filter nothing is changed; older Pythons know no other way.
    const EXTRACT: &str = "import sys, tarfile
trusted = {'filter': 'fully_trusted'} if hasattr(tarfile, 'fully_trusted_filter') else {}
tarfile.open(sys.argv[1]).extractall(sys.argv[2], numeric_owner=True, **trusted)";
    same("python-", 3, |archive, directory| {
        let mut command = tools::command("python3");
        command.args(["-c", EXTRACT]).arg(archive).arg(directory);
        command
    });
}
