//! What was sent and has no answer yet.

use std::collections::VecDeque;

use diary_client::{Ack, Client, Error, NewEntry, Pending, Time};
use futures::FutureExt;
use jiff::tz::TimeZone;

/// Entries in the order in which they were sent, each with what its sender remembers of it.
pub(crate) type Unanswered<T> = VecDeque<(T, Pending)>;

/// The answer for what was sent first, and what is remembered of it; never, if there is nothing.
///
/// Cancellation safe: an entry leaves the queue only with its answer.
pub(crate) async fn answer_of_first<T>(open: &mut Unanswered<T>) -> (T, Result<Ack, Error>) {
    if let Some((_, pending)) = open.front_mut() {
        let answer = pending.await;
        if let Some((what, _)) = open.pop_front() {
            return (what, answer);
        }
    }
    std::future::pending().await
}

/// Sends what comes next, which must be there.
///
/// Cancellation safe: it is taken only when there is room for it.
pub(crate) async fn send_next<T>(
    client: &Client,
    next: impl FnOnce() -> Option<(T, NewEntry)>,
) -> Result<(T, Pending), Error> {
    let room = client.room().await?;
    match next() {
        Some((what, entry)) => Ok((what, room.send(entry)?)),
        None => std::future::pending().await,
    }
}

/// A text that was written just now.
pub(crate) fn written_now(text: String) -> NewEntry {
    NewEntry { written: Some(Time::now(&TimeZone::system())), ..text.into() }
}

/// Takes out what is acked or refused by now: behind one that waits, others may be. The rest stays, in order.
pub(crate) fn take_answered<T>(open: &mut Unanswered<T>) -> Vec<(T, Result<Ack, Error>)> {
    let mut answered = Vec::new();
    for (what, mut pending) in std::mem::take(open) {
        match (&mut pending).now_or_never() {
            Some(answer @ (Ok(_) | Err(Error::Refused(_)))) => answered.push((what, answer)),
            _ => open.push_back((what, pending)),
        }
    }
    answered
}
