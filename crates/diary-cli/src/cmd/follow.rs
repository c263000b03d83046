//! `follow`: prints entries as they arrive.

mod cursor;

use std::io;
use std::path::PathBuf;

use diary_client::{Error, Event, Scope, Which};
use tokio::signal::unix::SignalKind;

use super::page::Page;
use super::read::printer;
use super::reading::{Query, Reading};
use crate::cli::Show;
use crate::config::Config;
use crate::error::{CliError, exit};
use crate::query;
use crate::query::select::{Keeper, Select};
use crate::term::output::{Output, restored, say};
use crate::term::signals::Signals;
use crate::term::width;
use cursor::{Cursor, Mark};

/// Entries to print before the cursor is saved, while more are waiting.
const SAVE_EVERY: u32 = 1000;

/// Prints the requested entries, then new ones as they arrive.
///
/// # Errors
/// The query excludes new entries, the cursor is unusable, reading failed, or it was interrupted.
pub(super) async fn run(
    select: Select,
    show: &Show,
    cursor: Option<PathBuf>,
    config: &Config,
) -> Result<(), CliError> {
    let cursor = cursor.map(Cursor::open).transpose()?;
    let plan = |today| {
        let plan = select.plan(today)?;
        match plan.days.filter(|days| days.to < today) {
            Some(days) => Err(query::QueryError::Over(days.to)),
            None => Ok(plan),
        }
    };
    let query = Query::connect(config, cursor.as_ref().and_then(Cursor::place), plan).await;
    let mut query = query.map_err(|error| match (&error, &cursor) {
        (CliError::Client(why), Some(cursor)) => cursor.refused_by(why).map_or(error, CliError::from),
        _ => error,
    })?;
    let welcome = query.reader.welcome();
    if let Some(cursor) = &cursor {
        cursor.check(welcome.head)?;
    }
    // Entries committed from now on are followed.
    query.plan.filter.scope.up_to = Some(welcome.head);
    let wants_past =
        select.on.is_some() || select.from.is_some() || select.to.is_some() || select.last.is_some();
    let page = Page::new(printer(&query.reader, show, config), Output::watched(io::stdout()));
    let mut follower = Follower { page, mark: cursor.as_ref().and_then(Cursor::mark), cursor, unsaved: 0 };
    let mut signals = Signals::of(&[SignalKind::interrupt()]);
    let ended = tokio::select! {
        biased;
        () = signals.any() => Err(CliError::Told(exit::INTERRUPTED)),
        ended = follower.print(&query, wants_past) => ended,
    };
    // Save, so that printed entries are not printed again.
    follower.save()?;
    ended?;
    Ok(follower.page.output.finish()?)
}

/// What was printed, and how far.
struct Follower {
    page: Page,
    /// Position up to which entries were printed or skipped; `None` while older ones are printed.
    mark: Option<Mark>,
    cursor: Option<Cursor>,
    /// Entries printed since the cursor was saved.
    unsaved: u32,
}

impl Follower {
    /// Prints events until the reader is gone.
    ///
    /// Cancel safe: events that were passed are printed.
    async fn print(&mut self, query: &Query, wants_past: bool) -> Result<(), CliError> {
        let mark = match self.mark {
            Some(mark) => mark,
            None => {
                // First, so that printed entries are marked at once.
                let mark = self.begin(query, query.plan.filter.scope.up_to.unwrap_or_default()).await?;
                if wants_past {
                    query.echo();
                    query.print(&mut self.page).await?;
                }
                mark
            }
        };
        self.mark = Some(mark);
        let mut reading = Reading::of(&query.reader, query.reader.follow(Some(mark.seq + 1)), false);
        let mut keeper = Keeper::new(&query.plan, query.calendar.clone());
        while !self.page.output.is_gone() {
            tokio::select! {
                biased;
                event = reading.next() => {
                    // A follow never ends by itself.
                    let event = event?.ok_or(CliError::Reading(Error::Closed))?;
                    if let Event::Restored { head } = event {
                        self.mark = Some(self.begin(query, head).await?);
                        say(format_args!("{}", restored(head)));
                        continue;
                    }
                    self.pass(&event);
                    self.page.printer.fit(width());
                    keeper.take(event, |event| self.page.print(&event));
                    if self.unsaved >= SAVE_EVERY {
                        self.save()?;
                    }
                }
                saved = self.save_when_idle() => saved?,
            }
        }
        Ok(())
    }

    /// Returns the mark at this entry. A cursor file needs its checksum.
    async fn begin(&self, query: &Query, seq: u64) -> Result<Mark, CliError> {
        let mut mark = Mark { journal: query.reader.welcome().journal_id, seq, crc: None };
        if self.cursor.is_some() {
            let scope = Scope { up_to: Some(seq), ..Which::From(seq.max(1)).into() };
            let mut reading = query.read(query.reader.history(scope));
            while let Some(event) = reading.next().await? {
                if let Event::Entry(stored) = event {
                    mark.crc = Some(stored.crc);
                }
            }
        }
        Ok(mark)
    }

    /// Moves the mark to an event about to be printed. A gap is passed with the entry behind it.
    fn pass(&mut self, event: &Event) {
        if let Event::Entry(stored) = event {
            let (seq, crc) = (stored.entry.seq, Some(stored.crc));
            self.mark = self.mark.map(|mark| Mark { seq, crc, ..mark });
            self.unsaved += 1;
        }
    }

    /// Flushes what was printed, and only then saves the cursor.
    fn save(&mut self) -> Result<(), CliError> {
        self.page.output.flush();
        self.unsaved = 0;
        if let (Some(cursor), Some(mark)) = (&mut self.cursor, self.mark)
            && !self.page.output.is_gone()
        {
            cursor.save(mark)?;
        }
        Ok(())
    }

    /// Saves when nothing else is ready, like [`Output::flush_when_idle`]; returns once the reader is gone.
    ///
    /// Cancel safe.
    async fn save_when_idle(&mut self) -> Result<(), CliError> {
        self.save()?;
        if !self.page.output.is_gone() {
            self.page.output.flush_when_idle().await;
        }
        Ok(())
    }
}
