//! A disk that fails: every call that the real server makes to it fails once, a small disk fills up and is
//! freed, one is read-only, and files run out. What was acked is there afterwards, what was refused as not
//! stored is not, and everybody is told.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use diary_proto::message::ServerMessage;
use diary_proto::{Code, Time, Which};
use futures::StreamExt;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines as LineReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::support::{
    Frames, Lines, Process, day_files, is_ack, peer, server_command, soon, stored, text, texts_of,
};

/// From a failed disk to the server's end.
const END_MAX: Duration = Duration::from_secs(10);

/// How long a failing call takes, where others are to be queued behind it meanwhile; in microseconds.
const DELAY: &str = ":delay_enter=1000000";

/// Servers under strace at the same time.
const AT_ONCE: usize = 4;

// --- a failed write or sync: exit code 5 -----------------------------------------------------------------

#[tokio::test]
async fn a_failed_write_or_sync_is_an_unknown_outcome_and_the_end() {
    // Batches go to a file that is there: the second one fails.
    for fault in [
        Fault::of(&["pwrite64:error=EIO:when=2"]),
        Fault::of(&["fdatasync:error=EIO:when=2"]).delayed(),
        // A sync that finds no room is a failed sync.
        Fault::of(&["fdatasync:error=ENOSPC:when=2"]).delayed(),
        // No room, and the file cannot be brought back to what it was.
        Fault::of(&["pwrite64:error=ENOSPC:when=2", "ftruncate:error=EIO:when=1"]),
        Fault::of(&["pwrite64:error=ENOSPC:when=2", "fdatasync:error=EIO:when=2"]),
    ] {
        fails(fault, 1).await;
    }
}

#[tokio::test]
async fn a_new_file_that_fails_is_an_unknown_outcome_and_the_end() {
    for fault in [
        Fault::of(&["openat:error=EIO:when=1"]).in_day_file(),
        Fault::of(&["pwrite64:error=EIO:when=1"]),
        Fault::of(&["fdatasync:error=EIO:when=1"]).delayed(),
        // The name of the new file.
        Fault::of(&["fsync:error=EIO:when=1"]).in_new_file().delayed(),
        Fault::of(&["fsync:error=ENOSPC:when=1"]).in_new_file(),
        // No room, and the file cannot be taken back.
        Fault::of(&["pwrite64:error=ENOSPC:when=1", "/^unlink:error=EIO:when=1"]).in_new_file(),
        Fault::of(&["pwrite64:error=ENOSPC:when=1", "fsync:error=EIO:when=1"]).in_new_file(),
    ] {
        fails(fault, 0).await;
    }
}

/// So many batches are committed, then the disk fails as `fault` says.
async fn fails(fault: Fault, batches: u64) {
    let what = &fault.what();
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("diary");
    let before = if batches > 0 { some_diary(folder.path()).await } else { 0 };
    let server = Started::spawn(fault.command(folder.path())).await;
    let mut keyed = Frames::hello(server.address(), 1).await;
    let mut head = before;
    for counter in 0..batches {
        keyed.append(counter, false, &[&format!("kept {counter}")]).await;
        head += 1;
        assert_eq!(keyed.acks(1).await, [(counter, head)], "{what}");
    }
    let good = head;
    let mut follower = Lines::connect(server.address()).await;
    assert_eq!(follower.ask("/follow #1").await, "ok follow from 1");
    for seq in 1..=good {
        assert!(follower.line().await.starts_with(&format!("{seq} ")), "{what}");
    }
    let mut queued = Lines::connect(server.address()).await;
    let mut reader = Lines::connect(server.address()).await;

    let size = size_of_day_files(&journal);
    keyed.append(batches, false, &["may be stored"]).await;
    if fault.delayed {
        // It is written, and not synced.
        soon("the batch is written", grown(&journal, size)).await;
        queued.send("queued behind it\n").await;
        assert_eq!(reader.history("all").await.len() as u64, good, "{what}: nobody sees it before its sync");
    }
    let (counter, code) = refused(&mut keyed).await;
    let told = Instant::now();
    assert_eq!((counter, code), (batches, Code::UnknownOutcome), "{what}");
    if fault.delayed {
        let answer = queued.line().await;
        assert!(answer.starts_with("error disk-failed: "), "{what}: {answer}");
    }
    let rest = rest_of(follower).await;
    assert!(!rest.contains("may be stored") && !rest.contains("queued"), "{what}: {rest}");
    drop((keyed, queued, reader));
    let (code, said) = server.end().await;
    assert_eq!(code, Some(5), "{what}: {said}");
    assert!(told.elapsed() < END_MAX, "{what}: {:?}", told.elapsed());
    assert!(
        said.contains("(INJECTED)") && said.contains("nothing more can be written, and the server stops"),
        "{what}: {said}"
    );
    assert!(!said.contains("panicked"), "{what}: {said}");

    // What was acked is there; its writer's retry is not a second entry; who was refused is not there.
    let server = serve(folder.path()).await;
    let mut keyed = Frames::hello(server.address(), 1).await;
    let found = texts_of(&keyed.history(1, Which::All).await.lines);
    assert!((good..=good + 1).contains(&(found.len() as u64)), "{what}: {found:?}");
    keyed.append(batches, true, &["may be stored"]).await;
    assert_eq!(keyed.acks(1).await, [(batches, good + 1)], "{what}");
    keyed.append(batches + 1, false, &["goes on"]).await;
    assert_eq!(keyed.acks(1).await, [(batches + 1, good + 2)], "{what}");
    drop(keyed);
    server.stop().await;
    let mut expected = first_texts(before);
    expected.extend((0..batches).map(|counter| format!("kept {counter}")));
    expected.extend(["may be stored", "goes on"].map(String::from));
    assert_eq!(texts_on_disk(&journal), expected, "{what}");
}

