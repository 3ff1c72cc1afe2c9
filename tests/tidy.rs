//! The rules of this code base that a machine can check, each as an ordinary test over our own files.
//!
//! A rule that is broken names file, line and what to do. Exceptions are lists in here; they may only get shorter, so
//! an entry that is no longer needed fails too. Never add a rule without its reason beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

/// Longest source file, in lines. A longer one says several things: split it by what it holds.
const LINES_MAX: usize = 800;

/// Which room may use which: only rooms on lower floors. Rooms of floor 0 are the kernel and may use each other.
const FLOORS: &[&[&str]] = &[
    &["error", "config", "clock", "email", "secret", "principal", "proof", "kernel", "language", "owned", "db", "web"],
    &["audit"],
    &["schedule", "connectors", "saml"],
    &["notifications", "sessions"],
    &["accounts", "roles", "identities"],
    &["users"],
    &["invitations", "mfa", "api_keys", "domains", "risk"],
    &["directories", "sign_in"],
    &["enforcement"],
    &["dashboard", "demo"],
];

/// The files that may name every room: the map, the builder and the command line.
const ABOVE_ALL_ROOMS: &[&str] = &["lib", "app", "main", "cli"];

/// Tables that a room reads though another one owns them, with the reason. The list only shrinks.
const BORROWED_TABLES: &[(&str, &str)] = &[
    // Lists of identities show their directory's name and leave out removed ones, in the one query that pages them.
    ("src/identities/queries.rs", "directory"),
];

/// Pieces of SQL that code chooses among literals; everything else in braces inside SQL must be a constant.
const SQL_PIECES: &[&str] = &["columns", "conditions", "from", "marks", "narrowed", "order"];

/// The one file that hands on markup which a template wrote: sentences with elements, put in another language's order.
const PASSES_MARKUP: &str = "src/web/sentence.rs";

/// One text file of the repository, with its path from the root, written with `/`.
pub(crate) struct TextFile {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl TextFile {
    /// The room (or kernel file) a source file belongs to: `src/users/queries.rs` and `src/users.rs` are `users`.
    fn room(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        below.split('/').next().unwrap_or(below).trim_end_matches(".rs")
    }

    /// The lines that end up in the product, numbered from 1: no comment lines, and nothing of the tests, which stand
    /// last in a file and may reach anywhere.
    fn product_lines(&self) -> Vec<(usize, &str)> {
        if self.path.ends_with("tests.rs") || self.path.contains("/tests/") {
            return Vec::new();
        }
        let lines: Vec<&str> = self.text.lines().collect();
        let end = (0..lines.len())
            .find(|&i| {
                lines[i].trim() == "#[cfg(test)]"
                    && lines.get(i + 1).is_some_and(|next| next.trim_start().starts_with("mod ") && next.contains('{'))
            })
            .unwrap_or(lines.len());
        let code = |line: &str| !line.trim_start().starts_with("//");
        lines.into_iter().take(end).enumerate().filter(|(_, line)| code(line)).map(|(i, line)| (i + 1, line)).collect()
    }

    /// The product lines as one text, for rules about things that span lines.
    pub(crate) fn product_text(&self) -> String {
        self.product_lines().into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n")
    }
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<TextFile>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            let relative = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
            found.push(TextFile { path: relative, text: fs::read_to_string(&path).unwrap() });
        }
    }
}

/// Every file with this extension below a folder of the repository, by path.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<TextFile> {
    let mut found = Vec::new();
    collect(&root().join(folder), extension, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

pub(crate) fn sources() -> Vec<TextFile> {
    let found = files("src", "rs");
    assert!(!found.is_empty(), "no source file found: the check is looking in the wrong place");
    found
}

pub(crate) fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

/// `path:line: line` for each line that matches.
fn lines_matching<'a>(files: impl IntoIterator<Item = &'a TextFile>, wrong: &Regex) -> Vec<String> {
    files
        .into_iter()
        .flat_map(|file| {
            file.text
                .lines()
                .enumerate()
                .filter(|(_, line)| wrong.is_match(line))
                .map(|(i, line)| format!("{}:{}: {}", file.path, i + 1, line.trim()))
        })
        .collect()
}

