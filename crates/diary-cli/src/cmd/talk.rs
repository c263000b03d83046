//! A conversation with a user: lines are entries, commands start with `/`.
//!
//! A typed text is kept in the outbox at once and submitted to a [`Delivery`]. `commands` runs the lines that start
//! with `/`, and `ending` reports and keeps what is left at the end.

mod commands;
mod ending;
mod terminal;

use std::collections::VecDeque;
use std::fmt;
use std::mem::take;

use diary_client::{
    Author, DayStart, Error, History, NewEntry, Producer, Reader, Refusal, Relation, Scope, State, Welcome,
    Which,
};
use diary_outbox::{Delivery, Held, Keys, Outcome};
use diary_proto::answer::{HINT, is_old_command};
use diary_proto::escape::escape;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::deliver::{
    Stopped, deadline_of_kept, if_any, refused_sentence, resumed, tell_clocks, tell_earlier, tell_waiting,
};
use crate::config::Config;
use crate::error::{CliError, unreachable_sentence};
use crate::render::Printer;
use crate::term::above::Above;
use crate::term::editor::Prompt;
use crate::term::input::{Typed, is_command, is_login};
use crate::term::output::Output;
use crate::term::signals::Signals;
use crate::term::ui::Ui;
use commands::{Answer, ReadingLost, Wanted, understand};
use diary_calendar::Calendar;

pub(crate) use terminal::at_terminal;

/// Prompt without a line editor.
const PROMPT: &str = "> ";

/// Input, output and settings of a conversation.
pub(crate) struct Place<'a> {
    pub(crate) config: &'a Config,
    /// Number of the newest entries to show first.
    pub(crate) past: Which,
    pub(crate) output: Output,
    pub(crate) view: Printer,
    /// Prompt of a line editor. With one, new entries of others appear as they arrive.
    pub(crate) prompt: Option<Prompt>,
    /// Whether this is a terminal without a line editor, where the conversation itself prints the prompt.
    pub(crate) bare: bool,
}

impl Place<'_> {
    /// Returns where sentences go.
    fn ui(&self) -> Ui {
        self.prompt.as_ref().map(Prompt::ui).unwrap_or_default()
    }
}

/// How a conversation ended.
pub(crate) struct Ended {
    pub(crate) how: Result<(), CliError>,
    /// Author of the unsent line, if there is one.
    pub(crate) author: Option<Author>,
}

/// Talks until the user ends it. At a prompt, it waits for a server that is away.
async fn run(place: Place<'_>, mut typed: mpsc::Receiver<Typed>, mut signals: Signals) -> Ended {
    let config = place.config;
    let (server, access) = (config.server.clone(), config.access(&config.server));
    let delivery = config.delivery(Keys::Kept(config.outbox()));
    let begun = delivery
        .map_err(CliError::from)
        .and_then(|delivery| Ok(Talk::new(delivery, Reader::new(server, access)?, place)));
    let mut talk = match begun {
        Ok(talk) => talk,
        Err(error) => return Ended { how: Err(error), author: config.author().cloned() },
    };
    let stopped = talk.run(&mut typed, &mut signals).await;
    talk.finish(stopped, typed).await
}

