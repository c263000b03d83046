//! Every line of a file or another program is an entry: history first, then an ack for each line.

use std::collections::VecDeque;
use std::io;

use diary_client::{Ack, Client, Error, NewEntry, Refusal, Which};
use diary_proto::answer::push_ack;
use tokio::time::Instant;

use crate::exit;
use crate::input::{Chunks, Line, Lines};
use crate::output::{Output, say};
use crate::patience::{HeldUp, Patience};
use crate::show::Printer;
use crate::unanswered::{Unanswered, answer_of_first, send_next, take_answered, written_now};

/// Prints the past, then writes the input, and gives the exit code.
pub(crate) async fn run(client: Client, past: Which, input: Chunks, output: Output) -> u8 {
    let mut pipe = Pipe {
        patience: Patience::new(&client),
        output,
        lines: Lines::default(),
        next: None,
        open: VecDeque::new(),
        lost: None,
        ended: None,
        code: exit::DONE,
    };
    let end = match pipe.print_past(&client, past).await {
        Ok(()) => pipe.write(&client, input).await,
        Err(error) => {
            say(format_args!("gave up: {error}"));
            return exit::UNREACHABLE;
        }
    };
    if let Err(error) = end {
        pipe.tell_not_acked(&error);
        return exit::NOT_ACKED;
    }
    pipe.output.flush();
    // All is acked: whether the server still says goodbye is not worth an error.
    let _ = client.close().await;
    pipe.code
}

struct Pipe {
    patience: Patience,
    output: Output,
    lines: Lines,
    /// The line that is to be sent next.
    next: Option<(u64, NewEntry)>,
    /// What was sent and not answered, in order.
    open: Unanswered<u64>,
    /// A line whose ack will not come.
    lost: Option<u64>,
    /// When the input ended.
    ended: Option<Instant>,
    code: u8,
}

impl Pipe {
    /// An error means that the server is gone.
    async fn print_past(&mut self, client: &Client, past: Which) -> Result<(), Error> {
        if past == Which::Last(0) {
            return Ok(());
        }
        let asked = Instant::now();
        let mut history = client.history(past);
        let (mut printer, mut bytes) = (Printer::plain(), Vec::new());
        while !self.output.is_gone() {
            tokio::select! {
                biased;
                event = history.next() => match event {
                    Some(Ok(event)) => {
                        self.patience.progress();
                        printer.event(&event, &mut bytes);
                        self.output.print(&bytes);
                        bytes.clear();
                    }
                    Some(Err(Error::Refused(refusal))) => {
                        self.output.flush();
                        say(format_args!("error {refusal}"));
                        self.code = exit::REFUSED;
                    }
                    Some(Err(error)) => return Err(error),
                    None => break,
                },
                () = self.patience.wait() => {
                    if let Some(error) = self.patience.look(HeldUp::End(asked)) {
                        return Err(error);
                    }
                }
                () = self.output.flush_when_idle() => {}
            }
        }
        Ok(())
    }

    /// Writes all of the input. An error means that not all is acked.
    async fn write(&mut self, client: &Client, mut input: Chunks) -> Result<(), Error> {
        loop {
            self.find_next();
            if self.ended.is_some() && self.next.is_none() && self.open.is_empty() {
                return Ok(());
            }
            tokio::select! {
                biased;
                (number, answer) = answer_of_first(&mut self.open), if !self.open.is_empty() => {
                    self.settle(number, answer)?;
                }
                sent = send_next(client, || self.next.take()), if self.next.is_some() => self.open.push_back(sent?),
                chunk = input.recv(), if self.next.is_none() && self.ended.is_none() => self.take_in(chunk),
                () = self.patience.wait() => {
                    let held_up = match (self.ended, &self.next) {
                        (Some(ended), _) => HeldUp::End(ended),
                        (None, Some(_)) => HeldUp::Input,
                        (None, None) => HeldUp::Nothing,
                    };
                    if let Some(error) = self.patience.look(held_up) {
                        return Err(error);
                    }
                }
                () = self.output.flush_when_idle() => {}
            }
        }
    }

