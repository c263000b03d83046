//! Frames, and the messages of either side in them. The first byte says where the input is cut.
#![no_main]

use bytes::BytesMut;
use diary_proto::frame::{Frame, FrameCodec};
use diary_proto::message::{Append, ClientMessage, ServerMessage, Texts};
use diary_proto::{Filter, Sieve};
use libfuzzer_sys::fuzz_target;
use tokio_util::codec::{Decoder, Encoder};

/// The frames of `chunks`, and whether the stream is still in step.
fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Frame>, BytesMut, bool) {
    let (mut input, mut frames) = (BytesMut::new(), Vec::new());
    for chunk in chunks {
        input.extend_from_slice(chunk);
        loop {
            match FrameCodec.decode(&mut input) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, input, false),
            }
        }
    }
    (frames, input, true)
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, data)) = data.split_first() else { return };
    let (frames, rest, in_step) = decode([data]);
    let in_pieces = decode(data.chunks(usize::from(cut) + 1));
    assert_eq!((&frames, in_step), (&in_pieces.0, in_pieces.2));

    let mut again = BytesMut::new();
    for frame in &frames {
        FrameCodec.encode(frame.clone(), &mut again).expect("a frame that came fits a frame");
        if let Ok(Some(message)) = ClientMessage::read(frame.clone()) {
            let mut bytes = Vec::new();
            message.write(&mut bytes);
            assert_eq!(ClientMessage::read(one_frame(&bytes)).ok(), Some(Some(message.clone())));
            look(&message);
        }
        if let Ok(Some(message)) = ServerMessage::read(frame.clone()) {
            let mut bytes = Vec::new();
            message.write(&mut bytes);
            assert_eq!(ServerMessage::read(one_frame(&bytes)).ok(), Some(Some(message)));
        }
    }
    again.extend_from_slice(&rest);
    assert_eq!(again, data);
});

/// Uses what a message holds.
fn look(message: &ClientMessage) {
    match message {
        ClientMessage::Append(Append { texts, .. }) if texts.are_own() => {
            assert!(Texts::own(texts.iter()).iter().eq(texts.iter()));
            texts.iter().filter_map(|new| new.at).for_each(|at| assert!(at.to_bytes().is_ascii()));
        }
        ClientMessage::Search { filter, .. } if filter.check().is_ok() => {
            let tags = filter.tags.join(" ");
            let tagged = Filter { tags: filter.tags.clone(), ..Filter::default() };
            assert!(Sieve::new(&tagged).takes("anna", &tags), "its tags are found in themselves");
            Sieve::new(filter).takes("anna", &tags);
        }
        _ => {}
    }
}

fn one_frame(bytes: &[u8]) -> Frame {
    let (mut frames, rest, in_step) = decode([bytes]);
    assert!(frames.len() == 1 && rest.is_empty() && in_step, "a message is one frame");
    frames.remove(0)
}
