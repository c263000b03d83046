//! The clock reading of an entry: RFC 3339 with microseconds and a numeric offset, always 32 bytes.

use std::fmt;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};

/// Bytes of a written time, `2026-11-21T08:15:02.123456+08:00`.
pub const TIME_BYTES: usize = 32;

/// Of these, the date in front.
pub(crate) const DATE_BYTES: usize = 10;

/// 0000-01-01T00:00:00Z, the first moment that RFC 3339 can write.
const YEAR_0_MICROS: i64 = -62_167_219_200_000_000;

/// A moment and the offset from UTC of the place that wrote it down.
///
/// Ordered by the moment alone would surprise `Eq`, so it is not `Ord`: compare [`micros`](Self::micros).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Time {
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub micros: i64,
    /// Minutes east of UTC, between -1439 and 1439.
    pub offset_minutes: i16,
}

/// What a clock says cannot be written. Displays as a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadClock {
    /// RFC 3339 has no such years.
    #[error("the clock says a time before the year 0, which cannot be written")]
    TooEarly,
    /// Later, some zone's local time would be in the year 10000.
    #[error("the clock says a time after 9999-12-30T22:00:00Z, which cannot be written")]
    TooLate,
}

impl Time {
    /// The moment and the offset, if they can be written.
    pub fn checked(micros: i64, offset_minutes: i16) -> Option<Self> {
        let time = Self { micros, offset_minutes };
        (Self::parse(&time.to_bytes()) == Some(time)).then_some(time)
    }

    /// The current time in `zone`; where the clock is wrong by thousands of years, the nearest that can be written.
    pub fn now(zone: &TimeZone) -> Self {
        Self::of_system(SystemTime::now(), zone).unwrap_or_else(|bad| match bad {
            BadClock::TooEarly => Self { micros: YEAR_0_MICROS, offset_minutes: 0 },
            BadClock::TooLate => Self { micros: Timestamp::MAX.as_microsecond(), offset_minutes: 0 },
        })
    }

    /// The current time in `zone`.
    ///
    /// # Errors
    /// [`BadClock`].
    pub fn of_the_clock(zone: &TimeZone) -> Result<Self, BadClock> {
        Self::of_system(SystemTime::now(), zone)
    }

    /// What a system's clock says, in `zone`.
    ///
    /// # Errors
    /// [`BadClock`].
    pub fn of_system(clock: SystemTime, zone: &TimeZone) -> Result<Self, BadClock> {
        let bad = if clock < SystemTime::UNIX_EPOCH { BadClock::TooEarly } else { BadClock::TooLate };
        let time = Self::at(Timestamp::try_from(clock).map_err(|_| bad)?, zone);
        Self::checked(time.micros, time.offset_minutes).ok_or(bad)
    }

    /// The moment `timestamp`, as `zone` writes it. Seconds of an offset (before 1900, mostly) are
    /// dropped: RFC 3339 has no place for them.
    pub fn at(timestamp: Timestamp, zone: &TimeZone) -> Self {
        let minutes = zone.to_offset(timestamp).seconds() / 60;
        Self {
            micros: timestamp.as_microsecond(),
            offset_minutes: i16::try_from(minutes).expect("jiff keeps offsets below 26 hours"),
        }
    }

    /// What a clock says that is `offset` ahead of UTC, if that can be written. Seconds of the offset are dropped, as in
    /// [`at`](Self::at), but here the clock's reading is kept, and the moment is that much later.
    pub fn of_clock(civil: DateTime, offset: Offset) -> Option<Self> {
        let offset_minutes = i16::try_from(offset.seconds() / 60).ok()?;
        let whole = Offset::from_seconds(i32::from(offset_minutes) * 60).ok()?;
        Self::checked(whole.to_timestamp(civil).ok()?.as_microsecond(), offset_minutes)
    }

    /// The local date, which names the day file.
    pub fn date(self) -> Date {
        self.civil().date()
    }

