//! A conversation with a person: lines are entries, commands start with `/`.
//!
//! What is typed is kept in the outbox before anything else happens to it, and leaves it when it is acked.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;

use diary_client::{
    Ack, Author, Client, Code, Error, Event, History, Options, Pending, Producer, Stored, Time, Which,
};
use diary_proto::Command;
use diary_proto::answer::{HINT, is_old_command};
use futures::FutureExt;
use jiff::tz::TimeZone;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::commands::{count, tell_refused};
use crate::config::Config;
use crate::deliver::deliver_left;
use crate::editor::Prompt;
use crate::exit;
use crate::input::Typed;
use crate::outbox::{Outbox, Tray};
use crate::output::{Output, say};
use crate::patience::{HeldUp, Patience};
use crate::show::Printer;
use crate::unreachable_sentence;

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

/// Where a conversation takes place.
pub(crate) struct Place<'a> {
    pub(crate) config: &'a Config,
    /// How many of the newest entries to show first.
    pub(crate) past: Which,
    pub(crate) output: Output,
    pub(crate) view: Printer,
    /// The prompt of a line editor. With one, entries of others appear as they come.
    pub(crate) prompt: Option<Prompt>,
}

/// Talks until the person ends it, and gives the exit code. At a prompt it goes on without a server, and waits
/// for one.
pub(crate) async fn run(place: Place<'_>, mut typed: mpsc::Receiver<Typed>) -> u8 {
    let outbox = Outbox::new(place.config.state.as_deref());
    let begun = begin(&outbox, place.config, place.config.author.clone(), place.prompt.is_some()).await;
    let (client, tray, away) = match begun {
        Ok(begun) => begun,
        Err(why) => {
            say(format_args!("{why}"));
            return exit::UNREACHABLE;
        }
    };
    let mut talk = Talk {
        patience: Patience::new(&client),
        producers: vec![client.producer()],
        client,
        place,
        outbox,
        tray,
        held: VecDeque::new(),
        unsent: VecDeque::new(),
        open: VecDeque::new(),
        reading: None,
        follow: None,
        newest_seen: 0,
        newest_own: 0,
        new_name: None,
        quiet: false,
        lost: 0,
        ended: None,
        said_goodbye: false,
        catch_up: None,
        is_caught_up: false,
    };
    match away {
        None => talk.arrive(),
        Some(why) => {
            talk.show_state();
            talk.patience.told_lost();
            talk.note(format_args!("{why}; what you type is kept and sent when the server is there"));
        }
    }
    let end = talk.run(&mut typed).await;
    talk.finish(end, typed).await
}

/// A client, and a tray that keeps its entries. If `waits`, the client may have no connection yet, for the
/// reason that comes with it. An error is a sentence.
async fn begin(
    outbox: &Outbox,
    config: &Config,
    author: Option<Author>,
    waits: bool,
) -> Result<(Client, Tray, Option<String>), String> {
    let tray = outbox.begin(&config.server, author.as_ref())?;
    let options = Options { author, secret: Some(tray.secret()), ..Options::default() };
    match Client::connect(config.server.clone(), options.clone()).await {
        Ok(client) => Ok((client, tray, None)),
        Err(error) if waits => {
            let why = unreachable_sentence(&error);
            let client = Client::reconnecting(config.server.clone(), options, error);
            Ok((client.map_err(|error| error.to_string())?, tray, Some(why)))
        }
        Err(error) => Err(unreachable_sentence(&error)),
    }
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
    place: Place<'a>,
    patience: Patience,
    outbox: Outbox,
    /// Keeps what is typed.
    tray: Tray,
    /// What was typed behind a command that is not done yet.
    held: VecDeque<String>,
    /// Kept, and to be sent, in order.
    unsent: VecDeque<(u64, String)>,
    /// What was sent and not answered, in order.
    open: VecDeque<Sent>,
    /// An answer that is being printed; nothing else is, until it ends.
    reading: Option<Reading>,
    follow: Option<Follow>,
    /// The newest entry that was shown.
    newest_seen: u64,
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
    /// It ended by a goodbye: nothing behind that counts.
    said_goodbye: bool,
    /// What earlier runs left goes out first.
    catch_up: Option<Pin<Box<dyn Future<Output = ()>>>>,
    is_caught_up: bool,
}

