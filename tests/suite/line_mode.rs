//! Line mode: every line gets one answer, in order.

use diary_proto::answer::{HELP, HINT, OLD_COMMANDS};
use rustix::net::SendFlags;
use tokio::net::TcpStream;

use crate::support::{Lines, Server, acked, is_ack, seq, text};

#[tokio::test]
async fn texts_and_commands_are_answered_in_order() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    client.send("one\n/history\ntwo\n//three\n\n/name anna\nfour\n/history #3..\n").await;
    assert!(is_ack(&client.line().await, 1));
    assert_eq!(client.line().await, "ok history");
    assert!(client.line().await.ends_with(" local one"));
    assert_eq!(client.line().await, "end 1");
    assert!(is_ack(&client.line().await, 2));
    assert!(is_ack(&client.line().await, 3));
    assert_eq!(client.line().await, "ok name anna");
    assert!(is_ack(&client.line().await, 4));
    assert_eq!(client.line().await, "ok history");
    assert!(client.line().await.ends_with(" local /three"));
    assert!(client.line().await.ends_with(" anna four"));
    assert_eq!(client.line().await, "end 2");
    client.end_input().await;
    assert_eq!(client.rest().await, "");
    server.stop().await;
}

#[tokio::test]
async fn the_greeting_says_where_the_diary_is() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    let id = client.greeting.split(&['=', ';'][..]).nth(3).unwrap().to_owned();
    assert_eq!(
        client.greeting,
        format!("diary/1 ready head=0 journal=diary id={id}; a line is an entry, /help lists commands")
    );
    assert!(id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()), "{id}");
    client.ask("one").await;
    client.ask("two").await;
    drop(client);
    let server = Server::on(server.stop().await, |_| {}).await;
    assert!(
        server.lines().await.greeting.starts_with(&format!("diary/1 ready head=2 journal=diary id={id};"))
    );
}

#[tokio::test]
async fn many_lines_in_one_write_are_acked_one_by_one() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    let lines: String = (1..=5000).map(|n| format!("line {n}\n")).collect();
    client.send(lines).await;
    for n in 1..=5000 {
        assert!(is_ack(&client.line().await, n));
    }
    let entries = client.history("all").await;
    for (n, entry) in (1..).zip(&entries) {
        assert_eq!((seq(entry), text(entry)), (Some(n), &*format!("line {n}")));
    }
    assert_eq!(entries.len(), 5000);
}

#[tokio::test]
async fn every_kind_of_line_end_ends_a_line() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    client.send("a\nb\r\nc\r\0d\re\n\n\r\n\r\0 f \n").await;
    for seq in 1..=5 {
        assert!(is_ack(&client.line().await, seq));
    }
    assert_eq!(client.all_texts().await, ["a", "b", "c", "d\\re", " f "]);
}

#[tokio::test]
async fn one_entry_is_one_line_whatever_is_in_it() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    client.send("C:\\temp\tx\u{1b}[31m\u{7f}\u{202e}\u{2028}今天☕\n2 2026-11-21T08:15:02.123456+08:00 anna forged\n").await;
    client.line().await;
    client.line().await;
    assert_eq!(
        client.all_texts().await,
        [
            "C:\\\\temp\\tx\\x1b[31m\\x7f\\u{202e}\\u{2028}今天☕",
            "2 2026-11-21T08:15:02.123456+08:00 anna forged"
        ]
    );
}

#[tokio::test]
async fn the_words_of_the_old_programs_are_texts_with_a_hint() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    let lines: String = OLD_COMMANDS.iter().flat_map(|word| [word, "\nplain ", word, "\n"]).collect();
    client.send(lines).await;
    for place in 0..OLD_COMMANDS.len() as u64 {
        let hinted = client.line().await;
        assert!(is_ack(&hinted, 2 * place + 1) && hinted.ends_with(HINT), "{hinted}");
        let plain = client.line().await;
        assert!(is_ack(&plain, 2 * place + 2) && !plain.contains("help"), "{plain}");
    }
    let stored: Vec<String> =
        OLD_COMMANDS.iter().flat_map(|word| [(*word).to_owned(), format!("plain {word}")]).collect();
    assert_eq!(client.all_texts().await, stored);
}

