//! A template's sentence with markup in it, in the reader's language.
//!
//! The one place where markup that a template wrote passes through Rust: it is taken apart and put together in another
//! order, and no text becomes markup here.

use std::fmt::Display;

use askama::filters::Safe;

use super::page::Page;

/// `{% filter crate::web::said(page) %}Made by <bdi>…</bdi>.{% endfilter %}` is looked up as `Made by {}.`, so that a
/// language can have its own order of words; the content of elements is left alone. The text must be one sentence or
/// more: no condition inside, except within an element.
#[askama::filter_fn]
pub fn said(body: impl Display, _: &dyn askama::Values, page: &Page) -> askama::Result<Safe<String>> {
    let html = body.to_string();
    let said = page.language.say_markup(&html);
    Ok(Safe(said.into_owned()))
}
