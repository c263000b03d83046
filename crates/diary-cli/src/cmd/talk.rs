//! A conversation with a person: lines are entries, commands start with `/`.
//!
//! A text that is typed is kept in the outbox at once and handed to a [`Delivery`]; `commands` has what lines that
//! start with `/` do, and `ending` what is told and kept when it is over.

mod commands;
mod ending;
mod terminal;

use std::collections::VecDeque;
use std::fmt;
use std::mem::take;

use diary_client::{Author, DayStart, History, Producer, Reader, State, Welcome, Which};
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
use crate::term::input::{Typed, is_command};
use crate::term::output::Output;
use crate::term::signals::Signals;
use crate::term::ui::Ui;
use commands::{Answer, ReadingLost, Wanted, understand};
use diary_calendar::Calendar;

pub(crate) use terminal::at_terminal;

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
    pub(crate) how: Result<(), CliError>,
    /// Who would have written what stands on the line.
    pub(crate) author: Option<Author>,
}

/// Talks until the person ends it. At a prompt it goes on without a server, and waits for one.
async fn run(place: Place<'_>, mut typed: mpsc::Receiver<Typed>, mut signals: Signals) -> Ended {
    let (server, author) = (place.config.server.clone(), place.config.author.clone());
    let delivery = Delivery::new(server.clone(), author.clone(), Keys::Kept(place.config.outbox()));
    let begun = delivery
        .map_err(CliError::from)
        .and_then(|delivery| Ok(Talk::new(delivery, Reader::new(server)?, place)));
    let mut talk = match begun {
        Ok(talk) => talk,
        Err(error) => return Ended { how: Err(error), author },
    };
    let stopped = talk.run(&mut typed, &mut signals).await;
    talk.finish(stopped, typed).await
}

struct Talk<'a> {
    /// One for each name, each with the texts that were typed under it: the first is on its way.
    deliveries: VecDeque<Delivery<String>>,
    /// All was typed and is answered.
    is_settled: bool,
    reader: Reader,
    reader_state: watch::Receiver<State>,
    reading_lost: Option<ReadingLost>,
    place: Place<'a>,
    calendar: Calendar,
    /// Commands that were typed and are not done yet.
    commands: VecDeque<(String, Result<Wanted, String>)>,
    /// When the input ended.
    ended: Option<Instant>,
    /// A goodbye was typed: nothing behind that counts.
    said_goodbye: bool,
    /// An answer that is being printed; nothing else is, until it ends.
    answer: Option<Answer>,
    /// What is to be printed behind it.
    behind_answer: Vec<u8>,
    follow: Option<Follow>,
    /// The newest entry that was shown.
    newest_seen: u64,
    /// The newest of the entries that were typed here.
    newest_own: u64,
    /// Every name writes with a key of its own.
    producers: Vec<Producer>,
    quiet: bool,
    /// The server has been there.
    has_arrived: bool,
    /// The cursor stands behind a prompt that no editor has.
    at_prompt: bool,
}

