//! `doctor`: tries the way to the server step by step, and says in a line each what is right, and what to do
//! about what is wrong.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use diary_client::{Address, Client, Event, Options, Stored, Time, Which};
use diary_proto::escape::escape;
use jiff::tz::TimeZone;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use crate::config::Config;
use crate::exit;
use crate::outbox::Outbox;
use crate::output::{Output, count};

/// How long each step may take.
const STEP_LIMIT: Duration = Duration::from_secs(5);

/// How long a greeting may take: a diary greets at once.
const GREETING_LIMIT: Duration = Duration::from_secs(2);

/// What is said to something that does not greet, to learn what it is. A diary refuses it and stores nothing.
const PROBE: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// Longest first line that is read.
const LINE_MAX_BYTES: usize = 4096;

/// How many characters of what is no diary are shown.
const SHOWN_CHARS: usize = 60;

/// How far ahead of this machine's clock an entry may be.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(60);

/// A step that is wrong: what, and what to do about it.
type Wrong = String;

/// What was found out so far.
struct Report {
    output: Output,
    colour: bool,
    code: u8,
}

/// Tries all, and gives the exit code: 3 if the server cannot be reached, 4 if something else is wrong.
pub(crate) async fn run(config: &Config) -> u8 {
    let mut report =
        Report { output: Output::new(io::stdout()), colour: config.colour.is_on(), code: exit::DONE };
    report.step("configuration", configuration(config));
    report.step("outbox", outbox(config.state.as_deref()));
    // With a file that cannot be read, nobody knows which server is meant, unless it is said.
    let is_known = config.wrong.is_none() || config.server_is_said;
    if is_known && talk(config, &mut report).await.is_none() {
        report.code = exit::UNREACHABLE;
    }
    report.code
}

/// The steps that need the server; `None` if it cannot be reached.
async fn talk(config: &Config, report: &mut Report) -> Option<()> {
    let stream = match &config.server {
        Address::Tcp(name) => {
            let addresses = report.step("name", look_up(name).await)?;
            report.step("connection", connect_tcp(&addresses).await)?
        }
        Address::Unix(path) => report.step("connection", connect_unix(path).await)?,
    };
    report.step("greeting", greeting(stream).await)?;
    let options = Options { author: config.author.clone(), ..Options::default() };
    let client = match Client::connect(config.server.clone(), options).await {
        Ok(client) => client,
        Err(error) => return report.step("welcome", Err(crate::unreachable_sentence(&error))),
    };
    let welcome = client.welcome();
    let [journal, author, zone] = [&welcome.journal, &welcome.author, &welcome.zone].map(|word| escape(word));
    let id = welcome.journal_id;
    let head = welcome.head;
    let what =
        format!("journal {journal} ({id:016x}), head {head}; you write as {author}; its zone is {zone}");
    report.step("welcome", Ok(((), what)));
    let newest = report.step("history", newest(&client, welcome.head).await);
    if let Some(Some(newest)) = newest {
        report.step("clocks", clocks(&newest, &Time::now(&TimeZone::system())));
    }
    // All is known: whether the server still says goodbye changes nothing.
    let _ = client.close().await;
    Some(())
}

impl Report {
    /// Says how a step went, and gives what the next ones need.
    fn step<T>(&mut self, name: &str, outcome: Result<(T, String), Wrong>) -> Option<T> {
        let (value, word, colour, what) = match outcome {
            Ok((value, what)) => (Some(value), "ok   ", "\x1b[32m", what),
            Err(what) => (None, "wrong", "\x1b[31m", what),
        };
        if value.is_none() && self.code == exit::DONE {
            self.code = exit::REFUSED;
        }
        let (colour, reset) = if self.colour { (colour, "\x1b[0m") } else { ("", "") };
        self.output.print(format!("{colour}{word}{reset}  {name:13}  {what}\n").as_bytes());
        self.output.flush();
        value
    }
}

/// It was read before this began; only where it is, is news.
fn configuration(config: &Config) -> Result<((), String), Wrong> {
    match (&config.wrong, &config.file) {
        (Some(why), _) => Err(why.clone()),
        (None, Some(path)) if path.exists() => Ok(((), format!("{} is read", path.display()))),
        (None, Some(path)) => Ok(((), format!("there is no {}, which is fine", path.display()))),
        (None, None) => Err("nobody knows where its file would be; set HOME or XDG_CONFIG_HOME".to_owned()),
    }
}

