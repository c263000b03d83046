//! `diary log`, `search` and `follow`: selection of entries, exit codes, and that a follow resumes.

use std::path::Path;
use std::process::Stdio;

use diary_proto::Time;
use jiff::tz::TimeZone;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::net::TcpSocket;
use tokio::process::{Child, ChildStdout, Command};

use crate::support::{Process, Ran, Server, Terminal, cli_command, day_files, peer, run, seq, soon};

/// Returns a `diary` command for the server at `address`, with settings in `home`.
fn cli(home: &Path, address: &str, words: &[&str]) -> Command {
    let mut command = cli_command();
    command.env("XDG_STATE_HOME", home.join("state")).env("XDG_CONFIG_HOME", home.join("config"));
    command.env("TZ", "UTC").args(words).args(["--server", address]);
    command
}

/// Returns the seqs of the printed entries.
fn seqs(ran: &Ran) -> Vec<u64> {
    ran.stdout.lines().filter_map(seq).collect()
}

/// Writes these as anna and ben in turn.
async fn write(address: &str, texts: &[&str]) {
    let mut anna = crate::support::Lines::connect(address).await;
    let mut ben = crate::support::Lines::connect(address).await;
    anna.ask("/name anna").await;
    ben.ask("/name ben").await;
    for (text, number) in texts.iter().zip(0..) {
        let writer = if number % 2 == 0 { &mut anna } else { &mut ben };
        let ack = writer.ask(text).await;
        assert!(ack.starts_with("ok "), "{ack}");
    }
}

/// A running follow.
struct Follow {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follow {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn seqs(&mut self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            let line = soon("an entry comes", self.lines.next_line()).await.unwrap().expect("it goes on");
            seqs.push(seq(&line).unwrap());
        }
        seqs
    }

    /// Sends it a signal; returns its exit code.
    async fn end(mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
        soon("it ends", self.child.wait()).await.unwrap().code()
    }
}

#[tokio::test]
async fn wrong_words_cost_no_connection() {
    let home = tempfile::tempdir().unwrap();
    for (words, part) in [
        (&["log", "--on", "someday"][..], "\"someday\" is not a date; try 2026-11-21"),
        (&["search", "a", "--from", "today", "--to", "yesterday"], "the first day of a range comes first: "),
        (&["log", "--last", "few"], "--last takes a number or all"),
        (&["log", "--csv-safe"], "--csv-safe needs --format csv"),
        (&["follow", "--csv-safe", "--format", "json"], "--csv-safe needs --format csv"),
        (&["export", "--csv-safe", "--format", "txt"], "--csv-safe needs --format csv"),
        (&["search", ""], "the text to search for is empty"),
        (&["follow", "--reverse"], "unexpected argument '--reverse'"),
        (&["follow", "--to", "yesterday"], "is over, so nothing can follow; use log"),
    ] {
        let ran = run(&mut cli(home.path(), "127.0.0.1:1", words), "").await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{words:?}: {ran:?}");
        assert!(ran.stderr.contains(part), "{words:?}: {ran:?}");
    }
}

#[tokio::test]
async fn nothing_listens() {
    let home = tempfile::tempdir().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    for words in [&["log"][..], &["search", "a"], &["follow"]] {
        let ran = run(&mut cli(home.path(), &address, words), "").await;
        assert_eq!(ran.stderr, format!("no server is listening on {address}; start one with diary-server\n"));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""));
    }
}

