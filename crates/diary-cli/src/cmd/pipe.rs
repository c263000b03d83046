//! Every line of a file or another program is an entry: history first, then an ack for each line.

use std::collections::VecDeque;
use std::io;
use std::pin::{Pin, pin};

use diary_client::{Ack, Client, Error, NewEntry, Refusal, Which};
use diary_proto::answer::push_ack;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::error::exit;
use crate::patience::{HeldUp, Patience};
use crate::render::Printer;
use crate::term::input::{Chunks, Line, Lines};
use crate::term::output::{Output, count, say};
use crate::unanswered::{Unanswered, answer_of_first, send_next, take_answered, written_now};

/// Prints the past, then writes the input, and gives the exit code. When `interrupt` is ready, it gives up.
pub(crate) async fn run(
    client: Client,
    past: Which,
    mut input: Chunks,
    output: Output,
    interrupt: impl Future<Output = ()>,
) -> u8 {
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
    let mut interrupt = pin!(interrupt);
    let end = match pipe.print_past(&client, past, interrupt.as_mut()).await {
        Ok(()) => pipe.write(&client, &mut input, interrupt).await,
        Err(End::Lost(error)) => {
            say(format_args!("gave up: {error}"));
            return exit::UNREACHABLE;
        }
        Err(interrupted) => Err(interrupted),
    };
    if let Err(end) = end {
        return pipe.give_up(&end, &mut input);
    }
    pipe.output.flush();
    // All is acked: whether the server still says goodbye is not worth an error.
    let _ = client.close().await;
    pipe.code
}

/// Waits for SIGINT or SIGTERM, from the moment on when it is asked first.
pub(crate) async fn interrupted() {
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    // Without a handler the signal ends the program, as it should.
    let [Ok(mut interrupt), Ok(mut terminate)] = signals else { return std::future::pending().await };
    let came = async |signal: &mut Signal| {
        if signal.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = came(&mut interrupt) => {}
        () = came(&mut terminate) => {}
    }
}

