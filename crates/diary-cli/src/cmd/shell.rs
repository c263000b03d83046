//! `completions` and `man`: what shells and people's systems want to know, from the program's own arguments.

use std::io::{self, Write};

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli;
use crate::error::exit;
use crate::term::output::{Output, say};

/// What stands behind the name, in the page and in lists of pages.
const SUMMARY: &str = "writes into a diary and reads it";

/// What the manual page says beside the arguments: a heading, and what is named with what it is.
const SECTIONS: &[(&str, &[(&str, &str)])] = &[
    (
        "ENVIRONMENT",
        &[
            (
                "DIARY_SERVER, DIARY_NAME, DIARY_COLOR, DIARY_FORMAT",
                "stand for the flags of these names, which go first",
            ),
            ("NO_COLOR", "set to anything, it keeps colour away"),
            (
                "DIARY_PAGER, PAGER",
                "the program that shows what is long, on a terminal; cat or nothing means none",
            ),
        ],
    ),
    (
        "FILES",
        &[
            (
                "$XDG_CONFIG_HOME/diary/config.toml",
                "server, name, colour and format, each if it is wanted; else in ~/.config",
            ),
            ("$XDG_STATE_HOME/diary/", "what could not be sent yet; else in ~/.local/state"),
        ],
    ),
    (
        "EXIT STATUS",
        &[
            ("0", "done"),
            ("1", "nothing was found"),
            ("2", "the arguments, the input or the output cannot be used"),
            ("3", "the server cannot be reached"),
            ("4", "something was refused"),
            ("5", "not all was acked; it waits in the outbox"),
            ("6", "damage was met"),
        ],
    ),
];

/// Prints the completions for a shell.
pub(crate) fn completions(shell: clap_complete::Shell) -> u8 {
    let args = cli::command();
    // zsh would take the name of a command for the address, which stands where commands do.
    let mut known = clap::Command::new("diary")
        .version(env!("CARGO_PKG_VERSION"))
        .args(args.get_arguments().filter(|arg| !arg.is_positional()))
        .subcommands(args.get_subcommands().cloned());
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut known, "diary", &mut script);
    print(&script)
}

/// Prints the manual page.
pub(crate) fn man() -> u8 {
    match page() {
        Ok(page) => print(&page),
        Err(error) => {
            say(format_args!("the manual page cannot be made: {error}"));
            exit::USAGE
        }
    }
}

/// One page for all commands: whoever looks for a flag finds it with one search.
fn page() -> io::Result<Vec<u8>> {
    let mut command = cli::command().after_help("");
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    Man::new(command.clone().about(SUMMARY)).render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let named = |command: &clap::Command| command.get_name() != "help";
    for subcommand in command.get_subcommands().filter(|command| named(command)) {
        describe(subcommand, &mut page)?;
        for action in subcommand.get_subcommands().filter(|command| named(command)) {
            describe(action, &mut page)?;
        }
    }
    for (heading, items) in SECTIONS {
        let mut roff = Roff::new();
        roff.control("SH", [*heading]);
        for (name, what) in *items {
            roff.control("TP", []).text([bold(*name)]).text([roman(*what)]);
        }
        page.write_all(roff.to_roff().as_bytes())?;
    }
    Ok(page)
}

/// A section for a command, with what only it can be told.
fn describe(command: &clap::Command, page: &mut Vec<u8>) -> io::Result<()> {
    let own = command.clone().mut_args(|arg| match arg.is_global_set() || arg.get_id() == "help" {
        true => arg.hide(true),
        false => arg,
    });
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_uppercase();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut roff = Roff::new();
    roff.control("SH", [name.as_str()]).text([roman(about)]);
    page.write_all(roff.to_roff().as_bytes())?;
    let mut options = Vec::new();
    Man::new(own).render_options_section(&mut options)?;
    let options = String::from_utf8_lossy(&options);
    page.write_all(options.replacen(".SH OPTIONS\n", "", 1).as_bytes())
}

fn print(bytes: &[u8]) -> u8 {
    let mut output = Output::new(io::stdout());
    output.print(bytes);
    output.flush();
    if output.has_failed() { exit::USAGE } else { exit::DONE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_command_and_flag() {
        let page = String::from_utf8(page().unwrap()).unwrap();
        assert!(page.contains("\ndiary \\- writes into a diary and reads it\n"), "{page}");
        let plain = page.replace('\\', "");
        for part in [
            ".SH NAME",
            "DIARY ADD",
            "DIARY LOG",
            "DIARY OUTBOX SEND",
            "DIARY TAGS",
            "DIARY STATS",
            "DIARY ON-THIS-DAY",
            "--tag",
            "--svg",
            "--contains",
            "--cursor",
            "--server",
            ".SH ENVIRONMENT",
            ".SH \"EXIT STATUS\"",
        ] {
            assert!(plain.contains(part), "{part} is not in {page}");
        }
        assert_eq!(plain.matches("fB--serverfR").count(), 2, "it is said once, and in the synopsis: {page}");
    }
}
