//! Rule A5: the four formats of sparse files.

use super::*;

/// What every sparse test makes, in one format or another: 3 bytes at 2, 4 at 1000, 5000 in all.
fn expect_sparse(bytes: &[u8]) {
    let seen = read(bytes);
    assert!(
        matches!(&seen[0], Seen::Entry(entry) if entry.sparse && entry.size == 5000 && entry.kind == EntryKind::File),
        "{seen:?}"
    );
    let content = [Seen::Data(2, b"abc".to_vec()), Seen::Data(1000, b"defg".to_vec()), Seen::EndOfEntry];
    assert_eq!(seen[1..4], content);
    assert!(matches!(&seen[4], Seen::Entry(entry) if entry.name == b"next"), "{seen:?}");
}

fn next() -> Made {
    made(b'0', "next", b"")
}

fn old_sparse(payload: &[u8], size: u64, fragments: &[(u64, u64)]) -> Made {
    let mut header = made(b'S', "a", payload).with(257, GNU).with(483, format!("{size:011o}\0").as_bytes());
    for (index, (offset, length)) in fragments.iter().enumerate() {
        header = header.with(386 + 24 * index, format!("{offset:011o}\0{length:011o}\0").as_bytes());
    }
    header
}

#[test]
fn a5_gnu_sparse_files_of_the_old_format() {
    expect_sparse(&archive(&[old_sparse(b"abcdefg", 5000, &[(2, 3), (1000, 4), (5000, 0)]), next()]));
    // In four fragments of the header and the rest in two more blocks, the first of them empty.
    let head = old_sparse(b"", 5000, &[(2, 1), (3, 1), (4, 0), (4, 1)]).with_size(7).with(482, b"\x01");
    let mut empty = [0; 512];
    empty[504] = 1;
    let mut last = [0; 512];
    last[..24].copy_from_slice(b"00000001750\x0000000000004\0");
    let payload = [&b"abcdefg"[..], &[0; 505]].concat();
    let bytes = [&head.block[..], &empty, &last, &payload, &archive(&[next()])].concat();
    expect_sparse(&bytes);
    assert_eq!(refused(&bytes[..1100]), ArchiveError::Truncated);
    assert_eq!(refused(&archive(&[old_sparse(b"", 0, &[]).with(257, USTAR)])), ArchiveError::SparseMap);
    let limited = read_with(&bytes, Limits { sparse_fragments: 4, ..Limits::default() }).1;
    assert_eq!(limited, Err(ArchiveError::SparseTooLong(4)));
}

#[test]
fn a5_sparse_maps_are_validated() {
    assert_eq!(refused(&archive(&[old_sparse(b"ab", 10, &[(4, 1), (3, 1)])])), ArchiveError::SparseMap);
    assert_eq!(refused(&archive(&[old_sparse(b"ab", 10, &[(4, 2), (5, 1)])])), ArchiveError::SparseMap);
    assert_eq!(refused(&archive(&[old_sparse(b"ab", 10, &[(9, 2)])])), ArchiveError::SparseMap);
    assert_eq!(refused(&archive(&[old_sparse(b"ab", 10, &[(0, 1)])])), ArchiveError::SparseMap);
    assert_eq!(refused(&archive(&[old_sparse(b"ab", 10, &[(0, 3)])])), ArchiveError::SparseMap);
    let negative = old_sparse(b"", 0, &[]).with(483, &[0xff; 12]);
    assert_eq!(refused(&archive(&[negative])), ArchiveError::NegativeSize(-1));
    assert_eq!(entries(&archive(&[old_sparse(b"", 10, &[])]))[0].size, 10, "nothing but a hole");
}

/// A PAX sparse file of format 0.1, with some records changed.
fn sparse_0_1(changes: &[(&str, &[u8])]) -> Vec<u8> {
    let mut records: std::collections::BTreeMap<&str, &[u8]> = [
        ("GNU.sparse.size", &b"5000"[..]),
        ("GNU.sparse.numblocks", b"3"),
        ("GNU.sparse.map", b"2,3,1000,4,5000,0"),
        ("GNU.sparse.name", b"real"),
    ]
    .into();
    records.extend(changes.iter().copied());
    archive(&[pax(&records.into_iter().collect::<Vec<_>>()), made(b'0', "GNUSparseFile.0/real", b"abcdefg"), next()])
}

#[test]
fn a5_pax_sparse_files_of_format_0_0_and_0_1() {
    let records: [(&str, &[u8]); 6] = [
        ("GNU.sparse.size", b"5000"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"2"),
        ("GNU.sparse.numbytes", b"3"),
        ("GNU.sparse.offset", b"1000"),
        ("GNU.sparse.numbytes", b"4"),
    ];
    expect_sparse(&archive(&[pax(&records), made(b'0', "a", b"abcdefg"), next()]));
    expect_sparse(&sparse_0_1(&[]));
    assert_eq!(names(&sparse_0_1(&[])), ["real", "next"]);
    expect_sparse(&sparse_0_1(&[("GNU.sparse.major", b"0"), ("GNU.sparse.minor", b"1")]));
    expect_sparse(&sparse_0_1(&[("GNU.sparse.size", b""), ("GNU.sparse.realsize", b"5000")]));
}

