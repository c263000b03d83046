//! Servers and clients for the tests.

#![allow(dead_code, reason = "not every property needs every helper")]

pub(crate) mod faulty;
mod frames;
mod loading;
mod programs;
mod random;
mod relay;
mod stored;
mod terminal;
mod tls;

use std::future::Future;
use std::io::{PipeReader, PipeWriter};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;
use std::time::Duration;

use diary_server::{Config, Stopped};
use rustix::fs::OFlags;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use frames::{Frames, fill, hello, pairs, texts_of};
pub(crate) use loading::Loading;
pub(crate) use programs::{Ran, end_process, peer, run};
pub(crate) use random::Random;
pub(crate) use relay::Relay;
pub(crate) use stored::{day_files, seal_in, stored};
pub(crate) use terminal::{ALT_ENTER, BACKSPACE, CTRL_C, CTRL_D, CTRL_R, CTRL_Z, LEFT, Terminal, UP};
pub(crate) use tls::{
    EC, RSA, certificate_in, certificate_of, connect_tls, make_certificate, records, shake_hands, tls_client,
    tunnel,
};

/// For anything that should happen at once: a test that waits longer has failed. It is no measure of
/// speed, so it is generous.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The outcome of `future`, which must come in time.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("nothing happened: {what}"),
    }
}

/// How many times as much a test does as in CI: `DIARY_TEST_BUDGET` (1).
pub(crate) fn budget() -> u64 {
    std::env::var("DIARY_TEST_BUDGET")
        .map_or(1, |budget| budget.parse().expect("DIARY_TEST_BUDGET is a number"))
}

/// A server in this process.
pub(crate) struct Server {
    addresses: Vec<String>,
    stop: CancellationToken,
    running: JoinHandle<Stopped>,
    folder: tempfile::TempDir,
}

/// Waits until nobody holds a lock.
async fn lock_is_free(path: PathBuf) {
    let locked = tokio::task::spawn_blocking(|| {
        let file = std::fs::File::open(path).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    });
    soon("the lock is free", locked).await.unwrap();
}

impl Server {
    /// On a free port, with a diary of its own.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// The same, with other settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::on(tempfile::tempdir().unwrap(), change).await
    }

    /// On the diary in `folder`.
    pub(crate) async fn on(folder: tempfile::TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::local(folder.path());
        config.timezone = Some("Asia/Shanghai".to_owned());
        change(&mut config);
        let server = loop {
            match diary_server::Server::start(config.clone()).await {
                // A process that another test has forked and that is no program yet has this process's locks, too.
                Err(error) if error.to_string().contains("another diary-server is using") => {
                    lock_is_free(config.data.join(config.journal.as_str()).join("lock")).await;
                }
                started => break started.unwrap(),
            }
        };
        let addresses = server.addresses().to_vec();
        let stop = CancellationToken::new();
        let running = tokio::spawn(server.run(stop.clone()));
        Self { addresses, stop, running, folder }
    }

    /// The first listener's address.
    pub(crate) fn address(&self) -> &str {
        &self.addresses[0]
    }

    /// Every listener's address, as the server names it.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The journal's folder.
    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.path().join("diary")
    }

    /// A line mode client that has read the greeting.
    pub(crate) async fn lines(&self) -> Lines {
        Lines::connect(self.address()).await
    }

    /// Asks it to stop, and goes on at once.
    pub(crate) fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Stops cleanly, and gives back the folder.
    pub(crate) async fn stop(self) -> tempfile::TempDir {
        self.stop.cancel();
        assert_eq!(soon("the server stops", self.running).await.unwrap(), Stopped::Clean);
        self.folder
    }
}

/// A line mode client.
pub(crate) struct Lines {
    pub(crate) reader: BufReader<OwnedReadHalf>,
    pub(crate) writer: OwnedWriteHalf,
    pub(crate) greeting: String,
}

impl Lines {
    /// Connects, and reads the greeting.
    pub(crate) async fn connect(address: &str) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    /// Reads the greeting of a connection.
    pub(crate) async fn over(stream: TcpStream) -> Self {
        let (reader, writer) = stream.into_split();
        let mut lines = Self { reader: BufReader::new(reader), writer, greeting: String::new() };
        lines.greeting = lines.line().await;
        lines
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon("the server takes input", self.writer.write_all(bytes.as_ref())).await.unwrap();
    }

    /// The next line, without its line feed. The end of input is an empty line.
    pub(crate) async fn line(&mut self) -> String {
        let mut line = String::new();
        soon("a line comes", self.reader.read_line(&mut line)).await.unwrap();
        line.truncate(line.trim_end_matches('\n').len());
        line
    }

    /// Sends one line and reads one.
    pub(crate) async fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\n")).await;
        self.line().await
    }

    /// Connects as soon as the server has a place, and reads the greeting.
    pub(crate) async fn connect_when_free(address: &str) -> Self {
        let free = async {
            loop {
                let lines = Self::connect(address).await;
                if lines.greeting.starts_with("diary/1 ") {
                    return lines;
                }
            }
        };
        soon("a place becomes free", free).await
    }

    /// Asks for entries, and returns their lines without what frames them.
    pub(crate) async fn history(&mut self, which: &str) -> Vec<String> {
        assert_eq!(self.ask(&format!("/history {which}")).await, "ok history");
        self.entries().await
    }

    /// The lines of an answer that has begun, up to its end, which must count them.
    pub(crate) async fn entries(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await;
            if let Some(count) = line.strip_prefix("end ") {
                let entries = lines.iter().filter(|line: &&String| !line.starts_with("gap ")).count();
                assert_eq!(count, entries.to_string());
                return lines;
            }
            assert!(line.starts_with(|c: char| c.is_ascii_digit()) || line.starts_with("gap "), "{line:?}");
            lines.push(line);
        }
    }

    /// The texts of all entries.
    pub(crate) async fn all_texts(&mut self) -> Vec<String> {
        self.history("all").await.iter().map(|line| text(line).to_owned()).collect()
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn end_input(&mut self) {
        self.writer.shutdown().await.unwrap();
    }

    /// Goes away, so that the server hears of it at once.
    pub(crate) fn reset(self) {
        self.into_stream().set_zero_linger().unwrap();
    }

    /// The connection.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.reader.into_inner().reunite(self.writer).unwrap()
    }

    /// Everything up to the server's end.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = String::new();
        soon("the server closes", self.reader.read_to_string(&mut rest)).await.unwrap();
        rest
    }
}