/// The folder for what could not be sent: whether it can be written, and how much waits there.
fn outbox(state: Option<&Path>) -> Result<((), String), Wrong> {
    let state = state.ok_or("nobody knows where it would be; set HOME or XDG_STATE_HOME")?;
    let folder = state.join("outbox");
    let shown = folder.display();
    let wrong = |error| {
        format!("{shown} cannot be written: {error}; make it yours (chown, chmod 700), or set XDG_STATE_HOME")
    };
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(wrong)?;
    let probe = folder.join(format!(".doctor-{}", std::process::id()));
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&probe);
    written.and_then(|_| fs::remove_file(&probe)).map_err(wrong)?;
    let listing = Outbox::new(Some(state)).list();
    if let Some(trouble) = listing.troubles.first() {
        return Err(format!("{trouble}; move that file elsewhere, and look into it"));
    }
    let what = match listing.entries.len() {
        0 => "nothing waits".to_owned(),
        waiting => {
            format!("{} to be sent, see diary outbox", count(waiting, "entry waits", "entries wait"))
        }
    };
    Ok(((), format!("{shown} can be written; {what}")))
}

async fn look_up(name: &str) -> Result<(Vec<SocketAddr>, String), Wrong> {
    let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
    let advice = "check its spelling and the network";
    let addresses: Vec<SocketAddr> = match timeout(STEP_LIMIT, lookup_host(name)).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Err(format!("{host} has no address: {error}; {advice}")),
        Err(_) => {
            return Err(format!(
                "the address of {host} was not found within {} s; {advice}",
                STEP_LIMIT.as_secs()
            ));
        }
    };
    let words: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    if words.is_empty() {
        return Err(format!("{host} has no address; {advice}"));
    }
    Ok((addresses, format!("{host} is {}", words.join(" and "))))
}

/// A connection of either kind.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}
type Stream = Box<dyn Socket>;

/// Tries one address after the other; the first that answers is the one.
async fn connect_tcp(addresses: &[SocketAddr]) -> Result<(Stream, String), Wrong> {
    let mut failures = Vec::new();
    for address in addresses {
        match reach(address, TcpStream::connect(address)).await {
            Ok((stream, what)) => {
                let first = failures.iter().map(|failure| format!("{failure}, but ")).collect::<String>();
                return Ok((stream, first + &what));
            }
            Err(why) => failures.push(why),
        }
    }
    let advice = "start a server there with diary-server, name another with --server, or look for a firewall";
    Err(format!("{}; {advice}", failures.join(", and ")))
}

async fn connect_unix(path: &Path) -> Result<(Stream, String), Wrong> {
    let shown = path.display();
    let advice = format!(
        "start a server there with diary-server --listen unix:{shown}, or ask its owner if it is not yours"
    );
    reach(&shown, UnixStream::connect(path)).await.map_err(|why| format!("{why}; {advice}"))
}

/// Waits for a connection.
async fn reach<S: Socket + 'static>(
    shown: impl fmt::Display,
    connecting: impl Future<Output = io::Result<S>>,
) -> Result<(Stream, String), Wrong> {
    let begin = Instant::now();
    match timeout(STEP_LIMIT, connecting).await {
        Ok(Ok(stream)) => {
            let millis = begin.elapsed().as_secs_f64() * 1e3;
            Ok((Box::new(stream), format!("{shown} answered after {millis:.1} ms")))
        }
        Ok(Err(error)) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                Err(format!("nothing listens on {shown}"))
            }
            _ => Err(format!("{shown} cannot be reached: {error}")),
        },
        Err(_) => Err(format!("{shown} gave no answer within {} s", STEP_LIMIT.as_secs())),
    }
}

