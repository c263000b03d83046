//! Appends that the writer has, and their outcome in the making.

use std::sync::Arc;

use diary_proto::{Code, Refusal, Time};
use diary_store::{CommitError, Committed};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::appends::Appends;
use crate::outcome::{Outcome, Part};

/// Appends that are being worked on.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) appends: Appends,
    /// Held until the outcome is sent, because the texts are in memory until then.
    permit: OwnedSemaphorePermit,
    reply: oneshot::Sender<Outcome>,
    /// How many entries are judged.
    done: usize,
    outcome: Outcome,
    /// How many parts of the outcome are final, except for [`repeats`](Self::repeats).
    settled: usize,
    /// Parts of entries whose keys the journal has, in order. Their texts are not compared yet, and their times are not
    /// known.
    repeats: Vec<Repeat>,
}

/// A part of the outcome for entries that were sent before.
#[derive(Debug, Clone, Copy)]
struct Repeat {
    /// Which part of the outcome.
    part: usize,
    /// The place of its first entry.
    place: usize,
}

/// Consecutive entries that were sent before, as consecutive entries of the journal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RepeatedRun {
    /// The place of the first.
    pub(crate) place: usize,
    /// The seq that the journal has for the first one's key.
    pub(crate) first_seq: u64,
    pub(crate) count: u32,
}

/// The result of comparing an entry with the one that has the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The journal has the same text, from this time.
    Same(Time),
    /// The journal has another text.
    Other,
    /// The journal's entry is gone or damaged. The key alone says that it is the same.
    Gone,
    /// The disk could not be read.
    Unreadable,
}

impl Work {
    pub(crate) fn new(
        appends: Appends,
        permit: OwnedSemaphorePermit,
        reply: oneshot::Sender<Outcome>,
    ) -> Self {
        // Most outcomes have one part.
        let outcome = Vec::with_capacity(1);
        Self { appends, permit, reply, done: 0, outcome, settled: 0, repeats: Vec::new() }
    }

    /// Gives its permit back for one of `budget`, if there is room.
    pub(crate) fn move_to(&mut self, budget: &Arc<Semaphore>) {
        let permits = u32::try_from(self.permit.num_permits()).unwrap_or(u32::MAX);
        if let Ok(permit) = Arc::clone(budget).try_acquire_many_owned(permits) {
            self.permit = permit;
        }
    }

    /// The place of the next entry to judge.
    pub(crate) fn next(&self) -> Option<usize> {
        (self.done < self.appends.count()).then_some(self.done)
    }

    /// The next entry is staged with this seq. [`settle`](Self::settle) fills in its time.
    pub(crate) fn push_staged(&mut self, seq: u64, now: Time) {
        let is_repeat = self.repeats.last().is_some_and(|repeat| repeat.part + 1 == self.outcome.len());
        let mergeable = self.settled < self.outcome.len() && !is_repeat;
        self.push_acked(seq, now, mergeable);
        self.done += 1;
    }

    /// The next entry has the key of the entry `seq`; the newest committed one is `head`. Committed and staged entries get
    /// different parts, because the staged ones may still fail.
    pub(crate) fn push_known(&mut self, seq: u64, head: u64, now: Time) {
        let parts = self.outcome.len();
        let is_repeat = self.repeats.last().is_some_and(|repeat| repeat.part + 1 == parts);
        self.push_acked(seq, now, is_repeat && self.settled < parts && seq != head + 1);
        if self.outcome.len() > parts {
            self.repeats.push(Repeat { part: parts, place: self.done });
        }
        self.done += 1;
    }

    /// The next entry is refused.
    pub(crate) fn push_refused(&mut self, refusal: &Refusal) {
        self.refuse(1, refusal);
        self.done += 1;
    }

    fn push_acked(&mut self, seq: u64, at: Time, mergeable: bool) {
        match self.outcome.last_mut() {
            Some(Part::Acked { count, first_seq, time })
                if mergeable && *first_seq + u64::from(*count) == seq && *time == at =>
            {
                *count += 1;
            }
            _ => self.outcome.push(Part::Acked { count: 1, first_seq: seq, time: at }),
        }
    }

    fn refuse(&mut self, more: u32, refusal: &Refusal) {
        if let Some(in_order) = &self.appends.in_order {
            in_order.note(refusal);
        }
        match self.outcome.last_mut() {
            Some(Part::Refused { count, refusal: last }) if last == refusal => *count += more,
            _ if more == 0 => {}
            _ => self.outcome.push(Part::Refused { count: more, refusal: refusal.clone() }),
        }
    }

    /// Applies the result of a commit to what was staged after the seq `before`.
    pub(crate) fn settle(&mut self, before: u64, result: &Result<Committed, CommitError>) {
        let staged = self.settled..self.outcome.len();
        self.settled = staged.end;
        for part in &mut self.outcome[staged] {
            let Part::Acked { count, first_seq, time } = part else { continue };
            if *first_seq <= before {
                continue;
            }
            let refusal = match result {
                Ok(committed) => {
                    *time = committed.time;
                    continue;
                }
                Err(CommitError::Full(error)) => disk_full(error),
                Err(CommitError::Failed(_)) => Refusal::new(
                    Code::UnknownOutcome,
                    "the disk failed while this was written; it may or may not be stored",
                ),
            };
            if let Some(in_order) = &self.appends.in_order {
                in_order.note(&refusal);
            }
            *part = Part::Refused { count: *count, refusal };
        }
        // A repeat of an entry that was not committed fails like that entry.
        self.repeats.retain(|repeat| matches!(self.outcome[repeat.part], Part::Acked { .. }));
    }

