//! The verbs on real directories and SQLite files, with the repository in memory.

mod backup;
mod check;
mod order;
mod requests;
mod restore;
