//! Entries that are about another time than that of their writing, from the client library to every reader.

use diary_client::{Address, Author, Client, Day, Event, NewEntry, Options, OwnTime, Time, Which};
use diary_proto::Date;
use diary_proto::message::{Append, ClientMessage, NewText, ServerMessage, Texts};

use crate::support::{Frames, Lines, Loading, Server, hello, is_ack, soon, text};

async fn client(server: &Server) -> Client {
    let address: Address = server.address().parse().unwrap();
    let options = Options { author: Some(Author::new("anna").unwrap()), ..Options::default() };
    soon("a connection", Client::connect(address, options)).await.unwrap()
}

fn time(text: &str) -> Time {
    Time::parse(text.as_bytes()).unwrap()
}

fn about(at: &str, text: &str) -> NewEntry {
    NewEntry { at: Some(time(at)), ..text.into() }
}

/// Author, own time and text of what a reading brings.
async fn day(client: &Client, date: Date) -> Vec<(String, Option<OwnTime>, String)> {
    let mut reading = client.history(Which::Days(Day::Date(date), Day::Date(date)));
    let mut entries = Vec::new();
    while let Some(event) = soon("an event", reading.next()).await {
        match event.unwrap() {
            Event::Entry(stored) => {
                entries.push((stored.entry.author.to_string(), stored.entry.own, stored.entry.text));
            }
            other => panic!("{other:?}"),
        }
    }
    entries
}

#[tokio::test]
async fn they_are_on_their_day_for_every_reader_also_after_a_restart() {
    const AT: &str = "2015-03-02T08:15:00.000001-03:30";
    let server = Server::start().await;
    let writer = client(&server).await;
    soon("an ack", writer.append("today")).await.unwrap();
    soon("an ack", writer.append(about(AT, "moved in"))).await.unwrap();
    let by = NewEntry { author: Some(Author::new("小明").unwrap()), ..about(AT, "那天") };
    soon("an ack", writer.append(by)).await.unwrap();
    writer.close().await.unwrap();

    let folder = server.stop().await;
    let server = Server::on(folder, |_| {}).await;
    let reader = client(&server).await;
    let own = time(AT);
    let own = Some(OwnTime { at: own, day: own.date() });
    let expected =
        [("anna".to_owned(), own, "moved in".to_owned()), ("小明".to_owned(), own, "那天".to_owned())];
    assert_eq!(day(&reader, Date::constant(2015, 3, 2)).await, expected);
    let that_day = Day::Date(Date::constant(2015, 3, 2));
    let mut blocks = reader.blocks(Which::Days(that_day, that_day));
    let block = soon("a block", blocks.next()).await.unwrap().unwrap();
    assert_eq!((block.entries, block.gaps.len()), (2, 0));

    let mut lines = server.lines().await;
    let shown = lines.history("2015-03-02").await;
    assert_eq!(
        shown.iter().map(|line| text(line)).collect::<Vec<_>>(),
        ["(2015-03-02 08:15) moved in", "(2015-03-02 08:15) 那天"]
    );
    let today = lines.history("today").await;
    assert_eq!(today.iter().map(|line| text(line)).collect::<Vec<_>>(), ["today"]);
    assert_eq!(lines.history("all").await.len(), 3);
    assert_eq!(lines.history("2015-03-01").await, [""; 0]);
    assert_eq!(lines.history("2015-01-01..today").await.len(), 3);
}

#[tokio::test]
async fn what_cannot_be_an_own_time_or_author_is_refused_and_the_rest_is_stored() {
    let server = Server::start().await;
    let mut frames = Frames::connect(server.address()).await;
    frames.greet(&hello(1)).await;
    let new = |text, author| NewText { text, author, ..NewText::default() };
    let texts = Texts::own([
        new(b"first", b""),
        new(b"second", b"a b"),
        new(b"third", b"\xff"),
        new(b"\xff", b"anna"),
        new(b"fifth", b"anna"),
    ]);
    frames.send(&ClientMessage::Append(Append { first_counter: 1, retry: false, texts })).await;
    let mut answers = Vec::new();
    while answers.len() < 5 {
        match frames.message().await {
            ServerMessage::Acks(runs) => {
                for run in runs {
                    answers
                        .extend((0..u64::from(run.count)).map(|more| format!("ok {}", run.first_seq + more)));
                }
            }
            ServerMessage::Refused { count, refusal, .. } => {
                answers.extend((0..count).map(|_| refusal.to_string()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        answers,
        [
            "ok 1",
            "bad-argument: a name cannot contain spaces, control characters or backslashes",
            "utf8: this author is not valid UTF-8; nothing is stored",
            "utf8: this text is not valid UTF-8; nothing is stored",
            "ok 2",
        ]
    );
    // A time that cannot be written breaks the frame, and nothing of it is stored.
    let mut body = vec![0, 0, 0, 0, 0, 0, 0, 6, 0, 1];
    body.extend_from_slice(&i64::MAX.to_be_bytes());
    body.extend_from_slice(&[0, 0, 0, 0, 0, 1, b'x']);
    let length = u32::try_from(body.len() + 1).unwrap();
    frames.send_bytes([&length.to_be_bytes()[..], &[0x08], &body].concat()).await;
    assert!(frames.error().await.1.contains("0x08 cannot be read"));
    assert_eq!(server.lines().await.all_texts().await.len(), 2);
}

#[tokio::test]
async fn a_server_says_when_its_days_start() {
    let server = Server::with(|config| config.day_start = "03:00".parse().unwrap()).await;
    let client = client(&server).await;
    assert_eq!(client.welcome().day_start.to_string(), "03:00");
    soon("an ack", client.append(about("2015-03-03T02:59:00.000000+08:00", "late"))).await.unwrap();
    let entries = day(&client, Date::constant(2015, 3, 2)).await;
    assert_eq!(entries[0].1.unwrap().day, Date::constant(2015, 3, 2));
    assert_eq!(day(&client, Date::constant(2015, 3, 3)).await, []);
    let file = std::fs::read_to_string(&crate::support::day_files(&server.journal())[0]).unwrap();
    assert!(file.contains(" at=2015-03-03T02:59:00.000000+08:00 day=2015-03-02 "), "{file}");
}

#[tokio::test]
async fn whoever_waits_for_a_day_and_goes_away_leaves_nothing_behind() {
    let server = Server::start().await;
    soon("an ack", client(&server).await.append(about("2015-03-02T08:15:00.000000+08:00", "then")))
        .await
        .unwrap();
    let journal = server.journal();
    let folder = server.stop().await;
    let loading = Loading::hold(&journal).await;
    let server = Server::on(folder, |config| config.limits.connections = 1).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();

    let mut gone = server.lines().await;
    let before = tasks();
    // Both come in one read: once the first is answered, the second is being done.
    gone.send("a line\n/history 2015-03-02\n").await;
    assert!(is_ack(&gone.line().await, 2));
    let begun = async {
        while tasks() <= before {
            tokio::task::yield_now().await;
        }
    };
    soon("the day is waited for", begun).await;
    gone.reset();

    // It has the place of the one that is gone.
    let mut lines = Lines::connect_when_free(server.address()).await;
    let ended = async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    soon("what was asked for ends with who asked", ended).await;
    loading.release().await;
    assert_eq!(lines.history("2015-03-02").await.len(), 1);
}
