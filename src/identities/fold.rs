//! Folding: what search and order compare, so that `Müller`, `MULLER` and `muller` are one; and how folded words are
//! written into a trigram index and looked for in it.
//!
//! Owns both sides of the search, so that they cannot drift apart. A trigram index finds three letters and more inside
//! a word. For less, every word is written after two blanks: ` ab` is then a trigram that only words beginning with
//! `ab` have, and `  a` one of those beginning with `a`. In scripts without upper and lower case (Chinese, Japanese,
//! Arabic, …) and for emoji two characters are a name and may stand anywhere, so there each character begins such a
//! word of its own.

use std::{borrow::Cow, collections::HashSet, ops::Range};

use unicode_normalization::char::{decompose_compatible, is_combining_mark};

use crate::connectors::{AccountType, Status};

/// Lower case, without accents, with ligatures and a few letters written out. Idempotent.
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.trim().to_ascii_lowercase();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.trim().chars() {
        if c.is_ascii() {
            out.push(c.to_ascii_lowercase());
            continue;
        }
        // Character by character: what normalisation would put in order are marks, and those are dropped.
        decompose_compatible(c, |part| {
            if !is_combining_mark(part) {
                part.to_lowercase().for_each(|c| push_folded(&mut out, c));
            }
        });
    }
    // An accent that stands alone unfolds into a blank and the accent.
    if out.trim().len() == out.len() { out } else { out.trim().to_owned() }
}

fn push_folded(out: &mut String, c: char) {
    match c {
        // Letters that have no decomposition but are typed as these.
        'ß' => out.push_str("ss"),
        'ø' => out.push('o'),
        'đ' | 'ð' => out.push('d'),
        'ł' => out.push('l'),
        'æ' => out.push_str("ae"),
        'œ' => out.push_str("oe"),
        'þ' => out.push_str("th"),
        'ı' => out.push('i'),
        'ħ' => out.push('h'),
        c if is_combining_mark(c) => {}
        c => out.push(c),
    }
}

/// Scripts without case, and symbols: a search for one or two of these has to look inside words.
fn is_caseless(c: char) -> bool {
    !c.is_ascii() && !c.is_lowercase()
}

/// Characters of one value that are indexed; beyond it nobody searches, and a hostile value must not fill the index.
const VALUE_MAX: usize = 2_000;

/// Words looked through one by one; with more of them a set is faster.
const WORDS_FEW: usize = 32;

/// An index text while it is written.
struct Words {
    text: String,
    spans: Vec<Range<usize>>,
    many: HashSet<String>,
}

impl Words {
    fn new() -> Self {
        Self { text: String::with_capacity(128), spans: Vec::with_capacity(WORDS_FEW), many: HashSet::new() }
    }

    /// Adds a word that is folded, or ASCII.
    fn add(&mut self, word: &str) {
        let end = self.text.len();
        self.text.push_str("  ");
        let start = self.text.len();
        self.text.push_str(word);
        let (before, added) = self.text.split_at_mut(start);
        added.make_ascii_lowercase();
        let added: &str = added;
        let is_there = match self.spans.len() {
            // What a word begins with is found by the word.
            ..WORDS_FEW => {
                self.spans.iter().any(|span| before.get(span.clone()).is_some_and(|other| other.starts_with(added)))
            }
            _ => {
                if self.many.is_empty() {
                    self.many =
                        self.spans.iter().filter_map(|span| before.get(span.clone())).map(str::to_owned).collect();
                }
                !self.many.insert(added.to_owned())
            }
        };
        if is_there {
            self.text.truncate(end);
        } else {
            self.spans.push(start..self.text.len());
        }
    }
}

/// The text that a search index keeps of these values. Each word stands in it once at most, and not at all where it is the
/// beginning of one before it.
pub(super) fn index_text<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let mut words = Words::new();
    for value in values {
        if value.is_ascii() {
            let value = value.get(..VALUE_MAX).unwrap_or(value);
            value.split_whitespace().for_each(|word| words.add(word));
            continue;
        }
        let end = value.char_indices().nth(VALUE_MAX).map_or(value.len(), |(end, _)| end);
        for word in fold(value.get(..end).unwrap_or(value)).split_whitespace() {
            words.add(word);
            if word.is_ascii() {
                continue;
            }
            let mut rest = word.char_indices().peekable();
            while let Some((start, c)) = rest.next() {
                // The word itself already begins with its first character.
                if start > 0 && is_caseless(c) {
                    let end = rest.peek().map_or(word.len(), |(at, next)| at + next.len_utf8());
                    words.add(word.get(start..end).unwrap_or_default());
                }
            }
        }
    }
    words.text
}

/// A directory's number as three characters that nobody types (Unicode's private use): one trigram.
pub(super) fn directory_facet(directory: i64) -> String {
    const FIRST: u32 = 0xE000;
    const COUNT: i64 = 6_400;
    [directory / (COUNT * COUNT), directory / COUNT, directory]
        .into_iter()
        .filter_map(|part| u32::try_from(part.rem_euclid(COUNT)).ok().and_then(|part| char::from_u32(FIRST + part)))
        .collect()
}

