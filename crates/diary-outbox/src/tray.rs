//! One file of the outbox, and the process that holds it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use diary_client::{Address, Author, Refusal, Secret, Time};
use jiff::Timestamp;

use crate::error::Error;
use crate::record::{Contents, Heading, KeptEntry, Record};

/// Bytes of the random part of a tray's name.
const RANDOM_BYTES: usize = 8;

/// How a file ends that is complete.
const FILE_END: &str = ".jsonl";

/// How the first line of a file begins.
const BEGINNING: &[u8] = b"{\"diary-outbox\":";

/// How often a new file is tried: another process may take it for one that was left behind.
const CREATE_TRIES: u32 = 100;

/// The entries of one run of the program: one producer, whose counters nobody else goes on with. The file is
/// locked as long as this lives, and removed at its end if all is settled.
///
/// Its methods wait for the disk, some hundred microseconds.
pub(crate) struct Tray {
    /// `None` if there is no place for files.
    folder: Option<PathBuf>,
    name: String,
    /// What the file says, or would say.
    contents: Contents,
    /// `None` until there is an entry to keep.
    file: Option<File>,
    /// The file may end in a part of a line, which could not be cut off.
    is_torn: bool,
}

/// What became of an entry that was given to a [`Tray`].
#[must_use = "an entry that is not kept may be lost"]
pub(crate) struct Pushed {
    /// Its counter. It is used up even if the entry could not be kept.
    pub(crate) counter: u64,
    /// An error is why it is not on disk.
    pub(crate) kept: Result<(), Error>,
}

/// What a file turned out to be.
pub(crate) enum Opened {
    /// Something is kept in it.
    Tray(Box<Tray>),
    /// Another process has it.
    Held,
    /// Nothing is kept in it, or it is gone.
    Nothing,
}

impl Tray {
    /// A tray without a file.
    pub(crate) fn new(folder: Option<PathBuf>, name: String, heading: Heading) -> Self {
        Self { folder, name, contents: Contents::new(heading), file: None, is_torn: false }
    }

    /// Takes over the file `name`, if nobody holds it. A file in which nothing is kept is removed. Lines that cannot
    /// be read go to `troubles`.
    ///
    /// # Errors
    /// It cannot be read. It is left as it is.
    pub(crate) fn adopt(folder: &Path, name: &str, troubles: &mut Vec<Error>) -> Result<Opened, Error> {
        let path = complete(folder, name);
        let wrong = |error: io::Error| Error::unreadable(&path, error);
        let (file, bytes) = match take(&path).map_err(wrong)? {
            Taken::File(file, bytes) => (file, bytes),
            Taken::Held => return Ok(Opened::Held),
            Taken::Gone => return Ok(Opened::Nothing),
        };
        if is_unfinished(&bytes) {
            fs::remove_file(&path).map_err(wrong)?;
            return Ok(Opened::Nothing);
        }
        let contents = Contents::read(&bytes).map_err(|why| Error::unreadable(&path, why))?;
        troubles.extend(damage(&path, &contents));
        if contents.whole_bytes < bytes.len() as u64 {
            // A line that was not finished was never relied on; the next one begins in its place.
            file.set_len(contents.whole_bytes).map_err(wrong)?;
        }
        let (folder, name) = (Some(folder.to_owned()), name.to_owned());
        let tray = Self { folder, name, contents, file: Some(file), is_torn: false };
        // If nothing is kept in it, the file goes with the tray.
        Ok(if tray.contents.entries.is_empty() { Opened::Nothing } else { Opened::Tray(Box::new(tray)) })
    }

    /// The name of its file, without the end.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where its entries go.
    pub(crate) fn server(&self) -> &Address {
        &self.contents.heading.server
    }

    /// Who wrote them; `None` leaves it to the server.
    pub(crate) fn author(&self) -> Option<&Author> {
        self.contents.heading.author.as_ref()
    }

