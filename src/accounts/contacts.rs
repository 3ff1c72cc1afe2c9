//! Contacts: whom notices of an account go to, as three lists of e-mail addresses.
//!
//! Owns `contact`. Invariants: a list holds at most five addresses, none twice; whoever makes an account stands first in all
//! three until somebody changes that. An address is nothing but an address here: it need not be a user's, and gives no right.

use actix_web::{HttpResponse, http::StatusCode};
use askama::Template;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::{account_urn, find};
use crate::{
    audit::{self, Entry},
    email,
    error::{Error, FieldError, Result},
    kernel::Kernel,
    principal::{AccountId, Level, Permission, Principal, Service},
    web::{Ctx, Form, Json, Page, PathId, Routes, html_status, redirect_with},
};

const ADDRESSES_MAX: usize = 5;

/// One of the three lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContactList {
    /// Billing and Subscriptions.
    Billing,
    Operations,
    General,
}

impl ContactList {
    pub const ALL: [Self; 3] = [Self::Billing, Self::Operations, Self::General];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Billing => "billing",
            Self::Operations => "operations",
            Self::General => "general",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Billing => "Billing and Subscriptions",
            Self::Operations => "Operations",
            Self::General => "General",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::Billing => "What the account costs and what it is subscribed to.",
            Self::Operations => "Directories, runs, keys and certificates that need somebody.",
            Self::General => "Everything else about the account.",
        }
    }
}

/// The three lists of an account, each in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Contacts {
    pub billing: Vec<String>,
    pub operations: Vec<String>,
    pub general: Vec<String>,
}

impl Contacts {
    fn list(&self, list: ContactList) -> &[String] {
        match list {
            ContactList::Billing => &self.billing,
            ContactList::Operations => &self.operations,
            ContactList::General => &self.general,
        }
    }
}

/// The lists that are to be different; absent ones stay as they are.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = ContactsUpdate)]
struct ContactsInput {
    /// Billing and Subscriptions: at most five addresses.
    billing: Option<Vec<String>>,
    /// At most five addresses.
    operations: Option<Vec<String>>,
    /// At most five addresses.
    general: Option<Vec<String>>,
}

/// A list as it is stored, or what is wrong with it.
fn checked(list: ContactList, addresses: Vec<String>, wrong: &mut Vec<FieldError>) -> Vec<String> {
    let field = list.as_str();
    let mut kept: Vec<String> = Vec::with_capacity(addresses.len());
    if addresses.len() > ADDRESSES_MAX {
        wrong.push(FieldError::new(field, format!("At most {ADDRESSES_MAX} addresses.")));
        return kept;
    }
    for address in addresses {
        match email::check(field, &address) {
            Ok(address) if kept.iter().any(|known| email::fold(known) == email::fold(&address)) => {}
            Ok(address) => kept.push(address),
            Err(_) => {
                let shown: String = address.chars().take(60).collect();
                wrong.push(FieldError::new(
                    field,
                    format!("`{shown}` is no complete address, such as name@example.org."),
                ));
                return kept;
            }
        }
    }
    kept
}

impl ContactsInput {
    fn onto(self, before: Contacts) -> Result<Contacts> {
        let mut wrong = Vec::new();
        let mut over = |list, given: Option<Vec<String>>, present| match given {
            Some(addresses) => checked(list, addresses, &mut wrong),
            None => present,
        };
        let after = Contacts {
            billing: over(ContactList::Billing, self.billing, before.billing),
            operations: over(ContactList::Operations, self.operations, before.operations),
            general: over(ContactList::General, self.general, before.general),
        };
        if wrong.is_empty() { Ok(after) } else { Err(Error::Invalid(wrong)) }
    }
}

