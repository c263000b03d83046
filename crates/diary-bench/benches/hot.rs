//! What every entry goes through, piece by piece: `cargo bench -p diary-bench`.

use bytes::BytesMut;
use diary_proto::block::Walker;
use diary_proto::entry::{NewLine, StoredLine};
use diary_proto::frame::FrameCodec;
use diary_proto::line::{Line, LineDecoder};
use diary_proto::message::{Append, ClientMessage, Texts};
use diary_proto::{Author, Key, Producer, Seal, escape, seal};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use tokio_util::codec::Decoder;

/// Entries that are worked on at once, as one read of a socket brings them.
const ENTRIES: usize = 600;

fn lines_seal() -> Seal {
    Seal::of_journal(0x5f0c_9e27_a1b3_4d68)
}

fn main() {
    divan::main();
}

fn texts() -> [(&'static str, String); 3] {
    [
        ("plain", "abcdefghij".repeat(10)),
        ("chinese", "今天天气很好，".repeat(5)),
        ("escaped", "a\tb\\c\nd ".repeat(12)),
    ]
}

fn text(name: &str) -> String {
    texts().into_iter().find(|(known, _)| *known == name).expect("one of the texts").1
}

const TEXTS: [&str; 3] = ["plain", "chinese", "escaped"];

fn stored(text: &str, key: Option<Key>) -> Vec<u8> {
    let author = Author::new("local").expect("a name");
    let time = b"2026-11-21T08:15:02.123456+08:00";
    let (seal, mut out) = (lines_seal(), Vec::new());
    for seq in 1..=ENTRIES as u64 {
        NewLine { key, ..NewLine::new(seq, time, &author, text) }.write(&mut out, seal);
    }
    out
}

#[divan::bench(args = ["plain", "chinese"])]
fn decode_lines(bencher: Bencher, name: &str) {
    let input = format!("{}\n", text(name)).repeat(ENTRIES);
    bencher.counter(ItemsCount::new(ENTRIES)).counter(BytesCount::new(input.len())).bench_local(|| {
        let (mut decoder, mut input, mut answers) = (LineDecoder::new(), input.as_bytes(), Vec::new());
        let mut bytes = 0;
        while let Some(Line::Text(text)) = decoder.next(&mut input, &mut answers) {
            bytes += text.len();
        }
        bytes
    });
}

#[divan::bench]
fn decode_frames(bencher: Bencher) {
    let text = text("plain");
    let texts = Texts::new(std::iter::repeat_n(&*text, ENTRIES));
    let mut input = Vec::new();
    ClientMessage::Append(Append { first_counter: 1, retry: false, texts }).write(&mut input);
    bencher
        .counter(ItemsCount::new(ENTRIES))
        .counter(BytesCount::new(input.len()))
        .with_inputs(|| BytesMut::from(&input[..]))
        .bench_local_values(|mut input| {
            let frame = FrameCodec.decode(&mut input).expect("a sound frame").expect("a whole one");
            match ClientMessage::read(frame) {
                Ok(Some(ClientMessage::Append(append))) => {
                    append.texts.iter().map(|new| new.text.len()).sum::<usize>()
                }
                other => panic!("{other:?}"),
            }
        });
}

#[divan::bench(args = TEXTS)]
fn encode_stored_lines(bencher: Bencher, name: &str) {
    let text = text(name);
    bencher.counter(ItemsCount::new(ENTRIES)).bench_local(|| stored(black_box(&text), None));
}

#[divan::bench]
fn encode_stored_lines_with_keys(bencher: Bencher) {
    let text = text("plain");
    let key = Some(Key { producer: Producer(0x6b1f_09c2_d4e8_a735), counter: 17 });
    bencher.counter(ItemsCount::new(ENTRIES)).bench_local(|| stored(black_box(&text), key));
}

#[divan::bench(args = [40, 150, 4096])]
fn checksum(bencher: Bencher, bytes: usize) {
    let line = vec![b'x'; bytes];
    bencher.counter(BytesCount::new(bytes)).bench_local(|| seal::crc(black_box(&line)));
}

#[divan::bench(args = TEXTS)]
fn parse_lines(bencher: Bencher, name: &str) {
    let block = stored(&text(name), None);
    let seal = lines_seal();
    let lines: Vec<&[u8]> = block.split(|&b| b == b'\n').filter(|line| !line.is_empty()).collect();
    bencher.counter(ItemsCount::new(ENTRIES)).counter(BytesCount::new(block.len())).bench_local(|| {
        lines
            .iter()
            .map(|line| StoredLine::parse(line, seal).expect("a sound line").text.len())
            .sum::<usize>()
    });
}

#[divan::bench]
fn pass_a_block(bencher: Bencher) {
    let block = stored(&text("plain"), None);
    bencher.counter(ItemsCount::new(ENTRIES)).counter(BytesCount::new(block.len())).bench_local(|| {
        let mut entries = 0;
        Walker::new(1, lines_seal()).pass(&block, |_| true, |_| entries += 1);
        entries
    });
}

#[divan::bench(args = TEXTS)]
fn escape_texts(bencher: Bencher, name: &str) {
    let text = text(name);
    bencher.counter(BytesCount::new(text.len())).bench_local(|| {
        let mut out = Vec::with_capacity(256);
        escape::escape_into(black_box(&text), &mut out);
        out
    });
}

#[divan::bench(args = TEXTS)]
fn unescape_texts(bencher: Bencher, name: &str) {
    let stored = escape::escape(&text(name)).into_owned();
    bencher
        .counter(BytesCount::new(stored.len()))
        .bench_local(|| escape::unescape(black_box(&stored)).expect("sound").len());
}
