//! The task behind a [`Client`](crate::Client). It owns the connection for appends and the unacked entries.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use diary_proto::message::{ClientMessage, ServerMessage, Welcome};
use diary_proto::{Code, Refusal};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::append::NotAcked;
use crate::connection::{Connection, lost_by};
use crate::error::Error;
use crate::redial::Redial;
use crate::window::{Open, Window};

/// Requests of the handles to the task.
pub(crate) enum Command {
    /// Append an entry.
    Append(Open),
    /// End once every entry is acked.
    Close(oneshot::Sender<Result<(), Error>>),
    /// End now.
    GiveUp(oneshot::Sender<Vec<NotAcked>>),
}

/// State shared by the handles and the task.
pub(crate) struct Shared {
    pub(crate) room: Arc<Semaphore>,
    pub(crate) welcome: Mutex<Welcome>,
    /// Why the task ended before it was told to.
    pub(crate) fate: OnceLock<Error>,
    /// Entries that were not acked then.
    pub(crate) left: Mutex<Vec<NotAcked>>,
}

impl Shared {
    pub(crate) fn fate(&self) -> Error {
        self.fate.get().cloned().unwrap_or(Error::Closed)
    }
}

/// Commands taken at once, before the socket is polled again.
const COMMANDS_AT_ONCE: usize = 1024;

pub(crate) struct Writer {
    queue: Queue,
    redial: Redial,
    shared: Arc<Shared>,
}

/// Work requested by the handles. Separate from the rest of the task, so that handles are served while a
/// connection is made.
struct Queue {
    commands: mpsc::Receiver<Command>,
    taken: Vec<Command>,
    window: Window,
    /// Closers waiting until every entry is acked.
    closers: Vec<oneshot::Sender<Result<(), Error>>>,
    /// Handle waiting for the unacked entries.
    giver_up: Option<oneshot::Sender<Vec<NotAcked>>>,
}

/// How a connection ended.
enum End {
    /// Reconnect.
    Lost(Error),
    /// Reconnect, since the server takes nothing more on this connection. It has no room.
    Full(Refusal),
    /// The client ends.
    Closed,
    /// The client fails for good.
    Failed(Error),
}

impl Writer {
    pub(crate) fn new(
        commands: mpsc::Receiver<Command>,
        window: Window,
        redial: Redial,
        shared: Arc<Shared>,
    ) -> Self {
        let queue = Queue { commands, taken: Vec::new(), window, closers: Vec::new(), giver_up: None };
        Self { queue, redial, shared }
    }
}

/// Serves the handles until the client ends. `first` is the first connection, or why it failed.
pub(crate) async fn run(mut writer: Writer, first: Result<Connection, Error>) {
    let mut end = match first {
        Ok(connection) => writer.serve(connection).await,
        Err(error) if error.is_final() => End::Failed(error),
        Err(error) => End::Lost(error),
    };
    loop {
        match &end {
            End::Lost(error) => writer.redial.lost(error),
            End::Full(refusal) => writer.redial.full(refusal),
            End::Closed | End::Failed(_) => break,
        }
        end = match writer.reconnect().await {
            Ok(connection) => writer.serve(connection).await,
            Err(end) => end,
        };
    }
    writer.finish(end);
}

impl Writer {
    /// Serves one connection until it ends.
    async fn serve(&mut self, mut connection: Connection) -> End {
        self.queue.window.restart();
        // Set once the server refuses an entry in a way that a later connection may accept. Nothing new is sent
        // then; once everything sent is answered, a new connection is made.
        let mut postponed: Option<Refusal> = None;
        loop {
            if self.queue.is_done() {
                connection.goodbye().await;
                return End::Closed;
            }
            match &postponed {
                Some(refusal) if self.queue.window.waiting() == 0 => {
                    return match refusal.code.is_for_now() {
                        true => End::Full(refusal.clone()),
                        false => End::Lost(Error::TurnedAway(refusal.clone())),
                    };
                }
                Some(_) => {}
                None => self.queue.fill(&mut connection),
            }
            let Connection { incoming, outgoing, .. } = &mut connection;
            tokio::select! {
                message = incoming.next() => {
                    match message.and_then(|message| self.take_in(message, &mut postponed)) {
                        Ok(()) => {}
                        Err(error) if error.is_final() => return End::Failed(error),
                        Err(error) => return End::Lost(error),
                    }
                }
                written = outgoing.write_some(), if !outgoing.is_empty() => {
                    if let Err(error) = written {
                        return End::Lost(Error::broken(error));
                    }
                }
                alive = self.queue.next() => {
                    if !alive || !self.queue.obey() {
                        return End::Closed;
                    }
                }
            }
        }
    }

