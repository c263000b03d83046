//! `outbox`: lists what could not be sent yet, sends it, or throws it away.

use std::io;

use diary_client::{Address, Code, Error, Refusal, Time};
use diary_proto::escape::escape;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::cli::OutboxAction;
use crate::config::Config;
use crate::deliver::{Delivery, deliver};
use crate::error::exit;
use crate::outbox::{Listed, Outbox, Tray};
use crate::render::push_json;
use crate::term::output::{Output, count, say};
use crate::term::ui::Ui;

/// Does it, and gives the exit code. Without an action it lists.
pub(crate) async fn run(action: Option<OutboxAction>, json: bool, config: &Config) -> u8 {
    let outbox = Outbox::new(config.state.as_deref());
    let done = match action.unwrap_or(OutboxAction::List { json }) {
        OutboxAction::List { json } => Ok(list(&outbox, json)),
        OutboxAction::Send => Ok(send(&outbox, config.named_server.as_ref()).await),
        OutboxAction::SendAsNew { id } => send_as_new(&outbox, &id).await,
        OutboxAction::Drop { id } => drop_one(&outbox, &id),
    };
    done.unwrap_or_else(|why| {
        say(format_args!("{why}"));
        exit::USAGE
    })
}

/// Says of each refused entry what a person can do about it.
pub(crate) fn tell_refused<'a>(
    ui: &Ui,
    outbox: &Outbox,
    tray: &Tray,
    refused: impl IntoIterator<Item = (u64, &'a Refusal)>,
) {
    for (counter, refusal) in refused {
        let time = tray.entry(counter).map(|kept| minute(kept.time));
        ui.say(format_args!("{}", refused_sentence(&outbox.id(tray, counter), tray.server(), time, refusal)));
    }
}

/// What became of an entry that was refused, and what can be done with it.
fn refused_sentence(id: &str, server: &Address, time: Option<String>, refusal: &Refusal) -> String {
    let of = time.map(|time| format!(" of {time}")).unwrap_or_default();
    match refusal.code {
        Code::OtherJournal => format!(
            "the entry {id}{of} is for another journal than {server} serves now, and stays here; diary outbox \
             send-as-new {id} sends it there all the same, diary outbox drop {id} throws it away"
        ),
        _ => format!("{server} refused the entry {id}{of}: {}; {}", shown(refusal), choices(id)),
    }
}

/// What can be done with a refused entry.
fn choices(id: &str) -> String {
    format!("look whether it is in the diary, then diary outbox drop {id}, or diary outbox send-as-new {id}")
}

