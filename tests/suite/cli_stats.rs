//! `diary tags`, `stats` and `on-this-day`, and `--tag` of all reading commands, over entries of many years.

use std::path::Path;

use diary_proto::message::{Append, ClientMessage, NewText, Texts};
use diary_proto::{Author, Time};
use diary_server::Config;
use jiff::civil::Date;
use jiff::tz::{TimeZone, offset};
use jiff::{Timestamp, ToSpan};
use tokio::process::Command;

use crate::support::{Frames, Ran, Server, cli_command, day_files, run, seq};

/// An entry: date and hour if not now, author and text.
type New<'a> = (Option<(Date, i8)>, &'a str, &'a str);

/// Returns a `diary` command for the server at `address`.
fn cli(home: &Path, address: &str, words: &[&str]) -> Command {
    let mut command = cli_command();
    command.env("XDG_STATE_HOME", home.join("state")).env("XDG_CONFIG_HOME", home.join("config"));
    command.env("TZ", "Asia/Shanghai").args(words).args(["--server", address]);
    command
}

/// Runs a command, with server and reader in Shanghai.
async fn ask(server: &Server, home: &tempfile::TempDir, words: &[&str]) -> Ran {
    run(&mut cli(home.path(), server.address(), words), "").await
}

/// Writes these in one append.
async fn write(server: &Server, entries: &[New<'_>]) {
    let time = |(day, hour): (Date, i8)| {
        let zoned = day.at(hour, 30, 0, 0).to_zoned(shanghai()).unwrap();
        Time::at(zoned.timestamp(), zoned.time_zone())
    };
    let texts = Texts::own(entries.iter().map(|(at, author, text)| {
        assert!(Author::new(author).is_ok());
        NewText {
            at: at.map(time),
            author: author.as_bytes(),
            text: text.as_bytes(),
            answers: None,
            corrects: None,
        }
    }));
    let mut client = Frames::hello(server.address(), 1).await;
    client.send(&ClientMessage::Append(Append { first_counter: 0, retry: false, texts })).await;
    client.acks(entries.len()).await;
}

fn seqs(ran: &Ran) -> Vec<u64> {
    ran.stdout.lines().filter_map(seq).collect()
}

/// Today's offset, for all times.
fn shanghai() -> TimeZone {
    TimeZone::fixed(offset(8))
}

/// Returns the current day in Shanghai.
fn today() -> Date {
    Timestamp::now().to_zoned(shanghai()).date()
}

const DAY: Date = Date::constant(2015, 3, 2);

#[tokio::test]
async fn tags_are_listed_and_found() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    let at = |hour| Some((DAY, hour));
    let entries: [New<'_>; 6] = [
        (at(8), "anna", "to the lake #Travel with @ben"),
        (at(9), "anna", "#travel #travel, and a@b.c #42"),
        (at(10), "ben", "#travelling"),
        (None, "小明", "去北京，#旅行。"),
        (None, "小明", "no tag: C# # http://x/#y"),
        (None, "小明", "#旅行 @ben"),
    ];
    write(&server, &entries).await;
    let ran = ask(&server, &home, &["tags"]).await;
    assert_eq!(ran.stdout, "2 #travel\n2 #旅行\n2 @ben\n1 #travelling\n");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let ran = ask(&server, &home, &["tags", "--json", "--author", "anna", "--last", "1"]).await;
    assert_eq!(ran.stdout, "{\"entries\":1,\"tag\":\"#travel\"}\n");
    let ran = ask(&server, &home, &["tags", "--contains", "no tag"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert_eq!(ran.stderr, "no tags in entries with \"no tag\"\n");
    for (words, expected) in [
        (&["log", "--tag", "travel"][..], &[1, 2][..]),
        (&["log", "--tag", "#Travel"], &[1]),
        (&["log", "--tag", "旅行", "--tag", "@ben"], &[6]),
        (&["search", "北京", "--tag", "旅行"], &[4]),
        (&["log", "--tag", "travel", "--last", "1", "--json"], &[]),
        (&["log", "--on", "2015-03-02", "--tag", "@ben"], &[1]),
        (&["log", "--tag", "lake"], &[]),
    ] {
        let ran = ask(&server, &home, words).await;
        assert_eq!(seqs(&ran), expected, "{words:?}: {ran:?}");
    }
    let ran = ask(&server, &home, &["log", "--tag", "lake"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), "no entries tagged #lake\n"));
    server.stop().await;
}

#[tokio::test]
async fn stats_count_by_the_day_that_an_entry_is_of() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::with(|config| config.day_start = "03:00".parse().unwrap()).await;
    let at = |days: i64, hour| Some((DAY.saturating_add(days.days()), hour));
    let entries: [New<'_>; 5] = [
        (at(0, 8), "anna", "three little words"),
        (at(1, 2), "anna", "still the same night"),
        (at(1, 8), "小明", "今天很好 #旅行"),
        (at(3, 8), "anna", "later"),
        (at(2, 8), "anna", "in between"),
    ];
    write(&server, &entries).await;
    let ran = ask(&server, &home, &["stats", "--on", "2015"]).await;
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[0], "5 entries, 16 words, on 4 days");
    assert_eq!(lines[1], "the first on 2015-03-02, the last on 2015-03-05");
    assert_eq!(lines[2], "streak: none; the longest: 4 days, 2015-03-02 .. 2015-03-05");
    assert_eq!(lines[4], "2015-01-05 .. 2015-12-31: 5 entries on 4 days");
    assert_eq!(
        (lines.len(), ran.code, lines.last().unwrap().trim()),
        (14, Some(0), "0 ·░▒▓█ 1+ entries a day")
    );
    assert!(!ran.stdout.contains('\x1b'), "a pipe has no colour");
    for (words, table) in [
        (
            &["stats", "--by", "author"][..],
            "author  entries  words\nanna          4     10\n小明          1      6\n",
        ),
        (&["stats", "--by", "week"], "week      entries  words\n2015-W10        5     16\n"),
        (&["stats", "--by", "tag"], "tag    entries  words\n#旅行        1      6\n"),
        (
            &["stats", "--by", "day", "--author", "anna", "--last", "2"],
            "day         entries  words\n2015-03-04        1      2\n2015-03-05        1      1\n",
        ),
    ] {
        let ran = ask(&server, &home, words).await;
        assert_eq!((ran.stdout.as_str(), ran.code), (table, Some(0)), "{words:?}: {ran:?}");
    }
    let picture = home.path().join("year.svg");
    let words = ["stats", "--json", "--year", "2015", "--svg", picture.to_str().unwrap()];
    let ran = ask(&server, &home, &words).await;
    assert!(ran.stdout.starts_with("{\"by\":{") && ran.stdout.lines().count() == 1, "{ran:?}");
    assert!(ran.stdout.contains("\"day\":\"2015-03-02\",\"entries\":2"), "{ran:?}");
    let svg = std::fs::read_to_string(&picture).unwrap();
    assert!(svg.contains("<title>2015-03-02: 2 entries</title>") && svg.ends_with("</svg>\n"), "{svg}");
    let names = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().contains("svg")).count(), 1);
    // An existing file is not overwritten without `--force`.
    std::fs::write(&picture, "my journal").unwrap();
    let ran = ask(&server, &home, &words).await;
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.ends_with("already exists; use --force to overwrite it\n"), "{}", ran.stderr);
    assert_eq!(std::fs::read_to_string(&picture).unwrap(), "my journal");
    let forced = ask(&server, &home, &[&words[..], &["--force"]].concat()).await;
    assert_eq!((forced.code, std::fs::read_to_string(&picture).unwrap()), (Some(0), svg.clone()));
    let printed = ask(&server, &home, &["stats", "--year", "2015", "--svg", "-"]).await;
    assert_eq!((printed.code, printed.stdout), (Some(0), svg));
    let colour = ask(&server, &home, &["stats", "--year", "2015", "--color", "always"]).await;
    assert!(colour.stdout.contains("\x1b[48;5;40m"), "{colour:?}");
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_counted_says_why() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    for (words, code, said) in [
        (&["stats"][..], 1, "no entries\n"),
        (&["tags"], 1, "no tags in entries\n"),
        (&["stats", "--author", "anna"], 1, "no entries by anna\n"),
        (&["on-this-day", "2026"], 2, "\"2026\" is more than one day; try 2026-11-21, Nov 21 or yesterday\n"),
        (&["on-this-day", "Feb", "29"], 1, "no entries on February 29 of any year\n"),
        (
            &["on-this-day", "--tag", "a", "--author", "anna", "--not", "b", "May", "7"],
            1,
            "no entries by anna tagged #a without \"b\" on May 7 of any year\n",
        ),
        (&["on-this-day", "--contains", ""], 2, "the text to search for is empty\n"),
    ] {
        let ran = ask(&server, &home, words).await;
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(code), "", said), "{words:?}");
    }
    write(&server, &[(None, "anna", "one"), (None, "anna", "two #a"), (None, "anna", "three")]).await;
    let nowhere = home.path().join("nowhere/year.svg");
    let ran = ask(&server, &home, &["stats", "--svg", nowhere.to_str().unwrap()]).await;
    assert!(ran.code == Some(2) && ran.stderr.contains("cannot write ") && ran.stdout.is_empty(), "{ran:?}");

    let file = day_files(&server.journal()).remove(0);
    let bytes = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, bytes.replace(" one\t", " onn\t")).unwrap();
    for words in [&["stats", "--by", "author"][..], &["tags"]] {
        let ran = ask(&server, &home, words).await;
        assert_eq!(
            (ran.code, ran.stderr.as_str()),
            (Some(6), "1 entry is damaged or missing, and not counted\n")
        );
        assert!(!ran.stdout.is_empty(), "the rest is counted");
    }
    server.stop().await;
}

