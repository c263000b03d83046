//! A session: one connection's conversation, whichever mode, in one task.
//!
//! Three stages, one behind the other:
//!
//! - `input` reads the transport and decodes requests, as long as the queue takes more;
//! - `queue` holds the requests that are not answered, in their order;
//! - `answerer` does what is at the front, and writes its answer down.
//!
//! [`Session::run`] moves them until nothing more can happen, and then waits for the next event.

mod answerer;
mod input;
mod journals;
mod login;
#[cfg(test)]
mod model;
mod queue;
mod stream;
#[cfg(test)]
mod tests;

use std::future::{Future, pending};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;

use diary_engine::{InOrder, Journal, Outcome, ReadError, Searcher};
use diary_proto::{Code, Producer, Refusal};
use tokio::io::Ready;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::budget::{Account, Share};
use crate::context::{Context, Offer};
use crate::front::line::Voice;
use crate::front::quiet;
use crate::front::refusals::RefusalLog;
use crate::front::{Answer, Decoder, Encoder};
use crate::limits::{READS_IN_A_ROW_MAX, STALL_LOOKS, UNSENT_FILL_BYTES};
use crate::peer::Peer;
use crate::transport::Transport;
use input::Granted;
use journals::Listed;
use queue::{Queue, Slot};
use stream::{Piece, Stream};

/// One connection's conversation.
pub(crate) struct Session {
    context: Arc<Context>,
    /// The journal that it is in, and whether it may go to others.
    offer: Offer,
    transport: Transport,
    peer: Peer,
    /// A frame client's, since its Hello, and what keeps its appends in order.
    producer: Option<(Producer, InOrder)>,
    phase: Phase,

    decoder: Decoder,
    /// Input that was read and not decoded, because something before it must be answered first.
    stash: Vec<u8>,
    /// There may be a message in `stash`, or in the decoder.
    undecoded: bool,
    /// Waiting for memory to read, or for room to append what was read.
    admission: Option<Pin<Box<dyn Future<Output = Granted> + Send>>>,
    /// Reads since others had their turn; as many as are allowed, if the last one brought all that fits.
    reads_in_a_row: u32,
    hello_until: Option<Instant>,
    input: Account,
    /// Since when the peer is waited for, to end a message that is counted.
    unfinished_since: Option<Instant>,

    queue: Queue,

    encoder: Encoder,
    /// The log has been told that something was not permitted.
    told_refused: bool,
    follow: Option<Box<Stream>>,
    /// Since its first search.
    searcher: Option<Searcher>,
    answers: Account,
    _uncounted: Share,
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

/// What a session waits for.
enum Event {
    Outcome(Outcome),
    Granted(Granted),
    Ready(io::Result<Ready>),
    Piece(Result<Piece, ReadError>),
    Resumed(bool),
    Checked(u32, Result<(), Refusal>),
    Opened(Result<Arc<Journal>, Refusal>),
    Listed(Listed),
    /// A token has waited long enough.
    LoginDue,
    /// What is followed may not be read any more.
    Forbidden(Refusal),
    Followed(Result<Piece, ReadError>),
    Stop,
    Evicted(Memory),
    Late,
}

/// What a session holds memory for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    Input,
    Answers,
}

impl Session {
    /// A session that has said nothing but its greeting, with a client that speaks in either mode. Boxed, because the tasks
    /// that it goes through would each keep room for it.
    pub(crate) fn new(context: Arc<Context>, offer: Offer, transport: Transport, peer: Peer) -> Box<Self> {
        Self::begin(context, offer, transport, peer, Decoder::NEW, Encoder::Line(Voice::Full))
    }

    /// A session with a program that never reads: every message is a text, nothing is answered.
    pub(crate) fn quiet(
        context: Arc<Context>,
        offer: Offer,
        transport: Transport,
        peer: Peer,
        log: RefusalLog,
    ) -> Box<Self> {
        let voice = quiet::Voice { log, ip: peer.ip, peer: peer.address.clone() };
        Self::begin(context, offer, transport, peer, Decoder::QUIET, Encoder::Quiet(Box::new(voice)))
    }

