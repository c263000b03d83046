//! What a search looks for, with smart case: a text without capitals finds any case.

use std::sync::OnceLock;

use diary_proto::entry::StoredLine;
use diary_proto::escape::escape;
use regex::bytes::{Regex, RegexBuilder};

/// Characters that the probe looks for: more would make it no faster, and large.
const PROBE_MAX_CHARS: usize = 64;

/// Bytes that the probe may take.
const PROBE_MAX_BYTES: usize = 256 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Needle {
    text: String,
    any_case: bool,
    /// Finds its beginning in stored lines, where it is escaped, and maybe more: every hit is looked at again.
    /// Made when it is first needed, on a thread that may take its time. `None` if it would be too large.
    probe: OnceLock<Option<Regex>>,
}

impl Needle {
    pub(crate) fn new(text: &str) -> Self {
        let any_case = !text.chars().any(char::is_uppercase);
        Self { text: text.to_owned(), any_case, probe: OnceLock::new() }
    }

    fn make_probe(&self) -> Option<Regex> {
        let beginning: String = self.text.chars().take(PROBE_MAX_CHARS).collect();
        let escaped = escape(&beginning);
        let pattern = if self.any_case { with_every_case(&escaped) } else { regex::escape(&escaped) };
        RegexBuilder::new(&pattern).case_insensitive(self.any_case).size_limit(PROBE_MAX_BYTES).build().ok()
    }

    /// Appends every line of `page` that has it in its text. The first time takes up to a millisecond more.
    pub(crate) fn find_lines(&self, page: &[u8], lines: &mut Vec<u8>) {
        let mut from = 0;
        while let Some(at) = self.probe_at(page, from) {
            let start = memchr::memrchr(b'\n', &page[..at]).map_or(0, |end| end + 1);
            let end = memchr::memchr(b'\n', &page[at..]).map_or(page.len(), |length| at + length);
            if StoredLine::parse(&page[start..end]).is_ok_and(|stored| self.is_in(&stored.unescaped())) {
                lines.extend_from_slice(&page[start..end]);
                lines.push(b'\n');
            }
            from = end + 1;
        }
    }

    /// The next place, from `from` on, where it may be.
    fn probe_at(&self, page: &[u8], from: usize) -> Option<usize> {
        if from >= page.len() {
            return None;
        }
        match self.probe.get_or_init(|| self.make_probe()) {
            Some(probe) => probe.find_at(page, from).map(|found| found.start()),
            None => Some(from),
        }
    }

    fn is_in(&self, text: &str) -> bool {
        if self.any_case { text.to_lowercase().contains(&self.text) } else { text.contains(&self.text) }
    }
}

/// A pattern that finds everything whose lower case is `escaped`. Only one capital has a lower case of two
/// characters: U+0130, an I with a dot, becomes an i and a dot.
fn with_every_case(escaped: &str) -> String {
    let mut pattern = String::new();
    for c in escaped.chars() {
        match c {
            'i' => pattern.push_str("[i\u{130}]"),
            '\u{307}' => pattern.push_str("\u{307}?"),
            c => pattern.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use diary_proto::Author;
    use diary_proto::entry::NewLine;
    use proptest::prelude::*;

    use super::*;

    fn page(texts: &[&str]) -> Vec<u8> {
        let author = Author::new("nadel").unwrap();
        let time = b"2026-11-21T08:15:02.123456+08:00";
        let mut page = Vec::new();
        for (seq, text) in (1..).zip(texts) {
            NewLine { seq, time, at: None, author: &author, text, index: 0, key: None }.write(&mut page);
        }
        page
    }

    fn found(needle: &str, texts: &[&str]) -> Vec<u64> {
        let mut lines = Vec::new();
        Needle::new(needle).find_lines(&page(texts), &mut lines);
        let lines = lines.split(|&b| b == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| StoredLine::parse(line).unwrap().seq).collect()
    }

    #[test]
    fn small_letters_find_any_case_and_capitals_their_own() {
        let texts = ["Nadel", "nadel", "im Heu", "NADEL, Nadel", "今天 Ärger", "ärger\nzwei", "a\\nb"];
        assert_eq!(found("nadel", &texts), [1, 2, 4]);
        assert_eq!(found("Nadel", &texts), [1, 4]);
        assert_eq!(found("ärger", &texts), [5, 6]);
        assert_eq!(found("天", &texts), [5]);
        assert_eq!(found("\n", &texts), [6]);
        assert_eq!(found("\\n", &texts), [7]);
        // What is found beside the text does not count.
        assert_eq!(found("2026", &texts), Vec::<u64>::new());
        assert_eq!(found("i", &["\u{130}stanbul", "I", "x"]), [1, 2]);
        assert_eq!(found("i\u{307}", &["\u{130}stanbul"]), [1]);
        assert_eq!(found("k", &["\u{212a}"]), [1]);
    }

    #[test]
    fn a_long_text_is_found_whole() {
        let long = "ärger ".repeat(10_000);
        let other = format!("{}x", &long[..long.len() - 1]);
        let needle = Needle::new(&long);
        assert_eq!(found(&long, &[&long, &other, &long.to_uppercase()]), [1, 3]);
        let mut lines = Vec::new();
        needle.find_lines(&page(&["x"]), &mut lines);
        assert!(needle.probe.get().is_some_and(Option::is_some), "its probe is small enough to be made");
    }

    proptest! {
        #[test]
        fn the_probe_misses_nothing(text in "\\PC{1,12}", from in 0..12_usize, length in 1..6_usize, lower: bool) {
            let needle: String = text.chars().skip(from).take(length).collect();
            let needle = if lower { needle.to_lowercase() } else { needle };
            prop_assume!(!needle.is_empty());
            let is_in = Needle::new(&needle).is_in(&text);
            prop_assert_eq!(found(&needle, &[&text]).len(), usize::from(is_in));
        }
    }
}
