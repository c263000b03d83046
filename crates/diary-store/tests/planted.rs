//! What others put into a journal's folder leads no write out of it, and holds nobody up.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use diary_proto::DayStart;
use diary_store::disk::{Disk, RealDisk};
use diary_store::{OpenError, archive, open};
use rustix::fs::{CWD, FileType, Mode, mknodat};

mod support;
use support::{DAY, Diary, NOON, all, append, at};

const KEPT: &str = "what somebody else keeps\n";

/// A file of somebody else, outside of the diary.
fn victim(diary: &Diary) -> PathBuf {
    let path = diary.dir.parent().unwrap().join("victim");
    fs::create_dir_all(diary.dir.parent().unwrap()).unwrap();
    fs::write(&path, KEPT).unwrap();
    path
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

/// How a name is made to lead to a file.
type Plant = fn(&Path, &Path);

const LINKS: [Plant; 2] =
    [|victim, name| symlink(victim, name).unwrap(), |victim, name| fs::hard_link(victim, name).unwrap()];

/// One run of a diary, from its start to a clean stop, and an archive.
fn live(diary: &Diary, day: i64) {
    let mut opened = diary.open();
    append(&mut opened.appender, NOON + day * DAY, &["one", "two"]);
    opened.appender.stop().unwrap();
}

/// A diary that has lived, in which this name leads to somebody else's file.
fn planted(name: &str, plant: Plant) -> (Diary, PathBuf) {
    let diary = Diary::new();
    live(&diary, 0);
    let victim = victim(&diary);
    let _ = fs::remove_file(diary.file(name));
    plant(&victim, &diary.file(name));
    (diary, victim)
}

#[test]
fn a_planted_name_leads_no_write_to_another_file() {
    for name in ["head", "head.new", "cache", "cache.new"] {
        for plant in LINKS {
            let (diary, victim) = planted(name, plant);
            for day in 1..4 {
                live(&diary, day);
                assert_eq!(fs::read_to_string(&victim).unwrap(), KEPT, "{name}");
            }
            assert_eq!(all(&diary.open().reader).len(), 8, "{name}");
            // What stands in the folder is the diary's own again.
            for name in ["head", "cache"] {
                let file = fs::symlink_metadata(diary.file(name)).unwrap();
                assert!(file.is_file() && file.len() > 0, "{name}");
            }
        }
    }
}

#[test]
fn an_archive_writes_to_no_planted_name() {
    for name in ["archiving.new", "archiving", "2026-11-22.log.new", "head.new", "head"] {
        for plant in LINKS {
            let (diary, victim) = planted(name, plant);
            archive(&disk(), &diary.dir, at(NOON + 2 * DAY), DayStart::default()).unwrap().unwrap();
            assert_eq!(fs::read_to_string(&victim).unwrap(), KEPT, "{name}");
            live(&diary, 2);
            assert_eq!(fs::read_to_string(&victim).unwrap(), KEPT, "{name}");
            assert_eq!(all(&diary.open().reader), ["3 one", "4 two"], "{name}");
        }
    }
}

/// Why a diary does not start.
fn refusal(diary: &Diary) -> String {
    let error: OpenError = open(disk(), &diary.dir).err().expect("it does not start");
    error.to_string()
}

#[test]
fn a_link_is_no_lock_no_newest_day_file_and_no_folder_of_the_diary() {
    let diary = Diary::new();
    live(&diary, 0);
    let victim = victim(&diary);
    fs::remove_file(diary.file("lock")).unwrap();
    symlink(&victim, diary.file("lock")).unwrap();
    assert!(refusal(&diary).contains("/lock: it is a link"), "{}", refusal(&diary));
    fs::remove_file(diary.file("lock")).unwrap();

    let outside = diary.dir.parent().unwrap().join("outside.log");
    fs::rename(diary.file("2026-11-20.log"), &outside).unwrap();
    symlink(&outside, diary.file("2026-11-20.log")).unwrap();
    assert!(refusal(&diary).contains("/2026-11-20.log: it is a link"), "{}", refusal(&diary));
    // An older one is only read.
    fs::remove_file(diary.file("2026-11-20.log")).unwrap();
    fs::rename(&outside, diary.file("2026-11-20.log")).unwrap();
    live(&diary, 1);
    fs::rename(diary.file("2026-11-20.log"), &outside).unwrap();
    symlink(&outside, diary.file("2026-11-20.log")).unwrap();
    assert_eq!(all(&diary.open().reader).len(), 4);

    let folder = diary.dir.parent().unwrap().join("folder");
    fs::create_dir(&folder).unwrap();
    for name in ["quarantine", "archive"] {
        symlink(&folder, diary.file(name)).unwrap();
    }
    let archived = archive(&disk(), &diary.dir, at(NOON + DAY), DayStart::default()).unwrap_err();
    assert!(archived.to_string().contains("/archive: it is a link"), "{archived}");
    let newest = diary.file("2026-11-21.log");
    fs::write(&newest, [&fs::read(&newest).unwrap()[..], b"5 2026-11-21T1"].concat()).unwrap();
    assert!(refusal(&diary).contains("/quarantine: it is a link"), "{}", refusal(&diary));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    fs::remove_file(diary.file("quarantine")).unwrap();
    assert_eq!(all(&diary.open().reader).len(), 4);
}

/// What `work` returns, which must not wait for anybody.
fn at_once<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    thread::spawn(move || done.send(work()));
    result.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("it waits for {what}"))
}

