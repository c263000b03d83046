//! Peers that break every rule, at a live server, beside witnesses that keep them: every entry of the witnesses is there,
//! once and in its place, every reader saw all there is, nothing that could harm a terminal is ever said, and the server
//! ends as it should.
//!
//! It takes a minute; `DIARY_TEST_BUDGET` (1) is for how many minutes it goes on, each with a diary of its own.
//! `DIARY_TEST_SEED` gives each peer the script again that it had; when it comes to what, nobody decides.

mod peers;
mod scripts;
mod witness;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use diary_proto::entry::{StoredLine, is_note};
use diary_proto::escape::is_safe;
use diary_proto::{Relation, Seal, Which};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::{
    Frames, Lines, Process, Random, Relay, budget, day_files, plain_server_command, run, seal_in,
    server_command, soon,
};
use witness::{Written, digest};

/// A life of a diary.
const LIFE: Duration = Duration::from_secs(60);

/// Hostile peers at once: few enough that they cannot use up a budget of the server, by which it would have to close
/// somebody.
const AT_ONCE: usize = 8;

/// Each that is the last of so many cuts the connections of the witnesses that stand that.
const CUT_ONCE_IN: u64 = 200;

/// A cut comes after at most so many bytes more.
const CUT_AFTER_BYTES: usize = 20_000;

/// Hostile peers that a life has at least: on a slow machine it is longer.
const PEERS_MIN: u64 = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::print_stdout, reason = "the seed and the counts are part of what is shown")]
async fn no_hostile_peer_harms_a_witness() {
    let one = std::env::var("DIARY_TEST_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let first = one.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    let lives = if one.is_some() { 1 } else { budget() };
    for seed in first..first + lives {
        println!("this replays it: DIARY_TEST_SEED={seed}");
        let tally = live(seed).await;
        println!("{tally:?}");
        // What this test is for has happened.
        let Tally { entries, witnessed, cuts, .. } = tally;
        assert!(witnessed > 0 && cuts > 0, "{tally:?}");
        assert!(entries > witnessed, "the peers' entries are there too: {tally:?}");
    }
}

/// How much happened.
#[derive(Debug)]
#[allow(dead_code, reason = "shown")]
struct Tally {
    peers: u64,
    entries: u64,
    witnessed: u64,
    cuts: u32,
    bytes: u64,
}

/// Where the server is reached.
struct Doors {
    open: String,
    quiet: String,
    proxy: String,
    unix: String,
    udp: String,
    quiet_udp: String,
}

impl Doors {
    fn of(process: &Process) -> Self {
        let door = |kind| {
            let mut found = process.addresses.iter().filter_map(|address| address.strip_prefix(kind));
            // `quiet:` stands before other kinds, too.
            found.find(|address| address.starts_with("127.") || address.starts_with('/')).unwrap().to_owned()
        };
        Self {
            open: door(""),
            quiet: door("quiet:"),
            proxy: door("proxy:"),
            unix: door("unix:"),
            udp: door("udp:"),
            quiet_udp: door("quiet:udp:"),
        }
    }
}

/// What all who take part know.
#[derive(Clone)]
struct Scene {
    doors: Arc<Doors>,
    /// How many peers have come and gone: witnesses write at their pace.
    gone: Arc<watch::Sender<u64>>,
    over: CancellationToken,
}

impl Scene {
    fn turns(&self) -> Turns {
        Turns { gone: self.gone.subscribe(), over: self.over.clone() }
    }
}

/// When a witness goes on.
struct Turns {
    gone: watch::Receiver<u64>,
    over: CancellationToken,
}

impl Turns {
    /// Waits for a peer to go; false once all is over.
    async fn next(&mut self) -> bool {
        tokio::select! {
            changed = self.gone.changed() => changed.is_ok(),
            () = self.over.cancelled() => false,
        }
    }
}

/// One diary, from the first peer to the check of what is there.
async fn live(seed: u64) -> Tally {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let mut process = start(&data, &log).await;
    let doors = Arc::new(Doors::of(&process));
    let relay = Relay::start(&doors.open).await;
    let scene = Scene { doors, gone: Arc::new(watch::Sender::new(0)), over: CancellationToken::new() };

    let last = watch::Sender::new(u64::MAX);
    let through = || relay.address().to_owned();
    let followers = [
        tokio::spawn(witness::follow_lines(scene.clone(), last.subscribe())),
        tokio::spawn(witness::follow_frames(through(), last.subscribe())),
    ];
    let writers = [
        tokio::spawn(witness::write_lines(scene.clone())),
        tokio::spawn(witness::write_frames(scene.clone(), through())),
        tokio::spawn(witness::write_quietly(scene.clone())),
    ];
    let numbers = Arc::new(AtomicU64::new(0));
    let until = Instant::now() + LIFE;
    let hostile: Vec<JoinHandle<()>> = (0..AT_ONCE)
        .map(|_| tokio::spawn(visit_until(until, seed, Arc::clone(&numbers), scene.clone(), relay.clone())))
        .collect();
    for peer in hostile {
        peer.await.unwrap();
    }
    scene.over.cancel();
    let mut witnessed = Vec::new();
    for writer in writers {
        witnessed.push(soon("a witness ends", writer).await.unwrap());
    }

    let seal = seal_in(&fs::read(&day_files(&data.join("diary"))[0]).unwrap());
    let entries = history(&scene.doors.open, seal).await;
    last.send_replace(entries.digests.len() as u64);
    for (place, follower) in followers.into_iter().enumerate() {
        let seen = soon("a follower catches up", follower).await.unwrap();
        check_seen(&entries.digests, &seen, &format!("follower {place}"));
    }
    check_seen(&entries.seen, &shown(&scene.doors.open).await, "line mode");
    witnessed.iter().for_each(|written| entries.check_written(written));
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.wait().await, Some(0));
    let verified = run(plain_server_command().args(["verify", "--data"]).arg(&data), "").await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
    check_log(&log);
    Tally {
        peers: numbers.load(Ordering::Relaxed),
        entries: entries.digests.len() as u64,
        witnessed: witnessed.iter().map(|written| written.len() as u64).sum(),
        cuts: relay.cut_count(),
        bytes: entries.bytes,
    }
}

