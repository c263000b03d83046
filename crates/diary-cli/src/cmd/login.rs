//! `login` and `logout`: whom to trust, and what to be known by.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::Path;

use diary_client::{
    Access, Address, At, Client, Code, Credential, Error, Fingerprint, Options, Refusal, Trust, Welcome,
    identify,
};
use diary_proto::escape::escape;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::cli::Login;
use crate::config::Config;
use crate::credentials::{Credentials, parse_token, path_beside, read_token};
use crate::error::CliError;
use crate::term::output::{print, say};
use crate::term::signals::Signals;

/// Limit on a typed line.
const TYPED_MAX_BYTES: u64 = 1024;

/// Makes sure who the server is, logs in there, and keeps what that took. Nothing is kept unless all of it works.
///
/// # Errors
/// The server is not the expected one, cannot be reached, or refuses the token; the file cannot be written.
pub(crate) async fn run(login: Login, config: &Config) -> Result<(), CliError> {
    let Login { token_file, no_token, fingerprint, .. } = login;
    let server = &config.server;
    let is_tls = matches!(server.at, At::Tls(_));
    if !is_tls && (no_token || fingerprint.is_some()) {
        let why = format!("{server} is not a tls: address, so only a token can be kept for it");
        return Err(CliError::Usage(why));
    }
    let path = file(config)?;
    let trust = whom_to_trust(server, fingerprint, config.access(server).trust).await?;
    let mut kept = config.credentials.clone();
    if no_token {
        // The server may want one, which comes from elsewhere then.
        kept.keep(server, &Access { trust, token: None });
        kept.write(&path)?;
        return Ok(print(format!("trusted from now on: {server}\n"))?);
    }
    let access = Access { trust, token: Some(take_token(token_file.as_deref()).await?) };
    let welcome = be_welcomed(config, &access).await?;
    kept.keep(server, &access);
    kept.write(&path)?;
    let (author, journal) = (escape(&welcome.author), escape(&welcome.journal));
    Ok(print(format!("logged in as {author}, in {journal} at {server}\n"))?)
}

/// Logs in under the name that entries will have.
///
/// # Errors
/// The sentence says what a person can do who is not permitted to.
async fn be_welcomed(config: &Config, access: &Access) -> Result<Welcome, CliError> {
    let server = &config.server;
    let connect = async |author| {
        let options = Options { author, access: access.clone(), ..Options::default() };
        Client::connect(server.clone(), options).await.map(|client| client.welcome())
    };
    let error = match connect(config.author.clone()).await {
        Err(error @ Error::TurnedAway(Refusal { code: Code::NotPermitted, .. })) => error,
        welcomed => return Ok(welcomed?),
    };
    let then = match &config.author {
        Some(name) if connect(None).await.is_ok() => {
            format!("; the name {name} is that of --name, DIARY_NAME or the configuration")
        }
        _ if server.journal.is_none() => format!("; a token for another journal logs in at {server}=JOURNAL"),
        _ => String::new(),
    };
    Err(CliError::Refused(format!("{error}{then}")))
}

/// Forgets the key and the token.
///
/// # Errors
/// There are none, or the file cannot be written.
pub(crate) fn forget(address: Option<Address>, config: &Config) -> Result<(), CliError> {
    let journal = address.is_none().then(|| config.server.journal.clone()).flatten();
    let server = address.unwrap_or_else(|| config.server.clone());
    let mut kept: Credentials = config.credentials.clone();
    // A journal that is only configured may have no token of its own.
    if !kept.forget(&server)
        && (journal.is_none() || !kept.forget(&Address { journal: None, ..server.clone() }))
    {
        return Err(CliError::NothingFound(format!("nothing is kept for {server}")));
    }
    kept.write(&file(config)?)?;
    Ok(print(format!("logged out: the key and the token of {server} are forgotten here\n"))?)
}