#[track_caller]
pub(crate) fn assert_none(wrong: Vec<String>, rule: &str) {
    assert!(wrong.is_empty(), "{rule}\n  {}\n", wrong.join("\n  "));
}

pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

// --- every source file ---------------------------------------------------------------------------------------------

#[test]
fn every_source_file_opens_by_saying_what_it_is() {
    let wrong = sources().into_iter().chain(files("tests", "rs")).filter(|f| !f.text.starts_with("//! "));
    assert_none(
        wrong.map(|f| f.path).collect(),
        "Open the file with `//!`: what it is, what it owns, what it must never do.",
    );
}

#[test]
fn lints_are_expected_with_a_reason_and_never_allowed() {
    let all: Vec<_> = sources().into_iter().chain(files("tests", "rs")).collect();
    assert_none(
        lines_matching(&all, &pattern(r"^\s*#!?\[(cfg_attr\(.*)?allow\(")),
        "Write `#[expect(lint, reason = \"…\")]`: it says why, and it goes away when it is no longer needed.",
    );
}

#[test]
fn no_test_is_switched_off() {
    let all: Vec<_> = sources().into_iter().chain(files("tests", "rs")).collect();
    assert_none(
        lines_matching(&all, &pattern(r"^\s*#\[ignore")),
        "A test runs or it goes. Long ones belong in a module named `long`, which `tests/run --all` runs.",
    );
}

#[test]
fn nothing_is_left_to_be_done_later() {
    // Written apart, or this line would find itself.
    let marker = pattern(&format!(r"\b({}|{})\b", ["TO", "DO"].concat(), ["FIX", "ME"].concat()));
    let ours = ["src", "tests", "templates", "benches"]
        .iter()
        .flat_map(|folder| ["rs", "html", "txt", "sh"].iter().flat_map(move |extension| files(folder, extension)));
    let ours: Vec<_> = ours.chain(files("migrations", "sql")).collect();
    assert_none(lines_matching(&ours, &marker), "Finish it, or write an issue: such a note in the code is never read.");
}

#[test]
fn no_source_file_is_too_long() {
    let lengths = sources().into_iter().map(|file| (file.text.lines().count(), file.path));
    let too_long = lengths.filter(|(lines, _)| *lines > LINES_MAX);
    let wrong = too_long.map(|(lines, path)| format!("{path}: {lines} lines, at most {LINES_MAX}")).collect();
    assert_none(wrong, "Split the file by what it holds; each part can be said in one sentence.");
}

#[test]
fn files_and_types_are_named_after_what_they_are() {
    // `Service` is missing on purpose: a role gives a level per service, so it is a word of the product here.
    let vague = pattern(r"(?i)^(manager|helper|helpers|util|utils|common|data|info|process|handle)$");
    let mut wrong = Vec::new();
    let declared = pattern(r"^\s*(?:pub(?:\([a-z]+\))? )?(?:struct|enum|trait|type) (\w+)");
    let word = pattern(r"[A-Z][a-z0-9]*");
    for file in sources() {
        let words_of_path = file.path.trim_end_matches(".rs").split(['/', '_']);
        if words_of_path.into_iter().any(|w| vague.is_match(w)) {
            wrong.push(file.path.clone());
        }
        for (line_number, line) in file.product_lines() {
            let Some(name) = declared.captures(line).map(|c| c[1].to_owned()) else { continue };
            if word.find_iter(&name).any(|w| vague.is_match(w.as_str())) {
                wrong.push(format!("{}:{line_number}: {name}", file.path));
            }
        }
    }
    assert_none(wrong, "Name it after what it is, in the words of the glossary.");
}

