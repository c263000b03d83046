//! `outbox`: lists what could not be sent yet, sends it, or throws it away.

use diary_client::{Address, Refusal};
use diary_outbox::{Delivery, Error, Keys, Listed, Outbox, Outcome};
use diary_proto::escape::escape;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tokio::signal::unix::SignalKind;

use super::count;
use super::deliver::{choices, drive, elsewhere_sentence, minute, refused_sentence, tell_earlier};
use crate::cli::OutboxAction;
use crate::config::Config;
use crate::error::exit;
use crate::render::push_json;
use crate::term::output::{self, say};
use crate::term::signals::Signals;
use crate::term::ui::Ui;

/// Does it, and gives the exit code. Without an action it lists.
pub(crate) async fn run(action: Option<OutboxAction>, json: bool, config: &Config) -> u8 {
    let outbox = config.outbox();
    let done = match action.unwrap_or(OutboxAction::List { json }) {
        OutboxAction::List { json } => Ok(list(&outbox, json)),
        OutboxAction::Send => send(&outbox, config.named_server.as_ref()).await,
        OutboxAction::SendAsNew { id } => send_as_new(outbox, &id).await,
        OutboxAction::Drop { id } => drop_one(&outbox, &id),
    };
    done.unwrap_or_else(|why| {
        say(format_args!("{why}"));
        exit::USAGE
    })
}

/// On stdout what is kept; that nothing is, only a person wants to read.
fn list(outbox: &Outbox, json: bool) -> u8 {
    let listing = outbox.list();
    let mut lines = Vec::new();
    for entry in &listing.entries {
        if json {
            push_json(&object(entry), &mut lines);
        } else {
            lines.extend_from_slice(listed(entry).as_bytes());
        }
    }
    let printed = print(&lines);
    listing.troubles.iter().for_each(|trouble| say(format_args!("{trouble}")));
    if !printed {
        return exit::USAGE;
    }
    match (listing.troubles.is_empty(), listing.entries.is_empty()) {
        (false, _) => exit::DAMAGE,
        (true, true) => {
            if !json {
                say(format_args!("nothing waits in the outbox"));
            }
            exit::NOTHING_FOUND
        }
        (true, false) => exit::DONE,
    }
}

/// The lines of an entry.
fn listed(entry: &Listed) -> String {
    let Listed { id, server, kept, held, .. } = entry;
    let mut lines = format!("{id} {server} {} {}\n", minute(kept.time), escape(&kept.text));
    if *held {
        lines.push_str("    a program that is running has it\n");
    }
    if let Some(refusal) = &kept.refusal {
        lines.push_str(&format!("    {}; {}\n", escape(&refusal.to_string()), choices(id)));
    }
    lines
}

/// An entry for programs; what is not known is left out.
fn object(entry: &Listed) -> Value {
    let Listed { id, server, author, kept, held } = entry;
    let mut object = json!({
        "id": id,
        "server": server.to_string(),
        "time": kept.time.in_zone(&TimeZone::system()).to_string(),
        "text": kept.text,
        "held": held,
    });
    if let Some(author) = author {
        object["author"] = author.as_str().into();
    }
    if let Some(journal) = kept.journal {
        object["journal"] = format!("{journal:016x}").into();
    }
    if let Some(Refusal { code, message, .. }) = &kept.refusal {
        object["refused"] = json!({ "code": code.as_str(), "message": message });
    }
    object
}

/// Whether the output could be written.
fn print(bytes: &[u8]) -> bool {
    output::print(bytes).inspect_err(|why| say(format_args!("{why}"))).is_ok()
}

