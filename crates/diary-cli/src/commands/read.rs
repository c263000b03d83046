//! `log`, `search` and `follow`: entries are read and printed.

use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::{env, io};

use diary_client::{DayStart, Error, ErrorKind, Event, History, Reader};
use tokio::time::Instant;

use crate::args::Show;
use crate::calendar::Calendar;
use crate::config::Config;
use crate::cursor::{BadCursor, Cursor};
use crate::exit;
use crate::output::{Output, say};
use crate::pager::Pager;
use crate::patience::{HeldUp, Patience};
use crate::select::{Keeper, Plan, Select};
use crate::show::Printer;
use crate::spool::Spool;
use crate::unreachable_sentence;

/// Entries that a follow prints before it writes its place down, while more of them wait.
const SAVE_EVERY: u32 = 1000;

/// Prints the entries that are there.
pub(crate) async fn log(select: Select, show: &Show, config: &Config) -> u8 {
    print_log(select, show, config).await.unwrap_or_else(|code| code)
}

/// The same; either way it is the exit code.
async fn print_log(select: Select, show: &Show, config: &Config) -> Result<u8, u8> {
    let (plan, reader) = plan(&select, config).await?;
    echo(&plan);
    let mut printer = Printer::new(show, config);
    printer.start_days_at(reader.welcome().day_start);
    let (output, pager) = Pager::start(&printer);
    let mut page = Page::new(printer, output);
    let read = past(&reader, &plan, &mut page, GiveUp::Soon, pin!(std::future::pending())).await;
    page.finish();
    let ended = page.ended();
    pager.finish(page.output);
    read?;
    Ok(ended.code(&plan))
}

/// Prints what a plan asks for, without a pager, and gives the exit code either way.
pub(crate) async fn print_plan(reader: &Reader, plan: &Plan, mut page: Page<impl Paper>) -> Result<u8, u8> {
    echo(plan);
    let mut interrupt = pin!(interrupted());
    past(reader, plan, &mut page, GiveUp::Soon, interrupt.as_mut()).await?;
    page.finish();
    Ok(page.ended().code(plan))
}

/// The same for the entries that hold a text.
pub(crate) async fn search(text: String, mut select: Select, show: &Show, config: &Config) -> u8 {
    select.contains.insert(0, text);
    log(select, show, config).await
}

/// Prints entries as they come, and before them those that were asked for.
pub(crate) async fn follow(select: Select, show: &Show, cursor: Option<PathBuf>, config: &Config) -> u8 {
    print_follow(select, show, cursor, config).await.unwrap_or_else(|code| code)
}

/// The same; either way it is the exit code.
async fn print_follow(
    select: Select,
    show: &Show,
    cursor: Option<PathBuf>,
    config: &Config,
) -> Result<u8, u8> {
    let wants_past =
        select.on.is_some() || select.from.is_some() || select.to.is_some() || select.last.is_some();
    if select.reverse {
        return Err(usage("a follow has no newest entry to begin with: leave out --reverse"));
    }
    let (plan, reader) = plan(&select, config).await?;
    if let Some(over) = plan.days.map(|days| days.to).filter(|to| *to < plan.today) {
        return Err(usage(&format!(
            "nothing can follow after {over}, which is over; log shows what there is"
        )));
    }
    let (journal, head) = (reader.welcome().journal_id, reader.welcome().head);
    let cursor = cursor.map(|path| Cursor::open(path, journal, head)).transpose();
    let mut cursor = cursor.map_err(|error| refused(&error))?;
    let mut printer = Printer::new(show, config);
    printer.start_days_at(reader.welcome().day_start);
    let mut page = Page::new(printer, Output::watched(io::stdout()));
    let mut interrupt = pin!(interrupted());
    let mut place = Place { seq: head, cursor: cursor.as_mut(), unsaved: 0 };
    match place.cursor.as_ref().and_then(|cursor| cursor.seq()) {
        Some(seq) => place.seq = seq,
        None if wants_past => {
            echo(&plan);
            // All up to the head at the start was read, and what was committed since then up to this.
            let newest = past(&reader, &plan, &mut page, GiveUp::Never, interrupt.as_mut()).await?;
            place.seq = place.seq.max(newest);
        }
        None => {}
    }
    let history = reader.follow(Some(place.seq + 1));
    let code = live(&reader, history, &plan, &mut page, place, interrupt).await;
    page.finish();
    code
}

/// Waits for Ctrl-C.
pub(crate) async fn interrupted() {
    // Without a handler the signal ends the program, as it should.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

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
        Printer::begin(self, out);
    }

    fn event(&mut self, event: &Event, out: &mut Vec<u8>) {
        Printer::event(self, event, out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        Printer::end(self, out);
    }
}

