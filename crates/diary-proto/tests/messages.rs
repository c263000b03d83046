//! Every message comes out of a stream of frames as it went in, however the stream is cut, and no body
//! of any frame makes a reader panic.

use bytes::{Bytes, BytesMut};
use diary_proto::block::Walker;
use diary_proto::filter::{FILTER_MAX_TEXTS, SEARCH_MAX_BYTES};
use diary_proto::frame::{Frame, FrameCodec, IGNORABLE_FROM};
use diary_proto::limits::{FRAME_MAX_BYTES, SECRET_MAX_BYTES, SECRET_MIN_BYTES, TEXT_MAX_BYTES};
use diary_proto::message::{
    ACKS_MAX_RUNS, APPEND_MAX_ENTRIES, Append, BLOCK_MAX_BYTES, ClientMessage, Hello, NewText, Resume, Run,
    ServerMessage, Texts, Welcome,
};
use diary_proto::{Author, Code, Credential, Date, Day, DayStart, Filter, Refusal, Scope, Seal, Time, Which};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tokio_util::codec::Decoder;

fn day() -> impl Strategy<Value = Day> {
    prop_oneof![
        Just(Day::Today),
        Just(Day::Yesterday),
        (0i16..=9999, 1i8..=12, 1i8..=31).prop_filter_map("a date of the calendar", |(year, month, day)| {
            Date::new(year, month, day).ok().map(Day::Date)
        }),
    ]
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![
        any::<u64>().prop_map(Which::Last),
        Just(Which::All),
        (1..=u64::MAX).prop_map(Which::From),
        (day(), day()).prop_map(|(from, to)| Which::Days(from, to)),
    ]
}

fn scope() -> impl Strategy<Value = Scope> {
    let bound = || option::of(0..u64::MAX);
    (which(), bound(), bound(), any::<[bool; 2]>())
        .prop_map(|(which, up_to, newest, [reverse, shown])| Scope { which, up_to, newest, reverse, shown })
}

fn hello() -> impl Strategy<Value = Hello> {
    let resume =
        (any::<u64>(), any::<u64>(), any::<u32>()).prop_map(|(id, seq, crc)| Resume { id, seq, crc });
    (
        any::<u8>(),
        any::<String>(),
        vec(any::<u8>(), SECRET_MIN_BYTES..=SECRET_MAX_BYTES),
        option::of(resume),
        any::<String>(),
        option::of(".{1,30}".prop_map(|token| Credential::new(&token))),
    )
        .prop_map(|(version, author, secret, resume, journal, token)| Hello {
            version,
            author,
            secret: secret.into(),
            resume,
            journal,
            token,
        })
}

fn append() -> impl Strategy<Value = Append> {
    let at = option::of((0..4_000_000_000_000_000_i64, -1439..=1439_i16))
        .prop_map(|at| at.map(|(micros, offset_minutes)| Time { micros, offset_minutes }));
    let relation = (0..3_usize, any::<u64>())
        .prop_map(|(kind, seq)| [(None, None), (Some(seq), None), (None, Some(seq))][kind]);
    let texts = vec((any::<String>(), at, any::<String>(), relation), 1..8);
    (0..u64::MAX - 8, any::<bool>(), texts, any::<bool>()).prop_map(|(first_counter, retry, texts, own)| {
        let plain = || Texts::new(texts.iter().map(|(text, ..)| text.as_str()));
        let iter = || {
            let new = texts.iter();
            new.map(|(text, at, author, (answers, corrects))| NewText {
                text: text.as_bytes(),
                at: *at,
                author: author.as_bytes(),
                answers: *answers,
                corrects: *corrects,
            })
        };
        let sent = if own { Texts::own(iter()) } else { plain() };
        let shown =
            iter().map(|new| if own { new } else { NewText { text: new.text, ..NewText::default() } });
        assert!(sent.iter().eq(shown));
        Append { first_counter, retry, texts: sent }
    })
}

fn filter() -> impl Strategy<Value = Filter> {
    let texts = || vec(".{1,20}", 0..5);
    let author =
        option::of("[a-z天]{1,9}").prop_map(|author| author.map(|name| Author::new(&name).expect("a name")));
    (scope(), texts(), texts(), author, vec("[#@][a-z天]{1,9}", 0..3)).prop_map(
        |(scope, contains, without, author, tags)| Filter { scope, contains, without, author, tags },
    )
}

