//! Escaping: every text comes back, and nothing but what escaping made is taken back.
#![no_main]

use diary_proto::escape::{escape, is_escaped, unescape};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let escaped = escape(text);
    assert!(!escaped.chars().any(|c| c != '\\' && is_escaped(c)));
    assert_eq!(unescape(&escaped).as_deref(), Ok(text));
    if let Ok(unescaped) = unescape(text) {
        assert_eq!(escape(&unescaped), text, "one spelling each");
    }
});
