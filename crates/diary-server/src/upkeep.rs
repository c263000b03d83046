//! What the program does with a journal beside serving it: verify, repair, archive.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use diary_proto::Time;
use diary_store::OpenError;
use diary_store::disk::{Disk, RealDisk};
use diary_store::scan::{Finding, What};
use diary_store::verify::Verified;

use crate::config::Upkeep;
use crate::zone;

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    Well,
    /// Something is damaged.
    Damaged,
}

/// Does it, and says on stdout what it did.
pub(crate) fn run(upkeep: Upkeep) -> anyhow::Result<Done> {
    const NO_HOME: &str = "there is no home folder; say where the diary is with --data";
    let mut out = io::stdout().lock();
    let done = match upkeep {
        Upkeep::Verify { place, json } => verify(&place.dir().context(NO_HOME)?, json, &mut out)?,
        Upkeep::Repair { place, to } => {
            let dir = place.dir().context(NO_HOME)?;
            let to = to.unwrap_or_else(|| beside(&dir));
            repair(&dir, &to, &mut out)?
        }
        Upkeep::Archive { place, timezone } => {
            let (zone, _) = zone::find(timezone.as_deref())?;
            archive(&place.dir().context(NO_HOME)?, Time::now(&zone), &mut out)?
        }
    };
    out.flush()?;
    Ok(done)
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

fn verify(dir: &Path, json: bool, out: &mut impl Write) -> anyhow::Result<Done> {
    let mut told = Ok(());
    let verified = diary_store::verify(disk(), dir, |finding| {
        if told.is_ok() {
            told = if json { tell_json(&finding, out) } else { writeln!(out, "{finding}") };
        }
    })?;
    told?;
    tell_sum(&verified, json, out)?;
    Ok(if verified.findings == 0 { Done::Well } else { Done::Damaged })
}

/// No name or number in here needs escaping.
fn tell_json(finding: &Finding, out: &mut impl Write) -> io::Result<()> {
    let (what, seqs) = match finding.what {
        What::Unsound => ("unsound", None),
        What::Missing(first, last) => ("missing", Some((first, last))),
        What::OutOfOrder(seq) => ("out-of-order", Some((seq, seq))),
        What::Batch(seq) => ("batch", Some((seq, seq))),
        What::Chain => ("chain", None),
        What::Cut => ("cut", None),
    };
    write!(out, r#"{{"file":"{}.log","line":{},"what":"{what}","#, finding.file, finding.line)?;
    match seqs {
        Some((first, last)) => write!(out, r#""first":{first},"last":{last},"#)?,
        None => write!(out, r#""after":{},"#, finding.after)?,
    }
    writeln!(out, r#""message":"{finding}"}}"#)
}

fn tell_sum(verified: &Verified, json: bool, out: &mut impl Write) -> io::Result<()> {
    let Verified { files, entries, last, findings, unfinished } = verified;
    if json {
        write!(out, r#"{{"files":{files},"entries":{entries},"last":{last},"findings":{findings}"#)?;
        if let Some(u) = unfinished {
            write!(
                out,
                r#","unfinished":{{"file":"{}.log","from":{},"bytes":{}}}"#,
                u.file, u.from, u.bytes
            )?;
        }
        return writeln!(out, "}}");
    }
    if let Some(u) = unfinished {
        writeln!(
            out,
            "{}.log from byte {}: {} bytes of a batch in progress, or of one that the next start sets aside",
            u.file, u.from, u.bytes
        )?;
    }
    let verdict = if *findings == 0 { "no damage".to_owned() } else { format!("{findings} findings") };
    writeln!(out, "{verdict}: {entries} entries up to {last} in {files} day files")
}

fn beside(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".repaired");
    dir.with_file_name(name)
}

fn repair(dir: &Path, to: &Path, out: &mut impl Write) -> anyhow::Result<Done> {
    let repaired = diary_store::repair(&disk(), dir, to)?;
    writeln!(out, "copied {} entries to {}", repaired.entries, to.display())?;
    for (first, last) in &repaired.gaps {
        writeln!(out, "the entries {first} to {last} are damaged or missing; a note stands in their place")?;
    }
    Ok(Done::Well)
}

fn archive(dir: &Path, now: Time, out: &mut impl Write) -> Result<Done, OpenError> {
    let archived = diary_store::archive(&disk(), dir, now.date())?;
    // Whoever asked may not read the answer; what was done is done.
    let _ = match archived {
        None => writeln!(out, "there are no entries to archive"),
        Some(archived) => {
            let (head, folder) = (archived.head, archived.folder);
            writeln!(
                out,
                "the entries up to {head} are in {}; the next one is {}",
                folder.display(),
                head + 1
            )
        }
    };
    Ok(Done::Well)
}
