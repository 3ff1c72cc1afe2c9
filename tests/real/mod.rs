//! Tests against real parts: OpenLDAP, mail over real sockets, and the program itself as a process.
//!
//! Modules named `long` take minutes: the runner leaves them to `tests/run --all`.

mod active_directory;
mod active_directory_accounts;
mod active_directory_act;
mod active_directory_delta;
mod active_directory_discovery;
mod active_directory_pages;
mod bulk_reader;
mod comparison;
mod enforcement_rules;
mod mail;
mod openldap;
mod openldap_act;
mod openldap_clock;
mod openldap_crash;
mod openldap_delta;
mod openldap_failures;
mod openldap_followed;
mod openldap_guard;
mod openldap_large;
mod openldap_live;
mod openldap_moved;
mod openldap_probe;
mod openldap_reviewed;
mod openldap_schedule;
mod parts_hold;
mod recovery;
mod scoped_role;
mod watched;
