//! Connectors: the code for each kind of directory, behind one small trait.
//!
//! A connector answers with pages of observations. It knows no SQL, no clock and no retry: when to read, what to do
//! with the answer and when to try again is `directories`' business. It must never write to a directory while it
//! reads, follow a referral, or deliver a short answer as a whole one: every reading that did not end with an
//! explicit success is an [`Failure`].
//!
//! Base ability: probe and read. Optional abilities ([`Delta`], [`act::Act`]) are separate small traits.
//!
//! What is read comes as [`Page`]s of [`Sighting`]s: the id of each object and a fingerprint of what the directory sent.
//! Most objects of most readings are as they were, and nothing more is done with those; the rest is mapped when
//! [`Content`] is asked for it.

pub mod act;
pub mod active_directory;
mod facts;
mod kinds;
pub mod ldap;
pub mod openldap;
pub mod tls;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

pub use self::facts::{AccountType, Fact};
pub use self::kinds::{
    Kind, Outline, OutlinePart, check, check_act, is_same_way, never, never_acts, offer, open, open_act, outline,
    read_with, stored,
};
pub use crate::kernel::BoxFuture;

/// One directory, opened with its settings and credentials.
pub trait Connector: Send + Sync {
    /// Tries each step of the way apart and says, for each, ok or why not and how to fix it. Never fails as a whole.
    fn probe(&self) -> BoxFuture<'_, ProbeReport>;

    /// Reads everything. Pages go into `pages`; `Ok` only when the directory said that this was all. When the
    /// receiver is gone (the run was cancelled), the reading stops with [`FailureKind::Cancelled`].
    ///
    /// Order: all identities, then every group as [`Sighting::GroupSeen`], then every group as [`Sighting::Group`],
    /// so that members can be resolved while they stream past and nothing has to be held.
    fn read_full(&self, pages: mpsc::Sender<Page>) -> BoxFuture<'_, Result<ReadEnd, Failure>>;

    /// How changes alone are read; `None` where the directory cannot.
    fn delta(&self) -> Option<&dyn Delta>;

    /// One user entry as the directory holds it and as the mapping reads it, for the mapping form.
    fn sample(&self) -> BoxFuture<'_, Result<Sample, Failure>>;
}

/// Reading what has changed since an earlier reading. An optional ability.
pub trait Delta: Send + Sync {
    /// Reads what has changed since `watermark`, which an earlier reading ended with ([`ReadEnd::watermark`],
    /// [`DeltaEnd::watermark`]). The order is that of [`Connector::read_full`]; within each kind, first what is there,
    /// then what is gone. Nothing that was sent in this reading is called gone in it.
    fn read_changes<'a>(
        &'a self,
        watermark: &'a str,
        pages: mpsc::Sender<Page>,
    ) -> BoxFuture<'a, Result<DeltaEnd, DeltaStop>>;

    /// The identities with these external ids, as [`Sighting::Identity`] with the sources of a full reading. Ids that are
    /// not found are not sent.
    fn read_identities(
        &self,
        external_ids: Vec<String>,
        pages: mpsc::Sender<Page>,
    ) -> BoxFuture<'_, Result<(), Failure>>;

    /// The groups with these external ids, all as [`Sighting::GroupSeen`] and then as [`Sighting::Group`]. Ids that
    /// are not found are not sent.
    fn read_groups(&self, external_ids: Vec<String>, pages: mpsc::Sender<Page>) -> BoxFuture<'_, Result<(), Failure>>;

    /// Waits for changes after `watermark` and counts them in `heard`; what has changed is [`Delta::read_changes`]'
    /// business. Ends well when the receiver is gone, or after some minutes in which nothing happened: call it again with
    /// the watermark of then. `None` where the directory can't do this.
    fn watch<'a>(
        &'a self,
        watermark: &'a str,
        heard: watch::Sender<Heard>,
    ) -> Option<BoxFuture<'a, Result<(), WatchStop>>> {
        let _ = (watermark, heard);
        None
    }
}

/// What a watch has heard so far. Counted, not queued: whoever listens late misses nothing and nothing piles up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// The directory has taken the watch on; every change from here on is told.
    pub is_listening: bool,
    /// How often something may have changed.
    pub changes: u64,
}

/// The key of a distinguished name as written; `None` when it is not one.
pub fn dn_key(text: &str) -> Option<Key> {
    ldap::dn::normalise(text).ok().map(|normalised| Key::of_dn(&normalised))
}

