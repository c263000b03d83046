//! Archiving: the day files go to `archive/<date>/`, and a fresh journal begins whose seqs follow the old
//! ones and whose keys stay known.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use diary_proto::Date;

use crate::disk::{Disk, Doing, OpenError, make_dir};
use crate::format::day_file::After;
use crate::open::open;
use crate::plan::{Plan, carry_out};
use crate::recover::Recovery;
use crate::verify::verify;
use crate::view::ARCHIVE;

pub use crate::plan::is_unfinished;

/// What was archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// Where the day files are now.
    pub folder: PathBuf,
    /// The newest entry in there; the next one follows it.
    pub head: u64,
    /// How much is wrong with what is in there.
    pub findings: u64,
}

/// Archives the journal in `dir`; `None` if it has no entries. The archive is named by `today`, and a
/// second one that day `<date>.2`.
///
/// # Errors
/// [`OpenError`], also where a server has the journal.
pub fn archive(disk: &Arc<dyn Disk>, dir: &Path, today: Date) -> Result<Option<Archived>, OpenError> {
    Recovery::new(&**disk, dir)?.survey_something()?;
    let (appender, reader) = open(Arc::clone(disk), dir)?.with_derived().doing("read", dir)?;
    let head = reader.head();
    let first = reader.first().doing("read", dir)?;
    let Some(newest) = head.file.filter(|_| head.seq >= first) else { return Ok(None) };
    // With the lock held, so that nobody writes meanwhile.
    let findings = verify(Arc::clone(disk), dir, |_| {})?.findings;
    make_dir(&**disk, &dir.join(ARCHIVE))?;
    let plan = Plan {
        to: free_name(&**disk, &dir.join(ARCHIVE), today)?,
        date: today.max(newest),
        id: reader.id(),
        first,
        after: After { date: newest, seq: head.seq, crc: head.crc },
        time: head.time,
    };
    // The cache says which keys the archive has, so that nobody need read it.
    appender.stop_but_hold(|| {
        plan.write(&**disk, dir).doing("write the plan in", dir)?;
        carry_out(&**disk, dir)
    })?;
    Ok(Some(Archived { folder: dir.join(ARCHIVE).join(plan.to), head: head.seq, findings }))
}

/// `<date>`, or with `.2`, `.3`, … behind it.
fn free_name(disk: &dyn Disk, archive: &Path, today: Date) -> Result<String, OpenError> {
    let taken = disk.list(archive).doing("list", archive)?;
    let is_taken = |name: &str| taken.iter().any(|taken| taken.to_str() == Some(name));
    let later = (2..).map(|number: u64| format!("{today}.{number}"));
    let mut names = std::iter::once(today.to_string()).chain(later);
    Ok(names.find(|name| !is_taken(name)).expect("there is always another number"))
}