#[tokio::test]
async fn log_and_search_with_conditions() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    write(server.address(), &["Rain", "rain", "snow", "今天下雨", "rain, snow", "sun"]).await;
    for (words, expected, said) in [
        (&["log"][..], &[1, 2, 3, 4, 5, 6][..], "the newest 20\n"),
        (&["log", "--last", "2"], &[5, 6], ""),
        (&["log", "--last", "all", "--reverse"], &[6, 5, 4, 3, 2, 1], ""),
        (&["log", "--author", "anna"], &[1, 3, 5], ""),
        (&["log", "--author", "anna", "--last", "2"], &[3, 5], ""),
        (&["log", "--author", "anna", "--last", "2", "--reverse"], &[5, 3], ""),
        (&["log", "--not", "rain", "--not", "雨"], &[3, 6], ""),
        (&["log", "--contains", "rain", "--contains", "snow"], &[5], ""),
        (&["log", "--author", "ann"], &[], "no entries by ann\n"),
        (&["log", "--author", "Anna"], &[], "no entries by Anna\n"),
        (&["log", "--json", "--author", "nobody"], &[], "no entries by nobody\n"),
        (&["search", "rain"], &[1, 2, 5], ""),
        (&["search", "Rain"], &[1], ""),
        (&["search", "下雨"], &[4], ""),
        (&["search", "rain", "--not", "snow", "--author", "ben"], &[2], ""),
        (&["search", "rain", "--last", "1"], &[5], ""),
        (&["search", "fog", "--not", "sun"], &[], "no entries with \"fog\" without \"sun\"\n"),
        (&["log", "--last", "0"], &[], "--last 0 selects no entries\n"),
        (&["log", "-n", "2"], &[5, 6], ""),
    ] {
        let ran = run(&mut cli(home.path(), server.address(), words), "").await;
        assert_eq!((seqs(&ran), ran.stderr.as_str()), (expected.to_vec(), said), "{words:?}");
        assert_eq!(ran.code, Some(i32::from(expected.is_empty())), "{words:?}");
    }
    server.stop().await;
}

/// The server's days are Shanghai's; these readers are up to a day behind or ahead.
#[tokio::test]
async fn days_are_those_of_the_reader() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    let mut writer = server.lines().await;
    let ack = writer.ask("now").await;
    let time = Time::parse(ack.split(' ').nth(2).unwrap().as_bytes()).unwrap();
    for zone in ["Pacific/Honolulu", "UTC", "Asia/Shanghai", "Pacific/Kiritimati"] {
        let day = time.in_zone(&TimeZone::get(zone).unwrap()).date();
        for (date, found) in
            [(day.yesterday().unwrap(), false), (day, true), (day.tomorrow().unwrap(), false)]
        {
            let date = date.to_string();
            for words in [
                &["log", "--on", &date][..],
                &["log", "--json", "--on", &date],
                &["search", "now", "--from", &date, "--to", &date],
            ] {
                let ran = run(cli(home.path(), server.address(), words).env("TZ", zone), "").await;
                assert_eq!(ran.stdout.lines().count(), usize::from(found), "{zone} {words:?}: {ran:?}");
                assert!(ran.stderr.starts_with(&date), "it says the day: {ran:?}");
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_follow_shows_what_was_asked_for_and_then_what_comes() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    write(server.address(), &["one", "two", "three", "four"]).await;
    let follow = |words: &[&str]| Follow::start(cli(home.path(), server.address(), words));
    let mut last = follow(&["follow", "--last", "2"]);
    let mut anna = follow(&["follow", "--author", "anna", "--last", "1", "--not", "seven"]);
    assert_eq!(last.seqs(2).await, [3, 4]);
    assert_eq!(anna.seqs(1).await, [3]);
    write(server.address(), &["five", "six", "seven", "eight", "nine"]).await;
    assert_eq!(last.seqs(5).await, [5, 6, 7, 8, 9]);
    assert_eq!(anna.seqs(2).await, [5, 9]);
    assert_eq!(last.end(Signal::INT).await, Some(130));
    assert_eq!(anna.end(Signal::INT).await, Some(130));
    server.stop().await;
}

#[tokio::test]
async fn a_follow_goes_on_where_it_stopped_through_restarts_of_either_side() {
    let (home, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cursor = home.path().join("cursor");
    let mut server = Process::start(data.path(), &["127.0.0.1:0"], &[]).await;
    let address = server.address().to_owned();
    write(&address, &["1", "2", "3"]).await;
    let words = ["follow", "--cursor", cursor.to_str().unwrap(), "--last", "2"];
    let mut follow = Follow::start(cli(home.path(), &address, &words));
    assert_eq!(follow.seqs(2).await, [2, 3]);
    write(&address, &["4", "5"]).await;
    assert_eq!(follow.seqs(2).await, [4, 5]);
    assert_eq!(follow.end(Signal::INT).await, Some(130));

    // Entries arrive and the server is killed while nobody follows.
    write(&address, &["6", "7"]).await;
    server.signal(Signal::KILL);
    server.wait().await;
    server = Process::start(data.path(), &[&address], &[]).await;
    let mut follow = Follow::start(cli(home.path(), &address, &words));
    assert_eq!(follow.seqs(2).await, [6, 7], "neither a gap nor a double");
    server.signal(Signal::TERM);
    server.wait().await;
    server = Process::start(data.path(), &[&address], &[]).await;
    write(&address, &["8"]).await;
    assert_eq!(follow.seqs(1).await, [8]);
    assert_eq!(follow.end(Signal::INT).await, Some(130));
    let written = std::fs::read_to_string(&cursor).unwrap();
    assert_eq!(written.split(' ').nth(1), Some("8"), "{written}");
    server.stop().await;

    let other = Server::start().await;
    let ran = run(&mut cli(home.path(), other.address(), &words), "").await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), ""));
    assert!(ran.stderr.contains("belongs to journal "), "{ran:?}");
    assert_eq!(std::fs::read_to_string(&cursor).unwrap(), written);
    other.stop().await;
}

