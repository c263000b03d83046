//! The newest entries that fit some conditions, looked for from the end of a diary: what fits is mostly near it, and
//! then the server need not go through all the rest.

use diary_client::{Filter, Which};

use crate::query::select::Plan;

/// Entries that are looked at first: a server is through with them in some milliseconds.
const FIRST_ENTRIES: u64 = 20_000;

/// How many times as many are looked at next. They are looked at anew, which all together costs a ninth of the last.
const GROWTH: u64 = 10;

/// What the server is to look at: ever more of the end, and in the end all.
#[derive(Debug)]
pub(crate) struct Windows {
    filter: Filter,
    head: u64,
    /// Of the window that is next; `None` once all was asked for.
    entries: Option<u64>,
}

impl Windows {
    /// For a diary with this head; `None` if a plan wants more than the newest entries, or has days, which the server
    /// finds by itself.
    pub(crate) fn new(plan: &Plan, head: u64) -> Option<Self> {
        let newest = plan.newest.filter(|_| plan.filter.which == Which::All)?;
        Some(Self { filter: plan.filter.clone(), head, entries: Some(newest.max(FIRST_ENTRIES)) })
    }

    /// What to ask for next.
    pub(crate) fn next(&mut self) -> Option<Filter> {
        let entries = self.entries?;
        let which = if entries < self.head { Which::From(self.head - entries + 1) } else { Which::All };
        self.entries = entries.checked_mul(GROWTH).filter(|_| which != Which::All);
        Some(Filter { which, ..self.filter.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::select::{Conditions, Select};

    fn asked(select: Select, head: u64) -> Vec<String> {
        let plan = select.plan("2026-11-21".parse().unwrap()).unwrap();
        let mut windows = Windows::new(&plan, head);
        std::iter::from_fn(|| windows.as_mut()?.next()).map(|filter| filter.which.to_string()).collect()
    }

    #[test]
    fn they_grow_until_they_are_the_diary() {
        let select = |last: &str, on: Option<&str>| Select {
            last: Some(last.to_owned()),
            on: on.map(str::to_owned),
            conditions: Conditions { contains: vec!["fog".to_owned()], ..Conditions::default() },
            ..Select::default()
        };
        for (head, last, windows) in [
            (0, "5", &["all"][..]),
            (20_000, "5", &["all"]),
            (20_001, "0", &["#2..", "all"]),
            (2_345_678, "5", &["#2325679..", "#2145679..", "#345679..", "all"]),
            (2_345_678, "30000", &["#2315679..", "#2045679..", "all"]),
            (2_345_678, "18446744073709551615", &["all"]),
            (2_345_678, "all", &[]),
        ] {
            assert_eq!(asked(select(last, None), head), windows, "{head} {last}");
        }
        assert!(asked(select("5", Some("yesterday")), 2_345_678).is_empty());
        assert!(asked(Select { last: Some("5".to_owned()), ..Select::default() }, 2_345_678).is_empty());
    }
}
