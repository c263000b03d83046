//! What the program is told: arguments, then the environment, then defaults.

use clap::Parser;
use diary_client::{Address, Author, Which};

const EXIT_CODES: &str = "\
Exit codes: 0 done, 2 usage, 3 the server cannot be reached, 4 something was refused, 5 not all was acked";

/// Writes into a diary and reads it. On a terminal, /help lists the commands; from a pipe, every line is
/// an entry.
#[derive(Debug, Clone, Parser)]
#[command(name = "diary-cli", version, after_help = EXIT_CODES)]
pub(crate) struct Args {
    /// Where the server listens
    #[arg(value_name = "HOST:PORT|unix:PATH", env = "DIARY_SERVER", default_value = "127.0.0.1:8888")]
    pub(crate) address: Address,

    /// Who writes; the login name, if not given
    #[arg(long, value_name = "NAME", env = "DIARY_NAME", value_parser = parse_name)]
    name: Option<Author>,

    /// How many of the newest entries to show first
    #[arg(short = 'n', value_name = "N|all|0", default_value = "20", value_parser = parse_past)]
    pub(crate) past: Which,
}

impl Args {
    /// Who writes; `None` leaves it to the server.
    pub(crate) fn author(&self) -> Option<Author> {
        self.name.clone().or_else(login_name)
    }
}

/// The name that the user logged in with, where it can be an author.
fn login_name() -> Option<Author> {
    let said = ["USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
    let name = said.into_iter().find(|name| !name.is_empty()).or_else(|| whoami::username().ok())?;
    Author::new(&name).ok()
}

fn parse_name(name: &str) -> Result<Author, String> {
    Author::new(name).map_err(|refusal| refusal.message.into_owned())
}

fn parse_past(word: &str) -> Result<Which, String> {
    match Which::parse(word) {
        Ok(which @ (Which::Last(_) | Which::All)) if !word.is_empty() => Ok(which),
        _ => Err("how many entries? a number, all or 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from([&["diary-cli"], words].concat())
    }

    #[test]
    fn the_forms() {
        for (words, address, name, past) in [
            (&["localhost:1"][..], "localhost:1", None, Which::Last(20)),
            (&["[::1]:1", "-n", "all"], "[::1]:1", None, Which::All),
            (&["unix:/run/d", "--name", "小明", "-n0"], "unix:/run/d", Some("小明"), Which::Last(0)),
            (&["-n", "7", "h:1", "--name=a"], "h:1", Some("a"), Which::Last(7)),
        ] {
            let args = parse(words).unwrap();
            assert_eq!(args.address.to_string(), address);
            // The environment of whoever runs the test may name someone.
            assert!(name.is_none() || args.name.as_ref().map(Author::as_str) == name);
            assert_eq!(args.past, past);
        }
    }

    #[test]
    fn usage_errors_say_what_to_do() {
        for (words, part) in [
            (&["localhost"][..], "localhost needs a port: localhost:8888"),
            (&["search"], "search needs a port"),
            (&["h:1", "-n", "today"], "how many entries? a number, all or 0"),
            (&["h:1", "-n", ""], "how many entries?"),
            (&["h:1", "--name", "a b"], "a name has no spaces"),
            (&["h:1", "i:2"], "unexpected argument"),
        ] {
            let error = parse(words).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
            assert!(error.use_stderr() && error.kind() != ErrorKind::DisplayHelp);
        }
    }
}
