//! What an archive holds, in a form in which several readers can be compared.

use layflat::core::tar::{ArchiveError, Entry, EntryKind, Event, Limits, Reader};

/// One entry with its content, holes filled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listed {
    pub(crate) entry: Entry,
    pub(crate) content: Vec<u8>,
}

impl Listed {
    /// The name without what only says that it is a directory.
    pub(crate) fn name(&self) -> &[u8] {
        let name = self.entry.name.strip_prefix(b"./").unwrap_or(&self.entry.name);
        name.strip_suffix(b"/").unwrap_or(name)
    }
}

/// Everything in an archive that is fed in pieces.
pub(crate) fn list(bytes: &[u8], piece: usize) -> Result<Vec<Listed>, ArchiveError> {
    let mut reader = Reader::new(Limits::default());
    let mut listed: Vec<Listed> = Vec::new();
    let mut is_open = false;
    for mut input in bytes.chunks(piece.max(1)) {
        loop {
            match reader.next(&mut input)? {
                Event::NeedInput => break,
                Event::Entry(entry) => {
                    assert!(!is_open, "every entry ends before the next");
                    assert!(entry.kind == EntryKind::File || entry.size == 0);
                    is_open = true;
                    // A stated size is not a reason to allocate: a test's files are small.
                    let size = usize::try_from(entry.size).unwrap_or(usize::MAX).min(64 << 20);
                    let content = if entry.sparse { vec![0; size] } else { Vec::new() };
                    listed.push(Listed { entry: *entry, content });
                }
                Event::Data { offset, bytes } => {
                    let current = listed.last_mut().expect("data belongs to an entry");
                    assert!(is_open && offset + bytes.len() as u64 <= current.entry.size);
                    let (offset, end) = (offset as usize, offset as usize + bytes.len());
                    if current.entry.sparse {
                        if end <= current.content.len() {
                            current.content[offset..end].copy_from_slice(bytes);
                        }
                    } else {
                        assert_eq!(offset, current.content.len());
                        current.content.extend(bytes);
                    }
                }
                Event::EndOfEntry => {
                    assert!(is_open);
                    is_open = false;
                }
                Event::GlobalHeader | Event::End => assert!(!is_open),
            }
        }
    }
    reader.finish()?;
    Ok(listed)
}
