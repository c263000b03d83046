//! What the server knows of producers' keys across restarts, and what waits for it.

use diary_proto::Code;
use diary_proto::message::ServerMessage;

use crate::support::{Frames, Loading, Server, day_files, is_ack};

#[tokio::test]
async fn until_the_keys_are_known_only_appends_with_keys_wait() {
    let server = Server::start().await;
    let mut keyed = Frames::hello(server.address(), 1).await;
    keyed.append(0, false, &["a", "b"]).await;
    assert_eq!(keyed.acks(2).await, [(0, 1), (1, 2)]);
    drop(keyed);
    let journal = server.journal();
    let folder = server.stop().await;
    let loading = Loading::hold(&journal).await;

    let server = Server::on(folder, |_| {}).await;
    let mut keyed = Frames::hello(server.address(), 1).await;
    keyed.append(0, true, &["a", "b", "c"]).await;
    let mut follower = server.lines().await;
    assert_eq!(follower.ask("/follow #1").await, "ok follow from 1");
    let mut client = server.lines().await;
    assert!(is_ack(&client.ask("without a key").await, 3));
    assert_eq!(client.history("all").await.len(), 3);
    for text in ["a", "b", "without a key"] {
        assert!(follower.line().await.ends_with(&format!(" local {text}")));
    }
    let mut reader = Frames::hello(server.address(), 2).await;
    assert_eq!(reader.history(1, diary_proto::Which::Last(20)).await.last, 3);

    loading.release().await;
    assert_eq!(keyed.acks(3).await, [(0, 1), (1, 2), (2, 4)]);
    assert!(follower.line().await.ends_with(" local c"));
}

/// The server does not know whose key a damaged entry had: a retry that may be it is refused, loudly.
#[tokio::test]
async fn a_retry_that_cannot_be_judged_is_stale() {
    let server = Server::start().await;
    let mut keyed = Frames::hello(server.address(), 1).await;
    for (counter, text) in (0..).zip(["a", "bbb", "c"]) {
        keyed.append(counter, false, &[text]).await;
        keyed.acks(1).await;
    }
    drop(keyed);
    let journal = server.journal();
    let folder = server.stop().await;
    std::fs::remove_file(journal.join("cache")).unwrap();
    let day = &day_files(&journal)[0];
    let damaged = std::fs::read_to_string(day).unwrap().replace("bbb", "bab");
    std::fs::write(day, damaged).unwrap();

    let server = Server::on(folder, |_| {}).await;
    let mut keyed = Frames::hello(server.address(), 1).await;
    keyed.append(1, true, &["bbb"]).await;
    match keyed.message().await {
        ServerMessage::Refused { first_counter: 1, count: 1, refusal } => {
            assert_eq!(refusal.code, Code::StaleKey);
        }
        other => panic!("{other:?}"),
    }
    keyed.append(2, true, &["c", "d"]).await;
    assert_eq!(keyed.acks(2).await, [(2, 3), (3, 4)]);
}

/// What was corrected is not known, either: readings that would show it come as they are stored.
#[tokio::test]
async fn until_corrections_are_known_what_is_stored_is_shown() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    for (line, seq) in [("teh kettle", 1), ("/correct 1 the kettle", 2)] {
        assert!(is_ack(&client.ask(line).await, seq));
    }
    let journal = server.journal();
    let folder = server.stop().await;
    let loading = Loading::hold(&journal).await;
    let server = Server::on(folder, |_| {}).await;
    let mut client = server.lines().await;
    let shown = async |client: &mut crate::support::Lines| {
        let lines = client.history("all").await;
        lines.iter().map(|line| crate::support::text(line).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(shown(&mut client).await, ["teh kettle", "(corrects 1) the kettle"]);
    let mut reader = diary_client::Reader::connect(server.address().parse().unwrap())
        .await
        .unwrap()
        .history(diary_proto::Scope::from(diary_proto::Which::All).shown());
    let mut texts = Vec::new();
    while let Some(event) = reader.next().await {
        let diary_client::Event::Entry(stored) = event.unwrap() else { panic!("nothing is missing") };
        texts.push(stored.left.splitn(4, ' ').last().unwrap().to_owned());
    }
    assert_eq!(texts, ["teh kettle", "(corrects 1) the kettle"]);
    loading.release().await;
    // A thread waits for it.
    assert_eq!(client.ask("/thread 1").await, "ok thread");
    assert!(client.line().await.ends_with(") the kettle"));
    assert_eq!(client.line().await, "end 1");
    assert_eq!(shown(&mut client).await.len(), 1);
    server.stop().await;
}
