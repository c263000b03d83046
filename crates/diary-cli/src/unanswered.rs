//! What was sent and has no answer yet.

use std::collections::VecDeque;

use diary_client::{Ack, Client, Error, NewEntry, Pending, Time};
use futures::FutureExt;
use jiff::tz::TimeZone;

/// Entries in the order in which they were sent, each with what its sender remembers of it.
pub(crate) type Unanswered<T> = VecDeque<(T, Answer)>;

/// The answer for an entry.
pub(crate) enum Answer {
    Pending(Pending),
    /// It came, and nobody took it yet. A [`Pending`] gives it only once.
    Come(Result<Ack, Error>),
}

impl From<Pending> for Answer {
    fn from(pending: Pending) -> Self {
        Self::Pending(pending)
    }
}

impl Answer {
    /// Waits until it is there.
    ///
    /// Cancellation safe.
    async fn come(&mut self) {
        if let Self::Pending(pending) = self {
            *self = Self::Come(pending.await);
        }
    }
}

/// The answer for what was sent first, and what is remembered of it; never, if there is nothing.
///
/// Cancellation safe: an entry leaves the queue only with its answer.
pub(crate) async fn answer_of_first<T>(open: &mut Unanswered<T>) -> (T, Result<Ack, Error>) {
    if let Some((_, answer)) = open.front_mut() {
        answer.come().await;
        if let Some((what, Answer::Come(answer))) = open.pop_front() {
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
) -> Result<(T, Answer), Error> {
    let room = client.room().await?;
    match next() {
        Some((what, entry)) => Ok((what, room.send(entry)?.into())),
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
    for (what, mut answer) in std::mem::take(open) {
        // Where it is not there yet, it is waited for later.
        let _ = answer.come().now_or_never();
        match answer {
            Answer::Come(answer @ (Ok(_) | Err(Error::Refused(_)))) => answered.push((what, answer)),
            answer => open.push_back((what, answer)),
        }
    }
    answered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, SILENCE};

    #[tokio::test]
    async fn an_answer_that_stays_can_be_asked_for_again() {
        let fake = Fake::start().await;
        let client = fake.client("anna").await;
        let mut open = Unanswered::new();
        for text in ["a", SILENCE, "behind"] {
            let entry = (text, written_now(text.to_owned()));
            open.push_back(send_next(&client, || Some(entry)).await.unwrap());
        }
        let (first, answer) = answer_of_first(&mut open).await;
        assert_eq!((first, answer.unwrap().seq), ("a", 1));
        assert!(answer_of_first(&mut open).now_or_never().is_none());
        assert!(take_answered(&mut open).is_empty());
        assert_eq!(client.give_up().await.len(), 2);
        for _ in 0..2 {
            assert!(take_answered(&mut open).is_empty(), "no ack and no refusal");
        }
        for text in [SILENCE, "behind"] {
            let (what, answer) = answer_of_first(&mut open).await;
            assert_eq!(what, text);
            assert!(matches!(answer, Err(Error::Closed)));
        }
        assert!(answer_of_first(&mut open).now_or_never().is_none());
    }
}
