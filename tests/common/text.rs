//! Stacks and trees as text.

use std::collections::BTreeMap;
use std::fmt;

pub const DEFAULT_MTIME: (i64, u32) = (1000, 0);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
    Whiteout,
    Opaque,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: Vec<u8>,
    pub kind: Kind,
    pub attributes: Attributes,
}

pub type Layer = Vec<Entry>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack(pub Vec<Layer>);

impl Attributes {
    pub fn with_mode(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0, mtime: DEFAULT_MTIME, xattrs: BTreeMap::new() }
    }

    pub fn default_of(kind: &Kind) -> Self {
        Self::with_mode(match kind {
            Kind::Directory => 0o755,
            Kind::Symlink(_) => 0o777,
            _ => 0o644,
        })
    }

    /// A directory that no layer names.
    pub fn unnamed() -> Self {
        Self { mtime: (0, 0), ..Self::with_mode(0o755) }
    }
}

/// Splits at a separator outside of parentheses.
pub fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if character == separator && depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + character.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// `\xNN`, and `\\` for a backslash.
pub fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        match after {
            [b'x', high, low, more @ ..] if *first == b'\\' => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                rest = more;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

pub fn escape(bytes: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\\(),|=:;".contains(&byte);
    bytes
        .iter()
        .map(|&byte| if plain(byte) { char::from(byte).to_string() } else { format!("\\x{byte:02x}") })
        .collect()
}

/// Takes `(…)` off the end of a word.
pub fn parenthesis(word: &str) -> (&str, Option<&str>) {
    match word.strip_suffix(')').and_then(|word| word.split_once('(')) {
        Some((name, inside)) => (name, Some(inside)),
        None => (word, None),
    }
}

/// Reads what stands in parentheses; returns a file's content, if it says one.
pub fn attributes(inside: &str, is_file: bool, attributes: &mut Attributes) -> Option<Vec<u8>> {
    let mut content = None;
    for (index, word) in inside.split(',').enumerate() {
        if is_file && index == 0 {
            content = Some(unescape(word));
        } else if let Some(time) = word.strip_prefix("m=") {
            let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
            let nanoseconds = format!("{fraction:0<9}")[..9].parse().unwrap();
            attributes.mtime = (seconds.parse().unwrap(), nanoseconds);
        } else if let Some((name, value)) = word.split_once('=') {
            attributes.xattrs.insert(unescape(name), unescape(value));
        } else if let Some((uid, gid)) = word.split_once(':') {
            attributes.uid = uid.parse().unwrap();
            attributes.gid = gid.parse().unwrap();
        } else if !word.is_empty() {
            attributes.mode = u32::from_str_radix(word, 8).unwrap_or_else(|_| panic!("{word:?} in {inside:?}"));
        }
    }
    content
}

fn numbers(text: &str) -> (u32, u32) {
    let (major, minor) = text.split_once('.').unwrap();
    (major.parse().unwrap(), minor.parse().unwrap())
}

fn last_component(name: &[u8]) -> Vec<u8> {
    name.split(|&byte| byte == b'/').rfind(|component| !component.is_empty()).unwrap_or_default().to_vec()
}

impl Entry {
    fn parse(word: &str) -> Self {
        let (letter, rest) = word.split_once(' ').unwrap_or_else(|| panic!("no entry: {word:?}"));
        let (rest, inside) = parenthesis(rest.trim());
        let pair = |separator| rest.split_once(separator).unwrap_or_else(|| panic!("no {separator} in {word:?}"));
        let (name, kind) = match letter {
            "D" => (rest, Kind::Directory),
            "F" => (rest, Kind::File(last_component(&unescape(rest)))),
            "L" => (pair("->").0, Kind::Symlink(unescape(pair("->").1))),
            "H" => (pair("=").0, Kind::HardLink(unescape(pair("=").1))),
            "C" => (pair(":").0, Kind::Character(numbers(pair(":").1).0, numbers(pair(":").1).1)),
            "B" => (pair(":").0, Kind::Block(numbers(pair(":").1).0, numbers(pair(":").1).1)),
            "P" => (rest, Kind::Fifo),
            "W" => (rest, Kind::Whiteout),
            "O" => (rest, Kind::Opaque),
            _ => panic!("no entry: {word:?}"),
        };
        let mut entry = Self { name: unescape(name), attributes: Attributes::default_of(&kind), kind };
        if let Some(inside) = inside {
            let is_file = matches!(entry.kind, Kind::File(_));
            if let Some(content) = attributes(inside, is_file, &mut entry.attributes) {
                entry.kind = Kind::File(content);
            }
        }
        entry
    }
}

impl Stack {
    pub fn parse(text: &str) -> Self {
        let layer = |text: &str| split(text, ',').into_iter().map(Entry::parse).collect();
        let layers: Vec<&str> = text.split(" | ").collect();
        Self(layers.into_iter().map(layer).collect())
    }
}

/// What differs from a kind's default attributes, as it stands in parentheses.
pub fn attributes_text(attributes: &Attributes, default: &Attributes) -> Vec<String> {
    let mut words = Vec::new();
    if attributes.mode != default.mode {
        words.push(format!("{:o}", attributes.mode));
    }
    if (attributes.uid, attributes.gid) != (default.uid, default.gid) {
        words.push(format!("{}:{}", attributes.uid, attributes.gid));
    }
    if attributes.mtime != default.mtime {
        let (seconds, nanoseconds) = attributes.mtime;
        let fraction = format!(".{nanoseconds:09}");
        let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
        words.push(format!("m={seconds}{fraction}"));
    }
    for (name, value) in &attributes.xattrs {
        words.push(format!("{}={}", escape(name), escape(value)));
    }
    words
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = escape(&self.name);
        let mut words = attributes_text(&self.attributes, &Attributes::default_of(&self.kind));
        let head = match &self.kind {
            Kind::Directory => format!("D {name}"),
            Kind::File(content) => {
                if *content != last_component(&self.name) || !words.is_empty() {
                    words.insert(0, escape(content));
                }
                format!("F {name}")
            }
            Kind::Symlink(target) => format!("L {name}->{}", escape(target)),
            Kind::HardLink(target) => format!("H {name}={}", escape(target)),
            Kind::Character(major, minor) => format!("C {name}:{major}.{minor}"),
            Kind::Block(major, minor) => format!("B {name}:{major}.{minor}"),
            Kind::Fifo => format!("P {name}"),
            Kind::Whiteout => format!("W {name}"),
            Kind::Opaque => format!("O {name}"),
        };
        formatter.write_str(&head)?;
        if words.is_empty() { Ok(()) } else { write!(formatter, "({})", words.join(",")) }
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layer = |layer: &Layer| layer.iter().map(Entry::to_string).collect::<Vec<_>>().join(", ");
        write!(formatter, "{}", self.0.iter().map(layer).collect::<Vec<_>>().join(" | "))
    }
}
