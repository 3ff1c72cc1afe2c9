//! Bailiwick, the map.

pub mod connectors;
pub mod error;
pub mod secret;
