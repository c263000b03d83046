//! Delivers entries to one server, in order and exactly once.

mod earlier;

use std::collections::VecDeque;
use std::iter::from_fn;
use std::path::PathBuf;

use diary_client::{
    Access, Address, Author, Code, Error as ClientError, NewEntry, Options, Place, Producer, Secret, Time,
};
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
/// [submitted](Self::submit). Needs a Tokio runtime, and makes progress only while [`next`](Self::next) is polled.
/// Dropping it loses no kept entry.
pub struct Delivery<T> {
    /// Entries submitted to this delivery.
    own: Flight<T>,
    outbox: Option<Outbox>,
    /// Entries that earlier runs left, while they are sent.
    earlier: Option<Earlier>,
    ready: VecDeque<Outcome<T>>,
    next_counter: u64,
    /// The server's journal, once known.
    journal: Option<u64>,
    held: Option<Held>,
    /// Start of the current trouble, however often its kind has changed without an answer in between.
    trouble_since: Option<Instant>,
    /// When the wait for an answer began.
    quiet_since: Option<Instant>,
    /// Entries of earlier runs that wait for this server, as far as is known.
    earlier_waiting: usize,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// More may be submitted.
    Open,
    /// Ends once everything is answered.
    Finishing,
    /// Ends now; what is not acked is returned to the caller.
    Stopping,
    Over,
}

