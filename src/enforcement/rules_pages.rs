//! Who is protected, and when a second person is needed, for people.

use actix_web::{HttpResponse, http::StatusCode};
use askama::Template;
use rusqlite::Connection;
use serde::Deserialize;

use super::{
    actions::{self, ProtectionInput},
    never::{Protection, ProtectionKind},
    pages,
    rule::{Rule, RuleInput},
    rules_queries,
};
use crate::{
    directories,
    error::{Error, FieldError, Result},
    identities,
    principal::AccountId,
    web::{Ctx, Form, Page, PathId, Query, html_status, redirect_with},
};

/// A line of the list, as shown.
struct Line {
    entry: Protection,
    directory: String,
    /// Why it protects nobody at the moment; empty when it does.
    idle: &'static str,
    by: String,
    href: String,
}

#[derive(Template)]
#[template(path = "enforcement/rules.html")]
struct RulesPage {
    page: Page,
    lines: Vec<Line>,
    directories: Vec<(String, String)>,
    unit: UnitForm,
    rule: RuleForm,
    faults: Vec<FieldError>,
    problem: String,
}

impl RulesPage {
    fn error(&self, field: &str) -> String {
        let found = self.faults.iter().find(|fault| fault.field == field);
        found.map(|fault| fault.message.clone()).unwrap_or_default()
    }
}

/// A DN to be protected.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct UnitForm {
    directory: String,
    dn: String,
    note: String,
}

/// The two-person rule as its form sends it.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct RuleForm {
    /// Empty: however many.
    above_count: String,
    for_privileged: String,
}

impl From<Rule> for RuleForm {
    fn from(rule: Rule) -> Self {
        Self {
            above_count: rule.above_count.map(|count| count.to_string()).unwrap_or_default(),
            for_privileged: if rule.for_privileged { "on".into() } else { String::new() },
        }
    }
}

async fn page(ctx: &Ctx) -> Result<RulesPage> {
    let account = ctx.principal.account()?;
    let (entries, choices, rule) = ctx
        .kernel
        .db
        .read(move |c| {
            let names = directories::names(c, account)?;
            let entries = rules_queries::protections(c, account)?.into_iter().map(|entry| {
                let idle = why_idle(c, account, &entry)?;
                let directory = names.get(&entry.directory_id).cloned().unwrap_or_default();
                Ok((entry, directory, idle))
            });
            let entries = entries.collect::<Result<Vec<_>>>()?;
            Ok((
                entries,
                identities::queries::directories(c, &identities::Sight::whole(account))?,
                rules_queries::rule(c, account)?,
            ))
        })
        .await?;
    Ok(RulesPage {
        page: Page::new(ctx, "Protected and approvals", "tasks"),
        lines: entries
            .into_iter()
            .map(|(entry, directory, idle)| Line {
                directory,
                idle,
                by: pages::by(ctx, &entry.created_by),
                href: match (entry.kind, entry.object_id) {
                    (ProtectionKind::Identity, Some(id)) => format!("/identities/{id}"),
                    (ProtectionKind::Group, Some(id)) => format!("/groups/{id}"),
                    _ => String::new(),
                },
                entry,
            })
            .collect(),
        directories: choices.into_iter().map(|choice| (choice.id.to_string(), choice.name)).collect(),
        unit: UnitForm::default(),
        rule: rule.into(),
        faults: Vec::new(),
        problem: String::new(),
    })
}

/// A line is about one directory's object, by its number: where that is gone, nobody is protected, and it is said.
fn why_idle(c: &Connection, account: AccountId, entry: &Protection) -> Result<&'static str> {
    if directories::find(c, account, entry.directory_id)?.is_none() {
        return Ok("Protects nobody: the directory was taken out.");
    }
    let is_there = match (entry.kind, entry.object_id) {
        (ProtectionKind::Identity, Some(id)) => {
            identities::queries::find_identity(c, &identities::Sight::whole(account), id)?
                .is_some_and(|row| row.missing_since_at.is_none() && row.removed_at.is_none())
        }
        (ProtectionKind::Group, Some(id)) => {
            identities::queries::find_group(c, &identities::Sight::whole(account), id)?
                .is_some_and(|row| row.missing_since_at.is_none() && row.removed_at.is_none())
        }
        _ => true,
    };
    Ok(if is_there { "" } else { "Protects nobody: it is not in the directory any more." })
}

/// `GET /tasks/rules`.
pub(super) async fn rules(ctx: Ctx) -> Result<HttpResponse> {
    html_status(StatusCode::OK, &page(&ctx).await?)
}

const HERE: &str = "/tasks/rules";

async fn answer<T>(
    ctx: &Ctx,
    done: Result<T>,
    said: &str,
    keep: impl FnOnce(RulesPage) -> RulesPage,
) -> Result<HttpResponse> {
    match done {
        Ok(_) => Ok(redirect_with(HERE, "success", said)),
        Err(Error::Invalid(faults)) => {
            let page = keep(page(ctx).await?);
            html_status(StatusCode::UNPROCESSABLE_ENTITY, &RulesPage { faults, ..page })
        }
        Err(Error::Conflict(problem)) => {
            let page = keep(page(ctx).await?);
            html_status(StatusCode::CONFLICT, &RulesPage { problem, ..page })
        }
        Err(other) => Err(other),
    }
}