struct Follow {
    history: History,
    /// What is typed from here on is on the screen already.
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
            quiet: false,
            has_arrived: false,
            at_prompt: false,
        }
    }

    /// Talks until all is said and acked, or something ends it before.
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
                // What the screen has no room for is not read, and costs nothing here.
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

    /// What is typed from now on is to be taken in.
    fn is_open(&self) -> bool {
        self.ended.is_none() && !self.said_goodbye
    }

    /// Why nothing goes out.
    fn held(&self) -> Option<&Held> {
        Some(self.deliveries.front()?.held()?.0)
    }

    /// How many entries have no answer.
    fn unanswered(&self) -> usize {
        self.deliveries.iter().map(Delivery::unanswered).sum()
    }

    /// When a delivery that is held up is given up: once the person has said all, and something that waits for it.
    fn deadline(&self) -> Option<Instant> {
        // What waits is in the outbox, where a later run finds it.
        Some(deadline_of_kept(self.deliveries.front()?)?.max(self.ended?))
    }

    /// Why it is no use to go on.
    fn hopeless(&self) -> Option<Held> {
        let held = self.held()?;
        let is_over = match held {
            Held::Ended(_) => true,
            // Without a prompt, nobody waits for a server that was never there.
            Held::Away(_) if !self.has_arrived && self.place.prompt.is_none() => true,
            _ => self.deadline().is_some_and(|deadline| deadline <= Instant::now()),
        };
        is_over.then(|| held.clone())
    }

    /// Does what need not be waited for.
    fn go_on(&mut self) {
        if self.place.output.is_gone() {
            // A conversation with someone who sees nothing is over.
            self.answer = None;
            self.end();
        }
        // A command sees what was typed before it, unless that waits for the server.
        while self.answer.is_none() && (self.unanswered() == 0 || self.held().is_some()) {
            let Some((_, wanted)) = self.commands.pop_front() else { return };
            self.obey(wanted);
        }
    }

    /// Nothing that is typed from now on counts.
    fn end(&mut self) {
        self.ended.get_or_insert_with(Instant::now);
        // Where nothing was typed, the past is still to be shown.
        if self.has_arrived {
            self.deliveries.iter_mut().for_each(Delivery::finish);
        }
    }

    /// Takes what was typed, or the end of it.
    fn take_in(&mut self, typed: Option<Typed>) {
        // Enter has begun a new line.
        self.at_prompt = false;
        match typed {
            _ if self.said_goodbye => {}
            Some(Typed::Line(Ok(line))) if is_command(&line) => self.take_command(line),
            Some(Typed::Line(Ok(line))) if line.trim().is_empty() => {
                self.say(format_args!("nothing was written: the text is blank"));
            }
            Some(Typed::Line(Ok(line))) => self.take_text(line),
            Some(Typed::Line(Err(refusal))) => self.say(format_args!("error {refusal}")),
            Some(Typed::Failed(error)) => {
                self.say(format_args!("the input cannot be read: {error}"));
                self.end();
            }
            Some(Typed::Interrupt) => {}
            None => self.end(),
        }
    }

    fn take_text(&mut self, line: String) {
        let text = match line.strip_prefix("//") {
            Some(rest) if !rest.contains('\n') => format!("/{rest}"),
            _ => line,
        };
        let Some(delivery) = self.deliveries.back_mut() else { return };
        if let Err(why) = delivery.submit(text.clone(), text) {
            self.say(format_args!("{why}; the entry is sent without being kept"));
        }
        if self.held().is_some() {
            self.note(format_args!("{} unsent", self.unanswered()));
        }
    }

    fn take_command(&mut self, line: String) {
        match understand(&line, &self.calendar) {
            Ok(Wanted::Name(name)) => self.rename(name),
            wanted => {
                self.said_goodbye = matches!(wanted, Ok(Wanted::Quit));
                self.commands.push_back((line, wanted));
            }
        }
    }

    /// Somebody else writes what is typed from here on, once all before is acked.
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

    /// What came of what was typed.
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
            Outcome::Held(held) => self.tell_held(&held),
            Outcome::Resumed(held) => {
                self.show_state();
                self.reader_has_time();
                // Where acks are printed, they say it.
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

    /// All that was typed under a name is answered: the next one is it.
    fn next_delivery(&mut self) {
        if self.deliveries.len() == 1 {
            self.is_settled = true;
            return;
        }
        self.deliveries.pop_front();
        if let Some(author) = self.deliveries.front().and_then(Delivery::author).cloned() {
            self.print_behind(format!("you write as {author}\n").as_bytes());
        }
    }

    /// Something holds up what was typed.
    fn tell_held(&mut self, held: &Held) {
        self.show_state();
        match held {
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
            Held::Ended(_) => {}
        }
    }

    /// A server is there: says where one is, and shows the past.
    fn arrive(&mut self, welcome: &Welcome) {
        self.deliveries.iter_mut().for_each(|delivery| delivery.met(welcome.journal_id));
        self.show_state();
        if std::mem::replace(&mut self.has_arrived, true) {
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
            // Something was asked for meanwhile.
        } else if self.place.past != Which::Last(0) {
            self.answer = Some(Answer::of(self.reader.history(self.place.past), false));
        } else {
            self.follow_others();
        }
    }

    /// A person at a prompt sees what others write.
    fn follow_others(&mut self) {
        if self.place.prompt.is_some() && self.follow.is_none() {
            let history = self.reader.follow(Some(self.newest_seen + 1));
            self.follow = Some(Follow { history, own_after: 0 });
        }
    }

    /// Where there is no editor: shows that one may type, if nothing else is to come first.
    fn show_bare_prompt(&mut self) {
        let is_idle = self.commands.is_empty() && self.answer.is_none() && self.deliveries.len() == 1;
        let is_free = self.unanswered() == 0 || self.held().is_some();
        if self.place.bare && !self.at_prompt && self.is_open() && self.has_arrived && is_idle && is_free {
            self.place.output.print(PROMPT.as_bytes());
            self.at_prompt = true;
        }
    }

    /// What is printed begins on a line of its own.
    fn break_bare_prompt(&mut self, printed: bool) {
        if printed && take(&mut self.at_prompt) {
            self.place.output.print(b"\n");
        }
    }

    /// Prints below whatever stands there.
    fn print(&mut self, bytes: &[u8]) {
        self.break_bare_prompt(!bytes.is_empty());
        self.place.output.print(bytes);
    }

    /// The same, but behind an answer that is being printed.
    fn print_behind(&mut self, bytes: &[u8]) {
        match self.answer.as_ref().is_some_and(|answer| answer.begun) {
            true => self.behind_answer.extend_from_slice(bytes),
            false => self.print(bytes),
        }
    }

    /// Lets the prompt show whether what is typed goes out.
    fn show_state(&self) {
        if let Some(prompt) = &self.place.prompt {
            prompt.set_away(self.held().is_some());
        }
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

#[cfg(test)]
mod tests;
