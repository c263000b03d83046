//! What commands do, and what is shown of entries.

use diary_client::{Client, Error, Event, History, Stored, Which};
use diary_proto::Command;

use super::agenda::Wanted;
use super::{Follow, Talk, options};
use crate::patience::Patience;
use crate::query::select::Keeper;
use crate::time::calendar::Calendar;

const HELP: &str = "\
a line is an entry; `ok SEQ on SERVER` says that it is on disk there
/history [N | all | DATE | DATE..DATE | #SEQ | #SEQ..]  entries (20); DATE as yesterday, last week, 2026-11, 昨天
/follow [#SEQ | off]  entries as they come, from SEQ on or from now on
/search TEXT  entries that hold TEXT; capitals count only if TEXT has one
/name NAME  who writes from here on
/quiet  no more acks
/quit  goodbye, also Ctrl-D; Ctrl-C ends at once
//text  stores a text that starts with /; a text of several lines is never a command
";

/// Rows of an entry that are shown to someone who did not ask for it.
const ROWS_SHOWN: usize = 10;

/// So few rows more are shown, too.
const ROWS_CUT_MIN: usize = 2;

/// An answer that is being printed.
pub(super) struct Reading {
    pub(super) history: History,
    /// How many entries it brought so far.
    count: u64,
    /// The end is to be told; it is not at the start of the program.
    told: bool,
    /// Only some of what comes is wanted.
    keeper: Option<Keeper>,
    /// Only the first of what comes is wanted.
    is_one: bool,
}

impl Reading {
    pub(super) fn of(history: History, told: bool) -> Self {
        Self { history, count: 0, told, keeper: None, is_one: false }
    }

    /// What is wanted of what came; `None` is the end.
    fn wanted(&mut self, event: Option<Event>) -> Vec<Event> {
        let mut wanted = Vec::new();
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
                let history = self.client.select(plan.filter.clone());
                let keeper = Keeper::new(&plan, Calendar::here(self.client.welcome().day_start));
                self.begin(Reading { keeper: Some(keeper), ..Reading::of(history, true) });
            }
            Ok(Wanted::One(seq)) => {
                let history = self.client.history(Which::From(seq));
                self.begin(Reading { is_one: true, ..Reading::of(history, true) });
            }
            Err(why) => self.say(format_args!("{why}")),
        }
    }

    fn do_command(&mut self, command: Command) {
        match command {
            Command::History(which) => self.begin(Reading::of(self.client.history(which), true)),
            Command::Search(text) => self.begin(Reading::of(self.client.search(text), true)),
            Command::Follow(from) => {
                // One that follows already misses nothing by being asked again.
                if from.is_some() || self.follow.is_none() {
                    let history = self.client.follow(from);
                    self.follow = Some(Follow { history, own_after: self.newest_own });
                }
                self.note(format_args!("following; /follow off ends it"));
            }
            Command::FollowOff => {
                self.follow = None;
                self.note(format_args!("not following"));
            }
            Command::Name(_) => {}
            Command::Quiet => self.quiet = true,
            Command::Help => {
                self.note(format_args!("{}", HELP.trim_end()));
                if self.place.prompt.is_some() {
                    self.note(format_args!(
                        "Alt-Enter, or \\ at the end of a line: another line of the same entry"
                    ));
                }
            }
            Command::Quit => self.agenda.end(),
        }
    }

    fn begin(&mut self, reading: Reading) {
        let mut bytes = Vec::new();
        self.place.view.begin(&mut bytes);
        self.print(&bytes);
        self.reading = Some(reading);
    }

    /// Writes under another name from here on. An error means that this cannot be.
    pub(super) fn rename(&mut self, client: Result<Client, Error>) -> Result<(), Error> {
        let (Some(renaming), Some(tray)) = (self.renaming.take(), self.agenda.next_tray()) else {
            return Ok(());
        };
        // If the server is away again, what was typed behind the name waits for it.
        let client =
            client.or_else(|error| Client::reconnecting(tray.server().clone(), options(tray), error))?;
        self.agenda.go_to_next_tray();
        self.patience = Patience::new(&client).with(self.place.ui());
        self.producers.push(client.producer());
        let old = std::mem::replace(&mut self.client, client);
        if self.is_connected() {
            let journal = self.client.welcome().journal_id;
            self.agenda.tray().met(journal);
        }
        // All of its entries are answered; it only says goodbye, which nobody waits for.
        tokio::spawn(old.close());
        if let Some(name) = renaming.name {
            self.note(format_args!("you write as {name}"));
        }
        self.let_go();
        Ok(())
    }

    /// What an answer brings.
    pub(super) fn read(&mut self, event: Option<Result<Event, Error>>) {
        if matches!(event, Some(Ok(_))) {
            self.answered();
        }
        let Some(reading) = &mut self.reading else { return };
        let (told, is_one, is_end) = (reading.told, reading.is_one, event.is_none());
        match event.transpose() {
            Ok(event) => {
                let whole = told || self.place.view.is_plain();
                reading.wanted(event).iter().for_each(|event| self.show(event, whole));
                if is_end || is_one {
                    self.end_reading();
                }
            }
            Err(error) => {
                reading.told = false;
                self.say(format_args!("error {error}"));
            }
        }
    }

    /// An answer is complete.
    fn end_reading(&mut self) {
        let Some(Reading { count, told, .. }) = self.reading.take() else { return };
        match count {
            _ if !told => self.follow_others(),
            0 => self.note(format_args!("no entries")),
            1 => self.note(format_args!("1 entry")),
            _ => self.note(format_args!("{count} entries")),
        }
    }

    /// What a follow brings. Entries that were just typed here are not shown a second time.
    pub(super) fn followed(&mut self, event: Option<Result<Event, Error>>) {
        let own_after = self.follow.as_ref().map_or(0, |follow| follow.own_after);
        match event {
            Some(Ok(Event::Entry(stored))) if stored.entry.seq > own_after && self.is_own(&stored) => {}
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

    /// Shows it, in full only if it was asked for.
    fn show(&mut self, event: &Event, whole: bool) {
        self.patience.progress();
        self.newest_seen = self.newest_seen.max(match event {
            Event::Entry(stored) => stored.entry.seq,
            Event::Gap(gap) => gap.last,
            Event::Damaged { .. } => 0,
        });
        let mut bytes = Vec::new();
        if self.place.prompt.is_some() || self.place.bare {
            self.place.view.fit();
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
