//! A journal on a simulated disk, with a writer that a test runs step by step.

use std::path::Path;
use std::sync::Arc;

use diary_proto::{DayStart, JournalName};
use diary_store::disk::Disk;
pub use diary_store::sim::{Fault, SimDisk};
use jiff::tz::TimeZone;

use crate::common::Common;
use crate::journal::Journal;
use crate::journals::Journals;
use crate::open::{Options, open_on};
use crate::rest::Rest;
use crate::writer::Writer;

/// The writer of a simulated journal.
pub struct ManualWriter {
    writer: Box<Writer>,
    rest: Arc<Rest>,
}

/// A journal without entries on `disk`.
///
/// # Panics
/// If the disk fails.
pub fn journal(disk: &SimDisk) -> (Journal, ManualWriter) {
    journal_on(Arc::new(disk.clone()))
}

/// The journals on `disk`, of which one, without entries, is open.
///
/// # Panics
/// If the disk fails.
pub fn journals(disk: &SimDisk) -> (Arc<Journals>, Arc<Journal>, ManualWriter) {
    let common = Common::new();
    let (journal, writer) = open(Arc::new(disk.clone()), &common);
    let (journal, journals) = (Arc::new(journal), Journals::on(Arc::new(disk.clone()), options(), common));
    journals.insert(Arc::clone(&journal));
    (journals, journal, writer)
}

pub(crate) fn options() -> Options {
    Options {
        data: Path::new("/").to_owned(),
        zone: TimeZone::UTC,
        zone_name: "UTC".to_owned(),
        day_start: DayStart::default(),
    }
}

pub(crate) fn journal_on(disk: Arc<dyn Disk>) -> (Journal, ManualWriter) {
    open(disk, &Common::new())
}

fn open(disk: Arc<dyn Disk>, common: &Common) -> (Journal, ManualWriter) {
    let opened = open_on(disk, &JournalName::default(), &options(), common);
    let (journal, mut writer, derived) = opened.expect("the disk works");
    writer.know_derived(derived.load().expect("the disk works"));
    let rest = Arc::clone(&journal.shared().rest);
    (journal, ManualWriter { writer, rest })
}

impl ManualWriter {
    /// Commits what is queued. False if nothing is, or if the disk has failed.
    pub fn commit(&mut self) -> bool {
        self.writer.commit_waiting()
    }

    /// Commits what is queued and returns how many entries each batch judged.
    #[cfg(test)]
    pub(crate) fn commit_each(&mut self) -> Vec<usize> {
        self.writer.commit_each()
    }

    /// Lets the clock say something else from now on.
    #[cfg(test)]
    pub(crate) fn set_clock(
        &mut self,
        clock: fn(&TimeZone) -> Result<diary_proto::Time, diary_proto::time::BadClock>,
    ) {
        self.writer.set_clock(clock);
    }

    /// Serves until the journal is stopped or all handles are dropped.
    pub fn run(self) {
        self.writer.run(&self.rest);
    }
}
