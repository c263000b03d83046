//! `add`: writes one entry, which is kept in the outbox until it is acked.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use diary_client::{Address, DayStart, NewEntry, Reader, Time};
use diary_outbox::{Held, Keys, Outcome};
use diary_proto::entry::check_text;
use diary_proto::escape::escape;
use diary_proto::limits::TEXT_MAX_BYTES;
use diary_proto::line::without_byte_order_mark;
use jiff::tz::TimeZone;
use tokio::signal::unix::SignalKind;

use super::deliver::{
    CLOCKS_FAR_APART, Stopped, clocks_apart, drive, refused_sentence, tell_clocks, tell_earlier,
    tell_waiting, when_sent,
};
use crate::config::Config;
use crate::error::{CliError, advice};
use crate::term::input::no_login;
use crate::term::output::{print, say};
use crate::term::signals::Signals;
use crate::term::ui::Ui;
use diary_calendar::Calendar;

/// Limit on the bytes read from stdin: a text at its limit with a CR before each line feed, a byte order mark, a
/// line end, and one byte more to notice that it is too long.
const INPUT_MAX_BYTES: u64 = 2 * TEXT_MAX_BYTES as u64 + 6;

/// Sends the entry after those that were left for the same server, and prints its seq.
///
/// # Errors
/// The entry is not in the diary; the sentence says where its text is.
pub(crate) async fn run(
    words: &[String],
    at: Option<&str>,
    answers: Option<u64>,
    config: &Config,
) -> Result<(), CliError> {
    match understand(words, at, answers, config).await {
        Ok(entry) => add(entry, config).await,
        Err(why) => Err(CliError::Usage(format!("nothing was written: {why}"))),
    }
}

/// Returns the entry.
async fn understand(
    words: &[String],
    at: Option<&str>,
    answers: Option<u64>,
    config: &Config,
) -> Result<NewEntry, String> {
    let from_input = matches!(words, [word] if word == "-");
    if let Some(why) = config.unusable().filter(|_| from_input && io::stdin().is_terminal()) {
        // Fail before the user types anything.
        return Err(why.clone());
    }
    let at = match at {
        Some(said) => Some(time_at(said, config).await?),
        None => None,
    };
    let text = check(if from_input { read_text(io::stdin().lock())? } else { words.join(" ") })?;
    let entry = NewEntry { at, answers, ..text.into() };
    match config.unusable() {
        Some(why) => Err(set_aside(&entry, why, config)),
        None => Ok(entry),
    }
}

/// Parses a time by the diary's days, which start at midnight if its server is away. Prints the result.
///
/// # Errors
/// It is not a time, or this computer's clock is far off and the user does not confirm it.
async fn time_at(said: &str, config: &Config) -> Result<Time, String> {
    // A wrong time is reported without a server.
    let midnight = Calendar::here(DayStart::default());
    midnight.time(said).map_err(|error| error.to_string())?;
    let welcome = Reader::connect_at(config.server.clone(), config.access(&config.server), None)
        .await
        .ok()
        .map(|reader| reader.welcome());
    let calendar = welcome.as_ref().map_or(midnight, |welcome| Calendar::here(welcome.day_start));
    let at = calendar.time(said).map_err(|error| error.to_string())?;
    say(format_args!("about {}", calendar.in_words(at)));
    let apart = welcome.and_then(|welcome| clocks_apart(&welcome, Time::now(&TimeZone::system())));
    let apart = apart.filter(|(apart, _)| *apart > CLOCKS_FAR_APART && !Calendar::is_absolute(said));
    match apart {
        Some((_, apart)) if !agrees(&apart) => {
            Err(format!("{apart}; set it, or give --at with a zone, such as 2015-03-02T08:15:00+08:00"))
        }
        _ => Ok(at),
    }
}

/// Asks the user at a terminal whether to rely on this computer's clock.
fn agrees(apart: &str) -> bool {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return false;
    }
    say(format_args!("{apart}; write the entry all the same? [y/N]"));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).is_ok() && answer.trim().eq_ignore_ascii_case("y")
}

/// Rejects texts that cannot be entries, and blank ones.
pub(super) fn check(text: String) -> Result<String, String> {
    match check_text(&text).and_then(|()| no_login(&text)) {
        Ok(()) if text.trim().is_empty() => Err("the text is blank".to_owned()),
        Ok(()) => Ok(text),
        Err(refusal) => Err(refusal.message.into_owned()),
    }
}

