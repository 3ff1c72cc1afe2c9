//! Bailiwick, the map.

pub mod accounts;
pub mod api_keys;
pub mod app;
pub mod audit;
pub mod clock;
pub mod config;
pub mod connectors;
pub mod db;
pub mod demo;
pub mod directories;
pub mod error;
pub mod identities;
pub mod kernel;
pub mod principal;
pub mod roles;
pub mod schedule;
pub mod secret;
pub mod sessions;
pub mod sign_in;
pub mod users;
pub mod web;
