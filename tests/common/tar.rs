//! Layers as tar archives, written by hand so that anything can be said.

use super::text::{Attributes, Entry, Kind, Layer};

/// An archive of a layer's entries, in order.
pub fn archive(layer: &Layer) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in layer {
        append(&mut bytes, entry);
    }
    bytes.extend([0; 1024]);
    bytes
}

fn mark(path: &[u8], mark: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => [&path[..=slash], &mark(&path[slash + 1..])].concat(),
        None => mark(path),
    }
}

fn append(bytes: &mut Vec<u8>, entry: &Entry) {
    let (mut name, mut link, mut data, mut device) = (entry.name.clone(), Vec::new(), &b""[..], (0, 0));
    let kind = match &entry.kind {
        Kind::Directory => {
            name.push(b'/');
            b'5'
        }
        Kind::File(content) => {
            data = content;
            b'0'
        }
        Kind::Symlink(target) => {
            link = target.clone();
            b'2'
        }
        Kind::HardLink(target) => {
            link = target.clone();
            b'1'
        }
        Kind::Character(major, minor) => {
            device = (*major, *minor);
            b'3'
        }
        Kind::Block(major, minor) => {
            device = (*major, *minor);
            b'4'
        }
        Kind::Fifo => b'6',
        Kind::Whiteout => {
            name = mark(&name, |name| [b".wh.", name].concat());
            b'0'
        }
        Kind::Opaque if matches!(name.as_slice(), b"." | b"") => {
            name = b".wh..wh..opq".to_vec();
            b'0'
        }
        Kind::Opaque => {
            name.extend(b"/.wh..wh..opq");
            b'0'
        }
    };
    let attributes = &entry.attributes;
    let records = records(&name, &link, attributes);
    if !records.is_empty() {
        header(bytes, b"PaxHeader", b'x', b"", records.len(), &Attributes::with_mode(0o644), (0, 0));
        content(bytes, &records);
    }
    header(bytes, &name, kind, &link, data.len(), attributes, device);
    content(bytes, data);
}

/// What does not fit into the header.
fn records(name: &[u8], link: &[u8], attributes: &Attributes) -> Vec<u8> {
    let mut records = Vec::new();
    if name.len() > 100 {
        record(&mut records, b"path", name);
    }
    if link.len() > 100 {
        record(&mut records, b"linkpath", link);
    }
    for (key, id) in [("uid", attributes.uid), ("gid", attributes.gid)] {
        if id > 0o7_777_777 {
            record(&mut records, key.as_bytes(), id.to_string().as_bytes());
        }
    }
    let (seconds, nanoseconds) = attributes.mtime;
    if nanoseconds != 0 || !(0..0o77_777_777_777).contains(&seconds) {
        // -1.25 is what the pair (-2, 750 million) says.
        let text = if seconds < 0 && nanoseconds > 0 {
            let whole = if seconds == -1 { "-0".to_owned() } else { (seconds + 1).to_string() };
            format!("{whole}.{:09}", 1_000_000_000 - nanoseconds)
        } else {
            format!("{seconds}.{nanoseconds:09}")
        };
        record(&mut records, b"mtime", text.as_bytes());
    }
    for (name, value) in &attributes.xattrs {
        record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    records
}

pub fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest != length {
        length += 1;
    }
    records.extend(length.to_string().as_bytes());
    records.push(b' ');
    records.extend(key);
    records.push(b'=');
    records.extend(value);
    records.push(b'\n');
}

pub fn content(bytes: &mut Vec<u8>, data: &[u8]) {
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
}

pub fn header(
    bytes: &mut Vec<u8>,
    name: &[u8],
    kind: u8,
    link: &[u8],
    size: usize,
    attributes: &Attributes,
    device: (u32, u32),
) {
    let mut block = [0u8; 512];
    let mut put = |at: usize, field: &[u8]| block[at..at + field.len()].copy_from_slice(field);
    let octal = |value: i64, digits: usize| format!("{:0digits$o}", value.max(0)).into_bytes();
    put(0, &name[..name.len().min(100)]);
    put(100, &octal(attributes.mode.into(), 7));
    put(108, &octal((attributes.uid & 0o7_777_777).into(), 7));
    put(116, &octal((attributes.gid & 0o7_777_777).into(), 7));
    put(124, &octal(size as i64, 11));
    put(136, &octal(attributes.mtime.0 & 0o77_777_777_777, 11));
    put(148, b"        ");
    put(156, &[kind]);
    put(157, &link[..link.len().min(100)]);
    put(257, b"ustar\x0000");
    put(329, &octal(device.0.into(), 7));
    put(337, &octal(device.1.into(), 7));
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes.extend(block);
}

/// An archive with one file of which only these bytes are there.
pub fn sparse_archive(size: u64, data: &[(u64, impl AsRef<[u8]>)]) -> Vec<u8> {
    let mut writer = layflat::core::tar::Writer::new(Vec::new());
    let entry = layflat::core::tar::Entry {
        kind: layflat::core::tar::EntryKind::File,
        name: b"sparse".to_vec(),
        link_name: Vec::new(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        size,
        mtime: layflat::core::text::Timestamp::default(),
        atime: None,
        device: (0, 0),
        sparse: true,
        records: Vec::new(),
    };
    let fragments: Vec<layflat::core::tar::Fragment> = data
        .iter()
        .map(|(offset, bytes)| layflat::core::tar::Fragment { offset: *offset, length: bytes.as_ref().len() as u64 })
        .collect();
    writer.entry(&entry, &fragments).unwrap();
    for (offset, bytes) in data {
        writer.data(*offset, bytes.as_ref()).unwrap();
    }
    writer.end_of_entry().unwrap();
    writer.finish().unwrap()
}
