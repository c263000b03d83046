//! The last stage: what is at the front of the queue is done, and its answer is written down.

use diary_engine::{InOrder, ReadError};
use diary_proto::answer::HELP;
use diary_proto::journal::BadJournalName;
use diary_proto::limits::VERSION;
use diary_proto::message::{Hello, Welcome};
use diary_proto::{Author, Code, Date, Filter, JournalName, Producer, Refusal, Time, Which};

use super::queue::{Slot, answer_part};
use super::stream::{Piece, Stream};
use super::{Phase, Session, stopping};
use crate::front::{Answer, Encoder, Kind, Request};

impl Session {
    /// Whether answers may be made: there is room for them, and the last one is not made yet.
    pub(super) fn may_answer(&self) -> bool {
        self.phase != Phase::Closing && self.transport.unsent_bytes() < self.fill_bytes()
    }

    /// Whether [`answer`](Self::answer) would do something now.
    pub(super) fn can_answer(&self) -> bool {
        self.may_answer() && matches!(self.queue.front(), Some(Slot::Settled(..) | Slot::Request(_)))
    }

    /// Makes the answers whose turn it is, as long as there is room for them.
    pub(super) fn answer(&mut self) {
        while self.may_answer() {
            match self.queue.front_mut() {
                Some(Slot::Appended(receipt, _)) => match receipt.try_outcome() {
                    Some(outcome) => self.queue.settle(outcome),
                    None => return,
                },
                Some(Slot::Settled(outcome, entries)) => {
                    answer_part(&mut self.encoder, &mut self.transport.out, outcome, entries);
                    if outcome.is_empty() {
                        self.queue.pop_front();
                    }
                }
                Some(Slot::Request(_)) => {
                    if let Some(Slot::Request(request)) = self.queue.pop_front() {
                        self.execute(request);
                    }
                }
                Some(
                    Slot::Waiting(..)
                    | Slot::Stream(_)
                    | Slot::Resuming(_)
                    | Slot::Opening(_)
                    | Slot::Listing(_)
                    | Slot::LoggingIn(_)
                    | Slot::Checking(..),
                )
                | None => return,
            }
        }
    }

    fn execute(&mut self, request: Request) {
        let journal = &self.offer.journal;
        let answer = match &request {
            Request::Append(_) => unreachable!("appends have slots of their own"),
            Request::Refused { id, refusal } => return self.refuse(*id, refusal),
            Request::Fatal(refusal) => match self.context.tls_at.get() {
                Some(at) if refusal.code == Code::Tls => {
                    let refusal =
                        Refusal::new(Code::Tls, format!("this address speaks plain text; TLS is at {at}"));
                    return self.fail(&refusal);
                }
                _ => return self.fail(refusal),
            },
            Request::Quit => return self.say_bye(""),
            Request::Name(name) => {
                if let Err(refusal) = self.may_be(name) {
                    return self.refuse(0, &refusal);
                }
                self.peer.author = std::sync::Arc::new(name.clone());
                Answer::Words(&format!("ok name {name}\n"))
            }
            Request::Journal(None) => return self.begin_listing(),
            Request::Journal(Some(name)) => return self.begin_opening(name.clone(), None),
            Request::Login(token) => return self.begin_login(token, None),
            Request::Related(relation, text) => return self.append_related(*relation, text),
            Request::Quiet => Answer::Quiet,
            Request::Help => Answer::Words(HELP),
            Request::Hello(hello) => return self.begin_hello(hello),
            Request::Check { id } => return self.begin_check(*id),
            Request::FollowOff { id } => {
                self.follow = None;
                Answer::FollowOff { id: *id }
            }
            Request::Follow { id, from } => {
                let first = from.unwrap_or_else(|| journal.head() + 1);
                self.follow = Some(Box::new(Stream::follow(journal, *id, first)));
                Answer::Begin {
                    id: *id,
                    first,
                    last: u64::MAX,
                    kind: Kind::Follow,
                    dense: true,
                    shown: false,
                }
            }
            Request::History { id, .. }
            | Request::Search { id, .. }
            | Request::Thread { id, .. }
            | Request::Versions { id, .. }
                if self.phase == Phase::Draining =>
            {
                return self.refuse(*id, &stopping());
            }
            Request::History { id, scope } => match check_range(scope.which, journal.today()) {
                Ok(()) if scope.is_plain() => {
                    return self.begin_stream(Stream::history(journal, *id, *scope));
                }
                Ok(()) => return self.begin_search(*id, &(*scope).into()),
                Err(refusal) => return self.refuse(*id, &refusal),
            },
            Request::Thread { id, seq } => return self.begin_stream(Stream::thread(journal, *id, *seq)),
            Request::Versions { id, seq } => return self.begin_stream(Stream::versions(journal, *id, *seq)),
            Request::Search { id, filter } => match check_range(filter.scope.which, journal.today()) {
                Ok(()) => return self.begin_search(*id, filter),
                Err(refusal) => return self.refuse(*id, &refusal),
            },
        };
        self.encoder.encode(answer, &mut self.transport.out);
    }

