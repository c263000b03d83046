//! Opening a journal: recovery, the writer's thread, and the loading of what is derived.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use diary_proto::DayStart;
use diary_store::disk::{Disk, RealDisk};
use diary_store::{Derived, DerivedLoader, Opened};
use jiff::tz::TimeZone;
use tokio::sync::mpsc;

use crate::journal::{About, Journal};
use crate::writer::{Command, Writer};

/// Which journal, and how its days are counted.
#[derive(Debug, Clone)]
pub struct Options {
    /// The journal's folder. It is made if it is not there.
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

/// Why a journal cannot be opened. Each displays as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its folder cannot be used.
    #[error(transparent)]
    Data(#[from] diary_store::OpenError),
    /// There is no thread for the writer, or for loading what is derived.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// Opens the journal on this machine's disk, and starts its writer.
///
/// # Errors
/// [`OpenError`].
pub fn open(options: Options) -> Result<Journal, OpenError> {
    let (journal, writer, derived) = open_on(Arc::new(RealDisk), options)?;
    let (head, queue) = (journal.head(), journal.queue());
    spawn("derived", move || load_derived(derived, head, &queue))?;
    spawn("writer", move || writer.run())?;
    Ok(journal)
}

/// The same on any disk, with nothing running yet.
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

/// Loads what is derived from the journal, while the server serves everything that does not need it.
fn load_derived(loader: DerivedLoader, head: u64, queue: &mpsc::UnboundedSender<Command>) {
    let derived = loader.load().unwrap_or_else(|error| {
        tracing::error!(
            %error,
            "not every entry could be read; retries that cannot be judged are refused, and days are slow to find"
        );
        Derived::unknown(head)
    });
    // It fails only if the writer has stopped already.
    let _ = queue.send(Command::Derived(derived));
}
