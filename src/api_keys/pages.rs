//! The keys for people: list, create, edit, lock out, rotate, take over, remove; and the page that shows a secret once.

use actix_web::HttpResponse;
use askama::Template;
use serde::Deserialize;

use super::{
    actions::{self, CreatedKey},
    api::KeyQuery,
    model::{Administers, ApiKey, Expiry, KeyInput, PreviousSecret, State},
    queries,
    rotation::{self, OVERLAP_HOURS_DEFAULT, RotateInput},
    standing::{self, Answerer, Standing},
};
use crate::{
    accounts,
    clock::{DAY, Time},
    error::{Error, Result},
    notifications,
    principal::PrincipalKind,
    roles::{self, Role},
    users,
    web::{
        Ctx, Form, ListQuery, Listing, PAGE_SIZE, Page, PathId, Query, Refused, href, html, html_status, redirect_with,
    },
};

/// From so many keys on a list is worth searching.
const FILTERED_FROM: usize = 8;

/// A key as a row of the list.
struct Row {
    standing: Standing,
    role: Role,
    allowed: Vec<String>,
}

fn allowed(key: &ApiKey) -> Vec<String> {
    let ips = key.allowed_ips.iter().map(ToString::to_string);
    ips.chain(key.allowed_cidrs.iter().map(ToString::to_string)).collect()
}

#[derive(Template)]
#[template(path = "api_keys/list.html", blocks = ["results"])]
struct ListPage {
    page: Page,
    rows: Vec<Row>,
    query: KeyQuery,
    /// Offers to search and to narrow.
    is_long: bool,
    is_filtered: bool,
    states: [State; 5],
    lets_keys_administer: bool,
    /// This reader may change that.
    may_set: bool,
    first_href: String,
    next_href: String,
}

impl ListPage {
    fn typed(&self) -> &str {
        self.query.q.as_deref().unwrap_or_default()
    }

    fn is_state(&self, state: &str) -> bool {
        self.query.state.as_deref().unwrap_or_default() == state
    }
}

fn is_full_user(ctx: &Ctx) -> bool {
    ctx.principal.kind == PrincipalKind::User && ctx.principal.holds_everything()
}

pub(super) async fn list(ctx: Ctx, query: Query<KeyQuery>) -> Result<HttpResponse> {
    let (account, now) = (ctx.principal.account()?, ctx.kernel.clock.now());
    let query = query.0;
    let filter = query.filter()?;
    let page = ListQuery { limit: None, cursor: query.cursor.clone() };
    let before = page.position::<String>()?;
    let (rows, count, lets_keys_administer) = ctx
        .kernel
        .db
        .read(move |c| {
            let row = |standing: Standing| {
                let role = roles::held(c, account, &standing.key.role_id)?;
                Ok(Row { role, allowed: allowed(&standing.key), standing })
            };
            let keys = standing::list(c, account, &filter, before.as_deref(), PAGE_SIZE + 1, now)?;
            let rows = keys.into_iter().map(row).collect::<Result<Vec<_>>>()?;
            Ok((rows, queries::count(c, account)?, queries::lets_keys_administer(c, account)?))
        })
        .await?;
    let Listing { rows, next } = Listing::cut(rows, PAGE_SIZE, |row| row.standing.key.id.clone());
    let given = |text: &Option<String>| text.clone().unwrap_or_default();
    let (q, state) = (given(&query.q), given(&query.state));
    let link = |cursor: &str| href("/api-keys", &[("q", &q), ("state", &state), ("cursor", cursor)]);
    let is_filtered = !q.trim().is_empty() || !state.is_empty();
    let template = ListPage {
        page: Page::new(&ctx, "API keys", "api-keys"),
        rows,
        is_long: is_filtered || count >= FILTERED_FROM,
        is_filtered,
        states: State::ALL,
        lets_keys_administer,
        may_set: is_full_user(&ctx),
        first_href: query.cursor.as_ref().map(|_| link("")).unwrap_or_default(),
        next_href: next.map(|cursor| link(&cursor)).unwrap_or_default(),
        query,
    };
    if ctx.is_fragment { html(&template.as_results()) } else { html(&template) }
}

