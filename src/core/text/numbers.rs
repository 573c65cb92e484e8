//! Numbers as people write them.

/// `1234567` as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 entry`, `1,234 entries`.
pub fn counted(number: u64, one: &str, several: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { several })
}

/// A number with an optional K, M, G or T (powers of 1024).
///
/// # Errors
/// What was expected.
pub fn parse_size(number: &str) -> Result<u64, String> {
    let wrong = || format!("{number:?}: expected a number, with K, M, G or T for powers of 1024, like 10G");
    let shift = match number.bytes().last() {
        Some(b'K' | b'k') => 10,
        Some(b'M' | b'm') => 20,
        Some(b'G' | b'g') => 30,
        Some(b'T' | b't') => 40,
        _ => 0,
    };
    let digits = if shift == 0 { number } else { &number[..number.len() - 1] };
    let value: u64 = digits.parse().map_err(|_| wrong())?;
    value.checked_mul(1 << shift).ok_or_else(wrong)
}

/// The first two numbers of a version, whatever is between and behind them: `1.9-g12345678`, `6.1.0-18-amd64`.
pub(crate) fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_several() {
        assert_eq!(["0", "1,234,567"], [count(0), count(1_234_567)]);
        let entries = [0, 1, 2, 1000].map(|number| counted(number, "entry", "entries"));
        assert_eq!(entries, ["0 entries", "1 entry", "2 entries", "1,000 entries"]);
    }
}
