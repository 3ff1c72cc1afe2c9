//! `/api/identities` and `/api/groups`.

use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};

use super::{
    export, handles, history,
    model::{Accounts, ChangeJson, FOREVER, GroupJson, IdentityJson, IdentityRow, Member, ObjectId},
    parts::{self, Sight},
    past, privileges,
    queries::{self, Filter, Position},
};
use crate::{
    clock::Time,
    connectors::{self, AccountType, Status},
    error::{Error, Result},
    web::{Ctx, ListQuery, Listing, PathId, Query},
};

/// Filters of a list of identities, the same for page and API.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct IdentityQuery {
    pub(super) limit: Option<i64>,
    pub(super) cursor: Option<String>,
    /// Part of a name, user name, mail address or employee id; case and accents do not matter.
    #[param(max_length = 200)]
    pub(super) q: Option<String>,
    /// A directory's id.
    #[param(pattern = "^[0-9]{0,18}$")]
    pub(super) directory: Option<String>,
    /// `active disabled locked expired suspended staged deprovisioned`, or `missing`.
    #[param(pattern = "^(active|disabled|locked|expired|suspended|staged|deprovisioned|missing|)$")]
    pub(super) status: Option<String>,
    /// A group's id: its direct members.
    #[param(pattern = "^[0-9]{0,18}$")]
    pub(super) group: Option<String>,
    /// `user`, `computer` or `managed-service-account`; `all`, or absent, for all of them.
    #[serde(rename = "accountType")]
    #[param(rename = "accountType", pattern = "^(user|computer|managed-service-account|all|)$")]
    pub(super) account_type: Option<String>,
    /// `true`: privileged ones only, by their memberships of now; not together with `asOf`.
    #[param(pattern = "^(true|)$")]
    pub(super) privileged: Option<String>,
    /// As of this time (RFC 3339) instead of now.
    #[serde(rename = "asOf")]
    #[param(rename = "asOf", format = "past-date-time")]
    pub(super) as_of: Option<String>,
}

/// The longest search text; more than any name.
const Q_MAX: usize = 200;

fn number(name: &str, text: Option<&str>) -> Result<Option<i64>> {
    text.filter(|text| !text.is_empty())
        .map(|text| {
            let is_number = text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = is_number.then(|| text.parse().ok()).flatten();
            number.ok_or_else(|| Error::BadRequest(format!("{name} must be an id.")))
        })
        .transpose()
}

/// A moment that is over, from a query. A form of the console sends `2026-03-03T09:00`, which is UTC.
pub(super) fn moment(name: &str, text: Option<&str>, now: Time) -> Result<Option<Time>> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    let parsed =
        Time::parse(text).or_else(|| Time::parse(&format!("{text}Z"))).or_else(|| Time::parse(&format!("{text}:00Z")));
    match parsed {
        Some(time) if time <= now => Ok(Some(time)),
        Some(_) => Err(Error::BadRequest(format!("{name} lies in the future."))),
        None => Err(Error::BadRequest(format!("{name} must be a time such as 2026-03-03T09:00:00Z."))),
    }
}

impl IdentityQuery {
    pub(super) fn filter(&self) -> Result<Filter> {
        let q = self.q.clone().unwrap_or_default();
        if q.chars().count() > Q_MAX {
            return Err(Error::BadRequest(format!("q may have {Q_MAX} characters at most.")));
        }
        let status = self.status.clone().filter(|status| !status.is_empty());
        if let Some(status) = &status
            && status != "missing"
            && Status::parse(status).is_none()
        {
            return Err(Error::BadRequest(
                "status must be active, disabled, locked, expired, suspended, staged, deprovisioned or missing.".into(),
            ));
        }
        let accounts = match self.account_type.as_deref() {
            None | Some("" | "all") => Accounts::All,
            Some(text) => AccountType::parse(text).map(Accounts::Of).ok_or_else(|| {
                Error::BadRequest("accountType must be user, computer, managed-service-account or all.".into())
            })?,
        };
        let is_privileged = match self.privileged.as_deref() {
            None | Some("") => false,
            Some("true") if self.as_of.as_deref().is_none_or(str::is_empty) => true,
            Some("true") => {
                return Err(Error::BadRequest(
                    "Who is privileged can be listed for now only, not as of a time.".into(),
                ));
            }
            Some(_) => return Err(Error::BadRequest("privileged must be true, or absent.".into())),
        };
        Ok(Filter {
            q,
            directory: number("directory", self.directory.as_deref())?,
            status,
            group: number("group", self.group.as_deref())?,
            accounts,
            is_privileged,
        })
    }

