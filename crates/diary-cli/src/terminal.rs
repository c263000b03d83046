//! A conversation with a person: lines are entries, commands start with `/`.
//!
//! What is typed is kept in the outbox before anything else happens to it, and leaves it when it is acked.

mod kept;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;

use diary_client::{Author, Client, Error, Event, History, Options, Producer, Stored, Which};
use diary_proto::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::Config;
use crate::deliver::deliver_left;
use crate::editor::Prompt;
use crate::exit;
use crate::input::Typed;
use crate::outbox::{Outbox, Tray};
use crate::output::{Output, say};
use crate::patience::{HeldUp, Patience};
use crate::show::Printer;
use crate::unanswered::{Unanswered, answer_of_first};
use crate::unreachable_sentence;
use kept::send;

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

/// What asks the program from outside to end.
pub(crate) struct Signals([Signal; 3]);

impl Signals {
    /// Listens for SIGINT, SIGTERM and the end of the terminal. To be made before a line editor is started, which
    /// restores what it found.
    ///
    /// # Errors
    /// The system gives no way to listen.
    pub(crate) fn new() -> io::Result<Self> {
        let [interrupt, terminate, hangup] =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    /// Cancellation safe.
    async fn any(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// How a conversation ended.
pub(crate) struct Ended {
    /// The exit code.
    pub(crate) code: u8,
    /// What is to be told once a line editor has given the terminal back.
    pub(crate) last_words: Vec<String>,
}

impl Ended {
    fn with(code: u8) -> Self {
        Self { code, last_words: Vec::new() }
    }
}

/// Talks until the person ends it. At a prompt it goes on without a server, and waits for one.
pub(crate) async fn run(place: Place<'_>, mut typed: mpsc::Receiver<Typed>, mut signals: Signals) -> Ended {
    let outbox = Outbox::new(place.config.state.as_deref());
    let begun = begin(&outbox, place.config, place.config.author.clone(), place.prompt.is_some()).await;
    let (client, tray, away) = match begun {
        Ok(begun) => begun,
        Err(why) => return Ended { code: exit::UNREACHABLE, last_words: vec![why] },
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
        left_behind: false,
        has_arrived: false,
        unkept: false,
    };
    match away {
        None => talk.arrive(),
        Some(why) => {
            talk.show_state();
            talk.patience.told_lost();
            talk.note(format_args!("{why}; what you type is kept and sent when the server is there"));
        }
    }
    let end = talk.run(&mut typed, &mut signals).await;
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
    let mut tray = outbox.begin(&config.server, author.as_ref())?;
    let options = Options { author, secret: Some(tray.secret()), ..Options::default() };
    match Client::connect(config.server.clone(), options.clone()).await {
        Ok(client) => {
            tray.met(client.welcome().journal_id);
            Ok((client, tray, None))
        }
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

/// What earlier runs left is being sent.
type CatchUp = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

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
    open: Unanswered<Sent>,
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
    catch_up: Option<CatchUp>,
    is_caught_up: bool,
    /// Some of it could not be sent; a new connection is worth another try.
    left_behind: bool,
    /// The server has been there.
    has_arrived: bool,
    /// Some of what was typed could not be kept.
    unkept: bool,
}

struct Sent {
    counter: u64,
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
    async fn run(&mut self, typed: &mut mpsc::Receiver<Typed>, signals: &mut Signals) -> End {
        loop {
            self.go_on();
            if let Some(name) = self.name_to_take() {
                tokio::select! {
                    () = self.rename(name) => continue,
                    () = signals.any() => return End::Interrupted,
                }
            }
            if self.is_done() {
                return End::Done;
            }
            let reading = self.reading.is_some();
            tokio::select! {
                biased;
                () = signals.any() => return End::Interrupted,
                line = typed.recv(), if self.ended.is_none() => match line {
                    Some(Typed::Interrupt) => return End::Interrupted,
                    line => {
                        if let Some(error) = self.take_in(line) {
                            return End::Lost(error);
                        }
                    }
                },
                (sent, answer) = answer_of_first(&mut self.open), if !reading && !self.open.is_empty() => {
                    if let Err(error) = self.settle(sent, answer) {
                        return End::Lost(error);
                    }
                }
                event = next_of(self.reading.as_mut().map(|reading| &mut reading.history)) => self.read(event),
                event = next_of(self.follow.as_mut().map(|follow| &mut follow.history)), if !reading => {
                    self.followed(event);
                }
                caught_up = done(&mut self.catch_up) => {
                    self.catch_up = None;
                    self.is_caught_up = true;
                    if let Err(error) = caught_up {
                        self.left_behind = true;
                        self.say(format_args!("{error}; what is kept from before goes out another time"));
                    }
                }
                sent = send(&self.client, &mut self.unsent), if self.is_caught_up && !self.unsent.is_empty() => {
                    match sent {
                        Ok((sent, pending)) => {
                            self.tray.sent(sent.counter);
                            self.open.push_back((sent, pending));
                        }
                        Err(error) => return End::Lost(error),
                    }
                }
                () = self.patience.wait() => {
                    self.place.output.flush();
                    self.show_state();
                    let held_up = self.ended.map_or(HeldUp::Nothing, HeldUp::End);
                    if let Some(error) = self.patience.look(held_up) {
                        return End::Lost(error);
                    }
                    if self.left_behind && self.is_connected() {
                        self.catch_up();
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
        self.has_arrived = true;
        self.tray.met(self.client.welcome().journal_id);
        self.welcome();
        let (past, head) = (self.place.past, self.client.welcome().head);
        self.newest_seen = head;
        if self.reading.is_some() {
            // Something was asked for meanwhile.
        } else if past != Which::Last(0) {
            self.reading = Some(Reading::of(self.client.history(past), false));
        } else {
            self.follow_others();
        }
        self.catch_up();
    }

    /// Sends what earlier runs left, before anything else.
    fn catch_up(&mut self) {
        let (outbox, server) = (self.outbox.clone(), self.place.config.server.clone());
        (self.is_caught_up, self.left_behind) = (false, false);
        self.catch_up = Some(Box::pin(async move { deliver_left(&outbox, &server, true).await }));
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
        let all_acked = self.open.is_empty() && self.unsent.is_empty();
        if all_acked && self.is_connected() { self.new_name.take() } else { None }
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
        if !self.has_arrived && self.is_connected() {
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

    fn obey(&mut self, line: &str) {
        match Command::parse(line) {
            Ok(Command::History(which)) => self.begin(self.client.history(which)),
            Ok(Command::Search(text)) => self.begin(self.client.search(text)),
            Ok(Command::Follow(from)) => {
                // One that follows already misses nothing by being asked again.
                if from.is_some() || self.follow.is_none() {
                    let history = self.client.follow(from);
                    self.follow = Some(Follow { history, own_after: self.newest_own });
                }
                self.note(format_args!("following; /follow off ends it"));
            }
            Ok(Command::FollowOff) => {
                self.follow = None;
                self.note(format_args!("not following"));
            }
            Ok(Command::Name(name)) => self.new_name = Some(name),
            Ok(Command::Quiet) => self.quiet = true,
            Ok(Command::Help) => {
                self.note(format_args!("{}", HELP.trim_end()));
                if self.place.prompt.is_some() {
                    self.note(format_args!(
                        "Alt-Enter, or \\ at the end of a line: another line of the same entry"
                    ));
                }
            }
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
            // The server is away again: what was typed behind it waits for the name.
            Err(_) if !self.is_connected() => self.new_name = Some(name),
            Err(why) => self.say(format_args!("{why}; the name stays as it was")),
        }
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
}

/// Anyone's words, safe for the terminal.
fn clean(text: &str) -> String {
    diary_proto::escape::escape(text).into_owned()
}

/// Completes when what is being done is done.
///
/// Cancellation safe.
async fn done(what: &mut Option<CatchUp>) -> Result<(), Error> {
    match what {
        Some(what) => what.await,
        None => std::future::pending().await,
    }
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
mod tests;
