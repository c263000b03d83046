//! Line mode, telnet included, and what quiet listeners take: any cut of the input gives the same lines, the same telnet
//! answers and the same messages. The first byte says where it is cut, and whether the listener is a quiet one.
#![no_main]

use diary_proto::Command;
use diary_proto::entry::check_text;
use diary_proto::line::{Line, LineDecoder};
use diary_proto::syslog::{Message, SyslogDecoder};
use libfuzzer_sys::fuzz_target;

fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Vec<u8>) {
    let mut decoder = LineDecoder::new();
    let (mut lines, mut replies) = (Vec::new(), Vec::new());
    for chunk in chunks {
        let mut input = chunk;
        while let Some(line) = decoder.next(&mut input, &mut replies) {
            lines.push(look(&line));
        }
        assert!(input.is_empty());
    }
    lines.extend(decoder.finish().as_ref().map(look));
    assert!(decoder.finish().is_none(), "an end comes once");
    (lines, replies)
}

fn decode_quiet<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let (mut decoder, mut messages) = (SyslogDecoder::default(), Vec::new());
    for chunk in chunks {
        let mut input = chunk;
        while let Some(message) = decoder.next(&mut input) {
            messages.push(look_at(&message));
        }
        assert!(input.is_empty());
    }
    messages.extend(decoder.finish().as_ref().map(look_at));
    assert!(decoder.finish().is_none(), "an end comes once");
    messages
}

fn look_at(message: &Message<'_>) -> String {
    match message {
        Message::Text(text) => check_text(text).expect("a text is valid"),
        // How much of the end is kept depends on the cut.
        Message::Refused { refusal, text } => return format!("{refusal:?} {:?}", text.get(..64)),
        Message::Http | Message::Proxy => {}
    }
    format!("{message:?}")
}

fn look(line: &Line<'_>) -> String {
    match line {
        Line::Text(text) => check_text(text).expect("a text is sound"),
        Line::Command(command) => look_at_command(command),
        Line::Refused(_) | Line::Quit | Line::Http | Line::Proxy => {}
    }
    format!("{line:?}")
}

/// Nothing that is said of a token shows it.
fn look_at_command(line: &str) {
    let said = match Command::parse(line) {
        Ok(Command::Login(token)) => {
            // Of what is too long for a token, nothing is kept.
            assert!(line.contains(token.reveal()) || (line.len() > 128 && token.reveal() == "-"));
            format!("{:?}", Command::Login(token))
        }
        Err(refusal) => refusal.to_string(),
        Ok(_) => return,
    };
    assert!(!said.contains("diary_"), "{said}");
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, data)) = data.split_first() else { return };
    let (quiet, cut) = (first & 0x80 != 0, usize::from(first & 0x7f) + 1);
    if quiet {
        let whole = decode_quiet([data]);
        assert_eq!(decode_quiet(data.chunks(cut)), whole);
        assert_eq!(decode_quiet(data.chunks(1)), whole);
        return;
    }
    let whole = decode([data]);
    assert_eq!(decode(data.chunks(cut)), whole);
    assert_eq!(decode(data.chunks(1)), whole);
});
