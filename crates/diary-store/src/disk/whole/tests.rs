#![cfg(feature = "sim")]

use std::path::Path;

use super::super::sim::{SimDisk, Survives};
use super::super::{Disk, How};
use super::*;

const NAME: &str = "head";

/// What `name` is, if it is one of these; nothing may be empty.
fn content(disk: &SimDisk) -> String {
    let bytes = disk.contents().remove(Path::new("/head")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn write(disk: &SimDisk, text: &str) {
    let _ = write_whole(disk, Path::new("/"), NAME, &[text.as_bytes(), b"."]);
}

/// A process that is killed leaves what is not durable yet; the next one must not spoil what is.
#[test]
fn a_power_cut_after_a_kill_leaves_one_of_them() {
    let endings = [Survives::Nothing, Survives::Everything, Survives::Zeros];
    let endings: Vec<_> = endings.into_iter().chain((0..12).map(Survives::Chosen)).collect();
    let disk = SimDisk::new();
    write(&disk, "one");
    disk.kill();
    for first in 0..20 {
        let killed = disk.fork();
        killed.die_at(first);
        write(&killed, "two");
        killed.kill();
        for second in 0..20 {
            let dying = killed.fork();
            dying.die_at(second);
            write(&dying, "three");
            for &ending in &endings {
                let cut = dying.fork();
                cut.cut_power(ending);
                let content = content(&cut);
                let is_whole = ["one.", "two.", "three."].contains(&content.as_str());
                assert!(is_whole, "{content:?} after {first}, {second}, {ending:?}");
            }
        }
    }
}

/// Without an exchange of names, the file is replaced.
#[test]
fn a_disk_that_exchanges_no_names_will_do() {
    #[derive(Debug)]
    struct Plain(SimDisk);
    impl Disk for Plain {
        fn create_dir(&self, path: &Path) -> io::Result<()> {
            self.0.create_dir(path)
        }
        fn list(&self, dir: &Path) -> io::Result<Vec<std::ffi::OsString>> {
            self.0.list(dir)
        }
        fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn DiskFile>> {
            self.0.open(path, how)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.0.rename(from, to)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            self.0.remove(path)
        }
        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            self.0.sync_dir(dir)
        }
        fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
            self.0.lock(path)
        }
    }
    let disk = Plain(SimDisk::new());
    for text in ["one", "two"] {
        write_whole(&disk, Path::new("/"), NAME, &[text.as_bytes()]).unwrap();
        disk.0.cut_power(Survives::Nothing);
        assert_eq!(content(&disk.0), text);
    }
}
