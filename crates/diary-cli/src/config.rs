//! The configuration file, and the settings of one run.

use std::env;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use diary_client::{Access, Address, Author, Credential, JournalName};
use diary_outbox::{Delivery, Keys, Outbox};
use serde::de::{Deserialize, Deserializer, Error};

use crate::cli::Settings;
use crate::cmd::token_in;
use crate::credentials::{Credentials, path_beside};
use crate::query::select::parse_name;
use crate::render::{Format, careful};
use crate::term::Colour;

/// Default address of a diary server.
const DEFAULT_SERVER: &str = "127.0.0.1:8888";

/// The configuration file, `$XDG_CONFIG_HOME/diary/config.toml`. Every line is optional.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, deserialize_with = "parsed")]
    server: Option<Address>,
    #[serde(default, deserialize_with = "parsed")]
    journal: Option<JournalName>,
    #[serde(default, deserialize_with = "name")]
    name: Option<Author>,
    #[serde(alias = "color")]
    colour: Option<Colour>,
    format: Option<Format>,
    history: Option<bool>,
}

fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(value: D) -> Result<Option<T>, D::Error> {
    String::deserialize(value)?.parse().map(Some).map_err(D::Error::custom)
}

fn name<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Author>, D::Error> {
    parse_name(&String::deserialize(value)?).map(Some).map_err(D::Error::custom)
}

/// The settings of one run. A flag wins over the environment, then the file, then the default.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) server: Address,
    /// Server or journal that the command line names.
    pub(crate) named_server: Option<Address>,
    /// Author that the user chose.
    pub(crate) author: Option<Author>,
    /// Author otherwise, unless the server knows the user by a token.
    pub(crate) login_name: Option<Author>,
    pub(crate) colour: Colour,
    /// Output format of the configuration file.
    pub(crate) format: Option<Format>,
    /// Whether typed lines are remembered.
    pub(crate) history: bool,
    /// Whether a flag or the environment names the server.
    pub(crate) server_is_said: bool,
    /// Path of the configuration file, whether or not it exists.
    pub(crate) file: Option<PathBuf>,
    /// Why the file is unusable, in one sentence. The other settings are as if there were no file.
    pub(crate) wrong: Option<String>,
    /// What `login` has kept.
    pub(crate) credentials: Credentials,
    /// Why that, or the token of `DIARY_TOKEN_FILE`, is unusable, in one sentence.
    pub(crate) credentials_wrong: Option<String>,
    /// The token in `DIARY_TOKEN_FILE`, for `server` only.
    pub(crate) token: Option<Credential>,
    /// Folder for state that outlives a run: `$XDG_STATE_HOME/diary`, else `~/.local/state/diary`.
    pub(crate) state: Option<PathBuf>,
}

impl Config {
    /// Reads the file. `server` comes from the command line or the environment.
    pub(crate) fn read(server: Option<Address>, settings: &Settings) -> Self {
        let path = home("XDG_CONFIG_HOME", ".config").map(|home| home.join("diary/config.toml"));
        let read = path.as_deref().map_or_else(|| Ok(File::default()), File::read);
        let (file, wrong) = match read {
            Ok(file) => (file, None),
            Err(why) => (File::default(), Some(why)),
        };
        let default = || DEFAULT_SERVER.parse().expect("it is an address");
        let server_is_said = server.is_some();
        // A journal that is said for its own sake goes before one behind an address; both, before the file.
        let said = server.as_ref().and_then(|server| server.journal.clone());
        let (flag, variable) = (settings.journal.clone(), settings.journal.clone());
        let journal = flag.filter(|_| settings.journal_is_flag).or(said).or(variable).or(file.journal);
        let mut server = server.or(file.server).unwrap_or_else(default);
        server.journal = journal.or(server.journal);
        let credentials = path
            .as_deref()
            .map_or_else(|| Ok(Credentials::default()), |path| Credentials::read(&path_beside(path)));
        let token = token_file().map(|path| token_in(Path::new(&path))).transpose();
        let credentials_wrong = credentials.as_ref().err().or(token.as_ref().err()).cloned();
        let (credentials, token) = (credentials.unwrap_or_default(), token.unwrap_or_default());
        Self {
            server_is_said,
            named_server: (settings.server_is_flag || settings.journal_is_flag).then(|| server.clone()),
            server,
            author: settings.name.clone().or(file.name),
            login_name: login_name(),
            colour: settings.color.or(file.colour).unwrap_or_default(),
            format: file.format,
            history: file.history.unwrap_or(true),
            file: path,
            wrong,
            credentials,
            credentials_wrong,
            token,
            state: home("XDG_STATE_HOME", ".local/state").map(|home| home.join("diary")),
        }
    }

