//! Damage is found and told, never served as good, and the diary goes on.

use std::path::PathBuf;
use std::process::Stdio;

use diary_client::{Day, Event, History, Reader, Which};
use diary_server::Config;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::{
    Frames, Lines, Process, Server, day_files, is_ack, plain_server_command, seq, server_command, soon, text,
};

/// A diary of two days, entries 1 to 5 and 6 to 8. Honolulu is exactly one day behind Kiritimati.
async fn two_days() -> (tempfile::TempDir, Vec<PathBuf>) {
    let mut folder = tempfile::tempdir().unwrap();
    for (zone, entries) in [("Pacific/Honolulu", 1..=5), ("Pacific/Kiritimati", 6..=8)] {
        let server = Server::on(folder, |config| config.timezone = Some(zone.to_owned())).await;
        let mut client = server.lines().await;
        for n in entries {
            assert!(is_ack(&client.ask(&format!("entry {n}")).await, n));
        }
        drop(client);
        folder = server.stop().await;
    }
    let files = day_files(&folder.path().join("diary"));
    assert_eq!(files.len(), 2);
    (folder, files)
}

fn kiritimati(config: &mut Config) {
    config.timezone = Some("Pacific/Kiritimati".to_owned());
}

fn replace(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert_eq!(text.matches(from).count(), 1);
    text.replace(from, to).into_bytes()
}

#[tokio::test]
async fn a_bad_line_is_a_gap_and_appends_go_on() {
    let (folder, files) = two_days().await;
    let damaged = replace(&std::fs::read(&files[0]).unwrap(), " entry 3\t", " entrY 3\t");
    std::fs::write(&files[0], &damaged).unwrap();
    let server = Server::on(folder, kiritimati).await;
    let mut client = server.lines().await;
    assert!(is_ack(&client.ask("entry 9").await, 9));
    let shown: Vec<String> = client
        .history("all")
        .await
        .iter()
        .map(|line| if seq(line).is_some() { text(line).to_owned() } else { line.clone() })
        .collect();
    let gap = "gap 3..3: these entries are damaged or missing";
    assert_eq!(
        shown,
        ["entry 1", "entry 2", gap, "entry 4", "entry 5", "entry 6", "entry 7", "entry 8", "entry 9"]
    );
    assert_eq!(client.history("#3..").await[0], gap);
    assert_eq!(client.ask("/search entr").await, "ok search");
    let found: Vec<u64> = client.entries().await.iter().filter_map(|line| seq(line)).collect();
    assert_eq!(found, [1, 2, 4, 5, 6, 7, 8, 9], "what is damaged is not found");
    assert_eq!(client.ask("/follow #2").await, "ok follow from 2");
    assert_eq!(text(&client.line().await), "entry 2");
    assert_eq!(client.line().await, gap);
    assert_eq!(text(&client.line().await), "entry 4");

    // Frame mode delivers what is on disk; checking is the client's.
    let mut framed = Frames::hello(server.address(), 1).await;
    let all = framed.history(1, Which::All).await;
    assert_eq!((all.first, all.last, all.dense), (1, 9, true));
    assert!(String::from_utf8(all.lines.clone()).unwrap().contains(" entrY 3\t"));
    let disk = files.iter().flat_map(|file| std::fs::read(file).unwrap()).collect::<Vec<u8>>();
    assert!(disk.ends_with(&all.lines));
    assert_eq!(all.texts().len(), 8);
    assert_eq!(std::fs::read(&files[0]).unwrap(), damaged, "no existing byte is changed");
}

#[tokio::test]
async fn missing_lines_and_a_missing_file_are_gaps() {
    let (folder, files) = two_days().await;
    let whole = String::from_utf8(std::fs::read(&files[0]).unwrap()).unwrap();
    let without: String = whole.split_inclusive('\n').filter(|line| !line.starts_with(['2', '3'])).collect();
    std::fs::write(&files[0], without).unwrap();
    let server = Server::on(folder, kiritimati).await;
    let mut client = server.lines().await;
    let shown = client.history("all").await;
    assert!(shown[1].starts_with("gap 2..3: ") && seq(&shown[2]) == Some(4), "{shown:?}");
    drop(client);
    let folder = server.stop().await;
    std::fs::remove_file(&files[0]).unwrap();
    let server = Server::on(folder, kiritimati).await;
    let mut client = server.lines().await;
    let shown = client.history("all").await;
    assert!(shown[0].starts_with("gap 1..5: "), "{shown:?}");
    assert_eq!(shown.iter().filter_map(|line| seq(line)).collect::<Vec<_>>(), [6, 7, 8]);
    assert!(is_ack(&client.ask("entry 9").await, 9));
}

