//! Sites whose rows lie in one PostgreSQL with everybody else's, and whose attachments are files.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod altered;
mod around;
mod bad_server;
mod bystanders;
mod elsewhere;
mod killed;
mod killed_database;
mod large_objects;
mod later;
mod migrations;
mod narrow;
mod odd_data;
mod own;
mod pooled;
mod proxy;
mod remade;
mod roles;
mod shop;
mod ties;
mod traffic;
mod written_between;
