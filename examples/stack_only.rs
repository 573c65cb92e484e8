//! The core alone: what each layer of a stack must hold on disk, worked out from the layers' archives without any I/O.
//!
//! ```sh
//! cargo run --example stack_only
//! ```
//!
//! The upper layer deletes the directory `d` and makes it again, and deletes `gone`. Its whiteouts act on the lower
//! layer only (rule M1 of docs/rules.md), so that `d/new` stays, and the directory has to be opaque (rule O2):
//!
//! ```text
//! layer 0: / d/ d/old gone
//! layer 1: / d/ (opaque) d/new gone (whiteout)
//! together: / d/ d/new
//! ```

use layflat::core::layer::{Discard, ReadOptions, read_layer};
use layflat::core::stack::{Difference, Reading, Stack, What};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let archives = [archive(&["d/", "d/old", "gone"])?, archive(&["d/", "d/new", ".wh.d", ".wh.gone"])?];
    // Each archive becomes a record: names, kinds and attributes in order, without contents.
    let mut records = Vec::new();
    for archive in archives {
        let options = ReadOptions::default();
        records.push(read_layer(&mut archive.as_slice(), &mut Discard::default(), &options, &mut |_| {})?);
    }
    let stack = Stack::replay(&records, Reading::default())?;
    for (index, layer) in stack.layers().iter().enumerate() {
        println!("layer {index}: {}", listing(&stack, layer));
    }
    println!("together: {}", listing(&stack, &stack.whole()));
    Ok(())
}

fn listing(stack: &Stack<'_>, difference: &Difference) -> String {
    let entry = |(index, entry): (usize, &layflat::core::stack::LayerEntry)| {
        let path = stack.path(difference, index);
        match entry.what {
            What::Directory { .. } if index == 0 => "/".to_owned(),
            What::Directory { opaque: true, .. } => format!("{path}/ (opaque)"),
            What::Directory { .. } => format!("{path}/"),
            What::Leaf(_) => path.to_string(),
            What::Whiteout => format!("{path} (whiteout)"),
        }
    };
    difference.entries().iter().enumerate().map(entry).collect::<Vec<_>>().join(" ")
}

/// An archive of empty files, and of directories where a name ends in a slash.
fn archive(names: &[&str]) -> std::io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for name in names {
        let mut header = tar::Header::new_ustar();
        header.set_mode(if name.ends_with('/') { 0o755 } else { 0o644 });
        header.set_entry_type(if name.ends_with('/') { tar::EntryType::Directory } else { tar::EntryType::Regular });
        header.set_size(0);
        builder.append_data(&mut header, name, std::io::empty())?;
    }
    builder.into_inner()
}
