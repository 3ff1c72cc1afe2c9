//! The one integration test binary: each module is a file of tests or of the real parts they stand on.
//!
//! Why one binary: linking is the slowest part of a test build, and shared servers are started once per process.
//! The modules are marked as test code so that clippy lets them unwrap.

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod real;
