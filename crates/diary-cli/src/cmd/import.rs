//! `import`: entries of files are written, each once, however often it is run.
//!
//! `files` reads them, and `look` finds out what the diary has already by reading that. `sending` writes what is
//! missing. An entry's key is made of its place among all entries of the files, so that those of a run that was killed
//! a moment ago, which the server may still be writing, are known as well.

mod files;
mod look;
mod sending;

use diary_client::{Author, DayStart, Error, NewEntry, Reader, Secret, Welcome};
use diary_outbox::{Delivery, Held, Keys};
use diary_proto::escape::escape;
use indicatif::HumanCount;
use sha2::{Digest, Sha256};
use tokio::signal::unix::SignalKind;

use self::files::{Contents, Read};
use self::sending::{Sending, Stop};
use crate::cli::Import;
use crate::config::Config;
use crate::error::exit;
use crate::error::unreachable_sentence;
use crate::query::select::{Plan, Select};
use crate::term::output::{print, say};
use crate::term::signals::Signals;
use diary_calendar::Calendar;
use diary_import::{Compared, Found};

/// Does it, and gives the exit code.
pub(crate) async fn run(import: Import, config: &Config) -> u8 {
    take_in(&import, config).await.unwrap_or_else(|code| code)
}

/// What comes of `work`, which writes nothing, if it is not interrupted. An error is the exit code.
async fn unless<T>(signals: &mut Signals, work: impl Future<Output = Result<T, u8>>) -> Result<T, u8> {
    tokio::select! {
        biased;
        () = signals.any() => {
            say(format_args!("stopped: nothing was imported"));
            Err(exit::INTERRUPTED)
        }
        done = work => done,
    }
}

/// An error is the exit code.
async fn take_in(import: &Import, config: &Config) -> Result<u8, u8> {
    let mut signals = Signals::of(&[SignalKind::interrupt()]);
    // What is wrong with the days needs no server.
    plan(import, DayStart::default())?;
    let Read { files, mut harvest, .. } = unless(&mut signals, files::read(import)).await?;
    let author = import.author.clone().or_else(|| config.author.clone());
    let not_readable = harvest.not_readable;
    let dry_run = import.dry_run;
    let mut work = Work { config, files, author, sorted: Vec::new(), not_readable, damage: false, dry_run };
    if harvest.found.is_empty() {
        return Ok(work.tell("", 0, 0, None));
    }
    let connected =
        async { Reader::connect(config.server.clone()).await.map_err(|error| unreachable(&error)) };
    let reader = unless(&mut signals, connected).await?;
    let welcome = reader.welcome();
    leave_out(import, welcome.day_start, &mut harvest.found)?;
    let mut order: Vec<usize> = (0..harvest.found.len()).collect();
    order.sort_by_key(|&at| harvest.found[at].when.time.micros);
    work.sorted = order.iter().map(|&at| &harvest.found[at]).collect();
    let name = work.author.as_ref().map_or(welcome.author.as_str(), Author::as_str).to_owned();
    let compared = Compared::new(&harvest.found, &name);
    work.damage = unless(&mut signals, look::compare(&reader, &compared)).await?;
    let missing = compared.missing();
    let missing: Vec<usize> = (0..order.len()).filter(|&place| missing[order[place]]).collect();
    if !import.even_if_archived {
        let missing = missing.iter().map(|&place| work.sorted[place]);
        unless(&mut signals, look::check_archived(&reader, missing)).await?;
    }
    if import.dry_run {
        return Ok(work.tell(&name, missing.len(), work.sorted.len() - missing.len(), None));
    }
    Ok(work.write(&welcome, &name, &missing, &mut signals).await)
}

fn unreachable(error: &Error) -> u8 {
    say(format_args!("nothing was imported: {}", unreachable_sentence(error)));
    exit::UNREACHABLE
}

fn usage(why: &str) -> u8 {
    say(format_args!("{why}"));
    exit::USAGE
}

/// The days of which entries are wanted. An error is the exit code.
fn plan(import: &Import, day_start: DayStart) -> Result<Plan, u8> {
    let Import { from, to, .. } = import.clone();
    let select = Select { from, to, last: Some("all".to_owned()), ..Select::default() };
    select.plan(Calendar::here(day_start).today()).map_err(|error| usage(&error.to_string()))
}

