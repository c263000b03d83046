//! What is acked stays: eight clients at once, a server that is killed in the middle, and nothing lost,
//! doubled or out of order.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use diary_proto::message::ServerMessage;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

use crate::support::{Frames, Lines, Process, acked, pairs, seq, soon, text};

/// Lines that a line mode client has sent and not yet seen acked.
const IN_FLIGHT: usize = 20;

/// What every client saw acked: seqs with their texts.
type Acked = BTreeMap<u64, String>;

/// Counts acks of all clients, so that the kill comes in the middle of them.
struct Moment {
    acks: AtomicU64,
    kill_at: u64,
    reached: Notify,
}

impl Moment {
    fn acked(&self, count: u64) {
        let before = self.acks.fetch_add(count, Ordering::Relaxed);
        if before < self.kill_at && before + count >= self.kill_at {
            self.reached.notify_one();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_nothing_acked_is_lost_or_doubled() {
    for seed in [1, 20_260_707, 0xdead_beef] {
        rounds(seed, 4).await;
    }
}

/// Some rounds on one diary: serve, kill at a moment that the seed chooses, start again.
async fn rounds(seed: u64, rounds: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(seed);
    let mut acked = Acked::new();
    let mut followers = [Followed::default(), Followed::default()];
    let mut keyed = [Keyed::new(1), Keyed::new(2)];
    for round in 0..rounds {
        let what = format!("seed {seed}, round {round}");
        let mut process = serve(folder.path()).await;
        let kill_at = 1 + random.below(1500);
        let moment = Arc::new(Moment { acks: AtomicU64::new(0), kill_at, reached: Notify::new() });
        let address = process.address().to_owned();
        let mut writers = Vec::new();
        for writer in 0..4 {
            let (address, moment, what) = (address.clone(), Arc::clone(&moment), what.clone());
            writers.push(tokio::spawn(async move {
                write_lines(&address, &format!("{what}, writer {writer}"), &moment).await
            }));
        }
        let mut following = Vec::new();
        for (place, follower) in followers.iter_mut().enumerate() {
            let (address, moment) = (address.clone(), Arc::clone(&moment));
            let (mut taken, name) = (std::mem::take(follower), format!("{what}, follower {place}"));
            following.push(tokio::spawn(async move {
                let acked = taken.follow_and_write(&address, &name, &moment).await;
                (taken, acked)
            }));
        }
        let mut retrying = Vec::new();
        for producer in &mut keyed {
            let (address, moment) = (address.clone(), Arc::clone(&moment));
            let mut taken = std::mem::replace(producer, Keyed::new(0));
            retrying.push(tokio::spawn(async move {
                taken.append(&address, &moment).await;
                taken
            }));
        }
        soon("enough acks", moment.reached.notified()).await;
        process.signal(Signal::KILL);
        process.wait().await;

        for writer in writers {
            merge(&mut acked, soon("a writer ends", writer).await.unwrap(), &what);
        }
        for (follower, task) in followers.iter_mut().zip(following) {
            let (taken, its) = soon("a follower ends", task).await.unwrap();
            *follower = taken;
            merge(&mut acked, its, &what);
        }
        for (producer, task) in keyed.iter_mut().zip(retrying) {
            *producer = soon("a producer ends", task).await.unwrap();
            merge(&mut acked, producer.acked.clone(), &what);
        }
    }

    // The last start: keyed clients finish what they have in flight, followers catch up.
    let process = serve(folder.path()).await;
    for producer in &mut keyed {
        producer.finish(process.address()).await;
        merge(&mut acked, producer.acked.clone(), "at the end");
    }
    let mut reader = Lines::connect(process.address()).await;
    let stored: Vec<String> = reader.history("all").await;
    for (seq_expected, entry) in (1..).zip(&stored) {
        assert_eq!(seq(entry), Some(seq_expected), "seed {seed}");
    }
    for (seq, text_acked) in &acked {
        let entry = stored.get(*seq as usize - 1);
        assert_eq!(entry.map(|entry| text(entry)), Some(&**text_acked), "seed {seed}: acked as {seq}");
    }
    for producer in &keyed {
        for counter in 0..producer.next {
            let copies = stored.iter().filter(|entry| text(entry) == producer.text(counter)).count();
            assert_eq!(copies, 1, "seed {seed}: {}", producer.text(counter));
        }
    }
    for follower in &mut followers {
        follower.catch_up(process.address(), stored.len()).await;
        assert_eq!(follower.entries, stored, "seed {seed}");
    }
    process.stop().await;
}

async fn serve(data: &Path) -> Process {
    Process::start(data, &["127.0.0.1:0"], &["--timezone", "UTC", "--log", "error"]).await
}

/// Adds what one client saw acked. No seq is acked for two texts.
fn merge(all: &mut Acked, some: Acked, what: &str) {
    for (seq, text) in some {
        let before = all.insert(seq, text.clone());
        assert!(
            before.as_ref().is_none_or(|before| *before == text),
            "{what}: {seq} is {before:?} and {text:?}"
        );
    }
}

/// A line mode client whose connection may break at any moment.
struct Fragile {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Fragile {
    async fn connect(address: &str) -> Option<Self> {
        let (reader, writer) = TcpStream::connect(address).await.ok()?.into_split();
        let mut client = Self { reader: BufReader::new(reader), writer };
        client.line().await?;
        Some(client)
    }

    /// The next whole line; `None` once the connection has broken.
    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        soon("a line or the end", self.reader.read_line(&mut line)).await.ok()?;
        line.strip_suffix('\n').map(str::to_owned)
    }

    /// Sends a line; `None` once the connection has broken.
    async fn send(&mut self, line: &str) -> Option<()> {
        soon("input is taken or refused", self.writer.write_all(format!("{line}\n").as_bytes())).await.ok()
    }
}

/// Writes until the connection breaks. Returns what was acked.
async fn write_lines(address: &str, name: &str, moment: &Moment) -> Acked {
    let mut seen = Acked::new();
    let Some(mut client) = Fragile::connect(address).await else { return seen };
    let mut in_flight = VecDeque::new();
    for n in 0.. {
        let text = format!("{name}, line {n}");
        let sent = client.send(&text).await;
        in_flight.push_back(text);
        if in_flight.len() < IN_FLIGHT && sent.is_some() {
            continue;
        }
        let Some(answer) = client.line().await else { break };
        let seq = acked(&answer).unwrap_or_else(|| panic!("{name}: {answer}"));
        seen.insert(seq, in_flight.pop_front().unwrap());
        moment.acked(1);
    }
    seen
}

/// What a follower has seen, over all of its connections.
#[derive(Default)]
struct Followed {
    entries: Vec<String>,
}

impl Followed {
    /// Goes on where it was, and writes as well, until the connection breaks. Returns what was acked.
    async fn follow_and_write(&mut self, address: &str, name: &str, moment: &Moment) -> Acked {
        let mut seen = Acked::new();
        let Some(mut client) = Fragile::connect(address).await else { return seen };
        let from = self.entries.len() + 1;
        if client.send(&format!("/follow #{from}")).await.is_none() {
            return seen;
        }
        match client.line().await {
            Some(answer) => assert_eq!(answer, format!("ok follow from {from}"), "{name}"),
            None => return seen,
        }
        let mut n = 0;
        let mut in_flight = format!("{name}, line {n}");
        let _ = client.send(&in_flight).await;
        while let Some(line) = client.line().await {
            if let Some(seq) = acked(&line) {
                seen.insert(seq, in_flight);
                moment.acked(1);
                n += 1;
                in_flight = format!("{name}, line {n}");
                let _ = client.send(&in_flight).await;
            } else {
                self.take(line, name);
            }
        }
        seen
    }

    fn take(&mut self, line: String, name: &str) {
        self.entries.push(line);
        let line = self.entries.last().unwrap();
        assert_eq!(seq(line), Some(self.entries.len() as u64), "{name}: {line}");
    }

    async fn catch_up(&mut self, address: &str, head: usize) {
        let mut client = Lines::connect(address).await;
        client.ask(&format!("/follow #{}", self.entries.len() + 1)).await;
        while self.entries.len() < head {
            let line = client.line().await;
            self.take(line, "at the end");
        }
    }
}

/// A frame mode client with keys, which sends again what was not answered.
struct Keyed {
    secret: u8,
    /// The next counter that was never sent.
    next: u64,
    acked_counters: u64,
    acked: Acked,
}

impl Keyed {
    fn new(secret: u8) -> Self {
        Self { secret, next: 0, acked_counters: 0, acked: Acked::new() }
    }

    fn text(&self, counter: u64) -> String {
        format!("producer {}, entry {counter}", self.secret)
    }

    /// Appends until the connection breaks.
    async fn append(&mut self, address: &str, moment: &Moment) {
        let Some(mut client) = self.connect(address).await else { return };
        loop {
            if self.next - self.acked_counters < 30 {
                let first = self.next;
                self.next += 1 + first % 7;
                if self.send(&mut client, first, false).await.is_none() {
                    return;
                }
                continue;
            }
            match self.answers(&mut client).await {
                Some(count) => moment.acked(count),
                None => return,
            }
        }
    }

    /// Sends again what was not answered, and waits for all of it.
    async fn finish(&mut self, address: &str) {
        let mut client = self.connect(address).await.expect("the server stays");
        while self.acked_counters < self.next {
            self.answers(&mut client).await.expect("the server stays");
        }
    }

    /// Connects, and sends again what was not answered.
    async fn connect(&self, address: &str) -> Option<Frames> {
        let mut client = Frames::try_hello(address, self.secret).await?;
        if self.acked_counters < self.next {
            self.send(&mut client, self.acked_counters, true).await?;
        }
        Some(client)
    }

    /// Sends everything from `first` on.
    async fn send(&self, client: &mut Frames, first: u64, retry: bool) -> Option<()> {
        let texts: Vec<String> = (first..self.next).map(|counter| self.text(counter)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        client.try_append(first, retry, &texts).await
    }

    /// Takes one message of acks; they come in the order of the counters.
    async fn answers(&mut self, client: &mut Frames) -> Option<u64> {
        let runs = match client.next().await? {
            ServerMessage::Acks(runs) => pairs(&runs),
            other => panic!("{other:?}"),
        };
        for &(counter, seq) in &runs {
            assert_eq!(counter, self.acked_counters, "answers keep the order of the appends");
            self.acked.insert(seq, self.text(counter));
            self.acked_counters += 1;
        }
        Some(runs.len() as u64)
    }
}

/// A small generator, so that a seed replays (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}
