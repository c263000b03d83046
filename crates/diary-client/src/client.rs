//! The handle of a client, which any number of tasks may share.

use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use diary_proto::entry::{Author, Producer, check_text};
use diary_proto::limits::TEXT_MAX_BYTES;
use diary_proto::message::Welcome;
use diary_proto::{Filter, Scope, Which};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::address::Address;
use crate::append::{Ack, NewEntry, NotAcked, Place, Secret};
use crate::connection::{Connection, Connector, Seen};
use crate::error::Error;
use crate::history::{Blocks, History};
use crate::reader::Reader;
use crate::redial::Redial;
use crate::state::{Link, State};
use crate::window::{Open, Window};
use crate::writer::{self, Command, Shared, Writer};

/// Texts that may wait for their acks, so that a writer that is faster than the disk waits. As much as a
/// server lets one session have.
const WINDOW_BYTES: usize = 1024 * 1024;

/// What each entry takes of the window besides its text, so that entries of one byte are bounded too: 8192.
const WINDOW_ENTRY_BYTES: usize = 128;

/// Commands that may wait for the task: one for each entry that the window has room for.
const COMMANDS_MAX: usize = WINDOW_BYTES / WINDOW_ENTRY_BYTES;

/// Who a client is.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The author of all that it appends [default: the server's own name for it].
    pub author: Option<Author>,
    /// Whose keys its entries get [default: those of a new, random secret]. For diary-outbox, which keeps it.
    #[doc(hidden)]
    pub secret: Option<Secret>,
}

/// A client of one server. Clones are handles of the same client: they share its connection, its keys
/// and its window.
///
/// When the last handle is dropped, the client ends at once, acked or not: use [`close`](Self::close).
/// Readings live on until they are dropped themselves.
#[derive(Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    state: watch::Sender<State>,
    producer: Producer,
    /// Connects readings. They write nothing, so they need not know the secret of the keys.
    reader: Reader,
}

impl Client {
    /// Connects, and from then on keeps connected until it is closed or dropped. It needs a Tokio
    /// runtime around it.
    ///
    /// # Errors
    /// If the first connection fails or takes more than five seconds.
    pub async fn connect(address: Address, options: Options) -> Result<Self, Error> {
        let parts = Parts::new(address, options)?;
        let first = parts.connector.connect().await?;
        let welcome = first.welcome.clone();
        Ok(parts.start(welcome, Ok(first)))
    }

    /// A client whose first connection could not be made, for `why`: it goes on trying, and what is sent
    /// meanwhile waits. Until then, its [`welcome`](Self::welcome) is empty. It needs a Tokio runtime around it.
    ///
    /// # Errors
    /// [`Error::NoSecret`] if it has none and the system gives no random bytes.
    pub fn reconnecting(address: Address, options: Options, why: Error) -> Result<Self, Error> {
        Ok(Parts::new(address, options)?.start(Welcome::default(), Err(why)))
    }