    fn begin_search(&mut self, id: u32, filter: &Filter) {
        let journal = &self.offer.journal;
        // Its client checks what it gets, and cannot check what it does not get. People at a terminal ask for the
        // history of a place that they doubt.
        let checks = self.encoder.is_frame();
        let searcher = self.searcher.get_or_insert_with(|| journal.searcher()).clone();
        self.begin_stream(Stream::search(journal, searcher, id, filter, checks));
    }

    fn begin_stream(&mut self, stream: Stream) {
        self.queue.push_front(Slot::Stream(Box::new(stream)));
    }

    fn begin_hello(&mut self, hello: &Hello) {
        self.hello_until = None;
        if hello.version != VERSION {
            let message = format!("this server speaks version {VERSION}, not {}", hello.version);
            return self.fail(&Refusal::new(Code::Version, message));
        }
        // Before it may wait for anything: what it holds is short from here on.
        if !hello.author.is_empty()
            && let Err(refusal) = Author::new(&hello.author)
        {
            return self.fail(&refusal);
        }
        if let Some(Err(bad)) = named(hello) {
            return self.fail(&Refusal::new(Code::BadArgument, bad.to_string()));
        }
        let mut hello = hello.clone();
        match hello.token.take() {
            Some(token) => self.begin_login(&token, Some(hello)),
            None => self.go_on_with_hello(&hello),
        }
    }

    /// The client is logged in, if it has a token.
    pub(super) fn go_on_with_hello(&mut self, hello: &Hello) {
        match named(hello) {
            Some(Ok(name)) => self.begin_opening(name, Some(hello.clone())),
            Some(Err(bad)) => self.fail(&Refusal::new(Code::BadArgument, bad.to_string())),
            None => self.begin_resuming(hello),
        }
    }

    pub(super) fn begin_resuming(&mut self, hello: &Hello) {
        if let Err(refusal) = self.context.guard.may_enter(&self.peer, self.journal_name()) {
            return self.fail(&refusal);
        }
        let journal = &self.offer.journal;
        match &hello.resume {
            Some(resume) if resume.id != journal.about().id => {
                self.fail(&Refusal::new(Code::OtherJournal, "this is not the journal that you saw before"));
            }
            // Whoever may not read must not find out what an entry is.
            Some(resume) if resume.seq > 0 && self.may_read().is_ok() => {
                let has = journal.has(resume.seq, resume.crc);
                self.queue.push_front(Slot::Resuming(Box::new((hello.clone(), has))));
            }
            _ => self.finish_hello(hello, true),
        }
    }

    pub(super) fn finish_resuming(&mut self, same: bool) {
        if let Some(Slot::Resuming(resuming)) = self.queue.pop_front() {
            self.finish_hello(&resuming.0, same);
        }
    }

