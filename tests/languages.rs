//! The console's languages, kept whole by what can be read in our own files: every text that a page shows goes through
//! the dictionary and has an entry there, no entry is without a text, and no value gets lost on the way.
//!
//! Exceptions are lists in here, each with its reason; they may only get shorter.

use std::collections::{BTreeMap, BTreeSet};

use bailiwick::language::Language;
use regex::Regex;

use crate::tidy::{TextFile, assert_none, files, line_of, pattern, root, sources};

/// Words that are the same in every language.
const SAME_EVERYWHERE: &[&str] = &["Bailiwick", "CSV", "JSON", "DN"];

/// Files whose texts no page shows, with the reason.
const NOT_SHOWN: &[(&str, &str)] = &[
    ("src/app.rs", "the machine's administrator reads it, on the terminal"),
    ("src/audit/verify.rs", "the command line says it"),
    ("src/cli/", "the command line says it"),
    ("src/web/api_road.rs", "the API says it, in English"),
    ("src/web/once.rs", "the API says it, in English"),
    ("src/api_keys/verify.rs", "reasons in the audit log, which is English"),
    ("src/config.rs", "the command line says it"),
    ("src/clock.rs", "the log says it"),
    ("src/connectors/active_directory/accounts.rs", "names of groups"),
    ("src/connectors/ldap/answer.rs", "details of a broken protocol, in the words of the RFC, for the server's maker"),
    ("src/connectors/ldap/ber.rs", "details of a broken protocol, in the words of the RFC, for the server's maker"),
    ("src/connectors/ldap/dirsync.rs", "details of a broken protocol, in the words of the RFC, for the server's maker"),
    ("src/connectors/ldap/fake.rs", "a server for tests"),
    ("src/connectors/ldap/inbox.rs", "details of a broken protocol, in the words of the RFC, for the server's maker"),
    ("src/connectors/ldap/sync.rs", "details of a broken protocol, in the words of the RFC, for the server's maker"),
    ("src/db/", "the log says it"),
    ("src/demo/", "names and texts of an imagined directory, and what its server says"),
    ("src/identities/export.rs", "columns of an export, which programs read"),
    ("src/language.rs", "names of languages, in themselves"),
    ("src/principal.rs", "parts of URNs"),
    ("src/secret.rs", "the command line says it"),
    ("src/sessions/queries.rs", "names of browsers and systems"),
    ("src/web/openapi.rs", "the description of the API, which is English"),
    ("src/web/reference.rs", "words of the description of the API, which is English"),
    ("src/web/refusals.rs", "reasons in the audit log, which is English"),
    ("src/web/routes.rs", "the description of the API, which is English"),
    ("src/web/serve.rs", "the command line says it"),
    ("src/web/tls.rs", "the command line says it"),
];

