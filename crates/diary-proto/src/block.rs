//! A block: whole stored lines, byte for byte as on disk. Walking over it checks every line and tells
//! where entries are missing.

use crate::entry::{SealedLine, StoredLine, parse_number};
use crate::seal::Seal;

/// What a walk meets next; `L` is an entry's line, as far as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<L> {
    /// A sound entry, the next in order.
    Entry(L),
    /// Entries that are missing or damaged.
    Gap(Gap),
}

/// The seqs of entries that cannot be had, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first missing seq.
    pub first: u64,
    /// The last missing seq.
    pub last: u64,
}

impl Gap {
    /// Appends it as a note, `# gap FIRST..LAST WHY`: what stands for it among lines that are not dense. `why` has no
    /// TAB and no line feed.
    pub fn write_note(self, why: &str, out: &mut Vec<u8>, seal: Seal) {
        let start = out.len();
        out.extend_from_slice(format!("# gap {}..{} {why}\t", self.first, self.last).as_bytes());
        seal.write(out, start);
    }

    /// The gap that a valid note (without its line feed) tells.
    pub fn of_note(line: &[u8], seal: Seal) -> Option<Self> {
        let range = line.strip_prefix(b"# gap ")?.split(|&b| b == b' ').next()?;
        let dots = memchr::memmem::find(range, b"..")?;
        let (first, last) = (parse_number(&range[..dots])?, parse_number(&range[dots + 2..])?);
        (first <= last && seal.check(line).is_some()).then_some(Self { first, last })
    }
}

/// Follows the seqs of a range through its blocks. An unsound line is never given out: it shows up as
/// a gap as soon as a later sound one, or [`finish`](Self::finish), tells how wide it is.
#[derive(Debug, Clone)]
pub struct Walker {
    next: u64,
    seal: Seal,
}

impl Walker {
    /// A walk over the lines of the journal with this seal. Its first entry should be `first`.
    pub fn new(first: u64, seal: Seal) -> Self {
        Self { next: first, seal }
    }

    /// What its lines are sealed with.
    pub fn seal(&self) -> Seal {
        self.seal
    }

    /// The seq that should come next.
    pub fn next_seq(&self) -> u64 {
        self.next
    }

    /// Walks over the lines of one block, giving each step to `visit`.
    pub fn walk<'a>(&mut self, block: &'a [u8], visit: impl FnMut(Step<StoredLine<'a>>)) {
        let seal = self.seal;
        let read = |line| StoredLine::parse(line, seal).ok().map(|stored| (stored.seq, stored));
        self.walk_with(block, read, visit);
    }

    /// The same for who passes entries on: each line's checksum and seq are checked, and its fields are left
    /// unread. It is several times as fast. What `sound` does not take is damage too.
    pub fn pass<'a>(
        &mut self,
        block: &'a [u8],
        sound: impl Fn(&SealedLine<'a>) -> bool,
        visit: impl FnMut(Step<SealedLine<'a>>),
    ) {
        let seal = self.seal;
        let read = |line| SealedLine::check(line, seal).filter(&sound).map(|sealed| (sealed.seq, sealed));
        self.walk_with(block, read, visit);
    }

    fn walk_with<'a, L>(
        &mut self,
        block: &'a [u8],
        read: impl Fn(&'a [u8]) -> Option<(u64, L)>,
        mut visit: impl FnMut(Step<L>),
    ) {
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', block) {
            let line = &block[from..end];
            from = end + 1;
            // Notes and headers are no entries, and damage is told by the next one. A sound line with a seq that has passed is a stray copy; what it says was said already.
            let Some((seq, line)) = read(line).filter(|(seq, _)| *seq >= self.next) else { continue };
            if seq > self.next {
                visit(Step::Gap(Gap { first: self.next, last: seq - 1 }));
            }
            self.next = seq + 1;
            visit(Step::Entry(line));
        }
    }

    /// Ends the walk of a range whose last entry is `last`: the gap at its end, if there is one.
    pub fn finish(&mut self, last: u64) -> Option<Gap> {
        let gap = (self.next <= last).then_some(Gap { first: self.next, last });
        self.next = self.next.max(last.saturating_add(1));
        gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Author, NewLine, is_note};

