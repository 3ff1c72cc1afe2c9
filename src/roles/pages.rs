//! Roles for people: the list, one role with who has it, making one (from nothing or from another), changing, removing.

use std::collections::BTreeSet;

use actix_web::{HttpResponse, web::Data};
use askama::Template;
use serde::Deserialize;

use super::{
    actions,
    model::{Neighbours, Role, RoleInput, ScopeChoices, ScopeJson},
    queries,
};
use crate::{
    error::{Error, Result},
    principal::{Level, Permission, Rights, Service},
    proof::MfaRule,
    web::{Ctx, Form, Page, PathId, Query, Refused, html, html_status, redirect_with},
};

/// A service as a row of the table of levels.
struct ServiceRow {
    name: &'static str,
    title: &'static str,
    about: &'static str,
    level: &'static str,
}

fn rows(rights: &Rights) -> Vec<ServiceRow> {
    Service::ALL
        .into_iter()
        .map(|service| ServiceRow {
            name: service.as_str(),
            title: service.title(),
            about: service.about(),
            level: rights.level(service).as_str(),
        })
        .collect()
}

/// A role as a row of the list.
struct RoleRow {
    role: Role,
    levels: Vec<(&'static str, &'static str)>,
    used_by: String,
}

#[derive(Template)]
#[template(path = "roles/list.html")]
struct ListPage {
    page: Page,
    rows: Vec<RoleRow>,
}

/// `GET /roles`.
pub(super) async fn list(ctx: Ctx, neighbours: Data<Neighbours>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let neighbours = **neighbours;
    let rows = ctx
        .kernel
        .db
        .read(move |c| {
            let with_users = |role: Role| {
                let used_by = (neighbours.used_by)(c, account, &role.id)?.join(", ");
                let levels = Service::ALL
                    .into_iter()
                    .map(|service| (service.title(), role.rights.level(service)))
                    .filter(|(_, level)| *level != Level::None)
                    .map(|(title, level)| (title, level.as_str()))
                    .collect();
                Ok(RoleRow { role, levels, used_by })
            };
            queries::list(c, account)?.into_iter().map(with_users).collect::<Result<Vec<_>>>()
        })
        .await?;
    html(&ListPage { page: Page::new(&ctx, "Roles", "roles"), rows })
}

/// What the form sends: fixed fields, a level per service, and any number of directories, groups and units.
#[derive(Debug, Clone, Default)]
struct RoleForm {
    id: String,
    name: String,
    description: String,
    levels: Vec<(String, String)>,
    is_part: bool,
    directories: BTreeSet<String>,
    groups: BTreeSet<String>,
    /// Directory and its DNs, one a line.
    units: Vec<(String, String)>,
    /// What groups are looked up by.
    find: String,
}

impl RoleForm {
    fn read(fields: Vec<(String, String)>) -> Result<Self> {
        let mut form = Self::default();
        for (name, value) in fields {
            match name.as_str() {
                "id" => form.id = value,
                "name" => form.name = value,
                "description" => form.description = value,
                "for" => form.is_part = value == "part",
                "directory" => {
                    form.directories.insert(value);
                }
                "group" => {
                    form.groups.insert(value);
                }
                "find" => form.find = value,
                _ => match (name.strip_prefix("level-"), name.strip_prefix("units-")) {
                    (Some(service), _) => form.levels.push((service.to_owned(), value)),
                    (_, Some(directory)) => form.units.push((directory.to_owned(), value)),
                    _ => return Err(Error::BadRequest("The form holds a field that is not known.".into())),
                },
            }
        }
        Ok(form)
    }

    fn of(role: &Role) -> Self {
        let scope = role.scope.as_deref().cloned().unwrap_or_default();
        let mut units: Vec<(String, String)> = Vec::new();
        for unit in &scope.units {
            let directory = unit.directory.to_string();
            match units.iter_mut().find(|(known, _)| *known == directory) {
                Some((_, lines)) => *lines = format!("{lines}\n{}", unit.dn),
                None => units.push((directory, unit.dn.clone())),
            }
        }
        Self {
            id: role.id.clone(),
            name: role.name.clone(),
            description: role.description.clone(),
            levels: rows(&role.rights).iter().map(|row| (row.name.to_owned(), row.level.to_owned())).collect(),
            is_part: role.scope.is_some(),
            directories: scope.directories.iter().map(ToString::to_string).collect(),
            groups: scope.groups.iter().map(ToString::to_string).collect(),
            units,
            find: String::new(),
        }
    }

    fn rights(&self) -> Result<Rights> {
        let mut rights = Rights::default();
        for (service, level) in &self.levels {
            match (Service::parse(service), Level::parse(level)) {
                (Some(service), Some(level)) => rights = rights.with(service, level),
                _ => return Err(Error::field("services", "Choose a level for each service.")),
            }
        }
        Ok(rights)
    }

