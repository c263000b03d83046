//! What the reading commands share: the connection, and the way from the server to the page.

use diary_client::{Code, DayStart, Error, Event, Filter, History, Reader, Resume, Scope, Stored};
use jiff::ToSpan;
use jiff::civil::Date;
use tokio::time::Instant;

use super::deliver::tell_waiting;
use super::page::Page;
use super::patience::Patience;
use crate::config::Config;
use crate::error::CliError;
use crate::query;
use crate::query::by_time::ByTime;
use crate::query::select::{Keeper, Plan};
use crate::term::output::say;
use crate::term::ui::Ui;
use diary_calendar::Calendar;

/// Connects to a diary, which must have the entry at `place`, and reports entries that wait to be sent to any
/// server.
pub(super) async fn connect(config: &Config, place: Option<Resume>) -> Result<Reader, Error> {
    let connected = Reader::connect_at(config.server.clone(), config.access(&config.server), place).await;
    let served = connected.as_ref().ok().map(|reader| (config.server.clone(), reader.welcome().journal_id));
    tell_waiting(config, served.as_slice(), true, &Ui::default());
    connected
}

/// Reads the first and the newest version of an entry, which `number` may name by a correction.
///
/// # Errors
/// There is no such entry, or reading failed.
pub(super) async fn versions(reader: &Reader, number: u64) -> Result<Vec<Stored>, CliError> {
    let (mut reading, mut found) = (Reading::of(reader, reader.versions(number), true), Vec::new());
    while let Some(event) = reading.next().await.map_err(nothing_found)? {
        if let Event::Entry(stored) = event {
            // The first tells which entry it is, and the last its text.
            found.truncate(1);
            found.push(stored);
        }
    }
    Ok(found)
}

/// Takes a refusal of an entry that is not there for what it is.
pub(super) fn nothing_found(error: CliError) -> CliError {
    match error {
        CliError::Reading(Error::Refused(refusal)) if refusal.code == Code::NoEntry => {
            CliError::NothingFound(refusal.message.into_owned())
        }
        error => error,
    }
}

/// A plan, with a connection to the server.
pub(super) struct Query {
    pub(super) plan: Plan,
    pub(super) reader: Reader,
    pub(super) calendar: Calendar,
}

impl Query {
    /// Makes a plan for the reader's current day and connects to a diary that has the entry at `place`. Reports
    /// entries that wait to be sent.
    ///
    /// # Errors
    /// The query is wrong, or the server cannot be reached.
    pub(super) async fn connect(
        config: &Config,
        place: Option<Resume>,
        plan: impl Fn(Date) -> Result<Plan, query::QueryError>,
    ) -> Result<Self, CliError> {
        // Wrong arguments are reported without a server. Where days start late, it may still be yesterday.
        let today = Calendar::here(DayStart::default()).today();
        plan(today).or_else(|why| plan(today.saturating_sub(1.day())).map_err(|_| why))?;
        let reader = connect(config, place).await?;
        let calendar = Calendar::here(reader.welcome().day_start);
        let plan = plan(calendar.today())?;
        Ok(Self { plan, reader, calendar })
    }

    /// Prints how the plan was understood.
    pub(super) fn echo(&self) {
        if let Some(echo) = &self.plan.echo {
            say(format_args!("{echo}"));
        }
    }

    pub(super) fn read(&self, history: History) -> Reading {
        Reading::of(&self.reader, history, true)
    }

    /// Asks the server for a superset of `plan`, with a keeper that selects the plan's entries.
    pub(super) fn ask(&self, plan: &Plan) -> (Reading, Keeper) {
        let history = match &plan.each_year {
            Some(days) => self.reader.histories(days.ranges()),
            None => self.reader.select(plan.filter.clone()),
        };
        (self.read(history), Keeper::new(plan, self.calendar.clone()))
    }

    /// Prints everything of the plan.
    ///
    /// Cancel safe: what was read is printed.
    pub(super) async fn print(&self, page: &mut Page) -> Result<(), CliError> {
        let mut plan = self.plan.clone();
        if plan.newest.is_some() && !plan.filter.scope.reverse {
            plan.filter.scope = self.newest_of_plan().await?;
        }
        let (mut reading, mut keeper) = self.ask(&plan);
        while !page.output.is_gone() && !keeper.is_full() {
            tokio::select! {
                biased;
                event = reading.next() => match event? {
                    Some(event) => keeper.take(event, |event| page.print(&event)),
                    None => break,
                },
                () = page.output.flush_when_idle() => {}
            }
        }
        keeper.end(|event| page.print(&event));
        page.output.flush();
        Ok(())
    }

    /// Narrows the plan's scope to the newest entries that it wants. Only a reverse reading tells where they begin.
    async fn newest_of_plan(&self) -> Result<Scope, CliError> {
        let scope = self.plan.filter.scope;
        let scope = Scope { up_to: scope.up_to.or(Some(self.reader.welcome().head)), ..scope };
        let filter = Filter { scope, ..self.plan.filter.clone() };
        let (mut reading, mut keeper) = self.ask(&Plan { filter, ..self.plan.clone() }.in_order(true));
        let mut entries = 0;
        while let Some(event) = reading.next().await? {
            let is_entry = matches!(event, Event::Entry(_));
            keeper.take(event, drop);
            if keeper.is_full() {
                return Ok(Scope { newest: Some(entries), ..scope });
            }
            entries += u64::from(is_entry);
        }
        // There are no more than that.
        Ok(scope)
    }

    /// Returns the events of a one-day plan, sorted by time. `None` if the plan is not of one day, or has too many
    /// events to hold, which is reported.
    pub(super) async fn by_time(&self) -> Result<Option<Vec<Event>>, CliError> {
        let plan = &self.plan;
        if !plan.is_of_one_day() {
            return Ok(None);
        }
        let (mut reading, mut keeper) = self.ask(&plan.clone().in_order(false));
        let mut sorted = ByTime::new(self.calendar.clone());
        while !sorted.is_over()
            && let Some(event) = reading.next().await?
        {
            keeper.take(event, |event| sorted.take(event));
        }
        keeper.end(|event| sorted.take(event));
        let sorted = sorted.finish(plan.newest, plan.filter.scope.reverse);
        Ok(sorted.inspect_err(|too_many| say(format_args!("{too_many}"))).ok())
    }
}

/// A stream of events. Reports when its connection is lost.
pub(super) struct Reading {
    history: History,
    patience: Patience,
    /// When waiting began; `None` to wait forever.
    asked: Option<Instant>,
}

impl Reading {
    pub(super) fn of(reader: &Reader, history: History, gives_up: bool) -> Self {
        Self { history, patience: Patience::of(reader.state()), asked: gives_up.then(Instant::now) }
    }

    /// Prints all events.
    ///
    /// # Errors
    /// Those of [`next`](Self::next).
    pub(super) async fn print(mut self, page: &mut Page) -> Result<(), CliError> {
        while !page.output.is_gone() {
            tokio::select! {
                biased;
                event = self.next() => match event? {
                    Some(event) => page.print(&event),
                    None => break,
                },
                () = page.output.flush_when_idle() => {}
            }
        }
        Ok(())
    }

    /// Returns the next event; `None` at the end.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// The server refused the request, or the connection was lost for too long.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, CliError> {
        tokio::select! {
            biased;
            event = self.history.next() => {
                self.patience.progress();
                event.transpose().map_err(CliError::Reading)
            }
            error = self.patience.given_up(self.asked) => Err(CliError::Incomplete(error)),
        }
    }
}
