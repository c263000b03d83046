//! The end of a conversation: unacked entries stay in the outbox, and the user is told.

use diary_outbox::{Held, Outcome};
use diary_proto::escape::escape;
use tokio::sync::mpsc;

use super::{Ended, Talk};
use crate::cmd::deliver::{Stopped, when_sent};
use crate::error::{CliError, exit, unreachable_sentence};
use crate::render::count;
use crate::term::input::Typed;

impl Talk<'_> {
    pub(super) async fn finish(
        mut self,
        stopped: Option<Stopped>,
        mut typed: mpsc::Receiver<Typed>,
    ) -> Ended {
        // Lines that were typed and not handled yet are kept, too.
        typed.close();
        while let Ok(line) = typed.try_recv() {
            self.take_in(Some(line));
        }
        let author = self.deliveries.back().and_then(|delivery| delivery.author().cloned());
        let commands = std::mem::take(&mut self.commands);
        for (line, _) in commands.iter().filter(|(line, _)| line.trim_end() != "/quit") {
            self.say(format_args!("not done: {}", escape(line)));
        }
        while let Some(mut delivery) = self.deliveries.pop_front() {
            delivery.stop();
            while let Some(outcome) = delivery.next().await {
                // What holds it up is told with the rest.
                if !matches!(outcome, Outcome::Held(_)) {
                    self.take(Some(outcome));
                }
            }
            // Entries that earlier runs left.
            self.left += delivery.unanswered();
        }
        let printed = self.place.output.finish();
        let how = self.last_words(stopped).and_then(|()| Ok(printed?));
        Ended { how, author }
    }

    /// Returns the final report.
    fn last_words(&self, stopped: Option<Stopped>) -> Result<(), CliError> {
        let Self { left, lost, .. } = self;
        let why = match &stopped {
            None => "the input ended".to_owned(),
            Some(Stopped::Interrupted) => "interrupted".to_owned(),
            Some(Stopped::GaveUp(Held::Away(error))) if !self.has_arrived => unreachable_sentence(error),
            Some(Stopped::GaveUp(Held::Ended(error))) => format!("gave up: {}", unreachable_sentence(error)),
            Some(Stopped::GaveUp(held)) => format!("gave up: {held}"),
        };
        if left + lost.len() == 0 {
            return match stopped {
                None => Ok(()),
                Some(Stopped::Interrupted) => Err(CliError::Told(exit::INTERRUPTED)),
                // The input has ended, and the server is only away.
                Some(_) if self.ended.is_some() && self.has_arrived => Ok(()),
                Some(Stopped::GaveUp(Held::Ended(_))) => Err(CliError::Refused(why)),
                Some(_) => Err(CliError::Unreachable(why)),
            };
        }
        let mut words = Vec::new();
        if let Some(folder) = self.place.config.outbox().folder().filter(|_| *left > 0) {
            let (entries, folder) = (count(*left, "entry was", "entries were"), folder.display());
            let then = match stopped {
                Some(Stopped::GaveUp(Held::Ended(_))) => "; see diary outbox".to_owned(),
                _ => format!(", and sent {}", when_sent(&self.place.config.server)),
            };
            words.push(format!("{why}; {entries} not acked: kept in {folder}{then}"));
        }
        if !lost.is_empty() {
            let entries = count(lost.len(), "entry was", "entries were");
            words.push(format!("{why}; {entries} not acked and NOT kept:"));
            words.extend(lost.iter().map(|text| format!("not acked: {}", escape(text))));
        }
        Err(CliError::NotAcked(words.join("\n")))
    }
}
