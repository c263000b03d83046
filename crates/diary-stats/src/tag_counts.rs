//! Entries by tag.

use std::collections::{BTreeMap, HashMap, HashSet};

use diary_proto::tags::tags;

use super::Count;
use super::counts::sorted;

/// Case-insensitive counts of tags. A tag is shown in its most frequent spelling.
#[derive(Debug, Default)]
pub struct TagCounts {
    /// Tags by lower-case spelling.
    tags: HashMap<String, Tag>,
}

#[derive(Debug, Default)]
struct Tag {
    count: Count,
    spellings: BTreeMap<String, u64>,
}

impl TagCounts {
    /// Counts an entry once for each of its tags.
    pub fn take(&mut self, text: &str, count: Count) {
        let mut seen = HashSet::new();
        for spelling in tags(text) {
            let lower = spelling.to_lowercase();
            let tag = self.tags.entry(lower.clone()).or_default();
            *tag.spellings.entry(spelling.to_owned()).or_default() += 1;
            if seen.insert(lower) {
                tag.count += count;
            }
        }
    }

    /// Returns tags and their counts, most entries first.
    pub fn rows(&self) -> Vec<(String, Count)> {
        let row = |tag: &Tag| {
            let (spelling, _) = tag.spellings.iter().max_by_key(|(_, times)| **times)?;
            Some((spelling.clone(), tag.count))
        };
        sorted(self.tags.values().filter_map(row).collect())
    }
}
