//! The first stage: what a client sends is read, decoded and put into the queue.

use std::io;
use std::sync::Arc;

use diary_access::Rights;
use diary_engine::{Appends, Earlier, Found, Keys, Own, Unfit};
use diary_proto::command::{is_login, stray_login};
use diary_proto::entry::check_text;
use diary_proto::message::{Append, NewText};
use diary_proto::{Author, Code, Producer, Refusal, Relation};
use tokio::time::Instant;

use super::queue::{Entries, Room};
use super::{Phase, Session};
use crate::budget::Reservation;
use crate::front::{Decoded, Encoder, Request};
use crate::guard::Guard;
use crate::limits::{ANSWERS_FREE_BYTES, READS_IN_A_ROW_MAX, UNSENT_MAX_BYTES};
use crate::peer::Peer;
use crate::transport::with_scratch;

/// What a session has waited for.
pub(super) enum Granted {
    /// Memory for what one read brings.
    Read(Reservation),
    /// Room for appends, and what is known of the entries that they name.
    Append(Room, Vec<Found>),
}

impl Session {
    /// Whether more may be decoded now.
    pub(super) fn takes_input(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Draining)
            && self.transport.unsent_bytes() < UNSENT_MAX_BYTES
            && (self.queue.held_bytes() <= ANSWERS_FREE_BYTES || self.context.answers.has_room())
            && self.queue.takes_more(self.context.limits.session_unacked_bytes)
    }

    /// Reads, if there is memory for what it brings; else waits for it, and the input stays unread. Room for appends is not
    /// asked for before they are known: a command needs none.
    pub(super) fn read_with_room(&mut self) -> io::Result<()> {
        let (input, max_bytes) = (&self.context.input, self.context.limits.read_bytes);
        if input.has_room() {
            return self.read(max_bytes);
        }
        match input.free_bytes().saturating_sub(self.decoder.partial_bytes() + self.transport.input_bytes()) {
            0 => {
                let reserving = Arc::clone(input).reserve(max_bytes, self.input.ticket());
                self.admission = Some(Box::pin(async { Granted::Read(reserving.await) }));
                Ok(())
            }
            free => self.read(free.min(max_bytes)),
        }
    }

    pub(super) fn take_granted(&mut self, granted: Granted) -> io::Result<()> {
        self.admission = None;
        match granted {
            // Given back behind the read, when what came of it is counted.
            Granted::Read(_reserved) => self.read(self.context.limits.read_bytes)?,
            Granted::Append(room, found) => {
                self.admit(room, &found);
                self.admit_waiting();
            }
        }
        Ok(())
    }

    fn read(&mut self, max_bytes: usize) -> io::Result<()> {
        with_scratch(|scratch| {
            let scratch = &mut scratch[..max_bytes];
            match self.transport.try_read(scratch) {
                Ok(0) => self.end_input(),
                Ok(read) => {
                    let full = read == max_bytes;
                    self.reads_in_a_row = if full { READS_IN_A_ROW_MAX } else { self.reads_in_a_row + 1 };
                    self.decode(&scratch[..read]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Records that brought nothing.
                    if self.transport.has_input() {
                        self.reads_in_a_row = READS_IN_A_ROW_MAX;
                    }
                }
                Err(error) => return Err(error),
            }
            Ok(())
        })
    }

    pub(super) fn decode_stash(&mut self) {
        let stash = std::mem::take(&mut self.stash);
        self.decode(&stash);
    }

    /// Takes the requests in `input`. What cannot be taken yet is kept.
    fn decode(&mut self, mut input: &[u8]) {
        let mut completed = false;
        self.undecoded = true;
        self.note_use();
        while self.undecoded && self.takes_input() {
            // All texts up to the next request become one append: they change nothing that this loop asks for.
            let mut texts = None;
            let (rights, append) = (self.rights(), self.may_append());
            let request = loop {
                let Some(decoded) = self.decoder.next(&mut input, &mut self.transport.out) else {
                    self.undecoded = false;
                    break None;
                };
                completed = true;
                match checked(decoded, &self.context.guard, &self.peer, rights, &append) {
                    Ok(text) => push_text(text, &self.peer, &mut texts),
                    Err(request) => break Some(request),
                }
            };
            self.push(texts, request);
        }
        self.stash = input.to_vec();
        self.note_progress(completed);
    }

    /// What the client may do now.
    fn rights(&self) -> Rights {
        self.context.guard.rights(&self.peer, self.journal_name())
    }

    /// The client has said all that it will. What has no end yet ends here.
    fn end_input(&mut self) {
        self.phase = Phase::InputEnded;
        let (mut texts, mut request) = (None, None);
        let (rights, append) = (self.rights(), self.may_append());
        match self
            .decoder
            .finish()
            .map(|decoded| checked(decoded, &self.context.guard, &self.peer, rights, &append))
        {
            None => {}
            Some(Ok(text)) => push_text(text, &self.peer, &mut texts),
            Some(Err(invalid)) => request = Some(invalid),
        }
        self.push(texts, request);
        self.note_progress(true);
    }

    /// Puts texts and the request behind them into the queue: their places come first, and what they need then.
    fn push(&mut self, texts: Option<(Appends, Entries)>, request: Option<Request>) {
        if let Some((appends, entries)) = texts {
            self.queue.push_appends(appends, entries);
        }
        let allowed = match request {
            Some(Request::Append(_)) => self.may_append(),
            _ => Ok(()),
        };
        if let Err(refusal) = &allowed {
            self.tell_refused(refusal);
        }
        match (request, &self.producer) {
            (None, _) => {}
            (Some(Request::Append(append)), Some((producer, in_order))) => {
                let entries = Entries::new(append.first_counter);
                let mut appends = self.appends_of(&append, *producer, &allowed);
                appends.in_order = Some(in_order.clone());
                self.queue.push_appends(appends, entries);
            }
            // The Hello before it was refused.
            (Some(Request::Append(_)), None) => {
                let refusal = Refusal::new(Code::Hello, "there was no Hello");
                self.queue.push_request(Request::refused(refusal));
            }
            (Some(request), _) => self.queue.push_request(request),
        }
        self.admit_waiting();
    }

    /// The texts of a frame. One that cannot be stored is refused in its place.
    fn appends_of(&self, append: &Append, producer: Producer, allowed: &Result<(), Refusal>) -> Appends {
        let keys = Keys { producer, first_counter: append.first_counter, retry: append.retry };
        let mut appends = Appends::new(Arc::clone(&self.peer.author), Some(keys));
        let mut authors = None;
        for new in append.texts.iter() {
            let text =
                allowed.clone().and_then(|()| check_new(new, &mut authors, |author| self.may_be(author)));
            match text {
                Ok((text, own)) => {
                    appends.push(text);
                    if let Some(own) = own {
                        appends.set_own(own);
                    }
                    if let Some(relation) = new.relation() {
                        appends.relate(relation);
                    }
                }
                Err(refusal) => appends.push_refused(refusal),
            }
        }
        appends
    }

    /// Some input was decoded. If it completed a message, what is unfinished began later.
    fn note_progress(&mut self, completed: bool) {
        if completed {
            self.unfinished_since = None;
            self.input.clear();
        }
        if self.decoder.is_frame() {
            self.encoder = Encoder::Frame;
        }
        if self.decoder.awaits_hello() && self.hello_until.is_none() {
            self.hello_until = Some(Instant::now() + self.context.limits.hello);
        }
    }

    /// Hands waiting appends to the writer, if there is room for them; else asks for it.
    fn admit_waiting(&mut self) {
        while self.admission.is_none()
            && let Some((appends, entries)) = self.queue.waiting()
        {
            let (context, keyed, bytes) = (Arc::clone(&self.context), appends.keys.is_some(), entries.bytes);
            let (journal, named) = (Arc::clone(&self.offer.journal), appends.named());
            let outcome_bytes = appends.outcome_max_bytes();
            let small = self.queue.unreserved_bytes() + outcome_bytes <= context.answers.free_bytes();
            let reserves_now = !small && named.is_empty();
            let outcome = if reserves_now { context.answers.try_reserve(outcome_bytes) } else { None };
            if (small || outcome.is_some())
                && (!keyed || journal.knows_derived())
                && named.is_empty()
                && let Some(permit) = context.try_room_for_appends(bytes)
            {
                self.admit(Room { permit, outcome }, &[]);
                continue;
            }
            self.admission = Some(Box::pin(async move {
                // What has been corrected is not known before, either.
                if keyed || !named.is_empty() {
                    journal.derived_known().await;
                }
                // Before it takes room: to look them up may wait for the disk.
                let found = match named.is_empty() {
                    true => Vec::new(),
                    false => journal.look_up(named).await.unwrap_or_default(),
                };
                let outcome = match outcome {
                    None if !small => Some(Arc::clone(&context.answers).reserve(outcome_bytes, None).await),
                    outcome => outcome,
                };
                let permit = context.room_for_appends(bytes).await;
                Granted::Append(Room { permit, outcome }, found)
            }));
        }
    }

    fn admit(&mut self, room: Room, found: &[Found]) {
        let Self { offer, queue, context, peer, .. } = self;
        let journal = &offer.journal;
        let name = journal.about().name.as_str();
        let judge = |relation, earlier: &Earlier, author: &Author| match relation {
            Relation::Answers(_) => Ok(()),
            _ if !context.guard.may_correct(peer, &earlier.author, author, name) => Err(Unfit::NotOwn),
            _ if !journal.takes_corrections() => Err(Unfit::Full),
            _ => Ok(()),
        };
        queue.admit(room, |mut appends, permit| {
            appends.note_found(found, judge);
            journal.append(appends, permit)
        });
    }

    /// An entry of line mode that belongs to an earlier one. Everything before it is answered, and nothing behind it is
    /// decoded.
    pub(super) fn append_related(&mut self, relation: Relation, text: &str) {
        if let Err(refusal) = self.may_append() {
            return self.refuse(0, &refusal);
        }
        let (mut appends, entries) = (Appends::new(Arc::clone(&self.peer.author), None), Entries::default());
        appends.push(text);
        appends.relate(relation);
        self.queue.push_appends(appends, entries);
        self.admit_waiting();
    }
}

