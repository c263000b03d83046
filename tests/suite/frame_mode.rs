//! Frame mode, with frames made by hand: what the protocol says, byte by byte.

use std::time::Duration;

use diary_proto::block::{Step, Walker};
use diary_proto::message::{ClientMessage, Hello, Resume, ServerMessage};
use diary_proto::{Day, Filter, Producer, Which};
use tokio::io::AsyncWriteExt;

use crate::support::{Frames, Lines, Process, Server, hello, is_ack, pairs, soon, texts_of};

/// All bytes of the day files, oldest first.
fn on_disk(server: &Server) -> Vec<u8> {
    let files = crate::support::day_files(&server.journal());
    files.iter().flat_map(|file| std::fs::read(file).unwrap()).collect()
}

/// A frame of any type with any body.
fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 1).unwrap();
    [&length.to_be_bytes()[..], &[kind], body].concat()
}

#[tokio::test]
async fn welcome_says_what_the_greeting_says_and_who_one_is() {
    let server = Server::start().await;
    server.lines().await.ask("one").await;
    let mut client = Frames::connect(server.address()).await;
    let welcome = client.greet(&hello(1)).await;
    assert!(client.greeting.starts_with("diary/1 ready head=1 journal=diary "));
    assert!(client.greeting.contains(&format!("id={:016x};", welcome.journal_id)));
    assert_eq!((welcome.version, welcome.head), (1, 1));
    assert_eq!((&*welcome.author, &*welcome.journal, &*welcome.zone), ("local", "diary", "Asia/Shanghai"));
    let mut named = Frames::connect(server.address()).await;
    let welcome = named.greet(&Hello { author: "小明".to_owned(), ..hello(2) }).await;
    assert_eq!(welcome.author, "小明");
    named.append(0, false, &["二"]).await;
    assert_eq!(named.acks(1).await, [(0, 2)]);
    assert!(server.lines().await.history("1").await[0].ends_with(" 小明 二"));
}

#[tokio::test]
async fn appends_are_acked_as_runs_by_their_counters() {
    let server = Server::start().await;
    let mut client = Frames::hello(server.address(), 1).await;
    client.append(17, false, &["今天", "two\nlines", "third"]).await;
    match client.message().await {
        ServerMessage::Acks(runs) => {
            assert_eq!(runs.len(), 1);
            assert_eq!(pairs(&runs), [(17, 1), (18, 2), (19, 3)]);
            assert_eq!(runs[0].time.offset_minutes, 480);
            let time = String::from_utf8(runs[0].time.to_bytes().to_vec()).unwrap();
            assert_eq!(server.lines().await.history("1").await, [format!("3 {time} local third")]);
        }
        other => panic!("{other:?}"),
    }
    let producer = Producer::of_secret(&[1; 16]);
    let stored = String::from_utf8(on_disk(&server)).unwrap();
    for counter in 17..=19 {
        assert_eq!(stored.matches(&format!(" {producer}.{counter} ")).count(), 1, "{stored}");
    }
}

