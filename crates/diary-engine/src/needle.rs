//! What a search looks for: a filter's conditions, and what finds them fast in stored lines.

use std::sync::OnceLock;

use diary_proto::block::{Gap, Step, Walker};
use diary_proto::entry::{SealedLine, StoredLine};
use diary_proto::escape::escape;
use diary_proto::{Filter, Seal, Sieve};
use regex::bytes::{Regex, RegexBuilder};

/// Characters that the probe looks for. More would make it larger, not faster.
const PROBE_MAX_CHARS: usize = 64;

/// What a note says about a gap.
pub(crate) const GAP_WORDS: &str = "damaged or missing";

/// Each byte of a text takes so many: in the sieve, and in the program of the regular expression that finds it.
const PROBE_BYTES_PER_BYTE: usize = 8;

/// Bytes that the probe may take.
const PROBE_MAX_BYTES: usize = 256 * 1024;

/// A filter that is ready to search a journal with.
#[derive(Debug)]
pub struct Needle {
    sieve: Sieve,
    seal: Seal,
    /// Finds candidates in stored lines, where texts are escaped; the sieve decides. Built by the first search step, on
    /// a thread that may block. `None` if there is nothing to find, or if it would be too large.
    probe: OnceLock<Option<Regex>>,
}

impl Needle {
    /// A needle for `filter` in the lines of the journal with this seal.
    pub fn new(filter: &Filter, seal: Seal) -> Self {
        Self { sieve: Sieve::new(filter), seal, probe: OnceLock::new() }
    }

    /// Roughly the memory that it takes once it has looked at something, in bytes.
    pub fn held_bytes(&self) -> usize {
        let texts = self.sieve.contains().iter().chain(self.sieve.tags());
        texts.map(|text| text.text().len() * PROBE_BYTES_PER_BYTE).sum()
    }

    /// Whether the filter takes an entry with this author and text.
    pub(crate) fn takes(&self, author: &str, text: &str) -> bool {
        self.sieve.takes(author, text)
    }

    /// Appends every line of `page` that the filter takes. The first call takes up to a millisecond more.
    pub(crate) fn find_lines(&self, page: &[u8], lines: &mut Vec<u8>) {
        let mut from = 0;
        while let Some(at) = self.probe_at(page, from) {
            let start = memchr::memrchr(b'\n', &page[..at]).map_or(0, |end| end + 1);
            let end = memchr::memchr(b'\n', &page[at..]).map_or(page.len(), |length| at + length);
            if StoredLine::parse(&page[start..end], self.seal)
                .is_ok_and(|stored| self.sieve.takes(stored.author, &stored.unescaped()))
            {
                lines.extend_from_slice(&page[start..end]);
                lines.push(b'\n');
            }
            from = end + 1;
        }
    }

    /// The same, with a note in the place of each gap that `walker` meets; the gaps are also added to `gaps`. Checks every
    /// line of the page, where [`find_lines`](Self::find_lines) checks only hits.
    pub(crate) fn find_lines_and_gaps(
        &self,
        page: &[u8],
        walker: &mut Walker,
        lines: &mut Vec<u8>,
        gaps: &mut Vec<Gap>,
    ) {
        let (mut from, mut gap) = (0, None);
        let step = |step: Step<SealedLine<'_>>| match step {
            Step::Gap(met) => gap = Some(met),
            Step::Entry(line) => {
                if let Some(gap) = gap.take() {
                    let at = line.left.as_ptr().addr() - page.as_ptr().addr();
                    self.find_lines(&page[from..at], lines);
                    from = at;
                    gap.write_note(GAP_WORDS, lines, self.seal);
                    gaps.push(gap);
                }
            }
        };
        walker.pass(page, |_| true, step);
        self.find_lines(&page[from..], lines);
    }

    /// The same for lines that have notes in the place of gaps already.
    pub(crate) fn find_lines_among_notes(&self, page: &[u8], lines: &mut Vec<u8>, gaps: &mut Vec<Gap>) {
        for line in page.split_inclusive(|&b| b == b'\n') {
            match Gap::of_note(line.strip_suffix(b"\n").unwrap_or(line), self.seal) {
                Some(gap) => {
                    lines.extend_from_slice(line);
                    gaps.push(gap);
                }
                None => self.find_lines(line, lines),
            }
        }
    }

    /// The next candidate, from `from` on.
    fn probe_at(&self, page: &[u8], from: usize) -> Option<usize> {
        if from >= page.len() {
            return None;
        }
        match self.probe.get_or_init(|| probe(&self.sieve)) {
            Some(probe) => probe.find_at(page, from).map(|found| found.start()),
            None => Some(from),
        }
    }
}