/// What is printed, and what was met.
pub(crate) struct Page<P = Printer> {
    printer: P,
    output: Output,
    bytes: Vec<u8>,
    entries: u64,
    damage: bool,
}

/// How a page ended.
struct Ended {
    gone: bool,
    failed: bool,
    damage: bool,
    entries: u64,
}

impl Ended {
    fn code(&self, plan: &Plan) -> u8 {
        match self.entries {
            _ if self.failed => exit::USAGE,
            _ if self.gone => exit::DONE,
            _ if self.damage => exit::DAMAGE,
            0 => {
                say(format_args!("{}", plan.nothing()));
                exit::NOTHING_FOUND
            }
            _ => exit::DONE,
        }
    }
}

impl<P: Paper> Page<P> {
    pub(crate) fn new(mut printer: P, mut output: Output) -> Self {
        let mut bytes = Vec::new();
        printer.begin(&mut bytes);
        output.print(&bytes);
        Self { printer, output, bytes, entries: 0, damage: false }
    }

    fn print(&mut self, event: &Event) {
        match event {
            Event::Entry(_) => self.entries += 1,
            Event::Gap(_) | Event::Damaged { .. } => self.damage = true,
        }
        self.bytes.clear();
        self.printer.event(event, &mut self.bytes);
        self.output.print(&self.bytes);
    }

    fn ended(&self) -> Ended {
        let (gone, failed) = (self.output.is_gone(), self.output.has_failed());
        Ended { gone, failed, damage: self.damage, entries: self.entries }
    }

    fn finish(&mut self) {
        self.bytes.clear();
        self.printer.end(&mut self.bytes);
        self.output.print(&self.bytes);
        self.output.flush();
    }
}

/// How long a lost connection is tried anew.
#[derive(Debug, Clone, Copy)]
enum GiveUp {
    /// As long as one waits for an answer.
    Soon,
    Never,
}

/// Reads what a plan asks for and prints it; the seq of the newest entry that was read, 0 for none. An error is the
/// exit code.
async fn past(
    reader: &Reader,
    plan: &Plan,
    page: &mut Page<impl Paper>,
    give_up: GiveUp,
    mut interrupt: Pin<&mut impl Future<Output = ()>>,
) -> Result<u64, u8> {
    let mut history = match plan.filter.takes_all_of_its_range() {
        true => reader.history(plan.filter.which),
        false => reader.select(plan.filter.clone()),
    };
    let mut keeper = Keeper::new(plan, Calendar::here(reader.welcome().day_start));
    let mut patience = Patience::of(reader.state());
    let mut kept = Kept::new(plan);
    let started = Instant::now();
    let mut newest = 0;
    while !page.output.is_gone() {
        tokio::select! {
            biased;
            () = &mut interrupt => {
                page.finish();
                return Err(exit::INTERRUPTED);
            }
            event = history.next() => match event {
                Some(Ok(event)) => {
                    patience.progress();
                    newest = newest.max(seq_of(&event).unwrap_or(0));
                    keeper.take(event, |event| kept.take(&event, page));
                    kept.check()?;
                }
                Some(Err(error)) => return Err(failed(&error)),
                None => break,
            },
            () = patience.wait() => {
                let held_up = match give_up {
                    GiveUp::Soon => HeldUp::End(started),
                    GiveUp::Never => HeldUp::Nothing,
                };
                if let Some(error) = patience.look(held_up) {
                    say(format_args!("{}; the answer is not complete", unreachable_sentence(&error)));
                    return Err(exit::UNREACHABLE);
                }
            }
            () = page.output.flush_when_idle() => {}
        }
    }
    keeper.end(|event| kept.take(&event, page));
    kept.finish(page)?;
    page.output.flush();
    Ok(newest)
}

/// Prints at once, or keeps for the end what is wanted in the other direction, or only the newest of.
struct Kept {
    spool: Option<Spool>,
    reverse: bool,
    failed: Option<io::Error>,
}

impl Kept {
    fn new(plan: &Plan) -> Self {
        let spool = (plan.newest.is_some() || plan.reverse).then(|| Spool::new(plan.newest));
        Self { spool, reverse: plan.reverse, failed: None }
    }

    fn take(&mut self, event: &Event, page: &mut Page<impl Paper>) {
        match &mut self.spool {
            None => page.print(event),
            Some(spool) => self.failed = self.failed.take().or_else(|| spool.push(event).err()),
        }
    }

    /// An error is the exit code.
    fn check(&mut self) -> Result<(), u8> {
        let Some(error) = self.failed.take() else { return Ok(()) };
        let folder = env::temp_dir();
        say(format_args!(
            "what is to be printed cannot be kept in {}: {error}; set TMPDIR to a folder with more room",
            folder.display()
        ));
        Err(exit::USAGE)
    }