/// A text, or a request. What is not allowed, or is larger than what may wait, is refused in its place. An append is
/// refused text by text.
fn checked<'a>(
    decoded: Decoded<'a>,
    guard: &Guard,
    peer: &Peer,
    rights: Rights,
    append: &Result<(), Refusal>,
) -> Result<&'a str, Request> {
    let request = match decoded {
        Decoded::Text(text) => return append.clone().map(|()| text).map_err(Request::refused),
        Decoded::Request(request) => request,
    };
    let allowed = match (&request, request.right()) {
        (Request::Append(_), _) | (_, None) => Ok(()),
        (_, Some(right)) => guard.require(peer, rights, right),
    };
    let valid = allowed.and_then(|()| match &request {
        Request::Search { filter, .. } => filter.check(),
        _ => Ok(()),
    });
    Err(match valid {
        Ok(()) => request,
        Err(refusal) => Request::Refused { id: request.id(), refusal },
    })
}

fn push_text(text: &str, peer: &Peer, texts: &mut Option<(Appends, Entries)>) {
    let none = || (Appends::new(Arc::clone(&peer.author), None), Entries::default());
    let (appends, entries) = texts.get_or_insert_with(none);
    entries.push(appends, text);
}

/// Checks a text and what it says of itself. `author` is the one that was named last: many texts by one share it.
fn check_new<'a>(
    new: NewText<'a>,
    author: &mut Option<Arc<Author>>,
    may_be: impl Fn(&Author) -> Result<(), Refusal>,
) -> Result<(&'a str, Option<Own>), Refusal> {
    let utf8 = |bytes, refusal: &'static str| {
        std::str::from_utf8(bytes).map_err(|_| Refusal::new(Code::Utf8, refusal))
    };
    let text = utf8(new.text, "this text is not valid UTF-8; nothing is stored")?;
    check_text(text)?;
    if is_login(text) {
        return Err(stray_login());
    }
    if new.author.is_empty() {
        return Ok((text, new.at.map(|at| Own { at: Some(at), author: None })));
    }
    let name = utf8(new.author, "this author is not valid UTF-8; nothing is stored")?;
    if author.as_ref().is_none_or(|author| author.as_str() != name) {
        let named = Author::new(name)?;
        may_be(&named)?;
        *author = Some(Arc::new(named));
    }
    Ok((text, Some(Own { at: new.at, author: author.clone() })))
}
