//! What was written and is not acked: kept on disk from before it is sent until it is in the diary.
//!
//! The outbox is a folder with one file for each run of the program that writes, a [`Tray`]. Each has a secret
//! of its own, so that no two processes or machines ever count with the same producer. Whoever holds a tray
//! has its file locked; a file that nobody holds was left by a run that ended, and is adopted by the next one:
//! its entries go out with the keys that they have, so that none is in the diary twice.

mod record;
#[cfg(test)]
mod tests;
mod tray;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::vec;

use diary_client::{Address, Author};
use jiff::Timestamp;

pub(crate) use self::record::Kept;
use self::record::{Contents, Heading};
use self::tray::{Named, Opened, cannot_be_read, complete, create_folder, damage, named, sync_folder};
pub(crate) use self::tray::{Pushed, Tray};

/// Where the outbox is, in the folder for what outlives a run.
const FOLDER: &str = "outbox";

/// Bytes of a tray's secret.
const SECRET_BYTES: usize = 32;

/// Bytes of the random part of a tray's name.
const RANDOM_BYTES: usize = 8;

/// Fewest characters of a tray's random part in an id: enough that two ids are hardly ever alike, few enough
/// to be typed.
const ID_MIN_CHARS: usize = 4;

/// What is said where there is no place for files.
const NO_FOLDER: &str = "there is no folder for an outbox: set HOME or XDG_STATE_HOME";

/// The folder. Nothing is made before something is to be kept.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    /// `None` if there is no place for it.
    folder: Option<PathBuf>,
}

/// What earlier runs left, the oldest first. Each tray is taken over when its turn comes, and is to be dropped before
/// the next one: more of them may wait than a process may have files.
pub(crate) struct Left {
    folder: PathBuf,
    server: Option<Address>,
    names: vec::IntoIter<String>,
    /// Sentences about files and lines that cannot be read, as far as they were met.
    pub(crate) troubles: Vec<String>,
}

impl Iterator for Left {
    type Item = Tray;