/// Looks for the longest text or tag, because it is the rarest; without one, for the author.
fn probe(sieve: &Sieve) -> Option<Regex> {
    let longest = sieve.contains().iter().chain(sieve.tags()).max_by_key(|needle| needle.text().len());
    let (text, any_case) = match (longest, sieve.author()) {
        (Some(needle), _) => {
            let beginning: String = needle.text().chars().take(PROBE_MAX_CHARS).collect();
            (escape(&beginning).into_owned(), needle.any_case())
        }
        (None, Some(author)) => (format!(" {} ", author.text()), author.any_case()),
        (None, None) => return None,
    };
    let pattern = if any_case { with_every_case(&text) } else { regex::escape(&text) };
    RegexBuilder::new(&pattern).case_insensitive(any_case).size_limit(PROBE_MAX_BYTES).build().ok()
}

/// A pattern that finds everything whose lower case is `escaped`. Only one capital has a lower case of two characters:
/// U+0130, an I with a dot, becomes an i and a combining dot.
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
    use diary_proto::entry::NewLine;
    use diary_proto::{Author, Which};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const SEAL: Seal = Seal::PLAIN;

    fn page<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
        let time = b"2026-11-21T08:15:02.123456+08:00";
        let mut page = Vec::new();
        for (seq, (author, text)) in (1..).zip(entries) {
            let author = Author::new(author).unwrap();
            NewLine::new(seq, time, &author, text).write(&mut page, SEAL);
        }
        page
    }

    fn seqs(filter: &Filter, page: &[u8]) -> Vec<u64> {
        let mut lines = Vec::new();
        Needle::new(filter, SEAL).find_lines(page, &mut lines);
        let lines = lines.split(|&b| b == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| StoredLine::parse(line, SEAL).unwrap().seq).collect()
    }

    fn found(needle: &str, texts: &[&str]) -> Vec<u64> {
        seqs(&Filter::of_text(needle), &page(texts.iter().map(|&text| ("nadel", text))))
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
        assert_eq!(found(&long, &[&long, &other, &long.to_uppercase()]), [1, 3]);
        let needle = Needle::new(&Filter::of_text(long), SEAL);
        needle.find_lines(&page([("a", "x")]), &mut Vec::new());
        assert!(needle.probe.get().is_some_and(Option::is_some), "its probe is small enough to be made");
    }

    #[test]
    fn conditions_other_than_texts() {
        let page = page([("anna", "rain"), ("ben", "anna rain"), ("anna", "sun"), ("小明", "雨")]);
        let filter = |contains: &[&str], without: &[&str], author: Option<&str>| Filter {
            scope: Which::All.into(),
            contains: contains.iter().map(|&text| text.to_owned()).collect(),
            without: without.iter().map(|&text| text.to_owned()).collect(),
            author: author.map(|name| Author::new(name).unwrap()),
            tags: Vec::new(),
        };
        for (filter, expected) in [
            (filter(&[], &[], None), &[1, 2, 3, 4][..]),
            (filter(&[], &[], Some("anna")), &[1, 3]),
            (filter(&[], &[], Some("小明")), &[4]),
            (filter(&[], &[], Some("an")), &[]),
            (filter(&[], &[], Some("Anna")), &[]),
            (filter(&[], &["rain"], None), &[3, 4]),
            (filter(&["rain", "anna"], &[], None), &[2]),
            (filter(&["rain"], &["anna"], None), &[1]),
            (filter(&["rain"], &[], Some("ben")), &[2]),
        ] {
            assert_eq!(seqs(&filter, &page), expected, "{filter:?}");
        }
    }

    #[test]
    fn an_author_without_capitals_is_found_in_any_case() {
        let page = page([("Anna", "a"), ("ANNA", "a"), ("anna", "a"), ("joanna", "anna"), ("Ärger", "a")]);
        let by = |name: &str| Filter { author: Some(Author::new(name).unwrap()), ..Filter::default() };
        assert_eq!(seqs(&by("anna"), &page), [1, 2, 3]);
        assert_eq!(seqs(&by("Anna"), &page), [1]);
        assert_eq!(seqs(&by("ärger"), &page), [5]);
    }

    #[test]
    fn a_tag_is_found_as_a_whole() {
        let texts = ["a\n#Rain", "#rainbow #rain", "#rainbow", "rain", "雨 #雨，", "a#雨"];
        let page = page(texts.map(|text| ("a", text)));
        let tagged = |tags: &[&str]| Filter {
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            ..Filter::default()
        };
        assert_eq!(seqs(&tagged(&["#rain"]), &page), [1, 2]);
        assert_eq!(seqs(&tagged(&["#Rain"]), &page), [1]);
        assert_eq!(seqs(&tagged(&["#rain", "#rainbow"]), &page), [2]);
        assert_eq!(seqs(&tagged(&["#雨"]), &page), [5]);
    }

    #[test]
    fn gaps_stand_in_their_places() {
        let texts = ["rain", "rain", "sun", "rain", "sun", "rain"];
        let whole = page(texts.map(|text| ("a", text)));
        let sound = |line: &&[u8]| !line.starts_with(b"2 ") && !line.starts_with(b"5 ");
        let page: Vec<u8> = whole.split_inclusive(|&b| b == b'\n').filter(sound).flatten().copied().collect();
        let (mut lines, mut gaps, mut walker) = (Vec::new(), Vec::new(), Walker::new(1, SEAL));
        let needle = Needle::new(&Filter::of_text("rain"), SEAL);
        needle.find_lines_and_gaps(&page, &mut walker, &mut lines, &mut gaps);
        let begins = String::from_utf8(lines).unwrap();
        let begins: Vec<&str> = begins.lines().map(|line| &line[..8]).collect();
        assert_eq!(begins, ["1 2026-1", "# gap 2.", "4 2026-1", "# gap 5.", "6 2026-1"]);
        assert_eq!(gaps, [2, 5].map(|seq| Gap { first: seq, last: seq }));
    }

    proptest! {
        #[test]
        fn the_probe_misses_nothing(text in "\\PC{1,12}", from in 0..12_usize, length in 1..6_usize, lower: bool) {
            let needle: String = text.chars().skip(from).take(length).collect();
            let needle = if lower { needle.to_lowercase() } else { needle };
            prop_assume!(!needle.is_empty());
            let is_in = Sieve::new(&Filter::of_text(needle.as_str())).takes("nadel", &text);
            prop_assert_eq!(found(&needle, &[&text]).len(), usize::from(is_in));
        }

        /// What the server finds is what a client would keep of everything.
        #[test]
        fn a_filter_finds_what_it_takes_entry_by_entry(
            entries in vec(("[ab]", "[aAbB\n天 #]{1,6}"), 0..12),
            contains in vec("[aAbB\n天 ]{1,2}", 0..3),
            without in vec("[aAbB\n天 ]{1,2}", 0..3),
            author in proptest::option::of("[abc]"),
            tags in vec("#[aAbB]{1,2}", 0..2),
        ) {
            let author = author.map(|name| Author::new(&name).unwrap());
            let filter = Filter { scope: Which::All.into(), contains, without, author, tags };
            let sieve = Sieve::new(&filter);
            let page = page(entries.iter().map(|(author, text)| (author.as_str(), text.as_str())));
            let taken = (1..).zip(&entries).filter(|(_, (author, text))| sieve.takes(author, text));
            prop_assert_eq!(seqs(&filter, &page), taken.map(|(seq, _)| seq).collect::<Vec<u64>>());
        }
    }
}
