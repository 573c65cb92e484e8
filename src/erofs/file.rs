//! How a regular file says where its content is.
//!
//! A file in one piece that another device has is addressed by one block number, in the address space that all devices share, where it is
//! small and the kernel alone is to read it: its inode is all that must be read. A larger one, and one of several pieces or with holes, is cut into
//! chunks of equal size, as large as its pieces allow, each with the number of a device and a block there. What the image carries itself is written block by block
//! behind the metadata; if that is all of a file, its end may stand right behind the inode.

use super::contents::Piece;
use super::options::{Device, Options};

/// Files up to this size are addressed by one block number. Reading large ones cold is slower so.
const FLAT_UP_TO: u64 = 4096;
/// Bytes of addresses that nobody minds.
const FEW_ADDRESSES: u64 = 64 << 10;
/// Chunk addresses of one file: 128 MiB of them.
pub(super) const MOST_CHUNKS: u64 = 1 << 24;
/// The largest chunk, as a logarithm, in blocks.
const LARGEST_CHUNK: u32 = 31;
/// Bytes of a chunk's address.
pub(super) const CHUNK_ADDRESS: u64 = 8;

/// How a file's content is addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Address {
    /// There is none.
    Empty,
    /// In one piece in a device.
    Flat,
    /// In one piece in the image.
    Carried,
    /// In chunks of so many blocks, as a logarithm.
    Chunks(u32),
}

/// What is wrong with a file's pieces.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    Unaligned(Piece),
    TooFragmented(u64),
    Pieces(String),
}

/// A file's content.
#[derive(Debug, Clone, Copy)]
pub(super) struct File<'p> {
    size: u64,
    pieces: &'p [Piece],
    /// The block's size, as a logarithm.
    bits: u32,
}

/// Chunks of a file that are addressed alike, from the first to before the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) end: u64,
    pub(super) what: What,
}

/// Where chunks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Hole,
    /// The image carries them.
    Carried,
    /// In a device, from this block on.
    Device(u16, u64),
}

/// Joins pieces that continue one another.
pub(super) fn join(pieces: &mut Vec<Piece>) {
    pieces.retain(|piece| piece.length > 0);
    pieces.dedup_by(|next, piece| {
        let continues = next.device == piece.device
            && Some(next.logical) == piece.logical.checked_add(piece.length)
            && Some(next.offset) == piece.offset.checked_add(piece.length);
        if continues {
            piece.length = piece.length.saturating_add(next.length);
        }
        continues
    });
}

impl<'p> File<'p> {
    /// `pieces` are joined.
    pub(super) fn new(size: u64, pieces: &'p [Piece], bits: u32) -> Self {
        Self { size, pieces, bits }
    }

    /// Checks the pieces.
    pub(super) fn address(self, options: &Options) -> Result<Address, Problem> {
        self.check(&options.devices)?;
        match self.pieces {
            _ if self.size == 0 => Ok(Address::Empty),
            [one] if one.length == self.size && one.device == Piece::CARRIED => Ok(Address::Carried),
            [one] if one.length == self.size && self.size <= FLAT_UP_TO && !options.for_erofsfuse => Ok(Address::Flat),
            _ => self.chunk_bits().map(Address::Chunks),
        }
    }

    fn check(self, devices: &[Device]) -> Result<(), Problem> {
        let block = 1u64 << self.bits;
        let mut before = 0;
        for piece in self.pieces {
            let end = piece.logical.checked_add(piece.length).filter(|&end| end <= self.size);
            let Some(end) = end.filter(|_| piece.logical >= before) else {
                return Err(Problem::Pieces(format!(
                    "its {} bytes from byte {} on are not in order, or not in the file of {} bytes",
                    piece.length, piece.logical, self.size
                )));
            };
            before = end;
            if piece.device == Piece::CARRIED {
                continue;
            }
            let device = devices.get(usize::from(piece.device) - 1);
            let there = piece.offset.checked_add(piece.length).zip(device);
            if there.is_none_or(|(end, device)| end > device.bytes) {
                return Err(Problem::Pieces(format!(
                    "{} bytes from byte {} on are not in device {}",
                    piece.length, piece.offset, piece.device
                )));
            }
            let ends_within = if end == self.size { 0 } else { end };
            if !(piece.logical | piece.offset | ends_within).is_multiple_of(block) {
                return Err(Problem::Unaligned(*piece));
            }
        }
        Ok(())
    }

    /// Whether it lies in devices, and addresses would take more than its bytes.
    pub(super) fn is_scattered(self) -> bool {
        if self.pieces.len() < 2 && self.pieces.first().is_none_or(|piece| piece.length == self.size) {
            return false;
        }
        let addresses = self.chunks(self.most_bits()).saturating_mul(CHUNK_ADDRESS);
        let bytes: u64 = self.pieces.iter().map(|piece| piece.length).fold(0, u64::saturating_add);
        self.pieces.iter().all(|piece| piece.device != Piece::CARRIED) && addresses > bytes.max(FEW_ADDRESSES)
    }

