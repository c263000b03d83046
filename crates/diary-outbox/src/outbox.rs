//! What was written and is not acked: kept on disk from before it is sent until it is in the diary.
//!
//! The outbox is a folder with one file for each run of the program that writes, a [`Tray`]. Each has a secret
//! of its own, so that no two processes or machines ever count with the same producer. Whoever holds a tray
//! has its file locked; a file that nobody holds was left by a run that ended, and is adopted by the next one:
//! its entries go out with the keys that they have, so that none is in the diary twice.

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

/// A folder of entries that are kept until they are acked. Nothing is made before something is to be kept. The default one
/// can keep nothing: whoever submits an entry is told so, and it is sent all the same.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    /// `None` if there is no place for it.
    folder: Option<PathBuf>,
}

/// What earlier runs left, the oldest first. Each tray is taken over when its turn comes, and is to be dropped before
/// the next one: more of them may wait than a process may have files.
pub(crate) struct Left {
    /// Decides which files are taken over.
    wanted: Box<dyn Fn(&Contents) -> bool + Send>,
    files: vec::IntoIter<PathBuf>,
    /// Files and lines that cannot be read, as far as they were met.
    pub(crate) troubles: Vec<Error>,
}

impl Iterator for Left {
    type Item = Tray;

    fn next(&mut self) -> Option<Tray> {
        loop {
            let path = self.files.next()?;
            let contents = fs::read(&path).ok().and_then(|bytes| Contents::read(&bytes).ok());
            // A file without entries was left by a run that ended after its acks; taken over, it goes.
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

/// All that an outbox keeps.
#[derive(Debug, Default)]
pub struct Listing {
    /// The oldest file first.
    pub entries: Vec<Listed>,
    /// Files of texts that were [set aside](Outbox::set_aside).
    pub aside: Vec<PathBuf>,
    /// Files and lines that cannot be read.
    pub troubles: Vec<Error>,
}

/// An entry in a [`Listing`].
#[derive(Debug, Clone)]
pub struct Listed {
    /// What people call it: the beginning of its file's random part, a dot, and its counter.
    pub id: String,
    /// Where it was to go.
    pub server: Address,
    /// Who wrote it; `None` leaves that to the server.
    pub author: Option<Author>,
    /// The entry.
    pub kept: KeptEntry,
    /// A running program holds it.
    pub held: bool,
}

impl Outbox {
    /// The outbox in this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()) }
    }

    /// Where it is, if anywhere.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// A tray for what is written from now on. Its file appears with its first entry.
    ///
    /// # Errors
    /// [`Error::NoRandom`].
    pub(crate) fn begin(&self, server: &Address, author: Option<&Author>) -> Result<Tray, Error> {
        let secret = Secret::random().map_err(Error::no_random)?;
        let heading = Heading { server: server.clone(), author: author.cloned(), secret };
        let path = self.folder().map(|folder| new_path(folder, FILE_END)).transpose();
        Ok(Tray::new(path.map_err(Error::no_random)?, Contents::new(heading), None))
    }

    /// Keeps a text that has no server yet in a file of its own, which only a person sends.
    ///
    /// # Errors
    /// It cannot be written.
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

    /// Takes over what earlier runs left and is wanted, one tray after the other.
    pub(crate) fn adopt(&self, wanted: impl Fn(&Contents) -> bool + Send + 'static) -> Left {
        let mut troubles = Vec::new();
        let files = files(self.folder(), &mut troubles).into_iter();
        Left { wanted: Box::new(wanted), files, troubles }
    }

    /// Takes over the tray of one entry, which it names by its counter.
    ///
    /// # Errors
    /// There is no such entry, or it cannot be had.
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

    /// Throws one entry away, and gives it back: nobody else has it any more.
    ///
    /// # Errors
    /// There is no such entry, it cannot be had, or that cannot be written down.
    pub fn drop_entry(&self, id: &str) -> Result<KeptEntry, Error> {
        let (mut tray, counter) = self.adopt_one(id)?;
        tray.drop_entry(counter)
    }

    /// How many entries that no running program holds can go to the server at `address`, which serves `journal`, if
    /// that is known.
    pub(crate) fn waiting_for(&self, address: &Address, journal: Option<u64>) -> usize {
        let files = files(self.folder(), &mut Vec::new());
        let left = files.iter().filter_map(|path| look(path).ok().flatten()).filter(|(held, _)| !held);
        left.map(|(_, contents)| contents.deliverable(address, journal).count()).sum()
    }

    /// All that is kept, by running programs too.
    pub fn list(&self) -> Listing {
        let aside = files_with(ASIDE_END, self.folder(), &mut Vec::new());
        let mut listing = Listing { aside, ..Listing::default() };
        let files = files(self.folder(), &mut listing.troubles);
        for path in &files {
            let (held, contents) = match look(path) {
                Ok(Some(seen)) => seen,
                Ok(None) => {
                    // Maybe a run ended before its first entry was kept, or after its acks. Taken over, the file
                    // goes.
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
                author: contents.heading.author.clone(),
                kept,
                held,
            }));
        }
        listing
    }
}

/// Whether somebody holds a file, and what it says; `None` if it keeps nothing or is gone.
fn look(path: &Path) -> Result<Option<(bool, Contents)>, Error> {
    let read = || {
        let file = File::open(path)?;
        let held = match file.try_lock_shared() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(error)) => return Err(error),
        };
        // At once, so that nobody who looks for what was left passes it by.
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
