//! The examples do what they say: the Rust programs, `diary.py`, and every command of `shell.md`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use diary_server::Listen;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::support::{Process, Ran, Server, acked, is_ack, peer, run, soon, stored};

/// An example's program, which stands beside the folder of this test's program.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().with_file_name("examples").join(name);
    assert!(
        program.is_file(),
        "there is no {}: `cargo test --workspace` builds the examples, or `cargo build --examples -p diary-examples`",
        program.display()
    );
    let mut command = Command::new(program);
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples").join(name)
}

#[tokio::test]
async fn hello_diary() {
    let server = Server::start().await;
    for (words, shown) in [
        (&[][..], &["hello, diary"][..]),
        (&["你好"], &["hello, diary", "你好"]),
        (&["three"], &["hello, diary", "你好", "three"]),
        (&["four"], &["你好", "three", "four"]),
    ] {
        let ran = run(example("hello_diary").arg(server.address()).args(words), "").await;
        let (first, rest) = ran.stdout.split_once('\n').unwrap();
        assert!(first.contains(" is on disk since "), "{first}");
        assert!(rest.lines().eq(shown.iter().map(|text| format!("local: {text}"))), "{rest}");
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    }
    assert_eq!(stored(&server.journal()).len(), 4);
    server.stop().await;
}

