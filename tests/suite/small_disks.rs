//! Disks of their own: one fills up and is freed again, one is full from the start, one is read-only.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use diary_client::{Error, Reader};
use diary_proto::Code;
use diary_proto::message::ServerMessage;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader, Lines as LineReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::support::faulty::{Started, command, is_root, texts_on_disk, under};
use crate::support::{Frames, Lines, cli_command, day_files, is_ack, peer, run, soon, text};

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
    assert_eq!(client.all_texts().await, acked, "reading again");
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

/// A frame client's long text finds no room. A short one behind it would fit, and must not stand before it.
#[tokio::test]
async fn nothing_of_a_frame_client_overtakes_what_a_full_disk_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mounts = Mounts::new(folder.path()).await;
    mounts.run(&["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs"], folder.path()).await;
    let ballast = mounts.inside(folder.path()).join("ballast");
    let mut server = Started::spawn(mounts.server(folder.path())).await;
    let mut framed = Frames::hello(server.address(), 1).await;
    framed.append(0, false, &["first"]).await;
    assert_eq!(framed.acks(1).await, [(0, 1)]);
    leave_room(&ballast, 32 * 1024);
    let long = "x".repeat(60_000);
    framed.append(1, false, &[&long]).await;
    assert_eq!(full(&mut framed).await, (1, 1));
    framed.append(2, false, &["short", "also short"]).await;
    assert_eq!(full(&mut framed).await, (2, 2));
    let mut lines = Lines::connect(server.address()).await;
    assert!(is_ack(&lines.ask("this fits").await, 2), "there is room for a short text");
    fs::remove_file(&ballast).unwrap();
    framed.append(4, false, &["later"]).await;
    assert_eq!(full(&mut framed).await, (4, 1));

    let mut framed = Frames::hello(server.address(), 1).await;
    framed.append(1, true, &[&long, "short", "also short", "later"]).await;
    assert_eq!(framed.acks(4).await, [(1, 3), (2, 4), (3, 5), (4, 6)]);
    drop((framed, lines));
    server.signal(Signal::TERM);
    assert_eq!(server.end().await.0, Some(0));
    let journal = mounts.inside(folder.path()).join("diary");
    assert_eq!(texts_on_disk(&journal), ["first", "this fits", &long, "short", "also short", "later"]);
}

#[tokio::test]
async fn a_check_tells_a_full_disk_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mounts = Mounts::new(folder.path()).await;
    mounts.run(&["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs"], folder.path()).await;
    let ballast = mounts.inside(folder.path()).join("ballast");
    let journal = mounts.inside(folder.path()).join("diary");
    let mut server = Started::spawn(mounts.server(folder.path())).await;
    let mut lines = Lines::connect(server.address()).await;
    assert!(is_ack(&lines.ask("an entry").await, 1));
    let reader = Reader::connect(server.address().parse().unwrap()).await.unwrap();
    let check = async || {
        soon("it is answered", reader.check()).await.map_err(|error| match error {
            Error::Refused(refusal) => refusal.code,
            other => panic!("{other}"),
        })
    };
    assert_eq!(check().await, Ok(()));
    // Too little for the longest entry, and then for any.
    for room in [200 * 1024, 0] {
        leave_room(&ballast, room);
        assert_eq!(check().await, Err(Code::DiskFull), "{room}");
        // The client's doctor asks as well.
        let mut doctor = cli_command();
        doctor.args(["doctor", "--server", server.address()]).env("HOME", folder.path().join("home"));
        doctor.env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME");
        let ran = run(&mut doctor, "").await;
        let told = "fail   writing        the server does not accept entries: disk-full: ";
        assert!(ran.code == Some(4) && ran.stdout.contains(told), "{ran:?}");
        fs::remove_file(&ballast).unwrap();
        assert_eq!(check().await, Ok(()), "{room}");
    }
    assert_eq!(texts_on_disk(&journal), ["an entry"]);
    for entry in fs::read_dir(&journal).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known =
            ["cache", "cache.new", "head", "head.new", "lock"].contains(&&*name) || name.ends_with(".log");
        assert!(known, "{name} is left");
    }
    assert!(is_ack(&lines.ask("another").await, 2));
    drop(lines);
    server.signal(Signal::TERM);
    assert_eq!(server.end().await.0, Some(0));
}

/// How many appends a Refused of a full disk names, from which counter on.
async fn full(framed: &mut Frames) -> (u64, u32) {
    match framed.message().await {
        ServerMessage::Refused { first_counter, count, refusal } if refusal.code == Code::DiskFull => {
            (first_counter, count)
        }
        other => panic!("{other:?}"),
    }
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

/// Writes until there is room for so many bytes, and no more.
fn leave_room(path: &Path, bytes: u64) {
    fill_up(path);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
}
