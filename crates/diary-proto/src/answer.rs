//! What the server says in line mode. Answers start with a word and entries with a digit, so a script
//! can tell them apart. Each of these is one whole line.

use crate::block::Gap;
use crate::entry::push_number;
use crate::refusal::Refusal;

/// Texts that the programs before this one took for commands. They are stored like any other; their
/// ack ends in a hint.
pub const OLD_COMMANDS: &[&str] = &["h", "help", "?", "p", "past", "-r", "-c", "e", "exit", "quit"];

/// Whether a text is one of [`OLD_COMMANDS`].
pub fn is_old_command(text: &str) -> bool {
    text.len() <= 4 && OLD_COMMANDS.contains(&text)
}

/// What the ack of such a text ends in.
pub const HINT: &str = " (stored as a text; /help lists the commands)";

/// What the greeting begins with: the protocol and its version. Over UDP, all answers that are no entries begin so.
pub const MARK: &str = "diary/1 ";

/// The greeting, which is every connection's first line, in both modes.
pub fn greeting(journal: &str, id: u64, head: u64) -> String {
    format!(
        "{MARK}ready head={head} journal={journal} id={id:016x}; a line is an entry, /help lists commands\n"
    )
}

/// The greeting where nothing can be done without a token. It tells nothing of the journal.
pub const GREETING_LOGIN: &str = "diary/1 ready login needed; /login TOKEN logs in, /help lists commands\n";

/// The same where a token must not travel, and why.
pub fn greeting_insecure(why: &str) -> String {
    format!("{MARK}ready login needed; {why}\n")
}

/// The answer to `/login`: whose token it is and, if it may do anything here, where the client is.
pub fn logged_in(name: &str, here: Option<(&str, u64, u64)>) -> String {
    match here {
        Some((journal, id, head)) => format!("ok login {name} journal={journal} head={head} id={id:016x}\n"),
        None => format!(
            "ok login {name}; it has no rights in this journal, and /journal lists those where it has\n"
        ),
    }
}

/// The answer to `/journal NAME`.
pub fn changed_journal(journal: &str, id: u64, head: u64) -> String {
    format!("ok journal {journal} head={head} id={id:016x}\n")
}

/// The answer to `/journal`: the current one (`-` if it is not to be named), then all of them, or the first ones of `total`.
pub fn journals<'a>(current: &str, names: impl ExactSizeIterator<Item = &'a str>, total: usize) -> String {
    let shown = names.len();
    let mut answer = format!("ok journal {current}\n");
    names.for_each(|name| answer.extend(["journal ", name, "\n"]));
    let of_total = if shown < total { format!(" of {total}") } else { String::new() };
    answer + &format!("end {shown}{of_total}\n")
}

/// `ok SEQ TIME`, with the hint where it is due.
pub fn push_ack(out: &mut Vec<u8>, seq: u64, time: &[u8], hint: bool) {
    out.extend_from_slice(b"ok ");
    push_number(out, seq);
    out.push(b' ');
    out.extend_from_slice(time);
    if hint {
        out.extend_from_slice(HINT.as_bytes());
    }
    out.push(b'\n');
}

/// `error CODE: what, and the limit or the way out`.
pub fn push_error(out: &mut Vec<u8>, refusal: &Refusal) {
    out.extend_from_slice(format!("error {refusal}\n").as_bytes());
}

/// `gap A..B: …`, where entries are missing.
pub fn push_gap(out: &mut Vec<u8>, gap: Gap) {
    let Gap { first, last } = gap;
    out.extend_from_slice(format!("gap {first}..{last}: these entries are damaged or missing\n").as_bytes());
}

/// `/help`, every line with the word `help` before it.
pub const HELP: &str = "\
help a line is an entry; `ok SEQ TIME` means that it is on disk
help /history [N | all | DATE | DATE..DATE | #SEQ..]  show entries (default: 20); DATE is 2026-11-21, today or yesterday
help /follow [#SEQ | off]  show entries as they arrive, from SEQ or from now on
help /search TEXT  show entries that contain TEXT; case matters only if TEXT has a capital
help /re SEQ TEXT  answer an entry
help /thread SEQ  show an entry with all that answers it
help /correct SEQ TEXT  give an entry a new text
help /name NAME  write as NAME from here on
help /journal [NAME]  list the journals, or change to one
help /login TOKEN  log in, where a token is needed
help /quiet  stop printing acks
help /quit  end
help //text  stores a text that starts with /
end 13
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_counts_its_lines() {
        let (lines, end): (Vec<_>, Vec<_>) = HELP.lines().partition(|l| l.starts_with("help "));
        assert_eq!(end, [format!("end {}", lines.len())]);
    }
}