// --- a full disk: the server goes on ---------------------------------------------------------------------

#[tokio::test]
async fn a_full_disk_refuses_and_the_server_goes_on() {
    for error in ["ENOSPC", "EDQUOT"] {
        refuses(Fault::of(&[&format!("pwrite64:error={error}:when=2")]), 1).await;
        refuses(Fault::of(&[&format!("pwrite64:error={error}:when=1")]), 0).await;
        refuses(Fault::of(&[&format!("openat:error={error}:when=1")]).in_day_file(), 0).await;
    }
}

/// So many batches are committed, then there is no room once.
async fn refuses(fault: Fault, batches: u64) {
    let what = &fault.what();
    // A fault of opening would hit those who read the file, too.
    let reading = !matches!(fault.paths, Paths::Day);
    let folder = tempfile::tempdir().unwrap();
    let before = if batches > 0 { some_diary(folder.path()).await } else { 0 };
    let mut server = Started::spawn(fault.command(folder.path())).await;
    let mut keyed = Frames::hello(server.address(), 1).await;
    for counter in 0..batches {
        keyed.append(counter, false, &[&format!("kept {counter}")]).await;
        keyed.acks(1).await;
    }
    let good = before + batches;
    let mut follower = Lines::connect(server.address()).await;
    if reading {
        follower.ask(&format!("/follow #{}", good + 1)).await;
    }
    keyed.append(batches, false, &["no room for this"]).await;
    assert_eq!(refused(&mut keyed).await, (batches, Code::DiskFull), "{what}");
    let found = texts_of(&keyed.history(1, Which::All).await.lines);
    assert_eq!(found.len() as u64, good, "{what}: reading goes on");
    // Neither the same append nor another one is harmed by the refusal.
    let mut plain = Lines::connect(server.address()).await;
    assert!(is_ack(&plain.ask("room again").await, good + 1), "{what}");
    keyed.append(batches, true, &["no room for this"]).await;
    assert_eq!(keyed.acks(1).await, [(batches, good + 2)], "{what}");
    for wanted in ["room again", "no room for this"].into_iter().filter(|_| reading) {
        assert_eq!(text(&follower.line().await), wanted, "{what}");
    }
    drop((keyed, plain, follower));
    server.signal(Signal::TERM);
    let (code, said) = server.end().await;
    assert_eq!(code, Some(0), "{what}: {said}");
    assert!(said.contains("(INJECTED)") && said.contains("the disk is full"), "{what}: {said}");

    let mut expected = first_texts(before);
    expected.extend((0..batches).map(|counter| format!("kept {counter}")));
    expected.extend(["room again", "no room for this"].map(String::from));
    assert_eq!(texts_on_disk(&folder.path().join("diary")), expected, "{what}");
    served_after(folder.path(), &expected, what).await;
}

