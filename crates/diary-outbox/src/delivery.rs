//! Delivering entries to one server, in order and once each.

mod earlier;

use std::collections::VecDeque;
use std::iter::from_fn;
use std::path::PathBuf;

use diary_client::{Address, Author, Error as ClientError, NewEntry, Options, Place, Producer, Secret, Time};
use diary_proto::entry::check_text;
use futures::future::OptionFuture;
use jiff::tz::TimeZone;
use tokio::time::{Instant, sleep_until};

use crate::error::Error;
use crate::flight::Flight;
use crate::outbox::Outbox;
use crate::outcome::{Held, Keys, Outcome, SILENT_AFTER};
use crate::tray::{Pushed, Tray};
use earlier::Earlier;

/// Sends entries to one server under one name, each once, in the order in which they were
/// [submitted](Self::submit). It needs a Tokio runtime around it, and goes on only while [`next`](Self::next) is
/// awaited. Dropping it loses no entry that is kept.
pub struct Delivery<T> {
    /// The entries that are submitted here.
    own: Flight<T>,
    outbox: Option<Outbox>,
    /// What earlier runs left, while it goes out.
    earlier: Option<Earlier>,
    ready: VecDeque<Outcome<T>>,
    next_counter: u64,
    /// The server's journal, once it was met.
    journal: Option<u64>,
    held: Option<Held>,
    /// Since when something holds it up without an answer in between, however often that changed.
    trouble_since: Option<Instant>,
    /// Since when an answer is waited for.
    quiet_since: Option<Instant>,
    /// Entries of earlier runs that wait for this server, as far as is known.
    earlier_waiting: usize,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// More may be submitted.
    Open,
    /// Once all is answered, it is over.
    Finishing,
    /// It is over, and what is not acked is given back.
    Stopping,
    Over,
}

impl<T> Delivery<T> {
    /// Deliveries to the server at `address`, written by `author` or whoever the server takes the connection for.
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// [`Error::NoRandom`].
    pub fn new(address: Address, author: Option<Author>, keys: Keys) -> Result<Self, Error> {
        let secret = match keys {
            Keys::Fresh => Secret::random().map_err(Error::no_random)?,
            Keys::Derived(secret) => secret,
            Keys::Kept(outbox) => {
                let tray = outbox.begin(&address, author.as_ref())?;
                return Ok(Self::of(Flight::of_tray(address, tray), Some(outbox)));
            }
        };
        let options = Options { author, secret: Some(secret) };
        Ok(Self::of(Flight::new(address, options, None), None))
    }

    /// Delivers an entry of the outbox as a new one, which the server cannot tell from one that was stored before. Its
    /// old key is given up in the same moment as the new one is kept. It goes to whichever journal is there, at `address`
    /// or where the entry was to go.
    ///
    /// # Errors
    /// There is no such entry, a running program holds it, or that cannot be written down.
    pub fn as_new(outbox: Outbox, id: &str, address: Option<Address>, tag: T) -> Result<Self, Error> {
        let (mut tray, counter) = outbox.adopt_one(id)?;
        let kept = tray.renew(counter)?;
        let address = address.unwrap_or_else(|| tray.contents.heading.server.clone());
        let mut flight = Flight::of_tray(address, tray);
        flight.push_kept(tag, kept);
        Ok(Self::of(flight, Some(outbox)))
    }

    fn of(own: Flight<T>, outbox: Option<Outbox>) -> Self {
        let earlier_waiting = outbox.as_ref().map_or(0, |outbox| outbox.waiting_for(&own.address, None));
        Self {
            own,
            outbox,
            earlier: None,
            ready: VecDeque::new(),
            next_counter: 1,
            journal: None,
            held: None,
            trouble_since: None,
            quiet_since: None,
            earlier_waiting,
            end: End::Open,
        }
    }

    /// A delivery to the same server under another name, to be driven once this one is over. It goes to the same
    /// journal.
    ///
    /// # Errors
    /// [`Error::NoRandom`].
    pub fn successor(&self, author: Option<Author>) -> Result<Self, Error> {
        let keys = self.outbox.clone().map_or(Keys::Fresh, Keys::Kept);
        let mut successor = Self::new(self.own.address.clone(), author, keys)?;
        if let Some(journal) = self.journal {
            successor.met(journal);
        }
        successor.earlier_waiting = 0;
        Ok(successor)
    }

    /// What is submitted is for this journal, and goes to no other.
    pub fn met(&mut self, journal: u64) {
        self.journal.get_or_insert(journal);
        if let Some(tray) = &mut self.own.tray {
            tray.met(journal);
        }
    }

