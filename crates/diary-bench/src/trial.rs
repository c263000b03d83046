//! A load trial: one server under everything at once, measured before, during and after. It fails where a bound of the
//! server does not hold, where an entry is lost, doubled, out of place or of nobody, and where somebody is kept waiting.
//!
//! - `crowd`: connections that take room and time, and what each of them must see;
//! - `history`: reading all entries, each checked;
//! - `report`: the table, and what must hold.

mod crowd;
mod history;
mod report;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use diary_engine::limits::{PAGE_BYTES, READER_THREADS, RECENT_MAX_BYTES, REPEATS_MAX_BYTES};
use diary_server::limits::{
    ANSWERS_FREE_BYTES, ANSWERS_MAX_BYTES, CONNECTIONS_MAX, DESCRIPTORS_RESERVED, INPUT_FREE_BYTES,
    INPUT_MAX_BYTES, UNACKED_MAX_BYTES,
};
use diary_store::BATCH_MAX_BYTES;

use crate::fill::Filled;
use crate::load::{Load, Measured, Shape, text};
use crate::peers::{Kind, Peer, raise_file_limit};
use crate::programs;
use crate::talk::{Protocol, line_mode};
use crowd::Crowd;
use history::Reader;
use report::{Report, mebibytes};

/// Resident for a connection that holds nothing, as the comparison's goal has it.
const IDLE_MAX_BYTES: usize = 4 * 1024;

/// Resident in a server that has worked and has nobody but its writers.
const BASE_MAX_BYTES: usize = 48 << 20;

/// How close to what was resident before a server comes back, once the crowd is gone.
const BACK_BYTES: usize = 16 << 20;

/// What the resident memory of a server varies by on its own.
const NOISE_BYTES: usize = 2 << 20;

/// For a server to notice that the crowd is gone, and to give the memory back.
const BACK_MAX: Duration = Duration::from_secs(60);

/// From SIGTERM to the end.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Between two looks at the server's process.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How large the crowd is.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Connections that say nothing.
    #[arg(long, default_value_t = 9_000)]
    idle: usize,
    /// Connections that begin a line, a frame or a Hello, send it byte by byte, and never end it.
    #[arg(long, default_value_t = 500)]
    slow: usize,
    /// Connections that append, half of them in line mode and half in frame mode.
    #[arg(long, default_value_t = 64)]
    writers: usize,
    /// Connections that follow from the first entry on and never read.
    #[arg(long, default_value_t = 200)]
    followers: usize,
    /// Connections that read all of history again and again.
    #[arg(long, default_value_t = 20)]
    readers: usize,
    /// Entries that are there before.
    #[arg(long, default_value_t = 100_000)]
    entries: u64,
    /// For so long writers append before, during and after.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
}

impl Options {
    /// All of them, and the witness.
    fn connections(&self) -> usize {
        self.idle + self.slow + self.writers + self.followers + self.readers + 1
    }

    /// What a server may hold with all of them: every budget used up, and what sessions may hold beside the budgets.
    fn memory_max_bytes(&self) -> usize {
        let budgets = UNACKED_MAX_BYTES + INPUT_MAX_BYTES + ANSWERS_MAX_BYTES;
        // A batch is made while another is shared with followers.
        let engine = REPEATS_MAX_BYTES + RECENT_MAX_BYTES + 2 * BATCH_MAX_BYTES + READER_THREADS * PAGE_BYTES;
        let uncounted = (self.connections() - self.idle) * (INPUT_FREE_BYTES + ANSWERS_FREE_BYTES);
        BASE_MAX_BYTES + budgets + engine + uncounted + self.connections() * IDLE_MAX_BYTES
    }
}

