//! A session: one connection's conversation, whichever mode, in one task.
//!
//! Answers leave in the order of the requests. Appends go to the writer as they are read, and a line of
//! pending answers remembers their order; a command waits in that line until all before it is answered,
//! and nothing behind it is read meanwhile.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use diary_proto::answer::is_old_command;
use diary_proto::entry::check_text;
use diary_proto::limits::VERSION;
use diary_proto::message::{Append, Hello, Welcome};
use diary_proto::{Author, Code, Producer, Refusal};
use tokio::io::{Interest, Ready};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::front::{Answer, Command, Front, Kind, Request};
use crate::journal::{Appends, Journal, Keys, Outcome, Part};
use crate::limits::{
    APPEND_MIN_BYTES, LINGER_MAX, LINGER_MAX_BYTES, Limits, READ_BYTES, SESSION_UNACKED_MAX_BYTES,
    UNSENT_FILL_BYTES, UNSENT_MAX_BYTES,
};
use crate::partial::{Partial, Partials};
use crate::socket::Socket;
use crate::stream::{Piece, Stream};

/// What a refused line counts as unacked: its place in the line of answers, and its sentence.
const REFUSED_BYTES: usize = 64;

/// Acks in words that are written at a time, so that the bound on unsent answers holds.
const ACKS_AT_ONCE: u32 = 512;

/// What is kept of the buffer for answers, so that an idle connection holds none that is large.
const IDLE_CAPACITY_BYTES: usize = 1024;

/// What all sessions share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) journal: Journal,
    pub(crate) limits: Limits,
    pub(crate) partials: Arc<Partials>,
    /// The server stops: take nothing more, answer what was taken.
    pub(crate) stop: CancellationToken,
}

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

/// An answer that is not made yet.
enum Pending {
    /// Appends that the writer has.
    Appended {
        outcome: oneshot::Receiver<Outcome>,
        entries: Entries,
    },
    /// Appends with their outcome, which is told piece by piece.
    Settled {
        outcome: VecDeque<Part>,
        entries: Entries,
    },
    Command(Command),
}

/// What a session remembers of its appends.
struct Entries {
    /// The counter of the next one to be answered.
    counter: u64,
    /// How many have been answered.
    answered: u32,
    bytes: usize,
    count: u32,
    /// Places of texts that were commands once: their acks end in a hint.
    hints: VecDeque<u32>,
}

type Acquire = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

struct Admission {
    room: Acquire,
    /// `None`: room to read.
    appends: Option<(Appends, Entries)>,
}

enum Task {
    Stream(Stream),
    Hello(Hello, JoinHandle<io::Result<bool>>),
}

/// What a session waits for.
enum Event {
    Outcome(Option<Outcome>),
    Room(Result<OwnedSemaphorePermit, AcquireError>),
    Ready(io::Result<Ready>),
    Task(TaskEvent),
    Follow(io::Result<Piece>),
    Stop,
    Evicted,
    Late,
}

enum TaskEvent {
    Piece(io::Result<Piece>),
    Resumed(bool),
}

