//! Who writes an entry.

use std::fmt;

use unicode_width::UnicodeWidthChar;

use crate::escape::is_escaped;
use crate::limits::AUTHOR_MAX_BYTES;
use crate::refusal::{Code, Refusal};

/// A writer's name: 1 to 64 bytes of UTF-8 without white space or anything that a text escapes, of which something is to
/// be seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Author(Box<str>);

impl Author {
    /// Checks a name.
    ///
    /// # Errors
    /// A refusal that names the limit or the character.
    pub fn new(name: &str) -> Result<Self, Refusal> {
        if name.is_empty() {
            return Err(Refusal::new(Code::BadArgument, "a name cannot be empty"));
        }
        if name.len() > AUTHOR_MAX_BYTES {
            let message =
                format!("a name can have at most {AUTHOR_MAX_BYTES} bytes; this one has {}", name.len());
            return Err(Refusal::new(Code::TooLong, message));
        }
        if !is_name(name) {
            let message = "a name cannot contain spaces, control characters or backslashes";
            return Err(Refusal::new(Code::BadArgument, message));
        }
        if !name.chars().any(is_visible) {
            let message = "a name needs at least one visible character";
            return Err(Refusal::new(Code::BadArgument, message));
        }
        Ok(Self(name.into()))
    }

    /// The name on a stored line, where it may be one that is no longer taken.
    pub(crate) fn stored(name: &str) -> Option<Self> {
        (!name.is_empty() && name.len() <= AUTHOR_MAX_BYTES && is_name(name)).then(|| Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether all its characters may be in a name.
pub(crate) fn is_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
        || !name.chars().any(|c| c.is_whitespace() || is_escaped(c))
}

/// Whether a character leaves a mark by itself. Those without a width do not (what is ignorable by default, such as U+200B,
/// and marks on other characters), and some with one are blank.
fn is_visible(c: char) -> bool {
    const BLANK: &[char] = &[
        '\u{ad}',    // soft hyphen
        '\u{115f}',  // Hangul choseong filler
        '\u{2800}',  // Braille pattern blank
        '\u{3164}',  // Hangul filler
        '\u{ffa0}',  // halfwidth Hangul filler
        '\u{1d159}', // musical symbol null notehead
    ];
    c.width().is_some_and(|columns| columns > 0) && !BLANK.contains(&c)
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(Author::new("2001:db8::1").is_ok() && Author::new("小明").is_ok());
        for bad in ["", "a b", "a\u{3000}b", "a\\b", "a\nb", "\u{202e}a", &"x".repeat(65)] {
            assert!(Author::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_can_be_seen() {
        // Default_Ignorable_Code_Point (DerivedCoreProperties.txt of Unicode 17), without what a name refuses anyway.
        let ignorable = [
            (0xad, 0xad),
            (0x34f, 0x34f),
            (0x61c, 0x61c),
            (0x115f, 0x1160),
            (0x17b4, 0x17b5),
            (0x180b, 0x180f),
            (0x200b, 0x200f),
            (0x2060, 0x2065),
            (0x206a, 0x206f),
            (0x3164, 0x3164),
            (0xfe00, 0xfe0f),
            (0xfeff, 0xfeff),
            (0xffa0, 0xffa0),
            (0xfff0, 0xfff8),
            (0x1bca0, 0x1bca3),
            (0x1d173, 0x1d17a),
            (0xe0000, 0xe0fff),
        ];
        let ignorable = ignorable.iter().flat_map(|&(first, last)| first..=last).filter_map(char::from_u32);
        let marks = ['\u{301}', '\u{20dd}', '\u{5b0}', '\u{94d}', '\u{e31}', '\u{3099}'];
        for invisible in ignorable.chain(marks).chain(['\u{2800}', '\u{1d159}']) {
            for name in [format!("{invisible}"), format!("\u{200d}{invisible}{invisible}")] {
                let refusal = Author::new(&name).expect_err(&name.escape_unicode().to_string());
                assert!(refusal.message.contains("visible"), "{} {refusal}", name.escape_unicode());
            }
            assert!(Author::new(&format!("a{invisible}")).is_ok(), "{}", invisible.escape_unicode());
        }
        for name in ["a", "_", "-", "小明", "é", "e\u{301}", "नि", "👩‍👩‍👧", "❤\u{fe0f}", "ㅤ가", "ุก", "!", "⠁"]
        {
            assert!(Author::new(name).is_ok(), "{name}");
        }
    }
}
