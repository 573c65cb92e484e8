//! Rules T1, T2 and A2: which headers make which entries, and where an archive ends.

use super::*;
use crate::core::text::Timestamp;

#[test]
fn t1_a_file_and_its_header() {
    let seen = read(&archive(&[made(b'0', "dir/file", b"hello").with(345, b"a/b")]));
    let entry = Entry {
        kind: EntryKind::File,
        name: b"a/b/dir/file".to_vec(),
        link_name: Vec::new(),
        mode: 0o644,
        uid: 1000,
        gid: 1001,
        size: 5,
        mtime: Timestamp { seconds: 100, nanoseconds: 0 },
        atime: None,
        device: (0, 0),
        sparse: false,
        records: Vec::new(),
    };
    assert_eq!(seen, [Seen::Entry(entry), Seen::Data(0, b"hello".to_vec()), Seen::EndOfEntry, Seen::End]);
}

#[test]
fn t1_every_kind() {
    for (typeflag, kind) in [
        (b'0', EntryKind::File),
        (0, EntryKind::File),
        (b'7', EntryKind::File),
        (b'1', EntryKind::HardLink),
        (b'2', EntryKind::Symlink),
        (b'3', EntryKind::CharacterDevice),
        (b'4', EntryKind::BlockDevice),
        (b'5', EntryKind::Directory),
        (b'6', EntryKind::Fifo),
    ] {
        let entry = one(&[made(typeflag, "a", b"").with(157, b"target").with(329, b"0000010\0\x80\0\0\0\0\0\x01\0")]);
        assert_eq!((entry.kind, entry.link_name.as_slice()), (kind, &b"target"[..]));
        let is_device = matches!(kind, EntryKind::CharacterDevice | EntryKind::BlockDevice);
        assert_eq!(entry.device, if is_device { (8, 256) } else { (0, 0) });
    }
}

#[test]
fn t1_other_types_are_errors() {
    for typeflag in [b'D', b'M', b'N', b'X', b'A', b'8', b' ', 0xff] {
        assert_eq!(refused(&archive(&[made(typeflag, "a", b"")])), ArchiveError::UnknownType(typeflag));
    }
}

#[test]
fn t1_a_volume_label_is_skipped_with_its_payload() {
    let label = made(b'V', "label", &[b'x'; 700]);
    assert_eq!(names(&archive(&[label.clone(), made(b'0', "a", b"")])), ["a"]);
    // It takes the extended header that waits, like any entry.
    assert_eq!(names(&archive(&[pax(&[("path", b"p")]), label.clone(), made(b'0', "a", b"")])), ["a"]);
    assert_eq!(refused(&label.bytes()[..1000]), ArchiveError::Truncated);
}

#[test]
fn t1_a_trailing_slash_makes_a_directory_of_type_nul_alone() {
    assert_eq!(one(&[made(b'0', "a/", b"")]).kind, EntryKind::File);
    assert_eq!(one(&[made(0, "a/", b"")]).kind, EntryKind::Directory);
    assert_eq!(one(&[pax(&[("path", b"p/")]), made(0, "a", b"")]).kind, EntryKind::Directory);
    assert_eq!(one(&[pax(&[("path", b"p")]), made(0, "a/", b"")]).kind, EntryKind::File);
    assert_eq!(one(&[made(b'L', "", b"long/\0"), made(0, "a", b"")]).kind, EntryKind::Directory);
}

#[test]
fn t1_what_is_no_file_has_no_payload() {
    for typeflag in b'1'..=b'6' {
        let bytes = archive(&[made(typeflag, "a", b"").with_size(512), made(b'0', "b", b"")]);
        assert_eq!(names(&bytes), ["a", "b"]);
        let sized = [pax(&[("size", b"512")]), made(typeflag, "a", b""), made(b'0', "b", b"")];
        assert_eq!(entries(&archive(&sized)).iter().map(|entry| entry.size).collect::<Vec<_>>(), [0, 0]);
    }
    let directory = archive(&[made(0, "a/", b"").with_size(512), made(b'0', "b", b"")]);
    assert_eq!(names(&directory), ["a/", "b"]);
}