/// Sets a text aside. Server and author are unknown, so a person has to send it. Returns a sentence with the reason
/// and the place of the text.
fn set_aside(entry: &NewEntry, why: &str, config: &Config) -> String {
    let NewEntry { text, at, answers, .. } = entry;
    match config.outbox().set_aside(text) {
        Ok(path) => {
            let (path, at) = (path.display(), at.unwrap_or_else(|| Time::now(&TimeZone::system())));
            let name = config.author.as_ref().map(|name| format!(" --name {name}"));
            let server = config.server_is_said.then(|| format!(" --server {}", config.server));
            let said = [name, server].into_iter().flatten().collect::<String>();
            let re = answers.map_or_else(String::new, |seq| format!(" --re {seq}"));
            format!(
                "{why}; the text is in {path}; write it with diary{said} add --at {at}{re} - < {path}, then remove it"
            )
        }
        Err(error) => format!("{why}; {error}, and the text is NOT kept: {}", escape(text)),
    }
}

/// Reads stdin as one text, without a byte order mark and the final line end. CR LF becomes LF.
pub(super) fn read_text(input: impl Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = input.take(INPUT_MAX_BYTES).read_to_end(&mut bytes);
    read.map_err(|error| format!("the input cannot be read: {error}"))?;
    if bytes.is_empty() {
        return Err("the input is empty".to_owned());
    }
    let text = match String::from_utf8_lossy(without_byte_order_mark(&bytes)) {
        // A text that is too long may be cut within a character.
        Cow::Owned(_) if (bytes.len() as u64) < INPUT_MAX_BYTES => {
            return Err("the input is not UTF-8; convert it, for example with iconv".to_owned());
        }
        text => text,
    };
    let mut text = text.replace("\r\n", "\n");
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

pub(super) async fn add(entry: NewEntry, config: &Config) -> Result<(), CliError> {
    let text = entry.text.clone();
    // Before anything is kept, so that no signal ends the program without saying where the text is. SIGHUP is left
    // alone, so it continues under nohup.
    let mut signals = Signals::of(&[SignalKind::interrupt(), SignalKind::terminate()]);
    let keys = Keys::Kept(config.outbox());
    let mut delivery = config.delivery(keys).map_err(|why| {
        let text = escape(&text);
        CliError::NotAcked(format!("{why}; nothing was written, and this is not kept: {text}"))
    })?;
    // First of all: from here on, the text outlives this process.
    if let Err(why) = delivery.submit((), entry) {
        say(format_args!("{why}; the entry is sent without being kept"));
    }
    let (server, ui) = (&config.server, Ui::default());
    let file = delivery.file();
    let (mut ended, mut unacked, mut served) = (Ok(()), None, None);
    let stopped = drive(&mut delivery, &mut signals, |outcome| match outcome {
        Outcome::Acked { ack, .. } => {
            let printed = print(match io::stdout().is_terminal() {
                true => format!("ok {} on {server}\n", ack.seq),
                false => format!("{}\n", ack.seq),
            });
            let stored = |why| CliError::Usage(format!("entry {} is on disk at {server}; {why}", ack.seq));
            ended = printed.map_err(stored);
        }
        Outcome::Refused { refusal, id, .. } => {
            ended = Err(CliError::Refused(match id {
                Some(id) => refused_sentence(&id, server, None, &refusal),
                None => {
                    let text = escape(&text);
                    format!("{server} refused the entry: {refusal}; the text is NOT kept: {text}")
                }
            }));
        }
        Outcome::Left { id, .. } => unacked = Some(id),
        Outcome::Arrived(welcome) => {
            served = Some((server.clone(), welcome.journal_id));
            tell_clocks(&welcome, &ui);
        }
        outcome => tell_earlier(&outcome, server, io::stderr().is_terminal(), &ui),
    })
    .await;
    drop(delivery);
    if unacked.is_none() || config.outbox().list().entries.len() > 1 {
        tell_waiting(config, served.as_slice(), true, &ui);
    }
    if let Some((id, stopped)) = unacked.zip(stopped) {
        let kept = file.as_deref().zip(id.as_deref());
        return Err(CliError::NotAcked(not_acked_sentence(&stopped, server, kept, &text)));
    }
    ended
}

/// Returns why the entry is not in the diary, where it is kept, and what to do next.
fn not_acked_sentence(
    stopped: &Stopped,
    server: &Address,
    kept: Option<(&Path, &str)>,
    text: &str,
) -> String {
    let why = match stopped {
        Stopped::Interrupted => "interrupted before the ack".to_owned(),
        Stopped::GaveUp(_) => stopped.to_string(),
    };
    let Some((path, id)) = kept else { return format!("{why}; the text is NOT kept: {}", escape(text)) };
    let path = path.display();
    let then = match stopped {
        Stopped::Interrupted => {
            format!("; diary outbox drop {id} cancels it, unless it is in the diary already")
        }
        Stopped::GaveUp(Held::Away(error) | Held::Ended(error)) => {
            advice(error).map_or_else(String::new, |advice| format!("; {advice}"))
        }
        Stopped::GaveUp(_) => String::new(),
    };
    format!("{why}: the text is kept in {path}, and sent {}{then}", when_sent(server))
}

#[cfg(test)]
mod tests {
    use diary_client::{Author, Code, Error, Refusal};
    use diary_outbox::fake::TIME;

    use super::*;

    #[test]
    fn one_line_end_is_no_part_of_the_text() {
        for (input, text) in [
            ("a", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            ("a\r", "a\r"),
            ("\n", ""),
            ("今天\n\n- 天气\n", "今天\n\n- 天气"),
            ("\u{feff}a\r\nb\r\n\r\n", "a\nb\n"),
            ("a\u{feff}\rb", "a\u{feff}\rb"),
        ] {
            assert_eq!(read_text(input.as_bytes()).as_deref(), Ok(text), "{input:?}");
        }
    }

    #[test]
    fn the_limit_and_one_over_it() {
        for (bytes, end, fits) in
            [(TEXT_MAX_BYTES, "\r\n", true), (TEXT_MAX_BYTES, "", true), (TEXT_MAX_BYTES + 1, "", false)]
        {
            let input = "x".repeat(bytes) + end;
            let text = read_text(input.as_bytes()).unwrap();
            assert_eq!(check_text(&text).is_ok(), fits, "{bytes} {end:?}");
        }
        // Far over the limit, cut within a character.
        let text = read_text("今".repeat(TEXT_MAX_BYTES).as_bytes()).unwrap();
        assert_eq!(check_text(&text).unwrap_err().code, Code::TooLong);
    }

    #[test]
    fn what_nobody_means_to_write() {
        assert_eq!(read_text(&b""[..]), Err("the input is empty".to_owned()));
        for blank in [" ", "\n", " \t\r\n\u{3000}"] {
            assert_eq!(check(blank.to_owned()), Err("the text is blank".to_owned()), "{blank:?}");
        }
        assert_eq!(check(" a ".to_owned()).as_deref(), Ok(" a "));
    }

    #[test]
    fn what_is_not_utf8_is_refused() {
        let error = read_text(&b"a\xff\n"[..]).unwrap_err();
        assert!(error.contains("not UTF-8"), "{error}");
    }

    #[test]
    fn what_is_said_of_a_text_that_is_not_stored() {
        let address: Address = "diary.example:8888".parse().unwrap();
        let limit = std::time::Duration::from_secs(5);
        let file = (Path::new("OUTBOX/FILE"), "1a2b.1");
        let mut said = Vec::new();
        for stopped in [
            Stopped::Interrupted,
            Stopped::GaveUp(Held::Away(Error::NothingListens(address.clone()))),
            Stopped::GaveUp(Held::Away(Error::NoWelcome { address: address.clone(), limit })),
            Stopped::GaveUp(Held::Silent(address.clone())),
            Stopped::GaveUp(Held::Full(Refusal::new(Code::DiskFull, "the disk is full"))),
        ] {
            said.extend([Some(file), None].map(|kept| not_acked_sentence(&stopped, &address, kept, "a\nb")));
        }
        let home = tempfile::tempdir().unwrap();
        let config = |state: Option<&Path>| Config {
            state: state.map(Path::to_owned),
            author: Some(Author::new("anna").unwrap()),
            ..Config::read(None, &crate::cli::Settings::default())
        };
        let entry = NewEntry { at: Some(TIME), answers: Some(57), .."a\nb".into() };
        let aside = set_aside(&entry, "WHY", &config(Some(home.path())));
        let file = std::fs::read_dir(home.path().join("outbox")).unwrap().next().unwrap().unwrap().path();
        said.push(aside.replace(&file.display().to_string(), "FILE"));
        std::fs::write(home.path().join("a file"), "").unwrap();
        said.push(set_aside(&entry, "WHY", &config(Some(&home.path().join("a file")))));
        said.push(set_aside(&entry, "WHY", &config(None)));
        let said = said.join("\n").replace(&home.path().display().to_string(), "HOME");
        insta::assert_snapshot!("add", said);
    }
}
