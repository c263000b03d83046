//! The maintenance commands: journal, verify, repair, archive.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use diary_engine::maintenance::{self, Archived, Finding, OpenError, Seqs, Verified, What};
use diary_proto::{DayStart, JournalName, Time};
use serde::Serialize;

use crate::config::{DataFolder, JournalAction, Maintenance, Place};
use crate::{tokens, zone};

/// What ends the name of a copy that `repair` makes.
const REPAIRED: &str = ".repaired";

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
    let mut out = io::stdout().lock();
    let out = &mut out;
    let done = match command {
        Maintenance::Journal { action: JournalAction::Add { data, name } } => add(data, &name, out)?,
        Maintenance::Journal { action: JournalAction::List { data } } => list(data, out)?,
        Maintenance::Token { action } => {
            tokens::run(action, out)?;
            Done::Well
        }
        Maintenance::Verify { place, json: true } => {
            each(&meant(place)?, |name, dir| verify_json(name, dir, out))?
        }
        Maintenance::Verify { place, json: false } => {
            let journals = meant(place)?;
            let headed = journals.len() > 1;
            each(&journals, |name, dir| {
                head(headed, name, out)?;
                verify(dir, out)
            })?
        }
        Maintenance::Repair { place, to } => {
            let journals = meant(place)?;
            let several = journals.len() > 1;
            if several && to.is_some() {
                bail!("there are {} journals; with --to, say which one with --journal", journals.len());
            }
            each(&journals, |name, dir| {
                head(several, name, out)?;
                if several && maintenance::verify(dir, |_| {})?.findings == 0 {
                    // As for the heading.
                    let _ = writeln!(out, "no damage, no copy");
                    return Ok(Done::Well);
                }
                repair(dir, to.as_deref().unwrap_or(&beside(dir)), out)
            })?
        }
        Maintenance::Archive { place, timezone, day_start } => {
            let (zone, _) = zone::find(timezone.as_deref())?;
            let journals = meant(place)?;
            let several = journals.len() > 1;
            each(&journals, |name, dir| {
                head(several, name, out)?;
                let now = Time::of_the_clock(&zone).map_err(|bad| OpenError::Io {
                    doing: "archive",
                    path: dir.to_owned(),
                    cause: io::Error::other(bad),
                })?;
                Ok(archive(dir, now, day_start, out)?)
            })?
        }
    };
    match out.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(done),
    }
}

fn folder(data: DataFolder) -> anyhow::Result<PathBuf> {
    data.path().context("there is no home folder; say where the diary is with --data")
}

/// The journals in a data folder.
fn names(data: &Path) -> anyhow::Result<Vec<JournalName>> {
    let looked = maintenance::journals(data);
    Ok(looked.map_err(|cause| OpenError::Io { doing: "list", path: data.to_owned(), cause })?)
}

/// The journals that are meant, with their folders: all but copies that `repair` has made, if none is named. If there are
/// none, it is the one that a server would make.
fn meant(place: Place) -> anyhow::Result<Vec<(JournalName, PathBuf)>> {
    let data = folder(place.data)?;
    let mut meant = match place.journal {
        Some(name) => vec![name],
        None => names(&data)?.into_iter().filter(|name| !name.as_str().ends_with(REPAIRED)).collect(),
    };
    if meant.is_empty() {
        meant.push(JournalName::default());
    }
    Ok(meant.into_iter().map(|name| (name.clone(), data.join(name.as_str()))).collect())
}

/// Does something with each journal, and with the others if it fails with one. Of several errors, the last is returned and
/// the others are logged.
fn each(
    journals: &[(JournalName, PathBuf)],
    mut work: impl FnMut(&JournalName, &Path) -> anyhow::Result<Done>,
) -> anyhow::Result<Done> {
    let (mut all, mut failed) = (Done::Well, None);
    for (name, dir) in journals {
        match work(name, dir) {
            Ok(Done::Well) => {}
            Ok(Done::Damaged) => all = Done::Damaged,
            // Nobody reads what would be said of the others.
            Err(error) if error.is::<io::Error>() => return Err(error),
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    tracing::error!("{earlier:#}");
                }
            }
        }
    }
    failed.map_or(Ok(all), Err)
}