fn client_message() -> impl Strategy<Value = ClientMessage> {
    prop_oneof![
        hello().prop_map(ClientMessage::Hello),
        append().prop_map(ClientMessage::Append),
        (any::<u32>(), scope()).prop_map(|(id, scope)| ClientMessage::History { id, scope }),
        (any::<u32>(), option::of(1..=u64::MAX)).prop_map(|(id, from)| ClientMessage::Follow { id, from }),
        any::<u32>().prop_map(|id| ClientMessage::FollowOff { id }),
        (any::<u32>(), filter()).prop_map(|(id, filter)| ClientMessage::Search { id, filter }),
        any::<u32>().prop_map(|id| ClientMessage::Check { id }),
        (any::<u32>(), any::<u64>()).prop_map(|(id, seq)| ClientMessage::Thread { id, seq }),
        (any::<u32>(), any::<u64>()).prop_map(|(id, seq)| ClientMessage::Versions { id, seq }),
        Just(ClientMessage::Quit),
    ]
}

fn refusal() -> impl Strategy<Value = Refusal> {
    (proptest::sample::select(Code::ALL), any::<String>())
        .prop_map(|(code, message)| Refusal::new(code, message))
}

fn run() -> impl Strategy<Value = Run> {
    // Years 5 to 9891, so that no offset leaves the years that four digits write.
    let time = (-62_000_000_000_000_000i64..250_000_000_000_000_000, -1439i16..=1439)
        .prop_map(|(micros, offset_minutes)| Time { micros, offset_minutes });
    (0..u64::MAX / 2, any::<u32>(), 0..u64::MAX / 2, time)
        .prop_map(|(first_counter, count, first_seq, time)| Run { first_counter, count, first_seq, time })
}

fn server_message() -> impl Strategy<Value = ServerMessage> {
    let welcome =
        (any::<u8>(), any::<u64>(), any::<u64>(), any::<[String; 3]>(), 0..24 * 60_u16, any::<i64>())
            .prop_map(|(version, journal_id, head, [author, journal, zone], minutes, clock_micros)| {
                Welcome {
                    version,
                    journal_id,
                    head,
                    author,
                    journal,
                    zone,
                    day_start: DayStart::from_minutes(minutes).expect("a time of day"),
                    clock_micros,
                }
            });
    prop_oneof![
        welcome.prop_map(ServerMessage::Welcome),
        vec(run(), 0..8).prop_map(ServerMessage::Acks),
        (0..u64::MAX / 2, any::<u32>(), refusal()).prop_map(|(first_counter, count, refusal)| {
            ServerMessage::Refused { first_counter, count, refusal }
        }),
        any::<(u32, u64, u64, bool, bool)>().prop_map(|(id, first, last, dense, shown)| {
            ServerMessage::Answer { id, first, last, shown, dense }
        }),
        (any::<u32>(), vec(any::<u8>(), 0..80))
            .prop_map(|(id, lines)| ServerMessage::Block { id, lines: lines.into() }),
        any::<u32>().prop_map(|id| ServerMessage::End { id }),
        (any::<u32>(), any::<bool>(), refusal()).prop_map(|(id, fatal, refusal)| ServerMessage::Error {
            id,
            fatal,
            refusal
        }),
        any::<String>().prop_map(|reason| ServerMessage::Bye { reason }),
    ]
}

/// The frames of a stream that arrives in pieces as long as `cuts` say, over and over.
fn frames(bytes: &[u8], cuts: &[usize]) -> Vec<Frame> {
    let (mut input, mut frames, mut rest) = (BytesMut::new(), Vec::new(), bytes);
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
        rest = tail;
        input.extend_from_slice(chunk);
        while let Some(frame) = FrameCodec.decode(&mut input).expect("sound lengths") {
            frames.push(frame);
        }
    }
    assert!(FrameCodec.decode_eof(&mut input).expect("no cut frame").is_none(), "nothing is left over");
    frames
}

