//! Random archives, whole and damaged, read by layflat and by the crates `tar` and `tar-core`.
//!
//! Nobody panics, and where two accept an archive they see the same, but for the differences in [`EXPLAINED`]. There
//! Go's reader is on our side, and so are GNU tar and bsdtar where they were tried (rule T1).

use std::collections::BTreeSet;
use std::io::Read;

use layflat::core::tar::EntryKind;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use tar_core::parse::{ParseEvent, ParsedEntry, Parser};

use super::listing::{Listed, list};

/// The tests, by name.
pub(crate) const TESTS: &[(&str, fn())] = &[("t1_what_others_see_is_what_we_see", t1_what_others_see_is_what_we_see)];

/// What all three readers can say about an entry.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    kind: u8,
    name: Vec<u8>,
    link: Vec<u8>,
    content: Vec<u8>,
    uid: u64,
    gid: u64,
    mtime: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Other {
    Tar,
    TarCore,
}

/// Whether an archive is one of those that show a difference.
type Applies = fn(&Facts) -> bool;

/// A difference that is known, who is to blame, and the archives that show it.
struct Explained {
    who: Other,
    #[expect(dead_code, reason = "for who reads this list")]
    what: &'static str,
    applies: Applies,
}

const EXPLAINED: &[Explained] = {
    use Other::{Tar, TarCore};
    &[
        Explained {
            who: Tar,
            what: "ends a PAX record at the first newline, not by its length",
            applies: |facts| facts.records.iter().any(|(_, value)| value.contains(&b'\n')),
        },
        Explained { who: Tar, what: "takes the first of doubled PAX keys", applies: |facts| facts.has_doubled_keys },
        Explained {
            who: Tar,
            what: "passes over PAX values that are no number",
            applies: |facts| facts.has_record(|key, value| is_number(key) && str_to_u64(value).is_none()),
        },
        Explained { who: Tar, what: "does not read times from PAX", applies: |facts| facts.has_key(b"mtime") },
        Explained {
            who: Tar,
            what: "does not know PAX sparse files",
            applies: |facts| facts.has_key(b"GNU.sparse.map"),
        },
        Explained {
            who: Tar,
            what: "ends at a single block of zeros, whatever follows",
            applies: |facts| facts.has_zero_block,
        },
        Explained {
            who: TarCore,
            what: "takes a PAX path where there is a GNU long name too",
            applies: |facts| facts.has_type(b"LK") && (facts.has_key(b"path") || facts.has_key(b"linkpath")),
        },
        Explained { who: TarCore, what: "passes over a single block of zeros", applies: |facts| facts.has_zero_block },
    ]
};

/// Differences that both have, and which are no matter of taste either.
const EXPLAINED_OF_BOTH: &[(&str, Applies)] = &[
    ("looks for the payload of links, devices, directories and FIFOs", |facts| {
        facts.has_sized_header_only || facts.has_key(b"size") && facts.has_type(b"123456")
    }),
    ("takes type NUL with a trailing slash for a file", |facts| facts.has_type(b"\0")),
    ("takes an empty PAX value in place of the header's", |facts| facts.has_record(|_, value| value.is_empty())),
    ("keeps what follows a NUL in a GNU long name", |facts| facts.has_type(b"LK")),
    ("does not know star's prefix, nor ustar without its version", |facts| facts.has_odd_magic),
    ("does not undo the prefix that Go's writer before 1.8 put into GNU headers", |facts| facts.has_prefix_in_gnu),
    ("takes an extended header for an entry in V7 format", |facts| facts.has_extension_in_v7),
    ("takes a negative owner in base 256 for a positive one", |facts| facts.has_negative_owner),
    ("takes a number behind a NUL for none; Go and GNU tar pass over the NUL", |facts| facts.has_number_behind_nul),
];

/// What an archive has that readers disagree about, found by looking at every block that could be a header.
struct Facts {
    types: BTreeSet<u8>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
    has_doubled_keys: bool,
    has_sized_header_only: bool,
    has_zero_block: bool,
    has_odd_magic: bool,
    has_prefix_in_gnu: bool,
    has_extension_in_v7: bool,
    has_negative_owner: bool,
    has_number_behind_nul: bool,
}

