//! What was typed, in order. A text is in the outbox before anything else happens to it; a command is done when
//! its turn comes, and what was typed behind it waits for that.

use std::collections::VecDeque;

use diary_client::{Address, Author, DayStart, NewEntry, Which};
use diary_proto::Command;
use diary_proto::entry::parse_number;
use tokio::time::Instant;

use crate::outbox::{Outbox, Tray};
use crate::query::select::{Plan, Select};
use crate::term::input::{Typed, is_command};
use crate::time::calendar::Calendar;
use crate::unanswered::written_now;

/// Something to be done.
pub(super) enum Step {
    /// To send this text, which the first tray keeps by then.
    Text { counter: u64, entry: NewEntry },
    /// To do this, or to say why not.
    Command { line: String, command: Result<Wanted, String> },
    /// To write as this one from here on; the next tray is theirs.
    Name(Author),
}

/// What a command asks for.
pub(super) enum Wanted {
    /// What line mode knows, too.
    Command(Command),
    /// Entries of the reader's days.
    Days(Box<Plan>),
    /// One entry.
    One(u64),
}

/// What waits to be done, and the trays that keep its texts.
pub(super) struct Agenda {
    outbox: Outbox,
    server: Address,
    /// One for each name: the first keeps what is being sent, the last what is typed.
    trays: VecDeque<Tray>,
    steps: VecDeque<Step>,
    /// When the input ended.
    ended: Option<Instant>,
    /// A goodbye was typed: nothing behind that counts.
    said_goodbye: bool,
    /// Some of what was typed could not be kept.
    unkept: bool,
    calendar: Calendar,
}

/// What was never begun.
#[derive(Default)]
pub(super) struct Undone {
    /// Texts of the first tray.
    pub(super) texts: VecDeque<(u64, NewEntry)>,
    /// Texts of the others, which are under another name.
    pub(super) later: Vec<String>,
    /// Commands.
    pub(super) commands: Vec<String>,
}

impl Agenda {
    /// # Errors
    /// A sentence: the system gives no random bytes.
    pub(super) fn new(outbox: Outbox, server: Address, author: Option<&Author>) -> Result<Self, String> {
        let tray = outbox.begin(&server, author)?;
        Ok(Self {
            outbox,
            server,
            trays: VecDeque::from([tray]),
            steps: VecDeque::new(),
            ended: None,
            said_goodbye: false,
            unkept: false,
            calendar: Calendar::here(DayStart::default()),
        })
    }

    /// The server says when its days start.
    pub(super) fn start_days_at(&mut self, day_start: DayStart) {
        self.calendar.start_days_at(day_start);
    }

    /// Takes what was typed, or the end of it. Gives a sentence if something is wrong with it.
    pub(super) fn take_in(&mut self, typed: Option<Typed>) -> Option<String> {
        match typed {
            _ if self.said_goodbye => None,
            Some(Typed::Line(Ok(line))) if is_command(&line) => self.take_command(line),
            Some(Typed::Line(Ok(line))) if line.trim().is_empty() => {
                Some("nothing was written: the text is blank".to_owned())
            }
            Some(Typed::Line(Ok(line))) => self.take_text(line),
            Some(Typed::Line(Err(refusal))) => Some(format!("error {refusal}")),
            Some(Typed::Failed(error)) => {
                self.end();
                Some(format!("the input cannot be read: {error}"))
            }
            Some(Typed::Interrupt) => None,
            None => {
                self.end();
                None
            }
        }
    }

    fn take_command(&mut self, line: String) -> Option<String> {
        let command = understand(&line, &self.calendar);
        if let Ok(Wanted::Command(Command::Name(name))) = command {
            match self.outbox.begin(&self.server, Some(&name)) {
                Ok(tray) => self.trays.push_back(tray),
                Err(why) => return Some(format!("{why}; the name stays as it was")),
            }
            self.steps.push_back(Step::Name(name));
            return None;
        }
        self.said_goodbye = matches!(command, Ok(Wanted::Command(Command::Quit)));
        self.steps.push_back(Step::Command { line, command });
        None
    }

    fn take_text(&mut self, line: String) -> Option<String> {
        let text = match line.strip_prefix("//") {
            Some(rest) if !rest.contains('\n') => format!("/{rest}"),
            _ => line,
        };
        let tray = self.trays.back_mut().expect("there is one for each name, and always a name");
        let entry = written_now(text);
        let time = entry.written.expect("it was written now");
        let pushed = tray.push(time, &entry.text);
        self.steps.push_back(Step::Text { counter: pushed.counter, entry });
        let why = pushed.kept.err()?;
        self.unkept = true;
        Some(format!("{why}; the entry is sent without being kept"))
    }

    /// What is to be done next, unless it has to wait: a text for a change of the name, a command for all before.
    pub(super) fn next(&mut self, is_reading: bool, is_renaming: bool) -> Option<Step> {
        let is_text = matches!(self.steps.front()?, Step::Text { .. });
        if is_renaming || (is_reading && !is_text) {
            return None;
        }
        self.steps.pop_front()
    }

