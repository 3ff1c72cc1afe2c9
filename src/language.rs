//! The languages of the console: the dictionary, and how an English text becomes the reader's.
//!
//! English is the key and stays readable where it is written, in templates and in Rust; `locales/ja.toml` gives the
//! other side and says at its top how it is written. A page translates what it shows, by its [`Language`]; everything
//! behind the pages (the API, the audit log, what is stored) is English and stays so.
//!
//! A text that code has put values into is found by the sentence it was made of: the entry `"At most {#} entries."` fits
//! `At most 20 entries.`, and the value goes into its place of the translation. A text without an entry is shown in
//! English. It must never be given what people or directories named: that could be a word of the dictionary.

use std::{borrow::Cow, collections::BTreeMap, fmt::Display, sync::LazyLock};

use serde::Deserialize;

use crate::clock::Time;

/// A language that the console speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    #[default]
    English,
    Japanese,
}

impl Language {
    pub const ALL: [Self; 2] = [Self::English, Self::Japanese];

    /// As in `<html lang>` and in a profile.
    pub fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Japanese => "ja",
        }
    }

    /// As its speakers call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Japanese => "日本語",
        }
    }

    /// The language of a profile's locale; what is not spoken here is answered in English.
    pub fn of(locale: &str) -> Self {
        let primary = locale.split('-').next().unwrap_or_default();
        Self::ALL.into_iter().find(|known| known.code().eq_ignore_ascii_case(primary)).unwrap_or_default()
    }

    /// What a browser asks for (`Accept-Language`, RFC 9110 section 12.5.4): of the languages spoken here the one with
    /// the highest quality, of equal ones the first named.
    pub fn accepted(header: &str) -> Self {
        let mut best = (Self::default(), 0.0);
        for part in header.split(',').take(20) {
            let mut words = part.split(';').map(str::trim);
            let range = words.next().unwrap_or_default();
            let primary = range.split('-').next().unwrap_or_default();
            let asked = words.find_map(|word| word.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse::<f32>().ok());
            let known = Self::ALL.into_iter().find(|known| known.code().eq_ignore_ascii_case(primary));
            if let (Some(language), Some(quality)) = (known, asked)
                && quality > best.1
                && quality <= 1.0
            {
                best = (language, quality);
            }
        }
        best.0
    }

    fn dictionary(self) -> Option<&'static Dictionary> {
        static JAPANESE: LazyLock<Dictionary> = LazyLock::new(|| Dictionary::read(include_str!("../locales/ja.toml")));
        match self {
            Self::English => None,
            Self::Japanese => Some(&JAPANESE),
        }
    }

    /// A text of ours in this language.
    pub fn say(self, text: &str) -> Cow<'_, str> {
        match self.dictionary().and_then(|dictionary| dictionary.find(text, 0)) {
            Some(found) => found,
            None => Cow::Borrowed(text),
        }
    }

    /// A text of ours with values in its places `{}`. The values stay as they are.
    pub fn fill(self, text: &str, values: &[&dyn Display]) -> String {
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        match self.dictionary().and_then(|dictionary| dictionary.fills.get(text).map(|parts| (dictionary, parts))) {
            Some((dictionary, parts)) => dictionary.put(parts, &values, None),
            None => {
                let mut pieces = text.split("{}");
                let mut filled = pieces.next().unwrap_or_default().to_owned();
                for (i, piece) in pieces.enumerate() {
                    filled.push_str(values.get(i).copied().unwrap_or_default());
                    filled.push_str(piece);
                }
                filled
            }
        }
    }

    /// A time in UTC, where the script cannot write it in the reader's zone: in mails, and in what only text can be.
    pub fn time(self, at: Time) -> String {
        match self {
            Self::English => at.text(),
            Self::Japanese => at.written("%Y 年 %-m 月 %-d 日 %H:%M (UTC)"),
        }
    }

    /// What the browser script says, as a JSON object from English to this language; empty for English.
    pub fn script(self) -> &'static str {
        self.dictionary().map_or("", |dictionary| dictionary.script.as_str())
    }

    /// A text of ours whose values are markup: elements at its outermost level are values, their content is left alone.
    /// The answer is markup again; what the dictionary says holds no character that markup knows.
    pub fn say_markup(self, html: &str) -> Cow<'_, str> {
        if self.dictionary().is_none() {
            return Cow::Borrowed(html);
        }
        let (text, elements) = without_elements(html);
        let Cow::Owned(said) = self.say(text.trim()) else { return Cow::Borrowed(html) };
        let mut whole = String::with_capacity(html.len() * 2);
        for c in said.chars() {
            match (c as u32).checked_sub(FIRST_ELEMENT).and_then(|i| elements.get(i as usize)) {
                Some(element) => whole.push_str(element),
                None => whole.push(c),
            }
        }
        Cow::Owned(whole)
    }
}

