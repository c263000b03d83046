//! Day files that fuzzing found: a second start sees and changes nothing else than the first.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;

use diary_proto::Seal;
use diary_store::disk::{Disk, How};
use diary_store::open;
use diary_store::sim::SimDisk;

const DIR: &str = "/diary";
const HEADER: &str = "# diary 1 2026-11-20 id=5f0c9e27a1b34d68 first=1 after=-\t";
const ONE: &str = "1 2026-11-20T10:00:00.000000+00:00 anna one\t0 - ";
const TWO: &str = "2 2026-11-20T10:00:00.000000+00:00 anna two\t1 - ";
const THREE: &str = "3 2026-11-20T10:00:01.000000+00:00 bob three\t0 - ";

/// The journal's id, which the header says.
const ID: u64 = 0x5f0c_9e27_a1b3_4d68;

/// A day file of these lines, each with a right checksum, but those that start with `!`.
fn check(lines: &[&str]) {
    let mut file = Vec::new();
    for line in lines {
        let start = file.len();
        file.extend_from_slice(line.as_bytes());
        if line.starts_with('!') {
            file.push(b'\n');
        } else {
            let seal = if *line == HEADER { Seal::PLAIN } else { Seal::of_journal(ID) };
            seal.write(&mut file, start);
        }
    }
    let disk = SimDisk::new();
    disk.create_dir(Path::new(DIR)).unwrap();
    let written = disk.open(Path::new("/diary/2026-11-20.log"), How::CreateNew).unwrap();
    written.write_all_at(&file, 0).unwrap();
    let head = || open(Arc::new(disk.clone()), Path::new(DIR)).unwrap().reader.head().seq;
    let (first, contents) = (head(), disk.contents());
    assert_eq!(head(), first, "{lines:?}");
    assert!(disk.contents() == contents, "a second start changes something: {lines:?}");
}

#[test]
fn damage_before_the_note_of_a_repair() {
    check(&[HEADER, ONE, "!damage", "# gap 2..6 damaged or missing when this copy was made\t"]);
}

#[test]
fn a_damaged_header_and_damage_at_the_end() {
    check(&["!diary 1 2026-11-20 id=5f0c9e27a1b34d68 first=1", ONE, TWO, "!damage", THREE]);
}