    /// The same, with input that was read before.
    pub(crate) fn with_input(mut self: Box<Self>, input: Vec<u8>) -> Box<Self> {
        self.undecoded = !input.is_empty();
        self.stash = input;
        self
    }

    fn begin(
        context: Arc<Context>,
        offer: Offer,
        transport: Transport,
        peer: Peer,
        decoder: Decoder,
        encoder: Encoder,
    ) -> Box<Self> {
        let (input, answers) = (Account::new(&context.input), Account::new(&context.answers));
        let uncounted = context.uncounted.share();
        Box::new(Self {
            context,
            offer,
            transport,
            peer,
            producer: None,
            phase: Phase::Open,
            decoder,
            stash: Vec::new(),
            undecoded: false,
            admission: None,
            reads_in_a_row: 0,
            hello_until: None,
            input,
            unfinished_since: None,
            queue: Queue::default(),
            encoder,
            told_refused: false,
            follow: None,
            searcher: None,
            answers,
            _uncounted: uncounted,
        })
    }

    /// Who is at the other end.
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Talks until either side ends it. Dropping it closes the connection without a goodbye.
    ///
    /// # Errors
    /// Those of the socket. What was handed to the writer is committed all the same.
    pub(crate) async fn run(mut self: Box<Self>) -> io::Result<()> {
        // Polled from the first to the last: to begin anew each time would contend for the token's list.
        let mut stop = pin!(self.context.stop.clone().cancelled_owned());
        loop {
            self.advance();
            self.transport.flush()?;
            if self.phase == Phase::Closing && self.transport.unsent_bytes() == 0 && self.transport.end()? {
                // Boxed so that an idle connection does not hold its space.
                let Self { transport, .. } = *self;
                return Box::pin(transport.close()).await;
            }
            // What was sent has made room, and nothing else would wake us for it.
            if self.can_advance() {
                continue;
            }
            self.count_memory();
            let event = self.next_event(stop.as_mut()).await;
            self.handle(event)?;
            if self.reads_in_a_row >= READS_IN_A_ROW_MAX {
                // Yield: a ready socket costs nothing of a task's budget, so input that needs no answer might never pend.
                self.reads_in_a_row = 0;
                self.count_memory();
                tokio::task::yield_now().await;
            }
        }
    }

    /// Does everything that needs no waiting.
    fn advance(&mut self) {
        loop {
            self.answer();
            if !(self.undecoded && self.takes_input()) {
                break;
            }
            self.decode_stash();
        }
        let done = self.queue.is_empty() && !self.undecoded;
        match self.phase {
            Phase::InputEnded if done && self.follow.is_none() => self.phase = Phase::Closing,
            Phase::Draining if done => self.say_bye(": shutting down"),
            _ => {}
        }
    }

    /// Whether [`advance`](Self::advance) would do something now.
    fn can_advance(&self) -> bool {
        self.phase != Phase::Closing && (self.can_answer() || (self.undecoded && self.takes_input()))
    }

    /// Waits for whatever can happen next. Cancel safe, as each of its branches is.
    async fn next_event(&mut self, stop: Pin<&mut WaitForCancellationFutureOwned>) -> Event {
        let reads = self.phase == Phase::Open && self.admission.is_none() && self.takes_input();
        let (may_answer, late) = (self.may_answer(), self.late_at());
        let Self { context, offer, transport, peer, queue, input, answers, admission, follow, phase, .. } =
            self;
        let between_answers = !matches!(queue.front(), Some(Slot::Stream(_)));
        // What is reserved is taken as soon as it comes: nobody can be blamed for it meanwhile.
        let first_has_reserved = matches!(queue.front(), Some(Slot::Stream(stream)) if stream.has_reserved());
        let follow_has_reserved = follow.as_ref().is_some_and(|follow| follow.has_reserved());
        let open = matches!(phase, Phase::Open | Phase::InputEnded);
        // Not biased: whoever sends without end must not keep what it follows, or the stop, from its turn.
        tokio::select! {
            event = front(queue.front_mut(), context), if may_answer || first_has_reserved => event,
            granted = granted(admission.as_mut()) => Event::Granted(granted),
            ready = transport.ready(reads) => Event::Ready(ready),
            piece = followed(follow.as_deref_mut(), context), if (may_answer || follow_has_reserved) && between_answers => Event::Followed(piece),
            refusal = forbidden(context, peer, offer), if follow.is_some() && peer.login.is_some() && may_answer && between_answers => Event::Forbidden(refusal),
            () = stop, if open => Event::Stop,
            () = input.evicted() => Event::Evicted(Memory::Input),
            () = answers.evicted() => Event::Evicted(Memory::Answers),
            () = reached(late) => Event::Late,
        }
    }

