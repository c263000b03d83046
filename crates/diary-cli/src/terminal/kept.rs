//! What becomes of the entries that a person types: kept, sent, acked or refused, and at the end told of.

use std::collections::VecDeque;

use diary_client::{Ack, Client, Code, Error, Pending, Time};
use diary_proto::Command;
use diary_proto::answer::{HINT, is_old_command};
use futures::FutureExt;
use jiff::tz::TimeZone;
use tokio::sync::mpsc;

use super::{End, Ended, Sent, Talk, clean};
use crate::commands::{count, tell_refused};
use crate::exit;
use crate::input::Typed;
use crate::outbox::Tray;
use crate::output::say;

impl Talk<'_> {
    /// Keeps a text until it is acked.
    pub(super) fn keep(&mut self, text: String) {
        let pushed = self.tray.push(Time::now(&TimeZone::system()), &text);
        if let Err(why) = &pushed.kept {
            self.unkept = true;
            self.say(format_args!("{why}; the entry is sent without being kept"));
        }
        self.unsent.push_back((pushed.counter, text));
        if !self.is_connected() {
            self.show_state();
            self.note(format_args!("{} unsent", self.unsent.len() + self.open.len()));
        }
    }

    /// An entry was answered. An error means that the client has ended without its ack.
    pub(super) fn settle(&mut self, sent: Sent, answer: Result<Ack, Error>) -> Result<(), Error> {
        let Sent { counter, hint } = sent;
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
            Err(Error::Refused(refusal)) if refusal.code == Code::DiskFull => {
                self.lost += 1;
                self.say(format_args!("error {refusal}; it is kept, and the next run sends it"));
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

    pub(super) async fn finish(mut self, end: End, mut typed: mpsc::Receiver<Typed>) -> Ended {
        // What was typed and not looked at is no less worth keeping.
        typed.close();
        while !self.said_goodbye
            && let Ok(line) = typed.try_recv()
        {
            if let Typed::Line(Ok(line)) = line {
                self.held.push_back(line);
            }
        }
        let more = self.keep_held();
        self.place.output.flush();
        let count = self.not_acked() + more;
        let why = match end {
            End::Interrupted if count == 0 => return Ended::with(exit::INTERRUPTED),
            End::Done if count == 0 => {
                let _ = self.client.close().await;
                return Ended::with(exit::DONE);
            }
            // The person has said all, and the server is only away.
            End::Lost(_) if count == 0 && self.ended.is_some() && self.has_arrived => {
                return Ended::with(exit::DONE);
            }
            End::Lost(error) if count == 0 => {
                return Ended { code: exit::UNREACHABLE, last_words: vec![format!("gave up: {error}")] };
            }
            End::Done => "the input ended".to_owned(),
            End::Interrupted => "interrupted".to_owned(),
            End::Lost(error) => format!("gave up: {error}"),
        };
        self.tell_not_acked(count, &why).await
    }

    /// Keeps what waits behind a command, each under the name that it was typed under. Gives how many are not in
    /// the tray of this conversation's client.
    fn keep_held(&mut self) -> usize {
        let mut renamed = self.new_name.take();
        let mut later: Option<Tray> = None;
        let mut count = 0;
        for line in std::mem::take(&mut self.held) {
            let text = match line.strip_prefix('/') {
                Some(rest) if rest.starts_with('/') => rest.to_owned(),
                Some(_) => {
                    match Command::parse(&line) {
                        Ok(Command::Name(name)) => (renamed, later) = (Some(name), None),
                        _ => self.say(format_args!("not done: {}", clean(&line))),
                    }
                    continue;
                }
                None => line,
            };
            if let (None, Some(name)) = (&later, &renamed) {
                later = self.outbox.begin(&self.place.config.server, Some(name)).ok();
            }
            let Some(tray) = &mut later else {
                self.keep(text);
                continue;
            };
            count += 1;
            let pushed = tray.push(Time::now(&TimeZone::system()), &text);
            match &pushed.kept {
                Ok(()) => tray.not_sent(pushed.counter),
                Err(why) => say(format_args!("{why}; not kept: {}", clean(&text))),
            }
        }
        count
    }

    /// Says what was not acked, and where it is kept.
    async fn tell_not_acked(mut self, not_acked: usize, why: &str) -> Ended {
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
        if let Some(first) = of_client.or_else(|| self.unsent.front().map(|(counter, _)| *counter)) {
            self.tray.not_sent(first);
        }
        let mut last_words = Vec::new();
        match self.tray.path().and_then(|path| Some(path.parent()?.to_owned())).filter(|_| !self.unkept) {
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
                for text in given_up.chain(self.unsent.into_iter().map(|(_, text)| text)) {
                    last_words.push(format!("not acked: {}", clean(&text)));
                }
            }
        }
        Ended { code: exit::NOT_ACKED, last_words }
    }

    /// How many typed entries were not acked, or refused. What is answered by now is noted.
    fn not_acked(&mut self) -> usize {
        let mut open = VecDeque::new();
        for (sent, mut pending) in std::mem::take(&mut self.open) {
            match (&mut pending).now_or_never() {
                Some(answer @ (Ok(_) | Err(Error::Refused(_)))) => {
                    let _ = self.settle(sent, answer);
                }
                _ => open.push_back((sent, pending)),
            }
        }
        self.open = open;
        self.lost + self.open.len() + self.unsent.len()
    }
}

/// Sends the next text.
///
/// Cancellation safe: the text is taken only when there is room for it.
pub(super) async fn send(
    client: &Client,
    unsent: &mut VecDeque<(u64, String)>,
) -> Result<(Sent, Pending), Error> {
    let room = client.room().await?;
    let (counter, text) = unsent.pop_front().unwrap_or_default();
    let hint = is_old_command(&text);
    Ok((Sent { counter, hint }, room.send(text)?))
}
