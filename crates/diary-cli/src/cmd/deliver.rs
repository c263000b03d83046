//! What the writing commands share: how long they wait, and what they report.

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::time::Duration;

use diary_client::{Address, Code, Error, Refusal, Time, Welcome};
use diary_outbox::{Delivery, Held, KeptEntry, Listed, Listing, Outcome};
use diary_proto::escape::escape;
use jiff::tz::TimeZone;
use tokio::time::{Instant, sleep_until};

use crate::config::Config;
use crate::error::exit;
use crate::render::count;
use crate::term::signals::Signals;
use crate::term::ui::Ui;

/// How long to wait for a lost connection once only acks are missing. A server that restarts is back by then.
const AWAY_LIMIT: Duration = Duration::from_secs(10);

/// The same while more input waits, which is worth more patience.
const AWAY_LIMIT_OF_INPUT: Duration = Duration::from_secs(30);

/// How long a connected server may answer nothing: its disk may be slow.
const SILENT_LIMIT: Duration = Duration::from_secs(30);

/// Why a delivery was stopped before everything was acked.
pub(crate) enum Stopped {
    Interrupted,
    GaveUp(Held),
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => f.write_str("interrupted"),
            Self::GaveUp(held) => held.fmt(f),
        }
    }
}

/// Delivers until everything is acked or refused, or waiting is pointless. The outbox keeps the rest.
pub(crate) async fn drive<T>(
    delivery: &mut Delivery<T>,
    signals: &mut Signals,
    mut tell: impl FnMut(Outcome<T>),
) -> Option<Stopped> {
    let mut stopped = None;
    delivery.finish();
    loop {
        let deadline = deadline_of_kept(delivery).filter(|_| stopped.is_none());
        tokio::select! {
            biased;
            () = signals.any(), if stopped.is_none() => {
                stopped = Some(Stopped::Interrupted);
                delivery.stop();
            }
            outcome = delivery.next() => match outcome {
                Some(outcome) => tell(outcome),
                None => return stopped,
            },
            () = if_any(deadline.map(sleep_until)) => {
                stopped = delivery.held().map(|(held, _)| Stopped::GaveUp(held.clone()));
                delivery.stop();
            }
        }
    }
}

/// Returns when to give up a delivery of kept entries, if something holds it up.
pub(crate) fn deadline_of_kept<T>(delivery: &Delivery<T>) -> Option<Instant> {
    let (held, since) = delivery.held()?;
    let limit = match held {
        Held::Full(_) | Held::Ended(_) => Duration::ZERO,
        // The server was stopped, or was never reached.
        Held::Away(error) if matches!(error, Error::NothingListens(_)) || !delivery.has_arrived() => {
            Duration::ZERO
        }
        Held::Away(_) => AWAY_LIMIT,
        Held::Silent(_) => SILENT_LIMIT,
    };
    Some(since + limit)
}

/// Returns when to give up a delivery of input that is not kept, if something holds it up. `ended` is when the
/// input ended.
pub(crate) fn deadline_of_input<T>(delivery: &Delivery<T>, ended: Option<Instant>) -> Option<Instant> {
    let (held, since) = delivery.held()?;
    match (held, ended) {
        (Held::Ended(_), _) => Some(since),
        (Held::Away(_), _) if !delivery.has_arrived() => Some(since),
        // The server has the entries, and only it can tell whether they are stored.
        (Held::Silent(_), _) => None,
        (Held::Away(_) | Held::Full(_), Some(ended)) => Some(since.max(ended) + AWAY_LIMIT),
        (Held::Away(_) | Held::Full(_), None) => (!delivery.has_room()).then(|| since + AWAY_LIMIT_OF_INPUT),
    }
}