/// Stands for the first element of a marked-up text while it is looked up; the next ones count on (private use).
const FIRST_ELEMENT: u32 = 0xE000;

/// The text with one character for each outermost element, its white space as a browser would show it; and the elements.
fn without_elements(html: &str) -> (String, Vec<&str>) {
    let (mut text, mut elements) = (String::new(), Vec::new());
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        let (before, from) = rest.split_at(start);
        let (element, after) = from.split_at(element_length(from));
        push_plain(&mut text, before);
        text.extend(char::from_u32(FIRST_ELEMENT + u32::try_from(elements.len()).unwrap_or_default()));
        elements.push(element);
        rest = after;
    }
    push_plain(&mut text, rest);
    (text.split_whitespace().collect::<Vec<_>>().join(" "), elements)
}

/// Text outside of elements; a character that would stand for one is left out.
fn push_plain(text: &mut String, piece: &str) {
    text.extend(piece.chars().filter(|c| !('\u{E000}'..='\u{F8FF}').contains(c)));
}

/// How many bytes the element takes that the text begins with. Our own templates wrote it, with `>` escaped in values.
fn element_length(html: &str) -> usize {
    let (mut depth, mut at) = (0_u32, 0);
    while let Some(found) = html.get(at..).and_then(|rest| rest.find('<')) {
        let tag_at = at + found;
        let tag = html.get(tag_at..).unwrap_or_default();
        let end = tag.find('>').map_or(html.len(), |end| tag_at + end + 1);
        if tag.starts_with("</") {
            depth = depth.saturating_sub(1);
        } else if !["<br", "<wbr", "<input", "<img"].iter().any(|void| tag.starts_with(void)) {
            depth += 1;
        }
        if depth == 0 {
            return end;
        }
        at = end;
    }
    html.len()
}

/// A part of a translation.
#[derive(Debug)]
enum Part {
    Text(String),
    /// A value by its place in the English text; `is_said` when it is a text of ours too.
    Value {
        index: usize,
        is_said: bool,
    },
}

/// An English text with places, and what to say instead.
#[derive(Debug)]
struct Pattern {
    pieces: Vec<String>,
    /// Which of the places takes digits only.
    is_number: Vec<bool>,
    /// Letters outside of places: the more there are, the less can be meant by accident.
    weight: usize,
    parts: Vec<Part>,
}

#[derive(Debug, Default)]
struct Dictionary {
    exact: BTreeMap<String, String>,
    /// By the English text with bare places, for texts whose values are given apart.
    fills: BTreeMap<String, Vec<Part>>,
    /// The most specific first.
    patterns: Vec<Pattern>,
    /// The texts of the browser script, as JSON.
    script: String,
}

/// The section of a language's file whose texts the browser script says.
const SCRIPT: &str = "script";

/// An entry of a language's file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Translation {
    Text(String),
    /// A text with a count: its key is for many, `one` is the English for one.
    Counted {
        one: String,
        many: String,
    },
}

impl Translation {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Counted { many: text, .. } => text,
        }
    }
}

/// How often a translation may contain translations, which lists do once for each of their words.
const DEPTH_MAX: u8 = 10;

/// Sentences of one text, and how many of its full stops may be tried for the end of one.
const SENTENCES_MAX: usize = 8;

/// Longer texts are none of ours.
const BYTES_MAX: usize = 8_192;

impl Dictionary {
    /// Reads a language's file. What cannot be read is missing, and then shown in English; a test reads the same file.
    fn read(file: &str) -> Self {
        let sections: BTreeMap<String, BTreeMap<String, Translation>> = match toml::from_str(file) {
            Ok(sections) => sections,
            Err(error) => {
                tracing::error!(%error, "the dictionary of a language cannot be read");
                BTreeMap::new()
            }
        };
        let mut dictionary = Self::default();
        if let Some(script) = sections.get(SCRIPT) {
            let texts: BTreeMap<_, _> = script.iter().map(|(english, text)| (english, text.text())).collect();
            dictionary.script = serde_json::to_string(&texts).unwrap_or_default();
        }
        for (english, translation) in sections.into_values().flatten() {
            match translation {
                Translation::Text(text) => dictionary.add(&english, &text),
                Translation::Counted { one, many } => {
                    dictionary.add(&one, &many);
                    dictionary.add(&english, &many);
                }
            }
        }
        // Of two with the same letters, the one with quotes around its place.
        dictionary.patterns.sort_by_key(|pattern| {
            let length: usize = pattern.pieces.iter().map(String::len).sum();
            std::cmp::Reverse((pattern.weight, length))
        });
        dictionary
    }

