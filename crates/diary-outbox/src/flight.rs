//! Entries on their way to a server over one client, with the tray that keeps them, if there is one.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;

use diary_client::{
    Ack, Address, Author, Client, Error, NewEntry, NotAcked, Options, Pending, Place, Secret, State, Welcome,
};
use tokio::sync::watch;

use crate::tray::Tray;

/// Entries that may wait to be handed to the client, and …
const WAITING_MAX: usize = 1024;

/// … the bytes of their texts. The client takes as much again.
const WAITING_MAX_BYTES: usize = 256 * 1024;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

pub(crate) struct Flight<T> {
    address: Address,
    options: Options,
    link: Link,
    pub(crate) tray: Option<Tray>,
    /// Not handed to the client yet, in order.
    waiting: VecDeque<Waiting<T>>,
    waiting_bytes: usize,
    /// Sent and not answered, in order.
    open: VecDeque<Open<T>>,
    /// What the client had not acked when it was given up, in order.
    given_up: VecDeque<NotAcked>,
    /// The server was there, and serves the journal that the entries are for.
    pub(crate) has_arrived: bool,
    /// This computer's clock cannot say when an entry was written.
    pub(crate) is_clock_off: bool,
}

enum Link {
    Idle,
    Connecting(Boxed<Result<Client, Error>>),
    Up {
        client: Client,
        state: watch::Receiver<State>,
    },
    GivingUp(Boxed<Vec<NotAcked>>),
    /// No client any more. What is open has its answers.
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
    answer: Answer,
}

/// The answer for an entry. A [`Pending`] gives it only once.
enum Answer {
    Pending(Pending),
    Come(Result<Ack, Error>),
}

/// Something happened.
pub(crate) enum Step<T> {
    /// To the connection.
    Link,
    /// An entry was answered. Another error than a refusal says that the client has ended without its ack.
    Answered { tag: T, counter: u64, answer: Result<Ack, Error> },
}

/// An entry that was not acked.
pub(crate) struct Unacked<T> {
    pub(crate) tag: T,
    pub(crate) counter: u64,
    pub(crate) text: String,
    pub(crate) sent: bool,
}

impl<T> Flight<T> {
    /// To a server, under a name. It connects when it is first [driven](Self::step).
    pub(crate) fn new(address: Address, author: Option<Author>, secret: Secret, tray: Option<Tray>) -> Self {
        Self {
            address,
            options: Options { author, secret: Some(secret) },
            link: Link::Idle,
            tray,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            open: VecDeque::new(),
            given_up: VecDeque::new(),
            has_arrived: false,
            is_clock_off: false,
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn author(&self) -> Option<&Author> {
        self.options.author.as_ref()
    }

    pub(crate) fn push(&mut self, tag: T, place: Place, entry: NewEntry) {
        self.waiting_bytes += entry.text.len();
        self.waiting.push_back(Waiting { tag, place, entry });
    }

    /// Whether more is to be pushed for now.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX && self.waiting_bytes < WAITING_MAX_BYTES
    }

    /// How many entries have no answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.waiting.len() + self.open.len()
    }

    /// Some entry was sent and has no answer.
    pub(crate) fn awaits_answer(&self) -> bool {
        !self.open.is_empty()
    }

    /// It was given up, and the client has not ended yet.
    pub(crate) fn is_giving_up(&self) -> bool {
        matches!(self.link, Link::GivingUp(_))
    }

    /// What the server said of itself, if it is there.
    pub(crate) fn welcome(&self) -> Option<Welcome> {
        match &self.link {
            Link::Up { client, state } if state.borrow().is_connected() => Some(client.welcome()),
            _ => None,
        }
    }

    /// The public name in the keys of its entries.
    pub(crate) fn producer(&self) -> diary_client::Producer {
        let secret = self.options.secret.as_ref().map_or(&[][..], Secret::as_bytes);
        diary_client::Producer::of_secret(secret)
    }

    /// The state of its connection, and the error that ended its client.
    pub(crate) fn state(&self) -> Result<State, &Error> {
        match &self.link {
            Link::Up { state, .. } => Ok(state.borrow().clone()),
            Link::Down(error) => Err(error),
            Link::Idle | Link::Connecting(_) | Link::GivingUp(_) => Ok(State::default()),
        }
    }

