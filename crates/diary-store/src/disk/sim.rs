//! A simulated disk: what is durable, what is only in the page cache, and what a power cut leaves.
//!
//! It keeps to what POSIX and real disks promise, and to no more:
//!
//! - a write is durable after a sync of its file that succeeded; a name after a sync of its folder;
//! - a power cut leaves of what was not synced: none, all, a prefix, or any subset of 512-byte sectors, in
//!   any order; a file may have its new length and zeros where its bytes did not arrive; an unsynced name
//!   or rename may be missing;
//! - after a sync that failed, the pages read back and count as clean, and are not durable: a later sync
//!   that succeeds says nothing about them (as seen on Linux; see "Can Applications Recover from fsync
//!   Failures?", Rebello et al., USENIX ATC 2020);
//! - names are the file system's journal's: a sync of a folder that failed is made good by the next one
//!   that succeeds;
//! - a kill ends the process and leaves the page cache.
//!
//! Everything is decided by a seed or by the caller, so that a failure can be replayed.

mod durable;
mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, How, NotOurs};
use durable::{Change, Dir, Inode, Node};
use file::SimFile;

/// What a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// A call of the disk, for choosing where it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Making a folder.
    CreateDir,
    /// Opening a file that is there.
    Open,
    /// Making a file.
    Create,
    /// Listing a folder.
    List,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Cutting a file.
    SetLen,
    /// Syncing a file.
    SyncData,
    /// Syncing a folder.
    SyncDir,
    /// Renaming a file.
    Rename,
    /// Exchanging two names.
    Exchange,
    /// Removing a file.
    Remove,
    /// Locking.
    Lock,
    /// Asking for a file's length or its name.
    Size,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// EIO. A failed sync leaves its pages clean and not durable.
    Io,
    /// ENOSPC; a write has written a part before it.
    Full,
    /// A write writes a part and says so.
    Short,
    /// EINTR.
    Interrupted,
}

/// A simulated disk. Clones are handles to the same disk; [`fork`](Self::fork) makes another.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Default)]
struct State {
    files: Vec<Inode>,
    dirs: BTreeMap<PathBuf, Dir>,
    /// Calls that may change something, or that fault injection may choose.
    calls: u64,
    log: Vec<Call>,
    /// From this call on the process is dead: nothing has an effect.
    dies_at: Option<u64>,
    faults: BTreeMap<u64, Fault>,
    /// Every write meets a full disk.
    full: bool,
    locked: BTreeSet<PathBuf>,
    /// Files of which no read succeeds.
    unreadable: BTreeSet<usize>,
    /// How many files were moved from one folder to another.
    moves: u64,
    /// A new process: handles of the old one are of no use.
    epoch: u64,
}

/// What a power cut leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survives {
    /// Nothing.
    Nothing,
    /// Everything, as it was last.
    Everything,
    /// New lengths and names, and zeros for bytes.
    Zeros,
    /// Whatever this seed chooses, sector by sector and name by name.
    Chosen(u64),
    /// All names and lengths, and of each file's sectors those up to a place that this seed chooses, as they
    /// were last; zeros behind it.
    Prefix(u64),
}

/// A small generator (SplitMix64, Steele et al., OOPSLA 2014): good enough to choose, and the same
/// everywhere.
#[derive(Debug, Clone)]
pub struct Seeded(pub u64);

impl Seeded {
    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        usize::try_from(self.next_u64() % bound).expect("below a usize")
    }
}

impl SimDisk {
    /// An empty disk with a root folder.
    pub fn new() -> Self {
        let disk = Self::default();
        disk.state().dirs.insert(PathBuf::from("/"), Dir::default());
        disk
    }

