//! The file with the tokens, and what is told of it: whatever is in it, it is read back the same or refused whole, and no
//! refusal shows a token.
#![no_main]

use diary_access::{Access, LastUse};
use libfuzzer_sys::fuzz_target;

/// Characters of a token of which the rest can still not be guessed.
const SHOWN_MAX: usize = 20;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Access::parse(text) {
        Ok(access) => {
            let written = access.to_text();
            assert_eq!(Access::parse(&written).expect("what is written can be read"), access);
        }
        Err(bad) => {
            let said = bad.to_string();
            let tokens = text.match_indices("diary_").filter_map(|(at, _)| text.get(at..at + SHOWN_MAX));
            tokens.for_each(|token| assert!(!said.contains(token) || token.len() < SHOWN_MAX, "{said}"));
        }
    }
    let used = LastUse::parse(text);
    assert_eq!(LastUse::parse(&used.to_text()), used);
});