    /// Its filters as a query has them.
    pub(super) fn fields(&self) -> [(&'static str, &str); 7] {
        [
            ("q", &self.q),
            ("directory", &self.directory),
            ("status", &self.status),
            ("group", &self.group),
            ("accountType", &self.account_type),
            ("privileged", &self.privileged),
            ("asOf", &self.as_of),
        ]
        .map(|(name, given)| (name, given.as_deref().unwrap_or_default()))
    }

    /// One page of rows.
    pub(super) async fn page(&self, ctx: &Ctx, limit: usize) -> Result<Listing<IdentityRow>> {
        let sight = parts::sight(&ctx.kernel, &ctx.principal).await?;
        let filter = self.filter()?;
        let list = ListQuery { limit: self.limit, cursor: self.cursor.clone() };
        let after = list.position::<Position>()?;
        let (asked, at) = (filter.clone(), moment("asOf", self.as_of.as_deref(), ctx.kernel.clock.now())?);
        let rows = ctx.kernel.db.read(move |c| past::identities(c, &sight, &asked, at, after, limit + 1)).await?;
        Ok(Listing::cut(rows, limit, |row| queries::position(&filter, &row.sort_key, row.id)))
    }
}

/// The manager's identity, by the distinguished name in the `manager` field.
pub(super) fn manager(
    connection: &rusqlite::Connection,
    sight: &Sight,
    row: &IdentityRow,
) -> Result<Option<(ObjectId, String)>> {
    let found = match row.fields.manager.as_deref().and_then(connectors::dn_key) {
        Some(key) => handles::find_by_dn(connection, row.directory_id, key)?,
        None => None,
    };
    match found {
        Some((id, _)) if !sight.holds(connection, row.directory_id, id)? => Ok(None),
        found => Ok(found),
    }
}

/// Identities, by name; when searched, in the order they were first seen.
#[utoipa::path(get, path = "/api/identities", tag = "identities", params(IdentityQuery),
    responses((status = 200, description = "`{\"identities\": […], \"next\"}`", body = [IdentityJson])))]
pub(super) async fn list_identities(ctx: Ctx, query: Query<IdentityQuery>) -> Result<HttpResponse> {
    let sight = parts::sight(&ctx.kernel, &ctx.principal).await?;
    let limit = ListQuery { limit: query.0.limit, cursor: None }.limit()?;
    let Listing { rows, next } = query.0.page(&ctx, limit).await?;
    let at = moment("asOf", query.0.as_of.as_deref(), ctx.kernel.clock.now())?;
    let rows = ctx
        .kernel
        .db
        .read(move |c| {
            let mut why = privileges::reasons_of(c, rows.iter().map(|row| row.id), at)?;
            rows.into_iter()
                .map(|row| {
                    let manager = manager(c, &sight, &row)?.map(|(id, _)| id);
                    let privileged = sight.why(c, why.remove(&row.id).unwrap_or_default())?;
                    Ok(IdentityJson::new(row, manager, privileged))
                })
                .collect::<Result<Vec<_>>>()
        })
        .await?;
    Ok(Listing { rows, next }.json("identities"))
}

/// The filtered identities as CSV, all of them.
#[utoipa::path(get, path = "/api/identities.csv", tag = "identities", params(IdentityQuery),
    responses((status = 200, description = "One line per identity, with a heading.", body = String, content_type = "text/csv")))]
pub(super) async fn export_identities(ctx: Ctx, query: Query<IdentityQuery>) -> Result<HttpResponse> {
    export::identities(&ctx, &query.0).await
}

/// `?asOf=`.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct AsOfQuery {
    /// As of this time (RFC 3339) instead of now.
    #[serde(rename = "asOf")]
    #[param(rename = "asOf", format = "past-date-time")]
    pub(super) as_of: Option<String>,
}

impl AsOfQuery {
    pub(super) fn moment(&self, ctx: &Ctx) -> Result<Option<Time>> {
        moment("asOf", self.as_of.as_deref(), ctx.kernel.clock.now())
    }
}

/// One identity, or how it was at a time; 404 when it was not there then.
#[utoipa::path(get, path = "/api/identities/{id}", tag = "identities", params(("id" = String, Path), AsOfQuery),
    responses((status = 200, body = IdentityJson)))]
