//! What the writer writes: our own reader reads it as it was meant, and so do GNU tar and Python.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use layflat::core::tar::{Entry, EntryKind, Fragment, Writer};
use layflat::core::text::Timestamp;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::listing::list;
use crate::common::tools;

/// The tests, by name.
pub(crate) const TESTS: &[(&str, fn())] = &[
    ("what_is_written_is_read", what_is_written_is_read),
    ("what_was_not_announced_is_refused", what_was_not_announced_is_refused),
    ("a5_gnu_tar_extracts_what_is_written", a5_gnu_tar_extracts_what_is_written),
    ("a5_python_reads_what_is_written", a5_python_reads_what_is_written),
];

/// An entry with the parts of its content that are no holes.
type Written = (Entry, Vec<(u64, Vec<u8>)>);

fn write(entries: &[Written]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, parts) in entries {
        let fragments: Vec<Fragment> =
            parts.iter().map(|(offset, bytes)| Fragment { offset: *offset, length: bytes.len() as u64 }).collect();
        writer.entry(entry, &fragments).unwrap();
        for (offset, bytes) in parts {
            writer.data(*offset, bytes).unwrap();
        }
        writer.end_of_entry().unwrap();
    }
    writer.finish().unwrap()
}

fn file(name: &[u8], size: u64) -> Entry {
    Entry {
        kind: EntryKind::File,
        name: name.to_vec(),
        link_name: Vec::new(),
        mode: 0o640,
        uid: 4_294_967_294,
        gid: 2_097_152,
        size,
        mtime: Timestamp { seconds: 1_234_567_890, nanoseconds: 123_456_789 },
        atime: None,
        device: (0, 0),
        sparse: false,
        records: Vec::new(),
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let component = vec(prop_oneof![Just(b'a'), Just(b'.'), Just(0xc3), Just(b'\n'), Just(b' ')], 1..120);
    vec(component, 1..5).prop_map(|components| components.join(&b'/'))
}

fn entry() -> impl Strategy<Value = Written> {
    use EntryKind::{BlockDevice, CharacterDevice, Directory, Fifo, File, HardLink, Symlink};
    let kind = prop::sample::select(vec![File, File, Directory, Symlink, HardLink, CharacterDevice, BlockDevice, Fifo]);
    let id = prop_oneof![0..10_000_000_i64, Just(4_294_967_294)];
    let seconds = prop_oneof![-20..20_i64, -100_000_000_000..100_000_000_000_i64];
    let time = (seconds, prop_oneof![Just(0), 0..1_000_000_000_u32]);
    let time = time.prop_map(|(seconds, nanoseconds)| Timestamp { seconds, nanoseconds });
    let records = vec((vec(b'a'..b'f', 1..3), vec(any::<u8>(), 0..150)), 0..3);
    let parts = vec((prop_oneof![Just(0_u64), 0..20_000_u64], vec(any::<u8>(), 1..2000)), 0..5);
    let fields = (0..0o10000_i64, id.clone(), id, time.clone(), option::of(time), 0..20_000_u64);
    (kind, name(), name(), fields, records, parts).prop_map(|(kind, name, link_name, fields, records, parts)| {
        let (mode, uid, gid, mtime, atime, end) = fields;
        let mut at = 0;
        let mut placed = Vec::new();
        for (gap, bytes) in parts.into_iter().filter(|_| kind == File) {
            let offset = at + gap;
            at = offset + bytes.len() as u64;
            placed.push((offset, bytes));
        }
        let mut records: Vec<(Vec<u8>, Vec<u8>)> =
            records.into_iter().map(|(key, value)| ([b"SCHILY.xattr.user.", &key[..]].concat(), value)).collect();
        records.sort();
        records.dedup_by(|later, earlier| later.0 == earlier.0);
        let is_device = matches!(kind, CharacterDevice | BlockDevice);
        let entry = Entry {
            kind,
            name: if kind == Directory { [&name[..], b"/"].concat() } else { name },
            link_name: if matches!(kind, Symlink | HardLink) { link_name } else { Vec::new() },
            mode,
            uid,
            gid,
            size: if kind == File { at + end } else { 0 },
            mtime,
            atime,
            device: if is_device { (4095, 1_048_575) } else { (0, 0) },
            sparse: false,
            records,
        };
        (entry, placed)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    fn what_is_written_is_read(entries in vec(entry(), 0..5), piece in 1..3000_usize) {
        let bytes = write(&entries);
        prop_assert_eq!(&bytes, &write(&entries));
        let listed = list(&bytes, piece).unwrap();
        prop_assert_eq!(listed.len(), entries.len());
        for (listed, (entry, parts)) in listed.into_iter().zip(entries) {
            let mut read = listed.entry;
            read.records.retain(|(key, _)| key.starts_with(b"SCHILY.xattr."));
            read.sparse = false;
            prop_assert_eq!(read, entry.clone());
            let mut content = vec![0; entry.size as usize];
            for (offset, bytes) in parts {
                content[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
            }
            prop_assert_eq!(listed.content, content);
        }
    }
}

fn what_was_not_announced_is_refused() {
    let mut writer = Writer::new(Vec::new());
    writer.entry(&file(b"f", 5), &[Fragment { offset: 0, length: 5 }]).unwrap();
    writer.data(0, b"abc").unwrap();
    writer.data(2, b"x").unwrap_err();
    writer.data(3, b"more").unwrap_err();
}

/// Files with holes of every kind, one of them larger than a header's size field can say, and a name too long for a
/// header.
fn sparse_archive() -> (Vec<u8>, Vec<Written>) {
    let data = |offsets: &[u64]| offsets.iter().map(|&offset| (offset, vec![b'd'; 512])).collect::<Vec<_>>();
    let long = [&b"long/".repeat(60)[..], b"name"].concat();
    let entries = vec![
        (file(b"hole", 1 << 20), data(&[])),
        (file(b"start", 1 << 20), data(&[0])),
        (file(b"end", 1 << 20), data(&[(1 << 20) - 512])),
        (file(b"five", 1 << 20), data(&[1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 19])),
        (file(&long, 4 << 20), data(&(1..64).map(|index| index << 16).collect::<Vec<_>>())),
        (file(b"huge", 9 << 30), data(&[8 << 30])),
        (file(b"small-hole", 2048), data(&[0, 1024])),
    ];
    (write(&entries), entries)
}

fn a5_gnu_tar_extracts_what_is_written() {
    let place = tempfile::tempdir().unwrap();
    let (bytes, entries) = sparse_archive();
    assert!(bytes.len() < 100 << 10, "holes are written: {}", bytes.len());
    fs::write(place.path().join("archive.tar"), bytes).unwrap();
    let output = tools::command("tar").args(["-xf", "archive.tar"]).current_dir(&place).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    for (entry, parts) in entries {
        let path = place.path().join(std::ffi::OsStr::from_bytes(&entry.name));
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.len(), metadata.mtime_nsec()), (entry.size, 123_456_789), "{path:?}");
        if entry.size <= 4 << 20 {
            let mut content = vec![0; entry.size as usize];
            for (offset, bytes) in parts {
                content[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
            }
            assert!(fs::read(&path).unwrap() == content, "{path:?}");
        }
    }
}

fn a5_python_reads_what_is_written() {
    let place = tempfile::tempdir().unwrap();
    let (bytes, entries) = sparse_archive();
    fs::write(place.path().join("archive.tar"), bytes).unwrap();
    let script = "import tarfile, hashlib\n\
        for member in tarfile.open('archive.tar'):\n\
        \x20   small = member.size <= 4 << 20\n\
        \x20   digest = hashlib.sha256(tarfile.open('archive.tar').extractfile(member.name).read()).hexdigest() if small else '-'\n\
        \x20   print(member.name, member.size, member.uid, member.gid, f'{member.mtime:.3f}', digest)";
    let output = tools::command("python3").args(["-c", script]).current_dir(&place).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut expected = String::new();
    for (entry, parts) in entries {
        let mut digest = "-".to_owned();
        if entry.size <= 4 << 20 {
            let mut content = vec![0; entry.size as usize];
            for (offset, bytes) in parts {
                content[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
            }
            digest = layflat::core::digest::Digest::sha256_of(&content).hex().to_owned();
        }
        let name = String::from_utf8(entry.name).unwrap();
        expected += &format!("{name} {} 4294967294 2097152 1234567890.123 {digest}\n", entry.size);
    }
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}
