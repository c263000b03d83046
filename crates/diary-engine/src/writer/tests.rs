//! Tests of the writer, on a simulated disk.

use std::path::Path;

use diary_proto::{Author, Code};
use diary_store::Opened;
use diary_store::disk::Disk;
use diary_store::sim::{Call, Fault, SimDisk};
use tokio::sync::Semaphore;

use super::*;
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