struct Talk<'a> {
    /// One delivery per name, with the texts typed under it. The first is active.
    deliveries: VecDeque<Delivery<String>>,
    /// Whether the input has ended and everything is answered.
    is_settled: bool,
    reader: Reader,
    reader_state: watch::Receiver<State>,
    reading_lost: Option<ReadingLost>,
    place: Place<'a>,
    calendar: Calendar,
    /// Commands that were typed and not run yet.
    commands: VecDeque<(String, Result<Wanted, String>)>,
    /// When the input ended.
    ended: Option<Instant>,
    /// Whether `/quit` was typed; later input is ignored.
    said_goodbye: bool,
    /// Answer that is being printed; nothing else is printed until it ends.
    answer: Option<Answer>,
    /// Bytes to print after the answer.
    behind_answer: Vec<u8>,
    follow: Option<Follow>,
    /// Seq of the newest entry shown.
    newest_seen: u64,
    /// Seq of the newest entry typed here.
    newest_own: u64,
    /// Entries that will not be acked here: how many the outbox has, and the texts of the others.
    left: usize,
    lost: Vec<String>,
    /// Producers of all names, each of which has its own keys.
    producers: Vec<Producer>,
    quiet: bool,
    /// Whether the server was reached.
    has_arrived: bool,
    /// The author that the server accepted last, and what it called that.
    known_as: (Option<Author>, String),
    /// Whether the user has been told that this name stays.
    keeps_name: bool,
    /// Whether the cursor is behind a prompt that no editor owns.
    at_prompt: bool,
}

struct Follow {
    history: History,
    /// Own entries with a higher seq are on the screen already.
    own_after: u64,
}

impl<'a> Talk<'a> {
    fn new(delivery: Delivery<String>, reader: Reader, place: Place<'a>) -> Self {
        Self {
            producers: vec![delivery.producer()],
            deliveries: VecDeque::from([delivery]),
            is_settled: false,
            reader_state: reader.state(),
            reader,
            reading_lost: None,
            place,
            calendar: Calendar::here(DayStart::default()),
            commands: VecDeque::new(),
            ended: None,
            said_goodbye: false,
            answer: None,
            behind_answer: Vec::new(),
            follow: None,
            newest_seen: 0,
            newest_own: 0,
            left: 0,
            lost: Vec::new(),
            quiet: false,
            has_arrived: false,
            known_as: (None, String::new()),
            keeps_name: false,
            at_prompt: false,
        }
    }

    /// Talks until everything is done and acked, or something ends it.
    async fn run(&mut self, typed: &mut mpsc::Receiver<Typed>, signals: &mut Signals) -> Option<Stopped> {
        loop {
            self.go_on();
            if self.is_settled && self.commands.is_empty() && self.answer.is_none() {
                return None;
            }
            if let Some(held) = self.hopeless() {
                return Some(Stopped::GaveUp(held));
            }
            let behind = self.place.prompt.as_ref().is_some_and(|prompt| prompt.above().is_behind());
            self.show_bare_prompt();
            let above = self.place.prompt.as_ref().map(Prompt::above).cloned();
            let (is_answering, deadline) = (self.answer.is_some(), self.deadline());
            let lost_told_at = self.reading_lost_told_at();
            tokio::select! {
                biased;
                () = signals.any() => return Some(Stopped::Interrupted),
                line = typed.recv(), if self.is_open() => match line {
                    Some(Typed::Interrupt) => return Some(Stopped::Interrupted),
                    line => self.take_in(line),
                },
                outcome = if_any(self.deliveries.front_mut().map(Delivery::next)), if !self.is_settled => self.take(outcome),
                // While the screen is behind, events are not read, so they do not pile up here.
                () = if_any(above.as_ref().map(Above::room)), if behind => {}
                event = if_any(self.answer.as_mut().map(|answer| answer.history.next())), if !behind => self.read(event),
                event = if_any(self.follow.as_mut().map(|follow| follow.history.next())), if !is_answering && !behind => {
                    self.followed(event);
                }
                Ok(()) = self.reader_state.changed() => self.look_at_reader(),
                () = if_any(lost_told_at.map(sleep_until)) => self.look_at_reader(),
                () = if_any(deadline.map(sleep_until)) => {}
                () = self.place.output.flush_when_idle() => {}
            }
        }
    }

    /// Whether to read more input.
    fn is_open(&self) -> bool {
        self.ended.is_none() && !self.said_goodbye
    }

    /// Returns why nothing is sent.
    fn held(&self) -> Option<&Held> {
        Some(self.deliveries.front()?.held()?.0)
    }

