//! Lines other than entries: words and `name=value` fields, a TAB, and a checksum. Those that are read here say which
//! journal they are of, so their checksums are not bound to one.

use std::fmt;
use std::io::Write as _;
use std::str::Split;

use diary_proto::entry::parse_number;
use diary_proto::{Seal, seal};

/// Appends a line with these fields, line feed included.
pub(crate) fn write(out: &mut Vec<u8>, seal: Seal, fields: fmt::Arguments<'_>) {
    let start = out.len();
    write!(out, "{fields}\t").expect("writing to memory");
    seal.write(out, start);
}

/// The fields of a sound line, in their order.
pub(crate) struct Fields<'a>(Split<'a, char>);

impl<'a> Fields<'a> {
    /// Those behind `kind`, if the line, without its line feed, is sound and begins with that.
    pub(crate) fn of(line: &'a [u8], kind: &str) -> Option<Self> {
        let (body, _) = Seal::PLAIN.check(line)?;
        let fields = std::str::from_utf8(body).ok()?.strip_prefix(kind)?.strip_suffix('\t')?;
        Some(Self(fields.split(' ')))
    }

    pub(crate) fn next(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    /// The value of the next field, whose name and `=` must be `name`.
    pub(crate) fn value(&mut self, name: &str) -> Option<&'a str> {
        self.next()?.strip_prefix(name)
    }

    pub(crate) fn number(&mut self, name: &str) -> Option<u64> {
        parse_number(self.value(name)?.as_bytes())
    }

    pub(crate) fn crc(&mut self, name: &str) -> Option<u32> {
        seal::from_hex(self.value(name)?)
    }

    /// A journal's id.
    pub(crate) fn id(&mut self) -> Option<u64> {
        u64::from_str_radix(self.value("id=")?, 16).ok()
    }
}