impl Facts {
    fn of(bytes: &[u8]) -> Self {
        let mut facts = Self {
            types: BTreeSet::new(),
            records: Vec::new(),
            has_doubled_keys: false,
            has_sized_header_only: false,
            has_zero_block: false,
            has_odd_magic: false,
            has_prefix_in_gnu: false,
            has_extension_in_v7: false,
            has_negative_owner: false,
            has_number_behind_nul: false,
        };
        for (index, block) in bytes.chunks_exact(512).enumerate() {
            facts.has_zero_block |= block == [0; 512] && bytes[512 * index..].iter().any(|&byte| byte != 0);
            if !is_header(block) {
                continue;
            }
            let (typeflag, magic) = (block[156], &block[257..265]);
            facts.types.insert(typeflag);
            let has_size = block[124..136].iter().any(|byte| !matches!(byte, b'0' | b' ' | 0));
            facts.has_sized_header_only |= has_size && (b'1'..=b'6').contains(&typeflag);
            let is_known = magic == b"ustar\x0000" || magic == b"ustar  \0";
            facts.has_odd_magic |= !is_known && magic.starts_with(b"ustar") || block[508..] == *b"tar\0";
            facts.has_prefix_in_gnu |= magic == b"ustar  \0" && block[345..357].iter().any(u8::is_ascii_lowercase);
            facts.has_extension_in_v7 |= !is_known && b"xgLKS".contains(&typeflag);
            facts.has_negative_owner |= block[108] == 0xff || block[116] == 0xff;
            let numbers = [100..108, 108..116, 116..124, 124..136, 136..148].map(|field| &block[field]);
            facts.has_number_behind_nul |=
                numbers.iter().any(|field| field[0] == 0 && field.iter().any(|&byte| byte != 0));
            if typeflag == b'x' {
                facts.add_records(&bytes[512 * (index + 1)..]);
            }
        }
        facts
    }

    /// Notes the records that begin here, however long the header says they are.
    fn add_records(&mut self, mut bytes: &[u8]) {
        let mut keys = BTreeSet::new();
        while let Some((record, rest)) = record(bytes) {
            let equals = record.iter().position(|&byte| byte == b'=').unwrap_or(record.len());
            let (key, value) = record.split_at(equals);
            self.has_doubled_keys |= !keys.insert(key);
            self.records.push((key.to_vec(), value.get(1..).unwrap_or_default().to_vec()));
            bytes = rest;
        }
    }

    fn has_record(&self, is_it: impl Fn(&[u8], &[u8]) -> bool) -> bool {
        self.records.iter().any(|(key, value)| is_it(key, value))
    }

    fn has_key(&self, wanted: &[u8]) -> bool {
        self.has_record(|key, _| key == wanted)
    }

    fn has_type(&self, types: &[u8]) -> bool {
        types.iter().any(|typeflag| self.types.contains(typeflag))
    }
}

fn record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().position(|&byte| byte == b' ')?;
    let length = usize::try_from(str_to_u64(&bytes[..space])?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    Some((record.get(space + 1..length.checked_sub(1)?)?, rest))
}

fn is_number(key: &[u8]) -> bool {
    [&b"size"[..], b"uid", b"gid"].contains(&key)
}

fn str_to_u64(value: &[u8]) -> Option<u64> {
    str::from_utf8(value).ok()?.parse().ok()
}

fn sum(block: &[u8]) -> u32 {
    block.iter().enumerate().map(|(at, &byte)| if (148..156).contains(&at) { 32 } else { u32::from(byte) }).sum()
}

fn is_header(block: &[u8]) -> bool {
    tar::Header::from_byte_slice(block).cksum().is_ok_and(|stated| stated == sum(block))
}

fn mend(block: &mut [u8]) {
    let sum = format!("{:06o}\0 ", sum(block));
    block[148..156].copy_from_slice(sum.as_bytes());
}

