//! `add`: writes one entry, which is kept in the outbox until it is acked.

use std::io::{self, IsTerminal, Read};
use std::path::Path;

use diary_client::{Ack, Address, DayStart, Error, Refusal, Time};
use diary_proto::entry::check_text;
use diary_proto::escape::escape;
use diary_proto::limits::TEXT_MAX_BYTES;
use diary_proto::line::without_byte_order_mark;
use jiff::tz::TimeZone;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::outbox::tell_refused;
use crate::config::Config;
use crate::deliver::{Delivery, deliver, deliver_left, note_unsent};
use crate::error::doctor_advice;
use crate::error::exit;
use crate::outbox::{Outbox, Pushed, Tray};
use crate::term::output::{Output, say};
use crate::term::ui::Ui;
use crate::time::calendar::Calendar;

/// Most bytes that are read of the input: a text at its limit of which each line feed has a CR before it, a byte order mark,
/// a line end, and one to see that it is too long.
const INPUT_MAX_BYTES: u64 = 2 * TEXT_MAX_BYTES as u64 + 6;

/// Writes the entry, after those that were left for the same server, and prints its seq.
pub(crate) async fn run(words: &[String], at: Option<&str>, config: &Config) -> u8 {
    let from_input = matches!(words, [word] if word == "-");
    if let Some(why) = config.wrong.as_ref().filter(|_| from_input && io::stdin().is_terminal()) {
        // Before anything is typed in vain.
        say(format_args!("nothing was written: {why}"));
        return exit::USAGE;
    }
    // Only the server knows when its days start.
    let calendar = Calendar::here(DayStart::default());
    let at = match at.map(|said| calendar.time(said)).transpose() {
        Ok(at) => at,
        Err(why) => {
            say(format_args!("nothing was written: {why}"));
            return exit::USAGE;
        }
    };
    if let Some(at) = at {
        say(format_args!("about {}", calendar.in_words(at)));
    }
    let text = if from_input { read_text(io::stdin().lock()) } else { Ok(words.join(" ")) };
    let why = match (text.and_then(check), &config.wrong) {
        (Ok(text), None) => return add(text, at, config).await,
        (Ok(text), Some(why)) => set_aside(&text, why, config),
        (Err(why), _) => why,
    };
    say(format_args!("nothing was written: {why}"));
    exit::USAGE
}

/// What an entry cannot be, and what nobody means to write.
fn check(text: String) -> Result<String, String> {
    match check_text(&text) {
        Ok(()) if text.trim().is_empty() => Err("the text is blank".to_owned()),
        Ok(()) => Ok(text),
        Err(refusal) => Err(refusal.message.into_owned()),
    }
}

/// Nobody knows whose it is and where it goes, so it goes nowhere before a person has looked. The sentence is why,
/// and where the text is.
fn set_aside(text: &str, why: &str, config: &Config) -> String {
    match Outbox::new(config.state.as_deref()).set_aside(text) {
        Ok(path) => {
            let path = path.display();
            format!("{why}; the text is in {path}, and diary add - < {path} then writes it")
        }
        Err(error) => format!("{why}; {error}, and the text is NOT kept: {}", escape(text)),
    }
}

