//! Entries on their way into the diary.

use std::fmt;

use diary_client::Refusal;
use diary_outbox::{Delivery, Held, Outcome};
use indicatif::{HumanFloatCount, ProgressBar, ProgressState, ProgressStyle};
use tokio::time::Instant;

use super::{Work, counted, number};
use crate::cmd::deliver::{deadline_of_input, resumed, until};
use crate::error::unreachable_sentence;
use crate::term::output::say;
use crate::term::signals::Signals;
use diary_import::Found;

/// How a progress bar looks.
const BAR: &str = "{wide_bar} {human_pos}/{human_len} {rate} {eta}";

/// Why not all was written, and of how many entries it is not known whether they were.
pub(super) enum Stop {
    Interrupted { unacked: usize },
    Held { held: Held, unacked: usize },
}

/// Entries on their way.
pub(super) struct Sending<'a> {
    work: &'a Work<'a>,
    /// The newest entry before the first of those.
    head: u64,
    bar: ProgressBar,
    pub(super) acked: usize,
    /// Acked with the number of an older entry: an archive has it, or another run was faster.
    pub(super) known: usize,
    pub(super) refused: usize,
    unacked: usize,
}

impl<'a> Sending<'a> {
    pub(super) fn new(work: &'a Work<'a>, count: usize) -> Self {
        let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
            // A bar that cannot be drawn tells nobody.
            let _ = write!(out, "{:.0} entries/s", HumanFloatCount(state.per_sec()));
        };
        let style = ProgressStyle::with_template(BAR).expect("the template is sound").with_key("rate", rate);
        // It shows nothing where stderr is no terminal.
        let bar = ProgressBar::new(count as u64).with_style(style);
        Self { work, head: 0, bar, acked: 0, known: 0, refused: 0, unacked: 0 }
    }

    /// Sends the entries at these places, each with its place as its counter, and waits for their acks.
    pub(super) async fn send(
        &mut self,
        mut delivery: Delivery<usize>,
        places: &[usize],
        signals: &mut Signals,
    ) -> Option<Stop> {
        let mut left = places.iter();
        let (mut ended, mut interrupted, mut held) = (None, false, None);
        loop {
            while ended.is_none() && delivery.has_room() {
                match left.next() {
                    // Nothing of it is kept, so nothing can fail.
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
                        // Whoever imports can do it again once there is room.
                        if let Outcome::Held(full @ Held::Full(_)) = &outcome {
                            held = Some(full.clone());
                            delivery.stop();
                        }
                        self.take(outcome, delivery.has_arrived());
                    }
                    None => break,
                },
                () = signals.any() => {
                    // The first time, what was sent is waited for; the second time, nobody wants to wait.
                    if std::mem::replace(&mut interrupted, true) {
                        delivery.stop();
                    }
                    ended = ended.or_else(|| Some(Instant::now()));
                    delivery.finish();
                }
                () = until(deadline) => {
                    held = delivery.held().map(|(held, _)| held.clone());
                    delivery.stop();
                }
            }
        }
        let unacked = self.unacked;
        match held {
            Some(held) => Some(Stop::Held { held, unacked }),
            None => interrupted.then_some(Stop::Interrupted { unacked }),
        }
    }

    fn take(&mut self, outcome: Outcome<usize>, has_arrived: bool) {
        match outcome {
            Outcome::Arrived(welcome) => self.head = welcome.head,
            Outcome::Acked { ack, .. } => {
                let count = if ack.seq > self.head { &mut self.acked } else { &mut self.known };
                *count += 1;
                self.bar.inc(1);
            }
            Outcome::Refused { tag, refusal, .. } => self.refuse(tag, &refusal),
            Outcome::Left { sent, .. } => self.unacked += usize::from(sent),
            Outcome::Held(Held::Away(error)) if has_arrived => {
                self.bar.suspend(|| say(format_args!("{error}; trying to connect again")));
            }
            Outcome::Resumed(held) if has_arrived => {
                self.bar.suspend(|| say(format_args!("{}", resumed(&held, &self.work.config.server))));
            }
            _ => {}
        }
    }

    fn refuse(&mut self, place: usize, refusal: &Refusal) {
        self.refused += 1;
        let Found { file, line, .. } = self.work.sorted[place];
        let name = &self.work.files[*file].name;
        self.bar.suspend(|| say(format_args!("{name}, line {line}: refused: {refusal}")));
    }

    /// No more is sent: the bar goes, and if something `stopped` it, that is said.
    pub(super) fn end(&self, stopped: Option<&Stop>) {
        self.bar.finish_and_clear();
        let Some(stop) = stopped else { return };
        let (why, unacked) = match stop {
            Stop::Interrupted { unacked } => ("stopped".to_owned(), *unacked),
            Stop::Held { held: Held::Away(error), unacked } => (unreachable_sentence(error), *unacked),
            Stop::Held { held, unacked } => (held.to_string(), *unacked),
        };
        let acked = counted(self.acked, "entry was", "entries were");
        let open = match unacked {
            0 => String::new(),
            count => format!(", {} unknown", number(count)),
        };
        say(format_args!("{why}: {acked} imported{open}; the same command goes on from there"));
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

    /// Another run of the same import has the same keys.
    #[tokio::test]
    async fn what_another_run_has_written_meanwhile_was_there_already() {
        let fake = Fake::start().await;
        let config = Config::read(Some(fake.address().parse().unwrap()), &Settings::default());
        let found = ["a", "b", "c"].map(found);
        let work = Work {
            config: &config,
            files: &[],
            author: Some(Author::new("anna").unwrap()),
            sorted: found.iter().collect(),
            not_readable: 0,
            damage: false,
            dry_run: false,
        };
        for (places, acked, known) in [(&[0, 1][..], 2, 0), (&[0, 1, 2], 1, 2)] {
            // When both of them compared, nothing was there.
            let mut sending = Sending::new(&work, 3);
            let keys = Keys::Derived(Secret::new("of all entries of the files").unwrap());
            let delivery = Delivery::new(config.server.clone(), work.author.clone(), keys).unwrap();
            assert!(sending.send(delivery, places, &mut Signals::of(&[])).await.is_none());
            assert_eq!((sending.acked, sending.known), (acked, known));
        }
        assert_eq!(fake.texts().len(), 3);
    }
}
