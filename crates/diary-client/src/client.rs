//! The client handle, shared by any number of tasks.

use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use diary_proto::entry::{Author, Producer, check_text};
use diary_proto::limits::TEXT_MAX_BYTES;
use diary_proto::message::Welcome;
use diary_proto::{Code, Filter, Refusal, Scope, Which};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::address::Address;
use crate::append::{Ack, NewEntry, NotAcked, Place, Secret};
use crate::connection::{Connection, Connector};
use crate::error::Error;
use crate::history::{Blocks, History};
use crate::reader::Reader;
use crate::redial::Redial;
use crate::seen::Seen;
use crate::state::{Link, State};
use crate::tls::Access;
use crate::window::{Open, Window};
use crate::writer::{self, Command, Shared, Writer};

/// Bytes of text that may wait for acks: bounds a writer that is faster than the disk. Equals what a server
/// allows one session.
const WINDOW_BYTES: usize = 1024 * 1024;

/// Cost of each entry besides its text: bounds the number of short entries to 8192.
const WINDOW_ENTRY_BYTES: usize = 128;

/// Commands that may wait for the task: one per entry that fits into the window.
const COMMANDS_MAX: usize = WINDOW_BYTES / WINDOW_ENTRY_BYTES;

/// Identity of a client.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Author of all entries it appends [default: the name the server gives it].
    pub author: Option<Author>,
    /// How the server proves who it is, and the token that is shown to it [default: the system's certificates, and no
    /// token].
    pub access: Access,
    /// Secret of the entries' keys [default: a new, random one]. For diary-outbox, which keeps it.
    #[doc(hidden)]
    pub secret: Option<Secret>,
}

/// A client of one server. Clones are handles of the same client: they share its connection, keys and window.
///
/// Dropping the last handle ends the client at once, even with unacked entries: use [`close`](Self::close).
/// Readings live on until they are dropped themselves.
#[derive(Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    state: watch::Sender<State>,
    producer: Producer,
    /// Connects readings. It has a secret of its own, as readings write nothing.
    reader: Reader,
}

impl Client {
    /// Connects, and stays connected until the client is closed or dropped. Must be called within a Tokio
    /// runtime.
    ///
    /// # Errors
    /// If the first connection fails or takes more than five seconds.
    pub async fn connect(address: Address, options: Options) -> Result<Self, Error> {
        let parts = Parts::new(address, options)?;
        let first = parts.connector.connect().await?;
        let welcome = first.welcome.clone();
        Ok(parts.start(welcome, Ok(first)))
    }

    /// Creates a client whose first connection failed with `why`. It keeps trying, and entries sent meanwhile
    /// wait. Its [`welcome`](Self::welcome) is empty until it connects. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::NoSecret`] if `options` has no secret and the system provides no random bytes.
    pub fn reconnecting(address: Address, options: Options, why: Error) -> Result<Self, Error> {
        Ok(Parts::new(address, options)?.start(Welcome::default(), Err(why)))
    }

    /// Returns the server's latest welcome.
    pub fn welcome(&self) -> Welcome {
        self.shared.welcome.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the public name in the keys of this client's entries.
    pub fn producer(&self) -> Producer {
        self.producer
    }

    /// Returns a reader of the diary that this client writes to. It has a [state](Reader::state) of its own.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Returns the state of the connection for appends, as a watch.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Appends an entry and waits for its ack, across lost connections and server restarts.
    ///
    /// Not cancel safe: once sent, an entry is written even if its ack is no longer awaited.
    ///
    /// # Errors
    /// If the entry is refused, or the client ends before its ack.
    pub async fn append(&self, entry: impl Into<NewEntry>) -> Result<Ack, Error> {
        self.send(entry).await?.await
    }

    /// Appends an entry, waiting only for room in the window (1 MiB of text, or 8192 of the shortest entries),
    /// not for its ack. Entries sent one after the other are committed in that order.
    ///
    /// Cancel safe in that a text is sent whole or not at all. The text is lost with the future, however, so a
    /// `select!` should wait for [`room`](Self::room) instead.
    ///
    /// # Errors
    /// If the text breaks a limit, or the client has ended.
    pub async fn send(&self, entry: impl Into<NewEntry>) -> Result<Pending, Error> {
        self.room().await?.send(entry)
    }

    /// Waits until the window has room for an entry of any size.
    ///
    /// Cancel safe. Only the place in the queue is lost.
    ///
    /// # Errors
    /// If the client has ended.
    pub async fn room(&self) -> Result<Room<'_>, Error> {
        let bytes = u32::try_from(WINDOW_ENTRY_BYTES + TEXT_MAX_BYTES).expect("a few KiB");
        let room = Arc::clone(&self.shared.room).acquire_many_owned(bytes).await;
        let room = room.map_err(|_| self.shared.fate())?;
        let command = self.commands.reserve().await.map_err(|_| self.shared.fate())?;
        Ok(Room { room, command, shared: &self.shared })
    }

    /// Reads entries once, up to the newest one committed when the answer begins.
    pub fn history(&self, scope: impl Into<Scope>) -> History {
        self.reader.history(scope)
    }

    /// Like [`history`](Self::history), but by the block: see [`Reader::blocks`].
    pub fn blocks(&self, which: Which) -> Blocks {
        self.reader.blocks(which)
    }

    /// Reads the entries from `from` on, existing and future ones; only future ones if `None`.
    pub fn follow(&self, from: Option<u64>) -> History {
        self.reader.follow(from)
    }

