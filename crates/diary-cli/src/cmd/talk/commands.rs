//! Runs commands, and shows entries.

use diary_client::{Author, Code, Error, Event, Filter, History, Relation, Scope, Stored, Which};
use diary_outbox::Held;
use diary_proto::Command;
use diary_proto::entry::parse_number;
use tokio::time::{Duration, Instant};

use super::{Follow, Talk};
use crate::query::select::{Keeper, Plan, Select};
use crate::term::output::restored;
use crate::term::width;
use diary_calendar::Calendar;

const HELP: &str = "\
a line is an entry; `ok SEQ on SERVER` means that it is on disk there
/history [N | all | DATE | DATE..DATE | #SEQ | #SEQ..]  show entries (default: 20); DATE is 2026-11, yesterday, last week, 昨天
/follow [#SEQ | off]  show entries as they arrive, from SEQ or from now on
/search TEXT  show entries that contain TEXT; case matters only if TEXT has a capital
/re SEQ TEXT  answer an entry; /thread SEQ shows an entry with all that answers it
/correct SEQ TEXT  give an entry a new text, or an old one; diary log SEQ --history shows all of them
/name NAME  write as NAME from here on
/quiet  stop printing acks
/quit  end, as Ctrl-D does; Ctrl-C ends at once
//text  store a text that starts with /; of several lines, only /re and /correct are commands
";

/// Rows shown of an entry that the user did not ask for.
const ROWS_SHOWN: usize = 10;

/// An entry that exceeds them by no more than this is shown whole.
const ROWS_CUT_MIN: usize = 2;

/// How long a reading may be disconnected before it is reported: longer than the pause between two attempts.
const TELL_READING_AFTER: Duration = Duration::from_secs(6);

/// State of a reading that waits for its connection.
#[derive(Clone, Copy)]
pub(super) struct ReadingLost {
    since: Instant,
    is_told: bool,
}

/// A parsed command.
pub(super) enum Wanted {
    /// Write under this name.
    Name(Author),
    /// End the conversation.
    Quit,
    /// Another command of line mode.
    Command(Command),
    /// Show entries of the reader's days.
    Days(Box<Plan>),
    /// Show one entry.
    One(u64),
    /// Write an entry that answers or corrects another.
    Related(Relation, String),
}

/// Parses a command of line mode, or a history of days as people name them, in the reader's calendar.
///
/// # Errors
/// A sentence.
pub(super) fn understand(line: &str, calendar: &Calendar) -> Result<Wanted, String> {
    let argument = line.strip_prefix("/history").filter(|rest| rest.starts_with(char::is_whitespace));
    let argument = argument.map_or("", str::trim);
    if let Some(seq) = argument.strip_prefix('#').and_then(|seq| parse_number(seq.as_bytes()))
        && seq > 0
    {
        return Ok(Wanted::One(seq));
    }
    let is_days = !argument.is_empty() && !argument.starts_with('#');
    match Command::parse(line) {
        Err(_) | Ok(Command::History(Which::Days(..))) if is_days => days(argument, calendar),
        Ok(Command::Name(name)) => Ok(Wanted::Name(name)),
        Ok(Command::Related(relation, text)) => Ok(Wanted::Related(relation, text)),
        Ok(Command::Quit) => Ok(Wanted::Quit),
        command => command.map(Wanted::Command).map_err(|refusal| format!("error {refusal}")),
    }
}

/// Parses `DATE`, `DATE..DATE`, or a range with one end.
fn days(said: &str, calendar: &Calendar) -> Result<Wanted, String> {
    let some = |said: &str| Some(said.to_owned()).filter(|said| !said.trim().is_empty());
    let select = match said.split_once("..") {
        Some((from, to)) => Select { from: some(from), to: some(to), ..Select::default() },
        None => Select { on: some(said), ..Select::default() },
    };
    let plan = select.plan(calendar.today()).map_err(|why| format!("error bad-argument: {why}"))?;
    Ok(Wanted::Days(Box::new(plan)))
}

/// An answer that is being printed.
pub(super) struct Answer {
    pub(super) history: History,
    /// Whether printing has begun.
    pub(super) begun: bool,
    /// Number of entries so far.
    count: u64,
    /// Whether to report the end; not for the past that is shown at the start.
    told: bool,
    /// Whether it ends with an error that says enough.
    ends_silently: bool,
    /// Selects the wanted events, if the server sends more.
    keeper: Option<Keeper>,
    /// Whether it is a thread.
    is_thread: bool,
}

impl Answer {
    pub(super) fn of(history: History, told: bool) -> Self {
        Self { history, begun: false, count: 0, told, ends_silently: false, keeper: None, is_thread: false }
    }

    /// Returns the wanted part of an event; `None` is the end.
    fn wanted(&mut self, event: Option<Event>) -> Vec<Event> {
        let mut wanted = Vec::new();
        self.begun = true;
        match (&mut self.keeper, event) {
            (Some(keeper), Some(event)) => keeper.take(event, |event| wanted.push(event)),
            (Some(keeper), None) => keeper.end(|event| wanted.push(event)),
            (None, event) => wanted.extend(event),
        }
        self.count += wanted.iter().filter(|event| matches!(event, Event::Entry(_))).count() as u64;
        wanted
    }
}

impl Talk<'_> {
    pub(super) fn obey(&mut self, wanted: Result<Wanted, String>) {
        match wanted {
            Ok(Wanted::Command(command)) => self.do_command(command),
            Ok(Wanted::Days(plan)) => {
                let history = self.reader.select(plan.filter.clone());
                let keeper = Keeper::new(&plan, self.calendar.clone());
                self.begin(Answer { keeper: Some(keeper), ..Answer::of(history, true) });
            }
            Ok(Wanted::One(seq)) => {
                let scope = Scope { up_to: Some(seq), ..Which::From(seq).into() }.shown();
                self.begin(Answer::of(self.reader.history(scope), true));
            }
            Ok(Wanted::Quit) => self.end(),
            Ok(Wanted::Name(_) | Wanted::Related(..)) => {}
            Err(why) => self.say(format_args!("{why}")),
        }
    }

    fn do_command(&mut self, command: Command) {
        match command {
            Command::History(which) => {
                self.begin(Answer::of(self.reader.history(Scope::from(which).shown()), true));
            }
            Command::Thread(seq) => {
                self.begin(Answer { is_thread: true, ..Answer::of(self.reader.thread(seq), true) });
            }
            Command::Search(text) => {
                let filter = Filter::of_text(text);
                let filter = Filter { scope: filter.scope.shown(), ..filter };
                self.begin(Answer::of(self.reader.select(filter), true));
            }
            Command::Follow(from) => {
                // A follow that is already active misses nothing.
                if from.is_some() || self.follow.is_none() {
                    let history = self.reader.follow(from);
                    self.follow = Some(Follow { history, own_after: self.newest_own });
                }
                self.note(format_args!("following; /follow off ends it"));
            }
            Command::FollowOff => {
                self.follow = None;
                self.note(format_args!("not following"));
            }
            Command::Journal(_) => {
                self.note(format_args!(
                    "this conversation stays in its journal; for another one, run diary --journal NAME"
                ));
            }
            Command::Quiet => self.quiet = true,
            Command::Help => {
                self.note(format_args!("{}", HELP.trim_end()));
                if self.place.prompt.is_some() {
                    self.note(format_args!("Alt-Enter, or \\ at the end of a line: add a line to the entry"));
                }
            }
            // They are handled before they get here.
            Command::Name(_) | Command::Related(..) | Command::Quit | Command::Login(_) => {}
        }
    }

    fn begin(&mut self, answer: Answer) {
        if let Some(Held::Away(_)) = self.held() {
            self.note(format_args!("not connected; the answer comes after reconnecting"));
        }
        let mut bytes = Vec::new();
        self.place.view.begin(&mut bytes);
        self.place.view.show_thread(answer.is_thread);
        self.print(&bytes);
        self.answer = Some(answer);
    }

    /// Handles an event of the answer.
    pub(super) fn read(&mut self, event: Option<Result<Event, Error>>) {
        let Some(answer) = &mut self.answer else { return };
        let (told, is_end) = (answer.told, event.is_none());
        match event.transpose() {
            Ok(event) => {
                let whole = told || self.place.view.is_plain();
                answer.wanted(event).iter().for_each(|event| self.show(event, whole));
                if is_end {
                    self.end_answer();
                }
            }
            Err(error) => {
                // Whoever may not read the past may not follow, either.
                let is_permitted =
                    !matches!(&error, Error::Refused(refusal) if refusal.code == Code::NotPermitted);
                answer.ends_silently = told || !is_permitted;
                self.say(format_args!("error {error}"));
            }
        }
    }

    /// Ends a complete answer.
    fn end_answer(&mut self) {
        let Some(Answer { count, told, ends_silently, .. }) = self.answer.take() else { return };
        self.place.view.show_thread(false);
        match count {
            _ if ends_silently => {}
            _ if !told => self.follow_others(),
            0 => self.note(format_args!("no entries")),
            1 => self.note(format_args!("1 entry")),
            _ => self.note(format_args!("{count} entries")),
        }
        let behind = std::mem::take(&mut self.behind_answer);
        self.print(&behind);
    }

    /// Returns when to report that a reading has lost its connection: if that lasts and nothing else reports it.
    pub(super) fn reading_lost_told_at(&self) -> Option<Instant> {
        let untold = self.reading_lost.filter(|lost| !lost.is_told && self.held().is_none())?;
        Some(untold.since + TELL_READING_AFTER)
    }

    /// Restarts the wait: the server is back, and a waiting reading may not have noticed yet.
    pub(super) fn reader_has_time(&mut self) {
        if let Some(lost) = &mut self.reading_lost {
            lost.since = Instant::now();
        }
    }

    /// Updates and reports the state of the reader's connection.
    pub(super) fn look_at_reader(&mut self) {
        let error = self.reader_state.borrow_and_update().error().cloned();
        match (error, self.reading_lost) {
            (Some(_), None) => {
                self.reading_lost = Some(ReadingLost { since: Instant::now(), is_told: false });
            }
            (Some(error), Some(lost))
                if self.reading_lost_told_at().is_some_and(|at| at <= Instant::now()) =>
            {
                self.reading_lost = Some(ReadingLost { is_told: true, ..lost });
                self.say(format_args!("cannot read: {error}; retrying"));
            }
            (None, Some(lost)) => {
                self.reading_lost = None;
                if lost.is_told {
                    self.say(format_args!("reading again"));
                }
            }
            _ => {}
        }
    }

    /// Handles an event of the follow. Entries just typed here are not shown a second time.
    pub(super) fn followed(&mut self, event: Option<Result<Event, Error>>) {
        let own_after = self.follow.as_ref().map_or(0, |follow| follow.own_after);
        match event {
            Some(Ok(Event::Entry(stored))) if stored.entry.seq > own_after && self.is_own(&stored) => {}
            Some(Ok(Event::Restored { head })) => {
                self.newest_seen = head;
                self.say(format_args!("{}", restored(head)));
            }
            Some(Ok(event)) => self.show(&event, self.place.view.is_plain()),
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

    /// Shows an event, in full only if it was asked for.
    fn show(&mut self, event: &Event, whole: bool) {
        self.newest_seen = self.newest_seen.max(match event {
            Event::Entry(stored) => stored.entry.seq,
            Event::Gap(gap) => gap.last,
            Event::Damaged { .. } | Event::Restored { .. } => 0,
        });
        let mut bytes = Vec::new();
        if self.place.prompt.is_some() || self.place.bare {
            self.place.view.fit(width());
        }
        self.place.view.event(event, &mut bytes);
        if !whole && let Event::Entry(stored) = event {
            shorten(&mut bytes, stored.entry.seq);
        }
        self.print(&bytes);
    }
}

/// Cuts an entry of many rows, and says how to see all of it.
fn shorten(rows: &mut Vec<u8>, seq: u64) {
    let mut ends = rows.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let Some(end) = ends.nth(ROWS_SHOWN - 1) else { return };
    let more = ends.count();
    if more > ROWS_CUT_MIN {
        rows.truncate(end);
        rows.extend(format!("      … {more} more lines; /history #{seq} shows all\n").bytes());
    }
}