fn file(config: &Config) -> Result<std::path::PathBuf, CliError> {
    let path = config.file.as_deref().map(path_beside);
    path.ok_or_else(|| CliError::Usage("no folder for credentials; set HOME or XDG_CONFIG_HOME".to_owned()))
}

/// Decides how the server proves who it is from now on. Nothing but TLS handshakes is sent.
async fn whom_to_trust(
    server: &Address,
    expected: Option<Fingerprint>,
    before: Trust,
) -> Result<Trust, CliError> {
    if let Some(expected) = expected {
        identify(server, Trust::Pinned(expected)).await?;
        return Ok(Trust::Pinned(expected));
    }
    let (found, why) = match identify(server, Trust::System).await {
        Ok(None) => return Ok(Trust::System),
        Ok(Some(found)) => (found, None),
        Err(Error::Untrusted { found, why, .. }) => (found, Some(why)),
        Err(error) => return Err(error.into()),
    };
    if before == Trust::Pinned(found) {
        say(format_args!("{server} has the key that is known: {found}"));
        return Ok(before);
    }
    if let Trust::Pinned(before) = before {
        say(format_args!("the key of {server} has CHANGED: it was {before}"));
    }
    let Some(why) = why else {
        say(format_args!("this system trusts the certificate of {server}; the fingerprint is {found}"));
        return Ok(Trust::System);
    };
    say(format_args!("this system does not trust the certificate of {server}: {why}"));
    say(format_args!("the fingerprint is {found}"));
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(CliError::Refused(
            "if the server has printed the same fingerprint, add --fingerprint and its value".to_owned(),
        ));
    }
    say(format_args!("is it the one that the server prints when it starts? [yes/no]"));
    match typed_line().await?.trim() {
        "yes" => Ok(Trust::Pinned(found)),
        _ => Err(CliError::Refused("nothing was sent, and nothing is kept".to_owned())),
    }
}

/// Takes the token from a file, a pipe, or a person.
async fn take_token(path: Option<&Path>) -> Result<Credential, CliError> {
    if let Some(path) = path {
        return token_in(path).map_err(CliError::Usage);
    }
    if !io::stdin().is_terminal() {
        let why = |why| CliError::Usage(format!("the token on stdin {why}; --no-token logs in without one"));
        return read_token(io::stdin().lock()).map_err(why);
    }
    let hidden = Hidden::begin();
    say(format_args!("the token (what you type is not shown):"));
    let line = typed_line().await;
    drop(hidden);
    parse_token(&line?).map_err(|why| CliError::Usage(format!("the token {why}")))
}

/// Reads the token in a file.
///
/// # Errors
/// A sentence.
pub(crate) fn token_in(path: &Path) -> Result<Credential, String> {
    let file = File::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    read_token(file).map_err(|why| format!("the token in {} {why}", path.display()))
}

/// Waits for a line from the terminal.
async fn typed_line() -> Result<String, CliError> {
    // With handlers, Ctrl-C does not end the program before the terminal is as it was.
    let mut signals = Signals::at_a_terminal();
    let reading = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().lock().take(TYPED_MAX_BYTES).read_line(&mut line).map(|_| line)
    });
    tokio::select! {
        biased;
        () = signals.any() => Err(CliError::Interrupted("interrupted; nothing is kept".to_owned())),
        line = reading => {
            let line = line.unwrap_or_else(|error| Err(io::Error::other(error)));
            line.map_err(|error| CliError::Usage(format!("the input cannot be read: {error}")))
        }
    }
}

/// Keeps the terminal from showing what is typed, until it is dropped.
struct Hidden(Option<Termios>);

impl Hidden {
    fn begin() -> Self {
        let before = tcgetattr(io::stdin()).ok();
        if let Some(mut modes) = before.clone() {
            modes.local_modes.remove(LocalModes::ECHO);
            modes.local_modes.insert(LocalModes::ECHONL);
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &modes);
        }
        Self(before)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}