    /// What their keys come from.
    pub(crate) fn secret(&self) -> Secret {
        self.contents.heading.secret.clone()
    }

    /// The file that it is, or will be; `None` if there is no place for it.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        Some(complete(self.folder.as_ref()?, &self.name))
    }

    /// What is neither acked nor dropped, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &KeptEntry> {
        self.contents.entries.values()
    }

    /// One of these.
    pub(crate) fn entry(&self, counter: u64) -> Option<&KeptEntry> {
        self.contents.entries.get(&counter)
    }

    /// What of it can go to a server: see [`Contents::deliverable`].
    pub(crate) fn deliverable(
        &self,
        address: &Address,
        journal: Option<u64>,
    ) -> impl Iterator<Item = &KeptEntry> {
        self.contents.deliverable(address, journal)
    }

    /// Keeps an entry, which may be sent as soon as this returns: it is on disk, and so is its file's name.
    /// Counters count up from 1.
    pub(crate) fn push(&mut self, at: Option<Time>, time: Time, text: &str) -> Pushed {
        self.push_instead_of(at, time, text, None)
    }

    /// Keeps the text of an entry under a fresh key, and no longer under its old one. Gives the new counter.
    ///
    /// # Errors
    /// It cannot be written down, or is not there any more; all is as before.
    pub(crate) fn renew(&mut self, counter: u64) -> Result<u64, Error> {
        let kept = self.contents.entries.get(&counter).cloned();
        let Some(KeptEntry { at, time, text, .. }) = kept else {
            return Err(Error::NoSuchEntry(counter.to_string()));
        };
        let pushed = self.push_instead_of(at, time, &text, Some(counter));
        if let Err(why) = pushed.kept {
            self.contents.entries.remove(&pushed.counter);
            return Err(why);
        }
        self.contents.entries.remove(&counter);
        Ok(pushed.counter)
    }

    fn push_instead_of(
        &mut self,
        at: Option<Time>,
        time: Time,
        text: &str,
        instead_of: Option<u64>,
    ) -> Pushed {
        let counter = self.contents.next_counter;
        self.contents.next_counter += 1;
        // Whoever sends one as new means whatever journal is there now.
        let journal = self.contents.journal.filter(|_| instead_of.is_none());
        let kept =
            KeptEntry { counter, time, at, text: text.to_owned(), refusal: None, journal, sent: false };
        let line = Record::entry(&kept, instead_of).line();
        self.contents.entries.insert(counter, kept);
        let written = if self.file.is_some() { self.append(&line, true) } else { self.create(&line) };
        Pushed { counter, kept: written.map_err(|error| self.unwritable(error)) }
    }

    fn unwritable(&self, error: io::Error) -> Error {
        self.path().map_or(Error::NoFolder, |path| Error::unwritable(&path, error))
    }

    /// The server serves this journal. What is kept for none yet, and what comes, goes to no other from now on.
    pub(crate) fn met(&mut self, journal: u64) {
        if self.contents.journal != Some(journal) || self.entries().any(|kept| kept.journal.is_none()) {
            self.note(Record::journal(journal));
        }
    }

    /// It is in the diary.
    pub(crate) fn acked(&mut self, counter: u64) {
        self.note(Record::Acked { counter });
        self.tidy();
    }

    /// It will not be taken under its key, and waits for a person's choice.
    pub(crate) fn refused(&mut self, counter: u64, refusal: &Refusal) {
        if self.entry(counter).is_some() {
            self.note(Record::refused(counter, refusal));
        }
    }

    /// It may be sent any moment now, by this process. What [`sending`](Self::sending) makes durable, this
    /// remembers.
    pub(crate) fn sent(&mut self, counter: u64) {
        if let Some(kept) = self.contents.entries.get_mut(&counter) {
            kept.sent = true;
        }
    }

    /// Notes what was certainly not sent, so that a later run need not ask the server whether it was.
    pub(crate) fn note_unsent(&mut self) {
        let sent = self.entries().filter(|kept| kept.sent && kept.refusal.is_none()).last();
        let from = sent.map_or(0, |kept| kept.counter + 1);
        if let Some((&from, _)) = self.contents.entries.range(from..).next() {
            self.note(Record::NotSent { from });
        }
    }

    /// Makes sure that nobody takes for unsent what is sent from now on. To be called before the entries of an
    /// earlier run, or of an earlier attempt, are sent.
    pub(crate) fn sending(&mut self) {
        if !self.contents.says_unsent {
            return;
        }
        match self.append(&Record::Sending {}.line(), true) {
            Ok(()) => self.contents.says_unsent = false,
            // The file goes on saying that they were not sent, so from now on they may be sent by others
            // without a word of this attempt: it has to be one of several, which the server can tell.
            Err(_) => self.contents.entries.values_mut().for_each(|kept| kept.sent = true),
        }
    }

    /// The person does not want it any more.
    ///
    /// # Errors
    /// It cannot be written down, and all is as before.
    pub(crate) fn drop_entry(&mut self, counter: u64) -> Result<(), Error> {
        let dropped = Record::Dropped { counter };
        self.append(&dropped.line(), true).map_err(|error| self.unwritable(error))?;
        self.contents.take_in(dropped);
        self.tidy();
        Ok(())
    }

    /// Takes in what became of entries, and writes it down. If that fails or is lost, an entry is sent once more
    /// with its key, which the server recognises: so it need not be synced, and an error is none.
    fn note(&mut self, record: Record) {
        let _ = self.append(&record.line(), false);
        self.contents.take_in(record);
    }

    /// When all is settled, the texts need not stay on disk.
    fn tidy(&mut self) {
        if let Some(file) = &self.file
            && self.contents.entries.is_empty()
            && self.contents.damaged.is_empty()
            && file.set_len(self.contents.header_bytes).is_ok()
        {
            self.contents.whole_bytes = self.contents.header_bytes;
            self.contents.says_unsent = false;
            if let Some(journal) = self.contents.journal {
                self.note(Record::journal(journal));
            }
        }
    }

    /// Appends a line. After an error, the file is as it was before, or nothing is appended until it is: the next
    /// line would be glued to half of this one. It stays this tray's, since nobody else may go on with its counters.
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

    /// Makes the file with its header and first entry.
    fn create(&mut self, line: &[u8]) -> io::Result<()> {
        let folder = self.folder.as_deref().ok_or(io::ErrorKind::NotFound)?;
        create_folder(folder)?;
        let header = self.contents.heading.line();
        let journal = self.contents.journal.map(|id| Record::journal(id).line()).unwrap_or_default();
        let bytes = [&header[..], &journal, line].concat();
        let is_race = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists)
        };
        let mut tries = 0;
        let file = loop {
            tries += 1;
            match create(&complete(folder, &self.name), &bytes) {
                Err(error) if is_race(&error) && tries < CREATE_TRIES => self.name = new_name()?,
                made => break made?,
            }
        };
        sync_folder(folder)?;
        (self.contents.header_bytes, self.contents.whole_bytes) = (header.len() as u64, bytes.len() as u64);
        self.file = Some(file);
        Ok(())
    }
}

