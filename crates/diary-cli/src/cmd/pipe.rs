//! Writes each line from a file or another program as an entry: prints history first, then an ack per line.

use std::io;
use std::pin::{Pin, pin};

use diary_client::{Address, Code, Error, NewEntry, Refusal, Which};
use diary_outbox::{Delivery, Held, Keys, Outcome};
use diary_proto::answer::push_ack;
use tokio::time::{Instant, sleep_until};

use super::deliver::{Stopped, deadline_of_input, if_any, state_sentence, tell_clocks};
use super::page::Page;
use super::reading::Query;
use crate::config::Config;
use crate::error::{CliError, exit};
use crate::query::select::Select;
use crate::render::Printer;
use crate::term::input::{Chunks, Line, Lines, no_login};
use crate::term::output::{Output, say};
use crate::term::ui::Ui;

/// Outcome of an input of which no line was sent.
const NOTHING: &str = "nothing was sent";

/// Prints the past, then writes the input. Gives up when `interrupt` is ready.
///
/// # Errors
/// Not all of the input is in the diary, or the past could not be read.
pub(crate) async fn run(
    past: Which,
    config: &Config,
    input: Chunks,
    output: Output,
    interrupt: impl Future<Output = ()>,
) -> Result<(), CliError> {
    let (mut page, mut interrupt) = (Page::new(Printer::plain(), output), pin!(interrupt));
    let read = tokio::select! {
        biased;
        () = &mut interrupt, if past != Which::Last(0) => Err(CliError::Told(exit::INTERRUPTED)),
        read = print_past(past, config, &mut page) => read,
    };
    let may_not_read = matches!(
        &read,
        Err(CliError::Reading(Error::Refused(refusal))) if refusal.code == Code::NotPermitted
    );
    let code = match read {
        Ok(()) => exit::DONE,
        Err(error @ CliError::Reading(Error::Refused(_))) => {
            say(format_args!("{error}"));
            error.code()
        }
        Err(error) => return Err(error.before_anything(NOTHING)),
    };
    let mut pipe = Pipe::new(input, page.output, code);
    pipe.may_not_read = may_not_read;
    pipe.write(config.delivery(Keys::Fresh)?, interrupt).await
}

async fn print_past(past: Which, config: &Config, page: &mut Page) -> Result<(), CliError> {
    if past == Which::Last(0) {
        return Ok(());
    }
    let select = Select { last: Some(past.to_string()), ..Select::default() };
    Query::connect(config, None, |today| select.plan(today)).await?.print(page).await
}

struct Pipe {
    input: Chunks,
    output: Output,
    lines: Lines,
    /// Whether all lines read so far are with the delivery.
    needs_input: bool,
    /// When the input ended.
    ended: Option<Instant>,
    /// Number of the newest line in the diary; 0 for none.
    acked: u64,
    any_refused: bool,
    /// Whether the past was refused for want of a right.
    may_not_read: bool,
    /// First and last line that were sent and not acked.
    sent: Option<(u64, u64)>,
    /// First line that was read and not sent.
    unsent: Option<u64>,
    code: u8,
}

impl Pipe {
    fn new(input: Chunks, output: Output, code: u8) -> Self {
        Self {
            input,
            output,
            lines: Lines::default(),
            needs_input: true,
            ended: None,
            acked: 0,
            any_refused: false,
            may_not_read: false,
            sent: None,
            unsent: None,
            code,
        }
    }

    /// Writes the whole input.
    async fn write(
        mut self,
        mut delivery: Delivery<u64>,
        mut interrupt: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), CliError> {
        let mut stopped = None;
        loop {
            if stopped.is_none() {
                self.submit(&mut delivery);
            }
            let deadline = deadline_of_input(&delivery, self.ended).filter(|_| stopped.is_none());
            let wants_input = self.needs_input && self.ended.is_none() && stopped.is_none();
            tokio::select! {
                biased;
                () = &mut interrupt, if stopped.is_none() => {
                    stopped = Some(Stopped::Interrupted);
                    delivery.stop();
                }
                outcome = delivery.next() => match outcome {
                    Some(outcome) => self.take(outcome, delivery.has_arrived(), delivery.address()),
                    None => break,
                },
                chunk = self.input.recv(), if wants_input => self.take_in(chunk),
                () = if_any(deadline.map(sleep_until)) => {
                    stopped = delivery.held().map(|(held, _)| Stopped::GaveUp(held.clone()));
                    delivery.stop();
                }
                () = self.output.flush_when_idle() => {}
            }
        }
        let printed = self.output.finish();
        match stopped {
            Some(Stopped::GaveUp(Held::Away(error))) if !delivery.has_arrived() => {
                Err(CliError::from(error).before_anything(NOTHING))
            }
            Some(stopped) => Err(self.not_all(&stopped)),
            None => {
                // Whoever may only write has written.
                let writes_only = self.may_not_read && self.acked > 0 && !self.any_refused;
                self.code = if writes_only { exit::DONE } else { self.code };
                let stored = |why| CliError::Usage(format!("in the diary: up to line {}; {why}", self.acked));
                printed.map_err(stored).and(CliError::told(self.code))
            }
        }
    }

