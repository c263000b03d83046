//! `doctor`: checks the configuration, the outbox and the server, one line per check.

use std::borrow::Cow;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use diary_client::{At, Client, Code, Error, Event, Options, Refusal, Stored, Time, Trust, Welcome, Which};
use diary_outbox::{Listed, Outbox};
use diary_proto::escape::escape;
use jiff::tz::TimeZone;
use tokio::time::timeout;

use super::deliver::clocks_apart;
use crate::config::Config;
use crate::error::{CliError, exit, unreachable_sentence};
use crate::render::count;
use crate::term::output::Output;

/// How long to wait for an answer of the server.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Result of a check: a sentence, with advice if it is an error.
type Finding = Result<String, String>;

/// Prints findings and keeps the worst exit code.
struct Report {
    output: Output,
    colour: bool,
    code: u8,
}

/// Runs the command.
///
/// # Errors
/// Exit code 3 if the server cannot be reached, 4 if anything else is wrong.
pub(crate) async fn run(config: &Config) -> Result<(), CliError> {
    let mut report =
        Report { output: Output::new(io::stdout()), colour: config.colour.is_on(), code: exit::DONE };
    report.line("configuration", configuration(config));
    report.line("credentials", credentials(config));
    report.line("outbox", outbox(config.state.as_deref()));
    // Without the configuration file, the server is known only from a flag or the environment.
    if config.credentials_wrong.is_some() {
        report.line("server", Err("not checked: it may know you by a token".to_owned()));
    } else if config.wrong.is_none() || config.server_is_said {
        server(config, &mut report).await;
    } else {
        report.line("server", Err("not checked: the configuration could name another".to_owned()));
    }
    report.output.finish()?;
    CliError::told(report.code)
}

impl Report {
    fn line(&mut self, name: &str, finding: Finding) {
        let (word, colour, what) = match finding {
            Ok(what) => ("ok   ", "\x1b[32m", what),
            Err(what) => {
                self.code = self.code.max(exit::REFUSED);
                ("fail ", "\x1b[31m", what)
            }
        };
        let (colour, reset) = if self.colour { (colour, "\x1b[0m") } else { ("", "") };
        self.output.print(format!("{colour}{word}{reset}  {name:13}  {what}\n").as_bytes());
        self.output.flush();
    }
}

fn configuration(config: &Config) -> Finding {
    match (&config.wrong, &config.file) {
        (Some(why), _) => Err(why.clone()),
        (None, Some(path)) if path.exists() => Ok(format!("read {}", path.display())),
        (None, Some(path)) => Ok(format!("{} not found (optional)", path.display())),
        (None, None) => Err("no folder for the configuration; set HOME or XDG_CONFIG_HOME".to_owned()),
    }
}

fn credentials(config: &Config) -> Finding {
    match (&config.credentials_wrong, config.credentials.len()) {
        (Some(why), _) => Err(why.clone()),
        (None, 0) => Ok("none (diary login keeps some)".to_owned()),
        (None, number) => {
            Ok(format!("kept for {}, readable by you only", count(number, "address", "addresses")))
        }
    }
}

/// Checks whether entries can be kept, and which are waiting.
fn outbox(state: Option<&Path>) -> Finding {
    let state = state.ok_or("no folder for unsent entries; set HOME or XDG_STATE_HOME")?;
    let folder = state.join("outbox");
    let shown = folder.display();
    let wrong = |error| format!("cannot write {shown}: {error}; make it yours, or set XDG_STATE_HOME");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(wrong)?;
    let probe = folder.join(format!(".doctor-{}", std::process::id()));
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&probe);
    written.and_then(|_| fs::remove_file(&probe)).map_err(wrong)?;
    let listing = Outbox::new(folder.clone()).list();
    if let Some(trouble) = listing.troubles.first() {
        return Err(format!("{trouble}; move that file elsewhere"));
    }
    if let Some(path) = listing.aside.first() {
        return Err(format!("a text that was set aside is in {}; see diary outbox", path.display()));
    }
    waiting(&listing.entries)
}

/// A refused entry needs its author's decision.
fn waiting(entries: &[Listed]) -> Finding {
    let refused = entries.iter().filter(|listed| listed.kept.refusal.is_some()).count();
    let unsent = entries.len() - refused;
    let entries = |number| count(number, "entry", "entries");
    match (unsent, refused) {
        (0, 0) => Ok("empty".to_owned()),
        (_, 0) => Ok(format!("{} unsent; see diary outbox", entries(unsent))),
        _ => Err(format!("{} unsent, {} refused; see diary outbox", entries(unsent), entries(refused))),
    }
}

/// Runs the checks that need the server.
async fn server(config: &Config, report: &mut Report) {
    let access = config.access(&config.server);
    let options = Options { author: config.author().cloned(), access: access.clone(), ..Options::default() };
    let begin = Instant::now();
    let client = match Client::connect(config.server.clone(), options).await {
        Ok(client) => client,
        Err(error) => {
            report.line(step_of(&error), Err(unreachable_sentence(&error)));
            report.code = CliError::from(error).code();
            return;
        }
    };
    let millis = begin.elapsed().as_secs_f64() * 1e3;
    report.line("server", Ok(format!("{} answered within {millis:.1} ms", config.server)));
    if matches!(config.server.at, At::Tls(_)) {
        report.line(
            "tls",
            Ok(match access.trust {
                Trust::Pinned(fingerprint) => {
                    format!("the server has the key that login has kept, {fingerprint}")
                }
                Trust::System => "this system trusts the certificate of the server".to_owned(),
            }),
        );
    }
    if access.token.is_some() {
        let from = if config.token.is_some() { "from DIARY_TOKEN_FILE" } else { "that login has kept" };
        report.line("token", Ok(format!("the server accepts the one {from}")));
    }
    let welcome = client.welcome();
    let [journal, author, zone] = [&welcome.journal, &welcome.author, &welcome.zone].map(|word| escape(word));
    let (id, head) = (welcome.journal_id, welcome.head);
    let what = format!("{journal} ({id:016x}), newest entry {head}, time zone {zone}; you write as {author}");
    report.line("journal", Ok(what));
    report.line("history", history(&client, head).await);
    report.line("clocks", clocks(&welcome));
    report.line("writing", writing(&client).await);
    // All checks are done, so errors on closing do not matter.
    let _ = client.close().await;
}

