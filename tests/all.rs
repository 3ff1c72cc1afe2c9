//! The one integration test binary: each module is a file of tests or of the real parts they stand on.
//!
//! Why one binary: linking is the slowest part of a test build, and shared servers are started once per process.
//! The modules are marked as test code so that clippy lets them unwrap.

#[cfg(test)]
#[expect(dead_code, reason = "the benchmark is built on the same fixtures and uses what the tests do not")]
mod fixtures;
#[cfg(test)]
mod real;
