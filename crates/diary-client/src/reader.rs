//! The read-only handle.

use std::sync::{Arc, Mutex, PoisonError};

use diary_proto::message::{ClientMessage, Resume, ServerMessage, Welcome};
use diary_proto::{Filter, Scope, Which};
use tokio::sync::watch;

use crate::address::Address;
use crate::append::Secret;
use crate::connection::{Connection, Connector, lost_by};
use crate::cursor::Ask;
use crate::error::Error;
use crate::history::{Blocks, History};
use crate::redial::Redial;
use crate::seen::Seen;
use crate::state::{Link, State};
use crate::tls::Access;

/// Reads the diary of one server and writes nothing. Clones share what they know about it.
///
/// The first reading uses the connection that [`connect`](Self::connect) made; each further one makes its own.
/// [`Client`](crate::Client) has the same readings.
#[derive(Clone)]
pub struct Reader {
    connector: Connector,
    state: watch::Sender<State>,
    /// Connection that no reading uses yet.
    spare: Arc<Mutex<Option<Connection>>>,
}

impl Reader {
    /// Creates a reader that connects on first use. Readings need a Tokio runtime, and reconnect by themselves.
    ///
    /// # Errors
    /// [`Error::NoSecret`] if the system provides no random bytes.
    pub fn new(address: Address, access: Access) -> Result<Self, Error> {
        Self::at(address, access, None)
    }

    fn at(address: Address, access: Access, place: Option<Resume>) -> Result<Self, Error> {
        let secret = Secret::random()?.bytes();
        Ok(Self::of(Connector { address, access, author: None, secret, seen: Seen::at(place), probes: true }))
    }

    /// Creates a reader and connects it now.
    ///
    /// # Errors
    /// If the connection fails or takes more than five seconds.
    pub async fn connect(address: Address) -> Result<Self, Error> {
        Self::connect_at(address, Access::default(), None).await
    }

    /// Like [`connect`](Self::connect), but with this access, and to a diary that must have the entry at `place`, if given. A place
    /// with seq 0 stands for no entry, only for the journal.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect), [`Error::OtherJournal`] and [`Error::Restored`].
    pub async fn connect_at(address: Address, access: Access, place: Option<Resume>) -> Result<Self, Error> {
        let reader = Self::at(address, access, place)?;
        let first = reader.connector.connect_at(place).await?;
        *reader.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(first);
        Ok(reader)
    }

    pub(crate) fn of(connector: Connector) -> Self {
        Self { connector, state: watch::Sender::default(), spare: Arc::default() }
    }

    /// Returns the server's latest welcome to this reader, or to the client that it belongs to; empty before
    /// the first one.
    pub fn welcome(&self) -> Welcome {
        self.connector.seen.welcome()
    }

    /// Returns the state of the readings' connections, as a watch.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Reads entries once, up to the newest one committed when the answer begins: as they are stored, or as people [see
    /// them](Scope::shown).
    pub fn history(&self, scope: impl Into<Scope>) -> History {
        self.read(Ask::Select(scope.into().into()))
    }

    /// Reads several ranges once, in the given order. All are requested at once over one connection. Entries in
    /// two ranges are delivered twice.
    pub fn histories<S: Into<Scope>>(&self, ranges: impl IntoIterator<Item = S>) -> History {
        History::start_all(ranges.into_iter().map(|scope| Ask::Select(scope.into().into())), self.redial())
    }

    /// Like [`history`](Self::history), but by the block and several times as fast: every checksum is verified,
    /// and entries are decoded only on demand.
    pub fn blocks(&self, which: Which) -> Blocks {
        Blocks::start(ask_for(which), self.redial())
    }

    /// Reads the entries from `from` on, existing and future ones; only future ones if `None`.
    pub fn follow(&self, from: Option<u64>) -> History {
        self.read(Ask::Follow(from))
    }

    /// Reads the entries that match a filter, which the server evaluates. The filter's [scope](Filter::scope)
    /// may limit it to the newest ones, or reverse the order to newest first. A filter that breaks its limits
    /// is refused.
    pub fn select(&self, filter: Filter) -> History {
        match filter.check() {
            Ok(()) => self.read(Ask::Select(filter)),
            Err(refusal) => History::refused(refusal),
        }
    }

    /// Reads the entries that contain a text (smart case: case-sensitive only if the text has capitals). A text
    /// that is empty or longer than 65,535 bytes is refused.
    pub fn search(&self, text: impl Into<String>) -> History {
        self.select(Filter::of_text(text))
    }

    /// Reads an entry with all that answers it, directly or not: each entry comes right behind the one that it answers, or
    /// behind the older answers to that. [`Levels`](crate::Levels) tells how deep each is.
    pub fn thread(&self, seq: u64) -> History {
        self.read(Ask::Thread(seq))
    }

    /// Reads an entry and all its corrections as they are stored, the oldest first.
    pub fn versions(&self, seq: u64) -> History {
        self.read(Ask::Versions(seq))
    }

    /// Asks whether the server would take an append now. It takes as long as the server's disk does.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// [`Error::Refused`] with the refusal that an append would get; the errors of connecting;
    /// [`Error::TurnedAway`] and others if the connection ends before the answer.
    pub async fn check(&self) -> Result<(), Error> {
        let mut connection = self.connector.connect().await?;
        connection.outgoing.push(&ClientMessage::Check { id: 1 });
        connection.outgoing.flush().await.map_err(Error::broken)?;
        let answer = match connection.incoming.next().await? {
            ServerMessage::End { .. } => Ok(()),
            ServerMessage::Error { fatal: false, refusal, .. } => Err(Error::Refused(refusal)),
            ServerMessage::Error { refusal, .. } => return Err(lost_by(refusal)),
            ServerMessage::Bye { reason } => return Err(Error::Bye(reason)),
            _ => return Err(Error::protocol("unexpected answer")),
        };
        connection.goodbye().await;
        answer
    }

    fn read(&self, ask: Ask) -> History {
        History::start(ask, self.redial())
    }

    fn redial(&self) -> Redial {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        Redial::new(self.connector.clone(), Link::new(self.state.clone())).with_first(spare)
    }
}

fn ask_for(which: Which) -> Ask {
    Ask::Select(Scope::from(which).into())
}