#[test]
fn t1_formats_by_their_magic() {
    let prefixed = made(b'3', "a", b"").with(329, b"0000001\0").with(337, b"0000002\0").with(345, b"prefix");
    let of = |magic: &[u8]| {
        let entry = one(&[prefixed.clone().with(257, magic)]);
        (String::from_utf8(entry.name).unwrap(), entry.device)
    };
    assert_eq!(of(USTAR), ("prefix/a".into(), (1, 2)));
    assert_eq!(of(b"ustar\0!!"), ("prefix/a".into(), (1, 2)), "the version does not matter");
    assert_eq!(of(b"ustar !!"), ("a".into(), (0, 0)), "but GNU's does");
    assert_eq!(of(&[0; 8]), ("a".into(), (0, 0)), "V7 ends at the link's name");
    assert_eq!(of(GNU), ("prefix/a".into(), (1, 2)), "a prefix where GNU has times: Go's writer before 1.8");
    let timed = prefixed.clone().with(257, GNU).with(345, b"00000000001\x0000000000002\0");
    assert_eq!(one(&[timed]).name, b"a");
    let foreign = prefixed.clone().with(257, GNU).with(345, b"pr\xe9fix");
    assert_eq!(one(&[foreign]).name, b"a");
    let star = made(b'0', "a", b"").with(345, &[b'p'; 131]).with(508, b"tar\0");
    assert_eq!(one(std::slice::from_ref(&star)).name, [&[b'p'; 131][..], b"/a"].concat());
    assert!(matches!(refused(&archive(&[star.with(476, b"x")])), ArchiveError::Number { field: "atime", .. }));
}

#[test]
fn t1_the_checksum_is_the_sum_of_unsigned_or_of_signed_bytes() {
    let header = made(b'0', "\u{e9}", b"");
    let unsigned: u32 = header.block.iter().map(|&byte| u32::from(byte)).sum();
    let mut signed = header.clone();
    // Two bytes of the name are above 0x7f, so the signed sum is 512 less.
    let field = u32::from_str_radix(str::from_utf8(&header.block[148..154]).unwrap(), 8).unwrap();
    signed.block[148..154].copy_from_slice(format!("{:06o}", field - 512).as_bytes());
    assert_eq!(names(&archive(&[header, signed.clone()])), ["\u{e9}", "\u{e9}"]);
    assert!(unsigned > 0);
    signed.block[0] = b'x';
    assert!(matches!(refused(&archive(&[signed.clone()])), ArchiveError::Checksum));
    signed.block[148..156].fill(0);
    assert!(matches!(refused(&archive(&[signed])), ArchiveError::Checksum));
}

#[test]
fn t1_malformed_numbers_are_errors() {
    for (offset, field) in [(100, "mode"), (108, "uid"), (116, "gid"), (124, "size"), (136, "mtime"), (329, "devmajor")]
    {
        let error = refused(&archive(&[made(b'0', "a", b"").with(offset, b"00009")]));
        assert!(matches!(error, ArchiveError::Number { field: found, .. } if found == field), "{error}");
    }
    let negative = [0xff; 12];
    assert_eq!(refused(&archive(&[made(b'0', "a", b"").with(124, &negative)])), ArchiveError::NegativeSize(-1));
    assert_eq!(one(&[made(b'5', "a", b"").with(124, &negative)]).size, 0);
}

#[test]
fn a2_times_before_1970_and_access_times() {
    let old = made(b'0', "a", b"").with(136, &[0xff; 12]);
    assert_eq!(one(std::slice::from_ref(&old)).mtime, Timestamp { seconds: -1, nanoseconds: 0 });
    let entry = one(&[pax(&[("mtime", b"-1.25"), ("atime", b"20000000000.000000001")]), old]);
    assert_eq!(entry.mtime, Timestamp { seconds: -2, nanoseconds: 750_000_000 });
    assert_eq!(entry.atime, Some(Timestamp { seconds: 20_000_000_000, nanoseconds: 1 }));
    let gnu = made(b'0', "a", b"").with(257, GNU).with(345, b"00000000001\0");
    assert_eq!(one(&[gnu]).atime, None, "GNU's field does not count");
}

