//! Pages: the lines of a range. All lines that leave a reader leave it here.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diary_proto::entry::StoredLine;
use diary_proto::limits::STORED_LINE_MAX_BYTES;
use diary_proto::{Date, Entry};

use super::{Range, Reader};
use crate::disk::DiskFile;

/// Bytes that suffice to read one line of usual length.
const LINE_BYTES: usize = 4 * 1024;

/// A file that was opened longer ago may have been replaced by a repaired one.
const OPEN_MAX: Duration = Duration::from_secs(1);

/// Day files that are kept open for those who read on.
const OPENED_MAX: usize = 16;

/// Day files that were opened a moment ago to read history.
#[derive(Default)]
pub(super) struct Opened(Mutex<VecDeque<OpenDay>>);

/// A day file that is open.
struct OpenDay {
    date: Date,
    since: Instant,
    file: Arc<dyn DiskFile>,
}

impl Opened {
    fn find(&self, date: Date) -> Option<Arc<dyn DiskFile>> {
        let opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let day = opened.iter().find(|day| day.date == date && day.since.elapsed() < OPEN_MAX);
        Some(Arc::clone(&day?.file))
    }

    fn keep(&self, date: Date, file: &Arc<dyn DiskFile>) {
        let mut opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        opened.retain(|day| day.date != date && day.since.elapsed() < OPEN_MAX);
        opened.truncate(OPENED_MAX - 1);
        opened.push_front(OpenDay { date, since: Instant::now(), file: Arc::clone(file) });
    }
}

impl Reader {
    /// The next lines of a range, `max_bytes` or one longer line at the most; `None` at its end. In a range that is not
    /// dense there may be none of them before its end, too.
    ///
    /// # Errors
    /// Those of reading day files. The range stays where it was.
    pub fn next_page(&self, range: &mut Range, max_bytes: usize) -> io::Result<Option<Vec<u8>>> {
        let mut page = Vec::new();
        Ok(self.next_page_into(range, max_bytes, &mut page)?.then_some(page))
    }

    /// The same, into a buffer that can be used again; false at the range's end.
    ///
    /// # Errors
    /// Those of reading day files. The range stays where it was.
    pub fn next_page_into(
        &self,
        range: &mut Range,
        max_bytes: usize,
        page: &mut Vec<u8>,
    ) -> io::Result<bool> {
        Ok(self.leave(range, max_bytes, page, true)?.unwrap_or_default())
    }

    /// The next lines of a range, if they can be had without waiting for the disk; none at its end. It leaves
    /// the range where it was if not.
    pub fn next_page_now(&self, range: &mut Range, max_bytes: usize) -> Option<Vec<u8>> {
        let mut page = Vec::new();
        self.leave(range, max_bytes, &mut page, false).ok()??;
        Some(page)
    }

    /// The entry with this seq, if it is there and sound.
    ///
    /// # Errors
    /// Those of reading day files.
    pub fn entry(&self, seq: u64) -> io::Result<Option<Entry>> {
        Ok(self.line(seq, |line| line.to_entry().ok())?.flatten())
    }

