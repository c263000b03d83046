//! Entries and words by day, author and tag, and streaks of days.

use std::collections::{BTreeMap, HashMap};
use std::ops::AddAssign;

use jiff::civil::Date;
use serde::Serialize;
use unicode_segmentation::UnicodeSegmentation;

use super::TagCounts;

/// Rows of a table of counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Every day with entries
    Day,
    /// Weeks from Monday to Sunday
    Week,
    /// Months
    Month,
    /// Years
    Year,
    /// Authors
    Author,
    /// Tags
    Tag,
}

impl By {
    /// Every variant.
    pub const ALL: [Self; 6] = [Self::Day, Self::Week, Self::Month, Self::Year, Self::Author, Self::Tag];

    /// Returns its name in headings and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
            Self::Author => "author",
            Self::Tag => "tag",
        }
    }
}

/// A number of entries and their words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Number of entries.
    pub entries: u64,
    /// Number of words.
    pub words: u64,
}

impl Count {
    /// Returns the count of one entry with `words` words.
    pub fn one(words: u64) -> Self {
        Self { entries: 1, words }
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.entries += other.entries;
        self.words += other.words;
    }
}

/// Counts the words of a text, by the word boundaries of UAX #29. Every Han and hiragana character counts as a
/// word, as in word processors.
pub(crate) fn words(text: &str) -> u64 {
    text.unicode_words().count() as u64
}

/// Every count of a diary.
#[derive(Debug, Default)]
pub struct Counts {
    /// Count of all entries.
    pub total: Count,
    /// Counts of the days with entries.
    pub days: BTreeMap<Date, Count>,
    authors: HashMap<String, Count>,
    tags: TagCounts,
}

/// A streak: consecutive days with entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streak {
    pub first: Date,
    pub last: Date,
}

impl Streak {
    pub fn days(self) -> i32 {
        (self.last - self.first).get_days() + 1
    }
}

impl Counts {
    /// Counts an entry of `day`.
    pub fn take(&mut self, day: Date, author: &str, text: &str) {
        let count = Count::one(words(text));
        self.total += count;
        *self.days.entry(day).or_default() += count;
        *self.authors.entry(author.to_owned()).or_default() += count;
        self.tags.take(text, count);
    }

    /// Returns the rows of a table: dates in order, authors and tags by entries.
    pub fn rows(&self, by: By) -> Vec<(String, Count)> {
        match by {
            By::Day => self.spans("%Y-%m-%d"),
            By::Week => self.spans("%G-W%V"),
            By::Month => self.spans("%Y-%m"),
            By::Year => self.spans("%Y"),
            By::Tag => self.tags.rows(),
            By::Author => sorted(self.authors.clone().into_iter().collect()),
        }
    }

    /// Sums the days with the same name, given as a `strftime` format.
    fn spans(&self, name: &str) -> Vec<(String, Count)> {
        let mut rows: BTreeMap<String, Count> = BTreeMap::new();
        for (day, count) in &self.days {
            *rows.entry(day.strftime(name).to_string()).or_default() += *count;
        }
        rows.into_iter().collect()
    }

    /// Returns the streak up to today, or up to yesterday if today has no entry yet.
    pub fn current_streak(&self, today: Date) -> Option<Streak> {
        let last = [today, today.yesterday().ok()?].into_iter().find(|day| self.days.contains_key(day))?;
        let mut streaks = self.streaks();
        Some(Streak { last, ..streaks.find(|streak| (streak.first..=streak.last).contains(&last))? })
    }

    /// Returns the longest streak; of several, the newest.
    pub fn longest_streak(&self) -> Option<Streak> {
        self.streaks().max_by_key(|streak| streak.days())
    }

    fn streaks(&self) -> impl Iterator<Item = Streak> {
        let mut days = self.days.keys().copied().peekable();
        std::iter::from_fn(move || {
            let first = days.next()?;
            let mut last = first;
            while let Some(next) = days.next_if(|next| last.tomorrow().is_ok_and(|day| day == *next)) {
                last = next;
            }
            Some(Streak { first, last })
        })
    }
}

/// Sorts by entries, most first, then by name.
pub(crate) fn sorted(mut rows: Vec<(String, Count)>) -> Vec<(String, Count)> {
    rows.sort_unstable_by(|a, b| b.1.entries.cmp(&a.1.entries).then_with(|| a.0.cmp(&b.0)));
    rows
}