/// What ended a complete reading.
#[derive(Debug, Clone, Default)]
pub struct ReadEnd {
    /// The server that answered, as configured (`ldaps://host:636`).
    pub server: String,
    /// Where reading changes goes on from here: JSON that only the connector reads. `None` where it cannot.
    pub watermark: Option<String>,
    /// How many people and groups the directory itself says there are, where it says so.
    pub counted: Option<u64>,
}

/// What ended a reading of changes.
#[derive(Debug, Clone, Default)]
pub struct DeltaEnd {
    /// The server that answered, as configured.
    pub server: String,
    /// Where the next one goes on.
    pub watermark: String,
    /// Identities that were neither sent nor [`Sighting::Present`] are gone (RFC 4533 §3.3.1, present phase).
    pub lists_identities: bool,
    /// The same for groups.
    pub lists_groups: bool,
    /// Deletions were among the changes, or follow from the lists. Otherwise only a full reading finds them.
    pub finds_deletions: bool,
}

/// Why changes could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeltaStop {
    /// As in a full reading; a later try with the same watermark may do.
    Failed(Failure),
    /// The watermark is of no use any more, a full reading is needed; the reason is a sentence.
    WatermarkLost { reason: String },
}

/// Why a directory is not watched any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchStop {
    /// A later try may do.
    Failed(Failure),
    /// As in [`DeltaStop`].
    WatermarkLost { reason: String },
    /// The server does not tell changes; the reason is a sentence.
    NotOffered { reason: String },
}

impl From<Failure> for WatchStop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<DeltaStop> for WatchStop {
    fn from(stop: DeltaStop) -> Self {
        match stop {
            DeltaStop::Failed(failure) => Self::Failed(failure),
            DeltaStop::WatermarkLost { reason } => Self::WatermarkLost { reason },
        }
    }
}

impl From<Failure> for DeltaStop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Fingerprint of an object as the directory sent it and of the way in which it is mapped: 128 bits of a SHA-256. Two
/// equal sources are mapped to the same object; different ones may be as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(pub [u8; 16]);

/// A part of a reading: what was seen, in order, and the means to look closer at what is new or changed.
pub struct Page {
    pub sightings: Vec<Sighting>,
    pub content: Box<dyn Content>,
}

/// One thing seen in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    Identity {
        external_id: String,
        source: Source,
    },
    /// A group exists under these keys; its content follows later.
    GroupSeen {
        external_id: String,
        keys: Keys,
    },
    Group {
        external_id: String,
        source: Source,
    },
    /// In a reading of changes: it is there, unchanged since the watermark. Not that the copy holds it so: it may not have
    /// been readable then.
    Present {
        subject: Subject,
        external_id: String,
    },
    /// In a reading of changes: it is gone, or it is no longer of this kind, or no longer where this directory's
    /// settings look. A directory may name ids here that it never sent before, also those of the other kind.
    Deleted {
        subject: Subject,
        external_id: String,
    },
    /// An object that could not be read (undecodable, no id): quarantined with its reason, the run goes on.
    Unreadable(Unreadable),
}

/// Which kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    Identity,
    Group,
}

/// An object that exists but could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    pub external_id: Option<String>,
    /// What the directory calls it (a DN), as far as it can be shown.
    pub name: String,
    /// Why, as a sentence.
    pub reason: String,
}

/// Maps one object of a page when it is asked for, which is only where its source differs from the copy's.
pub trait Content: Send {
    /// The identity of the sighting at `index` of the page.
    fn identity(&mut self, index: usize) -> Result<ObservedIdentity, Unreadable>;
    /// The group of the sighting at `index` of the page.
    fn group(&mut self, index: usize) -> Result<ObservedGroup, Unreadable>;
}

/// What a content answers that was asked for something its page has not: an error of ours, which costs one object.
pub fn no_such_content() -> Unreadable {
    Unreadable { external_id: None, name: String::new(), reason: "The page does not hold this object.".to_owned() }
}

/// One thing seen and mapped at once, for connectors whose objects are small and few, and for tests.
#[derive(Debug, Clone)]
pub enum Observed {
    Identity(Box<ObservedIdentity>),
    GroupSeen { external_id: String, keys: Keys },
    Group(Box<ObservedGroup>),
    Present { subject: Subject, external_id: String },
    Deleted { subject: Subject, external_id: String },
    Unreadable(Unreadable),
}

impl Page {
    /// A page of objects that are mapped already. The source of each is taken from its fields.
    pub fn of(observed: Vec<Observed>) -> Self {
        let sightings = observed.iter().map(Observed::sighting).collect();
        Self { sightings, content: Box::new(Mapped(observed)) }
    }
}

