//! `completions` and `man`, generated from the command line's definition.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::cli::{self, Args};
use crate::error::CliError;
use crate::term::output::print;

/// Description after the name, on the manual page and in lists of pages.
const SUMMARY: &str = "write entries into a diary and read them";

/// Sections of the manual page beside the arguments.
const SECTIONS: &str = include_str!("man.roff");

/// Prints the completions for a shell.
///
/// # Errors
/// The output failed.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    // With the address, zsh would take the name of a command for it.
    clap_complete::generate(shell, &mut cli::commands_only(), "diary", &mut script);
    if shell == clap_complete::Shell::Bash {
        script = with_files(&String::from_utf8_lossy(&script)).into_bytes();
    }
    Ok(print(script)?)
}

/// Makes bash complete files for `import`. The script offers flags for a command's first argument, which for
/// `import` is a file; the shell offers files if the script offers nothing.
fn with_files(script: &str) -> String {
    let (before, import) = script.split_once("diary__subcmd__import)\n").unwrap_or((script, ""));
    let import = import.replacen(" || ${COMP_CWORD} -eq 2 ]]", " ]]", 1);
    let import = import.replacen(
        "esac\n            COMPREPLY=( $(compgen -W \"${opts}\" -- \"${cur}\") )\n",
        "esac\n",
        1,
    );
    format!("{before}diary__subcmd__import)\n{import}")
}

/// Prints the manual page.
///
/// # Errors
/// The output failed.
pub(crate) fn man() -> Result<(), CliError> {
    let page = page().map_err(|error| CliError::Usage(format!("cannot make the manual page: {error}")))?;
    Ok(print(page)?)
}

/// Renders one page for all commands, so that one search finds any flag.
fn page() -> io::Result<Vec<u8>> {
    let mut command = Args::command().about(SUMMARY).after_help("");
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    let mut synopsis = Roff::new();
    synopsis.control("SH", ["SYNOPSIS"]);
    for line in command.render_usage().to_string().lines() {
        synopsis.text([roman(line.trim_start_matches("Usage:").trim())]).control("br", []);
    }
    page.write_all(synopsis.to_roff().as_bytes())?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let named = |command: &clap::Command| command.get_name() != "help";
    for subcommand in command.get_subcommands().filter(|command| named(command)) {
        describe(subcommand, &mut page)?;
        for action in subcommand.get_subcommands().filter(|command| named(command)) {
            describe(action, &mut page)?;
        }
    }
    page.write_all(SECTIONS.as_bytes())?;
    Ok(page)
}

/// Appends a section for a command, with its own options only.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_command_and_flag() {
        let page = String::from_utf8(page().unwrap()).unwrap();
        assert!(page.contains("\ndiary \\- write entries into a diary and read them\n"), "{page}");
        let plain = page.replace('\\', "");
        for part in [
            ".SH NAME",
            "DIARY ADD",
            "DIARY LOG",
            "DIARY OUTBOX SEND",
            "DIARY TAGS",
            "DIARY STATS",
            "DIARY ON-THIS-DAY",
            "diary [OPTIONS] [HOST:PORT|tls:HOST:PORT|unix:PATH]",
            "DIARY LOGIN",
            "--tag",
            "--svg",
            "--contains",
            "--cursor",
            "--server",
            "history = true",
            ".SH ENVIRONMENT",
            ".SH \"EXIT STATUS\"",
        ] {
            assert!(plain.contains(part), "{part} is not in {page}");
        }
        assert_eq!(plain.matches("fB--serverfR").count(), 1, "it is said once: {page}");
    }
}
