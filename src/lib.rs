//! Bailiwick, the map.

pub mod audit;
pub mod clock;
pub mod config;
pub mod connectors;
pub mod db;
pub mod error;
pub mod kernel;
pub mod principal;
pub mod schedule;
pub mod secret;
pub mod web;