/// Copies a directory of day files.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => _ = std::fs::copy(entry.path(), to).unwrap(),
        }
    }
}

/// A diary, an older copy of it with two entries, and a follow whose cursor has printed four.
#[tokio::test]
async fn a_cursor_of_a_diary_that_was_restored_is_told_and_refused() {
    let (home, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (cursor, older) = (home.path().join("cursor"), home.path().join("older"));
    let server = Process::start(data.path(), &["127.0.0.1:0"], &[]).await;
    let address = server.address().to_owned();
    write(&address, &["1", "2"]).await;
    server.stop().await;
    copy(data.path(), &older);
    let server = Process::start(data.path(), &[&address], &[]).await;
    write(&address, &["3", "4"]).await;
    let words = ["follow", "--cursor", cursor.to_str().unwrap(), "--last", "all"];
    let mut follow = Follow::start(cli(home.path(), &address, &words));
    assert_eq!(follow.seqs(4).await, [1, 2, 3, 4]);
    assert_eq!(follow.end(Signal::INT).await, Some(130));
    let written = std::fs::read(&cursor).unwrap();
    server.stop().await;

    std::fs::remove_dir_all(data.path()).unwrap();
    copy(&older, data.path());
    let server = Process::start(data.path(), &[&address], &[]).await;
    // First the diary ends before the cursor; then it has another entry there.
    for texts in [&[][..], &["other 3", "other 4", "other 5"]] {
        write(&address, texts).await;
        let ran = run(&mut cli(home.path(), &address, &words), "").await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), ""), "{ran:?}");
        assert!(
            ran.stderr.contains("is at entry 4, but this journal has a different entry there or none"),
            "{ran:?}"
        );
        assert_eq!(std::fs::read(&cursor).unwrap(), written);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_follow_goes_on_in_a_diary_that_was_restored() {
    let (home, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let older = home.path().join("older");
    let server = Process::start(data.path(), &["127.0.0.1:0"], &[]).await;
    let address = server.address().to_owned();
    write(&address, &["1", "2"]).await;
    server.stop().await;
    copy(data.path(), &older);
    let server = Process::start(data.path(), &[&address], &[]).await;
    write(&address, &["3", "4"]).await;
    let cursor = home.path().join("cursor");
    let words = ["follow", "--last", "1", "--cursor", cursor.to_str().unwrap()];
    let mut follow = Follow::start(cli(home.path(), &address, &words));
    assert_eq!(follow.seqs(1).await, [4]);
    let mut said = BufReader::new(follow.child.stderr.take().unwrap()).lines();
    server.stop().await;

    std::fs::remove_dir_all(data.path()).unwrap();
    copy(&older, data.path());
    let server = Process::start(data.path(), &[&address], &[]).await;
    let expected =
        "the diary was restored from an older copy and now ends with entry 2; only newer entries follow";
    while soon("it is told", said.next_line()).await.unwrap().expect("it goes on") != expected {}
    assert_eq!(follow.end(Signal::INT).await, Some(130));
    // The cursor has a checksum as usual, so that an older copy is not mistaken for this diary.
    let written = std::fs::read_to_string(&cursor).unwrap();
    let place: Vec<&str> = written.split_whitespace().collect();
    assert!(place[1] == "2" && place[2].len() == 8, "{written}");

    let mut follow = Follow::start(cli(home.path(), &address, &words));
    write(&address, &["other 3"]).await;
    assert_eq!(follow.seqs(1).await, [3]);
    assert_eq!(follow.end(Signal::INT).await, Some(130));
    server.stop().await;
}

/// A conversation goes on as well, and sends what is typed.
#[tokio::test]
async fn a_conversation_goes_on_in_a_diary_that_was_restored() {
    let (home, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let older = home.path().join("older");
    let server = Process::start(data.path(), &["127.0.0.1:0"], &[]).await;
    let address = server.address().to_owned();
    write(&address, &["1", "2"]).await;
    server.stop().await;
    copy(data.path(), &older);
    let server = Process::start(data.path(), &[&address], &[]).await;
    write(&address, &["3", "4"]).await;
    let mut terminal = Terminal::start(cli(home.path(), &address, &[]));
    terminal.sees("ben 4").await;
    server.stop().await;
    std::fs::remove_dir_all(data.path()).unwrap();
    copy(&older, data.path());
    let server = Process::start(data.path(), &[&address], &[]).await;
    terminal.sees("restored from an older copy and now ends with entry 2").await;
    write(&address, &["other 3"]).await;
    terminal.sees("anna other 3").await;
    terminal.types("mine\r").await;
    terminal.sees(&format!("ok 4 on {address}")).await;
    server.stop().await;
}

/// Another diary has taken the address: the user is told, and typed entries stay in the outbox.
#[tokio::test]
async fn a_conversation_does_not_go_on_in_another_journal() {
    let (home, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Process::start(data.path(), &["127.0.0.1:0"], &[]).await;
    let address = server.address().to_owned();
    let mut terminal = Terminal::start(cli(home.path(), &address, &[]));
    terminal.types("here\r").await;
    terminal.sees(&format!("ok 1 on {address}")).await;
    server.stop().await;
    std::fs::remove_dir_all(data.path()).unwrap();
    let server = Process::start(data.path(), &[&address], &[]).await;
    terminal.sees("what you type is only saved").await;
    terminal.types("not there\r").await;
    terminal.sees("1 unsent").await;
    terminal.types("\x04").await;
    let (code, seen) = terminal.ends().await;
    let told = "1 entry was not acked: kept in ";
    assert!(code == Some(5) && seen.contains(told) && seen.contains("; see diary outbox"), "{code:?} {seen}");
    assert!(day_files(&data.path().join("diary")).is_empty());
    server.stop().await;
}

/// Entries that were not printed do not advance the cursor: it depends on the reader of the output.
#[tokio::test]
async fn a_reader_that_leaves_ends_it_quietly() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    let mut writer = server.lines().await;
    writer.send("a line that fills pipes\n".repeat(10_000)).await;
    for _ in 0..10_000 {
        writer.line().await;
    }
    let cursor = home.path().join("cursor");
    let cursor = cursor.to_str().unwrap();
    let script = r#""$@" | head -n 1; exit "${PIPESTATUS[0]}""#;
    for words in [
        &["log", "--last", "all"][..],
        &["search", "line"],
        &["follow", "--last", "all"],
        &["follow", "--last", "all", "--cursor", cursor],
    ] {
        let mut command = peer("bash");
        command.env("XDG_STATE_HOME", home.path()).env("XDG_CONFIG_HOME", home.path());
        command.args(["-c", script, "bash", env!("CARGO_BIN_EXE_diary-cli-under-test")]).args(words);
        let ran = run(command.args(["--server", server.address()]), "").await;
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{words:?}");
        assert!(ran.stdout.lines().count() == 1 && ran.stdout.starts_with("1 "), "{ran:?}");
    }
    assert!(!Path::new(cursor).exists());
    server.stop().await;
}

#[tokio::test]
async fn damage_is_told_and_is_an_exit_code_of_its_own() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    write(server.address(), &["one", "two", "three"]).await;
    let file = day_files(&server.journal()).remove(0);
    let folder = server.stop().await;
    let bytes = String::from_utf8(std::fs::read(&file).unwrap()).unwrap();
    std::fs::write(&file, bytes.replace(" two\t", " tvo\t")).unwrap();
    let server = Server::on(folder, |_| {}).await;
    write(server.address(), &["four"]).await;
    let gap = "gap 2..2: these entries are damaged or missing";
    for (words, lines) in [
        (&["log", "--last", "all"][..], &["1 ", gap, "3 ", "4 "][..]),
        (&["log", "--last", "all", "--reverse"], &["4 ", "3 ", gap, "1 "]),
        // The content of the lost entry is unknown, so it may be a hit.
        (&["search", "o"], &["1 ", gap, "4 "]),
        (&["search", "three", "--author", "anna"], &[gap, "3 "]),
        (&["search", "one"], &["1 ", gap]),
        (&["search", "nothing"], &[gap]),
        (&["search", "o", "--last", "1"], &[gap, "4 "]),
    ] {
        let ran = run(&mut cli(home.path(), server.address(), words), "").await;
        let fits = ran.stdout.lines().zip(lines).all(|(line, begin)| line.starts_with(begin));
        assert!(fits && ran.stdout.lines().count() == lines.len(), "{words:?}: {ran:?}");
        assert_eq!(ran.code, Some(if lines.contains(&gap) { 6 } else { 0 }), "{words:?}: {ran:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_search_tells_a_gap_at_the_end_of_its_range() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    write(server.address(), &["one", "two", "three"]).await;
    let file = day_files(&server.journal()).remove(0);
    let bytes = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, bytes.replace(" three\t", " threa\t")).unwrap();
    let ran = run(&mut cli(home.path(), server.address(), &["search", "o"]), "").await;
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines.len() == 3 && lines[2].starts_with("gap 3..3"), "{ran:?}");
    assert_eq!(ran.code, Some(6));
    server.stop().await;
}

#[tokio::test]
async fn a_large_answer_comes_whole_in_either_direction() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    let mut writer = server.lines().await;
    writer.send(format!("{}\n", "x".repeat(1000)).repeat(8_000)).await;
    for _ in 0..8_000 {
        writer.line().await;
    }
    for (words, expected) in [
        (&["log", "--last", "all", "--reverse"][..], (1..=8_000).rev().collect::<Vec<u64>>()),
        (&["search", "x", "--last", "5000"], (3_001..=8_000).collect()),
        (&["search", "x", "--last", "5000", "--reverse"], (3_001..=8_000).rev().collect()),
        (&["search", "x", "--last", "2"], vec![7_999, 8_000]),
    ] {
        let ran = run(&mut cli(home.path(), server.address(), words), "").await;
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{words:?}");
        assert!(seqs(&ran) == expected, "{words:?}");
        assert!(ran.stdout.lines().all(|line| line.len() > 1000), "{words:?}");
    }
    server.stop().await;
}

