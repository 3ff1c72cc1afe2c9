//! Bailiwick, the map.

pub mod accounts;
pub mod api_keys;
pub mod app;
pub mod audit;
pub mod clock;
pub mod config;
pub mod connectors;
pub mod db;
pub mod error;
pub mod kernel;
pub mod principal;
pub mod roles;
pub mod secret;
pub mod sessions;
pub mod sign_in;
pub mod users;
pub mod web;
