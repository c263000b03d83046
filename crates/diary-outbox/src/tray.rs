//! One file of the outbox, held by one process.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use diary_client::{Author, NewEntry, Refusal, Time};

use crate::error::Error;
use crate::file::{FILE_END, create, create_folder, files, new_path, open_locked, short_part};
use crate::record::{Contents, KeptEntry, Record};

/// How a file begins.
const BEGINNING: &[u8] = b"{\"diary-outbox\":";

/// Attempts to create a new file: another process may take it for a leftover.
const CREATE_TRIES: u32 = 100;

/// The entries of one run: one producer, whose counters no other process continues. The file is locked as long as
/// this lives. Dropping it removes the file if everything is settled.
///
/// Methods block on the disk for some hundred microseconds.
pub(crate) struct Tray {
    /// The file's path, whether or not it exists yet; `None` if there is no folder.
    pub(crate) path: Option<PathBuf>,
    /// What the file says, or would say.
    pub(crate) contents: Contents,
    /// Counters of entries that could not be written to the file.
    unkept: BTreeSet<u64>,
    /// `None` until there is an entry to keep.
    file: Option<File>,
    /// Whether the file may end in a partial line that could not be cut off.
    is_torn: bool,
}

/// Result of [`Tray::push`].
#[must_use = "an entry that is not kept may be lost"]
pub(crate) struct Pushed {
    /// Counter of the entry. It is used up even if the entry could not be kept.
    pub(crate) counter: u64,
    /// An error says why the entry is not on disk.
    pub(crate) kept: Result<(), Error>,
}

impl Tray {
    /// Returns a tray with these contents. Without a file, it creates one for its first entry.
    pub(crate) fn new(path: Option<PathBuf>, contents: Contents, file: Option<File>) -> Self {
        Self { path, contents, unkept: BTreeSet::new(), file, is_torn: false }
    }

    /// Adopts a file that keeps entries, and removes one that keeps nothing. Unreadable lines are added to
    /// `troubles`.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process holds it, or it cannot be read; then it stays as it is.
    pub(crate) fn adopt(path: &Path, troubles: &mut Vec<Error>) -> Result<Option<Self>, Error> {
        let wrong = |error: io::Error| Error::unreadable(path, error);
        let mut file = match open_locked(OpenOptions::new().read(true).append(true), path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(Error::InUse(path.display().to_string()));
            }
            Err(error) => return Err(wrong(error)),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(wrong)?;
        if is_unfinished(&bytes) {
            fs::remove_file(path).map_err(wrong)?;
            return Ok(None);
        }
        let contents = Contents::read(&bytes).map_err(|why| Error::unreadable(path, why))?;
        troubles.extend(damage(path, &contents));
        if contents.whole_bytes < bytes.len() as u64 {
            // Nothing relied on the unfinished line; the next line replaces it.
            file.set_len(contents.whole_bytes).map_err(wrong)?;
        }
        let tray = Self::new(Some(path.to_owned()), contents, Some(file));
        // A tray without entries is dropped here, which removes its file.
        Ok(Some(tray).filter(|tray| !tray.contents.entries.is_empty()))
    }