    /// The size of the largest chunks that there can be: borders of what lies in devices must be borders of chunks.
    fn most_bits(self) -> u32 {
        let in_devices = self.pieces.iter().filter(|piece| piece.device != Piece::CARRIED);
        let borders = in_devices
            .fold(0, |borders, piece| borders | piece.logical | if piece.end() == self.size { 0 } else { piece.end() });
        let whole = self.size.div_ceil(1 << self.bits).checked_next_power_of_two().map_or(63, u64::trailing_zeros);
        borders.trailing_zeros().saturating_sub(self.bits).min(whole).min(LARGEST_CHUNK)
    }

    /// The size of chunks with which addresses and what the image carries are smallest together.
    fn chunk_bits(self) -> Result<u32, Problem> {
        // Around what is carried there may be zeros.
        let most = self.most_bits();
        let least = (0..=most).find(|&bits| self.chunks(bits) <= MOST_CHUNKS);
        let least = least.ok_or_else(|| Problem::TooFragmented(self.chunks(most)))?;
        let cost = |&bits: &u32| {
            let addresses = self.chunks(bits).saturating_mul(CHUNK_ADDRESS);
            addresses.saturating_add(self.carried_blocks(bits) << self.bits)
        };
        if self.pieces.iter().all(|piece| piece.device != Piece::CARRIED) {
            return Ok(most);
        }
        Ok((least..=most).rev().min_by_key(cost).unwrap_or(most))
    }

    /// How many chunks there are.
    pub(super) fn chunks(self, bits: u32) -> u64 {
        self.size.div_ceil(1 << (self.bits + bits))
    }

    /// How many blocks of it the image carries.
    pub(super) fn carried_blocks(self, bits: u32) -> u64 {
        let carried = self.runs(bits).filter(|run| run.what == What::Carried);
        carried.map(|run| self.blocks_of(run, bits)).sum()
    }

    /// Blocks of a run: the last chunk ends with the file.
    pub(super) fn blocks_of(self, run: Run, bits: u32) -> u64 {
        let end = (run.end << bits).min(self.size.div_ceil(1 << self.bits));
        end - (run.first << bits)
    }