impl Drop for Tray {
    fn drop(&mut self) {
        if self.file.is_some()
            && self.contents.entries.is_empty()
            && self.contents.damaged.is_empty()
            && let Some(path) = self.path()
        {
            // If it cannot be removed, the next run finds nothing in it and tries again.
            let _ = fs::remove_file(path);
        }
        if let Some(file) = &self.file {
            // To close it is not enough: a pager that is just being started has it open too, until it runs.
            let _ = file.unlock();
        }
    }
}

/// Makes a locked file with these bytes, and syncs it. [`io::ErrorKind::NotFound`]: another process took it for one that
/// was left behind, and removes it.
fn create(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) if file.metadata()?.nlink() > 0 => {}
        Ok(()) | Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::NotFound.into()),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Half of it helps nobody.
    let written = file.write_all(bytes).and_then(|()| file.sync_data());
    written.inspect_err(|_| drop(fs::remove_file(path)))?;
    Ok(file)
}

/// Whether a process ended before it had written the first line: nobody relied on this file.
pub(crate) fn is_unfinished(bytes: &[u8]) -> bool {
    !bytes.contains(&b'\n') && (bytes.starts_with(BEGINNING) || BEGINNING.starts_with(bytes))
}

/// `20261121T001502.123456Z-3f9a1c04d2e8b711`: names sort by time.
pub(crate) fn new_name() -> io::Result<String> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random)?;
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{random}", Timestamp::now().strftime("%Y%m%dT%H%M%S.%6fZ")))
}

