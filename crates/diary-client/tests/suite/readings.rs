//! History, follow and search, whole and interrupted.

use diary_client::{Client, Error, Event, History, Reader, Which};
use diary_proto::message::{ClientMessage, ServerMessage};
use diary_proto::{Code, Filter, Refusal, Scope};

use crate::fake::{END, Fake, JOURNAL, Peer, block, lines, soon};

/// The next `count` events, or all of them up to the end.
async fn events(history: &mut History, count: usize) -> String {
    let mut shown = Vec::new();
    while shown.len() < count {
        shown.push(match soon(history.next()).await {
            Some(Ok(Event::Entry(stored))) => {
                assert!(stored.left.ends_with(&stored.entry.text), "{}", stored.left);
                stored.entry.seq.to_string()
            }
            Some(Ok(Event::Gap(gap))) => format!("gap {}..{}", gap.first, gap.last),
            Some(Ok(Event::Damaged { lines })) => format!("damaged {lines}"),
            Some(Err(error)) => error.to_string(),
            None => {
                shown.push("end".into());
                break;
            }
        });
    }
    shown.join(" ")
}

async fn all(history: &mut History) -> String {
    events(history, usize::MAX).await
}

/// The connection of a reading, and what it asks for.
async fn accept(fake: &Fake) -> (Peer, ClientMessage) {
    let mut peer = fake.accept().await;
    let request = peer.read().await.unwrap();
    (peer, request)
}

async fn client(fake: &Fake) -> (Client, Peer) {
    fake.client().await
}

fn history(which: Which) -> ClientMessage {
    ClientMessage::History { id: 1, scope: which.into() }
}

fn follow(from: Option<u64>) -> ClientMessage {
    ClientMessage::Follow { id: 1, from }
}

/// What was complete is not asked for again, and an end that comes late is nobody else's.
#[tokio::test]
async fn several_ranges_come_over_one_connection_in_their_order() {
    let fake = Fake::start().await;
    let (reader, mut peer) =
        tokio::join!(soon(Reader::connect(fake.address().parse().unwrap())), fake.accept());
    let ranges = [Which::Last(2), Which::From(9), Which::Last(1), Which::Last(0)];
    let mut reading = reader.unwrap().histories(ranges);
    for (id, which) in (1..).zip(ranges) {
        assert_eq!(peer.read().await, Some(ClientMessage::History { id, scope: which.into() }));
    }
    let answer = |id, first, last| ServerMessage::Answer { id, first, last, dense: true };
    let block = |id, seqs: &[u64]| ServerMessage::Block { id, lines: lines(seqs.iter().copied()).into() };
    peer.say(answer(1, 1, 2)).await;
    peer.say(block(1, &[1, 2])).await;
    peer.say(ServerMessage::End { id: 1 }).await;
    peer.say(answer(2, 9, 12)).await;
    peer.say(block(2, &[9, 10])).await;
    assert_eq!(events(&mut reading, 4).await, "1 2 9 10");
    drop(peer);
    let mut peer = fake.accept().await;
    let rest = Scope { up_to: Some(12), ..Which::From(11).into() };
    for (id, scope) in [(2, rest), (3, Which::Last(1).into()), (4, Which::Last(0).into())] {
        assert_eq!(peer.read().await, Some(ClientMessage::History { id, scope }));
    }
    peer.say(answer(2, 11, 13)).await;
    peer.say(block(2, &[11, 12, 13])).await;
    peer.say(ServerMessage::End { id: 2 }).await;
    peer.say(answer(3, 13, 13)).await;
    peer.say(block(3, &[13])).await;
    peer.say(ServerMessage::End { id: 3 }).await;
    peer.say(answer(4, 14, 13)).await;
    peer.say(ServerMessage::End { id: 4 }).await;
    assert_eq!(all(&mut reading).await, "11 12 13 end");
}

#[tokio::test]
async fn a_history_is_read_and_its_connection_parts() {
    let fake = Fake::start().await;
    let (client, writer) = client(&fake).await;
    let mut reading = client.history(Which::Last(3));
    let (mut peer, request) = accept(&fake).await;
    assert_eq!(request, history(Which::Last(3)));
    assert_ne!(peer.hello.secret, writer.hello.secret, "a reader has no part in the keys");
    peer.answer(5, 7).await;
    peer.say(block(5..=6)).await;
    peer.say(block(7..=7)).await;
    peer.say(END).await;
    assert_eq!(all(&mut reading).await, "5 6 7 end");
    peer.part().await;
}

#[tokio::test]
async fn an_empty_history_ends() {
    let fake = Fake::start().await;
    let (client, _writer) = client(&fake).await;
    let mut reading = client.history(Which::All);
    let (mut peer, _) = accept(&fake).await;
    peer.answer(1, 0).await;
    peer.say(END).await;
    assert_eq!(all(&mut reading).await, "end");
}

#[tokio::test]
async fn a_damaged_line_is_a_gap() {
    let fake = Fake::start().await;
    let (client, _writer) = client(&fake).await;
    let mut reading = client.history(Which::All);
    let (mut peer, _) = accept(&fake).await;
    peer.answer(1, 5).await;
    let mut lines = lines(1..=4);
    let second = lines.iter().position(|&b| b == b'\n').unwrap() + 40;
    lines[second] ^= 1;
    peer.say(ServerMessage::Block { id: 1, lines: lines.into() }).await;
    peer.say(END).await;
    assert_eq!(all(&mut reading).await, "1 gap 2..2 3 4 gap 5..5 end");
}

