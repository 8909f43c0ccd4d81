//! The verbs on real directories and SQLite files, with the repository in memory.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod backup;
mod check;
mod inside;
mod later;
mod order;
mod requests;
mod restore;
mod scans;
mod turns;
