//! What a directory's attribute names mean to a mapping, learned once for each as they come.
//!
//! An entry is walked once, and 100,000 of them a run: what can be decided by the name alone is decided when it is first
//! seen. Owns which names are names at all, and that neither a secret nor `memberOf` is ever kept.

use std::{collections::HashMap, sync::Arc};

use super::{
    EntryView, Values,
    values::{base_name, is_secret, keep_all},
};
use crate::connectors::Attributes;

/// Names remembered; a directory has a few dozen.
const NAMES_MAX: usize = 4096;

/// What a mapping does with an attribute.
#[derive(Debug, Clone)]
pub struct Meaning<S> {
    /// Its values are kept raw.
    pub is_kept: bool,
    /// Where its values go.
    pub slots: Vec<S>,
}

/// The same once it is learned.
#[derive(Debug, Clone)]
struct Learned<S> {
    /// The name as the directory writes it; `None` is not kept raw.
    keep: Option<Arc<str>>,
    /// Always base64: `;binary` (RFC 4522).
    is_binary: bool,
    slots: Vec<S>,
}

/// The names of one directory, with a mapping's slots.
#[derive(Debug)]
pub struct Names<S> {
    learned: Vec<Learned<S>>,
    by_name: HashMap<Vec<u8>, usize>,
}

impl<S> Default for Names<S> {
    fn default() -> Self {
        Self { learned: Vec::new(), by_name: HashMap::new() }
    }
}

impl<S> Names<S> {
    /// Walks an entry: the values of what has slots go to `place`, what is kept is answered. `meaning` is asked once for
    /// each name, in lower case, with its options and without.
    pub fn walk<'a>(
        &mut self,
        entry: &EntryView<'a>,
        meaning: impl Fn(&str, &str) -> Meaning<S>,
        mut place: impl FnMut(&[S], Values<'a>),
    ) -> Attributes {
        let mut kept = Attributes::new();
        let mut kept_bytes = 0_usize;
        for (name, values) in entry.attributes() {
            let index = self.index(name, &meaning);
            let Some(learned) = self.learned.get(index) else { continue };
            if !learned.slots.is_empty() {
                place(&learned.slots, values);
            }
            if let Some(name) = &learned.keep {
                let list = kept.entry(name.clone()).or_insert_with(|| Vec::with_capacity(1));
                keep_all(values, learned.is_binary, &mut kept_bytes, list);
            }
        }
        kept
    }

    fn index(&mut self, name: &[u8], meaning: impl Fn(&str, &str) -> Meaning<S>) -> usize {
        if let Some(&index) = self.by_name.get(name) {
            return index;
        }
        if self.learned.len() >= NAMES_MAX {
            self.learned.clear();
            self.by_name.clear();
        }
        let index = self.learned.len();
        self.learned.push(learn(name, meaning));
        self.by_name.insert(name.to_vec(), index);
        index
    }
}

fn learn<S>(name: &[u8], meaning: impl Fn(&str, &str) -> Meaning<S>) -> Learned<S> {
    // RFC 4512 §2.5: names are ASCII. What is not, is no attribute of ours and not kept.
    let text = std::str::from_utf8(name).ok();
    let text = text.filter(|text| text.len() <= 256 && text.bytes().all(|b| b.is_ascii_graphic()));
    let Some(text) = text else {
        return Learned { keep: None, is_binary: false, slots: Vec::new() };
    };
    let base = base_name(text);
    // Servers change memberOf without telling a sync (slapd's overlay edits don't touch modifyTimestamp, AD computes it):
    // membership is only read from groups.
    if is_secret(text) || base == "memberof" {
        return Learned { keep: None, is_binary: false, slots: Vec::new() };
    }
    let full = text.to_ascii_lowercase();
    let Meaning { is_kept, slots } = meaning(&full, &base);
    let is_binary = full.split(';').skip(1).any(|option| option == "binary");
    Learned { keep: is_kept.then(|| text.into()), is_binary, slots }
}