/// Texts in shown files that no page shows, or that only their parts are shown of.
const NOT_SHOWN_TEXTS: &[&str] = &[
    // Columns of exports.
    "request id",
    "subject type",
    "subject id",
    // Reasons in the audit log, which is English.
    "(not an e-mail address)",
    "there is no user with this address",
    "the password is wrong",
    "the passkey was not accepted",
    // Classes of a button.
    "btn--primary btn--wide",
    "the stored password hash cannot be read; reset the password",
    "the user is disabled",
    "the user belongs to no account",
    "the account is suspended",
    "the current password was wrong",
    "the user who answers for the key is disabled",
    "the user who answers for the key lacks the second factor that is asked of them",
    "the user who answers for the key has left the account",
    "it was accepted already",
    "it was rejected",
    "it has expired",
    "whoever sent it may not give its role any more",
    "three links were made in the last hour",
    "recovery code",
    // Labels of metrics.
    "no mail can be sent to the address",
    "no mail is set up",
    "the queue is full",
    "the console has no address",
    // The description of the API, which is English.
    "The first line says what it is; each other one is a row as `{}`; the last one holds how many rows there are and the SHA-256 of all lines before it.",
    // What only the log or the schedule's own record says.
    "{} keys expire soon and were told",
    "{} invitations have expired",
    "the directory is gone",
    "history kept in {} accounts as long as they say",
    "{} is not known",
    // What servers say, or is looked for in it.
    "at line",
    "restricted to bind",
    "220 heard before\\r",
    "integrity checking",
    "transport encryption required",
    "acceptsecuritycontext error, data",
    // Said to programs only.
    "The API key is missing or not valid.",
    // Parts of the protocol, in the words of their standard.
    "unknown result",
    "LDAP result {} {}",
    "LDAP result {} {}: {}",
    "it is too long",
    "end of data",
    "the end of a DirSync has no control",
    "a change that DirSync tells has no objectGUID",
    "the end of a sync has no Sync Done control",
    "an entry of a sync has no Sync State control",
    // For programs and directories, not for people.
    "CA;Reset Password;user",
    "no such user 000",
    "public, max-age=31536000, immutable",
    "dsacls \"{}\" /takeownership, then dsacls \"{}\" /G \"{}:LCRP\"",
    // Names of products and places.
    "Google Authenticator",
    "Microsoft Authenticator",
    "Aegis",
    "Bitwarden",
    "Windows 2000",
    "Windows Server 2003 interim",
    "Windows Server 2003",
    "Windows Server 2008",
    "Windows Server 2008 R2",
    "Windows Server 2012",
    "Windows Server 2012 R2",
    "Windows Server 2016",
    "Windows Server 2025",
    "English",
    "Africa",
    "America",
    "Antarctica",
    "Arctic",
    "Asia",
    "Atlantic",
    "Australia",
    "Europe",
    "Indian",
    "Pacific",
    // Pieces of a text that has an entry as a whole.
    "{} or more",
    "identity is",
    "identities are",
    "{} {} missing from {}",
    "{} {} of {} could not be taken over",
    "more group",
    "more groups",
    "member added",
    "member removed",
    "object read",
    "domain local",
    "in progress",
    "More than {}",
    ", {} of them in the site {}",
    ", none of them in the site {}, so that those of all sites are used",
    "{} {} not what the last applied run was read with, so the plan may come from the settings and not from the directory.",
    "found by DNS{}{}",
    ", those of the site {} first",
    "objects read",
];

/// Entries for texts that code puts together from pieces, which therefore stand nowhere as a whole.
const MADE_OF_PIECES: &[&str] = &[
    "DNS names {#} {} of {}, none of them in the site {}, so that those of all sites are used. In this order: {}.",
    "DNS names {#} {} of {}, {#} of them in the site {}. In this order: {}.",
    "Edge on {}",
    "Opera on {}",
    "Firefox on {}",
    "Chrome on {}",
    "Safari on {}",
    "curl on {}",
    "domain controller",
    "global catalog",
    "found by DNS ({})",
    "found by DNS, those of the site {} first",
    "found by DNS ({}), those of the site {} first",
    "built-in distribution",
    "built-in security",
    "domain local distribution",
    "domain local security",
    "global distribution",
    "global security",
    "universal distribution",
    "universal security",
    "Everybody below {} is on the protected list ({}).",
    "Members of {} are on the protected list ({}).",
    "This identity is on the protected list ({}).",
    "More than {#} computers and managed service accounts are hidden.",
    "every {#} days",
    "every {#} hours",
    "every {#} minutes",
    "{#} d {#} h",
    "{#} h {#} min",
    "{#} min {#} s",
    "{#} identities are missing from {}",
    "{#} identity is missing from {}",
    "{#} objects of {} could not be taken over",
    "{#} object of {} could not be taken over",
    "{#} objects read: {}.",
    "{#} object read: {}.",
    "{#} or more {} were found.",
    "Must change password",
    "{} are not what the last applied run was read with, so the plan may come from the settings and not from the directory.",
    "{} is not what the last applied run was read with, so the plan may come from the settings and not from the directory.",
];

