//! Where in the day files missing entries should be.

use std::io;
use std::ops::ControlFlow;

use diary_proto::Date;
use diary_proto::entry::{StoredLine, is_note, seq_of};

use super::{Reader, View};
use crate::format::day_file::Header;
use crate::format::lines::while_lines;

/// Where an entry should be that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Located {
    /// In this line of this day file, from 1, or before it.
    Line(Date, u64),
    /// Behind the last line of this one.
    Behind(Date),
    /// In this one, which cannot be read.
    Unreadable(Date, io::ErrorKind),
    /// There are no day files.
    Nowhere,
}

impl Reader {
    /// Where missing entries should be, each the first of a gap, in ascending order. Reads one day file after the
    /// other, each once and no further than to the last place in it.
    pub fn locate_all(&self, seqs: &[u64]) -> Vec<Located> {
        let view = self.view();
        let mut places = Vec::with_capacity(seqs.len());
        while let Some(&seq) = seqs.get(places.len()) {
            let Some(date) = self.file_of(&view, seq) else {
                places.resize(seqs.len(), Located::Nowhere);
                break;
            };
            let rest = &seqs[places.len()..];
            let in_file = rest.iter().take_while(|&&seq| self.file_of(&view, seq) == Some(date)).count();
            let in_file = &rest[..in_file.max(1)];
            match self.lines_of(&view, date, in_file) {
                Ok(lines) => places.extend(lines),
                Err(error) => {
                    places.resize(places.len() + in_file.len(), Located::Unreadable(date, error.kind()));
                }
            }
        }
        places
    }

    /// The lines where these missing entries of one file should be.
    fn lines_of(&self, view: &View, date: Date, seqs: &[u64]) -> io::Result<Vec<Located>> {
        let (file, seal) = (self.open(date)?, self.seal());
        let end = view.end_of(date, &*file)?;
        let mut newest = self.first_seq(view, date).map_or(0, |first| first - 1);
        let (mut lines, mut number) = (Vec::with_capacity(seqs.len()), 0);
        while_lines(&*file, 0, end, |_, line| {
            number += 1;
            // Only a line near an entry that is asked for need be looked at closely.
            let wanted = seqs[lines.len()];
            if let Some(seq) = seq_of(line).filter(|&seq| seq < wanted.saturating_sub(1)) {
                newest = seq;
                return ControlFlow::Continue(());
            }
            let missing_before = match StoredLine::parse(line, seal) {
                Ok(stored) => {
                    newest = stored.seq;
                    newest
                }
                Err(_) if is_note(line, seal) => 0,
                Err(_) if number == 1 && Header::parse_own(line, seal).is_some() => 0,
                // Damage, in which the entry behind the newest one may have been.
                Err(_) => newest + 2,
            };
            while seqs.get(lines.len()).is_some_and(|&seq| seq < missing_before) {
                lines.push(Located::Line(date, number));
            }
            if lines.len() < seqs.len() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        lines.resize(seqs.len(), Located::Behind(date));
        Ok(lines)
    }
}
