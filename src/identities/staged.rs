//! The content of one object, ready to be written: what the planner makes of an observation.
//!
//! Owns what is derived from what a directory says: the folded name that orders lists, the words that search finds.
//! It writes nothing.

use std::{borrow::Cow, collections::HashMap};

use super::{
    fold::{fold, index_text, state_facets},
    model::{ObjectId, SubjectType},
};
use crate::{
    connectors::{AccountType, Fact, GroupFields, IdentityFields, Key, Keys, Source, Status},
    error::Result,
};

/// What a staged object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StagedKind {
    Identity,
    Group,
    /// A member value that points at nothing in the copy.
    Reference,
}

impl StagedKind {
    pub(super) fn code(self) -> i64 {
        match self {
            Self::Identity => SubjectType::Identity.code(),
            Self::Group => SubjectType::Group.code(),
            Self::Reference => 3,
        }
    }

    pub(super) fn of_code(code: i64) -> Option<Self> {
        [Self::Identity, Self::Group, Self::Reference].into_iter().find(|kind| kind.code() == code)
    }
}

/// The new content of one object.
#[derive(Debug)]
pub struct Staged {
    pub object_id: ObjectId,
    pub kind: StagedKind,
    /// The copy has nothing with this id yet.
    pub is_new: bool,
    pub(super) external_id: String,
    pub(super) source: Source,
    pub(super) keys: Keys,
    pub(super) name: String,
    pub(super) display_name: Option<String>,
    pub(super) mail: Option<String>,
    pub(super) description: Option<String>,
    pub(super) sort_key: String,
    pub(super) status: Option<Status>,
    pub(super) account_type: AccountType,
    /// An identity that is privileged by itself, a group whose members are.
    pub(super) is_privileged: bool,
    /// JSON.
    pub fields: String,
    /// Empty: the words stay as they are.
    pub(super) search_text: String,
    pub(super) member_count: i64,
}

/// The words by which an object is found.
#[derive(Debug)]
pub struct SearchText {
    pub(super) object_id: ObjectId,
    pub(super) kind: StagedKind,
    pub(super) is_new: bool,
    pub(super) text: String,
    /// As much of the status and the account's type as stands beside the words.
    pub(super) state: Option<Cow<'static, str>>,
}

/// The words that an identity is found by, as the search index keeps them: addresses first, which often begin with the
/// user name.
pub(super) fn identity_text(fields: &IdentityFields) -> String {
    let texts = [
        fields.mail.as_deref(),
        fields.upn.as_deref(),
        Some(fields.user_name.as_str()),
        fields.display_name.as_deref(),
        fields.given_name.as_deref(),
        fields.family_name.as_deref(),
        fields.employee_id.as_deref(),
    ];
    index_text(fields.mails.iter().map(String::as_str).chain(texts.into_iter().flatten()))
}

/// The words that a group is found by.
pub(super) fn group_text(fields: &GroupFields) -> String {
    index_text([Some(fields.name.as_str()), fields.description.as_deref()].into_iter().flatten())
}

/// Words that are none are still others than those of before.
fn words(text: String) -> String {
    if text.is_empty() { " ".to_owned() } else { text }
}

/// What a staged object is known by: its number, and whether the copy has it already.
#[derive(Debug, Clone)]
pub struct Named {
    pub object_id: ObjectId,
    pub is_new: bool,
    pub external_id: String,
    pub source: Source,
    pub keys: Keys,
}

