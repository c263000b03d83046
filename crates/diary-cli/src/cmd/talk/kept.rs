//! What becomes of the entries that a person types: kept, sent, acked or refused, and at the end told of.

use diary_client::{Ack, Error, Refusal};
use diary_proto::answer::HINT;
use tokio::sync::mpsc;

use super::{End, Ended, Sent, Talk, clean};
use crate::cmd::{count, tell_refused};
use crate::error::exit;
use crate::term::input::Typed;
use crate::unanswered::take_answered;

impl Talk<'_> {
    /// An entry was answered. An error means that the client has ended without its ack.
    pub(super) fn settle(&mut self, sent: Sent, answer: Result<Ack, Error>) -> Result<(), Error> {
        let Sent { counter, hint } = sent;
        match answer {
            Ok(ack) => {
                self.answered();
                self.agenda.tray().acked(counter);
                self.newest_own = self.newest_own.max(ack.seq);
                if !self.quiet {
                    let hint = if hint { HINT } else { "" };
                    let line = format!("ok {} on {}{hint}\n", ack.seq, self.place.config.server);
                    self.print(line.as_bytes());
                }
            }
            Err(Error::Refused(refusal)) => {
                self.answered();
                self.refused(counter, refusal);
            }
            Err(error) => {
                self.lost += 1;
                return Err(error);
            }
        }
        Ok(())
    }

    /// It is not in the diary, and nobody else may have it.
    fn refused(&mut self, counter: u64, refusal: Refusal) {
        let is_full = refusal.code.is_for_now();
        self.lost += usize::from(is_full);
        if self.agenda.is_unkept() {
            let text = self.agenda.tray().entry(counter).map(|kept| clean(&kept.text)).unwrap_or_default();
            self.say(format_args!("error {refusal}; the text is NOT kept: {text}"));
        } else if is_full {
            self.stop_for_room(refusal);
        } else {
            let outbox = self.agenda.outbox().clone();
            self.break_bare_prompt(true);
            self.place.output.flush();
            let tray = self.agenda.tray();
            tray.refused(counter, &refusal);
            tell_refused(&self.place.ui(), &outbox, tray, [(counter, &refusal)]);
        }
    }

    pub(super) async fn finish(mut self, end: End, mut typed: mpsc::Receiver<Typed>) -> Ended {
        // What was typed and not looked at is no less worth keeping.
        typed.close();
        while let Ok(line) = typed.try_recv() {
            if let Some(trouble) = self.agenda.take_in(Some(line)) {
                self.say(format_args!("{trouble}"));
            }
        }
        let author = self.agenda.last_author();
        Ended { author, ..self.give_up(end).await }
    }

    /// What was not acked stays in the outbox.
    async fn give_up(mut self, end: End) -> Ended {
        let undone = self.agenda.give_up(self.renaming.is_some());
        self.unsent.extend(
            undone.texts.into_iter().map(|(counter, entry)| (Sent::new(counter, &entry.text), entry)),
        );
        undone.commands.iter().for_each(|line| self.say(format_args!("not done: {}", clean(line))));
        self.place.output.flush();
        let count = self.not_acked() + undone.later.len() + self.catch_up.set_aside();
        let why = match end {
            End::Interrupted if count == 0 => return Ended::with(exit::INTERRUPTED),
            End::Done if count == 0 => {
                let _ = self.client.close().await;
                return Ended::with(exit::DONE);
            }
            // The person has said all, and the server is only away.
            End::Lost(_) if count == 0 && self.agenda.ended().is_some() && self.has_arrived => {
                return Ended::with(exit::DONE);
            }
            End::Lost(error) if count == 0 => {
                let last_words = vec![format!("gave up: {error}")];
                return Ended { last_words, ..Ended::with(exit::UNREACHABLE) };
            }
            End::Done => "the input ended".to_owned(),
            End::Interrupted => "interrupted".to_owned(),
            End::Lost(error) => format!("gave up: {error}"),
        };
        self.tell_not_acked(count, undone.later, &why).await
    }

    /// Says what was not acked, and where it is kept.
    async fn tell_not_acked(mut self, not_acked: usize, later: Vec<String>, why: &str) -> Ended {
        let entries = count(not_acked, "entry was", "entries were");
        let given_up = self.client.give_up().await;
        // From the end, since the first of them may have been acked meanwhile.
        let not_sent = given_up.iter().filter(|entry| !entry.sent).count();
        let of_client = self
            .open
            .iter()
            .skip(self.open.len().saturating_sub(not_sent))
            .map(|(sent, _)| sent.counter)
            .next();
        if let Some(first) = of_client.or_else(|| self.unsent.front().map(|(sent, _)| sent.counter)) {
            self.agenda.tray().not_sent(first);
        }
        let mut last_words = Vec::new();
        let folder = self.agenda.tray().path().and_then(|path| Some(path.parent()?.to_owned()));
        match folder.filter(|_| !self.agenda.is_unkept()) {
            Some(folder) => {
                let (server, folder) = (&self.place.config.server, folder.display());
                let them = if not_acked == 1 { "it" } else { "them" };
                last_words.push(format!(
                    "{why}; {entries} not acked: kept in {folder}, and the next run for {server} sends {them}"
                ));
            }
            None => {
                last_words.push(format!("{why}; {entries} not acked"));
                let given_up = given_up.into_iter().map(|entry| entry.text);
                for text in given_up.chain(self.unsent.into_iter().map(|(_, entry)| entry.text)).chain(later)
                {
                    last_words.push(format!("not acked: {}", clean(&text)));
                }
            }
        }
        Ended { last_words, ..Ended::with(exit::NOT_ACKED) }
    }

    /// How many typed entries were not acked, or refused. What is answered by now is noted.
    fn not_acked(&mut self) -> usize {
        for (sent, answer) in take_answered(&mut self.open) {
            let _ = self.settle(sent, answer);
        }
        self.lost + self.open.len() + self.unsent.len()
    }
}
