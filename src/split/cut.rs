//! Where an archive can be cut: the bytes of each entry, with all headers that belong to it, and what it is about.

use std::fs::File;
use std::io::Result;
use std::os::unix::fs::FileExt;

use crate::core::layer::{Meaning, meaning};
use crate::core::record::LayerPath;
use crate::core::tar::{Entry, EntryKind, Event, Limits, Reader};
use crate::unpack::Options;

/// One entry, and where it lies in the archive.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) path: LayerPath,
    pub(super) kind: Kind,
    pub(super) start: u64,
    pub(super) end: u64,
    /// Its content's number in the layer, of a regular file.
    pub(super) content: Option<u32>,
}

/// What an entry is, as far as it matters where it goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A whiteout of any kind, or bookkeeping of AUFS.
    Marker,
    /// A file that AUFS keeps for hard links.
    LinkSource,
    Directory,
    HardLink(LayerPath),
    /// Anything else that has a name.
    Leaf,
}

/// All entries of an archive that was read before and found right; nothing if they cannot be told apart.
pub(super) fn cuts(file: &File, options: &Options) -> Result<Option<Vec<Cut>>> {
    let limits = Limits { extended_header: options.limits.extended_header, ..Limits::default() };
    let mut reader = Reader::new(limits);
    let mut buffer = vec![0; 64 << 10];
    let (mut cuts, mut contents) = (Vec::new(), 0);
    let (mut position, mut start) = (0, 0);
    loop {
        let filled = file.read_at(&mut buffer, position)?;
        if filled == 0 {
            return Ok(Some(cuts));
        }
        let mut rest = &buffer[..filled];
        let mut beyond = 0;
        loop {
            match reader.next(&mut rest) {
                Err(_) => return Ok(None),
                Ok(Event::NeedInput) => break,
                Ok(Event::End) => return Ok(Some(cuts)),
                Ok(Event::Entry(entry)) => {
                    let content = reader.skippable();
                    let end = position + (filled - rest.len()) as u64 + content;
                    reader.skip(content);
                    let here = content.min(rest.len() as u64);
                    rest = &rest[here as usize..];
                    beyond = content - here;
                    let Some(cut) = cut(&entry, start, end, &mut contents) else { return Ok(None) };
                    cuts.push(cut);
                    start = end;
                    if beyond > 0 {
                        break;
                    }
                }
                Ok(Event::Data { .. } | Event::EndOfEntry | Event::GlobalHeader) => {}
            }
        }
        position += filled as u64 + beyond;
    }
}

fn cut(entry: &Entry, start: u64, end: u64, contents: &mut u32) -> Option<Cut> {
    let name = LayerPath::normalise(&entry.name).ok()?;
    let (path, kind) = match meaning(&name).ok()? {
        Meaning::Whiteout(path) | Meaning::Opaque(path) => (path, Kind::Marker),
        Meaning::Bookkeeping => (name, Kind::Marker),
        Meaning::LinkSource => (name, Kind::LinkSource),
        Meaning::Entry => match entry.kind {
            EntryKind::Directory => (name, Kind::Directory),
            EntryKind::HardLink => (name, Kind::HardLink(LayerPath::normalise(&entry.link_name).ok()?)),
            _ => (name, Kind::Leaf),
        },
    };
    let is_file = kind == Kind::Leaf && entry.kind == EntryKind::File;
    let content = is_file.then_some(*contents);
    *contents += u32::from(is_file);
    Some(Cut { path, kind, start, end, content })
}
