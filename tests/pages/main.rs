//! Capture and replay of real SQLite files: what the log gives is what the file held, or it says so.
#![allow(clippy::unwrap_used)] // every function here is part of a test

mod died;
mod files;
mod history;
mod pruned;
mod replayed;
mod world;
