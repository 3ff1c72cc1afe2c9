//! Mails in the queue are sealed, like every other secret: a copy of the database has no link in it that works, and does not
//! say who is written to.
//!
//! Owns where they are sealed for. Recipient and content apart: the page of the queue names the one and has no business with
//! the other.

use super::{
    model::{Mail, Queued},
    queries::Sealed,
};
use crate::{
    error::{Error, Result},
    secret::MasterKey,
};

fn recipient_place(id: &str) -> String {
    format!("mail_outbox:recipient:{id}")
}

fn content_place(id: &str) -> String {
    format!("mail_outbox:content:{id}")
}

/// A mail as the row of this id holds it.
pub(super) fn seal(key: &MasterKey, id: &str, mail: &Mail) -> Sealed {
    let content = serde_json::json!([mail.subject, mail.text, mail.html]).to_string();
    Sealed {
        recipient: key.seal(&recipient_place(id), mail.recipient.as_bytes()),
        content: Some(key.seal(&content_place(id), content.as_bytes())),
    }
}

/// Whom a mail is for; a word that says so where it does not open.
pub(super) fn open_recipient(key: &MasterKey, id: &str, sealed: &[u8]) -> String {
    match key.open(&recipient_place(id), sealed) {
        Ok(plain) => String::from_utf8_lossy(plain.expose()).into_owned(),
        Err(_) => "?".to_owned(),
    }
}

/// The whole mail, for sending.
pub(super) fn open(key: &MasterKey, id: &str, sealed: &Sealed) -> Result<Queued> {
    let fail = |e| Error::caused("a mail of the queue does not open", e);
    let recipient = key.open(&recipient_place(id), &sealed.recipient).map_err(fail)?;
    let content = sealed.content.as_deref().ok_or_else(|| Error::internal("a mail of the queue has no content"))?;
    let content = key.open(&content_place(id), content).map_err(fail)?;
    let (subject, text, html): (String, String, String) = serde_json::from_slice(content.expose())?;
    let recipient = String::from_utf8_lossy(recipient.expose()).into_owned();
    Ok(Queued { recipient, subject, text, html })
}
