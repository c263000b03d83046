//! Sends the missing entries to the diary.

use std::fmt;

use diary_outbox::{Delivery, Held, Outcome};
use diary_proto::escape::escape;
use indicatif::{HumanFloatCount, ProgressBar, ProgressState, ProgressStyle};
use tokio::time::{Instant, sleep_until};

use super::{Work, counted, number};
use crate::cmd::deliver::{Stopped, deadline_of_input, if_any, state_sentence};
use crate::error::{CliError, exit};
use crate::term::output::{print, say};
use crate::term::signals::Signals;
use diary_import::Found;

/// Template of the progress bar.
const BAR: &str = "{wide_bar} {human_pos}/{human_len} {rate} {eta}";

/// Entries in flight.
pub(super) struct Sending<'a> {
    work: &'a Work<'a>,
    /// Head of the diary before this import.
    head: u64,
    bar: ProgressBar,
    pub(super) acked: usize,
    /// Entries acked with the seq of an older entry: an archive has it, or another run was faster.
    pub(super) known: usize,
    pub(super) refused: usize,
    unacked: usize,
}

impl<'a> Sending<'a> {
    pub(super) fn new(work: &'a Work<'a>) -> Self {
        let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
            // A failure to draw the bar is ignored.
            let _ = write!(out, "{:.0} entries/s", HumanFloatCount(state.per_sec()));
        };
        let style = ProgressStyle::with_template(BAR).expect("the template is sound").with_key("rate", rate);
        // Hidden if stderr is no terminal.
        let bar = ProgressBar::new(work.missing.len() as u64).with_style(style);
        Self { work, head: 0, bar, acked: 0, known: 0, refused: 0, unacked: 0 }
    }

    /// Sends the missing entries, each with its place plus one as its counter, and waits for acks.
    pub(super) async fn send(
        &mut self,
        mut delivery: Delivery<usize>,
        signals: &mut Signals,
    ) -> Option<Stopped> {
        let mut left = self.work.missing.iter();
        let (mut ended, mut interrupted, mut held) = (None, false, None);
        loop {
            while ended.is_none() && delivery.has_room() {
                match left.next() {
                    // Cannot fail, since nothing is kept on disk.
                    Some(&place) => _ = delivery.submit_at(place as u64 + 1, place, self.work.entry(place)),
                    None => {
                        delivery.finish();
                        ended = Some(Instant::now());
                    }
                }
            }
            let deadline = deadline_of_input(&delivery, ended).filter(|_| held.is_none());
            tokio::select! {
                biased;
                outcome = delivery.next() => match outcome {
                    Some(outcome) => {
                        // Stop on a full disk: the import can be repeated once there is room.
                        if let Outcome::Held(full @ Held::Full(_)) = &outcome {
                            held = Some(full.clone());
                            delivery.stop();
                        }
                        self.take(outcome, delivery.has_arrived());
                    }
                    None => break,
                },
                () = signals.any() => {
                    // The first Ctrl-C waits for what was sent; the second stops at once.
                    if std::mem::replace(&mut interrupted, true) {
                        delivery.stop();
                    }
                    ended = ended.or_else(|| Some(Instant::now()));
                    delivery.finish();
                }
                () = if_any(deadline.map(sleep_until)) => {
                    held = delivery.held().map(|(held, _)| held.clone());
                    delivery.stop();
                }
            }
        }
        self.bar.finish_and_clear();
        held.map(Stopped::GaveUp).or_else(|| interrupted.then_some(Stopped::Interrupted))
    }

    fn take(&mut self, outcome: Outcome<usize>, has_arrived: bool) {
        match outcome {
            Outcome::Arrived(welcome) => self.head = welcome.head,
            Outcome::Acked { ack, .. } => {
                let count = if ack.seq > self.head { &mut self.acked } else { &mut self.known };
                *count += 1;
                self.bar.inc(1);
            }
            Outcome::Refused { tag, refusal, .. } => {
                self.refused += 1;
                let Found { file, line, .. } = self.work.sorted[tag];
                let name = &self.work.files[*file].name;
                self.bar.suspend(|| say(format_args!("{name}, line {line}: refused: {refusal}")));
            }
            Outcome::Left { sent, .. } => self.unacked += usize::from(sent),
            outcome => {
                if let Some(sentence) = state_sentence(&outcome, has_arrived, &self.work.config.server) {
                    self.bar.suspend(|| say(format_args!("{sentence}")));
                }
            }
        }
    }

    /// Reports what was done, or would be in a dry run.
    ///
    /// # Errors
    /// Not everything is in the diary.
    pub(super) fn tell(&self, stopped: Option<Stopped>) -> Result<(), CliError> {
        let Self { work, acked, known, refused, unacked, .. } = self;
        if let Some(stopped) = &stopped {
            let acked = counted(*acked, "entry was", "entries were");
            let open = if *unacked > 0 { format!(", {} unknown", number(*unacked)) } else { String::new() };
            say(format_args!("{stopped}: {acked} imported{open}; run the same command again to continue"));
        }
        let (verb, imported) =
            if work.dry_run { ("would import", work.missing.len()) } else { ("imported", *acked) };
        let as_whom = match work.dry_run && !work.sorted.is_empty() {
            true => format!(" (by {}, where none is named)", escape(&work.name)),
            false => String::new(),
        };
        let there = number(work.sorted.len() - work.missing.len() + known);
        let refusals = if *refused > 0 { format!(", {} refused", number(*refused)) } else { String::new() };
        print(format!(
            "{verb} {}{as_whom}, {there} duplicates, {} unreadable{refusals}\n",
            number(imported),
            number(work.not_readable)
        ))?;
        CliError::told(match stopped {
            Some(Stopped::Interrupted) if *unacked == 0 => exit::INTERRUPTED,
            Some(_) => exit::NOT_ACKED,
            None if work.damage => exit::DAMAGE,
            None if work.not_readable + refused > 0 => exit::REFUSED,
            None if work.sorted.is_empty() => exit::NOTHING_FOUND,
            None => exit::DONE,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use diary_client::{Author, Secret};
    use diary_outbox::Keys;
    use diary_outbox::fake::{Fake, TIME};

    use super::*;
    use crate::cli::Settings;
    use crate::config::Config;
    use diary_import::{Exactness, When};

    fn found(text: &'static str) -> Found<'static> {
        let when = When { time: TIME, exactness: Exactness::Moment };
        Found { when, author: None, text: Cow::Borrowed(text), file: 0, line: 1, of_jrnl: false }
    }

    /// Entries that were compared with one journal go to no other.
    #[tokio::test]
    async fn a_server_that_serves_another_journal_by_now_gets_nothing() {
        let fake = Fake::start().await;
        let config = Config::read(Some(fake.address().parse().unwrap()), &Settings::default());
        let found: &'static [Found<'static>] = Vec::leak(vec![found("a")]);
        let work = work(&config, found, vec![0]);
        let mut sending = Sending::new(&work);
        let stopped = sending.send(work.delivery().unwrap(), &mut Signals::of(&[])).await;
        assert!(matches!(stopped, Some(Stopped::GaveUp(Held::Ended(_)))));
        assert!(fake.texts().is_empty());
    }

    fn work<'a>(config: &'a Config, found: &'static [Found<'static>], missing: Vec<usize>) -> Work<'a> {
        Work {
            config,
            files: &[],
            author: Some(Author::new("anna").unwrap()),
            name: "anna".to_owned(),
            journal: 0,
            sorted: found.iter().collect(),
            missing,
            not_readable: 0,
            damage: false,
            dry_run: false,
        }
    }

    /// Another run of the same import uses the same keys.
    #[tokio::test]
    async fn what_another_run_has_written_meanwhile_was_there_already() {
        let fake = Fake::start().await;
        let config = Config::read(Some(fake.address().parse().unwrap()), &Settings::default());
        let found: &'static [Found<'static>] = Vec::leak(["a", "b", "c"].map(found).to_vec());
        for (missing, acked, known) in [(vec![0, 1], 2, 0), (vec![0, 1, 2], 1, 2)] {
            // Nothing was there yet when both runs compared.
            let work = work(&config, found, missing);
            let mut sending = Sending::new(&work);
            let keys = Keys::Derived(Secret::new("of all entries of the files").unwrap());
            let delivery = Delivery::new(config.server.clone(), work.author.clone(), keys).unwrap();
            assert!(sending.send(delivery, &mut Signals::of(&[])).await.is_none());
            assert_eq!((sending.acked, sending.known), (acked, known));
        }
        assert_eq!(fake.texts().len(), 3);
    }
}
