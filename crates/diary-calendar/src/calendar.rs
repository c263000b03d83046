//! The days and local times of entries, for one reader.

use diary_proto::{DayStart, Entry, Time};
use jiff::Zoned;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use crate::clock;
use crate::error::Error;

/// A reader's zone, and the start of the diary's days.
#[derive(Debug, Clone)]
pub struct Calendar {
    zone: TimeZone,
    day_start: DayStart,
}

impl Calendar {
    /// Returns the calendar of a reader in `zone`. Days start at midnight.
    pub fn of(zone: TimeZone) -> Self {
        Self { zone, day_start: DayStart::default() }
    }

    /// Returns the calendar of this process, for a server's diary.
    pub fn here(day_start: DayStart) -> Self {
        Self { zone: TimeZone::system(), day_start }
    }

    /// Sets the start of days, as announced by the server.
    pub fn start_days_at(&mut self, day_start: DayStart) {
        self.day_start = day_start;
    }

    /// Returns the reader's current day.
    pub fn today(&self) -> Date {
        self.day_start.day_of(Time::now(&self.zone))
    }

    /// Parses a time in natural language. See `clock` for the syntax.
    ///
    /// # Errors
    /// If it is not a time, or not exact enough.
    pub fn time(&self, said: &str) -> Result<Time, Error> {
        clock::parse(said, &self.now(), self.day_start)
    }

    /// Returns whether a time includes its UTC offset, and so does not depend on a local clock.
    pub fn is_absolute(said: &str) -> bool {
        clock::has_offset(said.trim())
    }

    /// Formats a time for confirmation: `2015-03-02 08:15`, with the offset if it differs from the reader's.
    pub fn in_words(&self, time: Time) -> String {
        clock::in_words(time, &self.now())
    }

    fn now(&self) -> Zoned {
        Zoned::now().with_time_zone(self.zone.clone())
    }

    /// Returns the day of an entry: that of its own time, or else of its writing. If the reader's offset equals
    /// that of the entry, it is the day assigned at the time of writing, even if days start at another time
    /// now. Otherwise it is the reader's day.
    pub fn day_of(&self, entry: &Entry) -> Date {
        let here = entry.time.in_zone(&self.zone);
        match (entry.own, entry.day) {
            (Some(own), _) => own.day,
            (None, day) if here.offset_minutes == entry.time.offset_minutes => day.unwrap_or(here.date()),
            (None, _) => self.day_start.day_of(here),
        }
    }

    /// Returns the local time of an entry: of the place where it happened if it has a time of its own, else of
    /// the reader.
    pub fn clock(&self, entry: &Entry) -> DateTime {
        entry.own.map_or_else(|| entry.time.in_zone(&self.zone), |own| own.at).civil()
    }
}

#[cfg(test)]
mod tests {
    use diary_proto::{Author, OwnTime};

    use super::*;

    #[test]
    fn an_entry_is_of_its_own_day_or_of_the_readers() {
        let time = |text: &str| Time::parse(text.as_bytes()).unwrap();
        let day_start: DayStart = "03:00".parse().unwrap();
        let author = Author::new("anna").unwrap();
        let mut entry = Entry {
            seq: 1,
            time: time("2026-11-21T01:30:00.000000+08:00"),
            own: None,
            day: None,
            relation: None,
            author,
            text: "x".to_owned(),
        };
        let mut calendar = Calendar::of(TimeZone::get("Asia/Shanghai").unwrap());
        assert_eq!(calendar.day_of(&entry).to_string(), "2026-11-21");
        // A later change of the day start does not affect existing entries.
        calendar.start_days_at(day_start);
        assert_eq!(calendar.day_of(&entry).to_string(), "2026-11-21");
        assert_eq!(calendar.clock(&entry).to_string(), "2026-11-21T01:30:00");
        let far = Calendar { zone: TimeZone::UTC, day_start };
        assert_eq!(far.day_of(&entry).to_string(), "2026-11-20");
        entry.day = Some("2026-11-19".parse().unwrap());
        assert_eq!(calendar.day_of(&entry).to_string(), "2026-11-19");
        // With another offset, days follow the reader's own clock: it is 01:30 and 03:00 at night there.
        let elsewhere = Calendar { zone: TimeZone::get("America/New_York").unwrap(), day_start };
        for (written, day) in [("14:30", "2026-11-20"), ("16:00", "2026-11-21")] {
            entry.time = time(&format!("2026-11-21T{written}:00.000000+08:00"));
            assert_eq!(elsewhere.day_of(&entry).to_string(), day);
        }
        entry.time = time("2026-11-21T01:30:00.000000+08:00");
        assert_eq!(far.clock(&entry).to_string(), "2026-11-20T17:30:00");
        entry.own = Some(OwnTime::new(time("2015-03-02T02:15:00.000000-03:30"), day_start));
        assert_eq!(far.day_of(&entry).to_string(), "2015-03-01");
        assert_eq!(far.clock(&entry).to_string(), "2015-03-02T02:15:00");
    }
}
