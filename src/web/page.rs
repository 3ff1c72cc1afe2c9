//! What every page has: title, navigation, the reader, the CSRF token; and how a template becomes an answer.

use std::{borrow::Cow, fmt::Display, sync::Arc};

use actix_web::{HttpResponse, http::StatusCode};
use askama::Template;

use super::{
    assets,
    context::{Ctx, Stale, Surroundings},
    door,
};
use crate::{
    clock::Time,
    error::{Error, Result},
    language::Language,
    principal::{Level, Permission, Rights, Service},
};

/// Banners over one page; of more, the number is said.
const STALE_SHOWN: usize = 3;

/// The layout's variable.
#[derive(Clone)]
pub struct Page {
    pub title: String,
    /// The active item of the navigation.
    pub section: &'static str,
    pub csrf: String,
    pub theme: String,
    /// The language that the page is in, as in `<html lang>`.
    pub locale: String,
    pub(super) language: Language,
    /// IANA name; empty means the browser's.
    pub time_zone: String,
    pub user: Option<PageUser>,
    pub account_alias: String,
    pub account_id: String,
    pub flash: Option<Flash>,
    pub version: &'static str,
    rights: Rights,
    /// The rights are for a part of the account.
    pub is_part: bool,
    /// The reader owns the appliance: its settings are offered. The routes' own permission decides; this only hides.
    pub is_owner: bool,
    surroundings: Arc<Surroundings>,
    /// The one directory that the page is about.
    about: Option<i64>,
    /// The title is what somebody named something, or in the reader's language already.
    is_named: bool,
}

#[derive(Clone)]
pub struct PageUser {
    pub name: String,
    pub email: String,
}

/// A message shown once at the top of a page.
#[derive(Clone)]
pub struct Flash {
    /// `success`, `info`, `warning` or `danger`.
    pub kind: &'static str,
    pub text: String,
}

/// A text as templates hand it over: askama lends what a variable holds and gives what a function answers.
pub trait Text<'a> {
    fn text(self) -> Cow<'a, str>;
}

impl<'a, T: AsRef<str> + ?Sized> Text<'a> for &'a T {
    fn text(self) -> Cow<'a, str> {
        Cow::Borrowed(self.as_ref())
    }
}

impl<'a> Text<'a> for String {
    fn text(self) -> Cow<'a, str> {
        Cow::Owned(self)
    }
}

impl<'a> Text<'a> for Cow<'a, str> {
    fn text(self) -> Cow<'a, str> {
        self
    }
}

impl Page {
    /// For a signed-in reader (or a stranger on a public page).
    pub fn new(ctx: &Ctx, title: impl Into<String>, section: &'static str) -> Self {
        let principal = &ctx.principal;
        let is_user = principal.session_id.is_some();
        let language = Language::of(&principal.locale);
        Self {
            title: title.into(),
            section,
            csrf: ctx.csrf.clone(),
            theme: principal.theme.clone(),
            locale: language.code().into(),
            language,
            time_zone: principal.time_zone.clone(),
            user: is_user.then(|| PageUser { name: principal.name.clone(), email: principal.email.clone() }),
            account_alias: principal.account_alias.clone(),
            account_id: principal.account.map(|id| id.to_string()).unwrap_or_default(),
            flash: ctx.flash.as_deref().and_then(read_flash),
            version: env!("CARGO_PKG_VERSION"),
            is_owner: principal.allows(Permission::Owner),
            rights: principal.rights,
            is_part: principal.scope.is_some(),
            surroundings: ctx.surroundings.clone(),
            about: None,
            is_named: false,
        }
    }

    /// Without a reader: error pages.
    pub(super) fn bare(title: &str, theme: &str, language: Language) -> Self {
        Self {
            title: title.to_owned(),
            section: "",
            csrf: String::new(),
            theme: theme.to_owned(),
            locale: language.code().into(),
            language,
            time_zone: String::new(),
            user: None,
            account_alias: String::new(),
            account_id: String::new(),
            flash: None,
            version: env!("CARGO_PKG_VERSION"),
            rights: Rights::default(),
            is_part: false,
            is_owner: false,
            surroundings: Arc::default(),
            about: None,
            is_named: false,
        }
    }

    /// Says that the title is a name, and no text of ours.
    #[must_use]
    pub fn named(mut self) -> Self {
        self.is_named = true;
        self
    }

