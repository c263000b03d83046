//! One address cannot take every place. In a network of its own, where addresses beyond loopback are this machine's.

use std::env;
use std::net::SocketAddr;
use std::time::Duration;

use diary_server::Listen;
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use crate::support::{Lines, Process, Server, is_ack, peer, run, server_command, soon};

/// Says that we are in there.
const INSIDE: &str = "IN_A_NETWORK_OF_ITS_OWN";

/// Makes the addresses, and runs the rest.
const NETWORK: &str = "ip link set lo up && ip address add 192.0.2.1/24 dev lo && for address in 2001:db8::1 2001:db8::2 2001:db8:0:1::1
do ip address add $address/128 dev lo nodad || exit; done && exec \"$@\"";

/// Runs this test again in a network of its own, or says that this is there.
pub(crate) async fn is_inside(test: &str) -> bool {
    is_inside_of(NETWORK, test).await
}

/// The same with other networks, which the script makes.
pub(crate) async fn is_inside_of(script: &str, test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut command = peer("unshare");
    command.args(["--user", "--map-root-user", "--net", "sh", "-euc", script, "sh"]);
    command.arg(env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let ran = run(&mut command, "").await;
    assert!(ran.code == Some(0) && ran.stdout.contains("1 passed"), "{}\n{}", ran.stdout, ran.stderr);
    false
}

async fn serve(folder: &tempfile::TempDir, listen: &[&str], arguments: &[&str]) -> Process {
    let mut command = server_command(folder.path());
    command
        .args(listen.iter().flat_map(|listen| ["--listen", listen]))
        .args(["--log", "info", "--open"])
        .args(arguments);
    command.stderr(std::fs::File::create(folder.path().join("log")).unwrap());
    Process::spawn(command, listen.len()).await
}

/// Connects from an address, whatever the server says then.
async fn connect(from: &str, to: &str) -> Lines {
    Lines::over(open(from, to).await).await
}

/// Connects from an address.
async fn open(from: &str, to: &str) -> TcpStream {
    let (from, to) = (SocketAddr::new(from.parse().unwrap(), 0), to.parse::<SocketAddr>().unwrap());
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
    socket.bind(from).unwrap();
    soon("it connects", socket.connect(to)).await.unwrap()
}

/// Takes all places that an address may have, and checks that there is none more, and what is said.
async fn take_all(from: &str, block: &str, to: &str, places: usize) -> Vec<Lines> {
    let mut held = Vec::new();
    for _ in 0..places {
        let idle = connect(from, to).await;
        assert!(idle.greeting.starts_with("diary/1 ready "), "{}", idle.greeting);
        held.push(idle);
    }
    check_turned_away(connect(from, to).await, block, places).await;
    held
}

async fn check_turned_away(mut client: Lines, block: &str, places: usize) {
    let expected = format!(
        "error busy: the connections of one address are limited to {places}, and {block} has them; close one, or try again later"
    );
    assert_eq!(client.greeting, expected);
    assert_eq!(client.rest().await, "", "it is closed");
}

async fn connect_when_free(from: &str, to: &str) -> Lines {
    let free = async {
        loop {
            let lines = connect(from, to).await;
            if lines.greeting.starts_with("diary/1 ") {
                return lines;
            }
        }
    };
    soon("a place becomes free", free).await
}

#[tokio::test]
async fn one_address_cannot_take_all_places() {
    if !is_inside("addresses::one_address_cannot_take_all_places").await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}", folder.path().join("socket").display());
    let listen = ["192.0.2.1:0", "[2001:db8::1]:0", "127.0.0.1:0", &unix];
    let process = serve(&folder, &listen, &["--connections-per-address", "20"]).await;
    let addresses = process.addresses.clone();
    let [v4, v6, loopback, _] = &addresses[..] else { panic!("{addresses:?}") };

    let mut idle = take_all("192.0.2.66", "192.0.2.66", v4, 20).await;
    // Others are served, and so is who was there before.
    assert!(is_ack(&connect("192.0.2.7", v4).await.ask("another address").await, 1));
    assert!(is_ack(&idle[0].ask("a place that was taken").await, 2));
    // A network of IPv6 is one.
    let network = take_all("2001:db8::2", "2001:db8::/64", v6, 20).await;
    check_turned_away(connect("2001:db8::1", v6).await, "2001:db8::/64", 20).await;
    assert!(is_ack(&connect("2001:db8:0:1::1", v6).await.ask("another network").await, 3));
    // This machine has as many as it likes.
    let mut local = Vec::new();
    for _ in 0..30 {
        local.push(connect("127.0.0.1", loopback).await);
        UnixStream::connect(unix.strip_prefix("unix:").unwrap()).await.unwrap();
    }
    assert!(local.iter().all(|client| client.greeting.starts_with("diary/1 ready ")));
    // Places come back, however their holders go.
    idle.pop().unwrap().reset();
    drop(idle.pop());
    let mut again = [connect_when_free("192.0.2.66", v4).await, connect_when_free("192.0.2.66", v4).await];
    assert!(is_ack(&again[1].ask("again").await, 4));
    check_turned_away(connect("192.0.2.66", v4).await, "192.0.2.66", 20).await;

    drop((idle, network, local, again));
    process.stop().await;
    // The first of each listener is told, and the others are counted.
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    for (listener, block) in [(v4, "192.0.2.66"), (v6, "2001:db8::/64")] {
        let first = log.lines().find(|line| line.contains(" WARN turned away ") && line.contains(block));
        assert!(first.is_some_and(|line| line.ends_with(" count=1")), "{log}");
        let more =
            log.lines().find(|line| line.contains(" WARN more were turned away ") && line.contains(listener));
        let counted = more.and_then(|line| line.rsplit_once(" count=")?.1.parse::<u64>().ok());
        assert!(counted.is_some_and(|count| count >= 1), "{log}");
    }
}