    /// The same input that the API takes.
    fn input(&self, id: Option<String>) -> Result<RoleInput> {
        let units: Vec<serde_json::Value> = self
            .units
            .iter()
            .flat_map(|(directory, lines)| {
                let dns = lines.lines().map(str::trim).filter(|line| !line.is_empty());
                dns.map(move |dn| serde_json::json!({"directoryId": directory, "dn": dn}))
            })
            .collect();
        let scope: ScopeJson = serde_json::from_value(
            serde_json::json!({"directories": self.directories, "groups": self.groups, "units": units}),
        )?;
        Ok(RoleInput {
            id,
            name: Some(self.name.clone()),
            description: Some(self.description.clone()),
            services: Some(self.rights()?),
            scope: Some(self.is_part.then_some(scope)),
            mfa_required: None,
            passkey_only: None,
        })
    }

    fn level(&self, service: &str) -> &str {
        self.levels.iter().find(|(known, _)| known == service).map_or("none", |(_, level)| level.as_str())
    }

    fn units_of(&self, directory: &i64) -> &str {
        let directory = directory.to_string();
        self.units.iter().find(|(known, _)| *known == directory).map_or("", |(_, lines)| lines.as_str())
    }
}

#[derive(Template)]
#[template(path = "roles/form.html")]
struct FormPage {
    page: Page,
    form: RoleForm,
    /// The role that is shown or changed; `None` for a new one.
    role: Option<Role>,
    /// It may be changed by this reader.
    is_open: bool,
    /// What its holders have to prove may be changed by this reader.
    asks_more: bool,
    used_by: Vec<String>,
    services: Vec<ServiceRow>,
    levels: [(&'static str, &'static str); 4],
    choices: ScopeChoices,
    refused: Refused,
}

impl FormPage {
    fn error(&self, field: &str) -> &str {
        self.refused.error(&[field])
    }

    fn has_group(&self, id: &i64) -> bool {
        self.form.groups.contains(&id.to_string())
    }

    fn has_directory(&self, id: &i64) -> bool {
        self.form.directories.contains(&id.to_string())
    }
}

async fn form_page(
    ctx: &Ctx,
    neighbours: Neighbours,
    form: RoleForm,
    role: Option<Role>,
    refused: Refused,
) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let groups: Vec<i64> = form.groups.iter().filter_map(|id| id.parse().ok()).collect();
    // Whoever may not read directories is told no name of theirs.
    let may_read = ctx.principal.allows(Permission::Needs(Service::Directories, Level::Read));
    let (find, id) = (form.find.clone(), role.as_ref().map(|role| role.id.clone()));
    let (choices, used_by) = ctx
        .kernel
        .db
        .read(move |c| {
            let used_by = id.map(|id| (neighbours.used_by)(c, account, &id)).transpose()?.unwrap_or_default();
            let choices = match may_read {
                true => (neighbours.choices)(c, account, find.trim(), &groups)?,
                false => ScopeChoices::default(),
            };
            Ok((choices, used_by))
        })
        .await?;
    let title = role.as_ref().map_or_else(|| "Create a role".to_owned(), |role| role.name.clone());
    let is_held = role.as_ref().is_none_or(|role| actions::check_grant(&ctx.principal, role).is_ok());
    let page = Page::new(ctx, title, "roles");
    // What somebody called a role is no text of ours.
    let page = if role.as_ref().is_some_and(|role| !role.is_predefined) { page.named() } else { page };
    // What is only shown is shown as lists show it.
    let form = match &role {
        Some(role) if role.is_predefined => RoleForm {
            name: role.name_on(&page).into_owned(),
            description: role.description_on(&page).into_owned(),
            ..form
        },
        _ => form,
    };
    let asks_more = page.may("identity", "full") && is_held;
    let is_open = asks_more && role.as_ref().is_none_or(|role| !role.is_predefined);
    let template = FormPage {
        page,
        services: rows(&ctx.principal.rights),
        levels: [("none", "None"), ("read", "Read"), ("operate", "Operate"), ("full", "Full")],
        form,
        role,
        is_open,
        asks_more,
        used_by,
        choices,
        refused,
    };
    html_status(template.refused.status, &template)
}

/// `?from=` a role that is duplicated.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NewQuery {
    from: Option<String>,
}

/// `GET /roles/new`.
pub(super) async fn new(ctx: Ctx, query: Query<NewQuery>, neighbours: Data<Neighbours>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let form = match query.0.from {
        None => RoleForm::default(),
        Some(from) => {
            let role = ctx.kernel.db.read(move |c| queries::find(c, account, &from)).await?;
            let role = role.ok_or(Error::NotFound("This role"))?;
            RoleForm { id: format!("{}-copy", role.id), name: format!("{} (copy)", role.name), ..RoleForm::of(&role) }
        }
    };
    form_page(&ctx, **neighbours, form, None, Refused::none()).await
}

