//! Line mode: every line gets one answer, in order.

use crate::support::{Server, is_ack};

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
