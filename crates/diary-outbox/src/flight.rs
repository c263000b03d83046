//! Entries in flight to a server over one client, with the tray that keeps them, if any.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::ops::RangeInclusive;
use std::pin::Pin;

use diary_client::{
    Ack, Address, Author, Client, Error, NewEntry, NotAcked, Options, Pending, Place, Producer, Refusal,
    Secret, State, Time, Welcome,
};
use futures::FutureExt;
use jiff::tz::TimeZone;
use tokio::sync::watch;

use crate::outcome::{Held, Outcome};
use crate::record::KeptEntry;
use crate::tray::Tray;

/// Limit on the entries that wait to be handed to the client, and …
const WAITING_MAX: usize = 1024;

/// … on the bytes of their texts. The client buffers as much again.
const WAITING_MAX_BYTES: usize = 256 * 1024;

/// Limit on the difference between two clocks: more than any wrong time zone explains.
const CLOCKS_APART_MAX_MICROS: i64 = 24 * 3600 * 1_000_000;

/// 2026-01-01, before any outbox existed. A clock below this is not set.
const CLOCK_MIN_MICROS: i64 = 1_767_225_600 * 1_000_000;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

pub(crate) struct Flight<T> {
    pub(crate) address: Address,
    pub(crate) options: Options,
    /// Whether nobody chose the author of the options: the name of a token goes before it.
    pub(crate) author_is_default: bool,
    link: Link,
    pub(crate) tray: Option<Tray>,
    /// Entries not handed to the client yet, in order.
    waiting: VecDeque<Waiting<T>>,
    waiting_bytes: usize,
    /// Entries sent and not answered, in order.
    open: VecDeque<Open<T>>,
    /// Entries that the client had not acked when it was given up, by counter.
    given_up: HashMap<u64, NotAcked>,
    /// Whether the server was reached and serves the journal that the entries are for.
    pub(crate) has_arrived: bool,
    /// Range in which an entry's time by this computer's clock is trusted. Outside it, an entry gets the server's
    /// time.
    plausible: RangeInclusive<i64>,
}

enum Link {
    Idle,
    Connecting(Boxed<Result<Client, Error>>),
    Up(watch::Receiver<State>, Client),
    GivingUp(Boxed<Vec<NotAcked>>),
    /// No client any more. Open entries have their answers.
    Down(Error),
}

struct Waiting<T> {
    tag: T,
    place: Place,
    entry: NewEntry,
}

struct Open<T> {
    tag: T,
    counter: u64,
    answer: Pending,
}

impl<T> Flight<T> {
    /// Returns a flight that connects on its first [`step`](Self::step).
    pub(crate) fn new(address: Address, options: Options, tray: Option<Tray>) -> Self {
        Self {
            address,
            options,
            author_is_default: false,
            link: Link::Idle,
            tray,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            open: VecDeque::new(),
            given_up: HashMap::new(),
            has_arrived: false,
            plausible: CLOCK_MIN_MICROS..=i64::MAX,
        }
    }

    /// Returns a flight with the author and keys of a tray.
    pub(crate) fn of_tray(address: Address, tray: Tray) -> Self {
        let heading = &tray.contents.heading;
        let options = Options {
            author: heading.author.clone(),
            secret: Some(heading.secret.clone()),
            ..Options::default()
        };
        Self { author_is_default: heading.author_is_default, ..Self::new(address, options, Some(tray)) }
    }

    /// Writes as this author from now on.
    pub(crate) fn set_author(&mut self, author: Option<Author>, is_default: bool) {
        if let Some(tray) = &mut self.tray {
            tray.set_author(author.clone(), is_default);
        }
        (self.options.author, self.author_is_default) = (author, is_default);
    }

    /// Returns the author that the server is told.
    pub(crate) fn author(&self) -> Option<&Author> {
        self.options
            .author
            .as_ref()
            .filter(|_| !self.author_is_default || self.options.access.token.is_none())
    }

    fn options(&self) -> Options {
        Options { author: self.author().cloned(), ..self.options.clone() }
    }

    /// Connects anew at the next [`step`](Self::step). Nothing may be open.
    pub(crate) fn reconnect(&mut self) {
        self.link = Link::Idle;
    }

    /// Sends an entry that the tray already keeps.
    pub(crate) fn push_kept(&mut self, tag: T, kept: KeptEntry) {
        let KeptEntry { counter, time, at, answers, corrects, text, sent, .. } = kept;
        let entry = NewEntry { at, written: Some(time), answers, corrects, ..text.into() };
        self.push(tag, Place { counter, sent }, entry);
    }