#[test]
fn only_the_clock_reads_the_time() {
    let now = pattern(r"\b(SystemTime|Timestamp|Zoned|Utc)::now\(");
    let mut wrong = Vec::new();
    for file in sources().iter().filter(|f| f.room() != "clock") {
        for (line_number, line) in file.product_lines() {
            if now.is_match(line) {
                wrong.push(format!("{}:{line_number}: {}", file.path, line.trim()));
            }
        }
    }
    assert_none(wrong, "Take the time from the clock that is passed in: a test must be able to set it.");
}

// --- rooms and floors ----------------------------------------------------------------------------------------------

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// The rooms a text names by `crate::room` or in `use crate::{room, room::Thing}`.
fn rooms_named_in(text: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    for found in pattern(r"\bcrate::(\w+|\{)").captures_iter(text) {
        let (whole, first) = (found.get(0).unwrap(), &found[1]);
        let line_number = line_of(text, whole.start());
        if first != "{" {
            named.push((line_number, first.to_owned()));
            continue;
        }
        // The first word of each part between the outer braces.
        let (mut depth, mut at_start) = (0, true);
        for piece in pattern(r"\w+|[{},]").find_iter(&text[whole.end()..]) {
            match piece.as_str() {
                "{" => depth += 1,
                "}" if depth == 0 => break,
                "}" => depth -= 1,
                "," => at_start |= depth == 0,
                word if at_start => {
                    named.push((line_number, word.to_owned()));
                    at_start = false;
                }
                _ => {}
            }
        }
    }
    named
}

#[test]
fn every_room_has_a_floor() {
    let known = |room: &str| floor_of(room).is_some() || ABOVE_ALL_ROOMS.contains(&room);
    let wrong = sources().into_iter().filter(|f| !known(f.room())).map(|f| f.path).collect();
    assert_none(wrong, "Give the room a floor in tests/tidy.rs and a line in src/lib.rs.");
}

#[test]
fn a_room_uses_only_rooms_on_lower_floors() {
    let mut wrong = Vec::new();
    for file in sources() {
        let room = file.room();
        let Some(floor) = floor_of(room) else { continue };
        let lines = file.product_lines();
        for (at, used) in rooms_named_in(&file.product_text()) {
            let above = ABOVE_ALL_ROOMS.contains(&used.as_str());
            // What is not a room is an item of the crate's root, such as a macro.
            let Some(used_floor) = floor_of(&used).or(above.then_some(usize::MAX)) else { continue };
            if used != room && used_floor >= floor.max(1) {
                wrong.push(format!("{}:{}: {room} (floor {floor}) uses {used}", file.path, lines[at - 1].0));
            }
        }
    }
    assert_none(wrong, "What two rooms share is a lower room, or app.rs hands one of them a function.");
}

#[test]
fn rooms_named_in_grouped_and_nested_imports_are_seen() {
    let text = "use crate::{audit, db::{Db, pool}, users::User};\nfn f() { crate::roles::level() }";
    let named: Vec<_> = rooms_named_in(text).into_iter().map(|(_, room)| room).collect();
    assert_eq!(named, ["audit", "db", "users", "roles"]);
}

// --- SQL -----------------------------------------------------------------------------------------------------------

/// Each table that the migrations make, with the room that owns it.
fn table_owners() -> BTreeMap<String, String> {
    let made = pattern(r"(?i)\bCREATE\s+(?:VIRTUAL\s+)?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(\w+)");
    let mut owners = BTreeMap::new();
    for migration in files("migrations", "sql") {
        let owner = migration_owner(&migration).unwrap_or_default();
        for table in made.captures_iter(&migration.text) {
            owners.insert(table[1].to_owned(), owner.clone());
        }
    }
    owners
}

fn migration_owner(migration: &TextFile) -> Option<String> {
    Some(migration.text.lines().next()?.strip_prefix("-- owner: ")?.trim().to_owned())
}

