//! What is served: attribute types, distinguished names, entries, and one consistent snapshot of all of them.
//!
//! Owns the schema of the sample directory and how values compare (RFC 4517, as far as the sample needs it). Pure: no
//! network, no clock, no change after building. A snapshot must never be altered; a change makes a new one, which
//! shares every entry that stayed the same.

use std::{collections::HashMap, sync::Arc};

use unicode_normalization::UnicodeNormalization as _;

/// How the values of an attribute compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// Case ignored, blanks collapsed.
    Text,
    Dn,
    Number,
    /// Generalised time, UTC.
    Time,
    Boolean,
    Uuid,
    /// Blanks and hyphens ignored.
    Telephone,
}

/// Whether an attribute is returned when nothing is asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    User,
    /// Only when named, or by `+` (RFC 3673).
    Operational,
}

/// An attribute type of the schema.
#[derive(Debug, PartialEq)]
pub struct AttributeType {
    pub name: &'static str,
    aliases: &'static [&'static str],
    pub syntax: Syntax,
    pub usage: Usage,
}

macro_rules! schema {
    ($($id:ident = $name:literal $($alias:literal)* : $syntax:ident $usage:ident;)*) => {
        $(pub static $id: AttributeType =
            AttributeType { name: $name, aliases: &[$($alias),*], syntax: Syntax::$syntax, usage: Usage::$usage };)*
        static SCHEMA: &[&AttributeType] = &[$(&$id),*];
    };
}

schema! {
    OBJECT_CLASS = "objectClass": Text User;
    UID = "uid" "userid": Text User;
    CN = "cn" "commonName": Text User;
    SN = "sn" "surname": Text User;
    GIVEN_NAME = "givenName" "gn": Text User;
    DISPLAY_NAME = "displayName": Text User;
    MAIL = "mail" "rfc822Mailbox": Text User;
    EMPLOYEE_NUMBER = "employeeNumber": Text User;
    EMPLOYEE_TYPE = "employeeType": Text User;
    DEPARTMENT_NUMBER = "departmentNumber": Text User;
    OU = "ou" "organizationalUnitName": Text User;
    O = "o" "organizationName": Text User;
    DC = "dc" "domainComponent": Text User;
    TITLE = "title": Text User;
    MANAGER = "manager": Dn User;
    TELEPHONE_NUMBER = "telephoneNumber": Telephone User;
    L = "l" "localityName": Text User;
    PREFERRED_LANGUAGE = "preferredLanguage": Text User;
    DESCRIPTION = "description": Text User;
    MEMBER = "member": Dn User;
    UNIQUE_MEMBER = "uniqueMember": Dn User;
    MEMBER_UID = "memberUid": Text User;
    GID_NUMBER = "gidNumber": Number User;
    OWNER = "owner": Dn User;
    ENTRY_UUID = "entryUUID": Uuid Operational;
    ENTRY_DN = "entryDN": Dn Operational;
    ENTRY_CSN = "entryCSN": Text Operational;
    CREATE_TIMESTAMP = "createTimestamp": Time Operational;
    MODIFY_TIMESTAMP = "modifyTimestamp": Time Operational;
    CREATORS_NAME = "creatorsName": Dn Operational;
    MODIFIERS_NAME = "modifiersName": Dn Operational;
    STRUCTURAL_OBJECT_CLASS = "structuralObjectClass": Text Operational;
    HAS_SUBORDINATES = "hasSubordinates": Boolean Operational;
    PWD_CHANGED_TIME = "pwdChangedTime": Time Operational;
    PWD_ACCOUNT_LOCKED_TIME = "pwdAccountLockedTime": Time Operational;
    PWD_RESET = "pwdReset": Boolean Operational;
    NAMING_CONTEXTS = "namingContexts": Dn Operational;
    SUPPORTED_LDAP_VERSION = "supportedLDAPVersion": Number Operational;
    SUPPORTED_CONTROL = "supportedControl": Text Operational;
    SUPPORTED_EXTENSION = "supportedExtension": Text Operational;
    SUPPORTED_FEATURES = "supportedFeatures": Text Operational;
    VENDOR_NAME = "vendorName": Text Operational;
    VENDOR_VERSION = "vendorVersion": Text Operational;
}

