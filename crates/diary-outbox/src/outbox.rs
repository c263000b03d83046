//! What was written and is not acked: kept on disk from before it is sent until it is in the diary.
//!
//! The outbox is a folder with one file for each run of the program that writes, a [`Tray`]. Each has a secret
//! of its own, so that no two processes or machines ever count with the same producer. Whoever holds a tray
//! has its file locked; a file that nobody holds was left by a run that ended, and is adopted by the next one:
//! its entries go out with the keys that they have, so that none is in the diary twice.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::vec;

use diary_client::{Address, Author, Secret};

use crate::error::Error;
use crate::record::{Contents, Heading, KeptEntry};
use crate::tray::{
    Opened, Tray, complete, create_folder, damage, is_unfinished, name_of, new_name, sync_folder,
};

/// Fewest characters of a tray's random part in an id: enough that two ids are hardly ever alike, few enough
/// to be typed.
const ID_MIN_CHARS: usize = 4;

/// A folder of entries that are kept until they are acked. Nothing is made before something is to be kept.
#[derive(Debug, Clone)]
pub struct Outbox {
    /// `None` if there is no place for it.
    folder: Option<PathBuf>,
}

/// Decides which files are taken over.
type Wanted = Box<dyn Fn(&Contents) -> bool + Send>;

/// What earlier runs left, the oldest first. Each tray is taken over when its turn comes, and is to be dropped before
/// the next one: more of them may wait than a process may have files.
pub(crate) struct Left {
    folder: PathBuf,
    wanted: Wanted,
    names: vec::IntoIter<String>,
    /// Files and lines that cannot be read, as far as they were met.
    pub(crate) troubles: Vec<Error>,
}

impl Iterator for Left {
    type Item = Tray;

