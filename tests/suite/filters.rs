//! A search with a filter brings what one would keep of everything, and nothing else.

use diary_client::{Author, Day, Event, Filter, History, Reader, Scope, Which};
use diary_proto::message::{ClientMessage, ServerMessage};
use diary_proto::{Code, Refusal};

use crate::support::{Frames, Server, soon};

const TEXTS: [&str; 10] = [
    "rain",
    "Rain",
    "snow",
    "今天下雨",
    "rain and snow",
    "RAIN\\n",
    "anna",
    "雪",
    "a #Rain, @anna",
    "#rainbow，#雪",
];
const AUTHORS: [&str; 4] = ["anna", "Anna", "ben", "小明"];

/// Seq, author and text of what a reading brings.
async fn entries(mut reading: History) -> Vec<(u64, String, String)> {
    let mut entries = Vec::new();
    while let Some(event) = soon("an event comes", reading.next()).await {
        match event.unwrap() {
            Event::Entry(stored) => {
                entries.push((stored.entry.seq, stored.entry.author.to_string(), stored.entry.text));
            }
            other => panic!("{other:?}"),
        }
    }
    entries
}

/// The rule, said anew: a text without capitals finds any case.
fn has(text: &str, needle: &str) -> bool {
    let capitals = needle.chars().any(char::is_uppercase);
    if capitals { text.contains(needle) } else { text.to_lowercase().contains(needle) }
}

/// The same for a whole name.
fn is(name: &str, wanted: &str) -> bool {
    has(name, wanted) && name.chars().count() == wanted.chars().count()
}

#[tokio::test]
async fn the_server_finds_what_a_client_would_keep() {
    let server = Server::start().await;
    for author in AUTHORS {
        let mut client = server.lines().await;
        client.ask(&format!("/name {author}")).await;
        for text in TEXTS {
            client.ask(text).await;
        }
    }
    let reader = Reader::connect(server.address().parse().unwrap()).await.unwrap();
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let today = Which::Days(Day::Yesterday, Day::Today);
    let (mut some, mut none) = (0, 0);
    for which in
        [Which::All, Which::Last(7), Which::From(9), today, Which::Days(Day::Yesterday, Day::Yesterday)]
    {
        let all = entries(reader.history(which)).await;
        for contains in [&[][..], &["rain"], &["Rain"], &["rain", "snow"], &["雨"], &["\\n"]] {
            for without in [&[][..], &["rain"], &["RAIN", "雪"]] {
                for author in [None, Some("anna"), Some("Anna"), Some("小明"), Some("nobody")] {
                    let filter = Filter {
                        scope: which.into(),
                        contains: owned(contains),
                        without: owned(without),
                        author: author.map(|name| Author::new(name).unwrap()),
                        tags: Vec::new(),
                    };
                    let expected: Vec<_> = all
                        .iter()
                        .filter(|(_, by, _)| author.is_none_or(|author| is(by, author)))
                        .filter(|(_, _, text)| contains.iter().all(|needle| has(text, needle)))
                        .filter(|(_, _, text)| !without.iter().any(|needle| has(text, needle)))
                        .cloned()
                        .collect();
                    *(if expected.is_empty() { &mut none } else { &mut some }) += 1;
                    assert_eq!(entries(reader.select(filter.clone())).await, expected, "{filter:?}");
                }
            }
        }
    }
    assert!(some > 50 && none > 50, "{some} {none}");
    for (tags, texts) in [
        (&["#rain"][..], &["a #Rain, @anna"][..]),
        (&["#rain", "@anna"], &["a #Rain, @anna"]),
        (&["#rain", "#雪"], &[]),
        (&["#雪"], &["#rainbow，#雪"]),
        (&["#RAIN"], &[]),
    ] {
        let filter = Filter { tags: owned(tags), author: Author::new("ben").ok(), ..Filter::default() };
        let found = entries(reader.select(filter)).await;
        assert_eq!(found.iter().map(|(_, _, text)| text.as_str()).collect::<Vec<_>>(), texts, "{tags:?}");
    }
    drop(reader);
    server.stop().await;
}