/// The attribute type of that name or alias, whatever its case.
pub fn attribute_type(name: &str) -> Option<&'static AttributeType> {
    SCHEMA.iter().copied().find(|known| {
        known.name.eq_ignore_ascii_case(name) || known.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
    })
}

/// Compatibility forms, case and runs of blanks folded; blanks at the ends are kept.
pub fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.nfkc().flat_map(char::to_lowercase) {
        let c = if c.is_whitespace() { ' ' } else { c };
        if c != ' ' || !out.ends_with(' ') {
            out.push(c);
        }
    }
    out
}

impl Syntax {
    /// The form in which two equal values are the same text; nothing when the value does not fit the syntax.
    pub fn normalised(self, value: &str) -> Option<String> {
        match self {
            Self::Text => Some(fold(value).trim().to_owned()),
            Self::Dn => Dn::parse(value).map(|dn| dn.key),
            Self::Number => value.trim().parse::<i64>().ok().map(|number| number.to_string()),
            Self::Time => {
                let whole = value.split_once(['.', ',']).map_or(value, |(whole, _)| whole).trim_end_matches('Z');
                let is_time = (8..=14).contains(&whole.len()) && whole.bytes().all(|b| b.is_ascii_digit());
                is_time.then(|| format!("{whole:0<14}Z"))
            }
            Self::Boolean => {
                ["TRUE", "FALSE"].into_iter().find(|word| word.eq_ignore_ascii_case(value)).map(str::to_owned)
            }
            Self::Uuid => uuid::Uuid::parse_str(value).ok().map(|id| id.to_string()),
            Self::Telephone => Some(fold(value).chars().filter(|c| !matches!(c, ' ' | '-')).collect()),
        }
    }
}

/// A distinguished name (RFC 4514) in its comparable form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dn {
    /// Every relative name normalised, special characters as `\xx`, so that `,` only separates. Empty for the root.
    pub key: String,
}

impl Dn {
    /// Reads the text form; nothing when it is not a distinguished name.
    pub fn parse(text: &str) -> Option<Self> {
        if text.trim().is_empty() {
            return Some(Self { key: String::new() });
        }
        let mut names = Vec::new();
        for relative in split_unescaped(text, &[',', ';']) {
            let mut parts = Vec::new();
            for part in split_unescaped(relative, &['+']) {
                let (name, value) = part.split_once('=')?;
                let name = name.trim();
                if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.')) {
                    return None;
                }
                let name = attribute_type(name).map_or(name, |known| known.name).to_ascii_lowercase();
                let value = fold(&unescape(value)?);
                parts.push(format!("{name}={}", escape_key(value.trim())));
            }
            parts.sort();
            names.push(parts.join("+"));
        }
        Some(Self { key: names.join(",") })
    }

    /// The key of the entry above; nothing above the root.
    pub fn parent_key(key: &str) -> Option<&str> {
        if key.is_empty() {
            return None;
        }
        Some(key.split_once(',').map_or("", |(_, parent)| parent))
    }
}

/// Splits at separators that no backslash and no quotation mark protects.
fn split_unescaped<'a>(text: &'a str, separators: &[char]) -> Vec<&'a str> {
    let (mut parts, mut start, mut is_escaped, mut is_quoted) = (Vec::new(), 0, false, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            c if !is_quoted && separators.contains(&c) => {
                parts.extend(text.get(start..index));
                start = index + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.extend(text.get(start..));
    parts
}

/// The value that a relative name writes: blanks around it dropped unless escaped, `\,` and `\2C` resolved.
fn unescape(text: &str) -> Option<String> {
    let text = text.trim_start();
    let text = match text.strip_prefix('"') {
        Some(quoted) => quoted.trim_end().strip_suffix('"')?,
        None => text,
    };
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let mut kept = 0;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'\\' {
            let first = bytes.next()?;
            match char::from(first).to_digit(16) {
                Some(high) => {
                    let low = char::from(bytes.next()?).to_digit(16)?;
                    out.push(u8::try_from(high * 16 + low).ok()?);
                }
                None => out.push(first),
            }
            kept = out.len();
        } else {
            out.push(byte);
            if byte != b' ' {
                kept = out.len();
            }
        }
    }
    out.truncate(kept);
    String::from_utf8(out).ok()
}

