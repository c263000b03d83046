//! Files of other programs, as each format and as whatever they look like: entries are such as a diary takes, lines
//! are of the file, and a diary that has all of the entries misses none.
#![no_main]

use diary_client::{Author, Entry};
use diary_import::{Clock, Compared, Harvest, Kind, Source};
use diary_proto::entry::check_text;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;

const KINDS: [Option<Kind>; 6] =
    [None, Some(Kind::Json), Some(Kind::Jrnl), Some(Kind::JrnlJson), Some(Kind::Log), Some(Kind::Daily)];

fuzz_target!(|bytes: &[u8]| {
    let lines = 1 + bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
    for kind in KINDS {
        let (mut harvest, clock) = (Harvest::default(), Clock::new(TimeZone::UTC, None));
        harvest.read(&Source { bytes, day: Some(Date::constant(2026, 11, 21)) }, kind, &clock);
        for trouble in &harvest.troubles {
            assert!((1..=lines).contains(&trouble.line), "{kind:?}: {trouble:?}");
        }
        let anna = Author::new("anna").expect("a name");
        let compared = Compared::new(&harvest.found, anna.as_str());
        for (found, seq) in harvest.found.iter().zip(1..) {
            assert!((1..=lines).contains(&found.line), "{kind:?}: {found:?}");
            assert!(check_text(&found.text).is_ok(), "{kind:?}: {found:?}");
            let (time, author) = (found.when.time, found.author.clone().unwrap_or(anna.clone()));
            compared.is_there(&Entry {
                seq,
                time,
                own: None,
                day: None,
                relation: None,
                author,
                text: found.text.to_string(),
            });
        }
        assert!(compared.missing().iter().all(|missing| !missing), "{kind:?}");
    }
});
