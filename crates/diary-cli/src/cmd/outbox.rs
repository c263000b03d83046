//! `outbox`: lists, sends or drops entries that could not be sent yet.

use diary_client::{Author, Reader};
use diary_outbox::{Delivery, Held, KeptEntry, Keys, Listed, Listing, Outbox, Outcome};
use diary_proto::escape::escape;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tokio::signal::unix::SignalKind;

use super::deliver::{
    Stopped, drive, minute, refusal_and_choices, refused_sentence, tell_earlier, tell_waiting, when_sent,
};
use crate::cli::OutboxAction;
use crate::config::Config;
use crate::error::{CliError, advice, exit};
use crate::render::count;
use crate::render::push_json;
use crate::term::output::{print, say};
use crate::term::signals::Signals;
use crate::term::ui::Ui;

/// Runs the command; lists without an action.
///
/// # Errors
/// Nothing was found, or not everything was done.
pub(crate) async fn run(action: Option<OutboxAction>, json: bool, config: &Config) -> Result<(), CliError> {
    let outbox = config.outbox();
    match action.unwrap_or(OutboxAction::List { json }) {
        OutboxAction::List { json } => list(&outbox, json),
        OutboxAction::Send => send(config).await,
        OutboxAction::SendAsNew { id } => send_as_new(&id, config).await,
        OutboxAction::Drop { id } => {
            // No other copy is kept.
            let KeptEntry { time, text, .. } = outbox.drop_entry(&id)?;
            Ok(print(format!("dropped {id} of {}: {}\n", minute(time), escape(&text)))?)
        }
    }
}

/// Prints the kept entries.
fn list(outbox: &Outbox, json: bool) -> Result<(), CliError> {
    let Listing { entries, aside, troubles, .. } = outbox.list();
    let mut lines = Vec::new();
    for entry in &entries {
        if json {
            push_json(&object(entry), &mut lines);
        } else {
            lines.extend_from_slice(listed(entry).as_bytes());
        }
    }
    print(lines)?;
    for path in &aside {
        let path = path.display();
        say(format_args!(
            "a text that was set aside is in {path}; write it with diary add - < {path}, then remove it"
        ));
    }
    troubles.iter().for_each(|trouble| say(format_args!("{trouble}")));
    match (troubles.is_empty(), entries.is_empty() && aside.is_empty()) {
        (false, _) => Err(CliError::Told(exit::DAMAGE)),
        (true, true) if json => Err(CliError::Told(exit::NOTHING_FOUND)),
        (true, true) => Err(CliError::NothingFound("the outbox is empty".to_owned())),
        (true, false) => Ok(()),
    }
}

/// Formats an entry.
fn listed(entry: &Listed) -> String {
    let Listed { id, server, kept, held, .. } = entry;
    let answers = kept.answers.map(|seq| format!("↳ {seq} "));
    let corrects = kept.corrects.map(|seq| format!("(corrects {seq}) "));
    let mark = answers.or(corrects).unwrap_or_default();
    let mut lines = format!("{id} {server} {} {mark}{}\n", minute(kept.time), escape(&kept.text));
    if *held {
        lines.push_str("    held by a running diary process\n");
    }
    if let Some(refusal) = &kept.refusal {
        lines.push_str(&format!("    {}\n", refusal_and_choices(id, refusal)));
    }
    lines
}

/// Formats an entry for programs; unknown fields are left out.
fn object(entry: &Listed) -> Value {
    let Listed { id, server, author, kept, held } = entry;
    let refused =
        kept.refusal.as_ref().map(|why| json!({ "code": why.code.as_str(), "message": why.message }));
    let mut object = json!({
        "id": id,
        "server": server.to_string(),
        "time": kept.time.in_zone(&TimeZone::system()).to_string(),
        "re": kept.answers,
        "corrects": kept.corrects,
        "text": kept.text,
        "held": held,
        "author": author.as_ref().map(Author::as_str),
        "journal": kept.journal.map(|id| format!("{id:016x}")),
        "refused": refused,
    });
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    object
}