fn ours(bytes: &[u8]) -> Option<Vec<Seen>> {
    let whole = list(bytes, usize::MAX);
    for piece in [1, 700] {
        assert_eq!(list(bytes, piece), whole, "in pieces of {piece}");
    }
    let seen = |listed: Listed| {
        let entry = listed.entry;
        let kind = match entry.kind {
            EntryKind::File => b'0',
            EntryKind::HardLink => b'1',
            EntryKind::Symlink => b'2',
            EntryKind::CharacterDevice => b'3',
            EntryKind::BlockDevice => b'4',
            EntryKind::Directory => b'5',
            EntryKind::Fifo => b'6',
        };
        Seen {
            kind,
            name: entry.name,
            link: entry.link_name,
            content: listed.content,
            // The others wrap what is negative, which nobody means.
            uid: entry.uid.cast_unsigned(),
            gid: entry.gid.cast_unsigned(),
            mtime: entry.mtime.seconds,
        }
    };
    Some(whole.ok()?.into_iter().map(seen).collect())
}

/// The kinds that a layer holds; `None` for what our reader passes over, an error for what it refuses.
fn kind(typeflag: u8) -> Result<Option<u8>, ()> {
    match typeflag {
        0 | b'7' | b'S' => Ok(Some(b'0')),
        b'0'..=b'6' => Ok(Some(typeflag)),
        b'V' | b'g' => Ok(None),
        _ => Err(()),
    }
}

fn of_tar(bytes: &[u8]) -> Result<Vec<Seen>, Box<dyn std::error::Error>> {
    let mut seen = Vec::new();
    for entry in tar::Archive::new(bytes).entries()? {
        let mut entry = entry?;
        let mut content = Vec::new();
        entry.by_ref().take(1 << 20).read_to_end(&mut content)?;
        let header = entry.header();
        if content.len() as u64 != entry.size() && header.entry_type().as_byte() != b'S' {
            return Err("it says nothing when a file is cut".into());
        }
        let Some(kind) = kind(header.entry_type().as_byte()).map_err(|()| "type")? else { continue };
        seen.push(Seen {
            kind,
            name: entry.path_bytes().into_owned(),
            link: entry.link_name_bytes().unwrap_or_default().into_owned(),
            content,
            uid: header.uid()?,
            gid: header.gid()?,
            mtime: header.mtime()?.cast_signed(),
        });
    }
    Ok(seen)
}

fn of_tar_core(bytes: &[u8]) -> Result<Vec<Seen>, Box<dyn std::error::Error>> {
    let mut seen = Vec::new();
    let mut parser = Parser::with_defaults();
    let mut rest = bytes;
    let push = |entry: &ParsedEntry, content: Vec<u8>, seen: &mut Vec<Seen>| -> Result<(), &'static str> {
        if let Some(kind) = kind(entry.entry_type.to_byte()).map_err(|()| "type")? {
            seen.push(Seen {
                kind,
                name: entry.path.to_vec(),
                link: entry.link_target.as_deref().unwrap_or_default().to_vec(),
                content,
                uid: entry.uid,
                gid: entry.gid,
                mtime: entry.mtime.cast_signed(),
            });
        }
        Ok(())
    };
    loop {
        match parser.parse(rest)? {
            ParseEvent::NeedData { .. } if rest.is_empty() || rest == [0; 512] => return Ok(seen),
            ParseEvent::NeedData { .. } => return Err("truncated".into()),
            ParseEvent::End { .. } => return Ok(seen),
            ParseEvent::GlobalExtensions { consumed, .. } => rest = &rest[consumed..],
            ParseEvent::Entry { consumed, entry } => {
                let content = &rest[consumed..];
                let size = usize::try_from(entry.size)?;
                push(&entry, content.get(..size).ok_or("truncated")?.to_vec(), &mut seen)?;
                rest = content.get(size.next_multiple_of(512)..).unwrap_or_default();
            }
            ParseEvent::SparseEntry { consumed, entry, sparse_map, real_size } => {
                let content = &rest[consumed..];
                let size = usize::try_from(entry.size)?;
                let mut data = content.get(..size).ok_or("truncated")?;
                let mut expanded = vec![0; usize::try_from(real_size)?.min(1 << 20)];
                for fragment in sparse_map {
                    let (start, length) = (usize::try_from(fragment.offset)?, usize::try_from(fragment.length)?);
                    let (bytes, more) = data.split_at_checked(length).ok_or("sparse map")?;
                    expanded
                        .get_mut(start..)
                        .and_then(|to| to.get_mut(..length))
                        .ok_or("sparse map")?
                        .copy_from_slice(bytes);
                    data = more;
                }
                push(&entry, expanded, &mut seen)?;
                rest = content.get(size.next_multiple_of(512)..).unwrap_or_default();
            }
        }
    }
}