// --- reading ---------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_day_file_that_cannot_be_opened_once_is_told_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let before = some_diary(folder.path()).await;
    // The start opens it twice; then each thread that reads has a third time.
    let fault = Fault::of(&["openat:error=EIO:when=3"]).in_day_file();
    let mut server = Started::spawn(fault.command(folder.path())).await;
    let mut client = Lines::connect(server.address()).await;
    let mut asked = 0;
    while let Some(texts) = all_if_readable(&mut client).await {
        assert_eq!(texts, first_texts(before));
        asked += 1;
        assert!(asked < 1000, "some third time comes");
    }
    asked = 0;
    let again = loop {
        if let Some(texts) = all_if_readable(&mut client).await {
            break texts;
        }
        asked += 1;
        assert!(asked < 50, "each thread fails once");
    };
    assert_eq!(again, first_texts(before));
    drop(client);
    server.signal(Signal::TERM);
    let (code, said) = server.end().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("(INJECTED)"), "{said}");
    served_after(folder.path(), &first_texts(before), "after a failed read").await;
}

// --- starting and stopping -------------------------------------------------------------------------------

/// Every call that changes or syncs something.
const CALLS: [&str; 8] =
    ["openat", "pwrite64", "fdatasync", "fsync", "ftruncate", "/^rename", "/^unlink", "/^mkdir"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_a_start_fails_once() {
    // A last batch that is torn, and a first batch of a file that is torn.
    let template = tempfile::tempdir().unwrap();
    let mut kinds = Vec::new();
    for whole in [false, true] {
        let data = template.path().join(format!("{whole}"));
        let acked = unclean_diary(&data, whole).await;
        kinds.push((data, acked));
    }
    let cases = kinds.iter().flat_map(|kind| CALLS.iter().map(move |call| (kind, *call)));
    let cases = cases.flat_map(|(kind, call)| ["EIO", "ENOSPC"].map(move |error| (kind, call, error)));
    let counts: Vec<[usize; 2]> = futures::stream::iter(cases)
        .map(|((data, acked), call, error)| every_start(data, acked, call, error))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let [failed, started] = counts.iter().fold([0, 0], |sum, count| [sum[0] + count[0], sum[1] + count[1]]);
    assert!(failed >= 20 && started >= 2, "{failed} failed, {started} started");
}

/// Fails the first, the second … such call of a start, until there is none; how many starts failed, and how
/// many went on without it.
async fn every_start(template: &Path, acked: &[String], call: &str, error: &str) -> [usize; 2] {
    let (mut failed, mut started) = (0, 0);
    for when in 1.. {
        let folder = tempfile::tempdir().unwrap();
        copy(template, folder.path());
        let fault = Fault::of(&[&format!("{call}:error={error}:when={when}")]).in_data();
        let what = &format!("{} in {}", fault.what(), template.display());
        let mut server = Started::spawn(fault.command(folder.path())).await;
        let listens = server.address.is_some();
        if listens {
            let mut client = Lines::connect(server.address()).await;
            // A call of reading may be the one that fails.
            if let Some(texts) = all_if_readable(&mut client).await {
                assert_eq!(texts, acked, "{what}");
            }
            server.signal(Signal::KILL);
        }
        let (code, said) = server.end().await;
        if !said.contains("(INJECTED)") {
            assert!(listens, "{what}: {said}");
            return [failed, started];
        }
        if listens {
            started += 1;
        } else {
            failed += 1;
            assert_eq!(code, Some(4), "{what}: {said}");
            let reasons = said.lines().filter(|line| line.starts_with("diary-server: ")).count();
            assert!(reasons == 1 && !said.contains("panicked"), "{what}: {said}");
        }
        served_after(folder.path(), acked, what).await;
        assert!(when < 100, "{what}: there is an end to calls");
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_a_stop_fails_once() {
    // What is beside the day files fails with everything of theirs intact.
    let cases = CALLS.iter().flat_map(|call| ["EIO", "ENOSPC"].map(|error| (*call, error)));
    let counts: Vec<usize> = futures::stream::iter(cases)
        .map(|(call, error)| every_stop(call, error))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    assert!(counts.iter().sum::<usize>() >= 10, "{counts:?}");
}

async fn every_stop(call: &str, error: &str) -> usize {
    for when in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("diary");
        let before = some_diary(folder.path()).await;
        // Nothing but the files of a stop, which no start writes.
        let mut fault = Fault::of(&[&format!("{call}:error={error}:when={when}")]);
        fault.paths = Paths::Stop;
        let what = &fault.what();
        let mut server = Started::spawn(fault.command(folder.path())).await;
        let mut client = Lines::connect(server.address()).await;
        assert!(is_ack(&client.ask("the last one").await, before + 1), "{what}");
        drop(client);
        server.signal(Signal::TERM);
        let (code, said) = server.end().await;
        assert_eq!(code, Some(0), "{what}: {said}");
        let mut expected = first_texts(before);
        expected.push("the last one".to_owned());
        assert_eq!(texts_on_disk(&journal), expected, "{what}");
        served_after(folder.path(), &expected, what).await;
        if !said.contains("(INJECTED)") {
            return when - 1;
        }
        assert!(said.contains("could not be written"), "{what}: {said}");
        assert!(when < 100, "{what}: there is an end to calls");
    }
    unreachable!()
}

// --- disks of their own ----------------------------------------------------------------------------------

#[tokio::test]
async fn a_small_disk_fills_up_and_is_freed() {
    let folder = tempfile::tempdir().unwrap();
    let mounts = Mounts::new(folder.path()).await;
    mounts.run(&["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs"], folder.path()).await;
    // What will be freed.
    let ballast = mounts.inside(folder.path()).join("ballast");
    fs::write(&ballast, vec![b'x'; 400 * 1024]).unwrap();
    let journal = mounts.inside(folder.path()).join("diary");

    let mut server = Started::spawn(mounts.server(folder.path())).await;
    let mut follower = Lines::connect(server.address()).await;
    follower.ask("/follow #1").await;
    let mut client = Lines::connect(server.address()).await;
    let mut acked: Vec<String> = Vec::new();
    let write = async |client: &mut Lines, acked: &mut Vec<String>, number: usize| {
        let text = format!("entry {number} {}", "x".repeat(3000 + 371 * (number % 7)));
        let answer = client.ask(&text).await;
        if answer.starts_with("error disk-full: ") {
            return false;
        }
        acked.push(text);
        assert!(is_ack(&answer, acked.len() as u64), "{answer}");
        true
    };
    let mut number = 0;
    // Full more than once: a shorter text may still fit.
    let mut refusals = 0;
    while refusals < 10 {
        refusals += usize::from(!write(&mut client, &mut acked, number).await);
        number += 1;
        assert!(number < 1000, "a small disk is full some day");
    }
    assert!(acked.len() > 50, "{}", acked.len());
    assert_eq!(client.all_texts().await, acked, "reading goes on");
    for text_acked in &acked {
        assert_eq!(text(&follower.line().await), text_acked, "following goes on");
    }
    // Killed on a full disk, it starts on a full disk.
    server.signal(Signal::KILL);
    server.end().await;
    let mut server = Started::spawn(mounts.server(folder.path())).await;
    let mut client = Lines::connect(server.address()).await;
    assert_eq!(client.all_texts().await, acked);
    while write(&mut client, &mut acked, number).await {
        number += 1;
    }
    // With room again, all goes on as if nothing had been.
    fs::remove_file(&ballast).unwrap();
    for more in 1..=20 {
        assert!(write(&mut client, &mut acked, number + more).await, "there is room");
    }
    assert_eq!(client.all_texts().await, acked);
    drop(client);
    server.signal(Signal::TERM);
    let (code, said) = server.end().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the disk is full") && !said.contains("panicked"), "{said}");
    assert_eq!(texts_on_disk(&journal), acked);
}

#[tokio::test]
async fn a_disk_that_is_full_at_the_first_start_and_at_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let mounts = Mounts::new(folder.path()).await;
    mounts.run(&["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs"], folder.path()).await;
    let ballast = mounts.inside(folder.path()).join("ballast");
    fill_up(&ballast);
    let mut server = Started::spawn(mounts.server(folder.path())).await;
    let mut client = Lines::connect(server.address()).await;
    let answer = client.ask("no room").await;
    assert!(answer.starts_with("error disk-full: "), "{answer}");
    assert_eq!(client.all_texts().await, [""; 0]);
    fs::remove_file(&ballast).unwrap();
    assert!(is_ack(&client.ask("room").await, 1));
    fill_up(&ballast);
    drop(client);
    // Neither head nor cache can be written; nothing depends on them.
    server.signal(Signal::TERM);
    let (code, said) = server.end().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("could not be written"), "{said}");
    let mut server = Started::spawn(mounts.server(folder.path())).await;
    let mut client = Lines::connect(server.address()).await;
    assert_eq!(client.all_texts().await, ["room"]);
    fs::remove_file(&ballast).unwrap();
    assert!(is_ack(&client.ask("room again").await, 2));
    drop(client);
    server.signal(Signal::TERM);
    assert_eq!(server.end().await.0, Some(0));
}

