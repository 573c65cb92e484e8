//! Searches the contents of an image's files for a pattern, layer after layer, without unpacking them.

use std::io;

use hashbrown::HashMap;
use regex::bytes::{Regex, RegexBuilder};
use serde::Serialize;

use super::{Inside, InsideError, Pattern, PatternError};
use crate::core::layer::{Failure, Place, Sink, Unkept, read_layer};
use crate::core::record::{Attributes, ChangeKind, ContentId, LayerPath, NameId, Names};
use crate::core::text::Printable;
use crate::unpack::read::read_layers;
use crate::unpack::{Options, Progress};

/// A line is kept up to this length; what is longer is searched in pieces.
const LONGEST_LINE: usize = 1 << 20;
/// By so much the pieces of a long line overlap, so that what lies across their border is found.
const OVERLAP: usize = 4 << 10;

/// How files are searched.
#[derive(Debug, Clone)]
pub struct Grep {
    pattern: Regex,
    /// Only in files that these match.
    pub include: Option<Pattern>,
    /// Also contents that later layers replaced or deleted.
    pub all_layers: bool,
    /// Only contents that this layer has, whatever later layers do.
    pub changed_by: Option<usize>,
    /// Only which files match, each once.
    pub names_only: bool,
}

impl Grep {
    /// A regular expression, or with `fixed` a text that stands for itself.
    ///
    /// # Errors
    /// No such expression.
    pub fn new(pattern: &str, fixed: bool, ignore_case: bool) -> Result<Self, PatternError> {
        let text = if fixed { regex::escape(pattern) } else { pattern.to_owned() };
        let built = RegexBuilder::new(&text).case_insensitive(ignore_case).build();
        let pattern = built.map_err(|error| PatternError::regex(pattern, &error))?;
        Ok(Self { pattern, include: None, all_layers: false, changed_by: None, names_only: false })
    }
}

/// A place where something was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Match {
    /// The layer that has the content, from 0 at the bottom.
    pub in_layer: usize,
    /// The file.
    pub path: LayerPath,
    /// Where in the file, if lines were asked for; none of a file that is not text.
    #[serde(flatten)]
    pub line: Option<Line>,
    /// Whether the file is not text, so that no line of it is shown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub binary: bool,
}

/// A line that matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Its number, from 1.
    #[serde(rename = "line")]
    pub number: u64,
    /// What it says; of a very long one the part that matches.
    #[serde(serialize_with = "printable")]
    pub text: Vec<u8>,
}

fn printable<S: serde::Serializer>(text: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Printable(text))
}

/// Is told every match as it is found.
type Tell<'t> = &'t mut (dyn FnMut(Match) -> io::Result<()> + Send);

impl Inside<'_> {
    /// Searches files, and tells each match as it is found: layers bottom up, and in each the files in the order of its archive. A file
    /// with several names is searched once, and told under each of them.
    ///
    /// # Errors
    /// A layer that cannot be read, or an error of `tell`.
    pub fn grep(
        &self,
        grep: &Grep,
        options: &Options,
        progress: &dyn Progress,
        tell: Tell<'_>,
    ) -> Result<(), InsideError> {
        let count = self.stack.layers().len();
        if let Some(layer) = grep.changed_by.filter(|&layer| layer >= count) {
            return Err(InsideError::NoSuchLayer { layer, count });
        }
        let wanted = self.searched(grep);
        let tell = std::sync::Mutex::new(tell);
        for (layer, files) in wanted.iter().enumerate().filter(|(_, files)| !files.is_empty()) {
            read_layers(self.image, &[layer], options, progress, &|_, stream, read, count| {
                let mut tell = tell.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let mut sink = Searching { grep, layer, files, tell: &mut **tell, count: 0, file: None };
                Ok((read_layer(stream, &mut sink, read, count)?, ()))
            })?;
        }
        Ok(())
    }

    /// By layer: the contents to be searched, and the names that they have.
    fn searched(&self, grep: &Grep) -> Vec<HashMap<ContentId, Vec<LayerPath>>> {
        let mut wanted: Vec<HashMap<ContentId, Vec<LayerPath>>> = vec![HashMap::new(); self.indexes.records.len()];
        let is_included = |path: &LayerPath| grep.include.as_ref().is_none_or(|pattern| pattern.matches(path));
        if grep.all_layers || grep.changed_by.is_some() {
            let layers = self.indexes.records.iter().enumerate().take(self.stack.layers().len());
            for (layer, record) in layers.filter(|(layer, _)| grep.changed_by.is_none_or(|only| only == *layer)) {
                for change in &record.changes {
                    let (ChangeKind::File { content, .. } | ChangeKind::LinkSource { content, .. }) = change.kind
                    else {
                        continue;
                    };
                    let path = record.names.path(change.name);
                    if is_included(&path) {
                        wanted[layer].entry(content).or_default().push(path);
                    }
                }
            }
            return wanted;
        }
        for (inode, mut paths) in self.visible() {
            paths.retain(is_included);
            if let Some((layer, content, _)) = self.content(inode)
                && !paths.is_empty()
            {
                paths.sort();
                wanted[layer].entry(content).or_default().extend(paths);
            }
        }
        wanted
    }
}