/// Says which journal the next lines are about, where there are several.
fn head(several: bool, name: &JournalName, out: &mut impl Write) -> io::Result<()> {
    let said = if several { writeln!(out, "journal {name}:") } else { Ok(()) };
    // The reader may have closed the pipe. The work is to be done all the same.
    said.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

fn add(data: DataFolder, name: &JournalName, out: &mut impl Write) -> anyhow::Result<Done> {
    let dir = folder(data)?.join(name.as_str());
    if !maintenance::make(&dir)? {
        bail!("there is a journal {name} already, in {}", dir.display());
    }
    writeln!(out, "made the journal {name} in {}", dir.display())?;
    Ok(Done::Well)
}

fn list(data: DataFolder, out: &mut impl Write) -> anyhow::Result<Done> {
    for name in names(&folder(data)?)? {
        writeln!(out, "{name}")?;
    }
    Ok(Done::Well)
}

fn verify(dir: &Path, out: &mut impl Write) -> anyhow::Result<Done> {
    if maintenance::is_archive_unfinished(dir)? {
        writeln!(out, "an archive was begun and not finished; `archive`, or the next start, finishes it")?;
    }
    check(dir, out, |finding, out| writeln!(out, "{finding}"), tell_sum)
}

fn verify_json(journal: &JournalName, dir: &Path, out: &mut impl Write) -> anyhow::Result<Done> {
    let journal = journal.as_str();
    let tell = |finding: &Finding, out: &mut _| tell_json(journal, finding, out);
    check(dir, out, tell, |verified, out| tell_json_sum(journal, verified, out))
}

/// Verifies a journal, and tells each finding and the sum.
fn check<W: Write>(
    dir: &Path,
    out: &mut W,
    mut tell: impl FnMut(&Finding, &mut W) -> io::Result<()>,
    tell_sum: impl FnOnce(&Verified, &mut W) -> io::Result<()>,
) -> anyhow::Result<Done> {
    let mut told = Ok(());
    let verified = maintenance::verify(dir, |finding| {
        if told.is_ok() {
            told = tell(&finding, out);
        }
    })?;
    // The reader may have closed the pipe. The exit code still counts.
    match told.and_then(|()| tell_sum(&verified, out)) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        told => told?,
    }
    Ok(if verified.findings == 0 { Done::Well } else { Done::Damaged })
}

/// A finding, as `verify --json` prints it.
#[derive(Serialize)]
struct JsonFinding<'a> {
    journal: &'a str,
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

fn tell_json(journal: &str, finding: &Finding, out: &mut impl Write) -> io::Result<()> {
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
    print_json(
        &JsonFinding { journal, file, line: finding.line, what, place, message: finding.to_string() },
        out,
    )
}

/// The sum of a `verify --json`.
#[derive(Serialize)]
struct JsonSum<'a> {
    journal: &'a str,
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

fn tell_json_sum(journal: &str, verified: &Verified, out: &mut impl Write) -> io::Result<()> {
    let Verified { files, entries, last, findings, ref unfinished } = *verified;
    let unfinished = unfinished.as_ref().map(|unfinished| JsonUnfinished {
        file: format!("{}.log", unfinished.file),
        from: unfinished.from,
        bytes: unfinished.bytes,
    });
    print_json(&JsonSum { journal, files, entries, last, findings, unfinished }, out)
}

fn tell_sum(verified: &Verified, out: &mut impl Write) -> io::Result<()> {
    let Verified { files, entries, last, findings, unfinished } = verified;
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
    name.push(REPAIRED);
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