pub(super) async fn get_identity(ctx: Ctx, id: PathId<ObjectId>, query: Query<AsOfQuery>) -> Result<HttpResponse> {
    let sight = parts::sight(&ctx.kernel, &ctx.principal).await?;
    let at = query.0.moment(&ctx)?;
    let found = ctx
        .kernel
        .db
        .read(move |c| match past::identity_at(c, &sight, id.0, at)? {
            Some(row) => {
                let manager = manager(c, &sight, &row)?.map(|(id, _)| id);
                let privileged = sight.why(c, privileges::reasons(c, id.0, at)?)?;
                Ok(Some(IdentityJson::new(row, manager, privileged)))
            }
            None => Ok(None),
        })
        .await?;
    Ok(HttpResponse::Ok().json(found.ok_or(Error::NotFound("This identity"))?))
}

fn changes_page(ctx: &Ctx, rows: Vec<super::ChangeRow>, limit: usize) -> Result<HttpResponse> {
    let (region, account) = (ctx.principal.region.clone(), ctx.principal.account()?);
    Ok(Listing::cut(rows, limit, |row| row.id).map(|row| ChangeJson::new(row, &region, account)).json("changes"))
}

/// What changed about one identity, newest first.
#[utoipa::path(get, path = "/api/identities/{id}/changes", tag = "identities", params(("id" = String, Path), ListQuery),
    responses((status = 200, description = "`{\"changes\": […], \"next\"}`", body = [ChangeJson])))]
pub(super) async fn identity_changes(ctx: Ctx, id: PathId<ObjectId>, query: Query<ListQuery>) -> Result<HttpResponse> {
    let sight = parts::sight(&ctx.kernel, &ctx.principal).await?;
    let (limit, before) = (query.0.limit()?, query.0.position::<i64>()?.unwrap_or(FOREVER));
    let rows = ctx
        .kernel
        .db
        .read(move |c| {
            let row = queries::find_identity(c, &sight, id.0)?.ok_or(Error::NotFound("This identity"))?;
            history::history(c, &sight, row.directory_id, id.0, before, limit + 1)
        })
        .await?;
    changes_page(&ctx, rows, limit)
}

/// `?effective=` of member lists.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberQuery {
    pub(super) limit: Option<i64>,
    pub(super) cursor: Option<String>,
    /// Through groups in groups too.
    pub(super) effective: Option<bool>,
    /// As of this time (RFC 3339) instead of now.
    #[serde(rename = "asOf")]
    #[param(rename = "asOf", format = "past-date-time")]
    pub(super) as_of: Option<String>,
}

impl MemberQuery {
    fn list(&self) -> ListQuery {
        ListQuery { limit: self.limit, cursor: self.cursor.clone() }
    }

    pub(super) fn moment(&self, ctx: &Ctx) -> Result<Option<Time>> {
        moment("asOf", self.as_of.as_deref(), ctx.kernel.clock.now())
    }
}

/// The groups an identity is a member of.
#[utoipa::path(get, path = "/api/identities/{id}/groups", tag = "identities", params(("id" = String, Path), MemberQuery),
    responses((status = 200, description = "`{\"groups\": […], \"next\"}`", body = [Member])))]
pub(super) async fn identity_groups(ctx: Ctx, id: PathId<ObjectId>, query: Query<MemberQuery>) -> Result<HttpResponse> {
    let sight = parts::sight(&ctx.kernel, &ctx.principal).await?;
    let (limit, after) = (query.0.list().limit()?, query.0.list().position::<ObjectId>()?.unwrap_or(0));
    let (effective, at) = (query.0.effective.unwrap_or(false), query.0.moment(&ctx)?);
    let rows = ctx
        .kernel
        .db
        .read(move |c| {
            past::identity_at(c, &sight, id.0, at)?.ok_or(Error::NotFound("This identity"))?;
            match at {
                None => past::groups_seen(c, &sight, id.0, effective, after, limit + 1),
                Some(at) => past::groups_of(c, sight.past()?, id.0, effective, at, after, limit + 1),
            }
        })
        .await?;
    Ok(Listing::cut(rows, limit, |row| row.number).json("groups"))
}

