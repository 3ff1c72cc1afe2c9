//! Every mail that the appliance sends: what goes into it, as a type, and its words.
//!
//! Owns the kinds and their templates (`templates/mail/`, each as text and as HTML with the same content). It must never
//! let a name that people chose reach a mail with line ends or hidden characters in it, and puts no picture and no address
//! of another host into one: a mail tells nobody that it was read.
//!
//! A mail is written in the language of its reader, whoever caused it: each kind asks for the reader's locale.

use std::{borrow::Borrow, fmt::Display, net::IpAddr};

use askama::Template;

use super::model::{Link, Mail, check_address};
use crate::{
    clock::{MINUTE, Time},
    email,
    error::{Error, Result},
    language::Language,
};

/// The longest name that is repeated in a mail: a longer one is somebody's message rather than a name.
const NAME_CHARS_MAX: usize = 80;

/// A name that people chose, as it stands in a mail: on one line, without what hides or turns text, and no address to
/// click on: mail programs make links of whatever looks like one.
fn plain(name: impl std::fmt::Display) -> String {
    let name = name.to_string();
    let mut out: String =
        name.chars().map(|c| if email::is_hidden(c) { ' ' } else { c }).take(NAME_CHARS_MAX).collect();
    if name.chars().count() > NAME_CHARS_MAX {
        out.push('…');
    }
    out.replace("://", ": //").trim().to_owned()
}

/// What says the texts of a mail in its reader's language. The values stay as they are.
#[derive(Clone, Copy)]
struct Words(Language);

impl Words {
    fn t(self, text: impl AsRef<str>) -> String {
        self.0.say(text.as_ref()).into_owned()
    }

    fn t1(self, text: &str, value: impl Display) -> String {
        self.0.fill(text, &[&value])
    }

    fn t2(self, text: &str, first: impl Display, second: impl Display) -> String {
        self.0.fill(text, &[&first, &second])
    }

    fn t3(self, text: &str, first: impl Display, second: impl Display, third: impl Display) -> String {
        self.0.fill(text, &[&first, &second, &third])
    }

    fn time(self, at: impl Borrow<Time>) -> String {
        self.0.time(*at.borrow())
    }
}

/// What the kinds have in common.
struct Frame<'a> {
    kind: &'static str,
    to: &'a str,
    subject: String,
    has_secret: bool,
    expires_at: Option<Time>,
}

fn finish(frame: Frame<'_>, text: &impl Template, html: &impl Template) -> Result<Mail> {
    let rendered =
        |result: askama::Result<String>| result.map_err(|e| Error::caused("a mail could not be rendered", e));
    check_address(frame.to).map_err(|_| Error::field("email", "No mail can be sent to this address."))?;
    Ok(Mail {
        kind: frame.kind,
        recipient: frame.to.to_owned(),
        subject: frame.subject,
        text: rendered(text.render())?,
        html: rendered(html.render())?,
        has_secret: frame.has_secret,
        expires_at: frame.expires_at,
    })
}

/// Both templates of a kind, and its constructor. In the templates: `subject`, `locale`, `words`, `mail` (the kind
/// itself).
macro_rules! mail {
    (
        $kind:ident, $code:literal, $text:ident, $text_path:tt, $html:ident, $html_path:tt,
        subject: $subject:expr, secret: $has_secret:literal, expires: $expires:expr
    ) => {
        #[derive(Template)]
        #[template(path = $text_path)]
        struct $text<'a> {
            subject: &'a str,
            words: Words,
            mail: &'a $kind<'a>,
        }

        #[derive(Template)]
        #[template(path = $html_path)]
        struct $html<'a> {
            subject: &'a str,
            locale: &'static str,
            words: Words,
            mail: &'a $kind<'a>,
        }

        impl $kind<'_> {
            /// The mail to one address, in the language of its reader.
            pub fn mail(&self, to: &str, locale: &str) -> Result<Mail> {
                let subject: fn(&Self, Words) -> String = $subject;
                let expires: fn(&Self) -> Option<Time> = $expires;
                let language = Language::of(locale);
                let words = Words(language);
                let subject = subject(self, words);
                let text = $text { subject: &subject, words, mail: self };
                let html = $html { subject: &subject, locale: language.code(), words, mail: self };
                let frame = Frame {
                    kind: $code,
                    to,
                    subject: subject.clone(),
                    has_secret: $has_secret,
                    expires_at: expires(self),
                };
                finish(frame, &text, &html)
            }
        }
    };
}