    /// Returns the entries that are neither acked nor dropped, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &KeptEntry> {
        self.contents.entries.values()
    }

    /// Returns an entry's id for people; `None` if it is not on disk.
    pub(crate) fn id(&self, counter: u64) -> Option<String> {
        let path = self.path.as_ref().filter(|_| !self.unkept.contains(&counter))?;
        let files = files(path.parent(), &mut Vec::new());
        Some(format!("{}.{counter}", short_part(path, &files)))
    }

    /// Keeps an entry that was written at `time`. It and the name of its file are synced when this returns, so it may be
    /// sent. Counters start at 1.
    pub(crate) fn push(&mut self, time: Time, entry: &NewEntry) -> Pushed {
        let (counter, journal) = (self.contents.next_counter, self.contents.journal);
        let NewEntry { at, answers, corrects, text, .. } = entry.clone();
        let entry =
            KeptEntry { counter, time, at, answers, corrects, text, refusal: None, journal, sent: false };
        let kept = self.keep(&entry, None);
        self.contents.entries.insert(counter, entry);
        if kept.is_err() {
            self.unkept.insert(counter);
        }
        Pushed { counter, kept }
    }

    /// Moves the text of an entry to a new key, and returns the new entry.
    ///
    /// # Errors
    /// There is no such entry, or the change cannot be recorded; nothing changes then.
    pub(crate) fn renew(&mut self, counter: u64) -> Result<KeptEntry, Error> {
        let fresh = self.contents.next_counter;
        let old = self.entry(counter)?;
        let journal = old.journal_as_new();
        let entry = KeptEntry { counter: fresh, refusal: None, journal, sent: false, ..old };
        self.keep(&entry, Some(counter))?;
        self.contents.entries.remove(&counter);
        self.contents.entries.insert(fresh, entry.clone());
        Ok(entry)
    }

    fn entry(&self, counter: u64) -> Result<KeptEntry, Error> {
        let entry = self.contents.entries.get(&counter).cloned();
        entry.ok_or_else(|| Error::NoSuchEntry(counter.to_string()))
    }

    /// Writes an entry to the file. Its counter is used up either way.
    fn keep(&mut self, entry: &KeptEntry, instead_of: Option<u64>) -> Result<(), Error> {
        self.contents.next_counter += 1;
        let line = Record::entry(entry, instead_of).line();
        let written = if self.file.is_some() { self.append(&line, true) } else { self.create(&line) };
        written.map_err(|error| self.unwritable(error))
    }

    fn unwritable(&self, error: io::Error) -> Error {
        self.path.as_ref().map_or(Error::NoFolder, |path| Error::unwritable(path, error))
    }

    /// Records that all entries are written as this author from now on.
    pub(crate) fn set_author(&mut self, author: Option<Author>, is_default: bool) {
        let heading = &mut self.contents.heading;
        (heading.author, heading.author_is_default) = (author, is_default);
        if self.file.is_some() {
            self.contents.is_renamed = true;
            // If it cannot be written, a later run is refused as this one was, and a person decides.
            let _ = self.append(&Record::author(&self.contents.heading).line(), true);
        }
    }

    /// Records that the server serves this journal. Entries without a journal, and all later ones, are bound to it.
    pub(crate) fn met(&mut self, journal: u64) {
        if self.contents.journal != Some(journal) || self.entries().any(|kept| kept.journal.is_none()) {
            self.note(Record::journal(journal));
        }
    }

    /// Records that an entry is in the diary.
    pub(crate) fn acked(&mut self, counter: u64) {
        self.note(Record::Acked { counter });
        self.tidy();
    }

    /// Records that an entry is refused under its key. Returns the [id](Self::id) under which it waits for a
    /// person.
    pub(crate) fn refused(&mut self, counter: u64, refusal: &Refusal) -> Option<String> {
        let id = self.id(counter)?;
        self.note(Record::refused(counter, refusal));
        Some(id)
    }

    /// Marks an entry as about to be sent by this process. In memory only: [`sending`](Self::sending) makes it
    /// durable.
    pub(crate) fn sent(&mut self, counter: u64) {
        if let Some(kept) = self.contents.entries.get_mut(&counter) {
            kept.sent = true;
        }
    }

    /// Records which entries were certainly not sent, so that a later run does not send them as retries.
    pub(crate) fn note_unsent(&mut self) {
        let sent = self.entries().filter(|kept| kept.sent && kept.refusal.is_none()).last();
        let from = sent.map_or(0, |kept| kept.counter + 1);
        if let Some((&from, _)) = self.contents.entries.range(from..).next() {
            self.note(Record::NotSent { from });
        }
    }

    /// Records that everything kept may be sent from now on. Call it before sending the entries of an earlier run
    /// or of an earlier attempt.
    pub(crate) fn sending(&mut self) {
        if !self.contents.says_unsent {
            return;
        }
        match self.append(&Record::Sending {}.line(), true) {
            Ok(()) => self.contents.says_unsent = false,
            // The file still says that they were not sent, so another process may send them without knowing of this
            // attempt. Sending them as retries lets the server recognize duplicates.
            Err(_) => self.contents.entries.values_mut().for_each(|kept| kept.sent = true),
        }
    }

    /// Drops an entry, which its author no longer wants.
    ///
    /// # Errors
    /// There is no such entry, or the drop cannot be recorded; nothing changes then.
    pub(crate) fn drop_entry(&mut self, counter: u64) -> Result<KeptEntry, Error> {
        let entry = self.entry(counter)?;
        let dropped = Record::Dropped { counter };
        self.append(&dropped.line(), true).map_err(|error| self.unwritable(error))?;
        self.contents.take_in(dropped);
        self.tidy();
        Ok(entry)
    }

    /// Applies a record and appends it. If that fails or is lost, the entry is sent again under its key, which the
    /// server recognizes. So it is not synced, and errors are ignored.
    fn note(&mut self, record: Record) {
        let _ = self.append(&record.line(), false);
        self.contents.take_in(record);
    }

    /// Truncates the file once everything is settled, so that texts do not stay on disk.
    fn tidy(&mut self) {
        if let Some(file) = &self.file
            && self.contents.is_settled()
            && file.set_len(self.contents.header_bytes).is_ok()
        {
            self.contents.whole_bytes = self.contents.header_bytes;
            self.contents.says_unsent = false;
            if let Some(journal) = self.contents.journal {
                self.note(Record::journal(journal));
            }
            if self.contents.is_renamed {
                self.note(Record::author(&self.contents.heading));
            }
        }
    }

    /// Appends a line. After an error, the file is as before, or nothing more is appended until the partial line is
    /// cut off: the next line would be glued to it. The tray keeps the file either way, since no other process may
    /// continue its counters.
    fn append(&mut self, line: &[u8], sync: bool) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if self.is_torn {
            file.set_len(self.contents.whole_bytes)?;
            self.is_torn = false;
        }
        let written = file.write_all(line).and_then(|()| if sync { file.sync_data() } else { Ok(()) });
        if let Err(error) = written {
            self.is_torn = file.set_len(self.contents.whole_bytes).is_err();
            return Err(error);
        }
        self.contents.whole_bytes += line.len() as u64;
        Ok(())
    }

    /// Creates the file with its header and first entry.
    fn create(&mut self, line: &[u8]) -> io::Result<()> {
        let path = self.path.as_mut().ok_or(ErrorKind::NotFound)?;
        let folder = path.parent().ok_or(ErrorKind::NotFound)?.to_owned();
        create_folder(&folder)?;
        let header = self.contents.heading.line();
        let journal = self.contents.journal.map(|id| Record::journal(id).line()).unwrap_or_default();
        let bytes = [&header[..], &journal, line].concat();
        let taken = [ErrorKind::NotFound, ErrorKind::WouldBlock, ErrorKind::AlreadyExists];
        let mut tries = 0;
        let file = loop {
            tries += 1;
            match create(path, &bytes) {
                Err(error) if taken.contains(&error.kind()) && tries < CREATE_TRIES => {
                    *path = new_path(&folder, FILE_END)?;
                }
                made => break made?,
            }
        };
        self.file = Some(file);
        (self.contents.header_bytes, self.contents.whole_bytes) = (header.len() as u64, bytes.len() as u64);
        Ok(())
    }
}