/// A language's file as it is written.
struct Entries {
    /// English (as written, with `{#}`) and the translation.
    texts: BTreeMap<String, String>,
    /// Of texts with a count: the English for many, and for one.
    ones: BTreeMap<String, String>,
    /// The texts of the browser script.
    script: BTreeSet<String>,
}

impl Entries {
    fn japanese() -> Self {
        let text = std::fs::read_to_string(root().join("locales/ja.toml")).unwrap();
        let sections: toml::Table = toml::from_str(&text).unwrap();
        let mut entries = Self { texts: BTreeMap::new(), ones: BTreeMap::new(), script: BTreeSet::new() };
        for (section, table) in sections {
            for (english, translation) in table.as_table().unwrap() {
                let many = match translation.as_table() {
                    Some(counted) => {
                        entries.ones.insert(english.clone(), counted["one"].as_str().unwrap().to_owned());
                        counted["many"].as_str().unwrap().to_owned()
                    }
                    None => translation.as_str().unwrap().to_owned(),
                };
                if section == "script" {
                    entries.script.insert(english.clone());
                }
                let twice = entries.texts.insert(english.clone(), many);
                assert!(twice.is_none(), "{english:?} stands twice in locales/ja.toml");
            }
        }
        entries
    }

    /// Whether there is an entry for a text as templates and code write it.
    fn has(&self, text: &str) -> bool {
        self.keys().any(|key| bare(key) == text)
    }

    fn keys(&self) -> impl Iterator<Item = &String> {
        self.texts.keys().chain(self.ones.values())
    }
}

/// The English without the kinds of its places.
fn bare(key: &str) -> String {
    key.replace("{#}", "{}")
}

/// A text that a page shows, where it stands.
#[derive(Debug)]
struct Shown {
    place: String,
    text: String,
    /// Of a text with a count, the form for one.
    one: Option<String>,
}

// --- templates -----------------------------------------------------------------------------------------------------

