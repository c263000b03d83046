//! Each entry is written once, whatever happens to the connection.

use diary_client::{Ack, Client, Error, Options, Pending, Place, Producer, Secret};
use diary_proto::message::{ClientMessage, ServerMessage};
use diary_proto::{Code, Refusal};
use futures::FutureExt;

use crate::fake::{Fake, JOURNAL, TIME, soon};

async fn send(client: &Client, texts: &[&str]) -> Vec<Pending> {
    let mut pendings = Vec::new();
    for text in texts {
        pendings.push(client.send(*text).await.unwrap());
    }
    pendings
}

/// Returns the seqs or errors of the answers.
async fn told(pendings: Vec<Pending>) -> String {
    let mut told = Vec::new();
    for pending in pendings {
        told.push(match soon(pending).await {
            Ok(ack) => ack.seq.to_string(),
            Err(error) => error.to_string(),
        });
    }
    told.join(" ")
}

/// Waits until the client knows that its connection is lost or re-established.
async fn until(client: &Client, connected: bool) {
    let mut state = client.state();
    soon(state.wait_for(|state| state.is_connected() == connected)).await.unwrap();
}

#[tokio::test]
async fn an_entry_is_acked() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client().await;
    let server = async {
        assert_eq!(peer.appends(1).await, "1: hello");
        peer.ack(1, 1, 42).await;
    };
    let (ack, ()) = tokio::join!(soon(client.append("hello")), server);
    assert_eq!(ack.unwrap(), Ack { seq: 42, time: TIME });
}

#[tokio::test]
async fn a_refusal_ends_its_entry_and_no_other() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client().await;
    let pendings = send(&client, &["a", "b", "c"]).await;
    peer.appends(3).await;
    let refusal = Refusal::new(Code::Conflict, "another text");
    peer.say(ServerMessage::Refused { first_counter: 2, count: 1, refusal }).await;
    peer.ack(1, 1, 1).await;
    peer.ack(3, 1, 2).await;
    assert_eq!(told(pendings).await, "1 conflict: another text 2");

    let error = soon(client.append("a\0b")).await.unwrap_err();
    assert!(matches!(error, Error::Refused(refusal) if refusal.code == Code::Nul), "not even sent");
}

#[tokio::test]
async fn what_was_in_flight_is_sent_again_with_the_same_counters() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client().await;
    let secret = peer.hello.secret.clone();
    let mut pendings = send(&client, &["a", "b", "c"]).await;
    assert!(peer.appends(3).await.starts_with("1: a"));
    peer.ack(1, 1, 1).await;
    soon(&mut pendings[0]).await.unwrap();
    drop(peer);
    until(&client, false).await;
    drop(pendings.remove(0));
    pendings.extend(send(&client, &["d"]).await);

    let mut peer = fake.accept().await;
    assert_eq!(peer.hello.secret, secret);
    assert_eq!(peer.hello.resume.map(|resume| (resume.id, resume.seq)), Some((JOURNAL, 0)));
    assert_eq!(peer.appends(3).await, "2+: b c; 4: d");
    peer.ack(2, 3, 2).await;
    assert_eq!(told(pendings).await, "2 3 4");
    until(&client, true).await;
}

/// A program that ended without acks left its secret and counters to the next one.
#[tokio::test]
async fn a_client_goes_on_where_another_one_ended() {
    let fake = Fake::start().await;
    let secret = Secret::new("sixteen bytes or more").unwrap();
    let options = Options { secret: Some(secret.clone()), ..Options::default() };
    let connecting = Client::connect(fake.address().parse().unwrap(), options);
    let (client, mut peer) = tokio::join!(soon(connecting), fake.accept());
    let client = client.unwrap();
    assert_eq!(peer.hello.secret, secret.as_bytes());
    assert_eq!(client.producer(), Producer::of_secret(secret.as_bytes()));
    let mut pendings = Vec::new();
    for (counter, sent, text) in [(5, true, "a"), (6, true, "b"), (7, false, "c"), (9, false, "d")] {
        pendings.push(client.room().await.unwrap().send_at(Place { counter, sent }, text).unwrap());
    }
    assert_eq!(peer.appends(4).await, "5+: a b; 7: c; 9: d");
    peer.ack(5, 1, 3).await;
    peer.ack(6, 2, 9).await;
    peer.ack(9, 1, 11).await;
    assert_eq!(told(pendings).await, "3 9 10 11");
}