    /// All chunks, in order.
    pub(super) fn runs(self, bits: u32) -> impl Iterator<Item = Run> + 'p {
        let shift = self.bits + bits;
        let count = self.chunks(bits);
        let mut pieces = self.pieces.iter();
        let mut next: Option<Run> = None;
        let mut at = 0;
        std::iter::from_fn(move || {
            while next.is_none() {
                let Some(piece) = pieces.next() else { break };
                // A chunk may have begun with the piece before.
                let first = (piece.logical >> shift).max(at);
                let end = piece.end().div_ceil(1 << shift);
                let what = match piece.device {
                    Piece::CARRIED => What::Carried,
                    device => What::Device(device, piece.offset >> self.bits),
                };
                next = (first < end).then_some(Run { first, end, what });
            }
            let run = match next {
                Some(run) if run.first == at => next.take()?,
                Some(run) => Run { first: at, end: run.first, what: What::Hole },
                None if at < count => Run { first: at, end: count, what: What::Hole },
                None => return None,
            };
            at = run.end;
            Some(run)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::erofs::Shape;

    fn piece(logical: u64, length: u64, device: u16, offset: u64) -> Piece {
        Piece { logical, length, device, offset }
    }

    fn options() -> Options {
        let devices = vec![Device { tag: [0; 64], bytes: 1 << 40 }; 2];
        Options { devices, ..Options::new(Shape::Merged) }
    }

    fn address(size: u64, pieces: &[Piece]) -> Result<Address, Problem> {
        File::new(size, pieces, 9).address(&options())
    }

    #[test]
    fn small_files_in_one_piece_need_no_chunks() {
        assert_eq!(address(0, &[]), Ok(Address::Empty));
        assert_eq!(address(1, &[piece(0, 1, 1, 512)]), Ok(Address::Flat));
        assert_eq!(address(4096, &[piece(0, 4096, 2, 512)]), Ok(Address::Flat));
        assert_eq!(address(4097, &[piece(0, 4097, 2, 512)]), Ok(Address::Chunks(4)));
        assert_eq!(address(1 << 30, &[piece(0, 1 << 30, 0, 17)]), Ok(Address::Carried));
    }

    #[test]
    fn c7_for_erofsfuse_each_piece_names_its_device() {
        let options = Options { for_erofsfuse: true, ..options() };
        let address = |size, pieces: &[Piece]| File::new(size, pieces, 9).address(&options);
        assert_eq!(address(0, &[]), Ok(Address::Empty));
        assert_eq!(address(1, &[piece(0, 1, 1, 512)]), Ok(Address::Chunks(0)));
        assert_eq!(address(4096, &[piece(0, 4096, 2, 512)]), Ok(Address::Chunks(3)));
        assert_eq!(address(10, &[piece(0, 10, 0, 17)]), Ok(Address::Carried));
    }

    #[test]
    fn chunks_are_as_large_as_borders_allow() {
        let pieces = [piece(4096, 4096, 1, 512), piece(1 << 20, 100, 1, 8192)];
        assert_eq!(address((1 << 20) + 100, &pieces), Ok(Address::Chunks(3)));
        // All of it is a hole.
        assert_eq!(address(60 << 30, &[]), Ok(Address::Chunks(27)));
        assert_eq!(address(1 << 62, &[]), Ok(Address::Chunks(31)));
        let runs: Vec<Run> = File::new((1 << 20) + 100, &pieces, 9).runs(3).collect();
        let run = |first, end, what| Run { first, end, what };
        assert_eq!(
            runs,
            [
                run(0, 1, What::Hole),
                run(1, 2, What::Device(1, 1)),
                run(2, 256, What::Hole),
                run(256, 257, What::Device(1, 16))
            ]
        );
    }

    #[test]
    fn what_is_carried_may_begin_and_end_anywhere() {
        let pieces = [piece(100, 100, 0, 0), piece(300, 5, 0, 100), piece(5000, 1, 0, 105)];
        let file = File::new(10_000, &pieces, 9);
        let runs: Vec<Run> = file.runs(0).collect();
        let run = |first, end, what| Run { first, end, what };
        assert_eq!(
            runs,
            [run(0, 1, What::Carried), run(1, 9, What::Hole), run(9, 10, What::Carried), run(10, 20, What::Hole)]
        );
        assert_eq!(file.carried_blocks(0), 2);
        // A few bytes at the end of 60 GB cost neither a gigabyte of addresses nor one of zeros.
        let end = (60 << 30) - 7;
        let sparse = [piece(end, 7, 0, 0)];
        let file = File::new(60 << 30, &sparse, 12);
        let Ok(Address::Chunks(bits)) = file.address(&options()) else { panic!("{:?}", file.address(&options())) };
        assert!(file.chunks(bits) * CHUNK_ADDRESS + (file.carried_blocks(bits) << 12) < 2 << 20);
        // Where a few blocks at each end would ask for too many addresses, there are larger chunks.
        let ends = [piece(0, 1 << 40, 0, 0), piece((1 << 40) + 4096, 1, 0, 1 << 40)];
        let file = File::new((1 << 40) + 8192, &ends, 12);
        let Ok(Address::Chunks(bits)) = file.address(&options()) else { panic!("{:?}", file.address(&options())) };
        assert!(file.chunks(bits) <= MOST_CHUNKS);
    }

    #[test]
    fn what_takes_more_addresses_than_bytes_is_scattered() {
        let is_scattered = |size, pieces: &[Piece]| File::new(size, pieces, 9).is_scattered();
        assert!(is_scattered(60 << 30, &[piece(512, 512, 1, 0)]));
        assert!(!is_scattered(60 << 30, &[piece(512, 512, 0, 0)]));
        assert!(!is_scattered(60 << 30, &[]) && !is_scattered(60 << 30, &[piece(0, 60 << 30, 1, 512)]));
        // As large as the addresses of blocks of 512 bytes are.
        assert!(is_scattered(1 << 30, &[piece(512, (16 << 20) - 512, 1, 0)]));
        assert!(!is_scattered(1 << 30, &[piece(512, 16 << 20, 1, 0)]));
        // Nobody minds a few.
        assert!(!is_scattered(4 << 20, &[piece(512, 512, 1, 0)]));
        // A piece that cannot be is an error later on.
        assert!(!is_scattered(10, &[piece(100, 10, 1, 0)]));
    }

    #[test]
    fn pieces_that_cannot_be_are_refused() {
        let unaligned = piece(0, 10, 1, 100);
        assert_eq!(address(10, &[unaligned]), Err(Problem::Unaligned(unaligned)));
        let short = piece(0, 10, 1, 512);
        assert_eq!(address(20, &[short]), Err(Problem::Unaligned(short)));
        for pieces in [
            &[piece(0, 11, 1, 512)][..],
            &[piece(0, 10, 3, 512)],
            &[piece(0, 10, 1, 1 << 40)],
            &[piece(0, 10, 1, u64::MAX)],
            &[piece(u64::MAX, 10, 1, 0)],
            &[piece(5, 5, 0, 0), piece(0, 5, 0, 0)],
            &[piece(0, 6, 0, 0), piece(5, 5, 0, 0)],
        ] {
            assert!(matches!(address(10, pieces), Err(Problem::Pieces(_))), "{pieces:?}");
        }
        let alternating: Vec<Piece> = (0..8).map(|n| piece(n << 31, 512, 1, n * 512)).collect();
        assert_eq!(address((7 << 31) + 512, &alternating), Err(Problem::TooFragmented((7 << 22) + 1)));
    }

    #[test]
    fn pieces_that_continue_are_joined() {
        let mut pieces = vec![piece(0, 5, 1, 512), piece(5, 0, 2, 0), piece(5, 5, 1, 517), piece(10, 5, 1, 1024)];
        join(&mut pieces);
        assert_eq!(pieces, [piece(0, 10, 1, 512), piece(10, 5, 1, 1024)]);
    }
}
