//! Selects entries by day, number, author and content.
//!
//! Arguments become a [`Plan`]: what to ask the server for, and what to select here. The server's days are those of
//! its own zone, so it is asked for more on each side.

use diary_client::{Author, Event, Filter, Scope, Stored, Which};
use diary_proto::Sieve;
use diary_proto::escape::escape;
use diary_proto::tags::is_tag;
use jiff::civil::Date;

use super::each_year::EachYear;
use super::{FIRST_DAY, LAST_DAY, QueryError, server_days};
use diary_calendar::{Calendar, Days};

/// Number of entries to show if no condition is given.
const LAST_DEFAULT: u64 = 20;

/// Longest text that is quoted in full.
const QUOTED_MAX_CHARS: usize = 40;

/// Which entries, for every command that reads.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Select {
    /// Day, week, month or year: 2026-11-21, 2026-11, yesterday, last monday, 3 days ago, 今天
    #[arg(long, value_name = "DATE")]
    pub(crate) on: Option<String>,
    /// First day
    #[arg(long, value_name = "DATE", conflicts_with = "on")]
    pub(crate) from: Option<String>,
    /// Last day
    #[arg(long, value_name = "DATE", conflicts_with = "on")]
    pub(crate) to: Option<String>,
    /// Only the newest N of the entries that match
    #[arg(short = 'n', long, value_name = "N|all", allow_negative_numbers = true)]
    pub(crate) last: Option<String>,
    #[command(flatten)]
    pub(crate) conditions: Conditions,
}

/// The same, for commands that print the entries in either order.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Ordered {
    #[command(flatten)]
    pub(crate) select: Select,
    /// Newest first
    #[arg(long)]
    reverse: bool,
    /// Also print what was corrected: every version is an entry of its own
    #[arg(long)]
    pub(crate) history: bool,
}

impl Ordered {
    /// Like [`Select::plan`].
    pub(crate) fn plan(&self, today: Date) -> Result<Plan, QueryError> {
        let mut plan = self.select.plan(today)?.in_order(self.reverse);
        plan.filter.scope.shown = !self.history;
        Ok(plan)
    }
}

/// What an entry must have, on whatever day it is.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Conditions {
    /// Only entries by this author (smart case)
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub(crate) author: Option<Author>,
    /// Only entries that contain this text (smart case, repeatable)
    #[arg(long, value_name = "TEXT")]
    pub(crate) contains: Vec<String>,
    /// Only entries that do not contain this text (smart case, repeatable)
    #[arg(long, value_name = "TEXT")]
    pub(crate) not: Vec<String>,
    /// Only entries with this tag: #word, word or @name (smart case, repeatable)
    #[arg(long, value_name = "TAG", value_parser = parse_tag)]
    pub(crate) tag: Vec<String>,
}

impl Conditions {
    /// Returns a filter over all entries.
    fn filter(&self) -> Result<Filter, QueryError> {
        let Self { contains, not: without, author, tag: tags } = self.clone();
        let scope = Scope::from(Which::All).shown();
        let filter = Filter { scope, contains, without, author, tags };
        filter.check()?;
        Ok(filter)
    }
}

/// Parses the name of an author.
pub(crate) fn parse_name(name: &str) -> Result<Author, QueryError> {
    Ok(Author::new(name)?)
}

/// Parses a tag as it is in texts. Without a sign, it is one with #.
fn parse_tag(said: &str) -> Result<String, QueryError> {
    let tag = if said.starts_with(['#', '@']) { said.to_owned() } else { format!("#{said}") };
    if is_tag(&tag) { Ok(tag) } else { Err(QueryError::Tag) }
}

/// What to read.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// What to ask the server for.
    pub(crate) filter: Filter,
    /// The reader's days.
    pub(crate) days: Option<Days>,
    /// Replaces `days`: the same day of each year.
    pub(crate) each_year: Option<EachYear>,
    /// Number of newest entries wanted, among those of `days`. Without days, the server limits them itself.
    pub(crate) newest: Option<u64>,
    /// The reader's current day.
    pub(crate) today: Date,
    /// How the query was understood, for the reader.
    pub(crate) echo: Option<String>,
}

impl Plan {
    /// Returns a plan for the same day of each year; see [`EachYear::of`].
    ///
    /// # Errors
    /// The query is invalid.
    pub(crate) fn each_year(
        conditions: &Conditions,
        said: Option<&str>,
        today: Date,
    ) -> Result<Self, QueryError> {
        let (filter, each_year) = (conditions.filter()?, Some(EachYear::of(said, today)?));
        Ok(Self { filter, days: None, each_year, newest: None, today, echo: None })
    }