#[tokio::test]
async fn many_small_appends_and_one_large_are_all_acked() {
    let server = Server::start().await;
    let mut client = Frames::hello(server.address(), 1).await;
    let mut bytes = Vec::new();
    for counter in 0..3000 {
        let texts = diary_proto::message::Texts::new([&*format!("small {counter}")]);
        let append = diary_proto::message::Append { first_counter: counter, retry: false, texts };
        ClientMessage::Append(append).write(&mut bytes);
    }
    client.send_bytes(bytes).await;
    let texts: Vec<String> = (0..20_000).map(|n| format!("{n}")).collect();
    client.append(3000, false, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let acked = client.acks(23_000).await;
    assert!(acked.into_iter().eq((0..23_000).map(|counter| (counter, counter + 1))));
}

#[tokio::test]
async fn a_retry_is_answered_with_the_first_seq() {
    let server = Server::start().await;
    let mut client = Frames::hello(server.address(), 1).await;
    client.append(5, false, &["a", "b"]).await;
    assert_eq!(client.acks(2).await, [(5, 1), (6, 2)]);
    server.lines().await.ask("between").await;
    // On the same connection, and with what was never sent behind it.
    client.append(5, true, &["a", "b", "c"]).await;
    assert_eq!(client.acks(3).await, [(5, 1), (6, 2), (7, 4)]);
    drop(client);
    // After a restart.
    let server = Server::on(server.stop().await, |_| {}).await;
    let mut client = Frames::hello(server.address(), 1).await;
    client.append(6, true, &["b", "c", "d"]).await;
    assert_eq!(client.acks(3).await, [(6, 2), (7, 4), (8, 5)]);
    // Another secret is another producer.
    let mut other = Frames::hello(server.address(), 2).await;
    other.append(6, true, &["b"]).await;
    assert_eq!(other.acks(1).await, [(6, 6)]);
    assert_eq!(server.lines().await.all_texts().await, ["a", "b", "between", "c", "d", "b"]);
}

#[tokio::test]
async fn the_same_key_twice_in_flight_is_one_entry() {
    let server = Server::start().await;
    let mut client = Frames::hello(server.address(), 1).await;
    let mut twin = Frames::hello(server.address(), 1).await;
    let texts: Vec<String> = (100..400).map(|counter| format!("entry {counter}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    tokio::join!(client.append(100, true, &texts), twin.append(100, true, &texts));
    let (one, two) = tokio::join!(client.acks(300), twin.acks(300));
    assert_eq!(one, two);
    assert_eq!(server.lines().await.all_texts().await.len(), 300);
}

#[tokio::test]
async fn the_same_key_with_another_text_is_a_conflict() {
    let server = Server::start().await;
    let mut client = Frames::hello(server.address(), 1).await;
    client.append(0, false, &["a"]).await;
    client.acks(1).await;
    client.append(0, true, &["another", "b"]).await;
    match client.message().await {
        ServerMessage::Refused { first_counter: 0, count: 1, refusal } => {
            assert_eq!(refusal.code.as_str(), "conflict");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(client.acks(1).await, [(1, 2)]);
    assert_eq!(server.lines().await.all_texts().await, ["a", "b"]);
}

#[tokio::test]
async fn a_text_that_is_refused_names_its_counter_and_the_others_are_stored() {
    let server = Server::start().await;
    let mut client = Frames::hello(server.address(), 1).await;
    let long = "x".repeat(65_537);
    let texts: [&[u8]; 9] =
        [b"a", b"", b"b", long.as_bytes(), b"n\0l", b"caf\xe9", b"\xed\xa0\x80", b"\n", &[b'y'; 65_536]];
    let mut body = [&40u64.to_be_bytes()[..], &[0]].concat();
    for text in texts {
        body.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
        body.extend_from_slice(text);
    }
    client.send_bytes(frame(0x02, &body)).await;
    let (mut acked, mut refused) = (Vec::new(), Vec::new());
    while acked.len() + refused.len() < texts.len() {
        match client.message().await {
            ServerMessage::Acks(runs) => acked.extend(pairs(&runs)),
            ServerMessage::Refused { first_counter, count, refusal } => {
                refused.extend(
                    (first_counter..).take(count as usize).map(|counter| (counter, refusal.code.as_str())),
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(acked, [(40, 1), (42, 2), (47, 3), (48, 4)]);
    assert_eq!(refused, [(41, "empty"), (43, "too-long"), (44, "nul"), (45, "utf8"), (46, "utf8")]);
    assert_eq!(server.lines().await.all_texts().await, ["a", "b", "\\n", &"y".repeat(65_536)]);
}

// --- reading ---------------------------------------------------------------------------------------------

#[tokio::test]
async fn blocks_are_byte_for_byte_what_is_on_disk() {
    let server = Server::start().await;
    let mut client = Frames::hello(server.address(), 1).await;
    let texts: Vec<String> = (0..500).map(|n| format!("今天 {n}\t\u{1b} {}", "x".repeat(n * 5))).collect();
    client.append(0, false, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    client.acks(500).await;
    let disk = on_disk(&server);
    let header = disk.iter().position(|&b| b == b'\n').unwrap() + 1;
    let all = client.history(1, Which::All).await;
    assert_eq!((all.first, all.last, all.dense), (1, 500, true));
    assert!(disk.ends_with(&all.lines) && all.lines.len() >= disk.len() - header);
    let mut walker = Walker::new(1, client.seal());
    let mut seen = Vec::new();
    walker.walk(&all.lines, |step| match step {
        Step::Entry(stored) => seen.push(stored.unescaped().into_owned()),
        Step::Gap(gap) => panic!("{gap:?}"),
    });
    assert_eq!(seen, texts);
    for (which, first) in [
        (Which::Last(7), 494),
        (Which::From(450), 450),
        (Which::Days(Day::Yesterday, Day::Today), 1),
        (Which::Last(0), 501),
        (Which::From(501), 501),
    ] {
        let answered = client.history(2, which).await;
        let seqs: Vec<u64> = answered.texts().iter().map(|(seq, _)| *seq).collect();
        assert_eq!(seqs, (first..=500).collect::<Vec<_>>(), "{which:?}");
        assert!(disk.ends_with(&answered.lines) && answered.dense, "{which:?}");
        assert_eq!(answered.first <= answered.last, !seqs.is_empty(), "{which:?}");
    }
}

#[tokio::test]
async fn a_search_brings_whole_lines_and_is_not_dense() {
    let server = Server::start().await;
    let mut client = Frames::hello(server.address(), 1).await;
    client.append(0, false, &["Rain", "sun", "今天下雨", "rain"]).await;
    client.acks(4).await;
    for (id, text, found) in
        [(7, "rain", &[1, 4][..]), (8, "Rain", &[1]), (9, "下雨", &[3]), (10, "snow", &[])]
    {
        client.send(&ClientMessage::Search { id, filter: Filter::of_text(text) }).await;
        let answered = client.answer(id).await;
        let seqs: Vec<u64> = answered.texts().iter().map(|(seq, _)| *seq).collect();
        assert_eq!((&seqs[..], answered.dense), (found, false), "{text}");
    }
}

#[tokio::test]
async fn a_request_sees_all_appends_before_it_and_answers_keep_their_order() {
    let server = Server::start().await;
    let mut client = Frames::hello(server.address(), 1).await;
    let mut bytes = Vec::new();
    for round in 0..50 {
        let texts = diary_proto::message::Texts::new(["a", "b"]);
        let append = diary_proto::message::Append { first_counter: round * 2, retry: false, texts };
        ClientMessage::Append(append).write(&mut bytes);
        ClientMessage::History { id: round as u32 + 1, scope: Which::Last(1).into() }.write(&mut bytes);
    }
    client.send_bytes(bytes).await;
    for round in 0..50 {
        assert_eq!(client.acks(2).await, [(round * 2, round * 2 + 1), (round * 2 + 1, round * 2 + 2)]);
        let answered = client.answer(round as u32 + 1).await;
        assert_eq!(answered.texts(), [(round * 2 + 2, "b".to_owned())]);
    }
}

#[tokio::test]
async fn a_follow_brings_history_and_what_comes_until_it_is_replaced_or_ended() {
    let server = Server::start().await;
    let mut writer = server.lines().await;
    for n in 1..=5 {
        writer.ask(&n.to_string()).await;
    }
    let mut client = Frames::hello(server.address(), 1).await;
    client.send(&ClientMessage::Follow { id: 6, from: Some(2) }).await;
    let begun = ServerMessage::Answer { id: 6, first: 2, last: u64::MAX, dense: true, shown: false };
    assert_eq!(client.message().await, begun);
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.extend(followed(&mut client, 6).await);
    }
    writer.ask("6").await;
    seen.extend(followed(&mut client, 6).await);
    assert_eq!(seen, [2, 3, 4, 5, 6]);

    client.send(&ClientMessage::Follow { id: 7, from: None }).await;
    assert_eq!(
        client.message().await,
        ServerMessage::Answer { id: 7, first: 7, last: u64::MAX, dense: true, shown: false }
    );
    writer.ask("7").await;
    assert_eq!(followed(&mut client, 7).await, [7]);

    client.send(&ClientMessage::FollowOff { id: 8 }).await;
    assert_eq!(client.message().await, ServerMessage::End { id: 8 });
    writer.ask("8").await;
    client.send(&ClientMessage::Quit).await;
    assert_eq!(client.message().await, ServerMessage::Bye { reason: "bye".to_owned() });
    assert_eq!(client.next().await, None);
}

/// The seqs in the next block of the follow `id`.
async fn followed(client: &mut Frames, id: u32) -> Vec<u64> {
    match client.message().await {
        ServerMessage::Block { id: its, lines } if its == id => {
            texts_of(&lines, client.seal()).into_iter().map(|(seq, _)| seq).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_can_only_resume_the_journal_that_it_saw() {
    let server = Server::start().await;
    let mut client = Frames::connect(server.address()).await;
    let id = client.greet(&hello(1)).await.journal_id;
    client.append(0, false, &["a", "b"]).await;
    client.acks(2).await;
    let lines = client.history(1, Which::All).await.lines;
    let crcs: Vec<u32> = lines
        .split(|&b| b == b'\n')
        .filter_map(|line| diary_proto::StoredLine::parse(line, client.seal()).ok())
        .map(|stored| stored.crc)
        .collect();
    for (seq, crc) in [(0, 0), (1, crcs[0]), (2, crcs[1])] {
        let mut client = Frames::connect(server.address()).await;
        let resume = Some(Resume { id, seq, crc });
        assert_eq!(client.greet(&Hello { resume, ..hello(1) }).await.head, 2, "{seq}");
    }
    for (resume, code) in [
        (Resume { id: id ^ 1, seq: 0, crc: 0 }, "other-journal: "),
        (Resume { id: id ^ 1, seq: 2, crc: crcs[1] }, "other-journal: "),
        (Resume { id, seq: 2, crc: crcs[0] }, "restored: "),
        (Resume { id, seq: 1, crc: crcs[0] ^ 1 }, "restored: "),
        (Resume { id, seq: 3, crc: crcs[1] }, "restored: "),
        (Resume { id, seq: u64::MAX, crc: 0 }, "restored: "),
    ] {
        let mut client = Frames::connect(server.address()).await;
        client.send(&ClientMessage::Hello(Hello { resume: Some(resume), ..hello(1) })).await;
        assert!(client.fatal().await.starts_with(code), "{resume:?}");
    }
}

// --- bad input -------------------------------------------------------------------------------------------

#[tokio::test]
async fn an_unknown_type_from_0x80_up_is_ignored() {
    let server = Server::start().await;
    let mut client = Frames::connect(server.address()).await;
    client.send_bytes([frame(0x80, b"\x12\x34"), frame(0xff, b"")].concat()).await;
    client.greet(&hello(1)).await;
    client.send_bytes([frame(0xfe, &[0; 100_000]), frame(0x80, b"")].concat()).await;
    client.append(0, false, &["a"]).await;
    assert_eq!(client.acks(1).await, [(0, 1)]);
}

/// After Hello, the frames in `bytes` are each answered with an error of this code; the connection
/// stays, and nothing is stored.
async fn check_stays(bytes: &[u8], code: &str) {
    let server = Server::start().await;
    let mut client = Frames::hello(server.address(), 1).await;
    client.send_bytes(bytes).await;
    let (_, refusal) = client.error().await;
    assert!(refusal.starts_with(&format!("{code}: ")), "{bytes:?}: {refusal}");
    client.append(9, false, &["fine"]).await;
    assert_eq!(client.acks(1).await, [(9, 1)], "{bytes:?}");
}

#[tokio::test]
async fn frames_that_cannot_be_read_are_refused_and_the_connection_stays() {
    for kind in [0x00, 0x08, 0x10, 0x11, 0x12, 0x18, 0x20, 0x7f] {
        check_stays(&frame(kind, b"whatever"), "bad-frame").await;
    }
    let text = |length: u32, text: &[u8]| [&[0; 9][..], &length.to_be_bytes(), text].concat();
    for (kind, body) in [
        (0x02, vec![]),
        (0x02, vec![0; 8]),
        (0x02, vec![0; 9]),
        (0x02, [&[0; 8][..], &[2, 0, 0, 0, 1, b'a']].concat()),
        (0x02, text(2, b"a")),
        (0x02, text(u32::MAX, b"a")),
        (0x02, [text(1, b"a"), vec![0, 0]].concat()),
        (0x02, [&[0xff; 8][..], &[0, 0, 0, 0, 1, b'a']].concat()),
        (0x03, vec![0, 0, 0, 1]),
        (0x03, vec![0, 0, 0, 1, 9]),
        (0x03, vec![0, 0, 0, 1, 0, 0]),
        (0x03, [&[0, 0, 0, 1, 2][..], &[0; 8]].concat()),
        (0x03, [&[0, 0, 0, 1, 3][..], &20_260_230u32.to_be_bytes(), &[0; 4]].concat()),
        (0x04, vec![0, 0]),
        (0x05, vec![]),
        (0x06, vec![0, 0, 0, 1, 0, 0]),
        (0x06, vec![0, 0, 0, 1, 0, 5, b'a']),
        (0x06, vec![0, 0, 0, 1, 0, 1, 0xff]),
        (0x01, vec![]),
    ] {
        check_stays(&frame(kind, &body), "bad-frame").await;
    }
    let garbage: Vec<u8> = (0..1_048_575u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    check_stays(&frame(0x03, &garbage), "bad-frame").await;
}

#[tokio::test]
async fn more_entries_than_an_append_may_have_are_refused() {
    let body = [&[0; 9][..], &[0, 0, 0, 1, b'a'].repeat(65_537)].concat();
    check_stays(&frame(0x02, &body), "bad-frame").await;
}

#[tokio::test]
async fn fields_behind_the_known_ones_are_ignored() {
    let server = Server::start().await;
    let mut client = Frames::hello(server.address(), 1).await;
    client.append(0, false, &["a"]).await;
    client.acks(1).await;
    let all = [&[0, 0, 0, 5, 1][..], &[0xff; 16], &[0]].concat();
    client.send_bytes(frame(0x03, &[&all[..], &[0xde, 0xad]].concat())).await;
    assert_eq!(client.answer(5).await.texts(), [(1, "a".to_owned())]);
}

#[tokio::test]
async fn a_frame_before_hello_is_refused_and_not_stored() {
    let server = Server::start().await;
    let mut client = Frames::connect(server.address()).await;
    client.append(0, false, &["early"]).await;
    client.send(&ClientMessage::History { id: 3, scope: Which::All.into() }).await;
    for _ in 0..2 {
        assert!(client.error().await.1.starts_with("hello: "));
    }
    client.greet(&hello(1)).await;
    client.append(0, false, &["a"]).await;
    assert_eq!(client.acks(1).await, [(0, 1)]);
    assert_eq!(server.lines().await.all_texts().await, ["a"]);
}

#[tokio::test]
async fn a_second_hello_is_refused_and_changes_nothing() {
    let server = Server::start().await;
    let mut client = Frames::hello(server.address(), 1).await;
    client.send(&ClientMessage::Hello(Hello { author: "other".to_owned(), ..hello(2) })).await;
    assert!(client.error().await.1.starts_with("hello: "));
    client.append(0, false, &["a"]).await;
    assert_eq!(client.acks(1).await, [(0, 1)]);
    let stored = String::from_utf8(on_disk(&server)).unwrap();
    assert!(stored.contains(&format!(" local a\t0 {}.0 ", Producer::of_secret(&[1; 16]))), "{stored}");
}

#[tokio::test]
async fn a_hello_that_cannot_be_taken_ends_the_connection_or_can_be_mended() {
    let server = Server::start().await;
    for (bad, code) in [
        (Hello { version: 2, ..hello(1) }, "version"),
        (Hello { version: 0, ..hello(1) }, "version"),
        (Hello { author: "a b".to_owned(), ..hello(1) }, "bad-argument"),
        (Hello { author: "x".repeat(65), ..hello(1) }, "too-long"),
        (Hello { author: "\u{3164}".to_owned(), ..hello(1) }, "bad-argument"),
    ] {
        let mut client = Frames::connect(server.address()).await;
        client.send(&ClientMessage::Hello(bad.clone())).await;
        assert!(client.fatal().await.starts_with(&format!("{code}: ")), "{bad:?}");
    }
    for length in [0, 15, 65] {
        let mut client = Frames::connect(server.address()).await;
        client.send(&ClientMessage::Hello(Hello { secret: vec![1; length].into(), ..hello(1) })).await;
        let (_, refusal) = client.error().await;
        assert!(refusal.starts_with("bad-frame: ") || refusal.starts_with("too-long: "), "{refusal}");
        client.greet(&hello(1)).await;
    }
}

#[tokio::test]
async fn a_length_out_of_bounds_ends_the_connection() {
    let server = Server::start().await;
    for length in [0u32, 0x0010_0001, 0x00ff_ffff, 0x0100_0000, u32::MAX] {
        let mut client = Frames::hello(server.address(), 1).await;
        client.append(0, true, &["a"]).await;
        client.send_bytes(length.to_be_bytes()).await;
        client.send_bytes(b"/quit\nentry\n").await;
        assert_eq!(client.acks(1).await, [(0, 1)], "what came before is answered");
        let refusal = client.fatal().await;
        assert!(refusal.starts_with("bad-frame: ") && refusal.contains("1048576"), "{refusal}");
    }
    // As the first bytes of a connection, too.
    for bytes in [&[0, 0, 0, 0][..], &[0, 0x10, 0, 1]] {
        let mut client = Frames::connect(server.address()).await;
        client.send_bytes(bytes).await;
        assert!(client.fatal().await.starts_with("bad-frame: "));
    }
    assert_eq!(server.lines().await.all_texts().await, ["a"]);
}

#[tokio::test]
async fn the_largest_frame_is_taken() {
    let server = Server::start().await;
    let mut client = Frames::hello(server.address(), 1).await;
    let text = "x".repeat(65_000);
    let mut body = vec![0; 9];
    while body.len() + 4 + text.len() < 1_048_576 {
        body.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
        body.extend_from_slice(text.as_bytes());
    }
    let rest = 1_048_575 - body.len() - 4;
    body.extend_from_slice(&u32::try_from(rest).unwrap().to_be_bytes());
    body.extend_from_slice(&text.as_bytes()[..rest]);
    let bytes = frame(0x02, &body);
    assert_eq!(bytes[..4], [0, 0x10, 0, 0]);
    client.send_bytes(bytes).await;
    assert_eq!(client.acks(17).await.last(), Some(&(16, 17)));
}

#[tokio::test]
async fn the_input_that_ends_inside_a_frame_loses_that_frame_and_says_so() {
    let server = Server::start().await;
    let mut client = Frames::hello(server.address(), 1).await;
    client.append(0, false, &["whole"]).await;
    client.send_bytes(&frame(0x02, &[&[0; 9][..], &[0, 0, 0, 1, b'b']].concat())[..12]).await;
    client.writer.shutdown().await.unwrap();
    assert_eq!(client.acks(1).await, [(0, 1)]);
    assert!(client.fatal().await.starts_with("bad-frame: "));
    assert_eq!(server.lines().await.all_texts().await, ["whole"]);
}

#[tokio::test]
async fn the_end_of_input_is_no_goodbye_in_frame_mode_either() {
    let server = Server::start().await;
    let mut client = Frames::hello(server.address(), 1).await;
    for counter in 0..200 {
        client.append(counter, false, &["a"]).await;
    }
    client.send(&ClientMessage::History { id: 1, scope: Which::All.into() }).await;
    client.writer.shutdown().await.unwrap();
    assert_eq!(client.acks(200).await.len(), 200);
    assert_eq!(client.answer(1).await.texts().len(), 200);
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn no_hello_in_time_ends_the_connection_and_silence_does_not() {
    let server = Server::with(|config| config.limits.hello = Duration::from_millis(100)).await;
    let mut silent = Lines::connect(server.address()).await;
    let mut welcome = Frames::hello(server.address(), 1).await;
    for begun in [&[0][..], &[0, 0, 0], &frame(0x80, b""), &frame(0x07, b"")] {
        let mut client = Frames::connect(server.address()).await;
        client.send_bytes(begun).await;
        if begun.ends_with(&[7]) {
            assert!(client.error().await.1.starts_with("hello: "));
        }
        assert!(client.fatal().await.starts_with("hello: "));
    }
    welcome.append(0, false, &["one"]).await;
    assert_eq!(welcome.acks(1).await, [(0, 1)]);
    assert!(is_ack(&silent.ask("two").await, 2));
}

#[tokio::test]
async fn a_client_that_neither_says_hello_nor_reads_is_closed() {
    let server = Server::with(|config| {
        config.limits.hello = Duration::from_millis(300);
        config.limits.stall = Duration::from_millis(300);
    })
    .await;
    let mut client = Frames::connect(server.address()).await;
    let refused = frame(0x07, b"").repeat(10_000);
    let closed = async { while client.writer.write_all(&refused).await.is_ok() {} };
    soon("the server closes", closed).await;
    assert!(is_ack(&server.lines().await.ask("fine").await, 1));
}

#[tokio::test]
async fn any_frame_can_come_a_byte_at_a_time() {
    let server = Server::start().await;
    let mut client = Frames::connect(server.address()).await;
    let mut bytes = Vec::new();
    ClientMessage::Hello(hello(1)).write(&mut bytes);
    let texts = diary_proto::message::Texts::new(["今天", "b"]);
    ClientMessage::Append(diary_proto::message::Append { first_counter: 0, retry: false, texts })
        .write(&mut bytes);
    bytes.extend(frame(0x90, b"later"));
    ClientMessage::History { id: 1, scope: Which::All.into() }.write(&mut bytes);
    ClientMessage::Quit.write(&mut bytes);
    for byte in bytes {
        client.send_bytes([byte]).await;
        // Lets the server read it.
        tokio::task::yield_now().await;
    }
    assert!(matches!(client.message().await, ServerMessage::Welcome(_)));
    assert_eq!(client.acks(2).await, [(0, 1), (1, 2)]);
    let answered = client.answer(1).await;
    assert_eq!(answered.texts(), [(1, "今天".to_owned()), (2, "b".to_owned())]);
    assert!(matches!(client.message().await, ServerMessage::Bye { .. }));
}

#[tokio::test]
async fn what_a_length_promises_costs_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &["127.0.0.1:0"], &["--log", "warn"]).await;
    let mut other = Frames::hello(process.address(), 2).await;
    let before = process.memory("VmData");
    let mut promising = Vec::new();
    for _ in 0..200 {
        let mut client = Frames::hello(process.address(), 1).await;
        client.send_bytes([0, 0x10, 0, 0, 2]).await;
        promising.push(client);
    }
    for counter in 0..20 {
        other.append(counter, false, &["meanwhile"]).await;
        other.acks(1).await;
    }
    let grown = process.memory("VmData").saturating_sub(before);
    assert!(grown < 50 << 20, "200 promises of 1 MiB took {grown} bytes");
}