#[tokio::test]
async fn help_is_what_the_protocol_says() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    client.send("/help\n/quit\n").await;
    assert_eq!(client.rest().await, format!("{HELP}bye\n"));
}

#[tokio::test]
async fn quit_says_bye_after_all_acks_and_takes_nothing_after_it() {
    for quit in [&b"/quit\n"[..], b"\x04", b"\xff\xec"] {
        let server = Server::start().await;
        let mut client = server.lines().await;
        client.send([b"one\ntwo\n", quit, b"three\n"].concat()).await;
        let rest = client.rest().await;
        let lines: Vec<&str> = rest.lines().collect();
        assert!(is_ack(lines[0], 1) && is_ack(lines[1], 2), "{rest}");
        assert_eq!(lines[2..], ["bye"], "{quit:?}");
        assert_eq!(server.lines().await.all_texts().await, ["one", "two"]);
    }
}

#[tokio::test]
async fn a_quiet_client_hears_refusals_and_answers_but_no_acks() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    assert!(is_ack(&client.ask("loud").await, 1));
    assert_eq!(client.ask("/quiet").await, "ok quiet");
    client.send("one\nhelp\na\0b\ntwo\n/nope\n/name anna\n").await;
    assert!(client.line().await.starts_with("error nul: "));
    assert!(client.line().await.starts_with("error unknown-command: "));
    assert_eq!(client.line().await, "ok name anna");
    assert_eq!(client.all_texts().await, ["loud", "one", "help", "two"]);
    assert_eq!(client.ask("/quit").await, "bye");
}

#[tokio::test]
async fn a_name_counts_from_where_it_is_said() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    client.send(format!("a\n/name 小明\nb\n/name {0}\nc\n", "x".repeat(64))).await;
    assert!(is_ack(&client.line().await, 1));
    assert_eq!(client.line().await, "ok name 小明");
    assert!(is_ack(&client.line().await, 2));
    assert_eq!(client.line().await, format!("ok name {}", "x".repeat(64)));
    assert!(is_ack(&client.line().await, 3));
    let authors: Vec<String> =
        client.history("all").await.iter().map(|line| line.split(' ').nth(2).unwrap().to_owned()).collect();
    assert_eq!(authors, ["local", "小明", &"x".repeat(64)]);
    let mut other = server.lines().await;
    assert!(is_ack(&other.ask("d").await, 4));
    assert!(other.history("1").await[0].ends_with(" local d"), "a name is one connection's");
}

#[tokio::test]
async fn an_entry_has_the_time_of_its_ack() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    let ack = client.ask("a").await;
    let time = ack.split(' ').nth(2).unwrap();
    assert!(time.ends_with("+08:00"), "{time} is the server's zone");
    assert_eq!(client.history("all").await, [format!("1 {time} local a")]);
}

// --- history ---------------------------------------------------------------------------------------------

#[tokio::test]
async fn history_by_number() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    assert_eq!(client.history("").await, [""; 0]);
    assert_eq!(client.history("#1..").await, [""; 0]);
    client.send((1..=25).map(|n| format!("line {n}\n")).collect::<String>()).await;
    for n in 1..=25 {
        assert!(is_ack(&client.line().await, n));
    }
    for (which, first) in [
        ("", 6),
        ("1", 25),
        ("24", 2),
        ("25", 1),
        ("26", 1),
        ("18446744073709551615", 1),
        ("all", 1),
        ("#1..", 1),
        ("#25..", 25),
        ("  #7..  ", 7),
        ("0", 26),
        ("#26..", 26),
        ("#18446744073709551615..", 26),
    ] {
        let seqs: Vec<u64> = client.history(which).await.iter().filter_map(|line| seq(line)).collect();
        assert_eq!(seqs, (first..=25).collect::<Vec<u64>>(), "/history {which}");
    }
}

