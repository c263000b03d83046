//! The entries of a day in the order in which they happened: what was moved in, or written down later, has other seqs.

use diary_client::{Event, Stored};
use jiff::civil::{Date, DateTime};

use crate::query::pour::Sift;
use crate::term::output::say;
use crate::time::calendar::Calendar;

/// Most entries that are held to be sorted: a hundred times what a busy day has.
const ENTRIES_MAX: usize = 100_000;

/// Most bytes of them.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// Gives at the end, sorted, what another lets through. More than it can hold it gives as it comes.
pub(crate) struct ByTime<S> {
    sift: S,
    held: Held,
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

impl<S> ByTime<S> {
    pub(crate) fn new(sift: S, calendar: Calendar) -> Self {
        Self::with(sift, calendar, ENTRIES_MAX)
    }

    fn with(sift: S, calendar: Calendar, entries_max: usize) -> Self {
        let held = Held { calendar, events: Vec::new(), bytes: 0, entries_max, is_over: false };
        Self { sift, held }
    }
}

impl<S: Sift> Sift for ByTime<S> {
    fn take(&mut self, event: Event, mut give: impl FnMut(Event)) {
        let Self { sift, held } = self;
        sift.take(event, |event| held.take(event, &mut give));
    }

    fn end(&mut self, mut give: impl FnMut(Event)) {
        let Self { sift, held } = self;
        sift.end(|event| held.take(event, &mut give));
        // What happened at once stays in the order of the seqs.
        held.events.sort_by_key(|(moment, _)| *moment);
        held.give(give);
    }
}

impl Held {
    fn take(&mut self, event: Event, mut give: impl FnMut(Event)) {
        if self.is_over {
            return give(event);
        }
        let moment = match &event {
            Event::Entry(stored) => self.moment(stored),
            // What is missing stays behind the entry that was before it.
            Event::Gap(_) | Event::Damaged { .. } => {
                self.events.last().map_or((Date::MIN, DateTime::MIN), |(moment, _)| *moment)
            }
        };
        self.bytes += size_of::<(Moment, Event)>() + text_bytes(&event);
        self.events.push((moment, event));
        if self.events.len() > self.entries_max || self.bytes > BYTES_MAX {
            say(format_args!(
                "these are too many to be sorted by time: they come in the order of their seqs"
            ));
            self.is_over = true;
            self.give(give);
        }
    }

    fn moment(&self, Stored { entry, .. }: &Stored) -> Moment {
        (self.calendar.day_of(entry), self.calendar.clock(entry))
    }

    fn give(&mut self, give: impl FnMut(Event)) {
        self.events.drain(..).map(|(_, event)| event).for_each(give);
    }
}

fn text_bytes(event: &Event) -> usize {
    match event {
        Event::Entry(Stored { entry, left, .. }) => entry.text.len() + left.len(),
        Event::Gap(_) | Event::Damaged { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use diary_client::{Author, DayStart, Entry, Gap, OwnTime, Time};
    use jiff::tz::TimeZone;

    use super::*;
    use crate::term::output::tests::said;

    struct All;

    impl Sift for All {
        fn take(&mut self, event: Event, mut give: impl FnMut(Event)) {
            give(event);
        }

        fn end(&mut self, _give: impl FnMut(Event)) {}
    }

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
        Event::Entry(Stored { entry, key: None, left: String::new() })
    }

    fn gap(seq: u64) -> Event {
        Event::Gap(Gap { first: seq, last: seq })
    }

    /// The seqs of what is given, and of it those before the end.
    fn sorted(events: Vec<Event>, entries_max: usize) -> (Vec<u64>, usize) {
        let seq = |event: Event| crate::query::pour::seq_of(&event).unwrap();
        let mut by_time = ByTime::with(All, Calendar::of(TimeZone::UTC), entries_max);
        let mut seqs = Vec::new();
        events.into_iter().for_each(|event| by_time.take(event, |event| seqs.push(seq(event))));
        let before = seqs.len();
        by_time.end(|event| seqs.push(seq(event)));
        (seqs, before)
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
        assert_eq!(sorted(events.clone(), events.len()), (vec![1, 8, 2, 6, 4, 5, 3, 7], 0));
        assert!(said().is_empty());
        let all = (1..=8).collect();
        assert_eq!(sorted(events.clone(), events.len() - 1), (all, 8));
        assert_eq!(said(), ["these are too many to be sorted by time: they come in the order of their seqs"]);
    }
}
