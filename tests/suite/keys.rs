//! What the server knows of producers' keys across restarts, and what waits for it.

use tokio::process::Command;

use crate::support::{Frames, Server, is_ack, soon};

/// Where the cache should be lies a pipe: reading it takes until the test says so.
#[tokio::test]
async fn until_the_keys_are_known_only_appends_with_keys_wait() {
    let server = Server::start().await;
    let mut keyed = Frames::hello(server.address(), 1).await;
    keyed.append(0, false, &["a", "b"]).await;
    assert_eq!(keyed.acks(2).await, [(0, 1), (1, 2)]);
    drop(keyed);
    let cache = server.journal().join("cache");
    let folder = server.stop().await;
    let _ = std::fs::remove_file(&cache);
    assert!(soon("mkfifo", Command::new("mkfifo").arg(&cache).status()).await.unwrap().success());

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

    // What is no cache is as good as none: everything is read.
    let pipe = tokio::task::spawn_blocking(move || std::fs::File::options().write(true).open(cache));
    soon("the cache is read", pipe).await.unwrap().unwrap();
    assert_eq!(keyed.acks(3).await, [(0, 1), (1, 2), (2, 4)]);
    assert!(follower.line().await.ends_with(" local c"));
}
