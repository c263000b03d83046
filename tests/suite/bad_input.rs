//! What bad input gets: a clear `error CODE: …`, nothing stored, and the connection kept where the
//! stream is still in step.

use crate::support::{Lines, Server, is_ack};

/// What becomes of the connection.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Stays,
    Closes,
}
use Then::{Closes, Stays};

/// Sends `input` to a server of its own. It must give exactly these answers (each from its start) and
/// store nothing.
async fn check(input: impl AsRef<[u8]>, answers: &[&str], then: Then) {
    let input = input.as_ref();
    let server = Server::start().await;
    let mut client = server.lines().await;
    client.send(input).await;
    let shown = String::from_utf8_lossy(&input[..input.len().min(60)]).into_owned();
    let mut answered = Vec::new();
    for _ in answers {
        answered.push(client.line().await);
    }
    for (line, answer) in answered.iter().zip(answers) {
        assert!(line.starts_with(answer), "{shown:?}: {line:?} is not {answer:?}");
        assert!(!line.contains(|c: char| c.is_control()), "{shown:?}: {line:?} is unsafe for a terminal");
    }
    let mut other = match then {
        Stays => client,
        Closes => {
            assert_eq!(client.rest().await, "", "{shown:?}");
            drop(client);
            Lines::connect(server.address()).await
        }
    };
    assert_eq!(other.history("all").await, [""; 0], "{shown:?}");
    assert!(is_ack(&other.ask("fine").await, 1), "{shown:?}");
    drop(other);
    server.stop().await;
}

#[tokio::test]
async fn http_is_refused_and_closed() {
    let http = &["error http: "][..];
    check("GET / HTTP/1.1\r\nHost: diary\r\nX: y\r\n\r\n", http, Closes).await;
    check("GET / HTTP/1.0\n", http, Closes).await;
    check("POST /x HTTP/1.1\r\nContent-Length: 9\r\n\r\nan entry\n", http, Closes).await;
    check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", http, Closes).await;
    check("\r\n\r\nGET / HTTP/1.1\r\n", http, Closes).await;
    check(format!("GET /{} HTTP/1.1\r\n", "a".repeat(200_000)), http, Closes).await;
}

#[tokio::test]
async fn http_is_refused_also_where_its_line_has_no_end() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    client.send("GET / HTTP/1.1").await;
    client.end_input().await;
    assert!(client.rest().await.starts_with("error http: "));
    assert_eq!(server.lines().await.history("all").await, [""; 0]);
}

#[tokio::test]
async fn a_later_line_that_looks_like_http_is_a_text() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    assert!(is_ack(&client.ask("today I learned:").await, 1));
    assert!(is_ack(&client.ask("GET / HTTP/1.1").await, 2));
}

#[tokio::test]
async fn a_first_line_about_http_is_a_text_and_nothing_behind_it_is_lost() {
    for text in [
        "I learned about HTTP/2",
        "what is new in HTTP/1.1",
        "GET up early HTTP/1.1",
        "TIL /etc/hosts HTTP/3",
        "GET /",
        "see /notes HTTP/1.1",
    ] {
        let server = Server::start().await;
        let mut client = server.lines().await;
        client.send(format!("{text}\nand more\n")).await;
        assert!(is_ack(&client.line().await, 1) && is_ack(&client.line().await, 2), "{text}");
        assert_eq!(client.all_texts().await, [text, "and more"]);
    }
}

#[tokio::test]
async fn a_proxy_header_is_refused_and_closed_whatever_is_behind_it() {
    let proxy = &["error proxy: this address takes no PROXY header; --listen proxy:ADDR"][..];
    let line = "PROXY TCP4 192.0.2.7 198.51.100.1 51234 8888\r\n";
    check(line, proxy, Closes).await;
    check("PROXY TCP6 2001:db8::7 ::1 51234 8888\r\n", proxy, Closes).await;
    check(format!("{line}GET / HTTP/1.1\r\nHost: x\r\n\r\nan entry\r\n"), proxy, Closes).await;
    check("PROXY UNKNOWN\r\nan entry\r\n", proxy, Closes).await;
    let binary =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\xc8\x22\x22\xb8an entry\n";
    check(binary, proxy, Closes).await;
}

