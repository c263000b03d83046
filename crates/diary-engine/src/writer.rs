//! The writer: the only actor that writes day files. It takes everything that is queued, commits it with one write and
//! one sync, and answers only then. It never waits for a batch to grow.
//!
//! It runs on its own thread, so a slow disk blocks no thread of the runtime. It has that thread from the first message
//! until it has been idle for a while; then it [rests](Rest). Staging reads nothing from the disk; texts of known keys are
//! compared by `repeats`, behind the commit.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use diary_proto::time::BadClock;
use diary_proto::{Code, Refusal, Time};
use diary_store::{Appender, CommitError, Derived, NewEntry, Reader, Staged, is_out_of_descriptors};
use jiff::tz::TimeZone;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::DropGuard;

use crate::common::Common;
use crate::earlier::Unfit;
use crate::in_order::InOrder;
use crate::limits::{BATCH_MAX_ENTRIES, WRITER_IDLE};
use crate::recent::Recent;
use crate::repeats::Repeats;
use crate::rest::Rest;
use crate::shared::{Command, Progress, Shared};
use crate::work::{Work, disk_failed, disk_full, stale};

/// The writer's state.
pub(crate) struct Writer {
    appender: Appender,
    queue: mpsc::UnboundedReceiver<Command>,
    progress: watch::Sender<Progress>,
    seen: watch::Sender<bool>,
    recent: Arc<Recent>,
    /// Cancels its token when dropped: after a disk failure, and if the writer panics. None while it rests.
    failed: Option<DropGuard>,
    common: Common,
    /// It rests when nothing has come for so long.
    idle: Duration,
    zone: TimeZone,
    clock: fn(&TimeZone) -> Result<Time, BadClock>,
    /// The clock cannot be used, and this is logged.
    clock_is_bad: bool,
    /// A stop that came while a batch was gathered. Nothing queued after it is taken.
    stop: Option<oneshot::Sender<()>>,
    /// Writes the cache in the background. The writer waits for it only if the next one is due.
    caching: Option<thread::JoinHandle<()>>,
    /// The disk was full at the last commit, and this is logged.
    full: bool,
    /// Who asks whether an append would be taken. One trial after the current batch answers all of them.
    checks: Vec<oneshot::Sender<Result<(), Refusal>>>,
    /// The last trial failed, on a disk that is not full, and this is logged.
    trial_failed: bool,
    /// Entries judged for the current batch, staged or not.
    judged: usize,
    reader: Reader,
    /// Compares retries. Started with the first one, because most journals see none.
    repeats: Option<Repeats>,
}

/// The disk failed. Nothing that is still queued is stored.
struct Failed;

/// Why the queue is not served any more.
enum Served {
    /// Nothing comes at the moment.
    Idle,
    /// It was told to stop, or all handles are dropped.
    Stopped,
}

impl Writer {
    /// A writer, and what its handles share.
    pub(crate) fn new(
        appender: Appender,
        reader: Reader,
        zone: TimeZone,
        common: &Common,
    ) -> (Box<Self>, Shared) {
        let head = reader.head().seq;
        let (sender, queue) = mpsc::unbounded_channel();
        let (progress, watched) = watch::channel(Progress { head, derived: false });
        let seen = watch::Sender::new(false);
        let recent = Arc::new(Recent::new(Arc::clone(&common.recent_bytes)));
        let shared = Shared {
            queue: sender,
            progress: watched,
            seen: seen.clone(),
            recent: Arc::clone(&recent),
            rest: Rest::new(),
        };
        let writer = Box::new(Self {
            appender,
            queue,
            progress,
            seen,
            recent,
            failed: Some(common.failed.clone().drop_guard()),
            common: common.clone(),
            idle: WRITER_IDLE,
            zone,
            clock: Time::of_the_clock,
            clock_is_bad: false,
            stop: None,
            caching: None,
            full: false,
            checks: Vec::new(),
            trial_failed: false,
            judged: 0,
            reader,
            repeats: None,
        });
        (writer, shared)
    }

