//! How entries look.

use diary_client::{Event, Gap, Stored};
use diary_proto::answer::push_gap;
use diary_proto::escape::escape;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// What later lines of a text start with, as wide as the `HH:MM ` of its first.
const INDENT: &str = "      ";

/// For whom entries are printed.
pub(crate) enum View {
    /// For programs: left parts, as stored.
    Plain,
    /// For a person, in their own time zone.
    Terminal {
        /// The reader's zone.
        zone: TimeZone,
        /// The day whose heading was printed last.
        day: Option<Date>,
    },
}

impl View {
    /// For a person where this program runs.
    pub(crate) fn terminal() -> Self {
        Self::Terminal { zone: TimeZone::system(), day: None }
    }

    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain)
    }

    /// An answer begins: its first entry gets a heading, whatever stands above it.
    pub(crate) fn begin(&mut self) {
        if let Self::Terminal { day, .. } = self {
            *day = None;
        }
    }

    /// Appends what is to be printed for an event.
    pub(crate) fn event(&mut self, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::Entry(stored) => self.entry(stored, out),
            Event::Gap(gap) => push_gap(out, Gap { first: gap.first, last: gap.last }),
            Event::Damaged { lines } => {
                let what = if *lines == 1 { "line is" } else { "lines are" };
                out.extend_from_slice(format!("damaged: {lines} {what} left out\n").as_bytes());
            }
        }
    }

    fn entry(&mut self, stored: &Stored, out: &mut Vec<u8>) {
        match self {
            Self::Plain => {
                out.extend_from_slice(stored.left.as_bytes());
                out.push(b'\n');
            }
            Self::Terminal { zone, day } => {
                let local = stored.entry.time.in_zone(zone).civil();
                if *day != Some(local.date()) {
                    *day = Some(local.date());
                    out.extend_from_slice(format!("── {} ──\n", local.strftime("%Y-%m-%d %A")).as_bytes());
                }
                out.extend_from_slice(format!("{} ", local.strftime("%H:%M")).as_bytes());
                out.extend_from_slice(stored.entry.author.as_str().as_bytes());
                out.push(b' ');
                if let Some(at) = stored.entry.at {
                    out.extend_from_slice(format!("({}) ", at.minute()).as_bytes());
                }
                push_text(&stored.entry.text, out);
            }
        }
    }
}

/// A text as lines; escaped, so that no text can play tricks with the terminal.
fn push_text(text: &str, out: &mut Vec<u8>) {
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            out.extend_from_slice(INDENT.as_bytes());
        }
        out.extend_from_slice(escape(line).as_bytes());
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use diary_client::{Author, Entry, Time};

    fn entry(time: &str, at: Option<&str>, text: &str) -> Event {
        let parse = |time: &str| Time::parse(time.as_bytes()).unwrap();
        let (time, at) = (parse(time), at.map(parse));
        let entry = Entry { seq: 7, time, at, author: Author::new("小明").unwrap(), text: text.to_owned() };
        Event::Entry(Stored { entry, key: None, left: format!("7 {time} 小明 {}", escape(text)) })
    }

    fn show(mut view: View, events: &[Event]) -> String {
        let mut out = Vec::new();
        for event in events {
            view.event(event, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    fn terminal() -> View {
        View::Terminal { zone: TimeZone::get("Europe/Berlin").unwrap(), day: None }
    }

    #[test]
    fn a_terminal_shows_days_and_times_of_the_reader() {
        let events = [
            entry("2026-11-21T08:15:02.123456+08:00", None, "早"),
            entry("2026-11-22T06:59:59.999999+08:00", None, "still Saturday in Berlin"),
            entry("2026-11-22T07:00:00.000000+08:00", Some("2015-03-02T08:15:00.000000+08:00"), "late"),
        ];
        let expected = "\
── 2026-11-21 Saturday ──
01:15 小明 早
23:59 小明 still Saturday in Berlin
── 2026-11-22 Sunday ──
00:00 小明 (2015-03-02 08:15) late
";
        assert_eq!(show(terminal(), &events), expected);
    }

    #[test]
    fn a_text_is_safe_and_its_lines_are_indented() {
        let event = entry("2026-11-21T08:15:02.123456+08:00", None, "a\n\u{1b}[2Jb\r\n\u{202e}c\\\n");
        let expected = "\
── 2026-11-21 Saturday ──
01:15 小明 a
      \\x1b[2Jb\\r
      \\u{202e}c\\\\
      \n";
        assert_eq!(show(terminal(), &[event]), expected);
    }

    #[test]
    fn a_program_gets_left_parts() {
        let events = [
            entry("2026-11-21T08:15:02.123456+08:00", None, "a\nb"),
            Event::Gap(Gap { first: 8, last: 9 }),
            Event::Damaged { lines: 2 },
        ];
        let expected = "\
7 2026-11-21T08:15:02.123456+08:00 小明 a\\nb
gap 8..9: these entries are damaged or missing
damaged: 2 lines are left out
";
        assert_eq!(show(View::Plain, &events), expected);
    }
}
