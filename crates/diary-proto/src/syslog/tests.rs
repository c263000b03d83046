use super::*;
use proptest::prelude::*;

/// Decodes `chunks`, and writes down every message.
fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let (mut decoder, mut messages) = (SyslogDecoder::default(), Vec::new());
    for chunk in chunks {
        let mut input = chunk;
        while let Some(message) = decoder.next(&mut input) {
            messages.push(show(&message));
        }
        assert!(input.is_empty());
        assert!(decoder.partial_bytes() <= MESSAGE_MAX_BYTES);
    }
    messages.extend(decoder.finish().map(|message| show(&message)));
    assert!(decoder.finish().is_none(), "an end comes once");
    messages
}

fn show(message: &Message<'_>) -> String {
    match message {
        Message::Text(text) if text.len() > 100 => format!("text of {}", text.len()),
        Message::Text(text) => (*text).to_owned(),
        Message::Refused { refusal, text } => {
            let beginning = String::from_utf8_lossy(&text[..text.len().min(12)]).into_owned();
            format!("refused {}: {beginning}", refusal.code)
        }
        Message::Http => "http".into(),
        Message::Proxy => "proxy".into(),
    }
}

fn check(input: impl AsRef<[u8]>, expected: &[&str]) {
    let input = input.as_ref();
    assert_eq!(decode([input]), expected, "whole");
    assert_eq!(decode(input.chunks(1)), expected, "byte by byte");
    assert_eq!(decode(input.chunks(7)), expected, "by sevens");
}

/// `message` with its count.
fn counted(message: &str) -> String {
    format!("{} {message}", message.len())
}

#[test]
fn lines() {
    check("a\nb\r\n\n\r\nc\rd\n<13>e\nf", &["a", "b", "c\rd", "<13>e", "f"]);
    check("/help\n\x04\n//two\n", &["/help", "\x04", "//two"]);
    check(b"\xff\xfd\x06\nok\n", &["refused utf8: \u{fffd}\u{fffd}\x06", "ok"]);
    check("", &[]);
    check("\n\r\n\0\r", &[]);
}

#[test]
fn messages_that_end_with_nul() {
    check("<13>a\0<13>b\0<13>c", &["<13>a", "<13>b", "<13>c"]);
    check("a\0b\nc\0", &["a", "b", "c"]);
    check("<13>a\r\n\0<13>b\n\0", &["<13>a", "<13>b"]);
}

#[test]
fn line_feeds_belong_to_messages_that_end_with_nul() {
    check("<13>a\0<14>b\n c\n\n d\0<15>e\0", &["<13>a", "<14>b\n c\n\n d", "<15>e"]);
    // Nothing tells this of the first message, and nothing of it is lost.
    check("<13>a\n b\0<14>c\n d\0", &["<13>a", " b", "<14>c\n d"]);
    check("<13>a\0<14>b\n c", &["<13>a", "<14>b\n c"]);
}

#[test]
fn a_stray_nul_joins_no_lines() {
    check("<13>a\0b\n<13>c\n<13>d\n<13>e\n", &["<13>a", "b", "<13>c", "<13>d", "<13>e"]);
    check("a\0<b>c\nd\n", &["a", "<b>c", "d"]);
}

#[test]
fn counted_messages() {
    check("5 <1>ab6 <12>cd7 <123>ef", &["<1>ab", "<12>cd", "<123>ef"]);
    check(
        counted("<13>天气\n很好") + &counted("<13>x\n\0") + "\n" + &counted("<13>y\r\n"),
        &["<13>天气\n很好", "<13>x", "<13>y"],
    );
    check("3 <1>", &["<1>"]);
    check(counted("<13>a\0b") + "5 <1>ok", &["refused nul: <13>a\0b", "<1>ok"]);
    check([b"6 <13>a\xe4", &b"5 <1>ok"[..]].concat(), &["refused utf8: <13>a\u{fffd}", "<1>ok"]);
}

#[test]
fn what_only_looks_like_a_count_is_a_line() {
    check("12 monkeys\n12\n12 \n", &["12 monkeys", "12", "12 "]);
    check("12 <13\n12 <1234>x\n12 <>x\n12  <13>x\n", &["12 <13", "12 <1234>x", "12 <>x", "12  <13>x"]);
    check("012 <13>x\n0 <13>x\n2 <13>x\n", &["012 <13>x", "0 <13>x", "2 <13>x"]);
    check("1795220102 <13>x\nx12 <13>y\n", &["1795220102 <13>x", "x12 <13>y"]);
}

#[test]
fn framings_may_be_mixed() {
    check(
        "<13>a\n".to_owned()
            + &counted("<13>b")
            + &counted("<13>c\n")
            + "<13>d\n12 monkeys\n<13>e\0"
            + &counted("<13>f"),
        &["<13>a", "<13>b", "<13>c", "<13>d", "12 monkeys", "<13>e", "<13>f"],
    );
}

#[test]
fn after_a_wrong_count_nothing_is_lost() {
    // Too small: as of a sender that counts characters.
    check("6 <13>天气6 <13>ok", &["refused utf8: <13>\u{fffd}", "refused utf8: \u{fffd}气", "<13>ok"]);
    check("6 <13>abcd6 <13>ok", &["<13>ab", "cd", "<13>ok"]);
    check("6 <13>abcd\n6 <13>ok", &["<13>ab", "cd", "<13>ok"]);
    // Too large: what it takes of the next one is in the text.
    check("9 <13>ab6 <13>cd6 <13>ok", &["<13>ab6 <", "13>cd", "<13>ok"]);
    let long = "y".repeat(TEXT_MAX_BYTES + 100);
    check(
        "6 <13>ab".to_owned() + &long + "6 <13>ok",
        &["<13>ab", "refused too-long: yyyyyyyyyyyy", "<13>ok"],
    );
}

