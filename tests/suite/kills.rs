//! A server that is killed again and again, in the middle of what its clients do: nothing acked is lost,
//! doubled or moved, and no reader ever saw anything else.
//!
//! `DIARY_TEST_BUDGET` (1) multiplies the rounds.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use diary_client::{Ack, Author, Client, Error, Event, Options, Pending, Secret, Which};
use diary_proto::Seal;
use diary_proto::entry::{StoredLine, is_note};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{
    Frames, Process, Random, acked, budget, day_files, plain_server_command, run, seal_in, server_command,
    soon,
};

/// Rounds that one diary lives through.
const ROUNDS_PER_LIFE: u64 = 50;

/// Lives in CI: 200 rounds.
const LIVES: u64 = 4;

/// Lives that go on at the same time: their clients wait for servers most of the time.
const LIVES_AT_ONCE: usize = 2;

/// Entries that a client has sent and not yet seen acked.
const IN_FLIGHT: usize = 40;

/// A round ends after fewer acks than this, or as soon as the server listens.
const ACKS_MAX: usize = 250;

/// No client connects from an address other than 127.0.0.1, so nothing takes the port while the server is
/// away, and nobody who tries to reach it then meets himself.
const FIRST_LISTEN: &str = "127.0.0.2:0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::print_stdout, reason = "the counts are part of what is shown")]
async fn two_hundred_kills_lose_double_and_move_nothing() {
    let lives = LIVES * budget();
    let tallies = futures::stream::iter(1..=lives)
        .map(|seed| async move { tokio::spawn(live(seed)).await.unwrap() })
        .buffer_unordered(LIVES_AT_ONCE)
        .collect::<Vec<Tally>>();
    let mut total = Tally::default();
    for tally in tallies.await {
        total.add(&tally);
    }
    println!("{total:?}");
    // What this test is for has happened.
    assert_eq!(total.kills + total.stops, lives * ROUNDS_PER_LIFE);
    assert_eq!(total.stops, lives * (ROUNDS_PER_LIFE / 3));
    let least = lives * ROUNDS_PER_LIFE * 10;
    assert!(total.acks > least && total.followed > least && total.read > least, "{total:?}");
    assert!(total.unknown > lives * ROUNDS_PER_LIFE && total.unknown_stored > 0, "{total:?}");
}

/// How much happened.
#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    stops: u64,
    acks: u64,
    /// Appends that were sent and not answered, and how many of these are stored.
    unknown: u64,
    unknown_stored: u64,
    followed: u64,
    read: u64,
    /// Restarts that set an unfinished batch aside.
    torn: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.kills += other.kills;
        self.stops += other.stops;
        self.acks += other.acks;
        self.unknown += other.unknown;
        self.unknown_stored += other.unknown_stored;
        self.followed += other.followed;
        self.read += other.read;
        self.torn += other.torn;
    }
}

