//! An entry with all that answers it, or with all its corrections.

use std::io;

use bytes::Bytes;
use diary_proto::block::Gap;
use diary_proto::{Relation, StoredLine};

use super::days::GAP_WORDS;
use super::{Range, Reader};
use crate::tables::related::Place;

/// Entries that are looked up before whoever asked gets a turn. Each takes some tens of microseconds where nothing waits
/// for the disk.
const LOOK_UPS_MAX: usize = 64;

/// Bytes that are read to find a correction.
const READ_AHEAD_BYTES: usize = 32 * 1024;

/// How far a thread has been read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Thread {
    root: u64,
    at: At,
    head: u64,
}

#[derive(Debug, Clone, Copy)]
enum At {
    /// This entry comes next.
    Entry(u64),
    /// What comes next in the thread is behind this.
    Behind(Place),
    /// The newest correction behind this one comes next.
    Version(u64),
    End,
}

impl Reader {
    /// The entry `root`, which there is, with all that answers it now: each entry right behind the one that it answers, or
    /// behind the answers to that which are older. `None` where it is not known any more what does. What is derived must
    /// have been loaded. As people see it: the newest correction of an entry comes right before that.
    pub fn thread(&self, root: u64) -> Option<Range> {
        let known = self.shared.related().knows_thread_of(root);
        known.then(|| self.of_thread(root, At::Entry(root)))
    }

    /// The entry `root`, which there is, and all its corrections, the oldest first. What is derived must have been loaded.
    pub fn versions(&self, root: u64) -> Range {
        self.of_thread(root, At::Version(0))
    }

    fn of_thread(&self, root: u64, at: At) -> Range {
        let head = self.head().seq;
        Range { first: root, last: head, thread: Some(Thread { root, at, head }), ..Range::empty() }
    }

    /// Whether every correction is known: not where what is derived could not be loaded.
    pub fn knows_corrections(&self) -> bool {
        self.shared.related().knows_corrections()
    }

    /// Whether there is room for more corrections in what is kept of them in memory.
    pub fn takes_corrections(&self) -> bool {
        self.shared.related().takes_corrections()
    }

    /// Those of `seqs`, which lie between `first` and `last`, that were corrected up to `head`.
    pub fn corrected(&self, range: (u64, u64), seqs: impl Iterator<Item = u64>, head: u64) -> Vec<u64> {
        self.shared.related().corrected(range, seqs, head)
    }

    /// Whether more than `count` of the entries between these were corrected.
    pub fn corrects_more_than(&self, count: usize, range: (u64, u64)) -> bool {
        self.shared.related().corrects_more_than(count, range)
    }

    /// How many corrections are among the entries from `first` to `head`.
    pub fn corrections_from(&self, first: u64, head: u64) -> u64 {
        self.shared.related().corrections_from(first, head)
    }

    /// The whole line of the newest correction of the entry `seq` up to `head`, of those that are sound.
    ///
    /// # Errors
    /// Those of reading day files.
    pub fn newest_correction(&self, seq: u64, head: u64) -> io::Result<Option<Bytes>> {
        let mut before = head;
        loop {
            let newest = self.shared.related().corrections_of(seq, 0, before).next_back();
            let Some(newest) = newest else { return Ok(None) };
            let line = self.correction(newest)?;
            if line.is_some() {
                return Ok(line);
            }
            before = newest - 1;
        }
    }

    /// The whole line of a correction, if it is sound. Reads on to others that are near.
    fn correction(&self, seq: u64) -> io::Result<Option<Bytes>> {
        if let Some(line) = self.shared.corrections.find(seq) {
            return Ok(Some(line));
        }
        let mut range = self.from(seq)?;
        let page = Bytes::from(self.next_page(&mut range, READ_AHEAD_BYTES)?.unwrap_or_default());
        let (mut lines, mut at) = (Vec::new(), 0);
        for line in page.split_inclusive(|&b| b == b'\n') {
            let bytes = line.strip_suffix(b"\n").unwrap_or(line);
            let stored = StoredLine::parse(bytes, self.seal()).ok();
            if let Some(stored) = stored.filter(|stored| stored.relation.is_some_and(Relation::is_correction))
            {
                // A copy, so that none keeps the whole page.
                lines.push((stored.seq, Bytes::copy_from_slice(&page[at..at + line.len()])));
            }
            at += line.len();
        }
        let found = lines.iter().find(|(found, _)| *found == seq).map(|(_, line)| line.clone());
        self.shared.corrections.add(lines);
        Ok(found)
    }

    /// The next lines of a thread, and notes in the place of those that are damaged or missing. There may be none of them
    /// before its end, too.
    pub(super) fn thread_page(
        &self,
        thread: &mut Thread,
        max_bytes: usize,
        page: &mut Vec<u8>,
    ) -> io::Result<bool> {
        page.clear();
        for _ in 0..LOOK_UPS_MAX {
            let related = self.shared.related();
            match thread.at {
                At::End => return Ok(!page.is_empty()),
                At::Behind(mut place) => {
                    thread.at = match related.next_in_thread(thread.root, &mut place, thread.head) {
                        None => At::Behind(place),
                        Some(next) => next.map_or(At::End, At::Entry),
                    };
                }
                At::Entry(seq) => {
                    drop(related);
                    if !self.push_line(seq, Some(thread.head), max_bytes, page)? {
                        break;
                    }
                    thread.at = At::Behind(Place::behind(seq));
                }
                At::Version(behind) => {
                    let next = match behind {
                        0 => Some(thread.root),
                        _ => related.corrections_of(thread.root, behind, thread.head).next(),
                    };
                    drop(related);
                    let Some(next) = next else {
                        thread.at = At::End;
                        continue;
                    };
                    if !self.push_line(next, None, max_bytes, page)? {
                        break;
                    }
                    thread.at = At::Version(next);
                }
            }
        }
        Ok(true)
    }

    /// Adds an entry to a page, or a note that it is damaged or missing; before it, its newest correction up to `shown`.
    /// False if it does not fit any more.
    fn push_line(
        &self,
        seq: u64,
        shown: Option<u64>,
        max_bytes: usize,
        page: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let before = page.len();
        match self.whole_line(seq, |line, _| [line, b"\n"].concat())? {
            Some(line) => {
                let newest = shown.map(|head| self.newest_correction(seq, head)).transpose()?.flatten();
                page.extend_from_slice(&newest.unwrap_or_default());
                page.extend_from_slice(&line);
            }
            None => Gap { first: seq, last: seq }.write_note(GAP_WORDS, page, self.seal()),
        }
        let fits = before == 0 || page.len() <= max_bytes;
        if !fits {
            page.truncate(before);
        }
        Ok(fits)
    }
}
