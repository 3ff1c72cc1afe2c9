//! How long a password has to be, as the owner of the appliance says within limits: the setting, its page, its words.
//!
//! Invariants (NIST SP 800-63B-4 §3.1.1.2): never below 15 characters where a password stands alone
//! and 8 where there is a second factor; never above 64, so that whoever chooses a sentence is not kept from it; nothing is
//! asked of which characters they are, and the passwords that are tried first are refused whatever the setting.
//!
//! It holds for passwords that are set from then on. Those that are there stay: asking for a new one because a rule changed
//! makes people write passwords down.

use actix_web::HttpResponse;
use askama::Template;
use serde::{Deserialize, Serialize};

use super::queries;
use crate::{
    audit::{self, Entry},
    error::{Error, FieldError, Result},
    kernel::Kernel,
    principal::Principal,
    web::{Ctx, Form, Page, Refused, html_status, redirect_with},
};

/// Characters that a password has at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PasswordRules {
    /// Where it is all that somebody signs in with.
    pub(super) chars_min: i64,
    /// Where there is a second factor.
    pub(super) chars_min_with_factor: i64,
}

const ALONE: std::ops::RangeInclusive<i64> = 15..=64;
const WITH_FACTOR: std::ops::RangeInclusive<i64> = 8..=64;

impl Default for PasswordRules {
    fn default() -> Self {
        Self { chars_min: *ALONE.start(), chars_min_with_factor: *WITH_FACTOR.start() }
    }
}

impl PasswordRules {
    /// For somebody with or without a second factor.
    pub fn chars_min(self, has_factor: bool) -> usize {
        let (chars, floor) = if has_factor {
            (self.chars_min_with_factor, *WITH_FACTOR.start())
        } else {
            (self.chars_min, *ALONE.start())
        };
        usize::try_from(chars.max(floor)).unwrap_or(usize::MAX)
    }

    /// What stands beside the field of a new password.
    pub fn hint(self, has_factor: bool) -> String {
        let least = self.chars_min(has_factor);
        format!("At least {least} characters. A sentence is easier to remember than a riddle.")
    }
}

async fn set(kernel: &Kernel, principal: &Principal, rules: PasswordRules) -> Result<()> {
    let mut wrong = Vec::new();
    if !ALONE.contains(&rules.chars_min) {
        wrong.push(FieldError::new("charsMin", "Give a number from 15 to 64."));
    }
    if !WITH_FACTOR.contains(&rules.chars_min_with_factor) {
        wrong.push(FieldError::new("charsMinWithFactor", "Give a number from 8 to 64."));
    } else if rules.chars_min_with_factor > rules.chars_min {
        wrong.push(FieldError::new(
            "charsMinWithFactor",
            "Not more than without a second factor: a password that is not alone need not be longer.",
        ));
    }
    if !wrong.is_empty() {
        return Err(Error::Invalid(wrong));
    }
    let now = kernel.clock.now();
    audit::change(kernel, principal, move |c| {
        let before = queries::password_rules(c)?;
        if before == rules {
            return Ok(((), Vec::new()));
        }
        queries::set_password_rules(c, rules, now)?;
        Ok(((), vec![Entry::new("audit.password_rules_updated.v1").changes(before, rules)]))
    })
    .await
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RulesForm {
    chars_min: String,
    chars_min_with_factor: String,
}

#[derive(Template)]
#[template(path = "users/password_rules.html")]
struct RulesPage {
    page: Page,
    form: RulesForm,
    refused: Refused,
}

impl RulesPage {
    fn error(&self, field: &str) -> &str {
        self.refused.error(&[field])
    }
}

fn page(ctx: &Ctx, form: RulesForm, refused: Refused) -> Result<HttpResponse> {
    html_status(refused.status, &RulesPage { page: Page::new(ctx, "Passwords", "appliance"), form, refused })
}

/// `GET /appliance/passwords`.
pub(super) async fn show(ctx: Ctx) -> Result<HttpResponse> {
    let rules = ctx.kernel.db.read(queries::password_rules).await?;
    let form = RulesForm {
        chars_min: rules.chars_min.to_string(),
        chars_min_with_factor: rules.chars_min_with_factor.to_string(),
    };
    page(&ctx, form, Refused::none())
}

/// `POST /appliance/passwords`.
pub(super) async fn save(ctx: Ctx, form: Form<RulesForm>) -> Result<HttpResponse> {
    // What is no number is out of every range.
    let number = |text: &str| text.trim().parse().unwrap_or(-1);
    let rules = PasswordRules {
        chars_min: number(&form.0.chars_min),
        chars_min_with_factor: number(&form.0.chars_min_with_factor),
    };
    match set(&ctx.kernel, &ctx.principal, rules).await {
        Ok(()) => Ok(redirect_with(
            "/appliance/passwords",
            "success",
            "The rules were saved. They hold for passwords that are set from now on.",
        )),
        Err(error) => page(&ctx, form.0, Refused::of(error)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_is_the_least_that_the_standard_allows_and_no_row_goes_below_it() {
        assert_eq!((PasswordRules::default().chars_min(false), PasswordRules::default().chars_min(true)), (15, 8));
        let edited = PasswordRules { chars_min: 1, chars_min_with_factor: -3 };
        assert_eq!((edited.chars_min(false), edited.chars_min(true)), (15, 8));
    }
}