#[tokio::test]
async fn a_read_only_disk_is_refused_and_unharmed() {
    let folder = tempfile::tempdir().unwrap();
    let mounts = Mounts::new(folder.path()).await;
    mounts.run(&["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs"], folder.path()).await;
    let journal = mounts.inside(folder.path()).join("diary");
    // A fresh folder, and one that an unclean stop left.
    for round in 0..2 {
        mounts.run(&["mount", "-o", "remount,bind,ro"], folder.path()).await;
        let files =
            || day_files(&journal).into_iter().map(|file| fs::read(file).unwrap()).collect::<Vec<_>>();
        let before = if round > 0 { files() } else { Vec::new() };
        let server = Started::spawn(mounts.server(folder.path())).await;
        assert_eq!(server.address, None);
        let (code, said) = server.end().await;
        assert_eq!(code, Some(4), "{said}");
        let reasons: Vec<&str> = said.lines().filter(|line| line.starts_with("diary-server: ")).collect();
        assert_eq!(reasons.len(), 1, "{said}");
        assert!(
            reasons[0].contains(folder.path().to_str().unwrap()) && reasons[0].contains("ead-only"),
            "{said}"
        );
        if round > 0 {
            assert_eq!(files(), before);
        }
        mounts.run(&["mount", "-o", "remount,bind,rw"], folder.path()).await;
        let mut server = Started::spawn(mounts.server(folder.path())).await;
        let mut client = Lines::connect(server.address()).await;
        assert_eq!(client.all_texts().await.len(), round);
        assert!(is_ack(&client.ask("an entry").await, round as u64 + 1));
        server.signal(Signal::KILL);
        server.end().await;
    }
}

