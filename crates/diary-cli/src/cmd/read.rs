//! `log`, `search` and `follow`: entries are read and printed.

use std::io;
use std::path::PathBuf;
use std::pin::{Pin, pin};

use diary_client::{DayStart, Error, Event, Filter, History, Reader, Scope, Which};
use jiff::civil::Date;

use super::deliver::tell_waiting;
use crate::cli::Show;
use crate::config::Config;
use crate::error::{exit, unreachable_sentence};
use crate::patience::Patience;
use crate::query::by_time::{by_time, keep_newest};
use crate::query::cursor::{BadCursor, Cursor, Mark};
use crate::query::pour::{GiveUp, Page, Pour, Sift, ask, failed, read_while};
use crate::query::select::{Keeper, Plan, Select};
use crate::render::Printer;
use crate::term::output::{Output, restored, say};
use crate::term::pager::Pager;
use crate::term::ui::Ui;
use crate::time::calendar::Calendar;
use crate::time::days::Days;

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
    let calendar = Calendar::here(reader.welcome().day_start);
    let (printer, nothing) = (printer(&reader, show, config), plan.nothing());
    if let Some(Days { from, to }) = plan.days
        && from == to
    {
        let scope = Scope { reverse: false, ..plan.filter.scope };
        let of_day = Plan { filter: Filter { scope, ..plan.filter.clone() }, ..plan.clone() };
        let history = reader.select(of_day.filter.clone());
        let keeper = Keeper::new(&of_day, calendar.clone());
        if let Some(mut events) = by_time(&reader, history, keeper, calendar.clone()).await? {
            keep_newest(&mut events, plan.newest.unwrap_or(u64::MAX));
            if plan.filter.scope.reverse {
                events.reverse();
            }
            return Ok(print_held(&events, printer, &nothing));
        }
    }
    print_all(&reader, ask(&reader, &plan), keeper(&plan, calendar), printer, &nothing).await
}

/// Keeps what a plan wants of what [`ask`] brings.
fn keeper(plan: &Plan, calendar: Calendar) -> Keeper {
    match plan.filter.scope.reverse {
        true => Keeper::of_newest(plan, calendar),
        false => Keeper::new(plan, calendar),
    }
}

/// Prints what `sift` lets through of a reading, in a pager if it is long. `nothing` is said if it is nothing.
pub(super) async fn print_all(
    reader: &Reader,
    history: impl Future<Output = Result<History, u8>>,
    sift: impl Sift,
    printer: Printer,
    nothing: &str,
) -> Result<u8, u8> {
    let (output, pager) = Pager::start(&printer);
    let mut page = Page::new(printer, output);
    let pour = Pour { history, sift, give_up: GiveUp::Soon };
    let read = pour.into_page(reader, &mut page, pin!(std::future::pending())).await;
    page.finish();
    let ended = page.ended();
    pager.finish(page.output);
    read?;
    Ok(ended.code(nothing))
}

/// The same for what has been read.
pub(super) fn print_held(events: &[Event], printer: Printer, nothing: &str) -> u8 {
    let (output, pager) = Pager::start(&printer);
    let mut page = Page::new(printer, output);
    for event in events {
        if page.output.is_gone() {
            break;
        }
        page.print(event);
    }
    page.finish();
    let ended = page.ended();
    pager.finish(page.output);
    ended.code(nothing)
}

/// Prints what a plan asks for, without a pager, and gives the exit code either way.
pub(super) async fn print_plan(reader: &Reader, plan: &Plan, mut page: Page) -> Result<u8, u8> {
    echo(plan);
    let sift = keeper(plan, Calendar::here(reader.welcome().day_start));
    let pour = Pour { history: ask(reader, plan), sift, give_up: GiveUp::Soon };
    pour.into_page(reader, &mut page, pin!(interrupted())).await?;
    page.finish();
    Ok(page.ended().code(&plan.nothing()))
}

