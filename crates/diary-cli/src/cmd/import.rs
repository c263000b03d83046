//! `import`: entries of files are written, each once, however often it is run.
//!
//! `files` reads them, and `look` finds out what the diary has already by reading that. `sending` writes what is
//! missing. An entry's key is made of its place among all entries of the files, so that those of a run that was killed
//! a moment ago, which the server may still be writing, are known as well.

mod files;
mod look;
mod sending;

use std::future::pending;
use std::io;
use std::ops::Range;

use bytes::Bytes;
use diary_client::{Author, Client, DayStart, Error, NewEntry, Options};
use diary_proto::escape::escape;
use indicatif::HumanCount;
use sha2::{Digest, Sha256};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::files::{Contents, Read};
use self::sending::{Sending, Stop};
use super::read::usage;
use crate::cli::Import;
use crate::config::Config;
use crate::error::exit;
use crate::error::unreachable_sentence;
use crate::query::select::{Plan, Select};
use crate::term::output::{Output, say};
use crate::time::calendar::Calendar;
use diary_import::{Compared, Found};

/// Runs of entries that lie one behind the other and have keys by their places, each on a connection of its own. With
/// more of them, what is there lies scattered, as after years of writing in two places, and none has a key: what the
/// server is still committing of such an import that was killed a moment ago may come twice.
const RUNS_MAX: usize = 16;

/// Does it, and gives the exit code.
pub(crate) async fn run(import: Import, config: &Config) -> u8 {
    take_in(&import, config).await.unwrap_or_else(|code| code)
}

/// Ctrl-C, from when this is made on: none is lost while nobody waits for it.
struct Interrupts(Option<Signal>);

impl Interrupts {
    fn listen() -> Self {
        // Without a handler the signal ends the program, as it should.
        Self(signal(SignalKind::interrupt()).ok())
    }

    /// Waits for the next one. Cancellation safe.
    async fn next(&mut self) {
        if let Some(signal) = &mut self.0
            && signal.recv().await.is_some()
        {
            return;
        }
        pending::<()>().await;
    }

    /// What comes of `work`, which writes nothing, if it is not interrupted. An error is the exit code.
    async fn unless<T>(&mut self, work: impl Future<Output = Result<T, u8>>) -> Result<T, u8> {
        tokio::select! {
            biased;
            () = self.next() => {
                say(format_args!("stopped: nothing was imported"));
                Err(exit::INTERRUPTED)
            }
            done = work => done,
        }
    }
}

/// An error is the exit code.
async fn take_in(import: &Import, config: &Config) -> Result<u8, u8> {
    let mut interrupts = Interrupts::listen();
    // What is wrong with the days needs no server.
    plan(import, DayStart::default())?;
    let Read { files, mut harvest, .. } = interrupts.unless(files::read(import)).await?;
    let author = import.author.clone().or_else(|| config.author.clone());
    let not_readable = harvest.not_readable;
    let dry_run = import.dry_run;
    let mut work = Work { config, files, author, sorted: Vec::new(), not_readable, damage: false, dry_run };
    if harvest.found.is_empty() {
        return Ok(work.tell("", 0, 0, None));
    }
    let connected = async { work.connect(Options::default()).await.map_err(|error| unreachable(&error)) };
    let client = interrupts.unless(connected).await?;
    let welcome = client.welcome();
    leave_out(import, welcome.day_start, &mut harvest.found)?;
    let mut order: Vec<usize> = (0..harvest.found.len()).collect();
    order.sort_by_key(|&at| harvest.found[at].when.time.micros);
    work.sorted = order.iter().map(|&at| &harvest.found[at]).collect();
    let compared = Compared::new(&harvest.found, &welcome.author);
    work.damage = interrupts.unless(look::compare(&client, &compared)).await?;
    let missing = compared.missing();
    let missing: Vec<usize> = (0..order.len()).filter(|&place| missing[order[place]]).collect();
    if !import.even_if_archived {
        let missing = missing.iter().map(|&place| work.sorted[place]);
        interrupts.unless(look::check_archived(&client, missing)).await?;
    }
    if import.dry_run {
        return Ok(work.tell(&welcome.author, missing.len(), work.sorted.len() - missing.len(), None));
    }
    Ok(work.write(client, &missing, &mut interrupts).await)
}