proptest! {
    #[test]
    fn client_messages_come_out_as_they_went_in(
        messages in vec(client_message(), 0..10),
        cuts in vec(1usize..40, 1..20),
    ) {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| message.write(&mut bytes));
        let seen: Vec<_> =
            frames(&bytes, &cuts).into_iter().map(|frame| ClientMessage::read(frame).unwrap().unwrap()).collect();
        prop_assert_eq!(seen, messages);
    }

    #[test]
    fn server_messages_come_out_as_they_went_in(
        messages in vec(server_message(), 0..10),
        cuts in vec(1usize..40, 1..20),
    ) {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| message.write(&mut bytes));
        let seen: Vec<_> =
            frames(&bytes, &cuts).into_iter().map(|frame| ServerMessage::read(frame).unwrap().unwrap()).collect();
        prop_assert_eq!(seen, messages);
    }

    /// Bytes behind the fields of a message are for later versions.
    #[test]
    fn bytes_behind_the_fields_are_ignored(
        client in client_message(),
        server in server_message(),
        extra in vec(any::<u8>(), 1..20),
    ) {
        let longer = |bytes: &[u8]| {
            let frame = frames(bytes, &[bytes.len()]).remove(0);
            Frame { kind: frame.kind, body: [&frame.body[..], &extra].concat().into() }
        };
        let mut bytes = Vec::new();
        client.write(&mut bytes);
        if !matches!(client, ClientMessage::Append(_)) {
            prop_assert_eq!(ClientMessage::read(longer(&bytes)), Ok(Some(client)));
        }
        bytes.clear();
        server.write(&mut bytes);
        if !matches!(server, ServerMessage::Acks(_) | ServerMessage::Block { .. }) {
            prop_assert_eq!(ServerMessage::read(longer(&bytes)), Ok(Some(server)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever can be read can also be used: walked over, added up, shown and written again.
    #[test]
    fn no_body_makes_a_reader_panic(
        kind in prop_oneof![1u8..=8, 0x11u8..=0x18, Just(0x12), any::<u8>()],
        head in vec(any::<u8>(), 0..30),
        fill in prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()],
        length in prop_oneof![0usize..120, (0usize..4).prop_map(|runs| 30 * runs)],
    ) {
        let mut body = head;
        body.resize(length, fill);
        let frame = Frame { kind, body: Bytes::from(body) };
        if let Ok(Some(message)) = ClientMessage::read(frame.clone()) {
            if let ClientMessage::Append(append) = &message {
                let count = append.texts.iter().count();
                prop_assert!((1..=APPEND_MAX_ENTRIES).contains(&count));
                prop_assert!(append.first_counter.checked_add(count as u64).is_some());
            }
            let mut bytes = Vec::new();
            message.write(&mut bytes);
            let again = frames(&bytes, &[bytes.len()]).remove(0);
            prop_assert_eq!(ClientMessage::read(again), Ok(Some(message)));
        }
        if let Ok(Some(message)) = ServerMessage::read(frame) {
            match &message {
                ServerMessage::Acks(runs) => for run in runs {
                    prop_assert!(run.first_counter.checked_add(run.count.into()).is_some());
                    prop_assert!(run.first_seq.checked_add(run.count.into()).is_some());
                    prop_assert_eq!(Time::parse(run.time.to_string().as_bytes()), Some(run.time));
                },
                ServerMessage::Refused { first_counter, count, .. } => {
                    prop_assert!(first_counter.checked_add((*count).into()).is_some());
                }
                ServerMessage::Block { lines, .. } => Walker::new(1, Seal::PLAIN).walk(lines, |_| ()),
                _ => {}
            }
            let mut bytes = Vec::new();
            message.write(&mut bytes);
            let again = frames(&bytes, &[bytes.len()]).remove(0);
            prop_assert_eq!(ServerMessage::read(again), Ok(Some(message)));
        }
    }

    #[test]
    fn unknown_types_are_ignored_from_0x80_up_and_refused_below(
        kind in any::<u8>(),
        body in vec(any::<u8>(), 0..20),
    ) {
        let frame = Frame { kind, body: body.into() };
        let client = ClientMessage::read(frame.clone());
        let server = ServerMessage::read(frame);
        if kind >= IGNORABLE_FROM {
            prop_assert_eq!((client, server), (Ok(None), Ok(None)));
        } else {
            prop_assert!(!matches!(client, Ok(None)) && !matches!(server, Ok(None)));
            let refused = |code: Option<Code>| code.is_none_or(|code| code == Code::BadFrame);
            prop_assert!(refused(client.err().map(|r| r.code)) && refused(server.err().map(|r| r.code)));
        }
    }
}

#[test]
fn the_largest_of_each_fits_its_frame() {
    let long = "x".repeat(TEXT_MAX_BYTES);
    let texts = std::iter::repeat_n(long.as_str(), FRAME_MAX_BYTES / (TEXT_MAX_BYTES + 4));
    let append = Append { first_counter: 1, retry: true, texts: Texts::new(texts) };
    let tiny = Append { texts: Texts::new(std::iter::repeat_n("x", APPEND_MAX_ENTRIES)), ..append.clone() };
    let long = |contains: Vec<String>, without| {
        let filter = Filter { contains, without, ..Filter::default() };
        assert_eq!(filter.check(), Ok(()));
        ClientMessage::Search { id: 1, filter }
    };
    let search = long(vec!["x".repeat(SEARCH_MAX_BYTES)], Vec::new());
    let searches = long(Vec::new(), vec!["x".repeat(SEARCH_MAX_BYTES / FILTER_MAX_TEXTS); FILTER_MAX_TEXTS]);
    for message in [ClientMessage::Append(append), ClientMessage::Append(tiny), search, searches] {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        let frame = frames(&bytes, &[4096]).remove(0);
        assert!(ClientMessage::read(frame) == Ok(Some(message)));
    }
    let block = ServerMessage::Block { id: 1, lines: vec![b'x'; BLOCK_MAX_BYTES].into() };
    let mut bytes = Vec::new();
    block.write(&mut bytes);
    assert!(ServerMessage::read(frames(&bytes, &[4096]).remove(0)) == Ok(Some(block)));
}

#[test]
fn the_fields_behind_the_text_of_a_search_can_be_left_out() {
    let read = |body: &[u8]| ClientMessage::read(Frame { kind: 6, body: Bytes::copy_from_slice(body) });
    let search = ClientMessage::Search { id: 7, filter: Filter::of_text("hi") };
    let all = [&[1][..], &[0xff; 16], &[0]].concat();
    let with = |begin: &[u8], rest: &[u8]| [begin, &all, rest].concat();
    assert_eq!(read(b"\0\0\0\x07\0\x02hi"), Ok(Some(search.clone())));
    assert_eq!(read(&with(b"\0\0\0\x07\0\x02hi", b"\0\0\0\0\0")), Ok(Some(search)));
    for (bad, what) in [
        (b"\0\0\0\x07\0\0".to_vec(), "neither a text nor what may stand for it"),
        (b"\0\0\0\x07\0\x02hi\x01".to_vec(), "half of a range"),
        (with(b"\0\0\0\x07\0\x02hi", b""), "half of the fields"),
        (with(b"\0\0\0\x07\0\x02hi", b"\x01\0\0\0\0\0\0"), "a further text that is empty"),
        (with(b"\0\0\0\x07\0\x02hi", b"\0\0\0\x03a b\0"), "no author"),
        (with(b"\0\0\0\x07\0\x02hi", b"\0\0\0\0\x01"), "a tag that is not there"),
        (with(b"\0\0\0\x07\0\x02hi", b"\0\0\0\0\x01\0\0"), "a tag that is empty"),
        (b"\0\0\0\x07\0\x02hi\x09\0\0\0\0".to_vec(), "no form of a range"),
    ] {
        assert_eq!(read(&bad).unwrap_err().code, Code::BadFrame, "{what}");
    }
}

/// A writer that sends its entries again gets a run for each, if others wrote between them; all that
/// one append may hold are more runs than one frame holds.
#[test]
fn more_runs_than_a_frame_holds_go_out_in_several() {
    let time = Time { micros: 1_795_220_102_123_456, offset_minutes: 480 };
    let run = |n: usize| Run { first_counter: n as u64, count: 1, first_seq: 2 * n as u64, time };
    for count in [0, 1, ACKS_MAX_RUNS, ACKS_MAX_RUNS + 1, APPEND_MAX_ENTRIES] {
        let runs: Vec<Run> = (0..count).map(run).collect();
        let mut bytes = Vec::new();
        ServerMessage::Acks(runs.clone()).write(&mut bytes);
        let mut seen = Vec::new();
        for frame in frames(&bytes, &[4096]) {
            match ServerMessage::read(frame) {
                Ok(Some(ServerMessage::Acks(runs))) => seen.extend(runs),
                other => panic!("{other:?}"),
            }
        }
        assert!(seen == runs, "{count} runs");
    }
}

#[test]
fn an_append_of_nothing_or_too_much_is_refused() {
    let body = |texts: &[u8]| [&[0; 8][..], &[0], texts].concat();
    for texts in [&[][..], &[0, 0, 0, 2, b'x'], &[0, 0, 0], &[0xff; 8], &vec![0; 4 * APPEND_MAX_ENTRIES + 4]]
    {
        let refusal = ClientMessage::read(Frame { kind: 2, body: body(texts).into() }).unwrap_err();
        assert_eq!(refusal.code, Code::BadFrame);
    }
    let at_limit = Frame { kind: 2, body: body(&vec![0; 4 * APPEND_MAX_ENTRIES]).into() };
    assert!(ClientMessage::read(at_limit).is_ok());
}
