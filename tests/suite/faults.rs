//! A disk that fails: every call that the real server makes to it fails once, with strace. What was acked is
//! there afterwards, what was refused as not stored is not, and everybody is told.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use diary_proto::message::ServerMessage;
use diary_proto::{Code, Time, Which};
use futures::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::support::faulty::{
    Started, command, first_texts, rest_of, serve, served_after, some_diary, texts_on_disk, under,
};
use crate::support::{Frames, Lines, day_files, is_ack, peer, soon, text};

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

#[tokio::test]
async fn a_disk_that_fails_while_the_server_drains_is_no_clean_end() {
    let fault = Fault::of(&["fdatasync:error=EIO:when=2"]).delayed();
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("diary");
    some_diary(folder.path()).await;
    let mut server = Started::spawn(fault.command(folder.path())).await;
    let mut client = Lines::connect(server.address()).await;
    assert!(client.ask("kept").await.starts_with("ok "));
    let size = size_of_day_files(&journal);
    client.send("may be stored\n").await;
    soon("the batch is written", grown(&journal, size)).await;
    server.signal(Signal::TERM);
    assert!(client.line().await.starts_with("error unknown-outcome: "));
    let (code, said) = server.end().await;
    assert_eq!(code, Some(5), "{said}");
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
    let found = keyed.history(1, Which::All).await.texts();
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
    let found = keyed.history(1, Which::All).await.texts();
    assert_eq!(found.len() as u64, good, "{what}: reading again");
    // Neither the same append nor another one is harmed by the refusal.
    let mut plain = Lines::connect(server.address()).await;
    assert!(is_ack(&plain.ask("room again").await, good + 1), "{what}");
    // On its own connection nothing may overtake it, so it is sent again on a new one.
    keyed.append(batches + 1, false, &["behind it"]).await;
    assert_eq!(refused(&mut keyed).await, (batches + 1, Code::DiskFull), "{what}");
    let mut keyed = Frames::hello(server.address(), 1).await;
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
    // The start opens it three times; then each thread that reads has a fourth time. A file stays open for a second.
    let fault = Fault::of(&["openat:error=EIO:when=4"]).in_day_file();
    let mut server = Started::spawn(fault.command(folder.path())).await;
    let mut client = Lines::connect(server.address()).await;
    soon("a fourth time", async {
        while let Some(texts) = all_if_readable(&mut client).await {
            assert_eq!(texts, first_texts(before));
        }
    })
    .await;
    let mut asked = 0;
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

// --- a disk that hangs ------------------------------------------------------------------------------------

/// The second sync takes longer than the test. Texts use up the room for appends and wait; whoever reads is answered.
#[tokio::test]
async fn a_disk_that_hangs_keeps_no_reader_waiting() {
    /// Beyond the room for appends and what waits for it, in lines of 1,000 bytes.
    const LINES: usize = 2_000;
    const WRITERS: usize = 16;
    let folder = tempfile::tempdir().unwrap();
    let before = some_diary(folder.path()).await;
    let fault = Fault::of(&["fdatasync:delay_enter=600000000:when=2"]).in_day_file();
    let mut server = Started::spawn(fault.command(folder.path())).await;
    let mut early = Lines::connect(server.address()).await;
    assert!(is_ack(&early.ask("the last one").await, before + 1));
    let lines = Arc::new(format!("{}\n", "x".repeat(1_000)).repeat(LINES));
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let mut writer = Lines::connect(server.address()).await;
        let lines = Arc::clone(&lines);
        writers.push(tokio::spawn(async move {
            // It is not taken whole before the end.
            let _ = writer.writer.write_all(lines.as_bytes()).await;
            writer
        }));
    }
    // Nothing tells from outside that the room is used up: those who try to use it are not acked, and wait.
    let mut framed = Frames::hello(server.address(), 1).await;
    for round in 0..50 {
        let mut late = Lines::connect(server.address()).await;
        for client in [&mut early, &mut late] {
            assert_eq!(client.history("all").await.len() as u64, before + 1, "round {round}");
            assert_eq!(client.ask("/search last").await, "ok search");
            assert_eq!(client.entries().await.len(), 1, "round {round}");
        }
        let found = framed.history(round, Which::All).await.texts();
        assert_eq!(found.len() as u64, before + 1, "round {round}");
        // It waits among the others.
        late.send("a text\n").await;
        writers.push(tokio::spawn(async { late }));
    }
    let tracer = tracer(server.pid());
    server.signal(Signal::KILL);
    // It keeps what it delays, also from its end.
    kill_process(tracer, Signal::KILL).unwrap();
    server.end().await;
    for writer in writers {
        let rest = rest_of(writer.await.unwrap()).await;
        assert!(!rest.contains("ok "), "nothing was committed: {rest}");
    }
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
    let counts: Vec<usize> = futures::stream::iter(cases)
        .map(|((data, acked), call, error)| every_start(data, acked, call, error))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    assert!(counts.iter().sum::<usize>() >= 20, "{counts:?}");
}

/// Fails the first, the second … such call of a start, until there is none; how many starts failed.
async fn every_start(template: &Path, acked: &[String], call: &str, error: &str) -> usize {
    let mut failed = 0;
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
            return failed;
        }
        if !listens {
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
        if server.address.is_none() {
            // A start reads them, too.
            let (code, said) = server.end().await;
            assert_eq!((call, code), ("openat", Some(4)), "{what}: {said}");
            assert!(said.contains("/head: ") || said.contains("/cache: "), "{what}: {said}");
            served_after(folder.path(), &first_texts(before), what).await;
            continue;
        }
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

// --- what fails, and the diaries that it fails with --------------------------------------------------------------------

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

/// The process that traces `pid`.
fn tracer(pid: Pid) -> Pid {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:")).unwrap();
    Pid::from_raw(tracer.trim().parse().unwrap()).expect("it is traced")
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