// --- too few files ---------------------------------------------------------------------------------------

#[tokio::test]
async fn connections_beyond_the_file_limit_are_told_and_closed() {
    let folder = tempfile::tempdir().unwrap();
    let mut limited = peer("prlimit");
    limited.arg("--nofile=80:80");
    let mut server = Started::spawn(under(limited, command(folder.path()))).await;
    let (mut served, mut turned_away) = (Vec::new(), 0);
    for _ in 0..100 {
        let client = Lines::connect(server.address()).await;
        if client.greeting.starts_with("diary/1 ready ") {
            served.push(client);
        } else {
            assert!(client.greeting.starts_with("error busy: "), "{:?}", client.greeting);
            assert_eq!(rest_of(client).await, "", "it is closed");
            turned_away += 1;
        }
    }
    assert_eq!((served.len(), turned_away), (16, 84), "64 files are kept back");
    let mut expected = Vec::new();
    for (seq, client) in (1..).zip(&mut served) {
        let text = format!("entry {seq}");
        assert!(is_ack(&client.ask(&text).await, seq));
        expected.push(text);
    }
    // All that read at the same time open the day files.
    for client in &mut served {
        client.send("/history all\n").await;
    }
    for client in &mut served {
        assert_eq!(client.line().await, "ok history");
        assert_eq!(client.entries().await.len(), expected.len());
    }
    // A place that is given back is there for the next one.
    served.pop();
    let mut next = Lines::connect_when_free(server.address()).await;
    assert_eq!(next.all_texts().await, expected);
    drop((served, next));
    server.signal(Signal::TERM);
    let (code, said) = server.end().await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(texts_on_disk(&folder.path().join("diary")), expected);
}

