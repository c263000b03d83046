//! A batch on its way to the disk.

use diary_proto::time::TIME_BYTES;
use diary_proto::{Date, Producer, Relation, Time};

/// A clock that jumped back by more than this is told: the entry gets its own time beside the batch's.
const CLAMP_TOLD_MICROS: i64 = 1_000_000;

/// A clock that jumped back by more than this was not merely set right: it is wrong, or it was. A day, which no zone
/// explains.
const CLAMP_FAR_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

#[derive(Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) count: u32,
    /// Producers that have an entry in it, most of the time one after the other.
    pub(super) producers: Vec<Producer>,
    /// The days of those entries that have an own time.
    pub(super) own_days: Vec<(u64, Date)>,
    /// The entries that belong to earlier ones.
    pub(super) related: Vec<(u64, Relation)>,
    pub(super) clock: Option<Clock>,
    /// The day, where it is not the date of the clock: what entries without an own time carry.
    pub(super) day: Option<Date>,
    /// The day, where it is not that of the file.
    pub(super) elsewhere: Option<Date>,
    pub(super) last_crc: u32,
}

/// The batch's time, and what its entries carry if the clock was behind the journal.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    pub(super) time: Time,
    pub(super) written: [u8; TIME_BYTES],
    pub(super) own: Option<Time>,
    pub(super) behind: Behind,
}

/// How far the clock is behind the journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Behind {
    #[default]
    Little,
    Much,
    Far,
}

impl Clock {
    /// When the batch is committed, as people are told.
    pub(super) fn told(&self) -> Time {
        self.own.unwrap_or(self.time)
    }
}

impl Batch {
    /// An empty one that keeps its room, and its bytes for whoever asks for them: what one batch needed the
    /// next one will, and a batch has its limit.
    pub(super) fn emptied(mut self) -> Self {
        self.producers.clear();
        self.own_days.clear();
        self.related.clear();
        let Self { bytes, producers, own_days, related, .. } = self;
        Self { bytes, producers, own_days, related, ..Self::default() }
    }
}

/// The time of a batch: never before the entry above it.
pub(super) fn clamp(now: Time, newest: Option<Time>) -> Clock {
    let newest = newest.unwrap_or(now);
    let behind = newest.micros - now.micros;
    let time = if behind > 0 {
        // In another zone, that moment may be in a year that cannot be written.
        Time::checked(newest.micros, now.offset_minutes).unwrap_or(newest)
    } else {
        now
    };
    let behind = if behind > CLAMP_FAR_MICROS {
        Behind::Far
    } else if behind > CLAMP_TOLD_MICROS {
        Behind::Much
    } else {
        Behind::Little
    };
    Clock { time, written: time.to_bytes(), own: (behind > Behind::Little).then_some(now), behind }
}