/// Whoever opens connections to a proxy's listener and says nothing takes the places of their own address.
#[tokio::test]
async fn a_connection_counts_for_whoever_made_it_until_a_header_names_another() {
    if !is_inside("addresses::a_connection_counts_for_whoever_made_it_until_a_header_names_another").await {
        return;
    }
    let server = Server::with(|config| {
        config.rules.open = true;
        config.listen = vec![Listen::tcp("192.0.2.1:0").proxy(), Listen::tcp("127.0.0.1:0").proxy()];
        config.limits.connections_per_address = Some(20);
        config.limits.proxy_header = Duration::from_secs(3600);
    })
    .await;
    let [far, near] = server.addresses() else { panic!("{:?}", server.addresses()) };
    let (far, near) = (far.strip_prefix("proxy:").unwrap(), near.strip_prefix("proxy:").unwrap());
    let header = |client: &str| format!("PROXY TCP4 {client} 198.51.100.1 51234 8888\r\n");
    let introduced = async |mut stream: TcpStream, client: &str| {
        stream.write_all(header(client).as_bytes()).await.unwrap();
        Lines::over(stream).await
    };

    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(open("192.0.2.66", far).await);
    }
    check_turned_away(connect("192.0.2.66", far).await, "192.0.2.66", 20).await;
    let mut other = introduced(open("192.0.2.7", far).await, "198.51.100.66").await;
    assert!(is_ack(&other.ask("another address").await, 1));
    // Those that come to be somebody else's leave room for as many.
    let mut named = Vec::new();
    for (stream, client) in silent.into_iter().zip(1..) {
        let client = introduced(stream, &format!("198.51.100.{client}")).await;
        assert!(client.greeting.starts_with("diary/1 ready "), "{}", client.greeting);
        named.push(client);
    }
    for _ in 0..20 {
        named.push(introduced(open("192.0.2.66", far).await, "198.51.100.99").await);
    }
    check_turned_away(introduced(open("192.0.2.66", far).await, "198.51.100.99").await, "198.51.100.99", 20)
        .await;
    // One whose proxy names nobody stays the proxy's, and one that names the proxy itself takes no second place.
    for client in ["192.0.2.66"; 20] {
        named.push(introduced(open("192.0.2.66", far).await, client).await);
    }
    assert!(is_ack(&named.last_mut().unwrap().ask("the proxy's own").await, 2));
    check_turned_away(connect("192.0.2.66", far).await, "192.0.2.66", 20).await;
    // A proxy on this machine may wait for as many as there are.
    let mut local = Vec::new();
    for _ in 0..30 {
        local.push(open("127.0.0.1", near).await);
    }
    assert!(is_ack(&introduced(local.pop().unwrap(), "203.0.113.1").await.ask("behind them").await, 3));
    drop((other, named, local));
    server.stop().await;
}

/// As many idle sockets as the whole server takes, from one peer.
#[tokio::test]
async fn without_a_setting_nine_tenths_are_left_for_others() {
    if !is_inside("addresses::without_a_setting_nine_tenths_are_left_for_others").await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = peer("prlimit");
    // 64 files are kept back.
    command.arg("--nofile=264:264");
    let mut server = server_command(folder.path());
    server.args(["--listen", "192.0.2.1:0", "--open", "--log", "error"]);
    let mut process = Process::spawn(crate::support::faulty::under(command, server), 1).await;
    let address = process.address().to_owned();
    let mut greeted = Vec::new();
    for _ in 0..200 {
        let idle = connect("192.0.2.66", &address).await;
        if idle.greeting.starts_with("diary/1 ready ") {
            greeted.push(idle);
        }
    }
    assert_eq!(greeted.len(), 20);
    for other in 2..10 {
        let other = format!("192.0.2.{other}");
        greeted.extend(take_all(&other, &other, &address, 20).await);
    }
    for _ in 0..20 {
        let last = connect("192.0.2.10", &address).await;
        assert!(last.greeting.starts_with("diary/1 ready "), "{}", last.greeting);
        greeted.push(last);
    }
    let over = connect("192.0.2.11", &address).await;
    assert!(over.greeting.starts_with("error busy: there are too many connections"), "{}", over.greeting);
    drop((greeted, over));
    process.signal(Signal::TERM);
    assert_eq!(process.wait().await, Some(0));
}