/// Waits for Ctrl-C.
pub(super) async fn interrupted() {
    // Without a handler the signal ends the program, as it should.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The same for the entries that hold a text.
pub(crate) async fn search(text: String, mut select: Select, show: &Show, config: &Config) -> u8 {
    select.conditions.contains.insert(0, text);
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
    // Where days start late it may still be yesterday. What is over even then needs no server.
    let today = Calendar::here(DayStart::default()).today();
    let planned = |today| select.clone().plan(today).ok();
    if today.yesterday().ok().and_then(planned).is_some_and(|plan| over(&plan).is_some()) {
        planned(today).map_or(Ok(()), |plan| not_over(&plan))?;
    }
    // What is wrong with it needs no server.
    plan_on(&select, DayStart::default())?;
    let cursor = cursor.map(Cursor::open).transpose();
    let mut cursor = cursor.map_err(|error| refused(&error))?;
    let at = cursor.as_ref().and_then(Cursor::place);
    let reader = Reader::connect_at(config.server.clone(), at).await.map_err(|error| {
        let bad = cursor.as_ref().and_then(|cursor| cursor.refused_by(&error));
        bad.map_or_else(|| unreachable(&error), |bad| refused(&bad))
    })?;
    tell_waiting(config, Some(reader.welcome().journal_id), true, &Ui::default());
    let plan = plan_on(&select, reader.welcome().day_start)?;
    not_over(&plan)?;
    let (journal, head) = (reader.welcome().journal_id, reader.welcome().head);
    if let Some(cursor) = &cursor {
        cursor.check(head).map_err(|error| refused(&error))?;
    }
    let mut page = Page::new(printer(&reader, show, config), Output::watched(io::stdout()));
    let mut interrupt = pin!(interrupted());
    let mark = match cursor.as_ref().and_then(Cursor::mark) {
        Some(mark) => mark,
        None => {
            let mut seq = head;
            if wants_past {
                echo(&plan);
                // All up to the head at the start was read, and what was committed since then up to this.
                let sift = keeper(&plan, Calendar::here(reader.welcome().day_start));
                let pour = Pour { history: ask(&reader, &plan), sift, give_up: GiveUp::Never };
                seq = seq.max(pour.into_page(&reader, &mut page, interrupt.as_mut()).await?);
            }
            let crc = if cursor.is_some() { crc_of(&reader, seq).await? } else { None };
            Mark { journal, seq, crc }
        }
    };
    let history = reader.follow(Some(mark.seq + 1));
    let place = Place { mark, cursor: cursor.as_mut(), unsaved: 0 };
    let code = live(&reader, history, &plan, &mut page, place, interrupt).await;
    page.finish();
    code
}

/// The checksum of an entry's line; `None` if it is damaged or there is no such entry. An error is the exit code.
async fn crc_of(reader: &Reader, seq: u64) -> Result<Option<u32>, u8> {
    let mut crc = None;
    let take = |event| {
        if let Event::Entry(stored) = event {
            crc = Some(stored.crc);
        }
        true
    };
    let scope = Scope { up_to: Some(seq), ..Which::From(seq.max(1)).into() };
    read_while(reader, reader.history(scope), take).await?;
    Ok(crc)
}

/// The last day of a plan, if it is over.
fn over(plan: &Plan) -> Option<Date> {
    plan.days.map(|days| days.to).filter(|to| *to < plan.today)
}

/// An error is the exit code: nothing can come.
fn not_over(plan: &Plan) -> Result<(), u8> {
    let Some(over) = over(plan) else { return Ok(()) };
    Err(usage(&format!("nothing can follow after {over}, which is over; log shows what there is")))
}

/// How far a follow is.
struct Place<'a> {
    /// All entries up to this one were printed, or need not be.
    mark: Mark,
    cursor: Option<&'a mut Cursor>,
    unsaved: u32,
}

impl Place<'_> {
    /// This is about to be printed. A gap is passed with the entry behind it.
    fn pass(&mut self, event: &Event) {
        let (seq, crc) = match event {
            Event::Entry(stored) => (stored.entry.seq, Some(stored.crc)),
            Event::Restored { head } => (*head, None),
            Event::Gap(_) | Event::Damaged { .. } => return,
        };
        self.mark = Mark { seq, crc, ..self.mark };
        self.unsaved += 1;
    }

    /// What was printed up to here goes out, and only then it is written down. An error is the exit code.
    fn save(&mut self, output: &mut Output) -> Result<(), u8> {
        output.flush();
        self.unsaved = 0;
        match &mut self.cursor {
            Some(cursor) if !output.is_gone() => cursor.save(self.mark).map_err(|error| refused(&error)),
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
                    place.pass(&event);
                    if let Event::Restored { head } = event {
                        say(format_args!("{}", restored(head)));
                        continue;
                    }
                    page.printer.fit();
                    keeper.take(event, |event| page.print(&event));
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
            () = patience.wait() => drop(patience.look(None)),
            saved = place.save_when_idle(&mut page.output) => saved?,
        }
    }
    Ok(if page.output.has_failed() { exit::USAGE } else { exit::DONE })
}

/// What is asked for, and of whom. An error is the exit code.
pub(super) async fn plan(select: &Select, config: &Config) -> Result<(Plan, Reader), u8> {
    // What is wrong with it needs no server.
    plan_on(select, DayStart::default())?;
    let reader = connect(config).await?;
    // Which day it is now is the server's to say.
    Ok((plan_on(select, reader.welcome().day_start)?, reader))
}

fn plan_on(select: &Select, day_start: DayStart) -> Result<Plan, u8> {
    select.clone().plan(Calendar::here(day_start).today()).map_err(|error| usage(&error))
}

/// To read, and not without what one wrote oneself: says if something waits to be sent.
pub(super) async fn connect(config: &Config) -> Result<Reader, u8> {
    let reader = Reader::connect(config.server.clone()).await.map_err(|error| unreachable(&error))?;
    tell_waiting(config, Some(reader.welcome().journal_id), true, &Ui::default());
    Ok(reader)
}

fn unreachable(error: &Error) -> u8 {
    say(format_args!("{}", unreachable_sentence(error)));
    exit::UNREACHABLE
}

pub(super) fn usage(error: &str) -> u8 {
    say(format_args!("{error}"));
    exit::USAGE
}

fn refused(error: &BadCursor) -> u8 {
    say(format_args!("{error}"));
    exit::REFUSED
}

/// It prints days as the server counts them.
pub(super) fn printer(reader: &Reader, show: &Show, config: &Config) -> Printer {
    let mut printer = Printer::new(show, config);
    printer.start_days_at(reader.welcome().day_start);
    printer
}

/// How the command was understood.
pub(super) fn echo(plan: &Plan) {
    if let Some(echo) = &plan.echo {
        say(format_args!("{echo}"));
    }
}
