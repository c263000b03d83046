//! History, follow and search, complete and interrupted.

use diary_client::{Access, Client, Error, Event, History, Reader, Resume, Which};
use diary_proto::message::{ClientMessage, ServerMessage};
use diary_proto::{Code, Filter, Refusal, Scope};
use tokio::io::AsyncWriteExt;

use crate::fake::{END, Fake, JOURNAL, Peer, block, lines, soon};

/// Returns the next `count` events, or all of them up to the end.
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
            Some(Ok(Event::Restored { head })) => format!("restored {head}"),
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

/// Accepts the connection of a reading; returns it and its request.
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

/// Complete ranges are not requested again, and a late end applies to no other range.
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
    let answer = |id, first, last| ServerMessage::Answer { id, first, last, dense: true, shown: false };
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
        peer.say(ServerMessage::Answer { id: 1, first: 1, last: 30, dense: false, shown: false }).await;
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
    assert_eq!(all(&mut reading).await, "bad-argument: the text to search for is empty end");

    let mut reading = client.follow(Some(1));
    let _peer = fake.accept_to(JOURNAL + 1, 0).await;
    assert!(matches!(soon(reading.next()).await, Some(Err(Error::OtherJournal(_)))));
    assert!(soon(reading.next()).await.is_none());
}

/// Accepts a connection that names the last entry seen, tells it that the entry is missing, and returns the
/// next connection.
async fn restore(fake: &Fake, seen: u64, head: u64) -> Peer {
    let mut peer = fake.accept_hello(JOURNAL, head).await;
    assert_eq!(peer.hello.resume.unwrap().seq, seen);
    let refusal = Refusal::new(Code::Restored, "an older copy was restored");
    peer.say(ServerMessage::Error { id: 0, fatal: true, refusal }).await;
    let peer = fake.accept_to(JOURNAL, head).await;
    assert_eq!(peer.hello.resume.unwrap().seq, 0);
    peer
}

#[tokio::test]
async fn a_follow_goes_on_in_a_diary_that_was_restored_and_so_does_the_writer() {
    let fake = Fake::start().await;
    let (client, writer) = client(&fake).await;
    let mut reading = client.follow(None);
    let (mut peer, _) = accept(&fake).await;
    peer.answer(10, u64::MAX).await;
    peer.say(block(10..=11)).await;
    assert_eq!(events(&mut reading, 2).await, "10 11");
    drop(peer);
    let mut peer = restore(&fake, 11, 5).await;
    assert_eq!(peer.read().await, Some(follow(Some(6))));
    peer.answer(6, u64::MAX).await;
    peer.say(block(6..=6)).await;
    assert_eq!(events(&mut reading, 2).await, "restored 5 6");
    // It is reported once.
    drop(peer);
    let mut peer = fake.accept_to(JOURNAL, 7).await;
    assert_eq!(peer.hello.resume.unwrap().seq, 6);
    assert_eq!(peer.read().await, Some(follow(Some(7))));
    peer.answer(7, u64::MAX).await;
    peer.say(block(7..=7)).await;
    assert_eq!(events(&mut reading, 1).await, "7");

    drop(writer);
    let mut writer = restore(&fake, 7, 3).await;
    let server = async {
        writer.appends(1).await;
        writer.ack(1, 1, 4).await;
    };
    let (ack, ()) = tokio::join!(soon(client.append("a")), server);
    assert_eq!(ack.unwrap().seq, 4);
    // The follow also learns what the writer found out.
    drop(peer);
    let mut peer = fake.accept_to(JOURNAL, 4).await;
    assert_eq!(peer.hello.resume.unwrap().seq, 0);
    assert_eq!(peer.read().await, Some(follow(Some(5))));
    assert_eq!(events(&mut reading, 1).await, "restored 4");
}