    /// The same, and what earlier runs left for this journal goes out, too, whatever its server was called.
    pub fn serve(&mut self, journal: u64) {
        self.met(journal);
        let outbox = self.outbox.as_ref();
        self.earlier_waiting =
            outbox.map_or(0, |outbox| outbox.waiting_for(&self.own.address, Some(journal)));
    }

    /// The server that it goes to.
    pub fn address(&self) -> &Address {
        &self.own.address
    }

    /// The server has been there.
    pub fn has_arrived(&self) -> bool {
        self.own.has_arrived
    }

    /// Who writes; `None` leaves that to the server.
    pub fn author(&self) -> Option<&Author> {
        self.own.options.author.as_ref()
    }

    /// The public name in the keys of its entries.
    pub fn producer(&self) -> Producer {
        self.own.producer()
    }

    /// The file that keeps what is submitted, if there is a place for it.
    pub fn file(&self) -> Option<PathBuf> {
        self.own.tray.as_ref()?.path.clone()
    }

    /// Whether more is to be submitted for now. If not, [`next`](Self::next) makes room.
    pub fn has_room(&self) -> bool {
        self.own.has_room()
    }

    /// How many entries have no answer: those that were submitted, and those that earlier runs left for this server.
    pub fn unanswered(&self) -> usize {
        self.own.unanswered() + self.earlier_waiting
    }

    /// What holds it up now, and since when something does without an answer in between.
    pub fn held(&self) -> Option<(&Held, Instant)> {
        Some((self.held.as_ref()?, self.trouble_since?))
    }

    /// Delivers an entry behind all before it. With [`Keys::Kept`] it is on disk when this returns, which takes some
    /// hundred microseconds of the calling thread. A text that breaks a limit comes back as refused.
    ///
    /// # Errors
    /// It is not kept, but sent all the same.
    pub fn submit(&mut self, tag: T, entry: impl Into<NewEntry>) -> Result<(), Error> {
        self.submit_at(self.next_counter, tag, entry)
    }

