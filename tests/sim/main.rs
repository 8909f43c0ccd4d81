//! The verbs while everything goes wrong: killed anywhere, power lost, stores that fail, bytes that rot.
//!
//! Crash points come from the log of operations, and their number is printed. With
//! `LIFEBOAT_TEST_FULL=1` all are tried, else a sample where one costs much.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod audit;
mod change_log;
mod child;
mod compaction;
mod damage;
mod faults;
mod kill;
mod log_check;
mod power_loss;
mod prune_memory;
mod races;
mod real_kill;
mod year;