/// `POST /roles`.
pub(super) async fn create(
    ctx: Ctx,
    fields: Form<Vec<(String, String)>>,
    neighbours: Data<Neighbours>,
) -> Result<HttpResponse> {
    let form = RoleForm::read(fields.0)?;
    let made = match form.input(Some(form.id.clone())) {
        Ok(input) => actions::create(&ctx.kernel, &ctx.principal, **neighbours, input).await,
        Err(error) => Err(error),
    };
    match made {
        Ok(role) => Ok(redirect_with(&format!("/roles/{}", role.id), "success", "The role was created.")),
        Err(error) => form_page(&ctx, **neighbours, form, None, Refused::of(error)?).await,
    }
}

/// `POST /roles/look-up`: the form as it is, with the groups that its search finds. Nothing is saved.
pub(super) async fn look_up(
    ctx: Ctx,
    fields: Form<Vec<(String, String)>>,
    neighbours: Data<Neighbours>,
) -> Result<HttpResponse> {
    let (of, fields): (Vec<_>, Vec<_>) = fields.0.into_iter().partition(|(name, _)| name == "role");
    let account = ctx.principal.account()?;
    let role = match of.into_iter().next() {
        Some((_, id)) => ctx.kernel.db.read(move |c| queries::find(c, account, &id)).await?,
        None => None,
    };
    form_page(&ctx, **neighbours, RoleForm::read(fields)?, role, Refused::none()).await
}

async fn get(ctx: &Ctx, id: String) -> Result<Role> {
    let account = ctx.principal.account()?;
    ctx.kernel.db.read(move |c| queries::find(c, account, &id)).await?.ok_or(Error::NotFound("This role"))
}

/// `GET /roles/{id}`.
pub(super) async fn show(ctx: Ctx, id: PathId<String>, neighbours: Data<Neighbours>) -> Result<HttpResponse> {
    let role = get(&ctx, id.0).await?;
    form_page(&ctx, **neighbours, RoleForm::of(&role), Some(role), Refused::none()).await
}

/// `POST /roles/{id}`.
pub(super) async fn update(
    ctx: Ctx,
    id: PathId<String>,
    fields: Form<Vec<(String, String)>>,
    neighbours: Data<Neighbours>,
) -> Result<HttpResponse> {
    let fields = fields.0.into_iter().filter(|(name, _)| name != "role").collect();
    let form = RoleForm::read(fields)?;
    let made = match form.input(None) {
        Ok(input) => actions::update(&ctx.kernel, &ctx.principal, **neighbours, id.0.clone(), input).await,
        Err(error) => Err(error),
    };
    match made {
        Ok(role) => Ok(redirect_with(&format!("/roles/{}", role.id), "success", "The role was saved.")),
        Err(error) => {
            let refused = Refused::of(error)?;
            let role = get(&ctx, id.0).await?;
            form_page(&ctx, **neighbours, form, Some(role), refused).await
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MfaForm {
    mfa: String,
}

/// `POST /roles/{id}/mfa`: what its holders have to prove.
pub(super) async fn update_mfa(
    ctx: Ctx,
    id: PathId<String>,
    form: Form<MfaForm>,
    neighbours: Data<Neighbours>,
) -> Result<HttpResponse> {
    let rule = MfaRule::parse(&form.0.mfa).ok_or_else(|| Error::BadRequest("There is no such rule.".into()))?;
    let input = RoleInput {
        mfa_required: Some(rule.is_required()),
        passkey_only: Some(rule.is_passkey_only()),
        ..RoleInput::default()
    };
    match actions::update(&ctx.kernel, &ctx.principal, **neighbours, id.0.clone(), input).await {
        Ok(role) => {
            let said = "Saved. It holds with the next request of whoever has the role.";
            Ok(redirect_with(&format!("/roles/{}", role.id), "success", said))
        }
        Err(error) => {
            let role = get(&ctx, id.0).await?;
            form_page(&ctx, **neighbours, RoleForm::of(&role), Some(role), Refused::of(error)?).await
        }
    }
}

/// `POST /roles/{id}/remove`.
pub(super) async fn remove(ctx: Ctx, id: PathId<String>, neighbours: Data<Neighbours>) -> Result<HttpResponse> {
    match actions::remove(&ctx.kernel, &ctx.principal, **neighbours, id.0.clone()).await {
        Ok(()) => Ok(redirect_with("/roles", "success", "The role was removed.")),
        Err(Error::Conflict(why)) => Ok(redirect_with(&format!("/roles/{}", id.0), "danger", &why)),
        Err(other) => Err(other),
    }
}