thread_local! {
    /// Where sockets are read into: no session holds a buffer while it waits.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

impl Session {
    pub(crate) fn new(context: Arc<Context>, socket: Socket, front: Front, author: Author) -> Self {
        let partial = Partial::new(Arc::clone(&context.partials));
        Self {
            context,
            socket,
            front,
            author: Arc::new(author),
            producer: None,
            phase: Phase::Open,
            out: Unsent::default(),
            pending: VecDeque::new(),
            unacked_bytes: 0,
            stash: Vec::new(),
            undecoded: false,
            partial,
            admission: None,
            task: None,
            follow: None,
            hello_until: None,
        }
    }

    /// Talks until either side ends it. `greeting` is the first line.
    ///
    /// # Errors
    /// Those of the socket. What was handed to the writer is committed all the same.
    pub(crate) async fn run(mut self, greeting: &str) -> io::Result<()> {
        self.out.bytes.extend_from_slice(greeting.as_bytes());
        loop {
            self.advance();
            self.out.flush(&self.socket)?;
            if self.is_over() {
                return self.close().await;
            }
            let event = self.next_event().await;
            self.handle(event)?;
        }
    }

    /// Waits for whatever can happen next. Cancellation safe, as each of its branches is.
    async fn next_event(&mut self) -> Event {
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
            () = context.stop.cancelled(), if open => Event::Stop,
            () = partial.evicted() => Event::Evicted,
            () = sleep_until(late.unwrap_or_else(Instant::now)), if late.is_some() => Event::Late,
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
            Event::Late if self.front.awaits_hello() => {
                self.fail(&Refusal::new(Code::Hello, "no Hello came in time"));
            }
            Event::Late => return Err(io::ErrorKind::TimedOut.into()),
        }
        Ok(())
    }

    // --- input ---------------------------------------------------------------------------------------

    /// Whether more may be decoded now.
    fn takes_input(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Draining)
            && self.admission.is_none()
            && self.task.is_none()
            && self.unacked_bytes < SESSION_UNACKED_MAX_BYTES
            && self.out.len() < UNSENT_MAX_BYTES
            && !matches!(self.pending.back(), Some(Pending::Command(command)) if !matches!(command, Command::Refused(_)))
    }

    /// Reads, if there is room for what a read may bring; else waits for it, and the input stays unread.
    fn read_with_room(&mut self) -> io::Result<()> {
        let room = Arc::clone(self.context.journal.room());
        match Arc::clone(&room).try_acquire_many_owned(permits(READ_BYTES)) {
            Ok(permit) => self.read(permit),
            Err(_) => {
                self.admission = Some(Admission { room: acquire(room, READ_BYTES), appends: None });
                Ok(())
            }
        }
    }

    fn admit(&mut self, room: OwnedSemaphorePermit) -> io::Result<()> {
        match self.admission.take().and_then(|admission| admission.appends) {
            Some((appends, entries)) => {
                self.append(appends, entries, room);
                self.note_partial(true);
                Ok(())
            }
            None => self.read(room),
        }
    }

    fn read(&mut self, room: OwnedSemaphorePermit) -> io::Result<()> {
        SCRATCH.with_borrow_mut(|scratch| match self.socket.try_read(scratch) {
            Ok(0) => {
                self.end_input();
                Ok(())
            }
            Ok(read) => {
                self.decode(&scratch[..read], Some(room));
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        })
    }

    /// Takes the messages in `input`. What cannot be taken yet is kept.
    fn decode(&mut self, mut input: &[u8], mut room: Option<OwnedSemaphorePermit>) {
        let mut texts: Option<(Appends, Entries)> = None;
        let mut renewed = false;
        self.undecoded = true;
        while self.takes_input() {
            let Some(request) = self.front.decode(&mut input, &mut self.out.bytes) else {
                self.undecoded = false;
                break;
            };
            renewed = true;
            match request {
                Request::Text(text) => {
                    let (appends, entries) = texts.get_or_insert_with(|| {
                        (Appends::new(Arc::clone(&self.author), None), Entries::new(0))
                    });
                    entries.push(appends, text);
                }
                Request::Append(append) => self.append_frame(&append, &mut room),
                Request::Other(command) => {
                    if let Some((appends, entries)) = texts.take() {
                        self.append_with_room(appends, entries, &mut room);
                    }
                    self.push_command(command);
                }
            }
        }
        if let Some((appends, entries)) = texts {
            self.append_with_room(appends, entries, &mut room);
        }
        self.stash = input.to_vec();
        self.note_partial(renewed);
        if self.front.awaits_hello() && self.hello_until.is_none() {
            self.hello_until = Some(Instant::now() + self.context.limits.hello);
        }
    }

    /// The client has said all that it will. What has no end yet ends here.
    fn end_input(&mut self) {
        self.phase = Phase::InputEnded;
        match self.front.finish() {
            None => {}
            Some(Request::Text(text)) => {
                let mut appends = Appends::new(Arc::clone(&self.author), None);
                let mut entries = Entries::new(0);
                entries.push(&mut appends, text);
                self.append_with_room(appends, entries, &mut None);
            }
            Some(Request::Append(append)) => self.append_frame(&append, &mut None),
            Some(Request::Other(command)) => self.push_command(command),
        }
        self.note_partial(true);
    }

    fn push_command(&mut self, command: Command) {
        if matches!(command, Command::Refused(_)) {
            self.unacked_bytes += REFUSED_BYTES;
        }
        self.pending.push_back(Pending::Command(command));
    }

    /// The texts of a frame. One that cannot be stored is refused in its place.
    fn append_frame(&mut self, append: &Append, room: &mut Option<OwnedSemaphorePermit>) {
        // The front lets no append through before the Hello that names the producer.
        let Some(producer) = self.producer else { return };
        let keys = Keys { producer, first_counter: append.first_counter, retry: append.retry };
        let mut appends = Appends::new(Arc::clone(&self.author), Some(keys));
        for text in append.texts.iter() {
            let text = std::str::from_utf8(text)
                .map_err(|_| Refusal::new(Code::Utf8, "this text is not valid UTF-8 and is not stored"));
            match text.and_then(|text| check_text(text).map(|()| text)) {
                Ok(text) => appends.push(text),
                Err(refusal) => appends.push_refused(refusal),
            }
        }
        self.append_with_room(appends, Entries::new(append.first_counter), room);
    }

    /// Hands appends to the writer, with what `room` they came with or what there is; else they wait.
    fn append_with_room(
        &mut self,
        appends: Appends,
        mut entries: Entries,
        room: &mut Option<OwnedSemaphorePermit>,
    ) {
        entries.bytes = appends.bytes().max(APPEND_MIN_BYTES);
        entries.count = u32::try_from(appends.count()).unwrap_or(u32::MAX);
        let all = self.context.journal.room();
        let from_read = room.as_mut().and_then(|room| room.split(entries.bytes));
        let permit =
            from_read.or_else(|| Arc::clone(all).try_acquire_many_owned(permits(entries.bytes)).ok());
        match permit {
            Some(permit) => self.append(appends, entries, permit),
            None => {
                let room = acquire(Arc::clone(all), entries.bytes);
                self.admission = Some(Admission { room, appends: Some((appends, entries)) });
            }
        }
    }

    fn append(&mut self, appends: Appends, entries: Entries, room: OwnedSemaphorePermit) {
        self.unacked_bytes += entries.bytes;
        let outcome = self.context.journal.append(appends, room);
        self.pending.push_back(Pending::Appended { outcome, entries });
    }

    /// Keeps the account of what is held of messages that have not been taken.
    fn note_partial(&mut self, renewed: bool) {
        let waiting = self.admission.as_ref().and_then(|admission| admission.appends.as_ref());
        let waiting = waiting.map_or(0, |(_, entries)| entries.bytes);
        self.partial.set(self.front.partial_bytes() + self.stash.len() + waiting, renewed);
    }

    // --- answers -------------------------------------------------------------------------------------

    /// Does everything that needs no waiting.
    fn advance(&mut self) {
        loop {
            self.answer_pending();
            if !(self.undecoded && self.takes_input()) {
                break;
            }
            let stash = std::mem::take(&mut self.stash);
            self.decode(&stash, None);
        }
        let done =
            self.pending.is_empty() && self.admission.is_none() && self.task.is_none() && !self.undecoded;
        match self.phase {
            Phase::InputEnded if done && self.follow.is_none() => self.phase = Phase::Closing,
            Phase::Draining if done => self.say_bye(": the server stops"),
            _ => {}
        }
    }

    /// Makes the answers whose turn it is, as long as there is room for them.
    fn answer_pending(&mut self) {
        while self.out.len() < UNSENT_FILL_BYTES && self.task.is_none() && self.phase != Phase::Closing {
            match self.pending.front_mut() {
                None => return,
                Some(Pending::Appended { outcome, .. }) => match outcome.try_recv() {
                    Ok(outcome) => self.settle(Some(outcome)),
                    Err(oneshot::error::TryRecvError::Closed) => self.settle(None),
                    Err(oneshot::error::TryRecvError::Empty) => return,
                },
                Some(Pending::Settled { outcome, entries }) => {
                    answer_part(&mut self.front, &mut self.out.bytes, outcome, entries);
                    if outcome.is_empty() {
                        self.unacked_bytes -= entries.bytes;
                        self.pending.pop_front();
                    }
                }
                Some(Pending::Command(_)) => {
                    if let Some(Pending::Command(command)) = self.pending.pop_front() {
                        self.execute(command);
                    }
                }
            }
        }
    }

    /// The outcome of the appends at the front has come; `None`: the writer is gone, and stored nothing
    /// of what it did not answer.
    fn settle(&mut self, outcome: Option<Outcome>) {
        let Some(Pending::Appended { entries, .. }) = self.pending.pop_front() else { return };
        let outcome = outcome.unwrap_or_else(|| {
            let refusal = Refusal::new(Code::Stopping, "the server has stopped; this is not stored");
            vec![Part::Refused { count: entries.count, refusal }]
        });
        self.pending.push_front(Pending::Settled { outcome: outcome.into(), entries });
    }

    fn execute(&mut self, command: Command) {
        let journal = &self.context.journal;
        let answer = match &command {
            Command::Refused(refusal) => {
                self.unacked_bytes -= REFUSED_BYTES;
                Answer::Error { id: 0, fatal: false, refusal }
            }
            Command::Fatal(refusal) => return self.fail(refusal),
            Command::Quit => return self.say_bye(""),
            Command::Name(name) => {
                self.author = Arc::new(name.clone());
                Answer::Name(name)
            }
            Command::Quiet => Answer::Quiet,
            Command::Help => Answer::Help,
            Command::Hello(hello) => return self.begin_hello(hello.clone()),
            Command::FollowOff { id } => {
                self.follow = None;
                Answer::FollowOff { id: *id }
            }
            Command::Follow { id, from } => {
                let first = from.unwrap_or_else(|| journal.head() + 1);
                self.follow = Some(Box::new(Stream::follow(journal, *id, first)));
                Answer::Begin { id: *id, first, last: u64::MAX, kind: Kind::Follow }
            }
            Command::History { id, .. } | Command::Search { id, .. } if self.phase == Phase::Draining => {
                let refusal = stopping();
                return self
                    .front
                    .encode(Answer::Error { id: *id, fatal: false, refusal: &refusal }, &mut self.out.bytes);
            }
            Command::History { id, which } => {
                return self.task = Some(Box::new(Task::Stream(Stream::history(journal, *id, *which))));
            }
            Command::Search { id, text } => {
                return self.task = Some(Box::new(Task::Stream(Stream::search(journal, *id, text))));
            }
        };
        self.front.encode(answer, &mut self.out.bytes);
    }

    fn begin_hello(&mut self, hello: Hello) {
        self.hello_until = None;
        if hello.version != VERSION {
            let message = format!("this server speaks version {VERSION}, not {}", hello.version);
            return self.fail(&Refusal::new(Code::Version, message));
        }
        match hello.resume {
            Some(resume) if resume.id != self.context.journal.about().id => self.finish_resume(&hello, false),
            Some(resume) if resume.seq > 0 => {
                let has = self.context.journal.has(resume.seq, resume.crc);
                self.task = Some(Box::new(Task::Hello(hello, has)));
            }
            _ => self.finish_resume(&hello, true),
        }
    }

    fn finish_hello(&mut self, same: bool) {
        if let Some(Task::Hello(hello, _)) = self.task.take().map(|task| *task) {
            self.finish_resume(&hello, same);
        }
    }

    fn finish_resume(&mut self, hello: &Hello, same: bool) {
        if !same {
            let message = "this is not the journal that you saw before; its entries may be others";
            return self.fail(&Refusal::new(Code::OtherJournal, message));
        }
        if !hello.author.is_empty() {
            match Author::new(&hello.author) {
                Ok(author) => self.author = Arc::new(author),
                Err(refusal) => return self.fail(&refusal),
            }
        }
        self.producer = Some(Producer::of_secret(&hello.secret));
        let about = self.context.journal.about();
        let welcome = Welcome {
            version: VERSION,
            journal_id: about.id,
            head: self.context.journal.head(),
            author: self.author.to_string(),
            journal: about.name.clone(),
            zone: about.zone_name.clone(),
        };
        self.front.encode(Answer::Welcome(&welcome), &mut self.out.bytes);
    }

    /// A piece of the history or search that is being answered.
    fn take_piece(&mut self, piece: io::Result<Piece>) {
        let Some(Task::Stream(stream)) = self.task.as_deref_mut() else { return };
        let id = stream.id;
        let out = &mut self.out.bytes;
        match piece {
            Ok(Piece::Begin { first, last }) => {
                self.front.encode(Answer::Begin { id, first, last, kind: stream.kind }, out);
            }
            Ok(Piece::Lines(lines)) => {
                self.front.encode(Answer::Lines { id, lines: &lines, walk: &mut stream.walk }, out);
            }
            Ok(Piece::CaughtUp { last }) => {
                self.front.encode(Answer::CaughtUp { last, walk: &mut stream.walk }, out);
                self.front.encode(Answer::End { id, walk: &stream.walk }, out);
                self.task = None;
            }
            Err(error) => {
                self.front.encode(Answer::Error { id, fatal: false, refusal: &unreadable(&error) }, out);
                self.task = None;
            }
        }
    }

    /// A piece of what this session follows. It comes only between answers.
    fn take_followed(&mut self, piece: io::Result<Piece>) {
        let Some(stream) = self.follow.as_deref_mut() else { return };
        let id = stream.id;
        let out = &mut self.out.bytes;
        match piece {
            Ok(Piece::Begin { .. }) => {}
            Ok(Piece::Lines(lines)) => {
                self.front.encode(Answer::Lines { id, lines: &lines, walk: &mut stream.walk }, out);
            }
            Ok(Piece::CaughtUp { last }) => {
                self.front.encode(Answer::CaughtUp { last, walk: &mut stream.walk }, out);
            }
            Err(error) => {
                self.front.encode(Answer::Error { id, fatal: false, refusal: &unreadable(&error) }, out);
                self.follow = None;
            }
        }
    }

    // --- the end -------------------------------------------------------------------------------------

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
        self.phase = Phase::Closing;
    }

    /// Tells the client why the connection cannot go on, and ends it.
    fn fail(&mut self, refusal: &Refusal) {
        self.front.encode(Answer::Error { id: 0, fatal: true, refusal }, &mut self.out.bytes);
        self.phase = Phase::Closing;
    }

    fn is_over(&self) -> bool {
        self.phase == Phase::Closing && self.out.len() == 0
    }

    /// When this connection has waited too long.
    fn late_at(&self) -> Option<Instant> {
        let stalled = self.out.stalled_since.map(|since| since + self.context.limits.stall);
        stalled.into_iter().chain(self.hello_until).min()
    }

    /// Closes so that the peer gets the last answer: a connection that is closed with input unread is
    /// reset, and what was on its way is lost.
    async fn close(self) -> io::Result<()> {
        self.socket.shutdown_write()?;
        let drain = async {
            let mut left = LINGER_MAX_BYTES;
            let mut sink = [0; 4096];
            while left > 0 {
                self.socket.ready(Interest::READABLE).await?;
                match self.socket.try_read(&mut sink) {
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
}

impl Entries {
    fn new(first_counter: u64) -> Self {
        Self { counter: first_counter, answered: 0, bytes: 0, count: 0, hints: VecDeque::new() }
    }

    /// Adds a text of line mode.
    fn push(&mut self, appends: &mut Appends, text: &str) {
        if is_old_command(text) {
            self.hints.push_back(u32::try_from(appends.count()).unwrap_or(u32::MAX));
        }
        appends.push(text);
    }
}

/// Makes one answer of the first part of an outcome, and takes off what it covers.
fn answer_part(front: &mut Front, out: &mut Vec<u8>, outcome: &mut VecDeque<Part>, entries: &mut Entries) {
    let Some(part) = outcome.front_mut() else { return };
    let at_once = if matches!(front, Front::Frame(_)) { u32::MAX } else { ACKS_AT_ONCE };
    let to_hint = entries.hints.front().map_or(u32::MAX, |hint| hint - entries.answered);
    let hint = to_hint == 0;
    let most = if hint { 1 } else { at_once.min(to_hint) };
    let first_counter = entries.counter;
    let (answered, left) = match part {
        Part::Acked { count, first_seq, time } => {
            let answered = most.min(*count);
            let ack =
                Answer::Acked { first_counter, count: answered, first_seq: *first_seq, time: *time, hint };
            front.encode(ack, out);
            *first_seq += u64::from(answered);
            *count -= answered;
            (answered, *count)
        }
        Part::Refused { count, refusal } => {
            let answered = most.min(*count);
            front.encode(Answer::NotStored { first_counter, count: answered, refusal }, out);
            *count -= answered;
            (answered, *count)
        }
    };
    if left == 0 {
        outcome.pop_front();
    }
    if hint {
        entries.hints.pop_front();
    }
    entries.answered += answered;
    entries.counter += u64::from(answered);
}

async fn outcome_of(front: Option<&mut Pending>) -> Option<Outcome> {
    match front {
        Some(Pending::Appended { outcome, .. }) => outcome.await.ok(),
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
        Some(Task::Stream(stream)) => TaskEvent::Piece(stream.next(journal).await),
        // What cannot be read cannot be told to be another journal.
        Some(Task::Hello(_, has)) => TaskEvent::Resumed(!matches!(has.await, Ok(Ok(false)))),
        None => std::future::pending().await,
    }
}

async fn follow_on(follow: Option<&mut Stream>, journal: &Journal) -> io::Result<Piece> {
    match follow {
        Some(stream) => stream.next(journal).await,
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

fn unreadable(error: &io::Error) -> Refusal {
    tracing::error!(%error, "entries cannot be read");
    Refusal::new(Code::Unreadable, format!("the disk could not be read: {error}"))
}

/// Answers that are not sent yet.
#[derive(Debug, Default)]
struct Unsent {
    bytes: Vec<u8>,
    /// How many of them have been sent.
    sent: usize,
    /// Since when the peer has taken nothing.
    stalled_since: Option<Instant>,
}

impl Unsent {
    fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Sends what the socket takes now.
    fn flush(&mut self, socket: &Socket) -> io::Result<()> {
        while self.len() > 0 {
            match socket.try_write(&self.bytes[self.sent..]) {
                Ok(written) => {
                    self.sent += written;
                    self.stalled_since = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stalled_since.get_or_insert_with(Instant::now);
                    // What has been sent is given back once it is the larger part.
                    if self.sent > self.bytes.len() / 2 {
                        self.bytes.drain(..self.sent);
                        self.sent = 0;
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.bytes.clear();
        self.sent = 0;
        if self.bytes.capacity() > IDLE_CAPACITY_BYTES {
            self.bytes = Vec::new();
        }
        Ok(())
    }
}