/// Sends what nobody holds, to one server or to all, and gives the exit code.
async fn send(outbox: &Outbox, server: Option<&Address>) -> Result<u8, Error> {
    let listing = outbox.list();
    let mut servers: Vec<&Address> = Vec::new();
    let (mut refused, mut is_away) = (0, false);
    for Listed { id, server: to, kept, held, .. } in &listing.entries {
        if *held || server.is_some_and(|server| server != to) {
            continue;
        }
        match &kept.refusal {
            Some(refusal) => {
                refused += 1;
                say(format_args!("{}", refused_sentence(id, to, Some(kept), refusal)));
            }
            None if !servers.contains(&to) => servers.push(to),
            None => {}
        }
    }
    let (mut signals, mut served) = (signals(), Vec::new());
    for server in servers {
        let mut delivery = Delivery::<()>::new(server.clone(), None, Keys::Kept(outbox.clone()))?;
        let stopped = drive(&mut delivery, &mut signals, |outcome| match outcome {
            Outcome::CaughtUp { entries } => {
                print(
                    format!("{} on disk at {server}\n", count(entries, "entry is", "entries are")).as_bytes(),
                );
            }
            outcome => {
                refused += usize::from(matches!(outcome, Outcome::LeftRefused { .. }));
                tell_earlier(&outcome, server, false, &Ui::default());
            }
        })
        .await;
        if stopped.is_none() {
            served.push(server);
        }
        if let Some(stopped) = stopped {
            is_away = true;
            let kept = count(delivery.unanswered(), "entry is", "entries are");
            say(format_args!("{}: {kept} kept for {server}", stopped.sentence()));
        }
    }
    listing.troubles.iter().for_each(|trouble| say(format_args!("{trouble}")));
    let mut elsewhere = 0;
    for server in served {
        let left = outbox.list().entries.into_iter();
        let left =
            left.filter(|listed| !listed.held && listed.kept.refusal.is_none() && listed.server == *server);
        let left = left.count();
        if left > 0 {
            elsewhere += left;
            say(format_args!("{}", elsewhere_sentence(left, server)));
        }
    }
    Ok(match (is_away, refused + elsewhere, listing.troubles.is_empty()) {
        (true, ..) => exit::NOT_ACKED,
        (false, 1.., _) => exit::REFUSED,
        (false, 0, false) => exit::DAMAGE,
        (false, 0, true) => exit::DONE,
    })
}

fn signals() -> Signals {
    Signals::of(&[SignalKind::interrupt(), SignalKind::terminate()])
}

/// Sends one under a fresh key, and gives the exit code.
async fn send_as_new(outbox: Outbox, id: &str) -> Result<u8, Error> {
    let mut delivery = Delivery::as_new(outbox, id, ())?;
    let server = delivery.address().clone();
    let mut code = exit::NOT_ACKED;
    let stopped = drive(&mut delivery, &mut signals(), |outcome| match outcome {
        Outcome::Acked { ack, .. } => {
            code = if print(format!("{}\n", ack.seq).as_bytes()) { exit::DONE } else { exit::USAGE };
        }
        Outcome::Refused { refusal, id, .. } => {
            code = exit::REFUSED;
            let id = id.unwrap_or_default();
            say(format_args!("{}", refused_sentence(&id, &server, None, &refusal)));
        }
        outcome => tell_earlier(&outcome, &server, false, &Ui::default()),
    })
    .await;
    if let Some(stopped) = stopped.filter(|_| code == exit::NOT_ACKED) {
        say(format_args!(
            "{}: kept, and sent with the next entry or by diary outbox send",
            stopped.sentence()
        ));
    }
    Ok(code)
}

/// Throws one away, and says what it was: nobody else has it any more.
fn drop_one(outbox: &Outbox, id: &str) -> Result<u8, Error> {
    let kept = outbox.drop_entry(id)?;
    let done = print(format!("dropped {id} of {}: {}\n", minute(kept.time), escape(&kept.text)).as_bytes());
    Ok(if done { exit::DONE } else { exit::USAGE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use diary_client::{Author, Code, Time};
    use diary_outbox::KeptEntry;
    use insta::assert_snapshot;

    /// An entry as it is listed, refused for `why`.
    fn entry(refusal: Option<Refusal>) -> Listed {
        let time = Time { micros: 1_795_220_102_123_456, offset_minutes: 480 };
        let text = "今天\n\u{1b}[2J".to_owned();
        Listed {
            id: "2e2d.1".to_owned(),
            server: "diary.example:8888".parse().unwrap(),
            author: Some(Author::new("anna").unwrap()),
            kept: KeptEntry { counter: 1, time, at: None, text, refusal, journal: Some(7), sent: true },
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
