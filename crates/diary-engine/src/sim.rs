//! A journal on a simulated disk, with a writer that a test runs step by step.

use std::path::Path;
use std::sync::Arc;

use diary_proto::DayStart;
use diary_store::disk::Disk;
pub use diary_store::sim::{Fault, SimDisk};
use jiff::tz::TimeZone;

use crate::journal::Journal;
use crate::open::{Options, open_on};
use crate::shared::Command;
use crate::writer::Writer;

/// The writer of a simulated journal.
pub struct ManualWriter(Writer);

/// A journal without entries on `disk`.
///
/// # Panics
/// If the disk fails.
pub fn journal(disk: &SimDisk) -> (Journal, ManualWriter) {
    journal_on(Arc::new(disk.clone()))
}

pub(crate) fn options() -> Options {
    Options {
        dir: Path::new("/diary").to_owned(),
        name: "diary".to_owned(),
        zone: TimeZone::UTC,
        zone_name: "UTC".to_owned(),
        day_start: DayStart::default(),
    }
}

pub(crate) fn journal_on(disk: Arc<dyn Disk>) -> (Journal, ManualWriter) {
    let (journal, writer, derived) = open_on(disk, options()).expect("the disk works");
    let derived = derived.load().expect("the disk works");
    journal.queue().send(Command::Derived(derived)).expect("the writer is here");
    let mut writer = ManualWriter(writer);
    writer.commit();
    (journal, writer)
}

impl ManualWriter {
    /// Commits what is queued. False if nothing is, or if the disk has failed.
    pub fn commit(&mut self) -> bool {
        self.0.commit_waiting()
    }

    /// Commits what is queued and returns how many entries each batch judged.
    #[cfg(test)]
    pub(crate) fn commit_each(&mut self) -> Vec<usize> {
        self.0.commit_each()
    }

    /// Lets the clock say something else from now on.
    #[cfg(test)]
    pub(crate) fn set_clock(
        &mut self,
        clock: fn(&TimeZone) -> Result<diary_proto::Time, diary_proto::time::BadClock>,
    ) {
        self.0.set_clock(clock);
    }

    /// Serves until the journal is stopped or all handles are dropped.
    pub fn run(self) {
        self.0.run();
    }
}