/// Returns what to say about the connection while input is delivered.
pub(crate) fn state_sentence<T>(outcome: &Outcome<T>, has_arrived: bool, server: &Address) -> Option<String> {
    match outcome {
        Outcome::Held(Held::Away(error)) if has_arrived => Some(format!("{error}; reconnecting")),
        Outcome::Held(Held::Full(refusal)) => Some(format!("error {refusal}; waiting for room")),
        Outcome::Held(held @ Held::Silent(_)) => Some(held.to_string()),
        Outcome::Resumed(held) if has_arrived => Some(resumed(held, server)),
        _ => None,
    }
}

/// Returns what to say once a delivery is no longer held up.
pub(crate) fn resumed(held: &Held, server: &Address) -> String {
    match held {
        Held::Away(_) => "reconnected".to_owned(),
        _ => format!("{server} accepts entries again"),
    }
}

/// Awaits a future, if there is one; otherwise pends forever.
///
/// Cancel safe if the future is.
pub(crate) async fn if_any<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

/// Reports what became of entries that earlier runs left; successes only if `is_told`.
pub(crate) fn tell_earlier<T>(outcome: &Outcome<T>, server: &Address, is_told: bool, ui: &Ui) {
    match outcome {
        Outcome::CaughtUp { entries } if is_told => {
            ui.say(format_args!("{} sent to {server}", count(*entries, "kept entry", "kept entries")));
        }
        Outcome::LeftRefused { id, kept, refusal } => {
            ui.say(format_args!("{}", refused_sentence(id, server, Some(kept), refusal)));
        }
        Outcome::Trouble(error) => ui.say(format_args!("{error}")),
        _ => {}
    }
}

/// Returns a sentence about a refused entry and what to do with it.
pub(crate) fn refused_sentence(
    id: &str,
    server: &Address,
    kept: Option<&KeptEntry>,
    refusal: &Refusal,
) -> String {
    let of = kept.map(|kept| format!(" of {}", minute(kept.time))).unwrap_or_default();
    format!("{server} refused the entry {id}{of}: {}", refusal_and_choices(id, refusal))
}

/// Returns why an entry was refused, and what to do with it.
pub(crate) fn refusal_and_choices(id: &str, refusal: &Refusal) -> String {
    let choices = match refusal.code {
        Code::NoEntry => {
            format!("add its text with another number, or with none, then run diary outbox drop {id}")
        }
        Code::NotPermitted => {
            format!("run diary outbox drop {id} or, once it is permitted, diary outbox send-as-new {id}")
        }
        _ => format!(
            "check whether it is in the diary, then run diary outbox drop {id} or diary outbox send-as-new {id}"
        ),
    };
    format!("{}; {choices}", escape(&refusal.to_string()))
}

/// Clock difference to the server from which on it is reported.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(60);

/// Clock difference from which on an entry's time needs confirmation: more than any wrong time zone explains.
pub(crate) const CLOCKS_FAR_APART: Duration = Duration::from_secs(24 * 3600);

/// Returns how far this computer's clock is from the server's, with a sentence; `None` if they agree.
pub(crate) fn clocks_apart(welcome: &Welcome, now: Time) -> Option<(Duration, String)> {
    let apart = Duration::from_micros(now.micros.abs_diff(welcome.clock_micros));
    let word = if now.micros < welcome.clock_micros { "behind" } else { "ahead of" };
    let far = match (apart.as_secs() + 30) / 60 {
        minutes @ 0..120 => count(minutes, "minute", "minutes"),
        minutes @ 120..2880 => count((minutes + 30) / 60, "hour", "hours"),
        minutes => count((minutes + 12 * 60) / (24 * 60), "day", "days"),
    };
    (apart > CLOCKS_APART_MAX)
        .then(|| (apart, format!("the clock of this computer is {far} {word} the server's")))
}

