//! Tests of the writer, on a simulated disk.

use std::path::{Path, PathBuf};

use diary_proto::{Author, Code};
use diary_store::Opened;
use diary_store::disk::Disk;
use diary_store::sim::{Call, Fault, SimDisk};
use tokio::sync::Semaphore;

use super::*;
use crate::testing::{appends, keyed};
use crate::{Appends, Outcome, Part};

/// A writer on a simulated disk, whose journal has no keys loaded: it writes no cache, whose calls would mingle with
/// the others.
fn writer() -> (SimDisk, diary_store::Reader, Box<Writer>, Shared) {
    let disk = SimDisk::new();
    disk.create_dir(Path::new("/data")).unwrap();
    let Opened { appender, reader, .. } =
        diary_store::open(Arc::new(disk.clone()), Path::new("/data/diary")).unwrap();
    let (writer, shared) = Writer::new(appender, reader.clone(), TimeZone::UTC, &Common::new());
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
    let (disk, _, writer, Shared { queue, .. }) = writer();
    let failed = writer.common.failed.clone();
    let (command, mut outcome) = append(1);
    queue.send(command).unwrap();
    let (done, mut stopped) = oneshot::channel();
    queue.send(Command::Stop(done)).unwrap();
    disk.fail_at(disk.calls() + 2, Fault::Io);
    // The sender that is left here would keep a queue open that is only drained.
    writer.run(&Rest::new());
    assert!(failed.is_cancelled());
    assert!(matches!(&outcome.try_recv().unwrap()[..], [Part::Refused { .. }]));
    stopped.try_recv().unwrap();
}