/// One diary, from its first entry over many kills to the check of what everybody saw.
async fn live(seed: u64) -> Tally {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let mut random = Random::new(seed);
    let mut tally = Tally::default();

    let made = run(plain_server_command().args(["journal", "add", "other", "--data"]).arg(&data), "").await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let mut process = start(&data, FIRST_LISTEN, &log).await;
    let address = process.address().to_owned();
    let moment = Moment::default();
    let mut producers = Vec::new();
    for number in 0..3 {
        producers.push(Producer::start(&address, number, &moment).await);
    }
    // Another journal of the same server, in the middle of all that.
    let elsewhere = Producer::start(&format!("{address}=other"), 3, &moment).await;
    // Two that follow all, one from the start, one from where it came.
    let watcher = client(&address, "watcher").await;
    let mut followers = [Follower::start(&watcher, Some(1)), Follower::start(&watcher, None)];
    let reading = tokio::spawn(read_pages(watcher.clone(), moment.clone()));

    // What strangers saw, who are there for one round each.
    let mut seen = Seen::default();
    let mut journal = Vec::new();
    for round in 0..ROUNDS_PER_LIFE {
        let what = format!("seed {seed}, round {round}");
        let reached = moment.after(random.below(ACKS_MAX) as u64);
        // It is connected before anything is ended: its task may begin later than that.
        let plain = TcpStream::connect(&address).await.unwrap();
        let plain = tokio::spawn(write_lines(plain, format!("plain {round}"), moment.clone()));
        let leave = CancellationToken::new();
        let leaving = client(&address, "passer-by").await;
        let leaving = tokio::spawn(write_and_leave(leaving, round, moment.clone(), leave.clone()));
        soon(&what, reached).await;
        if round % 3 == 2 {
            process.signal(Signal::TERM);
            assert_eq!(process.wait().await, Some(0), "{what}");
            tally.stops += 1;
        } else {
            process.signal(Signal::KILL);
            assert_eq!(process.wait().await, None, "{what}");
            tally.kills += 1;
        }
        seen.add(soon(&what, plain).await.unwrap());
        if random.below(2) == 0 {
            // It leaves while nobody serves; else it may be served once more before it leaves.
            leave.cancel();
        }

        let left_behind = sound_entries(&data.join("diary"));
        assert!(left_behind.starts_with(&journal), "{what}: what was there is there after the end");
        process = start(&data, &address, &log).await;
        leave.cancel();
        seen.add(soon(&what, leaving).await.unwrap());
        journal = history(&address).await;
        assert!(journal.starts_with(&left_behind), "{what}: what was left is served");
    }

    // Everybody ends well, and the journal is what it will always be.
    moment.stop();
    for producer in producers {
        producer.finish(&mut seen).await;
    }
    let mut seen_elsewhere = Seen::default();
    elsewhere.finish(&mut seen_elsewhere).await;
    let pages = soon("the reader ends", reading).await.unwrap();
    let last = history(&address).await;
    assert!(last.starts_with(&journal), "seed {seed}");
    let seal = seal_in(&fs::read(&day_files(&data.join("diary"))[0]).unwrap());
    let entries = Entries::of(&last, seal);
    for follower in &mut followers {
        follower.catch_up(entries.lefts.len()).await;
    }
    drop(watcher);
    process.stop().await;
    let process = start(&data, &address, &log).await;
    assert!(history(&address).await == last, "seed {seed}: the same after the last restart");
    process.stop().await;
    assert!(sound_entries(&data.join("diary")) == last, "seed {seed}: the same on disk");

    entries.check(seed, &seen, &mut tally);
    let other = sound_entries(&data.join("other"));
    let seal = seal_in(&fs::read(&day_files(&data.join("other"))[0]).unwrap());
    Entries::of(&other, seal).check(seed, &seen_elsewhere, &mut tally);
    for (place, follower) in followers.iter().enumerate() {
        entries.check_slice(&follower.lefts, &format!("seed {seed}, follower {place}"));
        tally.followed += follower.lefts.len() as u64;
    }
    assert_eq!(followers[0].lefts.len(), entries.lefts.len(), "seed {seed}: from the start");
    for page in &pages {
        entries.check_slice(page, &format!("seed {seed}, a page"));
        tally.read += page.len() as u64;
    }
    let log = fs::read_to_string(log).unwrap();
    assert!(!log.contains("ERROR") && !log.contains("panicked"), "seed {seed}: {log}");
    tally.torn = log.matches("was not finished when the server stopped").count() as u64;
    tally
}

async fn start(data: &Path, listen: &str, log: &Path) -> Process {
    let mut command = server_command(data);
    command.args(["--listen", listen, "--timezone", "UTC", "--log", "warn"]);
    command.stderr(OpenOptions::new().create(true).append(true).open(log).unwrap());
    Process::spawn(command, 1).await
}

async fn client(address: &str, name: &str) -> Client {
    let author = Some(Author::new(&name.replace(' ', "-")).unwrap());
    connected(address, Options { author, ..Options::default() }).await
}

async fn connected(address: &str, options: Options) -> Client {
    soon("a client connects", Client::connect(address.parse().unwrap(), options)).await.unwrap()
}

