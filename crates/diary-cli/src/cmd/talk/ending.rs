//! The end of a conversation: what is not acked stays in the outbox, and the person is told.

use diary_outbox::{Held, Outcome};
use tokio::sync::mpsc;

use super::{Ended, Over, Talk, clean};
use crate::cmd::count;
use crate::error::{exit, unreachable_sentence};
use crate::term::input::Typed;

impl Talk<'_> {
    pub(super) async fn finish(mut self, over: Over, mut typed: mpsc::Receiver<Typed>) -> Ended {
        // What was typed and not looked at is no less worth keeping.
        typed.close();
        while let Ok(line) = typed.try_recv() {
            self.take_in(Some(line));
        }
        let author = self.deliveries.back().and_then(|delivery| delivery.author().cloned());
        let commands = std::mem::take(&mut self.commands);
        for (line, _) in commands.iter().filter(|(line, _)| line.trim_end() != "/quit") {
            self.say(format_args!("not done: {}", clean(line)));
        }
        let (mut kept, mut lost) = (0, Vec::new());
        while let Some(mut delivery) = self.deliveries.pop_front() {
            delivery.stop();
            while let Some(outcome) = delivery.next().await {
                match outcome {
                    Outcome::Left { id: Some(_), .. } => kept += 1,
                    Outcome::Left { text, id: None, .. } => lost.push(text),
                    outcome => self.take(Some(outcome)),
                }
            }
        }
        let printed = self.place.output.finish();
        let (mut code, mut last_words) = self.last_words(&over, kept, &lost);
        if let Err(why) = printed {
            code = if code == exit::DONE { exit::USAGE } else { code };
            last_words.insert(0, why.to_string());
        }
        Ended { code, last_words, author }
    }

    /// What is told at the end, for so many entries that wait in the outbox and these that do not, and the exit code.
    fn last_words(&self, over: &Over, kept: usize, lost: &[String]) -> (u8, Vec<String>) {
        let gave_up = |held: &Held| match held {
            Held::Away(error) if !self.has_arrived => unreachable_sentence(error),
            held => format!("gave up: {held}"),
        };
        let why = match over {
            Over::Done if kept + lost.len() == 0 => return (exit::DONE, Vec::new()),
            Over::Interrupted if kept + lost.len() == 0 => return (exit::INTERRUPTED, Vec::new()),
            // The person has said all, and the server is only away.
            Over::Lost(_) if kept + lost.len() == 0 && self.ended.is_some() && self.has_arrived => {
                return (exit::DONE, Vec::new());
            }
            Over::Lost(held) if kept + lost.len() == 0 => return (exit::UNREACHABLE, vec![gave_up(held)]),
            Over::Done => "the input ended".to_owned(),
            Over::Interrupted => "interrupted".to_owned(),
            Over::Lost(held) => gave_up(held),
        };
        let mut words = Vec::new();
        if let Some(folder) = self.place.config.outbox().folder().filter(|_| kept > 0) {
            let (entries, folder) = (count(kept, "entry was", "entries were"), folder.display());
            words.push(format!(
                "{why}; {entries} not acked: kept in {folder}, and sent with the next entry or by diary outbox send"
            ));
        }
        if !lost.is_empty() {
            let entries = count(lost.len(), "entry was", "entries were");
            words.push(format!("{why}; {entries} not acked and NOT kept:"));
            words.extend(lost.iter().map(|text| format!("not acked: {}", clean(text))));
        }
        (exit::NOT_ACKED, words)
    }
}