#[tokio::test]
async fn history_by_day() {
    // Honolulu is exactly one day behind Kiritimati, so this makes two day files.
    let zone =
        |name: &'static str| move |config: &mut diary_server::Config| config.timezone = Some(name.to_owned());
    let server = Server::with(zone("Pacific/Honolulu")).await;
    let mut client = server.lines().await;
    client.send("a\nb\n").await;
    client.line().await;
    let first_day = client.line().await.split(' ').nth(2).unwrap()[..10].to_owned();
    drop(client);
    let server = Server::on(server.stop().await, zone("Pacific/Kiritimati")).await;
    let mut client = server.lines().await;
    client.send("c\nd\n").await;
    client.line().await;
    let second_day = client.line().await.split(' ').nth(2).unwrap()[..10].to_owned();
    assert!(first_day < second_day);
    for (which, texts) in [
        ("today", &["c", "d"][..]),
        ("yesterday", &["a", "b"]),
        ("yesterday..today", &["a", "b", "c", "d"]),
        (&first_day, &["a", "b"]),
        (&second_day, &["c", "d"]),
        (&format!("{first_day}..{second_day}"), &["a", "b", "c", "d"]),
        (&format!("{first_day}..today"), &["a", "b", "c", "d"]),
        (&format!("1999-12-31..{first_day}"), &["a", "b"]),
        (&format!("{second_day}..9999-12-31"), &["c", "d"]),
        ("1999-12-31", &[]),
        ("9999-12-31", &[]),
        ("1999-01-01..1999-12-31", &[]),
        ("all", &["a", "b", "c", "d"]),
        ("3", &["b", "c", "d"]),
        ("#2..", &["b", "c", "d"]),
    ] {
        let entries = client.history(which).await;
        assert_eq!(entries.iter().map(|line| text(line)).collect::<Vec<_>>(), texts, "/history {which}");
    }
}

#[tokio::test]
async fn search_finds_what_the_texts_hold() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    assert_eq!(client.ask("/name anna").await, "ok name anna");
    let texts =
        ["Rain in Berlin", "rain again", "今天天气很好", "明天下雨", "ÄRGER", "a\tb", "[.*]", "end 3"];
    client.send(texts.map(|text| format!("{text}\n")).concat()).await;
    for _ in texts {
        client.line().await;
    }
    for (needle, found) in [
        ("rain", &["1", "2"][..]),
        ("Rain", &["1"]),
        ("RAIN", &[]),
        ("berlin", &["1"]),
        ("rain  again", &[]),
        ("rain again", &["2"]),
        ("天气", &["3"]),
        ("天", &["3", "4"]),
        ("雪", &[]),
        ("ärger", &["5"]),
        ("Ärger", &[]),
        ("a\tb", &["6"]),
        ("[.*]", &["7"]),
        (".*", &["7"]),
        ("anna", &[]),
        ("+08:00", &[]),
    ] {
        assert_eq!(client.ask(&format!("/search {needle}")).await, "ok search", "{needle}");
        let entries = client.entries().await;
        let seqs: Vec<&str> = entries.iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(seqs, found, "/search {needle}");
    }
}

// --- following -------------------------------------------------------------------------------------------

#[tokio::test]
async fn following_from_now_on_brings_what_is_committed_from_then_on() {
    let server = Server::start().await;
    let (mut follower, mut writer) = (server.lines().await, server.lines().await);
    writer.ask("before").await;
    follower.send("mine before\n/follow\n").await;
    assert!(is_ack(&follower.line().await, 2));
    assert_eq!(follower.line().await, "ok follow from 3", "a command sees all lines before it");
    for n in 3..=20 {
        assert!(is_ack(&writer.ask(&format!("line {n}")).await, n));
        let line = follower.line().await;
        assert_eq!((seq(&line), text(&line)), (Some(n), &*format!("line {n}")));
    }
}

#[tokio::test]
async fn a_follower_sees_its_own_entries_too() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    assert_eq!(client.ask("/follow").await, "ok follow from 1");
    client.send("one\ntwo\n").await;
    let (mut acks, mut entries) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let line = client.line().await;
        match acked(&line) {
            Some(seq) => acks.push(seq),
            None => entries.push(text(&line).to_owned()),
        }
    }
    assert_eq!(acks, [1, 2]);
    assert_eq!(entries, ["one", "two"]);
}