    fn next(&mut self) -> Option<Tray> {
        loop {
            let name = self.names.next()?;
            if self.is_elsewhere(&name) {
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

impl Left {
    /// What is for another server is not touched.
    fn is_elsewhere(&self, name: &str) -> bool {
        let Some(server) = &self.server else { return false };
        let contents = fs::read(complete(&self.folder, name)).ok();
        let contents = contents.and_then(|bytes| Contents::read(&bytes).ok());
        contents.is_some_and(|contents| contents.heading.server != *server)
    }
}

/// All that is kept.
#[derive(Default)]
pub(crate) struct Listing {
    /// The oldest tray first.
    pub(crate) entries: Vec<Listed>,
    /// Sentences about files and lines that cannot be read.
    pub(crate) troubles: Vec<String>,
}

/// An entry in a [`Listing`].
pub(crate) struct Listed {
    /// What people call it: the beginning of its tray's random part, a dot, and its counter.
    pub(crate) id: String,
    /// Where it goes, and who wrote it.
    pub(crate) server: Address,
    pub(crate) author: Option<Author>,
    pub(crate) kept: Kept,
    /// A program that is running holds it.
    pub(crate) held: bool,
}

impl Outbox {
    /// The outbox in `state`, the folder for what outlives a run, if there is one.
    pub(crate) fn new(state: Option<&Path>) -> Self {
        Self { folder: state.map(|state| state.join(FOLDER)) }
    }

    /// A tray for what is written from now on. Its file appears with its first entry.
    ///
    /// # Errors
    /// A sentence: the system gives no random bytes.
    pub(crate) fn begin(&self, server: &Address, author: Option<&Author>) -> Result<Tray, String> {
        let no_random = |error| format!("no random bytes for a secret: {error}");
        let mut secret = vec![0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(|error| no_random(error.into()))?;
        let heading = Heading { server: server.clone(), author: author.cloned(), secret: secret.into() };
        Ok(Tray::new(self.folder.clone(), new_name().map_err(no_random)?, heading))
    }

    /// Keeps a text that has no server yet in a file of its own, which only a person sends.
    ///
    /// # Errors
    /// A sentence: it cannot be written.
    pub(crate) fn set_aside(&self, text: &str) -> Result<PathBuf, String> {
        let folder = self.folder.as_ref().ok_or(NO_FOLDER)?;
        let write = || {
            create_folder(folder)?;
            let path = folder.join(format!("{}.txt", new_name()?));
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(text.as_bytes()).and_then(|()| file.sync_data())?;
            sync_folder(folder)?;
            Ok(path)
        };
        write().map_err(|error: io::Error| format!("{} cannot be written: {error}", folder.display()))
    }

    /// Takes over what earlier runs left, one tray after the other: for this server, or for all.
    pub(crate) fn adopt(&self, server: Option<&Address>) -> Left {
        let mut troubles = Vec::new();
        let names = self.folder.as_ref().map(|folder| names(folder, true, &mut troubles));
        Left {
            folder: self.folder.clone().unwrap_or_default(),
            server: server.cloned(),
            names: names.unwrap_or_default().into_iter(),
            troubles,
        }
    }

    /// Takes over the tray of one entry, which it names by its counter.
    ///
    /// # Errors
    /// A sentence: there is no such entry, or it cannot be had.
    pub(crate) fn adopt_one(&self, id: &str) -> Result<(Tray, u64), String> {
        let unknown = || {
            let id = diary_proto::escape::escape(id);
            format!("no entry in the outbox is called {id}; diary outbox lists them")
        };
        let folder = self.folder.as_ref().ok_or_else(unknown)?;
        let (beginning, counter) = id.rsplit_once('.').ok_or_else(unknown)?;
        let counter: u64 = counter.parse().map_err(|_| unknown())?;
        let mut troubles = Vec::new();
        let names = names(folder, true, &mut troubles);
        let mut fitting = names.iter().filter(|name| random_part(name).starts_with(beginning));
        let (Some(name), false) = (fitting.next(), beginning.is_empty()) else { return Err(unknown()) };
        if fitting.next().is_some() {
            return Err(format!("more than one entry is called {id}; diary outbox tells them apart"));
        }
        match Tray::adopt(folder, name, &mut troubles)? {
            Opened::Tray(tray) if tray.entry(counter).is_some() => Ok((*tray, counter)),
            Opened::Tray(_) | Opened::Nothing => Err(unknown()),
            Opened::Held => Err(format!("a program that is running holds {id}; end that first")),
        }
    }

    /// What people call an entry.
    pub(crate) fn id(&self, tray: &Tray, counter: u64) -> String {
        let names = self.folder.as_ref().map(|folder| names(folder, false, &mut Vec::new()));
        format!("{}.{counter}", short_part(tray.name(), &names.unwrap_or_default()))
    }

    /// All that is kept, by running programs too. What a program that was killed left half made is seen to first.
    pub(crate) fn list(&self) -> Listing {
        let mut listing = Listing::default();
        let Some(folder) = &self.folder else { return listing };
        let names = names(folder, true, &mut listing.troubles);
        for name in &names {
            let path = complete(folder, name);
            let (held, bytes) = match look(&path) {
                Ok(seen) => seen,
                // It was settled meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    listing.troubles.push(cannot_be_read(&path, &error));
                    continue;
                }
            };
            let contents = match Contents::read(&bytes) {
                Ok(contents) => contents,
                Err(why) => {
                    listing.troubles.push(cannot_be_read(&path, &why));
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

/// How many entries wait in a file, besides those that were refused.
pub(crate) fn count_in(file: &Path) -> usize {
    let contents = fs::read(file).ok().and_then(|bytes| Contents::read(&bytes).ok());
    contents.map_or(0, |contents| contents.entries.values().filter(|kept| kept.refusal.is_none()).count())
}

/// The names of the files, the oldest first. With `drafts`, those that were left behind are seen to before.
fn names(folder: &Path, drafts: bool, troubles: &mut Vec<String>) -> Vec<String> {
    let files = match fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                troubles.push(format!("{} cannot be read: {error}", folder.display()));
            }
            return Vec::new();
        }
    };
    let mut names = Vec::new();
    for file in files.flatten() {
        match file.file_name().to_str().and_then(named) {
            Some(Named::File(name)) => names.push(name),
            Some(Named::Draft(name)) if drafts => match Tray::finish_draft(folder, &name) {
                Ok(true) => names.push(name),
                Ok(false) => {}
                Err(error) => troubles.push(cannot_be_read(&file.path(), &error)),
            },
            _ => {}
        }
    }
    names.sort_unstable();
    names.dedup();
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

/// `20261121T001502.123456Z-3f9a1c04d2e8b711`: names sort by time.
fn new_name() -> io::Result<String> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random)?;
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{random}", Timestamp::now().strftime("%Y%m%dT%H%M%S.%6fZ")))
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
