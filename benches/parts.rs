//! The parts on their own, each as a user's image would meet it: names, tar to changes, the stack, and folding.
//!
//!     cargo bench                 # all of them
//!     cargo bench -- stack        # some
//!     TMPDIR=/dev/shm cargo bench # where files are written, on a tmpfs: ext4 is slow to reuse inodes that were just freed
//!
//! `scripts/bench` is what times whole commands against other tools; this is for finding out which part moved.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench is not a library")]

use std::io::Write;
use std::path::{Path, PathBuf};

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use layflat::blob::Compressor;
use layflat::core::layer::{Discard, ReadOptions, read_layer};
use layflat::core::record::{ContentId, LayerPath, Record};
use layflat::core::reference::Reference;
use layflat::core::stack::{Reading, Stack};
use layflat::erofs::{self, BlockSize, Contents, Device, Piece, Plan, Shape};
use layflat::transport::source;
use layflat::{NoProgress, Options, flatten, layers};

fn main() {
    divan::main();
}

/// A layer of small files, some hundred in a directory, `content` bytes each.
fn tar(files: usize, content: usize) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let content = vec![b'x'; content];
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    for file in 0..files {
        if file % 100 == 0 {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            archive.append_data(&mut header, directory(file), &[][..]).unwrap();
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(content.len() as u64);
        }
        archive.append_data(&mut header, format!("{}/file-{file}.txt", directory(file)), &content[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

fn directory(file: usize) -> String {
    format!("usr/share/part-{}/section-{}", file / 10_000, file / 100)
}

fn record(archive: &[u8]) -> Record {
    read_layer(&mut &archive[..], &mut Discard::default(), &ReadOptions::default(), &mut |_| {}).unwrap()
}

/// Layers of that many entries in all: the lowest one has half of them, each other one replaces some.
fn stack(entries: usize, layers: usize) -> Vec<Record> {
    let above = if layers > 1 { entries / 2 / (layers - 1) } else { 0 };
    let bottom = if layers > 1 { entries / 2 } else { entries };
    std::iter::once(bottom).chain(std::iter::repeat_n(above, layers - 1)).map(|files| record(&tar(files, 0))).collect()
}

#[divan::bench(args = ["etc/passwd", "./usr/share/doc/package/changelog.Debian.gz", "/a/./b//c/../d"])]
fn normalise_a_name(name: &str) -> LayerPath {
    LayerPath::normalise(divan::black_box(name.as_bytes())).unwrap()
}

#[divan::bench(args = [0, 1 << 10, 64 << 10], sample_count = 10)]
fn tar_to_changes(bencher: Bencher, content: usize) {
    let archive = tar(10_000, content);
    bencher.counter(BytesCount::new(archive.len())).counter(ItemsCount::new(10_000_usize)).bench(|| record(&archive));
}

#[divan::bench(args = [1_000, 10_000, 100_000, 1_000_000], sample_count = 5)]
fn stack_of_four_layers(bencher: Bencher, entries: usize) {
    let records = stack(entries, 4);
    bencher.counter(ItemsCount::new(entries)).bench(|| Stack::replay(&records, Reading::default()).unwrap());
}

#[divan::bench(args = [1, 10, 120], sample_count = 5)]
fn stack_of_many_layers(bencher: Bencher, layers: usize) {
    let records = stack(100_000, layers);
    bencher.counter(ItemsCount::new(100_000_usize)).bench(|| Stack::replay(&records, Reading::default()).unwrap());
}

#[divan::bench(args = [1_000, 10_000, 100_000, 1_000_000], sample_count = 5)]
fn whole_of_four_layers(bencher: Bencher, entries: usize) {
    let records = stack(entries, 4);
    let stack = Stack::replay(&records, Reading::default()).unwrap();
    bencher.counter(ItemsCount::new(entries)).bench(|| stack.whole());
}

/// Every file has a block of a device.
#[derive(Debug)]
struct OneDevice;

impl Contents for OneDevice {
    fn pieces(&self, _: usize, content: ContentId, pieces: &mut Vec<Piece>) -> std::io::Result<()> {
        pieces.push(Piece { logical: 0, length: 100, device: 1, offset: u64::from(content.0) * 512 });
        Ok(())
    }

    fn read(&self, _: usize, _: ContentId, _: u64, _: &mut [u8]) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

#[divan::bench(args = [10_000, 100_000, 1_000_000], sample_count = 5)]
fn erofs_of_one_layer(bencher: Bencher, entries: usize) {
    let records = [record(&tar(entries, 100))];
    let stack = Stack::replay(&records, Reading::default()).unwrap();
    let whole = stack.whole();
    let devices = vec![Device { tag: [0; 64], bytes: 1 << 40 }];
    let options = erofs::Options { block_size: BlockSize::Sector, devices, ..erofs::Options::new(Shape::Merged) };
    bencher.counter(ItemsCount::new(entries)).bench(|| {
        let plan = Plan::new(&stack, &whole, &OneDevice, &options, &mut |_, _| {}).unwrap();
        plan.write(&mut std::io::sink()).unwrap();
        plan.bytes()
    });
}

/// Four layers on disk; reading, writing and folding together. On a tmpfs, if TMPDIR is one.
fn unpacked(bencher: Bencher, lay: impl Fn(&layflat::image::Image, &Path) + Sync) {
    let place = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..4)
        .map(|layer| {
            let path = place.path().join(format!("{layer}.tar"));
            std::fs::File::create(&path).unwrap().write_all(&tar(5_000, 100)).unwrap();
            path
        })
        .collect();
    let image = source::open(&Reference::Layers(paths), &source::OpenOptions::default()).unwrap();
    let count = std::sync::atomic::AtomicUsize::new(0);
    bencher.counter(ItemsCount::new(20_000_usize)).bench(|| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        lay(&image, &place.path().join(number.to_string()));
    });
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn fold_flat(bencher: Bencher) {
    unpacked(bencher, |image, destination| {
        flatten(image, destination, &Options::default(), &NoProgress).unwrap();
    });
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn finish_overlay(bencher: Bencher) {
    unpacked(bencher, |image, destination| {
        layers(image, destination, &Options::default(), &NoProgress).unwrap();
    });
}

/// Machine code, compressed by as many threads as there are processors: this program's own.
#[divan::bench(args = ["gzip", "zstd", "none"], sample_count = 5, sample_size = 1)]
fn compress(bencher: Bencher, how: &str) {
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let jobs = std::thread::available_parallelism().unwrap();
    bencher.counter(BytesCount::new(program.len())).bench(|| {
        let mut compressor = Compressor::new(std::io::sink(), how.parse().unwrap(), jobs).unwrap();
        compressor.write_all(&program).unwrap();
        compressor.finish().unwrap().1
    });
}