/// Reads the greeting. What does not greet is asked what it is.
async fn greeting(mut stream: Stream) -> Result<((), String), Wrong> {
    let (line, greeted) = match first_line(&mut stream).await {
        Some(line) => (line, true),
        None => match stream.write_all(PROBE).await {
            Ok(()) => (first_line(&mut stream).await.unwrap_or_default(), false),
            Err(_) => (Vec::new(), false),
        },
    };
    let text = String::from_utf8_lossy(&line);
    let shown = escape(text.trim_end()).into_owned();
    if greeted && shown.starts_with("diary/1 ") {
        return Ok(((), shown));
    }
    if let Some(refusal) = shown.strip_prefix("error ").filter(|_| greeted) {
        return Err(format!("the server turns connections away: {refusal}"));
    }
    let what = match &line[..] {
        [] if greeted => "it closes the connection without a greeting".to_owned(),
        [] => format!("it says nothing within {} s", GREETING_LIMIT.as_secs()),
        _ => format!("{}, it says {:?}", kind_of(&line), shown.chars().take(SHOWN_CHARS).collect::<String>()),
    };
    Err(format!(
        "what listens there is no diary: {what}; check the port, the usual one of diary-server is 8888"
    ))
}

/// The first line, or as much of it as comes before the end; `None` if nothing comes in time.
async fn first_line(stream: &mut Stream) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let reading = async {
        let mut reader = stream.take(u64::try_from(LINE_MAX_BYTES).unwrap_or(u64::MAX));
        let mut byte = [0];
        while reader.read(&mut byte).await.is_ok_and(|count| count > 0) && byte[0] != b'\n' {
            line.push(byte[0]);
        }
    };
    let ended = timeout(GREETING_LIMIT, reading).await.is_ok();
    (ended || !line.is_empty()).then_some(line)
}

/// What answers like this.
fn kind_of(answer: &[u8]) -> &'static str {
    const KINDS: &[(&[u8], &str)] = &[
        (b"HTTP/", "it speaks HTTP"),
        (b"-ERR", "it speaks as Redis does"),
        (b"-NOAUTH", "it speaks as Redis does"),
        (b"-DENIED", "it speaks as Redis does"),
        (b"SSH-", "it speaks SSH"),
        (b"220", "it speaks as mail and FTP servers do"),
        // An alert: it was spoken to in the clear.
        (&[0x15, 0x03], "it speaks TLS"),
        (b"diary/", "it is a diary of another version"),
    ];
    let kind = KINDS.iter().find(|(beginning, _)| answer.starts_with(beginning));
    kind.map_or("it speaks something else", |(_, kind)| kind)
}

/// The newest entry, if there is one.
async fn newest(client: &Client, head: u64) -> Result<(Option<Stored>, String), Wrong> {
    let mut history = client.history(Which::Last(1));
    match timeout(STEP_LIMIT, history.next()).await {
        Ok(Some(Ok(Event::Entry(stored)))) => {
            let entry = &stored.entry;
            let here = entry.time.in_zone(&TimeZone::system()).minute();
            let what = format!("the newest entry is {}, by {}, {here} here", entry.seq, entry.author);
            Ok((Some(stored), what))
        }
        Ok(None) if head == 0 => Ok((None, "there is no entry yet".to_owned())),
        Ok(None | Some(Ok(_))) => {
            Err(format!("entry {head} is damaged or missing; run diary-server verify where the server is"))
        }
        Ok(Some(Err(error))) => Err(crate::unreachable_sentence(&error)),
        Err(_) => Err(format!("nothing came within {} s; look at the server's log", STEP_LIMIT.as_secs())),
    }
}

