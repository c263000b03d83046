//! A conversation with a person: lines are entries, commands start with `/`.
//!
//! What is typed is kept in the outbox before anything else happens to it, and leaves it when it is acked.

mod agenda;
mod answers;
mod catch_up;
mod kept;

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;

use diary_client::{Author, Client, Error, Event, History, NewEntry, Options, Producer, Welcome, Which};
use diary_proto::answer::is_old_command;
use tokio::sync::mpsc;

use crate::config::Config;
use crate::error::exit;
use crate::error::unreachable_sentence;
use crate::outbox::{Outbox, Tray};
use crate::patience::{HeldUp, Patience, Silence, TELL_SILENCE_AFTER, until};
use crate::render::Printer;
use crate::term::editor::{Above, Prompt};
use crate::term::input::Typed;
use crate::term::output::Output;
use crate::term::signals::Signals;
use crate::term::ui::Ui;
use crate::unanswered::{Unanswered, answer_of_first, send_next};
use agenda::{Agenda, Step};
use answers::Reading;
use catch_up::CatchUp;

/// Where one may type, if there is no line editor.
const PROMPT: &str = "> ";

/// Where a conversation takes place.
pub(crate) struct Place<'a> {
    pub(crate) config: &'a Config,
    /// How many of the newest entries to show first.
    pub(crate) past: Which,
    pub(crate) output: Output,
    pub(crate) view: Printer,
    /// The prompt of a line editor. With one, entries of others appear as they come.
    pub(crate) prompt: Option<Prompt>,
    /// A terminal without a line editor: the conversation itself shows where to type.
    pub(crate) bare: bool,
}

impl Place<'_> {
    /// Where sentences go.
    fn ui(&self) -> Ui {
        self.prompt.as_ref().map(Prompt::ui).unwrap_or_default()
    }
}

/// How a conversation ended.
pub(crate) struct Ended {
    /// The exit code.
    pub(crate) code: u8,
    /// What is to be told once a line editor has given the terminal back.
    pub(crate) last_words: Vec<String>,
    /// Who would have written what stands on the line.
    pub(crate) author: Option<Author>,
}

impl Ended {
    fn with(code: u8) -> Self {
        Self { code, last_words: Vec::new(), author: None }
    }

    /// Before anybody wrote anything.
    fn at_once(why: String, place: &Place<'_>) -> Self {
        let author = place.config.author.clone();
        Self { code: exit::UNREACHABLE, last_words: vec![why], author }
    }
}

/// Talks until the person ends it. At a prompt it goes on without a server, and waits for one.
pub(crate) async fn run(place: Place<'_>, mut typed: mpsc::Receiver<Typed>, mut signals: Signals) -> Ended {
    let outbox = Outbox::new(place.config.state.as_deref());
    let agenda = Agenda::new(outbox, place.config.server.clone(), place.config.author.as_ref());
    let mut agenda = match agenda {
        Ok(agenda) => agenda,
        Err(why) => return Ended::at_once(why, &place),
    };
    let options = options(agenda.tray());
    let connecting = Client::connect(place.config.server.clone(), options.clone());
    let (client, begun) =
        match listen_until(connecting, &mut agenda, &mut typed, &mut signals, &place.ui()).await {
            Some(Ok(client)) => (Ok(client), Begun::Connected),
            Some(Err(error)) if place.prompt.is_some() => {
                let why = unreachable_sentence(&error);
                (Client::reconnecting(place.config.server.clone(), options, error), Begun::Away(why))
            }
            Some(Err(error)) if agenda.texts() == 0 => {
                return Ended::at_once(unreachable_sentence(&error), &place);
            }
            Some(Err(error)) => {
                let client = Client::reconnecting(place.config.server.clone(), options, error.clone());
                (client, Begun::Over(End::Lost(error)))
            }
            None => {
                let client = Client::reconnecting(place.config.server.clone(), options, Error::Closed);
                (client, Begun::Over(End::Interrupted))
            }
        };
    let mut talk = match client {
        Ok(client) => Talk::new(client, place, agenda),
        Err(error) => return Ended::at_once(error.to_string(), &place),
    };
    match begun {
        Begun::Connected => talk.arrive(),
        Begun::Away(why) => {
            talk.show_state();
            talk.patience.told_lost();
            talk.note(format_args!("{why}; what you type is kept and sent when the server is there"));
        }
        Begun::Over(end) => return talk.finish(end, typed).await,
    }
    let end = talk.run(&mut typed, &mut signals).await;
    talk.finish(end, typed).await
}