#[tokio::test]
async fn a_first_line_about_proxies_is_a_text() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    assert!(is_ack(&client.ask("PROXY servers are slow").await, 1));
    assert!(is_ack(&client.ask("PROXY UNKNOWN").await, 2));
}

#[tokio::test]
async fn a_byte_order_mark_at_the_start_hides_nothing() {
    check("\u{feff}GET / HTTP/1.1\r\n", &["error http: "], Closes).await;
    check("\u{feff}/nope\n", &["error unknown-command: /nope"], Stays).await;
    let server = Server::start().await;
    let mut client = server.lines().await;
    for byte in "\u{feff}hello\n".bytes() {
        client.send([byte]).await;
    }
    assert!(is_ack(&client.line().await, 1));
    assert!(is_ack(&client.ask("\u{feff}later").await, 2));
    assert_eq!(client.all_texts().await, ["hello", "\u{feff}later"]);
}

#[tokio::test]
async fn tls_is_refused_and_closed() {
    let mut hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    hello.extend((0..=255).cycle().take(506));
    check(&hello, &["error tls: "], Closes).await;
    check(b"\x16\x03", &["error tls: "], Closes).await;
}

#[tokio::test]
async fn what_only_begins_like_tls_is_a_text() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    client.send(b"\x16").await;
    client.send(b"hello\n").await;
    assert!(is_ack(&client.line().await, 1));
    assert_eq!(client.all_texts().await, ["\\x16hello"]);
    let mut lone = server.lines().await;
    lone.send(b"\x16").await;
    lone.end_input().await;
    assert!(is_ack(lone.rest().await.trim_end(), 2));
}

#[tokio::test]
async fn a_line_over_the_limit_is_refused_whole() {
    let limit = &["error too-long: the line is longer than 65536 bytes"][..];
    let one_over = &["error too-long: the text is longer than 65536 bytes"][..];
    check(format!("{}\n", "x".repeat(65_537)), one_over, Stays).await;
    check(format!("{}\r\n", "x".repeat(65_538)), limit, Stays).await;
    check(format!("{}\n", "今".repeat(21_846)), limit, Stays).await;
    check(format!("{}\n", "long, with words in it ".repeat(50_000)), limit, Stays).await;
    check(format!("/search {}\n", "x".repeat(70_000)), limit, Stays).await;
}

#[tokio::test]
async fn a_line_at_the_limit_is_taken() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    let text = "x".repeat(65_536);
    for (seq, line) in
        [format!("{text}\n"), format!("{text}\r\n"), format!("//{}\n", &text[1..])].iter().enumerate()
    {
        client.send(line).await;
        assert!(is_ack(&client.line().await, seq as u64 + 1));
    }
    let texts = client.all_texts().await;
    assert_eq!(texts[..2], [text.clone(), text.clone()]);
    assert_eq!(texts[2], format!("/{}", &text[1..]));
}

#[tokio::test]
async fn nul_and_bad_utf8_are_refused() {
    for (input, code) in [
        (&b"a\0b\n"[..], "nul"),
        (b"a\0\n", "nul"),
        (b"caf\xe9\n", "utf8"),
        (b"\xc0\xaf\n", "utf8"),
        (b"\xe0\x80\xaf\n", "utf8"),
        (b"\xf0\x80\x80\xaf\n", "utf8"),
        (b"\xed\xa0\x80\n", "utf8"),
        (b"\xf4\x90\x80\x80\n", "utf8"),
        (b"\xf8\x88\x80\x80\x80\n", "utf8"),
        (b"\xe4\xbb\n", "utf8"),
        (b"\x80\n", "utf8"),
        (b"caf\xff\n", "utf8"),
        (b"/history \xe4\n", "utf8"),
        (b"/name \xe4\n", "utf8"),
    ] {
        check(input, &[&format!("error {code}: ")], Stays).await;
    }
}

