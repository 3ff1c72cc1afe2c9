//! The one table of the benchmark, and which parts of it were asked for.
//!
//! Owns the verdicts: a figure over its limit is said to be, a part that was not run is said to be. Measures nothing.

use std::fmt;

/// A part of the benchmark, as it is called on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    First,
    Changes,
    Yardstick,
    Million,
}

/// What was asked for.
pub struct Wanted {
    pub rounds: usize,
    parts: Vec<Part>,
}

impl Wanted {
    /// `--rounds N`, `--only PART`, `--million`, `--all`; cargo adds arguments of its own.
    pub fn from_arguments() -> Self {
        let arguments: Vec<String> = std::env::args().collect();
        let after = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name)?;
            Some(arguments.get(at + 1).unwrap_or_else(|| panic!("{name} takes a value")).as_str())
        };
        let has = |name: &str| arguments.iter().any(|argument| argument == name);
        let small = [Part::First, Part::Changes, Part::Yardstick];
        let mut parts = match after("--only") {
            Some("first") => vec![Part::First],
            Some("changes") => vec![Part::Changes],
            Some("yardstick") => vec![Part::Yardstick],
            Some(other) => panic!("--only takes first, changes or yardstick, not {other}"),
            None if has("--million") && !has("--all") => Vec::new(),
            None => small.to_vec(),
        };
        if has("--million") || has("--all") {
            parts.push(Part::Million);
        }
        let rounds = after("--rounds").map_or(3, |text| text.parse().expect("--rounds takes a number"));
        Self { rounds, parts }
    }

    pub fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }
}

/// One line: what, its measured value if it was measured, and the most that is allowed if there is a limit.
struct Line {
    what: String,
    value: Option<f64>,
    unit: &'static str,
    limit: Option<f64>,
}

impl Line {
    fn is_over(&self) -> bool {
        self.value.zip(self.limit).is_some_and(|(value, limit)| value > limit)
    }
}

/// Lines in the order in which they were added, under headings.
#[derive(Default)]
pub struct Table {
    parts: Vec<(String, Vec<Line>)>,
}

impl Table {
    pub fn heading(&mut self, text: &str) {
        println!("== {text}");
        self.parts.push((text.to_owned(), Vec::new()));
    }

    /// A figure that must not be more than `limit`.
    pub fn limited(&mut self, what: &str, value: f64, unit: &'static str, limit: f64) {
        self.add(Line { what: what.to_owned(), value: Some(value), unit, limit: Some(limit) });
    }

    /// A figure that is only shown.
    pub fn shown(&mut self, what: &str, value: f64, unit: &'static str) {
        self.add(Line { what: what.to_owned(), value: Some(value), unit, limit: None });
    }

    /// A part that was not asked for, or that this machine has no room for.
    pub fn not_run(&mut self, why: &str) {
        self.add(Line { what: format!("not run: {why}"), value: None, unit: "", limit: None });
    }

    fn add(&mut self, line: Line) {
        println!("{line}");
        self.parts.last_mut().expect("a heading comes first").1.push(line);
    }

    pub fn is_over(&self) -> bool {
        self.parts.iter().flat_map(|(_, lines)| lines).any(Line::is_over)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(value) = self.value else { return write!(f, "| {:<58} | {:>12} | {:>10} | |", self.what, "–", "") };
        let places = usize::from(value < 100.0) + usize::from(value < 10.0);
        let measured = format!("{value:.places$} {}", self.unit);
        let (limit, verdict) = match self.limit {
            Some(limit) => {
                (format!("{} {}", (limit * 10.0).round() / 10.0, self.unit), if self.is_over() { "OVER" } else { "ok" })
            }
            None => (String::new(), ""),
        };
        write!(f, "| {:<58} | {measured:>12} | {limit:>10} | {verdict} |", self.what)
    }
}

impl fmt::Display for Table {
    /// As Markdown, so that it can be kept in the README as it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for (heading, lines) in &self.parts {
            writeln!(f, "| {heading:<58} | {:>12} | {:>10} | verdict |", "measured", "limit")?;
            writeln!(f, "|---|---:|---:|---|")?;
            for line in lines {
                writeln!(f, "{line}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
