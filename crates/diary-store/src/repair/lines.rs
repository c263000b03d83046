//! Where valid lines are, in whatever file.

use std::io;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};

use diary_proto::Seal;
use rangemap::RangeInclusiveMap;

use crate::disk::{Disk, How, OpenError};
use crate::format::day_file::name;
use crate::format::lines::{entry_in, while_lines};
use crate::quarantine;
use crate::recover::Examined;

/// The seqs of valid lines, and where they are. A file whose lines are in order takes next to nothing, one whose lines
/// are in no order about a hundred bytes a line.
pub(super) struct Lines {
    pub(super) files: Vec<PathBuf>,
    runs: RangeInclusiveMap<u64, Run>,
}

/// Lines with consecutive seqs, one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The file's place among all.
    pub(super) file: usize,
    /// Where the first line starts, and the last one ends.
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Lines {
    /// Finds the lines of the day files, and of strays there and in the quarantine. What cannot be read is told, and left
    /// out.
    pub(super) fn find(
        disk: &dyn Disk,
        dir: &Path,
        examined: &Examined,
        seal: Seal,
    ) -> Result<Self, OpenError> {
        let in_dir = |date| dir.join(name(date));
        let mut files = quarantine::strays(disk, dir)?;
        files.extend(examined.strays.iter().map(|&(date, _)| in_dir(date)));
        // Last, because they count where a seq is in several.
        files.extend(examined.days.iter().map(|&date| in_dir(date)));
        let mut lines = Self { files, runs: RangeInclusiveMap::new() };
        let torn = examined.torn().map(|(date, at, _)| (in_dir(date), at));
        for place in 0..lines.files.len() {
            let path = &lines.files[place];
            let torn_at = torn.as_ref().filter(|(torn, _)| torn == path).map(|(_, at)| *at);
            let mut run: Option<(RangeInclusive<u64>, Run)> = None;
            let mut keep = |run: Option<(RangeInclusive<u64>, Run)>| {
                run.into_iter().for_each(|(seqs, run)| lines.runs.insert(seqs, run));
            };
            let mut take = |from, line: &[u8]| {
                let Some((stored, _)) = entry_in(line, seal) else { return ControlFlow::Continue(()) };
                let to = from + line.len() as u64 + 1;
                match &mut run {
                    Some((seqs, run)) if *seqs.end() + 1 == stored.seq => {
                        *seqs = *seqs.start()..=stored.seq;
                        run.to = to;
                    }
                    _ => keep(run.replace((stored.seq..=stored.seq, Run { file: place, from, to }))),
                }
                ControlFlow::Continue(())
            };
            let read = disk.open(path, How::Read).and_then(|file| {
                let end = torn_at.map_or_else(|| file.size(), Ok)?;
                while_lines(&*file, 0, end, &mut take)
            });
            match read {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::error!(%error, "{} cannot be read, or not all of it", path.display());
                }
                _ => {}
            }
            keep(run);
        }
        Ok(lines)
    }

    /// Where lines with these seqs are, both included, in the order of the seqs.
    pub(super) fn between(&self, first: u64, last: u64) -> Vec<(RangeInclusive<u64>, Run)> {
        if first > last {
            return Vec::new();
        }
        let cut = |(seqs, run): (&RangeInclusive<u64>, &Run)| {
            (*seqs.start().max(&first)..=*seqs.end().min(&last), *run)
        };
        self.runs.overlapping(first..=last).map(cut).collect()
    }
}
