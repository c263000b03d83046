//! `diary import` and `export`: round trips keep every entry once, interrupted or not, and unreadable lines are
//! reported.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use jiff::civil::DateTime;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::{
    Lines, Process, Ran, Relay, Server, Terminal, cli_command, peer, plain_server_command, run, soon, stored,
};

/// Diaries that each round-trip test fills and empties.
const ROUND_TRIPS: u32 = 12;

/// A directory with files, and its user.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, contents).unwrap();
        path
    }

    fn cli(&self, address: &str, words: &[&str]) -> Command {
        let mut command = cli_command();
        command.env("XDG_STATE_HOME", self.0.path().join("state"));
        command.env("XDG_CONFIG_HOME", self.0.path().join("config"));
        command.env("DIARY_SERVER", address).env("DIARY_NAME", "anna").env("TZ", "Asia/Shanghai");
        command.current_dir(self.0.path()).args(words);
        command
    }

    async fn run(&self, address: &str, words: &[&str]) -> Ran {
        run(&mut self.cli(address, words), "").await
    }

    /// Runs a command that must succeed; returns its stdout.
    async fn done(&self, address: &str, words: &[&str]) -> String {
        let ran = self.run(address, words).await;
        assert_eq!(ran.code, Some(0), "{words:?}: {ran:?}");
        ran.stdout
    }
}

/// Returns a transcript of the output.
fn transcript(words: &[&str], ran: &Ran) -> String {
    let Ran { code, stdout, stderr } = ran;
    format!("$ diary {}\n{stderr}{stdout}[{}]\n", words.join(" "), code.unwrap_or(-1))
}

fn objects(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns time, author and text of exported entries.
fn entries_of(lines: &str) -> Vec<Value> {
    let entry = |mut row: Value| {
        let time = row.get("at").unwrap_or(&row["time"]).clone();
        json!({"time": time, "author": row["author"].take(), "text": row["text"].take()})
    };
    objects(lines).into_iter().map(entry).collect()
}

/// Runs the async body of a proptest case.
fn in_runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().unwrap().block_on(test);
}

#[test]
fn own_json_round_trip() {
    let time = (-2_000_000_000_000_000i64..4_000_000_000_000_000, -1439i16..1440)
        .prop_map(|(micros, offset_minutes)| diary_proto::Time { micros, offset_minutes });
    // Small ranges, so that some entries are equal.
    let entry = (time, "anna|ben|小明", "[^\0]{1,20}|a");
    let entries = proptest::collection::vec(entry, 1..20).prop_flat_map(|entries| {
        let count = entries.len();
        (Just(entries), proptest::collection::vec(0..count, 0..10))
    });
    let config = Config { cases: ROUND_TRIPS, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&entries, |(entries, again)| {
            let mut all: Vec<_> =
                entries.iter().chain(again.iter().map(|&at| &entries[at])).cloned().collect();
            all.sort_by_key(|(time, ..)| time.micros);
            let rows = all.iter().map(
                |(time, author, text)| json!({"time": time.to_string(), "author": author, "text": text}),
            );
            let rows: Vec<Value> = rows.collect();
            in_runtime(async {
                let (home, server) = (Home::new(), Server::start().await);
                let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
                home.file("in.jsonl", lines.join("\n"));
                let count = rows.len();
                let said = home.done(server.address(), &["import", "in.jsonl"]).await;
                assert_eq!(said, format!("imported {count}, 0 duplicates, 0 unreadable\n"));
                let out = home.done(server.address(), &["export", "--format", "json"]).await;
                assert_eq!(entries_of(&out), rows);
                assert_eq!(out, home.done(server.address(), &["log", "-n", "all", "--json"]).await);
                home.file("out.jsonl", out);
                for file in ["in.jsonl", "out.jsonl"] {
                    let said = home.done(server.address(), &["import", file]).await;
                    assert_eq!(said, format!("imported 0, {count} duplicates, 0 unreadable\n"));
                }
            });
            Ok(())
        })
        .unwrap();
}