    pub(crate) fn push(&mut self, tag: T, place: Place, entry: NewEntry) {
        self.waiting_bytes += entry.text.len();
        self.waiting.push_back(Waiting { tag, place, entry });
    }

    /// Whether to push more now.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX && self.waiting_bytes < WAITING_MAX_BYTES
    }

    /// Returns the number of unanswered entries.
    pub(crate) fn unanswered(&self) -> usize {
        self.waiting.len() + self.open.len()
    }

    /// Whether answers may still come after it was [given up](Self::give_up).
    pub(crate) fn is_ending(&self) -> bool {
        !self.open.is_empty() || matches!(self.link, Link::GivingUp(_))
    }

    /// Returns the server's welcome, while connected.
    pub(crate) fn welcome(&self) -> Option<Welcome> {
        match &self.link {
            Link::Up(state, client) if state.borrow().is_connected() => Some(client.welcome()),
            _ => None,
        }
    }

    /// Starts to send: the server serves the right journal. Its clock decides which entry times are plausible.
    pub(crate) fn arrive(&mut self, welcome: &Welcome) {
        let server = welcome.clock_micros;
        let is_off =
            Time::now(&TimeZone::UTC).micros.abs_diff(server) > CLOCKS_APART_MAX_MICROS.unsigned_abs();
        let last = if is_off { i64::MIN } else { server.saturating_add(CLOCKS_APART_MAX_MICROS) };
        self.plausible = CLOCK_MIN_MICROS..=last;
        self.has_arrived = true;
    }

    /// Returns the public name in the keys of its entries.
    pub(crate) fn producer(&self) -> Producer {
        Producer::of_secret(self.options.secret.as_ref().map_or(&[], Secret::as_bytes))
    }

    /// Returns what holds it up.
    pub(crate) fn trouble(&self) -> Option<Held> {
        match &self.link {
            Link::Up(state, _) => {
                let state = state.borrow();
                let away = state.error().cloned().map(|error| match error {
                    error if error.is_final() => Held::Ended(error),
                    error => Held::Away(error),
                });
                away.or_else(|| state.full().cloned().map(Held::Full))
            }
            Link::Down(error) => Some(Held::Ended(error.clone())),
            Link::Idle | Link::Connecting(_) | Link::GivingUp(_) => None,
        }
    }

    /// Connects, sends waiting entries if `may_send`, and returns the next outcome, which is recorded in the tray.
    /// `None` means that the connection changed.
    ///
    /// Cancel safe: an entry leaves a queue only with its answer, or once the client has it.
    pub(crate) async fn step(&mut self, may_send: bool) -> Option<Outcome<T>> {
        let (tag, counter, answer) = loop {
            match &mut self.link {
                Link::Idle => {
                    let connecting = Client::connect(self.address.clone(), self.options());
                    self.link = Link::Connecting(Box::pin(connecting));
                }
                Link::Connecting(connecting) => {
                    let connected = connecting.await;
                    let reconnect = |why| Client::reconnecting(self.address.clone(), self.options(), why);
                    let client = connected.or_else(reconnect);
                    self.link = client.map_or_else(Link::Down, |client| Link::Up(client.state(), client));
                    return None;
                }
                Link::Up(state, client) => {
                    let room = tokio::select! {
                        biased;
                        // Sending comes first, to keep the server busy.
                        room = client.room(), if may_send && !self.waiting.is_empty() => room,
                        answered = first(&mut self.open) => break answered,
                        Ok(()) = state.changed() => return None,
                    };
                    if let Err(error) = &room {
                        let (error, left) = (error.clone(), client.left());
                        drop(room);
                        self.give_back(left);
                        self.link = Link::Down(error);
                        return None;
                    }
                    let (Ok(room), Some(next)) = (room, self.waiting.pop_front()) else { continue };
                    let Waiting { tag, place, mut entry } = next;
                    entry.written = entry.written.filter(|written| self.plausible.contains(&written.micros));
                    self.waiting_bytes -= entry.text.len();
                    let counter = place.counter;
                    match room.send_at(place, entry) {
                        Ok(answer) => self.open.push_back(Open { tag, counter, answer }),
                        Err(error) => break (tag, counter, Err(error)),
                    }
                }
                Link::GivingUp(giving_up) => {
                    let left = giving_up.await;
                    self.give_back(left);
                    self.link = Link::Down(Error::Closed);
                    return None;
                }
                Link::Down(_) => break first(&mut self.open).await,
            }
        };
        Some(self.settle(tag, counter, answer))
    }

    /// Returns the outcome of the next entry if it is answered already.
    pub(crate) fn answered(&mut self) -> Option<Outcome<T>> {
        let Link::Up(..) = self.link else { return None };
        let (tag, counter, answer) = first(&mut self.open).now_or_never()?;
        Some(self.settle(tag, counter, answer))
    }

    /// Records an answer and returns its outcome.
    fn settle(&mut self, tag: T, counter: u64, answer: Result<Ack, Error>) -> Outcome<T> {
        match answer {
            Ok(ack) => {
                if let Some(tray) = &mut self.tray {
                    tray.acked(counter);
                }
                Outcome::Acked { tag, ack }
            }
            Err(Error::Refused(refusal)) => {
                let id = self.tray.as_mut().and_then(|tray| tray.refused(counter, &refusal));
                Outcome::Refused { tag, refusal, id }
            }
            // The client ended without an ack for it.
            Err(_) => {
                if let Link::Up(_, client) = &self.link {
                    let left = client.left();
                    self.give_back(left);
                }
                let unknown = NotAcked { counter, text: String::new(), sent: true };
                let not_acked = self.given_up.remove(&counter).unwrap_or(unknown);
                self.leave(tag, not_acked)
            }
        }
    }

    /// Stores what the client had not acked when it ended.
    fn give_back(&mut self, left: Vec<NotAcked>) {
        self.given_up.extend(left.into_iter().map(|entry| (entry.counter, entry)));
    }

    /// Records that an entry will not be acked by this flight.
    fn leave(&mut self, tag: T, NotAcked { counter, text, sent }: NotAcked) -> Outcome<T> {
        let id = self.tray.as_mut().and_then(|tray| {
            let id = tray.id(counter)?;
            if sent {
                tray.sent(counter);
            }
            Some(id)
        });
        Outcome::Left { tag, text, sent, id }
    }

    /// Returns, one by one, the entries that were never handed to the client that was given up.
    pub(crate) fn pop_waiting(&mut self) -> Option<Outcome<T>> {
        let Waiting { tag, place: Place { counter, sent }, entry } = self.waiting.pop_front()?;
        Some(self.leave(tag, NotAcked { counter, text: entry.text, sent }))
    }

    /// Refuses what was never handed to the client, and returns that.
    pub(crate) fn refuse_waiting(&mut self, refusal: &Refusal) -> Vec<(String, KeptEntry)> {
        self.waiting_bytes = 0;
        let Some(tray) = &mut self.tray else { return Vec::new() };
        let refuse = |waiting: Waiting<T>| {
            let kept = tray.contents.entries.get(&waiting.place.counter).cloned()?;
            Some((tray.refused(waiting.place.counter, refusal)?, kept))
        };
        self.waiting.drain(..).filter_map(refuse).collect()
    }

    /// Ends the client. Answers so far still come as steps; the rest ends with an error.
    pub(crate) fn give_up(&mut self) {
        self.link = match std::mem::replace(&mut self.link, Link::Down(Error::Closed)) {
            Link::Up(_, client) => Link::GivingUp(Box::pin(client.give_up())),
            Link::Idle | Link::Connecting(_) => Link::Down(Error::Closed),
            other @ (Link::GivingUp(_) | Link::Down(_)) => other,
        };
    }

    /// Closes the connection. Everything is answered, so an error does not matter.
    ///
    /// Cancel safe: the connection ends either way.
    pub(crate) async fn close(&mut self) {
        if let Link::Up(_, client) = std::mem::replace(&mut self.link, Link::Down(Error::Closed)) {
            let _ = client.close().await;
        }
    }

    /// Closes the connection in the background and drops the tray.
    pub(crate) fn part(self) {
        if let Link::Up(_, client) = self.link {
            tokio::spawn(client.close());
        }
    }
}

/// Returns the answer for the oldest open entry; pends forever if there is none.
///
/// Cancel safe.
async fn first<T>(open: &mut VecDeque<Open<T>>) -> (T, u64, Result<Ack, Error>) {
    let Some(Open { answer, .. }) = open.front_mut() else { return pending().await };
    let answer = answer.await;
    // Nothing is awaited from here on: an answer comes only once.
    let Open { tag, counter, .. } = open.pop_front().expect("it was just answered");
    (tag, counter, answer)
}