#[tokio::test]
async fn without_a_free_file_writers_go_on_and_others_wait_or_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let before = some_diary(folder.path()).await;
    let mut server = Started::spawn(command(folder.path())).await;
    let mut writer = Lines::connect(server.address()).await;
    assert!(is_ack(&writer.ask("with files").await, before + 1));
    let limits = server.limit_files_to_those_open();
    assert!(is_ack(&writer.ask("without files").await, before + 2));
    let answer = writer.ask("/history all").await;
    if answer == "ok history" {
        assert_eq!(writer.entries().await.len() as u64, before + 2);
    } else {
        assert!(answer.starts_with("error unreadable: "), "{answer}");
    }
    // Its system takes the connection; the server does so once it can.
    let waiting = TcpStream::connect(server.address()).await.unwrap();
    assert!(is_ack(&writer.ask("while one waits").await, before + 3));
    server.limit_files(&limits);
    let mut greeting = String::new();
    soon("the waiting one is greeted", BufReader::new(waiting).read_line(&mut greeting)).await.unwrap();
    assert!(greeting.starts_with("diary/1 ready "), "{greeting}");
    let mut expected = first_texts(before);
    expected.extend(["with files", "without files", "while one waits"].map(String::from));
    assert_eq!(writer.all_texts().await, expected);
    drop(writer);
    server.signal(Signal::TERM);
    let (code, said) = server.end().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("cannot accept a connection"), "{said}");
    served_after(folder.path(), &expected, "after files ran out").await;
}

// --- servers that faults are put into --------------------------------------------------------------------

/// What fails, in strace's words.
struct Fault {
    injections: Vec<String>,
    paths: Paths,
    /// The failing call takes a while.
    delayed: bool,
}

/// Which files a fault is about.
enum Paths {
    All,
    /// Today's day file.
    Day,
    /// The same, and the journal's folder.
    New,
    /// Everything in the data folder.
    Data,
    /// What a clean stop writes.
    Stop,
}

impl Fault {
    fn of(injections: &[&str]) -> Self {
        let injections = injections.iter().map(|&injection| injection.to_owned()).collect();
        Self { injections, paths: Paths::All, delayed: false }
    }

    fn in_day_file(self) -> Self {
        Self { paths: Paths::Day, ..self }
    }

    fn in_new_file(self) -> Self {
        Self { paths: Paths::New, ..self }
    }

    fn in_data(self) -> Self {
        Self { paths: Paths::Data, ..self }
    }

    fn delayed(mut self) -> Self {
        self.injections.last_mut().unwrap().push_str(DELAY);
        Self { delayed: true, ..self }
    }

    fn what(&self) -> String {
        self.injections.join(" and ")
    }

    /// A server with this fault. What strace says is in its log.
    fn command(&self, data: &Path) -> Command {
        let mut strace = peer("strace");
        // Beside the server, not above it: signals and exit codes are the server's own.
        strace.args(["-D", "-f", "-qq", "--seccomp-bpf", "-e", "signal=none"]);
        let calls: Vec<&str> =
            self.injections.iter().filter_map(|injection| injection.split(':').next()).collect();
        strace.args(["-e", &format!("trace={}", calls.join(","))]);
        for injection in &self.injections {
            strace.args(["-e", &format!("inject={injection}")]);
        }
        for path in self.paths_in(data) {
            strace.arg("-P").arg(path);
        }
        under(strace, command(data))
    }

    fn paths_in(&self, data: &Path) -> Vec<PathBuf> {
        let journal = data.join("diary");
        let days = || days().map(|day| journal.join(format!("{day}.log"))).to_vec();
        let stop = || ["head.new", "head", "cache.new", "cache"].map(|name| journal.join(name)).to_vec();
        match self.paths {
            Paths::All => Vec::new(),
            Paths::Day => days(),
            Paths::New => [days(), vec![journal]].concat(),
            Paths::Stop => stop(),
            Paths::Data => {
                let quarantine = journal.join("quarantine");
                let mut paths = vec![data.parent().unwrap().to_owned(), data.to_owned()];
                paths.extend([journal.join("lock"), journal.join("archive"), quarantine.clone()]);
                // Named by the file and the place that the torn batch begins at.
                let torn = day_files(&journal).into_iter().flat_map(|file| {
                    let name = file.file_name().unwrap().to_str().unwrap().to_owned();
                    [0, end_of_lines(&file)].map(|at| quarantine.join(format!("{name}.{at}")))
                });
                paths.extend(torn);
                paths.extend(days());
                paths.extend(day_files(&journal));
                paths.extend(stop());
                paths.push(journal);
                paths
            }
        }
    }
}