#[test]
fn a5_malformed_pax_sparse_maps_are_errors() {
    assert_eq!(refused(&sparse_0_1(&[("GNU.sparse.numblocks", b"2")])), ArchiveError::SparseMap);
    assert_eq!(refused(&sparse_0_1(&[("GNU.sparse.map", b"2,3,4")])), ArchiveError::SparseMap);
    assert_eq!(refused(&sparse_0_1(&[("GNU.sparse.numblocks", b"9223372036854775807")])), ArchiveError::SparseMap);
    for value in [&b""[..], b"-1", b"x"] {
        let error = refused(&sparse_0_1(&[("GNU.sparse.numblocks", value)]));
        assert!(matches!(error, ArchiveError::SparseMap | ArchiveError::Number { .. }), "{error}");
    }
    let error = refused(&sparse_0_1(&[("GNU.sparse.map", b"2,3,x,4,5000,0")]));
    assert_eq!(error, ArchiveError::Number { field: "GNU.sparse.map", value: b"x".to_vec() });
    let error = refused(&sparse_0_1(&[("GNU.sparse.map", b"2,3,1000,9223372036854775807,5000,0")]));
    assert!(matches!(error, ArchiveError::SparseMap | ArchiveError::Number { .. }), "{error}");
    let records: [(&str, &[u8]); 2] = [("GNU.sparse.numblocks", b"1"), ("GNU.sparse.map", b"0,0")];
    assert_eq!(refused(&archive(&[pax(&records), made(b'5', "a", b"")])), ArchiveError::SparseMap);
}

#[test]
fn a5_an_unknown_sparse_version_is_a_plain_file() {
    for version in [("1", "1"), ("2", "0"), ("1", ""), ("", "1")] {
        let changes = [("GNU.sparse.major", version.0.as_bytes()), ("GNU.sparse.minor", version.1.as_bytes())];
        let seen = read(&sparse_0_1(&changes));
        assert!(matches!(&seen[0], Seen::Entry(entry) if !entry.sparse && entry.name == b"GNUSparseFile.0/real"));
        assert_eq!(seen[1], Seen::Data(0, b"abcdefg".to_vec()));
    }
}

fn sparse_1_0(map: &[u8], data: &[u8]) -> Vec<u8> {
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"real"),
        ("GNU.sparse.realsize", b"5000"),
    ];
    let mut payload = map.to_vec();
    payload.resize(map.len().next_multiple_of(512), 0);
    payload.extend(data);
    archive(&[pax(&records), made(b'0', "a", &payload), next()])
}

#[test]
fn a5_pax_sparse_files_of_format_1_0() {
    expect_sparse(&sparse_1_0(b"3\n2\n3\n1000\n4\n5000\n0\n", b"abcdefg"));
    // A map of more than one block, ending right at the end of one.
    let mut map = b"129\n2\n3\n1000\n4\n".to_vec();
    map.extend(b"05000\n0\n".repeat(62));
    map.resize(512, b'0');
    map.splice(512.., b"5000\n0\n".repeat(65));
    expect_sparse(&sparse_1_0(&map, b"abcdefg"));
    let limits = Limits { sparse_fragments: 128, ..Limits::default() };
    let limited = read_with(&sparse_1_0(&map, b"abcdefg"), limits).1;
    assert_eq!(limited, Err(ArchiveError::SparseTooLong(128)));
}

#[test]
fn a5_malformed_maps_of_format_1_0_are_errors() {
    for map in [&b"x\n"[..], b"-1\n", b"\n", b"1\n2\nx\n", b"99999999999999999999\n"] {
        let error = refused(&sparse_1_0(map, b""));
        assert!(matches!(error, ArchiveError::SparseMap | ArchiveError::Number { .. }), "{error}");
    }
    assert!(matches!(refused(&sparse_1_0(&[b'0'; 600], b"")), ArchiveError::SparseMap));
    assert_eq!(refused(&sparse_1_0(b"", b"2\n2\n3\n")), ArchiveError::SparseMap);
    assert_eq!(refused(&sparse_1_0(b"", b"")), ArchiveError::SparseMap);
    assert_eq!(refused(&sparse_1_0(b"", b"1\n2\n3\n")), ArchiveError::SparseMap, "not a whole block");
    let many = refused(&sparse_1_0(b"9223372036854775807\n", b""));
    assert_eq!(many, ArchiveError::SparseTooLong(1 << 20));
    assert_eq!(refused(&sparse_1_0(b"1\n2\n3\n", b"abcd")), ArchiveError::SparseMap);
    let bytes = sparse_1_0(b"3\n2\n3\n1000\n4\n5000\n0\n", b"abcdefg");
    assert_eq!(refused(&bytes[..1600]), ArchiveError::Truncated);
}

#[test]
fn a5_content_of_a_sparse_file_may_be_skipped() {
    let bytes = sparse_1_0(b"3\n2\n3\n1000\n4\n5000\n0\n", b"abcdefg");
    let mut reader = Reader::new(Limits::default());
    let mut input = &bytes[..];
    assert!(matches!(reader.next(&mut input), Ok(Event::Entry(_))));
    assert_eq!(reader.skippable(), 512);
    reader.skip(4);
    input = &input[4..];
    assert_eq!(reader.next(&mut input), Ok(Event::Data { offset: 1001, bytes: b"efg" }));
    reader.skip(reader.skippable());
    assert_eq!(reader.next(&mut input), Ok(Event::EndOfEntry));
}