    /// The same with a counter of its own in its key, which is above all before it. Where entries are kept, the
    /// outbox counts.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn submit_at(&mut self, counter: u64, tag: T, entry: impl Into<NewEntry>) -> Result<(), Error> {
        let mut entry = entry.into();
        if let Err(refusal) = check_text(&entry.text) {
            self.ready.push_back(Outcome::Refused { tag, refusal, id: None });
            return Ok(());
        }
        let written = match entry.at {
            Some(at) => entry.written.unwrap_or(at),
            None => *entry.written.get_or_insert_with(|| Time::now(&TimeZone::system())),
        };
        let Pushed { counter, kept } = match &mut self.own.tray {
            Some(tray) => tray.push(entry.at, written, &entry.text),
            None => Pushed { counter, kept: Ok(()) },
        };
        self.next_counter = counter + 1;
        self.own.push(tag, Place { counter, sent: false }, entry);
        kept
    }

    /// Nothing more is submitted: [`next`](Self::next) ends once all is answered.
    pub fn finish(&mut self) {
        if self.end == End::Open {
            self.end = End::Finishing;
        }
    }

    /// Ends it now: [`next`](Self::next) gives what is answered by now, then what is not acked, and ends.
    pub fn stop(&mut self) {
        if self.end == End::Over {
            return;
        }
        self.end = End::Stopping;
        self.own.give_up();
        if let Some(earlier) = &mut self.earlier {
            earlier.flight.give_up();
        }
    }

    /// The next outcome; `None` once it is [finished](Self::finish) or [stopped](Self::stop) and nothing is left to
    /// tell.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Outcome<T>> {
        loop {
            if let Some(outcome) = self.ready.pop_front() {
                return Some(outcome);
            }
            // Acks come in batches: the others of one need no more than this, unless what fills up can be sent first.
            if self.held.is_none()
                && self.own.has_room()
                && let Some(outcome) = self.own.answered()
            {
                (self.trouble_since, self.quiet_since) = (None, None);
                return Some(outcome);
            }
            match self.end {
                End::Over => return None,
                End::Finishing if self.is_settled() => {
                    self.own.close().await;
                    self.end = End::Over;
                    continue;
                }
                End::Stopping if !self.is_ending() => {
                    self.tell_left();
                    continue;
                }
                End::Open | End::Finishing | End::Stopping => {}
            }
            let silent_at = self.silent_at();
            let may_send = self.may_send();
            let earlier = self.earlier.as_mut().map(|Earlier { flight, .. }| flight.step(flight.has_arrived));
            tokio::select! {
                biased;
                Some(outcome) = OptionFuture::from(earlier) => self.take_earlier(outcome),
                outcome = self.own.step(may_send) => self.take(outcome),
                Some(()) = OptionFuture::from(silent_at.map(sleep_until)) => {
                    self.hold(Held::Silent(self.own.address.clone()));
                }
            }
        }
    }

    /// All that was submitted is answered, and what earlier runs left is out or refused.
    fn is_settled(&self) -> bool {
        self.own.unanswered() == 0
            && self.earlier.is_none()
            && (self.own.has_arrived || self.earlier_waiting == 0)
    }

    /// What earlier runs left goes first, and nothing goes to another journal.
    fn may_send(&self) -> bool {
        self.own.has_arrived && self.earlier.is_none() && self.end != End::Stopping
    }

    fn take(&mut self, outcome: Option<Outcome<T>>) {
        if matches!(outcome, Some(Outcome::Acked { .. } | Outcome::Refused { .. })) {
            self.answered();
        }
        self.ready.extend(outcome);
        self.look();
    }

    /// The server answered something.
    fn answered(&mut self) {
        (self.trouble_since, self.quiet_since) = (None, None);
        if matches!(self.held, Some(Held::Silent(_))) {
            self.resume();
        }
    }

    /// When the server has answered nothing for so long that it is told; `None` while there is no need to.
    fn silent_at(&mut self) -> Option<Instant> {
        let own = if self.may_send() { self.own.unanswered() } else { 0 };
        let earlier = self.earlier.as_ref().map_or(0, |earlier| earlier.flight.unanswered());
        let is_waiting = own + earlier > 0 && matches!(self.held, None | Some(Held::Silent(_)));
        self.quiet_since = is_waiting.then(|| self.quiet_since.unwrap_or_else(Instant::now));
        Some(self.quiet_since.filter(|_| self.held.is_none())? + SILENT_AFTER)
    }

    /// Sees what holds it up.
    fn look(&mut self) {
        if self.end == End::Stopping {
            return;
        }
        let earlier = self.earlier.as_ref().and_then(|earlier| earlier.flight.trouble());
        match earlier.or_else(|| self.own.trouble()) {
            Some(held) => self.hold(held),
            None => {
                if !matches!(self.held, None | Some(Held::Silent(_))) {
                    self.resume();
                }
                self.arrive();
            }
        }
    }

    fn hold(&mut self, held: Held) {
        self.trouble_since.get_or_insert_with(Instant::now);
        let is_known = |before: &Held| std::mem::discriminant(before) == std::mem::discriminant(&held);
        if !self.held.as_ref().is_some_and(is_known) {
            self.ready.push_back(Outcome::Held(held.clone()));
        }
        self.held = Some(held);
    }

    fn resume(&mut self) {
        let Some(held) = self.held.take() else { return };
        let was_away = matches!(held, Held::Away(_));
        self.ready.push_back(Outcome::Resumed(held));
        // Other runs may have left something meanwhile.
        if was_away && self.earlier.is_none() && self.own.has_arrived {
            self.catch_up();
        }
    }

    /// The server is there: whose journal it serves decides what goes there.
    fn arrive(&mut self) {
        if self.own.has_arrived {
            return;
        }
        let Some(welcome) = self.own.welcome() else { return };
        let id = welcome.journal_id;
        if let Some(known) = self.journal.filter(|known| *known != id) {
            let why = format!("its id is {id:016x}, not {known:016x}");
            return self.hold(Held::Ended(ClientError::OtherJournal(why)));
        }
        self.own.arrive(&welcome);
        self.met(id);
        self.ready.push_back(Outcome::Arrived(Box::new(welcome)));
        self.catch_up();
    }

    /// Something may still come of a delivery that was stopped.
    fn is_ending(&self) -> bool {
        self.own.is_ending() || self.earlier.as_ref().is_some_and(|earlier| earlier.flight.is_ending())
    }

    /// Tells what is left of a delivery that was stopped.
    fn tell_left(&mut self) {
        self.ready.extend(from_fn(|| self.own.pop_waiting()));
        let earlier = self.earlier.as_mut().and_then(|earlier| earlier.flight.tray.as_mut());
        self.own.tray.as_mut().into_iter().chain(earlier).for_each(Tray::note_unsent);
        self.earlier = None;
        self.end = End::Over;
    }
}
