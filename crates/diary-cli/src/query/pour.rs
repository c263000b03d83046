//! What a reading brings, on its way to where it is printed or counted.

use std::pin::Pin;
use std::{env, io};

use diary_client::{Error, ErrorKind, Event, History, Reader, Stored};
use tokio::time::Instant;

use crate::error::exit;
use crate::error::unreachable_sentence;
use crate::patience::{HeldUp, Patience};
use crate::query::select::{Keeper, Plan};
use crate::query::spool::Spool;
use crate::render::Printer;
use crate::term::output::{self, Output, say};
use crate::time::calendar::Calendar;

use crate::query::windows::Windows;

/// What turns the events of a reading into bytes.
pub(crate) trait Paper {
    /// An answer begins.
    fn begin(&mut self, out: &mut Vec<u8>);

    /// Appends what is to be printed for an event.
    fn event(&mut self, event: &Event, out: &mut Vec<u8>);

    /// An answer ends.
    fn end(&mut self, out: &mut Vec<u8>);
}

impl Paper for Printer {
    fn begin(&mut self, out: &mut Vec<u8>) {
        Self::begin(self, out);
    }

    fn event(&mut self, event: &Event, out: &mut Vec<u8>) {
        Self::event(self, event, out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        Self::end(self, out);
    }
}

/// What is printed, and what was met.
pub(crate) struct Page<P = Printer> {
    pub(crate) printer: P,
    pub(crate) output: Output,
    bytes: Vec<u8>,
    entries: u64,
    damage: bool,
}

impl<P: Paper> Page<P> {
    pub(crate) fn new(mut printer: P, mut output: Output) -> Self {
        let mut bytes = Vec::new();
        printer.begin(&mut bytes);
        output.print(&bytes);
        Self { printer, output, bytes, entries: 0, damage: false }
    }

    pub(crate) fn print(&mut self, event: &Event) {
        match event {
            Event::Entry(_) => self.entries += 1,
            Event::Gap(_) | Event::Damaged { .. } => self.damage = true,
        }
        self.bytes.clear();
        self.printer.event(event, &mut self.bytes);
        self.output.print(&self.bytes);
    }

    pub(crate) fn finish(&mut self) {
        self.bytes.clear();
        self.printer.end(&mut self.bytes);
        self.output.print(&self.bytes);
        self.output.flush();
    }

    pub(crate) fn ended(&self) -> Ended {
        let (gone, failed) = (self.output.is_gone(), self.output.has_failed());
        Ended { gone, failed, damage: self.damage, entries: self.entries }
    }
}

/// How a page ended.
pub(crate) struct Ended {
    gone: bool,
    failed: bool,
    damage: bool,
    entries: u64,
}

impl Ended {
    /// The exit code. If nothing was printed, `nothing` is said.
    pub(crate) fn code(&self, nothing: &str) -> u8 {
        match self.entries {
            _ if self.failed => exit::USAGE,
            _ if self.gone => exit::DONE,
            _ if self.damage => exit::DAMAGE,
            0 => {
                say(format_args!("{nothing}"));
                exit::NOTHING_FOUND
            }
            _ => exit::DONE,
        }
    }
}

/// How long a lost connection is tried anew.
#[derive(Debug, Clone, Copy)]
pub(crate) enum GiveUp {
    /// As long as one waits for an answer.
    Soon,
    Never,
}

/// Asks the server for what a plan wants, and gives what that goes through.
pub(crate) fn ask(reader: &Reader, plan: &Plan) -> (History, Kept) {
    let mut kept = Kept::new(plan, reader.welcome().head);
    let history = kept.look_further(reader).unwrap_or_else(|| match plan.filter.takes_all_of_its_range() {
        true => reader.history(plan.filter.which),
        false => reader.select(plan.filter.clone()),
    });
    (history, kept)
}

/// Decides what of a reading is wanted.
pub(crate) trait Sift {
    /// Gives what is wanted to `give`, now or later.
    fn take(&mut self, event: Event, give: impl FnMut(Event));

    /// Nothing more comes.
    fn end(&mut self, give: impl FnMut(Event));
}

impl Sift for Keeper {
    fn take(&mut self, event: Event, give: impl FnMut(Event)) {
        Self::take(self, event, give);
    }

