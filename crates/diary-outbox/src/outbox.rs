//! Keeps unacked entries on disk, from before they are sent until they are in the diary.
//!
//! The outbox is a folder with one file, a [`Tray`], per run of a program that writes. Each tray has its own
//! secret, so no two processes or machines share a producer. The process that owns a tray holds a lock on its file.
//! An unlocked file was left by a run that has ended; the next run adopts it and sends its entries under their
//! original keys, so none is stored twice.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::vec;

use diary_client::{Address, Author, Secret};

use crate::error::Error;
use crate::file::{
    ASIDE_END, FILE_END, create, create_folder, files, files_with, new_path, random_part, short_part,
};
use crate::record::{Contents, Heading, KeptEntry};
use crate::tray::{Tray, damage, is_unfinished};

/// A folder of entries, each kept until it is acked. Nothing is created on disk before there is an entry to keep.
/// The default outbox has no folder: submitting to it returns an error, but the entry is sent all the same.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    /// `None` if there is no folder to keep entries in.
    folder: Option<PathBuf>,
}

/// Trays that earlier runs left, oldest first. Each is adopted (and its file opened) when its turn comes. Drop it
/// before taking the next: there may be more of them than a process may open files.
pub(crate) struct Left {
    /// Selects the files to adopt.
    wanted: Box<dyn Fn(&Contents) -> bool + Send>,
    files: vec::IntoIter<PathBuf>,
    /// Unreadable files and lines met so far.
    pub(crate) troubles: Vec<Error>,
}

impl Iterator for Left {
    type Item = Tray;

    fn next(&mut self) -> Option<Tray> {
        loop {
            let path = self.files.next()?;
            let contents = fs::read(&path).ok().and_then(|bytes| Contents::read(&bytes).ok());
            // A file without entries was left by a run that ended after its last ack. Adopting it removes it.
            let is_wanted = |contents: Contents| contents.entries.is_empty() || (self.wanted)(&contents);
            if !contents.is_none_or(is_wanted) {
                continue;
            }
            match Tray::adopt(&path, &mut self.troubles) {
                Ok(Some(tray)) => return Some(tray),
                Ok(None) | Err(Error::InUse(_)) => {}
                Err(trouble) => self.troubles.push(trouble),
            }
        }
    }
}

/// The contents of an outbox.
#[derive(Debug, Default)]
pub struct Listing {
    /// Entries, oldest file first.
    pub entries: Vec<Listed>,
    /// Files of texts that were [set aside](Outbox::set_aside).
    pub aside: Vec<PathBuf>,
    /// Unreadable files and lines.
    pub troubles: Vec<Error>,
}

/// An entry in a [`Listing`].
#[derive(Debug, Clone)]
pub struct Listed {
    /// Id for people: the start of the file's random part, a dot, and the entry's counter.
    pub id: String,
    /// Server that it was written for.
    pub server: Address,
    /// Author that was chosen; `None` leaves it to whoever sends it.
    pub author: Option<Author>,
    /// The entry.
    pub kept: KeptEntry,
    /// Whether a running program holds it.
    pub held: bool,
}