#[test]
fn t1_records_replace_the_header_and_empty_ones_leave_it() {
    let file = made(b'2', "a", b"").with(157, b"target");
    let all: [(&str, &[u8]); 4] = [("path", b"p"), ("linkpath", b"l"), ("uid", b"4294967294"), ("gid", b"-1")];
    let entry = one(&[pax(&all), file.clone()]);
    assert_eq!((&entry.name[..], &entry.link_name[..]), (&b"p"[..], &b"l"[..]));
    assert_eq!((entry.uid, entry.gid), (4_294_967_294, -1));
    let empty = one(&[pax(&all.map(|(key, _)| (key, &b""[..]))), file.clone()]);
    assert_eq!((&empty.name[..], &empty.link_name[..], empty.uid, empty.gid), (&b"a"[..], &b"target"[..], 1000, 1001));
    let with_xattr = one(&[pax(&[("SCHILY.xattr.user.a", b"")]), file]);
    assert_eq!(with_xattr.record(b"SCHILY.xattr.user.a"), Some(&b""[..]), "an empty xattr is one");
}

#[test]
fn t1_malformed_values_are_errors() {
    for (key, value) in [
        ("uid", "1x"),
        ("gid", " 1"),
        ("size", "0x10"),
        ("size", "9223372036854775808"),
        ("mtime", "x"),
        ("ctime", "x"),
    ] {
        let error = refused(&archive(&[pax(&[(key, value.as_bytes())]), made(b'0', "a", b"")]));
        assert_eq!(error, ArchiveError::Number { field: key, value: value.into() });
    }
    let negative = refused(&archive(&[pax(&[("size", b"-1")]), made(b'0', "a", b"")]));
    assert_eq!(negative, ArchiveError::NegativeSize(-1));
}

#[test]
fn t1_pax_size_always_counts() {
    // A reader that goes by the header sees `smuggled`.
    let inner = made(b'0', "smuggled", b"").bytes();
    for stated in [0, 5, 1 << 32] {
        let file = made(b'0', "a", &inner).with_size(stated);
        let bytes = archive(&[pax(&[("size", b"512")]), file, made(b'0', "b", b"")]);
        assert_eq!(names(&bytes), ["a", "b"]);
    }
    // The value before it holds a newline.
    let records: [(&str, &[u8]); 2] = [("SCHILY.xattr.user.x", b"1\n2"), ("size", b"512")];
    let bytes = archive(&[pax(&records), made(b'0', "a", &inner).with_size(0)]);
    assert_eq!(names(&bytes), ["a"]);
    // It is the file's, not the size of a long name between.
    let bytes = archive(&[pax(&[("size", b"512")]), made(b'L', "", b"long\0"), made(b'0', "a", &inner).with_size(0)]);
    assert_eq!(names(&bytes), ["long"]);
}

#[test]
fn t1_the_second_extended_header_takes_the_place_of_the_first() {
    let headers = [pax(&[("path", b"p"), ("uid", b"7")]), pax(&[("gid", b"8")]), made(b'0', "a", b"")];
    let entry = one(&headers);
    assert_eq!((&entry.name[..], entry.uid, entry.gid), (&b"a"[..], 1000, 8));
    assert_eq!(entry.records, [(b"gid".to_vec(), b"8".to_vec())]);
    let long = one(&[made(b'L', "", b"first\0"), made(b'L', "", b"second\0"), made(b'0', "a", b"")]);
    assert_eq!(long.name, b"second");
}

#[test]
fn t1_extended_headers_are_for_one_entry() {
    assert_eq!(names(&archive(&[pax(&[("path", b"p")]), made(b'0', "a", b""), made(b'0', "b", b"")])), ["p", "b"]);
}

#[test]
fn t1_a_gnu_long_name_beats_a_pax_path() {
    let (long, link) = (made(b'L', "", b"long\0rest"), made(b'K', "", b"link\0"));
    let records = pax(&[("path", b"p"), ("linkpath", b"l")]);
    for order in [[&long, &link, &records], [&records, &long, &link], [&link, &records, &long]] {
        let entry = one(&[order.map(Clone::clone).as_slice(), &[made(b'2', "a", b"")]].concat());
        assert_eq!((&entry.name[..], &entry.link_name[..]), (&b"long"[..], &b"link"[..]));
    }
    assert_eq!(one(&[records, made(b'L', "", b"\0"), made(b'0', "a", b"")]).name, b"p", "an empty one is none");
}

