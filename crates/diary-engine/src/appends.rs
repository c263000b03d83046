//! What one session appends together.

use std::sync::Arc;

use diary_proto::{Author, Key, Producer, Refusal, Time};

/// Entries that one session appends together: what one read of its socket brought. No allocation per
/// entry, and one message answers them all.
#[derive(Debug)]
pub struct Appends {
    /// Who writes them.
    pub author: Arc<Author>,
    /// Their keys, if they have any.
    pub keys: Option<Keys>,
    /// All texts, one behind the other.
    texts: String,
    /// Where each text ends.
    ends: Vec<u32>,
    /// What each text says of itself; empty if none does.
    own: Vec<Own>,
    /// Places of entries that cannot be stored, and why; their texts are empty.
    refused: Vec<(usize, Refusal)>,
}

/// Less than most lines have.
const USUAL_LINE_BYTES: usize = 64;

/// What an entry says of itself.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// When it was, if that is not now.
    pub at: Option<Time>,
    /// Who wrote it, if that is not the session's author.
    pub author: Option<Arc<Author>>,
}

/// The keys of consecutive appends of one producer.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    /// Whose.
    pub producer: Producer,
    /// The first one's counter.
    pub first_counter: u64,
    /// They may have been sent before.
    pub retry: bool,
}

impl Appends {
    /// No entries yet.
    pub fn new(author: Arc<Author>, keys: Option<Keys>) -> Self {
        Self { author, keys, texts: String::new(), ends: Vec::new(), own: Vec::new(), refused: Vec::new() }
    }

    /// The same, with room for what one read of so many bytes brings.
    pub fn with_room(author: Arc<Author>, bytes: usize) -> Self {
        let mut appends = Self::new(author, None);
        appends.texts.reserve(bytes);
        appends.ends.reserve(bytes / USUAL_LINE_BYTES);
        appends
    }

    /// Adds a text that was checked. All texts together stay below 4 GiB: they came in one read.
    pub fn push(&mut self, text: &str) {
        self.texts.push_str(text);
        self.ends.push(u32::try_from(self.texts.len()).expect("what one read brings is far below 4 GiB"));
    }

    /// Says something of the text that was added last. Those before it say nothing, if nothing was said of them.
    pub fn set_own(&mut self, own: Own) {
        self.own.resize_with(self.ends.len() - 1, Own::default);
        self.own.push(own);
    }

    /// Adds a place for an entry that cannot be stored, so that it is answered in its order.
    pub fn push_refused(&mut self, refusal: Refusal) {
        self.refused.push((self.count(), refusal));
        self.push("");
    }

    /// How many entries.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all texts and their places, and of what stands for those that cannot be stored.
    pub fn bytes(&self) -> usize {
        self.texts.len()
            + self.ends.len() * size_of::<u32>()
            + self.own.len() * size_of::<Own>()
            + self.refused.len() * size_of::<(usize, Refusal)>()
    }

    /// The most that the outcome can take, in bytes.
    pub fn outcome_max_bytes(&self) -> usize {
        let parts = if self.keys.is_some() { self.count() } else { 2 * self.refused.len() + 4 };
        parts * size_of::<crate::Part>()
    }

    /// Why the entry at `place` cannot be stored, if it cannot.
    pub(crate) fn refused(&self, place: usize) -> Option<&Refusal> {
        let found = self.refused.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        Some(&self.refused[found].1)
    }

    /// The text at `place`, from 0.
    pub(crate) fn text(&self, place: usize) -> &str {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.texts[start as usize..self.ends[place] as usize]
    }

    /// What the text at `place` says of itself.
    pub(crate) fn own(&self, place: usize) -> Option<&Own> {
        self.own.get(place)
    }

    /// The key at `place`.
    pub(crate) fn key(&self, place: usize) -> Option<(Key, bool)> {
        self.keys.map(|keys| {
            let key = Key { producer: keys.producer, counter: keys.first_counter + place as u64 };
            (key, keys.retry)
        })
    }
}