    /// Another disk in the same state.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.state().clone())) }
    }

    /// How many calls there have been.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Which calls there have been.
    pub fn call_log(&self) -> Vec<Call> {
        self.state().log.clone()
    }

    /// Lets the process die at its call number `call` (from 0): that call and all later ones fail without
    /// effect.
    pub fn die_at(&self, call: u64) {
        self.state().dies_at = Some(call);
    }

    /// Whether the process has died.
    pub fn is_dead(&self) -> bool {
        let state = self.state();
        state.dies_at.is_some_and(|dies| state.calls > dies)
    }

    /// Lets one call fail.
    pub fn fail_at(&self, call: u64, fault: Fault) {
        self.state().faults.insert(call, fault);
    }

    /// Lets every read of a file fail with EIO, whatever process reads; without a path, none any more.
    pub fn set_unreadable(&self, path: Option<&Path>) {
        let mut state = self.state();
        match path.map(|path| state.find(path)) {
            Some(Ok(Node::File(inode))) => _ = state.unreadable.insert(inode),
            Some(_) => {}
            None => state.unreadable.clear(),
        }
    }

    /// Whether no read of the file with this name succeeds.
    pub fn is_unreadable(&self, path: &Path) -> bool {
        let state = self.state();
        matches!(state.find(path), Ok(Node::File(inode)) if state.unreadable.contains(&inode))
    }

    /// Lets the disk be full, or have room again.
    pub fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    /// Ends the process and begins another; the page cache stays.
    pub fn kill(&self) {
        let mut state = self.state();
        state.epoch += 1;
        state.calls = 0;
        state.log.clear();
        state.dies_at = None;
        state.faults.clear();
        state.locked.clear();
    }

    /// Ends the process and the machine with it.
    pub fn cut_power(&self, survives: Survives) {
        self.kill();
        let mut state = self.state();
        let mut seeded = Seeded(0);
        let mut choose: Box<dyn FnMut(usize) -> usize> = match survives {
            Survives::Nothing => Box::new(|_| 0),
            Survives::Everything | Survives::Zeros => Box::new(|choices| choices - 1),
            Survives::Chosen(seed) => {
                seeded.0 = seed;
                Box::new(move |choices| seeded.below(choices))
            }
            Survives::Prefix(_) => Box::new(|choices| choices - 1),
        };
        let mut prefix = Seeded(if let Survives::Prefix(seed) = survives { seed } else { 0 });
        let mut survived = BTreeMap::new();
        for dir in state.dirs.values_mut() {
            dir.cut_power(&mut survived, &mut choose);
        }
        for file in &mut state.files {
            match survives {
                Survives::Zeros => file.versions.clear(),
                Survives::Prefix(_) => file.keep_first_sectors(&mut prefix),
                _ => {}
            }
            file.cut_power(&mut choose);
        }
        state.drop_lost_dirs();
    }

    /// Every file's bytes as they are read.
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        let mut contents = BTreeMap::new();
        for (path, dir) in &state.dirs {
            for (name, node) in &dir.cached {
                if let Node::File(inode) = node {
                    contents.insert(path.join(name), state.files[*inode].cached.clone());
                }
            }
        }
        contents
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, call: Call) -> io::Result<(MutexGuard<'_, State>, Option<Fault>)> {
        let mut state = self.state();
        let fault = state.count(call)?.or_else(|| {
            let full = state.full && matches!(call, Call::Write | Call::Create | Call::CreateDir);
            full.then_some(Fault::Full)
        });
        match fault {
            // These two are told to the call that they are about.
            Some(Fault::Short | Fault::Full) if call == Call::Write => Ok((state, fault)),
            Some(Fault::Io) if call == Call::SyncData => Ok((state, fault)),
            Some(fault) => fault.error().map_or(Ok((state, None)), Err),
            None => Ok((state, None)),
        }
    }
}

impl Fault {
    fn error(self) -> Option<io::Error> {
        let kind = match self {
            Fault::Io => return Some(io::Error::other("simulated EIO")),
            Fault::Full => io::ErrorKind::StorageFull,
            Fault::Interrupted => io::ErrorKind::Interrupted,
            Fault::Short => return None,
        };
        Some(kind.into())
    }
}

impl State {
    fn count(&mut self, call: Call) -> io::Result<Option<Fault>> {
        let number = self.calls;
        self.calls += 1;
        if self.dies_at.is_some_and(|dies| number >= dies) {
            return Err(io::Error::other("the process is dead"));
        }
        self.log.push(call);
        Ok(self.faults.get(&number).copied())
    }

