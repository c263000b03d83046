//! Delivers what earlier runs left before anything else.

use diary_client::{Code, Error as ClientError};

use super::{Delivery, End};
use crate::flight::Flight;
use crate::outbox::Left;
use crate::outcome::{Held, Outcome};
use crate::tray::Tray;

/// Entries that earlier runs left, while they are sent.
pub(super) struct Earlier {
    /// Entries of the current tray.
    pub(super) flight: Flight<u64>,
    /// The remaining trays.
    left: Left,
    acked: usize,
}

impl<T> Delivery<T> {
    /// Starts to deliver what earlier runs left.
    pub(super) fn catch_up(&mut self) {
        let (Some(outbox), Some(journal)) = (&self.outbox, self.journal) else { return };
        let address = self.own.address.clone();
        self.earlier_waiting = outbox.waiting_for(&address, Some(journal));
        let left =
            outbox.adopt(move |contents| contents.deliverable(&address, Some(journal)).next().is_some());
        self.next_earlier(left, 0);
    }

    /// Continues with the next tray of an earlier run.
    fn next_earlier(&mut self, mut left: Left, acked: usize) {
        let next = left.next().filter(|_| self.end != End::Stopping);
        self.ready.extend(left.troubles.drain(..).map(Outcome::Trouble));
        let Some(mut tray) = next else {
            if acked > 0 {
                self.ready.push_back(Outcome::CaughtUp { entries: acked });
            }
            if self.end != End::Stopping {
                self.earlier_waiting = 0;
            }
            return;
        };
        // If this process is killed from here on, they may have been sent.
        tray.sending();
        let address = &self.own.address;
        let kept: Vec<_> = tray.contents.deliverable(address, self.journal).cloned().collect();
        let mut flight = Flight::of_tray(address.clone(), tray);
        flight.options.access = self.own.options.access.clone();
        kept.into_iter().for_each(|kept| flight.push_kept(kept.counter, kept));
        self.earlier = Some(Earlier { flight, left, acked });
    }

    /// If the server refuses the author of these entries, though not this client, a person has to decide: they must
    /// not hold up the others.
    fn refuse_earlier(&mut self) {
        let Some(Earlier { flight, .. }) = &mut self.earlier else { return };
        let refusal = match flight.trouble() {
            Some(Held::Ended(ClientError::TurnedAway(refusal))) if !flight.has_arrived => refusal,
            _ => return,
        };
        if refusal.code != Code::NotPermitted {
            return;
        }
        let refused = flight.refuse_waiting(&refusal);
        self.earlier_waiting = self.earlier_waiting.saturating_sub(refused.len());
        let left = |(id, kept)| Outcome::LeftRefused { id, kept: Box::new(kept), refusal: refusal.clone() };
        self.ready.extend(refused.into_iter().map(left));
        if let Some(Earlier { flight, left, acked }) =
            self.earlier.take_if(|earlier| earlier.flight.unanswered() == 0)
        {
            flight.part();
            self.next_earlier(left, acked);
        }
    }

    pub(super) fn take_earlier(&mut self, outcome: Option<Outcome<u64>>) {
        if matches!(outcome, Some(Outcome::Acked { .. } | Outcome::Refused { .. })) {
            self.earlier_waiting = self.earlier_waiting.saturating_sub(1);
            self.answered();
        }
        let Some(Earlier { flight, acked, .. }) = &mut self.earlier else { return };
        match outcome {
            Some(Outcome::Acked { .. }) => *acked += 1,
            Some(Outcome::Refused { tag: counter, refusal, id }) => {
                let kept = flight.tray.as_ref().and_then(|tray| tray.contents.entries.get(&counter));
                let refused = id.zip(kept.cloned());
                let left = |(id, kept)| Outcome::LeftRefused { id, kept: Box::new(kept), refusal };
                self.ready.extend(refused.map(left));
            }
            Some(_) => {}
            None => match flight.welcome() {
                Some(welcome) if Some(welcome.journal_id) == self.journal => {
                    let is_here = |tray: &&mut Tray| tray.contents.heading.server == flight.address;
                    if let Some(tray) = flight.tray.as_mut().filter(is_here) {
                        // Entries sent from here on may be in this journal, so they are bound to it.
                        tray.met(welcome.journal_id);
                    }
                    flight.arrive(&welcome);
                }
                // Another server has just taken its place. The next connection looks for these entries again.
                Some(_) => (self.earlier, self.earlier_waiting) = (None, 0),
                None => self.refuse_earlier(),
            },
        }
        self.look();
        if let Some(Earlier { flight, left, acked }) =
            self.earlier.take_if(|earlier| earlier.flight.unanswered() == 0)
        {
            flight.part();
            self.next_earlier(left, acked);
        }
    }
}