/// One entry to build.
#[derive(Debug, Clone)]
struct Item {
    format: u8,
    typeflag: u8,
    name: String,
    link: String,
    content: Vec<u8>,
    ids: (u64, u64),
    mtime: u64,
    records: Vec<(&'static str, Vec<u8>)>,
}

/// One way to damage an archive.
#[derive(Debug, Clone)]
enum Damage {
    Flip { at: usize, with: u8 },
    Type { header: usize, typeflag: u8 },
    Size { header: usize, size: u64 },
    Magic { header: usize, magic: &'static [u8] },
    Double { block: usize },
    Drop { block: usize },
    Zeros { block: usize },
    Cut { at: usize },
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[a-c]{1,3}(/[a-c]{1,3}){0,2}/?", 1 => "[a-c]{90,120}/[a-c]{60,100}"]
}

fn pax_record() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let text = prop_oneof![Just(""), Just("a"), Just("b/c"), Just("a\nb"), Just("x\n9 path=q\n")];
    let number = prop_oneof![Just("0"), Just("7"), Just("512"), Just("4294967296"), Just("-1"), Just("x"), Just("")];
    let time = prop_oneof![Just("1"), Just("1.5"), Just("-1.5"), Just("1.x"), Just("99999999999")];
    prop_oneof![
        (prop_oneof![Just("path"), Just("linkpath"), Just("SCHILY.xattr.user.x"), Just("comment")], text),
        (prop_oneof![Just("size"), Just("uid"), Just("gid")], number),
        (Just("mtime"), time),
    ]
    .prop_map(|(key, value)| (key, value.as_bytes().to_vec()))
}

fn item() -> impl Strategy<Value = Item> {
    let typeflag = prop_oneof![6 => Just(b'0'), 1 => Just(0), 5 => b'1'..=b'7', 1 => Just(b'V')];
    let records = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(pax_record(), 0..4)];
    let content = prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), 1..1200)];
    let ids = (0..1_u64 << 32, 0..3000_u64);
    (0..3_u8, typeflag, name(), name(), content, ids, 0..1_u64 << 33, records).prop_map(
        |(format, typeflag, name, link, content, ids, mtime, records)| {
            let content = if (b'1'..=b'6').contains(&typeflag) { Vec::new() } else { content };
            Item { format, typeflag, name, link, content, ids, mtime, records }
        },
    )
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = || any::<usize>();
    let typeflag = prop::sample::select(b"\x0001234567SxgLKVD".to_vec());
    let size = prop_oneof![Just(0), Just(512), Just(1 << 32), 0..2000_u64];
    let magic =
        prop::sample::select(vec![&b"\0\0\0\0\0\0\0\0"[..], b"ustar\x0000", b"ustar  \0", b"ustar\0\0\0", b"ustar 00"]);
    prop_oneof![
        (index(), 1..=255_u8).prop_map(|(at, with)| Damage::Flip { at, with }),
        (index(), typeflag).prop_map(|(header, typeflag)| Damage::Type { header, typeflag }),
        (index(), size).prop_map(|(header, size)| Damage::Size { header, size }),
        (index(), magic).prop_map(|(header, magic)| Damage::Magic { header, magic }),
        index().prop_map(|block| Damage::Double { block }),
        index().prop_map(|block| Damage::Drop { block }),
        index().prop_map(|block| Damage::Zeros { block }),
        index().prop_map(|at| Damage::Cut { at }),
    ]
}

