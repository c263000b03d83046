//! Entries that are appended together.

use std::borrow::Cow;
use std::sync::Arc;

use diary_proto::limits::{AUTHOR_MAX_BYTES, STORED_LINE_MAX_BYTES};
use diary_proto::message::RELATED_MAX_ENTRIES;
use diary_proto::{Author, Key, Producer, Refusal, Relation, Time};
use diary_store::BATCH_MAX_BYTES;

use crate::earlier::{Earlier, Found, Unfit};
use crate::in_order::InOrder;
use crate::limits::{BATCH_MAX_ENTRIES, ENTRY_MIN_BYTES};
use crate::outcome::Part;

/// Entries that one session appends together: what one read of its socket brought. They take no allocation per entry,
/// and one message answers all of them.
#[derive(Debug)]
pub struct Appends {
    /// Who writes them.
    pub author: Arc<Author>,
    /// Their keys, if they have any.
    pub keys: Option<Keys>,
    /// What keeps them behind the appends before them, if anything does.
    pub in_order: Option<InOrder>,
    /// All texts, concatenated.
    texts: String,
    /// Where each text ends.
    ends: Vec<u32>,
    /// Times and authors that differ from the default; empty if none does.
    own: Vec<Own>,
    /// Those that name an earlier entry, by their places.
    related: Vec<Related>,
    /// Places of entries that cannot be stored, and why. Their texts are empty.
    refused: Vec<(usize, Refusal)>,
    /// Heap bytes of the authors in `own` and of the messages in `refused`.
    heap_bytes: usize,
}

/// An entry that names an earlier one.
#[derive(Debug, Clone, Copy)]
struct Related {
    place: usize,
    relation: Relation,
    /// It cannot be stored, unless it was before.
    unfit: Option<Unfit>,
}

const REFUSED_BYTES: usize = size_of::<(usize, Refusal)>();

/// What an entry's own author takes beside its name: reference counts and the pointer to the name.
const OWN_AUTHOR_BYTES: usize = 2 * size_of::<usize>() + size_of::<Author>();

/// Most bytes that a byte of text takes in its line: `\xNN`.
const ESCAPE_MAX_BYTES: usize = 4;

/// Most bytes of a line beside its text. With every field at its longest they are 313.
const LINE_FIELDS_MAX_BYTES: usize = 320;
const _: () = assert!(AUTHOR_MAX_BYTES == 64, "the author is one of these fields");
const _: () = assert!(ENTRY_MIN_BYTES >= size_of::<u32>(), "it covers the end of the text");

/// An entry's own time and author.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// The time of the entry [default: now].
    pub at: Option<Time>,
    /// Its author [default: the author of all].
    pub author: Option<Arc<Author>>,
}

/// The keys of consecutive appends of one producer.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    /// Whose.
    pub producer: Producer,
    /// The first one's counter.
    pub first_counter: u64,
    /// The appends may have been sent before.
    pub retry: bool,
}

impl Appends {
    /// No entries yet.
    pub fn new(author: Arc<Author>, keys: Option<Keys>) -> Self {
        Self {
            author,
            keys,
            in_order: None,
            texts: String::new(),
            ends: Vec::new(),
            own: Vec::new(),
            related: Vec::new(),
            refused: Vec::new(),
            heap_bytes: 0,
        }
    }

    /// Adds a text, which the caller has checked. All texts together are below 4 GiB, because one read brought them.
    pub fn push(&mut self, text: &str) {
        self.texts.push_str(text);
        self.ends.push(u32::try_from(self.texts.len()).expect("what one read brings is far below 4 GiB"));
    }

    /// Sets the own time and author of the text that was added last.
    pub fn set_own(&mut self, own: Own) {
        let before = self.own.last().and_then(|own| own.author.as_ref());
        if let Some(author) = &own.author
            && !before.is_some_and(|before| Arc::ptr_eq(before, author))
        {
            self.heap_bytes += author.as_str().len() + OWN_AUTHOR_BYTES;
        }
        self.own.resize_with(self.ends.len() - 1, Own::default);
        self.own.push(own);
    }

    /// Sets what the text that was added last is to an earlier entry, which has to be [looked up](Self::note_found).
    pub fn relate(&mut self, relation: Relation) {
        self.related.push(Related { place: self.ends.len() - 1, relation, unfit: None });
    }

    /// The earlier entries that these name, ascending.
    pub fn named(&self) -> Vec<u64> {
        let mut named: Vec<u64> = self.related.iter().map(|related| related.relation.seq()).collect();
        named.sort_unstable();
        named.dedup();
        named
    }

    /// Notes what was [found](crate::Journal::look_up) of the entries that these [name](Self::named). `judge` says whether
    /// an entry by an author may be so related to one that was found.
    pub fn note_found(
        &mut self,
        found: &[Found],
        judge: impl Fn(Relation, &Earlier, &Author) -> Result<(), Unfit>,
    ) {
        for at in 0..self.related.len() {
            let Related { place, relation, .. } = self.related[at];
            let found = match found.binary_search_by_key(&relation.seq(), |(seq, _)| *seq) {
                Ok(at) => found[at].1.as_ref().map_err(|unfit| *unfit),
                Err(_) => Err(Unfit::Unreadable),
            };
            let judged = found.and_then(|earlier| {
                let author = self.own(place).and_then(|own| own.author.as_ref()).unwrap_or(&self.author);
                judge(relation, earlier, author).map(|()| earlier.seq)
            });
            let related = &mut self.related[at];
            match judged {
                Ok(seq) => related.relation = relation.to(seq),
                Err(unfit) => related.unfit = Some(unfit),
            }
        }
    }

