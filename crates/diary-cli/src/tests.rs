//! What people are told: every error of the client library, every usage error, and the help of each command.

use std::sync::Arc;
use std::time::Duration;

use diary_client::{Code, Refusal};
use insta::assert_snapshot;

use super::*;

/// Every error that the client library has.
fn errors() -> Vec<Error> {
    let address: diary_client::Address = "diary.example:8888".parse().unwrap();
    let io = |kind: io::ErrorKind| Arc::new(io::Error::from(kind));
    let refusal =
        Refusal::new(Code::Busy, "the server has no place for more than 100 connections; try later");
    vec![
        Error::BadAddress("diary.example".parse::<diary_client::Address>().unwrap_err()),
        Error::NothingListens(address.clone()),
        Error::NothingListens("unix:/run/diary.sock".parse().unwrap()),
        Error::UnknownHost { address: address.clone(), source: io(io::ErrorKind::NotFound) },
        Error::Unreachable { address: address.clone(), source: io(io::ErrorKind::PermissionDenied) },
        Error::Silent { address: address.clone(), limit: Duration::from_secs(5) },
        Error::NotADiary(address),
        Error::TurnedAway(refusal.clone()),
        Error::Bye("the server stops".to_owned()),
        Error::Broken(io(io::ErrorKind::ConnectionReset)),
        Error::Protocol("it greeted twice".to_owned()),
        Error::OtherJournal("its id is 0000000000000001, not 0000000000000002".to_owned()),
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
    let words = ["", "localhost", "::1:8888", ":8888", "a b:1", "localhost:", "localhost:65536", "unix:"];
    let said = words.map(|word| match word.parse::<diary_client::Address>() {
        Ok(address) => panic!("{address} is one"),
        Err(error) => format!("{word:?}: {error}"),
    });
    assert_snapshot!("bad_addresses", said.join("\n"));
}

#[test]
fn usage_errors() {
    let usages: &[&[&str]] = &[
        &["localhost"],
        &["serach"],
        &["folow"],
        &["lgo"],
        &["h:1", "log"],
        &["-n", "3", "log"],
        &["-n", "x"],
        &["--name", "a b"],
        &["--color", "red"],
        &["add"],
        &["search"],
        &["log", "--format", "xml"],
        &["log", "--on", "today", "--from", "today"],
        &["log", "--lats", "3"],
        &["outbox", "dorp"],
        &["completions", "tcsh"],
    ];
    let said = usages.iter().map(|words| {
        let error = Args::of([&["diary-cli"], *words].concat()).unwrap_err();
        format!("$ diary-cli {}\n{error}", words.join(" "))
    });
    assert_snapshot!("usage_errors", said.collect::<Vec<_>>().join("\n"));
}

#[test]
fn help_of_each_command() {
    let mut command = args::command().term_width(100);
    command.build();
    assert_snapshot!("help", command.render_long_help());
    for subcommand in command.get_subcommands_mut().filter(|command| command.get_name() != "help") {
        let name = format!("help_{}", subcommand.get_name());
        assert_snapshot!(name, subcommand.clone().term_width(100).render_long_help());
    }
}