    fn add(&mut self, english: &str, text: &str) {
        if !english.contains('{') {
            self.exact.insert(english.to_owned(), text.to_owned());
            return;
        }
        let bare = english.replace("{#}", "{}");
        let is_number = places(english).map(|place| place == "#").collect();
        let pieces: Vec<String> = bare.split("{}").map(str::to_owned).collect();
        let weight = pieces.iter().flat_map(|piece| piece.chars()).filter(|c| c.is_alphabetic()).count();
        self.fills.insert(bare.clone(), parts(text));
        self.patterns.push(Pattern { pieces, is_number, weight, parts: parts(text) });
    }

    /// The translation of a text: by itself, by the sentence it was made of, sentence by sentence, or as a list.
    fn find<'a>(&'a self, text: &'a str, depth: u8) -> Option<Cow<'a, str>> {
        if depth > DEPTH_MAX || text.is_empty() || text.len() > BYTES_MAX {
            return None;
        }
        if let Some(exact) = self.exact.get(text) {
            return Some(Cow::Borrowed(exact));
        }
        if !text.chars().any(char::is_alphabetic) {
            return Some(Cow::Borrowed(text));
        }
        // A value with a sentence's end in it is more likely a second sentence.
        let is_plain = |value: &&str| !value.contains(". ");
        self.by_pattern(text, |values| values.iter().all(is_plain), depth)
            .or_else(|| self.by_sentences(text, depth))
            .or_else(|| self.by_pattern(text, |_| true, depth))
            .or_else(|| self.as_list(text, depth))
            .map(Cow::Owned)
    }

    fn by_pattern(&self, text: &str, fits: impl Fn(&[&str]) -> bool, depth: u8) -> Option<String> {
        self.patterns.iter().find_map(|pattern| {
            let values = pattern.values(text).filter(|values| fits(values))?;
            Some(self.put(&pattern.parts, &values, Some(depth)))
        })
    }

    /// The known sentences that a text begins with, and the rest as it is. A sentence is never looked for inside a
    /// sentence: texts hold what servers say, and the work must not grow faster than they do.
    fn by_sentences(&self, text: &str, depth: u8) -> Option<String> {
        let sentence = |text: &str| match self.exact.get(text) {
            Some(exact) => Some(exact.clone()),
            None => self.by_pattern(text, |_| true, depth),
        };
        let (mut said, mut rest) = (String::new(), text);
        for _ in 0..SENTENCES_MAX {
            let first = rest.match_indices(". ").take(SENTENCES_MAX).find_map(|(at, _)| {
                let (first, after) = rest.split_at_checked(at + 1)?;
                Some((sentence(first)?, after.trim_start()))
            });
            let Some((first, after)) = first else { break };
            said.push_str(&first);
            rest = after;
        }
        if said.is_empty() {
            return None;
        }
        said.push_str(&sentence(rest).unwrap_or_else(|| rest.to_owned()));
        Some(said)
    }

    /// Words with commas (the last with an “and”) between them, of which each is known.
    fn as_list(&self, text: &str, depth: u8) -> Option<String> {
        let (first, rest) = text.split_once(", ").or_else(|| text.split_once(" and "))?;
        let (first, rest) = (self.find(first, depth + 1)?, self.find(rest, depth + 1)?);
        Some(format!("{first}、{rest}"))
    }

    /// The parts with the values; these are translated where the parts say so, unless they were given apart (no depth).
    fn put(&self, parts: &[Part], values: &[&str], depth: Option<u8>) -> String {
        let mut text = String::new();
        for part in parts {
            match part {
                Part::Text(piece) => text.push_str(piece),
                Part::Value { index, is_said } => {
                    let value = values.get(*index).copied().unwrap_or_default();
                    let said = depth.filter(|_| *is_said).and_then(|depth| self.find(value, depth + 1));
                    text.push_str(said.as_deref().unwrap_or(value));
                }
            }
        }
        text
    }
}

impl Pattern {
    /// What stands in the places, if the text is of this pattern.
    fn values<'a>(&self, text: &'a str) -> Option<Vec<&'a str>> {
        let (first, others) = self.pieces.split_first()?;
        let (last, middle) = others.split_last()?;
        let mut rest = text.strip_prefix(first.as_str())?.strip_suffix(last.as_str())?;
        let mut values = Vec::with_capacity(others.len());
        for piece in middle {
            let (value, after) = rest.split_once(piece.as_str())?;
            values.push(value);
            rest = after;
        }
        values.push(rest);
        let fits = |(value, is_number): (&&str, &bool)| {
            !is_number || !value.is_empty() && value.chars().all(|c| c.is_ascii_digit() || ",.+".contains(c))
        };
        values.iter().zip(&self.is_number).all(fits).then_some(values)
    }
}