    /// Returns the number of unanswered entries.
    fn unanswered(&self) -> usize {
        self.left + self.deliveries.iter().map(Delivery::unanswered).sum::<usize>()
    }

    /// Returns when to give up a delivery that is held up; never before the input has ended.
    fn deadline(&self) -> Option<Instant> {
        // Waiting entries are in the outbox, where a later run finds them.
        Some(deadline_of_kept(self.deliveries.front()?)?.max(self.ended?))
    }

    /// Returns why it is pointless to continue.
    fn hopeless(&self) -> Option<Held> {
        let held = self.held()?;
        let is_over = match held {
            // At a prompt, the person is told, and ends it.
            Held::Ended(_) if self.place.prompt.is_none() => true,
            // Without a prompt, do not wait for a server that was never reached.
            Held::Away(_) if !self.has_arrived && self.place.prompt.is_none() => true,
            _ => self.deadline().is_some_and(|deadline| deadline <= Instant::now()),
        };
        is_over.then(|| held.clone())
    }

    /// Does what needs no waiting.
    fn go_on(&mut self) {
        if self.place.output.is_gone() {
            // The reader of the output is gone, so the conversation is over.
            self.answer = None;
            self.end();
        }
        // A command sees the entries typed before it, unless they wait for the server.
        while self.answer.is_none() && (self.unanswered() == 0 || self.held().is_some()) {
            let Some((_, wanted)) = self.commands.pop_front() else { return };
            self.obey(wanted);
        }
    }

    /// Ends the input.
    fn end(&mut self) {
        self.ended.get_or_insert_with(Instant::now);
        // Wait for the server first: with nothing typed, the delivery would end before the past is shown.
        if self.has_arrived {
            self.deliveries.iter_mut().for_each(Delivery::finish);
        }
    }

    /// Handles a typed line, or the end of the input.
    fn take_in(&mut self, typed: Option<Typed>) {
        // Enter has moved the cursor to a new line.
        self.at_prompt = false;
        match typed {
            _ if self.said_goodbye => {}
            Some(Typed::Line(Ok(line))) if is_login(&line) => {
                self.note(format_args!(
                    "a token is shown here, so this line was neither sent nor kept; to log in, end this with /quit and run \
                     diary login {}",
                    self.place.config.server
                ));
            }
            Some(Typed::Line(Ok(line))) if is_command(&line) => self.take_command(line),
            Some(Typed::Line(Ok(line))) if line.trim().is_empty() => {
                self.say(format_args!("nothing was written: the text is blank"));
            }
            Some(Typed::Line(Ok(line))) => {
                let text = match line.strip_prefix("//") {
                    Some(rest) if !rest.contains('\n') => format!("/{rest}"),
                    _ => line,
                };
                self.take_entry(text.into());
            }
            Some(Typed::Line(Err(refusal))) => self.say(format_args!("error {refusal}")),
            Some(Typed::Failed(error)) => {
                self.say(format_args!("the input cannot be read: {error}"));
                self.end();
            }
            Some(Typed::Interrupt) => {}
            None => self.end(),
        }
    }

    fn take_entry(&mut self, entry: NewEntry) {
        let Some(delivery) = self.deliveries.back_mut() else { return };
        if let Err(why) = delivery.submit(entry.text.clone(), entry) {
            self.say(format_args!("{why}; the entry is sent without being kept"));
        }
        if self.held().is_some() {
            self.note(format_args!("{} unsent", self.unanswered()));
        }
    }

    fn take_command(&mut self, line: String) {
        match understand(&line, &self.calendar) {
            Ok(Wanted::Name(name)) => self.rename(name),
            Ok(Wanted::Related(relation, text)) => {
                let (answers, corrects) = match relation {
                    Relation::Answers(seq) => (Some(seq), None),
                    _ => (None, Some(relation.seq())),
                };
                self.take_entry(NewEntry { answers, corrects, ..text.into() });
            }
            wanted => {
                self.said_goodbye = matches!(wanted, Ok(Wanted::Quit));
                self.commands.push_back((line, wanted));
            }
        }
    }

