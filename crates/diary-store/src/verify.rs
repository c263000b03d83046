//! Verifying: every line, chain and seq of a journal, without changing anything. It may run beside a
//! server: what that has not finished is not damage.

use std::path::Path;
use std::sync::Arc;

use diary_proto::Date;

use crate::disk::{Disk, Doing, OpenError};
use crate::recover::Recovery;
use crate::scan::{Finding, What, scan};

/// What was verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Day files that belong to the journal.
    pub files: u64,
    /// Sound entries.
    pub entries: u64,
    /// The newest sound entry.
    pub last: u64,
    /// How much is wrong.
    pub findings: u64,
    /// A batch at the end that is not finished: a server writes it, or the next start sets it aside.
    pub unfinished: Option<Unfinished>,
}

/// Where a batch is that is not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfinished {
    /// The day file.
    pub file: Date,
    /// Where it begins, in bytes.
    pub from: u64,
    /// How long it is so far.
    pub bytes: u64,
}

/// Verifies the journal in `dir`. Everything that is wrong is told to `finding`: first the files that do not belong
/// there, then the lines in order.
///
/// # Errors
/// [`OpenError`] if the folder cannot be read.
pub fn verify(
    disk: Arc<dyn Disk>,
    dir: &Path,
    mut finding: impl FnMut(Finding),
) -> Result<Verified, OpenError> {
    let examined = Recovery::new(&*disk, dir)?.survey_something()?;
    let mut verified = Verified {
        files: examined.days.len() as u64,
        unfinished: examined.torn().map(|(file, from, len)| Unfinished { file, from, bytes: len - from }),
        ..Verified::default()
    };
    if let Some(&(file, bytes)) = examined.unfinished.first() {
        verified.unfinished = Some(Unfinished { file, from: 0, bytes });
    }
    let mut findings = 0;
    for &(file, stray) in &examined.strays {
        findings += 1;
        finding(Finding { file: Some(file), line: 1, after: 0, what: What::Stray(stray) });
    }
    let end = scan(
        &examined.reader(disk, dir),
        |_, line, _| {
            verified.entries += 1;
            verified.last = line.seq;
        },
        |found| {
            findings += 1;
            finding(found);
        },
    )
    .doing("read the beginning of the diary in", dir)?;
    if examined.known_seq > end.seq {
        findings += 1;
        let what = What::MissingBehind(end.seq + 1, examined.known_seq);
        finding(Finding { file: end.file, line: end.line, after: end.seq, what });
    }
    verified.findings = findings;
    Ok(verified)
}
