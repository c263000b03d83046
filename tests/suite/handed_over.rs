//! Sockets that systemd or inetd hands over: the name says what each is, and whoever made it keeps it.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::cli_add::address_to_be;
use crate::support::faulty::under;
use crate::support::{
    Lines, Ran, connect_tls, is_ack, peer, plain_server_command, run, say, server_command, soon, stored,
    tunnel,
};

/// A program that is or becomes a server.
struct Handed {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
}

impl Handed {
    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// A server that `systemd-socket-activate` starts once somebody comes. Its sockets listen already.
    async fn activated(listen: &[&str], options: &[&str], server: Command) -> Self {
        let mut activate = peer("systemd-socket-activate");
        activate.args(options).args(listen.iter().flat_map(|address| ["-l", address]));
        let mut handed = Self::spawn(under(activate, server));
        for _ in listen {
            handed.said("Listening on ").await;
        }
        handed
    }

    /// Waits for a line on stderr with this in it, and returns all up to its end.
    async fn said(&mut self, what: &str) -> String {
        let mut said = String::new();
        loop {
            let before = said.len();
            soon(what, self.stderr.read_line(&mut said)).await.unwrap();
            assert!(said.len() > before, "it ended without {what:?}: {said}");
            if said[before..].contains(what) {
                return said;
            }
        }
    }

    /// Where it listens: so many lines.
    async fn addresses(&mut self, count: usize) -> Vec<String> {
        let mut addresses = Vec::new();
        while addresses.len() < count {
            let mut line = String::new();
            soon("the server listens", self.stdout.read_line(&mut line)).await.unwrap();
            addresses.push(line.trim_end().strip_prefix("listening on ").unwrap().to_owned());
        }
        addresses
    }

    /// Its end; what it has still printed. `stop` asks for it.
    async fn end(mut self, stop: bool) -> Ran {
        if stop {
            let pid = Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
            kill_process(pid, Signal::TERM).unwrap();
        }
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let ended = async {
            self.stdout.read_to_string(&mut stdout).await.unwrap();
            self.stderr.read_to_string(&mut stderr).await.unwrap();
            self.child.wait().await.unwrap().code()
        };
        let code = soon("the server ends", ended).await;
        Ran { code, stdout, stderr }
    }
}