/// What the form sends, for new keys and old ones.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct KeyForm {
    alias: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    role: String,
    /// Addresses and networks, one a line.
    #[serde(default)]
    allowed: String,
    /// Days from now, `never`, or `keep`.
    expires: String,
    locale: Option<String>,
    time_zone: Option<String>,
    /// Ticked or not.
    may_administer: Option<String>,
    /// The box above was there to be ticked.
    offers_leave: Option<String>,
}

impl KeyForm {
    fn of(key: &ApiKey) -> Self {
        Self {
            alias: key.alias.clone(),
            description: key.description.clone(),
            role: key.role_id.clone(),
            allowed: allowed(key).join("\n"),
            expires: "keep".into(),
            locale: Some(key.locale.clone()),
            time_zone: Some(key.time_zone.clone()),
            may_administer: (key.administers != Administers::No).then(|| "on".to_owned()),
            offers_leave: None,
        }
    }

    /// The same input that the API takes.
    fn input(&self, now: Time) -> Result<KeyInput> {
        let lines = self.allowed.split(['\n', ',', ' ']).map(str::trim).filter(|line| !line.is_empty());
        let (cidrs, ips): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.contains('/'));
        let expires_at = match self.expires.as_str() {
            "keep" => Expiry::Unsaid,
            "never" => Expiry::Never,
            days => match days.parse::<i64>() {
                Ok(days @ 1..=1825) => Expiry::At(now.plus(days * DAY)),
                _ => return Err(Error::field("expires", "Choose when the key expires.")),
            },
        };
        Ok(KeyInput {
            alias: Some(self.alias.clone()),
            description: Some(self.description.clone()),
            role_id: Some(self.role.clone()),
            allowed_ips: Some(ips.into_iter().map(str::to_owned).collect()),
            allowed_cidrs: Some(cidrs.into_iter().map(str::to_owned).collect()),
            expires_at,
            locale: self.locale.clone(),
            time_zone: self.time_zone.clone(),
            may_administer: self.offers_leave.is_some().then(|| self.may_administer.is_some()),
            ..KeyInput::default()
        })
    }
}

/// Who made a key.
enum Maker {
    CommandLine,
    /// Somebody in the account, by name.
    Present(String),
    Gone,
}

/// A key that is looked at, with what stands around it.
struct Shown {
    standing: Standing,
    urn: String,
    made_by: Maker,
    previous: Option<PreviousSecret>,
    /// This reader may change it: it holds no more than they do.
    is_open: bool,
    /// This reader answers for it.
    is_own: bool,
    /// It may do less than its role says, because whoever answers for it may.
    is_held_back: bool,
}

#[derive(Template)]
#[template(path = "api_keys/form.html")]
struct FormPage {
    page: Page,
    form: KeyForm,
    /// The key that is edited; `None` for a new one.
    shown: Option<Shown>,
    roles: Vec<Role>,
    locales: &'static [(&'static str, &'static str)],
    time_zones: &'static [String],
    may_never: bool,
    /// This reader may give it leave to administer.
    offers_leave: bool,
    lets_keys_administer: bool,
    refused: Refused,
}

impl FormPage {
    /// What is wrong with any of the fields that one input of the page stands for.
    fn error(&self, fields: &[&str]) -> &str {
        self.refused.error(fields)
    }

    fn is_open(&self) -> bool {
        self.shown.as_ref().is_none_or(|shown| shown.is_open)
    }

    fn is_locale(&self, code: &str) -> bool {
        self.form.locale.as_deref().unwrap_or("en") == code
    }

    fn is_zone(&self, zone: &str) -> bool {
        self.form.time_zone.as_deref().unwrap_or_default() == zone
    }
}

/// Everything about a key that its page shows.
async fn shown(ctx: &Ctx, id: String) -> Result<Shown> {
    let (who, account, now) = (ctx.principal.clone(), ctx.principal.account()?, ctx.kernel.clock.now());
    ctx.kernel
        .db
        .read(move |c| {
            let standing = Standing::find(c, account, &id, now)?.ok_or(Error::NotFound("This API key"))?;
            let key = &standing.key;
            let made_by = match &key.made_by {
                None => Maker::CommandLine,
                Some(user) => match users::find_member(c, user, account)? {
                    Some(member) => Maker::Present(member.user.name),
                    None => Maker::Gone,
                },
            };
            let role = roles::held(c, account, &key.role_id)?;
            let is_open = roles::check_grant(&who, &role).is_ok();
            let is_own = key.answered_by.as_ref() == Some(&who.id);
            Ok(Shown {
                urn: key.urn(&who.region),
                made_by,
                previous: key.previous(now).cloned(),
                is_open,
                is_own,
                is_held_back: standing.answerer.holds_back(&role),
                standing,
            })
        })
        .await
}