/// `POST /tasks/rules/two-person`.
pub(super) async fn set_rule(ctx: Ctx, form: Form<RuleForm>) -> Result<HttpResponse> {
    let form = form.0;
    let above_count = match form.above_count.trim() {
        "" => Ok(None),
        count => count.parse().map(Some).map_err(|_| Error::field("aboveCount", "Give a number, or leave it empty.")),
    };
    let done = match above_count {
        Ok(above_count) => {
            let for_privileged = Some(!form.for_privileged.is_empty());
            let input = RuleInput { above_count: Some(above_count), for_privileged };
            actions::set_rule(&ctx.kernel, &ctx.principal, input).await
        }
        Err(error) => Err(error),
    };
    answer(&ctx, done, "The rule is saved.", |page| RulesPage { rule: form, ..page }).await
}

/// `POST /tasks/rules/units`.
pub(super) async fn protect_unit(ctx: Ctx, form: Form<UnitForm>) -> Result<HttpResponse> {
    let form = form.0;
    let input = ProtectionInput {
        kind: ProtectionKind::Unit,
        object_id: None,
        directory_id: Some(form.directory.clone()),
        dn: Some(form.dn.clone()),
        note: form.note.clone(),
    };
    let done = actions::protect(&ctx.kernel, &ctx.principal, input).await;
    answer(&ctx, done, "Nobody acts on accounts below it any more.", |page| RulesPage { unit: form, ..page }).await
}

/// `POST /tasks/rules/{id}/remove`.
pub(super) async fn unprotect(ctx: Ctx, id: PathId<i64>, _form: Form<Nothing>) -> Result<HttpResponse> {
    let done = actions::unprotect(&ctx.kernel, &ctx.principal, id.0).await;
    answer(&ctx, done, "It is off the protected list.", |page| page).await
}

/// A form with one button.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Nothing {}

#[derive(Template)]
#[template(path = "enforcement/protect.html")]
struct ProtectPage {
    page: Page,
    kind: ProtectionKind,
    object_id: String,
    name: String,
    note: String,
    error: String,
    problem: String,
    back: String,
}

/// Whom a link to the form names.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ProtectQuery {
    identity: Option<String>,
    group: Option<String>,
}

/// The same as the form sends it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProtectForm {
    kind: ProtectionKind,
    object: String,
    #[serde(default)]
    note: String,
}

async fn protect_page(ctx: &Ctx, kind: ProtectionKind, object: &str) -> Result<ProtectPage> {
    let account = ctx.principal.account()?;
    let id: i64 = object.parse().map_err(|_| Error::NotFound("This object"))?;
    let name = ctx
        .kernel
        .db
        .read(move |c| {
            Ok(match kind {
                ProtectionKind::Group => {
                    identities::queries::find_group(c, &identities::Sight::whole(account), id)?.map(|group| group.name)
                }
                _ => identities::queries::find_identity(c, &identities::Sight::whole(account), id)?
                    .map(|row| row.name().to_owned()),
            })
        })
        .await?
        .ok_or(Error::NotFound("This object"))?;
    let back = if kind == ProtectionKind::Group { format!("/groups/{id}") } else { format!("/identities/{id}") };
    Ok(ProtectPage {
        page: Page::new(ctx, format!("Protect {name}"), "tasks"),
        kind,
        object_id: id.to_string(),
        name,
        note: String::new(),
        error: String::new(),
        problem: String::new(),
        back,
    })
}

/// `GET /tasks/rules/new`.
pub(super) async fn new_protection(ctx: Ctx, query: Query<ProtectQuery>) -> Result<HttpResponse> {
    let (kind, object) = match (&query.0.identity, &query.0.group) {
        (Some(id), None) => (ProtectionKind::Identity, id),
        (None, Some(id)) => (ProtectionKind::Group, id),
        _ => return Err(Error::NotFound("This object")),
    };
    html_status(StatusCode::OK, &protect_page(&ctx, kind, object).await?)
}

/// `POST /tasks/rules/new`.
pub(super) async fn protect(ctx: Ctx, form: Form<ProtectForm>) -> Result<HttpResponse> {
    let form = form.0;
    let page = protect_page(&ctx, form.kind, &form.object).await?;
    let input = ProtectionInput {
        kind: form.kind,
        object_id: Some(form.object),
        directory_id: None,
        dn: None,
        note: form.note.clone(),
    };
    match actions::protect(&ctx.kernel, &ctx.principal, input).await {
        Ok(_) => Ok(redirect_with(&page.back, "success", "On the protected list: nobody acts on it any more.")),
        Err(Error::Invalid(faults)) => {
            let error = faults.into_iter().next().map(|fault| fault.message).unwrap_or_default();
            html_status(StatusCode::UNPROCESSABLE_ENTITY, &ProtectPage { note: form.note, error, ..page })
        }
        Err(Error::Conflict(problem)) => {
            html_status(StatusCode::CONFLICT, &ProtectPage { note: form.note, problem, ..page })
        }
        Err(other) => Err(other),
    }
}
