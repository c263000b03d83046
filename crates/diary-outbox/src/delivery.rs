//! Delivering entries to one server, in order and once each.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::future::pending;
use std::path::PathBuf;
use std::time::Duration;

use diary_client::{
    Ack, Address, Author, Error as ClientError, NewEntry, Place, Producer, Refusal, Secret, State, Time,
    Welcome,
};
use diary_proto::entry::check_text;
use jiff::tz::TimeZone;
use tokio::time::{Instant, sleep_until};

use crate::error::Error;
use crate::flight::{Flight, Step, Unacked};
use crate::outbox::{Left, Outbox};
use crate::record::KeptEntry;
use crate::tray::{Pushed, Tray};

/// How long a server that is there may answer nothing before that is told. Most acks take milliseconds.
const SILENT_AFTER: Duration = Duration::from_secs(2);

/// How far apart two clocks may be: more than any time zone that was set wrong.
const CLOCKS_APART_MAX_MICROS: u64 = 24 * 3600 * 1_000_000;

/// What the keys of a delivery's entries come from, and what outlives its process.
pub enum Keys {
    /// A new secret. Nothing is kept: what is not acked in the end is given back.
    Fresh,
    /// A new secret. An entry is in the outbox before it is sent, until it is acked; what earlier runs left there goes
    /// out first.
    Kept(Outbox),
    /// A secret that whoever has the same entries can make again, so that they are stored once however often they are
    /// delivered. Nothing is kept.
    Derived(Secret),
}

/// What came of entries, or of the way to the server. `T` is what the caller knows an entry by.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome<T> {
    /// The server is there for the first time.
    Arrived(Welcome),
    /// An entry is in the diary.
    Acked {
        /// Which.
        tag: T,
        /// Its seq and time there.
        ack: Ack,
    },
    /// An entry is not taken, however often it is sent.
    Refused {
        /// Which.
        tag: T,
        /// Why.
        refusal: Refusal,
        /// What it is called in the outbox, where it waits for a person's choice. `None`: it is not kept.
        id: Option<String>,
    },
    /// Nothing goes out for now. The delivery goes on by itself until it is [stopped](Delivery::stop).
    Held(Held),
    /// What held it up is over.
    Resumed(Held),
    /// So many entries that earlier runs left are in the diary now.
    CaughtUp {
        /// How many.
        entries: usize,
    },
    /// An entry that an earlier run left is not taken. It waits for a person's choice.
    LeftRefused {
        /// What it is called in the outbox.
        id: String,
        /// What it is.
        kept: KeptEntry,
        /// Why.
        refusal: Refusal,
    },
    /// A file that an earlier run left cannot be used.
    Trouble(Error),
    /// After [`Delivery::stop`]: an entry that is not acked.
    Left {
        /// Which.
        tag: T,
        /// Its text.
        text: String,
        /// It was sent, so it may be in the diary.
        sent: bool,
        /// What it is called in the outbox, from where the next run sends it. `None`: it is not kept.
        id: Option<String>,
    },
}

/// Why nothing goes out.
#[derive(Debug, Clone)]
pub enum Held {
    /// There is no connection, and attempts fail.
    Away(ClientError),
    /// The server is there, and has answered nothing for two seconds.
    Silent(Address),
    /// The server has no room. It is asked again.
    Full(Refusal),
    /// Nothing more can be sent: the server serves another journal than before.
    Ended(ClientError),
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(error) | Self::Ended(error) => error.fmt(f),
            Self::Silent(address) => {
                write!(f, "{address} is there, and has acked nothing for {} s", SILENT_AFTER.as_secs())
            }
            Self::Full(refusal) => refusal.fmt(f),
        }
    }
}

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

/// What earlier runs left, on its way.
struct Earlier {
    left: Left,
    flight: Option<Flight<u64>>,
    journal: u64,
    acked: usize,
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

    /// Delivers what earlier runs left, before anything else.
    fn catch_up(&mut self) {
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

    fn take_earlier(&mut self, step: Step<u64>) {
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

impl Earlier {
    /// Cancel safe, as [`Flight::step`] is.
    async fn step(earlier: &mut Option<Self>) -> Step<u64> {
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
fn is_clock_off(welcome: &Welcome) -> bool {
    let now = Time::now(&TimeZone::UTC).micros;
    now.abs_diff(welcome.clock_micros) > CLOCKS_APART_MAX_MICROS
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
