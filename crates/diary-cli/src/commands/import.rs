//! `import`: entries of files are written, each once, however often it is run.
//!
//! What the diary has already is found out by reading it. An entry's key is made of its place among all entries of
//! the files, so that those of a run that was killed a moment ago, which the server may still be writing, are known
//! as well.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::pin;

use bytes::Bytes;
use diary_client::{Ack, Author, Client, Code, Error, Event, Gap, NewEntry, Options, Refusal};
use diary_proto::Date;
use diary_proto::escape::escape;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::read::interrupted;
use crate::args::Import;
use crate::config::Config;
use crate::dates::Days;
use crate::exit;
use crate::import::compare::Compared;
use crate::import::{Clock, Exactness, Found, Harvest, Kind, Source};
use crate::output::{Output, say};
use crate::patience::{HeldUp, Patience};
use crate::select::server_days;
use crate::unanswered::{Unanswered, answer_of_first};
use crate::unreachable_sentence;

/// Runs of entries that lie one behind the other and have keys by their places. With more of them, what is there lies
/// so scattered that no run was killed a moment ago.
const RUNS_MAX: usize = 16;

/// How a progress bar looks.
const BAR: &str = "{wide_bar} {human_pos}/{human_len} {per_sec} {eta}";

/// Does it, and gives the exit code.
pub(crate) async fn run(import: Import, config: &Config) -> u8 {
    match read(&import.files) {
        Ok(files) => take_in(&import, &files, config).await.unwrap_or_else(|code| code),
        Err(why) => {
            say(format_args!("nothing was imported: {why}"));
            exit::USAGE
        }
    }
}

/// A file with what it holds.
struct Contents {
    name: String,
    bytes: Vec<u8>,
    day: Option<Date>,
}

fn read(paths: &[PathBuf]) -> Result<Vec<Contents>, String> {
    let from_input = |path: &&PathBuf| path.as_os_str() == "-";
    if paths.iter().filter(from_input).count() > 1 {
        return Err("the input can be read once; name - once".to_owned());
    }
    paths
        .iter()
        .map(|path| {
            read_file(path)
                .map_err(|error| format!("{} cannot be read: {error}", escape(&path.display().to_string())))
        })
        .collect()
}

fn read_file(path: &Path) -> io::Result<Contents> {
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        io::stdin().lock().read_to_end(&mut bytes)?;
        return Ok(Contents { name: "the input".to_owned(), bytes, day: None });
    }
    let mut file = File::open(path)?;
    file.read_to_end(&mut bytes)?;
    let changed = || jiff::Timestamp::try_from(file.metadata().ok()?.modified().ok()?).ok();
    let day = Source::day_in_name(path);
    let day = day.or_else(|| Some(changed()?.to_zoned(TimeZone::system()).date()));
    Ok(Contents { name: escape(&path.display().to_string()).into_owned(), bytes, day })
}

/// An error is the exit code.
async fn take_in(import: &Import, files: &[Contents], config: &Config) -> Result<u8, u8> {
    let clock =
        Clock::new(import.timezone.clone().unwrap_or_else(TimeZone::system), import.time_format.clone());
    let mut harvest = Harvest::default();
    for file in files {
        let (found, troubles, of_day) = (harvest.found.len(), harvest.troubles.len(), harvest.of_day);
        let kind = harvest.read(&Source { bytes: &file.bytes, day: file.day }, import.format, &clock);
        let (troubles, of_day) = (harvest.troubles.len() - troubles, harvest.of_day - of_day);
        // A day that only the file has is a guess, of which its person should know.
        if import.dry_run || of_day > 0 {
            let said = file_sentence(file, kind, &harvest.found[found..], troubles, of_day, &clock);
            say(format_args!("{said}"));
        }
    }
    for trouble in &harvest.troubles {
        say(format_args!("{}, line {}: {}", files[trouble.file].name, trouble.line, trouble.why));
    }
    let mut order: Vec<usize> = (0..harvest.found.len()).collect();
    order.sort_by_key(|&at| harvest.found[at].when.time.micros);
    let sorted = order.iter().map(|&at| &harvest.found[at]).collect();
    let author = import.author.clone().or_else(|| config.author.clone());
    let mut work =
        Work { config, files, author, sorted, not_readable: harvest.troubles.len(), damage: false };
    if work.sorted.is_empty() {
        return Ok(work.tell("", 0, 0, None));
    }
    let client = work.connect(Options::default()).await?;
    let (name, head) = (client.welcome().author.clone(), client.welcome().head);
    let compared = Compared::new(&harvest.found, &name);
    work.look(&client, &compared).await?;
    let missing = compared.missing();
    let missing: Vec<usize> = (0..order.len()).filter(|&place| missing[order[place]]).collect();
    let there = work.sorted.len() - missing.len();
    if import.dry_run {
        return Ok(work.tell(&name, missing.len(), there, None));
    }
    work.write(client, &missing, head).await
}

