//! `import`: writes the entries of files, each once however often it is run.
//!
//! `files` reads them, `look` compares them with the diary, and `sending` writes what is missing. An entry's key
//! comes from its place among all entries of the files. So entries of a run that was killed a moment ago, which the
//! server may still be writing, are recognized too.

mod files;
mod look;
mod sending;

use diary_client::{Author, DayStart, Error, NewEntry, Secret};
use diary_outbox::{Delivery, Keys};
use indicatif::HumanCount;
use sha2::{Digest, Sha256};
use tokio::signal::unix::SignalKind;

use self::files::{Contents, Read};
use self::sending::Sending;
use super::reading::connect;
use crate::cli::Import;
use crate::config::Config;
use crate::error::CliError;
use crate::query::select::{Plan, Select};
use crate::term::output::say;
use crate::term::signals::Signals;
use diary_calendar::Calendar;
use diary_import::{Compared, Found};

/// Outcome of an import that ended before its first entry was sent.
const NOTHING: &str = "nothing was imported";

/// Runs the command.
///
/// # Errors
/// Some entries of the files are not in the diary, or there are none.
pub(crate) async fn run(import: Import, config: &Config) -> Result<(), CliError> {
    let mut signals = Signals::of(&[SignalKind::interrupt()]);
    let work = tokio::select! {
        biased;
        () = signals.any() => {
            return Err(CliError::Interrupted(format!("interrupted: {NOTHING}")));
        }
        work = Work::find(&import, config) => work.map_err(|error| error.before_anything(NOTHING))?,
    };
    let mut sending = Sending::new(&work);
    let stopped = match work.dry_run || work.missing.is_empty() {
        true => None,
        false => {
            let delivery = work.delivery().map_err(|error| error.before_anything(NOTHING))?;
            sending.send(delivery, &mut signals).await
        }
    };
    sending.tell(stopped)
}

/// Returns the days whose entries are wanted.
fn plan(import: &Import, day_start: DayStart) -> Result<Plan, CliError> {
    let Import { from, to, .. } = import.clone();
    let select = Select { from, to, last: Some("all".to_owned()), ..Select::default() };
    Ok(select.plan(Calendar::here(day_start).today())?)
}

/// Drops entries of other days, and says how many are left.
fn leave_out(import: &Import, day_start: DayStart, found: &mut Vec<Found<'_>>) -> Result<(), CliError> {
    let plan = plan(import, day_start)?;
    let Some((days, echo)) = plan.days.zip(plan.echo) else { return Ok(()) };
    let all = counted(found.len(), "entry", "entries");
    found.retain(|entry| (days.from..=days.to).contains(&day_start.day_of(entry.when.time)));
    say(format_args!("{echo}: {} of {all}", number(found.len())));
    Ok(())
}

/// The work of one import.
struct Work<'a> {
    config: &'a Config,
    files: &'static [Contents],
    /// The author of entries that name none; `None` leaves it to the server.
    author: Option<Author>,
    /// The same, as the server names it.
    name: String,
    /// Id of the journal.
    journal: u64,
    /// All wanted entries, oldest first.
    sorted: Vec<&'static Found<'static>>,
    /// Indexes into `sorted` of the entries that the diary does not have.
    missing: Vec<usize>,
    not_readable: usize,
    /// Whether a part of the diary could not be compared.
    damage: bool,
    dry_run: bool,
}

impl<'a> Work<'a> {
    /// Reads the files and compares them with the diary.
    async fn find(import: &Import, config: &'a Config) -> Result<Self, CliError> {
        // Wrong days are reported without a server.
        plan(import, DayStart::default())?;
        let Read { files, mut harvest, .. } = files::read(import).await?;
        let mut work = Self {
            config,
            files,
            author: import.author.as_ref().or(config.author()).cloned(),
            name: String::new(),
            journal: 0,
            sorted: Vec::new(),
            missing: Vec::new(),
            not_readable: harvest.not_readable,
            damage: false,
            dry_run: import.dry_run,
        };
        if harvest.found.is_empty() {
            return Ok(work);
        }
        let reader = connect(config, None).await?;
        let welcome = reader.welcome();
        work.name = work.author.as_ref().map_or(welcome.author.as_str(), Author::as_str).to_owned();
        work.journal = welcome.journal_id;
        leave_out(import, welcome.day_start, &mut harvest.found)?;
        // Leaked, as the files are: they are needed until the program ends.
        let found: &'static [Found<'static>] = harvest.found.leak();
        let compared = Compared::new(found, &work.name);
        work.damage = look::compare(&reader, &compared).await?;
        let mut sorted: Vec<_> = found.iter().zip(compared.missing()).collect();
        sorted.sort_by_key(|(entry, _)| entry.when.time.micros);
        work.missing = (0..sorted.len()).filter(|&place| sorted[place].1).collect();
        work.sorted = sorted.into_iter().map(|(entry, _)| entry).collect();
        if !import.even_if_archived {
            look::check_archived(&reader, work.missing.iter().map(|&place| work.sorted[place])).await?;
        }
        Ok(work)
    }

    fn delivery(&self) -> Result<Delivery<usize>, CliError> {
        // Damaged entries are imported again, so use fresh keys.
        let keys = if self.damage { Keys::Fresh } else { Keys::Derived(self.secret()?) };
        let mut delivery = Delivery::new(self.config.server.clone(), self.author.clone(), keys)?
            .with_access(self.config.access(&self.config.server));
        // Entries were compared with this journal, so they must not go to another.
        delivery.met(self.journal);
        Ok(delivery)
    }

    /// Returns the secret of the keys. It is derived from the journal and all entries, so that reading the same
    /// files again gives the same keys.
    fn secret(&self) -> Result<Secret, Error> {
        let mut hash = Sha256::new();
        hash.update(b"diary import");
        hash.update(self.journal.to_be_bytes());
        let mut part = |part: &[u8]| {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        part(self.name.as_bytes());
        for entry in &self.sorted {
            part(&entry.when.time.to_bytes());
            part(entry.author.as_ref().map_or("", Author::as_str).as_bytes());
            part(entry.text.as_bytes());
        }
        Secret::new(hash.finalize().to_vec())
    }

    fn entry(&self, place: usize) -> NewEntry {
        let entry = self.sorted[place];
        NewEntry {
            at: Some(entry.when.time),
            author: entry.author.clone(),
            ..entry.text.clone().into_owned().into()
        }
    }
}

fn number(count: usize) -> HumanCount {
    HumanCount(count as u64)
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

/// Formats ` of 2026-11-20 .. 2026-11-21`, or nothing if there are no entries.
fn of_days<'f>(found: impl IntoIterator<Item = &'f Found<'f>>) -> String {
    let days = found.into_iter().map(|entry| entry.when.time.date());
    let ends = days.fold(None, |ends, day| match ends {
        None => Some((day, day)),
        Some((from, to)) => Some((day.min(from), day.max(to))),
    });
    match ends {
        Some((from, to)) if from == to => format!(" of {from}"),
        Some((from, to)) => format!(" of {from} .. {to}"),
        None => String::new(),
    }
}