/// A refusal as it was sent or read, safe for a terminal.
fn shown(refusal: &Refusal) -> String {
    escape(&refusal.to_string()).into_owned()
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
        lines.push_str(&format!("    {}; {}\n", shown(refusal), choices(id)));
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

/// When it was written, where the reader is.
fn minute(time: Time) -> String {
    time.in_zone(&TimeZone::system()).minute()
}

/// Whether the output could be written.
fn print(bytes: &[u8]) -> bool {
    let mut output = Output::new(io::stdout());
    output.print(bytes);
    output.flush();
    !output.has_failed()
}

/// What became of all that is for one server.
struct Sent {
    server: Address,
    acked: usize,
    /// Why the rest stays, and how many that are.
    away: Option<(Error, usize)>,
}

/// Sends what nobody holds, to one server or to all.
async fn send(outbox: &Outbox, server: Option<&Address>) -> u8 {
    let mut left = outbox.adopt(server);
    let mut all: Vec<Sent> = Vec::new();
    let mut refused = 0;
    for mut tray in left.by_ref() {
        let at = all.iter().position(|sent| sent.server == *tray.server()).unwrap_or_else(|| {
            all.push(Sent { server: tray.server().clone(), acked: 0, away: None });
            all.len() - 1
        });
        let delivery = match all[at].away {
            None => deliver(&mut tray).await,
            Some(_) => Delivery::default(),
        };
        all[at].acked += delivery.acked.len();
        if let Some(error) = delivery.end {
            all[at].away = Some((error, 0));
        }
        // What was refused now or before, but for another journal only now.
        let settled: Vec<_> =
            tray.entries().filter_map(|kept| Some((kept.counter, kept.refusal.as_ref()?))).collect();
        let elsewhere = delivery.refused.iter().filter(|(_, refusal)| refusal.code == Code::OtherJournal);
        let told: Vec<_> =
            settled.into_iter().chain(elsewhere.map(|(counter, refusal)| (*counter, refusal))).collect();
        refused += told.len();
        if let Some((_, kept)) = &mut all[at].away {
            *kept += tray.entries().count() - told.len();
        }
        tell_refused(&Ui::default(), outbox, &tray, told);
    }
    left.troubles.iter().for_each(|trouble| say(format_args!("{trouble}")));
    let are = |number| count(number, "entry is", "entries are");
    let acked = all.iter().filter(|sent| sent.acked > 0);
    let lines: String =
        acked.map(|sent| format!("{} on disk at {}\n", are(sent.acked), sent.server)).collect();
    print(lines.as_bytes());
    for Sent { server, away, .. } in &all {
        if let Some((error, kept)) = away {
            say(format_args!("{error}: {} kept for {server}", are(*kept)));
        }
    }
    match (all.iter().all(|sent| sent.away.is_none()), refused, left.troubles.is_empty()) {
        (false, ..) => exit::NOT_ACKED,
        (true, 1.., _) => exit::REFUSED,
        (true, 0, false) => exit::DAMAGE,
        (true, 0, true) => exit::DONE,
    }
}

/// Sends one under a fresh key. Its old key is given up in the same moment as the new one is kept, so that the
/// text is kept once all the time. An error is a sentence: nothing has changed.
async fn send_as_new(outbox: &Outbox, id: &str) -> Result<u8, String> {
    let (mut tray, counter) = outbox.adopt_one(id)?;
    let counter = tray.renew(counter)?;
    let delivery = deliver(&mut tray).await;
    if let Some((_, ack)) = delivery.acked.iter().find(|(acked, _)| *acked == counter) {
        print(format!("{}\n", ack.seq).as_bytes());
        return Ok(exit::DONE);
    }
    if let Some(error) = delivery.end {
        let (id, server) = (outbox.id(&tray, counter), tray.server());
        say(format_args!("{error}: the entry is kept as {id}, and the next run for {server} sends it"));
        return Ok(exit::NOT_ACKED);
    }
    tell_refused(
        &Ui::default(),
        outbox,
        &tray,
        delivery.refused.iter().map(|(counter, refusal)| (*counter, refusal)),
    );
    Ok(exit::REFUSED)
}

/// Throws one away, and says what it was: nobody else has it any more.
fn drop_one(outbox: &Outbox, id: &str) -> Result<u8, String> {
    let (mut tray, counter) = outbox.adopt_one(id)?;
    let dropped = tray.entry(counter).map(|kept| (minute(kept.time), escape(&kept.text).into_owned()));
    tray.drop_entry(counter)?;
    let (time, text) = dropped.unwrap_or_default();
    print(format!("dropped {id} of {time}: {text}\n").as_bytes());
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use diary_client::Author;
    use insta::assert_snapshot;

    use crate::outbox::Kept;

    /// An entry as it is listed, refused for `why`.
    fn entry(refusal: Option<Refusal>) -> Listed {
        let time = Time { micros: 1_795_220_102_123_456, offset_minutes: 480 };
        let text = "今天\n\u{1b}[2J".to_owned();
        Listed {
            id: "2e2d.1".to_owned(),
            server: "diary.example:8888".parse().unwrap(),
            author: Some(Author::new("anna").unwrap()),
            kept: Kept { counter: 1, time, at: None, text, refusal, journal: Some(7), sent: true },
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
        for code in [Code::StaleKey, Code::Conflict, Code::OtherJournal] {
            let time = Some("TIME".to_owned());
            said.push(refused_sentence("2e2d.1", &entry(None).server, time, &refusal(code)) + "\n");
        }
        assert_snapshot!("outbox", said.concat().replace(&here, "TIME"));
    }

    #[test]
    fn what_programs_read() {
        let mut lines = Vec::new();
        let plain = Listed { author: None, ..entry(None) };
        let plain = Listed { kept: Kept { journal: None, ..plain.kept }, ..plain };
        for entry in [plain, entry(Some(refusal(Code::StaleKey)))] {
            push_json(&object(&entry), &mut lines);
        }
        let here = entry(None).kept.time.in_zone(&TimeZone::system()).to_string();
        assert_snapshot!("outbox_json", String::from_utf8(lines).unwrap().replace(&here, "TIME"));
    }
}
