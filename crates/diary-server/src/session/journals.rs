//! Going from one journal to another, and listing those that there are.

use std::sync::Arc;

use diary_engine::{Journal, OpenError, ReadError};
use diary_proto::answer::{changed_journal, journals};
use diary_proto::limits::JOURNAL_NAME_MAX_BYTES;
use diary_proto::message::Hello;
use diary_proto::{Code, JournalName, Refusal};
use futures::future::BoxFuture;

use super::Session;
use super::queue::Slot;
use crate::budget::Reservation;
use crate::context::Context;
use crate::front::Answer;
use crate::limits::JOURNALS_LISTED_MAX;
use crate::peer::Peer;

/// How similar two names are (Jaro–Winkler, 0 to 1) where one may be meant for the other.
const SIMILAR: f64 = 0.8;

/// What the answer to `/journal` may take.
const LISTING_MAX_BYTES: usize = JOURNALS_LISTED_MAX * (JOURNAL_NAME_MAX_BYTES + LISTED_BYTES);

/// What stands around a name there.
const LISTED_BYTES: usize = 16;

/// The names of the journals, and the memory that they take.
pub(super) type Listed = (Result<Vec<JournalName>, ReadError>, Reservation);

/// A journal that is being opened, and what for.
pub(super) struct Opening {
    journal: BoxFuture<'static, Result<Arc<Journal>, Refusal>>,
    /// The Hello that names it; a command of line mode if there is none.
    hello: Option<Hello>,
}

impl Opening {
    /// Cancel safe.
    pub(super) async fn opened(&mut self) -> Result<Arc<Journal>, Refusal> {
        (&mut self.journal).await
    }
}

impl Session {
    /// Begins to open a journal, unless it is not offered here.
    pub(super) fn begin_opening(&mut self, name: JournalName, hello: Option<Hello>) {
        let guard = &self.context.guard;
        if let Err(refusal) = guard.may_ask(&self.peer, name.as_str()) {
            return self.finish_opening_for(hello, Err(refusal));
        }
        let here = &self.offer.journal.about().name;
        let knows_here = guard.knows(&self.peer, here.as_str());
        if *here == name && knows_here {
            return self.finish_opening_for(hello, Ok(Arc::clone(&self.offer.journal)));
        }
        if self.offer.only {
            let message = match knows_here {
                true => format!("this address has the journal {here} only"),
                false => "this address has one journal only, and not this one".to_owned(),
            };
            return self.finish_opening_for(hello, Err(Refusal::new(Code::NoJournal, message)));
        }
        let journal = Box::pin(find(Arc::clone(&self.context), self.peer.clone(), name));
        self.queue.push_front(Slot::Opening(Box::new(Opening { journal, hello })));
    }

    pub(super) fn finish_opening(&mut self, opened: Result<Arc<Journal>, Refusal>) {
        if let Some(Slot::Opening(opening)) = self.queue.pop_front() {
            self.finish_opening_for(opening.hello, opened);
        }
    }

    fn finish_opening_for(&mut self, hello: Option<Hello>, opened: Result<Arc<Journal>, Refusal>) {
        let journal = match (opened, &hello) {
            (Ok(journal), _) => journal,
            (Err(refusal), None) => return self.refuse(0, &refusal),
            (Err(refusal), Some(_)) => return self.fail(&refusal),
        };
        if !Arc::ptr_eq(&journal, &self.offer.journal) {
            // Its seqs are those of another journal.
            self.follow = None;
            self.offer.journal = journal;
        }
        if let Some(hello) = hello {
            return self.begin_resuming(&hello);
        }
        let (about, head) = (self.offer.journal.about(), self.offer.journal.head());
        let words = changed_journal(about.name.as_str(), about.id, head);
        self.encoder.encode(Answer::Words(&words), &mut self.transport.out);
    }

    pub(super) fn begin_listing(&mut self) {
        if let Err(refusal) = self.context.guard.may_ask(&self.peer, self.journal_name()) {
            return self.refuse(0, &refusal);
        }
        match self.offer.only {
            true => self.tell_journals(vec![self.offer.journal.about().name.clone()]),
            false => {
                let context = Arc::clone(&self.context);
                self.queue.push_front(Slot::Listing(Box::pin(async move {
                    // Before they are read: many who list them are to wait for memory, and not to take it.
                    let reserved = Arc::clone(&context.answers).reserve(LISTING_MAX_BYTES, None).await;
                    (context.journals.names().await, reserved)
                })));
            }
        }
    }

    pub(super) fn finish_listing(&mut self, (names, _reserved): Listed) {
        self.queue.pop_front();
        match names {
            Ok(names) => self.tell_journals(names),
            Err(error) => {
                tracing::debug!(%error, "the data folder cannot be listed");
                self.refuse(0, &Refusal::new(Code::Unreadable, "the journals cannot be listed now"));
            }
        }
    }

    /// Tells those that the client has any right in.
    fn tell_journals(&mut self, mut names: Vec<JournalName>) {
        let knows = |name: &str| self.context.guard.knows(&self.peer, name);
        names.retain(|name| knows(name.as_str()));
        let here = Some(self.journal_name()).filter(|here| knows(here)).unwrap_or("-");
        let shown = names.iter().take(JOURNALS_LISTED_MAX).map(JournalName::as_str);
        let words = journals(here, shown, names.len());
        self.encoder.encode(Answer::Words(&words), &mut self.transport.out);
    }
}

/// The journal of this name. Cancel safe.
async fn find(context: Arc<Context>, peer: Peer, name: JournalName) -> Result<Arc<Journal>, Refusal> {
    let knows = |name: &JournalName| context.guard.knows(&peer, name.as_str());
    let found = match knows(&name) {
        true => context.journals.get(&name).await,
        // As if there were none.
        false => Err(OpenError::None(name.clone())),
    };
    match found {
        Ok(journal) => Ok(journal),
        Err(OpenError::None(_)) => {
            let mut names = context.journals.names().await.unwrap_or_default();
            names.retain(knows);
            let similar = |other: &JournalName| strsim::jaro_winkler(name.as_str(), other.as_str());
            let nearest = names.iter().max_by(|a, b| similar(a).total_cmp(&similar(b)));
            let message = match nearest.filter(|nearest| similar(nearest) >= SIMILAR) {
                Some(nearest) => format!("there is no journal {name}; did you mean {nearest}?"),
                None => format!("there is no journal {name}; /journal lists those that there are"),
            };
            Err(Refusal::new(Code::NoJournal, message))
        }
        Err(OpenError::TooMany(_)) => {
            Err(Refusal::new(Code::Busy, "too many journals are open on this server to open another one"))
        }
        Err(error) => {
            if context.journals.is_newly_broken(&name) {
                tracing::error!(%error, "the journal {name} cannot be opened");
            }
            let message = format!("the journal {name} cannot be opened; the server's log says why");
            Err(Refusal::new(Code::Unreadable, message))
        }
    }
}