    /// Local date and time of day.
    pub fn civil(self) -> DateTime {
        let seconds = i32::from(self.offset_minutes) * 60;
        let offset = Offset::from_seconds(seconds).unwrap_or(Offset::UTC);
        let moment = Timestamp::from_microsecond(self.micros).unwrap_or(Timestamp::UNIX_EPOCH);
        offset.to_datetime(moment)
    }

    /// The 32 bytes that travel and are stored.
    pub fn to_bytes(self) -> [u8; TIME_BYTES] {
        let t = self.civil();
        let mut out = *b"0000-00-00T00:00:00.000000+00:00";
        let mut put = |at: usize, width: usize, mut value: u32| {
            for digit in out[at..at + width].iter_mut().rev() {
                *digit = b'0' + u8::try_from(value % 10).expect("below ten");
                value /= 10;
            }
        };
        put(0, 4, t.year().unsigned_abs().into());
        put(5, 2, t.month().unsigned_abs().into());
        put(8, 2, t.day().unsigned_abs().into());
        put(11, 2, t.hour().unsigned_abs().into());
        put(14, 2, t.minute().unsigned_abs().into());
        put(17, 2, t.second().unsigned_abs().into());
        put(20, 6, t.subsec_nanosecond().unsigned_abs() / 1000);
        let minutes = u32::from(self.offset_minutes.unsigned_abs());
        put(27, 2, minutes / 60);
        put(30, 2, minutes % 60);
        if self.offset_minutes < 0 {
            out[26] = b'-';
        }
        out
    }

    /// Reads exactly what [`to_bytes`](Self::to_bytes) writes; any other form is `None`.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; TIME_BYTES] = bytes.try_into().ok()?;
        let get = |at: usize, width: usize| -> Option<i32> {
            bytes[at..at + width]
                .iter()
                .try_fold(0, |sum, &b| b.is_ascii_digit().then(|| sum * 10 + i32::from(b - b'0')))
        };
        let small = |at: usize| i8::try_from(get(at, 2)?).ok();
        let civil = DateTime::new(
            i16::try_from(get(0, 4)?).ok()?,
            small(5)?,
            small(8)?,
            small(11)?,
            small(14)?,
            small(17)?,
            get(20, 6)? * 1000,
        )
        .ok()?;
        let size = i16::try_from(get(27, 2)? * 60 + get(30, 2)?).ok()?;
        if size >= 24 * 60 {
            return None;
        }
        let offset_minutes = if bytes[26] == b'-' { -size } else { size };
        let offset = Offset::from_seconds(i32::from(offset_minutes) * 60).ok()?;
        let time = Self { micros: offset.to_timestamp(civil).ok()?.as_microsecond(), offset_minutes };
        (time.to_bytes() == *bytes).then_some(time)
    }

    /// The same moment in another zone, for a reader far away.
    pub fn in_zone(self, zone: &TimeZone) -> Self {
        let moment = Timestamp::from_microsecond(self.micros).unwrap_or(Timestamp::UNIX_EPOCH);
        Self::at(moment, zone)
    }

    /// `2015-03-02 08:15`: what stands in parentheses before the text of an entry with its own time.
    pub fn minute(self) -> String {
        let t = self.civil();
        format!("{:04}-{:02}-{:02} {:02}:{:02}", t.year(), t.month(), t.day(), t.hour(), t.minute())
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.to_bytes()).expect("ASCII"))
    }
}