impl Drop for Tray {
    fn drop(&mut self) {
        let (Some(file), Some(path)) = (&self.file, &self.path) else { return };
        if self.contents.is_settled() {
            // If it cannot be removed, the next run finds it empty and tries again.
            let _ = fs::remove_file(path);
        }
        // Closing is not enough: a child process (such as a pager) has it open too until it calls exec.
        let _ = file.unlock();
    }
}

/// Whether a process ended before it finished the first line. Nothing relies on such a file.
pub(crate) fn is_unfinished(bytes: &[u8]) -> bool {
    !bytes.contains(&b'\n') && (bytes.starts_with(BEGINNING) || BEGINNING.starts_with(bytes))
}

/// Returns the unreadable lines.
pub(crate) fn damage(path: &Path, contents: &Contents) -> impl Iterator<Item = Error> {
    contents.damaged.iter().map(|&line| Error::DamagedLine { path: path.to_owned(), line })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outbox;

    const TIME: Time = Time { micros: 1_795_220_102_123_456, offset_minutes: 480 };

    /// If the disk can neither take a line nor cut off a partial one, only that line is lost, and no other process
    /// adopts the file meanwhile.
    #[test]
    fn a_file_that_cannot_be_mended_keeps_its_owner() {
        let state = tempfile::tempdir().unwrap();
        let outbox = Outbox::new(state.path());
        let mut tray = outbox.begin(&"127.0.0.1:1".parse().unwrap(), None).unwrap();
        tray.push(TIME, &"a".into()).kept.unwrap();
        let path = tray.path.clone().unwrap();
        let lend = |tray: &mut Tray, options: &OpenOptions| {
            tray.file = None;
            let file = options.open(&path).unwrap();
            // A child that another test starts holds inherited files until it calls exec.
            file.lock().unwrap();
            tray.file = Some(file);
        };
        // Neither writable nor truncatable.
        lend(&mut tray, OpenOptions::new().read(true));
        for text in ["b", "c"] {
            tray.push(TIME, &text.into()).kept.unwrap_err();
            assert_eq!(tray.path.as_ref(), Some(&path));
            assert!(outbox.adopt(|_| true).next().is_none(), "it is held");
        }
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"entry\":{\"cou").unwrap();
        lend(&mut tray, OpenOptions::new().append(true));
        tray.push(TIME, &"d".into()).kept.unwrap();
        drop(tray);
        // Such a child may still hold it.
        File::open(&path).unwrap().lock().unwrap();
        let mut left = outbox.adopt(|_| true);
        let tray = left.next().unwrap();
        let kept: Vec<_> = tray.entries().map(|kept| (kept.counter, kept.text.as_str())).collect();
        assert_eq!(kept, [(1, "a"), (4, "d")]);
        assert!(left.troubles.is_empty());
        assert!(left.next().is_none());
    }
}
