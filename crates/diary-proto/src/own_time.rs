//! When a day begins, and the time of what is written down later than it happened.

use std::fmt;
use std::str::FromStr;

use jiff::ToSpan;
use jiff::civil::Date;

use crate::time::Time;

/// The time of day at which a day begins: what is written before it belongs to the evening before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DayStart {
    minutes: u16,
}

impl DayStart {
    /// A day that begins so many minutes after midnight; `None` for a whole day or more.
    pub fn from_minutes(minutes: u16) -> Option<Self> {
        (minutes < 24 * 60).then_some(Self { minutes })
    }

    /// Minutes after midnight.
    pub fn minutes(self) -> u16 {
        self.minutes
    }

    /// The day that a moment belongs to, where it was written down.
    pub fn day_of(self, time: Time) -> Date {
        let civil = time.civil();
        let started = civil.checked_sub(i64::from(self.minutes).minutes()).ok();
        // There is no day before the first that can be written.
        started.filter(|started| started.year() >= 0).unwrap_or(civil).date()
    }
}

/// `03:00`.
impl fmt::Display for DayStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.minutes / 60, self.minutes % 60)
    }
}

impl FromStr for DayStart {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |digits: &str| match digits.as_bytes() {
            [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some(u16::from((tens - b'0') * 10 + (ones - b'0'))),
            _ => None,
        };
        text.split_once(':')
            .and_then(|(hours, minutes)| Some((number(hours)?, number(minutes)?)))
            .filter(|&(_, minutes)| minutes < 60)
            .and_then(|(hours, minutes)| Self::from_minutes(hours * 60 + minutes))
            .ok_or("a day starts at a time from 00:00 to 23:59, such as 03:00")
    }
}

/// When an entry's subject was, where that differs from its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnTime {
    /// The moment.
    pub at: Time,
    /// The day that it belongs to: that of `at`, or the one before, where a day starts later than midnight.
    pub day: Date,
}

impl OwnTime {
    /// The own time `at`, where a day begins at `day_start`.
    pub fn new(at: Time, day_start: DayStart) -> Self {
        Self { at, day: day_start.day_of(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_a_day_starts_it_is_the_evening_before() {
        let day = |start: &str, time: &str| {
            let time = Time::parse(time.as_bytes()).unwrap();
            start.parse::<DayStart>().unwrap().day_of(time).to_string()
        };
        assert_eq!(day("03:00", "2026-01-01T02:59:59.999999+08:00"), "2025-12-31");
        assert_eq!(day("03:00", "2026-01-01T03:00:00.000000+08:00"), "2026-01-01");
        assert_eq!(day("00:00", "2026-01-01T00:00:00.000000-05:00"), "2026-01-01");
        assert_eq!(day("23:59", "2026-01-01T23:58:00.000000+00:00"), "2025-12-31");
        assert_eq!(day("03:00", "0000-01-01T01:00:00.000000+00:00"), "0000-01-01");
    }

    #[test]
    fn a_day_starts_at_a_time_of_day() {
        for text in ["00:00", "03:00", "23:59"] {
            assert_eq!(text.parse::<DayStart>().unwrap().to_string(), text);
        }
        for text in ["", "3", "3:00", "24:00", "03:60", "+3:00", "03:00:00", "03-00", "-1:00"] {
            assert!(text.parse::<DayStart>().is_err(), "{text}");
        }
    }
}
