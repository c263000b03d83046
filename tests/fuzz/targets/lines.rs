//! Line mode, telnet included: any cut of the input gives the same lines and the same telnet answers.
//! The first byte says where it is cut, and whether the listener is a quiet one.
#![no_main]

use diary_proto::Command;
use diary_proto::entry::check_text;
use diary_proto::line::{Line, LineDecoder};
use libfuzzer_sys::fuzz_target;

fn decode<'a>(plain: bool, chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Vec<u8>) {
    let mut decoder = if plain { LineDecoder::plain() } else { LineDecoder::new() };
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

fn look(line: &Line<'_>) -> String {
    match line {
        Line::Text(text) => check_text(text).expect("a text is sound"),
        Line::Command(command) => _ = Command::parse(command),
        Line::Refused(_) | Line::Quit | Line::Http | Line::Proxy => {}
    }
    format!("{line:?}")
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, data)) = data.split_first() else { return };
    let (plain, cut) = (first & 0x80 != 0, usize::from(first & 0x7f) + 1);
    let whole = decode(plain, [data]);
    assert_eq!(decode(plain, data.chunks(cut)), whole);
    assert_eq!(decode(plain, data.chunks(1)), whole);
    assert!(!plain || whole.1.is_empty(), "a quiet listener answers nothing");
});