    fn next(&mut self) -> Option<Tray> {
        loop {
            let name = self.names.next()?;
            let contents = fs::read(complete(&self.folder, &name)).ok();
            let contents = contents.and_then(|bytes| Contents::read(&bytes).ok());
            // A file without entries was left by a run that ended after its acks; taken over, it goes.
            let is_wanted = |contents: Contents| contents.entries.is_empty() || (self.wanted)(&contents);
            if !contents.is_none_or(is_wanted) {
                continue;
            }
            match Tray::adopt(&self.folder, &name, &mut self.troubles) {
                Ok(Opened::Tray(tray)) => return Some(*tray),
                Ok(Opened::Held | Opened::Nothing) => {}
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

    /// One that can keep nothing: whoever submits an entry is told so, and it is sent all the same.
    pub fn nowhere() -> Self {
        Self { folder: None }
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
        let secret = Secret::random().map_err(|error| Error::NoRandom(error.to_string()))?;
        let heading = Heading { server: server.clone(), author: author.cloned(), secret };
        let name = new_name().map_err(|error| Error::NoRandom(error.to_string()))?;
        Ok(Tray::new(self.folder.clone(), name, heading))
    }

    /// Keeps a text that has no server yet in a file of its own, which only a person sends.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_aside(&self, text: &str) -> Result<PathBuf, Error> {
        let folder = self.folder.as_ref().ok_or(Error::NoFolder)?;
        let write = || {
            create_folder(folder)?;
            let path = folder.join(format!("{}.txt", new_name()?));
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(text.as_bytes()).and_then(|()| file.sync_data())?;
            sync_folder(folder)?;
            Ok(path)
        };
        write().map_err(|error| Error::unwritable(folder, error))
    }

    /// Takes over what earlier runs left and is wanted, one tray after the other.
    pub(crate) fn adopt(&self, wanted: impl Fn(&Contents) -> bool + Send + 'static) -> Left {
        let mut troubles = Vec::new();
        let names = self.folder.as_ref().map(|folder| names(folder, &mut troubles));
        Left {
            folder: self.folder.clone().unwrap_or_default(),
            wanted: Box::new(wanted),
            names: names.unwrap_or_default().into_iter(),
            troubles,
        }
    }

    /// Takes over the tray of one entry, which it names by its counter.
    ///
    /// # Errors
    /// There is no such entry, or it cannot be had.
    pub(crate) fn adopt_one(&self, id: &str) -> Result<(Tray, u64), Error> {
        let shown = || diary_proto::escape::escape(id).into_owned();
        let unknown = || Error::NoSuchEntry(shown());
        let folder = self.folder.as_ref().ok_or_else(unknown)?;
        let (beginning, counter) = id.rsplit_once('.').ok_or_else(unknown)?;
        let counter: u64 = counter.parse().map_err(|_| unknown())?;
        let mut troubles = Vec::new();
        let names = names(folder, &mut troubles);
        let mut fitting = names.iter().filter(|name| random_part(name).starts_with(beginning));
        let (Some(name), false) = (fitting.next(), beginning.is_empty()) else { return Err(unknown()) };
        if fitting.next().is_some() {
            return Err(Error::Ambiguous(shown()));
        }
        match Tray::adopt(folder, name, &mut troubles)? {
            Opened::Tray(tray) if tray.entry(counter).is_some() => Ok((*tray, counter)),
            Opened::Tray(_) | Opened::Nothing => Err(unknown()),
            Opened::Held => Err(Error::InUse(shown())),
        }
    }

    /// Throws one entry away, and gives it back: nobody else has it any more.
    ///
    /// # Errors
    /// There is no such entry, it cannot be had, or that cannot be written down.
    pub fn drop_entry(&self, id: &str) -> Result<KeptEntry, Error> {
        let (mut tray, counter) = self.adopt_one(id)?;
        let kept = tray.entry(counter).cloned().ok_or_else(|| Error::NoSuchEntry(id.to_owned()))?;
        tray.drop_entry(counter)?;
        Ok(kept)
    }

    /// How many entries that no running program holds can go to the server at `address`, which serves `journal`, if
    /// that is known.
    pub(crate) fn waiting_for(&self, address: &Address, journal: Option<u64>) -> usize {
        let Some(folder) = &self.folder else { return 0 };
        let names = names(folder, &mut Vec::new());
        let files = names.iter().filter_map(|name| look(&complete(folder, name)).ok());
        let contents = files.filter(|(held, _)| !held).filter_map(|(_, bytes)| Contents::read(&bytes).ok());
        contents.map(|contents| contents.deliverable(address, journal).count()).sum()
    }

    /// What people call an entry.
    pub(crate) fn id(&self, tray: &Tray, counter: u64) -> String {
        let names = self.folder.as_ref().map(|folder| names(folder, &mut Vec::new()));
        format!("{}.{counter}", short_part(tray.name(), &names.unwrap_or_default()))
    }

    /// All that is kept, by running programs too.
    pub fn list(&self) -> Listing {
        let mut listing = Listing::default();
        let Some(folder) = &self.folder else { return listing };
        let names = names(folder, &mut listing.troubles);
        for name in &names {
            let path = complete(folder, name);
            let (held, bytes) = match look(&path) {
                Ok(seen) => seen,
                // It was settled meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    listing.troubles.push(Error::unreadable(&path, error));
                    continue;
                }
            };
            if is_unfinished(&bytes) && held {
                continue;
            }
            let contents = Contents::read(&bytes);
            let is_left = contents.as_ref().is_ok_and(|contents| contents.entries.is_empty());
            if (is_unfinished(&bytes) || is_left) && !held {
                // A run ended before its first entry was kept, or after its acks. Taken over, the file goes.
                drop(Tray::adopt(folder, name, &mut Vec::new()));
            }
            let contents = match contents {
                Ok(contents) => contents,
                Err(_) if is_unfinished(&bytes) => continue,
                Err(why) => {
                    listing.troubles.push(Error::unreadable(&path, why));
                    continue;
                }
            };
            listing.troubles.extend(damage(&path, &contents));
            let short = short_part(name, &names);
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

/// The names of the files, the oldest first.
fn names(folder: &Path, troubles: &mut Vec<Error>) -> Vec<String> {
    let files = match fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                troubles.push(Error::unreadable(folder, error));
            }
            return Vec::new();
        }
    };
    let files = files.flatten().filter_map(|file| file.file_name().into_string().ok());
    let mut names: Vec<String> = files.filter_map(|file| name_of(&file).map(str::to_owned)).collect();
    names.sort_unstable();
    names
}

/// Whether somebody holds a file, and what is in it.
fn look(path: &Path) -> io::Result<(bool, Vec<u8>)> {
    let file = File::open(path)?;
    let held = match file.try_lock_shared() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(error)) => return Err(error),
    };
    // At once, so that nobody who looks for what was left passes it by.
    file.unlock()?;
    Ok((held, fs::read(path)?))
}

fn random_part(name: &str) -> &str {
    name.rsplit_once('-').map_or(name, |(_, random)| random)
}

/// The beginning of a name's random part that no other name has.
fn short_part<'a>(name: &'a str, names: &[String]) -> &'a str {
    let random = random_part(name);
    let shared = |other: &str| random.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let others = names.iter().filter(|other| *other != name);
    let needed = others.map(|other| shared(random_part(other)) + 1).max().unwrap_or(0);
    random.get(..needed.max(ID_MIN_CHARS)).unwrap_or(random)
}
