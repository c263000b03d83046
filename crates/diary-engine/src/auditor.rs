//! Damage in the log: what is read is checked, and what is damaged or missing is logged with its line.
//!
//! Readings hand lines on as they are, because their clients check them. One thread checks the same entries a moment
//! later, at a bounded rate, and finds the lines of what is damaged. So neither costs a reading anything. All journals
//! share the thread, and take turns.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::iter;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread;

use diary_proto::block::{Gap, Step, Walker};
use diary_store::scan::Seqs;
use diary_store::{Located, Reader};
use rangemap::RangeSet;
use tokio::sync::oneshot;

use crate::limits::{AUDIT_PAUSE, AUDIT_RANGES_MAX, GAPS_TOLD, PAGE_BYTES};

/// Of nice(1).
const LOWEST_PRIORITY: i32 = 19;

/// Logs a journal's damage, each once. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Auditor {
    audited: Arc<Audited>,
    audits: Arc<Audits>,
}

#[derive(Debug)]
struct Audited {
    reader: Reader,
    state: Mutex<State>,
}

/// The way to the thread, which the first message starts; `None` if it cannot start. Unbounded, because few messages pass
/// through it: of each journal at most [`GAPS_TOLD`] gaps, and a wake-up when something is to be checked.
#[derive(Debug, Default)]
pub(crate) struct Audits(OnceLock<Option<Sender>>);

type Sender = mpsc::Sender<(Arc<Audited>, Message)>;

#[derive(Debug, Default)]
struct State {
    /// First seqs of the gaps that were logged.
    told: HashSet<u64>,
    /// Entries that were read and are to be checked.
    pending: RangeSet<u64>,
    checked: RangeSet<u64>,
}

#[derive(Debug)]
enum Message {
    Gap(Gap),
    /// There are entries to check.
    Check,
    /// Answer when everything before it is logged.
    Flush(oneshot::Sender<()>),
}

impl Auditor {
    pub(crate) fn new(reader: Reader, audits: Arc<Audits>) -> Self {
        Self { audited: Arc::new(Audited { reader, state: Mutex::default() }), audits }
    }

    /// Logs that these entries are damaged or missing, and where.
    pub(crate) fn tell(&self, gap: Gap) {
        if self.audited.lock().is_new(gap) && !self.send(Message::Gap(gap)) {
            tracing::error!("{} damaged or missing", Seqs(gap.first, gap.last));
        }
    }

    /// Entries from the first to the last of these were read. If there are too many ranges, they are checked when they are
    /// read again.
    pub(crate) fn read(&self, first: u64, last: u64) {
        if first > last {
            return;
        }
        let mut state = self.audited.lock();
        let new: Vec<Range<u64>> = state.checked.gaps(&(first..last + 1)).collect();
        if new.is_empty() || state.pending.len() + new.len() > AUDIT_RANGES_MAX {
            return;
        }
        let wakes = state.pending.is_empty();
        state.pending.extend(new);
        drop(state);
        if wakes {
            self.send(Message::Check);
        }
    }

    /// Completes when everything told or read so far is logged. Cancel safe.
    pub(crate) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if let Some(Some(queue)) = self.audits.0.get()
            && queue.send((Arc::clone(&self.audited), Message::Flush(done))).is_ok()
        {
            // An error means that the thread is gone.
            let _ = flushed.await;
        }
    }

    /// First seqs of the gaps that were logged, in order.
    #[cfg(test)]
    pub(crate) fn told(&self) -> Vec<u64> {
        let mut told: Vec<u64> = self.audited.lock().told.iter().copied().collect();
        told.sort_unstable();
        told
    }

    fn send(&self, message: Message) -> bool {
        let queue = self.audits.0.get_or_init(|| start().ok());
        queue.as_ref().is_some_and(|queue| queue.send((Arc::clone(&self.audited), message)).is_ok())
    }
}

fn start() -> io::Result<Sender> {
    let (queue, messages) = mpsc::channel();
    thread::Builder::new().name("auditor".to_owned()).spawn(move || serve(&messages))?;
    Ok(queue)
}

impl Audited {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_pending(&self) -> Option<Range<u64>> {
        self.lock().pending.first().cloned()
    }
}

