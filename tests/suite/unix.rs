//! Unix sockets: the same conversation, and the author is the user's number.

use std::os::unix::fs::MetadataExt;

use diary_server::Listen;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::support::{Server, soon};

/// Sends all of `input`, and returns what comes back until the server closes.
async fn say(path: &str, input: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(input).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    soon("the server closes", stream.read_to_end(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn both_modes_and_quiet_ones_work_and_the_author_is_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let (path, quiet) = (folder.path().join("socket"), folder.path().join("quiet"));
    let server = Server::with(|config| {
        config.listen.push(Listen::unix(&path));
        config.listen.push(Listen::unix(&quiet).quiet());
    })
    .await;
    assert_eq!(
        server.addresses()[1..],
        [format!("unix:{}", path.display()), format!("quiet:unix:{}", quiet.display())]
    );

    let answer =
        String::from_utf8(say(path.to_str().unwrap(), "今天\n/name anna\nnamed\nlast".as_bytes()).await)
            .unwrap();
    let words: Vec<String> =
        answer.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(words, ["diary/1 ready", "ok 1", "ok name", "ok 2", "ok 3"]);
    assert_eq!(say(quiet.to_str().unwrap(), b"quiet\n").await, b"");

    let mut frames = Vec::new();
    diary_proto::message::ClientMessage::Hello(crate::support::hello(1)).write(&mut frames);
    let texts = diary_proto::message::Texts::new(["framed"]);
    let append = diary_proto::message::Append { first_counter: 0, retry: false, texts };
    diary_proto::message::ClientMessage::Append(append).write(&mut frames);
    say(path.to_str().unwrap(), &frames).await;

    let uid = std::fs::metadata("/proc/self").unwrap().uid();
    let entries = server.lines().await.history("all").await;
    let shown: Vec<&str> = entries.iter().map(|line| line.splitn(3, ' ').nth(2).unwrap()).collect();
    let me = format!("uid:{uid}");
    assert_eq!(
        shown,
        [
            format!("{me} 今天"),
            "anna named".to_owned(),
            "anna last".to_owned(),
            format!("{me} quiet"),
            format!("{me} framed")
        ]
    );
}
