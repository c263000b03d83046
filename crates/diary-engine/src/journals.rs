//! The journals in a data folder. Each is opened when somebody first asks for it, and stays open.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use diary_proto::JournalName;
use diary_store::disk::{Disk, RealDisk};
use futures::future::join_all;
use tokio::sync::OnceCell;

use crate::common::Common;
use crate::journal::Journal;
use crate::open::{OpenError, Options, start};
use crate::reading::Reading;

/// The journals of a data folder.
#[derive(Debug)]
pub struct Journals {
    disk: Arc<dyn Disk>,
    options: Options,
    common: Common,
    /// Those that were asked for. Only journals that exist stay in here.
    asked: Mutex<HashMap<JournalName, Arc<OnceCell<Arc<Journal>>>>>,
}

impl Journals {
    /// Those on this machine's disk. Opens none yet.
    pub fn new(options: Options) -> Arc<Self> {
        Self::on(Arc::new(RealDisk), options, Common::new())
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, options: Options, common: Common) -> Arc<Self> {
        Arc::new(Self { disk, options, common, asked: Mutex::default() })
    }

    /// The folder that they are in.
    pub fn data(&self) -> &PathBuf {
        &self.options.data
    }

    /// The journal of this name, which is opened if it is not. Cancel safe.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn get(&self, name: &JournalName) -> Result<Arc<Journal>, OpenError> {
        self.open(name, false).await
    }

    /// The same, and makes the journal if there is none.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn get_or_make(&self, name: &JournalName) -> Result<Arc<Journal>, OpenError> {
        self.open(name, true).await
    }

    async fn open(&self, name: &JournalName, makes: bool) -> Result<Arc<Journal>, OpenError> {
        let cell = Arc::clone(self.asked().entry(name.clone()).or_default());
        let opened = cell.get_or_try_init(async || {
            let (disk, options, common) = (Arc::clone(&self.disk), self.options.clone(), self.common.clone());
            let wanted = name.clone();
            let open = move || {
                let is_there = makes || diary_store::is_journal(&*disk, &options.data.join(wanted.as_str()))?;
                Ok(match is_there {
                    true => start(disk, &wanted, &options, &common).map(Arc::new),
                    false => Err(OpenError::None(wanted)),
                })
            };
            self.common.read(open).await.map_err(|error| OpenError::Look(name.clone(), error.into()))?
        });
        let opened = opened.await.cloned();
        if opened.is_err() {
            // Names that nobody else asks for are forgotten.
            let mut asked = self.asked();
            drop(cell);
            let is_unused = |cell: &Arc<OnceCell<_>>| cell.get().is_none() && Arc::strong_count(cell) == 1;
            if asked.get(name).is_some_and(is_unused) {
                asked.remove(name);
            }
        }
        opened
    }

    /// The names of all, in order. What cannot be looked at is an error. Cancel safe.
    pub fn names(&self) -> Reading<Vec<JournalName>> {
        let (disk, data) = (Arc::clone(&self.disk), self.options.data.clone());
        self.common.read(move || diary_store::journals(&*disk, &data))
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
    /// cancel the stop, only the wait.
    pub async fn stop(&self) {
        let open: Vec<_> = self.asked().values().filter_map(|cell| cell.get().cloned()).collect();
        join_all(open.iter().map(|journal| journal.stop())).await;
    }

    #[cfg(feature = "sim")]
    pub(crate) fn insert(&self, journal: Arc<Journal>) {
        self.asked().insert(journal.about().name.clone(), Arc::new(OnceCell::new_with(Some(journal))));
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<JournalName, Arc<OnceCell<Arc<Journal>>>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use diary_store::sim::SimDisk;

    use super::*;
    use crate::sim;
    use crate::testing::{appends, permit};

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
        assert!(before.asked().is_empty(), "nothing is kept of a name that nobody has");
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
        assert_eq!(after.asked().len(), 1, "nobody has asked for the other one");
    }

    #[tokio::test]
    async fn many_who_ask_at_once_get_the_same() {
        let journals = journals(&SimDisk::new());
        let name = name("a");
        let got = join_all((0..50).map(|_| journals.get_or_make(&name))).await;
        let first = got[0].as_ref().unwrap();
        assert!(got.iter().all(|journal| Arc::ptr_eq(journal.as_ref().unwrap(), first)));
    }

    #[tokio::test]
    async fn what_only_looks_like_a_journal_is_none() {
        let disk = SimDisk::new();
        let journals = journals(&disk);
        journals.get_or_make(&name("real")).await.unwrap();
        for folder in ["/empty", "/tls", "/.hidden", "/real/archive"] {
            disk.create_dir(std::path::Path::new(folder)).unwrap();
        }
        disk.open(std::path::Path::new("/access"), diary_store::disk::How::CreateNew).unwrap();
        assert_eq!(journals.names().await.unwrap(), [name("real")]);
        for none in ["empty", "access"] {
            assert!(matches!(journals.get(&name(none)).await, Err(OpenError::None(_))), "{none}");
        }
    }
}