struct Sent {
    counter: u64,
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
    async fn run(&mut self, typed: &mut mpsc::Receiver<Typed>) -> End {
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        loop {
            self.go_on();
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
                (sent, answer) = answer_of_first(&mut self.open), if !reading && !self.open.is_empty() => {
                    if let Err(error) = self.settle(sent, answer) {
                        return End::Lost(error);
                    }
                }
                event = next_of(self.reading.as_mut().map(|reading| &mut reading.history)) => self.read(event),
                event = next_of(self.follow.as_mut().map(|follow| &mut follow.history)), if !reading => {
                    self.followed(event);
                }
                () = done(&mut self.catch_up) => {
                    self.catch_up = None;
                    self.is_caught_up = true;
                }
                sent = send(&self.client, &mut self.unsent), if self.is_caught_up && !self.unsent.is_empty() => {
                    match sent {
                        Ok(sent) => {
                            self.tray.sent(sent.counter);
                            self.open.push_back(sent);
                        }
                        Err(error) => return End::Lost(error),
                    }
                }
                line = typed.recv(), if self.ended.is_none() => match line {
                    Some(Typed::Interrupt) => return End::Interrupted,
                    line => {
                        if let Some(error) = self.take_in(line) {
                            return End::Lost(error);
                        }
                    }
                },
                () = self.patience.wait() => {
                    self.place.output.flush();
                    self.show_state();
                    let held_up = self.ended.map_or(HeldUp::Nothing, HeldUp::End);
                    if let Some(error) = self.patience.look(held_up) {
                        return End::Lost(error);
                    }
                }
                () = self.place.output.flush_when_idle() => {}
            }
        }
    }

    fn is_connected(&self) -> bool {
        self.client.state().borrow().is_connected()
    }

    /// The first connection stands: says where one is, shows the past, and sends what earlier runs left.
    fn arrive(&mut self) {
        self.welcome();
        let (past, head) = (self.place.past, self.client.welcome().head);
        self.newest_seen = head;
        if past != Which::Last(0) {
            self.reading = Some(Reading::of(self.client.history(past), false));
        } else {
            self.follow_others();
        }
        let (outbox, server) = (self.outbox.clone(), self.place.config.server.clone());
        self.catch_up = Some(Box::pin(async move {
            // What it meets is told, and the next run tries again.
            let _ = deliver_left(&outbox, &server, true).await;
        }));
    }

    /// A person at a prompt sees what others write.
    fn follow_others(&mut self) {
        if self.place.prompt.is_some() && self.follow.is_none() {
            let history = self.client.follow(Some(self.newest_seen + 1));
            self.follow = Some(Follow { history, own_after: 0 });
        }
    }

    /// Lets the prompt show whether the server is there.
    fn show_state(&self) {
        if let Some(prompt) = &self.place.prompt {
            prompt.set_away(!self.is_connected());
        }
    }

    fn is_done(&self) -> bool {
        let all_sent = self.held.is_empty() && self.unsent.is_empty() && self.open.is_empty();
        self.ended.is_some() && all_sent && self.reading.is_none() && self.new_name.is_none()
    }

    /// Who writes from here on, once all before is acked.
    fn name_to_take(&mut self) -> Option<Author> {
        if self.open.is_empty() && self.unsent.is_empty() { self.new_name.take() } else { None }
    }

    /// An answer is finished before the next command is looked at, as is a change of the name.
    fn is_busy(&self) -> bool {
        self.reading.is_some() || self.new_name.is_some()
    }

    /// Does what need not be waited for.
    fn go_on(&mut self) {
        if self.place.output.is_gone() {
            // A conversation with someone who sees nothing is over.
            self.reading = None;
            self.ended.get_or_insert_with(Instant::now);
        }
        if !self.is_caught_up && self.catch_up.is_none() && self.is_connected() {
            self.arrive();
        }
        while !self.is_busy()
            && let Some(line) = self.held.pop_front()
        {
            self.take_line(line);
        }
    }

    /// What was typed, or the end of it. An error: it ends while the server is away, and nothing is waited for.
    fn take_in(&mut self, line: Option<Typed>) -> Option<Error> {
        match line {
            Some(Typed::Line(Ok(line))) => {
                // Texts need not wait for anything but a command before them.
                if self.held.is_empty()
                    && (!self.is_busy() || !line.starts_with('/'))
                    && self.new_name.is_none()
                {
                    self.take_line(line);
                } else {
                    self.held.push_back(line);
                }
            }
            Some(Typed::Line(Err(refusal))) => self.say(format_args!("error {refusal}")),
            Some(Typed::Failed(error)) => {
                self.say(format_args!("the input cannot be read: {error}"));
                self.ended = Some(Instant::now());
            }
            Some(Typed::Interrupt) => {}
            None => self.ended = Some(Instant::now()),
        }
        self.ended?;
        self.client.state().borrow().error().cloned()
    }

    fn take_line(&mut self, line: String) {
        match line.strip_prefix('/') {
            Some(rest) if rest.starts_with('/') => self.keep(rest.to_owned()),
            Some(_) => self.obey(&line),
            None => self.keep(line),
        }
    }

    /// Keeps a text until it is acked.
    fn keep(&mut self, text: String) {
        let pushed = self.tray.push(Time::now(&TimeZone::system()), &text);
        if let Err(why) = &pushed.kept {
            self.say(format_args!("{why}; the entry is sent without being kept"));
        }
        self.unsent.push_back((pushed.counter, text));
        if !self.is_connected() {
            self.show_state();
            self.note(format_args!("{} unsent", self.unsent.len() + self.open.len()));
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
            Ok(Command::Quit) => {
                self.ended = Some(Instant::now());
                self.said_goodbye = true;
                self.held.clear();
            }
            Err(refusal) => self.say(format_args!("error {refusal}")),
        }
    }

    fn begin(&mut self, history: History) {
        let mut bytes = Vec::new();
        self.place.view.begin(&mut bytes);
        self.place.output.print(&bytes);
        self.reading = Some(Reading::of(history, true));
    }

    /// Writes under another name: a new client, since a name is said with Hello.
    async fn rename(&mut self, name: Author) {
        match begin(&self.outbox, self.place.config, Some(name.clone()), false).await {
            Ok((client, tray, _)) => {
                self.patience = Patience::new(&client);
                self.producers.push(client.producer());
                self.tray = tray;
                let old = std::mem::replace(&mut self.client, client);
                // All of its entries are acked; it only says goodbye.
                let _ = old.close().await;
                self.note(format_args!("you write as {name}"));
            }
            Err(why) => self.say(format_args!("{why}; the name stays as it was")),
        }
    }

    /// An entry was answered. An error means that the client has ended without its ack.
    fn settle(&mut self, sent: Option<(u64, bool)>, answer: Result<Ack, Error>) -> Result<(), Error> {
        let Some((counter, hint)) = sent else { return Ok(()) };
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
                if !told {
                    self.follow_others();
                }
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
        self.newest_seen = self.newest_seen.max(match event {
            Event::Entry(stored) => stored.entry.seq,
            Event::Gap(gap) => gap.last,
            Event::Damaged { .. } => 0,
        });
        let mut bytes = Vec::new();
        self.place.view.event(event, &mut bytes);
        self.place.output.print(&bytes);
    }

    fn welcome(&mut self) {
        let welcome = self.client.welcome();
        let (author, journal) = (clean(&welcome.author), clean(&welcome.journal));
        let address = &self.place.config.server;
        self.note(format_args!("{author} writes in {journal} at {address}; /help lists the commands"));
    }

    /// Tells the person something that is no entry.
    fn note(&mut self, what: fmt::Arguments<'_>) {
        if self.place.view.is_plain() {
            self.say(what);
        } else {
            self.place.output.print(format!("{what}\n").as_bytes());
        }
    }

    /// Says something on stderr, behind what was printed before.
    fn say(&mut self, what: fmt::Arguments<'_>) {
        self.place.output.flush();
        say(what);
    }

    async fn finish(mut self, end: End, mut typed: mpsc::Receiver<Typed>) -> u8 {
        // What was typed and not looked at is no less worth keeping.
        typed.close();
        while !self.said_goodbye
            && let Ok(line) = typed.try_recv()
        {
            if let Typed::Line(Ok(line)) = line {
                self.held.push_back(line);
            }
        }
        for line in std::mem::take(&mut self.held) {
            match line.strip_prefix('/') {
                Some(rest) if !rest.starts_with('/') => self.say(format_args!("not done: {}", clean(&line))),
                Some(rest) => self.keep(rest.to_owned()),
                None => self.keep(line),
            }
        }
        self.place.output.flush();
        let count = self.not_acked();
        let why = match end {
            End::Interrupted if count == 0 => return exit::INTERRUPTED,
            End::Done if count == 0 => {
                let _ = self.client.close().await;
                return exit::DONE;
            }
            End::Done => "the input ended".to_owned(),
            End::Interrupted => "interrupted".to_owned(),
            End::Lost(error) => format!("gave up: {error}"),
        };
        self.tell_not_acked(count, &why).await
    }

    /// Says what was not acked, and where it is kept.
    async fn tell_not_acked(mut self, not_acked: usize, why: &str) -> u8 {
        let entries = count(not_acked, "entry was", "entries were");
        let given_up = self.client.give_up().await;
        let sent = given_up.iter().filter(|entry| entry.sent).count();
        let of_client = self.open.iter().map(|sent| sent.counter).nth(sent);
        if let Some(first) = of_client.or_else(|| self.unsent.front().map(|(counter, _)| *counter)) {
            self.tray.not_sent(first);
        }
        match self.tray.path().filter(|path| path.exists()) {
            Some(path) => {
                let server = &self.place.config.server;
                say(format_args!(
                    "{why}; {entries} not acked: kept in {}, and the next run for {server} sends it",
                    path.display()
                ));
            }
            None => {
                say(format_args!("{why}; {entries} not acked"));
                let given_up = given_up.into_iter().map(|entry| entry.text);
                for text in given_up.chain(self.unsent.into_iter().map(|(_, text)| text)) {
                    say(format_args!("not acked: {}", clean(&text)));
                }
            }
        }
        exit::NOT_ACKED
    }

    /// How many typed entries were not acked, or refused. What is answered by now is noted.
    fn not_acked(&mut self) -> usize {
        let mut open = VecDeque::new();
        for mut sent in std::mem::take(&mut self.open) {
            match (&mut sent.pending).now_or_never() {
                Some(answer @ (Ok(_) | Err(Error::Refused(_)))) => {
                    let _ = self.settle(Some((sent.counter, sent.hint)), answer);
                }
                _ => open.push_back(sent),
            }
        }
        self.open = open;
        self.lost + self.open.len() + self.unsent.len()
    }
}

