//! Turns of searches.
//!
//! A search scans for some milliseconds at a time, and whoever has used the least goes first: fair queueing by virtual
//! time, as in <https://docs.kernel.org/scheduler/sched-design-CFS.html>. So one search gets as much as each of the others,
//! however many they are and whatever theirs cost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::limits::{SEARCH_CREDIT_MAX, SEARCH_STEP_TIME};

/// Who searches now, and who waits.
#[derive(Debug)]
pub(crate) struct Turns {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Turns that nobody has.
    free: usize,
    /// The most that anybody had used when its turn began.
    floor: Duration,
    /// By what they have used, then in the order in which they came.
    waiting: BTreeMap<(Duration, u64), Waiter>,
    arrivals: u64,
}

#[derive(Debug)]
struct Waiter {
    used: Arc<Mutex<Duration>>,
    granted: oneshot::Sender<Turn>,
}

/// Somebody who searches. All its searches count as one. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Searcher {
    turns: Arc<Turns>,
    /// For how long it has had turns, and what others had used when it came.
    used: Arc<Mutex<Duration>>,
}

/// The turn of a searcher, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    used: Arc<Mutex<Duration>>,
}

impl Turns {
    /// So many turns at once.
    pub(crate) fn new(free: usize) -> Arc<Self> {
        let state = State { free, floor: Duration::ZERO, waiting: BTreeMap::new(), arrivals: 0 };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// A new searcher. It pays for one step in advance: else those who come as new ones again and again would never let
    /// anybody else have a turn.
    pub(crate) fn searcher(self: &Arc<Self>) -> Searcher {
        let used = Arc::new(Mutex::new(lock(&self.state).floor + SEARCH_STEP_TIME));
        Searcher { turns: Arc::clone(self), used }
    }

    fn serve(self: &Arc<Self>) {
        loop {
            // Unlocked again before the turn is sent: it is dropped if nobody takes it.
            let next = lock(&self.state).begin_next();
            let Some(Waiter { used, granted }) = next else { return };
            let _ = granted.send(Turn { turns: Arc::clone(self), used });
        }
    }
}

impl State {
    fn begin_next(&mut self) -> Option<Waiter> {
        while self.free > 0 {
            let ((used, _), waiter) = self.waiting.pop_first()?;
            if !waiter.granted.is_closed() {
                self.free -= 1;
                self.floor = self.floor.max(used);
                return Some(waiter);
            }
        }
        None
    }
}

impl Searcher {
    /// Completes when it is its turn. Cancel safe.
    pub(crate) async fn turn(&self) -> Turn {
        let (granted, turn) = oneshot::channel();
        let place = {
            let mut state = lock(&self.turns.state);
            let mut used = lock(&self.used);
            *used = (*used).max(state.floor.saturating_sub(SEARCH_CREDIT_MAX));
            state.arrivals += 1;
            let place = (*used, state.arrivals);
            state.waiting.insert(place, Waiter { used: Arc::clone(&self.used), granted });
            place
        };
        let _waiting = Waiting { turns: &self.turns, place };
        self.turns.serve();
        turn.await.expect("a waiter stays until it has its turn")
    }
}

/// Somebody's place among those who wait, which is given up when it is dropped: with all turns taken, nobody else would
/// clear it away.
struct Waiting<'a> {
    turns: &'a Turns,
    place: (Duration, u64),
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.turns.state).waiting.remove(&self.place);
    }
}

impl Turn {
    /// Does `work`, and counts how long it takes: others wait for the turn also while it waits for the disk.
    pub(crate) fn take<T>(self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = work();
        self.charge(begun.elapsed());
        result
    }

