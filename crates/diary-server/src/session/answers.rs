//! What a client is told: the answers whose turn it is, and the commands that they wait for.

use std::sync::Arc;

use diary_engine::{Journal, Outcome, ReadError};
use diary_proto::limits::VERSION;
use diary_proto::message::{Hello, Welcome};
use diary_proto::{Author, Code, Date, Producer, Refusal, Which};

use super::input::REFUSED_BYTES;
use super::pending::{Pending, answer_part};
use super::{Phase, Session, Task, stopping};
use crate::front::{Answer, Command, Front, Kind};
use crate::limits::UNSENT_FILL_BYTES;
use crate::stream::{Piece, Stream};

impl Session {
    /// Does everything that needs no waiting.
    pub(super) fn advance(&mut self) {
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

    /// Whether [`advance`](Self::advance) would do something now.
    pub(super) fn can_advance(&self) -> bool {
        let answerable = matches!(self.pending.front(), Some(Pending::Settled { .. } | Pending::Command(_)));
        let answers = answerable && self.out.len() < UNSENT_FILL_BYTES && self.task.is_none();
        self.phase != Phase::Closing && (answers || (self.undecoded && self.takes_input()))
    }

    /// Makes the answers whose turn it is, as long as there is room for them.
    fn answer_pending(&mut self) {
        while self.out.len() < UNSENT_FILL_BYTES && self.task.is_none() && self.phase != Phase::Closing {
            match self.pending.front_mut() {
                None => return,
                Some(Pending::Appended { outcome, .. }) => match outcome.try_outcome() {
                    Some(outcome) => self.settle(outcome),
                    None => return,
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

    /// The outcome of the appends at the front has come.
    pub(super) fn settle(&mut self, outcome: Outcome) {
        let Some(Pending::Appended { entries, .. }) = self.pending.pop_front() else { return };
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
                Answer::Begin { id: *id, first, last: u64::MAX, kind: Kind::Follow, dense: true }
            }
            Command::History { id, .. } | Command::Search { id, .. } if self.phase == Phase::Draining => {
                return self.refuse(*id, &stopping());
            }
            Command::History { id, which } => match check_range(*which, journal.today()) {
                Ok(()) => return self.begin_answer(Stream::history(journal, *id, *which)),
                Err(refusal) => return self.refuse(*id, &refusal),
            },
            Command::Search { id, filter } => {
                match filter.check().and_then(|()| check_range(filter.which, journal.today())) {
                    Ok(()) => {
                        // Its client checks what it gets, and cannot check what it does not get. People at a terminal
                        // ask for the history of a place that they doubt.
                        let checks = matches!(self.front, Front::Frame(_));
                        return self.begin_answer(Stream::search(journal, *id, filter, checks));
                    }
                    Err(refusal) => return self.refuse(*id, &refusal),
                }
            }
        };
        self.front.encode(answer, &mut self.out.bytes);
    }

    fn begin_answer(&mut self, stream: Stream) {
        self.task = Some(Box::new(Task::Stream(stream)));
    }

    /// A request cannot be served.
    fn refuse(&mut self, id: u32, refusal: &Refusal) {
        self.front.encode(Answer::Error { id, fatal: false, refusal }, &mut self.out.bytes);
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

    pub(super) fn finish_hello(&mut self, same: bool) {
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
            day_start: about.day_start,
        };
        self.front.encode(Answer::Welcome(&welcome), &mut self.out.bytes);
    }

    /// A piece of the history or search that is being answered.
    pub(super) fn take_piece(&mut self, piece: Result<Piece, ReadError>) {
        let Some(Task::Stream(stream)) = self.task.as_deref_mut() else { return };
        if pass_on(&mut self.front, &mut self.out.bytes, &self.context.journal, stream, piece) {
            self.task = None;
        }
    }

    /// A piece of what this session follows. It comes only between answers.
    pub(super) fn take_followed(&mut self, piece: Result<Piece, ReadError>) {
        let Some(stream) = self.follow.as_deref_mut() else { return };
        if pass_on(&mut self.front, &mut self.out.bytes, &self.context.journal, stream, piece) {
            self.follow = None;
        }
    }
}

/// A range of days that only `today` shows to be none.
fn check_range(which: Which, today: Date) -> Result<(), Refusal> {
    match which {
        Which::Days(from, to) if from.date(today) > to.date(today) => {
            Err(Refusal::new(Code::BadArgument, "the first day of a range comes first: DATE..DATE"))
        }
        _ => Ok(()),
    }
}

/// Tells the client what a stream has brought; whether that was the last of it.
fn pass_on(
    front: &mut Front,
    out: &mut Vec<u8>,
    journal: &Journal,
    stream: &mut Stream,
    piece: Result<Piece, ReadError>,
) -> bool {
    let id = stream.id;
    match piece {
        Ok(Piece::Begin { first, last, dense }) => {
            front.encode(Answer::Begin { id, first, last, kind: stream.kind, dense }, out);
        }
        Ok(Piece::Lines(lines)) => {
            front.encode(Answer::Lines { id, lines: &lines, walk: &mut stream.walk }, out);
            journal.tell_gaps(&mut stream.walk.gaps);
        }
        Ok(Piece::CaughtUp { last }) => {
            front.encode(Answer::CaughtUp { last, walk: &mut stream.walk }, out);
            journal.tell_gaps(&mut stream.walk.gaps);
            if stream.kind != Kind::Follow {
                front.encode(Answer::End { id, walk: &stream.walk }, out);
                return true;
            }
        }
        Err(error) => {
            front.encode(Answer::Error { id, fatal: false, refusal: &unreadable(&error) }, out);
            return true;
        }
    }
    false
}

fn unreadable(error: &ReadError) -> Refusal {
    tracing::error!(%error, "entries cannot be read");
    Refusal::new(Code::Unreadable, error.to_string())
}
