//! The checksum of the superblock: CRC-32C (Castagnoli) as the kernel's `crc32c` counts it, the remainder not inverted at the
//! end. It is taken over some 3 KiB once for each image, so it needs no table.

const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Continues from `remainder`.
pub(super) fn crc32c(remainder: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(remainder, |remainder, &byte| {
        (0..8).fold(
            remainder ^ u32::from(byte),
            |rest, _| {
                if rest & 1 == 1 { rest >> 1 ^ POLYNOMIAL } else { rest >> 1 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_is_that_of_the_catalogue() {
        // CRC-32/ISCSI, which inverts the remainder.
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
    }
}
