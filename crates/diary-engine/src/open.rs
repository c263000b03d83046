//! Opening a journal: recovery, the writer's thread, and loading the derived state.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use diary_proto::DayStart;
use diary_store::disk::{Disk, RealDisk};
use diary_store::{Derived, DerivedLoader, Opened};
use jiff::tz::TimeZone;
use tokio::sync::mpsc;

use crate::journal::{About, Journal};
use crate::shared::Command;
use crate::writer::Writer;

/// Which journal to open, and when its days begin.
#[derive(Debug, Clone)]
pub struct Options {
    /// The journal's folder. It is created if missing.
    pub dir: PathBuf,
    /// The journal's name.
    pub name: String,
    /// The time zone of its days.
    pub zone: TimeZone,
    /// The zone's name, for people.
    pub zone_name: String,
    /// When its days begin.
    pub day_start: DayStart,
}

/// Why a journal cannot be opened. Displays as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its folder cannot be used.
    #[error(transparent)]
    Data(#[from] diary_store::OpenError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// Opens the journal on this machine's disk, and starts its writer.
///
/// # Errors
/// [`OpenError`].
pub fn open(options: Options) -> Result<Journal, OpenError> {
    start(Arc::new(RealDisk), options)
}

/// The same on any disk.
fn start(disk: Arc<dyn Disk>, options: Options) -> Result<Journal, OpenError> {
    let (journal, writer, derived) = open_on(disk, options)?;
    let (head, queue) = (journal.head(), journal.queue());
    spawn("derived", move || load_derived(derived, head, &queue))?;
    spawn("writer", move || writer.run())?;
    Ok(journal)
}

/// The same, without running anything yet.
pub(crate) fn open_on(
    disk: Arc<dyn Disk>,
    options: Options,
) -> Result<(Journal, Writer, DerivedLoader), OpenError> {
    let Options { dir, name, zone, zone_name, day_start } = options;
    let Opened { mut appender, reader, derived } = diary_store::open(disk, &dir)?;
    appender.start_days_at(day_start);
    let head = reader.head().seq;
    tracing::info!(folder = %dir.display(), zone = zone_name, head, "the diary is open");
    let about = About { name, id: reader.id(), zone: zone.clone(), zone_name, day_start };
    let (writer, shared) = Writer::new(appender, reader.clone(), zone);
    Ok((Journal::new(shared, reader, about), writer, derived))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map_err(OpenError::Thread)?;
    Ok(())
}

/// Loads the derived state, while the server serves everything that does not need it. The writer gets a state in any
/// case, because appends with keys and readings by day wait for it.
fn load_derived(loader: DerivedLoader, head: u64, queue: &mpsc::UnboundedSender<Command>) {
    const WHAT_NOW: &str = "retries that cannot be judged are refused, and days are slow to find";
    // Unwind safe: the loader is not used after a panic.
    let loaded = catch_unwind(AssertUnwindSafe(|| loader.load()));
    let derived = match loaded {
        Ok(Ok(derived)) => derived,
        Ok(Err(error)) => {
            tracing::error!(%error, "not every entry could be read; {WHAT_NOW}");
            Derived::unknown(head)
        }
        Err(_) => {
            tracing::error!("loading keys and days from the day files panicked; {WHAT_NOW}");
            Derived::unknown(head)
        }
    };
    // An error means that the writer has stopped already.
    let _ = queue.send(Command::Derived(derived));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Part;
    use crate::sim;
    use crate::testing::{HookedDisk, appends, is_on, keyed, permit};
    use diary_proto::{Code, Day, Which};

    #[tokio::test]
    async fn a_loader_that_panics_leaves_nobody_waiting() {
        let disk = HookedDisk::new();
        let (journal, mut writer) = sim::journal_on(Arc::new(disk.clone()));
        let receipt = journal.append(appends(["a"]), permit());
        writer.commit();
        receipt.await;
        drop((journal, writer));

        disk.before_reads(|| if is_on("derived") { panic!("as the test wants it") } else { Ok(()) });
        let journal = start(Arc::new(disk.clone()), sim::options()).unwrap();
        journal.derived_known().await;
        let outcome = journal.append(keyed(0, ["a"]), permit()).await;
        assert!(
            matches!(&outcome[..], [Part::Refused { refusal, .. }] if refusal.code == Code::StaleKey),
            "{outcome:?}"
        );
        let today = journal.find(Which::Days(Day::Today, Day::Today)).await.unwrap();
        assert_eq!((today.first(), today.last()), (1, 1));
    }
}
