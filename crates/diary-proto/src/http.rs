//! The guard against web pages: the first line of whatever a browser sends is an HTTP request line, `METHOD target
//! HTTP/version` (RFC 9112, 3).
//!
//! All three words tell it from a sentence. Registered methods have three letters or more, all of them capitals; a page
//! cannot use another without an `OPTIONS` request before it. A target begins with `/`, is `*`, or has a colon before a `/`
//! or a port (`http://host/`, `host:443`).

/// Longest part of a method that is counted: the shortest has as many bytes.
const METHOD_BYTES: usize = b"GET".len();

const VERSION_BYTES: usize = b"HTTP/1.1".len();

/// Looks for a request line byte by byte, so that one longer than any line is found, too.
#[derive(Debug, Clone)]
pub(crate) struct RequestLine(Place);

/// How much of a request line has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Bytes of the method.
    Method(usize),
    BeforeTarget,
    /// What the target has had.
    Target(Target),
    /// Bytes of the version.
    Version(usize),
    /// It is a text.
    Text,
}

/// What makes a word a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Nothing,
    /// A colon, just now.
    Colon,
    Enough,
}

impl RequestLine {
    pub(crate) fn new() -> Self {
        Self(Place::Method(0))
    }

    /// What a whole line is.
    pub(crate) fn of(line: &[u8]) -> Self {
        let mut request = Self::new();
        request.extend(line);
        request
    }

    /// Takes the next bytes of a line.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.0 == Place::Text {
                return;
            }
            self.0 = self.0.next(byte);
        }
    }

    /// Whether the line is a request line, if it ends here.
    pub(crate) fn is_request(&self) -> bool {
        matches!(self.0, Place::Version(VERSION_BYTES))
    }
}

impl Place {
    fn next(self, byte: u8) -> Self {
        use self::Target::{Colon, Enough, Nothing};
        use Place::{BeforeTarget, Method, Target, Text, Version};
        // Section 3 lets a server take all of these for spaces, in any number, and at the ends of the line.
        let is_space = matches!(byte, b' ' | b'\t' | 0x0b | 0x0c | b'\r');
        match self {
            Method(0) if is_space => Method(0),
            Method(METHOD_BYTES) if is_space => BeforeTarget,
            Method(bytes) if byte.is_ascii_uppercase() || byte == b'-' => Method(METHOD_BYTES.min(bytes + 1)),
            BeforeTarget if is_space => BeforeTarget,
            BeforeTarget if matches!(byte, b'/' | b'*') => Target(Enough),
            BeforeTarget => Target(Nothing),
            Target(Enough) if is_space => Version(0),
            Target(had) if !is_space => Target(match (had, byte) {
                (Enough, _) | (Colon, b'/' | b'0'..=b'9') => Enough,
                (_, b':') => Colon,
                _ => Nothing,
            }),
            Version(bytes @ (0 | VERSION_BYTES)) if is_space => Version(bytes),
            Version(bytes) if continues_version(bytes, byte) => Version(bytes + 1),
            _ => Text,
        }
    }
}

fn continues_version(bytes: usize, byte: u8) -> bool {
    match b"HTTP/0.0".get(bytes) {
        Some(b'0') => byte.is_ascii_digit(),
        expected => expected == Some(&byte),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_request(line: &str) -> bool {
        RequestLine::of(line.as_bytes()).is_request()
    }

    #[test]
    fn request_lines() {
        for line in [
            "GET / HTTP/1.1",
            "GET / HTTP/1.0",
            "POST /a?b=c#d HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "PRI * HTTP/2.0",
            "M-SEARCH * HTTP/1.1",
            "VERSION-CONTROL /x HTTP/1.1",
            "GET http://diary:8888/ HTTP/1.1",
            "CONNECT diary:8888 HTTP/1.1",
            "CONNECT [::1]:8888 HTTP/1.1",
            "  GET\t/  \t HTTP/1.1 \r",
            "GET /天气 HTTP/1.1",
        ] {
            assert!(is_request(line), "{line}");
        }
    }

    #[test]
    fn texts() {
        for line in [
            "I learned about HTTP/2",
            "today I read all of RFC 9112, which is HTTP/1.1",
            "TIL about HTTP/1.1",
            "RFC 9112: HTTP/1.1",
            "NOTE re:proxy HTTP/1.1",
            "GET up early, then read on HTTP/1.1",
            "GET /",
            "GET / HTTP/",
            "TIL /etc/hosts HTTP/2",
            "GET / HTTP/1.",
            "GET / HTTP/1.12",
            "GET / HTTP/x",
            "GET / HTTP/1.1 is how it begins",
            "GET / and HTTP/1.1",
            "GET / http/1.1",
            "get / HTTP/1.1",
            "see /notes HTTP/1.1",
            "A /b HTTP/1.1",
            "/a HTTP/1.1",
            "HTTP/1.1 200 OK",
            "HTTP/1.1",
            " HTTP/1.1",
            "",
            "<13>GET / HTTP/1.1",
            "127.0.0.1 - - \"GET / HTTP/1.1\" 200",
            "GET 今天 HTTP/1.1",
            "天气 / HTTP/1.1",
        ] {
            assert!(!is_request(line), "{line}");
        }
    }
}