/// Anyone's words, safe for the terminal.
fn clean(text: &str) -> String {
    diary_proto::escape::escape(text).into_owned()
}

/// Completes when what is being done is done.
///
/// Cancellation safe.
async fn done(what: &mut Option<Pin<Box<dyn Future<Output = ()>>>>) {
    match what {
        Some(what) => what.await,
        None => std::future::pending().await,
    }
}

/// Sends the next text.
///
/// Cancellation safe: the text is taken only when there is room for it.
async fn send(client: &Client, unsent: &mut VecDeque<(u64, String)>) -> Result<Sent, Error> {
    let room = client.room().await?;
    let (counter, text) = unsent.pop_front().unwrap_or_default();
    let hint = is_old_command(&text);
    Ok(Sent { counter, pending: room.send(text)?, hint })
}

/// The answer for what was sent first, its counter, and whether a hint is due.
///
/// Cancellation safe: an entry leaves the queue only with its answer.
async fn answer_of_first(open: &mut VecDeque<Sent>) -> (Option<(u64, bool)>, Result<Ack, Error>) {
    let answer = match open.front_mut() {
        Some(sent) => (&mut sent.pending).await,
        None => std::future::pending().await,
    };
    (open.pop_front().map(|sent| (sent.counter, sent.hint)), answer)
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
    use crate::input::typed;
    use clap::Parser;
    use std::io;

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
        let words = [&["diary-cli", fake.address(), "--name", "anna"], words].concat();
        let args = crate::args::Args::try_parse_from(words).unwrap();
        let state = tempfile::tempdir().unwrap();
        let config = Config {
            state: Some(state.path().to_owned()),
            ..Config::read(args.server(), &args.settings).unwrap()
        };
        let paper = Paper::default();
        let (keys, chunks) = mpsc::channel(1);
        let place = Place {
            config: &config,
            past: args.past(),
            output: Output::new(paper.clone()),
            view: Printer::of(crate::show::Format::Pretty, false, TimeZone::UTC, 0),
            prompt: None,
        };
        let running = run(place, typed(chunks));
        let (code, ()) = tokio::join!(running, script(Person { keys, paper: paper.clone() }));
        assert!(Outbox::new(config.state.as_deref()).list().entries.is_empty(), "all was acked");
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
