//! stub
use crate::error::Result;
use actix_web::HttpResponse;
pub(super) async fn list() -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}
pub(super) async fn detail() -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}
pub(super) async fn confirm_removal() -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}
pub(super) async fn remove() -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}
pub(super) async fn probe() -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}
pub(super) async fn start_run() -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}
pub(super) async fn pause() -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}
pub(super) async fn runs() -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}
pub(super) async fn run() -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}
pub(super) async fn run_progress() -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}
