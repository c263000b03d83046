//! What a client sends: read, decoded, handed to the writer.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use diary_engine::{Appends, Keys, Own};
use diary_proto::entry::check_text;
use diary_proto::message::{Append, NewText};
use diary_proto::{Author, Code, Refusal};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::pending::{Entries, Pending};
use super::{Admission, Phase, Session, acquire, permits};
use crate::front::{Command, Request};
use crate::limits::{
    APPEND_MIN_BYTES, READ_BYTES, READS_IN_A_ROW_MAX, SESSION_UNACKED_MAX_BYTES, UNSENT_MAX_BYTES,
};

/// What a refused line counts as unacked: its place in the line of answers, and its sentence.
pub(super) const REFUSED_BYTES: usize = 256;

thread_local! {
    /// Where sockets are read into: no session holds a buffer while it waits.
    pub(super) static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

impl Session {
    /// Whether more may be decoded now.
    pub(super) fn takes_input(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Draining)
            && self.admission.is_none()
            && self.task.is_none()
            && self.unacked_bytes < SESSION_UNACKED_MAX_BYTES
            && self.out.len() < UNSENT_MAX_BYTES
            && !matches!(self.pending.back(), Some(Pending::Command(command)) if !matches!(command, Command::Refused(_)))
    }

    /// Reads, if there is room for what a read may bring; else waits for it, and the input stays unread.
    pub(super) fn read_with_room(&mut self) -> io::Result<()> {
        let room = Arc::clone(&self.context.unacked);
        match Arc::clone(&room).try_acquire_many_owned(permits(READ_BYTES)) {
            Ok(permit) => self.read(permit),
            Err(_) => {
                self.admission = Some(Admission { room: acquire(room, READ_BYTES), appends: None });
                Ok(())
            }
        }
    }

    pub(super) fn admit(&mut self, room: OwnedSemaphorePermit) -> io::Result<()> {
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
                let full = read == scratch.len();
                self.reads_in_a_row = if full { READS_IN_A_ROW_MAX } else { self.reads_in_a_row + 1 };
                self.decode(&scratch[..read], Some(room));
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        })
    }

    /// Takes the messages in `input`. What cannot be taken yet is kept.
    pub(super) fn decode(&mut self, mut input: &[u8], mut room: Option<OwnedSemaphorePermit>) {
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
        let mut authors = None;
        for new in append.texts.iter() {
            match check_new(new, &mut authors) {
                Ok((text, None)) => appends.push(text),
                Ok((text, Some(own))) => {
                    appends.push(text);
                    appends.set_own(own);
                }
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
        entries.bytes = (appends.bytes() + entries.hint_bytes()).max(APPEND_MIN_BYTES);
        entries.count = u32::try_from(appends.count()).unwrap_or(u32::MAX);
        let journal = &self.context.journal;
        let all = &self.context.unacked;
        if appends.keys.is_some() && !journal.knows_derived() {
            let (journal, room) = (journal.clone(), acquire(Arc::clone(all), entries.bytes));
            let room = Box::pin(async move {
                journal.derived_known().await;
                room.await
            });
            self.admission = Some(Admission { room, appends: Some((appends, entries)) });
            return;
        }
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
}

/// Checks a text and what it says of itself. `author` is the one that was named last: many texts by one share it.
fn check_new<'a>(
    new: NewText<'a>,
    author: &mut Option<Arc<Author>>,
) -> Result<(&'a str, Option<Own>), Refusal> {
    let utf8 = |bytes, what| {
        let refuse =
            |_| Refusal::new(Code::Utf8, format!("this {what} is not valid UTF-8; nothing is stored"));
        std::str::from_utf8(bytes).map_err(refuse)
    };
    let text = utf8(new.text, "text")?;
    check_text(text)?;
    if new.author.is_empty() {
        return Ok((text, new.at.map(|at| Own { at: Some(at), author: None })));
    }
    let name = utf8(new.author, "author")?;
    if author.as_ref().is_none_or(|author| author.as_str() != name) {
        *author = Some(Arc::new(Author::new(name)?));
    }
    Ok((text, Some(Own { at: new.at, author: author.clone() })))
}
