//! Frames: `u32 big-endian length | u8 type | body`. The length counts type and body, 1 byte to 1 MiB.

use bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use crate::limits::FRAME_MAX_BYTES;

/// Bytes of the length.
const LENGTH_BYTES: usize = 4;

/// Unknown types from here up are ignored by either side, so that later versions can add some.
pub const IGNORABLE_FROM: u8 = 0x80;

/// One frame, not yet read as a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What kind of message.
    pub kind: u8,
    /// Its bytes.
    pub body: Bytes,
}

/// Why a stream of frames cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A length outside its bounds. The stream is out of step.
    #[error("a frame has 1 to {FRAME_MAX_BYTES} bytes after its length, this one says {0}")]
    Length(u32),
    /// The stream ended in the middle of a frame.
    #[error("the stream ended in the middle of a frame")]
    Cut,
    /// The transport failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Frames as a codec for `tokio_util::codec`. It never reserves what a length promises: memory is taken
/// as bytes arrive.
#[derive(Debug, Clone, Copy, Default)]
pub struct FrameCodec;

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = FrameError;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some((length, rest)) = input.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let promised = u32::from_be_bytes(*length);
        let length = usize::try_from(promised).unwrap_or(usize::MAX);
        if length == 0 || length > FRAME_MAX_BYTES {
            return Err(FrameError::Length(promised));
        }
        if rest.len() < length {
            return Ok(None);
        }
        input.advance(LENGTH_BYTES);
        let mut frame = input.split_to(length);
        let kind = frame.get_u8();
        Ok(Some(Frame { kind, body: frame.freeze() }))
    }

    fn decode_eof(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        match self.decode(input)? {
            Some(frame) => Ok(Some(frame)),
            None if input.is_empty() => Ok(None),
            None => Err(FrameError::Cut),
        }
    }
}

impl Encoder<Frame> for FrameCodec {
    type Error = FrameError;

    fn encode(&mut self, frame: Frame, out: &mut BytesMut) -> Result<(), FrameError> {
        let length = frame.body.len() + 1;
        let promised = u32::try_from(length).unwrap_or(u32::MAX);
        if length > FRAME_MAX_BYTES {
            return Err(FrameError::Length(promised));
        }
        out.reserve(LENGTH_BYTES + length);
        out.extend_from_slice(&promised.to_be_bytes());
        out.extend_from_slice(&[frame.kind]);
        out.extend_from_slice(&frame.body);
        Ok(())
    }
}

/// Appends one frame to `out`; `body` writes what follows the type.
///
/// # Panics
/// If `body` writes more than a frame may hold: whoever builds a message keeps it within the limit.
pub(crate) fn write(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    out.push(kind);
    body(out);
    let length = out.len() - start - LENGTH_BYTES;
    assert!(length <= FRAME_MAX_BYTES, "a message of {length} bytes does not fit a frame");
    let length = u32::try_from(length).expect("below the frame limit");
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bad_lengths_are_refused_before_any_memory_is_taken() {
        for length in [0u32, 0x0010_0001, u32::MAX] {
            let mut input = BytesMut::from(&length.to_be_bytes()[..]);
            let capacity = input.capacity();
            assert!(matches!(FrameCodec.decode(&mut input), Err(FrameError::Length(l)) if l == length));
            assert_eq!(input.capacity(), capacity);
        }
        let mut input = BytesMut::from(&[0, 0x10, 0, 0, 1][..]);
        assert!(matches!(FrameCodec.decode(&mut input), Ok(None)));
        assert!(input.capacity() < 1024, "a promised MiB costs nothing");
        assert!(matches!(FrameCodec.decode_eof(&mut input), Err(FrameError::Cut)));
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_frames(
            frames in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..8),
            cut in 1usize..9,
        ) {
            let mut bytes = BytesMut::new();
            let frames: Vec<Frame> = frames.into_iter().map(|(kind, body)| Frame { kind, body: body.into() }).collect();
            for frame in &frames {
                FrameCodec.encode(frame.clone(), &mut bytes).unwrap();
            }
            let (mut input, mut seen) = (BytesMut::new(), Vec::new());
            for chunk in bytes.chunks(cut) {
                input.extend_from_slice(chunk);
                while let Some(frame) = FrameCodec.decode(&mut input).unwrap() {
                    seen.push(frame);
                }
            }
            prop_assert!(FrameCodec.decode_eof(&mut input).unwrap().is_none());
            prop_assert_eq!(seen, frames);
        }
    }
}