/// The addresses of one list, in their order; empty when there is nobody to tell.
pub fn contacts(connection: &Connection, account: AccountId, list: ContactList) -> Result<Vec<String>> {
    let mut statement =
        connection.prepare_cached("SELECT email FROM contact WHERE account_id = ?1 AND list = ?2 ORDER BY position")?;
    let rows = statement.query_map(params![account, list.as_str()], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn read_all(connection: &Connection, account: AccountId) -> Result<Contacts> {
    Ok(Contacts {
        billing: contacts(connection, account, ContactList::Billing)?,
        operations: contacts(connection, account, ContactList::Operations)?,
        general: contacts(connection, account, ContactList::General)?,
    })
}

fn store(connection: &Connection, account: AccountId, all: &Contacts) -> Result<()> {
    connection.prepare_cached("DELETE FROM contact WHERE account_id = ?1")?.execute([account])?;
    let mut insert =
        connection.prepare_cached("INSERT INTO contact (account_id, list, position, email) VALUES (?1, ?2, ?3, ?4)")?;
    for list in ContactList::ALL {
        for (position, address) in (1_i64..).zip(all.list(list)) {
            insert.execute(params![account, list.as_str(), position, address])?;
        }
    }
    Ok(())
}

/// Puts whoever makes an account first in all three lists, in the transaction that makes it.
pub fn begin_contacts(connection: &Connection, account: AccountId, creator: &str) -> Result<()> {
    let only = vec![email::check("email", creator)?];
    store(connection, account, &Contacts { billing: only.clone(), operations: only.clone(), general: only })
}

async fn update(kernel: &Kernel, principal: &Principal, input: ContactsInput) -> Result<Contacts> {
    let id = principal.account()?;
    audit::change(kernel, principal, move |c| {
        let account = find(c, id)?.ok_or(Error::NotFound("This account"))?;
        let before = read_all(c, id)?;
        let after = input.onto(before.clone())?;
        if after == before {
            return Ok((after, Vec::new()));
        }
        store(c, id, &after)?;
        let entry = Entry::new("audit.contacts_updated.v1").subject(account_urn(&account)).changes(&before, &after);
        Ok((after, vec![entry]))
    })
    .await
}

/// The caller's account, when it is the one that was asked for.
fn own(ctx: &Ctx, id: &str) -> Result<AccountId> {
    let account = ctx.principal.account()?;
    if AccountId::parse(id) == Some(account) { Ok(account) } else { Err(Error::NotFound("This account")) }
}

/// Whom notices of an account go to.
#[utoipa::path(get, path = "/api/accounts/{id}/contacts", tag = "accounts", params(("id" = String, Path)),
    responses((status = 200, body = Contacts)))]
async fn get_contacts(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let account = own(&ctx, &id.0)?;
    Ok(HttpResponse::Ok().json(ctx.kernel.db.read(move |c| read_all(c, account)).await?))
}

/// Changes whom notices of an account go to: the lists that are given.
#[utoipa::path(post, path = "/api/accounts/{id}/contacts", tag = "accounts", params(("id" = String, Path)),
    request_body = ContactsInput, responses((status = 200, body = Contacts)))]
async fn modify_contacts(ctx: Ctx, id: PathId<String>, input: Json<ContactsInput>) -> Result<HttpResponse> {
    own(&ctx, &id.0)?;
    Ok(HttpResponse::Ok().json(update(&ctx.kernel, &ctx.principal, input.0).await?))
}

/// A list on the page: one address a line.
struct Shown {
    list: ContactList,
    text: String,
    error: String,
}

#[derive(Template)]
#[template(path = "accounts/contacts.html")]
struct ContactsPage {
    page: Page,
    lists: Vec<Shown>,
    may_change: bool,
}

/// What the form sends: one address a line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContactsForm {
    billing: String,
    operations: String,
    general: String,
}

impl ContactsForm {
    fn text(&self, list: ContactList) -> &str {
        match list {
            ContactList::Billing => &self.billing,
            ContactList::Operations => &self.operations,
            ContactList::General => &self.general,
        }
    }

    fn input(&self) -> ContactsInput {
        let lines = |list| {
            let lines = self.text(list).lines().map(str::trim).filter(|line| !line.is_empty());
            Some(lines.map(str::to_owned).collect())
        };
        ContactsInput {
            billing: lines(ContactList::Billing),
            operations: lines(ContactList::Operations),
            general: lines(ContactList::General),
        }
    }
}

fn page(ctx: &Ctx, text: impl Fn(ContactList) -> String, errors: &[FieldError]) -> Result<HttpResponse> {
    let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let page = Page::new(ctx, "Contacts", "contacts");
    let error = |list: ContactList| {
        errors.iter().find(|error| error.field == list.as_str()).map_or_else(String::new, |error| error.message.clone())
    };
    let lists = ContactList::ALL.into_iter().map(|list| Shown { list, text: text(list), error: error(list) }).collect();
    html_status(status, &ContactsPage { may_change: page.may("settings", "full"), page, lists })
}

/// `GET /settings/contacts`.
async fn show(ctx: Ctx) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let all = ctx.kernel.db.read(move |c| read_all(c, account)).await?;
    page(&ctx, |list| all.list(list).join("\n"), &[])
}

/// `POST /settings/contacts`.
async fn save(ctx: Ctx, form: Form<ContactsForm>) -> Result<HttpResponse> {
    match update(&ctx.kernel, &ctx.principal, form.0.input()).await {
        Ok(_) => Ok(redirect_with("/settings/contacts", "success", "The contacts were saved.")),
        Err(Error::Invalid(errors)) => page(&ctx, |list| form.0.text(list).to_owned(), &errors),
        Err(other) => Err(other),
    }
}

/// The page and the API of contacts.
pub(super) fn routes(routes: &mut Routes) {
    let read = Permission::Needs(Service::Settings, Level::Read);
    let full = Permission::Needs(Service::Settings, Level::Full);
    routes.get("/settings/contacts", read, show);
    routes.post("/settings/contacts", full, save);
    routes.api::<__path_get_contacts, _, _>(read, get_contacts);
    routes.api::<__path_modify_contacts, _, _>(full, modify_contacts);
}
