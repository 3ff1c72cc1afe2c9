//! What a request carries: form fields, JSON bodies, query strings, ids in paths; each bounded and checked.
//!
//! Owns the limits and the refusal of NUL and other control characters in any text (they end in logs, terminals and
//! LDAP filters). An unknown field is an error, so that a misspelt or smuggled one never passes silently (W14).

use std::str::FromStr;

use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload, http::header, web::Bytes};
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;

use crate::error::{Error, FieldError, Result};

/// Bytes of a body. The largest legitimate one is a list of CA certificates in a directory's settings.
pub(super) const BODY_MAX: usize = 1024 * 1024;
const FIELDS_MAX: usize = 500;
/// Characters of one query parameter. A request line of all of them stays below the 64 KiB of which no more is read.
pub(super) const QUERY_CHARS_MAX: usize = 1_000;
/// A cursor holds the name of the last row shown.
pub(super) const CURSOR_CHARS_MAX: usize = 4_096;

/// The fields of a form post, read by the door.
#[derive(Clone, Default)]
pub(super) struct FormBody(Vec<(String, String)>);

impl FormBody {
    pub(super) fn parse(body: &[u8]) -> Result<Self> {
        if body.len() > BODY_MAX {
            return Err(Error::TooLarge);
        }
        let malformed = || Error::BadRequest("The form could not be read.".into());
        if std::str::from_utf8(body).is_err() {
            return Err(malformed());
        }
        let fields: Vec<(String, String)> = serde_urlencoded::from_bytes(body).map_err(|_| malformed())?;
        if fields.len() > FIELDS_MAX {
            return Err(Error::TooLarge);
        }
        Ok(Self(fields))
    }

    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Takes all fields of a name out; answers the first.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let (taken, kept) = std::mem::take(&mut self.0).into_iter().partition(|(key, _)| key == name);
        self.0 = kept;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().next().map(|(_, value)| value)
    }

    /// Everything but the token, as it was sent.
    pub(super) fn fields(&self) -> Vec<(String, String)> {
        self.0.iter().filter(|(name, _)| name != "csrf").cloned().collect()
    }
}

/// A form's fields as `T`. Text is trimmed of `\r` (browsers send CRLF in text areas).
pub struct Form<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Form<T> {
    type Error = Error;
    type Future = std::future::Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(read_form(request))
    }
}

fn read_form<T: DeserializeOwned>(request: &HttpRequest) -> Result<Form<T>> {
    let extensions = request.extensions();
    let body = extensions.get::<FormBody>().ok_or_else(|| Error::internal("a form was not read by the door"))?;
    let mut fields = Vec::with_capacity(body.0.len());
    for (name, value) in &body.0 {
        if name != "csrf" {
            check_text(name, value)?;
            fields.push((name.clone(), value.replace("\r\n", "\n")));
        }
    }
    let encoded = serde_urlencoded::to_string(&fields).map_err(|e| Error::caused("a form could not be read", e))?;
    serde_urlencoded::from_str(&encoded)
        .map(Form)
        .map_err(|e| Error::BadRequest(format!("The form could not be read: {}.", plain(&e.to_string()))))
}

/// A JSON body as `T`. 400 for what is not JSON, 422 with the field for what has the wrong type.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Json<T> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_json =
            request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
                value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
            });
        let body = Bytes::from_request(request, payload);
        Box::pin(async move {
            let body = body.await.map_err(|_| Error::TooLarge)?;
            if !is_json {
                return Err(Error::BadRequest("Send the body as JSON, with Content-Type: application/json.".into()));
            }
            read_json(&body).map(Json)
        })
    }
}

fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    // As a tree first: the same body must not mean two things (a control character hidden behind an escape).
    let tree: serde_json::Value = serde_json::from_slice(body).map_err(|e| {
        Error::BadRequest(format!("The body is not valid JSON (line {}, column {}).", e.line(), e.column()))
    })?;
    check_tree("", &tree)?;
    let mut reader = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let path = e.path().to_string();
        let field = if path == "." { "body".to_owned() } else { path };
        Error::Invalid(vec![FieldError::new(field, plain(&e.into_inner().to_string()))])
    })
}

/// serde's message without the position, which means nothing to a person.
fn plain(message: &str) -> String {
    message.split(" at line ").next().unwrap_or(message).to_owned()
}

fn check_tree(path: &str, tree: &serde_json::Value) -> Result<()> {
    use serde_json::Value;
    match tree {
        Value::String(text) => check_text(path, text),
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(i, item)| check_tree(&format!("{path}[{i}]"), item))
        }
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            check_text("body", name)?;
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            check_tree(&path, value)
        }),
        _ => Ok(()),
    }
}

/// Refuses control characters other than tab and line ends, wherever text comes in.
fn check_text(field: &str, text: &str) -> Result<()> {
    match text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        None => Ok(()),
        Some(_) => Err(Error::field(field, "Control characters are not allowed here.")),
    }
}

/// A query string as `T`; 400 for anything that does not fit.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Error;
    type Future = std::future::Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let fields: Result<Vec<(String, String)>, _> = serde_urlencoded::from_str(request.query_string());
        let read = fields
            .map_err(|_| Error::BadRequest("The query could not be read.".into()))
            .and_then(|fields| {
                for (name, value) in &fields {
                    let most = if name == "cursor" { CURSOR_CHARS_MAX } else { QUERY_CHARS_MAX };
                    let is_fine = value.chars().count() <= most && !value.chars().any(char::is_control);
                    if !is_fine {
                        return Err(Error::BadRequest(format!(
                            "The query field `{}` is too long or holds control characters.",
                            name.chars().filter(|c| !c.is_control()).take(40).collect::<String>()
                        )));
                    }
                }
                serde_urlencoded::from_str(request.query_string())
                    .map_err(|e| Error::BadRequest(format!("The query could not be read: {}.", plain(&e.to_string()))))
            })
            .map(Query);
        std::future::ready(read)
    }
}

/// The `{id}` of a path. An id that cannot exist is answered like one that does not: 404.
pub struct PathId<T>(pub T);

impl<T: FromStr> FromRequest for PathId<T> {
    type Error = Error;
    type Future = std::future::Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.match_info().get("id").unwrap_or_default();
        std::future::ready(id.parse().map(PathId).map_err(|_| Error::NotFound("The page or item")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Input {
        name: String,
        #[expect(dead_code, reason = "only its type matters here")]
        count: Option<u8>,
    }

    #[test]
    fn wrong_json_names_its_field() {
        let status = |body: &[u8]| match read_json::<Input>(body) {
            Ok(input) => format!("ok {}", input.name),
            Err(Error::Invalid(fields)) => format!("422 {}", fields[0].field),
            Err(other) => other.status().to_string(),
        };
        for (body, expected) in [
            (&br#"{"name":"a"}"#[..], "ok a"),
            (br#"{"name":7}"#, "422 name"),
            (br#"{"name":"a","count":300}"#, "422 count"),
            (br#"{"name":"a","role":"owner"}"#, "422 role"),
            (br#"{"name":"a\u0000b"}"#, "422 name"),
            (br#"{"name":"a\u001b[2J"}"#, "422 name"),
            (br#"{"#, "400"),
            (b"\xff\xfe", "400"),
            (b"", "400"),
            (br#"[]"#, "422 body"),
        ] {
            assert_eq!(status(body), expected, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn deep_json_is_refused_without_a_crash() {
        let deep = "[".repeat(100_000);
        assert!(matches!(read_json::<Input>(deep.as_bytes()), Err(Error::BadRequest(_))));
    }
}