#[tokio::test]
async fn damage_that_is_met_while_serving_is_told() {
    let (folder, files) = two_days().await;
    let server = Server::on(folder, kiritimati).await;
    let mut client = server.lines().await;
    assert_eq!(client.history("all").await.len(), 8);
    let damaged = replace(&std::fs::read(&files[0]).unwrap(), " entry 5\t", " entry 5 forged\t");
    std::fs::write(&files[0], damaged).unwrap();
    let shown = client.history("all").await;
    assert!(shown[4].starts_with("gap 5..5: "), "{shown:?}");
    assert!(is_ack(&client.ask("entry 9").await, 9));
}

#[tokio::test]
async fn the_log_says_where_the_damage_is() {
    let (folder, files) = two_days().await;
    let damaged = replace(&std::fs::read(&files[0]).unwrap(), " entry 3\t", " entrY 3\t");
    std::fs::write(&files[0], damaged).unwrap();
    let log = folder.path().join("log");
    let process = Process::start_logging(folder.path(), &["--timezone", "Pacific/Kiritimati"], &log).await;
    let mut client = Lines::connect(process.address()).await;
    assert!(is_ack(&client.ask("entry 9").await, 9));
    // It is told when it is met, and once.
    client.history("all").await;
    client.history("all").await;
    process.stop().await;
    let log = std::fs::read_to_string(log).unwrap();
    let name = files[0].file_name().unwrap().to_str().unwrap();
    let words = format!("{name} line 4: entry 3 is damaged or missing");
    let told = |line: &&str| line.contains(" ERROR ") && line.contains(&words);
    assert_eq!(log.lines().filter(told).count(), 1, "{words} in {log}");
    assert!(!log.contains("entrY"), "{log}");
}

#[tokio::test]
async fn a_torn_tail_goes_to_quarantine_and_its_seqs_are_given_out_again() {
    let (folder, files) = two_days().await;
    // A killed server leaves no head, and its cache holds the first batch.
    for evidence in ["head", "cache"] {
        // A server that stops before its tables are loaded has written no cache.
        let _ = std::fs::remove_file(folder.path().join("diary").join(evidence));
    }
    let whole = std::fs::read(&files[1]).unwrap();
    std::fs::write(&files[1], &whole[..whole.len() - 10]).unwrap();
    let server = Server::on(folder, kiritimati).await;
    let mut client = server.lines().await;
    assert_eq!(client.history("all").await.len(), 7);
    assert!(is_ack(&client.ask("another 8").await, 8));
    assert_eq!(std::fs::read_dir(server.journal().join("quarantine")).unwrap().count(), 1);
    assert_eq!(text(&client.history("1").await[0]), "another 8");
}

#[tokio::test]
async fn the_log_tells_damage_that_only_a_frame_client_read() {
    let (folder, files) = two_days().await;
    let damaged = replace(&std::fs::read(&files[0]).unwrap(), " entry 3\t", " entrY 3\t");
    std::fs::write(&files[0], damaged).unwrap();
    let log = folder.path().join("log");
    let process = Process::start_logging(folder.path(), &["--timezone", "Pacific/Kiritimati"], &log).await;
    let mut framed = Frames::hello(process.address(), 1).await;
    for id in 1..=2 {
        framed.history(id, Which::All).await;
    }
    process.stop().await;
    let log = std::fs::read_to_string(log).unwrap();
    let told =
        |line: &&str| line.contains(" ERROR ") && line.contains("line 4: entry 3 is damaged or missing");
    assert_eq!(log.lines().filter(told).count(), 1, "{log}");
}

