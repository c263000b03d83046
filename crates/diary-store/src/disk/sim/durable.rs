//! What each file and folder of a simulated disk has durably, and what only the page cache has.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use super::{SECTOR_BYTES, Seeded};

#[derive(Debug, Clone, Default)]
pub(super) struct Dir {
    pub(super) durable: BTreeMap<OsString, Node>,
    pub(super) cached: BTreeMap<OsString, Node>,
    /// What happened since the last sync. The two halves of a move between folders bear its number: a
    /// journalling file system keeps both or neither.
    pub(super) pending: Vec<(Change, Option<u64>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    File(usize),
    Dir,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Link(OsString, Node),
    Unlink(OsString),
    Rename(OsString, OsString),
    Exchange(OsString, OsString),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    /// What a power cut cannot take.
    pub(super) durable: Vec<u8>,
    /// What reads see.
    pub(super) cached: Vec<u8>,
    /// What each sector has been since it was last durable. Those in `clean` are not written by a sync.
    pub(super) versions: BTreeMap<usize, Vec<Vec<u8>>>,
    /// Sectors of a sync that failed and that have not been written since.
    pub(super) clean: BTreeSet<usize>,
    /// The lengths that the file has had since it was last durable.
    pub(super) lengths: Vec<usize>,
}

impl Inode {
    pub(super) fn write(&mut self, from: &[u8], offset: usize) {
        let end = offset + from.len();
        if self.cached.len() < end {
            self.cached.resize(end, 0);
            self.lengths.push(end);
        }
        self.cached[offset..end].copy_from_slice(from);
        for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let start = sector * SECTOR_BYTES;
            let bytes = self.cached[start..self.cached.len().min(start + SECTOR_BYTES)].to_vec();
            self.versions.entry(sector).or_default().push(bytes);
            self.clean.remove(&sector);
        }
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.cached.resize(len, 0);
        self.lengths.push(len);
    }

    pub(super) fn sync(&mut self) {
        let cached = &self.cached;
        self.durable.resize(cached.len(), 0);
        let clean = &self.clean;
        for sector in self.versions.keys().filter(|sector| !clean.contains(sector)) {
            let start = sector * SECTOR_BYTES;
            let end = cached.len().min(start + SECTOR_BYTES);
            if start < end {
                self.durable[start..end].copy_from_slice(&cached[start..end]);
            }
        }
        self.versions.retain(|sector, _| clean.contains(sector));
        self.lengths.clear();
    }

    pub(super) fn fail_sync(&mut self) {
        self.clean.extend(self.versions.keys());
    }

    /// Of what is not durable, only the sectors before some place are on their way.
    pub(super) fn keep_first_sectors(&mut self, seeded: &mut Seeded) {
        let kept = seeded.below(self.versions.len() + 1);
        if let Some(&first_lost) = self.versions.keys().nth(kept) {
            self.versions.split_off(&first_lost);
        }
    }

    /// What a power cut leaves, as `choose` decides: it is given how many choices there are.
    pub(super) fn cut_power(&mut self, choose: &mut dyn FnMut(usize) -> usize) {
        let chosen = choose(self.lengths.len() + 1);
        let len = chosen.checked_sub(1).map_or(self.durable.len(), |at| self.lengths[at]);
        let mut bytes = self.durable.clone();
        bytes.resize(len, 0);
        for (sector, versions) in &self.versions {
            let chosen = choose(versions.len() + 1);
            let Some(version) = chosen.checked_sub(1).map(|at| &versions[at]) else { continue };
            let start = sector * SECTOR_BYTES;
            let end = len.min(start + version.len());
            if start < end {
                bytes[start..end].copy_from_slice(&version[..end - start]);
            }
        }
        *self = Self { durable: bytes.clone(), cached: bytes, ..Self::default() };
    }
}

impl Dir {
    pub(super) fn change(&mut self, change: Change, half_of: Option<u64>) {
        apply(&mut self.cached, &change);
        self.pending.push((change, half_of));
    }

    /// Makes everything durable; returns the moves of which this had one half.
    pub(super) fn sync(&mut self) -> BTreeSet<u64> {
        self.durable = self.cached.clone();
        self.pending.drain(..).filter_map(|(_, half_of)| half_of).collect()
    }

    /// Makes the other halves of these moves durable.
    pub(super) fn sync_moves(&mut self, moves: &BTreeSet<u64>) {
        let durable = &mut self.durable;
        self.pending.retain(|(change, half_of)| {
            let synced = half_of.is_some_and(|half_of| moves.contains(&half_of));
            if synced {
                apply(durable, change);
            }
            !synced
        });
    }

    pub(super) fn cut_power(
        &mut self,
        survived: &mut BTreeMap<u64, bool>,
        choose: &mut dyn FnMut(usize) -> usize,
    ) {
        for (change, half_of) in std::mem::take(&mut self.pending) {
            let survives = match half_of {
                Some(number) => *survived.entry(number).or_insert_with(|| choose(2) == 1),
                None => choose(2) == 1,
            };
            if survives {
                apply(&mut self.durable, &change);
            }
        }
        self.cached = self.durable.clone();
    }
}

fn apply(names: &mut BTreeMap<OsString, Node>, change: &Change) {
    match change {
        Change::Link(name, node) => _ = names.insert(name.clone(), *node),
        Change::Unlink(name) => _ = names.remove(name),
        // A file whose own name did not survive has nothing to rename.
        Change::Rename(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
        Change::Exchange(one, other) => {
            if let (Some(&first), Some(&second)) = (names.get(one), names.get(other)) {
                names.insert(one.clone(), second);
                names.insert(other.clone(), first);
            }
        }
    }
}