    /// Reads the entries that match a filter: see [`Reader::select`].
    pub fn select(&self, filter: Filter) -> History {
        self.reader.select(filter)
    }

    /// Reads the entries that contain a text: see [`Reader::search`].
    pub fn search(&self, text: impl Into<String>) -> History {
        self.reader.search(text)
    }

    /// Reads an entry with all that answers it: see [`Reader::thread`].
    pub fn thread(&self, seq: u64) -> History {
        self.reader.thread(seq)
    }

    /// Asks whether the server would take an append now: see [`Reader::check`].
    ///
    /// # Errors
    /// Those of [`Reader::check`].
    pub async fn check(&self) -> Result<(), Error> {
        self.reader.check().await
    }

    /// Waits until every entry is acked or refused, and closes the connection. No handle can send from now on.
    /// If the server is away, it waits for its return.
    ///
    /// Cancel safe. The client closes all the same, or another handle can [give it up](Self::give_up).
    ///
    /// # Errors
    /// If the client ended before: an error that [is final](Error::is_final), or [`Error::Closed`] if it was given up.
    pub async fn close(self) -> Result<(), Error> {
        self.shared.room.close();
        let (reply, answer) = oneshot::channel();
        let told = self.commands.send(Command::Close(reply)).await;
        told.map_err(|_| self.shared.fate())?;
        answer.await.unwrap_or_else(|_| Err(self.shared.fate()))
    }

    /// Ends the client at once and returns the entries that are not acked, in order. Tasks that wait for one of
    /// these acks get [`Error::Closed`].
    pub async fn give_up(self) -> Vec<NotAcked> {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::GiveUp(reply)).await.is_err() {
            return self.left();
        }
        answer.await.unwrap_or_default()
    }

    /// Takes the entries that were not acked when the client ended by itself, in order.
    pub fn left(&self) -> Vec<NotAcked> {
        std::mem::take(&mut self.shared.left.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The parts that a client starts with.
struct Parts {
    connector: Connector,
    for_readings: Connector,
    window: Window,
}

impl Parts {
    fn new(address: Address, options: Options) -> Result<Self, Error> {
        let Options { author, access, secret } = options;
        let secret = secret.map_or_else(Secret::random, Ok)?.bytes();
        let seen = Seen::default();
        let for_readings = Connector {
            address: address.clone(),
            access: access.clone(),
            author: author.clone(),
            secret: Secret::random()?.bytes(),
            seen: seen.clone(),
            probes: true,
        };
        let connector = Connector { address, access, author, secret, seen, probes: true };
        Ok(Self { connector, for_readings, window: Window::new() })
    }

    fn start(self, welcome: Welcome, first: Result<Connection, Error>) -> Client {
        let Self { connector, for_readings, window } = self;
        let producer = Producer::of_secret(&connector.secret);
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        let state = watch::Sender::new(State::default());
        let reader = Reader::of(for_readings);
        let shared = Arc::new(Shared {
            room: Arc::new(Semaphore::new(WINDOW_BYTES)),
            welcome: Mutex::new(welcome),
            fate: OnceLock::new(),
            left: Mutex::default(),
        });
        let mut link = Link::new(state.clone());
        if let Err(error) = &first {
            link.lost(error);
        }
        let writer = Writer::new(queue, window, Redial::new(connector, link), Arc::clone(&shared));
        tokio::spawn(writer::run(writer, first));
        Client { commands, shared, state, producer, reader }
    }
}

/// A permit for one entry in the window.
pub struct Room<'a> {
    room: OwnedSemaphorePermit,
    command: mpsc::Permit<'a, Command>,
    shared: &'a Arc<Shared>,
}

impl Room<'_> {
    /// Appends an entry, with the next counter in its key.
    ///
    /// # Errors
    /// If the text breaks a limit, or it both answers and corrects. Nothing is sent then.
    pub fn send(self, entry: impl Into<NewEntry>) -> Result<Pending, Error> {
        self.push(entry.into(), None)
    }

    /// Appends an entry at a chosen place among the client's keys. It is refused if its counter is not above
    /// all earlier ones.
    ///
    /// # Errors
    /// If the text breaks a limit. Nothing is sent then.
    // For diary-outbox, which keeps what was sent.
    #[doc(hidden)]
    pub fn send_at(self, place: Place, entry: impl Into<NewEntry>) -> Result<Pending, Error> {
        self.push(entry.into(), Some(place))
    }

    fn push(mut self, entry: NewEntry, place: Option<Place>) -> Result<Pending, Error> {
        check_text(&entry.text).map_err(Error::Refused)?;
        if entry.answers.is_some() && entry.corrects.is_some() {
            let message = "an entry cannot answer one and correct another";
            return Err(Error::Refused(Refusal::new(Code::BadArgument, message)));
        }
        // Room that this text does not need is free for others.
        drop(self.room.split(TEXT_MAX_BYTES - entry.text.len()));
        let (reply, answer) = oneshot::channel();
        self.command.send(Command::Append(Open { entry, place, reply, room: self.room }));
        Ok(Pending { answer, shared: Arc::clone(self.shared) })
    }
}

/// An entry that was sent. Awaiting it returns its ack; dropping it does not take the entry back.
///
/// Cancel safe when awaited by reference.
#[must_use = "an entry is in the diary only once it is acked"]
pub struct Pending {
    answer: oneshot::Receiver<Result<Ack, Error>>,
    shared: Arc<Shared>,
}

impl Future for Pending {
    type Output = Result<Ack, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        Poll::Ready(answer.unwrap_or_else(|_| Err(self.shared.fate())))
    }
}