fn build(items: &[Item]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for item in items {
        if !item.records.is_empty() {
            builder.append_pax_extensions(item.records.iter().map(|(key, value)| (*key, &value[..]))).unwrap();
        }
        let mut header = match item.format {
            0 => tar::Header::new_gnu(),
            1 => tar::Header::new_ustar(),
            _ => tar::Header::new_old(),
        };
        header.set_entry_type(tar::EntryType::new(item.typeflag));
        header.set_mode(0o644);
        header.set_uid(item.ids.0);
        header.set_gid(item.ids.1);
        header.set_mtime(item.mtime);
        header.set_size(item.content.len() as u64);
        let is_link = matches!(item.typeflag, b'1' | b'2');
        let appended = if is_link {
            builder.append_link(&mut header, &item.name, &item.link)
        } else {
            builder.append_data(&mut header, &item.name, &item.content[..])
        };
        // Names that its format cannot hold: the entry is not there, its records are.
        drop(appended);
    }
    builder.into_inner().unwrap()
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        let blocks = bytes.len() / 512;
        if blocks == 0 {
            break;
        }
        let headers: Vec<usize> = (0..blocks).filter(|index| is_header(&bytes[512 * index..][..512])).collect();
        let in_header = |bytes: &mut Vec<u8>, index: usize, change: &dyn Fn(&mut [u8])| {
            if let Some(header) = headers.get(index % headers.len().max(1)) {
                let block = &mut bytes[512 * header..][..512];
                change(block);
                mend(block);
            }
        };
        match *damage {
            Damage::Flip { at, with } => {
                let at = at % bytes.len();
                bytes[at] ^= with;
                // Damage that the checksum finds is not a test of anything else.
                if headers.contains(&(at / 512)) && with % 8 > 0 {
                    mend(&mut bytes[at / 512 * 512..][..512]);
                }
            }
            Damage::Type { header, typeflag } => in_header(&mut bytes, header, &|block| block[156] = typeflag),
            Damage::Size { header, size } => {
                in_header(&mut bytes, header, &|block| {
                    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes())
                });
            }
            Damage::Magic { header, magic } => {
                in_header(&mut bytes, header, &|block| block[257..265].copy_from_slice(magic));
            }
            Damage::Double { block } => {
                let block = block % blocks;
                let copy = bytes[512 * block..][..512].to_vec();
                bytes.splice(512 * block..512 * block, copy);
            }
            Damage::Drop { block } => drop(bytes.drain(512 * (block % blocks)..512 * (block % blocks + 1))),
            Damage::Zeros { block } => drop(bytes.splice(512 * (block % blocks)..512 * (block % blocks), [0; 512])),
            Damage::Cut { at } => bytes.truncate(at % bytes.len()),
        }
    }
    bytes
}

/// How much a comparison says.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// Readers that accept it beside ours.
    both_accept: u32,
    /// Those of them that must see the same.
    unexcused: u32,
}

/// Compares what readers see in an archive.
pub(crate) fn compare(bytes: &[u8]) -> Result<Compared, String> {
    let mut compared = Compared::default();
    let Some(ours) = ours(bytes) else { return Ok(compared) };
    let others = [(Other::Tar, of_tar(bytes).ok()), (Other::TarCore, of_tar_core(bytes).ok())];
    let facts = Facts::of(bytes);
    for (who, theirs) in others {
        let Some(theirs) = theirs else { continue };
        let is_excused = EXPLAINED.iter().any(|row| row.who == who && (row.applies)(&facts))
            || EXPLAINED_OF_BOTH.iter().any(|(_, applies)| applies(&facts));
        compared.both_accept += 1;
        compared.unexcused += u32::from(!is_excused);
        if ours != theirs && !is_excused {
            return Err(format!("{who:?} sees {theirs:?}\nwe see {ours:?}"));
        }
    }
    Ok(compared)
}

fn t1_what_others_see_is_what_we_see() {
    let config = Config { cases: 8000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let strategy = (prop::collection::vec(item(), 0..4), prop::collection::vec(damage(), 0..3));
    let counted = std::cell::RefCell::new(Compared::default());
    runner
        .run(&strategy, |(items, damages)| {
            let compared = compare(&damaged(build(&items), &damages)).map_err(TestCaseError::fail)?;
            let mut counted = counted.borrow_mut();
            counted.both_accept += compared.both_accept;
            counted.unexcused += compared.unexcused;
            Ok(())
        })
        .unwrap();
    // Else it compares too little to say anything.
    let Compared { both_accept, unexcused } = counted.into_inner();
    assert!(both_accept > 8000 && unexcused > 6000, "{both_accept} compared, {unexcused} of them without an excuse");
}