    fn find(&self, path: &Path) -> io::Result<Node> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        self.dirs
            .get(parent)
            .and_then(|dir| dir.cached.get(name))
            .copied()
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn parent_of(&mut self, path: &Path) -> io::Result<(&mut Dir, OsString)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.dirs.get_mut(parent).ok_or(io::ErrorKind::NotFound)?;
        Ok((dir, name))
    }

    /// Moves a folder with all that is in it. A power cut that takes its new name takes all of it.
    fn move_dirs(&mut self, from: &Path, to: &Path) {
        let below: Vec<PathBuf> = self.dirs.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for path in below {
            if let (Some(dir), Ok(rest)) = (self.dirs.remove(&path), path.strip_prefix(from)) {
                self.dirs.insert(to.join(rest), dir);
            }
        }
    }

    /// A folder whose name did not survive is gone, with all that is in it.
    fn drop_lost_dirs(&mut self) {
        let known: Vec<PathBuf> = self.dirs.keys().cloned().collect();
        for path in known {
            if path != Path::new("/") && !matches!(self.find(&path), Ok(Node::Dir)) {
                self.dirs.retain(|dir, _| !dir.starts_with(&path));
            }
        }
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let (mut state, _) = self.call(Call::CreateDir)?;
        if state.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (parent, name) = state.parent_of(path)?;
        parent.change(Change::Link(name, Node::Dir), None);
        state.dirs.insert(path.to_owned(), Dir::default());
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let (state, _) = self.call(Call::List)?;
        let dir = state.dirs.get(dir).ok_or(io::ErrorKind::NotFound)?;
        Ok(dir.cached.keys().cloned().collect())
    }

    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn DiskFile>> {
        let creates = how == How::CreateNew;
        let (mut state, _) = self.call(if creates { Call::Create } else { Call::Open })?;
        let inode = match state.find(path) {
            Ok(_) if creates => return Err(io::ErrorKind::AlreadyExists.into()),
            Ok(Node::Dir) => return Err(NotOurs::NoFile.into()),
            Ok(Node::File(inode)) => inode,
            Err(_) if creates => {
                let inode = state.files.len();
                let (parent, name) = state.parent_of(path)?;
                parent.change(Change::Link(name, Node::File(inode)), None);
                state.files.push(Inode::default());
                inode
            }
            Err(error) => return Err(error),
        };
        let epoch = state.epoch;
        drop(state);
        Ok(Box::new(SimFile { disk: self.clone(), inode, epoch }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (mut state, _) = self.call(Call::Rename)?;
        let node = state.find(from)?;
        if matches!(node, Node::Dir) {
            state.move_dirs(from, to);
        }
        if from.parent() == to.parent() {
            let to = to.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
            let (dir, from) = state.parent_of(from)?;
            dir.change(Change::Rename(from, to), None);
            return Ok(());
        }
        state.moves += 1;
        let number = Some(state.moves);
        let (dir, name) = state.parent_of(to)?;
        dir.change(Change::Link(name, node), number);
        let (dir, name) = state.parent_of(from)?;
        dir.change(Change::Unlink(name), number);
        Ok(())
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        let (mut state, _) = self.call(Call::Exchange)?;
        state.find(one)?;
        state.find(other)?;
        let other = other.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let (dir, one) = state.parent_of(one)?;
        dir.change(Change::Exchange(one, other), None);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (mut state, _) = self.call(Call::Remove)?;
        state.find(path)?;
        let (dir, name) = state.parent_of(path)?;
        dir.change(Change::Unlink(name), None);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let (mut state, _) = self.call(Call::SyncDir)?;
        let moves = state.dirs.get_mut(dir).ok_or(io::ErrorKind::NotFound)?.sync();
        state.dirs.values_mut().for_each(|dir| dir.sync_moves(&moves));
        Ok(())
    }

    fn try_room(&self, _dir: &Path, _bytes: usize) -> io::Result<()> {
        for call in [Call::Create, Call::Write, Call::SyncData] {
            if let Some(error) = self.call(call)?.1.and_then(Fault::error) {
                return Err(error);
            }
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let (mut state, _) = self.call(Call::Lock)?;
        if !state.locked.insert(path.to_owned()) {
            return Ok(None);
        }
        let epoch = state.epoch;
        drop(state);
        Ok(Some(Box::new(SimLock { disk: self.clone(), path: path.to_owned(), epoch })))
    }
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    epoch: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.epoch == self.epoch {
            state.locked.remove(&self.path);
        }
    }
}