/// A piece of a template.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Piece<'a> {
    Comment,
    Statement(&'a str),
    Expression(&'a str),
    Tag(&'a str),
    Text(&'a str),
}

/// A template in pieces, each with the offset where it begins.
fn pieces(template: &str) -> Vec<(usize, Piece<'_>)> {
    let mut pieces = Vec::new();
    let (mut at, mut text_from) = (0, 0);
    let until = |from: usize, end: &str| template[from..].find(end).map_or(template.len(), |i| from + i + end.len());
    while at < template.len() {
        let rest = &template[at..];
        let end = if rest.starts_with("{#") {
            until(at, "#}")
        } else if rest.starts_with("{%") {
            until(at, "%}")
        } else if rest.starts_with("{{") {
            until(at, "}}")
        } else if rest.starts_with('<') {
            // Up to the `>` that stands in no expression and no quoted value.
            let (mut to, mut is_quoted) = (at + 1, false);
            loop {
                let inner = &template[to..];
                if inner.starts_with("{{") {
                    to = until(to, "}}");
                } else if inner.starts_with("{%") {
                    to = until(to, "%}");
                } else {
                    let Some(c) = inner.chars().next() else { break };
                    to += c.len_utf8();
                    is_quoted ^= c == '"';
                    if c == '>' && !is_quoted {
                        break;
                    }
                }
            }
            to
        } else {
            at += rest.chars().next().unwrap().len_utf8();
            continue;
        };
        if text_from < at {
            pieces.push((text_from, Piece::Text(&template[text_from..at])));
        }
        let whole = &template[at..end];
        let piece = match &whole[..2] {
            "{#" => Piece::Comment,
            "{%" => Piece::Statement(whole),
            "{{" => Piece::Expression(whole),
            _ => Piece::Tag(whole),
        };
        pieces.push((at, piece));
        (at, text_from) = (end, end);
    }
    if text_from < template.len() {
        pieces.push((text_from, Piece::Text(&template[text_from..])));
    }
    pieces
}

const SENTENCE: &str = "filter crate::web::said(page)";

/// What an element's start or end does to the depth of elements.
fn depth_change(tag: &str) -> i32 {
    let is_void = ["<br", "<input", "<hr", "<meta", "<link", "<!"].iter().any(|void| tag.starts_with(void));
    match () {
        () if tag.starts_with("</") => -1,
        () if is_void || tag.ends_with("/>") => 0,
        () => 1,
    }
}

fn has_words(text: &str) -> bool {
    let mut text = text.to_owned();
    for same in SAME_EVERYWHERE {
        text = text.replace(same, "");
    }
    text.chars().any(char::is_alphabetic)
}

/// The parts of a template that readers would see in English whatever their language.
fn untranslated(file: &TextFile) -> Vec<String> {
    let attribute = pattern(
        r#"\s(title|aria-label|placeholder|alt|data-label|data-announce)="((?:[^"{]|\{\{.*?\}\}|\{%.*?%\})*)""#,
    );
    let code = pattern(r"(?s)\{\{.*?\}\}|\{%.*?%\}");
    let mut wrong = Vec::new();
    // Inside a sentence: how deep in its elements. And elements whose text is not language.
    let (mut sentence, mut verbatim): (Option<i32>, i32) = (None, 0);
    let mut is_class = false;
    for (at, piece) in pieces(&file.text) {
        if let Piece::Statement(text) = piece {
            is_class = text.contains("block main_class");
        }
        let mut report = |text: &str| {
            wrong.push(format!("{}:{}: {}", file.path, line_of(&file.text, at), text.trim()));
        };
        match piece {
            Piece::Statement(text) if text.contains(SENTENCE) => sentence = Some(0),
            Piece::Statement(text) if text.contains("endfilter") => sentence = None,
            Piece::Statement(text) if sentence == Some(0) && !text.contains("call") => report(text),
            Piece::Tag(tag) => {
                for found in attribute.captures_iter(tag) {
                    if has_words(&code.replace_all(&found[2], "")) {
                        report(&found[0]);
                    }
                }
                let is_verbatim = ["code", "pre", "script", "style", "kbd"].iter().any(|name| {
                    tag.trim_start_matches("</").trim_start_matches('<').split([' ', '>']).next() == Some(name)
                });
                if is_verbatim {
                    verbatim += depth_change(tag);
                }
                sentence = sentence.map(|depth| depth + depth_change(tag));
            }
            Piece::Text(text) if sentence != Some(0) && verbatim == 0 && !is_class && has_words(text) => report(text),
            _ => {}
        }
    }
    wrong
}

/// The arguments of a call whose opening parenthesis has just been read.
fn arguments(text: &str) -> Vec<String> {
    let (mut found, mut current, mut depth, mut is_quoted) = (Vec::new(), String::new(), 0, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if is_quoted => {
                current.push(c);
                current.extend(chars.next());
                continue;
            }
            '"' => is_quoted = !is_quoted,
            '(' | '[' | '{' if !is_quoted => depth += 1,
            ')' | ']' | '}' if !is_quoted && depth == 0 => break,
            ')' | ']' | '}' if !is_quoted => depth -= 1,
            ',' if !is_quoted && depth == 0 => {
                found.push(current.trim().to_owned());
                current.clear();
                continue;
            }
            _ => {}
        }
        current.push(c);
    }
    found.push(current.trim().to_owned());
    found
}

/// The text of a literal argument, named or not.
fn literal(argument: &str) -> Option<String> {
    let found = Regex::new(r#"^(?:\w+\s*=\s*)?"((?:\\.|[^"\\])*)"$"#).unwrap().captures(argument)?;
    Some(unescaped(&found[1])).filter(|text| !text.is_empty())
}

/// Which arguments of the shared macros are texts of ours (templates/layout/macros.html says so).
const MACRO_TEXTS: &[(&str, &[usize])] = &[
    ("state", &[1]),
    ("pill", &[1]),
    ("badge", &[0]),
    ("kind", &[1]),
    ("kv", &[0]),
    ("kv_mono", &[0]),
    ("kv_with", &[0]),
    ("cell", &[1]),
    ("notice", &[2]),
    ("empty", &[2, 3]),
    ("error_summary", &[0]),
    ("field_error", &[1]),
    ("field", &[1, 4]),
    ("textarea", &[1, 4]),
    ("select", &[1, 3]),
    ("option", &[1]),
    ("checkbox", &[1, 3]),
    ("radio", &[2, 4]),
];

/// The texts of a template that the dictionary is asked for by name.
fn template_texts(file: &TextFile) -> Vec<Shown> {
    let text = pattern(r"(?s)\{#.*?#\}").replace_all(&file.text, |found: &regex::Captures<'_>| {
        // Lines stay where they are.
        "\n".repeat(found[0].matches('\n').count())
    });
    let place = |at: usize| format!("{}:{}", file.path, line_of(&text, at));
    let mut shown = Vec::new();
    let mut add = |at: usize, text: Option<String>, one: Option<String>| {
        shown.extend(text.map(|text| Shown { place: place(at), text, one }));
    };
    for found in pattern(r"\b(?:page|words)\.(t|t1|t2|t3|n)\(").captures_iter(&text) {
        let whole = found.get(0).unwrap();
        let given = arguments(&text[whole.end()..]);
        match &found[1] {
            "n" => add(whole.start(), literal(&given[2]), literal(&given[1])),
            _ => add(whole.start(), literal(&given[0]), None),
        }
    }
    for found in pattern(r"\bui::(\w+)\(").captures_iter(&text) {
        let whole = found.get(0).unwrap();
        let given = arguments(&text[whole.end()..]);
        let Some((_, texts)) = MACRO_TEXTS.iter().find(|(name, _)| *name == &found[1]) else { continue };
        for (i, argument) in given.iter().enumerate() {
            let is_named = argument.starts_with("hint") || argument.starts_with("label");
            if is_named || texts.contains(&i) && !pattern(r"^\w+\s*=").is_match(argument) {
                add(whole.start(), literal(argument), None);
            }
        }
    }
    for found in pattern(r#"\{%-? ?let \w+ = ("(?:\\.|[^"\\])* (?:\\.|[^"\\])*")"#).captures_iter(&text) {
        add(found.get(0).unwrap().start(), literal(&found[1]), None);
    }
    // A sentence with markup: its elements and expressions are its places.
    let mut sentence: Option<(usize, String, i32)> = None;
    for (at, piece) in pieces(&text) {
        match (piece, &mut sentence) {
            (Piece::Statement(statement), _) if statement.contains(SENTENCE) => sentence = Some((at, String::new(), 0)),
            (Piece::Statement(statement), Some((from, said, _))) if statement.contains("endfilter") => {
                let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
                add(*from, Some(words), None);
                sentence = None;
            }
            (Piece::Expression(_), Some((_, said, 0))) => said.push_str("{}"),
            (Piece::Text(text), Some((_, said, 0))) => said.push_str(text),
            (Piece::Tag(tag), Some((_, said, depth))) => {
                if *depth == 0 {
                    said.push_str("{}");
                }
                *depth += depth_change(tag);
            }
            _ => {}
        }
    }
    shown
}

fn templates() -> Vec<TextFile> {
    let mut all = files("templates", "html");
    all.extend(files("templates", "txt"));
    assert!(all.len() > 30, "no template found: the check is looking in the wrong place");
    all
}

#[test]
fn every_text_of_a_template_goes_through_the_dictionary() {
    let wrong = templates().iter().flat_map(untranslated).collect();
    assert_none(wrong, "Write it as `{{ page.t(\"…\") }}`, with markup inside as a sentence (`crate::web::said`).");
}

#[test]
fn every_text_of_a_template_has_an_entry() {
    let entries = Entries::japanese();
    let mut wrong = Vec::new();
    for shown in templates().iter().flat_map(template_texts) {
        let is_counted =
            |one: &String| entries.ones.iter().any(|(many, known)| bare(many) == shown.text && bare(known) == *one);
        if !entries.has(&shown.text) || !shown.one.as_ref().is_none_or(is_counted) {
            wrong.push(format!("{}: {:?}", shown.place, shown.text));
        }
    }
    assert_none(wrong, "Add the text to locales/ja.toml.");
}

#[test]
fn templates_are_read_as_they_are_meant() {
    let file = |text: &str| TextFile { path: "x.html".into(), text: text.into() };
    let texts = |text: &str| template_texts(&file(text)).into_iter().map(|shown| shown.text).collect::<Vec<_>>();
    assert_eq!(
        texts(r#"<p title="{{ page.t("A b") }}">{{ page.t2("{} of {}", a, f(b, "c")) }}</p>"#),
        ["A b", "{} of {}"]
    );
    assert_eq!(texts(r#"{{ ui::field("name", "Name", value, self.error("name"), hint = "So.") }}"#), ["Name", "So."]);
    let sentence = r#"{% filter crate::web::said(page) %}By <b>{{ x }} <i>y</i></b>, {{ at }}.{% endfilter %}"#;
    assert_eq!(texts(sentence), ["By {}, {}."]);
    assert_eq!(untranslated(&file(sentence)).len(), 1, "the y inside an element is a text of its own");
    assert_eq!(untranslated(&file(r#"<p class="x">Hello</p><code>hello</code>{# hello #}"#)).len(), 1);
    assert_eq!(untranslated(&file(r#"<a{% if a > 1 %} b{% endif %} title="More {{ x }}">·</a>"#)).len(), 1);
}

// --- code ----------------------------------------------------------------------------------------------------------

/// A literal's text, as the program has it.
fn unescaped(literal: &str) -> String {
    let joined = pattern(r"\\\n\s*").replace_all(literal, "");
    joined.replace("\\\"", "\"").replace("\\n", "\n").replace("\\\\", "\\")
}

/// The string literals of a source file that read like something said to people, with their places bare.
fn said_in_code(file: &TextFile) -> Vec<Shown> {
    let code = file.product_text();
    let code = pattern(r#"#!?\[(?:[^\[\]"]|"(?:\\.|[^"\\])*"|\[[^\]]*\])*\]"#).replace_all(
        &code,
        |found: &regex::Captures<'_>| {
            // Of attributes, the messages of errors are said to people.
            if found[0].starts_with("#[error") { found[0].to_owned() } else { String::new() }
        },
    );
    let string = pattern(r##"(?s)'(?:\\.|[^'\\])'|r#".*?"#|"((?:\\.|[^"\\])*)""##);
    let for_the_log =
        pattern(r"(?:tracing::\w+!\([^;]*|(?:internal|caused|context)\(\s*(?:format!\(\s*)?|expect\(|EXPLAIN.*)$");
    let sentence = pattern(r"^[A-Z“`{][^_/=]*[a-z’}”]{2,}.*(?: \S|\.)|[a-z]{2,}[,.]? [a-z]{2,}|^[A-Z][a-z]+$");
    let statement = pattern(
        r"\b(?:SELECT|INSERT|UPDATE|DELETE|PRAGMA|JOIN|INDEXED|MATCH|AND|WHERE|BETWEEN)\b|\?\d|::|:\w+\b.*[<>]|[a-z]_[a-z]+, |^\{?\x22|; charset",
    );
    let mut shown = Vec::new();
    for found in string.captures_iter(&code) {
        let Some(text) = found.get(1) else { continue };
        let before = &code[..found.get(0).unwrap().start()];
        let near = (0..4).find_map(|more| before.get(before.len().saturating_sub(300 + more)..)).unwrap_or(before);
        let text = unescaped(text.as_str());
        let is_word = text.chars().all(char::is_alphanumeric);
        if !sentence.is_match(&text)
            || !is_word && !text.contains(' ')
            || statement.is_match(&text)
            || for_the_log.is_match(near)
        {
            continue;
        }
        let text = text.replace("{{", "\u{1}").replace("}}", "\u{2}");
        let text = pattern(r"\{[^{}]*\}").replace_all(&text, "{}").replace('\u{1}', "{").replace('\u{2}', "}");
        shown.push(Shown { place: file.path.clone(), text: text.trim().to_owned(), one: None });
    }
    shown
}

fn all_said_in_code() -> Vec<Shown> {
    sources().iter().flat_map(said_in_code).collect()
}

#[test]
fn every_text_that_code_says_to_people_has_an_entry() {
    let entries = Entries::japanese();
    let joined = pattern(r"([\w.:)])\{\}");
    let mut wrong = Vec::new();
    for shown in all_said_in_code() {
        let is_not_shown = NOT_SHOWN.iter().any(|(path, _)| shown.place.starts_with(path))
            || NOT_SHOWN_TEXTS.contains(&shown.text.as_str());
        // With values in its places, as pages have it; what is joined to the end of a sentence may be nothing.
        // What begins with a place has a sentence before it.
        let text =
            shown.text.strip_prefix("{} ").filter(|rest| rest.starts_with(char::is_uppercase)).unwrap_or(&shown.text);
        let examples = [text.replace("{}", "7"), joined.replace_all(text, "$1").replace("{}", "7")];
        let is_said = entries.has(&shown.text)
            || !has_words(&examples[0])
            || examples.iter().any(|example| Language::Japanese.say(example) != *example);
        if !is_not_shown && !is_said {
            wrong.push(format!("{}: {:?}", shown.place, shown.text));
        }
    }
    assert_none(wrong, "Add the text to locales/ja.toml, or to NOT_SHOWN with the reason.");
}

/// Every string literal of the product, prose or not.
fn all_literals() -> BTreeSet<String> {
    let string = pattern(r#"(?s)'(?:\\.|[^'\\])'|"((?:\\.|[^"\\])*)""#);
    let (place, joined) = (pattern(r"\{[^{}]*\}"), pattern(r"([\w)])\{\}"));
    let mut found = BTreeSet::new();
    for file in sources() {
        let code = file.product_text();
        for literal in string.captures_iter(&code).filter_map(|found| found.get(1)) {
            let literal = place.replace_all(&unescaped(literal.as_str()), "{}").trim().to_owned();
            // What is joined to a word may be nothing.
            found.insert(joined.replace_all(&literal, "$1").into_owned());
            found.insert(literal);
        }
    }
    found
}

/// A name of the API as pages call it: `passwordChangedAt` is `Password changed at`, `timed-out` is `Timed out`.
fn titled(name: &str) -> String {
    let words =
        pattern("[A-Z]").replace_all(name, |found: &regex::Captures<'_>| format!(" {}", found[0].to_lowercase()));
    let words = words.replace('-', " ");
    let Some(first) = words.chars().next() else { return words };
    first.to_uppercase().chain(words.chars().skip(1)).collect()
}

/// `audit.directory_created.v1` as the log's page calls it.
fn event_titles(literals: &BTreeSet<String>) -> BTreeSet<String> {
    let event = pattern(r"^audit\.(\w+)\.v\d+$");
    let titles = literals.iter().filter_map(|literal| event.captures(literal)).map(|found| {
        let words = found[1].replace('_', " ");
        words[..1].to_uppercase() + &words[1..]
    });
    titles.collect()
}

#[test]
fn every_kind_of_event_has_an_entry() {
    let entries = Entries::japanese();
    let wrong = event_titles(&all_literals()).into_iter().filter(|title| !entries.has(title) && title != "Test done");
    assert_none(wrong.collect(), "Add the title of the event to locales/ja.toml.");
}

#[test]
fn no_entry_is_without_a_text() {
    let entries = Entries::japanese();
    let literals = all_literals();
    let events = event_titles(&literals);
    let templates: Vec<_> = templates().iter().flat_map(template_texts).collect();
    let titles: BTreeSet<String> = literals.iter().map(|literal| titled(literal)).collect();
    let is_said = |key: &str| {
        let key = bare(key);
        // What stands in a place of an entry may be a place of the literal, or more of its words; and a literal may hold
        // several sentences.
        let sentence = regex::escape(&key).replace(r"\{\}", ".*");
        let whole = pattern(&format!(r"(?s)(?:^|[.:}}] ){sentence}(?:$|\W)"));
        let counted = key.strip_prefix("{} ").filter(|words| !words.contains("{}"));
        events.contains(&key)
            || titles.contains(&key)
            || templates.iter().any(|shown| shown.text == key || shown.one.as_ref() == Some(&key))
            || literals.iter().any(|literal| whole.is_match(literal) || Some(literal.as_str()) == counted)
    };
    let unused = entries
        .keys()
        .filter(|key| !entries.script.contains(*key) && !MADE_OF_PIECES.contains(&key.as_str()) && !is_said(key));
    assert_none(unused.cloned().collect(), "Nothing says this any more: take it out of locales/ja.toml.");
    let stale = MADE_OF_PIECES.iter().filter(|text| !entries.keys().any(|key| key == **text) || is_said(text));
    assert_none(stale.map(ToString::to_string).collect(), "Take it off the list MADE_OF_PIECES.");
}

// --- the browser script, and the entries themselves ----------------------------------------------------------------

#[test]
fn the_browser_script_says_what_its_section_holds() {
    let script = std::fs::read_to_string(root().join("static/js/app.js")).unwrap();
    let said: BTreeSet<String> =
        pattern(r#"\bt\("((?:\\.|[^"\\])*)""#).captures_iter(&script).map(|found| unescaped(&found[1])).collect();
    let script_texts = Entries::japanese().script;
    let apart: Vec<_> = said.symmetric_difference(&script_texts).cloned().collect();
    assert_none(apart, "The section [script] holds what static/js/app.js says, and nothing else.");
    let bare = pattern(r#"(?:toast|banner)\((?:"|`)|textContent = "[A-Z]"#);
    assert!(!bare.is_match(&script), "texts of the script stand in t(\"…\")");
}

#[test]
fn translations_lose_no_value_and_hold_no_markup() {
    let mut wrong = Vec::new();
    let place = pattern(r"\{([^{}]*)\}");
    for (english, japanese) in Entries::japanese().texts {
        let count = place.find_iter(&english.replace("{0}", "")).count();
        let mut next = 0;
        let used: BTreeSet<usize> = place
            .captures_iter(&japanese)
            .map(|found| {
                next += 1;
                found[1].trim_end_matches('t').parse().unwrap_or(next)
            })
            .collect();
        if used != (1..=count).collect() {
            wrong.push(format!("{english:?} has {count} places, {japanese:?} uses {used:?}"));
        }
        if japanese.contains(['<', '>', '&', '"']) {
            wrong.push(format!("{japanese:?} would be read as markup"));
        }
        let is_japanese = |c: char| ('\u{3000}'..='\u{9fff}').contains(&c) || ('\u{ff00}'..='\u{ffef}').contains(&c);
        let is_name = english.chars().all(|c| c.is_ascii_alphabetic()) || english == "Active Directory";
        if !japanese.contains(is_japanese) && !is_name {
            wrong.push(format!("{japanese:?} is no Japanese"));
        }
    }
    assert_none(wrong, "Correct locales/ja.toml.");
}