/// Sends all entries that no running program holds. First those for the journal of the configured server, whatever
/// its address was when they were written; then, unless a server is named, the rest to their own servers.
async fn send(config: &Config) -> Result<(), CliError> {
    let outbox = config.outbox();
    let mut servers = vec![config.server.clone()];
    if config.named_server.is_none() {
        let waiting = outbox.list().entries.into_iter();
        for Listed { server, .. } in waiting.filter(|left| !left.held && left.kept.refusal.is_none()) {
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
    }
    let (mut signals, mut known, mut is_away) = (signals(), Vec::new(), false);
    for server in servers {
        let mut delivery = Delivery::<()>::new(server.clone(), None, Keys::Kept(outbox.clone()))?
            .with_access(config.access(&server));
        let connected = tokio::select! {
            biased;
            () = signals.any() => {
                is_away = true;
                break;
            }
            connected = Reader::connect_at(server.clone(), config.access(&server), None) => connected,
        };
        match connected {
            Ok(reader) => {
                delivery.serve(reader.welcome().journal_id);
                known.push((server.clone(), reader.welcome().journal_id));
            }
            Err(error) if config.named_server.is_some() && delivery.unanswered() == 0 => {
                tell_waiting(config, &known, true, &Ui::default());
                return Err(error.into());
            }
            // The delivery reports the error, if it has anything to send there.
            Err(_) => {}
        }
        let mut printed = Ok(());
        let stopped = drive(&mut delivery, &mut signals, |outcome| match outcome {
            Outcome::CaughtUp { entries } => {
                printed =
                    print(format!("{} on disk at {server}\n", count(entries, "entry is", "entries are")));
            }
            outcome => tell_earlier(&outcome, &server, false, &Ui::default()),
        })
        .await;
        printed?;
        if let Some(stopped) = stopped {
            is_away = true;
            let advice = match &stopped {
                Stopped::GaveUp(Held::Ended(error)) => advice(error),
                _ => None,
            };
            let advice = advice.map_or_else(String::new, |advice| format!("; {advice}"));
            say(format_args!("{stopped}{advice}"));
            if matches!(stopped, Stopped::Interrupted) {
                break;
            }
        }
    }
    let code = tell_waiting(config, &known, true, &Ui::default());
    CliError::told(if is_away { exit::NOT_ACKED } else { code })
}

fn signals() -> Signals {
    Signals::of(&[SignalKind::interrupt(), SignalKind::terminate()])
}

/// Sends an entry under a fresh key.
async fn send_as_new(id: &str, config: &Config) -> Result<(), CliError> {
    let (outbox, author) = (config.outbox(), config.author.clone());
    let delivery = Delivery::as_new(outbox, id, config.named_server.clone(), author, ())?;
    let server = delivery.address().clone();
    let mut delivery = delivery.with_access(config.access(&server));
    let (mut ended, mut unacked) = (Ok(()), None);
    let stopped = drive(&mut delivery, &mut signals(), |outcome| match outcome {
        Outcome::Acked { ack, .. } => ended = print(format!("{}\n", ack.seq)).map_err(CliError::from),
        Outcome::Refused { refusal, id, .. } => {
            let id = id.unwrap_or_default();
            ended = Err(CliError::Refused(refused_sentence(&id, &server, None, &refusal)));
        }
        Outcome::Left { id, .. } => unacked = id,
        outcome => tell_earlier(&outcome, &server, false, &Ui::default()),
    })
    .await;
    match unacked.zip(stopped) {
        Some((id, stopped)) => {
            Err(CliError::NotAcked(format!("{stopped}: kept as {id}, and sent {}", when_sent(&server))))
        }
        None => ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use diary_client::{Code, Refusal, Time};
    use insta::assert_snapshot;

    /// Returns a listed entry, optionally a refused one.
    fn entry(refusal: Option<Refusal>) -> Listed {
        let time = Time { micros: 1_795_220_102_123_456, offset_minutes: 480 };
        let text = "今天\n\u{1b}[2J".to_owned();
        Listed {
            id: "2e2d.1".to_owned(),
            server: "diary.example:8888".parse().unwrap(),
            author: Some(Author::new("anna").unwrap()),
            kept: KeptEntry {
                counter: 1,
                time,
                at: None,
                answers: None,
                corrects: None,
                text,
                refusal,
                journal: Some(7),
                sent: true,
            },
            held: false,
        }
    }

    fn refusal(code: Code) -> Refusal {
        Refusal::new(code, "why it is so")
    }

    #[test]
    fn what_is_said_of_an_entry() {
        let here = minute(entry(None).kept.time);
        let held = Listed { held: true, ..entry(None) };
        let mut said: Vec<_> =
            [entry(None), held, entry(Some(refusal(Code::StaleKey)))].iter().map(listed).collect();
        for code in [Code::StaleKey, Code::Conflict] {
            let Listed { server, kept, .. } = entry(None);
            said.push(refused_sentence("2e2d.1", &server, Some(&kept), &refusal(code)) + "\n");
        }
        assert_snapshot!("outbox", said.concat().replace(&here, "TIME"));
    }

    #[test]
    fn what_programs_read() {
        let mut lines = Vec::new();
        let plain = Listed { author: None, ..entry(None) };
        let plain = Listed { kept: KeptEntry { journal: None, ..plain.kept }, ..plain };
        for entry in [plain, entry(Some(refusal(Code::StaleKey)))] {
            push_json(&object(&entry), &mut lines);
        }
        let here = entry(None).kept.time.in_zone(&TimeZone::system()).to_string();
        assert_snapshot!("outbox_json", String::from_utf8(lines).unwrap().replace(&here, "TIME"));
    }
}
