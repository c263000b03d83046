//! Entries on their way to a server.

use bytes::Bytes;

use super::Body;
use crate::limits::FRAME_MAX_BYTES;
use crate::relation::Relation;
use crate::time::Time;

/// Most entries in one append frame, so that its ack and its bookkeeping stay small.
pub const APPEND_MAX_ENTRIES: usize = 64 * 1024;

/// Most entries in one append frame that name an earlier one, because a server looks each of those up.
pub const RELATED_MAX_ENTRIES: usize = 4096;

/// Bytes of an append frame before its texts: type, counter, flags.
const HEAD_BYTES: usize = 1 + 8 + 1;

/// Entries to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// The counter of the first; the others count up from it.
    pub first_counter: u64,
    /// It may have been sent before: a server that can no longer tell refuses it.
    pub retry: bool,
    /// The texts, and what each says of itself.
    pub texts: Texts,
}

/// What is to be an entry, as it travels. The bytes may be anything: whoever reads them checks them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NewText<'a> {
    /// The text.
    pub text: &'a [u8],
    /// When it was, where that differs from now.
    pub at: Option<Time>,
    /// Who wrote it; empty for the author of the connection.
    pub author: &'a [u8],
    /// The earlier entry that it answers.
    pub answers: Option<u64>,
    /// The earlier entry that it corrects; it cannot do both.
    pub corrects: Option<u64>,
}

impl NewText<'_> {
    /// What it is to an earlier entry.
    pub fn relation(&self) -> Option<Relation> {
        self.answers.map(Relation::Answers).or(self.corrects.map(Relation::Corrects))
    }
}

/// Texts one behind the other, as they travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    bytes: Bytes,
    form: Form,
}

/// How each text travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `u32 length | text`.
    Plain,
    /// `u8 what | [i64 microseconds | i16 minutes] | [string author] | [u64 answered] | [u64 corrected]`, then
    /// `u32 length | text`.
    Own,
}

const OWN_AT: u8 = 1;
const OWN_AUTHOR: u8 = 2;
const OWN_ANSWERS: u8 = 4;
const OWN_CORRECTS: u8 = 8;

impl Texts {
    /// Texts that say nothing of themselves.
    ///
    /// # Panics
    /// If they do not fit one frame.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut out = Vec::new();
        texts.into_iter().for_each(|text| put_text(&mut out, text.as_bytes()));
        Self::of(out, Form::Plain)
    }

    /// Texts that have a time or an author of their own, or belong to an earlier entry.
    ///
    /// # Panics
    /// If they do not fit one frame, or an author is longer than 64 KiB.
    pub fn own<'a>(texts: impl IntoIterator<Item = NewText<'a>>) -> Self {
        let mut out = Vec::new();
        for NewText { text, at, author, answers, corrects } in texts {
            let what = [
                (at.is_some(), OWN_AT),
                (!author.is_empty(), OWN_AUTHOR),
                (answers.is_some(), OWN_ANSWERS),
                (corrects.is_some(), OWN_CORRECTS),
            ];
            out.push(what.into_iter().filter(|(has, _)| *has).map(|(_, bit)| bit).sum());
            if let Some(at) = at {
                super::put_time(&mut out, at);
            }
            if !author.is_empty() {
                super::put_bytes(&mut out, author);
            }
            for seq in [answers, corrects].into_iter().flatten() {
                out.extend_from_slice(&seq.to_be_bytes());
            }
            put_text(&mut out, text);
        }
        Self::of(out, Form::Own)
    }

    fn of(out: Vec<u8>, form: Form) -> Self {
        assert!(out.len() <= FRAME_MAX_BYTES - HEAD_BYTES, "the texts of an append fit its frame");
        Self { bytes: out.into(), form }
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = NewText<'_>> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (text, tail) = split(rest, self.form)?;
            rest = tail;
            Some(text)
        })
    }

    /// Whether more than a text may travel with each.
    pub fn are_own(&self) -> bool {
        self.form == Form::Own
    }

    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Checks that the lengths fit and counts the texts.
    fn check(bytes: Bytes, form: Form) -> Option<Self> {
        let mut rest = &bytes[..];
        let (mut count, mut related) = (0, 0);
        while !rest.is_empty() {
            let text;
            (text, rest) = split(rest, form)?;
            count += 1;
            related += usize::from(text.relation().is_some());
        }
        let fits = (1..=APPEND_MAX_ENTRIES).contains(&count) && related <= RELATED_MAX_ENTRIES;
        fits.then_some(Self { bytes, form })
    }
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    let length = u32::try_from(text.len()).expect("a text is far below 4 GiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text);
}

/// The first text of `rest`, and what is behind it.
fn split(mut rest: &[u8], form: Form) -> Option<(NewText<'_>, &[u8])> {
    let mut new = NewText::default();
    if form == Form::Own {
        let what;
        (what, rest) = rest.split_first()?;
        if what & !(OWN_AT | OWN_AUTHOR | OWN_ANSWERS | OWN_CORRECTS) != 0 {
            return None;
        }
        if what & OWN_AT != 0 {
            let (micros, minutes);
            (micros, rest) = rest.split_first_chunk::<8>()?;
            (minutes, rest) = rest.split_first_chunk::<2>()?;
            new.at = Some(Time::checked(i64::from_be_bytes(*micros), i16::from_be_bytes(*minutes))?);
        }
        if what & OWN_AUTHOR != 0 {
            let length;
            (length, rest) = rest.split_first_chunk::<2>()?;
            (new.author, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        }
        let mut seq_of = |bit| match what & bit {
            0 => Some(None),
            _ => {
                let seq;
                (seq, rest) = rest.split_first_chunk::<8>()?;
                Some(Some(u64::from_be_bytes(*seq)))
            }
        };
        (new.answers, new.corrects) = (seq_of(OWN_ANSWERS)?, seq_of(OWN_CORRECTS)?);
        if new.answers.is_some() && new.corrects.is_some() {
            return None;
        }
    }
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let rest = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?);
    rest.map(|(text, rest)| (NewText { text, ..new }, rest))
}

impl Append {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.first_counter.to_be_bytes());
        out.push(u8::from(self.retry));
        out.extend_from_slice(&self.texts.bytes);
    }
}

impl Body {
    pub(super) fn append(&mut self, form: Form) -> Option<Append> {
        let first_counter = self.u64()?;
        let retry = self.flag()?;
        let texts = Texts::check(std::mem::take(&mut self.0), form)?;
        let count = u64::try_from(texts.iter().count()).ok()?;
        first_counter.checked_add(count)?;
        Some(Append { first_counter, retry, texts })
    }
}
