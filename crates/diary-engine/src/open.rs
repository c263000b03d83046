//! Opening a journal: recovery, and loading the derived state.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use diary_proto::{DayStart, JournalName};
use diary_store::disk::Disk;
use diary_store::{Derived, DerivedLoader, Opened, Reader};
use jiff::tz::TimeZone;
use tokio_util::sync::CancellationToken;

use crate::common::Common;
use crate::journal::{About, Journal};
use crate::shared::Shared;
use crate::writer::Writer;

/// Where journals are, and when their days begin.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder that holds their folders.
    pub data: PathBuf,
    /// The time zone of their days.
    pub zone: TimeZone,
    /// The zone's name, for people.
    pub zone_name: String,
    /// When their days begin.
    pub day_start: DayStart,
}

/// Why a journal cannot be opened. Displays as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is none of this name.
    #[error("there is no journal {0}")]
    None(JournalName),
    /// It has the id of another one, which is open.
    #[error(
        "the journal {0} is a copy of {1}, which is open; two of one id would give the same numbers to different entries"
    )]
    Copy(JournalName, JournalName),
    /// The most journals are open that the limit on open files allows.
    #[error("too many journals are open to open {0}, too; raise the server's limit on open files")]
    TooMany(JournalName),
    /// Whether there is one cannot be told.
    #[error("cannot look for the journal {0}: {1}")]
    Look(JournalName, io::Error),
    /// Its folder cannot be used.
    #[error(transparent)]
    Data(#[from] diary_store::OpenError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// Opens a journal, or makes one. Its writer rests until the first append. Blocks.
pub(crate) fn start(
    disk: Arc<dyn Disk>,
    name: &JournalName,
    options: &Options,
    common: &Common,
) -> Result<Journal, OpenError> {
    let (journal, writer, derived) = open_on(disk, name, options, common)?;
    let (head, shared, failed) = (journal.head(), journal.shared().clone(), common.failed.clone());
    // It has nothing to do yet, as nobody else has the journal.
    let _ = shared.rest.put(writer);
    let reader = journal.reader().clone();
    let load = move || load_derived(derived, head, &reader, &shared, &failed);
    thread::Builder::new().name("derived".to_owned()).spawn(load).map_err(OpenError::Thread)?;
    Ok(journal)
}

/// The same, without running anything yet.
pub(crate) fn open_on(
    disk: Arc<dyn Disk>,
    name: &JournalName,
    options: &Options,
    common: &Common,
) -> Result<(Journal, Box<Writer>, DerivedLoader), OpenError> {
    let Options { data, zone, zone_name, day_start } = options.clone();
    let (name, dir) = (name.clone(), data.join(name.as_str()));
    let Opened { mut appender, reader, derived } = diary_store::open(disk, &dir)?;
    appender.start_days_at(day_start);
    let head = reader.head().seq;
    tracing::info!(folder = %dir.display(), zone = zone_name, head, "the journal {name} is open");
    let about = About { name, id: reader.id(), zone: zone.clone(), zone_name, day_start };
    let (writer, shared) = Writer::new(appender, reader.clone(), zone, common);
    Ok((Journal::new(shared, reader, about, common), writer, derived))
}

/// Loads the derived state, while the server serves everything that does not need it. The writer gets a state in any
/// case, because appends with keys wait for it; readers get their part first, because some of them do.
fn load_derived(
    loader: DerivedLoader,
    head: u64,
    reader: &Reader,
    shared: &Shared,
    failed: &CancellationToken,
) {
    const WHAT_NOW: &str = "until the next start, retries that cannot be judged are refused, days are slow to find, and \
                            corrections are shown in their own places";
    // Unwind safe: the loader is not used after a panic.
    let loaded = catch_unwind(AssertUnwindSafe(|| loader.load()));
    let mut derived = match loaded {
        Ok(Ok(derived)) => derived,
        Ok(Err(error)) => {
            tracing::error!(%error, "not every entry could be read; {WHAT_NOW}");
            Derived::unknown(head)
        }
        Err(_) => {
            tracing::error!("loading what is derived from the day files panicked; {WHAT_NOW}");
            Derived::unknown(head)
        }
    };
    derived.show(reader);
    shared.seen.send_replace(true);
    if catch_unwind(AssertUnwindSafe(|| shared.rest.know(derived, &shared.queue))).is_err() {
        tracing::error!("taking over what is derived panicked");
        failed.cancel();
    }
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
        let journal =
            start(Arc::new(disk.clone()), &JournalName::default(), &sim::options(), &Common::new()).unwrap();
        journal.derived_known().await;
        // What was corrected is not known, so everything is shown as it is stored.
        let all = journal.find(diary_proto::Scope::from(Which::All).shown()).await.unwrap();
        assert!(!all.is_shown());
        let outcome = journal.append(keyed(0, ["a"]), permit()).await;
        assert!(
            matches!(&outcome[..], [Part::Refused { refusal, .. }] if refusal.code == Code::StaleKey),
            "{outcome:?}"
        );
        let today = journal.find(Which::Days(Day::Today, Day::Today)).await.unwrap();
        assert_eq!((today.first(), today.last()), (1, 1));
    }
}
