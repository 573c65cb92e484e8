//! Maps between the user and group ids inside of a user namespace and those outside: arithmetic, no I/O.

use std::str::FromStr;

/// Ids that follow one another, as a line of /proc/PID/uid_map has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first id inside of the namespace.
    pub inside: u32,
    /// What it is outside.
    pub outside: u32,
    /// How many there are.
    pub count: u32,
}

/// Ranges of ids, none of which overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap(Vec<IdRange>);

/// The maps of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMaps {
    /// Users.
    pub uids: IdMap,
    /// Groups.
    pub gids: IdMap,
}

/// A map that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdMapError {
    /// A range that is not written as one.
    #[error("{0:?} is not a range of ids: expected INSIDE:OUTSIDE:COUNT, like 0:100000:65536")]
    Malformed(String),
    /// Nothing, or more ids than there are.
    #[error("{0} is not a range of ids: it is empty, or ends beyond the last id, 4294967294")]
    OutOfRange(IdRange),
    /// An id would mean two.
    #[error("the ranges {0} and {1} overlap")]
    Overlap(IdRange, IdRange),
    /// No range at all.
    #[error("a map needs at least one range")]
    Empty,
}

impl IdRange {
    fn shift(id: u32, from: u32, to: u32, count: u32) -> Option<u32> {
        id.checked_sub(from).filter(|&offset| offset < count).map(|offset| to + offset)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let meet = |a: u32, b: u32| {
            u64::from(a) < u64::from(b) + u64::from(other.count) && u64::from(b) < u64::from(a) + u64::from(self.count)
        };
        meet(self.inside, other.inside) || meet(self.outside, other.outside)
    }
}

impl FromStr for IdRange {
    type Err = IdMapError;

    fn from_str(text: &str) -> Result<Self, IdMapError> {
        let numbers: Option<Vec<u32>> = text.split(':').map(|number| number.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[inside, outside, count]) => Ok(Self { inside, outside, count }),
            _ => Err(IdMapError::Malformed(text.to_owned())),
        }
    }
}

impl std::fmt::Display for IdRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.inside, self.outside, self.count)
    }
}

impl IdMap {
    /// A map of these ranges.
    ///
    /// # Errors
    /// No range, one that is empty or too long, and two that overlap, inside or outside.
    pub fn new(ranges: Vec<IdRange>) -> Result<Self, IdMapError> {
        for (index, range) in ranges.iter().enumerate() {
            // The last number means "no id" to the kernel.
            let fits = |first: u32| u64::from(first) + u64::from(range.count) <= u64::from(u32::MAX);
            if range.count == 0 || !fits(range.inside) || !fits(range.outside) {
                return Err(IdMapError::OutOfRange(*range));
            }
            if let Some(other) = ranges[..index].iter().find(|other| other.overlaps(range)) {
                return Err(IdMapError::Overlap(*other, *range));
            }
        }
        if ranges.is_empty() { Err(IdMapError::Empty) } else { Ok(Self(ranges)) }
    }

    /// One id alone, which is root inside.
    pub fn root(outside: u32) -> Self {
        Self(vec![IdRange { inside: 0, outside, count: 1 }])
    }

    /// The ranges, as they were given.
    pub fn ranges(&self) -> &[IdRange] {
        &self.0
    }

    /// What an id inside is outside.
    pub fn outside(&self, inside: u32) -> Option<u32> {
        self.0.iter().find_map(|range| IdRange::shift(inside, range.inside, range.outside, range.count))
    }

    /// What an id outside is inside.
    pub fn inside(&self, outside: u32) -> Option<u32> {
        self.0.iter().find_map(|range| IdRange::shift(outside, range.outside, range.inside, range.count))
    }
}

/// Ranges with commas between them, as [`Display`](std::fmt::Display) writes them.
impl FromStr for IdMap {
    type Err = IdMapError;

    fn from_str(text: &str) -> Result<Self, IdMapError> {
        Self::new(text.split(',').map(str::parse).collect::<Result<_, _>>()?)
    }
}

impl std::fmt::Display for IdMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{range}")?;
        }
        Ok(())
    }
}

impl IdMaps {
    /// Only the caller, as root inside.
    pub fn root(uid: u32, gid: u32) -> Self {
        Self { uids: IdMap::root(uid), gids: IdMap::root(gid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> Result<IdMap, IdMapError> {
        text.parse()
    }

    #[test]
    fn ids_are_shifted_both_ways() {
        let map = map("0:1000:1,1:100000:65536").unwrap();
        assert_eq!(map.to_string(), "0:1000:1,1:100000:65536");
        for (inside, outside) in [(0, 1000), (1, 100_000), (65536, 165_535)] {
            assert_eq!(map.outside(inside), Some(outside));
            assert_eq!(map.inside(outside), Some(inside));
        }
        assert_eq!(map.outside(65537), None);
        for id in [0, 999, 1001, 99_999, 165_536] {
            assert_eq!(map.inside(id), None);
        }
        let last = IdMap::new(vec![IdRange { inside: 0, outside: u32::MAX - 1, count: 1 }]).unwrap();
        assert_eq!(last.outside(0), Some(u32::MAX - 1));
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for text in ["", "0", "0:1", "0:1:2:3", "a:b:c", "-1:0:1", "0:0:4294967296"] {
            assert!(matches!(map(text), Err(IdMapError::Malformed(_))), "{text:?}");
        }
        for text in ["0:0:0", "1:0:4294967295", "0:4294967295:1"] {
            assert!(matches!(map(text), Err(IdMapError::OutOfRange(_))), "{text:?}");
        }
        for text in ["0:0:2,1:10:1", "0:10:2,5:11:1", "5:5:1,0:100:10"] {
            assert!(matches!(map(text), Err(IdMapError::Overlap(..))), "{text:?}");
        }
        assert_eq!(IdMap::new(Vec::new()), Err(IdMapError::Empty));
    }
}
