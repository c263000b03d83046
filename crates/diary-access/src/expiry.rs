//! Parses when a token expires.

use jiff::civil::Date;
use jiff::fmt::temporal::Pieces;
use jiff::{Span, Timestamp, Zoned};

use crate::grant::whole_seconds;

/// Why a string is not a time when a token can expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadExpiry {
    /// It is not a time.
    #[error(
        "not a time; try a date (2027-01-31), a time with an offset (2027-01-31T18:00:00+08:00), or a distance \
         (30d, 12h, 8w)"
    )]
    NotATime,
    /// It is not after `now`.
    #[error("the time is not in the future")]
    Past,
    /// It is beyond the end of the calendar.
    #[error("the time is too far in the future")]
    TooFar,
}

/// Parses when a token expires, in whole seconds: at the end of a day in the zone of `now` (`2027-01-31`), at a time
/// (RFC 3339), or at a distance from `now` (`30d`, `12h`, `8w`). Days and weeks end at the same time of day, also across
/// a change of the clock.
///
/// # Errors
/// It is not a time, or not in the future.
pub fn parse_expiry(when: &str, now: &Zoned) -> Result<Timestamp, BadExpiry> {
    let expires = if let Ok(time) = when.parse::<Timestamp>() {
        time
    } else if let Some(date) = date(when) {
        let next = date.tomorrow().map_err(|_| BadExpiry::TooFar)?;
        next.to_zoned(now.time_zone().clone()).map_err(|_| BadExpiry::TooFar)?.timestamp()
    } else {
        let distance: Span = when.parse().map_err(|_| BadExpiry::NotATime)?;
        let out_of_range = if distance.is_negative() { BadExpiry::Past } else { BadExpiry::TooFar };
        now.checked_add(distance).map_err(|_| out_of_range)?.timestamp()
    };
    let expires = whole_seconds(expires);
    if expires <= now.timestamp() { Err(BadExpiry::Past) } else { Ok(expires) }
}

/// Parses a date alone. `str::parse` would also take the date of a time.
fn date(when: &str) -> Option<Date> {
    let pieces = Pieces::parse(when).ok()?;
    let is_bare =
        pieces.time().is_none() && pieces.offset().is_none() && pieces.time_zone_annotation().is_none();
    is_bare.then(|| pieces.date())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_say_them() {
        let now: Zoned = "2026-11-27T10:00:00.75+08:00[Asia/Shanghai]".parse().unwrap();
        for (when, expires) in [
            ("2027-01-31", Ok("2027-01-31T16:00:00Z")),
            // Today has not ended.
            ("2026-11-27", Ok("2026-11-27T16:00:00Z")),
            ("2026-11-26", Err(BadExpiry::Past)),
            ("2027-01-31T18:00:00+08:00", Ok("2027-01-31T10:00:00Z")),
            ("2027-01-31T18:00:00.9Z", Ok("2027-01-31T18:00:00Z")),
            ("2027-01-31 18:00Z", Ok("2027-01-31T18:00:00Z")),
            ("2026-11-27T02:00:00Z", Err(BadExpiry::Past)),
            ("2026-11-27T02:00:01Z", Ok("2026-11-27T02:00:01Z")),
            ("30d", Ok("2026-12-27T02:00:00Z")),
            ("12h", Ok("2026-11-27T14:00:00Z")),
            ("8w", Ok("2027-01-22T02:00:00Z")),
            ("1w 2d", Ok("2026-12-06T02:00:00Z")),
            ("0d", Err(BadExpiry::Past)),
            ("-30d", Err(BadExpiry::Past)),
            ("3000000d", Err(BadExpiry::TooFar)),
            ("9999-12-31", Err(BadExpiry::TooFar)),
            ("2027-01-31T18:00:00", Err(BadExpiry::NotATime)),
            ("2027-02-30", Err(BadExpiry::NotATime)),
            ("2027-01", Err(BadExpiry::NotATime)),
            ("30", Err(BadExpiry::NotATime)),
            ("never", Err(BadExpiry::NotATime)),
            ("tomorrow", Err(BadExpiry::NotATime)),
            ("", Err(BadExpiry::NotATime)),
        ] {
            assert_eq!(
                parse_expiry(when, &now).map(|time| time.to_string()).as_deref(),
                expires.as_ref().copied(),
                "{when}"
            );
        }
    }

    #[test]
    fn days_are_those_of_the_zone() {
        // Summer time ends on 2026-10-25, and that day has 25 hours.
        let now: Zoned = "2026-10-24T12:00:00+02:00[Europe/Berlin]".parse().unwrap();
        for (when, expires) in [
            ("2026-10-25", "2026-10-25T23:00:00Z"),
            ("1d", "2026-10-25T11:00:00Z"),
            ("24h", "2026-10-25T10:00:00Z"),
        ] {
            assert_eq!(parse_expiry(when, &now).unwrap().to_string(), expires, "{when}");
        }
    }
}
