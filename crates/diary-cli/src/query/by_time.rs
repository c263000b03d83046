//! Sorts the entries of a day by the time at which they happened. Entries that were moved to another day, or
//! written down later, have other seqs.

use diary_client::{Event, Stored};
use jiff::civil::{Date, DateTime};

use diary_calendar::Calendar;

/// Limit on the entries held for sorting: a hundred times what a busy day has.
const ENTRIES_MAX: usize = 100_000;

/// Limit on their bytes.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// There are more entries than can be held.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("too many entries to sort by time; printed in the order of their numbers")]
pub(crate) struct TooMany;

/// A day, and the clock time that is shown.
type Moment = (Date, DateTime);

/// Sorts events by time.
pub(crate) struct ByTime {
    calendar: Calendar,
    events: Vec<(Moment, Event)>,
    bytes: usize,
}

impl ByTime {
    pub(crate) fn new(calendar: Calendar) -> Self {
        Self { calendar, events: Vec::new(), bytes: 0 }
    }

    /// Whether there are too many.
    pub(crate) fn is_over(&self) -> bool {
        self.events.len() > ENTRIES_MAX || self.bytes > BYTES_MAX
    }

    pub(crate) fn take(&mut self, event: Event) {
        let (moment, bytes) = match &event {
            Event::Entry(Stored { entry, left, .. }) => {
                ((self.calendar.day_of(entry), self.calendar.clock(entry)), entry.text.len() + left.len())
            }
            // Missing entries stay behind the entry before them.
            Event::Gap(_) | Event::Damaged { .. } | Event::Restored { .. } => {
                (self.events.last().map_or((Date::MIN, DateTime::MIN), |(moment, _)| *moment), 0)
            }
        };
        self.bytes += size_of::<(Moment, Event)>() + bytes;
        self.events.push((moment, event));
    }

    /// Returns all events, or the newest entries with the gaps between them and right before them.
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn finish(mut self, newest: Option<u64>, reverse: bool) -> Result<Vec<Event>, TooMany> {
        if self.is_over() {
            return Err(TooMany);
        }
        // The sort is stable: entries of the same time stay in the order of their seqs.
        self.events.sort_by_key(|(moment, _)| *moment);
        let mut events: Vec<_> = self.events.into_iter().map(|(_, event)| event).collect();
        if let Some(newest) = newest {
            keep_newest(&mut events, newest);
        }
        if reverse {
            events.reverse();
        }
        Ok(events)
    }
}

fn keep_newest(events: &mut Vec<Event>, newest: u64) {
    let newest = usize::try_from(newest).unwrap_or(usize::MAX);
    let is_entry = |at: &usize| matches!(events[*at], Event::Entry(_));
    if let Some(unwanted) = (0..events.len()).rev().filter(is_entry).nth(newest) {
        events.drain(..=unwanted);
    }
}

#[cfg(test)]
mod tests {
    use diary_client::{Author, DayStart, Entry, Gap, OwnTime, Time};
    use jiff::tz::TimeZone;

    use super::*;

    fn entry(seq: u64, own: Option<&str>) -> Event {
        let time = |text: &str| Time::parse(text.as_bytes()).unwrap();
        let entry = Entry {
            seq,
            time: time("2026-11-21T12:00:00.000000+00:00"),
            own: own.map(|own| OwnTime::new(time(own), DayStart::default())),
            day: None,
            relation: None,
            author: Author::new("anna").unwrap(),
            text: "x".to_owned(),
        };
        Event::Entry(Stored { entry, key: None, crc: 0, left: String::new(), correction: None })
    }

    fn gap(seq: u64) -> Event {
        Event::Gap(Gap { first: seq, last: seq })
    }

    fn seqs(events: Vec<Event>) -> Vec<u64> {
        let seq = |event: &Event| match event {
            Event::Entry(stored) => stored.entry.seq,
            Event::Gap(gap) => gap.first,
            event => panic!("{event:?}"),
        };
        events.iter().map(seq).collect()
    }

    fn sorted(events: impl IntoIterator<Item = Event>) -> Result<Vec<u64>, TooMany> {
        let mut sorted = ByTime::new(Calendar::of(TimeZone::UTC));
        events.into_iter().for_each(|event| sorted.take(event));
        sorted.finish(None, false).map(seqs)
    }

    #[test]
    fn what_happened_first_comes_first() {
        let events = vec![
            gap(1),
            entry(2, None),
            entry(3, Some("2026-11-21T23:00:00.000000+00:00")),
            // Its own clock counts, although this was before noon of the others.
            entry(4, Some("2026-11-21T13:00:00.000000+08:00")),
            gap(5),
            entry(6, None),
            // Of a later day.
            entry(7, Some("2026-11-22T01:00:00.000000+08:00")),
            entry(8, Some("2015-11-21T23:00:00.000000+00:00")),
        ];
        assert_eq!(sorted(events), Ok(vec![1, 8, 2, 6, 4, 5, 3, 7]));
    }

    #[test]
    fn as_many_as_can_be_held_and_one_more() {
        let seqs = |last| (1..=last).map(gap);
        assert_eq!(sorted(seqs(100_000)), Ok((1..=100_000).collect()));
        assert_eq!(sorted(seqs(100_001)), Err(TooMany));
    }

    #[test]
    fn the_newest_so_many_and_what_is_missing_before_them() {
        let events = [gap(1), entry(2, None), gap(3), gap(4), entry(5, None), entry(6, None), gap(7)];
        for (newest, expected) in [
            (0, &[7][..]),
            (1, &[6, 7]),
            (2, &[3, 4, 5, 6, 7]),
            (3, &[1, 2, 3, 4, 5, 6, 7]),
            (9, &[1, 2, 3, 4, 5, 6, 7]),
        ] {
            let mut kept = events.to_vec();
            keep_newest(&mut kept, newest);
            assert_eq!(seqs(kept), expected, "{newest}");
        }
    }
}