    fn finish_hello(&mut self, hello: &Hello, same: bool) {
        if !same {
            let message = "this journal lacks the entry that you saw last: an older copy was restored";
            return self.fail(&Refusal::new(Code::Restored, message));
        }
        if !hello.author.is_empty() {
            match Author::new(&hello.author) {
                Ok(author) => match self.may_be(&author) {
                    Ok(()) => self.peer.author = std::sync::Arc::new(author),
                    Err(refusal) => return self.fail(&refusal),
                },
                Err(refusal) => return self.fail(&refusal),
            }
        }
        self.producer = Some((Producer::of_secret(&hello.secret), InOrder::default()));
        let about = self.offer.journal.about();
        let welcome = Welcome {
            version: VERSION,
            journal_id: about.id,
            head: self.offer.journal.head(),
            author: self.peer.author.to_string(),
            journal: about.name.to_string(),
            zone: about.zone_name.clone(),
            day_start: about.day_start,
            clock_micros: Time::now(&about.zone).micros,
        };
        self.encoder.encode(Answer::Welcome(&welcome), &mut self.transport.out);
    }

    fn begin_check(&mut self, id: u32) {
        // An append of this connection would be refused, whatever room there is now.
        let refusal = self.producer.as_ref().and_then(|(_, in_order)| in_order.refusal()).cloned();
        match refusal {
            Some(refusal) => self.refuse(id, &refusal),
            None => {
                let check = Box::pin(self.offer.journal.check());
                self.queue.push_front(Slot::Checking(id, check));
            }
        }
    }

    pub(super) fn finish_check(&mut self, id: u32, answer: Result<(), Refusal>) {
        self.queue.pop_front();
        match answer {
            Ok(()) => self.encoder.encode(Answer::WouldTake { id }, &mut self.transport.out),
            Err(refusal) => self.refuse(id, &refusal),
        }
    }

    /// A piece of the history or search at the front.
    pub(super) fn take_piece(&mut self, piece: Result<Piece, ReadError>) {
        if let Err(refusal) = self.may_read() {
            if let Some(Slot::Stream(stream)) = self.queue.pop_front() {
                self.refuse(stream.id, &refusal);
            }
            return;
        }
        let Some(Slot::Stream(stream)) = self.queue.front_mut() else { return };
        if pass_on(&mut self.encoder, &mut self.transport.out, stream, piece) {
            self.queue.pop_front();
        }
    }

    /// A piece of what this session follows. It comes only between answers.
    pub(super) fn take_followed(&mut self, piece: Result<Piece, ReadError>) {
        if let Err(refusal) = self.may_read() {
            return self.end_follow(&refusal);
        }
        self.note_use();
        let Some(stream) = self.follow.as_deref_mut() else { return };
        if pass_on(&mut self.encoder, &mut self.transport.out, stream, piece) {
            self.follow = None;
        }
    }
}

/// The journal that a Hello names, if it names one.
fn named(hello: &Hello) -> Option<Result<JournalName, BadJournalName>> {
    (!hello.journal.is_empty()).then(|| hello.journal.parse())
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
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
    stream: &mut Stream,
    piece: Result<Piece, ReadError>,
) -> bool {
    let id = stream.id;
    match piece {
        Ok(Piece::Begin { first, last, dense, shown }) => {
            encoder.encode(Answer::Begin { id, first, last, kind: stream.kind, dense, shown }, out);
        }
        Ok(Piece::Lines((lines, _reserved))) => {
            encoder.encode(Answer::Lines { id, lines: &lines, walk: &mut stream.walk }, out);
            stream.tell_gaps();
        }
        Ok(Piece::CaughtUp { last }) => {
            encoder.encode(Answer::CaughtUp { last, walk: &mut stream.walk }, out);
            stream.tell_gaps();
            if stream.kind != Kind::Follow {
                encoder.encode(Answer::End { id, walk: &stream.walk }, out);
                return true;
            }
        }
        Err(error) => {
            encoder.encode(Answer::Error { id, fatal: false, refusal: &refusal_of(&error) }, out);
            return true;
        }
    }
    false
}

fn refusal_of(error: &ReadError) -> Refusal {
    match error {
        ReadError::Missing(missing) => missing.refusal(),
        ReadError::Forgotten => Refusal::new(Code::NoEntry, error.to_string()),
        ReadError::Disk(_) => {
            tracing::error!(%error, "entries cannot be read");
            Refusal::new(Code::Unreadable, error.to_string())
        }
    }
}