/// Somebody is invited to an account.
pub struct Invitation<'a> {
    /// Alias of the account.
    pub account: &'a str,
    /// Name of the user who invites.
    pub inviter: &'a str,
    pub role: &'a str,
    /// Accepts the invitation: with the token.
    pub link: &'a Link,
    pub expires_at: Time,
}

mail!(
    Invitation, "invitation", InvitationText, "mail/invitation.txt", InvitationHtml, "mail/invitation.html",
    subject: |mail, words| words.t2("{} invites you to {}", plain(mail.inviter), plain(mail.account)),
    secret: true, expires: |mail| Some(mail.expires_at)
);

/// An address has to be shown to belong to its user.
pub struct VerifyAddress<'a> {
    /// With the token.
    pub link: &'a Link,
    pub expires_at: Time,
}

mail!(
    VerifyAddress, "verify-address", VerifyAddressText, "mail/verify_address.txt", VerifyAddressHtml,
    "mail/verify_address.html",
    subject: |_, words| words.t("Confirm your mail address"),
    secret: true, expires: |mail| Some(mail.expires_at)
);

/// A new password was asked for.
pub struct PasswordReset<'a> {
    /// With the token.
    pub link: &'a Link,
    pub asked_at: Time,
    /// Who asked, as far as it is known.
    pub address: IpAddr,
}

impl PasswordReset<'_> {
    /// How long its link works.
    pub const LIFETIME_US: i64 = 30 * MINUTE;

    pub fn expires_at(&self) -> Time {
        self.asked_at.plus(Self::LIFETIME_US)
    }
}

mail!(
    PasswordReset, "password-reset", PasswordResetText, "mail/password_reset.txt", PasswordResetHtml,
    "mail/password_reset.html",
    subject: |_, words| words.t("Set a new password"),
    secret: true, expires: |mail| Some(mail.expires_at())
);

/// A password was changed.
pub struct PasswordChanged<'a> {
    pub at: Time,
    /// From where; an empty text where it was at the machine itself.
    pub address: &'a str,
}

mail!(
    PasswordChanged, "password-changed", PasswordChangedText, "mail/password_changed.txt", PasswordChangedHtml,
    "mail/password_changed.html",
    subject: |_, words| words.t("Your password was changed"),
    secret: false, expires: |_| None
);

/// What became of somebody's second factors.
#[derive(Debug, Clone, Copy)]
pub enum MfaChange<'a> {
    /// `kind` as in "an authenticator app"; `name` is what the user called it.
    Added {
        kind: &'a str,
        name: &'a str,
    },
    Removed {
        kind: &'a str,
        name: &'a str,
    },
    /// A recovery code was used.
    Recovered,
    /// By an administrator; an empty name: at the machine.
    Reset {
        by: &'a str,
    },
    /// There is a new set of recovery codes.
    NewCodes,
    /// So many wrong codes after the right password that no more are looked at today.
    Guessed,
    /// A passkey was refused because its counter did not rise: there may be two of it. `name` is what the user called it.
    Copied {
        name: &'a str,
    },
}

/// Something about the second factors of a user is different.
pub struct MfaChanged<'a> {
    pub change: MfaChange<'a>,
    pub at: Time,
    /// From where; an empty text where it was at the machine itself.
    pub address: &'a str,
}

impl MfaChanged<'_> {
    fn subject(&self) -> &'static str {
        match self.change {
            MfaChange::Added { .. } => "A second factor was added",
            MfaChange::Removed { .. } => "A second factor was removed",
            MfaChange::Recovered => "A recovery code was used",
            MfaChange::Reset { .. } => "Your second factors were reset",
            MfaChange::NewCodes => "You have new recovery codes",
            MfaChange::Guessed => "Somebody who knows your password guesses codes",
            MfaChange::Copied { .. } => "A passkey of yours may have been copied",
        }
    }

    /// What happened, as sentences.
    fn said(&self, words: Words) -> String {
        match self.change {
            MfaChange::Added { kind, name } => words.t2("Your user on Bailiwick has another {}: {}.", words.t(kind), plain(name)),
            MfaChange::Removed { kind, name } => {
                words.t2("Your user on Bailiwick has one {} less: {}.", words.t(kind), plain(name))
            }
            MfaChange::Recovered => words.t(
                "A recovery code was used after your password: all your second factors were removed, and your sessions have ended. At the next sign-in you enrol a new one.",
            ),
            MfaChange::Reset { by: "" } => words.t(
                "Your second factors were reset at the machine, and your sessions have ended. At the next sign-in you enrol a new one.",
            ),
            MfaChange::Reset { by } => words.t1(
                "{} has reset your second factors, and your sessions have ended. At the next sign-in you enrol a new one.",
                plain(by),
            ),
            MfaChange::NewCodes => words.t("A new set of recovery codes was made. The old ones do not work any more."),
            MfaChange::Guessed => words.t(
                "Somebody entered your password and then too many wrong codes. No more are looked at for a while, except in browsers that you have used before. If it was not you, set a new password at once.",
            ),
            MfaChange::Copied { name } => words.t1(
                "Your passkey {} was refused: its device counts its uses, and this use was not newer than the last one. There may be a copy of it. Remove the passkey and add a new one.",
                plain(name),
            ),
        }
    }
}