/// All entries that a server has, as they are stored.
async fn history(address: &str) -> Vec<u8> {
    let mut frames = Frames::hello(address, 0xcc).await;
    let answered = frames.history(7, Which::All).await;
    assert!(answered.dense);
    without_notes(&answered.lines)
}

/// All entries on disk up to the first line that is not sound: what a restart has to serve.
fn sound_entries(journal: &Path) -> Vec<u8> {
    let mut entries = Vec::new();
    for file in day_files(journal) {
        let bytes = fs::read(file).unwrap();
        for (place, line) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
            let Some(whole) = line.strip_suffix(b"\n") else { return entries };
            let seal = seal_in(&bytes);
            if place == 0 || is_note(whole, seal) {
                continue;
            }
            if StoredLine::parse(whole, seal).is_err() {
                return entries;
            }
            entries.extend_from_slice(line);
        }
    }
    entries
}

fn without_notes(lines: &[u8]) -> Vec<u8> {
    lines.split_inclusive(|&b| b == b'\n').filter(|line| !line.starts_with(b"#")).flatten().copied().collect()
}

// --- the moment of the kill ------------------------------------------------------------------------------

/// Counts acks of all clients of a diary, so that a kill comes in the middle of them.
#[derive(Clone)]
struct Moment {
    acks: Arc<watch::Sender<u64>>,
    stop: CancellationToken,
    /// Texts so far.
    texts: Arc<AtomicU64>,
}

impl Default for Moment {
    fn default() -> Self {
        Self { acks: Arc::new(watch::Sender::new(0)), stop: CancellationToken::new(), texts: Arc::default() }
    }
}

impl Moment {
    fn acked(&self) {
        self.acks.send_modify(|acks| *acks += 1);
    }

    /// Completes after so many more acks.
    fn after(&self, more: u64) -> impl Future<Output = ()> + use<> {
        let mut acks = self.acks.subscribe();
        let target = *acks.borrow() + more;
        async move { _ = acks.wait_for(|&acks| acks >= target).await }
    }

    /// A text that nobody else writes.
    fn text(&self, name: &str) -> String {
        let number = self.texts.fetch_add(1, Ordering::Relaxed);
        // Some span a page of the disk, so that a batch can be cut in the middle.
        let pad = if number.is_multiple_of(29) { "天气 ".repeat(700) } else { String::new() };
        format!("{name}, text {number} {pad}")
    }

    /// Producers and readers end.
    fn stop(&self) {
        self.stop.cancel();
    }
}

// --- those who write -------------------------------------------------------------------------------------

/// What writers know of their entries.
#[derive(Default)]
struct Seen {
    /// Acked: each writer's texts with their seqs, in the order in which they were sent.
    acked: Vec<Vec<(u64, String)>>,
    /// Sent and not answered.
    unknown: Vec<String>,
    /// Never sent.
    unsent: Vec<String>,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.acked.extend(other.acked);
        self.unknown.extend(other.unknown);
        self.unsent.extend(other.unsent);
    }
}

/// Someone with a key, who goes on for a whole life, over all kills.
struct Producer {
    running: JoinHandle<Vec<(u64, String)>>,
}

impl Producer {
    async fn start(address: &str, number: u8, moment: &Moment) -> Self {
        let name = format!("producer-{number}");
        let author = Some(Author::new(&name).unwrap());
        let secret = Some(Secret::new(vec![number; 16]).unwrap());
        let client = connected(address, Options { author, secret, ..Options::default() }).await;
        let moment = moment.clone();
        let running = tokio::spawn(async move {
            let (mut seen, mut in_flight) = (Vec::new(), VecDeque::new());
            while !moment.stop.is_cancelled() {
                let text = moment.text(&name);
                in_flight.push_back((client.send(text.clone()).await.unwrap(), text));
                if in_flight.len() >= IN_FLIGHT {
                    seen.push(first_ack(&mut in_flight, &moment).await);
                }
            }
            while !in_flight.is_empty() {
                seen.push(first_ack(&mut in_flight, &moment).await);
            }
            client.close().await.unwrap();
            seen
        });
        Self { running }
    }