    /// Serves the queue until it is told to stop or all handles are dropped, or until it is idle: then it leaves itself in
    /// `rest`.
    pub(crate) fn run(mut self: Box<Self>, rest: &Rest) {
        let served = loop {
            self.failed.get_or_insert_with(|| self.common.failed.clone().drop_guard());
            match self.serve() {
                // Who appends next is not to wait for somebody's retries.
                Ok(Served::Idle) if self.repeats.as_ref().is_some_and(|repeats| !repeats.is_idle()) => {
                    continue;
                }
                Ok(Served::Idle) => {}
                served => break served,
            }
            self.finish_repeats();
            match rest.put(self) {
                Ok(()) => return,
                Err(writer) => self = writer,
            }
        };
        let stop = self.stop.take();
        let stop = match served {
            Ok(_) => {
                self.end();
                stop
            }
            Err(Failed) => self.refuse_queued(stop),
        };
        // Last, because the caller may open the folder again.
        if let Some(done) = stop {
            let _ = done.send(());
        }
    }

    /// Refuses what came too late, and writes what the next start can use.
    pub(crate) fn end(mut self: Box<Self>) {
        self.queue.close();
        while let Ok(command) = self.queue.try_recv() {
            command.refuse_stopped();
        }
        if let Some(caching) = self.caching.take() {
            let _ = caching.join();
        }
        // The head comes before the repeats: a server that stops may not have the time for all of them.
        let Self { repeats, failed, appender, .. } = *self;
        if let Err(error) = appender.stop() {
            tracing::warn!(%error, "the head could not be written down; the next start checks the last batch");
        }
        if let Some(repeats) = repeats {
            repeats.finish();
        }
        if let Some(failed) = failed {
            failed.disarm();
        }
    }

    /// Nothing comes for a while: it needs no room for it, and dropping it is no failure.
    pub(crate) fn settle_down(&mut self) {
        self.appender.rest();
        if let Some(failed) = self.failed.take() {
            failed.disarm();
        }
    }