    /// Changes the author of what is typed from here on, once everything before is acked.
    fn rename(&mut self, name: Author) {
        let Some(last) = self.deliveries.back_mut() else { return };
        match last.successor(Some(name)) {
            Ok(successor) => {
                last.finish();
                self.producers.push(successor.producer());
                self.deliveries.push_back(successor);
            }
            Err(why) => self.say(format_args!("{why}; the name stays as it was")),
        }
    }

    /// Handles an outcome of the active delivery.
    fn take(&mut self, outcome: Option<Outcome<String>>) {
        let Some(outcome) = outcome else { return self.next_delivery() };
        let server = self.place.config.server.clone();
        match outcome {
            Outcome::Arrived(welcome) => self.arrive(&welcome),
            Outcome::Acked { tag, ack } => {
                self.newest_own = self.newest_own.max(ack.seq);
                if !self.quiet {
                    let hint = if is_old_command(&tag) { HINT } else { "" };
                    let line = format!("ok {} on {server}{hint}\n", ack.seq);
                    self.print_behind(line.as_bytes());
                }
            }
            Outcome::Refused { refusal, id: Some(id), .. } => {
                self.say(format_args!("{}", refused_sentence(&id, &server, None, &refusal)));
            }
            Outcome::Refused { tag, refusal, id: None } => {
                self.say(format_args!("error {refusal}; the text is NOT kept: {}", escape(&tag)));
            }
            Outcome::Left { id: Some(_), .. } => self.left += 1,
            Outcome::Left { text, id: None, .. } => self.lost.push(text),
            Outcome::Held(held) => self.tell_held(&held),
            Outcome::Resumed(held) => {
                self.show_state();
                self.reader_has_time();
                // After a silence, printed acks say so themselves.
                if self.quiet || !matches!(held, Held::Silent(_)) {
                    self.say(format_args!("{}", resumed(&held, &server)));
                }
            }
            outcome => {
                let ui = self.place.ui();
                self.break_bare_prompt(true);
                self.place.output.flush();
                tell_earlier(&outcome, &server, true, &ui);
            }
        }
    }

    /// Continues with the next name, once everything under the current one is answered.
    fn next_delivery(&mut self) {
        if self.deliveries.len() == 1 {
            self.is_settled = true;
            return;
        }
        self.deliveries.pop_front();
    }

    /// A name that the server does not take leaves the old one.
    fn keep_name(&mut self, refusal: &Refusal) {
        let (author, name) = self.known_as.clone();
        self.say(format_args!("error {refusal}; you still write as {}", escape(&name)));
        self.keeps_name = true;
        if let Some(delivery) = self.deliveries.front_mut() {
            delivery.retry_as(author);
        }
        self.show_state();
    }

    /// Reports what holds up the typed entries.
    fn tell_held(&mut self, held: &Held) {
        self.show_state();
        match held {
            Held::Ended(Error::TurnedAway(refusal)) if self.is_new_name() => self.keep_name(refusal),
            Held::Away(error) if !self.has_arrived && self.place.prompt.is_some() => {
                let why = unreachable_sentence(error);
                self.note(format_args!("{why}; what you type is saved, and sent once the server is there"));
                let unsent = self.unanswered();
                if unsent > 0 {
                    self.note(format_args!("{unsent} unsent"));
                }
            }
            Held::Away(_) if !self.has_arrived => {}
            Held::Away(error) => self.say(format_args!("{error}; reconnecting")),
            Held::Silent(_) => self.note(format_args!("{} unsent: {held}", self.unanswered())),
            Held::Full(refusal) => self.say(format_args!(
                "error {refusal}; it and everything after it is saved, and sent once there is room"
            )),
            Held::Ended(error) => {
                self.say(format_args!("{}; what you type is only saved", unreachable_sentence(error)));
            }
        }
    }