    async fn finish(self, seen: &mut Seen) {
        seen.acked.push(soon("a producer ends", self.running).await.unwrap());
    }
}

async fn first_ack(in_flight: &mut VecDeque<(Pending, String)>, moment: &Moment) -> (u64, String) {
    let (pending, text) = in_flight.pop_front().unwrap();
    let Ack { seq, .. } = soon("an ack comes, over any kill", pending).await.unwrap();
    moment.acked();
    (seq, text)
}

/// Someone with a key who gives up once `leave` says so, and is told what is not acked.
async fn write_and_leave(client: Client, round: u64, moment: Moment, leave: CancellationToken) -> Seen {
    let mut answers = FuturesUnordered::new();
    let (mut acked, mut order) = (Vec::new(), HashMap::new());
    let mut take = |answer: Result<Ack, Error>, text: String| match answer {
        Ok(ack) => {
            moment.acked();
            acked.push((ack.seq, text));
        }
        Err(Error::Closed) => {}
        Err(error) => panic!("{error}"),
    };
    for place in 0.. {
        // Once the window is full of what nobody serves, only the end is left to wait for.
        if answers.len() < IN_FLIGHT {
            let text = moment.text(&format!("passer-by {round}"));
            order.insert(text.clone(), place);
            let pending = client.send(text.clone()).await.unwrap();
            answers.push(async move { (pending.await, text) });
            continue;
        }
        tokio::select! {
            biased;
            () = leave.cancelled() => break,
            Some((answer, text)) = answers.next() => take(answer, text),
        }
    }
    let left = client.give_up().await;
    while let Some((answer, text)) = answers.next().await {
        take(answer, text);
    }
    acked.sort_by_key(|(_, text)| order[text]);
    let (sent, unsent): (Vec<_>, Vec<_>) = left.into_iter().partition(|left| left.sent);
    assert_eq!(acked.len() + sent.len() + unsent.len(), order.len(), "every entry has one fate");
    let texts = |left: Vec<diary_client::NotAcked>| left.into_iter().map(|left| left.text).collect();
    Seen { acked: vec![acked], unknown: texts(sent), unsent: texts(unsent) }
}

/// Someone without keys, in line mode, until the connection breaks.
async fn write_lines(stream: TcpStream, name: String, moment: Moment) -> Seen {
    let (mut acks, mut in_flight) = (Vec::new(), VecDeque::new());
    let (reader, mut writer) = stream.into_split();
    let mut answers = BufReader::new(reader).lines();
    let greeting = soon("a greeting or the end", answers.next_line()).await;
    while let Ok(Some(_)) = greeting {
        let text = moment.text(&name);
        let sent = soon("it takes input or ends", writer.write_all(format!("{text}\n").as_bytes())).await;
        in_flight.push_back(text);
        if sent.is_ok() && in_flight.len() < IN_FLIGHT {
            continue;
        }
        let answer = match soon("an answer or the end", answers.next_line()).await {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => break,
        };
        match acked(&answer) {
            Some(seq) => acks.push((seq, in_flight.pop_front().unwrap())),
            None if answer.starts_with("bye") => break,
            None => panic!("{answer}"),
        }
        moment.acked();
    }
    Seen { acked: vec![acks], unknown: in_flight.into(), unsent: Vec::new() }
}

// --- those who read --------------------------------------------------------------------------------------

/// Someone who follows, over all kills.
struct Follower {
    lefts: Vec<String>,
    running: Option<JoinHandle<Vec<String>>>,
    enough: watch::Sender<usize>,
}

