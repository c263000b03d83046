//! What this crate's tests share.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use diary_proto::{Author, Producer};
use diary_store::disk::{Disk, DiskFile, How};
use diary_store::sim::SimDisk;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Appends, Keys};

type Hook = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// A simulated disk whose reads a test watches, holds up or fails.
#[derive(Clone)]
pub(crate) struct HookedDisk {
    pub(crate) disk: SimDisk,
    hook: Arc<Mutex<Hook>>,
    in_memory: Arc<AtomicBool>,
}

impl HookedDisk {
    pub(crate) fn new() -> Self {
        Self {
            disk: SimDisk::new(),
            hook: Arc::new(Mutex::new(Arc::new(|| Ok(())))),
            in_memory: Arc::default(),
        }
    }

    /// Calls `hook` before every read from now on, on the thread that reads.
    pub(crate) fn before_reads(&self, hook: impl Fn() -> io::Result<()> + Send + Sync + 'static) {
        *self.hook.lock().unwrap() = Arc::new(hook);
    }

    /// Breaks the lines of the newest day file that have one of these texts.
    pub(crate) fn damage(&self, texts: &[&str]) {
        let dir = Path::new("/diary");
        let names = self.list(dir).unwrap();
        let day = names.iter().filter(|name| name.to_string_lossy().ends_with(".log")).max().unwrap();
        let file = self.open(&dir.join(day), How::Write).unwrap();
        let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
        file.read_full_at(&mut bytes, 0).unwrap();
        for text in texts {
            let at = memchr::memmem::find(&bytes, text.as_bytes()).unwrap();
            file.write_all_at(b"?", at as u64).unwrap();
        }
    }

    /// Lets all bytes be had without waiting from now on.
    pub(crate) fn keep_in_memory(&self) {
        self.in_memory.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for HookedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.disk.fmt(f)
    }
}

impl Disk for HookedDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.disk.list(dir)
    }

    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(HookedFile { file: self.disk.open(path, how)?, disk: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn try_room(&self, dir: &Path, bytes: usize) -> io::Result<()> {
        self.disk.try_room(dir, bytes)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        self.disk.lock(path)
    }
}

struct HookedFile {
    file: Box<dyn DiskFile>,
    disk: HookedDisk,
}

impl DiskFile for HookedFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        // Not while the lock is held: a hook may wait, or panic.
        let hook = Arc::clone(&self.disk.hook.lock().unwrap());
        hook()?;
        self.file.read_at(into, offset)
    }

    fn read_at_now(&self, into: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        let in_memory = self.disk.in_memory.load(Ordering::Relaxed);
        in_memory.then(|| self.file.read_at(into, offset)).transpose()
    }

    fn write_at(&self, from: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(from, offset)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.file.is_at(path)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Whether this thread is one that the engine gave this name.
pub(crate) fn is_on(name: &str) -> bool {
    thread::current().name() == Some(name)
}

pub(crate) fn permit() -> OwnedSemaphorePermit {
    Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap()
}

/// Appends without keys.
pub(crate) fn appends<'a>(texts: impl IntoIterator<Item = &'a str>) -> Appends {
    with_keys(None, texts)
}

/// Appends of one producer, which may have been sent before.
pub(crate) fn keyed<'a>(first_counter: u64, texts: impl IntoIterator<Item = &'a str>) -> Appends {
    with_keys(Some(Keys { producer: Producer(7), first_counter, retry: true }), texts)
}

fn with_keys<'a>(keys: Option<Keys>, texts: impl IntoIterator<Item = &'a str>) -> Appends {
    let mut appends = Appends::new(Arc::new(Author::new("a").unwrap()), keys);
    texts.into_iter().for_each(|text| appends.push(text));
    appends
}
