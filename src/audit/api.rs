//! `GET /api/logs`.

use actix_web::HttpResponse;
use serde::Deserialize;

use super::{
    model::Record,
    queries::{self, Filter},
};
use crate::{
    clock::Time,
    error::{Error, Result},
    principal::AccountId,
    web::{Ctx, ListQuery, Listing, PathId, Query},
};

/// Filters of the log, the same for page and API.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct LogQuery {
    pub(super) limit: Option<i64>,
    pub(super) cursor: Option<String>,
    /// A record type, for example `audit.directory_created.v1`.
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    /// URN of whoever acted.
    pub(super) principal: Option<String>,
    /// URN of what was acted upon.
    pub(super) subject: Option<String>,
    /// `success`, `failure` or `denied`.
    #[param(pattern = "^(success|failure|denied|)$")]
    pub(super) result: Option<String>,
    /// RFC 3339; records at or after this moment.
    #[param(format = "past-date-time")]
    pub(super) from: Option<String>,
    /// RFC 3339; records at or before this moment.
    #[param(format = "past-date-time")]
    pub(super) to: Option<String>,
}

impl LogQuery {
    pub(super) fn filter(&self) -> Result<Filter> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let time = |name: &str, text: &Option<String>| {
            given(text)
                .map(|text| {
                    Time::parse(&text).ok_or_else(|| {
                        Error::BadRequest(format!("{name} must be a time such as 2026-03-01T09:00:00Z."))
                    })
                })
                .transpose()
        };
        let result = given(&self.result);
        if result.as_deref().is_some_and(|result| !matches!(result, "success" | "failure" | "denied")) {
            return Err(Error::BadRequest("result must be success, failure or denied.".into()));
        }
        Ok(Filter {
            kind: given(&self.kind),
            principal: given(&self.principal),
            subject: given(&self.subject),
            result,
            from: time("from", &self.from)?,
            to: time("to", &self.to)?,
        })
    }

    /// One page of records.
    pub(super) async fn page(&self, ctx: &Ctx, account: AccountId, limit: usize) -> Result<Listing<Record>> {
        let filter = self.filter()?;
        let list = ListQuery { limit: self.limit, cursor: self.cursor.clone() };
        let before = list.position::<i64>()?;
        let rows = ctx.kernel.db.read(move |c| queries::list(c, account, &filter, before, limit + 1)).await?;
        Ok(Listing::cut(rows, limit, |record| record.seq))
    }
}

/// The audit log, newest first.
#[utoipa::path(get, path = "/api/logs", tag = "logs", params(LogQuery),
    responses((status = 200, description = "`{\"logs\": […], \"next\"}`", body = [Record])))]
pub(super) async fn list(ctx: Ctx, query: Query<LogQuery>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let limit = ListQuery { limit: query.0.limit, cursor: None }.limit()?;
    Ok(query.0.page(&ctx, account, limit).await?.json("logs"))
}

/// One record.
#[utoipa::path(get, path = "/api/logs/{id}", tag = "logs", params(("id" = String, Path)),
    responses((status = 200, body = Record)))]
pub(super) async fn get(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let record = ctx.kernel.db.read(move |c| queries::find(c, account, &id.0)).await?;
    Ok(HttpResponse::Ok().json(record.ok_or(Error::NotFound("This log record"))?))
}