/// All of the input as one text, without the line end behind it and a byte order mark before it. Its lines end with LF,
/// wherever it was written.
fn read_text(input: impl Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = input.take(INPUT_MAX_BYTES).read_to_end(&mut bytes);
    read.map_err(|error| format!("the input cannot be read: {error}"))?;
    if bytes.is_empty() {
        return Err("the input is empty".to_owned());
    }
    // Where its end was not read, it may seem to end within a character.
    let whole = (bytes.len() as u64) < INPUT_MAX_BYTES;
    let text = match std::str::from_utf8(without_byte_order_mark(&bytes)) {
        Ok(text) => text,
        Err(error) if !whole && error.error_len().is_none() => {
            std::str::from_utf8(&without_byte_order_mark(&bytes)[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return Err("the input is not UTF-8; convert it, for instance with iconv".to_owned()),
    };
    let mut text = text.replace("\r\n", "\n");
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

async fn add(text: String, at: Option<Time>, config: &Config) -> u8 {
    let outbox = Outbox::new(config.state.as_deref());
    // Before anything is kept, so that nothing ends this without a word of where it is.
    let mut signals = signals().ok();
    let mut tray = match outbox.begin(&config.server, config.author.as_ref()) {
        Ok(tray) => tray,
        Err(why) => {
            say(format_args!("{why}; nothing was written, and this is not kept: {}", escape(&text)));
            return exit::NOT_ACKED;
        }
    };
    // Before anything else takes time: from here on, the text outlives this process.
    let pushed = tray.push_about(at, Time::now(&TimeZone::system()), &text);
    if let Err(why) = &pushed.kept {
        say(format_args!("{why}; the entry is sent without being kept"));
    }
    let delivery = tokio::select! {
        biased;
        delivery = deliver_all(&outbox, &mut tray, config) => Some(delivery),
        () = asked_to_end(signals.as_mut()) => None,
    };
    let outcome = Outcome { config, text: &text, pushed: &pushed };
    let Some(delivery) = delivery else { return outcome.interrupted(&outbox, &tray) };
    match (delivery.acked.first(), delivery.refused.first(), delivery.end) {
        (Some((_, ack)), _, _) => outcome.stored(ack),
        (None, Some((_, refusal)), _) => outcome.refused(&outbox, &tray, refusal),
        (None, None, end) => outcome.not_acked(&tray, &end.unwrap_or(Error::Closed)),
    }
}

/// Sends what was left for the same server, then the entry.
///
/// Not cancellation safe, as [`deliver`] is.
async fn deliver_all(outbox: &Outbox, tray: &mut Tray, config: &Config) -> Delivery {
    match deliver_left(outbox, &config.server, io::stderr().is_terminal(), &Ui::default()).await {
        Ok(()) => deliver(tray).await,
        Err(error) => {
            note_unsent(tray);
            Delivery { end: Some(error), ..Delivery::default() }
        }
    }
}

/// SIGINT and SIGTERM. Not the end of the terminal: under nohup, it is to go on.
fn signals() -> io::Result<[Signal; 2]> {
    Ok([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?])
}

/// Waits for one of them.
///
/// Cancellation safe.
async fn asked_to_end(signals: Option<&mut [Signal; 2]>) {
    let Some([interrupt, terminate]) = signals else { return std::future::pending().await };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// What became of the entry, to be told.
struct Outcome<'a> {
    config: &'a Config,
    text: &'a str,
    pushed: &'a Pushed,
}

impl Outcome<'_> {
    fn stored(&self, ack: &Ack) -> u8 {
        let mut output = Output::new(io::stdout());
        output.print(format!("{}\n", ack.seq).as_bytes());
        output.flush();
        if io::stderr().is_terminal() {
            say(format_args!("entry {} is on disk at {}", ack.seq, self.config.server));
        }
        exit::DONE
    }

    /// The text stays for its person's choice, whatever it was refused for.
    fn refused(&self, outbox: &Outbox, tray: &Tray, refusal: &Refusal) -> u8 {
        if self.pushed.kept.is_ok() {
            tell_refused(&Ui::default(), outbox, tray, [(self.pushed.counter, refusal)]);
        } else {
            let (server, text) = (&self.config.server, escape(self.text));
            say(format_args!("{server} refused the entry: {refusal}; the text is NOT kept: {text}"));
        }
        exit::REFUSED
    }

    /// Whoever ends it learns that the next run goes on with it, which may not be what they meant.
    fn interrupted(&self, outbox: &Outbox, tray: &Tray) -> u8 {
        let kept = tray.path().filter(|_| self.pushed.kept.is_ok());
        let kept = kept.map(|path| (path, outbox.id(tray, self.pushed.counter)));
        let kept = kept.as_ref().map(|(path, id)| (path.as_path(), id.as_str()));
        say(format_args!("{}", interrupted_sentence(kept, &self.config.server, self.text)));
        exit::NOT_ACKED
    }

    fn not_acked(&self, tray: &Tray, error: &Error) -> u8 {
        let kept_in = tray.path().filter(|_| self.pushed.kept.is_ok());
        say(format_args!(
            "{}",
            not_acked_sentence(error, kept_in.as_deref(), &self.config.server, self.text)
        ));
        exit::NOT_ACKED
    }
}

/// Why it is not in the diary, where it is instead, and what comes next.
fn not_acked_sentence(error: &Error, kept_in: Option<&Path>, server: &Address, text: &str) -> String {
    let advice = doctor_advice(error).map(|advice| format!("; {advice}")).unwrap_or_default();
    match kept_in.map(Path::display) {
        Some(path) => {
            format!("{error}: the text is kept in {path}, and the next run for {server} sends it{advice}")
        }
        None => format!("{error}{advice}; the text is NOT kept: {}", escape(text)),
    }
}

/// It was sent or was not; nobody waited for the answer. `kept` is where, and under which id.
fn interrupted_sentence(kept: Option<(&Path, &str)>, server: &Address, text: &str) -> String {
    match kept {
        Some((path, id)) => format!(
            "interrupted before the ack: the text is kept in {}, and the next run for {server} sends it; \
             diary outbox drop {id} takes it back, if it is not in the diary yet",
            path.display()
        ),
        None => format!("interrupted before the ack; the text is NOT kept: {}", escape(text)),
    }
}

#[cfg(test)]
mod tests {
    use diary_client::Code;

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
        // Far over it, in the middle of a character.
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
        let file = Path::new("OUTBOX/FILE");
        let mut said = Vec::new();
        for error in [
            Error::NothingListens(address.clone()),
            Error::NoWelcome { address: address.clone(), limit },
            Error::Refused(Refusal::new(Code::DiskFull, "the disk is full")),
        ] {
            said.extend([Some(file), None].map(|kept| not_acked_sentence(&error, kept, &address, "a\nb")));
        }
        said.extend([Some((file, "1a2b.1")), None].map(|kept| interrupted_sentence(kept, &address, "a\nb")));
        let home = tempfile::tempdir().unwrap();
        let config = |state: Option<&Path>| Config {
            state: state.map(Path::to_owned),
            ..Config::read(None, &crate::cli::Settings::default())
        };
        let aside = set_aside("a\nb", "WHY", &config(Some(home.path())));
        let file = std::fs::read_dir(home.path().join("outbox")).unwrap().next().unwrap().unwrap().path();
        said.push(aside.replace(&file.display().to_string(), "FILE"));
        std::fs::write(home.path().join("a file"), "").unwrap();
        said.push(set_aside("a\nb", "WHY", &config(Some(&home.path().join("a file")))));
        said.push(set_aside("a\nb", "WHY", &config(None)));
        let said = said.join("\n").replace(&home.path().display().to_string(), "HOME");
        insta::assert_snapshot!("add", said);
    }
}