/// `a.txt: read as jrnl, 3 entries of 2026-11-20 .. 2026-11-21, not readable 1`
fn file_sentence(
    file: &Contents,
    kind: Kind,
    found: &[Found<'_>],
    not_readable: usize,
    of_day: usize,
    clock: &Clock,
) -> String {
    let mut said =
        format!("{}: read as {}, {}", file.name, kind.name(), counted(found.len(), "entry", "entries"));
    let days = || found.iter().map(|entry| entry.when.time.date());
    match (days().min(), days().max()) {
        (Some(from), Some(to)) if from == to => said.push_str(&format!(" of {from}")),
        (Some(from), Some(to)) => said.push_str(&format!(" of {from} .. {to}")),
        _ => {}
    }
    if found.iter().any(|entry| entry.when.exactness != Exactness::Moment) {
        said.push_str(&format!(", with times of {}", clock.zone_name()));
    }
    if let Some(day) = file.day.filter(|_| of_day > 0) {
        said.push_str(&format!(", {} without a time taken to be of {day}", number(of_day)));
    }
    if not_readable > 0 {
        said.push_str(&format!(", not readable {}", number(not_readable)));
    }
    said
}

/// What is to be done, and who for.
struct Work<'a> {
    config: &'a Config,
    files: &'a [Contents],
    /// Who wrote what names nobody; `None` leaves it to the server.
    author: Option<Author>,
    /// All entries of the files, the oldest first.
    sorted: Vec<&'a Found<'a>>,
    not_readable: usize,
    /// Something of the diary could not be compared.
    damage: bool,
}

impl Work<'_> {
    async fn connect(&self, options: Options) -> Result<Client, u8> {
        let options = Options { author: self.author.clone(), ..options };
        Client::connect(self.config.server.clone(), options).await.map_err(|error| {
            say(format_args!("nothing was imported: {}", unreachable_sentence(&error)));
            exit::UNREACHABLE
        })
    }

    /// Reads what the diary has of the days of the files.
    async fn look(&mut self, client: &Client, compared: &Compared<'_>) -> Result<(), u8> {
        let Some((from, to)) = compared.days() else { return Ok(()) };
        // The days of the diary may begin later than at midnight, and in another zone.
        let mut history = client.history(server_days(Days { from, to }));
        let mut patience = Patience::new(client);
        let started = Instant::now();
        loop {
            tokio::select! {
                biased;
                event = history.next() => match event {
                    Some(Ok(Event::Entry(stored))) => compared.is_there(&stored.entry),
                    Some(Ok(gap)) => self.tell_damage(&gap),
                    Some(Err(error)) => {
                        say(format_args!("nothing was imported: {error}"));
                        return Err(if matches!(error, Error::Refused(_)) { exit::REFUSED } else { exit::UNREACHABLE });
                    }
                    None => return Ok(()),
                },
                () = patience.wait() => if let Some(error) = patience.look(HeldUp::End(started)) {
                    say(format_args!("nothing was imported: {}", unreachable_sentence(&error)));
                    return Err(exit::UNREACHABLE);
                },
            }
        }
    }

    fn tell_damage(&mut self, event: &Event) {
        self.damage = true;
        let what = match event {
            Event::Gap(Gap { first, last }) => format!("its entries {first}..{last} are damaged or missing"),
            _ => "some of its entries are damaged".to_owned(),
        };
        say(format_args!(
            "the diary cannot be compared in full: {what}, and if they are of these files, they come again"
        ));
    }

    /// Writes those of `sorted` that are missing, over as many connections as their keys take.
    async fn write(&self, client: Client, missing: &[usize], head: u64) -> Result<u8, u8> {
        let name = client.welcome().author;
        let mut sending = Sending::new(self, missing.len(), head);
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
                (None, Some(client)) => client,
                (secret, _) => {
                    self.connect(Options { secret: secret.clone(), first_counter, ..Options::default() })
                        .await?
                }
            };
            end = sending.send(client, &missing[run.clone()]).await;
            if end.is_some() {
                break;
            }
        }
        sending.bar.finish_and_clear();
        let there = self.sorted.len() - missing.len() + sending.known;
        if let Some(why) = &end {
            say(format_args!("{}", sending.stopped_sentence(why)));
        }
        Ok(self.tell(&name, sending.acked, there, Some((&sending, end))))
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
        let what = match &sent {
            Some(_) => format!("imported {}", number(imported)),
            None if self.sorted.is_empty() => "imported 0".to_owned(),
            None => format!("would import {} (as {}, if they name nobody)", number(imported), escape(name)),
        };
        let mut line =
            format!("{what}, there already {}, not readable {}", number(there), number(not_readable));
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

