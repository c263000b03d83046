//! Telnet, as far as a plain line service needs it (RFC 854, RFC 855, RFC 860).
//!
//! Every option is refused once, but one is asked for: binary transmission (RFC 856). Debian's telnet
//! takes some bytes of UTF-8 for keys of its own (0x9c in 在, 0x9a in 的) and sends telnet commands in
//! their place, unless it is asked for binary. It is asked when its first command shows that it is a
//! telnet; the line that was broken by then is refused, and typed again it comes through.
//!
//! `DO TIMING-MARK` is answered `WONT` each time, because a telnet client
//! that was interrupted (Ctrl-C) throws all output away until that answer comes. EC and EL erase what was
//! typed: a character, or the line. Other commands are ignored. A 0xFF that starts no telnet command stays in the data, where it is invalid UTF-8 and is
//! refused with its line: nothing is silently left out.

pub(crate) const IAC: u8 = 255;
const DONT: u8 = 254;
const DO: u8 = 253;
const WONT: u8 = 252;
const WILL: u8 = 251;
const SUBNEGOTIATION: u8 = 250;
const ERASE_LINE: u8 = 248;
const ERASE_CHARACTER: u8 = 247;
const SUBNEGOTIATION_END: u8 = 240;
/// The lowest byte that is a command after IAC: end of file, from the Linemode option (RFC 1184).
const END_OF_FILE: u8 = 236;
const TIMING_MARK: u8 = 6;
const BINARY: u8 = 0;

/// Longest subnegotiation that is skipped. Every option is refused, so none should come at all.
const SUBNEGOTIATION_MAX_BYTES: u16 = 1024;

/// What one byte of the stream means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing for the line.
    Nothing,
    /// This byte of data.
    Data(u8),
    /// A stray 0xFF, then this byte of data.
    Stray(u8),
    /// The client's user ended the input (Ctrl-D).
    EndOfFile,
    /// The character before this is taken back.
    EraseCharacter,
    /// The line before this is taken back.
    EraseLine,
}

/// Takes telnet out of a byte stream.
#[derive(Debug, Clone, Default)]
pub struct Telnet {
    state: State,
    refused_will: Options,
    refused_do: Options,
    /// It has been asked for binary transmission.
    asked: bool,
    /// A command has come.
    shown: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Data,
    Iac,
    Option(u8),
    Subnegotiation(u16),
    SubnegotiationIac(u16),
}

#[derive(Debug, Clone, Default)]
struct Options([u64; 4]);

