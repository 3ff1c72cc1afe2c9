//! The one integration test binary: everything that is checked from outside the library.
//!
//! Why one: every further binary links the whole product again, and shared fixtures would start once per binary.
//! Each module is marked `cfg(test)`, though it cannot be anything else, so that Clippy's allowances for tests
//! (`clippy.toml`) reach its helper functions too.

#[cfg(test)]
mod browser;
#[cfg(test)]
#[expect(dead_code, reason = "the benchmark is built on the same fixtures and uses what the tests do not")]
mod fixtures;
#[cfg(test)]
mod languages;
#[cfg(test)]
mod real;
#[cfg(test)]
mod rooms;
#[cfg(test)]
mod tidy;
