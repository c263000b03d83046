//! What becomes of the entries that a person types: kept, sent, acked or refused, and at the end told of.

use std::collections::VecDeque;

use diary_client::{Ack, Client, Code, Error, Time};
use diary_proto::answer::{HINT, is_old_command};
use futures::FutureExt;
use jiff::tz::TimeZone;
use tokio::sync::mpsc;

use super::{End, Sent, Talk, clean};
use crate::commands::{count, tell_refused};
use crate::exit;
use crate::input::Typed;
use crate::output::say;

impl Talk<'_> {
    /// Keeps a text until it is acked.
    pub(super) fn keep(&mut self, text: String) {
        let pushed = self.tray.push(Time::now(&TimeZone::system()), &text);
        if let Err(why) = &pushed.kept {
            self.say(format_args!("{why}; the entry is sent without being kept"));
        }
        self.unsent.push_back((pushed.counter, text));
        if !self.is_connected() {
            self.show_state();
            self.note(format_args!("{} unsent", self.unsent.len() + self.open.len()));
        }
    }

    /// An entry was answered. An error means that the client has ended without its ack.
    pub(super) fn settle(
        &mut self,
        sent: Option<(u64, bool)>,
        answer: Result<Ack, Error>,
    ) -> Result<(), Error> {
        let Some((counter, hint)) = sent else { return Ok(()) };
        match answer {
            Ok(ack) => {
                self.patience.progress();
                self.tray.acked(counter);
                self.newest_own = self.newest_own.max(ack.seq);
                if !self.quiet {
                    let hint = if hint { HINT } else { "" };
                    self.place.output.print(format!("ok {}{hint}\n", ack.seq).as_bytes());
                }
            }
            Err(Error::Refused(refusal)) if matches!(refusal.code, Code::StaleKey | Code::Conflict) => {
                self.tray.refused(counter, &refusal);
                tell_refused(&self.outbox, &self.tray, [(counter, &refusal)]);
            }
            Err(Error::Refused(refusal)) => {
                // If that cannot be written down, it is listed as refused.
                let _ = self.tray.drop_entry(counter);
                self.say(format_args!("error {refusal}"));
            }
            Err(error) => {
                self.lost += 1;
                return Err(error);
            }
        }
        Ok(())
    }

    pub(super) async fn finish(mut self, end: End, mut typed: mpsc::Receiver<Typed>) -> u8 {
        // What was typed and not looked at is no less worth keeping.
        typed.close();
        while !self.said_goodbye
            && let Ok(line) = typed.try_recv()
        {
            if let Typed::Line(Ok(line)) = line {
                self.held.push_back(line);
            }
        }
        for line in std::mem::take(&mut self.held) {
            match line.strip_prefix('/') {
                Some(rest) if !rest.starts_with('/') => self.say(format_args!("not done: {}", clean(&line))),
                Some(rest) => self.keep(rest.to_owned()),
                None => self.keep(line),
            }
        }
        self.place.output.flush();
        let count = self.not_acked();
        let why = match end {
            End::Interrupted if count == 0 => return exit::INTERRUPTED,
            End::Done if count == 0 => {
                let _ = self.client.close().await;
                return exit::DONE;
            }
            End::Done => "the input ended".to_owned(),
            End::Interrupted => "interrupted".to_owned(),
            End::Lost(error) => format!("gave up: {error}"),
        };
        self.tell_not_acked(count, &why).await
    }

    /// Says what was not acked, and where it is kept.
    async fn tell_not_acked(mut self, not_acked: usize, why: &str) -> u8 {
        let entries = count(not_acked, "entry was", "entries were");
        let given_up = self.client.give_up().await;
        let sent = given_up.iter().filter(|entry| entry.sent).count();
        let of_client = self.open.iter().map(|sent| sent.counter).nth(sent);
        if let Some(first) = of_client.or_else(|| self.unsent.front().map(|(counter, _)| *counter)) {
            self.tray.not_sent(first);
        }
        match self.tray.path().filter(|path| path.exists()) {
            Some(path) => {
                let server = &self.place.config.server;
                say(format_args!(
                    "{why}; {entries} not acked: kept in {}, and the next run for {server} sends it",
                    path.display()
                ));
            }
            None => {
                say(format_args!("{why}; {entries} not acked"));
                let given_up = given_up.into_iter().map(|entry| entry.text);
                for text in given_up.chain(self.unsent.into_iter().map(|(_, text)| text)) {
                    say(format_args!("not acked: {}", clean(&text)));
                }
            }
        }
        exit::NOT_ACKED
    }

    /// How many typed entries were not acked, or refused. What is answered by now is noted.
    fn not_acked(&mut self) -> usize {
        let mut open = VecDeque::new();
        for mut sent in std::mem::take(&mut self.open) {
            match (&mut sent.pending).now_or_never() {
                Some(answer @ (Ok(_) | Err(Error::Refused(_)))) => {
                    let _ = self.settle(Some((sent.counter, sent.hint)), answer);
                }
                _ => open.push_back(sent),
            }
        }
        self.open = open;
        self.lost + self.open.len() + self.unsent.len()
    }
}

/// Sends the next text.
///
/// Cancellation safe: the text is taken only when there is room for it.
pub(super) async fn send(client: &Client, unsent: &mut VecDeque<(u64, String)>) -> Result<Sent, Error> {
    let room = client.room().await?;
    let (counter, text) = unsent.pop_front().unwrap_or_default();
    let hint = is_old_command(&text);
    Ok(Sent { counter, pending: room.send(text)?, hint })
}

/// The answer for what was sent first, its counter, and whether a hint is due.
///
/// Cancellation safe: an entry leaves the queue only with its answer.
pub(super) async fn answer_of_first(open: &mut VecDeque<Sent>) -> (Option<(u64, bool)>, Result<Ack, Error>) {
    let answer = match open.front_mut() {
        Some(sent) => (&mut sent.pending).await,
        None => std::future::pending().await,
    };
    (open.pop_front().map(|sent| (sent.counter, sent.hint)), answer)
}
