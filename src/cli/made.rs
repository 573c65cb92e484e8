//! The line at the end of a command that made something, in one wording for all of them: what it is called, how much it is, what was left
//! out, and the whole time.
//!
//! ```text
//! rootfs: 12,447 files, 590.2 MiB (10 left out) in 3.47 s
//! ```

use std::fmt;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Instant;

use layflat::core::text::Printable;
use layflat::{Loss, Made as Tree};

use super::arguments::Common;
use super::output;
use super::table::{bytes, count, counted};

/// When the program was started.
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// To be called once, at the beginning: the time that is told is the user's.
pub(crate) fn start() {
    LazyLock::force(&STARTED);
}

/// What was made.
#[derive(Debug)]
pub(crate) struct Made {
    name: String,
    parts: Vec<String>,
    left_out: u64,
}

impl Made {
    /// A file or directory, as the user named it.
    pub(crate) fn at(path: &Path) -> Self {
        match path == Path::new("-") {
            true => Self::called("standard output"),
            false => {
                // As people would have written it: not `./NAME`.
                let short = path.strip_prefix(".").ok().filter(|short| !short.as_os_str().is_empty());
                Self::called(Printable(short.unwrap_or(path).as_os_str().as_encoded_bytes()))
            }
        }
    }

    /// Something else, by a name that is escaped already.
    pub(crate) fn called(name: impl fmt::Display) -> Self {
        Self { name: name.to_string(), parts: Vec::new(), left_out: 0 }
    }

    /// So many of something.
    pub(crate) fn count(mut self, number: u64, one: &str, several: &str) -> Self {
        self.parts.push(counted(number, one, several));
        self
    }

    /// The same, where there are any.
    pub(crate) fn any(self, number: u64, one: &str, several: &str) -> Self {
        if number > 0 { self.count(number, one, several) } else { self }
    }

    /// Bytes of all of it.
    pub(crate) fn bytes(mut self, number: u64) -> Self {
        self.parts.push(bytes(number));
        self
    }

    /// The files of a tree, which may lie in one file: then that file's size is what the user has to store.
    pub(crate) fn tree(self, tree: &Tree, file: Option<&Path>) -> Self {
        let size = file
            .filter(|file| *file != Path::new("-"))
            .and_then(|file| file.metadata().ok())
            .filter(|found| found.is_file())
            .map(|file| file.len());
        self.count(tree.files, "file", "files").bytes(size.unwrap_or(tree.bytes)).left_out(tree.excluded)
    }

    /// So many are not there that could be.
    pub(crate) fn left_out(mut self, number: u64) -> Self {
        self.left_out += number;
        self
    }

    /// What the destination could not hold at all.
    pub(crate) fn losses(self, losses: &[Loss]) -> Self {
        self.left_out(losses.iter().map(Loss::left_out).sum())
    }

    /// Prints the line. `more` says what else there is to know, or to do now.
    pub(crate) fn say(self, common: &Common, more: &str) {
        let seconds = STARTED.elapsed().as_secs_f64();
        let more = if more.is_empty() { String::new() } else { format!("; {more}") };
        output::say(common, format_args!("{self} in {seconds:.2} s{more}"));
    }
}

impl fmt::Display for Made {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.name, self.parts.join(", "))?;
        match self.left_out {
            0 => Ok(()),
            number => write!(formatter, " ({} left out)", count(number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_counted_and_one_is_one() {
        let made = Made::at(Path::new("a\nb")).count(1, "layer", "layers").any(0, "whiteout", "whiteouts");
        assert_eq!(
            made.count(12_447, "file", "files").bytes(1536).to_string(),
            "a\\nb: 1 layer, 12,447 files, 1.5 KiB"
        );
        assert_eq!(Made::at(Path::new("./x")).bytes(1).to_string(), "x: 1 B");
        let tree = Tree { files: 1, bytes: 10, excluded: 2 };
        let made = Made::at(Path::new("-")).tree(&tree, None).left_out(1_000);
        assert_eq!(made.to_string(), "standard output: 1 file, 10 B (1,002 left out)");
    }
}
