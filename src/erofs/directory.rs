//! Directories: blocks that each hold some of the names, in the order of their bytes. In a block there are first the
//! entries, of 12 bytes each, and then the names.

/// Bytes of an entry, without its name.
const ENTRY: u64 = 12;

/// How a directory's names are spread over blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spread {
    /// Full blocks, before the last one.
    pub(super) blocks: u64,
    /// Bytes of the last block.
    pub(super) tail: u64,
}

impl Spread {
    /// Of names of these lengths. There is at least one.
    pub(super) fn of(lengths: impl Iterator<Item = usize>, block: u64) -> Self {
        let mut spread = Self { blocks: 0, tail: 0 };
        for length in lengths {
            spread.add(length, block);
        }
        spread
    }

    /// Whether a name begins another block.
    fn add(&mut self, length: usize, block: u64) -> bool {
        let need = ENTRY + length as u64;
        let begins = self.tail + need > block;
        if begins {
            self.blocks += 1;
            self.tail = 0;
        }
        self.tail += need;
        begins
    }

    /// Bytes of the directory.
    pub(super) fn size(self, block: u64) -> u64 {
        self.blocks * block + self.tail
    }
}

/// A name in a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    /// The slot of its inode.
    pub(super) inode: u64,
    pub(super) file_type: u8,
}

/// Hands out the blocks of a directory, the last one as long as it is and not padded.
pub(super) fn blocks<'a, E>(
    entries: impl Iterator<Item = Entry<'a>>,
    block: u64,
    mut take: impl FnMut(&[u8], bool) -> Result<(), E>,
) -> Result<(), E> {
    let mut spread = Spread { blocks: 0, tail: 0 };
    let (mut here, mut bytes) = (Vec::new(), Vec::with_capacity(block as usize));
    for entry in entries {
        if spread.add(entry.name.len(), block) {
            fill(&here, &mut bytes);
            bytes.resize(block as usize, 0);
            take(&bytes, false)?;
            here.clear();
        }
        here.push(entry);
    }
    fill(&here, &mut bytes);
    take(&bytes, true)
}

fn fill(entries: &[Entry<'_>], bytes: &mut Vec<u8>) {
    bytes.clear();
    let mut name_at = ENTRY as usize * entries.len();
    for entry in entries {
        bytes.extend_from_slice(&entry.inode.to_le_bytes());
        bytes.extend_from_slice(&(name_at as u16).to_le_bytes());
        bytes.extend_from_slice(&[entry.file_type, 0]);
        name_at += entry.name.len();
    }
    for entry in entries {
        bytes.extend_from_slice(entry.name);
    }
}