#[tokio::test]
async fn following_from_a_seq_brings_history_and_then_goes_on() {
    let server = Server::start().await;
    let (mut follower, mut writer) = (server.lines().await, server.lines().await);
    writer.send((1..=3000).map(|n| format!("line {n}\n")).collect::<String>()).await;
    // Some of them are history, some are live: nobody can tell.
    assert!(is_ack(&writer.line().await, 1));
    assert_eq!(follower.ask("/follow #1").await, "ok follow from 1");
    for n in 1..=3000 {
        let line = follower.line().await;
        assert_eq!((seq(&line), text(&line)), (Some(n), &*format!("line {n}")));
    }
}

#[tokio::test]
async fn following_can_begin_with_a_seq_that_is_to_come() {
    let server = Server::start().await;
    let (mut follower, mut writer) = (server.lines().await, server.lines().await);
    writer.ask("1").await;
    assert_eq!(follower.ask("/follow #4").await, "ok follow from 4");
    for n in 2..=5 {
        assert!(is_ack(&writer.ask(&n.to_string()).await, n));
    }
    assert_eq!(text(&follower.line().await), "4");
    assert_eq!(text(&follower.line().await), "5");
}

#[tokio::test]
async fn a_second_follow_replaces_the_first() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    client.send("1\n2\n3\n/follow #1\n").await;
    // The first follow has brought all that there was.
    while seq(&client.line().await) != Some(3) {}
    client.send("/follow #2\n4\n").await;
    assert_eq!(client.line().await, "ok follow from 2");
    let mut followed = Vec::new();
    let mut acks = 0;
    while followed.len() < 3 || acks < 1 {
        let line = client.line().await;
        match seq(&line) {
            Some(seq) => followed.push(seq),
            None => acks += u64::from(is_ack(&line, 4)),
        }
    }
    assert_eq!((followed, acks), (vec![2, 3, 4], 1));
}

#[tokio::test]
async fn follow_off_ends_it() {
    let server = Server::start().await;
    let (mut client, mut writer) = (server.lines().await, server.lines().await);
    assert_eq!(client.ask("/follow off").await, "ok follow off", "also where nothing was followed");
    assert_eq!(client.ask("/follow").await, "ok follow from 1");
    writer.ask("one").await;
    assert_eq!(text(&client.line().await), "one");
    assert_eq!(client.ask("/follow off").await, "ok follow off");
    writer.ask("two").await;
    assert!(is_ack(&client.ask("three").await, 3), "no entry comes any more");
    assert_eq!(client.ask("/quit").await, "bye");
}

#[tokio::test]
async fn what_is_followed_never_stands_inside_another_answer() {
    let server = Server::start().await;
    let mut writer = server.lines().await;
    let mut client = server.lines().await;
    assert_eq!(client.ask("/follow").await, "ok follow from 1");
    let writing = async {
        for n in 0..300 {
            writer.ask(&format!("needle {n} {}", "x".repeat(2000))).await;
        }
    };
    let asking = async {
        let mut next = 1;
        let mut asked = 0;
        while next <= 300 {
            client.send("/history all\n/search needle\n/help\n").await;
            asked += 3;
            while asked > 0 {
                let line = client.line().await;
                if let Some(seq) = seq(&line) {
                    assert_eq!(seq, next, "followed, between answers");
                    next += 1;
                } else if line.starts_with("help ") {
                    while !client.line().await.starts_with("end ") {}
                    asked -= 1;
                } else {
                    assert!(line == "ok history" || line == "ok search", "{line}");
                    let seqs: Vec<u64> =
                        client.entries().await.iter().filter_map(|line| self::seq(line)).collect();
                    assert!(
                        seqs.iter().copied().eq(1..=seqs.len() as u64),
                        "an answer holds its own entries only"
                    );
                    asked -= 1;
                }
            }
        }
    };
    tokio::join!(writing, asking);
}

// --- the end of input ------------------------------------------------------------------------------------

#[tokio::test]
async fn the_end_of_input_is_no_goodbye() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    let lines: String = (1..=2000).map(|n| format!("line {n}\n")).collect();
    client.send(lines + "the last line has no end").await;
    client.end_input().await;
    let rest = client.rest().await;
    let acks: Vec<u64> = rest.lines().map(|line| acked(line).unwrap()).collect();
    assert_eq!(acks, (1..=2001).collect::<Vec<u64>>());
    assert_eq!(text(&server.lines().await.history("1").await[0]), "the last line has no end");
}

