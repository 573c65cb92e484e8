//! The packages in an rpm database, as it is since rpm 4.16: an SQLite file (sqlite.org/fileformat2.html) with a table `Packages`, each row
//! of which holds one package's header (rpm.org, "RPM V4 Package format"). Of both, only what that needs is read.
//!
//! The file comes out of an image, so nothing in it is believed: what does not fit is left out.

use std::collections::BTreeMap;

use super::data::text;

/// Deeper trees of pages are none.
const MOST_LEVELS: usize = 16;
const INTERIOR: u8 = 0x05;
const LEAF: u8 = 0x0d;
const TAG_NAME: u32 = 1000;
const TAG_VERSION: u32 = 1001;
const TAG_RELEASE: u32 = 1002;

/// Name and version of every package.
pub(super) fn packages(database: &[u8]) -> BTreeMap<String, String> {
    let Some(file) = Sqlite::open(database) else { return BTreeMap::new() };
    let tables = file.rows(1);
    let root = tables.iter().find_map(|row| match columns(row)?.as_slice() {
        [_, Column::Bytes(name), _, Column::Number(root), ..] if *name == b"Packages" => usize::try_from(*root).ok(),
        _ => None,
    });
    let rows = root.map(|root| file.rows(root)).unwrap_or_default();
    rows.iter().filter_map(|row| columns(row)?.into_iter().find_map(|column| header(column.bytes()?))).collect()
}

/// Of a package's header its name, and its version with the release.
fn header(bytes: &[u8]) -> Option<(String, String)> {
    let (entries, length) = (number(bytes, 0)? as usize, number(bytes, 4)? as usize);
    let store = bytes.get(entries.checked_mul(16)?.checked_add(8)?..)?;
    let store = store.get(..length)?;
    let value = |tag: u32| {
        let entry = (0..entries).map(|entry| 8 + entry * 16).find(|&at| number(bytes, at) == Some(tag))?;
        let value = store.get(number(bytes, entry + 8)? as usize..)?;
        value.split(|&byte| byte == 0).next()
    };
    let version = [value(TAG_VERSION)?, value(TAG_RELEASE)?].join(&b'-');
    Some((text(value(TAG_NAME)?), text(&version)))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// A number of one to nine bytes.
fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for count in 1..=9 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if count == 9 {
            return Some(value << 8 | u64::from(byte));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            break;
        }
    }
    Some(value)
}

enum Column<'r> {
    Number(u64),
    Bytes(&'r [u8]),
}

impl<'r> Column<'r> {
    fn bytes(self) -> Option<&'r [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Number(_) => None,
        }
    }
}

/// The columns of a row; numbers are those without a sign, which is all that matters here.
fn columns(row: &[u8]) -> Option<Vec<Column<'_>>> {
    let mut at = 0;
    let mut body = usize::try_from(varint(row, &mut at)?).ok()?;
    let kinds = row.get(..body)?;
    let mut columns = Vec::new();
    while at < kinds.len() {
        let kind = varint(kinds, &mut at)?;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => (kind - 12) / 2,
        };
        let end = body.checked_add(usize::try_from(length).ok()?)?;
        let bytes = row.get(body..end)?;
        body = end;
        columns.push(match kind {
            0..12 => Column::Number(bytes.iter().fold(u64::from(kind == 9), |all, &byte| all << 8 | u64::from(byte))),
            _ => Column::Bytes(bytes),
        });
    }
    Some(columns)
}

struct Sqlite<'d> {
    bytes: &'d [u8],
    page: usize,
    /// Bytes of a page that are in use.
    usable: usize,
}

impl<'d> Sqlite<'d> {
    fn open(bytes: &'d [u8]) -> Option<Self> {
        bytes.starts_with(b"SQLite format 3\0").then_some(())?;
        let page = match u16::from_be_bytes(bytes.get(16..18)?.try_into().ok()?) {
            1 => 1 << 16,
            size => usize::from(size),
        };
        let usable = page.checked_sub(usize::from(*bytes.get(20)?)).filter(|&usable| usable >= 480)?;
        Some(Self { bytes, page, usable })
    }