impl State {
    /// Whether this gap is to be logged: it was not yet.
    fn is_new(&mut self, gap: Gap) -> bool {
        self.told.len() < GAPS_TOLD && self.told.insert(gap.first)
    }
}

fn serve(queue: &mpsc::Receiver<(Arc<Audited>, Message)>) {
    // Behind everybody who is waited for. Where that is not to be had, the pauses have to do.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), LOWEST_PRIORITY);
    let mut flushes = Vec::new();
    // Journals with entries to check, the next one first.
    let mut waiting = VecDeque::<Arc<Audited>>::new();
    loop {
        let message = if waiting.is_empty() {
            // An error means that nobody waits any more.
            flushes.drain(..).for_each(|done: oneshot::Sender<()>| _ = done.send(()));
            queue.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected)
        } else {
            queue.recv_timeout(AUDIT_PAUSE)
        };
        // Everything queued at once: gaps of one day file need one walk.
        let mut gaps: Vec<(Arc<Audited>, Vec<Gap>)> = Vec::new();
        match message {
            Ok(first) => {
                for (audited, message) in iter::once(first).chain(queue.try_iter()) {
                    match message {
                        Message::Gap(gap) => {
                            match gaps.iter_mut().find(|(of, _)| Arc::ptr_eq(of, &audited)) {
                                Some((_, gaps)) => gaps.push(gap),
                                None => gaps.push((audited, vec![gap])),
                            }
                        }
                        Message::Check => waiting.push_back(audited),
                        Message::Flush(done) => flushes.push(done),
                    }
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
        gaps.iter_mut().for_each(|(audited, gaps)| log(&audited.reader, gaps));
        if let Some(audited) = waiting.pop_front() {
            if let Some(seqs) = audited.next_pending() {
                let mut found = check(&audited, seqs);
                found.retain(|&gap| audited.lock().is_new(gap));
                log(&audited.reader, &mut found);
            }
            if audited.next_pending().is_some() {
                waiting.push_back(audited);
            }
        }
    }
}

/// Checks some entries from the first of `seqs` on, and returns their gaps.
fn check(audited: &Audited, seqs: Range<u64>) -> Vec<Gap> {
    let reader = &audited.reader;
    let (mut gaps, mut walker) = (Vec::new(), Walker::new(seqs.start, reader.seal()));
    let read = reader.from(seqs.start).and_then(|mut range| {
        while walker.next_seq() == seqs.start {
            match reader.next_page(&mut range, PAGE_BYTES)? {
                Some(page) => walker.pass(&page, |_| true, |step| gaps.extend(gap_of(step))),
                None => return Ok(true),
            }
        }
        Ok(false)
    });
    match read {
        Ok(false) => {}
        Ok(true) => gaps.extend(walker.finish(seqs.end - 1)),
        // The reader of these entries gets the same error.
        Err(_) => _ = walker.finish(seqs.end - 1),
    }
    let done = seqs.start..walker.next_seq();
    let mut state = audited.lock();
    state.pending.remove(done.clone());
    if state.checked.len() < AUDIT_RANGES_MAX {
        state.checked.insert(done);
    }
    gaps
}

fn gap_of<L>(step: Step<L>) -> Option<Gap> {
    match step {
        Step::Gap(gap) => Some(gap),
        Step::Entry(_) => None,
    }
}

fn log(reader: &Reader, gaps: &mut [Gap]) {
    gaps.sort_unstable_by_key(|gap| gap.first);
    let firsts: Vec<u64> = gaps.iter().map(|gap| gap.first).collect();
    for (gap, place) in gaps.iter().zip(reader.locate_all(&firsts)) {
        let what = Seqs(gap.first, gap.last);
        match place {
            Located::Line(file, line) => tracing::error!("{file}.log line {line}: {what} damaged or missing"),
            Located::Behind(file) => {
                tracing::error!("{file}.log, behind its last line: {what} damaged or missing");
            }
            Located::Nowhere => tracing::error!("{what} missing, and so are all day files"),
            Located::Unreadable(file, io::ErrorKind::NotFound) => {
                tracing::error!("{what} missing: {file}.log is not there, or not of this diary");
            }
            Located::Unreadable(file, error) => {
                tracing::error!("{what} missing: {file}.log cannot be read: {error}");
            }
        }
    }
}