/// The newest so many, the newest first, and none above some seq: the same as what one would take of everything.
#[tokio::test]
async fn a_scope_takes_the_newest_and_turns_the_order() {
    const ENTRIES: u64 = 5_000;
    let server = Server::start().await;
    let mut writer = server.lines().await;
    let text = |seq: u64| match seq {
        _ if seq.is_multiple_of(1_000) => format!("rare {}", "x".repeat(60_000)),
        _ if seq.is_multiple_of(3) => format!("third {seq}"),
        _ => format!("other {seq}"),
    };
    writer.send((1..=ENTRIES).map(|seq| text(seq) + "\n").collect::<String>()).await;
    for _ in 0..ENTRIES {
        writer.line().await;
    }
    let reader = Reader::connect(server.address().parse().unwrap()).await.unwrap();
    let today = Which::Days(Day::Yesterday, Day::Today);
    for (which, first) in [(Which::All, 1), (Which::Last(50), 4_951), (Which::From(2_000), 2_000), (today, 1)]
    {
        for needle in [None, Some("rare"), Some("third"), Some("nowhere")] {
            for (up_to, newest) in
                [None, Some(4_960), Some(2_001), Some(9_999)].into_iter().flat_map(|up_to| {
                    [None, Some(0), Some(1), Some(2), Some(40), Some(9_999)].map(|newest| (up_to, newest))
                })
            {
                let of_scope = first..=up_to.unwrap_or(ENTRIES).min(ENTRIES);
                let fits = of_scope.filter(|&seq| needle.is_none_or(|needle| text(seq).starts_with(needle)));
                let mut expected: Vec<u64> = fits.rev().collect();
                expected.truncate(newest.map_or(usize::MAX, |newest| newest as usize));
                for reverse in [true, false] {
                    let scope = Scope { which, up_to, newest, reverse, shown: false };
                    let contains = needle.map(str::to_owned).into_iter().collect();
                    let filter = Filter { contains, ..Filter::from(scope) };
                    let brought = entries(reader.select(filter)).await;
                    assert!(brought.iter().all(|(seq, _, brought)| *brought == text(*seq)));
                    let seqs: Vec<u64> = brought.into_iter().map(|(seq, ..)| seq).collect();
                    assert!(seqs == expected, "{scope:?} {needle:?}: {} of {}", seqs.len(), expected.len());
                    expected.reverse();
                }
            }
        }
    }
    drop(reader);
    server.stop().await;
}

#[tokio::test]
async fn what_is_too_much_is_refused_and_the_connection_goes_on() {
    let server = Server::start().await;
    let mut client = Frames::hello(server.address(), 1).await;
    let many = Filter { contains: vec!["a".to_owned(); 17], ..Filter::default() };
    let long = Filter { without: vec!["x".repeat(40_000), "y".repeat(40_000)], ..Filter::default() };
    let no_tag = Filter { tags: vec!["rain".to_owned()], ..Filter::default() };
    let days = Filter { scope: Which::Days(Day::Today, Day::Yesterday).into(), ..Filter::of_text("a") };
    for (id, filter, code, part) in [
        (1, many, Code::BadArgument, "16 texts"),
        (2, long, Code::TooLong, "65535 bytes together"),
        (3, days, Code::BadArgument, "the first day of a range comes first"),
        (5, no_tag, Code::BadArgument, "rain is not a tag"),
    ] {
        client.send(&ClientMessage::Search { id, filter }).await;
        match client.message().await {
            ServerMessage::Error { id: answered, fatal: false, refusal: Refusal { code: said, message } } => {
                assert_eq!((answered, said), (id, code));
                assert!(message.contains(part), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    client.append(0, false, &["still here"]).await;
    client.acks(1).await;
    client.send(&ClientMessage::Search { id: 4, filter: Filter::of_text("here") }).await;
    assert!(!client.answer(4).await.lines.is_empty());
    server.stop().await;
}
