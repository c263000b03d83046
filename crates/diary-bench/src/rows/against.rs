//! This build beside another one of this program, such as one of before a change.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{Options, ROWS};
use crate::programs;
use crate::table::{Goal, Row};

/// What the other one reached is to be reached, but for noise.
const LEAST: f64 = 0.95;

/// Runs the same rows of both builds, a round of one and a round of the other, so that what drifts on the machine
/// meets both. Only the diary's own figures are compared.
pub(super) fn rows(
    options: &Options,
    other: &Path,
    mut take: impl FnMut(Vec<Row>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let this = std::env::current_exe()?;
    for name in groups(options) {
        let mut rows: Vec<Row> = Vec::new();
        for round in 0..options.rounds {
            let mut builds = [(0, this.as_path()), (1, other)];
            // Whoever comes second finds another machine than the first.
            builds.rotate_left(round % 2);
            for (place, program) in builds {
                let own = if place == 0 { programs::options() } else { Vec::new() };
                for figure in measure(options, program, &own, name)? {
                    let known = rows.iter().position(|row| row.what == figure.what);
                    let at = known.unwrap_or(rows.len());
                    if known.is_none() {
                        rows.push(figure.row());
                    }
                    rows[at].series[place].figures.push(figure.value);
                }
            }
        }
        for row in &mut rows {
            if row.series[0].figures.len() != row.series[1].figures.len() {
                row.goals.clear();
                row.note = Some("one of them does not measure it".to_owned());
            }
        }
        take(rows)?;
    }
    Ok(())
}

/// What is measured by one run. `--only` takes a part of a name, so `append` brings `append-frames` with it.
fn groups(options: &Options) -> Vec<&'static str> {
    let mut groups: Vec<&str> = Vec::new();
    for (name, _) in ROWS {
        if options.wants(name) && !groups.iter().any(|group| name.contains(group)) {
            groups.push(name);
        }
    }
    groups
}

/// What one build reached in one row.
struct Figure {
    what: String,
    unit: String,
    value: f64,
}

impl Figure {
    fn row(&self) -> Row {
        let goal =
            if self.unit.ends_with("/s") { Goal::AtLeast(LEAST, 1) } else { Goal::AtMost(1.0 / LEAST, 1) };
        Row::new(&self.what, &self.unit, &["this build", "the other"], &[goal])
    }
}

/// One round of these rows by a build, with options that only it has. It starts the programs that lie beside it, or is
/// all of them itself, as those before the first release were.
fn measure(options: &Options, program: &Path, own: &[OsString], name: &str) -> anyhow::Result<Vec<Figure>> {
    let mut command = Command::new(program);
    command.args(own).args([
        "compare",
        "--json",
        "--rounds",
        "1",
        "--without",
        "redis,nginx,rg",
        "--only",
        name,
    ]);
    if options.quick {
        command.arg("--quick");
    }
    if let Some(shape) = options.shape {
        command.args(["--shape", &format!("{}x{}", shape.connections, shape.depth)]);
    }
    if let Some(entries) = options.entries {
        command.args(["--entries", &entries.to_string()]);
    }
    let ran = command.output().with_context(|| format!("cannot run {}", program.display()))?;
    let said = String::from_utf8_lossy(&ran.stderr);
    ensure!(ran.status.success(), "{} compare --only {name}: {said}", program.display());
    let told: Value = serde_json::from_slice(&ran.stdout)?;
    let rows = told["rows"].as_array().context("no rows")?;
    rows.iter()
        .map(|row| {
            let text = |field: &str| row[field].as_str().map(str::to_owned);
            Some(Figure {
                what: text("what")?,
                unit: text("unit")?,
                value: row["series"][0]["median"].as_f64()?,
            })
        })
        .collect::<Option<_>>()
        .context("rows of another form")
}
