//! Escaping, so that one entry is one line and any terminal is safe.
//!
//! | in the text | stored |
//! |---|---|
//! | backslash, LF, CR, TAB | `\\` `\n` `\r` `\t` |
//! | other C0 controls and DEL | `\xNN`, two lower-case hex digits |
//! | C1 controls, U+2028, U+2029, bidi overrides and isolates | `\u{N…}`, lower-case hex, no leading zero |
//!
//! Everything else stands for itself. Unescaping gives back exactly what was written; a string that
//! escaping cannot have made is an error.

use std::borrow::Cow;

/// Whether `c` cannot stand for itself in a stored text.
pub fn is_escaped(c: char) -> bool {
    matches!(c, '\\' | '\0'..='\x1f' | '\x7f'..='\u{9f}'
        | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Appends `text`, escaped, to `out`.
pub fn escape_into(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let (mut plain_from, mut at) = (0, 0);
    while let Some(stop) = next_stop(bytes, at) {
        let c = stopping_char(text, stop);
        at = stop + c.len_utf8();
        if is_escaped(c) {
            out.extend_from_slice(&bytes[plain_from..stop]);
            push_escape(c, out);
            plain_from = at;
        }
    }
    out.extend_from_slice(&bytes[plain_from..]);
}

/// `text`, escaped; for messages and logs.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len() + 16);
    escape_into(text, &mut out);
    Cow::Owned(String::from_utf8(out).expect("escaping keeps UTF-8"))
}

/// Whether escaping must look closer at what begins with this byte: ASCII that is escaped, and the first
/// bytes of the characters beyond ASCII that are (0xC2 for C1, 0xE2 for the general punctuation block).
const fn is_stop(byte: u8) -> bool {
    // Without short cuts, so that the compiler looks at many bytes at once.
    (byte < 0x20) | (byte == b'\\') | (byte == 0x7f) | (byte == 0xc2) | (byte == 0xe2)
}

/// Where the next such byte is, from `at` on.
fn next_stop(bytes: &[u8], mut at: usize) -> Option<usize> {
    const CHUNK_BYTES: usize = 16;
    fn has_stop<const BYTES: usize>(chunk: &[u8; BYTES]) -> bool {
        chunk.iter().fold(0, |any, &byte| any | u8::from(is_stop(byte))) != 0
    }
    while let Some(chunk) = bytes[at..].first_chunk::<{ 4 * CHUNK_BYTES }>()
        && !has_stop(chunk)
    {
        at += chunk.len();
    }
    while let Some(chunk) = bytes[at..].first_chunk::<CHUNK_BYTES>()
        && !has_stop(chunk)
    {
        at += chunk.len();
    }
    // What is left is less than a chunk, or begins with one that has a stop: the last chunk, which overlaps
    // what has been looked at, tells the first case at once.
    if bytes.len() - at < CHUNK_BYTES && bytes.last_chunk::<CHUNK_BYTES>().is_some_and(|last| !has_stop(last))
    {
        return None;
    }
    bytes[at..].iter().position(|&byte| is_stop(byte)).map(|skip| at + skip)
}

/// Whether a stored text has nothing in it that had to be escaped. It need not be UTF-8.
pub fn is_safe(stored: &[u8]) -> bool {
    let mut at = 0;
    while let Some(stop) = next_stop(stored, at) {
        let next = |place: usize| stored.get(stop + place).copied().unwrap_or_default();
        let safe = match (stored[stop], next(1), next(2)) {
            (b'\\', ..) => true,
            (0xc2, second, _) => second > 0x9f,
            // U+2028, U+2029, U+202A–202E; U+2066–2069.
            (0xe2, 0x80, third) => !matches!(third, 0xa8..=0xae),
            (0xe2, 0x81, third) => !matches!(third, 0xa6..=0xa9),
            (0xe2, ..) => true,
            _ => false,
        };
        if !safe {
            return false;
        }
        at = stop + 1;
    }
    true
}

fn stopping_char(text: &str, stop: usize) -> char {
    text[stop..].chars().next().expect("a stop byte starts a character")
}

fn push_escape(c: char, out: &mut Vec<u8>) {
    match c {
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        c if c.is_ascii() => out.extend_from_slice(format!("\\x{:02x}", u32::from(c)).as_bytes()),
        c => out.extend_from_slice(format!("\\u{{{:x}}}", u32::from(c)).as_bytes()),
    }
}

/// A string that [`escape`] cannot have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bad escape at byte {at}")]
pub struct BadEscape {
    /// Where, in bytes from the start.
    pub at: usize,
}

/// The text that was escaped to `escaped`.
///
/// # Errors
/// [`BadEscape`] names the first place that escaping cannot have made.
pub fn unescape(escaped: &str) -> Result<Cow<'_, str>, BadEscape> {
    let mut text = String::new();
    let (mut plain_from, mut at) = (0, 0);
    while let Some(stop) = next_stop(escaped.as_bytes(), at) {
        match stopping_char(escaped, stop) {
            '\\' => {
                let (c, taken) = read_escape(&escaped[stop..]).ok_or(BadEscape { at: stop })?;
                text.push_str(&escaped[plain_from..stop]);
                text.push(c);
                at = stop + taken;
                plain_from = at;
            }
            c if is_escaped(c) => return Err(BadEscape { at: stop }),
            c => at = stop + c.len_utf8(),
        }
    }
    if plain_from == 0 {
        return Ok(Cow::Borrowed(escaped));
    }
    text.push_str(&escaped[plain_from..]);
    Ok(Cow::Owned(text))
}

