//! Clocks that are wrong, and zones that change: days and acks stay right, and an archive is the way out of the future.

use std::path::Path;

use diary_proto::Time;
use tokio::process::Command;

use crate::support::{
    Lines, Process, Server, cli_command, day_files, is_ack, peer, plain_server_command, server_command, soon,
    text,
};

/// Gives a program a clock that goes on from there, as `faketime` would, whose process would stand in between.
pub(crate) fn set_clock(time: &str, command: &mut Command) {
    // It comes with the library, which the loader finds in Debian's folder of this machine's architecture.
    let _ = peer("faketime");
    command.env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketime.so.1").env("FAKETIME", format!("@{time}"));
    // What measures durations stays as it is.
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
}

async fn start_at(time: &str, zone: &str, data: &Path) -> Process {
    let mut command = server_command(data);
    command.args(["--listen", "127.0.0.1:0", "--timezone", zone]);
    command.stderr(std::fs::File::create(data.join("log")).unwrap());
    set_clock(time, &mut command);
    Process::spawn(command, 1).await
}

async fn archive_at(time: &str, data: &Path) -> std::process::Output {
    let mut command = plain_server_command();
    command.arg("archive").arg("--data").arg(data).args(["--timezone", "UTC"]);
    set_clock(time, &mut command);
    soon("it ends", command.output()).await.unwrap()
}

fn log(data: &Path) -> String {
    std::fs::read_to_string(data.join("log")).unwrap()
}

/// The texts of a day.
async fn day(client: &mut Lines, date: &str) -> Vec<String> {
    client.history(date).await.iter().map(|line| text(line).to_owned()).collect()
}

/// The day in an ack.
fn day_of(ack: &str) -> &str {
    &ack.split(' ').nth(2).unwrap()[..10]
}

/// As a laptop that flies west over midnight.
#[tokio::test]
async fn a_restart_in_a_zone_further_west_gives_entries_their_day() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let process = start_at("2026-11-20 20:00:00", "Asia/Shanghai", data).await;
    let mut client = Lines::connect(process.address()).await;
    assert_eq!(day_of(&client.ask("in Shanghai").await), "2026-11-21");
    process.stop().await;

    let process = start_at("2026-11-20 21:00:00", "America/New_York", data).await;
    let mut client = Lines::connect(process.address()).await;
    assert_eq!(day_of(&client.ask("in New York").await), "2026-11-20");
    assert_eq!(day(&mut client, "today").await, ["in New York"]);
    assert_eq!(day(&mut client, "2026-11-20").await, ["in New York"]);
    assert_eq!(day(&mut client, "2026-11-21").await, ["in Shanghai"]);
    process.stop().await;

    let process = start_at("2026-11-21 21:00:00", "America/New_York", data).await;
    let mut client = Lines::connect(process.address()).await;
    client.ask("the next day").await;
    assert_eq!(day(&mut client, "yesterday").await, ["in New York"]);
    assert_eq!(day(&mut client, "today").await, ["in Shanghai", "the next day"]);
    process.stop().await;
    let names: Vec<_> =
        day_files(&data.join("diary")).into_iter().map(|file| file.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["2026-11-21.log"]);
}

#[tokio::test]
async fn a_clock_that_was_in_the_future_is_told_and_an_archive_is_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let process = start_at("2099-01-01 00:00:00", "UTC", data).await;
    let mut client = Lines::connect(process.address()).await;
    assert_eq!(day_of(&client.ask("from the future").await), "2099-01-01");
    process.stop().await;

    let process = start_at("2026-11-20 10:00:00", "UTC", data).await;
    let mut client = Lines::connect(process.address()).await;
    for text in ["one", "two"] {
        assert_eq!(day_of(&client.ask(text).await), "2026-11-20", "an ack has the time of the clock");
    }
    assert_eq!(day(&mut client, "today").await, ["(2026-11-20 10:00) one", "(2026-11-20 10:00) two"]);
    process.stop().await;
    assert_eq!(log(data).matches("`diary-server archive`").count(), 1, "{}", log(data));

    let archived = archive_at("2026-11-20 11:00:00", data).await;
    assert!(archived.status.success(), "{archived:?}");
    let process = start_at("2026-11-20 12:00:00", "UTC", data).await;
    let mut client = Lines::connect(process.address()).await;
    let ack = client.ask("afresh").await;
    assert!(is_ack(&ack, 4) && day_of(&ack) == "2026-11-20", "{ack}");
    let line = &client.history("all").await[0];
    assert!(line.starts_with("4 2026-11-20T12:00:") && line.ends_with(" local afresh"), "{line}");
    process.stop().await;
    assert!(!log(data).contains("WARN"), "{}", log(data));
    let files = day_files(&data.join("diary"));
    assert!(files.len() == 1 && files[0].ends_with("2026-11-20.log"), "{files:?}");
}