/// A word, and the tag that jrnl finds in it: a `#` or `@` at the start, and the tag characters after it.
fn word() -> impl Strategy<Value = (String, Option<String>)> {
    let plain =
        "[a-zA-Z0-9今天気.!?,\"\\\\\\[\\]é*][a-zA-Z0-9今.!?,\\]é#@*]{0,7}".prop_map(|word| (word, None));
    let tag = ("[#@][a-zA-Z0-9今天気éÉ_+*#/-]{1,8}", "([.!?,\"\\]@][a-z#@*.]{0,3})?");
    let tagged = tag.prop_map(|(tag, rest)| (format!("{tag}{rest}"), Some(tag.to_lowercase())));
    let no_tag = "[#@]([.,@][a-z#@*]{0,3})?".prop_map(|word| (word, None));
    prop_oneof![plain, tagged, no_tag]
}

/// A text with this number of words and these blanks between them, and its tags.
fn text(blanks: &'static str, count: Range<usize>) -> impl Strategy<Value = (String, BTreeSet<String>)> {
    proptest::collection::vec((blanks, word()), count).prop_map(|words| {
        let tags = words.iter().filter_map(|(_, (_, tag))| tag.clone()).collect();
        let mut text = String::new();
        for (blank, (word, _)) in words {
            text.push_str(if text.is_empty() { "" } else { &blank });
            text.push_str(&word);
        }
        (text, tags)
    })
}

/// An entry as written by jrnl, without its time.
fn jrnl_entry() -> impl Strategy<Value = Value> {
    (text(" {1,2}", 1..4), text("[ \t\n]{1,3}", 0..6), any::<bool>())
        // A star at the end of a title is not part of it.
        .prop_filter("jrnl writes no such title", |((title, _), _, starred)| {
            !(title.ends_with('*') || (*starred && title.starts_with('*')))
        })
        .prop_map(|((title, tags), (body, more), starred)| {
            let tags: Vec<_> = tags.union(&more).collect();
            json!({"title": title, "body": body, "tags": tags, "starred": starred})
        })
}

/// Returns jrnl's JSON of these entries: the entries, and how many have each tag.
fn jrnl_journal(entries: Vec<Value>) -> Value {
    let mut tags = BTreeMap::<String, u64>::new();
    for tag in entries.iter().flat_map(|entry| entry["tags"].as_array().unwrap()) {
        *tags.entry(tag.as_str().unwrap().to_owned()).or_default() += 1;
    }
    json!({"tags": tags, "entries": entries})
}

#[test]
fn jrnl_json_round_trip() {
    let civil = (0i64..3_000_000_000).prop_map(|seconds| {
        let time =
            DateTime::constant(1970, 1, 1, 0, 0, 0, 0) + jiff::SignedDuration::from_secs(seconds / 60 * 60);
        (time.strftime("%Y-%m-%d").to_string(), time.strftime("%H:%M").to_string())
    });
    let entries = proptest::collection::vec((civil, jrnl_entry()), 1..20);
    let config = Config { cases: ROUND_TRIPS, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&entries, |mut entries| {
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            let entries = entries.into_iter().map(|((date, time), mut entry)| {
                entry["date"] = date.into();
                entry["time"] = time.into();
                entry
            });
            let journal = jrnl_journal(entries.collect());
            in_runtime(async {
                let (home, server) = (Home::new(), Server::start().await);
                home.file("in.json", serde_json::to_string_pretty(&journal).unwrap());
                home.done(server.address(), &["import", "in.json"]).await;
                let out = home.done(server.address(), &["export", "--format", "jrnl-json"]).await;
                assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), journal);
                // Local times are compared, whatever the zone.
                let count = journal["entries"].as_array().unwrap().len();
                let said = home
                    .done(server.address(), &["import", "in.json", "--timezone", "America/New_York"])
                    .await;
                assert_eq!(said, format!("imported 0, {count} duplicates, 0 unreadable\n"));
            });
            Ok(())
        })
        .unwrap();
}

/// A journal with a bit of everything, some of it damaged.
const JOURNAL: &[u8] = b"[2015-03-02 08:15:02 AM] \xe4\xbb\x8a\xe5\xa4\xa9. Fog *\nbody\n\n[2015-03-02 09:00] twice\n\
    [2015-03-02 09:00] twice\n[2015-13-02 09:00] no month\nlost\n[2015-03-03 10:00] bad \xff\n[2015-03-04 10:00] last\n";