    /// Connects, sends what waits if it `may_send`, and waits for answers.
    ///
    /// Cancel safe: an entry leaves a queue only with its answer, or when the client has it.
    pub(crate) async fn step(&mut self, may_send: bool) -> Step<T> {
        loop {
            match &mut self.link {
                Link::Idle => {
                    let connecting = Client::connect(self.address.clone(), self.options.clone());
                    self.link = Link::Connecting(Box::pin(connecting));
                }
                Link::Connecting(connecting) => {
                    let client = match connecting.await {
                        Ok(client) => Ok(client),
                        Err(why) => Client::reconnecting(self.address.clone(), self.options.clone(), why),
                    };
                    self.link = match client {
                        Ok(client) => Link::Up { state: client.state(), client },
                        Err(error) => Link::Down(error),
                    };
                    return Step::Link;
                }
                Link::Up { client, state } => {
                    let room = tokio::select! {
                        biased;
                        step = first(&mut self.open) => return step,
                        room = client.room(), if may_send && !self.waiting.is_empty() => room,
                        Ok(()) = state.changed() => return Step::Link,
                    };
                    if let Err(error) = &room {
                        let error = error.clone();
                        drop(room);
                        self.link = Link::Down(error);
                        return Step::Link;
                    }
                    let (Ok(room), Some(next)) = (room, self.waiting.pop_front()) else { continue };
                    let Waiting { tag, place, mut entry } = next;
                    entry.written = entry.written.filter(|_| !self.is_clock_off);
                    self.waiting_bytes -= entry.text.len();
                    let counter = place.counter;
                    match room.send_at(place, entry) {
                        Ok(pending) => {
                            self.open.push_back(Open { tag, counter, answer: Answer::Pending(pending) });
                        }
                        Err(error) => return Step::Answered { tag, counter, answer: Err(error) },
                    }
                }
                Link::GivingUp(giving_up) => {
                    self.given_up = giving_up.await.into();
                    self.link = Link::Down(Error::Closed);
                    return Step::Link;
                }
                Link::Down(_) => return first(&mut self.open).await,
            }
        }
    }

    /// Ends the client: what is answered by now still comes as a step, and the rest with an error.
    pub(crate) fn give_up(&mut self) {
        self.link = match std::mem::replace(&mut self.link, Link::Down(Error::Closed)) {
            Link::Up { client, .. } => Link::GivingUp(Box::pin(client.give_up())),
            Link::Idle | Link::Connecting(_) => Link::Down(Error::Closed),
            other @ (Link::GivingUp(_) | Link::Down(_)) => other,
        };
    }

    /// What of it was not acked although it had been handed to the client, which has ended.
    pub(crate) fn unacked(&mut self, tag: T, counter: u64) -> Unacked<T> {
        while self.given_up.pop_front_if(|given_up| given_up.counter < counter).is_some() {}
        match self.given_up.pop_front_if(|given_up| given_up.counter == counter) {
            Some(NotAcked { text, sent, .. }) => Unacked { tag, counter, text, sent },
            // A client that ended by itself says nothing of what it had sent.
            None => {
                let kept = self.tray.as_ref().and_then(|tray| tray.entry(counter));
                let text = kept.map(|kept| kept.text.clone()).unwrap_or_default();
                Unacked { tag, counter, text, sent: true }
            }
        }
    }

    /// What was never handed to the client, one after the other.
    pub(crate) fn pop_waiting(&mut self) -> Option<Unacked<T>> {
        let Waiting { tag, place, entry } = self.waiting.pop_front()?;
        Some(Unacked { tag, counter: place.counter, text: entry.text, sent: place.sent })
    }

    /// Says goodbye to the server. All is answered: whether it answers that is not worth an error.
    ///
    /// Cancel safe: the connection ends all the same.
    pub(crate) async fn close(&mut self) {
        if let Link::Up { client, .. } = std::mem::replace(&mut self.link, Link::Down(Error::Closed)) {
            let _ = client.close().await;
        }
    }

    /// The same, and nobody waits for it.
    pub(crate) fn part(&mut self) {
        if let Link::Up { client, .. } = std::mem::replace(&mut self.link, Link::Down(Error::Closed)) {
            tokio::spawn(client.close());
        }
    }
}

/// The answer for what was sent first; never, if nothing was.
///
/// Cancel safe.
async fn first<T>(open: &mut VecDeque<Open<T>>) -> Step<T> {
    if let Some(Open { answer, .. }) = open.front_mut() {
        if let Answer::Pending(pending) = answer {
            *answer = Answer::Come(pending.await);
        }
        if let Some(Open { tag, counter, answer: Answer::Come(answer) }) = open.pop_front() {
            return Step::Answered { tag, counter, answer };
        }
    }
    pending().await
}
