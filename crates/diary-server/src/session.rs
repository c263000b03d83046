//! A session: one connection's conversation, whichever mode, in one task.
//!
//! Answers leave in the order of the requests. Appends go to the writer as they are read, and a line of
//! pending answers remembers their order; a command waits in that line until all before it is answered,
//! and nothing behind it is read meanwhile.

mod answers;
mod input;
mod pending;
mod unsent;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;

use diary_engine::{Appends, Journal, Outcome, ReadError, Reading};
use diary_proto::message::Hello;
use diary_proto::{Author, Code, Producer, Refusal};
use tokio::io::{Interest, Ready};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::context::Context;
use crate::front::{Answer, Front};
use crate::limits::{LINGER_MAX, LINGER_MAX_BYTES, READS_IN_A_ROW_MAX, UNSENT_FILL_BYTES};
use crate::partial::Partial;
use crate::socket::Socket;
use crate::stream::{Piece, Stream};
use input::SCRATCH;
use pending::{Entries, Pending};
use unsent::Unsent;

/// One connection's conversation.
pub(crate) struct Session {
    context: Arc<Context>,
    socket: Socket,
    front: Front,
    author: Arc<Author>,
    producer: Option<Producer>,
    phase: Phase,
    /// Answers that are not sent yet.
    out: Unsent,
    /// Answers that are not made yet, in their order.
    pending: VecDeque<Pending>,
    /// Bytes of appends that are not answered yet.
    unacked_bytes: usize,
    /// Input that was read and not decoded, because something before it must be answered first.
    stash: Vec<u8>,
    /// There may be a message in `stash`, or in the front.
    undecoded: bool,
    /// A message that has begun to arrive.
    partial: Partial,
    /// Waiting for room: to read, or to append what was read.
    admission: Option<Admission>,
    /// The command that is being done.
    task: Option<Box<Task>>,
    follow: Option<Box<Stream>>,
    hello_until: Option<Instant>,
    /// Reads since others had their turn; as many as are allowed, if the last one brought all that fits.
    reads_in_a_row: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The client has said all that it will; it still reads.
    InputEnded,
    /// The server stops: what was read is answered.
    Draining,
    /// The last answer is made.
    Closing,
}

type Acquire = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

struct Admission {
    room: Acquire,
    /// `None`: room to read.
    appends: Option<(Appends, Entries)>,
}

enum Task {
    Stream(Stream),
    Hello(Hello, Reading<bool>),
}

/// What a session waits for.
enum Event {
    Outcome(Outcome),
    Room(Result<OwnedSemaphorePermit, AcquireError>),
    Ready(io::Result<Ready>),
    Task(TaskEvent),
    Follow(Result<Piece, ReadError>),
    Stop,
    Evicted,
    Late,
}

enum TaskEvent {
    Piece(Result<Piece, ReadError>),
    Resumed(bool),
}

impl Session {
    /// A session that begins with `greeting`. Boxed, because the tasks that it goes through would each keep
    /// room for it.
    pub(crate) fn new(
        context: Arc<Context>,
        socket: Socket,
        front: Front,
        author: Author,
        greeting: String,
    ) -> Box<Self> {
        let partial = Partial::new(Arc::clone(&context.partials));
        Box::new(Self {
            context,
            socket,
            front,
            author: Arc::new(author),
            producer: None,
            phase: Phase::Open,
            out: Unsent::new(greeting),
            pending: VecDeque::new(),
            unacked_bytes: 0,
            stash: Vec::new(),
            undecoded: false,
            partial,
            admission: None,
            task: None,
            follow: None,
            hello_until: None,
            reads_in_a_row: 0,
        })
    }

