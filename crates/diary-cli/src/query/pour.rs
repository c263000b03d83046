//! What a reading brings, on its way to where it is printed or counted.

use std::pin::Pin;

use diary_client::{Error, ErrorKind, Event, Filter, History, Reader, Scope, Stored};
use tokio::time::Instant;

use crate::error::{exit, unreachable_sentence};
use crate::patience::Patience;
use crate::query::select::{Keeper, Plan};
use crate::render::Printer;
use crate::term::output::{self, Output, say};
use crate::time::calendar::Calendar;

/// What is printed, and what was met.
pub(crate) struct Page {
    pub(crate) printer: Printer,
    pub(crate) output: Output,
    bytes: Vec<u8>,
    entries: u64,
    damage: bool,
}

impl Page {
    pub(crate) fn new(mut printer: Printer, mut output: Output) -> Self {
        let mut bytes = Vec::new();
        printer.begin(&mut bytes);
        output.print(&bytes);
        Self { printer, output, bytes, entries: 0, damage: false }
    }

    pub(crate) fn print(&mut self, event: &Event) {
        match event {
            Event::Entry(_) => self.entries += 1,
            Event::Gap(_) | Event::Damaged { .. } => self.damage = true,
            Event::Restored { .. } => {}
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

/// Asks the server for what a plan wants. An error is the exit code.
pub(crate) async fn ask(reader: &Reader, plan: &Plan) -> Result<History, u8> {
    let scope = plan.filter.scope;
    let scope = match plan.newest {
        Some(_) if !scope.reverse => newest_of_days(reader, plan).await?,
        _ => scope,
    };
    Ok(reader.select(Filter { scope, ..plan.filter.clone() }))
}

/// The end of what the server has of a plan's days, with no more than the newest entries that are wanted: only a
/// reading of it the other way round tells where they begin.
async fn newest_of_days(reader: &Reader, plan: &Plan) -> Result<Scope, u8> {
    let scope = plan.filter.scope;
    let back = Filter { scope: Scope { reverse: true, ..scope }, ..plan.filter.clone() };
    let mut keeper = Keeper::of_newest(plan, Calendar::here(reader.welcome().day_start));
    let (mut entries, mut up_to) = (0, None);
    let take = |event: Event| {
        up_to = up_to.or(seq_of(&event));
        let is_entry = matches!(event, Event::Entry(_));
        keeper.take(event, drop);
        entries += u64::from(is_entry && !keeper.is_full());
        !keeper.is_full()
    };
    read_while(reader, reader.select(back), take).await?;
    // If there are fewer, all of them are wanted.
    Ok(Scope { up_to, newest: keeper.is_full().then_some(entries), ..scope })
}

/// Decides what of a reading is wanted.
pub(crate) trait Sift {
    /// Gives what is wanted to `give`, now or later.
    fn take(&mut self, event: Event, give: impl FnMut(Event));

    /// Nothing more is wanted.
    fn is_full(&self) -> bool;

    /// Nothing more comes.
    fn end(&mut self, give: impl FnMut(Event));
}

impl Sift for Keeper {
    fn take(&mut self, event: Event, give: impl FnMut(Event)) {
        Self::take(self, event, give);
    }

    fn is_full(&self) -> bool {
        Self::is_full(self)
    }

    fn end(&mut self, give: impl FnMut(Event)) {
        Self::end(self, give);
    }
}

/// A reading on its way to where it is printed.
pub(crate) struct Pour<H, S> {
    pub(crate) history: H,
    pub(crate) sift: S,
    pub(crate) give_up: GiveUp,
}

impl<H: Future<Output = Result<History, u8>>, S: Sift> Pour<H, S> {
    /// Prints all of it; the seq of the newest entry that was read, 0 for none. An error is the exit code.
    pub(crate) async fn into_page(
        self,
        reader: &Reader,
        page: &mut Page,
        mut interrupt: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<u64, u8> {
        let Self { history, mut sift, give_up } = self;
        let interrupted = tokio::select! {
            biased;
            () = &mut interrupt => None,
            history = history => Some(history?),
        };
        let Some(mut history) = interrupted else {
            page.finish();
            return Err(exit::INTERRUPTED);
        };
        let mut patience = Patience::of(reader.state());
        let started = Instant::now();
        let mut newest = 0;
        while !page.output.is_gone() && !sift.is_full() {
            tokio::select! {
                biased;
                () = &mut interrupt => {
                    // Not finished: a JSON array must not look complete.
                    page.output.flush();
                    return Err(exit::INTERRUPTED);
                }
                event = history.next() => match event {
                    Some(Ok(event)) => {
                        patience.progress();
                        newest = newest.max(seq_of(&event).unwrap_or(0));
                        sift.take(event, |event| page.print(&event));
                    }
                    Some(Err(error)) => return Err(failed(&error)),
                    None => break,
                },
                () = patience.wait() => give_up.look(&mut patience, started)?,
                () = page.output.flush_when_idle() => {}
            }
        }
        sift.end(|event| page.print(&event));
        page.output.flush();
        Ok(newest)
    }
}

/// Reads for as long as `take` wants more. An error is the exit code.
pub(crate) async fn read_while(
    reader: &Reader,
    mut history: History,
    mut take: impl FnMut(Event) -> bool,
) -> Result<(), u8> {
    let mut patience = Patience::of(reader.state());
    let started = Instant::now();
    loop {
        tokio::select! {
            biased;
            event = history.next() => match event {
                Some(Ok(event)) => {
                    patience.progress();
                    if !take(event) {
                        return Ok(());
                    }
                }
                Some(Err(error)) => return Err(failed(&error)),
                None => return Ok(()),
            },
            () = patience.wait() => GiveUp::Soon.look(&mut patience, started)?,
        }
    }
}

impl GiveUp {
    /// Says what became of the connection. An error is the exit code: it was tried for long enough.
    fn look(self, patience: &mut Patience, started: Instant) -> Result<(), u8> {
        let held_up = match self {
            Self::Soon => Some(started),
            Self::Never => None,
        };
        let Some(error) = patience.look(held_up) else { return Ok(()) };
        say(format_args!("{}; the answer is not complete", unreachable_sentence(&error)));
        Err(exit::UNREACHABLE)
    }
}

/// Hands every entry that a plan asks for to `take`, in any order, and says what is missing among them. How many are,
/// or the exit code.
pub(crate) async fn each(reader: &Reader, plan: &Plan, mut take: impl FnMut(&Stored)) -> Result<u64, u8> {
    let calendar = Calendar::here(reader.welcome().day_start);
    let mut scope = plan.filter.scope;
    let mut keeper = match plan.newest {
        Some(_) => Keeper::of_newest(plan, calendar),
        None => Keeper::new(plan, calendar),
    };
    scope.reverse = plan.newest.is_some();
    let mut missing: u64 = 0;
    let mut count = |event: Event| match event {
        Event::Entry(stored) => take(&stored),
        Event::Gap(gap) => missing = missing.saturating_add((gap.last - gap.first).saturating_add(1)),
        Event::Damaged { lines } => missing = missing.saturating_add(lines),
        Event::Restored { .. } => {}
    };
    let history = reader.select(Filter { scope, ..plan.filter.clone() });
    let sifted = |event| {
        keeper.take(event, &mut count);
        !keeper.is_full()
    };
    read_while(reader, history, sifted).await?;
    keeper.end(&mut count);
    if missing > 0 {
        let are = output::count(missing, "entry is", "entries are");
        say(format_args!("{are} damaged or missing, and not counted"));
    }
    Ok(missing)
}

/// The newest entry that an event is about.
pub(crate) fn seq_of(event: &Event) -> Option<u64> {
    match event {
        Event::Entry(stored) => Some(stored.entry.seq),
        Event::Gap(gap) => Some(gap.last),
        Event::Damaged { .. } | Event::Restored { .. } => None,
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
