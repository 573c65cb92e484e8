//! Trees packed by GNU tar, bsdtar and Python: the reader has to see what was packed.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use layflat::core::record::Attributes;
use layflat::core::tar::EntryKind;
use layflat::core::text::Timestamp;
use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps};

use super::listing::{Listed, list};
use crate::common::tools;

/// The tests, by name.
pub(crate) const TESTS: &[(&str, fn())] = &[
    ("t1_archives_of_gnu_tar", t1_archives_of_gnu_tar),
    ("t1_archives_of_bsdtar", t1_archives_of_bsdtar),
    ("a5_sparse_files_of_gnu_tar", a5_sparse_files_of_gnu_tar),
    ("a5_sparse_files_of_bsdtar", a5_sparse_files_of_bsdtar),
    ("a3_xattrs_and_acls_of_gnu_tar_and_bsdtar", a3_xattrs_and_acls_of_gnu_tar_and_bsdtar),
    ("what_comes_out_is_what_the_tool_itself_extracts", what_comes_out_is_what_the_tool_itself_extracts),
    ("t1_archives_of_python", t1_archives_of_python),
];

/// Runs a tool and gives back what it writes to its standard output.
fn run(directory: &Path, command: &[&str], input: &str) -> Vec<u8> {
    let mut child = tools::command(command[0])
        .args(&command[1..])
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}");
    output.stdout
}

/// How much of a tree a format can hold.
#[derive(Clone, Copy, PartialEq)]
enum Holds {
    /// Names of 100 bytes and no FIFO, as in V7.
    Little,
    /// Names of 100 bytes behind a prefix.
    Prefix,
    /// Names of any length.
    All,
}

