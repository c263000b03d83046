//! TLS listeners: both modes inside it, whatever a client does with its records, and clients that people have already.

use std::fmt::Write as _;
use std::io::Read as _;
use std::time::Duration;

use diary_proto::Which;
use diary_server::{Config, Listen};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::{
    Frames, Lines, Process, Server, acked, connect_narrow, connect_tls, fill, hello, is_ack, peer, records,
    run, say, server_command, shake_hands, soon, stored, text, tls_client, tunnel,
};

/// A server with a plain and a TLS listener, and the address of that.
async fn with_tls() -> (Server, String) {
    with(Listen::tcp("127.0.0.1:0").tls(), |_| {}).await
}

async fn with(listen: Listen, change: impl FnOnce(&mut Config)) -> (Server, String) {
    let server = Server::with(|config| {
        config.rules.open = true;
        config.listen.push(listen);
        change(config);
    })
    .await;
    let address = server.addresses()[1].rsplit_once("tls:").unwrap().1.to_owned();
    (server, address)
}

#[tokio::test]
async fn both_modes_and_both_versions() {
    let (server, address) = with_tls().await;
    assert!(server.addresses()[1].starts_with("tls:127.0.0.1:"));
    let connect = async |version| {
        let stream = TcpStream::connect(&address).await.unwrap();
        tunnel(shake_hands(stream, &[version]).await).await
    };
    let mut seq = 0;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut lines = Lines::over(connect(version).await).await;
        assert!(lines.greeting.starts_with(&format!("diary/1 ready head={seq} ")), "{}", lines.greeting);
        assert!(is_ack(&lines.ask("今天").await, seq + 1));
        let mut follower = Lines::over(connect(version).await).await;
        assert!(follower.ask("/follow").await.starts_with("ok follow from "));
        let mut frames = Frames::over(connect(version).await).await.unwrap().unwrap();
        assert_eq!(frames.greet(&hello(1)).await.author, "local");
        frames.append(seq, false, &["in a frame"]).await;
        assert_eq!(frames.acks(1).await, [(seq, seq + 2)]);
        assert_eq!(text(&follower.line().await), "in a frame");
        assert_eq!(frames.history(1, Which::All).await.texts().len() as u64, seq + 2);
        assert_eq!(lines.ask("/quit").await, "bye");
        assert_eq!(lines.rest().await, "");
        seq += 2;
    }
    assert_eq!(stored(&server.journal()), ["local 今天", "local in a frame"].repeat(2));
    server.stop().await;
}

/// More than all buffers on the way hold, in both directions at once, and cut in any way.
#[tokio::test]
async fn much_is_written_while_the_acks_are_read() {
    const LINES: u64 = 100_000;
    let (server, address) = with_tls().await;
    let (reader, mut writer) = tokio::io::split(connect_tls(&address).await);
    let mut input = String::new();
    for n in 1..=LINES {
        writeln!(input, "第 {n} 行").unwrap();
    }
    let writing = async {
        for piece in input.as_bytes().chunks(70_001) {
            writer.write_all(piece).await.unwrap();
        }
        writer.shutdown().await.unwrap();
    };
    let mut answers = BufReader::new(reader).lines();
    let reading = async {
        answers.next_line().await.unwrap();
        for seq in 1..=LINES {
            assert!(is_ack(&answers.next_line().await.unwrap().unwrap(), seq));
        }
        assert_eq!(answers.next_line().await.unwrap(), None);
    };
    soon("every line is acked", async { tokio::join!(writing, reading) }).await;
    let stored = stored(&server.journal());
    assert!(stored.iter().map(|entry| entry.strip_prefix("local ").unwrap()).eq(input.lines()));
    server.stop().await;
}