/// Searches the contents of a layer as they pass.
struct Searching<'s> {
    grep: &'s Grep,
    layer: usize,
    files: &'s HashMap<ContentId, Vec<LayerPath>>,
    tell: &'s mut (dyn FnMut(Match) -> io::Result<()> + Send),
    /// Files begun so far.
    count: u32,
    file: Option<File<'s>>,
}

/// The file that passes.
struct File<'s> {
    paths: &'s [LayerPath],
    /// Where its next byte is; what is left out is a hole.
    at: u64,
    line: Vec<u8>,
    number: u64,
    /// Whether the line was told already.
    is_told: bool,
    /// Whether it has a NUL, and so is no text.
    is_binary: bool,
}

impl Searching<'_> {
    /// Searches one line, or a piece of one. False once no more of the file is of interest.
    fn search(&mut self) -> io::Result<bool> {
        let Some(file) = &mut self.file else { return Ok(false) };
        if file.is_told || !self.grep.pattern.is_match(&file.line) {
            return Ok(true);
        }
        file.is_told = true;
        let is_last = self.grep.names_only || file.is_binary;
        for path in file.paths {
            let line = (!is_last).then(|| Line { number: file.number, text: file.line.clone() });
            let binary = file.is_binary;
            (self.tell)(Match { in_layer: self.layer, path: path.clone(), line, binary })?;
        }
        Ok(!is_last)
    }

    fn take(&mut self, offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        // A hole is zeros.
        let is_behind_hole = file.at != offset;
        file.is_binary |= is_behind_hole || bytes.contains(&0);
        file.at = offset + bytes.len() as u64;
        // What is before it and what is behind are not one line.
        if is_behind_hole && !file.line.is_empty() {
            let goes_on = self.search()?;
            match &mut self.file {
                Some(file) if goes_on => {
                    file.line.clear();
                    file.is_told = false;
                }
                _ => self.file = None,
            }
        }
        while !bytes.is_empty() {
            let Some(file) = &mut self.file else { return Ok(()) };
            let room = LONGEST_LINE.saturating_sub(file.line.len());
            let piece = &bytes[..bytes.len().min(room)];
            let end = piece.iter().position(|&byte| byte == b'\n');
            file.line.extend_from_slice(&piece[..end.unwrap_or(piece.len())]);
            bytes = &bytes[end.map_or(piece.len(), |end| end + 1)..];
            if end.is_none() && file.line.len() < LONGEST_LINE {
                return Ok(());
            }
            let goes_on = self.search()?;
            match &mut self.file {
                Some(_) if !goes_on => self.file = None,
                Some(file) if end.is_none() => drop(file.line.drain(..LONGEST_LINE - OVERLAP)),
                Some(file) => {
                    file.line.clear();
                    (file.number, file.is_told) = (file.number + 1, false);
                }
                None => {}
            }
        }
        Ok(())
    }
}

impl Sink for Searching<'_> {
    type Error = io::Error;

    fn begin(
        &mut self,
        _: &Names,
        _: NameId,
        _: &Attributes,
        _: u64,
        _: Place,
    ) -> Result<ContentId, Failure<io::Error>> {
        let id = ContentId(self.count);
        self.count += 1;
        let new = |paths| File { paths, at: 0, line: Vec::new(), number: 1, is_told: false, is_binary: false };
        self.file = self.files.get(&id).map(|paths| new(paths.as_slice()));
        Ok(id)
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure<io::Error>> {
        self.take(offset, bytes).map_err(|error| Failure { name: NameId::ROOT, error })
    }

    fn end(&mut self, _: &Attributes) -> Result<(), Failure<io::Error>> {
        // A last line without an end; an empty one is none.
        if self.file.as_ref().is_some_and(|file| !file.line.is_empty()) {
            self.search().map_err(|error| Failure { name: NameId::ROOT, error })?;
        }
        self.file = None;
        Ok(())
    }

    fn unkept(&mut self, _: NameId, _: Unkept) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_ends_a_line() {
        let files = HashMap::new();
        let paths = [LayerPath::root()];
        for (pattern, is_found) in [("onetwo", false), ("one", true), ("two", true)] {
            let grep = Grep::new(pattern, true, false).unwrap();
            let mut found = 0;
            let mut tell = |_: Match| {
                found += 1;
                Ok::<(), io::Error>(())
            };
            let file = File { paths: &paths, at: 0, line: Vec::new(), number: 1, is_told: false, is_binary: false };
            let mut sink =
                Searching { grep: &grep, layer: 0, files: &files, tell: &mut tell, count: 1, file: Some(file) };
            sink.take(0, b"one").unwrap();
            sink.take(4096, b"two").unwrap();
            sink.search().unwrap();
            assert_eq!(found, i32::from(is_found), "{pattern}");
        }
    }
}