/// What stands between the braces of a text.
fn places(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(place, _)| place)
}

/// A translation's parts. `{}` is the next value, `{2}` the second; a `t` in the braces says that it is translated too.
fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut pieces = text.split('{');
    parts.extend(pieces.next().map(|piece| Part::Text(piece.to_owned())));
    for (next, piece) in pieces.enumerate() {
        let (place, after) = piece.split_once('}').unwrap_or(("", piece));
        let number = place.trim_end_matches('t').parse::<usize>().ok();
        let index = number.map_or(next, |number| number.saturating_sub(1));
        parts.push(Part::Value { index, is_said: place.ends_with('t') });
        parts.push(Part::Text(after.to_owned()));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::{Dictionary, Language};

    const WORDS: &str = r#"
        [words]
        "Missing" = "未検出"
        "disabled" = "無効"
        "{} is {}." = "{1}は{2t}です。"
        "At most {#} entries." = "{}件までです。"
        "Wait." = "お待ちください。"
        "{} of {} were sent." = "{2}件のうち{1}件を送信しました。"
        "{#} groups" = { one = "{#} group", many = "{}個のグループ" }
        "This takes {} back." = "{}を取り消します。"
        "Rotate {}" = "{}の更新"
        "Rotate “{}”" = "「{}」の更新"
    "#;

    fn say(text: &str) -> String {
        Dictionary::read(WORDS).find(text, 0).map_or_else(|| text.to_owned(), std::borrow::Cow::into_owned)
    }

    #[test]
    fn a_text_is_found_by_itself_or_by_the_sentence_it_was_made_of() {
        let cases = [
            ("Missing", "未検出"),
            ("Anna is disabled.", "Annaは無効です。"),
            ("At most 1,000 entries.", "1,000件までです。"),
            ("3 of 7 were sent.", "7件のうち3件を送信しました。"),
            ("1 group", "1個のグループ"),
            ("Rotate “bot”", "「bot」の更新"),
            ("2 groups", "2個のグループ"),
            ("Wait. At most 5 entries.", "お待ちください。5件までです。"),
            ("Missing, disabled", "未検出、無効"),
            ("Missing, disabled, Missing, disabled, Missing and disabled", "未検出、無効、未検出、無効、未検出、無効"),
            ("Wait. At most 5 entries. Hello there.", "お待ちください。5件までです。Hello there."),
        ];
        for (english, japanese) in cases {
            assert_eq!(say(english), japanese);
        }
    }

    #[test]
    fn what_is_not_known_is_left_alone() {
        for text in ["", "Hello", "At most many entries.", "Missing, hello", "Missing. ", "groups"] {
            assert_eq!(say(text), text);
        }
    }

    #[test]
    fn a_text_that_a_hostile_server_wrote_takes_no_longer_than_it_is_long() {
        let began = std::time::Instant::now();
        for piece in ["a. ", "a, ", " and ", "Anna is a. ", "Wait. "] {
            say(&piece.repeat(2_000));
            Language::Japanese.say(&piece.repeat(8_000 / piece.len()));
        }
        assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    }

    #[test]
    fn elements_of_a_sentence_go_to_their_places() {
        let (text, elements) = super::without_elements("This takes\n <a href=\"/1\"><b>it</b><br></a> back.");
        assert_eq!(text, "This takes \u{E000} back.");
        assert_eq!(elements, ["<a href=\"/1\"><b>it</b><br></a>"]);
        assert_eq!(say(&text), "\u{E000}を取り消します。");
        assert_eq!(Language::English.say_markup("<b>x</b> y"), "<b>x</b> y");
    }

    #[test]
    fn a_browser_gets_the_language_it_likes_best_of_those_spoken_here() {
        use Language::{English, Japanese};
        let cases = [
            ("", English),
            ("ja", Japanese),
            ("ja-JP,ja;q=0.9,en;q=0.8", Japanese),
            ("en-US,en;q=0.9,ja;q=0.8", English),
            ("de-DE,ja;q=0.5,en;q=0.4", Japanese),
            ("de", English),
            ("ja;q=0", English),
            ("ja;q=abc, en;q=0.1", English),
            ("ja;q=9", English),
            ("*", English),
        ];
        for (header, language) in cases {
            assert_eq!(Language::accepted(header), language, "{header}");
        }
    }

    #[test]
    fn a_locale_that_is_not_spoken_is_answered_in_english() {
        let of = ["ja", "ja-JP", "en-GB", "de", ""].map(Language::of);
        use Language::{English, Japanese};
        assert_eq!(of, [Japanese, Japanese, English, English, English]);
    }
}
