//! Sites whose rows lie in one PostgreSQL with everybody else's, and whose attachments are files.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod elsewhere;
mod killed;
mod narrow;
mod own;
mod pooled;
mod proxy;
mod shop;