#[tokio::test]
async fn a_last_line_without_its_end_can_be_anything() {
    for (input, answer) in [
        (&b"caf\xc3"[..], "error utf8: "),
        (b"a\0", "error nul: "),
        (b"/quit", "bye\n"),
        (b"/nope", "error unknown-command: "),
        (b"/history", "ok history\nend 0\n"),
        (b"text\r", "ok 1 "),
        (b"", ""),
        (b"\r", ""),
    ] {
        let server = Server::start().await;
        let mut client = server.lines().await;
        client.send(input).await;
        client.end_input().await;
        let rest = client.rest().await;
        assert!(rest.starts_with(answer) && rest.is_empty() == answer.is_empty(), "{input:?}: {rest:?}");
        let stored = if input == b"text\r" { &["text"][..] } else { &[] };
        assert_eq!(server.lines().await.all_texts().await, stored, "{input:?}");
    }
}

#[tokio::test]
async fn a_follower_goes_on_following_after_its_input_ended() {
    let server = Server::start().await;
    let (mut follower, mut writer) = (server.lines().await, server.lines().await);
    follower.send("/follow").await;
    follower.end_input().await;
    assert_eq!(follower.line().await, "ok follow from 1");
    for n in 1..=50 {
        writer.ask(&format!("line {n}")).await;
        assert_eq!(seq(&follower.line().await), Some(n));
    }
    server.begin_stop();
    assert!(follower.rest().await.starts_with("bye"), "it ends when the server does");
}

#[tokio::test]
async fn a_reset_in_mid_line_is_no_entry() {
    // With one place, the next connection begins when this one is over.
    let server = Server::with(|config| config.limits.connections = 1).await;
    let mut client = server.lines().await;
    assert!(is_ack(&client.ask("whole").await, 1));
    // The answer to telnet's timing mark says that everything before it was read.
    client.send(b"half a li\xff\xfd\x06").await;
    let mut answer = [0; 6];
    crate::support::soon(
        "telnet's answer",
        tokio::io::AsyncReadExt::read_exact(&mut client.reader, &mut answer),
    )
    .await
    .unwrap();
    assert_eq!(answer, *b"\xff\xfd\x00\xff\xfc\x06");
    client.reset();
    let mut next = Lines::connect_when_free(server.address()).await;
    assert_eq!(next.all_texts().await, ["whole"]);
    assert!(is_ack(&next.ask("next").await, 2));
}

#[tokio::test]
async fn a_client_that_is_gone_takes_nothing_back() {
    let server = Server::with(|config| config.limits.connections = 1).await;
    let mut client = server.lines().await;
    client.send("/follow\n".to_owned() + &"a line\n".repeat(1000)).await;
    assert_eq!(client.line().await, "ok follow from 1");
    drop(client);
    let mut next = Lines::connect_when_free(server.address()).await;
    let entries = next.history("all").await;
    assert!(entries.len() <= 1000 && entries.iter().all(|line| text(line) == "a line"));
    assert!(is_ack(&next.ask("next").await, entries.len() as u64 + 1));
}

/// Telnet's Synch: a read of the socket ends before an urgent byte, which belongs to a command, and more is
/// behind it.
#[tokio::test]
async fn urgent_data_stays_in_its_place() {
    let server = Server::start().await;
    let socket = std::net::TcpStream::connect(server.address()).unwrap();
    // Nothing is waited for in between, so that the server finds all of it at once.
    for (bytes, urgent) in [(&b"before\n\xff"[..], false), (b"\xf2", true), (b"behind\n", false)] {
        let flags = if urgent { SendFlags::OOB } else { SendFlags::empty() };
        assert_eq!(rustix::net::send(&socket, bytes, flags).unwrap(), bytes.len());
    }
    socket.set_nonblocking(true).unwrap();
    let mut client = Lines::over(TcpStream::from_std(socket).unwrap()).await;
    assert!(is_ack(&client.line().await, 1));
    assert!(is_ack(&client.line().await, 2));
    let texts: Vec<String> = client.history("all").await.iter().map(|line| text(line).to_owned()).collect();
    assert_eq!(texts, ["before", "behind"]);
    server.stop().await;
}
