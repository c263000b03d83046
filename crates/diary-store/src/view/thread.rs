//! An entry with all that answers it: each entry right behind the one that it answers, or behind the answers to that
//! which are older.

use std::io;

use diary_proto::block::Gap;

use super::days::GAP_WORDS;
use super::{Range, Reader};

/// How far a thread has been read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Thread {
    root: u64,
    /// None past its end.
    next: Option<u64>,
    head: u64,
}

impl Reader {
    /// The entry `root`, which there is, with all that answers it now. `None` where it is not known any more what does.
    /// What is derived must have been loaded.
    pub fn thread(&self, root: u64) -> Option<Range> {
        let head = self.head().seq;
        let thread = Thread { root, next: Some(root), head };
        let known = self.shared.answers().knows_thread_of(root);
        known.then(|| Range { first: root, last: head, thread: Some(thread), ..Range::empty() })
    }

    /// The next lines of a thread, and notes in the place of those that are damaged or missing.
    pub(super) fn thread_page(
        &self,
        thread: &mut Thread,
        max_bytes: usize,
        page: &mut Vec<u8>,
    ) -> io::Result<bool> {
        page.clear();
        while let Some(seq) = thread.next {
            let before = page.len();
            let found = self.whole_line(seq, |line, _| {
                page.extend_from_slice(line);
                page.push(b'\n');
            })?;
            if found.is_none() {
                Gap { first: seq, last: seq }.write_note(GAP_WORDS, page, self.seal());
            }
            if before > 0 && page.len() > max_bytes {
                page.truncate(before);
                break;
            }
            thread.next = self.shared.answers().next_in_thread(thread.root, seq, thread.head);
        }
        Ok(!page.is_empty())
    }
}
