//! A diary that was kept elsewhere and moves in: importing it, and reading it by its days.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use diary_proto::Date;

use super::Bench;
use super::read::timed;
use crate::fill::Filled;
use crate::load::{Load, Shape};
use crate::peers::{Kind, Peer};
use crate::programs;
use crate::table::{Goal, Row, median};
use crate::talk::{Protocol, line_mode};

/// Entries of the jrnl that moves in.
const ENTRIES: u32 = 100_000;

/// On each of its days.
const ENTRIES_A_DAY: u32 = 10;

const FIRST_DAY: Date = Date::constant(1990, 1, 1);

/// Importing a jrnl into an empty diary, importing it again, then one of its days, and the newest entries: all by
/// `diary-cli` as a cold process.
pub(super) fn import(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let of = &["diary-cli"];
    let size = format!("of {ENTRIES} entries");
    let mut first = Row::new(format!("import {size}, from jrnl"), "entries/s", of, &[Goal::Above(50_000.0)]);
    let mut again = Row::new(format!("import {size} that are there"), "entries/s", of, &[]);
    let mut on = Row::new(format!("log --on a day of a jrnl {size}"), "ms", of, &[Goal::Below(10.0)]);
    let mut last = Row::new(format!("log --last 20 {size}"), "ms", of, &[Goal::Below(15.0)]);
    let folder = tempfile::tempdir()?;
    let jrnl = folder.path().join("jrnl.txt");
    write_jrnl(&jrnl)?;
    for round in 0..=bench.rounds {
        let data = tempfile::tempdir()?;
        let diary = Peer::start(Kind::Diary, data.path(), false)?;
        let cli = Cli::new(data.path(), &diary.address)?;
        let file = jrnl.to_str().context("a path of this program's own")?;
        let import = || timed(|| cli.run(&["import", file]).map(drop));
        let (one, two) = (import()?, import()?);
        let day = day(round * 701);
        let words = ["log", "--on", &day.to_string()];
        let printed = cli.run(&words)?;
        ensure!(printed.lines().count() == ENTRIES_A_DAY as usize, "{day} has other entries: {printed}");
        let wait = |words: &[&str]| {
            let waits = (0..20).map(|_| timed(|| cli.run(words).map(drop)));
            anyhow::Ok(median(&waits.collect::<anyhow::Result<Vec<_>>>()?))
        };
        let (that_day, newest) = (wait(&words)?, wait(&["log", "--last", "20"])?);
        if round > 0 {
            first.series[0].figures.push(f64::from(ENTRIES) / one);
            again.series[0].figures.push(f64::from(ENTRIES) / two);
            on.series[0].figures.push(that_day * 1e3);
            last.series[0].figures.push(newest * 1e3);
        }
    }
    Ok(vec![first, again, on, last])
}

/// The start of a diary of a million entries that are all about other days, one of these days, and what the server
/// holds then.
pub(super) fn backdated(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let filled = Filled::moved_in(if bench.quick { 100_000 } else { 1_000_000 })?;
    let own_day = |round: u64| (filled.own_day(round * 70_001), Filled::OWN_A_DAY);
    by_days(bench, &filled, "with own times", Goal::Below(10.0), own_day)
}

/// The same where the days of these entries are in no order.
pub(super) fn scattered(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let sizes = if bench.quick { &[200_000][..] } else { &[200_000, 1_000_000] };
    let mut rows = Vec::new();
    for &entries in sizes {
        let filled = Filled::scattered(entries)?;
        let day = |round: u64| filled.scattered_day(round * 71);
        // It has two or three thousand entries among a million.
        let goal = Goal::Below(if entries > 200_000 { 200.0 } else { 50.0 });
        rows.extend(by_days(bench, &filled, "with own times in no order", goal, day)?);
    }
    Ok(rows)
}

/// What a round asks for is a day, and how many entries it has.
fn by_days(
    bench: &Bench,
    filled: &Filled,
    what: &str,
    goal: Goal,
    day: impl Fn(u64) -> (Date, u64),
) -> anyhow::Result<Vec<Row>> {
    let size = format!("{} entries {what}", filled.entries);
    let of = &["diary"];
    let mut time = Row::new(format!("start of {size}"), "ms", of, &[Goal::Below(50.0)]);
    let mut by_day = Row::new(format!("/history of one day among {size}"), "ms", of, &[goal]);
    let what = format!("most resident from such a start to an ack with a key, {size}");
    let mut memory = Row::new(what, "MiB", of, &[Goal::Below(16.0)]);
    for round in 0..=bench.rounds {
        let (day, expected) = day(round as u64);
        let diary = Peer::start(Kind::Diary, filled.data(), false)?;
        let greeted = line_mode(&diary.address).map(|_| diary.began.elapsed())?;
        let one = Shape { connections: 1, depth: 1 };
        Load::open_as(&diary.address, Protocol::Frame, one, round + 1)?.run(Duration::ZERO)?;
        let asked = timed(|| {
            let entries = super::read::history(&diary.address, &day.to_string())?;
            ensure!(entries == expected, "{day} has {entries} entries, not {expected}");
            Ok(())
        })?;
        if round > 0 {
            time.series[0].figures.push(greeted.as_secs_f64() * 1e3);
            by_day.series[0].figures.push(asked * 1e3);
            memory.series[0].figures.push(diary.memory("VmHWM")? as f64 / 1024.0 / 1024.0);
        }
        diary.stop()?;
    }
    Ok(vec![time, by_day, memory])
}

/// A day of the jrnl.
fn day(number: usize) -> Date {
    let days = number % (ENTRIES / ENTRIES_A_DAY) as usize;
    FIRST_DAY
        .saturating_add(jiff::Span::new().days(i32::try_from(days).expect("ten thousand days at the most")))
}

/// Titles and bodies, as jrnl keeps them.
fn write_jrnl(path: &Path) -> anyhow::Result<()> {
    let mut out = BufWriter::new(fs::File::create(path)?);
    for number in 0..ENTRIES {
        let (day, minute) = (day((number / ENTRIES_A_DAY) as usize), number % ENTRIES_A_DAY * 90);
        let (hour, minute) = (minute / 60, minute % 60);
        writeln!(
            out,
            "[{day} {hour:02}:{minute:02}] Day {number} at the lake. It rained in the morning; @anna and I stayed in.\n\
             In the afternoon the sun came out #weather 今天下午天气很好\n"
        )?;
    }
    Ok(out.flush()?)
}

/// The diary's client, for a home of its own.
struct Cli<'a> {
    program: PathBuf,
    home: &'a Path,
    address: &'a str,
}

impl<'a> Cli<'a> {
    fn new(home: &'a Path, address: &'a str) -> anyhow::Result<Self> {
        Ok(Self { program: programs::cli()?, home, address })
    }

    fn run(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        command.args(words).env("DIARY_SERVER", self.address).env("TZ", "UTC");
        let output =
            command.env("HOME", self.home).env("XDG_STATE_HOME", self.home.join("state")).output()?;
        ensure!(output.status.success(), "diary-cli {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }
}