#[tokio::test]
async fn what_is_no_command_says_so() {
    for line in
        ["/", "/nope", "/History", "/HISTORY all", "/ help", "/quit2", "/\u{1b}[31mred", "/\u{7f}", "/帮助"]
    {
        check(format!("{line}\n"), &["error unknown-command: /"], Stays).await;
    }
    check(format!("/{}\n", "x".repeat(60_000)), &["error unknown-command: /xxxx"], Stays).await;
}

#[tokio::test]
async fn bad_arguments_name_the_way_out() {
    for (line, way_out) in [
        ("/history yesteryear", "#SEQ.."),
        ("/history -1", "#SEQ.."),
        ("/history +1", "#SEQ.."),
        ("/history 1.5", "#SEQ.."),
        ("/history 007", "#SEQ.."),
        ("/history 18446744073709551616", "#SEQ.."),
        ("/history 2026-02-30", "2026-11-21"),
        ("/history 2026-13-01", "2026-11-21"),
        ("/history 2026-2-3", "2026-11-21"),
        ("/history 2026-11-21..", "2026-11-21"),
        ("/history ..2026-11-21", "2026-11-21"),
        ("/history 2026-11-21...2026-11-22", "2026-11-21"),
        ("/history 2026-11-21..2026-11-20", "the first day of a range comes first"),
        ("/history 5..9", "#SEQ.."),
        ("/history all all", "#SEQ.."),
        ("/history #0..", "#SEQ.."),
        ("/history #5", "#SEQ.."),
        ("/history #5..9", "#SEQ.."),
        ("/history ２", "#SEQ.."),
        ("/follow 5", "#SEQ"),
        ("/follow #0", "#SEQ"),
        ("/follow #", "#SEQ"),
        ("/follow on", "#SEQ"),
        ("/search", "/search TEXT"),
        ("/search   ", "/search TEXT"),
        ("/name", "cannot be empty"),
        ("/name a b", "spaces"),
        ("/name a\\b", "backslashes"),
        ("/name \u{1b}[1m", "control"),
        ("/name \u{202e}x", "control"),
        ("/name \u{200b}", "one visible character"),
        ("/name \u{3164}", "one visible character"),
        ("/name \u{2800}\u{301}\u{ad}", "one visible character"),
        ("/quiet please", "/quiet takes no argument"),
        ("/quit now", "/quit takes no argument"),
    ] {
        let server = Server::start().await;
        let mut client = server.lines().await;
        let answer = client.ask(line).await;
        assert!(answer.starts_with("error bad-argument: ") && answer.contains(way_out), "{line}: {answer}");
        assert!(is_ack(&client.ask("fine").await, 1), "{line}");
    }
    check(
        format!("/name {}\n", "x".repeat(65)),
        &["error too-long: a name can have at most 64 bytes"],
        Stays,
    )
    .await;
}

#[tokio::test]
async fn refusals_keep_their_place_among_the_answers() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    let long = "x".repeat(65_537);
    client.send(format!("one\n{long}\ntwo\n/nope\nthree\n").as_bytes()).await;
    client.send(b"a\0b\n\xff\xffx\nfour\n").await;
    let mut answers = Vec::new();
    for _ in 0..8 {
        answers.push(client.line().await.split(' ').take(2).collect::<Vec<_>>().join(" "));
    }
    assert_eq!(
        answers,
        [
            "ok 1",
            "error too-long:",
            "ok 2",
            "error unknown-command:",
            "ok 3",
            "error nul:",
            "error utf8:",
            "ok 4"
        ]
    );
    assert_eq!(client.all_texts().await, ["one", "two", "three", "four"]);
}
