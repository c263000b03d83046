//! Files, locks and names.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use diary_client::{Address, Author, Code, Refusal, Time};
use tempfile::TempDir;

use crate::error::Error;
use crate::outbox::Outbox;
use crate::record::KeptEntry;
use crate::tray::{Pushed, Tray};

const TIME: Time = Time { micros: 1_795_220_102_123_456, offset_minutes: 480 };

/// Returns a state folder and the outbox in it.
fn outbox() -> (TempDir, Outbox) {
    let state = tempfile::tempdir().unwrap();
    let outbox = Outbox::new(state.path().join("outbox"));
    (state, outbox)
}

fn server(number: u16) -> Address {
    format!("127.0.0.1:{number}").parse().unwrap()
}

/// Returns a tray for the first server that keeps these texts.
fn tray(outbox: &Outbox, texts: &[&str]) -> Tray {
    let mut tray = outbox.begin(&server(1), Some(&Author::new("anna").unwrap())).unwrap();
    for (text, number) in texts.iter().zip(1..) {
        let Pushed { counter, kept } = tray.push(TIME, &(*text).into());
        kept.unwrap();
        assert_eq!(counter, number);
    }
    tray
}

fn files(state: &TempDir) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(state.path().join("outbox")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// Returns `counter text` of each kept entry, with `?` if it may have been sent.
fn kept(trays: &[Tray]) -> Vec<String> {
    let entries = trays.iter().flat_map(Tray::entries);
    let sent = |kept: &KeptEntry| if kept.sent { "?" } else { "" };
    entries.map(|kept| format!("{}{} {}", kept.counter, sent(kept), kept.text)).collect()
}

/// Adopts what no process holds, for one server or for all, and returns the troubles too.
fn adopt(outbox: &Outbox, server: Option<&Address>) -> (Vec<Tray>, Vec<String>) {
    let server = server.cloned();
    let mut left = outbox.adopt(move |contents| {
        server.as_ref().is_none_or(|server| contents.deliverable(server, None).next().is_some())
    });
    let trays = left.by_ref().collect();
    (trays, sentences(&left.troubles))
}

fn sentences(errors: &[Error]) -> Vec<String> {
    errors.iter().map(Error::to_string).collect()
}

fn adopted(outbox: &Outbox) -> Vec<Tray> {
    let (trays, troubles) = adopt(outbox, None);
    assert_eq!(troubles, [""; 0]);
    trays
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn only_the_owner_may_look() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state/diary");
    let tray = tray(&Outbox::new(state.join("outbox")), &["a"]);
    assert_eq!(mode(&tray.path.clone().unwrap()), 0o600);
    for folder in [state.join("outbox"), state.clone(), home.path().join("state")] {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
    }
}

#[test]
fn nothing_is_made_before_something_is_kept() {
    let (state, outbox) = outbox();
    drop(tray(&outbox, &[]));
    assert!(adopted(&outbox).is_empty());
    let listing = outbox.list();
    assert!(listing.entries.is_empty() && listing.troubles.is_empty());
    assert!(fs::read_dir(state.path()).unwrap().next().is_none());
}

#[test]
fn a_file_has_one_owner() {
    let (state, outbox) = outbox();
    let first = tray(&outbox, &["a", "b"]);
    let secret = first.contents.heading.secret.clone();
    assert!(adopted(&outbox).is_empty());
    assert!(matches!(outbox.adopt_one(&first.id(1).unwrap()), Err(Error::InUse(_))));
    assert!(outbox.list().entries.iter().all(|entry| entry.held));
    drop(first);
    assert!(outbox.list().entries.iter().all(|entry| !entry.held));

    let second = adopted(&outbox);
    assert_eq!(kept(&second), ["1? a", "2? b"]);
    assert!(
        second[0].contents.heading.secret == secret
            && second[0].contents.heading.author.as_ref().unwrap().as_str() == "anna"
    );
    assert!(adopted(&outbox).is_empty(), "the second owner holds it, too");
    assert_eq!(files(&state).len(), 1);
}

#[test]
fn what_is_settled_is_gone() {
    let (state, outbox) = outbox();
    let mut first = tray(&outbox, &["a", "b", "c"]);
    first.acked(2);
    first.drop_entry(1).unwrap();
    assert_eq!(kept(std::slice::from_ref(&first)), ["3 c"]);
    let path = first.path.clone().unwrap();
    first.acked(3);
    assert!(!fs::read_to_string(&path).unwrap().contains("text"), "texts do not stay on disk");
    let Pushed { counter, kept: written } = first.push(TIME, &"d".into());
    written.unwrap();
    assert_eq!(counter, 4, "a counter is never used again");
    drop(first);
    let mut second = adopted(&outbox);
    assert_eq!(kept(&second), ["4? d"]);
    second[0].acked(4);
    drop(second);
    assert!(files(&state).is_empty());
}

#[test]
fn a_run_that_ended_after_its_acks_leaves_nothing() {
    let (state, outbox) = outbox();
    let mut first = tray(&outbox, &["a"]);
    let path = first.path.clone().unwrap();
    first.acked(1);
    let all_settled = fs::read(&path).unwrap();
    drop(first);
    fs::write(&path, all_settled).unwrap();
    assert!(adopted(&outbox).is_empty());
    assert!(files(&state).is_empty());
}

#[test]
fn the_oldest_goes_first_and_only_what_is_for_the_server() {
    let (_state, outbox) = outbox();
    let trays = ["a", "b", "c"].map(|text| tray(&outbox, &[text]));
    let mut other = outbox.begin(&server(2), None).unwrap();
    other.push(TIME, &"elsewhere".into()).kept.unwrap();
    drop((trays, other));
    let (first, _) = adopt(&outbox, Some(&server(1)));
    assert_eq!(kept(&first), ["1? a", "1? b", "1? c"]);
    assert!(adopt(&outbox, Some(&server(3))).0.is_empty());
    assert_eq!(kept(&adopted(&outbox)), ["1? elsewhere"]);
}

#[test]
fn what_cannot_be_read_is_named_and_left() {
    let (state, outbox) = outbox();
    drop(tray(&outbox, &["a"]));
    let folder = state.path().join("outbox");
    let bad = [("0-1.jsonl", "{\"diary-outbox\":9}\n"), ("0-2.jsonl", "\n"), ("0-3.jsonl", "no line feed")];
    for (name, content) in bad {
        fs::write(folder.join(name), content).unwrap();
    }
    fs::write(folder.join("notes.txt"), "not ours").unwrap();
    for troubles in [sentences(&outbox.list().troubles), adopt(&outbox, None).1] {
        assert_eq!(troubles.len(), 3, "{troubles:?}");
        for ((name, _), trouble) in bad.iter().zip(&troubles) {
            assert!(trouble.contains(name) && trouble.contains("left as it is"), "{trouble}");
        }
        assert!(troubles[0].contains("format 9"), "{troubles:?}");
    }
    for (name, content) in bad {
        assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), content);
    }
}

