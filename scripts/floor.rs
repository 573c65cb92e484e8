//! What nobody can avoid who unpacks an image: CPU seconds for decompressing the layers, for both digests, and for creating
//! and writing the files; each alone, from memory. `scripts/bench` holds layflat's own CPU time against their sum.
//!
//!     usage: floor IMAGE DIRECTORY
//!
//! Prints a JSON object. `one decoder` and `two decoders` are wall seconds for decompressing everything once, and twice at the same
//! time: what a second core of this machine is worth.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use layflat::core::digest::Digest;
use layflat::transport::source;
use rustix::time::{ClockId, clock_gettime};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, directory] = arguments.as_slice() else {
        return Err("usage: floor IMAGE DIRECTORY".into());
    };
    let image = source::open(&image.parse()?, &source::OpenOptions::default())?;
    let stored: Vec<Vec<u8>> = image.layers.iter().map(|layer| all(layer.blob.reader())).collect::<Result<_>>()?;

    // Into one buffer: collecting what was decoded is not decoding.
    let (decode, ()) = cpu(|| stored.iter().filter(|bytes| is_compressed(bytes)).try_for_each(|bytes| discard(bytes)))?;
    let expanded: Vec<Vec<u8>> = stored.iter().map(|bytes| decoded(bytes)).collect::<Result<_>>()?;
    // What is stored as it is has one digest, not two.
    let compressed: Vec<&Vec<u8>> = stored.iter().filter(|bytes| is_compressed(bytes)).collect();
    let (digest_stored, _) = cpu(|| Ok(compressed.iter().map(|bytes| Digest::sha256_of(bytes)).collect::<Vec<_>>()))?;
    let (digest_expanded, _) = cpu(|| Ok(expanded.iter().map(|bytes| Digest::sha256_of(bytes)).collect::<Vec<_>>()))?;
    let (write, ()) = cpu(|| {
        expanded
            .iter()
            .enumerate()
            .try_for_each(|(index, bytes)| write_files(bytes, &Path::new(directory).join(index.to_string())))
    })?;

    let wall = Instant::now();
    stored.iter().try_for_each(|bytes| discard(bytes))?;
    let one = wall.elapsed().as_secs_f64();
    let wall = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| stored.iter().for_each(|bytes| discard(bytes).expect("it was decoded before")));
        }
    });
    let two = wall.elapsed().as_secs_f64();
    println!(
        "{}",
        serde_json::json!({
            "decode": decode, "digest stored": digest_stored,
            "digest expanded": digest_expanded, "write": write, "one decoder": one, "two decoders": two,
        })
    );
    Ok(())
}

/// CPU seconds of this process while something is done.
fn cpu<T>(act: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let now = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let started = now();
    let result = act()?;
    Ok((now() - started, result))
}

fn all(mut reader: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_compressed(stored: &[u8]) -> bool {
    matches!(stored, [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..])
}

fn decoder(stored: &[u8]) -> Result<Box<dyn Read + '_>> {
    Ok(match stored {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(stored)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(stored)?),
        _ => Box::new(stored),
    })
}

fn decoded(stored: &[u8]) -> Result<Vec<u8>> {
    all(decoder(stored)?)
}

fn discard(stored: &[u8]) -> Result<()> {
    let mut decoder = decoder(stored)?;
    let mut buffer = vec![0; 256 << 10];
    while decoder.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Creates what an archive holds with one call each, and nothing else: no owner, no mode, no times.
fn write_files(archive: &[u8], directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut made = PathBuf::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = directory.join(entry.path()?.strip_prefix("/").unwrap_or(&entry.path()?));
        let parent = path.parent().unwrap_or(directory);
        if parent != made {
            std::fs::create_dir_all(parent)?;
            made = parent.to_owned();
        }
        match entry.header().entry_type() {
            tar::EntryType::Regular => {
                let start = entry.raw_file_position() as usize;
                let size = entry.size() as usize;
                if let Ok(mut file) = std::fs::File::create_new(&path) {
                    file.write_all(&archive[start..start + size])?;
                }
            }
            tar::EntryType::Directory => std::fs::create_dir_all(&path)?,
            tar::EntryType::Symlink => {
                if let Some(target) = entry.link_name()? {
                    let _ = std::os::unix::fs::symlink(target, &path);
                }
            }
            _ => drop(entry.read(&mut [])?),
        }
    }
    Ok(())
}
