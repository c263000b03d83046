//! Ranges from their end: part by part, each of which is read in its own order.

use std::io;

use diary_proto::Date;

use super::{Range, Reader, View};
use crate::format::find::{Found, first_entry_from};

impl Reader {
    /// Leaves the entries from `first` to `last` of a range. What was read of it before `first` is left out.
    ///
    /// # Errors
    /// Those of reading day files.
    pub fn narrow(&self, range: &mut Range, first: u64, last: u64) -> io::Result<()> {
        let (first, last) = (first.max(range.first), last.min(range.last));
        if first > last {
            *range = Range::empty();
            return Ok(());
        }
        let view = self.view();
        if let Some(picked) = &mut range.picked {
            picked.narrow(first, last);
        } else {
            if first > range.first {
                let begin = self.range_from(&view, first)?;
                (range.date, range.offset) = (begin.date, begin.offset);
            }
            if last < range.last {
                let end = self.range_from(&view, last + 1)?;
                (range.end_date, range.end_offset) = (end.date, Some(end.offset));
            }
        }
        (range.first, range.last) = (first, last);
        Ok(())
    }

    /// Takes the last entries off a range: a part of about `max_bytes`, or one longer line. `None` if the range has no
    /// entries. The part begins with a valid line, except where the range itself begins, so what is missing between two
    /// parts is at the end of the first one.
    ///
    /// # Errors
    /// Those of reading day files. The range stays as it was.
    pub fn split_end(&self, range: &mut Range, max_bytes: usize) -> io::Result<Option<Range>> {
        let (view, mut rest) = (self.view(), range.clone());
        let mut part = None;
        while part.is_none() && rest.first <= rest.last {
            part = match &range.picked {
                None => Some(self.split_dense(&view, &mut rest, max_bytes)?),
                Some(picked) => match picked.last_place(rest.last) {
                    None => break,
                    Some((first, last)) => {
                        let mut place = self.range_from(&view, first)?;
                        self.narrow(&mut place, first, last)?;
                        rest.last = first - 1;
                        // What is archived has no place.
                        let is_there = place.first <= place.last;
                        let mut part =
                            is_there.then(|| self.split_dense(&view, &mut place, max_bytes)).transpose()?;
                        if let Some(part) = &mut part {
                            part.picked = Some(Box::new(picked.of_place((part.first, part.last))));
                            rest.last = part.first - 1;
                        }
                        part
                    }
                },
            };
        }
        *range = rest;
        Ok(part)
    }

    fn split_dense(&self, view: &View, range: &mut Range, max_bytes: usize) -> io::Result<Range> {
        while let Some(date) = range.end_date {
            if let Some(part) = self.split_file(view, range, date, max_bytes)? {
                return Ok(part);
            }
            // No line in it is valid.
            let before = view.days.partition_point(|&day| day < date).checked_sub(1);
            (range.end_date, range.end_offset) = (before.map(|at| view.days[at]), None);
        }
        let part = range.clone();
        range.last = range.first - 1;
        Ok(part)
    }

    /// The same for what ends in the file of the day `date`; `None` if no valid line begins there.
    fn split_file(
        &self,
        view: &View,
        range: &mut Range,
        date: Date,
        max_bytes: usize,
    ) -> io::Result<Option<Range>> {
        let file = match self.kept(date) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let end = match range.end_offset {
            Some(end) => end,
            None => view.end_of(date, &*file)?,
        };
        let begins_here = range.date == Some(date);
        let lowest = if begins_here { range.offset } else { 0 };
        let mut bytes = max_bytes.max(1) as u64;
        loop {
            let from = end.saturating_sub(bytes).max(lowest);
            let found = match from == lowest && begins_here {
                true => Some(Found { offset: lowest, seq: range.first }),
                false => first_entry_from(&*file, self.seal(), from, end, |seq| {
                    (range.first..=range.last).contains(&seq)
                })?,
            };
            if let Some(Found { offset, seq }) = found {
                let (date, end_offset) = (Some(date), Some(end));
                let part = Range { first: seq, date, offset, end_date: date, end_offset, ..range.clone() };
                (range.last, range.end_date, range.end_offset) = (seq - 1, date, Some(offset));
                return Ok(Some(part));
            }
            if from == lowest {
                return Ok(None);
            }
            bytes *= 2;
        }
    }
}