mail!(
    MfaChanged, "mfa-changed", MfaChangedText, "mail/mfa_changed.txt", MfaChangedHtml, "mail/mfa_changed.html",
    subject: |mail, words| words.t(mail.subject()),
    secret: false, expires: |_| None
);

/// Somebody signed in from a browser that was not seen before.
pub struct NewDevice<'a> {
    /// The browser in words, such as `Firefox on Linux`.
    pub device: &'a str,
    pub address: IpAddr,
    pub at: Time,
    /// To the sessions of the profile.
    pub link: &'a Link,
}

mail!(
    NewDevice, "new-device", NewDeviceText, "mail/new_device.txt", NewDeviceHtml, "mail/new_device.html",
    subject: |_, words| words.t("You signed in on a new device"),
    secret: false, expires: |_| None
);

/// An API key stops working soon.
pub struct KeyExpires<'a> {
    pub account: &'a str,
    /// The key's alias.
    pub alias: &'a str,
    pub key_id: &'a str,
    pub expires_at: Time,
    /// To the key's page.
    pub link: &'a Link,
}

mail!(
    KeyExpires, "key-expires", KeyExpiresText, "mail/key_expires.txt", KeyExpiresHtml, "mail/key_expires.html",
    subject: |mail, words| words.t1("The API key {} expires soon", plain(mail.alias)),
    secret: false, expires: |mail| Some(mail.expires_at)
);

/// A user's mail address is asked to be another one, or is one by now; goes to the one that it was.
pub struct AddressChange<'a> {
    pub new: &'a str,
    pub is_done: bool,
    pub at: Time,
    /// From where; an empty text where it is not known.
    pub address: &'a str,
}

mail!(
    AddressChange, "address-change", AddressChangeText, "mail/address_change.txt", AddressChangeHtml,
    "mail/address_change.html",
    subject: |mail, words| words.t(match mail.is_done {
        true => "Your mail address was changed",
        false => "Another mail address was asked for",
    }),
    secret: false, expires: |_| None
);

/// The appliance belongs to somebody else now; goes to both.
pub struct OwnershipConfirmed<'a> {
    pub from: &'a str,
    pub to: &'a str,
    pub at: Time,
}

mail!(
    OwnershipConfirmed, "ownership-confirmed", OwnershipConfirmedText, "mail/ownership_confirmed.txt",
    OwnershipConfirmedHtml, "mail/ownership_confirmed.html",
    subject: |_, words| words.t("The ownership of Bailiwick was transferred"),
    secret: false, expires: |_| None
);

/// An account was suspended: nothing of it works.
pub struct AccountSuspended<'a> {
    pub account: &'a str,
    pub account_id: &'a str,
    pub by: &'a str,
    pub at: Time,
    /// When it is gone for good with all that it owns, as somebody of it asked; `None`: the owner of the appliance suspended
    /// it, and it stays.
    pub delete_at: Option<Time>,
}

mail!(
    AccountSuspended, "account-suspended", AccountSuspendedText, "mail/account_suspended.txt", AccountSuspendedHtml,
    "mail/account_suspended.html",
    subject: |mail, words| words.t1(
        match mail.delete_at {
            Some(_) => "The account {} is to be deleted",
            None => "The account {} was suspended",
        },
        plain(mail.account)
    ),
    secret: false, expires: |_| None
);

/// Users of a suspended account ask the owner of the appliance to bring it back.
pub struct RestoreAsked<'a> {
    pub account: &'a str,
    pub account_id: &'a str,
    pub by: &'a str,
    /// When it is gone for good; `None` while it is only suspended.
    pub delete_at: Option<Time>,
    /// To the accounts of the appliance.
    pub link: &'a Link,
}

mail!(
    RestoreAsked, "restore-asked", RestoreAskedText, "mail/restore_asked.txt", RestoreAskedHtml,
    "mail/restore_asked.html",
    subject: |mail, words| words.t1("The account {} is asked for", plain(mail.account)),
    secret: false, expires: |mail| mail.delete_at
);