/// Appends that need several batches, on a disk whose second sync fails.
#[test]
fn a_disk_that_fails_in_the_middle_of_an_append_is_told_part_by_part() {
    let (disk, reader, writer, Shared { queue, .. }) = writer();
    let failed = writer.common.failed.clone();
    let (command, mut outcome) = append(90_000);
    queue.send(command).unwrap();
    // The first batch makes the file: create, write, sync, sync the folder; the second looks, writes and
    // syncs.
    let syncs_second = disk.calls() + 6;
    disk.fail_at(syncs_second, Fault::Io);
    drop(queue);
    writer.run(&Rest::new());

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

fn day_files(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let is_day = |path: &Path| path.extension().is_some_and(|end| end == "log");
    disk.contents().into_iter().filter(|(path, _)| is_day(path)).collect()
}

/// A clock that cannot be written: nothing is stored, known keys are still known, and the journal goes on once it is set.
#[test]
fn a_clock_beyond_all_years_refuses_appends_and_fails_no_disk() {
    let disk = SimDisk::new();
    let opened = diary_store::open(Arc::new(disk.clone()), Path::new("/diary")).unwrap();
    let (appender, reader) = opened.with_derived().unwrap();
    let common = Common::new();
    let (mut writer, Shared { queue, .. }) = Writer::new(appender, reader.clone(), TimeZone::UTC, &common);
    let send = |appends: Appends| {
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let (reply, outcome) = oneshot::channel();
        queue.send(Command::Append(appends, room, reply)).unwrap();
        outcome
    };
    let mut first = send(keyed(1, ["one"]));
    assert!(writer.commit_waiting());
    assert!(matches!(first.try_recv().unwrap()[..], [Part::Acked { first_seq: 1, .. }]));

    for bad in [(|_: &TimeZone| Err(BadClock::TooLate)) as fn(&_) -> _, |_| Err(BadClock::TooEarly)] {
        writer.clock = bad;
        let before = day_files(&disk);
        let mut outcome = send(appends(["two", "three"]));
        let known = send(keyed(1, ["one", "four"]));
        assert!(writer.commit_waiting());
        let refused = outcome.try_recv().unwrap();
        let [Part::Refused { count: 2, refusal }] = &refused[..] else { panic!("{refused:?}") };
        assert_eq!(refusal.code, Code::BadClock);
        assert!(refusal.message.starts_with("the clock says a time "), "{refusal}");
        let known = known.blocking_recv().unwrap();
        assert!(
            matches!(&known[..], [Part::Acked { first_seq: 1, count: 1, .. }, Part::Refused { count: 1, refusal }]
                if refusal.code == Code::BadClock),
            "{known:?}"
        );
        assert_eq!(day_files(&disk), before);
    }
    assert!(!common.failed.is_cancelled());
    writer.clock = Time::of_the_clock;
    let mut last = send(appends(["five"]));
    assert!(writer.commit_waiting());
    assert!(matches!(last.try_recv().unwrap()[..], [Part::Acked { first_seq: 2, .. }]));
    assert_eq!(reader.head().seq, 2);
}

/// A writer whose keys are loaded, and what sends appends of one producer to it.
fn keyed_writer(disk: &SimDisk) -> (diary_store::Reader, Box<Writer>, Shared) {
    let opened = diary_store::open(Arc::new(disk.clone()), Path::new("/diary")).unwrap();
    let (appender, reader) = opened.with_derived().unwrap();
    let (writer, shared) = Writer::new(appender, reader.clone(), TimeZone::UTC, &Common::new());
    (reader, writer, shared)
}

fn send(shared: &Shared, appends: Appends) -> oneshot::Receiver<Outcome> {
    let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let (reply, outcome) = oneshot::channel();
    shared.queue.send(Command::Append(appends, room, reply)).unwrap();
    outcome
}

fn in_order(order: &InOrder, mut appends: Appends) -> Appends {
    appends.in_order = Some(order.clone());
    appends
}

/// What became of appends: the first seq of an acked part, or the code of a refused one.
fn short(mut outcome: oneshot::Receiver<Outcome>) -> Vec<(u32, Result<u64, Code>)> {
    let outcome = outcome.try_recv().expect("the writer has answered");
    let short = |part: &Part| match part {
        Part::Acked { count, first_seq, .. } => (*count, Ok(*first_seq)),
        Part::Refused { count, refusal } => (*count, Err(refusal.code)),
        Part::Conflict { .. } => (1, Err(Code::Conflict)),
    };
    outcome.iter().map(short).collect()
}

fn texts_of(reader: &diary_store::Reader) -> Vec<String> {
    let text = |seq| reader.line(seq, |line| line.text.to_owned()).unwrap().unwrap();
    (1..=reader.head().seq).map(text).collect()
}

/// The disk is full for one batch, in which a connection has two appends. A third one of it is queued behind, when
/// there is room again.
#[test]
fn nothing_of_a_connection_overtakes_what_a_full_disk_refused() {
    let disk = SimDisk::new();
    let (reader, mut writer, shared) = keyed_writer(&disk);
    let (one, other) = (InOrder::default(), InOrder::default());
    let kept = send(&shared, in_order(&one, keyed(1, ["kept"])));
    assert!(writer.commit_waiting());
    assert_eq!(short(kept), [(1, Ok(1))]);

    disk.set_full(true);
    let first = send(&shared, in_order(&one, keyed(2, ["first"])));
    let second = send(&shared, in_order(&one, keyed(3, ["second", "third"])));
    assert!(writer.commit_waiting());
    disk.set_full(false);
    let later = send(&shared, in_order(&one, keyed(5, ["later"])));
    let of_others = send(&shared, in_order(&other, appends(["of others"])));
    let by_itself = send(&shared, appends(["by itself"]));
    let stored = send(&shared, in_order(&one, keyed(1, ["kept"])));
    assert!(writer.commit_waiting());
    writer.finish_repeats();
    let full = Err(Code::DiskFull);
    assert_eq!([short(first), short(second), short(later)], [[(1, full)], [(2, full)], [(1, full)]]);
    assert_eq!((short(of_others), short(by_itself)), (vec![(1, Ok(2))], vec![(1, Ok(3))]));
    assert_eq!(short(stored), [(1, Ok(1))], "it is stored, wherever it is sent again");

    // On a new connection all of it goes through, in order.
    let again = send(&shared, in_order(&InOrder::default(), keyed(2, ["first", "second", "third", "later"])));
    assert!(writer.commit_waiting());
    assert_eq!(short(again), [(4, Ok(4))]);
    assert_eq!(texts_of(&reader), ["kept", "of others", "by itself", "first", "second", "third", "later"]);
}

/// Appends that need two batches: the disk is full for the first of them only.
#[test]
fn the_rest_of_an_append_does_not_overtake_its_beginning() {
    let disk = SimDisk::new();
    let (reader, mut writer, shared) = keyed_writer(&disk);
    let mut large = appends(std::iter::repeat_n(&*"x".repeat(80), 90_000));
    large.in_order = Some(InOrder::default());
    let outcome = send(&shared, large);
    // It makes the file, and writes.
    disk.fail_at(disk.calls() + 1, Fault::Full);
    assert!(writer.commit_waiting());
    assert_eq!(reader.head().seq, 0);
    assert_eq!(short(outcome), [(90_000, Err(Code::DiskFull))]);
}

#[test]
fn nothing_of_a_connection_overtakes_what_a_bad_clock_refused() {
    let disk = SimDisk::new();
    let (reader, mut writer, shared) = keyed_writer(&disk);
    let order = InOrder::default();
    writer.clock = |_| Err(BadClock::TooLate);
    let first = send(&shared, in_order(&order, keyed(1, ["first"])));
    assert!(writer.commit_waiting());
    writer.clock = Time::of_the_clock;
    let second = send(&shared, in_order(&order, keyed(2, ["second"])));
    assert!(writer.commit_waiting());
    assert_eq!([short(first), short(second)], [[(1, Err(Code::BadClock))]; 2]);
    assert_eq!(reader.head().seq, 0);
}

/// A text that can never be stored holds up nobody.
#[test]
fn what_is_refused_for_good_holds_up_nothing() {
    let (_, mut writer, shared) = keyed_writer(&SimDisk::new());
    let order = InOrder::default();
    let mut bad = in_order(&order, keyed(1, []));
    bad.push_refused(Refusal::new(Code::Empty, "an entry needs a text"));
    let (bad, good) = (send(&shared, bad), send(&shared, in_order(&order, keyed(2, ["good"]))));
    assert!(writer.commit_waiting());
    assert_eq!((short(bad), short(good)), (vec![(1, Err(Code::Empty))], vec![(1, Ok(1))]));
}

fn ask(shared: &Shared) -> oneshot::Receiver<Result<(), Refusal>> {
    let (reply, answer) = oneshot::channel();
    shared.queue.send(Command::Check(reply)).unwrap();
    answer
}

fn told(mut answer: oneshot::Receiver<Result<(), Refusal>>) -> Result<(), Code> {
    answer.try_recv().expect("the writer has answered").map_err(|refusal| refusal.code)
}

#[test]
fn a_check_says_what_an_append_would_get_and_leaves_nothing() {
    let disk = SimDisk::new();
    let (reader, mut writer, shared) = keyed_writer(&disk);
    let check = |writer: &mut Writer| {
        let answer = ask(&shared);
        assert!(writer.commit_waiting());
        told(answer)
    };
    let before = disk.contents();
    assert_eq!(check(&mut writer), Ok(()));
    disk.set_full(true);
    assert_eq!(check(&mut writer), Err(Code::DiskFull));
    disk.set_full(false);
    for call in 0..3 {
        disk.fail_at(disk.calls() + call, Fault::Io);
        assert_eq!(check(&mut writer), Err(Code::DiskFailed), "{call}");
    }
    writer.clock = |_| Err(BadClock::TooEarly);
    assert_eq!(check(&mut writer), Err(Code::BadClock));
    writer.clock = Time::of_the_clock;
    assert_eq!(check(&mut writer), Ok(()));
    assert_eq!((disk.contents(), reader.head().seq), (before, 0));
    // A trial that failed has harmed nothing.
    let outcome = send(&shared, keyed(1, ["an entry"]));
    assert!(writer.commit_waiting());
    assert_eq!(short(outcome), [(1, Ok(1))]);
    // A disk that failed under an entry has.
    let outcome = send(&shared, keyed(2, ["lost"]));
    disk.fail_at(disk.calls() + 1, Fault::Io);
    assert!(!writer.commit_waiting());
    assert_eq!(short(outcome), [(1, Err(Code::UnknownOutcome))]);
    let answer = ask(&shared);
    drop(shared);
    writer.refuse_queued(None);
    assert_eq!(told(answer), Err(Code::DiskFailed));
}

/// However many ask, what is queued is committed first, in one batch, and one trial answers all.
#[test]
fn checks_share_one_trial_behind_the_batch() {
    let disk = SimDisk::new();
    let (_, mut writer, shared) = keyed_writer(&disk);
    let first = send(&shared, keyed(1, ["makes the file"]));
    assert!(writer.commit_waiting());
    assert_eq!(short(first), [(1, Ok(1))]);
    let before = disk.call_log().len();
    let mut answers = vec![ask(&shared), ask(&shared)];
    let one = send(&shared, keyed(2, ["one"]));
    answers.push(ask(&shared));
    let two = send(&shared, keyed(3, ["two"]));
    answers.push(ask(&shared));
    assert!(writer.commit_waiting());
    assert_eq!((short(one), short(two)), (vec![(1, Ok(2))], vec![(1, Ok(3))]));
    answers.into_iter().for_each(|answer| assert_eq!(told(answer), Ok(())));
    let calls =
        [Call::Size, Call::Write, Call::SyncData, Call::Size, Call::Create, Call::Write, Call::SyncData];
    assert_eq!(disk.call_log()[before..], calls);
    // Whoever comes too late hears that, too.
    let (done, _stopped) = oneshot::channel();
    shared.queue.send(Command::Stop(done)).unwrap();
    let late = ask(&shared);
    writer.run(&Rest::new());
    assert_eq!(told(late), Err(Code::Stopping));
}

/// Waits until the writer rests, or has been called again.
fn is_resting(shared: &Shared) -> bool {
    format!("{:?}", shared.rest).contains("true")
}

#[test]
fn an_idle_writer_gives_its_thread_back_and_goes_on_with_the_next_append() {
    let (_, reader, mut writer, shared) = writer();
    writer.idle = Duration::from_millis(1);
    let failed = writer.common.failed.clone();
    assert!(shared.rest.put(writer).is_ok());
    for round in 1..=20 {
        let (command, outcome) = append(1);
        assert!(shared.send(command));
        assert!(matches!(outcome.blocking_recv().unwrap()[..], [Part::Acked { .. }]));
        assert_eq!(reader.head().seq, round);
        while round % 2 == 0 && !is_resting(&shared) {
            thread::yield_now();
        }
    }
    // A stop finds it wherever it is.
    let (done, stopped) = oneshot::channel();
    assert!(shared.send(Command::Stop(done)));
    stopped.blocking_recv().unwrap();
    assert!(!shared.send(append(1).0));
    assert!(!failed.is_cancelled());
}

#[test]
fn a_writer_with_work_does_not_go_to_rest() {
    let (_, reader, writer, shared) = writer();
    let (command, outcome) = append(1);
    // It has come behind the writer's last look, and finds it busy.
    shared.queue.send(command).unwrap();
    let writer = shared.rest.put(writer).expect_err("it has work");
    let (done, _stopped) = oneshot::channel();
    shared.queue.send(Command::Stop(done)).unwrap();
    writer.run(&Rest::new());
    assert!(matches!(outcome.blocking_recv().unwrap()[..], [Part::Acked { .. }]));
    assert_eq!(reader.head().seq, 1);
}

/// Many threads send while the writer goes to rest again and again: a message that it misses would never be answered.
#[test]
fn a_writer_that_goes_to_rest_misses_nothing() {
    const SENDERS: u64 = 4;
    const EACH: u64 = 300;
    let (_, reader, mut writer, shared) = writer();
    writer.idle = Duration::ZERO;
    assert!(shared.rest.put(writer).is_ok());
    thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    let (command, outcome) = append(1);
                    assert!(shared.send(command));
                    assert!(matches!(outcome.blocking_recv().unwrap()[..], [Part::Acked { .. }]));
                }
            });
        }
    });
    assert_eq!(reader.head().seq, SENDERS * EACH);
}

#[test]
fn a_writer_without_handles_ends_and_harms_nothing() {
    for rests in [true, false] {
        let (disk, _, mut writer, shared) = writer();
        writer.idle = Duration::from_secs(600);
        let failed = writer.common.failed.clone();
        assert!(shared.rest.put(writer).is_ok());
        if !rests {
            let (command, outcome) = append(1);
            assert!(shared.send(command));
            outcome.blocking_recv().unwrap();
        }
        drop(shared);
        // The folder's lock is given back.
        while diary_store::open(Arc::new(disk.clone()), Path::new("/data/diary")).is_err() {
            thread::yield_now();
        }
        assert!(!failed.is_cancelled());
    }
}