/// Filters of a list of groups.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupQuery {
    pub(super) limit: Option<i64>,
    pub(super) cursor: Option<String>,
    /// Part of a name or description.
    #[param(max_length = 200)]
    pub(super) q: Option<String>,
    /// A directory's id.
    #[param(pattern = "^[0-9]{0,18}$")]
    pub(super) directory: Option<String>,
    /// As of this time (RFC 3339) instead of now.
    #[serde(rename = "asOf")]
    #[param(rename = "asOf", format = "past-date-time")]
    pub(super) as_of: Option<String>,
}

impl GroupQuery {
    pub(super) fn filter(&self) -> Result<Filter> {
        IdentityQuery { q: self.q.clone(), directory: self.directory.clone(), ..IdentityQuery::default() }.filter()
    }

    pub(super) async fn page(&self, ctx: &Ctx, limit: usize) -> Result<Listing<super::model::GroupRow>> {
        let sight = parts::sight(&ctx.kernel, &ctx.principal).await?;
        let filter = self.filter()?;
        let list = ListQuery { limit: self.limit, cursor: self.cursor.clone() };
        let after = list.position::<Position>()?;
        let (asked, at) = (filter.clone(), moment("asOf", self.as_of.as_deref(), ctx.kernel.clock.now())?);
        let rows = ctx.kernel.db.read(move |c| past::groups(c, &sight, &asked, at, after, limit + 1)).await?;
        Ok(Listing::cut(rows, limit, |row| queries::position(&filter, &row.sort_key, row.id)))
    }
}

/// Groups, by name; when searched, in the order they were first seen.
#[utoipa::path(get, path = "/api/groups", tag = "groups", params(GroupQuery),
    responses((status = 200, description = "`{\"groups\": […], \"next\"}`", body = [GroupJson])))]
pub(super) async fn list_groups(ctx: Ctx, query: Query<GroupQuery>) -> Result<HttpResponse> {
    let limit = ListQuery { limit: query.0.limit, cursor: None }.limit()?;
    Ok(query.0.page(&ctx, limit).await?.map(GroupJson::from).json("groups"))
}

/// The filtered groups as CSV, all of them.
#[utoipa::path(get, path = "/api/groups.csv", tag = "groups", params(GroupQuery),
    responses((status = 200, description = "One line per group, with a heading.", body = String, content_type = "text/csv")))]
pub(super) async fn export_groups(ctx: Ctx, query: Query<GroupQuery>) -> Result<HttpResponse> {
    export::groups(&ctx, &query.0).await
}

/// One group, or how it was at a time; 404 when it was not there then.
#[utoipa::path(get, path = "/api/groups/{id}", tag = "groups", params(("id" = String, Path), AsOfQuery),
    responses((status = 200, body = GroupJson)))]
pub(super) async fn get_group(ctx: Ctx, id: PathId<ObjectId>, query: Query<AsOfQuery>) -> Result<HttpResponse> {
    let sight = parts::sight(&ctx.kernel, &ctx.principal).await?;
    let at = query.0.moment(&ctx)?;
    let found = ctx.kernel.db.read(move |c| past::group_at(c, &sight, id.0, at)).await?;
    Ok(HttpResponse::Ok().json(GroupJson::from(found.ok_or(Error::NotFound("This group"))?)))
}

/// The members of a group, in the order they were first seen.
#[utoipa::path(get, path = "/api/groups/{id}/members", tag = "groups", params(("id" = String, Path), MemberQuery),
    responses((status = 200, description = "`{\"members\": […], \"next\"}`", body = [Member])))]
pub(super) async fn group_members(ctx: Ctx, id: PathId<ObjectId>, query: Query<MemberQuery>) -> Result<HttpResponse> {
    let sight = parts::sight(&ctx.kernel, &ctx.principal).await?;
    let (limit, after) = (query.0.list().limit()?, query.0.list().position::<ObjectId>()?.unwrap_or(0));
    let (effective, at) = (query.0.effective.unwrap_or(false), query.0.moment(&ctx)?);
    let rows = ctx
        .kernel
        .db
        .read(move |c| {
            past::group_at(c, &sight, id.0, at)?.ok_or(Error::NotFound("This group"))?;
            past::members(c, &sight, id.0, effective, at, after, limit + 1)
        })
        .await?;
    Ok(Listing::cut(rows, limit, |row| row.number).json("members"))
}

/// What changed about one group and its members, newest first.
#[utoipa::path(get, path = "/api/groups/{id}/changes", tag = "groups", params(("id" = String, Path), ListQuery),
    responses((status = 200, description = "`{\"changes\": […], \"next\"}`", body = [ChangeJson])))]