    fn take_in(&mut self, chunk: Option<io::Result<Vec<u8>>>) {
        self.needs_input = false;
        match chunk {
            Some(Ok(chunk)) => return self.lines.push(&chunk),
            Some(Err(error)) => {
                say(format_args!("the input cannot be read: {error}"));
                self.code = exit::USAGE;
            }
            None => {}
        }
        self.ended = Some(Instant::now());
    }

    /// Submits the lines that were read, while there is room. Reports lines that cannot be sent.
    fn submit(&mut self, delivery: &mut Delivery<u64>) {
        while delivery.has_room() && !self.needs_input {
            let line = self.lines.next(self.ended.is_some());
            let checked = line
                .map(|Line { number, text }| (number, text.and_then(|text| no_login(&text).map(|()| text))));
            match checked {
                Some((number, Ok(text))) => {
                    // Cannot fail, since nothing is kept on disk.
                    let _ = delivery.submit(number, NewEntry::from(text));
                }
                Some((number, Err(refusal))) => self.refuse(number, &refusal),
                None if self.ended.is_some() => return delivery.finish(),
                None => self.needs_input = true,
            }
        }
    }

    fn take(&mut self, outcome: Outcome<u64>, has_arrived: bool, server: &Address) {
        match outcome {
            Outcome::Acked { tag, ack } => {
                self.acked = tag;
                let mut bytes = Vec::new();
                push_ack(&mut bytes, ack.seq, &ack.time.to_bytes(), false);
                self.output.print(&bytes);
            }
            Outcome::Refused { tag, refusal, .. } => self.refuse(tag, &refusal),
            Outcome::Arrived(welcome) => tell_clocks(&welcome, &Ui::default()),
            Outcome::Left { tag, sent: true, .. } => {
                self.sent = Some((self.sent.map_or(tag, |(first, _)| first), tag));
            }
            Outcome::Left { tag, sent: false, .. } => _ = self.unsent.get_or_insert(tag),
            outcome => {
                if let Some(sentence) = state_sentence(&outcome, has_arrived, server) {
                    self.output.flush();
                    say(format_args!("{sentence}"));
                }
            }
        }
    }

    fn refuse(&mut self, number: u64, refusal: &Refusal) {
        say(format_args!("line {number}: error {refusal}"));
        self.any_refused = true;
        if self.code == exit::DONE {
            self.code = exit::REFUSED;
        }
    }

    /// Reports which lines are in the diary, which are unknown, and which are not stored.
    fn not_all(mut self, stopped: &Stopped) -> CliError {
        let unsent = self.unsent.or_else(|| self.next_unread());
        // Lines after one that is not stored are not stored either.
        self.sent = self.sent.filter(|(first, _)| unsent.is_none_or(|unsent| *first < unsent));
        let why = match stopped {
            Stopped::Interrupted if self.lines.number() == 0 => return CliError::Told(exit::INTERRUPTED),
            Stopped::Interrupted => stopped.to_string(),
            Stopped::GaveUp(held) => format!("gave up: {held}"),
        };
        let refused = if self.any_refused { " (but for what was refused)" } else { "" };
        let stored = (self.acked > 0).then(|| format!("in the diary: up to line {}{refused}", self.acked));
        let unknown = self.sent.map(|(first, last)| match first == last {
            true => format!("unknown: line {first}"),
            false => format!("unknown: lines {first} to {last}"),
        });
        let follows = self.ended.is_none().then(|| "not sent: what follows".to_owned());
        let not = unsent.map(|first| format!("not sent: from line {first} on")).or(follows);
        let why = Some(why);
        let sentence = [why, stored, unknown, not].into_iter().flatten().collect::<Vec<_>>().join("; ");
        match stopped {
            Stopped::Interrupted if self.sent.is_none() && unsent.is_none() => {
                CliError::Interrupted(sentence)
            }
            _ => CliError::NotAcked(sentence),
        }
    }

