//! The table of what was measured, and the bounds that must hold.

use std::fmt::Write;

use anyhow::ensure;

use crate::load::Measured;
use crate::peers::Peer;

const HEADS: [&str; 9] =
    ["", "connections", "files", "MiB", "most MiB", "acks/s", "ack ms", "99 of 100", "the witness's"];

/// What the trial found.
#[derive(Default)]
pub(super) struct Report {
    rows: Vec<[String; 9]>,
    bounds: Vec<Bound>,
    note: String,
}

struct Bound {
    what: String,
    found: String,
    holds: bool,
}

impl Report {
    /// What a server takes now, with so many connections, and how a load and its witness were answered.
    pub(super) fn row(
        &mut self,
        what: &str,
        server: &Peer,
        connections: usize,
        load: Option<(&Measured, &Measured)>,
    ) -> anyhow::Result<()> {
        let memory = |field| anyhow::Ok(format!("{:.1}", server.memory(field)? as f64 / 1024.0 / 1024.0));
        let millis = |measured: &Measured, percent| format!("{:.2}", measured.wait(percent) * 1e3);
        let load = load.map(|(load, witness)| {
            [format!("{:.0}", load.per_second()), millis(load, 50), millis(load, 99), millis(witness, 99)]
        });
        let [rate, median, most, witness] = load.unwrap_or_default();
        let (now, peak) = (memory("VmRSS")?, memory("VmHWM")?);
        let (connections, files) = (connections.to_string(), server.files()?.to_string());
        self.rows.push([what.to_owned(), connections, files, now, peak, rate, median, most, witness]);
        Ok(())
    }

    pub(super) fn at_most(&mut self, what: &str, found: f64, most: f64) {
        let shown = format!("{found:.1}, at most {most:.1}");
        self.bounds.push(Bound { what: what.to_owned(), found: shown, holds: found <= most });
    }

    pub(super) fn exactly(&mut self, what: &str, found: usize, wanted: usize) {
        let shown = format!("{found}, exactly {wanted}");
        self.bounds.push(Bound { what: what.to_owned(), found: shown, holds: found == wanted });
    }

    /// What else was found.
    pub(super) fn note(&mut self, note: String) {
        self.note = note;
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for row in std::iter::once(&HEADS.map(str::to_owned)).chain(&self.rows) {
            let _ = write!(out, "{:<21}", row[0]);
            for cell in &row[1..] {
                let _ = write!(out, " {cell:>13}");
            }
            out.push('\n');
        }
        for Bound { what, found, holds } in &self.bounds {
            let _ = writeln!(out, "{} {what}: {found}", if *holds { "holds    " } else { "NOT HELD " });
        }
        if !self.note.is_empty() {
            let _ = writeln!(out, "holds     {}", self.note);
        }
        out
    }

    /// # Errors
    /// If a bound does not hold.
    pub(super) fn holds(&self) -> anyhow::Result<()> {
        let broken: Vec<_> =
            self.bounds.iter().filter(|bound| !bound.holds).map(|bound| &*bound.what).collect();
        ensure!(broken.is_empty(), "not held: {}", broken.join("; "));
        Ok(())
    }
}

pub(super) fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
