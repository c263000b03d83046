//! Servers and clients for the tests.

#![allow(dead_code, reason = "not every property needs every helper")]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use diary_server::{Config, Stopped};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

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

/// A server in this process.
pub(crate) struct Server {
    addresses: Vec<String>,
    stop: CancellationToken,
    running: JoinHandle<Stopped>,
    folder: tempfile::TempDir,
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
        let server = diary_server::Server::start(config).await.unwrap();
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
        let (reader, writer) = TcpStream::connect(address).await.unwrap().into_split();
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

    /// Says that nothing more will be sent.
    pub(crate) async fn end_input(&mut self) {
        self.writer.shutdown().await.unwrap();
    }

    /// Everything up to the server's end.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = String::new();
        soon("the server closes", self.reader.read_to_string(&mut rest)).await.unwrap();
        rest
    }
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
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut addresses = Vec::new();
        while addresses.len() < listen.len() {
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

/// A command for the real `diary-cli`, without the environment's settings.
pub(crate) fn cli_command() -> Command {
    plain_command(env!("CARGO_BIN_EXE_diary-cli-under-test"))
}

fn plain_command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DIARY_")) {
        command.env_remove(name);
    }
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}
