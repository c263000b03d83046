//! `diary log`, `search` and `export`: selection of entries, formats and exit codes.

use std::path::Path;
use std::process::Stdio;

use diary_proto::Time;
use jiff::tz::TimeZone;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio::process::Command;

use crate::support::{Ran, Server, Terminal, cli_command, day_files, peer, run, seq, soon};

/// Returns a `diary` command for the server at `address`, with settings in `home`.
pub(crate) fn cli(home: &Path, address: &str, words: &[&str]) -> Command {
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
pub(crate) async fn write(address: &str, texts: &[&str]) {
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
        let texts = ran.stdout.lines().skip(1).filter_map(|line| line.rsplit(',').nth(2));
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
        let cells =
            ran.stdout.lines().skip(1).map(|line| line.splitn(4, ',').nth(3).unwrap().trim_end_matches(','));
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
        // Whoever runs it again would write the entry twice.
        let is_told =
            is_told && (words[0] != "add" || said.contains("entry ") && said.contains(" is on disk at "));
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
