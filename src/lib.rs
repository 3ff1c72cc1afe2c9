//! Bailiwick, the map.

pub mod audit;
pub mod clock;
pub mod config;
pub mod connectors;
pub mod dashboard;
pub mod db;
pub mod demo;
pub mod directories;
pub mod error;
pub mod identities;
pub mod kernel;
pub mod principal;
pub mod schedule;
pub mod secret;
pub mod web;