/// Those that read nothing wait in their kernel's buffers and the server's bounded ones, and lose nothing.
#[tokio::test]
async fn slow_readers_get_everything_and_keep_nobody_waiting() {
    let (server, address) = with_tls().await;
    let entries = fill(server.address(), 8).await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        let stream = shake_hands(connect_narrow(&address).await, rustls::ALL_VERSIONS).await;
        let (reader, mut writer) = tokio::io::split(stream);
        writer.write_all(b"/history all\n/quit\n").await.unwrap();
        slow.push((BufReader::new(reader).lines(), writer));
    }
    let mut healthy = Lines::over(tunnel(connect_tls(&address).await).await).await;
    assert_eq!(healthy.history("all").await.len() as u64, entries);
    for (lines, _writer) in &mut slow {
        let mut line = async || soon("a line comes", lines.next_line()).await.unwrap();
        assert!(line().await.unwrap().starts_with("diary/1 ready "));
        assert_eq!(line().await.unwrap(), "ok history");
        for seq in 1..=entries {
            assert!(line().await.unwrap().starts_with(&format!("{seq} ")));
        }
        assert_eq!(line().await.unwrap(), format!("end {entries}"));
        assert_eq!((line().await.unwrap(), line().await), ("bye".to_owned(), None));
    }
    server.stop().await;
}

/// One that takes nothing is found by what its system has not taken, as on a plain connection.
#[tokio::test]
async fn one_that_takes_nothing_is_closed() {
    let (server, address) = with(Listen::tcp("127.0.0.1:0").tls(), |config| {
        config.limits.stall = Duration::from_millis(300);
        config.limits.connections = 1;
    })
    .await;
    fill(server.address(), 8).await;
    let greeted = async {
        loop {
            let stream = shake_hands(connect_narrow(&address).await, rustls::ALL_VERSIONS).await;
            let mut stream = BufReader::new(stream);
            let mut greeting = String::new();
            stream.read_line(&mut greeting).await.unwrap();
            if greeting.starts_with("diary/1 ") {
                return stream;
            }
        }
    };
    let mut deaf = soon("a place becomes free", greeted).await;
    deaf.write_all(b"/history all\n").await.unwrap();
    let mut healthy = Lines::connect_when_free(server.address()).await;
    assert!(healthy.ask("its place is free").await.starts_with("ok "));
    server.stop().await;
}