async fn form_page(ctx: &Ctx, form: KeyForm, shown: Option<Shown>, refused: Refused) -> Result<HttpResponse> {
    let title = match &shown {
        Some(shown) => format!("API key “{}”", shown.standing.key.alias),
        None => "Create an API key".into(),
    };
    let (who, account, chosen) = (ctx.principal.clone(), ctx.principal.account()?, form.role.clone());
    let (mut roles, lets_keys_administer) = ctx
        .kernel
        .db
        .read(move |c| {
            let mut roles = roles::grantable(c, &who)?;
            // The one it has is shown, also to those who cannot give it.
            if !chosen.is_empty() && !roles.iter().any(|role| role.id == chosen) {
                roles.extend(roles::find(c, account, &chosen)?);
            }
            Ok((roles, queries::lets_keys_administer(c, account)?))
        })
        .await?;
    roles.sort_by_key(|role| !role.is_predefined);
    html_status(
        refused.status,
        &FormPage {
            page: Page::new(ctx, title, "api-keys"),
            form,
            shown,
            roles,
            locales: &accounts::LOCALES,
            time_zones: accounts::time_zones(),
            may_never: ctx.principal.holds_everything(),
            offers_leave: is_full_user(ctx),
            lets_keys_administer,
            refused,
        },
    )
}

pub(super) async fn new(ctx: Ctx) -> Result<HttpResponse> {
    let form = KeyForm { role: roles::READ_ONLY.into(), expires: "365".into(), ..KeyForm::default() };
    form_page(&ctx, form, None, Refused::none()).await
}

#[derive(Template)]
#[template(path = "api_keys/created.html")]
struct CreatedPage {
    page: Page,
    id: String,
    /// The whole key, `id:secret`: this answer is the only place where it ever stands.
    whole: String,
    /// The old secret, when it works on.
    previous: Option<PreviousSecret>,
    base: String,
}

/// Answers with the secret itself and not with a redirect: a redirect would have to keep it somewhere.
async fn secret_page(ctx: &Ctx, title: String, created: &CreatedKey) -> Result<HttpResponse> {
    let config = ctx.kernel.config.clone();
    // Whatever fails here: the secret was made, and is shown.
    let known = ctx.kernel.db.read(move |c| notifications::base_url(c, &config)).await.ok().flatten();
    let base = known.unwrap_or_else(|| "https://bailiwick.example.org".into());
    html(&CreatedPage {
        page: Page::new(ctx, title, "api-keys"),
        id: created.key.id.clone(),
        whole: format!("{}:{}", created.key.id, created.secret.expose()),
        previous: created.key.previous(ctx.kernel.clock.now()).cloned(),
        base,
    })
}

pub(super) async fn create(ctx: Ctx, form: Form<KeyForm>) -> Result<HttpResponse> {
    let made = match form.0.input(ctx.kernel.clock.now()) {
        Ok(input) => actions::create(&ctx.kernel, &ctx.principal, input).await,
        Err(error) => Err(error),
    };
    match made {
        Ok(created) => secret_page(&ctx, format!("API key “{}” created", created.key.alias), &created).await,
        Err(error) => form_page(&ctx, form.0, None, Refused::of(error)?).await,
    }
}

pub(super) async fn edit(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let shown = shown(&ctx, id.0).await?;
    form_page(&ctx, KeyForm::of(&shown.standing.key), Some(shown), Refused::none()).await
}

pub(super) async fn update(ctx: Ctx, id: PathId<String>, form: Form<KeyForm>) -> Result<HttpResponse> {
    let updated = match form.0.input(ctx.kernel.clock.now()) {
        Ok(input) => actions::update(&ctx.kernel, &ctx.principal, id.0.clone(), input).await,
        Err(error) => Err(error),
    };
    match updated {
        Ok(_) => Ok(redirect_with("/api-keys", "success", "The key was saved.")),
        Err(error) => {
            let refused = Refused::of(error)?;
            let shown = shown(&ctx, id.0).await?;
            form_page(&ctx, form.0, Some(shown), refused).await
        }
    }
}