/// None of the lost entries was seen, so only the head shows the restore.
#[tokio::test]
async fn a_head_that_is_lower_than_before_is_that_of_an_older_copy() {
    let fake = Fake::start().await;
    let connecting = Reader::connect(fake.address().parse().unwrap());
    let (reader, mut peer) = tokio::join!(soon(connecting), fake.accept_to(JOURNAL, 9));
    let reader = reader.unwrap();
    let mut reading = reader.follow(Some(10));
    assert_eq!(peer.read().await, Some(follow(Some(10))));
    drop(peer);
    let mut peer = fake.accept_to(JOURNAL, 4).await;
    assert_eq!(peer.read().await, Some(follow(Some(5))));
    assert_eq!(events(&mut reading, 1).await, "restored 4");
    assert_eq!(reader.welcome().head, 4);
    // A reading that starts only now has missed nothing.
    let mut reading = reader.history(Which::All);
    let mut peer = fake.accept_to(JOURNAL, 4).await;
    assert_eq!(peer.read().await, Some(history(Which::All)));
    peer.answer(1, 1).await;
    peer.say(block(1..=1)).await;
    assert_eq!(all(&mut reading).await, "1 end");
}

#[tokio::test]
async fn a_history_that_had_begun_ends_when_the_diary_is_restored() {
    let fake = Fake::start().await;
    let (client, _writer) = client(&fake).await;
    let mut reading = client.history(Which::All);
    let (mut peer, _) = accept(&fake).await;
    peer.answer(1, 9).await;
    peer.say(block(1..=3)).await;
    assert_eq!(events(&mut reading, 3).await, "1 2 3");
    drop(peer);
    let _peer = restore(&fake, 3, 2).await;
    assert!(matches!(soon(reading.next()).await, Some(Err(Error::Restored(_)))));
}

#[tokio::test]
async fn a_reader_that_was_somewhere_is_told_if_it_is_not_there() {
    let fake = Fake::start().await;
    let place = Some(Resume { id: JOURNAL, seq: 7, crc: 0xc0_ffee });
    let connect = || Reader::connect_at(fake.address().parse().unwrap(), Access::default(), place);
    let server = async {
        let mut peer = fake.accept_hello(JOURNAL, 9).await;
        assert_eq!(peer.hello.resume, place);
        let refusal = Refusal::new(Code::Restored, "another entry");
        peer.say(ServerMessage::Error { id: 0, fatal: true, refusal }).await;
    };
    let (reader, ()) = tokio::join!(soon(connect()), server);
    assert!(matches!(reader.err(), Some(Error::Restored(_))));
    let (reader, peer) = tokio::join!(soon(connect()), fake.accept_to(JOURNAL, 9));
    drop(peer);
    let _reading = reader.unwrap().follow(Some(8));
    let peer = fake.accept_hello(JOURNAL, 9).await;
    assert_eq!(peer.hello.resume, place, "it knows its place from then on");
    let (reader, _peer) = tokio::join!(soon(connect()), fake.accept_to(JOURNAL + 1, 9));
    assert!(matches!(reader.err(), Some(Error::OtherJournal(_))));
}

/// A follow that is turned away does not make the writer look lost, nor the other way round.
#[tokio::test]
async fn writer_and_readings_have_a_state_each() {
    let fake = Fake::start().await;
    let (client, writer) = client(&fake).await;
    let mut readings = client.reader().state();
    let _reading = client.follow(None);
    let mut turned_away = fake.accept_silent().await;
    turned_away.write_all(b"error busy: too many\n").await.unwrap();
    drop(turned_away);
    soon(readings.wait_for(|state| !state.is_connected())).await.unwrap();
    assert!(client.state().borrow().is_connected());
    let _peer = fake.accept().await;
    soon(readings.wait_for(|state| state.is_connected())).await.unwrap();
    drop(writer);
    soon(client.state().wait_for(|state| !state.is_connected())).await.unwrap();
    assert!(readings.borrow().is_connected());
}

#[tokio::test]
async fn a_reader_needs_no_server_to_begin_with() {
    let fake = Fake::start().await;
    let address = fake.address();
    drop(fake);
    let reader = Reader::new(address.parse().unwrap(), Access::default()).unwrap();
    assert_eq!(reader.welcome().head, 0);
    let mut reading = reader.history(Which::All);
    soon(reader.state().wait_for(|state| state.error().is_some())).await.unwrap();
    let fake = Fake::at(&address).await;
    let mut peer = fake.accept_to(JOURNAL, 1).await;
    assert_eq!(peer.read().await, Some(history(Which::All)));
    peer.answer(1, 1).await;
    peer.say(block(1..=1)).await;
    assert_eq!(all(&mut reading).await, "1 end");
    assert_eq!(reader.welcome().head, 1);
    assert!(reader.state().borrow().is_connected());
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
