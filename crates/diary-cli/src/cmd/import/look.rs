//! Compares the files with the diary before anything is written.

use diary_client::{Entry, Event, Reader, Scope, Stored, Time, Which};

use super::super::reading::Reading;
use super::{counted, of_days};
use crate::error::CliError;
use crate::query::server_days;
use crate::term::output::say;
use diary_calendar::Days;
use diary_import::{Compared, Exactness, Found};

/// Largest difference between clocks that show the same time: zones lie between UTC-12 and UTC+14.
const ZONES_APART_MAX_MICROS: i64 = 26 * 3600 * 1_000_000;

/// Reads the diary's entries of the files' days. Returns whether a part of the diary could not be compared.
pub(super) async fn compare(reader: &Reader, compared: &Compared<'_>) -> Result<bool, CliError> {
    let Some((from, to)) = compared.days() else { return Ok(false) };
    // The diary's days may begin later than midnight, and in another zone.
    let mut reading =
        Reading::of(reader, reader.history(Scope::from(server_days(Days { from, to })).shown()), true);
    let (mut damage, mut corrected) = (false, Vec::new());
    while let Some(event) = reading.next().await? {
        match event {
            Event::Entry(stored) => {
                compared.is_there(&stored.entry);
                corrected.extend(stored.correction.is_some().then_some(stored.entry));
            }
            _ => damage = true,
        }
    }
    // A file may be older than a correction.
    for entry in corrected {
        let mut versions = Reading::of(reader, reader.versions(entry.seq), true);
        while let Some(event) = versions.next().await? {
            if let Event::Entry(Stored { entry: Entry { text, .. }, .. }) = event {
                compared.is_there(&Entry { text, ..entry.clone() });
            }
        }
    }
    if damage {
        say(format_args!(
            "the diary is damaged on these days: entries that cannot be compared are imported again"
        ));
    }
    Ok(damage)
}

/// Archived entries, which cannot be compared.
struct Archived {
    /// Seq of the newest archived entry; the oldest is 1.
    last: u64,
    /// Upper bound on their times: the time of the oldest entry that is still in the diary, if there is one.
    until: Option<Time>,
}

impl Archived {
    async fn of(reader: &Reader) -> Result<Option<Self>, CliError> {
        let mut reading = Reading::of(reader, reader.history(Which::All), true);
        let (mut first, mut until) = (None, None);
        while let Some(event) = reading.next().await? {
            match event {
                Event::Entry(stored) => {
                    first.get_or_insert(stored.entry.seq);
                    until = Some(stored.entry.time);
                    break;
                }
                // Damaged or missing entries are not an archive.
                Event::Gap(gap) => _ = first.get_or_insert(gap.first),
                Event::Damaged { .. } | Event::Restored { .. } => {}
            }
        }
        // A diary with an archive begins behind it.
        let first = first.unwrap_or(reader.welcome().head + 1);
        Ok((first > 1).then_some(Self { last: first - 1, until }))
    }

    /// Whether an entry of a file may be archived. Entries are assumed to be written after they happened. A time
    /// without a zone may have been read in another zone.
    fn may_have(&self, entry: &Found<'_>) -> bool {
        let apart = if entry.when.exactness == Exactness::Moment { 0 } else { ZONES_APART_MAX_MICROS };
        self.until.is_none_or(|until| entry.when.time.micros.saturating_sub(apart) < until.micros)
    }
}

/// # Errors
/// Some of the missing entries may be archived.
pub(super) async fn check_archived<'f>(
    reader: &Reader,
    missing: impl IntoIterator<Item = &'f Found<'f>>,
) -> Result<(), CliError> {
    let mut missing = missing.into_iter().peekable();
    if missing.peek().is_none() {
        return Ok(());
    }
    let Some(archived) = Archived::of(reader).await? else { return Ok(()) };
    let may_be_there: Vec<_> = missing.filter(|entry| archived.may_have(entry)).collect();
    if may_be_there.is_empty() {
        return Ok(());
    }
    let entries = counted(may_be_there.len(), "entry", "entries");
    Err(CliError::Refused(format!(
        "entries 1..{} are archived and cannot be compared, and {entries}{} may be among them; \
         leave out older entries with --from DATE, or import them anyway with --even-if-archived",
        archived.last,
        of_days(may_be_there.iter().copied()),
    )))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use diary_import::When;
    use diary_outbox::fake::TIME;

    #[test]
    fn what_was_before_the_oldest_entry_may_be_archived() {
        for (hours, exactness, may) in [
            (-1, Exactness::Moment, true),
            (0, Exactness::Moment, false),
            // A clock far in the east showed this time earlier.
            (25, Exactness::Clock, true),
            (26, Exactness::ClockMinute, false),
        ] {
            let time = Time { micros: TIME.micros + hours * 3600 * 1_000_000, ..TIME };
            let when = When { time, exactness };
            let entry =
                Found { when, author: None, text: Cow::Borrowed("x"), file: 0, line: 1, of_jrnl: false };
            let may_have = |until| Archived { last: 1, until }.may_have(&entry);
            assert_eq!((may_have(Some(TIME)), may_have(None)), (may, true), "{hours} hours later");
        }
    }
}
