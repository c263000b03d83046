//! Frame mode: frames to requests, answers to frames.

use bytes::BytesMut;
use diary_proto::frame::{FrameCodec, FrameError};
use diary_proto::message::{BLOCK_MAX_BYTES, ClientMessage, Run, ServerMessage};
use diary_proto::{Code, Refusal};
use tokio_util::codec::Decoder;

use super::{Answer, Kind, Request};

/// Cuts a connection's bytes into frames.
#[derive(Debug, Default)]
pub(crate) struct FrameDecoder {
    buffer: BytesMut,
    /// A frame was taken out of it.
    taken: bool,
    hello: bool,
}

impl FrameDecoder {
    pub(crate) fn awaits_hello(&self) -> bool {
        !self.hello
    }

    pub(crate) fn partial_bytes(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) fn next(&mut self, input: &mut &[u8]) -> Option<Request> {
        self.buffer.extend_from_slice(input);
        *input = &[];
        loop {
            let request = match FrameCodec.decode(&mut self.buffer) {
                Ok(Some(frame)) => {
                    self.taken = true;
                    match ClientMessage::read(frame) {
                        Ok(Some(message)) => self.request(message),
                        Ok(None) => continue,
                        Err(refusal) => Request::refused(refusal),
                    }
                }
                Ok(None) => {
                    self.let_go();
                    return None;
                }
                Err(error) => out_of_step(&error),
            };
            return Some(request);
        }
    }

    /// Frames share the buffer that they were taken from. A copy of the rest lets go of it.
    fn let_go(&mut self) {
        if std::mem::take(&mut self.taken) || self.buffer.is_empty() {
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
    }

    /// At the end of the input, a frame that has not arrived whole is refused.
    pub(crate) fn finish(&mut self) -> Option<Request> {
        match FrameCodec.decode_eof(&mut self.buffer) {
            Err(error) => {
                self.buffer = BytesMut::new();
                Some(out_of_step(&error))
            }
            Ok(_) => None,
        }
    }

    fn request(&mut self, message: ClientMessage) -> Request {
        let first = !self.hello;
        match message {
            ClientMessage::Hello(hello) if first => {
                self.hello = true;
                Request::Hello(hello.into())
            }
            ClientMessage::Hello(_) => {
                Request::refused(Refusal::new(Code::Hello, "there was a Hello on this connection already"))
            }
            _ if first => Request::refused(Refusal::new(Code::Hello, "the first frame is a Hello")),
            ClientMessage::Append(append) => Request::Append(append),
            ClientMessage::History { id, scope } => Request::History { id, scope },
            ClientMessage::Follow { id, from } => Request::Follow { id, from },
            ClientMessage::FollowOff { id } => Request::FollowOff { id },
            ClientMessage::Search { id, filter } => Request::Search { id, filter: filter.into() },
            ClientMessage::Thread { id, seq } => Request::Thread { id, seq },
            ClientMessage::Versions { id, seq } => Request::Versions { id, seq },
            ClientMessage::Check { id } => Request::Check { id },
            ClientMessage::Quit => Request::Quit,
        }
    }
}

/// Writes an answer as a frame.
pub(super) fn encode(answer: Answer<'_>, out: &mut Vec<u8>) {
    let message = match answer {
        Answer::Welcome(welcome) => ServerMessage::Welcome(welcome.clone()),
        Answer::Acked { first_counter, count, first_seq, time, .. } => {
            ServerMessage::Acks(vec![Run { first_counter, count, first_seq, time }])
        }
        Answer::NotStored { first_counter, count, refusal } => {
            ServerMessage::Refused { first_counter, count, refusal: refusal.clone() }
        }
        Answer::Begin { id, first, last, kind, dense, shown } => {
            let last = if kind == Kind::Follow { u64::MAX } else { last };
            ServerMessage::Answer { id, first, last, dense, shown }
        }
        Answer::Lines { id, lines, .. } => return push_blocks(out, id, lines),
        Answer::End { id, .. } | Answer::FollowOff { id } | Answer::WouldTake { id } => {
            ServerMessage::End { id }
        }
        Answer::Error { id, fatal, refusal } => ServerMessage::Error { id, fatal, refusal: refusal.clone() },
        Answer::Bye(reason) => {
            ServerMessage::Bye { reason: reason.strip_prefix(": ").unwrap_or("bye").to_owned() }
        }
        // The client checks the lines and finds the gaps. The others answer line mode's commands.
        Answer::CaughtUp { .. } | Answer::Quiet | Answer::Words(_) => return,
    };
    message.write(out);
}

fn out_of_step(error: &FrameError) -> Request {
    Request::Fatal(Refusal::new(Code::BadFrame, error.to_string()))
}

/// Splits lines into blocks of whole lines. A page fits one block; the hits of a search may not.
fn push_blocks(out: &mut Vec<u8>, id: u32, mut lines: &[u8]) {
    while lines.len() > BLOCK_MAX_BYTES {
        let end = memchr::memrchr(b'\n', &lines[..BLOCK_MAX_BYTES]).map_or(BLOCK_MAX_BYTES, |end| end + 1);
        ServerMessage::write_block(out, id, &lines[..end]);
        lines = &lines[end..];
    }
    if !lines.is_empty() {
        ServerMessage::write_block(out, id, lines);
    }
}
