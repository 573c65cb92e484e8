//! Contents of files, read by a thread of their own while the screen stays alive.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender};

use layflat::NoProgress;
use layflat::core::record::{ContentId, LayerPath};
use layflat::core::stack::Last;
use layflat::core::text::Printable;
use layflat::extract::Extractor;
use layflat::inspect::PathId;
use layflat::inspect::index::copy_content;

use super::super::arguments::Looked;
use super::super::output::one_line;
use super::super::table::counted;

/// As much of a file as is shown.
const SHOWN: usize = 256 << 10;

/// What is asked for.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) path: PathId,
    /// Which of the images.
    pub(super) image: usize,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// The content of a regular file.
    Content { layer: usize, content: ContentId, how: How },
    /// Anything, with all that is in it, as of a layer or at last, copied to a new name.
    Copy { source: LayerPath, layer: Option<usize>, name: String },
}

#[derive(Debug)]
pub(super) enum How {
    Text,
    Hex,
    /// Written to a new file, with this mode.
    File {
        name: String,
        mode: u32,
    },
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Answer {
    Lines { path: PathId, lines: Vec<String>, is_cut: bool },
    Written { what: String },
    Failed { path: PathId, problem: String },
}

/// Answers one request after the other, until nobody asks any more.
pub(super) fn answer(images: &[Looked], requests: Receiver<Request>, answers: &Sender<Answer>) {
    for request in requests {
        let path = request.path;
        let answered = match images.get(request.image) {
            Some(looked) => one(looked, &request),
            None => continue,
        };
        let answered =
            answered.unwrap_or_else(|error| Answer::Failed { path, problem: one_line(&format!("{error:#}")) });
        if answers.send(answered).is_err() {
            return;
        }
    }
}

fn one(looked: &Looked, request: &Request) -> anyhow::Result<Answer> {
    match &request.what {
        What::Content { layer, content, how: How::File { name, mode } } => {
            write(looked, (*layer, *content), name, *mode)
        }
        What::Content { layer, content, how } => {
            let (lines, is_cut) = read(looked, (*layer, *content), matches!(how, How::Hex))?;
            Ok(Answer::Lines { path: request.path, lines, is_cut })
        }
        What::Copy { source, layer, name } => copy(looked, source, *layer, name),
    }
}

fn stream(looked: &Looked, (layer, id): (usize, ContentId), out: &mut dyn Write) -> anyhow::Result<()> {
    let Looked { image, indexes, options } = looked;
    let known = indexes.contents.get(layer).and_then(|contents| contents.get(id.0 as usize));
    match image.layers.get(layer).zip(known) {
        Some((blob, known)) => Ok(copy_content(blob, layer, id, known, out, options)?),
        None => Ok(()),
    }
}

fn read(looked: &Looked, content: (usize, ContentId), as_hex: bool) -> anyhow::Result<(Vec<String>, bool)> {
    let mut start = Start { bytes: Vec::new(), is_cut: false };
    let result = stream(looked, content, &mut start);
    if !start.is_cut {
        result?;
    }
    Ok((if as_hex { hex(&start.bytes) } else { text(&start.bytes) }, start.is_cut))
}

fn write(looked: &Looked, content: (usize, ContentId), name: &str, mode: u32) -> anyhow::Result<Answer> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode & 0o777).open(name)?;
    let written = stream(looked, content, &mut file).and_then(|()| Ok(file.sync_all()?));
    if let Err(error) = written {
        // It is ours: it was not there before.
        return Err(match std::fs::remove_file(name) {
            Ok(()) => error,
            Err(left) => error.context(format!("the incomplete file stays, since it cannot be removed ({left})")),
        });
    }
    Ok(Answer::Written { what: name.to_owned() })
}

/// As `layflat cp` does it.
fn copy(looked: &Looked, source: &LayerPath, layer: Option<usize>, name: &str) -> anyhow::Result<Answer> {
    let extractor = Extractor::new(&looked.image, &looked.indexes, layer, &looked.options)?;
    let found = extractor.find(source.as_bytes())?;
    let report = extractor.extract(&found, (Path::new(name), Last::Keep), &looked.options, &NoProgress)?;
    let lost: u64 = report.not_kept.iter().map(|loss| loss.count).sum();
    let lost = if lost > 0 {
        format!("; not kept of {}: owners, attributes or devices", counted(lost, "entry", "entries"))
    } else {
        String::new()
    };
    Ok(Answer::Written { what: format!("{name}: {}{lost}", counted(report.entries, "entry", "entries")) })
}

/// The first bytes of what is written.
struct Start {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Write for Start {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = SHOWN - self.bytes.len();
        if room == 0 && !bytes.is_empty() {
            self.is_cut = true;
            return Err(io::Error::other("enough was read"));
        }
        let taken = bytes.len().min(room);
        self.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines, if it is text; otherwise as hexadecimal digits.
fn text(bytes: &[u8]) -> Vec<String> {
    let is_binary = bytes.iter().take(8192).any(|&byte| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x1b));
    if is_binary {
        return hex(bytes);
    }
    let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    let line = |line: &[u8]| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let pieces: Vec<String> = line.split(|&byte| byte == b'\t').map(|piece| Printable(piece).to_string()).collect();
        pieces.join("    ").replace("\\\\", "\\")
    };
    lines.into_iter().map(line).collect()
}

/// As `hexdump -C` prints it.
fn hex(bytes: &[u8]) -> Vec<String> {
    let line = |(number, bytes): (usize, &[u8])| {
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown = |&byte: &u8| if (0x20..0x7f).contains(&byte) { char::from(byte) } else { '.' };
        let letters: String = bytes.iter().map(shown).collect();
        format!("{:08x}  {:<47}  |{letters}|", number * 16, digits.join(" "))
    };
    bytes.chunks(16).enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_as_text_and_harmless() {
        assert_eq!(text(b"one\n\ttwo\x1b[2J\n"), ["one", "    two\\u{1b}[2J"]);
        assert_eq!(text(b"a\\b"), ["a\\b"]);
    }

    #[test]
    fn what_is_not_text_is_shown_in_hexadecimal_digits() {
        assert_eq!(text(b"\x7fELF\0\x01"), ["00000000  7f 45 4c 46 00 01                                |.ELF..|"]);
    }
}