    /// Nothing more comes.
    fn finish(mut self, page: &mut Page<impl Paper>) -> Result<(), u8> {
        self.check()?;
        let print = |event: &Event| {
            page.print(event);
            !page.output.is_gone()
        };
        self.failed = self.spool.take().and_then(|spool| spool.give(self.reverse, print).err());
        self.check()
    }
}

/// How far a follow is.
struct Place<'a> {
    /// All entries up to this one were printed, or need not be.
    seq: u64,
    cursor: Option<&'a mut Cursor>,
    unsaved: u32,
}

impl Place<'_> {
    /// What was printed up to here goes out, and only then it is written down. An error is the exit code.
    fn save(&mut self, output: &mut Output) -> Result<(), u8> {
        output.flush();
        self.unsaved = 0;
        match &mut self.cursor {
            Some(cursor) if !output.is_gone() => cursor.save(self.seq).map_err(|error| refused(&error)),
            _ => Ok(()),
        }
    }

    /// The same when nothing else is ready, as [`Output::flush_when_idle`]; ready when nobody reads any more.
    async fn save_when_idle(&mut self, output: &mut Output) -> Result<(), u8> {
        self.save(output)?;
        if !output.is_gone() {
            output.flush_when_idle().await;
        }
        Ok(())
    }
}

/// Prints what comes until nobody wants it any more, and gives the exit code.
async fn live(
    reader: &Reader,
    mut history: History,
    plan: &Plan,
    page: &mut Page,
    mut place: Place<'_>,
    mut interrupt: Pin<&mut impl Future<Output = ()>>,
) -> Result<u8, u8> {
    let mut keeper = Keeper::new(plan, Calendar::here(reader.welcome().day_start));
    let mut patience = Patience::of(reader.state());
    while !page.output.is_gone() {
        tokio::select! {
            biased;
            () = &mut interrupt => {
                place.save(&mut page.output)?;
                return Err(exit::INTERRUPTED);
            }
            event = history.next() => match event {
                Some(Ok(event)) => {
                    patience.progress();
                    place.seq = place.seq.max(seq_of(&event).unwrap_or(0));
                    page.printer.fit();
                    keeper.take(event, |event| page.print(&event));
                    place.unsaved += 1;
                    if place.unsaved >= SAVE_EVERY {
                        place.save(&mut page.output)?;
                    }
                }
                Some(Err(error)) => {
                    // What was printed does not come again.
                    place.save(&mut page.output)?;
                    return Err(failed(&error));
                }
                // A follow has no end of its own.
                None => return Err(failed(&Error::Closed)),
            },
            () = patience.wait() => drop(patience.look(HeldUp::Nothing)),
            saved = place.save_when_idle(&mut page.output) => saved?,
        }
    }
    Ok(if page.output.has_failed() { exit::USAGE } else { exit::DONE })
}

/// The newest entry that an event is about.
fn seq_of(event: &Event) -> Option<u64> {
    match event {
        Event::Entry(stored) => Some(stored.entry.seq),
        Event::Gap(gap) => Some(gap.last),
        Event::Damaged { .. } => None,
    }
}

/// What is asked for, and of whom. An error is the exit code.
pub(crate) async fn plan(select: &Select, config: &Config) -> Result<(Plan, Reader), u8> {
    // What is wrong with it needs no server.
    let plan = |today| select.clone().plan(today).map_err(|error| usage(&error));
    plan(Calendar::here(DayStart::default()).today())?;
    let reader = connect(config).await?;
    // Which day it is now is the server's to say.
    let plan = plan(Calendar::here(reader.welcome().day_start).today())?;
    Ok((plan, reader))
}

async fn connect(config: &Config) -> Result<Reader, u8> {
    Reader::connect(config.server.clone()).await.map_err(|error| {
        say(format_args!("{}", unreachable_sentence(&error)));
        exit::UNREACHABLE
    })
}

/// Says why a reading ended, and gives the exit code.
fn failed(error: &Error) -> u8 {
    say(format_args!("{error}"));
    match error.kind() {
        ErrorKind::Unreachable | ErrorKind::Lost => exit::UNREACHABLE,
        _ => exit::REFUSED,
    }
}

fn usage(error: &str) -> u8 {
    say(format_args!("{error}"));
    exit::USAGE
}

fn refused(error: &BadCursor) -> u8 {
    say(format_args!("{error}"));
    exit::REFUSED
}

/// How the command was understood.
fn echo(plan: &Plan) {
    if let Some(echo) = &plan.echo {
        say(format_args!("{echo}"));
    }
}
