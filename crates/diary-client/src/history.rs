//! Readings: history, follow and search, each on a connection of its own.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use diary_proto::Refusal;
use futures::Stream;
use tokio::sync::mpsc;

use crate::connection::{Connection, Seen};
use crate::cursor::{Ask, Cursor, Gather, Taken};
use crate::error::Error;
use crate::event::{Block, Event};
use crate::redial::Redial;

/// Blocks that may wait for the consumer, each up to a frame of lines. Behind them the socket is not
/// read: the server waits, and holds nothing for it.
const BLOCKS_WAITING_MAX: usize = 2;

/// What a reading's task hands over: what it made of a block, or the error that ends it.
type Delivery<G> = Result<G, Error>;

/// Entries as they are read. Made by [`Client::history`](crate::Client::history),
/// [`Client::follow`](crate::Client::follow), [`Client::select`](crate::Client::select) and
/// [`Client::search`](crate::Client::search); also a
/// [`Stream`].
///
/// A lost connection does not end it: it goes on where it was, without a gap and without a double. It
/// has a connection of its own, so whoever stops reading for a while holds up nothing else. Dropping it
/// ends it.
pub struct History {
    deliveries: mpsc::Receiver<Delivery<Vec<Event>>>,
    ready: VecDeque<Event>,
}

/// A history by the block, for programs that read a lot of it: made by
/// [`Client::blocks`](crate::Client::blocks), and otherwise the same as [`History`].
pub struct Blocks {
    deliveries: mpsc::Receiver<Delivery<Block>>,
}

impl Blocks {
    pub(crate) fn start(ask: Ask, redial: Redial) -> Self {
        Self { deliveries: Reading::start([ask], redial) }
    }

    /// The next block; `None` at the end. An error is the last one. Cancellation safe.
    pub async fn next(&mut self) -> Option<Result<Block, Error>> {
        self.deliveries.recv().await
    }
}

impl History {
    pub(crate) fn start(ask: Ask, redial: Redial) -> Self {
        Self::start_all([ask], redial)
    }

    /// All of them, one after the other.
    pub(crate) fn start_all(asks: impl IntoIterator<Item = Ask>, redial: Redial) -> Self {
        Self { deliveries: Reading::start(asks, redial), ready: VecDeque::new() }
    }

    /// A reading that cannot even be asked for.
    pub(crate) fn refused(refusal: Refusal) -> Self {
        let (sender, deliveries) = mpsc::channel(1);
        // The channel is empty, and this is all that goes in.
        let _ = sender.try_send(Err(Error::Refused(refusal)));
        Self { deliveries, ready: VecDeque::new() }
    }

    /// The next event; `None` at the end, which a follow does not have. An error is the last one.
    ///
    /// Cancellation safe.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            match ready!(self.deliveries.poll_recv(cx)) {
                Some(Ok(events)) => self.ready = events.into(),
                Some(Err(error)) => {
                    self.deliveries.close();
                    return Poll::Ready(Some(Err(error)));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Stream for History {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(cx)
    }
}

/// The task behind a reading.
struct Reading<G> {
    /// What is being answered, and what was asked for behind it.
    cursors: VecDeque<Cursor>,
    /// What had been seen when its last connection was made.
    seen: Seen,
    redial: Redial,
    sender: mpsc::Sender<Delivery<G>>,
}

/// How a connection of a reading ended.
enum End {
    /// It is to be made anew.
    Lost(Error),
    /// All was delivered.
    Done(Box<Connection>),
    /// Nothing more can be done.
    Failed(Error),
    /// Nobody reads any more.
    Dropped,
}

impl<G: Gather + Send + 'static> Reading<G> {
    fn start(asks: impl IntoIterator<Item = Ask>, redial: Redial) -> mpsc::Receiver<Delivery<G>> {
        let (sender, deliveries) = mpsc::channel(BLOCKS_WAITING_MAX);
        let seen = redial.seen();
        let reading = Self { cursors: Cursor::in_turn(asks, &seen), seen, redial, sender };
        tokio::spawn(reading.run());
        deliveries
    }

    async fn run(mut self) {
        let sender = self.sender.clone();
        let end = tokio::select! {
            end = self.read() => end,
            () = sender.closed() => End::Dropped,
        };
        // What ends now no longer counts as lost, and the consumer learns it before the farewell.
        drop(self);
        match end {
            End::Done(connection) => {
                drop(sender);
                connection.goodbye().await;
            }
            End::Failed(error) => drop(sender.send(Err(error)).await),
            End::Lost(_) | End::Dropped => {}
        }
    }

    /// Reads on until the end, over as many connections as it takes.
    async fn read(&mut self) -> End {
        loop {
            let connection = match self.redial.connect(|_| {}).await {
                Ok(connection) => connection,
                Err(error) => return End::Failed(error),
            };
            match self.read_connection(connection).await {
                End::Lost(error @ Error::OtherJournal(_)) => return End::Failed(error),
                End::Lost(error) => self.redial.lost(&error),
                end => return end,
            }
        }
    }

    async fn read_connection(&mut self, mut connection: Connection) -> End {
        let was_restored = self.seen.is_before(&connection.seen);
        self.seen = connection.seen.clone();
        while self.cursors.pop_front_if(|cursor| cursor.request().is_none()).is_some() {}
        let mut gathered = G::default();
        for cursor in &mut self.cursors {
            let head = connection.welcome.head;
            if let Err(error) = cursor.connected(&self.seen, head, was_restored, &mut gathered) {
                return End::Failed(error);
            }
        }
        if !gathered.is_empty() && self.sender.send(Ok(gathered)).await.is_err() {
            return End::Dropped;
        }
        let requests = self.cursors.iter().filter_map(Cursor::request);
        requests.for_each(|request| connection.outgoing.push(&request));
        if let Err(error) = connection.outgoing.flush().await {
            return End::Lost(Error::broken(error));
        }
        while let Some(cursor) = self.cursors.front_mut() {
            let mut gathered = G::default();
            let taken = match connection.incoming.next().await {
                Ok(message) => cursor.take_in(message, &mut gathered),
                Err(error) => Err(error),
            };
            if !gathered.is_empty() {
                self.redial.useful();
                if self.sender.send(Ok(gathered)).await.is_err() {
                    return End::Dropped;
                }
            }
            match taken {
                Ok(Taken::More) => {}
                Ok(Taken::Done) => drop(self.cursors.pop_front()),
                Ok(Taken::Failed(error)) => return End::Failed(error),
                Err(error) => return End::Lost(error),
            }
        }
        End::Done(Box::new(connection))
    }
}
