//! What a reading is about: a range of entries, and what each of them must have.
//!
//! Client and server decide by the same [`Sieve`], so that it does not matter which of them does. Texts are
//! found with smart case, and so are authors: one without capitals finds any case, one with a capital only its own.

use std::borrow::Cow;

use crate::command::{Scope, Which};
use crate::entry::Author;
use crate::escape::escape;
use crate::refusal::{Code, Refusal};
use crate::tags::{is_tag, tags};

/// Most texts and tags of one filter: each is looked for in every entry.
pub const FILTER_MAX_TEXTS: usize = 16;

/// All texts and tags of one filter together: what the length of a string can say.
pub const SEARCH_MAX_BYTES: usize = u16::MAX as usize;

/// Characters of what is no tag that its refusal shows.
const TAG_SHOWN_MAX_CHARS: usize = 40;

/// Which entries are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The range that is looked at, how many hits are wanted, and which comes first.
    pub scope: Scope,
    /// All of these are in the entry's text.
    pub contains: Vec<String>,
    /// None of these is.
    pub without: Vec<String>,
    /// Who wrote it.
    pub author: Option<Author>,
    /// All of these are among the entry's [tags](crate::tags), each as a whole, with its sign.
    pub tags: Vec<String>,
}

impl Default for Filter {
    /// Every entry.
    fn default() -> Self {
        let (contains, without, tags) = (Vec::new(), Vec::new(), Vec::new());
        Self { scope: Which::All.into(), contains, without, author: None, tags }
    }
}

impl From<Scope> for Filter {
    fn from(scope: Scope) -> Self {
        Self { scope, ..Self::default() }
    }
}

impl Filter {
    /// Every entry that has `text` in it.
    pub fn of_text(text: impl Into<String>) -> Self {
        Self { contains: vec![text.into()], ..Self::default() }
    }

    /// It is the scope and nothing else: a history brings the same.
    pub fn takes_all_of_its_scope(&self) -> bool {
        self.contains.is_empty() && self.without.is_empty() && self.author.is_none() && self.tags.is_empty()
    }

    /// Checks its texts and tags.
    ///
    /// # Errors
    /// A refusal that names the limit.
    pub fn check(&self) -> Result<(), Refusal> {
        let texts = || self.contains.iter().chain(&self.without).chain(&self.tags);
        if texts().any(String::is_empty) {
            return Err(Refusal::new(Code::BadArgument, "the text to search for is empty"));
        }
        if let Some(other) = self.tags.iter().find(|tag| !is_tag(tag)) {
            let shown: String = other.chars().take(TAG_SHOWN_MAX_CHARS).collect();
            let message = format!("{} is not a tag; a tag is #word or @name", escape(&shown));
            return Err(Refusal::new(Code::BadArgument, message));
        }
        let count = texts().count();
        if count > FILTER_MAX_TEXTS {
            let message = format!("a search can have at most {FILTER_MAX_TEXTS} texts; this one has {count}");
            return Err(Refusal::new(Code::BadArgument, message));
        }
        let bytes: usize = texts().map(String::len).sum();
        if bytes > SEARCH_MAX_BYTES {
            let message = format!(
                "the texts of a search can have at most {SEARCH_MAX_BYTES} bytes together; these have {bytes}"
            );
            return Err(Refusal::new(Code::TooLong, message));
        }
        Ok(())
    }
}

/// A filter's conditions, ready to be tried on many entries. The range is not its affair.
#[derive(Debug, Clone)]
pub struct Sieve {
    contains: Vec<Needle>,
    without: Vec<Needle>,
    author: Option<Needle>,
    tags: Vec<Needle>,
}

impl Sieve {
    /// The conditions of a filter.
    pub fn new(filter: &Filter) -> Self {
        let needles = |texts: &[String]| texts.iter().map(|text| Needle::new(text)).collect();
        Self {
            contains: needles(&filter.contains),
            without: needles(&filter.without),
            author: filter.author.as_ref().map(|author| Needle::new(author.as_str())),
            tags: needles(&filter.tags),
        }
    }

    /// The texts that an entry must have.
    pub fn contains(&self) -> &[Needle] {
        &self.contains
    }

    /// The tags that an entry must have.
    pub fn tags(&self) -> &[Needle] {
        &self.tags
    }

    /// The author that an entry must have.
    pub fn author(&self) -> Option<&Needle> {
        self.author.as_ref()
    }

    /// Whether it takes an entry by `author` with this text (unescaped).
    pub fn takes(&self, author: &str, text: &str) -> bool {
        if self.author.as_ref().is_some_and(|wanted| !wanted.is(author)) {
            return false;
        }
        if !self.tags.iter().all(|wanted| tags(text).any(|tag| wanted.is(tag))) {
            return false;
        }
        let mut any_case = self.contains.iter().chain(&self.without).map(Needle::any_case);
        // Once for all of them.
        let lower = if any_case.any(|any| any) { text.to_lowercase().into() } else { Cow::Borrowed(text) };
        let has = |needle: &Needle| needle.is_in(text, &lower);
        self.contains.iter().all(has) && !self.without.iter().any(has)
    }
}

