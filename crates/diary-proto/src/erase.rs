//! Erasing what was typed. A character is what its writer sees as one: an extended grapheme cluster (UAX #29).

use unicode_segmentation::UnicodeSegmentation;

/// How far before the end of a line the last character may begin: no script and no emoji comes near it.
const CHARACTER_MAX_BYTES: usize = 256;

/// Takes the last character of a line away. Of a broken one, it takes what there is.
pub(crate) fn erase_character(line: &mut Vec<u8>) {
    let tail = &line[line.len().saturating_sub(CHARACTER_MAX_BYTES)..];
    let Some(last) = tail.utf8_chunks().last() else {
        return;
    };
    let bytes = match last.invalid() {
        [] => last.valid().graphemes(true).next_back().map_or(0, str::len),
        broken => broken.len(),
    };
    line.truncate(line.len() - bytes);
}

/// Whether a line ends in the middle of a character's bytes.
pub(crate) fn ends_inside_character(line: &[u8]) -> bool {
    let tail = &line[line.len().saturating_sub(3)..];
    let Some(first) = tail.iter().rposition(|&byte| byte >= 0xc0) else {
        return false;
    };
    std::str::from_utf8(&tail[first..]).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_character_goes_in_any_script() {
        for character in ["x", "天", "é", "e\u{301}", "नि", "👍🏽", "👩‍👩‍👧", "🇨🇳", "각", "ά", "\r", "\t", " "]
        {
            for before in ["", "a", "今天", "🇨🇳🇨🇳"] {
                let mut line = [before, character].concat().into_bytes();
                erase_character(&mut line);
                assert_eq!(line, before.as_bytes(), "{before} {character}");
            }
        }
        let mut long = "今天".repeat(1000).into_bytes();
        (0..1999).for_each(|_| erase_character(&mut long));
        assert_eq!(long, "今".as_bytes());
        let mut empty = Vec::new();
        erase_character(&mut empty);
        assert!(empty.is_empty());
    }

    #[test]
    fn of_a_broken_character_goes_what_there_is() {
        for (line, left) in
            [(&b"a\xe5\x9c"[..], &b"a"[..]), (b"a\xe5", b"a"), (b"\xa8", b""), (b"a\xffb", b"a\xff")]
        {
            let mut line = line.to_vec();
            erase_character(&mut line);
            assert_eq!(line, left);
        }
    }

    #[test]
    fn the_middle_of_a_character() {
        for inside in [&b"a\xe5"[..], b"\xe5\x9c", b"\xf0\x9f\x91", b"\xc3"] {
            assert!(ends_inside_character(inside), "{inside:?}");
        }
        for outside in [
            &b""[..],
            b"a",
            "天".as_bytes(),
            "👍".as_bytes(),
            b"\x9c",
            b"\xe5a",
            b"\xff",
            b"\xe5\x9c\xa8\x9c",
        ] {
            assert!(!ends_inside_character(outside), "{outside:?}");
        }
    }
}
