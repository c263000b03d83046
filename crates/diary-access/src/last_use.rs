//! When each token was last used. In its own file, so that a server never rewrites one that people edit.
//!
//! ```text
//! anna 2026-11-27T10:00:00Z
//! ```

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::access::Access;
use crate::grant::{Grant, whole_seconds};
use crate::name::Name;

/// When each token was last used, by name and in whole seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastUse(BTreeMap<String, Timestamp>);

impl LastUse {
    /// Parses the text of a file. Damaged lines are left out: nothing depends on them.
    pub fn parse(text: &str) -> Self {
        let mut used = Self::default();
        for line in text.lines() {
            if let Some((name, time)) = line.split_once(' ')
                && let (Ok(name), Ok(time)) = (name.parse(), time.parse())
            {
                used.note(&name, time);
            }
        }
        used
    }

    /// Returns the text of a file.
    pub fn to_text(&self) -> String {
        self.0.iter().map(|(name, time)| format!("{name} {time}\n")).collect()
    }

    /// Returns when a token was last used. Uses of an earlier token with the same name do not count.
    pub fn of(&self, grant: &Grant) -> Option<Timestamp> {
        self.0.get(grant.name.as_str()).copied().filter(|&time| time >= grant.created)
    }

    /// Notes that a token was used, unless a later use is known.
    pub fn note(&mut self, name: &Name, now: Timestamp) {
        self.put(name.as_str(), whole_seconds(now));
    }

    /// Takes over later uses.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(name, &time)| self.put(name, time));
    }

    /// Forgets removed tokens, so that the file stays bounded.
    pub fn retain(&mut self, access: &Access) {
        let mut known: Vec<&str> = access.grants().map(|grant| grant.name.as_str()).collect();
        known.sort_unstable();
        self.0.retain(|name, _| known.binary_search(&name.as_str()).is_ok());
    }

    fn put(&mut self, name: &str, time: Timestamp) {
        match self.0.get_mut(name) {
            Some(known) => *known = time.max(*known),
            None => drop(self.0.insert(name.to_owned(), time)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_use_counts() {
        let mut used = LastUse::parse("anna 2026-11-27T10:00:00Z\nbob 2026-11-27T10:00:00Z\n");
        let other =
            LastUse::parse("anna 2026-11-27T09:00:00Z\nbob 2026-11-27T11:00:00Z\neve 2026-11-27T12:00:00Z\n");
        used.merge(&other);
        used.note(&"anna".parse().unwrap(), "2026-11-27T09:30:00Z".parse().unwrap());
        used.note(&"eve".parse().unwrap(), "2026-11-27T12:00:01.5Z".parse().unwrap());
        let text = "anna 2026-11-27T10:00:00Z\nbob 2026-11-27T11:00:00Z\neve 2026-11-27T12:00:01Z\n";
        assert_eq!(used.to_text(), text);
        assert_eq!(LastUse::parse(text), used);
    }

    #[test]
    fn damaged_lines_are_left_out() {
        let text = "\nanna\nanna never\n 2026-11-27T10:00:00Z\na/b 2026-11-27T10:00:00Z\n\
                    anna 2026-11-27T10:00:00Z more\nbob 2026-11-27T10:00:00Z\nbob 2026-11-26T10:00:00Z\nbob 2026";
        assert_eq!(LastUse::parse(text).to_text(), "bob 2026-11-27T10:00:00Z\n");
    }

    #[test]
    fn a_new_token_has_no_use_of_an_earlier_one() {
        let created: Timestamp = "2026-11-27T10:00:00.9Z".parse().unwrap();
        let name: Name = "anna".parse().unwrap();
        let (grant, _) =
            Grant::issue(name.clone(), Default::default(), Default::default(), created, None).unwrap();
        let mut used = LastUse::parse("anna 2026-11-27T09:59:59Z\n");
        assert_eq!(used.of(&grant), None);
        used.note(&name, created);
        assert_eq!(used.of(&grant), Some(grant.created));
        used.retain(&Access::default());
        assert_eq!(used, LastUse::default());
    }
}