/// A text to look for, with smart case.
#[derive(Debug, Clone)]
pub struct Needle {
    text: String,
    any_case: bool,
}

impl Needle {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned(), any_case: !text.chars().any(char::is_uppercase) }
    }

    /// What to look for.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// It has no capitals, so it finds everything whose lower case has it.
    pub fn any_case(&self) -> bool {
        self.any_case
    }

    /// Whether `text` is it.
    fn is(&self, text: &str) -> bool {
        self.text == text || (self.any_case && text.to_lowercase() == self.text)
    }

    /// Whether `text`, which in lower case is `lower`, has it.
    fn is_in(&self, text: &str, lower: &str) -> bool {
        if self.any_case { lower.contains(&self.text) } else { text.contains(&self.text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(contains: &[&str], without: &[&str], author: Option<&str>) -> Filter {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let author = author.map(|name| Author::new(name).unwrap());
        Filter { contains: owned(contains), without: owned(without), author, ..Filter::default() }
    }

    fn tagged(tags: &[&str]) -> Filter {
        Filter { tags: tags.iter().map(|&tag| tag.to_owned()).collect(), ..Filter::default() }
    }

    #[test]
    fn a_tag_is_found_as_a_whole_in_any_case_unless_it_has_capitals() {
        for (filter, text, taken) in [
            (tagged(&["#rain"]), "Today #rain.", true),
            (tagged(&["#rain"]), "#Rain", true),
            (tagged(&["#Rain"]), "#rain", false),
            (tagged(&["#rain"]), "#rainbow rain @rain", false),
            (tagged(&["#rain", "@anna"]), "#rain", false),
            (tagged(&["#rain", "@anna"]), "@Anna #rain", true),
            (tagged(&["#旅行"]), "去了#旅行", false),
            (tagged(&["#旅行"]), "去了，#旅行！", true),
            (Filter { contains: vec!["sun".to_owned()], ..tagged(&["#rain"]) }, "#rain", false),
        ] {
            assert_eq!(Sieve::new(&filter).takes("a", text), taken, "{filter:?} {text}");
        }
    }

    #[test]
    fn all_conditions_hold_at_once_and_each_text_has_its_own_case() {
        let (all, rain) = (filter(&[], &[], None), filter(&["rain"], &[], None));
        for (filter, author, text, taken) in [
            (&all, "a", "", true),
            (&rain, "a", "Rain", true),
            (&rain, "a", "snow", false),
            (&filter(&["Rain"], &[], None), "a", "rain", false),
            (&filter(&["rain", "Snow"], &[], None), "a", "RAIN, Snow", true),
            (&filter(&["rain", "Snow"], &[], None), "a", "rain, snow", false),
            (&filter(&["rain"], &["sun"], None), "a", "rain, Sun", false),
            (&filter(&["rain"], &["Sun"], None), "a", "rain, sun", true),
            (&filter(&[], &["雨", "雪"], None), "a", "下雪", false),
            (&filter(&[], &["雨", "雪"], None), "a", "晴", true),
            (&filter(&["天"], &[], Some("anna")), "anna", "今天", true),
            (&filter(&["天"], &[], Some("anna")), "Anna", "今天", true),
            (&filter(&["天"], &[], Some("Anna")), "anna", "今天", false),
            (&filter(&[], &[], Some("anna")), "ann", "anna", false),
        ] {
            assert_eq!(Sieve::new(filter).takes(author, text), taken, "{filter:?} {author} {text}");
        }
    }

    #[test]
    fn what_is_too_much_is_refused_with_the_limit() {
        let long = "x".repeat(SEARCH_MAX_BYTES);
        for (filter, part) in [
            (filter(&["a"; 10], &["b"; 7], None), "can have at most 16 texts; this one has 17"),
            (filter(&[""], &[], None), "the text to search for is empty"),
            (filter(&["a"], &[""], None), "the text to search for is empty"),
            (
                Filter { contains: vec!["a".to_owned(); 9], ..tagged(&["#a"; 8]) },
                "can have at most 16 texts; this one has 17",
            ),
            (tagged(&["rain"]), "rain is not a tag; a tag is #word or @name"),
            (tagged(&["#\u{1b}"]), "#\\x1b is not a tag"),
            (tagged(&[""]), "the text to search for is empty"),
            (filter(&[&long], &["y"], None), "can have at most 65535 bytes together; these have 65536"),
        ] {
            let refusal = filter.check().unwrap_err();
            assert!(refusal.message.contains(part), "{refusal}");
        }
        for filter in
            [filter(&["a"; 8], &["b"; 8], None), filter(&[&long], &[], None), tagged(&["#a", "@小明"])]
        {
            assert_eq!(filter.check(), Ok(()));
        }
    }
}
