//! What the form of a directory shows beside its fields: the presets, and one entry as it would be read.
//!
//! Owns how much of an entry is shown: one with a thousand values must not make the form unusable.

use super::words;
use crate::connectors::{Sample, Value, openldap::Preset};

/// `MAPPED_FIELDS` as people say them.
pub(super) const MAPPED_LABELS: [&str; 10] = [
    "User name",
    "UPN",
    "Mail",
    "Display name",
    "Given name",
    "Family name",
    "Employee id",
    "Department",
    "Title",
    "Manager",
];

/// A preset as the form offers it.
pub(super) struct PresetRow {
    pub code: &'static str,
    pub title: &'static str,
    pub sentence: &'static str,
    pub user_filter: &'static str,
    pub group_filter: &'static str,
}

pub(super) fn presets() -> [PresetRow; 4] {
    Preset::ALL.map(|preset| {
        let (title, sentence) = match preset {
            Preset::InetOrgPerson => (
                "inetOrgPerson, all kinds of groups",
                "People are inetOrgPerson entries; groups may be groupOfNames, groupOfUniqueNames or posixGroup.",
            ),
            Preset::GroupOfNames => (
                "inetOrgPerson and groupOfNames",
                "People are inetOrgPerson entries; groups list the DNs of their members in member.",
            ),
            Preset::GroupOfUniqueNames => (
                "inetOrgPerson and groupOfUniqueNames",
                "People are inetOrgPerson entries; groups list the DNs of their members in uniqueMember.",
            ),
            Preset::PosixGroup => (
                "posixAccount and posixGroup",
                "People are inetOrgPerson or posixAccount entries; groups list user names in memberUid.",
            ),
        };
        PresetRow {
            code: preset.as_str(),
            title,
            sentence,
            user_filter: preset.user_filter(),
            group_filter: preset.group_filter(),
        }
    })
}

/// One entry as the form shows it.
pub(super) struct SampleView {
    pub dn: String,
    /// Field, value.
    pub mapped: Vec<(&'static str, String)>,
    /// Attribute name, values.
    pub raw: Vec<(String, Vec<String>)>,
    /// Attributes beyond those shown.
    pub more: usize,
}

/// What of a sample is shown: an entry with a thousand values must not make the form unusable.
const SAMPLE_ATTRIBUTES_MAX: usize = 80;
const SAMPLE_VALUES_MAX: usize = 8;
const SAMPLE_CHARS_MAX: usize = 160;

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(SAMPLE_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

impl SampleView {
    pub(super) fn new(sample: &Sample) -> Self {
        let fields = &sample.mapped;
        let text = |part: &Option<String>| part.as_deref().map(shortened).unwrap_or_default();
        let mails = match fields.mails.len() {
            0 | 1 => text(&fields.mail),
            count => format!("{} and {} more", text(&fields.mail), count - 1),
        };
        let values = [
            shortened(&fields.user_name),
            text(&fields.upn),
            mails,
            text(&fields.display_name),
            text(&fields.given_name),
            text(&fields.family_name),
            text(&fields.employee_id),
            text(&fields.department),
            text(&fields.title),
            text(&fields.manager),
        ];
        let mut mapped: Vec<_> = MAPPED_LABELS.into_iter().zip(values).collect();
        mapped.push(("Status", fields.status.as_str().to_owned()));
        let raw = sample.attributes.iter().take(SAMPLE_ATTRIBUTES_MAX).map(|(name, values)| {
            let mut shown: Vec<String> = values
                .iter()
                .take(SAMPLE_VALUES_MAX)
                .map(|value| match value {
                    Value::Text(text) => shortened(text),
                    Value::Binary { base64 } => format!("(binary, {} bytes)", words::number(bytes_of(base64))),
                })
                .collect();
            if values.len() > SAMPLE_VALUES_MAX {
                let more = i64::try_from(values.len() - SAMPLE_VALUES_MAX).unwrap_or(i64::MAX);
                shown.push(format!("and {} more", words::number(more)));
            }
            (shortened(name), shown)
        });
        Self {
            dn: sample.dn.clone(),
            mapped,
            raw: raw.collect(),
            more: sample.attributes.len().saturating_sub(SAMPLE_ATTRIBUTES_MAX),
        }
    }
}

fn bytes_of(base64: &str) -> i64 {
    i64::try_from(base64.trim_end_matches('=').len() * 3 / 4).unwrap_or(i64::MAX)
}