/// Runs it, and prints the table and the bounds.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let by_files = usize::try_from(raise_file_limit()?.saturating_sub(DESCRIPTORS_RESERVED))?;
    let places = CONNECTIONS_MAX.min(by_files);
    ensure!(options.writers >= 2, "--writers: one in each mode are needed at least");
    ensure!(
        options.connections() <= places,
        "these are {} connections with the witness, and a server takes {places} here: at most {CONNECTIONS_MAX}, and \
         {DESCRIPTORS_RESERVED} fewer than files may be open (ulimit -Hn)",
        options.connections()
    );
    programs::server()?;
    let filled = Filled::new(options.entries)?;
    let server = Peer::start(Kind::Diary, filled.data(), false)?;
    let mut report = Report::default();
    let ran = Trial { options, places, server, filled: &filled }.run(&mut report);
    std::io::stdout().write_all(report.text().as_bytes())?;
    ran?;
    report.holds()
}

struct Trial<'a> {
    options: &'a Options,
    places: usize,
    server: Peer,
    filled: &'a Filled,
}

impl Trial<'_> {
    fn run(self, report: &mut Report) -> anyhow::Result<()> {
        let Self { options, ref server, .. } = self;
        let mut acked = Acked::default();
        let mut witness = Witness::open(&server.address)?;
        witness.ask()?;
        witness.look()?;
        let files = server.files()?;
        let mut writers = Writers::open(&server.address, options.writers, 0)?;
        let mut nobody = Crowd::default();
        let (load, waits) = self.load(&mut writers, &mut witness, &mut nobody, &mut acked)?;
        // What a server takes once all of its threads have worked is not the crowd's.
        nobody.readers = crowd::readers(&server.address, options.readers)?;
        nobody.read_once()?;
        drop(nobody);
        let before = self.resident()?;
        report.row("before", server, options.writers + 1, Some((&load, &waits)))?;
        report.at_most("resident before (MiB)", mebibytes(before), mebibytes(BASE_MAX_BYTES));

        let mut crowd = Crowd::idle(&server.address, options.idle)?;
        report.row("idle ones are there", server, options.writers + 1 + options.idle, None)?;
        let most = before + options.idle * IDLE_MAX_BYTES + NOISE_BYTES;
        report.at_most(
            "resident with idle ones, each 4 KiB (MiB)",
            mebibytes(self.resident()?),
            mebibytes(most),
        );
        crowd.join(&server.address, options)?;
        let taken = self.take_all_places(&mut witness)?;
        report.exactly("connections before one is told that it is too many", taken, self.places);

        crowd.begin()?;
        let (load, waits) = self.load(&mut writers, &mut witness, &mut crowd, &mut acked)?;
        report.row("everybody is there", server, options.connections(), Some((&load, &waits)))?;
        let open = server.files()?;
        let reserved = usize::try_from(DESCRIPTORS_RESERVED)?;
        report.at_most("open files", open as f64, (options.connections() + reserved) as f64);
        let peak = usize::try_from(server.memory("VmHWM")?)?;
        report.at_most("most resident (MiB)", mebibytes(peak), mebibytes(options.memory_max_bytes()));
        let latest = crowd.latest_hello();
        report.at_most(
            "seconds until half a Hello is closed",
            latest.as_secs_f64(),
            crowd::HELLO_SEEN_MAX.as_secs_f64(),
        );
        crowd.check(witness.newest())?;

        drop((crowd, writers));
        let last = Instant::now() + BACK_MAX;
        while Instant::now() < last && (server.files()? != files || self.resident()? > before + BACK_BYTES) {
            thread::sleep(LOOK_EVERY);
            // Followers that are gone are noticed when there is something to send, and day files that others have read are
            // closed when somebody reads.
            witness.ask()?;
            witness.look()?;
        }
        report.row("they are gone", server, 1, None)?;
        report.exactly("open files when they are gone", server.files()?, files);
        let most = mebibytes(before + BACK_BYTES);
        report.at_most("resident when they are gone (MiB)", mebibytes(self.resident()?), most);
        let mut writers = Writers::open(&server.address, options.writers, 1)?;
        let (load, waits) = self.load(&mut writers, &mut witness, &mut Crowd::default(), &mut acked)?;
        report.row("after", server, options.writers + 1, Some((&load, &waits)))?;
        drop(writers);

        report.note(self.check_history(&acked, &witness)?);
        self.stop(report)
    }

    /// Everybody at once: writers until their time is over, the others until then at least.
    fn load(
        &self,
        writers: &mut Writers,
        witness: &mut Witness,
        crowd: &mut Crowd,
        acked: &mut Acked,
    ) -> anyhow::Result<(Measured, Measured)> {
        let enough = AtomicBool::new(false);
        let Crowd { readers, slow, .. } = crowd;
        thread::scope(|scope| {
            let witness = scope.spawn(|| witness.ask_until(&enough));
            let slow = scope.spawn(|| crowd::trickle(slow, &enough));
            let enough = &enough;
            let readers: Vec<_> =
                readers.iter_mut().map(|reader| scope.spawn(|| reader.read_until(enough))).collect();
            let measured = writers.run(Duration::from_secs(self.options.seconds), acked);
            enough.store(true, Ordering::Relaxed);
            for reader in readers {
                reader.join().expect("a reader does not panic").context("a reader of all history")?;
            }
            slow.join().expect("slow ones do not panic")?;
            let waits = witness.join().expect("the witness does not panic").context("the witness")?;
            Ok((measured?, waits))
        })
    }

    /// Connects until one is told that it is too many; how many have a place.
    fn take_all_places(&self, witness: &mut Witness) -> anyhow::Result<usize> {
        let (mut extra, connections) = (Vec::new(), self.options.connections());
        while connections + extra.len() <= CONNECTIONS_MAX {
            let mut stream = BufReader::new(TcpStream::connect(&self.server.address)?);
            let mut greeting = String::new();
            stream.read_line(&mut greeting)?;
            if greeting.starts_with("error busy: ") {
                let rest = stream.lines().next().transpose()?;
                ensure!(rest.is_none(), "one over the limit is told {greeting:?}, and then {rest:?}");
                break;
            }
            ensure!(greeting.starts_with("diary/1 ready"), "a connection is greeted with {greeting:?}");
            extra.push(stream);
        }
        witness.ask().context("while every place is taken")?;
        Ok(connections + extra.len())
    }

    /// Every ack is an entry, once, in its place, and there is none besides.
    fn check_history(&self, acked: &Acked, witness: &Witness) -> anyhow::Result<String> {
        let (mut counters, mut lines, text) = (HashMap::new(), 0, text());
        let mut witnessed = witness.acked.iter().peekable();
        let read = Reader::open(&self.server.address, Protocol::Frame)?.history(|line| {
            if line.seq <= self.filled.entries {
                return Ok(());
            }
            if let Some((_, own)) = witnessed.next_if(|(seq, _)| *seq == line.seq) {
                ensure!(line.text == own, "{} is {own:?} by its ack, and {:?}", line.seq, line.text);
                return Ok(());
            }
            ensure!(line.text == text, "nobody has sent {}: {:?}", line.seq, line.text);
            match line.key {
                None => lines += 1,
                Some(key) => {
                    let next = counters.entry(key.producer).or_insert(0);
                    ensure!(
                        key.counter == *next,
                        "{}: a writer's {} comes where {next} should",
                        line.seq,
                        key.counter
                    );
                    *next += 1;
                }
            }
            Ok(())
        })?;
        ensure!(witnessed.next().is_none(), "an acked entry of the witness is not there");
        let framed: u64 = counters.values().sum();
        ensure!(
            framed == acked.frames,
            "{} entries are acked in frame mode, {framed} are there",
            acked.frames
        );
        ensure!(lines == acked.lines, "{} entries are acked in line mode, {lines} are there", acked.lines);
        Ok(format!("every ack is an entry once, and in order: {read} entries"))
    }

    /// Ends the server while many are there, and looks at what it leaves behind.
    fn stop(self, report: &mut Report) -> anyhow::Result<()> {
        let mut crowd = Crowd::default();
        crowd.join(&self.server.address, self.options)?;
        crowd.begin()?;
        let began = Instant::now();
        let status = self.server.stop()?;
        report.at_most(
            "seconds from SIGTERM to the end",
            began.elapsed().as_secs_f64(),
            STOP_MAX.as_secs_f64(),
        );
        ensure!(status.success(), "the server ends with {status}");
        let mut verify = Command::new(programs::server()?);
        let verified = verify.arg("verify").arg("--data").arg(self.filled.data()).output()?;
        ensure!(verified.status.success(), "verify says {}", String::from_utf8_lossy(&verified.stdout));
        Ok(())
    }

    fn resident(&self) -> anyhow::Result<usize> {
        Ok(usize::try_from(self.server.memory("VmRSS")?)?)
    }
}