impl Follower {
    fn start(client: &Client, from: Option<u64>) -> Self {
        let (enough, mut until) = watch::channel(usize::MAX);
        let mut history = client.follow(from);
        let running = tokio::spawn(async move {
            let mut lefts: Vec<String> = Vec::new();
            loop {
                let seq = lefts.last().map_or(0, |left| seq_of(left));
                if seq >= *until.borrow_and_update() {
                    return lefts;
                }
                tokio::select! {
                    event = history.next() => lefts.push(entry(event.expect("a follow has no end"))),
                    _ = until.changed() => {}
                }
            }
        });
        Self { lefts: Vec::new(), running: Some(running), enough }
    }

    async fn catch_up(&mut self, head: usize) {
        self.enough.send_replace(head);
        let running = self.running.take().unwrap();
        self.lefts = soon("a follower catches up", running).await.unwrap();
    }
}

/// Someone who reads the newest entries again and again.
async fn read_pages(client: Client, moment: Moment) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    while !moment.stop.is_cancelled() {
        let mut reading = client.history(Which::Last(100));
        let mut page = Vec::new();
        while let Some(event) = soon("a page goes on, over any kill", reading.next()).await {
            page.push(entry(event));
        }
        pages.push(page);
        // The next page has something new.
        tokio::select! {
            () = moment.after(20) => {}
            () = moment.stop.cancelled() => {}
        }
    }
    pages
}

fn entry(event: Result<Event, Error>) -> String {
    match event.unwrap() {
        Event::Entry(stored) => stored.left,
        other => panic!("{other:?}"),
    }
}

fn seq_of(left: &str) -> usize {
    left.split(' ').next().unwrap().parse().unwrap()
}

// --- the checker -----------------------------------------------------------------------------------------

/// The journal in the end.
struct Entries {
    lefts: Vec<String>,
    /// Every seq of a text.
    seqs: BTreeMap<String, Vec<u64>>,
}

impl Entries {
    fn of(lines: &[u8], seal: Seal) -> Self {
        let (mut lefts, mut seqs) = (Vec::new(), BTreeMap::<String, Vec<u64>>::new());
        let mut keys = HashMap::new();
        for line in lines.split_inclusive(|&b| b == b'\n') {
            let line = StoredLine::parse(&line[..line.len() - 1], seal).unwrap();
            lefts.push(line.left.to_owned());
            assert_eq!(line.seq, lefts.len() as u64, "seqs have no gap");
            seqs.entry(line.unescaped().into_owned()).or_default().push(line.seq);
            if let Some(key) = line.key {
                let before = keys.insert((key.producer, key.counter), line.seq);
                assert_eq!(before, None, "a key has one entry, and this one has {}", line.seq);
            }
        }
        Self { lefts, seqs }
    }

    fn check(&self, seed: u64, seen: &Seen, tally: &mut Tally) {
        let mut known = 0;
        for writer in &seen.acked {
            for (seq, text) in writer {
                let found = self.seqs.get(text).map(Vec::as_slice);
                assert_eq!(found, Some(&[*seq][..]), "seed {seed}: acked as {seq}: {text}");
            }
            assert!(writer.is_sorted_by_key(|(seq, _)| seq), "seed {seed}: a writer's order is kept");
            known += writer.len();
        }
        tally.acks += known as u64;
        for text in &seen.unknown {
            let stored = self.seqs.get(text).map_or(0, Vec::len);
            assert!(stored <= 1, "seed {seed}: stored {stored} times: {text}");
            tally.unknown += 1;
            tally.unknown_stored += stored as u64;
            known += stored;
        }
        for text in &seen.unsent {
            assert_eq!(self.seqs.get(text), None, "seed {seed}: never sent: {text}");
        }
        assert_eq!(known, self.lefts.len(), "seed {seed}: nothing is stored that nobody sent");
    }

    /// What a reader saw is a part of the journal, without a gap.
    fn check_slice(&self, lefts: &[String], what: &str) {
        let Some(first) = lefts.first() else { return };
        let first = seq_of(first) - 1;
        for (seen, stored) in lefts.iter().zip(&self.lefts[first..]) {
            assert_eq!(seen, stored, "{what}");
        }
        assert!(lefts.len() <= self.lefts.len() - first, "{what}: more than there is");
    }
}
