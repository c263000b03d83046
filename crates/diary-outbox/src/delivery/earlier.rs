//! What earlier runs left goes out before anything else.

use std::future::pending;

use diary_client::{Address, Error as ClientError, Place, Time, Welcome};
use jiff::tz::TimeZone;

use super::{Delivery, End};
use crate::flight::{Flight, Step};
use crate::outbox::Left;
use crate::outcome::Outcome;
use crate::tray::Tray;

/// How far apart two clocks may be: more than any time zone that was set wrong.
const CLOCKS_APART_MAX_MICROS: u64 = 24 * 3600 * 1_000_000;

/// What earlier runs left, on its way.
pub(super) struct Earlier {
    left: Left,
    pub(super) flight: Option<Flight<u64>>,
    journal: u64,
    acked: usize,
}

impl<T> Delivery<T> {
    /// Delivers what earlier runs left, before anything else.
    pub(super) fn catch_up(&mut self) {
        let (Some(outbox), Some(journal)) = (&self.outbox, self.journal) else { return };
        let address = self.own.address().clone();
        self.earlier_waiting = outbox.waiting_for(&address, Some(journal));
        let left =
            outbox.adopt(move |contents| contents.deliverable(&address, Some(journal)).next().is_some());
        self.earlier = Some(Earlier { left, flight: None, journal, acked: 0 });
        self.next_earlier();
    }

    /// Goes on with the next file of an earlier run.
    fn next_earlier(&mut self) {
        let Some(earlier) = &mut self.earlier else { return };
        let next = earlier.left.next();
        self.ready.extend(earlier.left.troubles.drain(..).map(Outcome::Trouble));
        match next.filter(|_| self.end != End::Stopping) {
            Some(tray) => earlier.flight = Some(earlier_flight(tray, self.own.address(), earlier.journal)),
            None => {
                if earlier.acked > 0 {
                    self.ready.push_back(Outcome::CaughtUp { entries: earlier.acked });
                }
                (self.earlier, self.earlier_waiting) = (None, 0);
            }
        }
    }

    pub(super) fn take_earlier(&mut self, step: Step<u64>) {
        let Some(earlier) = &mut self.earlier else { return };
        let Some(flight) = &mut earlier.flight else { return };
        match step {
            Step::Link => match flight.welcome() {
                Some(welcome) if welcome.journal_id == earlier.journal => {
                    (flight.has_arrived, flight.is_clock_off) = (true, is_clock_off(&welcome));
                }
                // Another server took its place a moment ago. It is looked for again with the next connection.
                Some(_) => (self.earlier, self.earlier_waiting) = (None, 0),
                None => {}
            },
            Step::Answered { tag: counter, answer: Ok(_), .. } => {
                flight.tray.as_mut().into_iter().for_each(|tray| tray.acked(counter));
                earlier.acked += 1;
                self.earlier_waiting = self.earlier_waiting.saturating_sub(1);
                self.answered();
            }
            Step::Answered { tag: counter, answer: Err(ClientError::Refused(refusal)), .. } => {
                if let (Some(tray), Some(outbox)) = (&mut flight.tray, &self.outbox) {
                    tray.refused(counter, &refusal);
                    let id = outbox.id(tray, counter);
                    let kept = tray.entry(counter).cloned();
                    self.ready.extend(kept.map(|kept| Outcome::LeftRefused { id, kept, refusal }));
                }
                self.earlier_waiting = self.earlier_waiting.saturating_sub(1);
                self.answered();
            }
            Step::Answered { tag: counter, answer: Err(_), .. } => {
                let unacked = flight.unacked(counter, counter);
                if let Some(tray) = flight.tray.as_mut().filter(|_| unacked.sent) {
                    tray.sent(counter);
                }
            }
        }
        self.look();
        let Some(flight) = self.earlier.as_mut().and_then(|earlier| earlier.flight.as_mut()) else { return };
        if flight.unanswered() == 0 {
            flight.part();
            if let Some(earlier) = &mut self.earlier {
                earlier.flight = None;
            }
            self.next_earlier();
        }
    }
}

impl Earlier {
    /// Cancel safe, as [`Flight::step`] is.
    pub(super) async fn step(earlier: &mut Option<Self>) -> Step<u64> {
        match earlier.as_mut().and_then(|earlier| earlier.flight.as_mut()) {
            Some(flight) => flight.step(flight.has_arrived).await,
            None => pending().await,
        }
    }
}

/// What a file that an earlier run left has for this journal, ready to be sent.
fn earlier_flight(mut tray: Tray, address: &Address, journal: u64) -> Flight<u64> {
    // Whoever is killed from here on may have sent them.
    tray.sending();
    let entries: Vec<_> = tray
        .deliverable(address, Some(journal))
        .map(|kept| (Place { counter: kept.counter, sent: kept.sent }, kept.to_send()))
        .collect();
    let (author, secret) = (tray.author().cloned(), tray.secret());
    let mut flight = Flight::new(address.clone(), author, secret, Some(tray));
    entries.into_iter().for_each(|(place, entry)| flight.push(place.counter, place, entry));
    flight
}

/// Whether the clocks of this computer and the server are so far apart that an entry's time of writing says nothing: the
/// entry gets the server's time then.
pub(super) fn is_clock_off(welcome: &Welcome) -> bool {
    let now = Time::now(&TimeZone::UTC).micros;
    now.abs_diff(welcome.clock_micros) > CLOCKS_APART_MAX_MICROS
}