async fn change(ctx: &Ctx, id: String, input: KeyInput) -> Result<()> {
    actions::update(&ctx.kernel, &ctx.principal, id, input).await.map(|_| ())
}

pub(super) async fn lock_out(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let path = format!("/api-keys/{}", id.0);
    change(&ctx, id.0, KeyInput { enabled: Some(false), ..KeyInput::default() }).await?;
    Ok(redirect_with(&path, "success", "The key is locked out: it is refused from now on."))
}

pub(super) async fn unlock(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let path = format!("/api-keys/{}", id.0);
    change(&ctx, id.0, KeyInput { enabled: Some(true), ..KeyInput::default() }).await?;
    Ok(redirect_with(&path, "success", "The key is not locked out any more."))
}

/// `POST /api-keys/{id}/take-over`.
pub(super) async fn take_over(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let path = format!("/api-keys/{}", id.0);
    change(&ctx, id.0, KeyInput { take_over: Some(true), ..KeyInput::default() }).await?;
    Ok(redirect_with(
        &path,
        "success",
        "You answer for this key now. Who had it before may know its secret: rotate it.",
    ))
}

#[derive(Template)]
#[template(path = "api_keys/rotate.html")]
struct RotatePage {
    page: Page,
    key: ApiKey,
    /// This reader answers for it already.
    is_own: bool,
    previous: Option<PreviousSecret>,
    chosen: String,
}

impl RotatePage {
    fn is_chosen(&self, hours: &str) -> bool {
        self.chosen == hours
    }
}

/// `GET /api-keys/{id}/rotate`.
pub(super) async fn confirm_rotation(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let Shown { standing, previous, is_open, is_own, .. } = shown(&ctx, id.0).await?;
    if !is_open {
        return Err(Error::Forbidden("This key holds more rights than you do.".into()));
    }
    html(&RotatePage {
        page: Page::new(&ctx, format!("Rotate “{}”", standing.key.alias), "api-keys"),
        key: standing.key,
        is_own,
        previous,
        chosen: OVERLAP_HOURS_DEFAULT.to_string(),
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateForm {
    overlap: i64,
    /// Of the secret that the page was about.
    secret: String,
}

/// `POST /api-keys/{id}/rotate`.
pub(super) async fn rotate(ctx: Ctx, id: PathId<String>, form: Form<RotateForm>) -> Result<HttpResponse> {
    let input = RotateInput { overlap_hours: Some(form.0.overlap) };
    let path = format!("/api-keys/{}", id.0);
    match rotation::rotate(&ctx.kernel, &ctx.principal, id.0, input, Some(form.0.secret)).await {
        Ok(rotated) => secret_page(&ctx, format!("New secret of “{}”", rotated.key.alias), &rotated).await,
        Err(Error::Conflict(why)) => Ok(redirect_with(&path, "danger", &why)),
        Err(other) => Err(other),
    }
}

/// `POST /api-keys/{id}/end-old-secret`.
pub(super) async fn end_previous(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let path = format!("/api-keys/{}", id.0);
    rotation::end_previous(&ctx.kernel, &ctx.principal, id.0).await?;
    Ok(redirect_with(&path, "success", "The old secret is refused from now on."))
}

pub(super) async fn remove(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    actions::remove(&ctx.kernel, &ctx.principal, id.0).await?;
    Ok(redirect_with("/api-keys", "success", "The key was removed."))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct SettingForm {
    keys_may_administer: Option<String>,
}

/// `POST /api-keys/setting`.
pub(super) async fn set_setting(ctx: Ctx, form: Form<SettingForm>) -> Result<HttpResponse> {
    let lets = form.0.keys_may_administer.is_some();
    actions::let_keys_administer(&ctx.kernel, &ctx.principal, lets).await?;
    let said = match lets {
        true => "Keys that were given leave may administer this account now.",
        false => "No key made in the console or through the API administers this account any more.",
    };
    Ok(redirect_with("/api-keys", "success", said))
}
