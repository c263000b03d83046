//! How a connection talks: it is told once, and later bytes do not change it.
#![no_main]

use diary_proto::line::Mode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mode = Mode::detect(data);
    assert!(mode.is_some() || data.len() < 2, "two bytes are always enough");
    assert_eq!(mode == Some(Mode::Frame), data.first() == Some(&0));
    for end in 0..data.len().min(8) {
        if let Some(earlier) = Mode::detect(&data[..end]) {
            assert_eq!(mode, Some(earlier));
        }
    }
});
