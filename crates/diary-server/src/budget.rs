//! Memory that sessions hold because of their peers, bounded for all of them together.
//!
//! Each session may hold a little without asking. An [`Account`] counts what is more, and a [`Reservation`] is asked for
//! before something large is taken. While a budget is used up, whoever asks waits, and the session whose peer has kept it
//! waiting for the longest is told and closed. If no peer is to blame, the server itself is slow: then the oldest waiter
//! goes on alone, so that somebody always does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::limits::SESSION_UNCOUNTED_BYTES;

/// So much memory is given back to the system once it is free.
const TRIM_MIN_BYTES: usize = 4 * 1024 * 1024;

/// In the order in which they began.
type Ticket = u64;

/// Memory of one kind, of all sessions.
#[derive(Debug)]
pub(crate) struct Budget {
    max_bytes: usize,
    /// What an account may hold uncounted.
    free_bytes: usize,
    /// A peer that keeps its session waiting for less is not closed to make room.
    patience: Duration,
    /// Told when much of what was used is free again.
    freed: Arc<Notify>,
    /// Whether some is left and nobody waits for it, to be read without the lock.
    has_room: AtomicBool,
    state: Mutex<State>,
}

/// Memory that is used, and the most of it since much was freed.
#[derive(Debug, Default)]
struct Used {
    bytes: usize,
    peak_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    used: Used,
    /// What of that belongs to sessions that were told to go.
    leaving_bytes: usize,
    next_ticket: Ticket,
    accounts: BTreeMap<Ticket, Held>,
    /// Accounts that wait for their peers, and since when.
    unresponsive: BTreeSet<(Instant, Ticket)>,
    waiters: BTreeMap<Ticket, Waiter>,
    /// The one reservation that was granted beyond the budget.
    overdraft: Option<Ticket>,
}

#[derive(Debug)]
struct Held {
    bytes: usize,
    peer_since: Option<Instant>,
    evict: CancellationToken,
}

#[derive(Debug)]
struct Waiter {
    bytes: usize,
    since: Instant,
    granted: oneshot::Sender<()>,
}

impl Budget {
    pub(crate) fn new(
        max_bytes: usize,
        free_bytes: usize,
        patience: Duration,
        freed: &Arc<Notify>,
    ) -> Arc<Self> {
        let (has_room, state) = (AtomicBool::new(true), Mutex::default());
        Arc::new(Self { max_bytes, free_bytes, patience, freed: Arc::clone(freed), has_room, state })
    }

    /// Whether some of it is left and nobody waits for it. What is then taken without a reservation must be counted before
    /// the task yields.
    pub(crate) fn has_room(&self) -> bool {
        self.has_room.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn used_bytes(&self) -> usize {
        self.lock().used.bytes
    }

    /// What an account may hold uncounted, in bytes.
    pub(crate) fn free_bytes(&self) -> usize {
        self.free_bytes
    }

    /// Takes `bytes`, if there are as many left and nobody waits for some.
    pub(crate) fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        let mut state = self.lock();
        if !state.waiters.is_empty() || state.used.bytes + bytes > self.max_bytes {
            return None;
        }
        let ticket = state.new_ticket();
        self.change(&mut state, |used| used + bytes);
        Some(Reservation { budget: Arc::clone(self), ticket, bytes })
    }

    /// Takes `bytes` when there are as many left. An waiter with an older account comes first. Cancel safe.
    pub(crate) async fn reserve(self: Arc<Self>, bytes: usize, account: Option<Ticket>) -> Reservation {
        let mut asking = {
            let mut state = self.lock();
            let ticket = match account.filter(|ticket| !state.waiters.contains_key(ticket)) {
                Some(ticket) => ticket,
                None => state.new_ticket(),
            };
            // Whoever asks has heard from its peer.
            if let Some(held) = state.accounts.get_mut(&ticket)
                && let Some(since) = held.peer_since.take()
            {
                state.unresponsive.remove(&(since, ticket));
            }
            let (granted, waits) = oneshot::channel();
            state.waiters.insert(ticket, Waiter { bytes, since: Instant::now(), granted });
            self.serve(&mut state);
            Asking { budget: Arc::clone(&self), ticket, bytes, waits: Some(waits) }
        };
        loop {
            let waits = asking.waits.as_mut().expect("it is taken only below");
            tokio::select! {
                _ = waits => break,
                () = sleep(self.patience) => self.serve(&mut self.lock()),
            }
        }
        asking.waits = None;
        Reservation { budget: self, ticket: asking.ticket, bytes }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, state: &mut State, used: impl FnOnce(usize) -> usize) {
        if state.used.change(used) {
            self.freed.notify_one();
        }
        self.publish(state);
    }