/// Appends that were acked, in each mode.
#[derive(Debug, Default)]
struct Acked {
    lines: u64,
    frames: u64,
}

/// Connections that append, one entry at a time each.
struct Writers {
    lines: Load,
    frames: Load,
}

impl Writers {
    /// Connects, with producers that another `group` does not have.
    fn open(address: &str, count: usize, group: usize) -> anyhow::Result<Self> {
        let shape = |connections| Shape { connections, depth: 1 };
        let lines = Load::open(address, Protocol::Line, shape(count / 2))?;
        let frames = Load::open_as(address, Protocol::Frame, shape(count - count / 2), group)?;
        Ok(Self { lines, frames })
    }

    fn run(&mut self, duration: Duration, acked: &mut Acked) -> anyhow::Result<Measured> {
        let Self { lines, frames } = self;
        let (lines, frames) = thread::scope(|scope| {
            let lines = scope.spawn(|| lines.run(duration));
            let frames = frames.run(duration);
            (lines.join().expect("a load does not panic"), frames)
        });
        let (lines, mut all) =
            (lines.context("a writer in line mode")?, frames.context("one in frame mode")?);
        acked.lines += lines.entries;
        acked.frames += all.entries;
        all.entries += lines.entries;
        all.seconds = all.seconds.max(lines.seconds);
        all.waits.extend(lines.waits);
        all.waits.sort_by(f64::total_cmp);
        Ok(all)
    }
}