/// No later entry overtakes it, and it is not a retry: the server said that it is not stored.
#[tokio::test]
async fn a_server_without_room_is_asked_again_in_order() {
    for code in [Code::DiskFull, Code::BadClock] {
        let fake = Fake::start().await;
        let (client, mut peer) = fake.client().await;
        let pendings = send(&client, &["a", "b", "c"]).await;
        peer.appends(3).await;
        peer.ack(1, 1, 1).await;
        let refusal = Refusal::new(code, "why");
        peer.say(ServerMessage::Refused { first_counter: 2, count: 2, refusal: refusal.clone() }).await;
        assert_eq!(peer.read().await, None, "the client leaves once all is answered");
        let mut state = client.state();
        soon(state.wait_for(|state| state.full() == Some(&refusal))).await.unwrap();
        assert!(state.borrow().is_connected(), "the server is there");
        let mut peer = fake.accept().await;
        assert_eq!(peer.appends(2).await, "2: b c");
        peer.ack(2, 2, 2).await;
        assert_eq!(told(pendings).await, "1 2 3");
        soon(state.wait_for(|state| state.full().is_none())).await.unwrap();
    }
}

#[tokio::test]
async fn refusals_that_pass_are_tried_again_on_the_next_connection() {
    for code in [Code::UnknownOutcome, Code::Stopping, Code::DiskFailed, Code::Busy] {
        let fake = Fake::start().await;
        let (client, mut peer) = fake.client().await;
        let pendings = send(&client, &["a", "b"]).await;
        peer.appends(2).await;
        peer.say(ServerMessage::Refused { first_counter: 2, count: 1, refusal: Refusal::new(code, "why") })
            .await;
        peer.ack(1, 1, 1).await;
        assert_eq!(peer.read().await, None, "the client leaves once all is answered");
        let mut peer = fake.accept().await;
        assert_eq!(peer.appends(1).await, "2+: b");
        peer.ack(2, 1, 2).await;
        assert_eq!(told(pendings).await, "1 2", "{code}");
    }
}

#[tokio::test]
async fn a_goodbye_or_nonsense_of_the_server_is_a_lost_connection() {
    let bye = ServerMessage::Bye { reason: "the server stops".into() };
    let refusal = Refusal::new(Code::Stopping, "soon");
    for farewell in [
        bye,
        ServerMessage::Error { id: 0, fatal: true, refusal },
        ServerMessage::Acks(vec![diary_proto::message::Run {
            first_counter: 9,
            count: 1,
            first_seq: 1,
            time: TIME,
        }]),
        ServerMessage::End { id: 3 },
    ] {
        let fake = Fake::start().await;
        let (client, mut peer) = fake.client().await;
        let pendings = send(&client, &["a"]).await;
        peer.appends(1).await;
        peer.say(farewell).await;
        let mut peer = fake.accept().await;
        assert_eq!(peer.appends(1).await, "1+: a");
        peer.ack(1, 1, 7).await;
        assert_eq!(told(pendings).await, "7");
    }
}

#[tokio::test]
async fn another_journal_ends_the_client() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client().await;
    let pendings = send(&client, &["a", "b"]).await;
    peer.appends(2).await;
    drop(peer);
    let _peer = fake.accept_to(JOURNAL + 1, 0).await;
    let expected =
        format!("the server has a different journal now: its id is {:016x}, not {JOURNAL:016x}", JOURNAL + 1);
    assert_eq!(told(pendings).await, [&expected[..], &expected].join(" "));
    assert_eq!(soon(client.append("c")).await.unwrap_err().to_string(), expected);
    assert_eq!(soon(client.close()).await.unwrap_err().to_string(), expected);
}