    /// Handles a message of the server. An error ends the connection.
    fn take_in(&mut self, message: ServerMessage, postponed: &mut Option<Refusal>) -> Result<(), Error> {
        let window = &mut self.queue.window;
        match message {
            ServerMessage::Acks(runs) => {
                for run in runs {
                    window.ack(run)?;
                }
                self.redial.useful();
            }
            ServerMessage::Refused { first_counter, count, refusal } if is_passing(refusal.code) => {
                // Only these refusals guarantee that the entry is not stored.
                let stored = !refusal.code.is_for_now();
                window.postpone(first_counter, count, stored)?;
                *postponed = Some(refusal);
            }
            ServerMessage::Refused { first_counter, count, refusal } => {
                window.refuse(first_counter, count, &refusal)?;
                self.redial.useful();
            }
            // Any error means that no ack may follow: the next connection settles it.
            ServerMessage::Error { refusal, .. } => return Err(lost_by(refusal)),
            ServerMessage::Bye { reason } => return Err(Error::Bye(reason)),
            ServerMessage::Welcome(_)
            | ServerMessage::Answer { .. }
            | ServerMessage::Block { .. }
            | ServerMessage::End { .. } => {
                return Err(Error::protocol("unexpected answer"));
            }
        }
        Ok(())
    }

    /// Makes a new connection, serving the handles meanwhile.
    async fn reconnect(&mut self) -> Result<Connection, End> {
        let Self { queue, redial, shared } = self;
        let connecting = redial.connect(|welcome| {
            *shared.welcome.lock().unwrap_or_else(PoisonError::into_inner) = welcome.clone();
        });
        tokio::pin!(connecting);
        loop {
            // With nothing left to send, the client can end without a server.
            if queue.is_done() {
                return Err(End::Closed);
            }
            tokio::select! {
                connection = &mut connecting => return connection.map_err(End::Failed),
                alive = queue.next() => {
                    if !alive || !queue.obey() {
                        return Err(End::Closed);
                    }
                }
            }
        }
    }

    /// Notifies everyone who waits.
    fn finish(self, end: End) {
        let Self { mut queue, mut redial, shared } = self;
        shared.room.close();
        queue.commands.close();
        while let Ok(command) = queue.commands.try_recv() {
            queue.taken.push(command);
        }
        queue.obey();
        if let Some(reply) = queue.giver_up.take() {
            let _ = reply.send(queue.window.give_up());
        }
        let outcome = match end {
            End::Failed(error) | End::Lost(error) => {
                redial.ended(&error);
                let _ = shared.fate.set(error.clone());
                // Set before waiters are woken, so they see it.
                let mut left = shared.left.lock().unwrap_or_else(PoisonError::into_inner);
                *left = queue.window.give_up();
                Err(error)
            }
            End::Closed if queue.window.is_empty() => Ok(()),
            End::Closed | End::Full(_) => Err(Error::Closed),
        };
        queue.window.fail(outcome.as_ref().err().unwrap_or(&Error::Closed));
        for closer in queue.closers {
            let _ = closer.send(outcome.clone());
        }
    }
}

impl Queue {
    /// Waits for commands and stores them in `taken` for [`obey`](Self::obey). Returns false once every handle
    /// is dropped.
    ///
    /// Cancel safe, as `recv_many` is.
    async fn next(&mut self) -> bool {
        self.commands.recv_many(&mut self.taken, COMMANDS_AT_ONCE).await > 0
    }

    /// Executes the commands taken; false if the client is to end now.
    fn obey(&mut self) -> bool {
        for command in self.taken.drain(..) {
            match command {
                Command::Append(entry) => self.window.push(entry),
                Command::Close(reply) => self.closers.push(reply),
                Command::GiveUp(reply) => self.giver_up = Some(reply),
            }
        }
        self.giver_up.is_none()
    }

    /// Returns whether every entry is acked and a handle waits for that.
    fn is_done(&self) -> bool {
        !self.closers.is_empty() && self.window.is_empty()
    }

    /// Queues the next append once the previous one is written.
    fn fill(&mut self, connection: &mut Connection) {
        if connection.outgoing.is_empty()
            && let Some(append) = self.window.next_append()
        {
            connection.outgoing.push(&ClientMessage::Append(append));
        }
    }
}

/// Returns whether a later connection may accept the same entry with the same key.
///
/// `unknown-outcome` is such a refusal, since the key tells the next server whether the entry was stored. A
/// server without room refuses everything sent after it on the same connection, so the next connection starts
/// in order.
fn is_passing(code: Code) -> bool {
    code.is_for_now() || matches!(code, Code::UnknownOutcome | Code::Stopping | Code::DiskFailed | Code::Busy)
}