impl<T> Delivery<T> {
    /// Delivers to the server at `address`, as `author` or, without one, as whoever the server takes the connection
    /// for. Does not connect yet.
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
        let options = Options { author, secret: Some(secret), ..Options::default() };
        Ok(Self::of(Flight::new(address, options, None), None))
    }

    /// Connects with this access from now on, also for what earlier runs left.
    pub fn with_access(mut self, access: Access) -> Self {
        self.own.options.access = access;
        self
    }

    /// Writes as this author from now on, unless the server knows this client by a token.
    pub fn with_default_author(mut self, author: Option<Author>) -> Self {
        self.own.set_author(author, true);
        self
    }

    /// Writes as this author from now on, for a delivery whose own author the server has refused: it connects again.
    /// What was submitted already is written as this author, too.
    pub fn retry_as(&mut self, author: Option<Author>) {
        if !self.own.has_arrived && matches!(self.end, End::Open | End::Finishing) {
            self.own.set_author(author, false);
            self.own.reconnect();
            (self.held, self.trouble_since) = (None, None);
        }
    }

    /// Resends an entry of the outbox as new, so that the server cannot tell it from one that it stored before. The
    /// old key is given up in the same write that keeps the new one. The entry goes to the journal that is served
    /// now at `address`, or else at its original server. If it was refused as not permitted, which may be for
    /// its author, it is written as `author`, or else as whoever the server takes this client for.
    ///
    /// # Errors
    /// There is no such entry, a running program holds it, or the change cannot be recorded.
    pub fn as_new(
        outbox: Outbox,
        id: &str,
        address: Option<Address>,
        author: Option<Author>,
        tag: T,
    ) -> Result<Self, Error> {
        let (mut tray, counter) = outbox.adopt_one(id)?;
        let refusal = tray.contents.entries.get(&counter).and_then(|kept| kept.refusal.as_ref());
        let was_not_permitted = refusal.is_some_and(|refusal| refusal.code == Code::NotPermitted);
        let kept = tray.renew(counter)?;
        let address = address.unwrap_or_else(|| tray.contents.heading.server.clone());
        let mut flight = Flight::of_tray(address, tray);
        if was_not_permitted {
            let is_default = author.is_none();
            let author = author.or_else(|| flight.options.author.clone());
            flight.set_author(author, is_default);
        }
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

    /// Returns a delivery to the same server and journal under another name. Drive it once this one has ended.
    ///
    /// # Errors
    /// [`Error::NoRandom`].
    pub fn successor(&self, author: Option<Author>) -> Result<Self, Error> {
        let keys = self.outbox.clone().map_or(Keys::Fresh, Keys::Kept);
        let successor = Self::new(self.own.address.clone(), author, keys)?;
        let mut successor = successor.with_access(self.own.options.access.clone());
        if let Some(journal) = self.journal {
            successor.met(journal);
        }
        successor.earlier_waiting = 0;
        Ok(successor)
    }

    /// Binds what is submitted to this journal; it is sent to no other.
    pub fn met(&mut self, journal: u64) {
        self.journal.get_or_insert(journal);
        if let Some(tray) = &mut self.own.tray {
            tray.met(journal);
        }
    }

    /// Like [`met`](Self::met), and also sends what earlier runs left for this journal, whatever the server's
    /// address was then.
    pub fn serve(&mut self, journal: u64) {
        self.met(journal);
        let outbox = self.outbox.as_ref();
        self.earlier_waiting =
            outbox.map_or(0, |outbox| outbox.waiting_for(&self.own.address, Some(journal)));
    }

    /// Returns the server's address.
    pub fn address(&self) -> &Address {
        &self.own.address
    }

    /// Whether the server was reached.
    pub fn has_arrived(&self) -> bool {
        self.own.has_arrived
    }

    /// Returns the author; `None` leaves it to the server.
    pub fn author(&self) -> Option<&Author> {
        self.own.author()
    }

    /// Returns the public name in the keys of its entries.
    pub fn producer(&self) -> Producer {
        self.own.producer()
    }

    /// Returns the file that keeps what is submitted, if there is an outbox folder.
    pub fn file(&self) -> Option<PathBuf> {
        self.own.tray.as_ref()?.path.clone()
    }

    /// Whether to submit more now. If not, poll [`next`](Self::next) to make room.
    pub fn has_room(&self) -> bool {
        self.own.has_room()
    }

    /// Returns the number of unanswered entries: submitted ones, and those that earlier runs left for this server.
    pub fn unanswered(&self) -> usize {
        self.own.unanswered() + self.earlier_waiting
    }

    /// Returns what holds it up now, and when the trouble began; only an answer ends it.
    pub fn held(&self) -> Option<(&Held, Instant)> {
        Some((self.held.as_ref()?, self.trouble_since?))
    }

    /// Queues an entry behind all earlier ones. With [`Keys::Kept`] the entry is on disk when this returns, which
    /// blocks the thread for some hundred microseconds. A text that breaks a limit is reported as
    /// [`Outcome::Refused`].
    /// # Errors
    /// The entry is not kept, but is sent all the same.
    pub fn submit(&mut self, tag: T, entry: impl Into<NewEntry>) -> Result<(), Error> {
        self.submit_at(self.next_counter, tag, entry)
    }

    /// Like [`submit`](Self::submit), with the counter of its key, which must exceed all earlier ones. Ignored with
    /// [`Keys::Kept`], where the outbox counts.
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
            Some(tray) => tray.push(written, &entry),
            None => Pushed { counter, kept: Ok(()) },
        };
        self.next_counter = counter + 1;
        self.own.push(tag, Place { counter, sent: false }, entry);
        kept
    }

    /// Ends submission: [`next`](Self::next) returns `None` once everything is answered.
    pub fn finish(&mut self) {
        if self.end == End::Open {
            self.end = End::Finishing;
        }
    }

    /// Stops now: [`next`](Self::next) returns what is answered so far, then what is not acked, then `None`.
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

    /// Returns the next outcome; `None` once it was [finished](Self::finish) or [stopped](Self::stop) and nothing
    /// is left to report.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Outcome<T>> {
        loop {
            if let Some(outcome) = self.ready.pop_front() {
                return Some(outcome);
            }
            // Acks come in batches. Return the rest of a batch at once, unless the queue is full: then sending
            // comes first.
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

    /// Whether everything submitted is answered, and what earlier runs left is stored or refused.
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

    /// Ends the trouble: the server answered.
    fn answered(&mut self) {
        (self.trouble_since, self.quiet_since) = (None, None);
        if matches!(self.held, Some(Held::Silent(_))) {
            self.resume();
        }
    }

    /// Returns when to report a silent server; `None` while nothing is awaited or something is reported already.
    fn silent_at(&mut self) -> Option<Instant> {
        let own = if self.may_send() { self.own.unanswered() } else { 0 };
        let earlier = self.earlier.as_ref().map_or(0, |earlier| earlier.flight.unanswered());
        let is_waiting = own + earlier > 0 && matches!(self.held, None | Some(Held::Silent(_)));
        self.quiet_since = is_waiting.then(|| self.quiet_since.unwrap_or_else(Instant::now));
        Some(self.quiet_since.filter(|_| self.held.is_none())? + SILENT_AFTER)
    }

    /// Updates what holds it up.
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
        // Other runs may have left entries meanwhile.
        if was_away && self.earlier.is_none() && self.own.has_arrived {
            self.catch_up();
        }
    }

    /// Handles the first welcome: entries are sent only if the server has their journal.
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

    /// Whether a stopped delivery may still have outcomes.
    fn is_ending(&self) -> bool {
        self.own.is_ending() || self.earlier.as_ref().is_some_and(|earlier| earlier.flight.is_ending())
    }

    /// Reports what a stopped delivery leaves unacked.
    fn tell_left(&mut self) {
        self.ready.extend(from_fn(|| self.own.pop_waiting()));
        let earlier = self.earlier.as_mut().and_then(|earlier| earlier.flight.tray.as_mut());
        self.own.tray.as_mut().into_iter().chain(earlier).for_each(Tray::note_unsent);
        self.earlier = None;
        self.end = End::Over;
    }
}
