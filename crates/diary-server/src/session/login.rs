//! Logging in, and what is not permitted.

use diary_access::{Right, Token};
use diary_proto::answer::logged_in;
use diary_proto::message::Hello;
use diary_proto::{Author, Code, Credential, Refusal};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::queue::Slot;
use super::{Phase, Session, stopping};
use crate::front::Answer;
use crate::guard::AUDIT;

/// A token that is not known, and waits.
pub(super) struct LoggingIn {
    wait: BoxFuture<'static, ()>,
    token: Option<Token>,
    /// The Hello that brought it; a command of line mode if there is none.
    hello: Option<Hello>,
}

impl LoggingIn {
    /// Cancel safe.
    pub(super) async fn due(&mut self) {
        (&mut self.wait).await;
    }
}

impl Session {
    /// The name of the journal that the client is in.
    pub(super) fn journal_name(&self) -> &str {
        self.offer.journal.about().name.as_str()
    }

    pub(super) fn begin_login(&mut self, shown: &Credential, hello: Option<Hello>) {
        if !self.peer.is_secure() {
            // It is not compared: whether it was right is nobody's business on the way.
            let message = format!("{}; replace the one that you have sent", self.context.only_in_tls());
            return self.finish_login(hello, Err(Refusal::new(Code::NotPermitted, message)));
        }
        if self.phase == Phase::Draining {
            return self.finish_login(hello, Err(stopping()));
        }
        let token = shown.reveal().parse().ok();
        let guard = &self.context.guard;
        if guard.is_known(token.as_ref()) || !guard.has_tokens() {
            return self.log_in(token.as_ref(), hello);
        }
        let wait = guard.patience(&self.peer).boxed();
        self.queue.push_front(Slot::LoggingIn(Box::new(LoggingIn { wait, token, hello })));
    }

    pub(super) fn finish_waiting_login(&mut self) {
        if let Some(Slot::LoggingIn(login)) = self.queue.pop_front() {
            self.log_in(login.token.as_ref(), login.hello);
        }
    }

    fn log_in(&mut self, token: Option<&Token>, hello: Option<Hello>) {
        // Another client, as far as the log goes.
        self.told_refused = false;
        let done = self.context.guard.log_in(&mut self.peer, token);
        self.finish_login(hello, done);
    }

    fn finish_login(&mut self, hello: Option<Hello>, done: Result<(), Refusal>) {
        match (done, hello) {
            (Ok(()), Some(hello)) => self.go_on_with_hello(&hello),
            (Ok(()), None) => {
                let about = self.offer.journal.about();
                let here = (about.name.as_str(), about.id, self.offer.journal.head());
                let may_enter = self.context.guard.may_enter(&self.peer, here.0).is_ok();
                let name = self.peer.login.as_ref().map_or("", |login| login.name.as_str());
                let words = logged_in(name, may_enter.then_some(here));
                self.encoder.encode(Answer::Words(&words), &mut self.transport.out);
            }
            (Err(refusal), Some(_)) => self.fail(&refusal),
            (Err(refusal), None) => self.refuse(0, &refusal),
        }
    }

    /// Whether entries may be read to the client now.
    pub(super) fn may_read(&self) -> Result<(), Refusal> {
        self.context.guard.may(&self.peer, Right::Read, self.journal_name())
    }

    /// Whether the client may write under a name.
    pub(super) fn may_be(&self, author: &Author) -> Result<(), Refusal> {
        self.context.guard.may_be(&self.peer, author, self.journal_name())
    }

    /// Whether the client may append now, under the name that it has.
    pub(super) fn may_append(&self) -> Result<(), Refusal> {
        let (guard, journal) = (&self.context.guard, self.journal_name());
        guard.may(&self.peer, Right::Append, journal)?;
        guard.may_be(&self.peer, &self.peer.author, journal)
    }

    /// Its login is used.
    pub(super) fn note_use(&mut self) {
        if let Some(login) = &mut self.peer.login {
            self.context.guard.note(login);
        }
    }

    /// What is followed may not be read any more.
    pub(super) fn end_follow(&mut self, refusal: &Refusal) {
        if let Some(follow) = self.follow.take() {
            self.refuse(follow.id, refusal);
        }
    }

    /// Tells the log once of each session.
    pub(super) fn tell_refused(&mut self, refusal: &Refusal) {
        if refusal.code == Code::NotPermitted && !std::mem::replace(&mut self.told_refused, true) {
            let token = self.peer.login.as_ref().map(|login| tracing::field::display(&login.name));
            tracing::info!(target: AUDIT, peer = self.peer.address, token, %refusal, "refused");
        }
    }
}