/// Where a file's last whole line ends.
fn end_of_lines(file: &Path) -> usize {
    fs::read(file).unwrap().iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1)
}

/// Today in UTC, and tomorrow for those who start at midnight.
fn days() -> [String; 2] {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let micros = i64::try_from(now.as_micros()).unwrap();
    [0, 86_400_000_000].map(|more| Time { micros: micros + more, offset_minutes: 0 }.date().to_string())
}

/// `inner`, run by `outer`.
fn under(mut outer: Command, inner: Command) -> Command {
    let inner = inner.as_std();
    outer.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        assert_eq!(value, None);
        outer.env_remove(name);
    }
    outer
}

fn command(data: &Path) -> Command {
    let mut command = server_command(data);
    command.args(["--listen", "127.0.0.1:0", "--timezone", "UTC", "--log", "warn"]);
    command
}

async fn serve(data: &Path) -> Process {
    Process::start(data, &["127.0.0.1:0"], &["--timezone", "UTC", "--log", "error"]).await
}

/// A server that may fail to start, and what it and strace say.
struct Started {
    child: Child,
    /// None: it ended before it listened.
    address: Option<String>,
    said: JoinHandle<String>,
}

impl Started {
    async fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let said = tokio::spawn(async move {
            let mut said = Vec::new();
            stderr.read_to_end(&mut said).await.unwrap();
            String::from_utf8_lossy(&said).into_owned()
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = soon("it listens or ends", stdout.next_line()).await.unwrap();
        let address = line.map(|line| line.strip_prefix("listening on ").unwrap().to_owned());
        Self { child, address, said }
    }

    fn address(&self) -> &str {
        self.address.as_deref().expect("it listens")
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap()
    }

    fn signal(&mut self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Allows it no file besides those that it has; returns what it was allowed.
    fn limit_files_to_those_open(&self) -> Rlimit {
        // The limit is one for numbers, and what has one keeps it: below three there is none free.
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        prlimit(Some(self.pid()), Resource::Nofile, Rlimit { current: Some(3), maximum }).unwrap()
    }

    fn limit_files(&self, limits: &Rlimit) {
        prlimit(Some(self.pid()), Resource::Nofile, *limits).unwrap();
    }

    /// Its exit code, and all that was said, once strace has ended too.
    async fn end(mut self) -> (Option<i32>, String) {
        let status = soon("the server ends", self.child.wait()).await.unwrap();
        (status.code(), soon("its log ends", self.said).await.unwrap())
    }
}

/// Mounts that only some processes see.
struct Mounts {
    holder: Child,
    _stdin: ChildStdin,
    _stdout: LineReader<BufReader<ChildStdout>>,
}

impl Mounts {
    async fn new(folder: &Path) -> Self {
        let mut command = peer("unshare");
        command.arg(if is_root() { "-m" } else { "-Urm" });
        command.args(["sh", "-c", "echo ready && exec cat"]).current_dir("/");
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = holder.stdin.take().unwrap();
        let mut stdout = BufReader::new(holder.stdout.take().unwrap()).lines();
        let ready = soon("there is a namespace", stdout.next_line()).await.unwrap();
        assert_eq!(ready.as_deref(), Some("ready"), "mounts of their own for {}", folder.display());
        Self { holder, _stdin: stdin, _stdout: stdout }
    }

    fn enter(&self) -> Command {
        let mut command = peer("nsenter");
        command.arg(format!("--target={}", self.holder.id().unwrap()));
        if !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(["--mount", "--wdns=/"]);
        command
    }

    async fn run(&self, words: &[&str], folder: &Path) {
        let mut command = self.enter();
        let ran = soon("it is mounted", command.args(words).arg(folder).output()).await.unwrap();
        assert!(ran.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    fn server(&self, data: &Path) -> Command {
        under(self.enter(), command(data))
    }

    /// Where a path of theirs is for us.
    fn inside(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id().unwrap()));
        root.join(path.strip_prefix("/").unwrap())
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Writes until there is no room.
fn fill_up(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    let error = loop {
        if let Err(error) = file.write_all(&[b'x'; 4096]) {
            break error;
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

// --- diaries ---------------------------------------------------------------------------------------------

/// A diary with some entries after a clean stop; how many.
async fn some_diary(data: &Path) -> u64 {
    let process = serve(data).await;
    let mut client = Lines::connect(process.address()).await;
    for (seq, text) in (1..).zip(first_texts(3)) {
        assert!(is_ack(&client.ask(&text).await, seq));
    }
    drop(client);
    process.stop().await;
    3
}

fn first_texts(count: u64) -> Vec<String> {
    (1..=count).map(|seq| format!("from before {seq}")).collect()
}

/// A diary after a kill, with a last batch that was not finished; what was acked. `whole`: that batch was
/// the first one of its file.
async fn unclean_diary(data: &Path, whole: bool) -> Vec<String> {
    some_diary(data).await;
    let journal = data.join("diary");
    let mut process = serve(data).await;
    let mut client = Lines::connect(process.address()).await;
    assert!(is_ack(&client.ask("before the kill").await, 4));
    process.signal(Signal::KILL);
    process.wait().await;
    let file = day_files(&journal).pop().unwrap();
    if whole {
        // As if midnight had come: the next day's file has nothing but a piece of its header.
        let [_, tomorrow] = days();
        fs::write(journal.join(format!("{tomorrow}.log")), format!("# diary 1 {tomorrow} id=5f0c")).unwrap();
    } else {
        let mut file = fs::OpenOptions::new().append(true).open(file).unwrap();
        file.write_all(b"5 2026-11-21T08:15:02.123456+08:00 anna cut in the mi").unwrap();
    }
    [first_texts(3), vec!["before the kill".to_owned()]].concat()
}

fn copy(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&file.path(), &to);
        } else {
            fs::copy(file.path(), to).unwrap();
        }
    }
}

/// All texts on disk, escaped.
fn texts_on_disk(journal: &Path) -> Vec<String> {
    let entries = stored(journal);
    entries.iter().map(|entry| entry.split_once(' ').unwrap().1.to_owned()).collect()
}

/// A server without faults serves exactly these, and goes on.
async fn served_after(data: &Path, expected: &[String], what: &str) {
    let process = serve(data).await;
    let mut client = Lines::connect(process.address()).await;
    assert_eq!(client.all_texts().await, expected, "{what}");
    assert!(is_ack(&client.ask("goes on").await, expected.len() as u64 + 1), "{what}");
    drop(client);
    process.stop().await;
}

/// The texts of all entries; `None` if the server says that it cannot read them, before or in the answer.
async fn all_if_readable(client: &mut Lines) -> Option<Vec<String>> {
    client.send("/history all\n").await;
    let mut texts = Vec::new();
    loop {
        let line = client.line().await;
        if line.starts_with("error unreadable: ") {
            return None;
        }
        if line == format!("end {}", texts.len()) {
            return Some(texts);
        }
        if line != "ok history" {
            assert!(line.starts_with(|c: char| c.is_ascii_digit()), "{line}");
            texts.push(text(&line).to_owned());
        }
    }
}

fn size_of_day_files(journal: &Path) -> u64 {
    let Ok(_) = fs::read_dir(journal) else { return 0 };
    day_files(journal).iter().map(|file| fs::metadata(file).map_or(0, |data| data.len())).sum()
}

/// Completes once more is written, as nothing but a look can tell.
async fn grown(journal: &Path, size: u64) {
    while size_of_day_files(journal) <= size {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The next message, which is a refusal: its counter and code.
async fn refused(client: &mut Frames) -> (u64, Code) {
    match client.message().await {
        ServerMessage::Refused { first_counter, count: 1, refusal } => (first_counter, refusal.code),
        other => panic!("not refused: {other:?}"),
    }
}

/// All that still comes, up to the end.
async fn rest_of(mut client: Lines) -> String {
    let mut rest = Vec::new();
    // A reset is an end too.
    let _ = soon("the connection ends", client.reader.read_to_end(&mut rest)).await;
    String::from_utf8(rest).unwrap()
}