#[tokio::test]
async fn on_this_day_brings_every_year_before() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    let on = |year, month, day| Some((Date::constant(year, month, day), 12));
    let entries: [New<'_>; 10] = [
        (on(2024, 5, 7), "anna", "1 #lake"),
        (on(1850, 5, 7), "anna", "2 an old letter"),
        (on(2015, 5, 7), "小明", "3"),
        (on(2015, 5, 8), "anna", "4 another day"),
        (on(2015, 6, 7), "anna", "5 another month"),
        (on(2020, 2, 29), "anna", "6"),
        (on(2021, 3, 1), "anna", "7"),
        (on(2019, 1, 1), "anna", "8"),
        (on(1899, 12, 31), "anna", "9"),
        (on(9000, 5, 7), "anna", "10 still to come"),
    ];
    write(&server, &entries).await;
    for (words, expected) in [
        (&["on-this-day", "2000-05-07"][..], &[2, 3, 1][..]),
        (&["on-this-day", "5月7日"], &[2, 3, 1]),
        (&["on-this-day", "9000-05-07"], &[2, 3, 1, 10]),
        (&["on-this-day", "May", "7", "--tag", "lake"], &[1]),
        (&["on-this-day", "May", "7", "--author", "anna", "--not", "lake"], &[2]),
        (&["on-this-day", "May", "7", "--contains", "letter"], &[2]),
        (&["on-this-day", "Feb", "29"], &[6]),
        (&["on-this-day", "2021-03-01"], &[7]),
        (&["on-this-day", "Jan", "1"], &[8]),
        (&["on-this-day", "Dec", "31"], &[9]),
    ] {
        let ran = ask(&server, &home, words).await;
        assert_eq!(seqs(&ran), expected, "{words:?}: {ran:?}");
    }
    let ran = ask(&server, &home, &["on-this-day", "--format", "pretty", "May", "7"]).await;
    let expected = "── 1850-05-07 Tuesday ──\n12:30 #2 anna 2 an old letter\n── 2015-05-07 Thursday ──\n12:30 #3 小明 3\n\
                    ── 2024-05-07 Tuesday ──\n12:30 #1 anna 1 #lake\n";
    assert_eq!(ran.stdout, expected, "under the day that it is of");
    server.stop().await;
}

