//! Delivering entries to one server, in order and once each.

mod earlier;

use std::collections::{BTreeSet, VecDeque};
use std::future::pending;
use std::path::PathBuf;

use diary_client::{
    Ack, Address, Author, Error as ClientError, NewEntry, Place, Producer, Secret, State, Time,
};
use diary_proto::entry::check_text;
use jiff::tz::TimeZone;
use tokio::time::{Instant, sleep_until};

use crate::error::Error;
use crate::flight::{Flight, Step, Unacked};
use crate::outbox::Outbox;
use crate::outcome::{Held, Keys, Outcome, SILENT_AFTER};
use crate::record::KeptEntry;
use crate::tray::Pushed;
use earlier::{Earlier, is_clock_off};

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
    /// Submitted, but not on disk.
    unkept: BTreeSet<u64>,
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
        let random = || Secret::random().map_err(|error| Error::NoRandom(error.to_string()));
        let (secret, tray, outbox) = match keys {
            Keys::Fresh => (random()?, None, None),
            Keys::Derived(secret) => (secret, None, None),
            Keys::Kept(outbox) => {
                let tray = outbox.begin(&address, author.as_ref())?;
                (tray.secret(), Some(tray), Some(outbox))
            }
        };
        Ok(Self::of(Flight::new(address, author, secret, tray), outbox))
    }

    /// Delivers an entry of the outbox as a new one, which the server cannot tell from one that was stored before. Its
    /// old key is given up in the same moment as the new one is kept. It goes to whichever journal is there.
    ///
    /// # Errors
    /// There is no such entry, a running program holds it, or that cannot be written down.
    pub fn as_new(outbox: Outbox, id: &str, tag: T) -> Result<Self, Error> {
        let (mut tray, counter) = outbox.adopt_one(id)?;
        let counter = tray.renew(counter)?;
        let kept =
            tray.entry(counter).map(KeptEntry::to_send).ok_or_else(|| Error::NoSuchEntry(id.to_owned()))?;
        let (address, author, secret) = (tray.server().clone(), tray.author().cloned(), tray.secret());
        let mut flight = Flight::new(address, author, secret, Some(tray));
        flight.push(tag, Place { counter, sent: false }, kept);
        Ok(Self::of(flight, Some(outbox)))
    }

    fn of(own: Flight<T>, outbox: Option<Outbox>) -> Self {
        let address = own.address().clone();
        let earlier_waiting = outbox.as_ref().map_or(0, |outbox| outbox.waiting_for(&address, None));
        Self {
            own,
            outbox,
            earlier: None,
            ready: VecDeque::new(),
            next_counter: 1,
            unkept: BTreeSet::new(),
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
        let mut successor = Self::new(self.own.address().clone(), author, keys)?;
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

    /// The server that it goes to.
    pub fn address(&self) -> &Address {
        self.own.address()
    }

    /// The server has been there.
    pub fn has_arrived(&self) -> bool {
        self.own.has_arrived
    }

    /// Who writes; `None` leaves that to the server.
    pub fn author(&self) -> Option<&Author> {
        self.own.author()
    }

    /// The public name in the keys of its entries.
    pub fn producer(&self) -> Producer {
        self.own.producer()
    }

    /// The file that keeps what is submitted, if there is a place for it.
    pub fn file(&self) -> Option<PathBuf> {
        self.own.tray.as_ref()?.path()
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
        if entry.at.is_none() {
            entry.written.get_or_insert_with(|| Time::now(&TimeZone::system()));
        }
        let (counter, kept) = match &mut self.own.tray {
            None => (counter, Ok(())),
            Some(tray) => {
                let written = entry.written.or(entry.at).expect("one of them was just set");
                let Pushed { counter, kept } = tray.push(entry.at, written, &entry.text);
                (counter, kept)
            }
        };
        if kept.is_err() {
            self.unkept.insert(counter);
        }
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
        if let Some(flight) = self.earlier.as_mut().and_then(|earlier| earlier.flight.as_mut()) {
            flight.give_up();
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
            match self.end {
                End::Over => return None,
                End::Finishing if self.is_settled() => {
                    self.own.close().await;
                    self.end = End::Over;
                    continue;
                }
                End::Stopping => {
                    if self.tell_left() {
                        continue;
                    }
                }
                End::Open | End::Finishing => {}
            }
            self.watch_silence();
            let silent_at =
                self.quiet_since.filter(|_| self.held.is_none()).map(|since| since + SILENT_AFTER);
            let may_send = self.may_send();
            tokio::select! {
                biased;
                step = Earlier::step(&mut self.earlier) => self.take_earlier(step),
                step = self.own.step(may_send) => self.take(step),
                () = until(silent_at) => self.hold(Held::Silent(self.own.address().clone())),
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

    fn take(&mut self, step: Step<T>) {
        match step {
            Step::Link => self.look(),
            Step::Answered { tag, counter, answer } => {
                self.settle(tag, counter, answer);
                self.look();
            }
        }
    }

    fn settle(&mut self, tag: T, counter: u64, answer: Result<Ack, ClientError>) {
        match answer {
            Ok(ack) => {
                if let Some(tray) = &mut self.own.tray {
                    tray.acked(counter);
                }
                self.answered();
                self.ready.push_back(Outcome::Acked { tag, ack });
            }
            Err(ClientError::Refused(refusal)) => {
                let is_kept = !self.unkept.contains(&counter);
                let tray = self.own.tray.as_mut().filter(|_| is_kept);
                let id = tray.zip(self.outbox.as_ref()).map(|(tray, outbox)| {
                    tray.refused(counter, &refusal);
                    outbox.id(tray, counter)
                });
                self.answered();
                self.ready.push_back(Outcome::Refused { tag, refusal, id });
            }
            Err(_) => {
                let unacked = self.own.unacked(tag, counter);
                self.leave(unacked);
            }
        }
    }

    /// An entry is not acked, and will not be by this delivery.
    fn leave(&mut self, Unacked { tag, counter, text, sent }: Unacked<T>) {
        let tray = self.own.tray.as_mut().filter(|_| !self.unkept.contains(&counter));
        let id = tray.zip(self.outbox.as_ref()).map(|(tray, outbox)| {
            if sent {
                tray.sent(counter);
            }
            outbox.id(tray, counter)
        });
        self.ready.push_back(Outcome::Left { tag, text, sent, id });
    }

    /// The server answered something.
    fn answered(&mut self) {
        (self.trouble_since, self.quiet_since) = (None, None);
        if matches!(self.held, Some(Held::Silent(_))) {
            self.resume();
        }
    }

    fn watch_silence(&mut self) {
        let own = if self.may_send() { self.own.unanswered() } else { 0 };
        let earlier = self.earlier.as_ref().and_then(|earlier| earlier.flight.as_ref());
        let is_waiting = own + earlier.map_or(0, Flight::unanswered) > 0;
        match is_waiting && matches!(self.held, None | Some(Held::Silent(_))) {
            true => _ = self.quiet_since.get_or_insert_with(Instant::now),
            false => self.quiet_since = None,
        }
    }

    /// Sees what holds it up.
    fn look(&mut self) {
        if self.end == End::Stopping {
            return;
        }
        let earlier = self.earlier.as_ref().and_then(|earlier| earlier.flight.as_ref());
        let earlier = earlier.and_then(|flight| trouble(flight.state()));
        match earlier.or_else(|| trouble(self.own.state())) {
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
        let Some(welcome) = self.own.welcome().filter(|_| !self.own.has_arrived) else { return };
        let id = welcome.journal_id;
        if let Some(known) = self.journal.filter(|known| *known != id) {
            let why = format!("its id is {id:016x}, not {known:016x}");
            return self.hold(Held::Ended(ClientError::OtherJournal(why)));
        }
        self.own.has_arrived = true;
        self.own.is_clock_off = is_clock_off(&welcome);
        self.met(id);
        self.ready.push_back(Outcome::Arrived(welcome));
        self.catch_up();
    }

    /// Once nothing more can come of a delivery that was stopped, tells what is left of it; false while something can.
    fn tell_left(&mut self) -> bool {
        if let Some(flight) = self.earlier.as_mut().and_then(|earlier| earlier.flight.as_mut()) {
            if flight.awaits_answer() || flight.is_giving_up() {
                return false;
            }
            if let Some(tray) = &mut flight.tray {
                tray.note_unsent();
            }
        }
        if self.own.awaits_answer() || self.own.is_giving_up() {
            return false;
        }
        self.earlier = None;
        while let Some(unacked) = self.own.pop_waiting() {
            self.leave(unacked);
        }
        if let Some(tray) = &mut self.own.tray {
            tray.note_unsent();
        }
        self.end = End::Over;
        true
    }
}

fn trouble(state: Result<State, &ClientError>) -> Option<Held> {
    match state {
        Err(error) => Some(Held::Ended(error.clone())),
        Ok(state) => match (state.error(), state.full()) {
            (Some(error), _) => Some(Held::Away(error.clone())),
            (None, full) => full.cloned().map(Held::Full),
        },
    }
}

/// Cancel safe.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}