    fn take_in(&mut self, chunk: Option<io::Result<Vec<u8>>>) {
        match chunk {
            Some(Ok(chunk)) => self.lines.push(chunk),
            Some(Err(error)) => {
                say(format_args!("the input cannot be read: {error}"));
                self.code = exit::USAGE;
                self.ended = Some(Instant::now());
            }
            None => self.ended = Some(Instant::now()),
        }
    }

    /// Looks for the next line to send; those that cannot be sent are told on the way.
    fn find_next(&mut self) {
        while self.next.is_none() {
            let mut line = self.lines.next();
            if line.is_none() && self.ended.is_some() {
                line = self.lines.finish();
            }
            match line {
                Some(Line { number, text: Ok(text) }) => self.next = Some((number, written_now(text))),
                Some(Line { number, text: Err(refusal) }) => self.refuse(number, &refusal),
                None => return,
            }
        }
    }

    /// A line was answered. An error means that the client has ended without its ack.
    fn settle(&mut self, number: u64, answer: Result<Ack, Error>) -> Result<(), Error> {
        match answer {
            Ok(ack) => {
                self.patience.progress();
                let mut bytes = Vec::new();
                push_ack(&mut bytes, ack.seq, &ack.time.to_bytes(), false);
                self.output.print(&bytes);
            }
            Err(Error::Refused(refusal)) => self.refuse(number, &refusal),
            Err(error) => {
                self.lost = Some(number);
                return Err(error);
            }
        }
        Ok(())
    }

    fn refuse(&mut self, number: u64, refusal: &Refusal) {
        say(format_args!("line {number}: error {refusal}"));
        if self.code == exit::DONE {
            self.code = exit::REFUSED;
        }
    }

    /// Says which lines were not acked, as far as they were read.
    fn tell_not_acked(&mut self, error: &Error) {
        let mut numbers = Vec::from_iter(self.lost);
        for (number, answer) in take_answered(&mut self.open) {
            // Neither an ack nor a refusal ends anything.
            let _ = self.settle(number, answer);
        }
        numbers.extend(self.open.iter().map(|(number, _)| *number));
        while let Some((number, _)) = self.next.take() {
            numbers.push(number);
            self.find_next();
        }
        self.output.flush();
        let first = numbers.first().copied().unwrap_or_default();
        let lines = if numbers.len() == 1 { "line was" } else { "lines were" };
        let rest = if self.ended.is_some() { "" } else { "; what follows them was not written" };
        let count = numbers.len();
        say(format_args!("gave up: {error}; {count} {lines} not acked, the first is line {first}{rest}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{BREAK, Fake, Paper, SILENCE, TIME};
    use tokio::sync::mpsc;

    /// Input that comes at once and ends.
    fn input(text: &[u8]) -> Chunks {
        let (sender, chunks) = mpsc::channel(1);
        sender.try_send(Ok(text.to_vec())).unwrap();
        chunks
    }

    /// The exit code and what was printed.
    async fn run_with(fake: &Fake, past: Which, text: &[u8]) -> (u8, String) {
        let paper = Paper::default();
        let output = Output::new(paper.clone());
        let code = run(fake.client("anna").await, past, input(text), output).await;
        (code, paper.text())
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
        let (code, printed) = run_with(&fake, Which::Last(0), b"a\nrefuse\n\xff\nx\0y\nb\n").await;
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

    /// Once the clock stands still, it runs ahead whenever all wait: no real ten seconds.
    #[tokio::test]
    async fn a_server_that_stays_away_is_given_up() {
        let fake = Fake::start().await;
        let client = fake.client("anna").await;
        let paper = Paper::default();
        let text = format!("a\n{SILENCE}\nb\n");
        let running = run(client, Which::Last(0), input(text.as_bytes()), Output::new(paper.clone()));
        let ending = async {
            paper.shows("ok 1").await;
            drop(fake);
            tokio::time::pause();
        };
        let (code, ()) = tokio::join!(running, ending);
        assert_eq!((code, paper.text()), (exit::NOT_ACKED, format!("ok 1 {TIME}\n")));
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
        let client = fake.client("anna").await;
        let code = run(client, Which::All, input(b"a\nb\n"), Output::new(Gone)).await;
        assert_eq!((code, fake.texts().len()), (exit::DONE, 2));
    }
}
