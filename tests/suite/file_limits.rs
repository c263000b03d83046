//! Too few files: connections beyond the limit are told so, and writers go on without a free one.

use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

use crate::support::faulty::{
    Started, command, first_texts, rest_of, served_after, some_diary, texts_on_disk, under,
};
use crate::support::{Lines, is_ack, peer, soon};

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
    let limits = limit_files_to_those_open(&server);
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
    limit_files(&server, &limits);
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

/// Allows it no file besides those that it has; returns what it was allowed.
fn limit_files_to_those_open(server: &Started) -> Rlimit {
    // The limit is one for numbers, and what has one keeps it: below three there is none free.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    prlimit(Some(server.pid()), Resource::Nofile, Rlimit { current: Some(3), maximum }).unwrap()
}

fn limit_files(server: &Started, limits: &Rlimit) {
    prlimit(Some(server.pid()), Resource::Nofile, *limits).unwrap();
}
