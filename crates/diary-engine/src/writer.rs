//! The writer: the one actor that writes day files. It takes all that waits, commits it with one write
//! and one sync, and only then answers. It never waits for a batch to grow.
//!
//! It runs on a thread of its own, so that a slow disk holds up no thread of the runtime.

use std::sync::Arc;
use std::thread;

use diary_proto::{Code, Refusal, Time};
use diary_store::{Appender, CommitError, Derived, NewEntry, Staged};
use jiff::tz::TimeZone;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::appends::Appends;
use crate::journal::{Progress, Shared};
use crate::outcome::{Outcome, Part};
use crate::recent::Recent;

/// What the writer is asked.
#[derive(Debug)]
pub(crate) enum Command {
    Append(Appends, OwnedSemaphorePermit, oneshot::Sender<Outcome>),
    /// What is derived from the journal, once it is loaded.
    Derived(Derived),
    /// Commit what came before, write the head down, end.
    Stop(oneshot::Sender<()>),
}

impl Command {
    /// Answers that the writer has stopped.
    pub(crate) fn refuse_stopped(self) {
        if let Command::Append(appends, _, reply) = self {
            let refusal = Refusal::new(Code::Stopping, "the server has stopped; this is not stored");
            let count = u32::try_from(appends.count()).unwrap_or(u32::MAX);
            // Whoever asked may be gone.
            let _ = reply.send(vec![Part::Refused { count, refusal }]);
        }
    }
}

/// The writer's state.
pub(crate) struct Writer {
    appender: Appender,
    queue: mpsc::UnboundedReceiver<Command>,
    progress: watch::Sender<Progress>,
    recent: Arc<Recent>,
    /// Cancels its token when it is dropped: if the disk fails, and also if this breaks down.
    failed: Option<DropGuard>,
    zone: TimeZone,
    /// A stop that was met while a batch was gathered; nothing behind it is taken.
    stop: Option<oneshot::Sender<()>>,
    /// The cache is being written, on a thread of its own: it holds up nobody, unless the next one is due.
    caching: Option<thread::JoinHandle<()>>,
    /// The disk was full at the last commit, and the log says so.
    full: bool,
}

/// Appends that are being worked on.
struct Work {
    appends: Appends,
    /// Gives the room back when the work is done.
    _room: OwnedSemaphorePermit,
    reply: oneshot::Sender<Outcome>,
    /// How many of them are staged or refused.
    done: usize,
    outcome: Outcome,
    /// How many parts of the outcome are final.
    settled: usize,
}

/// The disk failed: whatever is still queued is not stored.
struct Failed;

impl Writer {
    /// A writer, and what handles to it share.
    pub(crate) fn new(appender: Appender, head: u64, zone: TimeZone) -> (Self, Shared) {
        let (sender, queue) = mpsc::unbounded_channel();
        let (progress, watched) = watch::channel(Progress { head, derived: false });
        let (recent, failed) = (Arc::<Recent>::default(), CancellationToken::new());
        let shared =
            Shared { queue: sender, progress: watched, recent: Arc::clone(&recent), failed: failed.clone() };
        let failed = Some(failed.drop_guard());
        let writer =
            Self { appender, queue, progress, recent, failed, zone, stop: None, caching: None, full: false };
        (writer, shared)
    }

    /// Serves the queue until it is asked to stop, or everybody who could ask is gone.
    pub(crate) fn run(mut self) {
        let served = self.serve();
        let stop = self.stop.take();
        let stop = match served {
            Ok(()) => {
                self.end();
                stop
            }
            Err(Failed) => self.refuse_queued(stop),
        };
        // Only now: whoever waits for it may open the folder again.
        if let Some(done) = stop {
            let _ = done.send(());
        }
    }

    /// Refuses what came too late, and writes down what the next start can use.
    fn end(mut self) {
        self.queue.close();
        while let Ok(command) = self.queue.try_recv() {
            command.refuse_stopped();
        }
        if let Some(caching) = self.caching {
            let _ = caching.join();
        }
        if let Err(error) = self.appender.stop() {
            tracing::warn!(%error, "the head could not be written down; the next start checks the last batch");
        }
        if let Some(failed) = self.failed.take() {
            failed.disarm();
        }
    }