#[tokio::test]
async fn the_server_itself_may_say_that_it_is_another_journal() {
    let fake = Fake::start().await;
    let (client, peer) = fake.client().await;
    let pendings = send(&client, &["a"]).await;
    drop(peer);
    let mut peer = fake.accept_hello(JOURNAL, 0).await;
    let refusal = Refusal::new(Code::OtherJournal, "entry 7 differs");
    peer.say(ServerMessage::Error { id: 0, fatal: true, refusal }).await;
    assert_eq!(told(pendings).await, "the server has a different journal now: entry 7 differs");
}

#[tokio::test]
async fn closing_waits_for_the_last_ack_and_says_goodbye() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client().await;
    let pendings = send(&client, &["a"]).await;
    peer.appends(1).await;
    let other = client.clone();
    let server = async {
        assert!(soon(other.room()).await.is_err(), "nothing more is taken");
        peer.ack(1, 1, 1).await;
        peer.part().await;
    };
    let (closed, ()) = tokio::join!(soon(client.close()), server);
    closed.unwrap();
    assert_eq!(told(pendings).await, "1");
}

#[tokio::test]
async fn closing_goes_on_over_a_lost_connection() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client().await;
    let pendings = send(&client, &["a"]).await;
    peer.appends(1).await;
    let server = async {
        drop(peer);
        let mut peer = fake.accept().await;
        assert_eq!(peer.appends(1).await, "1+: a");
        peer.ack(1, 1, 1).await;
        peer.part().await;
    };
    let (closed, ()) = tokio::join!(soon(client.close()), server);
    closed.unwrap();
    assert_eq!(told(pendings).await, "1");
}

#[tokio::test]
async fn giving_up_tells_what_is_not_acked() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client().await;
    let mut pendings = send(&client, &["a", "b"]).await;
    peer.appends(2).await;
    peer.ack(1, 1, 1).await;
    soon(&mut pendings[0]).await.unwrap();
    drop((peer, fake));
    until(&client, false).await;
    let error = client.state().borrow().error().cloned().unwrap();
    assert!(matches!(error, Error::Broken(_) | Error::NothingListens(_)), "{error}");
    pendings.extend(send(&client, &["c"]).await);

    let other = client.clone();
    let open: Vec<_> = soon(client.give_up()).await.into_iter().map(|open| (open.text, open.sent)).collect();
    assert_eq!(open, [("b".to_owned(), true), ("c".to_owned(), false)]);
    assert_eq!(told(pendings.split_off(1)).await, "the client is closed the client is closed");
    assert!(matches!(soon(other.append("d")).await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_dropped_client_leaves() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client().await;
    drop(client);
    assert_eq!(peer.read().await, None);
}

#[tokio::test]
async fn the_window_is_bounded_and_acks_make_room() {
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client().await;
    let text = "x".repeat(60_000);
    let mut pendings = Vec::new();
    let more = loop {
        // Once the task has taken the queued commands, only an ack can free room.
        match client.room().now_or_never() {
            Some(room) => pendings.push(room.unwrap().send(text.as_str()).unwrap()),
            None => break client.room(),
        }
    };
    assert!((10..=17).contains(&pendings.len()), "{}", pendings.len());
    let count = pendings.len();
    peer.appends(count).await;
    peer.ack(1, u32::try_from(count).unwrap(), 1).await;
    soon(more).await.unwrap();
}

#[tokio::test]
async fn many_entries_go_in_few_frames() {
    const COUNT: u64 = 20_000;
    let fake = Fake::start().await;
    let (client, mut peer) = fake.client().await;
    let server = async {
        let (mut next, mut frames) = (1, 0);
        while next <= COUNT {
            let Some(ClientMessage::Append(append)) = peer.read().await else { panic!("no append") };
            assert_eq!(append.first_counter, next);
            let count = append.texts.iter().count();
            peer.ack(next, u32::try_from(count).unwrap(), next).await;
            next += count as u64;
            frames += 1;
        }
        frames
    };
    let writer = async {
        let mut pendings = Vec::new();
        for number in 1..=COUNT {
            pendings.push(client.send(format!("line {number}")).await.unwrap());
        }
        for (pending, seq) in pendings.into_iter().zip(1..) {
            assert_eq!(soon(pending).await.unwrap().seq, seq);
        }
    };
    let (frames, ()) = tokio::join!(server, writer);
    assert!(frames < COUNT / 10, "{frames} frames");
}