impl Staged {
    /// An identity; `json` is `fields` as [`serde_json`] writes it.
    pub fn identity(named: Named, fields: IdentityFields, json: String) -> Self {
        let search_text = words(identity_text(&fields));
        let shown = fields.display_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&fields.user_name);
        Self {
            object_id: named.object_id,
            kind: StagedKind::Identity,
            is_new: named.is_new,
            external_id: named.external_id,
            source: named.source,
            keys: named.keys,
            sort_key: fold(shown),
            name: fields.user_name,
            display_name: fields.display_name,
            mail: fields.mail,
            description: None,
            status: Some(fields.status),
            account_type: fields.account_type,
            is_privileged: fields.facts.contains(&Fact::BuiltInAdministrator),
            fields: json,
            search_text,
            member_count: 0,
        }
    }

    /// A group; `json` is `fields` as [`serde_json`] writes it.
    pub fn group(named: Named, fields: GroupFields, json: String, member_count: i64) -> Self {
        let search_text = words(group_text(&fields));
        Self {
            object_id: named.object_id,
            kind: StagedKind::Group,
            is_new: named.is_new,
            external_id: named.external_id,
            source: named.source,
            keys: named.keys,
            sort_key: fold(&fields.name),
            name: fields.name,
            display_name: None,
            mail: None,
            description: fields.description,
            status: None,
            account_type: AccountType::User,
            is_privileged: fields.privileged.is_some(),
            fields: json,
            search_text,
            member_count,
        }
    }

    /// Lets its words be as the search index has them, if they are those of `before` (the JSON of its content until now):
    /// writing them is what takes longest, and few changes touch a name.
    pub fn without_words_of(mut self, before: Option<&str>) -> Result<Self> {
        let Some(before) = before else { return Ok(self) };
        let is_same = match self.kind {
            StagedKind::Identity => {
                let before: IdentityFields = serde_json::from_str(before)?;
                words(identity_text(&before)) == self.search_text
                    && (Some(before.status), before.account_type) == (self.status, self.account_type)
            }
            StagedKind::Group => words(group_text(&serde_json::from_str(before)?)) == self.search_text,
            StagedKind::Reference => false,
        };
        if is_same {
            self.search_text.clear();
        }
        Ok(self)
    }

    /// Takes out the words by which it is found; `None` for a reference, and for what keeps the words it has.
    pub fn take_search_text(&mut self) -> Option<SearchText> {
        (!self.search_text.is_empty()).then(|| SearchText {
            object_id: self.object_id,
            kind: self.kind,
            is_new: self.is_new,
            text: std::mem::take(&mut self.search_text),
            state: self.status.map(|status| state_facets(status, self.account_type)),
        })
    }

    /// A member value that points at nothing in the copy.
    pub fn reference(object_id: ObjectId, key: Key, text: String) -> Self {
        Self {
            object_id,
            kind: StagedKind::Reference,
            is_new: true,
            external_id: String::new(),
            source: Source([0; 16]),
            keys: Keys { dn: Some(key), name: None },
            name: text,
            display_name: None,
            mail: None,
            description: None,
            sort_key: String::new(),
            status: None,
            account_type: AccountType::User,
            is_privileged: false,
            fields: String::new(),
            search_text: String::new(),
            member_count: 0,
        }
    }
}

/// One field that differs: name, before, after as JSON.
pub type Difference = (String, Option<String>, Option<String>);

/// Field-by-field differences between two stored contents: name, before, after as JSON. Raw attributes are compared
/// one by one as `attributes.<name>`.
pub fn differences(before: &str, after: &str) -> Result<Vec<Difference>> {
    type Object = HashMap<String, serde_json::Value>;
    let (mut before, mut after): (Object, Object) = (serde_json::from_str(before)?, serde_json::from_str(after)?);
    let attributes = |object: &mut Object| match object.remove("attributes") {
        Some(serde_json::Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let (old, new) = (attributes(&mut before), attributes(&mut after));
    let mut found = Vec::new();
    let mut compare = |name: String, old: Option<&serde_json::Value>, new: Option<&serde_json::Value>| {
        if old != new {
            found.push((name, old.map(ToString::to_string), new.map(ToString::to_string)));
        }
    };
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        compare(name.clone(), before.get(name), after.get(name));
    }
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        compare(format!("attributes.{name}"), old.get(name), new.get(name));
    }
    Ok(found)
}

/// Undoes one change of a content: puts `before` (JSON) where `field` names, or takes the field away.
pub fn undo(content: &mut serde_json::Map<String, serde_json::Value>, field: &str, before: Option<&str>) -> Result<()> {
    let value = before.map(serde_json::from_str::<serde_json::Value>).transpose()?;
    let (target, name) = match field.strip_prefix("attributes.") {
        Some(name) => {
            let attributes =
                content.entry("attributes").or_insert_with(|| serde_json::Value::Object(serde_json::Map::new()));
            match attributes.as_object_mut() {
                Some(attributes) => (attributes, name),
                None => return Ok(()),
            }
        }
        None => (content, field),
    };
    match value {
        Some(value) => target.insert(name.to_owned(), value),
        None => target.remove(name),
    };
    Ok(())
}
