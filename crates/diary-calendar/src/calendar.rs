//! Which day an entry is of, and what the clock said, for one reader.

use diary_proto::{DayStart, Entry, Time};
use jiff::Zoned;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use crate::clock;
use crate::error::Error;

/// A reader's zone, and when the diary's days start.
#[derive(Debug, Clone)]
pub struct Calendar {
    zone: TimeZone,
    day_start: DayStart,
}

impl Calendar {
    /// That of a reader in `zone`, of a diary whose days start at midnight.
    pub fn of(zone: TimeZone) -> Self {
        Self { zone, day_start: DayStart::default() }
    }

    /// That of this process, for a server's diary.
    pub fn here(day_start: DayStart) -> Self {
        Self { zone: TimeZone::system(), day_start }
    }

    /// The server says so.
    pub fn start_days_at(&mut self, day_start: DayStart) {
        self.day_start = day_start;
    }

    /// The reader's current day.
    pub fn today(&self) -> Date {
        self.day_start.day_of(Time::now(&self.zone))
    }

    /// The time that is meant by what a person says, in words as `clock` reads them.
    ///
    /// # Errors
    /// It is no time, or not exact enough.
    pub fn time(&self, said: &str) -> Result<Time, Error> {
        clock::parse(said, &self.now(), self.day_start)
    }

    /// Whether a time is said with its zone, so that no clock counts.
    pub fn is_absolute(said: &str) -> bool {
        clock::has_offset(said.trim())
    }

    /// How a time was understood: `2015-03-02 08:15`, with the zone where that is not the reader's.
    pub fn in_words(&self, time: Time) -> String {
        clock::in_words(time, &self.now())
    }

    fn now(&self) -> Zoned {
        Zoned::now().with_time_zone(self.zone.clone())
    }

    /// The day that an entry is of: the one that it is about, or that of its writing. To a reader whose clock showed what
    /// the server's did, that is the day that it was put to then, whenever days start now; elsewhere it is the reader's.
    pub fn day_of(&self, entry: &Entry) -> Date {
        let here = entry.time.in_zone(&self.zone);
        match (entry.own, entry.day) {
            (Some(own), _) => own.day,
            (None, day) if here.offset_minutes == entry.time.offset_minutes => day.unwrap_or(here.date()),
            (None, _) => self.day_start.day_of(here),
        }
    }

    /// What the clock said: where it happened, for a time of its own, and else where the reader is.
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
            author,
            text: "x".to_owned(),
        };
        let mut calendar = Calendar::of(TimeZone::get("Asia/Shanghai").unwrap());
        assert_eq!(calendar.day_of(&entry).to_string(), "2026-11-21");
        // When days start now says nothing of an entry that is there.
        calendar.start_days_at(day_start);
        assert_eq!(calendar.day_of(&entry).to_string(), "2026-11-21");
        assert_eq!(calendar.clock(&entry).to_string(), "2026-11-21T01:30:00");
        let far = Calendar { zone: TimeZone::UTC, day_start };
        assert_eq!(far.day_of(&entry).to_string(), "2026-11-20");
        entry.day = Some("2026-11-19".parse().unwrap());
        assert_eq!(calendar.day_of(&entry).to_string(), "2026-11-19");
        // Elsewhere, days rise with the reader's own clock: it is 01:30 and 03:00 in the night there.
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