    fn serve(&mut self) -> Result<(), Failed> {
        while self.stop.is_none()
            && let Some(command) = self.queue.blocking_recv()
        {
            self.take(command)?;
        }
        Ok(())
    }

    /// Does what waits, as one batch if it fits one; false if nothing waited.
    #[cfg(feature = "sim")]
    pub(crate) fn commit_waiting(&mut self) -> bool {
        let Ok(command) = self.queue.try_recv() else { return false };
        self.take(command).is_ok()
    }

    /// Does what is asked, together with all that waits behind it.
    fn take(&mut self, command: Command) -> Result<(), Failed> {
        let mut rest = match command {
            Command::Append(appends, room, reply) => Some(Work::new(appends, room, reply)),
            Command::Derived(derived) => {
                self.know_derived(derived);
                None
            }
            Command::Stop(done) => {
                self.stop = Some(done);
                None
            }
        };
        while let Some(work) = rest {
            let mut batch = Vec::new();
            rest = self.gather(work, &mut batch);
            if let Err(Failed) = self.commit(batch, rest.as_mut()) {
                if let Some(work) = rest {
                    work.refuse_rest();
                }
                return Err(Failed);
            }
            self.write_cache();
        }
        Ok(())
    }

    fn know_derived(&mut self, derived: Derived) {
        self.appender.set_derived(derived);
        self.progress.send_modify(|progress| progress.derived = true);
    }

    /// Writes the cache when it is due, once the one before it is written.
    fn write_cache(&mut self) {
        let Some(snapshot) = self.appender.snapshot() else { return };
        if let Some(caching) = self.caching.take() {
            let _ = caching.join();
        }
        let write = || {
            if let Err(error) = snapshot.write() {
                tracing::warn!(%error, "the cache could not be written; the next start reads more day files");
            }
        };
        match thread::Builder::new().name("cache".to_owned()).spawn(write) {
            Ok(caching) => self.caching = Some(caching),
            Err(error) => tracing::warn!(%error, "the cache could not be written; there is no thread for it"),
        }
    }

    /// Stages `work` and all that waits behind it, until the batch is full or the queue is empty. Returns
    /// the work that did not fit whole.
    fn gather(&mut self, mut work: Work, batch: &mut Vec<Work>) -> Option<Work> {
        loop {
            if !self.stage(&mut work) {
                return Some(work);
            }
            batch.push(work);
            match self.queue.try_recv() {
                Ok(Command::Append(appends, room, reply)) => work = Work::new(appends, room, reply),
                Ok(Command::Derived(derived)) => {
                    // Nothing with a key has been staged before.
                    self.know_derived(derived);
                    return None;
                }
                Ok(Command::Stop(done)) => {
                    self.stop = Some(done);
                    return None;
                }
                Err(_) => return None,
            }
        }
    }

    /// Stages what is left of `work`; false if the batch is full before its end.
    fn stage(&mut self, work: &mut Work) -> bool {
        let now = Time::now(&self.zone);
        let head = self.progress.borrow().head;
        while work.done < work.appends.count() {
            if let Some(refusal) = work.appends.refused(work.done) {
                let refusal = refusal.clone();
                work.push_refused(1, &refusal);
                work.done += 1;
                continue;
            }
            let own = work.appends.own(work.done);
            let entry = NewEntry {
                author: own.and_then(|own| own.author.as_deref()).unwrap_or(&work.appends.author),
                text: work.appends.text(work.done),
                key: work.appends.key(work.done),
                at: own.and_then(|own| own.at),
            };
            match self.appender.stage(now, entry) {
                // The batch's time is filled in when it is committed.
                Staged::New(seq) => work.push_acked(head, seq, now),
                Staged::Known { seq, time } => work.push_acked(head, seq, time),
                Staged::Conflict(seq) => {
                    let message = format!("this key was used for another text, which is entry {seq}");
                    work.push_refused(1, &Refusal::new(Code::Conflict, message));
                }
                Staged::Stale => {
                    let message = "it can no longer be told whether this append was stored before";
                    work.push_refused(1, &Refusal::new(Code::StaleKey, message));
                }
                Staged::Full => return false,
            }
            work.done += 1;
        }
        true
    }