/// The character of the escape at the start of `rest`, and the escape's length.
fn read_escape(rest: &str) -> Option<(char, usize)> {
    let bytes = rest.as_bytes();
    let (c, taken) = match *bytes.get(1)? {
        b'\\' => ('\\', 2),
        b'n' => ('\n', 2),
        b'r' => ('\r', 2),
        b't' => ('\t', 2),
        b'x' => (char::from(u8::from_str_radix(rest.get(2..4)?, 16).ok()?), 4),
        b'u' => {
            let close = memchr::memchr(b'}', &bytes[..bytes.len().min(10)])?;
            let digits = rest.get(2..close)?.strip_prefix('{')?;
            (char::from_u32(u32::from_str_radix(digits, 16).ok()?)?, close + 1)
        }
        _ => return None,
    };
    // One spelling each: whatever escaping would write differently is not its work.
    let mut canonical = Vec::with_capacity(10);
    push_escape(c, &mut canonical);
    (is_escaped(c) && canonical == bytes[..taken]).then_some((c, taken))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_kind() {
        for (text, stored) in [
            ("plain 今天", "plain 今天"),
            ("a\\b", "a\\\\b"),
            ("a\nb\rc\td", "a\\nb\\rc\\td"),
            ("\u{1b}[31m\u{7f}", "\\x1b[31m\\x7f"),
            ("\u{9b}x\u{a0}", "\\u{9b}x\u{a0}"),
            ("\u{2028}\u{202e}\u{2066}\u{2026}", "\\u{2028}\\u{202e}\\u{2066}\u{2026}"),
        ] {
            assert_eq!(escape(text), stored);
            assert_eq!(unescape(stored).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_escaping_cannot_have_made() {
        for bad in [
            "\\",
            "\\q",
            "\\x4",
            "\\x41",
            "\\x1B",
            "\\u{41}",
            "\\u{0080}",
            "\\u{9B}",
            "\\u{80",
            "\\u{+80}",
            "\t",
            "\u{85}",
            "\\x0a",
            "\\x+1",
        ] {
            assert!(unescape(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn safe_is_what_needs_no_escape() {
        for c in (0..=0x3000).filter_map(char::from_u32) {
            assert_eq!(is_safe(format!("a{c}b").as_bytes()), c == '\\' || !is_escaped(c), "{c:?}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(text in any::<String>()) {
            let escaped = escape(&text);
            prop_assert!(!escaped.chars().any(|c| c != '\\' && is_escaped(c)));
            let back = unescape(&escaped).unwrap();
            prop_assert_eq!(back, text.as_str());
        }

        #[test]
        fn one_spelling(escaped in "(\\\\[\\\\nrtxu]|\\{|\\}|[0-9a-fA-F]|.){0,12}") {
            if let Ok(text) = unescape(&escaped) {
                let again = escape(&text).into_owned();
                prop_assert_eq!(again, escaped.as_str());
            }
        }
    }
}