impl Outbox {
    /// Returns the outbox in this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()) }
    }

    /// Returns its folder, if it has one.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Returns a tray for new entries. Its file is created with the first entry.
    ///
    /// # Errors
    /// [`Error::NoRandom`].
    pub(crate) fn begin(&self, server: &Address, author: Option<&Author>) -> Result<Tray, Error> {
        let secret = Secret::random().map_err(Error::no_random)?;
        let heading =
            Heading { server: server.clone(), author: author.cloned(), author_is_default: false, secret };
        let path = self.folder().map(|folder| new_path(folder, FILE_END)).transpose();
        Ok(Tray::new(path.map_err(Error::no_random)?, Contents::new(heading), None))
    }

    /// Writes a text that has no server yet to a file of its own. Only a person sends it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_aside(&self, text: &str) -> Result<PathBuf, Error> {
        let folder = self.folder().ok_or(Error::NoFolder)?;
        let write = || {
            create_folder(folder)?;
            let path = new_path(folder, ASIDE_END)?;
            create(&path, text.as_bytes())?;
            Ok(path)
        };
        write().map_err(|error| Error::unwritable(folder, error))
    }

    /// Adopts, one after the other, the trays of earlier runs that `wanted` selects.
    pub(crate) fn adopt(&self, wanted: impl Fn(&Contents) -> bool + Send + 'static) -> Left {
        let mut troubles = Vec::new();
        let files = files(self.folder(), &mut troubles).into_iter();
        Left { wanted: Box::new(wanted), files, troubles }
    }

    /// Adopts the tray of the entry `id`, and returns the entry's counter too.
    ///
    /// # Errors
    /// There is no such entry, or its tray cannot be adopted.
    pub(crate) fn adopt_one(&self, id: &str) -> Result<(Tray, u64), Error> {
        let shown = || diary_proto::escape::escape(id).into_owned();
        let unknown = || Error::NoSuchEntry(shown());
        let (beginning, counter) = id.rsplit_once('.').ok_or_else(unknown)?;
        let counter: u64 = counter.parse().map_err(|_| unknown())?;
        let mut troubles = Vec::new();
        let files = files(self.folder(), &mut troubles);
        let fits = |path: &&PathBuf| random_part(path).is_some_and(|random| random.starts_with(beginning));
        let mut fitting = files.iter().filter(fits);
        let (Some(path), false) = (fitting.next(), beginning.is_empty()) else { return Err(unknown()) };
        if fitting.next().is_some() {
            return Err(Error::Ambiguous(shown()));
        }
        let tray = Tray::adopt(path, &mut troubles).map_err(|error| match error {
            Error::InUse(_) => Error::InUse(shown()),
            other => other,
        })?;
        let tray = tray.filter(|tray| tray.contents.entries.contains_key(&counter));
        Ok((tray.ok_or_else(unknown)?, counter))
    }

    /// Drops an entry and returns it. No copy is left.
    ///
    /// # Errors
    /// There is no such entry, its tray cannot be adopted, or the drop cannot be recorded.
    pub fn drop_entry(&self, id: &str) -> Result<KeptEntry, Error> {
        let (mut tray, counter) = self.adopt_one(id)?;
        tray.drop_entry(counter)
    }

    /// Counts the deliverable entries that no running program holds, for the server at `address`, which serves
    /// `journal` if known.
    pub(crate) fn waiting_for(&self, address: &Address, journal: Option<u64>) -> usize {
        let files = files(self.folder(), &mut Vec::new());
        let left = files.iter().filter_map(|path| look(path).ok().flatten()).filter(|(held, _)| !held);
        left.map(|(_, contents)| contents.deliverable(address, journal).count()).sum()
    }

    /// Lists all entries, including those that running programs hold.
    pub fn list(&self) -> Listing {
        let aside = files_with(ASIDE_END, self.folder(), &mut Vec::new());
        let mut listing = Listing { aside, ..Listing::default() };
        let files = files(self.folder(), &mut listing.troubles);
        for path in &files {
            let (held, contents) = match look(path) {
                Ok(Some(seen)) => seen,
                Ok(None) => {
                    // The run may have ended before its first entry was kept, or after its last ack. Adopting the
                    // file removes it.
                    drop(Tray::adopt(path, &mut Vec::new()));
                    continue;
                }
                Err(trouble) => {
                    listing.troubles.push(trouble);
                    continue;
                }
            };
            listing.troubles.extend(damage(path, &contents));
            let short = short_part(path, &files);
            listing.entries.extend(contents.entries.into_values().map(|kept| Listed {
                id: format!("{short}.{}", kept.counter),
                server: contents.heading.server.clone(),
                author: contents.heading.author.clone().filter(|_| !contents.heading.author_is_default),
                kept,
                held,
            }));
        }
        listing
    }
}

/// Reads a file and whether it is locked; `None` if it keeps nothing or is gone.
fn look(path: &Path) -> Result<Option<(bool, Contents)>, Error> {
    let read = || {
        let file = File::open(path)?;
        let held = match file.try_lock_shared() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(error)) => return Err(error),
        };
        // Unlock at once, or another process that looks for leftovers would skip this file.
        file.unlock()?;
        Ok((held, fs::read(path)?))
    };
    let (held, bytes) = match read() {
        Ok((_, bytes)) if is_unfinished(&bytes) => return Ok(None),
        Ok(seen) => seen,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::unreadable(path, error)),
    };
    let contents = Contents::read(&bytes).map_err(|why| Error::unreadable(path, why))?;
    Ok((!contents.is_settled()).then_some((held, contents)))
}