    /// Returns the same plan, newest or oldest first.
    pub(crate) fn in_order(mut self, reverse: bool) -> Self {
        self.filter.scope.reverse = reverse;
        self
    }

    /// Whether all entries are of one day, or of one day in each year.
    pub(crate) fn is_of_one_day(&self) -> bool {
        self.each_year.is_some() || self.days.is_some_and(|days| days.from == days.to)
    }

    /// Returns the sentence for an empty result, such as `no entries by anna with "fog" on 2026-11-20`.
    pub(crate) fn nothing(&self) -> String {
        let Scope { which, newest, .. } = self.filter.scope;
        if which == Which::Last(0) || self.newest.or(newest) == Some(0) {
            return "--last 0 selects no entries".to_owned();
        }
        let days = self.days.map(|days| in_words(days, self.today));
        let days = days.or_else(|| Some(("on ", self.each_year.as_ref()?.to_string())));
        let days = days.map_or_else(String::new, |(word, days)| format!(" {word}{days}"));
        let Filter { contains, without, author, tags, .. } = &self.filter;
        let author = listed("by", author.iter().map(Author::to_string));
        let tagged = listed("tagged", tags.iter().cloned());
        let with = listed("with", contains.iter().map(|text| quoted(text)));
        let without = listed("without", without.iter().map(|text| quoted(text)));
        format!("no entries{author}{tagged}{with}{without}{days}")
    }
}

/// Formats ` with "a" and "b"`, or nothing if there are none.
fn listed(word: &str, what: impl Iterator<Item = String>) -> String {
    let what = what.collect::<Vec<_>>().join(" and ");
    if what.is_empty() { what } else { format!(" {word} {what}") }
}

/// Quotes a text, shortened if it is long.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_MAX_CHARS) {
        Some((end, _)) => format!("\"{}…\"", escape(&text[..end])),
        None => format!("\"{}\"", escape(text)),
    }
}

impl Select {
    /// Makes a plan; `today` is the reader's.
    ///
    /// # Errors
    /// The query is invalid.
    pub(crate) fn plan(&self, today: Date) -> Result<Plan, QueryError> {
        let days = self.days(today)?;
        let last = self.last.as_deref().map(parse_last).transpose()?;
        let filter = self.conditions.filter()?;
        let conditions = days.is_some() || !filter.takes_all_of_its_scope();
        let last = last.unwrap_or(if conditions { None } else { Some(LAST_DEFAULT) });
        let resolved = days.is_some() || (self.last.is_none() && !conditions);
        let echo = resolved.then(|| echo(days, today, filter.author.as_ref(), last));
        // The days are the reader's, so the server cannot count their entries.
        let (which, wanted, newest) = match (days, last) {
            (Some(days), last) => (server_days(days), None, last),
            (None, Some(count)) if !conditions => (Which::Last(count), None, None),
            (None, last) => (Which::All, last, None),
        };
        let scope = Scope { which, newest: wanted, ..filter.scope };
        Ok(Plan { filter: Filter { scope, ..filter }, days, each_year: None, newest, today, echo })
    }

    fn days(&self, today: Date) -> Result<Option<Days>, QueryError> {
        let parse = |said: &Option<String>| said.as_ref().map(|said| Days::parse(said, today)).transpose();
        if let Some(days) = parse(&self.on)? {
            return Ok(Some(days));
        }
        let (from, to) = match (parse(&self.from)?, parse(&self.to)?) {
            (None, None) => return Ok(None),
            (from, to) => (from.map_or(FIRST_DAY, |days| days.from), to.map_or(LAST_DAY, |days| days.to)),
        };
        if from > to {
            return Err(QueryError::Backwards { from, to });
        }
        Ok(Some(Days { from, to }))
    }
}

/// Parses a number of newest entries; `None` for all.
fn parse_last(said: &str) -> Result<Option<u64>, QueryError> {
    match Which::parse(said) {
        Ok(Which::All) => Ok(None),
        Ok(Which::Last(count)) if !said.is_empty() => Ok(Some(count)),
        _ => Err(QueryError::Last),
    }
}

