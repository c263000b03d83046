//! Entries on their way into the diary.

use std::collections::VecDeque;
use std::fmt;

use diary_client::{Ack, Client, Error, Refusal};
use indicatif::{HumanFloatCount, ProgressBar, ProgressState, ProgressStyle};
use tokio::time::Instant;

use super::{Interrupts, Work, counted, number};
use crate::error::unreachable_sentence;
use crate::patience::{HeldUp, Patience};
use crate::term::output::say;
use crate::unanswered::{Unanswered, answer_of_first};
use diary_import::Found;

/// How a progress bar looks.
const BAR: &str = "{wide_bar} {human_pos}/{human_len} {rate} {eta}";

/// Why not all was written.
pub(super) enum Stop {
    Interrupted {
        unacked: usize,
    },
    /// The server has no room.
    Full(Refusal),
    Lost {
        error: Error,
        unacked: usize,
    },
}

/// Entries on their way.
pub(super) struct Sending<'a> {
    work: &'a Work<'a>,
    /// The newest entry before the connection that sends was made, or the first of those.
    head: u64,
    bar: ProgressBar,
    /// Places in the list of all, with what was sent and not answered.
    open: Unanswered<usize>,
    pub(super) acked: usize,
    /// Acked with the number of an older entry: an archive has it, or another run was faster.
    pub(super) known: usize,
    pub(super) refused: usize,
    full: Option<Refusal>,
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
        Self { work, head: 0, bar, open: VecDeque::new(), acked: 0, known: 0, refused: 0, full: None }
    }

    /// Sends the entries at these places and waits for their acks. The client has sent nothing yet.
    pub(super) async fn send(
        &mut self,
        client: Client,
        places: &[usize],
        interrupts: &mut Interrupts,
    ) -> Option<Stop> {
        self.head = client.welcome().head;
        let mut patience = Patience::new(&client);
        let mut left = places.iter();
        let mut stopped = false;
        let mut ended: Option<Instant> = None;
        loop {
            if self.full.is_some() || stopped {
                left = [].iter();
            }
            if left.len() == 0 {
                ended = ended.or_else(|| Some(Instant::now()));
                if self.open.is_empty() {
                    break;
                }
            }
            tokio::select! {
                biased;
                (place, answer) = answer_of_first(&mut self.open), if !self.open.is_empty() => {
                    patience.progress();
                    if let Err(error) = self.settle(place, answer) {
                        return Some(Stop::Lost { error, unacked: self.open.len() + 1 });
                    }
                }
                room = client.room(), if left.len() > 0 => {
                    let Some(&place) = left.next() else { continue };
                    match room.and_then(|room| room.send(self.work.entry(place))) {
                        Ok(pending) => self.open.push_back((place, pending.into())),
                        Err(Error::Refused(refusal)) => self.refuse(place, &refusal),
                        Err(error) => return Some(Stop::Lost { error, unacked: self.open.len() }),
                    }
                }
                () = interrupts.next() => {
                    // The second time, nobody wants to wait.
                    if std::mem::replace(&mut stopped, true) {
                        return Some(Stop::Interrupted { unacked: self.open.len() });
                    }
                }
                () = patience.wait() => {
                    let held_up = ended.map_or(HeldUp::Input, HeldUp::End);
                    if let Some(error) = self.bar.suspend(|| patience.look(held_up)) {
                        return Some(Stop::Lost { error, unacked: self.open.len() });
                    }
                }
            }
        }
        // All is answered: whether the server still says goodbye is not worth an error.
        let _ = client.close().await;
        match (self.full.take(), stopped) {
            (Some(refusal), _) => Some(Stop::Full(refusal)),
            (None, true) => Some(Stop::Interrupted { unacked: 0 }),
            (None, false) => None,
        }
    }

    fn settle(&mut self, place: usize, answer: Result<Ack, Error>) -> Result<(), Error> {
        match answer {
            Ok(ack) => {
                let count = if ack.seq > self.head { &mut self.acked } else { &mut self.known };
                *count += 1;
                self.bar.inc(1);
            }
            Err(Error::Refused(refusal)) if refusal.code.is_for_now() => self.full = Some(refusal),
            Err(Error::Refused(refusal)) => self.refuse(place, &refusal),
            Err(error) => return Err(error),
        }
        Ok(())
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
            Stop::Full(refusal) => (format!("the server has no room: {refusal}"), 0),
            Stop::Lost { error, unacked } => (unreachable_sentence(error), *unacked),
        };
        let acked = counted(self.acked, "entry was", "entries were");
        let open = match unacked {
            0 => String::new(),
            count => format!(", of {} it is not known", number(count)),
        };
        say(format_args!("{why}: {acked} imported{open}; the same command goes on from there"));
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use bytes::Bytes;
    use diary_client::{Author, Options};

    use super::*;
    use crate::cli::Settings;
    use crate::config::Config;
    use crate::fake::{Fake, TIME};
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
        let connect = async || {
            let secret = Some(Bytes::from_static(b"of all entries of the files"));
            work.connect(Options { secret, ..Options::default() }).await.unwrap()
        };
        for (places, acked, known) in [(&[0, 1][..], 2, 0), (&[0, 1, 2], 1, 2)] {
            // When both of them compared, nothing was there.
            let mut sending = Sending::new(&work, 3);
            assert!(sending.send(connect().await, places, &mut Interrupts::listen()).await.is_none());
            assert_eq!((sending.acked, sending.known), (acked, known));
        }
        assert_eq!(fake.texts().len(), 3);
    }
}