fn escape_key(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            ',' | '+' | '=' | '\\' | '"' | ';' | '<' | '>' | '#' | '\0' => {
                out.push_str(&format!("\\{:02x}", u32::from(c)))
            }
            c => out.push(c),
        }
    }
    out
}

/// One attribute with its values, in the order in which they are served.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribute {
    pub kind: &'static AttributeType,
    pub values: Vec<String>,
}

/// The attributes of one entry while it is put together.
#[derive(Debug, Default, PartialEq)]
pub struct Content(pub Vec<Attribute>);

impl Content {
    /// Adds an attribute; one without values is left out, as LDAP knows no empty attribute.
    pub fn add<V: Into<String>>(&mut self, kind: &'static AttributeType, values: impl IntoIterator<Item = V>) {
        let values: Vec<String> = values.into_iter().map(Into::into).collect();
        if !values.is_empty() {
            self.0.push(Attribute { kind, values });
        }
    }
}

/// One entry as served.
#[derive(Debug, PartialEq)]
pub struct Entry {
    pub dn: String,
    /// [`Dn::key`] of it.
    pub key: String,
    /// Everything but the times of the last change, so that "did it change" is one comparison.
    pub content: Content,
    /// `modifyTimestamp` and `entryCSN`.
    pub stamps: Content,
}

impl Entry {
    pub fn attributes(&self) -> impl Iterator<Item = &Attribute> {
        self.content.0.iter().chain(&self.stamps.0)
    }

    pub fn values(&self, kind: &AttributeType) -> &[String] {
        // Statics of the schema are told apart by name, which is unique.
        self.attributes().find(|attribute| attribute.kind.name == kind.name).map_or(&[], |attribute| &attribute.values)
    }
}

/// How far below its base a search looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Base,
    One,
    Subtree,
    /// The subtree without its base.
    Children,
}

/// The whole directory at one moment. An entry's superior always comes before it.
#[derive(Debug, Default)]
pub struct Snapshot {
    entries: Vec<Arc<Entry>>,
    by_key: HashMap<String, usize>,
}

impl Snapshot {
    pub fn new(entries: Vec<Arc<Entry>>) -> Self {
        let by_key = entries.iter().enumerate().map(|(index, entry)| (entry.key.clone(), index)).collect();
        Self { entries, by_key }
    }

    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    pub fn find(&self, key: &str) -> Option<&Arc<Entry>> {
        self.by_key.get(key).and_then(|index| self.entries.get(*index))
    }

    /// The nearest entry at or above the key that exists: `matchedDN` of a failed search.
    pub fn nearest<'a>(&'a self, key: &'a str) -> Option<&'a Arc<Entry>> {
        let mut next = Some(key);
        while let Some(key) = next {
            if let Some(entry) = self.find(key) {
                return Some(entry);
            }
            next = Dn::parent_key(key);
        }
        None
    }

    /// The entries in a scope, superiors first.
    pub fn in_scope<'a>(&'a self, base_key: &'a str, scope: Scope) -> impl Iterator<Item = &'a Arc<Entry>> {
        self.entries.iter().filter(move |entry| {
            let is_base = entry.key == base_key;
            let is_below = || entry.key.strip_suffix(base_key).is_some_and(|above| above.ends_with(','));
            match scope {
                Scope::Base => is_base,
                Scope::One => Dn::parent_key(&entry.key) == Some(base_key),
                Scope::Subtree => is_base || is_below(),
                Scope::Children => !is_base && is_below(),
            }
        })
    }
}
