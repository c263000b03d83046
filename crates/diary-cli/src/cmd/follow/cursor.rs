//! The file in which a follow keeps its position: the journal's id as 16 hex digits, the seq of the newest printed
//! entry, and the checksum of its line as 8 hex digits, or `-` if unknown.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use diary_client::{Error, Resume};

use crate::error::CliError;
use crate::term::whole::replace;

/// A cursor file and its contents.
#[derive(Debug)]
pub(super) struct Cursor {
    path: PathBuf,
    mark: Option<Mark>,
}

/// Position up to which entries were printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) journal: u64,
    /// Seq of the newest printed entry; 0 for none.
    pub(super) seq: u64,
    /// Checksum of its line.
    pub(super) crc: Option<u32>,
}

/// Why a cursor file is unusable.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadCursor {
    /// It cannot be read or written.
    #[error("the cursor {path} cannot be {what}: {source}")]
    File { path: String, what: &'static str, source: io::Error },
    /// It is not a cursor file.
    #[error("{0} is not a cursor file of follow; name another file")]
    Unreadable(String),
    /// It belongs to another journal.
    #[error(
        "the cursor {path} belongs to journal {known:016x}, and this server has another one; name another file"
    )]
    OtherJournal { path: String, known: u64 },
    /// The journal does not have its entry.
    #[error(
        "the cursor {path} is at entry {seq}, but this journal has a different entry there or none: it was probably \
         restored from an older copy; remove the file to start over"
    )]
    Restored { path: String, seq: u64 },
}

impl From<BadCursor> for CliError {
    fn from(bad: BadCursor) -> Self {
        match bad {
            BadCursor::File { .. } => Self::Usage(bad.to_string()),
            _ => Self::Refused(bad.to_string()),
        }
    }
}

impl Cursor {
    /// Reads the file, if it exists.
    ///
    /// # Errors
    /// See [`BadCursor`].
    pub(super) fn open(path: PathBuf) -> Result<Self, BadCursor> {
        let shown = path.display().to_string();
        let mark = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(BadCursor::File { path: shown, what: "read", source }),
            Ok(bytes) => {
                let mark = str::from_utf8(&bytes).ok().and_then(Mark::parse);
                Some(mark.ok_or(BadCursor::Unreadable(shown))?)
            }
        };
        Ok(Self { path, mark })
    }

    /// Returns its position, if it has one.
    pub(super) fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// Returns the entry that the diary must have.
    pub(super) fn place(&self) -> Option<Resume> {
        self.mark.map(|Mark { journal: id, seq, crc }| match crc {
            Some(crc) => Resume { id, seq, crc },
            None => Resume { id, seq: 0, crc: 0 },
        })
    }

    /// Checks the position against a journal's head.
    ///
    /// # Errors
    /// The journal ends before it.
    pub(super) fn check(&self, head: u64) -> Result<(), BadCursor> {
        match self.mark {
            Some(Mark { seq, .. }) if seq > head => Err(self.restored(seq)),
            _ => Ok(()),
        }
    }

    /// Returns the error for a cursor whose place the diary refuses.
    pub(super) fn refused_by(&self, error: &Error) -> Option<BadCursor> {
        let Mark { journal: known, seq, .. } = self.mark?;
        match error {
            Error::OtherJournal(_) => Some(BadCursor::OtherJournal { path: self.shown(), known }),
            Error::Restored(_) => Some(self.restored(seq)),
            _ => None,
        }
    }

    /// Replaces the file if the position has changed. A crash leaves the old file or the new one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn save(&mut self, mark: Mark) -> Result<(), BadCursor> {
        if self.mark == Some(mark) {
            return Ok(());
        }
        let written = replace(&self.path, &mark.to_string(), 0o666);
        written.map_err(|source| BadCursor::File { path: self.shown(), what: "written", source })?;
        self.mark = Some(mark);
        Ok(())
    }

    fn restored(&self, seq: u64) -> BadCursor {
        BadCursor::Restored { path: self.shown(), seq }
    }

    fn shown(&self) -> String {
        self.path.display().to_string()
    }
}

impl Mark {
    /// Parses exactly what [`Display`](fmt::Display) writes.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let journal = u64::from_str_radix(words.next()?, 16).ok()?;
        let seq = words.next()?.parse().ok().filter(|seq| *seq < u64::MAX)?;
        let crc = u32::from_str_radix(words.next()?, 16).ok();
        Some(Self { journal, seq, crc }).filter(|mark| mark.to_string() == line)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let crc = self.crc.map_or("-".to_owned(), |crc| format!("{crc:08x}"));
        writeln!(f, "{:016x} {} {crc}", self.journal, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_cursor_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        let open = || Cursor::open(path.clone()).map_err(|error| error.to_string());
        for text in [
            "",
            "hello",
            "00000000000000ab 7 00c0ffee",
            "ab 7 00c0ffee\n",
            "00000000000000ab -7 00c0ffee\n",
            "00000000000000ab 18446744073709551615 00c0ffee\n",
            "00000000000000ab 7\n",
            "00000000000000ab 7 c0ffee\n",
            "00000000000000ab 7 00c0ffee more\n",
            "00000000000000ab 07 00c0ffee\n",
            "00000000000000ab 7  00c0ffee\n",
            "00000000000000ab 7 +0c0ffee\n",
        ] {
            fs::write(&path, text).unwrap();
            assert!(open().unwrap_err().contains("is not a cursor file of follow"), "{text:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let error = Cursor::open(folder.path().to_owned()).unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
        let mut nowhere = Cursor::open(path.join("no/folder"));
        assert!(nowhere.is_err(), "a file is no folder");
        fs::remove_file(&path).unwrap();
        nowhere = Cursor::open(path.join("cursor"));
        let mark = Mark { journal: 1, seq: 1, crc: None };
        assert!(nowhere.unwrap().save(mark).unwrap_err().to_string().contains("cannot be written"));
    }

    #[test]
    fn sentences() {
        let path = || "/home/anna/cursor".to_owned();
        let source = || io::Error::from(io::ErrorKind::PermissionDenied);
        let said = [
            BadCursor::File { path: path(), what: "read", source: source() },
            BadCursor::File { path: path(), what: "written", source: source() },
            BadCursor::Unreadable(path()),
            BadCursor::OtherJournal { path: path(), known: 0xab },
            BadCursor::Restored { path: path(), seq: 10 },
        ];
        insta::assert_snapshot!(said.map(|error| error.to_string()).join("\n"));
    }

    #[test]
    fn it_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        let mut cursor = Cursor::open(path.clone()).unwrap();
        assert_eq!((cursor.mark(), cursor.place()), (None, None));
        for (seq, crc) in [(0, None), (7, Some(0xc0_ffee)), (7, Some(0xc0_ffee)), (9, Some(1))] {
            let mark = Mark { journal: 0xab, seq, crc };
            cursor.save(mark).unwrap();
            let cursor = Cursor::open(path.clone()).unwrap();
            assert_eq!(cursor.mark(), Some(mark));
            let place = Resume { id: 0xab, seq, crc: crc.unwrap_or(0) };
            assert_eq!(cursor.place(), Some(place));
            assert!(cursor.check(seq).is_ok() && (seq == 0 || cursor.check(seq - 1).is_err()));
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "00000000000000ab 9 00000001\n");
        let names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["cursor"]);
    }
}