    /// Refuses everything that is not judged yet, because the disk has failed.
    pub(crate) fn refuse_rest(&mut self) {
        let refusal = disk_failed();
        let rest = self.appends.count() - self.done;
        self.refuse(u32::try_from(rest).expect("part of a count that is a u32"), &refusal);
        self.done += rest;
    }

    /// Whether texts have to be compared before the outcome is known.
    pub(crate) fn has_repeats(&self) -> bool {
        !self.repeats.is_empty()
    }

    /// The entries whose texts have to be compared, in order.
    pub(crate) fn repeated(&self) -> impl Iterator<Item = RepeatedRun> {
        self.repeats.iter().filter_map(|&Repeat { part, place }| match self.outcome[part] {
            Part::Acked { count, first_seq, .. } => Some(RepeatedRun { place, first_seq, count }),
            Part::Refused { .. } | Part::Conflict { .. } => None,
        })
    }

    /// Completes the outcome with one verdict for each [`repeated`](Self::repeated) entry, in order.
    pub(crate) fn resolve(&mut self, verdicts: impl IntoIterator<Item = Verdict>) {
        let mut verdicts = verdicts.into_iter();
        let mut repeats = std::mem::take(&mut self.repeats).into_iter().peekable();
        for (at, part) in std::mem::take(&mut self.outcome).into_iter().enumerate() {
            let Part::Acked { count, first_seq, time } = part else {
                self.outcome.push(part);
                continue;
            };
            if repeats.next_if(|repeat| repeat.part == at).is_none() {
                self.outcome.push(part);
                continue;
            }
            let seqs = first_seq..first_seq + u64::from(count);
            for (seq, verdict) in seqs.zip(&mut verdicts) {
                match verdict {
                    Verdict::Same(time) => self.push_acked(seq, time, true),
                    Verdict::Gone => self.push_acked(seq, time, true),
                    Verdict::Other => self.outcome.push(Part::Conflict { seq }),
                    Verdict::Unreadable => self.refuse(1, &stale()),
                }
            }
        }
    }

    /// Sends the outcome.
    pub(crate) fn answer(mut self) {
        self.outcome.shrink_to_fit();
        // An error means that nobody waits for the answer.
        let _ = self.reply.send(self.outcome);
    }
}

/// The refusal where there is no room.
pub(crate) fn disk_full(error: &std::io::Error) -> Refusal {
    Refusal::new(
        Code::DiskFull,
        match diary_store::is_out_of_descriptors(error) {
            true => {
                "the server has too many open files to make a new one; this is not stored, try again later"
            }
            false => "the disk is full; this is not stored, try again later",
        },
    )
}

/// The refusal for what was not written before the disk failed.
pub(crate) fn disk_failed() -> Refusal {
    Refusal::new(Code::DiskFailed, "the disk failed before this was written; it is not stored")
}

/// The refusal for a key that cannot be judged, or whose entry cannot be read.
pub(crate) fn stale() -> Refusal {
    Refusal::new(Code::StaleKey, "it can no longer be told whether this append was stored before")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use diary_proto::Author;
    use tokio::sync::Semaphore;

    use super::*;

    fn work(entries: usize) -> Work {
        let mut appends = Appends::new(Arc::new(Author::new("a").unwrap()), None);
        (0..entries).for_each(|_| appends.push("x"));
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Work::new(appends, permit, oneshot::channel().0)
    }

    const NOW: Time = Time { micros: 1, offset_minutes: 0 };

    #[test]
    fn a_repeat_of_what_is_only_staged_fails_with_it() {
        let mut work = work(4);
        // A retry of the newest entry, a new one, and retries of both.
        work.push_known(7, 7, NOW);
        work.push_staged(8, NOW);
        work.push_known(7, 7, NOW);
        work.push_known(8, 7, NOW);
        work.settle(7, &Err(CommitError::Failed(std::io::ErrorKind::Other.into())));
        let repeated: Vec<_> = work.repeated().map(|run| (run.place, run.first_seq, run.count)).collect();
        assert_eq!(repeated, [(0, 7, 1), (2, 7, 1)]);
        work.resolve([Verdict::Same(NOW), Verdict::Other]);
        assert!(
            matches!(
                &work.outcome[..],
                [
                    Part::Acked { count: 1, first_seq: 7, .. },
                    Part::Refused { count: 1, refusal: new },
                    Part::Conflict { seq: 7 },
                    Part::Refused { count: 1, refusal: repeat },
                ] if new.code == Code::UnknownOutcome && repeat.code == Code::UnknownOutcome
            ),
            "{:?}",
            work.outcome
        );
    }
}