#[tokio::test]
async fn outbox() {
    let (folder, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Process::start(data.path(), &["127.0.0.1:0"], &[]).await;
    let address = server.address().to_owned();
    server.stop().await;
    let write = async |text: &str| {
        let ran = run(example("outbox").arg(&address).arg(folder.path()).arg(text), "").await;
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        ran.stdout
    };
    for text in ["one", "two"] {
        assert!(write(text).await.ends_with("; run this again to send it\n"));
    }
    let server = Process::start(data.path(), &[&address], &[]).await;
    assert_eq!(write("three").await, "2 of earlier runs are in the diary\nentry 3 is in the diary\n");
    server.stop().await;
    assert_eq!(stored(&data.path().join("diary")), ["local one", "local two", "local three"]);
}

#[tokio::test]
async fn follow() {
    let server = Server::start().await;
    let mut writer = server.lines().await;
    writer.ask("before").await;
    let mut command = example("follow");
    let mut follow = command.args([server.address(), "1"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut shown = BufReader::new(follow.stdout.take().unwrap()).lines();
    for (seq, text) in [(1, "before"), (2, "while it runs"), (3, "今天")] {
        if seq > 1 {
            assert!(is_ack(&writer.ask(text).await, seq));
        }
        let line = soon("an entry appears", shown.next_line()).await.unwrap().unwrap();
        assert!(line.starts_with(&format!("{seq} ")) && line.ends_with(&format!(" local {text}")), "{line}");
    }
    follow.kill().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn embed_server() {
    let folder = tempfile::tempdir().unwrap();
    for first in [1, 3] {
        let ran = run(example("embed_server").arg(folder.path()), "").await;
        let lines: Vec<&str> = ran.stdout.lines().collect();
        assert!(lines[0].contains(" listens on 127.0.0.1:"), "{ran:?}");
        let entries = [first, first + 1].map(|seq| format!("entry {seq} is on disk"));
        assert_eq!(lines[1..], [&entries[0], &entries[1], "stopped: Clean"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    }
    let texts = ["local the program starts", "local the program ends"];
    assert_eq!(stored(&folder.path().join("diary")), [texts, texts].concat());
}

#[tokio::test]
async fn the_python_client() {
    assert!(std::fs::read_to_string(source("diary.py")).unwrap().lines().count() <= 25);
    let server = Server::start().await;
    let (host, port) = server.address().split_once(':').unwrap();
    let python = |words: &[&str]| {
        let mut command = peer("python3");
        command.arg("-Xutf8").arg(source("diary.py")).args([host, port]).args(words);
        command
    };
    let acks = |ran: &Ran| ran.stdout.lines().skip(1).map(acked).collect::<Option<Vec<_>>>();

    let ran = run(&mut python(&["今天天气很好", "/etc: 120 files"]), "").await;
    assert_eq!((ran.code, acks(&ran)), (Some(0), Some(vec![1, 2])), "{ran:?}");
    // More than all buffers on the way hold, so it must read while it writes.
    let ran = run(&mut python(&[]), "a line\r\n".repeat(100_000)).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert!(acks(&ran).unwrap().into_iter().eq(3..=100_002));

    let ran = run(&mut python(&["--history", "#1..2"]), "").await;
    assert_eq!(ran.code, Some(1), "no range: {ran:?}");
    let ran = run(&mut python(&["--history", "2"]), "").await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines: Vec<&str> = ran.stdout.lines().skip(1).collect();
    assert!(lines[1].ends_with(" local a line") && lines[3..] == ["end 2"], "{ran:?}");

    let ran = run(&mut python(&[]), b"fine\nnot \xff UTF-8\nalso fine").await;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), "1 lines got no ok\n"));
    let entries = stored(&server.journal());
    assert_eq!(entries[..2], ["local 今天天气很好", "local /etc: 120 files"]);
    assert_eq!(entries[2..100_002], vec!["local a line"; 100_000]);
    assert_eq!(entries[100_002..], ["local fine", "local also fine"]);
    server.stop().await;
}

/// What a comment in the page says about its blocks.
#[tokio::test]
async fn the_shell_page() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let server = Server::with(|config| {
        config.listen.push(Listen::tcp("127.0.0.1:0").quiet());
        config.listen.push(Listen::tcp("127.0.0.1:0").tls());
        config.listen.push(Listen::unix(&socket));
    })
    .await;
    let (host, port) = server.address().split_once(':').unwrap();
    let [quiet, tls] = [1, 2].map(|listener: usize| server.addresses()[listener].rsplit_once(':').unwrap().1);
    let page = std::fs::read_to_string(source("shell.md")).unwrap();
    let blocks = blocks(&page);
    assert!(!blocks.is_empty(), "the page has no block to run");
    for Block { script, output } in blocks {
        let mut bash = peer("bash");
        bash.args(["-euc", &script]).current_dir(folder.path());
        bash.env("HOST", host).env("PORT", port).env("QUIET", quiet).env("TLS", tls).env("SOCKET", &socket);
        bash.env("DATA", server.journal().parent().unwrap());
        let ran = run(&mut bash, "").await;
        assert_eq!(ran.code, Some(0), "{script}\n{ran:?}");
        if let Some(output) = output {
            let matches = ran.stdout.lines().count() == output.lines().count()
                && output.lines().zip(ran.stdout.lines()).all(|(pattern, line)| fits(pattern, line));
            assert!(matches, "{script}\nshould print\n{output}\nbut printed\n{}{}", ran.stdout, ran.stderr);
        }
    }
    server.stop().await;
}

struct Block {
    script: String,
    /// What it must print, if the page says it.
    output: Option<String>,
}

/// The blocks of a page that are to be run.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = page.lines();
    // An output belongs to the block right before it.
    let mut before = "";
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let body: String =
            lines.by_ref().take_while(|line| *line != "```").flat_map(|line| [line, "\n"]).collect();
        match kind {
            "sh run" => blocks.push(Block { script: body, output: None }),
            "output" => {
                assert_eq!(before, "sh run", "this output belongs to no block:\n{body}");
                blocks.last_mut().unwrap().output = Some(body);
            }
            _ => {}
        }
        before = kind;
    }
    blocks
}

/// Whether `line` is what `pattern` says, in which `…` stands for any characters.
fn fits(pattern: &str, line: &str) -> bool {
    match pattern.split_once('…') {
        None => pattern == line,
        Some((start, rest)) => line.strip_prefix(start).is_some_and(|line| {
            line.char_indices().map(|(at, _)| at).chain([line.len()]).any(|at| fits(rest, &line[at..]))
        }),
    }
}

#[test]
fn what_fits_a_pattern() {
    for (pattern, line, fit) in [
        ("ok", "ok", true),
        ("ok", "ok 1", false),
        ("ok … …", "ok 1 now", true),
        ("ok … …", "ok 1", false),
        ("…天气", "1 今天天气", true),
        ("…天气", "1 今天天气很好", false),
        ("…", "", true),
    ] {
        assert_eq!(fits(pattern, line), fit, "{pattern} and {line}");
    }
}
