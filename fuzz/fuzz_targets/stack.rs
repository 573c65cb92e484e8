//! Stacks that the input describes: what layflat says of them, and what the tests' oracle says, is the same, or both refuse.
#![no_main]

#[allow(dead_code, clippy::unwrap_used)]
#[path = "../../tests/common"]
mod common {
    pub mod inside;
    pub mod oracle;
    pub mod tar;
    pub mod text;
    pub mod tree;

    /// What `inside` needs of the tests' way to run things.
    pub mod run {
        use layflat::blob::Blob;
        use layflat::image::{Image, Layer};

        pub fn image(archives: impl IntoIterator<Item = Vec<u8>>) -> Image {
            let layers = archives.into_iter().map(|bytes| Layer::bare(Blob::from_bytes(bytes))).collect();
            Image { name: None, manifest: None, config: None, layers, notices: Vec::new() }
        }
    }
}

use common::text::{Attributes, Entry, Kind, Stack};
use common::{inside, oracle};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut bytes = Bytes(input);
    let as_it_is = bytes.below(16) == 0;
    let mut stack = Stack((0..=bytes.below(4)).map(|_| (0..bytes.below(9)).map(|_| bytes.entry()).collect()).collect());
    if !as_it_is {
        stack = oracle::accepted(stack);
    }
    match (oracle::show(&stack), inside::tree(&stack)) {
        (Err(_), Err(_)) => {}
        (Err(reason), Ok(found)) => panic!("{stack}\nthe oracle refuses ({reason:?}), layflat shows {found}"),
        (Ok(_), Err(error)) => panic!("{stack}\nlayflat refuses: {error}"),
        (Ok(expected), Ok(found)) => {
            let differences = expected.differences(&found);
            assert!(differences.is_empty(), "{stack}\n{}", differences.join("\n"));
        }
    }
});

/// Decisions, one byte each; all the same when there are no more.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn below(&mut self, end: u8) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        first % end
    }

    fn choose<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.below(all.len() as u8))]
    }

    /// Few names, so that they meet.
    fn name(&mut self) -> String {
        let count = 1 + self.below(3);
        let components: Vec<&str> = (0..count).map(|_| self.choose(&["a", "b", "c", "d"])).collect();
        let plain = components.join("/");
        match self.below(20) {
            1 => format!("./{plain}"),
            2 => format!("x/../{plain}"),
            3 => format!("/{}", components.join("//")),
            _ => plain,
        }
    }

    fn target(&mut self) -> Vec<u8> {
        let name = self.name();
        match self.below(8) {
            0 | 1 => format!("/{name}"),
            2 | 3 => format!("../{name}"),
            4 => self.choose(&["..", ".", "/", "a/..", "../../..", "nowhere/x"]).to_owned(),
            _ => name,
        }
        .into_bytes()
    }

    fn entry(&mut self) -> Entry {
        let mut name = self.name();
        let kind = match self.below(30) {
            0..6 => Kind::Directory,
            6..12 => Kind::File(self.choose(&["", "one", "two"]).into()),
            12..15 => Kind::Symlink(self.target()),
            15..19 => Kind::HardLink(self.name().into_bytes()),
            19 => Kind::Character(1, 3),
            20 => Kind::Block(7, 5),
            21 => Kind::Fifo,
            22..27 => Kind::Whiteout,
            27 => {
                ".".clone_into(&mut name);
                Kind::Directory
            }
            _ => Kind::Opaque,
        };
        let mut attributes = Attributes::default_of(&kind);
        if matches!(kind, Kind::Directory | Kind::File(_)) {
            attributes.mode = self.choose(&[0o644, 0o755, 0o1777, 0o4755]);
            attributes.uid = self.choose(&[0, 7, 4_294_967_294]);
            if let Some((name, value)) = self.choose(&[None, None, Some(("user.k", "v")), Some(("trusted.overlay.opaque", "y"))]) {
                attributes.xattrs.insert(name.into(), value.into());
            }
        }
        Entry { name: name.into_bytes(), kind, attributes }
    }
}