impl Options {
    /// Whether `option` is new here; it is not from now on.
    fn insert(&mut self, option: u8) -> bool {
        let word = &mut self.0[usize::from(option / 64)];
        let bit = 1 << (option % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

impl Telnet {
    /// Whether the next byte is data unless it is 0xFF.
    pub fn is_idle(&self) -> bool {
        self.state == State::Data
    }

    /// Whether the peer has shown itself as a telnet client: somebody types there.
    pub fn is_shown(&self) -> bool {
        self.shown
    }

    /// The input has ended. Whether that was in the middle of a command, which is none then.
    pub fn end(&mut self) -> bool {
        std::mem::take(&mut self.state) != State::Data
    }

    /// Takes the next byte. What must be answered at once is appended to `replies`.
    pub fn push(&mut self, byte: u8, replies: &mut Vec<u8>) -> Meaning {
        match (self.state, byte) {
            (State::Data, IAC) => self.state = State::Iac,
            (State::Data, byte) => return Meaning::Data(byte),
            (State::Iac, DONT | DO | WONT | WILL) => self.state = State::Option(byte),
            (State::Iac, SUBNEGOTIATION) => self.state = State::Subnegotiation(0),
            (State::Iac, byte) => {
                self.state = State::Data;
                self.shown |= (END_OF_FILE..IAC).contains(&byte);
                return match byte {
                    IAC => Meaning::Data(IAC),
                    END_OF_FILE => Meaning::EndOfFile,
                    ERASE_CHARACTER => Meaning::EraseCharacter,
                    ERASE_LINE => Meaning::EraseLine,
                    ..END_OF_FILE => Meaning::Stray(byte),
                    _ => Meaning::Nothing,
                };
            }
            (State::Option(verb), option) => {
                self.state = State::Data;
                self.shown = true;
                self.ask(replies);
                self.refuse(verb, option, replies);
            }
            (State::Subnegotiation(SUBNEGOTIATION_MAX_BYTES..), byte) => {
                self.state = State::Data;
                return Meaning::Stray(byte);
            }
            (State::Subnegotiation(seen), IAC) => self.state = State::SubnegotiationIac(seen + 1),
            (State::Subnegotiation(seen), _) => self.state = State::Subnegotiation(seen + 1),
            (State::SubnegotiationIac(_), SUBNEGOTIATION_END) => self.state = State::Data,
            (State::SubnegotiationIac(seen), _) => self.state = State::Subnegotiation(seen + 1),
        }
        Meaning::Nothing
    }

    fn ask(&mut self, replies: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.asked, true) {
            replies.extend_from_slice(&[IAC, DO, BINARY]);
        }
    }

    fn refuse(&mut self, verb: u8, option: u8, replies: &mut Vec<u8>) {
        let answer = match verb {
            DO if option == TIMING_MARK || self.refused_do.insert(option) => WONT,
            // What it was asked for.
            WILL if option == BINARY => return,
            WILL if self.refused_will.insert(option) => DONT,
            // WONT and DONT say how things are; so does a second offer of what was refused.
            _ => return,
        };
        replies.extend_from_slice(&[IAC, answer, option]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut telnet, mut data, mut replies) = (Telnet::default(), Vec::new(), Vec::new());
        for &byte in bytes {
            match telnet.push(byte, &mut replies) {
                Meaning::Nothing => {}
                Meaning::Data(byte) => data.push(byte),
                Meaning::Stray(byte) => data.extend([IAC, byte]),
                Meaning::EndOfFile => data.push(4),
                Meaning::EraseCharacter => data.push(8),
                Meaning::EraseLine => data.push(21),
            }
        }
        (data, replies)
    }

    #[test]
    fn an_option_is_refused_once_and_a_timing_mark_always() {
        let (data, replies) = run(&[b'a', IAC, DO, 1, IAC, WILL, 3, IAC, DO, 1, b'b', IAC, WONT, 9]);
        assert_eq!(
            (data.as_slice(), replies.as_slice()),
            (&b"ab"[..], &[IAC, DO, BINARY, IAC, WONT, 1, IAC, DONT, 3][..])
        );
        let mark = [IAC, DO, TIMING_MARK];
        let answers = [&[IAC, DO, BINARY][..], &[IAC, WONT, TIMING_MARK].repeat(3)].concat();
        assert_eq!(run(&mark.repeat(3)).1, answers);
    }

    #[test]
    fn a_command_shows_a_telnet_and_data_does_not() {
        for (bytes, shown) in [
            (&[IAC, DO, 1][..], true),
            (&[IAC, ERASE_CHARACTER], true),
            (&[IAC, 241], true),
            (&[IAC, IAC], false),
            (&[IAC, b'x'], false),
            (b"a\x08", false),
        ] {
            let mut telnet = Telnet::default();
            for &byte in bytes {
                telnet.push(byte, &mut Vec::new());
            }
            assert_eq!(telnet.is_shown(), shown, "{bytes:?}");
        }
    }

    #[test]
    fn binary_is_asked_for_once_and_taken() {
        // 在, as Debian's telnet sends it: the middle byte has become a break.
        let (data, replies) = run(&[0xe5, IAC, 243, 0xa8, IAC, WILL, BINARY, 0xe5, 0x9c, 0xa8]);
        assert_eq!(data, [0xe5, 0xa8, 0xe5, 0x9c, 0xa8]);
        assert_eq!(replies, [IAC, DO, BINARY]);
    }

    #[test]
    fn commands_and_subnegotiations_vanish_but_stray_bytes_stay() {
        assert_eq!(
            run(&[b'a', IAC, 244, IAC, SUBNEGOTIATION, 24, 1, IAC, IAC, 2, IAC, SUBNEGOTIATION_END, b'b']).0,
            b"ab"
        );
        assert_eq!(run(&[b'a', IAC, ERASE_CHARACTER, IAC, ERASE_LINE]).0, [b'a', 8, 21]);
        assert_eq!(run(&[IAC, b'x', IAC, IAC, IAC, END_OF_FILE]).0, [IAC, b'x', IAC, 4]);
        let mut endless = vec![IAC, SUBNEGOTIATION];
        endless.extend([b'z'; 2000]);
        assert_eq!(run(&endless).0[..2], [IAC, b'z']);
    }
}