/// Why not all of the input was written.
enum End {
    /// The server is gone.
    Lost(Error),
    /// A person or the system ended it.
    Interrupted,
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Lost(error)
    }
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
    /// An error is why it ended before.
    async fn print_past(
        &mut self,
        client: &Client,
        past: Which,
        mut interrupt: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), End> {
        if past == Which::Last(0) {
            return Ok(());
        }
        let asked = Instant::now();
        let mut history = client.history(past);
        let (mut printer, mut bytes) = (Printer::plain(), Vec::new());
        while !self.output.is_gone() {
            tokio::select! {
                biased;
                () = &mut interrupt => return Err(End::Interrupted),
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
                    Some(Err(error)) => return Err(error.into()),
                    None => break,
                },
                () = self.patience.wait() => {
                    if let Some(error) = self.patience.look(HeldUp::End(asked)) {
                        return Err(error.into());
                    }
                }
                () = self.output.flush_when_idle() => {}
            }
        }
        Ok(())
    }

    /// Writes all of the input. An error means that not all is acked.
    async fn write(
        &mut self,
        client: &Client,
        input: &mut Chunks,
        mut interrupt: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), End> {
        loop {
            self.find_next();
            if self.ended.is_some() && self.next.is_none() && self.open.is_empty() {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = &mut interrupt => return Err(End::Interrupted),
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
                        return Err(error.into());
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

    /// Says which lines were not acked, as far as they were read, and gives the exit code.
    fn give_up(&mut self, end: &End, input: &mut Chunks) -> u8 {
        let mut numbers = Vec::from_iter(self.lost);
        for (number, answer) in take_answered(&mut self.open) {
            // Neither an ack nor a refusal ends anything.
            let _ = self.settle(number, answer);
        }
        numbers.extend(self.open.iter().map(|(number, _)| *number));
        numbers.extend(self.unsent());
        // What was read ahead may have the first one.
        while let (true, Ok(chunk)) = (numbers.is_empty() && self.ended.is_none(), input.try_recv()) {
            self.take_in(Some(chunk));
            numbers.extend(self.unsent());
        }
        let reads_on = self.ended.is_none();
        if numbers.is_empty() {
            // A line that has not ended was not sent.
            numbers.extend(self.lines.finish().map(|line| line.number));
        }
        self.output.flush();
        let why = match end {
            End::Lost(error) => error.to_string(),
            End::Interrupted => "interrupted".to_owned(),
        };
        match (numbers.first(), self.lines.number()) {
            (Some(first), _) => {
                let were = count(numbers.len(), "line was", "lines were");
                let rest = if reads_on { "; what follows was not written" } else { "" };
                say(format_args!("gave up: {why}; {were} not acked, the first is line {first}{rest}"));
                return exit::NOT_ACKED;
            }
            (None, 0) => {}
            (None, last) => {
                let but = if self.code == exit::REFUSED { ", but for what was refused" } else { "" };
                say(format_args!(
                    "{why}: all up to line {last} is in the diary{but}; what follows was not written"
                ));
            }
        }
        match end {
            End::Lost(_) => exit::NOT_ACKED,
            End::Interrupted => exit::INTERRUPTED,
        }
    }

    /// Takes the numbers of the lines that were read and not sent.
    fn unsent(&mut self) -> Vec<u64> {
        let mut numbers = Vec::new();
        self.find_next();
        while let Some((number, _)) = self.next.take() {
            numbers.push(number);
            self.find_next();
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::fake::{BREAK, Fake, Paper, SILENCE, TIME};
    use crate::term::output::tests::said;
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
        let code = run(fake.client("anna").await, past, input(text), output, pending()).await;
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
        let running =
            run(client, Which::Last(0), input(text.as_bytes()), Output::new(paper.clone()), pending());
        let ending = async {
            paper.shows("ok 1").await;
            drop(fake);
            tokio::time::pause();
        };
        let (code, ()) = tokio::join!(running, ending);
        assert_eq!((code, paper.text()), (exit::NOT_ACKED, format!("ok 1 {TIME}\n")));
    }

    /// The exit code and what is said, if it is interrupted once `shown` was printed; the input does not end.
    async fn interrupted_after(text: &str, shown: &str) -> (u8, Vec<String>) {
        let fake = Fake::start().await;
        let client = fake.client("anna").await;
        let (paper, (sender, chunks)) = (Paper::default(), mpsc::channel(4));
        sender.try_send(Ok(text.as_bytes().to_vec())).unwrap();
        said();
        let interrupt = paper.shows(shown);
        let code = run(client, Which::Last(0), chunks, Output::new(paper.clone()), interrupt).await;
        (code, said())
    }

    #[tokio::test]
    async fn who_interrupts_learns_which_line_is_the_first_that_is_not_acked() {
        for (text, shown, code, sentence) in [
            (
                format!("a\n\n{SILENCE}\nb\nc"),
                "ok 1",
                exit::NOT_ACKED,
                "gave up: interrupted; 2 lines were not acked, the first is line 3; what follows was not written",
            ),
            (
                "a\nb\nc".to_owned(),
                "ok 2",
                exit::NOT_ACKED,
                "gave up: interrupted; 1 line was not acked, the first is line 3; what follows was not written",
            ),
            (
                "a\nb\n".to_owned(),
                "ok 2",
                exit::INTERRUPTED,
                "interrupted: all up to line 2 is in the diary; what follows was not written",
            ),
        ] {
            assert_eq!(interrupted_after(&text, shown).await, (code, vec![sentence.to_owned()]), "{text:?}");
        }
        let (code, said) = interrupted_after("a\n", "").await;
        assert!(code == exit::NOT_ACKED && said[0].contains("the first is line 1"), "{said:?}");
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
        let client = fake.client("anna").await;
        let code = run(client, Which::All, input(b"a\nb\n"), Output::new(Gone), pending()).await;
        assert_eq!((code, fake.texts().len()), (exit::DONE, 2));
    }
}