pub(super) async fn group_changes(ctx: Ctx, id: PathId<ObjectId>, query: Query<ListQuery>) -> Result<HttpResponse> {
    let sight = parts::sight(&ctx.kernel, &ctx.principal).await?;
    let (limit, before) = (query.0.limit()?, query.0.position::<i64>()?.unwrap_or(FOREVER));
    let rows = ctx
        .kernel
        .db
        .read(move |c| {
            let row = queries::find_group(c, &sight, id.0)?.ok_or(Error::NotFound("This group"))?;
            history::history(c, &sight, row.directory_id, id.0, before, limit + 1)
        })
        .await?;
    changes_page(&ctx, rows, limit)
}

/// `?from=&to=` of a comparison.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct CompareQuery {
    /// The earlier time (RFC 3339).
    #[param(required = true, format = "past-date-time")]
    pub(super) from: Option<String>,
    /// The later time; now when absent.
    #[param(format = "past-date-time")]
    pub(super) to: Option<String>,
}

impl CompareQuery {
    /// Both times; `None` while the first one is not chosen.
    pub(super) fn chosen(&self, ctx: &Ctx) -> Result<Option<(Time, Time)>> {
        let now = ctx.kernel.clock.now();
        let Some(from) = moment("from", self.from.as_deref(), now)? else { return Ok(None) };
        let to = moment("to", self.to.as_deref(), now)?.unwrap_or(now);
        if from > to {
            return Err(Error::BadRequest("from must not be after to.".into()));
        }
        Ok(Some((from, to)))
    }

    fn times(&self, ctx: &Ctx) -> Result<(Time, Time)> {
        let missing = || Error::BadRequest("from must be a time such as 2026-03-03T09:00:00Z.".into());
        self.chosen(ctx)?.ok_or_else(missing)
    }
}

/// One field that differs.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct FieldDifference {
    /// Raw attributes as `attributes.<name>`.
    field: String,
    before: Option<serde_json::Value>,
    after: Option<serde_json::Value>,
}

/// What differs between two times.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Comparison)]
pub(super) struct ComparisonJson {
    #[schema(value_type = String, format = DateTime)]
    from: Time,
    #[schema(value_type = String, format = DateTime)]
    to: Time,
    /// Whether it was in the copy at each of the two times.
    existed_before: bool,
    exists_after: bool,
    fields: Vec<FieldDifference>,
    /// Groups that an identity joined, members that joined a group; at most 500.
    joined: Vec<Member>,
    left: Vec<Member>,
}

impl ComparisonJson {
    fn new((from, to): (Time, Time), comparison: past::Comparison) -> Self {
        let side = |side: Option<String>| side.and_then(|side| serde_json::from_str(&side).ok());
        Self {
            from,
            to,
            existed_before: comparison.was_there.0,
            exists_after: comparison.was_there.1,
            fields: comparison
                .fields
                .into_iter()
                .map(|(field, before, after)| FieldDifference { field, before: side(before), after: side(after) })
                .collect(),
            joined: comparison.joined,
            left: comparison.left,
        }
    }
}

/// An identity at two times: fields that differ, groups joined and left.
#[utoipa::path(get, path = "/api/identities/{id}/compare", tag = "identities", params(("id" = String, Path), CompareQuery),
    responses((status = 200, body = ComparisonJson)))]
pub(super) async fn compare_identity(
    ctx: Ctx,
    id: PathId<ObjectId>,
    query: Query<CompareQuery>,
) -> Result<HttpResponse> {
    let (account, times) = (ctx.principal.account()?, query.0.times(&ctx)?);
    let found = ctx.kernel.db.read(move |c| past::compare_identity(c, account, id.0, times)).await?;
    Ok(HttpResponse::Ok().json(ComparisonJson::new(times, found)))
}

/// A group at two times: fields that differ, members that joined and left.
#[utoipa::path(get, path = "/api/groups/{id}/compare", tag = "groups", params(("id" = String, Path), CompareQuery),
    responses((status = 200, body = ComparisonJson)))]
pub(super) async fn compare_group(ctx: Ctx, id: PathId<ObjectId>, query: Query<CompareQuery>) -> Result<HttpResponse> {
    let (account, times) = (ctx.principal.account()?, query.0.times(&ctx)?);
    let found = ctx.kernel.db.read(move |c| past::compare_group(c, account, id.0, times)).await?;
    Ok(HttpResponse::Ok().json(ComparisonJson::new(times, found)))
}
