//! What the program is told beside its command line: the configuration file, and then defaults.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use diary_client::{Address, Author};
use diary_proto::escape::escape;
use serde::Deserialize;

use crate::args::Settings;
use crate::show::{Colour, Format};

/// Where a diary listens unless it is told otherwise.
const DEFAULT_SERVER: &str = "127.0.0.1:8888";

/// The configuration file: `$XDG_CONFIG_HOME/diary/config.toml`. All of it may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    server: Option<String>,
    name: Option<String>,
    color: Option<Colour>,
    format: Option<Format>,
}

/// What holds for one run: a flag, then the environment, then the file, then a default.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) server: Address,
    /// The same, where the command line names it.
    pub(crate) named_server: Option<Address>,
    /// Who writes; `None` leaves it to the server.
    pub(crate) author: Option<Author>,
    pub(crate) colour: Colour,
    /// How entries look, where the configuration file says it.
    pub(crate) format: Option<Format>,
    /// Where the file is, or would be.
    pub(crate) file: Option<PathBuf>,
    /// The folder for what outlives a run: `$XDG_STATE_HOME/diary`, else `~/.local/state/diary`.
    pub(crate) state: Option<PathBuf>,
}

impl Config {
    /// Puts together what holds. `server` is the one that the command line names.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the file.
    pub(crate) fn read(server: Option<Address>, settings: &Settings) -> Result<Self, String> {
        let path = home("XDG_CONFIG_HOME", ".config").map(|home| home.join("diary/config.toml"));
        let file = path.as_ref().map_or_else(|| Ok(File::default()), |path| read_file(path))?;
        let wrong = |what: &str, why: String| match &path {
            Some(path) => format!("{}: {what}: {why}", path.display()),
            None => why,
        };
        let from_file = file.server.map(|server| server.parse::<Address>());
        let from_file = from_file.transpose().map_err(|error| wrong("server", error.to_string()))?;
        let name = file.name.map(|name| Author::new(&name));
        let name = name.transpose().map_err(|refusal| wrong("name", refusal.message.into_owned()))?;
        Ok(Self {
            server: server.or(from_file).unwrap_or_else(|| DEFAULT_SERVER.parse().expect("it is an address")),
            named_server: settings.server.clone().filter(|_| settings.server_is_flag),
            author: settings.name.clone().or(name).or_else(login_name),
            colour: settings.color.or(file.color).unwrap_or_default(),
            format: file.format,
            file: path,
            state: home("XDG_STATE_HOME", ".local/state").map(|home| home.join("diary")),
        })
    }
}

fn read_file(path: &Path) -> Result<File, String> {
    match fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).map_err(|error| syntax_sentence(path, &text, &error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(File::default()),
        Err(error) => {
            Err(format!("{} cannot be read: {error}; make it readable or move it away", path.display()))
        }
    }
}

/// Where the file is wrong and how, in one line.
fn syntax_sentence(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let why = error.message().lines().collect::<Vec<_>>().join(", ");
    format!("{}, line {line}: {}; mend the line or take it out", path.display(), escape(&why))
}

/// A folder of the XDG base directory specification: `variable`, if it is an absolute path, else `~/default`.
fn home(variable: &str, default: &str) -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| Some(absolute("HOME")?.join(default)))
}

/// The name that the user logged in with, where it can be an author.
fn login_name() -> Option<Author> {
    let said = ["USER", "LOGNAME"].into_iter().filter_map(|name| env::var(name).ok());
    let name = said.into_iter().find(|name| !name.is_empty()).or_else(|| whoami::username().ok())?;
    Author::new(&name).ok()
}
