//! CRC-32C (Castagnoli) as the kernel's `crc32c` counts it, the remainder not inverted at the end: the checksum of EROFS and ext4.

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut rest = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 1 == 1 { rest >> 1 ^ 0x82f6_3b78 } else { rest >> 1 };
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
};

/// Continues from `remainder`, which is all ones at the beginning.
pub(crate) fn crc32c(remainder: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(remainder, |rest, &byte| rest >> 8 ^ TABLE[usize::from(rest as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_is_that_of_the_catalogue() {
        // CRC-32/ISCSI, which inverts the remainder.
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(crc32c(!0, b"1234"), b"56789"), crc32c(!0, b"123456789"));
    }
}
