//! Tags: each is a whole tag of the text, in the order of the text, and a filter for it takes the text.
#![no_main]

use diary_proto::tags::{is_tag, tags};
use diary_proto::{Filter, Sieve};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut before = 0;
    for tag in tags(text) {
        let at = tag.as_ptr().addr() - text.as_ptr().addr();
        assert!(before <= at, "one begins in the one before");
        assert_eq!(&text[at..at + tag.len()], tag);
        assert!(is_tag(tag), "{tag} is none alone");
        before = at + tag.len();
        let filter = Filter { tags: vec![tag.to_owned()], ..Filter::default() };
        if filter.check().is_ok() {
            assert!(Sieve::new(&filter).takes("anna", text), "{tag} is not found");
        }
    }
});
