//! A batch on its way to the disk.

use diary_proto::time::TIME_BYTES;
use diary_proto::{Date, Producer, Time};

/// A clock that jumped back by more than this is told: the entry gets its own time beside the batch's.
const CLAMP_TOLD_MICROS: i64 = 1_000_000;

#[derive(Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) count: u32,
    /// Producers that have an entry in it, most of the time one after the other.
    pub(super) producers: Vec<Producer>,
    /// The days of those entries that have an own time.
    pub(super) own_days: Vec<(u64, Date)>,
    pub(super) clock: Option<Clock>,
    /// The file's day, where it is not the date of the clock: what entries without an own time carry.
    pub(super) day: Option<Date>,
    pub(super) last_crc: u32,
}

/// The batch's time, and what its entries carry if the clock was behind the journal.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    pub(super) time: Time,
    pub(super) written: [u8; TIME_BYTES],
    pub(super) own: Option<Time>,
}

impl Batch {
    /// An empty one that keeps its room, and its bytes for whoever asks for them: what one batch needed the
    /// next one will, and a batch has its limit.
    pub(super) fn emptied(mut self) -> Self {
        self.producers.clear();
        self.own_days.clear();
        let Self { bytes, producers, own_days, .. } = self;
        Self { bytes, producers, own_days, ..Self::default() }
    }
}

/// The time of a batch: never before the entry above it.
pub(super) fn clamp(now: Time, newest: Option<Time>) -> Clock {
    let behind = newest.map_or(0, |newest| newest.micros - now.micros);
    let time = Time { micros: now.micros + behind.max(0), ..now };
    Clock { time, written: time.to_bytes(), own: (behind > CLAMP_TOLD_MICROS).then_some(now) }
}