    /// Commits what is staged, and answers. Of `rest`, only a part is staged.
    fn commit(&mut self, mut batch: Vec<Work>, rest: Option<&mut Work>) -> Result<(), Failed> {
        let before = self.progress.borrow().head;
        let result = self.appender.commit(Time::now(&self.zone));
        for work in batch.iter_mut().chain(rest) {
            work.settle(before, &result);
        }
        let end = match result {
            Ok(committed) => {
                // Readers see what is committed, then its writers hear of it.
                if committed.count > 0 {
                    self.recent.push(|| self.appender.fresh());
                    self.progress.send_modify(|progress| progress.head += committed.count);
                    if std::mem::take(&mut self.full) {
                        tracing::info!("there is room on the disk again");
                    }
                }
                Ok(())
            }
            Err(CommitError::Full(error)) => {
                if !std::mem::replace(&mut self.full, true) {
                    tracing::error!(%error, "the disk is full; appends are refused until there is room");
                }
                Ok(())
            }
            Err(CommitError::Failed(error)) => {
                tracing::error!(%error, "nothing more can be written, and the server stops");
                self.failed = None;
                Err(Failed)
            }
        };
        for work in batch {
            let _ = work.reply.send(work.outcome);
        }
        end
    }

    /// After the disk failed: refuses what is queued, until nobody is left or the server stops.
    fn refuse_queued(mut self, mut stop: Option<oneshot::Sender<()>>) -> Option<oneshot::Sender<()>> {
        if stop.is_some() {
            self.queue.close();
        }
        while let Some(command) = self.queue.blocking_recv() {
            match command {
                Command::Append(appends, room, reply) => Work::new(appends, room, reply).refuse_rest(),
                Command::Derived(_) => {}
                Command::Stop(done) => {
                    stop = Some(done);
                    self.queue.close();
                }
            }
        }
        stop
    }
}

impl Work {
    fn new(appends: Appends, room: OwnedSemaphorePermit, reply: oneshot::Sender<Outcome>) -> Self {
        Self { appends, _room: room, reply, done: 0, outcome: Outcome::new(), settled: 0 }
    }

    /// After the disk failed: refuses what has not been staged, and answers.
    fn refuse_rest(mut self) {
        let refusal =
            Refusal::new(Code::DiskFailed, "the disk failed before this was written; it is not stored");
        let rest = self.appends.count() - self.done;
        self.push_refused(u32::try_from(rest).unwrap_or(u32::MAX), &refusal);
        let _ = self.reply.send(self.outcome);
    }

    /// What is committed and what is only staged stay in different parts: one of them may still fail.
    fn push_acked(&mut self, head: u64, seq: u64, at: Time) {
        match self.outcome[self.settled..].last_mut() {
            Some(Part::Acked { count, first_seq, time })
                if *first_seq + u64::from(*count) == seq && *time == at && seq != head + 1 =>
            {
                *count += 1;
            }
            _ => self.outcome.push(Part::Acked { count: 1, first_seq: seq, time: at }),
        }
    }

    fn push_refused(&mut self, more: u32, refusal: &Refusal) {
        match self.outcome.last_mut() {
            Some(Part::Refused { count, refusal: last }) if last == refusal => *count += more,
            _ => self.outcome.push(Part::Refused { count: more, refusal: refusal.clone() }),
        }
    }

    /// Turns what was staged behind the seq `before` into what became of it.
    fn settle(&mut self, before: u64, result: &Result<diary_store::Committed, CommitError>) {
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
                Err(CommitError::Full(_)) => {
                    Refusal::new(Code::DiskFull, "the disk is full; this is not stored, try again later")
                }
                Err(CommitError::Failed(_)) => Refusal::new(
                    Code::UnknownOutcome,
                    "the disk failed while this was written; it may or may not be stored",
                ),
            };
            *part = Part::Refused { count: *count, refusal };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use diary_proto::Author;
    use diary_store::Opened;
    use diary_store::disk::Disk;
    use diary_store::sim::{Call, Fault, SimDisk};
    use tokio::sync::Semaphore;