    /// Adds a place for an entry that cannot be stored, so that it is answered in its order. Where many may be refused,
    /// the message should be static: an owned one counts with its bytes.
    pub fn push_refused(&mut self, refusal: Refusal) {
        self.heap_bytes += message_bytes(&refusal);
        self.refused.push((self.count(), refusal));
        self.push("");
    }

    /// The number of entries.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// The number of entries, as outcomes count them.
    pub(crate) fn count_u32(&self) -> u32 {
        u32::try_from(self.count()).expect("what one read brings is far below 4 GiB")
    }

    /// What they cost a budget: the bytes of all texts, and at least [`ENTRY_MIN_BYTES`] for each entry.
    pub fn bytes(&self) -> usize {
        self.texts.len()
            + self.ends.len() * ENTRY_MIN_BYTES
            + self.own.len() * size_of::<Own>()
            + self.related.len() * size_of::<Related>()
            + self.refused.len() * REFUSED_BYTES
            + self.heap_bytes
    }

    /// The most that [`bytes`](Self::bytes) returns for so many entries, whose texts and authors have `bytes` together
    /// and whose refusals have static messages.
    pub const fn max_bytes(entries: usize, bytes: usize) -> usize {
        const BESIDE: usize = if REFUSED_BYTES > OWN_AUTHOR_BYTES { REFUSED_BYTES } else { OWN_AUTHOR_BYTES };
        let related = if entries < RELATED_MAX_ENTRIES { entries } else { RELATED_MAX_ENTRIES };
        entries * (ENTRY_MIN_BYTES + size_of::<Own>() + BESIDE) + related * size_of::<Related>() + bytes
    }

    /// The most bytes that their outcome can take.
    pub fn outcome_max_bytes(&self) -> usize {
        // With keys, each entry may have a part of its own.
        let parts = if self.keys.is_some() { self.count() } else { self.count().min(self.parts_max()) };
        let messages: usize = self.refused.iter().map(|(_, refusal)| message_bytes(refusal)).sum();
        parts * size_of::<Part>() + messages
    }

    /// The most parts of an outcome without keys: the refused places, the stretches between them, and one more for each
    /// batch that ends in between. The first batch may be nearly full already; each later one is filled by these entries
    /// alone, in bytes or in number.
    fn parts_max(&self) -> usize {
        const BATCH_MIN_BYTES: usize = BATCH_MAX_BYTES - STORED_LINE_MAX_BYTES;
        let lines = self.texts.len() * ESCAPE_MAX_BYTES + self.count() * LINE_FIELDS_MAX_BYTES;
        let ends = 1 + lines / BATCH_MIN_BYTES + self.count() / BATCH_MAX_ENTRIES;
        2 * (self.refused.len() + self.related.len()) + 1 + ends
    }

    /// Frees buffers that are more than twice as large as what they hold.
    pub(crate) fn shrink(&mut self) {
        fn wastes(capacity: usize, used: usize) -> bool {
            capacity / 2 > used
        }
        if wastes(self.texts.capacity(), self.texts.len()) {
            self.texts.shrink_to_fit();
        }
        if wastes(self.ends.capacity(), self.ends.len()) {
            self.ends.shrink_to_fit();
        }
        if wastes(self.own.capacity(), self.own.len()) {
            self.own.shrink_to_fit();
        }
        if wastes(self.related.capacity(), self.related.len()) {
            self.related.shrink_to_fit();
        }
        if wastes(self.refused.capacity(), self.refused.len()) {
            self.refused.shrink_to_fit();
        }
    }

    /// Why the entry at `place` is refused, if it is.
    pub(crate) fn refused(&self, place: usize) -> Option<&Refusal> {
        let found = self.refused.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        Some(&self.refused[found].1)
    }

    /// The text at `place`, counted from 0.
    pub(crate) fn text(&self, place: usize) -> &str {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.texts[start as usize..self.ends[place] as usize]
    }

    /// The own time and author at `place`.
    pub(crate) fn own(&self, place: usize) -> Option<&Own> {
        self.own.get(place)
    }

    /// What the entry at `place` is to an earlier one, and why it cannot be that, if it cannot.
    pub(crate) fn related(&self, place: usize) -> Option<(Relation, Option<Unfit>)> {
        let at = self.related.binary_search_by_key(&place, |related| related.place).ok()?;
        Some((self.related[at].relation, self.related[at].unfit))
    }

    /// The key at `place`.
    pub(crate) fn key(&self, place: usize) -> Option<(Key, bool)> {
        self.keys.map(|keys| {
            let key = Key { producer: keys.producer, counter: keys.first_counter + place as u64 };
            (key, keys.retry)
        })
    }
}

/// Heap bytes of a refusal's message.
fn message_bytes(refusal: &Refusal) -> usize {
    match &refusal.message {
        Cow::Borrowed(_) => 0,
        Cow::Owned(message) => message.len(),
    }
}

#[cfg(test)]
mod tests;
