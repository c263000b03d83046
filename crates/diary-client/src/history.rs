//! Readings: history, follow and search, each on a connection of its own.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use diary_proto::Refusal;
use futures::Stream;
use tokio::sync::mpsc;

use crate::connection::Connection;
use crate::cursor::{Ask, Cursor, Gather, Taken};
use crate::error::Error;
use crate::event::{Block, Event};
use crate::redial::Redial;
use crate::seen::Seen;

/// Blocks that may wait for the consumer, each up to a frame of lines. Beyond that the socket is not read: the
/// server waits, and buffers nothing for it.
const BLOCKS_WAITING_MAX: usize = 2;

/// Output of a reading's task: what it gathered from a block, or the error that ends it.
type Delivery<G> = Result<G, Error>;

/// A stream of entries. Created by [`Client::history`](crate::Client::history),
/// [`Client::follow`](crate::Client::follow), [`Client::select`](crate::Client::select) and
/// [`Client::search`](crate::Client::search). Implements [`Stream`].
///
/// A lost connection does not end it: it resumes where it was, without gaps or duplicates. It has a connection
/// of its own, so a consumer that pauses delays nothing else. Dropping it ends the reading.
pub struct History {
    deliveries: mpsc::Receiver<Delivery<Vec<Event>>>,
    ready: VecDeque<Event>,
}

/// A history by the block, for programs that read a lot. Created by [`Client::blocks`](crate::Client::blocks);
/// otherwise like [`History`].
pub struct Blocks {
    deliveries: mpsc::Receiver<Delivery<Block>>,
}

impl Blocks {
    pub(crate) fn start(ask: Ask, redial: Redial) -> Self {
        Self { deliveries: Reading::start([ask], redial) }
    }

    /// Returns the next block; `None` at the end. An error is the last item. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Block, Error>> {
        self.deliveries.recv().await
    }
}

impl History {
    pub(crate) fn start(ask: Ask, redial: Redial) -> Self {
        Self::start_all([ask], redial)
    }

    /// Reads `asks` one after the other.
    pub(crate) fn start_all(asks: impl IntoIterator<Item = Ask>, redial: Redial) -> Self {
        Self { deliveries: Reading::start(asks, redial), ready: VecDeque::new() }
    }

    /// Creates a reading that fails with `refusal` before it is requested.
    pub(crate) fn refused(refusal: Refusal) -> Self {
        let (sender, deliveries) = mpsc::channel(1);
        // Cannot fail: the channel is empty, and nothing else is sent.
        let _ = sender.try_send(Err(Error::Refused(refusal)));
        Self { deliveries, ready: VecDeque::new() }
    }

    /// Returns the next event; `None` at the end, which a follow never reaches. An error is the last item.
    ///
    /// Cancel safe.
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
    /// Requests in order; the first one is being answered.
    cursors: VecDeque<Cursor>,
    /// State seen when the last connection was made.
    seen: Seen,
    redial: Redial,
    sender: mpsc::Sender<Delivery<G>>,
}

/// How a connection of a reading ended.
enum End {
    /// Reconnect.
    Lost(Error),
    /// Everything was delivered.
    Done(Box<Connection>),
    /// The reading fails for good.
    Failed(Error),
    /// The consumer dropped the reading.
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
        // Drop before the farewell: the state no longer counts this connection as lost when the consumer sees
        // the end.
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

    /// Reads to the end, over as many connections as needed.
    async fn read(&mut self) -> End {
        loop {
            let connection = match self.redial.connect(|_| {}).await {
                Ok(connection) => connection,
                Err(error) => return End::Failed(error),
            };
            match self.read_connection(connection).await {
                End::Lost(error) if error.is_final() => return End::Failed(error),
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