/// `2026-11-21`, exactly.
pub fn parse_date(text: &str) -> Option<Date> {
    let bytes = text.as_bytes();
    let shape = bytes.len() == 10
        && bytes
            .iter()
            .enumerate()
            .all(|(i, b)| if i == 4 || i == 7 { *b == b'-' } else { b.is_ascii_digit() });
    if !shape {
        return None;
    }
    Date::new(text[..4].parse().ok()?, text[5..7].parse().ok()?, text[8..].parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments() {
        for (text, micros, offset_minutes) in [
            ("1970-01-01T00:00:00.000000+00:00", 0, 0),
            ("2026-11-21T08:15:02.123456+08:00", 1_795_220_102_123_456, 480),
            ("2024-02-29T23:59:59.999999-03:30", 1_709_263_799_999_999, -210),
        ] {
            let time = Time::parse(text.as_bytes()).unwrap();
            assert_eq!(time, Time { micros, offset_minutes });
            assert_eq!(time.to_string(), text);
        }
        assert_eq!(Time { micros: 1_795_220_102_123_456, offset_minutes: 480 }.minute(), "2026-11-21 08:15");
    }

    #[test]
    fn what_a_clock_says_is_kept() {
        let of_clock = |said: &str, seconds| {
            let offset = Offset::from_seconds(seconds).unwrap();
            Time::of_clock(said.parse().unwrap(), offset).map(|time| time.to_string())
        };
        for (said, seconds, written) in [
            ("1890-01-01T12:00:00", 29_143, Some("1890-01-01T12:00:00.000000+08:05")),
            ("1890-01-01T12:00:00", -29_143, Some("1890-01-01T12:00:00.000000-08:05")),
            ("2026-11-21T08:15:02.5", 28_800, Some("2026-11-21T08:15:02.500000+08:00")),
            ("-000001-01-01T12:00:00", 0, None),
            ("2026-11-21T08:15:02", 25 * 3600, None),
        ] {
            assert_eq!(of_clock(said, seconds).as_deref(), written, "{said} {seconds}");
        }
    }

    #[test]
    fn a_clock_that_cannot_be_written_is_told() {
        let year_0 = Time::parse(b"0000-01-01T00:00:00.000000+00:00").unwrap();
        assert_eq!(year_0.micros, YEAR_0_MICROS);
        let clock = |seconds: i64, zone: &str| {
            let since = std::time::Duration::from_secs(seconds.unsigned_abs());
            let epoch = SystemTime::UNIX_EPOCH;
            let clock = if seconds < 0 { epoch - since } else { epoch + since };
            Time::of_system(clock, &TimeZone::get(zone).unwrap()).map(|time| time.to_string())
        };
        let last = Timestamp::MAX.as_second();
        assert_eq!(clock(-1, "UTC").as_deref(), Ok("1969-12-31T23:59:59.000000+00:00"));
        assert_eq!(clock(last, "UTC").as_deref(), Ok("9999-12-30T22:00:00.000000+00:00"));
        assert_eq!(clock(last, "Pacific/Kiritimati").as_deref(), Ok("9999-12-31T12:00:00.000000+14:00"));
        assert_eq!(clock(last + 1, "UTC"), Err(BadClock::TooLate));
        assert_eq!(clock(last * 1000, "Etc/GMT+12"), Err(BadClock::TooLate));
        let first = YEAR_0_MICROS / 1_000_000;
        assert_eq!(clock(first, "UTC").as_deref(), Ok("0000-01-01T00:00:00.000000+00:00"));
        assert_eq!(clock(first, "Etc/GMT+5"), Err(BadClock::TooEarly), "it is the year before there");
        assert_eq!(clock(first - 1, "UTC"), Err(BadClock::TooEarly));
        assert_eq!(clock(first * 1000, "UTC"), Err(BadClock::TooEarly));
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in [
            "2026-11-21T08:15:02.123456Z",
            "2026-11-21 08:15:02.123456+08:00",
            "2026-13-21T08:15:02.123456+08:00",
            "2026-11-21T08:15:60.123456+08:00",
            "2026-11-21T08:15:02.123456-00:00",
            "2026-11-21T08:15:02.123456+08:60",
            "+026-11-21T08:15:02.123456+08:00",
            "2026-11-21T08:15:02.123456+24:00",
            "2026-11-21T08:15:02.123456_08:00",
        ] {
            assert_eq!(Time::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(micros in -62_000_000_000_000_000i64..250_000_000_000_000_000, offset_minutes in -1439i16..=1439) {
            let time = Time { micros, offset_minutes };
            prop_assert_eq!(Time::parse(&time.to_bytes()), Some(time));
        }
    }
}
