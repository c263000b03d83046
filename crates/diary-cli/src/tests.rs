//! User-facing texts: every error of the client library, every usage error, and the help of each command.

use std::sync::Arc;
use std::time::Duration;

use diary_client::{Code, Error, Refusal};
use insta::assert_snapshot;

use std::io;

use super::*;
use crate::error::unreachable_sentence;

/// Returns every error of the client library.
fn errors() -> Vec<Error> {
    let address: diary_client::Address = "diary.example:8888".parse().unwrap();
    let tls: diary_client::Address = "tls:diary.example:8888".parse().unwrap();
    let fingerprint = |byte: &str| format!("sha256:{}", byte.repeat(32)).parse().unwrap();
    let io = |kind: io::ErrorKind| Arc::new(io::Error::from(kind));
    let not_a_diary = |says: &str, looks_like| {
        let (address, says) = (address.clone(), says.to_owned());
        Error::NotADiary { address, says, looks_like }
    };
    let refusal =
        Refusal::new(Code::Busy, "the server has no place for more than 100 connections; try later");
    vec![
        Error::BadAddress("http://diary.example".parse::<diary_client::Address>().unwrap_err()),
        Error::NothingListens(address.clone()),
        Error::NothingListens("unix:/run/diary.sock".parse().unwrap()),
        Error::UnknownHost { address: address.clone(), source: io(io::ErrorKind::NotFound) },
        Error::Unreachable { address: address.clone(), source: io(io::ErrorKind::PermissionDenied) },
        Error::Silent { address: address.clone(), limit: Duration::from_secs(5) },
        Error::NoWelcome { address: address.clone(), limit: Duration::from_secs(5) },
        not_a_diary("SSH-2.0-OpenSSH_9.6", Some("SSH")),
        not_a_diary("hello", None),
        not_a_diary("", None),
        Error::TurnedAway(refusal.clone()),
        Error::TurnedAway(Refusal::new(Code::BadToken, "this token is not known here")),
        Error::TurnedAway(Refusal::new(Code::NotPermitted, "nothing can be done here without a token")),
        Error::Tls { address: tls.clone(), why: "it does not speak TLS".to_owned() },
        Error::ChangedKey { address: tls.clone(), expected: fingerprint("1f"), found: fingerprint("2e") },
        Error::Untrusted { address: tls, found: fingerprint("2e"), why: "its issuer is unknown".to_owned() },
        Error::PlainToken(address.clone()),
        Error::Bye("the server stops".to_owned()),
        Error::Broken(io(io::ErrorKind::ConnectionReset)),
        Error::Protocol("second welcome".to_owned()),
        Error::OtherJournal("its id is 0000000000000001, not 0000000000000002".to_owned()),
        Error::Restored("this journal lacks the entry that you saw last".to_owned()),
        Error::Refused(refusal),
        Error::Closed,
        Error::NoSecret("the system has none".to_owned()),
    ]
}

#[test]
fn every_error_is_one_sentence() {
    let sentences: Vec<String> = errors().iter().map(unreachable_sentence).collect();
    assert!(sentences.iter().all(|sentence| !sentence.contains('\n') && !sentence.ends_with('.')));
    assert_snapshot!("errors", sentences.join("\n"));
}

#[test]
fn bad_addresses() {
    let words = [
        "",
        "::1:8888",
        "::1",
        "fe80::1%eth0",
        ":8888",
        "a b:1",
        "localhost:",
        "localhost:65536",
        "localhost:1:2",
        "tls:",
        "tls:::1",
        "unix:",
        "/run/diary.sock",
        "http://diary.example/",
        "https://diary.example:8888",
        "tcp://",
        "\u{1b}[2J",
    ];
    let said = words.map(|word| match word.parse::<diary_client::Address>() {
        Ok(address) => panic!("{address} is one"),
        Err(error) => format!("{word:?}: {error}"),
    });
    assert_snapshot!("bad_addresses", said.join("\n"));
}

#[test]
fn usage_errors() {
    let usages: &[&[&str]] = &[
        &["myhost"],
        &["status"],
        &["serach"],
        &["folow", "--last", "3"],
        &["lgo", "x"],
        &["::1"],
        &["diary.example:88888"],
        &["h:1", "i:2"],
        &["h:1", "log"],
        &["log", "h:1"],
        &["log", "yesterday"],
        &["h:1", "--server", "i:2"],
        &["--server", "http://h/"],
        &["--server"],
        &["-n", "3", "log"],
        &["-n", "x"],
        &["--name", "a b"],
        &["--name"],
        &["--color", "red"],
        &["--colour", "red"],
        &["--name", "a", "--name", "b"],
        &["add"],
        &["add", "--not", "that"],
        &["search"],
        &["log", "--format", "xml"],
        &["log", "--format"],
        &["log", "--json=1"],
        &["log", "--on", "today", "--from", "today"],
        &["log", "--lats", "3"],
        &["log", "--tag", "a b"],
        &["stats", "--by", "decade"],
        &["stats", "--by", "day", "--json"],
        &["stats", "--year", "26000"],
        &["stats", "--year", "abc"],
        &["tags", "--format", "csv"],
        &["log", "--zzz"],
        &["log", "--zzz\u{1b}[2J"],
        &["import"],
        &["import", "a", "--format", "xml"],
        &["import", "a", "--timezone", "Nowhere"],
        &["export"],
        &["export", "--format", "pretty"],
        &["export", "--format", "json", "--force"],
        &["login", "tls:"],
        &["login", "--fingerprint", "sha256:12"],
        &["login", "tls:h:1", "--server", "i:2"],
        &["login", "--no-token", "--token-file", "a"],
        &["outbox", "dorp"],
        &["outbox", "drop"],
        &["outbox", "zzz"],
        &["completions", "tcsh"],
        &["completions"],
    ];
    let said = usages.iter().map(|words| match Args::of([&["diary"], *words].concat()) {
        Err(error) if error.use_stderr() => {
            format!("$ diary {}\n{error}", words.join(" ").escape_debug())
        }
        other => panic!("{words:?}: {other:?}"),
    });
    assert_snapshot!("usage_errors", said.collect::<Vec<_>>().join("\n"));
}

#[test]
fn help_of_each_command() {
    let mut command = <cli::Args as clap::CommandFactory>::command().term_width(100);
    command.build();
    assert_snapshot!("help", command.render_long_help());
    for subcommand in command.get_subcommands_mut().filter(|command| command.get_name() != "help") {
        let name = format!("help_{}", subcommand.get_name());
        assert_snapshot!(name, subcommand.clone().term_width(100).render_long_help());
    }
}