    /// Gives up what was not begun. If `is_renaming`, its first texts are the next tray's already.
    pub(super) fn give_up(&mut self, is_renaming: bool) -> Undone {
        let (mut undone, mut is_later) = (Undone::default(), is_renaming);
        for step in std::mem::take(&mut self.steps) {
            match step {
                Step::Name(_) => is_later = true,
                Step::Text { entry, .. } if is_later => undone.later.push(entry.text),
                Step::Text { counter, entry } => undone.texts.push_back((counter, entry)),
                Step::Command { command: Ok(Wanted::Command(Command::Quit)), .. } => {}
                Step::Command { line, .. } => undone.commands.push(line),
            }
        }
        self.trays.iter_mut().skip(1).for_each(|tray| tray.not_sent(1));
        undone
    }

    /// Leaves what the first tray keeps to others; what is typed from now on is kept in another one. Of the first,
    /// nothing is sent from `first_unsent` on. If `is_renaming`, nothing more is written with it anyway.
    ///
    /// # Errors
    /// A sentence: the system gives no random bytes, and all is as before.
    pub(super) fn set_aside(&mut self, first_unsent: Option<u64>, is_renaming: bool) -> Result<(), String> {
        let mut first_unsent = first_unsent;
        if !is_renaming {
            let author = self.tray().author().cloned();
            let fresh = self.outbox.begin(&self.server, author.as_ref())?;
            let is_name = |step: &Step| matches!(step, Step::Name(_));
            let later = self.steps.iter().position(is_name).unwrap_or(self.steps.len());
            let later = self.steps.split_off(later);
            self.steps.retain(|step| match step {
                Step::Text { counter, .. } => {
                    first_unsent.get_or_insert(*counter);
                    false
                }
                _ => true,
            });
            self.steps.extend(later);
            self.trays.insert(1, fresh);
        }
        if let Some(first) = first_unsent {
            self.tray().not_sent(first);
        }
        Ok(())
    }

    /// The tray that keeps what is being sent.
    pub(super) fn tray(&mut self) -> &mut Tray {
        self.trays.front_mut().expect("there is one for each name, and always a name")
    }

    /// Who writes what is typed now.
    pub(super) fn last_author(&self) -> Option<Author> {
        self.trays.back()?.author().cloned()
    }

    /// The tray of the next name.
    pub(super) fn next_tray(&self) -> Option<&Tray> {
        self.trays.get(1)
    }

    /// All of the first tray is acked, or waits for a choice; from now on, the next one is it.
    pub(super) fn go_to_next_tray(&mut self) {
        if self.trays.len() > 1 {
            self.trays.pop_front();
        }
    }

    /// How many texts wait.
    pub(super) fn texts(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Text { .. })).count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Nothing that is typed from now on counts.
    pub(super) fn end(&mut self) {
        self.ended.get_or_insert_with(Instant::now);
    }

    /// When the input ended.
    pub(super) fn ended(&self) -> Option<Instant> {
        self.ended
    }

    /// What is typed from now on is to be taken in.
    pub(super) fn is_open(&self) -> bool {
        self.ended.is_none() && !self.said_goodbye
    }

    /// Some of what was typed could not be kept.
    pub(super) fn is_unkept(&self) -> bool {
        self.unkept
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.outbox
    }
}

/// What a line asks for: what line mode understands, and days as people name them, seen from where the reader is.
fn understand(line: &str, calendar: &Calendar) -> Result<Wanted, String> {
    let command = Command::parse(line);
    let argument = line.strip_prefix("/history").filter(|rest| rest.starts_with(char::is_whitespace));
    let argument = argument.map_or("", str::trim);
    if let Some(seq) = argument.strip_prefix('#').and_then(|seq| parse_number(seq.as_bytes()))
        && seq > 0
    {
        return Ok(Wanted::One(seq));
    }
    let is_days = !argument.is_empty() && !argument.starts_with('#');
    match command {
        Err(_) | Ok(Command::History(Which::Days(..))) if is_days => days(argument, calendar),
        command => command.map(Wanted::Command).map_err(|refusal| format!("error {refusal}")),
    }
}

/// `DATE`, `DATE..DATE`, or a range that is open on one side.
fn days(said: &str, calendar: &Calendar) -> Result<Wanted, String> {
    let some = |said: &str| Some(said.to_owned()).filter(|said| !said.trim().is_empty());
    let select = match said.split_once("..") {
        Some((from, to)) => Select { from: some(from), to: some(to), ..Select::default() },
        None => Select { on: some(said), ..Select::default() },
    };
    let is_range = select.on.is_none();
    let plan = select.plan(calendar.today()).map_err(|why| match is_range && why.starts_with("--from") {
        true => "error bad-argument: the first day of a range comes first: DATE..DATE".to_owned(),
        false => format!("error bad-argument: which entries? N, all, #SEQ, #SEQ.. or days: {why}"),
    })?;
    Ok(Wanted::Days(Box::new(plan)))
}