#[test]
fn a_damaged_line_is_told_and_keeps_the_file() {
    let (state, outbox) = outbox();
    let first = tray(&outbox, &["a", "b", "c"]);
    let path = first.path.clone().unwrap();
    drop(first);
    let damaged = fs::read_to_string(&path).unwrap().replace("\"text\":\"b\"", "\"text\":\"b");
    fs::write(&path, &damaged).unwrap();
    assert!(sentences(&outbox.list().troubles)[0].contains("line 3"));
    let (mut second, troubles) = adopt(&outbox, None);
    assert!(troubles[0].contains(&format!("{}: line 3", path.display())), "{troubles:?}");
    assert_eq!(kept(&second), ["1? a", "3? c"]);
    second[0].acked(1);
    second[0].acked(3);
    drop(second);
    assert!(fs::read_to_string(&path).unwrap().starts_with(&damaged));
    assert!(adopt(&outbox, None).0.is_empty());
    assert_eq!(files(&state), [path]);
}

/// Cut at any byte, the file still keeps what was kept before, under the same keys.
#[test]
fn cut_at_every_byte() {
    let (_state, outbox) = outbox();
    let mut first = tray(&outbox, &[]);
    let (secret, path) = (first.contents.heading.secret.clone(), first.path.clone().unwrap());
    let mut states: Vec<(usize, &[&str])> = Vec::new();
    let mut state = |expected| states.push((fs::read(&path).unwrap().len(), expected));
    first.push(TIME, &"今天\n".into()).kept.unwrap();
    state(&["1? 今天\n"]);
    first.push(TIME, &"b".into()).kept.unwrap();
    state(&["1? 今天\n", "2? b"]);
    first.acked(1);
    state(&["2? b"]);
    first.note_unsent();
    state(&["2 b"]);
    first.sending();
    state(&["2? b"]);
    first.push(TIME, &"c".into()).kept.unwrap();
    state(&["2? b", "3? c"]);
    first.drop_entry(3).unwrap();
    state(&["2? b"]);
    first.renew(2).unwrap();
    state(&["4? b"]);
    let bytes = fs::read(&path).unwrap();
    drop(first);

    for end in 0..=bytes.len() {
        fs::write(&path, &bytes[..end]).unwrap();
        let Some((whole, expected)) = states.iter().rev().find(|(whole, _)| *whole <= end) else {
            // The file is created with its first entry in it, so no run leaves this behind.
            assert!(adopt(&outbox, None).0.is_empty(), "{end}");
            continue;
        };
        let mut second = adopted(&outbox);
        assert_eq!(kept(&second), *expected, "{end}");
        assert_eq!(fs::read(&path).unwrap(), bytes[..*whole], "{end}: half a line is cut");
        assert!(second[0].contents.heading.secret == secret);
        let counter = second[0].push(TIME, &"more".into()).counter;
        let newest = expected.last().and_then(|entry| entry.split('?').next()?.parse::<u64>().ok());
        assert!(newest.is_none_or(|newest| counter > newest), "{end}");
        drop(second);
        let third = adopted(&outbox);
        assert_eq!(kept(&third).last().unwrap(), &format!("{counter}? more"), "{end}");
    }
}

