//! The journals in a data folder. Each is opened when somebody first asks for it, and stays open.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use diary_proto::JournalName;
use diary_store::disk::{Disk, RealDisk};
use futures::StreamExt;
use futures::stream::iter;
use tokio::sync::Mutex as AsyncMutex;

use crate::common::Common;
use crate::journal::Journal;
use crate::limits::STOPS_AT_ONCE;
use crate::open::{OpenError, Options, start};
use crate::reading::Reading;

/// The journals of a data folder.
#[derive(Debug)]
pub struct Journals {
    disk: Arc<dyn Disk>,
    options: Options,
    common: Common,
    state: Mutex<State>,
    /// How many may be open.
    open_max: AtomicUsize,
    /// Whoever looks through the data folder or opens a journal there: one at a time, so that this takes no more than one
    /// of the threads for readings.
    looking: Arc<AsyncMutex<()>>,
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<JournalName, Arc<Journal>>,
    /// Those that could not be opened, and the log says why.
    broken: HashSet<JournalName>,
}

impl Journals {
    /// Those on this machine's disk. Opens none yet.
    pub fn new(options: Options) -> Arc<Self> {
        Self::on(Arc::new(RealDisk), options, Common::new())
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, options: Options, common: Common) -> Arc<Self> {
        let (state, open_max, looking) = (Mutex::default(), AtomicUsize::new(usize::MAX), Arc::default());
        Arc::new(Self { disk, options, common, state, open_max, looking })
    }

    /// Bounds how many may be open. Each takes two file descriptors, and for a moment some more.
    pub fn open_at_most(&self, count: usize) {
        self.open_max.store(count, Ordering::Relaxed);
    }