/// Why not all was written.
enum Stop {
    Interrupted {
        unacked: usize,
    },
    /// The server has no room.
    Full(Refusal),
    Lost {
        error: Error,
        unacked: usize,
    },
}

/// Entries on their way.
struct Sending<'a> {
    work: &'a Work<'a>,
    /// The newest entry when the diary was compared.
    head: u64,
    bar: ProgressBar,
    /// Places in the list of all, with what was sent and not answered.
    open: Unanswered<usize>,
    acked: usize,
    /// Acked with the number of an older entry: an archive has it.
    known: usize,
    refused: usize,
    full: Option<Refusal>,
}

impl<'a> Sending<'a> {
    fn new(work: &'a Work<'a>, count: usize, head: u64) -> Self {
        let style = ProgressStyle::with_template(BAR).expect("the template is sound");
        // It shows nothing where stderr is no terminal.
        let bar = ProgressBar::new(count as u64).with_style(style);
        Self { work, head, bar, open: VecDeque::new(), acked: 0, known: 0, refused: 0, full: None }
    }

    /// Sends the entries at these places and waits for their acks.
    async fn send(&mut self, client: Client, places: &[usize]) -> Option<Stop> {
        let mut patience = Patience::new(&client);
        let mut interrupt = pin!(interrupted());
        let mut left = places.iter();
        let mut stopped = false;
        let mut ended: Option<Instant> = None;
        loop {
            if self.full.is_some() || stopped {
                left = [].iter();
            }
            if left.len() == 0 {
                ended = ended.or_else(|| Some(Instant::now()));
                if self.open.is_empty() {
                    break;
                }
            }
            tokio::select! {
                biased;
                (place, answer) = answer_of_first(&mut self.open), if !self.open.is_empty() => {
                    patience.progress();
                    if let Err(error) = self.settle(place, answer) {
                        return Some(Stop::Lost { error, unacked: self.open.len() + 1 });
                    }
                }
                room = client.room(), if left.len() > 0 => {
                    let Some(&place) = left.next() else { continue };
                    match room.and_then(|room| room.send(self.work.entry(place))) {
                        Ok(pending) => self.open.push_back((place, pending.into())),
                        Err(Error::Refused(refusal)) => self.refuse(place, &refusal),
                        Err(error) => return Some(Stop::Lost { error, unacked: self.open.len() }),
                    }
                }
                () = interrupt.as_mut() => {
                    // The second time, nobody wants to wait.
                    if std::mem::replace(&mut stopped, true) {
                        return Some(Stop::Interrupted { unacked: self.open.len() });
                    }
                    interrupt.set(interrupted());
                }
                () = patience.wait() => {
                    let held_up = ended.map_or(HeldUp::Input, HeldUp::End);
                    if let Some(error) = patience.look(held_up) {
                        return Some(Stop::Lost { error, unacked: self.open.len() });
                    }
                }
            }
        }
        // All is answered: whether the server still says goodbye is not worth an error.
        let _ = client.close().await;
        match (self.full.take(), stopped) {
            (Some(refusal), _) => Some(Stop::Full(refusal)),
            (None, true) => Some(Stop::Interrupted { unacked: 0 }),
            (None, false) => None,
        }
    }

    fn settle(&mut self, place: usize, answer: Result<Ack, Error>) -> Result<(), Error> {
        match answer {
            Ok(ack) => {
                let count = if ack.seq > self.head { &mut self.acked } else { &mut self.known };
                *count += 1;
                self.bar.inc(1);
            }
            Err(Error::Refused(refusal)) if refusal.code == Code::DiskFull => self.full = Some(refusal),
            Err(Error::Refused(refusal)) => self.refuse(place, &refusal),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn refuse(&mut self, place: usize, refusal: &Refusal) {
        self.refused += 1;
        let Found { file, line, .. } = self.work.sorted[place];
        let name = &self.work.files[*file].name;
        self.bar.suspend(|| say(format_args!("{name}, line {line}: refused: {refusal}")));
    }

    fn stopped_sentence(&self, stop: &Stop) -> String {
        let (why, unacked) = match stop {
            Stop::Interrupted { unacked } => ("stopped".to_owned(), *unacked),
            Stop::Full(refusal) => (format!("the server has no room: {refusal}"), 0),
            Stop::Lost { error, unacked } => (unreachable_sentence(error), *unacked),
        };
        let acked = counted(self.acked, "entry is", "entries are");
        let open = match unacked {
            0 => String::new(),
            count => format!(", of {} it is not known", number(count)),
        };
        format!("{why}: {acked} in the diary{open}; the same command goes on from there")
    }
}

impl Work<'_> {
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
