//! A start from a day file that holds anything. Lines that end in ` ?` get a right checksum first, by the id in the
//! first line, so that more than the checksum is tried.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use diary_proto::block::{Step, Walker};
use diary_proto::entry::StoredLine;
use diary_proto::seal::id_in_header;
use diary_proto::{Author, Seal, Time};
use diary_store::disk::{Disk, How};
use diary_store::sim::SimDisk;
use diary_store::{Appender, NewEntry, OpenError, Reader, Staged, open, verify};
use libfuzzer_sys::fuzz_target;

const DIR: &str = "/diary";
const FILE: &str = "/diary/2026-11-20.log";
const NOON: Time = Time { micros: 1_795_168_800_000_000, offset_minutes: 0 };

fn start(disk: &SimDisk) -> Option<(Appender, Reader)> {
    match open(Arc::new(disk.clone()), Path::new(DIR)) {
        Ok(opened) => Some(opened.with_derived().expect("the disk reads")),
        Err(OpenError::Newer(..)) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Every entry that is served: seqs and texts.
fn everything(reader: &Reader) -> Vec<(u64, String)> {
    let mut seen = Vec::new();
    let mut range = reader.from(1).expect("the disk reads");
    let mut walker = Walker::new(range.first, reader.seal());
    while let Some(page) = reader.next_page(&mut range, 4096).expect("the disk reads") {
        walker.walk(&page, |step| {
            if let Step::Entry(line) = step {
                seen.push((line.seq, line.unescaped().into_owned()));
            }
        });
    }
    seen
}

fuzz_target!(|data: &[u8]| {
    let file = sealed(data);
    let disk = SimDisk::new();
    disk.create_dir(Path::new(DIR)).expect("the disk writes");
    let opened = disk.open(Path::new(FILE), How::CreateNew).expect("the disk writes");
    opened.write_all_at(&file, 0).expect("the disk writes");
    drop(opened);
    // It may look, and must not stumble, whatever is there.
    let _ = verify(Arc::new(disk.clone()), Path::new(DIR), |_| {});

    let Some((appender, reader)) = start(&disk) else { return };
    let seen = everything(&reader);
    let sound: Vec<(u64, String)> = sound_lines(&file, reader.seal());
    for entry in &seen {
        assert!(sound.contains(entry), "served, and no sound line of the file: {entry:?}");
    }
    let head = reader.head().seq;
    if head > u64::MAX / 2 {
        return; // no diary comes so far, and there is no room behind it
    }
    drop((appender, reader));

    let before = disk.contents();
    let (mut appender, reader) = start(&disk).expect("it started before");
    assert!(disk.contents() == before, "a second start changes something");
    assert_eq!((everything(&reader), reader.head().seq), (seen.clone(), head));

    let author = Author::new("anna").expect("a name");
    let entry = NewEntry { author: &author, text: "behind it", key: None, at: None, relation: None };
    let Staged::New(seq) = appender.stage(NOON, entry) else { panic!("it is new") };
    assert_eq!(seq, head + 1);
    appender.commit(NOON).expect("the disk writes");
    drop((appender, reader));
    let (_appender, reader) = start(&disk).expect("it started before");
    let mut expected = seen;
    expected.push((seq, "behind it".to_owned()));
    assert_eq!(everything(&reader), expected);
});

fn sealed(data: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let header = data.split(|&b| b == b'\n').next().unwrap_or_default();
    let journal = Seal::of_journal(id_in_header(header).unwrap_or_default());
    for line in data.split_inclusive(|&b| b == b'\n') {
        let start = file.len();
        match line.strip_suffix(b"?\n") {
            Some(body) if body.ends_with(b" ") || body.ends_with(b"\t") => {
                file.extend_from_slice(body);
                let seal = if body.starts_with(b"# diary ") { Seal::PLAIN } else { journal };
                seal.write(&mut file, start);
            }
            _ => file.extend_from_slice(line),
        }
    }
    file
}

fn sound_lines(file: &[u8], seal: Seal) -> Vec<(u64, String)> {
    let lines = file.split(|&b| b == b'\n').filter_map(|line| StoredLine::parse(line, seal).ok());
    lines.map(|line| (line.seq, line.unescaped().into_owned())).collect()
}