async fn start(data: &Path, log: &Path) -> Process {
    let mut command = server_command(data);
    let unix = data.with_file_name("socket");
    let listen = format!(
        "127.0.0.1:0,quiet:127.0.0.1:0,proxy:127.0.0.1:0,unix:{},quiet:udp:127.0.0.1:0",
        unix.display()
    );
    command.args(["--listen", &listen, "--udp", "127.0.0.1:0", "--open"]);
    command.args(["--timezone", "UTC"]).stderr(File::create(log).unwrap());
    Process::spawn(command, 6).await
}

/// Peers one behind the other. Each has its script from the seed and its number.
async fn visit_until(until: Instant, seed: u64, numbers: Arc<AtomicU64>, scene: Scene, relay: Relay) {
    while Instant::now() < until || numbers.load(Ordering::Relaxed) < PEERS_MIN {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let mut random = Random::new(seed.wrapping_add(number << 32));
        if number % CUT_ONCE_IN == CUT_ONCE_IN - 1 {
            relay.open_and_cut_after(random.below(CUT_AFTER_BYTES) as i64);
        }
        peers::visit(&scene.doors, &mut random, &format!("seed {seed}, peer {number}")).await;
        scene.gone.send_modify(|gone| *gone += 1);
    }
}

// --- the checker -----------------------------------------------------------------------------------------

/// The journal in the end.
struct Entries {
    digests: Vec<u64>,
    /// The same of what people see: hostile peers correct each other.
    seen: Vec<u64>,
    /// All seqs of each text that begins as a witness's do, and its author.
    witnessed: HashMap<String, Vec<(u64, String)>>,
    bytes: u64,
}

/// All entries as they are stored, each sound and behind the one before it.
async fn history(address: &str, seal: Seal) -> Entries {
    let answered = Frames::hello(address, 0xcc).await.history(7, Which::All).await;
    let bytes = answered.lines.len() as u64;
    let (mut entries, mut newest) =
        (Entries { digests: Vec::new(), seen: Vec::new(), witnessed: HashMap::new(), bytes }, HashMap::new());
    for line in answered.lines.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
        if is_note(line, seal) {
            continue;
        }
        let line = StoredLine::parse(line, seal).unwrap();
        assert!(is_safe(line.left.as_bytes()), "{}", line.left);
        if let Some(Relation::Corrects(corrected)) = line.relation {
            newest.insert(corrected, line);
        }
        entries.digests.push(digest(line.left));
        assert_eq!(line.seq, entries.digests.len() as u64, "seqs have no gap");
        if line.text.contains("-witness ") {
            let seqs = entries.witnessed.entry(line.unescaped().into_owned()).or_default();
            seqs.push((line.seq, line.author.to_owned()));
        }
    }
    assert_eq!(answered.last, entries.digests.len() as u64);
    let lines = answered.lines.split(|&b| b == b'\n').filter_map(|line| StoredLine::parse(line, seal).ok());
    let seen = lines.filter(|line| !line.relation.is_some_and(Relation::is_correction)).map(|line| {
        match newest.get(&line.seq) {
            Some(newest) => digest(&line.corrected_left(newest)),
            None => digest(line.left),
        }
    });
    entries.seen = seen.collect();
    entries
}

/// All entries as line mode shows them.
async fn shown(address: &str) -> Vec<u64> {
    let lines = Lines::connect(address).await.history("all").await;
    lines.iter().for_each(|line| assert!(is_safe(line.as_bytes()), "{line:?}"));
    lines.iter().map(|line| digest(line)).collect()
}

/// A reader saw exactly what is there.
fn check_seen(expected: &[u64], seen: &[u64], what: &str) {
    let differs = expected.iter().zip(seen).position(|(expected, seen)| expected != seen);
    assert_eq!(differs.map(|place| place + 1), None, "{what}: this entry differs");
    assert_eq!(seen.len(), expected.len(), "{what}");
}

impl Entries {
    /// Everything that a witness wrote is there once, with its seq, in order, and under its name.
    fn check_written(&self, written: &[Written]) {
        let mut last = 0;
        for (acked, text) in written {
            let found = self.witnessed.get(text).map_or(&[][..], Vec::as_slice);
            let [(seq, author)] = found else { panic!("acked as {acked:?}, there as {found:?}: {text:?}") };
            assert!(acked.is_none_or(|acked| acked == *seq), "acked as {acked:?}, there as {seq}: {text:?}");
            assert!(*seq > last, "{text:?} has {seq} and comes behind {last}");
            let name = text.split(' ').next().unwrap();
            assert!(author == name || name == "quiet-witness" && author == "local", "{text:?} is {author}'s");
            last = *seq;
        }
    }
}

/// The log tells of no fault of the server, and nothing that peers said can harm who reads it.
fn check_log(log: &Path) {
    let log = fs::read_to_string(log).unwrap();
    for line in log.lines() {
        assert!(!line.contains("panicked") && !line.contains(" ERROR "), "{line}");
        assert!(is_safe(line.as_bytes()), "{line:?} is in the log");
    }
    assert!(log.contains("not stored"), "refusals are told");
}