impl Observed {
    fn sighting(&self) -> Sighting {
        match self {
            Self::Identity(identity) => Sighting::Identity {
                external_id: identity.external_id.clone(),
                source: Source::of_fields(&identity.fields, &identity.keys, &[]),
            },
            Self::GroupSeen { external_id, keys } => {
                Sighting::GroupSeen { external_id: external_id.clone(), keys: *keys }
            }
            Self::Group(group) => Sighting::Group {
                external_id: group.external_id.clone(),
                source: Source::of_fields(&group.fields, &group.keys, &group.members),
            },
            Self::Present { subject, external_id } => {
                Sighting::Present { subject: *subject, external_id: external_id.clone() }
            }
            Self::Deleted { subject, external_id } => {
                Sighting::Deleted { subject: *subject, external_id: external_id.clone() }
            }
            Self::Unreadable(unreadable) => Sighting::Unreadable(unreadable.clone()),
        }
    }
}

impl Source {
    fn of_fields(fields: &impl Serialize, keys: &Keys, members: &[MemberRef]) -> Self {
        use std::fmt::Write as _;
        // Fields without maps of odd keys always become JSON.
        let mut text = serde_json::to_string(fields).unwrap_or_default();
        let _ = write!(text, "{keys:?}");
        for member in members {
            // Not its text: the key is made of it, and a connector may know the one without the other.
            let _ = write!(text, "{:?}", member.key);
        }
        Self::cut(&crate::secret::sha256(text.as_bytes()))
    }

    /// The first half of a SHA-256.
    pub fn cut(hash: &[u8]) -> Self {
        let mut cut = [0_u8; 16];
        for (to, from) in cut.iter_mut().zip(hash) {
            *to = *from;
        }
        Self(cut)
    }
}

struct Mapped(Vec<Observed>);

impl Content for Mapped {
    fn identity(&mut self, index: usize) -> Result<ObservedIdentity, Unreadable> {
        match self.0.get(index) {
            Some(Observed::Identity(identity)) => Ok((**identity).clone()),
            _ => Err(no_such_content()),
        }
    }

    fn group(&mut self, index: usize) -> Result<ObservedGroup, Unreadable> {
        match self.0.get(index) {
            Some(Observed::Group(group)) => Ok((**group).clone()),
            _ => Err(no_such_content()),
        }
    }
}

/// A 128-bit key by which other objects refer to this one: a hash of the normalised DN or of the user name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub [u8; 16]);

impl Key {
    /// The first and the last 64 bits, as a database compares and keeps them best.
    pub fn halves(&self) -> (i64, i64) {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.0;
        (i64::from_be_bytes([a, b, c, d, e, f, g, h]), i64::from_be_bytes([i, j, k, l, m, n, o, p]))
    }

    fn of(kind: &str, text: &str) -> Self {
        let hash = crate::secret::sha256_of(&[kind.as_bytes(), b"\0", text.as_bytes()]);
        let mut key = [0_u8; 16];
        key.copy_from_slice(&hash[..16]);
        Self(key)
    }

    /// The key of a distinguished name that has been normalised already.
    pub fn of_dn(normalised: &str) -> Self {
        Self::of("dn", normalised)
    }

    /// The key of a user name (`memberUid` refers by it), case folded already.
    pub fn of_name(folded: &str) -> Self {
        Self::of("name", folded)
    }
}

/// The keys under which an object is referred to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keys {
    pub dn: Option<Key>,
    /// Only where groups refer by user name (posixGroup).
    pub name: Option<Key>,
}

/// One member as a group names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRef {
    pub key: Key,
    /// The value as the directory wrote it, shown when it points at nothing we know.
    pub text: String,
}

/// A user account as read, normalised (DESIGN §4).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ObservedIdentity {
    /// The immutable id (entryUUID); never DN, UPN or mail.
    pub external_id: String,
    pub keys: Keys,
    pub fields: IdentityFields,
}

/// The fields of an identity that the console and the API know by name. Times are RFC 3339 UTC.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IdentityFields {
    pub user_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upn: Option<String>,
    /// The first mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
    /// All mail addresses, in the directory's order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mails: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub employee_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub department: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The manager as the directory writes it (a DN in LDAP); resolved when shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manager: Option<String>,
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sign_in_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_changed_at: Option<String>,
    /// The password has to be changed at the next sign-in (ppolicy `pwdReset`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub must_change_password: bool,
    #[serde(skip_serializing_if = "AccountType::is_user")]
    pub account_type: AccountType,
    /// Sorted, none twice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<Fact>,
    /// Every attribute that was read and that the mapping keeps, by the directory's attribute name (`dn` included),
    /// values in the directory's order.
    pub attributes: Attributes,
}