    /// What the server said of itself when it last welcomed this client.
    pub fn welcome(&self) -> Welcome {
        self.shared.welcome.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The public name in the keys of this client's entries.
    pub fn producer(&self) -> Producer {
        self.producer
    }

    /// Reads the diary that this client writes to. It has a [state](Reader::state) of its own.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Whether the connection of its appends stands, now and from now on.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Appends an entry and waits for its ack, through lost connections and restarts of the server.
    ///
    /// Not cancellation safe: an entry whose ack is no longer waited for is written all the same.
    ///
    /// # Errors
    /// If it is refused, or the client ends before its ack.
    pub async fn append(&self, entry: impl Into<NewEntry>) -> Result<Ack, Error> {
        self.send(entry).await?.await
    }

    /// Appends an entry without waiting for its ack, only for room in the window: 1 MiB of texts, 8192
    /// of the shortest. Entries that are sent one after the other are committed in that order.
    ///
    /// Cancellation safe in that a text is sent whole or not at all; but it is gone with the future, so a
    /// `select!` rather waits for [`room`](Self::room).
    ///
    /// # Errors
    /// If the text breaks a limit, or the client has ended.
    pub async fn send(&self, entry: impl Into<NewEntry>) -> Result<Pending, Error> {
        self.room().await?.send(entry)
    }

    /// Waits until the window has room for an entry of any size.
    ///
    /// Cancellation safe: only the place in the queue is lost.
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

    /// Reads entries once, up to those that are committed when the answer begins.
    pub fn history(&self, scope: impl Into<Scope>) -> History {
        self.reader.history(scope)
    }

    /// The same by the block: see [`Reader::blocks`].
    pub fn blocks(&self, which: Which) -> Blocks {
        self.reader.blocks(which)
    }

    /// Reads entries from one on, those that are there and those to come; from now on, if none is
    /// named.
    pub fn follow(&self, from: Option<u64>) -> History {
        self.reader.follow(from)
    }

    /// Reads the entries that a filter takes: see [`Reader::select`].
    pub fn select(&self, filter: Filter) -> History {
        self.reader.select(filter)
    }

    /// Reads the entries that hold a text: see [`Reader::search`].
    pub fn search(&self, text: impl Into<String>) -> History {
        self.reader.search(text)
    }

    /// Asks whether the server would take an append now: see [`Reader::check`].
    ///
    /// # Errors
    /// See there.
    pub async fn check(&self) -> Result<(), Error> {
        self.reader.check().await
    }

    /// Waits until all is acked or refused, and says goodbye. No handle can send from now on. It
    /// waits as long as the server is away.
    ///
    /// Cancellation safe: the client closes all the same, or can be [given up](Self::give_up) by another
    /// handle.
    ///
    /// # Errors
    /// If the client ended before: [`Error::OtherJournal`], or [`Error::Closed`] if it was given up.
    pub async fn close(self) -> Result<(), Error> {
        self.shared.room.close();
        let (reply, answer) = oneshot::channel();
        let told = self.commands.send(Command::Close(reply)).await;
        told.map_err(|_| self.shared.fate())?;
        answer.await.unwrap_or_else(|_| Err(self.shared.fate()))
    }

    /// Ends at once and tells what is not acked, in order. Whoever waits for one of these acks gets
    /// [`Error::Closed`].
    pub async fn give_up(self) -> Vec<NotAcked> {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::GiveUp(reply)).await.is_err() {
            return self.left();
        }
        answer.await.unwrap_or_default()
    }

    /// Takes what was not acked when the client ended by itself, in order.
    pub fn left(&self) -> Vec<NotAcked> {
        std::mem::take(&mut self.shared.left.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a client begins with.
struct Parts {
    connector: Connector,
    for_readings: Connector,
    window: Window,
}

impl Parts {
    fn new(address: Address, options: Options) -> Result<Self, Error> {
        let Options { author, secret } = options;
        let secret = secret.map_or_else(Secret::random, Ok)?.bytes();
        let seen = Seen::default();
        let for_readings = Connector {
            address: address.clone(),
            author: author.clone(),
            secret: Secret::random()?.bytes(),
            seen: seen.clone(),
        };
        let connector = Connector { address, author, secret, seen };
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

/// Room for one entry in the window.
pub struct Room<'a> {
    room: OwnedSemaphorePermit,
    command: mpsc::Permit<'a, Command>,
    shared: &'a Arc<Shared>,
}

impl Room<'_> {
    /// Appends an entry, with the next counter in its key.
    ///
    /// # Errors
    /// If the text breaks a limit: nothing is sent.
    pub fn send(self, entry: impl Into<NewEntry>) -> Result<Pending, Error> {
        self.push(entry.into(), None)
    }

    /// Appends an entry at a place of its own among the client's keys. One whose counter is not above all before it
    /// is refused.
    ///
    /// # Errors
    /// If the text breaks a limit: nothing is sent.
    // For diary-outbox, which keeps what was sent.
    #[doc(hidden)]
    pub fn send_at(self, place: Place, entry: impl Into<NewEntry>) -> Result<Pending, Error> {
        self.push(entry.into(), Some(place))
    }

    fn push(mut self, entry: NewEntry, place: Option<Place>) -> Result<Pending, Error> {
        check_text(&entry.text).map_err(Error::Refused)?;
        // What this text does not need is free for others.
        drop(self.room.split(TEXT_MAX_BYTES - entry.text.len()));
        let (reply, answer) = oneshot::channel();
        self.command.send(Command::Append(Open { entry, place, reply, room: self.room }));
        Ok(Pending { answer, shared: Arc::clone(self.shared) })
    }
}

/// An entry that was sent. Awaiting it gives its ack; dropping it does not take the entry back.
///
/// Cancellation safe when awaited by reference.
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
