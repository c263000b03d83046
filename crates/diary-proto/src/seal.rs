//! The checksum at the end of every stored line, which binds it to its journal.
//!
//! CRC-32C (Castagnoli; RFC 3720 appendix B.4) of the journal's id, as the 16 lower-case hex digits that a day
//! file's header has, and of all the line's bytes before the checksum, the separator included; written as eight
//! lower-case hex digits. It is compared as bytes, so no second spelling of the same number is valid. So a valid
//! line is a line of this journal, wherever it was found.
//!
//! What says which journal it is, a day file's header and the small files beside it, has the checksum of its own
//! bytes alone: [`Seal::PLAIN`].

/// Hex digits of a checksum.
pub const SEAL_BYTES: usize = 8;

/// Hex digits of a journal's id.
const ID_DIGITS: usize = 16;

/// The checksum of `bytes`.
pub fn crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// The same of bytes that go on behind those that gave `crc`.
pub fn crc_on(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

/// What the lines of one journal are sealed with: the checksum of its id, which goes on over a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal(u32);

impl Seal {
    /// Of no journal: the checksum of nothing.
    pub const PLAIN: Self = Self(0);

    /// Of the journal with this id.
    pub fn of_journal(id: u64) -> Self {
        Self(crc(format!("{id:016x}").as_bytes()))
    }

    /// Ends the line that starts at `start` of `out` with its checksum and a line feed. Returns the
    /// checksum.
    pub fn write(self, out: &mut Vec<u8>, start: usize) -> u32 {
        let crc = crc_on(self.0, &out[start..]);
        out.extend_from_slice(&hex(crc));
        out.push(b'\n');
        crc
    }

    /// The part of `line` (without its line feed) before a valid checksum, and the checksum; `None` where
    /// it is not valid, or not in this journal.
    pub fn check(self, line: &[u8]) -> Option<(&[u8], u32)> {
        let (body, digits) = line.split_at_checked(line.len().checked_sub(SEAL_BYTES)?)?;
        let crc = crc_on(self.0, body);
        (digits == hex(crc)).then_some((body, crc))
    }
}

/// The journal's id in a day file's header line, which may be damaged elsewhere: its checksum is not looked at, because
/// by an id that is wrong no line is valid.
pub fn id_in_header(line: &[u8]) -> Option<u64> {
    let digits = line.split(|&b| b == b' ').find_map(|word| word.strip_prefix(b"id="))?;
    let digits = std::str::from_utf8(digits).ok()?;
    let id = u64::from_str_radix(digits, 16).ok()?;
    (digits.len() == ID_DIGITS && digits == format!("{id:016x}")).then_some(id)
}

/// The eight digits of a checksum.
pub fn hex(crc: u32) -> [u8; SEAL_BYTES] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = [0; SEAL_BYTES];
    for (i, digit) in out.iter_mut().enumerate() {
        *digit = DIGITS[(crc >> (28 - 4 * i)) as usize & 15];
    }
    out
}

/// Reads back what [`hex`] wrote.
pub fn from_hex(digits: &str) -> Option<u32> {
    let number = u32::from_str_radix(digits, 16).ok()?;
    (digits.as_bytes() == hex(number)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_value_of_the_standard() {
        // The check value of CRC-32C over "123456789", from the catalogue of parametrised CRCs.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(&hex(0xe306_9283), b"e3069283");
    }

    #[test]
    fn every_changed_bit_is_found() {
        for seal in [Seal::PLAIN, Seal::of_journal(7)] {
            let mut line = b"1 some line ".to_vec();
            seal.write(&mut line, 0);
            line.pop();
            assert!(seal.check(&line).is_some());
            for bit in 0..line.len() * 8 {
                let mut bad = line.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(seal.check(&bad).is_none(), "bit {bit}");
            }
            assert!(seal.check(b"").is_none());
            assert!(seal.check(b"1234567").is_none());
        }
    }

    #[test]
    fn the_checksum_is_that_of_the_id_and_the_line() {
        let (id, mut line) = (0x5f0c_9e27_a1b3_4d68, b"1 some line ".to_vec());
        let crc = Seal::of_journal(id).write(&mut line, 0);
        assert_eq!(crc, super::crc(b"5f0c9e27a1b34d681 some line "));
        line.pop();
        for other in [Seal::PLAIN, Seal::of_journal(id ^ 1), Seal::of_journal(0)] {
            assert!(other.check(&line).is_none());
        }
        assert_eq!(super::crc(b"x"), Seal::PLAIN.write(&mut b"x".to_vec(), 0));
    }

    #[test]
    fn the_id_in_a_header() {
        let header = b"# diary 1 2026-11-21 id=5f0c9e27a1b34d68 first=413 after=-\t313240d3";
        assert_eq!(id_in_header(header), Some(0x5f0c_9e27_a1b3_4d68));
        for other in [
            "# diary 1 ",
            "# diary 1 2026-11-21 id=5f0c9e27a1b34d6",
            "# diary 1 id=+f0c9e27a1b34d68",
            "# diary 1 id=5F0C9E27A1B34D68",
        ] {
            assert_eq!(id_in_header(other.as_bytes()), None, "{other}");
        }
    }
}
