//! Tests in a real browser: Chromium, driven over the WebDriver protocol by `chromedriver`.
//!
//! `driver` starts and drives it, `console` walks through the product, `invitations` goes from one user to the next.
//! `instrument` shows on pages of our own that the driver sees what the walk relies on (overflow, console errors, missing
//! labels): an instrument that reports nothing must not pass for a product without faults.

mod access;
mod console;
pub mod driver;
mod instrument;
mod invitations;
mod japanese;
mod mail;
mod mfa;
pub mod page_rules;
mod passkeys;