/// A status as its first three letters, which no two share.
fn status_facet(status: &str) -> &str {
    status.get(..3).unwrap_or(status)
}

/// Beside the status of what is no user: three characters that nobody types, as in [`directory_facet`].
const NOT_USER: &str = "\u{f8ff}\u{f8ff}\u{f8ff}";

/// What stands in the index beside the words of an identity with this status: of users, who are nearly all, the status
/// alone.
pub(super) fn state_facets(status: Status, account_type: AccountType) -> Cow<'static, str> {
    let status = status_facet(status.as_str());
    if account_type.is_user() { status.into() } else { format!("{status} {NOT_USER}").into() }
}

/// What a search is narrowed to, beside its words.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facets<'a> {
    /// Any of these; none given means all.
    pub(super) directories: &'a [i64],
    pub(super) status: Option<&'a str>,
    /// Users alone, or all others alone.
    pub(super) is_user: Option<bool>,
}

/// The words of a typed text as they stand in an index text, in any order.
fn terms(typed: &str) -> Vec<String> {
    let folded = fold(typed);
    let term = |word: &str| {
        let blanks = match word.chars().count() {
            1 => "  ",
            2 => " ",
            _ => "",
        };
        format!("{blanks}{word}")
    };
    folded.split_whitespace().map(term).collect()
}

/// Whether a search for a typed text finds an index text: what the index decides, for content that is in none.
pub(super) fn has_words(index_text: &str, typed: &str) -> bool {
    terms(typed).iter().all(|term| index_text.contains(term))
}

/// Whether an index text has any word of a typed text.
pub(super) fn has_a_word(index_text: &str, typed: &str) -> bool {
    terms(typed).iter().any(|term| index_text.contains(term))
}

/// The FTS5 expression for the words of a typed text, in any order; `None` when there is no word. Nothing that is
/// typed is an operator.
fn words_expression(typed: &str) -> Option<String> {
    let terms: Vec<String> =
        terms(typed).into_iter().map(|term| format!("\"{}\"", term.replace('"', "\"\""))).collect();
    (!terms.is_empty()).then(|| format!("text : ({})", terms.join(" AND ")))
}

/// [`words_expression`], narrowed.
pub(super) fn match_expression(typed: &str, facets: Facets<'_>) -> Option<String> {
    let mut expression = words_expression(typed)?;
    if !facets.directories.is_empty() {
        let any: Vec<String> = facets.directories.iter().map(|id| format!("\"{}\"", directory_facet(*id))).collect();
        expression = format!("{expression} AND directory : ({})", any.join(" OR "));
    }
    if let Some(status) = facets.status {
        expression = format!("{expression} AND status : \"{}\"", status_facet(status));
    }
    match facets.is_user {
        Some(true) => expression = format!("({expression}) NOT status : \"{NOT_USER}\""),
        Some(false) => expression = format!("{expression} AND status : \"{NOT_USER}\""),
        None => {}
    }
    Some(expression)
}

#[cfg(test)]
mod tests {
    use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

    use super::fold;

    #[test]
    fn people_are_found_however_their_name_is_typed() {
        for (a, b) in [
            ("Müller", "MULLER"),
            ("Nguyễn", "nguyen"),
            ("Øztürk", "ozturk"),
            ("Łukasz", "lukasz"),
            ("Straße", "STRASSE"),
            ("İnci", "inci"),
            ("ﬁn", "fin"),
            ("Ａｎｎａ", "anna"),
            ("Ёлкин", "елкин"),
            ("Σίσυφος", "σισυφοσ"),
        ] {
            let (a, b) = (fold(a), fold(b));
            assert_eq!(a.replace('ς', "σ"), b.replace('ς', "σ"));
        }
    }

    /// Folding by the whole text's normal form, as the standard describes it.
    fn fold_by_normal_form(text: &str) -> String {
        let mut out = String::new();
        for c in text.trim().nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase) {
            super::push_folded(&mut out, c);
        }
        out.trim().to_owned()
    }

    #[test]
    fn a_word_stands_once_in_an_index_text_however_many_there_are() {
        let values: Vec<String> = (0..200).map(|i| format!("w{} W{} other", i % 100, i % 50)).collect();
        let text = super::index_text(values.iter().map(String::as_str));
        let mut words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words.len(), 101);
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 101);
    }

    #[test]
    fn the_beginning_of_a_word_is_found_by_the_word() {
        let text = super::index_text(["Anna.Berg@Example.org", "anna.berg", "Anna", "Berg"]);
        assert_eq!(text, "  anna.berg@example.org  berg");
        assert!(["a", "an", "anna", "anna.b", "be", "berg"].iter().all(|typed| super::has_words(&text, typed)));
    }

    proptest::proptest! {
        #[test]
        fn folding_by_character_is_folding_by_normal_form(text in "(\\PC|\\p{M}|\\p{L}){0,40}") {
            proptest::prop_assert_eq!(fold(&text), fold_by_normal_form(&text));
        }

        #[test]
        fn folding_twice_changes_nothing(text in "\\PC{0,40}") {
            let once = fold(&text);
            proptest::prop_assert_eq!(fold(&once), once);
        }
    }
}