/// Returns the check that an error of connecting belongs to.
fn step_of(error: &Error) -> &'static str {
    match error {
        Error::Tls { .. } | Error::ChangedKey { .. } | Error::Untrusted { .. } => "tls",
        Error::PlainToken(_) => "token",
        Error::TurnedAway(refusal) if matches!(refusal.code, Code::BadToken | Code::NotPermitted) => "token",
        _ => "server",
    }
}

/// Checks whether the newest entry can be read.
async fn history(client: &Client, head: u64) -> Finding {
    let mut history = client.history(Which::Last(1));
    Ok(match in_time(async { history.next().await.transpose() }).await? {
        Ok(Some(Event::Entry(Stored { entry, .. }))) => {
            let here = entry.time.in_zone(&TimeZone::system()).minute();
            format!("entry {} by {}, {here} local time", entry.seq, entry.author)
        }
        Ok(None) if head == 0 => "no entries yet".to_owned(),
        Ok(_) => {
            return Err(format!("entry {head} is damaged or missing; run diary-server verify on the server"));
        }
        Err(not_permitted) => format!("not for you: {not_permitted}"),
    })
}

/// Checks whether the server would accept an entry.
async fn writing(client: &Client) -> Finding {
    let checked = in_time(client.check()).await;
    Ok(match checked.map_err(|why| format!("the server does not accept entries: {why}"))? {
        Ok(()) => "the server accepts entries".to_owned(),
        Err(not_permitted) => format!("not for you: {not_permitted}"),
    })
}

/// Waits for an answer. That something is not permitted is one: a token need not have every right.
async fn in_time<T>(
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<Result<T, Cow<'static, str>>, String> {
    let answer = timeout(ANSWER_LIMIT, answer).await;
    let late = |_| format!("no answer within {} s; see the log of the server", ANSWER_LIMIT.as_secs());
    match answer.map_err(late)? {
        Ok(answer) => Ok(Ok(answer)),
        Err(Error::Refused(Refusal { code: Code::NotPermitted, message })) => Ok(Err(message)),
        Err(error) => Err(unreachable_sentence(&error)),
    }
}

fn clocks(welcome: &Welcome) -> Finding {
    match clocks_apart(welcome, Time::now(&TimeZone::system())) {
        Some((_, apart)) => Err(format!("{apart}; set one of them")),
        None => Ok("the clocks agree".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    use diary_outbox::fake::Fake;
    use diary_outbox::{Delivery, Keys};

    fn line(name: &str, finding: Finding) -> String {
        let (word, what) = finding.map_or_else(|why| ("fail", why), |what| ("ok", what));
        assert!(!what.contains(['\n', '\x1b']), "{what:?}");
        format!("{word} {name}: {what}")
    }

    #[tokio::test]
    async fn what_is_found_at_home() {
        let home = tempfile::tempdir().unwrap();
        let shown = home.path().display().to_string();
        let config = |file: Option<&str>, wrong: Option<&str>| Config {
            file: file.map(|file| home.path().join(file)),
            wrong: wrong.map(str::to_owned),
            ..Config::read(None, &crate::cli::Settings::default())
        };
        fs::write(home.path().join("a file"), "").unwrap();
        let mut said: Vec<_> =
            [(Some("a file"), None), (Some("none"), None), (None, None), (None, Some("why"))]
                .map(|(file, wrong)| line("configuration", configuration(&config(file, wrong))))
                .into();
        said.push(line("outbox", outbox(None)));
        said.push(line("outbox", outbox(Some(&home.path().join("a file")))));
        said.push(line("outbox", outbox(Some(home.path()))));
        let keys = Keys::Kept(Outbox::new(home.path().join("outbox")));
        let mut kept = Delivery::new("127.0.0.1:1".parse().unwrap(), None, keys).unwrap();
        kept.submit((), "a").unwrap();
        said.push(line("outbox", outbox(Some(home.path()))));
        let refused = Refusal::new(Code::TooLong, "x");
        let mut listed = Outbox::new(home.path().join("outbox")).list().entries;
        listed.extend(listed.clone());
        listed[1].kept.refusal = Some(refused);
        said.push(line("outbox", waiting(&listed)));
        fs::write(home.path().join("outbox/0-1.jsonl"), "{\"diary-outbox\":9}\n").unwrap();
        said.push(line("outbox", outbox(Some(home.path()))));
        assert_snapshot!("doctor", said.join("\n").replace(&shown, "HOME"));
    }

    #[tokio::test]
    async fn an_entry_that_is_missing() {
        let fake = Fake::start().await;
        let client = fake.client("anna").await;
        assert_eq!(history(&client, 0).await.as_deref(), Ok("no entries yet"));
        let why = history(&client, 7).await.unwrap_err();
        assert_eq!(why, "entry 7 is damaged or missing; run diary-server verify on the server");
    }
}
