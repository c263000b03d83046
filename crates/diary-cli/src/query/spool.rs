//! What is printed later: only the newest of what comes, or all of it the other way round. It may be more than a
//! machine has memory, so all but the last part waits in a temporary file without a name.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use diary_client::{Entry, Event, Gap, Stored};
use diary_proto::Seal;
use diary_proto::entry::{NewLine, StoredLine};

/// Bytes of lines that are held in memory: enough for every answer that a person reads.
const PART_BYTES: usize = 1024 * 1024;

/// The lines of the temporary file are nobody else's, and of no journal.
const SEAL: Seal = Seal::PLAIN;

/// Events, as lines: an entry as it is stored, or `gap FIRST LAST`, or `damaged LINES`.
pub(crate) struct Spool {
    /// How many of the newest entries are wanted.
    newest: u64,
    part_bytes: usize,
    file: Option<File>,
    /// What is in the file, the oldest first.
    parts: VecDeque<Part>,
    /// Places in the file where nothing is any more.
    free: Vec<u64>,
    /// The newest lines.
    open: Vec<u8>,
    /// Entries among them.
    open_entries: u64,
}

/// Lines in the file.
struct Part {
    /// Counted in [`Spool::slot_bytes`].
    place: u64,
    bytes: usize,
    entries: u64,
}

impl Spool {
    /// For so many of the newest entries, and what is missing between them; `None` for all.
    pub(crate) fn new(newest: Option<u64>) -> Self {
        Self::with(newest, PART_BYTES)
    }

    fn with(newest: Option<u64>, part_bytes: usize) -> Self {
        let newest = newest.unwrap_or(u64::MAX);
        let (parts, free, open) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { newest, part_bytes, file: None, parts, free, open, open_entries: 0 }
    }

    /// Adds what came.
    ///
    /// # Errors
    /// Those of the temporary file.
    pub(crate) fn push(&mut self, event: &Event) -> io::Result<()> {
        write(event, &mut self.open);
        self.open_entries += u64::from(matches!(event, Event::Entry(_)));
        if self.open.len() >= self.part_bytes {
            self.forget();
            // Less than half would be written more often than it is worth.
            if self.open.len() >= self.part_bytes / 2 {
                self.close_part()?;
            }
        }
        Ok(())
    }

    /// Gives what is wanted, the oldest first or the newest first, for as long as `give` wants more.
    ///
    /// # Errors
    /// Those of the temporary file.
    pub(crate) fn give(mut self, reverse: bool, mut give: impl FnMut(&Event) -> bool) -> io::Result<()> {
        self.forget();
        let unwanted = self.unwanted();
        let last = self.parts.len();
        for turn in 0..=last {
            let number = if reverse { last - turn } else { turn };
            let lines = self.lines(number)?;
            let from = if number == 0 { end_of(unwanted, &lines) } else { 0 };
            let mut lines: Vec<&[u8]> = lines[from..].split_inclusive(|&byte| byte == b'\n').collect();
            if reverse {
                lines.reverse();
            }
            for line in lines {
                let event = read(line).ok_or_else(|| io::Error::other("it is not what was written"))?;
                if !give(&event) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Entries that are older than the wanted ones.
    fn unwanted(&self) -> u64 {
        let entries = self.parts.iter().map(|part| part.entries).sum::<u64>() + self.open_entries;
        entries.saturating_sub(self.newest)
    }

    /// Lets go of what is before the wanted entries, as far as that is cheap: what is left of it is in the first part.
    /// What is missing right before the oldest wanted one stays.
    fn forget(&mut self) {
        let mut unwanted = self.unwanted();
        while let Some(part) = self.parts.pop_front_if(|part| part.entries < unwanted) {
            unwanted -= part.entries;
            self.free.push(part.place);
        }
        if self.parts.is_empty() {
            self.open.drain(..end_of(unwanted, &self.open));
            self.open_entries -= unwanted;
        }
    }

    fn close_part(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile()?),
        };
        // Without a free place, the parts fill all of them.
        let place = self.free.pop().unwrap_or(self.parts.len() as u64);
        file.write_all_at(&self.open, place * Self::slot_bytes(self.part_bytes))?;
        self.parts.push_back(Part { place, bytes: self.open.len(), entries: self.open_entries });
        self.open.clear();
        self.open_entries = 0;
        Ok(())
    }

    /// The lines of a part; those in memory are the last.
    fn lines(&mut self, part: usize) -> io::Result<Vec<u8>> {
        let (Some(part), Some(file)) = (self.parts.get(part), &self.file) else {
            return Ok(std::mem::take(&mut self.open));
        };
        let mut lines = vec![0; part.bytes];
        file.read_exact_at(&mut lines, part.place * Self::slot_bytes(self.part_bytes))?;
        Ok(lines)
    }

    /// A place in the file has room for the line that made the part full, too; what is not used is a hole.
    fn slot_bytes(part_bytes: usize) -> u64 {
        2 * part_bytes as u64
    }
}

/// Where the first so many entries end.
fn end_of(mut entries: u64, lines: &[u8]) -> usize {
    let mut end = 0;
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        if entries == 0 {
            break;
        }
        end += line.len();
        entries -= u64::from(is_entry(line));
    }
    end
}

