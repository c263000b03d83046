//! The plan of an archive. Its many steps are written down first, in a file `archiving`: whatever ends it in
//! the middle, the next start does the rest before anything else.

use std::io;
use std::path::Path;

use diary_proto::entry::parse_number;
use diary_proto::time::parse_date;
use diary_proto::{Date, Seal, Time};

use crate::disk::{Disk, Doing, OpenError, make_inner_dir, open_if_there, sync_names, write_new};
use crate::format::day_file::{After, Header, day_files, name};
use crate::format::head::{self, Head};
use crate::format::sealed::{self, Fields};
use crate::quarantine;
use crate::view::ARCHIVE;

const PLAN: &str = "archiving";

/// Longest plan.
const PLAN_MAX_BYTES: usize = 512;

/// What is to be done.
pub(crate) struct Plan {
    /// The archive's folder.
    pub(crate) to: String,
    /// The fresh file's day.
    pub(crate) date: Date,
    pub(crate) id: u64,
    /// The first entry that is archived.
    pub(crate) first: u64,
    /// The end of what is archived.
    pub(crate) after: After,
    /// When that was committed, if it can be told, and no later than when it is archived: no later entry may seem older.
    pub(crate) time: Option<Time>,
}

impl Plan {
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let mut line = Vec::new();
        self.push_line(&mut line);
        write_new(disk, dir, PLAN, &line)?;
        disk.sync_dir(dir)
    }

    fn push_line(&self, out: &mut Vec<u8>) {
        let Self { to, date, id, first, after, .. } = self;
        sealed::write(
            out,
            Seal::PLAIN,
            format_args!(
                "archiving 1 to={to} date={date} id={id:016x} first={first} after={after} time={}",
                self.time_or_dash()
            ),
        );
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::of(bytes.strip_suffix(b"\n")?, "archiving 1 ")?;
        Some(Self {
            to: fields.value("to=").filter(|to| is_archive(to))?.to_owned(),
            date: parse_date(fields.value("date=")?)?,
            id: fields.id()?,
            first: fields.number("first=")?,
            after: After::parse(fields.value("after=")?)?,
            time: Time::parse(fields.value("time=")?.as_bytes()),
        })
    }

    fn time_or_dash(&self) -> String {
        self.time.map_or_else(|| "-".to_owned(), |time| time.to_string())
    }

    fn header(&self) -> Header {
        Header { date: self.date, id: self.id, first: self.after.seq + 1, after: Some(self.after) }
    }

    /// The fresh file: a header, and a note that what it follows is in the archive.
    fn fresh(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.header().write(&mut bytes);
        let (first, last, time) = (self.first, self.after.seq, self.time_or_dash());
        let note = format_args!("# archived {first}..{last} until {time} in {ARCHIVE}/{}", self.to);
        sealed::write(&mut bytes, Seal::of_journal(self.id), note);
        bytes
    }
}

/// Whether it is the name of an archive, `<date>` or `<date>.<number>`, and leads nowhere else.
fn is_archive(name: &str) -> bool {
    let (date, number) = name.split_once('.').unwrap_or((name, "2"));
    parse_date(date).is_some() && parse_number(number.as_bytes()).is_some()
}

/// Whether an archive was begun and not finished; the next start, or `archive`, finishes it.
///
/// # Errors
/// Those of opening its plan.
pub fn is_unfinished(disk: &dyn Disk, dir: &Path) -> Result<bool, OpenError> {
    Ok(open_if_there(disk, &dir.join(PLAN))?.is_some())
}

/// Does what a plan says, if there is one, from wherever it was left.
pub(crate) fn carry_out(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    let path = dir.join(PLAN);
    let Some(file) = open_if_there(disk, &path)? else { return Ok(()) };
    let mut bytes = [0; PLAN_MAX_BYTES];
    let read = file.read_full_at(&mut bytes, 0).doing("read", &path)?;
    let Some(plan) = Plan::parse(&bytes[..read]) else {
        tracing::error!("the diary is damaged: the plan of an archive that was not finished cannot be read");
        return Ok(());
    };
    let to = dir.join(ARCHIVE).join(&plan.to);
    make_inner_dir(disk, &dir.join(ARCHIVE))?;
    make_inner_dir(disk, &to)?;
    // Whoever made it may have been killed before its name was durable.
    sync_names(disk, &to)?;
    // If the plan outlives what it planned, the fresh file is there already, and may hold entries.
    let (mut begun, mut in_the_way) = (false, false);
    for date in day_files(disk, dir)? {
        let path = dir.join(name(date));
        let header = match open_if_there(disk, &path)? {
            Some(file) => Some(Header::read(&*file).doing("read", &path)?.ok()),
            None => None,
        };
        match header {
            Some(Some(header)) if header == plan.header() => begun = true,
            // What is no file, or another journal's, stays.
            None => in_the_way |= date == plan.date,
            Some(Some(header)) if header.id != plan.id => in_the_way |= date == plan.date,
            Some(_) => disk.rename(&path, &to.join(name(date))).doing("move", &path)?,
        }
    }
    disk.sync_dir(&to).doing("sync", &to)?;
    disk.sync_dir(dir).doing("sync", dir)?;

    if !begun {
        if in_the_way {
            quarantine::move_stray(disk, dir, plan.date)?;
        }
        let (day, fresh) = (name(plan.date), plan.fresh());
        let After { seq, crc, .. } = plan.after;
        let head = Head { seq, time: plan.time, crc, file: Some(plan.date), end: fresh.len() as u64 };
        // First: what an earlier stop wrote would be taken for evidence about the fresh file, or a file behind it.
        head::write(disk, dir, plan.id, &head).doing("write the head in", dir)?;
        write_new(disk, dir, &day, &fresh).doing("write", &dir.join(day))?;
        disk.sync_dir(dir).doing("sync", dir)?;
    }
    disk.remove(&path).doing("remove", &path)?;
    disk.sync_dir(dir).doing("sync", dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_leads_nowhere_else() {
        let after = After { date: Date::constant(2026, 11, 20), seq: 4, crc: 1 };
        let parsed = |to: &str| {
            let (to, date) = (to.to_owned(), Date::constant(2026, 11, 21));
            let mut line = Vec::new();
            Plan { to, date, id: 7, first: 1, after, time: None }.push_line(&mut line);
            Plan::parse(&line).is_some()
        };
        assert!(parsed("2026-11-21") && parsed("2026-11-21.2"));
        for to in
            ["..", "../../elsewhere", "2026-11-21/../..", "2026-11-21.", "2026-11-21.x", "/tmp", "", "x"]
        {
            assert!(!parsed(to), "{to}");
        }
    }
}
