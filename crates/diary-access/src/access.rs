//! The text of the file: one token a line, and comments.

use std::collections::{HashMap, HashSet};

use crate::grant::Grant;
use crate::limits::{LINE_MAX_BYTES, TOKENS_MAX};
use crate::name::Name;
use crate::token::Token;

/// Version of the format that is written, and the only one that is read.
const FORMAT: &str = "1";

/// Start of the first line, before the format.
const HEADER: &str = "# diary access ";

/// What stands behind the format in a new file.
const TITLE: &str = ": one token a line, made by `diary-server token add`; with no tokens, nobody has access";

/// The second line of a new file.
const COLUMNS: &str = "# name rights journals made expires sha256";

/// All tokens, in the order of the file. Comments and blank lines are kept. The default has no tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access(Vec<Line>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    /// A comment or a blank line, as it was.
    Comment(String),
    Grant(Grant),
}

/// Why a text cannot be used. A damaged file is refused whole, so that nobody loses access unnoticed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct BadAccess {
    /// Number of the first damaged line, from 1.
    pub line: usize,
    /// What is wrong with it, safe to print.
    pub reason: String,
}

/// Why a token was not added or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Another token has the name.
    #[error("a token named {0} already exists; remove it first, or choose another name")]
    NameTaken(Name),
    /// No token has the name.
    #[error("no token is named {0}")]
    UnknownName(Name),
    /// There are [`TOKENS_MAX`].
    #[error("there are already {TOKENS_MAX} tokens; remove some first")]
    TooMany,
}

impl Access {
    /// Parses the text of a file.
    ///
    /// # Errors
    /// The first damaged line, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BadAccess> {
        check_header(text.lines().next().unwrap_or_default())
            .map_err(|reason| BadAccess { line: 1, reason })?;
        let mut seen = Seen::default();
        let lines = text.lines().zip(1..).map(|(line, number)| {
            let parsed = parse_line(line).and_then(|parsed| seen.check(parsed, number));
            parsed.map_err(|reason| BadAccess { line: number, reason })
        });
        lines.collect::<Result<_, _>>().map(Self)
    }

    /// Returns the text of a file. Parsing it gives the same value.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for line in &self.0 {
            match line {
                Line::Comment(comment) => text.push_str(comment),
                Line::Grant(grant) => text.push_str(&grant.to_line()),
            }
            text.push('\n');
        }
        text
    }

    /// Returns what each token grants, in the order of the file.
    pub fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter().filter_map(|line| match line {
            Line::Grant(grant) => Some(grant),
            Line::Comment(_) => None,
        })
    }

    /// Returns what a token grants, even if it has expired: [`Grant::may`] is false then. Takes the same time for every
    /// unknown token, however much of a hash matches.
    pub fn find(&self, token: &Token) -> Option<&Grant> {
        let hash = token.hash();
        // No early exit: the time must not show a token's position.
        self.grants().fold(None, |found, grant| if grant.hash == hash { Some(grant) } else { found })
    }

    /// Returns what the token with this name grants.
    pub fn get(&self, name: &Name) -> Option<&Grant> {
        self.grants().find(|grant| grant.name == *name)
    }

    /// Adds a token at the end.
    ///
    /// # Errors
    /// The name is taken, or there are too many tokens.
    pub fn add(&mut self, grant: Grant) -> Result<(), ChangeError> {
        if self.get(&grant.name).is_some() {
            return Err(ChangeError::NameTaken(grant.name));
        }
        if self.grants().count() >= TOKENS_MAX {
            return Err(ChangeError::TooMany);
        }
        self.0.push(Line::Grant(grant));
        Ok(())
    }

    /// Removes a token, and returns what it granted.
    ///
    /// # Errors
    /// No token has the name.
    pub fn remove(&mut self, name: &Name) -> Result<Grant, ChangeError> {
        let at = self.0.iter().position(|line| matches!(line, Line::Grant(grant) if grant.name == *name));
        match at.map(|at| self.0.remove(at)) {
            Some(Line::Grant(grant)) => Ok(grant),
            _ => Err(ChangeError::UnknownName(name.clone())),
        }
    }
}

