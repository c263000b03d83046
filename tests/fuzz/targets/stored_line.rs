//! Stored lines, with the checksum that they have and with the right one. What is sound and known whole
//! is written again byte for byte.
#![no_main]

use diary_proto::entry::{NewLine, StoredLine, check_text, is_note};
use diary_proto::{Author, Seal, Time};
use libfuzzer_sys::fuzz_target;

/// The journal's id.
const ID: u64 = 0x5f0c_9e27_a1b3_4d68;

fn look(line: &[u8]) {
    let seal = Seal::of_journal(ID);
    let Ok(stored) = StoredLine::parse(line, seal) else { return };
    assert!(!is_note(line, seal));
    assert!(StoredLine::parse(line, Seal::of_journal(ID + 1)).is_err(), "of every journal");
    assert!(stored.batch() >= 1 && stored.batch() <= stored.seq);
    let (Ok(entry), Some(time)) = (stored.to_entry(), Time::parse(stored.time.as_bytes())) else { return };
    // What this version writes: a checked text, times as it spells them, no field that it does not know.
    let author = Author::new(stored.author).expect("to_entry has checked it");
    let spelled = time.to_bytes() == *stored.time.as_bytes();
    let tab = line.iter().position(|&b| b == b'\t').expect("every line has one");
    let fields = line[tab..].split(|&b| b == b' ').count();
    let own = match (stored.own, stored.day) {
        (Some(own), _) => 1 + usize::from(own.day != own.at.date()),
        (None, day) => usize::from(day.is_some()),
    };
    let place = |name: &[u8]| line[tab..].windows(name.len()).position(|part| part == name);
    let in_order = own < 2 || place(b" at=") < place(b" day=");
    let relation = usize::from(stored.relation.is_some());
    let behind = |name: &[u8]| {
        place(name).is_none_or(|at| line[tab + at + 1..].iter().filter(|&&b| b == b' ').count() == 1)
    };
    let in_order = in_order && [&b" re="[..], b" corrects=", b" redacts="].iter().all(|name| behind(name));
    if !spelled || !in_order || fields != 3 + own + relation || check_text(&entry.text).is_err() {
        return;
    }
    let mut again = Vec::new();
    let new = NewLine {
        seq: stored.seq,
        time: &time.to_bytes(),
        own: entry.own,
        day: entry.day,
        relation: entry.relation,
        author: &author,
        text: &entry.text,
        index: stored.index,
        key: stored.key,
    };
    assert_eq!(new.write(&mut again, seal), stored.crc);
    assert_eq!(again, [line, b"\n"].concat());
}

fuzz_target!(|data: &[u8]| {
    if data.contains(&b'\n') {
        return;
    }
    look(data);
    let mut sealed = data.to_vec();
    Seal::of_journal(ID).write(&mut sealed, 0);
    look(&sealed[..sealed.len() - 1]);
});
