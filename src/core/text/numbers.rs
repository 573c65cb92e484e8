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
