//! The first connection, and its failures.

use diary_client::{Client, Error, ErrorKind, Options};
use diary_proto::message::ServerMessage;
use diary_proto::{Code, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fake::{Fake, JOURNAL, soon};

async fn connect(address: &str) -> Result<Client, Error> {
    Client::connect(address.parse().unwrap(), Options::default()).await
}

/// Returns the client's error for a server that answers with `bytes`.
async fn greeted_with(bytes: &[u8]) -> Error {
    let fake = Fake::start().await;
    let address = fake.address();
    let server = async {
        let mut stream = fake.accept_silent().await;
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        stream
    };
    let (client, _stream) = tokio::join!(soon(connect(&address)), server);
    client.err().expect("no diary")
}

#[tokio::test]
async fn a_client_names_its_author_and_learns_of_the_server() {
    let fake = Fake::start().await;
    let (client, peer) = fake.client().await;
    assert_eq!((peer.hello.author.as_str(), peer.hello.secret.len(), peer.hello.resume), ("anna", 32, None));
    assert_eq!((client.welcome().journal_id, client.welcome().zone.as_str()), (JOURNAL, "UTC"));
    assert!(client.state().borrow().is_connected());
}

#[tokio::test]
async fn nothing_listens() {
    let fake = Fake::start().await;
    let address = fake.address();
    drop(fake);
    let error = soon(connect(&address)).await.err().unwrap();
    assert_eq!(error.to_string(), format!("no server is listening on {address}"));
    assert_eq!(error.kind(), ErrorKind::Unreachable);

    let error = soon(connect("unix:/nonexistent/diary.sock")).await.err().unwrap();
    assert_eq!(error.to_string(), "no server is listening on unix:/nonexistent/diary.sock");
}

#[tokio::test]
async fn a_host_without_address() {
    let error = soon(connect("diary.invalid:8888")).await.err().unwrap();
    assert!(matches!(error, Error::UnknownHost { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
}

#[tokio::test]
async fn what_a_greeting_may_say() {
    let busy = greeted_with(b"error busy: 10000 connections are open; try later\n").await;
    let expected = "the server refused the connection: busy: 10000 connections are open; try later";
    assert_eq!(busy.to_string(), expected);
    for other in [&b"SSH-2.0-OpenSSH_9.6\r\n"[..], b"diary/2 ready head=1\n", &[b'x'; 10_000], b"\xff\xff\n"]
    {
        assert!(matches!(greeted_with(other).await, Error::NotADiary { .. }));
    }
    let says = greeted_with(b"220 mail\x1b[2J ready\r\n").await.to_string();
    assert!(says.ends_with("is not a diary server (it looks like mail or FTP)"), "{says}");
    let says = greeted_with(b"hello\x1b[2J\n").await.to_string();
    assert!(says.ends_with("is not a diary server (it says \"hello\\x1b[2J\")"), "{says}");
    assert!(matches!(greeted_with(b"diary/1 rea").await, Error::Broken(_)));
    assert!(matches!(greeted_with(b"diary/1 ready\n").await, Error::Broken(_)));
    assert!(matches!(greeted_with(b"diary/1 ready\n\xff\0\0\0").await, Error::Protocol(_)));
}

/// Paused time advances to the next timer when every task is idle, so the five seconds are not real.
#[tokio::test(start_paused = true)]
async fn a_server_that_never_greets() {
    let fake = Fake::start().await;
    let error = connect(&fake.address()).await.err().unwrap();
    let expected = format!("{} accepted the connection but did not answer within 5 s", fake.address());
    assert_eq!(error.to_string(), expected);
}

/// The client probes a server that waits for its client.
#[tokio::test(start_paused = true)]
async fn a_server_of_another_kind() {
    for (answer, says) in [
        (&b"HTTP/1.0 400 Bad Request\r\n"[..], "is not a diary server (it looks like HTTP)"),
        (b"-ERR unknown command 'GET'\r\n", "is not a diary server (it looks like Redis)"),
        (b"\x15\x03\x01\0\x02\x02\x46", "is not a diary server (it looks like TLS)"),
        (b"what?\n", "is not a diary server (it says \"what?\")"),
        (b"error tls: this is TLS\n", "refused the connection: tls: this is TLS"),
        // A slow diary server.
        (b"diary/1 ready head=0\n", "did not answer within 5 s"),
    ] {
        let fake = Fake::start().await;
        let address = fake.address();
        let server = async {
            let silent = fake.accept_silent().await;
            let mut stream = fake.accept_silent().await;
            let mut asked = [0; 18];
            stream.read_exact(&mut asked).await.unwrap();
            assert_eq!(&asked, b"GET / HTTP/1.0\r\n\r\n");
            stream.write_all(answer).await.unwrap();
            (silent, stream)
        };
        let (client, _streams) = tokio::join!(connect(&address), server);
        let error = client.err().unwrap().to_string();
        assert!(error.ends_with(says), "{error}");
    }
}

#[tokio::test]
async fn a_refused_hello() {
    let fake = Fake::start().await;
    let address = fake.address();
    let server = async {
        let mut peer = fake.accept_hello(JOURNAL, 0).await;
        let refusal = Refusal::new(Code::Version, "this server speaks version 1\u{1b}");
        peer.say(ServerMessage::Error { id: 0, fatal: true, refusal }).await;
        peer
    };
    let (client, _peer) = tokio::join!(soon(connect(&address)), server);
    let expected = "the server refused the connection: version: this server speaks version 1\\x1b";
    assert_eq!(client.err().unwrap().to_string(), expected);
}

#[tokio::test]
async fn a_unix_socket() {
    let folder = std::env::temp_dir().join(format!("diary-client-{}", std::process::id()));
    let _ = std::fs::remove_file(&folder);
    let listener = tokio::net::UnixListener::bind(&folder).unwrap();
    let address = format!("unix:{}", folder.display());
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"error stopping: come back later\n").await.unwrap();
    };
    let (client, ()) = tokio::join!(soon(connect(&address)), server);
    std::fs::remove_file(&folder).unwrap();
    assert!(matches!(client.err().unwrap(), Error::TurnedAway(refusal) if refusal.code == Code::Stopping));
}