/// A run that was killed while creating its file promised nothing, so the file goes; one that is still being
/// created is left alone.
#[test]
fn a_file_that_was_just_begun_goes() {
    let (state, outbox) = outbox();
    let first = tray(&outbox, &["a"]);
    let path = first.path.clone().unwrap();
    let bytes = fs::read(&path).unwrap();
    drop(first);
    let header = bytes.split_inclusive(|&byte| byte == b'\n').next().unwrap().len();
    for end in 0..=bytes.len() {
        fs::write(&path, &bytes[..end]).unwrap();
        let held = fs::File::open(&path).unwrap();
        held.lock().unwrap();
        assert!(adopted(&outbox).is_empty() && path.exists(), "{end}: someone still writes it");
        assert!(outbox.list().troubles.is_empty(), "{end}");
        drop(held);
        if end == bytes.len() {
            assert_eq!(kept(&adopted(&outbox)), ["1? a"]);
        } else if end % 2 == 0 {
            assert!(adopted(&outbox).is_empty() && files(&state).is_empty(), "{end}");
        } else {
            let listing = outbox.list();
            assert!(listing.entries.is_empty() && listing.troubles.is_empty(), "{end}");
            assert!(files(&state).is_empty(), "{end} of {header}");
        }
    }
}

/// Another file has the name of a tray, or takes it.
#[test]
fn a_name_that_was_taken_is_not_used_again() {
    let (_state, outbox) = outbox();
    drop(tray(&outbox, &["the folder is there"]));
    let mut second = tray(&outbox, &[]);
    let path = second.path.clone().unwrap();
    fs::write(&path, "not ours").unwrap();
    second.push(TIME, &"b".into()).kept.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "not ours");
    assert!(second.path.as_ref().is_some_and(|taken| *taken != path && taken.exists()));
}

#[test]
fn what_was_not_sent_is_known_until_it_is_sent() {
    let (_state, outbox) = outbox();
    let mut first = tray(&outbox, &["a", "b", "c"]);
    first.sent(1);
    first.note_unsent();
    drop(first);
    let mut second = adopted(&outbox);
    assert_eq!(kept(&second), ["1? a", "2 b", "3 c"]);
    second[0].sending();
    assert_eq!(kept(&second), ["1? a", "2 b", "3 c"], "this process knows that it has not sent them yet");
    drop(second);
    assert_eq!(kept(&adopted(&outbox)), ["1? a", "2? b", "3? c"]);
}