fn unreachable(error: &Error) -> u8 {
    say(format_args!("nothing was imported: {}", unreachable_sentence(error)));
    exit::UNREACHABLE
}

/// The days of which entries are wanted. An error is the exit code.
fn plan(import: &Import, day_start: DayStart) -> Result<Plan, u8> {
    let Import { from, to, .. } = import.clone();
    let select = Select { from, to, last: Some("all".to_owned()), ..Select::default() };
    select.plan(Calendar::here(day_start).today()).map_err(|error| usage(&error))
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
    async fn connect(&self, options: Options) -> Result<Client, Error> {
        let options = Options { author: self.author.clone(), ..options };
        Client::connect(self.config.server.clone(), options).await
    }

    /// Writes those of `sorted` that are missing, over as many connections as their keys take, says what was done, and
    /// gives the exit code.
    async fn write(&self, client: Client, missing: &[usize], interrupts: &mut Interrupts) -> u8 {
        let name = client.welcome().author;
        let mut sending = Sending::new(self, missing.len());
        let mut runs = runs(missing);
        // What is damaged comes again, whatever its key was.
        let keyed = runs.len() <= RUNS_MAX && !self.damage;
        if !keyed {
            runs.clear();
            runs.push(0..missing.len());
        }
        let secret = keyed.then(|| self.secret(&client));
        let mut client = Some(client);
        let mut end = None;
        for run in &runs {
            let first_counter = 1 + missing.get(run.start).map_or(0, |&place| place as u64);
            let client = match (&secret, client.take()) {
                (None, Some(client)) => Ok(client),
                (secret, _) => {
                    let options = Options { secret: secret.clone(), first_counter, ..Options::default() };
                    tokio::select! {
                        biased;
                        () = interrupts.next() => Err(Stop::Interrupted { unacked: 0 }),
                        client = self.connect(options) => client.map_err(|error| Stop::Lost { error, unacked: 0 }),
                    }
                }
            };
            end = match client {
                Ok(client) => sending.send(client, &missing[run.clone()], interrupts).await,
                Err(stop) => Some(stop),
            };
            if end.is_some() {
                break;
            }
        }
        sending.end(end.as_ref());
        let there = self.sorted.len() - missing.len() + sending.known;
        self.tell(&name, sending.acked, there, Some((&sending, end)))
    }

    /// The secret of the keys: of all entries of the files and the journal, and so the same when they are read again.
    fn secret(&self, client: &Client) -> Bytes {
        let welcome = client.welcome();
        let mut hash = Sha256::new();
        hash.update(b"diary import");
        hash.update(welcome.journal_id.to_be_bytes());
        let mut part = |part: &[u8]| {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        part(welcome.author.as_bytes());
        for entry in &self.sorted {
            part(&entry.when.time.to_bytes());
            part(entry.author.as_ref().map_or("", Author::as_str).as_bytes());
            part(entry.text.as_bytes());
        }
        Bytes::copy_from_slice(&hash.finalize())
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
        let mut line = format!(
            "{what} {imported}{as_whom}, there already {there}, not readable {}",
            number(not_readable)
        );
        if refused > 0 {
            line.push_str(&format!(", refused {}", number(refused)));
        }
        let mut output = Output::new(io::stdout());
        output.print(format!("{line}\n").as_bytes());
        output.flush();
        match sent.and_then(|(_, end)| end) {
            Some(Stop::Interrupted { unacked: 0 }) => exit::INTERRUPTED,
            Some(Stop::Full(_)) => exit::REFUSED,
            Some(_) => exit::NOT_ACKED,
            None if self.damage => exit::DAMAGE,
            None if not_readable + refused > 0 => exit::REFUSED,
            None if output.has_failed() => exit::USAGE,
            None if self.sorted.is_empty() => exit::NOTHING_FOUND,
            None => exit::DONE,
        }
    }
}

/// Places that follow one another, as ranges of `missing`.
fn runs(missing: &[usize]) -> Vec<Range<usize>> {
    let mut start = 0;
    let ends = missing.chunk_by(|a, b| a + 1 == *b).map(|run| run.len());
    ends.map(|length| {
        let run = start..start + length;
        start = run.end;
        run
    })
    .collect()
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
