//! In which journals a token has its rights.

use std::fmt;
use std::str::FromStr;

use diary_proto::journal::{BadJournalName, JournalName};
use diary_proto::limits::JOURNAL_NAME_MAX_BYTES;

use crate::limits::JOURNALS_MAX;
use crate::quoted;

/// Ends a prefix.
const ANY: char = '*';

/// Journals by name or by prefix, written as in `diary,work*`. The default is `*`: every journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journals(Box<[Box<str>]>);

/// Why a string is not a list of journals.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadJournals {
    /// One of them is neither a name nor a prefix.
    #[error(
        "\"{0}\" does not name a journal; use a name, a prefix as in work*, or * for every journal; a name has 1 to \
         {JOURNAL_NAME_MAX_BYTES} bytes of letters, digits, '-', '_' and '.', and does not start with '.'"
    )]
    Form(String),
    /// There are more than [`JOURNALS_MAX`].
    #[error("a token can name at most {JOURNALS_MAX} journals; this one names {0}")]
    TooMany(usize),
}

impl Journals {
    /// Whether they include a journal.
    pub fn cover(&self, journal: &str) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix(ANY) {
            Some(prefix) => journal.starts_with(prefix),
            None => journal == &**pattern,
        })
    }
}

impl Default for Journals {
    fn default() -> Self {
        Self([ANY.to_string().into()].into())
    }
}

impl FromStr for Journals {
    type Err = BadJournals;

    fn from_str(list: &str) -> Result<Self, BadJournals> {
        let count = list.split(',').count();
        if count > JOURNALS_MAX {
            return Err(BadJournals::TooMany(count));
        }
        let check = |pattern: &str| {
            is_pattern(pattern).then(|| pattern.into()).ok_or_else(|| BadJournals::Form(quoted(pattern)))
        };
        list.split(',').map(check).collect::<Result<_, _>>().map(Self)
    }
}

fn is_pattern(pattern: &str) -> bool {
    match pattern.strip_suffix(ANY) {
        Some("") => true,
        // Longer names may begin with a reserved one.
        Some(prefix) => matches!(prefix.parse::<JournalName>(), Ok(_) | Err(BadJournalName::Reserved)),
        None => pattern.parse::<JournalName>().is_ok(),
    }
}

impl fmt::Display for Journals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_journals_are_covered() {
        let long = "x".repeat(JOURNAL_NAME_MAX_BYTES);
        for (list, covered, others) in [
            ("*", &["diary", "work", "工作"][..], &[][..]),
            ("work*", &["work", "work-2", "workshop"], &["wor", "Work", "my-work", "diary"]),
            ("tls*", &["tls-notes"], &["tl"]),
            ("work", &["work"], &["work-2", "wor", "work*", ""]),
            ("diary,work-*", &["diary", "work-", "work-2"], &["work", "diary2"]),
            ("工*", &["工作", "工"], &["作工"]),
            (&format!("{long}*"), &[&long], &["x"]),
        ] {
            let journals: Journals = list.parse().unwrap();
            assert_eq!(journals.to_string(), list);
            covered.iter().for_each(|name| assert!(journals.cover(name), "{list} {name}"));
            others.iter().for_each(|name| assert!(!journals.cover(name), "{list} {name}"));
        }
        assert_eq!(Journals::default(), "*".parse().unwrap());
    }

    #[test]
    fn what_is_no_list_of_journals() {
        for bad in [
            "",
            ",",
            "a,",
            "tls",
            "a b",
            "a,*b",
            "**",
            "a**",
            "*a",
            "a/b",
            "..",
            ".a*",
            "a\n",
            &"x".repeat(65),
        ] {
            let error = bad.parse::<Journals>().unwrap_err();
            assert!(matches!(error, BadJournals::Form(_)), "{bad:?}: {error}");
        }
        let many = |count| vec!["a"; count].join(",").parse::<Journals>();
        assert!(many(JOURNALS_MAX).is_ok());
        assert_eq!(many(JOURNALS_MAX + 1), Err(BadJournals::TooMany(JOURNALS_MAX + 1)));
    }
}
