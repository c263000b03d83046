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
fn writer() -> (SimDisk, diary_store::Reader, Writer, Shared) {
    let disk = SimDisk::new();
    disk.create_dir(Path::new("/data")).unwrap();
    let Opened { appender, reader, .. } =
        diary_store::open(Arc::new(disk.clone()), Path::new("/data/diary")).unwrap();
    let (writer, shared) = Writer::new(appender, reader.clone(), TimeZone::UTC);
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
    let (mut writer, Shared { queue, failed, .. }) = Writer::new(appender, reader.clone(), TimeZone::UTC);
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
    assert!(!failed.is_cancelled());
    writer.clock = Time::of_the_clock;
    let mut last = send(appends(["five"]));
    assert!(writer.commit_waiting());
    assert!(matches!(last.try_recv().unwrap()[..], [Part::Acked { first_seq: 2, .. }]));
    assert_eq!(reader.head().seq, 2);
}