/// Leaves out entries of other days than those that are wanted, and says so. An error is the exit code.
fn leave_out(import: &Import, day_start: DayStart, found: &mut Vec<Found<'_>>) -> Result<(), u8> {
    let plan = plan(import, day_start)?;
    let Some((days, echo)) = plan.days.zip(plan.echo) else { return Ok(()) };
    let all = counted(found.len(), "entry", "entries");
    found.retain(|entry| (days.from..=days.to).contains(&day_start.day_of(entry.when.time)));
    say(format_args!("{echo}: {} of {all}", number(found.len())));
    Ok(())
}

/// What is to be done, and who for.
struct Work<'a> {
    config: &'a Config,
    files: &'a [Contents],
    /// Who wrote what names nobody; `None` leaves it to the server.
    author: Option<Author>,
    /// All entries that are wanted, the oldest first.
    sorted: Vec<&'a Found<'a>>,
    not_readable: usize,
    /// Something of the diary could not be compared.
    damage: bool,
    dry_run: bool,
}

impl Work<'_> {
    /// Writes those of `sorted` that are missing, says what was done, and gives the exit code.
    async fn write(&self, welcome: &Welcome, name: &str, missing: &[usize], signals: &mut Signals) -> u8 {
        // What is damaged comes again, whatever its key was.
        let keys = if self.damage { Ok(Keys::Fresh) } else { self.secret(welcome, name).map(Keys::Derived) };
        let delivery = keys.map_err(|error| error.to_string()).and_then(|keys| {
            let (server, author) = (self.config.server.clone(), self.author.clone());
            Delivery::new(server, author, keys).map_err(|error| error.to_string())
        });
        let delivery = match delivery {
            Ok(delivery) => delivery,
            Err(why) => {
                say(format_args!("nothing was imported: {why}"));
                return exit::NOT_ACKED;
            }
        };
        let mut sending = Sending::new(self, missing.len());
        let end = sending.send(delivery, missing, signals).await;
        sending.end(end.as_ref());
        let there = self.sorted.len() - missing.len() + sending.known;
        self.tell(name, sending.acked, there, Some((&sending, end)))
    }

    /// The secret of the keys: of all entries of the files and the journal, and so the same when they are read again.
    fn secret(&self, welcome: &Welcome, name: &str) -> Result<Secret, Error> {
        let mut hash = Sha256::new();
        hash.update(b"diary import");
        hash.update(welcome.journal_id.to_be_bytes());
        let mut part = |part: &[u8]| {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        part(name.as_bytes());
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

    /// Says what was done, and gives the exit code. Without `sent` nothing was.
    fn tell(
        &self,
        name: &str,
        imported: usize,
        there: usize,
        sent: Option<(&Sending<'_>, Option<Stop>)>,
    ) -> u8 {
        let (not_readable, refused) =
            (self.not_readable, sent.as_ref().map_or(0, |(sending, _)| sending.refused));
        let what = if self.dry_run { "would import" } else { "imported" };
        let as_whom = match self.dry_run && !self.sorted.is_empty() {
            true => format!(" (as {}, if they name nobody)", escape(name)),
            false => String::new(),
        };
        let (imported, there) = (number(imported), number(there));
        let mut line =
            format!("{what} {imported}{as_whom}, {there} duplicates, {} unreadable", number(not_readable));
        if refused > 0 {
            line.push_str(&format!(", {} refused", number(refused)));
        }
        let printed = print(format!("{line}\n").as_bytes()).inspect_err(|why| say(format_args!("{why}")));
        match sent.and_then(|(_, end)| end) {
            Some(Stop::Interrupted { unacked: 0 }) => exit::INTERRUPTED,
            Some(Stop::Held { held: Held::Full(_), .. }) => exit::REFUSED,
            Some(_) => exit::NOT_ACKED,
            None if self.damage => exit::DAMAGE,
            None if not_readable + refused > 0 => exit::REFUSED,
            None if printed.is_err() => exit::USAGE,
            None if self.sorted.is_empty() => exit::NOTHING_FOUND,
            None => exit::DONE,
        }
    }
}

fn number(count: usize) -> HumanCount {
    HumanCount(count as u64)
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

/// ` of 2026-11-20 .. 2026-11-21`; nothing, if there are none.
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