    /// Whether what holds up the delivery may be the name that the user has just chosen.
    fn is_new_name(&self) -> bool {
        let is_new =
            |delivery: &Delivery<_>| !delivery.has_arrived() && delivery.author() != self.known_as.0.as_ref();
        self.has_arrived && self.deliveries.front().is_some_and(is_new)
    }

    /// Handles a connection: the first time, greets and shows the past.
    fn arrive(&mut self, welcome: &Welcome) {
        let author = self.deliveries.front().and_then(Delivery::author).cloned();
        self.known_as = (author, welcome.author.clone());
        self.deliveries.iter_mut().for_each(|delivery| delivery.met(welcome.journal_id));
        self.show_state();
        if std::mem::replace(&mut self.has_arrived, true) {
            if !take(&mut self.keeps_name) {
                self.print_behind(format!("you write as {}\n", escape(&welcome.author)).as_bytes());
            }
            return;
        }
        self.place.view.start_days_at(welcome.day_start);
        self.calendar.start_days_at(welcome.day_start);
        let (author, journal) = (escape(&welcome.author), escape(&welcome.journal));
        let address = &self.place.config.server;
        self.note(format_args!("{author} writes in {journal} at {address}; /help lists the commands"));
        tell_clocks(welcome, &self.place.ui());
        tell_waiting(self.place.config, &[(address.clone(), welcome.journal_id)], false, &self.place.ui());
        self.newest_seen = welcome.head;
        if self.ended.is_some() {
            self.end();
        }
        if self.answer.is_some() {
            // The user has asked for something meanwhile.
        } else if self.place.past != Which::Last(0) {
            self.answer = Some(Answer::of(self.reader.history(Scope::from(self.place.past).shown()), false));
        } else {
            self.follow_others();
        }
    }

    /// At a prompt, starts to show what others write.
    fn follow_others(&mut self) {
        if self.place.prompt.is_some() && self.follow.is_none() {
            let history = self.reader.follow(Some(self.newest_seen + 1));
            self.follow = Some(Follow { history, own_after: 0 });
        }
    }

    /// Without a line editor, prints the prompt unless something else comes first.
    fn show_bare_prompt(&mut self) {
        let is_idle = self.commands.is_empty() && self.answer.is_none() && self.deliveries.len() == 1;
        let is_free = self.unanswered() == 0 || self.held().is_some();
        if self.place.bare && !self.at_prompt && self.is_open() && self.has_arrived && is_idle && is_free {
            self.place.output.print(PROMPT.as_bytes());
            self.at_prompt = true;
        }
    }

    /// Starts a new line before output.
    fn break_bare_prompt(&mut self, printed: bool) {
        if printed && take(&mut self.at_prompt) {
            self.place.output.print(b"\n");
        }
    }

    /// Prints on a line of its own.
    fn print(&mut self, bytes: &[u8]) {
        self.break_bare_prompt(!bytes.is_empty());
        self.place.output.print(bytes);
    }

    /// Prints after the answer that is being printed, if any.
    fn print_behind(&mut self, bytes: &[u8]) {
        match self.answer.as_ref().is_some_and(|answer| answer.begun) {
            true => self.behind_answer.extend_from_slice(bytes),
            false => self.print(bytes),
        }
    }

    /// Shows in the prompt whether typed entries can be sent.
    fn show_state(&self) {
        if let Some(prompt) = &self.place.prompt {
            prompt.set_away(self.held().is_some());
        }
    }

    /// Prints a notice for the user.
    fn note(&mut self, what: fmt::Arguments<'_>) {
        if self.place.view.is_plain() {
            self.say(what);
        } else {
            self.print(format!("{what}\n").as_bytes());
        }
    }

    /// Prints a sentence to stderr, after earlier output.
    fn say(&mut self, what: fmt::Arguments<'_>) {
        self.break_bare_prompt(true);
        self.place.output.flush();
        self.place.ui().say(what);
    }
}

#[cfg(test)]
mod tests;