/// The tables that SQL in this text reads or writes, with the line. SQL keywords are written in capitals here.
fn tables_used_in(text: &str) -> Vec<(usize, String)> {
    pattern(r"\b(?:FROM|JOIN|INTO|UPDATE|(?:ALTER|DROP) TABLE|REFERENCES)\s+(\w+)")
        .captures_iter(text)
        .filter(|found| !found[0].starts_with("REFERENCES"))
        .map(|found| (line_of(text, found.get(0).unwrap().start()), found[1].to_owned()))
        .collect()
}

#[test]
fn every_migration_names_the_room_that_owns_it() {
    let wrong = files("migrations", "sql")
        .into_iter()
        .filter(|m| migration_owner(m).is_none_or(|owner| floor_of(&owner).is_none()));
    assert_none(
        wrong.map(|m| m.path).collect(),
        "The first line of a migration is `-- owner: <room>`, a room of FLOORS.",
    );
}

#[test]
fn a_table_is_named_only_in_the_sql_of_its_room() {
    let owners = table_owners();
    let mut wrong = Vec::new();
    let mut check = |path: &str, line: usize, room: &str, table: &str| {
        if owners.get(table).is_some_and(|owner| owner != room) && !BORROWED_TABLES.contains(&(path, table)) {
            wrong.push(format!("{path}:{line}: {room} names {table}, a table of {}", owners[table]));
        }
    };
    for file in sources() {
        let lines = file.product_lines();
        for (at, table) in tables_used_in(&file.product_text()) {
            check(&file.path, lines[at - 1].0, file.room(), &table);
        }
    }
    for migration in files("migrations", "sql") {
        let owner = migration_owner(&migration).unwrap_or_default();
        for (at, table) in tables_used_in(&migration.text) {
            check(&migration.path, at, &owner, &table);
        }
    }
    assert_none(wrong, "Call the public function of the room that owns the table.");
}

#[test]
fn queries_name_their_columns() {
    let all: Vec<_> = sources().into_iter().chain(files("migrations", "sql")).collect();
    assert_none(
        lines_matching(&all, &pattern(r"\bSELECT\s+(DISTINCT\s+)?(\w+\.)?\*")),
        "Name the columns: a later migration must not change what a query returns.",
    );
}

