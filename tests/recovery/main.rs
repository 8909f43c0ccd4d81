//! Recoveries of many sites: what any engine must do (`conformance`), and what the one there is does with real sites.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod approved;
mod around;
mod bystanders;
mod captured;
mod conformance;
mod drills;
mod fake;
mod far;
mod faults;
mod followed;
mod held;
mod incident;
mod killed;
mod ledger;
mod pooled;
mod refused;
#[allow(dead_code)] // shared with the tests of PostgreSQL, which use the rest
#[path = "../postgres/shop.rs"]
mod shop;
mod stopped;
