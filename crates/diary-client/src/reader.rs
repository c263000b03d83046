//! The handle of those who only read.

use std::sync::{Arc, Mutex, PoisonError};

use diary_proto::message::{ClientMessage, Resume, ServerMessage, Welcome};
use diary_proto::{Filter, Scope, Which};
use tokio::sync::watch;

use crate::address::Address;
use crate::append::Secret;
use crate::connection::{Connection, Connector, Seen, lost_by};
use crate::cursor::Ask;
use crate::error::Error;
use crate::history::{Blocks, History};
use crate::redial::Redial;
use crate::state::{Link, State};

/// Reads one server's diary, and writes nothing. Clones share what they know of it.
///
/// The first reading uses the connection that was made to see whether the server is there; each further one
/// makes its own. [`Client`](crate::Client) has the same readings.
#[derive(Clone)]
pub struct Reader {
    connector: Connector,
    state: watch::Sender<State>,
    /// The connection that no reading uses yet.
    spare: Arc<Mutex<Option<Connection>>>,
}

impl Reader {
    /// A reader that connects when it is first asked for something. Readings need a Tokio runtime around them, and
    /// connect again by themselves.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub fn new(address: Address) -> Result<Self, Error> {
        Self::at(address, None)
    }

    fn at(address: Address, place: Option<Resume>) -> Result<Self, Error> {
        let secret = Secret::random()?.bytes();
        Ok(Self::of(Connector { address, author: None, secret, seen: Seen::at(place) }))
    }

    /// A reader whose first connection is made now.
    ///
    /// # Errors
    /// If the connection fails or takes more than five seconds.
    pub async fn connect(address: Address) -> Result<Self, Error> {
        Self::connect_at(address, None).await
    }

    /// The same to a diary that has the entry at `place`, where that is known from before. A place with seq 0 stands for
    /// no entry, and only for the journal.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect), [`Error::OtherJournal`] and [`Error::Restored`].
    pub async fn connect_at(address: Address, place: Option<Resume>) -> Result<Self, Error> {
        let reader = Self::at(address, place)?;
        let first = reader.connector.connect_at(place).await?;
        *reader.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(first);
        Ok(reader)
    }

    pub(crate) fn of(connector: Connector) -> Self {
        Self { connector, state: watch::Sender::default(), spare: Arc::default() }
    }

    /// What the server said of itself when it last welcomed this reader, or the client whose reader it is; empty before
    /// that.
    pub fn welcome(&self) -> Welcome {
        self.connector.seen.welcome()
    }

    /// Whether its readings are connected, now and from now on.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Reads entries once, up to those that are committed when the answer begins.
    pub fn history(&self, scope: impl Into<Scope>) -> History {
        self.read(Ask::Select(scope.into().into()))
    }

    /// Reads several ranges once, one behind the other as they stand here: asked for all at once, over one connection.
    /// What is in two of them comes twice.
    pub fn histories(&self, ranges: impl IntoIterator<Item = Which>) -> History {
        History::start_all(ranges.into_iter().map(ask_for), self.redial())
    }

    /// The same by the block, several times as fast: every checksum is checked, and entries are read only
    /// where one asks for them.
    pub fn blocks(&self, which: Which) -> Blocks {
        Blocks::start(ask_for(which), self.redial())
    }

    /// Reads entries from one on, those that are there and those to come; from now on, if none is
    /// named.
    pub fn follow(&self, from: Option<u64>) -> History {
        self.read(Ask::Follow(from))
    }

    /// Reads the entries that a filter takes; the server looks for them. Only the newest so many, or with the newest
    /// first, if its [scope](Filter::scope) says so. A filter that breaks its limits is refused.
    pub fn select(&self, filter: Filter) -> History {
        match filter.check() {
            Ok(()) => self.read(Ask::Select(filter)),
            Err(refusal) => History::refused(refusal),
        }
    }

    /// Reads the entries that hold a text (smart case: capitals count only if it has one).
    /// A text that is empty or longer than 65,535 bytes is refused.
    pub fn search(&self, text: impl Into<String>) -> History {
        self.select(Filter::of_text(text))
    }

    /// Asks whether the server would take an append now. It takes as long as the server's disk does.
    ///
    /// Cancellation safe.
    ///
    /// # Errors
    /// [`Error::Refused`] with what an append would be refused with; those of connecting; [`Error::TurnedAway`] and others
    /// if the connection ends before the answer.
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