impl Default for Access {
    fn default() -> Self {
        let header = [format!("{HEADER}{FORMAT}{TITLE}"), COLUMNS.to_owned()];
        Self(header.map(Line::Comment).into())
    }
}

/// Names and hashes of earlier lines.
#[derive(Default)]
struct Seen {
    names: HashMap<Name, usize>,
    hashes: HashSet<[u8; 32]>,
}

impl Seen {
    /// Refuses a repeated name or hash, and too many tokens.
    fn check(&mut self, line: Line, number: usize) -> Result<Line, String> {
        if let Line::Grant(grant) = &line {
            if let Some(earlier) = self.names.insert(grant.name.clone(), number) {
                return Err(format!("line {earlier} already has a token named {}", grant.name));
            }
            if !self.hashes.insert(*grant.hash.as_bytes()) {
                return Err("an earlier line has the same hash".to_owned());
            }
            if self.names.len() > TOKENS_MAX {
                return Err(format!("there are more than {TOKENS_MAX} tokens"));
            }
        }
        Ok(line)
    }
}

fn parse_line(line: &str) -> Result<Line, String> {
    if line.len() > LINE_MAX_BYTES {
        return Err(format!("a line can have at most {LINE_MAX_BYTES} bytes; this one has {}", line.len()));
    }
    let start = line.trim_start();
    if start.is_empty() || start.starts_with('#') {
        // `lines` takes one of them off, and would take another one off the next time.
        return Ok(Line::Comment(line.trim_end_matches('\r').to_owned()));
    }
    Grant::parse(line).map(Line::Grant)
}