    /// Returns why the configuration or the credentials are unusable.
    pub(crate) fn unusable(&self) -> Option<&String> {
        self.wrong.as_ref().or(self.credentials_wrong.as_ref())
    }

    /// Returns how a server proves who it is, and the token for it.
    pub(crate) fn access(&self, address: &Address) -> Access {
        let mut access = self.credentials.access(address);
        if let Some(token) = self.token.as_ref().filter(|_| address.at == self.server.at) {
            access.token = Some(token.clone());
        }
        access
    }

    /// Returns the author of new entries; `None` leaves it to the server.
    pub(crate) fn author(&self) -> Option<&Author> {
        let login_name = || self.login_name.as_ref().filter(|_| self.access(&self.server).token.is_none());
        self.author.as_ref().or_else(login_name)
    }

    /// Returns a delivery of new entries to the server.
    ///
    /// # Errors
    /// As [`Delivery::new`].
    pub(crate) fn delivery<T>(&self, keys: Keys) -> Result<Delivery<T>, diary_outbox::Error> {
        let delivery = Delivery::new(self.server.clone(), self.author.clone(), keys)?;
        let delivery = delivery.with_access(self.access(&self.server));
        Ok(match self.author {
            Some(_) => delivery,
            None => delivery.with_default_author(self.login_name.clone()),
        })
    }

    /// Returns the outbox, which keeps unacked entries.
    pub(crate) fn outbox(&self) -> Outbox {
        self.state.as_ref().map(|state| Outbox::new(state.join("outbox"))).unwrap_or_default()
    }
}

impl File {
    /// Reads the file at `path`; a missing file is an empty one.
    ///
    /// # Errors
    /// A sentence.
    fn read(path: &Path) -> Result<Self, String> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|why| format!("{}:{why}", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("cannot read {}: {error}", path.display())),
        }
    }

    /// # Errors
    /// The line and what is wrong in it.
    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            format!("{}: {}", before.matches('\n').count() + 1, careful(error.message()))
        })
    }
}

/// Returns a folder of the XDG base directory specification: `variable` if it is an absolute path, else
/// `~/default`.
fn home(variable: &str, default: &str) -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| Some(absolute("HOME")?.join(default)))
}

/// Returns the file of the token that is for this run only.
pub(crate) fn token_file() -> Option<OsString> {
    env::var_os("DIARY_TOKEN_FILE").filter(|path| !path.is_empty())
}

/// Returns the login name, if it can be an author.
fn login_name() -> Option<Author> {
    let said = ["USER", "LOGNAME"].into_iter().filter_map(|name| env::var(name).ok());
    let name = said.into_iter().find(|name| !name.is_empty()).or_else(|| whoami::username().ok())?;
    Author::new(&name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file() {
        let files = [
            "server = host:8888\n",
            "# mine\nname = anna # me\n",
            "server = 5\n",
            "server = [\"host\"]\n",
            "server = \"host:8888\n",
            "name = \"a\"\nserver = \"http://host:8888\"\n",
            "name = \"a b\"\n",
            "journal = \"a/b\"\n",
            "color = \"red\"\n",
            "format = \"xml\"\n",
            "name = \"a\"\ncolor = \"never\"\ncolour = \"never\"\n",
            "name = \"a\"\ntoken = \"x\"\n",
            "[server]\nhost = \"a\"\n",
            "name = \"a\"\nname = \"b\"\n",
            "server\n",
            "server =\n",
            "\u{1b}[2J = 1\n",
            "\"\\u001b[2J\" = 1\n",
            "history = \"no\"\n",
        ];
        let said = files.map(|text| match File::parse(text) {
            Ok(_) => panic!("{text} is sound"),
            Err(why) => format!("{text:?}\n{why}"),
        });
        assert!(said.iter().all(|said| said.lines().count() == 2 && !said.contains('\u{1b}')), "{said:?}");
        insta::assert_snapshot!("config_errors", said.join("\n"));
    }

    #[test]
    fn what_a_file_says() {
        let read = |text| File::parse(text).unwrap();
        let file = read("server = \"h:1\"\nname = \"小明\"\nformat = \"json\"\n");
        assert_eq!(file.server.map(|server| server.to_string()).as_deref(), Some("h:1"));
        assert_eq!(read("journal = \"work\"").journal.map(|name| name.to_string()).as_deref(), Some("work"));
        assert!(file.name.is_some() && file.format == Some(Format::Json) && file.colour.is_none());
        assert!(read("").server.is_none() && read("").history.is_none());
        assert_eq!(read("history = false").history, Some(false));
        for text in ["colour = \"never\"", "color = \"never\""] {
            assert_eq!(read(text).colour, Some(Colour::Never));
        }
    }
}