#[test]
fn a_pipe_holds_nobody_up() {
    for name in ["head", "head.new", "cache", "cache.new", "archive/2026-11-01/2026-11-01.log"] {
        let diary = Diary::new();
        live(&diary, 0);
        let path = diary.file(name);
        let _ = fs::remove_file(&path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if name.starts_with("archive") {
            fs::remove_file(diary.file("cache")).unwrap();
        }
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let diary = at_once(name, move || {
            live(&diary, 1);
            live(&diary, 2);
            diary
        });
        assert_eq!(all(&diary.open().reader).len(), 6, "{name}");
    }
    for (name, is_refused) in [("lock", true), ("2026-11-20.log", false)] {
        let diary = Diary::new();
        live(&diary, 0);
        fs::remove_file(diary.file(name)).unwrap();
        mknodat(CWD, diary.file(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let refused = at_once(name, move || open(disk(), &diary.dir).err().map(|error| error.to_string()));
        let is_told = refused.as_ref().is_some_and(|why| why.contains("not a file"));
        assert_eq!((refused.is_some(), is_told), (is_refused, is_refused), "{name}: {refused:?}");
    }
}

#[test]
fn others_who_can_write_to_the_folder_are_told_of() {
    use std::os::unix::fs::PermissionsExt;
    let diary = Diary::new();
    live(&diary, 0);
    let told = |dir: &Path| -> Vec<String> {
        RealDisk.exposed(dir).unwrap().iter().map(ToString::to_string).collect()
    };
    assert_eq!(told(&diary.dir), [""; 0]);
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let data = diary.dir.parent().unwrap();
    for (bits, is_told) in [(0o777, true), (0o1777, true), (0o770, true), (0o720, true), (0o755, false)] {
        mode(&diary.dir, bits);
        let said = told(&diary.dir);
        assert_eq!(said.len(), usize::from(is_told), "{bits:o}: {said:?}");
        let command = format!("chmod go-w '{}'", diary.dir.display());
        assert!(
            said.iter().all(|said| said.contains(&command) && said.contains(&format!("{bits:o}"))),
            "{said:?}"
        );
    }
    // Who can write to the folder above can put another in its place, but for one as /tmp.
    for (bits, is_told) in [(0o777, true), (0o775, true), (0o1777, false), (0o755, false)] {
        mode(data, bits);
        assert_eq!(told(&diary.dir).len(), usize::from(is_told), "{bits:o}");
    }
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&diary.dir, Some(12345), None).unwrap();
        let said = told(&diary.dir);
        assert!(said.len() == 1 && said[0].contains("user 12345") && said[0].contains("chown"), "{said:?}");
    }
}