/// A connection whose system takes in very little before its program reads it.
pub(crate) async fn connect_narrow(address: &str) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(address.parse().unwrap()).await.unwrap()
}

/// Sends all of `input`, and returns what comes back until the server closes.
pub(crate) async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, input: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let exchange = async {
        stream.write_all(input).await?;
        stream.shutdown().await?;
        stream.read_to_end(&mut answer).await
    };
    soon("the server closes", exchange).await.unwrap();
    answer
}

/// A pipe that takes no more bytes, and its end for reading.
pub(crate) fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    for piece in [&[b'x'; 4096][..], &[b'x'; 1]] {
        while std::io::Write::write(&mut writer, piece).is_ok() {}
    }
    rustix::fs::fcntl_setfl(&writer, OFlags::empty()).unwrap();
    (reader, writer)
}

/// Whether `line` acknowledges `seq`.
pub(crate) fn is_ack(line: &str, seq: u64) -> bool {
    acked(line) == Some(seq)
}

/// The seq that `line` acknowledges.
pub(crate) fn acked(line: &str) -> Option<u64> {
    let mut words = line.strip_prefix("ok ")?.split(' ');
    let seq = words.next()?.parse().ok()?;
    diary_proto::Time::parse(words.next()?.as_bytes())?;
    Some(seq)
}

/// The text of an entry as line mode shows it.
pub(crate) fn text(line: &str) -> &str {
    line.splitn(4, ' ').nth(3).unwrap()
}

/// The seq of an entry as line mode shows it; `None` for any other line.
pub(crate) fn seq(line: &str) -> Option<u64> {
    line.split(' ').next()?.parse().ok()
}

/// A real `diary-server`, killed when it is dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    /// As it printed them.
    pub(crate) addresses: Vec<String>,
}

impl Process {
    /// Starts it on the diary in `data` with these listeners and other arguments, and waits until it
    /// listens.
    pub(crate) async fn start(data: &Path, listen: &[&str], arguments: &[&str]) -> Self {
        let mut command = server_command(data);
        command.args(listen.iter().flat_map(|listen| ["--listen", listen])).args(arguments);
        Self::spawn(command, listen.len()).await
    }

    /// The same on a free port, with its log in a file.
    pub(crate) async fn start_logging(data: &Path, arguments: &[&str], log: &Path) -> Self {
        let mut command = server_command(data);
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        command.stderr(std::fs::File::create(log).unwrap());
        Self::spawn(command, 1).await
    }

    /// Runs the command of a server, and waits until it has so many listeners.
    pub(crate) async fn spawn(mut command: Command, listeners: usize) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut addresses = Vec::new();
        while addresses.len() < listeners {
            let mut line = String::new();
            let read = soon("the server listens", stdout.read_line(&mut line)).await.unwrap();
            assert!(read > 0, "the server ended before it listened");
            addresses.push(line.trim_end().strip_prefix("listening on ").unwrap().to_owned());
        }
        Self { child, addresses }
    }

    /// The first listener's address.
    pub(crate) fn address(&self) -> &str {
        &self.addresses[0]
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Bytes of its memory, as the kernel counts them: `VmRSS`, `VmHWM` (the most so far), `VmData`.
    pub(crate) fn memory(&self, field: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find(|line| line.split(':').next() == Some(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }

    /// Ends it with SIGTERM, which it must take well.
    pub(crate) async fn stop(mut self) {
        self.signal(rustix::process::Signal::TERM);
        assert_eq!(self.wait().await, Some(0));
    }

    /// Waits for its end, and returns its exit code.
    pub(crate) async fn wait(&mut self) -> Option<i32> {
        soon("the server ends", self.child.wait()).await.unwrap().code()
    }
}

/// A command for the real `diary-server`, without the environment's settings.
pub(crate) fn server_command(data: &Path) -> Command {
    let mut command = plain_command(env!("CARGO_BIN_EXE_diary-server-under-test"));
    command.arg("--data").arg(data);
    command
}

/// A command for the real `diary-server`, without arguments and the environment's settings.
pub(crate) fn plain_server_command() -> Command {
    plain_command(env!("CARGO_BIN_EXE_diary-server-under-test"))
}

/// A command for the real `diary`, without the environment's settings.
pub(crate) fn cli_command() -> Command {
    let mut command = plain_command(env!("CARGO_BIN_EXE_diary-cli-under-test"));
    command.env("NO_COLOR", "1").env("TERM", "xterm");
    command
}

fn plain_command(program: &str) -> Command {
    // Whoever runs the tests has a diary of their own.
    static HOME: LazyLock<PathBuf> = LazyLock::new(|| {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("home");
        let _ = std::fs::remove_dir_all(&home);
        std::fs::create_dir_all(&home).unwrap();
        home
    });
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if ["DIARY_", "XDG_"].iter().any(|settings| name.to_string_lossy().starts_with(settings)) {
            command.env_remove(name);
        }
    }
    command.env("HOME", &*HOME).kill_on_drop(true).stdin(Stdio::null());
    command
}