    /// The title as the reader sees it.
    pub fn title(&self) -> Cow<'_, str> {
        if self.is_named { Cow::Borrowed(&self.title) } else { self.t(self.title.as_str()) }
    }

    /// Says that the page shows data of one directory only.
    #[must_use]
    pub fn about(mut self, directory: Option<i64>) -> Self {
        self.about = directory;
        self
    }

    /// The copies that this page shows data of and that are older than they should be.
    fn stale(&self) -> Vec<&Stale> {
        let shows_data = ["overview", "directories", "runs", "identities", "groups"].contains(&self.section);
        let is_shown = |stale: &&Stale| self.about.is_none_or(|directory| directory == stale.directory);
        self.surroundings.stale.iter().filter(|_| shows_data).filter(is_shown).collect()
    }

    /// Those of them that have a banner.
    pub fn stale_shown(&self) -> Vec<&Stale> {
        let mut shown = self.stale();
        shown.truncate(STALE_SHOWN);
        shown
    }

    /// How many more there are.
    pub fn stale_more(&self) -> usize {
        self.stale().len().saturating_sub(STALE_SHOWN)
    }

    /// Plans that wait for approval; empty when there is none.
    pub fn plans_waiting(&self) -> String {
        counted(self.surroundings.plans_waiting)
    }

    /// Requests to act that wait for approval; empty when there is none.
    pub fn requests_waiting(&self) -> String {
        counted(self.surroundings.requests_waiting)
    }

    /// The address of a static file, with its content's hash so that browsers may keep it for ever.
    pub fn asset(&self, path: &str) -> String {
        assets::versioned(path)
    }

    /// A text of ours in the reader's language; how it is found, [`crate::language`] says. Never for what people or
    /// directories named.
    pub fn t<'a>(&self, text: impl Text<'a>) -> Cow<'a, str> {
        match text.text() {
            Cow::Borrowed(text) => self.language.say(text),
            Cow::Owned(text) => Cow::Owned(self.language.say(&text).into_owned()),
        }
    }

    /// A text of ours with a value in its place `{}`.
    pub fn t1(&self, text: &str, value: impl Display) -> String {
        self.language.fill(text, &[&value])
    }

    /// The same with two values.
    pub fn t2(&self, text: &str, first: impl Display, second: impl Display) -> String {
        self.language.fill(text, &[&first, &second])
    }

    /// The same with three values.
    pub fn t3(&self, text: &str, first: impl Display, second: impl Display, third: impl Display) -> String {
        self.language.fill(text, &[&first, &second, &third])
    }

    /// A text of ours with a count: English has a form for one and one for all others, and that is the key.
    pub fn n(&self, count: impl TryInto<i64>, one: &str, many: &str) -> String {
        let count = count.try_into().unwrap_or(i64::MAX);
        let is_one = self.language == Language::English && count == 1;
        self.language.fill(if is_one { one } else { many }, &[&grouped(count)])
    }

    /// The language that the page is in.
    pub fn language(&self) -> Language {
        self.language
    }

    /// A time where no `<time>` element can stand.
    pub fn time(&self, at: &Time) -> String {
        self.language.time(*at)
    }

    /// What the browser script says in the reader's language, as JSON; empty when that is what stands in it.
    pub fn script_words(&self) -> &'static str {
        self.language.script()
    }

    /// Whether the reader's role has a level of a service: what they may not do is not offered. The route's own
    /// permission decides; this only hides.
    pub fn may(&self, service: &str, level: &str) -> bool {
        !self.is_part && self.may_in_part(service, level)
    }

    /// The same for what may be done in a part of the account too ([`Permission::InPart`]).
    ///
    /// [`Permission::InPart`]: crate::principal::Permission::InPart
    pub fn may_in_part(&self, service: &str, level: &str) -> bool {
        let asked = (Service::parse(service), Level::parse(level));
        matches!(asked, (Some(service), Some(level)) if self.rights.allows(service, level))
    }
}

fn counted(count: i64) -> String {
    if count == 0 { String::new() } else { grouped(count) }
}

/// An address with those of the parameters that are not empty.
pub fn href(path: &str, fields: &[(&str, &str)]) -> String {
    let given: Vec<_> = fields.iter().filter(|(_, value)| !value.is_empty()).collect();
    let query = serde_urlencoded::to_string(given).unwrap_or_default();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// A whole page, or any template, as `200`.
pub fn html(template: &impl Template) -> Result<HttpResponse> {
    html_status(StatusCode::OK, template)
}

/// A template with another status: 422 for a form that has to be corrected.
pub fn html_status(status: StatusCode, template: &impl Template) -> Result<HttpResponse> {
    let body = template.render().map_err(|e| Error::caused("a page could not be rendered", e))?;
    Ok(HttpResponse::build(status).content_type("text/html; charset=utf-8").body(body))
}

/// 303 to another page of ours.
pub fn redirect(path: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header(("location", path)).finish()
}

/// 303 to another page, which shows `text` once. `kind` as in [`Flash`].
pub fn redirect_with(path: &str, kind: &str, text: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header(("location", path)).cookie(door::flash(kind, text)).finish()
}

/// A number for a page, with its thousands apart: `14,417`.
pub fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = if number < 0 { "-".to_owned() } else { String::new() };
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn read_flash(value: &str) -> Option<Flash> {
    let fields: Vec<(String, String)> = serde_urlencoded::from_str(value).ok()?;
    let (kind, text) = fields.into_iter().next()?;
    let kind = ["success", "info", "warning", "danger"].into_iter().find(|known| **known == kind)?;
    (text.len() <= 1000).then_some(Flash { kind, text })
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_stand_apart() {
        let shown = [0, 999, 1_000, 14_417, 1_000_000, -1_234].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "14,417", "1,000,000", "-1,234"]);
    }
}