    fn publish(&self, state: &State) {
        let has_room = state.used.bytes < self.max_bytes && state.waiters.is_empty();
        self.has_room.store(has_room, Ordering::Relaxed);
    }

    /// Grants what can be granted, and makes room for the rest where a peer is to blame.
    fn serve(&self, state: &mut State) {
        self.grant(state);
        self.publish(state);
    }

    fn grant(&self, state: &mut State) {
        while let Some((&ticket, waiter)) = state.waiters.first_key_value() {
            let fits = state.used.bytes + waiter.bytes <= self.max_bytes;
            // Nobody is to blame, or all of them go on, slowly.
            let is_patient = state.unresponsive.is_empty() || waiter.since.elapsed() >= self.patience;
            let evictable =
                state.unresponsive.first().is_some_and(|(since, _)| since.elapsed() >= self.patience);
            let nobody_goes = state.leaving_bytes == 0 && is_patient && !evictable;
            let overdraws = !fits && state.overdraft.is_none() && nobody_goes;
            if fits || overdraws {
                let Waiter { bytes, granted, .. } = state.waiters.remove(&ticket).expect("it is the first");
                if granted.send(()).is_ok() {
                    self.change(state, |used| used + bytes);
                    state.overdraft = if overdraws { Some(ticket) } else { state.overdraft };
                }
                continue;
            }
            // Memory is back once its session is gone, so what is on its way back counts before more have to go.
            let lacks = state.used.bytes - state.leaving_bytes + waiter.bytes > self.max_bytes;
            match state.unresponsive.first() {
                Some(&(since, unresponsive)) if lacks && since.elapsed() >= self.patience => {
                    state.unresponsive.pop_first();
                    if let Some(held) = state.accounts.get_mut(&unresponsive) {
                        held.peer_since = None;
                        state.leaving_bytes += held.bytes;
                        held.evict.cancel();
                    }
                }
                _ => return,
            }
        }
    }

    /// Counts what an account holds now.
    fn count(&self, state: &mut State, slot: &Slot) {
        self.remove(state, slot.ticket);
        let Slot { ticket, bytes, peer_since, .. } = *slot;
        state.accounts.insert(ticket, Held { bytes, peer_since, evict: slot.evict.clone() });
        state.unresponsive.extend(peer_since.map(|since| (since, ticket)));
        self.change(state, |used| used + bytes);
        self.serve(state);
    }

    fn remove(&self, state: &mut State, ticket: Ticket) -> Option<Held> {
        let held = state.accounts.remove(&ticket)?;
        if let Some(since) = held.peer_since {
            state.unresponsive.remove(&(since, ticket));
        }
        if held.evict.is_cancelled() {
            state.leaving_bytes -= held.bytes;
        }
        self.change(state, |used| used - held.bytes);
        Some(held)
    }

    fn release(&self, ticket: Ticket, bytes: usize) {
        let mut state = self.lock();
        self.change(&mut state, |used| used - bytes);
        state.overdraft.take_if(|overdraft| *overdraft == ticket);
        self.serve(&mut state);
    }
}

impl Used {
    /// Whether so much is free again that it is worth giving back.
    fn change(&mut self, used: impl FnOnce(usize) -> usize) -> bool {
        self.bytes = used(self.bytes);
        self.peak_bytes = self.peak_bytes.max(self.bytes);
        let much = self.peak_bytes - self.bytes >= TRIM_MIN_BYTES;
        if much {
            self.peak_bytes = self.bytes;
        }
        much
    }
}

impl State {
    fn new_ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        self.next_ticket
    }
}

/// What sessions hold beside the budgets: no bound, but it is told when much of it is free again.
#[derive(Debug)]
pub(crate) struct Uncounted {
    freed: Arc<Notify>,
    used: Mutex<Used>,
}

impl Uncounted {
    pub(crate) fn new(freed: &Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { freed: Arc::clone(freed), used: Mutex::default() })
    }

    /// A session begins; it ends when the share is dropped.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        self.change(|used| used + SESSION_UNCOUNTED_BYTES);
        Share(Arc::clone(self))
    }

    fn change(&self, used: impl FnOnce(usize) -> usize) {
        let mut all = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        // Work for the last session may have taken memory that no budget counts.
        if all.change(used) || all.bytes == 0 {
            self.freed.notify_one();
        }
    }
}

/// A session's share of what is not counted.
#[derive(Debug)]
pub(crate) struct Share(Arc<Uncounted>);

impl Drop for Share {
    fn drop(&mut self) {
        self.0.change(|used| used - SESSION_UNCOUNTED_BYTES);
    }
}

