//! A conversation with a person: lines are entries, commands start with `/`.

use std::collections::VecDeque;
use std::fmt;
use std::io;

use diary_client::{
    Ack, Author, Client, Error, Event, History, Options, Pending, Producer, Refusal, Stored, Which,
};
use diary_proto::Command;
use diary_proto::answer::{HINT, OLD_COMMANDS};
use futures::FutureExt;
use tokio::time::Instant;

use crate::config::Config;
use crate::exit;
use crate::input::{Chunks, Lines};
use crate::output::{Output, say};
use crate::patience::{HeldUp, Patience};
use crate::show::Printer;

const HELP: &str = "\
a line is an entry; `ok SEQ` says that it is on disk
/history [N | all | DATE | DATE..DATE | #SEQ..]  entries (20), DATE is 2026-11-21, today or yesterday
/follow [#SEQ | off]  entries as they come, from SEQ on or from now on
/search TEXT  entries that hold TEXT; capitals count only if TEXT has one
/name NAME  who writes from here on
/quiet  no more acks
/quit  goodbye, also Ctrl-D; Ctrl-C ends at once
//text  stores a text that starts with /
";

/// Talks until the person ends it, and gives the exit code.
pub(crate) async fn run(
    client: Client,
    config: &Config,
    past: Which,
    input: Chunks,
    output: Output,
    view: Printer,
) -> u8 {
    let reading = (past != Which::Last(0)).then(|| Reading::of(client.history(past), false));
    let mut talk = Talk {
        patience: Patience::new(&client),
        producers: vec![client.producer()],
        client,
        config,
        output,
        view,
        lines: Lines::default(),
        next: None,
        open: VecDeque::new(),
        reading,
        follow: None,
        newest_own: 0,
        new_name: None,
        quiet: false,
        lost: 0,
        ended: None,
    };
    talk.welcome();
    let end = talk.run(input).await;
    talk.finish(end).await
}

/// Why the conversation is over.
enum End {
    /// The person said so, and all is acked.
    Done,
    /// Ctrl-C.
    Interrupted,
    /// The server is away for too long, or is another one.
    Lost(Error),
}

struct Talk<'a> {
    client: Client,
    config: &'a Config,
    patience: Patience,
    output: Output,
    view: Printer,
    lines: Lines,
    /// The text that is to be sent next.
    next: Option<String>,
    /// What was sent and not answered, in order.
    open: VecDeque<Sent>,
    /// An answer that is being printed; nothing else is, until it ends.
    reading: Option<Reading>,
    follow: Option<Follow>,
    /// The newest of the entries that were typed here.
    newest_own: u64,
    /// Every name writes with a key of its own.
    producers: Vec<Producer>,
    /// Who writes, once all before is acked.
    new_name: Option<Author>,
    quiet: bool,
    /// Entries whose acks will not come.
    lost: usize,
    /// When the input ended.
    ended: Option<Instant>,
}

struct Sent {
    pending: Pending,
    /// It looks like a command of the programs before this one.
    hint: bool,
}

struct Reading {
    history: History,
    /// How many entries it brought so far.
    count: u64,
    /// The end is to be told; it is not at the start of the program.
    told: bool,
}

impl Reading {
    fn of(history: History, told: bool) -> Self {
        Self { history, count: 0, told }
    }
}

struct Follow {
    history: History,
    /// What is typed from here on is on the screen already.
    own_after: u64,
}

impl Talk<'_> {
    async fn run(&mut self, mut input: Chunks) -> End {
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        loop {
            self.find_next();
            if let Some(name) = self.name_to_take() {
                tokio::select! {
                    () = self.rename(name) => continue,
                    _ = &mut interrupt => return End::Interrupted,
                }
            }
            if self.is_done() {
                return End::Done;
            }
            let reading = self.reading.is_some();
            tokio::select! {
                biased;
                _ = &mut interrupt => return End::Interrupted,
                (hint, answer) = answer_of_first(&mut self.open), if !reading && !self.open.is_empty() => {
                    if let Err(error) = self.settle(hint, answer) {
                        return End::Lost(error);
                    }
                }
                event = next_of(self.reading.as_mut().map(|reading| &mut reading.history)) => self.read(event),
                event = next_of(self.follow.as_mut().map(|follow| &mut follow.history)), if !reading => {
                    self.followed(event);
                }
                sent = send(&self.client, &mut self.next), if self.next.is_some() => match sent {
                    Ok(sent) => self.open.push_back(sent),
                    Err(Error::Refused(refusal)) => self.say(format_args!("error {refusal}")),
                    Err(error) => return End::Lost(error),
                },
                chunk = input.recv(), if self.takes_input() => self.take_in(chunk),
                () = self.patience.wait() => {
                    self.output.flush();
                    let held_up = self.ended.map_or(HeldUp::Nothing, HeldUp::End);
                    if let Some(error) = self.patience.look(held_up) {
                        return End::Lost(error);
                    }
                }
                () = self.output.flush_when_idle() => {}
            }
        }
    }

    fn is_done(&self) -> bool {
        let all_done = self.next.is_none() && self.open.is_empty() && self.reading.is_none();
        self.ended.is_some() && all_done
    }

    /// Who writes from here on, once all before is acked.
    fn name_to_take(&mut self) -> Option<Author> {
        if self.open.is_empty() { self.new_name.take() } else { None }
    }

    /// An answer is finished before the next line is looked at, as is a change of the name.
    fn takes_input(&self) -> bool {
        self.next.is_none() && self.reading.is_none() && self.new_name.is_none() && self.ended.is_none()
    }

    fn take_in(&mut self, chunk: Option<io::Result<Vec<u8>>>) {
        match chunk {
            Some(Ok(chunk)) => self.lines.push(chunk),
            Some(Err(error)) => {
                self.say(format_args!("the input cannot be read: {error}"));
                self.ended = Some(Instant::now());
            }
            None => {
                // Ctrl-D in the middle of a line ends that, too.
                let last = self.lines.finish();
                self.ended = Some(Instant::now());
                if let Some(line) = last {
                    self.take_line(line.text);
                }
            }
        }
    }

    /// Looks for the next text to send, and obeys the commands before it.
    fn find_next(&mut self) {
        if self.output.is_gone() {
            // A conversation with someone who sees nothing is over.
            self.reading = None;
            self.ended.get_or_insert_with(Instant::now);
        }
        while self.takes_input() {
            match self.lines.next() {
                Some(line) => self.take_line(line.text),
                None => break,
            }
        }
    }

    fn take_line(&mut self, line: Result<String, Refusal>) {
        match line {
            Ok(text) => match text.strip_prefix('/') {
                Some(rest) if rest.starts_with('/') => self.next = Some(rest.to_owned()),
                Some(_) => self.obey(&text),
                None => self.next = Some(text),
            },
            Err(refusal) => self.say(format_args!("error {refusal}")),
        }
    }

    fn obey(&mut self, line: &str) {
        match Command::parse(line) {
            Ok(Command::History(which)) => self.begin(self.client.history(which)),
            Ok(Command::Search(text)) => self.begin(self.client.search(text)),
            Ok(Command::Follow(from)) => {
                self.follow = Some(Follow { history: self.client.follow(from), own_after: self.newest_own });
                self.note(format_args!("following; /follow off ends it"));
            }
            Ok(Command::FollowOff) => {
                self.follow = None;
                self.note(format_args!("not following"));
            }
            Ok(Command::Name(name)) => self.new_name = Some(name),
            Ok(Command::Quiet) => self.quiet = true,
            Ok(Command::Help) => self.note(format_args!("{}", HELP.trim_end())),
            Ok(Command::Quit) => self.ended = Some(Instant::now()),
            Err(refusal) => self.say(format_args!("error {refusal}")),
        }
    }

    fn begin(&mut self, history: History) {
        self.view.begin(&mut Vec::new());
        self.reading = Some(Reading::of(history, true));
    }

    /// Writes under another name: a new client, since a name is said with Hello.
    async fn rename(&mut self, name: Author) {
        let options = Options { author: Some(name.clone()), ..Options::default() };
        match Client::connect(self.config.server.clone(), options).await {
            Ok(client) => {
                self.patience = Patience::new(&client);
                self.producers.push(client.producer());
                let old = std::mem::replace(&mut self.client, client);
                // All of its entries are acked; it only says goodbye.
                let _ = old.close().await;
                self.note(format_args!("you write as {name}"));
            }
            Err(error) => self.say(format_args!("{error}; the name stays as it was")),
        }
    }

    /// An entry was answered. An error means that the client has ended without its ack.
    fn settle(&mut self, hint: bool, answer: Result<Ack, Error>) -> Result<(), Error> {
        match answer {
            Ok(ack) => {
                self.patience.progress();
                self.newest_own = self.newest_own.max(ack.seq);
                if !self.quiet {
                    let hint = if hint { HINT } else { "" };
                    self.output.print(format!("ok {}{hint}\n", ack.seq).as_bytes());
                }
            }
            Err(Error::Refused(refusal)) => self.say(format_args!("error {refusal}")),
            Err(error) => {
                self.lost += 1;
                return Err(error);
            }
        }
        Ok(())
    }

    /// What an answer brings.
    fn read(&mut self, event: Option<Result<Event, Error>>) {
        let Some(reading) = &mut self.reading else { return };
        match event {
            Some(Ok(event)) => {
                reading.count += u64::from(matches!(event, Event::Entry(_)));
                self.show(&event);
            }
            Some(Err(error)) => {
                reading.told = false;
                self.say(format_args!("error {error}"));
            }
            None => {
                let (count, told) = (reading.count, reading.told);
                self.reading = None;
                match count {
                    _ if !told => {}
                    0 => self.note(format_args!("no entries")),
                    1 => self.note(format_args!("1 entry")),
                    _ => self.note(format_args!("{count} entries")),
                }
            }
        }
    }

    /// What a follow brings. Entries that were just typed here are not shown a second time.
    fn followed(&mut self, event: Option<Result<Event, Error>>) {
        let own_after = self.follow.as_ref().map_or(0, |follow| follow.own_after);
        match event {
            Some(Ok(Event::Entry(stored))) if stored.entry.seq > own_after && self.is_own(&stored) => {}
            Some(Ok(event)) => self.show(&event),
            Some(Err(error)) => {
                self.follow = None;
                self.say(format_args!("error {error}; not following"));
            }
            None => self.follow = None,
        }
    }

    fn is_own(&self, stored: &Stored) -> bool {
        stored.key.is_some_and(|key| self.producers.contains(&key.producer))
    }

    fn show(&mut self, event: &Event) {
        self.patience.progress();
        let mut bytes = Vec::new();
        self.view.event(event, &mut bytes);
        self.output.print(&bytes);
    }

    fn welcome(&mut self) {
        let welcome = self.client.welcome();
        let (author, journal) = (clean(&welcome.author), clean(&welcome.journal));
        let address = &self.config.server;
        self.note(format_args!("{author} writes in {journal} at {address}; /help lists the commands"));
    }

    /// Tells the person something that is no entry.
    fn note(&mut self, what: fmt::Arguments<'_>) {
        if self.view.is_plain() {
            self.say(what);
        } else {
            self.output.print(format!("{what}\n").as_bytes());
        }
    }

    /// Says something on stderr, behind what was printed before.
    fn say(&mut self, what: fmt::Arguments<'_>) {
        self.output.flush();
        say(what);
    }

    async fn finish(mut self, end: End) -> u8 {
        self.output.flush();
        match end {
            End::Done => {
                let _ = self.client.close().await;
                exit::DONE
            }
            End::Interrupted => match self.not_acked() {
                0 => exit::INTERRUPTED,
                count => self.tell_not_acked(count, "interrupted").await,
            },
            End::Lost(error) => {
                let count = self.not_acked();
                self.tell_not_acked(count, &format!("gave up: {error}")).await
            }
        }
    }

    /// Says what was not acked, so that the person can write it again elsewhere.
    async fn tell_not_acked(mut self, count: usize, why: &str) -> u8 {
        let entries = if count == 1 { "entry was" } else { "entries were" };
        self.say(format_args!("{why}; {count} {entries} not acked"));
        let unsent = self.next.take();
        let given_up = self.client.give_up().await.into_iter().map(|entry| entry.text);
        for text in given_up.chain(unsent) {
            say(format_args!("not acked: {}", clean(&text)));
        }
        exit::NOT_ACKED
    }

    /// How many typed entries were not acked, or refused.
    fn not_acked(&mut self) -> usize {
        let answered =
            |sent: Sent| matches!(sent.pending.now_or_never(), Some(Ok(_) | Err(Error::Refused(_))));
        let open = self.open.drain(..).filter_map(|sent| (!answered(sent)).then_some(())).count();
        self.lost + open + usize::from(self.next.is_some())
    }
}

