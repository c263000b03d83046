//! What the diary has is looked at before anything is written.

use diary_client::{Client, Error, Event, Gap, History, Which};
use tokio::time::Instant;

use crate::dates::Days;
use crate::exit;
use crate::import::compare::Compared;
use crate::output::say;
use crate::patience::{HeldUp, Patience};
use crate::select::server_days;
use crate::unreachable_sentence;

/// A reading before anything is written. Its errors are told, and are the exit code.
struct Look {
    history: History,
    patience: Patience,
    started: Instant,
}

impl Look {
    fn at(client: &Client, which: Which) -> Self {
        let (history, patience) = (client.history(which), Patience::new(client));
        Self { history, patience, started: Instant::now() }
    }

    /// The next event; `None` at the end. Cancellation safe.
    async fn next(&mut self) -> Result<Option<Event>, u8> {
        loop {
            tokio::select! {
                biased;
                event = self.history.next() => return event.transpose().map_err(|error| {
                    say(format_args!("nothing was imported: {error}"));
                    if matches!(error, Error::Refused(_)) { exit::REFUSED } else { exit::UNREACHABLE }
                }),
                () = self.patience.wait() => {
                    if let Some(error) = self.patience.look(HeldUp::End(self.started)) {
                        say(format_args!("nothing was imported: {}", unreachable_sentence(&error)));
                        return Err(exit::UNREACHABLE);
                    }
                }
            }
        }
    }
}

/// Reads what the diary has of the days of the files. Whether something of it could not be compared.
pub(super) async fn compare(client: &Client, compared: &Compared<'_>) -> Result<bool, u8> {
    let Some((from, to)) = compared.days() else { return Ok(false) };
    // The days of the diary may begin later than at midnight, and in another zone.
    let mut look = Look::at(client, server_days(Days { from, to }));
    let mut damage = false;
    while let Some(event) = look.next().await? {
        match event {
            Event::Entry(stored) => compared.is_there(&stored.entry),
            gap => {
                damage = true;
                tell_damage(&gap);
            }
        }
    }
    Ok(damage)
}

fn tell_damage(event: &Event) {
    let what = match event {
        Event::Gap(Gap { first, last }) => format!("its entries {first}..{last} are damaged or missing"),
        _ => "some of its entries are damaged".to_owned(),
    };
    say(format_args!(
        "the diary cannot be compared in full: {what}, and if they are of these files, they come again"
    ));
}
