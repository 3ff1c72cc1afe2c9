//! Lists in pages: the limit, the opaque cursor, the shape of the answer (DESIGN §8).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};

/// Rows of an API page when `limit` is 0 or absent.
pub const LIMIT_DEFAULT: usize = 25;
pub(super) const LIMIT_MAX: i64 = 500;
/// Rows of a console page.
pub const PAGE_SIZE: usize = 50;

/// `?limit=&cursor=` of an API list.
#[derive(Debug, Default, Clone, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Rows per page: 1 to 500; 0 or absent means 25.
    pub limit: Option<i64>,
    /// From the answer before: its `next`.
    pub cursor: Option<String>,
}

impl ListQuery {
    /// How many rows to answer.
    pub fn limit(&self) -> Result<usize> {
        match self.limit.unwrap_or(0) {
            0 => Ok(LIMIT_DEFAULT),
            limit @ 1..=LIMIT_MAX => Ok(usize::try_from(limit).unwrap_or(LIMIT_DEFAULT)),
            _ => Err(Error::BadRequest(format!("limit must be between 0 and {LIMIT_MAX}."))),
        }
    }

    /// The position to go on from, `None` for the first page.
    pub fn position<K: DeserializeOwned>(&self) -> Result<Option<K>> {
        self.cursor.as_deref().filter(|text| !text.is_empty()).map(Cursor::read).transpose()
    }
}

/// An opaque position in a list: the sort key of the last row shown.
pub struct Cursor;

impl Cursor {
    pub fn write<K: Serialize>(key: &K) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(key).unwrap_or_default())
    }

    /// 400 for anything that [`write`](Self::write) did not make.
    pub fn read<K: DeserializeOwned>(text: &str) -> Result<K> {
        URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| Error::BadRequest("The cursor is not valid. Start again without it.".into()))
    }
}

/// One page of rows and, unless it is the last, the cursor of the next.
#[derive(Debug)]
pub struct Listing<T> {
    pub rows: Vec<T>,
    pub next: Option<String>,
}

impl<T> Listing<T> {
    /// From up to `limit + 1` rows: the one too many says that there is a next page.
    pub fn cut<K: Serialize>(mut rows: Vec<T>, limit: usize, key: impl Fn(&T) -> K) -> Self {
        let next = (rows.len() > limit).then(|| {
            rows.truncate(limit);
            rows.last().map(|row| Cursor::write(&key(row)))
        });
        Self { rows, next: next.flatten() }
    }

    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Listing<U> {
        Listing { rows: self.rows.into_iter().map(f).collect(), next: self.next }
    }

    /// `{"<collection>": […], "next": "…"}`, without `next` on the last page.
    pub fn json(&self, collection: &str) -> actix_web::HttpResponse
    where
        T: Serialize,
    {
        let mut body = serde_json::Map::new();
        match serde_json::to_value(&self.rows) {
            Ok(rows) => body.insert(collection.to_owned(), rows),
            Err(error) => {
                tracing::error!(%error, "a list could not be written");
                return actix_web::HttpResponse::InternalServerError().finish();
            }
        };
        if let Some(next) = &self.next {
            body.insert("next".into(), serde_json::Value::String(next.clone()));
        }
        actix_web::HttpResponse::Ok().json(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_follow_the_contract() {
        let limit = |limit| ListQuery { limit, cursor: None }.limit();
        assert_eq!(limit(None).expect("ok"), 25);
        assert_eq!(limit(Some(0)).expect("ok"), 25);
        assert_eq!(limit(Some(500)).expect("ok"), 500);
        assert!(limit(Some(501)).is_err() && limit(Some(-1)).is_err());
    }

    #[test]
    fn a_cursor_reads_what_it_writes_and_nothing_else() {
        let text = Cursor::write(&("Ä b", 7_i64));
        assert_eq!(Cursor::read::<(String, i64)>(&text).expect("reads"), ("Ä b".to_owned(), 7));
        for bad in ["x", "!!!!", "bnVsbA", "W10"] {
            assert!(Cursor::read::<(String, i64)>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_page_has_no_next() {
        assert!(Listing::cut(vec![1, 2, 3], 3, |n| *n).next.is_none());
        let page = Listing::cut(vec![1, 2, 3, 4], 3, |n| *n);
        assert_eq!((page.rows.len(), page.next.is_some()), (3, true));
    }
}