/// Reports how far the clocks are apart, and what that means for waiting entries.
pub(crate) fn tell_clocks(welcome: &Welcome, ui: &Ui) {
    match clocks_apart(welcome, Time::now(&TimeZone::system())) {
        Some((apart, sentence)) if apart > CLOCKS_FAR_APART => {
            ui.say(format_args!(
                "{sentence}; entries waiting in the outbox will be dated by the server's clock"
            ));
        }
        Some((_, sentence)) => ui.say(format_args!("{sentence}")),
        None => {}
    }
}

/// Returns the time of writing in the reader's time zone.
pub(crate) fn minute(time: Time) -> String {
    time.in_zone(&TimeZone::system()).minute()
}

/// Returns when entries that are kept for this server are sent.
pub(crate) fn when_sent(server: &Address) -> String {
    format!("with the next entry to {server} or by diary outbox send")
}

/// Reports all waiting entries that no running program holds, for any server. Entries for a journal that one of
/// `served` has are reported only if `is_left`. Returns the exit code for the outbox's state.
pub(crate) fn tell_waiting(config: &Config, served: &[(Address, u64)], is_left: bool, ui: &Ui) -> u8 {
    let Listing { entries, aside, troubles, .. } = config.outbox().list();
    let (mut waiting, mut elsewhere, mut refused) = (BTreeMap::new(), BTreeMap::new(), 0);
    for Listed { server, kept, .. } in entries.iter().filter(|listed| !listed.held) {
        let here = served.iter().find(|(_, journal)| kept.journal == Some(*journal));
        let is_known = served.iter().any(|(address, _)| address == server);
        let (group, to) = match here {
            _ if kept.refusal.is_some() => {
                refused += 1;
                continue;
            }
            None if kept.journal.is_some() && is_known => (&mut elsewhere, server),
            None if is_left || !is_known => (&mut waiting, server),
            Some((address, _)) if is_left => (&mut waiting, address),
            _ => continue,
        };
        *group.entry(to.to_string()).or_insert(0) += 1;
    }
    if !waiting.is_empty() {
        let wait = count(waiting.values().sum::<usize>(), "entry waits", "entries wait");
        let servers = waiting.into_keys().collect::<Vec<_>>().join(", ");
        ui.say(format_args!("{wait} in the outbox for {servers}; send with diary outbox send"));
    }
    for (server, number) in &elsewhere {
        let wait = count(*number, "entry waits", "entries wait");
        ui.say(format_args!(
            "{wait} in the outbox for a journal that {server} does not serve now; see diary outbox; send-as-new ID sends \
             one anyway, and drop ID deletes one"
        ));
    }
    for (number, one, many) in [
        (refused, "refused entry waits in the outbox", "refused entries wait in the outbox"),
        (aside.len(), "text was set aside", "texts were set aside"),
        (troubles.len(), "part of the outbox is unreadable", "parts of the outbox are unreadable"),
    ] {
        if number > 0 {
            ui.say(format_args!("{}; see diary outbox", count(number, one, many)));
        }
    }
    match (refused + elsewhere.len(), troubles.len()) {
        (0, 0) => exit::DONE,
        (0, _) => exit::DAMAGE,
        _ => exit::REFUSED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_clocks_are_apart() {
        let apart = |seconds: i64| {
            let welcome = Welcome { clock_micros: 1_000_000_000, ..Welcome::default() };
            let now = Time { micros: 1_000_000_000 + seconds * 1_000_000, offset_minutes: 0 };
            clocks_apart(&welcome, now).map(|(_, sentence)| sentence)
        };
        let sentence = |far: &str| Some(format!("the clock of this computer is {far} the server's"));
        assert_eq!([apart(0), apart(60), apart(-60)], [None, None, None]);
        assert_eq!(apart(61), sentence("1 minute ahead of"));
        assert_eq!(apart(-3600), sentence("60 minutes behind"));
        assert_eq!(apart(7200), sentence("2 hours ahead of"));
        assert_eq!(apart(-26 * 3600), sentence("26 hours behind"));
        assert_eq!(apart(400 * 86_400), sentence("400 days ahead of"));
    }
}
