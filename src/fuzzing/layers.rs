//! Layers and whole images.

use std::io::Write;
use std::os::fd::AsRawFd;

use crate::core::layer::{Discard, ReadOptions, read_layer};
use crate::core::limits::Limits;
use crate::core::record::{ChangeKind, Record};
use crate::core::stack::{Reading, Stack};
use crate::inspect::{Inside, ListOptions, Traced};
use crate::transport::source;
use crate::unpack::{NoProgress, Options};

/// So little that nothing takes long.
pub(super) const LIMITS: Limits = Limits {
    entries: 1000,
    layer_size: 1 << 20,
    file_size: 1 << 20,
    name_length: 4096,
    depth: 64,
    extended_header: 8192,
    metadata_size: 1 << 16,
    ..DEFAULT
};
/// `Default` is no constant.
const DEFAULT: Limits = Limits {
    entries: 0,
    layer_size: 0,
    file_size: 0,
    name_length: 0,
    depth: 0,
    extended_header: 0,
    ratio: 300,
    metadata_size: 0,
    names: 10_000,
    path_bytes: 1 << 20,
    copy_up: 2,
    memory: Limits::MEMORY_FROM + (1 << 20),
};

/// Two layers, each an archive; the first byte says where the first ends. Both are read, and replayed in every way.
pub fn layer(input: &[u8]) {
    let Some((&cut, rest)) = input.split_first() else { return };
    let (lower, upper) = rest.split_at(rest.len().min(usize::from(cut) * 512));
    let options = ReadOptions { limits: LIMITS, ..ReadOptions::default() };
    let read = |archive: &[u8]| {
        let archive = super::mended(archive);
        let record = read_layer(&mut archive.as_slice(), &mut Discard::default(), &options, &mut |_| {});
        record.inspect_err(|error| assert!(!error.to_string().is_empty()))
    };
    let (Ok(lower), Ok(upper)) = (read(lower), read(upper)) else { return };
    let records = [lower, upper];
    for record in &records {
        named(record);
    }
    for ignore_root_entry in [false, true] {
        let reading = || Reading { ignore_root_entry, ..Reading::default() };
        if let Ok(stack) = Stack::replay(&records, reading()) {
            let _ = stack.whole();
            assert_eq!(stack.layers().len(), 2);
        }
        let _ = Stack::replay_as_one(&records, 0, reading()).map(|stack| stack.whole());
    }
}

/// Everything that a record points at is there, and every path is one that can be written.
fn named(record: &Record) {
    for change in &record.changes {
        assert!(change.name.index() < record.names.len());
        if let ChangeKind::HardLink { target } = change.kind {
            assert!(target.index() < record.names.len());
        }
    }
}

/// An image in a file of any kind, with right checksums if the first byte is odd: it is opened, indexed and looked into.
pub fn image(input: &[u8]) {
    let Some((&mends, rest)) = input.split_first() else { return };
    let file = if mends % 2 == 1 { super::mended(rest) } else { rest.to_vec() };
    let options = Options { limits: LIMITS, jobs: std::num::NonZero::new(1), ..Options::default() };
    let open = source::OpenOptions { limits: LIMITS, ..source::OpenOptions::default() };
    let Ok(memory) = rustix::fs::memfd_create("layflat", rustix::fs::MemfdFlags::CLOEXEC) else { return };
    let mut memory = std::fs::File::from(memory);
    if memory.write_all(&file).is_err() {
        return;
    }
    let path = std::path::PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
    let Ok(image) = source::open_path(&path, &open) else { return };
    let Ok(indexes) = crate::inspect::index::indexes(&image, None, &options, &NoProgress) else { return };
    if let Ok(inside) = Inside::new(&image, &indexes, &options) {
        let all = ListOptions { recursive: true, ..ListOptions::default() };
        for entry in inside.list(b"/", all).map(|listing| listing.entries).unwrap_or_default() {
            let _ = inside.cat(entry.path.as_bytes(), &mut std::io::sink(), &options);
        }
    }
    if let Ok(traced) = Traced::new(&image, &indexes, &options) {
        let _ = traced.waste(None);
    }
    let _ = crate::inspect::check::check(&image, crate::inspect::check::CheckOptions::default(), &options, &NoProgress);
}
