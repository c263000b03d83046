//! The entries of a day in the order in which they happened: what was moved in, or written down later, has other seqs.

use diary_client::{Event, History, Reader, Stored};
use jiff::civil::{Date, DateTime};

use crate::query::pour::{Sift, read_while};
use crate::term::output::say;
use crate::time::calendar::Calendar;

/// Most entries that are held to be sorted: a hundred times what a busy day has.
const ENTRIES_MAX: usize = 100_000;

/// Most bytes of them.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// What `sift` lets through of a reading, sorted; `None` if that is too much to be held. An error is the exit code.
pub(crate) async fn by_time(
    reader: &Reader,
    history: History,
    mut sift: impl Sift,
    calendar: Calendar,
) -> Result<Option<Vec<Event>>, u8> {
    let mut held = Held::new(calendar, ENTRIES_MAX);
    let take = |event| {
        sift.take(event, |event| held.take(event));
        !held.is_over
    };
    read_while(reader, history, take).await?;
    sift.end(|event| held.take(event));
    Ok(held.finish())
}

/// Leaves the newest so many entries, and what is missing between them and right before them.
pub(crate) fn keep_newest(events: &mut Vec<Event>, newest: u64) {
    let mut unwanted = events.iter().filter(|event| matches!(event, Event::Entry(_))).count() as u64;
    unwanted = unwanted.saturating_sub(newest);
    events.retain(|event| {
        let goes = unwanted > 0;
        unwanted -= u64::from(goes && matches!(event, Event::Entry(_)));
        !goes
    });
}

/// A day, and what the clock said: that is what is shown.
type Moment = (Date, DateTime);

struct Held {
    calendar: Calendar,
    events: Vec<(Moment, Event)>,
    bytes: usize,
    entries_max: usize,
    /// There were more.
    is_over: bool,
}

impl Held {
    fn new(calendar: Calendar, entries_max: usize) -> Self {
        Self { calendar, events: Vec::new(), bytes: 0, entries_max, is_over: false }
    }

    fn take(&mut self, event: Event) {
        let moment = match &event {
            Event::Entry(stored) => self.moment(stored),
            // What is missing stays behind the entry that was before it.
            Event::Gap(_) | Event::Damaged { .. } | Event::Restored { .. } => {
                self.events.last().map_or((Date::MIN, DateTime::MIN), |(moment, _)| *moment)
            }
        };
        self.bytes += size_of::<(Moment, Event)>() + text_bytes(&event);
        self.events.push((moment, event));
        self.is_over |= self.events.len() > self.entries_max || self.bytes > BYTES_MAX;
    }

    fn moment(&self, Stored { entry, .. }: &Stored) -> Moment {
        (self.calendar.day_of(entry), self.calendar.clock(entry))
    }

    fn finish(mut self) -> Option<Vec<Event>> {
        if self.is_over {
            say(format_args!(
                "these are too many to be sorted by time: they come in the order of their seqs"
            ));
            return None;
        }
        // What happened at once stays in the order of the seqs.
        self.events.sort_by_key(|(moment, _)| *moment);
        Some(self.events.into_iter().map(|(_, event)| event).collect())
    }
}

fn text_bytes(event: &Event) -> usize {
    match event {
        Event::Entry(Stored { entry, left, .. }) => entry.text.len() + left.len(),
        Event::Gap(_) | Event::Damaged { .. } | Event::Restored { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use diary_client::{Author, DayStart, Entry, Gap, OwnTime, Time};
    use jiff::tz::TimeZone;

    use super::*;
    use crate::term::output::tests::said;

    fn entry(seq: u64, own: Option<&str>) -> Event {
        let time = |text: &str| Time::parse(text.as_bytes()).unwrap();
        let entry = Entry {
            seq,
            time: time("2026-11-21T12:00:00.000000+00:00"),
            own: own.map(|own| OwnTime::new(time(own), DayStart::default())),
            day: None,
            author: Author::new("anna").unwrap(),
            text: "x".to_owned(),
        };
        Event::Entry(Stored { entry, key: None, crc: 0, left: String::new() })
    }

    fn gap(seq: u64) -> Event {
        Event::Gap(Gap { first: seq, last: seq })
    }

    fn seqs(events: Vec<Event>) -> Vec<u64> {
        events.iter().filter_map(crate::query::pour::seq_of).collect()
    }

    fn sorted(events: Vec<Event>, entries_max: usize) -> Option<Vec<u64>> {
        let mut held = Held::new(Calendar::of(TimeZone::UTC), entries_max);
        events.into_iter().for_each(|event| held.take(event));
        held.finish().map(seqs)
    }

    #[test]
    fn what_happened_first_comes_first() {
        let events = vec![
            gap(1),
            entry(2, None),
            entry(3, Some("2026-11-21T23:00:00.000000+00:00")),
            // Its clock said so, though it was before the noon of the others.
            entry(4, Some("2026-11-21T13:00:00.000000+08:00")),
            gap(5),
            entry(6, None),
            // A later day.
            entry(7, Some("2026-11-22T01:00:00.000000+08:00")),
            entry(8, Some("2015-11-21T23:00:00.000000+00:00")),
        ];
        assert_eq!(sorted(events.clone(), events.len()), Some(vec![1, 8, 2, 6, 4, 5, 3, 7]));
        assert!(said().is_empty());
        assert_eq!(sorted(events.clone(), events.len() - 1), None);
        assert_eq!(said(), ["these are too many to be sorted by time: they come in the order of their seqs"]);
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