/// How a conversation begins.
enum Begun {
    Connected,
    /// There is no server, for this reason.
    Away(String),
    Over(End),
}

/// A client that sends what a tray keeps.
fn options(tray: &Tray) -> Options {
    Options { author: tray.author().cloned(), secret: Some(tray.secret()), ..Options::default() }
}

/// Takes in what is typed until there is a client, or none can be had; `None` if that is interrupted.
async fn listen_until(
    connecting: impl Future<Output = Result<Client, Error>>,
    agenda: &mut Agenda,
    typed: &mut mpsc::Receiver<Typed>,
    signals: &mut Signals,
    ui: &Ui,
) -> Option<Result<Client, Error>> {
    let mut connecting = std::pin::pin!(connecting);
    loop {
        tokio::select! {
            biased;
            () = signals.any() => return None,
            line = typed.recv(), if agenda.is_open() => match line {
                Some(Typed::Interrupt) => return None,
                line => if let Some(trouble) = agenda.take_in(line) {
                    ui.say(format_args!("{trouble}"));
                }
            },
            client = &mut connecting => return Some(client),
        }
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
    silence: Silence,
    /// What was typed, and is not done yet.
    agenda: Agenda,
    /// Kept, and to be sent, in order.
    unsent: VecDeque<(Sent, NewEntry)>,
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
    renaming: Option<Renaming>,
    quiet: bool,
    /// Entries whose acks will not come.
    lost: usize,
    /// What is kept from before goes out first.
    catch_up: CatchUp,
    /// The server has been there.
    has_arrived: bool,
    /// The cursor stands behind a prompt that no editor has.
    at_prompt: bool,
}

/// A client is on its way.
type Connecting = Pin<Box<dyn Future<Output = Result<Client, Error>>>>;

/// A change to the next tray.
struct Renaming {
    /// Who writes from then on, if that changes.
    name: Option<Author>,
    /// A new client, since a name is said with Hello, as is the secret of a tray.
    connecting: Option<Connecting>,
}

struct Sent {
    counter: u64,
    /// It looks like a command of the programs before this one.
    hint: bool,
}

impl Sent {
    fn new(counter: u64, text: &str) -> Self {
        Self { counter, hint: is_old_command(text) }
    }
}

struct Follow {
    history: History,
    /// What is typed from here on is on the screen already.
    own_after: u64,
}

impl<'a> Talk<'a> {
    fn new(client: Client, place: Place<'a>, agenda: Agenda) -> Self {
        Self {
            patience: Patience::new(&client).with(place.ui()),
            silence: Silence::default(),
            producers: vec![client.producer()],
            client,
            place,
            agenda,
            unsent: VecDeque::new(),
            open: VecDeque::new(),
            reading: None,
            follow: None,
            newest_seen: 0,
            newest_own: 0,
            renaming: None,
            quiet: false,
            lost: 0,
            catch_up: CatchUp::default(),
            has_arrived: false,
            at_prompt: false,
        }
    }

    async fn run(&mut self, typed: &mut mpsc::Receiver<Typed>, signals: &mut Signals) -> End {
        loop {
            self.go_on();
            if self.is_done() {
                return End::Done;
            }
            if let Some(refusal) = self.catch_up.full().filter(|_| self.is_without_room()) {
                return End::Lost(Error::Refused(refusal.clone()));
            }
            let behind = self.place.prompt.as_ref().is_some_and(|prompt| prompt.above().is_behind());
            self.silence.watch(self.is_connected() && self.unacked() > 0 && !behind);
            self.show_bare_prompt();
            let reading = self.reading.is_some();
            let above = self.place.prompt.as_ref().map(Prompt::above).cloned();
            let (again_at, silent_at) = (self.catch_up.again_at(), self.silence.tell_at());
            let may_send = self.catch_up.is_done() && !self.unsent.is_empty();
            tokio::select! {
                biased;
                () = signals.any() => return End::Interrupted,
                line = typed.recv(), if self.agenda.is_open() => match line {
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
                // What the screen has no room for is not read, and costs nothing here.
                () = room(above.as_ref()), if behind => {}
                event = next_of(self.reading.as_mut().map(|reading| &mut reading.history)), if !behind => {
                    self.read(event);
                }
                event = next_of(self.follow.as_mut().map(|follow| &mut follow.history)), if !reading && !behind => {
                    self.followed(event);
                }
                client = connected(&mut self.renaming) => {
                    if let Err(error) = self.rename(client) {
                        return End::Lost(error);
                    }
                }
                sent = self.catch_up.sent() => self.caught_up(sent),
                () = until(again_at) => self.catch_up(),
                () = until(silent_at) => self.tell_silence(),
                sent = send_next(&self.client, || self.unsent.pop_front()), if may_send => {
                    match sent {
                        Ok((sent, pending)) => {
                            self.agenda.tray().sent(sent.counter);
                            self.open.push_back((sent, pending));
                        }
                        Err(error) => return End::Lost(error),
                    }
                }
                () = self.patience.wait(), if !behind || self.agenda.ended().is_some() => {
                    self.break_bare_prompt(self.patience.has_news());
                    self.place.output.flush();
                    self.show_state();
                    let held_up = self.agenda.ended().map_or(HeldUp::Nothing, HeldUp::End);
                    if let Some(error) = self.patience.look(held_up) {
                        return End::Lost(error);
                    }
                    if self.patience.is_back() {
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
        let Welcome { journal_id, day_start, .. } = self.client.welcome();
        self.agenda.tray().met(journal_id);
        self.place.view.start_days_at(day_start);
        self.agenda.start_days_at(day_start);
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

    /// A person at a prompt sees what others write.
    fn follow_others(&mut self) {
        if self.place.prompt.is_some() && self.follow.is_none() {
            let history = self.client.follow(Some(self.newest_seen + 1));
            self.follow = Some(Follow { history, own_after: 0 });
        }
    }

    /// Where there is no editor: shows that one may type, if nothing else is to come first.
    fn show_bare_prompt(&mut self) {
        let waits = self.agenda.is_empty() && self.reading.is_none() && self.renaming.is_none();
        let all_answered = self.unsent.is_empty() && self.open.is_empty();
        if self.place.bare
            && !self.at_prompt
            && self.agenda.is_open()
            && waits
            && (all_answered || !self.is_connected() || self.silence.is_told())
        {
            self.place.output.print(PROMPT.as_bytes());
            self.at_prompt = true;
        }
    }

    /// What is printed begins on a line of its own.
    fn break_bare_prompt(&mut self, printed: bool) {
        if printed && std::mem::take(&mut self.at_prompt) {
            self.place.output.print(b"\n");
        }
    }

    /// Prints below whatever stands there.
    fn print(&mut self, bytes: &[u8]) {
        self.break_bare_prompt(!bytes.is_empty());
        self.place.output.print(bytes);
    }

    /// Lets the prompt show whether the server is there.
    fn show_state(&self) {
        if let Some(prompt) = &self.place.prompt {
            prompt.set_away(!self.is_connected() || self.silence.is_told());
        }
    }

    /// How many typed entries have no answer.
    fn unacked(&self) -> usize {
        self.agenda.texts() + self.unsent.len() + self.open.len()
    }

    /// The connection stands, and nothing comes of what was typed.
    fn tell_silence(&mut self) {
        self.silence.told();
        self.show_state();
        let (server, limit) = (self.place.config.server.clone(), TELL_SILENCE_AFTER.as_secs());
        let unacked = self.unacked();
        self.note(format_args!("{unacked} unsent: {server} is there, and has acked nothing for {limit} s"));
    }

    /// The server does something.
    fn answered(&mut self) {
        self.patience.progress();
        if self.silence.answered() {
            self.show_state();
            if self.quiet {
                // No ack says so.
                let server = self.place.config.server.clone();
                self.note(format_args!("{server} answers again"));
            }
        }
    }

    fn is_done(&self) -> bool {
        let all_sent = self.agenda.is_empty() && self.unsent.is_empty() && self.open.is_empty();
        let is_waiting = self.reading.is_some() || self.renaming.is_some() || self.catch_up.full().is_some();
        self.agenda.ended().is_some() && all_sent && !is_waiting
    }

    /// Does what need not be waited for.
    fn go_on(&mut self) {
        if self.place.output.is_gone() {
            // A conversation with someone who sees nothing is over.
            self.reading = None;
            self.agenda.end();
        }
        if !self.has_arrived && self.is_connected() {
            self.arrive();
        }
        while let Some(step) = self.agenda.next(self.reading.is_some(), self.renaming.is_some()) {
            match step {
                Step::Text { counter, entry } => {
                    self.unsent.push_back((Sent::new(counter, &entry.text), entry));
                }
                Step::Command { command, .. } => self.obey(command),
                Step::Name(name) => {
                    self.renaming = Some(Renaming { name: Some(name), connecting: None });
                }
            }
        }
        self.set_aside();
        self.begin_renaming();
    }

    /// Once all before is acked, somebody else writes.
    fn begin_renaming(&mut self) {
        let all_acked = self.open.is_empty() && self.unsent.is_empty() && self.is_connected();
        if let Some(renaming) = &mut self.renaming
            && renaming.connecting.is_none()
            && all_acked
            && let Some(tray) = self.agenda.next_tray()
        {
            let connecting = Client::connect(tray.server().clone(), options(tray));
            renaming.connecting = Some(Box::pin(connecting));
        }
    }

    /// What was typed, or the end of it. An error: it ends while the server is away, and nothing is waited for.
    fn take_in(&mut self, line: Option<Typed>) -> Option<Error> {
        let before = self.agenda.texts();
        // Enter has begun a new line.
        self.at_prompt = false;
        let trouble = self.agenda.take_in(line);
        if let Some(trouble) = trouble {
            self.say(format_args!("{trouble}"));
        }
        if self.agenda.texts() > before && (!self.is_connected() || self.silence.is_told()) {
            self.show_state();
            self.note(format_args!("{} unsent", self.unacked()));
        }
        self.agenda.ended()?;
        self.client.state().borrow().error().cloned()
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
            self.print(format!("{what}\n").as_bytes());
        }
    }

    /// Says something on stderr, behind what was printed before.
    fn say(&mut self, what: fmt::Arguments<'_>) {
        self.break_bare_prompt(true);
        self.place.output.flush();
        self.place.ui().say(what);
    }
}

/// Anyone's words, safe for the terminal.
fn clean(text: &str) -> String {
    diary_proto::escape::escape(text).into_owned()
}

/// The client that writes under another name, once one is wanted.
///
/// Cancellation safe.
async fn connected(renaming: &mut Option<Renaming>) -> Result<Client, Error> {
    match renaming.as_mut().and_then(|renaming| renaming.connecting.as_mut()) {
        Some(connecting) => connecting.await,
        None => std::future::pending().await,
    }
}

/// Waits until the screen has room again.
///
/// Cancellation safe.
async fn room(above: Option<&Above>) {
    if let Some(above) = above {
        above.room().await;
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