#[tokio::test]
async fn another_start_of_the_day_leaves_what_is_there_where_it_is() {
    // A zone where it is before noon now.
    let zone = if Timestamp::now().to_zoned(TimeZone::UTC).hour() < 12 { "UTC" } else { "Etc/GMT+12" };
    let home = tempfile::tempdir().unwrap();
    let start_days_at = |start: &'static str| {
        move |config: &mut Config| {
            config.timezone = Some(zone.to_owned());
            config.day_start = start.parse().unwrap();
        }
    };
    let server = Server::with(start_days_at("23:59")).await;
    server.lines().await.ask("of the evening before").await;
    let folder = server.stop().await;
    let server = Server::on(folder, start_days_at("00:00")).await;
    server.lines().await.ask("of today").await;
    let today = Timestamp::now().to_zoned(TimeZone::get(zone).unwrap()).date();
    let yesterday = today.yesterday().unwrap();
    for (day, seqs_of_day) in [(yesterday, [1]), (today, [2])] {
        let mut log = cli(home.path(), server.address(), &["log", "--on", &day.to_string()]);
        let ran = run(log.env("TZ", zone), "").await;
        assert_eq!(seqs(&ran), seqs_of_day, "{}{}", ran.stdout, ran.stderr);
    }
    server.stop().await;
}