fn is_entry(line: &[u8]) -> bool {
    line.first().is_some_and(u8::is_ascii_digit)
}

fn write(event: &Event, out: &mut Vec<u8>) {
    match event {
        Event::Entry(Stored { entry, key, .. }) => {
            let time = &entry.time.to_bytes();
            let Entry { seq, own, day, author, text, .. } = entry;
            let (seq, own, day, key) = (*seq, *own, *day, *key);
            NewLine { seq, time, own, day, author, text, index: 0, key }.write(out, SEAL);
        }
        Event::Gap(Gap { first, last }) => out.extend_from_slice(format!("gap {first} {last}\n").as_bytes()),
        Event::Damaged { lines } => out.extend_from_slice(format!("damaged {lines}\n").as_bytes()),
    }
}

/// What [`write`] wrote.
fn read(line: &[u8]) -> Option<Event> {
    let line = line.strip_suffix(b"\n")?;
    if is_entry(line) {
        let line = StoredLine::parse(line, SEAL).ok()?;
        let entry = line.to_entry().ok()?;
        return Some(Event::Entry(Stored { entry, key: line.key, left: line.left.to_owned() }));
    }
    let words: Vec<&str> = std::str::from_utf8(line).ok()?.split(' ').collect();
    Some(match words[..] {
        ["gap", first, last] => Event::Gap(Gap { first: first.parse().ok()?, last: last.parse().ok()? }),
        ["damaged", lines] => Event::Damaged { lines: lines.parse().ok()? },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use diary_client::{Author, Key, Producer, Time};
    use diary_proto::{DayStart, OwnTime};

    use super::*;

    /// Entries that have everything, and every seventh event something that is missing.
    fn event(number: u64) -> Event {
        match number % 14 {
            5 => return Event::Gap(Gap { first: number, last: number + 2 }),
            12 => return Event::Damaged { lines: number },
            _ => {}
        }
        let time = Time::parse(b"2026-11-21T08:15:02.123456+08:00").unwrap();
        let at = Time::parse(b"2015-03-02T01:15:00.000000+08:00").unwrap();
        let own = number.is_multiple_of(3).then(|| OwnTime::new(at, DayStart::from_minutes(180).unwrap()));
        let day = number.is_multiple_of(5).then(|| "2026-11-20".parse().unwrap()).filter(|_| own.is_none());
        let key =
            number.is_multiple_of(2).then_some(Key { producer: Producer(0x6b1f_09c2), counter: number });
        let (author, text) = (Author::new("小明").unwrap(), format!("今天\n{}\t\\", "x".repeat(20)));
        let before = own.map_or_else(String::new, |own| format!("({}) ", own.at.minute()));
        let left = format!("{number} {time} 小明 {before}{}", diary_proto::escape::escape(&text));
        Event::Entry(Stored { entry: Entry { seq: number, time, own, day, author, text }, key, left })
    }

    /// The rule, said simply.
    fn expected(count: u64, newest: Option<u64>, reverse: bool) -> Vec<Event> {
        let mut events: VecDeque<Event> = (1..=count).map(event).collect();
        let entries = |events: &VecDeque<Event>| {
            events.iter().filter(|event| matches!(event, Event::Entry(_))).count() as u64
        };
        while newest.is_some_and(|newest| entries(&events) > newest) {
            events.pop_front();
        }
        if reverse { events.into_iter().rev().collect() } else { events.into() }
    }

    #[test]
    fn what_comes_back_is_what_was_wanted() {
        for part_bytes in [200, 300, 2000, PART_BYTES] {
            for count in [0, 1, 4, 5, 6, 40, 150] {
                for newest in [None, Some(0), Some(1), Some(2), Some(20), Some(40), Some(1000)] {
                    for reverse in [false, true] {
                        let mut spool = Spool::with(newest, part_bytes);
                        (1..=count).for_each(|number| spool.push(&event(number)).unwrap());
                        let mut given = Vec::new();
                        let give = |event: &Event| {
                            given.push(event.clone());
                            true
                        };
                        spool.give(reverse, give).unwrap();
                        let case = format!("{part_bytes} {count} {newest:?} {reverse}");
                        assert_eq!(given, expected(count, newest, reverse), "{case}");
                    }
                }
            }
        }
    }

    #[test]
    fn it_takes_no_more_of_the_disk_than_what_is_wanted() {
        let mut spool = Spool::with(Some(30), 400);
        (1..=10_000).for_each(|number| spool.push(&event(number)).unwrap());
        let file = spool.file.as_ref().expect("30 entries are more than a part").metadata().unwrap();
        assert!(file.len() < 40 * 400, "{}", file.len());
        assert!(spool.open.capacity() < 4000);
    }

    #[test]
    fn who_wants_no_more_gets_no_more() {
        let mut spool = Spool::with(None, 300);
        (1..=100).for_each(|number| spool.push(&event(number)).unwrap());
        let mut given = 0;
        let give = |_: &Event| {
            given += 1;
            given < 30
        };
        spool.give(true, give).unwrap();
        assert_eq!(given, 30);
    }
}
