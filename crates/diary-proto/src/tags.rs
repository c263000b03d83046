//! Tags: `#tag` and `@person` in a text.
//!
//! What a tag is made of follows Unicode's hashtags (UAX #31, R8), and where one begins follows jrnl and Mastodon,
//! which want white space or the start of the text before it: no address (`a@b.c`) and no part of a URL (`x/#part`)
//! is one. Here an opening bracket or quotation mark will do as well, and so will Chinese punctuation, behind which
//! nobody writes a space. As in Mastodon a letter is needed: `#42` is a number of something, and `##` a heading.

use unicode_ident::is_xid_continue;

/// What a tag begins with.
const SIGNS: [char; 2] = ['#', '@'];

/// The tags of a text (unescaped), in order, each with its sign.
pub fn tags(text: &str) -> Tags<'_> {
    Tags { text, from: 0 }
}

/// Whether this is one tag and nothing else.
pub fn is_tag(text: &str) -> bool {
    tags(text).next() == Some(text)
}

/// Made by [`tags`].
#[derive(Debug, Clone)]
pub struct Tags<'a> {
    text: &'a str,
    /// What is before this was looked at.
    from: usize,
}

impl<'a> Iterator for Tags<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            let at = self.from + self.text[self.from..].find(SIGNS)?;
            self.from = at + 1;
            let before = self.text[..at].chars().next_back();
            if before.is_none_or(ends_what_is_before)
                && let Some(tag) = tag_at(&self.text[at..])
            {
                self.from = at + tag.len();
                return Some(tag);
            }
        }
    }
}

/// Whether a word may begin behind this character.
fn ends_what_is_before(c: char) -> bool {
    let opens = "([{<\"'‘“‚„«‹¡¿（［｛〈《「『【〔";
    let chinese = "，。、！？：；）］｝〉》」』】〕…—·～";
    c.is_whitespace() || opens.contains(c) || chinese.contains(c)
}

/// The tag that `text` begins with, behind its sign.
fn tag_at(text: &str) -> Option<&str> {
    let end = text[1..].find(|c| !is_part(c)).map_or(text.len(), |end| 1 + end);
    // A hyphen joins two parts of a tag; at an end it is punctuation.
    let tag = text[..end].trim_end_matches('-');
    let sound = !tag[1..].starts_with('-') && tag.contains(char::is_alphabetic);
    sound.then_some(tag)
}

/// Letters, digits, `_`, and the marks that scripts need beside them; and `-`.
fn is_part(c: char) -> bool {
    c == '-' || is_xid_continue(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_a_tag_and_what_is_none() {
        for (text, expected) in [
            ("", &[][..]),
            ("#tag", &["#tag"]),
            ("with @anna at the #lake-side, #2026_plan!", &["@anna", "#lake-side", "#2026_plan"]),
            ("two\n#lines\t#tab", &["#lines", "#tab"]),
            ("(#in) [#brackets] \"#quoted\" „@Jürgen“", &["#in", "#brackets", "#quoted", "@Jürgen"]),
            // It is one word with what stands before.
            ("mail a@b.c, C#, a#b, #a#b", &["#a"]),
            ("http://x/#frag http://x/a,#b ?q=#c", &[]),
            ("# heading\n## heading\n#\n##\n##x", &[]),
            ("#42 @7 #1-2 #_ #-x #2nd", &["#2nd"]),
            ("@anna's @b.c @d@e #x- #y--z", &["@anna", "@b", "@d", "#x", "#y--z"]),
            ("今天#旅行 #旅行，#北京。@小明：#吃饭", &["#旅行", "#北京", "@小明", "#吃饭"]),
            // As Weibo writes it.
            ("#旅行#很好", &["#旅行"]),
            ("《#书》「#café」 #हिन्दी #e\u{301}t\u{e9}", &["#书", "#café", "#हिन्दी", "#e\u{301}t\u{e9}"]),
            ("#旅行\u{3000}#雨２ #a\u{2028}#b", &["#旅行", "#雨２", "#a", "#b"]),
            ("#❤ @👍 #\u{301}", &[]),
        ] {
            assert_eq!(tags(text).collect::<Vec<_>>(), expected, "{text}");
        }
    }

    #[test]
    fn a_tag_alone() {
        for tag in ["#a", "@小明", "#a-b_2"] {
            assert!(is_tag(tag), "{tag}");
        }
        for other in ["", "a", "#", "#a ", " #a", "#a #b", "#42", "#a-", "#a.b", "##a"] {
            assert!(!is_tag(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn each_is_a_whole_tag_of_the_text_at_the_start_of_a_word(text in "([#@]|[-_a1 \n.旅，（é]|\\PC){0,40}") {
            for tag in tags(&text) {
                let at = tag.as_ptr().addr() - text.as_ptr().addr();
                prop_assert_eq!(&text[at..at + tag.len()], tag);
                let before = text[..at].chars().next_back();
                prop_assert!(before.is_none_or(|c| c != '-' && !is_xid_continue(c) && !SIGNS.contains(&c)));
                prop_assert!(is_tag(tag));
                let next = text[at + tag.len()..].trim_start_matches('-').chars().next();
                prop_assert!(next.is_none_or(|c| !is_xid_continue(c)));
            }
        }
    }
}
