//! Shows bytes to people, with control characters escaped.

use std::fmt;

/// Bytes as text for a message, which cannot write to a terminal or turn its text around (rule S9): what is valid UTF-8
/// stands as it is, save backslashes, control characters, separators of lines and paragraphs, and characters that
/// change the direction of writing; these and all other bytes are escaped.
#[derive(Clone, Copy)]
pub struct Printable<'a>(pub &'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character == '\\' || steers_terminal(character) {
                    write!(formatter, "{}", character.escape_default())?;
                } else {
                    write!(formatter, "{character}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(formatter, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Whether a character would do something to a terminal, or to the order of the text around it, in place of being
/// shown.
pub fn steers_terminal(character: char) -> bool {
    // C0, DEL and C1 are control characters by Unicode; then those of its bidirectional algorithm (UAX #9), line and
    // paragraph separators, and the byte order mark.
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

impl fmt::Debug for Printable<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s9_what_would_steer_a_terminal_is_escaped() {
        let shown = |text: &str| Printable(text.as_bytes()).to_string();
        for character in
            ['\u{1b}', '\u{7f}', '\u{9b}', '\u{202e}', '\u{2066}', '\u{2028}', '\u{2029}', '\u{61c}', '\u{feff}']
        {
            assert_eq!(shown(&format!("a{character}b")), format!("a\\u{{{:x}}}b", character as u32));
        }
        assert_eq!(shown("caf\u{e9} \u{65e5}\u{672c}"), "caf\u{e9} \u{65e5}\u{672c}");
        assert_eq!(shown("a\\b\n"), "a\\\\b\\n");
    }
}