/// Anyone's words, safe for the terminal.
fn clean(text: &str) -> String {
    diary_proto::escape::escape(text).into_owned()
}

/// Sends the next text.
///
/// Cancellation safe: the text is taken only when there is room for it.
async fn send(client: &Client, next: &mut Option<String>) -> Result<Sent, Error> {
    let room = client.room().await?;
    let text = next.take().unwrap_or_default();
    let hint = OLD_COMMANDS.contains(&text.as_str());
    Ok(Sent { pending: room.send(text)?, hint })
}

/// The answer for what was sent first, and whether a hint is due.
///
/// Cancellation safe: an entry leaves the queue only with its answer.
async fn answer_of_first(open: &mut VecDeque<Sent>) -> (bool, Result<Ack, Error>) {
    let answer = match open.front_mut() {
        Some(sent) => (&mut sent.pending).await,
        None => std::future::pending().await,
    };
    (open.pop_front().is_some_and(|sent| sent.hint), answer)
}

/// The next event of a reading, if there is one.
///
/// Cancellation safe, as [`History::next`] is.
async fn next_of(history: Option<&mut History>) -> Option<Result<Event, Error>> {
    match history {
        Some(history) => history.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{BREAK, Fake, Paper};
    use clap::Parser;
    use jiff::tz::TimeZone;
    use tokio::sync::mpsc;

    /// A person at a terminal: types, and waits for what appears.
    struct Person {
        keys: mpsc::Sender<io::Result<Vec<u8>>>,
        paper: Paper,
    }

    impl Person {
        async fn types(&self, text: &str) {
            self.keys.send(Ok(text.as_bytes().to_vec())).await.unwrap();
        }

        async fn sees(&self, part: &str) {
            self.paper.shows(part).await;
        }
    }

    /// Lets `person` talk; the exit code and all that was printed.
    async fn talk<F: Future<Output = ()>>(
        fake: &Fake,
        words: &[&str],
        script: impl FnOnce(Person) -> F,
    ) -> (u8, String) {
        let args =
            crate::args::Args::try_parse_from([&["diary-cli", fake.address()], words].concat()).unwrap();
        let config = Config::read(args.server(), &args.settings).unwrap();
        let paper = Paper::default();
        let (keys, chunks) = mpsc::channel(1);
        let view = Printer::of(crate::show::Format::Pretty, false, TimeZone::UTC, 0);
        let client = fake.client("anna").await;
        let running = run(client, &config, args.past(), chunks, Output::new(paper.clone()), view);
        let (code, ()) = tokio::join!(running, script(Person { keys, paper: paper.clone() }));
        (code, paper.text())
    }

    /// What was printed below the welcome.
    fn below_welcome(printed: &str) -> &str {
        printed.split_once('\n').map_or("", |(_, rest)| rest)
    }

    #[tokio::test]
    async fn entries_and_commands() {
        let fake = Fake::start().await;
        let (code, printed) = talk(&fake, &[], |person| async move {
            person.types("hello\n//usr is a path\n/nope\nexit\n/search usr\n/search none\n").await;
            person.sees("no entries\n").await;
            person.types("/quiet\nunseen\n/history 2\n/quit\nnot stored\n").await;
        })
        .await;
        assert!(printed.starts_with("anna writes in diary at 127.0.0.1:"), "{printed}");
        let below = below_welcome(&printed);
        let expected_parts = [
            "ok 1\n",
            "ok 2\n",
            "ok 3 (stored as a text; /help lists the commands)\n",
            "── 2026-11-21 Saturday ──\n00:15 anna /usr is a path\n1 entry\n",
        ];
        for part in expected_parts {
            assert!(below.contains(part), "{part:?} is not in {below}");
        }
        assert!(!below.contains("ok 4"), "{below}");
        assert_eq!(code, exit::DONE);
        assert_eq!(fake.texts(), ["anna: hello", "anna: /usr is a path", "anna: exit", "anna: unseen"]);
    }

    #[tokio::test]
    async fn the_past_and_the_end_of_input() {
        let fake = Fake::start().await;
        talk(&fake, &[], |person| async move { person.types("one\ntwo\nlast").await }).await;
        let (code, printed) = talk(&fake, &["-n", "2"], |_| async {}).await;
        let expected = "── 2026-11-21 Saturday ──\n00:15 anna two\n00:15 anna last\n";
        assert_eq!((code, below_welcome(&printed)), (exit::DONE, expected));
        let (_, printed) = talk(&fake, &["-n", "0"], |_| async {}).await;
        assert_eq!(below_welcome(&printed), "");
    }

    #[tokio::test]
    async fn a_follow_shows_others_and_not_what_was_just_typed() {
        let fake = Fake::start().await;
        let other = fake.client("ben").await;
        let (_, printed) = talk(&fake, &["-n0"], |person| async move {
            person.types("before\n").await;
            person.sees("ok 1\n").await;
            person.types("/follow #1\n").await;
            person.sees("anna before").await;
            person.types("mine\n").await;
            person.sees("ok 2\n").await;
            other.append("theirs").await.unwrap();
            person.sees("ben theirs\n").await;
            person.types("/follow off\n").await;
            person.sees("not following").await;
        })
        .await;
        assert_eq!(printed.matches("anna before").count(), 1, "{printed}");
        assert!(!printed.contains("anna mine"), "{printed}");
    }

    #[tokio::test]
    async fn another_name_writes_from_there_on() {
        let fake = Fake::start().await;
        let (code, printed) = talk(&fake, &["-n0"], |person| async move {
            person.types("one\n/name 小明\ntwo\n/name a b\n").await;
            person.sees("ok 2\n").await;
            person.types("/name 小红\n").await;
            person.sees("you write as 小红\n").await;
        })
        .await;
        assert_eq!(fake.texts(), ["anna: one", "小明: two"]);
        assert!(printed.contains("ok 1\nyou write as 小明\nok 2\n"), "{printed}");
        assert_eq!(code, exit::DONE);
    }

    #[tokio::test]
    async fn a_connection_that_breaks_is_made_anew() {
        let fake = Fake::start().await;
        let (code, printed) = talk(&fake, &["-n0"], |person| async move {
            person.types(&format!("{BREAK}\nb\n")).await;
        })
        .await;
        assert_eq!((code, below_welcome(&printed)), (exit::DONE, "ok 1\nok 2\n"));
        assert_eq!(fake.texts().len(), 2);
    }
}