/// The newest entries of some days. Days depend on the reader's zone, so the client selects them.
#[tokio::test]
async fn the_newest_of_some_days_and_either_order() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    let home_path = home.path();
    let add = async |at: &str, text: &str| {
        let ran = run(&mut cli(home_path, server.address(), &["add", "--at", at, text]), "").await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
    };
    for (at, text) in [
        ("2015-03-01 08:00", "fog one"),
        ("2015-03-02 09:00", "fog two"),
        ("2015-03-02 08:00", "fog three"),
        ("2015-03-03 08:00", "sun"),
        ("2015-03-01 07:00", "fog five"),
        ("2016-01-01 08:00", "fog six"),
    ] {
        add(at, text).await;
    }
    let march = ["--from", "2015-03-01", "--to", "2015-03-31"];
    for (words, expected) in [
        (&["--last", "2"][..], &[4, 5][..]),
        (&["--last", "2", "--reverse"], &[5, 4]),
        (&["--reverse"], &[5, 4, 3, 2, 1]),
        (&["--last", "2", "--contains", "fog"], &[3, 5]),
        (&["--last", "2", "--contains", "fog", "--reverse"], &[5, 3]),
        (&["--last", "9"], &[1, 2, 3, 4, 5]),
        (&["--last", "0"], &[]),
    ] {
        for command in [&["log"][..], &["export", "--format", "txt"]] {
            let words = [command, &march, words].concat();
            let ran = run(&mut cli(home_path, server.address(), &words), "").await;
            if command == ["log"] {
                assert_eq!(seqs(&ran), expected, "{words:?}: {ran:?}");
            }
            assert_eq!(ran.code, Some(i32::from(expected.is_empty())), "{words:?}: {ran:?}");
        }
    }
    // A single day is sorted by time of day.
    for (words, expected) in
        [(&["--last", "1"][..], &[2][..]), (&["--reverse"], &[2, 3]), (&["--reverse", "--last", "1"], &[2])]
    {
        let words = [&["log", "--on", "2015-03-02"], words].concat();
        let ran = run(&mut cli(home_path, server.address(), &words), "").await;
        assert_eq!(seqs(&ran), expected, "{words:?}: {ran:?}");
    }
    for (words, expected) in [
        (&["--reverse"][..], &["fog six", "fog five", "sun", "fog three", "fog two", "fog one"][..]),
        (&["--reverse", "--last", "2"], &["fog six", "fog five"]),
        (&["--last", "2"], &["fog five", "fog six"]),
        (&["--contains", "fog", "--last", "1"], &["fog six"]),
    ] {
        let words = [&["export", "--format", "csv"], words].concat();
        let ran = run(&mut cli(home_path, server.address(), &words), "").await;
        let texts = ran.stdout.lines().skip(1).filter_map(|line| line.rsplit(',').next());
        assert!(texts.eq(expected.iter().copied()), "{words:?}: {ran:?}");
    }
    // Statistics, too.
    let ran = run(
        &mut cli(
            home_path,
            server.address(),
            &["stats", "--json", "--from", "2015-03-01", "--to", "2015-03-31", "--last", "3"],
        ),
        "",
    )
    .await;
    assert!(ran.stdout.contains("\"entries\":3"), "{ran:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_follow_notices_at_once_that_its_reader_left() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    write(server.address(), &["one"]).await;
    let mut follow = Follow::start(cli(home.path(), server.address(), &["follow", "--last", "1"]));
    assert_eq!(follow.seqs(1).await, [1]);
    drop(follow.lines);
    let ended = soon("it ends without another entry", follow.child.wait_with_output()).await.unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]));
    server.stop().await;
}