/// Takes an waiter away again that nobody waits for any more.
struct Asking {
    budget: Arc<Budget>,
    ticket: Ticket,
    bytes: usize,
    waits: Option<oneshot::Receiver<()>>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        // Kept until the lock is held: a grant to somebody who is gone would not be counted.
        let Some(_waits) = self.waits.take() else { return };
        let mut state = self.budget.lock();
        if state.waiters.remove(&self.ticket).is_some() {
            return self.budget.serve(&mut state);
        }
        drop(state);
        // It was granted and nobody noticed.
        self.budget.release(self.ticket, self.bytes);
    }
}

/// Bytes that were taken, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    ticket: Ticket,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.release(self.ticket, self.bytes);
    }
}

/// What one session holds.
#[derive(Debug)]
pub(crate) struct Account {
    budget: Arc<Budget>,
    slot: Option<Slot>,
}

#[derive(Debug)]
struct Slot {
    ticket: Ticket,
    evict: CancellationToken,
    bytes: usize,
    peer_since: Option<Instant>,
}

impl Account {
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), slot: None }
    }

    /// Its age among accounts, while it is counted.
    pub(crate) fn ticket(&self) -> Option<Ticket> {
        self.slot.as_ref().map(|slot| slot.ticket)
    }

    /// Says how many bytes are held now, and since when the session waits for its peer, if it does.
    pub(crate) fn set(&mut self, bytes: usize, peer_since: Option<Instant>) {
        if bytes <= self.budget.free_bytes {
            return self.clear();
        }
        if self.slot.as_ref().is_some_and(|slot| slot.bytes == bytes && slot.peer_since == peer_since) {
            return;
        }
        let mut state = self.budget.lock();
        let slot = self.slot.get_or_insert_with(|| Slot {
            ticket: state.new_ticket(),
            evict: CancellationToken::new(),
            bytes,
            peer_since,
        });
        (slot.bytes, slot.peer_since) = (bytes, peer_since);
        // One that was told to go is about to.
        if !slot.evict.is_cancelled() {
            self.budget.count(&mut state, slot);
        }
    }

    /// The session was told to go, and its peer turns out not to be to blame: it stays, and is waited for since `peer_since`.
    pub(crate) fn spare(&mut self, peer_since: Option<Instant>) {
        let Some(slot) = &mut self.slot else { return };
        let mut state = self.budget.lock();
        // As long as it is cancelled, the bytes are those of one that leaves.
        self.budget.remove(&mut state, slot.ticket);
        (slot.evict, slot.peer_since) = (CancellationToken::new(), peer_since);
        self.budget.count(&mut state, slot);
    }

    /// Completes when this session has to go. Cancel safe.
    pub(crate) async fn evicted(&self) {
        match &self.slot {
            Some(slot) => slot.evict.cancelled().await,
            None => std::future::pending().await,
        }
    }

    pub(crate) fn clear(&mut self) {
        if let Some(slot) = self.slot.take() {
            let mut state = self.budget.lock();
            if self.budget.remove(&mut state, slot.ticket).is_some() {
                self.budget.serve(&mut state);
            }
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    fn budget() -> Arc<Budget> {
        Budget::new(10_000, 100, PATIENCE, &Arc::default())
    }

    fn used(budget: &Budget) -> (usize, usize) {
        let state = budget.lock();
        assert_eq!(
            state.unresponsive.len(),
            state.accounts.values().filter(|held| held.peer_since.is_some()).count()
        );
        (state.used.bytes, state.leaving_bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_free_is_not_counted() {
        let budget = budget();
        let mut account = Account::new(&budget);
        account.set(100, None);
        assert_eq!(used(&budget), (0, 0));
        account.set(101, None);
        assert_eq!(used(&budget), (101, 0));
        drop(account);
        assert_eq!(used(&budget), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_waited_for_the_longest_goes_and_only_for_what_is_needed() {
        let budget = budget();
        let mut accounts: Vec<Account> = (0..4).map(|_| Account::new(&budget)).collect();
        for account in &mut accounts[1..] {
            account.set(3_000, Some(Instant::now()));
            sleep(Duration::from_millis(1)).await;
        }
        // It waits for the server, and not for its peer.
        accounts[0].set(1_000, None);
        let mut asking = Box::pin(Arc::clone(&budget).reserve(2_000, accounts[0].ticket()));
        assert!(asking.as_mut().now_or_never().is_none());
        assert!(!budget.has_room(), "nobody overtakes who waits");
        assert!(budget.try_reserve(1).is_none());
        tokio::select! {
            _ = &mut asking => panic!("what is evicted is not free before it is gone"),
            () = accounts[1].evicted() => {}
        }
        assert_eq!(used(&budget), (10_000, 3_000));
        assert!(accounts[2].evicted().now_or_never().is_none());
        drop(accounts.remove(1));
        let reservation = asking.await;
        assert_eq!(used(&budget), (9_000, 0));
        drop(reservation);
        drop(accounts);
        assert_eq!(used(&budget), (0, 0));
    }

    #[test]
    fn sessions_that_are_gone_are_told_once_for_many() {
        let freed = Arc::new(Notify::new());
        let uncounted = Uncounted::new(&freed);
        let many = TRIM_MIN_BYTES / SESSION_UNCOUNTED_BYTES + 1;
        drop(uncounted.share());
        assert!(freed.notified().now_or_never().is_some(), "nobody is left");
        // However many come and go, one at a time.
        let stays = uncounted.share();
        (0..2 * many).for_each(|_| drop(uncounted.share()));
        assert!(freed.notified().now_or_never().is_none());
        drop((uncounted.share(), stays));
        let _ = freed.notified().now_or_never();
        let mut shares: Vec<Share> = (0..2 * many).map(|_| uncounted.share()).collect();
        shares.truncate(many + 1);
        assert!(freed.notified().now_or_never().is_none());
        shares.truncate(many);
        assert!(freed.notified().now_or_never().is_some());
        shares.truncate(1);
        assert!(freed.notified().now_or_never().is_none(), "the next time, as many have to go");
    }

    /// Whoever turns out to go on is waited for anew, and the next one goes.
    #[tokio::test(start_paused = true)]
    async fn who_is_spared_is_not_the_next_to_go() {
        let budget = budget();
        let mut accounts: Vec<Account> = (0..2).map(|_| Account::new(&budget)).collect();
        for account in &mut accounts {
            account.set(5_000, Some(Instant::now()));
            sleep(Duration::from_millis(1)).await;
        }
        sleep(PATIENCE).await;
        let mut asking = Box::pin(Arc::clone(&budget).reserve(2_000, None));
        assert!(asking.as_mut().now_or_never().is_none());
        assert!(accounts[0].evicted().now_or_never().is_some());
        assert_eq!(used(&budget), (10_000, 5_000));
        accounts[0].spare(Some(Instant::now()));
        assert!(accounts[0].evicted().now_or_never().is_none());
        assert!(asking.as_mut().now_or_never().is_none(), "what is spared is not free");
        assert!(accounts[1].evicted().now_or_never().is_some());
        assert_eq!(used(&budget), (10_000, 5_000));
        drop(accounts.remove(1));
        drop(asking.await);
        assert_eq!(used(&budget), (5_000, 0));
    }

    /// If no peer is to blame, one waiter at a time goes beyond the budget: the oldest.
    #[tokio::test(start_paused = true)]
    async fn somebody_always_goes_on() {
        let budget = budget();
        let mut accounts: Vec<Account> = (0..3).map(|_| Account::new(&budget)).collect();
        accounts.iter_mut().for_each(|account| account.set(5_000, None));
        let ask = |account: &Account| Box::pin(Arc::clone(&budget).reserve(1_000, account.ticket()));
        let (mut third, mut second) = (ask(&accounts[2]), ask(&accounts[1]));
        // Who came first goes on; then who is the oldest.
        let reservation = third.as_mut().now_or_never().expect("nobody else asked");
        let mut first = ask(&accounts[0]);
        assert!(second.as_mut().now_or_never().is_none() && first.as_mut().now_or_never().is_none());
        drop(reservation);
        let reservation = first.as_mut().now_or_never().expect("it is the oldest");
        assert!(second.as_mut().now_or_never().is_none());
        drop(reservation);
        // One that is granted and dropped before it notices gives everything back.
        drop(second);
        drop(accounts);
        assert_eq!(used(&budget), (0, 0));
        assert!(budget.has_room());
    }

    /// Peers that take a little again and again are never to blame. They hold up others no longer than patience.
    #[tokio::test(start_paused = true)]
    async fn slow_peers_that_go_on_are_waited_for_no_longer_than_others() {
        let budget = budget();
        let mut slow = Account::new(&budget);
        slow.set(10_000, Some(Instant::now()));
        let mut waiting = Box::pin(Arc::clone(&budget).reserve(1_000, None));
        for second in 1..=3 {
            sleep(Duration::from_secs(1)).await;
            slow.set(10_000 - second, Some(Instant::now()));
            assert_eq!(waiting.as_mut().now_or_never().is_some(), second == 3, "after {second} s");
        }
        assert!(slow.evicted().now_or_never().is_none());
    }
}