    fn end(&mut self, give: impl FnMut(Event)) {
        Self::end(self, give);
    }
}

/// A reading on its way to where it is printed.
pub(crate) struct Pour<S> {
    pub(crate) history: History,
    pub(crate) sift: S,
    pub(crate) kept: Kept,
    pub(crate) give_up: GiveUp,
}

impl<S: Sift> Pour<S> {
    /// Prints all of it; the seq of the newest entry that was read, 0 for none. An error is the exit code.
    pub(crate) async fn into_page(
        mut self,
        reader: &Reader,
        page: &mut Page<impl Paper>,
        mut interrupt: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<u64, u8> {
        let mut patience = Patience::of(reader.state());
        let started = Instant::now();
        let mut newest = 0;
        while !page.output.is_gone() {
            tokio::select! {
                biased;
                () = &mut interrupt => {
                    // Not finished: a JSON array must not look complete.
                    page.output.flush();
                    return Err(exit::INTERRUPTED);
                }
                event = self.history.next() => match event {
                    Some(Ok(event)) => {
                        patience.progress();
                        newest = newest.max(seq_of(&event).unwrap_or(0));
                        self.sift.take(event, |event| self.kept.take(&event, |event| page.print(event)));
                        self.kept.check()?;
                    }
                    Some(Err(error)) => return Err(failed(&error)),
                    None => match self.kept.look_further(reader) {
                        Some(history) => self.history = history,
                        None => break,
                    },
                },
                () = patience.wait() => self.give_up.look(&mut patience, started)?,
                () = page.output.flush_when_idle() => {}
            }
        }
        self.sift.end(|event| self.kept.take(&event, |event| page.print(event)));
        self.kept.finish(|event| {
            page.print(event);
            !page.output.is_gone()
        })?;
        page.output.flush();
        Ok(newest)
    }
}

impl GiveUp {
    /// Says what became of the connection. An error is the exit code: it was tried for long enough.
    fn look(self, patience: &mut Patience, started: Instant) -> Result<(), u8> {
        let held_up = match self {
            Self::Soon => HeldUp::End(started),
            Self::Never => HeldUp::Nothing,
        };
        let Some(error) = patience.look(held_up) else { return Ok(()) };
        say(format_args!("{}; the answer is not complete", unreachable_sentence(&error)));
        Err(exit::UNREACHABLE)
    }
}

/// Hands every entry that a plan asks for to `take`, and says what is missing among them. How many are, or the exit
/// code.
pub(crate) async fn each(reader: &Reader, plan: &Plan, mut take: impl FnMut(&Stored)) -> Result<u64, u8> {
    let (mut history, mut kept) = ask(reader, plan);
    let mut keeper = Keeper::new(plan, Calendar::here(reader.welcome().day_start));
    let mut patience = Patience::of(reader.state());
    let started = Instant::now();
    let mut missing: u64 = 0;
    let mut count = |event: &Event| match event {
        Event::Entry(stored) => take(stored),
        Event::Gap(gap) => missing = missing.saturating_add((gap.last - gap.first).saturating_add(1)),
        Event::Damaged { lines } => missing = missing.saturating_add(*lines),
    };
    loop {
        tokio::select! {
            biased;
            event = history.next() => match event {
                Some(Ok(event)) => {
                    patience.progress();
                    keeper.take(event, |event| kept.take(&event, &mut count));
                    kept.check()?;
                }
                Some(Err(error)) => return Err(failed(&error)),
                None => match kept.look_further(reader) {
                    Some(further) => history = further,
                    None => break,
                },
            },
            () = patience.wait() => GiveUp::Soon.look(&mut patience, started)?,
        }
    }
    keeper.end(|event| kept.take(&event, &mut count));
    kept.finish(|event| {
        count(event);
        true
    })?;
    if missing > 0 {
        let are = output::count(missing, "entry is", "entries are");
        say(format_args!("{are} damaged or missing, and not counted"));
    }
    Ok(missing)
}

/// Gives on at once, or keeps for the end what is wanted in the other direction, or only the newest of.
pub(crate) struct Kept {
    spool: Option<Spool>,
    newest: Option<u64>,
    /// Entries that were kept.
    entries: u64,
    windows: Option<Windows>,
    reverse: bool,
    failed: Option<io::Error>,
}

impl Kept {
    /// What gives on at once.
    pub(crate) fn nothing() -> Self {
        Self { spool: None, newest: None, entries: 0, windows: None, reverse: false, failed: None }
    }

    /// For a diary with this head.
    fn new(plan: &Plan, head: u64) -> Self {
        let spool = (plan.newest.is_some() || plan.reverse).then(|| Spool::new(plan.newest));
        let windows = Windows::new(plan, head);
        Self { spool, newest: plan.newest, windows, reverse: plan.reverse, ..Self::nothing() }
    }

    /// Asks for more of the diary, where what was read of it had too few entries; all is to be read again then. One
    /// more than is wanted must be there, else nobody knows what is missing right before the oldest wanted one.
    fn look_further(&mut self, reader: &Reader) -> Option<History> {
        let newest = self.newest?;
        let filter = self.windows.as_mut().filter(|_| self.entries <= newest)?.next()?;
        (self.spool, self.entries) = (Some(Spool::new(Some(newest))), 0);
        Some(reader.select(filter))
    }

    fn take(&mut self, event: &Event, mut give: impl FnMut(&Event)) {
        match &mut self.spool {
            None => give(event),
            Some(spool) => {
                self.entries += u64::from(matches!(event, Event::Entry(_)));
                self.failed = self.failed.take().or_else(|| spool.push(event).err());
            }
        }
    }

    /// An error is the exit code.
    fn check(&mut self) -> Result<(), u8> {
        self.failed.take().map_or(Ok(()), |error| Err(cannot_be_kept(&error)))
    }

    /// Nothing more comes: what was kept is given on for as long as `give` wants more.
    fn finish(mut self, give: impl FnMut(&Event) -> bool) -> Result<(), u8> {
        self.check()?;
        self.failed = self.spool.take().and_then(|spool| spool.give(self.reverse, give).err());
        self.check()
    }
}

/// Says why, and gives the exit code.
fn cannot_be_kept(error: &io::Error) -> u8 {
    let folder = env::temp_dir();
    say(format_args!(
        "what is to be printed cannot be kept in {}: {error}; set TMPDIR to a folder with more room",
        folder.display()
    ));
    exit::USAGE
}

/// The newest entry that an event is about.
pub(crate) fn seq_of(event: &Event) -> Option<u64> {
    match event {
        Event::Entry(stored) => Some(stored.entry.seq),
        Event::Gap(gap) => Some(gap.last),
        Event::Damaged { .. } => None,
    }
}

/// Says why a reading ended, and gives the exit code.
pub(crate) fn failed(error: &Error) -> u8 {
    say(format_args!("{error}"));
    match error.kind() {
        ErrorKind::Unreachable | ErrorKind::Lost => exit::UNREACHABLE,
        _ => exit::REFUSED,
    }
}
