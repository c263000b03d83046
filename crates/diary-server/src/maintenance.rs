//! The maintenance commands: verify, repair, archive.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use diary_engine::maintenance::{self, Archived, Finding, OpenError, Seqs, Verified, What};
use diary_proto::{DayStart, Time};
use serde::Serialize;

use crate::config::Maintenance;
use crate::zone;

/// The result of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    Well,
    /// Something is damaged.
    Damaged,
}

/// Runs a command and reports on stdout.
pub(crate) fn run(command: Maintenance) -> anyhow::Result<Done> {
    // Those of the diary itself are of a type of their own.
    report(command).map_err(|error| match error.is::<io::Error>() {
        true => error.context("the output cannot be written"),
        false => error,
    })
}

fn report(command: Maintenance) -> anyhow::Result<Done> {
    const NO_HOME: &str = "there is no home folder; say where the diary is with --data";
    let mut out = io::stdout().lock();
    let done = match command {
        Maintenance::Verify { place, json } => verify(&place.dir().context(NO_HOME)?, json, &mut out)?,
        Maintenance::Repair { place, to } => {
            let dir = place.dir().context(NO_HOME)?;
            let to = to.unwrap_or_else(|| beside(&dir));
            repair(&dir, &to, &mut out)?
        }
        Maintenance::Archive { place, timezone, day_start } => {
            let (zone, _) = zone::find(timezone.as_deref())?;
            let dir = place.dir().context(NO_HOME)?;
            let now = Time::of_the_clock(&zone).map_err(|bad| OpenError::Io {
                doing: "archive",
                path: dir.clone(),
                cause: io::Error::other(bad),
            })?;
            archive(&dir, now, day_start, &mut out)?
        }
    };
    match out.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(done),
    }
}

fn verify(dir: &Path, json: bool, out: &mut impl Write) -> anyhow::Result<Done> {
    if maintenance::is_archive_unfinished(dir)? && !json {
        writeln!(out, "an archive was begun and not finished; `archive`, or the next start, finishes it")?;
    }
    let mut told = Ok(());
    let verified = maintenance::verify(dir, |finding| {
        if told.is_ok() {
            told = if json { tell_json(&finding, out) } else { writeln!(out, "{finding}") };
        }
    })?;
    // The reader may have closed the pipe. The exit code still counts.
    match told.and_then(|()| tell_sum(&verified, json, out)) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        told => told?,
    }
    Ok(if verified.findings == 0 { Done::Well } else { Done::Damaged })
}

/// A finding, as `verify --json` prints it.
#[derive(Serialize)]
struct JsonFinding {
    file: Option<String>,
    line: u64,
    what: &'static str,
    #[serde(flatten)]
    place: JsonPlace,
    message: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum JsonPlace {
    Seqs { first: u64, last: u64 },
    After { after: u64 },
}

fn tell_json(finding: &Finding, out: &mut impl Write) -> io::Result<()> {
    let after = JsonPlace::After { after: finding.after };
    let seqs = |first, last| JsonPlace::Seqs { first, last };
    let (what, place) = match finding.what {
        What::Unsound => ("unsound", after),
        What::Missing(first, last) | What::MissingBehind(first, last) => ("missing", seqs(first, last)),
        What::CarriageReturn(seq) => ("carriage-return", seqs(seq, seq)),
        What::Unreadable(_) => ("unreadable", after),
        What::OutOfOrder(seq) => ("out-of-order", seqs(seq, seq)),
        What::Batch(seq) => ("batch", seqs(seq, seq)),
        What::Chain => ("chain", after),
        What::Cut => ("cut", after),
        What::Stray(_) => ("stray", after),
        What::Overlap => ("overlap", after),
    };
    let file = finding.file.map(|date| format!("{date}.log"));
    print_json(&JsonFinding { file, line: finding.line, what, place, message: finding.to_string() }, out)
}

/// The sum of a `verify --json`.
#[derive(Serialize)]
struct JsonSum {
    files: u64,
    entries: u64,
    last: u64,
    findings: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    unfinished: Option<JsonUnfinished>,
}

#[derive(Serialize)]
struct JsonUnfinished {
    file: String,
    from: u64,
    bytes: u64,
}

fn print_json(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}

fn tell_sum(verified: &Verified, json: bool, out: &mut impl Write) -> io::Result<()> {
    let Verified { files, entries, last, findings, unfinished } = verified;
    if json {
        let unfinished = unfinished.as_ref().map(|unfinished| JsonUnfinished {
            file: format!("{}.log", unfinished.file),
            from: unfinished.from,
            bytes: unfinished.bytes,
        });
        let (files, entries, last, findings) = (*files, *entries, *last, *findings);
        return print_json(&JsonSum { files, entries, last, findings, unfinished }, out);
    }
    if let Some(u) = unfinished {
        writeln!(
            out,
            "{}.log from byte {}: {} bytes of a batch in progress, or of one that the next start sets aside",
            u.file, u.from, u.bytes
        )?;
    }
    let verdict = if *findings == 0 { "no damage".to_owned() } else { counted(*findings, "finding") };
    writeln!(
        out,
        "{verdict}: {}, up to {last}, in {}",
        counted(*entries, "entry"),
        counted(*files, "day file")
    )?;
    if *findings > 0 {
        writeln!(out, "`diary-server repair` makes a copy without damage, of all that is there")?;
    }
    Ok(())
}

fn counted(count: u64, what: &str) -> String {
    match (count, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {what}s"),
    }
}

fn beside(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".repaired");
    dir.with_file_name(name)
}

fn repair(dir: &Path, to: &Path, out: &mut impl Write) -> anyhow::Result<Done> {
    let repaired = maintenance::repair(dir, to)?;
    writeln!(out, "copied {} to {}", counted(repaired.entries, "entry"), to.display())?;
    for &(first, last) in &repaired.gaps {
        writeln!(out, "{} damaged or missing; a note stands in the place", Seqs(first, last))?;
    }
    if repaired.in_use {
        writeln!(
            out,
            "a server is using this diary; entries that it accepts from now on are not in the copy. Before you use the copy, \
             stop the server and repair again"
        )?;
        return Ok(Done::Well);
    }
    let (name, data) = (to.file_name().unwrap_or_default(), to.parent().unwrap_or(Path::new(".")));
    writeln!(
        out,
        "to use it: diary-server --data {} --journal {}, or put it in the place of the damaged one",
        data.display(),
        name.display()
    )?;
    Ok(Done::Well)
}

fn archive(dir: &Path, now: Time, day_start: DayStart, out: &mut impl Write) -> Result<Done, OpenError> {
    let unfinished = maintenance::is_archive_unfinished(dir)?;
    let archived = maintenance::archive(dir, now, day_start)?;
    // The reader may have closed the pipe. The archive is done all the same.
    let _ = match archived {
        None if unfinished => writeln!(out, "the archive that had been begun is finished"),
        None => writeln!(out, "there are no entries to archive"),
        Some(archived) => tell_archived(&archived, out),
    };
    Ok(Done::Well)
}

fn tell_archived(archived: &Archived, out: &mut impl Write) -> io::Result<()> {
    let Archived { folder, head, findings } = archived;
    if *findings > 0 {
        let findings = counted(*findings, "finding");
        writeln!(out, "this diary is damaged ({findings}); its archive has it as it is")?;
    }
    writeln!(
        out,
        "the entries up to {head} are in {}, and are not shown any more; the next one is {}",
        folder.display(),
        head + 1
    )
}