    /// Talks until either side ends it.
    ///
    /// # Errors
    /// Those of the socket. What was handed to the writer is committed all the same.
    pub(crate) async fn run(mut self: Box<Self>) -> io::Result<()> {
        // It waits from the first to the last: to begin anew each time would contend for the token's list.
        let mut stop = pin!(self.context.stop.clone().cancelled_owned());
        loop {
            self.advance();
            self.out.flush(&self.socket)?;
            if self.is_over() {
                // An idle connection has no use for its room.
                return Box::pin(close(self.socket)).await;
            }
            // What was sent has made room, and nothing else would wake us for it.
            if self.can_advance() {
                continue;
            }
            let event = self.next_event(stop.as_mut()).await;
            self.handle(event)?;
            if self.reads_in_a_row >= READS_IN_A_ROW_MAX {
                // Input that needs no answer would never let go of the thread: a ready socket costs nothing
                // of a task's budget.
                self.reads_in_a_row = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits for whatever can happen next. Cancellation safe, as each of its branches is.
    async fn next_event(&mut self, stop: Pin<&mut WaitForCancellationFutureOwned>) -> Event {
        let (takes_input, has_room) = (self.takes_input(), self.out.len() < UNSENT_FILL_BYTES);
        let late = self.late_at();
        let Self { context, socket, out, pending, partial, admission, task, follow, phase, .. } = self;
        let interest = match (takes_input && admission.is_none() && *phase == Phase::Open, out.len() > 0) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
            (false, false) => Interest::ERROR,
        };
        let open = matches!(phase, Phase::Open | Phase::InputEnded);
        // Not biased: whoever sends without end must not keep what it follows, or the stop, from its turn.
        tokio::select! {
            outcome = outcome_of(pending.front_mut()), if has_room => Event::Outcome(outcome),
            room = room_of(admission.as_mut()) => Event::Room(room),
            ready = socket.ready(interest) => Event::Ready(ready),
            event = step(task.as_deref_mut(), &context.journal), if has_room => Event::Task(event),
            piece = follow_on(follow.as_deref_mut(), &context.journal), if has_room && task.is_none() => Event::Follow(piece),
            () = stop, if open => Event::Stop,
            () = partial.evicted() => Event::Evicted,
            () = reached(late) => Event::Late,
        }
    }

    fn handle(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Outcome(outcome) => self.settle(outcome),
            Event::Room(Ok(room)) => self.admit(room)?,
            // The semaphore is never closed.
            Event::Room(Err(_)) => {}
            Event::Ready(ready) => {
                let ready = ready?;
                if ready.is_error() && !ready.is_readable() {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                if ready.is_readable() && self.phase == Phase::Open && self.takes_input() {
                    self.read_with_room()?;
                }
            }
            Event::Task(TaskEvent::Resumed(same)) => self.finish_hello(same),
            Event::Task(TaskEvent::Piece(piece)) => self.take_piece(piece),
            Event::Follow(piece) => self.take_followed(piece),
            Event::Stop => self.begin_drain(),
            Event::Evicted => {
                let message = "the server has too much unfinished input, and yours has waited the longest";
                self.fail(&Refusal::new(Code::Busy, message));
            }
            Event::Late if self.hello_until.is_some() => {
                self.fail(&Refusal::new(Code::Hello, "no Hello came in time"));
            }
            Event::Late => return Err(io::ErrorKind::TimedOut.into()),
        }
        Ok(())
    }

    /// The server stops: nothing more is read, and what was read is answered.
    fn begin_drain(&mut self) {
        self.phase = Phase::Draining;
        self.follow = None;
        self.admission.take_if(|admission| admission.appends.is_none());
        if let Some(Task::Stream(stream)) = self.task.take().map(|task| *task) {
            let refusal = stopping();
            self.front.encode(
                Answer::Error { id: stream.id, fatal: false, refusal: &refusal },
                &mut self.out.bytes,
            );
        }
    }

    fn say_bye(&mut self, reason: &str) {
        self.front.encode(Answer::Bye(reason), &mut self.out.bytes);
        self.end();
    }

    /// Tells the client why the connection cannot go on, and ends it.
    fn fail(&mut self, refusal: &Refusal) {
        self.front.encode(Answer::Error { id: 0, fatal: true, refusal }, &mut self.out.bytes);
        self.end();
    }

    /// The last answer is made: nothing may come behind it.
    fn end(&mut self) {
        self.phase = Phase::Closing;
        self.task = None;
        self.follow = None;
        self.admission = None;
        self.hello_until = None;
        self.undecoded = false;
        self.stash = Vec::new();
        self.partial.set(0, false);
    }

    fn is_over(&self) -> bool {
        self.phase == Phase::Closing && self.out.len() == 0
    }

    /// When this connection has waited too long.
    fn late_at(&self) -> Option<Instant> {
        let stalled = self.out.stalled_since.map(|since| since + self.context.limits.stall);
        stalled.into_iter().chain(self.hello_until).min()
    }
}

/// Closes so that the peer gets the last answer: a connection that is closed with input unread is reset, and
/// what was on its way is lost.
async fn close(socket: Socket) -> io::Result<()> {
    socket.shutdown_write()?;
    let drain = async {
        let mut left = LINGER_MAX_BYTES;
        while left > 0 {
            socket.ready(Interest::READABLE).await?;
            match SCRATCH.with_borrow_mut(|scratch| socket.try_read(scratch)) {
                Ok(0) => break,
                Ok(read) => left = left.saturating_sub(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    tokio::time::timeout(LINGER_MAX, drain).await.unwrap_or(Ok(()))
}

// What few sessions wait for is boxed: the others keep no room for it.

async fn reached(late: Option<Instant>) {
    match late {
        Some(late) => Box::pin(sleep_until(late)).await,
        None => std::future::pending().await,
    }
}

async fn outcome_of(front: Option<&mut Pending>) -> Outcome {
    match front {
        Some(Pending::Appended { outcome, .. }) => outcome.await,
        _ => std::future::pending().await,
    }
}

async fn room_of(admission: Option<&mut Admission>) -> Result<OwnedSemaphorePermit, AcquireError> {
    match admission {
        Some(admission) => admission.room.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn step(task: Option<&mut Task>, journal: &Journal) -> TaskEvent {
    match task {
        Some(Task::Stream(stream)) => TaskEvent::Piece(Box::pin(stream.next(journal)).await),
        // What cannot be read cannot be told to be another journal.
        Some(Task::Hello(_, has)) => TaskEvent::Resumed(!matches!(has.await, Ok(false))),
        None => std::future::pending().await,
    }
}

async fn follow_on(follow: Option<&mut Stream>, journal: &Journal) -> Result<Piece, ReadError> {
    match follow {
        Some(stream) => Box::pin(stream.next(journal)).await,
        None => std::future::pending().await,
    }
}

fn acquire(room: Arc<Semaphore>, bytes: usize) -> Acquire {
    Box::pin(room.acquire_many_owned(permits(bytes)))
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("appends are far below 4 GiB")
}

fn stopping() -> Refusal {
    Refusal::new(Code::Stopping, "the server stops; ask again when it is back")
}
