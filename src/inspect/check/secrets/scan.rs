//! Searches the contents of a layer's files while the layer is read.

use hashbrown::HashMap;
use regex::bytes::Regex;

use super::{Found, names, tokens};
use crate::core::record::{ContentId, LayerPath};

/// Bytes of each file that are searched. What holds secrets is a text of some lines.
const WINDOW: usize = 1 << 20;
/// Bytes at the beginning by which a text is told from other files.
const HEAD: usize = 1024;
/// Findings in one layer.
const MOST: usize = 10_000;

/// What a layer's files were found to hold.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    files: HashMap<u32, File>,
    /// There was more than may be kept.
    pub(crate) is_cut: bool,
}

#[derive(Debug, Default)]
struct File {
    found: Vec<Found>,
    is_empty: bool,
}

impl Scanned {
    /// What a content holds.
    pub(crate) fn found(&self, content: ContentId) -> &[Found] {
        self.files.get(&content.0).map_or(&[], |file| &file.found)
    }

    /// Whether a file that is called as one with secrets has none of those in it, like an `.npmrc` without a token.
    pub(crate) fn is_empty(&self, content: ContentId) -> bool {
        self.files.get(&content.0).is_some_and(|file| file.is_empty)
    }
}

/// Takes the files of one layer, one after the other. It keeps no more than one window of text.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    scanned: Scanned,
    count: usize,
    window: Vec<u8>,
    is_text: bool,
    /// All of the file is in the window.
    is_whole: bool,
    confirm: Option<&'static Regex>,
}

impl Scanner {
    /// A file begins.
    pub(crate) fn begin(&mut self, path: &LayerPath, size: u64) {
        self.window.clear();
        self.is_text = true;
        self.is_whole = size <= WINDOW as u64;
        self.confirm = names::confirmation(path);
    }

    /// More of it.
    pub(crate) fn data(&mut self, bytes: &[u8]) {
        if !self.is_text {
            return;
        }
        let head = HEAD.saturating_sub(self.window.len()).min(bytes.len());
        if bytes[..head].contains(&0) {
            self.is_text = false;
            self.window.clear();
            return;
        }
        let room = WINDOW - self.window.len();
        self.window.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// It ends, and is known by this.
    pub(crate) fn end(&mut self, content: ContentId) {
        if !self.is_text || self.window.is_empty() {
            return;
        }
        let found = tokens::find(&self.window);
        let is_empty = self.is_whole && self.confirm.is_some_and(|confirm| !confirm.is_match(&self.window));
        if found.is_empty() && !is_empty {
            return;
        }
        if self.count >= MOST {
            self.scanned.is_cut = true;
            return;
        }
        self.count += found.len().max(1);
        self.scanned.files.insert(content.0, File { found, is_empty });
    }

    /// What was found in all of them.
    pub(crate) fn into_scanned(self) -> Scanned {
        self.scanned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(path: &str, pieces: &[&[u8]]) -> Scanned {
        let mut scanner = Scanner::default();
        let size = pieces.iter().map(|piece| piece.len() as u64).sum();
        scanner.begin(&LayerPath::normalise(path.as_bytes()).unwrap(), size);
        pieces.iter().for_each(|piece| scanner.data(piece));
        scanner.end(ContentId(7));
        scanner.into_scanned()
    }

    fn token() -> String {
        ["glpat-", "zQWBuTSOoRi4A9spHcVY"].concat()
    }

    #[test]
    fn a_token_is_found_however_the_text_comes() {
        let text = format!("some text\ntoken: {}\n", token());
        for at in 0..text.len() {
            let (one, other) = text.as_bytes().split_at(at);
            let scanned = scanned("a", &[one, other]);
            assert_eq!(scanned.found(ContentId(7)).len(), 1, "in two at {at}");
            assert_eq!(scanned.found(ContentId(7))[0].line, 2);
        }
    }

    #[test]
    fn programs_and_what_lies_far_behind_are_not_searched() {
        let found = |pieces: &[&[u8]]| scanned("a", pieces).found(ContentId(7)).len();
        let token = token();
        assert_eq!(found(&[b"\x7fELF\0", token.as_bytes()]), 0);
        assert_eq!(found(&[&vec![b'\n'; WINDOW - 100], token.as_bytes()]), 1);
        assert_eq!(found(&[&vec![b'\n'; WINDOW], token.as_bytes()]), 0);
        assert_eq!(found(&[&[b'\n'; HEAD], b"\0", token.as_bytes()]), 1, "only the beginning tells");
    }

    #[test]
    fn a_file_with_a_telling_name_may_be_empty() {
        assert!(scanned("root/.npmrc", &[b"registry=https://example.com/\n"]).is_empty(ContentId(7)));
        assert!(scanned("root/.npmrc", &[b"//example.com/:_authToken=${NPM_TOKEN}\n"]).is_empty(ContentId(7)));
        assert!(!scanned("root/.npmrc", &[b"//example.com/:_authToken=1234\n"]).is_empty(ContentId(7)));
        assert!(!scanned("root/other", &[b"registry=https://example.com/\n"]).is_empty(ContentId(7)));
        let other = scanned("root/.npmrc", &[token().as_bytes()]);
        assert!(
            other.is_empty(ContentId(7)) && other.found(ContentId(7)).len() == 1,
            "another secret is none of npm's"
        );
    }
}