/// As many clients do at their end.
#[tokio::test]
async fn an_end_of_input_needs_no_word_of_tls() {
    let (server, address) = with_tls().await;
    let (mut tcp, mut client) = connect_tls(&address).await.into_inner();
    tcp.write_all(&records(&mut client, b"one\nlast")).await.unwrap();
    tcp.shutdown().await.unwrap();
    let mut answer = Vec::new();
    soon("the server closes", tcp.read_to_end(&mut answer)).await.unwrap();
    let (mut answer, mut lines) = (&answer[..], String::new());
    while !answer.is_empty() {
        client.read_tls(&mut answer).unwrap();
        client.process_new_packets().unwrap();
        // An end without a word of TLS would be an error.
        match client.reader().read_to_string(&mut lines) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    assert!(lines.lines().skip(1).map(acked).eq([Some(1), Some(2)]), "{lines}");
    assert_eq!(client.reader().read(&mut [0; 1]).unwrap(), 0, "the server says its end in TLS");
    assert_eq!(stored(&server.journal()), ["local one", "local last"]);
    server.stop().await;
}

#[tokio::test]
async fn nothing_of_a_line_is_stored_whose_record_is_cut_or_changed() {
    let (server, address) = with_tls().await;
    let mut witness = server.lines().await;
    assert_eq!(witness.ask("/follow #1").await, "ok follow from 1");
    let bytes = {
        let (_, mut client) = connect_tls(&address).await.into_inner();
        records(&mut client, b" and the rest").len()
    };
    let greeted = async || {
        let (tcp, client) = connect_tls(&address).await.into_inner();
        let mut greeted = Driven { tcp, client };
        assert!(greeted.line().await.starts_with("diary/1 ready "));
        greeted
    };
    for cut in 1..=bytes {
        let Driven { mut tcp, mut client } = greeted().await;
        let mut input = records(&mut client, b"whole\nhalf");
        let mut second = records(&mut client, b" and the rest");
        if cut == bytes {
            second[10] ^= 1;
        }
        input.extend(&second[..cut]);
        tcp.write_all(&input).await.unwrap();
        tcp.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end, too.
        let _ = soon("the server closes", tcp.read_to_end(&mut answer)).await;
        assert!(is_seq(&witness.line().await, cut, "whole"));
    }
    // A connection that breaks between two records is not at its end, either.
    let mut reset = greeted().await;
    reset.send(b"whole\nhalf").await;
    assert!(is_seq(&witness.line().await, bytes + 1, "whole"));
    reset.tcp.set_zero_linger().unwrap();
    drop(reset);
    let folder = server.stop().await;
    assert_eq!(stored(&folder.path().join("diary")), vec!["local whole"; bytes + 1]);
}

fn is_seq(line: &str, seq: usize, expected: &str) -> bool {
    line.starts_with(&format!("{seq} ")) && text(line) == expected
}

/// Each piece of a handshake may come by itself, and so may each byte of a record.
#[tokio::test]
async fn records_come_in_any_pieces() {
    let (server, address) = with_tls().await;
    let mut tcp = TcpStream::connect(&address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let mut client = tls_client();
    let mut lines = String::new();
    let mut sent = false;
    let exchange = async {
        while lines.lines().filter_map(acked).count() < 2 {
            let mut out = records(&mut client, b"");
            if !client.is_handshaking() && !sent {
                sent = true;
                out.extend(records(&mut client, "今天\n一\n".as_bytes()));
            }
            for byte in out {
                tcp.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            let mut input = vec![0; 4096];
            if client.wants_read() && !(sent && client.wants_write()) && (sent || client.is_handshaking()) {
                let read = tcp.read(&mut input).await.unwrap();
                let mut input = &input[..read];
                while !input.is_empty() {
                    client.read_tls(&mut input).unwrap();
                    client.process_new_packets().unwrap();
                }
                let _ = client.reader().read_to_string(&mut lines);
            }
        }
    };
    soon("both lines are acked", exchange).await;
    assert_eq!(stored(&server.journal()), ["local 今天", "local 一"]);
    server.stop().await;
}

#[tokio::test]
async fn quiet_and_proxy_listeners_have_tls_too() {
    let (server, quiet) = with(Listen::tcp("127.0.0.1:0").tls().quiet(), |_| {}).await;
    assert!(server.addresses()[1].starts_with("quiet:tls:127.0.0.1:"));
    assert_eq!(say(connect_tls(&quiet).await, b"8 <13>/one<13>two\nlast").await, b"");
    assert_eq!(stored(&server.journal()), ["local <13>/one", "local <13>two", "local last"]);
    server.stop().await;

    let (server, proxy) = with(Listen::tcp("127.0.0.1:0").tls().proxy(), |config| {
        config.limits.connections_per_address = Some(1);
    })
    .await;
    let mut held = Vec::new();
    for (client, cut, refused) in [(7, false, false), (8, true, false), (8, false, true), (8, true, true)] {
        let mut tcp = TcpStream::connect(&proxy).await.unwrap();
        let header = format!("PROXY TCP4 192.0.2.{client} 198.51.100.1 51234 8888\r\n");
        let mut client = tls_client();
        // The header and the hello may come in one read, or in many.
        let first = [header.as_bytes(), &records(&mut client, b"")].concat();
        let at = if cut { header.len() + 3 } else { first.len() };
        tcp.write_all(&first[..at]).await.unwrap();
        tokio::task::yield_now().await;
        tcp.write_all(&first[at..]).await.unwrap();
        let mut stream = Driven { tcp, client };
        let greeting = stream.line().await;
        if refused {
            assert!(greeting.starts_with("error busy: ") && greeting.contains("192.0.2.8"), "{greeting}");
        } else {
            assert!(greeting.starts_with("diary/1 ready "), "{greeting}");
            stream.send(b"behind a proxy\n").await;
            assert!(stream.line().await.starts_with("ok "));
            held.push(stream);
        }
    }
    let answer = say(TcpStream::connect(&proxy).await.unwrap(), &records(&mut tls_client(), b"")).await;
    assert!(answer.starts_with(b"error proxy: "), "{}", answer.escape_ascii());
    assert_eq!(stored(&server.journal()), ["192.0.2.7 behind a proxy", "192.0.2.8 behind a proxy"]);
    drop(held);
    server.stop().await;
}

/// A client whose bytes the test sends itself.
struct Driven {
    tcp: TcpStream,
    client: rustls::ClientConnection,
}

impl Driven {
    async fn send(&mut self, plaintext: &[u8]) {
        let bytes = records(&mut self.client, plaintext);
        self.tcp.write_all(&bytes).await.unwrap();
    }

    /// What comes up to a line feed.
    async fn line(&mut self) -> String {
        let mut line = String::new();
        let coming = async {
            while !line.ends_with('\n') {
                self.send(b"").await;
                let mut input = vec![0; 4096];
                let read = self.tcp.read(&mut input).await.unwrap();
                assert!(read > 0, "the server has closed");
                let mut input = &input[..read];
                while !input.is_empty() {
                    self.client.read_tls(&mut input).unwrap();
                    self.client.process_new_packets().unwrap();
                }
                let _ = self.client.reader().read_to_string(&mut line);
            }
        };
        soon("a line comes", coming).await;
        line
    }
}

#[tokio::test]
async fn a_plain_address_names_the_tls_one() {
    let (server, address) = with_tls().await;
    let answer = say(server.lines().await.into_stream(), &records(&mut tls_client(), b"")).await;
    let answer = String::from_utf8(answer).unwrap();
    assert_eq!(answer, format!("error tls: this address speaks plain text; TLS is at {address}\n"));
    server.stop().await;
    let server = Server::start().await;
    let answer = say(server.lines().await.into_stream(), &records(&mut tls_client(), b"")).await;
    assert_eq!(String::from_utf8(answer).unwrap(), "error tls: this address speaks plain text, not TLS\n");
    assert!(!server.journal().with_file_name("tls").exists(), "nobody needs an identity");
    server.stop().await;
}

#[tokio::test]
async fn a_plain_client_is_told_so() {
    let (server, address) = with(Listen::tcp("127.0.0.1:0").tls(), |config| {
        config.limits.tls_handshake = Duration::from_secs(2);
    })
    .await;
    for input in ["hello\n", "GET / HTTP/1.1\r\n\r\nentry\n", "\0\0\0\u{1}\u{7}", "/help\n"] {
        let answer = say(TcpStream::connect(&address).await.unwrap(), input.as_bytes()).await;
        assert_eq!(answer, b"error tls: this address speaks TLS, not plain text\n", "{input:?}");
    }
    // One that waits for the greeting.
    let mut silent = TcpStream::connect(&address).await.unwrap();
    let mut answer = String::new();
    soon("the server closes", silent.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "error tls: no TLS handshake was made in time\n");
    // One that only looks whether the server is there.
    assert_eq!(say(TcpStream::connect(&address).await.unwrap(), b"").await, b"");
    assert_eq!(server.lines().await.history("all").await, [""; 0]);
    server.stop().await;
}

/// A hello of TLS 1.1 as OpenSSL once sent it, in parts that matter.
fn old_hello(version: u8) -> Vec<u8> {
    let extensions = [0, 8, 0, 13, 0, 4, 0, 2, 4, 3];
    let body = [&[3, version][..], &[7; 32], &[0, 0, 4, 0xc0, 0x14, 0x00, 0x2f, 1, 0], &extensions].concat();
    let message = [&[1, 0, 0, u8::try_from(body.len()).unwrap()][..], &body].concat();
    [&[22, 3, 1, 0, u8::try_from(message.len()).unwrap()][..], &message].concat()
}

#[tokio::test]
async fn old_versions_get_an_alert_and_nothing_else() {
    let (server, address) = with_tls().await;
    for version in [1, 2] {
        let answer = say(TcpStream::connect(&address).await.unwrap(), &old_hello(version)).await;
        // A fatal alert: protocol_version.
        let [21, 3, _, 0, 2, 2, 70] = answer[..] else { panic!("{}", answer.escape_ascii()) };
    }
    server.stop().await;
}

#[tokio::test]
async fn a_handshake_that_stops_keeps_no_place() {
    let (server, address) = with(Listen::tcp("127.0.0.1:0").tls(), |config| {
        config.limits.connections = 1;
        config.limits.tls_handshake = Duration::from_secs(1);
    })
    .await;
    let hello = records(&mut tls_client(), b"");
    for bytes in [1, 5, 100, hello.len()] {
        let mut lines = Lines::connect_when_free(server.address()).await;
        assert!(lines.ask("a place is free").await.starts_with("ok "));
        drop(lines);
        let mut tcp = TcpStream::connect(&address).await.unwrap();
        tcp.write_all(&hello[..bytes]).await.unwrap();
        let mut answer = Vec::new();
        soon("the server closes", tcp.read_to_end(&mut answer)).await.unwrap();
        assert_eq!(answer.is_empty(), bytes < hello.len(), "{}", answer.escape_ascii());
    }
    server.stop().await;
}

#[tokio::test]
async fn whoever_has_no_place_is_told_in_tls() {
    let (server, address) =
        with(Listen::tcp("127.0.0.1:0").tls(), |config| config.limits.connections = 1).await;
    let mut first = server.lines().await;
    let answer = say(connect_tls(&address).await, b"hello\n").await;
    assert!(answer.starts_with(b"error busy: there are too many connections"), "{}", answer.escape_ascii());
    assert!(is_ack(&first.ask("one").await, 1));
    server.stop().await;
}

#[tokio::test]
async fn a_stop_says_bye_in_tls_and_waits_for_no_handshake() {
    let (server, address) = with(Listen::tcp("127.0.0.1:0").tls(), |config| {
        config.limits.tls_handshake = Duration::MAX;
        // Or whoever waits would be ended with the others.
        config.limits.drain = Duration::MAX;
    })
    .await;
    let hello = records(&mut tls_client(), b"");
    let mut silent = TcpStream::connect(&address).await.unwrap();
    silent.write_all(&hello[..7]).await.unwrap();
    let mut stream = BufReader::new(connect_tls(&address).await);
    let mut lines = String::new();
    soon("the greeting comes", stream.read_line(&mut lines)).await.unwrap();
    server.begin_stop();
    soon("the server closes", stream.read_to_string(&mut lines)).await.unwrap();
    assert!(lines.ends_with("\nbye: shutting down\n"), "{lines}");
    drop(stream);
    server.stop().await;
}

/// As many as the whole server takes, and more: others are served meanwhile, and the log has few lines.
#[tokio::test]
async fn thousands_that_stop_in_their_handshake_harm_nobody() {
    const STALLED: usize = 5_000;
    let all = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let limit = rustix::process::Rlimit { current: all, maximum: all };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let stalled = STALLED.min(usize::try_from(all.unwrap_or(u64::MAX)).unwrap() / 2);
    let folder = tempfile::tempdir().unwrap();
    let mut command = server_command(&folder.path().join("data"));
    command.args(["--listen", "127.0.0.1:0,tls:127.0.0.1:0", "--timezone", "UTC", "--log", "warn"]);
    command.stderr(std::fs::File::create(folder.path().join("log")).unwrap());
    let process = Process::spawn(command, 2).await;
    let (plain, tls) = (&process.addresses[0], &process.addresses[1]);
    let mut healthy = Lines::connect(plain).await;
    let before = process.memory("VmRSS");
    let hello = records(&mut tls_client(), b"");
    let mut clients = Vec::new();
    for number in 0..stalled {
        let mut stream = TcpStream::connect(tls.strip_prefix("tls:").unwrap()).await.unwrap();
        // Some have said nothing, and some all that they may without an answer.
        stream.write_all(&hello[..number * hello.len() / stalled]).await.unwrap();
        clients.push(stream);
        if number % 500 == 0 {
            assert!(healthy.ask("fine").await.starts_with("ok "));
            let answer = say(connect_tls(tls).await, b"fine\n").await;
            assert!(answer.starts_with(b"diary/1 ready "), "{}", answer.escape_ascii());
        }
    }
    let most = process.memory("VmHWM");
    assert!(most < before + stalled * 24 * 1024, "{most} bytes, and {before} before");
    for mut client in clients {
        let mut answer = Vec::new();
        let _ = soon("the server closes it", client.read_to_end(&mut answer)).await;
    }
    assert!(healthy.ask("fine").await.starts_with("ok "));
    drop(healthy);
    process.stop().await;
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("no TLS handshake was made in time") && log.lines().count() < 30, "{log}");
}

#[tokio::test]
async fn an_idle_connection_holds_little() {
    const IDLE: usize = 1_000;
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &["tls:127.0.0.1:0"], &["--log", "error"]).await;
    let mut idle = Vec::new();
    let mut connect = async || {
        let mut stream = BufReader::new(connect_tls(process.address()).await);
        // It has sent a record of the largest size, and read much.
        stream.write_all(&[&b"/help\n".repeat(20)[..], &[b'x'; 20_000], b"\n"].concat()).await.unwrap();
        let mut lines = String::new();
        while !lines.contains("\nok ") {
            soon("an answer comes", stream.read_line(&mut lines)).await.unwrap();
        }
        idle.push(stream);
    };
    for _ in 0..100 {
        connect().await;
    }
    let before = process.memory("VmRSS");
    for _ in 0..IDLE {
        connect().await;
    }
    let each = (process.memory("VmRSS") - before) / IDLE;
    println!("{each} bytes for each idle connection");
    assert!(each < 24 * 1024, "{each} bytes");
    drop(idle);
    process.stop().await;
}

/// Lets `arguments` (where `{host}` and `{port}` are the server's) write two lines and say goodbye.
async fn check_peer(name: &str, arguments: &[&str], input: &str, rest: &[&str]) {
    let (server, address) = with_tls().await;
    let (host, port) = address.split_once(':').unwrap();
    let fill = |word: &&str| word.replace("{host}", host).replace("{port}", port);
    let ran = run(peer(name).args(arguments.iter().map(fill)), input).await;
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines.first().is_some_and(|line| line.starts_with("diary/1 ready head=0 ")), "{ran:?}");
    assert!(lines[1..3].iter().map(|line| acked(line)).eq([Some(1), Some(2)]), "{ran:?}");
    assert_eq!((&lines[3..], ran.code), (rest, Some(0)), "{ran:?}");
    assert_eq!(stored(&server.journal()), ["local one", "local 今天天气很好"]);
    server.stop().await;
}

const INPUT: &str = "one\n今天天气很好";

/// It does not tell the server that its input has ended, so `/quit` does.
#[tokio::test]
async fn openssl() {
    let connect = ["s_client", "-quiet", "-connect", "{host}:{port}"];
    check_peer("openssl", &connect, &format!("{INPUT}\n/quit\n"), &["bye"]).await;
    let connect = ["s_client", "-quiet", "-tls1_2", "-connect", "{host}:{port}"];
    check_peer("openssl", &connect, &format!("{INPUT}\n/quit\n"), &["bye"]).await;
}

#[tokio::test]
async fn ncat() {
    check_peer("ncat", &["--ssl", "{host}", "{port}"], INPUT, &[]).await;
}

#[tokio::test]
async fn socat() {
    check_peer("socat", &["-t", "60", "-", "OPENSSL:{host}:{port},verify=0"], INPUT, &[]).await;
}