#[test]
fn a_refusal_is_remembered() {
    let (_state, outbox) = outbox();
    let mut first = tray(&outbox, &["a", "b"]);
    let refusal = Refusal::new(Code::StaleKey, "it can no longer be told");
    first.refused(1, &refusal);
    drop(first);
    let listing = outbox.list();
    let refusals: Vec<_> = listing.entries.iter().map(|entry| entry.kept.refusal.clone()).collect();
    assert_eq!(refusals, [Some(refusal), None]);

    let (mut second, counter) = outbox.adopt_one(&listing.entries[0].id).unwrap();
    assert_eq!(second.renew(counter).unwrap().counter, 3);
    assert!(second.renew(counter).is_err(), "only once");
    drop(second);
    let third = adopted(&outbox);
    assert_eq!(kept(&third), ["2? b", "3? a"]);
    assert!(third[0].entries().all(|kept| kept.refusal.is_none() && kept.time == TIME));
}

#[test]
fn ids_are_unique_and_found() {
    let (state, outbox) = outbox();
    drop(tray(&outbox, &["a"]));
    let file = files(&state).remove(0);
    let content = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    for name in ["1-abcdef01", "2-abcdef02", "3-abc00000", "4-ff"] {
        fs::write(file.with_file_name(format!("{name}.jsonl")), &content).unwrap();
    }
    let ids: Vec<_> = outbox.list().entries.into_iter().map(|entry| entry.id).collect();
    assert_eq!(ids, ["abcdef01.1", "abcdef02.1", "abc0.1", "ff.1"]);
    for (id, name) in ids.iter().zip(["1-", "2-", "3-", "4-"]) {
        let (tray, counter) = outbox.adopt_one(id).unwrap();
        assert!(
            tray.path.as_ref().unwrap().file_name().unwrap().to_str().unwrap().starts_with(name)
                && counter == 1,
            "{id}"
        );
        assert_eq!(tray.id(1).unwrap(), *id);
    }
    for (id, why) in [
        ("abc.1", "more than one entry"),
        ("abcdef01.2", "no entry abcdef01.2 in the outbox"),
        ("abcdef01", "no entry"),
        ("abcdef01.x", "no entry"),
        (".1", "no entry"),
        ("", "no entry"),
        ("\u{1b}.1", "no entry \\x1b.1 in the outbox"),
    ] {
        let error = outbox.adopt_one(id).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(why), "{id:?}: {error}");
    }
}

/// A file is in the place of the folder.
#[test]
fn an_outbox_that_cannot_be_written_says_so_and_counts_on() {
    let (state, outbox) = outbox();
    fs::write(state.path().join("outbox"), "").unwrap();
    let mut tray = outbox.begin(&server(1), None).unwrap();
    let Pushed { counter, kept: written } = tray.push(TIME, &"a".into());
    let why = written.unwrap_err().to_string();
    assert!(counter == 1 && why.contains("outbox/") && why.starts_with("cannot write "), "{why}");
    fs::remove_file(state.path().join("outbox")).unwrap();
    let Pushed { counter, kept: written } = tray.push(TIME, &"b".into());
    written.unwrap();
    assert_eq!(counter, 2);
    assert_eq!(kept(std::slice::from_ref(&tray)), ["1 a", "2 b"], "both can be sent");
    drop(tray);
    assert_eq!(kept(&adopted(&outbox)), ["2? b"]);

    let mut nowhere = Outbox::default().begin(&server(1), None).unwrap();
    assert_eq!(nowhere.push(TIME, &"a".into()).kept.unwrap_err().to_string(), "no folder for the outbox");
    nowhere.acked(1);
}

#[test]
fn a_text_that_was_set_aside_is_listed() {
    let (_state, outbox) = outbox();
    assert!(outbox.list().aside.is_empty());
    let path = outbox.set_aside("今天\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "今天\n");
    let listing = outbox.list();
    assert_eq!((listing.aside, listing.entries.len(), listing.troubles.len()), (vec![path], 0, 0));
}