/// What became of a file that was to be taken.
enum Taken {
    /// It is locked, and holds these bytes.
    File(File, Vec<u8>),
    Held,
    Gone,
}

/// Locks a file and reads it.
fn take(path: &Path) -> io::Result<Taken> {
    let mut file = match OpenOptions::new().read(true).append(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Taken::Gone),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Taken::Held),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Between opening and locking, the one who held it may have removed it.
    if file.metadata()?.nlink() == 0 {
        return Ok(Taken::Gone);
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Taken::File(file, bytes))
}

/// The path of a file.
pub(crate) fn complete(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{FILE_END}"))
}

/// The name of a file, if it is one of ours.
pub(crate) fn name_of(file: &str) -> Option<&str> {
    file.strip_suffix(FILE_END)
}

/// The lines that cannot be read.
pub(crate) fn damage(path: &Path, contents: &Contents) -> impl Iterator<Item = Error> {
    contents.damaged.iter().map(|&line| Error::DamagedLine { path: path.to_owned(), line })
}

/// Makes the folder, and everything above it that is missing, so that it stays.
pub(crate) fn create_folder(folder: &Path) -> io::Result<()> {
    let missing = folder.ancestors().take_while(|folder| !folder.exists()).count();
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    folder.ancestors().skip(1).take(missing).try_for_each(sync_folder)
}

pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outbox;

    const TIME: Time = Time { micros: 1_795_220_102_123_456, offset_minutes: 480 };

    /// A disk that neither takes a line nor cuts half of it off again costs that line, and nobody else goes on
    /// with the file meanwhile.
    #[test]
    fn a_file_that_cannot_be_mended_keeps_its_owner() {
        let state = tempfile::tempdir().unwrap();
        let outbox = Outbox::new(state.path());
        let mut tray = outbox.begin(&"127.0.0.1:1".parse().unwrap(), None).unwrap();
        tray.push(None, TIME, "a").kept.unwrap();
        let path = tray.path().unwrap();
        let lend = |tray: &mut Tray, options: &OpenOptions| {
            tray.file = None;
            let file = options.open(&path).unwrap();
            // A child that another test starts holds what it inherits until it is a program of its own.
            file.lock().unwrap();
            tray.file = Some(file);
        };
        // It can neither be written nor cut.
        lend(&mut tray, OpenOptions::new().read(true));
        for text in ["b", "c"] {
            tray.push(None, TIME, text).kept.unwrap_err();
            assert_eq!(tray.path().as_ref(), Some(&path));
            assert!(outbox.adopt(|_| true).next().is_none(), "it is held");
        }
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"entry\":{\"cou").unwrap();
        lend(&mut tray, OpenOptions::new().append(true));
        tray.push(None, TIME, "d").kept.unwrap();
        drop(tray);
        // The same may hold it still.
        File::open(&path).unwrap().lock().unwrap();
        let mut left = outbox.adopt(|_| true);
        let tray = left.next().unwrap();
        let kept: Vec<_> = tray.entries().map(|kept| (kept.counter, kept.text.as_str())).collect();
        assert_eq!(kept, [(1, "a"), (4, "d")]);
        assert!(left.troubles.is_empty());
        assert!(left.next().is_none());
    }
}