    /// What `look` makes of the line with this seq, if it is there and sound.
    ///
    /// # Errors
    /// Those of reading day files.
    pub fn line<T>(&self, seq: u64, look: impl FnOnce(&StoredLine<'_>) -> T) -> io::Result<Option<T>> {
        self.whole_line(seq, |_, line| look(line))
    }

    /// The same; `look` gets the line's bytes, too, without its line feed.
    pub(super) fn whole_line<T>(
        &self,
        seq: u64,
        look: impl FnOnce(&[u8], &StoredLine<'_>) -> T,
    ) -> io::Result<Option<T>> {
        let mut range = self.from(seq)?;
        if range.first != seq || range.last < seq {
            return Ok(None);
        }
        let page = self.next_page(&mut range, LINE_BYTES)?.unwrap_or_default();
        let line = page.split(|&b| b == b'\n').next().unwrap_or_default();
        let stored = StoredLine::parse(line, self.seal()).ok().filter(|stored| stored.seq == seq);
        Ok(stored.map(|stored| look(line, &stored)))
    }

    /// The one way by which lines leave a reader. False at the range's end; `None` if it may not wait and
    /// would have to.
    fn leave(
        &self,
        range: &mut Range,
        max_bytes: usize,
        page: &mut Vec<u8>,
        may_wait: bool,
    ) -> io::Result<Option<bool>> {
        if !may_wait {
            return self.dense_page_now(range, max_bytes, page);
        }
        if let Some(mut thread) = range.thread.take() {
            let found = self.thread_page(&mut thread, max_bytes, page);
            range.thread = Some(thread);
            return found.map(Some);
        }
        let Some(mut picked) = range.picked.take() else {
            return self.dense_page(range, max_bytes, page).map(Some);
        };
        let found = self.picked_page(range, &mut picked, max_bytes, page);
        range.picked = Some(picked);
        found.map(Some)
    }

    /// The next lines of a range whose entries are all wanted.
    pub(super) fn dense_page(
        &self,
        range: &mut Range,
        max_bytes: usize,
        page: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let Some(end_date) = range.end_date else {
            return Ok(false);
        };
        let view = self.view();
        loop {
            let date = match range.date {
                Some(date) => date,
                None => match view.days.first() {
                    Some(&date) => date,
                    None => return Ok(false),
                },
            };
            range.date = Some(date);
            let limit = range.end_offset.filter(|_| date == end_date);
            let limit = limit.or_else(|| view.ends.get(&date).copied());
            if date <= end_date && self.page_of_file(date, &mut range.offset, limit, max_bytes, page)? {
                return Ok(true);
            }
            if date >= end_date {
                return Ok(false);
            }
            let next = view.days.get(view.days.partition_point(|&day| day <= date));
            range.date = Some(next.copied().unwrap_or(end_date));
            range.offset = 0;
        }
    }

    fn dense_page_now(
        &self,
        range: &mut Range,
        max_bytes: usize,
        page: &mut Vec<u8>,
    ) -> io::Result<Option<bool>> {
        let Some(date) = range.date.filter(|_| range.is_dense()) else { return Ok(None) };
        let limit = range.end_offset.filter(|_| range.end_date == Some(date));
        let limit = limit.or_else(|| self.view().ends.get(&date).copied());
        if limit.is_some_and(|limit| range.offset >= limit) {
            return Ok((range.end_date == Some(date)).then_some(false));
        }
        let Some(file) = self.shared.opened.find(date) else { return Ok(None) };
        let here = limit.map_or(max_bytes as u64, |limit| limit.saturating_sub(range.offset));
        *page = vec![0; usize::try_from(here).unwrap_or(usize::MAX).min(max_bytes)];
        let Some(read) = file.read_at_now(page, range.offset)? else { return Ok(None) };
        let Some(last) = memchr::memrchr(b'\n', &page[..read]) else { return Ok(None) };
        page.truncate(last + 1);
        range.offset += page.len() as u64;
        Ok(Some(true))
    }

    /// A day's file, which is kept open for who reads on.
    pub(super) fn kept(&self, date: Date) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = self.shared.opened.find(date) {
            return Ok(file);
        }
        let file: Arc<dyn DiskFile> = self.open(date)?.into();
        self.shared.opened.keep(date, &file);
        Ok(file)
    }

    /// The next whole lines of one file; false if there are none before `limit`, or its end.
    fn page_of_file(
        &self,
        date: Date,
        offset: &mut u64,
        limit: Option<u64>,
        max_bytes: usize,
        page: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let file = match self.kept(date) {
            Ok(file) => file,
            // A file that went missing shows up as a gap.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let limit = match limit {
            Some(limit) => limit,
            None => file.size()?,
        };
        let mut size = max_bytes;
        while *offset < limit {
            let here = usize::try_from(limit - *offset).unwrap_or(usize::MAX).min(size);
            page.resize(here, 0);
            let read = file.read_full_at(page, *offset)?;
            page.truncate(read);
            // Of a longer line, only that.
            let end =
                if size > max_bytes { memchr::memchr(b'\n', page) } else { memchr::memrchr(b'\n', page) };
            if let Some(end) = end {
                page.truncate(end + 1);
                *offset += page.len() as u64;
                return Ok(true);
            }
            if read < here || *offset + read as u64 >= limit {
                // A rest without a line feed is damage, or the file was cut below us.
                *offset = limit;
                return Ok(false);
            }
            if size < STORED_LINE_MAX_BYTES {
                size = STORED_LINE_MAX_BYTES;
            } else {
                *offset += read as u64;
            }
        }
        Ok(false)
    }
}
