//! The demo: a throw-away appliance beside a sample directory, so that a newcomer sees a real sync within a minute.
//!
//! Owns the sample directory. Everything in it is invented; it must never reach beyond loopback, and nothing of it
//! may be used by a real appliance.

pub mod directory;