#[test]
fn no_value_is_formatted_into_sql() {
    let statement =
        pattern(r#"(?s)\bformat!\(\s*r?#*"([^"]*\b(?:SELECT\s|INSERT\s+INTO|DELETE\s+FROM|UPDATE\s+\w+\s+SET)[^"]*)""#);
    let place = pattern(r"\{([^}]*)\}");
    let is_literal = |name: &str| {
        SQL_PIECES.contains(&name) || (!name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    };
    let mut found = Vec::new();
    for file in sources() {
        let lines = file.product_lines();
        let text = file.product_text();
        for sql in statement.captures_iter(&text) {
            if place.captures_iter(&sql[1]).any(|place| !is_literal(&place[1])) {
                found.push(format!("{}:{}", file.path, lines[line_of(&text, sql.get(0).unwrap().start()) - 1].0));
            }
        }
    }
    assert_none(found, "Write the SQL as a literal and pass values as ?1, ?2.");
}

// --- templates -----------------------------------------------------------------------------------------------------

fn templates() -> Vec<TextFile> {
    files("templates", "html")
}

#[test]
fn templates_escape_everything() {
    assert_none(
        lines_matching(&templates(), &pattern(r#"\|\s*safe\b|escape\("none"\)|\{%-?\s*autoescape"#)),
        "A page shows text. What has to be markup is written as markup in a template.",
    );
    let by_hand = pattern(r#"filters::Safe\b|escape\s*=\s*"none"|HtmlSafe\b"#);
    let pages: Vec<_> =
        sources().into_iter().filter(|f| !f.path.ends_with("tests.rs") && f.path != PASSES_MARKUP).collect();
    assert_none(lines_matching(&pages, &by_hand), "Rust code builds no HTML and switches no escaping off.");
}

#[test]
fn templates_hold_nothing_that_the_content_security_policy_blocks() {
    // A mail is read in somebody else's program: no policy of ours, and no file of ours beside it.
    let pages: Vec<_> = templates().into_iter().filter(|file| !file.path.starts_with("templates/mail/")).collect();
    let wrong = pattern(
        r#"(?i)\sstyle\s*=\s*["']|<style\b|<script(?:\s+(?:defer|async|type="[^"]*"))*\s*>|\son[a-z]+\s*=\s*["'{]|\shx-on|javascript:|\shx-vals=['"]js:"#,
    );
    assert_none(lines_matching(&pages, &wrong), "Put it in a file under static/: nothing inline runs or applies.");
}

#[test]
fn every_form_that_posts_carries_the_csrf_field() {
    let form = pattern(r"(?is)<form\b.*?</form>");
    let posts = pattern(r#"(?i)\b(method\s*=\s*["']?post|hx-(post|put|patch|delete)\s*=)"#);
    let mut wrong = Vec::new();
    for template in templates() {
        for found in form.find_iter(&template.text) {
            if posts.is_match(found.as_str()) && !found.as_str().to_lowercase().contains("csrf") {
                wrong.push(format!("{}:{}", template.path, line_of(&template.text, found.start())));
            }
        }
    }
    assert_none(wrong, "Include the CSRF field in the form.");
}

#[test]
fn pages_say_sign_in() {
    let shown: Vec<_> =
        templates().into_iter().chain(files("templates", "txt")).chain(files("templates", "svg")).collect();
    assert_none(
        lines_matching(&shown, &pattern(r"(?i)\blog-?(in|on|out|off)s?\b")),
        "The glossary has: sign in (verb), sign-in (noun), sign out.",
    );
}

// --- dependencies --------------------------------------------------------------------------------------------------

#[test]
fn every_dependency_says_why_it_is_there() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut wrong = Vec::new();
    // A group's comment (`# --- …`) speaks for the lines under it, up to the next group, section or empty line.
    let (mut in_dependencies, mut group_has_reason, mut seen) = (false, false, 0);
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            (in_dependencies, group_has_reason) = (line.ends_with("dependencies]"), false);
        } else if line.is_empty() {
            group_has_reason = false;
        } else if line.starts_with('#') {
            group_has_reason = true;
        } else if in_dependencies {
            seen += 1;
            if !group_has_reason && !line.contains(" # ") {
                wrong.push(line.to_owned());
            }
        }
    }
    assert!(seen > 10, "only {seen} dependencies found in Cargo.toml: the check no longer reads it");
    assert_none(wrong, "Say on the line, after `#`, why the product needs it.");
}

// --- packaging -----------------------------------------------------------------------------------------------------

#[test]
fn the_unit_is_rated_1_6_or_better() {
    let rating = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=16", "--no-pager", "packaging/systemd/bailiwick.service"])
        .current_dir(root())
        .output()
        .expect("systemd-analyze must be installed: run tests/run");
    let printed = String::from_utf8_lossy(&rating.stdout);
    assert!(printed.contains("Overall exposure level"), "no rating: {}", String::from_utf8_lossy(&rating.stderr));
    assert!(rating.status.success(), "the unit takes too little away:\n{printed}");
}

#[test]
fn the_shipped_settings_stay_valid_when_every_key_is_uncommented() {
    let shipped = fs::read_to_string(root().join("packaging/config/bailiwick.toml")).unwrap();
    let uncommented = pattern(r"(?m)^#([\[a-z])").replace_all(&shipped, "$1");
    let settings: toml::Table = uncommented.parse().unwrap();
    let keys: Vec<_> = settings.keys().map(String::as_str).collect();
    let expected = [
        "api_rate_per_minute",
        "base_url",
        "data_dir",
        "listen",
        "log",
        "plain_http",
        "region",
        "tls",
        "trusted_proxies",
    ];
    assert_eq!(keys, expected, "add a new key to the file that explains them, too");
}