#[test]
fn t1_global_headers_change_nothing_and_take_what_waits() {
    let mut global = pax(&[("path", b"global")]).with(156, b"g");
    let seen = read(&archive(&[global.clone(), made(b'0', "a", b"")]));
    assert_eq!(seen[0], Seen::GlobalHeader);
    assert!(matches!(&seen[1], Seen::Entry(entry) if entry.name == b"a" && entry.records.is_empty()));
    let waiting = [pax(&[("path", b"p")]), made(b'L', "", b"long\0"), global.clone(), made(b'0', "a", b"")];
    assert_eq!(names(&archive(&waiting)), ["a"]);
    global.payload[0] = b'x';
    assert!(matches!(refused(&archive(&[global])), ArchiveError::PaxRecord(_)));
}

#[test]
fn t1_extended_headers_are_limited() {
    let limits = Limits { extended_header: 20, sparse_fragments: 2 };
    let long = |length: usize| archive(&[made(b'L', "", &vec![b'n'; length]), made(b'0', "a", b"")]);
    assert_eq!(read_with(&long(20), limits).1, Ok(()));
    let error = ArchiveError::ExtendedHeaderTooLong { size: 21, limit: 20 };
    assert_eq!(read_with(&long(21), limits).1, Err(error));
}

#[test]
fn t2_two_zero_blocks_end_an_archive_and_the_rest_is_swallowed() {
    let bytes = [archive(&[made(b'0', "a", b"")]), made(b'0', "b", b"").bytes(), b"junk".to_vec()].concat();
    assert_eq!(names(&bytes), ["a"]);
    assert_eq!(read(&[0; 1024]), [Seen::End]);
}

#[test]
fn t2_a_missing_end_is_fine() {
    assert_eq!(read(b""), []);
    assert_eq!(read(&[0; 512]), []);
    assert_eq!(names(&made(b'0', "a", b"hello").bytes()), ["a"]);
    assert_eq!(names(&[made(b'0', "a", b"").bytes(), vec![0; 512]].concat()), ["a"]);
    let unpadded = [&made(b'0', "a", b"hello").bytes()[..512], b"hello"].concat();
    assert_eq!(names(&unpadded), ["a"]);
    assert_eq!(names(&[&unpadded[..], &[0; 100]].concat()), ["a"]);
}

#[test]
fn t2_one_zero_block_before_data_is_an_error() {
    let bytes = [made(b'0', "a", b"").bytes(), vec![0; 512], archive(&[made(b'0', "b", b"")])].concat();
    assert_eq!(refused(&bytes), ArchiveError::LoneZeroBlock);
}

#[test]
fn t2_truncation_is_an_error() {
    let file = made(b'0', "a", b"hello").bytes();
    for end in [1, 511, 512, 516] {
        assert_eq!(refused(&file[..end]), ArchiveError::Truncated, "{end}");
    }
    assert_eq!(refused(&[0; 513]), ArchiveError::Truncated);
    // An extended header may be cut in its padding, but not in its records.
    let waiting = pax(&[("path", b"p")]).bytes();
    assert_eq!(refused(&waiting[..515]), ArchiveError::Truncated);
    assert_eq!(read(&waiting[..530]), []);
    assert_eq!(read(&archive(&[pax(&[("path", b"p")])])), [Seen::End]);
}

#[test]
fn a_caller_may_skip_content() {
    let bytes = archive(&[made(b'0', "a", &[b'x'; 700]), made(b'0', "b", b"")]);
    for part in [0, 1, 699, 700, 701, 1024] {
        let mut reader = Reader::new(Limits::default());
        let mut input = &bytes[..];
        assert!(matches!(reader.next(&mut input), Ok(Event::Entry(_))));
        assert_eq!(reader.skippable(), 1024);
        reader.skip(part);
        input = &input[usize::try_from(part).unwrap()..];
        if part < 700 {
            let expected = Event::Data { offset: part, bytes: &bytes[512..1212][usize::try_from(part).unwrap()..] };
            assert_eq!(reader.next(&mut input), Ok(expected));
        }
        assert_eq!(reader.next(&mut input), Ok(Event::EndOfEntry));
        assert!(matches!(reader.next(&mut input), Ok(Event::Entry(entry)) if entry.name == b"b"));
        assert_eq!(reader.skippable(), 0);
    }
}