    fn handle(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Outcome(outcome) => self.queue.settle(outcome),
            Event::Granted(granted) => self.take_granted(granted)?,
            Event::Ready(ready) => {
                let ready = ready?;
                if ready.is_error() && !ready.is_readable() {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                if ready.is_readable() && self.phase == Phase::Open && !self.undecoded && self.takes_input() {
                    self.read_with_room()?;
                }
            }
            Event::Resumed(same) => self.finish_resuming(same),
            Event::Checked(id, answer) => self.finish_check(id, answer),
            Event::Opened(opened) => self.finish_opening(opened),
            Event::Listed(names) => self.finish_listing(names),
            Event::LoginDue => self.finish_waiting_login(),
            Event::Forbidden(refusal) => self.end_follow(&refusal),
            Event::Piece(piece) => self.take_piece(piece),
            Event::Followed(piece) => self.take_followed(piece),
            Event::Stop => self.begin_drain(),
            Event::Evicted(memory) => self.evict(memory)?,
            Event::Late if self.hello_until.is_some_and(|until| until <= Instant::now()) => {
                self.fail(&Refusal::new(Code::Hello, "no Hello came in time"));
            }
            Event::Late => {
                let goes_on = self.transport.look()?;
                if !goes_on && self.transport.is_stalled_for(self.context.limits.stall)? {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
        Ok(())
    }

    /// Others need the memory, and this peer is the one that is waited for the longest.
    fn evict(&mut self, memory: Memory) -> io::Result<()> {
        let awaits_input = memory == Memory::Input && self.unfinished_since.is_some();
        if !awaits_input && self.transport.look()? {
            // It takes answers, slowly. Those that take none go first.
            let account = if memory == Memory::Input { &mut self.input } else { &mut self.answers };
            account.spare(self.transport.stalled_since());
            return Ok(());
        }
        if self.phase == Phase::Closing || self.transport.stalled_since().is_some() {
            // It has been told, or can be told nothing.
            return Err(io::ErrorKind::TimedOut.into());
        }
        let message =
            "the server needs the memory that this connection takes, and it has waited for you the longest";
        self.fail(&Refusal::new(Code::Busy, message));
        Ok(())
    }

    /// The server stops: nothing more is read, and what was read is answered.
    fn begin_drain(&mut self) {
        self.phase = Phase::Draining;
        self.follow = None;
        if self.queue.waiting().is_none() {
            // It waits for room to read.
            self.admission = None;
        }
        match self.queue.front() {
            Some(Slot::Stream(stream)) => {
                let id = stream.id;
                self.queue.pop_front();
                self.refuse(id, &stopping());
            }
            Some(Slot::LoggingIn(_)) => {
                self.queue.pop_front();
                self.refuse(0, &stopping());
            }
            _ => {}
        }
    }

    fn say_bye(&mut self, reason: &str) {
        self.encoder.encode(Answer::Bye(reason), &mut self.transport.out);
        self.end();
    }

    /// A request cannot be served.
    fn refuse(&mut self, id: u32, refusal: &Refusal) {
        self.tell_refused(refusal);
        self.encoder.encode(Answer::Error { id, fatal: false, refusal }, &mut self.transport.out);
    }

    /// Tells the client why the connection cannot go on, and ends it.
    fn fail(&mut self, refusal: &Refusal) {
        self.tell_refused(refusal);
        self.encoder.encode(Answer::Error { id: 0, fatal: true, refusal }, &mut self.transport.out);
        self.end();
    }

    /// The last answer is made: nothing may come behind it.
    fn end(&mut self) {
        self.phase = Phase::Closing;
        self.queue.clear();
        self.follow = None;
        self.admission = None;
        self.hello_until = None;
        self.undecoded = false;
        self.stash = Vec::new();
        self.decoder = Decoder::NEW;
        self.input.clear();
    }

    /// Unsent answers from which on no more are made. While memory is short, that is any.
    fn fill_bytes(&self) -> usize {
        if self.context.answers.has_room() { UNSENT_FILL_BYTES } else { 1 }
    }

    /// Tells the budgets what is held now, and who is to blame for it.
    fn count_memory(&mut self) {
        let stalled_since = self.transport.stalled_since();
        let undecoded = self.transport.input_bytes() + self.decoder.partial_bytes() + self.stash.len();
        let input = undecoded + self.queue.waiting_bytes();
        let free = input <= self.context.input.free_bytes();
        let waits_for_input = self.phase == Phase::Open && self.admission.is_none() && self.takes_input();
        let since = match waits_for_input && !free {
            true => Some(*self.unfinished_since.get_or_insert_with(Instant::now)),
            // The time that the server takes is not the peer's.
            false => {
                self.unfinished_since = None;
                stalled_since
            }
        };
        self.input.set(input, since.filter(|_| self.queue.waiting_bytes() == 0));
        self.answers.set(self.transport.held_bytes() + self.queue.held_bytes(), stalled_since);
    }

    /// When it has to be looked whether this connection has waited too long.
    fn late_at(&self) -> Option<Instant> {
        let every = self.context.limits.stall / STALL_LOOKS;
        let look = self.transport.looked_at().map(|looked| looked + every);
        look.into_iter().chain(self.hello_until).min()
    }
}

// What `next_event` polls. All are cancel safe: what they wait for stays in the session. Boxed where rare, so that such
// futures do not enlarge every session.

async fn reached(late: Option<Instant>) {
    match late {
        Some(late) => Box::pin(sleep_until(late)).await,
        None => pending().await,
    }
}

/// What the front of the queue waits for.
async fn front(slot: Option<&mut Slot>, context: &Arc<Context>) -> Event {
    match slot {
        Some(Slot::Appended(receipt, _)) => Event::Outcome(receipt.await),
        Some(Slot::Stream(stream)) => Event::Piece(Box::pin(stream.next(context)).await),
        // What cannot be read cannot be told to be another entry.
        Some(Slot::Resuming(resuming)) => Event::Resumed(!matches!((&mut resuming.1).await, Ok(false))),
        Some(Slot::Checking(id, check)) => Event::Checked(*id, check.await),
        Some(Slot::Opening(opening)) => Event::Opened(opening.opened().await),
        Some(Slot::Listing(names)) => Event::Listed(names.await),
        Some(Slot::LoggingIn(login)) => {
            login.due().await;
            Event::LoginDue
        }
        Some(Slot::Waiting(..) | Slot::Settled(..) | Slot::Request(_)) | None => pending().await,
    }
}

async fn forbidden(context: &Context, peer: &Peer, offer: &Offer) -> Refusal {
    Box::pin(context.guard.cannot_read(peer, offer.journal.about().name.as_str())).await
}

async fn granted(admission: Option<&mut Pin<Box<dyn Future<Output = Granted> + Send>>>) -> Granted {
    match admission {
        Some(admission) => admission.await,
        None => pending().await,
    }
}

async fn followed(follow: Option<&mut Stream>, context: &Arc<Context>) -> Result<Piece, ReadError> {
    match follow {
        Some(stream) => Box::pin(stream.next(context)).await,
        None => pending().await,
    }
}

fn stopping() -> Refusal {
    Refusal::new(Code::Stopping, "the server is shutting down; ask again when it is back")
}