#[tokio::test]
async fn a_clock_that_cannot_be_written_refuses_and_serves() {
    for (time, zone) in [("9999-12-31 12:00:00", "UTC"), ("0000-01-01 00:30:00", "Etc/GMT+5")] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let process = start_at("2026-11-20 10:00:00", "UTC", data).await;
        let mut client = Lines::connect(process.address()).await;
        assert!(is_ack(&client.ask("before").await, 1));
        process.stop().await;

        let process = start_at(time, zone, data).await;
        let mut client = Lines::connect(process.address()).await;
        for _ in 0..3 {
            let refusal = client.ask("now").await;
            assert!(refusal.starts_with("error bad-clock: the clock says a time "), "{refusal}");
        }
        assert_eq!(client.all_texts().await, ["before"]);
        assert_eq!(client.history("today").await, [""; 0]);
        process.stop().await;
        assert_eq!(log(data).matches("ERROR").count(), 1, "{}", log(data));
        assert!(log(data).contains("appends are refused until it is set"), "{}", log(data));
        if zone == "UTC" {
            let archived = archive_at(time, data).await;
            let said = String::from_utf8_lossy(&archived.stderr).into_owned();
            assert!(
                archived.status.code() == Some(4) && said.contains("the clock says a time after"),
                "{said}"
            );
        }

        let process = start_at("2026-11-20 11:00:00", "UTC", data).await;
        let mut client = Lines::connect(process.address()).await;
        assert!(is_ack(&client.ask("after").await, 2));
        process.stop().await;
        assert_eq!(day_files(&data.join("diary")).len(), 1);
    }
}

/// The last moment that can be written, and one before 1970.
#[tokio::test]
async fn clocks_at_the_ends_of_what_can_be_written() {
    for (time, zone, begins) in [
        ("9999-12-30 21:00:00", "Pacific/Kiritimati", "9999-12-31T11:00:"),
        ("1960-01-01 00:00:00", "America/New_York", "1959-12-31T19:00:"),
        ("0000-01-01 12:00:00", "UTC", "0000-01-01T12:00:"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for seq in 1..3 {
            let process = start_at(time, zone, folder.path()).await;
            let mut client = Lines::connect(process.address()).await;
            let ack = client.ask("a line").await;
            let said = ack.split(' ').nth(2).unwrap();
            assert!(is_ack(&ack, seq) && said.starts_with(begins), "{ack}");
            assert!(Time::parse(said.as_bytes()).is_some());
            assert_eq!(client.history("today").await.len() as u64, seq);
            process.stop().await;
        }
        assert_eq!(day_files(&folder.path().join("diary")).len(), 1);
    }
}

#[tokio::test]
async fn a_client_whose_clock_cannot_be_written_says_so() {
    let server = Server::start().await;
    for words in [&["add", "--server", server.address(), "a line"][..], &[server.address()]] {
        let mut command = cli_command();
        command.args(words);
        set_clock("9999-12-31 12:00:00", &mut command);
        let ended = soon("it ends", command.output()).await.unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.code() == Some(2) && said.contains("past the year 9999"), "{ended:?}");
    }
    assert_eq!(server.lines().await.history("all").await, [""; 0]);
}
