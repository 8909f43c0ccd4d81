//! The built binary, as a person runs it: real directories, real SQLite files, a real S3 server.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

mod alarms;
mod attachments;
mod audited;
mod bad_input;
mod bench;
mod born;
mod daemon;
mod demo_postgres;
mod find_damage;
mod gate;
mod inspect_postgres;
mod place;
mod recover_report;
mod retention;
mod storm;
mod there_and_back;
mod trouble;
mod two_captures;
mod unattended;
