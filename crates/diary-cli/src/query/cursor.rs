//! The place where a follow stopped, in a file: the journal's id as 16 hex digits, a space, the seq of the newest
//! entry that was printed.

use std::fs;
use std::io;
use std::path::PathBuf;

use diary_proto::entry::parse_number;

use crate::term::whole::replace;

/// The file, and what it says.
#[derive(Debug)]
pub(crate) struct Cursor {
    path: PathBuf,
    journal: u64,
    seq: Option<u64>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadCursor {
    /// It cannot be read or written.
    #[error("the cursor {path} cannot be {what}: {source}")]
    File { path: String, what: &'static str, source: io::Error },
    /// It says something else.
    #[error("{0} is no cursor of a follow; name another file")]
    Unreadable(String),
    /// It was made with another journal.
    #[error(
        "the cursor {path} belongs to the journal {known:016x}, and this server has {journal:016x}; name another file"
    )]
    OtherJournal { path: String, known: u64, journal: u64 },
    /// The journal ends before it.
    #[error(
        "the cursor {path} is at {seq}, and this journal ends at {head}, as one does that was restored; remove the file to start afresh"
    )]
    Ahead { path: String, seq: u64, head: u64 },
}

impl Cursor {
    /// Reads the file, if there is one, for the journal with this id and head.
    ///
    /// # Errors
    /// See [`BadCursor`].
    pub(crate) fn open(path: PathBuf, journal: u64, head: u64) -> Result<Self, BadCursor> {
        let shown = path.display().to_string();
        let seq = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(BadCursor::File { path: shown, what: "read", source }),
            Ok(bytes) => match parse(&bytes) {
                None => return Err(BadCursor::Unreadable(shown)),
                Some((known, _)) if known != journal => {
                    return Err(BadCursor::OtherJournal { path: shown, known, journal });
                }
                Some((_, seq)) if seq > head => return Err(BadCursor::Ahead { path: shown, seq, head }),
                Some((_, seq)) => Some(seq),
            },
        };
        Ok(Self { path, journal, seq })
    }

    /// The newest entry that was printed, if the file names one.
    pub(crate) fn seq(&self) -> Option<u64> {
        self.seq
    }

    /// Puts a new file in the place of the old one, if it says something else. A crash leaves one or the other.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn save(&mut self, seq: u64) -> Result<(), BadCursor> {
        if self.seq == Some(seq) {
            return Ok(());
        }
        let written = replace(&self.path, &format!("{:016x} {seq}\n", self.journal));
        let path = || self.path.display().to_string();
        written.map_err(|source| BadCursor::File { path: path(), what: "written", source })?;
        self.seq = Some(seq);
        Ok(())
    }
}

fn parse(bytes: &[u8]) -> Option<(u64, u64)> {
    let line = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (journal, seq) = line.split_once(' ')?;
    let digits = journal.len() == 16 && journal.bytes().all(|b| b.is_ascii_hexdigit());
    let journal = u64::from_str_radix(journal, 16).ok().filter(|_| digits)?;
    Some((journal, parse_number(seq.as_bytes()).filter(|&seq| seq < u64::MAX)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_cursor_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        let open = || Cursor::open(path.clone(), 0xab, 9).map_err(|error| error.to_string());
        for (text, part) in [
            ("", "is no cursor of a follow"),
            ("hello", "is no cursor of a follow"),
            ("00000000000000ab 7", "is no cursor of a follow"),
            ("ab 7\n", "is no cursor of a follow"),
            ("00000000000000ab -7\n", "is no cursor of a follow"),
            ("00000000000000ab 18446744073709551615\n", "is no cursor of a follow"),
            (
                "00000000000000ac 7\n",
                "belongs to the journal 00000000000000ac, and this server has 00000000000000ab",
            ),
            ("00000000000000ab 10\n", "is at 10, and this journal ends at 9"),
        ] {
            fs::write(&path, text).unwrap();
            let error = open().unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let error = Cursor::open(folder.path().to_owned(), 1, 1).unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
        let mut nowhere = Cursor::open(path.join("no/folder"), 1, 1);
        assert!(nowhere.is_err(), "a file is no folder");
        fs::remove_file(&path).unwrap();
        nowhere = Cursor::open(path.join("cursor"), 1, 1);
        assert!(nowhere.unwrap().save(1).unwrap_err().to_string().contains("cannot be written"));
    }

    #[test]
    fn sentences() {
        let path = || "/home/anna/cursor".to_owned();
        let source = || io::Error::from(io::ErrorKind::PermissionDenied);
        let said = [
            BadCursor::File { path: path(), what: "read", source: source() },
            BadCursor::File { path: path(), what: "written", source: source() },
            BadCursor::Unreadable(path()),
            BadCursor::OtherJournal { path: path(), known: 0xab, journal: 0x12cd },
            BadCursor::Ahead { path: path(), seq: 10, head: 9 },
        ];
        insta::assert_snapshot!(said.map(|error| error.to_string()).join("\n"));
    }

    #[test]
    fn it_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        let mut cursor = Cursor::open(path.clone(), 0xab, 9).unwrap();
        assert_eq!(cursor.seq(), None);
        for seq in [0, 7, 7, 9] {
            cursor.save(seq).unwrap();
            assert_eq!(Cursor::open(path.clone(), 0xab, 9).unwrap().seq(), Some(seq));
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "00000000000000ab 9\n");
        let names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["cursor"]);
    }
}
