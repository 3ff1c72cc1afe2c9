//! stub
use crate::error::Result;
use actix_web::HttpResponse;
pub(super) async fn new() -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}
pub(super) async fn create() -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}
pub(super) async fn edit() -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}
pub(super) async fn update() -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().finish())
}