#[tokio::test]
async fn an_interrupted_history_goes_on_where_it_was() {
    let fake = Fake::start().await;
    let (client, _writer) = client(&fake).await;
    let mut reading = client.history(Which::Last(4));
    let (peer, _) = accept(&fake).await;
    drop(peer);
    let (mut peer, request) = accept(&fake).await;
    assert_eq!(request, history(Which::Last(4)), "it had not begun");
    peer.answer(5, 8).await;
    peer.say(block(5..=6)).await;
    assert_eq!(events(&mut reading, 2).await, "5 6");
    drop(peer);
    let (mut peer, request) = accept(&fake).await;
    let rest = Scope { up_to: Some(8), ..Which::From(7).into() };
    assert_eq!(request, ClientMessage::History { id: 1, scope: rest });
    let resume = peer.hello.resume.unwrap();
    let last = lines(6..=6);
    let crc = diary_proto::Seal::of_journal(JOURNAL).check(&last[..last.len() - 1]).unwrap().1;
    assert_eq!((resume.id, resume.seq, resume.crc), (JOURNAL, 6, crc));
    peer.answer(7, 20).await;
    peer.say(block(7..=20)).await;
    peer.say(END).await;
    assert_eq!(all(&mut reading).await, "7 8 end", "up to the first answer's last");
}

#[tokio::test]
async fn a_follow_goes_on_over_connections_without_gap_or_double() {
    let fake = Fake::start().await;
    let (client, _writer) = client(&fake).await;
    let mut reading = client.follow(None);
    let (mut peer, request) = accept(&fake).await;
    assert_eq!(request, follow(None));
    peer.answer(10, u64::MAX).await;
    peer.say(block(10..=11)).await;
    assert_eq!(events(&mut reading, 2).await, "10 11");
    peer.say(ServerMessage::Bye { reason: "the server stops".into() }).await;
    let (mut peer, request) = accept(&fake).await;
    assert_eq!(request, follow(Some(12)));
    peer.answer(12, u64::MAX).await;
    peer.say(block(11..=13)).await;
    assert_eq!(events(&mut reading, 2).await, "12 13");
    drop(reading);
    assert_eq!(peer.read().await, None, "a dropped reading leaves");
}

#[tokio::test]
async fn a_search_that_breaks_brings_no_hit_twice() {
    let fake = Fake::start().await;
    let (client, _writer) = client(&fake).await;
    let mut reading = client.search("text");
    let hits = async |peer: &mut Peer, seqs: &[u64]| {
        peer.say(ServerMessage::Answer { id: 1, first: 1, last: 30, dense: false }).await;
        peer.say(block(seqs.iter().copied())).await;
    };
    let (mut peer, request) = accept(&fake).await;
    assert_eq!(request, ClientMessage::Search { id: 1, filter: Filter::of_text("text") });
    hits(&mut peer, &[3, 9]).await;
    assert_eq!(events(&mut reading, 2).await, "3 9");
    drop(peer);
    let (mut peer, request) = accept(&fake).await;
    let rest = Scope { up_to: Some(30), ..Which::From(10).into() };
    let rest = Filter { scope: rest, ..Filter::of_text("text") };
    assert_eq!(request, ClientMessage::Search { id: 1, filter: rest });
    hits(&mut peer, &[3, 9, 17]).await;
    peer.say(END).await;
    assert_eq!(all(&mut reading).await, "17 end");
}

#[tokio::test]
async fn a_refused_reading_ends_and_another_journal_too() {
    let fake = Fake::start().await;
    let (client, _writer) = client(&fake).await;
    let mut reading = client.history(Which::All);
    let (mut peer, _) = accept(&fake).await;
    let refusal = Refusal::new(Code::Unreadable, "the disk failed");
    peer.say(ServerMessage::Error { id: 1, fatal: false, refusal }).await;
    assert_eq!(all(&mut reading).await, "unreadable: the disk failed end");

    let mut reading = client.search("");
    assert_eq!(all(&mut reading).await, "bad-argument: a text to look for has at least one character end");

    let mut reading = client.follow(Some(1));
    let _peer = fake.accept_to(JOURNAL + 1, 0).await;
    assert!(matches!(soon(reading.next()).await, Some(Err(Error::OtherJournal(_)))));
    assert!(soon(reading.next()).await.is_none());
}

#[tokio::test]
async fn a_reader_that_stops_holds_up_no_ack() {
    let fake = Fake::start().await;
    let (client, mut writer) = client(&fake).await;
    let _reading = client.follow(Some(1));
    let (mut peer, _) = accept(&fake).await;
    peer.answer(1, u64::MAX).await;
    let flood = tokio::spawn(async move {
        for first in (1..).step_by(1000) {
            peer.say(block(first..first + 1000)).await;
        }
    });
    for (counter, text) in (1..).zip(["a", "b", "c"]) {
        let server = async {
            writer.appends(1).await;
            writer.ack(counter, 1, counter).await;
        };
        let (ack, ()) = tokio::join!(soon(client.append(text)), server);
        assert_eq!(ack.unwrap().seq, counter);
    }
    assert!(!flood.is_finished());
    flood.abort();
}