    /// The journal of this name, which is opened if it is not. Cancel safe: an opening goes on.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn get(self: &Arc<Self>, name: &JournalName) -> Result<Arc<Journal>, OpenError> {
        self.open(name, false).await
    }

    /// The same, and makes the journal if there is none.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn get_or_make(self: &Arc<Self>, name: &JournalName) -> Result<Arc<Journal>, OpenError> {
        self.open(name, true).await
    }

    async fn open(self: &Arc<Self>, name: &JournalName, makes: bool) -> Result<Arc<Journal>, OpenError> {
        if let Some(journal) = self.state().open.get(name) {
            return Ok(Arc::clone(journal));
        }
        let (journals, name) = (Arc::clone(self), name.clone());
        // In a task of its own: whoever has begun to open a journal has its lock, and must keep it.
        let opening = tokio::spawn(async move {
            let _looking = journals.looking.lock().await;
            if let Some(journal) = journals.state().open.get(&name) {
                return Ok(Arc::clone(journal));
            }
            let (opener, wanted) = (Arc::clone(&journals), name.clone());
            let opened = journals.common.read(move || Ok(opener.open_now(&wanted, makes))).await;
            opened.unwrap_or_else(|error| Err(OpenError::Look(name, error.into())))
        });
        // It fails only with the runtime.
        opening.await.unwrap_or_else(|error| Err(OpenError::Thread(io::Error::other(error))))
    }

    /// Blocks.
    fn open_now(&self, name: &JournalName, makes: bool) -> Result<Arc<Journal>, OpenError> {
        let is_there = diary_store::is_journal(&*self.disk, &self.options.data.join(name.as_str()));
        if !makes && !is_there.map_err(|error| OpenError::Look(name.clone(), error))? {
            return Err(OpenError::None(name.clone()));
        }
        let journal = self.open_one(name)?;
        let mut state = self.state();
        state.broken.remove(name);
        state.open.insert(name.clone(), Arc::clone(&journal));
        Ok(journal)
    }

    /// Whether it is news that this journal cannot be opened: once, until it can.
    pub fn is_newly_broken(&self, name: &JournalName) -> bool {
        self.state().broken.insert(name.clone())
    }

    fn open_one(&self, name: &JournalName) -> Result<Arc<Journal>, OpenError> {
        if self.state().open.len() >= self.open_max.load(Ordering::Relaxed) {
            return Err(OpenError::TooMany(name.clone()));
        }
        let journal = start(Arc::clone(&self.disk), name, &self.options, &self.common)?;
        let is_same = |other: &&Arc<Journal>| other.about().id == journal.about().id;
        match self.state().open.values().find(is_same) {
            Some(other) => Err(OpenError::Copy(name.clone(), other.about().name.clone())),
            None => Ok(Arc::new(journal)),
        }
    }

    /// The names of all, in order. Cancel safe.
    pub fn names(&self) -> Reading<Vec<JournalName>> {
        let (disk, data) = (Arc::clone(&self.disk), self.options.data.clone());
        let (common, looking) = (self.common.clone(), Arc::clone(&self.looking));
        Reading::after(async move {
            let _looking = looking.lock().await;
            common.read(move || diary_store::journals(&*disk, &data)).await
        })
    }

    /// Completes when the disk has failed under one of them, or a writer has panicked. Cancel safe.
    pub async fn failed(&self) {
        self.common.failed.cancelled().await;
    }

    /// Whether the disk has failed under one of them, or a writer has panicked.
    pub fn has_failed(&self) -> bool {
        self.common.failed.is_cancelled()
    }

    /// Stops all writers, after everything that was handed to them is committed and answered. Dropping the future does not
    /// cancel a stop that has begun, only the wait.
    pub async fn stop(&self) {
        let open: Vec<_> = self.state().open.values().cloned().collect();
        iter(open).for_each_concurrent(STOPS_AT_ONCE, async |journal| journal.stop().await).await;
    }

    #[cfg(feature = "sim")]
    pub(crate) fn insert(&self, journal: Arc<Journal>) {
        self.state().open.insert(journal.about().name.clone(), journal);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use diary_store::disk::How;
    use diary_store::sim::SimDisk;

    use super::*;
    use crate::sim;
    use crate::testing::{HookedDisk, appends, permit};

    fn journals(disk: &SimDisk) -> Arc<Journals> {
        Journals::on(Arc::new(disk.clone()), sim::options(), Common::new())
    }

    fn name(name: &str) -> JournalName {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn journals_are_apart_and_found_again() {
        let disk = SimDisk::new();
        let before = journals(&disk);
        let (a, b) = (name("a"), name("b"));
        assert!(matches!(before.get(&a).await, Err(OpenError::None(none)) if none == a));
        assert!(before.state().open.is_empty() && before.state().broken.is_empty());
        for (name, texts) in [(&a, 1), (&b, 2)] {
            let journal = before.get_or_make(name).await.unwrap();
            for _ in 0..texts {
                journal.append(appends(["x"]), permit()).await;
            }
            assert_eq!(journal.head(), texts);
            assert!(Arc::ptr_eq(&journal, &before.get(name).await.unwrap()), "it is opened once");
        }
        assert_ne!(before.get(&a).await.unwrap().about().id, before.get(&b).await.unwrap().about().id);
        before.stop().await;

        let after = journals(&disk);
        assert_eq!(after.names().await.unwrap(), [a.clone(), b.clone()]);
        assert_eq!(after.get(&b).await.unwrap().head(), 2);
        assert_eq!(after.state().open.len(), 1, "nobody has asked for the other one");
    }

    #[tokio::test]
    async fn many_who_ask_at_once_get_the_same() {
        let journals = journals(&SimDisk::new());
        let name = name("a");
        let got = futures::future::join_all((0..50).map(|_| journals.get_or_make(&name))).await;
        let first = got[0].as_ref().unwrap();
        assert!(got.iter().all(|journal| Arc::ptr_eq(journal.as_ref().unwrap(), first)));
    }

    #[tokio::test]
    async fn what_only_looks_like_a_journal_is_none() {
        let disk = SimDisk::new();
        let journals = journals(&disk);
        journals.get_or_make(&name("real")).await.unwrap();
        for folder in ["/empty", "/tls", "/.hidden", "/real/archive"] {
            disk.create_dir(Path::new(folder)).unwrap();
        }
        disk.open(Path::new("/file"), How::CreateNew).unwrap();
        assert_eq!(journals.names().await.unwrap(), [name("real")]);
        for none in ["empty", "file"] {
            assert!(matches!(journals.get(&name(none)).await, Err(OpenError::None(_))), "{none}");
        }
    }

    /// Who asks for a journal may be gone before it is open.
    #[tokio::test]
    async fn an_opening_that_nobody_waits_for_any_more_goes_on() {
        let disk = HookedDisk::new();
        let journals = Journals::on(Arc::new(disk.clone()), sim::options(), Common::new());
        let name = name("a");
        journals.get_or_make(&name).await.unwrap().append(appends(["x"]), permit()).await;
        journals.stop().await;

        let journals = Journals::on(Arc::new(disk.clone()), sim::options(), Common::new());
        let (reached, reads) = std::sync::mpsc::channel();
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let gone = Mutex::new(gone);
        disk.before_reads(move || {
            let _ = reached.send(());
            // An error means that the test has let go of it.
            let _ = gone.lock().unwrap().recv();
            Ok(())
        });
        let asking = tokio::spawn({
            let (journals, name) = (Arc::clone(&journals), name.clone());
            async move { journals.get(&name).await.map(|_| ()) }
        });
        tokio::task::spawn_blocking(move || reads.recv().unwrap()).await.unwrap();
        asking.abort();
        assert!(asking.await.unwrap_err().is_cancelled());
        drop(go);
        assert_eq!(journals.get(&name).await.unwrap().head(), 1);
    }

    #[tokio::test]
    async fn neither_a_copy_of_an_open_journal_nor_too_many_are_opened() {
        let disk = SimDisk::new();
        let journals = journals(&disk);
        let (a, copy, c) = (name("a"), name("copy"), name("c"));
        journals.get_or_make(&a).await.unwrap();
        disk.create_dir(Path::new("/copy")).unwrap();
        let mut head = [0; 256];
        let read = disk.open(Path::new("/a/head"), How::Read).unwrap().read_full_at(&mut head, 0).unwrap();
        let file = disk.open(Path::new("/copy/head"), How::CreateNew).unwrap();
        file.write_all_at(&head[..read], 0).unwrap();
        assert!(matches!(journals.get(&copy).await, Err(OpenError::Copy(_, of)) if of == a));
        assert!(
            journals.is_newly_broken(&copy)
                && !journals.is_newly_broken(&copy)
                && journals.is_newly_broken(&c)
        );

        journals.open_at_most(1);
        assert!(matches!(journals.get_or_make(&c).await, Err(OpenError::TooMany(_))));
        assert_eq!(journals.get(&a).await.unwrap().head(), 0);
        journals.open_at_most(2);
        assert_eq!(journals.get_or_make(&c).await.unwrap().head(), 0);
        assert!(journals.is_newly_broken(&c), "it was open meanwhile");
    }

    #[tokio::test]
    async fn a_stop_writes_nothing_where_nothing_was_written() {
        let disk = SimDisk::new();
        let first = journals(&disk);
        let journal = first.get_or_make(&name("a")).await.unwrap();
        journal.append(appends(["x"]), permit()).await;
        first.stop().await;
        let again = journals(&disk);
        let journal = again.get(&name("a")).await.unwrap();
        journal.derived_known().await;
        let before = disk.calls();
        again.stop().await;
        assert_eq!(disk.calls(), before);
    }
}
