//! `edit`: writes a new text for an entry, which is kept in the outbox like any other.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::process::Command;

use diary_client::NewEntry;
use tempfile::NamedTempFile;
use tokio::signal::unix::SignalKind;

use super::add::{add, check, read_text};
use super::reading::{connect, versions};
use crate::config::Config;
use crate::error::CliError;
use crate::term::output::say;
use crate::term::signals::Signals;

/// Editor where neither VISUAL nor EDITOR names one.
const EDITOR_DEFAULT: &str = "vi";

/// Asks for the new text, sends it, and prints the seq of the correction.
///
/// # Errors
/// There is no such entry, or the correction is not in the diary; the sentence says where its text is.
pub(super) async fn run(number: u64, words: &[String], config: &Config) -> Result<(), CliError> {
    let nothing = |why| CliError::Usage(format!("nothing was changed: {why}"));
    if let Some(why) = config.unusable() {
        return Err(nothing(why.clone()));
    }
    if words.is_empty() && !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(nothing(format!("an editor needs a terminal; give the text: diary edit {number} TEXT")));
    }
    let mut text = match words {
        [] => None,
        [word] if word == "-" => Some(read_text(io::stdin().lock()).and_then(check).map_err(nothing)?),
        words => Some(check(words.join(" ")).map_err(nothing)?),
    };
    let reader = match (connect(config, None).await, text) {
        // As every entry, it waits for the server.
        (Err(error), Some(text)) if !error.is_final() => {
            return add(NewEntry { corrects: Some(number), ..text.into() }, config).await;
        }
        (reader, given) => {
            text = given;
            reader?
        }
    };
    let versions = versions(&reader, number).await?;
    let (Some(first), Some(newest)) = (versions.first(), versions.last()) else {
        return Err(CliError::NothingFound(format!("entry {number} is damaged or missing")));
    };
    let (seq, newest) = (first.entry.seq, &newest.entry.text);
    drop(reader);
    let text = match text {
        Some(text) => text,
        None => edited(newest).map_err(nothing)?,
    };
    // An editor may end lines in its own way.
    if text == newest.replace("\r\n", "\n") || text == *newest {
        say(format_args!("nothing was changed: this is the text of entry {seq}"));
        return Ok(());
    }
    add(NewEntry { corrects: Some(seq), ..text.into() }, config).await
}

/// Lets the user edit a text. Blocks: nothing else is to be done meanwhile. What cannot be an entry stays in its file.
fn edited(text: &str) -> Result<String, String> {
    let set = |name| env::var(name).ok().filter(|editor| !editor.trim().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| EDITOR_DEFAULT.to_owned());
    let unwritable = |error: io::Error| format!("the text cannot be put into a file: {error}");
    let mut file = tempfile::Builder::new().prefix("diary-").suffix(".txt").tempfile().map_err(unwritable)?;
    file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(unwritable)?;
    // Ctrl-C is the editor's.
    let _signals = Signals::of(&[SignalKind::interrupt(), SignalKind::quit()]);
    // The variable may hold options, too.
    let status = Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(file.path())
        .status()
        .map_err(|error| format!("the editor cannot be started: {error}"))?;
    if !status.success() {
        return Err(format!("the editor {editor} ended with {status}"));
    }
    // By its name: an editor may put another file there.
    let written =
        std::fs::File::open(file.path()).map_err(|error| format!("its file cannot be read: {error}"))?;
    read_text(written).and_then(check).map_err(|why| kept(file, &why))
}

fn kept(file: NamedTempFile, why: &str) -> String {
    match file.into_temp_path().keep() {
        Ok(path) => format!("{why}; the text is in {}", path.display()),
        Err(_) => why.to_owned(),
    }
}
