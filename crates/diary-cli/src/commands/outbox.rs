//! `outbox`: lists what could not be sent yet, sends it, or throws it away.

use std::io;

use diary_client::{Address, Error, Refusal};
use diary_proto::escape::escape;

use crate::args::OutboxAction;
use crate::config::Config;
use crate::deliver::deliver;
use crate::exit;
use crate::outbox::{Listed, Outbox, Tray};
use crate::output::{Output, say};

/// Does it, and gives the exit code.
pub(crate) async fn run(action: Option<OutboxAction>, config: &Config) -> u8 {
    let outbox = Outbox::new(config.state.as_deref());
    match action {
        None => list(&outbox),
        Some(OutboxAction::Send) => send(&outbox, config.named_server.as_ref()).await,
        Some(OutboxAction::SendAsNew { id }) => send_as_new(&outbox, &id).await,
        Some(OutboxAction::Drop { id }) => drop_one(&outbox, &id),
    }
}

/// Says of each refused entry what a person can do about it.
pub(crate) fn tell_refused<'a>(
    outbox: &Outbox,
    tray: &Tray,
    refused: impl IntoIterator<Item = (u64, &'a Refusal)>,
) {
    for (counter, refusal) in refused {
        let time = tray.entry(counter).map(|kept| format!(" of {}", kept.time.minute())).unwrap_or_default();
        let id = outbox.id(tray, counter);
        let (server, choices) = (tray.server(), choices(&id));
        say(format_args!("{server} refused the entry {id}{time}: {}; {choices}", shown(refusal)));
    }
}

/// So many of them.
pub(crate) fn count(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// What can be done with a refused entry.
fn choices(id: &str) -> String {
    format!(
        "look whether it is in the diary, then diary-cli outbox drop {id}, or diary-cli outbox send-as-new {id}"
    )
}

/// A refusal as it was sent or read, safe for a terminal.
fn shown(refusal: &Refusal) -> String {
    escape(&refusal.to_string()).into_owned()
}

fn list(outbox: &Outbox) -> u8 {
    let listing = outbox.list();
    let mut output = Output::new(io::stdout());
    for entry in &listing.entries {
        output.print(listed(entry).as_bytes());
    }
    output.flush();
    listing.troubles.iter().for_each(|trouble| say(format_args!("{trouble}")));
    match (listing.troubles.is_empty(), listing.entries.is_empty()) {
        (false, _) => exit::DAMAGE,
        (true, true) => exit::NOTHING_FOUND,
        (true, false) => exit::DONE,
    }
}

/// The lines of an entry.
fn listed(entry: &Listed) -> String {
    let Listed { id, server, kept, held } = entry;
    let mut lines = format!("{id} {server} {} {}\n", kept.time.minute(), escape(&kept.text));
    if *held {
        lines.push_str("    a program that is running has it\n");
    }
    if let Some(refusal) = &kept.refusal {
        lines.push_str(&format!("    {}; {}\n", shown(refusal), choices(id)));
    }
    lines
}

/// Sends what nobody holds, to one server or to all.
async fn send(outbox: &Outbox, server: Option<&Address>) -> u8 {
    let adopted = outbox.adopt(server);
    adopted.troubles.iter().for_each(|trouble| say(format_args!("{trouble}")));
    let mut sent: Vec<(Address, usize)> = Vec::new();
    let mut away: Vec<(Address, Error, usize)> = Vec::new();
    let mut refused = 0;
    for mut tray in adopted.trays {
        let server = tray.server().clone();
        if !away.iter().any(|(gone, ..)| *gone == server) {
            let delivery = deliver(&mut tray).await;
            match sent.iter_mut().find(|(to, _)| *to == server) {
                Some((_, count)) => *count += delivery.acked.len(),
                None => sent.push((server.clone(), delivery.acked.len())),
            }
            if let Some(error) = delivery.end {
                away.push((server.clone(), error, 0));
            }
        }
        let (settled, open): (Vec<_>, Vec<_>) = tray.entries().partition(|kept| kept.refusal.is_some());
        refused += settled.len();
        let with_reason = settled.iter().filter_map(|kept| Some((kept.counter, kept.refusal.as_ref()?)));
        tell_refused(outbox, &tray, with_reason);
        if let Some((_, _, count)) = away.iter_mut().find(|(gone, ..)| *gone == server) {
            *count += open.len();
        }
    }
    let mut output = Output::new(io::stdout());
    for (server, sent) in sent.iter().filter(|(_, sent)| *sent > 0) {
        let are = count(*sent, "entry is", "entries are");
        output.print(format!("{are} on disk at {server}\n").as_bytes());
    }
    output.flush();
    for (server, error, kept) in &away {
        let are = count(*kept, "entry is", "entries are");
        say(format_args!("{error}: {are} kept for {server}"));
    }
    match (away.is_empty(), refused, adopted.troubles.is_empty()) {
        (false, ..) => exit::NOT_ACKED,
        (true, 1.., _) => exit::REFUSED,
        (true, 0, false) => exit::DAMAGE,
        (true, 0, true) => exit::DONE,
    }
}

/// Sends one under a fresh key. Its old key is given up in the same moment as the new one is kept, so that the
/// text is kept once all the time.
async fn send_as_new(outbox: &Outbox, id: &str) -> u8 {
    let renewed = outbox.adopt_one(id).and_then(|(mut tray, counter)| {
        let counter = tray.renew(counter)?;
        Ok((tray, counter))
    });
    let (mut tray, counter) = match renewed {
        Ok(renewed) => renewed,
        Err(why) => {
            say(format_args!("{why}"));
            return exit::USAGE;
        }
    };
    let delivery = deliver(&mut tray).await;
    let acked = delivery.acked.iter().find(|(acked, _)| *acked == counter);
    if let Some((_, ack)) = acked {
        let mut output = Output::new(io::stdout());
        output.print(format!("{}\n", ack.seq).as_bytes());
        output.flush();
        return exit::DONE;
    }
    let id = outbox.id(&tray, counter);
    match delivery.end {
        Some(error) => {
            say(format_args!(
                "{error}: the entry is kept as {id}, and the next run for {} sends it",
                tray.server()
            ));
            exit::NOT_ACKED
        }
        None => {
            let refused = delivery.refused.iter().map(|(counter, refusal)| (*counter, refusal));
            tell_refused(outbox, &tray, refused);
            exit::REFUSED
        }
    }
}

fn drop_one(outbox: &Outbox, id: &str) -> u8 {
    let dropped = outbox.adopt_one(id).and_then(|(mut tray, counter)| tray.drop_entry(counter));
    match dropped {
        Ok(()) => exit::DONE,
        Err(why) => {
            say(format_args!("{why}"));
            exit::USAGE
        }
    }
}
