//! Static files: embedded in the binary, named with a hash of their content, kept by browsers for a year.

use std::{collections::HashMap, sync::LazyLock};

use actix_web::{HttpRequest, HttpResponse, http::header};
use rust_embed::RustEmbed;

use crate::secret;

#[derive(RustEmbed)]
#[folder = "static/"]
struct Files;

static HASHES: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    Files::iter()
        .filter_map(|path| {
            let file = Files::get(&path)?;
            let hash: String = secret::encode_hex(&file.metadata.sha256_hash()).chars().take(12).collect();
            Some((path.into_owned(), hash))
        })
        .collect()
});

/// `/static/css/app.css?v=<hash>`.
pub(super) fn versioned(path: &str) -> String {
    match HASHES.get(path) {
        Some(hash) => format!("/static/{path}?v={hash}"),
        None => format!("/static/{path}"),
    }
}

/// `GET /static/{path}`.
pub(super) async fn file(request: HttpRequest) -> HttpResponse {
    let path = request.match_info().get("path").unwrap_or_default();
    let (Some(file), Some(hash)) = (Files::get(path), HASHES.get(path)) else {
        return HttpResponse::NotFound().finish();
    };
    let etag = format!("\"{hash}\"");
    let is_known = request.headers().get(header::IF_NONE_MATCH).is_some_and(|value| value == etag.as_str());
    // Only an address that names this content may be kept without asking again.
    let keep = if request.query_string().strip_prefix("v=") == Some(hash.as_str()) {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    if is_known {
        return HttpResponse::NotModified()
            .insert_header((header::ETAG, etag))
            .insert_header((header::CACHE_CONTROL, keep))
            .finish();
    }
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    let kind = if kind.type_() == "text" { format!("{kind}; charset=utf-8") } else { kind.to_string() };
    HttpResponse::Ok()
        .content_type(kind)
        .insert_header((header::ETAG, etag))
        .insert_header((header::CACHE_CONTROL, keep))
        .body(file.data.into_owned())
}