/// Every reading of a frame client, while the server runs on: it was started with a valid head and cache, so it has not
/// looked into the old file by itself.
#[tokio::test]
async fn a_running_server_logs_the_damage_that_a_frame_client_reads() {
    let old_day = |files: &[PathBuf]| {
        let name = files[0].file_stem().unwrap().to_str().unwrap();
        Day::Date(name.parse().unwrap())
    };
    type Read = fn(&Reader, Day) -> History;
    let readings: [(&str, Read); 4] = [
        ("history", |reader, _| reader.history(Which::All)),
        ("days", |reader, day| reader.history(Which::Days(day, day))),
        ("search", |reader, _| reader.search("entry")),
        ("follow", |reader, _| reader.follow(Some(1))),
    ];
    for (what, read) in readings {
        let (folder, files) = two_days().await;
        // A retry is answered once the tables are loaded, and only then does a stop write the cache.
        let server = Server::on(folder, kiritimati).await;
        let mut framed = Frames::hello(server.address(), 1).await;
        framed.append(0, true, &["entry 9"]).await;
        framed.acks(1).await;
        drop(framed);
        let folder = server.stop().await;
        let damaged = replace(&std::fs::read(&files[0]).unwrap(), " entry 3\t", " entrY 3\t");
        std::fs::write(&files[0], damaged).unwrap();
        for evidence in ["head", "cache"] {
            assert!(std::fs::metadata(folder.path().join("diary").join(evidence)).unwrap().len() > 0);
        }
        let mut command = server_command(folder.path());
        command.args(["--listen", "127.0.0.1:0", "--timezone", "Pacific/Kiritimati", "--log", "error"]);
        command.stderr(Stdio::piped());
        let mut process = Process::spawn(command, 1).await;
        let mut log = BufReader::new(process.child.stderr.take().unwrap()).lines();
        let reader = Reader::connect(process.address().parse().unwrap()).await.unwrap();
        let mut reading = read(&reader, old_day(&files));
        let mut found = Vec::new();
        while found.last() != Some(&5) {
            match soon("entries come", reading.next()).await.unwrap().unwrap() {
                Event::Entry(stored) => found.push(stored.entry.seq),
                Event::Gap(gap) => assert_eq!((gap.first, gap.last), (3, 3), "{what}"),
                _ => {}
            }
        }
        assert_eq!(found, [1, 2, 4, 5], "{what}");
        let line = soon("it is logged while the server runs", log.next_line()).await.unwrap().unwrap();
        let name = files[0].file_name().unwrap().to_str().unwrap();
        let words = format!("{name} line 4: entry 3 is damaged or missing");
        assert!(line.contains(" ERROR ") && line.contains(&words), "{what}: {line}");
        drop(reading);
        process.stop().await;
        assert_eq!(log.next_line().await.unwrap(), None, "{what}: it is logged once");
    }
}

#[tokio::test]
async fn files_that_do_not_belong_stop_nobody_and_are_told() {
    let (folder, files) = two_days().await;
    let (other, others) = two_days().await;
    let journal = folder.path().join("diary");
    // Another diary's newest, an old one, and a folder; a server that was killed early has written no cache.
    std::fs::copy(&others[1], journal.join("2099-01-03.log")).unwrap();
    std::fs::copy(&files[0], journal.join("2099-01-04.log")).unwrap();
    std::fs::create_dir(journal.join("2099-01-05.log")).unwrap();
    drop(other);
    let _ = std::fs::remove_file(journal.join("cache"));
    let log = folder.path().join("log");
    let process = Process::start_logging(folder.path(), &["--timezone", "Pacific/Kiritimati"], &log).await;
    let mut client = Lines::connect(process.address()).await;
    assert!(is_ack(&client.ask("entry 9").await, 9));
    let shown: Vec<String> = client.history("all").await.iter().map(|line| text(line).to_owned()).collect();
    assert_eq!(shown, (1..=9).map(|n| format!("entry {n}")).collect::<Vec<_>>());
    process.stop().await;
    let log = std::fs::read_to_string(log).unwrap();
    for (name, why) in [
        ("2099-01-03.log", "of another journal"),
        ("2099-01-04.log", "it is the file of 20"),
        ("2099-01-05.log", "not a regular file"),
    ] {
        let told = |line: &&str| line.contains(" ERROR ") && line.contains(name) && line.contains(why);
        assert_eq!(log.lines().filter(told).count(), 1, "{name} in {log}");
    }
    let mut verify = plain_server_command();
    verify.args(["verify", "--json", "--data"]).arg(folder.path());
    let verified = soon("it ends", verify.output()).await.unwrap();
    assert_eq!(verified.status.code(), Some(6), "{verified:?}");
    let found = String::from_utf8(verified.stdout).unwrap();
    assert_eq!(found.matches(r#""what":"stray""#).count(), 3, "{found}");
    assert_eq!(found.lines().count(), 4, "{found}");
}