#[tokio::test]
async fn a_pager_at_a_terminal() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    write(server.address(), &["one", "two"]).await;
    let page = async |pager: &str| {
        let mut command = cli(home.path(), server.address(), &["log", "--last", "all"]);
        command.env("PAGER", pager);
        Terminal::start(command).ends().await
    };
    for (pager, parts) in [
        ("sed s/^/[paged]/", &["[paged]──", " anna one", " ben two"][..]),
        ("cat", &["──", "anna one"]),
        ("", &["──", "anna one"]),
        ("/nonexistent/pager", &["cannot start the pager /nonexistent/pager: ", "anna one", "ben two"]),
        ("no-such-pager -R", &["cannot start the pager no-such-pager -R: ", "anna one", "ben two"]),
    ] {
        let (code, screen) = page(pager).await;
        assert!(
            code == Some(0) && parts.iter().all(|part| screen.contains(part)),
            "{pager}: {code:?} {screen}"
        );
    }
    // A pager that exits before reading anything.
    assert_eq!(page("true").await, (Some(0), String::new()));
    assert_eq!(page("exec true").await, (Some(0), String::new()));
    server.stop().await;
}

/// Returns the newest `count` lines of an answer, with the gaps between and right before them.
fn newest(lines: &str, mut count: usize) -> Vec<&str> {
    let is_wanted = |line: &&str| match seq(line) {
        Some(_) if count == 0 => false,
        Some(_) => {
            count -= 1;
            true
        }
        None => true,
    };
    let mut lines: Vec<&str> = lines.lines().rev().take_while(is_wanted).collect();
    lines.reverse();
    lines
}

