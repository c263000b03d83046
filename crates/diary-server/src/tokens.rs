//! The commands for tokens: add, list, remove.

use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;

use anyhow::Context;
use diary_access::{Access, AccessFile, ChangeError, Grant, LastUse, parse_expiry};
use diary_engine::maintenance;
use diary_proto::JournalName;
use jiff::{Timestamp, Zoned};

use crate::config::TokenAction;

/// Runs a command and reports on `out`. What is only for people goes to stderr: the token is alone on stdout.
pub(crate) fn run(action: TokenAction, out: &mut impl Write) -> anyhow::Result<()> {
    let (TokenAction::Add { data, .. } | TokenAction::List { data } | TokenAction::Remove { data, .. }) =
        &action;
    let data = data.clone().path().context("there is no home folder; say where the diary is with --data")?;
    let file = AccessFile::at(&data);
    match action {
        TokenAction::Add { name, can, journal, expires, .. } => {
            let now = Zoned::now();
            let expires =
                expires.map(|when| parse_expiry(&when, &now).with_context(|| format!("--expires {when}")));
            let (grant, token) = Grant::issue(name, can, journal, now.timestamp(), expires.transpose()?)
                .context("the system has no random bytes")?;
            let first = file.read()?.is_none();
            if !data.exists() {
                let _ = writeln!(io::stderr(), "there is no {} yet, so it is made", data.display());
            }
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&data)
                .with_context(|| format!("cannot make {}", data.display()))?;
            let journals = grant.journals.clone();
            file.change(|access| access.add(grant))?;
            // If they cannot be listed, the server says why.
            let known = maintenance::journals(&data).unwrap_or_default();
            if !journals.cover(JournalName::default().as_str())
                && !known.iter().any(|name| journals.cover(name.as_str()))
            {
                let _ = writeln!(
                    io::stderr(),
                    "no journal is called {journals} so far; `diary-server journal add NAME` makes one"
                );
            }
            if first {
                // Whoever has no log of this is told here, or nowhere.
                let _ = writeln!(
                    io::stderr(),
                    "tokens are in use from now on, and within a second where a server runs: without one, nothing can be read or written but by the server's own \
                     user on a Unix socket, and what --loopback-can, --unix-can, --allow and --open let in"
                );
            }
            writeln!(out, "{}", token.reveal())?;
        }
        TokenAction::List { .. } => {
            let (access, used) = (file.read()?.unwrap_or_default(), file.read_last_use()?);
            print_list(&access, &used, out)?;
        }
        TokenAction::Remove { name, .. } => {
            // A file made only to say that nobody is in it would let nobody in.
            if file.read()?.is_none() {
                return Err(ChangeError::UnknownName(name).into());
            }
            let left = file.change(|access| {
                access.remove(&name)?;
                Ok(access.grants().count())
            })?;
            if left == 0 {
                let path = file.path().display();
                let _ = writeln!(
                    io::stderr(),
                    "no tokens are left, so nobody can log in; to stop using tokens, remove {path} and restart the server"
                );
            }
            writeln!(out, "removed the token {name}; a running server knows within a second")?;
        }
    }
    Ok(())
}

fn print_list(access: &Access, used: &LastUse, out: &mut impl Write) -> io::Result<()> {
    let now = Timestamp::now();
    let mut rows = vec![["name", "rights", "journals", "last use", "expires"].map(str::to_owned)];
    rows.extend(access.grants().map(|grant| {
        let Grant { name, rights, journals, expires, .. } = grant;
        let expires = match expires {
            None => "never".to_owned(),
            Some(time) if grant.is_expired(now) => format!("{time} (has expired)"),
            Some(time) => time.to_string(),
        };
        let last = used.of(grant).map_or_else(|| "never".to_owned(), |time| time.to_string());
        [name.to_string(), rights.to_string(), journals.to_string(), last, expires]
    }));
    let widths: [usize; 5] =
        std::array::from_fn(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default());
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