/// Checks the version before anything else: other versions may have other lines.
fn check_header(line: &str) -> Result<(), String> {
    let rest = line.strip_prefix(HEADER).unwrap_or_default();
    match &rest[..rest.bytes().take_while(u8::is_ascii_digit).count()] {
        FORMAT => Ok(()),
        "" => Err(format!("the first line has to begin with \"{HEADER}{FORMAT}\"")),
        format => {
            let format = crate::quoted(format);
            Err(format!("it has format {format}, and this program reads {FORMAT}; use a newer one"))
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::limits::JOURNALS_MAX;
    use crate::token::TokenHash;

    const HASH: &str = "5f0c7b8e2f2c1d6a9b3e4f5061728394a5b6c7d8e9f00112233445566778899a";

    fn name(name: &str) -> Name {
        name.parse().unwrap()
    }

    fn issue(named: &str) -> (Grant, Token) {
        let now = Timestamp::UNIX_EPOCH;
        Grant::issue(name(named), Default::default(), Default::default(), now, None).unwrap()
    }

    #[test]
    fn every_damaged_line_is_named() {
        let many: String = (0..=TOKENS_MAX)
            .map(|number| format!("n{number} read * 2026-11-27T10:00:00Z never {number:064x}\n"))
            .collect();
        let long = format!("# {}", "x".repeat(LINE_MAX_BYTES));
        let head = "# diary access 1\n\n  # a comment\n";
        let first = format!("anna read * 2026-11-27T10:00:00Z never {HASH}\n");
        let other = HASH.replace('5', "6");
        for (text, line, reason) in [
            ("".to_owned(), 1, "the first line has to begin with \"# diary access 1\""),
            ("\n# diary access 1".to_owned(), 1, "the first line has to"),
            ("\u{feff}# diary access 1".to_owned(), 1, "the first line has to"),
            (first.clone(), 1, "the first line has to"),
            ("# diary access one".to_owned(), 1, "the first line has to"),
            (
                "# diary access 2: new".to_owned(),
                1,
                "it has format 2, and this program reads 1; use a newer one",
            ),
            ("# diary access 12".to_owned(), 1, "it has format 12,"),
            (format!("{head}anna"), 4, "a token has 6 columns; this line has 1"),
            (format!("{head}anna read * 2026-11-27T10:00:00Z never"), 4, "this line has 5"),
            (format!("{head}{} # phone", first.trim()), 4, "this line has 8"),
            (
                format!("{head}{}", first.replace("anna", "anna/phone")),
                4,
                "a token's name cannot contain '/'",
            ),
            (format!("{head}{}", first.replace("anna", "a\\nna")), 4, "a name cannot contain spaces"),
            (format!("{head}{}", first.replace("read", "write")), 4, "\"write\" is not a right;"),
            (format!("{head}{}", first.replace('*', "w*k")), 4, "\"w*k\" does not name a journal;"),
            (format!("{head}{}", first.replace("11-27", "11-31")), 4, "column 4 is not a time"),
            (format!("{head}{}", first.replace("10:00:00Z", "10:00:00")), 4, "column 4 is not a time"),
            (format!("{head}{}", first.replace("never", "2027-01-31")), 4, "column 5 is not a time"),
            (format!("{head}{}", first.replace("never", "Never")), 4, "or never"),
            (format!("{head}{}", &first[..first.len() - 2]), 4, "column 6 is not a hash; it has 64"),
            (format!("{head}{}", first.replace("5f", "5F")), 4, "column 6 is not a hash; it has 64"),
            (format!("{head}{first}\0\n"), 5, "this line has 1"),
            (
                format!("{head}{first}{}", first.replace(HASH, &other)),
                5,
                "line 4 already has a token named anna",
            ),
            (
                format!("{head}{first}{}", first.replace("anna", "bob")),
                5,
                "an earlier line has the same hash",
            ),
            (format!("{head}{first}{long}"), 5, "at most 2048 bytes; this one has 2050"),
            (format!("{head}{many}"), 3 + TOKENS_MAX + 1, "there are more than 10000 tokens"),
        ] {
            let error = Access::parse(&text).unwrap_err();
            assert_eq!(error.line, line, "{reason}: {error}");
            assert!(error.reason.contains(reason), "{reason}: {error}");
            assert!(!error.reason.contains('\0') && !error.reason.contains(HASH), "{error:?}");
        }
    }

    #[test]
    fn a_token_in_the_wrong_column_is_not_quoted() {
        let token = Token::random().unwrap();
        for column in 0..6 {
            let mut columns = ["anna", "read", "*", "2026-11-27T10:00:00Z", "never", HASH];
            columns[column] = token.reveal();
            let parsed = Access::parse(&format!("# diary access 1\n{}", columns.join(" ")));
            // It is also a valid name and the valid name of a journal.
            assert_eq!(parsed.is_ok(), matches!(column, 0 | 2), "{column}");
            let quoted = parsed.map_or_else(|error| error.to_string(), |_| String::new());
            assert!(!quoted.contains(&token.reveal()[..20]), "{quoted}");
        }
    }

    #[test]
    fn the_text_of_a_new_file() {
        let mut access = Access::default();
        let now = "2026-11-27T10:00:00.5Z".parse().unwrap();
        let expires = Some("2027-02-01T00:00:00Z".parse().unwrap());
        let hash = |digit| TokenHash::from_hex(&HASH.replace('5', digit)).unwrap();
        let grant = |named, rights: &str, journals: &str, expires| {
            let (rights, journals) = (rights.parse().unwrap(), journals.parse().unwrap());
            let (grant, _) = Grant::issue(name(named), rights, journals, now, expires).unwrap();
            Grant { hash: hash(if expires.is_none() { "5" } else { "6" }), ..grant }
        };
        access.add(grant("anna", "append,read", "*", None)).unwrap();
        access.add(grant("小明", "read", "diary,work*", expires)).unwrap();
        let text = format!(
            "# diary access 1: one token a line, made by `diary-server token add`; with no tokens, nobody has access\n\
             # name rights journals made expires sha256\n\
             anna read,append * 2026-11-27T10:00:00Z never {HASH}\n\
             小明 read diary,work* 2026-11-27T10:00:00Z 2027-02-01T00:00:00Z {}\n",
            HASH.replace('5', "6")
        );
        assert_eq!(access.to_text(), text);
        assert_eq!(Access::parse(&text), Ok(access));
    }

    #[test]
    fn comments_and_order_are_kept() {
        let text = format!(
            "# diary access 1\r\n\n# Anna's phone\n  anna\tread  *  2026-11-27T18:00:00+08:00 never {HASH}\n\t# end\n  "
        );
        let mut access = Access::parse(&text).unwrap();
        let (bob, _) = issue("bob");
        access.add(bob.clone()).unwrap();
        let anna = format!("anna read * 2026-11-27T10:00:00Z never {HASH}\n");
        let expected = |anna: &str| {
            format!(
                "# diary access 1\n\n# Anna's phone\n{anna}\t# end\n  \nbob read,append * 1970-01-01T00:00:00Z never {}\n",
                bob.hash
            )
        };
        assert_eq!(access.to_text(), expected(&anna));
        access.remove(&name("anna")).unwrap();
        assert_eq!(access.to_text(), expected(""));
    }

    #[test]
    fn carriage_returns_do_not_come_and_go() {
        for text in ["# diary access 1\r\r\r\n", "# diary access 1\n# a\rb\r\r\n\r\r\n"] {
            let access = Access::parse(text).unwrap();
            assert_eq!(Access::parse(&access.to_text()), Ok(access));
        }
    }

    #[test]
    fn adding_and_removing() {
        let mut access = Access::default();
        let (anna, token) = issue("anna");
        access.add(anna.clone()).unwrap();
        assert_eq!(access.add(issue("anna").0), Err(ChangeError::NameTaken(name("anna"))));
        assert_eq!(access.remove(&name("bob")), Err(ChangeError::UnknownName(name("bob"))));
        assert_eq!((access.find(&token), access.get(&name("anna"))), (Some(&anna), Some(&anna)));
        assert_eq!(access.remove(&name("anna")), Ok(anna));
        assert_eq!((access.find(&token), access.get(&name("anna"))), (None, None));
        assert_eq!(access, Access::default());
        for number in 0..TOKENS_MAX {
            access.0.push(Line::Grant(Grant { name: name(&number.to_string()), ..issue("x").0 }));
        }
        assert_eq!(access.add(issue("anna").0), Err(ChangeError::TooMany));
    }

    #[test]
    fn only_the_whole_token_is_found() {
        let mut access = Access::default();
        let tokens: Vec<Token> = ["anna", "bob", "eve"]
            .iter()
            .map(|named| {
                let (grant, token) = issue(named);
                access.add(grant).unwrap();
                token
            })
            .collect();
        let found = |token: &Token| access.find(token).map(|grant| grant.name.as_str());
        assert_eq!(tokens.iter().map(found).collect::<Vec<_>>(), [Some("anna"), Some("bob"), Some("eve")]);
        for token in &tokens {
            let text = token.reveal();
            for at in "diary_".len()..text.len() {
                let other = if text.as_bytes()[at] == b'a' { "q" } else { "a" };
                let close: Token = format!("{}{other}{}", &text[..at], &text[at + 1..]).parse().unwrap();
                assert_eq!(found(&close), None, "{at}");
            }
        }
    }

    fn any_grant() -> impl Strategy<Value = Grant> {
        let time = || any::<i32>().prop_map(|second| Timestamp::from_second(second.into()).unwrap());
        let name = "[!-.0-\\[\\]-~à-öа-я一-龟]{1,20}".prop_filter_map("a name", |name| name.parse().ok());
        let rights = prop::sample::subsequence(&["read", "append", "redact", "admin"], 1..=4)
            .prop_map(|words| words.join(",").parse().unwrap());
        let journals = prop::collection::vec("[a-z0-9一-龟][a-z_.-]{0,8}\\*?", 1..=JOURNALS_MAX)
            .prop_map(|list| list.join(",").parse().unwrap());
        let hash = any::<[u8; 32]>().prop_map(|bytes| {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            TokenHash::from_hex(&hex).unwrap()
        });
        (name, rights, journals, time(), prop::option::of(time()), hash).prop_map(
            |(name, rights, journals, created, expires, hash)| Grant {
                name,
                rights,
                journals,
                created,
                expires,
                hash,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            grants in prop::collection::vec(any_grant(), 0..8),
            comments in prop::collection::vec("([ \t]*#.*)?", 0..4),
        ) {
            let mut access = Access::default();
            for comment in comments {
                access.0.push(Line::Comment(comment.replace(['\r', '\n'], "")));
            }
            for grant in grants {
                // A name may repeat.
                let _ = access.add(grant);
            }
            prop_assert_eq!(Access::parse(&access.to_text()), Ok(access));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(# diary access 1\n)?(\\PC|[\n\t #*,])*") {
            if let Ok(access) = Access::parse(&text) {
                prop_assert_eq!(Access::parse(&access.to_text()), Ok(access));
            }
        }
    }
}
