//! Telnet is a full client: as it comes from Debian, in a terminal, with the keys that people press.

use tokio::io::AsyncBufReadExt;

use crate::support::{CTRL_C, CTRL_D, Server, Terminal, peer, soon, stored};

/// Telnet in a terminal, connected.
async fn telnet(server: &Server) -> Terminal {
    let (_, port) = server.address().split_once(':').unwrap();
    let mut command = peer("telnet");
    command.args(["localhost", port]);
    let mut telnet = Terminal::start(command);
    telnet.sees("diary/1 ready head=").await;
    telnet.sees("/help lists commands\r\n").await;
    telnet
}

/// The server said goodbye, and telnet ends by itself.
async fn ends_with_bye(telnet: Terminal) {
    let (_, rest) = telnet.ends().await;
    assert!(rest.contains("bye\r\nConnection closed by foreign host."), "{rest}");
}

#[tokio::test]
async fn a_typed_line_is_stored_and_acked() {
    let server = Server::start().await;
    let mut telnet = telnet(&server).await;
    telnet.types("今天天气很好\r").await;
    telnet.sees("\r\nok 1 ").await;
    telnet.types("/history\r").await;
    telnet.sees("ok history\r\n1 ").await;
    telnet.sees(" local 今天天气很好\r\nend 1\r\n").await;
    telnet.types("/quit\r").await;
    ends_with_bye(telnet).await;
    assert_eq!(stored(&server.journal()), ["local 今天天气很好"]);
    server.stop().await;
}

/// From Ctrl-C on, telnet throws away all that comes until the server has answered it.
#[tokio::test]
async fn ctrl_c_drops_the_line_and_nothing_else() {
    let server = Server::start().await;
    let mut telnet = telnet(&server).await;
    for seq in 1..=3 {
        telnet.types("half a line").await;
        telnet.sees("half a line").await;
        telnet.types(CTRL_C).await;
        telnet.types("whole\r").await;
        telnet.sees(&format!("ok {seq} ")).await;
    }
    assert_eq!(stored(&server.journal()), ["local whole"; 3]);
    server.stop().await;
}

/// Ctrl-C while an answer runs over the screen is meant to stop that, and the next line is answered.
#[tokio::test]
async fn ctrl_c_in_the_middle_of_an_answer() {
    let server = Server::start().await;
    let mut writer = server.lines().await;
    writer.send(format!("{}\n", "x".repeat(1000)).repeat(2000)).await;
    for _ in 0..2000 {
        assert!(writer.line().await.starts_with("ok "));
    }
    let mut telnet = telnet(&server).await;
    telnet.types("/history all\r").await;
    telnet.sees("ok history").await;
    telnet.types(CTRL_C).await;
    telnet.types("今天\r").await;
    telnet.sees("\nok 2001 ").await;
    server.stop().await;
}

/// Telnet takes some bytes inside of characters for keys (0x9c for Ctrl-\\), and sends what those mean
/// instead. Such a line is refused whole; it is never stored with less in it.
#[tokio::test]
async fn a_character_that_telnet_broke_is_refused_and_comes_through_the_second_time() {
    let server = Server::start().await;
    let texts = ["我的天气", "我在这里", "小明"];
    for (text, seq) in texts.into_iter().zip([1, 3, 5]) {
        let mut telnet = telnet(&server).await;
        telnet.types(&format!("{text}\r")).await;
        telnet.sees("\nerror utf8: ").await;
        telnet.types(&format!("{text}\r")).await;
        telnet.sees(&format!("\nok {seq} ")).await;
        // It still is a terminal's telnet: a line end, an interrupt and an end of input work.
        telnet.types("half a line").await;
        telnet.types(CTRL_C).await;
        telnet.types("来了\r").await;
        telnet.sees(&format!("\nok {} ", seq + 1)).await;
        telnet.types(CTRL_D).await;
        ends_with_bye(telnet).await;
    }
    let expected = texts.iter().flat_map(|text| [format!("local {text}"), "local 来了".to_owned()]);
    assert_eq!(stored(&server.journal()), expected.collect::<Vec<_>>());
    server.stop().await;
}

/// Telnet says so in its own words, whatever keys they are on.
#[tokio::test]
async fn what_was_erased_is_not_stored() {
    let server = Server::start().await;
    let (mut telnet, mut other) = (telnet(&server).await, server.lines().await);
    telnet.types("/follow\r").await;
    telnet.sees("ok follow from 1\r\n").await;
    telnet.types("wrong").await;
    telnet.sees("wrong").await;
    for (erase, text) in [("send el", "today: 晴天e\u{301}"), ("send ec", "天"), ("send ec", "!\r")] {
        telnet.types("\x1d").await;
        telnet.sees("telnet> ").await;
        telnet.types(&format!("{erase}\r")).await;
        // It looks at the connection again, so it has done that.
        soon("the other writes", other.ask(erase)).await;
        telnet.sees(&format!(" local {erase}\r\n")).await;
        telnet.types(text).await;
        telnet.sees(text.trim_end()).await;
    }
    telnet.sees("\nok 4 ").await;
    assert_eq!(stored(&server.journal())[3..], ["local today: 晴天!"]);
    server.stop().await;
}

/// Clients that send each key as it is pressed: they negotiate first.
#[tokio::test]
async fn a_backspace_erases_for_those_who_have_shown_themselves_as_telnet() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    client.send("nc: a\u{8}b\u{7f}\n").await;
    client.line().await;
    // WILL NAWS, DO SUPPRESS-GO-AHEAD.
    client.send(b"\xff\xfb\x1f\xff\xfd\x03").await;
    for key in "hx\u{8}ello 👩‍👩‍👧\u{7f}天天\u{8}\r\0".as_bytes().chunks(1) {
        client.send(key).await;
    }
    // Telnet's answers stand before it.
    let mut answer = Vec::new();
    soon("an ack comes", client.reader.read_until(b'\n', &mut answer)).await.unwrap();
    assert!(answer.windows(5).any(|part| part == b"ok 2 "), "{}", answer.escape_ascii());
    assert_eq!(stored(&server.journal()), ["local nc: a\\x08b\\x7f", "local hello 天"]);
    server.stop().await;
}

#[tokio::test]
async fn ctrl_d_at_the_start_of_a_line_is_goodbye() {
    let server = Server::start().await;
    let mut telnet = telnet(&server).await;
    telnet.types("one\r").await;
    telnet.sees("ok 1 ").await;
    telnet.types(CTRL_D).await;
    ends_with_bye(telnet).await;
    assert_eq!(stored(&server.journal()), ["local one"]);
    server.stop().await;
}

/// Entries of others appear while a line is being typed, and the line is whole all the same.
#[tokio::test]
async fn following_while_typing() {
    let server = Server::start().await;
    let (mut telnet, mut other) = (telnet(&server).await, server.lines().await);
    telnet.types("/follow\r").await;
    telnet.sees("ok follow from 1\r\n").await;
    telnet.types("typed ").await;
    telnet.sees("typed ").await;
    soon("the other writes", other.ask("from elsewhere")).await;
    telnet.sees(" local from elsewhere\r\n").await;
    telnet.types("slowly\r").await;
    telnet.sees_all(&["\nok 2 ", " local typed slowly\r\n"]).await;
    assert_eq!(stored(&server.journal()), ["local from elsewhere", "local typed slowly"]);
    server.stop().await;
}