/// The test of the settings.
pub struct TestMail<'a> {
    /// Who asked for it.
    pub by: &'a str,
    pub at: Time,
}

mail!(
    TestMail, "test", TestMailText, "mail/test.txt", TestMailHtml, "mail/test.html",
    subject: |_, words| words.t("Test mail from Bailiwick"),
    secret: false, expires: |_| None
);

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link::new("https://bailiwick.example.com", "/invitations/accept?token=abc&x=1").expect("a link")
    }

    fn all(name: &str, to: &str) -> Vec<Mail> {
        all_in("en", name, to)
    }

    fn in_both_languages(name: &str) -> Vec<Mail> {
        ["en", "ja-JP"].into_iter().flat_map(|locale| all_in(locale, name, "ida@acme.example")).collect()
    }

    fn all_in(locale: &str, name: &str, to: &str) -> Vec<Mail> {
        let (link, at, address) =
            (link(), Time::parse("2026-03-03T09:00:00Z").expect("a time"), IpAddr::from([192, 0, 2, 7]));
        let expires_at = at.plus(crate::clock::DAY);
        let link = &link;
        vec![
            Invitation { account: name, inviter: name, role: name, link, expires_at }.mail(to, locale),
            VerifyAddress { link, expires_at }.mail(to, locale),
            PasswordReset { link, asked_at: at, address }.mail(to, locale),
            PasswordChanged { at, address: name }.mail(to, locale),
            MfaChanged { change: MfaChange::Added { kind: "passkey", name }, at, address: name }.mail(to, locale),
            MfaChanged { change: MfaChange::Removed { kind: "passkey", name }, at, address: name }.mail(to, locale),
            MfaChanged { change: MfaChange::Recovered, at, address: name }.mail(to, locale),
            MfaChanged { change: MfaChange::Reset { by: name }, at, address: name }.mail(to, locale),
            MfaChanged { change: MfaChange::NewCodes, at, address: name }.mail(to, locale),
            MfaChanged { change: MfaChange::Guessed, at, address: name }.mail(to, locale),
            MfaChanged { change: MfaChange::Copied { name }, at, address: name }.mail(to, locale),
            NewDevice { device: name, address, at, link }.mail(to, locale),
            KeyExpires { account: name, alias: name, key_id: name, expires_at, link }.mail(to, locale),
            AddressChange { new: name, is_done: false, at, address: name }.mail(to, locale),
            AddressChange { new: name, is_done: true, at, address: name }.mail(to, locale),
            OwnershipConfirmed { from: name, to: name, at }.mail(to, locale),
            AccountSuspended { account: name, account_id: name, by: name, at, delete_at: Some(expires_at) }
                .mail(to, locale),
            AccountSuspended { account: name, account_id: name, by: name, at, delete_at: None }.mail(to, locale),
            RestoreAsked { account: name, account_id: name, by: name, delete_at: Some(expires_at), link }
                .mail(to, locale),
            TestMail { by: name, at }.mail(to, locale),
        ]
        .into_iter()
        .collect::<Result<_>>()
        .expect("mails")
    }

    #[test]
    fn a_hostile_name_is_only_text_in_every_mail() {
        let hostile =
            "Eve\r\nBcc: all@evil.example\n\n<script>alert(1)</script><img src=https://evil.example/x>\u{202e}gro";
        for mail in in_both_languages(hostile) {
            let kind = mail.kind;
            assert!(!mail.subject.contains(['\r', '\n', '\u{202e}']), "{kind}: {}", mail.subject);
            assert!(!mail.html.contains("<script") && !mail.html.contains("<img"), "{kind}: {}", mail.html);
            for body in [&mail.text, &mail.html] {
                assert!(
                    !body.contains("\nBcc:") && !body.contains('\u{202e}') && !body.contains('\r'),
                    "{kind}: {body}"
                );
                assert!(!body.contains("https://evil.example"), "{kind}: {body}");
            }
        }
    }

    #[test]
    fn a_mail_names_no_other_host_and_loads_nothing() {
        for mail in in_both_languages("Ida Marlow") {
            let kind = mail.kind;
            let html = mail.html.to_lowercase();
            for part in ["<img", "src=", "url(", "<link", "<script", "@import"] {
                assert!(!html.contains(part), "{kind} has {part}");
            }
            let addresses = html.matches("://").count();
            assert_eq!(addresses, html.matches("https://bailiwick.example.com/").count(), "{kind}");
            assert!(html.contains("color-scheme"), "{kind}");
        }
    }

    #[test]
    fn a_mail_is_in_the_language_of_its_reader() {
        let shown =
            |text: &str| text.replace("Ida Marlow", "").replace("Bailiwick", "").replace("ida@acme.example", "");
        for (locale, lang) in [("ja", "ja"), ("ja-JP", "ja"), ("de", "en"), ("", "en")] {
            for mail in all_in(locale, "Ida Marlow", "ida@acme.example") {
                let kind = mail.kind;
                assert!(mail.html.contains(&format!("<html lang=\"{lang}\">")), "{kind}: {}", mail.html);
                let is_japanese = |text: &str| text.contains(|c: char| ('\u{3040}'..='\u{30ff}').contains(&c));
                let is_english =
                    |text: &str| shown(text).split(' ').any(|word| ["the", "is", "it", "of"].contains(&word));
                for text in [&mail.subject, &mail.text] {
                    assert_eq!(is_japanese(text), lang == "ja", "{kind}: {text}");
                    assert!(lang == "en" || !is_english(text), "{kind}: {text}");
                }
            }
        }
        let at = Time::parse("2026-03-03T09:00:00Z").expect("a time");
        let mail = TestMail { by: "The account", at }.mail("ida@acme.example", "ja").expect("a mail");
        assert!(mail.text.contains("The account"), "a name is not translated: {}", mail.text);
        assert!(mail.text.contains("2026 年 3 月 3 日 09:00 (UTC)"), "{}", mail.text);
    }

    #[test]
    fn the_text_part_says_all_that_the_html_part_says() {
        for mail in in_both_languages("Ida Marlow") {
            let kind = mail.kind;
            let page = scraper::Html::parse_document(&mail.html);
            let select = |selector: &str| -> Vec<String> {
                let selector = scraper::Selector::parse(selector).expect("a selector");
                page.select(&selector)
                    .map(|e| e.text().collect::<String>().split_whitespace().collect::<Vec<_>>().join(" "))
                    .collect()
            };
            let text = mail.text.split_whitespace().collect::<Vec<_>>().join(" ");
            let said = select("h1, main p, main dt, main dd");
            assert!(said.len() >= 3, "{kind}: {said:?}");
            for sentence in said {
                // The button's fallback says what the text part is made of anyway.
                if !sentence.starts_with("If the button does not work") && !sentence.starts_with("ボタンが") {
                    assert!(
                        text.contains(sentence.trim_end_matches(':')),
                        "{kind}: the text lacks {sentence:?} in:\n{}",
                        mail.text
                    );
                }
            }
            let href = scraper::Selector::parse("main a").expect("a selector");
            for link in page.select(&href).filter_map(|a| a.value().attr("href")) {
                assert_eq!(link, "https://bailiwick.example.com/invitations/accept?token=abc&x=1");
                assert!(mail.text.lines().any(|line| line == link), "{kind}: the link stands on a line of its own");
            }
            assert!(mail.text.lines().all(|line| line.chars().count() <= 200), "{kind}");
            assert!(!mail.text.contains("\n\n\n") && !mail.text.contains("&amp;"), "{kind}:\n{}", mail.text);
        }
    }

    #[test]
    fn what_can_be_used_by_whoever_reads_it_is_known_as_secret_and_expires() {
        let secret: Vec<_> = all("x", "a@b.example").into_iter().filter(|mail| mail.has_secret).collect();
        let kinds: Vec<_> = secret.iter().map(|mail| mail.kind).collect();
        assert_eq!(kinds, ["invitation", "verify-address", "password-reset"]);
        assert!(secret.iter().all(|mail| mail.expires_at.is_some()));
    }

    #[test]
    fn no_mail_is_made_for_what_is_no_address() {
        let at = Time::parse("2026-03-03T09:00:00Z").expect("a time");
        for to in [
            "",
            "ida",
            "ida@",
            "@acme.example",
            "ida@acme.example\r\nRCPT TO:<eve@evil.example>",
            "ida@acme.example, eve@evil.example",
            "\"ida\r\n\"@acme.example",
            "<ida@acme.example>",
            "ida @acme.example",
            "ida@acme.example\u{0}",
            "ida@acme .example",
        ] {
            assert!(TestMail { by: "x", at }.mail(to, "en").is_err(), "{to:?}");
        }
    }

    #[test]
    fn a_name_is_cut_where_it_becomes_a_message() {
        assert_eq!(plain("Ida\tMarlow\n"), "Ida Marlow");
        assert_eq!(plain("x".repeat(500)).chars().count(), NAME_CHARS_MAX + 1);
        assert_eq!(plain("see https://evil.example"), "see https: //evil.example");
    }
}
