//! Reads the files and finds entries in them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use diary_proto::Date;
use diary_proto::escape::escape;
use jiff::tz::TimeZone;

use super::{counted, number, of_days};
use crate::cli::Import;
use crate::error::CliError;
use crate::term::output::say;
use diary_import::{Clock, Exactness, Found, Harvest, Kind, Source};

/// Limit on a file's size: it is held in memory with its entries. Journals of decades have a hundredth of this.
const FILE_MAX_BYTES: u64 = 1024 * 1024 * 1024;

/// Unreadable lines that are reported one by one; the rest are only counted.
const TROUBLES_SHOWN: usize = 20;

/// A file and its bytes.
pub(super) struct Contents {
    pub(super) name: String,
    bytes: Vec<u8>,
    day: Option<Date>,
}

/// The files that were read.
pub(super) struct Read {
    /// Leaked, so that most texts can be borrowed from them.
    pub(super) files: &'static [Contents],
    pub(super) harvest: Harvest<'static>,
    /// Notes on how they were understood, for the user.
    said: Vec<String>,
}

/// Reads the files on a blocking thread: one may be large, or an endless input. Reports how they were understood
/// and what is unreadable.
pub(super) async fn read(import: &Import) -> Result<Read, CliError> {
    let import = import.clone();
    let reading = tokio::task::spawn_blocking(move || read_all(&import)).await;
    let read = reading.unwrap_or_else(|error| Err(error.to_string())).map_err(CliError::Usage)?;
    read.said.iter().for_each(|said| say(format_args!("{said}")));
    let troubles = &read.harvest.troubles;
    for trouble in troubles.iter().take(TROUBLES_SHOWN) {
        say(format_args!("{}, line {}: {}", read.files[trouble.file].name, trouble.line, trouble.why));
    }
    if troubles.len() > TROUBLES_SHOWN {
        say(format_args!("… and {} more", number(troubles.len() - TROUBLES_SHOWN)));
    }
    Ok(read)
}

fn read_all(import: &Import) -> Result<Read, String> {
    let files: &'static [Contents] = contents(&import.files)?.leak();
    let clock =
        Clock::new(import.timezone.clone().unwrap_or_else(TimeZone::system), import.time_format.clone());
    let (mut harvest, mut said) = (Harvest::default(), Vec::new());
    for file in files {
        let (found, not_readable, of_day) = (harvest.found.len(), harvest.not_readable, harvest.of_day);
        // Text journals have no NUL bytes, and an import cannot be undone.
        if import.format.is_none() && file.bytes.contains(&0) {
            return Err(format!(
                "{} has NUL bytes and is not UTF-8 text; convert it, for example with iconv, or name its --format",
                file.name
            ));
        }
        let kind = harvest.read(&Source { bytes: &file.bytes, day: file.day }, import.format, &clock);
        let (not_readable, of_day) = (harvest.not_readable - not_readable, harvest.of_day - of_day);
        // A day taken from the file alone is a guess, and so is a log: the fallback format.
        let is_guess = of_day > 0 || (import.format.is_none() && kind == Kind::Log);
        if import.dry_run || is_guess {
            said.push(file_sentence(file, kind, &harvest.found[found..], not_readable, of_day, &clock));
        }
    }
    Ok(Read { files, harvest, said })
}

fn contents(paths: &[PathBuf]) -> Result<Vec<Contents>, String> {
    let from_input = |path: &&PathBuf| path.as_os_str() == "-";
    if paths.iter().filter(from_input).count() > 1 {
        return Err("stdin can be read only once; give - once".to_owned());
    }
    paths
        .iter()
        .map(|path| {
            read_file(path)
                .map_err(|error| format!("{} cannot be read: {error}", escape(&path.display().to_string())))
        })
        .collect()
}

fn read_file(path: &Path) -> io::Result<Contents> {
    if path.as_os_str() == "-" {
        let bytes = read_up_to(FILE_MAX_BYTES, io::stdin().lock())?;
        return Ok(Contents { name: "the input".to_owned(), bytes, day: None });
    }
    let file = File::open(path)?;
    let bytes = read_up_to(FILE_MAX_BYTES, &file)?;
    let changed = || jiff::Timestamp::try_from(file.metadata().ok()?.modified().ok()?).ok();
    let day = Source::day_in_name(path);
    let day = day.or_else(|| Some(changed()?.to_zoned(TimeZone::system()).date()));
    Ok(Contents { name: escape(&path.display().to_string()).into_owned(), bytes, day })
}

/// Reads everything; fails beyond `most` bytes.
fn read_up_to(most: u64, from: impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::other(format!("larger than {most} bytes; import it in pieces"))),
        false => Ok(bytes),
    }
}

/// Formats a sentence such as `a.txt: read as jrnl, 3 entries of 2026-11-20 .. 2026-11-21, 1 unreadable`.
fn file_sentence(
    file: &Contents,
    kind: Kind,
    found: &[Found<'_>],
    not_readable: usize,
    of_day: usize,
    clock: &Clock,
) -> String {
    let entries = counted(found.len(), "entry", "entries");
    let mut said = format!("{}: read as {}, {entries}{}", file.name, kind.name(), of_days(found));
    if found.iter().any(|entry| entry.when.exactness != Exactness::Moment) {
        said.push_str(&format!(", times in {}", clock.zone_name()));
    }
    if let Some(day) = file.day.filter(|_| of_day > 0) {
        said.push_str(&format!(", {} without a time, dated {day}", number(of_day)));
    }
    if not_readable > 0 {
        said.push_str(&format!(", {} unreadable", number(not_readable)));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_without_an_end_is_refused() {
        assert_eq!(read_up_to(3, &b"abc"[..]).unwrap(), b"abc");
        let error = read_up_to(3, io::repeat(b'a')).unwrap_err();
        assert_eq!(error.to_string(), "larger than 3 bytes; import it in pieces");
    }
}