    /// Returns the first line that was read, or read ahead, and not submitted.
    fn next_unread(&mut self) -> Option<u64> {
        loop {
            if let Some(line) = self.lines.next(false) {
                return Some(line.number);
            }
            match self.input.try_recv() {
                Ok(chunk) if self.ended.is_none() => self.take_in(Some(chunk)),
                _ => return self.lines.next(true).map(|line| line.number),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::cli::Settings;
    use crate::term::output::tests::said;
    use diary_client::Author;
    use diary_outbox::fake::{BREAK, Fake, Paper, REFUSED, SILENCE, TIME};
    use tokio::sync::mpsc;

    /// Returns an input that arrives at once and ends.
    fn input(text: &[u8]) -> Chunks {
        let (sender, chunks) = mpsc::channel(1);
        sender.try_send(Ok(text.to_vec())).unwrap();
        chunks
    }

    fn config(fake: &Fake) -> Config {
        let config = Config::read(Some(fake.address().parse().unwrap()), &Settings::default());
        Config { author: Some(Author::new("anna").unwrap()), state: None, ..config }
    }

    fn code(ended: &Result<(), CliError>) -> u8 {
        ended.as_ref().map_or_else(CliError::code, |()| exit::DONE)
    }

    /// Returns the exit code and what was printed.
    async fn run_with(fake: &Fake, past: Which, text: &[u8]) -> (u8, String) {
        let paper = Paper::default();
        let output = Output::new(paper.clone());
        let ended = run(past, &config(fake), input(text), output, pending()).await;
        (code(&ended), paper.text())
    }

    #[tokio::test]
    async fn the_past_first_then_an_ack_for_each_line() {
        let fake = Fake::start().await;
        let (code, printed) = run_with(&fake, Which::Last(20), b"a\r\n\n/history\n  b").await;
        assert_eq!(printed, format!("ok 1 {TIME}\nok 2 {TIME}\nok 3 {TIME}\n"));
        assert_eq!(code, exit::DONE);
        assert_eq!(fake.texts(), ["anna: a", "anna: /history", "anna:   b"]);

        let (code, printed) = run_with(&fake, Which::Last(2), b"").await;
        assert_eq!(printed, format!("2 {TIME} anna /history\n3 {TIME} anna   b\n"));
        assert_eq!(code, exit::DONE);
    }

    #[tokio::test]
    async fn what_is_refused_does_not_stop_the_rest() {
        let fake = Fake::start().await;
        let (code, printed) = run_with(&fake, Which::Last(0), b"a\n\xff\nx\0y\nb\n").await;
        assert_eq!((code, printed), (exit::REFUSED, format!("ok 1 {TIME}\nok 2 {TIME}\n")));
        assert_eq!(fake.texts(), ["anna: a", "anna: b"]);
    }

    #[tokio::test]
    async fn a_connection_that_breaks_leaves_no_double() {
        let fake = Fake::start().await;
        let text = format!("a\n{BREAK} 1\nb\n{BREAK} 2\nc\n");
        let (code, printed) = run_with(&fake, Which::Last(0), text.as_bytes()).await;
        assert_eq!(code, exit::DONE);
        assert_eq!(printed.lines().count(), 5);
        assert_eq!(fake.texts(), ["anna: a", "anna: break 1", "anna: b", "anna: break 2", "anna: c"]);
    }

    #[tokio::test]
    async fn many_lines() {
        let fake = Fake::start().await;
        let text: String = (1..=20_000).map(|number| format!("line {number}\n")).collect();
        let (code, printed) = run_with(&fake, Which::Last(0), text.as_bytes()).await;
        assert_eq!(code, exit::DONE);
        let last = printed.lines().zip(1..).inspect(|(line, seq)| {
            assert!(line.starts_with(&format!("ok {seq} ")), "{line}");
        });
        assert_eq!(last.count(), 20_000);
    }

    /// With the clock paused, time advances whenever every task waits: no real ten seconds pass.
    #[tokio::test]
    async fn a_server_that_stays_away_is_given_up() {
        let fake = Fake::start().await;
        let (paper, config) = (Paper::default(), config(&fake));
        let text = format!("a\n{SILENCE}\nb\n");
        let output = Output::new(paper.clone());
        let running = run(Which::Last(0), &config, input(text.as_bytes()), output, pending());
        let ending = async {
            paper.shows("ok 1").await;
            drop(fake);
            tokio::time::pause();
        };
        let (ended, ()) = tokio::join!(running, ending);
        assert_eq!((code(&ended), paper.text()), (exit::NOT_ACKED, format!("ok 1 {TIME}\n")));
    }

    /// Interrupts once `shown` was printed, with an input that does not end. Returns the exit code and what was
    /// said.
    async fn interrupted_after(text: &str, shown: &str) -> (u8, Vec<String>) {
        let fake = Fake::start().await;
        let (paper, (sender, chunks)) = (Paper::default(), mpsc::channel(4));
        sender.try_send(Ok(text.as_bytes().to_vec())).unwrap();
        said();
        let interrupt = paper.shows(shown);
        let output = Output::new(paper.clone());
        let ended = run(Which::Last(0), &config(&fake), chunks, output, interrupt).await;
        let sentence = ended.as_ref().err().filter(|error| !matches!(error, CliError::Told(_)));
        (code(&ended), said().into_iter().chain(sentence.map(ToString::to_string)).collect())
    }

    #[tokio::test]
    async fn who_interrupts_learns_what_became_of_each_line() {
        for (text, shown, code, sentence) in [
            (
                format!("a\n\n{SILENCE}\nb\nc"),
                "ok 1",
                exit::NOT_ACKED,
                "interrupted; in the diary: up to line 1; unknown: lines 3 to 4; not sent: from line 5 on",
            ),
            (
                "a\nb\nc".to_owned(),
                "ok 2",
                exit::NOT_ACKED,
                "interrupted; in the diary: up to line 2; not sent: from line 3 on",
            ),
            (
                "a\nb\n".to_owned(),
                "ok 2",
                exit::INTERRUPTED,
                "interrupted; in the diary: up to line 2; not sent: what follows",
            ),
        ] {
            assert_eq!(interrupted_after(&text, shown).await, (code, vec![sentence.to_owned()]), "{text:?}");
        }
        let (code, said) = interrupted_after("a\n", "").await;
        assert_eq!((code, said), (exit::NOT_ACKED, vec!["interrupted; not sent: from line 1 on".to_owned()]));
        assert_eq!(interrupted_after("", "").await, (exit::INTERRUPTED, Vec::new()));
    }

    #[tokio::test]
    async fn a_reader_that_left_stops_no_entry() {
        struct Gone;
        impl io::Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let fake = Fake::start().await;
        let output = Output::new(Gone);
        let ended = run(Which::All, &config(&fake), input(b"a\nb\n"), output, pending()).await;
        assert_eq!((code(&ended), fake.texts().len()), (exit::DONE, 2));
    }

    /// A server that answers nothing is reported once.
    #[tokio::test]
    async fn a_server_that_hangs_is_told() {
        let fake = Fake::start().await;
        let config = config(&fake);
        let (interrupt, interrupted) = tokio::sync::oneshot::channel::<()>();
        let text = format!("a\n{SILENCE}\n");
        let output = Output::new(Paper::default());
        said();
        let running = run(Which::Last(0), &config, input(text.as_bytes()), output, async {
            let _ = interrupted.await;
        });
        let ((), ended) = tokio::join!(
            async {
                fake.refuses(1).await;
                tokio::time::pause();
                tokio::time::sleep(std::time::Duration::from_secs(5)).await;
                interrupt.send(()).unwrap();
            },
            running
        );
        assert_eq!(code(&ended), exit::NOT_ACKED);
        assert_eq!(said(), [format!("{} has acked nothing for 2 s", fake.address())]);
    }

    /// Later lines wait behind the one that found no room.
    #[tokio::test]
    async fn a_full_disk_keeps_the_order() {
        let fake = Fake::start().await;
        let (paper, config) = (Paper::default(), config(&fake));
        let text = format!("a\n{REFUSED}\nb\n");
        let output = Output::new(paper.clone());
        let running = run(Which::Last(0), &config, input(text.as_bytes()), output, pending());
        let (ended, ()) = tokio::join!(running, async {
            fake.refuses(1).await;
            fake.make_room();
        });
        assert_eq!((code(&ended), paper.text().lines().count()), (exit::DONE, 3));
        assert_eq!(fake.texts(), ["anna: a", "anna: refuse", "anna: b"]);
    }

    /// With the clock paused, time advances whenever every task waits: no real ten seconds pass.
    #[tokio::test]
    async fn a_disk_that_stays_full_is_given_up() {
        let fake = Fake::start().await;
        let (paper, config) = (Paper::default(), config(&fake));
        let text = format!("a\n{REFUSED}\nb\n");
        said();
        let output = Output::new(paper.clone());
        let running = run(Which::Last(0), &config, input(text.as_bytes()), output, pending());
        let (ended, ()) = tokio::join!(running, async {
            fake.refuses(2).await;
            tokio::time::pause();
        });
        assert_eq!((code(&ended), paper.text()), (exit::NOT_ACKED, format!("ok 1 {TIME}\n")));
        let told = "gave up: disk-full: no room; in the diary: up to line 1; not sent: from line 2 on";
        assert_eq!(ended.unwrap_err().to_string(), told);
    }
}