    fn page(&self, number: usize) -> Option<&'d [u8]> {
        let start = number.checked_sub(1)?.checked_mul(self.page)?;
        self.bytes.get(start..start.checked_add(self.page)?)
    }

    /// All rows of the table whose tree begins there.
    fn rows(&self, root: usize) -> Vec<Vec<u8>> {
        let mut rows = Vec::new();
        let mut pending = vec![(root, 0)];
        // A sound tree has each page once.
        let mut left = self.bytes.len() / self.page;
        while let Some((number, level)) = pending.pop() {
            if left == 0 || level > MOST_LEVELS {
                break;
            }
            left -= 1;
            let below = self.visit(number, &mut rows).unwrap_or_default();
            pending.extend(below.into_iter().rev().map(|page| (page, level + 1)));
        }
        rows
    }

    /// Takes the rows of a page, and gives the pages below it.
    fn visit(&self, number: usize, rows: &mut Vec<Vec<u8>>) -> Option<Vec<usize>> {
        let page = self.page(number)?;
        // The file's own header is on the first page.
        let head = if number == 1 { 100 } else { 0 };
        let kind = *page.get(head)?;
        let pointers = head + if kind == INTERIOR { 12 } else { 8 };
        let cells = usize::from(u16::from_be_bytes([*page.get(head + 3)?, *page.get(head + 4)?]));
        let mut below = Vec::new();
        for cell in 0..cells {
            let at = pointers + cell * 2;
            let mut at = usize::from(u16::from_be_bytes([*page.get(at)?, *page.get(at + 1)?]));
            match kind {
                INTERIOR => below.push(self::number(page, at)? as usize),
                LEAF => {
                    let length = usize::try_from(varint(page, &mut at)?).ok()?;
                    varint(page, &mut at)?;
                    rows.extend(self.payload(page, at, length));
                }
                _ => return None,
            }
        }
        if kind == INTERIOR {
            below.push(self::number(page, head + 8)? as usize);
        }
        Some(below)
    }

    /// What a cell holds, on its own page and on those that it overflows to.
    fn payload(&self, page: &[u8], at: usize, length: usize) -> Option<Vec<u8>> {
        if length > self.bytes.len() {
            return None;
        }
        let most = self.usable - 35;
        let least = (self.usable - 12) * 32 / 255 - 23;
        let local = match length {
            _ if length <= most => length,
            _ => Some(least + (length - least) % (self.usable - 4)).filter(|&local| local <= most).unwrap_or(least),
        };
        let mut bytes = page.get(at..at + local)?.to_vec();
        let mut next = if local < length { number(page, at + local)? } else { 0 };
        while bytes.len() < length {
            let page = self.page(next as usize)?;
            next = number(page, 0)?;
            let more = (length - bytes.len()).min(self.usable - 4);
            bytes.extend_from_slice(page.get(4..4 + more)?);
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_name_and_version() {
        let mut bytes = Vec::new();
        let store = b"bash\x005.2\x003.fc40\0";
        bytes.extend([3_u32, store.len() as u32].map(u32::to_be_bytes).concat());
        for (tag, offset) in [(TAG_NAME, 0_u32), (TAG_VERSION, 5), (TAG_RELEASE, 9)] {
            bytes.extend([tag, 6, offset, 1].map(u32::to_be_bytes).concat());
        }
        bytes.extend(store);
        assert_eq!(header(&bytes), Some(("bash".to_owned(), "5.2-3.fc40".to_owned())));
        for end in 0..bytes.len() - 1 {
            assert_eq!(header(&bytes[..end]), None);
        }
    }

    /// Made by rpm 4.18: `rpm --dbpath DIR -i --justdb`. One header is longer than a page.
    #[test]
    fn a_database_of_rpm_is_read() {
        let packed = include_bytes!("../../../fixtures/packages/rpmdb.sqlite.zst");
        let database = zstd::decode_all(&packed[..]).unwrap();
        let wanted =
            [("alpha", "1.2-3"), ("beta", "2.0-3")].map(|(name, version)| (name.to_owned(), version.to_owned()));
        assert_eq!(packages(&database), wanted.into());
        // Whatever is missing or wrong, it ends.
        for at in (0..database.len()).step_by(97) {
            packages(&database[..at]);
            let mut damaged = database.clone();
            damaged[at] ^= 0xff;
            packages(&damaged);
        }
    }

    #[test]
    fn what_is_no_database_has_no_packages() {
        assert!(packages(b"").is_empty() && packages(&[b'x'; 4096]).is_empty());
        let mut damaged = [&b"SQLite format 3\0"[..], &[16, 0]].concat();
        for filler in [0, 5, 13, 255] {
            damaged.resize(20, 0);
            damaged.resize(8192, filler);
            damaged[20] = 0;
            damaged[100] = 13;
            assert!(packages(&damaged).is_empty());
            damaged.truncate(20);
        }
    }
}
