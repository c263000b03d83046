//! What was sent and has no answer yet.

use std::collections::VecDeque;

use diary_client::{Ack, Error, Pending};

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
