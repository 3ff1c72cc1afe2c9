//! stub
use crate::error::Result;
use actix_web::HttpResponse;
pub(super) async fn identities() -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}
pub(super) async fn export_identities() -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}
pub(super) async fn identity() -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}
pub(super) async fn groups() -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}
pub(super) async fn export_groups() -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}
pub(super) async fn group() -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}
