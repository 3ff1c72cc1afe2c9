//! Bailiwick, the map.

pub mod connectors;
pub mod demo;
pub mod error;
pub mod secret;