#[tokio::test]
async fn on_this_day_is_of_this_year_only_if_it_is_said() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    let entries: [New<'_>; 3] = [
        (None, "anna", "1 today"),
        (Some((today().saturating_sub(1.year()), 12)), "anna", "2 a year ago"),
        (Some((today(), 12)), "ben", "3 today, too"),
    ];
    write(&server, &entries).await;
    let ran = ask(&server, &home, &["on-this-day", "today", "--author", "ben"]).await;
    assert_eq!(seqs(&ran), [3], "{ran:?}");
    // On 29 February there is no such day a year ago.
    if (today().month(), today().day()) != (2, 29) {
        let ran = ask(&server, &home, &["on-this-day"]).await;
        assert_eq!(seqs(&ran), [2], "{ran:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_day_is_in_the_order_of_its_times() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    let at = |year, hour| Some((DAY.with().year(year).build().unwrap(), hour));
    let entries: [New<'_>; 6] = [
        (at(2015, 12), "anna", "1 lunch"),
        (at(1850, 8), "anna", "2 an old letter"),
        (at(2015, 20), "anna", "3 dinner"),
        (at(2015, 12), "anna", "4 more of it"),
        (at(1840, 9), "anna", "5 an older one"),
        (at(2015, 7), "anna", "6 breakfast"),
    ];
    write(&server, &entries).await;
    for (words, expected) in [
        (&["on-this-day", "2015-03-02"][..], &[5, 2, 6, 1, 4, 3][..]),
        (&["log", "--on", "2015-03-02"], &[6, 1, 4, 3]),
        (&["log", "--on", "2015-03-02", "--reverse"], &[3, 4, 1, 6]),
        (&["log", "--on", "2015-03-02", "--last", "2"], &[4, 3]),
        (&["search", "r", "--on", "2015-03-02"], &[6, 4, 3]),
        (&["log", "--from", "2015-03-02", "--to", "2015-03-02"], &[6, 1, 4, 3]),
        (&["log", "--on", "2015-03"], &[1, 3, 4, 6]),
    ] {
        let ran = ask(&server, &home, words).await;
        assert_eq!((seqs(&ran).as_slice(), ran.code), (expected, Some(0)), "{words:?}: {ran:?}");
    }
    for format in ["short", "csv", "json"] {
        let ran = ask(&server, &home, &["log", "--on", "2015-03-02", "--format", format]).await;
        let place = |text| ran.stdout.find(text).unwrap();
        assert!(place("breakfast") < place("lunch") && place("more of") < place("dinner"), "{ran:?}");
    }
    server.stop().await;
}
