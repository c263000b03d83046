//! The time zone of the diary's days.

use jiff::tz::TimeZone;

/// There is no time zone with this name.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not a time zone; use a name such as Asia/Shanghai or UTC")]
pub struct UnknownZone(String);

/// The zone with this name, or the system's, or UTC; and what it is called.
pub(crate) fn find(name: Option<&str>) -> Result<(TimeZone, String), UnknownZone> {
    if let Some(name) = name {
        let zone = TimeZone::get(name).map_err(|_| UnknownZone(name.to_owned()))?;
        return Ok((zone, name.to_owned()));
    }
    Ok(match TimeZone::try_system() {
        Ok(zone) => {
            let name = zone.iana_name().unwrap_or("the system's").to_owned();
            (zone, name)
        }
        Err(error) => {
            tracing::warn!(%error, "the system's time zone is not known, going on with UTC");
            (TimeZone::UTC, "UTC".to_owned())
        }
    })
}
