//! Appends: rates, waits, and what a slow disk, growth or company does to them.

use std::path::Path;

use super::Bench;
use crate::load::{Load, Measured, Shape};
use crate::peers::{Kind, Peer};
use crate::table::{Goal, Row};
use crate::talk::Protocol;

/// The shapes of appends, with what is to be reached of the bare loop and of Redis.
const SHAPES: [(Shape, f64, f64); 6] = [
    (Shape { connections: 1, depth: 1 }, 0.65, 0.85),
    (Shape { connections: 64, depth: 1 }, 0.7, 1.0),
    (Shape { connections: 500, depth: 1 }, 0.6, 1.4),
    (Shape { connections: 64, depth: 16 }, 0.6, 3.0),
    (Shape { connections: 1, depth: 128 }, 0.6, 2.0),
    (Shape { connections: 64, depth: 128 }, 0.5, 5.0),
];

/// The shape of appends over TLS.
const OVER_TLS: Shape = Shape { connections: 64, depth: 16 };

const PLAIN: [Kind; 3] = [Kind::Diary, Kind::Bare, Kind::Redis];

pub(super) fn protocol(kind: Kind) -> Protocol {
    if matches!(kind, Kind::Redis | Kind::RedisTls) { Protocol::Redis } else { Protocol::Line }
}

pub(super) fn appends(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (shape, of_bare, of_redis) in SHAPES.into_iter().filter(|(shape, ..)| bench.wants(*shape)) {
        let goals = [Goal::AtLeast(of_bare, 1), Goal::AtLeast(of_redis, 2)];
        rows.extend(append(bench, &PLAIN, shape, &goals, false)?);
    }
    Ok(rows)
}

pub(super) fn appends_on_a_slow_disk(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (shape, ..) in SHAPES.into_iter().filter(|(shape, ..)| bench.wants(*shape)) {
        rows.extend(append(bench, &PLAIN, shape, &[], true)?);
    }
    Ok(rows)
}

pub(super) fn appends_over_tls(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    if !bench.wants(OVER_TLS) {
        return Ok(Vec::new());
    }
    append(bench, &[Kind::DiaryTls, Kind::RedisTls], OVER_TLS, &[Goal::AtLeast(1.5, 1)], false)
}

/// Appends of one shape to each of these servers.
fn append(
    bench: &Bench,
    kinds: &[Kind],
    shape: Shape,
    goals: &[Goal],
    slow_disk: bool,
) -> anyhow::Result<Vec<Row>> {
    let how = if kinds.contains(&Kind::DiaryTls) { " over TLS" } else { "" };
    let kinds = bench.with(kinds);
    let names: Vec<String> = kinds.iter().map(Kind::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let goals: Vec<Goal> = goals.iter().copied().filter(|goal| goal.of() < kinds.len()).collect();
    let disk = if slow_disk { ", every fdatasync 2 ms slower" } else { "" };
    let mut rates = Row::new(format!("append {shape}{how}{disk}"), "entries/s", &names, &goals);
    let waits_goals: &[Goal] =
        if (shape.connections, shape.depth, slow_disk, kinds.len()) == (64, 1, false, 3) {
            &[Goal::AtMost(1.0, 2)]
        } else {
            &[]
        };
    let mut waits = Row::new(format!("ack latency p99 {shape}{how}{disk}"), "µs", &names, waits_goals);
    let mut own = Own::new(&names);
    let folder = tempfile::tempdir()?;
    let peers = start(&kinds, folder.path(), slow_disk)?;
    for round in 0..=bench.rounds {
        for (place, peer) in peers.iter().enumerate() {
            let mut load = Load::open(&peer.address, protocol(peer.kind), shape)?;
            // The first round is for warming up.
            let measured = load.run(if round == 0 { bench.each / 4 } else { bench.each })?;
            if round > 0 {
                rates.series[place].figures.push(measured.per_second());
                waits.series[place].figures.push(measured.wait(99) * 1e6);
                own.note(place, &measured);
            }
        }
    }
    rates.note = Some(own.told());
    Ok(vec![rates, waits])
}

/// How busy the generator was with each server: close to a whole core, it is what was measured.
pub(super) struct Own(Vec<(String, f64)>);

impl Own {
    pub(super) fn new(names: &[&str]) -> Self {
        Self(names.iter().map(|&name| (name.to_owned(), 0.0)).collect())
    }

    pub(super) fn note(&mut self, place: usize, measured: &Measured) {
        self.0[place].1 = self.0[place].1.max(measured.own_share);
    }

    pub(super) fn told(&self) -> String {
        let shares = self.0.iter().map(|(name, share)| format!("{name} {:.0} %", share * 100.0));
        format!("of a core, the generator took at the most: {}", shares.collect::<Vec<_>>().join(", "))
    }
}

pub(super) fn start(kinds: &[Kind], folder: &Path, slow_disk: bool) -> anyhow::Result<Vec<Peer>> {
    kinds.iter().map(|&kind| Peer::start(kind, &folder.join(format!("{kind:?}")), slow_disk)).collect()
}

/// Frame mode, with keys, beside line mode of the same server.
pub(super) fn frames(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let goals = [Goal::AtLeast(1.0, 1)];
    let mut row = Row::new("append 64×128, frame mode with keys", "entries/s", &["frames", "lines"], &goals);
    let folder = tempfile::tempdir()?;
    let peer = Peer::start(Kind::Diary, folder.path(), false)?;
    let mut own = Own::new(&["frames", "lines"]);
    let shape = Shape { connections: 64, depth: 128 };
    for round in 0..=bench.rounds {
        // Each round has producers of its own, whose counters begin at 0.
        for (place, protocol) in [Protocol::Frame, Protocol::Line].into_iter().enumerate() {
            let mut load = Load::open_as(&peer.address, protocol, shape, round)?;
            let measured = load.run(bench.each)?;
            if round > 0 {
                row.series[place].figures.push(measured.per_second());
                own.note(place, &measured);
            }
        }
    }
    row.note = Some(own.told());
    Ok(vec![row])
}