/// Whether the server's clock can be right, if this machine's is.
fn clocks(newest: &Stored, now: &Time) -> Result<((), String), Wrong> {
    let ahead = Duration::from_micros(u64::try_from(newest.entry.time.micros - now.micros).unwrap_or(0));
    if ahead > CLOCKS_APART_MAX {
        let seconds = ahead.as_secs();
        return Err(format!(
            "the newest entry is {seconds} s in the future; set the clock of this machine or of the server's"
        ));
    }
    Ok(((), "the newest entry is not in the future".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use diary_client::{Author, Entry};
    use insta::assert_snapshot;

    use crate::fake::Fake;

    /// What is said to a client by what writes `says` at once and `answers` whatever it hears.
    async fn meet(says: &'static [u8], answers: &'static [u8]) -> Result<((), String), Wrong> {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let peer = async move {
            theirs.write_all(says).await.unwrap();
            if says.is_empty() {
                let mut heard = [0; PROBE.len()];
                theirs.read_exact(&mut heard).await.unwrap();
                assert_eq!(heard, PROBE);
                theirs.write_all(answers).await.unwrap();
            }
        };
        tokio::join!(greeting(Box::new(ours)), peer).0
    }

    #[tokio::test(start_paused = true)]
    async fn what_greets() {
        let mut said = Vec::new();
        for (says, answers) in [
            (&b"diary/1 ready head=3\n"[..], &b""[..]),
            (b"error busy: too many\n", b""),
            (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            (b"", b"-ERR wrong number of arguments for 'get' command\r\n"),
            (b"", b"\x15\x03\x01\0\x02\x02\x46"),
            (b"", b""),
            (b"SSH-2.0-OpenSSH_9.6\r\n", b""),
            (b"220 mail\r\n", b""),
            (b"diary/2 ready\n", b""),
            (b"\x1b[2J\n", b""),
        ] {
            said.push(line("greeting", meet(says, answers).await));
        }
        assert_snapshot!("doctor_greeting", said.join("\n"));
    }

    fn line<T>(step: &str, outcome: Result<(T, String), Wrong>) -> String {
        let (word, what) = outcome.map_or_else(|why| ("wrong", why), |(_, what)| ("ok", what));
        assert!(!what.contains(['\n', '\x1b']), "{what:?}");
        format!("{word} {step}: {what}")
    }

    #[tokio::test]
    async fn what_is_found_out() {
        let home = tempfile::tempdir().unwrap();
        let shown = home.path().display().to_string();
        let config = |file: Option<&str>, wrong: Option<&str>| Config {
            file: file.map(|file| home.path().join(file)),
            wrong: wrong.map(str::to_owned),
            ..Config::read(None, &crate::args::Settings::default())
        };
        fs::write(home.path().join("a file"), "").unwrap();
        let mut said: Vec<_> =
            [(Some("a file"), None), (Some("none"), None), (None, None), (None, Some("why"))]
                .map(|(file, wrong)| line("configuration", configuration(&config(file, wrong))))
                .into();
        said.push(line("outbox", outbox(None)));
        said.push(line("outbox", outbox(Some(&home.path().join("a file")))));
        said.push(line("outbox", outbox(Some(home.path()))));
        let kept = Outbox::new(Some(home.path())).begin(&"127.0.0.1:1".parse().unwrap(), None);
        let mut kept = kept.unwrap();
        let now = Time::now(&TimeZone::UTC);
        kept.push(now, "a").kept.unwrap();
        said.push(line("outbox", outbox(Some(home.path()))));
        kept.push(now, "b").kept.unwrap();
        said.push(line("outbox", outbox(Some(home.path()))));
        fs::write(home.path().join("outbox/0-1.jsonl"), "{\"diary-outbox\":9}\n").unwrap();
        said.push(line("outbox", outbox(Some(home.path()))));

        said.push(line("name", look_up("127.0.0.1:8888").await));
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let nobody = socket.local_addr().unwrap();
        said.push(line("connection", connect_tcp(&[nobody, nobody]).await));
        said.push(line("connection", connect_unix(&home.path().join("none")).await));
        said.push(line("connection", connect_unix(&home.path().join("a file")).await));

        let fake = Fake::start().await;
        let client = fake.client("anna").await;
        said.push(line("history", newest(&client, 0).await));
        said.push(line("history", newest(&client, 7).await));
        let said = said.join("\n").replace(&shown, "HOME").replace(&nobody.to_string(), "ADDRESS");
        assert_snapshot!("doctor", said);
    }

    #[test]
    fn an_entry_from_the_future() {
        let author = Author::new("a").unwrap();
        let time = |micros| Time { micros, offset_minutes: 0 };
        let entry =
            Entry { seq: 1, time: time(3_600_000_000), own: None, day: None, author, text: "x".to_owned() };
        let newest = Stored { entry, key: None, crc: 0, left: String::new() };
        let hour =
            "the newest entry is 3600 s in the future; set the clock of this machine or of the server's";
        assert_eq!(clocks(&newest, &time(0)), Err(hour.to_owned()));
        for now in [3_540_000_000, 3_600_000_000, i64::MAX] {
            assert!(clocks(&newest, &time(now)).is_ok(), "{now}");
        }
    }
}
