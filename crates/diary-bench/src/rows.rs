//! What is measured, row by row, each server in turn, round after round.

mod against;
mod append;
mod moved_in;
mod read;
mod scale;

use std::cell::OnceCell;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;

use crate::fill::Filled;
use crate::load::Shape;
use crate::peers::{Kind, program};
use crate::programs;
use crate::table::Row;

/// How to compare.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Less time for each figure: all of it takes less than two minutes.
    #[arg(long)]
    quick: bool,
    /// Rounds in which every server has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Leaves a peer out: redis, nginx or rg.
    #[arg(long, value_name = "PEER", value_delimiter = ',', value_parser = ["redis", "nginx", "rg"])]
    without: Vec<String>,
    /// Only rows whose name has this in it.
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// Only appends of this shape: connections and depth, as 64x16.
    #[arg(long, value_name = "CxD", value_parser = Shape::parse)]
    shape: Option<Shape>,
    /// Entries of the diaries that are read, instead of 6 and 31 million.
    #[arg(long, value_name = "N")]
    entries: Option<u64>,
    /// Another build of this program, such as one of before a change: the diary's rows of both, in turns.
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Options {
    /// Whether a row is asked for.
    fn wants(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|part| name.contains(part))
    }
}

/// Runs everything that is asked for and prints it.
pub(crate) fn compare(options: &Options) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    let mut rows = Vec::new();
    let mut take = |measured: Vec<Row>| {
        if !options.json {
            for row in &measured {
                writeln!(out, "{}", row.text())?;
            }
        }
        rows.extend(measured);
        anyhow::Ok(())
    };
    if let Some(other) = &options.against {
        against::rows(options, other, &mut take)?;
    } else {
        let bench = Bench::new(options)?;
        for (_, measure) in ROWS.into_iter().filter(|(name, _)| options.wants(name)) {
            take(measure(&bench)?)?;
        }
    }
    let (goals, met) = rows.iter().map(Row::met).fold((0, 0), |all, row| (all.0 + row.0, all.1 + row.1));
    if options.json {
        writeln!(out, "{}", serde_json::json!({ "rows": rows.iter().map(Row::json).collect::<Vec<_>>() }))?;
    } else {
        writeln!(out, "{met} of {goals} goals are met")?;
    }
    Ok(())
}

type Measure = fn(&Bench) -> anyhow::Result<Vec<Row>>;

const ROWS: [(&str, Measure); 18] = [
    ("append", append::appends),
    ("append-frames", append::frames),
    ("append-tls", append::appends_over_tls),
    ("append-slow-disk", append::appends_on_a_slow_disk),
    ("read-bytes", read::bytes),
    ("read-checked", read::checked),
    ("read-lines", read::lines),
    ("read-seek", read::seek),
    ("search", read::search),
    ("append-while-reading", scale::append_while_reading),
    ("start", scale::start),
    ("idle", scale::idle),
    ("followers", scale::followers),
    ("memory", scale::memory),
    ("growth", scale::growth),
    ("import", moved_in::import),
    ("backdated", moved_in::backdated),
    ("scattered", moved_in::scattered),
];

struct Bench {
    rounds: usize,
    /// One figure's time.
    each: Duration,
    without: Vec<String>,
    shape: Option<Shape>,
    entries: Option<u64>,
    quick: bool,
    /// Diaries that are read, made when they are first needed.
    small: OnceCell<Filled>,
    large: OnceCell<Filled>,
}

impl Bench {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let needed = [("redis", "redis-server"), ("nginx", "nginx"), ("rg", "rg")];
        let wanted = |peer: &&str| !options.without.iter().any(|without| without == peer);
        let missing = needed.into_iter().filter(|(peer, file)| wanted(peer) && program(file).is_none());
        let (peers, files): (Vec<_>, Vec<_>) = missing.unzip();
        ensure!(
            files.is_empty(),
            "not here: {}; install them (Debian: redis-server, nginx-light, ripgrep), or leave them out with \
             --without {}",
            files.join(", "),
            peers.join(",")
        );
        programs::server()?;
        if options.wants("import") {
            programs::cli()?;
        }
        ensure!(program("cc").is_some(), "a slow disk needs cc (Debian: gcc, libc6-dev)");
        let each = Duration::from_millis(if options.quick { 150 } else { 1000 });
        Ok(Self {
            rounds: options.rounds,
            each,
            without: options.without.clone(),
            shape: options.shape,
            entries: options.entries,
            quick: options.quick,
            small: OnceCell::new(),
            large: OnceCell::new(),
        })
    }

    /// A diary of about 1 GB, or of a tenth of it.
    fn small(&self) -> anyhow::Result<&Filled> {
        filled(&self.small, self.entries.unwrap_or(if self.quick { 600_000 } else { 6_000_000 }))
    }

    /// A diary of 5 GB and more, or of a tenth of it.
    fn large(&self) -> anyhow::Result<&Filled> {
        filled(&self.large, self.entries.unwrap_or(if self.quick { 3_100_000 } else { 31_000_000 }))
    }

    fn wants(&self, shape: Shape) -> bool {
        self.shape.is_none_or(|wanted| wanted == shape)
    }

    fn is_without(&self, peer: &str) -> bool {
        self.without.iter().any(|without| without == peer)
    }

    /// Those of these servers that are not left out.
    fn with(&self, kinds: &[Kind]) -> Vec<Kind> {
        let left_out = |kind: &Kind| self.without.iter().any(|without| *without == kind.to_string());
        kinds.iter().copied().filter(|kind| !left_out(kind)).collect()
    }
}

fn filled(cell: &OnceCell<Filled>, entries: u64) -> anyhow::Result<&Filled> {
    if cell.get().is_none() {
        let _ = cell.set(Filled::new(entries)?);
    }
    Ok(cell.get().expect("it was just set"))
}