#[test]
fn a_counted_message_that_is_cut_is_refused() {
    check("6 <13>ab10 <13>cd", &["<13>ab", "refused bad-frame: <13>cd"]);
    check("6 <13>ab10 <1", &["<13>ab", "10 <1"]);
}

#[test]
fn the_limit_and_one_over_it() {
    let text = |bytes: usize| format!("<13>{}", "x".repeat(bytes - 4));
    let (at_limit, over) = (text(TEXT_MAX_BYTES), text(TEXT_MAX_BYTES + 1));
    for (at_limit, over) in [
        (at_limit.clone() + "\r\n", over.clone() + "\n"),
        (at_limit.clone() + "\0", over.clone() + "\0"),
        (counted(&at_limit), counted(&over)),
        (counted(&(at_limit.clone() + "\r\n\0")), counted(&(over + "\n"))),
        (counted(&at_limit), counted(&text(9 * TEXT_MAX_BYTES))),
        (at_limit + "\n", text(9 * TEXT_MAX_BYTES) + "\n"),
    ] {
        check(at_limit + &over + "<13>ok", &["text of 65536", "refused too-long: <13>xxxxxxxx", "<13>ok"]);
    }
}

#[test]
fn an_http_request_as_the_first_line() {
    check("POST / HTTP/1.1\r\nHost: x\r\n", &["http", "Host: x"]);
    check("hello\nGET / HTTP/1.1\n", &["hello", "GET / HTTP/1.1"]);
    let long = format!("POST /{} HTTP/1.1\r\nHost: x\n", "x".repeat(2 * TEXT_MAX_BYTES));
    check(long, &["http", "Host: x"]);
    let long = format!("POST /{0} and {0} HTTP/1.1\r\nHost: x\n", "x".repeat(TEXT_MAX_BYTES));
    check(long, &["refused too-long: POST /xxxxxx", "Host: x"]);
    check("now with HTTP/2\n<13>one\n", &["now with HTTP/2", "<13>one"]);
    check("\u{feff}GET / HTTP/1.1\r\n", &["http"]);
}

#[test]
fn a_proxy_header_at_the_start() {
    check("PROXY TCP4 192.0.2.7 198.51.100.1 51234 8888\r\n<13>a\n", &["proxy", "<13>a"]);
    let signature = "\r\n\r\n\0\r\nQUIT\n";
    check(format!("{signature}x<13>a\n"), &["proxy", "x<13>a"]);
    check(format!("\n{signature}<13>a\n"), &["QUIT", "<13>a"]);
    check("\r\n\r\n\0\r\nQUITE\n", &["QUITE"]);
    check(&signature[..signature.len() - 1], &["QUIT"]);
    check("PROXY servers are slow\nPROXY UNKNOWN\n", &["PROXY servers are slow", "PROXY UNKNOWN"]);
}

#[test]
fn a_byte_order_mark_belongs_to_no_text() {
    check("\u{feff}one\n\u{feff}<13>two\r\n\u{feff}\nthree\u{feff}\0", &["one", "<13>two", "three\u{feff}"]);
    let text = "x".repeat(TEXT_MAX_BYTES);
    check(format!("\u{feff}{text}\r\n\u{feff}\u{feff}a"), &["text of 65536", "\u{feff}a"]);
}

#[test]
fn datagrams() {
    let text = |bytes| datagram(bytes).map(Result::unwrap);
    assert_eq!(text(b"<13>a\0"), Some("<13>a"));
    assert_eq!(text(b"<13>a\nb\r\n"), Some("<13>a\nb"));
    assert_eq!(text(b"5 <13>a"), Some("<13>a"));
    assert_eq!(text(b"4 <13>a"), Some("4 <13>a"));
    assert_eq!(text("\u{feff}<13>a".as_bytes()), Some("<13>a"));
    assert_eq!(text(b"\n\0"), None);
    assert_eq!(text(b""), None);
    assert!(matches!(datagram(b"a\0b"), Some(Err(Refusal { code: Code::Nul, .. }))));
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_messages(
        pieces in proptest::collection::vec(prop_oneof![
            Just("\n"), Just("\r"), Just("\0"), Just("<13>"), Just("<"), Just("1>"), Just("12"), Just("6 <13>"), Just("9 <13>ab"),
            Just(" "), Just("20 "), Just("7 <1>x\n"), Just("12 monkeys"), Just("今天"), Just(" HTTP/1.1"), Just("0"),
            Just("GET /"), Just("\r\n\r\n\0\r\n"), Just("QUIT\n"), Just("\u{feff}"),
        ], 0..40),
        cuts in proptest::collection::vec(1usize..7, 1..40),
    ) {
        let input = pieces.concat();
        let (mut chunks, mut rest) = (Vec::new(), input.as_bytes());
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
            chunks.push(chunk);
            rest = tail;
        }
        prop_assert_eq!(decode(chunks), decode([input.as_bytes()]));
    }

    /// Each framing by itself carries any texts, whole, however it is cut.
    #[test]
    fn every_message_is_one(
        texts in proptest::collection::vec("[ -~今天]{1,30}", 1..20),
        cut in 1usize..50,
    ) {
        let messages: Vec<String> = texts.iter().map(|text| format!("<13>{text}")).collect();
        let ended = |end: &str| messages.iter().map(|message| format!("{message}{end}")).collect::<String>();
        let all_counted: String = messages.iter().map(|message| counted(message)).collect();
        for input in [ended("\n"), ended("\0"), all_counted] {
            prop_assert_eq!(decode(input.as_bytes().chunks(cut)), &messages[..]);
        }
    }
}
