//! The SQLite source against real databases, real writers and real kills.

// The helpers of a test program are tests as well; clippy only knows those with the attribute.
#![allow(clippy::unwrap_used)]

mod child;
mod crash;
mod damage;
mod property;
mod reading;
mod restoring;
mod support;