#[tokio::test]
async fn what_is_said() {
    let (home, server) = (Home::new(), Server::start().await);
    home.file("journal.txt", JOURNAL);
    home.file("daily.log", "[Mon Mar  2 08:15:02 2015] 今天\nand more\n");
    home.file("2015-03-05.log", "a\n08:15 b\n");
    home.file("empty.log", "");
    home.file("notes.txt", "2015-03-06T08:15:00+08:00 a\n");
    let mut said = String::new();
    for words in [
        &["import", "--dry-run", "journal.txt", "daily.log", "2015-03-05.log"][..],
        &["log"],
        &["import", "journal.txt"],
        &["import", "journal.txt"],
        &["import", "daily.log", "2015-03-05.log", "--author", "ben"],
        &["import", "daily.log"],
        &["import", "empty.log"],
        &["import", "--dry-run", "empty.log"],
        &["import", "notes.txt", "--format", "log"],
        &["import", "notes.txt"],
        &["import", "nothing.log"],
        &["import", "-", "-"],
        &["import", "journal.txt", "--timezone", "Nowhere"],
        &["export", "--format", "txt", "--author", "ben", "--output", "ben.txt"],
        &["export", "--format", "txt", "--author", "ben", "--output", "ben.txt"],
        &["export", "--format", "csv", "--author", "ben", "--output", "ben.txt", "--force"],
        &["export", "--format", "txt", "--author", "ben", "--output", "-"],
        &["import", "ben.txt"],
        &["export", "--format", "md", "--output", "no/folder.md"],
        &["export", "--format", "json", "--author", "nobody", "--output", "nobody.json"],
    ] {
        let ran = home.run(server.address(), words).await;
        said.push_str(&transcript(words, &ran));
    }
    assert!(
        fs::read_to_string(home.0.path().join("ben.txt"))
            .unwrap()
            .starts_with("seq,time,at,author,text,re,corrects\r\n")
    );
    let mut files: Vec<_> =
        fs::read_dir(home.0.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["2015-03-05.log", "ben.txt", "daily.log", "empty.log", "journal.txt", "notes.txt"]);
    insta::assert_snapshot!("import", said);
}

#[tokio::test]
async fn only_some_days() {
    let (home, server) =
        (Home::new(), Server::with(|config| config.day_start = "03:00".parse().unwrap()).await);
    home.file(
        "journal.txt",
        "[2015-03-02 08:15] a\n[2015-03-04 02:59] b\n[2015-03-04 03:00] c\n[2015-03-05 08:15] d\n",
    );
    let mut said = String::new();
    for words in [
        // As with `log`, the diary determines when a day starts.
        &["import", "journal.txt", "--from", "2015-03-03", "--to", "2015-03-03", "--dry-run"][..],
        &["import", "journal.txt", "--from", "2015-03-03", "--to", "Mar 4 2015"],
        &["import", "journal.txt", "--to", "2001"],
        &["import", "journal.txt", "--from", "2015-03-05", "--to", "2015-03-04"],
        &["import", "journal.txt", "--from", "someday"],
        &["import", "journal.txt"],
    ] {
        let ran = home.run(server.address(), words).await;
        said.push_str(&transcript(words, &ran));
    }
    insta::assert_snapshot!("import_days", said);
}