    const SEAL: Seal = Seal::PLAIN;

    fn block(seqs: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let author = Author::new("a").unwrap();
        let mut out = Vec::new();
        for seq in seqs {
            let time = b"2026-11-21T08:15:02.123456+08:00";
            NewLine::new(seq, time, &author, "t").write(&mut out, SEAL);
        }
        out
    }

    fn check(block: &[u8], first: u64, last: u64, expected: &str) {
        let mut walker = Walker::new(first, SEAL);
        let mut seen = Vec::new();
        walker.walk(block, |step| {
            seen.push(match step {
                Step::Entry(line) => line.seq.to_string(),
                Step::Gap(gap) => format!("gap {}..{}", gap.first, gap.last),
            });
        });
        let mut passed = Vec::new();
        Walker::new(first, SEAL).pass(
            block,
            |_| true,
            |step| {
                passed.push(match step {
                    Step::Entry(line) => line.seq.to_string(),
                    Step::Gap(gap) => format!("gap {}..{}", gap.first, gap.last),
                });
            },
        );
        assert_eq!(passed, seen);
        seen.extend(walker.finish(last).map(|gap| format!("gap {}..{}", gap.first, gap.last)));
        assert_eq!(seen.join(" "), expected);
    }

    #[test]
    fn gaps_are_found_and_nothing_comes_twice() {
        check(&block(1..=3), 1, 3, "1 2 3");
        check(&block([1, 3]), 1, 5, "1 gap 2..2 3 gap 4..5");
        check(&block([2, 3]), 1, 3, "gap 1..1 2 3");
        check(&block([1, 1, 2, 1]), 1, 2, "1 2");
        check(b"", 4, 6, "gap 4..6");
        check(b"", 4, 3, "");
    }

    #[test]
    fn a_gap_is_read_back_from_its_note() {
        let gap = Gap { first: 3, last: 17 };
        let mut note = Vec::new();
        gap.write_note("lost", &mut note, SEAL);
        assert!(note.starts_with(b"# gap 3..17 lost\t"));
        let note = note.strip_suffix(b"\n").unwrap();
        assert!(is_note(note, SEAL));
        assert_eq!(Gap::of_note(note, SEAL), Some(gap));
        assert_eq!(Gap::of_note(note, Seal::of_journal(1)), None);
        for other in
            ["# a note", "# gap ", "# gap 3", "# gap 3..", "# gap 3..2 x", "# gap -3..4 x", "gap 1..2 x"]
        {
            let mut other = other.as_bytes().to_vec();
            SEAL.write(&mut other, 0);
            assert_eq!(Gap::of_note(other.trim_ascii_end(), SEAL), None, "{other:?}");
        }
    }

    #[test]
    fn an_unsound_line_is_a_gap_and_a_note_is_nothing() {
        let mut bytes = block(1..=3);
        let second = memchr::memchr(b'\n', &bytes).unwrap() + 3;
        bytes[second] ^= 1;
        check(&bytes, 1, 3, "1 gap 2..2 3");
        check(&block([1, u64::MAX]), 1, 1, "1");
        let mut noted = b"# a note ".to_vec();
        SEAL.write(&mut noted, 0);
        noted.extend(block(1..=1));
        check(&noted, 1, 1, "1");
    }

    #[test]
    fn a_line_of_another_journal_is_a_gap() {
        let (own, other) = (Seal::of_journal(1), Seal::of_journal(2));
        let author = Author::new("a").unwrap();
        let time = b"2026-11-21T08:15:02.123456+08:00";
        let mut lines = Vec::new();
        for (seq, seal) in [(1, own), (2, other), (3, own)] {
            NewLine::new(seq, time, &author, "t").write(&mut lines, seal);
        }
        let mut seen = Vec::new();
        Walker::new(1, own).walk(&lines, |step| {
            seen.push(match step {
                Step::Entry(line) => (line.seq, line.seq),
                Step::Gap(Gap { first, last }) => (first + 100, last + 100),
            });
        });
        assert_eq!(seen, [(1, 1), (102, 102), (3, 3)]);
    }
}