/// Raw values by attribute name. The same few dozen names stand at every object, so they are shared.
pub type Attributes = BTreeMap<Arc<str>, Vec<Value>>;

/// A value of a raw attribute: text, or base64 of what is not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    Text(String),
    Binary { base64: String },
}

/// Whether an account can be used, in the words of PRODUCT/DESIGN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    #[default]
    Active,
    Disabled,
    Locked,
    Expired,
    Suspended,
    Staged,
    Deprovisioned,
}

impl Status {
    pub const ALL: [Self; 7] =
        [Self::Active, Self::Disabled, Self::Locked, Self::Expired, Self::Suspended, Self::Staged, Self::Deprovisioned];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Locked => "locked",
            Self::Expired => "expired",
            Self::Suspended => "suspended",
            Self::Staged => "staged",
            Self::Deprovisioned => "deprovisioned",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// A group as read, with every direct member.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ObservedGroup {
    pub external_id: String,
    pub keys: Keys,
    pub fields: GroupFields,
    pub members: Vec<MemberRef>,
}

/// The fields of a group that are known by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupFields {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The directory's own word for the kind, for example `groupOfNames`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its members are privileged: the name by which this group is known everywhere, whatever its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<String>,
    /// Raw attributes without the members (`dn` included).
    pub attributes: Attributes,
}

/// Why a connector could not do what was asked: one plain sentence and the next step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Failure {
    pub kind: FailureKind,
    /// What failed, for which thing, as a sentence for an administrator.
    pub message: String,
    /// What to do next, as a sentence.
    pub next_step: String,
}

impl Failure {
    pub fn new(kind: FailureKind, message: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self { kind, message: message.into(), next_step: next_step.into() }
    }
}

/// The kinds of failure that callers and tests tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The host name has no address.
    NameResolution,
    /// No server of the list accepts a connection.
    Unreachable,
    /// No answer in time.
    TimedOut,
    /// The connection ended in the middle.
    ConnectionLost,
    /// The certificate is not from a trusted authority.
    CertificateUntrusted,
    CertificateExpired,
    /// The certificate is for another host name.
    CertificateName,
    /// Another TLS error (no common version, alert).
    Tls,
    /// The server refused StartTLS.
    StartTlsRefused,
    /// The server demands TLS or signing before this.
    ConfidentialityRequired,
    /// Plain LDAP without the explicit consent in the settings.
    PlaintextNotAccepted,
    /// Wrong bind DN or password (LDAP result 49).
    InvalidCredentials,
    /// May not read this (LDAP result 50).
    AccessDenied,
    /// The base does not exist (LDAP result 32).
    NoSuchBase,
    /// The filter or a DN is not valid.
    InvalidSettings,
    /// The server cut the answer: size, time or administrative limit (LDAP results 3, 4, 11).
    LimitExceeded,
    /// Busy or unavailable (LDAP results 51, 52).
    ServerBusy,
    /// The server points elsewhere (LDAP result 10); never followed.
    Referral,
    /// What was to be changed is not there.
    NotFound,
    /// What was to be changed was changed by somebody else at the same moment.
    Changed,
    /// The server understood a change and does not make it.
    Refused,
    /// The answer breaks the protocol or our limits.
    ProtocolViolation,
    /// The appliance stopped the reading.
    Cancelled,
    /// Any other result, with its code in the message.
    Other,
}

/// The answer of a probe.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProbeReport {
    pub steps: Vec<ProbeStep>,
    pub abilities: Vec<Ability>,
}

impl ProbeReport {
    /// No step failed.
    pub fn is_ok(&self) -> bool {
        self.steps.iter().all(|step| step.state != StepState::Failed)
    }
}

/// One step of a probe, in the order tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProbeStep {
    /// Stable name: `discovery name-resolution connect tls bind base users groups paging syncrepl`.
    pub step: String,
    /// Which server or base this is about, when there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    pub state: StepState,
    /// What was seen, as a sentence.
    pub message: String,
    /// What to do when it is not ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    Ok,
    /// Works, but somebody should look.
    Warning,
    Failed,
    /// Not tried because an earlier step failed.
    Skipped,
}

/// What the credentials allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ability {
    /// Stable name: `read delta sign-ins disable force-password-reset …`.
    pub ability: String,
    pub state: AbilityState,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AbilityState {
    Granted,
    Missing,
    NotLicensed,
    Unknown,
}

/// One entry, raw and mapped, for the mapping form.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    pub dn: String,
    /// Attribute name → values, in the server's order of attributes.
    pub attributes: Vec<(String, Vec<Value>)>,
    pub mapped: IdentityFields,
}