/// A tree of every kind of file that an ordinary user can make.
fn tree(directory: &Path, holds: Holds) {
    let long = "n".repeat(60);
    fs::create_dir_all(directory.join("tree/dir/empty")).unwrap();
    let tree = directory.join("tree");
    fs::write(tree.join("empty"), "").unwrap();
    fs::write(tree.join("block"), [b'x'; 512]).unwrap();
    fs::write(tree.join("dir/\u{e9}\\ name"), "content\n").unwrap();
    fs::hard_link(tree.join("block"), tree.join("dir/link")).unwrap();
    symlink("../block", tree.join("dir/symlink")).unwrap();
    fs::set_permissions(tree.join("block"), Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(tree.join("dir/empty"), Permissions::from_mode(0o1777)).unwrap();
    if holds != Holds::Little {
        let fifo = tree.join("fifo");
        rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
        fs::create_dir_all(tree.join(format!("{long}/{long}"))).unwrap();
        fs::write(tree.join(format!("{long}/{long}/file")), long.repeat(40)).unwrap();
    }
    if holds == Holds::All {
        symlink(format!("/{long}/{long}/{long}"), tree.join("longlink")).unwrap();
        fs::write(tree.join("m".repeat(200)), "long").unwrap();
    }
    let time = Timespec { tv_sec: 1_234_567_890, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: time, last_modification: time };
    for entry in walkdir::WalkDir::new(&tree).contents_first(true) {
        rustix::fs::utimensat(CWD, entry.unwrap().path(), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// Files with holes: none but one, one at either end, and so many that a map takes several blocks.
fn sparse_tree(directory: &Path) {
    let tree = directory.join("tree");
    fs::create_dir(&tree).unwrap();
    for (name, size, data) in [
        ("hole", 1 << 20, vec![]),
        ("start", 1 << 20, vec![0]),
        ("end", 1 << 20, vec![(1 << 20) - 512]),
        ("five", 1 << 20, (0..5).map(|index| index << 17).collect()),
        ("many", 4 << 20, (1..64).map(|index| index << 16).collect()),
    ] {
        let file = File::create(tree.join(name)).unwrap();
        for offset in data {
            file.write_all_at(&[b'd'; 512], offset).unwrap();
        }
        file.set_len(size).unwrap();
    }
}

/// The entries of a tree on disk are those of the archive.
fn expect(directory: &Path, archive: &[u8], nanoseconds: bool) -> BTreeMap<Vec<u8>, Listed> {
    let listed = list(archive, 64 << 10).unwrap();
    let by_name: BTreeMap<Vec<u8>, Listed> =
        listed.into_iter().map(|listed| (listed.name().to_vec(), listed)).collect();
    let mut expected = Vec::new();
    let mut inodes: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    for found in walkdir::WalkDir::new(directory.join("tree")) {
        let found = found.unwrap();
        let name = found.path().strip_prefix(directory).unwrap().as_os_str().as_bytes().to_vec();
        let metadata = found.path().symlink_metadata().unwrap();
        let listed = by_name.get(&name).unwrap_or_else(|| panic!("{name:?} is missing"));
        let (attributes, unkept) = Attributes::of_entry(&listed.entry).unwrap();
        assert_eq!(unkept, [], "{listed:?}");
        let mtime = Timestamp {
            seconds: metadata.mtime(),
            nanoseconds: if nanoseconds { u32::try_from(metadata.mtime_nsec()).unwrap() } else { 0 },
        };
        assert_eq!(
            (attributes.uid, attributes.gid, attributes.mtime),
            (metadata.uid(), metadata.gid(), mtime),
            "{listed:?}"
        );
        let file_type = metadata.file_type();
        if !file_type.is_symlink() {
            assert_eq!(attributes.mode, metadata.mode() & 0o7777, "{listed:?}");
        }
        if file_type.is_file() && metadata.nlink() > 1 {
            inodes.entry(metadata.ino()).or_default().push(name.clone());
        } else if file_type.is_file() {
            assert_eq!(listed.entry.kind, EntryKind::File);
            assert!(listed.content == fs::read(found.path()).unwrap(), "{:?}", listed.entry);
            assert_eq!(listed.entry.size, metadata.size());
        } else if file_type.is_symlink() {
            assert_eq!(listed.entry.kind, EntryKind::Symlink);
            assert_eq!(listed.entry.link_name, fs::read_link(found.path()).unwrap().as_os_str().as_bytes());
        } else {
            let kind = if file_type.is_dir() { EntryKind::Directory } else { EntryKind::Fifo };
            assert_eq!(listed.entry.kind, kind);
        }
        expected.push(name);
    }
    // Of several names of a file one holds the content, and the others link to it.
    for names in inodes.values() {
        let [whole] = names.iter().filter(|name| by_name[*name].entry.kind == EntryKind::File).collect::<Vec<_>>()[..]
        else {
            panic!("{names:?}");
        };
        assert_eq!(by_name[whole].content, [b'x'; 512]);
        for link in names.iter().filter(|name| *name != whole) {
            assert_eq!((by_name[link].entry.kind, &by_name[link].entry.link_name), (EntryKind::HardLink, whole));
        }
    }
    expected.sort();
    assert_eq!(by_name.keys().cloned().collect::<Vec<_>>(), expected, "nothing else is in the archive");
    by_name
}

fn t1_archives_of_gnu_tar() {
    for (format, holds, nanoseconds) in [
        ("v7", Holds::Little, false),
        ("oldgnu", Holds::All, false),
        ("gnu", Holds::All, false),
        ("ustar", Holds::Prefix, false),
        ("pax", Holds::All, true),
    ] {
        let directory = tempfile::tempdir().unwrap();
        tree(directory.path(), holds);
        let format = format!("--format={format}");
        let archive = run(directory.path(), &["tar", &format, "-cf", "-", "tree"], "");
        expect(directory.path(), &archive, nanoseconds);
    }
}

fn t1_archives_of_bsdtar() {
    for (format, holds, nanoseconds) in [
        ("v7", Holds::Little, false),
        ("gnutar", Holds::All, false),
        ("ustar", Holds::Prefix, false),
        ("pax", Holds::All, true),
    ] {
        let directory = tempfile::tempdir().unwrap();
        tree(directory.path(), holds);
        let command = ["bsdtar", "--format", format, "-cf", "-", "tree"];
        let archive = run(directory.path(), &command, "");
        expect(directory.path(), &archive, nanoseconds);
    }
}

fn a5_sparse_files_of_gnu_tar() {
    for options in [
        &["--format=gnu"][..],
        &["--format=oldgnu"],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let directory = tempfile::tempdir().unwrap();
        sparse_tree(directory.path());
        // Raw detection looks for zeros, so that the file system's own idea of holes does not matter.
        let command = [&["tar", "--sparse", "--hole-detection=raw"], options, &["-cf", "-", "tree"]].concat();
        let archive = run(directory.path(), &command, "");
        assert!(archive.len() < 1 << 20, "the archive is sparse");
        let listed = expect(directory.path(), &archive, options[0] == "--format=pax");
        assert!(listed.values().all(|listed| listed.entry.sparse == (listed.entry.kind == EntryKind::File)));
    }
}

fn a5_sparse_files_of_bsdtar() {
    let directory = tempfile::tempdir().unwrap();
    sparse_tree(directory.path());
    let archive = run(directory.path(), &["bsdtar", "--format", "pax", "-cf", "-", "tree"], "");
    expect(directory.path(), &archive, true);
}

fn a3_xattrs_and_acls_of_gnu_tar_and_bsdtar() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tree/file");
    fs::create_dir(directory.path().join("tree")).unwrap();
    fs::write(&file, "").unwrap();
    xattr::set(&file, "user.binary", b"1\n2\0\xff=").expect("the directory for temporary files holds user xattrs");
    xattr::set(&file, "user.empty", b"").unwrap();
    // Ids that are nobody's, so that no tool finds a name for them.
    let acl = ["setfacl", "-m", "u:912345:rw,u:67:r,g:912346:r", "tree/file"];
    run(directory.path(), &acl, "");
    run(directory.path(), &["setfacl", "-d", "-m", "u:912345:rwx", "tree"], "");

    let gnu_xattrs = ["tar", "--format=pax", "--xattrs", "--xattrs-include=*", "-cf", "-", "tree"];
    let gnu_acls = ["tar", "--format=pax", "--acls", "-cf", "-", "tree"];
    let bsd = ["bsdtar", "--format", "pax", "--xattrs", "--acls", "-cf", "-", "tree"];
    for (command, has_user) in [(&gnu_xattrs[..], true), (&gnu_acls, false), (&bsd, true)] {
        let archive = run(directory.path(), command, "");
        for (name, listed) in expect(directory.path(), &archive, true) {
            let (attributes, _) = Attributes::of_entry(&listed.entry).unwrap();
            let path = directory.path().join(std::ffi::OsStr::from_bytes(&name));
            for found in xattr::list(&path).unwrap() {
                let is_user = found.as_bytes().starts_with(b"user.");
                let is_acl = found.as_bytes().starts_with(b"system.posix_acl_");
                if is_acl || is_user && has_user {
                    let value = xattr::get(&path, &found).unwrap().unwrap();
                    assert_eq!(attributes.xattrs.get(found.as_bytes()), Some(&value[..]), "{command:?} {found:?}");
                }
            }
        }
    }
}

/// What layflat unpacks is what the tool that packed it takes out again.
fn what_comes_out_is_what_the_tool_itself_extracts() {
    let layflat = assert_cmd::cargo::cargo_bin!("layflat").to_str().unwrap().to_owned();
    let gnu =
        |options: &'static [&'static str]| ("tar", [&["tar", "--sparse", "--hole-detection=raw"], options].concat());
    let bsd = |options: &'static [&'static str]| ("bsdtar", [&["bsdtar"], options].concat());
    for (tool, pack) in [
        gnu(&["--format=gnu"]),
        gnu(&["--format=oldgnu"]),
        gnu(&["--format=pax", "--sparse-version=0.0", "--xattrs", "--acls"]),
        gnu(&["--format=pax", "--sparse-version=0.1"]),
        gnu(&["--format=pax", "--sparse-version=1.0"]),
        bsd(&["--format=gnutar"]),
        bsd(&["--format=pax", "--xattrs", "--acls"]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        tree(directory.path(), Holds::All);
        fs::create_dir(directory.path().join("sparse")).unwrap();
        sparse_tree(&directory.path().join("sparse"));
        fs::rename(directory.path().join("sparse/tree"), directory.path().join("tree/sparse")).unwrap();
        xattr::set(directory.path().join("tree/block"), "user.a", b"1\n2\0").unwrap();
        let acl = ["setfacl", "-m", "u:912345:rw,u:67:r,g:912346:r", "tree/empty"];
        run(directory.path(), &acl, "");
        fs::create_dir(directory.path().join("theirs")).unwrap();
        run(directory.path(), &[&pack[..], &["-cf", "a.tar", "tree"]].concat(), "");
        let keep: &[&str] = match tool {
            "tar" => &["tar", "--xattrs", "--acls", "--same-permissions"],
            _ => &["bsdtar", "--xattrs", "--acls", "-p"],
        };
        run(directory.path(), &[keep, &["-xf", "a.tar", "-C", "theirs"]].concat(), "");
        run(directory.path(), &[&layflat, "flatten", "--quiet", "layers:a.tar", "ours"], "");
        let output =
            Command::new(&layflat).current_dir(directory.path()).args(["diff", "theirs/tree", "ours/tree"]).output();
        let output = output.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{pack:?}");
        assert!(output.status.success(), "{pack:?}");
    }
}

/// Makes an archive of awkward entries and says what Python reads from it, a line an entry, all in hexadecimal.
const PYTHON: &str = r#"
import io, math, sys, tarfile

format = getattr(tarfile, sys.argv[1])
pax = format == tarfile.PAX_FORMAT
ustar = format == tarfile.USTAR_FORMAT
archive = tarfile.open('archive.tar', 'w', format=format, encoding='utf-8', errors='surrogateescape')

def add(name, type=tarfile.REGTYPE, content=b'', **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size = type, len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(content))

add('file', content=b'content', mode=0o6755, uid=1000, gid=1001, mtime=1234567890)
add('odd\udcff\n name', content=b'x' * 513)
add('d/', tarfile.DIRTYPE, mode=0o1777)
add('d' * 90 + '/' + 'f' * 90, content=b'prefix')
add('symlink', tarfile.SYMTYPE, linkname='../target')
add('hardlink', tarfile.LNKTYPE, linkname='file')
add('fifo', tarfile.FIFOTYPE)
add('char', tarfile.CHRTYPE, devmajor=5, devminor=1)
add('block', tarfile.BLKTYPE, devmajor=259, devminor=65535)
if not ustar:
    add('n' * 300, content=b'long name')
    add('longlink', tarfile.SYMTYPE, linkname='l/' * 300)
    add('owner', uid=4294967294, gid=3000000000)
    add('old', mtime=-1)
    add('late', mtime=20000000000)
if pax:
    add('xattr', pax_headers={'SCHILY.xattr.user.x': 'a\nb=c', 'atime': '5.5'})
    add('quarter', mtime=-1.25)
    add('half', mtime=1.5)
archive.close()

kinds = {tarfile.REGTYPE: 'File', tarfile.DIRTYPE: 'Directory', tarfile.SYMTYPE: 'Symlink', tarfile.LNKTYPE: 'HardLink',
         tarfile.FIFOTYPE: 'Fifo', tarfile.CHRTYPE: 'CharacterDevice', tarfile.BLKTYPE: 'BlockDevice'}
archive = tarfile.open('archive.tar', encoding='utf-8', errors='surrogateescape')
for info in archive:
    raw = lambda text: text.encode('utf-8', 'surrogateescape').hex()
    content = archive.extractfile(info).read().hex() if info.isreg() else ''
    seconds = math.floor(info.mtime)
    device = (info.devmajor, info.devminor) if info.ischr() or info.isblk() else (0, 0)
    print(raw(info.name), kinds[info.type], info.size, content, raw(info.linkname), info.mode, info.uid, info.gid,
          seconds, round((info.mtime - seconds) * 10**9), *device, sep='|')
"#;

fn t1_archives_of_python() {
    for format in ["USTAR_FORMAT", "GNU_FORMAT", "PAX_FORMAT"] {
        let directory = tempfile::tempdir().unwrap();
        let output = run(directory.path(), &["python3", "-", format], PYTHON);
        let archive = fs::read(directory.path().join("archive.tar")).unwrap();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let ours: Vec<String> = list(&archive, 1000)
            .unwrap()
            .iter()
            .map(|listed| {
                let entry = &listed.entry;
                let fields = [
                    hex(listed.name()),
                    format!("{:?}", entry.kind),
                    entry.size.to_string(),
                    hex(&listed.content),
                    hex(&entry.link_name),
                    entry.mode.to_string(),
                    entry.uid.to_string(),
                    entry.gid.to_string(),
                    entry.mtime.seconds.to_string(),
                    entry.mtime.nanoseconds.to_string(),
                    entry.device.0.to_string(),
                    entry.device.1.to_string(),
                ];
                fields.join("|")
            })
            .collect();
        let theirs = String::from_utf8(output).unwrap();
        assert_eq!(ours, theirs.lines().collect::<Vec<_>>(), "{format}");
        assert!(ours.len() >= 9);
    }
}