/// Formats the plan, as in `2026-11-16 .. 2026-11-22, by anna, the newest 20`.
fn echo(days: Option<Days>, today: Date, author: Option<&Author>, last: Option<u64>) -> String {
    let days = days.map(|days| in_words(days, today).1);
    let author = author.map(|author| format!("by {author}"));
    let last = last.map(|count| format!("the newest {count}"));
    [days, author, last].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Formats days, with the preposition for a sentence.
fn in_words(Days { from, to }: Days, today: Date) -> (&'static str, String) {
    let future = if from > today { ", in the future" } else { "" };
    match (from > FIRST_DAY, to < LAST_DAY) {
        _ if from == to => ("on ", format!("{from}{future}")),
        (true, true) => ("in ", format!("{from} .. {to}{future}")),
        (true, false) => ("", format!("from {from} on{future}")),
        (false, true) => ("", format!("up to {to}")),
        (false, false) => ("on ", "all days".to_owned()),
    }
}

/// Selects a plan's events from what the server sends, in either order.
#[derive(Debug)]
pub(crate) struct Keeper {
    sieve: Sieve,
    plan: Plan,
    calendar: Calendar,
    /// Number of entries still wanted, plus one.
    left: u64,
    /// Gaps whose days are not known yet.
    held: Vec<Event>,
    /// Whether an entry past the days was met.
    is_past: bool,
    /// Whether an entry with a time of its own was met. Then days are not in order, and the server sends only gaps
    /// that may be of the requested days.
    is_mixed: bool,
}

impl Keeper {
    /// In reverse order, counts the entries that the plan wants. Otherwise the server knows where they begin.
    pub(crate) fn new(plan: &Plan, calendar: Calendar) -> Self {
        let wanted = plan.newest.filter(|_| plan.filter.scope.reverse);
        Self {
            sieve: Sieve::new(&plan.filter),
            plan: plan.clone(),
            calendar,
            left: wanted.map_or(u64::MAX, |wanted| wanted.saturating_add(1)),
            held: Vec::new(),
            is_past: false,
            is_mixed: false,
        }
    }

    /// Whether nothing more is wanted.
    pub(crate) fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Passes a matching event to `give`. A gap matches unless the entries around it rule the days out.
    pub(crate) fn take(&mut self, event: Event, mut give: impl FnMut(Event)) {
        if self.is_full() {
            return;
        }
        let Some(days) = self.plan.days else { return self.give(event, &mut give) };
        let Event::Entry(stored) = &event else {
            match (self.is_mixed, self.is_past) {
                (true, _) => give(event),
                (false, true) => {}
                (false, false) => self.held.push(event),
            }
            return;
        };
        let date = self.calendar.day_of(&stored.entry);
        let (early, late) = (date < days.from, date > days.to);
        let (before, past) = if self.plan.filter.scope.reverse { (late, early) } else { (early, late) };
        if stored.entry.own.is_some() {
            // It says nothing about the days of its neighbours.
            self.is_mixed = true;
        } else {
            self.is_past = past;
            if before && !self.is_mixed {
                return self.held.clear();
            }
        }
        self.held.drain(..).for_each(&mut give);
        if !before && !past {
            self.give(event, &mut give);
        }
    }

    /// Ends the input: passes the gaps that are held.
    pub(crate) fn end(&mut self, give: impl FnMut(Event)) {
        self.held.drain(..).for_each(give);
    }

    /// Passes an event that matches. Gaps right before the oldest wanted entry match, too.
    fn give(&mut self, event: Event, give: &mut impl FnMut(Event)) {
        if let Event::Entry(Stored { entry, .. }) = &event {
            let is_of_day = |days: &EachYear| days.has(self.calendar.day_of(entry));
            if !self.plan.each_year.as_ref().is_none_or(is_of_day)
                || !self.sieve.takes(entry.author.as_str(), &entry.text)
            {
                return;
            }
            self.left = self.left.saturating_sub(1);
        }
        if !self.is_full() {
            give(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use diary_client::{Entry, Gap, Time};

    use jiff::tz::TimeZone;

    use super::*;

    const TODAY: Date = Date::constant(2026, 11, 21);

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        select: Ordered,
    }

    fn plan(words: &[&str]) -> Result<Plan, String> {
        let words = Words::try_parse_from([&["test"], words].concat()).map_err(|error| error.to_string())?;
        words.select.plan(TODAY).map_err(|error| error.to_string())
    }

    fn plan_of(words: &[&str]) -> Plan {
        plan(words).unwrap()
    }

    #[test]
    fn what_cannot_be_used_says_so() {
        for (words, part) in [
            (&["--on", "someday"][..], "\"someday\" is not a date; try 2026-11-21"),
            (&["--from", "x"], "\"x\" is not a date"),
            (&["--to", "y"], "\"y\" is not a date"),
            (
                &["--from", "today", "--to", "yesterday"],
                "the first day of a range comes first: 2026-11-21 is after 2026-11-20",
            ),
            (&["--on", "today", "--from", "2026"], "cannot be used with"),
            (&["--last", "x"], "--last takes a number or all"),
            (&["--last", ""], "--last takes a number or all"),
            (&["--last", "today"], "--last takes a number or all"),
            (&["--last=-1"], "--last takes a number or all"),
            (&["--last", "-1"], "--last takes a number or all"),
            (&["-n", "-1"], "--last takes a number or all"),
            (&["--contains", ""], "the text to search for is empty"),
            (&["--not", ""], "the text to search for is empty"),
            (&["--author", "a b"], "a name cannot contain spaces"),
            (&["--tag", "a b"], "a tag is one word"),
            (&["--tag", "#42"], "with a letter in it"),
            (&[&["--not", "a"][..]; 17].concat(), "can have at most 16 texts; this one has 17"),
        ] {
            let error = plan(words).unwrap_err();
            assert!(error.contains(part), "{words:?}: {error}");
        }
    }

    #[test]
    fn what_the_server_is_asked_and_what_is_left() {
        for (words, which, newest, echo) in [
            (&[][..], "20", None, Some("the newest 20")),
            (&["--last", "all"], "all", None, None),
            (&["--last", "7"], "7", None, None),
            (&["-n", "7"], "7", None, None),
            (&["-n7"], "7", None, None),
            (&["--last", "0"], "0", None, None),
            (&["--contains", "a"], "all", None, None),
            (&["--author", "anna", "--last", "3"], "all", Some(3), None),
            (&["--on", "yesterday"], "2026-11-18..2026-11-22", None, Some("2026-11-20")),
            (
                &["--on", "last week", "--author", "anna", "--last", "5"],
                "2026-11-07..2026-11-17",
                Some(5),
                Some("2026-11-09 .. 2026-11-15, by anna, the newest 5"),
            ),
            (&["--from", "2026-10"], "2026-09-29..9999-12-31", None, Some("from 2026-10-01 on")),
            (&["--to", "2026-10"], "0000-01-01..2026-11-02", None, Some("up to 2026-10-31")),
            (
                &["--from", "2025", "--to", "2026"],
                "2024-12-30..2027-01-02",
                None,
                Some("2025-01-01 .. 2026-12-31"),
            ),
            (&["--on", "0000-01-01"], "0000-01-01..0000-01-03", None, Some("0000-01-01")),
        ] {
            let plan = plan(words).unwrap();
            assert_eq!(plan.filter.scope.which.to_string(), which, "{words:?}");
            let wanted = plan.newest.or(plan.filter.scope.newest);
            assert_eq!((wanted, plan.echo.as_deref()), (newest, echo), "{words:?}");
        }
        let plan = plan(&["--contains", "a", "--contains", "b", "--not", "c", "--reverse"]).unwrap();
        assert_eq!(plan.filter.contains, ["a", "b"]);
        assert_eq!(plan.filter.without, ["c"]);
        assert!(plan.filter.scope.reverse);
        let plan = plan_of(&["--tag", "travel", "--tag", "#旅行", "--tag", "@anna"]);
        assert_eq!(plan.filter.tags, ["#travel", "#旅行", "@anna"]);
        assert_eq!(plan.nothing(), "no entries tagged #travel and #旅行 and @anna");
    }

    #[test]
    fn sentences() {
        let long = "長".repeat(50);
        let said = [
            &[][..],
            &["--on", "someday"],
            &["--on", "\u{1b}[2J"],
            &["--on", "2026-02-30"],
            &["--from", "2月30日"],
            &["--to", "2026-13"],
            &["--on", "2026-W54"],
            &["--from", "today", "--to", "yesterday"],
            &["--last", "few"],
            &["--last", "0"],
            &["--author", "anna", "-n", "0"],
            &["--contains", ""],
            &["--on", "上周一"],
            &["--on", "2027-01-01"],
            &["--from", "tomorrow", "--author", "anna"],
            &["--from", "last month", "--to", "last week", "--last", "5"],
            &["--from", "2026", "--contains", "fog", "--contains", "\u{1b}[2J", "--not", &long],
            &["--to", "nov 20", "--author", "anna", "--reverse"],
        ];
        let said = said.map(|words| {
            let sentences = match plan(words) {
                Ok(plan) => {
                    format!("echo: {}\nnothing: {}", plan.echo.as_deref().unwrap_or("-"), plan.nothing())
                }
                Err(error) => format!("error: {error}"),
            };
            format!("$ diary log {}\n{sentences}\n", escape(&words.join(" ")))
        });
        insta::assert_snapshot!(said.join("\n"));
    }

    fn entry(seq: u64, time: &str, text: &str) -> Event {
        let time = Time::parse(time.as_bytes()).unwrap();
        let author = Author::new("anna").unwrap();
        let entry = Entry { seq, time, own: None, day: None, relation: None, author, text: text.to_owned() };
        Event::Entry(Stored { entry, key: None, crc: 0, left: String::new(), correction: None })
    }

    fn kept(words: &[&str], events: impl IntoIterator<Item = Event>) -> String {
        let (plan, calendar) = (plan(words).unwrap(), Calendar::of(TimeZone::get("Europe/Berlin").unwrap()));
        let reverse = plan.filter.scope.reverse || plan.newest.is_some();
        let mut keeper = Keeper::new(&plan.in_order(reverse), calendar);
        let mut kept = Vec::new();
        let show = |event: Event| match event {
            Event::Entry(stored) => stored.entry.seq.to_string(),
            Event::Gap(gap) => format!("gap {}", gap.first),
            Event::Damaged { lines } => format!("damaged {lines}"),
            Event::Restored { head } => format!("restored {head}"),
        };
        for event in events {
            keeper.take(event, |event| kept.push(show(event)));
        }
        keeper.end(|event| kept.push(show(event)));
        kept.join(" ")
    }

    #[test]
    fn days_are_those_of_the_reader() {
        let events = [
            // In Berlin, this is 23:59:59 of the evening before.
            entry(1, "2026-11-21T06:59:59.999999+08:00", "a"),
            entry(2, "2026-11-21T07:00:00.000000+08:00", "b"),
            entry(3, "2026-11-22T06:59:59.999999+08:00", "c"),
            entry(4, "2026-11-22T07:00:00.000000+08:00", "d"),
        ];
        assert_eq!(kept(&["--on", "today"], events.clone()), "2 3");
        assert_eq!(kept(&["--to", "yesterday"], events.clone()), "1");
        assert_eq!(kept(&["--from", "2026-11-22"], events.clone()), "4");
        assert_eq!(kept(&["--on", "today", "--not", "c"], events.clone()), "2");
        assert_eq!(kept(&["--author", "ben"], events), "");
    }

    #[test]
    fn a_gap_is_told_where_it_may_be_on_the_days() {
        let gap = |seq| Event::Gap(Gap { first: seq, last: seq });
        let before = |seq| entry(seq, "2026-11-20T12:00:00.000000+08:00", "a");
        let on = |seq| entry(seq, "2026-11-21T12:00:00.000000+08:00", "a");
        let behind = |seq| entry(seq, "2026-11-22T12:00:00.000000+08:00", "a");
        let today = &["--on", "today"];
        assert_eq!(kept(today, [before(1), gap(2), before(3), gap(4), on(5)]), "gap 4 5");
        assert_eq!(kept(today, [on(5), gap(6), on(7), gap(8), behind(9), gap(10)]), "5 gap 6 7 gap 8");
        assert_eq!(kept(today, [before(1), gap(2), behind(3)]), "gap 2");
        assert_eq!(kept(today, [gap(1), before(2), gap(3)]), "gap 3");
        assert_eq!(kept(&["--author", "ben"], [on(1), gap(2)]), "gap 2");

        // Newest first.
        let today = &["--on", "today", "--reverse"];
        assert_eq!(kept(today, [on(5), gap(4), before(3), gap(2), before(1)]), "5 gap 4");
        assert_eq!(kept(today, [gap(10), behind(9), gap(8), on(7), gap(6), on(5)]), "gap 8 7 gap 6 5");
        let newest = &["--on", "today", "--last", "2"];
        assert_eq!(kept(newest, [on(7), gap(6), on(5), gap(4), on(3), gap(2), on(1)]), "7 gap 6 5 gap 4");
        assert_eq!(kept(newest, [on(5), gap(4), before(3), gap(2)]), "5 gap 4");
    }
}
