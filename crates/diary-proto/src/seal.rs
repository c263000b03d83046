//! The checksum at the end of every stored line.
//!
//! CRC-32C (Castagnoli; RFC 3720 appendix B.4) of all the line's bytes before it, the separator
//! included, as eight lower-case hex digits. It is compared as bytes, so no second spelling of the
//! same number is sound.

/// Hex digits of a seal.
pub const SEAL_BYTES: usize = 8;

/// The checksum of `bytes`.
pub fn crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// The same of bytes that go on behind those that gave `crc`.
pub fn crc_on(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

/// Ends the line that starts at `start` of `out` with its checksum and a line feed. Returns the
/// checksum.
pub fn seal(out: &mut Vec<u8>, start: usize) -> u32 {
    let crc = crc32c::crc32c(&out[start..]);
    out.extend_from_slice(&hex(crc));
    out.push(b'\n');
    crc
}

/// The part of `line` (without its line feed) before a sound checksum, and the checksum; `None` where
/// it is not sound.
pub fn check(line: &[u8]) -> Option<(&[u8], u32)> {
    let (body, digits) = line.split_at_checked(line.len().checked_sub(SEAL_BYTES)?)?;
    let crc = crc32c::crc32c(body);
    (digits == hex(crc)).then_some((body, crc))
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
        let mut line = b"1 some line ".to_vec();
        seal(&mut line, 0);
        line.pop();
        assert!(check(&line).is_some());
        for bit in 0..line.len() * 8 {
            let mut bad = line.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&bad).is_none(), "bit {bit}");
        }
        assert!(check(b"").is_none());
        assert!(check(b"1234567").is_none());
    }
}