/// The search runs from the end, and must find the newest hits of the whole diary: at its beginning, absent, or
/// next to damage.
#[tokio::test]
async fn the_newest_that_fit_are_those_of_the_whole_diary() {
    const ENTRIES: usize = 25_000;
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    let mut writer = server.lines().await;
    let text = |number| match number {
        3 | 9 | 4_990 | 5_010 | 24_000 | 24_990 => format!("fog {number}\n"),
        _ => format!("sun {number}\n"),
    };
    writer.send((1..=ENTRIES).map(text).collect::<String>()).await;
    for _ in 0..ENTRIES {
        writer.line().await;
    }
    let file = day_files(&server.journal()).remove(0);
    let mut bytes = std::fs::read_to_string(&file).unwrap();
    for damaged in [5, 4_999, 5_002, 6_000, 24_500] {
        bytes = bytes.replace(&format!(" sun {damaged}\t"), &format!(" bun {damaged}\t"));
    }
    std::fs::write(&file, bytes).unwrap();
    for conditions in
        [&["search", "fog"][..], &["search", "rain"], &["log", "--not", "sun"], &["search", "4"]]
    {
        let whole = run(&mut cli(home.path(), server.address(), conditions), "").await;
        for count in [0, 1, 2, 3, 4, 5, 6, 7] {
            let last = format!("--last={count}");
            let words = [conditions, &[&last]].concat();
            let ran = run(&mut cli(home.path(), server.address(), &words), "").await;
            let expected = newest(&whole.stdout, count);
            assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), expected, "{words:?}");
            let reversed = [&words[..], &["--reverse"]].concat();
            let ran = run(&mut cli(home.path(), server.address(), &reversed), "").await;
            assert!(ran.stdout.lines().eq(expected.into_iter().rev()), "{reversed:?}: {ran:?}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_csv_is_exact_unless_formulas_are_kept_out() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    write(server.address(), &["=1+1", "@SUM(A1)", "a=1"]).await;
    for (words, texts) in [
        (&["log", "--format", "csv"][..], ["anna,=1+1", "ben,@SUM(A1)", "anna,a=1"]),
        (&["log", "--format", "csv", "--csv-safe"], ["anna,'=1+1", "ben,'@SUM(A1)", "anna,a=1"]),
        (&["log", "--csv-safe"], ["anna,'=1+1", "ben,'@SUM(A1)", "anna,a=1"]),
        (&["export", "--format", "csv"], ["anna,=1+1", "ben,@SUM(A1)", "anna,a=1"]),
        (&["export", "--format", "csv", "--csv-safe"], ["anna,'=1+1", "ben,'@SUM(A1)", "anna,a=1"]),
    ] {
        let mut command = cli(home.path(), server.address(), words);
        if !words.contains(&"--format") {
            command.env("DIARY_FORMAT", "csv");
        }
        let ran = run(&mut command, "").await;
        let cells = ran.stdout.lines().skip(1).map(|line| line.splitn(4, ',').nth(3).unwrap());
        assert!(cells.eq(texts), "{words:?}: {ran:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_output_that_cannot_be_written_is_told() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    write(server.address(), &["#one"]).await;
    let old = home.path().join("old.log");
    std::fs::write(&old, "2015-03-02T08:15:00+08:00 old\n").unwrap();
    let old = old.to_str().unwrap();
    let partly = home.path().join("partly.log");
    std::fs::write(&partly, b"2015-03-03 08:15 sound\n\xff\n").unwrap();
    let partly = partly.to_str().unwrap();
    let ran = run(&mut cli(home.path(), server.address(), &["import", old]), "").await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = run(&mut cli(home.path(), "127.0.0.1:1", &["add", "it waits"]), "").await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
    let mut wrong = Vec::new();
    for words in [
        &["log"][..],
        &["follow", "--last", "1"],
        &["search", "one"],
        &["tags"],
        &["tags", "--json"],
        &["stats"],
        &["stats", "--json"],
        &["stats", "--by", "day"],
        &["stats", "--svg", "-"],
        &["on-this-day", "2026-03-02"],
        &["export", "--format", "csv"],
        &["export", "--format", "jrnl-json"],
        &["outbox"],
        &["outbox", "list"],
        &["outbox", "--json"],
        &["doctor"],
        &["completions", "bash"],
        &["man"],
        &["--help"],
        &["log", "--help"],
        &["--version"],
        &["import", old],
        &["import", "--dry-run", old],
        &["import", "--format", "log", partly],
        &["add", "it is stored"],
    ] {
        let mut command = cli(home.path(), server.address(), words);
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let child = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let ended = soon("it ends", child.wait_with_output()).await.unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        let is_told = said.contains("the output cannot be written: No space left on device (os error 28)\n");
        if ended.status.code() != Some(2) || !is_told {
            wrong.push(format!("{words:?}: {:?} {said}", ended.status.code()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    server.stop().await;
}

/// Truncated output must not look complete.
#[tokio::test]
async fn an_interrupted_export_is_not_closed() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    crate::support::fill(server.address(), 2).await;
    let mut command = cli(home.path(), server.address(), &["export", "--format", "jrnl-json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut bytes = vec![0];
    // The rest does not fit into a pipe, so the command cannot end before it is read.
    soon("it begins", output.read_exact(&mut bytes)).await.unwrap();
    kill_process(Pid::from_raw(child.id().unwrap().cast_signed()).unwrap(), Signal::INT).unwrap();
    soon("its output ends", output.read_to_end(&mut bytes)).await.unwrap();
    assert_eq!(soon("it ends", child.wait()).await.unwrap().code(), Some(130));
    assert!(bytes.starts_with(b"{\"entries\": ["));
    serde_json::from_slice::<serde_json::Value>(&bytes).unwrap_err();
    server.stop().await;
}