    use super::*;

    /// A writer on a simulated disk, whose journal has no keys loaded: it writes no cache, whose calls would mingle with
    /// the others.
    fn writer() -> (SimDisk, diary_store::Reader, Writer, Shared) {
        let disk = SimDisk::new();
        disk.create_dir(Path::new("/data")).unwrap();
        let Opened { appender, reader, .. } =
            diary_store::open(Arc::new(disk.clone()), Path::new("/data/diary")).unwrap();
        let (writer, shared) = Writer::new(appender, 0, TimeZone::UTC);
        (disk, reader, writer, shared)
    }

    fn append(texts: usize) -> (Command, oneshot::Receiver<Outcome>) {
        let mut appends = Appends::new(Arc::new(Author::new("a").unwrap()), None);
        (0..texts).for_each(|_| appends.push(&"x".repeat(80)));
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let (reply, outcome) = oneshot::channel();
        (Command::Append(appends, room, reply), outcome)
    }

    #[test]
    fn a_stop_behind_a_failing_batch_is_answered() {
        let (disk, _, writer, Shared { queue, failed, .. }) = writer();
        let (command, mut outcome) = append(1);
        queue.send(command).unwrap();
        let (done, mut stopped) = oneshot::channel();
        queue.send(Command::Stop(done)).unwrap();
        disk.fail_at(disk.calls() + 2, Fault::Io);
        // The sender that is left here would keep a queue open that is only drained.
        writer.run();
        assert!(failed.is_cancelled());
        assert!(matches!(&outcome.try_recv().unwrap()[..], [Part::Refused { .. }]));
        stopped.try_recv().unwrap();
    }

    #[test]
    fn what_is_committed_and_what_may_fail_stay_apart() {
        let (command, _outcome) = append(0);
        let Command::Append(appends, room, reply) = command else { unreachable!() };
        let mut work = Work::new(appends, room, reply);
        // A retry of the newest entry, and new ones, all within a microsecond.
        let at = Time { micros: 1, offset_minutes: 0 };
        (7..=9).for_each(|seq| work.push_acked(7, seq, at));
        work.settle(7, &Err(CommitError::Failed(std::io::ErrorKind::Other.into())));
        assert!(
            matches!(&work.outcome[..], [Part::Acked { count: 1, .. }, Part::Refused { count: 2, .. }]),
            "{:?}",
            work.outcome
        );
    }

    /// Appends that need several batches, on a disk whose second sync fails.
    #[test]
    fn a_disk_that_fails_in_the_middle_of_an_append_is_told_part_by_part() {
        let (disk, reader, writer, Shared { queue, failed, .. }) = writer();
        let (command, mut outcome) = append(90_000);
        queue.send(command).unwrap();
        // The first batch makes the file: create, write, sync, sync the folder; the second looks, writes and
        // syncs.
        let syncs_second = disk.calls() + 6;
        disk.fail_at(syncs_second, Fault::Io);
        drop(queue);
        writer.run();

        assert_eq!(disk.call_log()[usize::try_from(syncs_second).unwrap()], Call::SyncData);
        assert!(failed.is_cancelled());
        let head = reader.head().seq;
        let outcome = outcome.try_recv().unwrap();
        let [
            Part::Acked { count: acked, first_seq: 1, .. },
            Part::Refused { refusal: unknown, .. },
            Part::Refused { refusal: not_stored, count },
        ] = &outcome[..]
        else {
            panic!("{outcome:?}");
        };
        assert_eq!(u64::from(*acked), head, "what is committed is acked");
        assert_eq!((unknown.code, not_stored.code), (Code::UnknownOutcome, Code::DiskFailed));
        assert!(head > 0 && *count > 0);
    }
}