async fn add_journal(data: &Path, name: &str) {
    let ran = run(plain_server_command().args(["journal", "add", name, "--data"]).arg(data), "").await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[tokio::test]
async fn a_name_says_what_each_socket_of_systemd_is() {
    let folder = tempfile::tempdir().unwrap();
    add_journal(folder.path(), "work").await;
    let (plain, tls, quiet) = (address_to_be().await, address_to_be().await, address_to_be().await);
    let socket = folder.path().join("socket");
    let listen = [&plain, &tls, &quiet, socket.to_str().unwrap()];
    let names = "--fdname=diary.socket:tls:quiet=work:proxy";
    let mut command = server_command(folder.path());
    // Behind a proxy everybody is from elsewhere.
    command.arg("--open");
    let mut server = Handed::activated(&listen, &[names], command).await;

    // Whoever comes first starts it, and is served.
    let mut client = Lines::over(TcpStream::connect(&plain).await.unwrap()).await;
    let expected = [
        plain.clone(),
        format!("tls:{tls}"),
        format!("quiet:{quiet}=work"),
        format!("proxy:unix:{}", socket.display()),
    ];
    assert_eq!(server.addresses(4).await, expected);
    assert!(is_ack(&client.ask("plain").await, 1));
    let mut secure = Lines::over(tunnel(connect_tls(&tls).await).await).await;
    assert!(is_ack(&secure.ask("in TLS").await, 2));
    assert_eq!(say(TcpStream::connect(&quiet).await.unwrap(), b"quiet\n").await, b"");
    let header_and_text = b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 8888\r\nproxied\n";
    let answer = say(tokio::net::UnixStream::connect(&socket).await.unwrap(), header_and_text).await;
    assert!(String::from_utf8(answer).unwrap().contains("\nok 3 "));
    drop((client, secure));

    let ran = server.end(true).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(!ran.stdout.contains("listening"), "no address is bound beside these: {ran:?}");
    assert!(socket.exists(), "whoever made it removes it");
    assert_eq!(stored(&folder.path().join("diary")), ["local plain", "local in TLS", "192.0.2.7 proxied"]);
    assert_eq!(stored(&folder.path().join("work")), ["local quiet"]);
}

#[tokio::test]
async fn datagrams_are_taken_beside_an_address_that_the_server_binds() {
    let folder = tempfile::tempdir().unwrap();
    let datagrams = address_to_be().await;
    let mut command = server_command(folder.path());
    command.args(["--listen", "127.0.0.1:0"]);
    let mut server = Handed::activated(&[&datagrams], &["--datagram"], command).await;

    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to("今天".as_bytes(), &datagrams).await.unwrap();
    let addresses = server.addresses(2).await;
    assert_eq!(addresses[1], format!("quiet:udp:{datagrams}"));
    let mut client = Lines::connect(&addresses[0]).await;
    assert_eq!(client.ask("/follow #1").await, "ok follow from 1");
    assert!(client.line().await.ends_with(" local 今天"));
    drop(client);
    assert_eq!(server.end(true).await.code, Some(0));
}

#[tokio::test]
async fn what_cannot_be_served_is_a_reason_not_to_start() {
    for (options, what, why) in [
        (&["--fdname=plain:quite"][..], "descriptor 4 (quite)", "FileDescriptorName="),
        (&["--fdname=tls:tls=none"], "journal none", "diary-server journal add none"),
        (&["--seqpacket"], "socket 1 of systemd's ()", "not a TCP, UDP or Unix stream socket"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["one", "two"].map(|name| folder.path().join(name));
        let tcp = [address_to_be().await, address_to_be().await];
        // TCP has no sequences of packets.
        let sequences = options == ["--seqpacket"];
        let listen: [&str; 2] = if sequences {
            paths.each_ref().map(|path| path.to_str().unwrap())
        } else {
            tcp.each_ref().map(String::as_str)
        };
        let server = Handed::activated(&listen, options, server_command(&folder.path().join("data"))).await;
        let connected = if sequences {
            use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};
            let socket = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
            connect(&socket, &SocketAddrUnix::new(&paths[0]).unwrap()).unwrap();
            socket
        } else {
            OwnedFd::from(std::net::TcpStream::connect(&tcp[0]).unwrap())
        };
        let ran = server.end(false).await;
        assert!(matches!(ran.code, Some(3 | 4)) && ran.stderr.contains(what), "{ran:?}");
        assert!(ran.stderr.contains(why) && ran.stdout.is_empty(), "{ran:?}");
        assert!(!folder.path().join("data/diary").exists(), "no journal is made");
        drop(connected);
    }
}

/// inetd with a server for `address`, in this form.
async fn inetd(folder: &Path, address: &str, wait: &str) -> Handed {
    let user = run(peer("id").arg("-un"), "").await.stdout;
    let server = server_command(&folder.join("data"));
    let program = server.as_std().get_program().to_str().unwrap().to_owned();
    let data = folder.join("data");
    let line = format!(
        "{address} stream tcp4 {wait} {} {program} diary-server --data {} --timezone UTC\n",
        user.trim(),
        data.display()
    );
    let conf = folder.join("inetd.conf");
    fs::write(&conf, line).unwrap();
    let mut command = peer("inetd");
    command.arg("-d").arg(&conf);
    Handed::spawn(command)
}

/// Connects as soon as inetd listens, of which it says nothing.
async fn connect_when_it_listens(address: &str) -> TcpStream {
    let connected = async {
        loop {
            if let Ok(stream) = TcpStream::connect(address).await {
                return stream;
            }
        }
    };
    soon("inetd listens", connected).await
}

/// The processes that another one has started.
fn children(pid: u32) -> Vec<Pid> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap()).collect()
}

#[tokio::test]
async fn inetd_starts_a_server_that_waits_for_all_connections() {
    let folder = tempfile::tempdir().unwrap();
    let address = address_to_be().await;
    let mut inetd = inetd(folder.path(), &address, "wait").await;
    let pid = inetd.child.id().unwrap();
    // It can be started again once it has ended.
    for seq in [1, 3] {
        let mut client = Lines::over(connect_when_it_listens(&address).await).await;
        assert!(client.greeting.starts_with("diary/1 ready "), "nothing else is said: {}", client.greeting);
        assert!(is_ack(&client.ask("one").await, seq));
        assert!(is_ack(&Lines::connect(&address).await.ask("two").await, seq + 1));
        drop(client);
        let [server] = children(pid)[..] else { panic!("one server for all") };
        kill_process(server, Signal::TERM).unwrap();
        let said = inetd.said("restored ").await;
        assert!(said.contains("reaped, status 0\n"), "{said}");
    }
    inetd.end(true).await;
}

#[tokio::test]
async fn a_connection_as_standard_input_is_told_to_wait() {
    let folder = tempfile::tempdir().unwrap();
    let address = address_to_be().await;
    let inetd = inetd(folder.path(), &address, "nowait").await;
    let mut said = String::new();
    let mut client = connect_when_it_listens(&address).await;
    soon("it ends", client.read_to_string(&mut said)).await.unwrap();
    assert!(said.starts_with("diary-server: cannot listen on standard input: it is a connection"), "{said}");
    assert!(said.contains("use wait instead of nowait in inetd.conf"), "{said}");
    inetd.end(true).await;
}

#[tokio::test]
async fn other_standard_input_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (one, _other) = UnixStream::pair().unwrap();
    let (pipe, _writer) = std::io::pipe().unwrap();
    for stdin in [Stdio::from(OwnedFd::from(one)), Stdio::from(pipe)] {
        let mut command = server_command(folder.path());
        command.args(["--listen", "127.0.0.1:0"]).stdin(stdin);
        let mut server = Handed::spawn(command);
        let address = server.addresses(1).await.remove(0);
        assert!(TcpListener::bind(&address).await.is_err());
        let ran = server.end(true).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");
    }
}