/// A client that asks for one thing at a time, and must be served whatever the others do.
struct Witness {
    stream: BufReader<TcpStream>,
    /// Seqs and texts, in order.
    acked: Vec<(u64, String)>,
}

impl Witness {
    fn open(address: &str) -> anyhow::Result<Self> {
        Ok(Self { stream: BufReader::new(line_mode(address)?), acked: Vec::new() })
    }

    /// Appends a text of its own.
    fn ask(&mut self) -> anyhow::Result<()> {
        let text = format!("the witness's text {}", self.acked.len());
        self.stream.get_mut().write_all(format!("{text}\n").as_bytes())?;
        let mut answer = String::new();
        self.stream.read_line(&mut answer)?;
        let seq = answer.strip_prefix("ok ").and_then(|rest| rest.split(' ').next()?.parse().ok());
        self.acked.push((seq.with_context(|| format!("it is told {answer:?}"))?, text));
        Ok(())
    }

    /// Reads the newest entry.
    fn look(&mut self) -> anyhow::Result<()> {
        self.stream.get_mut().write_all(b"/history 1\n")?;
        let mut answer = String::new();
        while !answer.ends_with("end 1\n") {
            ensure!(self.stream.read_line(&mut answer)? > 0, "it is told {answer:?}");
        }
        Ok(())
    }

    /// Appends again and again.
    fn ask_until(&mut self, enough: &AtomicBool) -> anyhow::Result<Measured> {
        let mut measured = Measured { entries: 0, seconds: 0.0, waits: Vec::new(), own_share: 0.0 };
        while !enough.load(Ordering::Relaxed) {
            let began = Instant::now();
            self.ask()?;
            measured.waits.push(began.elapsed().as_secs_f64());
        }
        measured.waits.sort_by(f64::total_cmp);
        Ok(measured)
    }

    /// The seq of what it has written last.
    fn newest(&self) -> u64 {
        self.acked.last().map_or(0, |(seq, _)| *seq)
    }
}