/// Archived entries cannot be compared, so they are not added again unless forced.
#[tokio::test]
async fn what_may_be_archived() {
    let (home, server) = (Home::new(), Server::start().await);
    const FIRST: &str = "[2015-03-02 09:00] a\n[2015-03-03 09:00] b\n";
    home.file("journal.txt", FIRST);
    home.done(server.address(), &["import", "journal.txt"]).await;
    let folder = server.stop().await;
    let mut archive = plain_server_command();
    archive.args(["archive", "--data"]).arg(folder.path());
    assert_eq!(run(&mut archive, "").await.code, Some(0));
    let server = Server::on(folder, |_| {}).await;

    home.file("journal.txt", format!("{FIRST}[2015-03-04 09:00] c\n"));
    home.file("later.jsonl", r#"{"time":"2999-01-01T09:00:00.000000+08:00","text":"d"}"#);
    let grown = format!("{FIRST}[2015-03-04 09:00] c\n[2015-03-05 09:00] e\n");
    let mut said = String::new();
    for words in [
        &["import", "journal.txt"][..],
        &["import", "journal.txt", "--dry-run"],
        // Nothing in the diary tells when its archived entries were written.
        &["import", "journal.txt", "--from", "2015-03-04"],
        &["import", "journal.txt", "--from", "2015-03-04", "--even-if-archived"],
        &["import", "journal.txt", "--from", "2015-03-04"],
        // The oldest remaining entry does.
        &["import", "later.jsonl"],
        &["import", "journal.txt", "later.jsonl"],
        &["export", "--format", "txt"],
    ] {
        let ran = home.run(server.address(), words).await;
        said.push_str(&transcript(words, &ran));
    }
    home.file("journal.txt", grown);
    let said_of_all = home.done(server.address(), &["import", "journal.txt", "--even-if-archived"]).await;
    assert_eq!(said_of_all, "imported 3, 1 duplicates, 0 unreadable\n");
    insta::assert_snapshot!("import_archived", said);
}

#[tokio::test]
async fn day_files_of_another_diary() {
    let (home, one, other) = (Home::new(), Server::start().await, Server::start().await);
    home.file("journal.txt", "[2015-03-02 08:15] a\n[2015-03-02 08:16] b *\nbody\n");
    home.done(one.address(), &["import", "journal.txt", "--author", "ben"]).await;
    home.done(one.address(), &["add", "of today"]).await;
    let files = crate::support::day_files(&one.journal());
    let file = files.first().unwrap().to_str().unwrap();
    for said in ["imported 3, 0 duplicates, 0 unreadable\n", "imported 0, 3 duplicates, 0 unreadable\n"] {
        assert_eq!(home.done(other.address(), &["import", file]).await, said);
    }
    let export = &["export", "--format", "json"];
    let exported = home.done(one.address(), export).await;
    let entries = entries_of(&exported);
    assert_eq!(entries_of(&home.done(other.address(), export).await), entries);
    // An export is imported elsewhere unchanged.
    let third = Server::start().await;
    home.file("exported.jsonl", exported);
    home.done(third.address(), &["import", "exported.jsonl"]).await;
    assert_eq!(entries_of(&home.done(third.address(), export).await), entries);
}

/// Returns a journal of `count` entries.
fn many(count: usize) -> String {
    let entry = |number: usize| {
        format!(
            "[2015-{:02}-{:02} 08:15] entry {number}\nwith a body\n\n",
            number / 28 % 12 + 1,
            number % 28 + 1
        )
    };
    (0..count).map(entry).collect()
}

/// Ends an import in the middle, and runs it again at once.
async fn ended_and_run_again(signal: Signal) -> Ran {
    const COUNT: usize = 60_000;
    let home = Home::new();
    let data = tempfile::tempdir().unwrap();
    let server = Process::start(data.path(), &["127.0.0.1:0"], &["--log", "error"]).await;
    home.file("journal.txt", many(COUNT));
    let mut follower = Lines::connect(server.address()).await;
    assert_eq!(follower.ask("/follow #1").await, "ok follow from 1");
    let command = &mut home.cli(server.address(), &["import", "journal.txt"]);
    let ended = async {
        follower.line().await;
    };
    let ran = end_once(command, signal, ended).await;
    drop(follower);

    home.done(server.address(), &["import", "journal.txt"]).await;
    let said = home.done(server.address(), &["import", "journal.txt"]).await;
    assert_eq!(said, "imported 0, 60,000 duplicates, 0 unreadable\n");
    server.stop().await;
    let texts = stored(&data.path().join("diary"));
    let distinct: BTreeSet<_> = texts.iter().map(|entry| entry.split_once(' ').unwrap().1).collect();
    assert_eq!((texts.len(), distinct.len()), (COUNT, COUNT));
    ran
}

/// Runs a command and sends it a signal once something has happened.
async fn end_once(command: &mut Command, signal: Signal, happened: impl Future<Output = ()>) -> Ran {
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    happened.await;
    assert_eq!(child.try_wait().unwrap(), None, "it still runs");
    kill_process(pid, signal).unwrap();
    let output = soon("it ends", child.wait_with_output()).await.unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[tokio::test]
async fn interrupted_in_the_middle() {
    let ran = ended_and_run_again(Signal::INT).await;
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(
        ran.stderr.starts_with("interrupted: ")
            && ran.stderr.ends_with("run the same command again to continue\n")
    );
    assert!(ran.stdout.starts_with("imported "), "{ran:?}");
}

#[tokio::test]
async fn interrupted_before_it_writes() {
    let home = Home::new();
    let stopped = |ran: Ran| {
        assert_eq!(
            (ran.code, ran.stderr.as_str()),
            (Some(130), "interrupted: nothing was imported\n"),
            "{ran:?}"
        );
    };
    // A file without an end.
    let pipe = home.0.path().join("pipe");
    assert!(soon("mkfifo", Command::new("mkfifo").arg(&pipe).status()).await.unwrap().success());
    let mut writer = None;
    let opened = async {
        let open = tokio::task::spawn_blocking(|| fs::File::options().write(true).open(pipe));
        writer = Some(soon("it reads", open).await.unwrap().unwrap());
    };
    stopped(end_once(&mut home.cli("127.0.0.1:1", &["import", "pipe"]), Signal::INT, opened).await);
    drop(writer);

    // A server that stays silent.
    home.file("journal.txt", many(3));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut silent = None;
    let connected = async {
        silent = Some(soon("it connects", listener.accept()).await.unwrap());
    };
    stopped(end_once(&mut home.cli(&address, &["import", "journal.txt"]), Signal::INT, connected).await);
}

/// The server goes away after the comparison and before the first write; some of the entries are stored
/// already.
#[tokio::test]
async fn a_server_that_is_gone_before_the_first_entry() {
    let (home, server) = (Home::new(), Server::start().await);
    let entry = |text: &str, minute: u8| format!("[2015-03-02 08:{minute:02}] {text}\n");
    let all: Vec<String> =
        ["a", "b", "c", "d", "e"].iter().zip(10..).map(|(text, at)| entry(text, at)).collect();
    home.file("some.txt", all.iter().step_by(2).cloned().collect::<String>());
    home.file("all.txt", all.concat());
    home.done(server.address(), &["import", "some.txt"]).await;
    // Two connections, for the comparison.
    let relay = Relay::start_for(server.address(), 2).await;
    let ran = home.run(relay.address(), &["import", "all.txt"]).await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert_eq!(ran.stdout, "imported 0, 3 duplicates, 0 unreadable\n");
    let sentence = ": 0 entries were imported; run the same command again to continue\n";
    assert!(
        ran.stderr.starts_with("no server is listening on ") && ran.stderr.ends_with(sentence),
        "{ran:?}"
    );
    let said = home.done(server.address(), &["import", "all.txt"]).await;
    assert_eq!(said, "imported 2, 3 duplicates, 0 unreadable\n");
}

#[tokio::test]
async fn a_bar_on_a_terminal_only() {
    const SAID: &str = "imported 60,000, 0 duplicates, 0 unreadable";
    let (home, server, other) = (Home::new(), Server::start().await, Server::start().await);
    home.file("journal.txt", many(60_000));
    let words = &["import", "journal.txt"];
    let mut terminal = Terminal::start(home.cli(server.address(), words));
    let seen = terminal.sees(" entries/s ").await;
    assert!(seen.contains("/60,000 "), "{seen:?}");
    terminal.ends_in(&[SAID]).await;
    assert_eq!(terminal.contents(), SAID, "the bar is gone");
    assert_eq!(terminal.ends().await.0, Some(0));

    let ran = home.run(other.address(), words).await;
    assert_eq!((ran.stdout, ran.stderr), (format!("{SAID}\n"), String::new()));
}

#[tokio::test]
async fn killed_in_the_middle() {
    for _ in 0..3 {
        assert_eq!(ended_and_run_again(Signal::KILL).await.code, None);
    }
}

#[tokio::test]
async fn a_real_jrnl_and_back() {
    // tests/run reports it if jrnl could not be installed.
    if std::env::var_os("DIARY_TEST_WITHOUT_JRNL").is_some() {
        return;
    }
    let (home, server) = (Home::new(), Server::start().await);
    let one = jrnl_config(&home, "one");
    for words in [
        &["2026-11-21 08:15: Fog on the hill. Then sun @work and @Home"][..],
        &["2015-03-02 23:59*: 今天天气很好。出去走走"],
        &["2026-11-20 12:00: A title\nA body\n\n[x] done @work\n[1] a note"],
        // jrnl's import does not keep the order of entries with equal times.
        &["2026-11-20 12:01: Only a title"],
        &["2026-11-20 12:02:33: With seconds. In two sentences"],
    ] {
        jrnl(&home, &one, words).await;
    }
    let before = jrnl(&home, &one, &["--format", "json"]).await;
    home.file("one.json", &before);

    // Its file, and its JSON, which is the same without seconds.
    let said = home.done(server.address(), &["import", "one.txt"]).await;
    assert_eq!(said, "imported 5, 0 duplicates, 0 unreadable\n");
    let said = home.done(server.address(), &["import", "one.json", "one.txt"]).await;
    assert_eq!(said, "imported 0, 10 duplicates, 0 unreadable\n");
    let other = Server::start().await;
    for (file, imported, there) in [("one.json", 5, 0), ("one.txt", 0, 5)] {
        let said = home.done(other.address(), &["import", file]).await;
        assert_eq!(said, format!("imported {imported}, {there} duplicates, 0 unreadable\n"), "{file}");
    }
    let ours = home.done(server.address(), &["export", "--format", "jrnl-json"]).await;
    assert_eq!(journal(&ours), journal(&before));

    // Every version of jrnl imports only its own format. Its JSON of our export must equal our own JSON.
    home.done(server.address(), &["export", "--format", "jrnl", "--output", "ours.txt"]).await;
    let two = jrnl_config(&home, "two");
    jrnl(&home, &two, &["--import", "--file", "ours.txt"]).await;
    let after = jrnl(&home, &two, &["--format", "json"]).await;
    assert_eq!(journal(&after), journal(&ours));
    let file = |name: &str| fs::read_to_string(home.0.path().join(name)).unwrap();
    assert_eq!(file("two.txt"), file("one.txt"));

    // jrnl splits two sentences into two lines, and drops blanks and blank lines: the entries still match.
    let three = jrnl_config(&home, "three");
    home.file(
        "three.txt",
        "[2015-03-05 10:00:30] A title. Its body\n[2015-03-05 10:01:30] A title\n\n  Its body\n[2015-03-05 10:02:30] Last\n",
    );
    let said = home.done(server.address(), &["import", "three.txt"]).await;
    assert_eq!(said, "imported 3, 0 duplicates, 0 unreadable\n");
    home.file("three.json", jrnl(&home, &three, &["--format", "json"]).await);
    jrnl(&home, &three, &["2015-03-06 12:00: One more"]).await;
    let rewritten = file("three.txt");
    assert!(rewritten.contains(" A title.\nIts body\n") && rewritten.contains(" A title\nIts body\n"));
    let said = home.done(server.address(), &["import", "three.json", "three.txt"]).await;
    assert_eq!(said, "imported 1, 6 duplicates, 0 unreadable\n");
}

fn jrnl_config(home: &Home, name: &str) -> String {
    let journal = home.0.path().join(name).with_extension("txt");
    let config = format!(
        "colors: {{body: none, date: none, tags: none, title: none}}\ndefault_hour: 9\ndefault_minute: 0\neditor: ''\n\
         encrypt: false\nhighlight: false\nindent_character: '|'\njournals:\n  default: {{journal: {}}}\nlinewrap: 79\n\
         tagsymbols: '@'\ntemplate: false\ntimeformat: '%F %r'\nversion: v4.6\n",
        journal.display()
    );
    home.file(&format!("{name}.yaml"), config).to_str().unwrap().to_owned()
}

async fn jrnl(home: &Home, config: &str, words: &[&str]) -> String {
    let mut command = peer("jrnl");
    command
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", home.0.path())
        .env("XDG_CONFIG_HOME", home.0.path().join("config"));
    command.current_dir(home.0.path()).args(["--config-file", config]).args(words);
    let ran = run(&mut command, "").await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.stdout
}

/// Parses a journal in JSON and sorts its tags, which have no order.
fn journal(said: &str) -> Value {
    let mut journal: Value = serde_json::from_str(said).unwrap();
    for entry in journal["entries"].as_array_mut().unwrap() {
        entry["tags"].as_array_mut().unwrap().sort_by_key(|tag| tag.as_str().unwrap().to_owned());
    }
    journal
}