    fn serve(&mut self) -> Result<Served, Failed> {
        while self.stop.is_none() {
            match receive(&mut self.queue, self.idle) {
                Ok(command) => self.take(command)?,
                Err(RecvTimeoutError::Timeout) => return Ok(Served::Idle),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(Served::Stopped)
    }

    /// Whether something is queued, or nothing ever will be, so that it has to end.
    pub(crate) fn has_work(&self) -> bool {
        !self.queue.is_empty() || self.queue.is_closed()
    }

    /// Refuses what is queued, because there is no thread to write it. Returns whom to tell of a stop, if it was told to.
    pub(crate) fn refuse_waiting(&mut self) -> Option<oneshot::Sender<()>> {
        while let Ok(command) = self.queue.try_recv() {
            match command {
                Command::Stop(done) => return Some(done),
                command => {
                    let message = "the server has no thread to write this; it is not stored, try again later";
                    command.refuse(Refusal::new(Code::Busy, message));
                }
            }
        }
        None
    }

    /// Commits what is queued, in one batch if it fits. False if nothing was queued, or the disk has failed.
    #[cfg(feature = "sim")]
    pub(crate) fn commit_waiting(&mut self) -> bool {
        let Ok(command) = self.queue.try_recv() else { return false };
        self.take(command).is_ok()
    }

    #[cfg(test)]
    pub(crate) fn set_clock(&mut self, clock: fn(&TimeZone) -> Result<Time, BadClock>) {
        self.clock = clock;
    }

    #[cfg(test)]
    pub(crate) fn commit_each(&mut self) -> Vec<usize> {
        let mut batches = Vec::new();
        let Ok(Command::Append(appends, permit, reply)) = self.queue.try_recv() else { return batches };
        let mut rest = Some(Work::new(appends, permit, reply));
        while let Some(work) = rest {
            let mut batch = Vec::new();
            rest = self.gather(work, &mut batch);
            batches.push(self.judged);
            assert!(self.commit(batch, rest.as_mut()).is_ok(), "the disk works");
        }
        batches
    }

    /// Handles a command together with everything queued behind it.
    fn take(&mut self, command: Command) -> Result<(), Failed> {
        let mut rest = self.accept(command);
        if rest.is_none() && !self.checks.is_empty() {
            // Those that ask at the same time share its trial.
            rest = self.next_work();
        }
        while let Some(work) = rest {
            let mut batch = Vec::new();
            rest = self.gather(work, &mut batch);
            if let Err(Failed) = self.commit(batch, rest.as_mut()) {
                if let Some(work) = rest {
                    self.refuse_rest(work);
                }
                return Err(Failed);
            }
            self.write_cache();
            self.answer_checks();
        }
        self.answer_checks();
        Ok(())
    }

    /// Notes what a command asks for; its appends, if it brings some.
    fn accept(&mut self, command: Command) -> Option<Work> {
        match command {
            Command::Append(appends, permit, reply) => return Some(Work::new(appends, permit, reply)),
            Command::Check(reply) => self.checks.push(reply),
            Command::Derived(derived) => self.know_derived(derived),
            Command::Stop(done) => self.stop = Some(done),
        }
        None
    }

    /// The next appends for this batch, if there are any in the queue.
    fn next_work(&mut self) -> Option<Work> {
        while self.stop.is_none()
            && let Ok(command) = self.queue.try_recv()
        {
            // Nothing with a key has been staged before it.
            let ends_batch = matches!(command, Command::Derived(_));
            let work = self.accept(command);
            if ends_batch || work.is_some() {
                return work;
            }
        }
        None
    }

    /// Tries whether there is room, if anybody asks.
    fn answer_checks(&mut self) {
        if self.checks.is_empty() {
            return;
        }
        let answer = self.check();
        // An error means that nobody waits for the answer.
        self.checks.drain(..).for_each(|reply| _ = reply.send(answer.clone()));
    }

    /// The refusal that an append would get now, if any.
    fn check(&mut self) -> Result<(), Refusal> {
        (self.clock)(&self.zone).map_err(refusal_of)?;
        let tried = self.appender.try_room();
        let failed_before =
            std::mem::replace(&mut self.trial_failed, matches!(tried, Err(CommitError::Failed(_))));
        match tried {
            Ok(()) => Ok(()),
            Err(CommitError::Full(error)) => Err(disk_full(&error)),
            Err(CommitError::Failed(error)) => {
                if !failed_before {
                    tracing::error!(%error, "a trial file could not be written; no entry is harmed by that");
                }
                Err(disk_failed())
            }
        }
    }

    pub(crate) fn know_derived(&mut self, derived: Derived) {
        self.appender.set_derived(derived);
        self.seen.send_replace(true);
        self.progress.send_modify(|progress| progress.derived = true);
    }

    /// Starts to write the cache if it is due, after the previous write has ended.
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

    /// Stages `work` and everything queued behind it, until the batch is full or the queue is empty. Returns the work
    /// that did not fit completely.
    fn gather(&mut self, mut work: Work, batch: &mut Vec<Work>) -> Option<Work> {
        loop {
            if !self.stage(&mut work) {
                return Some(work);
            }
            batch.push(work);
            work = self.next_work()?;
        }
    }

    /// Stages the rest of `work`; false if the batch is full before its end. Reads nothing from the disk.
    fn stage(&mut self, work: &mut Work) -> bool {
        let clock = (self.clock)(&self.zone);
        self.tell_clock(clock);
        let now = clock.unwrap_or_else(|_| Time::now(&self.zone));
        let head = self.progress.borrow().head;
        // What is not stored already is refused with this.
        let in_order = work.appends.in_order.as_ref().and_then(InOrder::refusal);
        let refusal = in_order.cloned().or_else(|| clock.err().map(refusal_of));
        while let Some(place) = work.next() {
            if self.judged == BATCH_MAX_ENTRIES {
                return false;
            }
            if let Some(refusal) = work.appends.refused(place) {
                let refusal = refusal.clone();
                work.push_refused(&refusal);
                self.judged += 1;
                continue;
            }
            let own = work.appends.own(place);
            let (relation, unfit) = work.appends.related(place).unzip();
            let entry = NewEntry {
                author: own.and_then(|own| own.author.as_deref()).unwrap_or(&work.appends.author),
                text: work.appends.text(place),
                key: work.appends.key(place),
                at: own.and_then(|own| own.at),
                relation,
            };
            let unfit = unfit.flatten().map(Unfit::refusal);
            let staged = match refusal.as_ref().or(unfit.as_ref()) {
                None => Ok(self.appender.stage(now, entry)),
                Some(refusal) => {
                    entry.key.and_then(|(key, retry)| self.appender.judge(key, retry)).ok_or(refusal)
                }
            };
            match staged {
                Ok(Staged::New(seq)) => work.push_staged(seq, now),
                Ok(Staged::Known { seq }) => work.push_known(seq, head, now),
                Ok(Staged::Stale) => work.push_refused(&stale()),
                Ok(Staged::Full) => return false,
                Err(refusal) => work.push_refused(refusal),
            }
            self.judged += 1;
        }
        true
    }

    /// Logs that the clock cannot be used, once, and that it can again.
    fn tell_clock(&mut self, clock: Result<Time, BadClock>) {
        match (clock, self.clock_is_bad) {
            (Err(bad), false) => tracing::error!("{bad}; appends are refused until it is set"),
            (Ok(now), true) => tracing::info!("the clock says {now}, and appends are taken again"),
            _ => {}
        }
        self.clock_is_bad = clock.is_err();
    }

    /// Commits the batch, then answers it. Only a part of `rest` is staged.
    fn commit(&mut self, mut batch: Vec<Work>, rest: Option<&mut Work>) -> Result<(), Failed> {
        self.judged = 0;
        let before = self.progress.borrow().head;
        let result = self.appender.commit(Time::now(&self.zone));
        for work in batch.iter_mut().chain(rest) {
            work.settle(before, &result);
        }
        let end = match result {
            Ok(committed) => {
                // Readers see the batch before its writers are answered.
                if committed.count > 0 {
                    self.recent.push(|| self.appender.fresh());
                    self.progress.send_modify(|progress| progress.head += committed.count);
                    if std::mem::take(&mut self.full) {
                        tracing::info!("there is room on the disk again");
                    }
                }
                Ok(())
            }
            Err(CommitError::Full(error)) if is_out_of_descriptors(&error) => {
                if !std::mem::replace(&mut self.full, true) {
                    tracing::error!(%error, "a day file cannot be opened; appends are refused until one can");
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
        batch.into_iter().for_each(|work| self.answer(work));
        end
    }

    /// Answers `work`, whose entries are all settled. If it has repeats, they are compared first.
    fn answer(&mut self, work: Work) {
        if !work.has_repeats() {
            return work.answer();
        }
        if self.repeats.is_none() {
            match Repeats::start(self.reader.clone(), Arc::clone(&self.common.repeats)) {
                Ok(repeats) => self.repeats = Some(repeats),
                // Dropping the work answers that the outcome is unknown.
                Err(error) => {
                    return tracing::error!(%error, "retries cannot be compared; there is no thread for it");
                }
            }
        }
        if let Some(repeats) = &self.repeats {
            repeats.push(work);
        }
    }

    /// Refuses the rest of `work`, because the disk has failed, and answers it.
    fn refuse_rest(&mut self, mut work: Work) {
        work.refuse_rest();
        self.answer(work);
    }

    /// After a disk failure: refuses everything, until the stop or until all handles are dropped.
    fn refuse_queued(
        mut self: Box<Self>,
        mut stop: Option<oneshot::Sender<()>>,
    ) -> Option<oneshot::Sender<()>> {
        if stop.is_some() {
            self.queue.close();
        }
        while let Some(command) = self.queue.blocking_recv() {
            match command {
                Command::Append(appends, permit, reply) => {
                    self.refuse_rest(Work::new(appends, permit, reply));
                }
                Command::Check(reply) => _ = reply.send(Err(disk_failed())),
                Command::Derived(_) => {}
                Command::Stop(done) => {
                    stop = Some(done);
                    self.queue.close();
                }
            }
        }
        self.finish_repeats();
        stop
    }

    /// Waits until every repeat is answered.
    fn finish_repeats(&mut self) {
        if let Some(repeats) = self.repeats.take() {
            repeats.finish();
        }
    }
}

/// The next message of a queue, if one comes within `timeout`. Blocks the thread.
fn receive<T>(queue: &mut mpsc::UnboundedReceiver<T>, timeout: Duration) -> Result<T, RecvTimeoutError> {
    if let Ok(message) = queue.try_recv() {
        return Ok(message);
    }
    let until = Instant::now() + timeout;
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match queue.poll_recv(&mut Context::from_waker(&waker)) {
            Poll::Ready(message) => return message.ok_or(RecvTimeoutError::Disconnected),
            Poll::Pending => match until.checked_duration_since(Instant::now()) {
                Some(left) => thread::park_timeout(left),
                None => return Err(RecvTimeoutError::Timeout),
            },
        }
    }
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The refusal of what cannot be given a time.
fn refusal_of(bad: BadClock) -> Refusal {
    Refusal::new(Code::BadClock, format!("{bad}; this is not stored, set the server's clock"))
}

#[cfg(test)]
mod tests;