    fn charge(&self, time: Duration) {
        *lock(&self.used) += time;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.turns.state).free += 1;
        self.turns.serve();
    }
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;
    use tokio::task::{JoinSet, yield_now};
    use tokio::time::sleep;

    use super::*;

    #[tokio::test]
    async fn who_is_gone_leaves_no_place_behind() {
        let turns = Turns::new(1);
        let taken = turns.searcher().turn().await;
        for _ in 0..100 {
            assert!(turns.searcher().turn().now_or_never().is_none());
        }
        assert_eq!(lock(&turns.state).waiting.len(), 0);
        drop(taken);
        assert!(turns.searcher().turn().now_or_never().is_some());
    }

    /// What a step costs and how long it takes.
    const STEP: Duration = SEARCH_STEP_TIME;

    /// Takes a turn. What comes of it is sent before the next.
    async fn search(searcher: &Searcher, cost: Duration) {
        let turn = searcher.turn().await;
        sleep(cost).await;
        turn.charge(cost);
        drop(turn);
        yield_now().await;
    }

    /// How many turns of `cost` 16 others have taken together when one has taken 100 steps. `anew`: they come as new ones
    /// each time.
    async fn beside(free: usize, cost: Duration, anew: bool) -> usize {
        let turns = Turns::new(free);
        let (honest, taken) = (turns.searcher(), Arc::new(AtomicUsize::new(0)));
        let mut others = JoinSet::new();
        for _ in 0..16 {
            let (turns, taken) = (Arc::clone(&turns), Arc::clone(&taken));
            others.spawn(async move {
                let mut searcher = turns.searcher();
                loop {
                    search(&searcher, cost).await;
                    taken.fetch_add(1, Ordering::Relaxed);
                    if anew {
                        searcher = turns.searcher();
                    }
                }
            });
        }
        for _ in 0..100 {
            search(&honest, STEP).await;
        }
        taken.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn equal_searches_take_turns() {
        for free in 1..=4 {
            let taken = beside(free, STEP, false).await;
            assert!(
                (16 * 90..=16 * 102).contains(&taken),
                "{taken} turns beside 100 of each, {free} at once"
            );
        }
    }

    /// As many as use as much, or as begin while the other one sends what it has found.
    #[tokio::test(start_paused = true)]
    async fn costly_searches_take_fewer_turns() {
        for free in 1..=4 {
            let taken = beside(free, 10 * STEP, false).await;
            assert!(
                taken <= (16 * 10).max(100 * free) + 16,
                "{taken} turns that cost ten steps beside 100 steps, {free} at once"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_as_a_new_one_gains_nothing() {
        for free in 1..=4 {
            let taken = beside(free, STEP, true).await;
            assert!(taken <= 16 * 102, "{taken} turns of new ones beside 100, {free} at once");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_for_long_has_some_credit() {
        let turns = Turns::new(1);
        let (idle, busy) = (turns.searcher(), turns.searcher());
        for _ in 0..1_000 {
            search(&busy, STEP).await;
        }
        drop(idle.turn().await);
        let behind = *lock(&busy.used) - *lock(&idle.used);
        assert!((SEARCH_CREDIT_MAX..=SEARCH_CREDIT_MAX + STEP).contains(&behind), "{behind:?}");
    }

    #[tokio::test]
    async fn who_is_gone_keeps_no_turn() {
        let turns = Turns::new(1);
        let [first, second, third] = [(); 3].map(|()| turns.searcher());
        let turn = first.turn().await;
        let (mut gone, mut waits) = (Box::pin(second.turn()), Box::pin(third.turn()));
        assert!(gone.as_mut().now_or_never().is_none() && waits.as_mut().now_or_never().is_none());
        drop(gone);
        drop(turn);
        let turn = waits.await;
        // Granted, and nobody notices.
        let mut unnoticed = Box::pin(first.turn());
        assert!(unnoticed.as_mut().now_or_never().is_none());
        drop(turn);
        drop(unnoticed);
        let turn = second.turn().now_or_never().expect("nobody has it");
        drop(turn);
        assert_eq!(lock(&turns.state).free, 1);
    }

    /// Who waits for the disk holds a turn as well as who computes.
    #[tokio::test]
    async fn a_turn_counts_as_long_as_it_lasts() {
        let turns = Turns::new(1);
        let searcher = turns.searcher();
        let before = *lock(&searcher.used);
        searcher.turn().await.take(|| std::thread::sleep(STEP));
        assert!(*lock(&searcher.used) - before >= STEP);
    }
}
